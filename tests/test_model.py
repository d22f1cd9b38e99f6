"""Shapes, counts and the equalities inside the model: prefill and decode, absorbed and plain, module and engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import CLINIC, HOSPITAL, SMALL, YARN, build, gap, one_sentence, some_ids, step_by_step
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import PRESETS, ConfigError, ModelConfig
from model.costs import cache_bytes, full_cache_numbers_per_token, parameters
from model.deepseek_v3 import DeepseekV3, attention_scale, rope_table
from model.engine import Engine

# -- counts -----------------------------------------------------------------------------------------------------------


def test_published_totals_to_the_last_parameter() -> None:
    count = parameters(ModelConfig.preset("deepseek-v3"))
    assert count.attention == 187_107_328
    assert count.expert == 44_040_192
    assert count.dense_layer == 583_483_392
    assert count.moe_layer == 11_507_286_272
    assert count.main == 671_026_419_200
    assert count.active == 37_552_297_472
    assert count.mtp == 11_610_068_224
    assert count.main - 58 * 256 == 671_026_404_352  # without the biases, which no gradient trains


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_formula_counts_the_tensors(name: str) -> None:
    """Every tensor of the model that would be built, on a device that allocates nothing (V3 in full size too)."""
    c = ModelConfig.preset(name)
    with torch.device("meta"):
        model = DeepseekV3(c)
    sizes = {key: tensor.numel() for key, tensor in model.state_dict().items()}
    count = parameters(c)
    assert sum(n for key, n in sizes.items() if not key.startswith("mtp.")) == count.main
    assert sum(n for key, n in sizes.items() if key.startswith("mtp.")) == count.mtp
    asleep = (c.n_routed_experts - c.num_experts_per_tok) * c.num_moe_layers
    assert count.active == count.main - asleep * count.expert


@pytest.mark.parametrize("c", [SMALL, SMALL.with_(q_lora_rank=None), SMALL.with_(n_shared_experts=2),
                               SMALL.with_(n_shared_experts=0, num_nextn_predict_layers=0)])  # fmt: skip
def test_formula_counts_real_tensors(c: ModelConfig) -> None:
    model = DeepseekV3(c)
    sizes = {key: tensor.numel() for key, tensor in model.state_dict().items()}
    assert sum(n for key, n in sizes.items() if not key.startswith("mtp.")) == parameters(c).main
    assert sum(n for key, n in sizes.items() if key.startswith("mtp.")) == parameters(c).mtp


def test_the_hospital_has_the_published_counts() -> None:
    v3 = ModelConfig.preset("deepseek-v3")
    for name in ("num_hidden_layers", "first_k_dense_replace", "n_routed_experts", "n_shared_experts",
                 "num_experts_per_tok", "n_group", "topk_group", "num_nextn_predict_layers", "norm_topk_prob",
                 "routed_scaling_factor", "rms_norm_eps"):  # fmt: skip
        assert getattr(HOSPITAL, name) == getattr(v3, name), name
    assert HOSPITAL.experts_per_token == v3.experts_per_token == 522
    assert HOSPITAL.intermediate_size / HOSPITAL.moe_intermediate_size == 9 == 18432 / 2048
    assert full_cache_numbers_per_token(HOSPITAL) == 61 * 1024
    assert full_cache_numbers_per_token(HOSPITAL) == 61 * HOSPITAL.kv_lora_rank * 64


def test_cache_is_as_large_as_the_formula() -> None:
    assert ModelConfig.preset("deepseek-v3").cache_numbers_per_token == 35_136
    assert cache_bytes(ModelConfig.preset("deepseek-v3"), 1, 2) == 70_272
    assert cache_bytes(ModelConfig.preset("deepseek-v3"), 131_072, 2) == 9_210_691_584
    for c, tokens in ((SMALL, 1), (SMALL, 100), (CLINIC, 33)):
        engine = Engine(build(c))
        cache = engine.new_cache()
        engine.forward(some_ids(c, tokens), cache)
        real = sum(t.numel() * t.element_size() for t in cache.memory)
        assert cache.bytes == real == cache_bytes(c, tokens)
        assert cache.memory.shape == (c.num_hidden_layers, tokens, c.kv_lora_rank + c.qk_rope_head_dim)
        assert cache.memory[:, 0].numel() == c.cache_numbers_per_token


# -- the same result by another way -----------------------------------------------------------------------------------

FORMS = {
    "small": SMALL, "clinic": CLINIC, "no q-LoRA": SMALL.with_(q_lora_rank=None),
    "yarn": SMALL.with_(rope_scaling=YARN, max_position_embeddings=2560),
    "no shared expert": SMALL.with_(n_shared_experts=0), "all dense": SMALL.with_(first_k_dense_replace=4),
    "no dense": SMALL.with_(first_k_dense_replace=0),
    "wide experts": SMALL.with_(moe_intermediate_size=700),  # the engine multiplies large experts differently
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_every_way_through_gives_the_same(name: str) -> None:
    c = FORMS[name]
    model, ids = build(c, seed=7), some_ids(c, 20, 7)
    engine = Engine(model)
    trace = engine.trace(ids)
    with torch.inference_mode():
        states, guess, _ = model(torch.tensor([ids]))
        assert gap(model.lm_head(states)[0], trace.logits) < 1e-5
        _, final = engine.forward(ids[:-1])
        further = engine.predict_further(ids[1:], final, engine.new_cache(mtp=True))
        assert gap(model.lm_head(guess)[0], further) < 1e-5
    for attention in ("absorbed", "plain"):
        assert gap(engine.forward(ids, attention=attention)[0], trace.logits) < 1e-5  # type: ignore[arg-type]
        assert gap(step_by_step(engine, ids, attention=attention), trace.logits) < 1e-5


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 1000))
def test_any_cut_into_chunks_gives_the_same(chunks: list[int], seed: int) -> None:
    engine = _engine()
    ids = some_ids(SMALL, sum(chunks), seed)
    cache, out, at = engine.new_cache(), [], 0
    for size in chunks:
        out.append(engine.forward(ids[at : at + size], cache)[0])
        at += size
    assert gap(torch.cat(out), engine.forward(ids)[0]) < 1e-5
    cache.cut(1)  # a cut cache goes on as if the rest had never been
    assert gap(engine.forward(ids[1:2] or ids[:1], cache)[0], engine.forward(ids[:1] + (ids[1:2] or ids[:1]))[0][1:]) < 1e-5


_ENGINES: list[Engine] = []


def _engine() -> Engine:
    if not _ENGINES:
        _ENGINES.append(Engine(build(SMALL, seed=8)))
    return _ENGINES[0]


def test_cache_outgrows_its_store() -> None:
    engine, ids = _engine(), some_ids(SMALL, 150)
    cache = engine.new_cache()
    engine.forward(ids[:60], cache)
    for i in ids[60:]:
        logits, _ = engine.forward([i], cache)
    assert cache.length == 150
    assert gap(logits, engine.forward(ids, last_only=True)[0]) < 1e-5


def test_attention_forms_of_the_module() -> None:
    """Absorbed, as trained, against the report's own order of steps; gradients too."""
    for c in (SMALL, SMALL.with_(q_lora_rank=None), SMALL.with_(rope_scaling=YARN)):
        attention = build(c, seed=9).double().layers[0].self_attn
        x = torch.randn(2, 11, c.hidden_size, dtype=torch.float64, requires_grad=True)
        rope = rope_table(c, 11)
        one, other = attention(x, rope), attention.forward_plain(x, rope)
        assert gap(one, other) < 1e-12
        probe = torch.randn_like(one)
        wanted = [x, *attention.parameters()]
        for a, b in zip(torch.autograd.grad(one, wanted, probe), torch.autograd.grad(other, wanted, probe), strict=True):
            assert gap(a, b) < 1e-11


