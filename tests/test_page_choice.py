"""Which to build: memory, work and cache put together another way, what the labs found against their files, the page."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
import screens
from screens import LANGUAGES, fine, floats, prose, shown, skip
from streamlit.testing.v1 import AppTest

from model import catalogue, choice, labs
from model.choice import Need
from model.config import ModelConfig
from model.costs import parameters
from model.labs import tasks as lab
from pages.kit import chapter, state, words
from pages.kit.figures import choice as figures
from pages.kit.figures import facts, tasks

PAGE = "pages/choice.py"
V3, BIG = catalogue.find("deepseek-v3"), catalogue.find("llama-3-1-405b")
LABS = ("mixed", "single", "forgotten", "queues", "timetable", "ambulances")
OF_LABS = {"tuning", "balance", "traffic", "overfitting", "banks", "sets", "subjects", "suits"}
USUAL = Need(cards=16, card_bytes=80e9, precision="bf16", context=4096, served=16, flops=1e24)


@pytest.fixture
def app(monkeypatch, clinic_folder):
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))
    return lambda lang="en", **query: screens.open_page(PAGE, lang, **query)


@pytest.fixture
def lab_files(monkeypatch, tmp_path):
    """A folder of recorded runs that this test writes itself."""
    labs.recorded.cache_clear()
    monkeypatch.setattr(labs, "RECORDED", Path(tmp_path))

    def write(name: str, runs: list, **more: object) -> None:
        (tmp_path / f"{name}.json").write_text(json.dumps({"lab": name, "runs": runs, **more}), "utf-8")
        labs.recorded.cache_clear()

    yield write
    labs.recorded.cache_clear()


# -- reckoned ----------------------------------------------------------------------------------------------------------


def test_v3_is_reckoned_as_its_own_formulas_say():
    """From `model/costs.py`, which knows DeepSeek-V3 alone, and by hand: two bytes a number."""
    found, c = choice.judge(V3, USUAL), ModelConfig.preset("deepseek-v3")
    weights = parameters(c).main * 2
    cache = (c.kv_lora_rank + c.qk_rope_head_dim) * c.num_hidden_layers * 4096 * 2
    assert found.weights == weights and found.cache == cache and found.moe
    assert found.needed == weights + 16 * cache and found.cards == math.ceil(found.needed / 80e9) == 17
    assert not found.fits and found.tuning == 16 * parameters(c).main
    assert 3 * found.flops == pytest.approx(250e9, rel=0.002), "2505.09343, table 2: 250 GFLOP of training at 4,096 tokens"
    assert found.trained == pytest.approx(1e24 / (3 * found.flops))


def test_llama_is_reckoned_as_published():
    found = choice.judge(BIG, USUAL)
    assert not found.moe and found.weights == pytest.approx(2 * 405.853e9, rel=1e-5)
    assert found.cache / 4096 == 516_096, "2505.09343, table 1: 516 KB a token"
    assert found.fits and choice.holds(choice.judge(V3, USUAL), found) == "dense"


@pytest.mark.parametrize("cards,expected", [(10, "none"), (11, "dense"), (16, "dense"), (17, "both")])
def test_one_card_more_or_less(cards, expected):
    need = Need(cards, 80e9, "bf16", 4096, 16, 1e24)
    assert choice.holds(choice.judge(V3, need), choice.judge(BIG, need)) == expected


def test_many_long_conversations_turn_it_round():
    """The cache of a dense house is seven times as large: there is a crowd for which only the MoE is small enough."""
    need = Need(32, 80e9, "bf16", 131072, 40, 1e24)
    moe, dense = choice.judge(V3, need), choice.judge(BIG, need)
    assert choice.holds(moe, dense) == "moe" and dense.cache / moe.cache == pytest.approx(516.096 / 70.272, rel=1e-6)


def test_a_text_longer_than_a_model_was_built_for():
    need = Need(16, 80e9, "bf16", 131072, 1, 1e24)
    assert choice.judge(catalogue.find("mixtral-8x7b"), need).reaches is False
    assert choice.judge(V3, need).reaches


def test_who_needs_less():
    assert [choice.less(1, 2), choice.less(2, 1), choice.less(2, 2)] == ["moe", "dense", "neither"]


# -- what the labs found -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moe,dense,low,expected", [
    ([1, 2], [3, 4], True, "moe"), ([1, 2], [3, 4], False, "dense"), ([3, 4], [1, 2], True, "dense"),
    ([1, 3], [2, 4], True, "neither"), ([1, 3], [2, 4], False, "neither"),
])  # fmt: skip
def test_no_winner_inside_the_spread(moe, dense, low, expected):
    found = choice.compare(moe, dense, low)
    assert choice.compare([1.0001], [1.0002]).better == "neither", "the same in the digits that are shown"
    assert found.better == expected and found.moe == (min(moe), sum(moe) / 2, max(moe)) and found.seeds == 2


def test_where_nothing_is_recorded_nothing_is_found(lab_files):
    assert [choice.mixed_loss(), choice.exam(), choice.forgotten(), choice.evenness(), choice.stream(), choice.trips()] == [None] * 6
    assert choice.leads() is None


def test_what_is_read_of_every_lab(lab_files):
    """Files written here, in the fields in which the experiments write theirs."""
    arms = {"v3": (2.5, 2.0, 2.2), "dense": (2.6, 2.4, 2.3), "mixtral": (2.1, 2.2, 1.9)}
    lab_files("miniatures", [{"points": [{"arm": a, "heldout": h} for a, ends in arms.items() for h in (9.0, ends[i])]} for i in range(3)])
    assert choice.mixed_loss().moe == (2.0, pytest.approx(6.7 / 3), 2.5) and choice.mixed_loss().better == "neither"
    assert choice.mixed_loss("mixtral").better == "moe", "another kind of MoE may do what V3's does not"

    def exam(arm, new, size=choice.BANK):
        return {"questions": size, "arm": arm, "bank": 1.0, "new": new}

    lab_files("cramming", [{"points": [exam("moe", 0.1), exam("moe", m), exam("dense", d), exam("dense", 0.99, 7)]}
                           for m, d in ((0.5, 0.6), (0.4, 0.7))])  # fmt: skip
    assert choice.exam().better == "dense" and choice.exam().moe == (0.4, pytest.approx(0.45), 0.5)
    assert choice.exam("bank").better == "neither"

    def taught(arm, step, new, old):
        return {"part": "skill", "arm": arm, "step": step, "new": new, "old": old}

    start = {"part": "start", "moe": {"new": 5.0, "old": 1.0}, "dense": {"new": 5.0, "old": 1.0}}
    others = [taught(arm, 1, 3.5, 1.0) for arm in ("interns", "receptionist", "awake")]
    lab_files("skill", [{"points": [start, taught("moe", 1, 3.0, 1.4), taught("dense", 1, 4.0, 1.1), *others]}])
    assert choice.forgotten().moe.middle == pytest.approx(0.2), "1 nat gained: half of the MoE's way"
    assert choice.forgotten().dense.middle == pytest.approx(0.1) and choice.forgotten().better == "dense"

    load = [{"max_vio": 0.5, "dead": 1}, {"max_vio": 9.0, "dead": 3}]
    lab_files("queues", [{"points": [{"arms": load}]}], settings={"arms": [["none", 0.0], ["bias", 0.01]]})
    assert choice.evenness().nothing.middle == 0.5 and choice.evenness().dead_board.middle == 3

    def crossing(rule, crossed):
        return {"what": "crossings", "buildings": 8, "rule": rule, "tokens": 10, "crossed": crossed}

    lab_files("ambulances", [{"points": [{"what": "batch"}, crossing(True, [30, 20]), crossing(False, [50, 50])]}])
    assert choice.trips() == ((2.5, 2.5, 2.5), (5, 5, 5), 8)


def test_what_is_recorded_is_read_as_it_stands():
    """The timetable's file, put together another way."""
    runs, found = json.loads((labs.RECORDED / "timetable.json").read_text("utf-8"))["runs"], choice.stream()
    words_right = [run["points"][-1]["right"]["word"][2] for run in runs]
    assert found.word == (min(words_right), pytest.approx(sum(words_right) / 3), max(words_right))
    parts = []
    for run in runs:
        columns = list(zip(*run["points"][-1]["visits"][2], strict=True))
        parts.append(sum(max(column) / sum(column) for column in columns) / len(columns))
    assert found.commonest == pytest.approx((min(parts), sum(parts) / 3, max(parts)))
    assert found.least == min(point["trained_least"] for run in runs for point in run["points"][1:])


