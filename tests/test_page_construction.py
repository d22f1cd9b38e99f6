"""The page of construction: its numbers counted again, and what a person does on it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import screens
from screens import LANGUAGES, fine, floats, prose, shown, skip, values

import model
from model import catalogue, labs, placement
from model.labs import queues as lab
from model.study import load_study
from pages.kit import chapter, service, state, words
from pages.kit.figures import construction

PAGE = "pages/construction.py"
SENTENCE = "Doctor, I have a fever."
CARD = 80e9


@pytest.fixture
def app(monkeypatch, hospital_folder):
    """A visitor who opens the page by its link."""
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(hospital_folder))

    def open_page(lang: str = "en", checkpoint: Path | None = None, **query: object):
        if checkpoint is not None:
            monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(checkpoint))
        return screens.open_page(PAGE, lang, **{"s": SENTENCE, **query})

    return open_page


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
def test_every_depth(app, clinic_folder, lang, depth):
    at = app(lang, clinic_folder, depth=depth)
    assert fine(at) and at.title[0].value == words.say(lang, "construction.title")
    assert bool(at.latex) == (depth == "maths") and bool(at.code) == (depth == "code")
    assert "construction.balance.cards" not in shown(at)
    assert fine(skip(at)) and "construction.balance.cards" in shown(at)
    assert not any("@" in one.value for one in at.latex)


@pytest.mark.parametrize("query", [
    {"s": "面"}, {"plan": "decode"}, {"plan": "prefill", "spread": 1, "spare": 0}, {"spread": 320, "spare": 0},
    {"spread": 9999, "spare": 9999}, {"spread": 7, "spare": 5, "token": 0}, {"plan": "nonsense", "spread": "x"},
], ids=["one token", "decode", "one card", "more cards than interns", "too many", "odd", "nonsense"])  # fmt: skip
def test_edges(app, clinic_folder, query):
    at = app("zh", clinic_folder, **query)
    assert fine(at) and fine(skip(at))
    assert all(not np.isinf(values(plate)).any() for plate in shown(at).values() if "values" in plate)


def test_the_balance_is_counted_again(app, hospital_folder):
    """Load of every card of floor 20, from the study's calls, one card after the other."""
    at = skip(app(floor=20, plan="run"))
    made = shown(at)
    load = load_study(hospital_folder).calls.astype(float)
    plan = placement.PLANS["run"]
    seated = placement.place(load, plan.spare, plan.cards)
    floor = 20 - 1 - 3
    each = [sum(load[floor, e] / (seated.seats[floor] == e).sum() for e in card if e >= 0) for card in seated.seats[floor]]
    mean = load[floor].sum() / plan.cards
    bars = made["construction.balance.cards"]
    assert values(bars) == pytest.approx(np.sort(each)[::-1] / mean, rel=1e-5)
    dealt = [load[floor, 2 * card : 2 * card + 2].sum() for card in range(plan.cards)]
    assert floats(bars["before"]) == pytest.approx(np.sort(dealt)[::-1] / mean, rel=1e-5)
    n = chapter.number
    assert f"**{n(max(each) / mean, digits=2)}**" in bars["note"] and n(max(dealt) / mean, digits=2) in bars["note"]
    seats = values(made["construction.balance.seating"]).reshape(plan.per_node, -1)
    assert seats[3, 5] == pytest.approx(each[5 * 8 + 3] / mean, rel=1e-5), "columns are machines"


