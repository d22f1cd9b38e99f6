"""A link as a QR code: to scan from a screen, and large for a projector. assets/qr/qr.js draws it."""

from __future__ import annotations

from typing import NamedTuple

import segno
from segno.encoder import DataOverflowError

from pages.kit import words
from pages.kit.plates import component

QUIET = 4
"""Modules of light border that ISO/IEC 18004 asks for on every side."""

_component = component("qr")


class Code(NamedTuple):
    """A code as a picture."""

    size: int  # modules along a side, the quiet zone included
    path: str  # of an SVG: its dark modules, one unit each
    version: int  # 1 to 40; the higher, the finer


def code(text: str) -> Code | None:
    """`text` as a QR code, with as much error correction as fits into the smallest one; None if it is too long for any
    (more than 2,953 bytes)."""
    try:
        made = segno.make_qr(text, error="l", mode="byte", encoding="utf-8")
    except DataOverflowError:
        return None
    rows = [bytes(row) for row in made.matrix_iter(border=QUIET)]
    path = "".join(f"M{x} {y}h{n}v1h-{n}z" for y, row in enumerate(rows) for x, n in _dark(row))
    return Code(len(rows), path, int(made.version))


def _dark(row: bytes) -> list[tuple[int, int]]:
    """(start, length) of each run of dark modules."""
    found, at = [], 0
    while (start := row.find(1, at)) >= 0:
        end = row.find(0, start)
        at = len(row) if end < 0 else end
        found.append((start, at - start))
    return found


def mount(drawn: Code, link: str, about: str, key: str = "qr", sign: str = "") -> None:
    """Draw it, with a button that fills the screen with it. `about`: what it is, for who cannot see it. `sign`: what
    stands above it there in large type, for who types instead of scanning."""
    _component(
        key=key,
        data={
            "size": drawn.size,
            "path": drawn.path,
            "link": link,
            "about": about,
            "sign": sign,
            "words": words.group("qr"),
            "lang": words.t("language.html"),
        },
    )
