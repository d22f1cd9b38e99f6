"""The glossary: every word is complete in both languages, and is reached from where it stands, and from nowhere else."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import screens
from hypothesis import given, settings
from hypothesis import strategies as st
from screens import LANGUAGES, fine, prose, shown, skip

from model import ModelConfig
from pages.kit import chapter, library, shell, state, terms, words
from pages.kit.figures import glossary

ROOT = Path(__file__).resolve().parents[1]
HERE = {Path(path).stem for path, _, _ in shell.PAGES}
PLANNED = {
    "hospitals", "miniatures", "beds", "queues", "ambulances", "construction", "cramming", "skill", "timetable", "choice",
}  # fmt: skip
PUBLISHED = {  # fields of the published config.json, of generation_config.json, and names of weights, that model/ lacks
    "hidden_act", "scoring_func", "aux_loss_alpha", "quantization_config", "ep_size", "do_sample", "input_ids",
    "num_key_value_heads", "torch_dtype",
}  # fmt: skip
TERMS = terms.terms()
LINK = re.compile(r"\[([^\]]*)\]\(glossary\?\{_glossary\}&term=([a-z0-9_]+) \"([^\"]*)\"\)")
TEXTS = [
    (lang, key) for lang in LANGUAGES for key in words.tables()[lang]
    if key.endswith((".story", ".maths", ".code")) and not key.startswith(("glossary.", "depth."))
]  # fmt: skip


def open_page(lang="en", **query):
    return screens.open_page("pages/glossary.py", lang, **query)


def listed(at) -> list[dict]:
    return shown(at)["list"]["cards"] if "list" in shown(at) else []


# -- the data ----------------------------------------------------------------------------------------------------------


def test_every_term_is_complete():
    sources = "".join(file.read_text("utf-8") for file in (ROOT / "model").rglob("*.py"))
    fields = {field.name for field in dataclasses.fields(ModelConfig)}
    for key, one in TERMS.items():
        assert one.topic in glossary.TOPICS and one.link in ("both", "field", "hospital", "none"), key
        assert one.pages and set(one.pages) <= HERE | PLANNED and library.door(one.pages), key
        for lang in LANGUAGES:
            assert one.name(lang) and 20 < len(one.means(lang)) * (3 if lang == "zh" else 1) < 400, key
            assert not re.search(r"[{}\"]", one.means(lang)), "it must fit into a link's title"
        assert bool(one.hospital("en")) == bool(one.hospital("zh")), key
        if one.field:
            name = one.field.removeprefix("model.").split(".")[0]
            assert name in fields | PUBLISHED or name in sources, f"{key}: nothing is called {one.field}"
    assert state.TABLE["term"].valid("kv_lora_rank") and "kv_lora_rank" in TERMS
    assert all(state.TABLE["term"].valid(key) for key in TERMS)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_words_and_terms_are_the_same(lang):
    spoken = {key.split(".")[2] for key in words.tables()[lang] if key.startswith("glossary.term.")}
    assert spoken == set(TERMS)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_word_leads_to_two_places(lang):
    forms = [form.lower() for one in TERMS.values() for form in one.forms(lang)]
    assert sorted({form for form in forms if forms.count(form) > 1}) == []
    names = [one.name(lang) for one in TERMS.values()]
    assert len(set(names)) == len(names)


# -- from where the word stands ----------------------------------------------------------------------------------------


def test_links_change_nothing_else():
    """Taken out again, the text is what the words file says; no word twice; a common one only first on its page."""
    seen: set[tuple[str, str, str, str]] = set()
    for lang, key in TEXTS:
        linked = terms.linked(lang, key)
        found = LINK.findall(linked)
        assert LINK.sub(r"\1", linked) == words.tables()[lang][key], key
        assert len({term for _, term, _ in found}) == len(found) and {term for _, term, _ in found} <= set(TERMS), key
        for word, term, title in found:
            forms = [form.lower() for form in TERMS[term].forms(lang)]
            assert {word.lower(), re.sub("s$", "", word.lower()), re.sub("es$", "", word.lower())} & set(forms), (
                key,
                word,
            )
            assert title == TERMS[term].means(lang)
            if TERMS[term].common:
                place = (lang, key.split(".")[0], key.rsplit(".", 1)[-1], term)
                assert place not in seen, f"{word} in {key}"
                seen.add(place)
        outside = LINK.sub("", linked)
        assert "glossary?" not in outside + "".join(re.findall(r"`[^`]*`", linked))


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("page", [Path(path).stem for path, _, _ in shell.WALK])
def test_every_page_of_the_walk_leads_here(lang, page):
    for depth in state.DEPTHS:
        found = [t for key in words.tables()[lang] if key.startswith(f"{page}.") and key.endswith(f".{depth}")
                 for _, t, _ in LINK.findall(terms.linked(lang, key))]  # fmt: skip
        assert found, depth


@pytest.fixture
def own_words(monkeypatch):
    """Words of a page that does not exist, in place of all others; `own_words("en", **texts)`."""

    def use(lang="en", **texts):
        table = {f"made.section.{name}": text for name, text in texts.items()}
        kept = {key: text for key, text in words.tables()[lang].items() if key.startswith("glossary.")}
        monkeypatch.setattr(words, "table", lambda _: {**kept, **table})
        monkeypatch.setattr(words, "current", lambda: lang)
        for cached in (terms.linked, terms._first):
            cached.cache_clear()

    yield use
    for cached in (terms.linked, terms._first):
        cached.cache_clear()


def linked_words(text: str) -> list[str]:
    return re.findall(r"\[([^\]]*)\]\(glossary\?", text)


@pytest.mark.parametrize("text,found", [
    ("The softmax, and another softmax.", ["softmax"]),
    ("Softmaxes everywhere", ["Softmaxes"]),
    ("A `softmax` in code, [softmax](http://x.example/softmax), {softmax}", []),
    ("softmax_of, presoftmax, soft-max, softmax-like", []),
    ("multi-head attention is attention", ["multi-head attention", "attention"]),
    ("**softmax** and {{softmax}}", ["softmax"]),
    ("", []),
])  # fmt: skip
def test_what_becomes_a_link(own_words, text, found):
    own_words(story=text)
    assert linked_words(terms.fill("made.section.story", softmax="x")) == [*found]


def test_what_becomes_a_link_in_chinese(own_words):
    own_words("zh", story="挂号员看病历室，不是护士。多头注意力也是注意力，softmax和{word}")
    assert linked_words(terms.fill("made.section.story", word="护士")) == [
        "挂号员",
        "病历室",
        "护士",
        "多头注意力",
        "softmax",
    ]


@given(st.text(max_size=40), st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
@settings(max_examples=40, deadline=None)
def test_what_a_visitor_typed_is_never_looked_at(value, sentence):
    """Links are made before anything is put in: the value comes out as it went in, at most between quotation marks."""
    key = "triage.desk.story"
    before = terms.fill(key, desk="1–3", token="@token@", floor=1)
    marks = "“”" if value.strip() and value != "–" and not any(sign.isalnum() for sign in value) else ("", "")
    shown = f"{marks[0]}**{value}**{marks[1]}"
    assert terms.fill(key, desk="1–3", token=value, floor=1) == before.replace("**@token@**", shown)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "get", {"sentence": sentence}.get)
        carried = terms._carried("en")
    assert re.fullmatch(r"[\w.~%+&=*-]*", carried, re.A) and len(carried) <= terms.MOST_ENCODED + 10


def test_a_long_sentence_is_not_carried_by_every_link(monkeypatch):
    for sentence, carried in (("a" * 500, True), ("面" * 70, False), (None, False), ("", False)):
        monkeypatch.setattr(state, "get", {"sentence": sentence}.get)
        assert ("&s=" in terms._carried("zh")) == carried and terms._carried("zh").startswith("lang=zh")


def test_explain_puts_them_on_the_page_and_escapes_the_rest(monkeypatch):
    said = []
    monkeypatch.setattr(chapter.st, "markdown", lambda text: said.append(text))
    chapter.explain("triage.desk", code=[], desk="1–3", token="[intern](javascript:alert(1))", floor=1, attention="1", ffn="2")
    text = said[0].replace("\n", " ")
    assert text.startswith(f"### {words.t('triage.desk.title')} ") and r"\[intern\]\(javascript\:alert\(1\)\)" in text and linked_words(text)[0] == "records room"


# -- search ------------------------------------------------------------------------------------------------------------

ODD = [
    ".*",
    "(",
    "[a-z]+",
    "\\",
    "W_DKV",
    "KV_LORA_RANK",
    "邮政编码",
    "ＭＬＡ",
    "<img src=x onerror=alert(1)>",
    "routed  intern",
]


@settings(max_examples=30, deadline=None)
@given(st.one_of(st.sampled_from(ODD), st.text(max_size=200)), st.sampled_from([*glossary.TOPICS, None, "nothing"]))
def test_what_is_found_holds_every_word_in_some_language(typed, topic):
    found = {one.key for one in glossary.shown(typed, topic)}
    for key, one in TERMS.items():
        told = [x for lang in LANGUAGES for x in (one.name(lang), one.hospital(lang) or "", one.means(lang))]
        whole = library.plain("\n".join([key, one.field or "", one.symbol or "", *told]))
        fits = all(word in whole for word in library.wanted(typed)) and (
            topic not in glossary.TOPICS or one.topic == topic
        )
        assert (key in found) == fits, key


def test_both_languages_find_the_same():
    assert (
        {one.key for one in glossary.shown("邮政编码", None)}
        >= {"kv_lora_rank"}
        <= {one.key for one in glossary.shown("POSTAL code", None)}
    )


# -- the question ------------------------------------------------------------------------------------------------------


def test_every_question_has_one_right_answer():
    places = set()
    for one in glossary.told():
        options = glossary.options(one)
        assert len({option.key for option in options}) == len(options) == 3 and options.count(one) == 1
        assert glossary.options(one) == options
        places.add(options.index(one))
    assert places == {0, 1, 2}, "the place must not give it away"
    assert glossary.asked("rms_norm_eps") == glossary.asked(None) == glossary.asked("nobody")
    for lang in LANGUAGES:
        assert glossary.asked(None).name(lang) not in words.table(lang)["glossary.two.story"], "told above the question"
    every = glossary.told()
    assert glossary.after(every[-1], []) == every[0] and glossary.after(every[0], [every[1].key]) == every[2]


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
def test_every_depth_in_both_languages(lang, depth):
    at = open_page(lang, depth=depth)
    assert fine(at) and len(listed(at)) == len(TERMS)
    assert bool(at.latex) == (depth == "maths") and bool(at.code) == (depth == "code")
    if depth == "code":
        asked = glossary.asked(None)
        assert not any(f"[term.{asked.key}]" in block.value for block in at.code), "its field is what is asked"
        next(b for b in at.button if b.label == asked.name(lang)).click().run()
        assert any(f"[term.{asked.key}]" in block.value for block in at.code)
    assert f"**{len(TERMS)}**" in prose(at) and "@" not in " ".join(one.value for one in at.latex)
    counts = [sum(one.topic == topic for one in TERMS.values()) for topic in glossary.TOPICS]
    assert shown(at)["counts"]["values_list"] == counts and str(max(counts)) in shown(at)["counts"]["note"]
    other = next(code for code in LANGUAGES if code != lang)
    card = listed(at)[list(TERMS).index("kv_lora_rank")]
    assert card["head"] == TERMS["kv_lora_rank"].name(lang) and card["under"][0]["text"] == TERMS["kv_lora_rank"].name(
        other
    )
    assert [part["text"] for part in card["parts"]] == [
        TERMS["kv_lora_rank"].means(lang),
        TERMS["kv_lora_rank"].means(other),
    ]
    assert [part["lang"] for part in card["parts"]] == [words.say(x, "language.html") for x in (lang, other)]
    assert card["door"]["page"] == "postal" and "kv_lora_rank" in card["links"][0]["text"]


def test_the_word_that_is_asked_stands_in_the_columns_of_the_others():
    cards = listed(open_page("zh"))
    waits = [one for one in cards if words.say("zh", "glossary.asked") in str(one["parts"])]
    assert len(waits) == 1 and all(one.get("pair") for one in cards)


def test_a_term_in_the_link_stands_first():
    at = open_page("en", term="kv_lora_rank")
    assert fine(at) and shown(at)["chosen"]["cards"][0]["head"] == TERMS["kv_lora_rank"].name("en")
    next(b for b in at.button if b.label == words.say("en", "glossary.leave")).click().run()
    assert fine(at) and "term" not in at.query_params and "chosen" not in shown(at)
    assert "chosen" not in shown(open_page("en", term="nobody_knows_it"))


def test_a_click_on_a_word_puts_it_into_the_link(monkeypatch):
    at = open_page("en")
    axis = shown(at)["list"]["axes"][0]
    assert [list(TERMS)[i] for i in axis["indices"]] == list(TERMS)
    narrowed = open_page("en", word="softmax")
    assert len(listed(narrowed)) < len(TERMS)
    assert list(TERMS).index("softmax") in shown(narrowed)["list"]["axes"][0]["indices"]


def test_guessing_hides_and_then_shows():
    at = open_page("en")
    asked = glossary.asked(None)
    card = listed(at)[list(TERMS).index(asked.key)]
    assert asked.name("en") not in str(card) and asked.hospital("en") == card["head"]
    assert asked not in glossary.shown(asked.name("en"), None, hidden=asked.key)
    at = skip(at)
    assert asked.means("en") in prose(at) and listed(at)[list(TERMS).index(asked.key)]["head"] == asked.name("en")
    next(b for b in at.button if b.label == words.say("en", "glossary.another")).click().run()
    assert fine(at) and at.query_params["asked"] in ("gate", ["gate"])
    came_for = open_page("en", term=asked.key)
    assert f"**{asked.hospital('en')}**" not in prose(came_for), "its answer stands above"


@pytest.mark.parametrize("typed", ["<img src=x onerror=alert(1)>", "*_~`|#[a](b)$\\", "{0} %s", "y" * 80])
def test_odd_searches_are_never_markup(typed):
    at = open_page("zh", word=typed, topic="<i>")
    assert fine(at) and at.text_input(key="glossary.find").value == typed
    assert not any("<img" in one.value for one in [*at.markdown, *at.caption, *at.info])
    assert bool(listed(at)) != bool(at.info)


def test_search_and_topic_are_in_the_link():
    at = open_page("en")
    at.text_input(key="glossary.find").set_value("key").run()
    at.button_group(key="glossary.choose").set_value("attention").run()
    assert fine(at) and [at.query_params[name] for name in ("word", "topic")] in (
        ["key", "attention"],
        [["key"], ["attention"]],
    )
    again = open_page("en", word="key", topic="attention")
    assert [card["head"] for card in listed(again)] == [card["head"] for card in listed(at)] and len(listed(at)) > 3
    assert shown(again)["list"]["find"] == ["key"] and shown(again)["counts"]["before_list"]
