"""The beds' pictures: rooms that stand empty, bytes that lie idle, a store of few experts, fewer bits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from model import ModelConfig, UserError, labs, storage
from model.catalogue import find
from model.labs._spread import Spread, spread
from model.live import SHIPPED
from model.study import weights_sum
from pages.kit import building, library, plates, service, state
from pages.kit.chapter import Visit, between, number, percent, sentences
from pages.kit.figures import common
from pages.kit.figures.round import grown_by_chance, once
from pages.kit.words import t

V3 = "deepseek-v3"
MB = 1e6  # decimal, as disks and cards are sold
GB = 1e9
MILLI = 1e3  # thousandths of a second
SIGNS = 4  # decimals of a change of loss


# -- what was recorded about the shipped model -------------------------------------------------------------------------


@cache
def _recorded(folder: str | None) -> list[dict[str, Any]] | None:
    if folder is not None and Path(folder).resolve() != SHIPPED.resolve():
        return None
    try:
        runs = labs.recorded("beds")["runs"]
        made_for = runs[0]["points"][0]["checkpoint"]
        return runs if made_for == weights_sum(SHIPPED) else None
    except (UserError, KeyError, IndexError):
        return None


def recorded() -> list[dict[str, Any]] | None:
    """The recorded runs, a draw of held-out texts each; None where the open model is not the one that was recorded."""
    return _recorded(service.checkpoint())


def routing(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each run says about rooms and stores."""
    return [next(p for p in run["points"] if p["kind"] == "routing") for run in runs]


# -- rooms that stand empty --------------------------------------------------------------------------------------------


class Rooms(NamedTuple):
    """Routed experts, over all floors."""

    all: int
    token: int  # called by the followed token
    sentence: int  # called by anybody in the sentence
    here: int  # the same on the followed floor

    @property
    def empty(self) -> int:
        return self.all - self.sentence


def rooms(visit: Visit) -> Rooms:
    """Counts from the trace."""
    trace, c = visit.trace, visit.trace.config
    each = trace.experts_touched_per_layer()
    return Rooms(
        c.num_moe_layers * c.n_routed_experts, c.num_moe_layers * c.num_experts_per_tok, int(each.sum()),
        int(each[visit.department]),
    )  # fmt: skip


def counts(found: Rooms, tokens: int) -> plates.Plate:
    """The big numbers."""
    called, empty = (percent(one / found.all) for one in (found.token, found.empty))
    return plates.facts(
        "counts",
        [
            (f"{found.all:,}", t("beds.counts.all")),
            (f"{found.token:,}", t("beds.counts.token"), t("beds.counts.share", share=called)),
            (f"{found.sentence:,}", t("beds.counts.sentence", tokens=tokens)),
            (f"{found.empty:,}", t("beds.counts.empty"), t("beds.counts.share", share=empty)),
        ],
    )


@once
def visits(visit: Visit) -> Tensor:
    """(M, E): how many tokens each routed expert saw; NaN for none."""
    called = visit.trace.woken().sum(1).float()
    return called.masked_fill_(called == 0, torch.nan)


def house(visit: Visit, found: Rooms) -> plates.Plate:
    """Every room of every department."""
    c = visit.trace.config
    words = {
        "empty": f"{found.empty:,}", "all": f"{found.all:,}", "floor": visit.floor, "rooms": c.n_routed_experts,
        "here": c.n_routed_experts - found.here,
    }  # fmt: skip
    return plates.grid(
        "house",
        plates.floors(c, departments=True),
        plates.axis("room", c.n_routed_experts),
        visits(visit),
        from_below=True,
        role="intern",
        digits=0,
        left=40,
        cell=6,
        title=t("beds.house.title"),
        alt=t("beds.house.alt", **words),
        note=t("beds.house.note", **words),
    )


# -- bytes -------------------------------------------------------------------------------------------------------------


class Bytes(NamedTuple):
    """By part: of the live model's real tensors, and of V3 by formula."""

    held: dict[str, int]
    token: dict[str, int]
    sentence: dict[str, int]
    v3_held: dict[str, int]
    v3_token: dict[str, int]


@once
def _sentence_bytes(visit: Visit) -> dict[str, int]:
    return storage.used(visit.house.live.engine.model, visit.trace)


