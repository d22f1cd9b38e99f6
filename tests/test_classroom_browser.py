"""A class in Chromium: the teacher's browser and a student's at the same time; on one server, and on two that share a
Redis server."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, WebSocket, expect
from test_journey import violations

from pages.kit import classes, words

PATIENCE = 60_000
SENTENCE = "Doctor, I have a fever."
Open = Callable[..., Page]
say = words.say


@pytest.fixture
def screen(browser) -> Iterator[Open]:
    """`screen(address)` opens it in a browser of its own; at the end, nothing that must not happen has happened."""
    contexts, bad = [], []

    def count(socket: WebSocket, page: Page) -> None:
        socket.on("framesent", lambda _: asked.update([page]))

    def open_page(address: str, locale: str = "en-US", width: int = 1280) -> Page:
        context = browser.new_context(locale=locale, viewport={"width": width, "height": 1000})
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: bad.append(str(error)))
        page.on("websocket", lambda socket: count(socket, page))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    asked.clear()
    assert bad == []


asked: Counter[Page] = Counter()  # how often a page has asked its server for anything


def looked(page: Page) -> None:
    """Whoever sits still looks at the class now and then: until that was done twice, and answered."""
    before, end = asked[page], time.monotonic() + PATIENCE / 1000
    while asked[page] < before + 3:  # the third is asked when the second was answered
        assert time.monotonic() < end, "the class is not looked at"
        page.wait_for_timeout(50)
    settle(page)


def title(page: Page, name: str, lang: str = "en") -> None:
    """The page is there, to its very end, and at rest."""
    expect(page.get_by_role("heading", level=1)).to_have_text(say(lang, f"{name}.title"), timeout=PATIENCE)
    expect(page.locator(".st-key-doors")).to_be_visible(timeout=PATIENCE)
    settle(page)


def settle(page: Page) -> None:
    expect(page.locator("[data-stale=true]")).to_have_count(0, timeout=PATIENCE)
    page.wait_for_timeout(200)


def link(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def until_link(page: Page, **wanted: str | None) -> None:
    end = time.monotonic() + PATIENCE / 1000
    while not all(link(page).get(name) == value for name, value in wanted.items()):
        assert time.monotonic() < end, f"{link(page)} is not {wanted}"
        page.wait_for_timeout(50)


def bar_says(page: Page, key: str, lang: str = "en", /, **values: object) -> None:
    expect(page.locator(".st-key-class_bar").get_by_text(say(lang, f"together.bar.{key}", **values))).to_be_visible(timeout=PATIENCE)


def press(page: Page, key: str, lang: str = "en", /, **values: object) -> None:
    page.get_by_role("button", name=say(lang, key, **values)).click()


def next_door(page: Page, name: str) -> None:
    page.locator(".st-key-doors a").last.click()
    title(page, name)


def type_sentence(page: Page, text: str) -> None:
    box = page.get_by_label(say("en", "lobby.sentence"))
    box.fill(text)
    box.press("Enter")
    until_link(page, s=text)
    settle(page)


def open_class(page: Page) -> str:
    """Its code."""
    title(page, "together")
    press(page, "together.open.button")
    shown = page.locator(".class-code")
    expect(shown).to_be_visible(timeout=PATIENCE)
    settle(page)
    assert violations(page) == []
    return classes.code_of(shown.inner_text())


def bars(page: Page) -> list[str]:
    """What stands at the end of each bar of the tally."""
    return page.locator(f".plate:has(h3:text-is('{say('en', 'together.tally.title')}')) ol.rank .share").all_inner_texts()


def until_bars(page: Page, *wanted: str) -> None:
    end = time.monotonic() + PATIENCE / 1000
    while bars(page) != list(wanted):
        assert time.monotonic() < end, f"{bars(page)} is not {wanted}"
        page.wait_for_timeout(100)


def begin(page: Page) -> None:
    """From the class's page to the triage desk, with a sentence."""
    page.get_by_role("button", name=say("en", "together.begin", page=say("en", "nav.lobby"))).click()
    title(page, "lobby")
    type_sentence(page, SENTENCE)
    next_door(page, "triage")


