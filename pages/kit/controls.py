"""Controls of Streamlit's that show a setting of pages/kit/state.py and set it.

What hears of a change is a function of this module and small values. Streamlit keeps it for the whole visit, whatever
page the visitor goes on to; a function of a page's own would keep everything that the page knows, its trace too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

    What is chosen goes through `read` and to `tell`; neither may be a function that a page defines.
    """
    if state.hidden(name):
        return
    state.show(key, shown)
    widget(
        label, *offered, key=key, disabled=disabled or state.locked(name),
        on_change=_heard, args=(key, name, read, tell), **more,
    )  # fmt: skip


def _heard(key: str, name: str, read: Callable[[Any], Any] | None, tell: Callable[[str, Any], None]) -> None:
    value = st.session_state[key]
    tell(name, read(value) if read else value)


def named(prefix: str) -> Callable[[Any], str]:
    """`format_func`: what is offered is called by the words `<prefix>.<it>`."""
    return lambda one: t(f"{prefix}.{one}")


def typed(text: str) -> str | None:
    """What stands in a box, or was chosen beside an "all" that is called ""."""
    return text.strip() or None


def joined(several: Sequence[str]) -> str | None:
    """Several keys as a link writes them."""
    return ".".join(several) or None
