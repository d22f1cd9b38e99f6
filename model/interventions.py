"""What a person may change about one forward pass: data that travels with the call; the model is never touched.

Layers are counted from 0 as in `config.json`; for people, floor = layer + 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from model.config import ModelConfig
from model.errors import UserError

Expert = tuple[int, int]  # (layer, expert)
Gate = Literal["noaux_tc", "bias_in_weights", "mask_with_zero", "softmax"]
GATES: tuple[Gate, ...] = ("noaux_tc", "bias_in_weights", "mask_with_zero", "softmax")


class InterventionError(UserError):
    """An intervention names something that this model does not have."""


@dataclass(frozen=True)
class Interventions:
    """Each field with what it does to the mathematics (s: sigmoid scores, b: selection bias, w: weights)."""

    dismiss: frozenset[Expert] = field(default_factory=frozenset)
    """s + b of these experts becomes -inf before groups are scored: never chosen, the next best steps in, and the
    weights are normalised over those who are."""

    force: frozenset[Expert] = field(default_factory=frozenset)
    """s + b of these experts becomes a number above all others before groups are scored: their group is kept and they
    are among the k. Their weight still comes from their own s."""

    silence_shared: frozenset[int] = field(default_factory=frozenset)
    """In these layers the shared experts' opinion is multiplied by 0."""

    silence_routed: frozenset[int] = field(default_factory=frozenset)
    """In these layers every routed expert's w is 0 (the choice is still made and shown)."""

    num_experts_per_tok: int | None = None
    """k of every layer; w is normalised over the new k."""

    gate: Gate = "noaux_tc"
    """`bias_in_weights`: w from s + b instead of s. `mask_with_zero`: experts of closed groups get 0 instead of -inf,
    so that they win over open ones with s + b < 0. `softmax`: s = softmax(logits) instead of sigmoid."""

    latent_rank: int | None = None
    """The cached latent is projected on the r directions that its up-projections read most strongly (the leading
    right singular vectors of [W_UK; W_UV], per layer); the rotary key is left alone."""

    stop_after: int | None = None
    """Only this many layers run; the final norm and head read the state that they leave."""

    silence_heads: frozenset[tuple[int, int]] = field(default_factory=frozenset)
    """(layer, head): this head's output is multiplied by 0."""

    def __bool__(self) -> bool:
        return self != Interventions()

    def first_layer(self, c: ModelConfig) -> int:
        """The first layer that computes anything else because of this; num_hidden_layers (or stop_after) if none."""
        if self.latent_rank is not None:
            return 0
        reached = [layer for layer, _ in self.dismiss | self.force | self.silence_heads]
        reached += [*self.silence_shared, *self.silence_routed]
        if self.num_experts_per_tok is not None or self.gate != "noaux_tc":
            reached.append(c.first_k_dense_replace)
        return min([*reached, self.stop_after or c.num_hidden_layers])

    def alike_from(self) -> int:
        """The first layer from which on all compute alike: none of them is named here (k, the gate's rule and the
        latent's rank change them all)."""
        reached = [layer for layer, _ in self.dismiss | self.force | self.silence_heads]
        return max([*reached, *self.silence_shared, *self.silence_routed], default=-1) + 1

    def check(self, c: ModelConfig) -> None:
        """InterventionError, if something is named that `c` does not have."""

        def fail(message: str) -> None:
            raise InterventionError(message, "no_such_intervention", message=message)

        first, last = c.first_k_dense_replace, c.num_hidden_layers - 1

        def moe(layer: int) -> None:
            if not first <= layer <= last:
                fail(f"Floor {layer + 1} has no experts; floors with experts are {first + 1} to {last + 1}.")

        for layer, expert in self.dismiss | self.force:
            moe(layer)
            if not 0 <= expert < c.n_routed_experts:
                fail(f"There is no expert {expert}; experts are 0 to {c.n_routed_experts - 1}.")
        if both := self.dismiss & self.force:
            layer, expert = min(both)
            fail(f"Expert {expert} on floor {layer + 1} cannot be dismissed and forced at once.")
        for layer in self.silence_shared | self.silence_routed:
            moe(layer)
        for layer, head in self.silence_heads:
            if not 0 <= layer <= last:
                fail(f"There is no floor {layer + 1}; floors are 1 to {last + 1}.")
            if not 0 <= head < c.num_attention_heads:
                fail(f"There is no head {head}; heads are 0 to {c.num_attention_heads - 1}.")
        room = c.topk_group * (c.n_routed_experts // c.n_group)
        k = self.num_experts_per_tok
        if k is not None and not 1 <= k <= room:
            fail(f"{k} experts per token cannot be chosen; choose 1 to {room}.")
        if self.gate not in GATES:
            fail(f"There is no gate rule {self.gate!r}; choose one of {', '.join(GATES)}.")
        if self.latent_rank is not None and not 1 <= self.latent_rank <= c.kv_lora_rank:
            fail(f"The latent cannot be cut to {self.latent_rank} numbers; choose 1 to {c.kv_lora_rank}.")
        if self.stop_after is not None and not 1 <= self.stop_after <= c.num_hidden_layers:
            fail(f"The walk cannot stop after floor {self.stop_after}; choose 1 to {c.num_hidden_layers}.")
        for layer in sorted({layer for layer, _ in self.force | self.dismiss}):
            named = [e for (at, e) in self.force if at == layer]
            if len(named) > (k or c.num_experts_per_tok):
                fail(f"{len(named)} experts are forced on floor {layer + 1}, but only "
                     f"{k or c.num_experts_per_tok} can be chosen.")  # fmt: skip
            size = c.n_routed_experts // c.n_group
            if len({e // size for e in named}) > c.topk_group:
                fail(f"The forced experts on floor {layer + 1} lie in more than {c.topk_group} groups.")
            gone = {e for (at, e) in self.dismiss if at == layer}
            left = [size - sum(e // size == g for e in gone) for g in range(c.n_group)]
            scored = min(2, size)  # a group with fewer left has the score -inf: it is kept only if no other can be
            for e in named:
                if left[e // size] < scored:
                    fail(f"Expert {e} on floor {layer + 1} cannot be forced: all others of its group are dismissed.")
            order = sorted(n for n in left if n >= scored) + sorted(n for n in left if n < scored)
            if sum(order[: c.topk_group]) < (k or c.num_experts_per_tok):
                fail(f"Too many experts are dismissed on floor {layer + 1}: fewer than k could be left to choose from.")

NONE = Interventions()

__all__ = ["GATES", "NONE", "Expert", "Gate", "InterventionError", "Interventions"]