def test_a_lesson_from_its_code_to_its_end(server, screen):
    teacher = screen(f"{server}/together?lang=en")
    code = open_class(teacher)
    student = screen(f"{server}/together?class={code}", locale="zh-CN", width=390)
    bar_says(student, "waits", "zh")
    until_link(student, **{"class": None})
    bar_says(teacher, "here", count=1)

    begin(teacher)  # followed: page, sentence, token; not the language
    title(student, "triage", "zh")
    until_link(student, s=SENTENCE, lang="zh")
    token = "1"  # after the door
    teacher.get_by_role("radio", name="Doctor").click()
    until_link(teacher, token=token)
    until_link(student, token=token)
    settle(student)

    until_bars(teacher, "0", "0")
    student.get_by_role("button", name=say("zh", "triage.larger.ffn")).click()
    until_bars(teacher, "0", "1")
    expect(student.get_by_text(say("zh", "together.tally.title"))).to_be_visible(timeout=PATIENCE)
    bar_says(student, "follows", "zh")

    student.get_by_role("radio", name="fever").click()  # a touch
    bar_says(student, "wanders", "zh")
    student.get_by_test_id("stMain").evaluate("page => page.scrollTo(0, page.scrollHeight)")
    expect(student.locator(".st-key-class_rejoin")).to_be_in_viewport(timeout=PATIENCE)  # on a phone too
    next_door(teacher, "department")
    looked(student)
    expect(student.get_by_role("heading", level=1)).to_have_text(say("zh", "triage.title"))
    press(student, "together.rejoin", "zh")
    title(student, "department", "zh")
    until_link(student, token=token)
    bar_says(student, "follows", "zh")

    press(student, "together.ask.open", "zh")  # typed slowly, while the bar looks at the class
    box = student.get_by_label(say("zh", "together.ask.label"))
    box.click()
    box.press_sequentially("Why <b>58</b>?", delay=250)
    assert box.input_value() == "Why <b>58</b>?"
    press(student, "together.ask.send", "zh")
    expect(student.get_by_text(say("zh", "together.ask.sent"))).to_be_visible(timeout=PATIENCE)
    expect(box).to_be_hidden(timeout=PATIENCE)  # sent, and out of the way
    bar_says(teacher, "asked", count=1)
    press(teacher, "together.questions.open")
    press(teacher, "together.questions.light")
    waiting = say("en", "together.bar.asked", count=1)
    expect(teacher.locator(".st-key-class_bar").get_by_text(waiting)).to_have_count(0, timeout=PATIENCE)
    for page in (student, teacher):
        expect(page.locator(".class-lit blockquote")).to_have_text("Why <b>58</b>?", timeout=PATIENCE)
    for page in (student, teacher):
        settle(page)
        assert violations(page) == []
    press(teacher, "together.questions.away")
    expect(student.locator(".class-lit")).to_have_count(0, timeout=PATIENCE)
    teacher.keyboard.press("Escape")

    student.reload()  # the tab remembers its place
    title(student, "department", "zh")
    bar_says(student, "follows", "zh")
    bar_says(teacher, "here", count=1)
    teacher.reload()
    title(teacher, "department")
    bar_says(teacher, "leads")

    assert student.evaluate("document.documentElement.scrollWidth") <= 390
    press(teacher, "together.close.open")
    sure = teacher.get_by_role("button", name=say("en", "together.close.sure"))
    for scheme, ink in (("dark", "rgb(14, 23, 38)"), ("light", "rgb(255, 255, 255)")):  # on a pale button, on a dark one
        teacher.emulate_media(color_scheme=scheme)
        expect(sure).to_have_css("color", ink, timeout=PATIENCE)
    press(teacher, "together.close.sure")
    expect(teacher.get_by_text(say("en", "error.class_closed")).first).to_be_visible(timeout=PATIENCE)
    expect(student.get_by_text(say("zh", "error.class_over")).first).to_be_visible(timeout=PATIENCE)
    student.reload()
    title(student, "department", "zh")
    expect(student.locator(".st-key-class_bar")).to_have_count(0)


