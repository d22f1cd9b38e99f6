"""The discharge page: what it says against the model asked another way, writing with stop and branches, every setting."""

from __future__ import annotations

import base64
import json
import math
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import screens
import torch
from screens import LANGUAGES, fine, shown, skip
from streamlit.testing.v1 import AppTest

import model
from model.engine import Engine
from model.generate import SamplingSettings, generate, generate_speculative
from pages.kit import chapter, service, state, words
from pages.kit.chapter import number, percent
from pages.kit.figures import discharge

ROOT = Path(__file__).resolve().parents[1]
PAGE = "pages/discharge.py"
SENTENCE = "Doctor, I have a fever."
say = words.say


@pytest.fixture(scope="module", params=["clinic", "hospital"])
def house(request) -> service.Hospital:
    return service.Hospital(model.load(request.getfixturevalue(f"{request.param}_folder")))


def desk_of(house: service.Hospital, text: str = SENTENCE) -> discharge.Desk:
    return discharge.desk(visit_of(house, text))


def visit_of(house: service.Hospital, text: str = SENTENCE, token: int = 2) -> chapter.Visit:
    return screens.visit(house, "discharge", text, token, 1)


def write(desk: discharge.Desk, how: SamplingSettings, n: int, path=(), forced=None):
    """(ids, the steps that were made for them)"""
    ids = []
    for result, walked in desk.house.generate(desk.start, path, how, forced or {}, n):
        ids.append(result.id)
        path = walked
    return tuple(ids), path


# -- writing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [SamplingSettings(), SamplingSettings(1.0), SamplingSettings(0.8, 20, 0.9, seed=4)], ids=range(3))
def test_what_is_written_is_what_the_model_generates(house, how):
    desk = desk_of(house)
    ids, path = write(desk, how, 14)
    assert list(ids) == generate(house.live.engine, house.live.encode(SENTENCE), 14, how).ids
    so_far = discharge.so_far(desk, path, how, {}, 14)
    assert so_far.ids == ids and so_far.pace == pytest.approx(len(path) / sum(step.seconds for step in path))
    assert so_far.ended == (ids[-1] == house.config.eos_token_id)


def test_no_more_is_written_than_is_declared(house):
    desk = desk_of(house)
    assert desk.room == state.MAX_WRITTEN < house.live.engine.positions
    assert len(write(desk, SamplingSettings(2.0, seed=1), 10_000)[0]) <= state.MAX_WRITTEN


def test_after_256_tokens_there_is_still_room(house):
    text = "面" * model.MAX_TOKENS
    desk = desk_of(house, text)
    assert len(desk.start.ids) == model.MAX_TOKENS + 1
    ids, _ = write(desk, SamplingSettings(), 3)
    assert list(ids) == generate(house.live.engine, house.live.encode(text), 3).ids
    assert not discharge.reread(desk, (5, 6), 0).fits, "too long for the other pages"


def test_one_token_is_enough(house):
    desk = desk_of(house, "a")
    assert len(write(desk, SamplingSettings(1.0), 5)[0]) >= 1
    assert discharge.expected(visit_of(house, "a", 1)).shape == (2,)


def test_where_every_position_is_taken_nothing_is_written(house, monkeypatch):
    desk = desk_of(house)
    monkeypatch.setattr(house.live.engine, "positions", len(desk.start.ids))
    assert desk.room == 0 and write(desk, SamplingSettings(), 5)[0] == ()


def test_a_turn_is_taken_for_every_token_and_given_back(house):
    desk, free = desk_of(house), []
    for _ in desk.house.generate(desk.start, (), SamplingSettings(2.0, seed=2), {}, 6):
        free.append(house._turns._value)
    assert free and set(free) == {service.PASSES_AT_ONCE}, "whoever only waits holds no turn"
    for _ in house.speculate(desk.start, 6):
        assert house._turns._value == service.PASSES_AT_ONCE


def test_many_write_at_once_and_nothing_is_shared(house):
    desk, answers = desk_of(house), {}

    def visitor(seed: int) -> None:
        answers[seed] = write(desk, SamplingSettings(1.5, seed=seed), 8)[0]

    before = desk.start.memory.clone(), desk.start.logits.clone()
    crowd = [threading.Thread(target=visitor, args=(seed,)) for seed in range(6)]
    [one.start() for one in crowd]
    [one.join() for one in crowd]
    assert len(answers) == 6
    for seed, ids in answers.items():
        assert ids == write(desk, SamplingSettings(1.5, seed=seed), 8)[0]
    assert torch.equal(before[0], desk.start.memory) and torch.equal(before[1], desk.start.logits)


