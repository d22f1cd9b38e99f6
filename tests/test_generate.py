"""Generation: greedy, sampled in stages, speculative."""

from __future__ import annotations

import pytest
import torch
from helpers import CLINIC, SMALL, build, gap, one_sentence, some_ids
from hypothesis import given, settings
from hypothesis import strategies as st

from model.deepseek_v3 import DeepseekV3
from model.engine import Engine
from model.errors import UserError
from model.generate import (
    SamplingSettings,
    advance,
    check_length,
    draw,
    generate,
    generate_speculative,
    retrace,
    speculate,
    start_after,
    stream,
)  # fmt: skip
from model.interventions import Interventions
from model.train import TrainSettings, losses, optimiser


@pytest.fixture(scope="module")
def taught() -> Engine:
    """A small model that has learnt to go round in circles, so that its MTP module guesses right most of the time."""
    c = SMALL.with_(vocab_size=40, num_hidden_layers=3, n_routed_experts=8, n_group=2, topk_group=1)
    s = TrainSettings(learning_rate=1e-2)
    torch.manual_seed(0)
    model = DeepseekV3(c).initialise(0)
    steps = optimiser(model, s)
    steps.param_groups[0]["lr"] = steps.param_groups[1]["lr"] = 1e-2
    for _ in range(40):
        start = torch.randint(2, 40, (16, 1))
        ids = (start - 2 + 3 * torch.arange(20)) % 38 + 2
        steps.zero_grad()
        losses(model, ids, s).total.backward()
        steps.step()
    return Engine(model)


def slow_greedy(engine: Engine, ids: list[int], tokens: int) -> list[int]:
    """Without a cache: the whole text again for every token."""
    out = list(ids)
    for _ in range(tokens):
        out.append(int(engine.forward(out)[0][-1].argmax()))
        if out[-1] == engine.c.eos_token_id:
            break
    return out[len(ids) :]


@pytest.mark.parametrize("seed", range(4))
def test_greedy_is_greedy(seed: int) -> None:
    engine, ids = Engine(build(SMALL, seed)), some_ids(SMALL, 5, seed)
    run = generate(engine, ids, 15)
    assert run.ids == slow_greedy(engine, ids, 15)
    assert [d.id for d in run.draws] == run.ids
    assert run.tokens_per_second > 0


@pytest.mark.parametrize("seed", range(12))
def test_speculative_is_greedy_in_random_models(seed: int) -> None:
    c = CLINIC.with_(vocab_size=97) if seed % 2 else SMALL
    engine, ids = Engine(build(c, seed)), some_ids(c, 1 + seed % 5, seed)
    run = generate_speculative(engine, ids, 20)
    assert run.ids == generate(engine, ids, 20).ids
    assert 0 <= run.accepted <= run.drafts < 20


def test_speculative_is_greedy_where_guesses_are_right(taught: Engine) -> None:
    accepted = drafts = 0
    for seed in range(6):
        ids = some_ids(taught.c, 1 + seed % 7, seed)
        for tokens in (0, 1, 2, 3, 12):
            run = generate_speculative(taught, ids, tokens, stop_at_eos=False)
            assert run.ids == generate(taught, ids, tokens, stop_at_eos=False).ids
            assert len(run.ids) == tokens
            accepted, drafts = accepted + run.accepted, drafts + run.drafts
    assert accepted > drafts / 2  # the path where a guess counts was really taken, and so was the other
    assert accepted < drafts


def test_accepted_guesses_save_passes(taught: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, passes = [2, 5, 8, 11], 0
    original = Engine.forward

    def counted(self, *args, **kwargs):
        nonlocal passes
        passes += 1
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Engine, "forward", counted)
    run = generate_speculative(taught, ids, 24)
    assert run.ids == [(2 - 2 + 3 * n) % 38 + 2 for n in range(4, 28)]
    assert passes == 1 + run.drafts + (24 - 1 - run.drafts - run.accepted)
    assert passes < 24


@pytest.mark.parametrize("position", range(6))
def test_end_of_sentence_ends(position: int, taught: Engine) -> None:
    """Whatever token is the end, in either form: the text ends with it, at its first appearance."""
    ids = [2, 5]
    free = generate(taught, ids, 10, stop_at_eos=False).ids
    assert len(free) == 10
    taught.c, before = taught.c.with_(eos_token_id=free[position]), taught.c
    try:
        expected = free[: free.index(free[position]) + 1]
        assert generate(taught, ids, 10).ids == expected
        assert generate_speculative(taught, ids, 10).ids == expected
        assert generate_speculative(taught, ids, 10, stop_at_eos=False).ids == free
    finally:
        taught.c = before


def test_lengths(taught: Engine) -> None:
    assert generate(taught, [2], 0).ids == [] == generate_speculative(taught, [2], 0).ids
    limit = taught.c.max_position_embeddings
    check_length(taught, [2] * 10, limit - 10)
    for run in (generate, generate_speculative):
        for ids, tokens in (([2] * 10, limit - 9), ([2], -1), ([2] * (limit + 1), 0)):
            with pytest.raises(UserError) as error:
                run(taught, ids, tokens)
            assert str(limit) in one_sentence(error)
    assert len(generate(taught, [2] * (limit - 3), 3, stop_at_eos=False).ids) == 3
    assert len(generate_speculative(taught, [2] * (limit - 3), 3, stop_at_eos=False).ids) == 3


