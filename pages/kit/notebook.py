"""A walk as a Jupyter notebook that makes the same trace again with `model/` from a clone, and checks that it is the
same: the checkpoint's digest, who was called, and the first numbers."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from model import Trace
from pages.kit.chapter import Visit
from pages.kit.record import Walk, about, described, said
from pages.kit.words import t

LIKELIEST = 5

FIND = """\
import hashlib
import os
import sys
from pathlib import Path

ROOT = next(p for p in (Path.cwd(), *Path.cwd().parents) if (p / "model" / "deepseek_v3.py").is_file())
sys.path.insert(0, str(ROOT))

import numpy as np

import model
from model import Interventions, checkpoint, live"""

LOAD = """\
CHECKPOINT = os.environ.get("TOKEN_HOSPITAL_CHECKPOINT")  # a folder; None: the one that is shipped

hospital = model.load(CHECKPOINT)
digest = checkpoint.digest(CHECKPOINT or live.SHIPPED)
print(digest)
assert digest == EXPECTED["sha256"], "another checkpoint than the one that this walk went through\""""

RUN = """\
trace = hospital.trace(SENTENCE, CHANGES)
LAYER = FLOOR - 1
for position, piece in enumerate(hospital.tokenizer.pieces(trace.ids)):
    print(position, piece.id, repr(piece.text), "<- followed" if position == TOKEN else "")"""

CALLED = """\
m = LAYER - hospital.config.first_k_dense_replace  # which of the floors with experts
if m >= 0:
    print("expert  score   weight")
    for expert, score, weight in zip(trace.chosen[m, TOKEN], trace.raw_weights[m, TOKEN], trace.weights[m, TOKEN]):
        print(f"{expert:6d}  {score:.4f}  {weight:.4f}")
for candidate in trace.top(TOKEN, len(EXPECTED["next"])):
    print(f"{candidate.probability:.4f}  {hospital.tokenizer.pieces([candidate.id])[0].text!r}")"""

CHECK = """\
assert list(trace.ids) == EXPECTED["ids"]
chosen = hashlib.sha256(trace.chosen.numpy().astype("<i4").tobytes()).hexdigest()
print("everybody who was called is the same:", chosen == EXPECTED["chosen"])


def far(found, expected):
    return float(np.abs(np.asarray(found, dtype=float) - expected).max()) if len(expected) else 0.0


best = trace.top(TOKEN, len(EXPECTED["next"]))
gaps = {
    "weights": far(trace.weights[m, TOKEN] if m >= 0 else [], EXPECTED["weights"]),
    "state": far(trace.hidden[LAYER + 1, TOKEN, : len(EXPECTED["state"])], EXPECTED["state"]),
    "probabilities": far([one.probability for one in best], [one[1] for one in EXPECTED["next"]]),
}
print("largest differences:", gaps)
assert max(gaps.values()) < 1e-3, gaps  # another processor rounds otherwise in the last digits\
"""

MORE = """\
print("states      ", tuple(trace.hidden.shape))  # floors + 1, tokens, width
print("attention   ", tuple(trace.attention(LAYER).shape))  # heads, reader, read
print("scores      ", tuple(trace.scores.shape))  # floors with experts, tokens, experts
print("latent cache", tuple(trace.memory.shape))  # floors, tokens, latent + rotary key"""


def notebook(one: Walk) -> bytes:
    """The notebook (nbformat 4) as a file."""
    visit, trace = one.visit(), one.trace()
    beside = about(one)
    cells = [
        _words(t("record.notebook.head", link=one.link, date=beside["date"], model=beside["checkpoint"]["name"])),
        _code(FIND),
        _words(t("record.notebook.walk", changed=said(one.changes, trace.config))),
        _code("\n".join([
            f"SENTENCE = {_literal(one.sentence)}",
            f"TOKEN = {one.token}  # position; 0 is the start sign",
            f"FLOOR = {one.floor}  # layer + 1",
            f"CHANGES = {_changes(one)}",
            f"EXPECTED = {_expected(visit, trace, beside['checkpoint']['sha256'])}",
        ])),
        _words(t("record.notebook.load")),
        _code(LOAD),
        _code(RUN),
        _words(t("record.notebook.called")),
        _code(CALLED),
        _words(t("record.notebook.check")),
        _code(CHECK),
        _words(t("record.notebook.more")),
        _code(MORE),
    ]  # fmt: skip
    return (json.dumps({
        "cells": [{"id": f"cell-{number}", **cell} for number, cell in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "token_hospital": beside,
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }, ensure_ascii=False, indent=1) + "\n").encode()  # fmt: skip


def _words(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text.splitlines(keepends=True)}


def _code(text: str) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {}, "source": text.splitlines(keepends=True), "outputs": [],
            "execution_count": None}  # fmt: skip


def _literal(text: str) -> str:
    """As Python writes it: what cannot be seen is spelt out, so that nothing in it can leave its quotes."""
    return repr(text)


def _changes(one: Walk) -> str:
    def value(found: Any) -> str:
        return f"frozenset({found!r})" if isinstance(found, list) else repr(found)

    return f"Interventions({', '.join(f'{name}={value(found)}' for name, found in described(one.changes).items())})"


def _expected(visit: Visit, trace: Trace, digest: str) -> str:
    """What the same walk must show again; floats with the digits of float32."""

    def short(values: Any) -> list[float]:
        return [float(f"{value:.7g}") for value in values]

    m = visit.department
    best = trace.top(visit.token, LIKELIEST)
    found = {
        "sha256": digest,
        "ids": list(trace.ids),
        "chosen": hashlib.sha256(trace.chosen.numpy().astype("<i4").tobytes()).hexdigest(),
        "weights": short(trace.weights[m, visit.token].tolist()) if m >= 0 else [],
        "state": short(trace.hidden[visit.layer + 1, visit.token, : len(best)].tolist()),
        "next": [[one.id, *short([one.probability])] for one in best],
    }
    return "{\n" + "".join(f"    {name!r}: {value!r},\n" for name, value in found.items()) + "}"
