"""The same arithmetic as `deepseek_v3.py` with as few operations as possible: what runs live.

At this size a forward pass costs what starting its small operations costs. So matrices that meet are multiplied once,
when the model is loaded: queries are made directly in the latent's space (W_UQ, W_UK and the softmax scale in one
matrix), the blended latents go to the hidden state through one matrix (W_UV, W_O), both down-projections are one, and
the shared expert is one more expert. No expert's weights are copied: the up-projections are a sampled matrix product
(only the chosen rows of one tall matrix), the down-projections a weighted embedding bag. One sequence at a time.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from model.config import ModelConfig
from model.deepseek_v3 import DecoderLayer, DeepseekV3, DenseFFN, MoE, Routing, choose, rope_table
from model.interventions import NONE, Interventions
from model.kernels import grouped_experts
from model.trace import Trace, attention_weights, causal_mask

Attention = Literal["absorbed", "plain"]

# Above this many numbers in one expert's up-projections a real matrix product per expert beats single dot products.
_SMALL_EXPERT = 64 * 1024


class LatentCache:
    """What is kept of every token seen: per layer the normalised latent c_KV and the rotated key k_R, nothing else."""

    def __init__(self, layers: int, width: int, capacity: int = 64) -> None:
        self.length = 0
        self._store = torch.empty(layers, capacity, width)

    @property
    def memory(self) -> Tensor:
        """(layers, length, kv_lora_rank + qk_rope_head_dim)"""
        return self._store[:, : self.length]

    @property
    def bytes(self) -> int:
        """Bytes of what is kept (the store itself has room for more)."""
        return self.memory.numel() * self._store.element_size()

    def reserve(self, tokens: int) -> Tensor:
        """The store, with room for `tokens` more."""
        layers, capacity, width = self._store.shape
        if self.length + tokens > capacity:
            store = torch.empty(layers, max(2 * capacity, self.length + tokens), width)
            store[:, : self.length] = self.memory
            self._store = store
        return self._store

    def cut(self, length: int) -> None:
        """Forget everything after the first `length` tokens."""
        self.length = min(self.length, length)


@dataclass(frozen=True)
class _Layer:
    """One layer's weights as the engine multiplies them. Matrices named *_t are stored (in, out)."""

    module: DecoderLayer
    norm_1: Tensor
    norm_q: Tensor | None  # None without q-LoRA
    norm_kv: Tensor
    down: Tensor  # (q_lora_rank + r + p, d), or (r + p, d) without q-LoRA
    query: Tensor  # (H x (r + p), q_lora_rank or d), with the softmax scale
    out_t: Tensor  # (H x r, d)
    norm_2: Tensor
    ffn_in: Tensor  # dense: (2 x intermediate, d); MoE: the router, (E, d)
    ffn_out_t: Tensor  # dense: (intermediate, d); MoE: every neuron of every expert, ((E + S) x m, d)
    bias: Tensor | None  # MoE: the selection bias (E,)
    gate_up: Tensor | None  # MoE: ((E + S) x 2m, d)

    @cached_property
    def latent_directions(self) -> Tensor:
        """(r, r): directions of the latent, the one that W_UK and W_UV read most strongly first, as rows."""
        return torch.linalg.svd(self.module.self_attn.kv_b_proj.weight, full_matrices=False).Vh


class _Seen(NamedTuple):
    """What a traced pass keeps of one layer."""

    before: Tensor
    mid: Tensor
    queries: Tensor
    routing: Routing | None


