"""Controls: that one shows a setting and sets it, and that what Streamlit keeps of them for the whole visit is small:
no page's namespace, no pass of the model."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest
import screens
import torch
from screens import PAGES, fine
from streamlit.runtime.state.session_state import SessionState
from streamlit.testing.v1 import AppTest

from model import Trace
from pages.kit import controls, plates, state, words
from pages.kit.controls import control

# -- one control -------------------------------------------------------------------------------------------------------


class Widget:
    """Stands in for one of Streamlit's: remembers how it was drawn, and is used."""

    def __init__(self, session: dict[str, Any]) -> None:
        self.session, self.drawn = session, False

    def __call__(self, label: str, *offered: Any, key: str, **how: Any) -> None:
        self.drawn, self.label, self.offered, self.key, self.how = True, label, offered, key, how

    def use(self, value: Any) -> None:
        self.session[self.key] = value
        self.how["on_change"](*self.how["args"])


@pytest.fixture
def session(monkeypatch) -> dict[str, Any]:
    """A visitor's session."""
    kept: dict[str, Any] = {}
    monkeypatch.setattr(state.st, "session_state", kept)
    return kept


@pytest.fixture
def widget(session) -> Widget:
    return Widget(session)


def test_it_shows_a_setting_and_sets_it(session, widget):
    control(widget, "bits", "int4", "How coarse?", state.BITS, key="beds.bits", required=True)
    assert session["beds.bits"] == "int4" and widget.label == "How coarse?" and widget.offered == (state.BITS,)
    assert widget.how["required"] and not widget.how["disabled"]
    widget.use("int2")
    assert state.get("bits") == "int2"


def test_what_is_chosen_is_read_first(session, widget):
    control(widget, "arms", ["dense"], "Who?", ["dense", "moe"], key="x", read=controls.joined)
    widget.use(["dense", "moe"])
    assert state.get("arms") == "dense.moe"
    widget.use([])
    assert state.get("arms") is None


def test_what_is_chosen_is_told(widget):
    heard: list[object] = []
    control(widget, "kept", 3, "How many?", key="x", tell=lambda *told: heard.append(told), read=str)
    widget.use(5)
    assert heard == [("kept", "5")] and state.get("kept") is None, "whoever is told sets it, or does not"


def test_a_control_that_is_gone_says_nothing(session, widget):
    control(widget, "bits", "int4", "How coarse?", state.BITS, key="beds.bits")
    del session["beds.bits"]
    widget.how["on_change"](*widget.how["args"])
    assert state.get("bits") == state.TABLE["bits"].default


@pytest.mark.parametrize("name,group", [("bits", "change"), ("lang", "language"), ("depth", "depth"), ("seed", "draw")])
def test_a_teacher_leaves_it_out(session, widget, name, group):
    session["setting.hide"] = group
    control(widget, name, 1, "Label", key="x")
    assert not widget.drawn and "x" not in session


@pytest.mark.parametrize("name,group,value", [("bits", "change", "int2"), ("lang", "language", "zh"), ("seed", "draw", 7)])
def test_a_teacher_locks_it(session, widget, name, group, value):
    """It rests; and where a browser says something all the same, nothing is set."""
    session["setting.lock"] = group
    before = state.get(name)
    control(widget, name, before, "Label", key="x")
    assert widget.how["disabled"]
    widget.use(value)
    assert state.get(name) == before != value


@pytest.mark.parametrize("lock", [None, "floor"])
def test_it_rests_for_a_reason_of_its_own_too(session, widget, lock):
    session["setting.lock"] = lock
    control(widget, "seed", 0, "Seed", key="x", disabled=True)
    assert widget.how["disabled"]


def test_a_mapping_says_what_each_option_is_called(widget):
    control(widget, "tune", 1, "Label", {1: "Yes", 0: "No"}, key="x")
    assert widget.offered == ([1, 0],) and [widget.how["format_func"](one) for one in (1, 0)] == ["Yes", "No"]


def test_names_are_in_the_language_of_the_moment():
    said = controls.named("depth")
    for lang in screens.LANGUAGES:
        with words.speaking(lang):
            assert said("maths") == words.say(lang, "depth.maths")


@pytest.mark.parametrize("text,meant", [("", None), ("  ", None), (" MLA ", "MLA")])
def test_what_was_typed(text, meant):
    assert controls.or_none(text) == meant


@pytest.mark.parametrize("now,shown", [("wrong", "wrong"), ("nothing", ""), (None, "")])
def test_one_kind_of_a_list_or_everything(session, monkeypatch, now, shown):
    """A link may ask for a kind that there is not: then everything is shown."""
    pills = Widget(session)
    monkeypatch.setattr(controls.st, "pills", pills)
    session["setting.verdict"] = now
    with words.speaking("en"):
        controls.only("facts", "verdict", {"right": "Right", "wrong": "Wrong"})
    assert pills.offered == (["", "right", "wrong"],) and session["facts.choose"] == shown
    assert pills.how["format_func"]("") == words.say("en", "facts.everything")
    pills.use("right")
    assert state.get("verdict") == "right"
    pills.use("")
    assert state.get("verdict") is None


# -- from page to page -------------------------------------------------------------------------------------------------


