"""The self-check: the proofs one by one, and the page on which they are run; whole models pass, spoiled ones do not."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest
import screens
import torch
from screens import LANGUAGES, fine, shown
from streamlit.testing.v1 import AppTest

import model
from model import UserError
from model.verify import APART, PROOFS, REST, SPEED, Check, Finding, Missing, Proof, bytes_needed, spoiled, steps
from pages.kit import budget, check, service, state, words
from pages.kit.figures import check as figures

PAGE = "pages/check.py"
LONGEST = 120.0  # seconds that a run of the small model may take on a busy machine
ENGINES = {"readable", "plain", "parity"}  # what notices a wrong number in what the engine multiplies


def small(live: model.LiveModel, folder: Path | None = None) -> dict[str, Check]:
    return {one.key: one for one in steps(live, folder) if isinstance(one, Check)}


@pytest.fixture
def app(monkeypatch, clinic_folder):
    """A visitor who opens the page; the small model unless another is named."""

    def open_page(lang: str = "en", checkpoint: Path = clinic_folder, **query: object) -> AppTest:
        monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(checkpoint))
        return screens.open_page(PAGE, lang, **query)

    check.ward.clear()
    yield open_page
    if (out := check.ward().out) is not None:
        out.watchers.clear()
    check.ward.clear()


def press(at: AppTest) -> AppTest:
    return at.button(key="check.run.start").click().run()


def to_the_end(at: AppTest) -> AppTest:
    """As the page's own clock does."""
    end = time.monotonic() + LONGEST
    while not (run := at.session_state["check.run"]).over:
        assert time.monotonic() < end, [one.key for one in run.checks]
        time.sleep(0.2)
        at = at.run()
    return at.run()


def entries(at: AppTest) -> dict[str, dict]:
    """Every row by its proof's key."""
    cards = shown(at)["check.rows.rows"]["cards"]
    keys = [key for keys in figures.PARTS.values() for key in keys]
    assert len(cards) == len(keys)
    return dict(zip(keys, cards, strict=True))


def verdicts(at: AppTest, lang: str = "en") -> dict[str, str]:
    names = {words.say(lang, f"check.state.{how}"): how for how in figures.LOOKS}
    return {key: names[card["badge"]["text"]] for key, card in entries(at).items()}


def by_steps(folder: Path) -> model.LiveModel:
    """A model whose layers run step by step as `engine.py` has them, so that a step can be made wrong."""
    live = model.load(folder)
    live.engine._compiled = None
    return live


# -- the proofs --------------------------------------------------------------------------------------------------------


def test_every_proof_has_its_place_and_its_words():
    keys = [proof.key for proof in (*PROOFS, SPEED)]
    assert sorted(keys) == sorted(key for keys in figures.PARTS.values() for key in keys) and len(set(keys)) == len(keys)
    for lang in LANGUAGES:
        for key in keys:
            assert all(words.tables()[lang][f"check.proof.{key}.{part}"] for part in ("title", *state.DEPTHS))


def test_a_whole_model_passes_and_says_how_near(clinic_folder):
    found = small(model.load(clinic_folder), clinic_folder)
    assert all(one.passed and one.missing is None for one in found.values()), [one for one in found.values() if not one.passed]
    assert [*found] == [proof.key for proof in PROOFS] and all(one.seconds > 0 for one in found.values())
    for key in figures.OF_LOGIT:
        assert 0 <= found[key].measured <= found[key].tolerance
    assert found["experts"].measured == found["experts"].expected == 3 * 5
    assert found["v3_total"].measured == 671_026_419_200


def test_pieces_are_short_enough_to_take_turns(clinic_folder):
    """Between two pieces somebody else's sentence may go first, so there must be many."""
    pieces = list(steps(model.load(clinic_folder), clinic_folder))
    assert pieces.count(REST) > 200 and sum(isinstance(one, Check) for one in pieces) == len(PROOFS)
    assert pieces[pieces.index(APART) - 1].key == "base", "the long one holds nobody up"


def test_one_wrong_number_is_noticed_by_those_who_can(clinic_folder):
    live = model.load(clinic_folder)
    before = live.trace("a").logits.clone()
    found = small(spoiled(live), clinic_folder)
    assert {key for key, one in found.items() if not one.passed} == ENGINES
    assert (live.trace("a").logits == before).all(), "the model itself stays as it is"


