"""The ambulances' pictures: who drives where, what that weighs, how long it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from model import ModelConfig, crossings
from model.labs import recorded as read_record
from model.parallel import Run
from pages.kit import plates
from pages.kit.chapter import Visit, number, percent, sentences
from pages.kit.figures import common
from pages.kit.fleet import Outcome, Trip
from pages.kit.words import t

V3 = ModelConfig.preset("deepseek-v3")
BUILDINGS = (2, 4, 8, 16, 32, 64)  # offered
HOME = 0  # where a sentence is taken in; counted from 0
KILO = 10**3
MEGA = 10**6
GIGA = 10**9
MILLI = 1e-3
HUNDRED = 100  # of a unit of time, from which on it is told whole
MICRO = 1e-6
MORE = 3  # held-out texts beside the visitor's sentence
LONGEST = 48  # most tokens of one of them


@dataclass(frozen=True)
class Choice:
    """Whom a sentence calls (M, T, k)."""

    chosen: Tensor


@dataclass(frozen=True)
class Drives:
    """The sentence's ambulances in so many buildings, with the rule of the corridors or without."""

    visit: Visit
    buildings: int
    rule: bool

    @cached_property
    def chosen(self) -> Tensor:
        """(M, T, k): as it happened, or as the same scores would have chosen with all corridors open."""
        visit, trace = self.visit, self.visit.trace
        if self.rule:
            return trace.chosen

        def choose() -> Choice:
            return Choice(crossings.without_limit(trace.choice_scores, trace.config.num_experts_per_tok))

        return visit.house.measure(("ambulances.free", visit.sentence), choose).chosen

    @cached_property
    def called(self) -> Tensor:
        """(M, T, B)"""
        return crossings.calls(self.chosen, self.visit.trace.config.n_routed_experts, self.buildings)

    @cached_property
    def crossed(self) -> Tensor:
        """(M, T): other buildings that each patient drives to on each floor."""
        return crossings.crossings(self.called, HOME)

    @cached_property
    def spread(self) -> Tensor:
        """(B + 1,): patients times floors, by how many buildings they had to do with."""
        return crossings.spread(self.called)

    @cached_property
    def visited(self) -> float:
        """Buildings that a patient has to do with on a floor, its own counted too: the mean."""
        return float((self.called > 0).sum(-1).float().mean())

    @cached_property
    def party(self) -> float:
        """Interns that a patient calls in a building which it visits: the mean."""
        return float(self.called.sum() / (self.called > 0).sum())

    @property
    def here(self) -> int:
        """Crossings on the followed floor."""
        return int(self.crossed[self.visit.department].sum())

    @property
    def all(self) -> int:
        """Crossings on all floors."""
        return int(self.crossed.sum())


def offered(c: ModelConfig) -> list[int]:
    """Numbers of buildings that this model's interns can live in."""
    return [b for b in BUILDINGS if b <= c.n_routed_experts]


def even(c: ModelConfig, buildings: int) -> float:
    """Buildings that k interns would be in if each were drawn evenly: B (1 - (1 - 1/B)^k)."""
    return buildings * (1 - (1 - 1 / buildings) ** c.num_experts_per_tok)


def answer(free: Drives) -> int:
    """Which of the three answers is right: as many as with the rule, up to half way, more."""
    c = free.visit.trace.config
    middle = (c.topk_group + c.n_group) / 2
    return 0 if free.visited <= c.topk_group else 1 if free.visited <= middle else 2


# -- who drives where --------------------------------------------------------------------------------------------------


def buildings_axis(count: int) -> plates.Axis:
    """Named where there is room for names."""
    names = [t("ambulances.home" if b == HOME else "ambulances.building", index=b + 1) for b in range(count)]
    return plates.axis("building", count, names if count <= V3.n_group else None, offset=1)


def visits(drives: Drives) -> plates.Plate:
    """Whom each patient has in which building on this floor."""
    visit, called = drives.visit, drives.called[drives.visit.department]  # (T, B)
    mine = called[visit.token]
    others = int(drives.crossed[visit.department, visit.token])
    return plates.grid(
        "visits",
        buildings_axis(drives.buildings),
        common.token_axis(visit),
        torch.where(called > 0, called, torch.nan).T,
        left=104 if drives.buildings <= V3.n_group else 40,
        cell=30 if drives.buildings <= V3.n_group else 14,
        roles=["attention" if b == HOME else "intern" for b in range(drives.buildings)],
        written=drives.buildings <= V3.n_group,
        domain=[0.0, float(called.max())],
        digits=0,
        title=t("ambulances.visits.title", floor=visit.floor),
        alt=t("ambulances.visits.alt", floor=visit.floor, buildings=drives.buildings),
        note=t(
            "ambulances.visits.note",
            token=visit.name(),
            visited=int((mine > 0).sum()),
            others=others,
            home=HOME + 1,
            crossings=drives.here,
            tokens=len(called),
        ),
    )


