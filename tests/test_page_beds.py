"""Beds: bytes of real tensors, the store, fewer bits and what was recorded of them, counted again; and the page."""

from __future__ import annotations

import math
import re
import time
from collections import OrderedDict
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import screens
import torch
from screens import LANGUAGES, fine, floats, prose, shown, skip, values

import model
from model import catalogue, checkpoint, labs, storage
from model.deepseek_v3 import DecoderLayer, DeepseekV3
from model.engine import Engine
from model.labs import beds as lab
from model.labs import rounding as rounding_lab
from model.study import weights_sum
from pages.kit import chapter, service, state, words
from pages.kit import live as live_runs
from pages.kit.figures import beds, rounding

PAGE = "pages/beds.py"
SENTENCE = "Doctor, I have a fever. Doctor, it hurts."
SHIPPED = Path(__file__).resolve().parents[1] / "assets" / "hospital"


@pytest.fixture(scope="module")
def live(hospital_folder) -> model.LiveModel:
    return model.load(hospital_folder)


@pytest.fixture(scope="module")
def clinic(clinic_folder) -> service.Hospital:
    return service.Hospital(model.load(clinic_folder))


@pytest.fixture
def app(monkeypatch, hospital_folder):
    """A visitor who opens the page by its link."""
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(hospital_folder))

    def open_page(lang: str = "en", checkpoint: Path | None = None, **query: object):
        if checkpoint is not None:
            monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(checkpoint))
        return screens.open_page(PAGE, lang, **{"s": SENTENCE, **query})

    return open_page


# -- bytes -------------------------------------------------------------------------------------------------------------


def test_every_byte_of_the_live_model_is_held_once(live):
    network = live.engine.model
    held = storage.held(network)
    assert sum(held.values()) == sum(t.numel() * t.element_size() for t in network.state_dict().values())
    c = live.config
    one = 3 * c.hidden_size * c.moe_intermediate_size * 4
    assert storage.expert_bytes(network) == one and held["interns"] == 58 * 256 * one and held["nurse"] == 58 * one


def test_used_bytes(live):
    """For one token 464 interns of 12,288 bytes and one row of the embedding; for all, each counted once."""
    trace, held = live.trace(SENTENCE), storage.held(live.engine.model)
    one, all_of_it = storage.used(live.engine.model, trace, 3), storage.used(live.engine.model, trace)
    assert one["interns"] == 464 * 12_288 and one["embedding"] == 64 * 4 and one["mtp"] == 0
    woken = {(m, e) for m, floor in enumerate(trace.chosen.tolist()) for token in floor for e in token}
    assert all_of_it["interns"] == len(woken) * 12_288
    assert all_of_it["embedding"] == len(set(trace.ids)) * 256
    for name in ("nurse", "gates", "attention", "desk", "head", "norms"):
        assert one[name] == all_of_it[name] == held[name]


def test_the_published_file_to_the_last_number():
    """README_WEIGHTS and the index of deepseek-ai/DeepSeek-V3, summed by dtype: see the reference, section 2.10."""
    a = catalogue.find("deepseek-v3").architecture
    file = storage.published_checkpoint(a)
    assert file == (680_571_043_840, 3_918_786_560, 41_555_600)
    assert sum(storage.published_held(a).values()) == file.bytes == 688_574_839_360
    assert storage.expert_fp8_bytes(a) == 44_040_192 + 4 * 3 * 56 * 16
    used, held = storage.published_used(a), storage.published_held(a)
    assert used["interns"] * 256 == held["interns"] * 8 and used["embedding"] == 2 * 7168


# -- the store ---------------------------------------------------------------------------------------------------------


def slow_store(chosen: np.ndarray, kept: int) -> list[int]:
    """Loads of each token, with real stores: one ordered list a floor."""
    shelves = [OrderedDict() for _ in chosen]
    loads = [0] * chosen.shape[1]
    for token in range(chosen.shape[1]):
        for shelf, floor in zip(shelves, chosen, strict=True):
            loads[token] += sum(int(e) not in shelf for e in floor[token])
            for e in floor[token][::-1]:
                shelf.pop(int(e), None)
                shelf[int(e)] = True
            while len(shelf) > kept:
                shelf.popitem(last=False)
    return loads


