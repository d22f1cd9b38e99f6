"""Published architectures, each value with its source: assets/catalogue.toml, read once.

`rows()` gives them all, `find(name)` one, `architectures.figures(row.architecture, ...)` what it costs. The fields of a
row are those of its published `config.json`, and go through the same strict reader as a visitor's own file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from model.architectures import Architecture, Figures, active, active_without_embedding, figures, total
from model.config_json import describe
from model.errors import UserError

FILE = Path(__file__).resolve().parents[1] / "assets" / "catalogue.toml"

__all__ = ["Architecture", "Card", "Figures", "Published", "Row", "cards", "figures", "find", "rows", "undisclosed"]


@dataclass(frozen=True)
class Published:
    """A figure that its makers, or somebody else, say, and the formula's answer to it."""

    what: str  # total, active, active_without_embedding, kv_kilobytes, training_gflops
    value: float
    source: str
    within: float  # the rounding of what is said
    derivable: bool = True  # False: no formula here gives it, and none is claimed to


@dataclass(frozen=True)
class Row:
    """One published architecture."""

    key: str  # in links
    name: str
    family: str  # model_type
    year: int
    architecture: Architecture
    config: Mapping[str, Any]  # the fields as published
    assumed: Mapping[str, Any]  # fields that the published file leaves out, with the value of the family's own code
    source: str
    sources: Mapping[str, str] = field(default_factory=dict)  # of values that come from elsewhere
    published: tuple[Published, ...] = ()
    note: str | None = None  # words on the page: hospitals.note.<note>

    def source_of(self, name: str) -> str:
        """Where a field's value comes from."""
        return self.sources.get(name, self.source)


@dataclass(frozen=True)
class Card:
    """A size of accelerator memory."""

    name: str
    bytes: float
    source: str


def computed(what: str, a: Architecture) -> float:
    """The formula's answer to a published figure (see `Published.what`)."""
    if what == "kv_kilobytes":
        return figures(a).cache_numbers_per_token * 2 / 1000  # BF16, 1 KB = 1000 B, as 2505.09343 Table 1 counts
    if what == "training_gflops":
        return figures(a, context=4096).training_flops / 1e9  # 2505.09343 Table 2: 4,096 tokens
    return {"total": total, "active": active, "active_without_embedding": active_without_embedding}[what](a)


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text("utf-8"))


@cache
def rows() -> tuple[Row, ...]:
    """All of them, in the file's order."""
    made = []
    for row in _table()["row"]:
        seen = describe(row["config"])
        made.append(
            Row(
                row["key"], row["name"], seen.family, row["year"], seen.architecture, row["config"], seen.assumed,
                row["source"], row.get("sources", {}),
                tuple(Published(**figure) for figure in row.get("published", ())), row.get("note"),
            )  # fmt: skip
        )
    return tuple(made)


def find(name: str) -> Row:
    """The row with this key or this name, however it is written. UserError if there is none."""

    def plain(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower())

    found = [row for row in rows() if plain(name) in (plain(row.key), plain(row.name))]
    if not found:
        raise UserError(f"The catalogue has no model called {name[:40]}.", "catalogue_unknown", name=name[:40])
    return found[0]


@cache
def undisclosed() -> tuple[Mapping[str, str], ...]:
    """Models of which no architecture is published: name, source. Nothing is computed for them."""
    return tuple(_table()["undisclosed"])


@cache
def cards() -> tuple[Card, ...]:
    """Sizes of cards, small to large."""
    return tuple(Card(**card) for card in _table()["card"])
