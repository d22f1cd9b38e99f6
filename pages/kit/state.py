"""Everything that a person can set, declared once. The table parses and writes the link in the address bar.

A later page adds its settings to SETTINGS; nothing else has to know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner_utils.script_run_context import ThreadState, get_script_run_ctx

from pages.kit import words

MAX_CHARS = 20_000
"""Longest text that is looked at at all. Far above what 256 tokens can hold, so that a text which is too long can be
told so, instead of being cut by the browser."""
MAX_LINKED = 12_000
"""Most bytes of a text that stands in the link, where each may take three signs. 256 tokens stay below it. The server
takes no address of more than 64 kB: whoever loads the page again would find none."""
MAX_SEARCH = 80
"""Longest text that is searched for."""
MAX_WRITTEN = 48
"""Most tokens that are written after a text."""
HUNDRED = 100
TEN_THOUSAND = 10_000
MOST_TEMPERATURE = 2 * HUNDRED  # hundredths
MOST_TOP_K = 100


@dataclass(frozen=True)
class Setting:
    """One thing that a person can set."""

    name: str
    link: str | None  # its name in the link; None: not in the link
    valid: Callable[[Any], bool]
    read: Callable[[str], Any] = str  # from the link's text; ValueError if it is none
    write: Callable[[Any], str] = str
    default: Any = None  # None: the page decides (the example sentence, the last word, the top floor)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_CHARS and not any("\ud800" <= c <= "\udfff" for c in value)


def _is_search(value: Any) -> bool:
    return _is_text(value) and len(value) <= MAX_SEARCH and bool(value.strip())


def _is_count(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise ValueError(text)
    return int(text)


def _is_key(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", value, re.A) is not None


def _are_keys(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 999 and all(_is_key(one) for one in value.split("."))


def _is_branch(value: Any) -> bool:
    one = r"\d{1,2}\.\d{1,6}"
    return isinstance(value, str) and re.fullmatch(rf"{one}(-{one}){{0,15}}", value, re.A) is not None


DEPTHS = ("story", "maths", "code")
FOLLOW = ("one", "all")
CHANGES = (
    "dismiss", "force", "silence_shared", "silence_routed", "num_experts_per_tok",
    "bias_in_weights", "mask_with_zero", "softmax", "silence_heads", "close_records",
)  # fmt: skip

TASKS = ("mixed", "single")

BITS = ("int8", "int4", "int3", "int2")
COARSE = ("floor", "interns", "house")
PLANS = ("prefill", "run", "decode")
LESSONS = (5, 20, 45)  # minutes of the versions of the lesson

# What a teacher's link can fix, and leave out: a name -> the settings that go with it, and axes of plates that stand
# for one. The last two are no settings; they can only be left out, as there is nothing about them to fix.
GROUPS: dict[str, tuple[str, ...]] = {
    "sentence": ("sentence",),
    "who": ("token", "other", "follow"),
    "floor": ("floor",),
    "depth": ("depth",),
    "language": ("lang",),
    "change": ("change", "k", "rank", "bits", "coarse"),
    "draw": ("temperature", "top_k", "top_p", "seed", "branch", "candidate"),
    "training": ("arms", "bank", "nudge", "aux", "lessons", "rare", "processes"),
    "pages": (),
    "answers": (),
}
ONLY_HIDDEN = ("pages", "answers")
AIMS = ("room", "head")  # whom a change is about; while nothing is changed, only what is looked at
_GROUP_OF = {name: group for group, names in GROUPS.items() for name in names}


def groups(chosen: Iterable[str]) -> str | None:
    """Names of groups as a link has them: the known ones, each once, in one order; None without any."""
    wanted = set(chosen)
    return ".".join(group for group in GROUPS if group in wanted) or None


def _known_groups(but: Sequence[str] = ()) -> Callable[[str], str]:
    """Reads groups out of a link; those that are not known are left out. ValueError where none is."""

    def read(text: str) -> str:
        found = groups(one for one in text[:999].split(".") if one not in but)
        if found is None:
            raise ValueError(text)
        return found

    return read


def _are_groups(but: Sequence[str] = ()) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value == groups(set(value.split(".")) - set(but))


SETTINGS: tuple[Setting, ...] = (
    Setting("lang", "lang", valid=lambda v: v in words.languages()),
    Setting("sentence", "s", valid=_is_text),
    Setting("token", "token", valid=_is_count(0, 999_999), read=_whole),  # a position; 0 is the door
    Setting("floor", "floor", valid=_is_count(1, 999_999), read=_whole),
    Setting("follow", "follow", valid=lambda v: v in FOLLOW, default="one"),  # whose rooms the building shows
    Setting("depth", "depth", valid=lambda v: v in DEPTHS, default="story"),
    Setting("other", "other", valid=_is_count(0, 999_999), read=_whole),  # a second position, to compare with
    Setting("room", "room", valid=_is_count(0, 999_999), read=_whole),
    Setting("head", "head", valid=_is_count(0, 999_999), read=_whole),
    # What is changed about the pass; each page says which of these it offers (model.Interventions has the meaning).
    Setting("change", "change", valid=lambda v: v in CHANGES),
    Setting("k", "k", valid=_is_count(1, 16), read=_whole),
    Setting("rank", "rank", valid=_is_count(1, 999), read=_whole),
    # How the next token is drawn (model.SamplingSettings); hundredths, so that links stay plain.
    Setting("temperature", "temperature", valid=_is_count(0, MOST_TEMPERATURE), read=_whole, default=HUNDRED),
    Setting("top_k", "top_k", valid=_is_count(1, MOST_TOP_K), read=_whole),  # None: all
    Setting("top_p", "top_p", valid=_is_count(1, HUNDRED), read=_whole, default=HUNDRED),
    Setting("seed", "seed", valid=_is_count(0, 9_999), read=_whole, default=0),
    # What is written after the sentence: how many tokens; which of them is looked at; where another one than the drawn
    # was taken ("3.17-5.2": 17 as number 3, 2 as number 5, from 0); whether the MTP module was asked to guess.
    Setting("written", "written", valid=_is_count(0, MAX_WRITTEN), read=_whole, default=0),
    Setting("step", "step", valid=_is_count(0, MAX_WRITTEN), read=_whole, default=0),
    Setting("branch", "branch", valid=_is_branch),
    Setting("ahead", "ahead", valid=_is_count(0, 1), read=_whole, default=0),
    # Beds: experts that every floor keeps at hand, and how coarse which weights are. Construction: which plan; over how
    # many cards and with how many spare interns instead of its own.
    Setting("kept", "kept", valid=_is_count(1, 9_999), read=_whole),
    Setting("bits", "bits", valid=lambda v: v in BITS, default="int4"),
    Setting("coarse", "coarse", valid=lambda v: v in COARSE, default="floor"),
    Setting("plan", "plan", valid=lambda v: v in PLANS, default="run"),
    Setting("spread", "spread", valid=_is_count(1, 9_999), read=_whole),
    Setting("spare", "spare", valid=_is_count(0, 9_999), read=_whole),
    # The library: what is looked for among claims and among terms; which verdict, kind of model and topic are kept;
    # which claim and which term are asked, and which term was come for.
    Setting("find", "find", valid=_is_search),
    Setting("verdict", "verdict", valid=_is_key),
    Setting("claim", "claim", valid=_is_key),
    Setting("word", "word", valid=_is_search),
    Setting("topic", "topic", valid=_is_key),
    Setting("term", "term", valid=_is_key),
    Setting("asked", "asked", valid=_is_key),
    Setting("kind", "kind", valid=_is_key),
    # The timetable: whose visits are shown, and after which of the recorded counts.
    Setting("subject", "subject", valid=_is_count(0, 99), read=_whole, default=0),
    Setting("moment", "moment", valid=_is_count(0, 99), read=_whole),  # None: the last one
    # Cramming: different questions in the bank.
    Setting("bank", "bank", valid=_is_count(1, 999_999), read=_whole),
    # Labs that train several side by side: which ones (a new skill: "dense.interns"; queues: "bias.none").
    Setting("arms", "arms", valid=_are_keys),
    # Which to build: how many cards there are, conversations at once, kind of task, whether a new skill must be taught,
    # tenths of the power of ten of the FLOPs for training, and which two of the catalogue are set side by side.
    Setting("cards", "cards", valid=_is_count(1, 9_999), read=_whole, default=16),
    Setting("served", "served", valid=_is_count(1, 99_999), read=_whole, default=16),
    Setting("tasks", "tasks", valid=lambda v: v in TASKS, default=TASKS[0]),
    Setting("tune", "tune", valid=_is_count(0, 1), read=_whole, default=0),
    Setting("budget", "budget", valid=_is_count(180, 280), read=_whole, default=240),
    Setting("pair_moe", "pair_moe", valid=_is_key, default="deepseek-v3"),
    Setting("pair_dense", "pair_dense", valid=_is_key, default="llama-3-1-405b"),
    # Queues: speed of the board and weight of the loss, in ten-thousandths (None: as the lab has them); how many steps
    # (None: as the lab has it); whether a subject is made rare.
    Setting("nudge", "nudge", valid=_is_count(1, TEN_THOUSAND), read=_whole),
    Setting("aux", "aux", valid=_is_count(1, TEN_THOUSAND), read=_whole),
    Setting("lessons", "steps", valid=_is_count(1, 9_999), read=_whole),
    Setting("rare", "rare", valid=_is_count(0, 1), read=_whole, default=0),
    # Ambulances: in how many buildings the interns live; whether corridors are closed; how many processes run for real.
    Setting("buildings", "buildings", valid=_is_count(2, 999), read=_whole, default=8),
    Setting("rule", "rule", valid=_is_count(0, 1), read=_whole, default=1),
    Setting("processes", "processes", valid=_is_count(2, 4), read=_whole, default=2),
    # Hospitals compared: which of the catalogue ("llama-2-70b.grok-1"), by what, which one closely; texts of how many
    # tokens, weights in what precision, cards of how many GB. Then the shape of the visitor's own; None: as in V3.
    Setting("compare", "compare", valid=_are_keys),
    Setting("measure", "by", valid=_is_key, default="total"),
    Setting("hospital", "hospital", valid=_is_key, default="deepseek-v3"),
    Setting("context", "context", valid=_is_count(1, 999_999), read=_whole, default=4096),
    Setting("precision", "weights", valid=_is_key, default="bf16"),
    Setting("card", "card", valid=_is_count(1, 9_999), read=_whole, default=80),
    Setting("own_attention", "attention", valid=_is_key),
    *(
        Setting(f"own_{name}", name, valid=_is_count(0, 999_999), read=_whole)
        for name in ("experts", "size", "chosen", "nurses", "dense")
    ),
    # The lesson that is being given, by its minutes, and at which of its stops it is (assets/lessons.toml).
    Setting("lesson", "lesson", valid=lambda v: v in LESSONS, read=_whole),
    Setting("stop", "stop", valid=_is_key),
    # The quiz: which one (None: a fresh one), and which of its questions.
    Setting("quiz", "quiz", valid=_is_count(0, 999_999), read=_whole),
    Setting("question", "q", valid=_is_count(1, 99), read=_whole, default=1),
    # The teacher's guide: which lesson plan; which page, what is looked for, and for whom, among its entries.
    Setting("plan_for", "teach_plan", valid=_is_key),
    Setting("guide_page", "about", valid=_is_key),
    Setting("guide_find", "seek", valid=_is_search),
    Setting("guide_for", "for", valid=_is_key),
    # A teacher's link: which GROUPS nobody may change, and which are not even drawn. And the projector's large type.
    Setting("lock", "lock", valid=_are_groups(ONLY_HIDDEN), read=_known_groups(ONLY_HIDDEN)),
    Setting("hide", "hide", valid=_are_groups(), read=_known_groups()),
    Setting("projector", "projector", valid=_is_count(0, 1), read=_whole, default=0),
)  # fmt: skip
TABLE = {setting.name: setting for setting in SETTINGS}
LINKS = tuple(setting.link for setting in SETTINGS if setting.link)

_seen: ContextVar[dict[str, Any] | None] = ContextVar("seen", default=None)
"""What this run of a page found set, and has set since. A page asks hundreds of times, and asking Streamlit is slow;
where no page has begun in this thread (a fragment alone) Streamlit is asked."""


def from_link(query: Mapping[str, str]) -> dict[str, Any]:
    """The valid settings of a link; whatever is not valid is left out."""
    found = {}
    for setting in SETTINGS:
        text = query.get(setting.link) if setting.link else None
        if text is None:
            continue
        try:
            value = setting.read(text)
        except ValueError:
            continue
        if setting.valid(value):
            found[setting.name] = value
    return found


def to_link(values: Mapping[str, Any]) -> dict[str, str]:
    """The link's parameters for settings; what has its default is left out, and a text that no address can hold."""
    written = {
        setting.link: setting.write(values[setting.name])
        for setting in SETTINGS
        if setting.link and values.get(setting.name, setting.default) != setting.default
    }
    return {link: text for link, text in written.items() if len(text.encode()) <= MAX_LINKED}


