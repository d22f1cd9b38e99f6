"""Memory that visitors' runs share: what does not fit waits or is told so, and all of it comes back."""

from __future__ import annotations

import threading

import pytest
import test_live
from test_live import FAKE, LONG, Fake, over, until

from model import UserError, parallel
from pages.kit import budget, fleet, live
from pages.kit.budget import Budget

gym = test_live.gym  # the fixture


def test_take_and_give():
    purse = Budget(100)
    assert purse.take(60) and not purse.take(41) and purse.left == 40
    assert purse.take(40) and purse.left == 0
    purse.give(60)
    assert purse.take(60)


def test_what_is_free_is_a_part_of_this_machine():
    import psutil

    assert 0 < budget.free() <= psutil.virtual_memory().total


def test_a_run_waits_until_another_gives_its_memory_back(gym, monkeypatch):
    purse = Budget(int(1.5 * FAKE.bytes(LONG)))
    monkeypatch.setattr(budget, "shared", lambda: purse)
    first, second = gym.start(FAKE, LONG, 0), gym.start(FAKE, LONG, 1)
    until(lambda: first.points)
    assert second.state == "waiting" and gym.place(second) == 1, "there is a place, but no memory"
    first.ended.set()
    until(lambda: gym.place(second) == 0 and second.points)
    second.ended.set()
    over(first, second)
    until(lambda: purse.left == purse.most)


def test_a_run_that_never_fits_is_refused(gym, monkeypatch):
    monkeypatch.setattr(budget, "shared", lambda: Budget(FAKE.bytes(LONG) - 1))
    with pytest.raises(UserError) as error:
        gym.start(FAKE, LONG, 0)
    assert error.value.key == "lab_too_large" and not gym.queue


@pytest.mark.parametrize("settings", [Fake(total=5), Fake(fails=True), Fake(nan_at=2), LONG], ids=["done", "fails", "diverges", "stopped"])
def test_however_a_run_ends_its_memory_comes_back(gym, monkeypatch, settings):
    purse = Budget(10**10)
    monkeypatch.setattr(budget, "shared", lambda: purse)
    job = gym.start(FAKE, settings, 0)
    if settings is LONG:
        until(lambda: job.points)
        job.ended.set()
    over(job)
    until(lambda: purse.left == purse.most)


def test_a_thread_that_cannot_be_had_leaves_nothing_behind(gym, monkeypatch):
    purse = Budget(10**10)
    monkeypatch.setattr(budget, "shared", lambda: purse)

    def none(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", none)
        job = gym.start(FAKE, LONG, 0)
    assert job.over and job.error is not None and job.error.key == "lab_full"
    assert not gym.running and not gym.alive and not gym.queue and purse.left == purse.most
    again = gym.start(FAKE, Fake(total=3), 0)
    over(again)
    assert again.state == "done"


def test_ambulances_take_of_the_same_memory(monkeypatch, clinic_folder):
    from model import ModelConfig

    c = ModelConfig.from_json(clinic_folder / "config.json")
    purse = Budget(parallel.bytes_needed(2, c) - 1)
    monkeypatch.setattr(budget, "shared", lambda: purse)
    with pytest.raises(UserError) as error:
        fleet.Fleet().start([[0, 5, 6]], 2, str(clinic_folder), c)
    assert error.value.key == "parallel_memory" and purse.left == purse.most


def test_ambulances_give_it_back(monkeypatch, clinic_folder):
    from model import ModelConfig

    c = ModelConfig.from_json(clinic_folder / "config.json")
    purse = Budget(10**10)
    monkeypatch.setattr(budget, "shared", lambda: purse)
    monkeypatch.setattr(parallel, "run", lambda *a, **k: (_ for _ in ()).throw(parallel.Stopped()))
    road = fleet.Fleet()
    trip = road.start([[0, 5, 6]], 2, str(clinic_folder), c)
    until(lambda: trip.over)
    assert trip.state == "stopped" and purse.left == purse.most and road.out is None
    monkeypatch.setattr(threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError()))
    with pytest.raises(RuntimeError):
        road.start([[0, 5, 6]], 2, str(clinic_folder), c)
    assert purse.left == purse.most and road.out is None


def test_both_have_words():
    from pages.kit import words

    for lang in words.languages():
        assert words.say(lang, "error.parallel_memory", need=300.0, left=100.0)
        assert words.say(lang, "error.lab_full")


def test_the_gym_asks_for_no_more_than_its_own_limit():
    assert live.BYTES <= 400 * 2**20