# -- the page ----------------------------------------------------------------------------------------------------------


def opened(at: AppTest, lang: str) -> AppTest:
    return skip(at) if any(b.label == words.say(lang, "chapter.show_me") for b in at.button) else at


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
def test_every_depth(app, lang, depth):
    at = app(lang, depth=depth, tune="1")
    assert fine(at) and "verdicts" in shown(at) and not {"models", "weighed"} & set(shown(at)), "the answer is hidden"
    assert "1346.658" not in " ".join(one.value for one in at.latex), "what V3 needs is half of the answer"
    at = opened(at, lang)
    assert fine(at) and {"models", "weighed"} <= set(shown(at))
    if depth == "maths":
        assert all(n in at.latex[1].value for n in ("1342.053", "0.288", "1346.658"))
    assert bool(at.latex) == (depth == "maths") and bool(at.code) == (depth == "code")
    assert not any("@" in one.value for one in at.latex)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("query,expected", [
    ({}, "dense"), ({"cards": "17"}, "both"), ({"cards": "2"}, "none"), ({"weights": "fp8", "cards": "9"}, "both"),
    ({"cards": "32", "context": "131072", "served": "40"}, "moe"),
])  # fmt: skip
def test_what_follows_is_what_was_reckoned(app, lang, query, expected):
    at = opened(app(lang, **query), lang)
    need = Need(int(query.get("cards", 16)), 80e9, query.get("weights", "bf16"), int(query.get("context", 4096)),
                int(query.get("served", 16)), 1e24)  # fmt: skip
    moe, dense = choice.judge(V3, need), choice.judge(BIG, need)
    said, table = prose(at), shown(at)["weighed"]
    assert choice.holds(moe, dense) == expected
    opening = words.say(
        lang, f"choice.holds.{expected}", moe=V3.name, dense=BIG.name, cards=f"{need.cards:,}", moe_cards=f"{moe.cards:,}",
        dense_cards=f"{dense.cards:,}", precision=need.precision.upper(), names="\0",
    ).split("\0")[0]  # fmt: skip
    assert opening in said
    assert f"{moe.needed / 1e9:,.0f} GB" in said and f"{dense.needed / 1e9:,.0f} GB" in table["cells"][0][1]
    fits = {row: cells[0] for row, cells in zip(shown(at)["models"]["labels"], shown(at)["models"]["cells"], strict=True)}
    for name, cell in fits.items():
        one = choice.judge(catalogue.find(name), need)
        kind = "short" if one.reaches is False else "yes" if one.needed <= need.cards * 80e9 else "no"
        assert cell == words.say(lang, f"choice.fits.{kind}"), name