class Engine:
    """Runs a model whose weights no longer change. Thread-safe: a call writes only to what it made itself."""

    def __init__(self, model: DeepseekV3) -> None:
        self.model = model.eval().requires_grad_(False)
        self.c: ModelConfig = model.c
        with torch.no_grad():
            self.layers = [self._prepare(layer) for layer in model.layers]
            self.mtp_layer = self._prepare(model.mtp.block) if model.mtp is not None else None
        c = self.c
        count, m = c.n_routed_experts + c.n_shared_experts, c.moe_intermediate_size
        self._rows_in = torch.arange(count * 2 * m).view(count, 2 * m)  # rows of gate_up that belong to each expert
        self._rows_out = torch.arange(count * m).view(count, m)  # rows of ffn_out_t that belong to each expert
        self._shared = torch.arange(c.n_routed_experts, count)
        self._rope = rope_table(c, min(c.max_position_embeddings, 4096))
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")

    @staticmethod
    def _prepare(layer: DecoderLayer) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        query, out = attention.absorbed()
        down, norm_q = attention.kv_a_proj_with_mqa.weight, None
        if attention.c.q_lora_rank is not None:
            down = torch.cat([attention.q_a_proj.weight, down])
            norm_q = attention.q_a_layernorm.weight
        if isinstance(mlp, DenseFFN):
            ffn_in = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
            ffn_out, bias, gate_up = mlp.down_proj.weight.t().contiguous(), None, None
        else:
            ffn_in, bias = mlp.gate.weight, mlp.gate.e_score_correction_bias
            ffn_out, gate_up = mlp.experts.down.flatten(0, 1), mlp.experts.gate_up.flatten(0, 1)
        return _Layer(
            layer, layer.input_layernorm.weight, norm_q, attention.kv_a_layernorm.weight, down.contiguous(),
            (query.flatten(0, 1) * attention.scale).contiguous(), out.flatten(1).t().contiguous(),
            layer.post_attention_layernorm.weight, ffn_in, ffn_out, bias, gate_up,
        )  # fmt: skip

    def new_cache(self, mtp: bool = False) -> LatentCache:
        """An empty cache for the main model, or for the MTP module's one layer."""
        c = self.c
        return LatentCache(1 if mtp else c.num_hidden_layers, c.kv_lora_rank + c.qk_rope_head_dim)

    # -- one layer ----------------------------------------------------------------------------------------------

    def _attend(self, layer: _Layer, index: int, x: Tensor, store: Tensor, past: int, rope: Tensor,
                mask: Tensor | None, do: Interventions, plain: bool) -> tuple[Tensor, Tensor]:  # fmt: skip
        """x + attention(norm(x)); also the queries. Writes the new tokens' latents into `store` (capacity, r + p)."""
        c, new = self.c, x.shape[0]
        r, p, heads = c.kv_lora_rank, c.qk_rope_head_dim, c.num_attention_heads
        h = F.rms_norm(x, (c.hidden_size,), layer.norm_1, c.rms_norm_eps)
        low = F.linear(h, layer.down)
        if layer.norm_q is None:
            c_q, c_kv, k_rope = h, low[:, :r], low[:, r:]
        else:
            c_q, c_kv, k_rope = low.split([c.q_lora_rank or 0, r, p], 1)
            c_q = F.rms_norm(c_q, layer.norm_q.shape, layer.norm_q, 1e-6)
        c_kv = F.rms_norm(c_kv, (r,), layer.norm_kv, 1e-6)
        if do.latent_rank is not None and do.latent_rank < r:
            kept = layer.latent_directions[: do.latent_rank]
            c_kv = c_kv @ kept.t() @ kept
        rows = store[past : past + new]
        rows[:, :r] = c_kv
        rows[:, r:] = k_rope
        _turn(rows[:, r:], rope)
        queries = F.linear(c_q, layer.query).view(new, heads, r + p)
        _turn(queries[..., r:], rope[:, None])
        memory = store[: past + new]
        if plain:
            return self._attend_plain(layer, x, c_q, memory, rope, mask, do, index), queries
        weights = attention_weights(queries, memory, mask)
        blended = torch.mm(weights.view(new * heads, -1), memory[:, :r]).view(new, heads, r)
        for _, head in (at for at in do.silence_heads if at[0] == index):
            blended[:, head] = 0
        return torch.addmm(x, blended.view(new, heads * r), layer.out_t), queries

    def _attend_plain(self, layer: _Layer, x: Tensor, c_q: Tensor, memory: Tensor, rope: Tensor, mask: Tensor | None,
                      do: Interventions, index: int) -> Tensor:  # fmt: skip
        """The report's own order of steps: every cached latent is opened into keys and values, then compared."""
        c, attention = self.c, layer.module.self_attn
        w_uk, w_uv = attention.up_projections()
        q = torch.einsum("tr,hqr->thq", c_q, attention.query_matrix())
        q_nope, q_rope = q.split([c.qk_nope_head_dim, c.qk_rope_head_dim], -1)
        q_rope = torch.view_as_real(torch.view_as_complex(q_rope.unflatten(-1, (-1, 2)).contiguous()) * rope[:, None])
        latent, k_rope = memory.split([c.kv_lora_rank, c.qk_rope_head_dim], 1)
        keys, values = torch.einsum("sr,hnr->shn", latent, w_uk), torch.einsum("sr,hvr->shv", latent, w_uv)
        scores = torch.einsum("thn,shn->ths", q_nope, keys) + torch.einsum("thp,sp->ths", q_rope.flatten(-2), k_rope)
        scores = scores * attention.scale
        if mask is not None:
            scores = scores + mask.view_as(scores)
        out = torch.einsum("ths,shv->thv", scores.softmax(-1), values)
        for _, head in (at for at in do.silence_heads if at[0] == index):
            out[:, head] = 0
        return x + attention.o_proj(out.flatten(1))

    def _route(self, layer: _Layer, u: Tensor) -> Routing:
        """Every stage of the gate (see `deepseek_v3.Router`)."""
        c = self.c
        logits = F.linear(u, layer.ffn_in)
        scores = torch.sigmoid(logits)
        choice_scores = scores + layer.bias
        group_scores, kept, chosen = choose(choice_scores, c.n_group, c.topk_group, c.num_experts_per_tok)
        raw = scores.gather(1, chosen)
        return Routing(logits, scores, choice_scores, group_scores, kept, chosen, raw, self._weigh(raw))

    def _weigh(self, raw: Tensor) -> Tensor:
        if not self.c.norm_topk_prob:
            return raw * self.c.routed_scaling_factor
        return raw / raw.sum(-1, keepdim=True).add_(1e-20).div_(self.c.routed_scaling_factor)

    def _route_changed(self, layer: _Layer, index: int, u: Tensor, do: Interventions) -> Routing:
        """The gate under interventions; `Interventions` says what each does."""
        c = self.c
        logits = F.linear(u, layer.ffn_in)
        scores = logits.softmax(-1) if do.gate == "softmax" else torch.sigmoid(logits)
        choice_scores = scores + layer.bias
        for at, expert in do.dismiss:
            if at == index:
                choice_scores[:, expert] = -torch.inf
        forced = [expert for at, expert in do.force if at == index]
        if forced:
            choice_scores[:, forced] = 1e4
        k = do.num_experts_per_tok or c.num_experts_per_tok
        closed = 0.0 if do.gate == "mask_with_zero" else -torch.inf
        group_scores, kept, chosen = choose(choice_scores, c.n_group, c.topk_group, k, closed)
        raw = (scores + layer.bias if do.gate == "bias_in_weights" else scores).gather(1, chosen)
        weights = self._weigh(raw)
        if index in do.silence_routed:
            weights = torch.zeros_like(weights)
        return Routing(logits, scores, choice_scores, group_scores, kept, chosen, raw, weights)

    def _experts(self, layer: _Layer, u: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """sum_j weights[t, j] x opinion of expert chosen[t, j] on u[t]; `chosen` includes the shared ones."""
        c, (tokens, each) = self.c, chosen.shape
        m, count = c.moe_intermediate_size, self._rows_in.shape[0]
        if 2 * m * c.hidden_size > _SMALL_EXPERT or layer.gate_up is None or u.device.type != "cpu":
            assert isinstance(layer.module.mlp, MoE)
            experts = layer.module.mlp.experts
            return grouped_experts(u, experts.gate_up, experts.down, chosen, weights, count)
        flat = chosen.view(-1)
        wanted = torch.sparse_csr_tensor(
            torch.arange(0, tokens * each * 2 * m + 1, each * 2 * m), self._rows_in.index_select(0, flat).view(-1),
            torch.zeros(tokens * each * 2 * m), (tokens, count * 2 * m), check_invariants=False,
        )  # fmt: skip
        gate, up = (
            torch.sparse.sampled_addmm(wanted, u, layer.gate_up.t(), beta=0.0).values().view(tokens, each, 2 * m)
        ).split(m, -1)
        inner = F.silu(gate).mul_(up).mul_(weights.unsqueeze(-1))
        rows = self._rows_out.index_select(0, flat).view(tokens, each * m)
        return F.embedding_bag(rows, layer.ffn_out_t, mode="sum", per_sample_weights=inner.view(tokens, each * m))

    def _ffn(self, layer: _Layer, index: int, x: Tensor, do: Interventions) -> tuple[Tensor, Routing | None]:
        """x + FFN(norm(x)), and what the router did."""
        c, tokens = self.c, x.shape[0]
        u = F.rms_norm(x, (c.hidden_size,), layer.norm_2, c.rms_norm_eps)
        if layer.bias is None:
            gate, up = F.linear(u, layer.ffn_in).chunk(2, -1)
            return torch.addmm(x, F.silu(gate).mul_(up), layer.ffn_out_t), None
        routing = self._route_changed(layer, index, u, do) if do else self._route(layer, u)
        chosen, weights = routing.chosen, routing.weights
        if c.n_shared_experts:
            chosen = torch.cat([chosen, self._shared.expand(tokens, -1)], 1)
            nurse = 0.0 if index in do.silence_shared else 1.0
            weights = F.pad(weights, (0, c.n_shared_experts), value=nurse)
        return x + self._experts(layer, u, chosen, weights), routing

    # -- the whole model ------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def forward(self, ids: list[int], cache: LatentCache | None = None, *, last_only: bool = False,
                attention: Attention = "absorbed", interventions: Interventions = NONE) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Logits (T, vocab) and final states (T, d) of new tokens `ids`, which are appended to `cache`.

        `last_only`: only the last token's logits and state, (1, ...). Untraced; bit for bit what `trace` gives.
        """
        cache = cache if cache is not None else self.new_cache()
        states, _ = self._run(ids, cache, interventions, attention == "plain", None)
        states = states[-1:] if last_only else states
        return F.linear(states, self.model.lm_head.weight), states

    @torch.inference_mode()
    def trace(self, ids: list[int], interventions: Interventions = NONE) -> Trace:
        """The same pass, from an empty cache, with everything it saw."""
        seen: list[_Seen] = []
        cache = self.new_cache()
        states, x = self._run(ids, cache, interventions, False, seen)
        routings = [s.routing for s in seen if s.routing is not None] or [self._no_routing(len(ids), interventions)]
        stages = {
            name: torch.stack([getattr(routing, name) for routing in routings])
            for name in Routing._fields
        }  # fmt: skip
        if len(routings) == 1 and seen[-1].routing is None:  # stopped on a dense layer
            stages = {name: stage[:0] for name, stage in stages.items()}
        stages["router_logits"] = stages.pop("logits")
        return Trace(
            config=self.c, interventions=interventions, ids=tuple(ids),
            hidden=torch.stack([*(s.before for s in seen), x]), mid=torch.stack([s.mid for s in seen]),
            queries=torch.stack([s.queries for s in seen]), memory=cache.memory[: len(seen)], final_hidden=states,
            logits=F.linear(states, self.model.lm_head.weight), **stages,
        )  # fmt: skip

    def _run(self, ids: list[int], cache: LatentCache, do: Interventions, plain: bool, seen: list[_Seen] | None
             ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Final states (T, d) and the residual stream that they were normed from."""
        do.check(self.c)
        x = self.model.embed_tokens(torch.tensor(ids))
        store, past = cache.reserve(len(ids)), cache.length
        rope = self._rope[past : past + len(ids)]
        mask = causal_mask(len(ids), self.c.num_attention_heads, past)
        for index, layer in enumerate(self.layers[: do.stop_after]):
            mid, queries = self._attend(layer, index, x, store[index], past, rope, mask, do, plain)
            after, routing = self._ffn(layer, index, mid, do)
            if seen is not None:
                seen.append(_Seen(x, mid, queries, routing))
            x = after
        cache.length += len(ids)
        return F.rms_norm(x, (self.c.hidden_size,), self.model.norm.weight, self.c.rms_norm_eps), x

    def _no_routing(self, tokens: int, do: Interventions) -> Routing:
        c, k = self.c, do.num_experts_per_tok or self.c.num_experts_per_tok
        wide, few = torch.empty(tokens, c.n_routed_experts), torch.empty(tokens, k)
        kept, chosen = torch.empty(tokens, c.topk_group, dtype=torch.int64), few.long()
        return Routing(wide, wide, wide, torch.empty(tokens, c.n_group), kept, chosen, few, few)

    # -- multi-token prediction -----------------------------------------------------------------------------------

    @torch.inference_mode()
    def predict_further(self, ids: list[int], states: Tensor, cache: LatentCache) -> Tensor:
        """MTP logits (T, vocab): from final states (T, d) of T positions and the ids that *follow* each of them, what
        comes after those. `cache` is the MTP module's own (`new_cache(mtp=True)`)."""
        mtp = self.model.mtp
        if mtp is None or self.mtp_layer is None:
            raise ValueError("This model has no MTP module.")
        x = mtp.join(self.model.embed_tokens(torch.tensor(ids)), states)
        store, past = cache.reserve(len(ids)), cache.length
        mask = causal_mask(len(ids), self.c.num_attention_heads, past)
        rope = self._rope[past : past + len(ids)]
        x, _ = self._attend(self.mtp_layer, -1, x, store[0], past, rope, mask, NONE, False)
        x, _ = self._ffn(self.mtp_layer, -1, x, NONE)
        cache.length += len(ids)
        return F.linear(mtp.norm(x), self.model.lm_head.weight)


def _turn(x: Tensor, rope: Tensor) -> None:
    """Rotate the interleaved pairs of x's last dimension in place, by `rope` (complex, broadcastable)."""
    pairs = x.unflatten(-1, (-1, 2))
    if x.storage_offset() % 2 or any(step % 2 for step in x.stride()[:-1]):
        x.copy_(torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * rope).flatten(-2))
    else:
        torch.view_as_complex(pairs).mul_(rope)
