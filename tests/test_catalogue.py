"""The catalogue: formulas against published totals, against models that are really built, and every bad config."""

from __future__ import annotations

import json
import math
import random
import tomllib

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from model import ModelConfig, UserError, catalogue, config_json, costs
from model.architectures import (
    PRECISIONS,
    Architecture,
    active,
    active_without_embedding,
    attention_products,
    cache_numbers,
    figures,
    forward_flops,
    mtp,
    multiplied,
    parts,
    remembering,
    stored,
    storeys,
    tokens_seen,
    total,
    training_flops,
    weight_bytes,
)
from pages.kit import words

V3 = catalogue.find("deepseek-v3").architecture
ROWS = [pytest.param(row, id=row.key) for row in catalogue.rows()]

# -- published figures -------------------------------------------------------------------------------------------------


def test_v3_to_the_last_parameter():
    assert total(V3) == 671_026_419_200
    assert active(V3) == 37_552_297_472
    assert active_without_embedding(V3) == 36_625_618_432
    assert mtp(V3) == 11_610_068_224
    made = figures(V3)
    assert (made.experts_per_token, made.experts) == (9 * 58, 257 * 58)


def test_v3s_checkpoint_number_by_number():
    """By dtype as published, MTP module and its copies of embedding and head included."""
    d, v = V3.hidden_size, V3.vocab_size
    with_mtp = stored(V3.with_(num_hidden_layers=62), "fp8")
    beside = 2 * d * d + 2 * v * d + 3 * d  # eh_proj, the copies, three norms: BF16
    assert with_mtp.quantised == 680_571_043_840
    assert with_mtp.plain + beside == 3_918_786_560
    assert with_mtp.fp32 + with_mtp.scales == 41_555_600


@pytest.mark.parametrize("row", ROWS)
def test_published_figures(row):
    """Where a formula gives a figure it does so within its rounding, which is half of its last digit and never more; where
    none does, none is claimed to."""
    assert row.published
    for figure in row.published:
        assert not figure.within or math.log10(2 * figure.within) == round(math.log10(2 * figure.within), 9)
        assert (abs(catalogue.computed(figure.what, row.architecture) - figure.value) <= figure.within) == figure.derivable
        assert figure.source.strip()


@pytest.mark.parametrize("key,billions,active_billions,kilobytes", [
    ("deepseekmoe-16b", 16.376, 2.83, 229.4), ("deepseek-v2-lite", None, None, 31.1), ("deepseek-v2", 235.741, 21.38, 69.1),
    ("deepseek-v3", 671.026, 37.55, 70.3), ("kimi-k2", None, None, 70.3), ("moonlight-16b-a3b", None, None, 31.1),
    ("mixtral-8x7b", 46.703, 12.88, 131.1), ("mixtral-8x22b", None, None, 229.4), ("grok-1", 315.7, None, 262.1),
    ("llama-2-70b", 68.977, 68.977, 327.7), ("llama-3-1-8b", 8.030, 8.030, 131.1), ("llama-3-1-70b", None, None, 327.7),
    ("llama-3-1-405b", 405.853, 405.853, 516.1), ("qwen2-5-72b", 72.706, 72.706, 327.7), ("qwen3-235b-a22b", None, None, 192.5),
    ("qwen1-5-moe-a2-7b", 14.316, 2.69, 196.6), ("gpt-oss-120b", None, None, 73.7), ("grok-2", 269.5, 115, None),
])  # fmt: skip
def test_the_table_that_was_computed_by_hand(key, billions, active_billions, kilobytes):
    made = figures(catalogue.find(key).architecture)

    def near(value: float, said: float | None) -> bool:
        if said is None:
            return True
        digits = len(str(said).partition(".")[2]) if said != int(said) else 0
        return abs(value - said) <= 0.5001 * 10**-digits

    assert near(made.total / 1e9, billions) and near(made.active / 1e9, active_billions)
    assert near(made.cache_numbers_per_token * 2 / 1000, kilobytes)


