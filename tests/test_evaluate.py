"""Evaluation: its figures are what slow and direct computation gives, and the card prints them all."""

import json
import math
import re
from functools import cache

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from model import ModelConfig, checkpoint, data, evaluate
from model.baselines import KneserNey, dense_config
from model.corpus import EXAMPLES, heldout
from model.deepseek_v3 import DeepseekV3
from model.engine import Engine
from model.generate import generate
from model.live import LiveModel
from model.tokenizer import PATH, Tokenizer
from model.train import Run, TrainSettings

CLINIC = ModelConfig.preset("clinic")
TOKENIZER = Tokenizer.load()
DOCUMENTS = heldout(1)
TEXTS = evaluate.encode(TOKENIZER, DOCUMENTS, 1024)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """So small a model gains nothing from a second thread, and on a busy machine it would wait for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def one_example(monkeypatch):
    """One offered text instead of twelve: generating takes most of an evaluation's time."""
    monkeypatch.setattr(evaluate, "EXAMPLES", {"zh": EXAMPLES["zh"][:1]})


@cache
def clinic(dense: bool = False) -> DeepseekV3:
    model = DeepseekV3(dense_config(CLINIC) if dense else CLINIC).initialise(3)
    generator = torch.Generator().manual_seed(4)
    for router in model.routers():
        router.e_score_correction_bias.normal_(0, 0.05, generator=generator)
    return model.eval().requires_grad_(False)


@cache
def reading() -> evaluate.Reading:
    return evaluate.read(clinic(), TEXTS)


@cache
def results() -> dict:
    rows = np.array([(text * 20)[:64] for text in TEXTS], dtype=np.uint16)
    return evaluate.evaluate(
        clinic(), TOKENIZER, 1, KneserNey.fit(rows), clinic(dense=True), prompts=3, train_length=20
    )


def training() -> dict:
    settings = {
        "rows": 64,
        "length": 77,
        "learning_rate": 0.003,
        "final_learning_rate": 0.0006,
        "own_share": 0.59,
    }
    stages = [
        {
            "layers": 9,
            "steps": 2611,
            "tokens": 12345678,
            "hours": 1.25,
            "final_loss": 1.875,
            "settings": settings,
        }
    ]
    return {"stages": stages, "tokens": 12345678, "hours": 1.25}


def of_document(scores: evaluate.Scores, number: int) -> tuple[np.ndarray, np.ndarray]:
    keep = scores.document == number
    return scores.loss[keep], scores.place[keep]


# -- one pass ------------------------------------------------------------------------------------------------


def test_loss_is_the_cross_entropy_of_each_text_alone():
    model = clinic()
    for number in (0, 5, len(TEXTS) - 1):
        ids = torch.tensor(TEXTS[number])
        states, guess, _ = model(ids[None])
        logits = model.lm_head(states[0, :-1])
        direct = F.cross_entropy(logits, ids[1:], reduction="none")
        loss, place = of_document(reading().scores, number)
        assert loss == pytest.approx(direct.numpy(), abs=2e-5)
        assert (place == 0).tolist() == (logits.argmax(-1) == ids[1:]).tolist()
        further = F.cross_entropy(model.lm_head(guess[0, :-1]), ids[2:], reduction="none")
        assert of_document(reading().mtp, number)[0] == pytest.approx(further.numpy(), abs=2e-5)


def test_places_are_ranks():
    logits = clinic().lm_head(clinic()(torch.tensor(TEXTS[2])[None])[0][0, :-1])
    target = torch.tensor(TEXTS[2][1:])
    rank = (logits > logits.gather(1, target[:, None])).sum(1)
    assert of_document(reading().scores, 2)[1].tolist() == rank.clamp(max=5).tolist()


def test_padding_changes_nothing():
    together = evaluate.read(clinic(), TEXTS, tokens=10**6)  # one batch, padded to the longest
    alone = evaluate.read(clinic(), TEXTS, tokens=1)  # no padding at all
    for number in range(len(TEXTS)):
        for one, other in ((together.scores, alone.scores), (together.mtp, alone.mtp)):
            a, b = of_document(one, number), of_document(other, number)
            assert a[0] == pytest.approx(b[0], abs=2e-5)
            assert (a[1] == b[1]).all()
    assert (together.chosen == alone.chosen).all()


