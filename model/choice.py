"""Which to build: what there is to build with, what each published model would need of it, and what the labs found.

Nothing here says which model is better at anything: no figure of this project does. Memory is weights in the chosen
precision and the cache of all conversations at once (`architectures.figures`), spread evenly over the cards; what
computing needs beside them is not counted. Teaching all weights takes 16 bytes for each (ZeRO, arXiv 1910.02054,
section 3.1: 2 and 2 for weight and gradient in 16 bit, 12 for AdamW's copy and two moments in FP32).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from model import labs
from model.catalogue import Row, figures
from model.config import ModelConfig
from model.errors import UserError
from model.labs import cramming, skill, tasks, timetable
from model.labs._spread import Spread, apart, spread

BANK = cramming.EXPERIMENT.live.questions[0]  # questions of the talk's bank
SHOWN = 3  # digits after the point of a measurement, on the page
SHOWN_LOST = 2  # of what is forgotten, as on the page of that lab
TUNING_BYTES = 16  # of each weight that is taught, see above
Side = Literal["moe", "dense", "neither"]


@dataclass(frozen=True)
class Need:
    """What there is, and what it must do."""

    cards: int
    card_bytes: float
    precision: str  # of the weights, one of architectures.PRECISIONS
    context: int  # tokens of one conversation
    served: int  # conversations at once
    flops: float  # for training

    @property
    def memory(self) -> float:
        """Bytes of all cards."""
        return self.cards * self.card_bytes


@dataclass(frozen=True)
class Judged:
    """What one model would need, in bytes unless said."""

    row: Row
    moe: bool
    total: int  # parameters
    active: int  # that one token meets
    weights: int
    cache: float  # of one conversation
    needed: float  # weights, and the cache of all conversations
    cards: int  # that hold it
    fits: bool
    reaches: bool | None  # whether its context is long enough; None: its config does not say
    flops: float  # of one token's forward pass
    trained: float  # tokens that the training FLOPs pay for
    tuning: int  # for teaching all of its weights


def judge(row: Row, need: Need) -> Judged:
    """What `row` would need of what there is."""
    a = row.architecture
    found = figures(a, context=need.context, precision=need.precision, card_bytes=need.card_bytes)
    needed = found.weight_bytes + need.served * found.cache_bytes
    longest = a.max_position_embeddings
    return Judged(
        row, a.num_moe_layers > 0, found.total, found.active, found.weight_bytes, found.cache_bytes, needed,
        cards=math.ceil(needed / need.card_bytes), fits=needed <= need.memory,
        reaches=None if longest is None else need.context <= longest,
        flops=found.forward_flops, trained=need.flops / found.training_flops, tuning=TUNING_BYTES * found.total,
    )  # fmt: skip


def less(moe: float, dense: float) -> Side:
    """Who needs less of something."""
    return "neither" if moe == dense else "moe" if moe < dense else "dense"


def holds(moe: Judged, dense: Judged) -> Literal["both", "moe", "dense", "none"]:
    """Which of the two what there is can hold."""
    if moe.fits and dense.fits:
        return "both"
    return "moe" if moe.fits else "dense" if dense.fits else "none"


# -- what the labs found -----------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """One measurement of a lab, MoE against dense, over the seeds."""

    moe: Spread
    dense: Spread
    better: Side  # every seed of the one lies on the better side of every seed of the other; else neither
    seeds: int


def compare(moe: Sequence[float], dense: Sequence[float], low_is_better: bool = True, digits: int = SHOWN) -> Found:
    """Two measurements over the seeds, in the digits that are shown."""
    lies = apart(moe, dense, digits)
    low, high = ("moe", "dense") if low_is_better else ("dense", "moe")
    better: Side = {1: high, -1: low}.get(lies, "neither")  # type: ignore[assignment]
    return Found(spread(moe), spread(dense), better, len(moe))


def recorded(name: str) -> list[dict[str, Any]] | None:
    """The recorded runs of a lab; None where none are there."""
    try:
        return labs.recorded(name)["runs"] or None
    except UserError:
        return None


def mixed_loss(style: str = "v3") -> Found | None:
    """Held-out loss of an MoE miniature and of the dense one on the mixed corpus, at equal active parameters."""
    runs = recorded("miniatures")
    if runs is None:
        return None

    def ends(arm: str) -> list[float]:
        return [[point["heldout"] for point in run["points"] if point["arm"] == arm][-1] for run in runs]

    return compare(ends(style), ends("dense"))


def exam(what: str = "new") -> Found | None:
    """Score in the exam on one single task, after cramming the bank of as many questions as the talk has."""
    runs = recorded("cramming")
    if runs is None:
        return None
    moe, dense = (cramming.ends(runs, BANK, arm, what) for arm in ("moe", "dense"))
    return compare(moe, dense, low_is_better=what == "gap")


def forgotten() -> Found | None:
    """What the old subjects' tokens cost more, in nats, when all weights have learned as much of the new one."""
    runs = recorded("skill")
    if runs is None:
        return None
    gain = skill.common_gain(runs)  # of all ways of teaching, as on the lab's own page

    def lost(arm: str) -> list[float]:
        each = (skill.lost_at(skill.lessons(run["points"], arm), gain) for run in runs)
        return [one for one in each if one is not None]

    moe, dense = lost("moe"), lost("dense")
    return compare(moe, dense, digits=SHOWN_LOST) if len(moe) == len(dense) == len(runs) else None