def lit(page: Page, selector: str) -> dict[str, float]:
    """Where what a stop of the lesson is about is outlined, once it has come to rest."""
    expect(page.locator(selector)).to_have_css("outline-style", "solid", timeout=PATIENCE)
    was, end = None, time.monotonic() + PATIENCE / 1000
    while (box := page.locator(selector).bounding_box()) != was:
        assert time.monotonic() < end
        was = box
        page.wait_for_timeout(600)
    return box


def test_a_lesson_on_a_projector_and_on_a_students_phone(server, screen):
    """By what stands on the screens alone: the class's bar covers nothing of what is lit up, the student's screen shows
    it too, the network may go for a while, and after the last stop there is a way to the quiz."""
    def projected(name: str) -> None:
        expect(teacher.get_by_role("heading", level=1)).to_have_text(say("en", f"{name}.title"), timeout=PATIENCE)
        settle(teacher)

    teacher = screen(f"{server}/together?lang=en")
    code = open_class(teacher)
    press(teacher, "teacher.open")
    teacher.get_by_text(say("en", "teacher.projector.switch"), exact=True).last.click()
    expect(teacher.locator("html")).to_have_attribute("data-projector", "", timeout=PATIENCE)
    projected("together")
    student = screen(f"{server}/together?class={code}", locale="zh-CN", width=390)
    bar_says(student, "waits", "zh")
    press(teacher, "together.lesson")
    teacher.get_by_role("link", name=say("en", "lesson.list.begin_of", minutes=5)).click()
    projected("lobby")
    title(student, "lobby", "zh")
    followed = student.locator(".chip[aria-checked=true]")
    whom, other = followed.inner_text(), student.locator(".chip[aria-checked=false]").last
    other.click()  # the browser draws that by itself, and has to be told that the class is somewhere else
    bar_says(student, "wanders", "zh")
    expect(followed).not_to_have_text(whom)
    press(student, "together.rejoin", "zh")
    bar_says(student, "follows", "zh")
    expect(followed).to_have_text(whom, timeout=PATIENCE)
    teacher.keyboard.press("PageDown")
    projected("department")
    title(student, "department", "zh")
    scores, opinions = ".st-key-plates-department-score", ".st-key-plates-department-opinions"
    above = teacher.locator(".st-key-class_bar").bounding_box()
    assert above["y"] + above["height"] <= lit(teacher, scores)["y"] < 300
    assert 0 <= lit(student, scores)["y"] < 500, "no scrolling about"

    teacher.keyboard.press("PageDown")  # on the same page
    assert 0 <= lit(student, opinions)["y"] < 500 and lit(teacher, opinions)["y"] < 300
    bar_says(student, "follows", "zh")
    expect(student.locator(".st-key-lesson .bar")).to_have_count(0)

    teacher.context.set_offline(True)
    teacher.keyboard.press("PageDown")
    lesson = teacher.locator(".st-key-lesson .bar")
    expect(lesson.locator(".time")).to_have_text(say("en", "lesson.bar.waits"), timeout=PATIENCE)
    expect(teacher.locator(".hospital-away")).to_have_text(say("en", "away"), timeout=PATIENCE)
    teacher.context.set_offline(False)
    expect(teacher.locator(".hospital-away")).to_be_empty(timeout=PATIENCE)
    projected("postal")
    title(student, "postal", "zh")
    expect(lesson.locator(".time")).not_to_have_text(say("en", "lesson.bar.waits"))

    teacher.keyboard.press("PageDown")
    projected("facts")
    teacher.keyboard.press("PageDown")  # a remote's key leads nowhere from there
    lesson.get_by_role("link", name=say("en", "lesson.bar.quiz")).click()
    projected("quiz")
    title(student, "quiz", "zh")
    expect(lesson).to_have_count(0)
    assert "lesson" not in link(teacher)
    until_link(student, quiz=link(teacher)["quiz"])
    for page in (student, teacher):
        settle(page)
        assert violations(page) == []

    teacher.get_by_role("button", name=say("en", "together.close.open")).focus()  # the keyboard goes into what it opens
    for _ in range(3):
        teacher.keyboard.down("Enter")  # held: it opens, closes and opens
        teacher.wait_for_timeout(100)
    teacher.keyboard.up("Enter")
    expect(teacher.get_by_test_id("stPopoverBody")).to_be_focused(timeout=PATIENCE)
    teacher.keyboard.press("Enter")  # once more: what cannot be undone is not done by it
    teacher.keyboard.press("Tab")
    expect(teacher.get_by_role("button", name=say("en", "together.close.sure"))).to_be_focused(timeout=PATIENCE)
    expect(student.locator(".st-key-class_bar")).to_be_visible()
    teacher.keyboard.press("Enter")
    expect(student.get_by_text(say("zh", "error.class_over")).first).to_be_visible(timeout=PATIENCE)


