"""A class at once, that is not there: `python tests/load.py [class double burst memory ...] [--json]`.

Learners speak Streamlit's own protocol (its websocket, its protobuf messages) to a server that this script starts. Each
walks through the pages as a browser would have it: types a new sentence that nobody else has, clicks a patient, a
room or an answer, moves a slider, goes on to the next page; and each answer is looked at: it must speak of the sentence that this
learner typed and of nobody else's.

    class   50 learners, a turn every 5 s, for a minute        median < 100 ms, 95 % < 400 ms
    double  100 learners, the same                             95 % < 1 s
    burst   50 learners, a new sentence each in one instant    the last answer within 3 s
    memory  50 learners for 30 minutes                         flat, below 1.2 GB

Times are those at the server: from sending a turn over the loopback until Streamlit says that its run has ended. The
learners' own work takes the same cores, and its share is told. Bounded in learners and in time; it speaks to no other
machine than this one. Exit status 1: an answer was lost or wrong, or an error stood on a page; with --strict, also where
a figure is not what is asked.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

ROOT = Path(__file__).resolve().parents[1]

MOST_LEARNERS, MOST_SECONDS, MOST_SERVERS = 200, 3600.0, 4
EVERY = 5.0  # seconds between two turns of a learner, on average
PATIENCE = 60.0  # seconds after which an answer counts as lost
FIRST = 240.0  # the same for the first visitor, for whom torch is brought in: other work may have the cores
SAMPLE = 2.0  # seconds between two looks at the server's memory
PAGES = ("", "triage", "department", "round", "heads", "postal", "discharge")  # the walk
ROUND = ("sentence", "click", "slider")  # what a learner does, in turn; every
TURNS_A_PAGE = 9  # of them it goes on to the next page
TAG = re.compile(r"L\d{3}N\d{4}")  # in every typed sentence: whose it is, and which of theirs

SENTENCES = (
    "Doctor {}, I have had a fever since yesterday evening. Should I stay in bed?",
    "医生{}，我从昨天晚上开始发烧，今天应该在家休息吗？",
    "My name is {} and I would like two bowls of noodles, please.",
    "小兔子{}住在山上，每天早上都去河边打水。",
    "The answer to question {} is seven times eight, that is fifty-six.",
    "请把这封信寄到和平路{}号，邮政编码写在右下角。",
)


@dataclass(frozen=True)
class Scenario:
    """How many learners, for how long, and what is asked of the times (ms) and of the memory (MB)."""

    name: str
    learners: int
    seconds: float
    burst: bool = False
    median: float | None = None
    high: float | None = None  # 95 %
    last: float | None = None
    memory: float | None = None


SCENARIOS = {
    one.name: one
    for one in (
        Scenario("class", 50, 60.0, median=100.0, high=400.0),
        Scenario("double", 100, 60.0, high=1000.0),
        Scenario("burst", 50, 0.0, burst=True, last=3000.0),
        Scenario("memory", 50, 1800.0, memory=1200.0),
    )
}
FLAT = 50.0  # MB that memory may grow in the second half of a run and still be called flat


@dataclass
class Mount:
    """A component on the page: its widget, the fragment that draws it, and its data, read when it is needed."""

    id: str
    name: str
    fragment: str
    text: bytes

    def data(self) -> dict[str, Any]:
        return json.loads(self.text)


@dataclass
class Tally:
    """What all learners of a run found."""

    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # kind of turn -> ms
    lost: int = 0
    errors: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def turns(self) -> int:
        return sum(map(len, self.times.values()))


class Lost(Exception):
    """An answer that did not come."""


class Learner:
    """One browser window, as the server sees it."""

    def __init__(self, number: int, socket: ClientConnection, tally: Tally) -> None:
        self.number, self.socket, self.tally = number, socket, tally
        self.dice = random.Random(number)
        self.query, self.page, self.typed, self.picks = "lang=" + ("en", "zh")[number % 2], "", 0, 0
        self.patience: float | None = None  # seconds, where not as usual
        self.hash = ""  # Streamlit's name of the page
        self.partial, self.asked = False, ""  # whether only a part of the page is drawn again, and which
        self.pages: dict[str, str] = {}  # address -> Streamlit's name of it
        self.widgets: dict[str, WidgetState] = {}
        self.box, self.typing = "", ""  # the sentence's widget, and the fragment that draws it
        self.mounts: dict[str, Mount] = {}
        self.buttons: dict[str, tuple[str, tuple[int, ...]]] = {}  # "just show me" -> fragment and place
        self.parts: dict[str, tuple[int, ...]] = {}  # fragment -> its place: what stands there is drawn again with it
        self.known: dict[str, list[Any]] = {}  # messages that the server need not send again: hash -> [message, age]

    # -- the protocol --------------------------------------------------------------------------------------------------

    async def turn(self, kind: str, fragment: str = "", page: str | None = None) -> None:
        """Send what is set, and hear everything that comes until the run has ended. Raises Lost."""
        message = BackMsg()
        ask = message.rerun_script
        ask.query_string = self.query
        ask.fragment_id, self.partial, self.asked = fragment, bool(fragment), fragment
        ask.widget_states.widgets.extend(self.widgets.values())
        ask.cached_message_hashes.extend(self.known)
        if page is not None:
            self.page = page
            ask.page_script_hash, ask.page_name = self.pages.get(page, ""), "" if self.pages else page
        else:
            ask.page_script_hash = self.hash
        start = time.perf_counter()
        await self.socket.send(message.SerializeToString())
        try:
            async with asyncio.timeout(self.patience or PATIENCE):
                while not self._hear(await self.socket.recv(decode=False)):
                    pass
        except (TimeoutError, WebSocketException, OSError) as error:
            self.tally.lost += 1
            raise Lost(f"{kind} on {self.page or 'lobby'}: {type(error).__name__}") from error
        self.tally.times[kind].append(1000 * (time.perf_counter() - start))
        for name in [name for name, (_, age) in self.known.items() if age > 1]:
            del self.known[name]
        for entry in self.known.values():
            entry[1] += 1

    def _hear(self, raw: bytes) -> bool:
        """One message; whether it was the last of a run."""
        message = ForwardMsg.FromString(raw)
        kind = message.WhichOneof("type")
        if kind == "ref_hash":
            if message.ref_hash not in self.known:
                self.tally.errors.append("a message was referred to that had not been sent")
                return False
            entry = self.known[message.ref_hash]
            entry[1] = 0
            message, kind = entry[0], "delta"
        elif message.metadata.cacheable:
            self.known[message.hash] = [message, 0]
        if strangers := {one for one in re.findall(rb"L\d{3}N\d{4}", raw) if int(one[1:4]) != self.number}:
            self.tally.wrong.append(f"learner {self.number} was told of {sorted(strangers)}")
        if kind == "new_session":
            self.hash = message.new_session.page_script_hash
            if not self.partial:  # the whole page is drawn again
                self.mounts, self.buttons, self.parts, self.box = {}, {}, {}, ""
            else:
                part = self.parts[self.asked]
                self.buttons = {one: at for one, at in self.buttons.items() if at[1][: len(part)] != part}
            self.partial = False
        elif kind == "navigation":
            self.hash = message.navigation.page_script_hash
            self.pages = {one.url_pathname if not one.is_default else "": one.page_script_hash
                          for one in message.navigation.app_pages}  # fmt: skip
        elif kind == "page_info_changed":
            self.query = message.page_info_changed.query_string
        elif kind == "delta":
            self._draw(message)
        elif kind == "script_finished":
            if message.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
                self.tally.errors.append(f"{self.page}: the page could not be run")
            return message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN
        return False

    def _draw(self, message: ForwardMsg) -> None:
        element, fragment = message.delta.new_element, message.delta.fragment_id
        kind, path = element.WhichOneof("type"), tuple(message.metadata.delta_path)
        self.parts.setdefault(fragment, path)
        if kind == "bidi_component":
            one = element.bidi_component
            self.mounts[one.id] = Mount(one.id, one.component_name, fragment, one.bytes)
        elif kind == "text_input" and element.text_input.id.endswith("sentence_box"):
            self.box, self.typing = element.text_input.id, fragment
            if element.text_input.set_value:
                self.widgets[self.box] = WidgetState(id=self.box, string_value=element.text_input.value)
        elif kind == "button" and element.button.id.endswith(".skip"):
            self.buttons[element.button.id] = fragment, path
        elif kind == "exception" or (kind == "alert" and element.alert.format == element.alert.ERROR):
            said = element.exception.type if kind == "exception" else element.alert.body
            self.tally.errors.append(f"{self.page or 'lobby'}: {said[:200]}")

    # -- what a learner does -------------------------------------------------------------------------------------------

    async def act(self, kind: str) -> None:
        """One turn of that kind; its answer is checked."""
        if kind == "page":
            at = PAGES.index(self.page)
            self.widgets.clear()
            await self.turn("page", page=PAGES[(at + 1) % len(PAGES)])
        elif kind == "sentence":
            await self.type()
            return
        else:
            await self.pick(kind)
        self._check_sentence()

    async def type(self) -> None:
        """A sentence that nobody has typed before."""
        self.typed += 1
        text = self.dice.choice(SENTENCES).format(self.tag)
        self.widgets[self.box] = WidgetState(id=self.box, string_value=text)
        await self.turn("sentence", self.typing)
        self._check_sentence()

    @property
    def tag(self) -> str:
        return f"L{self.number:03}N{self.typed:04}"

    def patients(self) -> str | None:
        """The sentence of which the page speaks, put together from its tokens."""
        for mount in self.mounts.values():
            if mount.name == "building":
                return _joined(mount.data()["tokens"])
            if mount.name == "plates" and b'"tokens_token"' in mount.text:
                return next(_joined(p["tokens"]) for p in mount.data()["plates"] if p["id"] == "tokens_token")
        return None

    def _check_sentence(self) -> None:
        said = self.patients()
        if said is None:
            self.tally.errors.append(f"{self.page or 'lobby'}: nobody walks there")
        elif self.typed and set(TAG.findall(said)) != {self.tag}:
            self.tally.wrong.append(f"learner {self.number} typed {self.tag} and sees {said!r}")

    async def pick(self, kind: str) -> None:
        """Click a patient, a room or an answer ("click"), or move a slider."""
        found = list(self._choices(kind))
        sorts = sorted({one[-1] for one in found} | ({"answer"} if kind == "click" and self.buttons else set()))
        if not sorts:  # as where nothing has been written yet
            return await self.type()
        sort = self.dice.choice(sorts)
        if sort == "answer":
            button, (fragment, _) = self.dice.choice(list(self.buttons.items()))
            self.widgets[button] = WidgetState(id=button, trigger_value=True)
            await self.turn("answer", fragment)
            del self.widgets[button]
            if button in self.buttons:
                self.tally.wrong.append(f"{self.page or 'lobby'}: a question that was answered is asked again")
            return
        mount, axis, value, what = self.dice.choice([one for one in found if one[-1] == sort])
        data = mount.data()
        self.picks += 1
        if mount.name == "building":
            said = {"id": data["id"], "token": data["token"], "floor": data["floor"], "follow": data["follow"],
                    "room": None, "number": self.picks, axis: value}  # fmt: skip
        else:
            said = {"page": data["page"], "number": self.picks, **data["picked"], axis: value}
        self.widgets[mount.id] = WidgetState(id=mount.id, json_value=json.dumps({"pick": said}))
        await self.turn(what, mount.fragment)
        now = self.mounts[mount.id].data()
        if (now if mount.name == "building" else now["picked"])[axis] != value and axis != "floor":
            self.tally.wrong.append(f"{self.page or 'lobby'}: {axis} {value} was chosen, {now.get('picked')} is shown")

    def _choices(self, kind: str) -> Iterator[tuple[Mount, str, int, str]]:
        """Everything of that kind that can be chosen on the page: where, on which axis, what, and what that is called."""
        for mount in self.mounts.values():
            if mount.name == "building":
                data = mount.data()
                if kind == "click":
                    yield mount, "token", self._other(data["token"], 0, len(data["tokens"])), "token"
                else:
                    yield mount, "floor", self._other(data["floor"], 1, 1 + data["shape"]["floors"]), "slider"
            elif mount.name == "plates":
                data = mount.data()
                for plate in data["plates"]:
                    axis = plate["axes"][0] if plate["axes"] else None
                    if axis is None or axis["name"] not in data["picks"] or axis["count"] < 2:
                        continue
                    offset, name = axis["offset"], axis["name"]
                    sort = {"tokens": "token", "stepper": "slider"}.get(plate["kind"], "room" if name == "room" else "")
                    if sort and (sort == "slider") == (kind == "slider"):
                        low = offset + plate.get("low", 0)
                        yield mount, name, self._other(data["picked"].get(name), low, offset + axis["count"]), sort

    def _other(self, now: int | None, low: int, end: int) -> int:
        return self.dice.choice([one for one in range(low, end) if one != now] or [low])


def _joined(tokens: list[dict[str, Any]]) -> str:
    """The text that tokens were made of. A character that was cut is left out."""
    return "".join(one["text"].replace("␣", " ") for one in tokens if not one["special"] and not one["partial"])


# -- a run -------------------------------------------------------------------------------------------------------------


class Meeting:
    """Whoever has come waits for the others; not for those who never will."""

    def __init__(self, expected: int) -> None:
        self.expected, self.all_here = expected, asyncio.Event()

    def one_more(self) -> None:
        self.expected -= 1
        if not self.expected:
            self.all_here.set()


async def _learn(
    url: str, number: int, tally: Tally, meeting: Meeting, job: Callable[[Learner], Any], patience: float | None = None
) -> None:
    """One learner, from the door to the end."""
    address = "ws" + url.removeprefix("http") + "/_stcore/stream"
    came = False
    try:
        async with connect(
            address, subprotocols=["streamlit"], max_size=None, ping_interval=None, open_timeout=PATIENCE,  # type: ignore[list-item]
            compression=None, proxy=None,
        ) as socket:  # fmt: skip
            learner = Learner(number, socket, tally)
            learner.patience = patience
            await learner.turn("first page", page=PAGES[number % len(PAGES)])
            came = True
            meeting.one_more()
            await meeting.all_here.wait()
            await job(learner)
    except Lost as error:
        tally.errors.append(str(error))
    except (WebSocketException, OSError) as error:
        tally.lost += 1
        tally.errors.append(f"connection: {type(error).__name__}")
    finally:
        if not came:
            meeting.one_more()


async def _class(
    urls: Sequence[str], learners: int, seconds: float, burst: bool, tally: Tally, every: float
) -> dict[str, float]:
    """All of them at once; how long it took, and when the last answer to a burst came (ms)."""
    meeting, begun, told = Meeting(learners), [0.0], [0.0]

    async def walk(learner: Learner) -> None:
        begun[0] = begun[0] or time.perf_counter()
        if burst:
            await learner.type()
            told[0] = max(told[0], 1000 * (time.perf_counter() - begun[0]))
            return
        end, done = time.perf_counter() + seconds, learner.number
        await asyncio.sleep(learner.dice.uniform(0, every))
        while time.perf_counter() < end:
            start = time.perf_counter()
            await learner.act(ROUND[done % len(ROUND)] if done % TURNS_A_PAGE else "page")
            done += 1
            await asyncio.sleep(max(0.0, start + learner.dice.uniform(0.5, 1.5) * every - time.perf_counter()))

    async def come(number: int) -> None:
        await asyncio.sleep(0.05 * number)  # through the door one after the other
        await _learn(urls[number // 2 % len(urls)], number, tally, meeting, walk)  # both languages everywhere

    async with asyncio.TaskGroup() as group:
        for number in range(learners):
            group.create_task(come(number))
    return {"seconds": time.perf_counter() - begun[0] if begun[0] else 0.0, "last_ms": told[0]}


@dataclass
class Watch:
    """The servers' processes: memory and the time of cores that they took, they and what they started."""

    processes: Sequence[psutil.Process]
    rss: list[tuple[float, float]] = field(default_factory=list)  # (seconds, MB)

    def memory(self) -> float:
        return sum(one.memory_info().rss for one in self._family()) / 2**20

    def cpu(self) -> float:
        """Seconds."""
        return sum(sum(one.cpu_times()[:2]) for one in self._family())

    def _family(self) -> list[psutil.Process]:
        return [member for one in self.processes for member in (one, *one.children(recursive=True))]

    async def look(self) -> None:
        start = time.perf_counter()
        while True:
            self.rss.append((time.perf_counter() - start, self.memory()))
            await asyncio.sleep(SAMPLE)


