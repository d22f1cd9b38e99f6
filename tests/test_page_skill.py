"""The page of a new skill: its numbers against the recorded file, computed another way, and what a person does on it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import screens
from screens import LANGUAGES, fine, floats, prose, shown, skip, values
from streamlit.testing.v1 import AppTest

from model import labs
from model.labs import skill as lab
from pages.kit import state, words
from pages.kit.figures import skill

ROOT = Path(__file__).resolve().parents[1]
PAGE = "pages/skill.py"
RUNS = json.loads((ROOT / "assets" / "labs" / "skill.json").read_text("utf-8"))["runs"]


def open_page(lang: str = "en", **query: object) -> AppTest:
    return screens.open_page(PAGE, lang, **query)


def path(run: dict, arm: str, what: str) -> list[float]:
    """An arm's losses from its start on, straight from the file."""
    begin = next(p for p in run["points"] if p["part"] == "start")["dense" if arm == "dense" else "moe"][what]
    return [begin, *(p[what] for p in run["points"] if p["part"] == "skill" and p["arm"] == arm)]


def change(arm: str, what: str) -> np.ndarray:
    """What every run gained on the new, or lost of the old, by its last lesson."""
    ends = [(path(run, arm, what)[0], path(run, arm, what)[-1]) for run in RUNS]
    return np.array([first - last if what == "new" else last - first for first, last in ends])


def winner(first: np.ndarray, second: np.ndarray) -> int:
    """In the digits that are shown."""
    first, second = np.round(first, 2), np.round(second, 2)
    if all(a > b for a in first for b in second):
        return 1
    return -1 if all(a < b for a in first for b in second) else 0