@pytest.mark.parametrize("kept", [4, 5, 9, 16, 32])
def test_the_store_against_real_stores(kept):
    rng = np.random.default_rng(kept)
    chosen = np.stack([[rng.permutation(32)[:4] for _ in range(40)] for _ in range(3)])
    age = storage.ages(chosen, 32)
    assert storage.loads(age, kept).tolist() == slow_store(chosen, kept)
    rate = storage.hit_rates(age, 32)
    assert rate[kept] == pytest.approx(1 - sum(slow_store(chosen, kept)) / chosen.size)
    assert (np.diff(rate) >= 0).all(), "a larger store never has less"
    shelf = storage.Shelf(3, 32)
    assert (np.concatenate([shelf.read(chosen[:, :17]), shelf.read(chosen[:, 17:])], 1) == age).all(), "it goes on"


def test_the_store_of_this_sentence(live):
    chosen = live.trace(SENTENCE).chosen.numpy()
    age = storage.ages(chosen, 256)
    for kept in (8, 40, 256):
        assert storage.loads(age, kept).tolist() == slow_store(chosen, kept)
    assert storage.loads(age, 256).sum() == live.trace(SENTENCE).experts_touched, "who is never sent away is fetched once"
    assert (lab.first_called(chosen, 256) == storage.loads(age, 256)).all()


# -- fewer bits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", storage.FORMATS)
def test_rounding_number_by_number(name):
    how = storage.FORMATS[name]
    weight = torch.randn(3, 70, generator=torch.Generator().manual_seed(1))
    rounded, most = how.round(weight), 2 ** (how.bits - 1) - 1
    for row, out in zip(weight, rounded, strict=True):
        for at in range(0, 70, 32):
            group, got = row[at : at + 32], out[at : at + 32]
            scale = float((group.abs().max() / most).bfloat16())
            for x, y in zip(group.tolist(), got.tolist(), strict=True):
                assert y / scale == pytest.approx(round(y / scale), abs=1e-4) and abs(y) <= most * scale * 1.0001
                assert abs(x - y) <= scale * (0.5 + most / 256) + 1e-7, "half a step, and what the scale itself lost"
    assert len(rounded.unique()) <= 3 * 3 * (2 * most + 1)
    assert how.bytes_per_weight == how.bits / 8 + 1 / 16
    assert (how.round(torch.zeros(2, 32)) == 0).all()


def test_what_is_shipped_in_fp8_comes_back_as_it_is(live):
    layer = live.engine.model.layers[9]
    for name, weight in storage.matrices(layer):
        if ".experts." not in name:
            assert torch.equal(storage.fp8_round(weight.data), weight.data), name
    gate = layer.mlp.gate.weight
    assert not torch.equal(storage.fp8_round(gate.data), gate.data), "gates are kept in fp32"


def test_a_rounded_pass_touches_nothing_and_is_the_rounded_model(clinic):
    """Against a whole model rounded in place."""
    engine, ids, how = clinic.live.engine, clinic.live.encode(SENTENCE), storage.FORMATS["int3"]
    before = {name: t.clone() for name, t in engine.model.state_dict().items()}
    plain = engine.trace(ids)
    for layers, what in (((2,), "all"), (range(4), "all"), (range(1, 4), "interns")):
        trace, error = storage.rounded_trace(engine, ids, layers, how, what)
        other = DeepseekV3(engine.c)
        other.load_state_dict(before)
        lost = size = numbers = 0.0
        for index in layers:
            layer = other.layers[index]
            assert isinstance(layer, DecoderLayer)
            storage.round_layer(layer, how.round, what)
        for name, old in before.items():
            gap = (old.double() - other.state_dict()[name].double()).square().sum()
            lost += float(gap)
        for index in layers:
            for name, weight in storage.matrices(engine.model.layers[index]):
                part = weight[: engine.c.n_routed_experts] if what == "interns" else weight
                if what == "all" or ".experts." in name:
                    size, numbers = size + float(part.detach().double().square().sum()), numbers + part.numel()
        assert error.numbers == numbers and error.relative == pytest.approx(math.sqrt(lost / size), rel=1e-5)
        assert (Engine(other).trace(ids).logits - trace.logits).abs().max() < 1e-5
        assert not torch.equal(trace.logits, plain.logits)
    assert all(torch.equal(t, before[name]) for name, t in engine.model.state_dict().items())
    assert torch.equal(engine.trace(ids).logits, plain.logits)


# -- what was recorded -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def record() -> dict:
    return labs.recorded("beds")


