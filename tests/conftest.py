"""What several tests need: a checkpoint to run with, a server, a browser."""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SHIPPED = ROOT / "assets" / "hospital"


def random_checkpoint(folder: Path, preset: str) -> Path:
    """A checkpoint of untrained numbers: the shape is what these tests look at."""
    import torch

    from model import ModelConfig, checkpoint
    from model.deepseek_v3 import DeepseekV3

    network = DeepseekV3(ModelConfig.preset(preset)).initialise(1)
    dice = torch.Generator().manual_seed(2)
    for router in network.routers():
        router.e_score_correction_bias.normal_(0, 0.02, generator=dice)
    checkpoint.save(network, folder, SHIPPED / "tokenizer.json", fp8=False)
    return folder


@pytest.fixture(scope="session")
def hospital_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped checkpoint, or an untrained one of its shape where none is shipped."""
    if (SHIPPED / "config.json").exists():
        return SHIPPED
    return random_checkpoint(tmp_path_factory.mktemp("hospital"), "hospital")


@pytest.fixture(scope="session")
def clinic_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint of another shape."""
    return random_checkpoint(tmp_path_factory.mktemp("clinic"), "clinic")


@pytest.fixture(autouse=True)
def warm_navigation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """AppTest starts every run as the first of a fresh process; a server leaves that mode after its first visitor."""
    if "cold" in request.keywords:
        return
    from streamlit.runtime.pages_manager import PagesManager

    original = PagesManager.__init__

    def init(self, *args, **kwargs):
        original(self, *args, **kwargs)
        PagesManager.uses_pages_directory = False

    monkeypatch.setattr(PagesManager, "__init__", init)


@pytest.fixture(scope="session", autouse=True)
def packages_are_looked_through_once() -> Iterator[None]:
    """A server looks through the installed packages for components when it starts; AppTest does for every visitor, at
    0.2 s each, and what is installed stays the same while the tests run."""
    from streamlit.components.v2 import manifest_scanner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", functools.cache(manifest_scanner.scan_component_manifests))
        yield


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], str]]:
    """Starts a server of this app for a checkpoint, on a free port; gives its address."""
    running = []

    def start(checkpoint: Path) -> str:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        log = (tmp_path_factory.mktemp("server") / "log").open("w")
        running.append(subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port),
             "--server.address", "127.0.0.1", "--server.headless", "true"],
            cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, "TOKEN_HOSPITAL_CHECKPOINT": str(checkpoint)},
        ))  # fmt: skip
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1)
                break
            except OSError:
                time.sleep(0.05)
        return f"http://127.0.0.1:{port}"

    yield start
    for process in running:
        process.terminate()
    for process in running:
        process.wait(10)


@pytest.fixture(scope="session")
def server(serve: Callable[[Path], str], hospital_folder: Path) -> str:
    """The app's address, running with the hospital."""
    return serve(hospital_folder)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis server of these tests' own, on a free port of this machine, that keeps nothing."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)],
        stdout=(folder / "log").open("w"), stderr=subprocess.STDOUT,
    )  # fmt: skip
    for _ in range(600):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield f"redis://127.0.0.1:{port}/0"
    process.terminate()
    process.wait(10)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On a busy machine Chromium loses a click now and then, and the test of the day is another one each time: such a
    test has one more try, and the summary (-r R) names it. Files with such tests come first: the tests are few and
    long, and a file of them that began last would keep everybody waiting."""
    windows = [item for item in items if "browser" in getattr(item, "fixturenames", ())]
    for item in windows:
        item.add_marker(pytest.mark.flaky(reruns=1))
    long = {item.path for item in windows}
    items.sort(key=lambda item: item.path not in long)


# Debian's Chromium for tests, which draws pages alone; or the whole browser, whose windows nobody sees, at a third more time.
CHROMIUM = [Path("/usr/bin/chromium-headless-shell"), Path("/usr/bin/chromium")]


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """Chromium."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)  # what comes late on a busy machine is not missing
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=next((str(one) for one in CHROMIUM if one.exists()), None),
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
                  "--disable-component-update", "--disable-sync"],
        )  # fmt: skip
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def profile(browser) -> Iterator:
    """One profile of the browser for a file of tests: what a page has fetched and compiled the next one has already."""
    from screens import HEARD

    context = browser.new_context(locale="en-US")
    context.set_default_timeout(90_000)
    context.add_init_script(HEARD)
    yield context
    context.close()


@pytest.fixture
def tab(server, profile) -> Iterator[Callable[..., Any]]:
    """`tab(width, height, scheme, calm)`: an empty page of a visitor's own. At the end nothing that must not happen has
    happened in any of them: no request to elsewhere (than `at`), no error, nothing that the policy had to forbid."""
    pages, bad = [], []

    def response(one: Any) -> None:
        # A deep link probes its own folder first: Streamlit's way to find the server.
        if one.status >= 400 and "/_stcore/" not in one.url:
            bad.append(f"{one.status} {one.url}")

    def console(one: Any) -> None:
        if one.type == "error" and "_stcore" not in str(one.location):
            bad.append(one.text)

    def open_tab(width: int = 1400, height: int = 1000, scheme: str = "light", calm: bool = False, at: str = server) -> Any:
        page, ours = profile.new_page(), (at, at.replace("http", "ws"), "data:", "blob:", "file:")
        pages.append(page)
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce" if calm else "no-preference")
        page.on("request", lambda one: None if one.url.startswith(ours) else bad.append(f"outside: {one.url}"))
        page.on("response", response)
        page.on("console", console)
        page.on("pageerror", lambda error: bad.append(str(error)))
        page.on("dialog", lambda dialog: (bad.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        return page

    yield open_tab
    for page in pages:
        if not page.is_closed():
            bad += page.evaluate("window.heard ?? []")
            page.close()
    assert bad == []
