"""The timetable: its counts and guesses against slow ones, what is recorded against a new run, and the page."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import screens
import torch
from screens import LANGUAGES, fine, floats, prose, shown, skip, values
from streamlit.testing.v1 import AppTest

from model import labs
from model.corpus import SUBJECTS
from model.deepseek_v3 import DeepseekV3
from model.labs import timetable as lab
from model.tokenizer import Tokenizer
from pages.kit import chapter, state, words
from pages.kit.figures import timetable as figures

PAGE = "pages/timetable.py"
TINY = lab.Settings(steps=3, rows=2, length=32, documents=1, points=2)


@pytest.fixture(scope="module")
def file() -> dict:
    return labs.recorded("timetable")


@pytest.fixture
def app(monkeypatch, clinic_folder):
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))
    return lambda lang="en", **query: screens.open_page(PAGE, lang, **query)


# -- counting ----------------------------------------------------------------------------------------------------------


def test_counts_are_what_counting_one_by_one_gives():
    dice = np.random.default_rng(1)
    label, chosen = dice.integers(0, 3, 40), dice.integers(0, 5, (40, 2, 2))
    found = lab.counts(label, chosen, 3, 5)
    one_by_one = Counter((m, label[n], chosen[n, m, j]) for n in range(40) for m in range(2) for j in range(2))
    assert found.shape == (2, 3, 5)
    assert all(found[at] == one_by_one[at] for at in itertools.product(range(2), range(3), range(5)))


def test_a_guess_is_made_on_one_half_and_judged_on_the_other():
    """Label 0 always calls 0 and 1, label 1 calls 2 and 3, but for one token of the half that is judged."""
    label = np.array([0, 0, 1, 1, 0, 1])
    chosen = np.array([[0, 1], [1, 0], [2, 3], [3, 2], [0, 1], [3, 4]])[:, None]
    fit = np.array([True, True, True, True, False, False])
    even = np.full((6, 1, 5), 1 / 5)
    right, expected = lab.guessed(label, chosen, fit, even)
    assert right == pytest.approx([(2 + 1) / 4])
    assert expected[0, 0] == pytest.approx((np.array([2, 2, 0, 0, 0]) + 1 / 5) / 5)


def test_a_label_that_was_not_seen_falls_back_on_what_is_usual():
    label, chosen = np.array([0, 7]), np.array([[[0, 1]], [[3, 4]]])
    usual = np.tile([0.1, 0.1, 0.1, 0.3, 0.4], (2, 1, 1))
    right, _ = lab.guessed(label, chosen, np.array([True, False]), usual)
    assert right == pytest.approx([1.0])


def test_a_label_with_many_values_wins_nothing_by_chance():
    """Interns by lot: whoever is told a number of its own for every token guesses no better than anybody else."""
    dice = np.random.default_rng(3)
    chosen = np.stack([dice.permutation(32)[:4] for _ in range(3000)])[:, None]
    even, fit = np.full((3000, 1, 32), 1 / 32), np.arange(3000) % 2 == 0
    for many in (2, 1500):
        assert lab.guessed(dice.integers(0, many, 3000), chosen, fit, even)[0][0] == pytest.approx(4 / 32, abs=0.02)


def test_spread_and_commonest():
    assert lab.spread(np.array([[5.0, 5, 0, 0], [1, 1, 1, 1]])) == pytest.approx([2, 4])
    shares = lab.largest(np.array([[3.0, 0, 0], [1, 2, 0]]))
    assert shares[:2] == pytest.approx([0.75, 1.0]) and math.isnan(shares[2])


def test_every_token_is_seen_once_and_by_k_interns():
    model, tokenizer = DeepseekV3(TINY.config).initialise(0), Tokenizer.load()
    texts, documents = lab.texts_and_labels(TINY, tokenizer)
    seen = lab.observe(model, texts)
    assert {d.source for d in documents} == {"own"} and {d.subject for d in documents} == set(SUBJECTS)
    assert sorted(zip(seen.document.tolist(), seen.word.tolist(), strict=True)) == sorted(
        (number, id) for number, ids in enumerate(texts) for id in ids[:-1]
    )
    alone = model(torch.tensor([texts[3][:-1]]))[2]
    for m, routing in enumerate(alone):
        assert (np.sort(seen.chosen[seen.document == 3][:, m]) == routing.chosen.sort(-1).values.numpy()).all()


def test_who_is_called_gets_a_gradient_and_nobody_else():
    model = DeepseekV3(TINY.config).initialise(0)
    ids = torch.randint(2, 4000, (2, 12), generator=torch.Generator().manual_seed(1))
    states, _, routings = model(ids)
    model.lm_head(states).logsumexp(-1).sum().backward()
    got = lab.received(model)
    for m, routing in enumerate(routings):
        assert got[m].nonzero()[:, 0].tolist() == sorted(set(routing.chosen.flatten().tolist()))


def test_moments_begin_before_training_and_end_with_it():
    for settings in (TINY, lab.EXPERIMENT.live, lab.EXPERIMENT.recorded):
        due = lab.due(settings)
        assert due[0] == 0 and due[-1] == settings.steps and due == sorted(set(due))


# -- what is recorded --------------------------------------------------------------------------------------------------


def test_the_recorded_run_comes_out_again(file, monkeypatch):
    """The untrained model's count, and everything up to the first count after training began."""
    monkeypatch.setattr(lab, "SHUFFLES", 2)  # what is compared below needs none
    first, second = file["runs"][0]["points"][:2]
    pairs = labs.replay("timetable", second["step"])
    assert len(pairs) == 2
    for then, now in pairs:
        visits = np.array(then["visits"]), np.array(now["visits"])
        moved = np.abs(visits[0] - visits[1]).sum() / 2 / visits[0].sum()
        assert moved < (0.001 if then["step"] == 0 else 0.05)
        assert now["nmi_subject"] == pytest.approx(then["nmi_subject"], abs=0.005)
        assert now["right"]["word"] == pytest.approx(then["right"]["word"], abs=0.02)
    assert pairs[0][0] == first and pairs[1][1]["loss"] == pytest.approx(second["loss"], rel=0.01)


