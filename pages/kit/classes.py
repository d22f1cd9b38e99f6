"""What a class is: what its teacher shows, what was predicted, what was asked. Screens are classroom.py's.

A class has a code, with which anybody may come in, and a secret, without which nobody steers or closes it. Nobody has a
name: a student is an id that the server made up. The store has only a hash of the secret.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import threading
import time
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from pages.kit.stores import MOST_CLASSES, ClassError, Store

ALPHABET = "3467ACDEFGHJKMNPQRTWXY"
"""Without letters and digits that are taken for one another, read or heard: 0 O, 1 I L, 2 Z, 5 S, 8 B, 9 g, U V."""
LENGTH = 5
SECRET_BYTES = 24
SECRET_BITS = 8 * SECRET_BYTES
ID_BYTES = 8
MOST_CHARS = 200
"""Longest question from a student."""
MOST_EACH = 3
"""Most questions of one student that wait at a time."""
MOST_QUESTIONS = 50
MOST_POLLS = 24
"""Most predictions whose tallies are kept; the oldest goes first."""
MOST_OPTIONS = 12
MOST_SHOWN = 16_384
"""Most bytes of what the teacher shows: a sentence of 256 tokens and all settings are far below."""
MOST_BYTES = 262_144
"""Most bytes of a class's record."""
MOST_MARKS = 2
"""Most accents on one letter of a question: towers of them reach into the lines around it."""
TRIES = 200
COPIES = 60.0
"""Seconds for which a process keeps its copy of a record that nobody asks for."""


@dataclass
class Poll:
    """One prediction: who guessed which of the options. Closed once its result was shown."""

    options: int
    answers: dict[str, int] = field(default_factory=dict)  # student -> index of an option
    shown: bool = False

    @property
    def counts(self) -> list[int]:
        """Students per option."""
        given = list(self.answers.values())
        return [given.count(i) for i in range(self.options)]


@dataclass
class Question:
    """What a student asked. Plain text."""

    id: int
    who: str
    text: str


