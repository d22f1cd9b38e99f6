"""The page of the triage desk: its numbers against the trace, computed another way, and what a person does on it."""

from __future__ import annotations

import base64
import math
from pathlib import Path

import numpy as np
import pytest
import screens
import torch
from screens import LANGUAGES, fine, prose, shown, skip, values
from streamlit.testing.v1 import AppTest

import model
from model import Interventions
from model.deepseek_v3 import DeepseekV3
from pages.kit import chapter, service, state, words
from pages.kit.figures import common, triage

ROOT = Path(__file__).resolve().parents[1]
PAGE = "pages/triage.py"
SENTENCE = "Doctor, I have a fever. Doctor, it hurts."
LONG = "面" * model.MAX_TOKENS


@pytest.fixture(scope="module", params=["clinic", "hospital"])
def house(request) -> service.Hospital:
    return service.Hospital(model.load(request.getfixturevalue(f"{request.param}_folder")))


@pytest.fixture
def look(house):
    """A visit without a screen, on the highest floor of the desk."""

    def at(text: str = SENTENCE, token: int = 6, floor: int | None = None) -> chapter.Visit:
        floor = house.config.first_k_dense_replace if floor is None else floor
        return screens.visit(house, "triage", text, token, floor)

    return at


@pytest.fixture
def app(monkeypatch, hospital_folder):
    """A visitor who opens the page by its link."""
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(hospital_folder))

    def open_page(lang: str = "en", checkpoint: Path | None = None, **query: str) -> AppTest:
        if checkpoint is not None:
            monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(checkpoint))
        return screens.open_page(PAGE, lang, **{"s": SENTENCE, **query})

    return open_page


def length(vector) -> float:
    """By Pythagoras, one number after the other."""
    return math.sqrt(math.fsum(x * x for x in vector.double().tolist()))


def angle(a, b) -> float:
    a, b = a.double().tolist(), b.double().tolist()
    product = math.fsum(x * y for x, y in zip(a, b, strict=True))
    return product / math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [0, 1, 6])
def test_every_part_of_every_floor_of_the_desk(look, token):
    for floor in range(1, look().trace.config.first_k_dense_replace + 1):
        visit = look(token=token, floor=floor)
        trace, layer = visit.trace, floor - 1
        got = triage.parts(visit)
        assert got == pytest.approx((
            length(trace.hidden[layer, token]), length(trace.attention_output[layer, token]),
            length(trace.ffn_output[layer, token]), length(trace.hidden[layer + 1, token]),
        ), rel=1e-5)  # fmt: skip
        rows = values(triage.states(visit)).reshape(4, -1)
        assert np.abs(rows[0] + rows[1] + rows[2] - rows[3]).max() < 1e-4, "after is the sum of the three"
        assert (rows[0] == trace.hidden[layer, token].numpy()).all()


def counted(c: model.ModelConfig) -> tuple[int, int, int]:
    """(dense floor, department: for one token, department: all) weights of the FFN part, counted on the model itself."""
    with torch.device("meta"):
        layers = DeepseekV3(c).layers

    def numbers(part: torch.nn.Module) -> int:
        return sum(tensor.numel() for tensor in part.state_dict().values())

    desk, department = layers[0].mlp, layers[c.first_k_dense_replace].mlp
    experts = c.n_routed_experts + c.n_shared_experts
    each = numbers(department.experts) // experts  # gate, up and down of one
    working = numbers(department.gate) + each * (c.num_experts_per_tok + c.n_shared_experts)
    return numbers(desk), working, numbers(department)


def test_every_weight_works_for_everybody_at_the_desk(look):
    c = look().trace.config
    dense, used, every = counted(c)
    plate = triage.used(c)
    assert plate["values_list"] == pytest.approx([1, used / every])
    assert all(f"{count:,}" in plate["note"] for count in (dense, used, every))


def test_how_far_each_patient_has_turned(look):
    visit = look()
    trace, desk = visit.trace, visit.trace.config.first_k_dense_replace
    turned = values(triage.turns(visit)).reshape(desk, -1)
    for floor in range(desk):
        for token in range(len(trace.ids)):
            assert turned[floor, token] == pytest.approx(angle(trace.hidden[floor + 1, token], trace.hidden[0, token]), abs=1e-5)


