"""Controls of Streamlit's that show a setting of pages/kit/state.py and set it.

What hears of a change is a function of this module and small values. Streamlit keeps it for the whole visit, whatever
page the visitor goes on to; a function of a page's own would keep everything that the page knows, its trace too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from pages.kit import state
from pages.kit.words import t


def control(
    widget: Callable[..., Any],
    name: str,
    shown: Any,
    label: str,
    *offered: Any,
    key: str,
    read: Callable[[Any], Any] | None = None,
    tell: Callable[[str, Any], None] = state.put,
    disabled: bool = False,
    **more: Any,
) -> None:
    """Draw `widget` (`st.pills`, `column.toggle`), showing `shown`; nothing where the setting `name` is hidden.

    Of `offered`, a mapping says what each option is called. What is chosen goes through `read` and to `tell`; neither,
    and no `format_func`, may be a function that a page defines.
    """
    if state.hidden(name):
        return
    if offered and isinstance(offered[0], Mapping):
        offered, more["format_func"] = (list(offered[0]),), offered[0].__getitem__
    state.show(key, shown)
    widget(
        label, *offered, key=key, disabled=disabled or state.locked(name),
        on_change=_heard, args=(key, name, read, tell), **more,
    )  # fmt: skip
    state.shown(key)


def _heard(key: str, name: str, read: Callable[[Any], Any] | None, tell: Callable[[str, Any], None]) -> None:
    # A part of the page before that runs by itself may ask once more when the next page already stands. What was set on
    # the page before comes with that, and of a control that is gone Streamlit would say "changed" without a value.
    if key in st.session_state:
        value = st.session_state[key]
        tell(name, read(value) if read else value)


def controls_of(page: str) -> Callable[..., None]:
    """`control` for a page whose words are called `<page>.control.<name>` and whose keys `<page>.<name>`."""

    def draw(widget: Callable[..., Any], name: str, shown: Any, *offered: Any, **more: Any) -> None:
        control(widget, name, shown, t(f"{page}.control.{name}"), *offered, key=f"{page}.{name}", **more)

    return draw


def search(page: str, name: str) -> None:
    """The box of a page in which one looks for something: its words are `<page>.find` and `<page>.find_hint`."""
    control(
        st.text_input, name, state.get(name) or "", t(f"{page}.find"), key=f"{page}.find", read=or_none,
        max_chars=state.MAX_SEARCH, placeholder=t(f"{page}.find_hint"), icon=":material/search:",
    )  # fmt: skip


def only(page: str, name: str, kinds: Mapping[str, str]) -> None:
    """Pills that keep one kind of what a page lists, or all: its words are `<page>.choose` and `<page>.everything`."""
    offered, now = {"": t(f"{page}.everything"), **kinds}, state.get(name)
    control(
        st.pills, name, now if now in kinds else "", t(f"{page}.choose"), offered, key=f"{page}.choose", read=or_none,
        required=True, wrap=True,
    )  # fmt: skip


def named(prefix: str) -> Callable[[Any], str]:
    """`format_func`: what is offered is called by the words `<prefix>.<it>`."""
    return lambda one: t(f"{prefix}.{one}")


def or_none(text: str) -> str | None:
    """What stands in a box, or was chosen beside an "all" that is called ""."""
    return text.strip() or None


def joined(several: Sequence[str]) -> str | None:
    """Several keys as a link writes them."""
    return ".".join(several) or None
