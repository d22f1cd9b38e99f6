"""The whole round: tokens by floors. Who shares rooms, who was woken, what is added, and who could have left early."""

from pages.kit.shell import require_shell

require_shell()

import streamlit as st  # noqa: E402

from model import Interventions  # noqa: E402
from pages.kit import chapter, plates, service, state  # noqa: E402
from pages.kit.chapter import number, percent, tex_text  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.figures import round as figures  # noqa: E402
from pages.kit.words import t  # noqa: E402

TRACE, ENGINE, MODEL = "model/trace.py", "model/engine.py", "model/deepseek_v3.py"

visit = chapter.begin("round", floors="all")
trace, c = visit.trace, visit.trace.config
tokens, picked = len(trace.ids), {"token": visit.token, "floor": visit.floor}

found = figures.company(visit, state.get("other"))
chance = figures.by_chance(c)
if found:
    chapter.explain(
        "round.shared",
        code=[source(MODEL, "Router.forward"), source(MODEL, "choose")],
        tex={
            "k": c.num_experts_per_tok, "all": c.n_routed_experts, "floors": c.num_moe_layers, "chance": chance,
            "shared": found.shared, "mean": found.mean,
        },
        token=visit.name(), other=visit.name(found.other), shared=found.shared,
        calls=f"{c.num_moe_layers * c.num_experts_per_tok:,}", mean=number(found.mean, digits=2),
        everybody=number(found.everybody, digits=2), chance=number(chance, digits=2), k=c.num_experts_per_tok,
        rooms=c.n_routed_experts,
    )  # fmt: skip
    plates.mount(
        "round.shared",
        [figures.rooms_shared(visit, found), figures.pairs(visit, found)],
        {**picked, "other": found.other},
    )

woken = figures.woken(visit)
chapter.explain(
    "round.woken",
    code=[source(TRACE, "Trace.experts_touched_per_layer"), source(TRACE, "Trace.experts_per_token")],
    tex={
        "k": c.num_experts_per_tok, "shared": c.n_shared_experts, "floors": c.num_moe_layers, "all": woken.all,
        "rooms": c.n_routed_experts, "each": woken.per_token, "tokens": tokens, "woken": woken.woken,
        "chance": woken.chance,
    },
    token=visit.name(), each=f"{woken.per_token:,}", tokens=tokens, woken=f"{woken.woken:,}", all=f"{woken.all:,}",
    share=percent(woken.woken / woken.all), chance=number(woken.chance, digits=0),
)  # fmt: skip
plates.mount(
    "round.woken",
    [figures.counts(woken, tokens), figures.growth(visit, woken), figures.by_floor(visit)],
    picked,
)

parts = figures.added(visit, visit.token)
worth, each = figures.worth(visit, parts)
chapter.explain(
    "round.added",
    code=[source(ENGINE, "Engine.shared_output"), source(ENGINE, "Engine.readout")],
    tex={
        "answer": tex_text(figures.answer(visit)), "embedding": worth.embedding, **worth.parts,
        "sum": chapter.equals_tex((worth.embedding, *worth.parts.values()), worth.logit),
    },
    token=visit.name(), answer=figures.answer(visit), embedding=number(worth.embedding, digits=2),
    logit=number(worth.logit, digits=2), **{part: number(value, digits=2) for part, value in worth.parts.items()},
)  # fmt: skip
plates.mount("round.added", [figures.lengths(visit, parts), figures.pushes(visit, worth, each)], picked)

when = figures.settled(visit)
final = float(trace.probabilities(visit.token).max())
chapter.explain(
    "round.lens",
    code=[source(ENGINE, "Engine.lens"), source(ENGINE, "Engine._final")],
    tex={"answer": tex_text(figures.answer(visit)), "final": final, "floors": c.num_hidden_layers},
    token=visit.name(), answer=figures.answer(visit), final=percent(final), floors=c.num_hidden_layers,
)  # fmt: skip
guessed = chapter.predict(
    visit,
    "round.settles",
    [
        t("round.settles.stage" if last > first else "round.settles.floor", first=first, last=last)
        for first, last in figures.stages(c)
    ],
    right=figures.stage_of(c, when.good),
    every_floor=False,
    token=visit.name(),
    answer=figures.answer(visit),
    first=when.first,
    good=when.good,
)
if guessed:
    plates.mount(
        "round.lens",
        [figures.chances(visit), figures.ranks(visit), figures.diary(visit), figures.everybody(visit)],
        picked,
    )

study = service.study()
if study:
    leaving = study.early_exit
    chapter.explain(
        "round.exit",
        code=[source("model/study.py", "exit_arrays"), source("model/study.py", "early_exit")],
        tex={"floor": visit.floor, "share": float(leaving.agreement[visit.layer])},
        floor=visit.floor,
        **figures.at_floor(visit, leaving),
    )
    plates.mount("round.exit", [figures.agreement(visit, leaving), figures.rules(visit, leaving)], picked)
else:
    st.subheader(t("round.exit.title"), anchor=False)
    st.markdown(t("round.exit.none"))

chapter.explain(
    "round.touch",
    code=[source(ENGINE, "Engine.trace", start="if base is not None and base.ids", end="x = self._run("),
          source(ENGINE, "Engine._run", start="for index, layer", end="continue")],
    tex={"floor": visit.floor, "desk": c.first_k_dense_replace, "working": c.num_experts_per_tok + c.n_shared_experts,
         "experts": max(visit.floor - c.first_k_dense_replace, 0) * (c.num_experts_per_tok + c.n_shared_experts)},
    token=visit.name(), floor=visit.floor, floors=c.num_hidden_layers,
)  # fmt: skip
floors = plates.stepper(plates.floors(c), title=t("round.touch.stop"))
if guessed:
    changed = visit.changed(Interventions(stop_after=visit.floor))
    plates.mount("round.touch", [floors, *figures.outcome(visit, changed, figures.stopped(visit, changed))], picked)
else:
    st.caption(t("round.touch.first"))

chapter.end(visit, "early", "input", "home")