async def run(
    urls: Sequence[str], processes: Sequence[psutil.Process], scenario: Scenario, every: float = EVERY
) -> dict[str, Any]:
    """One scenario; what it found, as a table's row. With several servers each has its share of the learners."""
    if not 1 <= scenario.learners <= MOST_LEARNERS or not 0 <= scenario.seconds <= MOST_SECONDS:
        raise SystemExit(f"At most {MOST_LEARNERS} learners for {MOST_SECONDS:.0f} seconds.")
    tally, watch = Tally(), Watch(processes) if processes else None
    looking = asyncio.create_task(watch.look()) if watch else None
    before, own = watch.cpu() if watch else 0.0, time.process_time()
    try:
        took = await _class(urls, scenario.learners, scenario.seconds, scenario.burst, tally, every)
    finally:
        if looking:
            looking.cancel()
    spent = watch.cpu() - before if watch else 0.0
    first = tally.times.pop("first page", [])
    every_one = [ms for times in tally.times.values() for ms in times]
    found: dict[str, Any] = {
        "scenario": scenario.name,
        "learners": scenario.learners,
        "seconds": round(took["seconds"], 1),
        "first_page": _times(first),
        "all": _times(every_one),
        "kinds": {kind: _times(times) for kind, times in sorted(tally.times.items())},
        "lost": tally.lost,
        "errors": len(tally.errors),
        "wrong": len(tally.wrong),
        "told": sorted({*tally.errors, *tally.wrong})[:10],
        "own_cpu_s": round(time.process_time() - own, 1),
    }
    if scenario.burst:
        found["last_ms"] = round(took["last_ms"])
    if watch:
        end = watch.memory()
        rss = watch.rss or [(0.0, end)]
        minutes = [next(mb for at, mb in rss if at >= 60 * m) for m in range(int(rss[-1][0] // 60) + 1)]
        half = [mb for at, mb in rss if at >= rss[-1][0] / 2]
        found |= {
            "cpu_ms_a_turn": round(1000 * spent / max(len(every_one) + len(first), 1)),
            "cores": round(spent / max(rss[-1][0], SAMPLE), 2),
            "rss_mb": [round(mb) for mb in [*minutes, end]],
            "rss_most_mb": round(max(end, *(mb for _, mb in rss))),
            "rss_grown_mb": round(end - half[0]),
        }
    return found | {"asked": _asked(scenario, found)}


def _times(times: list[float]) -> dict[str, float]:
    """How many, median, 95 % and longest, in ms."""
    if not times:
        return {"count": 0}
    cuts = statistics.quantiles(times, n=100, method="inclusive") if len(times) > 1 else times * 99
    return {"count": len(times), "p50": round(cuts[49]), "p95": round(cuts[94]), "max": round(max(times))}


def _asked(scenario: Scenario, found: dict[str, Any]) -> dict[str, bool]:
    """What is asked of this scenario, and whether it is so."""
    asked = {"none lost": not found["lost"], "no error": not found["errors"], "nobody else's": not found["wrong"]}
    for name, limit, value in (
        ("median", scenario.median, found["all"].get("p50")), ("95 %", scenario.high, found["all"].get("p95")),
        ("last", scenario.last, found.get("last_ms")), ("memory", scenario.memory, found.get("rss_most_mb")),
    ):  # fmt: skip
        if limit is not None:
            asked[f"{name} < {limit:.0f}"] = value is not None and value < limit
    if scenario.memory is not None:
        asked["flat"] = found.get("rss_grown_mb", FLAT + 1) <= FLAT
    return asked


# -- the server --------------------------------------------------------------------------------------------------------


@contextmanager
def server(*more: str) -> Iterator[tuple[str, psutil.Process]]:
    """A server of this app on a free port of the loopback; its address and its process."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port), "--server.address", "127.0.0.1",
         "--server.headless", "true", *more],
        cwd=ROOT, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )  # fmt: skip
    try:
        for _ in range(1200):
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(20)


def local(url: str) -> str:
    """The address, if it is one of this machine; SystemExit otherwise."""
    host = urlsplit(url).hostname or ""
    try:
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False
    if not here or urlsplit(url).scheme != "http":
        raise SystemExit(f"{url} is not on this machine. This script speaks to http://127.0.0.1 and the like only.")
    return url.rstrip("/")


async def warm(url: str) -> dict[str, float]:
    """The first visitors after the start: torch and the model are brought in, every page is run once."""
    tally = Tally()

    async def look(learner: Learner) -> None:
        for _ in PAGES:
            await learner.act("page")

    await _learn(url, 0, tally, Meeting(1), look, FIRST)
    if tally.lost or not tally.times["page"]:
        raise SystemExit(f"The first visitor got no answer: {tally.errors}")
    return {"first_ms": round(tally.times["first page"][0]), "pages_ms": round(sum(tally.times["page"]))}


def show(found: dict[str, Any]) -> str:
    """One scenario as people read it."""
    lines = [f"{found['scenario']}: {found['learners']} learners, {found['seconds']:.0f} s"]
    for kind, times in [*found["kinds"].items(), ("all turns", found["all"]), ("first page", found["first_page"])]:
        if times["count"]:
            lines.append(f"  {kind:<12}{times['count']:>6}   median {times['p50']:>6} ms   95 % {times['p95']:>6} ms   "
                         f"longest {times['max']:>6} ms")  # fmt: skip
    if "last_ms" in found:
        lines.append(f"  the last answer came after {found['last_ms']} ms")
    lines.append(f"  lost {found['lost']}, errors {found['errors']}, wrong {found['wrong']}")
    if "rss_mb" in found:
        lines.append(f"  server: {found['cpu_ms_a_turn']} ms of a core a turn, {found['cores']} cores busy; memory at "
                     f"start, every minute, at the end: {' '.join(map(str, found['rss_mb']))} MB")  # fmt: skip
    lines.append(f"  learners: {found['own_cpu_s']} s of a core")
    lines += [f"  {'yes' if so else 'NO ':<4}{what}" for what, so in found["asked"].items()]
    return "\n".join([*lines, *(f"  ! {one}" for one in found["told"])])


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", choices=[*SCENARIOS, []], help="default: class double burst")
    parser.add_argument("--learners", type=int, help=f"instead of the scenario's; at most {MOST_LEARNERS}")
    parser.add_argument("--seconds", type=float, help=f"instead of the scenario's; at most {MOST_SECONDS:.0f}")
    parser.add_argument("--every", type=float, default=EVERY, help="seconds between two turns of a learner")
    parser.add_argument("--url", help="a server that runs already, on this machine")
    parser.add_argument("--pid", type=int, help="its process, whose memory is looked at")
    parser.add_argument("--servers", type=int, default=1, choices=range(1, MOST_SERVERS + 1), help="as many processes, each "
                        "with its share of the learners, as behind a proxy that keeps a visit where it began")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--strict", action="store_true", help="exit status 1 also where a figure is not what is asked")
    args = parser.parse_args()
    chosen = [SCENARIOS[name] for name in args.scenario or ("class", "double", "burst")]
    own = {"learners": args.learners, "seconds": args.seconds}
    chosen = [Scenario(**{**vars(one), **{k: v for k, v in own.items() if v is not None}}) for one in chosen]

    async def all_of_it(urls: Sequence[str], processes: Sequence[psutil.Process]) -> int:
        begun = [await warm(url) for url in urls]
        if not args.json:
            for one in begun:
                print(f"first visitor {one['first_ms']} ms, then all pages once {one['pages_ms']} ms", flush=True)
        runs = []
        for scenario in chosen:
            runs.append(await run(urls, processes, scenario, args.every))
            if not args.json:
                print(show(runs[-1]), flush=True)
        if args.json:
            print(json.dumps({"warm": begun, "cores": os.cpu_count(), "runs": runs}))
        good = ("none lost", "no error", "nobody else's")
        return int(any(not so for one in runs for what, so in one["asked"].items() if args.strict or what in good))

    if args.url and args.servers > 1:
        parser.error("--servers starts servers; --url is one that runs already")
    if args.url:
        return await all_of_it([local(args.url)], [psutil.Process(args.pid)] if args.pid else [])
    with ExitStack() as stack:
        urls, processes = zip(*(stack.enter_context(server()) for _ in range(args.servers)), strict=True)
        return await all_of_it(urls, processes)


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
