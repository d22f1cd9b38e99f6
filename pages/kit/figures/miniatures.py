"""The miniatures' pictures: how they are built, one sentence through each, what recorded runs reached, a live run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import streamlit as st
import torch
from torch import Tensor

from model import architectures
from model.families import Family, walk
from model.labs import miniatures as lab
from model.labs._spread import Spread, apart, spread
from model.tokenizer import Tokenizer
from pages.kit import building, plates, state
from pages.kit.chapter import Visit, between, number, percent, sentences
from pages.kit.words import t

Point = Mapping[str, Any]
LIKELY = 4  # next tokens that are shown of each
THIRD = 3  # part of the reading that the curves leave out
LOSS_DIGITS = 3
NONE = "–"  # in a table: there is nothing of the kind
KILO = 1e3  # tokens
COUNTED = {"myriad": 10 * KILO}  # what languages count tokens in, where it is not the thousand
MEGA = 1e6  # FLOPs
TERA = 1e12  # FLOPs
MILLI = 1e-3  # seconds
ROLES = {
    "dense": "desk", "mixtral": "soft", "grok": "ink", "v3": "intern", "no_nurse": "nurse", "coarse": "desk",
    "auxiliary": "attention", "nothing": "crowding",
}  # fmt: skip
PAIRS = (("nurse", "v3", "no_nurse"), ("fine", "no_nurse", "coarse"), ("rest", "coarse", "mixtral"))
"""What is compared two by two: (words, the one, the other). The last is no ablation: it says what these leave open."""
BALANCED = ("v3", "auxiliary", "nothing")  # one model, three ways of keeping its experts busy


def name(arm: str) -> str:
    """What an arm is called."""
    return t(f"miniatures.arm.{arm}")


def kept_busy(arm: str) -> str:
    """What one of BALANCED does about queues."""
    return t(f"miniatures.busy.{arm}")


def listed(said: Sequence[str]) -> str:
    """Several values in a sentence."""
    return t("miniatures.comma").join(said)


def together(names: Sequence[str]) -> str:
    """Several names in a sentence, as those of whom one thing is said."""
    return t("miniatures.and").join([listed(names[:-1]), names[-1]] if len(names) > 1 else names)


# -- how they are built ------------------------------------------------------------------------------------------------


def built(arms: Sequence[str]) -> plates.Plate:
    """Floors, rooms, width, attention and both sizes of each."""
    rows = []
    for arm in arms:
        c, (total, active) = lab.arm(arm).config, lab.parameters(arm)
        moe = c.num_moe_layers > 0
        rows.append([
            t("miniatures.built.mixed", floors=c.num_hidden_layers, dense=c.first_k_dense_replace)
            if moe and c.first_k_dense_replace else str(c.num_hidden_layers),
            t("miniatures.built.called", called=c.num_experts_per_tok, rooms=c.n_routed_experts)
            + (t("miniatures.built.nurse") if c.n_shared_experts else "") if moe else t("miniatures.built.doctor"),
            float(c.moe_intermediate_size if moe else c.intermediate_size),
            t(f"miniatures.built.{c.attention}"), float(total), float(active),
        ])  # fmt: skip
    sizes = {arm: lab.parameters(arm) for arm in arms}
    largest = max(arms, key=lambda arm: sizes[arm][0])
    columns = [{"label": t(f"miniatures.column.{one}"), "digits": 0}
               for one in ("floors", "rooms", "width", "attention", "total", "active")]  # fmt: skip
    return plates.table(
        "built", [name(arm) for arm in arms], columns, rows,
        title=t("miniatures.built.title"),
        note=t(
            "miniatures.built.note", gap=percent(unequal(arms)), largest=name(largest),
            times=number(sizes[largest][0] / sizes[largest][1], 1),
        ),
    )  # fmt: skip


def unequal(arms: Sequence[str]) -> float:
    """By how much the largest active size is above the smallest."""
    active = [lab.parameters(arm)[1] for arm in arms]
    return max(active) / min(active) - 1


def facts() -> dict[str, Any]:
    """The numbers behind the four ways, for words."""
    c = {arm: lab.arm(arm).config for arm in lab.STYLES}
    return {
        "active": f"{lab.parameters('v3')[1]:,}", "gap": percent(unequal(lab.STYLES)),
        "eight": c["mixtral"].n_routed_experts, "called": c["mixtral"].num_experts_per_tok,
        "mixtral": c["mixtral"].num_hidden_layers, "grok": c["grok"].num_hidden_layers,
        "interns": c["v3"].n_routed_experts, "chosen": c["v3"].num_experts_per_tok,
    }  # fmt: skip


# -- one sentence through each -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Through:
    """One text of T tokens through the trained STYLES, in their order (S of them)."""

    ids: Tensor  # (S, T, LIKELY) the likeliest next tokens
    probabilities: Tensor  # (S, T, LIKELY)
    touched: list[int]  # different weights that worked for any of the tokens
    cache_bytes: list[int]  # of the tensors kept for the next token
    milliseconds: list[float]  # CPU time of a whole pass
    length: int


opened = cache(lab.open_kept)


def _milliseconds(model: Family, rows: Tensor) -> float:
    """CPU time of a pass over rows (1, T), logits included: what others do on the machine does not count."""
    start = time.thread_time()
    model.lm_head(model(rows)[0])
    return (time.thread_time() - start) / MILLI


@torch.inference_mode()
def send(ids: Sequence[int]) -> Through:
    """Walk them through all four."""
    models = [opened(arm) for arm in lab.STYLES]
    walks = [walk(model, ids) for model in models]
    best = [one.logits.softmax(-1).topk(LIKELY, -1) for one in walks]
    rows = torch.tensor(ids)[None]
    return Through(
        torch.stack([one.indices for one in best]), torch.stack([one.values for one in best]),
        [one.touched for one in walks], [one.cache_bytes for one in walks],
        [_milliseconds(model, rows) for model in models], len(ids),
    )  # fmt: skip


def notes() -> dict[str, str | float]:
    """How the numbers that are cached of a token come about, with grouped queries and with a latent."""
    grouped, latent = lab.arm("dense").config, lab.arm("v3").config
    return {
        "gqa": grouped.cache_numbers_per_token, "gqa_floors": grouped.num_hidden_layers,
        "groups": grouped.num_key_value_heads or 0, "width": grouped.v_head_dim,
        "mla": latent.cache_numbers_per_token, "mla_floors": latent.num_hidden_layers, "rank": latent.kv_lora_rank,
        "rope": latent.qk_rope_head_dim,
    }  # fmt: skip


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer.load()


def through(visit: Visit) -> tuple[Through, int]:
    """The visitor's sentence through all of them, computed once for everybody, and the position that is followed: the
    last one where the hospital that is open has another tokenizer than the miniatures."""
    ids = _tokenizer().encode(visit.sentence)
    found = visit.house.measure(("miniatures", tuple(ids)), lambda: send(ids))
    return found, visit.token if ids == list(visit.trace.ids) else len(ids) - 1


def said(id: int) -> str:
    """A token of the miniatures' vocabulary on screen."""
    piece = _tokenizer().pieces([id])[0]
    return t("building.end") if piece.is_special else building.shown(piece)


