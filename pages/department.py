"""A department: one floor under glass. How eight of 256 interns are called, what they say, and what if they did not."""

from pages.kit.shell import require_shell

require_shell()

import streamlit as st  # noqa: E402

from model import UserError  # noqa: E402
from model.interventions import GATES  # noqa: E402
from pages.kit import chapter, plates, service, shell, state  # noqa: E402
from pages.kit.building import letter  # noqa: E402
from pages.kit.chapter import number  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.controls import control, named  # noqa: E402
from pages.kit.figures import common, department  # noqa: E402
from pages.kit.words import t  # noqa: E402

MODEL, ENGINE = "model/deepseek_v3.py", "model/engine.py"

visit = chapter.begin("department", floors="departments")
trace, c = visit.trace, visit.trace.config
desk = department.desk(visit, state.get("room"))
picked = {"token": visit.token, "floor": visit.floor, "room": desk.room}
here = {"token": visit.name(), "floor": visit.floor}

# -- the receptionist

best = int(desk.scores.argmax())
chapter.explain(
    "department.score",
    code=[source(MODEL, "Router.forward", start="logits =", end="scores = logits")],
    tex={"room": desk.room, "logit": float(desk.logits[desk.room]), "score": float(desk.scores[desk.room])},
    rooms=len(desk.scores),
    room=desk.room,
    best=best,
    score=number(float(desk.scores[best])),
    sum=number(float(desk.scores.sum()), digits=1),
    **here,
)
plates.mount("department.score", [department.logits(visit, desk), department.scores(visit, desk)], picked)

bare = department.unboarded(visit, desk)
chapter.explain(
    "department.crowding",
    code=[source(MODEL, "Router.forward", start="choice_scores = scores", end="choice_scores = scores")],
    tex={
        "room": desk.room,
        "score": float(desk.scores[desk.room]),
        "board": float(desk.board[desk.room]),
        "choice": chapter.equals_tex(
            (float(desk.scores[desk.room]), float(desk.board[desk.room])), float(desk.choice[desk.room])
        ),
    },
    low=number(float(desk.board.min())),
    high=number(float(desk.board.max())),
    **here,
)
guessed = chapter.predict(
    visit,
    "department.wiped",
    [t("department.wiped.few"), t("department.wiped.most"), t("department.wiped.all")],
    right=2 if not bare.gone else int(len(bare.stay) > len(bare.gone)),
    k=len(desk.called),
    same=len(bare.stay),
    gone=department.listed(sorted(bare.gone)),
    instead=department.listed(sorted(bare.instead)),
    **here,
)
plates.mount(
    "department.board",
    [
        department.board(visit, desk),
        department.choice(visit, desk),
        *([department.without(visit, desk, bare)] if guessed else []),
    ],
    picked,
)

size = len(desk.scores) // c.n_group
corridor, pair = desk.room // size, department.best_two(visit, desk)[desk.room // size]
chapter.explain(
    "department.choose",
    code=[source(MODEL, "choose")],
    tex={
        "corridor": letter(corridor),
        "parts": " + ".join(chapter.tex_number(float(desk.choice[room])) for room in pair),
        "sum": chapter.equals_tex((float(desk.choice[room]) for room in pair), float(desk.corridors[corridor])),
        "kept": c.topk_group,
        "k": len(desk.called),
    },
    corridors=c.n_group,
    size=size,
    kept=c.topk_group,
    shut=department.listed(letter(g) for g in range(c.n_group) if g not in desk.open),
    k=len(desk.called),
    **here,
)
plates.mount(
    "department.corridors",
    [department.pairs(visit, desk), department.corridors(visit, desk), department.rooms(visit, desk)],
    picked,
)

heard = desk.room if desk.room in desk.called else desk.called[0]
at = desk.called.index(heard)
chapter.explain(
    "department.weigh",
    code=[source(MODEL, "Router.forward", start="raw = scores", end="return Routing"), source(MODEL, "Router.weigh")],
    tex={
        "room": heard,
        "scale": c.routed_scaling_factor,
        "score": desk.raw[at],
        "total": sum(desk.raw),
        "weight": desk.weights[at],
    },
    k=len(desk.called),
    scale=number(c.routed_scaling_factor, digits=1),
    first=desk.called[desk.weights.index(max(desk.weights))],
    most=number(max(desk.weights)),
    last=desk.called[desk.weights.index(min(desk.weights))],
    least=number(min(desk.weights)),
    **here,
)
plates.mount("department.weights", [department.weights(visit, desk), department.called(visit, desk)], picked)

# -- the consultation

