"""One lookup under glass: a query against every latent that was kept, both ways of computing it, and by distance.

The pass itself works on latents as they are ("absorbed"). The report's own order opens every latent into keys and
values first ("plain"). Both are here for one layer and one query, with what only the plain order has: keys and values,
and so distances. H heads, S tokens up to the query's own, r kv_lora_rank, p qk_rope_head_dim, n qk_nope_head_dim,
v v_head_dim.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from model.deepseek_v3 import DecoderLayer, DeepseekV3, MultiHeadLatentAttention, rope_table, rotate
from model.trace import Trace, attention_weights


class Lookup(NamedTuple):
    """What one query found, head by head."""

    scores: Tensor  # (H, S) scaled, before the softmax
    weights: Tensor  # (H, S) after it
    answers: Tensor  # (H, v) the values blended with these weights: what W_O reads


class Address(NamedTuple):
    """What a latent stands for."""

    keys: Tensor  # (S, H, n) content part only: the rotary key is one for all heads, and is kept as it is
    values: Tensor  # (S, H, v)


class Points(NamedTuple):
    """A query and the keys that it is compared with, as points: content part, then position part."""

    queries: Tensor  # (H, n + p) not scaled
    keys: Tensor  # (S, H, n + p)


class Picks(NamedTuple):
    """Which token each head of one query would take, if it took only one."""

    distances: Tensor  # (H, S) Euclidean
    product: Tensor  # (H,) the largest dot product, and so the largest attention weight
    distance: Tensor  # (H,) the smallest distance
    lengths: Tensor  # (H,) the smallest difference of squared lengths, which is no distance


# -- the two paths -----------------------------------------------------------------------------------------------------


@torch.inference_mode()
def absorbed(attention: MultiHeadLatentAttention, trace: Trace, layer: int, position: int) -> Lookup:
    """The lookup as the pass does it: queries that were made in the latent's space, latents never opened."""
    r = trace.config.kv_lora_rank
    queries, memory = trace.queries[layer, position], trace.memory[layer, : position + 1]
    scores = queries @ memory.t()
    weights = attention_weights(queries[None], memory, None)[0]
    _, w_uv = attention.up_projections()
    return Lookup(scores, weights, torch.einsum("hvr,hr->hv", w_uv, weights @ memory[:, :r]))


@torch.inference_mode()
def plain(layer: DecoderLayer, trace: Trace, index: int, position: int) -> Lookup:
    """The same in the report's order (Eq. 5, 10, 11): every latent is opened, then keys are compared and values
    blended. The query is made again from the state that came to the layer, so that nothing absorbed goes in."""
    points = as_points(layer, trace, index, position)
    values = open_latents(layer.self_attn, trace.memory[index, : position + 1, : trace.config.kv_lora_rank]).values
    scores = torch.einsum("hk,shk->hs", points.queries, points.keys) * layer.self_attn.scale
    weights = scores.softmax(-1)
    return Lookup(scores, weights, torch.einsum("hs,shv->hv", weights, values))


def largest_gap(one: Lookup, other: Lookup) -> Lookup:
    """Largest absolute difference of each part, each a tensor of no dimension."""
    return Lookup(*((a - b).abs().max() for a, b in zip(one, other, strict=True)))


@torch.inference_mode()
def open_latents(attention: MultiHeadLatentAttention, latents: Tensor) -> Address:
    """latents (S, r) -> keys and values of every head, by W_UK and W_UV."""
    w_uk, w_uv = attention.up_projections()
    return Address(torch.einsum("sr,hnr->shn", latents, w_uk), torch.einsum("sr,hvr->shv", latents, w_uv))


@torch.inference_mode()
def close_address(attention: MultiHeadLatentAttention, address: Address) -> Tensor:
    """The latents (S, r) that keys and values were opened from, by least squares: what is opened holds no more."""
    numbers = torch.cat([address.keys, address.values], -1).flatten(1)
    return torch.linalg.lstsq(attention.kv_b_proj.weight.double(), numbers.t().double()).solution.t().float()