def test_rows_of_the_table(app, hospital_folder):
    made = shown(skip(app(plan="run")))["construction.balance.ways"]["cells"]
    load = load_study(hospital_folder).calls.astype(float)
    own = model.load(hospital_folder).trace(SENTENCE)
    calls = np.stack([np.bincount(floor.flatten(), minlength=256) for floor in own.chosen]).astype(float)

    def over_mean(busy: np.ndarray) -> np.ndarray:
        return busy.max(1) / (busy.sum(1) / busy.shape[1])

    dealt = [np.stack([x[:, 2 * i : 2 * i + 2].sum(1) for i in range(144)], 1) for x in (load, calls)]
    assert made[0] == pytest.approx([over_mean(dealt[0]).mean(), over_mean(dealt[0]).max(), over_mean(dealt[1]).mean()])
    seated = placement.place(load, 32, 144)
    assert made[3] == pytest.approx([over_mean(seated.busy(load)).mean(), over_mean(seated.busy(load)).max(),
                                     over_mean(seated.busy(calls)).mean()])  # fmt: skip
    known = placement.place(calls, 32, 144)
    assert made[4][2] == pytest.approx(over_mean(known.busy(calls)).mean())
    assert made[4][2] <= made[3][2], "who knows the patients seats no worse"


@pytest.mark.parametrize("name", placement.PLANS)
def test_what_lies_on_a_card(app, name):
    made = shown(app(plan=name))
    held = placement.on_card(catalogue.find("deepseek-v3").architecture, placement.PLANS[name])
    row = made["construction.plan.on_cards"]["cells"][list(placement.PLANS).index(name)]
    assert row[0] == placement.PLANS[name].cards
    assert row[2:6] == pytest.approx([part / 1e9 for part in held])
    assert row[6] == pytest.approx(sum(held) / 1e9) and row[7] == pytest.approx((CARD - sum(held)) / 1e9)
    assert row[8] == (CARD - sum(held)) // 70_272
    facts = [fact["value"] for fact in made["construction.plan.plan_facts"]["facts"]]
    assert facts[0] == str(row[0]) and facts[2] == chapter.number(row[6], digits=1)
    cards = values(made["construction.plan.plan"])
    assert np.isfinite(cards).sum() == row[0] and np.nansum(cards) == {"prefill": 288, "run": 288, "decode": 320}[name]


def test_one_big_doctor(app):
    """405,853,069,312 weights of two bytes do not fit into ten cards of 80 GB."""
    cells = shown(app())["construction.doctor.doctors"]["cells"]
    assert cells[2][1] == pytest.approx(2 * 405_853_069_312 / 1e9) and cells[2][2] == 11
    assert cells[0][1] == pytest.approx(2 * 671_026_419_200 / 1e9) and cells[0][2] == 17 and cells[1][2] == 9


def test_sliders_change_what_they_should(app):
    at = skip(app(plan="prefill"))
    before = shown(at)
    link = app(plan="prefill", spread=64, spare=0)
    after = shown(skip(link))
    assert before["construction.plan.plan"]["axes"][1]["count"] == 4 and after["construction.plan.plan"]["axes"][1]["count"] == 8
    assert len(after["construction.plan.on_cards"]["cells"]) == len(before["construction.plan.on_cards"]["cells"]) + 1
    assert after["construction.balance.cards"]["axes"][0]["count"] == 64
    link.segmented_control(key="construction.plan").set_value("decode").run()
    assert fine(link) and "spread" not in link.query_params and link.query_params["plan"] == "decode"
    assert shown(link)["construction.plan.plan"]["axes"][1]["count"] == 40


@pytest.mark.parametrize("guess", ["seats", "copies"])
def test_the_question(app, hospital_folder, guess):
    load = load_study(hospital_folder).calls.astype(float)

    def mean(seated: placement.Placement) -> float:
        return float(placement.imbalance(seated.busy(load)).mean())

    dealt, packed, copied = (mean(placement.numbered(58, 256, 144)), mean(placement.place(load, 0, 144)),
                             mean(placement.place(load, 32, 144)))  # fmt: skip
    right = "seats" if dealt - packed >= packed - copied else "copies"
    at = app(plan="prefill")
    next(b for b in at.button if b.label == words.say("en", f"construction.helps.{guess}")).click().run()
    said = prose(at)
    assert words.say("en", "chapter.right" if guess == right else "chapter.wrong") in said
    assert all(chapter.number(one, digits=2) in said for one in (dealt, packed, copied))