def test_the_closed_records_room(look):
    """Attention adds nothing here any more; what that does is measured between the two walks."""
    visit = look()
    trace, heads = visit.trace, range(visit.trace.config.num_attention_heads)
    deaf = Interventions(silence_heads=frozenset((visit.layer, head) for head in heads))
    changed = visit.changed(deaf)
    assert float(changed.attention_output[visit.layer].abs().max()) == 0
    moved = common.answers(visit, changed)
    old, new = trace.probabilities(visit.token), changed.probabilities(visit.token)
    assert (moved.was, moved.now) == pytest.approx((float(old.max()), float(new.max())), abs=1e-6)
    gaps = np.frombuffer(base64.b64decode(triage.drift(visit, changed)["series"][0]["values"]), "<f4")
    for floor, gap in enumerate(gaps):
        before, after = trace.hidden[floor + 1, visit.token], changed.hidden[floor + 1, visit.token]
        assert gap == pytest.approx(length(after - before) / length(before), rel=1e-4, abs=1e-6)
    assert (gaps[: visit.layer] == 0).all() and gaps[visit.layer] > 0, "nothing changes below the closed room"


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
def test_every_depth(app, clinic_folder, lang, depth):
    at = app(lang, clinic_folder, depth=depth)
    assert fine(at) and at.title[0].value == words.say(lang, "triage.title")
    assert bool(at.latex) == (depth == "maths") and bool(at.code) == (depth == "code")
    assert not any("@" in one.value for one in at.latex)
    assert fine(skip(at)) and "triage.desk.lengths" in shown(at)
    assert service.hospital().config.first_k_dense_replace == 1, "a desk of another height than the shipped one"
    assert words.say(lang, "triage.used.one") in prose(at)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("query", [
    {"s": "面"}, {"s": LONG}, {"s": LONG, "token": "0"}, {"token": "0"}, {"floor": "60"}, {"s": "👩‍👩‍👧 **x** $y$ {0}"},
], ids=["one token", "256 tokens", "door of 256", "door", "no desk up there", "odd"])  # fmt: skip
def test_edges(app, clinic_folder, lang, query):
    at = app(lang, clinic_folder, **query)
    assert fine(at) and fine(skip(at))
    assert all(np.isfinite(values(plate)).all() for plate in shown(at).values() if "values" in plate)
    assert shown(at)["triage.who.step_floor"]["axes"][0]["count"] == 1, "only floors of the desk can be chosen"


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("token,floor", [(6, 1), (0, 3)])
def test_numbers_in_the_sentences(app, hospital_folder, lang, token, floor):
    """Each number that is said is put together again from the trace."""
    at = skip(app(lang, token=str(token), floor=str(floor), change="close_records"))
    live, n = model.load(hospital_folder), chapter.number
    trace, c, layer = live.trace(SENTENCE), live.config, floor - 1
    said, made = prose(at), shown(at)
    attention, ffn = length(trace.attention_output[layer, token]), length(trace.ffn_output[layer, token])
    assert words.say(lang, "triage.larger.answer", attention=n(attention), ffn=n(ffn)) in said
    assert n(angle(trace.hidden[floor, token], trace.hidden[0, token])) in made["triage.desk.turns"]["note"]

    dense, used, every = counted(c)
    assert f"{used / every:.1%}" in said and "100%" in said
    assert all(f"{count:,}" in made["triage.everybody.used"]["note"] for count in (dense, used, every))

    deaf = frozenset((layer, head) for head in range(c.num_attention_heads))
    changed = live.trace(SENTENCE, Interventions(silence_heads=deaf))
    for one in (trace, changed):
        best = float(one.probabilities(token).max())
        assert chapter.percent(best) in said
    first, last = (length(changed.hidden[i, token] - trace.hidden[i, token]) / length(trace.hidden[i, token])
                   for i in (floor, c.num_hidden_layers))  # fmt: skip
    note = made["triage.touch.drift"]["note"]
    assert chapter.percent(first) in note and chapter.percent(last) in note, "in the unit of the picture"
    best = changed.probabilities(token).topk(5)
    assert made["triage.touch.next"]["values_list"] == pytest.approx(best.values.tolist(), abs=1e-6)
    assert made["triage.touch.next"]["before_list"] == pytest.approx(trace.probabilities(token)[best.indices].tolist(), abs=1e-6)


