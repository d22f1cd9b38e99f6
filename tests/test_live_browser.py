"""A lab driven to its end in Chromium: it starts, grows, pauses, goes on and is done, and the page answers meanwhile."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

from pages.kit import words

PATIENCE = 60_000


def say(key: str, **values: object) -> str:
    return words.say("en", key, **values)


def told(page: Page) -> str:
    found = page.locator("[data-testid=stProgress]")
    return found.inner_text() if found.count() else ""


def until(page: Page, what: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE / 1000
    while not what():
        assert time.monotonic() < end, (told(page), page.locator("[data-testid=stAlert]").all_inner_texts())
        page.wait_for_timeout(50)


def link(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def button(page: Page, key: str):
    return page.get_by_role("button", name=say(f"live.{key}"), exact=True)


def test_a_run_from_its_start_to_its_end(server, browser):
    """The smallest run that the link can ask for: one hospital, 20 steps."""
    context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 1400})
    context.set_default_timeout(PATIENCE)
    page, bad = context.new_page(), []
    page.on("pageerror", lambda error: bad.append(str(error)))
    page.goto(f"{server}/queues?lang=en&arms=none&steps=20&seed=7")
    try:
        expect(button(page, "start")).to_be_visible(timeout=PATIENCE)
        expect(page.locator(".st-key-doors")).to_be_visible(timeout=PATIENCE)
        button(page, "start").click()
        pictures = page.locator(".st-key-plates-queues-live")
        expect(pictures.locator("canvas").first).to_be_visible(timeout=PATIENCE)
        if button(page, "pause").is_visible():  # a fast machine may be done already
            button(page, "pause").click()
            until(page, lambda: told(page).startswith("Paused at step") or button(page, "again").is_visible())
        switch = page.locator("label", has_text=say("queues.rare_switch", subject="", share="").split(":")[0])
        switch.click()  # another control answers
        until(page, lambda: link(page).get("rare") == "1")
        switch.click()
        until(page, lambda: "rare" not in link(page))
        if button(page, "go_on").is_visible():
            button(page, "go_on").click()
        expect(button(page, "again")).to_be_visible(timeout=PATIENCE)
        assert re.match(r"Done: 20 steps in \d+ s · [\d,]+ tokens a second · seed 7", told(page)), told(page)
        expect(pictures.get_by_text(say("queues.max_vio.title"))).to_be_visible()
        expect(pictures.get_by_text(re.compile("Step 20:")).first).to_be_visible()
        assert not page.locator("[data-testid=stAlert]").count()
        assert link(page)["steps"] == "20" and link(page)["seed"] == "7"
    finally:
        context.close()
    assert bad == []


def test_leaving_the_page_stops_the_run(server, browser):
    """Somewhere else in the house nobody asks for it any more; who comes back finds it stopped, and its curves."""
    context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 1400})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(f"{server}/queues?lang=en&arms=none&steps=50")
    try:
        expect(page.locator(".st-key-doors")).to_be_visible(timeout=PATIENCE)
        button(page, "start").click()
        expect(page.locator(".st-key-plates-queues-live canvas").first).to_be_visible(timeout=PATIENCE)
        button(page, "pause").click()  # so that it cannot come to its end on a fast machine
        until(page, lambda: button(page, "go_on").is_visible())
        page.locator(".st-key-doors a").first.click()
        expect(page.get_by_role("heading", level=1)).not_to_have_text(say("queues.title"))
        page.wait_for_timeout(10_000)  # longer than a run waits for its page
        page.go_back()
        expect(page.get_by_role("heading", level=1)).to_have_text(say("queues.title"))
        expect(button(page, "again")).to_be_visible(timeout=PATIENCE)
        until(page, lambda: told(page).startswith("Stopped at step"))
        expect(page.locator(".st-key-plates-queues-live canvas").first).to_be_visible(timeout=PATIENCE)
    finally:
        context.close()


def test_the_beds_are_watched_to_the_end_of_a_run(server, browser):
    """20 steps, below what was recorded."""
    context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 1400})
    context.set_default_timeout(PATIENCE)
    page, bad = context.new_page(), []
    page.on("pageerror", lambda error: bad.append(str(error)))
    page.goto(f"{server}/beds?lang=en&steps=20&seed=3&s=Hello")
    try:
        expect(page.locator(".st-key-doors")).to_be_visible(timeout=PATIENCE)
        expect(page.locator(".st-key-plates-beds-trained canvas")).to_have_count(2)
        button(page, "start").click()
        pictures = page.locator(".st-key-plates-beds-live")
        expect(pictures.locator("canvas").first).to_be_visible(timeout=PATIENCE)
        expect(button(page, "again")).to_be_visible(timeout=PATIENCE)
        assert re.match(r"Done: 20 steps in \d+ s · [\d,]+ tokens a second · seed 3", told(page)), told(page)
        expect(pictures.get_by_text(re.compile("After step 20:")).first).to_be_visible()
        assert pictures.locator("canvas").count() == 2 and not page.locator("[data-testid=stAlert]").count()
    finally:
        context.close()
    assert bad == []