def test_what_a_visit_keeps_is_small(house):
    desk = desk_of(house)
    _, path = write(desk, SamplingSettings(2.0, seed=3), 20)
    c = house.config
    one = 4 * (c.cache_numbers_per_token + c.vocab_size)
    assert service.tensor_bytes(kept for step in path for kept in (step.memory, step.logits)) == one * len(path)


def said_share(note: str) -> float:
    """The first percentage in a sentence."""
    return float(re.search(r"([\d.]+)%", note).group(1)) / 100


@pytest.mark.parametrize("share,text", [(0.823, "82.3%"), (1.0, "100.0%"), (0.0, "0.0%"), (0.0064, "0.64%"), (0.000012, "0.0012%"), (0.05, "5.0%")])
def test_small_shares_keep_two_digits(share, text):
    assert discharge.fine(share) == text


# -- the draw ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [SamplingSettings(0.6, 12, 0.8, seed=1), SamplingSettings(1.7, 50), SamplingSettings(1.0, None, 0.5)], ids=range(3))
def test_stages(house, how):
    logits = desk_of(house).start.logits
    result = discharge.draw(logits, how, torch.Generator().manual_seed(how.seed))
    made = discharge.stages(result, how)
    z = logits.double().numpy()
    tempered = np.exp(z / how.temperature - (z / how.temperature).max())
    tempered /= tempered.sum()
    order = np.argsort(-tempered, kind="stable")[: how.top_k or len(z)]
    left = tempered[order] / tempered[order].sum()
    enough = int(np.searchsorted(np.cumsum(left), how.top_p) + 1) if how.top_p < 1 else len(order)
    kept = order[:enough]
    assert np.abs(made.tempered.numpy() - tempered).max() < 1e-5
    assert int((made.after_top_k > 0).sum()) == len(order) and set(made.after_top_p.nonzero()[:, 0].tolist()) == set(kept)
    assert made.mass == pytest.approx(tempered[kept].sum(), abs=1e-4)
    assert float(made.after_top_p[kept[0]]) == pytest.approx(tempered[kept[0]] / tempered[kept].sum(), abs=1e-4)
    assert float(made.own.sum()) == pytest.approx(1, abs=1e-4) and made.id in kept


def test_temperature_0_takes_the_likeliest(house):
    desk = desk_of(house)
    made = discharge.stages(discharge.draw(desk.start.logits, SamplingSettings()), SamplingSettings())
    assert made.id == int(desk.start.logits.argmax()) and float(made.tempered[made.id]) == 1
    assert float(made.own[made.id]) < 1


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_chain_says_what_the_stages_are(house, lang, monkeypatch):
    monkeypatch.setattr(words, "current", lambda: lang)
    desk, how = desk_of(house), SamplingSettings(0.7, 5, 0.9, seed=2)
    result = discharge.draw(desk.start.logits, how, torch.Generator().manual_seed(2))
    own, tempered, top_k, top_p = discharge.chain(desk, result, how, False)
    best = desk.start.logits.topk(8).indices.tolist()
    assert own["axes"][0]["indices"][:5] == best[:5]
    assert own["values_list"][:5] == pytest.approx(desk.start.logits.softmax(0)[best[:5]].tolist())
    assert percent(float(desk.start.logits.softmax(0).max())) in own["note"]
    assert tempered["values_list"][:5] == pytest.approx((desk.start.logits / 0.7).softmax(0)[best[:5]].tolist(), abs=1e-6)
    share = float(result.probabilities[result.id])
    assert "5" in top_k["note"] and discharge.fine(share) in top_p["note"]
    assert f"**{desk.word(result.id)}**" in top_p["note"]
    assert say(lang, "discharge.stage.taken", token=desk.word(result.id), share="").split("**")[0] not in top_p["note"]
    taken = discharge.chain(desk, result, how, True)[3]["note"]
    assert say(lang, "discharge.stage.taken", token=desk.word(result.id), share=discharge.fine(share)) in taken
    coming = discharge.chain(desk, result, how, False, coming=True)[3]["note"]
    assert say(lang, "discharge.stage.coming", token=desk.word(result.id), share=discharge.fine(share)) in coming


