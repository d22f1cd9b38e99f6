"""The timetable's pictures, of recorded runs and of the one that is being trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model import ModelConfig
from model.corpus import SUBJECTS
from model.labs import timetable
from model.labs._spread import Spread, apart, spread
from pages.kit import plates
from pages.kit.chapter import number, percent
from pages.kit.figures.department import subject as named
from pages.kit.words import t

Run = Sequence[dict[str, Any]]  # the points of one run

OPTIONS = ("all", "half", "little")
BOUNDS = (0.75, 0.33)  # of what counts as nearly all of an intern's visits, and as little of them


@dataclass(frozen=True)
class Counted:
    """Runs, and what of them is looked at."""

    runs: Sequence[Run]  # of equal length; where one has to do, it is the first
    config: ModelConfig  # of the miniature
    layer: int  # among the MoE layers, from 0
    subject: int  # of SUBJECTS
    moment: int  # of the points

    @property
    def floor(self) -> int:
        """As people count."""
        return self.layer + self.config.first_k_dense_replace + 1

    @property
    def interns(self) -> int:
        """On all floors of the miniature."""
        return self.config.num_moe_layers * self.config.n_routed_experts

    @property
    def step(self) -> int:
        """Steps before the chosen moment."""
        return self.runs[0][self.moment]["step"]

    def visits(self, moment: int | None = None, run: int = 0) -> np.ndarray:
        """(S, E): how often each subject's tokens called each intern of the floor."""
        point = self.runs[run][self.moment if moment is None else moment]
        return np.asarray(point["visits"][self.layer], dtype=float)

    def shares(self, moment: int | None = None) -> np.ndarray:
        """(S, E): the same as parts of each subject's calls."""
        visits = self.visits(moment)
        return visits / visits.sum(1, keepdims=True)

    def over_seeds(self, name: str, moment: int | None = None, told: str | None = None) -> list[float]:
        """One measurement of the floor at a moment, of every run."""
        at = self.moment if moment is None else moment
        found = [run[at][name] if told is None else run[at][name][told] for run in self.runs]
        return [one[self.layer] for one in found]


def commonest(counted: Counted) -> Spread:
    """What part of an intern's visits its commonest subject makes up at the end, mean over the floor's interns."""
    last = len(counted.runs[0]) - 1
    return spread([
        float(np.nanmean(timetable.largest(counted.visits(last, run)))) for run in range(len(counted.runs))
    ])  # fmt: skip


def answer(share: float) -> int:
    """Which of OPTIONS that is."""
    high, low = BOUNDS
    return 0 if share >= high else 2 if share <= low else 1


def moments(counted: Counted) -> plates.Axis:
    """When routing was counted."""
    return plates.axis("moment", len(counted.runs[0]), [f"{point['step']:,}" for point in counted.runs[0]])


def steppers(counted: Counted) -> list[plates.Plate]:
    """Another floor of the miniature (the first have no interns), another moment."""
    every_floor = plates.axis("floor", counted.config.num_hidden_layers, offset=1)
    low = counted.config.first_k_dense_replace
    return [
        plates.stepper(every_floor, title=t("timetable.visits.floor"), low=low, width="half"),
        plates.stepper(moments(counted), title=t("timetable.visits.moment"), width="half"),
    ]


def subjects(counted: Counted) -> plates.Axis:
    """What the held-out texts are about."""
    return plates.axis("subject", len(SUBJECTS), [named(name) for name in SUBJECTS])


# -- one stream --------------------------------------------------------------------------------------------------------


def least(counted: Counted) -> tuple[int, int]:
    """(fewest interns that a step of any run gave a gradient, steps after which none was left out any more: all of them
    where some always were)."""
    steps = counted.runs[0][1:]
    fewest = [min(run[i]["trained_least"] for run in counted.runs) for i in range(1, len(steps) + 1)]
    late = [i for i, count in enumerate(fewest) if count < counted.interns]
    return min(fewest), steps[late[-1]]["step"] if late else 0


def trained(counted: Counted, **more: Any) -> plates.Plate:
    """How many interns a step teaches: mean of the steps since the moment before; the band reaches to the worst one."""
    points = [run[1:] for run in counted.runs]
    mean = np.mean([[one["trained_mean"] for one in run] for run in points], 0)
    low = np.min([[one["trained_least"] for one in run] for run in points], 0)
    fewest, since = least(counted)
    return plates.lines(
        "trained",
        plates.axis("taught", len(mean), [f"{one['step']:,}" for one in points[0]]),
        [
            plates.series(t("timetable.trained.series"), mean, "intern", low, np.maximum(mean, low)),
            plates.series(t("timetable.trained.every"), np.full(len(mean), counted.interns), "soft"),
        ],
        from_zero=True,
        digits=1,
        title=t("timetable.trained.title"),
        alt=t("timetable.trained.alt", least=fewest, interns=counted.interns),
        note=t(
            f"timetable.trained.{'late' if since == points[0][-1]['step'] else 'note'}",
            least=fewest,
            interns=counted.interns,
            since=f"{since:,}",
        ),
        **more,
    )


# -- who gets what -----------------------------------------------------------------------------------------------------


def grid(counted: Counted, **more: Any) -> plates.Plate:
    """subject x intern: where a subject's visits go."""
    shares, c = counted.shares(), counted.config
    most, at = shares[counted.subject].max(), int(shares[counted.subject].argmax())
    values = {
        "subject": named(SUBJECTS[counted.subject]),
        "intern": at,
        "share": percent(most),
        "even": percent(1 / c.n_routed_experts),
        "step": f"{counted.step:,}",
        "floor": counted.floor,
    }
    return plates.grid(
        "grid",
        subjects(counted),
        plates.axis("intern", c.n_routed_experts),
        shares,
        percent=True,
        cell=19,
        left=104,
        role="intern",
        title=t("timetable.grid.title", floor=counted.floor, step=f"{counted.step:,}"),
        alt=t("timetable.grid.alt", **values),
        note=t("timetable.grid.note", **values),
        **more,
    )


