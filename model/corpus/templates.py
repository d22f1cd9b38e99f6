"""A very small template language: tables of rows, and sentences with slots.

A template is ordinary text in which

* ``{dish}`` is the first field of a row drawn from the table ``dish``, ``{dish.2}`` the third field of the
  *same* row: what is drawn once stays drawn for the whole document, so facts agree and things come back;
* ``{name2}`` is a second row of the table ``name``, different from the first;
* ``[好啊|行|可以]`` is one of the alternatives (which may hold slots themselves).

Rows and alternatives are ranked: the first is the commonest. That keeps the language predictable enough for a
very small model, while products of slots keep most documents unique.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

SKEW = 1.0  # weight of rank r is 1 / r**SKEW


@dataclass(frozen=True)
class Document:
    """One short text of the corpus."""

    text: str
    subject: str
    language: str  # "zh" or "en"
    source: str  # "own", "wordnet", "poems", "cedict" or "python"


class Table:
    """Rows of strings with a drawing weight each; ``flat`` makes all rows equally likely."""

    def __init__(self, rows: Sequence[tuple[str, ...] | str], flat: bool = False):
        self.rows = [row if isinstance(row, tuple) else (row,) for row in rows]
        weights = [1.0 if flat else 1 / (rank + 1) ** SKEW for rank in range(len(rows))]
        total = sum(weights)
        self.edges = [edge / total for edge in accumulate(weights)][:-1]

    def draw(self, rng: random.Random) -> tuple[str, ...]:
        """One row, by weight."""
        return self.rows[bisect_right(self.edges, rng.random())]


def words(text: str) -> Table:
    """A table of one-field rows from a list separated by commas."""
    return Table([word.strip() for word in text.split(",")])


def rows(text: str, flat: bool = False) -> Table:
    """A table from lines of fields separated by ``/``."""
    lines = [line.strip() for line in text.strip().splitlines()]
    return Table([tuple(field.strip() for field in line.split("/")) for line in lines], flat)


class _Choice:
    def __init__(self, options: list[list]):
        self.options = options
        self.edges = Table(["x"] * len(options)).edges


def _parse(text: str, at: int = 0, inside: bool = False) -> tuple[list, int]:
    """Parts of a template from ``at``: text, (table, field) or _Choice; and where it stopped."""
    parts: list = []
    options: list[list] = []
    plain = ""

    def flush() -> None:
        nonlocal plain
        if plain:
            parts.append(plain)
            plain = ""

    while at < len(text):
        char = text[at]
        if char == "{":
            flush()
            end = text.index("}", at)
            key, _, field = text[at + 1 : end].partition(".")
            parts.append((key, int(field or 0)))
            at = end + 1
        elif char == "[":
            flush()
            choice, at = _parse(text, at + 1, inside=True)
            parts.append(choice[0])
        elif char in "|]" and inside:
            flush()
            options.append(parts)
            parts = []
            at += 1
            if char == "]":
                return [_Choice(options)], at
        else:
            plain += char
            at += 1
    flush()
    return parts, at


class Family:
    """All templates of one subject in one language. The first templates are the commonest."""

    def __init__(self, subject: str, language: str, templates: str, **tables: Table):
        self.subject, self.language, self.tables = subject, language, tables
        lines = [line.strip() for line in templates.strip().splitlines() if line.strip()]
        self.templates = [_parse(line)[0] for line in lines]
        self.edges = Table(["x"] * len(lines)).edges

    def text(self, rng: random.Random) -> str:
        """A new text."""
        out: list[str] = []
        self._render(self.templates[bisect_right(self.edges, rng.random())], rng, {}, out)
        return "".join(out)

    def _render(
        self, parts: list, rng: random.Random, drawn: dict[str, tuple[str, ...]], out: list[str]
    ) -> None:
        for part in parts:
            if isinstance(part, str):
                out.append(part)
            elif isinstance(part, tuple):
                key, field = part
                row = drawn.get(key)
                if row is None:
                    row = drawn[key] = self._draw(key, rng, drawn)
                out.append(row[field])
            else:
                self._render(part.options[bisect_right(part.edges, rng.random())], rng, drawn, out)

    def _draw(self, key: str, rng: random.Random, drawn: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
        if key[-1] != "2":
            return self.tables[key].draw(rng)
        base = key[:-1]
        table = self.tables[base]
        first = drawn[base] if base in drawn else drawn.setdefault(base, table.draw(rng))
        while (row := table.draw(rng)) == first:
            pass
        return row
