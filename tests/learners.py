"""One browser window as the server sees it, without a browser: what a learner of `load.py` is.

It speaks Streamlit's own protocol (its websocket, its protobuf messages), walks through the pages as a browser would have
it, and looks at every answer: it must speak of the sentence that this learner typed and of nobody else's.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import WebSocketException

PATIENCE = 60.0  # seconds after which an answer counts as lost
PAGES = ("", "triage", "department", "round", "heads", "postal", "discharge")  # the walk
TAG = re.compile(r"L\d{3}N\d{4}")  # in every typed sentence: whose it is, and which of theirs
OWN = ("lang", "class")  # of an address: what is everybody's own

SENTENCES = (
    "Doctor {}, I have had a fever since yesterday evening. Should I stay in bed?",
    "医生{}，我从昨天晚上开始发烧，今天应该在家休息吗？",
    "My name is {} and I would like two bowls of noodles, please.",
    "小兔子{}住在山上，每天早上都去河边打水。",
    "The answer to question {} is seven times eight, that is fifty-six.",
    "请把这封信寄到和平路{}号，邮政编码写在右下角。",
)


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
    """A learner cannot go on: an answer did not come, or not the one that was needed."""


class Learner:
    """One browser window, as the server sees it."""

    def __init__(self, number: int, socket: ClientConnection, tally: Tally) -> None:
        self.number, self.socket, self.tally = number, socket, tally
        self.dice = random.Random(number)
        self.query, self.page, self.typed, self.picks = "lang=" + ("en", "zh")[number % 2], "", 0, 0
        self.follows = number  # whose sentences it may be told of: its own, in a class its teacher's
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
        self.ticks: dict[str, float] = {}  # fragments that ask by themselves -> every so many seconds
        self.code, self.opens = "", ""  # a class's code, and the button that opens one
        self.whole = False  # whether the last turn brought the whole page

    # -- the protocol --------------------------------------------------------------------------------------------------

    async def turn(self, kind: str, fragment: str = "", page: str | None = None, by_itself: bool = False) -> None:
        """Send what is set, and hear everything that comes until the run has ended. Raises Lost. `by_itself`: a part of
        the page asks, and nobody has done anything; where that brings the whole page, one was taken along."""
        message, self.whole = BackMsg(), False
        ask = message.rerun_script
        ask.is_auto_rerun = by_itself
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
        kind = "taken along" if by_itself and self.whole else kind
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
        if strangers := {one for one in re.findall(rb"L\d{3}N\d{4}", raw) if int(one[1:4]) != self.follows}:
            self.tally.wrong.append(f"learner {self.number} was told of {sorted(strangers)}")
        if kind == "new_session":
            if self.hash != message.new_session.page_script_hash:  # what was set on the page before is gone with it
                self.widgets.clear()
            self.hash = message.new_session.page_script_hash
            if not self.partial:  # the whole page is drawn again
                self.mounts, self.buttons, self.parts, self.ticks, self.box = {}, {}, {}, {}, ""
                self.whole = True
            else:
                part = self.parts.get(self.asked, ())
                self.buttons = {one: at for one, at in self.buttons.items() if at[1][: len(part)] != part}
            self.partial = False
        elif kind == "navigation":
            self.hash = message.navigation.page_script_hash
            self.pages = {one.url_pathname if not one.is_default else "": one.page_script_hash
                          for one in message.navigation.app_pages}  # fmt: skip
            self.page = next(address for address, name in self.pages.items() if name == self.hash)
        elif kind == "page_info_changed":
            self.query = message.page_info_changed.query_string
        elif kind == "auto_rerun":
            self.ticks[message.auto_rerun.fragment_id] = message.auto_rerun.interval
        elif kind == "stop_auto_rerun":
            for fragment in message.stop_auto_rerun.fragment_ids:
                self.ticks.pop(fragment, None)
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
        elif kind == "button" and element.button.id.endswith("-class_open"):
            self.opens = element.button.id
        elif kind == "html" and (code := re.search(r'class="class-code">(\w+)<', element.html.body)):
            self.code = code[1]
        elif kind == "exception" or (kind == "alert" and element.alert.format == element.alert.ERROR):
            said = element.exception.type if kind == "exception" else element.alert.body
            self.tally.errors.append(f"{self.page or 'lobby'}: {said[:200]}")

    # -- a class together ----------------------------------------------------------------------------------------------

    async def open_class(self) -> None:
        """On the page "together"."""
        self.widgets[self.opens] = WidgetState(id=self.opens, trigger_value=True)
        await self.turn("open")
        del self.widgets[self.opens]
        if not self.code:
            raise Lost("no class was opened")

    async def tick(self) -> None:
        """Every part of the page that asks by itself does so once."""
        for fragment in list(self.ticks):
            if fragment in self.ticks:  # not of a page that is gone by now
                await self.turn("tick", fragment, by_itself=True)

    def shows(self) -> tuple[str, frozenset[tuple[str, str]]]:
        """The page and what its address says, without what is everybody's own."""
        return self.page, frozenset(one for one in parse_qsl(self.query) if one[0] not in OWN)

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
