"""Words: every language says everything, with the same values; nothing is said that nobody asks for."""

from __future__ import annotations

import re
import string
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from pages.kit import chapter, shell, words
from pages.kit.code import Source

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = sorted(words.tables())


def values_of(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_another_language_is_one_file(tmp_path):
    """Written by the command, translated in part: what is missing is known, and said in English meanwhile."""
    for name in ("en", "zh"):
        (tmp_path / name).symlink_to(words.WORDS / name)
    english = words.tables()["en"]
    (tmp_path / "fr.toml").write_text(words.as_one_file(), "utf-8")
    assert words.tables(tmp_path)["fr"] == english
    lines = words.as_one_file().splitlines()
    (tmp_path / "de.toml").write_text('"language.name" = "Deutsch"\n' + "\n".join(lines[:20]), "utf-8")
    words.tables.cache_clear()
    assert words.tables(tmp_path)["de"]["language.name"] == "Deutsch"
    assert sorted(set(english) - set(words.tables(tmp_path)["de"]))


def test_what_a_language_lacks_is_said_in_english(monkeypatch):
    monkeypatch.setattr(words, "tables", lambda: {"en": {"a": "one {n}", "b": "two"}, "fr": {"a": "un {n}"}})
    words.table.cache_clear()
    assert words.say("fr", "a", n=1) == "un 1" and words.say("fr", "b") == "two"
    with pytest.raises(KeyError):
        words.say("fr", "c")
    words.table.cache_clear()


def test_both_languages_are_found():
    assert {"en", "zh"} <= set(LANGUAGES)
    assert words.languages()["zh"] == "中文"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_nothing_is_missing(lang: str):
    every = set().union(*words.tables().values())
    assert sorted(every - set(words.tables()[lang])) == [], f"{lang}.toml lacks these words"


def test_chinese_has_one_kind_of_quotation_marks():
    mixed = {key: said for key, said in words.tables()["zh"].items() if re.search("[“”『』‘’]", said)}
    assert mixed == {}, "「 and 」, as everywhere else"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_values_are_the_same(lang: str):
    table, english = words.tables()[lang], words.tables()["en"]
    differ = {key: (values_of(table[key]), values_of(english[key])) for key in english
              if key in table and values_of(table[key]) != values_of(english[key])}  # fmt: skip
    assert differ == {}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_nothing_is_empty(lang: str):
    assert [key for key, text in words.tables()[lang].items() if not text.strip()] == []


PYTHON = [ROOT / "app.py", *sorted((ROOT / "pages").rglob("*.py"))]
SCRIPTS = sorted((ROOT / "assets").rglob("*.js"))


def spoken(file: Path) -> set[str]:
    """What a script says by name; `${...}` in a name is a variable and left open."""
    source = file.read_text("utf-8")
    found = set(re.findall(r"""\bsay\(\s*"([a-z_]+)\"""", source))
    return found | {re.sub(r"\$\{[^}]+\}", "*", name) for name in re.findall(r"""\bsay\(\s*`([^`]+)`""", source)}


@pytest.mark.parametrize("file", PYTHON, ids=lambda file: file.name)
def test_every_word_that_code_asks_for_exists(file: Path):
    known, source, asked = set(words.tables()["en"]), file.read_text("utf-8"), set()
    asked |= set(re.findall(r"""\bt\(\s*"([a-z_.]+)\"""", source))
    for key in re.findall(r"""\bexplain\(\s*"([a-z_.]+)\"""", source):  # a section's heading, and its words at every depth
        asked |= {f"{key}.{part}" for part in ("title", "story", "maths", "code")}
    for key in re.findall(r"""\bpredict\(\s*visit,\s*"([a-z_.]+)\"""", source):
        asked |= {f"{key}.ask", f"{key}.answer"}
    for page in re.findall(r"""\bbegin\(\s*"([a-z_]+)\"""", source):
        asked |= {f"{page}.title", f"{page}.lead"}
    for rows in re.findall(r"""\bend\(\s*visit,([^)]*)\)""", source):
        for row in re.findall(r"\"([a-z_]+)\"", rows):
            asked |= {f"{file.stem}.bend.{row}.{part}" for part in ("said", "true", "source")}
    assert sorted(asked - known) == []


def test_every_page_has_its_words():
    known = set(words.tables()["en"])
    for path, key, _ in shell.PAGES:
        name = Path(path).stem
        assert {key, f"{name}.title", f"{name}.lead"} <= known, name
        assert any(k.startswith(f"{name}.bend.") for k in known), f"{name} does not say where the story bends"


@pytest.mark.parametrize("file,group", [("building", "building"), ("plates", "plates")])
def test_every_word_that_a_script_says_exists(file: str, group: str):
    said = spoken(ROOT / "assets" / file / f"{file}.js")
    known = {k.removeprefix(f"{group}.") for k in words.tables()["en"] if k.startswith(f"{group}.")}
    assert said and [key for key in sorted(said) if not any(fnmatch(word, key) for word in known)] == []


def test_every_axis_has_words():
    """The browser says what an index stands for with `plates.axis_<name>`."""
    source = "".join(file.read_text("utf-8") for file in PYTHON)
    named = set(re.findall(r"""\baxis\(\s*"([a-z_]+)\"""", source)) | set(re.findall(r"""axis_name="([a-z_]+)\"""", source))
    known = set(words.tables()["en"])
    assert named and sorted(name for name in named if f"plates.axis_{name}" not in known) == []


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_word_is_given_twice(lang: str):
    """Two files of a language that name the same key: one of them would be lost."""
    keys = [key for file in sorted((words.WORDS / lang).glob("*.toml")) for key, _ in words._flat(words._read(file))]
    assert sorted({key for key in keys if keys.count(key) > 1}) == []


def test_every_word_of_the_building_is_used():
    script = (ROOT / "assets" / "building" / "building.js").read_text("utf-8")
    script += "".join(file.read_text("utf-8") for file in PYTHON) + (ROOT / "pages" / "kit" / "plates.py").read_text("utf-8")
    filled_in = ("tile_", "legend_", "head_", "follow_")  # the rest of the name is a variable
    keys = [k.removeprefix("building.") for k in words.tables()["en"] if k.startswith("building.")]
    assert [k for k in keys if not k.startswith(filled_in) and not re.search(rf"\b{k}\b", script)] == []
    for name in ("legend_", "head_", "follow_", "tile_"):
        rest = [k.removeprefix(name) for k in keys if k.startswith(name)]
        assert rest and [r for r in rest if not re.search(rf"\b{re.sub('_(note|hidden)$', '', r)}\b", script)] == []


def test_every_error_of_the_model_has_words():
    keys = set()
    for file in (ROOT / "model").glob("*.py"):
        source = file.read_text("utf-8")
        keys |= set(re.findall(r'"((?:checkpoint|other|unsupported|not|too|no_such|empty)_[a-z_]+)"', source))
    known = {k.removeprefix("error.") for k in words.tables()["en"] if k.startswith("error.")}
    assert sorted(keys - known) == []


def test_code_holds_no_chinese():
    """Words belong in assets/words."""
    for file in [*PYTHON, *SCRIPTS, *(ROOT / "assets").rglob("*.css"), *(ROOT / "assets" / "maths").glob("*.toml")]:
        assert re.findall(r"[\u4e00-\u9fff]", file.read_text("utf-8")) == [], file.name


def test_an_error_without_words_still_gives_a_sentence(monkeypatch):
    class Strange(Exception):
        key, values = "never_heard_of", {}

    monkeypatch.setattr(words, "current", lambda: "zh")
    assert words.error_sentence(Strange("x")) == words.tables()["zh"]["error.unknown"]
    monkeypatch.setattr(words, "current", lambda: "en")
    assert words.error_sentence(Strange("The pipe is blocked. Open it.")) == "The pipe is blocked. Open it."
    assert words.error_sentence(RuntimeError("secret")) == words.tables()["en"]["error.unknown"]


def test_a_token_that_is_only_a_sign_stands_in_quotation_marks():
    def said(lang, value, text="Then **{token}** came; “**{token}**” it was."):
        return words.marked(lang, text, {"token": value}).format(token=value)

    assert said("en", ".") == "Then “**.**” came; “**.**” it was."
    assert said("en", "\\.") == "Then “**\\.**” came; “**\\.**” it was."  # as Markdown wants it written
    for plain in ("fever", "3", "发烧", "–", "", " "):
        assert said("en", plain) == f"Then **{plain}** came; “**{plain}**” it was."
    # Chinese marks bring their own space.
    assert said("zh", "。", "其中 3 位 **{token}** 也看过") == "其中 3 位「**。**」也看过"
    assert said("zh", "我", "其中 3 位 **{token}** 也看过") == "其中 3 位 **我** 也看过"


MATHS = sorted((ROOT / "assets" / "maths").glob("*.toml"))


def written(file: Path) -> set[str]:
    """The words of a page's equations."""
    equations = [one for section in tomllib.loads(file.read_text("utf-8")).values() for one in section["tex"]]
    return {word for one in equations for word in re.findall(r"\\text\{\s*([^{}@]*[^{}@\s])\s*\}", one)}


def test_words_of_equations_stand_in_one():
    asked = {chapter.equation_word(file.stem, word) for file in MATHS for word in written(file)}
    assert [key for key in words.tables()["en"] if key.startswith("equation.") and key not in asked] == []


@pytest.mark.parametrize("file", MATHS, ids=lambda file: file.stem)
def test_equations_of_a_page_are_all_translated_or_none_is(file: Path):
    """What is no word: units, names, and signs that are the field's own."""
    own, known = {"kv", "mult", "top-", "ms", "µs", "s"}, words.tables()["zh"]
    plain = {word for word in written(file) if word.islower() and word not in own}
    if any(key.startswith(f"equation.{file.stem}.") for key in known):
        assert sorted(word for word in plain if chapter.equation_word(file.stem, word) not in known) == []


def test_equations_are_written_in_the_visitors_language(monkeypatch):
    monkeypatch.setattr(chapter, "_maths", lambda page: {"a": {"tex": [r"\text{loss}_\text{ old } = @n@ + @m@ = @n@ \text{ GB}"]}})
    with words.speaking("zh"):
        assert chapter.equations("skill", "a", {"n": -0.5, "m": "1,212"}) == [r"\text{损失}_\text{ 旧 } = -0.500 + 1{,}212 = -0.500 \text{ GB}"]
    with words.speaking("en"):
        assert chapter.equations("skill", "a", {"n": 2, "m": -1.0}) == [r"\text{loss}_\text{ old } = 2 + (-1.000) = 2 \text{ GB}"]


def test_a_command_is_shown_as_it_is_typed():
    """Between backticks nothing is Markdown, but for a backtick."""
    assert chapter._plain("by `{command}`.", "command", "python -m model `x`") == "python -m model 'x'"
    assert chapter._plain("by {command}.", "command", "a-b") == r"a\-b"


def test_one_line_of_code_is_not_called_lines():
    with words.speaking("en"):
        assert chapter.lines(Source("a.py", 3, "x = 1")) == "a.py, line 3"
        assert chapter.lines(Source("a.py", 3, "x = 1\ny = 2")) == "a.py, lines 3–4"
