"""The lesson: a guided tour through the house, and the bar that goes along while it runs.

Stops are data (assets/lessons.toml, words `lesson.stop.<key>`). To go to a stop is to follow a link that holds all that
the stop opens: what a link does, the browser's Back undoes, and a reload keeps. assets/lesson/lesson.js follows it
without a new page load, lights up what the stop is about, and hears the keys of a presenter's remote.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from pages.kit import ask, library, shell, state, words
from pages.kit.plates import component
from pages.kit.words import t

AT, BEFORE, LAST = (f"lesson.{what}" for what in ("at", "before", "last"))
SAID = ("title", "say", "look", "ask", "answer")
ASIDE = {Path(path).stem for path, _, _ in shell.WINGS["nav.class"]}
"""Pages beside the story: who opens one by its own address, or once more, is not taken away from it."""
BILLION = 1e9
NO_BREAK = "\u00a0"

Move = dict[str, Any]
"""Where a link leads: "page" (its address), "set" and "drop" (parameters; all others stay as they are)."""

_component = component("lesson")


# -- what a lesson is --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stop:
    """One station of the lesson."""

    key: str
    page: str
    minutes: Mapping[int, int]  # of the class, by version
    example: int | None  # place of its sentence in examples.json; None: whatever sentence is there
    token: int | None  # whom it follows there; None: the last word
    own: Mapping[str, Any]  # what else it opens
    light: tuple[str, ...]  # what it lights up; the first that is there
    asks: str | None = None  # a question that is lit up before, as long as nobody has answered it

    def settings(self) -> dict[str, Any]:
        """Everything that it opens, for this visitor: name of a setting -> value, None for the default."""
        opened: dict[str, Any] = {**dict.fromkeys(_data()["clear"]), **self.own}
        if self.example is not None and not own_sentence():
            opened["sentence"] = sentence(self.example)
            if opened["sentence"] != state.get("sentence") or state.get("token") in (None, self.token):
                opened["token"] = self.token  # whom the visitor chose is followed on
        return opened

    def said(self) -> dict[str, str]:
        """Its words, with the numbers of the model in them."""
        values = {**numbers(), **{name: str(value) for name, value in self.own.items()}}
        return {part: t(f"lesson.stop.{self.key}.{part}", **values) for part in SAID}


@dataclass(frozen=True)
class Lesson:
    """A version of the lesson."""

    minutes: int
    stops: tuple[Stop, ...]

    def place(self, key: str | None) -> int:
        """Which of its stops that is. For a stop of another version the next one of this, for an unknown one the
        first."""
        order = list(stops())
        if key not in order:
            return 0
        later = [i for i, stop in enumerate(self.stops) if order.index(stop.key) >= order.index(key)]
        return later[0] if later else len(self.stops) - 1

    def gone(self, place: int) -> int:
        """Minutes that are over when this stop begins."""
        return sum(stop.minutes[self.minutes] for stop in self.stops[:place])


def _data() -> dict[str, Any]:
    return library.read("lessons")


@cache
def stops() -> dict[str, Stop]:
    """All of them, by key, in the order of the story."""
    return {
        key: Stop(
            key, one["page"], {int(version): minutes for version, minutes in one["minutes"].items()},
            one.get("example"), one.get("token"), one.get("set", {}), tuple(one["light"]),
            one.get("asks"),
        )
        for key, one in _data()["stop"].items()
    }  # fmt: skip


@cache
def lessons() -> dict[int, Lesson]:
    """The versions, by their minutes."""
    return {
        minutes: Lesson(minutes, tuple(stop for stop in stops().values() if minutes in stop.minutes))
        for minutes in _data()["versions"]
    }


def sentence(example: int) -> str | None:
    """An example in the visitor's language; None for the first, which is there anyway."""
    return ask.EXAMPLES.get(words.current(), ask.EXAMPLES[words.FALLBACK])[example] if example else None


def own_sentence() -> bool:
    """Whether the visitor brought a sentence that is not one of the lesson's. It is kept through the whole lesson."""
    shown = {stop.example for stop in stops().values() if stop.example is not None}
    ours = {several[example] for several in ask.EXAMPLES.values() for example in shown}
    return state.get("sentence") not in {None, *ours}


def numbers() -> dict[str, str]:
    """What the words say about this hospital and about published models."""
    folder = os.environ.get("TOKEN_HOSPITAL_CHECKPOINT") or str(shell.ROOT / "assets" / "hospital")
    billion = {what: t("hospitals.billions", value=f"{value / BILLION:.0f}") for what, value in _published().items()}
    return {**_numbers(folder), **{what: said.replace(" ", NO_BREAK) for what, said in billion.items()}}


