"""The same arithmetic as `deepseek_v3.py` with as few operations as possible: what runs live.

At this size a forward pass costs what starting its small operations costs. So

- matrices that meet are multiplied once, when the model is loaded: queries are made directly in the latent's space
  (W_UQ, W_UK and the softmax scale in one matrix), blended latents go to the hidden state through one (W_UV, W_O), and
  both down-projections are one;
- the shared expert is one more expert, and no expert's weights are copied: the up-projections are a sampled matrix
  product (only the chosen rows of one tall matrix), the down-projections a weighted embedding bag;
- RMSNorm, six operations in PyTorch on a CPU, is one: LayerNorm of [x, -x], whose mean is 0 and whose variance is the
  mean square of x. The residual stream is carried as [x, -x]; matrices that write to it are stored as [W, -W];
- what a trace keeps is written once, where it will stay;
- layers that compute alike are run by `compiled.py`: the same operations, without Python's lock.

One sequence at a time.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.compiled import CompiledLayers
from model.config import ModelConfig
from model.deepseek_v3 import MANY, DecoderLayer, DeepseekV3, DenseFFN, MoE, choose, rope_table, rotate
from model.interventions import NONE, Interventions
from model.kernels import grouped_experts
from model.trace import Trace, attention_weights, causal_mask

Attention = Literal["absorbed", "plain"]

# Above this many numbers in one expert's up-projections a real matrix product per expert beats single dot products.
_SMALL_EXPERT = 64 * 1024
# Longer texts are refused, whatever the model was trained for: the rotations of all positions are held ready.
_MAX_POSITIONS = 4096


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

    def add(self, memory: Tensor, room: int = 0) -> None:
        """Take over what another cache kept of some tokens, (layers, tokens, width); make `room` for so many more."""
        tokens = memory.shape[1]
        self.reserve(tokens + room)[:, self.length : self.length + tokens] = memory
        self.length += tokens

    def cut(self, length: int) -> None:
        """Forget everything after the first `length` tokens."""
        self.length = min(self.length, length)


def _doubled(x: Tensor, dim: int = -1) -> Tensor:
    """[x, -x]"""
    return torch.cat([x, -x], dim)


@dataclass(frozen=True)
class _Layer:
    """One layer's weights as the engine multiplies them. Matrices named *_t are stored (in, out)."""

    module: DecoderLayer
    norm_1: Tensor  # (2d,) the norm's weight twice
    norm_q: Tensor | None  # (2 q_lora_rank,); None without q-LoRA
    norm_kv: Tensor  # (2r,)
    down: Tensor  # (2 q_lora_rank + 2r + p, d): c_Q and -c_Q, c_KV and -c_KV, k_R; without q-LoRA no c_Q
    query: Tensor  # (H x (r + p), q_lora_rank or d), with the softmax scale
    out_t: Tensor  # (H x r, 2d)
    norm_2: Tensor  # (2d,)
    ffn_in: Tensor  # dense: (2 x intermediate, d); MoE: the router, (E, d)
    ffn_out_t: Tensor  # dense: (intermediate, 2d); MoE: every neuron of every expert, ((E + S) x m, d)
    bias: Tensor | None  # MoE: the selection bias (E,)
    gate_up: Tensor | None  # MoE: ((E + S) x 2m, d)

    @cached_property
    def latent_directions(self) -> Tensor:
        """(r, r): directions of the latent, the one that W_UK and W_UV read most strongly first, as rows."""
        return torch.linalg.svd(self.module.self_attn.kv_b_proj.weight, full_matrices=False).Vh


