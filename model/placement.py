"""Which intern sits on which card: the published ways of serving V3, and spare interns for the busiest.

The idea is that of deepseek-ai/EPLB (copy the heaviest experts, then pack cards greedily), written anew; its second
policy, which keeps a corridor's experts on one machine, is left out. All floors are worked on side by side: arrays
start with M floors.

Loads are calls of an expert, and the copies of an expert get equal parts of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from model.architectures import BF16, Architecture, cache_numbers, parts
from model.storage import fp8_bytes

# -- the published plans -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How the experts of one floor are spread over cards."""

    name: str
    cards: int
    spare: int  # copies beside the routed experts (and the shared one, where it is one of those that are placed)
    shared_everywhere: bool  # False: the shared expert is placed like the others, and every token calls it
    tensor_parallel: int  # cards that share the weights of attention
    source: str
    per_node: int = 8


PLANS: dict[str, Plan] = {
    "prefill": Plan("prefill", 32, 32, True, 4, "arXiv 2412.19437, section 3.4.1"),
    "run": Plan("run", 144, 32, True, 1, "deepseek-ai/open-infra-index, day 6 (February 2025)"),
    "decode": Plan("decode", 320, 63, False, 4, "arXiv 2412.19437, section 3.4.2"),
}
"""`decode`: "each GPU hosts only one expert, and 64 GPUs are responsible for hosting redundant experts and shared
experts": 320 = 256 + 64, and 64 = the shared one + 63 copies, of whom is not said. `run`: 2 routed and 1 shared on each
of 144 cards: 288 = 256 + 32."""


def places(experts: int, spare: int, cards: int) -> int:
    """Rooms for experts on one card: enough for all of them and the copies."""
    return math.ceil((experts + spare) / cards)


# -- copying and packing -----------------------------------------------------------------------------------------------


def copies(load: np.ndarray, spare: int) -> np.ndarray:
    """(M, E): how many of each expert there are when `spare` copies are made, one after the other, of whoever has the
    most left to do: load (M, E) / copies."""
    made = np.ones(load.shape, np.int64)
    floors = np.arange(len(load))
    for _ in range(spare):
        made[floors, (load / made).argmax(1)] += 1
    return made


def pack(load: np.ndarray, made: np.ndarray, cards: int) -> Placement:
    """Put every copy on a card: the heaviest first, each on the card with the least to do that has a room left and,
    if any such has, none of the same expert. load, made (M, E); every floor has the same number of copies."""
    floors, experts = load.shape
    total = int(made[0].sum())
    rooms = math.ceil(total / cards)
    who = np.stack([np.repeat(np.arange(experts), row) for row in made])  # (M, total)
    here = np.arange(floors)
    part = np.take_along_axis(load / made, who, 1)
    order = np.argsort(-part, 1, kind="stable")
    who, part = np.take_along_axis(who, order, 1), np.take_along_axis(part, order, 1)
    seats = np.full((floors, cards, rooms), -1)
    filled = np.zeros((floors, cards), np.int64)
    busy = np.zeros((floors, cards))  # infinite where no room is left
    mine, before = np.zeros((floors, cards), bool), np.full(floors, -1)  # cards that hold the expert that is placed now
    for expert, weight in zip(who.T, part.T, strict=True):  # copies of one expert come one after the other
        mine[expert != before] = False
        before = expert
        apart = np.where(mine, np.inf, busy) if total > experts else busy
        card = apart.argmin(1)
        together = np.isinf(apart[here, card])
        if together.any():
            card[together] = busy[together].argmin(1)
        seats[here, card, filled[here, card]] = expert
        filled[here, card] += 1
        busy[here, card] += np.where(filled[here, card] < rooms, weight, np.inf)
        mine[here, card] = True
    return Placement(seats, made)


class Placement(NamedTuple):
    """Who sits where."""

    seats: np.ndarray  # (M, cards, rooms) number of the expert, -1: an empty room
    copies: np.ndarray  # (M, E) how many of each there are

    def busy(self, load: np.ndarray) -> np.ndarray:
        """(M, cards): what each card has to do under load (M, E), which need not be the one it was made for."""
        part = np.concatenate([load / self.copies, np.zeros((len(load), 1))], 1)  # the last one is nobody
        return np.take_along_axis(part, self.seats.reshape(len(part), -1), 1).reshape(self.seats.shape).sum(-1)