@cache
def _published() -> dict[str, float]:
    """V3's parameters as its report has them: all, and those that work for a token."""
    said = next(row["published"] for row in library.read("catalogue")["row"] if row["key"] == "deepseek-v3")
    told = {one["what"]: one["value"] for one in said}
    return {"v3_total": told["total"], "v3_active": told["active_without_embedding"]}


@cache
def _numbers(folder: str) -> dict[str, str]:
    """From config.json files alone: no model is opened for it. What cannot be read is the shipped one's."""
    try:
        c = json.loads((Path(folder) / "config.json").read_text("utf-8"))
        found = _counts(c)
    except (OSError, ValueError, KeyError, TypeError):
        c = json.loads((shell.ROOT / "assets" / "hospital" / "config.json").read_text("utf-8"))
        found = _counts(c)
    v3, mixtral = library.published("deepseek-v3"), library.published("mixtral-8x7b")
    found |= {f"v3_{name}": value for name, value in _kept(v3).items()}
    found |= {"eight": mixtral["num_local_experts"], "two": mixtral["num_experts_per_tok"]}
    return {name: f"{value:,}" for name, value in found.items()}


def _counts(c: Mapping[str, int]) -> dict[str, int]:
    floors, desk, k, nurses = (
        c[name] for name in ("num_hidden_layers", "first_k_dense_replace", "num_experts_per_tok", "n_shared_experts")
    )
    departments, rooms = floors - desk, c["n_routed_experts"]
    return {
        "floors": floors, "desk": desk, "departments": departments, "rooms": rooms, "k": k, "nurses": nurses,
        "team": k + nurses, "experts": departments * (k + nurses), "calls": departments * k, "all": departments * rooms,
        "corridors": c["n_group"], "kept": c["topk_group"], "hidden": c["hidden_size"], "vocabulary": c["vocab_size"],
        **_kept(c),
    }  # fmt: skip


def _kept(c: Mapping[str, int]) -> dict[str, int]:
    """What is remembered of a token on a floor."""
    heads, latent, rope = c["num_attention_heads"], c["kv_lora_rank"], c["qk_rope_head_dim"]
    full = heads * (c["qk_nope_head_dim"] + c["v_head_dim"])
    return {"heads": heads, "full": full, "latent": latent, "rope": rope, "code": latent + rope}


# -- where it is, and the ways from there ------------------------------------------------------------------------------


def here() -> tuple[Lesson, int] | None:
    """The lesson that runs and the place of its stop; None where none does."""
    lesson = lessons().get(state.get("lesson"))
    return (lesson, lesson.place(state.get("stop"))) if lesson else None


def move(lesson: Lesson | None, to: Stop | None, page: str | None = None) -> Move:
    """The way to a stop, or out of the lesson (None) on to `page`. What the stop before changed is taken back."""
    wanted: dict[str, Any] = dict(st.session_state.get(BEFORE, {}))
    if own_sentence():
        wanted.pop("sentence", None)
    if to:
        wanted |= to.settings()
    if wanted.get("sentence") != state.get("sentence") and "sentence" in wanted:
        wanted |= {"token": wanted.get("token"), "other": wanted.get("other")}  # belongs to the sentence
    wanted |= {"lesson": lesson.minutes if lesson else None, "stop": to.key if to else None}
    link = state.to_link({name: value for name, value in wanted.items() if value is not None})
    named = [state.TABLE[name].link for name in wanted]
    return {"page": _address(to.page if to else page), "set": link, "drop": [one for one in named if one not in link]}


def _address(page: str | None) -> str | None:
    return "" if page == Path(shell.PAGES[0][0]).stem else page


def _arrive(lesson: Lesson, stop: Stop, page: str) -> None:
    """Once at every stop: keep what was set before it. Who comes by a link that names only the stop is taken to its
    page, and finds there what the stop opens."""
    mark = (lesson.minutes, stop.key)
    if st.session_state.get(AT) == mark:
        return
    fresh, before, opened = AT not in st.session_state, st.session_state.get(BEFORE, {}), stop.settings()
    st.session_state[AT] = mark
    st.session_state[BEFORE] = {name: before.get(name, state.left().get(name)) for name in opened}
    if not fresh:
        return
    for name, value in opened.items():
        if value is not None and state.get(name) == state.TABLE[name].default:
            state.place(name, value)
    if page != stop.page and page not in ASIDE:
        values = {setting.name: state.get(setting.name) for setting in state.SETTINGS}
        st.switch_page(f"pages/{stop.page}.py", query_params=state.to_link(values))
    state.publish()