def facts(drives: Drives, tokens: int) -> plates.Plate:
    """This floor, and the whole house."""
    return plates.facts(
        "counts",
        [
            (f"{drives.here:,}", t("ambulances.counts.here", floor=drives.visit.floor)),
            (f"{drives.all:,}", t("ambulances.counts.all", floors=drives.crossed.shape[0])),
            (number(drives.visited, digits=2), t("ambulances.counts.visited", buildings=drives.buildings)),
            (number(drives.party, digits=2), t("ambulances.counts.party")),
        ],
    )


# -- the rule ----------------------------------------------------------------------------------------------------------


def spread(ruled: Drives, free: Drives) -> plates.Plate:
    """How many buildings a patient has to do with, with the rule and without."""
    most = min(ruled.buildings, ruled.chosen.shape[-1])
    rows = torch.stack([ruled.spread, free.spread])[:, 1 : most + 1].float()
    shares = rows / rows.sum(1, keepdim=True)
    names = [t("ambulances.with"), t("ambulances.without")]
    return plates.grid(
        "spread",
        plates.axis("part", len(names), names),
        plates.axis("visited", most, offset=1),
        shares,
        texts=[percent(float(x), 0) if x > 0 else "" for x in shares.flatten()],
        written=True,
        percent=True,
        cell=34,
        left=104,
        roles=["intern", "crowding"],
        width="half",
        title=t("ambulances.spread.title"),
        alt=t("ambulances.spread.alt"),
        note=t(
            "ambulances.spread.note",
            ruled=number(ruled.visited, digits=2),
            free=number(free.visited, digits=2),
            even=number(even(ruled.visit.trace.config, ruled.buildings), digits=2),
        ),
    )


def by_floor(ruled: Drives, free: Drives) -> plates.Plate:
    """Crossings of the sentence, floor by floor."""
    less = 1 - ruled.all / free.all if free.all else 0.0
    return plates.lines(
        "by_floor",
        plates.floors(ruled.visit.trace.config, departments=True),
        [
            plates.series(t("ambulances.with"), ruled.crossed.sum(1).float(), "intern"),
            plates.series(t("ambulances.without"), free.crossed.sum(1).float(), "crowding"),
        ],
        from_zero=True,
        digits=0,
        width="half",
        title=t("ambulances.by_floor.title"),
        alt=t("ambulances.by_floor.alt"),
        note=t("ambulances.by_floor.note", ruled=f"{ruled.all:,}", free=f"{free.all:,}", less=percent(less)),
    )


# -- what it weighs ----------------------------------------------------------------------------------------------------


class Load(NamedTuple):
    """What crosses in one format."""

    freight: crossings.Freight
    here: int  # bytes on this floor, there and back
    all: int

    @property
    def seconds(self) -> float:
        """Over one 400G InfiniBand port, all floors."""
        return self.all / crossings.INFINIBAND


def load(drives: Drives, freight: crossings.Freight) -> Load:
    return Load(freight, drives.here * freight.both, drives.all * freight.both)


def size(count: float) -> str:
    """Bytes in a sentence."""
    for unit, name in ((GIGA, "GB"), (MEGA, "MB"), (KILO, "kB")):
        if count >= unit:
            return f"{number(count / unit, digits=1)} {name}"
    return f"{count:,.0f} B"


def span(seconds: float) -> str:
    """A time in a sentence."""
    for unit, name in ((1, "s"), (MILLI, "ms")):
        if seconds >= unit:
            return f"{number(seconds / unit, digits=0 if seconds / unit >= HUNDRED else 2)} {name}"
    return f"{number(seconds / MICRO, digits=1)} µs"


def freight(drives: Drives) -> plates.Plate:
    """Bytes there and back, at V3's width and at this hospital's."""
    c = drives.visit.trace.config
    loads = [load(drives, crossings.v3_freight(V3)), load(drives, crossings.live_freight(c))]
    columns = [t(f"ambulances.freight.{name}") for name in ("there", "back", "here", "all", "time")]
    return plates.table(
        "freight",
        [t("ambulances.freight.v3", hidden=f"{V3.hidden_size:,}"), t("ambulances.freight.live", hidden=c.hidden_size)],
        [{"label": label} for label in columns],
        [
            [size(one.freight.dispatch), size(one.freight.combine), size(one.here), size(one.all), span(one.seconds)]
            for one in loads
        ],
        title=t("ambulances.freight.title"),
        note=t(
            "ambulances.freight.note",
            crossings=f"{drives.all:,}",
            speed=f"{crossings.INFINIBAND / GIGA:.0f}",
        ),
    )


# -- what hides it -----------------------------------------------------------------------------------------------------


