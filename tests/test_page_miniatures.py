"""The miniatures: what was recorded, the rule by which somebody wins, one sentence through all of them, and the page."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, replace
from itertools import islice

import numpy as np
import pytest
import screens
import torch
from helpers import one_sentence
from screens import LANGUAGES, fine, floats, prose, shown, skip
from torch.nn import functional as F

import model
from model import UserError
from model.families import Family
from model.labs import RECORDED, recorded
from model.labs import miniatures as lab
from pages.kit import live, service, state
from pages.kit.figures import miniatures

PAGE = "pages/miniatures.py"
SENTENCE = "Doctor, I have a fever. Doctor, it hurts."
SMALL = lab.Settings(arms=("dense", "v3"), steps=3, rows=2, length=16, documents=1, marks=3)


@pytest.fixture(scope="module")
def file() -> dict:
    return recorded("miniatures")


@pytest.fixture(scope="module")
def found(file) -> miniatures.Recorded:
    return miniatures.recorded(file)


@pytest.fixture
def app(monkeypatch, hospital_folder):
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(hospital_folder))
    return lambda lang="en", **query: screens.open_page(PAGE, lang, **{"s": SENTENCE, **query})


# -- the experiment ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", lab.STYLES + ("no_nurse",))
def test_active_sizes_are_equal(name: str):
    assert lab.parameters(name)[1] == pytest.approx(lab.parameters("v3")[1], rel=0.005)


def test_an_ablation_changes_one_thing():
    v3, alone, coarse = (lab.arm(name).config for name in ("v3", "no_nurse", "coarse"))
    assert lab.arm("auxiliary").config == lab.arm("nothing").config == v3
    assert v3.n_routed_experts + v3.n_shared_experts == alone.n_routed_experts
    assert v3.num_experts_per_tok + v3.n_shared_experts == alone.num_experts_per_tok
    changed = {"n_routed_experts", "num_experts_per_tok", "moe_intermediate_size"}
    assert {k for k, value in vars(coarse).items() if value != vars(alone)[k]} == changed
    for count in ("n_routed_experts", "num_experts_per_tok"):  # as many weights in all, and for one token
        assert getattr(coarse, count) * coarse.moe_intermediate_size == getattr(alone, count) * alone.moe_intermediate_size
    assert 0 < 1 - lab.parameters("coarse")[1] / lab.parameters("no_nurse")[1] < 0.03


def points(settings: lab.Settings, seed: int) -> list[dict]:
    clock = ("cpu_seconds", "milliseconds")
    return [{k: v for k, v in step.point.items() if k not in clock} for step in lab.run(settings, seed) if step.point]


def test_a_run_is_the_same_again_and_an_arm_does_not_mind_the_others():
    together = points(SMALL, 3)
    assert [(p["arm"], p["step"]) for p in together] == [(arm, step) for step in (1, 2, 3) for arm in SMALL.arms]
    assert points(replace(SMALL, arms=("v3",)), 3) == [p for p in together if p["arm"] == "v3"]
    assert points(replace(SMALL, arms=("v3",)), 4) != [p for p in together if p["arm"] == "v3"]


def test_balance_is_counted():
    loads = torch.tensor([[4, 4, 4, 4], [16, 0, 0, 0]])
    assert lab.balance(loads) == (pytest.approx((0 + 3) / 2), 3)
    assert lab.balance(torch.zeros(0, 4)) == (0, 0)


@pytest.mark.parametrize("arm", ["dense", "v3"])
def test_the_first_steps_of_the_record_come_out_again(file, arm: str):
    settings = replace(lab.EXPERIMENT.recorded, arms=(arm,))
    first = settings.due[0]
    now = next(step.point for step in islice(lab.run(settings, 0), first) if step.point)
    then = next(p for run in file["runs"] if run["seed"] == 0 for p in run["points"] if p["arm"] == arm)
    assert now["step"] == then["step"] == first
    for what in ("loss", "heldout"):
        assert now[what] == pytest.approx(then[what], rel=1e-3)


def test_the_record_is_complete(file, found):
    assert len(file["runs"]) >= 3 and [run["seed"] for run in file["runs"]] == list(range(len(file["runs"])))
    assert file["command"].startswith("python -m model lab miniatures") and file["commit"]
    assert file["settings"] == json.loads(json.dumps(asdict(lab.EXPERIMENT.recorded)))
    for run in found.runs:
        for arm in lab.ARMS:
            mine = [point for point in run if point["arm"] == arm]
            assert [point["step"] for point in mine] == lab.EXPERIMENT.recorded.due
            assert all(np.isfinite(point["heldout"]) for point in mine)
            assert mine[-1]["heldout"] < mine[0]["heldout"]
            c = lab.arm(arm).config
            assert mine[-1]["cache_bytes"] == 4 * c.cache_numbers_per_token


@pytest.mark.parametrize("arm", lab.STYLES)
def test_what_is_kept_is_the_model_that_was_recorded(file, arm: str):
    """Read from its FP8 file, a miniature scores as it did when it was kept, and nearly as before."""
    settings, last = lab.EXPERIMENT.recorded, [p for p in file["runs"][0]["points"] if p["arm"] == arm][-1]
    now = lab.examine(lab.open_kept(arm), lab._texts(settings.documents, settings.length))
    assert now["heldout"] == pytest.approx(last["heldout_kept"], abs=1e-3)
    assert last["heldout_kept"] == pytest.approx(last["heldout"], abs=0.05)


def test_the_kept_weights_are_small():
    assert sum(lab.kept(arm).stat().st_size for arm in lab.STYLES) < 6_000_000
    assert all(lab.kept(arm).parent == RECORDED for arm in lab.STYLES)


def test_weights_are_kept_and_opened(tmp_path):
    trained = Family(lab.arm("v3").config).initialise(1)
    path = tmp_path / "one.safetensors"
    lab.save(trained, path)
    opened = lab.open_kept("v3", path)
    for name, tensor in trained.state_dict().items():
        got = opened.state_dict()[name]
        assert float((got - tensor).norm() / (tensor.norm() + 1e-9)) < (0.04 if tensor.dim() > 1 else 1e-9), name
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError) as error:
        lab.open_kept("v3", path)
    one_sentence(error)
    with pytest.raises(UserError):
        lab.open_kept("v3", tmp_path / "none.safetensors")


def test_any_two_fit_into_a_live_run():
    for pair in itertools.combinations(lab.ARMS, 2):
        assert lab.EXPERIMENT.bytes(replace(lab.EXPERIMENT.live, arms=pair)) < live.BYTES


# -- the rule ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values,expected", [
    ({"a": [1, 2, 3], "b": [4, 5, 6]}, ["a"]),
    ({"a": [4, 5, 6], "b": [1, 2, 3]}, ["b"]),
    ({"a": [1, 2, 3], "b": [3, 4, 5]}, ["a", "b"]),  # they touch
    ({"a": [1, 2, 3], "b": [2, 2, 2.1], "c": [9, 9, 9]}, ["a", "b"]),
    ({"a": [2, 2, 2], "b": [1, 1, 7], "c": [3, 3, 3]}, ["a", "b"]),  # b's mean is 3
    ({"a": [1]}, ["a"]),
])  # fmt: skip
def test_nobody_wins_inside_the_spread(values, expected):
    assert lab.leaders(values) == expected


def test_the_verdict_is_what_the_record_says(found):
    """By hand: sorted runs of all four in one list."""
    runs = sorted((loss, arm) for arm in lab.STYLES for loss in found.last(arm))
    seeds = len(found.runs)
    clean = len({arm for _, arm in runs[:seeds]}) == 1
    kind, words = miniatures.verdict(found, lab.STYLES)
    assert (kind == "one") == clean
    lowest = min(lab.STYLES, key=lambda arm: sum(found.last(arm)))
    worst = max(found.last(lowest))
    same = {arm for arm in lab.STYLES if arm == lowest or min(found.last(arm)) <= worst}
    assert set(found.leaders(lab.STYLES)) == same
    assert all((miniatures.name(arm) in words["best"]) == (arm in same) for arm in lab.STYLES)
    assert f"{np.mean(found.last(lowest)):.3f}" in words["loss"]


@pytest.mark.parametrize("first,second,kind", [([1, 2], [3, 4], "below"), ([3, 4], [1, 2], "above"), ([1, 3], [2, 4], "inside")])
def test_a_pair(first, second, kind):
    made = [[{"arm": "v3", "heldout": a}, {"arm": "no_nurse", "heldout": b}] for a, b in zip(first, second, strict=True)]
    got, words = miniatures.pair(miniatures.Recorded(made, 64), "v3", "no_nurse")
    assert got == kind and float(words["gap"]) == abs(np.mean(first) - np.mean(second))


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_the_table_of_shapes():
    plate = miniatures.built(lab.STYLES)
    for row, arm in zip(plate["cells"], lab.STYLES, strict=True):
        built = Family(lab.arm(arm).config)
        assert row[-2] == sum(tensor.numel() for tensor in built.state_dict().values())
        assert row[2] == (built.layers[-1].mlp.experts.down.shape[1] if built.c.num_moe_layers
                          else built.layers[-1].mlp.down_proj.weight.shape[1])  # fmt: skip


@pytest.mark.parametrize("arm", lab.ARMS)
def test_training_arithmetic_counted_on_the_model(arm: str):
    """Six for each weight of a matrix that works, and attention over half the sequence, both ways."""
    c, length = lab.arm(arm).config, 64
    working = 0.0
    for name, p in Family(c).named_parameters():
        if p.dim() < 2 or name.startswith("embed"):
            continue
        share = 1.0
        if name.endswith(("experts.gate_up", "experts.down")):
            share = (c.num_experts_per_tok + c.n_shared_experts) / p.shape[0]
        working += share * p.numel()
    attention = c.num_attention_heads * (c.qk_head_dim + c.v_head_dim) * sum(range(1, length + 1)) / length * c.num_hidden_layers
    assert miniatures.flops(arm, length) == pytest.approx(6 * (working + attention))


def test_curves_are_the_record(found):
    plate = miniatures.over_tokens(found, lab.STYLES)
    for line, arm in zip(plate["series"], lab.STYLES, strict=True):
        last = found.last(arm)
        assert floats(line["values"])[-1] == pytest.approx(sum(last) / len(last))
        assert (floats(line["low"])[-1], floats(line["high"])[-1]) == pytest.approx((min(last), max(last)))
        assert f"{sum(last) / len(last):.2f}" in plate["note"]
    cheapest = min(lab.STYLES, key=lambda arm: miniatures.flops(arm, found.length))
    over = miniatures.over_flops(found, lab.STYLES)
    line = over["series"][lab.STYLES.index(cheapest)]
    assert floats(line["values"]) == pytest.approx(found.over_seeds(cheapest, "heldout").mean(0), rel=1e-5)
    late = miniatures.over_tokens(found, lab.STYLES, first=found.late)
    assert found.tokens[found.late - 1] < found.tokens[-1] / 3 <= found.tokens[found.late]
    assert late["axes"][0]["count"] == len(floats(late["series"][0]["values"])) == len(found.tokens) - found.late
    for arm, line in zip(lab.STYLES, over["series"], strict=True):  # a dearer one has read less for as much arithmetic
        mine = found.over_seeds(arm, "heldout").mean(0)
        assert (floats(line["values"])[1:] >= mine[1:] - 1e-4).all()


def test_ranks_have_their_whiskers(found):
    changed = ("v3", *lab.ABLATIONS)
    plate = miniatures.ranking(found, changed)
    assert plate["values_list"] == sorted(plate["values_list"]) and plate["dots"]
    for middle, low, high in zip(plate["values_list"], plate["low_list"], plate["high_list"], strict=True):
        assert plate["domain"][0] < low <= middle <= high < plate["domain"][1]


def test_a_live_curve_shows_only_what_both_have():
    made = [{"arm": arm, "tokens": n, "heldout": 9.0 - n, "max_vio": 1.0} for n in (1, 2, 3) for arm in ("dense", "v3")]
    drawn = miniatures.live(made[:-1], SMALL)
    assert [plate["axes"][0]["count"] for plate in drawn] == [2, 2]
    assert len(drawn[0]["series"]) == 2 and len(drawn[1]["series"]) == 1  # the dense one has no queues
    assert miniatures.live(made[:2], SMALL) == miniatures.live([], SMALL) == []


# -- one sentence ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def visit(hospital_folder):
    house = service.Hospital(model.load(hospital_folder))
    return screens.visit(house, "miniatures", SENTENCE, 5, 1)


def test_the_sentence_really_goes_through_them(visit):
    found, at = miniatures.through(visit)
    assert at == visit.token and found.length == len(visit.trace.ids)
    for i, arm in enumerate(lab.STYLES):
        opened = lab.open_kept(arm)
        with torch.no_grad():
            states, _, routings = opened(torch.tensor([visit.trace.ids]))
            p = F.linear(states[0, at], opened.lm_head.weight).softmax(-1)
        assert int(found.ids[i, at, 0]) == int(p.argmax())
        assert float(found.probabilities[i, at, 0]) == pytest.approx(float(p.max()), rel=1e-4)
        called = sum(len(set(r.chosen.flatten().tolist())) for r in routings)
        c = opened.c
        there = c.num_moe_layers * c.n_routed_experts
        each = 3 * c.hidden_size * c.moe_intermediate_size
        rows = len(set(visit.trace.ids)) * c.hidden_size
        rest = sum(t.numel() for name, t in opened.state_dict().items() if name != "embed_tokens.weight")
        assert found.touched[i] == rest - (there - called) * each + rows
        assert found.milliseconds[i] > 0
    assert miniatures.through(visit)[0] is found, "computed once"


def test_another_tokenizer_is_no_trouble(visit):
    other = replace(visit, sentence=SENTENCE + " And more.")
    assert miniatures.through(other)[1] == miniatures.through(other)[0].length - 1


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
def test_every_depth(app, lang, depth):
    at = app(lang, depth=depth)
    assert fine(at), (at.exception, at.error)
    assert "miniatures.curves.reached" not in shown(at), "the answer waits for the guess"
    assert "{" not in prose(at)
    at = skip(at)
    assert fine(at)
    assert {"miniatures.curves.reached", "miniatures.changed.ranking", "miniatures.sentence.costs"} <= set(shown(at))
    if depth == "code":
        assert any("class Family" in block.value for block in at.code)


def test_the_guess_is_judged_by_the_record(app, found):
    at = app()
    leaders = found.leaders(lab.STYLES)
    right = lab.STYLES.index(leaders[0]) if len(leaders) == 1 else len(lab.STYLES)
    button = [b for b in at.button if str(b.key).startswith("predict.miniatures.best")][right]
    assert "Right" in prose(button.click().run())


def test_following_another_token_changes_what_is_expected(app):
    before, after = (shown(app(token=token))["miniatures.sentence.next_dense"] for token in (2, 6))
    assert before["values_list"] != after["values_list"]


@pytest.mark.parametrize("arms,expected", [
    ("mixtral.nothing", ("mixtral", "nothing")), ("v3.v3", ("dense", "v3")), ("v3", ("dense", "v3")),
    ("loss.bias", ("dense", "v3")), ("grok.v3.dense", ("dense", "v3")), ("", ("dense", "v3")),
])  # fmt: skip
def test_the_link_chooses_two(app, arms, expected):
    at = app(arms=arms)
    assert fine(at) and tuple(box.value for box in at.selectbox) == expected


def test_choosing_goes_into_the_link(app):
    at = app()
    at.selectbox[0].select("coarse").run()
    assert fine(at) and at.query_params["arms"] in ("coarse.v3", ["coarse.v3"])


def test_two_choices_before_a_page_is_drawn_again(app):
    at = app()
    at.selectbox[0].set_value("coarse")
    at.selectbox[1].set_value("mixtral")
    at.run()
    assert fine(at) and at.query_params["arms"] in ("coarse.mixtral", ["coarse.mixtral"])


def test_no_record_is_one_sentence(app, monkeypatch, tmp_path):
    import model.labs

    recorded.cache_clear()
    monkeypatch.setattr(model.labs, "RECORDED", tmp_path)
    at = app()
    recorded.cache_clear()
    assert not at.exception and len(at.error) == 1
    assert any(str(b.key).endswith(".start") for b in at.button), "trained here and now it can be all the same"
