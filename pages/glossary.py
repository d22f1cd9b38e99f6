"""The glossary: every word of the field and of the hospital, in all languages side by side."""

from pages.kit.shell import require_shell

require_shell()

import streamlit as st  # noqa: E402

from pages.kit import chapter, library, plates, state, terms  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.controls import only, search  # noqa: E402
from pages.kit.figures import glossary  # noqa: E402
from pages.kit.words import current, t  # noqa: E402

QUESTION, LIBRARY = "glossary.guess", "pages/kit/library.py"

visit = chapter.enter("glossary")
every = terms.terms()


def room(one: terms.Term) -> chapter.Room:
    """Each word is a question of its own."""
    return chapter.Room(f"glossary.{one.key}")


# -- the word that was come for

term = glossary.term(state.get("term"))
if term:
    place = {"term": glossary.number(term.key)}
    plates.mount("glossary.chosen", [glossary.chosen(term)], place, glossary.pick, picks=())
    st.button(t("glossary.leave"), icon=":material/list:", on_click=state.put, args=("term", None))

# -- guess one

asked = glossary.asked(state.get("asked"))
if asked == term:  # its answer stands above
    asked = glossary.after(asked, ())
options = glossary.options(asked)
kept = asked if chapter.guessed(room(asked), QUESTION) else glossary.after(asked, ())  # its field would be the answer
chapter.explain(
    "glossary.two",
    code=[
        library.entry("terms", "term", kept.key),
        source("model/config.py", "ModelConfig", start="vocab_size: int", end="eos_token_id: int"),
    ],
    tex=glossary.equations(),
    count=len(every),
    told=len(glossary.told()),
    named=sum(one.field is not None for one in every.values()),
)
guessed = chapter.predict(
    room(asked),
    QUESTION,
    [one.name(current()) for one in options],
    right=options.index(asked),
    hospital=asked.hospital(current()) or "",
    name=asked.name(current()),
    means=asked.means(current()),
)
if guessed:
    done = [one.key for one in glossary.told() if chapter.guessed(room(one), QUESTION)]
    st.button(
        t("glossary.another"),
        icon=":material/arrow_forward:",
        on_click=state.put,
        args=("asked", glossary.after(asked, done).key),
    )

# -- all of them

hidden = None if guessed else asked.key
typed, topic = state.get("word"), state.get("topic")
several = glossary.shown(typed, topic, hidden)
chapter.explain(
    "glossary.all",
    code=[source("pages/kit/terms.py", "linked"), source(LIBRARY, "found")],
    count=len(every),
    shown=len(several),
)
with st.container(horizontal=True, gap="medium", vertical_alignment="top", key="library_row"):
    search("glossary", "word")
    only("glossary", "topic", {one: t(f"glossary.topic.{one}") for one in glossary.TOPICS})
if several:
    plates.mount(
        "glossary.all",
        [glossary.counts(several), glossary.list_of(several, typed, hidden)],
        {"term": glossary.number(term.key) if term else None},
        glossary.pick,
    )
else:
    st.info(t("glossary.nothing", all=t("glossary.everything")), icon=":material/search_off:")

chapter.end(visit, "head", "key", "nurse")
