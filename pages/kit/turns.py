"""Whose run of a page goes on: few at a time, the others in the order in which they came.

Python runs one thread at a time, whoever holds its lock, and hands it on every few milliseconds. Fifty pages that are
all begun at once are therefore all done late, and a pass through the model, thousands of small operations that each
give the lock away, waits after every one of them for pages that do not. Begun one after the other, half of them are
there in half of the time, and nobody is later. And whoever asks for the lock gets it ten times sooner than Python would
have it: with 50 learners (tests/load.py) that halves the time in which a page answers.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

AT_ONCE = 2
HANDED_ON = 0.0005  # seconds after which a running thread gives Python's lock away, where another one waits for it
LONGEST = 20.0  # seconds that anybody waits, should the runs before hang


class Turns:
    """First come, first served. Who has a turn already keeps it in what it calls."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._free = at_once
        self._waiting: deque[threading.Event] = deque()
        self._lock = threading.Lock()
        self._mine = threading.local()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for a turn, and have it."""
        if getattr(self._mine, "turn", False):
            yield
            return
        self._wait()
        self._mine.turn = True
        try:
            yield
        finally:
            self._mine.turn = False
            self._pass_on()

    @contextmanager
    def given_up(self) -> Iterator[None]:
        """Let others have it meanwhile, and wait for the next one afterwards."""
        had = getattr(self._mine, "turn", False)
        if had:
            self._mine.turn = False
            self._pass_on()
        try:
            yield
        finally:
            if had:
                self._wait()
                self._mine.turn = True

    def step_aside(self) -> None:
        """Between two parts of something long: whoever waits goes first."""
        if self._waiting:
            with self.given_up():
                pass

    def _wait(self) -> None:
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return
            mine = threading.Event()
            self._waiting.append(mine)
        if not mine.wait(LONGEST):
            with self._lock:
                if mine in self._waiting:  # one run more than there should be; nobody stands still for ever
                    self._waiting.remove(mine)
                    self._free -= 1

    def _pass_on(self) -> None:
        with self._lock:
            self._free += 1
            if self._waiting and self._free > 0:
                self._free -= 1
                self._waiting.popleft().set()


turns = Turns()
sys.setswitchinterval(HANDED_ON)
