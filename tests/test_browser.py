"""The lobby in Chromium: what a person does with mouse and keyboard, and what must never happen."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect
from test_journey import settle

from pages.kit import chapter, state, words

PATIENCE = 30_000


class Visit:
    """One page of the browser, on its way through the lobby."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url

    def open(self, path: str = "/?lang=en") -> Visit:
        self.page.goto(self.url + path)
        expect(self.page.locator(".house h2")).not_to_be_empty(timeout=PATIENCE)
        return self

    def link(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.page.url).query).items()}

    def until(self, so: Callable[[], bool]) -> bool:
        for _ in range(PATIENCE // 50):
            if so():
                return True
            self.page.wait_for_timeout(50)
        return False

    def until_link(self, **wanted: str | None) -> None:
        found = self.until(lambda: all(self.link().get(name) == value for name, value in wanted.items()))
        assert found, f"{self.link()} is not {wanted}"

    def type(self, sentence: str) -> None:
        box = self.page.locator(".st-key-sentence_box input")
        box.fill(sentence)
        box.press("Enter")

    def chips(self):
        return self.page.get_by_role("radiogroup", name=re.compile("Patients|病人")).get_by_role("radio")

    def floor(self):
        return self.page.get_by_role("slider")

    def stage(self):
        return self.page.get_by_role("application", name=re.compile("The building|整座医院"))

    def at(self, across: float, floor: int) -> tuple[float, float]:
        """Where on the screen a floor is, so far across the house."""
        box = self.page.locator(".people").bounding_box()
        high = (box["height"] - 30) / int(self.floor().get_attribute("max"))
        return box["x"] + box["width"] * across, box["y"] + box["height"] - 8 - high * (floor - 0.6)


@pytest.fixture
def visit(server, tab) -> Visit:
    return Visit(tab(), server)


def test_sentence_token_floor_language_and_link(visit):
    v = visit.open()
    v.type("Doctor, I have a fever.")
    expect(v.chips().nth(1)).to_have_text("Doctor")
    expect(v.chips().nth(6)).to_have_text("␣fever")
    expect(v.chips().nth(6)).to_have_attribute("aria-checked", "true")
    v.chips().nth(1).click()
    expect(v.chips().nth(1)).to_have_attribute("aria-checked", "true")
    expect(v.page.locator(".house h2")).to_have_text("522 experts at work for “Doctor”")
    v.until_link(s="Doctor, I have a fever.", token="1", floor=None)
    v.page.keyboard.press("ArrowRight")  # the keyboard walks along the patients
    expect(v.chips().nth(2)).to_be_focused()
    v.until_link(token="2")

    v.stage().focus()
    for key in ("PageDown", "PageDown", "ArrowDown", "ArrowUp", "ArrowUp"):
        v.page.keyboard.press(key)
    expect(v.floor()).to_have_value("42")
    expect(v.page.locator(".floor h3").first).to_have_text("Floor 42 · Department")
    expect(v.page.locator(".rooms tbody tr")).to_have_count(8)
    v.until_link(floor="42", token="2")
    v.page.keyboard.press("ArrowRight")
    expect(v.page.locator(".tip").first).to_contain_text("Floor 42, corridor")
    v.page.keyboard.press("Home")
    expect(v.page.locator(".floor h3").first).to_have_text("Floor 1 · Triage desk")
    v.until_link(floor="1")

    v.page.get_by_text("中文", exact=True).first.click()
    expect(v.page.get_by_role("heading", level=1)).to_have_text(words.say("zh", "lobby.title"))
    expect(v.page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(v.page.get_by_test_id("stSkipToContent")).to_have_text(words.say("zh", "skip"))
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


def test_mouse_reads_a_room_chooses_a_floor_and_goes_through_a_door(visit):
    v = visit.open("/?lang=en&s=Doctor")
    v.page.mouse.move(*v.at(0.5, 30))
    expect(v.page.locator(".tip").first).to_contain_text("Floor 30, corridor")
    expect(v.page.locator(".tip").first).to_contain_text("score 0.")
    v.page.mouse.click(*v.at(0.02, 20))  # on the floor's name
    v.until_link(floor="20", room=None)
    expect(v.floor()).to_have_value("20")
    v.page.locator(".pane").hover()
    expect(v.page.locator(".tip").last).to_contain_text("Floor 20, corridor")
    v.page.mouse.click(*v.at(0.5, 30))
    v.until_link(s="Doctor", floor="30", token="1")
    assert 0 <= int(v.link()["room"]) < 256
    expect(v.page.get_by_role("heading", level=1)).to_have_text(words.say("en", "department.title"), timeout=PATIENCE)
    assert urlsplit(v.page.url).path == "/department"
    v.page.go_back()
    expect(v.floor().first).to_have_value("30", timeout=PATIENCE)


def test_a_finger_reads_a_room_and_enters_through_the_enlarged_floor(visit):
    """What it looked at lies over the house only until it goes to another floor."""
    v = visit.open("/?lang=en&s=Doctor")
    tap = """(canvas, [x, y]) => canvas.dispatchEvent(
      new PointerEvent("click", { pointerType: "touch", clientX: x, clientY: y, bubbles: true, composed: true }))"""
    tip, enter = v.page.locator(".tip"), words.say("en", "building.tip_again")
    v.page.locator(".people").evaluate(tap, list(v.at(0.5, 30)))
    expect(tip.first).to_contain_text("Floor 30, corridor")
    expect(tip.first).not_to_contain_text(words.say("en", "building.tip_go"))
    v.floor().press("ArrowLeft")
    v.until_link(floor="29", room=None)
    expect(tip.first).to_be_hidden()
    pane = v.page.locator(".pane")
    box = pane.bounding_box()
    middle = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
    pane.evaluate(tap, middle)
    expect(tip.last).to_contain_text(enter)
    assert "room" not in v.link()
    pane.evaluate(tap, middle)
    assert v.until(lambda: "room" in v.link()) and v.link()["floor"] == "29"


def test_keyboard_alone_goes_through_a_door(visit):
    v = visit.open("/?lang=en&s=Doctor&floor=10")
    box = v.page.locator(".st-key-sentence_box input")
    box.focus()
    for _ in range(40):  # Tab, as often as it takes
        v.page.keyboard.press("Tab")
        if v.page.evaluate("(() => { let e = document.activeElement; while (e?.shadowRoot) e = e.shadowRoot.activeElement; return e?.className })()") == "stage":
            break
    v.page.keyboard.press("ArrowUp")
    v.page.keyboard.press("ArrowRight")
    expect(v.page.locator(".tip").first).to_contain_text("Floor 11, corridor")
    room = re.search(r"room (\d+)", v.page.locator(".tip").first.inner_text())[1]
    v.page.keyboard.press("Enter")
    v.until_link(floor="11", room=room)
    expect(v.page.get_by_role("heading", level=1)).to_have_text(words.say("en", "department.title"), timeout=PATIENCE)


def test_all_patients_at_once(visit):
    v = visit.open("/?lang=en&s=Doctor%2C+I+have+a+fever.&floor=40")
    v.page.get_by_role("radio", name="All of them").click()
    expect(v.page.locator(".house h2")).to_have_text("8 patients at once, 522 experts for each")
    v.until_link(follow="all", floor="40")
    visits = [int(cell.inner_text()) for cell in v.page.locator(".rooms tbody tr td:nth-child(2)").all()]
    assert visits == sorted(visits, reverse=True) and 1 <= visits[-1] <= visits[0] <= 8
    expect(v.page.get_by_text("of 256 rooms are lit here for 8 patients")).to_be_visible()
    v.page.reload()
    expect(v.page.get_by_role("radio", name="All of them")).to_have_attribute("aria-checked", "true", timeout=PATIENCE)
    v.chips().nth(1).click()  # to follow one is to follow one
    expect(v.page.locator(".house h2")).to_have_text("522 experts at work for “Doctor”")
    v.until_link(follow=None, token="1")


def test_a_guess_opens_the_number(visit):
    v = visit.open("/?lang=en&s=Doctor")
    expect(v.page.locator(".tile.touched .number")).to_have_text("?")
    v.page.get_by_role("button", name=words.say("en", "chapter.show_me")).click()
    expect(v.page.locator(".tile.touched .number")).to_have_text(re.compile(r"^\d{3}$"))
    expect(v.page.get_by_text(words.say("en", "lobby.growth.title"))).to_be_visible()


def test_shares_are_written_as_in_sentences(visit):
    """Pictures and words, out of the same number."""
    values = [0, 4e-4, 5.1e-4, 1e-9, -1e-9, -4e-4, -0.5, 0.12345, 0.9994, 0.9996, 0.9999999, 1, -0.9999, 1.2, 1e-15, -1e-15]
    page = visit.open().page
    for lang in ("en", "zh"):
        drawn = page.evaluate(
            "async ([lang, values]) => {"
            " const loaded = performance.getEntriesByType('resource').map((one) => one.name);"
            " const { share } = await import(loaded.find((one) => one.includes('/kit/base.js')));"
            " return values.map((one) => share(one, lang)); }",
            [lang, values],
        )
        assert drawn == [chapter.percent(one) for one in values]
    assert chapter.percent(1e-9) == "<0.1%" and chapter.percent(0.9996) == ">99.9%" != chapter.percent(1.0)


def test_the_picture_is_drawn(visit):
    """Pixels of every role's colour, each on its layer: patient, triage desk, nurse, intern, crowding board."""
    v = visit.open("/?lang=en&s=Doctor")
    found = v.page.evaluate("""() => {
      const roots = [document, ...[...document.querySelectorAll('*')].map((e) => e.shadowRoot).filter(Boolean)];
      const house = roots.find((root) => root.querySelector('.people'));
      const roles = { patient: ['people', 230, 159, 0], desk: ['walls', 240, 198, 110], nurse: ['lights', 0, 158, 115],
        intern: ['lights', 0, 114, 178], crowding: ['strip', 213, 94, 0] };
      return Object.fromEntries(Object.entries(roles).map(([name, [layer, ...c]]) => {
        const canvas = house.querySelector(`canvas.${layer}`);
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        let n = 0;
        for (let i = 0; i < data.length; i += 4) n += data[i + 3] > 0 && c.every((v, k) => Math.abs(data[i + k] - v) < 12);
        return [name, n];
      }));
    }""")
    assert all(count > 20 for count in found.values()), found


def test_the_walk(visit):
    v = visit.open("/?lang=en&s=Doctor")
    v.page.get_by_label("Speed").select_option("4")
    v.page.get_by_role("button", name="Walk up").click()
    expect(v.page.get_by_role("button", name="Pause")).to_be_visible()
    assert v.until(lambda: int(v.floor().input_value()) > 1), "nobody walks"
    v.page.get_by_role("button", name="Pause").click()
    floor = int(v.floor().input_value())
    assert 1 < floor < 61
    v.until_link(floor=str(floor))
    v.page.get_by_role("button", name="One floor down").click()
    expect(v.floor()).to_have_value(str(floor - 1))
    v.floor().fill(str(floor + 1))  # what dragging does
    v.until_link(floor=str(floor + 1))
    v.page.get_by_role("button", name="Walk on").click()
    expect(v.page.get_by_role("button", name="Walk again")).to_be_visible(timeout=PATIENCE)
    v.until_link(floor=None)  # at the top no floor is chosen


@pytest.mark.parametrize("follow", ["one", "all"])
def test_a_frame_of_the_walk_draws_only_what_changed(visit, follow):
    """64 patients: no wall is painted again, and in a frame no more than the floors that were reached in it."""
    visit.page.add_init_script("""
      const drawn = (window.drawn = { walls: 0, lights: 0, frames: 0 });
      const paint = CanvasRenderingContext2D.prototype.fillRect;
      CanvasRenderingContext2D.prototype.fillRect = function (...at) {
        if (this.canvas.className in drawn) drawn[this.canvas.className] += 1;
        return paint.apply(this, at);
      };
    """)
    v = visit.open(f"/?lang=en&follow={follow}&s=" + "Doctor%2C+I+have+a+fever.+" * 9)
    v.page.get_by_label("Speed").select_option("4")
    v.page.get_by_role("button", name="−").or_(v.page.get_by_role("button", name="One floor down")).first.click()
    v.floor().fill("1")
    v.until_link(floor="1")
    settle(v.page)
    before = v.page.evaluate("({ ...drawn })")
    v.page.get_by_role("button", name="Walk up").click()
    expect(v.page.get_by_role("button", name="Walk again")).to_be_visible(timeout=PATIENCE)
    after = v.page.evaluate("({ ...drawn })")
    assert before["walls"] > 1000 and after["walls"] == before["walls"]
    most = 58 * (8 if follow == "one" else 256)  # every floor once at least, and again while it grows bright
    assert 58 * 8 <= after["lights"] - before["lights"] <= 6 * most


ODD = [
    "<img src=x onerror=alert(1)><b>bold</b>", "![x](https://example.org/x.png) **bold** [a](javascript:alert(1))",
    "</script><script>alert(1)</script>", "שלום עולם \u202eabc", "👩‍👩‍👧 🏥 发烧",
]  # fmt: skip


def test_text_is_shown_as_text(visit):
    v = visit.open()
    for odd in ODD:
        before = v.chips().all_inner_texts()
        v.type(odd)
        v.until_link(s=odd)
        assert v.until(lambda before=before: v.chips().all_inner_texts() not in ([], before)), "its patients have not come"
        assert v.page.locator(".hospital img, .hospital script, .hospital b:not(:empty)").count() == 0
        assert v.page.locator("[data-testid=stMain] img, [data-testid=stMarkdownContainer] a[href^=javascript]").count() == 0
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
    v.page.get_by_role("button", name=words.say("en", "chapter.examples")).click()
    v.page.get_by_text("医生，我发烧。", exact=True).click()
    v.until_link(s="医生，我发烧。", lang="en")
    expect(v.chips().nth(1)).to_have_text("医生")


def test_a_paste_that_is_too_long_is_not_dropped_without_a_word(visit):
    v = visit.open("/?lang=en&s=Doctor")
    box = v.page.locator(".st-key-sentence_box input")
    box.fill("x" * 30_000)
    box.press("Enter")
    said = words.say("en", "error.too_many_signs", count=30_000, limit=state.MAX_CHARS)
    expect(v.page.get_by_text(said)).to_be_visible(timeout=PATIENCE)
    expect(box).to_have_value("Doctor")


def test_going_back_brings_the_sentence_back(visit):
    v = visit.open("/?lang=en&s=Doctor")
    before = v.chips().all_inner_texts()
    v.type("Noodles")
    v.until_link(s="Noodles")
    assert v.until(lambda: v.chips().all_inner_texts() not in ([], before)), "its patients have not come"
    v.chips().nth(0).click()
    v.until_link(token="0")
    v.page.go_back()
    v.until_link(s="Noodles", token=None)
    expect(v.chips().last).to_have_attribute("aria-checked", "true")
    v.page.go_back()
    expect(v.page.locator(".st-key-sentence_box input")).to_have_value("Doctor", timeout=PATIENCE)


def test_going_back_brings_the_floor_back_in_any_language(visit):
    v = visit.open("/?lang=en&s=Doctor&token=1&floor=50")
    v.stage().focus()
    for floor in ("40", "30"):
        v.page.keyboard.press("PageDown")
        v.until_link(floor=floor)
    v.page.get_by_text("中文", exact=True).first.click()
    v.until_link(lang="zh", floor="30")
    for lang, floor in (("en", "30"), ("en", "40"), ("en", "50")):
        v.page.go_back()
        v.until_link(lang=lang, floor=floor)
        expect(v.floor()).to_have_value(floor)
        expect(v.page.locator(".floor h3").first).to_have_text(f"Floor {floor} · Department")


def test_steps_of_a_slider_are_one_step_back(visit):
    """By its buttons and by dragging; what is touched in between begins another one. The steps are taken in the page
    itself: between two calls from here a busy machine may rest for longer than a run allows."""
    v = visit.open("/?lang=en&s=Doctor&token=1&floor=50")
    slider, more = v.floor(), v.page.locator(".scrub button").last
    before = v.page.evaluate("history.length")
    more.evaluate("""(more) => {
        for (let i = 0; i < 3; i += 1) more.click();
        const slider = more.parentElement.querySelector("input");
        slider.stepUp();
        slider.dispatchEvent(new Event("input", { bubbles: true, composed: true }));
    }""")
    v.until_link(floor="54")
    assert v.page.evaluate("history.length") == before + 1
    v.chips().nth(0).click()
    v.until_link(token="0", floor="54")
    more.evaluate("(more) => { more.click(); more.click(); }")
    v.until_link(floor="56", token="0")
    assert v.page.evaluate("history.length") == before + 3
    for floor, token in (("54", "0"), ("54", "1"), ("50", "1")):
        v.page.go_back()
        v.until_link(floor=floor, token=token)
        expect(slider).to_have_value(floor)
    v.page.go_forward()
    v.until_link(floor="54", token="1")
    expect(slider).to_have_value("54")


def test_when_the_drawing_cannot_be_loaded_there_is_a_sentence(server, browser):
    context = browser.new_context(locale="en-US")
    page = context.new_page()
    page.route("**/building.js*", lambda route: route.abort())
    page.goto(server)
    expect(page.get_by_text(words.say("en", "building.failed"))).to_be_visible(timeout=PATIENCE)
    context.close()


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_phone_needs_no_sideways_scrolling(server, tab, lang):
    """On a screen of twice as many dots; the sky over the house follows the device at once."""
    v = Visit(tab(390, 844), server)
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": False}
    v.page.context.new_cdp_session(v.page).send("Emulation.setDeviceMetricsOverride", phone)
    v.open(f"/?lang={lang}")
    assert v.page.evaluate("devicePixelRatio") == 2
    for scheme, sky in (("light", "day"), ("dark", "night")):
        v.page.emulate_media(color_scheme=scheme)
        expect(v.page.locator(".hospital").first).to_have_attribute("data-sky", sky)
        assert v.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_code_in_a_list_is_set_as_code(server, tab):
    """Between backticks in the words, and without them on the screen."""
    page = tab(1280, 900)
    page.goto(f"{server}/check?lang=en&depth=code")
    expect(page.locator(".cards code").first).to_have_text("hashlib.sha256", timeout=PATIENCE)
    assert "`" not in "".join(page.locator(".cards p").all_inner_texts())


def test_first_visitor_of_a_fresh_server_by_deep_link(serve, clinic_folder, tab):
    fresh = serve(clinic_folder)
    v = Visit(tab(at=fresh), fresh).open("/?lang=zh&s=医生&token=1&floor=2")
    expect(v.page.get_by_role("heading", level=1)).to_have_text(words.say("zh", "lobby.title"))
    expect(v.page.locator(".floor h3").first).to_have_text("2 层 · 科室")
    assert v.floor().get_attribute("max") == "4"


def test_without_a_checkpoint_there_is_a_sentence_and_no_traceback(serve, browser, tmp_path):
    context = browser.new_context(locale="zh-CN")
    page = context.new_page()
    page.goto(serve(tmp_path / "nowhere"))
    expect(page.get_by_role("alert")).to_contain_text("检查点", timeout=PATIENCE)
    assert "Traceback" not in page.content() and str(tmp_path) not in page.content()
    context.close()
