"""The page of the ambulances: its counts against the trace, one patient after the other; and real runs, one at a time."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import screens
import torch
from screens import LANGUAGES, fine, floats, prose, shown, skip, values
from streamlit.testing.v1 import AppTest

import model
from model import UserError, crossings, labs, parallel
from model.labs import ambulances as lab
from pages.kit import chapter, fleet, service, state, words
from pages.kit.figures import ambulances

PAGE = "pages/ambulances.py"
SENTENCE = "Doctor, I have a fever. Doctor, it hurts."
LONG = "面" * model.MAX_TOKENS
V3 = model.ModelConfig.preset("deepseek-v3")


@pytest.fixture(scope="module")
def house(hospital_folder) -> service.Hospital:
    return service.Hospital(model.load(hospital_folder))


@pytest.fixture
def visit(house) -> chapter.Visit:
    return screens.visit(house, "ambulances", SENTENCE, 6, 30)


@pytest.fixture
def app(monkeypatch, clinic_folder):
    """A visitor who opens the page by its link; the small model unless another is named."""

    def open_page(lang: str = "en", checkpoint: Path = clinic_folder, **query: object) -> AppTest:
        monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(checkpoint))
        return screens.open_page(PAGE, lang, **{"s": SENTENCE, **query})

    fleet.fleet.clear()
    yield open_page
    fleet.fleet.clear()


def by_hand(chosen: torch.Tensor, experts: int, buildings: int) -> list[list[list[int]]]:
    """[floor][token][building]: interns called there, one by one."""
    size = experts // buildings
    return [[[sum(e // size == b for e in one) for b in range(buildings)] for one in floor] for floor in chosen.tolist()]


def best(scores: torch.Tensor, k: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda e: -float(scores[e]))[:k]


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buildings", [2, 8, 64])
def test_every_drive_of_every_patient(visit, buildings):
    drives = ambulances.Drives(visit, buildings, True)
    hand = by_hand(visit.trace.chosen, 256, buildings)
    assert drives.called.tolist() == hand
    seen = [[sum(n > 0 for n in one) for one in floor] for floor in hand]
    away = [[sum(n > 0 for n in one[1:]) for one in floor] for floor in hand]  # building 1 is home
    assert drives.all == sum(map(sum, away)) and drives.here == sum(away[visit.department])
    flat = [n for floor in seen for n in floor]
    assert drives.visited == pytest.approx(sum(flat) / len(flat)) and drives.party == pytest.approx(8 * len(flat) / sum(flat))
    assert drives.spread.tolist() == [flat.count(n) for n in range(buildings + 1)]
    drawn = values(ambulances.visits(drives)).reshape(buildings, -1)
    assert (np.nan_to_num(drawn) == np.array(hand[visit.department]).T).all()


def test_without_the_rule_the_same_scores_choose_again(visit):
    free = ambulances.Drives(visit, 8, False)
    trace = visit.trace
    for m, token in ((0, 0), (26, 6), (57, 9)):
        assert sorted(free.chosen[m, token].tolist()) == sorted(best(trace.choice_scores[m, token], 8))
    ruled = ambulances.Drives(visit, 8, True)
    assert int((ruled.called > 0).sum(-1).max()) <= 4 < free.visited, "the rule is what keeps them together"
    assert ruled.all < free.all
    assert ambulances.answer(free) == (0 if free.visited <= 4 else 1 if free.visited <= 6 else 2)
    note = ambulances.by_floor(ruled, free)["note"]
    assert f"{ruled.all:,}" in note and f"{free.all:,}" in note and f"{1 - ruled.all / free.all:.1%}" in note


def test_drawn_evenly(visit):
    """Against drawing."""
    dice = torch.Generator().manual_seed(0)
    drawn = torch.randint(8, (20_000, 8), generator=dice)
    mean = np.mean([len(set(row)) for row in drawn.tolist()])
    assert ambulances.even(visit.trace.config, 8) == pytest.approx(mean, abs=0.03)


def test_bytes_and_times(visit):
    drives = ambulances.Drives(visit, 8, True)
    load = ambulances.load(drives, crossings.v3_freight(V3))
    assert load.all == drives.all * (7168 + 56 * 4 + 7168 * 2) and load.here == drives.here * 21_728
    assert load.seconds == pytest.approx(load.all / 50e9)
    rows = ambulances.freight(drives)["cells"]
    assert rows[0][0] == "7.4 kB" and rows[0][1] == "14.3 kB" and rows[1][:2] == ["320 B", "256 B"]
    assert [ambulances.size(n) for n in (999, 1_000, 2_500_000, 3_000_000_000)] == ["999 B", "1.0 kB", "2.5 MB", "3.0 GB"]
    assert [ambulances.span(s) for s in (2, 0.4567, 0.0125, 0.000021)] == ["2.00 s", "457 ms", "12.50 ms", "21.0 µs"]


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
def test_every_depth(app, lang, depth):
    at = app(lang, depth=depth)
    assert fine(at) and at.title[0].value == words.say(lang, "ambulances.title")
    assert bool(at.latex) == (depth == "maths") and bool(at.code) == (depth == "code")
    assert not any("@" in one.value for one in at.latex)
    assert "ambulances.rule.spread" not in shown(at) and "ambulances.recorded.held_out" not in shown(at)
    at = skip(at)
    assert fine(at) and {"ambulances.rule.spread", "ambulances.recorded.held_out"} <= set(shown(at))


@pytest.mark.parametrize("query", [
    {"s": "面", "buildings": 64}, {"s": LONG, "rule": 0}, {"token": 0, "floor": 1, "buildings": 3, "processes": 9},
    {"s": "👩‍👩‍👧 **x** $y$ {0}", "rule": 7},
], ids=["one token, too many buildings", "256 tokens", "no such numbers", "odd"])  # fmt: skip
def test_edges(app, query):
    at = skip(app("zh", **query))
    assert fine(at)
    assert shown(at)["ambulances.drive.visits"]["axes"][0]["count"] <= 32, "the small model has 32 interns a floor"
    assert np.isfinite(values(shown(at)["ambulances.rule.spread"])).all()


@pytest.mark.parametrize("lang", LANGUAGES)
def test_numbers_in_the_sentences(app, house, hospital_folder, lang):
    at = skip(app(lang, hospital_folder, token=6, floor=30, buildings=16, rule=0))
    trace, said, made = house.trace(SENTENCE), prose(at), shown(at)
    free = [[best(trace.choice_scores[m, i], 8) for i in range(len(trace.ids))] for m in range(58)]
    away = [[len({e // 16 for e in one} - {0}) for one in floor] for floor in free]
    ruled = [[len({e // 16 for e in one} - {0}) for one in floor] for floor in trace.chosen.tolist()]
    everything, here, mine = sum(map(sum, away)), sum(away[26]), away[26][6]
    name = at.session_state["setting.sentence"] and house.tokenizer.pieces(trace.ids)[6].text.strip()
    assert words.say(lang, "ambulances.drive.story", rooms=256, buildings=16, home=1, floor=30, token=chapter.bare(name),
                     visited=len({e // 16 for e in free[26][6]}), mine=mine) in said  # fmt: skip
    facts = [one["value"] for one in made["ambulances.drive.counts"]["facts"]]
    assert facts[:2] == [f"{here:,}", f"{everything:,}"]
    assert f"{sum(map(sum, ruled)):,}" in said and f"{everything:,}" in said, "with the rule, and without"
    assert ambulances.span(everything * 21_728 / 50e9) in said
    eight = [len({e // 32 for e in one}) for floor in free for one in floor]
    assert f"{sum(eight) / len(eight):.2f}" in said, "the question is about eight buildings, whatever is set"


@pytest.mark.parametrize("guess", ["same", "some", "many"])
def test_the_question_is_answered_from_the_trace(app, house, hospital_folder, guess):
    at = app(checkpoint=hospital_folder)
    values = {"kept": 4, "corridors": 8, "middle": 6}
    visit = screens.visit(house, "ambulances", SENTENCE, 6, 30)
    right = ("same", "some", "many")[ambulances.answer(ambulances.Drives(visit, 8, False))]
    next(b for b in at.button if b.label == words.say("en", f"ambulances.far.{guess}", **values)).click().run()
    assert fine(at) and words.say("en", "chapter.right" if guess == right else "chapter.wrong") in prose(at)


def test_what_is_set_is_in_the_link(app):
    at = skip(app(buildings=4))
    before = values(shown(at)["ambulances.drive.visits"])
    at.segmented_control(key="ambulances.rule").set_value(0).run()
    after = values(shown(at)["ambulances.drive.visits"])
    assert before.shape == after.shape and not np.array_equal(np.nan_to_num(before), np.nan_to_num(after))
    at.segmented_control(key="ambulances.buildings").set_value(16).run()
    at.segmented_control(key="fleet.processes").set_value(3).run()
    assert fine(at)
    assert [list(at.query_params[name])[0] for name in ("buildings", "rule", "processes")] == ["16", "0", "3"] or [
        at.query_params[name] for name in ("buildings", "rule", "processes")
    ] == ["16", "0", "3"]
    assert len(values(shown(at)["ambulances.drive.visits"])) == 4 * len(before)


# -- real runs ---------------------------------------------------------------------------------------------------------


class Road:
    """In place of `parallel.run`: a run that goes on until it is let go or stopped."""

    def __init__(self) -> None:
        self.go, self.on = threading.Event(), threading.Event()

    def __call__(self, sentences, groups, checkpoint=None, *, rounds, enough, stop, paused, told, passed, nice):
        self.on.set()
        told(1)
        while not self.go.wait(0.01):
            if stop():
                raise parallel.Stopped
            if not paused():
                for size in groups:
                    passed(size, [{"computing": 0.25, "packing": 0.0, "sending": 0.5 * rank} for rank in range(size)])
        self.on.clear()
        raise UserError("It broke. Try again.", "parallel_failed")


@pytest.fixture
def road(monkeypatch) -> Road:
    made = Road()
    monkeypatch.setattr(parallel, "run", made)
    yield made
    made.go.set()


def ended(trip: fleet.Trip) -> bool:
    end = time.monotonic() + 30
    while not trip.over and time.monotonic() < end:
        time.sleep(0.01)
    return trip.over


def test_one_run_at_a_time(road):
    c, one = model.ModelConfig.preset("clinic"), fleet.Fleet()
    first = one.start([[0, 5]], 2, None, c)
    assert road.on.wait(10)
    with pytest.raises(UserError) as error:
        one.start([[0, 5]], 2, None, c)
    assert error.value.key == "parallel_busy" and 0 < error.value.values["left"] <= parallel.SECONDS + parallel.PAUSE
    first.ended.set()
    assert ended(first) and first.state == "stopped" and first.error is None
    second = one.start([[0, 5]], 2, None, c)
    road.go.set()
    assert ended(second) and second.state == "failed" and second.error.key == "parallel_failed"
    with pytest.raises(UserError) as error:
        one.start([[0, 5]], 7, None, c)
    assert error.value.key == "parallel_processes" and one.out is None


def test_a_run_that_nobody_looks_at_is_ended(road, monkeypatch):
    monkeypatch.setattr(fleet, "UNSEEN", 0.2)
    trip = fleet.Fleet().start([[0, 5]], 2, None, model.ModelConfig.preset("clinic"))
    assert ended(trip) and trip.state == "stopped"


def until(what) -> None:
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_pause_ends_by_itself_and_there_is_so_much_of_it(road, monkeypatch):
    monkeypatch.setattr(parallel, "PAUSE", 0.3)
    monkeypatch.setattr(fleet, "UNSEEN", 100)
    trip = fleet.Fleet().start([[0, 5]], 2, None, model.ModelConfig.preset("clinic"))
    until(lambda: trip.passes.get(2))
    trip.pause()
    until(lambda: not trip.paused)
    assert 0.3 <= trip.rest < 5
    trip.pause()
    assert not trip.paused, "the time for pauses is used up"
    before = len(trip.passes[2])
    until(lambda: len(trip.passes[2]) > before)
    trip.ended.set()
    assert ended(trip) and trip.passes[1][0] == (0.25, 0.0, 0.0) and trip.passes[2][0] == (0.25, 0.0, 0.25)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_pause_go_on_and_curves_that_grow(app, road, monkeypatch, lang):
    monkeypatch.setattr(fleet, "UNSEEN", 100)
    at = app(lang, seed=7)
    at.button(key="fleet.start").click().run()
    trip = at.session_state["fleet"]
    assert trip.seed == 7 and at.number_input(key="fleet.seed").disabled
    until(lambda: trip.passes.get(2))
    at.button(key="fleet.pause").click().run()
    until(lambda: trip.paused)
    counts = []
    until(lambda: counts.append(len(trip.passes[2])) or counts[-5:].count(counts[-1]) == 5)  # the pass under way ends
    made = counts[-1]
    at.run()
    assert len(trip.passes[2]) == made, "it rests"
    assert words.say(lang, "ambulances.live.paused", made=made, left=0).split(str(made))[0] in at.get("progress")[0].proto.text
    drawn = shown(at)["ambulances.trip.passes"]
    assert drawn["axes"][0]["count"] == len(trip.passes[1])
    assert floats(drawn["series"][2]["values"])[:made].tolist() == [250.0] * made, "milliseconds, mean of 0 and 0.5 s"
    at.button(key="fleet.go").click().run()
    until(lambda: len(trip.passes[2]) > made)
    at.button(key="fleet.stop").click().run()
    assert ended(trip)
    at.run()
    assert fine(at) and shown(at)["ambulances.trip.passes"]["axes"][0]["count"] == len(trip.passes[1]), "they stay"


def test_the_seed_draws_who_goes_along(app, clinic_folder):
    encode = model.load(clinic_folder).tokenizer.encode
    three, again, other = (lab.company(encode, seed, 3, ambulances.LONGEST) for seed in (3, 3, 4))
    assert three == again != other and len(three) == 3 and max(map(len, [*three, *other])) <= ambulances.LONGEST
    at = app("en", seed=3)
    at.number_input(key="fleet.seed").set_value(4).run()
    assert fine(at) and at.query_params["seed"] in ("4", ["4"])


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_second_visitor_is_told_to_wait(app, road, lang):
    first, second = app(lang), app(lang)
    first.button(key="fleet.start").click().run()
    assert fine(first) and first.button(key="fleet.stop")
    second.button(key="fleet.start").click().run()
    left = words.say(lang, "error.parallel_busy", left=0).split("0")[0]
    assert any(left in one.value.replace("\\", "") for one in second.error) and not second.exception
    first.button(key="fleet.stop").click().run()
    trip = first.session_state["fleet"]
    assert ended(trip)
    first.run()
    assert fine(first) and any(words.say(lang, "ambulances.live.stopped") == one.value for one in first.caption)


def test_really_driven_from_the_page(app, clinic_folder, monkeypatch):
    """Processes start, end, and what they measured is shown."""
    monkeypatch.setattr(fleet, "ROUNDS", 4)
    at = app("en", processes=2, seed=5)
    at.button(key="fleet.start").click().run()
    trip = at.session_state["fleet"]
    end = time.monotonic() + 100
    while not trip.over and time.monotonic() < end:
        trip.seen = time.monotonic()  # the browser would ask every second
        time.sleep(0.05)
    at.run()
    assert trip.state == "done" and fine(at), trip.error
    live = model.load(clinic_folder)
    company = lab.company(live.tokenizer.encode, 5, ambulances.MORE, ambulances.LONGEST)
    assert trip.sentences == (tuple(live.encode(SENTENCE)), *map(tuple, company))
    traces = [live.engine.trace(list(ids)) for ids in trip.sentences]
    expected = 0
    for i, trace in enumerate(traces):
        mine, other = i % 2, 1 - i % 2
        expected += sum(one[other] > 0 for floor in by_hand(trace.chosen, 32, 2) for one in floor)
        assert mine != other
    outcome = trip.outcome
    assert outcome.counted == outcome.group.crossed == expected and outcome.gap < 1e-5 and outcome.others == 0
    assert outcome.group.sent == expected * crossings.live_freight(live.config).both
    made = shown(at)
    assert {size: len(passes) for size, passes in trip.passes.items()} == {1: 4, 2: 4}
    alone, computing, sending = (floats(one["values"]) for one in made["ambulances.live.passes"]["series"])
    assert alone == pytest.approx([1000 * sum(one) for one in trip.passes[1]], rel=1e-4)
    assert computing == pytest.approx([1000 * one.computing for one in trip.passes[2]], rel=1e-4)
    assert sending == pytest.approx([1000 * one.sending for one in trip.passes[2]], rel=1e-4)
    assert sorted(map(sum, trip.passes[1]))[1] == pytest.approx(outcome.alone.seconds), "the lower median of four"
    assert f"{expected:,}" in made["ambulances.live.processes"]["note"]
    measured = [x for run in outcome.runs for x in ambulances.shares(run)]
    assert made["ambulances.live.time"]["values_list"] == pytest.approx([1000 * x for x in measured])


# -- recorded ----------------------------------------------------------------------------------------------------------


def test_the_smallest_part_of_the_record_comes_out_again():
    """The first batch of held-out texts, counted again."""
    kept, now = labs.replay("ambulances", 1)[0]
    assert kept["texts"] == now["texts"] and kept["tokens"] == now["tokens"]
    calls = kept["tokens"] * V3.num_moe_layers
    for rule in ("rule", "free"):
        assert sum(kept[rule]["visited"]) == calls
        assert kept[rule]["crossed"] == pytest.approx(now[rule]["crossed"], rel=1e-3), "a close choice may round over"


def test_the_record_holds_together():
    found = ambulances.recorded()
    file = found.file
    assert file["command"] == "python -m model lab ambulances" and len(file["runs"]) == 3
    settings = lab.Settings(**{k: tuple(v) if isinstance(v, list) else v for k, v in file["settings"].items()})
    assert settings == lab.EXPERIMENT.recorded
    for run in file["runs"]:
        batches = [p for p in run["points"] if p["what"] == "batch"]
        for point in run["points"]:
            if point["what"] == "crossings":
                assert point["tokens"] == sum(p["tokens"] for p in batches)
                assert sum(point["visited"]) == point["tokens"] * V3.num_moe_layers
                people = sum(n * count for n, count in enumerate(point["parties"]))
                assert people == point["tokens"] * V3.num_moe_layers * V3.num_experts_per_tok
                if point["buildings"] == V3.n_group:
                    key = "rule" if point["rule"] else "free"
                    assert sum(point["crossed"]) == sum(p[key]["crossed"] for p in batches)
            if point["what"] == "time":
                freight = crossings.live_freight(model.ModelConfig.preset("hospital"))
                assert point["sent"] == point["crossed"] * freight.both and point["gap"] < 1e-5
                assert point["low"] <= point["seconds"] <= point["high"]
    assert set(found.times) == {(n, p) for n in settings.lengths for p in settings.groups}


def test_recorded_numbers_on_the_page(app):
    at = skip(app("en"))
    found, made = ambulances.recorded(), shown(at)
    means = [np.mean([sum(p["crossed"]) / 58 / p["tokens"] for p in found.crossings[4, rule]]) for rule in (True, False)]
    at_four = shown(skip(app("en", buildings=4)))["ambulances.recorded.held_out"]["note"]
    assert all(f"{mean:.2f}" in at_four for mean in means)
    rows = made["ambulances.recorded.times"]
    assert len(rows["cells"]) == len(found.times) and json.dumps(found.file["commit"])[1:-1] in rows["note"]


def test_a_missing_record_is_said(app, monkeypatch, tmp_path):
    monkeypatch.setattr(labs, "RECORDED", tmp_path)
    labs.recorded.cache_clear()
    at = app("zh")
    labs.recorded.cache_clear()
    assert not at.exception and len(at.error) == 1
