"""The queues' pictures: runs that were recorded, and the one that is trained in front of the visitor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from model.labs import queues as lab
from model.labs._spread import Spread, apart, spread
from pages.kit import plates, state
from pages.kit.chapter import between, equals, number, percent
from pages.kit.figures.department import subject
from pages.kit.words import t

Points = Sequence[dict[str, Any]]  # of one run
LOSS_DIGITS = 3
ROLES = {"bias": "crowding", "loss": "desk", "none": "soft", "wrong": "ink"}


SLIDERS = {
    "nudge": (lab.SPEEDS, state.TEN_THOUSAND),
    "aux": (lab.WEIGHTS, state.TEN_THOUSAND),
    "lessons": (lab.STEPS, 1),
}
"""What can be chosen for a setting, and by how much it is larger in the link, where numbers are whole."""


# -- what is trained ---------------------------------------------------------------------------------------------------


def wanted(usual: lab.Settings) -> dict[str, Any]:
    """What is set for a live run, as the controls show it: arms, "nudge", "aux", "lessons", "rare". Where a link names
    what cannot be chosen, what comes nearest."""
    strengths = {arm.kind: arm.strength for arm in usual.arms}
    before = {"nudge": strengths["bias"], "aux": strengths["loss"], "lessons": usual.steps}
    named = (state.get("arms") or "").split(".")
    kinds = [kind for kind in lab.KINDS if kind in named] or [arm.kind for arm in usual.arms]
    found: dict[str, Any] = {"arms": kinds, "rare": bool(state.get("rare"))}
    for key, (options, unit) in SLIDERS.items():
        value = before[key] if state.get(key) is None else state.get(key) / unit
        found[key] = min(options, key=lambda one, value=value: abs(one - value))
    return found


def whole(unit: int, value: float) -> int:
    """What a slider says, as the link has it."""
    return round(value * unit)


def settings(usual: lab.Settings, found: dict[str, Any]) -> lab.Settings:
    """The live run with what is set."""
    strengths = {"bias": found["nudge"], "wrong": found["nudge"], "loss": found["aux"], "none": 0.0}
    arms = tuple(lab.Arm(kind, strengths[kind]) for kind in found["arms"])
    return replace(usual, arms=arms, steps=found["lessons"], rare=usual.rare if found["rare"] else None)


def name(arm: lab.Arm) -> str:
    """What an arm is called."""
    return t(f"queues.arm.{arm.kind}", strength=f"{arm.strength:g}")


def rare() -> str:
    """The subject that is made rare, in words."""
    return subject(lab.RARE)


# -- over the steps of one run -----------------------------------------------------------------------------------------


def steps(points: Points) -> plates.Axis:
    """When something was measured."""
    return plates.axis("training", len(points), [str(point["step"]) for point in points])


def curve(points: Points, arms: Sequence[lab.Arm], what: str, **more: Any) -> plates.Plate:
    """`max_vio`, `dead` or `loss` of every arm, over the steps."""
    last = [number(row[what], more.get("digits", 2)) for row in points[-1]["arms"]]
    return plates.lines(
        what, steps(points),
        [plates.series(name(arm), [point["arms"][i][what] for point in points], ROLES[arm.kind])
         for i, arm in enumerate(arms)],
        title=t(f"queues.{what}.title"),
        alt=t(f"queues.{what}.title"),
        note=t(f"queues.{what}.note", step=points[-1]["step"], interns=interns(), now=listed(arms, last)),
        from_zero=what != "loss",
        **{"digits": 2, **more},
    )  # fmt: skip


def listed(arms: Sequence[lab.Arm], values: Sequence[str]) -> str:
    """Every arm with its value."""
    pairs = [t("queues.pair", arm=name(arm), value=value) for arm, value in zip(arms, values, strict=True)]
    return t("queues.comma").join(pairs)


def interns() -> int:
    """Of all departments of the small hospital."""
    return lab.CONFIG.num_moe_layers * lab.CONFIG.n_routed_experts


def loads(points: Points, arms: Sequence[lab.Arm], which: Sequence[int] | None = None) -> list[plates.Plate]:
    """How many patients each intern of the middle department got at the last step, in fair shares: one picture an arm,
    all of one height."""
    rows = [np.asarray(row["load"], dtype=float) for row in points[-1]["arms"]]
    shares = [row / row.mean() for row in rows]
    shown = range(len(arms)) if which is None else which
    most = max(float(shares[i].max()) for i in shown)
    return [
        plates.bars(
            f"load_{i}",
            plates.rooms(lab.CONFIG),
            shares[i],
            mask=np.where(shares[i] > 0, plates.LIT, 0),
            domain=[0.0, most],
            role=ROLES[arms[i].kind],
            width="half",
            digits=2,
            lit=t("queues.load.lit"),
            title=name(arms[i]),
            alt=t("queues.load.alt", arm=name(arms[i])),
            note=t(
                "queues.load.note", step=points[-1]["step"], most=number(float(shares[i].max()), 1),
                idle=int((shares[i] == 0).sum()), low=int(((shares[i] > 0) & (shares[i] < 0.5)).sum()),
            ),
        )
        for i in shown
    ]  # fmt: skip


def live(points: Points, made: lab.Settings, guessed: bool) -> list[plates.Plate]:
    """What grows while the run with these settings goes on. Losses would answer the question."""
    arms = made.arms
    curves = [curve(points, arms, "max_vio", width="half"), curve(points, arms, "dead", width="half", digits=0)]
    answers = [curve(points, arms, "loss"), *unseen(points, made)] if guessed else []
    return [*curves, *loads(points, arms), *answers]


def unseen(points: Points, made: lab.Settings) -> list[plates.Plate]:
    """Losses on held-out texts, when they were last measured; nothing before that."""
    measured = [point for point in points if "rare" in point["arms"][0]]
    if not measured:
        return []
    step, share = measured[-1]["step"], made.rare
    note = (
        t("queues.now.usual", subject=rare(), step=step) if share is None
        else t("queues.now.rare", subject=rare(), step=step, share=percent(share, 0))
    )  # fmt: skip
    return [
        plates.table(
            "now",
            list(map(name, made.arms)),
            [
                {"label": t(f"queues.rare.column.{column}", subject=rare()), "digits": LOSS_DIGITS}
                for column in ("rare", "rest")
            ],
            [[row["rare"]["loss"], row["rest"]["loss"]] for row in measured[-1]["arms"]],
            title=t("queues.now.title", subject=rare()),
            note=note,
        )
    ]


# -- recorded runs -----------------------------------------------------------------------------------------------------


class Recorded(NamedTuple):
    """The arms that were recorded, and the points of every seed."""

    arms: list[lab.Arm]
    runs: list[Points]

    def last(self, get: Callable[[dict[str, Any]], float], arm: int) -> list[float]:
        """Of every seed, what `get` finds in the arm's last point."""
        return [get(points[-1]["arms"][arm]) for points in self.runs]

    def spread(self, get: Callable[[dict[str, Any]], float], arm: int) -> Spread:
        """The same, over the seeds."""
        return spread(self.last(get, arm))

    def find(self, kind: str) -> int:
        """The arm of that kind; of several the strongest."""
        return max((i for i, arm in enumerate(self.arms) if arm.kind == kind), key=lambda i: self.arms[i].strength)