def overlap() -> plates.Plate:
    """V3's figure: computing and sending take equally long. One after the other, and at the same time."""
    computing, sending = crossings.COMPUTE_TO_SENDING, 1.0
    return plates.rank(
        "overlap",
        [t(f"ambulances.overlap.{name}") for name in ("computing", "sending", "serial", "overlapped")],
        [computing, sending, computing + sending, max(computing, sending)],
        roles=["intern", "crowding", "ink", "ink"],
        digits=1,
        width="half",
        title=t("ambulances.overlap.picture"),
        note=t(
            "ambulances.overlap.note",
            sms=crossings.SMS,
            set_aside=crossings.SMS_FOR_SENDING,
            share=percent(crossings.SMS_FOR_SENDING / crossings.SMS),
        ),
    )


def limits() -> plates.Plate:
    """What the papers work out, by the same formulas."""
    free = crossings.experts_for_free()
    return plates.facts(
        "limits",
        [
            (number(free, digits=1), t("ambulances.limits.free")),
            (
                f"{number(crossings.exchange_seconds() / MICRO, digits=2)} µs",
                t("ambulances.limits.pair", tokens=crossings.ISCA_TOKENS),
            ),
            (
                f"{number(crossings.token_seconds() / MILLI, digits=2)} ms",
                t("ambulances.limits.token", floors=crossings.ISCA_LAYERS, speed=int(1 / crossings.token_seconds())),
            ),
        ],
        width="half",
    )


# -- really driven -----------------------------------------------------------------------------------------------------


def difference(gap: float) -> str:
    """Of two logits, in a sentence."""
    return number(gap, digits=7) if gap else "0"


def shares(run: Run) -> tuple[float, float, float]:
    """Seconds of computing, packing, and sending and waiting: the mean over the processes."""
    return tuple(  # type: ignore[return-value]
        sum(getattr(part, what) for part in run.parts) / len(run.parts) for what in ("computing", "packing", "sending")
    )


def live(outcome: Outcome, trip: Trip) -> list[plates.Plate]:
    """What the visitor's run measured."""
    names, values, roles = [], [], []
    for run in outcome.runs:
        for what, seconds, role in zip(
            ("computing", "packing", "sending"), shares(run), ("intern", "soft", "crowding"), strict=True
        ):
            names.append(t(f"ambulances.time.{what}", processes=run.processes))
            values.append(seconds / MILLI)
            roles.append(role)
    group, alone = outcome.group, outcome.alone
    _, _, sending = shares(group)
    faster = alone.seconds / group.seconds
    bars = plates.rank(
        "time",
        names,
        values,
        roles=roles,
        digits=1,
        title=t("ambulances.time.title"),
        note=t(
            "ambulances.time.note",
            processes=group.processes,
            alone=span(alone.seconds),
            group=span(group.seconds),
            low=span(group.low),
            high=span(group.high),
            share=percent(sending / group.seconds, 0),
            times=number(faster, digits=2),
        ),
    )
    table = plates.table(
        "processes",
        [t("ambulances.process", index=i + 1) for i in range(len(group.parts))],
        [{"label": t(f"ambulances.processes.{name}")} for name in ("crossed", "there", "back", "weights", "memory")],
        [
            [f"{p.crossed:,}", size(p.dispatched), size(p.combined), size(p.weights), size(p.fair) if p.fair else "–"]
            for p in group.parts
        ],
        title=t("ambulances.processes.title"),
        note=t(
            "ambulances.processes.note",
            crossed=f"{group.crossed:,}",
            counted=f"{outcome.counted:,}",
            sent=size(group.sent),
            gap=difference(outcome.gap),
            others=outcome.others,
            texts=len(trip.sentences),
            tokens=sum(map(len, trip.sentences)),
        ),
    )
    return [bars, table]


def passes(trip: Trip) -> plates.Plate:
    """Pass after pass, so far: one process alone, and where the time of the group went."""
    alone, group = (trip.passes.get(size, []) for size in trip.groups)
    count = max(len(alone), len(group))

    def line(what: str, values: Sequence[float], role: str, processes: int) -> dict[str, Any]:
        padded = [*(value / MILLI for value in values), *[float("nan")] * (count - len(values))]
        return plates.series(t(f"ambulances.passes.{what}", processes=processes), padded, role)

    several = [line("alone", [sum(one) for one in alone], "ink", 1)]
    said = [_lately("alone", [sum(one) for one in alone], 1)]
    if group:
        for what, role in (("computing", "intern"), ("sending", "crowding")):
            values = [getattr(one, what) for one in group]
            several.append(line(what, values, role, trip.processes))
            said.append(_lately(what, values, trip.processes))
    note = t("ambulances.passes.note", now=t("ambulances.passes.comma").join(said), texts=len(trip.sentences),
             seed=trip.seed)  # fmt: skip
    return plates.lines(
        "passes", plates.axis("pass", count, offset=1), several, digits=0, from_zero=True,
        title=t("ambulances.passes.title"), alt=note, note=note,
    )  # fmt: skip


