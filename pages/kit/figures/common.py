"""Pictures that several pages show."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import wraps
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor

from model import Trace
from pages.kit import building, plates
from pages.kit.chapter import Visit
from pages.kit.words import t

Result, More = TypeVar("Result"), ParamSpec("More")


def once(compute: Callable[Concatenate[Visit, More], Result]) -> Callable[Concatenate[Visit, More], Result]:
    """`compute` of a visit's trace, and of nothing else about the visit but what is handed in: done once, and kept as
    long as the trace is."""
    kept: WeakKeyDictionary[Trace, dict[tuple[Hashable, ...], Result]] = WeakKeyDictionary()

    @wraps(compute)
    def look_up(visit: Visit, *more: More.args, **_: More.kwargs) -> Result:
        found = kept.setdefault(visit.trace, {})
        if more not in found:
            found[more] = compute(visit, *more)
        return found[more]

    return look_up


def token_axis(visit: Visit, name: str = "token") -> plates.Axis:
    """The sentence's tokens, labelled."""
    return plates.axis(name, len(visit.pieces), visit.names)


def said(visit: Visit, id: int) -> str:
    """What a token of the vocabulary is called on screen."""
    piece = visit.house.tokenizer.pieces([id])[0]
    return t("building.end") if piece.is_special else building.shown(piece)


def next_tokens(visit: Visit, trace: Trace, base: Trace | None = None, n: int = 5, **more: object) -> plates.Plate:
    """The likeliest next tokens after the followed one; with `base`, what they were before."""
    best = trace.top(visit.token, n)
    before = base.probabilities(visit.token) if base is not None else None
    return plates.rank(
        "next",
        building.apart([said(visit, one.id) for one in best]),
        [one.probability for one in best],
        before=[float(before[one.id]) for one in best] if before is not None else None,
        percent=True,
        **{
            "title": t("building.next"),
            "note": t("chapter.next_note", floors=trace.config.num_hidden_layers, token=visit.name()),
            **more,
        },
    )


class Answers(NamedTuple):
    """The likeliest token after the followed one, before and after a change, each with its probability at its time."""

    before: str
    was: float
    after: str
    now: float
    same: bool  # two tokens can look the same on screen


def answers(visit: Visit, changed: Trace) -> Answers:
    """The changed pass beside the untouched one."""
    old, new = visit.trace.top(visit.token, 1)[0], changed.top(visit.token, 1)[0]
    return Answers(said(visit, old.id), old.probability, said(visit, new.id), new.probability, old.id == new.id)


def gaps(visit: Visit, changed: Trace) -> Tensor:
    """(L,): how far the followed token's state is from the untouched walk after each floor, relative to its length."""
    old, new = visit.trace.hidden[1:, visit.token], changed.hidden[1:, visit.token]
    return (new - old).norm(dim=-1) / old.norm(dim=-1)


def drift(
    visit: Visit, several: Sequence[tuple[str, Tensor]], *, role: str = "patient", **more: object
) -> plates.Plate:
    """`gaps` of one change with its name, in the colour of `role`, or of several, the chosen one first."""
    roles = (role, *["soft"] * (len(several) - 1))
    return plates.lines(
        "drift",
        plates.floors(visit.trace.config),
        [plates.series(name, gap, role) for (name, gap), role in zip(several, roles, strict=True)],
        percent=True,
        from_zero=True,
        title=t("chapter.drift"),
        **more,
    )
