"""A quiz answered by keyboard alone, and the self-check pressed, in Chromium."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from pages.kit import words

PATIENCE = 60_000
SENTENCE = "Doctor, I have a fever."


def say(key: str, **values: object) -> str:
    return words.say("en", key, **values)


@pytest.fixture
def visitor(server, tab) -> Callable[[str], Page]:
    def open_page(address: str) -> Page:
        page = tab(1280, 1200)
        page.goto(f"{server}/{address}")
        expect(page.locator(".st-key-doors")).to_be_visible(timeout=PATIENCE)
        return page

    return open_page


def test_a_quiz_by_keyboard_alone(visitor):
    page = visitor(f"quiz?lang=en&s={SENTENCE.replace(' ', '+')}&quiz=7")
    card = page.locator(".st-key-quiz-card")
    expect(page.locator(".st-key-quiz-at button").nth(7)).to_be_visible(timeout=PATIENCE)
    count = page.locator(".st-key-quiz-at button").count()
    for number in range(1, count + 1):
        expect(card.get_by_text(re.compile(rf"^Question {number} of {count}"))).to_be_visible()
        expect(page.locator(".st-key-quiz-options button").first).to_be_enabled()  # nobody presses a key for what is not there
        page.keyboard.press(str(1 + number % 3))
        expect(card.get_by_text(re.compile(r"^(Right|Not quite)\."))).to_be_visible()
        if number < count:
            page.keyboard.press("n")
    expect(page.get_by_role("heading", name=say("quiz.result.title"))).to_be_visible()
    expect(page.get_by_text(re.compile(rf"^\d+ of {count} right\."))).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name=say("quiz.csv")).click()
    text = download.value.path().read_text("utf-8-sig")
    assert text.startswith("number,topic,kind") and SENTENCE in text

    see = card.get_by_role("link", name=re.compile("^See it"))
    see.focus()
    page.keyboard.press("Enter")
    expect(card).to_have_count(0)
    page.go_back()
    expect(page.get_by_role("heading", name=say("quiz.result.title"))).to_be_visible()  # nothing that was answered is lost


def test_keys_are_spoken_of_where_there_are_some(server, browser, visitor):
    told = re.compile("^By keyboard")
    expect(visitor("quiz?lang=en&quiz=7").get_by_text(told)).to_be_visible(timeout=PATIENCE)
    phone = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = phone.new_page()
    page.goto(f"{server}/quiz?lang=en&quiz=7")
    expect(page.locator(".st-key-quiz-options button").first).to_be_enabled(timeout=PATIENCE)
    expect(page.get_by_text(told)).to_have_count(1)
    expect(page.get_by_text(told)).to_be_hidden()
    phone.close()


def test_digits_in_the_sentence_answer_nothing(visitor):
    page = visitor("quiz?lang=en&s=a&quiz=7")
    box = page.locator(".st-key-sentence_box input")
    box.click()
    page.keyboard.type("1234n")
    expect(box).to_have_value("a1234n")
    expect(page.locator(".st-key-quiz-card").get_by_role("button").first).to_be_enabled()
    assert page.locator(".st-key-quiz-card").get_by_text(re.compile(r"^(Right|Not quite)\.")).count() == 0


def test_the_self_check_can_be_pressed_and_stopped(visitor):
    page = visitor("check?lang=en")
    page.get_by_role("button", name=say("check.start")).click()
    expect(page.get_by_role("button", name=say("check.stop"), exact=True)).to_be_visible()
    badges = page.locator(".st-key-plates-check-rows .badge")
    expect(badges.filter(has_text=say("check.state.passed"))).not_to_have_count(0)
    for _ in range(600):  # the counts come first; the rest would take a minute
        if badges.filter(has_text=re.compile(rf"{say('check.state.passed')}$")).count() > 8:
            break
        page.wait_for_timeout(100)
    assert badges.filter(has_text=say("check.state.failed")).count() == 0
    stop = page.get_by_role("button", name=say("check.stop"), exact=True)
    if stop.is_visible():
        stop.click()
    expect(page.get_by_role("button", name=say("check.again"))).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name=say("check.json")).click()
    assert '"parameters"' in download.value.path().read_text("utf-8")