def test_a_token_does_not_see_the_future() -> None:
    engine, ids = _engine(), some_ids(SMALL, 12)
    changed = [*ids[:8], *[(i + 1) % SMALL.vocab_size for i in ids[8:]]]
    assert gap(engine.forward(ids)[0][:8], engine.forward(changed)[0][:8]) < 1e-5
    assert gap(engine.forward(ids)[0][8:], engine.forward(changed)[0][8:]) > 0.1


def test_rotation_and_scale_of_deepseek_v3() -> None:
    """Figures of the published model: pairs up to 10 turn as ever, from 23 on 40 times as slowly; scale 0.135234."""
    c = ModelConfig.preset("deepseek-v3")
    assert attention_scale(c) == pytest.approx(0.135234, abs=1e-6)
    turned = rope_table(c, 2)[1].angle() / rope_table(c.with_(rope_scaling=None), 2)[1].angle()
    assert turned[:11].tolist() == pytest.approx([1.0] * 11, rel=1e-4)
    assert turned[23:].tolist() == pytest.approx([1 / 40] * 9, rel=1e-3)
    assert all(1 / 40 < t < 1 for t in turned[11:23].tolist())
    assert gap(rope_table(c, 9).abs(), torch.ones(9, 32)) < 1e-6


def test_positions_count_only_by_distance() -> None:
    """A query at position 9 and a key at 4 give the score of 25 and 20."""
    rope = rope_table(SMALL, 40)
    torch.manual_seed(0)
    q, k = torch.randn(4, dtype=torch.complex64), torch.randn(4, dtype=torch.complex64)
    one, other = ((q * rope[a] * (k * rope[b]).conj()).sum().real for a, b in ((9, 4), (25, 20)))
    assert float(abs(one - other)) < 1e-5


# -- configuration ----------------------------------------------------------------------------------------------------

