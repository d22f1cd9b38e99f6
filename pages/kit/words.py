"""Words on screen: a folder a language in assets/words with a file a page, or one file a language.

`python -m pages.kit.words > assets/words/fr.toml` writes all that is to be said in another language, in English.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

WORDS = Path(__file__).resolve().parents[2] / "assets" / "words"
FALLBACK = "en"
_STRONG = re.compile(r"(?<![“「])( ?)\*\*\{(\w+)\}\*\*( ?)")


@cache
def tables(folder: Path = WORDS) -> dict[str, dict[str, str]]:
    """language code -> dotted key -> words, for every folder and every file found."""
    return {
        lang.stem: {key: text for path in (sorted(lang.glob("*.toml")) or [lang]) for key, text in _flat(_read(path))}
        for lang in sorted(folder.iterdir()) if lang.suffix == ".toml" or any(lang.glob("*.toml"))
    }  # fmt: skip


@cache
def table(lang: str) -> dict[str, str]:
    """dotted key -> words in `lang`, in English where that has none yet."""
    return {**tables()[FALLBACK], **tables()[lang]}


def as_one_file(lang: str = FALLBACK, folder: Path = WORDS) -> str:
    """A language as one TOML file, a line a key."""
    words = tables(folder)[lang].items()
    return "".join(f"{json.dumps(key)} = {json.dumps(text, ensure_ascii=False)}\n" for key, text in words)


def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text("utf-8"))


def _flat(table: dict[str, Any], prefix: str = ""):
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, str(value)


def languages() -> dict[str, str]:
    """code -> the language's own name, in the order in which the switch offers them."""
    return {code: table["language.name"] for code, table in sorted(tables().items(), reverse=True)}


_spoken: ContextVar[str | None] = ContextVar("spoken", default=None)
_heard: ContextVar[str | None] = ContextVar("heard", default=None)


def hear(lang: str | None) -> None:
    """What this run's visitor speaks, so that not every word has to ask for it."""
    _heard.set(lang)


@contextmanager
def speaking(lang: str) -> Iterator[None]:
    """Within it, words are in `lang`: for what is written where no visitor is known, as a file when it is asked for."""
    before = _spoken.set(lang)
    try:
        yield
    finally:
        _spoken.reset(before)


def current() -> str:
    """The language of this visitor."""
    return _spoken.get() or _heard.get() or st.session_state.get("setting.lang") or FALLBACK


def say(lang: str, key: str, **values: object) -> str:
    """The words for `key` in `lang`; KeyError if there are none or a value is missing."""
    return marked(lang, table(lang)[key], values).format(**values)


def marked(lang: str, text: str, values: dict[str, Any]) -> str:
    """The words, with marks around a strong value that is nothing but signs: a token that is a full stop would be read
    as the end of the sentence."""
    if "**{" not in text:
        return text
    marks = table(lang)["chapter.sign"]

    def mark(found: re.Match[str]) -> str:
        value = values.get(found[2])
        if not isinstance(value, str) or not value.strip() or value == "–" or any(sign.isalnum() for sign in value):
            return found[0]
        spaces = ("", "") if marks[0] > "\u2e80" else (found[1], found[3])  # wide marks bring their own
        return spaces[0] + marks.format(sign=f"**{{{found[2]}}}**") + spaces[1]

    return _STRONG.sub(mark, text)


def t(key: str, **values: object) -> str:
    """The words for `key` in the visitor's language."""
    return say(current(), key, **values)


def group(prefix: str) -> dict[str, str]:
    """All words below a prefix, unfilled, for code that fills them in the browser. Not to be changed."""
    return _group(current(), prefix)


@cache
def _group(lang: str, prefix: str) -> dict[str, str]:
    start = prefix + "."
    return {k.removeprefix(start): v for k, v in table(lang).items() if k.startswith(start)}


def error_sentence(error: Exception) -> str:
    """One sentence for what went wrong, in the visitor's language."""
    key, values = getattr(error, "key", None), getattr(error, "values", {})
    try:
        return t(f"error.{key}", **values)
    except (KeyError, IndexError, ValueError):
        # An error that has no words of its own yet: its English sentence, where that is the visitor's language.
        return str(error) if key is not None and current() == "en" else t("error.unknown")


if __name__ == "__main__":
    print(as_one_file(), end="")
