"""Two steps of training with hand-written gradients, and a loss that never holds all its logits.

Autograd would give the same numbers; it would also keep and re-read large intermediates. On a CPU memory traffic is
what training costs, so each piece here works on slices that fit a core's cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

TILE = 16  # queries worked on at once, each tile on what it may see: half the work, and scores stay near a core
LINES = 128  # of the experts' table worked on at once: their weights, and all that lies between, stay near a core


def _parts(length: int, most: int, device: torch.device) -> list[slice]:
    """What is worked on one after the other. A graphics card takes all at once: there each step costs."""
    step = most if device.type == "cpu" else max(1, length)
    return [slice(i, min(i + step, length)) for i in range(0, length, step)]


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, memory: Tensor, rank: int, scale: float) -> Tensor:
        batch, length, heads, width = q.shape
        rows = (q * scale).reshape(batch, length * heads, width)
        out = torch.empty(batch, length * heads, rank, dtype=q.dtype, device=q.device)
        every_weight = []
        for tile in _parts(length, TILE, q.device):
            first, end = tile.start, tile.stop
            here, size = slice(first * heads, end * heads), end - first
            scores = torch.bmm(rows[:, here], memory[:, :end].transpose(1, 2))
            future = torch.full((size, size), -torch.inf, dtype=q.dtype, device=q.device).triu(1)
            scores[:, :, first:] += future.repeat_interleave(heads, 0)
            weights = torch.softmax(scores, -1, out=scores)
            out[:, here] = torch.bmm(weights, memory[:, :end, :rank])
            every_weight.append(weights)
        ctx.save_for_backward(rows, memory, *every_weight)
        ctx.rank, ctx.scale = rank, scale
        return out.view(batch, length, heads, rank)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        rows, memory, *every_weight = ctx.saved_tensors
        (batch, length, width), rank = memory.shape, ctx.rank
        heads = rows.shape[1] // length
        grad = grads[0].reshape(batch, length * heads, rank)
        d_rows, d_memory = torch.empty_like(rows), torch.zeros_like(memory)
        for tile, weights in zip(_parts(length, TILE, rows.device), every_weight, strict=True):
            end = tile.stop
            here, seen = slice(tile.start * heads, end * heads), memory[:, :end]
            d_weights = torch.bmm(grad[:, here], seen[:, :, :rank].transpose(1, 2))
            d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            d_rows[:, here] = torch.bmm(d_scores, seen)
            d_memory[:, :end] += torch.bmm(d_scores.transpose(1, 2), rows[:, here])
            d_memory[:, :end, :rank] += torch.bmm(weights.transpose(1, 2), grad[:, here])
        return d_rows.mul_(ctx.scale).view(batch, length, heads, width), d_memory, None, None


def attend(q: Tensor, memory: Tensor, rank: int, scale: float) -> Tensor:
    """Causal attention of every head on one shared memory (absorbed MLA).

    q (B, T, H, r + p); memory (B, T, r + p): the cached latent and the rotary key, whose first `rank` = r numbers are
    also what is blended. Returns (B, T, H, r).
    """
    return _Attend.apply(q, memory, rank, scale)


def _read(rows: Tensor, at: Tensor) -> Tensor:
    """rows[at]; indexing as one writes it takes five times as long."""
    return rows.index_select(0, at.flatten()).view(*at.shape, -1)


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
        token, factor = token.view(-1, width), factor.view(-1, width, 1)
        padded = F.pad(u, (0, 0, 0, 1))  # empty places read a zero token
        both, opinion = u.new_empty(len(expert), width, gate_up.shape[1]), u.new_empty(len(expert), width, d)
        for i in _parts(len(expert), LINES, expert.device):
            torch.bmm(_read(padded, token[i]), gate_up.index_select(0, expert[i]).transpose(1, 2), out=both[i])
            gate, up = both[i].chunk(2, -1)
            torch.bmm(F.silu(gate).mul_(up).mul_(factor[i]), down.index_select(0, expert[i]), out=opinion[i])
        ctx.save_for_backward(padded, both, factor, token, slots, expert, gate_up, down)
        return F.embedding_bag(slots, opinion.view(size, d), mode="sum")

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, Tensor, None]:
        padded, both, factor, token, slots, expert, gate_up, down = ctx.saved_tensors
        padded_grad = F.pad(grads[0], (0, 0, 0, 1))
        d_gate_up, d_down = torch.zeros_like(gate_up), torch.zeros_like(down)
        d_seen, d_factor = padded.new_empty(*token.shape, padded.shape[1]), torch.empty_like(factor)
        for i in _parts(len(expert), LINES, expert.device):
            seen, grad = _read(padded, token[i]), _read(padded_grad, token[i])
            gate, up = both[i].chunk(2, -1)
            sigmoid = gate.sigmoid()
            silu = gate * sigmoid
            inner = silu * up
            d_down.index_add_(0, expert[i], torch.bmm((inner * factor[i]).transpose(1, 2), grad))
            d_inner = torch.bmm(grad, down.index_select(0, expert[i]).transpose(1, 2))
            torch.sum(d_inner * inner, -1, keepdim=True, out=d_factor[i])
            d_inner.mul_(factor[i])
            d_gate = (sigmoid + silu * (1 - sigmoid)).mul_(up).mul_(d_inner)
            d_both = torch.cat([d_gate, d_inner.mul_(silu)], -1)
            d_gate_up.index_add_(0, expert[i], torch.bmm(d_both.transpose(1, 2), seen))
            torch.bmm(d_both, gate_up.index_select(0, expert[i]), out=d_seen[i])
        d_u = F.embedding_bag(slots, d_seen.flatten(0, 1), mode="sum")
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
            own, most = p.gather(1, t), p.amax(1, keepdim=True)
            torch.softmax(p, -1, out=p)
            loss += ((most - p.amax(1, keepdim=True).log() - own) * u).sum()  # log of the sum of exps, less own logit
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
