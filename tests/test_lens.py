"""What is read off a trace afterwards: the logit lens, and the shared experts' part on every floor."""

from __future__ import annotations

import pytest
import torch
from helpers import CLINIC, HOSPITAL, SMALL, build, gap, some_ids
from torch.nn import functional as F

from model.engine import Engine
from model.interventions import Interventions

FORMS = [SMALL, CLINIC, SMALL.with_(n_shared_experts=0), SMALL.with_(n_shared_experts=2),
         SMALL.with_(first_k_dense_replace=0), SMALL.with_(first_k_dense_replace=4)]  # fmt: skip


@pytest.mark.parametrize("form", range(len(FORMS)))
@pytest.mark.parametrize("count", [1, 2, 17, 100])
def test_the_lens_ends_with_the_answer_and_begins_with_the_word(form: int, count: int) -> None:
    c = FORMS[form]
    engine, ids = Engine(build(c, seed=21)), some_ids(c, count, 21)
    trace = engine.trace(ids)
    for token in {0, count // 2, count - 1}:
        lens = engine.lens(trace, token)
        assert lens.shape == (c.num_hidden_layers + 1, c.vocab_size)
        assert gap(lens[-1], trace.logits[token]) < 1e-5
        word = engine.model.norm(engine.model.embed_tokens(torch.tensor(ids[token])))
        assert gap(lens[0], F.linear(word, engine.model.lm_head.weight)) < 1e-5


@pytest.mark.parametrize("form", range(len(FORMS)))
def test_a_row_of_the_lens_is_a_pass_that_stops_there(form: int) -> None:
    c = FORMS[form]
    engine, ids = Engine(build(c, seed=22)), some_ids(c, 9, 22)
    trace = engine.trace(ids)
    for floor in range(1, c.num_hidden_layers + 1):
        do = Interventions(stop_after=floor)
        stopped, reused = engine.trace(ids, do), engine.trace(ids, do, trace)
        assert gap(engine.lens(trace, 4)[floor], stopped.logits[4]) < 1e-5
        assert torch.equal(stopped.logits, reused.logits)
        assert gap(engine.lens(stopped, 4), engine.lens(trace, 4)[: floor + 1]) < 1e-5


def test_the_lens_of_the_hospital() -> None:
    c = HOSPITAL.with_(vocab_size=64)
    engine, ids = Engine(build(c, bias=0.05)), [3, 9, 4, 1, 5]
    trace = engine.trace(ids)
    for token in range(len(ids)):
        assert gap(engine.lens(trace, token)[-1], trace.logits[token]) < 1e-5


@pytest.mark.parametrize("form", range(len(FORMS)))
def test_shared_and_routed_experts_make_up_the_floor(form: int) -> None:
    """Against every chosen expert of every layer, computed one by one with the module's own matrices."""
    c = FORMS[form]
    engine, ids, token = Engine(build(c, seed=23)), some_ids(c, 7, 23), 5
    trace = engine.trace(ids)
    shared = engine.shared_output(trace, token)
    assert shared.shape == (c.num_moe_layers, c.hidden_size)
    for m in range(c.num_moe_layers):
        layer = m + c.first_k_dense_replace
        block = engine.model.layers[layer]
        u = block.post_attention_layernorm(trace.mid[layer, token])

        def opinion(expert: int, block=block, u=u) -> torch.Tensor:
            gate, up = F.linear(u, block.mlp.experts.gate_up[expert]).chunk(2)
            return (F.silu(gate) * up) @ block.mlp.experts.down[expert]

        nurses = sum((opinion(c.n_routed_experts + n) for n in range(c.n_shared_experts)), torch.zeros(c.hidden_size))
        pairs = zip(trace.weights[m, token], trace.chosen[m, token].tolist(), strict=True)
        interns = sum((weight * opinion(expert) for weight, expert in pairs), torch.zeros(c.hidden_size))
        assert gap(shared[m], nurses) < 1e-5
        assert gap(trace.ffn_output[layer, token] - shared[m], interns) < 1e-4
        assert not c.n_shared_experts or float(shared[m].norm()) > 0


def test_a_silenced_nurse_adds_nothing_and_a_stopped_walk_has_fewer_floors() -> None:
    engine, ids = Engine(build(SMALL, seed=24)), some_ids(SMALL, 6, 24)
    trace = engine.trace(ids, Interventions(silence_shared=frozenset({2})))
    shared = engine.shared_output(trace, 3)
    assert shared[1].eq(0).all() and shared[0].ne(0).any() and shared[2].ne(0).any()
    stopped = engine.trace(ids, Interventions(stop_after=2))
    assert torch.equal(engine.shared_output(stopped, 3), engine.shared_output(engine.trace(ids), 3)[:1])


@pytest.mark.parametrize("form", range(len(FORMS)))
def test_what_every_part_is_worth_adds_up_to_the_logit(form: int) -> None:
    engine, ids, token = Engine(build(FORMS[form], seed=25)), some_ids(FORMS[form], 8, 25), 6
    trace = engine.trace(ids)
    for id in (5, int(trace.logits[token].argmax())):
        readout = engine.readout(trace, token, id)
        parts = [trace.hidden[0, token], *trace.attention_output[:, token], *trace.ffn_output[:, token]]
        worth = sum(float(part @ readout) for part in parts)
        assert worth == pytest.approx(float(trace.logits[token, id] - trace.logits[token].mean()), abs=1e-4)
