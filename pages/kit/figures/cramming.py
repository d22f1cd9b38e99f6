"""The pictures of cramming."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from model.labs import cramming as lab
from model.labs._spread import Spread, spread
from pages.kit import plates
from pages.kit.chapter import number, percent
from pages.kit.state import HUNDRED
from pages.kit.words import t

Runs = Sequence[Mapping[str, Any]]
Points = Sequence[Mapping[str, Any]]

EXAMPLES = 3  # questions shown of the bank, and as many new ones
ROLES = {"moe": "intern", "dense": "desk"}
PAPERS = ("bank", "new")


class Compared(NamedTuple):
    """Both miniatures after cramming one bank, over the seeds."""

    moe_bank: Spread
    moe_new: Spread
    dense_bank: Spread
    dense_new: Spread

    @property
    def means(self) -> dict[str, str]:
        """As a sentence writes them."""
        return {name: percent(one.middle) for name, one in self._asdict().items()}

    @property
    def edges(self) -> dict[str, str]:
        """Lowest and highest on new questions."""
        return {
            f"{arm}_{edge}": percent(getattr(one, edge))
            for arm, one in (("moe", self.moe_new), ("dense", self.dense_new))
            for edge in ("low", "high")
        }


def compared(runs: Runs, size: int) -> Compared:
    """The last exams on the bank of `size`."""
    return Compared(*(spread(lab.ends(runs, size, arm, what)) for arm in lab.ARMS for what in PAPERS))


def falls(runs: Runs) -> str:
    """For every bank, whose score drops more outside of it: a list."""
    said = []
    for size in lab.BANKS:
        fell = {
            f"{arm}{edge}": number(HUNDRED * value, digits=1)  # percentage points
            for arm in lab.ARMS
            for edge, value in zip(("_low", "", "_high"), spread(lab.ends(runs, size, arm, "gap")), strict=True)
        }
        said.append(
            t(
                f"cramming.falls.{lab.verdict(runs, size, 'gap')}",
                size=f"{size:,}",
                seeds=len(runs),
                **fell,
            )
        )
    return "\n".join(f"- {one}" for one in said)


def shown(question: lab.Question) -> str:
    """A question in the visitor's language."""
    return t("cramming.sample.list", **{f"w{i}": t(f"cramming.word.{word}") for i, word in enumerate(question.words)})


def sample(size: int, seed: int) -> plates.Plate:
    """A few questions of the bank that a run with `seed` crams, and a few that are in no bank."""
    papers, every = lab.exam(lab.EXPERIMENT.recorded, size, seed), lab.questions()
    rows = [(every[i], where) for where, part in (("bank", papers.bank), ("new", papers.new)) for i in part[:EXAMPLES]]
    return plates.table(
        "sample",
        [shown(question) for question, _ in rows],
        [{"label": t(f"cramming.sample.{column}")} for column in ("read", "where")],
        [[question.text.strip(), t(f"cramming.where.{where}")] for question, where in rows],
        title=t("cramming.sample.title"),
        note=t("cramming.sample.note", size=f"{size:,}", every=f"{len(every):,}", guess=percent(lab.commonest())),
    )


def _exams(steps: Sequence[int]) -> plates.Axis:
    return plates.axis("exam", len(steps), [f"{step:,}" for step in steps])


def curves(runs: Sequence[Points], size: int, arm: str, about: str = "recorded") -> plates.Plate:
    """One miniature's scores inside and outside the bank over the steps; bands: lowest and highest of the runs."""
    each = [lab.curve(points, size, arm) for points in runs]
    rows = {what: np.array([[point[what] for point in one] for one in each]) for what in PAPERS}
    last = {what: percent(float(rows[what].mean(0)[-1])) for what in PAPERS}
    said = t(f"cramming.curves.{about}", step=f"{each[0][-1]['step']:,}", seeds=len(runs), **last)
    return plates.lines(
        f"curves_{arm}",
        _exams([point["step"] for point in each[0]]),
        [
            plates.series(
                t(f"cramming.where.{what}"),
                rows[what].mean(0),
                ROLES[arm] if what == "bank" else "patient",
                *((rows[what].min(0), rows[what].max(0)) if len(runs) > 1 else ()),
            )
            for what in PAPERS
        ],
        percent=True,
        domain=[0, 1],
        width="half",
        title=t(f"cramming.curves.{arm}", size=f"{size:,}"),
        alt=said,
        note=said,
    )


def banks(runs: Runs) -> plates.Plate:
    """New questions after every bank; the bank's own as a line across."""
    rows = [(size, arm) for size in lab.BANKS for arm in lab.ARMS]
    new = [spread(lab.ends(runs, size, arm, "new")) for size, arm in rows]
    most = lab.BANKS[-1]
    return plates.rank(
        "banks",
        [t(f"cramming.banks.{arm}", size=f"{size:,}") for size, arm in rows],
        [one.middle for one in new],
        before=[spread(lab.ends(runs, size, arm, "bank")).middle for size, arm in rows],
        low=[one.low for one in new],
        high=[one.high for one in new],
        before_words="in_bank",
        roles=[ROLES[arm] for _, arm in rows],
        percent=True,
        domain=[0, 1],
        title=t("cramming.banks.plate"),
        note=t(
            "cramming.banks.note",
            few=f"{lab.BANKS[0]:,}",
            few_new=percent(compared(runs, lab.BANKS[0]).moe_new.middle),
            many=f"{most:,}",
            many_new=percent(compared(runs, most).moe_new.middle),
        ),
    )


def equation(question: lab.Question) -> dict[str, str | float]:
    """The numbers of the rule for one question."""
    amounts = [column[word] for column, word in zip(lab.COLUMNS, question.words, strict=True)]
    return {**{f"f{i}": amount for i, amount in enumerate(amounts)}, "fine": question.answer}


def losses(runs: Runs, size: int, arm: str) -> tuple[str, str]:
    """Nats that the right answer costs at the end, in the bank and outside."""
    bank, new = (spread(lab.ends(runs, size, arm, f"{what}_loss")).middle for what in PAPERS)
    return number(bank, 2), number(new, 2)