def test_what_v3_would_cache_otherwise():
    kinds = ("mha", "gqa", "mqa", "mla")
    assert [cache_numbers(remembering(V3, kind), 1) for kind in kinds] == [1_998_848, 124_928, 15_616, 35_136]
    assert [remembering(V3, kind).attention for kind in kinds] == list(kinds)
    assert remembering(V3, "mla") == V3


def test_the_same_as_the_walks_own_formulas():
    for preset in ("deepseek-v3", "hospital", "clinic"):
        c = ModelConfig.preset(preset)
        a = config_json.describe(c.to_dict()).architecture
        own = costs.parameters(c)
        assert (total(a), active(a), mtp(a)) == (own.main, own.active, own.mtp)
        assert cache_numbers(a, 7) == 7 * c.cache_numbers_per_token


def test_windows_are_counted_as_windows():
    a = catalogue.find("gpt-oss-120b").architecture
    assert (a.windowed_layers, a.sliding_window) == (18, 128)
    each = 2 * 8 * 64
    for context in (1, 100, 128, 129, 5000):
        assert cache_numbers(a, context) == sum(each * (min(context, 128) if i % 2 == 0 else context) for i in range(36))
        seen = [sum(min(t, 128) if i % 2 == 0 else t for t in range(1, context + 1)) / context for i in range(36)]
        assert attention_products(a, context) == pytest.approx(64 * 128 * sum(seen))
    assert tokens_seen(5) == 3 and tokens_seen(5, 2) == (1 + 2 + 2 + 2 + 2) / 5


def test_arithmetic():
    """As arXiv 2505.09343 table 2, and one that is not derivable, counted by hand."""
    assert round(training_flops(V3, 4096) / 1e9) == 250
    assert training_flops(V3, 4096) == 3 * forward_flops(V3, 4096)
    llama = catalogue.find("llama-3-1-405b").architecture
    assert round(training_flops(llama, 4096) / 1e9) == 2473
    half = 6 * (multiplied(llama) + attention_products(llama, 4096) / 2) / 1e9
    assert round(half) == 2448, "what the page says of the published figure"
    qwen = catalogue.find("qwen2-5-72b").architecture
    assert round(training_flops(qwen, 4096) / 1e9) == 445


def test_bytes_and_cards():
    llama = catalogue.find("llama-3-1-8b").architecture
    assert weight_bytes(llama, "fp32") == 4 * total(llama) and weight_bytes(llama, "bf16") == 2 * total(llama)
    quantised = sum(p.size * p.there for p in parts(llama) if p.place in ("attention", "dense"))
    rest = total(llama) - quantised
    assert weight_bytes(llama, "fp8") == quantised + 2 * rest + 4 * quantised // 128**2
    assert weight_bytes(llama, "mxfp4") == quantised // 2 + 2 * rest + quantised // 32
    made = figures(llama, context=131_072, precision="bf16", card_bytes=24e9)
    assert made.cards == math.ceil((2 * total(llama) + 131_072 * 131_072) / 24e9) == 2
    with pytest.raises(KeyError):
        weight_bytes(llama, "fp7")


def test_gpt_oss_checkpoint_as_its_makers_store_it():
    """60.8 GiB: the experts' matrices in MXFP4, the rest in BF16 (model card, table 1)."""
    a = catalogue.find("gpt-oss-120b").architecture
    experts = sum(p.size * p.there for p in parts(a) if p.place == "expert" and p.multiplies)
    assert round((experts * 4.25 / 8 + 2 * (total(a) - experts)) / 2**30, 1) == 60.8


def test_blocks_that_do_not_fill_up_have_a_scale_too():
    odd = V3.with_(hidden_size=130, moe_intermediate_size=1, shared_intermediate_size=1)
    made = [p for p in parts(odd) if p.place == "expert"]
    assert [math.ceil(p.rows / 128) * math.ceil(p.columns / 128) for p in made] == [2, 2]
    assert stored(odd, "fp8").scales > stored(odd, "mxfp4").scales / 1000


