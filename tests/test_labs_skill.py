"""The lab of a new skill: what is taught and what is frozen, what is measured, and the recorded lessons run again."""

from __future__ import annotations

import copy
import itertools
import json
from dataclasses import asdict, replace

import pytest
import torch
from torch.nn import functional as F

from model import labs
from model.corpus import is_heldout
from model.costs import parameters
from model.deepseek_v3 import DeepseekV3
from model.errors import UserError
from model.labs import skill as lab
from model.train import THREADS, optimiser, take_step

S = lab.SkillSettings(texts=2, other_texts=1, steps=4, rows=4, length=24, marks=(2, 4))
WOKEN = [[1, 30], [5]]


def test_school_never_sees_the_subject():
    for new in (True, False):
        found = list(itertools.islice(lab.documents(new, 0), 300))
        assert all((d.subject == lab.SUBJECT) == new for d in found) and {d.language for d in found} == {"zh", "en"}
        assert not any(is_heldout(d.text) for d in found)
    assert all(len(text) > 1 for new in (True, False) for text in lab._texts(new, 1, 24))


# -- frozen is frozen --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("arm", lab.ARMS)
def test_what_is_frozen_stays_to_the_last_bit(arm, threads):
    """Three steps with weight decay and the nudge of the biases; what learns has moved, everything else has not."""
    model = DeepseekV3(S.config("dense" if arm == "dense" else "moe")).initialise(0)
    for router in model.routers():
        router.e_score_correction_bias.normal_(0, 0.02, generator=torch.Generator().manual_seed(1))
    before, settings = copy.deepcopy(model.state_dict()), S.training(arm)
    assert settings.weight_decay > 0
    adam, learns = optimiser(model, settings), lab.taught(model, arm, WOKEN)
    count, batches = lab.teach_only(model, adam, learns), lab.reading(True, 4, 8, 24, 0)
    used = THREADS.set(threads)
    try:
        for step in range(3):
            take_step(model, adam, next(batches), settings, step)
    finally:
        THREADS.reset(used)
    moved = 0
    for name, now in model.state_dict().items():
        then = before[name]
        if name.endswith("e_score_correction_bias"):
            assert torch.equal(now, then) == (arm != "moe")
        elif isinstance(learns[name], bool):
            assert torch.equal(now, then) != learns[name], name
            moved += learns[name] * now.numel()
        else:
            rows = learns[name]
            assert torch.equal(now[~rows], then[~rows]), name
            assert all(not torch.equal(now[i], then[i]) for i in rows.nonzero().flatten()), name
            moved += now[rows].numel()
    assert moved == count


def test_who_learns_in_which_way():
    c = S.config("moe")
    model, expert = DeepseekV3(c), 3 * c.hidden_size * c.moe_intermediate_size
    gates = c.num_moe_layers * c.n_routed_experts * c.hidden_size
    whole = sum(p.numel() for p in model.parameters())
    wanted = {"moe": whole, "receptionist": whole - gates, "interns": c.num_moe_layers * c.n_routed_experts * expert,
              "awake": 3 * expert}  # fmt: skip
    for arm, count in wanted.items():
        one = copy.deepcopy(model)
        assert lab.teach_only(one, optimiser(one, S.training(arm)), lab.taught(one, arm, WOKEN)) == count
    with pytest.raises(UserError):
        lab.taught(model, "nurse", WOKEN)
    with pytest.raises(UserError):
        next(lab.run(replace(S, arms=()), 0))


def test_the_kinds_are_equally_large_at_work():
    moe, dense = (lab.EXPERIMENT.recorded.config(kind) for kind in lab.KINDS)
    gates = moe.num_moe_layers * moe.n_routed_experts * (moe.hidden_size + 1)
    assert parameters(moe).active - parameters(dense).active == gates


# -- what is measured -------------------------------------------------------------------------------------------------


def test_the_woken_are_the_fewest():
    calls = torch.randint(0, 50, (4, 8), generator=torch.Generator().manual_seed(3))
    for share in (0.2, 0.5, 0.9):
        for layer, woken in zip(calls.tolist(), lab.awake(calls, share), strict=True):
            assert sum(layer[i] for i in woken) >= share * sum(layer)
            fewer = itertools.combinations(range(8), len(woken) - 1)
            assert all(sum(layer[i] for i in some) < share * sum(layer) for some in fewer)


