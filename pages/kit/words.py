"""Words on screen: one folder a language in assets/words, a file a page, so that another language is another folder."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

WORDS = Path(__file__).resolve().parents[2] / "assets" / "words"
FALLBACK = "en"


@cache
def tables(folder: Path = WORDS) -> dict[str, dict[str, str]]:
    """language code -> dotted key -> words, for every folder found."""
    return {
        lang.name: {key: text for path in sorted(lang.glob("*.toml")) for key, text in _flat(_read(path))}
        for lang in sorted(folder.iterdir()) if lang.is_dir()
    }  # fmt: skip


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


def current() -> str:
    """The language of this visitor."""
    return st.session_state.get("setting.lang") or FALLBACK


def say(lang: str, key: str, **values: object) -> str:
    """The words for `key` in `lang`; KeyError if there are none or a value is missing."""
    return tables()[lang][key].format(**values)


def t(key: str, **values: object) -> str:
    """The words for `key` in the visitor's language."""
    return say(current(), key, **values)


def group(prefix: str) -> dict[str, str]:
    """All words below a prefix, unfilled, for code that fills them in the browser."""
    start = prefix + "."
    return {k.removeprefix(start): v for k, v in tables()[current()].items() if k.startswith(start)}


def error_sentence(error: Exception) -> str:
    """One sentence for what went wrong, in the visitor's language."""
    key, values = getattr(error, "key", None), getattr(error, "values", {})
    try:
        return t(f"error.{key}", **values)
    except (KeyError, IndexError, ValueError):
        # An error that has no words of its own yet: its English sentence, where that is the visitor's language.
        return str(error) if key is not None and current() == "en" else t("error.unknown")
