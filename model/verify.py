"""Proofs on the machine at hand: what a checkpoint computes is what it should. `python -m model verify` prints them.

Nothing is compared with a stored result of this project: every proof sets two independent ways to one number side by
side. A proof is a generator that rests between two passes, so that whoever shares the machine can be let in there.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model import catalogue
from model.checkpoint import SUM, WEIGHTS
from model.compiled import CompiledLayers
from model.config import ModelConfig
from model.costs import cache_bytes, parameters
from model.deepseek_v3 import DeepseekV3, MoE, choose
from model.errors import UserError
from model.generate import speculate, stream
from model.interventions import Interventions
from model.live import LiveModel
from model.tokenizer import BOS, EOS
from model.trace import Trace

EXAMPLES = Path(__file__).resolve().parents[1] / "assets" / "examples.json"
TOLERANCE = 3e-5  # of the largest logit: float32 rounding through 61 layers, measured against float64
WEIGHT_TOLERANCE = 1e-5  # of a weight or a sum of them, all of them of the order of 1
OPINION_TOLERANCE = 1e-4  # of the length of what a layer adds: a sum of opinions that partly cancel
TIE = 5e-6  # a choice closer than this may be decided by rounding
CONTINUED = 10  # tokens
TIMED_TOKENS, TIMED_ROUNDS = 32, 5
HOPELESS = 2.0  # times as slow as the best kernel
KERNELS = ("eager", "batched_mm", "grouped_mm")  # what transformers' set_experts_implementation offers

# Texts that are easily lost: parts of characters, marks, directions, controls, what looks like a special token.
ODD_TEXTS = (
    "炸酱面 2 + 2 = 4", "  two  spaces \n\n\t", "e\u0301\u0301 Å ﬁ ½ ﾊﾝｶｸ", "👩‍👩‍👧 🏥 🇨🇳",
    "שלום \u202eevil\u202c عربى", "𠮷野家 𪚥",
    "a\x00b\x07\x1b[31mc", f"a{BOS}b{EOS}", "<|endoftext|></s>", "\ufffd\ufeff\u2028", "Ω≈ç√∫˜µ≤", "0" * 40,
)  # fmt: skip


class Check(NamedTuple):
    """One claim: what was measured here, what was expected, and whether they agree."""

    name: str
    measured: int | float | str
    expected: int | float | str
    passed: bool
    key: str = ""  # the proof's own, in words and files
    tolerance: float = 0.0  # largest difference that passes; 0: measured and expected are equal
    seconds: float = 0.0  # of work
    missing: str | None = None  # why it could not be tried here: nothing was measured, and nothing failed


class Finding(NamedTuple):
    """What a proof comes to."""

    measured: int | float | str
    expected: int | float | str
    passed: bool
    tolerance: float = 0.0


REST = "rest"  # what a proof says between two pieces of work
APART = "apart"  # and before a long piece that is no pass of this model and need hold nobody up
Work = Generator[str, None, Finding]


class Missing(Exception):
    """A proof that cannot be tried on this checkpoint or on this machine; its text is a key of words."""


class Subject:
    """What is proved, and what several proofs need of it."""

    def __init__(self, live: LiveModel, folder: Path | None = None, beside: bool = True) -> None:
        self.live, self.engine, self.c, self.folder, self.beside = live, live.engine, live.config, folder, beside
        self.ids = [live.encode(text) for text in _examples()]
        self._traces: dict[int, Trace] = {}

    def traces(self) -> Generator[str, None, list[Trace]]:
        """Of every example, each made once; rests after each that is made."""
        for at, ids in enumerate(self.ids):
            if at not in self._traces:
                self._traces[at] = self.engine.trace(ids)
                yield REST
        return [self._traces[at] for at in range(len(self.ids))]

    def gated(self) -> Generator[str, None, list[Trace]]:
        """`traces`, where there are gates."""
        if not self.c.num_moe_layers:
            raise Missing("no_experts")
        return (yield from self.traces())

    @cached_property
    def twin(self) -> Any:
        """transformers' model with these weights."""
        try:
            need_transformers()
        except UserError as error:
            raise Missing("needs_transformers") from error
        if not self.beside:
            raise Missing("no_memory")
        return transformers_twin(self.engine.model)


