"""History: stations, who works for a token, and what became of the families that the talk names."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from pages.kit import library, plates
from pages.kit.chapter import percent
from pages.kit.code import Source as Code
from pages.kit.words import t

KINDS = ("moe", "dense", "undisclosed")
BADGES = {"moe": ("round", "intern"), "dense": ("", "desk"), "undisclosed": ("dashed", "soft")}
TRILLION = 1000  # billions
FIRST, MODEL = "mixtral", "v3"  # where the question starts, and what it asks for
CHOICES = ("v3", "v2", "hunyuan")  # whose shares are offered as answers


class Event(NamedTuple):
    """One station. Its sentence is `history.event.<key>.told`."""

    key: str
    date: Any  # a date; "2024-05"; "1991"
    era: str
    kind: str  # one of KINDS
    name: str
    total: float | None  # parameters, in billions, as published
    active: float | None
    sources: tuple[library.Source, ...]

    @property
    def share(self) -> float | None:
        """Parameters that work for one token, of all; None where its maker does not say."""
        return self.active / self.total if self.active and self.total else None

    @property
    def told(self) -> str:
        """What happened."""
        return t(f"history.event.{self.key}.told", **library.values(library.read("history")["event"][self.key]))


class Family(NamedTuple):
    """Models under one name: what they are, by the talk, by what was known then, and by what is known now."""

    name: str
    said: str
    then: str
    now: str


@cache
def events() -> tuple[Event, ...]:
    """All of them, the oldest first."""
    return tuple(
        Event(
            key, one["date"], one["era"], one["kind"], one["name"], one.get("total"), one.get("active"),
            tuple(map(library.source, one["sources"])),
        )
        for key, one in library.read("history")["event"].items()
    )  # fmt: skip


@cache
def families() -> tuple[Family, ...]:
    """Those that the talk names, in its order."""
    return tuple(Family(**one) for one in library.read("history")["family"].values())


def event(key: str) -> Event:
    """The station of that key."""
    return next(one for one in events() if one.key == key)


def order(one: Event) -> str:
    """A date as text that sorts; a month comes after the year, and before its days."""
    return one.date.isoformat() if isinstance(one.date, datetime.date) else one.date


def shown(kind: str | None) -> list[Event]:
    """Stations of that kind; all where there is no such kind."""
    return [one for one in events() if kind not in KINDS or one.kind == kind]


def billions(count: float) -> str:
    """46.7 as "46.7B", 1600 as "1.6T"."""
    return f"{count / TRILLION:g}T" if count >= TRILLION else f"{count:g}B"


def at_work(one: Event) -> str:
    """Parameters that work for a token, of all."""
    return f"{billions(one.active or 0)} / {billions(one.total or 0)}"


def year(one: Event) -> str:
    """Its year."""
    return order(one).split("-")[0]


# -- pictures ----------------------------------------------------------------------------------------------------------


def card(one: Event, sizes: bool) -> dict[str, Any]:
    """A station as an entry to read; without sizes while they would give the answer away."""
    look, role = BADGES[one.kind]
    parts = [{"text": one.told}]
    if one.total and sizes:
        both = one.active and one.active < one.total
        size = t("history.sizes", total=billions(one.total), active=billions(one.active)) if both else None
        parts.append({"text": size or t("history.size", total=billions(one.total)), "soft": True})
    return {
        "over": library.when(one.date),
        "head": one.name,
        "badge": {
            "sign": t(f"history.sign.{one.kind}"),
            "text": t(f"history.kind.{one.kind}"),
            "look": look,
            "role": role,
        },
        "parts": parts,
        "links": [{"text": source.said(), "href": source.url} for source in one.sources],
    }


def line(several: Sequence[Event], sizes: bool) -> plates.Plate:
    """The stations along a line of time."""
    entries, era = [], None
    for one in several:
        heading = {"group": t(f"history.era.{one.era}")} if one.era != era else {}
        entries.append({**card(one, sizes), **heading})
        era = one.era
    return plates.cards(
        "line", entries, rail=True, title=t("history.line.title"), note=t("history.line.note", **tally(several))
    )


def tally(several: Sequence[Event]) -> dict[str, int]:
    """How many of each kind."""
    return {kind: sum(one.kind == kind for one in several) for kind in KINDS}


def around_the_talk() -> dict[str, int]:
    """Stations before and after the talk, and how many of them are mixtures."""
    before = [one for one in events() if one.era != "later"]
    later = [one for one in events() if one.era == "later"]
    return {
        "before": len(before),
        "moe_before": tally(before)["moe"],
        "later": len(later),
        "moe_later": tally(later)["moe"],
    }


def shares() -> plates.Plate:
    """Parameters that work for one token, of all, in the order of time; without those of which not both numbers are
    known, and of equal sizes only the first."""
    firsts = {(one.total, one.active): one for one in reversed(events())}
    known = [(one, one.share) for one in events() if one.share is not None and one in firsts.values()]
    least, share = min(known, key=lambda pair: pair[1])
    return plates.rank(
        "shares",
        [one.name for one, _ in known],
        [value for _, value in known],
        percent=True,
        wrap=True,
        roles=[BADGES[one.kind][1] for one, _ in known],
        hints=[t("plates.pair", label=year(one), value=at_work(one)) for one, _ in known],
        title=t("history.shares.title"),
        note=t("history.shares.note", **question(), last=least.name, least=percent(share)),
    )


def question() -> dict[str, str]:
    """The words of the question and of its answer."""
    first, model = event(FIRST), event(MODEL)
    return {
        "first": first.name,
        "one": percent(first.share or 0),
        "share": percent(model.share or 0),
        "active": billions(model.active or 0),
        "total": billions(model.total or 0),
    }


def choices() -> list[str]:
    """The answers that are offered, the smallest first."""
    return [percent(share) for share in sorted(event(key).share or 0 for key in CHOICES)]


def right() -> int:
    """Which of them is right."""
    return choices().index(question()["share"])


def agreement() -> dict[str, int]:
    """How often the talk's word for a family is what was known then, and what is known now."""
    return {
        "count": len(families()),
        "same": sum(one.said == one.then for one in families()),
        "same_now": sum(one.said == one.now for one in families()),
        "hidden": sum(one.then == "undisclosed" for one in families()),
        "hidden_now": sum(one.now == "undisclosed" for one in families()),
    }


def table(kind: str | None) -> plates.Plate | None:
    """The families that are, or were said to be, of that kind; None where there is none."""
    several = [one for one in families() if kind not in KINDS or kind in (one.said, one.then, one.now)]
    if not several:
        return None
    now = {f"now_{kind}": sum(one.now == kind for one in families()) for kind in (*KINDS, "both")}
    return plates.table(
        "families",
        [one.name for one in several],
        [{"label": t(f"history.{column}")} for column in ("said", "then", "now")],
        [[_cell(kind) for kind in (one.said, one.then, one.now)] for one in several],
        title=t("history.table.title"),
        note=t("history.table.note", **now),
    )


def _cell(kind: str) -> str:
    return f"{t(f'history.sign.{kind}')} {t(f'history.kind.{kind}')}"


def entry(one: Event) -> Code:
    """How a station is kept."""
    return library.entry("history", "event", one.key)