def test_counts_add_up():
    read, tokens = reading(), sum(len(ids) - 1 for ids in TEXTS)
    assert len(read.scores.loss) == tokens and len(read.mtp.loss) == tokens - len(TEXTS)
    assert read.chosen.shape == (len(TEXTS), CLINIC.num_moe_layers, CLINIC.n_routed_experts)
    each = torch.tensor([len(ids) - 1 for ids in TEXTS]) * CLINIC.num_experts_per_tok
    assert (read.chosen.sum(2) == each[:, None]).all()
    figures = evaluate.by_domain(read.scores, DOCUMENTS)
    parts = [figures["by_source"], figures["by_language"]]
    assert all(sum(f["tokens"] for f in part.values()) == tokens for part in parts)
    own = figures["by_source"]["own"]
    assert (
        sum(f["tokens"] for many in figures["own_by_subject"].values() for f in many.values())
        == own["tokens"]
    )
    assert sum(f["tokens"] for f in figures["own_by_language"].values()) == own["tokens"]
    mean = sum(f["tokens"] * f["loss"] for f in figures["by_source"].values()) / tokens
    assert figures["all"]["loss"] == pytest.approx(mean) and figures["all"]["perplexity"] == pytest.approx(
        math.exp(mean)
    )
    assert 0 <= own["top1"] <= own["top5"] <= 1


def test_routing_counts_are_those_of_the_trace():
    trace = Engine(clinic()).trace(TEXTS[4][:-1])
    for layer in range(CLINIC.num_moe_layers):
        counts = torch.bincount(trace.chosen[layer].reshape(-1), minlength=CLINIC.n_routed_experts)
        assert (reading().chosen[4, layer] == counts).all()


def test_very_short_texts():
    figures = evaluate.read(clinic(), [[0, 1], [0, 5, 1], [0]]).scores.figures()
    assert figures["tokens"] == 3 and figures["loss"] > 0
    assert evaluate.read(clinic(), []).scores.figures()["loss"] is None


def test_places_beyond_the_training_length():
    beyond = evaluate._beyond(reading().scores, 20)
    assert len(beyond.loss) == sum(max(len(ids) - 20, 0) for ids in TEXTS)
    longest = max(range(len(TEXTS)), key=lambda i: len(TEXTS[i]))
    assert of_document(beyond, longest)[0].tolist() == of_document(reading().scores, longest)[0][19:].tolist()


def test_the_5_gram_model_is_scored_on_the_same_places():
    model = KneserNey.fit(np.array([TEXTS[0], TEXTS[0]]))
    scores = evaluate.read_kneser_ney(model, TEXTS)
    assert len(scores.loss) == len(reading().scores.loss)
    loss, place = of_document(scores, 0)
    assert loss == pytest.approx(-model.log_probabilities(TEXTS[0]))
    assert loss.mean() < of_document(scores, 1)[0].mean() and (place == 0).mean() > 0.8


# -- routing -------------------------------------------------------------------------------------------------


def test_mutual_information_of_known_tables():
    nmi = evaluate.normalised_mutual_information
    assert nmi(np.outer([1, 2, 3], [4, 1, 5, 2])) == pytest.approx(0, abs=1e-12)
    assert nmi(np.diag([3, 1, 7, 2])) == pytest.approx(1)
    assert nmi(np.array([[5, 2]])) == 0  # one label only: nothing to tell
    # two labels, each with two experts of its own: I = H(label) = ln 2, H(expert) = ln 4
    assert nmi(np.array([[1, 1, 0, 0], [0, 0, 1, 1]])) == pytest.approx(1 / math.sqrt(2))
    both = np.stack([np.diag([1, 1]), np.ones((2, 2))])
    assert nmi(both) == pytest.approx([1, 0])


def test_taste_is_found_and_shuffling_loses_it():
    labels = ["a", "b", "c", "d"] * 50
    chosen = torch.zeros(200, 2, 4, dtype=torch.int32)
    for i in range(200):
        chosen[i, 0, i % 4] = 10  # a room of its own for every subject
        chosen[i, 1, :] = 10  # everybody everywhere
    found = evaluate.taste(chosen, labels, shuffles=6)
    assert found["nmi_per_layer"] == pytest.approx([1, 0], abs=1e-9)
    assert found["shuffled_mean_per_layer"][0] < 0.05
    assert found["shuffles"] == 6 and found["labels"] == 4
    assert found["above_chance"] == pytest.approx(found["nmi"] - found["shuffled_mean"])


def test_shuffled_taste_of_an_indifferent_router_is_what_is_measured():
    chosen = torch.from_numpy(np.random.default_rng(0).multinomial(200, [1 / 16] * 16, (300, 1))).to(
        torch.int32
    )
    found = evaluate.taste(chosen, ["x", "y", "z"] * 100)
    assert found["nmi"] < 0.001 and abs(found["above_chance"]) < 0.001