def guesses(found: Through, at: int) -> list[plates.Plate]:
    """The likeliest next tokens of each, after the token at a position."""
    return [
        plates.rank(
            f"next_{arm}",
            building.apart([said(int(id)) for id in found.ids[i, at]]),
            [float(p) for p in found.probabilities[i, at]],
            percent=True,
            role=ROLES[arm],
            title=name(arm),
            width="half",
        )
        for i, arm in enumerate(lab.STYLES)
    ]


def agreement(found: Through, at: int) -> list[str]:
    """The likeliest token of each, each different one once, in the order of STYLES."""
    return list(dict.fromkeys(said(int(id)) for id in found.ids[:, at, 0]))


def costs(found: Through) -> plates.Plate:
    """What this sentence cost each of them."""
    rows, shares = [], []
    for i, arm in enumerate(lab.STYLES):
        total, _ = lab.parameters(arm)
        shares.append(found.touched[i] / total)
        rows.append([
            float(total), float(found.touched[i]), shares[-1], found.milliseconds[i],
            found.cache_bytes[i] / found.length, float(found.cache_bytes[i]),
        ])  # fmt: skip
    kinds: tuple[tuple[str, dict[str, Any]], ...] = (
        ("total", {"digits": 0}), ("touched", {"digits": 0}), ("share", {"percent": True}),
        ("milliseconds", {"digits": 1}), ("cache", {"digits": 0}), ("cache_all", {"digits": 0}),
    )  # fmt: skip
    least, most = int(np.argmin(shares)), int(np.argmax(found.cache_bytes))
    return plates.table(
        "costs", [name(arm) for arm in lab.STYLES],
        [{"label": t(f"miniatures.column.{kind}"), **how} for kind, how in kinds], rows,
        title=t("miniatures.costs.title"),
        note=t(
            "miniatures.costs.note", tokens=found.length, least=name(lab.STYLES[least]), share=percent(shares[least]),
            most=name(lab.STYLES[most]), bytes=f"{found.cache_bytes[most]:,}",
        ),
    )  # fmt: skip