def recorded(file: dict[str, Any]) -> Recorded:
    """What assets/labs/queues.json holds."""
    return Recorded([lab.Arm(*arm) for arm in file["settings"]["arms"]], [run["points"] for run in file["runs"]])


def rest_loss(row: dict[str, Any]) -> float:
    """Loss on held-out texts of the other subjects."""
    return row["rest"]["loss"]


def rare_loss(row: dict[str, Any]) -> float:
    """Loss on held-out texts of the rare subject."""
    return row["rare"]["loss"]


def best(found: Recorded, get: Callable[[dict[str, Any]], float]) -> int | None:
    """The arm whose seeds are all better than every seed of every other arm; None where there is none."""
    for i in range(len(found.arms)):
        others = [k for k in range(len(found.arms)) if k != i]
        if all(apart(found.last(get, i), found.last(get, k)) < 0 for k in others):
            return i
    return None


def verdict(found: Recorded, get: Callable[[dict[str, Any]], float], arm: int, other: int) -> str:
    """In words: whether one arm's loss lies above another's, below it, or inside the spread of the seeds."""
    how = {1: "above", -1: "below", 0: "inside"}[apart(found.last(get, arm), found.last(get, other))]
    one, two = found.spread(get, arm), found.spread(get, other)
    more, less = max(one.middle, two.middle), min(one.middle, two.middle)
    about = "" if equals((more, -less), more - less) == "=" else t("queues.verdict.about")
    return t(
        f"queues.verdict.{how}", arm=name(found.arms[arm]), other=name(found.arms[other]),
        loss=number(one.middle), than=number(two.middle), gap=f"{about}{number(more - less)}",
    )  # fmt: skip


