"""The words of the field and of the hospital, and how a page's text leads to them: where a known word stands in the
words file's own text for the first time, it becomes a link to the glossary, with its meaning as the link's title.

What is put into a text (a visitor's words among it) is never looked at: links are made before anything is put in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple
from urllib.parse import urlencode

from pages.kit import library, state, words

NONE = "–"  # in the words: the hospital has no word for it
MOST_ENCODED = 600
"""Longest sentence, as it stands in a link, that every link of a page carries along."""

# What must stay as it is: something to be put in, code, a symbol, a link.
_CLOSED = re.compile(r"\{\{|\}\}|\{[^{}]*\}|`[^`]*`|\$[^$]*\$|\[[^\]]*\]\([^)]*\)|https?://\S+")


class Term(NamedTuple):
    """A word, in every language."""

    key: str
    topic: str
    field: str | None  # its name in config.json or in the code
    symbol: str | None
    pages: tuple[str, ...]
    link: str  # which of its words become links: both, field (the field's own), hospital, none
    common: bool  # on every page many times: a link only the first time

    def name(self, lang: str) -> str:
        """What the field calls it; several names with a comma between them."""
        return words.say(lang, f"glossary.term.{self.key}.name")

    def hospital(self, lang: str) -> str | None:
        """What the hospital calls it."""
        word = words.say(lang, f"glossary.term.{self.key}.hospital")
        return None if word == NONE else word

    def means(self, lang: str) -> str:
        """One or two sentences."""
        return words.say(lang, f"glossary.term.{self.key}.means")

    def forms(self, lang: str) -> list[str]:
        """The words that become links."""
        named = re.split(r", |、", self.name(lang)) if self.link in ("both", "field") else []
        told = [self.hospital(lang) or ""] if self.link in ("both", "hospital") else []
        return [form for form in [*named, *told] if len(form) > 1]


@cache
def terms() -> dict[str, Term]:
    """All of them, by their place in the link."""
    return {
        key: Term(
            key, one["topic"], one.get("field"), one.get("symbol"), tuple(one["pages"]), one.get("link", "both"),
            one.get("common", False),
        )
        for key, one in library.read("terms")["term"].items()
    }  # fmt: skip


def fill(key: str, **values: object) -> str:
    """`words.t`, with the known words of the text as links, where there is a way to other pages."""
    lang = words.current()
    if state.hidden("pages"):
        return words.t(key, **values)
    return words.marked(lang, linked(lang, key), values).format(**values, _glossary=_carried(lang))


def _carried(lang: str) -> str:
    """What a link to the glossary takes along: the language, what a teacher fixed, and the sentence unless it is long.
    It is opened as a visit of its own."""
    fixed = urlencode(state.to_link({name: state.get(name) for name in ("lock", "hide", "projector")}))
    sentence = urlencode({"s": state.get("sentence") or ""})
    parts = [urlencode({"lang": lang}), fixed, sentence if len("s=") < len(sentence) <= MOST_ENCODED else ""]
    return "&".join(part for part in parts if part)


@cache
def linked(lang: str, key: str) -> str:
    """The words for `key` with links in them, values still open (and one more, {_glossary})."""
    text = words.table(lang)[key]
    page, depth = key.split(".")[0], key.split(".")[-1]
    if page == "glossary":
        return text
    done: set[str] = set()

    def link(term: Term, word: str) -> str:
        if term.key in done or (term.common and _first(lang, page, depth).get(term.key) != key):
            return word
        done.add(term.key)
        means = re.sub(r'["\\{}]', "", term.means(lang))
        return f'[{word}](glossary?{{_glossary}}&term={term.key} "{means}")'

    return "".join(piece if term is None else link(term, piece) for piece, term in _pieces(lang, text))


def _pieces(lang: str, text: str) -> Iterator[tuple[str, Term | None]]:
    """The text cut up: known words with their term, and everything between them."""
    pattern, meant = _words(lang)
    at = 0
    for closed in [*_CLOSED.finditer(text), None]:
        open_text = text[at : closed.start() if closed else len(text)]
        end = 0
        for match in pattern.finditer(open_text):
            yield open_text[end : match.start()], None
            yield match[0], meant[_base(match)]
            end = match.end()
        yield open_text[end:], None
        if closed:
            yield closed[0], None
            at = closed.end()


@cache
def _words(lang: str) -> tuple[re.Pattern[str], dict[str, Term]]:
    """A pattern that finds known words, the longest first, and whose each of them is."""
    meant: dict[str, Term] = {}
    for term in terms().values():
        for form in term.forms(lang):
            meant.setdefault(form.lower(), term)
    longest = sorted(meant, key=len, reverse=True)
    latin = "|".join(re.escape(form) for form in longest if form.isascii())
    others = "|".join(re.escape(form) for form in longest if not form.isascii())
    apart = rf"(?<![A-Za-z0-9_-])(?P<latin>{latin})(?:s|es)?(?![A-Za-z0-9_-])"
    return re.compile(rf"(?P<other>{others})|{apart}" if others else apart, re.IGNORECASE), meant


def _base(match: re.Match[str]) -> str:
    return (match.groupdict().get("other") or match["latin"]).lower()


@cache
def _first(lang: str, page: str, depth: str) -> dict[str, str]:
    """Which text of the page names a term first, in the order of the words file."""
    found: dict[str, str] = {}
    for key, text in words.table(lang).items():
        if key.startswith(f"{page}.") and key.endswith(f".{depth}"):
            for _, term in _pieces(lang, text):
                if term:
                    found.setdefault(term.key, key)
    return found