class Leads(NamedTuple):
    """How much lower the MoE's held-out loss is than the dense one's (nats per token), by what both were taught."""

    mixed: Spread  # many tasks
    single: Spread  # one
    seeds: int


def leads() -> Leads | None:
    """What the lab of one task and many found at the end."""
    runs = recorded("tasks")
    if runs is None:
        return None
    mixed, single = (spread(tasks.leads(runs, kind)) for kind in tasks.KINDS)
    return Leads(mixed, single, len(runs))


class Evenness(NamedTuple):
    """How even the load is at the end, with the board and with nothing."""

    board: Spread  # MaxVio
    nothing: Spread
    dead_board: Spread  # interns without a patient in the last step
    dead_nothing: Spread


def evenness() -> Evenness | None:
    """What the queues lab found at its last step, the first arm with a board against the one with nothing."""
    runs = recorded("queues")
    if runs is None:
        return None
    kinds = [arm[0] for arm in labs.recorded("queues")["settings"]["arms"]]
    last = [run["points"][-1]["arms"] for run in runs]

    def over_seeds(what: str, kind: str) -> Spread:
        return spread([float(arms[kinds.index(kind)][what]) for arms in last])

    return Evenness(*(over_seeds(what, kind) for what in ("max_vio", "dead") for kind in ("bias", "none")))


class Trips(NamedTuple):
    """Other buildings that a token drives to on a floor, mean over tokens and floors, with as many buildings as the
    router has groups."""

    rule: Spread  # at most `topk_group` buildings
    free: Spread  # whom the same scores would choose without that limit
    buildings: int


def trips() -> Trips | None:
    """What the ambulances lab counted on held-out texts with the shipped hospital."""
    runs = recorded("ambulances")
    if runs is None:
        return None
    buildings = ModelConfig.preset("hospital").n_group

    def over_seeds(rule: bool) -> Spread:
        return spread([
            sum(point["crossed"]) / (point["tokens"] * len(point["crossed"]))
            for run in runs for point in run["points"]
            if point["what"] == "crossings" and point["buildings"] == buildings and point["rule"] == rule
        ])  # fmt: skip

    return Trips(over_seeds(True), over_seeds(False), buildings)


class Stream(NamedTuple):
    """What the timetable lab found at the end, on the highest floor."""

    commonest: Spread  # part of an intern's visits that its commonest subject makes up, mean over the interns
    subject: Spread  # interns guessed right by who knows the subject
    word: Spread  # by who knows the word
    least: int  # interns that the worst step taught
    interns: int


def stream() -> Stream | None:
    """What came of one stream for everybody."""
    runs = recorded("timetable")
    if runs is None:
        return None
    last, c = [run["points"][-1] for run in runs], timetable.EXPERIMENT.recorded.config
    visits = [np.array(point["visits"][-1], dtype=float) for point in last]
    subject, word = (spread([point["right"][told][-1] for point in last]) for told in ("subject", "word"))
    return Stream(
        spread([float(np.nanmean(timetable.largest(each))) for each in visits]), subject, word,
        min(point["trained_least"] for run in runs for point in run["points"][1:]),
        c.num_moe_layers * c.n_routed_experts,
    )  # fmt: skip