def test_the_taken_token_is_shown_however_unlikely(house):
    desk = desk_of(house)
    unlikely = int(desk.start.logits.argmin())
    written = discharge.so_far(desk, (), SamplingSettings(), {0: unlikely}, 1)
    at, result = written.drawn(0)
    assert at == 0 and result.id == unlikely and discharge.candidates(result)[-1] == unlikely
    assert len(discharge.candidates(result)) == 8


def test_doubt_is_the_number_of_equally_likely_tokens(house):
    assert discharge.doubt(torch.zeros(37)) == pytest.approx(37, rel=1e-4)
    p = house.trace(SENTENCE).probabilities(-1).double()
    assert discharge.doubt(desk_of(house).start.logits) == pytest.approx(math.exp(-float((p * p.log()).sum())), rel=1e-3)


def test_options_hold_the_answer(house):
    visit = visit_of(house)
    order, right = discharge.options(visit)
    assert order[right] == int(visit.trace.logits[-1].argmax()) and len(set(order)) == 4
    assert set(order) == {c.id for c in visit.trace.top(-1, 4)} and discharge.options(visit) == (order, right)
    places = {discharge.options(visit_of(house, f"{SENTENCE} {n}"))[1] for n in range(12)}
    assert len(places) > 1, "the answer does not always stand in one place"


# -- branches and settings in the link ---------------------------------------------------------------------------------


@pytest.mark.parametrize("forced", [{}, {0: 5}, {3: 17, 12: 4000}])
def test_branches_survive_the_link(forced, monkeypatch):
    text = discharge.as_branch(forced)
    found = state.from_link(state.to_link({"branch": text}))
    monkeypatch.setattr(state, "get", lambda name: found.get(name))
    assert discharge.taken() == forced


@pytest.mark.parametrize("bad", ["", "1", "1.2-", "a.b", "1.2.3", "-1.2", "1.1234567", "٣.١", "-".join(["1.2"] * 17)])
def test_bad_branches_are_left_out(bad):
    assert state.from_link({"branch": bad}) == {}


def test_reading_again(house):
    desk = desk_of(house, "Doctor")
    tokenizer = house.tokenizer
    ids = tuple(tokenizer.encode("Doctor, I have a fever.")[len(desk.start.ids) :])
    way = discharge.reread(desk, (*ids, house.config.eos_token_id), 1)
    assert way.same and way.fits and way.text == "Doctor, I have a fever." and way.token == len(desk.start.ids) + 1
    assert way.tokens == len(tokenizer.encode(way.text)) - 1
    names = {tokenizer.decode([i]): i for i in range(2, tokenizer.vocab_size)}
    split = tuple(names[char] for char in " fever")
    other = discharge.reread(desk, split, len(split) - 1)
    again = tokenizer.encode("Doctor fever")
    assert not other.same and other.text == "Doctor fever" and other.tokens == len(again) - 1 < len(desk.start.ids) + 5
    assert other.token == len(again) - 1, "the token that holds the last letter"
    assert discharge.reread(desk, split, 0).token == len(tokenizer.encode("Doctor")), "the first that reaches so far"


# -- every patient's guess, and guessing ahead -------------------------------------------------------------------------


def test_how_much_each_patient_was_expected(house):
    visit = visit_of(house)
    shares, ids = discharge.expected(visit), visit.trace.ids
    assert bool(shares[0].isnan())
    for i in range(1, len(ids)):
        alone = house.live.engine.forward(list(ids[:i]))[0][-1].softmax(-1)
        assert float(shares[i]) == pytest.approx(float(alone[ids[i]]), abs=1e-4)
    plate = discharge.everyone(visit)
    assert said_share(plate["note"]) == pytest.approx(float(shares[1:].min()), rel=0.06)


def test_guessing_ahead_says_what_happened(house):
    desk = desk_of(house)
    run = None
    for so_far in house.speculate(desk.start, 12):
        run = discharge.settled(so_far)
    truth = generate_speculative(house.live.engine, list(desk.start.ids), 12)
    assert run is not None and list(run.ids) == truth.ids == generate(house.live.engine, list(desk.start.ids), 12).ids
    assert run.accepted == truth.accepted and run.passes == truth.passes
    assert run.saved == truth.accepted, "every right guess saves one pass"
    plate = discharge.guesses(desk, run)
    own, right, wrong = np.frombuffer(base64.b64decode(plate["values"]), "<f4").reshape(3, -1)
    assert right.sum() == truth.accepted and wrong.sum() == truth.drafts - truth.accepted
    assert (own + right == 1).all() and not (wrong * right).any()
    assert number(len(run.ids) / run.seconds, 1) in [fact["value"] for fact in discharge.savings(run)["facts"]]
    why = words.say("en", "discharge.guesses.last")
    ends = discharge.guesses(desk, run._replace(passes=run.passes + 1))  # its last token was guessed, and then confirmed
    assert why not in plate["note"] and ends["note"].endswith(why)