def test_the_file_says_how_it_was_made(file):
    assert file["command"] == "python -m model lab timetable" and file["commit"] != "unknown"
    assert [run["seed"] for run in file["runs"]] == [0, 1, 2]
    assert file["settings"] == dataclasses.asdict(lab.EXPERIMENT.recorded)
    for run in file["runs"]:
        assert [point["step"] for point in run["points"]] == lab.due(lab.EXPERIMENT.recorded)
        totals = {tuple(np.array(point["visits"]).sum(-1).ravel()) for point in run["points"]}
        assert len(totals) == 1, "the same texts are counted every time"


def test_a_run_counts_before_it_learns():
    steps = list(lab.EXPERIMENT.steps(TINY, 0))
    assert [step.done for step in steps] == [1, 2, 3] and [s.point is not None for s in steps] == [True, False, True]
    first, last = steps[0].point, steps[2].point
    assert first["step"] == 0 and first["trained_least"] is None
    assert last["step"] == 3 and 0 < last["trained_least"] <= last["trained_mean"] <= last["trained_all"] <= 96
    assert json.loads(json.dumps(last)) == last
    untrained = lab.observe(DeepseekV3(TINY.config).initialise(0), lab.texts_and_labels(TINY, Tokenizer.load())[0])
    assert np.array(first["visits"]).sum() == untrained.chosen.size


# -- the page ----------------------------------------------------------------------------------------------------------


def opened(at: AppTest, lang: str) -> AppTest:
    return skip(at) if any(b.label == words.say(lang, "chapter.show_me") for b in at.button) else at


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
def test_every_depth(app, lang, depth):
    at = app(lang, depth=depth)
    assert fine(at) and "timetable.visits.grid" not in shown(at) and "timetable.word.guesses" not in shown(at)
    at = opened(at, lang)
    assert fine(at) and {"timetable.visits.grid", "timetable.word.guesses", "timetable.chance.informed"} <= set(shown(at))
    assert bool(at.latex) == (depth == "maths") and bool(at.code) == (depth == "code")
    assert not any("@" in one.value for one in at.latex)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_numbers_in_the_sentences(app, file, lang):
    at = opened(app(lang, floor="3", subject="2", moment="4"), lang)
    plates, said, points = shown(at), prose(at), [run["points"] for run in file["runs"]]
    row = points[0][4]["visits"][1][2]
    shares = [n / sum(row) for n in row]
    assert values(plates["share"]) == pytest.approx(shares, abs=1e-6)
    assert f"{max(shares):.1%}" in plates["grid"]["note"] and f"**{row.index(max(row))}**" in plates["grid"]["note"]
    effective = math.exp(-sum(p * math.log(p) for p in shares if p))
    assert f"{effective:.1f}" in said and f"{effective:.1f}" in plates["share"]["note"]
    for told in lab.TOLD:
        mean = sum(run[4]["right"][told][1] for run in points) / 3
        assert f"{mean:.1%}" in said
        assert plates["guesses"]["values_list"][lab.TOLD.index(told)] == pytest.approx(mean, abs=1e-6)
    for name in ("nmi_subject", "nmi_subject_chance"):
        for moment in (0, -1):
            assert chapter.number(sum(run[moment][name][1] for run in points) / 3) in plates["informed"]["note"]
    parts = []
    for run in points:
        visits = run[-1]["visits"][1]
        parts.append(np.mean([max(column) / sum(column) for column in zip(*visits, strict=True)]))
    assert f"{sum(parts) / 3:.1%}" in said
    fewest = min(point["trained_least"] for run in points for point in run[1:])
    assert f"{fewest}" in plates["trained"]["note"]
    assert words.say(lang, f"timetable.verdict.{_verdict(points, 4, 1)}", seeds=3) in said


