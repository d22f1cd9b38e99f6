"""Training in front of a class: the runs that visitors started, a thread each, and the panel that steers one.

Few runs at a time share the cores; the rest wait in a queue that is shown. A run that nobody looks at any more is
ended: its page's panel asks for it every second, and when that stops so does the run.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from model import UserError
from model.labs import Experiment
from model.train import THREADS
from pages.kit import shell, state
from pages.kit.words import t

AT_ONCE = 2  # runs
WAITING = 20  # most runs in the queue
SECONDS = 60.0  # that a run may take, alone on the machine
BYTES = 400 * 2**20  # that a run may take
UNSEEN = 8.0  # seconds without its page, after which a run is ended
TRIAL = 3  # steps after which it is known how long a run will take; the first of them is slower and not counted
NICE = 10  # pages go first
MOST_SEED = 9999

OVER = ("done", "stopped", "refused", "failed")


@dataclass
class Job:
    """One run. Written by its thread, read by its page."""

    experiment: Experiment
    settings: Any
    seed: int
    state: str = "waiting"  # then "trial", "running", and one of OVER
    points: list[dict[str, Any]] = field(default_factory=list)
    done: int = 0
    total: int = 0
    tokens: int = 0
    seconds: float = 0.0  # of its steps; pauses do not count
    error: UserError | None = None
    seen: float = field(default_factory=time.monotonic)
    going: threading.Event = field(default_factory=threading.Event)  # cleared: paused
    ended: threading.Event = field(default_factory=threading.Event)  # set: to be ended

    @property
    def over(self) -> bool:
        return self.state in OVER

    @property
    def paused(self) -> bool:
        return not self.going.is_set()

    def forgotten(self) -> bool:
        """Whether nobody has looked for it for a while."""
        return time.monotonic() - self.seen > UNSEEN


class Gym:
    """All runs of this process."""

    def __init__(self, at_once: int = AT_ONCE, waiting: int = WAITING) -> None:
        self.at_once, self.most_waiting = at_once, waiting
        self._lock = threading.Lock()
        self.running: list[Job] = []
        self.queue: list[Job] = []

    def start(self, experiment: Experiment, settings: Any, seed: int) -> Job:
        """Begin a run, or put it into the queue. UserError where it is too large, or the queue is full."""
        need, limit = experiment.bytes(settings) / 2**20, BYTES / 2**20
        if need > limit:
            raise UserError(
                f"This run would need {need:,.0f} MB; {limit:,.0f} MB are there for it. Make it smaller.",
                "lab_too_large", need=need, limit=limit,
            )  # fmt: skip
        job = Job(experiment, settings, seed)
        job.going.set()
        with self._lock:
            self._sweep()
            if len(self.queue) >= self.most_waiting:
                raise UserError("Too many runs are waiting already. Try again in a minute.", "lab_full")
            self.queue.append(job)
            self._fill()
        return job

    def place(self, job: Job) -> int:
        """How many runs are served before this one is; 0 when it is its turn."""
        with self._lock:
            self._sweep()
            self._fill()
            return self.queue.index(job) + 1 if job in self.queue else 0

    def _sweep(self) -> None:
        for job in [job for job in self.queue if job.ended.is_set() or job.forgotten()]:
            self.queue.remove(job)
            job.state = "stopped"

    def _fill(self) -> None:
        while self.queue and len(self.running) < self.at_once:
            job = self.queue.pop(0)
            job.state = "trial"
            self.running.append(job)
            threading.Thread(target=self._work, args=(job,), name=f"lab {job.experiment.name}", daemon=True).start()

    def _work(self, job: Job) -> None:
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)  # of this thread alone
        try:
            self._train(job)
        except UserError as error:
            job.error, job.state = error, "refused" if error.key.startswith("lab_too") else "failed"
        except Exception as error:
            logging.getLogger(__name__).error("%s", type(error).__name__, exc_info=error)
            job.error, job.state = UserError("Something went wrong.", "unknown"), "failed"
        finally:
            with self._lock:
                self.running.remove(job)
                self._sweep()
                self._fill()

    def _train(self, job: Job) -> None:
        steps = job.experiment.steps(job.settings, job.seed)
        trial = 0.0
        while True:
            while job.paused and not job.ended.is_set() and not job.forgotten():
                job.going.wait(timeout=0.5)
            if job.ended.is_set() or job.forgotten():
                job.state = "stopped"
                return
            sharing = len(self.running)
            THREADS.set(max(1, (os.cpu_count() or 1) // sharing))
            start = time.perf_counter()
            step = next(steps, None)
            spent = time.perf_counter() - start
            if step is None:
                job.state = "done"
                return
            job.done, job.total, job.tokens = step.done, step.total, job.tokens + step.tokens
            job.seconds += spent
            if 1 < step.done <= TRIAL:
                trial += spent / sharing
                if step.done == TRIAL:
                    whole = trial / (TRIAL - 1) * step.total
                    if whole > SECONDS:
                        raise UserError(
                            f"This run would take about {whole:.0f} s here; {SECONDS:.0f} s are the most. "
                            "Choose fewer steps or a smaller model.",
                            "lab_too_long", seconds=whole, limit=SECONDS,
                        )  # fmt: skip
                    job.state = "running"
            if step.point is not None:
                job.points.append(step.point)


@st.cache_resource(show_spinner=False)
def gym() -> Gym:
    """The one that all visitors share."""
    return Gym()


def panel(
    experiment: Experiment, settings: Any, draw: Callable[[Sequence[dict[str, Any]]], None], about: str = ""
) -> None:
    """Start, pause, stop, seed and progress of a run with `settings`; below them what `draw` makes of its points.

    `draw` gets the points so far (none before the first), and is called again as they come in. `about` tells two panels
    of one experiment apart.
    """
    key = f"live.{experiment.name}.{about}"
    job: Job | None = st.session_state.get(key)
    ticking = job is not None and not job.over

    @st.fragment(run_every=1.0 if ticking else None)
    @shell.guarded
    def body() -> None:
        job: Job | None = st.session_state.get(key)
        place = 0
        if job is not None:
            job.seen = time.monotonic()
            place = gym().place(job)
        active = job is not None and not job.over
        if active != ticking:
            st.rerun()  # the clock starts or stops with the whole page
        with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key=f"{key}.row"):
            _controls(key, job, experiment, settings)
        if job is not None:
            _progress(job, place)
        draw(list(job.points) if job is not None else [])

    body()


def _controls(key: str, job: Job | None, experiment: Experiment, settings: Any) -> None:
    active = job is not None and not job.over

    def start() -> None:
        try:
            st.session_state[key] = gym().start(experiment, settings, state.get("seed"))
            st.session_state.pop(f"{key}.error", None)
        except UserError as error:
            st.session_state[f"{key}.error"] = error

    if not active:
        label = t("live.start" if job is None else "live.again")
        st.button(label, icon=":material/play_arrow:", type="primary", key=f"{key}.start", on_click=start)
    elif job is not None:
        if job.paused:
            st.button(t("live.go_on"), icon=":material/play_arrow:", key=f"{key}.go", on_click=job.going.set)
        else:
            st.button(t("live.pause"), icon=":material/pause:", key=f"{key}.pause", on_click=job.going.clear)
        st.button(t("live.stop"), icon=":material/stop:", key=f"{key}.stop", on_click=job.ended.set)
    widget = f"{key}.seed"
    st.session_state[widget] = state.get("seed")
    st.number_input(
        t("live.seed"), min_value=0, max_value=MOST_SEED, step=1, key=widget, disabled=active, width=140,
        on_change=lambda: state.switched("seed", st.session_state[widget]),
    )  # fmt: skip
    if error := st.session_state.get(f"{key}.error"):
        shell.complain(error)


def _progress(job: Job, place: int) -> None:
    if job.error is not None:
        shell.complain(job.error)
        if job.points:
            st.caption(t("live.kept"))
        return
    if place:
        st.progress(0.0, t("live.waiting", place=place))
        return
    if not job.total:
        st.progress(0.0, t("live.preparing"))
        return
    usual = "paused" if job.paused else "running"
    said = t(
        f"live.{job.state if job.state in ('done', 'stopped') else usual}",
        done=job.done,
        total=job.total,
        seconds=job.seconds,
        left=job.seconds / job.done * (job.total - job.done),
        speed=job.tokens / job.seconds,
        seed=job.seed,
    )
    st.progress(job.done / job.total, said)