def test_the_record_says_how_it_was_made(record):
    assert record["command"].startswith("python -m model lab beds") and len(record["commit"]) >= 12
    assert record["settings"] == {f: getattr(lab.EXPERIMENT.recorded, f) for f in record["settings"]}
    for number, run in enumerate(record["runs"]):
        assert run["seed"] == number
        assert run["points"][0]["checkpoint"] == weights_sum(SHIPPED)
        found = [(p["format"], p["what"]) for p in run["points"][2:]]
        assert found == list(lab.VARIANTS)


def test_the_smallest_part_is_the_same_when_done_again(record):
    """The first tokens of seed 0's texts: who is called first, and so the start of the recorded curve. And what
    rounding lost, for one format."""
    first = record["runs"][0]["points"]
    texts = lab.texts(0, lab.EXPERIMENT.recorded.documents)
    assert len(texts) == first[1]["texts"] and sum(len(ids) - 1 for ids in texts) == first[1]["tokens"]
    network = checkpoint.load(SHIPPED)
    each = lab.choices(network, texts[:12])
    again, recorded = lab.woken(each, 256), first[1]["woken"]
    marks = [m for m in again["tokens"][:-1] if m in recorded["tokens"]]
    assert len(marks) > 5
    for mark in marks:
        old, new = (one["share"][one["tokens"].index(mark)] for one in (recorded, again))
        assert new == pytest.approx(old, abs=2e-3), "one choice in ten thousand may differ with the threads"
    gate = next(p for p in first if (p.get("format"), p.get("what")) == ("fp8", "ends"))
    assert lab.rounded("fp8", "ends")[1]["error"] == pytest.approx(gate["error"], rel=1e-4)


def test_the_record_hangs_together(record):
    for run in record["runs"]:
        plain, routing, *formats = run["points"]
        store, woken = routing["store"], routing["woken"]["share"]
        for rates in store.values():
            assert len(rates) == 257 and rates == sorted(rates) and 0 <= rates[0] <= rates[-1] <= 1
        assert all(k >= f - 1e-9 for k, f in zip(store["kept"], store["fresh"], strict=True))
        loads = (1 - store["kept"][256]) * routing["tokens"] * 58 * 8
        assert loads == pytest.approx(woken[-1] * 58 * 256, rel=1e-3), "with room for all, each is fetched once"
        for point in formats:
            assert point["change"] == pytest.approx(point["loss"] - plain["loss"], abs=1e-4)
            assert point["low"] <= point["change"] <= point["high"]


def test_change_of_loss_is_paired_by_place():
    from model.evaluate import Scores

    before = Scores(np.array([0, 0, 1]), np.array([1.0, 2.0, 4.0]), np.array([0, 1, 0]))
    after = Scores(np.array([1, 0, 0]), np.array([5.0, 1.5, 2.0]), np.array([0, 0, 0]))
    found = lab.compare(before, after, 200, 0)
    assert found["change"] == pytest.approx(1.5 / 3) and found["top1"] == 1.0
    assert found["low"] == pytest.approx(0.25) and found["high"] == pytest.approx(1.0)


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
def test_every_depth(app, clinic_folder, lang, depth):
    at = app(lang, clinic_folder, depth=depth)
    assert fine(at) and at.title[0].value == words.say(lang, "beds.title")
    assert bool(at.latex) == (depth == "maths") and bool(at.code) == (depth == "code")
    assert "beds.store.loads" not in shown(at)
    assert fine(skip(at)) and "beds.store.loads" in shown(at)
    assert not any("@" in one.value for one in at.latex)
    if depth == "maths":  # what is taken away from what, as it is printed, gives what is printed
        rounded, plain, sign, cost = re.search(r"([\d.]+) - ([\d.]+) (=|\\approx) ([\d.]+) ", at.latex[-1].value).groups()
        assert (sign == "=") == (round(float(rounded) - float(plain), rounding.DIGITS) == float(cost))


