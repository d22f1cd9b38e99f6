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
from typing import Any, NamedTuple

import streamlit as st

from model import UserError, crossings, parallel
from model.config import ModelConfig
from pages.kit import budget, live, shell, state
from pages.kit.controls import control
from pages.kit.words import t

UNSEEN = 8.0  # seconds without its page, after which a run is ended
ROUNDS = 30  # most passes that are timed of each group
ENOUGH = 10.0  # seconds of passes after which a group makes no more of them
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


class Pass(NamedTuple):
    """Where the time of one pass went, in seconds: mean over the processes."""

    computing: float
    packing: float
    sending: float


@dataclass
class Trip:
    """One visitor's run. Written by its thread, read by its page."""

    processes: int
    sentences: tuple[tuple[int, ...], ...]
    seed: int = 0
    state: str = "running"  # then "done", "stopped" or "failed"
    held: int = 0  # bytes of the budget
    done: int = 0  # groups
    passes: dict[int, list[Pass]] = field(default_factory=dict)  # so far, by the size of the group
    outcome: Outcome | None = None
    error: UserError | None = None
    begun: float = field(default_factory=time.monotonic)
    seen: float = field(default_factory=time.monotonic)
    ended: threading.Event = field(default_factory=threading.Event)  # set: to be ended
    resting: float | None = None  # since when it is paused
    rested: float = 0.0  # seconds of pauses that are over
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def over(self) -> bool:
        return self.state != "running"

    @property
    def groups(self) -> tuple[int, int]:
        """One process alone goes first, to compare with."""
        return 1, self.processes

    @property
    def paused(self) -> bool:
        return self.resting is not None

    @property
    def rest(self) -> float:
        """Seconds of all pauses so far."""
        since = self.resting
        return self.rested + (time.monotonic() - since if since is not None else 0.0)

    def pause(self) -> None:
        """Rest before the next pass, unless all the time for that is used up."""
        with self._lock:
            if self.resting is None and self.rested < parallel.PAUSE:
                self.resting = time.monotonic()

    def go_on(self) -> None:
        with self._lock:
            self.rested, self.resting = self.rest, None

    def rests(self) -> bool:
        """Whether no pass may begin. It goes on by itself when it has paused for long: the road is for all visitors."""
        if self.paused and self.rest > parallel.PAUSE:
            self.go_on()
        return self.paused

    def unwanted(self) -> bool:
        return self.ended.is_set() or time.monotonic() - self.seen > UNSEEN


class Fleet:
    """The one road of this server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.out: Trip | None = None

    def start(
        self, sentences: Sequence[Sequence[int]], processes: int, checkpoint: str | None, c: ModelConfig, seed: int = 0
    ) -> Trip:
        """Begin. UserError where another visitor's run is on the road, memory is short, or this cannot be run."""
        for size in (1, processes):
            parallel.check(size, sentences, c)
        with self._lock:
            if self.out is not None:
                left = max(parallel.SECONDS + parallel.PAUSE - (time.monotonic() - self.out.begun), 0.0)
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
            trip = self.out = Trip(processes, tuple(map(tuple, sentences)), seed, held=need)
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

        def passed(size: int, clocks: list[dict[str, Any]]) -> None:
            means = (sum(clock[what] for clock in clocks) / len(clocks) for what in Pass._fields)
            trip.passes.setdefault(size, []).append(Pass(*means))

        try:
            runs = parallel.run(
                trip.sentences, trip.groups, checkpoint, rounds=ROUNDS, enough=ENOUGH, stop=trip.unwanted,
                paused=trip.rests, told=told, passed=passed, nice=NICE,
            )  # fmt: skip
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
    draw: Callable[[Trip], None],
) -> None:  # fmt: skip
    """Start, pause, stop, seed and progress of a run; below them what `draw` makes of its passes so far, and of the
    last run that came to its end."""
    key, asked = "fleet", _asked()
    trip: Trip | None = st.session_state.get(key)
    ticking = trip is not None and not trip.over

    @shell.fragment(key, TICK if ticking else None)
    def body() -> None:
        trip: Trip | None = st.session_state.get(key)
        if trip is not None:
            trip.seen = time.monotonic()
        active = trip is not None and not trip.over
        if active != ticking or _asked() != asked:
            st.rerun()  # the clock starts or stops with the whole page, which also knows which sentences are meant
        if not state.hidden("training"):
            with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key=f"{key}.row"):
                _controls(key, trip, sentences, processes, checkpoint, c)
        if error := st.session_state.get(f"{key}.error"):
            shell.complain(error)
        if trip is None:
            return
        if active:
            _progress(trip)
        elif trip.error is not None:
            shell.complain(trip.error)
        elif trip.state == "stopped":
            st.caption(t("ambulances.live.stopped"))
        if trip.outcome is not None:
            st.session_state[f"{key}.last"] = trip
        last: Trip | None = st.session_state.get(f"{key}.last")
        if trip.passes and trip is not last:
            draw(trip)
        if last is not None:
            if (last.processes, last.sentences) != (processes, tuple(map(tuple, sentences))):
                st.caption(t("ambulances.live.other"))
            draw(last)

    body()


def _asked() -> tuple[int, int]:
    """What is set for the next run, and decides what the page hands to the panel."""
    return state.get("processes"), state.get("seed")


def _progress(trip: Trip) -> None:
    """Which group is at work, and at which pass."""
    stage = min(trip.done, len(trip.groups) - 1)
    size = trip.groups[stage]
    made = len(trip.passes.get(size, []))
    how = "paused" if trip.paused else "running" if made else "starting"
    said = t(
        f"ambulances.live.{how}", processes=size, made=made, most=ROUNDS, limit=parallel.SECONDS,
        seconds=time.monotonic() - trip.begun - trip.rest, left=max(parallel.PAUSE - trip.rest, 0.0),
    )  # fmt: skip
    st.progress((stage + made / ROUNDS) / len(trip.groups), said)


def _controls(
    key: str, trip: Trip | None, sentences: Sequence[Sequence[int]], processes: int, checkpoint: str | None,
    c: ModelConfig,
) -> None:  # fmt: skip
    active = trip is not None and not trip.over
    if active and trip is not None:
        if trip.paused:
            st.button(t("live.go_on"), icon=":material/play_arrow:", key=f"{key}.go", on_click=trip.go_on)
        else:
            st.button(t("live.pause"), icon=":material/pause:", key=f"{key}.pause", on_click=trip.pause,
                      disabled=trip.rest >= parallel.PAUSE)  # fmt: skip
        st.button(t("ambulances.live.stop"), icon=":material/stop:", key=f"{key}.stop", on_click=trip.ended.set)
    else:
        st.button(t("ambulances.live.start"), icon=":material/play_arrow:", type="primary", key=f"{key}.start",
                  on_click=live.start, disabled=state.locked("training"),
                  args=(key, lambda: fleet().start(sentences, processes, checkpoint, c, state.get("seed"))),
                  )  # fmt: skip
    control(
        st.segmented_control, "processes", processes, t("ambulances.live.processes"),
        list(range(2, parallel.MOST + 1)), key=f"{key}.processes", required=True, disabled=active,
    )  # fmt: skip
    live.seed(key, active)