@pytest.mark.parametrize("row", ROWS)
def test_a_building_holds_every_parameter_once(row):
    a = row.architecture
    made = storeys(a)
    assert sum(s.floors * r.size * r.there for s in made for r in s.rooms) == total(a)
    assert sum(s.floors * r.size * r.working for s in made for r in s.rooms) == active(a)
    assert sum(s.floors for s in made if 0 <= s.first < a.num_hidden_layers) == a.num_hidden_layers
    rooms = sum(s.floors * r.there for s in made for r in s.rooms if r.place in ("expert", "shared"))
    assert rooms == figures(a).experts


def test_dense_floors_stand_where_the_config_puts_them():
    a = config_json.describe({"model_type": "qwen3_moe", **SMALL, **QWEN_MOE, "mlp_only_layers": [1, 2]}).architecture
    assert [(s.first, s.floors) for s in storeys(a)] == [(-1, 1), (0, 1), (1, 2), (3, 2), (5, 1)]
    assert sum(s.floors * r.size * r.there for s in storeys(a) for r in s.rooms) == total(a)


# -- the catalogue itself ----------------------------------------------------------------------------------------------


def test_every_value_has_its_source():
    for row in catalogue.rows():
        assert all(row.source_of(name).strip() for name in row.config)
        assert set(row.sources) <= set(row.config), row.key
        assert {figure.what for figure in row.published} <= {"total", "active", "active_without_embedding", "kv_kilobytes", "training_gflops"}
        assert all(figure.derivable or row.note for figure in row.published), "what cannot be derived is talked about"
    assert len({row.key for row in catalogue.rows()}) == len(catalogue.rows()) >= 18
    assert all(entry["name"] and entry["source"] for entry in catalogue.undisclosed())
    assert [card.bytes for card in catalogue.cards()] == sorted(card.bytes for card in catalogue.cards())
    assert all(card.source and card.name == f"{card.bytes / 1e9:.0f} GB" for card in catalogue.cards())


def test_fields_that_a_row_may_not_have_stop_the_build():
    raw = tomllib.loads(catalogue.FILE.read_text("utf-8"))
    for row in raw["row"]:
        assert config_json.describe(row["config"]).read.keys() | {"model_type"} >= {
            name for name in row["config"] if name not in ("max_position_embeddings", "use_sliding_window")}  # fmt: skip


def test_finding():
    assert catalogue.find("DeepSeek V3").key == catalogue.find("deepseek-v3").key == "deepseek-v3"
    assert catalogue.find("Llama-3.1-405B").architecture.num_hidden_layers == 126
    with pytest.raises(UserError) as caught:
        catalogue.find("Claude")
    assert caught.value.key == "catalogue_unknown"


# -- formula = built model ---------------------------------------------------------------------------------------------

SMALL = {"vocab_size": 97, "hidden_size": 48, "num_hidden_layers": 5, "num_attention_heads": 6, "intermediate_size": 40}
LATENT = {"kv_lora_rank": 12, "qk_nope_head_dim": 10, "qk_rope_head_dim": 4, "v_head_dim": 7, "moe_intermediate_size": 13,
          "first_k_dense_replace": 2, "n_routed_experts": 8, "num_experts_per_tok": 3, "n_group": 2, "topk_group": 1,
          "num_key_value_heads": 6}  # fmt: skip
QWEN_MOE = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 13, "num_key_value_heads": 2}