def test_every_control_changes_what_it_should(app):
    usual = shown(opened(app(), "en"))
    for query, changes in (
        ({"budget": "260"}, "trained"), ({"context": "32768"}, "cache"), ({"weights": "fp8"}, "memory"), ({"served": "999"}, "memory"),
    ):  # fmt: skip
        now = shown(opened(app(**query), "en"))
        row = usual["weighed"]["labels"].index(words.say("en", f"choice.argument.{changes}"))
        assert now["weighed"]["cells"][row] != usual["weighed"]["cells"][row], query
    assert len(shown(opened(app(tune="1"), "en"))["weighed"]["labels"]) == len(usual["weighed"]["labels"]) + 1
    other = shown(opened(app(pair_moe="mixtral-8x7b", pair_dense="llama-3-1-8b"), "en"))["weighed"]
    assert [column["label"] for column in other["columns"][:2]] == ["Mixtral 8x7B", "Llama-3.1-8B"]
    assert usual["models"]["cells"] != shown(opened(app(card="24"), "en"))["models"]["cells"]


def test_numbers_of_the_tables_and_labs_have_their_source(app):
    at = opened(app(tune="1", tasks="single"), "en")
    table = shown(at)["models"]
    sources = {name: cells[-1] for name, cells in zip(table["labels"], table["cells"], strict=True)}
    assert sources[V3.name] == V3.source and sources[BIG.name] == BIG.source and all(sources.values())
    assert "NVIDIA H100 and H800, data sheet" in table["note"], "of the card's memory"
    assert "2.600 (2.552 to 2.654)" in prose(opened(app(), "en")), "of Mixtral's kind, from the file of the miniatures"
    said = " ".join(caption.value for caption in at.caption)
    assert all(labs.recorded(lab)["commit"] in said for lab in ("cramming", "skill"))


