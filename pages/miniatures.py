"""Small hospitals: four ways of building, of one active size, raised on the same tokens."""

from pages.kit.shell import require_shell

require_shell()

from collections.abc import Sequence  # noqa: E402
from dataclasses import replace  # noqa: E402
from typing import Any  # noqa: E402

import streamlit as st  # noqa: E402

from model.labs import miniatures as lab  # noqa: E402
from pages.kit import chapter, live, plates, state  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.controls import control  # noqa: E402
from pages.kit.figures import miniatures  # noqa: E402
from pages.kit.words import t  # noqa: E402

LAB, FAMILIES, MODEL = "model/labs/miniatures.py", "model/families.py", "model/deepseek_v3.py"
TRAIN, SPREAD, COSTS = "model/train.py", "model/labs/_spread.py", "model/architectures.py"

visit = chapter.begin("miniatures")
experiment = lab.EXPERIMENT
first, second = miniatures.wanted(experiment.live)
trial = replace(experiment.live, arms=(first, second))


def draw(points: Sequence[dict[str, Any]]) -> None:
    """The two of the run that is shown, which need not be those that are chosen now."""
    job = live.job_of(experiment)
    if job is not None and (drawn := miniatures.live(points, job.settings)):
        plates.mount("miniatures.live", drawn, {})


if not (file := live.record(experiment)):
    live.without_record(experiment, trial, draw)
found, settings = miniatures.recorded(file), experiment.recorded
seeds, steps, tokens = len(found.runs), f"{settings.steps:,}", f"{found.tokens[-1]:,}"

# -- how they are built

facts = miniatures.facts()
chapter.explain(
    "miniatures.sizes",
    code=[source(LAB, "arm"), source(FAMILIES, "Family"), source(FAMILIES, "SoftmaxRouter.forward")],
    tex={"scale": lab.arm("v3").config.routed_scaling_factor, **facts, **{a: lab.parameters(a)[1] for a in lab.STYLES}},
    **facts,
)
plates.mount("miniatures.sizes", [miniatures.built(lab.STYLES)], {})

# -- one sentence through each

passed, at = miniatures.through(visit)
kept = [source(FAMILIES, "GroupedQueryAttention.kept"), source(MODEL, "MultiHeadLatentAttention.latent")]
named = {"token": visit.name(), "tokens": tokens}
chapter.explain("miniatures.sentence", code=[source(FAMILIES, "walk"), *kept], tex=miniatures.notes(), **named)
answers = miniatures.agreement(passed, at)
chapter.say(
    f"miniatures.sentence.{'same' if len(answers) == 1 else 'differ'}",
    token=visit.name(),
    answers=miniatures.listed([t("miniatures.quoted", token=one) for one in answers]),
    number=len(answers),
)
plates.mount("miniatures.sentence", [*miniatures.guesses(passed, at), miniatures.costs(passed)], {})

# -- what they reached

best, words = miniatures.verdict(found, lab.STYLES)
guessed = chapter.predict(
    visit,
    "miniatures.best",
    [*map(miniatures.name, lab.STYLES), t("miniatures.best.nobody")],
    right=lab.STYLES.index(found.leaders(lab.STYLES)[0]) if best == "one" else len(lab.STYLES),
    every_token=False,
    tokens=tokens,
    seeds=seeds,
    verdict=t(f"miniatures.verdict.{best}", seeds=seeds, **words),
)
if guessed:
    chapter.explain(
        "miniatures.curves",
        code=[source(LAB, "run"), source(LAB, "leaders"), source(SPREAD, "apart"), source(COSTS, "training_flops")],
        tex=miniatures.spent(found),
        seeds=seeds,
        steps=steps,
        tokens=tokens,
        command=file["command"],
        commit=file["commit"],
    )  # fmt: skip
    plates.mount(
        "miniatures.curves",
        [
            miniatures.over_tokens(found, lab.STYLES, first=found.late, width="half"),
            miniatures.over_flops(found, lab.STYLES, first=found.late, width="half"),
            miniatures.reached(found, lab.STYLES),
        ],
        {},
    )

    # -- one thing changed at a time

    changed = ("v3", *lab.ABLATIONS)
    chapter.explain(
        "miniatures.changed",
        code=[source(LAB, "arm"), source(TRAIN, "nudge_biases"), source(TRAIN, "sequence_balance_loss")],
        tex={arm: found.spread(arm).middle for arm in changed},
        **miniatures.changes(),
    )
    for question, with_it, without in miniatures.PAIRS:
        kind, values = miniatures.pair(found, with_it, without)
        chapter.say(f"miniatures.pair.{question}_{kind}", seeds=seeds, **values)
    kind, words = miniatures.verdict(found, miniatures.BALANCED, miniatures.kept_busy)
    chapter.say(f"miniatures.balance.{kind}", seeds=seeds, **words)
    plates.mount(
        "miniatures.changed",
        [
            miniatures.ranking(found, changed),
            miniatures.over_tokens(found, miniatures.BALANCED, "max_vio", width="half"),
            miniatures.uneven(found, changed),
        ],
        {},
    )

# -- two of them, now

read = trial.steps * trial.rows * trial.length
chapter.explain(
    "miniatures.live",
    code=[source(TRAIN, "take_step"), source(LAB, "Settings")],
    tex={"steps": trial.steps, "rows": trial.rows, "length": trial.length, "all": read},
    steps=f"{trial.steps:,}",
    tokens=f"{read:,}",
    recorded=tokens,
    seeds=seeds,
)  # fmt: skip
if not state.hidden("arms"):
    columns = st.columns(2, gap="large")
    for place, (column, arm, other) in enumerate(zip(columns, (first, second), (second, first), strict=True)):
        control(
            column.selectbox, "arms", arm, t(f"miniatures.live.{'second' if place else 'first'}"),
            {one: miniatures.name(one) for one in lab.ARMS if one != other}, key=miniatures.LIVE[place],
            read=miniatures.both,
        )  # fmt: skip

live.panel(experiment, trial, draw)
st.caption(t("miniatures.recorded", command=file["command"], commit=file["commit"], seeds=seeds))
chapter.end(visit, "doctor", "eight", "front", "nurse", "cheap")