def imbalance(busy: np.ndarray) -> np.ndarray:
    """(M,): the busiest card over the mean of all cards. 1 is even; where nobody has anything to do too."""
    mean = busy.mean(-1)
    return np.where(mean > 0, busy.max(-1) / np.where(mean > 0, mean, 1), 1.0)


def place(load: np.ndarray, spare: int, cards: int, plain: Placement | None = None) -> Placement:
    """Copy and pack for load (M, E). On a floor where copies help nobody their rooms stay empty: never worse than
    without them, which greedy packing alone does not promise. `plain`: the same without copies, where it is known."""
    if cards < 1 or spare < 0:
        raise ValueError(f"{cards} cards, {spare} copies")
    best = pack(load, copies(load, spare), cards)
    if not spare:
        return best
    plain = plain or pack(load, copies(load, 0), cards)
    worse = imbalance(best.busy(load)) > imbalance(plain.busy(load))
    seats, made = best.seats.copy(), best.copies.copy()
    seats[worse] = -1
    seats[worse, :, : plain.seats.shape[2]] = plain.seats[worse]
    made[worse] = 1
    return Placement(seats, made)


def numbered(floors: int, experts: int, cards: int) -> Placement:
    """In the order of their numbers, as many on each card as there is room for; the last card may have fewer."""
    rooms = math.ceil(experts / cards)
    seats = np.full(cards * rooms, -1)
    seats[:experts] = np.arange(experts)
    return Placement(np.tile(seats.reshape(cards, rooms), (floors, 1, 1)), np.ones((floors, experts), np.int64))


def by_lot(floors: int, experts: int, cards: int, times: int, seed: int = 0) -> list[Placement]:
    """`times` random placements without copies: numbers in the place of names."""
    rng, plain = np.random.default_rng(seed), numbered(floors, experts, cards)
    found = []
    for _ in range(times):
        names = np.stack([np.append(rng.permutation(experts), -1) for _ in range(floors)])
        seats = np.take_along_axis(names, plain.seats.reshape(floors, -1), 1).reshape(plain.seats.shape)
        found.append(Placement(seats, plain.copies))
    return found


def with_shared(load: np.ndarray, k: int) -> np.ndarray:
    """(M, E + 1): the shared expert as one more, called once by each of the load's tokens (k calls each)."""
    return np.concatenate([load, load.sum(1, keepdims=True) / k], 1)


# -- what lies on a card -----------------------------------------------------------------------------------------------


class OnCard(NamedTuple):
    """Bytes of weights on one card, all floors together."""

    routed: int  # routed experts and copies, on the fullest card
    shared: int  # on a card of its own it counts as one of `routed`
    attention: int
    rest: int  # dense FFN, gates, norms, embedding and head: on every card

    @property
    def total(self) -> int:
        return sum(self)


@cache
def on_card(a: Architecture, plan: Plan) -> OnCard:
    """By formula. Attention is split over `plan.tensor_parallel` cards; what the sources do not speak of (gates, norms,
    embedding, head) and the dense FFN (section 3.4.1: not split) is counted on every card."""
    sums = dict.fromkeys(("embedding", "head", "norm", "attention", "dense", "router", "shared", "expert"), 0)
    for part in parts(a):
        sums[part.place] += fp8_bytes(part) * part.there
    placed = a.n_routed_experts + (0 if plan.shared_everywhere else a.n_shared_experts)
    each = sums["expert"] // a.n_routed_experts  # one expert on every floor
    rest = sum(sums[name] for name in ("embedding", "head", "norm", "dense", "router"))
    return OnCard(
        places(placed, plan.spare, plan.cards) * each,
        sums["shared"] if plan.shared_everywhere else 0,
        math.ceil(sums["attention"] / plan.tensor_parallel),
        rest,
    )


def cache_tokens(a: Architecture, left: float) -> int:
    """Tokens whose latents (BF16) fit into `left` bytes."""
    return max(0, int(left // (BF16 * cache_numbers(a, 1))))
