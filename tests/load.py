"""A class at once, that is not there: `python tests/load.py [class double burst memory together] [--json]`.

Learners speak Streamlit's own protocol (its websocket, its protobuf messages) to a server that this script starts. Each
walks through the pages: types a new sentence that nobody else has, clicks a patient, a room or an answer, moves a
slider, goes on to the next page; and each answer is looked at (learners.py).

    class   50 learners, a turn every 5 s, for a minute        median < 100 ms, 95 % < 400 ms
    double  100 learners, the same                             95 % < 1 s
    burst   50 learners, a new sentence each in one instant    the last answer within 3 s
    memory  50 learners for 30 minutes                         flat, below 1.2 GB
    together  50 students in one class, whose teacher does all that every 5 s: how long until each sees it

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
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from learners import PAGES, PATIENCE, Learner, Lost, Tally
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

ROOT = Path(__file__).resolve().parents[1]

MOST_LEARNERS, MOST_SECONDS, MOST_SERVERS = 200, 3600.0, 4
EVERY = 5.0  # seconds between two turns of a learner, on average
FIRST = 240.0  # the same for the first visitor, for whom torch is brought in: other work may have the cores
SAMPLE = 2.0  # seconds between two looks at the server's memory
ROUND = ("sentence", "click", "slider")  # what a learner does, in turn; every
TURNS_A_PAGE = 9  # of them it goes on to the next page


@dataclass(frozen=True)
class Scenario:
    """How many learners, for how long, and what is asked of the times (ms) and of the memory (MB)."""

    name: str
    learners: int
    seconds: float
    burst: bool = False
    together: bool = False
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
        Scenario("together", 50, 60.0, together=True),
    )
}
FLAT = 50.0  # MB that memory may grow in the second half of a run and still be called flat


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
    url: str, number: int, tally: Tally, meeting: Meeting, job: Callable[[Learner], Any], patience: float | None = None,
    code: str | None = None,
) -> None:  # fmt: skip
    """One learner, from the door to the end. `code`: of the class that is joined; empty for who opens one."""
    address = "ws" + url.removeprefix("http") + "/_stcore/stream"
    came = False
    try:
        async with connect(
            address, subprotocols=["streamlit"], max_size=None, ping_interval=None, open_timeout=PATIENCE,  # type: ignore[list-item]
            compression=None, proxy=None,
        ) as socket:  # fmt: skip
            learner = Learner(number, socket, tally)
            learner.patience = patience
            learner.query += f"&class={code}" if code else ""
            await learner.turn("first page", page=PAGES[number % len(PAGES)] if code is None else "together")
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
) -> dict[str, Any]:
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


async def _together(
    urls: Sequence[str], students: int, seconds: float, tally: Tally, every: float
) -> dict[str, Any]:  # fmt: skip
    """One class: its teacher goes on, its students look. What was shown, how long it took until each saw each of it (ms),
    and how often one did not before the next was shown. On several servers it needs Redis."""
    meeting, opened, over = Meeting(students), asyncio.Event(), asyncio.Event()
    code, shown, seen = "", [], [[] for _ in range(students)]  # of each: when, and what stood there from then on

    async def teach(teacher: Learner) -> None:
        nonlocal code
        await teacher.open_class()
        code = teacher.code
        await teacher.turn("page", page=PAGES[0])
        opened.set()
        await meeting.all_here.wait()
        now = time.perf_counter()
        end, act, tick, done = now + seconds, now, now, 0
        while now < end:
            if now >= act:
                act += every
                before, told = teacher.shows(), time.perf_counter()  # the class is told at the beginning of a turn
                await teacher.act(ROUND[done % len(ROUND)] if (done + 1) % TURNS_A_PAGE else "page")
                done += 1
                if teacher.shows() != before:
                    shown.append((told, teacher.shows()))
            else:
                tick += min(_beats(teacher))
                await teacher.tick()
            await asyncio.sleep(max(0.0, min(act, tick) - time.perf_counter()))
            now = time.perf_counter()

    async def open_and_teach() -> None:
        try:
            await _learn(urls[0], 0, tally, Meeting(1), teach, code="")
        finally:  # nobody waits for a class that is not there
            opened.set()
            over.set()

    async def look(student: Learner) -> None:
        student.follows, mine = 0, seen[student.number - 1]
        due, late = time.perf_counter() + student.dice.uniform(0, 1), None
        while not over.is_set() or (shown and student.shows() != shown[-1][1]):
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await student.tick()
            now, beat = time.perf_counter(), min(_beats(student))
            # A browser's timer keeps its beat however long an answer takes, and begins anew with a whole page.
            due = now + beat if student.whole else max(due, now - beat) + beat
            if not mine or mine[-1][1] != student.shows():
                mine.append((now, student.shows()))
            if over.is_set() and now > (late := late or now + PATIENCE):
                tally.wrong.append(f"student {student.number} sees {student.shows()}, the class {shown[-1][1]}")
                return

    async def come(number: int) -> None:
        await asyncio.sleep(0.05 * number)
        await _learn(urls[number // 2 % len(urls)], number, tally, meeting, look, code=code)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        group.create_task(open_and_teach())
        await opened.wait()
        for number in range(1, students + 1) if code else ():
            group.create_task(come(number))
    took = [1000 * (at - told) for mine in seen for told, at in _matched(shown, mine)]
    return {"seconds": time.perf_counter() - begun, "last_ms": 0.0, "shown": len(shown), "seen": took,
            "missed": students * len(shown) - len(took)}  # fmt: skip


def _beats(learner: Learner) -> list[float]:
    """Seconds between two looks, of each part of the page that looks by itself. Raises Lost where none does."""
    if not learner.ticks:
        raise Lost(f"learner {learner.number} is in no class")
    return list(learner.ticks.values())


def _matched(shown: Sequence[tuple[float, Any]], seen: Sequence[tuple[float, Any]]) -> Iterator[tuple[float, float]]:
    """When each thing was shown and when one student saw it; without those that were not seen before the next was."""
    at = 0
    for told, what in shown:
        here = next((i for i in range(at, len(seen)) if seen[i][0] >= told and seen[i][1] == what), None)
        if here is not None:
            yield told, seen[here][0]
            at = here + 1


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
        if scenario.together:
            took = await _together(urls, scenario.learners, scenario.seconds, tally, every)
        else:
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
    if scenario.together:
        found |= {"shown": took["shown"], "seen": _times(took["seen"]), "missed": took["missed"]}
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
    if "seen" in found:
        seen = found["seen"]
        lines.append(f"  {found['shown']} things were shown, and seen {seen['count']} times, after {seen.get('p50')} ms (median; "
                     f"95 % {seen.get('p95')}, longest {seen.get('max')} ms), {found['missed']} times not before the next")  # fmt: skip
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
