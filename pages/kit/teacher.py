"""The teacher's link, made in one dialog: what is set now, chosen controls locked or left out; and the projector."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import streamlit as st

from pages.kit import qr, shell, state
from pages.kit.words import t

DENSE = 20
"""Version of a QR code from which on its modules are so fine that the last row of a class will not catch it."""
ALONE = ("localhost", "::1")
EXAMPLE = "http://192.168.0.10:8501"
OWN = ("projector",)
"""Settings of the teacher's own screen, which the class is not given."""

_fullscreen = st.components.v2.component(
    "fullscreen",
    html="""<button type="button"><svg viewBox="0 0 24 24" aria-hidden="true">
<path d="M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5" fill="none" stroke="currentColor" stroke-width="2"/></svg></button>""",
    css="""button { display: block; color: inherit; width: 2.1rem; height: 2.1rem; padding: .3rem; cursor: pointer;
  border: 1px solid color-mix(in srgb, currentColor 45%, transparent); border-radius: 8px; background: none; }
button:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; } button[hidden] { display: none; }""",
    js="""export default function ({ data, parentElement }) {
  const button = parentElement.querySelector("button"), whole = document.documentElement;
  button.say = () => { button.title = button.ariaLabel = document.fullscreenElement ? data.leave : data.enter; };
  button.say();
  button.hidden = !document.fullscreenEnabled;
  button.onclick = () => (document.fullscreenElement ? document.exitFullscreen() : whole.requestFullscreen());
  if (button.watched) return;
  button.watched = () => button.say();
  document.addEventListener("fullscreenchange", button.watched);
}
""",
)


def dialog(page: str) -> None:
    """Open it. `page`: the address of the page that the link opens, empty for the lobby."""

    def close() -> None:
        st.session_state.pop("teacher.wanted", None)

    st.dialog(t("teacher.title"), width="medium", on_dismiss=close)(shell.guarded(_body))(page)


def _body(page: str) -> None:
    if st.toggle(t("teacher.projector.switch"), value=False, key="teacher.projector"):
        state.place("projector", 1)
        st.session_state.pop("teacher.wanted", None)
        st.rerun()
    st.caption(t("teacher.projector.what"))
    st.subheader(t("teacher.link"), anchor=False)
    taken = bool(state.get("lock") or state.get("hide"))
    if taken:  # who came by such a link can pass it on as it is
        st.markdown(t("teacher.taken"))
        lock, hide = state.get("lock"), state.get("hide")
    else:
        st.markdown(t("teacher.what"))
        lock = _choose("lock", [group for group in state.GROUPS if group not in state.ONLY_HIDDEN])
        hide = _choose("hide", list(state.GROUPS))
    address = class_address("link")
    made = link(address, page, {**now(), "lock": lock, "hide": hide})
    left, right = st.columns(2, gap="medium")
    with left:
        st.code(made, language=None, wrap_lines=True)
        if not taken:
            st.caption(t("teacher.honest"))
        if "class" in st.session_state and st.session_state["class"].teaches:
            st.caption(t("teacher.no_class", page=t("nav.together")))
    with right:
        _code(made)


def _choose(which: str, groups: list[str]) -> str | None:
    """Groups of controls, to be locked or hidden, as the link has them."""
    return state.groups(
        st.pills(
            t(f"teacher.{which}"), groups, selection_mode="multi", key=f"teacher.{which}", persist_state="session",
            format_func=lambda group: t(f"teacher.group.{group}"),
        )  # fmt: skip
    )


def class_address(where: str) -> str:
    """Where the class finds the hospital. It is asked for where the teacher's own address leads nowhere else, and once:
    what is typed in one place, on the page or in the dialog above it (`where`), stands in the other too."""
    address = root(st.context.url)
    if not alone(address):
        return address
    key, kept = f"teacher.address.{where}", st.session_state.get("teacher.kept", "")
    if reachable(kept) is None:
        st.warning(t("teacher.alone"), icon=":material/lan:")
    st.session_state[key] = kept
    typed = st.text_input(
        t("teacher.address"), placeholder=EXAMPLE, key=key, max_chars=200, on_change=_keep, args=(key,)
    )
    if not typed.strip():
        return address
    if (given := reachable(typed)) is None:
        st.error(t("teacher.no_address"), icon=":material/error:")
        return address
    return given


def _keep(key: str) -> None:
    st.session_state["teacher.kept"] = st.session_state[key]


def _code(made: str) -> None:
    drawn = qr.code(made)
    if drawn is None:
        st.info(t("teacher.too_long"), icon=":material/qr_code_2:")
        return
    qr.mount(drawn, made, t("teacher.code"), key="teacher.qr")
    if drawn.version > DENSE:
        st.caption(t("teacher.dense"))


# -- addresses ---------------------------------------------------------------------------------------------------------


def now() -> dict[str, Any]:
    """What is set now, as far as it is for others too."""
    return {one.name: state.get(one.name) for one in state.SETTINGS if one.name not in OWN}


def link(address: str, page: str, values: Mapping[str, Any]) -> str:
    """The address of a page (empty: the lobby) with these settings."""
    return f"{address}{page}?{urlencode(state.to_link(values))}"


def root(url: str | None) -> str:
    """The hospital's own address, with a slash at its end, from that of any of its pages."""
    address = (url or "").split("?")[0].removesuffix("/")
    above, _, last = address.rpartition("/")
    return (above if last in {Path(path).stem for path, _, _ in shell.PAGES} else address) + "/"


def alone(address: str) -> bool:
    """Whether nobody but this computer understands the address."""
    host = urlsplit(address).hostname or ""
    return host in ALONE or host.startswith("127.")


def reachable(typed: str) -> str | None:
    """An address that was typed, as `root` gives one; None if it is none."""
    text = typed.strip() if "://" in typed else f"http://{typed.strip()}"
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018  # ValueError for one that is none
    except ValueError:
        return None
    plain = re.fullmatch(r"[\w.:\[\]-]+", parts.netloc, re.A) and re.fullmatch(r"[\w./~+-]*", parts.path, re.A)
    good = parts.scheme in ("http", "https") and parts.hostname and plain
    return root(text.split("#")[0]) if good else None


# -- what is on screen -------------------------------------------------------------------------------------------------


def say_what_is_fixed() -> None:
    """One line: what the teacher's link fixed, and what it left out."""
    parts = []
    for which, said in (("lock", "teacher.fixed"), ("hide", "teacher.left_out")):
        if groups := [t(f"teacher.group.{group}") for group in state.fixed(which)]:
            parts.append(t(said, what=t("teacher.comma").join(groups)))
    with st.container(key="fixed_line"):
        st.caption(":material/lock: " + t("teacher.stop").join(parts))


def bar(page: str) -> None:
    """What stays of the masthead on a projector: the pages before and after, the whole screen, and the way out."""
    names = [Path(path).stem for path, _, _ in shell.PAGES]
    at = names.index(page) if page in names else 0

    def leave() -> None:
        state.place("projector", None)

    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="projector_bar"):
        for other, words_key, icon in ((at - 1, "chapter.back", "back"), (at + 1, "chapter.next", "forward")):
            if 0 <= other < len(names) and not state.hidden("pages") and not state.get("lesson"):  # that has its own
                path, key, _ = shell.PAGES[other]
                st.page_link(path, label=t(words_key, page=t(key)), icon=f":material/arrow_{icon}:")
        _fullscreen(
            key="fullscreen",
            width="content",
            data={"enter": t("teacher.projector.full"), "leave": t("teacher.projector.window")},
        )
        st.button(t("teacher.projector.leave"), icon=":material/close:", key="projector_leave", on_click=leave)
