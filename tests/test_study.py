"""The recorded study: it belongs to the shipped checkpoint, a part of it measured again is the same, and its
statistics find a taste where one was planted and none where there is none."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import SMALL, one_sentence

from model import checkpoint, load
from model import study as s
from model.config import ModelConfig
from model.corpus import Document
from model.interventions import Interventions
from model.live import SHIPPED
from model.tokenizer import Tokenizer

TINY = s.StudySettings(
    intern_documents=1, exit_documents=1, rank_documents=1, shuffles=50, fresh_shuffles=20, thresholds=(1e-6, 0.5, 1.1)
)


@pytest.fixture(scope="module")
def study() -> s.Study:
    return s.load_study()


@pytest.fixture(scope="module")
def facts() -> dict:
    return json.loads((SHIPPED / s.FACTS).read_text("utf-8"))


@pytest.fixture(scope="module")
def live():
    return load()


@pytest.fixture(scope="module")
def texts(study: s.Study) -> tuple[list[Document], list[list[int]]]:
    return s.sample(Tokenizer.load(SHIPPED / "tokenizer.json"), ModelConfig.from_json(SHIPPED / "config.json"),
                    study.settings.intern_documents)  # fmt: skip


@pytest.fixture(scope="module")
def small_study(tmp_path_factory: pytest.TempPathFactory, clinic_folder: Path) -> Path:
    """A small checkpoint with a study of its own."""
    folder = tmp_path_factory.mktemp("studied") / "clinic"
    shutil.copytree(clinic_folder, folder)
    s.record(folder, TINY)
    return folder


def total_variation(a: np.ndarray, b: np.ndarray) -> float:
    """What part of the calls went elsewhere: two tables of counts with the same sum."""
    assert a.sum() == b.sum() > 0
    return float(np.abs(a.astype(np.int64) - b).sum() / 2 / a.sum())


# -- it is the study of what is shipped ------------------------------------------------------------------------------


def test_made_for_the_shipped_weights(facts: dict):
    weights = (SHIPPED / checkpoint.WEIGHTS).read_bytes()
    assert facts["checkpoint_sha256"] == hashlib.sha256(weights).hexdigest()


def test_made_of_todays_texts(facts: dict, study: s.Study, live, texts):
    """A change of the corpus or of the tokenizer makes the study stale as well."""
    assert facts["texts_sha256"]["interns"] == s.digest(texts[1])
    for name, n in (("exit", study.settings.exit_documents), ("rank", study.settings.rank_documents)):
        assert facts["texts_sha256"][name] == s.digest(s.sample(live.tokenizer, live.config, n)[1])
    assert study.documents == len(texts[1]) and study.tokens == sum(len(ids) - 1 for ids in texts[1])


def test_fits_the_model_and_is_small(study: s.Study):
    c = ModelConfig.from_json(SHIPPED / "config.json")
    assert study.specialities.shape == (c.num_moe_layers, c.n_routed_experts)
    assert study.early_exit.floors.tolist() == list(range(1, c.num_hidden_layers + 1))
    assert study.latent_rank.ranks.tolist() == list(range(1, c.kv_lora_rank + 1))
    assert sum((SHIPPED / name).stat().st_size for name in (s.FACTS, s.ARRAYS)) < 3e6
    assert s.load_study() is study and s.load_study(SHIPPED) is study


# -- a part of it, measured again ------------------------------------------------------------------------------------
# Another thread count or another processor may round a sum differently, and one choice in some ten thousand with it.


def test_lowest_department_again(study: s.Study, live, texts):
    """All texts through the first floors only: calls, favourites and subjects of 256 interns."""
    documents, ids = texts
    c, model = live.config, live.engine.model
    first = c.first_k_dense_replace
    again = s.read_choices(model, ids, last_layer=first)
    assert again.chosen.shape == (study.tokens, 1, c.num_experts_per_tok)
    records = [study.intern(first, e) for e in range(c.n_routed_experts)]
    calls = np.bincount(again.chosen.ravel(), minlength=c.n_routed_experts)
    assert total_variation(np.array([r.calls for r in records]), calls) < 1e-3
    labels = np.array(s.subjects_of(documents))[again.document]
    for number, name in enumerate(study.subjects):
        at = (labels == name) & ~again.door
        wanted = np.bincount(again.chosen[at].ravel(), minlength=c.n_routed_experts)
        found = np.array([r.subjects[number].calls if r.subjects else 0 for r in records])
        assert total_variation(found, wanted) < 2e-3, name
    for e in (int(calls.argmax()), int(np.argsort(calls)[len(calls) // 2])):
        at = (again.chosen == e).any((1, 2))
        for taste in records[e].tokens:
            assert taste.occurrences == (again.token == taste.id).sum()
            assert abs(taste.calls - (at & (again.token == taste.id)).sum()) <= 1


def test_one_subject_on_every_floor_again(study: s.Study, live, texts):
    """One subject's texts (the shortest ones), one by one through the engine: another code than the batched pass."""
    documents, ids = texts
    c, name = live.config, "cedict"
    mine = [i for i, label in enumerate(s.subjects_of(documents)) if label == name]
    found = np.zeros((c.num_moe_layers, c.n_routed_experts), np.int64)
    for i in mine:
        chosen = live.engine.trace(ids[i][:-1]).chosen[:, 1:].flatten(1)  # without the door token
        found += np.stack([np.bincount(row, minlength=c.n_routed_experts) for row in chosen.numpy()])
    recorded = study._arrays["interns.subject_calls"][..., study.subjects.index(name)]
    assert total_variation(recorded, found) < 2e-3
    rng = np.random.default_rng(0)
    for layer, e in zip(rng.integers(0, c.num_moe_layers, 5), rng.integers(0, c.n_routed_experts, 5), strict=True):
        subjects = study.intern(layer + c.first_k_dense_replace, e).subjects
        assert not subjects or subjects[study.subjects.index(name)].calls == recorded[layer, e]


