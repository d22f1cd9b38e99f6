"""The teacher's link and the projector in Chromium: made in the dialog, opened by somebody else, worked by keyboard."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import screens
import zxingcpp
from PIL import Image
from playwright.sync_api import Page, expect
from test_journey import focused, plates, settle, tab_to, violations

from pages.kit import shell, words

PATIENCE = 60_000
SENTENCE = "Doctor, I have a fever."
WALK = [Path(path).stem for path, _, _ in shell.WALK]
say = words.say

Open = Callable[..., Page]


@pytest.fixture
def house(server, tab) -> Open:
    """`house(page, lang, scheme, width, **query)` opens a page."""

    def open_page(
        name: str = "lobby", lang: str = "en", scheme: str = "light", width: int = 1400, height: int = 1000, **query: str
    ) -> Page:
        page = tab(width, height, scheme)
        page.goto(query.pop("at", None) or f"{server}/{'' if name == 'lobby' else name}?{urlencode({'lang': lang, **query})}")
        expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=PATIENCE)
        expect(page.locator(".hospital").first).not_to_be_empty(timeout=PATIENCE)
        settle(page)
        return page

    return open_page


def link_in(page: Page) -> str:
    return page.get_by_role("dialog").first.locator("[data-testid=stCode] code").inner_text().replace("\n", "")


def until_link_has(page: Page, **wanted: str) -> str:
    for _ in range(300):
        made = link_in(page)
        said = {name: values[0] for name, values in parse_qs(urlsplit(made).query).items()}
        if all(said.get(name) == value for name, value in wanted.items()):
            return made
        page.wait_for_timeout(100)
    raise AssertionError(f"{made} has not {wanted}")


def open_dialog(page: Page, lang: str = "en") -> None:
    page.get_by_role("button", name=say(lang, "teacher.open")).click()
    expect(page.get_by_role("dialog").locator("[data-testid=stCode]")).to_be_visible()
    settle(page)


def pill(page: Page, which: str, group: str, lang: str = "en"):
    return page.locator(f".st-key-teacher-{which}").get_by_text(say(lang, f"teacher.group.{group}"), exact=True)


def test_a_link_is_made_and_opened_by_somebody_else(house):
    """The dialog, its code on the large screen, and what a student finds."""
    page = house("department", s=SENTENCE, token="2", floor="20", change="dismiss", room="7")
    open_dialog(page)
    expect(page.get_by_text(say("en", "teacher.alone"))).to_be_visible()  # it is a test: nobody else reaches this address
    pill(page, "lock", "sentence").click()
    pill(page, "lock", "who").click()
    pill(page, "hide", "answers").click()
    made = until_link_has(page, lock="sentence.who", hide="answers", s=SENTENCE, floor="20", change="dismiss", room="7")
    assert urlsplit(made).path == "/department" and "projector" not in made
    assert violations(page) == []

    page.get_by_role("button", name=say("en", "qr.large")).click()
    large = page.locator("dialog[open]")
    expect(large).to_be_visible()
    settle(page)
    seen = zxingcpp.read_barcodes(Image.open(io.BytesIO(page.screenshot())))
    assert [one.text for one in seen] == [made], "the code on the large screen says the link"
    size = large.locator("svg").bounding_box()
    assert size["height"] > 800
    page.keyboard.press("Escape")
    expect(large).to_have_count(0)
    expect(page.get_by_role("dialog").locator("[data-testid=stCode]")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)

    other = house(at=made)
    expect(other.locator(".st-key-sentence_box input")).to_be_disabled()
    expect(other.locator(".st-key-sentence_box input")).to_have_value(SENTENCE)
    expect(other.locator(".st-key-fixed_line")).to_contain_text(say("en", "teacher.group.sentence"))
    assert other.get_by_role("button", name=say("en", "chapter.show_me")).count() == 0
    chips = plates(other, "department.who").get_by_role("radio")
    expect(chips.nth(2)).to_have_attribute("aria-checked", "true")
    expect(chips.nth(1)).to_be_disabled()
    other.get_by_role("button", name="Floor: one more").first.click()  # the floor is free
    expect(plates(other, "department.who").locator(".stepper output")).to_have_text("floor 21")
    settle(other)
    open_dialog(other)
    expect(other.get_by_text(say("en", "teacher.taken"))).to_be_visible()
    assert other.locator(".st-key-teacher-lock").count() == 0


def test_a_lobby_with_everything_fixed(house):
    page = house(s=SENTENCE, token="2", floor="20", lock="who.floor", hide="pages")
    chips = page.get_by_role("radiogroup", name=re.compile("Patients")).get_by_role("radio")
    expect(chips.nth(2)).to_have_attribute("aria-checked", "true")
    assert page.locator(".queue .chip:enabled").count() == 0
    expect(page.get_by_role("slider")).to_be_disabled()
    expect(page.get_by_role("button", name=re.compile("Walk"))).to_be_disabled()
    page.locator(".people").click(position={"x": 300, "y": 100})
    page.locator(".stage").first.press("PageUp")
    page.locator(".rooms tbody tr").first.click()
    settle(page)
    said = {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}
    assert said["token"] == "2" and said["floor"] == "20" and urlsplit(page.url).path == "/"
    assert page.locator("[data-testid=stTopNavLink], [data-testid=stTopNavSection]").count() == 0
    assert page.locator(".st-key-doors").count() == 0


@pytest.mark.parametrize("lang,scheme", [("en", "light"), ("zh", "dark")], ids=["day", "night"])
def test_the_dialog_on_a_phone(house, lang, scheme):
    page = house("triage", lang, scheme, width=390, height=800, s=SENTENCE)
    open_dialog(page, lang)
    pill(page, "lock", "floor", lang).click()
    until_link_has(page, lock="floor")
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.get_by_role("dialog").first.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    wide = page.evaluate("""() => [...document.querySelectorAll("[role=dialog] *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1
      && !e.closest("[data-testid=stCode]")).map((e) => e.outerHTML.slice(0, 120))""")
    assert wide == []
    assert violations(page) == []


@pytest.mark.parametrize("lang,scheme", [("en", "light"), ("zh", "dark")], ids=["day", "night"])
def test_projector_by_keyboard(house, lang, scheme):
    """In and out again without a mouse; what is there stands out, and the keys reach it."""
    page = house("round", lang, scheme, width=1920, height=1080, s=SENTENCE, floor="30")
    usual = page.evaluate("parseFloat(getComputedStyle(document.documentElement).fontSize)")
    tab_to(page, lambda at: at["tag"] == "BUTTON" and say(lang, "teacher.open") in at["text"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").locator("[data-testid=stCode]")).to_be_visible()
    settle(page)
    switch = page.get_by_role("switch", name=say(lang, "teacher.projector.switch")).or_(page.get_by_role("checkbox", name=say(lang, "teacher.projector.switch")))
    for _ in range(60):
        page.keyboard.press("Tab")
        if switch.evaluate("one => one === document.activeElement"):
            break
    page.keyboard.press("Space")
    expect(page.locator("html[data-projector]")).to_have_count(1)
    expect(page.get_by_role("dialog")).to_have_count(0)
    settle(page)
    large = page.evaluate("parseFloat(getComputedStyle(document.documentElement).fontSize)")
    assert large > 1.6 * usual
    assert page.locator(".st-key-doors, .st-key-switches").count() == 0
    expect(page.locator(".lead")).to_be_hidden()
    assert page.locator(".hospital[data-projector]").count() == page.locator(".hospital").count() > 2
    assert page.evaluate("document.documentElement.scrollWidth") <= 1920
    assert violations(page, strict=True) == []
    assert "projector=1" in page.url
    page.reload()
    expect(page.locator("html[data-projector]")).to_have_count(1)
    expect(page.locator(".hospital").first).not_to_be_empty()
    settle(page)
    tab_to(page, lambda at: at["tag"] == "BUTTON" and say(lang, "teacher.projector.leave") in at["text"])
    page.keyboard.press("Enter")
    expect(page.locator("html[data-projector]")).to_have_count(0)
    settle(page)
    assert page.evaluate("parseFloat(getComputedStyle(document.documentElement).fontSize)") == usual
    assert page.locator(".hospital[data-projector]").count() == 0
    assert focused(page) is not None and "projector" not in page.url


def test_the_whole_screen(house):
    """The button asks the browser for it, and Escape or the same button gives it back."""
    page = house("triage", s=SENTENCE, projector="1")
    page.get_by_role("button", name=say("en", "teacher.projector.full")).click()
    screens.until(page, "() => document.fullscreenElement !== null")
    page.get_by_role("button", name=say("en", "teacher.projector.window")).click()
    screens.until(page, "() => document.fullscreenElement === null")
    expect(page.get_by_role("button", name=say("en", "teacher.projector.full"))).to_be_visible()


@pytest.mark.parametrize("name", WALK)
def test_a_projected_page_stands_out(house, name):
    """Every page of the walk: nothing sticks out, axe finds nothing, and what is drawn is of the projector's type."""
    night = WALK.index(name) % 2 == 1
    page = house(name, "zh" if night else "en", "dark" if night else "light", width=1920, height=1080, s=SENTENCE, projector="1", floor="20")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1920
    assert violations(page, strict=True) == []
    small = page.evaluate("""() => {
      const roots = [document, ...[...document.querySelectorAll("*")].map((e) => e.shadowRoot).filter(Boolean)];
      return roots.flatMap((root) => [...root.querySelectorAll("*")]).filter((e) => e.checkVisibility({ visibilityProperty: true, opacityProperty: true })
        && !e.closest(".hidden, [data-testid=stIconMaterial], .katex") && e.getBoundingClientRect().width > 2
        && [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) && parseFloat(getComputedStyle(e).fontSize) < 20)
        .map((e) => `${getComputedStyle(e).fontSize} ${e.outerHTML.slice(0, 120)}`);
    }""")
    assert small == []
    picture = page.locator(".hospital canvas").first
    expect(picture).to_be_visible()
    assert picture.bounding_box()["width"] > 700
