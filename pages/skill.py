"""A new skill: a hospital that never saw a sum is taught sums. What does it gain, and what does it forget?"""

from pages.kit.shell import require_shell

require_shell()

import math  # noqa: E402
from collections.abc import Mapping, Sequence  # noqa: E402
from dataclasses import replace  # noqa: E402
from typing import Any  # noqa: E402

import streamlit as st  # noqa: E402

from model.corpus import SUBJECTS  # noqa: E402
from model.labs import skill as lab  # noqa: E402
from model.labs._spread import spread  # noqa: E402
from pages.kit import chapter, live, plates, state  # noqa: E402
from pages.kit.chapter import number, percent  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.controls import control  # noqa: E402
from pages.kit.figures import skill  # noqa: E402
from pages.kit.words import t  # noqa: E402

LAB = "model/labs/skill.py"

visit = chapter.enter("skill")
experiment = lab.EXPERIMENT
arms = skill.chosen_arms(state.get("arms"))
trial = replace(experiment.live, arms=arms)


def draw(points: Sequence[Mapping[str, Any]]) -> None:
    """The lessons so far."""
    if any(point["part"] == "skill" for point in points):  # before the first lesson nobody has gained or lost
        taken = tuple(points[0]["taught"])
        plates.mount("skill.live", [skill.curves([points], taken, what) for what in skill.MEASURES], {})


if not (record := live.record(experiment)):
    live.without_record(experiment, trial, draw)
runs, settings = record["runs"], experiment.recorded
moe = settings.config("moe")

# -- school

before = skill.before(runs)
chapter.explain(
    "skill.school",
    code=[source(LAB, "documents"), source(LAB, "_school")],
    tex=before,
    steps=f"{settings.school:,}",
    tokens=f"{settings.school * settings.school_rows * settings.length:,}",
    subjects=len(SUBJECTS) - 1,
    **before,
)
plates.mount("skill.school", [skill.school(runs)], {})

# -- lessons

better = skill.verdict(runs, "moe", "dense", "gained")
forgets = skill.verdict(runs, "moe", "dense", "lost")
asked: dict[str, Any] = {"steps": f"{settings.steps:,}", "seeds": len(runs)}
for arm in ("moe", "dense"):
    for what in ("gained", "lost"):
        one = spread(skill.ends(runs, arm, what))
        for part, value in one._asdict().items():
            asked[f"{arm}_{what}_{part}"] = number(value, skill.DIGITS)
chapter.explain(
    "skill.lessons",
    code=[source(LAB, "taught"), source(LAB, "teach_only")],
    tex={"rate": f"{settings.learning_rate:g}"},
    steps=f"{settings.steps:,}",
    tokens=f"{settings.rows * settings.length:,}",
)
options = ("dense", "moe", "none")
guessed = chapter.predict(
    visit, "skill.learns", [t(f"skill.learns.{one}") for one in options], right=options.index(better), **asked
)
if guessed:
    chapter.say(f"skill.learned.{better}", **asked)
    chapter.say(f"skill.forgot.{forgets}", **asked)
    paths = [run["points"] for run in runs]
    plates.mount("skill.lessons", [skill.curves(paths, lab.ARMS, what) for what in skill.MEASURES], {})

# -- the price

    gain = lab.common_gain(runs)
    lost = {arm: skill.priced(runs, arm, gain) for arm in lab.ARMS}
    prices = {arm: number(one.middle, skill.DIGITS) for arm, one in lost.items()}
    chapter.explain(
        "skill.price",
        code=[source(LAB, "lost_at"), source(LAB, "common_gain")],
        tex={"gain": gain, **{arm: one.middle for arm, one in lost.items()}},
        gain=number(gain, skill.DIGITS),
        **prices,
    )
    plates.mount("skill.price", [skill.price(runs), skill.table(runs)], {})
    st.markdown(skill.compared(runs))

# -- awake

start = lab.start_of(runs[0]["points"])
chapter.explain(
    "skill.awake",
    code=[source(LAB, "calls"), source(LAB, "awake")],
    tex={"share": settings.share},
    share=percent(settings.share, 0),
    woken=skill.listed(start),
    even=math.ceil(settings.share * moe.n_routed_experts),
    interns=moe.n_routed_experts,
    taught=f"{start['taught']['awake']:,}",
    all=f"{start['taught']['moe']:,}",
)
plates.mount("skill.awake", [skill.awake(runs, moe.num_hidden_layers)], {})

# -- now

chapter.explain(
    "skill.live", code=[source(LAB, "run", start="start = {kind", end="point = None")], steps=f"{trial.steps:,}",
    recorded=f"{settings.steps:,}", arms=len(arms),
)  # fmt: skip
control(
    st.pills, "arms", list(arms), t("skill.arms"), lab.ARMS, selection_mode="multi", format_func=skill.name,
    key="arms_switch", read=skill.in_order, tell=state.switched,
)  # fmt: skip

live.panel(experiment, trial, draw)
st.caption(t("skill.recorded", command=record["command"], commit=record["commit"], seeds=len(runs)))
chapter.end(visit, "hard", "easy")