@pytest.mark.parametrize("query", [
    {"s": "面"}, {"s": "面" * model.MAX_TOKENS}, {"token": 0}, {"kept": 1}, {"kept": 9999},
    {"bits": "int2", "coarse": "house"}, {"bits": "int5", "coarse": "garden"}, {"s": "👩‍👩‍👧 **x** $y$ {0}"},
], ids=["one token", "256 tokens", "door", "too few", "too many", "all", "nonsense", "odd"])  # fmt: skip
def test_edges(app, clinic_folder, query):
    at = app("zh", clinic_folder, **query)
    assert fine(at) and fine(skip(at))
    assert all(not np.isinf(values(plate)).any() for plate in shown(at).values() if "values" in plate)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_numbers_in_the_sentences(app, live, lang):
    at = skip(app(lang, token=6, floor=20, kept=24))
    said, made, trace, n = prose(at), shown(at), live.trace(SENTENCE), chapter.number
    woken = {(m, e) for m, floor in enumerate(trace.chosen.tolist()) for token in floor for e in token}
    empty = 58 * 256 - len(woken)
    assert f"{empty:,}" in said and f"{empty / 14848:.1%}" in said
    here = 256 - len({e for m, e in woken if m == 16})
    assert str(here) in made["beds.empty.house"]["note"]
    assert np.isnan(values(made["beds.empty.house"])).sum() == empty

    earlier = {(m, e) for m, floor in enumerate(trace.chosen.tolist()) for token in floor[:6] for e in token}
    new = sum((m, e) not in earlier for m, floor in enumerate(trace.chosen.tolist()) for e in floor[6])
    assert words.say(lang, "beds.fetch.answer", token=beds_name(made, 6), calls=464, fresh=new) in said
    loads = slow_store(trace.chosen.numpy(), 24)
    assert values(made["beds.store.loads"]).tolist() == loads
    assert f"{1 - sum(loads) / (464 * len(loads)):.1%}" in said and n(sum(loads) / len(loads), digits=1) in said
    moved = 464 * sum(loads) / (464 * len(loads)) * (44_040_192 + 10_752)
    cells = made["beds.store.roads"]["cells"]
    assert cells[0][0] == 50 and cells[0][2] == pytest.approx(moved / 50e9 * 1e3) and cells[0][1] == pytest.approx(464 * 44_050_944 / 50e9 * 1e3)


def beds_name(made: dict, token: int) -> str:
    return chapter.bare(made["beds.who.tokens_token"]["tokens"][token]["text"])


def test_the_table_of_bytes(app, live):
    made = shown(app(token=6))["beds.bytes.parts"]
    held = storage.held(live.engine.model)
    used = storage.used(live.engine.model, live.trace(SENTENCE), 6)
    for row, name in zip(made["cells"], storage.PLACES, strict=False):
        assert row[:2] == pytest.approx([held[name] / 1e6, used[name] / 1e6])
    assert made["cells"][-1][0] == pytest.approx(sum(held.values()) / 1e6)
    assert made["cells"][-1][3] == pytest.approx(688.574839360)


def test_fewer_bits_on_the_page(app, live):
    at = app(token=6, floor=20, bits="int2", coarse="floor")
    trace, error = storage.rounded_trace(live.engine, live.encode(SENTENCE), [19], storage.FORMATS["int2"])
    made = shown(at)
    best = trace.probabilities(6).topk(5)
    assert made["beds.fewer.next"]["values_list"] == pytest.approx(best.values.tolist(), abs=1e-6)
    old = live.trace(SENTENCE).probabilities(6)[best.indices].tolist()
    assert made["beds.fewer.next"]["before_list"] == pytest.approx(old, abs=1e-6)
    assert made["beds.fewer.coarse"]["facts"][0]["value"] == f"{error.relative:.2%}" and f"{error.relative:.2%}" in prose(at)
    at.segmented_control(key="beds.bits").set_value("int8").run()
    assert fine(at) and at.query_params["bits"] == "int8"
    assert shown(at)["beds.fewer.coarse"]["facts"][0]["value"] != made["beds.fewer.coarse"]["facts"][0]["value"]


def test_the_question(app, live):
    chosen = live.trace(SENTENCE).chosen.numpy()
    share = slow_store(chosen, 256)[6] / 464
    right = beds.QUARTERS[min(int(4 * share), 3)]
    at = app(token=6)
    next(b for b in at.button if b.label == words.say("en", f"beds.fetch.{right}")).click().run()
    assert fine(at) and words.say("en", "chapter.right") in prose(at)


def test_recorded_curves_are_shown_of_the_recorded_model_only(app, record, clinic_folder):
    made = shown(skip(app(kept=24)))
    rates = [floats(one["values"]) for one in made["beds.store.rates"]["series"]]
    runs = [next(p for p in run["points"] if p["kind"] == "routing") for run in record["runs"]]
    assert rates[1] == pytest.approx(np.mean([run["store"]["fresh"][8:] for run in runs], 0), abs=1e-6)
    assert rates[2] == pytest.approx(np.mean([run["store"]["kept"][8:] for run in runs], 0), abs=1e-6)
    cells = made["beds.fewer.ladder"]["cells"]
    change = [p["change"] for run in record["runs"] for p in run["points"] if (p.get("format"), p.get("what")) == ("int2", "all")]
    assert chapter.number(sum(change) / len(change), digits=4) in cells[4][3]
    other = shown(skip(app("en", clinic_folder)))
    assert "beds.fewer.ladder" not in other and "beds.growth.long_run" not in other
    assert len(other["beds.store.rates"]["series"]) == 2


