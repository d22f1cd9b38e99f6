"""Two steps of training with hand-written gradients, and a loss that never holds all its logits.

Autograd would give the same numbers; it would also keep and re-read large intermediates. On a CPU memory traffic is
what training costs, so each piece here works on slices that fit a core's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

SLICE = 2**19  # numbers of a slice of attention's scores: 2 MB stay near a core, a whole batch would not


def _slices(weights: Tensor) -> Iterator[slice]:
    """Sequences of weights (B, ...) that are worked on at once."""
    several = max(1, SLICE // weights[0].numel())
    return (slice(i, i + several) for i in range(0, len(weights), several))


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, memory: Tensor, rank: int, scale: float) -> Tensor:
        batch, length, heads, width = q.shape
        future = torch.full((length, length), -torch.inf, dtype=q.dtype, device=q.device).triu(1)
        future = future.repeat_interleave(heads, 0)
        rows = q.reshape(batch, length * heads, width)
        weights = torch.empty(batch, length * heads, length, dtype=q.dtype, device=q.device)
        out = torch.empty(batch, length * heads, rank, dtype=q.dtype, device=q.device)
        for i in _slices(weights):
            scores = torch.baddbmm(future, rows[i], memory[i].transpose(1, 2), alpha=scale)
            torch.softmax(scores, -1, out=weights[i])
            torch.bmm(weights[i], memory[i, :, :rank], out=out[i])
        ctx.save_for_backward(rows, memory, weights)
        ctx.rank, ctx.scale = rank, scale
        return out.view(batch, length, heads, rank)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        rows, memory, weights = ctx.saved_tensors
        rank, scale = ctx.rank, ctx.scale
        grad = grads[0].reshape(*rows.shape[:2], rank)
        d_rows, d_memory = torch.empty_like(rows), torch.empty_like(memory)
        for i in _slices(weights):
            w, opened = weights[i], memory[i, :, :rank]
            d_w = torch.bmm(grad[i], opened.transpose(1, 2))
            d_scores = torch._softmax_backward_data(d_w, w, -1, w.dtype).mul_(scale)
            torch.bmm(d_scores, memory[i], out=d_rows[i])
            torch.bmm(d_scores.transpose(1, 2), rows[i], out=d_memory[i])
            d_memory[i, :, :rank].baddbmm_(w.transpose(1, 2), grad[i])
        length = memory.shape[1]
        return d_rows.view(rows.shape[0], length, -1, rows.shape[2]), d_memory, None, None


def attend(q: Tensor, memory: Tensor, rank: int, scale: float) -> Tensor:
    """Causal attention of every head on one shared memory (absorbed MLA).

    q (B, T, H, r + p); memory (B, T, r + p): the cached latent and the rotary key, whose first `rank` = r numbers are
    also what is blended. Returns (B, T, H, r).
    """
    return _Attend.apply(q, memory, rank, scale)


class _GroupedExperts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, gate_up: Tensor, down: Tensor, chosen: Tensor, weights: Tensor, routed: int
                ) -> Tensor:  # fmt: skip
        (n, k), d = chosen.shape, u.shape[1]
        flat = chosen.reshape(-1)
        load = torch.bincount(flat, minlength=routed)
        width = max(16, n * k // routed // 2)
        lines = (load + width - 1) // width  # a busy expert gets several lines of the table: no padding to the busiest
        expert = torch.repeat_interleave(torch.arange(routed, device=u.device), lines)
        order = torch.argsort(flat, stable=True)
        by_expert = flat[order]
        rank = torch.arange(n * k, device=u.device) - (load.cumsum(0) - load)[by_expert]
        place = (lines.cumsum(0) - lines)[by_expert] * width + rank
        slots = torch.empty_like(flat).scatter_(0, order, place).view(n, k)
        size = expert.shape[0] * width
        token = torch.full((size,), n, device=u.device).scatter_(0, place, order // k)
        factor = torch.zeros(size, dtype=u.dtype, device=u.device).scatter_(0, slots.view(-1), weights.reshape(-1))
        factor = factor.view(-1, width, 1)
        seen = F.pad(u, (0, 0, 0, 1)).index_select(0, token).view(-1, width, d)  # empty places read a zero token
        gate, up = torch.bmm(seen, gate_up.index_select(0, expert).transpose(1, 2)).chunk(2, -1)
        opinion = torch.bmm(F.silu(gate).mul_(up).mul_(factor), down.index_select(0, expert))
        ctx.save_for_backward(seen, gate, up, factor, token, slots, expert, gate_up, down)
        return F.embedding_bag(slots, opinion.view(size, d), mode="sum")

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, Tensor, None]:
        seen, gate, up, factor, token, slots, expert, gate_up, down = ctx.saved_tensors
        d = seen.shape[2]
        grad = F.pad(grads[0], (0, 0, 0, 1)).index_select(0, token).view_as(seen)
        sigmoid = gate.sigmoid()
        silu = gate * sigmoid
        inner = silu * up
        d_down = torch.zeros_like(down).index_add_(0, expert, torch.bmm((inner * factor).transpose(1, 2), grad))
        d_inner = torch.bmm(grad, down.index_select(0, expert).transpose(1, 2))
        d_factor = (d_inner * inner).sum(-1)
        d_inner.mul_(factor)
        d_gate = (sigmoid + silu * (1 - sigmoid)).mul_(up).mul_(d_inner)
        d_both = torch.cat([d_gate, d_inner.mul_(silu)], -1)
        d_gate_up = torch.zeros_like(gate_up).index_add_(0, expert, torch.bmm(d_both.transpose(1, 2), seen))
        d_seen = torch.bmm(d_both, gate_up.index_select(0, expert))
        d_u = F.embedding_bag(slots, d_seen.view(-1, d), mode="sum")
        return d_u, d_gate_up, d_down, None, d_factor.view(-1)[slots], None


def grouped_experts(
    u: Tensor, gate_up: Tensor, down: Tensor, chosen: Tensor, weights: Tensor, routed: int
) -> Tensor:
    """sum_j weights[n, j] x SwiGLU of expert chosen[n, j] on u[n]: (N, d).

    u (N, d); gate_up (>= E, 2m, d) and down (>= E, m, d), of which the first `routed` = E are used; chosen, weights
    (N, k). Tokens are sorted by expert into a table of lines of equal width, which one batched matmul goes through.
    """
    return _GroupedExperts.apply(u, gate_up, down, chosen, weights, routed)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, head: Tensor, targets: Tensor, rows: int) -> Tensor:
        d_states, d_head = torch.empty_like(states), torch.zeros_like(head)
        used = (targets >= 0).to(states.dtype)
        used /= used.sum().clamp(min=1)
        loss = states.new_zeros(())
        logits = states.new_empty(min(rows, len(states)), len(head))
        for i in range(0, len(states), rows):
            h, u, t = states[i : i + rows], used[i : i + rows, None], targets[i : i + rows, None].clamp(min=0)
            p = torch.mm(h, head.t(), out=logits[: len(h)])
            own, (most, at) = p.gather(1, t), p.max(1, keepdim=True)
            torch.softmax(p, -1, out=p)
            loss += ((most - p.gather(1, at).log() - own) * u).sum()  # log of the sum of exps, less the own logit
            p.scatter_add_(1, t, torch.full_like(own, -1.0))
            torch.mm(p, head, out=d_states[i : i + rows]).mul_(u)
            d_head.addmm_(p.t(), h * u)
        ctx.save_for_backward(d_states, d_head)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        d_states, d_head = ctx.saved_tensors
        return d_states * grads[0], d_head * grads[0], None, None


def linear_cross_entropy(states: Tensor, head: Tensor, targets: Tensor, rows: int = 128) -> Tensor:
    """Mean cross-entropy of softmax(states @ head.T), without ever holding (N, vocab) logits.

    states (N, d), head (vocab, d), targets (N,) with -1 = not counted. The gradient is computed on the way.
    """
    return _LinearCrossEntropy.apply(states, head, targets, rows)