def nats(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def ranged(several: np.ndarray) -> str:
    return f"{nats(several.mean())} ({nats(several.min())} to {nats(several.max())})"


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
def test_every_depth(lang, depth):
    at = open_page(lang, depth=depth)
    assert fine(at) and at.title[0].value == words.say(lang, "skill.title")
    assert "skill.lessons.curves_new" not in shown(at), "hidden until answered"
    at = skip(at)
    assert fine(at) and bool(at.latex) == (depth == "maths") and bool(at.code) == (depth == "code")
    assert not any("@" in one.value for one in at.latex)
    assert {"school", "curves_new", "curves_old", "price", "table", "awake"} <= set(shown(at))


@pytest.mark.parametrize("lang", LANGUAGES)
def test_numbers(lang):
    at = skip(open_page(lang))
    said, made = prose(at), shown(at)
    for what in ("new", "old"):
        for arm, series in zip(lab.ARMS, made[f"skill.lessons.curves_{what}"]["series"], strict=True):
            rows = np.array([path(run, arm, what) for run in RUNS])
            assert floats(series["values"]) == pytest.approx(rows.mean(0), rel=1e-5)
            assert floats(series["low"]) == pytest.approx(rows.min(0), rel=1e-5)
            assert floats(series["high"]) == pytest.approx(rows.max(0), rel=1e-5)
            row = made["table"]["cells"][lab.ARMS.index(arm)][1 if what == "new" else 2]
            ends = change(arm, what)
            assert all(nats(one) in row for one in (ends.mean(), ends.min(), ends.max()))
        for arm in ("moe", "dense"):
            ends = change(arm, what)
            assert all(nats(one) in said for one in (ends.mean(), ends.min(), ends.max()))
            begin = np.mean([path(run, arm, what)[0] for run in RUNS])
            assert nats(begin) in said and nats(begin) in made["school"]["note"]


def lost_at(run: dict, arm: str, gain: float) -> float:
    """By numpy, on the part of the way that goes up to its first crossing."""
    new, old = path(run, arm, "new"), path(run, arm, "old")
    gained, lost = [new[0] - x for x in new], [x - old[0] for x in old]
    end = next(i for i, one in enumerate(gained) if one >= gain - 1e-9)
    return float(np.interp(gain, gained[end - 1 : end + 1], lost[end - 1 : end + 1]))


def test_the_price_of_an_equal_gain():
    gain = min(max(path(run, arm, "new")[0] - x for x in path(run, arm, "new")) for run in RUNS for arm in lab.ARMS)
    assert lab.common_gain(RUNS) == pytest.approx(gain) and gain > 0
    at = skip(open_page())
    plate, said = shown(at)["price"], prose(at)
    lost = {skill.ROLES[arm]: [lost_at(run, arm, gain) for run in RUNS] for arm in lab.ARMS}
    for role, middle, low, high in zip(plate["roles"], plate["values_list"], plate["low_list"], plate["high_list"], strict=True):
        assert (middle, low, high) == pytest.approx((np.mean(lost[role]), min(lost[role]), max(lost[role])), abs=1e-6)
        assert nats(np.mean(lost[role])) in said
    assert nats(gain) in plate["title"] and plate["values_list"] == sorted(plate["values_list"])
    for first, second in skill.PAIRS:
        a, b = (np.array(lost[skill.ROLES[arm]]) for arm in (first, second))
        less = {1: second, -1: first, 0: "none"}[winner(a, b)]
        assert skill.cheaper(RUNS, first, second) == less
        if less == second:
            first, second, a, b = second, first, b, a
        key = "skill.cheaper.none" if less == "none" else "skill.cheaper.less"
        assert words.say("en", key, first=words.say("en", f"skill.arm.{first}"), second=words.say("en", f"skill.arm.{second}"),
                         first_nats=ranged(a), second_nats=ranged(b), seeds=len(RUNS)) in said  # fmt: skip


def test_verdicts_are_computed():
    gained = {1: "moe", -1: "dense", 0: "none"}[winner(change("moe", "new"), change("dense", "new"))]
    lost = {1: "moe", -1: "dense", 0: "none"}[winner(change("moe", "old"), change("dense", "old"))]
    assert skill.verdict(RUNS, "moe", "dense", "gained") == gained
    assert skill.verdict(RUNS, "moe", "dense", "lost") == lost
    at = open_page()
    next(b for b in at.button if b.label.replace("\\", "") == words.say("en", f"skill.learns.{gained}")).click().run()
    assert fine(at) and words.say("en", "chapter.right") in prose(at)


def test_who_is_woken():
    at = open_page()
    plate, start = shown(at)["awake"], next(p for p in RUNS[0]["points"] if p["part"] == "start")
    calls = np.array(start["calls"], float)
    shares = calls / calls.sum(1, keepdims=True)
    assert values(plate).reshape(calls.shape) == pytest.approx(shares, abs=1e-6)
    for row, woken in zip(shares, start["awake"], strict=True):
        assert row[woken].sum() >= lab.EXPERIMENT.recorded.share > row[woken].sum() - row[woken].min()
    assert f"{start['taught']['awake']:,}" in prose(at)


@pytest.mark.parametrize("link,arms", [
    ("interns", ("interns",)), ("awake.dense", ("dense", "awake")), ("nobody", skill.LIVE_ARMS), ("", skill.LIVE_ARMS), (None, skill.LIVE_ARMS),
])  # fmt: skip
def test_who_is_taught_is_in_the_link(link, arms):
    assert skill.chosen_arms(link) == arms
    at = open_page(**({} if link is None else {"arms": link}))
    assert fine(at) and tuple(at.session_state["arms_switch"]) == arms


def test_choosing_changes_the_link():
    at = open_page()
    at.button_group(key="arms_switch").set_value(["interns", "dense"]).run()
    assert fine(at) and at.query_params["arms"] in ("dense.interns", ["dense.interns"])


def test_a_live_run_to_its_end(monkeypatch):
    """From the kept miniatures, with the arms of the link."""
    tiny = lab.SkillSettings(steps=2, rows=2, length=16, texts=1, other_texts=1, marks=(2,))
    monkeypatch.setattr(lab, "EXPERIMENT", replace(lab.EXPERIMENT, live=tiny))
    at = open_page(arms="dense.awake")
    next(b for b in at.button if b.label == words.say("en", "live.start")).click().run()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        plate = shown(at).get("skill.live.curves_new")
        if plate and plate["axes"][0]["count"] == 2 and all(np.isfinite(floats(s["values"])).all() for s in plate["series"]):
            break
        time.sleep(0.2)
        at.run()
    assert fine(at) and [s["label"] for s in plate["series"]] == [words.say("en", f"skill.arm.{arm}") for arm in ("dense", "awake")]
    wanted = [step.point for step in lab.run(replace(tiny, arms=("dense", "awake")), 0) if step.point]
    drawn = [float(floats(s["values"])[-1]) for s in plate["series"]]
    assert drawn == pytest.approx([p["new"] for p in wanted[1:]], rel=1e-4)


def test_without_its_record_the_page_says_so_and_still_trains(monkeypatch, tmp_path):
    labs.recorded.cache_clear()
    monkeypatch.setattr(labs, "RECORDED", tmp_path)
    at = open_page()
    labs.recorded.cache_clear()
    assert not at.exception and len(at.error) == 1
    assert any(str(b.key).endswith(".start") for b in at.button), "trained here and now it can be all the same"