def _lately(what: str, values: Sequence[float], processes: int) -> str:
    """A line's last value, in words."""
    name = t(f"ambulances.passes.{what}", processes=processes)
    return t("ambulances.passes.pair", name=name, value=span(values[-1]) if values else "–")


# -- recorded ----------------------------------------------------------------------------------------------------------


class Recorded(NamedTuple):
    """assets/labs/ambulances.json, sorted by what it is about."""

    crossings: dict[tuple[int, bool], list[dict[str, Any]]]  # (buildings, rule) -> a point for every seed
    times: dict[tuple[int, int], list[dict[str, Any]]]  # (length, processes) -> the same
    file: Mapping[str, Any]

    def per_token(self, buildings: int, rule: bool) -> list[float]:
        """Crossings of a patient on a floor, for every seed."""
        return [sum(p["crossed"]) / len(p["crossed"]) / p["tokens"] for p in self.crossings[buildings, rule]]


def recorded() -> Recorded:
    """UserError where nothing was recorded."""
    file = read_record("ambulances")
    found = Recorded({}, {}, file)
    for run in file["runs"]:
        for point in run["points"]:
            if point["what"] == "crossings":
                found.crossings.setdefault((point["buildings"], point["rule"]), []).append(point)
            elif point["what"] == "time":
                found.times.setdefault((point["length"], point["processes"]), []).append(point)
    return found


def held_out(found: Recorded, buildings: int) -> plates.Plate:
    """Crossings of a patient on a floor over held-out texts, by the number of buildings."""
    places = sorted({b for b, _ in found.crossings})
    several = []
    for rule, name, role in ((True, "with", "intern"), (False, "without", "crowding")):
        each = np.array([found.per_token(b, rule) for b in places])  # (places, seeds)
        several.append(plates.series(t(f"ambulances.{name}"), each.mean(1), role, each.min(1), each.max(1)))
    at = buildings if buildings in places else V3.n_group
    means = {rule: float(np.mean(found.per_token(at, rule))) for rule in (True, False)}
    tokens = sum(p["tokens"] for p in found.crossings[at, True])
    return plates.lines(
        "held_out",
        plates.axis("placed", len(places), [str(b) for b in places]),
        several,
        from_zero=True,
        digits=2,
        title=t("ambulances.held_out.title"),
        alt=t("ambulances.held_out.alt"),
        note=t(
            "ambulances.held_out.note",
            buildings=at,
            ruled=number(means[True], digits=2),
            free=number(means[False], digits=2),
            less=percent(1 - means[True] / means[False]),
            tokens=f"{tokens:,}",
            seeds=len(found.file["runs"]),
        ),
    )


def _middle(points: Sequence[Mapping[str, Any]], what: str) -> float:
    return float(np.median([p[what] for p in points]))


def times(found: Recorded) -> plates.Plate:
    """Milliseconds of a pass for every length and number of processes: the middle seed, and the whole range."""
    labels, cells = [], []
    for length, processes in sorted(found.times):
        points = found.times[length, processes]
        seconds = _middle(points, "seconds")
        labels.append(t("ambulances.times.row", length=length, processes=processes))
        cells.append([
            number(seconds / MILLI, digits=0),
            f"{number(min(p['low'] for p in points) / MILLI, 0)}–{number(max(p['high'] for p in points) / MILLI, 0)}",
            percent(float(np.median([p["sending"] / p["seconds"] for p in points])), 0),  # of one run, not of two
            size(_middle(points, "sent")),
            size(_middle(points, "fair")),
        ])  # fmt: skip
    longest = max(length for length, _ in found.times)
    most = max(processes for _, processes in found.times)
    cores = found.file["machine"]["cores"]
    load = max(p["load"] for points in found.times.values() for p in points)
    busy = t(f"ambulances.times.{'busy' if load > cores else 'quiet'}", load=number(load, digits=1), cores=cores)
    return plates.table(
        "times",
        labels,
        [{"label": t(f"ambulances.times.{name}")} for name in ("pass", "range", "sending", "sent", "memory")],
        cells,
        title=t("ambulances.times.title"),
        note=sentences(busy, t(
            "ambulances.times.note",
            length=longest,
            processes=most,
            alone=span(_middle(found.times[longest, 1], "seconds")),
            group=span(_middle(found.times[longest, most], "seconds")),
            cores=cores,
            gap=difference(max(p["gap"] for points in found.times.values() for p in points)),
            commit=found.file["commit"],
            command=found.file["command"],
        )),
    )  # fmt: skip
