"""A class together, as one visitor's screen sees it: the bar on every page, following, predictions, questions.

A screen asks every other second for the class's version and takes over what has changed; nobody is called. What a
visitor is in a class is a `Seat` in the session: nothing of it stands in a link.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import ceil
from os import environ
from pathlib import Path
from typing import Any

import streamlit as st

from pages.kit import ask, classes, lesson, plates, shell, state, words
from pages.kit.classes import Board, Classes, View
from pages.kit.figures import together as figures
from pages.kit.stores import ClassError, Memory, Redis
from pages.kit.words import t

POLL = 2.0
"""Seconds between two looks at the class."""
LATE = 4.0
"""Seconds for which a browser may still ask for what its screen showed before it took something over."""
RESULTS = 2.0
"""Seconds between two looks at a tally or at the questions."""
MOST_WRONG = 10
PAUSE = 60.0
"""Seconds for which a visitor waits who has typed MOST_WRONG codes of no class."""
FAILED = "together.failed"
SEAT, OVER, KEPT, ASKING = "class", "class.over", "class.kept", "class_asking_open"
SHOWN, NEWS = "class.shown", "class.news"
OWN = ("lang", "depth", "projector", "lesson", "stop")
"""Settings of everybody's own screen, which are not followed. Of a lesson a student's screen takes over the light."""
STOP = state.TABLE["stop"].link
APART = ("together", "lesson", "guide", "record", "check")
"""Pages that everybody opens alone: what is done there is not shown to a class."""
FOLLOWED = {Path(path).stem: path for path, _, _ in shell.PAGES if Path(path).stem not in APART}
ENDS = ("class_gone", "class_secret")

Shown = tuple[str, dict[str, str]]  # a page and its link


@dataclass
class Seat:
    """A visitor in a class. A student has an id, a teacher the secret."""

    code: str
    who: str | None = None
    secret: str | None = None
    following: bool = True
    turn: int = 0  # of the board, as far as this screen has taken it over
    agreed: Shown | None = None  # what this screen showed when it was last taken over, shown or drawn
    left: list[tuple[float, Shown]] = field(default_factory=list)  # when it took over, and what it showed before
    page: str = ""
    # For what the bar was drawn: what this screen does, may one ask, at which stop of a lesson the teacher stands.
    drawn: tuple[str, bool, str | None] = ("waits", True, None)
    guesses: dict[str, int] = field(default_factory=dict)  # by the question's key
    counted: set[str] = field(default_factory=set)  # keys of those that were handed in
    tallies: dict[str, bool] = field(default_factory=dict)  # questions of this page: whether their tally is drawn

    @property
    def teaches(self) -> bool:
        """Whether this screen steers."""
        return self.secret is not None


@st.cache_resource(show_spinner=False)
def rooms() -> Classes:
    """All classes of this hospital."""
    url = environ.get("REDIS_URL")
    return Classes(Redis(url) if url else Memory())


def seat() -> Seat | None:
    """Where this visitor sits."""
    return st.session_state.get(SEAT)


# -- in and out --------------------------------------------------------------------------------------------------------


def open_class() -> None:
    """A new class, taught from this screen. ClassError where there is no room."""
    code, secret = rooms().open()
    _sit(Seat(code, secret=secret))


@contextmanager
def _few_tries() -> Iterator[None]:
    """Codes and secrets are not to be found by trying: after many wrong ones nothing is tried for a while."""
    now, wrong = time.monotonic(), st.session_state.setdefault("class.wrong", [])
    wrong[:] = [at for at in wrong if at > now - PAUSE]
    if len(wrong) >= MOST_WRONG:
        raise ClassError("class_tries", seconds=ceil(wrong[0] + PAUSE - now))
    try:
        yield
    except ClassError as error:
        if error.key in ("class_gone", "class_secret"):
            wrong.append(now)
        raise


def tried(what: Callable[..., None], *args: str) -> None:
    """Do it; what stands in the way is said on the page."""
    st.session_state.pop(FAILED, None)
    try:
        what(*args)
    except ClassError as error:
        st.session_state[FAILED] = error


def join_typed() -> None:
    """Into the class whose code was typed."""
    tried(join, st.session_state["class_typed"])


def join(typed: str) -> None:
    """Into a class by its code. ClassError where there is none, and for a while after many wrong ones."""
    code, who = classes.code_of(typed), classes.new_id()
    with _few_tries():
        rooms().look(code, who)
    _sit(Seat(code, who=who))


def teach(typed: str, secret: str) -> None:
    """Become the teacher of a class by its secret. ClassError for a wrong one."""
    code = classes.code_of(typed)
    with _few_tries():
        board = rooms().look(code, secret=secret).board
    _sit(Seat(code, secret=secret))
    if board.page:  # what is opened from here goes on with what the class looks at
        _wear(board)


def come_back(kept: Any) -> None:
    """After a reload: what this tab remembers. Anything else than a seat in a class that goes on is forgotten."""
    if seat() or not isinstance(kept, Mapping):
        return
    code, who, secret = (str(kept.get(name) or "")[:99] for name in ("code", "who", "secret"))
    try:
        code = classes.code_of(code)
        if secret:
            with _few_tries():
                rooms().look(code, secret=secret)
            _sit(Seat(code, secret=secret))
        elif rooms().knows(code, who):
            rooms().look(code, who)
            _sit(Seat(code, who=who))
        else:  # an id that this class gave to nobody
            join(code)
    except ClassError as error:
        if error.key == "class_unreachable":  # it is asked again after the next reload
            st.session_state[OVER] = error
        else:
            _stand_up(ClassError("class_over") if error.key in ENDS else None)


def leave() -> None:
    """Out of the class, which goes on."""
    if here := seat():
        if here.who:
            with suppress(ClassError):  # it is forgotten by itself
                rooms().leave(here.code, here.who)
        _stand_up()


def close() -> None:
    """The class is over for everybody. Of its teacher only."""
    if (here := seat()) and here.secret:
        try:
            rooms().close(here.code, here.secret)
        except ClassError as error:
            if error.key not in ENDS:
                st.session_state[OVER] = error
                return
        _stand_up(ClassError("class_closed"))


def _sit(place: Seat) -> None:
    st.session_state[SEAT] = place
    st.session_state[KEPT] = {"code": place.code, "who": place.who, "secret": place.secret}
    st.session_state.pop(OVER, None)


def _stand_up(why: ClassError | None = None) -> None:
    st.session_state.pop(SEAT, None)
    st.session_state[KEPT] = ""
    if why:
        st.session_state[OVER] = st.session_state[NEWS] = why


# -- following ---------------------------------------------------------------------------------------------------------


def _mine(place: Seat, page: str | None = None) -> Shown:
    """What this screen shows, as far as it is followed; on `page`, where it is about to be. A teacher's sentence is
    named even where none was typed: the one that stands there before is another in every language. So are a lesson and
    its stop, on the stop's page."""
    page = page or place.page
    values = {one: state.get(one) for one in state.TABLE if one not in OWN}
    if place.teaches:
        values["sentence"] = ask.current()
        if (at := lesson.here()) and at[0].stops[at[1]].page == page:
            values |= {"lesson": at[0].minutes, "stop": at[0].stops[at[1]].key}
    return page, state.to_link(values)


