"""What must cross when a floor's experts live in several buildings: counted from routing that happened.

In DeepSeek-V3's training the 256 experts of a layer lie on 8 machines, 32 on each, and a token may go to at most 4 of
them (arXiv 2412.19437, sections 2.1.2 and 3.2.2); "building" here is such a machine. All tokens of a sequence are at
home in one building, because attention needs their notes in one place. A token that calls experts of another building
crosses to it once, however many it calls there, and their summed opinion crosses back.

M MoE layers, T tokens, E experts, k chosen, B buildings. Times are bandwidth alone: bytes over bytes per second.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from model.config import ModelConfig
from model.deepseek_v3 import choose

FP8_BYTES, BF16_BYTES, FP32_BYTES = 1, 2, 4
TILE = 128  # numbers of an activation that share one FP32 scale (section 3.3.2)

# arXiv 2412.19437, section 3.2.2: 400G InfiniBand between machines, NVLink inside one; bytes per second
INFINIBAND = 50e9
NVLINK = 160e9
SMS, SMS_FOR_SENDING = 132, 20  # multiprocessors of an H800; those that V3 sets aside for sending (section 3.2.2)
COMPUTE_TO_SENDING = 1.0  # "approximately 1:1" without overlap (section 3.2.1)

# arXiv 2505.09343, section 2.3.2, as printed there: tokens a card, experts a token, hidden size, layers
ISCA_TOKENS, ISCA_EXPERTS, ISCA_HIDDEN, ISCA_LAYERS = 32, 9, 7000, 61


# -- who lives where, and who drives where ----------------------------------------------------------------------------


def bounds(experts: int, buildings: int) -> list[int]:
    """Building b holds experts bounds[b] to bounds[b + 1] - 1: neighbours together, as many in each as can be. With as
    many buildings as the router has groups, a building is a group ("corridor")."""
    if not 1 <= buildings <= experts:
        raise ValueError(f"{experts} experts cannot live in {buildings} buildings.")
    return [experts * b // buildings for b in range(buildings + 1)]


def building_of(experts: int, buildings: int) -> Tensor:
    """(E,): the building of every expert."""
    ends = torch.tensor(bounds(experts, buildings)[1:])
    return torch.searchsorted(ends, torch.arange(experts), right=True)


def calls(chosen: Tensor, experts: int, buildings: int) -> Tensor:
    """chosen (..., k) -> (..., B): how many experts each token called in each building."""
    where = building_of(experts, buildings)[chosen]
    return torch.zeros(*chosen.shape[:-1], buildings, dtype=torch.int64).scatter_add_(-1, where, torch.ones_like(where))


def crossings(called: Tensor, home: int | Tensor) -> Tensor:
    """called (..., T, B) -> (..., T): the other buildings that each token drives to; one that is at home costs nothing.
    `home`: where all of them are at home, or (T,) where each is."""
    homes = torch.as_tensor(home).expand(called.shape[:-1]).unsqueeze(-1)
    return (called > 0).sum(-1) - (called.gather(-1, homes) > 0).squeeze(-1).long()


def spread(called: Tensor) -> Tensor:
    """called (..., B) -> (B + 1,): how often a token visited 0, 1, ... B buildings of a floor, home counted too."""
    return torch.bincount((called > 0).sum(-1).flatten(), minlength=called.shape[-1] + 1)


def parties(called: Tensor, k: int) -> Tensor:
    """called (..., B) -> (k + 1,): how often a token called 0, 1, ... k experts in one building of a floor."""
    return torch.bincount(called.flatten(), minlength=k + 1)


def without_limit(choice_scores: Tensor, k: int) -> Tensor:
    """choice_scores (..., E) -> (..., k): whom the same scores would choose if no group were closed. What a later layer
    would then have seen is another matter: only the choice is made anew, no pass."""
    flat = choice_scores.flatten(0, -2)
    return choose(flat, 1, 1, k)[2].view(*choice_scores.shape[:-1], k)


# -- what a crossing weighs -------------------------------------------------------------------------------------------


class Freight(NamedTuple):
    """Bytes of one token on its way to one building, and of what comes back."""

    dispatch: int
    combine: int

    @property
    def both(self) -> int:
        return self.dispatch + self.combine


def v3_freight(c: ModelConfig) -> Freight:
    """V3's formats (section 3.3.2): FP8 with one FP32 scale for every 128 numbers there, BF16 back. Who is called and
    with which weight travels too; the report gives no format for that, and it is left out."""
    scales = -(-c.hidden_size // TILE)
    return Freight(c.hidden_size * FP8_BYTES + scales * FP32_BYTES, c.hidden_size * BF16_BYTES)


def live_freight(c: ModelConfig) -> Freight:
    """What `parallel.py` sends, all FP32: the state, whom it calls, and each one's weight; the opinions back."""
    return Freight((c.hidden_size + 2 * c.num_experts_per_tok) * FP32_BYTES, c.hidden_size * FP32_BYTES)


# -- V3's own figures, as formulas ------------------------------------------------------------------------------------


def experts_for_free() -> float:
    """Experts in one building that NVLink can serve in the time in which InfiniBand brings one token (3.2)."""
    return NVLINK / INFINIBAND


def exchange_seconds() -> float:
    """ISCA's limit for one dispatch and its combine on a card: (1 + 2 bytes) x 32 tokens x 9 experts x 7K / 50 GB/s."""
    return (FP8_BYTES + BF16_BYTES) * ISCA_TOKENS * ISCA_EXPERTS * ISCA_HIDDEN / INFINIBAND


def token_seconds() -> float:
    """ISCA's limit for one token of output: two overlapped micro-batches, 61 layers, nothing but sending."""
    return 2 * ISCA_LAYERS * exchange_seconds()
