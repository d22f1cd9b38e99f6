"""The page of the heads: its numbers against the trace, computed another way, and what a person does on it."""

from __future__ import annotations

import base64
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import screens
import torch
from screens import LANGUAGES, fine, shown, skip, values
from streamlit.testing.v1 import AppTest

import model
from model import Interventions
from pages.kit import chapter, plates, service, state, words
from pages.kit.figures import heads

ROOT = Path(__file__).resolve().parents[1]
PAGE = "pages/heads.py"
SENTENCE = "Doctor, I have a fever. Doctor, it hurts."
LONG = "面" * model.MAX_TOKENS


@pytest.fixture(scope="module")
def house(clinic_folder) -> service.Hospital:
    return service.Hospital(model.load(clinic_folder))


@pytest.fixture
def look(house):
    """A visit without a screen."""

    def at(text: str = SENTENCE, token: int = 6, floor: int = 3) -> chapter.Visit:
        return screens.visit(house, "heads", text, token, floor)

    return at


@pytest.fixture
def app(monkeypatch, clinic_folder):
    """A visitor who opens the page by its link."""
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))

    def open_page(lang: str = "en", **query: str) -> AppTest:
        return screens.open_page(PAGE, lang, **{"s": SENTENCE, **query})

    return open_page


def softmax_by_hand(
    trace: model.Trace, layer: int, head: int, token: int
) -> tuple[list[float], list[float], list[float]]:
    """Content, position and weights of one row in float64, from queries and memory, one product at a time."""
    r = trace.config.kv_lora_rank
    query = trace.queries[layer, token, head].double().tolist()
    content, position = [], []
    for past in range(token + 1):
        key = trace.memory[layer, past].double().tolist()
        content.append(sum(a * b for a, b in zip(query[:r], key[:r], strict=True)))
        position.append(sum(a * b for a, b in zip(query[r:], key[r:], strict=True)))
    powers = [math.exp(a + b) for a, b in zip(content, position, strict=True)]
    return content, position, [power / sum(powers) for power in powers]


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("floor,head,token", [(1, 0, 6), (3, 2, 9), (4, 3, 1), (2, 1, 0)])
def test_parts_of_a_score(look, floor, head, token):
    visit = look(token=token, floor=floor)
    content, position, weights = softmax_by_hand(visit.trace, floor - 1, head, token)
    row = heads.scores(visit, head)
    assert row.content.tolist() == pytest.approx(content, abs=1e-5)
    assert row.position.tolist() == pytest.approx(position, abs=1e-5)
    assert row.weights.tolist() == pytest.approx(weights, abs=1e-6)
    assert row.read == max(range(token + 1), key=weights.__getitem__)


@pytest.mark.parametrize("text", [SENTENCE, "面", LONG], ids=["sentence", "one token", "256 tokens"])
def test_habits(look, text):
    visit = look(text, token=1)
    weights = visit.trace.attention(2)
    tokens = len(visit.trace.ids)
    for head in range(0, weights.shape[0], 3):
        sums = dict.fromkeys(heads.PLACES, 0.0)
        for row in range(1, tokens):
            for column in range(row + 1):
                place = ("itself" if column == row else "door" if column == 0
                         else "before" if column == row - 1 else "elsewhere")  # fmt: skip
                sums[place] += float(weights[head, row, column]) if tokens < 50 else 0
            if tokens >= 50:
                line = weights[head, row, : row + 1].double()
                sums["itself"] += float(line[row])
                sums["door"] += float(line[0])
                sums["before"] += float(line[row - 1]) if row > 1 else 0
                sums["elsewhere"] += float(line[1 : row - 1].sum()) if row > 1 else 0
        got = heads.habits(weights)[head]
        assert got.tolist() == pytest.approx([sums[place] / (tokens - 1) for place in heads.PLACES], abs=1e-5)
        assert float(got.sum()) == pytest.approx(1, abs=1e-5)


def test_reading_everybody_equally():
    """Three tokens: the door's neighbour reads itself and the door, the third one all three."""
    assert heads.evenly(3).tolist() == pytest.approx([(1 / 2 + 1 / 3) / 2, 1 / 6, (1 / 2 + 1 / 3) / 2, 0])


def test_habits_of_the_door_alone():
    assert heads.habits(torch.ones(2, 1, 1)).tolist() == [[1, 0, 0, 0]] * 2


