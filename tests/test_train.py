"""Training: gradients, balance, resuming, several processes, growing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from helpers import PYTHON, ROOT, SMALL, TOKENIZER, build, fingerprint, gap, one_sentence, some_ids
from torch import Tensor, nn
from torch.nn import functional as F

from model import kernels
from model.config import ModelConfig
from model.deepseek_v3 import DeepseekV3, Routing
from model.errors import UserError
from model.kernels import TILE, attend, grouped_experts, linear_cross_entropy
from model.tokenizer import Tokenizer
from model.train import (
    Run,
    TrainSettings,
    backward,
    grow,
    losses,
    nudge_biases,
    read_model,
    renumber,
    sequence_balance_loss,
    train,
)

C = SMALL.with_(vocab_size=4096, num_hidden_layers=3, n_routed_experts=8, n_group=2, topk_group=1, num_experts_per_tok=2)
S = TrainSettings(steps=12, rows=8, length=24, warmup=4, learning_rate=3e-3, seed=5, bias_freeze=0.25)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(TOKENIZER)


def numbers(folder: Path) -> list[tuple[float, float, float]]:
    """Losses and gradient norm of every step in the metrics file, which counts 1, 2, 3, ..."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return [(row["loss"], row["mtp_loss"], row["grad_norm"]) for row in rows]


