"""The fact check: every claim is complete in both languages, its numbers are recomputed, and search does what it says."""

from __future__ import annotations

import datetime
import re
import string
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import screens
from hypothesis import given, settings
from hypothesis import strategies as st
from screens import LANGUAGES, fine, prose, shown, skip

from model import ModelConfig, costs
from pages.kit import library, shell, state, words
from pages.kit.figures import facts

ROOT = Path(__file__).resolve().parents[1]
PLANNED = {
    "hospitals", "miniatures", "beds", "queues", "ambulances", "construction", "cramming", "skill", "timetable", "choice",
}  # fmt: skip
HERE = {Path(path).stem for path, _, _ in shell.PAGES}
DATA = library.read("facts")["claim"]
ODD = [".*", "(", "[a-z]+", "\\", "$1", "*_~`<>|#", "%s {said} {0}", "\u202e", "ＭＬＡ", "<script>alert(1)</script>"]


def open_page(lang="en", **query):
    return screens.open_page("pages/facts.py", lang, **query)


def listed(at) -> list[dict]:
    return shown(at)["list"]["cards"] if "list" in shown(at) else []


def words_of(lang: str, key: str) -> dict[str, str]:
    start = f"facts.claim.{key}."
    return {k.removeprefix(start): v for k, v in words.tables()[lang].items() if k.startswith(start)}


# -- the data ----------------------------------------------------------------------------------------------------------


def test_every_claim_is_complete():
    for one in facts.claims():
        assert one.verdict in facts.VERDICTS and one.part in facts.PARTS, one.key
        assert one.pages and set(one.pages) <= HERE | PLANNED, one.key
        assert library.door(one.pages) is not None, f"{one.key}: no page of it is there yet"
        assert one.sources and all(source.title and source.url.startswith("https://") for source in one.sources), (
            one.key
        )
    assert {one.verdict for one in facts.claims()} == set(facts.VERDICTS)
    assert library.read("facts")["opening"] in DATA


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_claim_has_its_words_and_nothing_else_has(lang):
    for key, one in DATA.items():
        told = words_of(lang, key)
        assert {"said", "true"} <= set(told) <= {"said", "true", "later"}, key
        named = {name for text in told.values() for _, name, _, _ in string.Formatter().parse(text) if name}
        assert named == set(one.get("values", {})), f"{key}: values that are put in and values that are there"
    spoken = {key.split(".")[2] for key in words.tables()[lang] if key.startswith("facts.claim.")}
    assert spoken == set(DATA)


def test_a_source_of_nowhere_is_an_error():
    with pytest.raises(KeyError):
        library.source("nobody section 1")
    with pytest.raises(ValueError, match="page 3"):
        library.source("v3 page 3")
    assert {place for place in library.PLACES if f"library.at.{place}" not in words.tables()["en"]} == set()


def test_numbers_that_the_published_configuration_gives():
    c = ModelConfig.preset("deepseek-v3")
    p = costs.parameters(c)
    v = {key: one.get("values", {}) for key, one in DATA.items()}
    assert {v[key]["total"] for key in ("moe", "cheaper", "rooms")} == {f"{p.main / 1e9:.0f}B"}
    embedding = c.vocab_size * c.hidden_size
    assert {v[key]["active"] for key in ("moe", "cheaper")} == {f"{(p.active - embedding) / 1e9:.0f}B"}
    assert v["interns"]["weights"] == f"{p.expert:,}"
    assert v["rooms"]["share"] == f"{37 / 671:.1%}" and v["context"]["positions"] == f"{c.max_position_embeddings:,}"
    full = costs.full_cache_numbers_per_token(c)
    assert v["sixtyfour"]["ratio"] == f"{full / c.cache_numbers_per_token:.1f}"
    put = facts.equations()
    assert put["full"] * c.num_hidden_layers == full and put["code"] * c.num_hidden_layers == c.cache_numbers_per_token
    assert put["experts"] == c.num_moe_layers * (c.num_experts_per_tok + c.n_shared_experts) == 522
    assert put["rooms"] == c.num_moe_layers * c.n_routed_experts