@pytest.mark.parametrize("token,count", [(0, 1), (1, 2), (2, 3), (3, 4), (11, 4)])
def test_the_question_has_the_right_answer_among_its_options(look, token, count):
    visit = look(token=token)
    found = heads.most(visit)
    together = visit.trace.attention(visit.layer)[:, token].double().mean(0)
    assert len(found.options) == len(set(found.options)) == count and max(found.options) <= token
    assert found.options[found.right] == int(together.argmax())
    assert found.share == pytest.approx(float(together.max()), abs=1e-6)
    favourites = [
        max(range(token + 1), key=row.__getitem__) for row in visit.trace.attention(visit.layer)[:, token].tolist()
    ]
    assert found.agree == favourites.count(found.options[found.right]) and found.different == len(set(favourites))
    assert dict(zip(found.places, found.options, strict=True)).get("before", token - 1) == token - 1


def test_another_head_is_drawn_and_stays_the_same(look):
    visit = look()
    count = visit.trace.config.num_attention_heads
    for head in range(count):
        assert heads.lot(visit, head) in set(range(count)) - {head}
        assert heads.lot(visit, head) == heads.lot(look(), head)


# -- the plate of many panels ------------------------------------------------------------------------------------------


def unpacked(plate: dict) -> np.ndarray:
    """(panels, n, n) with NaN above the diagonal."""
    count, size = plate["axes"][0]["count"], -(-plate["axes"][1]["count"] // plate["per"])
    full = np.full((count, size, size), np.nan, np.float32)
    full[:, *np.tril_indices(size)] = values(plate).reshape(count, -1)
    return full


def test_panels_hold_the_weights_as_they_are(look):
    visit = look()
    plate, weights = heads.patterns(visit, 0, hidden=False), visit.trace.attention(visit.layer).numpy()
    got = unpacked(plate)
    assert plate["per"] == 1 and (got[~np.isnan(got)] == weights[~np.isnan(got)]).all()
    assert np.isnan(got).sum() == (weights == 0).sum(), "only the future is left out"
    assert plate["domain"][1] == weights[:, 1:].max()


def test_the_followed_row_is_not_sent_before_it_was_guessed(look):
    visit = look()
    got = unpacked(heads.patterns(visit, 0, hidden=True))
    assert np.isnan(got[:, visit.token]).all() and not np.isnan(got[:, visit.token - 1, 0]).any()


def test_many_tokens_share_cells(look):
    visit = look(LONG, token=200)
    plate, weights = heads.patterns(visit, 1, hidden=False), visit.trace.attention(visit.layer).numpy()
    tokens, per, got = len(visit.trace.ids), plate["per"], unpacked(plate)
    assert tokens == model.MAX_TOKENS + 1 and per > 1 and got.shape[1] * per >= tokens > (got.shape[1] - 1) * per
    for row, column in [(0, 0), (3, 1), (got.shape[1] - 1, 5), (got.shape[1] - 1, got.shape[1] - 1)]:
        block = weights[:, row * per : (row + 1) * per, column * per : (column + 1) * per]
        assert (got[:, row, column] == block.max((1, 2))).all()
    assert str(per) in plate["note"]


def test_grids_of_any_shape():
    made = plates.grids("x", plates.axis("head", 2), plates.axis("token", 3), plates.axis("key", 5),
                        torch.arange(30.0).view(2, 3, 5), title="x", alt="x", cells=3)  # fmt: skip
    assert made["per"] == 2
    assert values(made).reshape(2, 2, 3).tolist() == [[[6, 8, 9], [11, 13, 14]], [[21, 23, 24], [26, 28, 29]]]


@pytest.mark.parametrize("tokens", [64, model.MAX_TOKENS])
def test_data_stays_small(hospital_folder, tokens):
    """All of the page's pictures, for the shape that is shipped."""
    house = service.Hospital(model.load(hospital_folder))
    text = "12 " * (tokens // 3 + 1)
    while len(house.live.encode(text, 9999)) > tokens + 1:
        text = text[:-1]
    trace = house.trace(text)
    pieces = [
        {"text": p.text, "partial": False, "special": p.is_special} for p in house.tokenizer.pieces(list(trace.ids))
    ]
    visit = chapter.Visit("heads", house, text, trace, len(trace.ids) - 1, 31, pieces)
    made = [heads.patterns(visit, 3, hidden=False), heads.reads(visit, heads.most(visit)), heads.habit(visit, 3),
            *heads.split(visit, 3, heads.scores(visit, 3))]  # fmt: skip
    assert len(trace.ids) > tokens - 3 and len(json.dumps(made)) < 200_000


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
@pytest.mark.parametrize("change", ["", "silence_heads"])
def test_every_depth(app, lang, depth, change):
    at = app(lang, depth=depth, change=change, head="2", floor="3")
    assert fine(at) and at.title[0].value == words.say(lang, "heads.title")
    assert len(at.latex) == (10 if depth == "maths" else 0) and bool(at.code) == (depth == "code")
    assert fine(skip(at)) and "heads.all.reads" in shown(at)
    assert not any("@" in one.value for one in at.latex)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("query", [
    {"s": "面"}, {"s": LONG}, {"s": LONG, "token": "0"}, {"token": "0"}, {"token": "1"}, {"floor": "1"},
    {"head": "999"}, {"s": "👩‍👩‍👧 **x** $y$ {0}"},
], ids=["one token", "256 tokens", "door of 256", "door", "second", "lowest", "no such head", "odd"])  # fmt: skip
@pytest.mark.parametrize("change", ["", "silence_heads"])
def test_edges(app, lang, query, change):
    at = app(lang, change=change, **query)
    assert fine(at)
    assert np.isfinite(values(shown(at)["heads.all.patterns"])).any()


def test_numbers_in_the_sentences(app, house):
    """Each number in the notes is put together again from the trace."""
    token, floor, head = 7, 3, 1
    at = skip(app(token=str(token), floor=str(floor), head=str(head)))
    trace, made = house.trace(SENTENCE), shown(at)
    content, position, weights = softmax_by_hand(trace, floor - 1, head, token)
    best = max(range(token + 1), key=weights.__getitem__)
    n = chapter.number
    made_of, makes = (content[best], position[best]), content[best] + position[best]
    exact = round(round(made_of[0], 3) + round(made_of[1], 3) - round(makes, 3), 3) == 0  # so that a pupil can add it up
    assert f"{n(made_of[0])} + {n(made_of[1])} {'=' if exact else '≈'} {n(makes)}" in made["heads.one.total"]["note"]
    note = made["heads.one.weights"]["note"]
    assert f"{weights[best]:.1%}" in note and f"{1 - weights[best]:.1%}" in note and f"({token} of them)" in note
    assert f"{max(content):.3f}".replace("-", "−") in made["heads.one.content"]["note"]
    assert f"{max(position):.3f}".replace("-", "−") in made["heads.one.position"]["note"]
    spoken = " ".join(one.value for one in at.markdown)
    assert f"{weights[best]:.1%}" in spoken.replace("\\", "")
    rows = [softmax_by_hand(trace, floor - 1, head, row)[2] for row in range(1, len(trace.ids))]
    assert f"{sum(map(max, rows)) / len(rows):.1%}" in made["heads.all.patterns"]["note"]
    every = [softmax_by_hand(trace, floor - 1, one, token)[2] for one in range(trace.config.num_attention_heads)]
    together = [sum(row[key] for row in every) / len(every) for key in range(token + 1)]
    right = max(range(token + 1), key=together.__getitem__)
    assert f"{together[right]:.1%}" in spoken.replace("\\", "")
    agree = sum(max(range(token + 1), key=row.__getitem__) == right for row in every)
    assert f"{agree} of {len(every)}" in made["heads.all.reads"]["note"]
    shown_counts = [one["value"] for one in made["heads.cut.counts"]["facts"]]
    assert shown_counts == [str(len(trace.ids)), str(trace.config.num_attention_heads), str(len(trace.ids))]


def test_maths_holds_the_followed_tokens_numbers(app, house):
    at = app(token="7", floor="3", head="1", depth="maths")
    content, position, weights = softmax_by_hand(house.trace(SENTENCE), 2, 1, 7)
    best = max(range(8), key=weights.__getitem__)
    powers = [math.exp(a + b) for a, b in zip(content, position, strict=True)]
    text = " ".join(one.value for one in at.latex)
    put, makes = chapter.tex_number, content[best] + position[best]
    exact = round(round(content[best], 3) + round(position[best], 3) - round(makes, 3), 3) == 0
    sign = "=" if exact else r"\approx"
    assert f"z_{{7,{best}}} = {put(content[best])} + {put(position[best])} {sign} {put(makes)}" in text
    fraction = re.search(r"\\frac\{([\d.]+)\}\{([\d.]+)\} = ([\d.]+)", text)
    assert fraction, text
    assert [float(x) for x in fraction.groups()] == pytest.approx([powers[best], sum(powers), weights[best]], abs=6e-4)


def test_the_question_hides_and_then_shows(app, house):
    at = app(token="7", floor="3")
    made = shown(at)
    assert "heads.all.reads" not in made and np.isnan(unpacked(made["heads.all.patterns"])[:, 7]).all()
    together = house.trace(SENTENCE).attention(2)[:, 7].mean(0)
    buttons = [b for b in at.button if str(b.key).startswith("predict.heads.most.") and not b.key.endswith(".skip")]
    assert len(buttons) == 4
    places = [6 + 1, 6, 0, 1 + int(together[1:6].argmax())]  # itself, before, door, further back
    buttons[places.index(int(together.argmax()))].click().run()
    made = shown(at)
    assert fine(at) and "heads.all.reads" in made
    assert any(words.say("en", "chapter.right") in one.value for one in at.markdown)
    assert not np.isnan(unpacked(made["heads.all.patterns"])[:, 7, :8]).any()


def test_the_door_is_asked_nothing(app):
    at = app(token="0")
    assert fine(at) and "heads.all.reads" in shown(at)
    assert not [b for b in at.button if str(b.key).startswith("predict.")]
    assert "100.0%" in shown(at)["heads.one.weights"]["note"]


def test_switching_a_head_off_and_on(app, house):
    at = app(token="7", floor="2", head="3")
    calm = shown(at)
    assert "heads.off.next" in calm and "heads.off.drift" not in calm and not at.toggle[0].value
    at.toggle[0].set_value(True).run()
    made = shown(at)
    assert fine(at) and at.query_params["change"] in ("silence_heads", ["silence_heads"])
    trace = house.trace(SENTENCE)
    series = made["heads.off.drift"]["series"]
    visit = chapter.Visit("heads", house, SENTENCE, trace, 7, 2, [])
    pair = [3, heads.lot(visit, 3)]
    assert len(series) == 2
    for one, head in zip(series, pair, strict=True):
        alone = house.live.trace(SENTENCE, Interventions(silence_heads=frozenset({(1, head)})))
        gap = (alone.hidden - trace.hidden)[1:, 7].double().norm(dim=1) / trace.hidden[1:, 7].double().norm(dim=1)
        got = np.frombuffer(base64.b64decode(one["values"]), "<f4")
        assert got.tolist() == pytest.approx(gap.tolist(), abs=1e-6) and got[0] == 0 < got[1]
        assert (
            f"{float(gap[1]):.1%} on this floor and {float(gap[-1]):.1%} at the top with head {head} off"
            in made["heads.off.drift"]["note"]
        )
    alone = house.live.trace(SENTENCE, Interventions(silence_heads=frozenset({(1, 3)})))
    best = alone.probabilities(7).topk(5)
    assert made["heads.off.heads_off_this"]["values_list"] == pytest.approx(best.values.tolist(), abs=1e-6)
    assert made["heads.off.heads_off_this"]["before_list"] == pytest.approx(
        trace.probabilities(7)[best.indices].tolist(), abs=1e-6
    )
    at.toggle[0].set_value(False).run()
    assert shown(at)["heads.off.next"]["values_list"] == calm["heads.off.next"]["values_list"]
    assert "change" not in at.query_params


def test_another_pages_change_is_not_this_ones(app):
    at = app(change="dismiss")
    assert fine(at) and not at.toggle[0].value and "heads.off.drift" not in shown(at)


def test_nothing_is_computed_where_nothing_is_changed(app, house, monkeypatch):
    asked = []
    original = service.Hospital.trace
    monkeypatch.setattr(
        service.Hospital, "trace", lambda self, text, do=None: asked.append(do) or original(self, text, do)
    )
    at = app(head="1")
    assert fine(at) and asked and set(asked) == {None}
