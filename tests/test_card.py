"""Training on another device than the CPU, followed on a card that is not there (tests/card.py says how far that goes)."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from helpers import PYTHON, ROOT


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = subprocess.run([PYTHON, ROOT / "tests" / "card.py", tmp_path_factory.mktemp("card")],
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_run_on_the_card_learns_what_one_on_the_cpu_learns(found: dict[str, Any]) -> None:
    assert len(found["card"]) == len(found["cpu"]) == 12
    for there, here in zip(found["card"], found["cpu"], strict=True):
        assert there == pytest.approx(here, rel=1e-4)


def test_weights_and_moments_stay_on_the_card(found: dict[str, Any]) -> None:
    assert found["devices"] == found["moments"] == ["card:0"]


def test_a_run_on_the_card_that_was_stopped_loses_nothing(found: dict[str, Any]) -> None:
    assert found["stopped"] == found["card"]


def test_what_was_saved_on_the_card_is_read_without_one(found: dict[str, Any]) -> None:
    assert found["saved"]


def test_both_forms_of_attention_run_on_the_card(found: dict[str, Any]) -> None:
    assert found["paths"] < 1e-5


def test_the_card_refuses_what_a_card_refuses(found: dict[str, Any]) -> None:
    """Or the tests above would say nothing: ids that stayed behind meet weights that did not."""
    assert "some on the CPU" in found["mixed"]
