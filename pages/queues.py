"""Queues: who is overrun and who starves, and what it costs to keep the load even."""

from pages.kit.shell import require_shell

require_shell()

from collections.abc import Sequence  # noqa: E402
from functools import partial  # noqa: E402
from typing import Any  # noqa: E402

import streamlit as st  # noqa: E402

from model.labs import queues as lab  # noqa: E402
from model.labs._spread import by_chance  # noqa: E402
from pages.kit import chapter, live, plates, state  # noqa: E402
from pages.kit.chapter import number, percent  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.controls import control, joined, named  # noqa: E402
from pages.kit.figures import queues  # noqa: E402
from pages.kit.words import t  # noqa: E402

LAB, TRAIN = "model/labs/queues.py", "model/train.py"

visit = chapter.enter("queues")
experiment, c = lab.EXPERIMENT, lab.CONFIG
guessed = chapter.guessed(visit, "queues.best")
wanted = queues.wanted(experiment.live)
settings = queues.settings(experiment.live, wanted)


def draw(points: Sequence[dict[str, Any]]) -> None:
    """The arms of the run that is shown, which need not be those that are set now."""
    job = live.job_of(experiment)
    if points and job is not None:
        plates.mount("queues.live", queues.live(points, job.settings, guessed), {"room": None}, picks=[])


if not (file := live.record(experiment)):
    live.without_record(experiment, settings, draw)
found = queues.recorded(file)
steps, seeds = experiment.recorded.steps, len(found.runs)

# -- the board

none, board = found.find("none"), found.find("bias")
first = found.runs[0][-1]["arms"]
busiest = max(first[none]["load"])
mean = sum(first[none]["load"]) / c.n_routed_experts
speed, weight = wanted["nudge"], wanted["aux"]
chapter.explain(
    "queues.board",
    code=[source(TRAIN, "nudge_biases"), source(TRAIN, "sequence_balance_loss")],
    tex={"speed": f"{speed:g}", "weight": f"{weight:g}", "busiest": int(busiest), "mean": f"{mean:g}",
         "vio": busiest / mean - 1},
    steps=steps,
    busiest=f"{int(busiest):,}",
    mean=number(mean, 0),
    times=number(busiest / mean, 1),
    low=sum(calls < mean / 2 for calls in first[none]["load"]),
    rooms=c.n_routed_experts,
    idle=first[none]["dead"],
    interns=queues.interns(),
    speed=f"{speed:g}",
    weight=f"{weight:g}",
)  # fmt: skip
plates.mount("queues.board", queues.loads(found.runs[0], found.arms, [none, board]), {"room": None}, picks=[])

# -- train it

most = c.n_routed_experts // c.num_experts_per_tok - 1  # the worst MaxVio: the same ones are chosen by everybody
chapter.explain(
    "queues.live",
    code=[source(LAB, "run"), source(TRAIN, "take_step")],
    tex={"experts": c.n_routed_experts, "k": c.num_experts_per_tok, "most": most},
    floors=c.num_moe_layers,
    rooms=c.n_routed_experts,
    k=c.num_experts_per_tok,
    steps=settings.steps,
    tokens=f"{settings.steps * settings.rows * settings.length:,}",
    most=most,
    interns=queues.interns(),
    dead=number(found.spread(lambda row: float(row["dead"]), found.find("wrong")).middle, 0),
    vio=number(found.spread(lambda row: row["max_vio"], found.find("wrong")).middle, 2),
)  # fmt: skip
if not state.hidden("training"):
    control(
        st.pills, "arms", wanted["arms"], t("queues.arms"), lab.KINDS, selection_mode="multi", key="queues.arms",
        format_func=named("queues.kind"), read=joined,
    )  # fmt: skip
    columns = st.columns(len(queues.SLIDERS), gap="large")
    for column, (key, (options, unit)) in zip(columns, queues.SLIDERS.items(), strict=True):
        control(
            column.select_slider, key, wanted[key], t(f"queues.{key}"), options, format_func="{:g}".format,
            key=f"queues.{key}", read=partial(queues.whole, unit),
        )  # fmt: skip
    rare = t("queues.rare_switch", subject=queues.rare(), share=percent(experiment.live.rare, 0))
    control(st.toggle, "rare", wanted["rare"], rare, key="queues.rare", read=int)

live.panel(experiment, settings, draw)

# -- what it costs

best = queues.best(found, queues.rest_loss)
options = [*map(queues.name, found.arms), t("queues.best.nobody")]
said = "inside" if best is None else "one"
guessed = chapter.predict(
    visit,
    "queues.best",
    options,
    right=len(found.arms) if best is None else best,
    steps=steps,
    seeds=seeds,
    verdict=t(f"queues.best.{said}", arm=queues.name(found.arms[best or 0]), seeds=seeds),
)
if guessed:
    strong = found.find("loss")
    chapter.explain(
        "queues.cost",
        code=[source(LAB, "Settings"), source(LAB, "measure"), source("model/labs/_spread.py", "apart")],
        tex={kind: found.spread(queues.rest_loss, found.find(kind)).middle for kind in ("loss", "bias", "none")},
        seeds=seeds,
        chance=percent(by_chance(seeds), 0),
        steps=steps,
        command=file["command"],
        commit=file["commit"],
    )
    for one, other in ((strong, board), (strong, none), (board, none), (found.find("wrong"), board)):
        st.markdown(queues.verdict(found, queues.rest_loss, one, other))
    plates.mount("queues.cost", [queues.table(found), queues.balance(found), queues.published()], {})

    # -- the rare disease

    share = experiment.recorded.rare
    chapter.explain(
        "queues.rare",
        code=[source(LAB, "documents"), source(LAB, "unseen")],
        tex={"share": share},
        subject=queues.rare(),
        share=percent(share, 0),
    )
    st.markdown(queues.verdict(found, queues.rare_loss, board, none))
    plates.mount("queues.rare", [queues.rare_visits(found), queues.rare_losses(found)], {"room": None}, picks=[])

chapter.end(visit, "balance", "banks", "rare")
