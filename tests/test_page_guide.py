"""The teacher's guide: every page has an entry, in every language; what it says is there, is there; it prints."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import screens
from screens import LANGUAGES, fine

from pages.kit import ask, lesson, library, shell, state, words, worksheet
from pages.kit.figures import guide

STEMS = [Path(path).stem for path, _, _ in shell.PAGES]
ENTRIES = list(guide.entries().values())
SAID = {lang: {k for k in words.tables()[lang] if k.startswith("guide.")} for lang in LANGUAGES}


@pytest.fixture
def open_guide(monkeypatch, hospital_folder):
    def opened(lang="en", folder=hospital_folder, **query):
        monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(folder))
        return screens.open_page("pages/guide.py", lang, **query)

    return opened


def html(at) -> str:
    return "\n".join(one.proto.body for one in at.get("html"))


# -- the data ----------------------------------------------------------------------------------------------------------


def test_every_page_of_the_house_has_an_entry():
    assert [one.page for one in ENTRIES] == [stem for stem in STEMS if stem != "guide"], "all but the guide itself"


@pytest.mark.parametrize("one", ENTRIES, ids=lambda one: one.page)
def test_an_entry_is_complete(one):
    key = f"guide.{one.page}"
    assert 2 <= len(guide.series(f"{key}.show")) <= 4 and 2 <= len(guide.series(f"{key}.ask")) <= 3
    assert len(guide.series(f"{key}.wrong")) >= 2
    for lang in LANGUAGES:
        for wrong in guide.series(f"{key}.wrong"):
            assert wrong.replace(".wrong.", ".right.") in SAID[lang]
        for asked in guide.series(f"{key}.ask"):
            assert asked.replace(".ask.", ".answer.") in SAID[lang]
            assert re.search("[?？]", words.tables()[lang][asked]) or one.page in ("glossary", "facts"), "a question"
    assert 1 <= one.minutes <= 15 and one.audience and set(one.audience) <= set(guide.FOR)
    assert set(one.before) <= set(STEMS) - {one.page}
    assert all(quoted in words.tables()["en"] for quoted in one.quoted.values())
    told = [text for k, text in words.tables()["en"].items() if k.startswith(key) or re.fullmatch(rf"guide\.plan\.\w+\.{one.page}", k)]
    assert {name for name in one.quoted if not any(f"{{{name}}}" in text for text in told)} == set(), "quoted and not used"


def test_nothing_is_told_of_pages_that_are_not_there():
    """Keys of pages and of lines of plans; each series without a gap."""
    for lang in LANGUAGES:
        pages = {k.split(".")[1] for k in SAID[lang] if re.search(r"\.(show|wrong|right|ask|answer)\.\d+$", k)}
        assert pages == {one.page for one in ENTRIES}
        for page in pages:
            for what in ("show", "wrong", "right", "ask", "answer"):
                found = [k for k in SAID[lang] if re.fullmatch(rf"guide\.{page}\.{what}\.\d+", k)]
                assert len(found) == len(guide.series(f"guide.{page}.{what}"))


def test_plans_add_up():
    names = {"short": 20, "long": 45, "pupils": 45}
    assert {name: plan.minutes for name, plan in guide.plans().items()} == names
    for name, plan in guide.plans().items():
        assert {step.page for step in plan.steps} <= set(STEMS)
        for lang in LANGUAGES:
            told = {k.split(".")[3] for k in SAID[lang] if k.startswith(f"guide.plan.{name}.")} - {"name", "about"}
            assert told == {step.page for step in plan.steps}


def test_the_checklist_is_told():
    items = library.read("guide")["checklist"]["items"]
    for lang in LANGUAGES:
        told = {k.removeprefix("guide.before.") for k in SAID[lang] if k.startswith("guide.before.")}
        assert told == {*items, "title", "story", "maths", "code"}


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("one", ENTRIES, ids=lambda one: one.page)
def test_a_link_sets_what_it_says(one, lang):
    with words.speaking(lang):
        link, wanted = guide.link(one.page), guide.settings(one.page)
    arrived = state.from_link(link)
    assert arrived == {"lang": lang, **{k: v for k, v in wanted.items() if v != state.TABLE[k].default}}
    assert set(one.link) - {"example"} <= set(state.TABLE)
    if "example" in one.link:
        assert arrived["sentence"] == ask.EXAMPLES[lang][one.link["example"]]


# -- what is said of a page is on the page -----------------------------------------------------------------------------


def everything(at) -> str:
    """All words of a page: its own and those of its pictures and controls."""
    said = [one.value for kind in ("title", "subheader", "markdown", "caption") for one in at.get(kind)]
    said += [(one.proto.bytes.decode() or one.proto.json) for one in at.get("bidi_component")]
    said += [one.proto.label for one in at.get("download_button")]
    for kind in ("button", "toggle", "segmented_control", "pills", "button_group", "selectbox", "text_input", "number_input", "select_slider", "slider"):
        for one in at.get(kind):
            said += [str(getattr(one, "label", "")), *map(str, getattr(one, "options", []) or [])]
            said += [option.content for option in getattr(getattr(one, "proto", None), "options", []) if hasattr(option, "content")]
    return json.loads('"' + json.dumps("\n".join(said)).strip('"').replace("\\\\u", "\\u") + '"').replace("\\", "")


@pytest.mark.parametrize("one", ENTRIES, ids=lambda one: one.page)
def test_what_an_entry_names_is_on_the_page(monkeypatch, hospital_folder, one):
    """The page opens by the entry's link, in both languages, and every control and heading that the entry quotes
    stands there, at the latest once the questions are answered."""
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(hospital_folder))
    for lang in LANGUAGES if one.page in ("lobby", "department") else ["zh" if len(one.page) % 2 else "en"]:
        with words.speaking(lang):
            link, quoted = guide.link(one.page), {n: guide.values(one.page)[n] for n in one.quoted}
        at = screens.open_page(f"pages/{one.page}.py", **link)
        assert fine(at)
        for _ in range(6):
            skips = [b for b in at.button if b.label == words.say(lang, "chapter.show_me")]
            if not skips:
                break
            at = skips[0].click().run()
        said = everything(at)
        if one.page == "discharge":  # what can be done with a text is there once there is one
            at = at.button(key="discharge_one").click().run()
            said += everything(at)
        assert fine(at)
        building = "\n".join(v for k, v in words.tables()[lang].items() if k.startswith("building."))
        missing = {n: text for n, text in quoted.items() if text not in said and not (one.page == "lobby" and text in building)}
        assert {n: text for n, text in missing.items() if n not in AFTERWARDS.get(one.page, ())} == {}


# Drawn only after something else was done, or by the browser's own code.
AFTERWARDS: dict[str, tuple[str, ...]] = {"lobby": ("change",)}


# -- the page ----------------------------------------------------------------------------------------------------------


class Text(HTMLParser):
    """Text of HTML, and the tags it is made of."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.text, self.tags = "", []
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("one", ENTRIES, ids=lambda one: one.page)
def test_an_entry_is_whole_and_tidy_as_html(lang, one):
    with words.speaking(lang):
        markup = guide.entry(one)
    found = Text(markup)
    assert not re.search(r"[{}]|\*\*|&lt;", found.text)
    assert found.tags.count("details") == len(guide.series(f"guide.{one.page}.ask"))
    assert found.tags.count("li") == found.tags.count("details") + len(guide.series(f"guide.{one.page}.show"))
    bare = Text(guide_without_answers(one, lang))
    answers = [words.tables()[lang][k].split("{")[0] for k in SAID[lang] if k.startswith(f"guide.{one.page}.answer.")]
    assert "details" not in bare.tags and not any(answer and len(answer) > 8 and answer in bare.text for answer in answers)


