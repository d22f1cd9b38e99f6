"""Training in front of a class: the runs that visitors started, a thread each, and the panel that steers one.

Few runs at a time share the cores, and the memory that `budget` has for them; the rest wait in a queue that is shown.
A run that is paused gives its place to them, and waits for another one when it goes on. A run that nobody looks at any
more is ended: its page's panel asks for it every second, and when that stops so does the run.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import streamlit as st
import torch

from model import UserError
from model.labs import Experiment, recorded
from model.train import THREADS
from pages.kit import budget, shell, state
from pages.kit.controls import control
from pages.kit.words import t

AT_ONCE = 2  # runs
ALIVE = 4  # runs that are begun and not over: those that are paused hold their memory, but nobody up
WAITING = 20  # most runs in the queue
SECONDS = 60.0  # that a run may take, alone on the machine
LENIENT = 2.0  # times as long as that before a run is ended which did not look so long after its trial
LONGEST = 10 * SECONDS  # that a run may take whatever else the machine does
BYTES = 400 * 2**20  # that a run may take
UNSEEN = 8.0  # seconds without its page, after which a run is ended
PAUSE = 60.0  # seconds that a paused run keeps its place while others wait for it
TRIAL = 3  # steps after which it is known how long a run will take; the first of them is slower and not counted
PARTS = 4  # most threads of a run: more than train.backward makes parts of would reach into torch's own setting
NICE = 10  # pages go first
TICK = 1.0  # seconds between two looks of a page at its run
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
    alone: float = 0.0  # what they would take at most with the machine for it alone; the first step aside
    error: UserError | None = None
    seen: float = field(default_factory=time.monotonic)
    rested: float = 0.0  # since when it is paused
    going: threading.Event = field(default_factory=threading.Event)  # cleared: paused
    ended: threading.Event = field(default_factory=threading.Event)  # set: to be ended
    turn: threading.Event = field(default_factory=threading.Event)  # set: it has a place among those that run
    held: int = 0  # bytes of the budget

    @property
    def over(self) -> bool:
        return self.state in OVER

    @property
    def paused(self) -> bool:
        return not self.going.is_set()

    def forgotten(self) -> bool:
        """Whether nobody has looked for it for a while."""
        return time.monotonic() - self.seen > UNSEEN

    def gone(self) -> bool:
        """Whether it has nothing more to do."""
        return self.ended.is_set() or self.forgotten()

    def pause(self) -> None:
        """Rest before the next step. Others may run meanwhile."""
        self.rested = time.monotonic()
        self.going.clear()


class Gym:
    """All runs of this process."""

    def __init__(self, at_once: int = AT_ONCE, waiting: int = WAITING, alive: int = ALIVE) -> None:
        self.at_once, self.most_waiting, self.most_alive = at_once, waiting, alive
        self._lock = threading.Lock()
        self.running: list[Job] = []
        self.queue: list[Job] = []
        self.alive: list[Job] = []  # with a thread: running, paused, or waiting to go on

    def start(self, experiment: Experiment, settings: Any, seed: int) -> Job:
        """Begin a run, or put it into the queue. UserError where it is too large, or the queue is full."""
        need, limit = experiment.bytes(settings) / 2**20, min(BYTES, budget.shared().most) / 2**20
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
        """How many runs must end, or pause, before this one's turn comes; 0 when it is its turn."""
        with self._lock:
            self._sweep()
            self._fill()
            return self.queue.index(job) + 1 if job in self.queue else 0

    def _sweep(self) -> None:
        """Nobody waits who has gone away. Holds the lock."""
        for job in [job for job in self.queue if job.gone()]:
            self.queue.remove(job)
            if job not in self.alive:  # or its own thread says so
                job.state = "stopped"

    def _fill(self) -> None:
        """Free places go to those who wait longest. Holds the lock."""
        while self.queue and len(self.running) < self.at_once:
            job = self.queue[0]
            begun = job in self.alive
            size = 0 if begun else job.experiment.bytes(job.settings)
            if not begun and (len(self.alive) >= self.most_alive or not budget.shared().take(size)):
                self._clear_away()
                return
            self.queue.pop(0)
            self.running.append(job)
            job.turn.set()
            if not begun:
                job.state, job.held = "trial", size
                self.alive.append(job)
                work = threading.Thread(target=self._work, args=(job,), name=f"lab {job.experiment.name}", daemon=True)
                try:
                    work.start()
                except RuntimeError:  # no thread to be had: as if it had not begun
                    job.error = UserError("No run can be started at this moment. Try again in a minute.", "lab_full")
                    self._leave(job, "failed")

    def _leave(self, job: Job, end: str) -> None:
        """It is over, and gives back what it had. Holds the lock."""
        for where in (self.alive, self.running, self.queue):
            if job in where:
                where.remove(job)
        budget.shared().give(job.held)
        job.held, job.state = 0, end

    def _clear_away(self) -> None:
        """Who has been paused for longest, and for long, ends for those who wait. Holds the lock."""
        if any(job.ended.is_set() for job in self.alive):
            return  # a place is about to be free
        paused = [job for job in self.alive if job.paused and time.monotonic() - job.rested > PAUSE]
        if paused:
            longest = min(paused, key=lambda job: job.rested)
            longest.error = UserError("The run was paused for long, and others were waiting.", "lab_gave_way")
            longest.ended.set()
            longest.going.set()

    def _work(self, job: Job) -> None:
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)  # of this thread and those it starts
        end = "failed"
        try:
            end = self._train(job)
        except UserError as error:
            job.error, end = error, "refused" if error.key.startswith("lab_too") else "failed"
        except Exception as error:
            logging.getLogger(__name__).error("%s", type(error).__name__, exc_info=error)
            job.error = UserError("Something went wrong.", "unknown")
        finally:
            with self._lock:
                self._leave(job, end)
                self._sweep()
                self._fill()

    def _may_go(self, job: Job) -> bool:
        """Wait while it is paused, and then for a place. False: it has to end."""
        if job.paused and not job.gone():
            with self._lock:
                job.turn.clear()
                self.running.remove(job)
                self._fill()
            while job.paused and not job.gone():
                job.going.wait(timeout=0.5)
            with self._lock:
                self.queue.insert(0, job)  # it has begun already
                self._sweep()
                self._fill()
        while not job.turn.is_set() and not job.gone():
            job.turn.wait(timeout=0.5)
        return not job.gone()

    def _train(self, job: Job) -> str:
        """Step after step; how it ended."""
        steps = job.experiment.steps(job.settings, job.seed)
        cores = os.cpu_count() or 1
        while self._may_go(job):
            sharing = max(len(self.running), 1)
            THREADS.set(min(PARTS, max(1, cores // sharing)))
            start, worked = time.perf_counter(), time.process_time()
            step = next(steps, None)
            spent, worked = time.perf_counter() - start, time.process_time() - worked
            if step is None:
                return "done"
            job.seconds += spent
            job.done, job.total, job.tokens = step.done, step.total, job.tokens + step.tokens
            if step.point is not None:
                job.points.append(step.point)
            if step.done > 1:
                # Of the time in which others had the cores it only waited; what was worked here, all that run did.
                job.alone += min(spent, worked) / sharing
            if step.done >= TRIAL:
                whole = job.alone / (step.done - 1) * step.total
                tried = step.done == TRIAL
                if whole > SECONDS * (1.0 if tried else LENIENT) or job.seconds > LONGEST:
                    if tried:
                        job.points.clear()  # nothing of a trial is left on the picture
                    raise UserError(
                        f"It would take about {whole:.0f} s here, as {step.done} steps showed; {SECONDS:.0f} s are the "
                        "most. Choose fewer steps or a smaller model.",
                        "lab_too_long" if tried else "lab_too_slow", seconds=whole, limit=SECONDS, done=step.done,
                    )  # fmt: skip
                job.state = "running"
        return "stopped"


@st.cache_resource(show_spinner=False)
def gym() -> Gym:
    """The one that all visitors share."""
    torch.set_num_threads(1)  # as with the hospital: a run has threads of its own, each of which works alone
    return Gym()


def panel(
    experiment: Experiment, settings: Any, draw: Callable[[Sequence[dict[str, Any]]], None], about: str = ""
) -> None:
    """Start, pause, stop, seed and progress of a run with `settings`; below them what `draw` makes of its points.

    `draw` gets the points so far (none before the first), and is called again as they come in. They are of the settings
    that the run was started with, which may have been changed since: where `draw` needs them, `job_of` has them.
    `about` tells two panels of one experiment apart.
    """
    key = _key(experiment, about)
    job: Job | None = st.session_state.get(key)
    ticking = job is not None and not job.over

    @shell.fragment(key, TICK if ticking else None)
    def body() -> None:
        job: Job | None = st.session_state.get(key)
        place = 0
        if job is not None:
            job.seen = time.monotonic()
            place = gym().place(job)
        active = job is not None and not job.over
        if active != ticking:
            st.rerun()  # the clock starts or stops with the whole page
        if st.session_state.get("link.behind"):  # a seed was set, and only this part of the page runs again
            state.publish()
        if not state.hidden("training"):
            with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key=f"{key}.row"):
                _controls(key, job, experiment, settings)
        if error := st.session_state.get(f"{key}.error"):
            shell.complain(error)
        if job is not None:
            _progress(job, place)
            if job.points and (job.settings != settings or job.seed != state.get("seed")):
                st.caption(t("live.other"))
        draw(list(job.points) if job is not None else [])

    body()


def record(experiment: Experiment) -> dict[str, Any] | None:
    """What was recorded of it; where that cannot be read the page says so, and goes on without."""
    try:
        return recorded(experiment.name)
    except UserError as error:
        shell.complain(error)
        return None


def without_record(experiment: Experiment, settings: Any, draw: Callable[[Sequence[dict[str, Any]]], None]) -> NoReturn:
    """Of a page whose story is what was recorded: where that cannot be read, training here and now is what is left."""
    panel(experiment, settings, draw)
    if not state.get("projector"):
        shell.door(experiment.name)
    state.publish()
    st.stop()


def job_of(experiment: Experiment, about: str = "") -> Job | None:
    """The visitor's run in that panel: the one that goes on, or the last."""
    job: Job | None = st.session_state.get(_key(experiment, about))
    return job


def _key(experiment: Experiment, about: str) -> str:
    return f"live.{experiment.name}.{about}"


def _controls(key: str, job: Job | None, experiment: Experiment, settings: Any) -> None:
    active = job is not None and not job.over

    if not active:
        label = t("live.start" if job is None else "live.again")
        st.button(
            label, icon=":material/play_arrow:", type="primary", key=f"{key}.start", on_click=start,
            args=(key, lambda: gym().start(experiment, settings, state.get("seed"))), disabled=state.locked("training"),
        )  # fmt: skip
    elif job is not None:
        if job.paused:
            st.button(t("live.go_on"), icon=":material/play_arrow:", key=f"{key}.go", on_click=job.going.set)
        else:
            st.button(t("live.pause"), icon=":material/pause:", key=f"{key}.pause", on_click=job.pause)
        st.button(t("live.stop"), icon=":material/stop:", key=f"{key}.stop", on_click=job.ended.set)
    seed(key, active)


def seed(key: str, active: bool) -> None:
    """What the run's chances are drawn from; not to be changed while it goes on."""
    control(
        st.number_input, "seed", state.get("seed"), t("live.seed"), key=f"{key}.seed", tell=state.switched,
        disabled=active or state.locked("training"), min_value=0, max_value=MOST_SEED, step=1, width=140,
    )  # fmt: skip


def start(key: str, begin: Callable[[], Any]) -> None:
    """Keep the run that `begin` gives (it has `over`) for this visit, or why it gives none."""
    before = st.session_state.get(key)
    if (before is not None and not before.over) or state.locked("training"):
        return  # clicked twice, or not to be clicked
    try:
        st.session_state[key] = begin()
        st.session_state.pop(f"{key}.error", None)
    except UserError as error:
        st.session_state[f"{key}.error"] = error


def _progress(job: Job, place: int) -> None:
    if job.error is not None:
        shell.complain(job.error)
        if job.points:
            st.caption(t("live.kept"))
        return
    if job.over:
        how = job.state if job.total else "not_begun"
    elif job.paused:
        how = "paused"
    elif place:
        how = "waiting"
    elif not job.total:
        how = "preparing"
    else:
        how = job.state
    said = t(
        f"live.{how}",
        place=place,
        done=job.done,
        total=job.total,
        seconds=job.seconds,
        left=job.seconds / max(job.done, 1) * (job.total - job.done),
        speed=job.tokens / job.seconds if job.seconds else 0.0,
        seed=job.seed,
        limit=SECONDS,
    )
    st.progress(job.done / job.total if job.total else 0.0, said)