def bytes_of(visit: Visit) -> Bytes:
    """Held and used."""
    model, v3 = visit.house.live.engine.model, find(V3).architecture
    return Bytes(
        storage.held(model), storage.used(model, visit.trace, visit.token), _sentence_bytes(visit),
        storage.published_held(v3), storage.published_used(v3),
    )  # fmt: skip


def total(parts: dict[str, int]) -> int:
    return sum(parts.values())


def parts(visit: Visit, found: Bytes) -> plates.Plate:
    """Part by part."""
    names = [*storage.PLACES, "all"]
    here = [(found.held, MB), (found.token, MB), (found.sentence, MB), (found.v3_held, GB), (found.v3_token, GB)]
    cells = [[(total(one) if name == "all" else one[name]) / unit for one, unit in here] for name in names]
    return plates.table(
        "parts",
        [t(f"beds.part.{name}") for name in names],
        [{"label": t(f"beds.parts.{column}", token=visit.name()), "digits": 2} for column in
         ("held", "token", "sentence", "v3_held", "v3_token")],
        cells,
        title=t("beds.parts.title"),
        note=t("beds.parts.note", share=percent(total(found.token) / total(found.held)),
               v3=percent(total(found.v3_token) / total(found.v3_held)),
               idle=number((found.held["interns"] - found.token["interns"]) / MB, digits=1),
               held=number(total(found.held) / MB, digits=1)),
    )  # fmt: skip


# -- a growing text ----------------------------------------------------------------------------------------------------


@once
def ages(visit: Visit) -> np.ndarray:
    """(M, T, k): see `storage.Shelf.read`."""
    return storage.ages(visit.trace.chosen.numpy(), visit.trace.config.n_routed_experts)


def fetched(visit: Visit, kept: int) -> np.ndarray:
    """(T,): interns that each token has fetched when every floor keeps `kept`."""
    return storage.loads(ages(visit), kept)


def growth(visit: Visit, runs: Sequence[dict[str, Any]] | None) -> plates.Plate:
    """Share of all rooms that were called so far, token by token."""
    c, tokens = visit.trace.config, len(visit.trace.ids)
    all_rooms = c.num_moe_layers * c.n_routed_experts
    share = fetched(visit, c.n_routed_experts).cumsum() / all_rooms
    chance = grown_by_chance(c, tokens) / all_rooms
    several = [plates.series(t("beds.grown.sentence"), share, "patient")]
    words = {"tokens": tokens, "share": percent(float(share[-1])), "chance": percent(float(chance[-1]))}
    more = []
    if runs:
        found = [one["within"]["share"] for one in routing(runs)]
        last = min(tokens, *map(len, found))
        within = np.full((len(found), tokens), np.nan)
        within[:, :last] = [one[:last] for one in found]
        several.append(plates.series(t("beds.grown.heldout"), within.mean(0), "intern", within.min(0), within.max(0)))
        more = [t("beds.grown.heldout_note", tokens=last, share=percent(float(within[:, last - 1].mean())))]
    several.append(plates.series(t("beds.grown.chance"), chance, "soft"))
    return plates.lines(
        "growth",
        common.token_axis(visit),
        several,
        from_zero=True,
        percent=True,
        width="half",
        title=t("beds.grown.title"),
        alt=t("beds.grown.alt", **words),
        note=sentences(t("beds.grown.note", **words), *more),
    )


def long_run(c: ModelConfig, runs: Sequence[dict[str, Any]]) -> plates.Plate:
    """The same over all held-out texts, one after the other; as many tokens again at every step."""
    found = [one["woken"] for one in routing(runs)]
    marks = [m for m in found[0]["tokens"][:-1] if all(m in one["tokens"] for one in found)]
    share = np.array([[one["share"][one["tokens"].index(m)] for m in marks] for one in found])
    rooms, ends = c.num_moe_layers * c.n_routed_experts, [one["share"][-1] for one in found]
    lot = grown_by_chance(c, marks[-1])[torch.tensor(marks) - 1] / rooms
    half = next(m for m, one in zip(marks, share.mean(0), strict=True) if one > 1 / 2)
    words = {
        "half": f"{half:,}", "tokens": f"{found[0]['tokens'][-1]:,}", "share": percent(float(np.mean(ends)), digits=2),
        "never": f"{round(rooms * (1 - float(np.mean(ends)))):,}",
    }  # fmt: skip
    return plates.lines(
        "long_run",
        plates.axis("read", len(marks), [f"{m:,}" for m in marks]),
        [
            plates.series(t("beds.grown.heldout"), share.mean(0), "intern", share.min(0), share.max(0)),
            plates.series(t("beds.grown.chance"), lot, "soft"),
        ],
        from_zero=True,
        percent=True,
        width="half",
        title=t("beds.long_run.title"),
        alt=t("beds.long_run.alt", **words),
        note=t("beds.long_run.note", seeds=len(found), **words),
    )


