"""The sentence that every page looks at: the box to type it in, and the examples."""

from __future__ import annotations

import json

import streamlit as st

from pages.kit import shell, state, words
from pages.kit.words import t

EXAMPLES = json.loads((shell.ROOT / "assets" / "examples.json").read_text("utf-8"))


def sentence(examples: bool = True) -> str:
    """Draw the box; what was typed, or before anything was the first example in the visitor's language. Without
    `examples` they are all in one menu."""
    st.session_state["sentence_box"] = current()
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom", key="sentence_row"):
        st.text_input(
            t("lobby.sentence"),
            key="sentence_box",
            max_chars=state.MAX_CHARS,
            placeholder=t("lobby.placeholder"),
            on_change=lambda: admit(st.session_state["sentence_box"]),
        )
        if not examples:
            with st.popover(t("chapter.examples")):
                for lang in words.languages():
                    _buttons(EXAMPLES.get(lang, []))
    if examples:
        own, others = words.current(), [lang for lang in EXAMPLES if lang != words.current()]
        with st.container(horizontal=True, gap="small", key="examples"):
            _buttons(EXAMPLES.get(own, []))
            for lang in others:
                with st.popover(t("lobby.examples_in", language=words.languages().get(lang, lang))):
                    _buttons(EXAMPLES[lang])
    return current()


def current() -> str:
    """What was typed; before anything was, the first example in the visitor's language."""
    typed = state.get("sentence")
    return typed if typed is not None else EXAMPLES.get(words.current(), EXAMPLES[words.FALLBACK])[0]


def admit(text: str) -> None:
    """A new sentence: its last token is followed, on the floor where one stood."""
    state.put("sentence", text)
    state.put("token", None)
    state.put("other", None)


def _buttons(sentences: list[str]) -> None:
    for text in sentences:
        st.button(shell.plain(text), on_click=admit, args=(text,), key=f"example {text}")