def _lead(place: Seat, board: Board, alone: bool) -> None:
    """Show the class what this screen shows; where another screen of the teacher's has shown something, that."""
    if place.page not in FOLLOWED or place.secret is None:
        return
    mine = _mine(place)
    if _late(place, mine):
        _take(place, board, alone)
    elif mine != place.agreed:
        place.turn = rooms().show(place.code, place.secret, *mine)  # where that fails the next look tries again
        place.agreed = mine
    elif board.turn > place.turn:
        _take(place, board, alone)


def _follow(place: Seat, board: Board, alone: bool) -> None:
    """Take over what the teacher shows, unless this visitor has touched something."""
    mine = _mine(place)
    place.agreed = place.agreed or mine
    late = _late(place, mine)
    place.following = place.following and (late or mine == place.agreed)
    if place.following and (late or board.turn != place.turn):
        _take(place, board, alone)


def _late(place: Seat, mine: Shown) -> bool:
    """Whether this screen is back at what it showed a moment ago: a browser that has not heard yet where it was taken
    asks with the old page and the old link. Nobody has touched anything."""
    now = time.monotonic()
    place.left = [one for one in place.left if one[0] > now - LATE]
    if place.agreed is None or mine == place.agreed or not place.left:
        return False
    known = [place.agreed, *(shown for _, shown in place.left)]
    return mine[0] in [page for page, _ in known] and mine[1] in [link for _, link in known]