# -- keeping only some at hand -----------------------------------------------------------------------------------------


class Store(NamedTuple):
    """A store of `kept` interns on every floor, which finds this sentence with nothing in it."""

    kept: int
    rate: float  # of calls that find their intern at hand
    token: int  # that the followed token has fetched
    mean: float  # that a token has fetched
    calls: int  # of a token
    bytes: int  # of the live model's tensors: of one intern

    @property
    def moved(self) -> float:
        """Bytes a token."""
        return self.mean * self.bytes


def kept(c: ModelConfig) -> int:
    """What the visitor chose; before that, twice as many as are called."""
    wanted = state.get("kept") or 2 * c.num_experts_per_tok
    return min(max(wanted, c.num_experts_per_tok), c.n_routed_experts)


def store(visit: Visit, size: int) -> Store:
    """What it does for this sentence."""
    c, found = visit.trace.config, fetched(visit, size)
    calls = c.num_moe_layers * c.num_experts_per_tok
    return Store(
        size, 1 - float(found.mean()) / calls, int(found[visit.token]), float(found.mean()), calls,
        storage.expert_bytes(visit.house.live.engine.model),
    )  # fmt: skip


def quarter(share: float) -> int:
    """Which quarter of 0 to 1 a share lies in, from 0."""
    return min(int(share * len(QUARTERS)), len(QUARTERS) - 1)


QUARTERS = ("least", "less", "more", "most")


def kept_axis(c: ModelConfig) -> plates.Axis:
    """Sizes of a store, from k up: a token needs its k at the same time."""
    k = c.num_experts_per_tok
    return plates.axis("kept", c.n_routed_experts - k + 1, offset=k)


def loads(visit: Visit, found: Store) -> plates.Plate:
    """Interns that each token has fetched."""
    words = {"token": visit.name(), "kept": found.kept, "loads": f"{found.token:,}", "calls": f"{found.calls:,}",
             "mean": number(found.mean, digits=1)}  # fmt: skip
    return plates.bars(
        "loads",
        common.token_axis(visit),
        fetched(visit, found.kept),
        role="intern",
        digits=0,
        domain=[0, found.calls],
        height=210,
        width="half",
        title=t("beds.loads.title"),
        alt=t("beds.loads.alt", **words),
        note=t("beds.loads.note", **words),
    )


def rates(visit: Visit, found: Store, runs: Sequence[dict[str, Any]] | None) -> plates.Plate:
    """How often an intern is at hand, against how many are kept."""
    c = visit.trace.config
    k, experts = c.num_experts_per_tok, c.n_routed_experts
    own = storage.hit_rates(ages(visit), experts)[k:]
    several, more = [plates.series(t("beds.rates.sentence"), own, "patient")], []
    if runs:
        for name, role in (("fresh", "intern"), ("kept", "ink")):
            each = np.array([one["store"][name][k:] for one in routing(runs)])
            several.append(plates.series(t(f"beds.rates.{name}"), each.mean(0), role, each.min(0), each.max(0)))
            more.append(percent(float(each[:, found.kept - k].mean())))
    several.append(plates.series(t("beds.rates.chance"), np.arange(k, experts + 1) / experts, "soft"))
    words = {"kept": found.kept, "rooms": experts, "rate": percent(found.rate), "chance": percent(found.kept / experts)}
    also = [t("beds.rates.heldout", fresh=more[0], warm=more[1])] if runs else []
    return plates.lines(
        "rates",
        kept_axis(c),
        several,
        domain=[0, 1],
        percent=True,
        width="half",
        title=t("beds.rates.title"),
        alt=t("beds.rates.alt", **words),
        note=sentences(t("beds.rates.note", **words), *also),
    )


