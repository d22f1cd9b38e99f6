"""The queues: the lab against its own record and against counting by hand, and the page against both."""

from __future__ import annotations

import itertools
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import screens
import torch
from screens import LANGUAGES, fine, floats, prose, shown, skip, values
from streamlit.testing.v1 import AppTest

from model import UserError
from model.corpus import is_heldout
from model.deepseek_v3 import DeepseekV3
from model.labs import RECORDED, queues, replay
from model.labs.queues import Arm, Settings
from model.tokenizer import Tokenizer
from model.train import TrainSettings, nudge_biases, sequence_balance_loss
from pages.kit import state, words
from pages.kit.chapter import number
from pages.kit.figures import queues as figures

PAGE = "pages/queues.py"
FILE = json.loads((RECORDED / "queues.json").read_text("utf-8"))
SMALL = Settings(
    arms=(Arm("bias", 0.01), Arm("none"), Arm("wrong", 0.05)), steps=6, rows=4, length=32, every=2, heldout_every=4,
    heldout_documents=2, heldout_rows=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def small() -> list:
    return list(queues.EXPERIMENT.steps(SMALL, 5))


# -- the lab -----------------------------------------------------------------------------------------------------------


def test_the_first_steps_of_the_record_come_out_again():
    pairs = replay("queues", 1)
    assert len(pairs) == 1
    for was, now in pairs:
        assert was["step"] == now["step"] and len(was["arms"]) == len(now["arms"]) == len(queues.RECORDED.arms)
        for one, other in zip(was["arms"], now["arms"], strict=True):
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
            assert np.abs(np.subtract(one["load"], other["load"])).sum() <= 0.01 * sum(one["load"])


def test_the_record_says_how_it_was_made():
    assert FILE["command"] == "python -m model lab queues" and len(FILE["commit"].rstrip("+")) == 12
    assert [run["seed"] for run in FILE["runs"]] == list(queues.EXPERIMENT.seeds)
    assert FILE["settings"] == json.loads(json.dumps(queues.RECORDED.__dict__))
    for run in FILE["runs"]:
        assert run["points"][-1]["step"] == queues.RECORDED.steps and run["seconds"] > 0
        assert all("rare" in arm for arm in run["points"][-1]["arms"])


def test_steps_and_points(small):
    assert [step.done for step in small] == [1, 2, 3, 4, 5, 6] and {step.total for step in small} == {6}
    assert [step.done for step in small if step.point] == [1, 2, 4, 6]
    assert [step.done for step in small if step.point and "rare" in step.point["arms"][0]] == [4, 6]
    calls = SMALL.rows * SMALL.length * queues.CONFIG.num_experts_per_tok
    for arm in (arm for step in small if step.point for arm in step.point["arms"]):
        assert sum(arm["load"]) == calls and len(arm["load"]) == queues.CONFIG.n_routed_experts
    first = small[0].point["arms"]
    assert all(arm["loss"] == first[0]["loss"] and arm["load"] == first[0]["load"] for arm in first), "one start for all"
    assert {step.tokens for step in small} == {3 * SMALL.rows * SMALL.length}


def test_a_run_can_be_repeated_and_a_seed_changes_it(small):
    again = list(itertools.islice(queues.run(SMALL, 5), 2))
    assert again[1].point == small[1].point
    assert next(queues.run(SMALL, 6)).loss != small[0].loss


def test_max_vio_by_hand(small):
    """With one department the mean of the departments is the department."""
    model = DeepseekV3(queues.CONFIG).initialise(5)
    with torch.no_grad():
        routings = model(queues.batch(SMALL, 5, 0))[2]
    counts = [np.bincount(r.chosen.reshape(-1).numpy(), minlength=32) for r in routings]
    got = small[0].point["arms"][1]
    assert got["max_vio"] == pytest.approx(sum(c.max() / c.mean() - 1 for c in counts) / len(counts), rel=1e-5)
    assert got["dead"] == sum(int((c == 0).sum()) for c in counts)
    assert got["load"] == counts[1].tolist() and queues.middle(queues.CONFIG) == 1


def test_the_board_moves_the_right_way_and_the_wrong_way():
    load = torch.zeros(3, 32)
    load[:, 0] = 32.0
    for arm, sign in ((Arm("bias", 0.01), -1), (Arm("wrong", 0.01), 1)):
        model = DeepseekV3(queues.CONFIG)
        nudge_biases(model, load, arm.strength if arm.kind == "bias" else -arm.strength)
        for router in model.routers():
            bias = router.e_score_correction_bias
            assert sign * float(bias[0]) > 0 and float(sign * bias[1:].max()) < 0


def test_each_arm_has_what_it_says():
    """What is in force: the bias moves only where there is a board, and only there the wrong way round."""
    s = replace(SMALL, arms=(Arm("bias", 0.02), Arm("loss", 0.1), Arm("none"), Arm("wrong", 0.02)))
    made = [queues._Trainee(arm, s, 1) for arm in s.arms]
    for one in made:
        one.step(queues.batch(s, 1, 0), 0)
    moved = [one.model.routers()[1].e_score_correction_bias.abs().max() for one in made]
    assert [bool(m > 0) for m in moved] == [True, False, False, True]
    biases = [made[i].model.routers()[1].e_score_correction_bias for i in (0, 3)]
    assert torch.allclose(biases[0], -biases[1], atol=1e-6)
    assert [one.train.balance_loss for one in made] == [0, 0.1, 0, 0]


def test_the_balance_loss_is_smallest_when_even():
    from model.deepseek_v3 import Routing

    even = torch.full((32, 32), 0.5)
    chosen = torch.stack([torch.arange(4 * i, 4 * i + 4) % 32 for i in range(32)])
    blank = torch.zeros(0)
    flat = sequence_balance_loss(Routing(blank, even, blank, blank, blank, chosen, blank, blank), 1, 4)
    tilted = even.clone()
    tilted[:, :4] = 0.9
    same = torch.arange(4).repeat(32, 1)
    steep = sequence_balance_loss(Routing(blank, tilted, blank, blank, blank, same, blank, blank), 1, 4)
    assert float(flat) == pytest.approx(1) and float(steep) > 1


def test_the_rare_subject_is_rare():
    size = {True: 0, False: 0}
    for doc in itertools.islice(queues.documents(3, 0.01), 8000):
        assert not is_heldout(doc.text)
        size[doc.subject == queues.RARE] += len(doc.text.encode())
    assert size[True] / sum(size.values()) == pytest.approx(0.01, rel=0.1)
    usual = {True: 0, False: 0}
    for doc in itertools.islice(queues.documents(3, None), 8000):
        usual[doc.subject == queues.RARE] += len(doc.text.encode())
    assert usual[True] / sum(usual.values()) > 0.02


def test_what_is_measured_was_never_read():
    rare, rest = queues.unseen(64, 4, 8)
    assert rare.shape[1] == rest.shape[1] == 64 and 1 <= len(rest) <= 8
    tokenizer = Tokenizer.load()
    for rows in (rare, rest):
        texts = tokenizer.decode(rows[0].tolist())
        assert len(texts) > 50


def test_measuring_by_hand():
    model = DeepseekV3(queues.CONFIG).initialise(1)
    ids = queues.unseen(64, 2, 4)[0][:1]
    got = queues.measure(model, ids)
    with torch.no_grad():
        states, _, routings = model(ids)
        log = model.lm_head(states[0, :-1]).double().log_softmax(-1)
    by_hand = -sum(float(log[i, token]) for i, token in enumerate(ids[0, 1:].tolist())) / (ids.shape[1] - 1)
    assert got.loss == pytest.approx(by_hand, rel=1e-5)
    counts = np.bincount(routings[1].chosen.reshape(-1).numpy(), minlength=32)
    assert got.load == pytest.approx((counts / counts.sum()).tolist()) and math.fsum(got.load) == pytest.approx(1)


@pytest.mark.parametrize("bad", [{"arms": ()}, {"arms": (Arm("magic"),)}, {"rare": 0.0}, {"rare": 1.5}])
def test_bad_settings(bad):
    with pytest.raises(UserError):
        Settings(**bad)


def test_weights_are_those_of_all_arms():
    one = sum(p.numel() for p in DeepseekV3(queues.CONFIG).parameters())
    assert queues.weights(SMALL) == 3 * one
    TrainSettings(bias_speed=max(queues.SPEEDS), balance_loss=max(queues.WEIGHTS))  # every choice can be trained


# -- what the pictures say ---------------------------------------------------------------------------------------------


def record(*losses: list[float]) -> figures.Recorded:
    """Arms "none" whose seeds have these losses."""
    runs = [[{"step": 1, "arms": [{"rest": {"loss": arm[i]}} for arm in losses]}] for i in range(len(losses[0]))]
    return figures.Recorded([Arm("none")] * len(losses), runs)


def test_no_winner_inside_the_spread():
    assert figures.best(record([1.0, 1.1, 1.2], [1.3, 1.4, 1.5], [1.25, 1.6, 1.9]), figures.rest_loss) == 0
    assert figures.best(record([1.0, 1.1, 1.31], [1.3, 1.4, 1.5]), figures.rest_loss) is None
    for first, second, how in (([1, 2], [3, 4], "better"), ([3, 4], [1, 2], "worse"), ([1, 3], [2, 4], "inside")):
        assert how in figures.verdict(record(first, second), figures.rest_loss, 0, 1)


@pytest.mark.parametrize("shares,expected", [([0.5, 0.5], 1), ([0.25] * 4, 2), ([0.1] * 10, 5), ([0.0, 1.0, 0.0], 1)])
def test_how_few_get_half(shares, expected):
    """By counting up from the busiest."""
    assert figures.crowd(shares) == expected
    total, count = 0.0, 0
    for share in sorted(shares, reverse=True):
        if total >= 0.5 - 1e-12:
            break
        total, count = total + share, count + 1
    assert count == expected


def test_live_pictures(small):
    points = [step.point for step in small if step.point]
    made = {plate["id"]: plate for plate in figures.live(points, SMALL, guessed=False)}
    assert not {"loss", "now"} & set(made), "they would answer the question"
    after = {plate["id"]: plate for plate in figures.live(points, SMALL, guessed=True)}
    assert after["now"]["cells"] == [[arm["rare"]["loss"], arm["rest"]["loss"]] for arm in points[-1]["arms"]]
    assert "1%" in after["now"]["note"] and "loss" in after
    usual = figures.unseen(points, replace(SMALL, rare=None))
    assert "1%" not in usual[0]["note"] and figures.unseen(points[:2], SMALL) == []
    for i in range(3):
        line = floats(made["max_vio"]["series"][i]["values"])
        assert line.tolist() == pytest.approx([point["arms"][i]["max_vio"] for point in points], rel=1e-6)
        load = points[-1]["arms"][i]["load"]
        assert values(made[f"load_{i}"]).tolist() == pytest.approx([32 * x / sum(load) for x in load], rel=1e-6)
        assert f"**{sum(x == 0 for x in load)}**" in made[f"load_{i}"]["note"]
        assert f"**{max(load) * 32 / sum(load):.1f}**" in made[f"load_{i}"]["note"]


# -- the page ----------------------------------------------------------------------------------------------------------


def page(lang: str = "en", **query: object) -> AppTest:
    return screens.open_page(PAGE, lang, **query)


def unlinked(said: str) -> str:
    """Without the doors to the glossary."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", said)


def last(kind: str, strength: float | None = None) -> list[dict]:
    """The last point of that arm, of every seed."""
    at = next(i for i, (k, s) in enumerate(FILE["settings"]["arms"]) if k == kind and strength in (None, s))
    return [run["points"][-1]["arms"][at] for run in FILE["runs"]]


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
def test_every_depth(lang, depth):
    at = page(lang, depth=depth)
    assert fine(at) and at.title[0].value == words.say(lang, "queues.title")
    assert bool(at.latex) == (depth == "maths") and bool(at.code) == (depth == "code")
    assert "arms" not in shown(at), "the answer"
    at = skip(at)
    assert fine(at) and {"arms", "balance", "published", "rare_visits", "rare_loss"} <= set(shown(at))
    assert not any("@" in one.value for one in at.latex)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_numbers_in_the_sentences(lang):
    at = skip(page(lang))
    said, made = prose(at), shown(at)
    first = last("none")[0]
    assert f"{max(first['load']):,}" in said and number(max(first["load"]) * 32 / sum(first["load"]), 1) in said
    low = sum(x < sum(first["load"]) / 64 for x in first["load"])
    mean = number(sum(first["load"]) / 32, 0)
    assert words.say(lang, "queues.board.story", busiest=f"{max(first['load']):,}", mean=mean, low=low, rooms=32, interns=96,
                     times=number(max(first["load"]) * 32 / sum(first["load"]), 1), idle=first["dead"], steps=300) in unlinked(said)  # fmt: skip
    wrong = [arm["dead"] for arm in last("wrong")]
    assert f"{sum(wrong) / 3:.0f}" in said
    strong = max(s for kind, s in FILE["settings"]["arms"] if kind == "loss")
    for row, (kind, strength) in enumerate(FILE["settings"]["arms"]):
        seeds = last(kind, strength)
        for cell, get in zip(made["arms"]["cells"][row], ("rest", "max_vio", "dead"), strict=True):
            numbers = [arm[get]["loss"] if get == "rest" else arm[get] for arm in seeds]
            digits = {"rest": 3, "max_vio": 2, "dead": 0}[get]
            said_of = {k: number(v, digits) for k, v in
                       (("middle", sum(numbers) / 3), ("low", min(numbers)), ("high", max(numbers)))}  # fmt: skip
            same = said_of["low"] == said_of["high"]
            assert cell == (said_of["middle"] if same else words.say(lang, "chapter.between", **said_of))
    for kind, other in (("loss", "bias"), ("loss", "none"), ("bias", "none"), ("wrong", "bias")):
        one, two = ([arm["rest"]["loss"] for arm in last(k, strong if k == "loss" else None)] for k in (kind, other))
        how = "above" if min(one) > max(two) else "below" if max(one) < min(two) else "inside"
        gap = number(abs(sum(one) - sum(two)) / 3)
        assert any(gap in line and line.endswith(words.say(lang, f"queues.verdict.{how}", arm="", other="", loss="", than="", gap=gap)[-8:])
                   for line in said.split("\n")), (kind, other)  # fmt: skip


def test_the_published_figures_are_the_reports():
    """arXiv 2412.19437, section 4.5.3."""
    plate = shown(skip(page()))["published"]
    assert plate["labels"] == ["1B", "3B"] and plate["cells"] == [[2.253, 2.258, 2.253], [2.080, 2.085, 2.080]]


def test_the_question():
    at = page()
    losses = [[arm["rest"]["loss"] for arm in last(*arm)] for arm in FILE["settings"]["arms"]]
    clear = [i for i, one in enumerate(losses) if all(max(one) < min(two) for k, two in enumerate(losses) if k != i)]
    names = [b for b in at.button if str(b.key).startswith("predict.queues.best") and not str(b.key).endswith(".skip")]
    assert len(names) == len(losses) + 1
    at = names[clear[0] if clear else -1].click().run()
    assert fine(at) and words.say("en", "chapter.right") in prose(at)


def set_up(at: AppTest) -> Settings:
    """What would be trained."""
    return figures.settings(queues.EXPERIMENT.live, {
        "arms": at.session_state["queues.arms"], **{k: at.session_state[f"queues.{k}"] for k in ("nudge", "aux", "lessons", "rare")}})  # fmt: skip


def test_the_controls_are_in_the_link_and_in_the_run():
    at = page()
    assert set_up(at) == replace(queues.EXPERIMENT.live, rare=None)
    at = at.select_slider(key="queues.nudge").set_value(0.03).run()
    at = at.select_slider(key="queues.aux").set_value(0.001).run()
    at = at.select_slider(key="queues.lessons").set_value(50).run()
    at = at.toggle(key="queues.rare").set_value(True).run()
    at = at.button_group(key="queues.arms").set_value(["none", "wrong", "bias"]).run()
    assert fine(at)
    link = {name: at.query_params[name] for name in ("nudge", "aux", "steps", "rare", "arms")}
    link = {name: value[0] if isinstance(value, list) else value for name, value in link.items()}
    assert link == {"nudge": "300", "aux": "10", "steps": "50", "rare": "1", "arms": "none.wrong.bias"}
    again = page(**link)
    wanted = set_up(again)
    assert wanted.arms == (Arm("bias", 0.03), Arm("none"), Arm("wrong", 0.03))
    assert (wanted.steps, wanted.rare) == (50, 0.01)


@pytest.mark.parametrize("query", [
    {"arms": "nobody.none"}, {"arms": "x" * 50}, {"nudge": "7777"}, {"nudge": "-1"}, {"aux": "99999999"},
    {"steps": "9999"}, {"rare": "2"}, {"seed": "abc"},
], ids=lambda query: "-".join(f"{k}={v}"[:12] for k, v in query.items()))  # fmt: skip
def test_bad_links(query):
    at = page(**query)
    assert fine(at)
    wanted = set_up(at)
    assert wanted.steps <= max(queues.STEPS) and all(arm.kind in queues.KINDS for arm in wanted.arms)


def test_nothing_is_chosen():
    at = page().button_group(key="queues.arms").set_value([]).run()
    assert fine(at) and [arm.kind for arm in set_up(at).arms] == ["bias", "loss", "none"]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_without_its_record_the_page_says_so(lang, monkeypatch, tmp_path):
    from model import labs

    labs.recorded.cache_clear()
    monkeypatch.setattr(labs, "RECORDED", tmp_path)
    at = page(lang)
    labs.recorded.cache_clear()
    assert not at.exception and [one.value.replace("\\", "") for one in at.error] == [words.say(lang, "error.lab_missing")]
    assert any(str(b.key).endswith(".start") for b in at.button), "trained here and now it can be all the same"