def test_tables_on_a_phone(server, tab):
    """Figures end alike, the sign for none among them too; a first column that stands still leaves room beside it."""
    page = tab(390, 900)
    page.goto(f"{server}/construction?lang=en&s=Doctor.")
    page.get_by_role("button", name="Just show me").click()
    row = page.locator("tr", has_text="the same, foreseen")
    row.wait_for()
    assert row.locator("td").all_inner_texts()[:2] == ["–", "–"]
    assert row.locator("td").evaluate_all("all => all.map((one) => getComputedStyle(one).textAlign)") == ["end"] * 3
    page.goto(f"{server}/queues?lang=en")
    page.get_by_role("button", name="Just show me").click()
    widest = page.locator("tr", has_text="board the wrong way round").locator("th").first
    widest.wait_for()
    assert widest.evaluate("one => one.offsetWidth / one.closest('.table').clientWidth") < 0.55
    words = page.locator("tr", has_text="board the wrong way round").locator("td").first
    assert words.evaluate("one => getComputedStyle(one).textAlign") == "start"


def test_without_a_study_the_sentence_is_its_own_measure(app, clinic_folder):
    at = skip(app("en", clinic_folder))
    made = shown(at)["construction.balance.ways"]
    assert "No study" in made["note"] and made["cells"][0][0] == pytest.approx(made["cells"][0][2])


def test_the_trace_is_left_alone(clinic_folder):
    house = service.Hospital(model.load(clinic_folder))
    visit = screens.visit(house, "construction", SENTENCE, 2, 3)
    before = visit.trace.chosen.clone()
    assert construction.sentence_load(visit).sum() == before.numel()
    assert (visit.trace.chosen == before).all()


def test_what_was_recorded_while_it_was_trained_is_seated_again(app, clinic_folder):
    """The last point by number, card after card, from the file of the queues' lab; copies by their definition."""
    file = json.loads((labs.RECORDED / "queues.json").read_text("utf-8"))
    kinds = [kind for kind, _ in file["settings"]["arms"]]
    made = shown(skip(app("en", clinic_folder)))
    for place, kind in enumerate(("bias", "none")):
        dealt, copied = [], []
        for run in file["runs"]:
            before, load = (np.array(point["arms"][kinds.index(kind)]["load"]) for point in run["points"][-2:])
            cards = load.reshape(construction.HALLS, -1).sum(1)
            dealt.append(cards.max() / cards.mean())
            seated = placement.place(before[None].astype(float), construction.COPIES, construction.HALLS)
            each = [sum(load[e] / (seated.seats == e).sum() for e in card if e >= 0) for card in seated.seats[0]]
            copied.append(max(each) / np.mean(each))
        for way, values_of in (("numbered", dealt), ("spare", copied)):
            series = made[f"construction.trained.trained_{way}"]["series"][place]
            ends = [floats(series[name])[-1] for name in ("values", "low", "high")]
            assert ends == pytest.approx([np.mean(values_of), min(values_of), max(values_of)], rel=1e-5), (kind, way)


def test_a_live_run_to_its_end(app, clinic_folder, monkeypatch):
    monkeypatch.setattr(lab, "EXPERIMENT", replace(lab.EXPERIMENT, live=replace(lab.EXPERIMENT.live, steps=4, rows=2, every=1)))
    at = skip(app("zh", clinic_folder))
    next(b for b in at.button if b.label == words.say("zh", "live.start")).click().run()
    until = time.monotonic() + 60
    while not any(one.label == words.say("zh", "live.again") for one in at.button) and time.monotonic() < until:
        time.sleep(0.2)
        at.run()
    assert fine(at)
    axis = shown(at)["construction.live.trained_spare"]["axes"][0]
    assert axis["labels"] == ["1", "2", "3", "4"]


def test_a_missing_record_is_said(app, clinic_folder, monkeypatch, tmp_path):
    labs.recorded.cache_clear()
    monkeypatch.setattr(labs, "RECORDED", tmp_path)
    at = skip(app("en", clinic_folder))
    labs.recorded.cache_clear()
    assert not at.exception and len(at.error) == 1 and "construction.doctor.doctors" in shown(at)
    assert any(str(b.key).endswith(".start") for b in at.button), "trained here and now it can be all the same"