def at_hand(visit: Visit, found: Store) -> plates.Plate:
    """The big numbers of a store."""
    c = visit.trace.config
    return plates.facts(
        "at_hand",
        [
            (percent(found.kept / c.n_routed_experts), t("beds.at_hand.kept"), t("beds.at_hand.bytes", here=number(
                c.num_moe_layers * found.kept * found.bytes / MB, digits=1), all=number(
                c.num_moe_layers * c.n_routed_experts * found.bytes / MB, digits=1))),
            (percent(found.rate), t("beds.at_hand.rate")),
            (number(found.mean, digits=1), t("beds.at_hand.mean"), t("beds.at_hand.of", calls=found.calls)),
            (number(found.moved / MB, digits=2), t("beds.at_hand.moved")),
        ],
    )  # fmt: skip


class Haul(NamedTuple):
    """V3, if it were called as this hospital was: what must be fetched for a token."""

    expert: int  # bytes
    calls: int
    loads: float  # that this share of misses would mean


def haul(found: Store) -> Haul:
    """By formula."""
    a = find(V3).architecture
    calls = a.num_moe_layers * a.num_experts_per_tok
    return Haul(storage.expert_fp8_bytes(a), calls, calls * (1 - found.rate))


def roads(found: Store) -> plates.Plate:
    """How long V3's experts would be on the way, over what."""
    one = haul(found)
    cells = []
    for link in storage.LINKS:
        each = one.expert / link.bytes_per_second
        hauled = (one.calls * each * MILLI, one.loads * each * MILLI)
        cells.append([link.bytes_per_second / GB, *hauled, library.cited(link.source)])
    words = {
        "kept": found.kept, "loads": number(one.loads, digits=1), "all": number(one.calls * one.expert / GB, digits=2),
        "moved": number(one.loads * one.expert / GB, digits=2),
    }  # fmt: skip
    return plates.table(
        "roads",
        [t(f"beds.road.{link.name}") for link in storage.LINKS],
        [{"label": t("beds.roads.speed"), "digits": 0}, {"label": t("beds.roads.none"), "digits": 0},
         {"label": t("beds.roads.some", kept=found.kept), "digits": 0}, {"label": t("beds.roads.source")}],
        cells,
        title=t("beds.roads.title"),
        note=t("beds.roads.note", **words),
    )  # fmt: skip


# -- fewer bits --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Coarse:
    """A pass with some weights in fewer bits."""

    probabilities: Tensor  # (T, vocab)
    chosen: Tensor  # (M, T, k)
    error: storage.Error


def coarse(visit: Visit, bits: str, what: str) -> Coarse:
    """This sentence with the weights of the followed floor, of all interns, or of the whole house in fewer bits."""
    c, engine, ids = visit.trace.config, visit.house.live.engine, list(visit.trace.ids)
    layers = {
        "floor": range(visit.layer, visit.floor), "interns": range(c.first_k_dense_replace, c.num_hidden_layers),
        "house": range(c.num_hidden_layers),
    }[what]  # fmt: skip

    def compute() -> Coarse:
        part: storage.What = "interns" if what == "interns" else "all"
        trace, error = storage.rounded_trace(engine, ids, layers, storage.FORMATS[bits], part)
        return Coarse(trace.logits.softmax(-1), trace.chosen.clone(), error)

    return visit.house.measure(("coarse", visit.trace.ids, bits, layers, what), compute)


class Outcome(NamedTuple):
    """What fewer bits did to the followed token."""

    before: str
    was: float
    after: str
    now: float
    moved: int  # of its calls that go to somebody else
    fp8: float  # MB of these matrices as shipped
    bits: float  # MB in the new format


def outcome(visit: Visit, found: Coarse, bits: str) -> Outcome:
    """Read off both passes."""
    old, new = visit.trace.probabilities(visit.token), found.probabilities[visit.token]
    mine, theirs = visit.trace.woken()[:, visit.token], found.chosen[:, visit.token]
    same = int(mine.gather(1, theirs).sum())
    numbers = found.error.numbers
    before, after = (common.said(visit, int(one.argmax())) for one in (old, new))
    return Outcome(
        before, float(old.max()), after, float(new.max()),
        theirs.numel() - same, numbers / MB, numbers * storage.FORMATS[bits].bytes_per_weight / MB,
    )  # fmt: skip


