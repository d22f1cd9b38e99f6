"""In Chromium: the worksheet is fetched from the page and printed, the answers on a sheet of their own; the guide leads
to its pages as it describes them, and can be printed itself."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Callable
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Page, expect
from pypdf import PdfReader

from pages.kit import ask, words
from pages.kit.figures import guide

PATIENCE = 60_000
WIDE = 3  # px that a rounded width may be more than the paper
# What is left between the margins of the sheet, in CSS pixels (96 an inch): 210 mm and 8.5 inches, less 2 × 15 mm.
PAPERS = {"A4": 680, "Letter": 702}


@pytest.fixture
def open_guide(server, tab) -> Callable[..., Page]:
    def opened(lang: str = "en", **query: str) -> Page:
        page = tab(1300)
        page.goto(f"{server}/guide?{urlencode({'lang': lang, **query})}")
        expect(page.get_by_role("heading", level=1)).to_have_text(words.say(lang, "guide.title"), timeout=PATIENCE)
        expect(page.locator(".st-key-sheet_files button")).to_have_count(3, timeout=PATIENCE)
        expect(page.locator("[data-testid=stStatusWidget]")).to_have_count(0, timeout=PATIENCE)
        return page

    return opened


def texts(pdf: bytes) -> list[str]:
    """What stands on each sheet; ligatures and radicals, which fonts put in, as the letters they are."""
    return [unicodedata.normalize("NFKC", page.extract_text()) for page in PdfReader(io.BytesIO(pdf)).pages]


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def fits(page: Page, width: int) -> list[str]:
    """What is wider than the paper."""
    page.emulate_media(media="print")
    page.set_viewport_size({"width": width, "height": 1000})
    return page.evaluate(
        """(most) => [...document.querySelectorAll("body *")].filter((e) => e instanceof HTMLElement || e.tagName === "svg").filter((e) => {
          const box = e.getBoundingClientRect();
          return box.width && (box.right > most || box.left < 0 || (e.scrollWidth > e.clientWidth + 3 && e.clientWidth));
        }).map((e) => `${e.tagName} ${e.textContent.slice(0, 40)}`)""",
        width + WIDE,
    )


@pytest.mark.parametrize("lang,depth,text", [
    ("en", "story", ask.EXAMPLES["en"][0]), ("zh", "maths", ask.EXAMPLES["zh"][0]),
    ("en", "code", "<b>" + "antidisestablishmentarianism" * 4 + "</b>"),
])  # fmt: skip
def test_the_worksheet_prints_with_the_answers_on_a_sheet_of_their_own(open_guide, tmp_path, lang, depth, text):
    page = open_guide(lang, s=text, depth=depth)
    with page.expect_download(timeout=PATIENCE) as download:
        page.get_by_role("button", name=words.say(lang, "guide.sheet.download_both")).click()
    file = tmp_path / "sheet.html"
    download.value.save_as(file)
    sheet = page.context.new_page()
    sheet.goto(file.as_uri())
    for paper, width in PAPERS.items():
        assert fits(sheet, width) == [], paper
        told = texts(sheet.pdf(format=paper))
        first = squeezed(words.say(lang, "worksheet.doc.answers"))
        begins = [i for i, one in enumerate(told) if first in squeezed(one)]
        assert len(begins) == 1 and begins[0] > 0 and squeezed(told[begins[0]]).startswith(first)
        asked = [squeezed(words.say(lang, "worksheet.doc.number", n=n)) for n in range(1, 9)]
        before, after = squeezed("".join(told[: begins[0]])), squeezed("".join(told[begins[0] :]))
        assert all(one in before and one in after for one in asked)
        assert squeezed(words.say(lang, "worksheet.doc.foot"))[-12:] in after, "to the very end"
    sheet.close()


def test_the_guide_leads_to_its_pages_and_prints(open_guide):
    page = open_guide("en", about="triage")
    entry = page.locator("[data-testid=stExpander]")
    expect(entry).to_have_count(1)
    entry.locator("summary", has_text=words.tables()["en"]["guide.triage.ask.1"]).click()
    expect(entry.get_by_text(words.tables()["en"]["guide.triage.answer.1"])).to_be_visible()
    printed = squeezed("".join(texts(page.pdf(format="A4"))))
    with words.speaking("en"):
        wanted, told = guide.link("triage"), [guide.values("triage")]
    for key in ("guide.triage.answer.2", "guide.triage.right.1", "guide.before.time"):
        said = words.tables()["en"][key].replace("**", "").format(**told[0])
        assert squeezed(said)[:60] in printed, f"{key} is printed, though its answer is folded on screen"
    entry.get_by_role("link", name=words.say("en", "guide.go", page=words.say("en", "nav.triage"))).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(words.say("en", "triage.title"), timeout=PATIENCE)
    expect(page.locator(".st-key-doors")).to_be_visible(timeout=PATIENCE)
    page.wait_for_function("() => location.search.includes('floor=')", timeout=PATIENCE)
    assert {name: one[0] for name, one in parse_qs(urlsplit(page.url).query).items()} == wanted