def test_a_leaking_bias_is_noticed(clinic_folder, monkeypatch):
    """Weights from score + board, in the engine itself."""
    live = by_steps(clinic_folder)
    real = live.engine._route

    def leaky(layer, index, u, record, m, do):
        real(layer, index, u, record, m, do)
        raw = record.choice_scores[m].gather(1, record.experts[m, :, : record.k])
        record.factors[m, :, : record.k] = raw / raw.sum(-1, keepdim=True) * live.config.routed_scaling_factor

    monkeypatch.setattr(live.engine, "_route", leaky)
    found = small(live, clinic_folder)
    assert not found["bias"].passed and not found["readable"].passed and found["choice"].passed and found["sums"].passed


def test_a_wrong_choice_is_noticed(clinic_folder, monkeypatch):
    """Closed corridors at 0, which lets others in where boards stand low."""
    from model import engine

    live = by_steps(clinic_folder)
    for layer in live.engine.layers:
        if layer.bias is not None:
            layer.bias.sub_(2.0)  # the gate's own: every score + board is now below 0
    real = engine.choose
    monkeypatch.setattr(engine, "choose", lambda *args: real(*args[:4], 0.0))
    found = small(live, clinic_folder)
    assert not found["choice"].passed and not found["readable"].passed and found["bias"].passed


def test_what_looks_ahead_is_noticed(clinic_folder, monkeypatch):
    from model import engine

    monkeypatch.setattr(engine, "causal_mask", lambda new, heads, past=0: None)
    found = small(model.load(clinic_folder), clinic_folder)
    assert not found["causality"].passed and not found["decode"].passed


def test_what_breaks_a_proof_fails_it(clinic_folder):
    def breaks(subject):
        yield REST
        raise RuntimeError("secret")

    def absent(subject):
        yield REST
        raise Missing("no_mtp")

    proofs = [Proof("traced", "breaks", breaks), Proof("mtp", "absent", absent)]
    first, second = [one for one in steps(model.load(clinic_folder), None, proofs) if isinstance(one, Check)]
    assert not first.passed and first.missing is None and "secret" not in str(first)
    assert second.missing == "no_mtp"


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
def test_every_claim_stands_there_before_it_is_tried(app, clinic_folder, lang, depth):
    at = app(lang, depth=depth)
    assert fine(at) and at.title[0].value == words.say(lang, "check.title")
    assert bool(at.latex) == (depth == "maths") and bool(at.code) == (depth == "code")
    c = model.load(clinic_folder).config
    for key, card in entries(at).items():
        assert card["head"] == words.say(lang, f"check.proof.{key}.title")
        assert card["parts"][0]["text"] == words.say(lang, f"check.proof.{key}.{depth}", **figures.sizes(c))
    assert set(verdicts(at, lang).values()) == {"waiting"}
    took = check.ward().took
    said = words.say(lang, "check.never") if took is None else words.say(lang, "check.last", seconds=took)
    assert said in [one.value for one in at.caption]


def test_pressed_it_proves_everything(app):
    lang = "en"  # the run below speaks Chinese
    at = to_the_end(press(app(lang)))
    run = at.session_state["check.run"]
    assert fine(at) and run.state == "done" and len(run.checks) == len(check.ALL)
    found = verdicts(at, lang)
    assert {found[key] for key in found if key != "speed"} == {"passed"}, found  # on a busy machine a time proves nothing
    for one in run.checks:
        under = entries(at)[one.key]["parts"][1]["text"]
        assert words.say(lang, "check.took", seconds=one.seconds) in under
        assert figures.shown(one.key, one.measured) in under, one
    kept = figures.report(run.checks, state=run.state, seconds=run.seconds, spoiled=False, checkpoint="x")
    assert json.loads(json.dumps(kept)) == kept and [one["key"] for one in kept["checks"]] == [p.key for p in check.ALL]
    assert kept["torch"] == torch.__version__ and kept["checks"][0]["claim"] == words.say("en", "check.proof.digest.title")
    assert at.get("download_button"), "and the result can be taken along"
    for lang in LANGUAGES:  # who comes next hears how long that took, before deciding to wait
        assert words.say(lang, "check.last", seconds=run.seconds) in [one.value for one in app(lang).caption]


def test_a_spoiled_file_fails_its_row_and_no_other(app, clinic_folder, tmp_path):
    """A bit flips on the disk after the model was opened."""
    folder = tmp_path / "spoiled"
    shutil.copytree(clinic_folder, folder)
    at = app("zh", folder)
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    at = to_the_end(press(at))
    found = verdicts(at, "zh")
    assert found["digest"] == "failed" and {found[key] for key in found if key not in ("digest", "speed")} == {"passed"}
    assert len(at.error) == 1 and not at.success, "and says so above"


