"""What the library's pages read: claims, terms, events and the works they quote; sources and dates as people write
them.

Verdicts, sources, pages and numbers are kept once for all languages (assets/*.toml); only words differ. Nothing here
brings torch in: these pages stand at once.
"""

from __future__ import annotations

import datetime
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pages.kit import shell, state, words
from pages.kit.code import Source as Code
from pages.kit.words import t

PLACES = (
    "section", "equation", "table", "figure", "appendix", "file", "issue", "discussion", "abstract", "silent",
)  # fmt: skip

CITED = {
    "section": r"sections? ([\d.]*\d)", "table": r"[Tt]able (\d+)", "figure": r"[Ff]ig(?:ure|\.) (\d+)",
    "appendix": r"appendix ([A-Z][\d.]*)", "discussion": r"discussion (\d+)", "day": r"\bday (\d+)",
    "abstract": r"\babstract\b", "sheet": r"data sheet", "product": r"product page", "card": r"model cards?",
    "manual": r"platform documentation", "counted": r"parameter count", "copies": r"public copies",
    "secondary": r"\bsecondary\b",
}  # fmt: skip
"""Places that a source names which was written down as one English line (assets/catalogue.toml)."""


class Source(NamedTuple):
    """A work, and where in it."""

    title: str  # as it was published, in whatever language that was
    url: str
    kind: str | None  # one of PLACES
    at: str

    def said(self) -> str:
        """As one line, in the visitor's language."""
        comma = t("library.at.comma")
        title = self.title.replace(", arXiv", f"{comma}arXiv")
        return f"{title}{comma}{at(self.kind, self.at)}" if self.kind else title


class Door(NamedTuple):
    """A page of this house."""

    page: str  # its address
    label: str


@cache
def read(name: str) -> dict[str, Any]:
    """assets/<name>.toml."""
    return tomllib.loads((shell.ROOT / "assets" / f"{name}.toml").read_text("utf-8"))


def source(text: str) -> Source:
    """What "v3 section 4.2" stands for. KeyError for a work that is not in works.toml, ValueError for another place."""
    key, _, place = text.partition(" ")
    kind, _, at = place.partition(" ")
    work = read("works")[key]
    if kind and kind not in PLACES:
        raise ValueError(text)
    return Source(work["title"], work["url"], kind or None, at)


def at(kind: str, place: str) -> str:
    """A place in a work. A whole section is called by its number in another way than a part of one, where a language
    does so."""
    return t(f"library.at.{'whole_section' if kind == 'section' and place.isdecimal() else kind}", n=place)


def cited(line: str) -> str:
    """A source that was written down as one English line, with its places and dates in the visitor's language."""
    if words.current() == words.FALLBACK:
        return line
    comma = t("library.at.comma")
    months = words.table(words.FALLBACK)["library.date.months"].split()

    def place(found: re.Match[str], kind: str) -> str:
        return (comma if found[1] else "") + at(kind, found[2] if found.re.groups > 1 else "")

    def date(found: re.Match[str]) -> str:
        month, year = months.index(found[3]) + 1, int(found[4])
        day = datetime.date(year, month, int(found[2])) if found[2] else f"{year}-{month:02}"
        return (comma if found[1] else "") + when(day)

    for kind, pattern in CITED.items():
        line = re.sub(f"(, )?{pattern}", lambda found, kind=kind: place(found, kind), line)
    line = re.sub(rf"(, )?(?:(\d{{1,2}}) )?({'|'.join(months)}) (\d{{4}})", date, line)
    line = re.sub(r" \(([^()]*)\)", lambda found: t("library.at.aside", text=found[1]), line)
    line = line.replace(", arXiv", f"{comma}arXiv").replace("; ", t("library.at.between"))
    return line.replace(" and ", t("library.at.and"))


def when(value: Any) -> str:
    """A date, "2024-05" for a month or "€15M" as the visitor's language writes it; anything else as it stands."""
    if isinstance(value, datetime.date):
        return t("library.date.day", day=value.day, month=_month(value.month), year=value.year)
    if isinstance(value, str) and (match := re.fullmatch(r"(\d{4})-(\d{2})", value)):
        return t("library.date.month", month=_month(int(match[2])), year=match[1])
    if isinstance(value, str) and (match := re.fullmatch(r"€([\d.]+)M", value)):
        return _euros(float(match[1]))
    return str(value)


def _euros(millions: float) -> str:
    """In the largest unit of the language that does not make it less than one of it. `library.money.units`: pairs of
    how many millions it is, and its name."""
    words_of = t("library.money.units").split()
    units = [(float(size), name) for size, name in zip(words_of[::2], words_of[1::2], strict=True)]
    size, name = max((one for one in units if one[0] <= millions), default=min(units))
    return t("library.money.euro", amount=f"{millions / size:g}", unit=name)


def _month(number: int) -> str:
    names = t("library.date.months").split()
    return names[number - 1] if len(names) > 1 else str(number)  # some languages count their months


def values(entry: Mapping[str, Any]) -> dict[str, str]:
    """What an entry puts into its words."""
    return {name: when(value) for name, value in entry.get("values", {}).items()}


def door(pages: Iterable[str]) -> Door | None:
    """The first of these pages that is there; none where a teacher left out the way to other pages."""
    if state.hidden("pages"):
        return None
    open_now = {Path(path).stem: label for path, label, _ in shell.PAGES}
    return next((Door(page, t(open_now[page])) for page in pages if page in open_now), None)


# -- search ------------------------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Text as it is compared: wide and narrow letters, capitals and small ones are the same."""
    return unicodedata.normalize("NFKC", text).casefold()


def wanted(typed: str) -> list[str]:
    """The words to look for."""
    return plain(typed).split()


def found(typed: str, text: str) -> bool:
    """Whether every word that was typed stands in the text. No patterns: a dot is a dot."""
    where = plain(text)
    return all(word in where for word in wanted(typed))


def have(key: str) -> bool:
    """Whether there are words for it."""
    return key in words.tables()[words.FALLBACK]


def published(key: str) -> dict[str, Any]:
    """The published config.json of a model in the catalogue: only fields that decide a count."""
    return next(row["config"] for row in read("catalogue")["row"] if row["key"] == key)


def entry(name: str, table: str, key: str) -> Code:
    """The lines of assets/<name>.toml that hold [table.key], to be shown as code."""
    lines = (shell.ROOT / "assets" / f"{name}.toml").read_text("utf-8").splitlines()
    first = lines.index(f"[{table}.{key}]")
    last = next((i for i in range(first, len(lines)) if not lines[i].strip()), len(lines))
    return Code(f"assets/{name}.toml", first + 1, "\n".join(lines[first:last]))
