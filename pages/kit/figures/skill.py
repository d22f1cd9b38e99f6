"""The pictures of a new skill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model.labs import skill as lab
from model.labs._spread import Spread, apart, spread
from pages.kit import plates
from pages.kit.chapter import between, number
from pages.kit.controls import joined
from pages.kit.words import t

Runs = Sequence[Mapping[str, Any]]
Points = Sequence[Mapping[str, Any]]

DIGITS = 2
ROLES = {"dense": "desk", "moe": "ink", "interns": "intern", "receptionist": "crowding", "awake": "patient"}
KIND_ROLES = {"dense": "desk", "moe": "intern"}
MEASURES = ("new", "old")
PAIRS = (("dense", "moe"), ("awake", "dense"), ("awake", "moe"), ("awake", "interns"))  # whose prices are compared
LIVE_ARMS = ("dense", "moe", "awake")  # before the visitor chooses


def name(arm: str) -> str:
    """What a way of teaching is called."""
    return t(f"skill.arm.{arm}")


def chosen_arms(link: str | None) -> tuple[str, ...]:
    """The arms that a link names, in the usual order; those of LIVE_ARMS where it names none."""
    wanted = (link or "").split(".")
    return tuple(arm for arm in lab.ARMS if arm in wanted) or LIVE_ARMS


def in_order(several: Sequence[str]) -> str | None:
    """Arms that were chosen, as a link names them."""
    return joined([arm for arm in lab.ARMS if arm in several])


# -- school ------------------------------------------------------------------------------------------------------------


def begin(runs: Runs, kind: str, what: str) -> Spread:
    """What the miniatures of that kind can when teaching begins."""
    return spread([lab.start_of(run["points"])[kind][what] for run in runs])


def before(runs: Runs) -> dict[str, str]:
    """All of that, as sentences write it."""
    return {
        f"{kind}_{what}": number(begin(runs, kind, what).middle, DIGITS) for kind in lab.KINDS for what in MEASURES
    }


def school(runs: Runs) -> plates.Plate:
    """Held-out losses while the miniatures read everything but the new subject."""
    marks = [point["step"] for point in runs[0]["points"] if point["part"] == "school" and point["arm"] == "moe"]
    several = []
    for what in MEASURES:
        for kind in lab.KINDS:
            rows = np.array(
                [[p[what] for p in run["points"] if p["part"] == "school" and p["arm"] == kind] for run in runs]
            )
            several.append(
                plates.series(
                    t(f"skill.school.{kind}_{what}"),
                    rows.mean(0),
                    KIND_ROLES[kind] if what == "old" else {"moe": "patient", "dense": "crowding"}[kind],
                    rows.min(0),
                    rows.max(0),
                )
            )
    values = before(runs)
    return plates.lines(
        "school",
        plates.axis("schooling", len(marks), [f"{step:,}" for step in marks]),
        several,
        digits=DIGITS,
        title=t("skill.school.plate"),
        alt=t("skill.school.note", **values),
        note=t("skill.school.note", **values),
    )


# -- teaching ----------------------------------------------------------------------------------------------------------


def ends(runs: Runs, arm: str, what: str) -> list[float]:
    """`what` (new, old, gained, lost) of an arm after its last lesson, for every run."""
    return [getattr(lab.lessons(run["points"], arm)[-1], what) for run in runs]


def verdict(runs: Runs, first: str, second: str, what: str) -> str:
    """Which of two arms has more of `what` in every run: its name, or "none" where they overlap."""
    return {1: first, -1: second, 0: "none"}[apart(ends(runs, first, what), ends(runs, second, what), DIGITS)]


def curves(runs: Sequence[Points], arms: Sequence[str], what: str) -> plates.Plate:
    """Held-out loss on the new subject, or on the old ones, over the lessons; bands: lowest and highest of the runs."""
    paths = {arm: [lab.lessons(points, arm) for points in runs] for arm in arms}
    steps = max((path for each in paths.values() for path in each), key=len)
    several = []
    for arm, each in paths.items():
        rows = np.full((len(each), len(steps)), np.nan)
        for row, path in zip(rows, each, strict=True):
            row[: len(path)] = [getattr(lesson, what) for lesson in path]
        band = (rows.min(0), rows.max(0)) if len(each) > 1 else ()
        several.append(plates.series(name(arm), rows.mean(0), ROLES[arm], *band))
    change = {"new": "gained", "old": "lost"}[what]
    last = {arm: float(np.mean([getattr(path[-1], change) for path in each])) for arm, each in paths.items()}
    most, least = max(last, key=last.__getitem__), min(last, key=last.__getitem__)
    said = t(
        f"skill.curves.{what}_note",
        most=name(most),
        most_nats=number(last[most], DIGITS),
        least=name(least),
        least_nats=number(last[least], DIGITS),
    )
    return plates.lines(
        f"curves_{what}",
        plates.axis("lesson", len(steps), [f"{lesson.step:,}" for lesson in steps]),
        several,
        digits=DIGITS,
        width="half",
        title=t(f"skill.curves.{what}"),
        alt=said,
        note=said,
    )


def price(runs: Runs) -> plates.Plate:
    """What each arm has lost of the old at the moment when it had gained as much as every arm gains some time."""
    gain = lab.common_gain(runs)
    lost = {arm: priced(runs, arm, gain) for arm in lab.ARMS}
    order = sorted(lost, key=lambda arm: lost[arm].middle)
    return plates.rank(
        "price",
        [name(arm) for arm in order],
        [lost[arm].middle for arm in order],
        low=[lost[arm].low for arm in order],
        high=[lost[arm].high for arm in order],
        roles=[ROLES[arm] for arm in order],
        digits=DIGITS,
        title=t("skill.price.plate", gain=number(gain, DIGITS)),
        note=t(
            "skill.price.note",
            least=name(order[0]),
            least_nats=number(lost[order[0]].middle, DIGITS),
            most=name(order[-1]),
            most_nats=number(lost[order[-1]].middle, DIGITS),
        ),
    )


def priced(runs: Runs, arm: str, gain: float) -> Spread:
    """What an arm has lost when it has gained `gain`, over the runs."""
    return spread(_priced(runs, arm, gain))


def _priced(runs: Runs, arm: str, gain: float) -> list[float]:
    lost = [lab.lost_at(lab.lessons(run["points"], arm), gain) for run in runs]
    return [one for one in lost if one is not None]


def cheaper(runs: Runs, first: str, second: str) -> str:
    """Which of two arms loses less for that equal gain in every run: its name, or "none"."""
    gain = lab.common_gain(runs)
    return {-1: first, 1: second, 0: "none"}[apart(_priced(runs, first, gain), _priced(runs, second, gain), DIGITS)]


def ranged(found: Spread) -> str:
    """A mean with its lowest and highest."""
    return between(**{part: number(value, DIGITS) for part, value in found._asdict().items()})


def compared(runs: Runs) -> str:
    """Who pays less for the equal gain, pair by pair: a list."""
    gain, said = lab.common_gain(runs), []
    for pair in PAIRS:
        less = cheaper(runs, *pair)
        first, second = pair[::-1] if less == pair[1] else pair
        said.append(
            t(
                f"skill.cheaper.{'none' if less == 'none' else 'less'}",
                first=name(first),
                second=name(second),
                first_nats=ranged(priced(runs, first, gain)),
                second_nats=ranged(priced(runs, second, gain)),
                seeds=len(runs),
            )
        )
    return "\n".join(f"- {one}" for one in said)


def table(runs: Runs) -> plates.Plate:
    """All arms after their last lesson."""

    def taught(arm: str) -> str:
        counts = sorted({lab.start_of(run["points"])["taught"][arm] for run in runs})
        return "–".join(f"{count:,}" for count in counts[:: max(1, len(counts) - 1)])

    return plates.table(
        "table",
        [name(arm) for arm in lab.ARMS],
        [{"label": t(f"skill.table.{column}")} for column in ("taught", "gained", "lost")],
        [
            [taught(arm), *(ranged(spread(ends(runs, arm, what))) for what in ("gained", "lost"))]
            for arm in lab.ARMS
        ],
        title=t("skill.table.title"),
        note=t("skill.table.note", seeds=len(runs)),
    )


# -- awake -------------------------------------------------------------------------------------------------------------


def awake(runs: Runs, floors: int) -> plates.Plate:
    """How the new subject's patients are spread over the interns of the first run, and which interns are woken."""
    start = lab.start_of(runs[0]["points"])
    calls = np.array(start["calls"], dtype=float)
    mask = np.zeros(calls.shape, dtype=np.uint8)
    for row, woken in zip(mask, start["awake"], strict=True):
        row[woken] = plates.LIT
    layers, interns = calls.shape
    return plates.grid(
        "awake",
        plates.axis("floor", layers, offset=floors - layers + 1),
        plates.axis("intern", interns),
        calls / calls.sum(1, keepdims=True),
        mask=mask,
        from_below=True,
        percent=True,
        role="intern",
        cell=34,
        lit=t("skill.awake.lit"),
        title=t("skill.awake.plate"),
        alt=t("skill.awake.note", woken=listed(start), interns=interns),
        note=t("skill.awake.note", woken=listed(start), interns=interns),
    )


def listed(start: Mapping[str, Any]) -> str:
    """How many interns are awake on every floor."""
    return t("skill.awake.and").join(str(len(woken)) for woken in start["awake"])
