"""Which to build, tried: a dense and an MoE miniature on many tasks, and on one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from model.labs import tasks as lab
from model.labs._spread import one_sign, same_sign, spread
from pages.kit import plates
from pages.kit.chapter import equals_tex, number, percent
from pages.kit.figures.choice import between
from pages.kit.figures.department import subject
from pages.kit.figures.queues import Points, steps
from pages.kit.words import t

ROLES = {"dense": "desk", "v3": "intern"}
COLOURS = {"mixed": "ink", "single": "patient"}
DIGITS = 3  # of a loss


def called(kind: str, seed: int) -> str:
    """What a run's tasks are."""
    return subject(lab.subject(seed)) if kind == "single" else t("choice.tried.every")


def curves(runs: Sequence[Points], kind: str, title: str, about: str, **more: Any) -> plates.Plate:
    """Held-out loss of both miniatures over the steps; with several runs their mean, and a band from the lowest to the
    highest."""
    several = {t(f"miniatures.arm.{arm}"): (_losses(runs, kind, arm), ROLES[arm]) for arm in lab.ARMS}
    return _lines(f"{about}_{kind}", _axis(runs, kind), several, "choice.tried.note", title, log=True, **more)


def lead(runs: Sequence[Points]) -> plates.Plate:
    """How far the MoE is ahead over the steps, on many tasks and on one."""
    each = {kind: [_losses(runs, kind, arm) for arm in lab.ARMS] for kind in lab.KINDS}
    several = {t(f"choice.tried.line_{kind}"): (dense - moe, COLOURS[kind]) for kind, (dense, moe) in each.items()}
    title = t("choice.tried.lead")
    return _lines("lead", _axis(runs, lab.KINDS[0]), several, "choice.tried.lead_note", title, width="half")


def _count(runs: Sequence[Points], kind: str) -> int:
    """Readings of both miniatures in every run."""
    return min(len(lab.curve(points, kind, arm)) for points in runs for arm in lab.ARMS)


def _axis(runs: Sequence[Points], kind: str) -> plates.Axis:
    return steps(lab.curve(runs[0], kind, lab.ARMS[0])[: _count(runs, kind)])


def _losses(runs: Sequence[Points], kind: str, arm: str) -> np.ndarray:
    """(runs, readings)"""
    count = _count(runs, kind)
    return np.array([[point["heldout"] for point in lab.curve(points, kind, arm)[:count]] for points in runs])


def _lines(
    id: str, axis: plates.Axis, several: dict[str, tuple[np.ndarray, str]], note: str, title: str, **more: Any
) -> plates.Plate:
    """(runs, readings) of each name over the steps."""
    drawn, said = [], []
    for name, (values, role) in several.items():
        band = (values.min(0), values.max(0)) if len(values) > 1 else ()
        drawn.append(plates.series(name, values.mean(0), role, *band))
        last = number(float(values[:, -1].mean()), digits=DIGITS)
        said.append(t("choice.tried.at", what=name, value=last))
    words = t(note, step=axis["labels"][-1], last=t("choice.list").join(said))
    return plates.lines(id, axis, drawn, digits=DIGITS, title=title, alt=title, note=words, **more)


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
        width="half",
    )


def values(runs: Sequence[dict[str, Any]]) -> dict[str, float | str]:
    """Means over the seeds, for the equation."""
    found: dict[str, float | str] = {}
    for kind in lab.KINDS:
        ends = {arm: float(np.mean(lab.ends(runs, kind, arm))) for arm in lab.ARMS}
        found |= {f"{kind}_{arm}": end for arm, end in ends.items()}
        found[f"{kind}_lead"] = equals_tex((ends["dense"], -ends["v3"]), float(np.mean(lab.leads(runs, kind))))
    return found


def verdict(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Who is ahead on many tasks, who on one, and whether the MoE does better or worse there."""
    said, seeds = [], {"seeds": len(runs), "chance": percent(one_sign(len(runs)))}
    for kind in lab.KINDS:
        leads = lab.leads(runs, kind)
        sign = same_sign(leads, DIGITS)
        better = {1: "moe", -1: "dense", 0: "neither"}[sign]
        lead = between(spread([one * (sign or 1) for one in leads]))
        said.append(t(f"choice.tried.{kind}_{better}", lead=lead, **seeds))
    change = {1: "larger", -1: "smaller", 0: "same"}[same_sign(lab.gains(runs), DIGITS)]
    return [*said, t(f"choice.tried.{change}", **seeds)]
