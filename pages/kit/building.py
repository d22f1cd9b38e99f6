"""The building: what a trace and a followed token become for the browser component that draws them."""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from pages.kit import state, words
from pages.kit.plates import component

if TYPE_CHECKING:  # not at run time: see plates.py
    import torch

    from model import Trace
    from model.tokenizer import Piece, Tokenizer

_component = component("building")


# -- words of the text that a token stands for -----------------------------------------------------------------------


def shown(piece: Piece) -> str:
    """What a token is called on screen. The label of a part of a character keeps its spaces."""
    return " ".join(visible(part) for part in piece.text.split(" ")) if piece.is_partial else visible(piece.text)


def visible(text: str) -> str:
    """Text with everything that cannot be seen, or that would disturb its neighbours, made visible."""
    if text == _JOINER:
        return "U+200D"
    shown = "".join(_visible(char) for char in text)
    return "◌" + shown if text and unicodedata.category(text[0]) in ("Mn", "Me") else shown


@lru_cache(4096)
def _visible(char: str) -> str:
    if char in _SIGNS:
        return _SIGNS[char]
    kind = unicodedata.category(char)
    if kind == "Cc":
        return chr(0x2400 + ord(char)) if ord(char) < 32 else "␡" if char == "\x7f" else f"U+{ord(char):04X}"
    return f"U+{ord(char):04X}" if kind in ("Cf", "Cn", "Co", "Zl", "Zp") and char != _JOINER else char


LETTERS = 26  # of the alphabet
_JOINER = "\u200d"  # holds emoji together, invisible
_SIGNS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\u3000": "␣", "\u00a0": "␣"}


def letter(corridor: int) -> str:
    """What a corridor is called, here and in base.js: A, B, C, and where the alphabet ends its number."""
    return chr(ord("A") + corridor) if corridor < LETTERS else str(corridor + 1)


def apart(names: Sequence[str]) -> list[str]:
    """The names of a list, those that look alike (\uff1f and ?) with their code points behind them."""
    looks = [unicodedata.normalize("NFKC", name) for name in names]
    alike = Counter(looks)
    return [
        f"{name} ({' '.join(f'U+{ord(char):04X}' for char in name)})" if alike[look] > 1 else name
        for name, look in zip(names, looks, strict=True)
    ]


def pieces(tokenizer: Tokenizer, ids: tuple[int, ...]) -> list[dict[str, Any]]:
    """What every token is called on screen."""
    return [
        {"text": shown(p), "partial": p.is_partial, "special": p.is_special} for p in tokenizer.pieces(ids)
    ]  # fmt: skip


# -- from a trace to data --------------------------------------------------------------------------------------------


def data(
    trace: Trace, tokenizer: Tokenizer, token: int, floor: int, *, follow: str = "one", told: bool = True,
    likely: int = 5,
) -> dict[str, Any]:
    """Everything that the component draws: the rooms of all tokens, and every score of the followed one.

    `told`: whether the visitor may know already how many interns the sentence woke. Arrays are base64, little endian.
    Rooms are compact: about 1.3 kB a token for 58 departments with 8 lit rooms.
    """  # fmt: skip
    from model import costs

    c = trace.config
    chosen = trace.chosen.transpose(0, 1).numpy()  # (T, M, k)
    weights = trace.weights.transpose(0, 1).numpy()
    kept = np.zeros((*chosen.shape[:2], c.n_group), dtype=bool)  # (T, M, G)
    np.put_along_axis(kept, trace.kept_groups.transpose(0, 1).numpy(), True, axis=2)
    brightest = float(weights.max(initial=0.0)) or 1.0
    return {
        "id": hashlib.sha256(repr(trace.ids).encode() + chosen.tobytes()).hexdigest()[:16],
        "token": token,
        "floor": floor,
        "follow": follow,
        "shape": {
            "floors": c.num_hidden_layers, "dense": c.first_k_dense_replace, "rooms": c.n_routed_experts,
            "corridors": c.n_group, "open": c.topk_group, "chosen": chosen.shape[2], "nurses": c.n_shared_experts,
            "sum": c.routed_scaling_factor,
        },  # fmt: skip
        "tokens": pieces(tokenizer, trace.ids),
        "chosen": _base64(chosen, np.uint8 if c.n_routed_experts <= 256 else np.uint16),
        "wide": c.n_routed_experts > 256,
        "weights": _base64((weights / brightest * 255).round(), np.uint8),
        "brightest": brightest,
        "kept": _base64(np.packbits(kept, axis=2, bitorder="little"), np.uint8),
        "counts": {
            "per_token": trace.experts_per_token,
            "touched": trace.experts_touched if told else None,
            "experts": c.num_moe_layers * c.n_routed_experts,
            "weights_touched": int(trace.weights_touched) if told else None,
            "weights_total": int(trace.weights_total),
            "cached": c.cache_numbers_per_token,
            "uncached": costs.full_cache_numbers_per_token(c),
        },
        "detail": detail(trace, tokenizer, token, likely),
    }