def test_kind_of_task_asks_another_lab(app, lab_files):
    """Nothing is recorded here: which lab is missing tells which was asked."""
    for kind in lab.KINDS:
        said = prose(opened(app(tasks=kind, tune="1"), "en"))
        assert words.say("en", "choice.missing", lab=words.say("en", f"choice.lab.{kind}")) in said
        assert words.say("en", "choice.missing", lab=words.say("en", "choice.lab.forgotten")) in said


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("there", [True, False], ids=["recorded", "nothing recorded"])
def test_every_claim_about_the_price_has_its_verdict_and_a_number(app, monkeypatch, tmp_path, lang, there):
    labs.recorded.cache_clear()
    if not there:
        monkeypatch.setattr(labs, "RECORDED", Path(tmp_path))
    try:
        at = app(lang)
    finally:
        labs.recorded.cache_clear()
    cards = shown(at)["verdicts"]["cards"]
    claims = [one for one in facts.claims() if one.part == "price"]
    assert fine(at) and len(cards) == len(claims) == 14
    for card, one in zip(cards, claims, strict=True):
        assert card["badge"]["text"] == words.say(lang, f"facts.verdict.{one.verdict}") and card["links"], one.key
        measured = [part["text"] for part in card["parts"] if part.get("label")]
        missing = any(words.say(lang, "choice.missing", lab=words.say(lang, f"choice.lab.{lab}")) in measured[0] for lab in LABS)
        assert len(measured) == 1 and (missing or any(char.isdigit() for char in measured[0])), one.key
        assert there or missing == (one.key in OF_LABS), one.key
        source = " ".join(part["text"] for part in card["parts"] if part.get("soft"))
        assert all(catalogue.find(row).name in source for row in figures.BLUEPRINTS.get(one.key, ())), one.key
        for name in figures.RECORDED.get(one.key, ()) if there else ():
            file = labs.recorded(name)
            assert file["command"] in source and file["commit"] in source, "a measured number says where it comes from"
    assert set(figures.BLUEPRINTS) | set(figures.RECORDED) == {one.key for one in claims}
    assert set(figures.RECORDED) == OF_LABS
    suits = cards[[one.key for one in claims].index("suits")]
    assert suits["badge"]["text"] == words.say(lang, "facts.verdict.unknown")


@pytest.mark.parametrize("lang", LANGUAGES)
def test_one_task_or_many_as_recorded(app, lang):
    """Leads by hand from the file, in the sentences, the equation and the table; ends of the curves."""
    at = opened(app(lang, depth="maths"), lang)
    made, said, file = shown(at), prose(at), json.loads((labs.RECORDED / "tasks.json").read_text("utf-8"))

    def last(run: dict, kind: str, arm: str) -> float:
        return [p["heldout"] for p in run["points"] if (p["kind"], p["arm"]) == (kind, arm)][-1]

    leads = {kind: [last(run, kind, "dense") - last(run, kind, "v3") for run in file["runs"]] for kind in lab.KINDS}
    for kind, each in leads.items():
        shape = [sum(each) / len(each), min(each), max(each)]
        if max(each) < 0:
            shape = [-shape[0], -shape[2], -shape[1]]
        n = [chapter.number(one, digits=3) for one in shape]
        assert words.say(lang, "chapter.between", middle=n[0], low=n[1], high=n[2]) in said, kind
        series = made[f"choice.tried.tried_{kind}"]["series"]
        for one, arm in zip(series, ("dense", "v3"), strict=True):
            ends = [last(run, kind, arm) for run in file["runs"]]
            found = [floats(one[name])[-1] for name in ("values", "low", "high")]
            assert found == pytest.approx([sum(ends) / len(ends), min(ends), max(ends)], rel=1e-5)
    table = made["choice.tried.leads"]["cells"]
    assert [row[2] for row in table] == pytest.approx(leads["single"])
    assert [row[3] for row in table] == pytest.approx(leads["mixed"])
    assert any(f"{sum(leads['mixed']) / len(file['runs']):.3f}" in one.value for one in at.latex)
    lines = made["choice.tried.lead"]["series"]
    for one, each in zip(lines, leads.values(), strict=True):
        assert [floats(one[name])[-1] for name in ("values", "low", "high")] == pytest.approx(
            [sum(each) / len(each), min(each), max(each)], rel=1e-4
        )
    assert any(file["command"] in one.value and file["commit"] in one.value for one in at.caption)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("single,mixed,expected", [
    (0.1, 0.3, ("mixed_moe", "single_moe", "smaller")), (-0.1, -0.3, ("mixed_dense", "single_dense", "larger")),
    (0.0, 0.0, ("mixed_neither", "single_neither", "same")),
])  # fmt: skip
def test_what_is_said_whatever_comes_out(lang, single, mixed, expected):
    """Two runs, a little to both sides of these leads; where there is none, to opposite sides."""
    jitters = ((-0.01, -0.02), (0.01, 0.02)) if single else ((-0.01, 0.02), (0.01, -0.02))
    runs = [
        {"points": [{"kind": kind, "arm": arm, "heldout": 1.0 + (lead + by if arm == "dense" else 0.0)}
                    for kind, lead, by in (("single", single, one), ("mixed", mixed, other)) for arm in lab.ARMS]}
        for one, other in jitters
    ]  # fmt: skip
    with words.speaking(lang):
        said = tasks.verdict(runs)
    for sentence, key, lead, by in zip(said, expected, (mixed, single, 0), (0.02, 0.01, 0), strict=True):
        n = [chapter.number(one, digits=3) for one in (abs(lead), abs(lead) - by, abs(lead) + by)]
        ranged = words.say(lang, "chapter.between", middle=n[0], low=n[1], high=n[2])
        assert sentence == words.say(lang, f"choice.tried.{key}", lead=ranged, seeds=2, chance="50.0%")


