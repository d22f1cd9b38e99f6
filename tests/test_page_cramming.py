"""The page of cramming: its numbers against the recorded file, computed another way, and what a person does on it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import screens
from screens import LANGUAGES, fine, floats, prose, shown, skip
from streamlit.testing.v1 import AppTest

from model import labs
from model.labs import cramming as lab
from model.labs._spread import apart
from pages.kit import chapter, state, words

ROOT = Path(__file__).resolve().parents[1]
PAGE = "pages/cramming.py"
RECORD = json.loads((ROOT / "assets" / "labs" / "cramming.json").read_text("utf-8"))
TINY = lab.CrammingSettings(steps=2, rows=8, papers=1, marks=1)


def open_page(lang: str = "en", **query: object) -> AppTest:
    return screens.open_page(PAGE, lang, **query)


def scores(size: int, arm: str, what: str) -> np.ndarray:
    """(seeds, exams), straight from the file."""
    return np.array([[p[what] for p in run["points"] if (p["questions"], p["arm"]) == (size, arm)] for run in RECORD["runs"]])


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
def test_every_depth(lang, depth):
    at = open_page(lang, depth=depth)
    assert fine(at) and at.title[0].value == words.say(lang, "cramming.title")
    assert "cramming.crammed.curves_moe" not in shown(at), "hidden until answered"
    at = skip(at)
    assert fine(at) and bool(at.latex) == (depth == "maths") and bool(at.code) == (depth == "code")
    assert not any("@" in one.value for one in at.latex)
    assert {"cramming.exam.sample", "cramming.crammed.curves_moe", "cramming.crammed.curves_dense",
            "cramming.banks.banks"} <= set(shown(at))  # fmt: skip


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("size", lab.BANKS)
def test_numbers(lang, size):
    """What is said and drawn of a bank, from the file."""
    at = skip(open_page(lang, bank=size))
    said, made = prose(at), shown(at)
    for arm in lab.ARMS:
        plate = made[f"curves_{arm}"]
        for what, series in zip(("bank", "new"), plate["series"], strict=True):
            one = scores(size, arm, what)
            assert floats(series["values"]) == pytest.approx(one.mean(0), abs=1e-6)
            assert floats(series["low"]) == pytest.approx(one.min(0), abs=1e-6)
            assert floats(series["high"]) == pytest.approx(one.max(0), abs=1e-6)
            assert percent(one[:, -1].mean()) in plate["note"] and percent(one[:, -1].mean()) in said
            assert f"{scores(size, arm, f'{what}_loss')[:, -1].mean():.2f}" in said
        gap = (scores(size, arm, "bank") - scores(size, arm, "new"))[:, -1]
        assert f"{100 * gap.mean():.1f}{' 个百分点' if lang == 'zh' else ' percentage points'}" in said
        assert all(f"{100 * one:.1f}" in said for one in (gap.min(), gap.max()))
    times = lab.EXPERIMENT.recorded.steps * lab.EXPERIMENT.recorded.rows / size
    assert f"{times:,.0f}" in said
    bars = made["banks"]
    ends = [scores(n, arm, "new")[:, -1] for n in lab.BANKS for arm in lab.ARMS]
    assert bars["values_list"] == pytest.approx([one.mean() for one in ends])
    assert bars["low_list"] == pytest.approx([one.min() for one in ends])
    assert bars["before_list"] == pytest.approx([scores(n, arm, "bank")[:, -1].mean() for n in lab.BANKS for arm in lab.ARMS])


def test_what_the_words_say_of_banks_is_so():
    """"With few questions it pays to learn them by heart; with many, the rule": in every run of both."""
    for arm in lab.ARMS:
        few, many = (scores(size, arm, "new")[:, -1] for size in (lab.BANKS[0], lab.BANKS[-1]))
        assert few.max() < 0.1 and many.min() > 0.7
        assert scores(lab.BANKS[1], arm, "bank")[:, -1].min() > 0.9 and scores(lab.BANKS[1], arm, "new")[:, -1].max() < 0.3


def winner(size: int, what: str) -> str:
    """Which of the two lies above the other in every pair of runs."""
    ends = {arm: (scores(size, arm, "bank") - scores(size, arm, "new") if what == "gap" else scores(size, arm, what))[:, -1]
            for arm in lab.ARMS}  # fmt: skip
    for one, other in (("moe", "dense"), ("dense", "moe")):
        if all(a > b for a in ends[one] for b in ends[other]):
            return one
    return "none"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_verdict_is_computed(lang):
    at = skip(open_page(lang))
    said, talk = prose(at), 800
    for other in ("moe", "dense", "none"):
        values = ("size", "steps", "seeds", *(f"{arm}_{what}" for arm in lab.ARMS for what in ("bank", "new", "low", "high")))
        start = words.say(lang, f"cramming.verdict.{other}", **dict.fromkeys(values, "§")).split("§")
        assert all(part in said for part in start) == (other == winner(talk, "new"))
    cost = winner(talk, "new_loss")
    assert [words.say(lang, f"cramming.cost.{one}", size="800", seeds=3, **{
        arm: f"{scores(talk, arm, 'new_loss')[:, -1].mean():.2f}" for arm in lab.ARMS
    }) in said for one in ("moe", "dense", "none")] == [one == cost for one in ("moe", "dense", "none")]  # fmt: skip
    assert all(lab.verdict(RECORD["runs"], size, what) == winner(size, what) for size in lab.BANKS for what in ("new", "gap"))


@pytest.mark.parametrize("guess", ["moe", "dense", "none"])
def test_the_question(guess):
    at = open_page()
    next(b for b in at.button if b.label.replace("\\", "") == words.say("en", f"cramming.who.{guess}")).click().run()
    assert fine(at) and words.say("en", "chapter.right" if guess == winner(800, "new") else "chapter.wrong") in prose(at)


def test_another_bank_is_in_the_link_and_in_the_pictures():
    at = skip(open_page())
    before = shown(at)["curves_moe"]["series"][1]["values"]
    at.button_group(key="bank_switch").set_value(6400).run()
    assert fine(at) and at.query_params["bank"] in ("6400", ["6400"])
    assert shown(at)["curves_moe"]["series"][1]["values"] != before


@pytest.mark.parametrize("query", [{"bank": "7"}, {"bank": "x"}, {"bank": "-1"}, {"seed": "9999"}])
def test_odd_links(query):
    at = skip(open_page(**query))
    assert fine(at) and "800" in shown(at)["curves_moe"]["title"]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_questions_on_screen_are_of_the_exam(lang):
    plate = shown(open_page(lang))["sample"]
    texts = {question.text.strip(): question for question in lab.questions()}
    for label, (read, _) in zip(plate["labels"], plate["cells"], strict=True):
        assert all(words.say(lang, f"cramming.word.{word}") in label for word in texts[read].words)
    assert len({words.say(lang, f"cramming.word.{word}") for column in lab.COLUMNS for word in column}) == 47


def test_a_live_run_to_its_end(monkeypatch):
    monkeypatch.setattr(lab, "EXPERIMENT", replace(lab.EXPERIMENT, live=TINY))
    at = open_page(bank=100)
    next(b for b in at.button if b.label == words.say("en", "live.start")).click().run()
    until = time.monotonic() + 60
    while "cramming.live.curves_dense" not in shown(at) and time.monotonic() < until:
        time.sleep(0.2)
        at.run()
    assert fine(at)
    assert [p.point for p in lab.run(replace(TINY, questions=(100,)), 0) if p.point][1]["bank_loss"] > 0
    assert "100" in shown(at)["cramming.live.curves_dense"]["title"]


def test_no_record(monkeypatch):
    """A record that is missing is said, not thrown."""
    labs.recorded.cache_clear()
    monkeypatch.setattr(labs, "RECORDED", ROOT / "nowhere")
    at = open_page()
    labs.recorded.cache_clear()
    assert not at.exception and len(at.error) == 1
    assert any(str(b.key).endswith(".start") for b in at.button), "trained here and now it can be all the same"


def test_percent_is_written_as_the_page_writes_it():
    assert chapter.percent(0.1234) == percent(0.1234)


def test_what_is_said_of_the_rare_disease_is_so():
    """A bend of this page says that there the runs with and without the crowding board overlap."""
    file = labs.recorded("queues")
    arms = [kind for kind, _ in file["settings"]["arms"]]

    def ends(kind: str) -> list[float]:
        return [run["points"][-1]["arms"][arms.index(kind)]["rare"]["loss"] for run in file["runs"]]

    assert apart(ends("bias"), ends("none")) == 0