def showing(at: AppTest) -> dict[str, Any]:
    """What every control shows, by its key."""
    return {one.key: one.value for one in at.main if isinstance(getattr(one, "key", None), str) and hasattr(one, "value")}


def test_a_control_shows_the_same_however_one_came(monkeypatch, clinic_folder):
    """To Streamlit the box of the next page is another one; it has to be told of the sentence as well."""
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))
    query, boxes = {"s": "Doctor", "depth": "maths", "quiz": 7}, 0
    walking = screens.open_page(PAGES[0], "zh", **query)
    for path in [*PAGES, *reversed(PAGES[:-1])]:
        walking.switch_page(path).run()
        with_link = showing(screens.open_page(path, "zh", **query))
        assert fine(walking) and showing(walking) == with_link, path
        boxes += with_link.get("sentence_box") == "Doctor"
    assert boxes > len(screens.WALK)


# -- what Streamlit keeps of all of them -------------------------------------------------------------------------------


def page_of(space: dict[str, Any]) -> str | None:
    """The page whose namespace that is."""
    file = Path(str(space.get("__file__")))
    return file.stem if space.get("__name__") == "__main__" and file.parent == screens.ROOT / "pages" else None


def heavy(*roots: object) -> list[str]:
    """What hangs on something and must not: pages and passes. Of a function what it was made with is followed, but not
    the module that it lives in."""
    found, seen, todo = [], {}, list(roots)
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, type | ModuleType | CodeType):
            continue
        seen[id(one)] = one
        if isinstance(one, Trace | torch.Tensor):
            found.append(type(one).__name__)
        elif isinstance(one, dict) and (page := page_of(one)):
            found.append(page)
        elif isinstance(one, FunctionType):
            if page := page_of(one.__globals__):
                found.append(f"{page}: {one.__qualname__}")
            todo += [one.__closure__, one.__defaults__, one.__kwdefaults__, vars(one)]
        else:
            todo += gc.get_referents(one)
    return found


def kept(at: AppTest) -> dict[str, Any]:
    """What Streamlit keeps of every widget that this visit has seen."""
    inside: Any = at.session_state
    while not isinstance(inside, SessionState):
        inside = inside._state
    return inside._new_widget_state.widget_metadata


def told(at: AppTest) -> AppTest:
    """The page with every question answered."""
    while todo := [b for b in at.button if str(b.key).endswith(".skip") or b.key == "quiz.next"]:
        at = todo[0].click().run()
    return at


# What has to stand in the link for all that a page can draw.
MORE = {"discharge": {"written": 2}, "record": {"change": "dismiss"}, "glossary": {"term": "n_routed_experts"}}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: Path(path).stem)
def test_nothing_that_is_kept_holds_a_page_or_a_pass(path, monkeypatch, clinic_folder):
    """Or a visit would hold every page that it has seen, with what was looked at there."""
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))
    at = screens.open_page(path, **MORE.get(Path(path).stem, {}))
    assert fine(at) and kept(at)
    at = told(at)
    assert fine(at) and {widget: bad for widget, one in kept(at).items() if (bad := heavy(one))} == {}


def of_a_page() -> Callable[[], None]:
    """A function that a page defines."""
    space: dict[str, Any] = {"__name__": "__main__", "__file__": str(screens.ROOT / "pages" / "triage.py")}
    exec("def heard(): pass", space)
    return space["heard"]


class Holder:
    """Something with an attribute."""

    def __init__(self, one: object) -> None:
        self.one = one

    def heard(self) -> None:
        """A method."""


@pytest.mark.parametrize("make", [
    lambda one: one, lambda one: (1, [{"a": one}]), lambda one: partial(print, one), lambda one: partial(print, end=one), lambda one: lambda: one,
    lambda one: lambda x=one: x, lambda one: Holder(one).heard, lambda one: {1: one}.setdefault,
], ids=["itself", "values", "args", "kwargs", "closure", "default", "method", "of a dict"])  # fmt: skip
@pytest.mark.parametrize("bad", [of_a_page, lambda: of_a_page().__globals__, lambda: Trace.__new__(Trace), lambda: torch.zeros(1)],
                         ids=["function", "namespace", "trace", "tensor"])  # fmt: skip
def test_the_search_finds_what_it_should(make, bad):
    assert len(heavy(make(bad()))) >= 1 and heavy(make("small")) == []


def test_what_pictures_tell_again_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """They go while a question is open and come back with what they last said, and much was chosen meanwhile."""
    session: dict[str, Any] = {}
    told: list[dict[str, int]] = []
    hear: list[Any] = []
    monkeypatch.setattr(plates.st, "session_state", session)
    monkeypatch.setattr(plates, "_component", lambda **given: hear.append(given["on_pick_change"]))
    plate = plates.tokens([{"text": text} for text in "abc"], title="Who?")
    plates.mount("round.who", [plate], {"token": 0}, told.append)
    for number, token in ((1, 2), (2, 1), (2, 1), (3, 2)):
        session["plates.round.who"] = {"pick": {"page": "round.who", "number": number, "token": token}}
        hear[0]()
    assert told == [{"token": 2}, {"token": 1}, {"token": 2}]
