"""The self-check: a run of `model.verify`'s proofs on the model that everybody looks at, and the panel that shows it.

There is one run at a time. Whoever asks while one is under way watches the same: it is about the same model. Every
piece of it, a pass or so, waits its turn like a visitor's sentence. A run that nobody looks at any more is ended: its
panels ask for it every second, and when that stops so does the run.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import util
from pathlib import Path

import streamlit as st

from model import UserError
from model.verify import APART, PROOFS, SPEED, Check, Proof, bytes_needed, spoiled, steps
from pages.kit import budget, chapter, service, shell
from pages.kit.words import t

UNSEEN = 8.0  # seconds without anybody who looks, after which a run is ended
NICE = 10  # pages go first
TICK = 1.0  # seconds between two looks
BREATH = 0.002  # seconds between two pieces, in which whoever waits can come in
ALL = (*PROOFS, SPEED)
OVER = "over"  # no piece is left


@dataclass
class Run:
    """Written by its thread, read by the pages of those who watch."""

    spoiled: bool  # of a copy with one wrong number
    proofs: tuple[Proof, ...] = ALL
    state: str = "running"  # then "done", "stopped" or "failed"
    checks: list[Check] = field(default_factory=list)
    error: UserError | None = None
    begun: float = field(default_factory=time.monotonic)
    seconds: float = 0.0  # that it took, waiting included; once it is over
    held: list[int] = field(default_factory=list)  # bytes of the budget; the second for transformers' copy
    watchers: dict[object, float] = field(default_factory=dict)  # who looks, and when last

    @property
    def over(self) -> bool:
        return self.state != "running"

    @property
    def passed(self) -> int:
        return sum(check.passed for check in self.checks)

    @property
    def failed(self) -> int:
        return sum(not check.passed and check.missing is None for check in self.checks)

    @property
    def missing(self) -> int:
        return sum(check.missing is not None for check in self.checks)

    def unwanted(self) -> bool:
        """Whether nobody looks any more."""
        now = time.monotonic()
        return all(now - seen > UNSEEN for seen in list(self.watchers.values()))

    def as_it_is(self) -> Run:
        """What a visitor keeps who does not want to wait: the others' run goes on."""
        taken = time.monotonic() - self.begun
        return replace(self, state="stopped", checks=list(self.checks), seconds=taken, held=[], watchers={})


