"""Real ambulances: a run of `model.parallel` that a visitor starts, one at a time for all, and the panel that shows it.

A run that nobody looks at any more is ended: its page's panel asks for it every second, and when that stops so does the
run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import streamlit as st

from model import UserError, crossings, parallel
from model.config import ModelConfig
from pages.kit import budget, shell, state
from pages.kit.controls import control
from pages.kit.words import t

UNSEEN = 8.0  # seconds without its page, after which a run is ended
ROUNDS = 3  # passes that are timed
NICE = 10  # pages go first
TICK = 1.0  # seconds


@dataclass(frozen=True)
class Outcome:
    """What a run found: groups of processes without their tensors, and how these compare."""

    runs: tuple[parallel.Run, ...]
    gap: float  # largest difference of a logit
    others: int  # tokens that called others, over all floors
    counted: int  # crossings, from the routing of one process alone

    @property
    def alone(self) -> parallel.Run:
        return self.runs[0]

    @property
    def group(self) -> parallel.Run:
        return self.runs[-1]


@dataclass
class Trip:
    """One visitor's run. Written by its thread, read by its page."""

    processes: int
    sentences: tuple[tuple[int, ...], ...]
    state: str = "running"  # then "done", "stopped" or "failed"
    held: int = 0  # bytes of the budget
    done: int = 0  # groups
    outcome: Outcome | None = None
    error: UserError | None = None
    begun: float = field(default_factory=time.monotonic)
    seen: float = field(default_factory=time.monotonic)
    ended: threading.Event = field(default_factory=threading.Event)  # set: to be ended

    @property
    def over(self) -> bool:
        return self.state != "running"

    @property
    def groups(self) -> tuple[int, int]:
        """One process alone goes first, to compare with."""
        return 1, self.processes

    def unwanted(self) -> bool:
        return self.ended.is_set() or time.monotonic() - self.seen > UNSEEN


class Fleet:
    """The one road of this server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.out: Trip | None = None

    def start(self, sentences: Sequence[Sequence[int]], processes: int, checkpoint: str | None, c: ModelConfig) -> Trip:
        """Begin. UserError where another visitor's run is on the road, memory is short, or this cannot be run."""
        for size in (1, processes):
            parallel.check(size, sentences, c)
        with self._lock:
            if self.out is not None:
                left = max(parallel.SECONDS - (time.monotonic() - self.out.begun), 0.0)
                raise UserError(
                    f"Another visitor's ambulances are on the road. Try again; it takes {left:.0f} s at most.",
                    "parallel_busy", left=left,
                )  # fmt: skip
            need = max(parallel.bytes_needed(size, c) for size in (1, processes))
            if not budget.shared().take(need):
                wanted, left = need / 2**20, budget.shared().left / 2**20
                raise UserError(
                    f"The processes would need {wanted:,.0f} MB; {left:,.0f} MB are left.",
                    "parallel_memory", need=wanted, left=left,
                )  # fmt: skip
            trip = self.out = Trip(processes, tuple(map(tuple, sentences)), held=need)
        try:
            threading.Thread(target=self._drive, args=(trip, checkpoint, c), name="ambulances", daemon=True).start()
        except BaseException:  # no thread to be had: the road is free again
            self._arrive(trip, "failed")
            raise
        return trip

    def _drive(self, trip: Trip, checkpoint: str | None, c: ModelConfig) -> None:
        end = "failed"

        def told(done: int) -> None:
            trip.done = done

        try:
            runs = parallel.run(
                trip.sentences, trip.groups, checkpoint, rounds=ROUNDS, stop=trip.unwanted, told=told, nice=NICE
            )
            trip.outcome, end = compare(runs, c), "done"
        except parallel.Stopped:
            end = "stopped"
        except UserError as error:
            trip.error = error
            logging.getLogger(__name__).error("%s", error.key, exc_info=error)
        except Exception as error:
            trip.error = UserError("Something went wrong.", "unknown")
            logging.getLogger(__name__).error("%s", type(error).__name__, exc_info=error)
        finally:
            self._arrive(trip, end)

    def _arrive(self, trip: Trip, end: str) -> None:
        """The road is free again, and so is the memory."""
        with self._lock:
            self.out = None
            budget.shared().give(trip.held)
            trip.held, trip.state = 0, end