def _take(place: Seat, board: Board, alone: bool) -> None:
    """What the board shows, on this screen."""
    place.turn = board.turn
    if board.page not in FOLLOWED:
        return
    before = _mine(place)
    _wear(board)
    place.agreed = _mine(place, board.page)
    if before not in [place.agreed, *(shown for _, shown in place.left)]:
        place.left.append((time.monotonic(), before))
    if board.page != place.page:
        shell.forget_parts()  # now: another part of this page may already be asking
        st.switch_page(FOLLOWED[board.page])
    elif alone and place.agreed != before:
        st.rerun()


def _wear(board: Board) -> None:
    """The board's settings."""
    shown = state.from_link(board.link)
    for one in state.SETTINGS:
        if one.link and one.name not in OWN:
            state.place(one.name, shown.get(one.name))


def settled() -> None:
    """A page has been drawn to its end: what it made of its settings by itself was not touched by anybody."""
    place = seat()
    if place and place.agreed and not place.teaches and place.following:
        place.agreed = _mine(place)


def lead() -> None:
    """A part of the teacher's page runs without the bar, since something was done in it: the class sees it now, and not
    after the bar's next look."""
    state.see()
    place = seat()
    if place and place.secret and place.agreed and place.agreed != _mine(place):
        with suppress(ClassError):  # the bar's next look says it
            _lead(place, rooms().look(place.code, secret=place.secret).board, True)


def _wander() -> None:
    if place := seat():
        place.following = False


def catch_up() -> None:
    """Follow again, from where the class is now."""
    if place := seat():
        place.following, place.turn = True, -1
        place.agreed, place.left = _mine(place), []


def go() -> None:
    """To where the class is, with all that it looks at, and on in its lesson. For another screen of the teacher's."""
    if (place := seat()) and (view := look()):
        shown = state.from_link(view.board.link)
        for one in {"lesson", "stop"} & set(shown):
            state.place(one, shown[one])
        _take(place, view.board, True)


# -- the bar -----------------------------------------------------------------------------------------------------------


def bar(page: str) -> None:
    """On every page while in a class: code, how many are here, whether one follows; and the question that is lit up.
    `page`: the address of the page, empty for the lobby."""
    if news := st.session_state.pop(NEWS, None):  # the bar itself may be out of sight
        st.toast(shell.plain(words.error_sentence(news)), icon=":material/groups:")
    if why := st.session_state.get(OVER):
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key="class_over"):
            st.info(shell.plain(words.error_sentence(why)), icon=":material/groups:")
            st.button(
                t("together.understood"), on_click=st.session_state.pop, args=(OVER, None), key="class_understood"
            )
    place = seat()
    if place is None:
        return
    place.page, place.tallies = page or Path(shell.PAGES[0][0]).stem, {}
    st.html(shell.ROOT / "assets" / "kit" / "classroom.css")
    inline = True

    @shell.fragment(f"class_bar.{place.page}", POLL)
    def body() -> None:
        nonlocal inline
        alone, inline = not inline, False
        if alone:
            state.see()
        _tick(place, alone)

    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="class_bar"):
        body()
        if place.teaches:
            with st.popover(t("together.questions.open"), icon=":material/contact_support:"):
                questions("bar")
            with st.popover(t("together.close.open"), icon=":material/logout:"):
                st.markdown(t("together.close.what"))
                st.button(t("together.close.sure"), type="primary", key="class_close", on_click=close)
        else:
            how, asking, _ = place.drawn
            if how == "follows":
                st.button(t("together.wander"), icon=":material/explore:", key="class_wander", on_click=_wander)
            elif how == "wanders":
                st.button(
                    t("together.rejoin"), icon=":material/sync:", type="primary", key="class_rejoin", on_click=catch_up
                )
            _ask(asking)
            with st.popover(t("together.leave.open"), icon=":material/logout:", type="tertiary"):
                st.markdown(t("together.leave.what"))
                st.button(t("together.leave.sure"), type="primary", key="class_leave", on_click=leave)
    if (stop := place.drawn[-1]) and not lesson.here():  # a lesson of one's own has a light of its own
        with st.container(key="class_light"):
            lesson.follow(stop, place.page)