def test_dates_agree_with_each_other_and_with_the_history():
    v, events = {key: one.get("values", {}) for key, one in DATA.items()}, library.read("history")["event"]
    days = v["release"]["date"] - v["month"]["second"]
    assert v["month"]["days"] == str(days.days) and v["month"]["second"] == v["december"]["second"]
    assert v["month"]["first"] == v["december"]["date"] == events["v25"]["date"]
    assert v["december"]["second"] == events["v251210"]["date"] and v["release"]["date"] == events["v3"]["date"]
    assert (
        v["quiet"]["date"] == v["always"]["date"] == events["llm"]["date"]
        and v["coder"]["date"] == events["coder"]["date"]
    )
    assert v["may"]["date"] == events["v2"]["date"] and v["gemini"]["date"] == events["gemini15"]["date"]
    assert v["qwen"]["date"] == events["qwenmoe"]["date"] and v["minimax"]["date"] == events["deepseekmoe"]["date"]


@pytest.mark.parametrize("lang,day,month", [
    ("en", "6 May 2024", "May 2024"), ("zh", "2024 年 5 月 6 日", "2024 年 5 月"),
])  # fmt: skip
def test_dates_as_people_write_them(monkeypatch, lang, day, month):
    monkeypatch.setattr(words, "current", lambda: lang)
    assert library.when(datetime.date(2024, 5, 6)) == day and library.when("2024-05") == month
    assert library.when("163,840") == "163,840"


@pytest.mark.parametrize("lang,small,large", [("en", "€15M", "€385M"), ("zh", "1500 万欧元", "3.85 亿欧元")])
def test_money_as_people_write_it(monkeypatch, lang, small, large):
    monkeypatch.setattr(words, "current", lambda: lang)
    assert [library.when(f"€{millions}M") for millions in (15, 385)] == [small, large]
    assert library.when("€15") == "€15", "no millions, nothing to say"


def test_places_as_chinese_writes_them(monkeypatch):
    """A whole section is 第 6 节, a part of one 3.4 节, as in all words; and no half-width comma before arXiv."""
    monkeypatch.setattr(words, "current", lambda: "zh")
    told = [library.source(f"v3 section {n}").said() for n in ("6", "3.4")]
    assert [one[one.rindex("，") + 1 :] for one in told] == ["第 6 节", "3.4 节"]
    every = [library.source(s).said() for c in library.read("facts")["claim"].values() for s in c["sources"]]
    assert not [one for one in every if ", arXiv" in one or re.search(r"，\d+ 节", one)]


# -- search ------------------------------------------------------------------------------------------------------------


@cache
def whole(key: str) -> str:
    one = facts.claim(key)
    told = " ".join([one.said, one.true, one.later or "", words.t(f"facts.verdict.{one.verdict}")])
    return library.plain(
        " ".join([told, words.t(f"facts.part.{one.part}"), *(source.said() for source in one.sources)])
    )


@settings(max_examples=30, deadline=None)
@given(st.one_of(st.sampled_from(["mla 64", "Singapore", "DEEPSEEK  v2", *ODD]), st.text(max_size=300)))
def test_what_is_found_holds_every_word_and_nothing_else_does(typed):
    found = {one.key for one in facts.shown(typed, None)}
    wanted = library.wanted(typed)
    assert found == {key for key in DATA if all(word in whole(key) for word in wanted)}


@pytest.mark.parametrize("verdict", [*facts.VERDICTS, "nonsense", "", None])
def test_verdicts_are_kept_apart(verdict):
    kept = facts.shown("", verdict)
    if verdict in facts.VERDICTS:
        assert kept and all(one.verdict == verdict for one in kept)
        assert (
            len(kept) == sum(one["verdict"] == verdict for one in DATA.values()) == facts.tally(facts.claims())[verdict]
        )
    else:
        assert len(kept) == len(DATA)


