"""The fact check: the talk's claims one by one, to be judged first, then searched and read."""

from pages.kit.shell import require_shell

require_shell()

import streamlit as st  # noqa: E402

from pages.kit import chapter, library, plates, state  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.controls import only, search  # noqa: E402
from pages.kit.figures import facts  # noqa: E402
from pages.kit.words import t  # noqa: E402

KIT, QUESTION = "pages/kit/library.py", "facts.guess"

visit = chapter.enter("facts")


def room(one: facts.Claim) -> chapter.Room:
    """Each claim is a question of its own."""
    return chapter.Room(f"facts.{one.key}")


asked = facts.claim(state.get("claim"))
known = chapter.guessed(room(asked), QUESTION)

# -- judge one

chapter.explain(
    "facts.judge",
    code=[  # what is kept of a claim holds its verdict: of this one the answer, of another one that of its own question
        source(KIT, "values"), source(KIT, "source"), *([library.entry("facts", "claim", asked.key)] if known else []),
    ],  # fmt: skip
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
    done = [one.key for one in facts.claims() if chapter.guessed(room(one), QUESTION)]
    door = library.door(asked.pages)
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        st.button(
            t("facts.another"),
            icon=":material/arrow_forward:",
            on_click=state.put,
            args=("claim", facts.after(asked, done).key),
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
with st.container(horizontal=True, gap="medium", vertical_alignment="top", key="library_row"):
    search("facts", "find")
    only("facts", "verdict", {one: f"{t(f'facts.sign.{one}')} {t(f'facts.verdict.{one}')}" for one in facts.VERDICTS})
if several:
    plates.mount(
        "facts.all", [facts.counts(several, hidden), facts.by_part(hidden), facts.list_of(several, typed, hidden)], {}
    )
else:
    st.info(t("facts.nothing", all=t("facts.everything")), icon=":material/search_off:")

chapter.end(visit, "mini", "two")