# -- by distance -------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def as_points(layer: DecoderLayer, trace: Trace, index: int, position: int) -> Points:
    """The query of `position` and every key up to it, rotated, on layer number `index`."""
    c, attention = trace.config, layer.self_attn
    state = layer.input_layernorm(trace.hidden[index, position])
    queries = attention.query_matrix() @ attention.query_input(state)
    content, turning = queries.split([c.qk_nope_head_dim, c.qk_rope_head_dim], -1)
    turned = rotate(turning.contiguous(), rope_table(c, position + 1)[-1])
    latents, rotary = trace.memory[index, : position + 1].split([c.kv_lora_rank, c.qk_rope_head_dim], -1)
    keys = open_latents(attention, latents).keys
    shared = rotary[:, None].expand(-1, c.num_attention_heads, -1)
    return Points(torch.cat([content, turned], -1), torch.cat([keys, shared], -1))


@torch.inference_mode()
def picks(points: Points) -> Picks:
    """The token that each head takes by dot product, by distance, and by comparing squared lengths only.

    |q - k|^2 = |q|^2 + |k|^2 - 2 q.k: the first two agree where all keys are equally long.
    """
    queries, keys = points.queries, points.keys.transpose(0, 1)  # (H, n + p), (H, S, n + p)
    distances = (keys - queries[:, None]).norm(dim=-1)
    products = (keys @ queries[:, :, None]).squeeze(-1)
    apart = (keys.square().sum(-1) - queries.square().sum(-1, keepdim=True)).abs()
    return Picks(distances, products.argmax(-1), distances.argmin(-1), apart.argmin(-1))


# -- what the latent cannot hold ---------------------------------------------------------------------------------------


@torch.inference_mode()
def seen_share(network: DeepseekV3, trace: Trace) -> Tensor:
    """(L, T): share of the squared length of each token's normed state that lies in the row space of W_DKV.

    The rest is orthogonal to all r rows: whatever it is, the latent is the same. A window of r directions that knows
    nothing of the states would see r / d of it on average.
    """
    norms, windows = (each[: len(trace.mid)] for each in _windows(network))
    # A share: what RMSNorm divides a whole state by does not change it.
    states = trace.hidden[:-1] * norms[:, None]  # (L, T, d)
    return (states @ windows).square().sum(-1) / states.square().sum(-1)


@lru_cache(maxsize=1)
@torch.inference_mode()
def _windows(network: DeepseekV3) -> tuple[Tensor, Tensor]:
    """Of every layer the weights of the norm before attention, (L, d), and an orthonormal basis of W_DKV's rows,
    (L, d, r). Of a network whose weights no longer change: made once."""
    layers = [layer for layer in network.layers if isinstance(layer, DecoderLayer)]
    rows = torch.stack([layer.self_attn.kv_a_proj_with_mqa.weight[: network.c.kv_lora_rank] for layer in layers])
    return torch.stack([layer.input_layernorm.weight for layer in layers]), torch.linalg.qr(rows.transpose(1, 2)).Q


# -- why position travels apart ----------------------------------------------------------------------------------------


@torch.inference_mode()
def absorption_error(attention: MultiHeadLatentAttention, head: int, distances: int) -> Tensor:
    """(distances,): how wrong one absorbed matrix would be, if keys were turned by their position after opening.

    (R_i q) . (R_j k) = q . R_{j-i} k, so between c_Q and a latent d tokens back would stand W_UQ^T R_{-d} W_UK, another
    matrix for each d. This is |W_UQ^T R_{-d} W_UK - W_UQ^T W_UK| / |W_UQ^T W_UK|, Frobenius, with RoPE's own rotations
    for a key of this width.
    """
    c, (w_uk, _) = attention.c, attention.up_projections()
    even = c.qk_nope_head_dim - c.qk_nope_head_dim % 2  # RoPE turns pairs
    rope = rope_table(c.with_(qk_rope_head_dim=even), distances)
    w_q = attention.query_matrix()[head, :even]  # (n, q)
    w_k = w_uk[head, :even].t().contiguous()  # (r, n)
    turned = rotate(w_k[None], rope[:, None].conj())  # (distances, r, n)
    matrices = turned @ w_q  # (distances, r, q)
    return (matrices - matrices[0]).flatten(1).norm(dim=1) / matrices[0].norm()