def test_the_claim_that_is_asked_is_given_away_by_no_search():
    one = facts.claim(None)
    for verdict in facts.VERDICTS:
        assert one not in facts.shown("", verdict, hidden=one.key)
    rare = max(re.findall(r"\w+", one.true), key=lambda word: (word.lower() not in one.said.lower(), len(word)))
    assert one in facts.shown(rare, None) and one not in facts.shown(rare, None, hidden=one.key)
    assert one in facts.shown(one.said.split()[0], None, hidden=one.key)


def test_the_next_claim_is_one_that_was_not_judged():
    every = [one.key for one in facts.claims()]
    first = facts.claims()[0]
    assert facts.after(first, []).key == every[1] and facts.after(first, every[:5]).key == every[5]
    assert facts.after(facts.claims()[-1], []) == first and facts.after(first, every).key == every[1]


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
def test_every_depth_in_both_languages(lang, depth):
    at = open_page(lang, depth=depth)
    assert fine(at) and at.title[0].value == words.say(lang, "facts.title")
    assert len(listed(at)) == len(DATA) and bool(at.latex) == (depth == "maths") and bool(at.code) == (depth == "code")
    assert f"**{len(DATA)}**" in prose(at)
    if depth == "code":
        assert not any("[claim." in block.value or "verdict = " in block.value for block in at.code), (
            "neither the verdict that is asked for nor one that will be"
        )
        next(b for b in at.button if b.label == words.say(lang, "facts.verdict.wrong")).click().run()
        assert any("[claim.early]" in block.value and 'verdict = "wrong"' in block.value for block in at.code)
    if depth == "maths":
        assert "522" in at.latex[0].value
        for verdict, count in counts_of(but="early").items():
            assert rf"\frac{{{count}}}{{{len(DATA) - 1}}}" in at.latex[-1].value, verdict
    assert "@" not in " ".join(one.value for one in at.latex)


def counts_of(but: str | None = None) -> dict[str, int]:
    return {v: sum(one["verdict"] == v for key, one in DATA.items() if key != but) for v in facts.VERDICTS}


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("answered", [False, True])
def test_counts_are_counted(lang, answered):
    """The claim that is asked is counted nowhere before it is answered: a difference would give it away."""
    at = skip(open_page(lang)) if answered else open_page(lang)
    kept = {key: one for key, one in DATA.items() if answered or key != "early"}
    counts, plate = counts_of(None if answered else "early"), shown(at)["counts"]
    assert plate["values_list"] == list(counts.values()) and "before_list" not in plate
    assert all(str(count) in plate["note"] for count in [*counts.values(), len(kept)])
    assert (words.say(lang, "facts.counts.open") in plate["note"]) != answered
    right = [sum(one["verdict"] == "right" for one in kept.values() if one["part"] == part) for part in facts.PARTS]
    of = [sum(one["part"] == part for one in kept.values()) for part in facts.PARTS]
    assert shown(at)["parts"]["values_list"] == pytest.approx([r / n for r, n in zip(right, of, strict=True)])
    groups = [card["group"] for card in listed(at) if "group" in card]
    assert groups == [words.say(lang, f"facts.part.{part}") for part in facts.PARTS]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_row_has_everything(lang):
    at = skip(open_page(lang))
    assert fine(at)
    for key, card in zip(DATA, listed(at), strict=True):
        one = DATA[key]
        assert card["badge"]["text"] == words.say(lang, f"facts.verdict.{one['verdict']}") and card["badge"]["sign"], (
            key
        )
        assert card["head"] and card["parts"][0]["text"] and len(card["links"]) == len(one["sources"])
        assert card["door"]["page"] in HERE and not re.search(r"[{}]", card["head"] + card["parts"][0]["text"])
        assert (len(card["parts"]) == 2) == ("later" in words_of(lang, key))