def test_only_the_holder_of_the_teachers_link_steers(server, screen):
    teacher = screen(f"{server}/together?lang=en")
    code = open_class(teacher)
    press(teacher, "together.own.open")
    own = teacher.locator("code", has_text="teach=").inner_text()
    assert "teach" not in teacher.url
    begin(teacher)

    forger = screen(f"{server}/together?lang=en&class={code}&teach=0123456789abcdefghijklmnopqrstuv")
    expect(forger.get_by_text(say("en", "error.class_secret")).first).to_be_visible(timeout=PATIENCE)
    expect(forger.locator(".st-key-class_bar")).to_have_count(0)
    student = screen(f"{server}/together?lang=en&class={code}")
    title(student, "triage")
    secret = parse_qs(urlsplit(own).query)["teach"][0]
    assert secret not in student.content() and student.evaluate("JSON.stringify(sessionStorage)").find(secret) < 0
    student.get_by_role("radio", name="Doctor").click()
    bar_says(student, "wanders")
    next_door(student, "department")
    looked(teacher)
    expect(teacher.get_by_role("heading", level=1)).to_have_text(say("en", "triage.title"))

    second = screen(own)  # the teacher, at the projector
    expect(second.locator(".class-code")).to_be_visible(timeout=PATIENCE)
    end = time.monotonic() + 60
    while "teach" in second.url or "class" in second.url:
        assert time.monotonic() < end, second.url
        second.wait_for_timeout(50)
    title(second, "together")
    press(second, "together.go", page=say("en", "nav.triage"))
    title(second, "triage")
    until_link(second, s=SENTENCE)
    next_door(second, "department")
    title(teacher, "department")
    assert not any(secret in page.url or code in page.url for page in (teacher, second, student))
    second.go_back()
    title(second, "triage")
    second.go_back()
    title(second, "together")
    assert secret not in second.url, "nor is it in what one goes back to"
    press(second, "together.close.open")
    press(second, "together.close.sure")
    expect(student.get_by_text(say("en", "error.class_over")).first).to_be_visible(timeout=PATIENCE)


def test_two_servers_share_a_class_through_redis(serve, hospital_folder, redis_url, screen, monkeypatch):
    import redis

    monkeypatch.setenv("REDIS_URL", redis_url)
    first, second = serve(hospital_folder), serve(hospital_folder)
    monkeypatch.delenv("REDIS_URL")
    assert first != second and "REDIS_URL" not in os.environ
    teacher = screen(f"{first}/together?lang=en")
    code = open_class(teacher)
    student = screen(f"{second}/together?lang=en")
    title(student, "together")
    student.get_by_label(say("en", "together.join.code")).fill(code.lower())
    press(student, "together.join.button")
    bar_says(student, "waits")
    bar_says(teacher, "here", count=1)
    begin(teacher)
    title(student, "triage")
    until_link(student, s=SENTENCE)
    settle(student)
    student.get_by_role("button", name=say("en", "triage.larger.attention")).click()
    until_bars(teacher, "1", "0")
    press(teacher, "together.close.open")
    press(teacher, "together.close.sure")
    expect(student.get_by_text(say("en", "error.class_over")).first).to_be_visible(timeout=PATIENCE)
    assert redis.Redis.from_url(redis_url).keys("*") == [], "nothing is kept"
