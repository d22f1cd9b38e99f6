"""Runs in front of the class: who runs, who waits, what ends a run, and what is left of it."""

from __future__ import annotations

import gc
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import psutil
import pytest
import torch
from screens import LANGUAGES
from streamlit.testing.v1 import AppTest

from model import ModelConfig, UserError
from model.deepseek_v3 import DeepseekV3
from model.labs import Diverged, Experiment, Step
from model.train import THREADS, TrainSettings, optimiser, take_step
from pages.kit import live, words
from pages.kit.live import Gym, Job


@dataclass(frozen=True)
class Fake:
    """Steps that only take time."""

    total: int = 5
    wait: float = 0.0
    work: float = 0.0  # seconds of a core that a step needs, whatever else the machine does
    nan_at: int = 0
    million: float = 0.001  # weights
    fails: bool = False


def work(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def fake_run(settings: Fake, seed: int) -> Iterator[Step]:
    for done in range(1, settings.total + 1):
        time.sleep(settings.wait)
        work(settings.work)
        if settings.fails:
            raise RuntimeError("secret of the house")
        loss = math.nan if done == settings.nan_at else 1.0 / (done + seed)
        yield Step(done, settings.total, 10, loss, {"step": done, "loss": loss, "threads": THREADS.get()})


FAKE = Experiment("fake", fake_run, Fake(), Fake(), weights=lambda s: int(s.million * 10**6))
LONG = Fake(total=10**4, wait=0.001)  # longer than any test, and yet short enough not to be refused


def until(what: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def over(*jobs: Job) -> None:
    until(lambda: all(job.over for job in jobs))


@pytest.fixture
def gym(monkeypatch) -> Iterator[Gym]:
    """A gym of its own, whose runs are looked at; at the end every thread of it is gone."""
    monkeypatch.setattr(live, "UNSEEN", 10**6)
    made = Gym()
    yield made
    for job in [*made.alive, *made.queue]:
        job.ended.set()
    until(lambda: not made.alive and not [t for t in threading.enumerate() if t.name.startswith("lab ")])


# -- one run -----------------------------------------------------------------------------------------------------------


def test_a_run_to_its_end(gym):
    job = gym.start(FAKE, Fake(total=7), seed=3)
    over(job)
    assert job.state == "done" and (job.done, job.total, job.tokens) == (7, 7, 70)
    assert [p["loss"] for p in job.points] == [1 / (n + 3) for n in range(1, 8)], "the seed reaches the run"


def test_pause_go_on_stop(gym):
    job = gym.start(FAKE, LONG, 0)
    until(lambda: job.state == "running" and job.points)
    job.pause()
    until(lambda: job not in gym.running)
    there = job.done
    time.sleep(0.05)
    assert job.done == there and not job.over, "it rests"
    job.going.set()
    until(lambda: job.done > there)
    job.ended.set()
    over(job)
    assert job.state == "stopped" and len(job.points) == job.done


def test_a_paused_run_can_be_stopped(gym):
    job = gym.start(FAKE, LONG, 0)
    until(lambda: job.points)
    job.pause()
    job.ended.set()
    over(job)
    assert job.state == "stopped"


@pytest.mark.parametrize("rests", [False, True], ids=["running", "paused"])
def test_nobody_looks_any_more(gym, monkeypatch, rests):
    monkeypatch.setattr(live, "UNSEEN", 0.6)  # a busy machine may leave this thread waiting for a while
    job = gym.start(FAKE, LONG, 0)
    if rests:
        job.pause()
    for _ in range(30):
        job.seen = time.monotonic()
        time.sleep(0.03)
    assert not job.over, "somebody looks"
    over(job)
    assert job.state == "stopped"


def test_no_number_any_more(gym):
    job = gym.start(FAKE, Fake(total=9, nan_at=5), 0)
    over(job)
    assert job.state == "failed" and isinstance(job.error, Diverged) and len(job.points) == 4
    assert words.say("en", "error.lab_diverged", **job.error.values).startswith("The run came apart at step 5")


def test_an_error_is_one_sentence(gym, caplog):
    job = gym.start(FAKE, Fake(fails=True), 0)
    over(job)
    assert job.state == "failed" and job.error.key == "unknown" and "secret" not in str(job.error)
    assert "RuntimeError" in caplog.text, "the operator's log has it"
    after = gym.start(FAKE, Fake(), 0)
    over(after)
    assert after.state == "done", "the next one is served"


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_too_large_is_refused_before_it_starts(gym):
    with pytest.raises(UserError) as error:
        gym.start(FAKE, Fake(million=1000), 0)
    assert error.value.key == "lab_too_large" and not gym.queue and not gym.alive
    need = FAKE.bytes(Fake(million=1000)) / 2**20
    assert f"{need:,.0f} MB" in words.say("en", "error.lab_too_large", **error.value.values)


def test_too_long_is_refused_after_three_steps(gym, monkeypatch):
    monkeypatch.setattr(live, "SECONDS", 1.0)
    job = gym.start(FAKE, Fake(total=1000, work=0.02), 0)
    over(job)
    assert job.state == "refused" and job.done == live.TRIAL and job.error.key == "lab_too_long"
    assert job.error.values["seconds"] >= 1000 * 0.02, "what the steps took, times how many there are"
    assert job.points == [] and job.error.values["done"] == live.TRIAL, "nothing of the trial is kept"
    fits = gym.start(FAKE, Fake(total=8, work=0.02), 0)
    over(fits)
    assert fits.state == "done"


def test_whoever_only_waits_for_a_core_is_not_refused(gym, monkeypatch):
    monkeypatch.setattr(live, "SECONDS", 0.5)
    job = gym.start(FAKE, Fake(total=10, wait=0.1), 0)
    over(job)
    assert job.state == "done" and job.alone < job.seconds / 2
    monkeypatch.setattr(live, "LONGEST", 0.5)
    slow = gym.start(FAKE, Fake(total=100, wait=0.1), 0)
    over(slow)
    assert slow.state == "refused" and slow.done < 100, "but not for ever"


def test_a_run_that_becomes_slow_is_ended_and_keeps_its_points(gym, monkeypatch):
    monkeypatch.setattr(live, "SECONDS", 0.2)

    def slower(settings: Fake, seed: int) -> Iterator[Step]:
        for done in range(1, 101):
            work(0.05 if done > 5 else 0)
            yield Step(done, 100, 1, 1.0, {"step": done})

    job = gym.start(replace(FAKE, run=slower), Fake(), 0)
    over(job)
    assert job.state == "refused" and live.TRIAL < job.done < 100 and len(job.points) == job.done
    assert job.error.key == "lab_too_slow" and job.error.values["done"] == job.done


def test_the_first_step_does_not_count(gym, monkeypatch):
    monkeypatch.setattr(live, "SECONDS", 1.0)

    def slow_start(settings: Fake, seed: int) -> Iterator[Step]:
        for done in range(1, 21):
            work(0.3 if done == 1 else 0)
            yield Step(done, 20, 1, 1.0)

    job = gym.start(replace(FAKE, run=slow_start), Fake(), 0)
    over(job)
    assert job.state == "done"


# -- several visitors --------------------------------------------------------------------------------------------------


def test_two_run_the_rest_waits_in_order(gym):
    jobs = [gym.start(FAKE, LONG, n) for n in range(5)]
    assert [gym.place(job) for job in jobs] == [0, 0, 1, 2, 3]
    assert [job.state for job in jobs[2:]] == ["waiting"] * 3
    jobs[3].ended.set()
    assert [gym.place(job) for job in jobs] == [0, 0, 1, 0, 2] and jobs[3].state == "stopped"
    jobs[0].ended.set()
    over(jobs[0])
    until(lambda: jobs[2].points)
    assert [gym.place(job) for job in jobs] == [0, 0, 0, 0, 1]


def test_a_full_queue_says_so(gym):
    gym.most_waiting = 3
    for _ in range(2 + 3):
        gym.start(FAKE, LONG, 0)
    with pytest.raises(UserError) as error:
        gym.start(FAKE, LONG, 0)
    assert error.value.key == "lab_full"


def test_two_get_a_fair_share(gym, monkeypatch):
    """Cores are dealt out equally, and one that shares is not told that it is slow."""
    monkeypatch.setattr(live.os, "cpu_count", lambda: 4)
    one = gym.start(FAKE, LONG, 0)
    until(lambda: one.points)
    assert one.points[-1]["threads"] == 4
    two = gym.start(FAKE, LONG, 0)
    until(lambda: len(two.points) > 20)
    mark = [one.done, two.done]
    assert one.points[-1]["threads"] == two.points[-1]["threads"] == 2
    until(lambda: two.done > mark[1] + 200)
    steps = [one.done - mark[0], two.done - mark[1]]
    assert 0.5 < steps[0] / steps[1] < 2
    assert two.alone < 0.75 * two.seconds, "half of its time, or less"


def test_whoever_pauses_holds_nobody_up(gym):
    one, two, three = (gym.start(FAKE, LONG, n) for n in range(3))
    until(lambda: one.points and two.points)
    one.pause()
    until(lambda: three.points)
    one.going.set()
    until(lambda: gym.place(one) == 1)
    there = one.done
    time.sleep(0.05)
    assert one.done == there, "two run already"
    two.ended.set()
    until(lambda: one.done > there)


def test_a_long_pause_gives_way(gym, monkeypatch):
    gym.most_alive = 2
    paused = [gym.start(FAKE, LONG, n) for n in range(2)]
    until(lambda: all(job.points for job in paused))
    for job in paused:
        job.pause()
    until(lambda: not gym.running)
    waits = gym.start(FAKE, Fake(), 0)
    assert gym.place(waits) == 1 and not any(job.over for job in paused), "not at once"
    monkeypatch.setattr(live, "PAUSE", 0.05)
    until(lambda: gym.place(waits) == 0)
    over(waits, paused[0])
    assert paused[0].error.key == "lab_gave_way" and paused[0].points and not paused[1].over


# -- what is left ------------------------------------------------------------------------------------------------------


def test_a_hundred_starts_and_stops_leave_nothing(gym):
    before = threading.active_count()
    for n in range(100):
        job = gym.start(FAKE, LONG, n)
        if n % 3 == 0:
            job.pause()
        if n % 2:
            until(lambda job=job: job.done or job.paused)
        job.ended.set()
    until(lambda: not gym.alive and not gym.queue)
    until(lambda: threading.active_count() <= before)
    assert not gym.running


TINY = ModelConfig.preset("clinic").with_(
    vocab_size=512, num_hidden_layers=2, num_attention_heads=2, num_nextn_predict_layers=0
)  # fmt: skip


def tiny_run(settings: Fake, seed: int) -> Iterator[Step]:
    """The project's own training step, on chance."""
    model = DeepseekV3(TINY).initialise(seed)
    train = TrainSettings(steps=settings.total, rows=8, length=32, mtp_loss=0.0)
    own = optimiser(model, train)
    ids = torch.randint(2, TINY.vocab_size, (8, 32), generator=torch.Generator().manual_seed(seed))
    for step in range(settings.total):
        row = take_step(model, own, ids, train, step)
        yield Step(step + 1, settings.total, ids.numel(), row["loss"], row)


REAL = Experiment("real", tiny_run, Fake(total=4), Fake(total=4), weights=lambda s: 10**5)


def test_memory_and_torch_stay_as_they_were(gym):
    """Many real runs, one after the other and two at a time."""
    torch.set_num_threads(1)
    memory = []
    for n in range(8):
        jobs = [gym.start(REAL, Fake(total=2), n), gym.start(REAL, Fake(total=2), n)]
        over(*jobs)
        assert all(job.state == "done" for job in jobs)
        assert [p["loss"] for p in jobs[0].points] == pytest.approx([p["loss"] for p in jobs[1].points], rel=1e-5)
        gc.collect()
        memory.append(psutil.Process().memory_info().rss)
    assert memory[-1] - memory[3] < 8 * 2**20
    assert torch.get_num_threads() == 1 and THREADS.get() is None and torch.is_grad_enabled()
    assert not [one for one in gc.get_objects() if type(one) is DeepseekV3 and one.c is TINY], "no model is left"


# -- the panel ---------------------------------------------------------------------------------------------------------


def page() -> None:
    """What a lab's page does."""
    import streamlit as st

    from pages.kit import live, state
    from tests.test_live import FAKE  # the script runs by itself

    state.begin()
    live.panel(FAKE, st.session_state["wanted"], lambda points: st.text(f"{len(points)} points"))
    state.publish()


@pytest.fixture
def screen(gym, monkeypatch):
    """A visitor in front of a panel."""
    monkeypatch.setattr(live, "gym", lambda: gym)

    def open_page(settings: Fake, lang: str = "en") -> AppTest:
        at = AppTest.from_function(page, default_timeout=30)
        at.query_params["lang"] = lang
        at.session_state["wanted"] = settings
        return at.run()

    return open_page


def press(at: AppTest, what: str) -> AppTest:
    return next(one for one in at.button if one.key == f"live.fake..{what}").click().run()


def told(at: AppTest) -> str:
    return " ".join(one.proto.text for one in at.get("progress"))


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_panel_from_start_to_stop(screen, gym, lang):
    def say(key: str, **values: object) -> str:
        return words.say(lang, f"live.{key}", **values)

    at = screen(LONG, lang)
    assert [b.label for b in at.button] == [say("start")] and at.text[0].value == "0 points"
    at = press(at, "start")
    job = gym.alive[0]
    until(lambda: job.state == "running")
    at = at.run()
    assert [b.label for b in at.button] == [say("pause"), say("stop")] and at.number_input[0].disabled
    assert int(at.text[0].value.split()[0]) > 0
    at = press(at, "pause")
    until(lambda: job not in gym.running)
    at = at.run()
    assert told(at) == say("paused", done=job.done, total=job.total)
    assert [b.label for b in at.button] == [say("go_on"), say("stop")]
    at = press(press(at, "go"), "stop")
    over(job)
    at = at.run()
    assert told(at) == say("stopped", done=job.done, total=job.total) and [b.label for b in at.button] == [say("again")]
    assert not at.exception and not at.error


def test_the_seed_goes_into_the_link_and_into_the_run(screen, gym):
    at = screen(Fake())
    at = at.number_input[0].set_value(42).run()
    assert at.query_params["seed"] == "42" or at.query_params["seed"] == ["42"]
    at = press(at, "start")
    job = at.session_state["live.fake."]
    over(job)
    at = at.run()
    assert job.seed == 42 and "42" in told(at)
    at = at.number_input[0].set_value(43).run()
    assert words.say("en", "live.other") in [one.value for one in at.caption]


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("settings,key", [
    (Fake(million=1000), "lab_too_large"), (Fake(total=5, nan_at=4), "lab_diverged"), (Fake(fails=True), "unknown"),
])  # fmt: skip
def test_the_panel_says_what_is_wrong(screen, settings, key, lang, caplog):
    at = press(screen(settings, lang), "start")
    begun = "live.fake." in at.session_state
    job = at.session_state["live.fake."] if begun else None
    if job is not None:
        over(job)
    at = at.run()
    error = job.error if job is not None else at.session_state["live.fake..error"]
    assert error.key == key and not at.exception
    assert [one.value.replace("\\", "") for one in at.error] == [words.say(lang, f"error.{key}", **error.values)]
    assert at.text[0].value == ("3 points" if key == "lab_diverged" else "0 points"), "earlier points are kept"
    assert [b.label for b in at.button] == [words.say(lang, "live.start" if job is None else "live.again")]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_after_a_refusal_nothing_of_the_trial_is_drawn(screen, monkeypatch, lang):
    monkeypatch.setattr(live, "SECONDS", 0.5)
    settings = Fake(total=1000, work=0.02)
    at = press(screen(settings, lang), "start")
    job = at.session_state["live.fake."]
    over(job)
    at = at.run()
    assert [one.value.replace("\\", "") for one in at.error] == [
        words.say(lang, "error.lab_too_long", seconds=job.error.values["seconds"], limit=0.5, done=live.TRIAL)
    ]
    assert str(live.TRIAL) in at.error[0].value and at.text[0].value == "0 points"
    assert words.say(lang, "live.kept") not in [one.value for one in at.caption]


def test_the_queue_is_shown(screen, gym, monkeypatch):
    for limit in ("SECONDS", "UNSEEN"):  # on a slow machine the others would have ended before the page stands
        monkeypatch.setattr(live, limit, 10**6)
    others = [gym.start(FAKE, LONG, n) for n in range(3)]
    at = press(screen(LONG), "start")
    at = at.run()
    assert told(at) == words.say("en", "live.waiting", place=2)
    for other in others:
        other.ended.set()
    over(*others)
    job = at.session_state["live.fake."]
    until(lambda: job.points)
    assert words.say("en", "live.waiting", place=2) != told(at.run())


def test_clicking_start_twice_starts_once(screen, gym, monkeypatch):
    monkeypatch.setattr(live, "SECONDS", 10**6)  # a slow machine is no reason to refuse it here
    at = screen(LONG)
    button = next(one for one in at.button if one.key == "live.fake..start")
    button.click().run()
    button.click().run()
    assert len(gym.alive) == 1 and not gym.queue
