"""The triage desk's pictures."""

from __future__ import annotations

from typing import NamedTuple

import torch

from model import ModelConfig, Trace, costs
from pages.kit import plates
from pages.kit.chapter import Visit, number, percent
from pages.kit.figures import common
from pages.kit.words import t


class Parts(NamedTuple):
    """Lengths (L2 norms) of the followed token's state on the followed floor, and of what was added to it."""

    before: float
    attention: float
    ffn: float
    after: float


def parts(visit: Visit) -> Parts:
    """What the followed floor did to the followed token."""
    at, token, trace = visit.layer, visit.token, visit.trace
    states = (
        trace.hidden[at, token],
        trace.attention_output[at, token],
        trace.ffn_output[at, token],
        trace.hidden[at + 1, token],
    )
    return Parts(*(float(state.norm()) for state in states))


def states(visit: Visit, told: bool = True) -> plates.Plate:
    """The followed token's numbers: before, what attention and the dense layer added (left out while that is not to be
    `told`), after."""
    at, token, trace = visit.layer, visit.token, visit.trace
    rows = torch.stack(
        [
            trace.hidden[at, token],
            trace.attention_output[at, token],
            trace.ffn_output[at, token],
            trace.hidden[at + 1, token],
        ]
    )
    if not told:
        rows[1:3] = torch.nan
    names = [t(f"triage.state.{part}") for part in ("before", "attention", "ffn", "after")]
    return plates.grid(
        "states",
        plates.axis("part", len(names), names),
        plates.axis("dim", rows.shape[1], offset=1),
        rows,
        cell=30,
        left=104,
        roles=["patient", "attention", "desk", "patient"],
        title=t("triage.states.title", token=visit.name(), floor=visit.floor),
        alt=t("triage.states.alt", token=visit.name(), floor=visit.floor, dims=rows.shape[1]),
        note=t("triage.states.note" if told else "triage.states.hidden"),
    )


def lengths(visit: Visit) -> plates.Plate:
    """How long each part is."""
    names = [t(f"triage.state.{part}") for part in ("before", "attention", "ffn", "after")]
    return plates.rank("lengths", names, parts(visit), title=t("triage.lengths.title"), note=t("triage.lengths.note"))


def turns(visit: Visit) -> plates.Plate:
    """How far each token has turned away from the state in which it came in: cosine on every floor of the desk."""
    c = visit.trace.config
    hidden = visit.trace.hidden[: c.first_k_dense_replace + 1]
    cosine = torch.cosine_similarity(hidden[1:], hidden[:1], dim=-1)  # (floors, T)
    here = float(cosine[visit.layer, visit.token])
    return plates.grid(
        "turns",
        plates.axis("floor", cosine.shape[0], offset=1),
        common.token_axis(visit),
        cosine,
        from_below=True,
        domain=[-1.0, 1.0],
        role="patient",
        cell=26,
        title=t("triage.turns.title"),
        alt=t("triage.turns.alt", token=visit.name(), floor=visit.floor, cosine=number(here)),
        note=t("triage.turns.note", token=visit.name(), floor=visit.floor, cosine=number(here)),
    )


def floors(c: ModelConfig) -> str:
    """Which floors the desk has."""
    desk = c.first_k_dense_replace
    return t("triage.used.dense", floors=desk) if desk > 1 else t("triage.used.one")


def used(c: ModelConfig) -> plates.Plate:
    """Weights that work for one token, of all weights of the floor: a desk, and a department."""
    share = costs.floor_shares(c)
    names = [
        floors(c),
        t("triage.used.moe", floor=c.first_k_dense_replace + 1),
    ]
    return plates.rank(
        "used",
        names,
        [1.0, share.moe_used / share.moe_all],
        percent=True,
        role="desk",
        title=t("triage.used.title"),
        note=t("triage.used.note", dense=f"{share.dense_used:,}", used=f"{share.moe_used:,}", all=f"{share.moe_all:,}"),
    )


def drift(visit: Visit, changed: Trace) -> plates.Plate:
    """How far the change travels."""
    gap = common.gaps(visit, changed)
    return common.drift(
        visit,
        [(t("triage.drift.series"), gap)],
        width="half",
        alt=t("triage.drift.alt", gap=percent(float(gap[-1]))),
        note=t(
            "triage.drift.note",
            token=visit.name(),
            first=percent(float(gap[visit.layer])),
            last=percent(float(gap[-1])),
        ),
    )