# -- what was recorded -------------------------------------------------------------------------------------------------


class Recorded(NamedTuple):
    """The recorded runs."""

    runs: list[list[Point]]  # of every seed
    length: int  # tokens of a sequence

    def points(self, arm: str) -> list[list[Point]]:
        """Of every seed the points of an arm."""
        return [[point for point in run if point["arm"] == arm] for run in self.runs]

    def last(self, arm: str, what: str = "heldout") -> list[float]:
        """The last measurement of an arm, of every seed."""
        return [points[-1][what] for points in self.points(arm)]

    def spread(self, arm: str, what: str = "heldout") -> Spread:
        """Over the seeds."""
        return spread(self.last(arm, what))

    @property
    def tokens(self) -> list[int]:
        """After how many tokens it was measured."""
        return [point["tokens"] for point in self.points(lab.STYLES[0])[0]]

    def leaders(self, arms: Sequence[str]) -> list[str]:
        """Who may be called the best of `arms` (`lab.leaders`)."""
        return lab.leaders({arm: self.last(arm) for arm in arms})

    @property
    def late(self) -> int:
        """The first measurement after the first third of the reading, where all fall so steeply that nothing else can
        be seen."""
        return int(np.searchsorted(self.tokens, self.tokens[-1] / THIRD))

    def over_seeds(self, arm: str, what: str) -> np.ndarray:
        """(seeds, points)"""
        return np.array([[point[what] for point in points] for points in self.points(arm)], dtype=float)


def recorded(file: Mapping[str, Any]) -> Recorded:
    """From assets/labs/miniatures.json."""
    return Recorded([run["points"] for run in file["runs"]], file["settings"]["length"])


def flops(arm: str, length: int) -> float:
    """Of training on one token (`architectures.training_flops`: 6 for each active weight that multiplies, and attention
    over what stands before)."""
    return architectures.training_flops(lab.arm(arm).config.architecture, length)


def spent(found: Recorded) -> dict[str, str | float]:
    """The arithmetic of the V3-style one, for the equation: MFLOP a token, tokens, TFLOP in all."""
    each, tokens = flops("v3", found.length), found.tokens[-1]
    return {"flops": each / MEGA, "tokens": tokens, "all": tokens * each / TERA}


def short(count: float) -> str:
    """Tokens under a curve, to the thousand, in what the language counts in."""
    unit = COUNTED.get(t("miniatures.short.unit"), KILO)
    return t("miniatures.short.count", count=f"{round(count / KILO) * KILO / unit:g}")


def _band(values: np.ndarray, label: str, role: str) -> dict[str, Any]:
    """One line with the spread of the seeds; values (seeds, points)."""
    several = len(values) > 1
    low, high = (values.min(0), values.max(0)) if several else (None, None)
    return plates.series(label, values.mean(0), role, low, high)


def over_tokens(
    found: Recorded, arms: Sequence[str], what: str = "heldout", first: int = 0, **more: Any
) -> plates.Plate:
    """A measurement over the tokens that were read, from the measurement with number `first` on. The band is the spread
    of the seeds."""
    last = [t("miniatures.at", arm=name(arm), value=number(found.spread(arm, what).middle, 2)) for arm in arms]
    kind, tokens = f"miniatures.tokens_{what}", found.tokens[first:]
    note = t(f"{kind}.note", last=listed(last))
    return plates.lines(
        f"tokens_{what}",
        plates.axis("tokens_read", len(tokens), [short(one) for one in tokens]),
        [_band(found.over_seeds(arm, what)[:, first:], name(arm), ROLES[arm]) for arm in arms],
        title=t(f"{kind}.title"),
        alt=t(f"{kind}.title"),
        note=sentences(note, t("miniatures.late.note")) if first else note,
        digits=2,
        **more,
    )