def coarse_facts(found: Coarse, out: Outcome, calls: int) -> plates.Plate:
    """The big numbers."""
    return plates.facts(
        "coarse",
        [
            (percent(found.error.relative, digits=2), t("beds.coarse.error"), t("beds.coarse.of",
                numbers=f"{found.error.numbers:,}")),
            (number(out.bits, digits=2), t("beds.coarse.size"), t("beds.coarse.was", fp8=number(out.fp8, digits=2))),
            (f"{out.moved:,}", t("beds.coarse.moved"), t("beds.at_hand.of", calls=calls)),
        ],
    )  # fmt: skip


def next_tokens(visit: Visit, found: Coarse, n: int = 5) -> plates.Plate:
    """The likeliest next tokens, and what they were."""
    values, ids = found.probabilities[visit.token].topk(n)
    old = visit.trace.probabilities(visit.token)
    return plates.rank(
        "next",
        building.apart([common.said(visit, one) for one in ids.tolist()]),
        values.tolist(),
        before=old[ids].tolist(),
        percent=True,
        width="half",
        title=t("beds.coarse.next"),
        note=t("beds.coarse.next_note", token=visit.name()),
    )


@cache
def _evaluation() -> dict[str, Any]:
    return json.loads((SHIPPED / "evaluation.json").read_text("utf-8"))


class Shipped(NamedTuple):
    """What storing the weights in FP8 cost, as evaluation.json has it."""

    change: float  # nats
    percent: float
    texts: int


def shipped() -> Shipped:
    """Of the shipped checkpoint."""
    f = _evaluation()["fp8"]
    return Shipped(f["fp8_loss"] - f["fp32_loss"], f["change_percent"], f["documents"])


class Cost(NamedTuple):
    """Of one format, over the recorded runs."""

    error: float
    change: Spread  # of the loss, nats; over the draws of texts
    inside: bool  # 0 lies within every draw's own interval over texts, or the draws differ in sign


def costs(runs: Sequence[dict[str, Any]]) -> dict[tuple[str, str], Cost]:
    """By format and by what was rounded."""
    points = [p for run in runs for p in run["points"] if p["kind"] == "format"]
    found = {}
    for key in dict.fromkeys((p["format"], p["what"]) for p in points):
        same = [p for p in points if (p["format"], p["what"]) == key]
        apart = all(p["low"] > 0 for p in same) or all(p["high"] < 0 for p in same)
        found[key] = Cost(same[0]["error"], spread([p["change"] for p in same]), not apart)
    return found


def ladder(runs: Sequence[dict[str, Any]]) -> plates.Plate:
    """Bytes, error and loss, from FP8 as shipped down to two bits."""
    found, fp8 = costs(runs), shipped()

    def said(name: str, what: str) -> str:
        one = found[name, what]
        change = (one.change.middle, one.change.low, one.change.high)
        told = between(*(number(value, digits=SIGNS) for value in change))
        return t("beds.ladder.noise", change=told) if one.inside else told

    whole = number(fp8.change, digits=SIGNS)
    labels, cells = [t("beds.format.fp8")], [["1.00", "–", "–", whole]]
    for name, how in storage.FORMATS.items():
        labels.append(t(f"beds.format.{name}"))
        size, error = number(how.bytes_per_weight, digits=2), percent(found[name, "all"].error)
        cells.append([size, error, said(name, "interns"), said(name, "all")])
    for what in ("gates", "ends"):
        labels.append(t(f"beds.format.{what}"))
        cells.append(["1.00", percent(found["fp8", what].error), "–", said("fp8", what)])
    texts = runs[0]["points"][0]["texts"]
    return plates.table(
        "ladder",
        labels,
        [{"label": t(f"beds.ladder.{column}")} for column in ("bytes", "error", "interns", "all")],
        cells,
        title=t("beds.ladder.title"),
        note=t("beds.ladder.note", seeds=len(runs), texts=f"{texts:,}", fp8=whole, many=f"{fp8.texts:,}"),
    )
