"""DeepSeek-V3 in one file, to be read from top to bottom.

This is the model as it is trained: plain modules, parameter names of the published checkpoint, every step an
equation of the technical report (arXiv 2412.19437; "Eq." below). `engine.py` runs the same arithmetic with fewer
operations and looks at it; tests hold the two, and transformers' own implementation, together.

Shapes: B sequences, T tokens, d hidden_size, H heads, E routed experts, k chosen, G groups.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import ModelConfig
from model.kernels import attend, grouped_experts


class RMSNorm(nn.Module):
    """x / rms(x) * weight, over the last dimension."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


# -- positions ------------------------------------------------------------------------------------------------------


def _mscale(factor: float, mscale: float) -> float:
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def rope_table(c: ModelConfig, length: int) -> Tensor:
    """Rotation of every pair of numbers at every position, as complex numbers: (length, qk_rope_head_dim / 2).

    With `rope_scaling` the frequencies are YaRN's: fast pairs stay, slow pairs are divided by `factor`, a ramp lies
    between (arXiv 2309.00071; DeepSeek-V3 section 4.3).
    """
    dim, base = c.qk_rope_head_dim, c.rope_theta
    frequency = base ** -(torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    size = 1.0
    if c.rope_scaling is not None:
        s = c.rope_scaling
        factor, original = s["factor"], s["original_max_position_embeddings"]

        def pair_that_turns(turns: float) -> float:
            return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

        low = max(math.floor(pair_that_turns(s.get("beta_fast") or 32)), 0)
        high = min(math.ceil(pair_that_turns(s.get("beta_slow") or 1)), dim - 1)
        ramp = ((torch.arange(dim // 2, dtype=torch.float32) - low) / max(high - low, 0.001)).clamp(0, 1)
        frequency = frequency / factor * ramp + frequency * (1 - ramp)
        if s.get("mscale") and s.get("mscale_all_dim"):
            size = _mscale(factor, s["mscale"]) / _mscale(factor, s["mscale_all_dim"])
        else:
            size = _mscale(factor, 1.0)
    angle = torch.arange(length, dtype=torch.float32)[:, None] * frequency
    return torch.polar(torch.full_like(angle, size), angle)


def attention_scale(c: ModelConfig) -> float:
    """Factor on query . key before the softmax: 1 / sqrt(qk_head_dim), times YaRN's mscale squared."""
    scale = c.qk_head_dim**-0.5
    if c.rope_scaling is not None and c.rope_scaling.get("mscale_all_dim"):
        scale *= _mscale(c.rope_scaling["factor"], c.rope_scaling["mscale_all_dim"]) ** 2
    return scale


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Turn the interleaved pairs (x0, x1), (x2, x3), ... of the last dimension by `rope` (broadcastable, complex)."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rope).flatten(-2)


# -- multi-head latent attention (Eq. 1-11) -------------------------------------------------------------------------


class MultiHeadLatentAttention(nn.Module):
    """Attention over a compressed memory: what is kept of a token is `kv_lora_rank + qk_rope_head_dim` numbers."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.c = c
        d, heads = c.hidden_size, c.num_attention_heads
        if c.q_lora_rank is None:
            self.q_proj = nn.Linear(d, heads * c.qk_head_dim, bias=False)
        else:
            self.q_a_proj = nn.Linear(d, c.q_lora_rank, bias=False)
            self.q_a_layernorm = RMSNorm(c.q_lora_rank, 1e-6)
            self.q_b_proj = nn.Linear(c.q_lora_rank, heads * c.qk_head_dim, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(d, c.kv_lora_rank + c.qk_rope_head_dim, bias=False)
        self.kv_a_layernorm = RMSNorm(c.kv_lora_rank, 1e-6)
        self.kv_b_proj = nn.Linear(c.kv_lora_rank, heads * (c.qk_nope_head_dim + c.v_head_dim), bias=False)
        self.o_proj = nn.Linear(heads * c.v_head_dim, d, bias=False)
        self.scale = attention_scale(c)

    def up_projections(self) -> tuple[Tensor, Tensor]:
        """W_UK (H, qk_nope_head_dim, kv_lora_rank) and W_UV (H, v_head_dim, kv_lora_rank): how a latent is opened."""
        c = self.c
        both = self.kv_b_proj.weight.view(c.num_attention_heads, c.qk_nope_head_dim + c.v_head_dim, c.kv_lora_rank)
        return both[:, : c.qk_nope_head_dim], both[:, c.qk_nope_head_dim :]

    def query_matrix(self) -> Tensor:
        """W_UQ | W_QR, (H, qk_head_dim, q_lora_rank, or d without q-LoRA)."""
        weight = self.q_proj.weight if self.c.q_lora_rank is None else self.q_b_proj.weight
        return weight.view(self.c.num_attention_heads, self.c.qk_head_dim, -1)

    def query_input(self, x: Tensor) -> Tensor:
        """c_Q = RMSNorm(W_DQ h), or h itself without q-LoRA."""
        return x if self.c.q_lora_rank is None else self.q_a_layernorm(self.q_a_proj(x))

    def latent(self, x: Tensor, rope: Tensor) -> tuple[Tensor, Tensor]:
        """c_KV (B, T, kv_lora_rank), normalised, and k_R (B, T, qk_rope_head_dim), rotated: all that is cached."""
        c_kv, k_rope = self.kv_a_proj_with_mqa(x).split([self.c.kv_lora_rank, self.c.qk_rope_head_dim], -1)
        return self.kv_a_layernorm(c_kv), rotate(k_rope, rope)

    def absorbed(self) -> tuple[Tensor, Tensor]:
        """W_UK folded into the queries and W_UV into the output, so that latents are compared and blended as they
        are and never opened: query matrix (H, kv_lora_rank + qk_rope_head_dim, q input), output (d, H, kv_lora_rank).
        """
        w_uk, w_uv = self.up_projections()
        w_q, w_qr = self.query_matrix().split([self.c.qk_nope_head_dim, self.c.qk_rope_head_dim], 1)
        query = torch.cat([w_uk.transpose(1, 2) @ w_q, w_qr], 1)
        w_o = self.o_proj.weight.view(-1, self.c.num_attention_heads, self.c.v_head_dim)
        return query, torch.einsum("dhv,hvc->dhc", w_o, w_uv)

    def forward(self, x: Tensor, rope: Tensor) -> Tensor:
        """x (B, T, d) -> (B, T, d); causal. Trains on the absorbed form: the same function at half the arithmetic."""
        w_query, w_out = self.absorbed()
        c_kv, k_rope = self.latent(x, rope)
        q = F.linear(self.query_input(x), w_query.flatten(0, 1)).unflatten(-1, w_query.shape[:2])  # (B, T, H, r + p)
        q_latent, q_rope = q.split([self.c.kv_lora_rank, self.c.qk_rope_head_dim], -1)
        q = torch.cat([q_latent, rotate(q_rope, rope[:, None])], -1)
        blended = attend(q, torch.cat([c_kv, k_rope], -1), self.c.kv_lora_rank, self.scale)  # (B, T, H, r)
        return F.linear(blended.flatten(2), w_out.flatten(1))

    def forward_plain(self, x: Tensor, rope: Tensor) -> Tensor:
        """The same as the report prints it: every latent is opened into full keys and values (Eq. 5, 10, 11)."""
        c, (w_uk, w_uv) = self.c, self.up_projections()
        c_kv, k_rope = self.latent(x, rope)
        q = torch.einsum("btr,hqr->bthq", self.query_input(x), self.query_matrix())
        q_nope, q_rope = q.split([c.qk_nope_head_dim, c.qk_rope_head_dim], -1)
        q_rope = rotate(q_rope, rope[:, None])
        keys = torch.einsum("btr,hnr->bthn", c_kv, w_uk)
        values = torch.einsum("btr,hvr->bthv", c_kv, w_uv)
        scores = torch.einsum("bthn,bshn->bhts", q_nope, keys) + torch.einsum("bthp,bsp->bhts", q_rope, k_rope)
        future = torch.full(scores.shape[-2:], -torch.inf, device=scores.device).triu(1)
        weights = (scores * self.scale + future).softmax(-1)
        return self.o_proj(torch.einsum("bhts,bshv->bthv", weights, values).flatten(2))


# -- mixture of experts (Eq. 12-16) ---------------------------------------------------------------------------------


class Routing(NamedTuple):
    """Every stage of the gate for N tokens, in the order in which they are computed."""

    logits: Tensor  # (N, E) u . e_i
    scores: Tensor  # (N, E) sigmoid(logits)
    choice_scores: Tensor  # (N, E) scores + bias: used to choose, never to weigh
    group_scores: Tensor  # (N, G) sum of the two best choice scores of each group
    kept_groups: Tensor  # (N, topk_group) int64
    chosen: Tensor  # (N, k) int64, best first
    raw_weights: Tensor  # (N, k) scores of the chosen, without the bias
    weights: Tensor  # (N, k) normalised to sum 1 (if norm_topk_prob), times routed_scaling_factor


class Router(nn.Module):
    """The gate of one layer: which k of E experts see a token, and how much each opinion counts."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.c = c
        self.weight = nn.Parameter(torch.zeros(c.n_routed_experts, c.hidden_size))
        self.register_buffer("e_score_correction_bias", torch.zeros(c.n_routed_experts))
        self.e_score_correction_bias: Tensor

    def forward(self, u: Tensor) -> Routing:
        """u (N, d) -> every stage of the choice."""
        logits = F.linear(u, self.weight)
        scores = logits.sigmoid()
        with torch.no_grad():
            choice_scores = scores + self.e_score_correction_bias
            group_scores, kept, chosen = choose(
                choice_scores, self.c.n_group, self.c.topk_group, self.c.num_experts_per_tok
            )
        raw = scores.gather(1, chosen)
        return Routing(logits, scores, choice_scores, group_scores, kept, chosen, raw, self.weigh(raw))

    def weigh(self, raw: Tensor) -> Tensor:
        """Scores of the chosen (N, k) -> the factors on their opinions."""
        if self.c.norm_topk_prob:
            raw = raw / (raw.sum(-1, keepdim=True) + 1e-20)
        return raw * self.c.routed_scaling_factor


MANY = 512  # rows for which it pays to go about it in more steps; fewer may run in compiled.py, which does not


def choose(
    choice_scores: Tensor, n_group: int, topk_group: int, k: int, closed: float = -torch.inf
) -> tuple[Tensor, Tensor, Tensor]:
    """Group-limited top-k: (group scores, kept groups, chosen experts).

    Scores in groups that are not kept become `closed`. It must be -inf: with 0, as some published code had it, an
    expert of a closed group wins over open ones whose score + bias is negative.
    """
    n = choice_scores.shape[0]
    grouped = choice_scores.view(n, n_group, -1)
    group_scores = _sum_of_best_two(grouped)
    kept = group_scores.topk(topk_group, -1).indices
    if topk_group < n_group:
        if n >= MANY and closed == -torch.inf and k <= grouped.shape[2]:
            return group_scores, kept, _best_of_open(grouped, kept, k)
        shut = torch.ones_like(group_scores, dtype=torch.bool).scatter_(1, kept, False)
        shut = shut.unsqueeze(-1)
        if closed > -torch.inf:  # what was ruled out one by one stays so
            shut = shut & (grouped > -torch.inf)
        choice_scores = grouped.masked_fill(shut, closed).view(n, -1)
    return group_scores, kept, choice_scores.topk(k, -1).indices


def _sum_of_best_two(grouped: Tensor) -> Tensor:
    """(N, G, E / G) -> (N, G)"""
    if grouped.shape[2] < 2 or grouped.shape[0] < MANY:
        return grouped.topk(min(2, grouped.shape[2]), -1).values.sum(-1)
    best, at = grouped.max(-1, keepdim=True)  # for many rows two passes are three times as fast as topk
    return best.squeeze(-1) + grouped.scatter(2, at, -torch.inf).amax(-1)


def _best_of_open(grouped: Tensor, kept: Tensor, k: int) -> Tensor:
    """(N, G, E / G) -> the k best of the kept groups, (N, k), in two short topks instead of one long one.

    Column j holds expert j of every kept group. A column that is not among the k with the best maxima holds none of
    the k best experts: in each of those k columns there is one at least as good.
    """
    columns = grouped.gather(1, kept.unsqueeze(-1).expand(-1, -1, grouped.shape[2]))
    best = columns.amax(1).topk(k, -1, sorted=False).indices.unsqueeze(1)
    few = columns.gather(2, best.expand(-1, kept.shape[1], -1)).flatten(1)
    return (kept.unsqueeze(-1) * grouped.shape[2] + best).flatten(1).gather(1, few.topk(k, -1).indices)


class Experts(nn.Module):
    """All experts of a layer in two tensors, the routed ones first, then the shared ones.

    `gate_up` (E + S, 2m, d): rows 0..m-1 the gate, m..2m-1 the up projection. `down` (E + S, m, d): row j is what
    neuron j adds to the hidden state. A published shared expert of width S x m is S experts of width m side by side.
    """

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        count, m, d = c.n_routed_experts + c.n_shared_experts, c.moe_intermediate_size, c.hidden_size
        self.gate_up = nn.Parameter(torch.empty(count, 2 * m, d))
        self.down = nn.Parameter(torch.empty(count, m, d))


class MoE(nn.Module):
    """y = sum of the shared experts' opinions + sum_i w_i opinion_i(u) over the k chosen (Eq. 12)."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.c = c
        self.gate = Router(c)
        self.experts = Experts(c)

    def forward(self, u: Tensor) -> tuple[Tensor, Routing]:
        """u (N, d) -> (N, d) and what the router did."""
        routing, routed = self.gate(u), self.c.n_routed_experts
        y = grouped_experts(u, self.experts.gate_up, self.experts.down, routing.chosen, routing.weights, routed)
        if self.c.n_shared_experts:
            gate, up = F.linear(u, self.experts.gate_up[routed:].flatten(0, 1)).unflatten(
                -1, (self.c.n_shared_experts, 2, -1)
            ).unbind(-2)  # fmt: skip
            y = y + (F.silu(gate) * up).flatten(1) @ self.experts.down[routed:].flatten(0, 1)
        return y, routing


class DenseFFN(nn.Module):
    """SwiGLU of the first layers: every weight works for every token."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, u: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(u)) * self.up_proj(u))


# -- layers and the whole model -------------------------------------------------------------------------------------


class DecoderLayer(nn.Module):
    """x + attention(norm(x)), then x + FFN(norm(x)). Dense below `first_k_dense_replace`, MoE from there on."""

    def __init__(self, c: ModelConfig, index: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn = MultiHeadLatentAttention(c)
        self.post_attention_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.mlp: DenseFFN | MoE = DenseFFN(c) if index < c.first_k_dense_replace else MoE(c)

    def forward(self, x: Tensor, rope: Tensor) -> tuple[Tensor, Routing | None]:
        x = x + self.self_attn(self.input_layernorm(x), rope)
        u = self.post_attention_layernorm(x)
        if isinstance(self.mlp, DenseFFN):
            return x + self.mlp(u), None
        y, routing = self.mlp(u.flatten(0, 1))
        return x + y.view_as(x), routing


class MultiTokenPrediction(nn.Module):
    """One more layer that guesses the token after next (Eq. 21-25).

    It reads [enorm(embedding of the next token); hnorm(h)], in that order, as the released weights need it, where h
    is the main model's state *after* its final norm, in training and in use alike.
    """

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.enorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.hnorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.eh_proj = nn.Linear(2 * c.hidden_size, c.hidden_size, bias=False)
        self.block = DecoderLayer(c, c.num_hidden_layers)
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)

    def join(self, embedded_next: Tensor, h: Tensor) -> Tensor:
        """What enters the module's layer, (..., d)."""
        return self.eh_proj(torch.cat([self.enorm(embedded_next), self.hnorm(h)], -1))

    def forward(self, embedded_next: Tensor, h: Tensor, rope: Tensor) -> tuple[Tensor, Routing | None]:
        x, routing = self.block(self.join(embedded_next, h), rope)
        return self.norm(x), routing


class DeepseekV3(nn.Module):
    """Embedding, layers, final norm, head; and the MTP module beside them."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.c = c
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(c, i) for i in range(c.num_hidden_layers))
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.lm_head = nn.Linear(c.hidden_size, c.vocab_size, bias=False)
        self.mtp = MultiTokenPrediction(c) if c.num_nextn_predict_layers else None
        self._rope = torch.empty(0, dtype=torch.complex64)

    def rope(self, length: int) -> Tensor:
        """The first `length` rows of the rotation table, on the model's device."""
        if self._rope.shape[0] < length or self._rope.device != self.lm_head.weight.device:
            rows = max(length, min(self.c.max_position_embeddings, 1024))
            self._rope = rope_table(self.c, rows).to(self.lm_head.weight.device)
        return self._rope[:length]

    def routers(self) -> list[Router]:
        """Every gate, the MTP module's last."""
        blocks = [*self.layers, *([self.mtp.block] if self.mtp is not None else [])]
        return [block.mlp.gate for block in blocks if isinstance(block.mlp, MoE)]

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor | None, list[Routing]]:
        """ids (B, T) -> final states (B, T, d), MTP states (B, T-1, d) or None, routings (MTP's last).

        Logits are `lm_head(states)`; row i of the MTP states, which knows tokens up to i + 1, predicts token i + 2.
        """
        rope = self.rope(ids.shape[1])
        embedded = self.embed_tokens(ids)
        x, routings = embedded, []
        for layer in self.layers:
            x, routing = layer(x, rope)
            if routing is not None:
                routings.append(routing)
        states = self.norm(x)
        if self.mtp is None:
            return states, None, routings
        guess, routing = self.mtp(embedded[:, 1:], states[:, :-1], rope[:-1])
        if routing is not None:
            routings.append(routing)
        return states, guess, routings

    @torch.no_grad()
    def initialise(self, seed: int) -> DeepseekV3:
        """Random weights: N(0, 1 / inputs) for every matrix, outputs of residual branches divided by sqrt(2 x layers).

        V3 draws all from N(0, 0.006) at width 7168; at width 64 that would start with next to no signal.
        """
        generator = torch.Generator().manual_seed(seed)
        depth = (2 * self.c.num_hidden_layers) ** -0.5
        for name, p in self.named_parameters():
            if p.dim() == 1:
                p.fill_(1.0)
                continue
            fan_in = p.shape[1] if name.endswith("experts.down") else p.shape[-1]
            std = 0.02 if name == "embed_tokens.weight" else fan_in**-0.5
            if name.endswith(("o_proj.weight", "down_proj.weight", "experts.down")):
                std *= depth
            p.normal_(0.0, std, generator=generator)
        return self