def guide_without_answers(one, lang) -> str:
    with words.speaking(lang):
        return guide.entry(one, answers=False)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_it_opens_and_shows_every_entry(open_guide, lang):
    at = open_guide(lang)
    assert fine(at) and len(at.expander) == len(ENTRIES)
    assert all(words.say(lang, one.label) in e.label.replace("\\", "") for one, e in zip(ENTRIES, at.expander, strict=True))
    assert html(at).count("class='guide checks'") == 1 and "1,024" in html(at) and "<details>" not in html(at)
    at.session_state["guide lobby False"] = True  # opened by a click
    assert html(at.run()).count("<details>") == 3 and "522" in html(at)


def test_it_can_be_searched_and_filtered(open_guide):
    at = open_guide(about="postal")
    assert fine(at) and len(at.expander) == 1 and at.expander[0].proto.expanded
    at = at.text_input(key="guide.find").set_value("softmax").run()
    assert fine(at) and not at.expander and words.say("en", "guide.nothing", all=words.say("en", "guide.everything")) in at.info[0].value
    at = at.selectbox(key="guide.page").set_value("").run()
    at = at.text_input(key="guide.find").set_value("Nurse").run()
    assert 1 < len(at.expander) < len(ENTRIES)
    with words.speaking("en"):
        assert guide.shown("nurse", None, None) and guide.shown("nurse", None, None) != ENTRIES
        pupils = guide.shown(None, None, "pupil")
        assert pupils and all("pupil" in one.audience for one in pupils)
        assert guide.shown(None, "nowhere", "nobody") == ENTRIES


