"""The walk as something that can be taken home: what was looked at, what was changed, with which model, when.

It holds no tensors: a button on a page may keep it for as long as the page is open, and nothing is computed before the
button is pressed. What is asked for then runs without a visitor (`words.speaking`).
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode, urlsplit
from zoneinfo import ZoneInfo

import streamlit as st

from model import Interventions, ModelConfig, Trace, UserError, checkpoint
from pages.kit import building, library, service, state, words
from pages.kit.chapter import Visit
from pages.kit.figures import department
from pages.kit.words import t

PRODUCT = "Token Hospital"


@dataclass(frozen=True)
class Walk:
    """A sentence's way through the house, as it was set when the page was drawn."""

    sentence: str
    token: int
    floor: int  # as people count
    room: int | None  # as set; None: the one that counts most
    head: int
    changes: Interventions
    lang: str
    link: str  # the address that shows it again
    settings: tuple[tuple[str, str], ...]  # of the link
    zone: str | None  # the visitor's time zone
    stamp: str  # of sentence, token, floor and changes: tells files apart

    def visit(self) -> Visit:
        """What pages look at: the walk as it was, with nothing changed."""
        house = service.hospital()
        trace = house.trace(self.sentence)
        pieces = building.pieces(house.tokenizer, trace.ids)
        return Visit("record", house, self.sentence, trace, self.token, self.floor, pieces)

    def trace(self) -> Trace:
        """The walk with what was changed."""
        return service.hospital().trace(self.sentence, self.changes or None)

    def file(self, ending: str) -> str:
        """A file's name."""
        return f"token-hospital-{self.stamp}{ending}"

    def today(self) -> datetime.date:
        """The visitor's date."""
        try:
            zone = ZoneInfo(self.zone) if self.zone else None
        except (ValueError, OSError, KeyError):  # a browser may name any zone
            zone = None
        return datetime.datetime.now(zone).date()

    def when_asked(self, make: Callable[[Walk], bytes]) -> Callable[[], bytes]:
        """`make` of this walk, to be called by a button: in the visitor's language, with nobody there."""

        def made() -> bytes:
            with words.speaking(self.lang):
                return make(self)

        return made


def walk(visit: Visit) -> Walk:
    """The walk as the visitor has set it."""
    settings = state.to_link(
        {setting.name: state.get(setting.name) for setting in state.SETTINGS}
        | {"sentence": visit.sentence, "token": visit.token, "floor": visit.floor}
    )
    here, c, changes = st.context.url or "", visit.trace.config, changed(visit)
    return Walk(
        visit.sentence,
        visit.token,
        visit.floor,
        state.get("room"),
        min(state.get("head") or 0, c.num_attention_heads - 1),
        changes,
        words.current(),
        f"{here.removesuffix('record')}?{urlencode(settings)}",
        tuple(settings.items()),
        st.context.timezone,
        hashlib.sha256(repr((visit.stamp(), described(changes))).encode()).hexdigest()[:8],
    )


def on_desk(visit: Visit) -> Visit:
    """The same walk as the triage desk looks at it."""
    return replace(visit, page="triage", floor=min(visit.floor, max(visit.trace.config.first_k_dense_replace, 1)))


def on_department(visit: Visit) -> Visit:
    """The same walk as a department looks at it."""
    return replace(visit, page="department", floor=max(visit.floor, visit.trace.config.first_k_dense_replace + 1))


# -- what was changed --------------------------------------------------------------------------------------------------


def changed(visit: Visit) -> Interventions:
    """What the visitor changed on the pages of the walk, as one: the department's change, the heads', the desk's, and a
    shorter code. What this model cannot do is left out."""
    c, change, rank = visit.trace.config, state.get("change"), state.get("rank")
    made = Interventions()
    if change == "close_records":
        at = on_desk(visit).layer
        made = Interventions(silence_heads=frozenset((at, head) for head in range(c.num_attention_heads)))
    elif change == "silence_heads":
        head = min(state.get("head") or 0, c.num_attention_heads - 1)
        made = Interventions(silence_heads=frozenset({(visit.layer, head)}))
    elif change is not None:
        there = on_department(visit)
        room = department.desk(there, state.get("room")).room
        made = department.intervention(there, change, room, state.get("k") or c.num_experts_per_tok)
    if rank is not None and rank < c.kv_lora_rank:
        made = replace(made, latent_rank=rank)
    try:
        made.check(c)
    except UserError:
        return Interventions()
    return made


def described(changes: Interventions) -> dict[str, Any]:
    """Only what is changed, as lists and numbers; layers from 0 as in `model.Interventions`."""
    usual, found = Interventions(), {}
    for field in fields(changes):
        value = getattr(changes, field.name)
        if value != getattr(usual, field.name):
            found[field.name] = sorted(value) if isinstance(value, frozenset) else value
    return found


def said(changes: Interventions, c: ModelConfig) -> str:
    """What is changed, in a sentence's part; "nothing" where nothing is."""
    parts = []
    for name, value in described(changes).items():
        if name in ("dismiss", "force"):
            parts += [t(f"record.changed.{name}", floor=layer + 1, room=room) for layer, room in value]
        elif name == "silence_heads":
            layers = sorted({layer for layer, _ in value})
            whole = [layer for layer in layers if sum(at == layer for at, _ in value) == c.num_attention_heads]
            parts += [t("record.changed.records", floor=layer + 1) for layer in whole]
            parts += [t("record.changed.head", floor=at + 1, head=head) for at, head in value if at not in whole]
        elif name in ("silence_shared", "silence_routed"):
            parts += [t(f"record.changed.{name}", floor=layer + 1) for layer in value]
        elif name == "gate":
            parts.append(t(f"record.changed.{value}"))
        else:
            parts.append(t(f"record.changed.{name}", value=value))
    return t("record.changed.join").join(parts) or t("record.changed.nothing")


# -- with which model, where, when -------------------------------------------------------------------------------------


def place(link: str) -> str:
    """Where a picture says it comes from."""
    parts = urlsplit(link)
    return f"{parts.netloc}{parts.path}".rstrip("/") or PRODUCT


def about(one: Walk) -> dict[str, Any]:
    """What stands beside the numbers in every file: who was looked at, what was changed, the model, the link."""
    visit = one.visit()
    return {
        "made_by": PRODUCT,
        "date": one.today().isoformat(),
        "link": one.link,
        "sentence": one.sentence,
        "followed": {"position": one.token, "text": visit.name(), "floor": one.floor},
        "changes": described(one.changes),
        "settings": dict(one.settings),
        "checkpoint": {"name": service.folder().name, "sha256": checkpoint.digest(service.folder())},
        "config": visit.trace.config.to_dict(),
    }


def facts(one: Walk) -> Mapping[str, str]:
    """The same for people to read."""
    c = service.hospital().config
    return {
        t("record.fact.token"): one.visit().name(),
        t("record.fact.floor"): str(one.floor),
        t("record.fact.changed"): said(one.changes, c),
        t("record.fact.model"): service.folder().name,
        t("record.fact.date"): library.when(one.today()),
        t("record.fact.digest"): checkpoint.digest(service.folder()),
    }