def _tick(place: Seat, alone: bool) -> None:
    """One look at the class. `alone`: nothing else of the page is drawn in this run. What is drawn here is one element:
    every further one costs as much again, with every look of everybody."""
    try:
        view = rooms().look(place.code, place.who, place.secret)
        _lead(place, view.board, alone) if place.teaches else _follow(place, view.board, alone)
        _count(place, view.board)
    except ClassError as error:
        if error.key in ENDS:
            _stand_up(ClassError("class_over") if error.key == "class_gone" else error)
            st.rerun()
        return shell.complain(error)
    board, how = view.board, _how(place, view.board)
    now = (how, board.asking, board.link.get(STOP) if how == "follows" else None)
    late = any(not drawn and key in board.polls and board.polls[key].shown for key, drawn in place.tallies.items())
    if alone and not place.teaches and (late or place.drawn != now):
        st.rerun()
    place.drawn = now
    st.html(_told(place, view, how))


def _how(place: Seat, board: Board) -> str:
    """What this screen does, as words `together.bar.<how>`."""
    if place.teaches:
        return "leads" if place.page in FOLLOWED else "apart" if board.page else "before"
    return "wanders" if not place.following else "follows" if board.page else "waits"


def _told(place: Seat, view: View, how: str) -> str:
    """Code, how many are here, what this screen does; and the question that is lit up. As HTML, whose texts are no
    HTML."""
    board = view.board
    parts = [t("together.bar.code", code=place.code), t("together.bar.here", count=view.here)]
    if place.teaches and (waiting := sum(one.id != board.lit for one in board.questions)):
        parts.append(t("together.bar.asked", count=waiting))
    line = "".join(f"<span>{html.escape(part)}</span>" for part in parts)
    said = html.escape(t(f"together.bar.{how}", page=page_name(board.page)))
    told = f'<div class="class-text"><p>{line}</p><p class="{how}" role="status">{said}</p></div>'
    if board.question and (place.teaches or place.following):
        lit, text = html.escape(t("together.lit")), html.escape(board.question)
        quote = f'<blockquote dir="auto">{text}</blockquote>'
        small = " small" if board.gone_on else ""  # large type for what is talked about, room for what comes after it
        told += f'<figure class="class-lit{small}"><figcaption>{lit}</figcaption>{quote}</figure>'
    return told


def page_name(page: str | None) -> str:
    """What a page is called on screen."""
    return next((t(key) for path, key, _ in shell.PAGES if Path(path).stem == page), "")


# -- questions ---------------------------------------------------------------------------------------------------------


def _ask(asking: bool) -> None:
    """A student's question to the teacher. Drawn alone when it is opened or sent: nothing else of the page changes."""
    page = here.page if (here := seat()) else ""

    @shell.fragment(f"class_ask.{page}", None)
    def body() -> None:
        with st.popover(t("together.ask.open"), icon=":material/contact_support:", key=ASKING, on_change="rerun"):
            _question(asking)
        if st.session_state.pop("class.sent", None):
            st.toast(t("together.ask.sent"), icon=":material/check:")

    body()


def _question(asking: bool) -> None:
    """What it is typed into. Once the teacher has it, it is shut and out of the way."""
    if not asking:
        st.caption(t("error.class_ask_stopped"))
        return

    def send() -> None:
        if (place := seat()) is None:
            return
        try:
            rooms().ask(place.code, place.who or "", st.session_state.get("class_question", ""))
            st.session_state["class.sent"], st.session_state[ASKING] = True, False
        except ClassError as error:
            st.session_state["class.asked"] = error

    with st.form("class_ask", clear_on_submit=True, border=False):
        st.text_area(t("together.ask.label"), key="class_question", max_chars=classes.MOST_CHARS, height=150)
        st.form_submit_button(t("together.ask.send"), on_click=send, type="primary")
    st.caption(t("together.ask.what", most=classes.MOST_EACH))
    if error := st.session_state.pop("class.asked", None):
        shell.complain(error)


def questions(where: str) -> None:
    """What students asked, for the teacher. `where` tells two lists on one page apart."""
    page = here.page if (here := seat()) else ""

    @shell.fragment(f"class_questions.{where}.{page}", RESULTS)
    def body() -> None:
        place = seat()
        if place is None or not place.teaches:
            return
        if view := look():
            _list(view.board, where)

    body()