# -- trained in front of the class -------------------------------------------------------------------------------------


def test_a_copy_is_rounded_and_the_model_is_not():
    """Only the routed experts, number by number, and what was trained stays as it is and can be trained on."""
    network = DeepseekV3(rounding_lab.CONFIG).initialise(3)
    before = {name: one.clone() for name, one in network.state_dict().items()}
    rows = rounding_lab.unseen(32, 2, 8)
    assert rows.shape[1] == 32 and 1 <= len(rows) <= 8
    found = rounding_lab.measure(network, rows)
    assert all(torch.equal(one, before[name]) for name, one in network.state_dict().items())
    other, error = rounding_lab.rounded(network, "int2")
    lost = size = 0.0
    for name, one in other.state_dict().items():
        if ".experts." in name:
            count = rounding_lab.CONFIG.n_routed_experts
            assert torch.equal(one[count:], before[name][count:]), "the nurse's bed is as it was"
            assert torch.equal(one[:count], storage.FORMATS["int2"].round(before[name][:count])), name
            lost += float((one - before[name]).double().square().sum())
            size += float(before[name][:count].double().square().sum())
        else:
            assert torch.equal(one, before[name]), name
    assert error == pytest.approx(math.sqrt(lost / size), rel=1e-5) == pytest.approx(found["error"]["int2"])
    assert found["rounded"]["int2"] == pytest.approx(rounding_lab.loss(other, rows)) != found["plain"]
    with torch.no_grad():
        states = network(rows)[0][:, :-1]
        logits = network.lm_head(states).log_softmax(-1)
    assert found["plain"] == pytest.approx(float(-logits.gather(-1, rows[:, 1:, None]).mean()), rel=1e-4)


def test_when_it_is_measured():
    """Often at first, never among the trial steps, always at the end."""
    assert rounding_lab.Settings(steps=400).due[0] == 13 and rounding_lab.Settings(steps=400).due[-1] == 400
    for steps in rounding_lab.STEPS:
        due = rounding_lab.Settings(steps=steps).due
        assert due[0] > live_runs.TRIAL and due[-1] == steps and due == sorted(set(due))
    assert rounding_lab.Settings(steps=4).due == [4]
    with pytest.raises(model.UserError):
        rounding_lab.Settings(rows=0)


def test_the_first_steps_of_the_recorded_training_come_out_again():
    """The untrained model and the first point after it, of seed 0."""
    pairs = labs.replay("rounding", 13)
    assert [new["step"] for _, new in pairs] == [0, 13]
    for old, new in pairs:
        assert new["plain"] == pytest.approx(old["plain"], rel=2e-4)
        for kind in rounding_lab.ROUNDERS:
            assert new["error"][kind] == pytest.approx(old["error"][kind], rel=2e-3)
            cost = old["rounded"][kind] - old["plain"]
            assert new["rounded"][kind] - new["plain"] == pytest.approx(cost, abs=2e-3)


@pytest.fixture(scope="module")
def trained() -> dict:
    return labs.recorded("rounding")