def get(name: str) -> Any:
    """What the visitor has set."""
    seen = _seen.get()
    value = seen[name] if seen is not None else st.session_state.get(f"setting.{name}")
    return TABLE[name].default if value is None else value


def share(name: str) -> float:
    """A setting in hundredths as the number that it stands for."""
    return get(name) / HUNDRED


def fixed(which: str) -> tuple[str, ...]:
    """The GROUPS that the teacher's link locked ("lock") or left out ("hide")."""
    return tuple((get(which) or "").split(".")) if get(which) else ()


def _group(name: str) -> str:
    aims = name in AIMS and get("change") is not None
    return _GROUP_OF["change"] if aims else _GROUP_OF.get(name, name)


def hidden(name: str) -> bool:
    """Whether what sets this setting, or this group of them, is not to be drawn."""
    return bool(get("hide")) and _group(name) in fixed("hide")


def locked(name: str) -> bool:
    """Whether the visitor may not change this setting, or anything of this group. What is hidden is locked too."""
    return bool(get("lock")) and _group(name) in fixed("lock") or hidden(name)


def put(name: str, value: Any) -> None:
    """What the visitor sets. Nothing happens where that is locked."""
    if not locked(name):
        place(name, value)


def place(name: str, value: Any) -> None:
    """Set it, locked or not: what a link, a lesson or a class says, and not one of the visitor's own controls.

    A value that is not valid is not taken; None gives the default back.
    """
    key = f"setting.{name}"
    if value is None or TABLE[name].valid(value):
        if value is None:
            st.session_state.pop(key, None)  # every key that stands there costs time in every run
        else:
            st.session_state[key] = value
        st.session_state["link.behind"] = True
        if (seen := _seen.get()) is not None:
            seen[name] = value
            words.hear(seen["lang"])