BUILT = [
    ("Llama", {"num_key_value_heads": 2}), ("Llama", {}), ("Llama", {"num_key_value_heads": 1, "head_dim": 20}),
    ("Llama", {"attention_bias": True, "mlp_bias": True}), ("Llama", {"tie_word_embeddings": True}),
    ("Mixtral", {"num_key_value_heads": 3, "num_local_experts": 4}), ("Mixtral", {"num_key_value_heads": 6, "sliding_window": 9}),
    ("Qwen2", {"num_key_value_heads": 2}), ("Qwen2", {"tie_word_embeddings": True, "num_key_value_heads": 6}),
    ("Qwen2", {"num_key_value_heads": 6, "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 3}),
    ("Qwen3", {"head_dim": 16, "num_key_value_heads": 3}), ("Qwen3", {"attention_bias": True, "num_key_value_heads": 6}),
    ("Qwen2Moe", {**QWEN_MOE, "shared_expert_intermediate_size": 22}),
    ("Qwen2Moe", {**QWEN_MOE, "shared_expert_intermediate_size": 22, "decoder_sparse_step": 2, "mlp_only_layers": [1], "qkv_bias": False}),
    ("Qwen3Moe", {**QWEN_MOE, "head_dim": 16}), ("Qwen3Moe", {**QWEN_MOE, "mlp_only_layers": [0, 3], "attention_bias": True}),
    ("DeepseekV2", {**LATENT, "q_lora_rank": 20, "n_shared_experts": 2}), ("DeepseekV2", {**LATENT, "q_lora_rank": None, "n_shared_experts": 1}),
    ("DeepseekV3", {**LATENT, "q_lora_rank": 20, "n_shared_experts": 1}), ("DeepseekV3", {**LATENT, "q_lora_rank": None, "n_shared_experts": 2}),
    ("DeepseekV3", {**LATENT, "q_lora_rank": 20, "first_k_dense_replace": 5}),
    ("GptOss", {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, "num_key_value_heads": 2}),
    ("GptOss", {"num_local_experts": 4, "num_experts_per_tok": 1, "attention_bias": False, "num_attention_heads": 3, "num_key_value_heads": 3}),
]  # fmt: skip


def built(kind: str, changes: dict) -> tuple[torch.nn.Module, Architecture]:
    """transformers' own model, nothing allocated, and what its own config.json says here."""
    config = getattr(transformers, f"{kind}Config")(**{**SMALL, **changes})
    with torch.device("meta"):
        model = getattr(transformers, f"{kind}ForCausalLM")(config)
        model.tie_weights()
    return model, config_json.parse(config.to_json_string(use_diff=False)).architecture


@pytest.mark.parametrize("kind,changes", BUILT, ids=[f"{i} {kind}" for i, (kind, _) in enumerate(BUILT)])
def test_as_many_numbers_as_the_model_that_is_built(kind, changes):
    model, a = built(kind, changes)
    named = dict(model.named_parameters(remove_duplicate=True))
    biases = {name: one for name, one in model.named_buffers() if "e_score_correction_bias" in name}
    assert total(a) == sum(one.numel() for one in [*named.values(), *biases.values()])
    routed = [one.numel() for name, one in named.items() if ".experts." in name]
    assert sum(routed) == sum(p.size * p.there for p in parts(a) if p.place == "expert")
    if routed:
        idle = sum(routed) * (1 - a.num_experts_per_tok / a.n_routed_experts)
        assert active(a) == pytest.approx(total(a) - idle) and a.num_experts_per_tok < a.n_routed_experts
    else:
        assert active(a) == total(a)


def test_a_cache_that_is_really_filled():
    """Numbers that transformers' own cache holds after 5 tokens; its MLA cache keeps what is expanded, so only others."""
    for kind, changes in (("Llama", {"num_key_value_heads": 2}), ("Mixtral", {"num_key_value_heads": 3, "num_local_experts": 4}),
                          ("Qwen3", {"head_dim": 16, "num_key_value_heads": 3})):  # fmt: skip
        model, a = built(kind, changes)
        model = model.to_empty(device="cpu").eval()
        for one in model.parameters():
            torch.nn.init.zeros_(one)
        cache = model(torch.zeros(1, 5, dtype=torch.long), use_cache=True).past_key_values
        held = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
        assert held == cache_numbers(a, 5)


def test_layers_with_windows_are_those_of_the_model():
    for kind, changes in BUILT:
        if kind in ("Qwen2", "GptOss"):
            config = getattr(transformers, f"{kind}Config")(**{**SMALL, **changes})
            a = config_json.parse(config.to_json_string(use_diff=False)).architecture
            assert a.windowed_layers == config.layer_types.count("sliding_attention")
            less = {name: value for name, value in config.to_dict().items() if name != "layer_types"}
            if kind == "Qwen2" and not changes.get("use_sliding_window"):
                less["use_sliding_window"], less["sliding_window"] = False, 4096
            assert config_json.describe(less).architecture.windowed_layers == a.windowed_layers


@pytest.mark.parametrize("kind,changes", BUILT[:1] + BUILT[5:6] + BUILT[-2:-1])
def test_what_transformers_saves_is_read_too(kind, changes, tmp_path):
    config = getattr(transformers, f"{kind}Config")(**{**SMALL, **changes})
    config.save_pretrained(tmp_path)
    seen = config_json.parse((tmp_path / "config.json").read_bytes())
    assert seen.architecture == config_json.parse(config.to_json_string(use_diff=False)).architecture


# -- bad configs -------------------------------------------------------------------------------------------------------

LLAMA = {"model_type": "llama", **SMALL}
GPT_OSS = {"model_type": "gpt_oss", **SMALL, "num_key_value_heads": 2}
DEEPSEEK = {"model_type": "deepseek_v3", **SMALL, **LATENT, "q_lora_rank": 20, "n_shared_experts": 1}

BAD = [
    ("", "json"), ("hello", "json"), ("[1, 2]", "json"), ("12", "json"), ("null", "json"), ('{"model_type": "llama"', "json"),
    (b"\xff\xfe\x00", "json"), ("[" * 5000, "deep"), ('{"a":' * 400, "deep"), ("[" * 60_000, "deep"), ("9" * 5000, "json"),
    ('{"a": ' + "9" * 5000 + "}", "json"),
    (" " * 70_000, "large"), ("面" * 30_000, "large"), (b"x" * 70_000, "large"),
    ('{"a": NaN}', "nan"), ('{"a": -Infinity}', "nan"), ('{"a": 1, "a": 2}', "twice"),
    ({}, "missing"), ({"model_type": 3}, "family"), ({"model_type": "gpt2"}, "family"), ({"model_type": "<b>x</b>" * 20}, "family"),
    ({"model_type": ["llama"]}, "family"), ({"model_type": "llama"}, "missing"),
    ({**LLAMA, "hidden_size": -8}, "value"), ({**LLAMA, "hidden_size": 0}, "value"), ({**LLAMA, "hidden_size": 1e9}, "value"),
    ({**LLAMA, "hidden_size": 10**12}, "value"), ({**LLAMA, "num_hidden_layers": 10**9}, "value"), ({**LLAMA, "vocab_size": "97"}, "value"),
    ({**LLAMA, "vocab_size": True}, "value"), ({**LLAMA, "intermediate_size": [40]}, "value"), ({**LLAMA, "hidden_size": 48.0}, "value"),
    ({**LLAMA, "num_key_value_heads": 4}, "against"), ({**LLAMA, "num_attention_heads": 7}, "against"),
    ({**LLAMA, "attention_bias": "yes"}, "unsupported"), ({**LLAMA, "wings": 2}, "field"), ({**LLAMA, "num_experts": 8}, "field"),
    ({**DEEPSEEK, "num_experts_per_tok": 9}, "against"), ({**DEEPSEEK, "first_k_dense_replace": 6}, "against"),
    ({**DEEPSEEK, "topk_method": "greedy"}, "unsupported"), ({**DEEPSEEK, "moe_layer_freq": 2}, "unsupported"),
    ({**DEEPSEEK, "attention_bias": True}, "unsupported"), ({**DEEPSEEK, "num_key_value_heads": 2}, "unsupported"),
    ({**DEEPSEEK, "kv_lora_rank": None}, "missing"), ({**DEEPSEEK, "n_routed_experts": -256}, "value"),
    ({"model_type": "qwen3_moe", **SMALL, **QWEN_MOE, "mlp_only_layers": [7]}, "unsupported"),
    ({"model_type": "qwen3_moe", **SMALL, **QWEN_MOE, "mlp_only_layers": "all"}, "unsupported"),
    ({"model_type": "qwen2_moe", **SMALL, **QWEN_MOE, "use_sliding_window": True}, "unsupported"),
    ({"model_type": "qwen2_moe", **SMALL, **QWEN_MOE, "layer_types": 5}, "unsupported"),
    ({**GPT_OSS, "num_local_experts": 4, "num_experts_per_tok": 2, "layer_types": ["full_attention"]}, "against"),
    ({**GPT_OSS, "num_local_experts": 4, "num_experts_per_tok": 2, "layer_types": ["linear"] * 5}, "unsupported"),
    ({**GPT_OSS, "num_local_experts": 4, "num_experts_per_tok": 2, "layer_types": ["sliding_attention"] * 5}, "against"),
]  # fmt: skip


@pytest.mark.parametrize("bad,key", BAD, ids=[f"{i} {key}" for i, (_, key) in enumerate(BAD)])
def test_one_sentence_for_every_bad_config(bad, key, monkeypatch):
    with pytest.raises(UserError) as caught:
        config_json.parse(json.dumps(bad) if isinstance(bad, dict) else bad)
    assert caught.value.key == f"config_{key}" and len(str(caught.value)) < 400 and "\n" not in str(caught.value)
    for lang in words.tables():
        monkeypatch.setattr(words, "current", lambda lang=lang: lang)
        said = words.error_sentence(caught.value)
        assert said != words.tables()[lang]["error.unknown"] and len(said) < 400
        for name in ("field", "family"):
            assert str(caught.value.values.get(name, "")) in said


def test_the_field_is_named():
    for name, value in (("hidden_size", -1), ("wings", 3), ("vocab_size", 1.5), ("hidden_size", float("1e300"))):
        with pytest.raises(UserError) as caught:
            config_json.parse(json.dumps({**LLAMA, name: value}))
        assert caught.value.values["field"] == name and name in str(caught.value)


def test_what_is_left_out_is_said():
    seen = config_json.describe(LLAMA)
    assert seen.assumed == {"tie_word_embeddings": False, "attention_bias": False, "num_key_value_heads": 6, "head_dim": 8, "mlp_bias": False}
    assert seen.read["hidden_size"] == 48 and seen.family == "llama"


def test_a_mark_at_the_start_and_nulls_are_no_matter():
    text = "\ufeff" + json.dumps({**LLAMA, "head_dim": None, "whatever": None})
    assert config_json.parse(text).architecture == config_json.parse(text.encode()).architecture == config_json.describe(LLAMA).architecture


def _judge(content: str | bytes) -> None:
    """Either an architecture with figures of a sane kind, or one sentence."""
    try:
        a = config_json.parse(content).architecture
    except UserError as error:
        assert error.key.startswith("config_") and "\n" not in str(error)
        return
    made = figures(a, context=1000, precision="fp8")
    assert 0 < made.active <= made.total and made.cache_numbers > 0 and math.isfinite(made.training_flops) and made.cards >= 1


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(content):
    _judge(content)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=6,
)  # fmt: skip
FIELD_NAMES = sorted({name for row in catalogue.rows() for name in row.config} | {"layer_types", "attention_bias", "rope_scaling"})


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(catalogue.rows()), st.dictionaries(st.sampled_from(FIELD_NAMES) | st.text(max_size=6), json_values | st.integers(1, 64), max_size=3))
def test_any_change_of_a_published_config(row, changes):
    _judge(json.dumps({**row.config, **changes}, default=str))


@settings(max_examples=100, deadline=None)
@given(json_values)
def test_any_json(value):
    _judge(json.dumps(value))


def test_configs_cut_and_mixed_up():
    dice = random.Random(7)
    for row in catalogue.rows():
        text = json.dumps(dict(row.config))
        for _ in range(15):
            broken = list(text[: dice.randrange(len(text) + 1)])
            for _ in range(dice.randrange(3)):
                if broken:
                    broken[dice.randrange(len(broken))] = chr(dice.randrange(32, 200))
            _judge("".join(broken))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("row", ROWS)
def test_every_precision_is_smaller_than_the_one_before(row, precision):
    sizes = [weight_bytes(row.architecture, name) for name in PRECISIONS]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == len(sizes)
