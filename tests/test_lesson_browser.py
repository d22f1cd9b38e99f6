"""The lesson in Chromium: the whole 20 minutes by keyboard alone, what lights up, and keys that belong to others."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Page, expect
from test_journey import AXE

from pages.kit import ask, lesson, words

PATIENCE = 60_000
LESSON = lesson.lessons()[20]

Open = Callable[..., Page]


@pytest.fixture
def house(server, tab) -> Open:
    """`house(page, **query)` opens a page."""

    def open_page(name: str = "lesson", lang: str = "en", width: int = 1400, height: int = 1000, scheme: str = "light",
                  calm: bool = False, **query: object) -> Page:  # fmt: skip
        page = tab(width, height, scheme, calm)
        page.goto(f"{server}/{'' if name == 'lobby' else name}?{urlencode({'lang': lang, **query})}")
        return page

    return open_page


def link(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def bar(page: Page):
    return page.locator(".st-key-lesson .bar")


def settle(page: Page) -> None:
    """Until the server has nothing more to say."""
    expect(page.locator("[data-testid=stStatusWidget]")).to_have_count(0, timeout=PATIENCE)
    expect(page.locator("[data-stale=true]")).to_have_count(0, timeout=PATIENCE)


def spoken(stop: lesson.Stop, part: str, lang: str = "en") -> str:
    values = lesson._numbers(str(lesson.shell.ROOT / "assets" / "hospital"))
    published = {name: words.say(lang, "hospitals.billions", value=f"{value / 1e9:.0f}").replace(" ", "\u00a0") for name, value in lesson._published().items()}
    own = {name: str(value) for name, value in stop.own.items()}
    return words.say(lang, f"lesson.stop.{stop.key}.{part}", **{**values, **published, **own})


def at_stop(page: Page, place: int, version: lesson.Lesson = LESSON) -> lesson.Stop:
    """The bar says so, the page is the stop's, to its very end, and the address names both."""
    stop = version.stops[place]
    expect(bar(page).locator("h2")).to_have_text(spoken(stop, "title"), timeout=PATIENCE)
    expect(bar(page).locator(".count")).to_have_text(words.say("en", "lesson.bar.count", number=place + 1, count=len(version.stops)))
    expect(page.get_by_role("heading", level=1)).to_have_text(words.say("en", f"{stop.page}.title"), timeout=PATIENCE)
    expect(page.locator(".st-key-doors")).to_be_visible(timeout=PATIENCE)
    settle(page)
    expect(bar(page)).not_to_have_attribute("aria-busy", "true")
    path = "/" if stop.page == "lobby" else f"/{stop.page}"
    assert urlsplit(page.url).path == path
    assert link(page)["lesson"] == str(version.minutes) and link(page)["stop"] == stop.key
    return stop


def focused(page: Page) -> str:
    """The text of what has the keyboard, through every shadow root."""
    return page.evaluate("""() => {
      let e = document.activeElement;
      while (e?.shadowRoot?.activeElement) e = e.shadowRoot.activeElement;
      return (e?.getAttribute("aria-label") ?? e?.textContent ?? "").trim();
    }""")


def tab_to(page: Page, text: str, most: int = 120) -> None:
    for _ in range(most):
        page.keyboard.press("Tab")
        if focused(page) == text:
            return
    raise AssertionError(f"{text!r} not reached by Tab; last: {focused(page)!r}")


