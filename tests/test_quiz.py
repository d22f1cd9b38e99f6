"""The quiz: every question has one right answer, found here another way and held against every option; one seed, one
quiz."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import screens
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import model
from model import Interventions
from model.deepseek_v3 import DeepseekV3
from pages.kit import chapter, quiz, service, state, words
from pages.kit.figures import quiz as figures
from pages.kit.figures.quiz import KINDS, TOPICS, Name, Option, Question, tell

ROOT = Path(__file__).resolve().parents[1]
SENTENCE = "Doctor, I have a fever. Doctor, it hurts."
LONG = "面" * model.MAX_TOKENS
TEXTS = [SENTENCE, "明天我们一起去吃炸酱面吧?", "面", "👩‍👩‍👧 **x** $y$ {0} <b>", "? ？ ? ？"]
LANGUAGES = sorted(words.tables())
number, percent = chapter.number, chapter.percent


@pytest.fixture(scope="module")
def clinic(clinic_folder) -> service.Hospital:
    return service.Hospital(model.load(clinic_folder))


@pytest.fixture(scope="module")
def hospital(hospital_folder) -> service.Hospital:
    return service.Hospital(model.load(hospital_folder))


def look(house: service.Hospital, text: str, token: int, floor: int) -> chapter.Visit:
    return screens.visit(house, "quiz", text, token, floor)


def deal(house: service.Hospital, text: str, seed: int, depth: str = "code") -> tuple[Question, ...]:
    return quiz.deal(look(house, text, 1, 1), seed, depth)


# -- every answer, found another way -----------------------------------------------------------------------------------


def text_of(option: Option) -> str:
    return option.said("en")


def near(value: float, digits: int) -> Callable[[Option], bool]:
    """Whether an option says this number; two ways to it may round the last digit differently."""

    def says(option: Option) -> bool:
        said = float(text_of(option).replace("−", "-").replace(",", ""))
        return abs(said - value) <= 1.01 * 10**-digits

    return says


def near_share(value: float) -> Callable[[Option], bool]:
    return lambda option: abs(float(text_of(option).rstrip("%")) - 100 * value) <= 0.101


def says(text: object) -> Callable[[Option], bool]:
    return lambda option: text_of(option) == str(text)


def scores_of(v: chapter.Visit) -> tuple[list[float], list[float]]:
    """Scores, and scores + bias, from the gate's logits and its own bias."""
    gate = v.house.live.engine.model.layers[v.layer].mlp.gate
    logits = v.trace.router_logits[v.department, v.token].double()
    s = [1 / (1 + math.exp(-x)) for x in logits.tolist()]
    return s, [a + b for a, b in zip(s, gate.e_score_correction_bias.double().tolist(), strict=True)]


def best(values: list[float], k: int) -> list[int]:
    return sorted(range(len(values)), key=lambda i: -values[i])[:k]


