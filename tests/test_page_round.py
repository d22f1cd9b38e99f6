"""The page of the whole round: its numbers against the trace, computed another way, and what a person does on it."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import screens
import torch
from screens import LANGUAGES, fine, floats, shown, skip
from streamlit.testing.v1 import AppTest

import model
from model import Interventions, ModelConfig
from model.deepseek_v3 import DeepseekV3
from model.study import EarlyExit, ExitRule
from model.train import grow
from pages.kit import building, chapter, plates, service, state, words
from pages.kit.figures import round as figures

ROOT = Path(__file__).resolve().parents[1]
PAGE = "pages/round.py"
SENTENCE = "Doctor, I have a fever. Doctor, it hurts."
LONG = "面" * model.MAX_TOKENS
DEPTHS = state.DEPTHS


@pytest.fixture(scope="module", params=["clinic", "hospital"])
def house(request) -> service.Hospital:
    return service.Hospital(model.load(request.getfixturevalue(f"{request.param}_folder")))


@pytest.fixture
def look(house):
    """A visit without a screen."""

    def at(text: str = SENTENCE, token: int = 6, floor: int = 3) -> chapter.Visit:
        return screens.visit(house, "round", text, token, floor)

    return at


@pytest.fixture
def clinic_look(clinic_folder):
    """A visit to the clinic without a screen."""
    house = service.Hospital(model.load(clinic_folder))

    def at(token: int = 6, floor: int = 3) -> chapter.Visit:
        return screens.visit(house, "round", SENTENCE, token, floor)

    return at


@pytest.fixture
def app(monkeypatch, clinic_folder):
    """A visitor who opens the page by its link."""
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))

    def open_page(lang: str = "en", **query: str) -> AppTest:
        return screens.open_page(PAGE, lang, **{"s": SENTENCE, **query})

    return open_page


def rooms(trace, layer: int, token: int) -> set[int]:
    return set(trace.chosen[layer, token].tolist())


# -- who shares rooms --------------------------------------------------------------------------------------------------


def test_rooms_shared_are_those_of_the_trace(look):
    visit = look()
    trace, c, tokens = visit.trace, visit.trace.config, len(visit.trace.ids)
    by_hand = np.array([
        [sum(len(rooms(trace, m, a) & rooms(trace, m, b)) for m in range(c.num_moe_layers)) for b in range(tokens)]
        for a in range(tokens)
    ])  # fmt: skip
    assert (figures.meetings(visit).numpy() == by_hand).all()
    found = figures.company(visit, 2)
    pairs = [by_hand[a, b] for a, b in itertools.combinations(range(tokens), 2)]
    assert (found.other, found.shared) == (2, by_hand[6, 2])
    assert found.mean == pytest.approx(by_hand[6, 2] / c.num_moe_layers)
    assert found.everybody == pytest.approx(np.mean(pairs) / c.num_moe_layers, rel=1e-5)
    per_floor = floats(figures.rooms_shared(visit, found)["values"]).reshape(c.num_moe_layers, tokens)
    assert np.isnan(per_floor[:, 6]).all()
    for m, b in itertools.product(range(c.num_moe_layers), (0, 2, tokens - 1)):
        assert per_floor[m, b] == len(rooms(trace, m, 6) & rooms(trace, m, b))


def test_company_is_the_one_with_most_rooms_in_common_and_never_oneself(look):
    for token, wanted in itertools.product((0, 3, 6), (None, 3, 99)):
        visit = look(token=token)
        found = figures.company(visit, wanted)
        assert found.other != token and found.other < len(visit.trace.ids)
        if wanted != 3 or token == 3:
            others = [int(n) for i, n in enumerate(figures.meetings(visit)[token]) if i != token]
            assert found.shared == max(others)


def test_chance_of_meeting_is_what_drawing_by_lot_gives():
    c = ModelConfig.preset("hospital")
    assert figures.by_chance(c) == 8 * 8 / 256
    dice = np.random.default_rng(1)
    k, e = c.num_experts_per_tok, c.n_routed_experts
    draws = [len(set(dice.permutation(e)[:k]) & set(range(k))) for _ in range(20_000)]
    assert np.mean(draws) == pytest.approx(figures.by_chance(c), abs=0.015)


# -- who was woken -----------------------------------------------------------------------------------------------------


def test_woken_grows_as_the_calls_say(look):
    visit = look()
    trace, c = visit.trace, visit.trace.config
    awake: set[tuple[int, int]] = set()
    for token, row in enumerate(figures.first_calls(visit).tolist()):
        calls = {(m, e) for m in range(c.num_moe_layers) for e in rooms(trace, m, token)}
        assert row == [sum(at == m for at, _ in calls - awake) for m in range(c.num_moe_layers)]
        if token == visit.token:
            assert figures.woken(visit).new == len(calls - awake)
        awake |= calls
    found = figures.woken(visit)
    assert found.woken == len(awake) == trace.experts_touched
    assert found.per_token == c.num_moe_layers * (c.num_experts_per_tok + c.n_shared_experts)
    grown = figures.growth(visit, found)["series"]
    assert floats(grown[0]["values"])[-1] == len(awake)
    assert f"{found.woken:,}" in figures.growth(visit, found)["note"]


def test_chance_of_being_woken():
    c = ModelConfig.preset("hospital")
    assert c.num_moe_layers * c.n_routed_experts == 14_848
    grown = figures.grown_by_chance(c, 300)
    assert float(grown[0]) == pytest.approx(464, rel=1e-4)
    for t in (2, 9, 300):
        assert float(grown[t - 1]) == pytest.approx(14_848 * (1 - (248 / 256) ** t), rel=1e-3)


# -- what is added -----------------------------------------------------------------------------------------------------


def test_the_parts_are_the_whole_and_so_is_what_they_are_worth(look):
    visit = look()
    trace, at, first = visit.trace, visit.token, visit.trace.config.first_k_dense_replace
    parts = figures.added(visit, visit.token)
    total = trace.hidden[0, at] + sum(part.nan_to_num().sum(0) for part in parts.values())
    assert torch.allclose(total, trace.hidden[-1, at], atol=1e-3)
    assert parts["desk"][first:].isnan().all() and parts["nurse"][:first].isnan().all()
    for m in (0, trace.config.num_moe_layers - 1):  # the other way round: every opinion by itself
        layer, k = m + first, trace.config.num_experts_per_tok
        opinions = house_opinions(visit, layer)
        assert torch.allclose(parts["interns"][layer], opinions[:k].sum(0), atol=1e-4)
        assert torch.allclose(parts["nurse"][layer], opinions[k:].sum(0), atol=1e-4)
    found, each = figures.worth(visit, parts)
    assert found.embedding + sum(found.parts.values()) == pytest.approx(found.logit, abs=1e-3)
    logits = trace.logits[at].double()
    assert found.logit == pytest.approx(float(logits.max() - logits.mean()), abs=1e-4)
    plate = figures.pushes(visit, found, each)
    tops = {one["role"]: floats(one["values"]) for one in plate["series"]}
    assert tops["attention"][-1] == pytest.approx(found.parts["attention"], abs=1e-4)
    assert tops["intern"][-1] == pytest.approx(found.parts["interns"], abs=1e-4)
    assert np.isnan(tops["desk"][first:]).all() and tops["desk"][first - 1] == pytest.approx(found.parts["desk"])


def house_opinions(visit, layer):
    return visit.house.live.engine.opinions(visit.trace, layer, visit.token)


def test_lengths_say_what_the_floor_added(look):
    visit = look(floor=1)
    note = figures.lengths(visit, figures.added(visit, visit.token))["note"]
    attention, ffn = visit.trace.attention_output[0, 6].norm(), visit.trace.ffn_output[0, 6].norm()
    assert chapter.number(float(attention)) in note and chapter.number(float(ffn)) in note


# -- the lens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [1, 5, 8])
def test_floors_of_one_origin_are_those_that_growing_copies(monkeypatch, more):
    c = ModelConfig.preset("clinic")
    network = DeepseekV3(c).initialise(1)
    after = grow(network, c.num_hidden_layers + more, noise=0.0)
    stages = [{"layers": c.num_hidden_layers}, {"layers": after.c.num_hidden_layers}]
    monkeypatch.setattr(figures.discharge, "evaluation", lambda: {"training": {"stages": stages}})
    gates = [router.weight for router in after.routers()][: after.c.num_moe_layers]
    desk = c.first_k_dense_replace
    for i, gate in enumerate(gates):
        found = figures.grown(SimpleNamespace(trace=SimpleNamespace(config=after.c), department=i))
        same = [desk + j + 1 for j, other in enumerate(gates) if torch.equal(gate, other)]
        assert found == (c.num_hidden_layers, same[0], same[-1])
        assert same == list(range(same[0], same[-1] + 1))


def test_the_steps_are_explained_where_the_house_was_grown(house, look, monkeypatch, hospital_folder):
    """And what is said there of who meets whom is so: more alike within such a group of floors than between two."""
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(hospital_folder))
    visit = look(floor=20) if house.config.num_hidden_layers > 20 else look()
    note = figures.lengths(visit, figures.added(visit, visit.token))["note"]
    stages = (figures.discharge.evaluation() or {}).get("training", {}).get("stages", [])
    if house.config.num_hidden_layers not in [stage["layers"] for stage in stages[1:]]:
        assert figures.grown(visit) is None and note.endswith(".")
        return
    found = figures.grown(visit)
    assert found.first <= 20 <= found.last and f"Floors {found.first}–{found.last} come from one" in note
    chosen = visit.trace.chosen.long()
    floors, tokens, _ = chosen.shape
    called = torch.zeros(floors, tokens, house.config.n_routed_experts).scatter_(2, chosen, 1.0)
    first, second = torch.triu_indices(tokens, tokens, 1)
    met = (called @ called.transpose(1, 2))[:, first, second]
    alike = torch.corrcoef(met)
    desk = house.config.first_k_dense_replace
    inside = torch.zeros(floors, dtype=torch.bool)
    inside[found.first - desk - 1 : found.last - desk] = True
    here = 20 - desk - 1
    others = inside.clone()
    others[here] = False
    assert alike[here, others].mean() > alike[here, ~inside].mean() + 0.1


def test_the_lens_is_what_stopping_there_gives(look):
    visit = look()
    trace, seen = visit.trace, figures.lens(visit)
    floors = trace.config.num_hidden_layers
    for floor, token in itertools.product((1, 2, floors - 1, floors), (0, 6, len(trace.ids) - 1)):
        stopped = visit.house.live.engine.trace(list(trace.ids), Interventions(stop_after=floor))
        probabilities = stopped.probabilities(token)
        answer = int(trace.logits[token].argmax())
        at = (floor - 1, token)
        assert float(seen.best[at]) == pytest.approx(float(probabilities.max()), rel=1e-4)
        assert float(seen.final[at]) == pytest.approx(float(probabilities[answer]), rel=1e-4)
        order = probabilities.argsort(descending=True).tolist()
        assert int(seen.word[at]) == order[0] and int(figures.place(visit, token)[floor - 1]) == order.index(answer) + 1
        assert int(figures.place(visit, token)[-1]) == 1
    assert (seen.word[-1] == trace.logits.argmax(-1)).all()


def test_settled_is_the_floor_after_the_last_other_answer(look):
    visit = look()
    said = figures.lens(visit).word
    for token in range(len(visit.trace.ids)):
        words_heard = said[:, token].tolist()
        final = words_heard[-1]
        found = figures.settled(look(token=token))
        assert words_heard[found.first - 1] == final and final not in words_heard[: found.first - 1]
        assert set(words_heard[found.good - 1 :]) == {final}
        assert found.good == 1 or words_heard[found.good - 2] != final


def test_stretches_are_the_lens_without_repetitions(look):
    visit = look()
    said = figures.lens(visit).word[:, visit.token].tolist()
    found = figures.stretches(visit)
    assert [one.word for one in found for _ in range(one.first, one.last + 1)] == said
    assert all(a.word != b.word and a.last + 1 == b.first for a, b in itertools.pairwise(found))
    assert figures.diary(visit)["axes"][0]["indices"][-1] == visit.trace.config.num_hidden_layers


@pytest.mark.parametrize("preset", ["hospital", "clinic", "deepseek-v3"])
def test_every_floor_is_one_answer_of_the_question(preset):
    c = ModelConfig.preset(preset)
    stages = figures.stages(c)
    floors = [floor for first, last in stages for floor in range(first, last + 1)]
    assert floors == list(range(1, c.num_hidden_layers + 1)) and len(stages) > 2
    assert [stages[figures.stage_of(c, f)][0] <= f <= stages[figures.stage_of(c, f)][1] for f in floors]
    assert stages[0] == (1, c.first_k_dense_replace)


def test_the_lens_is_computed_once_for_a_trace(look):
    assert figures.lens(look(floor=1)) is figures.lens(look(token=2, floor=3))
    assert figures.lens(look()) is not figures.lens(look("Doctor"))


def test_the_lens_of_one_token_is_its_part_of_the_whole(look):
    whole = figures.lens(look())
    for token in (0, 3):
        assert all(torch.equal(one, all_[:, token]) for one, all_ in zip(figures.lens_of(look(), token), whole, strict=True))


def test_before_the_question_is_answered_one_token_is_looked_through(app, monkeypatch):
    """For all of them it would be half as long again as the pass itself."""
    seen = []
    lens = model.engine.Engine.lens
    monkeypatch.setattr(model.engine.Engine, "lens", lambda self, trace, token: seen.append(token) or lens(self, trace, token))
    at = app("en", s="Doctor, I have a fever and it will not go.")
    assert fine(at) and len(set(seen)) == 1
    at = skip(at)
    assert fine(at) and len(set(seen)) > 5


# -- stopping ----------------------------------------------------------------------------------------------------------


def test_stopping_changes_the_answer_as_the_lens_says(look):
    for floor in (1, 2, 3):
        visit = look(floor=floor)
        changed = visit.changed(Interventions(stop_after=floor))
        found = figures.stopped(visit, changed)
        row = visit.house.live.engine.lens(visit.trace, visit.token)[floor].softmax(-1)
        assert found.now == pytest.approx(float(row.max()), rel=1e-4) and found.gap < 1e-4
        c = visit.trace.config
        working = c.num_experts_per_tok + c.n_shared_experts
        assert found.experts == max(floor - c.first_k_dense_replace, 0) * working
        assert found.whole == c.num_moe_layers * working
        next_up = figures.outcome(visit, changed, found)[0]
        assert next_up["values_list"][0] == pytest.approx(found.now)
        assert next_up["before_list"] == pytest.approx(
            [float(visit.trace.probabilities(visit.token)[one.id]) for one in changed.top(visit.token, 5)]
        )


def test_the_top_floor_changes_nothing(look):
    top = look().trace.config.num_hidden_layers
    visit = look(floor=top)
    changed = visit.changed(Interventions(stop_after=top))
    assert torch.equal(changed.logits, visit.trace.logits)
    found = figures.stopped(visit, changed)
    assert (found.before, found.was, found.experts) == (found.after, found.now, found.whole)


# -- the recorded study ------------------------------------------------------------------------------------------------


@pytest.fixture
def leaving():
    """A stand-in for the record of the clinic, of 4 floors; the page itself shows only a real one."""
    share = np.linspace(0.1, 1.0, 4)
    rules = (ExitRule(0.5, 1.5, 0.9, 0.41, 0.31, 0.61), ExitRule(0.99, 3.2, 0.27, 0.93, 0.59, 0.61))
    return EarlyExit(np.arange(1, 5), share, share - 0.05, share + 0.04, share / 2, 12_345, 678, rules)


def test_agreement_is_drawn_as_it_was_recorded(clinic_look, leaving):
    visit = clinic_look(floor=2)
    plate = figures.agreement(visit, leaving)
    same, correct = plate["series"]
    assert floats(same["values"]) == pytest.approx(leaving.agreement)
    assert floats(same["low"]) == pytest.approx(leaving.low) and floats(same["high"]) == pytest.approx(leaving.high)
    assert floats(correct["values"]) == pytest.approx(leaving.correct)
    for said in ("40.0%", "35.0%", "44.0%", "20.0%", "50.0%", "12,345", "678", "floor 2"):
        assert said in plate["note"]


def test_rules_are_listed_as_they_were_recorded(clinic_look, leaving):
    plate = figures.rules(clinic_look(), leaving)
    assert plate["labels"] == ["50%", "99%"] and plate["cells"] == [list(rule[1:-1]) for rule in leaving.exits]
    assert len(plate["columns"]) == len(plate["cells"][0])
    for said in ("99%", "27.0%", "3.2", "7.0%", "59.0%", "61.0%"):
        assert said in plate["note"]


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", DEPTHS)
def test_the_page_with_a_record_and_without(app, leaving, lang, depth, monkeypatch):
    at = app(lang, depth=depth, floor="2")
    assert fine(at) and words.say(lang, "round.exit.none") in [m.value for m in at.markdown]
    assert "agreement" not in shown(at)
    monkeypatch.setattr(service, "study", lambda: SimpleNamespace(early_exit=leaving))
    at = app(lang, depth=depth, floor="2")
    assert fine(at) and {"agreement", "rules"} <= set(shown(at))
    assert words.say(lang, "round.exit.none") not in [m.value for m in at.markdown]
    if depth == "maths":
        assert any("A(2) = 0.400" in latex.value for latex in at.latex)


# -- on the page -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", DEPTHS)
def test_every_depth_in_both_languages(app, lang, depth):
    at = app(lang, depth=depth)
    assert fine(at) and at.title[0].value == words.say(lang, "round.title")
    hidden = {"chances", "ranks", "diary", "everybody", "next", "saved"}
    assert not hidden & set(shown(at)), "nothing gives the answer away"
    at = skip(at)
    assert fine(at) and hidden <= set(shown(at))
    assert bool(at.get("code")) == (depth == "code")
    left = [m.value for m in at.markdown] + [p.get("note") or "" for p in shown(at).values()]
    assert not any("{" in text or "round." in text for text in left if "\\{" not in text)


def test_the_question_is_answered_from_the_trace_and_asked_once_for_all_floors(app, clinic_folder):
    at = app(token="6", floor="1")
    live = model.load(clinic_folder)
    house = service.Hospital(live)
    trace = house.trace(SENTENCE)
    visit = chapter.Visit("round", house, SENTENCE, trace, 6, 1, building.pieces(house.tokenizer, trace.ids))
    right = figures.stage_of(trace.config, figures.settled(visit).good)
    options = [b for b in at.button if "predict.round.settles" in str(b.key) and not str(b.key).endswith("skip")]
    assert len(options) == len(figures.stages(trace.config))
    at = options[right].click().run()
    assert fine(at) and any(words.say("en", "chapter.right") in m.value for m in at.markdown)
    at.session_state["setting.floor"] = 3
    at = at.run()
    assert fine(at) and "chances" in shown(at), "another floor does not ask again"
    at.session_state["setting.token"] = 2
    assert "chances" not in shown(at.run()), "another patient does"


def test_stopping_on_another_floor_shows_another_answer(app, clinic_folder):
    at = skip(app(token="6", floor="1"))
    first = shown(at)["next"]
    at.session_state["setting.floor"] = 4
    last = shown(at.run())["next"]
    assert first["values_list"] != last["values_list"]
    assert last["values_list"] == pytest.approx(last["before_list"]), "the top floor is the whole walk"
    trace = model.load(clinic_folder).trace(SENTENCE)
    assert last["values_list"] == pytest.approx([one.probability for one in trace.top(6, 5)])
    assert at.query_params["floor"] in ("4", ["4"]), "what was set is in the link"


def test_whom_to_compare_with_comes_from_the_link(app, clinic_folder):
    trace = model.load(clinic_folder).trace(SENTENCE)
    shared = sum(len(rooms(trace, m, 6) & rooms(trace, m, 1)) for m in range(trace.chosen.shape[0]))
    mean = chapter.number(shared / trace.chosen.shape[0], digits=2)
    at = app(token="6", other="1")
    assert fine(at) and mean in shown(at)["pairs"]["note"]


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("text,token", [("面", "0"), ("面", "1"), (LONG, "256"), (LONG, "0"), ("**a** <b> $x$", "3")])
def test_edges(app, lang, text, token):
    at = skip(app(lang, s=text, token=token, depth="maths"))
    assert fine(at)
    found = shown(at)
    assert found["everybody"]["axes"][1]["count"] == found["shared"]["axes"][1]["count"]
    assert all(math.isfinite(v) for v in floats(found["everybody"]["values"]))


def test_the_floors_of_the_picture_are_those_of_the_house(app, hospital_folder, monkeypatch):
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(hospital_folder))
    at = skip(app("zh", s="医生，我发烧。", token="3", floor="20"))
    assert fine(at)
    found = shown(at)
    assert found["chances"]["axes"][0] == plates.floors(ModelConfig.preset("hospital"))
    assert found["counts"]["facts"][0]["value"] == "522" and "14,848" in found["counts"]["facts"][1]["note"]