class Ward:
    """The one place of this server where proofs are run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.out: Run | None = None
        self.took: float | None = None  # seconds of the last run that went to its end

    def join(self, house: service.Hospital, folder: Path, who: object, spoil: bool = False) -> Run:
        """Begin, or watch what is under way. UserError where that is about something else."""
        with self._lock:
            run = self.out
            if run is not None and not run.over:
                if run.spoiled != spoil:
                    raise UserError("Another self-check is under way. Try again in a minute.", "check_busy")
                run.watchers[who] = time.monotonic()
                return run
            traces, copy = bytes_needed(house.config)
            if not budget.shared().take(traces):
                raise UserError("There is no memory left for a self-check at this moment.", "check_memory")
            held = [traces]
            if util.find_spec("transformers") is not None and budget.shared().take(copy):
                held.append(copy)
            run = self.out = Run(spoil, watchers={who: time.monotonic()}, held=held)
        try:
            threading.Thread(target=self._work, args=(run, house, folder), name="self-check", daemon=True).start()
        except BaseException:  # no thread to be had
            self._over(run, "failed")
            raise
        return run

    def _over(self, run: Run, end: str) -> None:
        """The place is free again, and so is the memory."""
        with self._lock:
            budget.shared().give(sum(run.held))
            run.held, run.seconds, run.state = [], time.monotonic() - run.begun, end
            if end == "done":
                self.took = run.seconds
            if self.out is run:
                self.out = None

    def _work(self, run: Run, house: service.Hospital, folder: Path) -> None:
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        end = "failed"
        try:
            live = spoiled(house.live) if run.spoiled else house.live
            pieces, piece = steps(live, folder, run.proofs, beside=len(run.held) > 1), ""
            while piece is not OVER and not run.unwanted():
                try:
                    piece = next(pieces, OVER) if piece == APART else house.in_turn(lambda: next(pieces, OVER))
                except UserError as error:
                    if error.key != "busy":
                        raise
                    continue  # many people are asking: they come first
                if isinstance(piece, Check):
                    run.checks.append(piece)
                time.sleep(BREATH)
            end = "done" if piece is OVER else "stopped"
        except Exception as error:
            run.error = error if isinstance(error, UserError) else UserError("Something went wrong.", "unknown")
            logging.getLogger(__name__).error("%s", type(error).__name__, exc_info=error)
        finally:
            self._over(run, end)


@st.cache_resource(show_spinner=False)
def ward() -> Ward:
    """The one that all visitors share."""
    return Ward()


def panel(draw: Callable[[Run | None], None]) -> None:
    """Start, stop and progress of a run; below them what `draw` makes of it (None before the first)."""
    key = "check.run"
    run: Run | None = st.session_state.get(key)
    ticking = run is not None and not run.over

    @shell.fragment(key, TICK if ticking else None)
    def body() -> None:
        run: Run | None = st.session_state.get(key)
        if run is not None and not run.over:
            run.watchers[_who()] = time.monotonic()
        active = run is not None and not run.over
        if active != ticking:
            st.rerun()  # the clock starts or stops with the whole page
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"{key}.row"):
            _controls(key, run)
        if error := st.session_state.get(f"{key}.error"):
            shell.complain(error)
        if run is not None:
            _progress(run)
        draw(run)

    body()


def _who() -> object:
    """A visitor, as one who looks at a run; nothing else is known by it."""
    return st.session_state.setdefault("check.who", object())


def _controls(key: str, run: Run | None) -> None:
    def start() -> None:
        before: Run | None = st.session_state.get(key)
        if before is not None and not before.over:
            return  # clicked twice
        try:
            st.session_state[key] = ward().join(
                service.hospital(), service.folder(), _who(), bool(st.session_state.get("check.spoil"))
            )
            st.session_state.pop(f"{key}.error", None)
        except Exception as error:
            st.session_state[f"{key}.error"] = error

    def stop() -> None:
        before: Run | None = st.session_state.get(key)
        if before is not None and not before.over:
            st.session_state[key] = before.as_it_is()
            before.watchers.pop(_who(), None)

    active = run is not None and not run.over
    if active:
        st.button(t("check.stop"), icon=":material/stop:", key=f"{key}.stop", on_click=stop)
    else:
        label = t("check.start" if run is None else "check.again")
        st.button(label, icon=":material/play_arrow:", type="primary", key=f"{key}.start", on_click=start)
    st.toggle(t("check.spoil"), key="check.spoil", disabled=active)
    if run is None:  # afterwards a run says it of itself
        took = ward().took
        st.caption(t("check.never") if took is None else t("check.last", seconds=took))


def _progress(run: Run) -> None:
    if run.error is not None:
        shell.complain(run.error)
        return
    seconds = run.seconds if run.over else time.monotonic() - run.begun
    values = {"done": len(run.checks), "total": len(run.proofs), "seconds": seconds, "passed": run.passed,
              "failed": run.failed, "missing": run.missing}  # fmt: skip
    if run.state == "running":
        at = run.proofs[min(len(run.checks), len(run.proofs) - 1)]
        said = t("check.running", claim=t(f"check.proof.{at.key}.title"), **values)
        st.progress(len(run.checks) / len(run.proofs), said)
        return
    how = "stopped" if run.state == "stopped" else "bad" if run.failed else "good"
    box = st.warning if how == "stopped" else st.error if how == "bad" else st.success
    more = [t("check.untried", missing=run.missing)] * (run.missing > 0) + [t("check.spoiled")] * run.spoiled
    box(chapter.sentences(t(f"check.{how}", **values), *more))
