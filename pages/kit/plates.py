"""Plates: a page's pictures, declared once as data; assets/plates/plates.js draws and links them and hears clicks.

What an axis is called decides what lights up together: every plate with an axis "room" shows the room under the pointer
in any of them. Values are float32 in base64, little endian. A plate is a dict; the functions below make them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import streamlit as st

from pages.kit import state, words

if TYPE_CHECKING:  # not at run time: torch takes a second, and the first page must stand before it is there
    import torch

    from model import ModelConfig

    Values = torch.Tensor | np.ndarray | Sequence[float]

ASSETS = Path(__file__).resolve().parents[2] / "assets"
LIT, CLOSED = 1, 2  # bits of a mask
CHOOSERS = ("tokens", "stepper")  # plates that are nothing but a control

Plate = dict[str, Any]
Axis = dict[str, Any]


@cache
def address(folder: str) -> str:
    """Where a browser finds the code of assets/<folder>; changes with the code, so that it never keeps an old one."""
    files = sorted(file for one in ("kit", folder) for file in (ASSETS / one).glob("*.*s"))
    version = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    return f"./app/static/{folder}/{folder}.js?v={version}"


def loader(folder: str) -> str:
    """Inline code is sent again whenever the data changes, so only this is inline; the browser keeps the rest."""
    return f"""
const lib = import(new URL("{address(folder)}", document.baseURI).href);
export default function (component) {{
  const ours = {{ ...component, data: JSON.parse(new TextDecoder().decode(component.data)) }};
  const drawn = lib.then((m) => m.render(ours)).catch((error) => {{
    console.error(error);
    component.parentElement.querySelector(".hospital").textContent = ours.data.words.failed;
  }});
  return () => drawn.then((end) => end?.());
}}
"""


def component(folder: str) -> Callable[..., Any]:
    """What assets/<folder>/<folder>.js draws: to be called with `data`, as a component of Streamlit's."""
    drawn = st.components.v2.component(folder, html='<div class="hospital"></div>', js=loader(folder))
    return lambda data, **how: drawn(data=packed(data), **how)


def packed(data: Mapping[str, Any]) -> bytes:
    """As it is sent. A mapping Streamlit would search for tables, which brings pandas in before there is a picture, and
    write out twice more: to send it and to tell it from others."""
    return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)


_component = component("plates")


# -- axes --------------------------------------------------------------------------------------------------------------


def axis(name: str, count: int, labels: Sequence[str] | None = None, offset: int = 0, **more: Any) -> Axis:
    """`offset`: what people call index 0. The words around an index are `plates.axis_<name>`."""
    return {
        "name": name,
        "count": count,
        "labels": list(labels) if labels is not None else None,
        "offset": offset,
        **more,
    }


def floors(c: ModelConfig, *, departments: bool = False) -> Axis:
    """All floors, or only those with experts; people count floors from 1."""
    first = c.first_k_dense_replace if departments else 0
    return axis("floor", c.num_hidden_layers - first, offset=first + 1)


def rooms(c: ModelConfig) -> Axis:
    """The routed experts of one floor, with their corridors."""
    return axis("room", c.n_routed_experts, groups=c.n_group)


def heads(c: ModelConfig) -> Axis:
    """The attention heads of one floor."""
    return axis("head", c.num_attention_heads)


# -- plates ------------------------------------------------------------------------------------------------------------


def bars(
    id: str,
    axis: Axis,
    values: Values,
    *,
    title: str,
    alt: str,
    mask: Values | None = None,
    before: Values | None = None,
    **more: Any,
) -> Plate:
    """One bar for each index. `mask`: LIT and CLOSED bits. `before`: shown as a line across the bar.

    More, here and below: note, width ("full", "half", "third", "two-thirds"), role (a colour's name), digits, percent,
    domain (low, high), level (of its heading; 3), from (what leads here), key ([{role, text, mark}]), lit (what
    LIT means, in words).
    """
    return {
        "id": id,
        "kind": "bars",
        "axes": [axis],
        "title": title,
        "alt": alt,
        "values": _f32(values),
        **({"before": _f32(before)} if before is not None else {}),
        **({"mask": _u8(mask)} if mask is not None else {}),
        **more,
    }


def grid(
    id: str, rows: Axis, columns: Axis, values: Values, *, title: str, alt: str, mask: Values | None = None, **more: Any
) -> Plate:
    """rows x columns; the stronger the more colour, below 0 in grey, NaN left out. More: from_below (row 0 at the
    bottom, as floors stand), cell (a row's height in px), texts (one a cell), roles (a colour's name per row), written
    (the number stands in its cell, or with "texts" its text)."""
    return {
        "id": id,
        "kind": "grid",
        "axes": [rows, columns],
        "title": title,
        "alt": alt,
        "values": _f32(values),
        **({"mask": _u8(mask)} if mask is not None else {}),
        **more,
    }