def detail(trace: Trace, tokenizer: Tokenizer, token: int, likely: int = 5) -> dict[str, Any]:
    """What only the followed token's scores say."""
    scores, choice = trace.scores[:, token].numpy(), trace.choice_of(token).numpy()  # (M, E)
    bias = np.where(np.isfinite(choice), choice - scores, np.float32(0))
    low, high = float(bias.min(initial=0.0)), float(bias.max(initial=0.0))
    candidates = trace.top(token, likely)
    likeliest = [tokenizer.pieces([candidate.id])[0] for candidate in candidates]
    return {
        "token": token,
        "scores": _base64((scores.clip(0, 1) * 65535).round(), np.uint16),
        "bias": _base64((bias - low) / ((high - low) or 1.0) * 65535, np.uint16),
        "bias_range": [low, high],
        "weights": _rounded(trace.weights[:, token]),
        "corridors": _rounded(trace.group_scores[:, token]),
        "next": [
            {"text": name, "special": p.is_special, "probability": float(candidate.probability)}
            for name, p, candidate in zip(apart([shown(p) for p in likeliest]), likeliest, candidates, strict=True)
        ],
    }  # fmt: skip


def _base64(array: np.ndarray, kind: type) -> str:
    return base64.b64encode(np.ascontiguousarray(array.astype(kind)).tobytes()).decode()


def _rounded(values: torch.Tensor) -> list[list[float | None]]:
    found = values.double().numpy().round(4)
    return np.where(np.abs(found) < 1e6, found, None).tolist()


# -- on the page -----------------------------------------------------------------------------------------------------

KEY = "building"


def mount(picture: dict[str, Any], on_pick: Callable[[int, int | None, str, int | None], None]) -> None:
    """Draw it. `on_pick(token, floor, follow, room)` hears what was chosen in the browser for this picture; a room is
    chosen by going through its door.

    The browser draws a choice at once and by itself. `data` changes only with the token, the text, or when the place
    is not where the browser knows it to be (somebody went back in the browser's history): walking through the floors
    sends nothing back. `placed` counts how often it was put somewhere from here. What a teacher locked cannot be chosen
    (`fixed`), and its controls are not drawn where it is hidden; without a way to other pages no room has a door.
    """
    axes = ("token", "floor", "follow")
    fixed = [name for name in axes if state.locked(name)] + (["room"] if state.hidden("pages") else [])
    gone = [name for name in axes if state.hidden(name)]
    shown = st.session_state.get("building.shown") if KEY in st.session_state else None
    same, place = (picture["id"], picture["token"], picture["counts"]["touched"]), (picture["floor"], picture["follow"])
    if not shown or shown["same"] != same or shown["known"] != place:
        moved = not shown or shown["known"] != place
        shown = {
            "same": same, "known": place, "heard": st.session_state.get("building.heard", {}).get("number", 0),
            "place": place if moved else shown["place"], "placed": (shown["placed"] if shown else 0) + moved,
        }  # fmt: skip
        st.session_state["building.shown"] = shown

    top = picture["shape"]["floors"]

    def heard() -> None:  # holds no picture: Streamlit keeps it for the whole visit
        pick = (st.session_state.get(KEY) or {}).get("pick") or {}
        token, floor, number, room, follow = (pick.get(key) for key in ("token", "floor", "number", "room", "follow"))
        whole = all(type(v) is int for v in (token, floor, number)) and (room is None or type(room) is int)
        told_again = pick == st.session_state.get("building.heard")  # by a house that had gone and is back
        if whole and isinstance(follow, str) and pick.get("id") == same[0] and not told_again:
            st.session_state["building.heard"] = pick
            shown["known"] = (floor, follow)
            if token != same[1]:
                shown["same"] = None  # whatever becomes of the choice, the browser is told: a class may undo it
            # Where the walk ends nobody has chosen a floor: other pages then open the one that they would.
            on_pick(token, None if floor == top and room is None else floor, follow, room)

    floor, follow = shown["place"]
    _component(
        key=KEY,
        data={
            **picture, "floor": floor, "follow": follow, "heard": shown["heard"], "placed": shown["placed"],
            "fixed": fixed, "gone": gone, "words": words.group("building"), "lang": words.t("language.html"),
        },
        default={"pick": None},
        on_pick_change=heard,
    )  # fmt: skip


def chosen(token: int, floor: int | None, whom: str, room: int | None) -> None:
    """What was chosen in the lobby's building; a room is chosen by going through its door."""
    state.put("token", token)
    state.put("floor", floor)
    state.put("follow", whom)
    if room is not None and not state.hidden("pages"):
        state.put("room", room)
        st.session_state["lobby.go"] = True
