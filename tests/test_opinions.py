"""Single opinions, read off a trace: they are what the layer added, and change as interventions say."""

from __future__ import annotations

import pytest
import torch
from helpers import CLINIC, SMALL, build, gap, some_ids
from torch.nn import functional as F

from model.engine import Engine
from model.interventions import Interventions

FORMS = [SMALL, CLINIC, SMALL.with_(n_shared_experts=0), SMALL.with_(n_shared_experts=2),
         SMALL.with_(first_k_dense_replace=0), SMALL.with_(norm_topk_prob=False)]  # fmt: skip
CHANGES = [
    {}, {"num_experts_per_tok": 1}, {"num_experts_per_tok": 6}, {"silence_shared": frozenset({2})}, {"gate": "softmax"},
    {"silence_routed": frozenset({2})}, {"dismiss": frozenset({(2, 3)})}, {"gate": "bias_in_weights"},
]  # fmt: skip


@pytest.mark.parametrize("c", FORMS, ids=range(len(FORMS)))
@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_they_sum_to_what_the_layer_added(c, change):
    engine, ids = Engine(build(c, seed=31)), some_ids(c, 6, 31)
    trace = engine.trace(ids, Interventions(**change))
    for layer in range(c.first_k_dense_replace, c.num_hidden_layers):
        for token in (0, 5):
            each = engine.opinions(trace, layer, token)
            assert each.shape == (trace.chosen.shape[2] + c.n_shared_experts, c.hidden_size)
            assert gap(each.sum(0), trace.ffn_output[layer, token]) < 1e-5


def test_each_is_its_own_experts(c=SMALL):
    """Against the experts' matrices multiplied out one by one, in the order in which the trace names them."""
    model = build(c, seed=32)
    engine, ids, layer, token = Engine(model), some_ids(c, 5, 32), 2, 4
    trace, block = engine.trace(ids), model.layers[layer]
    m, u = layer - c.first_k_dense_replace, block.post_attention_layernorm(trace.mid[layer, token])
    who = [*trace.chosen[m, token].tolist(), c.n_routed_experts]
    for row, expert, factor in zip(engine.opinions(trace, layer, token), who,
                                   [*trace.weights[m, token].tolist(), 1.0], strict=True):  # fmt: skip
        gate, up = (block.mlp.experts.gate_up[expert] @ u).chunk(2)
        assert gap(row, factor * (block.mlp.experts.down[expert].t() @ (F.silu(gate) * up))) < 1e-5


def test_silenced_opinions_are_zero(c=SMALL):
    engine, ids = Engine(build(c, seed=33)), some_ids(c, 5, 33)
    mute = engine.trace(ids, Interventions(silence_shared=frozenset({2})))
    assert not bool(engine.opinions(mute, 2, 1)[-1].any()) and bool(engine.opinions(mute, 3, 1)[-1].any())
    alone = engine.trace(ids, Interventions(silence_routed=frozenset({2})))
    assert not bool(engine.opinions(alone, 2, 1)[:-1].any()) and bool(engine.opinions(alone, 2, 1)[-1].any())


@pytest.mark.parametrize("layer", [0, -1, 4])
def test_a_layer_without_experts_is_refused(layer, c=SMALL):
    engine = Engine(build(c, seed=34))
    with pytest.raises(ValueError):
        engine.opinions(engine.trace(some_ids(c, 3)), layer, 0)


def test_nor_is_one_above_an_early_stop(c=SMALL):
    engine = Engine(build(c, seed=34))
    trace = engine.trace(some_ids(c, 3), Interventions(stop_after=2))
    assert torch.isfinite(engine.opinions(trace, 1, 0)).all()
    with pytest.raises(ValueError):
        engine.opinions(trace, 2, 0)