def _verdict(points: list, moment: int, layer: int) -> str:
    word, subject = ([run[moment]["right"][told][layer] for run in points] for told in ("word", "subject"))
    return "word" if min(word) > max(subject) else "subject" if max(word) < min(subject) else "open"


def test_the_band_is_the_spread_of_the_seeds(app, file):
    line = shown(opened(app(), "en"))["informed"]["series"][0]
    found = np.array([[point["nmi_subject"][-1] for point in run["points"]] for run in file["runs"]])
    for what, value in (("values", found.mean(0)), ("low", found.min(0)), ("high", found.max(0))):
        assert floats(line[what]) == pytest.approx(value, abs=1e-6)


def test_controls_change_what_they_should(app, file):
    rows = {}
    for query in ({}, {"subject": "5"}, {"floor": "2"}, {"moment": "0"}):
        plates = shown(opened(app(**query), "en"))
        rows[str(query)] = tuple(values(plates["share"])), tuple(values(plates["grid"])), tuple(plates["guesses"]["values_list"])
    usual, other, floor, moment = rows.values()
    assert usual[0] != other[0] and usual[1:] == other[1:], "another subject: the same grid, another row of it"
    assert all(a != b for a, b in zip(usual, floor, strict=True)) and all(a != b for a, b in zip(usual, moment, strict=True))


@pytest.mark.parametrize("query", [{"subject": "99", "moment": "99", "floor": "61"}, {"floor": "1"}, {"subject": "x"}])
def test_what_is_not_there_is_the_nearest(app, query):
    at = opened(app("zh", **query), "zh")
    assert fine(at) and np.isfinite(values(shown(at)["grid"])).all()


def test_the_question_is_judged_by_the_runs(app, file):
    at = app()
    mean = figures.commonest(_counted(file, layer=-1)).middle
    right = "all" if mean >= 0.75 else "little" if mean <= 0.33 else "half"
    next(b for b in at.button if b.label == words.say("en", f"timetable.own.{right}")).click().run()
    assert words.say("en", "chapter.right") in prose(at)


def _counted(file: dict, layer: int) -> figures.Counted:
    return figures.Counted([run["points"] for run in file["runs"]], lab.EXPERIMENT.recorded.config, layer, 0, 9)


def test_without_a_recording_the_page_says_so(app, monkeypatch, tmp_path):
    labs.recorded.cache_clear()
    monkeypatch.setattr(labs, "RECORDED", Path(tmp_path))
    try:
        at = app("zh")
        assert not at.exception and words.say("zh", "error.lab_missing") in at.error[0].value.replace("\\", "")
        assert any(str(b.key).endswith(".start") for b in at.button), "trained here and now it can be all the same"
    finally:
        labs.recorded.cache_clear()


def test_a_run_under_way_is_drawn_from_its_first_point(file):
    for points in (file["runs"][0]["points"][:1], file["runs"][0]["points"][:3]):
        now = figures.Counted([points], lab.EXPERIMENT.live.config, 2, 0, len(points) - 1)
        plates = [figures.grid(now), figures.informed(now), figures.guesses(now)]
        assert words.say("en", "timetable.guesses.alone", seeds=1) == plates[2]["note"] and "1 run" in plates[1]["note"]
        assert values(plates[0]).reshape(len(SUBJECTS), -1).sum(1) == pytest.approx(np.ones(len(SUBJECTS)), abs=1e-5)