def test_a_model_for_long_texts_has_a_limit_too() -> None:
    engine = Engine(build(SMALL.with_(max_position_embeddings=163840)))
    check_length(engine, [2] * 4000, 96)
    with pytest.raises(UserError) as error:
        generate(engine, [2] * 4000, 97)
    assert "4096" in one_sentence(error)


def test_drafts_are_recorded_where_they_stand(taught: Engine) -> None:
    for seed in range(6):
        ids = some_ids(taught.c, 1 + seed, seed)
        run = generate_speculative(taught, ids, 15, stop_at_eos=False)
        assert len({d.at for d in run.drafted}) == run.drafts and run.drafts > 0
        for d in run.drafted:
            assert 0 < d.at < 15 and (run.ids[d.at] == d.guess) == d.accepted
        alone = 15 - 1 - run.drafts - run.accepted
        assert alone in (0, 1) and run.passes == 1 + run.drafts + alone


def test_speculation_step_by_step(taught: Engine) -> None:
    sizes, last = [], None
    for last in speculate(taught, [2, 5, 8], 9, stop_at_eos=False):
        sizes.append((len(last.ids), last.passes))
    assert last is not None and last.ids == generate(taught, [2, 5, 8], 9, stop_at_eos=False).ids
    assert sizes[0] == (1, 1) and sizes[-1][0] == 9
    assert all(0 < b[0] - a[0] <= 2 for a, b in zip(sizes, sizes[1:], strict=False))
    assert list(speculate(taught, [2, 5, 8], 0)) == []


# -- going on after a trace ----------------------------------------------------------------------------------------------


def walk(engine: Engine, ids: list[int], how: SamplingSettings, count: int, path=(), forced=None):
    """(ids, path) after `count` new tokens, the missing steps made by `advance`."""
    start, made = start_after(engine.trace(ids)), 0

    def further(walked, id):
        nonlocal made
        made += 1
        return advance(engine, start, walked, id)

    out = []
    for result, walked in retrace(start, path, how, forced, further):
        out.append(result.id)
        if len(out) == count:
            return out, walked, made
    raise AssertionError("it ended")


@pytest.mark.parametrize("how", [SamplingSettings(), SamplingSettings(1.3, 20, 0.95, seed=5)], ids=["greedy", "drawn"])
def test_going_on_after_a_trace_is_generation(how: SamplingSettings) -> None:
    engine, ids = Engine(build(SMALL, 6)), some_ids(SMALL, 7)
    out, path, made = walk(engine, ids, how, 12)
    assert out == generate(engine, ids, 12, how, stop_at_eos=False).ids
    assert [step.id for step in path] == out[:-1] and made == 11
    expected = engine.forward(ids + out[:-1])[0][len(ids) :]
    assert gap(torch.stack([step.logits for step in path]), expected) < 1e-4


def test_a_walked_path_costs_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, ids = Engine(build(SMALL, 6)), some_ids(SMALL, 7)
    start = start_after(engine.trace(ids))
    out, path, _ = walk(engine, ids, SamplingSettings(), 12)
    monkeypatch.setattr(Engine, "forward", lambda *_, **__: pytest.fail("a pass of the model"))
    assert [result.id for result, _ in retrace(start, path, SamplingSettings())] == out
    other = [result.id for result, _ in retrace(start, path, SamplingSettings(3.0, seed=2))]
    same = next(i for i, (a, b) in enumerate(zip(out, other, strict=False)) if a != b)
    assert len(other) == same + 1, "it ends with the first token that leaves the path"
    monkeypatch.undo()
    assert other == generate(engine, ids, same + 1, SamplingSettings(3.0, seed=2), stop_at_eos=False).ids


def test_another_branch_is_gone_on_from() -> None:
    engine, ids = Engine(build(SMALL, 6)), some_ids(SMALL, 7)
    out, path, _ = walk(engine, ids, SamplingSettings(), 10)
    other = (out[4] + 1) % SMALL.vocab_size
    branch, _, made = walk(engine, ids, SamplingSettings(), 10, path, {4: other})
    assert branch[:5] == [*out[:4], other] and made == 5, "the four steps before it are not made again"
    assert branch[5:] == generate(engine, ids + branch[:5], 5, stop_at_eos=False).ids
    assert walk(engine, ids, SamplingSettings(), 10, path, {4: SMALL.vocab_size, 5: -1})[0] == out, "no such ids"


def test_retracing_ends_with_the_text_and_with_the_positions() -> None:
    engine, ids = Engine(build(SMALL, 6)), some_ids(SMALL, 3)
    out, path, _ = walk(engine, ids, SamplingSettings(), 6)
    ended = [r.id for r, _ in retrace(start_after(engine.trace(ids)), path, SamplingSettings(), eos=out[2])]
    assert ended == out[: out.index(out[2]) + 1]
    full = start_after(engine.trace(some_ids(SMALL, SMALL.max_position_embeddings)))
    with pytest.raises(UserError) as error:
        advance(engine, full, (), 3)
    assert "256" in one_sentence(error)
    with pytest.raises(ValueError):
        start_after(engine.trace(ids, Interventions(num_experts_per_tok=1)))


