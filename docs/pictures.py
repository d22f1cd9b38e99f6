"""The README's pictures: `python docs/pictures.py http://localhost:8501` takes them anew from a running hospital.

Each is a page's own link, and the element that the picture begins with.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).resolve().parent
ENGLISH, CHINESE = "Doctor, I have a fever.", "医生，我发烧。"
WIDE, HIGH, HOUSE = 1200, 900, 1150  # px; the whole house needs more height
NAVIGATION = 110  # px: what stands over the page's top
# name -> page, link, by night, what stands at the top of the picture (None: the page's own top)
PICTURES = {
    "lobby": ("", {"lang": "en", "s": "明天我们一起去吃炸酱面吧?", "floor": "30"}, False, None),
    "department": ("department", {"lang": "en", "s": ENGLISH, "floor": "30", "token": "6"}, False,
                   ".st-key-plates-department-weights"),
    "heads": ("heads", {"lang": "zh", "s": CHINESE, "floor": "12", "head": "5"}, True, ".st-key-plates-heads-who"),
    "postal": ("postal", {"lang": "en", "s": ENGLISH, "token": "6", "floor": "33", "depth": "maths"}, False,
               ".st-key-plates-postal-lookup"),
    "class": ("round", {"lang": "zh", "s": CHINESE, "floor": "40", "projector": "1"}, True, None),
}  # fmt: skip
COLOURS = 128  # a picture of few colours takes a quarter of the room


def settled(page: Page) -> None:
    """Until everything is drawn."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    page.locator("[data-testid=stSkeleton], [data-stale=true]").first.wait_for(state="detached")
    page.wait_for_timeout(1500)


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    args = parser.parse_args()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=args.chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, (path, link, night, top) in PICTURES.items():
            size = {"width": WIDE, "height": HIGH if path else HOUSE}
            page = chromium.new_page(viewport=size, color_scheme="dark" if night else "light")
            page.goto(f"{args.address}/{path}?{urlencode(link)}")
            page.locator("h1").wait_for()
            settled(page)
            if top:
                page.locator(top).evaluate("e => { e.scrollIntoView({block: 'start'}); }")
                page.locator("[data-testid=stMain]").evaluate("(e, by) => e.scrollBy(0, -by)", NAVIGATION)
                page.wait_for_timeout(500)
            file = HERE / f"{name}.png"
            page.screenshot(path=file)
            page.close()
            Image.open(file).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
            print(file.name, file.stat().st_size)
        chromium.close()


if __name__ == "__main__":
    main()
