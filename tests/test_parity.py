"""Our three forms of the model against transformers' DeepseekV3ForCausalLM: the same weights, the same logits."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from helpers import HOSPITAL, SMALL, TOKENIZER, YARN, build, gap, one_sentence, some_ids, step_by_step
from torch import Tensor
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, PreTrainedTokenizerFast
from transformers.modeling_layers import MtpModel

from model import bench as bench_module
from model import checkpoint, load
from model import verify as verify_module
from model.config import ModelConfig
from model.deepseek_v3 import DeepseekV3
from model.engine import Engine
from model.errors import UserError
from model.generate import generate
from model.tokenizer import Tokenizer
from model.verify import PROOFS, margins, transformers_twin, verify

TOLERANCE = 1e-5
DEEP_TOLERANCE = 3e-5  # of the largest logit, after 61 layers

SHAPES: dict[str, ModelConfig] = {
    "plain": SMALL,
    "yarn": SMALL.with_(rope_scaling=YARN, max_position_embeddings=2560),
    "no q-LoRA": SMALL.with_(q_lora_rank=None),
    "no q-LoRA, yarn without mscale": SMALL.with_(
        q_lora_rank=None, rope_scaling={k: v for k, v in YARN.items() if not k.startswith("mscale")},
        max_position_embeddings=2560,
    ),
    "one group": SMALL.with_(n_group=1, topk_group=1, num_experts_per_tok=6),
    "two groups, all kept": SMALL.with_(n_group=2, topk_group=2, num_experts_per_tok=2),
    "eight groups": SMALL.with_(n_routed_experts=64, n_group=8, topk_group=4, num_experts_per_tok=8),
    "one expert chosen": SMALL.with_(num_experts_per_tok=1, topk_group=1, first_k_dense_replace=2),
    "not normalised": SMALL.with_(norm_topk_prob=False, routed_scaling_factor=0.7, num_experts_per_tok=3),
    "three dense layers": SMALL.with_(num_hidden_layers=5, first_k_dense_replace=3, rope_theta=500.0),
    "two shared experts, other eps": SMALL.with_(n_shared_experts=2, rms_norm_eps=1e-5, num_attention_heads=6),
}  # fmt: skip


class Pair(NamedTuple):
    model: DeepseekV3
    engine: Engine
    theirs: DeepseekV3ForCausalLM
    ids: list[int]
    folder: Path


def their_logits(theirs: DeepseekV3ForCausalLM, ids: list[int]) -> Tensor:
    with torch.inference_mode():
        return theirs(torch.tensor([ids])).logits[0]


def their_steps(theirs: DeepseekV3ForCausalLM, ids: list[int]) -> Tensor:
    cache, out = None, []
    with torch.inference_mode():
        for i in ids:
            result = theirs(torch.tensor([[i]]), past_key_values=cache, use_cache=True)
            cache = result.past_key_values
            out.append(result.logits[0])
    return torch.cat(out)


def open_theirs(folder: Path, **changes: Any) -> DeepseekV3ForCausalLM:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return DeepseekV3ForCausalLM.from_pretrained(folder, dtype=torch.float32, **changes).eval()


@pytest.fixture(scope="module", params=list(SHAPES))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """One model of each shape, here and, by way of an exported folder, there."""
    c = SHAPES[request.param]
    model = build(c, seed=3)
    folder = tmp_path_factory.mktemp("export")
    checkpoint.export(model, folder)
    return Pair(model, Engine(model), open_theirs(folder), some_ids(c, 24), folder)


def test_logits_are_theirs(pair: Pair) -> None:
    """Absorbed and plain, at once and step by step, engine and module: six ways, one result."""
    theirs = their_logits(pair.theirs, pair.ids)
    assert 1 < float(theirs.abs().max()) < 5  # an absolute bound means something
    assert gap(theirs, their_steps(pair.theirs, pair.ids)) < TOLERANCE
    for attention in ("absorbed", "plain"):
        at_once, _ = pair.engine.forward(pair.ids, attention=attention)  # type: ignore[arg-type]
        assert gap(at_once, theirs) < TOLERANCE, attention
        assert gap(step_by_step(pair.engine, pair.ids, attention=attention), theirs) < TOLERANCE, attention
    with torch.inference_mode():
        states, _, _ = pair.model(torch.tensor([pair.ids]))
        assert gap(pair.model.lm_head(states)[0], theirs) < TOLERANCE
    assert gap(pair.engine.trace(pair.ids).logits, theirs) < TOLERANCE


def test_cache_is_theirs(pair: Pair) -> None:
    """The same numbers are cached. Their rotary key has the even numbers first, ours keeps the published order."""
    r = pair.model.c.kv_lora_rank
    cache = pair.engine.new_cache()
    pair.engine.forward(pair.ids, cache)
    with torch.inference_mode():
        layers = pair.theirs(torch.tensor([pair.ids]), use_cache=True).past_key_values.layers
    for index, layer in enumerate(layers):
        assert gap(cache.memory[index, :, :r], layer.keys[0, 0]) < TOLERANCE
        rotary = torch.cat([cache.memory[index, :, r::2], cache.memory[index, :, r + 1 :: 2]], 1)
        assert gap(rotary, layer.values[0, 0]) < TOLERANCE


def test_scores_and_choices_are_theirs(pair: Pair) -> None:
    with torch.inference_mode():
        logits = pair.theirs(torch.tensor([pair.ids]), output_router_logits=True).router_logits
    trace = pair.engine.trace(pair.ids)
    assert gap(torch.stack(list(logits)), trace.router_logits) < TOLERANCE


def test_another_rotation_is_another_model(pair: Pair) -> None:
    """Negative control: with half-split instead of interleaved pairs the same comparison must fail."""
    wrong = open_theirs(pair.folder, rope_interleave=False)
    assert gap(their_logits(wrong, pair.ids), their_logits(pair.theirs, pair.ids)) > 1e-3


def test_transformers_loads_every_weight(pair: Pair) -> None:
    """Nothing that their model has is left at a random value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, info = DeepseekV3ForCausalLM.from_pretrained(pair.folder, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"]
    mtp = f"model.layers.{pair.model.c.num_hidden_layers}."
    assert all(key.startswith(mtp) for key in info["unexpected_keys"])


def test_multi_token_prediction_is_theirs(pair: Pair) -> None:
    """Their MtpModel, opened from our export, guesses what `predict_further` and the module guess."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = MtpModel(pair.theirs, 1).eval()
    names = {"norm": "post_norm", "block": "mtp_block"}
    state = {}
    m, routed, mtp = pair.model.c.moe_intermediate_size, pair.model.c.n_routed_experts, pair.model.mtp
    assert mtp is not None
    for name, tensor in mtp.state_dict().items():
        first, _, rest = name.partition(".")
        name = f"layers.0.{names.get(first, first)}.{rest}"
        if name.endswith("experts.gate_up"):
            state[name + "_proj"] = tensor[:routed]
            shared = name.replace("experts.gate_up", "shared_experts.")
            state[shared + "gate_proj.weight"] = tensor[routed:, :m].flatten(0, 1)
            state[shared + "up_proj.weight"] = tensor[routed:, m:].flatten(0, 1)
        elif name.endswith("experts.down"):
            state[name + "_proj"] = tensor[:routed].transpose(1, 2)
            state[name.replace("experts.down", "shared_experts.down_proj.weight")] = tensor[routed:].flatten(0, 1).t()
        else:
            state[name] = tensor
    info = theirs.load_state_dict(state, strict=False)
    assert not info.unexpected_keys and all("layers." not in key for key in info.missing_keys)
    ids = pair.ids
    _, states = pair.engine.forward(ids[:-1])
    position = torch.arange(len(ids) - 1)[None]
    with torch.inference_mode():
        embedded = theirs.embed_tokens(torch.tensor([ids[1:]]))
        block = theirs.layers[0](
            embedded, states[None], theirs.rotary_emb(embedded, position),
            torch.full((len(ids) - 1,) * 2, -torch.inf).triu(1)[None, None], position, None,
        )  # fmt: skip
        expected = theirs.shared_head(block)[0]
        _, guess, _ = pair.model(torch.tensor([ids]))
        assert gap(pair.model.lm_head(guess)[0], expected) < TOLERANCE
    assert gap(pair.engine.predict_further(ids[1:], states, pair.engine.new_cache(mtp=True)), expected) < TOLERANCE
    cache = pair.engine.new_cache(mtp=True)
    steps = [pair.engine.predict_further([i], states[n : n + 1], cache) for n, i in enumerate(ids[1:])]
    assert gap(torch.cat(steps), expected) < TOLERANCE


def test_the_same_text_comes_out(tmp_path: Path) -> None:
    """Greedy generation from a text, with the tokenizer that travels with the export."""
    c = SMALL.with_(vocab_size=4096, num_hidden_layers=3)
    model = build(c, seed=5)
    checkpoint.export(model, tmp_path, TOKENIZER)
    theirs, engine = open_theirs(tmp_path), Engine(model)
    their_tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    for text in ("医生，我发烧。", "The hospital has 61 floors.", "炸酱面 123"):
        ids = tokenizer.encode(text)
        assert their_tokenizer(text)["input_ids"] == ids
        out = theirs.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=20)[0].tolist()
        ours = generate(engine, ids, 20).ids
        assert out == ids + ours
        assert their_tokenizer.decode(out, skip_special_tokens=True) == tokenizer.decode(ids + ours)


@pytest.mark.parametrize("shard", ["200KB", "1GB"])
@pytest.mark.parametrize("name", ["plain", "yarn", "no q-LoRA", "two shared experts, other eps"])
def test_their_folder_opens_here(tmp_path: Path, shard: str, name: str) -> None:
    """What transformers saves, sharded or not, without an MTP module, gives the same logits here."""
    settings = SHAPES[name].to_dict()
    torch.manual_seed(0)
    theirs = DeepseekV3ForCausalLM(DeepseekV3Config(**settings)).eval()
    with torch.no_grad():
        for key, tensor in theirs.state_dict().items():
            if key.endswith("bias"):
                tensor.normal_(0, 0.1)
            elif tensor.dim() > 1:
                tensor.mul_(5)
    theirs.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "200KB")
    model = checkpoint.load(tmp_path)
    assert model.mtp is None
    ids = some_ids(SHAPES[name], 12)
    assert gap(Engine(model).forward(ids)[0], their_logits(theirs, ids)) < TOLERANCE


def test_the_whole_hospital_is_as_close_as_float32_allows() -> None:
    """61 floors, 256 experts. Rounding alone grows with depth, theirs and ours: a float64 pass is the truth, and each
    of the four float32 ones must lie within 3e-5 of the largest logit of it."""
    c = HOSPITAL.with_(vocab_size=512)
    for seed in range(20):  # a model in which no choice hangs on the last bits, so that rounding cannot flip one
        model, ids = build(c, seed, bias=0.02), some_ids(c, 5, seed)
        engine = Engine(model)
        trace = engine.trace(ids)
        if float(margins(trace).min()) > 2e-5:
            break
    else:
        pytest.fail("no seed with clear choices")
    theirs = their_logits(transformers_twin(model), ids)
    steps, plain = step_by_step(engine, ids), engine.forward(ids, attention="plain")[0]
    with torch.inference_mode():
        truth = model.double()(torch.tensor([ids]))[0]
        truth = model.lm_head(truth)[0]
    size = float(truth.abs().max())

    def rounding(logits: Tensor) -> float:
        """Root mean square distance from the truth."""
        return float((logits.double() - truth).square().mean().sqrt())

    for logits in (theirs, trace.logits, steps, plain):
        assert gap(logits.double(), truth) < DEEP_TOLERANCE * size
        assert rounding(logits) < 5 * rounding(theirs)


# -- the proofs and timings that anyone can run -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def live_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    checkpoint.save(build(SMALL.with_(vocab_size=4096), seed=6), folder, TOKENIZER)
    return folder


def test_verify_passes(live_folder: Path) -> None:
    checks = verify(load(live_folder), live_folder)
    assert all(check.passed for check in checks), [check for check in checks if not check.passed]
    assert [check.key for check in checks] == [proof.key for proof in PROOFS] and len(checks) > 20
    assert len({check.name for check in checks}) == len(checks)


@pytest.mark.parametrize(("damage", "word"), [("plain", "absorbed"), ("trace", "untraced"), ("bias", "transformers")])
def test_verify_can_fail(live_folder: Path, damage: str, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative controls: a check that cannot fail proves nothing."""
    live = load(live_folder)
    forward = Engine.forward

    def wrong(self: Engine, ids: list[int], *args: Any, **how: Any) -> tuple[Tensor, Tensor]:
        logits, states = forward(self, ids, *args, **how)
        if (how.get("attention") == "plain") == (damage == "plain"):
            logits = logits * 1.001
        return logits, states

    twin = verify_module.transformers_twin
    if damage == "bias":
        monkeypatch.setattr(verify_module, "transformers_twin", lambda model: twin(_another_bias(model)))
    else:
        monkeypatch.setattr(Engine, "forward", wrong)
    assert any(word in check.name for check in verify(live) if not check.passed)


def _another_bias(model: DeepseekV3) -> DeepseekV3:
    other = DeepseekV3(model.c)
    other.load_state_dict(model.state_dict())
    for router in other.routers():
        router.e_score_correction_bias.copy_(router.e_score_correction_bias.flip(0))
    return other


def test_bench_measures_both_sides(live_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "SHIPPED", live_folder)
    result = bench_module.bench(threads=1, quick=True)
    for name in ("trace_32", "decode"):
        theirs = [result[f"{name}_ms_transformers_{kernel}"] for kernel in bench_module.KERNELS]
        assert result[f"ratio_{name}"] == pytest.approx(min(theirs) / result[f"{name}_ms"])
    assert result["ratio_train"] > 0 and result["train_tokens_per_second"] > 0
    clinic = [result[f"train_clinic_tokens_per_second_transformers_{kernel}"] for kernel in bench_module.KERNELS]
    assert result["ratio_train_clinic"] == pytest.approx(result["train_clinic_tokens_per_second"] / max(clinic))
    assert result["threads"] == 1 and result["load_seconds"] > 0 and result["resident_megabytes"] > 50
    assert torch.get_num_threads() == 1


def test_without_transformers(live_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is for tests only: the proofs leave parity out, the bench says how to get it."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    checks = verify(load(live_folder), live_folder)
    assert len(checks) == len(PROOFS) - 1 and all(check.passed for check in checks)
    with pytest.raises(UserError) as error:
        bench_module.bench(threads=1)
    assert "requirements-dev.txt" in one_sentence(error)