def test_maths_holds_the_followed_tokens_numbers(app, hospital_folder):
    at = skip(app(depth="maths", token="6", floor="2"))
    trace, put = model.load(hospital_folder).trace(SENTENCE), chapter.tex_number
    text = " ".join(one.value for one in at.latex)
    for name, vector in (("mathbf{h}_{\\ell-1}", trace.hidden[1, 6]), ("operatorname{Attention}", trace.attention_output[1, 6]),
                         ("operatorname{FFN}", trace.ffn_output[1, 6]), ("mathbf{h}_\\ell", trace.hidden[2, 6])):  # fmt: skip
        assert f"\\lVert\\{name}\\rVert = {put(length(vector))}" in text


def test_nothing_is_closed_before_somebody_closes_it(app, hospital_folder):
    at = app(token="6", floor="1")
    assert "triage.touch.drift" not in shown(at)
    at = at.toggle(key="triage.closed").set_value(True).run()
    assert fine(at) and "triage.touch.drift" in shown(at) and at.query_params["change"] == "close_records"
    at = at.toggle(key="triage.closed").set_value(False).run()
    assert fine(at) and "triage.touch.drift" not in shown(at) and "change" not in at.query_params


def test_another_floor_closes_another_room(app, hospital_folder):
    """What is changed follows the floor: below it nothing moves."""
    first = [np.frombuffer(base64.b64decode(shown(app(floor=str(floor), change="close_records"))["triage.touch.drift"]["series"][0]["values"]), "<f4")
             for floor in (1, 2, 3)]  # fmt: skip
    for floor, gaps in enumerate(first, 1):
        assert (gaps[: floor - 1] == 0).all() and (gaps[floor - 1 :] > 0).all()


@pytest.mark.parametrize("guess", ["attention", "ffn"])
def test_the_question_hides_and_then_shows(app, hospital_folder, guess):
    at = app(token="6", floor="1")
    assert "triage.desk.lengths" not in shown(at)
    before = values(shown(at)["triage.desk.states"]).reshape(4, -1)
    assert np.isnan(before[1:3]).all() and np.isfinite(before[[0, 3]]).all(), "the record does not give the answer away"
    trace = model.load(hospital_folder).trace(SENTENCE)
    larger = "ffn" if length(trace.ffn_output[0, 6]) > length(trace.attention_output[0, 6]) else "attention"
    next(b for b in at.button if b.label == words.say("en", f"triage.larger.{guess}")).click().run()
    assert fine(at) and "triage.desk.lengths" in shown(at)
    assert np.isfinite(values(shown(at)["triage.desk.states"])).all()
    assert words.say("en", "chapter.right" if guess == larger else "chapter.wrong") in prose(at)


@pytest.mark.parametrize("depth", state.DEPTHS)
def test_no_depth_answers_the_question_beforehand(app, hospital_folder, depth):
    at = app(depth=depth, token="6", floor="1")
    trace, n = model.load(hospital_folder).trace(SENTENCE), chapter.number
    lengths = [n(length(added[0, 6])) for added in (trace.attention_output, trace.ffn_output)]

    def told(at: AppTest) -> str:
        return prose(at) + "".join(one.value for one in at.latex)

    assert not any(one in told(at) for one in lengths)
    at = skip(at)
    assert all(one in told(at) for one in lengths)


def test_looking_leaves_the_model_and_its_trace_alone(look):
    visit = look()
    before = visit.trace.hidden.clone(), visit.trace.logits.clone()
    visit.changed(Interventions(silence_heads=frozenset({(visit.layer, 0)})))
    again = visit.house.live.trace(SENTENCE)
    assert (visit.trace.hidden == before[0]).all() and (visit.trace.logits == before[1]).all()
    assert (again.logits == before[1]).all()
