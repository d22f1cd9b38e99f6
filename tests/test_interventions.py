"""What can be changed, against a slow reference that reads like the documentation of each field."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import SMALL, build, fingerprint, gap, one_sentence, some_ids
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from model.deepseek_v3 import DeepseekV3, DenseFFN, rope_table, rotate
from model.engine import Engine
from model.interventions import NONE, InterventionError, Interventions

C = SMALL  # layers 1 to 3 have 16 experts in 4 groups, of which 2 are kept; 4 are chosen


def biased(seed: int = 21) -> DeepseekV3:
    """A model whose scores + bias are all negative: there the rules for closed groups differ."""
    model = build(C, seed, bias=0.3)
    for router in model.routers():
        router.e_score_correction_bias -= 2
    return model


DOUBLE, ENGINE = biased().double(), Engine(biased())
IDS = some_ids(C, 10, 21)


def reference(model: DeepseekV3, ids: list[int], do: Interventions, seen: list[list[list[int]]]
              ) -> tuple[Tensor, list[list[list[int]]]]:  # fmt: skip
    """Logits and choices, token by token and expert by expert, in float64. Experts of closed groups that got 0 tie:
    among them the choice that was `seen` is taken, once it is shown to be one of the best."""
    c = model.c
    rope = rope_table(c, len(ids)).to(torch.complex128)
    x = model.embed_tokens.weight[torch.tensor(ids)]
    choices = []
    for index, layer in enumerate(list(model.layers)[: do.stop_after]):
        h, attention = layer.input_layernorm(x), layer.self_attn
        w_uk, w_uv = attention.up_projections()
        latent, k_rope = attention.latent(h[None], rope)
        latent, k_rope = latent[0], k_rope[0]
        if do.latent_rank is not None:
            directions = torch.linalg.svd(attention.kv_b_proj.weight).Vh[: do.latent_rank]
            latent = sum(torch.outer(latent @ v, v) for v in directions)
        q = torch.einsum("tr,hqr->thq", attention.query_input(h), attention.query_matrix())
        heads = []
        for head in range(c.num_attention_heads):
            q_nope, q_rope = q[:, head].split([c.qk_nope_head_dim, c.qk_rope_head_dim], 1)
            scores = q_nope @ (latent @ w_uk[head].t()).t() + rotate(q_rope.contiguous(), rope) @ k_rope.t()
            scores = (scores * attention.scale).masked_fill(torch.ones_like(scores).triu(1) > 0, -torch.inf)
            out = scores.softmax(-1) @ (latent @ w_uv[head].t())
            heads.append(out * (0 if (index, head) in do.silence_heads else 1))
        x = x + attention.o_proj(torch.cat(heads, 1))
        u = layer.post_attention_layernorm(x)
        if isinstance(layer.mlp, DenseFFN):
            x = x + layer.mlp(u)
            continue
        gate, experts = layer.mlp.gate, layer.mlp.experts
        y, chosen_here = torch.zeros_like(u), []
        for n in range(len(ids)):
            logits = gate.weight @ u[n]
            s = logits.softmax(0) if do.gate == "softmax" else logits.sigmoid()
            choice = (s + gate.e_score_correction_bias).tolist()
            for layer_, e in do.dismiss:
                if layer_ == index:
                    choice[e] = -float("inf")
            for layer_, e in do.force:
                if layer_ == index:
                    choice[e] = 1e6
            size = c.n_routed_experts // c.n_group
            best_two = [sum(sorted(choice[g * size : (g + 1) * size])[-2:]) for g in range(c.n_group)]
            kept = sorted(range(c.n_group), key=lambda g: -best_two[g])[: c.topk_group]
            closed = 0.0 if do.gate == "mask_with_zero" else -float("inf")
            masked = [choice[e] if e // size in kept or choice[e] == -float("inf") else closed
                      for e in range(c.n_routed_experts)]  # fmt: skip
            k = do.num_experts_per_tok or c.num_experts_per_tok
            chosen = sorted(range(c.n_routed_experts), key=lambda e: -masked[e])[:k]
            if do.gate == "mask_with_zero":
                ours = seen[len(choices)][n]
                assert sorted(masked[e] for e in ours) == pytest.approx(sorted(masked[e] for e in chosen), abs=1e-6)
                chosen = ours
            chosen_here.append(chosen)
            source = s + gate.e_score_correction_bias if do.gate == "bias_in_weights" else s
            w = source[chosen]
            w = w / (w.sum() + 1e-20) * c.routed_scaling_factor
            if index in do.silence_routed:
                w = w * 0
            opinions = [*zip(chosen, w, strict=True)]
            opinions += [(c.n_routed_experts + i, 0 if index in do.silence_shared else 1)
                         for i in range(c.n_shared_experts)]  # fmt: skip
            for e, weight in opinions:
                a, b = (experts.gate_up[e] @ u[n]).chunk(2)
                y[n] += weight * ((F.silu(a) * b) @ experts.down[e])
        choices.append(chosen_here)
        x = x + y
    return model.lm_head(model.norm(x)), choices


def pairs(*items: tuple[int, int]) -> frozenset[tuple[int, int]]:
    return frozenset(items)


CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "dismiss": {"dismiss": pairs((1, 0), (1, 5), (2, 7), (3, 15))},
    "dismiss a whole group": {"dismiss": frozenset((2, e) for e in range(4, 8))},
    "dismiss two whole groups": {"dismiss": frozenset((2, e) for e in range(8))},
    "force": {"force": pairs((1, 3), (1, 9), (3, 2))},
    "force as many as are chosen": {"force": frozenset((2, e) for e in (0, 1, 12, 13))},
    "dismiss and force": {"dismiss": pairs((2, 0), (2, 1)), "force": pairs((2, 2), (2, 8))},
    "no nurse": {"silence_shared": frozenset({1, 3})},
    "no interns": {"silence_routed": frozenset({2})},
    "one intern": {"num_experts_per_tok": 1},
    "eight interns": {"num_experts_per_tok": 8},
    "bias in weights": {"gate": "bias_in_weights"},
    "mask with zero": {"gate": "mask_with_zero"},
    "mask with zero, dismissed": {"gate": "mask_with_zero", "dismiss": frozenset((2, e) for e in (0, 1, 5, 9, 10, 14))},
    "softmax": {"gate": "softmax"},
    "latent cut to 1": {"latent_rank": 1},
    "latent cut to 9": {"latent_rank": 9},
    "latent whole": {"latent_rank": C.kv_lora_rank},
    "stop after the dense floor": {"stop_after": 1},
    "stop after 3": {"stop_after": 3},
    "silent heads": {"silence_heads": pairs((0, 0), (2, 3), (2, 1))},
    "much at once": {"dismiss": pairs((1, 2)), "force": pairs((2, 4)), "silence_shared": frozenset({2}),
                     "num_experts_per_tok": 3, "latent_rank": 12, "silence_heads": pairs((1, 1)), "stop_after": 3},
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_effect_is_the_documented_one(name: str) -> None:
    do = Interventions(**CHANGES[name])
    trace = ENGINE.trace(IDS, do)
    with torch.no_grad():
        logits, choices = reference(DOUBLE, IDS, do, trace.chosen.tolist())
    assert [[sorted(row) for row in layer] for layer in trace.chosen.tolist()] == [
        [sorted(row) for row in layer] for layer in choices
    ]
    assert gap(trace.logits.double(), logits) < 2e-5
    for attention in ("absorbed", "plain"):
        got, _ = ENGINE.forward(IDS, attention=attention, interventions=do)  # type: ignore[arg-type]
        assert gap(got.double(), logits) < 2e-5
    cache = ENGINE.new_cache()
    steps = [ENGINE.forward([i], cache, interventions=do)[0] for i in IDS]
    assert gap(torch.cat(steps).double(), logits) < 2e-5
    if name not in ("nothing", "latent whole"):
        assert gap(trace.logits, ENGINE.trace(IDS).logits) > 1e-3


def test_nothing_changed_is_nothing() -> None:
    assert not Interventions() and not NONE and Interventions() == NONE
    assert torch.equal(ENGINE.trace(IDS, Interventions()).logits, ENGINE.trace(IDS).logits)
    for name, change in CHANGES.items():
        assert bool(Interventions(**change)) == (name != "nothing")


def test_the_model_stays_as_it_was() -> None:
    engine = Engine(biased(22))
    before, logits = fingerprint(engine.model), engine.trace(IDS).logits
    for change in CHANGES.values():
        engine.trace(IDS, Interventions(**change))
        engine.forward(IDS, attention="plain", interventions=Interventions(**change))
    assert fingerprint(engine.model) == before
    assert torch.equal(engine.trace(IDS).logits, logits)


def test_the_dismissed_are_replaced_by_the_next_best() -> None:
    plain = ENGINE.trace(IDS)
    first = plain.chosen[0, 0].tolist()
    trace = ENGINE.trace(IDS, Interventions(dismiss=pairs((1, first[0]))))
    assert first[0] not in trace.chosen[0].flatten().tolist()
    assert torch.equal(trace.weights.sum(-1).round(decimals=4), plain.weights.sum(-1).round(decimals=4))
    assert trace.experts_per_token == plain.experts_per_token


def test_the_forced_weigh_by_their_own_score() -> None:
    trace = ENGINE.trace(IDS, Interventions(force=pairs((1, 6))))
    assert bool((trace.chosen[0] == 6).any(-1).all())
    assert torch.equal(trace.scores.gather(-1, trace.chosen), trace.raw_weights)
    assert float(trace.raw_weights.max()) < 1


def test_silenced_routed_are_still_chosen_and_shown() -> None:
    trace = ENGINE.trace(IDS, Interventions(silence_routed=frozenset({2})))
    assert float(trace.weights[1].abs().max()) == 0
    assert trace.chosen.shape == (3, 10, 4) and float(trace.weights[0].min()) > 0


def test_a_cut_latent_has_that_rank() -> None:
    memory = ENGINE.trace(some_ids(C, 40), Interventions(latent_rank=3)).memory
    for layer in memory[..., : C.kv_lora_rank]:
        assert torch.linalg.matrix_rank(layer, rtol=1e-4) == 3


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"dismiss": pairs((0, 1))}, "Floor 1 has no experts"),
    ({"dismiss": pairs((4, 1))}, "Floor 5"),
    ({"dismiss": pairs((-1, 1))}, "Floor 0"),
    ({"dismiss": pairs((1, 16))}, "expert 16"),
    ({"force": pairs((1, -1))}, "expert -1"),
    ({"force": pairs((9, 1))}, "Floor 10"),
    ({"dismiss": pairs((1, 1)), "force": pairs((1, 1))}, "dismissed and forced"),
    ({"force": frozenset((1, e) for e in (0, 1, 2, 3, 4))}, "only 4 can be chosen"),
    ({"force": pairs((1, 0), (1, 4), (1, 8))}, "more than 2 groups"),
    ({"force": pairs((1, 0), (1, 1)), "num_experts_per_tok": 1}, "only 1 can be chosen"),
    ({"force": pairs((1, 0)), "dismiss": pairs((1, 1), (1, 2), (1, 3))}, "all others of its group"),
    ({"dismiss": frozenset((1, e) for e in range(16))}, "Too many"),
    ({"dismiss": frozenset((1, e) for e in range(13))}, "Too many"),
    ({"dismiss": pairs((1, 0)), "num_experts_per_tok": 8}, "Too many"),
    ({"silence_shared": frozenset({0})}, "Floor 1"),
    ({"silence_routed": frozenset({4})}, "Floor 5"),
    ({"silence_heads": pairs((4, 0))}, "floor 5"),
    ({"silence_heads": pairs((0, 4))}, "head 4"),
    ({"num_experts_per_tok": 0}, "0 experts"),
    ({"num_experts_per_tok": 9}, "9 experts"),
    ({"gate": "hash"}, "hash"),
    ({"latent_rank": 0}, "0 numbers"),
    ({"latent_rank": 17}, "17 numbers"),
    ({"stop_after": 0}, "floor 0"),
    ({"stop_after": 5}, "floor 5"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), IMPOSSIBLE, ids=[words for _, words in IMPOSSIBLE])
def test_impossible_is_refused_with_a_sentence(change: dict[str, Any], words: str) -> None:
    for act in (ENGINE.trace, lambda ids, do: ENGINE.forward(ids, interventions=do)):
        with pytest.raises(InterventionError) as error:
            act(IDS, Interventions(**change))
        assert words in one_sentence(error)


@settings(max_examples=120, deadline=None)
@given(st.sets(st.integers(0, 15), max_size=14), st.sets(st.integers(0, 15), max_size=4), st.integers(1, 8),
       st.sampled_from(["noaux_tc", "mask_with_zero", "bias_in_weights", "softmax"]))  # fmt: skip
def test_what_is_not_refused_keeps_its_promise(dismiss: set[int], force: set[int], k: int, gate: Any) -> None:
    """Nobody dismissed is ever chosen, everybody forced is, and the numbers stay numbers."""
    do = Interventions(dismiss=frozenset((2, e) for e in dismiss), force=frozenset((2, e) for e in force),
                       num_experts_per_tok=k, gate=gate)  # fmt: skip
    try:
        do.check(C)
    except InterventionError:
        return
    trace = ENGINE.trace(IDS[:4], do)
    for row in trace.chosen[1].tolist():
        assert len(set(row)) == k and not set(row) & dismiss and force <= set(row)
    assert bool(torch.isfinite(trace.logits).all())


@pytest.mark.parametrize("change", [
    {"dismiss": frozenset({(2, 3)})}, {"force": frozenset({(3, 3)})}, {"silence_shared": frozenset({1})},
    {"silence_routed": frozenset({3})}, {"num_experts_per_tok": 1}, {"num_experts_per_tok": 7}, {"gate": "softmax"},
    {"gate": "mask_with_zero"}, {"latent_rank": 3}, {"silence_heads": frozenset({(0, 1)})}, {"stop_after": 2},
    {"dismiss": frozenset({(3, 3)}), "num_experts_per_tok": 2}, {"silence_heads": frozenset({(0, 1)}), "gate": "softmax"},
    {"silence_heads": frozenset({(0, 1)}), "num_experts_per_tok": 2}, {"stop_after": 1, "gate": "mask_with_zero"},
    {"stop_after": 2, "silence_heads": frozenset({(3, 1)})},
], ids=str)  # fmt: skip
def test_what_lies_below_a_change_may_be_taken_from_an_untouched_trace(change: dict[str, Any]) -> None:
    base, do = ENGINE.trace(IDS), Interventions(**change)
    before = fingerprint(ENGINE.model)
    whole, saved = ENGINE.trace(IDS, do), ENGINE.trace(IDS, do, base)
    for name, value in vars(whole).items():
        same = getattr(saved, name)
        assert torch.equal(same, value) if isinstance(value, Tensor) else same == value, name
    assert fingerprint(ENGINE.model) == before