def test_guessing_hides_and_then_shows():
    at = open_page("en")
    asked = facts.claim(None)
    row = listed(at)[list(DATA).index(asked.key)]
    assert "badge" not in row and "door" not in row and asked.true not in prose(at)
    next(b for b in at.button if b.label == words.say("en", "facts.verdict.right")).click().run()
    assert fine(at) and words.say("en", "chapter.wrong") in prose(at) and asked.true in prose(at)
    assert "badge" in listed(at)[list(DATA).index(asked.key)]
    assert any("0 of 1" in one.value for one in at.caption)
    next(b for b in at.button if b.label == words.say("en", "facts.another")).click().run()
    following = facts.after(asked, [asked.key])
    assert fine(at) and at.query_params["claim"] in (following.key, [following.key]) and following.said in prose(at)
    next(
        b for b in at.button if b.label.replace("\\", "") == words.say("en", f"facts.verdict.{following.verdict}")
    ).click().run()
    assert any("1 of 2" in one.value for one in at.caption)


def test_search_and_verdict_are_in_the_link():
    at = open_page("en")
    at.text_input(key="facts.find").set_value("  MLA ").run()
    at.button_group(key="facts.choose").set_value("right").run()
    assert fine(at) and [at.query_params[name] for name in ("find", "verdict")] in (
        ["MLA", "right"],
        [["MLA"], ["right"]],
    )
    again = open_page("en", find="MLA", verdict="right")
    assert [card["head"] for card in listed(again)] == [card["head"] for card in listed(at)]
    assert {card["badge"]["text"] for card in listed(again)} == {"right"} and shown(again)["list"]["find"] == ["mla"]
    assert shown(again)["counts"]["before_list"] == list(counts_of(but="early").values())
    wrong = shown(open_page("en", verdict="wrong"))["counts"]
    assert wrong["values_list"][2] == wrong["before_list"][2], "nothing is missing from what is counted"
    at.text_input(key="facts.find").set_value("   ").run()
    assert "find" not in at.query_params


@pytest.mark.parametrize("typed", ["<script>alert(1)</script>", "*_~`<>|#[a](b)", "%s {said} {0}\\", "x" * 79])
def test_odd_searches_are_never_markup(typed):
    at = open_page("en", find=typed)
    assert fine(at) and at.text_input(key="facts.find").value == typed
    said = [one.value for one in [*at.markdown, *at.caption, *at.info, *at.get("html")] if hasattr(one, "value")]
    assert not any("<script>alert" in text for text in said)
    assert bool(listed(at)) != bool(at.info)


@pytest.mark.parametrize("find", ["x" * 81, " "])
def test_what_a_link_may_not_set_is_left_out(find):
    at = open_page("en", find=find, verdict="<b>" if find == " " else "maybe", claim="nobody")
    assert fine(at) and len(listed(at)) == len(DATA)


@given(st.fixed_dictionaries({}, optional={
    "find": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80).filter(str.strip),
    "word": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80).filter(str.strip),
    "verdict": st.sampled_from(facts.VERDICTS), "claim": st.sampled_from(sorted(DATA)), "term": st.just("kv_lora_rank"),
    "kind": st.sampled_from(["moe", "dense"]), "topic": st.just("house"), "asked": st.just("gate"),
}))  # fmt: skip
def test_link_round_trip(values):
    assert state.from_link(state.to_link(values)) == values


def test_the_librarys_pages_stand_without_torch():
    pages = ("facts", "glossary", "history")
    code = f"""
import sys
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest
first = PagesManager.__init__
def init(self, *a, **k):
    first(self, *a, **k)
    PagesManager.uses_pages_directory = False
PagesManager.__init__ = init
for page in {pages}:
    at = AppTest.from_file("app.py", default_timeout=60)
    at.query_params["lang"] = "en"
    at.switch_page(f"pages/{{page}}.py").run()
    print(at.title[0].value, bool(at.exception), "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    wanted = [f"{words.say('en', f'{page}.title')} False False" for page in pages]
    assert done.stdout.strip().splitlines()[-len(pages) :] == wanted, done.stderr[-900:]