def grids(
    id: str,
    panels: Axis,
    rows: Axis,
    columns: Axis,
    values: Values,
    *,
    title: str,
    alt: str,
    lower: bool = False,
    cells: int = 48,
    **more: Any,
) -> Plate:
    """Small multiples: a grid for each of `panels`, the chosen one large beside them. `values`: panels x rows x
    columns, none below 0, NaN left out. `lower`: square, and nothing above the diagonal is sent.

    More rows or columns than `cells` are not told apart at this size: a cell is then the largest value of per x per."""
    per = -(-max(rows["count"], columns["count"]) // cells)
    made = np.asarray(values)
    if per > 1:
        padded = np.pad(made, ((0, 0), (0, -rows["count"] % per), (0, -columns["count"] % per)))
        made = padded.reshape(len(padded), padded.shape[1] // per, per, padded.shape[2] // per, per).max((2, 4))
    if lower:
        made = made[:, *np.tril_indices(made.shape[1], m=made.shape[2])]
    return {
        "id": id,
        "kind": "grids",
        "axes": [panels, rows, columns],
        "title": title,
        "alt": alt,
        "values": _f32(made),
        "per": per,
        "lower": lower,
        **more,
    }


def series(
    label: str, values: Values, role: str, low: Values | None = None, high: Values | None = None
) -> dict[str, Any]:
    """One line of `lines`; `low` and `high` are drawn as a band."""
    return {
        "label": label,
        "role": role,
        "values": _f32(values),
        **({"low": _f32(low), "high": _f32(high)} if low is not None and high is not None else {}),
    }


def lines(id: str, axis: Axis, several: Sequence[dict[str, Any]], *, title: str, alt: str, **more: Any) -> Plate:
    """Several `series` over one axis. More: from_zero, log (ten times as much is one step; all values above 0), texts
    (one an index). The key is made from the series' labels."""
    key = [{"role": one["role"], "text": one["label"], "mark": "line"} for one in several]
    return {
        "id": id,
        "kind": "lines",
        "axes": [axis],
        "title": title,
        "alt": alt,
        "series": list(several),
        "key": key,
        **more,
    }


def squares(id: str, labels: Sequence[str], counts: Sequence[int], *, title: str, alt: str, **more: Any) -> Plate:
    """Counts as so many equal squares. More: roles (a colour's name each)."""
    return {
        "id": id,
        "kind": "squares",
        "axes": [axis(id, len(labels), labels)],
        "title": title,
        "alt": alt,
        "values": _f32(counts),
        **more,
    }


def rank(
    id: str,
    labels: Sequence[str],
    values: Sequence[float],
    *,
    title: str,
    before: Sequence[float] | None = None,
    low: Sequence[float] | None = None,
    high: Sequence[float] | None = None,
    axis: Axis | None = None,
    **more: Any,
) -> Plate:
    """A list with a bar each. `axis` with `indices`: what each row stands for, as people count. `before` is beside it,
    in the words `plates.<before_words>` ("before"); `low` and `high` are drawn as a whisker. More: percent, digits,
    hints, domain, roles (a colour's name per row), wrap (long words go on in a second line), dots (in place of bars,
    which begin at 0: on a scale that begins at domain[0])."""
    return {
        "id": id,
        "kind": "rank",
        "title": title,
        "alt": title,
        "labels": list(labels),
        "axes": [axis] if axis else [],
        "values_list": [float(v) for v in values],
        **({"before_list": [float(v) for v in before]} if before is not None else {}),
        **({"low_list": list(map(float, low)), "high_list": list(map(float, high))} if low and high else {}),
        **more,
    }


def table(
    id: str,
    labels: Sequence[str],
    columns: Sequence[Mapping[str, Any]],
    cells: Sequence[Sequence[float | str]],
    *,
    title: str,
    axis: Axis | None = None,
    **more: Any,
) -> Plate:
    """Rows under named columns ({label, digits, percent}), the first column is `labels`. `axis` as in `rank`."""
    return {
        "id": id,
        "kind": "table",
        "title": title,
        "alt": title,
        "labels": list(labels),
        "columns": list(columns),
        "cells": [list(row) for row in cells],
        "axes": [axis] if axis else [],
        **more,
    }


def cards(
    id: str, entries: Sequence[Mapping[str, Any]], *, title: str, axis: Axis | None = None, **more: Any
) -> Plate:
    """Entries to read, one below the other. Each: head; over (a line above it); under (lines below: [{text, lang}]);
    badge ({sign, text, look: solid, dashed, dotted or round, role}); parts ([{label, text, lang, soft}], side by side
    with `pair`; what stands between backticks in a text is code); links to elsewhere ([{text, href}]); door
    ({page, text}, a page of this house); group (a heading before it). `axis` as in `rank`. More: find (words to mark),
    rail (a line along the side, as of time)."""
    return {
        "id": id,
        "kind": "cards",
        "title": title,
        "alt": title,
        "cards": list(entries),
        "axes": [axis] if axis else [],
        **more,
    }


def facts(id: str, rows: Sequence[tuple[str, str] | tuple[str, str, str]], **more: Any) -> Plate:
    """Big numbers: (value, label) or (value, label, note)."""
    return {
        "id": id,
        "kind": "facts",
        "alt": "",
        "axes": [],
        "facts": [{"value": v, "label": label, "note": rest[0] if rest else None} for v, label, *rest in rows],
        **more,
    }


def tokens(pieces: Sequence[Mapping[str, Any]], *, title: str, axis_name: str = "token", **more: Any) -> Plate:
    """The patients as chips; a click follows one. `pieces`: `visit.chips`."""
    return {
        "id": f"tokens_{axis_name}",
        "kind": "tokens",
        "title": title,
        "alt": title,
        "axes": [axis(axis_name, len(pieces), [p["text"] for p in pieces])],
        "tokens": list(pieces),
        **more,
    }


def stepper(axis: Axis, *, title: str, low: int = 0, **more: Any) -> Plate:
    """A slider with a step to either side, for an axis that `mount` may pick. `low`: the first index that may be."""
    return {
        "id": f"step_{axis['name']}",
        "kind": "stepper",
        "title": title,
        "alt": title,
        "axes": [axis],
        "low": low,
        **more,
    }


def _f32(values: Values) -> str:
    return base64.b64encode(np.ascontiguousarray(np.asarray(values), dtype="<f4").tobytes()).decode()


def _u8(values: Values) -> str:
    return base64.b64encode(np.ascontiguousarray(np.asarray(values), dtype=np.uint8).tobytes()).decode()


# -- on the page -------------------------------------------------------------------------------------------------------


def mount(
    page: str,
    plates: Sequence[Plate],
    picked: Mapping[str, int | None],
    on_pick: Callable[[dict[str, int]], None] | None = None,
    picks: Sequence[str] | None = None,
) -> None:
    """Draw them. `picked`: what is chosen on each axis, as people count (floor 4, not index 0); these are also the axes
    that a click may choose on (`picks` narrows that). What is picked goes to `on_pick`, or to the settings of the same
    names. What a teacher locked cannot be picked, and its choosers are not drawn where it is hidden."""
    key = f"plates.{page}"
    open_axes = [n for n in (picks if picks is not None else picked) if not state.locked(n)]
    plates = [p for p in plates if p["kind"] not in CHOOSERS or not state.hidden(p["axes"][0]["name"])]
    if not plates:
        return
    heard_key = f"{key}.heard"

    def heard() -> None:
        pick = (st.session_state.get(key) or {}).get("pick") or {}
        if pick.get("page") != page or type(pick.get("number")) is not int:
            return
        if pick == st.session_state.get(heard_key):
            return  # told again, by pictures that had gone and are back: much may have been chosen meanwhile
        st.session_state[heard_key] = pick
        values = {n: i for n, i in pick.items() if n in picked and type(i) is int and i >= 0 and not state.locked(n)}
        if on_pick and values:
            on_pick(values)
        elif not on_pick:
            for name, value in values.items():
                if name in state.TABLE and value != picked[name]:  # what was only shown has not been chosen
                    state.put(name, value)

    def leave() -> None:
        going = (st.session_state.get(key) or {}).get("go") or {}
        if going.get("from") == page and not state.hidden("pages"):
            st.session_state["plates.go"] = going.get("page")

    _component(
        key=key,
        data={
            "page": page,
            "plates": plates,
            "words": words.group("plates"),
            "lang": words.t("language.html"),
            "picked": {n: i for n, i in picked.items() if i is not None},
            "picks": open_axes,
            "heard": st.session_state.get(heard_key, {}).get("number", 0),
        },
        default={"pick": None, "go": None},
        on_pick_change=heard,
        on_go_change=leave,
    )
    if going := st.session_state.pop("plates.go", None):  # through a door in a list of cards
        from pages.kit import shell  # which needs this module itself

        if (path := f"pages/{going}.py") in [row[0] for row in shell.PAGES]:
            st.switch_page(path)
