"""The lobby in Chromium: what a person does with mouse and keyboard, and what must never happen."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from pages.kit import words

PATIENCE = 30_000


class Visit:
    """One browser window that remembers everything that must not happen."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url, self.bad = page, url, []
        page.on("request", self._request)
        page.on("response", self._response)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.bad.append(str(error)))
        page.on("dialog", lambda dialog: (self.bad.append("dialog"), dialog.dismiss()))

    def _request(self, request) -> None:
        if not request.url.startswith((self.url, self.url.replace("http", "ws"), "data:", "blob:")):
            self.bad.append(f"outside: {request.url}")

    def _response(self, response) -> None:
        if response.status >= 400 and "/_stcore/" not in response.url:  # a deep link probes its own folder first
            self.bad.append(f"{response.status} {response.url}")

    def _console(self, message) -> None:
        if message.type == "error" and "_stcore" not in str(message.location):
            self.bad.append(message.text)

    def open(self, path: str = "/?lang=en") -> Visit:
        self.page.goto(self.url + path)
        expect(self.page.locator(".hospital h2")).not_to_be_empty(timeout=PATIENCE)
        return self

    def link(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.page.url).query).items()}

    def until_link(self, **wanted: str | None) -> None:
        for _ in range(100):
            if all(self.link().get(name) == value for name, value in wanted.items()):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"{self.link()} is not {wanted}")

    def type(self, sentence: str) -> None:
        box = self.page.locator(".st-key-sentence_box input")
        box.fill(sentence)
        box.press("Enter")

    def chips(self):
        return self.page.get_by_role("radiogroup", name=re.compile("Patients|病人")).get_by_role("radio")

    def floor(self):
        return self.page.get_by_role("slider")


@pytest.fixture
def visit(server, browser) -> Iterator[Visit]:
    context = browser.new_context(locale="en-US", viewport={"width": 1400, "height": 1000})
    visit = Visit(context.new_page(), server)
    yield visit
    context.close()
    assert visit.bad == []


