"""What stands between the network and the pages: headers that keep a browser from fetching elsewhere, and bounds that
keep one visitor from taking the house from the others.

`streamlit run app.py` finds the app that is built of this. Where a host runs the script by itself instead, the pages
are the same and this is missing. Nothing of the pages is imported here before a first visitor comes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ctypes
import functools
import hashlib
import html
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import streamlit
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGI = Callable[[Message, Receive, Send], Awaitable[None]]

MOST_VISITORS = 400  # windows that are open at the same time
PACE, BURST = 20.0, 60.0  # messages a second that are taken from one window, and so many at once before that counts
MOST_KEPT = 4 * 2**20  # bytes of files that one visitor may have sent and not taken back
MOST_KEPT_BY_ALL = 64 * 2**20
M_ARENA_MAX, M_MMAP_THRESHOLD = -8, -3  # malloc.h
LARGE = 2**20  # bytes of a block that is given back to the system as soon as it is free
FETCHED = 60.0  # seconds within which a browser has fetched a file that was made for it
MOST_UNFETCHED = 64 * 2**20  # bytes of such files that are kept so long; of more the oldest go when Streamlit will
FRAMES = "TOKEN_HOSPITAL_FRAMES"  # whose pages may show this one inside of theirs: addresses with spaces


def few_arenas() -> None:
    """Have the C library take memory from two places: every thread that runs a page would get one of its own, and none
    gives back what a trace left there."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            library = ctypes.CDLL(None)
            library.mallopt(M_ARENA_MAX, 2)
            library.mallopt(M_MMAP_THRESHOLD, LARGE)


def keep_downloads() -> None:
    """Keep a file that is made when its button is pressed until the browser has had time to fetch it. It belongs to no
    visit, and Streamlit deletes what belongs to none with the second run that ends after it, anybody's: in a class,
    whose screens ask every other second, that is often before the browser has asked for it."""
    from streamlit.runtime.media_file_manager import MediaFileManager as Files

    if hasattr(Files.execute_deferred, "__wrapped__"):
        return
    made: dict[str, tuple[float, int]] = {}  # oldest first: when, and how many bytes
    make, unused = Files.execute_deferred, Files._get_inactive_file_ids

    @functools.wraps(make)
    def execute_deferred(self: Files, file_id: str) -> str:
        address = make(self, file_id)
        name = Path(address).stem
        made[name] = time.monotonic(), len(self._storage.get_file(name).content)
        return address

    @functools.wraps(unused)
    def _get_inactive_file_ids(self: Files) -> set[str]:
        now, kept = time.monotonic(), 0
        for name, (at, size) in reversed(list(made.items())):
            kept += size
            if at < now - FETCHED or kept > MOST_UNFETCHED:
                made.pop(name, None)
        return unused(self) - set(made)

    Files.execute_deferred, Files._get_inactive_file_ids = execute_deferred, _get_inactive_file_ids


def settings_once() -> None:
    """Read Streamlit's settings once, section by section: it does so six times in every run of a page, two thousand
    look-ups for a theme that never changes while it serves."""
    from streamlit import config

    config.get_options_for_section = functools.cache(config.get_options_for_section)


# -- headers -----------------------------------------------------------------------------------------------------------


@functools.cache
def _inline_scripts() -> str:
    """The scripts that stand in Streamlit's own page, by what they are."""
    page = (Path(streamlit.__file__).parent / "static" / "index.html").read_text("utf-8")
    inside = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in inside]
    return " ".join(f"'sha256-{one}'" for one in digests)


