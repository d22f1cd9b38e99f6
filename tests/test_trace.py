"""A trace holds what the pass did: the same bits, and tensors that agree with each other."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers import CLINIC, HOSPITAL, SMALL, build, fingerprint, gap, some_ids
from torch.nn import functional as F

from model.config import ModelConfig
from model.costs import parameters
from model.deepseek_v3 import DenseFFN
from model.engine import Engine
from model.interventions import Interventions
from model.trace import Trace

FORMS = [SMALL, CLINIC, SMALL.with_(q_lora_rank=None), SMALL.with_(n_shared_experts=0), SMALL.with_(n_shared_experts=2),
         SMALL.with_(first_k_dense_replace=0), SMALL.with_(first_k_dense_replace=4)]  # fmt: skip


@pytest.fixture(scope="module", params=range(len(FORMS)))
def traced(request: pytest.FixtureRequest) -> tuple[Engine, Trace]:
    c = FORMS[request.param]
    engine = Engine(build(c, seed=11))
    return engine, engine.trace(some_ids(c, 17, 11))


@pytest.mark.parametrize("count", [1, 2, 17, 32, 100])
@pytest.mark.parametrize("do", [Interventions(), Interventions(num_experts_per_tok=2, silence_heads=frozenset({(0, 1)}))])
def test_traced_is_untraced_bit_for_bit(count: int, do: Interventions) -> None:
    for c in (SMALL, CLINIC):
        engine, ids = Engine(build(c, seed=12)), some_ids(c, count)
        logits, states = engine.forward(ids, interventions=do)
        trace = engine.trace(ids, do)
        assert torch.equal(logits, trace.logits)
        assert torch.equal(states, trace.final_hidden)
        assert torch.equal(engine.trace(ids, do).logits, trace.logits)  # nor does anything linger
        assert all(torch.equal(trace.choice_of(token), trace.choice_scores[:, token]) for token in range(count))


def test_the_hospital_traced_is_untraced() -> None:
    c = HOSPITAL.with_(vocab_size=64)
    engine, ids = Engine(build(c, bias=0.05)), [3, 9, 4, 1, 5]
    assert torch.equal(engine.forward(ids)[0], engine.trace(ids).logits)


def test_shapes(traced: tuple[Engine, Trace]) -> None:
    engine, t = traced
    c, tokens, layers, moe = engine.c, len(t.ids), engine.c.num_hidden_layers, engine.c.num_moe_layers
    width = c.kv_lora_rank + c.qk_rope_head_dim
    expected = {
        "hidden": (layers + 1, tokens, c.hidden_size), "mid": (layers, tokens, c.hidden_size),
        "queries": (layers, tokens, c.num_attention_heads, width), "memory": (layers, tokens, width),
        "router_logits": (moe, tokens, c.n_routed_experts), "scores": (moe, tokens, c.n_routed_experts),
        "bias": (moe, c.n_routed_experts), "group_scores": (moe, tokens, c.n_group),
        "kept_groups": (moe, tokens, c.topk_group), "chosen": (moe, tokens, c.num_experts_per_tok),
        "raw_weights": (moe, tokens, c.num_experts_per_tok), "weights": (moe, tokens, c.num_experts_per_tok),
        "final_hidden": (tokens, c.hidden_size), "logits": (tokens, c.vocab_size),
    }  # fmt: skip
    for field in dataclasses.fields(t):
        value = getattr(t, field.name)
        if isinstance(value, torch.Tensor):
            assert tuple(value.shape) == expected.pop(field.name), field.name
            whole = field.name in ("kept_groups", "chosen")
            assert value.dtype == (torch.int64 if whole else torch.float32)
            assert whole or bool(torch.isfinite(value).all())
    assert not expected
    with pytest.raises(dataclasses.FrozenInstanceError):
        t.ids = ()  # type: ignore[misc]


def test_attention_is_what_moved_the_state(traced: tuple[Engine, Trace]) -> None:
    """Weights sum to 1, see no future, and, through the model's own matrices, give mid - hidden."""
    engine, t = traced
    c, tokens = engine.c, len(t.ids)
    for layer in range(c.num_hidden_layers):
        weights = t.attention(layer)
        assert weights.shape == (c.num_attention_heads, tokens, tokens)
        assert gap(weights.sum(-1), torch.ones(weights.shape[:2])) < 1e-5
        assert float(weights.triu(1).abs().max()) == 0.0
        attention = engine.model.layers[layer].self_attn
        _, w_uv = attention.up_projections()
        values = torch.einsum("sr,hvr->shv", t.memory[layer, :, : c.kv_lora_rank], w_uv)
        output = attention.o_proj(torch.einsum("hts,shv->thv", weights, values).flatten(1))
        assert gap(output, t.mid[layer] - t.hidden[layer]) < 1e-5
        assert gap(t.attention_output[layer], t.mid[layer] - t.hidden[layer]) == 0
        content, position = t.attention_scores(layer)
        future = torch.full((tokens, tokens), -torch.inf).triu(1)
        assert gap((content + position + future).softmax(-1), weights) < 1e-5