def test_a_live_run_to_its_end(app, monkeypatch):
    small = replace(lab.EXPERIMENT.live, steps=4, rows=2, single_texts=1, mixed_texts=1, marks=3)
    monkeypatch.setattr(lab, "EXPERIMENT", replace(lab.EXPERIMENT, live=small))
    at = opened(app("zh", tasks="single", seed="3"), "zh")
    next(b for b in at.button if b.label == words.say("zh", "live.start")).click().run()
    until = time.monotonic() + 60
    while not any(one.label == words.say("zh", "live.again") for one in at.button) and time.monotonic() < until:
        time.sleep(0.2)
        at.run()
    made = shown(at)["choice.live.live_single"]
    assert fine(at) and made["axes"][0]["labels"] == [str(step) for step in small.due]
    assert made["title"] == words.say("zh", "choice.tried.live", task=words.say("zh", "department.subject.travel"))


def test_a_missing_record_of_the_trial_is_said(app, lab_files):
    at = opened(app(), "en")
    assert not at.exception and len(at.error) == 1 and "verdicts" in shown(at)
    assert any(str(b.key).endswith(".start") for b in at.button), "trained here and now it can be all the same"


def test_sliders_stand_where_the_link_says_and_set_what_they_show(monkeypatch):
    chosen: dict[str, int] = {}
    monkeypatch.setattr(figures.state, "get", lambda name: {"budget": 243}.get(name, state.TABLE[name].default))
    monkeypatch.setattr(figures.state, "put", chosen.__setitem__)
    plates, places, pick = figures.sliders(figures.need())
    labels = {plate["axes"][0]["name"]: plate["axes"][0]["labels"] for plate in plates}
    assert labels["context"][places["context"]] == "4,096" and labels["budget"][places["budget"]] == "2.0 × 10²⁴ FLOP"
    pick({"context": places["context"] + 1, "budget": 0})
    assert chosen == {"context": 8192, "budget": 200}
    pick({"context": 999})
    assert chosen["context"] == 131072


def test_no_claim_sends_the_visitor_to_where_he_is(app):
    doors = [card["door"]["page"] for card in shown(app())["verdicts"]["cards"] if "door" in card]
    assert len(doors) >= 10 and "choice" not in doors and "timetable" in doors


@pytest.mark.parametrize("query", [
    {"pair_moe": "llama-3-1-8b", "pair_dense": "nobody"}, {"card": "7", "weights": "nothing"}, {"tasks": "?", "tune": "9"},
    {"cards": "0", "served": "99999", "budget": "999"}, {"context": "5000", "budget": "243"},
])  # fmt: skip
def test_what_a_link_may_bring(app, query):
    at = opened(app("zh", **query), "zh")
    assert fine(at) and [column["label"] for column in shown(at)["weighed"]["columns"][:2]] == [V3.name, BIG.name]


def test_the_question_is_judged_by_the_formula(app):
    for query, right in (({}, "dense"), ({"cards": "17"}, "both")):
        at, label = app(**query), words.say("en", f"choice.guess.{right}", moe=V3.name, dense=BIG.name)
        next(b for b in at.button if b.label.replace("\\", "") == label).click().run()
        assert words.say("en", "chapter.right") in prose(at)


@pytest.mark.parametrize("value,expected", [(1347.2, "1,347"), (12.34, "12"), (9.87, "9.9"), (0.288, "0.29"), (0.0123, "0.012"), (0, "0.000")])
def test_numbers_keep_the_digits_that_say_something(value, expected):
    assert figures._short(value) == expected
