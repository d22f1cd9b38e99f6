"""What several experiments say about their seeds: middle, spread, and whether two of them lie apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """One measurement over the seeds."""

    low: float
    middle: float  # mean
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Lowest, mean and highest; ValueError for none."""
    if not values:
        raise ValueError("no measurement")
    return Spread(min(values), sum(values) / len(values), max(values))


def apart(first: Sequence[float], second: Sequence[float], digits: int | None = None) -> int:
    """1 where every value of `first` lies above every one of `second`, -1 where below, 0 where they overlap.

    With `digits`, the ones that are shown: what is the same there lies apart for nobody who reads it.
    Chance alone sets two equal things apart now and then (`by_chance`), so this is the least that a winner must show,
    and no proof.
    """
    if digits is not None:
        first, second = ([round(one, digits) for one in values] for values in (first, second))
    if min(first) > max(second):
        return 1
    return -1 if max(first) < min(second) else 0


def same_sign(differences: Sequence[float], digits: int) -> int:
    """1 where all of them are above 0, -1 where all are below, 0 otherwise; for runs that are compared one by one. What
    is 0 in the digits that are shown has no sign."""
    signs = {(one > 0) - (one < 0) for one in (round(each, digits) for each in differences)}
    return signs.pop() if len(signs) == 1 else 0


def by_chance(runs: int) -> float:
    """How often `apart` says something of two equal things with so many runs each: 2 of all orders."""
    return 2 / math.comb(2 * runs, runs)


def one_sign(runs: int) -> float:
    """How often differences of so many runs all have one sign if there is nothing to be found."""
    return 2 / 2**runs
