"""What an exercise on paper is: digits as they are printed, what one is made from, and how it is put together.

Words: assets/words/<language>/worksheet.toml, `worksheet.<exercise>.title`, `.intro`, and for every question `.a`
with its `.a_answer`. Whatever is put into them is escaped, unless it is `Html` already.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from model.config import ModelConfig
from model.trace import Trace
from pages.kit import building, chapter, words
from pages.kit.paper import Html, escaped, marked

LEAST_SURE, EVEN, MOST_SURE = 0.15, 0.5, 0.95  # of the likeliest next token, where it is worth asking for it


# -- digits ------------------------------------------------------------------------------------------------------------


def rounded(value: float | Decimal, digits: int) -> Decimal:
    """To so many decimals, halves away from 0, as one does by hand. No minus in front of 0."""
    exact = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    made = exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return abs(made) if made == 0 else made


def fewest(values: Sequence[float], low: int, high: int, enough: Callable[[list[Decimal]], bool]) -> list[Decimal]:
    """The values with as few decimals as are enough; with `high`, where no number of them is."""
    for digits in range(low, high):
        made = [rounded(value, digits) for value in values]
        if enough(made):
            return made
    return [rounded(value, high) for value in values]


def power(exponent: Decimal) -> Decimal:
    """e to it, to three decimals."""
    return rounded(math.exp(exponent), 3)


def shares(parts: Sequence[Decimal]) -> list[Decimal]:
    """Each part over their sum, in whole percent. They need not make 100 together."""
    whole = sum(parts, Decimal(0))
    return [rounded(100 * part / whole, 0) for part in parts]


def hundred(parts: Sequence[float], digits: int) -> list[Decimal]:
    """Parts of 1 in percent with so many decimals that make 100 together: what is lost by cutting goes, one step each,
    to those who lost most."""
    steps = 10 ** (digits + 2)
    cut = [math.floor(part / sum(parts) * steps) for part in parts]
    lost = [part / sum(parts) * steps - whole for part, whole in zip(parts, cut, strict=True)]
    for i in sorted(range(len(parts)), key=lambda i: (-lost[i], i))[: steps - sum(cut)]:
        cut[i] += 1
    return [Decimal(whole).scaleb(-digits) for whole in cut]


# -- what an exercise is -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exercise:
    """One exercise; `tasks` and `answers` are HTML."""

    key: str
    title: str
    tasks: str
    answers: str
    given: dict[str, Any] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Blank:
    """A cell that is empty on the worksheet, and filled in on the answers."""

    value: str


Cell = str | Blank
NUMBER = re.compile(r"−?[\d,]+(\.\d+)?( %)?")
Picture = Callable[[bool], Html]  # filled in, or not


@dataclass(frozen=True)
class Paper:
    """What exercises are made from: a visit, in one language, at one depth."""

    visit: chapter.Visit
    lang: str
    depth: str

    @property
    def trace(self) -> Trace:
        return self.visit.trace

    @property
    def c(self) -> ModelConfig:
        return self.visit.trace.config

    @property
    def at(self) -> tuple[int, int]:
        """The followed department and token."""
        return self.visit.department, self.visit.token

    @property
    def other(self) -> int:
        """The patient beside the followed one."""
        return self.visit.token - 1 if self.visit.token > 1 else min(self.visit.token + 1, len(self.trace.ids) - 1)

    @property
    def open(self) -> int:
        """After whom it is asked what comes next: the followed patient, unless there is next to no question about it;
        then the one after whom it is most open (the first of several)."""
        likeliest = self.trace.logits.softmax(-1).max(-1).values
        if LEAST_SURE < float(likeliest[self.visit.token]) < MOST_SURE:
            return self.visit.token
        return int((likeliest[1:] - EVEN).abs().argmin()) + 1

    def name(self, token: int | None = None) -> str:
        """What a token (the followed one) is called. `Visit.name` asks what the screen's language is."""
        token = self.visit.token if token is None else token
        piece = self.visit.pieces[token]
        if piece["special"]:
            return words.say(self.lang, "building.door" if token == 0 else "building.end")
        return chapter.bare(piece["text"])

    def word(self, id: int) -> str:
        """What a token of the vocabulary is called."""
        piece = self.visit.house.tokenizer.pieces([id])[0]
        return words.say(self.lang, "building.end") if piece.is_special else building.shown(piece)

    def apart(self, ids: Sequence[int]) -> list[str]:
        """What several tokens of the vocabulary are called, so that no two are called the same."""
        names = [chapter.bare(self.word(id)) for id in ids]
        return building.apart(names if len(set(names)) == len(names) else [self.word(id) for id in ids])

    def say(self, key: str, **values: object) -> Html:
        """Words as HTML, with escaped values."""
        return marked(words.table(self.lang)[f"worksheet.{key}"], **values)

    def listed(self, items: Iterable[object]) -> str:
        return words.say(self.lang, "worksheet.comma").join(map(str, items)) or words.say(self.lang, "worksheet.none")

    def quoted(self, names: Iterable[str]) -> str:
        """Names of tokens, in quotation marks: some of them are commas themselves."""
        return self.listed(words.say(self.lang, "worksheet.quoted", text=name) for name in names)

    def mixed(self, items: Sequence[Any]) -> list[Any]:
        """Another order, always the same for this sentence."""
        return sorted(items, key=lambda one: hashlib.sha256(repr((self.trace.ids, one)).encode()).digest())

    def exercise(
        self, key: str, parts: str, picture: Picture | None = None, *, given: Mapping[str, Any],
        found: Mapping[str, Any], **values: object,
    ) -> Exercise:  # fmt: skip
        """Put together: the introduction, a picture or table, and the questions named by the letters of `parts`."""
        values = {"token": self.name(), "floor": self.visit.floor, **values}
        questions = "".join(f"<li>{self.say(f'{key}.{p}', **values)}<span class='line'></span></li>" for p in parts)
        replies = "".join(f"<li>{self.say(f'{key}.{p}_answer', **values)}</li>" for p in parts)
        numbered = "<ol class='questions' type='a'>{}</ol>"
        return Exercise(
            key,
            str(self.say(f"{key}.title", **values)),
            f"<p>{self.say(f'{key}.intro', **values)}</p>{picture(False) if picture else ''}"
            + (numbered.format(questions) if parts else ""),
            (picture(True) if picture else "") + (numbered.format(replies) if parts else ""),
            dict(given),
            dict(found),
        )


def table(heads: Sequence[str], rows: Sequence[Sequence[Cell]], css: str = "") -> Picture:
    """A table; the first column is what the rows are about."""

    def cell(content: Cell, first: bool, filled: bool) -> str:
        if isinstance(content, Blank):
            return f"<td class='blank'>{escaped(content.value) if filled else ''}</td>"
        if first:
            return f"<th scope='row'>{escaped(content)}</th>"
        return f"<td{' class=n' if NUMBER.fullmatch(content) else ''}>{escaped(content)}</td>"

    def draw(filled: bool) -> Html:
        top = "".join(f"<th scope='col'>{escaped(head)}</th>" for head in heads)
        body = "".join(
            "<tr>" + "".join(cell(content, i == 0, filled) for i, content in enumerate(row)) + "</tr>" for row in rows
        )
        return Html(f"<table class='{css}'><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>")

    return draw
