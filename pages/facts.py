"""The fact check: the talk's claims one by one, to be judged first, then searched and read."""

from pages.kit.shell import require_shell

require_shell()

import streamlit as st  # noqa: E402

from pages.kit import chapter, library, plates, state  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.figures import facts  # noqa: E402
from pages.kit.words import t  # noqa: E402

KIT, QUESTION = "pages/kit/library.py", "facts.guess"

visit = chapter.enter("facts")


def room(one: facts.Claim) -> chapter.Room:
    """Each claim is a question of its own."""
    return chapter.Room(f"facts.{one.key}")


asked = facts.claim(state.get("claim"))

# -- judge one

chapter.explain(
    "facts.judge",
    code=[library.entry("facts", "claim", asked.key), source(KIT, "values"), source(KIT, "source")],
    tex=facts.equations(),
)
judged = chapter.predict(
    room(asked),
    QUESTION,
    [t(f"facts.verdict.{verdict}") for verdict in facts.VERDICTS],
    right=facts.VERDICTS.index(asked.verdict),
    said=asked.said,
    verdict=t(f"facts.verdict.{asked.verdict}"),
    true=asked.true,
)
if judged:
    door = library.door(asked.pages)
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        st.button(
            t("facts.another"),
            icon=":material/arrow_forward:",
            on_click=lambda: state.put(
                "claim",
                facts.after(asked, [one.key for one in facts.claims() if chapter.guessed(room(one), QUESTION)]).key,
            ),
        )
        if door:
            st.page_link(f"pages/{door.page}.py", label=t("facts.page", page=door.label))

# -- all of them

hidden = None if judged else asked.key
typed, verdict = state.get("find"), state.get("verdict")
several = facts.shown(typed, verdict, hidden)
counted = facts.counted(hidden)
chapter.explain(
    "facts.all",
    code=[source(KIT, "found"), source(KIT, "plain"), source("pages/kit/figures/facts.py", "shown")],
    tex={"count": len(counted), **facts.tally(counted)},
    count=len(facts.claims()),
    shown=len(several),
)
state.show("facts.find", typed or "")
state.show("facts.choose", verdict if verdict in facts.VERDICTS else "")
with st.container(horizontal=True, gap="medium", vertical_alignment="bottom", key="library_row"):
    st.text_input(
        t("facts.find"),
        key="facts.find",
        max_chars=state.MAX_SEARCH,
        placeholder=t("facts.find_hint"),
        icon=":material/search:",
        on_change=lambda: state.put("find", st.session_state["facts.find"].strip() or None),
    )
    st.pills(
        t("facts.choose"),
        ["", *facts.VERDICTS],
        format_func=lambda one: (
            f"{t(f'facts.sign.{one}')} {t(f'facts.verdict.{one}')}" if one else t("facts.everything")
        ),
        key="facts.choose",
        required=True,
        wrap=True,
        on_change=lambda: state.put("verdict", st.session_state["facts.choose"] or None),
    )
if several:
    plates.mount(
        "facts.all", [facts.counts(several, hidden), facts.by_part(hidden), facts.list_of(several, typed, hidden)], {}
    )
else:
    st.info(t("facts.nothing", all=t("facts.everything")), icon=":material/search_off:")

chapter.end(visit, "mini", "two")