def transformers_twin(model: DeepseekV3) -> Any:
    """transformers' DeepseekV3ForCausalLM with a copy of the same weights, in memory. UserError if not installed."""
    transformers = need_transformers()
    c = model.c
    config = transformers.DeepseekV3Config(**{k: v for k, v in c.to_dict().items() if k != "architectures"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = transformers.DeepseekV3ForCausalLM(config).eval()
    state: dict[str, Tensor] = {}
    m, routed = c.moe_intermediate_size, c.n_routed_experts
    for name, tensor in model.state_dict().items():
        if name.startswith("mtp."):
            continue
        name = name if name.startswith("lm_head") else f"model.{name}"
        shared = name.rpartition("experts.")[0] + "shared_experts."
        if name.endswith("experts.gate_up"):
            state[name + "_proj"] = tensor[:routed]
            state[shared + "gate_proj.weight"] = tensor[routed:, :m].flatten(0, 1)
            state[shared + "up_proj.weight"] = tensor[routed:, m:].flatten(0, 1)
        elif name.endswith("experts.down"):
            state[name + "_proj"] = tensor[:routed].transpose(1, 2)
            state[shared + "down_proj.weight"] = tensor[routed:].flatten(0, 1).t()
        else:
            state[name] = tensor
    theirs.load_state_dict(state)  # strict: every weight finds its place
    return theirs


def need_transformers() -> Any:
    """The transformers package, or a UserError that says how to get it."""
    try:
        import transformers
    except ImportError as error:
        raise UserError("This needs transformers, which only tests use: pip install -r requirements-dev.txt.",
                        "needs_transformers") from error  # fmt: skip
    return transformers


def margins(trace: Trace) -> Tensor:
    """(T,): how far the closest choice of a group or an expert was from going the other way, at any layer."""
    c = trace.config
    if not len(trace.chosen):
        return torch.full((len(trace.ids),), torch.inf)
    groups = trace.group_scores.sort(-1, descending=True).values
    shut = torch.ones_like(trace.group_scores, dtype=torch.bool).scatter_(-1, trace.kept_groups, False)
    shut = shut.repeat_interleave(c.n_routed_experts // c.n_group, -1)
    experts = trace.choice_scores.masked_fill(shut, -torch.inf).sort(-1, descending=True).values
    k, kept = trace.chosen.shape[-1], c.topk_group
    closest = experts[..., k - 1] - experts[..., k] if k < c.n_routed_experts else torch.full_like(experts[..., 0], 1.0)
    if kept < c.n_group:
        closest = torch.minimum(closest, groups[..., kept - 1] - groups[..., kept])
    return closest.amin(0)


def _gap(a: Tensor, b: Tensor, trace: Trace) -> float:
    """The largest difference of two (T, vocab) relative to the largest logit. A choice that hangs on the last bits may
    fall either way, and then that token and all that read it differ, rightly: they are left out if they do."""
    gaps = (a - b).abs().amax(1) / float(trace.logits.abs().max())
    tie = margins(trace).cummin(0).values < TIE
    return float(gaps.masked_fill(tie & (gaps > TOLERANCE), 0.0).max())


def _examples() -> list[str]:
    offered = json.loads(EXAMPLES.read_text("utf-8"))
    return [text for texts in offered.values() for text in texts]


def _equal(measured: int | str, expected: int | str) -> Finding:
    return Finding(measured, expected, measured == expected)


def _near(gap: float, tolerance: float, of: str) -> Finding:
    return Finding(gap, f"at most {tolerance:g} of {of}", gap <= tolerance, tolerance)


LARGEST = "the largest logit"

# -- the file and its counts ------------------------------------------------------------------------------------------


def _digest(s: Subject) -> Work:
    note = s.folder / SUM if s.folder is not None else None
    if note is None or not note.is_file():
        raise Missing("no_sum")
    yield REST
    found = hashlib.sha256()
    with open(note.with_name(WEIGHTS), "rb") as file:
        while part := file.read(2**24):
            found.update(part)
            yield REST
    return _equal(found.hexdigest(), (note.read_text("utf-8", "replace").split() or [""])[0])


def _numbers(module: torch.nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.state_dict().values())


def _parameters(s: Subject) -> Work:
    yield REST
    mtp = s.engine.model.mtp
    return _equal(_numbers(s.engine.model) - (_numbers(mtp) if mtp is not None else 0), parameters(s.c).main)


def _mtp(s: Subject) -> Work:
    if s.engine.model.mtp is None:
        raise Missing("no_mtp")
    yield REST
    return _equal(_numbers(s.engine.model.mtp), parameters(s.c).mtp)


def _published(what: str) -> Callable[[Subject], Work]:
    def work(s: Subject) -> Work:
        yield REST
        row, count = catalogue.find("deepseek-v3"), parameters(ModelConfig.preset("deepseek-v3"))
        said = next(figure for figure in row.published if figure.what == what)
        c = ModelConfig.preset("deepseek-v3")
        ours = count.main if what == "total" else count.active - c.vocab_size * c.hidden_size
        return Finding(ours, int(said.value), abs(ours - said.value) <= said.within, said.within)

    return work


def _cache(s: Subject) -> Work:
    cache = s.engine.new_cache()
    s.engine.forward(s.ids[0], cache)
    yield REST
    return _equal(cache.bytes, cache_bytes(s.c, len(s.ids[0])))


def _tokenizer(s: Subject) -> Work:
    if not s.live.tokenizer.is_byte_level:
        raise Missing("byteless")
    yield REST
    texts = [*_examples(), *ODD_TEXTS]
    return _equal(sum(s.live.tokenizer.decode(s.live.tokenizer.encode(text)) == text for text in texts), len(texts))


# -- the gate ---------------------------------------------------------------------------------------------------------


def _experts(s: Subject) -> Work:
    """Counted from who was called: as many different ones on every floor as there should be."""
    traces = yield from s.gated()
    rows = [row for trace in traces for layer in trace.chosen.tolist() for row in layer]
    same = all(len(set(row)) == s.c.num_experts_per_tok and max(row) < s.c.n_routed_experts for row in rows)
    return _equal(traces[0].experts_per_token if same else -1, s.c.experts_per_token)


def _corridors(s: Subject) -> Work:
    traces = yield from s.gated()
    size = s.c.n_routed_experts // s.c.n_group
    rows = [row for trace in traces for layer in trace.chosen.tolist() for row in layer]
    most = max(len({expert // size for expert in row}) for row in rows)
    return Finding(most, f"at most {s.c.topk_group}", most <= s.c.topk_group)


def _sums(s: Subject) -> Work:
    traces, c = (yield from s.gated()), s.c
    gap = 0.0
    for trace in traces:
        should = torch.ones(()) if c.norm_topk_prob else trace.raw_weights.double().sum(-1)
        gap = max(gap, float((trace.weights.double().sum(-1) - c.routed_scaling_factor * should).abs().max()))
    return _near(gap, WEIGHT_TOLERANCE, "1")


def _bias(s: Subject) -> Work:
    """Weights once more, in float64, from the gate's logits and who was called; no bias comes near them."""
    traces, gap = (yield from s.gated()), 0.0
    for trace in traces:
        raw = trace.router_logits.double().sigmoid().gather(-1, trace.chosen)
        shares = raw / raw.sum(-1, keepdim=True) if s.c.norm_topk_prob else raw
        gap = max(gap, float((trace.weights - shares * s.c.routed_scaling_factor).abs().max()))
    return _near(gap, WEIGHT_TOLERANCE, "1")


def _best(scores: Sequence[float], k: int) -> tuple[list[int], float]:
    """Places of the k largest, and how far the last of them is above the next."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    return order[:k], scores[order[k - 1]] - scores[order[k]] if k < len(scores) else torch.inf


def _choice(s: Subject) -> Work:
    """Everybody who was called, found again by sorting lists, from the gate's logits and its bias."""
    traces, c, wrong = (yield from s.gated()), s.c, 0
    size = c.n_routed_experts // c.n_group
    blocks = [layer.mlp for layer in s.engine.model.layers if isinstance(layer.mlp, MoE)]
    for trace in traces:
        for m, block in enumerate(blocks[: len(trace.chosen)]):
            bias = block.gate.e_score_correction_bias.double()
            for scores, called in zip((trace.router_logits[m].double().sigmoid() + bias).tolist(),
                                      trace.chosen[m].tolist(), strict=True):  # fmt: skip
                groups = [sum(sorted(scores[g * size : g * size + size])[-2:]) for g in range(c.n_group)]
                kept, clear = _best(groups, c.topk_group)
                left = [one if i // size in kept else -torch.inf for i, one in enumerate(scores)]
                wanted, apart = _best(left, c.num_experts_per_tok)
                wrong += set(wanted) != set(called) and min(clear, apart) > TIE
        yield REST
    return _equal(wrong, 0)


def _constant(s: Subject) -> Work:
    traces, c, moved = (yield from s.gated()), s.c, 0
    for trace in traces:
        scores = trace.choice_scores.flatten(0, 1).double()
        before = choose(scores, c.n_group, c.topk_group, c.num_experts_per_tok)[2]
        raised = choose(scores + 3.0, c.n_group, c.topk_group, c.num_experts_per_tok)[2]
        moved += int((before != raised).sum())
    return _equal(moved, 0)


def _opinions(s: Subject) -> Work:
    """Each expert asked alone, then added: what the layer added at once."""
    if not s.c.num_moe_layers:
        raise Missing("no_experts")
    trace, gap = s.engine.trace(s.ids[0]), 0.0
    yield REST
    for layer in range(s.c.first_k_dense_replace, s.c.num_hidden_layers):
        for token in (0, len(trace.ids) - 1):
            added = trace.ffn_output[layer, token]
            apart = s.engine.opinions(trace, layer, token).sum(0)
            gap = max(gap, float((apart - added).norm() / trace.hidden[layer + 1, token].norm()))
        yield REST
    return _near(gap, OPINION_TOLERANCE, "the state's length")


# -- two ways to one result -------------------------------------------------------------------------------------------


def _each(s: Subject, other: Callable[[list[int], Trace], Generator[str, None, Tensor]]) -> Work:
    """The largest gap between the engine's logits and another way's, over all examples."""
    traces, worst = (yield from s.traces()), 0.0
    for ids, trace in zip(s.ids, traces, strict=True):
        worst = max(worst, _gap((yield from other(ids, trace)), trace.logits, trace))
    return _near(worst, TOLERANCE, LARGEST)


def _readable(s: Subject) -> Work:
    def other(ids: list[int], trace: Trace) -> Generator[str, None, Tensor]:
        with torch.inference_mode():
            states, _, _ = s.engine.model(torch.tensor([ids]))
            logits = s.engine.model.lm_head(states)[0]
        yield REST
        return logits

    return (yield from _each(s, other))


def _decode(s: Subject) -> Work:
    def other(ids: list[int], trace: Trace) -> Generator[str, None, Tensor]:
        cache, rows = s.engine.new_cache(), []
        for id in ids:
            rows.append(s.engine.forward([id], cache)[0])
            yield REST
        return torch.cat(rows)

    return (yield from _each(s, other))


def _plain(s: Subject) -> Work:
    def other(ids: list[int], trace: Trace) -> Generator[str, None, Tensor]:
        logits = s.engine.forward(ids, attention="plain")[0]
        yield REST
        return logits

    return (yield from _each(s, other))


def _traced(s: Subject) -> Work:
    traces, differ = (yield from s.traces()), 0
    for ids, trace in zip(s.ids, traces, strict=True):
        differ += int((s.engine.forward(ids)[0] != trace.logits).sum())
        yield REST
    return _equal(differ, 0)


def _causality(s: Subject) -> Work:
    """Another token in the middle, and another one at the end: everybody before it must stay as he was."""
    traces, worst = (yield from s.traces()), 0.0
    for ids, trace in zip(s.ids, traces, strict=True):
        for at in {len(ids) // 2, len(ids) - 1} - {0}:
            other = next(id for id in s.ids[0] + s.ids[-1] if id != ids[at])
            changed = s.engine.trace([*ids[:at], other, *ids[at + 1 :]])
            worst = max(worst, float((changed.logits[:at] - trace.logits[:at]).abs().max() / trace.logits.abs().max()))
            if bool((changed.logits[at:] == trace.logits[at:]).all()):
                return Finding("nothing changed at all", "another answer from there on", False)
            yield REST
    return _near(worst, TOLERANCE, LARGEST)


def _speculation(s: Subject) -> Work:
    if s.engine.mtp_layer is None:
        raise Missing("no_mtp")
    same, tokens, several = 0, CONTINUED, s.ids[::2]
    for ids in several:
        greedy: list[int] = []
        for result in stream(s.engine, ids):
            greedy.append(result.id)
            yield REST
            if len(greedy) == tokens or result.id == s.c.eos_token_id:
                break
        guessed: list[int] = []
        for so_far in speculate(s.engine, ids, tokens):
            guessed = list(so_far.ids)
            yield REST
        same += greedy == guessed
    return _equal(same, len(several))


def changes(c: ModelConfig, trace: Trace) -> list[tuple[Interventions, bool]]:
    """One of every kind of intervention, on the lowest, the middle and the highest floor where it has one; and whether
    it must be felt at once (an opened gate may happen to call the same)."""
    first, last, end = c.first_k_dense_replace, c.num_hidden_layers - 1, len(trace.ids) - 1
    made = [(Interventions(latent_rank=1), c.kv_lora_rank > 1)]
    made += [(Interventions(stop_after=n), False) for n in sorted({1, c.num_hidden_layers})]
    made += [(Interventions(silence_heads=frozenset({(at, 0)})), True) for at in sorted({0, last // 2, last})]
    if not c.num_moe_layers:
        return made
    for at in sorted({first, (first + last) // 2, last}):
        called, everybody = trace.chosen[at - first, end].tolist(), range(c.n_routed_experts)
        made.append((Interventions(dismiss=frozenset({(at, called[0])})), True))
        made += [(Interventions(force=frozenset({(at, e)})), True) for e in everybody if e not in called][:1]
        made.append((Interventions(silence_routed=frozenset({at})), True))
        if c.n_shared_experts:
            made.append((Interventions(silence_shared=frozenset({at})), True))
    made.append((Interventions(num_experts_per_tok=1), c.num_experts_per_tok > 1))
    made += [(Interventions(gate=gate), False) for gate in ("bias_in_weights", "mask_with_zero", "softmax")]
    return made


def _reach(s: Subject) -> Work:
    """Run whole, not from the changed floor on: below it not one bit may differ, above it something must."""
    trace, right = s.engine.trace(s.ids[0]), 0
    yield REST
    several = changes(s.c, trace)
    for do, felt in several:
        at = do.first_layer(s.c)
        changed = s.engine.trace(s.ids[0], do)
        below = bool((changed.hidden[: at + 1] == trace.hidden[: at + 1]).all())
        right += below and (not felt or bool((changed.hidden[at + 1] != trace.hidden[at + 1]).any()))
        yield REST
    return _equal(right, len(several))


def _base(s: Subject) -> Work:
    """What is taken over from an untouched pass, against all of it computed again."""
    ids, differ = s.ids[0], 0
    trace = s.engine.trace(ids)
    yield REST
    for do, _ in changes(s.c, trace):
        short, whole = s.engine.trace(ids, do, trace), s.engine.trace(ids, do)
        differ += int((short.hidden != whole.hidden).sum()) + int((short.logits != whole.logits).sum())
        yield REST
    return _equal(differ, 0)


# -- beside transformers ----------------------------------------------------------------------------------------------


def _parity(s: Subject) -> Work:
    yield APART
    theirs = s.twin
    yield REST

    def other(ids: list[int], trace: Trace) -> Generator[str, None, Tensor]:
        with torch.inference_mode():
            logits = theirs(torch.tensor([ids]), use_cache=False).logits[0]
        yield REST
        return logits

    return (yield from _each(s, other))


def _speed(s: Subject) -> Work:
    """Medians of rounds in which all sides take turns; transformers with its best kernel against a full trace here."""
    yield APART
    theirs = s.twin
    yield REST
    ids = [id for one in s.ids for id in one][:TIMED_TOKENS]
    row = torch.tensor([ids])

    def forward(kernel: str) -> None:
        theirs.set_experts_implementation(kernel)
        with torch.inference_mode():
            theirs(row, use_cache=False)

    spent: dict[str, list[float]] = {name: [] for name in ("", *KERNELS)}
    for _ in range(TIMED_ROUNDS + 1):
        for name, times in spent.items():
            start = time.perf_counter()
            if name:
                forward(name)
            else:
                s.engine.trace(ids)
            times.append(time.perf_counter() - start)
            yield REST
        best = min(times[-1] for name, times in spent.items() if name)
        # The first round only warms up, and tells which kernels have no chance of being the best.
        spent = {name: times for name, times in spent.items() if not name or times[-1] < HOPELESS * best}
    ours, *others = (statistics.median(times[1:]) for times in spent.values())
    ratio = min(others) / ours
    return Finding(ratio, "more than 1", ratio > 1)


# -- all of them ------------------------------------------------------------------------------------------------------


class Proof(NamedTuple):
    """A claim and how it is tried."""

    key: str
    name: str
    work: Callable[[Subject], Work]


PROOFS = (
    Proof("digest", "SHA-256 of the weights", _digest),
    Proof("parameters", "parameters in tensors", _parameters),
    Proof("mtp", "parameters of the MTP module", _mtp),
    Proof("v3_total", "parameters of DeepSeek-V3 by formula", _published("total")),
    Proof("v3_active", "active parameters of DeepSeek-V3 by formula", _published("active_without_embedding")),
    Proof("tokenizer", "odd texts that come back from the tokenizer", _tokenizer),
    Proof("cache", "bytes cached for the first example", _cache),
    Proof("experts", "experts that see one token", _experts),
    Proof("corridors", "groups that one token's experts come from", _corridors),
    Proof("sums", "sum of the weights against the scaling factor", _sums),
    Proof("bias", "weights against those from scores without bias", _bias),
    Proof("choice", "choices that sorting by hand does not make", _choice),
    Proof("constant", "choices that a constant added to the bias changes", _constant),
    Proof("opinions", "opinions one by one against what a layer adds", _opinions),
    Proof("readable", "engine against the readable implementation", _readable),
    Proof("decode", "prefill against cached decode", _decode),
    Proof("plain", "absorbed against plain attention", _plain),
    Proof("traced", "numbers that differ between traced and untraced", _traced),
    Proof("causality", "earlier tokens against a changed later one", _causality),
    Proof("speculative", "examples whose speculative continuation is the greedy one", _speculation),
    Proof("reach", "interventions felt from their floor up only", _reach),
    Proof("base", "numbers that differ where an untouched pass was taken over", _base),
    Proof("parity", "logits against transformers", _parity),
)  # fmt: skip
SPEED = Proof("speed", "time of transformers over ours", _speed)


def steps(
    live: LiveModel, folder: Path | None = None, proofs: Sequence[Proof] = PROOFS, beside: bool = True
) -> Iterator[Check | str]:
    """The proofs on `live` one by one: REST (or APART) after every piece of work, a pass or so, and a Check at the
    end of each proof. `folder`: where `live` was loaded from. `beside`: whether there is memory for transformers' copy
    of the weights. What breaks a proof fails it."""
    subject = Subject(live, folder, beside)
    for proof in proofs:
        work, spent, missing = proof.work(subject), 0.0, None
        found: Finding | None = None
        while found is None:
            piece, start = REST, time.perf_counter()
            try:
                piece = next(work)
            except StopIteration as end:
                found = end.value
            except Missing as reason:
                missing, found = str(reason), Finding("", "", False)
            except Exception as error:
                logging.getLogger(__name__).error("%s: %s", proof.key, type(error).__name__, exc_info=error)
                found = Finding(type(error).__name__, "a result", False)
            spent += time.perf_counter() - start
            if found is None:
                yield piece
        yield Check(proof.name, *found[:3], key=proof.key, tolerance=found.tolerance, seconds=spent, missing=missing)


def bytes_needed(c: ModelConfig) -> tuple[int, int]:
    """Bytes that the proofs hold beside the model: the examples' traces, and transformers' copy while it is filled."""
    tokens, width = 16 * len(_examples()), c.kv_lora_rank + c.qk_rope_head_dim
    gates = c.num_moe_layers * (3 * c.n_routed_experts + 4 * c.num_experts_per_tok)
    layers = c.num_hidden_layers * (2 * c.hidden_size + (c.num_attention_heads + 1) * width)
    return 4 * tokens * (gates + layers + c.vocab_size), 2 * 4 * parameters(c).main


def spoiled(live: LiveModel) -> LiveModel:
    """`live` with one wrong number in what its engine multiplies on the middle layer, to see which proofs notice. All
    other tensors are shared; `live` itself stays as it is."""
    engine = copy.copy(live.engine)
    at = live.config.num_hidden_layers // 2
    layer = engine.layers[at]
    wrong = layer.out_t.clone()  # (H x r, 2d): every number stands there with both signs
    row, column = divmod(int(wrong[:, : live.config.hidden_size].abs().argmax()), live.config.hidden_size)
    wrong[row, [column, column + live.config.hidden_size]] *= -1
    engine.layers = [*engine.layers[:at], replace(layer, out_t=wrong), *engine.layers[at + 1 :]]
    engine._compiled = engine._compiled and CompiledLayers(engine)  # what visitors' sentences go through
    return LiveModel(engine, live.tokenizer)


def verify(live: LiveModel, folder: Path | None = None) -> list[Check]:
    """Every proof on `live` in about a minute; what cannot be tried here (parity without transformers, say) is left
    out."""
    return [check for check in steps(live, folder) if isinstance(check, Check) and check.missing is None]