def reset(*names: str) -> None:
    """Give settings of the visitor's their defaults back."""
    for name in names:
        put(name, None)


def show(widget: str, value: Any) -> None:
    """What a widget is to show. Nothing is sent where it shows that already: a value that comes back to the browser
    late would undo what was clicked meanwhile. To Streamlit the widget of the same key on the next page is another
    one, which has to be told too, although the session still holds what the one before showed."""
    before = st.session_state.get("shown.on", {}).get(widget)
    if before != _part() or widget not in st.session_state or st.session_state[widget] != value:
        st.session_state[widget] = value


def shown(widget: str) -> None:
    """It stands, and what it was to show has reached it: a run may be cut short before that."""
    st.session_state.setdefault("shown.on", {})[widget] = _part()


def _part() -> str:
    """What Streamlit tells the widgets of one page from those of another by; what surrounds the pages is one part of
    its own. Streamlit keeps that to itself: see its `compute_and_register_element_id`."""
    return ThreadState.get().active_script_hash if get_script_run_ctx(suppress_warning=True) else ""


def left() -> dict[str, Any]:
    """What each setting was before the last link that said something about it."""
    before: dict[str, Any] = st.session_state.get("left", {})
    return before


def switched(name: str, value: Any) -> None:
    """Set it from a switch that shows it on every page.

    Who goes back twice quickly asks for the second address before the browser has heard what the first one did to the
    switch, and the browser reports the switch's old value as if it had been pressed. That is nobody's wish.
    """
    if _ours() != st.session_state.get("link") and value == left().get(name):
        return
    put(name, value)