def test_experts_are_what_moved_the_state(traced: tuple[Engine, Trace]) -> None:
    """hidden[l + 1] - mid[l] is the FFN of the normed mid: dense, or shared + weighted chosen experts one by one."""
    engine, t = traced
    c = engine.c
    assert gap(t.hidden[0], engine.model.embed_tokens(torch.tensor(t.ids))) < 1e-7
    for index, layer in enumerate(engine.model.layers):
        u = layer.post_attention_layernorm(t.mid[index])
        mlp = layer.mlp
        if isinstance(mlp, DenseFFN):
            expected = mlp(u)
        else:
            m, experts = index - c.first_k_dense_replace, mlp.experts
            expected = torch.zeros_like(u)
            for n in range(len(t.ids)):
                pairs = list(zip(t.chosen[m, n].tolist(), t.weights[m, n].tolist(), strict=True))
                pairs += [(c.n_routed_experts + s, 1.0) for s in range(c.n_shared_experts)]
                for e, weight in pairs:
                    gate, up = (experts.gate_up[e] @ u[n]).chunk(2)
                    expected[n] += weight * ((F.silu(gate) * up) @ experts.down[e])
            assert gap(u @ mlp.gate.weight.t(), t.router_logits[m]) < 1e-5
        assert gap(expected, t.ffn_output[index]) < 2e-5
    assert gap(engine.model.norm(t.hidden[-1]), t.final_hidden) < 1e-5
    assert gap(t.final_hidden @ engine.model.lm_head.weight.t(), t.logits) < 1e-5


def test_memory_is_the_cache(traced: tuple[Engine, Trace]) -> None:
    engine, t = traced
    cache = engine.new_cache()
    engine.forward(list(t.ids), cache)
    assert torch.equal(cache.memory, t.memory)


def test_weights_touched_by_counting_every_number(traced: tuple[Engine, Trace]) -> None:
    """A mask as large as the model, set where a weight is read."""
    engine, t = traced
    c, model = engine.c, engine.model
    masks = {n: torch.zeros(x.shape, dtype=torch.bool) for n, x in model.state_dict().items() if not n.startswith("mtp")}
    assert sum(mask.numel() for mask in masks.values()) == t.weights_total == parameters(c).main
    for name, mask in masks.items():
        if ".experts." not in name and name != "embed_tokens.weight":
            mask[:] = True
    masks["embed_tokens.weight"][list(t.ids)] = True
    awake = 0
    for m in range(c.num_moe_layers):
        used = sorted(set(t.chosen[m].flatten().tolist()))
        assert int(t.experts_touched_per_layer()[m]) == len(used)
        awake += len(used)
        for part in ("gate_up", "down"):
            masks[f"layers.{m + c.first_k_dense_replace}.mlp.experts.{part}"][used] = True
            masks[f"layers.{m + c.first_k_dense_replace}.mlp.experts.{part}"][c.n_routed_experts :] = True
    assert t.experts_touched == awake
    assert t.weights_touched == sum(int(mask.sum()) for mask in masks.values())
    assert t.experts_per_token == c.experts_per_token


@pytest.mark.parametrize("floors", [1, 2, 3, 4])
def test_an_early_stop_touches_less(floors: int) -> None:
    c = SMALL.with_(first_k_dense_replace=2)
    engine, ids = Engine(build(c, seed=13)), some_ids(c, 9)
    t = engine.trace(ids, Interventions(stop_after=floors))
    whole = engine.trace(ids)
    count = parameters(c)
    moe = max(floors - 2, 0)
    awake = int(whole.experts_touched_per_layer()[:moe].sum())
    per_moe = count.moe_layer - c.n_routed_experts * count.expert
    expected = c.vocab_size * c.hidden_size + c.hidden_size + len(set(ids)) * c.hidden_size
    expected += min(floors, 2) * count.dense_layer + moe * per_moe + awake * count.expert
    assert t.weights_touched == expected
    assert t.hidden.shape[0] == floors + 1 and t.mid.shape[0] == floors and t.memory.shape[0] == floors
    assert t.chosen.shape[0] == t.scores.shape[0] == moe
    assert t.experts_per_token == moe * 5
    assert torch.equal(t.hidden, whole.hidden[: floors + 1])
    for seen in (t.hidden, t.mid, t.queries):  # and no more is kept
        assert seen.untyped_storage().nbytes() == seen.nbytes


def test_candidates() -> None:
    engine = Engine(build(SMALL, seed=14))
    t = engine.trace(some_ids(SMALL, 5))
    assert float(t.probabilities(2).sum()) == pytest.approx(1)
    best = t.top(4, 5)
    assert [x.probability for x in best] == sorted((x.probability for x in best), reverse=True)
    assert best[0].id == int(t.logits[4].argmax())


def test_looking_leaves_the_model_alone() -> None:
    model = build(SMALL, seed=15)
    before = fingerprint(model)
    engine = Engine(model)
    t = engine.trace(some_ids(SMALL, 9))
    for layer in range(4):
        t.attention(layer)
        t.attention_scores(layer)
    assert fingerprint(engine.model) == before


def test_two_texts_do_not_mix() -> None:
    """Threads share one engine: every trace is that of its own text."""
    from concurrent.futures import ThreadPoolExecutor

    engine = Engine(build(SMALL, seed=16))
    texts = [some_ids(SMALL, 5 + n % 7, n) for n in range(24)]
    alone = [engine.trace(ids).logits for ids in texts]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda ids: engine.trace(ids).logits, texts))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_every_config_field_of_a_trace_is_its_own() -> None:
    c: ModelConfig = SMALL
    do = Interventions(num_experts_per_tok=2)
    t = Engine(build(c)).trace([5, 6], do)
    assert t.config is c and t.interventions == do and t.ids == (5, 6)