def test_spoiled_on_purpose(app):
    at = app()
    at.toggle(key="check.spoil").set_value(True).run()
    at = to_the_end(press(at))
    found = verdicts(at)
    assert {key for key, how in found.items() if how == "failed"} - {"speed"} == ENGINES
    assert words.say("en", "check.spoiled") in at.error[0].value


def test_without_transformers_it_is_said_plainly(app, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    at = to_the_end(press(app()))
    found = verdicts(at)
    assert found["parity"] == found["speed"] == "missing" and {found[k] for k in found if k not in ("parity", "speed")} == {"passed"}
    assert entries(at)["parity"]["parts"][1]["text"] == words.say("en", "check.missing.needs_transformers")
    assert at.success and "2" in at.success[0].value


def test_without_memory_for_a_second_copy_it_is_said_too(app, monkeypatch, clinic_folder):
    traces, copy = bytes_needed(model.load(clinic_folder).config)
    little, less = budget.Budget(traces + copy // 2), budget.Budget(traces // 2)
    monkeypatch.setattr(budget, "shared", lambda: little)
    at = to_the_end(press(app()))
    assert {key for key, how in verdicts(at).items() if how == "missing"} == {"parity", "speed"}
    assert entries(at)["parity"]["parts"][1]["text"] == words.say("en", "check.missing.no_memory")
    assert budget.shared().left == traces + copy // 2, "what was taken is given back"
    monkeypatch.setattr(budget, "shared", lambda: less)
    at = press(at)
    assert not at.exception and at.error[0].value.replace("\\", "") == words.say("en", "error.check_memory")


def test_weights_without_a_note(app, clinic_folder, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(clinic_folder, folder)
    (folder / "model.safetensors.sha256").unlink()
    assert verdicts(to_the_end(press(app(checkpoint=folder))))["digest"] == "missing"


# -- one run at a time -------------------------------------------------------------------------------------------------


class Gate:
    """Proofs that go on only when they are let."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def proofs(self) -> tuple[Proof, ...]:
        def work(subject):
            while not self.open.wait(0.02):
                yield REST
            return Finding(1, 1, True)

        return tuple(Proof(key, key, work) for key in ("digest", "parameters"))


@pytest.fixture
def slow(monkeypatch):
    gate = Gate()
    init = check.Run.__init__

    def made(self, spoiled, proofs=None, **more):
        init(self, spoiled, proofs or gate.proofs(), **more)

    monkeypatch.setattr(check.Run, "__init__", made)
    yield gate
    gate.open.set()


@pytest.fixture
def house(clinic_folder) -> service.Hospital:
    return service.Hospital(model.load(clinic_folder))


def until(what) -> None:
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_whoever_asks_meanwhile_watches_the_same(house, clinic_folder, slow):
    ward = check.Ward()
    first = ward.join(house, clinic_folder, "a")
    assert ward.join(house, clinic_folder, "b") is first and set(first.watchers) == {"a", "b"}
    with pytest.raises(UserError) as error:
        ward.join(house, clinic_folder, "c", spoil=True)
    assert error.value.key == "check_busy" and words.say("zh", "error.check_busy")
    slow.open.set()
    until(lambda: first.over)
    assert first.state == "done" and ward.join(house, clinic_folder, "c", spoil=True) is not first


def test_a_run_that_nobody_looks_at_ends(house, clinic_folder, slow, monkeypatch):
    monkeypatch.setattr(check, "UNSEEN", 0.3)
    run = check.Ward().join(house, clinic_folder, "a")
    until(lambda: run.over)
    assert run.state == "stopped"


def test_who_stops_leaves_the_others_their_run(house, clinic_folder, slow):
    ward = check.Ward()
    run = ward.join(house, clinic_folder, "a")
    ward.join(house, clinic_folder, "b")
    mine = run.as_it_is()
    run.watchers.pop("a")
    assert mine.state == "stopped" and mine.seconds >= 0
    time.sleep(0.2)
    assert not run.over
    run.watchers.pop("b")
    until(lambda: run.over)
    assert run.state == "stopped" and ward.out is None


def test_a_sentence_need_not_wait_for_the_end(house, clinic_folder, slow):
    run = check.Ward().join(house, clinic_folder, "a")
    start = time.monotonic()
    house.trace("Doctor, I have a fever.")
    assert time.monotonic() - start < 10 and not run.over


def test_the_page_can_stop_it(app, slow):
    at = press(app())
    assert fine(at) and at.get("progress") and verdicts(at)["digest"] == "running"
    at = at.button(key="check.run.stop").click().run()
    assert fine(at) and at.warning and at.session_state["check.run"].state == "stopped"
    assert "check.run.start" in [one.key for one in at.button]