def test_sentence_token_floor_language_and_link(visit):
    v = visit.open()
    v.type("Doctor, I have a fever.")
    expect(v.chips().nth(1)).to_have_text("Doctor")
    expect(v.chips().last).to_have_attribute("aria-checked", "true")
    v.chips().nth(1).click()
    expect(v.chips().nth(1)).to_have_attribute("aria-checked", "true")
    expect(v.page.locator(".hospital h2")).to_have_text("522 experts at work for “Doctor”")
    v.until_link(s="Doctor, I have a fever.", token="1", floor="61")
    v.page.keyboard.press("ArrowRight")  # the keyboard walks along the patients
    expect(v.chips().nth(2)).to_be_focused()
    v.until_link(token="2")

    v.floor().focus()
    for key in ("PageDown", "PageDown", "ArrowDown", "ArrowUp", "ArrowUp"):
        v.page.keyboard.press(key)
    expect(v.floor()).to_have_attribute("aria-valuenow", "42")
    expect(v.page.locator(".floor h3").first).to_have_text("Floor 42 · Department")
    expect(v.page.locator(".rooms tbody tr")).to_have_count(8)
    v.until_link(floor="42", token="2")
    v.page.keyboard.press("ArrowRight")
    expect(v.page.locator(".tip")).to_contain_text("Floor 42, corridor")
    v.page.keyboard.press("Home")
    expect(v.page.locator(".floor h3").first).to_have_text("Floor 1 · Triage desk")
    v.until_link(floor="1")

    v.page.get_by_text("中文", exact=True).first.click()
    expect(v.page.get_by_role("heading", level=1)).to_have_text(words.say("zh", "lobby.title"))
    expect(v.page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(v.page.locator(".floor h3").first).to_have_text("1 层 · 分诊台")
    v.until_link(lang="zh", s="Doctor, I have a fever.", token="2", floor="1")

    address = v.page.url
    v.page.goto("about:blank")
    v.page.goto(address)
    expect(v.page.locator(".floor h3").first).to_have_text("1 层 · 分诊台", timeout=PATIENCE)
    expect(v.chips().nth(2)).to_have_attribute("aria-checked", "true")
    assert v.page.locator(".st-key-sentence_box input").input_value() == "Doctor, I have a fever."
    v.until_link(lang="zh", s="Doctor, I have a fever.", token="2", floor="1")


def test_numbers_beside_the_building_come_from_the_followed_token(visit):
    v = visit.open("/?lang=en&s=Doctor%2C+I+have+a+fever.&floor=30")
    scores = v.page.locator(".rooms tbody tr td:nth-child(3)")
    expect(scores.first).to_have_text(re.compile(r"^0\.\d\d$"))
    v.chips().nth(1).click()
    expect(scores.first).to_have_text(re.compile(r"^0\.\d\d$"))
    expect(v.page.get_by_text("Weights add up to 2.50.")).to_be_visible()
    expect(v.page.locator(".corridor.open")).to_have_count(4)
    expect(v.page.locator(".next li")).to_have_count(5)


def test_mouse_chooses_a_floor_and_reads_a_room(visit):
    v = visit.open("/?lang=en&s=Doctor")
    box = v.page.locator(".hospital canvas").bounding_box()
    v.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(v.page.locator(".tip")).to_contain_text("score 0.")
    v.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    v.until_link(floor=v.floor().get_attribute("aria-valuenow"))
    assert 20 < int(v.link()["floor"]) < 45


def test_the_picture_is_drawn(visit):
    """Pixels of every role's colour: patient, triage desk, nurse, intern."""
    v = visit.open("/?lang=en&s=Doctor")
    found = v.page.evaluate("""() => {
      const roots = [...document.querySelectorAll('*')].map((e) => e.shadowRoot).filter(Boolean);
      const canvas = roots.map((root) => root.querySelector('.hospital canvas')).find(Boolean);
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      const near = (i, c) => c.every((v, k) => Math.abs(data[i + k] - v) < 12);
      const roles = { patient: [230, 159, 0], desk: [240, 198, 110], nurse: [0, 158, 115], intern: [0, 114, 178] };
      return Object.fromEntries(Object.entries(roles).map(([name, c]) => {
        let n = 0;
        for (let i = 0; i < data.length; i += 4) n += near(i, c);
        return [name, n];
      }));
    }""")
    assert all(count > 50 for count in found.values()), found


def test_the_walk(visit):
    v = visit.open("/?lang=en&s=Doctor")
    v.page.get_by_label("Speed").select_option("4")
    v.page.get_by_role("button", name="Walk up").click()
    expect(v.page.get_by_role("button", name="Pause")).to_be_visible()
    v.page.wait_for_timeout(400)
    v.page.get_by_role("button", name="Pause").click()
    floor = int(v.floor().get_attribute("aria-valuenow"))
    assert 1 < floor < 61
    v.until_link(floor=str(floor))
    v.page.get_by_role("button", name="Walk up").click()
    expect(v.page.get_by_role("button", name="Walk again")).to_be_visible(timeout=PATIENCE)
    v.until_link(floor="61")


@pytest.mark.parametrize("odd", [
    "<img src=x onerror=alert(1)><b>bold</b>", "![x](https://example.org/x.png) **bold** [a](javascript:alert(1))",
    "</script><script>alert(1)</script>", "שלום עולם \u202eabc", "👩‍👩‍👧 🏥 发烧",
])  # fmt: skip
def test_text_is_shown_as_text(visit, odd):
    v = visit.open()
    v.type(odd)
    v.until_link(s=odd)
    expect(v.page.locator(".queue")).to_be_visible()
    v.page.wait_for_timeout(300)
    assert v.page.locator(".hospital img, .hospital script, .hospital b:not(:empty)").count() == 0
    assert v.page.locator(".st-key-sentence_box input").input_value() == odd


def test_a_mistake_keeps_the_last_good_picture_and_the_text(visit):
    v = visit.open("/?lang=zh&s=医生")
    v.type("面 " * 400)
    expect(v.page.get_by_role("alert")).to_contain_text("256")
    expect(v.chips().nth(1)).to_have_text("医生")
    assert v.page.locator(".st-key-sentence_box input").input_value() == "面 " * 400
    v.type("   ")
    expect(v.page.get_by_role("alert")).to_contain_text(words.say("zh", "error.empty_text"))
    v.type("发烧")
    expect(v.page.get_by_role("alert")).to_have_count(0)


def test_examples_in_the_other_language(visit):
    v = visit.open()
    v.page.get_by_role("button", name=re.compile("Examples in 中文")).click()
    v.page.get_by_role("button", name="医生，我发烧。").click()
    v.until_link(s="医生，我发烧。", lang="en")
    expect(v.chips().nth(1)).to_have_text("医生")


def test_going_back_brings_the_sentence_back(visit):
    v = visit.open("/?lang=en&s=Doctor")
    v.type("Noodles")
    v.until_link(s="Noodles")
    v.chips().nth(0).click()
    v.until_link(token="0")
    v.page.go_back()
    v.until_link(s="Noodles", token=None)
    expect(v.chips().last).to_have_attribute("aria-checked", "true")
    v.page.go_back()
    expect(v.page.locator(".st-key-sentence_box input")).to_have_value("Doctor", timeout=PATIENCE)


def test_when_the_drawing_cannot_be_loaded_there_is_a_sentence(server, browser):
    context = browser.new_context(locale="en-US")
    page = context.new_page()
    page.route("**/building.js*", lambda route: route.abort())
    page.goto(server)
    expect(page.get_by_text(words.say("en", "building.failed"))).to_be_visible(timeout=PATIENCE)
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_phone_needs_no_sideways_scrolling(server, browser, lang, scheme):
    context = browser.new_context(viewport={"width": 390, "height": 844}, device_scale_factor=2, color_scheme=scheme)
    v = Visit(context.new_page(), server).open(f"/?lang={lang}")
    sky = v.page.locator(".hospital").get_attribute("data-sky")
    wide = v.page.evaluate("document.documentElement.scrollWidth")
    context.close()
    assert v.bad == [] and wide <= 390 and sky == {"light": "day", "dark": "night"}[scheme]


def test_first_visitor_of_a_fresh_server_by_deep_link(serve, clinic_folder, browser):
    context = browser.new_context(locale="en-US")
    v = Visit(context.new_page(), serve(clinic_folder)).open("/?lang=zh&s=医生&token=1&floor=2")
    expect(v.page.get_by_role("heading", level=1)).to_have_text(words.say("zh", "lobby.title"))
    expect(v.page.locator(".floor h3").first).to_have_text("2 层 · 科室")
    assert v.floor().get_attribute("aria-valuemax") == "4"
    context.close()
    assert v.bad == []


def test_without_a_checkpoint_there_is_a_sentence_and_no_traceback(serve, browser, tmp_path):
    context = browser.new_context(locale="zh-CN")
    page = context.new_page()
    page.goto(serve(tmp_path / "nowhere"))
    expect(page.get_by_role("alert")).to_contain_text("检查点", timeout=PATIENCE)
    assert "Traceback" not in page.content() and str(tmp_path) not in page.content()
    context.close()


def test_from_start_to_first_picture(serve, hospital_folder, browser):
    """Under five seconds on two quiet cores; the test allows a busy machine more."""
    began = time.monotonic()
    context = browser.new_context(locale="en-US")
    page = context.new_page()
    page.goto(serve(hospital_folder))
    expect(page.locator(".hospital h2")).not_to_be_empty(timeout=PATIENCE)
    took = time.monotonic() - began
    context.close()
    print(f"first picture after {took:.2f} s")
    assert took < 25