def test_balance_of_a_known_load():
    chosen = torch.zeros(len(DOCUMENTS), 2, 4, dtype=torch.int32)
    chosen[0] = torch.tensor([[4, 4, 4, 4], [10, 6, 0, 0]])
    found = evaluate.routing(chosen, DOCUMENTS, first_floor=4)
    assert found["max_vio_per_layer"] == [0.0, 1.5] and found["max_vio_mean"] == 0.75
    assert (found["max_vio_worst"], found["max_vio_worst_floor"]) == (1.5, 5)
    assert found["dead_per_layer"] == [0, 2] and (found["dead"], found["experts"]) == (2, 8)
    assert found["assignments"] == 32


# -- generation ----------------------------------------------------------------------------------------------


def test_continuations_are_greedy_and_complete():
    engine = Engine(clinic())
    said = evaluate.continuations(engine, TOKENIZER, 4)
    assert [(e["language"], e["prompt"]) for e in said] == [
        (s, t) for s, many in EXAMPLES.items() for t in many
    ]
    ids = generate(engine, TOKENIZER.encode(said[0]["prompt"]), 4).ids
    assert said[0]["continuation"] == TOKENIZER.decode(ids).rstrip("\ufffd") and said[0]["tokens"] == len(ids)
    likeliest = said[0]["likeliest_next"]
    assert len(likeliest) == 5 and likeliest[0]["text"] == TOKENIZER.pieces(ids[:1])[0].text
    assert [x["probability"] for x in likeliest] == sorted(
        (x["probability"] for x in likeliest), reverse=True
    )


def test_speculation_counts():
    found = evaluate.speculation(Engine(clinic()), [ids[:5] for ids in TEXTS[:3]], 6)
    assert found["prompts"] == 3 and found["tokens"] <= 18 and 0 <= found["accepted"] <= found["drafts"]
    assert found["acceptance"] == found["accepted"] / found["drafts"]
    assert found["tokens_per_pass"] == 1 + found["acceptance"]


def test_half_texts():
    halves = evaluate.half_texts(TEXTS, DOCUMENTS, 4)
    assert len(halves) == 4 and all(
        TEXTS[i][: len(h)] == h for h, i in zip(halves, (0, 8, 16, 24), strict=True)
    )


