"""What the lobby says about a trace: how many experts one token has, and how many the sentence woke."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from model import Trace
from pages.kit import chapter, plates
from pages.kit.chapter import Visit
from pages.kit.figures import common
from pages.kit.words import t

QUESTION = "lobby.woken"
ONCE = {"every_token": False, "every_floor": False}  # its answer is the whole sentence's


class Team(NamedTuple):
    """Who works for the followed token. `own`: interns on all floors; `shared`: of these also called by `other`."""

    token: str
    other: str
    departments: int
    chosen: int
    nurses: int
    per_token: int
    own: int
    shared: int


class Crowd(NamedTuple):
    """The least and the most different interns that so many tokens can wake, out of all there are."""

    patients: int
    departments: int
    chosen: int
    own: int
    most: int
    experts: int


class Change(NamedTuple):
    """Different interns that the sentence before woke, that this one wakes, and that both do."""

    before: int
    now: int
    both: int


def team(visit: Visit) -> Team:
    """The followed token's team beside its neighbour's: the one before, or for the first the one after."""
    trace, c, token = visit.trace, visit.trace.config, visit.token
    other = token - 1 if token else min(1, len(trace.ids) - 1)
    called = trace.woken()
    departments, _, chosen = trace.chosen.shape
    return Team(
        visit.name(),
        visit.name(other),
        departments,
        chosen,
        c.n_shared_experts,
        trace.experts_per_token,
        int(called[:, token].sum()),
        int((called[:, token] & called[:, other]).sum()),
    )


def crowd(visit: Visit) -> Crowd:
    """Bounds that can be known without looking into the rooms."""
    departments, patients, chosen = visit.trace.chosen.shape
    own, experts = departments * chosen, departments * visit.trace.config.n_routed_experts
    return Crowd(patients, departments, chosen, own, min(patients * own, experts), experts)


def touched(visit: Visit) -> int:
    """How many different interns the sentence woke."""
    return visit.trace.experts_touched


def ranges(crowd: Crowd, *, n: int = 3) -> list[tuple[int, int]]:
    """What lies between the bounds in `n` equal parts, whatever the answer is; none where there is nothing to guess."""
    span = crowd.most - crowd.own
    if span < n:
        return []
    edges = [crowd.own + span * i // n for i in range(n + 1)]
    return [(low + (low > crowd.own), high) for low, high in zip(edges, edges[1:], strict=False)]


def told(visit: Visit) -> bool:
    """Whether the visitor may know how many interns the sentence woke."""
    return not ranges(crowd(visit)) or chapter.guessed(visit, QUESTION, **ONCE)


def growth(visit: Visit, crowd: Crowd) -> plates.Plate:
    """Different interns awake after each token, between what all-the-same and all-different would give."""
    chosen = visit.trace.chosen  # (M, T, k)
    asleep = torch.full((len(chosen), visit.trace.config.n_routed_experts), crowd.patients)
    by = torch.arange(crowd.patients).repeat_interleave(crowd.chosen).expand(len(chosen), -1)
    first = asleep.scatter_reduce(1, chosen.flatten(1), by, "amin")  # (M, E): the token that woke each, T for none
    awake = first.flatten().bincount(minlength=crowd.patients + 1)[: crowd.patients].cumsum(0)  # (T,)
    steps = torch.arange(1, crowd.patients + 1)
    apart = (steps * crowd.own).clamp(max=crowd.experts)
    return plates.lines(
        "growth",
        common.token_axis(visit),
        [
            plates.series(t("lobby.growth.awake"), awake.float(), "intern"),
            plates.series(t("lobby.growth.apart"), apart.float(), "soft"),
            plates.series(t("lobby.growth.same"), torch.full_like(apart, crowd.own).float(), "patient"),
        ],
        from_zero=True,
        digits=0,
        title=t("lobby.growth.title"),
        alt=t("lobby.growth.alt", **said(crowd), touched=f"{touched(visit):,}"),
        note=t(
            "lobby.growth.note",
            **said(crowd),
            token=visit.name(),
            here=f"{int(awake[visit.token]):,}",
            touched=f"{touched(visit):,}",
        ),
    )


def change(visit: Visit, before: Trace) -> Change:
    """The interns of this sentence beside those of the one before."""
    old, new = before.touched(), visit.trace.touched()
    return Change(int(old.sum()), int(new.sum()), int((old & new).sum()))


def woken(change: Change) -> plates.Plate:
    """Before, after, and what stayed."""
    return plates.rank(
        "woken",
        [t(f"lobby.touch.{name}") for name in change._fields],
        change,
        role="intern",
        digits=0,
        title=t("lobby.touch.picture"),
        note=t("lobby.touch.note", **said(change)),
    )


def said(values: Any) -> dict[str, str]:
    """A tuple's fields for a sentence."""
    return {name: f"{v:,}" if isinstance(v, int) else v for name, v in values._asdict().items()}


def tex(values: Any) -> dict[str, str]:
    """A tuple's fields for an equation."""
    return {
        name: f"{v:,}".replace(",", "{,}") if isinstance(v, int) else chapter.tex_text(v)
        for name, v in values._asdict().items()
    }
