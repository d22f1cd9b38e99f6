"""Proofs on the machine at hand: what a checkpoint computes is what it should. `python -m model verify` prints them.

Nothing is compared with a stored result: every check sets two independent ways to one number side by side.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model import checkpoint
from model.costs import cache_bytes, parameters
from model.deepseek_v3 import DeepseekV3, choose
from model.errors import UserError
from model.generate import generate, generate_speculative
from model.live import LiveModel
from model.trace import Trace

EXAMPLES = Path(__file__).resolve().parents[1] / "assets" / "examples.json"
TOLERANCE = 3e-5  # of the largest logit: float32 rounding through 61 layers, measured against float64
TIE = 5e-6  # a choice closer than this may be decided by rounding


class Check(NamedTuple):
    """One claim: what was measured here, what was expected, and whether they agree."""

    name: str
    measured: int | float | str
    expected: int | float | str
    passed: bool


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


def _counts(live: LiveModel) -> list[Check]:
    engine, c = live.engine, live.config
    trace = live.trace(_examples()[0])
    count = parameters(c)
    model = engine.model
    mtp = sum(t.numel() for t in model.mtp.state_dict().values()) if model.mtp is not None else 0
    main = sum(t.numel() for t in model.state_dict().values()) - mtp
    expected_mtp = count.mtp if model.mtp is not None else 0
    different = min(len(set(row)) for layer in trace.chosen.tolist() for row in layer) if len(trace.chosen) else 0
    shown = trace.experts_per_token if different == c.num_experts_per_tok else -1
    size = c.n_routed_experts // c.n_group
    corridors = max((len({e // size for e in row}) for layer in trace.chosen.tolist() for row in layer), default=0)
    cache = engine.new_cache()
    engine.forward(list(trace.ids), cache)
    return [
        Check("experts that see one token", shown, c.experts_per_token, shown == c.experts_per_token),
        Check("parameters in tensors", main, count.main, main == count.main),
        Check("parameters of the MTP module", mtp, expected_mtp, mtp == expected_mtp),
        Check(f"bytes cached for {len(trace.ids)} tokens", cache.bytes, cache_bytes(c, len(trace.ids)),
              cache.bytes == cache_bytes(c, len(trace.ids))),
        Check("groups that one token's experts come from", corridors, f"at most {c.topk_group}",
              corridors <= c.topk_group),
    ]  # fmt: skip


def _same_results(live: LiveModel) -> list[Check]:
    engine, c = live.engine, live.config
    decode = plain = bits = moved = 0.0
    for text in _examples():
        ids = live.encode(text)
        trace = engine.trace(ids)
        cache = engine.new_cache()
        steps = torch.cat([engine.forward([i], cache)[0] for i in ids])
        decode = max(decode, _gap(steps, trace.logits, trace))
        plain = max(plain, _gap(engine.forward(ids, attention="plain")[0], trace.logits, trace))
        bits = max(bits, float((engine.forward(ids)[0] != trace.logits).sum()))
        if len(trace.chosen):
            scores = trace.choice_scores.flatten(0, 1)
            as_it_was = choose(scores.double(), c.n_group, c.topk_group, c.num_experts_per_tok)[2]
            raised = choose(scores.double() + 3.0, c.n_group, c.topk_group, c.num_experts_per_tok)[2]
            moved = max(moved, float((as_it_was != raised).sum()))
    within = f"at most {TOLERANCE:g} of the largest logit"
    return [
        Check("prefill against cached decode", decode, within, decode <= TOLERANCE),
        Check("absorbed against plain attention", plain, within, plain <= TOLERANCE),
        Check("numbers that differ between traced and untraced", int(bits), 0, bits == 0),
        Check("choices that a constant added to the bias changes", int(moved), 0, moved == 0),
    ]


def _speculation(live: LiveModel, tokens: int = 10) -> list[Check]:
    if live.engine.mtp_layer is None:
        return []
    examples, same = _examples(), 0
    for text in examples:
        ids = live.encode(text)
        same += generate(live.engine, ids, tokens).ids == generate_speculative(live.engine, ids, tokens).ids
    return [Check("examples whose speculative continuation is the greedy one", same, len(examples),
                  same == len(examples))]  # fmt: skip


def _parity(live: LiveModel) -> list[Check]:
    name = "logits against transformers"
    try:
        transformers = need_transformers()
    except UserError:
        return []
    previous = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checkpoint.export(live.engine.model, folder)
            theirs = transformers.DeepseekV3ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            worst = 0.0
            for text in _examples()[::4]:
                ids = live.encode(text)
                with torch.inference_mode():
                    expected = theirs(torch.tensor([ids])).logits[0]
                trace = live.engine.trace(ids)
                worst = max(worst, _gap(trace.logits, expected, trace))
    finally:
        transformers.utils.logging.set_verbosity(previous)
    return [Check(name, worst, f"at most {TOLERANCE:g} of the largest logit", worst <= TOLERANCE)]


def verify(live: LiveModel) -> list[Check]:
    """Every check on `live`, under a minute; parity is left out where transformers is not installed."""
    return [*_counts(live), *_same_results(live), *_speculation(live), *_parity(live)]
