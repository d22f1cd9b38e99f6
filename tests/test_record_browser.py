"""The patient's file in Chromium: what is downloaded, the file opened with no network, and pictures saved as PNG."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Locator, Page, expect
from test_journey import AXE, settle

from pages.kit import words

PATIENCE = 60_000
SENTENCE = "明天我们一起去吃炸酱面吧?"
HOSTILE = "</script><img src=http://example.org/x onerror=alert(1)> שלום \u202e evil \u2028"

# What stands in a PNG: its size, how many colours, and the share of pixels that are not the paper.
LOOK = """async (png) => {
  const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height), c = canvas.getContext("2d");
  c.drawImage(bitmap, 0, 0);
  const pixels = new Uint32Array(c.getImageData(0, 0, bitmap.width, bitmap.height).data.buffer), paper = pixels[0];
  const rows = new Set();
  let inked = 0;
  pixels.forEach((pixel, at) => { if (pixel !== paper) { inked += 1; rows.add(Math.floor(at / bitmap.width)); } });
  return { width: bitmap.width, height: bitmap.height, colours: new Set(pixels).size, inked: inked / pixels.length,
    first: Math.min(...rows) / bitmap.height, last: Math.max(...rows) / bitmap.height, paper: paper & 0xffffff };
}"""
DAY, NIGHT = 0xF4F8FA, 0x26170E  # the two papers, as blue, green, red

CANVASES = """() => {
  const roots = [...document.querySelectorAll("[data-mount]")].map((node) => node.shadowRoot);
  return roots.flatMap((root) => [...root.querySelectorAll("canvas")]).filter((canvas) => canvas.clientWidth).map((canvas) => {
    const { width, height } = canvas, pixels = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, width, height).data.buffer);
    return { name: canvas.className, painted: pixels.some(Boolean) };
  });
}"""


@pytest.fixture
def open_page(server, tab) -> Callable[..., Page]:
    """`open_page(name, lang, scheme, **query)`: a page of the house, at rest, with all of its pictures."""

    def visit(name: str, lang: str = "en", scheme: str = "light", width: int = 1400, **query: str) -> Page:
        page = tab(width, scheme=scheme)
        page.goto(f"{server}/{name}?{urlencode({'lang': lang, 's': SENTENCE, **query})}")
        expect(page.locator(".st-key-doors")).to_be_visible(timeout=PATIENCE)
        settle(page)
        return page

    return visit


@pytest.fixture
def read(browser) -> Iterator:
    """`read(file, scheme, width)`: a saved file, opened where there is no network; nothing may be asked for or complain."""
    contexts, bad = [], []

    def visit(file: Path, scheme: str = "light", width: int = 1400) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme, offline=True, accept_downloads=True)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        own = file.as_uri()
        page.on("request", lambda one: None if one.url.startswith((own, "blob:")) else bad.append(f"asked for {one.url}"))
        page.on("console", lambda one: bad.append(f"{one.type}: {one.text}") if one.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: bad.append(str(error)))
        page.on("dialog", lambda dialog: (bad.append("dialog"), dialog.dismiss()))
        page.goto(own)
        expect(page.locator(".house h2")).not_to_be_empty()
        return page

    yield visit
    for context in contexts:
        context.close()
    assert bad == []


def taken(page: Page, key: str, folder: Path, lang: str = "en") -> Path:
    """What a button of the page gives."""
    with page.expect_download(timeout=PATIENCE) as waiting:
        page.get_by_role("button", name=words.say(lang, f"record.take.{key}"), exact=True).click()
    file = folder / waiting.value.suggested_filename
    waiting.value.save_as(file)
    assert file.name.startswith("token-hospital-") and file.name.isascii()
    return file


def saved(page: Page, button: Locator, folder: Path) -> tuple[Path, dict]:
    """The PNG that a button gives, and what stands in it."""
    button.scroll_into_view_if_needed()
    with page.expect_download(timeout=PATIENCE) as waiting:
        button.click()
    file = folder / waiting.value.suggested_filename
    waiting.value.save_as(file)
    content = file.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return file, page.evaluate(LOOK, base64.b64encode(content).decode())


def test_everything_is_downloaded_and_opens(open_page, read, tmp_path):
    page = open_page("record", "zh", token="3", floor="30", change="silence_shared")
    file = taken(page, "file", tmp_path, "zh")
    assert file.suffix == ".html" and file.stat().st_size < 5_000_000
    with zipfile.ZipFile(io.BytesIO(taken(page, "csv", tmp_path, "zh").read_bytes())) as archive:
        about = json.loads(archive.read("about.json"))
        assert "calls.csv" in archive.namelist() and archive.testzip() is None
    assert about["sentence"] == SENTENCE and about["changes"] == {"silence_shared": [29]}
    assert about["link"].startswith("http://127.0.0.1") and "/record" not in about["link"]
    told = json.loads(taken(page, "json", tmp_path, "zh").read_text("utf-8"))
    assert told["columns"]["weight"] == words.say("zh", "record.column.weight"), "in the visitor's language"
    with zipfile.ZipFile(io.BytesIO(taken(page, "parquet", tmp_path, "zh").read_bytes())) as archive:
        assert "calls.parquet" in archive.namelist()
    book = json.loads(taken(page, "notebook", tmp_path, "zh").read_text("utf-8"))
    assert book["nbformat"] == 4

    page = read(file)
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(page.locator("h1")).to_have_text(SENTENCE)
    painted = page.evaluate(CANVASES)
    assert len(painted) > 20 and [one for one in painted if not one["painted"] and one["name"] not in ("pane",)] == []

    # What is pointed at lights up a word beside it, here and in every picture of the page that has the same thing.
    bars = page.locator("#department .draw").first
    bars.scroll_into_view_if_needed()
    box = bars.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5)
    expect(bars.locator(".tip")).to_contain_text("号房")
    bars.focus()
    page.keyboard.press("ArrowRight")
    expect(bars.locator(".tip")).to_be_visible()
    page.keyboard.press("Escape")
    expect(bars.locator(".tip")).to_be_hidden()

    # Another patient is followed, with mouse and keyboard, in all pictures.
    chips = page.locator("[data-mount=who]").get_by_role("radio")
    expect(chips.nth(3)).to_have_attribute("aria-checked", "true")
    before = page.locator("#department .note").first.inner_text()
    chips.nth(5).click()
    expect(chips.nth(5)).to_have_attribute("aria-checked", "true")
    expect(page.locator("#department .note").first).not_to_have_text(before)
    expect(page.locator("#lobby .queue").get_by_role("radio").nth(5)).to_have_attribute("aria-checked", "true")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#lobby .queue").get_by_role("radio").nth(4)).to_have_attribute("aria-checked", "true")
    expect(chips.nth(4)).to_be_focused()

    # The building walks; a room's door stays shut.
    page.locator("#lobby input[type=range]").fill("12")
    expect(page.locator("#lobby .floor h3").first).to_contain_text("12 层")
    with page.expect_download() as waiting:
        page.locator("#round").get_by_role("button", name="CSV").first.click()
    assert Path(waiting.value.path()).read_bytes().startswith(b"\xef\xbb\xbf")
    _, look = saved(page, page.locator("#department").get_by_role("button", name="PNG").first, tmp_path)
    assert look["colours"] > 20 and look["paper"] == DAY


def test_a_hostile_sentence_is_only_text_in_the_file(open_page, read, tmp_path):
    file = taken(open_page("record", s=HOSTILE), "file", tmp_path)
    for scheme, width in (("dark", 390), ("light", 1400)):
        page = read(file, scheme, width)
        expect(page.locator("h1")).to_contain_text("</script><img src=http://example.org/x onerror=alert(1)>")
        assert page.locator("img").count() == 0 and page.locator("script").count() == 2
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate(AXE)
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
        assert [(one["id"], one["nodes"][0]["target"]) for one in found if one["impact"] in ("serious", "critical")] == []
        sky = page.evaluate("document.querySelector('[data-mount=who]').shadowRoot.querySelector('.hospital').dataset.sky")
        assert sky == ("night" if scheme == "dark" else "day")
    page.emulate_media(color_scheme="dark")
    expect(page.locator("[data-mount=who] .hospital")).to_have_attribute("data-sky", "night")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(page.locator("[data-mount=who] .hospital")).to_have_attribute("data-sky", "day")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    expect(page.locator("[data-mount=who] .hospital")).to_have_attribute("data-sky", "night")
    assert len(page.pdf()) > 50_000


@pytest.mark.parametrize("name,lang,scheme,width,paper", [
    ("department", "en", "light", 1400, DAY), ("round", "zh", "dark", 390, NIGHT),
], ids=["day", "night on a phone"])  # fmt: skip
def test_every_picture_of_a_page_can_be_saved(open_page, tmp_path, name, lang, scheme, width, paper):
    page = open_page(name, lang, scheme, width, token="3", floor="30")
    plates = page.locator("section.plate").filter(has=page.get_by_role("button", name="PNG"))
    expect(plates.first).to_be_visible()
    kinds = set()
    for number in range(0, min(plates.count(), 12), 2):
        plate = plates.nth(number)
        kinds.add("canvas" if plate.locator("canvas").count() else "words")
        plate.scroll_into_view_if_needed()
        box = plate.bounding_box()
        file, look = saved(page, plate.get_by_role("button", name="PNG"), tmp_path)
        assert file.suffix == ".png" and look["paper"] == paper
        assert look["width"] == pytest.approx(2 * (box["width"] + 40), abs=4), "twice as fine, with a margin"
        assert look["height"] == pytest.approx(2 * (box["height"] + 70), abs=4)
        assert look["colours"] > 12 and 0.01 < look["inked"] < 0.9
        assert look["first"] < 0.3 and look["last"] > 0.9, "from the title to the line that says where it is from"
    assert kinds == ({"canvas", "words"} if name == "department" else {"canvas"})
    if name == "department":
        assert page.locator("section.plate canvas").first.evaluate("(canvas) => canvas.width === canvas.clientWidth")


def test_the_building_can_be_saved(open_page, tmp_path):
    page = open_page("", floor="40")
    house = page.locator(".house")
    box = house.bounding_box()
    file, look = saved(page, house.get_by_role("button", name=words.say("en", "building.png_of")), tmp_path)
    assert file.name == "building.png" and look["paper"] == DAY and look["colours"] > 50
    assert look["width"] == pytest.approx(2 * (box["width"] + 40), abs=4) and look["height"] < 2 * (box["height"] + 70)
    expect(page.locator(".house .bar")).to_be_visible()
    expect(page.get_by_role("slider")).to_have_value("40")


def test_no_button_where_there_is_nothing_to_save(open_page):
    page = open_page("record", token="3", floor="30")
    assert page.locator(".plate:has(.chips) .take, .plate:has(.stepper) .take").evaluate_all("(all) => all.every((one) => one.hidden)")
    expect(page.locator(".st-key-plates-record-picture").get_by_role("button", name="PNG")).to_be_visible()
