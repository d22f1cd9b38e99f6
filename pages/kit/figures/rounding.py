"""The beds' trained part: what storing interns in fewer bits costs while a small hospital learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from model.architectures import PRECISIONS
from model.labs import rounding as lab
from model.labs._spread import Spread, apart, one_sign, spread
from model.storage import FORMATS
from pages.kit import plates, state
from pages.kit.chapter import between, number, percent
from pages.kit.figures.queues import Points, steps
from pages.kit.words import t

KINDS = ("plain", *lab.ROUNDERS)
ROLES = {"plain": "ink", "fp8": "nurse", "int4": "intern", "int3": "attention", "int2": "crowding"}
DIGITS = 4  # decimals of a change of loss
LOSS_DIGITS = 3


def wanted(usual: lab.Settings) -> lab.Settings:
    """The live run with as many steps as are set; where a link names what cannot be chosen, what comes nearest."""
    asked = state.get("lessons") or usual.steps
    return replace(usual, steps=min(lab.STEPS, key=lambda one: abs(one - asked)))


def name(kind: str) -> str:
    """What a kind of bed is called."""
    return t(f"beds.trained.kind.{kind}")


def losses(points: Points, kind: str) -> np.ndarray:
    """Held-out loss at every point of a run."""
    return np.array([point["plain"] if kind == "plain" else point["rounded"][kind] for point in points])


def costs(points: Points, kind: str) -> np.ndarray:
    """By how much it is larger than with the weights as they are; of the same texts and the same moment."""
    return losses(points, kind) - losses(points, "plain")


def ends(runs: Sequence[Points], kind: str, at: int = -1) -> list[float]:
    """The cost in a format at one point of every run."""
    return [float(costs(points, kind)[at]) for points in runs]


def last(runs: Sequence[Points]) -> tuple[str, float, float]:
    """The coarsest format, and at the end of all runs the mean loss in it and unrounded."""
    worst = list(lab.ROUNDERS)[-1]
    rounded, plain = (float(np.mean([losses(points, kind)[-1] for points in runs])) for kind in (worst, "plain"))
    return worst, rounded, plain


def ranged(values: Spread, digits: int = DIGITS) -> str:
    """Mean, and lowest to highest."""
    return between(**{key: _shown(value, digits) for key, value in values._asdict().items()})


def _shown(value: float, digits: int) -> str:
    """A number in a sentence; what is too little to be seen is 0, and has no sign."""
    return number(round(value, digits) + 0, digits=digits)


def coarsest(runs: Sequence[Points]) -> str:
    """The coarsest format up to which no run, or not every run, guesses worse at the end than unrounded."""
    found = "plain"
    for kind in lab.ROUNDERS:
        if apart(ends(runs, kind), [0.0] * len(runs), DIGITS) > 0:
            break
        found = kind
    return found


def ordered(runs: Sequence[Points]) -> bool:
    """Whether at the end every format costs more, in every run, than the next finer one."""
    kinds = list(lab.ROUNDERS)
    pairs = zip(kinds[1:], kinds, strict=False)
    return all(apart(ends(runs, coarse), ends(runs, fine), DIGITS) > 0 for coarse, fine in pairs)


def pictures(runs: Sequence[Points], prefix: str) -> list[plates.Plate]:
    """Over the steps: the loss in every kind of bed, and by how much it is larger than unrounded. Mean of the runs; a
    band from the lowest to the highest where there are several."""
    axis, last = steps(runs[0]), runs[0][-1]["step"]
    made: list[plates.Plate] = []
    for what, kinds, get, digits in (
        ("loss", KINDS, losses, LOSS_DIGITS), ("cost", tuple(lab.ROUNDERS), costs, DIGITS),
    ):  # fmt: skip
        several: list[dict[str, Any]] = []
        said: list[str] = []
        for kind in kinds:
            each = np.stack([get(points, kind) for points in runs])
            band = (each.min(0), each.max(0)) if len(runs) > 1 else ()
            several.append(plates.series(name(kind), each.mean(0), ROLES[kind], *band))
            said.append(t("beds.trained.pair", kind=name(kind), value=_shown(float(each[:, -1].mean()), digits)))
        note = t(f"beds.trained.{what}_note", step=f"{last:,}", now=t("beds.trained.comma").join(said))
        made.append(
            plates.lines(
                f"{prefix}_{what}", axis, several, digits=digits, width="half",
                title=t(f"beds.trained.{what}"), alt=note, note=note,
            )
        )  # fmt: skip
    return made


def ladder(runs: Sequence[Points]) -> plates.Plate:
    """Every format: how large a weight is, what rounding loses of it, and what that costs early, and at the end."""
    early = _early(runs)
    cells = []
    for kind in lab.ROUNDERS:
        error = spread([points[-1]["error"][kind] for points in runs])
        size = (FORMATS if kind in FORMATS else PRECISIONS)[kind].bytes_per_weight
        cells.append([
            number(size, digits=2), percent(error.middle), ranged(spread(ends(runs, kind, early))),
            ranged(spread(ends(runs, kind))),
        ])  # fmt: skip
    words = {"early": f"{runs[0][early]['step']:,}", "last": f"{runs[0][-1]['step']:,}"}
    return plates.table(
        "rounding",
        [name(kind) for kind in lab.ROUNDERS],
        [{"label": t(f"beds.trained.column.{column}", **words)} for column in ("bytes", "error", "early", "last")],
        cells,
        title=t("beds.trained.ladder"),
        note=t("beds.trained.ladder_note", seeds=len(runs), **words),
    )


def _early(runs: Sequence[Points]) -> int:
    """The first point after training has begun."""
    return next(i for i, point in enumerate(runs[0]) if point["step"])


def verdict(runs: Sequence[Points]) -> list[str]:
    """How coarse the beds may be at the end, whether each coarser one costs more, and whether that was otherwise early
    on."""
    found, kinds, early = coarsest(runs), list(lab.ROUNDERS), _early(runs)
    worst, steps_of = kinds[-1], {"last": runs[0][-1]["step"], "early": runs[0][early]["step"]}
    said: dict[str, Any] = {"seeds": len(runs), **{key: f"{step:,}" for key, step in steps_of.items()}}
    change = {1: "grows", -1: "shrinks", 0: "inside"}[apart(ends(runs, worst), ends(runs, worst, early), DIGITS)]
    if found == worst:
        first = t("beds.trained.free.all", kind=name(worst), **said)
    else:
        following = kinds[KINDS.index(found)]
        first = t(
            f"beds.trained.free.{'none' if found == 'plain' else 'some'}", kind=name(found), coarser=name(following),
            cost=ranged(spread(ends(runs, following))), chance=percent(one_sign(len(runs))), **said,
        )  # fmt: skip
    return [
        first,
        t(f"beds.trained.order.{'kept' if ordered(runs) else 'lost'}", **said),
        t(f"beds.trained.change.{change}", kind=name(worst), was=ranged(spread(ends(runs, worst, early))),
          now=ranged(spread(ends(runs, worst))), **said),
    ]  # fmt: skip
