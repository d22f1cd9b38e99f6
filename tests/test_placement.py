"""Interns on cards: nobody is lost, no card is overfull, copies help or are left out; and what V3's plans come to."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from model import catalogue, costs, placement
from model.architectures import parts, weight_bytes
from model.config import ModelConfig
from model.placement import PLANS, by_lot, copies, imbalance, numbered, on_card, pack, place, with_shared

V3 = catalogue.find("deepseek-v3").architecture


def loads(seed: int, floors: int = 3, experts: int = 24) -> np.ndarray:
    """Uneven, with interns that nobody called."""
    rng = np.random.default_rng(seed)
    return np.floor(rng.pareto(1.2, (floors, experts)) * 20) * (rng.random((floors, experts)) > 0.2)


CASES = [(seed, spare, cards) for seed in range(4) for spare in (0, 1, 8, 24) for cards in (1, 3, 8, 24, 40)]


@pytest.mark.parametrize("seed,spare,cards", CASES)
def test_nobody_is_lost_and_no_card_is_overfull(seed, spare, cards):
    load = loads(seed)
    seated = place(load, spare, cards)
    rooms = math.ceil((load.shape[1] + spare) / cards)
    assert seated.seats.shape == (3, cards, rooms)
    for floor, seats in enumerate(seated.seats):
        who, count = np.unique(seats[seats >= 0], return_counts=True)
        assert who.tolist() == list(range(load.shape[1])), "every intern sits somewhere"
        assert (count == seated.copies[floor]).all()
        assert count.sum() in (load.shape[1], load.shape[1] + spare)
    busy = seated.busy(load)
    assert busy.sum(1) == pytest.approx(load.sum(1)), "all work is done, once"


@pytest.mark.parametrize("seed,spare,cards", CASES)
def test_never_worse_than_without_copies(seed, spare, cards):
    load = loads(seed)
    assert (imbalance(place(load, spare, cards).busy(load)) <= imbalance(place(load, 0, cards).busy(load)) + 1e-12).all()


@pytest.mark.parametrize("seed", range(6))
def test_work_of_a_card_is_counted_one_by_one(seed):
    load = loads(seed, floors=2, experts=9)
    seated = place(load, 4, 5)
    for floor in range(2):
        for card in range(5):
            slow = sum(load[floor, e] / (seated.seats[floor] == e).sum() for e in seated.seats[floor, card] if e >= 0)
            assert seated.busy(load)[floor, card] == pytest.approx(slow)


@pytest.mark.parametrize("seed", range(8))
def test_packing_comes_near_the_best(seed):
    """All ways of putting 7 interns on 3 cards are tried. Longest first is within 4/3 of the best where seats do not bind
    (Graham 1969); with seats it is checked on these cases."""
    load = np.random.default_rng(seed).integers(1, 50, (1, 7)).astype(float)
    best = min(
        max(sum(load[0, i] for i in range(7) if where[i] == card) for card in range(3))
        for where in itertools.product(range(3), repeat=7)
        if all(where.count(card) <= 3 for card in range(3))
    )
    assert best <= place(load, 0, 3).busy(load).max() <= 4 / 3 * best + 1e-9


def test_copies_go_to_who_has_most_left():
    load = np.array([[90.0, 40.0, 10.0], [1.0, 1.0, 1.0]])
    assert copies(load, 0).tolist() == [[1, 1, 1], [1, 1, 1]]
    assert copies(load, 3)[0].tolist() == [3, 2, 1], "90 -> 45 -> 30, then 40 -> 20"
    assert copies(load, 5)[1].sum() == 8
    for spare in range(1, 8):  # largest part never grows
        assert ((load / copies(load, spare)).max(1) <= (load / copies(load, spare - 1)).max(1)).all()


def test_copies_of_one_intern_sit_apart_where_they_can():
    load = np.array([[100.0, 1.0, 1.0, 1.0]])
    seated = pack(load, np.array([[4, 1, 1, 1]]), 4)
    assert all((card == 0).sum() == 1 for card in seated.seats[0])
    crowded = pack(load, np.array([[4, 1, 1, 1]]), 2)  # four copies, two cards: no other way
    assert (crowded.seats == 0).sum() == 4


def test_by_number_and_by_lot():
    plain = numbered(2, 10, 4)
    assert plain.seats[0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, -1, -1]]
    draws = by_lot(2, 10, 4, 3)
    assert len(draws) == 3
    for draw in draws:
        for seats in draw.seats:
            assert sorted(seats[seats >= 0].tolist()) == list(range(10))
    assert (by_lot(2, 10, 4, 3)[1].seats == draws[1].seats).all(), "the same seed, the same draw"
    assert (draws[0].seats != draws[1].seats).any()


def test_balance_of_nothing_and_bad_input():
    nothing = np.zeros((1, 4))
    assert imbalance(place(nothing, 2, 2).busy(nothing)).tolist() == [1.0]
    for spare, cards in ((0, 0), (-1, 2)):
        with pytest.raises(ValueError):
            place(nothing, spare, cards)


def test_a_card_for_everybody_cannot_be_better_than_the_busiest():
    load = loads(3)
    assert imbalance(place(load, 0, 24).busy(load)) == pytest.approx(load.max(1) / load.mean(1))


def test_the_nurse_is_called_by_every_token():
    chosen = np.random.default_rng(0).integers(0, 6, (2, 5, 3))
    load = np.stack([np.bincount(floor.ravel(), minlength=6) for floor in chosen]).astype(float)
    assert with_shared(load, 3)[:, -1].tolist() == [5.0, 5.0]


# -- the published plans -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name,experts,seats,nodes", [("prefill", 256, 9, 4), ("run", 256, 2, 18), ("decode", 257, 1, 40)])
def test_plans_are_the_published_ones(name, experts, seats, nodes):
    """9 = 8 + 1 a card on 32 cards; 2 on 144; 1 on 320, of which 64 are not for the 256."""
    plan = PLANS[name]
    assert placement.places(experts, plan.spare, plan.cards) == seats
    assert experts + plan.spare == seats * plan.cards, "all seats are taken"
    assert math.ceil(plan.cards / plan.per_node) == nodes
    assert name != "decode" or plan.cards - 256 == 64


@pytest.mark.parametrize("name", PLANS)
def test_weights_on_a_card(name):
    """Put together again from the published sizes: an expert has 44,040,192 weights, each one byte, and 3 x 56 x 16
    scales of 4 bytes; attention, desk and ends as in reference figures."""
    plan, held, c = PLANS[name], on_card(V3, PLANS[name]), ModelConfig.preset("deepseek-v3")
    expert = costs.parameters(c).expert + 4 * 3 * 56 * 16
    seats = {"prefill": 9, "run": 2, "decode": 1}[name]
    assert held.routed == seats * 58 * expert
    assert held.shared == (0 if name == "decode" else 58 * expert)
    whole = sum(placement.fp8_bytes(part) * part.there for part in parts(V3))
    assert whole == weight_bytes(V3, "fp8"), "the parts are the whole"
    assert held.attention * plan.tensor_parallel + held.rest == whole - (256 + 1) * 58 * expert
    assert held.total == sum(held) < 80e9


def test_tokens_that_fit():
    """70,272 bytes a token in BF16 (arXiv 2505.09343, table 1)."""
    assert placement.cache_tokens(V3, 70_272 * 5 + 1) == 5
    assert placement.cache_tokens(V3, -1) == 0