def over_flops(found: Recorded, arms: Sequence[str], first: int = 0, **more: Any) -> plates.Plate:
    """Held-out loss over the arithmetic of training, each arm's read off between its measurements; up to what the
    cheapest has spent."""
    each = {arm: flops(arm, found.length) for arm in arms}
    grid = np.array(found.tokens) * min(each.values())
    series = []
    for arm in arms:
        own = np.array(found.tokens) * each[arm]
        inside = np.maximum(grid, own[0])  # dearer arms were first measured a little later
        lines = np.stack([np.interp(inside, own, line) for line in found.over_seeds(arm, "heldout")])
        series.append(_band(lines[:, first:], name(arm), ROLES[arm]))
    dearest, cheapest = max(arms, key=each.__getitem__), min(arms, key=each.__getitem__)
    return plates.lines(
        "flops",
        plates.axis("spent", len(grid[first:]), [f"{one / TERA:.2f}" for one in grid[first:]]),
        series,
        title=t("miniatures.flops.title"),
        alt=t("miniatures.flops.title"),
        note=t("miniatures.flops.note", gap=percent(each[dearest] / each[cheapest] - 1), dearest=name(dearest)),
        digits=2,
        **more,
    )


def ranged(one: Spread, digits: int = LOSS_DIGITS) -> str:
    """Mean and spread in a sentence."""
    return between(**{name: number(value, digits) for name, value in one._asdict().items()})


def reached(found: Recorded, arms: Sequence[str]) -> plates.Plate:
    """What each cost and where it came."""
    tokens, rows = found.tokens[-1], []
    speed = {arm: tokens / found.spread(arm, "cpu_seconds").middle for arm in arms}
    for arm in arms:
        rows.append([
            tokens * flops(arm, found.length) / TERA,
            speed[arm],
            found.spread(arm, "cache_bytes").middle,
            *(found.spread(arm, what).middle if lab.arm(arm).config.num_moe_layers else NONE
              for what in ("max_vio", "dead")),
            ranged(found.spread(arm)),
        ])  # fmt: skip
    kinds = (("spent", 2), ("speed", 0), ("cache", 0), ("max_vio", 2), ("dead", 1), ("heldout", 0))
    fast, slow = max(arms, key=speed.__getitem__), min(arms, key=speed.__getitem__)
    return plates.table(
        "reached", [name(arm) for arm in arms],
        [{"label": t(f"miniatures.column.{kind}"), "digits": digits} for kind, digits in kinds], rows,
        title=t("miniatures.reached.title"),
        note=t("miniatures.reached.note", fast=name(fast), slow=name(slow), times=number(speed[fast] / speed[slow], 1)),
    )  # fmt: skip


# -- ablations ---------------------------------------------------------------------------------------------------------


def changes() -> dict[str, Any]:
    """What the ablations change, for words."""
    coarse, fine = lab.arm("coarse").config, lab.arm("no_nurse").config
    return {
        "weight": f"{lab.AUXILIARY:g}", "speed": f"{lab.BIAS_SPEED:g}", "coarse": coarse.n_routed_experts,
        "chosen": coarse.num_experts_per_tok, "fine": fine.n_routed_experts, "picked": fine.num_experts_per_tok,
        "smaller": percent(1 - lab.parameters("coarse")[1] / lab.parameters("no_nurse")[1]),
    }  # fmt: skip


def ranking(found: Recorded, arms: Sequence[str]) -> plates.Plate:
    """Held-out loss at the end as dots with the spread of the seeds, lowest first. The scale begins at the lowest seed
    of all."""
    each = {arm: found.spread(arm) for arm in arms}
    order = sorted(arms, key=lambda arm: each[arm].middle)
    low, high = min(one.low for one in each.values()), max(one.high for one in each.values())
    margin = (high - low) / len(arms)
    return plates.rank(
        "ranking", [name(arm) for arm in order], [each[arm].middle for arm in order],
        low=[each[arm].low for arm in order], high=[each[arm].high for arm in order],
        roles=[ROLES[arm] for arm in order], domain=[low - margin, high + margin], dots=True, wrap=True,
        digits=LOSS_DIGITS,
        title=t("miniatures.ranking.title"),
        note=t("miniatures.ranking.note", seeds=len(found.runs), low=number(low), high=number(high)),
    )  # fmt: skip


