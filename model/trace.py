"""What one forward pass saw: frozen tensors with documented shapes, and views computed from them on demand.

L layers, M of them with experts, T tokens, d hidden_size, H heads, r kv_lora_rank, p qk_rope_head_dim, E routed
experts, k chosen, G groups. MoE layer m is layer m + first_k_dense_replace; floor = layer + 1. All fp32 or int64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from model.config import ModelConfig
from model.costs import parameters
from model.interventions import Interventions


class Candidate(NamedTuple):
    """A possible next token."""

    id: int
    probability: float


@dataclass(frozen=True, eq=False)
class Trace:
    """One forward pass over T tokens from an empty cache. Nothing here may be written to."""

    config: ModelConfig
    interventions: Interventions
    ids: tuple[int, ...]
    hidden: Tensor  # (L + 1, T, d) the residual stream before each layer, and after the last
    mid: Tensor  # (L, T, d) the residual stream between attention and FFN
    queries: Tensor  # (L, T, H, r + p) absorbed and rotated, with the softmax scale already in them
    memory: Tensor  # (L, T, r + p) the latent cache: normalised c_KV, rotated k_R
    router_logits: Tensor  # (M, T, E)
    scores: Tensor  # (M, T, E) sigmoid
    bias: Tensor  # (M, E) e_score_correction_bias of each MoE layer
    changed_choice: Tensor | None  # (M, T, E) scores + bias and what interventions made of them; None: nothing
    group_scores: Tensor  # (M, T, G)
    kept_groups: Tensor  # (M, T, topk_group)
    chosen: Tensor  # (M, T, k) best first
    raw_weights: Tensor  # (M, T, k) scores of the chosen
    weights: Tensor  # (M, T, k) what their opinions are multiplied by
    final_hidden: Tensor  # (T, d) after the final norm: what the head and the MTP module read
    logits: Tensor  # (T, vocab)

    # -- derived from the tensors above -----------------------------------------------------------------------------

    def choice_of(self, token: int) -> Tensor:
        """(M, E): `choice_scores` of one token."""
        return self.scores[:, token] + self.bias if self.changed_choice is None else self.changed_choice[:, token]

    @property
    def choice_scores(self) -> Tensor:
        """(M, T, E): scores + bias, by which the rooms were chosen. Not kept: it would be a fifth of a trace."""
        return self.scores + self.bias[:, None] if self.changed_choice is None else self.changed_choice

    @property
    def attention_output(self) -> Tensor:
        """(L, T, d): what attention added on each layer."""
        return self.mid - self.hidden[:-1]

    @property
    def ffn_output(self) -> Tensor:
        """(L, T, d): what the dense FFN, or shared + routed experts, added on each layer."""
        return self.hidden[1:] - self.mid

    def attention(self, layer: int) -> Tensor:
        """(H, T, T): weights with which each token (row) read each earlier one (column), by the same operations on the
        same numbers as in the pass itself."""
        queries, memory = self.queries[layer], self.memory[layer]
        return attention_weights(queries, memory, causal_mask(queries.shape[0], queries.shape[1])).permute(1, 0, 2)

    def attention_scores(self, layer: int) -> tuple[Tensor, Tensor]:
        """Content part and position part of the scaled scores before the softmax, each (H, T, T), future included."""
        r = self.config.kv_lora_rank
        queries, memory = self.queries[layer].transpose(0, 1), self.memory[layer]
        return queries[..., :r] @ memory[:, :r].t(), queries[..., r:] @ memory[:, r:].t()

    def probabilities(self, position: int) -> Tensor:
        """(vocab,): next-token probabilities after `position`."""
        return self.logits[position].softmax(-1)

    def top(self, position: int, n: int) -> list[Candidate]:
        """The n likeliest next tokens after `position`, best first."""
        values, ids = self.probabilities(position).topk(n)
        return [Candidate(i, v) for i, v in zip(ids.tolist(), values.tolist(), strict=True)]

    @property
    def experts_per_token(self) -> int:
        """Expert FFNs that each token passed through, routed + shared, counted from what ran."""
        layers, _, k = self.chosen.shape
        return layers * (k + self.config.n_shared_experts)

    def woken(self) -> Tensor:
        """(M, T, E) bool: which routed experts each token called on each MoE layer."""
        called = torch.zeros(*self.chosen.shape[:2], self.config.n_routed_experts, dtype=torch.bool)
        return called.scatter_(2, self.chosen, True)

    def touched(self) -> Tensor:
        """(M, E) bool: which routed experts any token called on each MoE layer."""
        called = torch.zeros(self.chosen.shape[0], self.config.n_routed_experts, dtype=torch.bool)
        return called.scatter_(1, self.chosen.flatten(1), True)

    def experts_touched_per_layer(self) -> Tensor:
        """(M,): how many different routed experts this text woke on each MoE layer."""
        return self.touched().sum(1)

    @cached_property
    def experts_touched(self) -> int:
        """Different routed experts that this text woke, of M x E."""
        return int(self.experts_touched_per_layer().sum())

    @property
    def weights_touched(self) -> int:
        """Parameters that this text used at least once: all but the experts that slept, and of the embedding only the
        rows that were read."""
        c, count = self.config, parameters(self.config)
        slept = self.chosen.shape[0] * c.n_routed_experts - self.experts_touched
        unread = c.vocab_size - len(set(self.ids))
        skipped = c.num_moe_layers - self.chosen.shape[0]  # layers above an early stop
        layers = skipped * count.moe_layer
        if skipped and not self.chosen.shape[0]:
            layers += (c.first_k_dense_replace - self.mid.shape[0]) * count.dense_layer
        return count.main - layers - slept * count.expert - unread * c.hidden_size

    @property
    def weights_total(self) -> int:
        """Parameters of the main model (the MTP module is not part of a forward pass)."""
        return parameters(self.config).main


def causal_mask(new: int, heads: int, past: int = 0) -> Tensor | None:
    """(new x heads, past + new) of 0 and -inf, row = token x heads + head; None for a single token, which sees all."""
    if new == 1:
        return None
    return torch.full((new, past + new), -torch.inf).triu_(past + 1).repeat_interleave(heads, 0)


def attention_weights(queries: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(queries . memory + mask): (T, H, S) from queries (T, H, r + p) and memory (S, r + p)."""
    rows = queries.reshape(-1, queries.shape[-1])
    scores = torch.mm(rows, memory.t()) if mask is None else torch.addmm(mask, rows, memory.t())
    return torch.softmax(scores, -1).view(*queries.shape[:2], -1)
