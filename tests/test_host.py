"""What stands between the network and the pages, and what a host is told to do."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

import pytest
from helpers import apart

from pages.kit import host, words

ROOT = Path(__file__).resolve().parents[1]


async def nothing(scope, receive, send):
    """An app that takes everything that comes, until the window closes."""
    while (await receive())["type"] != "websocket.disconnect":
        pass


class Ends:
    """Both ends of a connection."""

    def __init__(self, *messages: dict) -> None:
        self.messages, self.sent = list(messages), []

    async def receive(self) -> dict:
        return self.messages.pop(0) if self.messages else {"type": "websocket.disconnect"}

    async def send(self, message: dict) -> None:
        self.sent.append(message)


CLICK = {"type": "websocket.receive", "bytes": b"x"}
WINDOW = {"type": "websocket", "path": "/_stcore/stream", "headers": []}


def page(accept: bytes = b"text/html", method: str = "GET", path: str = "/") -> dict:
    return {"type": "http", "method": method, "path": path, "headers": [(b"accept", accept)]}


def test_a_window_more_than_there_is_room_for():
    bounds = host.Bounds(nothing, most=1)

    async def visit() -> tuple[Ends, Ends, Ends, Ends]:
        first, second, third, probe = Ends(), Ends(), Ends(), Ends()
        inside = asyncio.Event()

        async def stays(scope, receive, send):
            await inside.wait()

        bounds.app = stays
        one = asyncio.create_task(bounds(WINDOW, first.receive, first.send))
        await asyncio.sleep(0)
        await bounds(WINDOW, second.receive, second.send)
        await bounds(page(), third.receive, third.send)
        inside.set()
        await one
        await bounds(page(b"application/json"), probe.receive, probe.send)
        return first, second, third, probe

    first, second, third, probe = apart(visit())
    assert first.sent == [] and probe.sent == [] and bounds.open == 0
    assert [m["type"] for m in second.sent] == ["websocket.close"]
    assert third.sent[0]["status"] == 503
    body = b"".join(m.get("body", b"") for m in third.sent).decode()
    assert all(words.say(lang, "host.full") in body for lang in words.languages())


def test_the_place_is_free_again_however_a_visit_ends():
    async def breaks(scope, receive, send):
        raise RuntimeError

    bounds = host.Bounds(breaks, most=1)
    for _ in range(3):
        with pytest.raises(RuntimeError):
            apart(bounds(WINDOW, Ends().receive, Ends().send))
    assert bounds.open == 0


def test_whoever_clicks_faster_than_anybody_can_waits():
    async def take(count: int) -> float:
        receive, start = host.paced(Ends(*[CLICK] * count).receive, pace=100.0, burst=10.0), time.monotonic()
        for _ in range(count):
            assert (await receive())["type"] == "websocket.receive"
        return time.monotonic() - start

    assert apart(take(10)) < 0.05
    assert apart(take(40)) > 0.25, "the thirty beyond the first ten come at their pace, and none is lost"


def test_files_that_lie_about_are_few(monkeypatch):
    from streamlit.runtime import Runtime

    class File:
        def __init__(self, size: int) -> None:
            self.data = b"x" * size

    kept = {"me": {"a": File(10)}, "you": {"b": File(5)}}

    class House:
        uploaded_file_mgr = type("Kept", (), {"file_storage": kept})

    monkeypatch.setattr(Runtime, "exists", lambda: True)
    monkeypatch.setattr(Runtime, "instance", lambda: House)
    monkeypatch.setattr(host, "MOST_KEPT", 8)

    def put(who: str) -> list[dict]:
        ends = Ends()

        async def fine(scope, receive, send):
            await send({"type": "http.response.start", "status": 204})

        apart(host.Bounds(fine)(page(method="PUT", path=f"/_stcore/upload_file/{who}/c"), ends.receive, ends.send))
        return ends.sent

    assert put("you")[0]["status"] == 204 and put("me")[0]["status"] == 429
    monkeypatch.setattr(host, "MOST_KEPT_BY_ALL", 15)
    assert put("you")[0]["status"] == 429


def test_a_file_made_for_a_browser_is_there_until_it_was_fetched(monkeypatch):
    """Runs of anybody end meanwhile, and each of them throws away what belongs to no visit."""
    from streamlit.runtime.media_file_manager import MediaFileManager
    from streamlit.runtime.media_file_storage import MediaFileStorageError
    from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage

    for name in ("execute_deferred", "_get_inactive_file_ids"):
        monkeypatch.setattr(MediaFileManager, name, getattr(MediaFileManager, name))
    host.keep_downloads()
    host.keep_downloads()  # a second time changes nothing
    now = time.monotonic()
    monkeypatch.setattr(host.time, "monotonic", lambda: now)
    store = MemoryMediaFileStorage("/media")
    files = MediaFileManager(store)
    address = files.execute_deferred(files.add_deferred(lambda: "a worksheet", "text/html", "1.0", "sheet.html"))
    made = Path(address).stem
    for _ in range(5):
        files.remove_orphaned_files()
    assert store.get_file(made).content == b"a worksheet"
    now += host.FETCHED + 1
    for _ in range(2):
        files.remove_orphaned_files()
    with pytest.raises(MediaFileStorageError):
        store.get_file(made)


def test_files_made_for_browsers_do_not_fill_the_memory(monkeypatch):
    from streamlit.runtime.media_file_manager import MediaFileManager
    from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage

    for name in ("execute_deferred", "_get_inactive_file_ids"):
        monkeypatch.setattr(MediaFileManager, name, getattr(MediaFileManager, name))
    monkeypatch.setattr(host, "MOST_UNFETCHED", 250)
    host.keep_downloads()
    store = MemoryMediaFileStorage("/media")
    files = MediaFileManager(store)
    for i in range(5):
        files.execute_deferred(files.add_deferred(lambda i=i: bytes([i]) * 100, "text/csv", "1.0", "a.csv"))
    for _ in range(3):
        files.remove_orphaned_files()
    assert sorted(file.content[0] for file in store._files_by_id.values()) == [3, 4], "the newest that have room"


def test_the_door_brings_in_little():
    """`streamlit run` imports app.py before it listens: neither torch nor a page belongs there."""
    source = "import app, sys; print(sorted({'torch', 'pandas', 'pages.kit.shell', 'pages.kit.words'} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


def test_the_door_sets_streamlit_up():
    source = """
