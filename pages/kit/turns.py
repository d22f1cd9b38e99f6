"""Whose run of a page goes on: few at a time, the others in the order in which they came.

Python runs one thread at a time, whoever holds its lock, and hands it on every few milliseconds. Fifty pages that are
all begun at once are therefore all done late, and a pass through the model, thousands of small operations that each
give the lock away, waits after every one of them for pages that do not. Begun one after the other, half of them are
there in half of the time, and nobody is later. A visitor has one run at a time, so that nobody takes two turns in a row
while others wait.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

AT_ONCE = 2


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
            if self._free:
                self._free -= 1
                return
            mine = threading.Event()
            self._waiting.append(mine)
        mine.wait()

    def _pass_on(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1


turns = Turns()
