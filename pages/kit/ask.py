"""The sentence that every page looks at: the box to type it in, and the examples."""

from __future__ import annotations

import json

import streamlit as st

from pages.kit import shell, state, words
from pages.kit.controls import control
from pages.kit.words import t

EXAMPLES = json.loads((shell.ROOT / "assets" / "examples.json").read_text("utf-8"))


REFUSED = "sentence.refused"


def sentence() -> str:
    """Draw the box and the menu of examples; what was typed, or before anything was the first example in the visitor's
    language. The box itself has no limit: a browser would drop what is longer without a word."""
    if state.hidden("sentence"):
        return current()
    fixed = state.locked("sentence")
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom", key="sentence_row"):
        control(
            st.text_input, "sentence", current(), t("lobby.sentence"), key="sentence_box", label_visibility="collapsed",
            placeholder=t("lobby.placeholder"), icon=":material/lock:" if fixed else ":material/edit:",
            tell=lambda _, text: admit(text),
        )  # fmt: skip
        with st.popover(t("chapter.examples"), disabled=fixed):
            own = words.current()
            st.pills(  # one element for all of them: each takes the server's time, every turn
                t("chapter.examples"),
                [text for lang in sorted(EXAMPLES, key=lambda lang: lang != own) for text in EXAMPLES[lang]],
                format_func=shell.plain,
                key="examples",
                label_visibility="collapsed",
                on_change=_taken,
            )
    if count := st.session_state.pop(REFUSED, None):
        st.error(t("error.too_many_signs", count=count, limit=state.MAX_CHARS), icon=":material/error:")
    return current()


def current() -> str:
    """What was typed; before anything was, the first example in the visitor's language."""
    typed = state.get("sentence")
    return typed if typed is not None else EXAMPLES.get(words.current(), EXAMPLES[words.FALLBACK])[0]


def _taken() -> None:
    """An example was chosen; the same one can be chosen again."""
    text, st.session_state["examples"] = st.session_state["examples"], None
    if text is not None:
        admit(text)


def admit(text: str) -> None:
    """A new sentence: its last word is followed, on the floor where one stood."""
    if state.locked("sentence"):
        return
    if len(text) > state.MAX_CHARS:
        st.session_state[REFUSED] = len(text)
        return
    state.put("sentence", text)
    state.reset("token", "other", "written", "step", "branch", "ahead")  # belong to the sentence that was there