def uneven(found: Recorded, arms: Sequence[str]) -> plates.Plate:
    """MaxVio on held-out texts at the end, most even first."""
    each = {arm: found.spread(arm, "max_vio") for arm in arms}
    order = sorted(arms, key=lambda arm: each[arm].middle)
    idle = [t("miniatures.at", arm=name(arm), value=number(found.spread(arm, "dead").middle, 1)) for arm in order]
    return plates.rank(
        "uneven", [name(arm) for arm in order], [each[arm].middle for arm in order],
        low=[each[arm].low for arm in order], high=[each[arm].high for arm in order],
        roles=[ROLES[arm] for arm in order], digits=2, wrap=True, title=t("miniatures.uneven.title"),
        note=t("miniatures.uneven.note", dead=listed(idle)), width="half",
    )  # fmt: skip


def pair(found: Recorded, with_it: str, without: str) -> tuple[str, dict[str, str]]:
    """(below, above or inside: whether the loss with something lies apart from that without it; values for words)."""
    first, second = found.last(with_it), found.last(without)
    kind = {1: "above", -1: "below"}.get(apart(first, second, LOSS_DIGITS), "inside")
    one, other = (round(spread(each).middle, LOSS_DIGITS) for each in (first, second))
    said = {"first": one, "second": other, "gap": abs(one - other)}  # of what is shown: who subtracts finds the gap
    return kind, {what: number(value, LOSS_DIGITS) for what, value in said.items()}


def verdict(
    found: Recorded, arms: Sequence[str], called: Callable[[str], str] = name
) -> tuple[str, dict[str, str]]:
    """(one, several or all: how many of `arms` may be called the best; values for words)."""
    first = found.leaders(arms)
    rest = [arm for arm in arms if arm not in first]
    values = {"best": together(list(map(called, first))), "loss": ranged(found.spread(first[0])),
              "rest": together(list(map(called, rest)))}  # fmt: skip
    if len(first) == 1:
        return "one", {**values, "next": number(min(found.spread(arm).middle for arm in rest))}
    return ("several" if rest else "all"), values


# -- live --------------------------------------------------------------------------------------------------------------


def wanted(usual: lab.Settings) -> tuple[str, str]:
    """Which two are trained live: those of the link, where it names two that there are."""
    named = [one for one in (state.get("arms") or "").split(".") if one in lab.ARMS]
    return (named[0], named[1]) if len(set(named)) == 2 == len(named) else (usual.arms[0], usual.arms[1])


LIVE = ("miniatures.live.0", "miniatures.live.1")
"""The two controls that choose them."""


def both(_: str) -> str:
    """The two chosen at this moment, as a link names them: who is quick changes both before a page is drawn again."""
    return ".".join(st.session_state[key] for key in LIVE)


def live(points: Sequence[Point], settings: lab.Settings) -> list[plates.Plate]:
    """What the arms of a run have reached so far, at the moments when all were measured; nothing before the second."""
    arms, length = settings.arms, settings.length
    found = Recorded([list(points)], length)
    moments = min(len(found.points(arm)[0]) for arm in arms)
    if moments < 2:
        return []
    cut = Recorded([[point for arm in arms for point in found.points(arm)[0][:moments]]], length)
    more = {"width": "half"}
    axis = plates.axis("tokens_read", moments, [short(point["tokens"]) for point in cut.points(arms[0])[0]])
    drawn = []
    for what in ("heldout", "max_vio"):
        shown = [arm for arm in arms if what == "heldout" or lab.arm(arm).config.num_moe_layers]
        if shown:
            values = [t("miniatures.at", arm=name(arm), value=number(cut.last(arm, what)[0], 2)) for arm in shown]
            drawn.append(plates.lines(
                f"live_{what}", axis,
                [plates.series(name(arm), cut.over_seeds(arm, what)[0], ROLES[arm]) for arm in shown],
                title=t(f"miniatures.tokens_{what}.title"), alt=t(f"miniatures.tokens_{what}.title"), digits=2,
                note=t(f"miniatures.tokens_{what}.note", last=listed(values)), **more,
            ))  # fmt: skip
    return drawn