def test_no_module_no_speculation() -> None:
    engine = Engine(build(SMALL.with_(num_nextn_predict_layers=0)))
    with pytest.raises(UserError) as error:
        generate_speculative(engine, [3, 4], 5)
    assert "multi-token" in one_sentence(error)
    assert len(generate(engine, [3, 4], 5, stop_at_eos=False).ids) == 5


def test_stream_with_interventions() -> None:
    engine, ids = Engine(build(SMALL, 3)), some_ids(SMALL, 6)
    do = Interventions(num_experts_per_tok=1, latent_rank=4)
    draws = stream(engine, ids, interventions=do)
    got = [next(draws).id for _ in range(6)]
    out = list(ids)
    for _ in range(6):
        out.append(int(engine.forward(out, interventions=do)[0][-1].argmax()))
    assert got == out[6:]
    assert got != generate(engine, ids, 6, stop_at_eos=False).ids


# -- one draw -----------------------------------------------------------------------------------------------------------

_LOGITS = st.lists(st.integers(-80, 80).map(lambda n: n / 10), min_size=2, max_size=12, unique=True)


@settings(max_examples=200, deadline=None)
@given(_LOGITS, st.floats(0.1, 5), st.none() | st.integers(1, 14), st.floats(0.05, 1))
def test_stages_of_a_draw(values: list[float], temperature: float, top_k: int | None, top_p: float) -> None:
    logits = torch.tensor(values)
    result = draw(logits, SamplingSettings(temperature, top_k, top_p), torch.Generator().manual_seed(1))
    tempered = (logits.double() / temperature).softmax(0)
    assert gap(result.tempered.double(), tempered) < 1e-5
    kept, total = [], 0.0
    order = sorted(range(len(values)), key=lambda i: -values[i])[:top_k]
    among = sum(float(tempered[i]) for i in order)
    margin = min((abs(sum(float(tempered[i]) for i in order[:n]) / among - top_p) for n in range(1, len(order))), default=1)
    for i in order:
        if total / among >= top_p:
            break
        kept.append(i)
        total += float(tempered[i])
    assert result.kept[result.id] and float(result.probabilities.sum()) == pytest.approx(1, abs=1e-5)
    assert result.kept.tolist() == (result.probabilities > 0).tolist()
    if margin > 1e-4 and min(float(tempered[i]) for i in order) > 1e-6:
        assert sorted(kept) == result.kept.nonzero().flatten().tolist()
        for i in kept:
            assert float(result.probabilities[i]) == pytest.approx(float(tempered[i]) / total, abs=1e-4)


def test_draws_follow_the_probabilities() -> None:
    logits, chance = torch.tensor([2.0, 1.0, 0.0, -1.0]), torch.Generator().manual_seed(0)
    settings_ = SamplingSettings(temperature=0.8, top_p=0.95)
    drawn = torch.tensor([draw(logits, settings_, chance).id for _ in range(4000)])
    expected = draw(logits, settings_, chance).probabilities
    assert gap(torch.bincount(drawn, minlength=4) / 4000, expected) < 0.03
    assert float(expected[3]) == 0


def test_nothing_is_cut_off_where_nothing_is_asked_to_be() -> None:
    logits = torch.randn(4096, generator=torch.Generator().manual_seed(0)) * 4  # so that sums of shares round to 1 early
    result = draw(logits, SamplingSettings(1.0), torch.Generator().manual_seed(0))
    assert bool(result.kept.all()) and gap(result.probabilities, logits.softmax(0)) < 1e-6


def test_greedy_draw_and_candidates() -> None:
    result = draw(torch.tensor([0.5, 3.0, -1.0]), SamplingSettings())
    assert result.id == 1 and result.probabilities.tolist() == [0, 1, 0]
    assert [x.id for x in result.top(3)] == [1, 0, 2]


def test_equal_seeds_draw_equally() -> None:
    engine, ids = Engine(build(SMALL, 4)), some_ids(SMALL, 6)
    runs = [generate(engine, ids, 12, SamplingSettings(1.5, seed=seed), stop_at_eos=False).ids for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("bad", [{"temperature": -1}, {"temperature": float("nan")}, {"temperature": 1e9}, {"top_k": 0},
                                 {"top_p": 0}, {"top_p": 1.5}, {"top_p": float("nan")}])  # fmt: skip
def test_settings_out_of_range(bad: dict[str, float]) -> None:
    with pytest.raises(UserError) as error:
        SamplingSettings(**bad)  # type: ignore[arg-type]
    one_sentence(error)


def test_extreme_temperatures_stay_finite() -> None:
    for temperature in (1e-6, 0.01, 100.0):
        result = draw(torch.tensor([50.0, -50.0, 49.0]), SamplingSettings(temperature), torch.Generator().manual_seed(0))
        assert bool(torch.isfinite(result.probabilities).all())
        if temperature < 1:
            assert result.id == 0
