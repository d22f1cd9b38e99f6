"""Words: every language says everything, with the same values; nothing is said that nobody asks for."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from pages.kit import words

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = sorted(words.tables())


def values_of(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_both_languages_are_found():
    assert {"en", "zh"} <= set(LANGUAGES)
    assert words.languages()["zh"] == "中文"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_nothing_is_missing(lang: str):
    every = set().union(*words.tables().values())
    assert sorted(every - set(words.tables()[lang])) == [], f"{lang}.toml lacks these words"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_values_are_the_same(lang: str):
    table, english = words.tables()[lang], words.tables()["en"]
    differ = {key: (values_of(table[key]), values_of(english[key])) for key in english
              if key in table and values_of(table[key]) != values_of(english[key])}  # fmt: skip
    assert differ == {}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_nothing_is_empty(lang: str):
    assert [key for key, text in words.tables()[lang].items() if not text.strip()] == []


def test_every_word_that_code_asks_for_exists():
    known = set(words.tables()["en"])
    asked = set()
    for file in [ROOT / "app.py", *(ROOT / "pages").rglob("*.py")]:
        asked |= set(re.findall(r"""\bt\(\s*"([a-z_.]+)\"""", file.read_text("utf-8")))
    assert sorted(asked - known) == []
    script = (ROOT / "assets" / "building" / "building.js").read_text("utf-8")
    said = set(re.findall(r"""\.say\(\s*"([a-z_]+)\"""", script))
    assert said and sorted(f"building.{key}" for key in said if f"building.{key}" not in known) == []


def test_every_word_of_the_building_is_used():
    script = (ROOT / "assets" / "building" / "building.js").read_text("utf-8")
    script += (ROOT / "pages" / "kit" / "building.py").read_text("utf-8")
    filled_in = ("tile_", "legend_", "head_")  # the rest of the name is a variable
    keys = [k.removeprefix("building.") for k in words.tables()["en"] if k.startswith("building.")]
    assert [k for k in keys if not k.startswith(filled_in) and not re.search(rf"\b{k}\b", script)] == []


def test_every_error_of_the_model_has_words():
    keys = set()
    for file in (ROOT / "model").glob("*.py"):
        source = file.read_text("utf-8")
        keys |= set(re.findall(r'"((?:checkpoint|other|unsupported|not|too|no_such|empty)_[a-z_]+)"', source))
    known = {k.removeprefix("error.") for k in words.tables()["en"] if k.startswith("error.")}
    assert sorted(keys - known) == []


def test_code_holds_no_chinese():
    """Words belong in assets/words."""
    for file in [ROOT / "app.py", *(ROOT / "pages").rglob("*.py"), *(ROOT / "assets" / "building").glob("*.js")]:
        assert re.findall(r"[\u4e00-\u9fff]", file.read_text("utf-8")) == [], file.name


def test_an_error_without_words_still_gives_a_sentence(monkeypatch):
    class Strange(Exception):
        key, values = "never_heard_of", {}

    monkeypatch.setattr(words, "current", lambda: "zh")
    assert words.error_sentence(Strange("x")) == words.tables()["zh"]["error.unknown"]
    monkeypatch.setattr(words, "current", lambda: "en")
    assert words.error_sentence(Strange("The pipe is blocked. Open it.")) == "The pipe is blocked. Open it."
    assert words.error_sentence(RuntimeError("secret")) == words.tables()["en"]["error.unknown"]
