"""What surrounds every page: navigation, language switch, style, and words instead of tracebacks."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextvars import ContextVar
from copy import copy
from functools import cache, wraps
from pathlib import Path
from typing import Any, Literal

import streamlit as st
from streamlit.runtime.scriptrunner import RerunException, StopException, get_script_run_ctx

from pages.kit import plates, state, words
from pages.kit.controls import control, named
from pages.kit.turns import turns
from pages.kit.words import t

ROOT = Path(__file__).resolve().parents[2]

Row = tuple[str, str, str]  # file (its name is the page's address), words of its name, icon

WINGS: dict[str, tuple[Row, ...]] = {  # words of a wing's name -> its pages, in the order in which one walks
    "nav.walk": (
        ("pages/lobby.py", "nav.lobby", ":material/local_hospital:"),
        ("pages/triage.py", "nav.triage", ":material/door_front:"),
        ("pages/department.py", "nav.department", ":material/meeting_room:"),
        ("pages/round.py", "nav.round", ":material/grid_on:"),
        ("pages/heads.py", "nav.heads", ":material/visibility:"),
        ("pages/postal.py", "nav.postal", ":material/local_post_office:"),
        ("pages/discharge.py", "nav.discharge", ":material/logout:"),
    ),
    "nav.others": (
        ("pages/hospitals.py", "nav.hospitals", ":material/location_city:"),
        ("pages/miniatures.py", "nav.miniatures", ":material/child_care:"),
    ),  # fmt: skip
    "nav.price": (
        ("pages/beds.py", "nav.beds", ":material/bed:"),
        ("pages/queues.py", "nav.queues", ":material/groups:"),
        ("pages/ambulances.py", "nav.ambulances", ":material/emergency:"),
        ("pages/construction.py", "nav.construction", ":material/apartment:"),
        ("pages/cramming.py", "nav.cramming", ":material/quiz:"),
        ("pages/skill.py", "nav.skill", ":material/school:"),
        ("pages/timetable.py", "nav.timetable", ":material/calendar_month:"),
        ("pages/choice.py", "nav.choice", ":material/balance:"),
    ),  # fmt: skip
    "nav.library": (
        ("pages/facts.py", "nav.facts", ":material/fact_check:"),
        ("pages/glossary.py", "nav.glossary", ":material/dictionary:"),
        ("pages/history.py", "nav.history", ":material/history_edu:"),
        ("pages/check.py", "nav.check", ":material/verified:"),
    ),  # fmt: skip
    "nav.class": (
        ("pages/lesson.py", "nav.lesson", ":material/co_present:"),
        ("pages/together.py", "nav.together", ":material/cast_for_education:"),
        ("pages/guide.py", "nav.guide", ":material/auto_stories:"),
        ("pages/quiz.py", "nav.quiz", ":material/help_center:"),
        ("pages/record.py", "nav.record", ":material/folder_shared:"),
    ),  # fmt: skip
}
WALK = WINGS["nav.walk"]  # the pages on which one sentence's trace is watched
PAGES = tuple(row for wing in WINGS.values() for row in wing)

APART = frozenset({"", "triage", "department", "round", "heads", "postal"})
"""Pages (by address) that run again without what surrounds them, as long as nothing there speaks of what they show. Not
for one that has a long run which a click in it must stop: Streamlit lets that go on to its end."""

_in_shell: ContextVar[bool] = ContextVar("in_shell", default=False)

# What a browser hears of a page first.
_page = st.components.v2.component("page", js=(ROOT / "assets" / "kit" / "page.js").read_text("utf-8"))


@cache
def _pages(lang: str) -> dict[str, list[st.Page]]:
    """Wings and their pages, to be copied: making one looks its file up on the disk."""

    def page(path: str, key: str, icon: str) -> st.Page:
        return st.Page(path, title=words.say(lang, key), icon=icon, default=path == PAGES[0][0])

    return {words.say(lang, wing): [page(*row) for row in rows] for wing, rows in WINGS.items() if rows}


def navigation() -> st.Page:
    """The page that is open. The icon must be set first: otherwise the browser asks a font server for it. The tab's
    title must be set last: otherwise it is the page's alone."""
    st.set_page_config(page_icon=str(ROOT / "assets" / "favicon.svg"), layout="wide")
    page = st.navigation(
        {wing: [copy(one) for one in pages] for wing, pages in _pages(words.current()).items()},
        position="hidden" if state.hidden("pages") or state.get("projector") else "top",
    )
    st.set_page_config(page_title=f"{page.title} · {t('product')}")
    return page


def run() -> None:
    """The whole of app.py."""
    script = get_script_run_ctx()
    if script and script.page_script_hash != st.session_state.get("page.last"):
        forget_parts()
    state.begin()
    page = navigation()
    if script:  # now: a page that was opened by its address has this name only since
        st.session_state["page.last"] = script.page_script_hash
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center", key="masthead"):
        st.html(f'<p class="brand">{words.t("brand")}</p>')
        if state.get("projector"):
            from pages.kit import teacher

            teacher.bar(page.url_path)
        else:
            _teachers_link(page.url_path)
            with st.container(horizontal=True, horizontal_alignment="right", gap="small", key="switches"):
                _depth_switch()
                _language_switch()
    if state.get("lock") or state.get("hide"):
        from pages.kit import teacher

        teacher.say_what_is_fixed()
    drawing = "building" if page.url_path == "" else "plates"  # what the page shows first
    with st.container(key="invisible"):
        st.html(ROOT / "assets" / "kit" / "page.css")
        if state.get("projector"):
            st.html(ROOT / "assets" / "kit" / "projector.css")
        _page(
            key="page",
            data=plates.packed({
                "lang": t("language.html"),
                "skip": t("skip"),
                "away": t("away"),
                "modules": [plates.address(drawing)],
                "projector": bool(state.get("projector")),
                "seat": st.session_state.get("class.kept"),
            }),
            on_back_change=_back_in_class,
        )  # fmt: skip
    if state.get("lesson"):
        from pages.kit import lesson

        lesson.bar(page)
    if "class" in st.session_state or "class.over" in st.session_state:
        from pages.kit import classroom

        classroom.bar(page.url_path)
    alone = not (state.get("lesson") or "class" in st.session_state)
    (_apart if alone and page.url_path in APART else _draw)(page)