def ranged(values: Spread, digits: int = LOSS_DIGITS) -> str:
    """Mean, and lowest to highest where they differ."""
    said = {k: number(v, digits) for k, v in values._asdict().items()}
    return said["middle"] if len(set(said.values())) == 1 else between(**said)


def balance(found: Recorded) -> plates.Plate:
    """MaxVio over the steps, mean of the seeds with their range."""
    points = found.runs[0]
    series = []
    for i, arm in enumerate(found.arms):
        seeds = np.array([[point["arms"][i]["max_vio"] for point in run] for run in found.runs])
        series.append(plates.series(name(arm), seeds.mean(0), ROLES[arm.kind], seeds.min(0), seeds.max(0)))
    ends = [ranged(found.spread(lambda row: row["max_vio"], i), 2) for i in range(len(found.arms))]
    return plates.lines(
        "balance", steps(points), series, title=t("queues.balance.title"), alt=t("queues.balance.title"),
        note=t("queues.balance.note", step=points[-1]["step"], seeds=len(found.runs), now=listed(found.arms, ends)),
        from_zero=True, digits=2,
    )  # fmt: skip


def table(found: Recorded) -> plates.Plate:
    """Every arm: loss on held-out texts, MaxVio, interns without a patient."""
    rows = [
        [
            ranged(found.spread(rest_loss, i)),
            ranged(found.spread(lambda row: row["max_vio"], i), 2),
            ranged(found.spread(lambda row: float(row["dead"]), i), 0),
        ]
        for i in range(len(found.arms))
    ]
    return plates.table(
        "arms",
        list(map(name, found.arms)),
        [{"label": t(f"queues.column.{column}")} for column in ("loss", "max_vio", "dead")],
        rows,
        title=t("queues.table.title"),
        note=t("queues.table.note", seeds=len(found.runs), step=found.runs[0][-1]["step"], interns=interns()),
    )


def published() -> plates.Plate:
    """What the V3 report measured on its own models."""
    columns = ("bias", "loss", "batch")
    return plates.table(
        "published",
        [one.size for one in lab.PUBLISHED],
        [{"label": t(f"queues.published.{column}"), "digits": LOSS_DIGITS} for column in columns],
        [[getattr(one, column) for column in columns] for one in lab.PUBLISHED],
        title=t("queues.published.title"),
        note=t("queues.published.note"),
    )


# -- the rare subject --------------------------------------------------------------------------------------------------


def crowd(shares: Sequence[float]) -> int:
    """Interns who together get half of the calls, the busiest first."""
    return int((np.cumsum(np.sort(shares)[::-1]) < 0.5).sum()) + 1


def rare_losses(found: Recorded) -> plates.Plate:
    """Every arm: loss on the rare subject, and on the others."""
    rows = [[ranged(found.spread(get, i)) for get in (rare_loss, rest_loss)] for i in range(len(found.arms))]
    return plates.table(
        "rare_loss",
        list(map(name, found.arms)),
        [{"label": t(f"queues.rare.column.{column}", subject=rare())} for column in ("rare", "rest")],
        rows,
        title=t("queues.rare.table", subject=rare()),
        note=t("queues.rare.table_note", seeds=len(found.runs)),
    )


def rare_visits(found: Recorded) -> plates.Plate:
    """Who is called for the rare subject, and who for the others: first seed, with the board and with nothing."""
    arms, points = [found.find("bias"), found.find("none")], found.runs[0]
    rows, labels, roles, halves = [], [], [], []
    for i in arms:
        for which in ("rare", "rest"):
            shares = points[-1]["arms"][i][which]["load"]
            rows.append(shares)
            labels.append(t(f"queues.rare.row.{found.arms[i].kind}_{which}", subject=rare()))
            roles.append("patient" if which == "rare" else "soft")
            halves.append(crowd(shares))
    return plates.grid(
        "rare_visits", plates.axis("part", len(rows), labels), plates.rooms(lab.CONFIG), rows, cell=28, left=128,
        roles=roles, percent=True, title=t("queues.rare.visits", subject=rare()),
        alt=t("queues.rare.visits", subject=rare()),
        note=t(
            "queues.rare.visits_note", subject=rare(), bias_rare=halves[0], bias_rest=halves[1], none_rare=halves[2],
            none_rest=halves[3], interns=lab.CONFIG.n_routed_experts,
        ),
    )  # fmt: skip