def test_leaving_early_again(study: s.Study, live):
    _, ids = s.sample(live.tokenizer, live.config, study.settings.exit_documents)
    a, engine = study._arrays, live.engine
    for number in (0, len(ids) // 2, len(ids) - 1):
        trace = engine.trace(ids[number][:-1])
        states = engine.model.norm(trace.hidden[1:])
        probabilities = (states @ engine.model.lm_head.weight.t()).softmax(-1)
        sure, answers = (x.numpy() for x in probabilities.max(-1))
        target = np.array(ids[number][1:])
        assert a["exit.tokens"][number] == len(target)
        assert np.abs(a["exit.agree"][number] - (answers == answers[-1]).sum(1)).max() <= 1
        assert np.abs(a["exit.correct"][number] - (answers == target).sum(1)).max() <= 1
        for rule, threshold in enumerate(study.settings.thresholds):
            leaves = [next((f for f in range(len(sure) - 1) if sure[f, t] >= threshold), len(sure) - 1)
                      for t in range(len(target))]  # fmt: skip
            walked, exited, same, true = a["exit.rules"][number, rule].tolist()
            assert abs(exited - sum(f < len(sure) - 1 for f in leaves)) <= 1
            assert abs(walked - sum(f + 1 for f in leaves)) <= len(sure)
            assert abs(same - sum(answers[f, t] == answers[-1, t] for t, f in enumerate(leaves))) <= 1
            assert abs(true - sum(answers[f, t] == target[t] for t, f in enumerate(leaves))) <= 1


def test_shorter_codes_again(study: s.Study, live):
    _, ids = s.sample(live.tokenizer, live.config, study.settings.rank_documents)
    a, whole = study._arrays, live.config.kv_lora_rank
    for number in (1, len(ids) - 2):
        target = torch.tensor(ids[number][1:])
        for do in (Interventions(latent_rank=1), Interventions(latent_rank=whole // 2), Interventions()):
            logits, _ = live.engine.forward(ids[number][:-1], interventions=do)
            loss = -logits.log_softmax(-1)[torch.arange(len(target)), target].sum()
            rank = do.latent_rank or whole
            assert a["rank.loss"][number, rank - 1] == pytest.approx(float(loss), rel=1e-4)
            assert abs(a["rank.top1"][number, rank - 1] - int((logits.argmax(-1) == target).sum())) <= 1


# -- what it says hangs together -------------------------------------------------------------------------------------


def test_calls_add_up(study: s.Study):
    c = ModelConfig.from_json(SHIPPED / "config.json")
    a = study._arrays
    assert (a["interns.calls"].sum(1, dtype=np.int64) == study.tokens * c.num_experts_per_tok).all()
    assert (a["interns.door_calls"].sum(1, dtype=np.int64) == study.documents * c.num_experts_per_tok).all()
    assert (a["interns.subject_calls"].sum(-1, dtype=np.int64) == a["interns.calls"] - a["interns.door_calls"]).all()
    assert a["tokens.occurrences"].sum(dtype=np.int64) == study.tokens
    assert a["subjects.tokens"].sum(dtype=np.int64) == study.tokens - study.documents
    assert study.expected.sum() == pytest.approx(1)


def test_records_say_what_they_promise(study: s.Study):
    rng, first = np.random.default_rng(1), study.first_layer
    layers, experts = study.specialities.shape
    drawn, named, strong = rng.choice(layers * experts, 600, replace=False), 0, 0
    for m, e in (divmod(int(x), experts) for x in drawn):
        record = study.intern(m + first, e)
        low = [float(s.wilson(t.calls, t.occurrences)[0]) for t in record.tokens]
        assert low == sorted(low, reverse=True) and len(low) <= s.FAVOURITES
        assert len({t.id for t in record.tokens}) == len(low) and bool(low) == bool(record.calls)
        for taste in record.subjects:
            assert 0 <= taste.low <= taste.share <= taste.high <= 1 and 0 < taste.expected < 1
        beaten = [x for x in record.subjects if x.share > x.shuffled_high]  # it is 0 where no shuffle gave any
        best = max(beaten, key=lambda x: x.share / x.shuffled_high, default=None)
        beats = best is not None
        assert record.speciality == (best.name if beats else None)
        named += beats
        strong += beats and best.low >= 2 * best.expected
    assert 0 < strong < named < len(drawn)
    found = study.specialists
    for part, whole in ((named, found.found), (strong, found.strong)):
        p = whole / found.interns
        assert abs(part / len(drawn) - p) < 5 * math.sqrt(p * (1 - p) / len(drawn))


def test_summary_of_specialists(study: s.Study):
    found = study.specialists
    assert found.interns == study.specialities.size and found.found == (study.specialities >= 0).sum()
    assert found.never_called == (study._arrays["interns.calls"] == 0).sum()
    # The bound is kept in other shuffles than it was taken from: about as many pass it as should.
    called = found.interns - found.never_called
    assert 0.5 < found.by_chance / (study.settings.level * called) < 2
    assert found.by_chance <= found.by_chance_high < found.found
    assert found.strong_by_chance <= found.by_chance and found.strong_by_chance < 0.05 * found.strong < found.found


def test_curves(study: s.Study):
    leaving, rank = study.early_exit, study.latent_rank
    assert leaving.agreement[-1] == leaving.low[-1] == leaving.high[-1] == 1
    for values, low, high in ((leaving.agreement, leaving.low, leaving.high), (rank.loss, rank.low, rank.high)):
        assert (low <= values).all() and (values <= high).all()
    assert [x.threshold for x in leaving.exits] == list(study.settings.thresholds)
    for rule in leaving.exits:
        assert rule.accuracy_without == leaving.correct[-1] and 1 <= rule.mean_floor <= len(leaving.floors)
        assert rule.agreement >= 1 - rule.share_exited
    assert [x.mean_floor for x in leaving.exits] == sorted(x.mean_floor for x in leaving.exits)
    assert rank.loss[0] > rank.loss[-1] and rank.top1[0] < rank.top1[-1]


def test_nobody_can_write_to_it(study: s.Study):
    for values in (*study._arrays.values(), study.shares, study.expected, study.early_exit.low, study.latent_rank.loss):
        with pytest.raises(ValueError):
            values[...] = 0
    with pytest.raises(AttributeError):
        study.tokens = 0  # type: ignore[misc]


def test_no_such_intern(study: s.Study):
    last = study.first_layer + len(study.specialities) - 1
    for layer, e in ((study.first_layer - 1, 0), (last + 1, 0), (last, -1), (last, 256)):
        with pytest.raises(s.StudyError) as error:
            study.intern(layer, e)
        one_sentence(error)


# -- statistics ------------------------------------------------------------------------------------------------------


def test_wilson():
    low, high = s.wilson([1, 50, 0], [1, 50, 10])
    assert low == pytest.approx([0.2065, 0.9287, 0.0], abs=1e-3)  # Newcombe 1998 gives such for 1/1 and 50/50
    assert high == pytest.approx([1.0, 1.0, 0.2775], abs=1e-3)
    for p in (0.3, 0.8):  # the ends are where the normal test of p just fails
        low, high = s.wilson(p * 40, 40)
        for end in (float(low), float(high)):
            assert abs(p - end) / math.sqrt(end * (1 - end) / 40) == pytest.approx(1.96, abs=1e-3)


def test_dealing_keeps_every_subjects_tokens():
    rng = np.random.default_rng(3)
    lengths, labels = rng.integers(5, 90, 60).astype(float), rng.integers(0, 4, 60)
    languages = np.where(rng.random(60) < 0.4, "zh", "en")
    parts = s.deal(rng, lengths, labels, languages, 7)
    assert parts.shape == (7, 4, 60)
    assert parts.sum(1) == pytest.approx(np.ones((7, 60)), abs=1e-5)  # every document is dealt out whole
    for language in ("zh", "en"):
        here = languages == language
        wanted = np.bincount(labels[here], lengths[here], 4)
        assert (parts[:, :, here] * lengths[here]).sum(-1) == pytest.approx(np.tile(wanted, (7, 1)), rel=1e-4)
    assert not np.allclose(parts[0], parts[1])


def planted(c: ModelConfig, seed: int) -> tuple[s.Choices, list[Document]]:
    """Choices at random, where documents differ from each other for no reason; expert 0 is called more often in one
    subject; expert 1 likes a language only, which one subject is all in; expert 2 only the door; expert 3 is never
    called."""
    rng = np.random.default_rng(seed)
    documents = [Document("", f"subject {i % 6}", "zh" if i % 4 < 2 or i % 6 == 4 else "en", "own") for i in range(240)]
    rows = []
    for number, document in enumerate(documents):
        length = int(rng.integers(10, 20) * (4 if document.subject == "subject 5" else 1))  # one with long documents
        mood = rng.gamma(3.0, 1.0, c.n_routed_experts)
        mood[0] = 20.0 if document.subject == "subject 2" else 1.0
        mood[1] = 8.0 if document.language == "zh" else 0.5
        mood[2:4] = 0
        for place in range(length):
            scores = rng.random(c.n_routed_experts) ** (1 / np.maximum(mood, 1e-12))
            if place == 0:
                scores[2] = 2
            rows.append((number, rng.integers(2, 50) if place else 0, place == 0,
                         np.argsort(-scores)[: c.num_experts_per_tok]))  # fmt: skip
    document, token, door, chosen = zip(*rows, strict=True)
    return s.Choices(np.array(document), np.array(token), np.array(door), np.array(chosen)[:, None]), documents


def found_in(arrays: dict[str, np.ndarray]) -> list[int]:
    calls = arrays["interns.subject_calls"][0].astype(float)
    shares = calls / np.maximum(calls.sum(-1, keepdims=True), 1)
    return s.specialities(shares, arrays["interns.shuffled_high"][0]).tolist()


def test_a_planted_taste_is_found_and_nothing_else():
    settings, false, misled = s.StudySettings(shuffles=400, fresh_shuffles=50), 0, 0
    for seed in range(5):
        choices, documents = planted(SMALL, seed)
        arrays, by_chance = s.intern_arrays(choices, documents, SMALL, settings)
        found = found_in(arrays)
        names = list(dict.fromkeys(s.subjects_of(documents)))
        assert names[found[0]] == "subject 2"
        assert found[2] == -1 and arrays["interns.calls"][0, 2] == arrays["interns.door_calls"][0, 2] == 240
        assert arrays["interns.calls"][0, 3] == 0 and (arrays["interns.token_calls"][0, 3] == 0).all()
        assert arrays["interns.token_ids"][0, 2, 0] == 0 and arrays["interns.token_calls"][0, 2, 0] == 240
        false += sum(x >= 0 for x in found[1:])
        assert by_chance[1].mean() <= by_chance[0].mean() < 1
        one_language = [replace(d, language="zh") for d in documents]
        misled += found_in(s.intern_arrays(choices, one_language, SMALL, settings)[0])[1] >= 0
    assert false <= 3  # of 75; one in a hundred is what the level allows
    assert misled >= 4  # shuffling across languages would have taken a liking for Chinese for one of a subject


def test_intervals_over_documents():
    rng = np.random.default_rng(5)
    tokens = rng.integers(20, 60, 400).astype(float)
    rate = rng.beta(6, 4, 400)
    mean, low, high = s.over_documents((rate * tokens)[:, None], tokens, 2000, 0)
    assert mean[0] == pytest.approx((rate * tokens).sum() / tokens.sum())
    spread = np.sqrt((((rate - mean[0]) * tokens) ** 2).sum()) / tokens.sum()  # of a ratio, linearised
    assert (high - low)[0] == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_exit_floor():
    sure = np.array([[0.2, 0.9, 0.1], [0.6, 0.1, 0.2], [0.9, 0.9, 0.3]])
    assert s.early_exit(sure.copy(), 0.5).tolist() == [1, 0, 2]  # the third never is so sure: it walks to the end
    assert s.early_exit(sure.copy(), 0.0).tolist() == [0, 0, 0]


# -- making and opening ----------------------------------------------------------------------------------------------


def test_record_and_load_a_small_one(small_study: Path):
    study = s.load_study(small_study)
    assert study.settings == TINY and len(study.latent_rank.loss) == load(small_study).config.kv_lora_rank
    always, _, never = study.early_exit.exits
    assert (always.mean_floor, always.share_exited) == (1, 1)
    assert (never.share_exited, never.agreement) == (0, 1) and never.mean_floor == len(study.early_exit.floors)
    assert never.accuracy == never.accuracy_without
    assert always.agreement == study.early_exit.agreement[0] and always.accuracy == study.early_exit.correct[0]


def test_the_same_again(small_study: Path, tmp_path: Path):
    folder = tmp_path / "again"
    shutil.copytree(small_study, folder)
    for name in (s.FACTS, s.ARRAYS):
        (folder / name).unlink()
    with pytest.raises(s.StudyError) as error:
        s.load_study(folder)
    assert "no study" in one_sentence(error) and error.value.key == "study_missing"
    s.record(folder, TINY)
    for name in (s.FACTS, s.ARRAYS):
        assert (folder / name).read_bytes() == (small_study / name).read_bytes()


def test_arrays_lie_beside_weights_and_are_none(small_study: Path, tmp_path: Path):
    folder = tmp_path / "no weights"
    shutil.copytree(small_study, folder)
    load(folder)
    (folder / checkpoint.WEIGHTS).unlink()
    with pytest.raises(checkpoint.CheckpointError) as error:
        load(folder)
    assert error.value.key == "checkpoint_missing"


def _facts(change):
    def damage(folder: Path) -> None:
        facts = json.loads((folder / s.FACTS).read_text("utf-8"))
        change(facts)
        (folder / s.FACTS).write_text(json.dumps(facts), "utf-8")

    return damage


def _flip(folder: Path) -> None:
    content = bytearray((folder / s.ARRAYS).read_bytes())
    content[-5] ^= 1
    (folder / s.ARRAYS).write_bytes(content)


@pytest.mark.parametrize(("damage", "key"), [
    (_facts(lambda f: f.update(checkpoint_sha256="0" * 64)), "study_stale"),
    (_facts(lambda f: f.pop("checkpoint_sha256")), "study_damaged"),
    (_facts(lambda f: f["settings"].update(unknown=1)), "study_damaged"),
    (_facts(lambda f: f["subjects"].pop()), "study_damaged"),
    (_flip, "study_damaged"),
    (lambda folder: (folder / s.FACTS).write_text("[1]", "utf-8"), "study_damaged"),
    (lambda folder: (folder / s.FACTS).write_bytes(b"\xff{"), "study_damaged"),
    (lambda folder: (folder / s.ARRAYS).unlink(), "study_missing"),
    (lambda folder: (folder / checkpoint.SUM).write_text("1" * 64 + "  model.safetensors\n", "utf-8"), "study_stale"),
])  # fmt: skip
def test_what_is_wrong_is_said_in_a_sentence(small_study: Path, tmp_path: Path, damage, key: str):
    folder = tmp_path / "damaged"
    shutil.copytree(small_study, folder)
    s.load_study(folder)
    damage(folder)
    with pytest.raises(s.StudyError) as error:
        s.load_study(folder)
    one_sentence(error)
    assert error.value.key == key


def test_command_line(small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    from model.__main__ import main

    folder = tmp_path / "commanded"
    shutil.copytree(small_study, folder)
    arguments = ["study", "--checkpoint", str(folder), "--documents", "1", "--exit-documents", "1", "--rank-documents",
                 "1", "--shuffles", "20", "--seed", "3", "--json"]  # fmt: skip
    assert main(arguments) == 0
    said = json.loads(capsys.readouterr().out)
    study = s.load_study(folder)
    assert (study.settings.shuffles, study.settings.seed) == (20, 3)
    assert said == s.summary(study) and said["specialists"]["interns"] == study.specialities.size


def test_needs_no_screen():
    """`model.study` is imported by pages, never the other way round."""
    import subprocess

    code = "import sys, model.study; assert not {'streamlit', 'plotly', 'pages'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=SHIPPED.parents[1]).returncode == 0
