"""Construction: how a house of so many interns is spread over cards, and what is done about the busiest card."""

from pages.kit.shell import require_shell

require_shell()

from collections.abc import Sequence  # noqa: E402
from dataclasses import replace  # noqa: E402
from typing import Any  # noqa: E402

import streamlit as st  # noqa: E402

from model import placement  # noqa: E402
from model.catalogue import find  # noqa: E402
from model.labs import queues as lab  # noqa: E402
from pages.kit import chapter, live, plates, state  # noqa: E402
from pages.kit.chapter import number  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.controls import control, named  # noqa: E402
from pages.kit.figures import construction, queues  # noqa: E402
from pages.kit.words import t  # noqa: E402

PLACEMENT, ARCHITECTURES, TRAIN = "model/placement.py", "model/architectures.py", "model/train.py"
GB = construction.GB

visit = chapter.begin("construction", floors="departments")
trace, c = visit.trace, visit.trace.config
picked = {"token": visit.token, "floor": visit.floor}
v3 = find(construction.V3).architecture

one = construction.plan()
held = placement.on_card(v3, one)
chapter.explain(
    "construction.plan",
    code=[source(PLACEMENT, "places"), source(PLACEMENT, "on_card")],
    tex={"experts": construction.owned(v3, one), "spare": one.spare,
         "cards": one.cards, "seats": construction.seats(v3, one),
         "routed": held.routed / GB, "shared": held.shared / GB, "attention": held.attention / GB,
         "rest": held.rest / GB, "total": held.total / GB,
         "sum": chapter.equals_tex(
             (part / GB for part in (held.routed, held.shared, held.attention, held.rest)), held.total / GB
         ),
         "left": (construction.CARD - held.total) / GB, "card": f"{construction.CARD / GB:.0f}"},
    rooms=v3.n_routed_experts, floors=v3.num_moe_layers, seats=construction.seats(v3, one), cards=one.cards,
    weights=number(held.total / GB, digits=1), tensor=one.tensor_parallel,
    total=number(construction.doctor(construction.V3, "fp8").bytes / GB, digits=0),
    card=number(construction.CARD / GB, digits=0),
)  # fmt: skip
control(
    st.segmented_control, "plan", one.name, t("construction.plan.label"), state.PLANS,
    format_func=named("construction.name"), key="construction.plan", required=True, tell=construction.planned,
)  # fmt: skip
plates.mount(
    "construction.plan",
    [
        plates.stepper(plates.axis("spread", construction.MOST_CARDS, offset=1), title=t("construction.plan.spread")),
        plates.stepper(plates.axis("spare", construction.SPARES[-1] + 1), title=t("construction.plan.spare")),
        construction.floor_plan(one),
        construction.plan_facts(one),
        construction.on_cards(one),
    ],
    {"spread": one.cards, "spare": one.spare},
)

found = construction.measured(visit)
run = placement.PLANS["run"]
usual = construction.balance(found.load, found, run, c)
dealt, packed, copied = (float(way.mean()) for way in (usual.numbered, usual.packed, usual.spare))
guessed = chapter.predict(
    visit,
    "construction.helps",
    [t("construction.helps.seats"), t("construction.helps.copies")],
    right=int(packed - copied > dealt - packed),
    every_token=False,
    every_floor=False,
    cards=run.cards,
    spare=run.spare,
    dealt=number(dealt, digits=2),
    packed=number(packed, digits=2),
    copied=number(copied, digits=2),
)
if guessed:
    own = construction.sentence_load(visit)
    here, now = (construction.balance(load, found, one, c) for load in (found.load, own))
    known = placement.imbalance(
        construction.placed(own, one, c, one.spare).busy(construction.with_everybody(own, one, c))
    )
    at = visit.department
    chapter.explain(
        "construction.balance",
        code=[source(PLACEMENT, "copies"), source(PLACEMENT, "pack"), source(PLACEMENT, "imbalance")],
        tex={"cards": one.cards, "spare": one.spare, "numbered": float(here.numbered[at]), "lot": float(here.lot[at]),
             "packed": float(here.packed[at]), "copied": float(here.spare[at]), "floor": visit.floor},
        floor=visit.floor, cards=one.cards, spare=one.spare, numbered=number(float(here.numbered[at]), digits=2),
        packed=number(float(here.packed[at]), digits=2), copied=number(float(here.spare[at]), digits=2),
        lot=number(float(here.lot[at]), digits=2),
    )  # fmt: skip
    plates.mount(
        "construction.balance",
        [
            construction.cards(visit, found, one), construction.seating(visit, found, one),
            construction.curve(visit, found, one), construction.ways(visit, found, here, now, known, one),
        ],
        picked,
    )  # fmt: skip
else:
    st.caption(t("construction.helps.first"))

# -- trained here and now: does it need spare interns?

experiment, spread = lab.EXPERIMENT, construction.seats_trained()
trial = replace(experiment.live, rare=None, arms=tuple(arm for arm in experiment.live.arms if arm.kind != "loss"))


def draw(points: Sequence[dict[str, Any]]) -> None:
    """The run so far."""
    if points:
        plates.mount("construction.live", construction.trained([points], dict(enumerate(trial.arms))), {})


if guessed and (file := live.record(experiment)):
    before = queues.recorded(file)
    arms = {before.find(arm.kind): arm for arm in trial.arms}
    ends = {
        f"{arm.kind}_{way}": construction.last(before.runs, i, way)
        for i, arm in arms.items() for way in ("numbered", "spare")
    }  # fmt: skip
    chapter.explain(
        "construction.trained",
        code=[source(PLACEMENT, "place"), source(TRAIN, "nudge_biases")],
        tex={**spread, **{name: one.middle for name, one in ends.items()}},
        steps=f"{experiment.recorded.steps:,}", seeds=len(before.runs), now=f"{trial.steps:,}", **spread,
        **{name: chapter.between(*(number(value, digits=2) for value in (one.middle, one.low, one.high)))
           for name, one in ends.items()},
    )  # fmt: skip
    plates.mount("construction.trained", construction.trained(before.runs, arms), {})
    st.caption(t("construction.trained.recorded", command=file["command"], commit=file["commit"],
                 seeds=len(before.runs)))  # fmt: skip
if guessed:
    live.panel(experiment, trial, draw, "construction")

ours, theirs = construction.doctor(construction.V3, "fp8"), construction.doctor(construction.DENSE, "bf16")
chapter.explain(
    "construction.doctor",
    code=[source(ARCHITECTURES, "weight_bytes"), source(ARCHITECTURES, "stored")],
    tex={"ours": f"{ours.bytes:,}", "theirs": f"{theirs.bytes:,}", "our_cards": ours.cards, "their_cards": theirs.cards,
         "weights": f"{theirs.total:,}", "card": f"{construction.CARD / GB:.0f}"},
    ours=ours.cards, theirs=theirs.cards, card=number(construction.CARD / GB, digits=0),
    model=find(construction.DENSE).name, fewer=construction.doctor(construction.DENSE, "fp8").cards,
)  # fmt: skip
plates.mount("construction.doctor", [construction.doctors()], {})

chapter.end(visit, "deploy", "simple", "poor")