def _draw(page: st.Page) -> None:
    """The page itself."""
    inside = _in_shell.set(True)
    try:
        guarded(copy(page).run)()  # a page of Streamlit's runs once
        _settled()
    except (RerunException, StopException):  # the page itself asked for another run, or to end here
        _settled()
        raise
    finally:
        _in_shell.reset(inside)


def _apart(page: st.Page) -> None:
    """The page itself, by itself: what is done in it leaves what surrounds it as it stands."""
    whole = True

    def body() -> None:
        nonlocal whole
        if not whole:
            state.begin()
        whole = False
        _draw(page)

    fragment(f"page.{page.url_path}", None)(body)()


def _settled() -> None:
    if "class" in st.session_state:
        from pages.kit import classroom

        classroom.settled()


def require_shell() -> None:
    """First call of every page file.

    The first visitor of a fresh process who opens a page's own address gets that file alone, without app.py, because
    the folder is called pages. Building the navigation turns that off for the whole process; the rerun is complete.
    """
    if not _in_shell.get():
        state.begin()
        navigation()
        st.rerun()


def guarded(draw: Callable[..., None]) -> Callable[..., None]:
    """`draw`, with a sentence on screen in place of a traceback. For pages, and for fragments, which run alone."""

    @wraps(draw)
    def safely(*args: Any) -> None:
        try:
            with turns.taken():
                draw(*args)
        except Exception as error:
            complain(error)

    return safely


def fragment(name: str, run_every: float | None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A guarded part of a page that runs again by itself every so many seconds. `name`: its own, and its page's.

    Streamlit tells fragments apart by their function and their place. What stands at one place on two pages would be
    one to it, and a tick of the page that was just left would be drawn into the new page before that is there: the
    browser then shows nothing at all.
    """

    def wrap(draw: Callable[..., None]) -> Callable[..., None]:
        safely = guarded(draw)
        safely.__qualname__ = name
        return st.fragment(run_every=run_every)(safely)

    return wrap


def forget_parts() -> None:
    """The page is left: no part of it is drawn again by itself.

    A browser goes on asking for such parts until it has heard of the next page. Streamlit would answer when that page
    stands, in the name of the one before; the browser would then take everything away and find no place for what comes
    next. A part that is not known is not answered.
    """
    if script := get_script_run_ctx():
        script.fragment_storage.clear()


def _back_in_class() -> None:
    """The page was loaded again in a tab that remembers its place in a class."""
    from pages.kit import classroom

    classroom.come_back((st.session_state.get("page") or {}).get("back"))


def _teachers_link(page: str) -> None:
    """A quiet button; what it opens is brought in only then, and stays open whatever else makes the page run again."""

    def wanted() -> None:
        st.session_state["teacher.wanted"] = True

    st.button(t("teacher.open"), icon=":material/qr_code_2:", type="tertiary", key="teacher_open", on_click=wanted)
    if st.session_state.get("teacher.wanted"):
        from pages.kit import teacher

        teacher.dialog(page)


def _language_switch() -> None:
    control(
        st.segmented_control, "lang", words.current(), t("language.label"), words.languages(), key="language_switch",
        tell=state.switched, required=True, label_visibility="collapsed",
    )  # fmt: skip


def _depth_switch() -> None:
    control(
        st.segmented_control, "depth", state.get("depth"), t("depth.label"), state.DEPTHS, format_func=named("depth"),
        key="depth_switch", tell=state.switched, required=True, label_visibility="collapsed",
    )  # fmt: skip


def door(page: str) -> None:
    """To the page before and the page after, in the order of the walk."""
    if state.hidden("pages"):
        return
    at = [path for path, _, _ in PAGES].index(f"pages/{page}.py")
    # Onwards is on the right, also from the first page.
    ends: Literal["distribute", "right"] = "distribute" if at else "right"
    with st.container(horizontal=True, horizontal_alignment=ends, key="doors"):
        for other, words_key in ((at - 1, "chapter.back"), (at + 1, "chapter.next")):
            if 0 <= other < len(PAGES):
                path, key, icon = PAGES[other]
                st.page_link(path, label=t(words_key, page=t(key)), icon=icon)


def plain(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~$:])", r"\\\1", text)


def complain(error: Exception) -> None:
    """One sentence that says what is wrong and what to do. What a person cannot mend goes to the operator's log too,
    without the person's words."""
    if not hasattr(error, "key"):  # not a model.UserError, which is not imported here: see pages/lobby.py
        logging.getLogger(__name__).error("%s", type(error).__name__, exc_info=error)
    st.error(plain(words.error_sentence(error)), icon=":material/error:")