def test_recorded_figures_are_those_of_the_file(hospital_folder, monkeypatch):
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(hospital_folder))
    measured = discharge.evaluation()
    assert measured is not None
    recorded = json.loads((hospital_folder / "evaluation.json").read_text())["heldout"]["model"]["by_source"]
    plate = discharge.bank(measured)
    assert plate["values_list"] == [source["perplexity"] for source in recorded.values()]
    assert f"{recorded['own']['perplexity']:.1f}" in plate["note"]


def test_figures_of_other_weights_are_not_shown(hospital_folder, clinic_folder, tmp_path, monkeypatch):
    other = shutil.copytree(clinic_folder, tmp_path / "other")
    shutil.copy(hospital_folder / "evaluation.json", other)
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(other))
    assert discharge.evaluation() is None
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))
    assert discharge.evaluation() is None, "nothing was measured"


def test_a_new_token_has_one_number(app, hospital_folder):
    """Counted from the first new one, and in the whole text, where the door is 0: on the chips, and where it was drawn."""
    at = app(checkpoint=hospital_folder, written="3", step="2")
    first = len(service.hospital().live.encode(SENTENCE))
    tokens = shown(at)["tokens_step"]
    assert tokens["axes"][0]["offset"] == first and f"the first new one {first}" in tokens["note"]
    assert f"new token 3, number {first + 2} in the whole text" in screens.prose(at)


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def app(monkeypatch, clinic_folder):
    """A visitor who opens the page by its link. The clinic is enough, and shows that no shape is built in."""
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))

    def open_page(lang: str = "en", checkpoint: Path | None = None, **query: str) -> AppTest:
        if checkpoint is not None:
            monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(checkpoint))
        return screens.open_page(PAGE, lang, **{"s": SENTENCE, **query})

    return open_page


def link(at: AppTest) -> dict[str, str]:
    return {k: v[0] if isinstance(v, list) else v for k, v in at.query_params.items()}


def sheet(at: AppTest) -> str:
    return next(h.proto.body for h in at.get("html") if h.proto.body.startswith('<div class="paper">'))


def click(at: AppTest, key: str) -> AppTest:
    return at.button(key=key).click().run()


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
def test_every_depth(app, lang, depth):
    at = app(lang, depth=depth)
    assert fine(at) and at.title[0].value == say(lang, "discharge.title")
    assert "stage_own" not in shown(at) and not [h for h in at.get("html") if h.proto.body.startswith('<div class="paper">')]
    assert {"bank", "guesses"}.isdisjoint(shown(at)) and "expected" in shown(at)
    skip(at)
    assert fine(at) and "stage_top_p" in shown(at) and "sure" not in shown(at)
    click(at, "discharge_write")
    assert fine(at) and "sure" in shown(at)
    click(at, "discharge_ahead")
    assert fine(at) and "guesses" in shown(at)
    assert bool(at.code) == (depth == "code") and bool(at.get("latex") or at.latex) == (depth == "maths")


@pytest.mark.parametrize("sentence", ["a", "面" * model.MAX_TOKENS, "👩‍👩‍👧 <b>x</b> **y** $z$ {0}"], ids=["one", "256", "odd"])
@pytest.mark.parametrize("lang", LANGUAGES)
def test_short_long_and_odd(app, lang, sentence):
    at = app(lang, s=sentence, written="4", ahead="1", token="0")
    assert fine(at) and link(at)["s"] == sentence
    assert len(shown(at)["tokens_step"]["tokens"]) <= 4
    assert "<b>x" not in sheet(at)


def test_the_same_link_is_the_same_text(app):
    query = {"written": "9", "temperature": "150", "top_k": "40", "top_p": "95", "seed": "7"}
    first, second = app(**query), app(**query)
    assert sheet(first).split("<small>")[0] == sheet(second).split("<small>")[0]
    other = app(**{**query, "seed": "8"})
    assert sheet(other).split("<small>")[0] != sheet(first).split("<small>")[0]
    house = service.hospital()
    run = generate(house.live.engine, house.live.encode(SENTENCE), 9, SamplingSettings(1.5, 40, 0.95, 7))
    texts = [p["text"] for p in shown(first)["tokens_step"]["tokens"]]
    assert texts == [discharge.building.shown(p) for p in house.tokenizer.pieces(run.ids)][: len(texts)] and len(texts) == len(run.ids)


