"""A lookup: both paths find what the pass found, distances are distances, and windows are as wide as they say."""

from __future__ import annotations

import pytest
import torch
from helpers import CLINIC, SMALL, YARN, build, gap, some_ids

from model import costs, lookup
from model.config import ModelConfig
from model.engine import Engine
from model.trace import Trace

FORMS = [SMALL, CLINIC, SMALL.with_(q_lora_rank=None), SMALL.with_(rope_scaling=YARN), SMALL.with_(qk_nope_head_dim=15)]


@pytest.fixture(scope="module", params=range(len(FORMS)))
def traced(request: pytest.FixtureRequest) -> tuple[Engine, Trace]:
    engine = Engine(build(FORMS[request.param], seed=5))
    return engine, engine.trace(some_ids(engine.c, 13, 5))


@pytest.mark.parametrize("position", [0, 1, 7, 12])
def test_both_paths_find_what_the_pass_found(traced: tuple[Engine, Trace], position: int) -> None:
    engine, trace = traced
    for index, layer in enumerate(engine.model.layers):
        one = lookup.absorbed(layer.self_attn, trace, index, position)
        other = lookup.plain(layer, trace, index, position)
        assert one.weights.shape == (engine.c.num_attention_heads, position + 1)
        assert gap(one.weights, trace.attention(index)[:, position, : position + 1]) < 1e-6
        # What W_O makes of the answers is what attention added.
        for found in (one, other):
            added = layer.self_attn.o_proj(found.answers.flatten())
            assert gap(added, trace.attention_output[index, position]) < 1e-5
        assert max(float(part) for part in lookup.largest_gap(one, other)) < 1e-5
        assert gap(one.scores, other.scores) == float(lookup.largest_gap(one, other).scores)


def test_a_wrong_key_would_be_seen(traced: tuple[Engine, Trace]) -> None:
    """The comparison is not between a number and itself: another layer's latents give another answer."""
    engine, trace = traced
    layer = engine.model.layers[1]
    other = lookup.plain(layer, trace, 2, 12)
    assert float(lookup.largest_gap(lookup.absorbed(layer.self_attn, trace, 1, 12), other).answers) > 1e-3


def test_opened_latents_close_again(traced: tuple[Engine, Trace]) -> None:
    engine, trace = traced
    c = engine.c
    attention, latents = engine.model.layers[2].self_attn, trace.memory[2, :, : c.kv_lora_rank]
    address = lookup.open_latents(attention, latents)
    assert address.keys.shape == (13, c.num_attention_heads, c.qk_nope_head_dim)
    assert address.values.shape == (13, c.num_attention_heads, c.v_head_dim)
    flat = attention.kv_b_proj(latents).view(13, c.num_attention_heads, -1)
    assert gap(torch.cat([address.keys, address.values], -1), flat) < 1e-6
    assert gap(lookup.close_address(attention, address), latents) < 1e-5


def test_picks_are_by_distance_by_product_and_by_length() -> None:
    queries = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    keys = torch.tensor([[1.0, 0.1], [5.0, 3.0], [0.0, 1.9], [-1.0, 0.0]])[:, None].expand(-1, 2, -1)
    found = lookup.picks(lookup.Points(queries, keys))
    assert found.product.tolist() == [1, 1], "a long key wins the product"
    assert found.distance.tolist() == [0, 2]
    assert found.lengths.tolist() == [3, 2], "as long as the query, and on the other side"
    assert found.distances[0, 1] == pytest.approx(5.0)


def test_picks_of_a_trace(traced: tuple[Engine, Trace]) -> None:
    engine, trace = traced
    layer = engine.model.layers[2]
    found = lookup.picks(lookup.as_points(layer, trace, 2, 12))
    assert torch.equal(found.product, trace.attention(2)[:, 12].argmax(-1))
    points = lookup.as_points(layer, trace, 2, 12)
    slow = [[float((q - k).square().sum().sqrt()) for k in points.keys[:, h]] for h, q in enumerate(points.queries)]
    assert gap(found.distances, torch.tensor(slow)) < 1e-5


def test_seen_share_is_what_moves_the_latent(traced: tuple[Engine, Trace]) -> None:
    engine, trace = traced
    share, r = lookup.seen_share(engine.model, trace), engine.c.kv_lora_rank
    assert share.shape == (engine.c.num_hidden_layers, 13) and 0 < float(share.min()) <= float(share.max()) < 1
    for index in (0, 2):
        layer = engine.model.layers[index]
        rows = layer.self_attn.kv_a_proj_with_mqa.weight[:r]
        state = layer.input_layernorm(trace.hidden[index, 6])
        seen = torch.linalg.pinv(rows) @ (rows @ state)
        assert gap(rows @ (state - seen), torch.zeros(r)) < 1e-5, "the latent does not see the rest"
        assert float(share[index, 6]) == pytest.approx(float(seen.square().sum() / state.square().sum()), abs=1e-5)


def test_one_absorbed_matrix_is_right_for_no_distance_only() -> None:
    attention, c = build(SMALL).layers[1].self_attn, SMALL
    error = lookup.absorption_error(attention, 2, 9)
    assert error.shape == (9,) and float(error[0]) == 0 and float(error[1:].min()) > 0.01
    # Slowly: the matrix with the rotation by 4 places between, as sines and cosines.
    turn, four = torch.zeros(c.qk_nope_head_dim, c.qk_nope_head_dim), 4
    for pair in range(c.qk_nope_head_dim // 2):
        angle = torch.tensor(four * c.rope_theta ** (-2 * pair / c.qk_nope_head_dim))
        turn[2 * pair : 2 * pair + 2, 2 * pair : 2 * pair + 2] = torch.tensor(
            [[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]]
        )
    w_q, w_k = (m.detach() for m in (attention.query_matrix()[2, : c.qk_nope_head_dim], attention.up_projections()[0][2]))
    turned, still = w_q.t() @ turn.t() @ w_k, w_q.t() @ w_k
    assert float(error[four]) == pytest.approx(float((turned - still).norm() / still.norm()), rel=1e-4)


def test_cache_plans_are_table_1_of_v2() -> None:
    v3 = costs.cache_plans(ModelConfig.preset("deepseek-v3"))
    assert (v3.multi_head, v3.grouped, v3.multi_query, v3.latent) == (1_998_848, 124_928, 15_616, 35_136)
    assert v3.latent * costs.V3_CONTEXT * costs.BF16_BYTES == 9_210_691_584
    here = costs.cache_plans(ModelConfig.preset("hospital"))
    assert here.latent < here.multi_query < here.grouped == here.multi_head // 2
    assert costs.cache_plans(SMALL).grouped == costs.full_cache_numbers_per_token(SMALL)  # no more groups than heads
