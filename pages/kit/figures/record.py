"""The patient's file: what there is to take home, and how large it is."""

from __future__ import annotations

from model import Trace
from pages.kit import plates, tables, walkfile
from pages.kit.chapter import Visit, number
from pages.kit.figures import common
from pages.kit.words import t

MEGABYTE = 1_000_000  # bytes


def size(tokens: int, token: int) -> str:
    """How large the walk's file will be, roughly, in megabytes."""
    return number(walkfile.about_bytes(tokens, token) / MEGABYTE, digits=1)


def in_file(visit: Visit) -> plates.Plate:
    """What the walk's file holds."""
    tokens = len(visit.pieces)
    positions = walkfile.followable(tokens, visit.token)
    known = "record.holds.all" if len(positions) == tokens else "record.holds.some"
    return plates.facts(
        "in_file",
        [
            (f"{len(positions):,}", t("record.holds.tokens"), t(known, first=positions[0], last=positions[-1])),
            (f"{visit.floor}", t("record.holds.floor"), t("record.holds.building")),
            (t("record.holds.about", size=size(tokens, visit.token)), t("record.holds.size")),
        ],
    )


def contents(visit: Visit, trace: Trace) -> plates.Plate:
    """The tables, with their rows and columns."""
    counts = tables.counts(visit, trace)
    values = {"token": visit.name(), "floor": visit.floor}
    return plates.table(
        "contents",
        list(counts._fields),
        [
            {"label": t("record.contents.row")},
            {"label": t("record.contents.rows"), "digits": 0},
            {"label": t("record.contents.columns"), "digits": 0},
        ],
        [
            [t(f"record.table.{name}", **values), rows, len(tables.TABLES[name])]
            for name, rows in counts._asdict().items()
        ],
        title=t("record.contents.title"),
        note=t("record.contents.note"),
    )


def columns(visit: Visit) -> plates.Plate:
    """Every column of every table, what its values are and what they mean."""
    values = {"token": visit.name(), "floor": visit.floor}
    what = {table: t(f"record.table.{table}", **values) for table in tables.TABLES}
    entries = [
        {
            "head": column,
            "under": [{"text": tables.type_of(column)}],
            "parts": [{"text": tables.meaning(column)}],
            **({"group": t("plates.pair", label=table, value=what[table])} if column == several[0] else {}),
        }
        for table, several in tables.TABLES.items()
        for column in several
    ]
    return plates.cards("columns", entries, title=t("record.columns.title"))


def example(visit: Visit, trace: Trace) -> plates.Plate:
    """A picture to save."""
    return common.next_tokens(visit, trace, visit.trace if trace is not visit.trace else None)