import app
from streamlit import config
from streamlit.runtime.media_file_manager import MediaFileManager
one = config.get_options_for_section("theme")
print(config.get_options_for_section("theme") is one, hasattr(MediaFileManager.execute_deferred, "__wrapped__"))
"""
    said = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "True True"


# -- what a host is told -----------------------------------------------------------------------------------------------

CONTAINER = (ROOT / "Containerfile").read_text("utf-8")
README, HOSTING = (ROOT / "README.md").read_text("utf-8"), (ROOT / "docs" / "HOSTING.md").read_text("utf-8")
NOT_IN_THE_IMAGE = {"tests", "docs", "runs", "pyproject.toml", "requirements-dev.txt", "Containerfile", "ARCHITECTURE.md", "CHANGELOG.md",
                    "CONTRIBUTING.md", ".git", ".gitignore", ".dockerignore", ".ci", ".github"}  # fmt: skip


def let_in() -> list[str]:
    lines = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    return [line[1:] for line in lines if line.startswith("!")]


def test_what_the_image_copies_is_there_and_is_all_that_running_needs():
    for name in let_in():
        assert (ROOT / name).exists(), name
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    top = {name.split("/")[0] for name in tracked}
    assert top - set(let_in()) - NOT_IN_THE_IMAGE == set(), "is it needed for running? say so in .dockerignore or here"
    copied = re.findall(r"^COPY (\S+) \S+$", CONTAINER, re.MULTILINE)
    assert copied == ["requirements.txt", "."]
    assert not any(fnmatch(name, "*.safetensors") for name in NOT_IN_THE_IMAGE)


def test_the_image_runs_what_the_readme_says():
    command = re.search(r"^CMD \[(.*)\]$", CONTAINER, re.MULTILINE).group(1).replace('"', "").split(", ")
    assert command[:3] == ["streamlit", "run", "app.py"] and "streamlit run app.py" in README
    assert "pip install -r requirements.txt" in README
    assert "pip install --no-cache-dir -r requirements.txt" in CONTAINER
    assert re.search(r"^USER (?!root)", CONTAINER, re.MULTILINE) and "/_stcore/health" in CONTAINER
    python = re.search(r"^FROM python:(3\.\d+)-slim$", CONTAINER, re.MULTILINE).group(1)
    assert tuple(map(int, python.split("."))) >= (3, 11)
    for line in re.findall(r"^# (docker (?:build|run) .*?)(?:\s{3,}.*)?$", CONTAINER, re.MULTILINE):
        assert line in HOSTING, line


def test_the_image_takes_the_torch_that_was_tested():
    found = subprocess.run(["sed", "-n", r"s/^\(torch==[0-9.]*\).*/\1+cpu/p", "requirements.txt"], cwd=ROOT, capture_output=True, text=True).stdout
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+\+cpu\n", found)
    assert r"sed -n 's/^\(torch==[0-9.]*\).*/\1+cpu/p' requirements.txt" in CONTAINER


@pytest.mark.parametrize("name", ["HOSTING.md", "SECURITY.md"])
def test_what_is_linked_exists(name):
    assert f"docs/{name}" in README
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "docs" / name).read_text("utf-8")):
        assert (ROOT / "docs" / target).exists(), target


def test_commands_of_the_docs_exist():
    from load import SCENARIOS

    for line in re.findall(r"python tests/load\.py ?(.*)", HOSTING + README):
        for name in re.findall(r"^[a-z ]+", line.split("`")[0]):
            assert set(name.split()) <= set(SCENARIOS), line
