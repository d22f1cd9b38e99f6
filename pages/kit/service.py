"""The one model that all visitors share, and the traces that were computed already."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import streamlit as st
import torch

import model
from model import Interventions, Trace, UserError
from model.generate import Draw, Generation, SamplingSettings, Start, Step, advance, retrace, speculate
from model.live import SHIPPED
from pages.kit import state
from pages.kit.turns import turns

if TYPE_CHECKING:
    from model.study import Study

PASSES_AT_ONCE = 2
PATIENCE = 15.0  # seconds that a visitor waits for a turn
KEPT_TRACES = 256
KEPT_BYTES = 64 * 2**20  # beyond what visitors are looking at


def tensor_bytes(things: Iterable[Any]) -> int:
    """Bytes that the tensors among them hold; what several share is counted once."""
    stores = [thing.untyped_storage() for thing in things if isinstance(thing, torch.Tensor)]
    return sum({store.data_ptr(): store.nbytes() for store in stores}.values())


class Hospital:
    """A loaded model. Equal questions are computed once for everybody; a few at a time; the rest wait their turn."""

    def __init__(self, live: Any) -> None:
        self.live = live
        self.config = live.config
        self.tokenizer = live.tokenizer
        self._turns = threading.BoundedSemaphore(PASSES_AT_ONCE)
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._seen: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()  # as long as anybody looks at it
        self._running: dict[Hashable, Future] = {}

    def trace(self, text: str, interventions: Interventions | None = None) -> Trace:
        """What happens to `text` on every floor. UserError says in words what is wrong with it."""
        # Most often it is there already. Asked for before others can wait for this one: who waits for a turn meanwhile
        # must not keep them waiting.
        base = self.trace(text) if interventions else None
        return self._shared((text, interventions), lambda: self._compute(text, interventions, base))

    def measure(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """What `compute` gives (an object whose fields are its `vars`), once for everybody who asks with this key; it
        waits its turn like a pass."""

        return self._shared(key, lambda: self.in_turn(compute))

    def in_turn(self, compute: Callable[[], Any]) -> Any:
        """What `compute` gives, after waiting for a turn like a pass; nothing of it is kept."""
        turns.step_aside()
        with self._turn():
            return compute()

    def _shared(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        with self._lock:
            if (found := self._seen.get(key)) is not None:
                if key in self._kept:
                    self._kept.move_to_end(key)
                return found
            if mine := key not in self._running:
                self._running[key] = Future()
            answer = self._running[key]
        if mine:
            try:
                found = compute()
                self._keep(key, found)
                answer.set_result(found)
            except BaseException as error:
                answer.set_exception(error)
            finally:
                with self._lock:
                    del self._running[key]
        if answer.done():
            return answer.result()
        with turns.given_up():  # whoever computes it may have to wait for a turn
            return answer.result()

    def traces(self, text: str, several: Sequence[Interventions]) -> list[Trace]:
        """One text changed in several ways, side by side: a pass keeps only one core busy."""
        with turns.given_up(), ThreadPoolExecutor(len(several) or 1) as pool:
            return list(pool.map(lambda change: self.trace(text, change), several))

    def _compute(self, text: str, interventions: Interventions | None, base: Trace | None) -> Trace:
        with self._turn():
            return self.live.trace(text, interventions, base) if base is not None else self.live.trace(text)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=PATIENCE):
            raise UserError("Many people are asking at this moment. Please try again in a few seconds.", "busy")
        try:
            yield
        finally:
            self._turns.release()

    # A text is written one turn a token, so that a long one keeps nobody waiting; no turn is held in between.

    def room(self, start: Start) -> int:
        """Most tokens that can be written after it."""
        return max(0, min(state.MAX_WRITTEN, self.live.engine.positions - len(start.ids)))

    def generate(
        self, start: Start, path: Sequence[Step], settings: SamplingSettings, forced: Mapping[int, int], tokens: int
    ) -> Iterator[tuple[Draw, tuple[Step, ...]]]:
        """`model.generate.retrace`, with the steps that `path` lacks made on the way. At most `room` tokens."""

        def further(walked: Sequence[Step], id: int) -> Step:
            turns.step_aside()
            with self._turn():
                return advance(self.live.engine, start, walked, id)

        draws = retrace(start, path, settings, forced, further, self.config.eos_token_id)
        return islice(draws, min(tokens, self.room(start)))

    def speculate(self, start: Start, tokens: int) -> Iterator[Generation]:
        """`model.generate.speculate` after a text. At most `room` tokens."""
        run = speculate(self.live.engine, list(start.ids), min(tokens, self.room(start)))
        while True:
            turns.step_aside()
            with self._turn():
                so_far = next(run, None)
            if so_far is None:
                return
            yield so_far

    def _keep(self, key: Hashable, found: Any) -> None:
        size = tensor_bytes(vars(found).values())
        with self._lock:
            self._kept[key], self._seen[key] = (found, size), found
            total = sum(kept for _, kept in self._kept.values())
            while len(self._kept) > 1 and (len(self._kept) > KEPT_TRACES or total > KEPT_BYTES):
                total -= self._kept.popitem(last=False)[1][1]


@st.cache_resource(show_spinner=False, max_entries=1)
def _open(path: str | None) -> Hospital:
    torch.set_num_threads(1)  # several visitors share the cores; threads of one pass would wait for each other
    hospital = Hospital(model.load(path))
    gc.collect()
    gc.freeze()  # what is loaded now stays: never look through it again
    _open_already.set()
    return hospital


_open_already = threading.Event()


def is_open() -> bool:
    """Whether somebody has opened the hospital already."""
    return _open_already.is_set()


def hospital() -> Hospital:
    """The shared hospital; UserError if its checkpoint cannot be used."""
    return _open(checkpoint())


def checkpoint() -> str | None:
    """The folder that the operator named; None: the shipped one."""
    return os.environ.get("TOKEN_HOSPITAL_CHECKPOINT") or None


def folder() -> Path:
    """Where the open checkpoint lies."""
    return Path(checkpoint() or SHIPPED)


def study() -> Study | None:
    """What was recorded about the open checkpoint over held-out texts; None where nothing was."""
    from model.study import load_study  # only some pages need it

    try:
        return load_study(checkpoint())
    except UserError as error:
        logging.getLogger(__name__).info("%s", error)
        return None