def _do(what: str, *args: object) -> bool:
    """Something that only the teacher may do; whether it was done."""
    if (place := seat()) and place.secret:
        try:
            getattr(rooms(), what)(place.code, place.secret, *args)
            return True
        except ClassError as error:
            st.session_state[OVER] = error
    return False


def _list(board: Board, where: str) -> None:
    # Another widget for either value: in a popover that is shut, a browser misses what a widget is told later.
    st.toggle(
        t("together.questions.allow"), value=board.asking, key=f"class_asking_{where}_{board.asking}",
        on_change=_do, args=("allow", not board.asking),
    )  # fmt: skip
    if not board.questions:
        st.caption(t("together.questions.none"))
    for one in board.questions:
        lit, here = one.id == board.lit, f"{where}_{one.id}"
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"class_q_{here}"):
            st.html(f'<p class="class-asked{" lit" if lit else ""}" dir="auto">{html.escape(one.text)}</p>')
            st.button(
                t("together.questions.away" if lit else "together.questions.light"),
                icon=":material/lightbulb:", type="primary" if lit else "secondary", key=f"class_light_{here}",
                on_click=_do, args=("light", None if lit else one.id),
            )  # fmt: skip
            st.button(
                t("together.questions.delete"), icon=":material/delete:", key=f"class_delete_{here}",
                type="tertiary", on_click=_do, args=("remove", one.id),
            )  # fmt: skip


# -- predictions -------------------------------------------------------------------------------------------------------


def _count(place: Seat, board: Board) -> bool:
    """Hand in what this student guessed, once the class is asked it; whether something was."""
    due = [key for key in place.guesses if key in board.polls and key not in place.counted]
    for key in due:
        if place.who and not board.polls[key].shown:
            rooms().answer(place.code, place.who, key, place.guesses[key])
        place.counted.add(key)
    return bool(due)


def tally(key: str, options: Sequence[str], said: int | None, right: int) -> None:
    """Under a question of `chapter.predict`: what the class guesses. For the teacher as it comes in, for a student who
    has answered, and for everybody once it is shown, which also says which answer is right. `key`: the question;
    `said`: this visitor's guess, below 0 for none; `right`: the right one."""
    place, view = seat(), look()
    if place is None or view is None:
        return
    try:
        if place.secret is None:
            if said is not None and said >= 0:
                place.guesses[key] = said
            _count(place, view.board)
        elif key not in view.board.polls and place.page in FOLLOWED:
            rooms().poll(place.code, place.secret, key, len(options))
            view = rooms().look(place.code)
    except ClassError:
        return  # the bar says it
    poll = view.board.polls.get(key)
    place.tallies[key] = poll is not None and (place.teaches or said is not None or poll.shown)
    if poll is None:
        return
    if not place.tallies[key]:
        st.caption(t("together.tally.waits"))
        return

    @shell.fragment(f"class_tally.{place.page}.{key}", None if poll.shown else RESULTS)
    def body() -> None:
        if st.session_state.get(SHOWN) == key:
            del st.session_state[SHOWN]
            st.rerun()  # what the question opens stands outside of this part of the page
        if view := look():
            _bars(key, options, right, view)

    body()


def _bars(key: str, options: Sequence[str], right: int, view: View) -> None:
    poll, place = view.board.polls.get(key), seat()
    if poll is None or place is None:
        return
    plates.mount(key, [figures.tally(options, poll.counts, view.here, right if poll.shown else None)], {})
    if poll.shown:
        st.caption(t("together.tally.shown"))
    elif place.teaches:
        st.button(
            t("together.tally.show"), icon=":material/visibility:", key=f"{key}.show", on_click=_reveal, args=(key,),
        )  # fmt: skip


def _reveal(key: str) -> None:
    """Show everybody which answer is right. On the teacher's own screen it opens what the question keeps closed, as
    "just show me" does."""
    if _do("reveal", key) and key not in st.session_state:
        st.session_state[key], st.session_state[SHOWN] = -1, key


def look() -> View | None:
    """The class as it is now. None where this visitor is in none, or where it does not answer, which the bar says."""
    place = seat()
    try:
        return rooms().look(place.code) if place else None
    except ClassError:
        return None
