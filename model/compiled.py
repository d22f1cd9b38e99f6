"""The engine's layers in one call: the same operations in the same order, and so the same numbers to the last bit.

A pass is some two thousand small operations. Called from Python each of them lets go of Python's lock and has to wait
for it again, behind every other visitor's page; TorchScript runs all layers without it, on another core meanwhile, and
starts each operation sooner. Only layers that compute alike are run here, with or without a change that is the same for
all; `engine.py` has the rest, is what is meant to be read, and what tests hold this to.

When TorchScript drops its last reference to a tensor that Python also holds, it needs Python's lock. So the weights are
the module's own and not handed over with every call.
"""

# No "from __future__ import annotations" here: TorchScript reads annotations as they are.
import logging
import warnings
from functools import cache
from typing import Any, List, Optional, Tuple  # noqa: UP035

import torch
from torch import Tensor

from model.interventions import Interventions


def _choose(
    choice_scores: Tensor, corridors: Tensor, names: Tensor, kept_groups: int, k: int, closed: float
) -> Tuple[Tensor, Tensor, Tensor]:  # noqa: UP006
    """`deepseek_v3.choose` for fewer than `MANY` tokens. Where closed groups are out of the question only the open ones
    are looked through: `corridors` (N, 1) is where the groups of a token begin among those of all, `names` (G, E / G)
    who stands in each."""
    n, groups, size = choice_scores.shape[0], names.shape[0], names.shape[1]
    grouped = choice_scores.view(n * groups, size)
    group_scores = grouped.topk(min(2, size), -1)[0].sum(-1).view(n, groups)
    kept = group_scores.topk(kept_groups, -1)[1]
    if kept_groups < groups:
        if closed < 0 and k <= kept_groups * size:
            best = grouped.index_select(0, (kept + corridors).view(-1)).view(n, -1).topk(k, -1)[1]
            return group_scores, kept, names.index_select(0, kept.view(-1)).view(n, -1).gather(1, best)
        shut = torch.ones_like(group_scores, dtype=torch.bool).scatter_(1, kept, False).unsqueeze(-1)
        choice_scores = grouped.view(n, groups, size).masked_fill(shut, closed).view(n, -1)
    return group_scores, kept, choice_scores.topk(k, -1)[1]


