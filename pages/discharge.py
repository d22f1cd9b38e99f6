"""Discharge: what the top floor says next, drawn token by token, chosen otherwise, or guessed ahead."""

from pages.kit.shell import require_shell

require_shell()

import streamlit as st  # noqa: E402

from pages.kit import ask, chapter, plates, shell, state, writing  # noqa: E402
from pages.kit.chapter import number  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.figures import discharge  # noqa: E402
from pages.kit.words import t  # noqa: E402

GENERATE = "model/generate.py"
OUTSIDE = ("stocks", "physics", "french")

visit = chapter.begin("discharge")
if moved := st.session_state.pop(writing.MOVED, None):
    with st.container(horizontal=True, gap="small", vertical_alignment="center", key="moved_row"):
        st.markdown(t("discharge.moved", token=shell.plain(moved)))
        for path, key, icon in shell.PAGES:
            if path != "pages/discharge.py" and not state.hidden("pages"):
                st.page_link(path, label=t(key), icon=icon)

trace, desk, last = visit.trace, discharge.desk(visit), len(visit.pieces) - 1
likely = trace.top(-1, 2)
chapter.explain(
    "discharge.next",
    code=[
        source("model/engine.py", "Engine._final"),
        source("model/engine.py", "Engine.forward", start="states = self._final(", end="return F.linear(states"),
        source(GENERATE, "stream"),
    ],
    tex={"vocabulary": desk.vocabulary, "hidden": trace.config.hidden_size},
    last=visit.name(last),
    floors=trace.config.num_hidden_layers,
    vocabulary=f"{desk.vocabulary:,}",
)
order, right = discharge.options(visit)
once = {"every_token": False, "every_floor": False}
# A link with text in it says the answer already; who wrote the text in this visit has answered before.
told = state.get("written") and not chapter.guessed(visit, "discharge.likeliest", **once)
opened = told or chapter.predict(
    visit,
    "discharge.likeliest",
    [desk.name(id) for id in order],
    right,
    **once,
    last=visit.name(last),
    likeliest=desk.word(likely[0].id),
    share=discharge.fine(likely[0].probability),
    second=desk.word(likely[1].id),
    other=discharge.fine(likely[1].probability),
)
sheet = st.container(key="sheet")  # filled last, with the whole page standing while it is being written

chapter.explain(
    "discharge.everyone",
    code=[source("model/trace.py", "Trace.probabilities"), source("model/trace.py", "Trace.top")],
    tex={"tokens": last},
    token=visit.name(),
    tokens=last,
    last=visit.name(last),
)
plates.mount("discharge.everyone", [discharge.everyone(visit)], {"token": visit.token})

chapter.explain(
    "discharge.ahead",
    code=[source(GENERATE, "speculate"), source("model/engine.py", "Engine.predict_further")],
    tex={"hidden": trace.config.hidden_size},
    most=desk.room,
)
guessing = st.container(key="guessing")

measured = discharge.evaluation()
chapter.explain(
    "discharge.outside",
    code=[source("model/evaluate.py", "Scores")],
    tex={"doubt": discharge.doubt(desk.start.logits)},
    last=visit.name(last),
    doubt=number(discharge.doubt(desk.start.logits), digits=1),
    vocabulary=f"{desk.vocabulary:,}",
)
if not state.hidden("sentence"):
    with st.container(horizontal=True, gap="small", key="outside_row"):
        for name in OUTSIDE:
            text, fixed = t(f"discharge.outside.{name}"), state.locked("sentence")
            st.button(shell.plain(text), on_click=ask.admit, args=(text,), key=f"outside {name}", disabled=fixed)
if measured:
    plates.mount("discharge.bank", [discharge.bank(measured)], {})

if not state.hidden("pages"):
    st.page_link("pages/record.py", label=t("record.door"), icon=":material/folder_shared:")

chapter.end(visit, "nearest", "ahead", "bank")
if opened:
    writing.fill(desk, sheet, guessing)
else:
    sheet.caption(t("discharge.first"))
    guessing.caption(t("discharge.first"))
