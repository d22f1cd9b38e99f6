"""The timetable: does somebody have to plan a question bank for every intern?"""

from pages.kit.shell import require_shell

require_shell()

from collections.abc import Sequence  # noqa: E402
from typing import Any  # noqa: E402

from model import ModelConfig  # noqa: E402
from model.corpus import SUBJECTS  # noqa: E402
from model.labs import timetable as lab  # noqa: E402
from pages.kit import chapter, live, plates, state  # noqa: E402
from pages.kit.chapter import number, percent  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.figures import timetable  # noqa: E402
from pages.kit.words import t  # noqa: E402

LAB, TRAIN, EVALUATE = "model/labs/timetable.py", "model/train.py", "model/evaluate.py"

visit = chapter.enter("timetable")
experiment = lab.EXPERIMENT
c, settings = experiment.recorded.config, experiment.live
floor = min(max(state.get("floor") or c.num_hidden_layers, c.first_k_dense_replace + 1), c.num_hidden_layers)
layer, subject = floor - c.first_k_dense_replace - 1, min(state.get("subject"), len(SUBJECTS) - 1)


def draw(points: Sequence[dict[str, Any]]) -> None:
    """What the run that is under way has counted so far."""
    if points:
        now = timetable.Counted([points], settings.config, layer, subject, len(points) - 1)
        grown = [timetable.informed(now), timetable.guesses(now)] if len(points) > 1 else []
        plates.mount("timetable.live", [timetable.grid(now), *grown], {"subject": subject}, picks=["subject"])


if not (record := live.record(experiment)):
    live.without_record(experiment, settings, draw)
runs = [run["points"] for run in record["runs"]]
last = len(runs[0]) - 1
moment = min(last if state.get("moment") is None else state.get("moment"), last)
seen = timetable.Counted(runs, c, layer, subject, moment)
picked = {"subject": subject, "floor": floor, "moment": moment}
here = {"floor": floor, "subject": timetable.named(SUBJECTS[subject]), "step": f"{seen.step:,}"}

# -- one stream

talk = ModelConfig.preset("deepseek-v3")
floors, each = talk.num_moe_layers, talk.n_routed_experts
chapter.explain(
    "timetable.stream",
    code=[source(LAB, "run"), source(LAB, "received")],
    tex={"floors": floors, "interns": each, "banks": floors * each},
    floors=floors,
    interns=each,
    banks=f"{floors * each:,}",
    few=seen.interns,
    tokens=f"{experiment.recorded.batch:,}",
    steps=f"{experiment.recorded.steps:,}",
)
plates.mount("timetable.stream", [timetable.trained(seen)], {})

# -- who gets what

common = timetable.commonest(seen)
guessed = chapter.predict(
    visit,
    "timetable.own",
    [t(f"timetable.own.{option}") for option in timetable.OPTIONS],
    right=timetable.answer(common.middle),
    floor=floor,
    share=percent(common.middle),
    low=percent(common.low),
    high=percent(common.high),
    even=percent(1 / len(SUBJECTS)),
    subjects=len(SUBJECTS),
    seeds=len(runs),
)
if guessed:
    visits = seen.visits()[subject]
    favourite = int(visits.argmax())
    chapter.explain(
        "timetable.visits",
        code=[source(LAB, "counts"), source(LAB, "spread"), source(LAB, "largest")],
        tex={
            "calls": int(visits[favourite]),
            "all": int(visits.sum()),
            "share": float(visits[favourite] / visits.sum()),
            "intern": favourite,
            "spread": float(lab.spread(visits)),
        },
        subjects=len(SUBJECTS),
        spread=number(float(lab.spread(visits)), 1),
        of=c.n_routed_experts,
        favourite=favourite,
        share=percent(float(visits[favourite] / visits.sum())),
        **here,
    )
    plates.mount(
        "timetable.visits",
        [*timetable.steppers(seen), timetable.grid(seen), timetable.share(seen), timetable.spreads(seen)],
        picked,
    )

    ends = [seen.over_seeds("nmi_subject", i) for i in (0, last)]
    chances = [seen.over_seeds("nmi_subject_chance", i) for i in (0, last)]
    means = [sum(each) / len(each) for each in (*ends, *chances)]
    chapter.explain(
        "timetable.chance",
        code=[source(EVALUATE, "normalised_mutual_information"), source(EVALUATE, "taste")],
        tex=dict(zip(("first", "last", "first_chance", "chance"), means, strict=True)),
        **dict(zip(("first", "last", "first_chance", "chance"), map(number, means), strict=True)),
        floor=floor,
    )
    plates.mount("timetable.chance", [timetable.informed(seen)], picked, picks=["moment"])

    # -- the subject or the word

    told = {name: timetable.right(seen, name).middle for name in lab.TOLD}
    chapter.explain(
        "timetable.word",
        code=[source(LAB, "guessed")],
        tex={**told, "k": c.num_experts_per_tok},
        **{name: percent(value) for name, value in told.items()},
        k=c.num_experts_per_tok,
        floor=floor,
        step=here["step"],
    )
    chapter.say(f"timetable.verdict.{timetable.verdict(seen)}", seeds=len(runs))
    plates.mount("timetable.word", [timetable.guesses(seen), timetable.beside(seen)], picked, picks=["moment"])

# -- trained here and now

chapter.explain(
    "timetable.live",
    code=[source(TRAIN, "take_step"), source(LAB, "Settings")],
    tex={"steps": settings.steps, "tokens": settings.batch, "all": settings.tokens},
    steps=settings.steps,
    tokens=f"{settings.tokens:,}",
    recorded=f"{experiment.recorded.tokens:,}",
    seeds=len(runs),
    command=record["command"],
    commit=record["commit"],
)

live.panel(experiment, settings, draw)
chapter.end(visit, "bank", "plan", "subject", "interns")