@pytest.mark.parametrize("query", [
    {"about": "nowhere", "for": "cats", "teach_plan": "long-gone"}, {"seek": "<b>**{x}"}, {"about": "../x", "seek": " "},
    {"token": "999999", "floor": "999999"}, {"s": "<script>alert(1)</script> **b** {0}"}, {"s": "面 " * 400},
])  # fmt: skip
def test_odd_links(open_guide, query):
    at = open_guide("zh", **query)
    assert not at.exception and len(at.error) <= 1 and len(at.get("page_link")) > 5


@pytest.mark.parametrize("name", guide.plans())
def test_a_plan_is_shown_with_its_links(open_guide, name):
    at = open_guide("en", teach_plan=name)
    assert fine(at)
    links = [one.proto for one in at.get("page_link")]
    for step in guide.plans()[name].steps:
        minutes = words.say("en", "guide.plan.row", minutes=step.minutes, page=words.say("en", f"nav.{step.page}"))
        assert any(one.label == minutes for one in links), step.page
    assert words.say("en", "guide.plan.total", minutes=guide.plans()[name].minutes) in [c.value for c in at.caption]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_plans_and_guided_lesson_lead_to_each_other(open_guide, lang):
    """Both have one of twenty minutes; each page says what the other's is."""
    assert {plan.minutes for plan in guide.plans().values()} & set(lesson.lessons())
    for at, page, said in (
        (open_guide(lang), "lesson", "guide.plan.guided"), (screens.open_page("pages/lesson.py", lang), "guide", "lesson.plans.what"),
    ):
        assert fine(at) and words.say(lang, said) in [one.value for one in at.markdown]
        labels = [one.proto.label for one in at.get("page_link") if one.proto.page == page]
        assert words.say(lang, f"nav.{page}") in labels


@pytest.mark.parametrize("depth", state.DEPTHS)
@pytest.mark.parametrize("folder", ["hospital_folder", "clinic_folder"])
def test_the_worksheet_stands_on_the_page(open_guide, request, folder, depth):
    at = open_guide("zh", request.getfixturevalue(folder), s="医生，我发烧。", depth=depth, floor="4")
    assert fine(at)
    assert len(at.get("download_button")) == 1 + len(worksheet.PARTS)
    preview = at.get("iframe")[0].proto
    assert "data-exercise" in preview.srcdoc and "data-answer" not in preview.srcdoc
    at = at.get("button_group")[-1].set_value("answers").run()
    assert fine(at) and "data-answer" in at.get("iframe")[0].proto.srcdoc


def test_a_link_without_answers_gives_none(open_guide):
    assert "<details>" in html(open_guide("en", about="lobby"))
    at = open_guide("en", hide="answers", about="lobby")
    assert fine(at) and "<h4>" in html(at) and "<details>" not in html(at)
    assert len(at.get("download_button")) == 2 and at.get("download_button")[0].proto.disabled


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_printed_guide_is_whole(lang):
    page = guide.printed(lang)
    found = Text(page)
    assert page.startswith("<!doctype html>") and "<script" not in page and "details" not in found.tags
    assert not re.search(r"https?:|src=|href=|url\(", page.split("</style>")[1])
    for one in ENTRIES:
        assert words.say(lang, one.label) in found.text
    first = words.tables()[lang]["guide.lobby.answer.3"]
    assert first in found.text and "522" in found.text