def compare(runs: Sequence[parallel.Run], c: ModelConfig) -> Outcome:
    """What is shown of the groups of a run; the tensors are let go."""
    alone, group = runs[0], runs[-1]
    called = [crossings.calls(chosen, c.n_routed_experts, group.processes) for chosen in alone.chosen]
    counted = sum(int(crossings.crossings(one, i % group.processes).sum()) for i, one in enumerate(called))
    return Outcome(
        tuple(replace(run, logits=(), chosen=()) for run in runs), parallel.largest_gap(alone, group),
        parallel.other_calls(alone, group), counted,
    )  # fmt: skip


@st.cache_resource(show_spinner=False)
def fleet() -> Fleet:
    """The one that all visitors share."""
    return Fleet()


def panel(
    sentences: Sequence[Sequence[int]], processes: int, checkpoint: str | None, c: ModelConfig,
    draw: Callable[[Outcome, Trip], None],
) -> None:  # fmt: skip
    """Start, stop and progress of a run; below them what `draw` makes of the last one that came to its end."""
    key = "fleet"
    trip: Trip | None = st.session_state.get(key)
    ticking = trip is not None and not trip.over

    @shell.fragment(key, TICK if ticking else None)
    def body() -> None:
        trip: Trip | None = st.session_state.get(key)
        if trip is not None:
            trip.seen = time.monotonic()
        active = trip is not None and not trip.over
        if active != ticking:
            st.rerun()  # the clock starts or stops with the whole page
        if not state.hidden("training"):
            with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key=f"{key}.row"):
                _controls(key, trip, sentences, processes, checkpoint, c)
        if error := st.session_state.get(f"{key}.error"):
            shell.complain(error)
        if trip is None:
            return
        if active:
            stage = min(trip.done, len(trip.groups) - 1)
            seconds = time.monotonic() - trip.begun
            said = t("ambulances.live.running", processes=trip.groups[stage], seconds=seconds, limit=parallel.SECONDS)
            st.progress(stage / len(trip.groups), said)
        elif trip.error is not None:
            shell.complain(trip.error)
        elif trip.state == "stopped":
            st.caption(t("ambulances.live.stopped"))
        if trip.outcome is not None:
            st.session_state[f"{key}.last"] = trip
        last: Trip | None = st.session_state.get(f"{key}.last")
        if last is not None and last.outcome is not None:
            if (last.processes, last.sentences) != (processes, tuple(map(tuple, sentences))):
                st.caption(t("ambulances.live.other"))
            draw(last.outcome, last)

    body()


def _controls(
    key: str, trip: Trip | None, sentences: Sequence[Sequence[int]], processes: int, checkpoint: str | None,
    c: ModelConfig,
) -> None:  # fmt: skip
    active = trip is not None and not trip.over
    if active and trip is not None:
        st.button(t("ambulances.live.stop"), icon=":material/stop:", key=f"{key}.stop", on_click=trip.ended.set)
    else:
        st.button(t("ambulances.live.start"), icon=":material/play_arrow:", type="primary", key=f"{key}.start",
                  on_click=_start, args=(key, sentences, processes, checkpoint, c),
                  disabled=state.locked("training"))  # fmt: skip
    control(
        st.segmented_control, "processes", processes, t("ambulances.live.processes"),
        list(range(2, parallel.MOST + 1)), key=f"{key}.processes", required=True, disabled=active,
    )  # fmt: skip


def _start(
    key: str, sentences: Sequence[Sequence[int]], processes: int, checkpoint: str | None, c: ModelConfig
) -> None:
    before: Trip | None = st.session_state.get(key)
    if (before is not None and not before.over) or state.locked("training"):
        return  # clicked twice, or not to be clicked
    try:
        st.session_state[key] = fleet().start(sentences, processes, checkpoint, c)
        st.session_state.pop(f"{key}.error", None)
    except UserError as error:
        st.session_state[f"{key}.error"] = error