def test_what_a_token_costs():
    model = DeepseekV3(S.config("moe")).initialise(2)
    got = lab.measure(model, S)
    with torch.no_grad():
        for new, each, loss in ((True, S.texts, got.new), (False, S.other_texts, got.old)):
            costs = []
            for text in lab._texts(new, each, S.length):
                ids = torch.tensor([text])
                states, _, _ = model(ids[:, :-1])
                costs += F.cross_entropy(model.lm_head(states[0]), ids[0, 1:], reduction="none").tolist()
            assert loss == pytest.approx(sum(costs) / len(costs), rel=1e-4)


def test_what_is_lost_at_an_equal_gain():
    path = [lab.Lesson(step, 5 - gained, 2 + lost, gained, lost)
            for step, gained, lost in ((0, 0, 0), (1, 1, 0.2), (2, 3, 1.2), (3, 2, 2))]  # fmt: skip
    assert lab.lost_at(path, 0.5) == pytest.approx(0.1) and lab.lost_at(path, 2) == pytest.approx(0.7)
    assert lab.lost_at(path, 0) == 0 and lab.lost_at(path, 4) is None and lab.lost_at(path[:1], 0.1) is None


def test_a_run_with_school(tmp_path, monkeypatch):
    """School, then all ways of teaching, each from the same miniature; nothing is kept unless it is asked for."""
    monkeypatch.setattr(lab, "KEPT", tmp_path / "skill")
    settings = replace(S, school=2, school_rows=2, steps=2, marks=(1, 2))
    steps = list(lab.EXPERIMENT.steps(settings, 0))
    assert [step.done for step in steps] == list(range(1, 2 * 2 + 2 * 5 + 1)) and not (tmp_path / "skill").exists()
    points = [step.point for step in steps if step.point]
    start = lab.start_of(points)
    assert start["moe"]["new"] == pytest.approx(points[2]["new"], rel=0.02), "but for the rounding to bf16"
    assert set(start["taught"]) == set(lab.ARMS)
    for arm in lab.ARMS:
        path = lab.lessons(points, arm)
        # the first step's own point is the start, so the first arm is measured from the second step on
        assert [one.step for one in path] == ([0, 2] if arm == lab.ARMS[0] else [0, 1, 2])
        assert path[-1].gained == pytest.approx(path[0].new - path[-1].new)
    list(lab.run(replace(settings, keep=True, arms=("moe",), steps=1), 0))
    assert {folder.name for folder in (tmp_path / "skill").iterdir()} == set(lab.KINDS)


# -- what was recorded ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def record() -> dict:
    return labs.recorded("skill")


def test_the_record_says_how_it_was_made(record):
    assert record["settings"] == json.loads(json.dumps(asdict(lab.EXPERIMENT.recorded)))
    assert record["command"] == "python -m model lab skill" and record["commit"] not in ("", "unknown")
    assert [run["seed"] for run in record["runs"]] == list(lab.EXPERIMENT.seeds) and len(record["runs"]) >= 3
    for run, arm in itertools.product(record["runs"], lab.ARMS):
        assert [one.step for one in lab.lessons(run["points"], arm)] == [0, *lab.EXPERIMENT.recorded.marks]


def test_what_is_kept_is_small_and_whole():
    assert sum(file.stat().st_size for file in lab.KEPT.rglob("*")) <= 4_000_000
    for kind in lab.KINDS:
        assert lab.kept(kind).c == lab.EXPERIMENT.recorded.config(kind)


def test_the_first_lessons_come_out_again(record):
    """From the kept miniatures, which are the first seed's after school."""
    settings = replace(lab.EXPERIMENT.recorded, school=0, keep=False)
    again = [step.point for step in itertools.islice(lab.run(settings, lab.KEPT_SEED), 2 * len(lab.ARMS)) if step.point]
    kept = [point for point in record["runs"][0]["points"] if point["part"] != "school"]
    assert again[0]["calls"] == kept[0]["calls"] and again[0]["awake"] == kept[0]["awake"]
    assert again[0]["taught"] == kept[0]["taught"] and len(again) == 1 + len(lab.ARMS)
    for kind in lab.KINDS:
        assert again[0][kind] == pytest.approx(kept[0][kind], rel=1e-4)
    for point, then in zip(again[1:], kept[1:], strict=False):
        assert point["arm"] == then["arm"] and point["step"] == then["step"]
        assert (point["new"], point["old"]) == pytest.approx((then["new"], then["old"]), rel=5e-3)