def test_the_recorded_training_says_how_it_was_made(trained):
    assert trained["command"] == "python -m model lab rounding" and not trained["commit"].endswith("+")
    assert trained["settings"] == asdict(rounding_lab.EXPERIMENT.recorded)
    assert [run["seed"] for run in trained["runs"]] == list(rounding_lab.EXPERIMENT.seeds)
    for run in trained["runs"]:
        assert [point["step"] for point in run["points"]] == [0, *rounding_lab.EXPERIMENT.recorded.due]
        for kind in rounding_lab.ROUNDERS:  # as the page says below its table
            lost = [point["error"][kind] for point in run["points"]]
            assert max(lost) < 1.03 * min(lost)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_recorded_training_on_the_page(app, clinic_folder, trained, lang):
    """Means, bands and verdicts, worked out from the file again."""
    at = app(lang, clinic_folder)
    made, said, n = shown(at), prose(at), chapter.number
    runs = [run["points"] for run in trained["runs"]]
    cost = {kind: np.array([[p["rounded"][kind] - p["plain"] for p in run] for run in runs]) for kind in rounding_lab.ROUNDERS}
    for series, (kind, each) in zip(made["beds.trained.trained_cost"]["series"], cost.items(), strict=True):
        assert series["label"] == words.say(lang, f"beds.trained.kind.{kind}")
        for name, wanted in (("values", each.mean(0)), ("low", each.min(0)), ("high", each.max(0))):
            assert floats(series[name]) == pytest.approx(wanted, abs=1e-6)
    plain = np.array([[p["plain"] for p in run] for run in runs])
    assert floats(made["beds.trained.trained_loss"]["series"][0]["values"]) == pytest.approx(plain.mean(0), rel=1e-6)
    for row, each in zip(made["beds.trained.rounding"]["cells"], cost.values(), strict=True):
        for cell, at_step in ((row[2], 1), (row[3], -1)):
            ends = each[:, at_step]
            assert all(n(round(float(x), 4) + 0, digits=4) in cell for x in (ends.mean(), ends.min(), ends.max()))
            assert "−0.0000" not in cell
    worst = cost["int2"]
    verdict = "grows" if worst[:, -1].min() > worst[:, 1].max() else "shrinks" if worst[:, -1].max() < worst[:, 1].min() else "inside"
    assert words.table(lang)[f"beds.trained.change.{verdict}"].split("{")[0] in said
    steps = [round(float(x), 4) for x in np.stack([one[:, -1] for one in cost.values()]).flatten()]
    size = len(runs)
    grouped = [steps[i : i + size] for i in range(0, len(steps), size)]
    rising = all(min(b) > max(a) for a, b in zip(grouped, grouped[1:], strict=False))
    assert words.say(lang, f"beds.trained.order.{'kept' if rising else 'lost'}") in said
    assert trained["commit"] in " ".join(one.value for one in at.caption)


def test_verdicts_where_nothing_can_be_told():
    """No winner inside the spread: costs that differ in sign are no cost, and ranges that overlap no change."""
    def runs(*ends: float) -> list[list[dict]]:
        kinds = list(rounding_lab.ROUNDERS)
        return [[{"step": step, "plain": 2.0, "rounded": dict.fromkeys(kinds, 2.0 + (end if step else 0)), "error": {}}
                 for step in (0, 5, 9)] for end in ends]  # fmt: skip

    assert rounding.coarsest(runs(0.1, -0.1)) == "int2" and not rounding.ordered(runs(0.1, 0.2))
    assert rounding.coarsest(runs(0.1, 0.2)) == "plain" and rounding.coarsest(runs(0.1, 0.00001)) == "int2", "as shown"
    with words.speaking("en"):
        first, order, change = rounding.verdict(runs(0.1, -0.1))
    assert first == words.say("en", "beds.trained.free.all", last=9, seeds=2, kind="2 bits")
    assert order == words.say("en", "beds.trained.order.lost") and "overlap" in change


def test_a_live_training_to_its_end(app, clinic_folder, monkeypatch):
    lang = "zh"
    small = replace(rounding_lab.EXPERIMENT.live, rows=2, length=16, heldout_rows=4, documents=1)
    monkeypatch.setattr(rounding_lab, "EXPERIMENT", replace(rounding_lab.EXPERIMENT, live=small))
    at = app(lang, clinic_folder, steps=20, seed=6)
    next(b for b in at.button if b.label == words.say(lang, "live.start")).click().run()
    job = at.session_state["live.rounding."]
    until = time.monotonic() + 60
    while not any(one.label == words.say(lang, "live.again") for one in at.button) and time.monotonic() < until:
        time.sleep(0.1)
        at.run()
    assert fine(at) and job.state == "done" and job.seed == 6 and job.settings.steps == 20
    drawn = shown(at)["beds.live.live_cost"]
    assert drawn["axes"][0]["labels"] == [str(point["step"]) for point in job.points] and "low" not in drawn["series"][0]
    got = floats(drawn["series"][-1]["values"])
    assert got == pytest.approx([p["rounded"]["int2"] - p["plain"] for p in job.points], abs=1e-6)


def test_a_missing_training_record_is_said(app, clinic_folder, monkeypatch, tmp_path):
    labs.recorded.cache_clear()
    monkeypatch.setattr(labs, "RECORDED", tmp_path)
    at = app("en", clinic_folder)
    labs.recorded.cache_clear()
    assert not at.exception and len(at.error) == 1 and "beds.fewer.coarse" in shown(at)
    assert any(str(b.key).endswith(".start") for b in at.button), "trained here and now it can be all the same"