def _turn(x: Tensor, rope: Tensor) -> None:
    """As in `engine.py`, where places are even."""
    torch.view_as_complex(x.unflatten(-1, [x.shape[-1] // 2, 2])).mul_(rope)


class _Layers(torch.nn.Module):
    """All layers' weights, by name as in `engine._Layer` and then by layer, and what is done with them."""

    weights: List[List[Tensor]]  # noqa: UP006

    def __init__(self, weights: List[List[Tensor]]) -> None:  # noqa: UP006
        super().__init__()
        self.weights = weights

    def forward(
        self,
        x: Tensor,
        store: Tensor,
        past: int,
        rope: Tensor,
        mask: Optional[Tensor],  # noqa: UP045
        first: int,
        end: int,
        traced: bool,
        latent: List[Tensor],  # noqa: UP006
        room: List[Tensor],  # noqa: UP006
        constants: List[Tensor],  # noqa: UP006
        sizes: List[int],  # noqa: UP006
        gate: str,
        scale: float,
        eps: float,
    ) -> Tensor:
        """Layers `first` to `end` of `Engine._run`."""
        norm_1, norm_q, norm_kv, down = self.weights[0], self.weights[1], self.weights[2], self.weights[3]
        query, out_t, norm_2, ffn_in = self.weights[4], self.weights[5], self.weights[6], self.weights[7]
        ffn_out_t, bias, gate_up = self.weights[8], self.weights[9], self.weights[10]
        rows_in, rows_out, both_ways = constants[0], constants[1], constants[2]
        row_starts, products = constants[3], constants[4]
        dense, d, r, p, heads, inner = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
        groups, kept_groups, normed, k = sizes[6], sizes[7], sizes[8], sizes[9]
        closed = 0.0 if gate == "mask_with_zero" else -float("inf")
        new, count = x.shape[0], rows_in.shape[0]
        hidden, between, asked = room[8], room[9], room[10]
        turns, each = rope.unsqueeze(1), room[6].shape[2]
        corridors = torch.arange(0, new * groups, groups).unsqueeze(-1)
        names = torch.arange(room[0].shape[2]).view(groups, room[0].shape[2] // max(groups, 1))
        starts = torch.arange(0, new * each * inner, each * inner, dtype=torch.int)
        for index in range(first, end):
            # attention
            h = torch.layer_norm(x, norm_1[index].shape, norm_1[index], None, eps).narrow(1, 0, d)
            low = torch.nn.functional.linear(h, down[index])
            at, c_q = norm_q[index].shape[0], h
            if at > 0:
                c_q = torch.layer_norm(low.narrow(1, 0, at), [at], norm_q[index], None, 1e-6).narrow(1, 0, at // 2)
            c_kv = torch.layer_norm(low.narrow(1, at, 2 * r), [2 * r], norm_kv[index], None, 1e-6).narrow(1, 0, r)
            if len(latent) > 0:
                c_kv = c_kv @ latent[index].t() @ latent[index]
            cache = store[index]
            rows = cache.narrow(0, past, new)
            torch.cat([c_kv, low.narrow(1, at + 2 * r, p)], 1, out=rows)
            _turn(rows.narrow(1, r, p), rope)
            queries = asked[index if traced else 0]
            torch.mm(c_q, query[index].t(), out=queries.view(new, heads * (r + p)))
            _turn(queries.narrow(2, r, p), turns)
            memory = cache.narrow(0, 0, past + new)
            flat = queries.view(-1, r + p)
            scores = torch.mm(flat, memory.t()) if mask is None else torch.addmm(mask, flat, memory.t())
            blended = torch.mm(torch.softmax(scores, -1), memory.narrow(1, 0, r)).view(new, heads * r)
            mid = torch.addmm(x, blended, out_t[index])
            if traced:
                hidden[index].copy_(x.narrow(1, 0, d))
                between[index].copy_(mid.narrow(1, 0, d))
            # FFN
            u = torch.layer_norm(mid, norm_2[index].shape, norm_2[index], None, eps).narrow(1, 0, d)
            if index < dense:
                halves = torch.nn.functional.linear(u, ffn_in[index]).chunk(2, -1)
                x = torch.addmm(mid, torch.nn.functional.silu(halves[0]).mul_(halves[1]), ffn_out_t[index])
                continue
            m = index - dense if traced else 0
            logits, sigmoids, choice, raw = room[0][m], room[1][m], room[2][m], room[4][m]
            torch.mm(u, ffn_in[index].t(), out=logits)
            torch.sigmoid(logits, out=sigmoids)
            if gate == "softmax":
                torch.softmax(logits, -1, out=sigmoids)
            torch.add(sigmoids, bias[index], out=choice)
            group_scores, kept, chosen = _choose(choice, corridors, names, kept_groups, k, closed)
            experts, factors = room[6][m], room[7][m]
            room[3][m].copy_(group_scores)
            room[5][m].copy_(kept)
            experts.narrow(1, 0, k).copy_(chosen)
            torch.gather(sigmoids + bias[index] if gate == "bias_in_weights" else sigmoids, 1, chosen, out=raw)
            weight = factors.narrow(1, 0, k)
            if normed == 1:
                torch.div(raw, raw.sum(-1, keepdim=True).add_(1e-20).div_(scale), out=weight)
            else:
                torch.mul(raw, torch.full([], scale), out=weight)
            called = experts.view(-1)
            wanted = torch.ops.aten._sparse_csr_tensor_unsafe(
                row_starts, rows_in.index_select(0, called).view(-1), products, [new, count * 2 * inner]
            )
            both = torch.ops.aten.sparse_sampled_addmm(
                wanted, u, gate_up[index].t(), beta=0.0, alpha=1.0, out=wanted
            ).values()
            opened, up = both.view(new, each, 2 * inner).split(inner, -1)
            said = torch.nn.functional.silu(opened).mul_(up).mul_(factors.unsqueeze(-1)).view(-1)
            whose = rows_out.index_select(0, called).view(-1)
            y = torch.embedding_bag(ffn_out_t[index], whose, starts, False, 0, False, said)[0]
            x = torch.addmm(mid, y, both_ways)
        return x


def _scripted(weights: List[List[Tensor]]) -> Any:  # noqa: UP006
    """`_Layers.forward` of these weights. What it is compiled to is made once and shared."""
    with warnings.catch_warnings():  # TorchScript is not developed any further
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(_Layers(weights)).forward


@cache
def _can_script() -> bool:
    """Not with every torch and every Python: the engine goes its own way then."""
    try:
        _scripted([[torch.empty(0)]])
        return True
    except Exception as error:
        logging.getLogger(__name__).warning("TorchScript: %s", error)
        return False


class CompiledLayers:
    """`Engine`'s layers, ready to be run. `fits` says whether a model of this shape can be."""

    def __init__(self, engine: Any) -> None:
        c, none = engine.c, torch.empty(0)
        self.layers = engine.layers

        def of(name: str) -> list[Tensor]:
            found = [getattr(layer, name) for layer in engine.layers]
            return [none if one is None else one for one in found]

        self._run = _scripted([of(name) for name in (
            "norm_1", "norm_q", "norm_kv", "down", "query", "out_t", "norm_2", "ffn_in", "ffn_out_t", "bias", "gate_up",
        )])  # fmt: skip
        self.constants = [engine._rows_in, engine._rows_out, engine._both]
        self.sizes = [
            c.first_k_dense_replace, c.hidden_size, c.kv_lora_rank, c.qk_rope_head_dim, c.num_attention_heads,
            c.moe_intermediate_size, c.n_group, c.topk_group, int(c.norm_topk_prob),
        ]  # fmt: skip
        self.scale, self.eps = float(c.routed_scaling_factor), float(c.rms_norm_eps)

    @staticmethod
    def fits(engine: Any, small_expert: int) -> bool:
        """Even places for rotations, experts that are called by sampled products, and a torch that compiles."""
        c = engine.c
        return (
            c.kv_lora_rank % 2 == 0
            and c.qk_rope_head_dim % 2 == 0
            and 2 * c.moe_intermediate_size * c.hidden_size <= small_expert
            and all(layer.gate_up is not None or layer.bias is None for layer in engine.layers)
            and _can_script()
        )

    def run(
        self, x: Tensor, store: Tensor, past: int, rope: Tensor, mask: Tensor | None, first: int, end: int, record: Any,
        traced: bool, do: Interventions,
    ) -> Tensor:  # fmt: skip
        """The residual stream after layer `end`, (T, 2d); what was seen on the way stands in `record`.

        Of `do` what holds for every layer: k, the gate's rule, the rank of the latent.
        """
        room = [
            record.logits, record.scores, record.choice_scores, record.group_scores, record.raw_weights,
            record.kept_groups, record.experts, record.factors, record.hidden, record.mid, record.queries,
        ]  # fmt: skip
        constants = [*self.constants, record.row_starts, record.products]
        sizes = [*self.sizes, record.k]
        rank, whole = do.latent_rank, self.sizes[2]
        latent = [layer.latent_directions[:rank] for layer in self.layers] if rank is not None and rank < whole else []
        with torch.jit.optimized_execution(False):  # shapes differ from text to text: nothing to specialise on
            return self._run(
                x, store, past, rope, mask, first, end, traced, latent, room, constants, sizes, do.gate,
                self.scale, self.eps,
            )  # fmt: skip