@dataclass
class Board:
    """A class's record. Those who read it must not change it."""

    secret: str  # a hash of it
    turn: int = 0  # how often the teacher has shown something else
    page: str | None = None  # what is shown; None: nothing yet
    link: dict[str, str] = field(default_factory=dict)
    asking: bool = True  # whether students may ask
    asked: int = 0  # questions so far
    questions: list[Question] = field(default_factory=list)
    lit: int | None = None  # id of the question that is on every screen
    lit_at: str = ""  # where the class was when it was lit up
    polls: dict[str, Poll] = field(default_factory=dict)  # by the question's place on its page

    @property
    def question(self) -> str | None:
        """The text that is lit up."""
        return next((one.text for one in self.questions if one.id == self.lit), None)

    @property
    def place(self) -> str:
        """The page, and the lesson's stop, that is shown."""
        return f"{self.page} {self.link.get('stop', '')}"

    @property
    def gone_on(self) -> bool:
        """Whether the teacher has gone to another page or stop since it was lit up."""
        return self.place != self.lit_at

    def text(self) -> str:
        """As the store keeps it."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def read(text: str) -> Board:
        """What `text` wrote."""
        raw: dict[str, Any] = json.loads(text)
        raw["questions"] = [Question(**one) for one in raw["questions"]]
        raw["polls"] = {place: Poll(**one) for place, one in raw["polls"].items()}
        return Board(**raw)


class View(NamedTuple):
    """A class as one of its screens sees it."""

    board: Board
    here: int


def code_of(typed: str) -> str:
    """The code that was meant. ClassError for what cannot be one."""
    code = re.sub(r"[\s\-·.]", "", unicodedata.normalize("NFKC", typed[:99])).upper()
    if len(code) != LENGTH or set(code) - set(ALPHABET):
        raise ClassError("class_code", length=LENGTH)
    return code


def new_id() -> str:
    """Who a student is, while the class goes on."""
    return secrets.token_hex(ID_BYTES)


def is_id(value: object) -> bool:
    """Whether it looks like one."""
    return isinstance(value, str) and re.fullmatch(rf"[0-9a-f]{{{2 * ID_BYTES}}}", value) is not None


_UNSEEN = "[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]"  # a joiner (200d) holds emoji together
_MARKS = "[\u0300-\u036f\u0483-\u0489\u20d0-\u20ff]"


def plain(text: str) -> str:
    """A question as it is kept: one line, nothing invisible, nothing that turns the text around it. ClassError for none
    and for a long one."""
    spaced = re.sub(r"\s+", " ", unicodedata.normalize("NFC", text[: 10 * MOST_CHARS])).strip()
    kept = "".join(c for c in spaced if unicodedata.category(c) not in ("Cc", "Cn", "Co", "Cs", "Zl", "Zp"))
    kept = re.sub(_UNSEEN, "", kept)
    kept = re.sub(rf"({_MARKS}{{{MOST_MARKS}}}){_MARKS}+", r"\1", kept)
    if not kept.strip():
        raise ClassError("class_ask_empty")
    if len(kept) > MOST_CHARS:
        raise ClassError("class_ask_long", most=MOST_CHARS)
    return kept


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


class Classes:
    """All classes of a store. Thread-safe. Every method raises ClassError, with words for why."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = threading.Lock()  # changes of one process wait for one another, so that few have to be tried again
        self._copies: dict[str, tuple[int, Board, float]] = {}

    # -- anybody

    def open(self) -> tuple[str, str]:
        """A new class: (code, secret)."""
        secret = secrets.token_urlsafe(SECRET_BYTES)
        record = Board(_hash(secret)).text()
        while True:
            code = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
            if self._store.create(code, record):
                return code, secret

    def look(self, code: str, who: str | None = None, secret: str | None = None) -> View:
        """The class now; `who` is noted as here. With its `secret`, it goes on for longer."""
        glance = self._store.look(code, who)
        if glance is None:
            self._copies.pop(code, None)
            raise ClassError("class_gone")
        board = self._board(code, glance.version)
        if secret is not None:
            _check(board, secret)
            self._store.extend(code)
        return View(board, glance.here)

    def knows(self, code: str, who: object) -> bool:
        """Whether this id was given to somebody in the class."""
        return is_id(who) and self._store.knows(code, str(who))

    def leave(self, code: str, who: str) -> None:
        """`who` has gone."""
        self._store.leave(code, who)

    def answer(self, code: str, who: str, place: str, guess: int) -> bool:
        """Whether the guess counts: the first of a student who is in the class, on a question that is open."""
        if not self.knows(code, who):
            return False

        def change(board: Board) -> bool:
            poll = board.polls.get(place)
            if poll is None or poll.shown or who in poll.answers or not 0 <= guess < poll.options:
                return False
            poll.answers[who] = guess
            return True

        return self._change(code, change)

    def ask(self, code: str, who: str, text: str) -> None:
        """A question from a student."""
        text = plain(text)
        if not self.knows(code, who):
            raise ClassError("class_not_in")

        def change(board: Board) -> bool:
            if not board.asking:
                raise ClassError("class_ask_stopped")
            if sum(one.who == who for one in board.questions) >= MOST_EACH:
                raise ClassError("class_ask_each", most=MOST_EACH)
            if len(board.questions) >= MOST_QUESTIONS:
                raise ClassError("class_ask_many", most=MOST_QUESTIONS)
            board.asked += 1
            board.questions.append(Question(board.asked, who, text))
            return True

        self._change(code, change)

    # -- the teacher

    def show(self, code: str, secret: str, page: str, link: Mapping[str, str]) -> int:
        """What everybody who follows is to see; how often something was shown by now."""
        if len(json.dumps(dict(link), ensure_ascii=False).encode("utf-8", "replace")) > MOST_SHOWN:
            raise ClassError("class_shown_long")
        turn = 0

        def change(board: Board) -> bool:
            nonlocal turn
            new = (board.page, board.link) != (page, dict(link))
            board.page, board.link = page, dict(link)
            board.turn = turn = board.turn + new
            return new

        self._change(code, change, secret)
        return turn

    def poll(self, code: str, secret: str, place: str, options: int) -> None:
        """The question at `place` is asked; what was answered already stays."""

        def change(board: Board) -> bool:
            if place in board.polls or not 0 < options <= MOST_OPTIONS:
                return False
            while len(board.polls) >= MOST_POLLS:
                del board.polls[next(iter(board.polls))]
            board.polls[place] = Poll(options)
            return True

        self._change(code, change, secret)

    def reveal(self, code: str, secret: str, place: str) -> None:
        """Show the result to everybody; from now on nobody's answer counts."""

        def change(board: Board) -> bool:
            poll = board.polls.get(place)
            if poll is None or poll.shown:
                return False
            poll.shown = True
            return True

        self._change(code, change, secret)

    def allow(self, code: str, secret: str, asking: bool) -> None:
        """Whether students may ask."""

        def change(board: Board) -> bool:
            new, board.asking = board.asking != asking, asking
            return new

        self._change(code, change, secret)

    def light(self, code: str, secret: str, id: int | None) -> None:
        """Put a question on every screen that follows; None puts it away."""

        def change(board: Board) -> bool:
            new, board.lit, board.lit_at = board.lit != id, id, board.place
            return new

        self._change(code, change, secret)

    def remove(self, code: str, secret: str, id: int) -> None:
        """Delete a question."""

        def change(board: Board) -> bool:
            before = len(board.questions)
            board.questions = [one for one in board.questions if one.id != id]
            board.lit = None if board.lit == id else board.lit
            return len(board.questions) < before

        self._change(code, change, secret)

    def close(self, code: str, secret: str) -> None:
        """The class is over, and everything about it is deleted."""
        self._change(code, lambda board: False, secret)
        self._store.delete(code)
        self._copies.pop(code, None)

    # -- within

    def _board(self, code: str, version: int) -> Board:
        """The record, read again only where it has changed."""
        now = time.monotonic()
        kept = self._copies.get(code)
        if kept is None or kept[0] != version:
            found = self._store.read(code)
            if found is None:
                raise ClassError("class_gone")
            kept = (found.version, Board.read(found.record), now)
        self._copies[code] = (*kept[:2], now)
        for old in [one for one, (_, _, at) in list(self._copies.items()) if at < now - COPIES]:
            self._copies.pop(old, None)
        return kept[1]

    def _change(self, code: str, change: Callable[[Board], bool], secret: str | None = None) -> bool:
        """Let `change` change the newest record, and keep it where it says that it did."""
        with self._turn:
            for _ in range(TRIES):
                found = self._store.read(code)
                if found is None:
                    raise ClassError("class_gone")
                board = Board.read(found.record)
                if secret is not None:
                    _check(board, secret)
                if not change(board):
                    return False
                text = board.text()
                if len(text.encode("utf-8", "replace")) > MOST_BYTES:
                    raise ClassError("class_bytes")
                done = self._store.swap(code, found.version, text)
                if done is None:
                    raise ClassError("class_gone")
                if done:
                    return True
        raise ClassError("class_busy")


def _check(board: Board, secret: str) -> None:
    if not hmac.compare_digest(_hash(secret), board.secret):
        raise ClassError("class_secret")


def chance() -> tuple[int, float]:
    """How many codes there are, and how likely one that was made up is that of some class when all places are taken."""
    codes = len(ALPHABET) ** LENGTH
    return codes, MOST_CLASSES / codes
