"""Which to build, tried: a dense and an MoE miniature on many tasks, and on one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from model.labs import tasks as lab
from model.labs._spread import Spread, apart, one_sign, spread
from pages.kit import plates
from pages.kit.chapter import number, percent
from pages.kit.figures.department import subject
from pages.kit.figures.queues import Points, steps
from pages.kit.words import t

ROLES = {"dense": "desk", "v3": "intern"}
DIGITS = 3  # of a loss


def called(kind: str, seed: int) -> str:
    """What a run's tasks are."""
    return subject(lab.subject(seed)) if kind == "single" else t("choice.tried.every")


def ranged(values: Spread) -> str:
    """Mean, and lowest to highest."""
    return t("choice.between", **{key: number(value, digits=DIGITS) for key, value in values._asdict().items()})


def curves(runs: Sequence[Points], kind: str, title: str, about: str, **more: Any) -> plates.Plate:
    """Held-out loss of both miniatures over the steps; with several runs their mean, and a band from the lowest to the
    highest."""
    each = {arm: [lab.curve(points, kind, arm) for points in runs] for arm in lab.ARMS}
    count = min(len(one) for several in each.values() for one in several)
    axis, drawn, said = steps(each[lab.ARMS[0]][0][:count]), [], []
    for arm, several in each.items():
        values = np.array([[point["heldout"] for point in points[:count]] for points in several])
        band = (values.min(0), values.max(0)) if len(values) > 1 else ()
        drawn.append(plates.series(t(f"miniatures.arm.{arm}"), values.mean(0), ROLES[arm], *band))
        last = number(float(values[:, -1].mean()), digits=DIGITS)
        said.append(t("choice.tried.at", arm=t(f"miniatures.arm.{arm}"), value=last))
    note = t("choice.tried.note", step=axis["labels"][-1], last=t("choice.list").join(said))
    return plates.lines(f"{about}_{kind}", axis, drawn, digits=DIGITS, title=title, alt=title, note=note, **more)


def started(points: Points, kind: str) -> bool:
    """Whether both miniatures have been read twice: a line needs two points."""
    return all(len(lab.curve(points, kind, arm)) > 1 for arm in lab.ARMS)


def table(runs: Sequence[dict[str, Any]]) -> plates.Plate:
    """Every run: its single subject, both losses, and how far the MoE is ahead there and on all subjects."""
    columns = {"dense": lab.ends(runs, "single", "dense"), "moe": lab.ends(runs, "single", "v3"),
               "lead": lab.leads(runs, "single"), "mixed": lab.leads(runs, "mixed")}  # fmt: skip
    return plates.table(
        "leads",
        [t("choice.tried.row", seed=run["seed"], subject=subject(lab.subject(run["seed"]))) for run in runs],
        [{"label": t(f"choice.tried.column.{name}"), "digits": DIGITS} for name in columns],
        list(zip(*columns.values(), strict=True)),
        title=t("choice.tried.leads"),
        note=t("choice.tried.leads_note"),
    )


def values(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Means over the seeds, for the equation."""
    found = {f"{kind}_{arm}": float(np.mean(lab.ends(runs, kind, arm))) for kind in lab.KINDS for arm in lab.ARMS}
    return {**found, **{f"{kind}_lead": float(np.mean(lab.leads(runs, kind))) for kind in lab.KINDS}}


def verdict(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Who is ahead on many tasks, who on one, and whether the lead is smaller there."""
    said = []
    for kind in lab.KINDS:
        better = {1: "moe", -1: "dense"}.get(lab.ahead(runs, kind, DIGITS), "neither")
        lead = [-one if better == "dense" else one for one in lab.leads(runs, kind)]
        said.append(
            t(f"choice.tried.{kind}_{better}", lead=ranged(spread(lead)), seeds=len(runs),
              chance=percent(one_sign(len(runs))))
        )  # fmt: skip
    single, mixed = (lab.leads(runs, kind) for kind in ("single", "mixed"))
    change = {-1: "smaller", 1: "larger"}.get(apart(single, mixed, DIGITS), "same")
    return [*said, t(f"choice.tried.{change}", seeds=len(runs))]