def until(page: Page, so: Callable[[], bool]) -> None:
    for _ in range(PATIENCE // 100):
        if so():
            return
        page.wait_for_timeout(100)
    raise AssertionError(so)


def lit(page: Page, selector: str):
    """What is outlined, and whether it stands between the page's head and the bar."""
    expect(page.locator(selector)).to_have_css("outline-style", "solid", timeout=PATIENCE)
    for _ in range(100):
        box, over = page.locator(selector).bounding_box(), bar(page).bounding_box()
        head = page.locator("[data-testid=stHeader]").bounding_box()
        if head["y"] + head["height"] <= box["y"] < over["y"] - 40:
            return box
        page.wait_for_timeout(200)
    raise AssertionError(f"{selector} at {box}, bar at {over}")


# -- by keyboard alone -------------------------------------------------------------------------------------------------


def test_twenty_minutes_by_keyboard_alone(house):
    """From the list of stops to the last one and back a little, then leave, and come back."""
    page = house()
    expect(page.locator(".st-key-doors")).to_be_visible(timeout=PATIENCE)
    expect(page.locator(".st-key-lesson-contents table")).to_be_visible(timeout=PATIENCE)
    tab_to(page, words.say("en", "lesson.list.begin_of", minutes=20))
    page.keyboard.press("Enter")
    last = len(LESSON.stops) - 1
    for place in range(last + 1):
        stop = at_stop(page, place)
        for part in ("say", "look", "ask"):
            expect(bar(page)).to_contain_text(spoken(stop, part).replace("**", ""))
        expect(bar(page).locator("[aria-live]")).to_contain_text(spoken(stop, "title"))
        page.keyboard.press("PageDown")
    at_stop(page, last)  # there is nothing after it
    assert focused(page) == words.say("en", "lesson.bar.quiz"), "the way on is at hand"
    page.keyboard.press("PageUp")
    at_stop(page, last - 1)
    page.keyboard.press("PageUp")
    at_stop(page, last - 2)
    page.keyboard.press("PageDown")
    at_stop(page, last - 1)

    page.go_back()  # the browser's own way back knows every stop
    at_stop(page, last - 2)
    page.go_back()
    at_stop(page, last - 1)
    page.reload()
    stop = at_stop(page, last - 1)

    tab_to(page, words.say("en", "lesson.bar.leave"))
    page.keyboard.press("Enter")
    expect(bar(page)).to_have_count(0, timeout=PATIENCE)
    settle(page)
    assert not {"lesson", "stop"} & set(link(page)) and urlsplit(page.url).path == f"/{stop.page}"
    page.keyboard.press("PageDown")
    expect(bar(page)).to_have_count(0)
    page.go_back()
    at_stop(page, last - 1)
    tab_to(page, words.say("en", "lesson.bar.contents"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(words.say("en", "lesson.title"), timeout=PATIENCE)
    settle(page)
    expect(page.locator(".st-key-lesson-contents .on")).to_contain_text(spoken(stop, "title"))
    tab_to(page, words.say("en", "lesson.list.go_on"))
    page.keyboard.press("Enter")
    at_stop(page, last - 1)


def test_keys_that_belong_to_others(house):
    """In a picture the keys do what they do there; arrows go on from body and bar, a remote's from a box and a slider too."""
    page = house("lobby", lesson=20, stop="woken")
    at_stop(page, 0)
    page.locator(".st-key-sentence_box input").focus()
    page.keyboard.press("ArrowRight")
    page.locator(".stage").first.focus()
    floor = page.get_by_role("slider").first.input_value()
    page.keyboard.press("PageDown")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("slider").first).not_to_have_value(floor)
    until(page, lambda: link(page).get("floor") == page.get_by_role("slider").first.input_value())
    at_stop(page, 0)
    page.locator(".st-key-sentence_box input").focus()
    page.keyboard.press("PageDown")
    at_stop(page, 1)
    page.get_by_role("slider").first.focus()
    page.keyboard.press("PageUp")
    at_stop(page, 0)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowRight")
    at_stop(page, 1)
    bar(page).get_by_role("link", name=words.say("en", "lesson.bar.next")).focus()
    page.keyboard.press("ArrowRight")
    at_stop(page, 2)
    page.keyboard.press("ArrowLeft")
    at_stop(page, 1)
    expect(bar(page).locator(".say")).to_be_visible()
    page.keyboard.press(".")  # a remote's key for a dark screen
    expect(bar(page).locator(".say")).to_be_hidden()
    page.keyboard.press("b")
    expect(bar(page).locator(".say")).to_be_visible()
    page.keyboard.press("Control+PageDown")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("b")  # whoever heard this one has heard those before
    expect(bar(page).locator(".say")).to_be_hidden()
    page.get_by_role("slider").first.focus()
    page.keyboard.press("b")  # wherever the keys were left
    expect(bar(page).locator(".say")).to_be_visible()
    page.locator(".st-key-sentence_box input").focus()
    page.keyboard.press("b")  # but where one writes it is a letter
    expect(page.locator(".st-key-sentence_box input")).to_have_value(re.compile("b"))
    expect(bar(page).locator(".say")).to_be_visible()
    page.keyboard.press("Escape")
    at_stop(page, 1)


def test_a_sentence_that_is_being_written_is_not_lost(house):
    """The first press takes it in, the second goes on with it."""
    page = house("lobby", lesson=20, stop="woken")
    at_stop(page, 0)
    box = page.locator(".st-key-sentence_box input")
    box.click()
    page.keyboard.press("Control+a")
    page.keyboard.type("Who sees my teacher?")
    page.keyboard.press("PageDown")
    until(page, lambda: link(page).get("s") == "Who sees my teacher?")
    at_stop(page, 0)
    page.keyboard.press("PageDown")
    at_stop(page, 1)
    expect(box).to_have_value("Who sees my teacher?")
    box.click()
    page.keyboard.type("!")
    page.keyboard.press("Enter")
    until(page, lambda: link(page).get("s", "").endswith("!"))
    page.keyboard.press("PageDown")  # from the box, where nothing is waiting
    at_stop(page, 2)


def test_the_arrows_scroll_what_is_taller_than_the_window(house):
    page = house("department", height=700, calm=True, lesson=20, stop="eight")
    at_stop(page, [stop.key for stop in LESSON.stops].index("eight"))
    lit(page, ".st-key-plates-department-corridors")
    top = "document.querySelector('[data-testid=stMain]').scrollTop"
    before = page.evaluate(top)
    for key, farther in (("ArrowDown", True), ("Space", True), ("ArrowUp", False), ("End", True), ("Home", False)):
        page.keyboard.press(key)
        now = page.evaluate(top)
        assert (now > before) is farther and now != before, key
        before = now
    at_stop(page, [stop.key for stop in LESSON.stops].index("eight"))


def test_from_another_page_the_keys_lead_back_to_the_last_stop(house):
    page = house("facts", lesson=20, stop="judge")
    last = len(LESSON.stops) - 1
    at_stop(page, last)
    page.locator(".st-key-doors a").first.click()
    expect(bar(page)).to_contain_text(words.say("en", "lesson.bar.elsewhere", page=words.say("en", "nav.facts")), timeout=PATIENCE)
    settle(page)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("PageDown")
    at_stop(page, last)


# -- what is lit -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width,height", [(1400, 1000), (390, 844)])
def test_a_stop_lights_up_what_it_is_about(house, width, height):
    """In sight, above the bar; the bar can be folded, covers nothing for good, and nothing scrolls sideways."""
    page = house("postal", width=width, height=height, calm=width < 1000, lesson=20, stop="code")
    place = [stop.key for stop in LESSON.stops].index("code")
    at_stop(page, place)
    assert link(page)["s"] == ask.EXAMPLES["en"][3]
    lit(page, ".st-key-plates-postal-code")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    said = bar(page).locator(".say")
    fold = bar(page).get_by_role("button", name=re.compile("words"))
    if width < 1000:
        expect(said).to_be_hidden()  # folded away at first
        fold.click()
    expect(said).to_be_visible()
    assert bar(page).bounding_box()["height"] <= 0.6 * height + 1
    fold.click()
    expect(said).to_be_hidden()
    assert bar(page).bounding_box()["height"] < 110
    fold.click()
    expect(said).to_be_visible()
    page.evaluate("document.querySelector('[data-testid=stMain]').scrollTo(0, 1e6)")

    def ends_above() -> bool:
        doors, over = page.locator(".st-key-doors").bounding_box(), bar(page).bounding_box()
        return doors["y"] + doors["height"] <= over["y"]

    until(page, ends_above)  # the end of the page can be seen above the bar

    page.keyboard.press("PageDown")
    at_stop(page, place + 1)
    lit(page, ".st-key-plates-postal-shorten")
    expect(page.locator(".st-key-plates-postal-code")).not_to_have_css("outline-style", "solid")
    bar(page).get_by_role("link", name=words.say("en", "lesson.bar.leave")).click()
    expect(bar(page)).to_have_count(0, timeout=PATIENCE)
    expect(page.locator(".st-key-plates-postal-shorten")).not_to_have_css("outline-style", "solid")


def test_the_light_moves_on_when_the_question_is_answered(house):
    page = house("round", lesson=20, stop="early")
    at_stop(page, [stop.key for stop in LESSON.stops].index("early"))
    lit(page, ".st-key-predict-round-settles")
    page.get_by_role("button", name=words.say("en", "chapter.show_me")).click()
    expect(page.locator("[data-plate=chances]")).to_have_css("outline-style", "solid", timeout=PATIENCE)
    question = page.locator(".st-key-predict-round-settles")
    expect(question).not_to_have_css("outline-style", "solid")
    head = page.locator("[data-testid=stHeader]").bounding_box()
    until(page, lambda: 0 <= question.bounding_box()["y"] - head["y"] - head["height"] < 60)  # the verdict is in sight


def test_a_question_whose_answer_opens_the_picture_is_lit_up_first(house):
    page = house("heads", lesson=20, stop="heads")
    place = [stop.key for stop in LESSON.stops].index("heads")
    first = page.locator(".st-key-predict-heads-most button").first
    for _ in range(2):  # also where the keyboard's place went with another page
        at_stop(page, place)
        lit(page, ".st-key-predict-heads-most")
        page.keyboard.press("Tab")
        expect(first).to_be_focused()
        page.keyboard.press("PageUp")
        at_stop(page, place - 1)
        page.keyboard.press("PageDown")
    at_stop(page, place)
    lit(page, ".st-key-predict-heads-most")
    page.get_by_role("button", name=words.say("en", "chapter.show_me")).click()
    expect(page.locator("[data-plate=patterns]")).to_have_css("outline-style", "solid", timeout=PATIENCE)
    expect(page.locator(".st-key-predict-heads-most")).not_to_have_css("outline-style", "solid")


@pytest.mark.parametrize("lang,scheme,width", [("en", "light", 1400), ("zh", "dark", 390)], ids=["day", "night"])
def test_axe_finds_nothing_serious_in_the_bar(house, lang, scheme, width):
    page = house("department", lang, width=width, height=900, scheme=scheme, lesson=45, stop="consult")
    expect(bar(page).locator("h2")).to_have_text(spoken(lesson.stops()["consult"], "title", lang), timeout=PATIENCE)
    expect(page.locator(".st-key-doors")).to_be_visible(timeout=PATIENCE)
    settle(page)
    if width < 700:
        bar(page).get_by_role("button").click()
    bar(page).locator("summary").click()
    expect(bar(page).locator("details p")).to_be_visible()
    page.evaluate(AXE)
    found = page.evaluate("""async () => (await axe.run(".st-key-lesson", { resultTypes: ["violations"] })).violations
      .filter((one) => ["serious", "critical"].includes(one.impact)).map((one) => one.id + " " + one.nodes[0].html.slice(0, 200))""")
    assert found == []