@pytest.fixture(scope="module")
def whole(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that nobody disturbed: its folder, and the hash of the model that came out."""
    folder = tmp_path_factory.mktemp("run") / "whole"
    run = train(folder, C, S, tokenizer)
    return folder, fingerprint(run.model)


# -- gradients ----------------------------------------------------------------------------------------------------------


def randn(*shape: int, seed: int = 0, grad: bool = True) -> Tensor:
    out = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return out.requires_grad_(grad)


def test_gradient_of_attention() -> None:
    q, memory = randn(2, 5, 3, 7), randn(2, 5, 7, seed=1)
    assert torch.autograd.gradcheck(lambda q, m: attend(q, m, 4, 0.3), (q, memory))
    scores = torch.einsum("bthw,bsw->bhts", q, memory) * 0.3
    weights = (scores + torch.full((5, 5), -torch.inf, dtype=torch.float64).triu(1)).softmax(-1)
    assert gap(attend(q, memory, 4, 0.3), torch.einsum("bhts,bsr->bthr", weights, memory[..., :4])) < 1e-12


@pytest.mark.parametrize("length", [1, TILE, 2 * TILE + 3])
def test_attention_in_tiles(length: int) -> None:
    q, memory, probe = randn(2, length, 3, 7), randn(2, length, 7, seed=1), randn(2, length, 3, 4, seed=2, grad=False)
    scores = torch.einsum("bthw,bsw->bhts", q, memory) * 0.3
    weights = (scores + torch.full((length, length), -torch.inf, dtype=torch.float64).triu(1)).softmax(-1)
    slow, out = torch.einsum("bhts,bsr->bthr", weights, memory[..., :4]), attend(q, memory, 4, 0.3)
    assert gap(out, slow) < 1e-12
    for mine, theirs in zip(*(torch.autograd.grad(x, (q, memory), probe) for x in (out, slow)), strict=True):
        assert gap(mine, theirs) < 1e-11


@pytest.mark.parametrize("crowd", [0.0, 0.9])
@pytest.mark.parametrize("lines", [1, 3, kernels.LINES])
def test_gradient_of_experts(crowd: float, lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when nearly all want the same expert (its tokens then fill several lines) and some are never called."""
    monkeypatch.setattr(kernels, "LINES", lines)
    dice = torch.Generator().manual_seed(3)
    n, d, m, routed, k = 40, 3, 2, 6, 2
    chosen = torch.stack([torch.randperm(routed - 1, generator=dice)[:k] for _ in range(n)])
    if crowd:
        busy = torch.rand(n, generator=dice) < crowd
        chosen[busy] = torch.tensor([2, 4])
    u, gate_up, down = randn(n, d), randn(routed + 1, 2 * m, d, seed=1), randn(routed + 1, m, d, seed=2)
    weights = randn(n, k, seed=4)
    out = grouped_experts(u, gate_up, down, chosen, weights, routed)
    slow = torch.zeros_like(out)
    for t in range(n):
        for e, w in zip(chosen[t].tolist(), weights[t], strict=True):
            gate, up = (gate_up[e] @ u[t]).chunk(2)
            slow[t] = slow[t] + w * ((F.silu(gate) * up) @ down[e])
    assert gap(out, slow) < 1e-12
    probe = randn(n, d, seed=9, grad=False)
    mine, theirs = (torch.autograd.grad(x, (u, gate_up, down, weights), probe) for x in (out, slow))
    for a, b in zip(mine, theirs, strict=True):
        assert gap(a, b) < 1e-11
    few = (u[:6].detach().requires_grad_(), gate_up, down, weights[:6].detach().requires_grad_())
    assert torch.autograd.gradcheck(lambda u, g, d, w: grouped_experts(u, g, d, chosen[:6], w, routed), few)


def test_gradient_of_the_loss() -> None:
    states, head = randn(11, 4), randn(9, 4, seed=1)
    targets = torch.tensor([0, 8, 3, -1, 2, 2, -1, 7, 1, 0, 5])
    assert torch.autograd.gradcheck(lambda s, h: linear_cross_entropy(s, h, targets, rows=4), (states, head))
    expected = F.cross_entropy(states @ head.t(), targets, ignore_index=-1)
    assert gap(linear_cross_entropy(states, head, targets, rows=4), expected) < 1e-12
    assert float(linear_cross_entropy(states, head, torch.full((11,), -1))) == 0


def test_gradient_of_the_whole_model() -> None:
    """Every loss and every parameter against autograd on the plainest form of each, in float64."""
    model = build(C.with_(vocab_size=50), seed=6).double()
    ids = torch.randint(2, 50, (3, 9), generator=torch.Generator().manual_seed(0))
    settings = replace(S, balance_loss=0.1, mtp_loss=0.3)
    mine = losses(model, ids, settings)
    states, guess, routings = model(ids)
    next_token = F.cross_entropy((states[:, :-1] @ model.lm_head.weight.t()).flatten(0, 1), ids[:, 1:].flatten())
    mtp = F.cross_entropy((guess[:, :-1] @ model.lm_head.weight.t()).flatten(0, 1), ids[:, 2:].flatten())
    even = sum(slow_balance(r, 3, C) for r in routings) / len(routings)
    assert gap(mine.next_token, next_token) < 1e-10 and gap(mine.mtp, mtp) < 1e-10
    total = next_token + 0.3 * mtp + 0.1 * even
    assert gap(mine.total, total) < 1e-10
    parameters = list(model.parameters())
    for a, b in zip(torch.autograd.grad(mine.total, parameters), torch.autograd.grad(total, parameters), strict=True):
        assert gap(a, b) < 1e-10
    assert len(mine.loads) == C.num_moe_layers + 1
    assert [int(load.sum()) for load in mine.loads] == [27 * 2, 27 * 2, 24 * 2]


def slow_balance(routing: Routing, sequences: int, c: ModelConfig) -> Tensor:
    """Eq. 17-20, sequence by sequence and expert by expert."""
    out, length = routing.scores.new_zeros(()), routing.scores.shape[0] // sequences
    for s in range(sequences):
        rows = range(s * length, (s + 1) * length)
        for e in range(c.n_routed_experts):
            chosen = sum(e in routing.chosen[n].tolist() for n in rows)
            f = c.n_routed_experts / (c.num_experts_per_tok * length) * chosen
            out = out + f * sum(routing.scores[n, e] / routing.scores[n].sum() for n in rows) / length / sequences
    return out


def test_an_even_sequence_costs_1() -> None:
    scores = torch.full((8, 8), 0.5)
    chosen = torch.arange(16).view(8, 2) % 8
    even = Routing(scores, scores, scores, scores, chosen, chosen, scores, scores)
    assert float(sequence_balance_loss(even, 1, 2)) == pytest.approx(1)


# -- balance ------------------------------------------------------------------------------------------------------------


def test_the_crowded_become_less_attractive() -> None:
    model = build(C, bias=0.0)
    loads = torch.tensor([[9, 1, 4, 4, 4, 4, 4, 2]] * len(model.routers()))
    for _ in range(3):
        nudge_biases(model, loads, 0.01)
    for router in model.routers():
        bias = router.e_score_correction_bias
        assert float(bias[0]) < 0 < float(bias[1]) and float(bias[0]) < float(bias[2]) < float(bias[1])
        assert abs(float(bias.mean())) < 1e-7
        step = 0.01 * (torch.tensor([-1.0, 1, 0, 0, 0, 0, 0, 1]) - 1 / 8)
        assert gap(bias, 3 * step) < 1e-6


def test_biases_in_a_run(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Moved after every step by the loads of that step, mean 0, and still in the last quarter; no optimiser has them."""
    run = Run(tmp_path, C, S, tokenizer)
    held = {id(p) for group in run.optimiser.param_groups for p in group["params"]}
    assert held == {id(p) for p in run.model.parameters()}
    seen = []
    for _ in range(S.steps):
        run.advance()
        seen.append(torch.stack([r.e_score_correction_bias.clone() for r in run.model.routers()]))
    assert all(gap(a, b) > 0 for a, b in zip(seen[:8], seen[1:9], strict=True))
    assert all(torch.equal(seen[8], later) for later in seen[9:])
    assert float(seen[-1].mean(1).abs().max()) < 1e-6


def test_balance_improves() -> None:
    """A gate that favours some experts strongly; nudging alone must spread the load."""
    model = DeepseekV3(C.with_(vocab_size=50)).initialise(8)
    with torch.no_grad():
        for router in model.routers():
            router.weight[0] += 0.3 * torch.randn(C.hidden_size, generator=torch.Generator().manual_seed(1)).sign()
    ids = torch.randint(2, 50, (8, 24), generator=torch.Generator().manual_seed(0))

    def vio() -> float:
        with torch.no_grad():
            loads = torch.stack(losses(model, ids, S).loads)
        nudge_biases(model, loads, 0.02)
        return float((loads.amax(1) / loads.float().mean(1) - 1).mean())

    course = [vio() for _ in range(60)]
    assert sum(course[-10:]) / 10 < 0.6 * course[0]


# -- a run --------------------------------------------------------------------------------------------------------------


def test_loss_goes_down(whole: tuple[Path, str]) -> None:
    course = numbers(whole[0])
    assert len(course) == S.steps
    assert 7.5 < course[0][0] < 9.5 and course[-1][0] < course[0][0] - 0.4
    assert course[-1][1] < course[0][1] - 0.4


def test_equal_settings_give_equal_runs(whole: tuple[Path, str], tokenizer: Tokenizer, tmp_path: Path) -> None:
    run = train(tmp_path / "again", C, S, tokenizer)
    assert numbers(tmp_path / "again") == numbers(whole[0])
    assert fingerprint(run.model) == whole[1] == fingerprint(read_model(tmp_path / "again"))


@pytest.mark.parametrize(("saved", "lost"), [(1, 0), (3, 2), (6, 1), (9, 3), (11, 1)])
def test_resuming_loses_nothing(saved: int, lost: int, whole: tuple[Path, str], tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Stopped `lost` steps after the last save, at different parts of the course: the same numbers to the last bit."""
    first = Run(tmp_path, C, S, tokenizer)
    first.go(save_every=1e9, until=saved)
    with open(tmp_path / "metrics.jsonl", "a") as file:  # steps that were reported but never saved
        for _ in range(lost):
            file.write(json.dumps(first.advance()) + "\n")
    del first
    run = train(tmp_path, ModelConfig(), TrainSettings(), tokenizer, resume=True)  # the run's own settings hold
    assert run.model.c == C and run.settings == S
    assert numbers(tmp_path) == numbers(whole[0])
    assert fingerprint(run.model) == whole[1]


SCRIPT = """
import json, sys, torch
from pathlib import Path
torch.set_num_threads(1)
from model.config import ModelConfig
from model.tokenizer import Tokenizer
from model.train import TrainSettings, train
folder, tokenizer, config, settings, mode = sys.argv[1:6]
train(Path(folder), ModelConfig.from_dict(json.loads(config)), TrainSettings(**json.loads(settings)),
      Tokenizer.load(tokenizer), resume=mode == "resume", save_every=0)
"""


def command(folder: Path, mode: str = "start", settings: TrainSettings = S) -> list[str]:
    return [str(folder), str(TOKENIZER), json.dumps(C.to_dict()), json.dumps(asdict(settings)), mode]


def environment(**more: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return clean | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


def test_a_killed_process_goes_on_where_it_was(whole: tuple[Path, str], tokenizer: Tokenizer, tmp_path: Path) -> None:
    """SIGKILL twice, at whatever the process was doing, writing included; then to the end."""
    folder = tmp_path / "run"
    for mode, wanted in (("start", 3), ("resume", 7)):
        process = subprocess.Popen([PYTHON, "-c", SCRIPT, *command(folder, mode)], cwd=ROOT, env=environment(),
                                   stderr=subprocess.PIPE)  # fmt: skip
        limit, metrics = time.monotonic() + 120, folder / "metrics.jsonl"
        while not (metrics.exists() and len(metrics.read_text().splitlines()) >= wanted):
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < limit
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert (folder / "state.safetensors").exists()
        assert 0 < Run.read(folder)[2] < S.steps
    run = train(folder, C, S, tokenizer, resume=True)
    assert numbers(folder) == numbers(whole[0])
    assert fingerprint(run.model) == whole[1]


def test_a_line_cut_short_does_not_stop_a_resume(tokenizer: Tokenizer, tmp_path: Path) -> None:
    run = Run(tmp_path, C, S, tokenizer)
    run.go(until=2)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "lo')
    run = Run(tmp_path, C, S, tokenizer)
    run.load()
    run.go(until=4)
    assert len(numbers(tmp_path)) == 4


def test_two_processes_are_one(whole: tuple[Path, str], tmp_path: Path) -> None:
    """torchrun with gloo: the same global batch, the same losses up to the order of additions."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script, folder = tmp_path / "script.py", tmp_path / "run"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [PYTHON, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1", "--master_port",
         str(port), str(script), *command(folder)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    for mine, theirs in zip(numbers(folder), numbers(whole[0]), strict=True):
        assert mine[:2] == pytest.approx(theirs[:2], rel=1e-4)
    two, one = read_model(folder), read_model(whole[0])
    for a, b in zip(two.routers(), one.routers(), strict=True):
        assert gap(a.e_score_correction_bias, b.e_score_correction_bias) <= 2.1 * S.bias_speed


def test_refusals(whole: tuple[Path, str], tokenizer: Tokenizer, tmp_path: Path) -> None:
    for act, word in (
        (lambda: train(whole[0], C, S, tokenizer), "--resume"),
        (lambda: train(tmp_path / "none", C, S, tokenizer, resume=True), "no run to resume"),
        (lambda: train(tmp_path / "new", C, S, tokenizer, start_from=tmp_path / "none"), "none"),
        (lambda: grow(build(C), 2), "cannot grow"),
    ):
        with pytest.raises(UserError) as error:
            act()
        assert word in str(error.value)
    (tmp_path / "state.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(UserError):
        train(tmp_path, C, S, tokenizer, resume=True)


def test_an_exploding_run_says_so(tokenizer: Tokenizer, tmp_path: Path) -> None:
    run = Run(tmp_path, C, S, tokenizer)
    with torch.no_grad():
        run.model.lm_head.weight[5, 5] = float("nan")
    with pytest.raises(UserError) as error:
        run.advance()
    assert "not finite" in one_sentence(error)
    assert run.step == 0


def test_learning_rate() -> None:
    s = replace(S, steps=100, warmup=10)
    assert s.rate(0) == pytest.approx(s.learning_rate / 10) and s.rate(9) == pytest.approx(s.learning_rate)
    assert s.rate(55) == pytest.approx((s.learning_rate + s.final_learning_rate) / 2)
    assert s.rate(100) == pytest.approx(s.final_learning_rate)
    assert all(s.rate(n) >= s.rate(n + 1) for n in range(9, 100))


# -- growing ------------------------------------------------------------------------------------------------------------


def loss_of(model: DeepseekV3, ids: Tensor) -> float:
    with torch.no_grad():
        return float(losses(model, ids, S).next_token)


def test_a_grown_model_knows_what_it_knew(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """From 2 MoE layers to 8: the loss stays within 1 %, and training goes on from there."""
    run = Run(tmp_path, C, replace(S, steps=40, rows=16, warmup=5, learning_rate=6e-3), tokenizer)
    for _ in range(40):
        run.advance()
    run.save()
    ids = run.rows.batch(100, 32)
    before = fingerprint(run.model)
    grown = grow(run.model, 9)
    assert fingerprint(run.model) == before
    assert grown.c == C.with_(num_hidden_layers=9) and len(grown.layers) == 9 and grown.mtp is not None
    assert loss_of(grown, ids) == pytest.approx(loss_of(run.model, ids), rel=0.01)
    assert loss_of(run.model, ids) < 7.2  # it had learnt something to keep
    for copy, source in ((1, 1), (4, 1), (5, 2), (8, 2)):
        old, new = run.model.layers[source], grown.layers[copy]
        assert gap(new.self_attn.o_proj.weight * 4, old.self_attn.o_proj.weight) < 1e-6
        assert torch.equal(new.self_attn.kv_b_proj.weight, old.self_attn.kv_b_proj.weight)
        assert torch.equal(new.mlp.gate.e_score_correction_bias, old.mlp.gate.e_score_correction_bias)
    assert gap(grown.layers[1].mlp.experts.gate_up, grown.layers[2].mlp.experts.gate_up) > 0  # copies can part ways
    further = train(tmp_path / "deep", grown.c, replace(S, steps=3, warmup=1), tokenizer, start_from=tmp_path)
    assert further.model.c.num_hidden_layers == 9
    assert numbers(tmp_path / "deep")[0][0] == pytest.approx(loss_of(run.model, ids), rel=0.05)


def test_growing_by_nothing_changes_nothing() -> None:
    model = build(C, seed=41)
    assert fingerprint(grow(model, C.num_hidden_layers, noise=0)) == fingerprint(model)


def test_a_dense_model_grows_too() -> None:
    c = C.with_(num_hidden_layers=5, first_k_dense_replace=5, num_nextn_predict_layers=0)
    grown = grow(build(c), 9, noise=0)
    assert grown.c.first_k_dense_replace == 9 and all(isinstance(p, nn.Parameter) for p in grown.parameters())
    assert grown(torch.tensor([[3, 4, 5]]))[0].shape == (1, 3, c.hidden_size)


def test_new_numbers_change_no_result_and_keep_groups_together() -> None:
    model = build(C, seed=51, bias=0.3)
    ids = torch.tensor([some_ids(C, 20, 51)])
    logits, _, before = model(ids)
    size, routed = C.n_routed_experts // C.n_group, C.n_routed_experts
    old = [layer.mlp.gate.weight.clone() for layer in model.layers[C.first_k_dense_replace :]]
    renumber(model, 7)
    again, _, after = model(ids)
    assert torch.allclose(again, logits, atol=1e-5)
    assert any(not torch.equal(a.chosen, b.chosen) for a, b in zip(before, after, strict=True))
    orders = []
    for rows, layer in zip(old, model.layers[C.first_k_dense_replace :], strict=True):
        new = layer.mlp.gate.weight
        order = [int((rows - row).abs().sum(1).argmin()) for row in new]
        assert torch.equal(new, rows[order]) and sorted(order) == list(range(routed))
        assert all(len({e // size for e in order[at : at + size]}) == 1 for at in range(0, routed, size))
        orders.append(order)
    assert orders[0] != orders[1]  # every layer its own


def test_rows_dealt_to_threads_give_the_same_losses_and_gradients(tokenizer: Tokenizer) -> None:
    settings = replace(S, mtp_loss=0.3, balance_loss=0.01)
    model, ids = build(C, seed=61, bias=0.1), torch.tensor([some_ids(C, 24, seed) for seed in range(5)])
    whole = losses(model, ids, settings)
    whole.total.backward()
    expected = [p.grad.clone() for p in model.parameters()]
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            dealt = backward(model, ids, settings)
            again = [p.grad for p in model.parameters()]
            assert torch.get_num_threads() == threads
            assert float(dealt.total) == pytest.approx(float(whole.total), rel=1e-6)
            assert float(dealt.mtp) == pytest.approx(float(whole.mtp), rel=1e-6)
            assert all(torch.equal(a, b) for a, b in zip(dealt.loads, whole.loads, strict=True))
            assert max(gap(a, b) for a, b in zip(again, expected, strict=True)) < 1e-5
            exactly = [g.clone() for g in again]
            backward(model, ids, settings)
            assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), exactly, strict=True))
    finally:
        torch.set_num_threads(before)