class _Record:
    """Room for what layers and gates do: for each of the `traced` layers of a trace; where none is taken (0), one room
    that is used again and again, and none for the residual stream."""

    def __init__(self, c: ModelConfig, tokens: int, k: int, traced: int) -> None:
        layers = max(traced - c.first_k_dense_replace, 1)

        def room(width: int) -> Tensor:
            return torch.empty(layers, tokens, width)

        shared = c.n_shared_experts
        self.hidden, self.mid = (torch.empty(traced + more, tokens, c.hidden_size) for more in (1, 0))
        self.queries = torch.empty(max(traced, 1), tokens, c.num_attention_heads, c.kv_lora_rank + c.qk_rope_head_dim)
        self.logits, self.scores, self.choice_scores = (room(c.n_routed_experts) for _ in range(3))
        self.group_scores, self.raw_weights = room(c.n_group), room(k)
        self.kept_groups = torch.empty(layers, tokens, c.topk_group, dtype=torch.int64)
        # The shared experts stand behind the chosen ones, with weight 1.
        self.experts = torch.empty(layers, tokens, k + shared, dtype=torch.int64)
        self.experts[..., k:] = torch.arange(c.n_routed_experts, c.n_routed_experts + shared)
        self.factors = torch.ones(layers, tokens, k + shared)
        self.k = k
        # The pattern of the sampled product: every token wants the same number of rows.
        wanted = (k + shared) * 2 * c.moe_intermediate_size
        self.row_starts = torch.arange(0, tokens * wanted + 1, wanted)
        self.products = torch.zeros(tokens * wanted)  # and what it gives, written over by every layer
        self.boards: list[Tensor] = []  # the selection bias of every MoE layer that ran

    def take_over(self, base: Trace, start: int, layers: int) -> None:
        """The first `start` layers, `layers` of them MoE, as `base` saw them."""
        self.hidden[:start], self.mid[:start] = base.hidden[:start], base.mid[:start]
        self.queries[:start] = base.queries[:start]
        self.boards.extend(base.bias[:layers])
        if not layers:  # as when k differs: then the rooms do not even have the same shape
            return
        for mine, theirs in (
            (self.logits, base.router_logits), (self.scores, base.scores), (self.choice_scores, base.choice_scores),
            (self.group_scores, base.group_scores), (self.kept_groups, base.kept_groups),
            (self.experts[..., : self.k], base.chosen), (self.raw_weights, base.raw_weights),
            (self.factors[..., : self.k], base.weights),
        ):  # fmt: skip
            mine[:layers] = theirs[:layers]

    def stages(self, layers: int) -> dict[str, Tensor]:
        """Fields of `Trace` for the first `layers` MoE layers, all but who may be chosen."""
        return {
            "router_logits": self.logits[:layers], "scores": self.scores[:layers],
            "group_scores": self.group_scores[:layers], "kept_groups": self.kept_groups[:layers],
            "chosen": self.experts[:layers, :, : self.k], "raw_weights": self.raw_weights[:layers],
            "weights": self.factors[:layers, :, : self.k],
        }  # fmt: skip


