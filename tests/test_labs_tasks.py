"""The lab of one task and many: who reads what, what is concluded, and the first readings of the record made again."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import asdict, replace

import pytest

from model import labs
from model.corpus import SUBJECTS, is_heldout, training
from model.labs import tasks as lab
from model.labs._spread import same_sign
from model.labs.miniatures import parameters
from pages.kit.live import BYTES

TINY = replace(lab.EXPERIMENT.recorded, steps=4, rows=2, length=24, single_texts=2, mixed_texts=1, marks=2)


@pytest.mark.parametrize("kind", lab.KINDS)
def test_who_reads_what(kind):
    found = list(itertools.islice(training(lab.families(kind, 1), random.Random(0)), 400))
    assert {d.subject for d in found} == (set(SUBJECTS) if kind == "mixed" else {"sums"})
    assert {d.language for d in found} == {"zh", "en"} and not any(is_heldout(d.text) for d in found)


def test_single_subjects_are_subjects_and_go_around():
    assert set(lab.SUBJECTS) < set(SUBJECTS)
    assert [lab.subject(seed) for seed in range(5)] == [*lab.SUBJECTS, lab.SUBJECTS[0]]
    assert len(lab._texts("sums", 2, 24)) == 4 and len(lab._texts(None, 1, 24)) == 2 * len(SUBJECTS)


def test_equally_large_at_work():
    dense, moe = (parameters(arm)[1] for arm in lab.ARMS)
    assert abs(moe / dense - 1) < 0.005


def test_a_run():
    steps = list(lab.EXPERIMENT.steps(TINY, 0))
    assert [step.done for step in steps] == list(range(1, 4 * 4 + 1)) and {step.total for step in steps} == {16}
    points = [step.point for step in steps if step.point]
    assert [(p["kind"], p["arm"], p["step"]) for p in points] == [
        (kind, arm, step) for step in TINY.due for kind in lab.KINDS for arm in lab.ARMS
    ]
    assert {p["subject"] for p in points} == {None, "clinic"} and all(0 < p["heldout"] < 10 for p in points)
    again, other = ([s.point for s in lab.run(replace(TINY, kinds=("single",)), seed) if s.point] for seed in (0, 1))
    assert again == [p for p in points if p["kind"] == "single"] != other, "kinds do not touch each other"


def test_both_miniatures_read_the_same_lines(monkeypatch):
    """What is handed to the optimiser's step, one miniature after the other."""
    seen = []
    real = lab.take_step
    monkeypatch.setattr(lab, "take_step", lambda model, adam, ids, *rest: seen.append(ids) or real(model, adam, ids, *rest))
    list(lab.run(TINY, 0))
    rounds = [seen[i : i + 4] for i in range(0, len(seen), 4)]
    for mixed_dense, mixed_moe, single_dense, single_moe in rounds:
        assert mixed_dense.equal(mixed_moe) and single_dense.equal(single_moe) and not mixed_dense.equal(single_dense)
    assert not rounds[0][0].equal(rounds[1][0])


def test_the_live_run_fits():
    assert lab.EXPERIMENT.bytes(lab.EXPERIMENT.live) < BYTES


def test_how_far_the_moe_is_ahead():
    def run(mixed: tuple[float, float], single: tuple[float, float]) -> dict:
        return {"points": [
            {"kind": kind, "arm": arm, "heldout": value if step == 2 else 9.0}
            for step in (1, 2) for kind, each in (("mixed", mixed), ("single", single))
            for arm, value in zip(lab.ARMS, each, strict=True)
        ]}  # fmt: skip

    runs = [run((2.0, 1.5), (0.5, 0.6)), run((2.5, 2.4), (3.0, 3.2))]
    assert lab.ends(runs, "single", "v3") == [0.6, 3.2] and lab.leads(runs, "mixed") == pytest.approx([0.5, 0.1])
    assert lab.gains(runs) == pytest.approx([-0.6, -0.3])
    assert [same_sign(each, 3) for each in ([0.5, 0.1], [-0.1, -0.2], [0.5, -0.2], [0.5, 0.0001])] == [1, -1, 0, 0]


# -- what was recorded -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def record() -> dict:
    return labs.recorded("tasks")


def test_the_record_says_how_it_was_made(record):
    usual = lab.EXPERIMENT.recorded
    assert record["settings"] == json.loads(json.dumps(asdict(usual)))
    assert record["command"] == "python -m model lab tasks" and record["commit"] not in ("", "unknown")
    assert [run["seed"] for run in record["runs"]] == list(lab.EXPERIMENT.seeds) and len(record["runs"]) >= 3
    for run, kind, arm in itertools.product(record["runs"], lab.KINDS, lab.ARMS):
        curve = lab.curve(run["points"], kind, arm)
        assert [point["step"] for point in curve] == usual.due and curve[-1]["heldout"] < curve[0]["heldout"] / 2
        assert {point["subject"] for point in curve} == {lab.subject(run["seed"]) if kind == "single" else None}


def test_the_first_readings_come_out_again(record):
    pairs = labs.replay("tasks", steps=4 * lab.EXPERIMENT.recorded.due[0])
    assert len(pairs) == 4
    for kept, again in pairs:
        assert {key: kept[key] for key in ("kind", "arm", "step")} == {key: again[key] for key in ("kind", "arm", "step")}
        assert (again["heldout"], again["loss"]) == pytest.approx((kept["heldout"], kept["loss"]), rel=5e-3)
