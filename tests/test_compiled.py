"""The layers in one call against the engine's own, to the last bit: whole, from the middle on, stopped, from a cache."""

from __future__ import annotations

import threading

import pytest
import torch
from helpers import CLINIC, HOSPITAL, SMALL, build, some_ids

from model import compiled
from model.compiled import CompiledLayers
from model.engine import _SMALL_EXPERT, Engine
from model.interventions import GATES, Interventions
from model.trace import Trace

SHAPES = {"small": SMALL, "clinic": CLINIC, "hospital": HOSPITAL}


@pytest.fixture(scope="module", params=list(SHAPES))
def engine(request) -> Engine:
    made = Engine(build(SHAPES[request.param]))
    assert made._compiled is not None, "what is tested here is there"
    return made


@pytest.fixture
def read(engine, monkeypatch):
    """`read(f)`: what f gives with the layers as they are to be read, one after the other in Python."""

    def slowly(make):
        with monkeypatch.context() as m:
            m.setattr(engine, "_compiled", None)
            return make()

    return slowly


def equal(a: Trace, b: Trace) -> None:
    assert a.ids == b.ids
    for name, one in vars(a).items():
        if isinstance(one, torch.Tensor):
            other = getattr(b, name)
            assert one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other), name


@pytest.mark.parametrize("tokens", [1, 2, 7, 33])
def test_a_trace_is_the_same(engine, read, tokens):
    ids = some_ids(engine.c, tokens, seed=tokens)
    equal(engine.trace(ids), read(lambda: engine.trace(ids)))


def changes(c) -> list[Interventions]:
    first, last = c.first_k_dense_replace, c.num_hidden_layers - 1
    return [
        Interventions(dismiss=frozenset({(first, 3)})), Interventions(force=frozenset({(last, 1)})),
        Interventions(silence_shared=frozenset({first})), Interventions(silence_routed=frozenset({first, last})),
        Interventions(silence_heads=frozenset({(0, 1), (first, 0)})), Interventions(stop_after=first + 1),
        Interventions(stop_after=first + 1, dismiss=frozenset({(first, 0)})), Interventions(num_experts_per_tok=1),
        Interventions(latent_rank=2), *(Interventions(gate=gate) for gate in GATES[1:]),
        Interventions(latent_rank=1, num_experts_per_tok=2, gate="bias_in_weights", silence_shared=frozenset({first})),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(len(changes(SMALL))))
def test_changed_below_it_is_the_same_above(engine, read, number):
    do, ids = changes(engine.c)[number], some_ids(engine.c, 9)
    base = engine.trace(ids)
    slow = read(lambda: engine.trace(ids, do))
    equal(engine.trace(ids, do), slow)
    equal(engine.trace(ids, do, base), slow)
    assert torch.equal(engine.forward(ids, interventions=do)[0], slow.logits)


@pytest.mark.parametrize(
    "do", [Interventions(num_experts_per_tok=1), Interventions(latent_rank=2), *(Interventions(gate=g) for g in GATES)]
)
def test_what_changes_every_layer_is_run_at_once(engine, monkeypatch, do):
    """Or the test above would compare the engine with itself."""
    ran, run = [], CompiledLayers.run
    monkeypatch.setattr(CompiledLayers, "run", lambda *given: ran.append(given[6:8]) or run(*given))
    engine.trace(some_ids(engine.c, 4), do)
    assert ran == [(0, engine.c.num_hidden_layers)]


def test_word_by_word_it_is_the_same(engine, read):
    ids = some_ids(engine.c, 12)

    def walk() -> list[torch.Tensor]:
        cache = engine.new_cache()
        return [engine.forward(part, cache)[0] for part in (ids[:5], ids[5:6], ids[6:9], ids[9:10], ids[10:])]

    assert all(torch.equal(a, b) for a, b in zip(walk(), read(walk), strict=True))


def test_several_at_once(engine):
    """Nothing is shared between calls."""
    texts = [some_ids(engine.c, 3 + n, seed=n) for n in range(6)]
    alone, beside = [engine.trace(ids) for ids in texts], {}
    people = [threading.Thread(target=lambda n=n: beside.update({n: engine.trace(texts[n])})) for n in range(6)]
    [one.start() for one in people]
    [one.join() for one in people]
    for n, one in enumerate(alone):
        equal(one, beside[n])


def test_a_torch_that_cannot_compile_leaves_it_to_the_engine(monkeypatch, engine):
    def refuse(_: object) -> None:
        raise RuntimeError("not supported")

    monkeypatch.setattr(torch.jit, "script", refuse)
    compiled._can_script.cache_clear()
    try:
        other = Engine(engine.model)
        assert other._compiled is None
        equal(other.trace(some_ids(engine.c, 6)), engine.trace(some_ids(engine.c, 6)))
    finally:
        compiled._can_script.cache_clear()


@pytest.mark.parametrize("change", [{"kv_lora_rank": 15}, {"moe_intermediate_size": 1024, "hidden_size": 64}])
def test_what_does_not_fit_is_left_to_the_engine(change):
    from dataclasses import replace

    engine = Engine(build(replace(SMALL, **change)))
    assert not CompiledLayers.fits(engine, _SMALL_EXPERT) and engine._compiled is None
    assert engine.trace(some_ids(engine.c, 5)).logits.isfinite().all()


def test_a_copy_with_other_layers_runs_those(engine):
    """As the beds' coarse weights and the proofs that something wrong is seen."""
    from copy import copy
    from dataclasses import replace as changed

    other, ids = copy(engine), some_ids(engine.c, 6)
    other.layers = [changed(one, out_t=one.out_t * 2) for one in engine.layers]
    assert not torch.equal(other.trace(ids).logits, engine.trace(ids).logits)
