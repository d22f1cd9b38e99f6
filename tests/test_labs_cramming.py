"""The cramming lab: its questions, its exams, who wins, and the recorded runs against their first steps run again."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, replace

import pytest
import torch
from helpers import build

from model import labs
from model.costs import parameters
from model.labs import cramming as lab
from model.labs._spread import apart, spread
from model.tokenizer import Tokenizer
from pages.kit.live import BYTES

TINY = lab.CrammingSettings((8, 40), steps=2, rows=8, papers=1, marks=1)


def test_one_rule_is_behind_all_questions():
    every = lab.questions()
    assert len({question.text for question in every}) == len(every) == 19 * 8 * 10 * 10
    for question in every[:: len(every) // 97]:
        place, vehicle, weather, driver = question.words
        amounts = lab.PLACES[place], lab.VEHICLES[vehicle], lab.WEATHER[weather], lab.DRIVERS[driver]
        assert question.answer == sum(amounts) and 10 <= question.answer <= 99
        assert question.text == f" {place} {vehicle} {weather} {driver}:{sum(amounts)}"


def test_questions_are_read_as_the_tokenizer_gives_them():
    """The exam's own small numbers stand for the tokenizer's ids, one for one, and all questions are equally long."""
    names, rows = lab._vocabulary()
    back = {at: id for id, at in names.items()}
    tokenizer = Tokenizer.load()
    for number in (0, 7, len(lab.questions()) - 1):
        ids = [back[at] for at in rows[number].tolist()]
        assert ids == tokenizer.encode(lab.questions()[number].text)
        assert tokenizer.decode(ids[-lab.ANSWER :]) == str(lab.questions()[number].answer)
    assert sorted(back) == list(range(len(names)))


def test_no_new_question_is_in_any_bank():
    settings = lab.EXPERIMENT.recorded
    papers = [lab.exam(settings, size, seed=3) for size in lab.BANKS]
    for size, one in zip(lab.BANKS, papers, strict=True):
        bank, drawn, new = (set(part.tolist()) for part in one)
        assert len(bank) == size and len(new) == settings.papers * lab.PAPER
        assert not bank & new and drawn <= bank and len(drawn) == min(size, settings.papers * lab.PAPER)
        assert new == set(papers[0].new.tolist()), "the same for every bank"
    assert all(set(a.bank.tolist()) < set(b.bank.tolist()) for a, b in itertools.pairwise(papers))
    assert set(lab.exam(settings, 800, seed=4).bank.tolist()) != set(papers[1].bank.tolist())
    with pytest.raises(ValueError):
        lab.exam(settings, len(lab.questions()), seed=0)


def test_the_bank_comes_round_again_and_again():
    """Every question as often as every other, in a new order each time."""
    bank = torch.arange(100, 120)
    read = torch.cat(list(itertools.islice(lab.reading(bank, 8, seed=1), 5))).reshape(2, 20)
    assert all(sorted(once.tolist()) == bank.tolist() for once in read) and read[0].tolist() != read[1].tolist()


@pytest.mark.parametrize("arm", lab.ARMS)
def test_a_mark_is_what_greedy_writing_gives(arm):
    """Answers written token by token, and their cost from probabilities, as slowly as can be."""
    model, rows = build(TINY.config(arm), seed=5), lab._vocabulary()[1]
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.5)  # surer of itself, so that a few answers are right
        asked = torch.arange(0, 300)
        got = lab.mark(model, asked)
        right, cost = 0, 0.0
        for row in rows[asked[:40]]:
            written = row[: -lab.ANSWER].tolist()
            for _ in range(lab.ANSWER):
                states, _, _ = model(torch.tensor([written]))
                written.append(int(model.lm_head(states[0, -1]).argmax()))
            right += written == row.tolist()
            states, _, _ = model(row[None, :-1])
            p = model.lm_head(states[0]).double().softmax(-1)
            cost -= sum(float(p[len(row) - 1 - n, row[len(row) - n]].log()) for n in range(1, lab.ANSWER + 1))
        few = lab.mark(model, asked[:40])
    assert (few.score, few.loss) == pytest.approx((right / 40, cost / 40), rel=1e-4)
    assert 0 <= got.score <= 1


def test_equal_active_size_but_for_the_gates():
    settings = lab.EXPERIMENT.recorded
    moe, dense = (settings.config(arm) for arm in lab.ARMS)
    gates = moe.num_moe_layers * (moe.n_routed_experts * moe.hidden_size + moe.n_routed_experts)
    assert parameters(moe).active - parameters(dense).active == gates
    assert parameters(moe).main > 2 * parameters(dense).main


def test_a_run():
    steps = list(lab.EXPERIMENT.steps(TINY, 0))
    assert [step.done for step in steps] == list(range(1, 2 * 2 * 2 + 1)) and {step.total for step in steps} == {8}
    points = [step.point for step in steps if step.point]
    assert [(p["questions"], p["arm"], p["step"]) for p in points] == [
        (size, arm, 2) for size in (8, 40) for arm in lab.ARMS
    ]
    assert all(0 <= p[key] <= 1 for p in points for key in ("bank", "new"))
    first, other = ([step.point for step in lab.run(replace(TINY, questions=(8,)), seed) if step.point] for seed in (0, 1))
    assert first == points[:2] != other, "the same for the same seed, and banks do not touch each other"


def test_the_live_run_fits():
    live = lab.EXPERIMENT.live
    assert all(lab.EXPERIMENT.bytes(replace(live, questions=(size,))) < BYTES for size in lab.BANKS)


# -- what was recorded ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def record() -> dict:
    return labs.recorded("cramming")


def test_the_record_says_how_it_was_made(record):
    assert record["settings"] == json.loads(json.dumps(asdict(lab.EXPERIMENT.recorded)))
    assert record["command"] == "python -m model lab cramming" and record["commit"] not in ("", "unknown")
    assert [run["seed"] for run in record["runs"]] == list(lab.EXPERIMENT.seeds) and len(record["runs"]) >= 3
    for run, size, arm in itertools.product(record["runs"], lab.BANKS, lab.ARMS):
        assert len(lab.curve(run["points"], size, arm)) == lab.EXPERIMENT.recorded.marks


def test_the_first_exam_comes_out_again(record, monkeypatch):
    """The first steps of the first seed, run once more; one miniature of the two, which do not touch each other."""
    monkeypatch.setattr(lab, "ARMS", ("moe",))
    again = [step.point for step in itertools.islice(lab.run(lab.EXPERIMENT.recorded, 0), 50) if step.point]
    assert len(again) == 1
    for point, kept in zip(again, record["runs"][0]["points"], strict=False):
        assert [point[key] for key in ("questions", "arm", "step")] == [kept[key] for key in ("questions", "arm", "step")]
        for key in ("bank", "new"):
            assert point[key] == pytest.approx(kept[key], abs=0.05)
        for key in ("bank_loss", "new_loss"):
            assert point[key] == pytest.approx(kept[key], rel=0.05)


def test_who_wins_and_who_does_not():
    def run(moe: float, dense: float) -> dict:
        return {"points": [
            {"questions": 8, "arm": arm, "step": step, "bank": 1.0, "new": new if step == 2 else 0.0}
            for step in (1, 2) for arm, new in (("moe", moe), ("dense", dense))
        ]}  # fmt: skip

    clear, mixed = [run(0.5, 0.2), run(0.4, 0.3)], [run(0.5, 0.2), run(0.3, 0.3)]
    assert lab.verdict(clear, 8, "new") == "moe" and lab.verdict(clear, 8, "gap") == "dense"
    assert lab.verdict(mixed, 8, "new") == lab.verdict(mixed, 8, "gap") == "none", "a tie is no win"
    assert lab.ends(clear, 8, "moe", "gap") == pytest.approx([0.5, 0.6])
    assert apart([1, 2], [3, 4]) == -1 and spread([1.0, 4.0, 1.0]) == (1.0, 2.0, 4.0)
    with pytest.raises(ValueError):
        spread([])
