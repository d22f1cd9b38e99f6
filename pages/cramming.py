"""Cramming: a bank of questions by heart, and what is left outside of it."""

from pages.kit.shell import require_shell

require_shell()

from collections.abc import Mapping, Sequence  # noqa: E402
from dataclasses import replace  # noqa: E402
from typing import Any  # noqa: E402

import streamlit as st  # noqa: E402

from model.costs import parameters  # noqa: E402
from model.labs import cramming as lab  # noqa: E402
from pages.kit import chapter, live, plates, state  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.controls import control  # noqa: E402
from pages.kit.figures import cramming  # noqa: E402
from pages.kit.words import t  # noqa: E402

LAB = "model/labs/cramming.py"
TALK = lab.BANKS[1]  # the driving test's bank

visit = chapter.enter("cramming")
experiment = lab.EXPERIMENT
size = state.get("bank") if state.get("bank") in lab.BANKS else TALK
trial = replace(experiment.live, questions=(size,))


def draw(points: Sequence[Mapping[str, Any]]) -> None:
    """The run's exams so far."""
    begun = {point["arm"] for point in points}
    plates.mount(
        "cramming.live",
        [cramming.curves([points], points[0]["questions"], arm, "live") for arm in lab.ARMS if arm in begun],
        {},
    )


if not (record := live.record(experiment)):
    live.without_record(experiment, trial, draw)
runs, settings = record["runs"], experiment.recorded
found = cramming.compared(runs, size)

# -- the exam

first = lab.questions()[int(lab.exam(settings, size, experiment.seeds[0]).bank[0])]
chapter.explain(
    "cramming.exam",
    code=[source(LAB, "questions"), source(LAB, "mark")],
    tex=cramming.equation(first),
    paper=lab.PAPER,
    talk=TALK,
    question=cramming.shown(first),
    fine=first.answer,
    every=f"{len(lab.questions()):,}",
)
control(
    st.segmented_control, "bank", size, t("cramming.bank"), lab.BANKS, format_func="{:,}".format, key="bank_switch",
    required=True, tell=state.switched,
)  # fmt: skip
plates.mount("cramming.exam", [cramming.sample(size, experiment.seeds[0])], {})

# -- crammed

moe, dense = (parameters(settings.config(arm)) for arm in lab.ARMS)
talk = cramming.compared(runs, TALK)
result = lab.verdict(runs, TALK, "new")
asked = {"size": TALK, "steps": f"{settings.steps:,}", "seeds": len(runs), **talk.means, **talk.edges}
chapter.explain(
    "cramming.crammed",
    code=[source(LAB, "reading"), source(LAB, "run")],
    tex={"steps": settings.steps, "rows": settings.rows, "size": size, "times": settings.steps * settings.rows // size},
    steps=f"{settings.steps:,}",
    size=f"{size:,}",
    rows=settings.rows,
    times=f"{settings.steps * settings.rows // size:,}",
    moe_active=f"{moe.active:,}",
    dense_active=f"{dense.active:,}",
    moe_all=f"{moe.main:,}",
    dense_all=f"{dense.main:,}",
)
options = ("moe", "dense", "none")
guessed = chapter.predict(
    visit, "cramming.who", [t(f"cramming.who.{one}") for one in options], right=options.index(result), **asked
)
if guessed:
    chapter.say(f"cramming.verdict.{result}", **asked)
    points = [run["points"] for run in runs]
    plates.mount("cramming.crammed", [cramming.curves(points, size, arm) for arm in lab.ARMS], {})

# -- few and many

    (moe_bank, moe_new), (dense_bank, dense_new) = (cramming.losses(runs, size, arm) for arm in lab.ARMS)
    chapter.explain(
        "cramming.banks",
        code=[source(LAB, "verdict"), source("model/labs/_spread.py", "apart")],
        tex={name: one.middle for name, one in found._asdict().items()},
        tokens=f"{settings.steps * settings.rows * settings.training.length:,}",
        size=f"{size:,}",
        moe_bank=moe_bank,
        moe_new=moe_new,
        dense_bank=dense_bank,
        dense_new=dense_new,
        **{f"share_{name}": share for name, share in found.means.items()},
    )
    plates.mount("cramming.banks", [cramming.banks(runs)], {})
    st.markdown(cramming.falls(runs))
    cost = lab.verdict(runs, size, "new_loss")
    chapter.say(f"cramming.cost.{cost}", size=f"{size:,}", seeds=len(runs), moe=moe_new, dense=dense_new)

# -- now

chapter.explain(
    "cramming.live", code=[source(LAB, "CrammingSettings")], size=f"{size:,}", steps=f"{trial.steps:,}",
    recorded=f"{settings.steps:,}",
)  # fmt: skip

live.panel(experiment, trial, draw)
st.caption(t("cramming.recorded", command=record["command"], commit=record["commit"], seeds=len(runs)))
chapter.end(visit, "small", "niche", "sets")
