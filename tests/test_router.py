"""The gate: choice by groups with the bias, weights without it."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import CLINIC, HOSPITAL, SMALL, build, gap, some_ids
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.deepseek_v3 import MANY, Router, choose
from model.engine import Engine


def slow_choice(scores: list[float], n_group: int, topk_group: int, k: int) -> tuple[list[float], set[int], list[int]]:
    """Group scores, kept groups and chosen experts of one token, in plain Python (ties: the lower index)."""
    size = len(scores) // n_group
    groups = [scores[g * size : (g + 1) * size] for g in range(n_group)]
    group_scores = [sum(sorted(group, reverse=True)[:2]) for group in groups]
    kept = sorted(range(n_group), key=lambda g: (-group_scores[g], g))[:topk_group]
    allowed = [e for e in range(len(scores)) if e // size in kept]
    return group_scores, set(kept), sorted(allowed, key=lambda e: (-scores[e], e))[:k]


@st.composite
def gates(draw: st.DrawFn) -> tuple[Tensor, Tensor, int, int, int]:
    """Scores in (0, 1), biases of any sign, and a rule that they fit. Scores + bias are all different."""
    n_group = draw(st.sampled_from([1, 2, 4, 8]))
    size = draw(st.integers(2, 8))
    topk_group = draw(st.integers(1, n_group))
    k = draw(st.integers(1, min(8, topk_group * size)))
    experts, tokens = n_group * size, draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scores = torch.rand(tokens, experts, generator=generator, dtype=torch.float64)
    low, high = draw(st.sampled_from([(-9.0, -1.0), (-1.0, 1.0), (-0.01, 0.01), (5.0, 6.0), (-3.0, 0.0)]))
    bias = low + (high - low) * torch.rand(experts, generator=generator, dtype=torch.float64)
    return scores, bias, n_group, topk_group, k


@settings(max_examples=150, deadline=None)
@given(gates())
def test_choice_is_that_of_a_slow_reference(gate: tuple[Tensor, Tensor, int, int, int]) -> None:
    scores, bias, n_group, topk_group, k = gate
    group_scores, kept, chosen = choose(scores + bias, n_group, topk_group, k)
    for row, groups, keep, picked in zip(scores + bias, group_scores, kept, chosen, strict=True):
        slow_groups, slow_kept, slow_picked = slow_choice(row.tolist(), n_group, topk_group, k)
        assert groups.tolist() == pytest.approx(slow_groups, abs=1e-12)
        assert set(keep.tolist()) == slow_kept
        assert picked.tolist() == slow_picked  # best first
        assert len(set(picked.tolist())) == k
        corridors = {e // (scores.shape[1] // n_group) for e in picked.tolist()}
        assert corridors <= slow_kept and len(corridors) <= topk_group
    crowd = choose((scores + bias).repeat(MANY, 1), n_group, topk_group, k)  # goes about it in another way
    for few, many in zip((group_scores, kept, chosen), crowd, strict=True):
        assert torch.equal(few, many[: len(scores)]) and torch.equal(few.repeat(MANY, 1), many)


@settings(max_examples=100, deadline=None)
@given(gates(), st.floats(-50, 50))
def test_a_constant_on_the_bias_changes_no_choice(gate: tuple[Tensor, Tensor, int, int, int], shift: float) -> None:
    scores, bias, n_group, topk_group, k = gate
    for one, other in zip(choose(scores + bias, n_group, topk_group, k)[1:],
                          choose(scores + bias + shift, n_group, topk_group, k)[1:], strict=True):  # fmt: skip
        assert torch.equal(one, other)


def test_a_constant_on_the_bias_changes_no_output() -> None:
    model, ids = build(SMALL, seed=1), some_ids(SMALL, 20)
    before = Engine(model).trace(ids)
    with torch.no_grad():
        for router in model.routers():
            router.e_score_correction_bias += 0.5
    after = Engine(model).trace(ids)
    assert torch.equal(before.chosen, after.chosen)
    assert torch.equal(before.logits, after.logits)
    assert torch.equal(before.weights, after.weights)
    assert gap(before.choice_scores + 0.5, after.choice_scores) < 1e-6


def test_the_bias_never_enters_a_weight() -> None:
    """Biases as large as one likes move the choice; the weights remain functions of the chosen scores alone."""
    for seed, bias in enumerate((0.0, 0.3, 10.0, 1000.0)):
        model = build(SMALL, seed, bias)
        trace = Engine(model).trace(some_ids(SMALL, 16, seed))
        raw = trace.scores.gather(-1, trace.chosen)
        assert torch.equal(raw, trace.raw_weights)
        expected = raw / (raw.sum(-1, keepdim=True) + 1e-20) * SMALL.routed_scaling_factor
        assert gap(trace.weights, expected) < 1e-6
        assert gap(trace.weights.sum(-1), torch.full(trace.weights.shape[:2], SMALL.routed_scaling_factor)) < 1e-5


def test_the_bias_gets_no_gradient() -> None:
    model = build(SMALL)
    assert all("bias" not in name for name, _ in model.named_parameters())
    states, guess, _ = model(torch.tensor([some_ids(SMALL, 8)]))
    (states.square().sum() + guess.square().sum()).backward()
    assert all(r.e_score_correction_bias.grad is None and not r.e_score_correction_bias.requires_grad
               for r in model.routers())  # fmt: skip
    assert all(r.weight.grad.abs().sum() > 0 for r in model.routers())


def test_zero_in_place_of_minus_infinity_is_the_known_bug() -> None:
    """With negative biases an expert of a closed group beats open ones, if closed groups get 0."""
    scores = torch.tensor([[-0.2, -0.3, -0.4, -0.5, -0.9, -0.9, -0.9, -0.9]])
    assert set(choose(scores, 4, 2, 4)[2][0].tolist()) == {0, 1, 2, 3}
    wrong = set(choose(scores, 4, 2, 4, closed=0.0)[2][0].tolist())
    assert wrong == {4, 5, 6, 7}
    above = scores + 2.0  # and why nobody noticed: with scores above 0 both rules agree
    assert set(choose(above, 4, 2, 4)[2][0].tolist()) == set(choose(above, 4, 2, 4, closed=0.0)[2][0].tolist())


def test_a_closed_expert_stays_closed_under_the_wrong_rule() -> None:
    """The wrong rule lifts what was masked by group, not what was ruled out one by one."""
    scores = torch.tensor([[-0.2, -0.3, -0.4, -0.5, -torch.inf, -0.9, -0.9, -0.9]])
    assert 4 not in choose(scores, 4, 2, 4, closed=0.0)[2][0].tolist()


def test_module_and_engine_route_alike() -> None:
    for c in (SMALL, CLINIC, SMALL.with_(norm_topk_prob=False)):
        model, ids = build(c, seed=2), some_ids(c, 20)
        trace = Engine(model).trace(ids)
        with torch.no_grad():
            _, _, routings = model(torch.tensor([ids]))
        for m, routing in enumerate(routings[: c.num_moe_layers]):
            assert torch.equal(routing.chosen, trace.chosen[m])
            assert torch.equal(routing.kept_groups.sort().values, trace.kept_groups[m].sort().values)
            for mine, theirs in zip(
                (routing.logits, routing.scores, routing.choice_scores, routing.group_scores, routing.raw_weights,
                 routing.weights),
                (trace.router_logits, trace.scores, trace.choice_scores, trace.group_scores, trace.raw_weights,
                 trace.weights), strict=True,
            ):  # fmt: skip
                assert gap(mine, theirs[m]) < 2e-5


def test_gate_of_one_token_in_plain_python() -> None:
    """From u to the weights without a tensor operation."""
    model = build(SMALL, seed=4)
    router: Router = model.routers()[0]
    u = torch.randn(1, SMALL.hidden_size, generator=torch.Generator().manual_seed(0))
    routing = router(u)
    bias = router.e_score_correction_bias.tolist()
    logits = [sum(a * b for a, b in zip(row, u[0].tolist(), strict=True)) for row in router.weight.tolist()]
    scores = [1 / (1 + math.exp(-x)) for x in logits]
    _, kept, chosen = slow_choice([s + b for s, b in zip(scores, bias, strict=True)], 4, 2, 4)
    total = sum(scores[e] for e in chosen)
    assert routing.chosen[0].tolist() == chosen
    assert set(routing.kept_groups[0].tolist()) == kept
    assert routing.weights[0].tolist() == pytest.approx([2.5 * scores[e] / total for e in chosen], rel=1e-5)


def test_522_experts_see_a_token() -> None:
    """The hospital's own count, from what ran: 58 floors x 8 interns + 58 nurses."""
    c = HOSPITAL.with_(vocab_size=64)
    trace = Engine(build(c, bias=0.05)).trace([5, 6, 7])
    assert trace.chosen.shape == (58, 3, 8)
    for layer in trace.chosen.tolist():
        for row in layer:
            assert len(set(row)) == 8 and all(0 <= e < 256 for e in row)
            assert len({e // 32 for e in row}) <= 4
    assert trace.chosen[:, 0].numel() == 464
    assert trace.experts_per_token == 464 + 58 == 522 == c.experts_per_token