# -- folders -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A run's folder and the FP8 checkpoint written from it."""
    run_folder, folder = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("checkpoint")
    settings = TrainSettings(steps=6, rows=2, length=16, own_share=1.0)
    run = Run(run_folder, CLINIC, settings, TOKENIZER, clinic())
    run.step, run.seconds = 3, 36.0
    run.save()
    lines = [{"step": step, "loss": float(10 - step)} for step in range(1, 5)]  # the last was not saved
    (run_folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    checkpoint.save(clinic(), folder, PATH)
    return run_folder, folder


def test_runs_and_checkpoints_load(folders):
    run_folder, folder = folders
    loaded = evaluate.load_for_evaluation(run_folder)
    assert all(
        (a == b).all()
        for a, b in zip(loaded.state_dict().values(), clinic().state_dict().values(), strict=True)
    )
    assert evaluate.load_for_evaluation(folder).c == CLINIC


def test_cost_of_fp8(folders):
    found = evaluate.compare_weights(*folders, TOKENIZER, 1)
    assert found["fp32_loss"] == pytest.approx(reading().scores.figures()["loss"], abs=1e-5)
    assert 0 < abs(found["change_percent"]) < 1
    assert found["change_percent"] == pytest.approx(100 * (found["fp8_loss"] / found["fp32_loss"] - 1))
    assert evaluate.compare_weights(folders[0], folders[0], TOKENIZER, 1)["change_percent"] == 0


def test_training_facts(folders):
    facts = evaluate.training_facts([folders[0], folders[0]])
    stage = facts["stages"][0]
    assert stage["layers"] == 4 and stage["steps"] == 3 and stage["tokens"] == 3 * 2 * 16
    assert stage["hours"] == 0.01 and stage["final_loss"] == 8.0
    assert facts["tokens"] == 192 and facts["hours"] == 0.02


def test_figures_from_folders(folders, monkeypatch, one_example):
    monkeypatch.setattr(data, "CHUNK_ROWS", 32)  # making 2048 rows to read six takes seconds
    run_folder, folder = folders
    found = evaluate.figures(folder, 1, runs=[run_folder], full_precision=run_folder, prompts=2)
    assert found["settings"]["train_length"] == 16 and found["training"]["tokens"] == 96
    assert found["baselines"]["kneser_ney"]["training_tokens"] == 96
    assert found["fp8"]["fp8_loss"] == pytest.approx(found["heldout"]["model"]["all"]["loss"], abs=1e-6)
    assert "FP8" in evaluate.model_card(found)


# -- everything ----------------------------------------------------------------------------------------------


def test_results_are_json_and_whole():
    found = results()
    assert json.loads(json.dumps(found)) == found
    assert set(found["heldout"]) == {"model", "kneser_ney", "dense"}
    assert found["heldout"]["model"]["all"] == reading().scores.figures()
    assert found["settings"]["documents"] == len(DOCUMENTS)
    assert found["targets"] == {"own_top1": 0.65, "own_top5": 0.9, "met": False}
    assert [row["file"] for row in found["data"]] == [
        f"`{s}.jsonl.xz`" for s in ("wordnet", "cedict", "poems", "python")
    ]
    assert found["mtp"]["heldout_prompts"]["prompts"] == 3 and found["mtp"]["examples"]["prompts"] == 12
    gates = CLINIC.num_moe_layers * (CLINIC.hidden_size + 1) * CLINIC.n_routed_experts
    first_layers = 3 * CLINIC.hidden_size * (CLINIC.intermediate_size - 80)
    sizes = found["model"]["active_parameters"], found["baselines"]["dense"]["active_parameters"]
    assert sizes[0] - sizes[1] == gates + first_layers


def test_an_opened_checkpoint_gives_the_same(one_example):
    live = LiveModel(Engine(clinic()), TOKENIZER)
    assert (
        evaluate.evaluate(live, TOKENIZER, 1, prompts=0)["heldout"]["model"]["all"]
        == reading().scores.figures()
    )


def test_a_model_without_experts_can_be_evaluated(one_example):
    found = evaluate.evaluate(clinic(dense=True), TOKENIZER, 1, prompts=0)
    assert found["routing"]["layers"] == 0 and found["routing"]["max_vio_mean"] is None
    assert "no experts" in evaluate.model_card(found)


def test_card_has_every_figure():
    found = {
        **results(),
        "fp8": {"fp32_loss": 8.25, "fp8_loss": 8.5, "change_percent": 3.0303, "documents": 36},
    }
    card = evaluate.model_card(found, training())
    wanted = [
        "59 %",
        "64 × 77",
        "12,345,678",
        "1.25",
        "1.875",
        "2,611",
        "+3.03 %",
        "8.2500",
        "8.5000",
        "not met",
    ]
    for figures in found["heldout"].values():
        for f in (
            figures["all"],
            *figures["by_source"].values(),
            *figures["by_language"].values(),
            *(f for many in figures["own_by_subject"].values() for f in many.values()),
        ):
            wanted += [
                f"{f['tokens']:,}",
                f"{f['loss']:,.3f}",
                f"{100 * f['top1']:.1f} %",
                f"{100 * f['top5']:.1f} %",
            ]
    routing, mtp = found["routing"], found["mtp"]
    wanted += [
        f"{routing['max_vio_mean']:.2f}",
        f"{routing['max_vio_worst']:.2f} (floor {routing['max_vio_worst_floor']})",
    ]
    for name in ("subject", "language"):
        taste = routing[name]
        wanted += [f"{taste['nmi']:.3f}", f"{taste['shuffled_mean']:.4f} ± {taste['shuffled_sd']:.4f}"]
    for run in (mtp["examples"], mtp["heldout_prompts"]):
        wanted += [f"{run['drafts']}", f"{100 * run['acceptance']:.1f} %", f"{run['tokens_per_pass']:.2f}"]
    wanted += [row["licence"] for row in found["data"]] + [e["prompt"] for e in found["examples"]]
    wanted += [f"{found['model'][k]:,}" for k in ("parameters", "active_parameters")]
    wanted += ["5-gram", "dense", "may flounder", "token 20 of a text"]
    assert [text for text in wanted if text not in card] == []


def test_card_is_made_of_whole_tables():
    card = evaluate.model_card(results(), training())
    blocks = re.findall(r"(?:^\|.*\n)+", card, re.M)
    assert len(blocks) == 9
    for block in blocks:
        widths = {len(re.sub(r"\\\|", "", line).split("|")) for line in block.splitlines()}
        assert len(widths) == 1, block
    assert "None" not in card and "nan" not in card


def test_card_changes_with_its_figures():
    """No figure is written by hand: another result gives another number in every place."""
    found = json.loads(json.dumps(results()))
    found["heldout"]["model"]["by_source"]["own"].update(top1=0.7654, top5=0.9876)
    found["targets"]["met"] = True
    found["mtp"] = None
    del found["heldout"]["kneser_ney"], found["baselines"]["kneser_ney"]
    card = evaluate.model_card(found)
    assert "top-1 76.5 %" in card and "98.8 %" in card and "the aim is met" in card
    assert "gram" not in card and "no MTP module" in card and "## Training" not in card