class Engine:
    """Runs a model whose weights no longer change. Thread-safe: a call writes only to what it made itself."""

    def __init__(self, model: DeepseekV3) -> None:
        self.model = model.eval().requires_grad_(False)
        self.c: ModelConfig = model.c
        c = self.c
        with torch.no_grad():
            self.layers = [self._prepare(layer) for layer in model.layers]
            self.mtp_layer = self._prepare(model.mtp.block) if model.mtp is not None else None
            self._norm = model.norm.weight.repeat(2)
            self._both = _doubled(torch.eye(c.hidden_size))
        count, m = c.n_routed_experts + c.n_shared_experts, c.moe_intermediate_size
        # rows of gate_up and of ffn_out_t that belong to each expert
        self._rows_in = torch.arange(count * 2 * m).view(count, 2 * m)
        self._rows_out = torch.arange(count * m, dtype=torch.int32).view(count, m)
        self._compiled = CompiledLayers(self) if CompiledLayers.fits(self, _SMALL_EXPERT) else None
        self.positions = min(c.max_position_embeddings, _MAX_POSITIONS)
        self._rope = rope_table(c, self.positions)
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")

    @staticmethod
    def _prepare(layer: nn.Module) -> _Layer:
        assert isinstance(layer, DecoderLayer)
        attention, mlp, c = layer.self_attn, layer.mlp, layer.self_attn.c
        query, out = attention.absorbed()
        kv, key = attention.kv_a_proj_with_mqa.weight.split([c.kv_lora_rank, c.qk_rope_head_dim])
        down, norm_q = [_doubled(kv, 0), key], None
        if c.q_lora_rank is not None:
            down.insert(0, _doubled(attention.q_a_proj.weight, 0))
            norm_q = attention.q_a_layernorm.weight.repeat(2)
        if isinstance(mlp, DenseFFN):
            ffn_in = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
            ffn_out, bias, gate_up = _doubled(mlp.down_proj.weight.t()), None, None
        else:
            ffn_in, bias = mlp.gate.weight, mlp.gate.e_score_correction_bias
            ffn_out, gate_up = mlp.experts.down.flatten(0, 1), mlp.experts.gate_up.flatten(0, 1)
        return _Layer(
            layer, layer.input_layernorm.weight.repeat(2), norm_q, attention.kv_a_layernorm.weight.repeat(2),
            torch.cat(down), (query.flatten(0, 1) * attention.scale).contiguous(), _doubled(out.flatten(1).t()),
            layer.post_attention_layernorm.weight.repeat(2), ffn_in, ffn_out, bias, gate_up,
        )  # fmt: skip

    def new_cache(self, mtp: bool = False) -> LatentCache:
        """An empty cache for the main model, or for the MTP module's one layer."""
        c = self.c
        return LatentCache(1 if mtp else c.num_hidden_layers, c.kv_lora_rank + c.qk_rope_head_dim)

    # -- one layer; x is the residual stream as [x, -x], (T, 2d) -------------------------------------------------------

    def _attend(self, layer: _Layer, index: int, x: Tensor, store: Tensor, past: int, rope: Tensor,
                mask: Tensor | None, do: Interventions, plain: bool) -> tuple[Tensor, Tensor]:  # fmt: skip
        """x + attention(norm(x)); also the queries. Writes the new tokens' latents into `store` (capacity, r + p)."""
        c, new = self.c, x.shape[0]
        r, p, heads = c.kv_lora_rank, c.qk_rope_head_dim, c.num_attention_heads
        h = F.layer_norm(x, layer.norm_1.shape, layer.norm_1, None, c.rms_norm_eps)[:, : c.hidden_size]
        low = F.linear(h, layer.down)
        c_q, at = h, 0
        if layer.norm_q is not None:
            at = layer.norm_q.shape[0]
            c_q = F.layer_norm(low[:, :at], (at,), layer.norm_q, None, 1e-6)[:, : at // 2]
        c_kv = F.layer_norm(low[:, at : at + 2 * r], (2 * r,), layer.norm_kv, None, 1e-6)[:, :r]
        if do.latent_rank is not None and do.latent_rank < r:
            kept = layer.latent_directions[: do.latent_rank]
            c_kv = c_kv @ kept.t() @ kept
        rows = torch.cat([c_kv, low[:, at + 2 * r :]], 1, out=store[past : past + new])
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
        latent, k_rope = memory.split([c.kv_lora_rank, c.qk_rope_head_dim], 1)
        keys, values = torch.einsum("sr,hnr->shn", latent, w_uk), torch.einsum("sr,hvr->shv", latent, w_uv)
        scores = torch.einsum("thn,shn->ths", q_nope, keys)
        scores = (scores + torch.einsum("thp,sp->ths", rotate(q_rope.contiguous(), rope[:, None]), k_rope))
        scores = scores * attention.scale
        if mask is not None:
            scores = scores + mask.view_as(scores)
        out = torch.einsum("ths,shv->thv", scores.softmax(-1), values)
        for _, head in (at for at in do.silence_heads if at[0] == index):
            out[:, head] = 0
        return x + _doubled(attention.o_proj(out.flatten(1)))

    def _route(self, layer: _Layer, index: int, u: Tensor, record: _Record, m: int, do: Interventions) -> None:
        """Every stage of the gate (see `deepseek_v3.Router`), written to room m of the record."""
        c, k, changed, bias = self.c, record.k, bool(do), layer.bias
        assert bias is not None
        logits = torch.mm(u, layer.ffn_in.t(), out=record.logits[m])
        scores = torch.sigmoid(logits, out=record.scores[m])
        if changed and do.gate == "softmax":
            torch.softmax(logits, -1, out=scores)
        choice_scores = torch.add(scores, bias, out=record.choice_scores[m])
        closed = -torch.inf
        if changed:
            self._apply(index, choice_scores, do)
            closed = 0.0 if do.gate == "mask_with_zero" else closed
        group_scores, kept, chosen = choose(choice_scores, c.n_group, c.topk_group, k, closed)
        record.group_scores[m], record.kept_groups[m], record.experts[m, :, :k] = group_scores, kept, chosen
        weighed = scores + bias if changed and do.gate == "bias_in_weights" else scores
        raw = torch.gather(weighed, 1, chosen, out=record.raw_weights[m])
        weights = record.factors[m, :, :k]
        if c.norm_topk_prob:
            torch.div(raw, raw.sum(-1, keepdim=True).add_(1e-20).div_(c.routed_scaling_factor), out=weights)
        else:
            torch.mul(raw, c.routed_scaling_factor, out=weights)
        if changed:
            record.factors[m, :, k:] = 0.0 if index in do.silence_shared else 1.0
            if index in do.silence_routed:
                weights.zero_()

    @staticmethod
    def _apply(index: int, choice_scores: Tensor, do: Interventions) -> None:
        """Dismissed and forced experts (see `Interventions`), in place."""
        for at, expert in do.dismiss:
            if at == index:
                choice_scores[:, expert] = -torch.inf
        for at, expert in do.force:
            if at == index:
                choice_scores[:, expert] = 1e4  # above every sigmoid + bias, and finite: groups add two of them

    def _experts(self, layer: _Layer, u: Tensor, record: _Record, m: int) -> Tensor:
        """(T, d): sum over the chosen and the shared experts of factor x opinion on u."""
        c, experts, factors = self.c, record.experts[m], record.factors[m]
        tokens, each = experts.shape
        inner_size, count = c.moe_intermediate_size, self._rows_in.shape[0]
        if 2 * inner_size * c.hidden_size > _SMALL_EXPERT or layer.gate_up is None:
            assert isinstance(layer.module.mlp, MoE)
            weights = layer.module.mlp.experts
            return grouped_experts(u, weights.gate_up, weights.down, experts, factors, count)
        flat = experts.view(-1)
        wanted = torch.sparse_csr_tensor(
            record.row_starts, self._rows_in.index_select(0, flat).view(-1), record.products,
            (tokens, count * 2 * inner_size), check_invariants=False,
        )  # fmt: skip
        torch.sparse.sampled_addmm(wanted, u, layer.gate_up.t(), beta=0.0, out=wanted)
        gate, up = record.products.view(tokens, each, 2 * inner_size).split(inner_size, -1)
        inner = F.silu(gate).mul_(up).mul_(factors.unsqueeze(-1)).view(tokens, -1)
        rows = self._rows_out.index_select(0, flat).view(tokens, -1)
        return F.embedding_bag(rows, layer.ffn_out_t, mode="sum", per_sample_weights=inner)

    def _ffn(self, layer: _Layer, index: int, x: Tensor, record: _Record, m: int, do: Interventions) -> Tensor:
        """x + FFN(norm(x))."""
        c = self.c
        u = F.layer_norm(x, layer.norm_2.shape, layer.norm_2, None, c.rms_norm_eps)[:, : c.hidden_size]
        if layer.bias is None:
            gate, up = F.linear(u, layer.ffn_in).chunk(2, -1)
            return torch.addmm(x, F.silu(gate).mul_(up), layer.ffn_out_t)
        self._route(layer, index, u, record, m, do)
        return torch.addmm(x, self._experts(layer, u, record, m), self._both)

    # -- the whole model ------------------------------------------------------------------------------------------

    def _run(self, ids: list[int], cache: LatentCache, record: _Record, traced: bool, do: Interventions, plain: bool,
             start: int = 0, x: Tensor | None = None) -> Tensor:  # fmt: skip
        """The residual stream (T, 2d) after the last layer that runs, from layer `start` on, which finds `x`."""
        c = self.c
        x = _doubled(self.model.embed_tokens(torch.tensor(ids))) if x is None else x
        store, past = cache.reserve(len(ids)), cache.length
        rope = self._rope[past : past + len(ids)]
        mask = causal_mask(len(ids), c.num_attention_heads, past)
        fast = self._compiled if self._compiled and self._compiled.layers is self.layers else None  # not a changed copy
        rest = do.alike_from() if fast and not plain and len(ids) < MANY else c.num_hidden_layers
        for index, layer in enumerate(self.layers[: do.stop_after]):
            if index < start:
                continue
            if fast and index >= rest:  # no layer is an exception from here on: all of them at once
                end = do.stop_after or c.num_hidden_layers
                if not traced:  # one room for all layers: who was silenced below speaks again
                    record.factors[..., record.k :] = 1.0
                x = fast.run(x, store, past, rope, mask, index, end, record, traced, do)
                record.boards.extend(one.bias for one in self.layers[index:end] if one.bias is not None)
                break
            mid, queries = self._attend(layer, index, x, store[index], past, rope, mask, do, plain)
            room = max(index - c.first_k_dense_replace, 0) if traced else 0
            after = self._ffn(layer, index, mid, record, room, do)
            if traced:
                record.hidden[index], record.mid[index] = x[:, : c.hidden_size], mid[:, : c.hidden_size]
                record.queries[index] = queries
                if layer.bias is not None:
                    record.boards.append(layer.bias)
            x = after
        cache.length += len(ids)
        return x

    def _final(self, x: Tensor) -> Tensor:
        """The final norm: (T, 2d) -> (T, d)."""
        return F.layer_norm(x, self._norm.shape, self._norm, None, self.c.rms_norm_eps)[:, : self.c.hidden_size]

    def _record(self, tokens: int, do: Interventions, traced: bool) -> _Record:
        c, k = self.c, do.num_experts_per_tok or self.c.num_experts_per_tok
        return _Record(c, tokens, k, (do.stop_after or c.num_hidden_layers) if traced else 0)

    @torch.inference_mode()
    def forward(self, ids: list[int], cache: LatentCache | None = None, *, last_only: bool = False,
                attention: Attention = "absorbed", interventions: Interventions = NONE
                ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Logits (T, vocab) and final states (T, d) of new tokens `ids`, which are appended to `cache`.

        `last_only`: only the last token's logits and state, (1, ...). Untraced; bit for bit what `trace` gives.
        """
        interventions.check(self.c)
        cache = cache if cache is not None else self.new_cache()
        record = self._record(len(ids), interventions, False)
        states = self._final(self._run(ids, cache, record, False, interventions, attention == "plain"))
        states = states[-1:] if last_only else states
        return F.linear(states, self.model.lm_head.weight), states

    @torch.inference_mode()
    def trace(self, ids: list[int], interventions: Interventions = NONE, base: Trace | None = None) -> Trace:
        """The same pass, from an empty cache, with everything it saw.

        `base`: an untouched trace of the same ids. Layers below the first that the interventions reach are taken from
        it and not computed again; the result is bit for bit the same.
        """
        interventions.check(self.c)
        c, cache, record = self.c, self.new_cache(), self._record(len(ids), interventions, True)
        start, x = 0, None
        if base is not None and base.ids == tuple(ids) and not base.interventions and base.config is c:
            start = interventions.first_layer(c)
        if start and base is not None:
            cache.reserve(len(ids))[:start, : len(ids)] = base.memory[:start]
            record.take_over(base, start, max(start - c.first_k_dense_replace, 0))
            x = _doubled(base.hidden[start])
        x = self._run(ids, cache, record, True, interventions, False, start, x)
        boards, states = record.boards, self._final(x)
        record.hidden[-1] = x[:, : c.hidden_size]
        return Trace(
            config=c, interventions=interventions, ids=tuple(ids),
            hidden=record.hidden, mid=record.mid, queries=record.queries, memory=cache.memory[: len(record.mid)],
            final_hidden=states, logits=F.linear(states, self.model.lm_head.weight),
            bias=torch.stack(boards) if boards else torch.empty(0, c.n_routed_experts),
            changed_choice=record.choice_scores[: len(boards)] if interventions else None,
            **record.stages(len(boards)),
        )  # fmt: skip

    # -- read off a trace: no layer runs again ------------------------------------------------------------------------

    @torch.inference_mode()
    def lens(self, trace: Trace, token: int) -> Tensor:
        """The logit lens (L + 1, vocab): logits that final norm and head would give `token` if it left before the first
        layer, after the first, and so on. The last row is `trace.logits[token]`, row n that of the same pass with
        `stop_after=n`, up to the rounding of a product with another number of rows (most often bit for bit)."""
        states = self._final(_doubled(trace.hidden[:, token]))
        return F.linear(states, self.model.lm_head.weight)

    @torch.inference_mode()
    def readout(self, trace: Trace, token: int, id: int) -> Tensor:
        """(d,): what each number of `token`'s state is worth to the logit of `id` at the end, above the mean logit of
        the vocabulary. `trace.hidden[-1, token] @ readout` is that logit minus the mean of all; since the state is a
        sum, so is this, part by part (embedding, attention and FFN of every layer), with the final norm's scale of this
        token held as it is."""
        state, head = trace.hidden[-1, token], self.model.lm_head.weight
        scale = (state.square().mean() + self.c.rms_norm_eps).rsqrt()
        return (head[id] - head.mean(0)) * self._norm[: self.c.hidden_size] * scale

    @torch.inference_mode()
    def shared_output(self, trace: Trace, token: int) -> Tensor:
        """(M, d): what the shared experts added to `token` on every MoE layer that ran; the rest of
        `trace.ffn_output` there is the routed experts'."""
        c, first, d, routed = self.c, self.c.first_k_dense_replace, self.c.hidden_size, self.c.n_routed_experts
        ran = self.layers[first : first + trace.chosen.shape[0]]
        if not (c.n_shared_experts and ran):
            return torch.zeros(len(ran), d)
        experts = [layer.module.mlp.experts for layer in ran if isinstance(layer.module.mlp, MoE)]
        gate_up, down = (torch.stack([getattr(one, name)[routed:] for one in experts]) for name in ("gate_up", "down"))
        mid, norms = trace.mid[first : first + len(ran), token], torch.stack([layer.norm_2[:d] for layer in ran])
        u = F.rms_norm(mid, (d,), None, c.rms_norm_eps) * norms
        gate, up = torch.einsum("lsnd,ld->lsn", gate_up, u).chunk(2, -1)  # all layers at once: (M, S, m)
        out = torch.einsum("lsn,lsnd->ld", F.silu(gate) * up, down)
        out[[layer - first for layer in trace.interventions.silence_shared if layer < first + len(ran)]] = 0.0
        return out

    @torch.inference_mode()
    def opinions(self, trace: Trace, layer: int, token: int) -> Tensor:
        """(k + S, d): what each chosen expert, best first, and then each shared one added to `token` on this MoE layer,
        its factor included. Summed they are `trace.ffn_output[layer, token]`, up to rounding."""
        c, m = self.c, layer - self.c.first_k_dense_replace
        if not 0 <= m < trace.chosen.shape[0]:
            raise ValueError(f"Layer {layer} has no experts, or did not run.")
        own, mid = self.layers[layer], trace.mid[layer, token]
        shared = torch.arange(c.n_routed_experts, c.n_routed_experts + c.n_shared_experts)
        heard = torch.full((c.n_shared_experts,), float(layer not in trace.interventions.silence_shared))
        who, factors = torch.cat([trace.chosen[m, token], shared]), torch.cat([trace.weights[m, token], heard])
        assert isinstance(own.module.mlp, MoE)
        weights = own.module.mlp.experts
        u = F.rms_norm(mid, mid.shape, own.norm_2[: c.hidden_size], c.rms_norm_eps)
        gate, up = (weights.gate_up[who] @ u).chunk(2, -1)
        inner = F.silu(gate) * up * factors[:, None]
        return (inner[:, None] @ weights.down[who]).squeeze(1)

    # -- multi-token prediction -----------------------------------------------------------------------------------

    @torch.inference_mode()
    def predict_further(self, ids: list[int], states: Tensor, cache: LatentCache) -> Tensor:
        """MTP logits (T, vocab): from final states (T, d) of T positions and the ids that *follow* each of them, what
        comes after those. `cache` is the MTP module's own (`new_cache(mtp=True)`)."""
        mtp, layer = self.model.mtp, self.mtp_layer
        if mtp is None or layer is None:
            raise ValueError("This model has no MTP module.")
        x = _doubled(mtp.join(self.model.embed_tokens(torch.tensor(ids)), states))
        store, past = cache.reserve(len(ids)), cache.length
        mask = causal_mask(len(ids), self.c.num_attention_heads, past)
        rope = self._rope[past : past + len(ids)]
        x, _ = self._attend(layer, -1, x, store[0], past, rope, mask, NONE, False)
        x = self._ffn(layer, -1, x, self._record(len(ids), NONE, False), 0, NONE)
        cache.length += len(ids)
        return F.linear(mtp.norm(x[:, : self.c.hidden_size]), self.model.lm_head.weight)


def _turn(x: Tensor, rope: Tensor) -> None:
    """Rotate the interleaved pairs of x's last dimension in place, by `rope` (complex, broadcastable)."""
    if x.storage_offset() % 2 or any(step % 2 for step in x.stride()[:-1]):
        x.copy_(rotate(x.contiguous(), rope))  # complex numbers need even places
    else:
        torch.view_as_complex(x.unflatten(-1, (-1, 2))).mul_(rope)
