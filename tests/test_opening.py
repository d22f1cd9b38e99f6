"""The recorded first picture: it is what the shipped checkpoint computes, and stands before torch is there."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest

from pages.kit import ask, opening, words


def numbers(text: str, kind: type) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind).astype(np.int64)


@pytest.fixture(scope="module")
def recorded() -> dict:
    return json.loads(opening.RECORD.read_text("utf-8"))


def test_the_record_is_what_the_checkpoint_computes(recorded: dict, monkeypatch):
    monkeypatch.delenv("TOKEN_HOSPITAL_CHECKPOINT", raising=False)
    now = opening.record()
    assert recorded["checkpoint"] == now["checkpoint"] == opening.DIGEST.read_text("utf-8")
    assert set(recorded["pictures"]) == {ask.EXAMPLES[lang][0] for lang in words.languages()}
    for sentence, picture in now["pictures"].items():
        kept = recorded["pictures"][sentence]
        for name in ("id", "token", "floor", "follow", "shape", "tokens", "chosen", "wide", "kept", "counts"):
            assert kept[name] == picture[name], name
        assert np.abs(numbers(kept["weights"], np.uint8) - numbers(picture["weights"], np.uint8)).max() <= 1
        for name in ("scores", "bias"):  # the last bit may differ from machine to machine
            old, new = (numbers(p["detail"][name], np.uint16) for p in (kept, picture))
            assert np.abs(old - new).max() <= 2, name
        old, new = ([(c["text"], round(c["probability"], 3)) for c in p["detail"]["next"]] for p in (kept, picture))
        assert old[0] == new[0]


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=opening.shell.ROOT, timeout=120,
        env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_it_stands_before_torch_is_there():
    code = """
import sys
from pages.kit import ask, building, opening
sentence = ask.EXAMPLES["en"][0]
picture = opening.picture(sentence)
print(picture["counts"]["per_token"], opening.picture(sentence + "!"), "torch" in sys.modules)
"""
    assert run(code) == "522 None False"


def test_what_is_drawn_goes_as_bytes():
    """Streamlit sends them on as they are. In anything else it looks for tables, and brings pandas in to do so."""
    code = """
import sys
from pages.kit import plates
sent = plates.packed({"plates": [{"id": "a"}], "picked": {"token": 1}})
print(sent, "pandas" in sys.modules)
"""
    assert run(code) == """b'{"plates":[{"id":"a"}],"picked":{"token":1}}' False"""


def test_it_is_not_shown_once_the_model_is_open():
    code = """
from pages.kit import ask, opening
opening.load()
print(opening.picture(ask.EXAMPLES["en"][0]))
"""
    assert run(code) == "None"


def test_somebody_else_may_be_bringing_the_model_in_at_this_moment(monkeypatch):
    monkeypatch.setitem(sys.modules, "pages.kit.service", ModuleType("pages.kit.service"))
    assert not opening.done()


def test_a_record_of_another_checkpoint_is_not_shown(tmp_path, monkeypatch, recorded):
    sentence = ask.EXAMPLES["zh"][0]
    monkeypatch.delenv("TOKEN_HOSPITAL_CHECKPOINT", raising=False)
    monkeypatch.setitem(sys.modules, "pages.kit.service", None)
    assert opening.picture(sentence) == recorded["pictures"][sentence]
    for content in (json.dumps({**recorded, "checkpoint": "another"}), "{", "[]", "{}"):
        file = tmp_path / "opening.json"
        file.write_text(content)
        monkeypatch.setattr(opening, "RECORD", file)
        assert opening.picture(sentence) is None
    monkeypatch.setattr(opening, "RECORD", tmp_path / "nowhere.json")
    assert opening.picture(sentence) is None