def share(counted: Counted) -> plates.Plate:
    """The chosen subject's row, beside what it was before anything was learned."""
    now, then = (timetable.spread(counted.visits(moment)[counted.subject]) for moment in (None, 0))
    words = {"subject": named(SUBJECTS[counted.subject]), "now": number(now, 1), "then": number(then, 1)}
    return plates.bars(
        "share",
        plates.axis("intern", counted.config.n_routed_experts),
        counted.shares()[counted.subject],
        before=counted.shares(0)[counted.subject],
        percent=True,
        role="intern",
        title=t("timetable.share.title", **words),
        alt=t("timetable.share.alt", **words),
        note=t("timetable.share.note", called=counted.config.num_experts_per_tok, **words),
    )


def spreads(counted: Counted) -> plates.Plate:
    """Over how many interns each subject's visits are spread."""
    now, then = (timetable.spread(counted.visits(moment)) for moment in (None, 0))
    order = np.argsort(now)
    first, last = (named(SUBJECTS[i]) for i in (order[0], order[-1]))
    return plates.rank(
        "spreads",
        [named(SUBJECTS[i]) for i in order],
        now[order],
        before=then[order],
        domain=[0, counted.config.n_routed_experts],
        digits=1,
        role="intern",
        axis=plates.axis("subject", len(SUBJECTS), indices=[int(i) for i in order]),
        title=t("timetable.spreads.title", step=f"{counted.step:,}"),
        note=t(
            "timetable.spreads.note", first=first, least=number(now.min(), 1), last=last, most=number(now.max(), 1),
            interns=counted.config.n_routed_experts,
        ),
    )  # fmt: skip


# -- chance, and the word ----------------------------------------------------------------------------------------------


def _note(counted: Counted) -> str:
    """Which words: several seeds have a spread, one has none."""
    return "note" if len(counted.runs) > 1 else "alone"


def _over_time(counted: Counted, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, lowest and highest of the runs at every moment."""
    all_of_them = np.array([counted.over_seeds(name, i) for i in range(len(counted.runs[0]))])
    return all_of_them.mean(1), all_of_them.min(1), all_of_them.max(1)


def curves(counted: Counted, names: Sequence[str], id: str, **more: Any) -> plates.Plate:
    """Normalised mutual information over the steps. The band is the spread of the seeds."""
    roles = {"subject": "intern", "word": "patient"}
    return plates.lines(
        id,
        moments(counted),
        [
            plates.series(
                t(f"timetable.curve.{name}"),
                *(mean, "soft" if "chance" in name else roles[name], low, high),
            )
            for name in names
            for mean, low, high in [_over_time(counted, f"nmi_{name}")]
        ],
        from_zero=True,
        alt=t(f"timetable.{id}.title"),
        title=t(f"timetable.{id}.title"),
        **more,
    )


def informed(counted: Counted, **more: Any) -> plates.Plate:
    """NMI of intern and subject, and what chance alone gives."""
    last = len(counted.runs[0]) - 1
    words = {
        name: number(spread(counted.over_seeds(key, moment)).middle)
        for name, key, moment in (
            ("first", "nmi_subject", 0), ("first_chance", "nmi_subject_chance", 0),
            ("last", "nmi_subject", last), ("chance", "nmi_subject_chance", last),
        )
    }  # fmt: skip
    return curves(
        counted, ("subject", "subject_chance"), "informed",
        note=t(f"timetable.informed.{_note(counted)}", floor=counted.floor, seeds=len(counted.runs), **words), **more,
    )  # fmt: skip


def beside(counted: Counted, **more: Any) -> plates.Plate:
    """The same for the word."""
    last = len(counted.runs[0]) - 1
    words = {
        name: number(spread(counted.over_seeds(f"nmi_{name}", last)).middle)
        for name in ("subject", "subject_chance", "word", "word_chance")
    }
    return curves(
        counted, ("word", "word_chance", "subject", "subject_chance"), "beside",
        note=t("timetable.beside.note", floor=counted.floor, **words), **more,
    )  # fmt: skip


def right(counted: Counted, told: str) -> Spread:
    """How many interns are guessed right by who is told that, at the chosen moment."""
    return spread(counted.over_seeds("right", told=told))


def verdict(counted: Counted) -> str:
    """word, subject or open: which of the two tells more in every run."""
    word, subject = (counted.over_seeds("right", told=told) for told in ("word", "subject"))
    return {1: "word", -1: "subject"}.get(apart(word, subject), "open")


def guesses(counted: Counted, **more: Any) -> plates.Plate:
    """How many of a token's interns one guesses right, by what one is told."""
    found = [right(counted, told) for told in timetable.TOLD]
    roles = {"word": "patient", "both": "patient", "subject": "intern"}
    return plates.rank(
        "guesses",
        [t(f"timetable.told.{told}") for told in timetable.TOLD],
        [one.middle for one in found],
        **({"low": [one.low for one in found], "high": [one.high for one in found]} if len(counted.runs) > 1 else {}),
        roles=[roles.get(told, "soft") for told in timetable.TOLD],
        percent=True,
        title=t("timetable.guesses.title", floor=counted.floor, step=f"{counted.step:,}"),
        note=t(f"timetable.guesses.{_note(counted)}", seeds=len(counted.runs)),
        **more,
    )