def by_hand(c: model.ModelConfig, values: list[float]) -> tuple[set[int], list[int]]:
    """(open corridors, who is called, best first)."""
    size = c.n_routed_experts // c.n_group
    pairs = [sum(sorted(values[g * size : (g + 1) * size])[-2:]) for g in range(c.n_group)]
    open_now = set(best(pairs, c.topk_group))
    return open_now, best([x if i // size in open_now else -math.inf for i, x in enumerate(values)], c.num_experts_per_tok)


def row_of(v: chapter.Visit, head: int) -> list[float]:
    """Attention of the followed token's row, from the two parts of its scores."""
    content, position = v.trace.attention_scores(v.layer)
    powers = [math.exp(x) for x in (content + position)[head, v.token, : v.token + 1].double().tolist()]
    return [x / sum(powers) for x in powers]


def sizes(c: model.ModelConfig) -> tuple[dict[str, int], int]:
    """Numbers in each tensor of the main model, and in one expert."""
    with torch.device("meta"):
        made = DeepseekV3(c.with_(num_nextn_predict_layers=0))
    return {name: t.numel() for name, t in made.state_dict().items()}, 3 * c.hidden_size * c.moe_intermediate_size


def logits_at(v: chapter.Visit, floor: int) -> torch.Tensor:
    """What norm and head make of the state after a floor."""
    net, x = v.house.live.engine.model, v.trace.hidden[floor, v.token]
    return F.linear(F.rms_norm(x, x.shape, net.norm.weight, v.trace.config.rms_norm_eps), net.lm_head.weight)


def word(v: chapter.Visit, id: int, among: list[int]) -> str:
    [name] = [n for i, n in zip(among, figures.spelt(v, among), strict=True) if i == id]
    return name.said("en")


def experts(v, q):
    c = v.trace.config
    seen = sum(len(set(layer[v.token])) for layer in v.trace.chosen.tolist())
    return says(f"{seen + c.num_moe_layers * c.n_shared_experts:,}")


def share(v, q):
    c, (tensors, each) = v.trace.config, sizes(v.trace.config)
    own = f"layers.{c.first_k_dense_replace}.mlp."
    every = sum(n for name, n in tensors.items() if name.startswith(own))
    return near_share(1 - (c.n_routed_experts - c.num_experts_per_tok) * each / every)


def used(v, q):
    c, (tensors, each) = v.trace.config, sizes(v.trace.config)
    slept = sum(c.n_routed_experts - len({e for row in layer for e in row}) for layer in v.trace.chosen.tolist())
    unread = (c.vocab_size - len(set(v.trace.ids))) * c.hidden_size
    return near_share(1 - (slept * each + unread) / sum(tensors.values()))


def woken(v, q):
    return says(len({e for row in v.trace.chosen[v.department].tolist() for e in row}))


def pair(v, q):
    return says(f"{sum(len(set(a[v.token]) & set(a[v.token - 1])) for a in v.trace.chosen.tolist()):,}")


def closed(v, q):
    c = v.trace.config
    open_now, _ = by_hand(c, scores_of(v)[1])
    return says(" · ".join(chr(65 + g) for g in range(c.n_group) if g not in open_now))


def board(v, q):
    s, both = scores_of(v)
    called, without = by_hand(v.trace.config, both)[1], by_hand(v.trace.config, s)[1]
    gone = [e for e in called if e not in without]
    return lambda option: option.values["room"] in gone if option.key == "room" else not gone


def door(v, q):
    c = v.trace.config
    _, both = scores_of(v)
    open_now, called = by_hand(c, both)
    room = q.values["room"]
    size = c.n_routed_experts // c.n_group
    assert room not in called and room // size not in open_now and both[room] > both[called[-1]]
    return lambda option: option.key == "door_shut"


def zero(v, q):
    c = v.trace.config
    _, both = scores_of(v)
    open_now, _ = by_hand(c, both)
    size = c.n_routed_experts // c.n_group
    enough = sum(x > 0 for i, x in enumerate(both) if i // size in open_now)
    return says(max(0, c.num_experts_per_tok - enough))


def heaviest(v, q):
    s, both = scores_of(v)
    called = by_hand(v.trace.config, both)[1]
    most = max(s[e] for e in called)
    return lambda option: s[option.values["room"]] == most and option.values["room"] in called


def weighs(v, q):
    s, both = scores_of(v)
    called = by_hand(v.trace.config, both)[1]
    return near(s[q.values["room"]] / sum(s[e] for e in called) * v.trace.config.routed_scaling_factor, 3)


def nurse(v, q):
    each, k = v.house.live.engine.opinions(v.trace, v.layer, v.token), v.trace.config.num_experts_per_tok
    hers, theirs = each[k:].sum(0), each[:k].sum(0)
    return near(math.dist(hers.tolist(), [0.0] * len(hers)) / math.dist(theirs.tolist(), [0.0] * len(theirs)), 2)


def cancel(v, q):
    moved = (v.trace.hidden[v.floor, v.token] - v.trace.mid[v.layer, v.token]).tolist()
    return near(math.dist(moved, [0.0] * len(moved)), 3)


def line(v, q):
    source = (ROOT / "model" / "deepseek_v3.py").read_text("utf-8").splitlines()
    return lambda option: any(one.strip() == text_of(option) for one in source)


def head(v, q):
    row = row_of(v, q.values["head"])
    return lambda option: option.values["index"] == row.index(max(row))


def entrance(v, q):
    heads = v.trace.config.num_attention_heads
    return near_share(sum(row_of(v, h)[0] for h in range(heads)) / heads)


def likeliest(v, q):
    ids = [one.id for one in v.trace.top(v.token, figures.CANDIDATES)]
    if v.token + 1 < len(v.trace.ids) and v.trace.ids[v.token + 1] not in ids:
        ids.insert(1, v.trace.ids[v.token + 1])
    return says(f"“{word(v, int(v.trace.logits[v.token].argmax()), ids)}”")


def temperature(v, q):
    powers = [math.exp(x / 2) for x in v.trace.logits[v.token].double().tolist()]
    return near_share(max(powers) / sum(powers))


def settles(v, q):
    final = int(v.trace.logits[v.token].argmax())
    said = [int(logits_at(v, floor).argmax()) == final for floor in range(1, v.trace.config.num_hidden_layers + 1)]
    return lambda option: option.values["floor"] == said.index(True) + 1


def silence(v, q):
    changed = v.house.live.trace(v.sentence, Interventions(silence_shared=frozenset({v.layer})))
    now = changed.top(v.token, 2)
    ids = sorted({*(one.id for one in now), *(one.id for one in v.trace.top(v.token, 2))})
    right = Option("says", {"word": word(v, now[0].id, ids), "chance": percent(now[0].probability)})
    return lambda option: text_of(option) == text_of(right)


def reach(v, q):
    gone = frozenset({(v.layer, q.values["room"])})
    changed = v.house.live.trace(v.sentence, Interventions(dismiss=gone))
    moved = [a != b for a, b in zip(changed.hidden[1:, v.token].tolist(), v.trace.hidden[1:, v.token].tolist(), strict=True)]
    assert q.values["room"] in v.trace.chosen[v.department, v.token].tolist()
    return says(sum(moved))


def shape(*of: Callable) -> Callable:
    return lambda v, q: says(f"({', '.join(str(each(v.trace.config, len(v.trace.ids))) for each in of)})")


ORACLES = {
    "experts": experts, "share": share, "used": used, "woken": woken, "pair": pair, "closed": closed, "board": board,
    "door": door, "zero": zero, "heaviest": heaviest, "weighs": weighs, "nurse": nurse, "cancel": cancel, "line": line,
    "head": head, "entrance": entrance, "likeliest": likeliest, "temperature": temperature, "settles": settles,
    "silence": silence, "reach": reach,
    "sums": lambda v, q: near(v.trace.config.routed_scaling_factor, 2),
    "cold": lambda v, q: lambda option: option.values["n"] == option.values["all"],
    "cache": lambda v, q: says(f"{len(v.trace.ids) * v.trace.config.num_hidden_layers * (v.trace.config.kv_lora_rank + v.trace.config.qk_rope_head_dim):,}"),
    "ratio": lambda v, q: near(v.trace.config.num_attention_heads * (v.trace.config.qk_nope_head_dim + v.trace.config.v_head_dim) / (v.trace.config.kv_lora_rank + v.trace.config.qk_rope_head_dim), 1),
    "chosen": shape(lambda c, n: c.num_moe_layers, lambda c, n: n, lambda c, n: c.num_experts_per_tok),
    "memory": shape(lambda c, n: c.num_hidden_layers, lambda c, n: n, lambda c, n: c.kv_lora_rank + c.qk_rope_head_dim),
}  # fmt: skip


def sound(house: service.Hospital, text: str, one: Question) -> None:
    """One right option and no other; all different on screen; all words there in every language and depth."""
    v = look(house, text, one.token, one.floor)
    assert figures.LEAST <= len(one.options) <= figures.MOST
    for lang in LANGUAGES:
        looks = [option.said(lang) for option in one.options]
        assert len(set(looks)) == len(looks), looks
        for depth in state.DEPTHS[state.DEPTHS.index(KINDS[one.kind].depth) :]:
            assert one.ask(lang, depth) and one.ask(lang, depth, markup=True)
        assert "{" not in tell(lang, f"quiz.{one.kind}.why", dict.fromkeys(one.values, 0)) and one.why(lang, markup=True)
    right = ORACLES[one.kind](v, one)
    marks = [bool(right(option)) for option in one.options]
    assert marks.count(True) == 1 and marks.index(True) == one.right, (one.kind, [o.said("en") for o in one.options], one.right, marks)
    assert one.topic in TOPICS and one.door.page in {Path(path).stem for path in screens.PAGES}
    assert all(state.TABLE[name].valid(value) for name, value in one.door.settings.items()), one.door


def test_every_kind_can_be_checked():
    assert set(ORACLES) == set(KINDS) and len(KINDS) >= 12
    assert {one.topic for one in KINDS.values()} == set(TOPICS)
    assert sum(one.depth == "story" for one in KINDS.values()) >= 12


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(KINDS)), st.sampled_from(TEXTS), st.integers(1, 40), st.integers(1, 4))
def test_any_question_about_anybody_is_sound(clinic, kind, text, token, floor):
    last = len(clinic.trace(text).ids) - 1
    floor = max(floor, clinic.config.first_k_dense_replace + 1) if KINDS[kind].floors == "departments" else floor
    one = KINDS[kind].make(look(clinic, text, min(token, last), floor))
    if one is not None:
        assert one.kind == kind and one.right == 0
        sound(clinic, text, one)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_in_the_hospital(hospital, kind):
    """In the trained model, on floors low and high."""
    made = 0
    for token, floor in [(6, 4), (3, 20), (9, 41), (7, 60), (2, 61), (5, 33)]:
        one = KINDS[kind].make(look(hospital, SENTENCE, token, floor))
        if one is not None:
            sound(hospital, SENTENCE, one)
            made += 1
        if made == 3:
            break
    assert made, "this kind is never asked about this sentence"


@pytest.mark.parametrize("depth", state.DEPTHS)
@pytest.mark.parametrize("text", [*TEXTS, LONG], ids=["en", "zh", "one token", "odd", "look alike", "256 tokens"])
def test_a_whole_quiz_is_sound(clinic, text, depth):
    for seed in range(6):
        asked = deal(clinic, text, seed, depth)
        assert len(asked) == quiz.COUNT and len({one.kind for one in asked}) == quiz.COUNT
        assert [*KINDS].index(asked[0].kind) < [*KINDS].index(asked[-1].kind), "in the order of the walk"
        for one in asked:
            assert state.DEPTHS.index(KINDS[one.kind].depth) <= state.DEPTHS.index(depth)
            sound(clinic, text, one)
        if depth != "story" and text == SENTENCE:
            assert any(KINDS[one.kind].depth == depth for one in asked), "a deeper quiz asks deeper things"


@pytest.mark.parametrize("text,seed,depth", [(SENTENCE, 7, "story"), (TEXTS[1], 8, "maths"), ("面", 9, "code"), (LONG, 1, "code")])
def test_a_whole_quiz_in_the_hospital(hospital, text, seed, depth):
    asked = deal(hospital, text, seed, depth)
    assert len(asked) == quiz.COUNT
    assert {one.topic for one in asked} >= set(TOPICS) - {"attention"}, "of every topic"
    for one in asked:
        sound(hospital, text, one)


def test_a_wrong_answer_would_be_seen(clinic):
    """Negative control: with another option called right, every check above fails."""
    for one in deal(clinic, SENTENCE, 3):
        with pytest.raises(AssertionError):
            sound(clinic, SENTENCE, replace(one, right=(one.right + 1) % len(one.options)))


# -- dealing -----------------------------------------------------------------------------------------------------------


def test_one_seed_one_quiz(clinic, clinic_folder):
    again = service.Hospital(model.load(clinic_folder))
    for seed in (0, 5, 999_999):
        assert deal(clinic, SENTENCE, seed) == deal(again, SENTENCE, seed)


def test_another_seed_is_another_quiz(clinic):
    papers = [deal(clinic, SENTENCE, seed, "story") for seed in range(40)]
    assert len({repr([(one.kind, one.token, one.floor, one.options) for one in paper]) for paper in papers}) == len(papers)
    places = [one.right for paper in papers for one in paper]
    for place in range(3):
        assert places.count(place) > len(places) / 8, "the right answer stands anywhere"
    unsure = {"cold"}  # an untrained model is never sure enough of anything
    assert {one.kind for paper in papers for one in paper} | unsure == {k for k, one in KINDS.items() if one.depth == "story"}


def test_a_seed_that_nobody_named():
    seeds = [quiz.fresh() for _ in range(50)]
    assert len(set(seeds)) > 45 and all(state.TABLE["quiz"].valid(seed) for seed in seeds)
    assert all(quiz.fresh(seed) != seed for seed in range(20))


def test_what_a_visitor_typed_is_never_markup(clinic):
    text = "**x** $y$ [a](b) <b> `c`"
    visit = look(clinic, text, 3, 2)
    for kind in KINDS.values():
        one = kind.make(visit)
        if one is not None:
            said = one.ask("en", "code", markup=True) + one.why("en", markup=True)
            name = figures.called(visit, visit.token).said("en")
            assert f"**{name}**" not in said or name.isalnum()
    assert tell("en", "quiz.option.plain", {"text": "**`a`**"}) == "**`a`**"
    assert tell("en", "quiz.option.plain", {"text": Name("", "door")}) == words.say("en", "building.door")


def test_rooms_stand_in_order_and_with_the_commas_of_a_language():
    why = {"k": 8, "same": 6, "gone": figures.Rooms([42, 7]), "instead": figures.Rooms(())}
    assert "7, 42" in tell("en", "quiz.board.why", why) and "7、42" in tell("zh", "quiz.board.why", why)
    assert tell("zh", "quiz.board.why", why).count("–") == 1


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_the_score_and_the_files(clinic):
    text = "=1+1, @x"
    asked = deal(clinic, text, 4, "story")
    answers = {i: one.right if i % 2 else (one.right + 1) % len(one.options) for i, one in enumerate(asked)}
    answers[0] = quiz.SKIPPED
    kept = quiz.record(asked, answers, lang="zh", depth="story", seed=4, sentence=text, date="2026-11-25")
    right = sum(answers[i] == one.right for i, one in enumerate(asked))
    assert kept["correct"] == right == sum(one["right"] for one in kept["topics"]) == sum(row["correct"] for row in kept["questions"])
    assert kept["asked"] == len(asked) == sum(one["asked"] for one in kept["topics"])
    assert kept["questions"][0]["answer"] is None and json.loads(json.dumps(kept, ensure_ascii=False)) == kept
    for row, one in zip(kept["questions"], asked, strict=True):
        assert row["question"] == one.ask("zh", "story") and row["options"] == [o.said("zh") for o in one.options]
        assert row["right"] == row["options"][one.right] and "**" not in row["question"]
    table = list(csv.DictReader(io.StringIO(quiz.as_csv(kept).decode("utf-8-sig"))))
    assert len(table) == len(asked) and all(row["sentence"] == "'=1+1, @x" for row in table), "never a formula"
    assert [row["correct"] for row in table] == [str(row["correct"]) for row in kept["questions"]]
    assert set(table[0]) == {"number", "topic", "kind", "token", "floor", "question", "options", "answer", "right", "correct",
                             "date", "seed", "sentence", "language", "depth"}, "and no name"  # fmt: skip
    assert quiz.by_guessing(asked) == pytest.approx(sum(1 / len(one.options) for one in asked))