spoken = department.consultation(visit, visit.house.live.engine.opinions(trace, visit.layer, visit.token))
loudest = spoken.lengths.index(max(spoken.lengths))
chapter.explain(
    "department.consult",
    code=[source(MODEL, "MoE.forward"), source(ENGINE, "Engine.opinions")],
    tex={"sum": float(spoken.sum.norm()), "all": sum(spoken.lengths)},
    k=len(desk.called),
    dims=len(spoken.sum),
    who=department.speakers(visit, desk)[loudest],
    loudest=number(spoken.lengths[loudest]),
    sum=number(float(spoken.sum.norm())),
    all=number(sum(spoken.lengths)),
    **here,
)
plates.mount(
    "department.opinions",
    [
        department.opinions(visit, desk, spoken),
        department.lengths(visit, desk, spoken),
        department.pulls(visit, desk, spoken),
    ],
    picked,
)

# -- touch it

chapter.explain(
    "department.touch",
    code=[source(ENGINE, "Engine._route"), source(ENGINE, "Engine._apply")],
    room=desk.room,
    **here,
)
change = state.get("change") if state.get("change") in department.OFFERED else None
control(
    st.pills, "change", change, t("department.touch.choose"), department.OFFERED,
    format_func=named("department.change"), key="change_switch", tell=department.told(desk),
)  # fmt: skip
k = state.get("k") or c.num_experts_per_tok
knobs = []
if change in department.OF_A_ROOM:
    knobs = [plates.stepper(plates.rooms(c), title=t("department.touch.room"))]
elif change == "num_experts_per_tok":
    knobs = [plates.stepper(plates.axis("k", 2 * c.num_experts_per_tok, offset=1), title=t("department.touch.k"))]
if knobs:
    plates.mount("department.knobs", knobs, {**picked, "k": k})
if change is None:
    st.caption(t("department.touch.first"))
else:
    if state.get("depth") == "maths":
        for equation in chapter.equations("department", change, {"room": desk.room, "k": k, "floor": visit.floor}):
            st.latex(equation)
    try:
        cases = department.cases(visit, desk, change, k)
    except UserError as error:
        shell.complain(error)
    else:
        for words, values in department.found(visit, desk, change, cases):
            chapter.say(f"department.{words}", **values)
        if change in GATES:
            st.caption(t(f"department.{change}.source"))
        plates.mount(
            "department.touch",
            [
                department.now(visit, desk, cases[0].trace),
                department.beside(visit, cases),
                common.next_tokens(visit, cases[0].trace, trace, width="half"),
                department.drift(visit, cases),
            ],
            picked,
        )

# -- what an intern likes

study = service.study()
if study is None:
    st.subheader(t("department.taste.title"), anchor=False)
    st.caption(t("department.taste.missing"))
else:
    record, special = study.intern(visit.layer, desk.room), study.specialists
    chapter.explain(
        "department.taste",
        code=[source("model/study.py", "bound_of_chance"), source("model/study.py", "wilson")],
        tex=department.against_chance(record),
        room=desk.room,
        floor=visit.floor,
        calls=f"{record.calls:,}",
        documents=f"{study.documents:,}",
        tokens=f"{study.tokens:,}",
        specialists=f"{special.found:,}",
        strong=f"{special.strong:,}",
        interns=f"{special.interns:,}",
        chance=f"{special.by_chance:,.0f}",
    )
    words, values = department.liking(record)
    chapter.say(f"department.liking.{words}", **values)
    liked = [
        *([department.subjects(record)] if record.subjects else []),
        *([department.favourites(visit, record)] if record.tokens else []),
    ]
    stepper = plates.stepper(plates.rooms(c), title=t("department.touch.room"))
    plates.mount("department.taste", [stepper, *liked], picked)

# -- two tokens

other = department.other_token(visit, state.get("other"))
both = department.shared(visit, other)
chapter.explain(
    "department.pair",
    code=[source(MODEL, "Router.forward")],
    tex={"shared": len(both.here), "k": len(desk.called), "rooms": len(desk.scores), "chance": both.chance},
    other=visit.name(other),
    met=department.met(both.here),
    k=len(desk.called),
    everywhere=both.everywhere,
    of=both.of,
    chance=number(both.chance, digits=2),
    **here,
)
plates.mount(
    "department.pair",
    [
        plates.tokens(visit.chips, title=t("department.pair.other"), axis_name="other"),
        department.side(visit, visit.token, both.here, "side_token"),
        department.side(visit, other, both.here, "side_other"),
    ],
    {**picked, "other": other},
)

chapter.end(visit, "nurse", "weigh", "subject", "discuss")