PUBLISHED = {
    "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"}, "bos_token_id": 0, "eos_token_id": 1,
    "ep_size": 1, "first_k_dense_replace": 3, "hidden_act": "silu", "hidden_size": 7168, "initializer_range": 0.02,
    "intermediate_size": 18432, "kv_lora_rank": 512, "max_position_embeddings": 163840, "model_type": "deepseek_v3",
    "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_group": 8, "n_routed_experts": 256, "n_shared_experts": 1,
    "norm_topk_prob": True, "num_attention_heads": 128, "num_experts_per_tok": 8, "num_hidden_layers": 61,
    "num_key_value_heads": 128, "num_nextn_predict_layers": 1, "q_lora_rank": 1536, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "quantization_config": {"fmt": "e4m3", "quant_method": "fp8"}, "rms_norm_eps": 1e-06,
    "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
                     "original_max_position_embeddings": 4096, "type": "yarn"},
    "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "tie_word_embeddings": False,
    "topk_group": 4, "topk_method": "noaux_tc", "torch_dtype": "bfloat16", "transformers_version": "4.33.1",
    "use_cache": True, "v_head_dim": 128, "vocab_size": 129280,
}  # fmt: skip


def test_the_published_config_is_the_preset() -> None:
    assert ModelConfig.from_dict(PUBLISHED) == ModelConfig.preset("deepseek-v3")


@pytest.mark.parametrize("c", [*PRESETS.values(), *FORMS.values()])
def test_config_round_trip(c: ModelConfig, tmp_path: Path) -> None:
    assert ModelConfig.from_dict(c.to_dict()) == c
    (tmp_path / "config.json").write_text(json.dumps(c.to_dict()))
    assert ModelConfig.from_json(tmp_path / "config.json") == c


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "llama"}, "llama"),
    ({"model_type": None}, "deepseek_v3"),
    ({"hidden_act": "gelu"}, "hidden_act"),
    ({"attention_bias": True}, "attention_bias"),
    ({"scoring_func": "softmax"}, "scoring_func"),
    ({"topk_method": "greedy"}, "topk_method"),
    ({"rope_interleave": False}, "rope_interleave"),
    ({"tie_word_embeddings": True}, "tie_word_embeddings"),
    ({"sliding_window": 128}, "sliding_window"),
    ({"rope_scaling": {"type": "linear", "factor": 2}}, "linear"),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 2}}, "original_max_position_embeddings"),
    ({"rope_scaling": {"type": "yarn", "factor": 2, "original_max_position_embeddings": 9, "short": 1}}, "short"),
    ({"rope_scaling": "yarn"}, "rope_scaling"),
    ({"rope_scaling": {"type": "yarn", "factor": True, "original_max_position_embeddings": 9}}, "factor"),
    ({"rope_scaling": {"type": "yarn", "factor": 2, "original_max_position_embeddings": 9, "beta_fast": "x"}}, "beta"),
    ({"rope_parameters": [1]}, "rope_parameters"),
    ({"rope_parameters": {"rope_type": "llama3", "factor": 2}}, "llama3"),
    ({"num_nextn_predict_layers": 2}, "num_nextn_predict_layers"),
    ({"num_key_value_heads": 2}, "num_key_value_heads"),
    ({"hidden_size": 0}, "hidden_size"),
    ({"hidden_size": "wide"}, "hidden_size"),
    ({"vocab_size": True}, "vocab_size"),
    ({"q_lora_rank": 0}, "q_lora_rank"),
    ({"first_k_dense_replace": 62}, "first_k_dense_replace"),
    ({"qk_rope_head_dim": 7}, "qk_rope_head_dim"),
    ({"n_group": 7}, "n_group"),
    ({"n_routed_experts": 8}, "experts"),
    ({"topk_group": 9}, "topk_group"),
    ({"num_experts_per_tok": 129}, "num_experts_per_tok"),
    ({"rms_norm_eps": "small"}, "rms_norm_eps"),
    ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
    ({"rope_theta": 0}, "rope_theta"),
    ({"rope_theta": 1}, "rope_theta"),
    ({"routed_scaling_factor": None}, "routed_scaling_factor"),
    ({"norm_topk_prob": "yes"}, "norm_topk_prob"),
    ({"eos_token_id": []}, "eos_token_id"),
    ({"eos_token_id": "end"}, "eos_token_id"),
    ({"bos_token_id": -1}, "bos_token_id"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "word"), WRONG, ids=[json.dumps(c) for c, _ in WRONG])
def test_what_cannot_be_run_is_refused_by_name(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError) as error:
        ModelConfig.from_dict(PUBLISHED | change)
    assert word in one_sentence(error)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2), max_leaves=4,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*sorted(PUBLISHED), "rope_parameters", "num_mtp_layers"]), _JSON, max_size=3))
def test_any_config_is_read_or_refused(changes: dict[str, Any]) -> None:
    """Never another exception; and what is read can be laid out."""
    try:
        c = ModelConfig.from_dict(PUBLISHED | changes)
    except ConfigError:
        return
    parameters(c)
    assert bool(torch.isfinite(torch.view_as_real(rope_table(c, 3))).all())


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "\udcff", "[" * 100_000, '{"a":' * 100_000, "9" * 9000])
def test_what_is_not_a_config_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError) as error:
        ModelConfig.from_json(tmp_path / "config.json")
    one_sentence(error)
