"""Buildings side by side at one scale: what architectures become for assets/scale/scale.js, which draws them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model.architectures import Architecture, storeys
from pages.kit import words
from pages.kit.plates import component

_component = component("scale")

Building = dict[str, Any]


def building(a: Architecture, name: str, lines: Sequence[str], alt: str) -> Building:
    """One of them. `lines`: what stands below it."""
    return {
        "name": name,
        "lines": list(lines),
        "alt": alt,
        "storeys": [
            {
                "first": storey.first,
                "floors": storey.floors,
                "rooms": [
                    {"place": room.place, "size": room.size, "there": room.there, "working": room.working}
                    for room in storey.rooms
                ],
            }
            for storey in storeys(a)
        ],
    }


def mount(key: str, buildings: Sequence[Building], note: str, told: bool = True) -> None:
    """Draw them. `told`: whether the visitor may know already what works for one token."""
    _component(
        key=f"scale.{key}",
        data={
            "buildings": list(buildings), "note": note, "told": told, "words": words.group("scale"),
            "lang": words.t("language.html"),
        },
    )  # fmt: skip
