"""Which to build? What one has and wants, what two published models would need of it, and what the labs found."""

from pages.kit.shell import require_shell

require_shell()

from collections.abc import Sequence  # noqa: E402
from dataclasses import replace  # noqa: E402
from typing import Any  # noqa: E402

import streamlit as st  # noqa: E402

from model import catalogue, choice  # noqa: E402
from model.architectures import PRECISIONS  # noqa: E402
from model.corpus import SUBJECTS  # noqa: E402
from model.labs import tasks as lab  # noqa: E402
from pages.kit import chapter, live, plates, state  # noqa: E402
from pages.kit.chapter import number  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.controls import controls_of  # noqa: E402
from pages.kit.figures import choice as figures  # noqa: E402
from pages.kit.figures import tasks  # noqa: E402
from pages.kit.words import t  # noqa: E402

MODEL, COSTS, LAB = "model/choice.py", "model/architectures.py", "model/labs/tasks.py"

visit = chapter.enter("choice")
need = figures.need()
moe, dense, every = figures.judged(need)
names = {"moe": moe.row.name, "dense": dense.row.name}

# -- what there is, and what it must do

weights, cache, needed = (value / figures.GIGA for value in (moe.weights, moe.cache, moe.needed))
made = {  # all conversations' cache as it can be worked out from what is printed
    "weights": weights, "needed": chapter.equals_tex((weights, need.served * round(cache, figures.PRINTED)), needed),
}  # fmt: skip
if not chapter.guessed(visit, "choice.guess"):  # the equation would say it
    unknown = t("choice.guess.unknown")
    made = {"weights": unknown, "needed": f"= {{{unknown}}}"}
chapter.explain(
    "choice.needs",
    code=[source(MODEL, "Need"), source(MODEL, "judge"), source(COSTS, "figures")],
    tex={
        "cards": need.cards,
        "card": int(need.card_bytes / figures.GIGA),
        "memory": int(need.memory / figures.GIGA),
        "served": need.served,
        "cache": cache,
        "name": chapter.tex_text(moe.row.name),
        **made,
    },
    memory=figures.gigabytes(need.memory),
)
control, once = controls_of("choice"), {"required": True}
left, right = st.columns(2, gap="large")
with left:
    control(st.number_input, "cards", need.cards, min_value=1, max_value=9_999, step=1)
    sizes = {int(card.bytes // figures.GIGA): card.name for card in catalogue.cards()}
    control(st.segmented_control, "card", int(need.card_bytes // figures.GIGA), sizes, wrap=True, **once)
    said = {name: t(f"choice.precision.{name}") for name in PRECISIONS}
    control(st.segmented_control, "precision", need.precision, said, **once)
    kinds = {kind: t(f"choice.tasks.{kind}") for kind in state.TASKS}
    control(st.segmented_control, "tasks", state.get("tasks"), kinds, **once)
with right:
    control(st.number_input, "served", need.served, min_value=1, max_value=99_999, step=1)
    plates.mount("choice.sliders", *figures.sliders(need))
    control(st.toggle, "tune", bool(state.get("tune")), read=int)

# -- what fits

guessed = chapter.predict(
    visit,
    "choice.guess",
    [t(f"choice.guess.{option}", **names) for option in figures.HOLDS],
    right=figures.HOLDS.index(choice.holds(moe, dense)),
    **names,
    memory=figures.gigabytes(need.memory),
    moe_needs=figures.gigabytes(moe.needed),
    dense_needs=figures.gigabytes(dense.needed),
    cards=f"{need.cards:,}",
    size=figures.card().name,
)
if guessed:
    chapter.explain(
        "choice.models",
        code=[source(COSTS, "weight_bytes"), source(COSTS, "cache_numbers"), source(COSTS, "forward_flops")],
        tex={
            "flops": moe.flops / figures.GIGA,
            "name": chapter.tex_text(moe.row.name),
            "power": number(state.get("budget") / figures.TENTHS, 1),
            "trained": moe.trained / figures.TERA,
        },
        precision=t(f"choice.precision.{need.precision}"),
        served=f"{need.served:,}",
        context=f"{need.context:,}",
    )
    plates.mount("choice.models", [figures.table(need, every)], {})

    # -- two of them against each other

    chapter.explain(
        "choice.weighed",
        code=[source(MODEL, "less"), source(MODEL, "compare"), source("model/labs/_spread.py", "apart")],
        tex={
            "more": dense.flops / figures.GIGA,
            "fewer": moe.flops / figures.GIGA,
            "times": dense.flops / moe.flops,
            "moe": chapter.tex_text(moe.row.name),
            "dense": chapter.tex_text(dense.row.name),
        },
        **names,
    )
    with st.container(horizontal=True, gap="medium"):
        for name, row, experts in (("pair_moe", moe.row, True), ("pair_dense", dense.row, False)):
            control(st.selectbox, name, row.key, {one.key: one.name for one in figures.rows(experts)})
    plates.mount("choice.weighed", [figures.weighed(moe, dense)], {})
    chapter.say("choice.so", said=figures.conclusion(need, moe, dense, every))
    chapter.say("choice.labs", task=t(f"choice.tasks.{state.get('tasks')}"), said=figures.task())
    if runs := figures.recordings(figures.asked()):
        st.caption(runs)
    with st.container(horizontal=True, gap="medium"):
        for door in figures.doors():
            st.page_link(f"pages/{door.page}.py", label=door.label, icon=":material/arrow_forward:")

# -- one task or many, trained here and now

experiment = lab.EXPERIMENT
trial = replace(experiment.live, kinds=(state.get("tasks"),))


def draw(points: Sequence[dict[str, Any]]) -> None:
    """The run so far."""
    job = live.job_of(experiment)
    if job is not None and tasks.started(points, kind := job.settings.kinds[0]):
        title = t("choice.tried.live", task=tasks.called(kind, job.seed))
        plates.mount("choice.live", [tasks.curves([points], kind, title, "live")], {})


if guessed and (file := live.record(experiment)):
    runs, was = file["runs"], file["settings"]
    chapter.explain(
        "choice.tried",
        code=[source(LAB, "run"), source(LAB, "leads"), source("model/train.py", "take_step")],
        tex=tasks.values(runs),
        tokens=f"{was['steps'] * was['rows'] * was['length']:,}",
        steps=f"{was['steps']:,}",
        seeds=len(runs),
        subjects=len(SUBJECTS),
        names=t("choice.list").join(tasks.called("single", run["seed"]) for run in runs),
    )
    for sentence in tasks.verdict(runs):
        st.markdown(sentence)
    points = [run["points"] for run in runs]
    pair = [tasks.curves(points, kind, t(f"choice.tried.{kind}"), "tried", width="half") for kind in lab.KINDS]
    plates.mount("choice.tried", [*pair, tasks.lead(points), tasks.table(runs)], {})
    st.caption(t("choice.tried.recorded", command=file["command"], commit=file["commit"], seeds=len(runs)))
if guessed:
    now = trial.steps * trial.rows * trial.length
    chapter.say("choice.tried.now", steps=trial.steps, now=f"{now:,}", task=t(f"choice.tasks.{trial.kinds[0]}"))
    live.panel(experiment, trial, draw)

# -- claim by claim

several = figures.claims()
chapter.explain(
    "choice.claims",
    code=[source(MODEL, "forgotten"), source(MODEL, "exam"), source(MODEL, "mixed_loss")],
    count=len(several),
)
plates.mount("choice.claims", [figures.verdicts()], {})
chapter.end(visit, "suits", "rich", "poor")