def left() -> tuple[Lesson, int] | None:
    """Where a lesson that was left stood; None where there was none in this visit."""
    if state.get("lesson") is None and AT in st.session_state:
        st.session_state[LAST] = st.session_state.pop(AT)
        st.session_state.pop(BEFORE, None)
    minutes, key = st.session_state.get(LAST, (None, None))
    lesson = lessons().get(minutes)
    return (lesson, lesson.place(key)) if lesson else None


# -- on the page -------------------------------------------------------------------------------------------------------


def bar(page: st.Page) -> None:
    """What goes along on every page while a lesson runs."""
    found = here()
    if not found:
        return
    lesson, at = found
    stop, address = lesson.stops[at], page.url_path or Path(shell.PAGES[0][0]).stem
    _arrive(lesson, stop, address)
    count, minutes = len(lesson.stops), stop.minutes[lesson.minutes]
    there = address == stop.page
    changed = any(state.get(name) != (state.TABLE[name].default if value is None else value)
                  for name, value in stop.settings().items())  # fmt: skip
    _component(
        key="lesson",
        data={
            "kind": "bar",
            "stop": f"{lesson.minutes}.{stop.key}",
            "there": there,
            **stop.said(),
            "count": t("lesson.bar.count", number=at + 1, count=count),
            "time": t("lesson.bar.time", minutes=minutes, gone=lesson.gone(at) + minutes, total=lesson.minutes),
            "spoken": t("lesson.bar.spoken", number=at + 1, count=count, title=stop.said()["title"]),
            "sentence": _news(lesson, at),
            "part": (at + 1) / count,
            "elsewhere": None if there else t("lesson.bar.elsewhere", page=t(f"nav.{stop.page}")),
            "back": move(lesson, lesson.stops[at - 1]) if at else None,
            "next": move(lesson, lesson.stops[at + 1]) if at + 1 < count else None,
            "again": move(lesson, stop) if changed or not there else None,
            "leave": move(None, None),
            "contents": {"page": "lesson", "set": {}, "drop": []},
            "quiz": None if at + 1 < count or state.hidden("pages") else move(None, None, "quiz"),
            **(lit(stop) if there else {"light": [], "asks": None}),
            "words": words.group("lesson.bar"),
            "lang": t("language.html"),
        },
    )


def _news(lesson: Lesson, at: int) -> str | None:
    """That the sentence is another than at the stop before, where it is: nobody should wonder whose tokens these
    are."""
    told = [stop.example for stop in lesson.stops[: at + 1] if stop.example is not None]
    if at == 0 or lesson.stops[at].example is None or len(told) < 2 or told[-1] == told[-2] or own_sentence():
        return None
    return t("lesson.bar.sentence", sentence=ask.current())


def lit(stop: Stop) -> dict[str, Any]:
    """What it lights up, for the browser."""
    return {"light": list(stop.light), "asks": stop.asks}


def follow(key: str, page: str) -> None:
    """On the page of a student in a class: the light of the stop at which the teacher stands, without the bar."""
    if (stop := stops().get(key)) and stop.page == page:
        _component(key="lesson.light", data={"kind": "light", "stop": key, **lit(stop)})


def contents() -> None:
    """The versions, and every stop with its minutes."""
    running, before = here(), left()
    on = running or before
    _component(
        key="lesson.contents",
        data={
            "kind": "contents",
            "on": on and {
                "title": t("lesson.list.on", number=on[1] + 1, count=len(on[0].stops), minutes=on[0].minutes,
                           title=on[0].stops[on[1]].said()["title"]),
                "go": move(on[0], on[0].stops[on[1]]),
            },
            "versions": [
                {
                    "minutes": t("lesson.list.minutes", minutes=lesson.minutes),
                    "stops": t("lesson.list.stops", count=len(lesson.stops)),
                    "what": t(f"lesson.version.{lesson.minutes}"),
                    "name": t("lesson.list.begin_of", minutes=lesson.minutes),
                    "go": move(lesson, lesson.stops[0]),
                }
                for lesson in lessons().values()
            ],
            "stops": [
                {
                    "title": stop.said()["title"],
                    "page": t(f"nav.{stop.page}"),
                    "here": bool(running) and running[0].stops[running[1]] is stop,
                    "in": [
                        {"minutes": stop.minutes[version], "go": move(lesson, stop),
                         "name": t("lesson.list.open_at", title=stop.said()["title"], minutes=version)}
                        if version in stop.minutes else None
                        for version, lesson in lessons().items()
                    ],
                }
                for stop in stops().values()
            ],
            "totals": [lesson.minutes for lesson in lessons().values()],
            "words": words.group("lesson.list"),
            "lang": t("language.html"),
        },
    )  # fmt: skip