PASSING = ("class", "teach")
"""What the link into a class holds (pages/together.py): read once, and in no link that is written here."""


def _arrived() -> None:
    """Keep what a link into a class said, once. pages/kit/shell.py has the browser take it out of the address bar."""
    passing = tuple(st.query_params.get(one, "") for one in PASSING)
    if any(passing) and passing != st.session_state.get("passed"):
        st.session_state["passed"] = st.session_state["arrived"] = passing


def see() -> dict[str, Any]:
    """Read all settings at once, for all of this run: asking the session for each single one takes longer than this."""
    kept = st.session_state.to_dict()
    seen = {name: kept.get(f"setting.{name}") for name in TABLE}
    _seen.set(seen)
    return seen


def begin() -> None:
    """Once a run, before anything is drawn: take over a link that was opened, or gone back to.

    Where something was set since the link was last written, the link is only behind, and not somebody's wish.
    """
    words.hear(see()["lang"])
    query = _ours()
    _arrived()
    if query and query != st.session_state.get("link") and not st.session_state.get("link.behind"):
        arrived = from_link(query)
        told = [one.name for one in SETTINGS if one.link and (one.name in arrived or one.name != "lang")]
        st.session_state["left"] = left() | {name: get(name) for name in told}
        for name in told:
            place(name, arrived.get(name))
    if get("lang") is None:
        place("lang", _language_of(st.context.locale))
    publish()


def _language_of(locale: str | None) -> str:
    wanted = (locale or "").lower().split("-")[0]
    return wanted if wanted in words.languages() else words.FALLBACK


def _ours() -> dict[str, str]:
    there = st.query_params.to_dict()
    return {link: there[link] for link in LINKS if link in there}


def publish() -> None:
    """Write the link, in one step of the browser's history. Switching pages empties it, so every run does this."""
    link = to_link({setting.name: get(setting.name) for setting in SETTINGS})
    if any(one in st.query_params for one in PASSING):
        link = _ours()  # a new address now would leave that one in the browser's history: the next run writes it
    if _ours() != link:
        others = {key: st.query_params.get_all(key) for key in st.query_params if key not in LINKS}
        st.query_params.from_dict({**others, **link})
    st.session_state["link"] = link
    st.session_state["link.behind"] = False