def test_settings_ask_the_model_nothing(app, monkeypatch):
    at, house = app(written="8"), service.hospital()
    old, new = (generate(house.live.engine, house.live.encode(SENTENCE), 8, SamplingSettings(1.0, seed=s)).ids for s in (0, 1))
    same = next(i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    monkeypatch.setattr(Engine, "forward", lambda *_, **__: pytest.fail("a pass of the model"))
    click(at, "discharge_roll")
    assert fine(at) and link(at)["seed"] == "1" and link(at)["written"] == str(same + 1)
    texts = [p["text"] for p in shown(at)["tokens_step"]["tokens"]]
    assert texts == [discharge.building.shown(p) for p in house.tokenizer.pieces(new[: same + 1])]
    assert say("en", "discharge.paper.older", text="") in sheet(at), "what it was before stands under it"


def test_one_token_then_again_from_the_beginning(app):
    at = skip(app())
    assert link(at).get("written") is None
    coming = say("en", "discharge.draw.coming")
    assert any(one.value == coming for one in at.caption), "what is shown is not written yet"
    click(at, "discharge_one")
    assert not any(one.value == coming for one in at.caption)
    assert fine(at) and link(at)["written"] == "1" and len(shown(at)["tokens_step"]["tokens"]) == 1
    click(at, "discharge_clear")
    assert fine(at) and "written" not in link(at)


def test_a_branch_is_taken_and_gone_on_from(app):
    house_ids = app(written="6")
    ids = [p["text"] for p in shown(house_ids)["tokens_step"]["tokens"]]
    other = app(written="6", branch="2.300")
    taken = [p["text"] for p in shown(other)["tokens_step"]["tokens"]]
    house = service.hospital()
    assert taken[:2] == ids[:2] and taken[2] == discharge.building.shown(house.tokenizer.pieces([300])[0])
    nobody = app(written="6", branch="2.999999")
    assert fine(nobody) and [p["text"] for p in shown(nobody)["tokens_step"]["tokens"]] == ids


def test_stopped_by_a_full_house_the_text_stays(app, monkeypatch):
    at = app(written="3")
    had = sheet(at)

    def full(*_, **__):
        raise model.UserError("Many.", "busy")

    monkeypatch.setattr(service, "advance", full)
    click(at, "discharge_write")
    assert not at.exception and at.error[0].value.replace("\\", "") == say("en", "error.busy")
    assert had.split("</span>")[1] in sheet(at)
    assert link(at)["written"] == "3", "and nobody asks again by himself"


def test_followed_through_the_house(app):
    at = app(written="5", step="1", temperature="0")
    house = service.hospital()
    start = house.live.encode(SENTENCE)
    ids = generate(house.live.engine, start, 5).ids
    way = discharge.reread(desk_of(house), ids, 1)
    assert ids[1] != house.config.eos_token_id
    click(at, "discharge_follow")
    assert fine(at) and link(at)["s"] == way.text and link(at)["token"] == str(way.token)
    assert "written" not in link(at) and "step" not in link(at)
    assert at.text_input[0].value == way.text


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_sentence_from_outside(app, lang):
    at = app(lang, written="3", branch="0.300")
    click(at, "outside physics")
    assert fine(at) and link(at) == {"lang": lang, "s": say(lang, "discharge.outside.physics")}


def test_a_new_sentence_begins_a_new_sheet(app):
    at = app(written="4", step="2", ahead="1", branch="1.300")
    at.text_input[0].set_value("Noodles").run()
    assert fine(at) and link(at) == {"lang": "en", "s": "Noodles"}
    assert "stage_own" not in shown(at), "its question comes first"


def test_no_module_no_guesses(app, tmp_path, clinic_folder):
    from model import ModelConfig, checkpoint
    from model.deepseek_v3 import DeepseekV3

    plain = DeepseekV3(ModelConfig.preset("clinic").with_(num_nextn_predict_layers=0)).initialise(1)
    checkpoint.save(plain, tmp_path / "plain", clinic_folder / "tokenizer.json", fp8=False)
    at = app("en", tmp_path / "plain", written="2", ahead="1")
    assert fine(at) and say("en", "discharge.ahead.none") in [c.value for c in at.caption]
