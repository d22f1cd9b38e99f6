"""What a browser makes of the building, and how soon it shows it: `python tests/bench_frames.py [--json]`.

    first   from `streamlit run` until the lobby's picture stands, for the first visitor of a new process
    frames  72 tokens walk up at once, 6 s in Chromium without a graphics card    60 frames a second

The server and the browser share this machine's cores. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any
from urllib.parse import urlencode

from conftest import CHROMIUM
from load import server
from playwright.sync_api import Page, sync_playwright

SENTENCE = "Doctor, I have a fever. " * 9
SECONDS = 6
LATE = 20.0  # milliseconds between two frames, after which a screen of 60 Hz has shown one of them twice
FRAMES = """(seconds) => new Promise((done) => {
  const times = [], began = performance.now();
  let before;
  requestAnimationFrame(function next(now) {
    if (before) times.push(now - before);
    before = now;
    if (now - began < seconds * 1000) requestAnimationFrame(next); else done(times);
  });
})"""


def first(page: Page, url: str, began: float) -> dict[str, Any]:
    """Seconds from `began` until the first picture of a new process stands."""
    page.goto(f"{url}/?lang=en")
    page.locator(".hospital canvas").first.wait_for(timeout=60_000)
    return {"seconds": time.monotonic() - began}


def frames(page: Page, url: str) -> dict[str, Any]:
    """Milliseconds between two frames while all patients walk up."""
    page.goto(f"{url}/?{urlencode({'lang': 'en', 'follow': 'all', 's': SENTENCE.strip()})}")
    page.get_by_role("button", name="Walk up").click(timeout=60_000)
    page.get_by_role("button", name="Pause").wait_for()
    times = page.evaluate(FRAMES, SECONDS)
    if not page.get_by_role("button", name="Pause").is_visible():
        raise SystemExit("The walk ended before the time was over.")
    return {
        "tokens": page.get_by_role("radiogroup", name="Patients").get_by_role("radio").count(), "frames": len(times),
        "median_ms": statistics.median(times), "p95_ms": statistics.quantiles(times, n=20)[-1],
        "late": sum(one > LATE for one in times),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    with sync_playwright() as playwright:
        path = next((str(one) for one in CHROMIUM if one.exists()), None)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        began = time.monotonic()
        with server() as (url, _):
            found = {"first": first(page, url, began), "frames": frames(page, url)}
        browser.close()
    if asked.json:
        print(json.dumps(found))
    else:
        print(f"first: {found['first']['seconds']:.1f} s")
        print("frames: {tokens} patients, {frames} in {s} s, median {median_ms:.1f} ms, 95 % {p95_ms:.1f} ms, {late} later than {at:.0f} ms"
              .format(**found["frames"], s=SECONDS, at=LATE))  # fmt: skip


if __name__ == "__main__":
    main()