def policy(host: str) -> str:
    """The content security policy for a page that was asked for at `host`.

    Scripts come from here, or are Streamlit's own ("blob:" is how it starts a component's few lines, and its numbers of
    64 bits are WebAssembly); styles are made by its scripts. Old Safari does not count a websocket among what is
    'self', so it is named.
    """
    if not re.fullmatch(r"[A-Za-z0-9.\-]+(:\d{1,5})?|\[[0-9a-fA-F:]+\](:\d{1,5})?", host):
        host = ""
    sockets = f" ws://{host} wss://{host}" if host else ""
    frames = re.sub(r"[;,\n\r]", "", os.environ.get(FRAMES, ""))
    rules = {
        "default-src": "'self'",
        "script-src": f"'self' blob: 'wasm-unsafe-eval' {_inline_scripts()}",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "media-src": "'self' data: blob:",
        "connect-src": f"'self' data: blob:{sockets}",
        "worker-src": "'self' blob:",
        "frame-src": "'self' blob: data:",
        "object-src": "'none'",
        "base-uri": "'self'",
        "form-action": "'self'",
        "frame-ancestors": f"'self' {frames}".strip(),
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


class Headers:
    """Adds to every answer what a browser may do with it."""

    def __init__(self, app: ASGI) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        more = {
            "content-security-policy": policy(host),
            "x-content-type-options": "nosniff",
            "referrer-policy": "same-origin",  # the sentence stands in the address
            "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
        }

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                others = [one for one in message.get("headers", []) if one[0].decode().lower() not in more]
                message["headers"] = [*others, *((name.encode(), value.encode()) for name, value in more.items())]
            await send(message)

        await self.app(scope, receive, told)


# -- bounds ------------------------------------------------------------------------------------------------------------


class Bounds:
    """A window more than the house holds is told so; one that sends more than anybody can click waits; files that lie
    about are few."""

    def __init__(self, app: ASGI, most: int = MOST_VISITORS) -> None:
        self.app, self.most, self.open = app, most, 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            return await self._window(scope, receive, send)
        if scope["type"] == "http":
            accepts = dict(scope["headers"]).get(b"accept", b"")
            if self.open >= self.most and scope["method"] == "GET" and b"text/html" in accepts:
                return await _said("host.full", 503)(scope, receive, send)
            if scope["method"] == "PUT" and "/_stcore/upload_file/" in scope["path"] and _too_many_files(scope["path"]):
                return await _said("host.files", 429)(scope, receive, send)
        await self.app(scope, receive, send)

    async def _window(self, scope: Message, receive: Receive, send: Send) -> None:
        if self.open >= self.most:
            return await send({"type": "websocket.close", "code": 1013})  # "try again later"
        self.open += 1
        try:
            await self.app(scope, paced(receive), send)
        finally:
            self.open -= 1


def paced(receive: Receive, pace: float = PACE, burst: float = BURST) -> Receive:
    """`receive`, which takes its time when messages come too fast; what is sent meanwhile waits in the network."""
    left, last = burst, time.monotonic()

    async def one() -> Message:
        nonlocal left, last
        message = await receive()
        if message["type"] == "websocket.receive":
            now = time.monotonic()
            left, last = min(burst, left + (now - last) * pace) - 1, now
            if left < 0:
                await asyncio.sleep(-left / pace)
        return message

    return one


def _too_many_files(path: str) -> bool:
    """Whether the visitor who sends this one, or all of them, have sent too much that still lies here."""
    from streamlit.runtime import Runtime

    if not Runtime.exists():
        return False
    kept: dict[str, dict[str, Any]] = getattr(Runtime.instance().uploaded_file_mgr, "file_storage", {})
    bytes_of = {who: sum(len(one.data) for one in list(files.values())) for who, files in list(kept.items())}
    who = path.rstrip("/").split("/")[-2]
    return bytes_of.get(who, 0) >= MOST_KEPT or sum(bytes_of.values()) >= MOST_KEPT_BY_ALL


def _said(key: str, status: int) -> HTMLResponse:
    """A page of one sentence, in every language: before a visit begins nobody knows which."""
    from pages.kit import words

    said = "".join(f"<p lang={lang}>{html.escape(words.say(lang, key))}</p>" for lang in words.languages())
    page = f"<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'><body>{said}"
    return HTMLResponse(page, status, {"retry-after": "30", "cache-control": "no-store"})


MIDDLEWARE = [Middleware(Headers), Middleware(Bounds)]
