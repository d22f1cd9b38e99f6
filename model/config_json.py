"""Any published `config.json` of the families compared here, read strictly: what is not understood is named, nothing is
guessed. What a file may leave out has the value that the family's own code gives it, and is reported as `assumed`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from model.architectures import Architecture
from model.errors import UserError

MOST_BYTES = 64 * 1024
DEEPEST = 16  # brackets inside brackets; published files have 3

SIZE, WIDTH, COUNT, VOCABULARY = 1_000_000, 10_000_000, 10_000, 10_000_000
"""Largest hidden sizes and heads, FFN widths, layers and experts, vocabularies that are believed."""


@dataclass(frozen=True)
class Described:
    """A config file, understood."""

    family: str  # its model_type
    architecture: Architecture
    read: dict[str, Any]  # fields that decided something, as they stand in the file
    assumed: dict[str, Any] = field(default_factory=dict)  # fields that it leaves out, and what the family's code takes


def refuse(message: str, key: str, **values: object) -> NoReturn:
    raise UserError(message, f"config_{key}", **values)


def short(value: object) -> str:
    """A value as it may stand in a sentence."""
    text = str(value) if isinstance(value, str) else json.dumps(value, default=str)
    text = "".join(char if char.isprintable() else "?" for char in text[:41])
    return text if len(text) <= 40 else text[:39] + "…"


# -- from bytes to a dictionary ----------------------------------------------------------------------------------------


def parse(text: str | bytes) -> Described:
    """The architecture that the content of a `config.json` describes. UserError, one sentence, for everything else."""
    if len(text) > MOST_BYTES or (isinstance(text, str) and len(text.encode("utf-8", "replace")) > MOST_BYTES):
        limit = MOST_BYTES // 1024
        refuse(f"This is longer than {limit} kB; a config.json is far shorter. Paste that alone.", "large", limit=limit)
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError:
            refuse("This is not text in UTF-8. Choose the file config.json itself.", "json")
    try:
        if _depth(text) > DEEPEST:
            refuse("Brackets are nested too deeply for a config.json. Paste the file as published.", "deep")
        data = json.loads(text.lstrip("\ufeff"), object_pairs_hook=_once, parse_constant=_not_a_number)
    except UserError:
        raise
    except (ValueError, RecursionError):
        refuse("This is not JSON. Paste the whole file, from the first { to the last }.", "json")
    if not isinstance(data, dict):
        refuse("This is not JSON with named fields. Paste the whole file, from the first { to the last }.", "json")
    return describe(data)


def _depth(text: str) -> int:
    """How deeply brackets are nested at most; those within strings count too, which only makes it stricter."""
    deepest = here = 0
    for char in text:
        if char in "[{":
            here += 1
            deepest = max(deepest, here)
        elif char in "]}":
            here -= 1
    return deepest


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            refuse(f"The field {short(name)} stands there twice. Delete one of them.", "twice", field=short(name))
        made[name] = value
    return made


def _not_a_number(name: str) -> NoReturn:
    refuse(f"{name} is not a number. Put in the real value.", "nan", value=name)


# -- from a dictionary to an architecture ------------------------------------------------------------------------------

MISSING = object()


class _Fields:
    """The fields of one file; remembers which were looked at."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.known: set[str] = set()
        self.read: dict[str, Any] = {}
        self.assumed: dict[str, Any] = {}

    def _raw(self, name: str, default: Any) -> Any:
        self.known.add(name)
        value = self.data.get(name)
        if value is None:
            if default is MISSING:
                refuse(f"The field {name} is missing, and nothing is guessed. Add it.", "missing", field=name)
            self.assumed[name] = default
            return default
        self.read[name] = value
        return value

    def count(self, name: str, most: int, *, least: int = 1, default: Any = MISSING) -> int:
        """A whole number between two."""
        value = self._raw(name, default)
        if type(value) is not int or not least <= value <= most:
            refuse(
                f"{name} = {short(value)} is not understood: it must be a whole number from {least} to {most:,}.",
                "value", field=name, value=short(value), least=least, most=most,
            )  # fmt: skip
        return value

    def maybe(self, name: str, most: int) -> int | None:
        """A whole number, or null."""
        self.known.add(name)
        if self.data.get(name) is None:
            return None
        return self.count(name, most)

    def flag(self, name: str, default: Any = MISSING) -> bool:
        value = self._raw(name, default)
        if type(value) is not bool:
            self.unsupported(name)
        return value

    def numbers(self, name: str, below: int) -> tuple[int, ...]:
        """A list of different whole numbers, each below `below`; none without the field."""
        value = self._raw(name, [])
        if not isinstance(value, list) or any(type(v) is not int or not 0 <= v < below for v in value):
            self.unsupported(name)
        return tuple(sorted(set(value)))

    def only(self, name: str, *values: Any) -> None:
        """A field that may be left out but may have no other values: they would change what is counted."""
        self.known.add(name)
        value = self.data.get(name)
        if value is not None and (value not in values or isinstance(value, bool) != isinstance(values[0], bool)):
            self.unsupported(name)

    def unsupported(self, name: str) -> NoReturn:
        value = short(self.data.get(name))
        refuse(f"{name} = {value} is not understood for this family. Nothing is guessed.", "unsupported",
               field=name, value=value)  # fmt: skip

    def against(self, name: str, other: str) -> NoReturn:
        one, two = short(self.data.get(name)), short(self.data.get(other))
        refuse(f"{name} = {one} does not fit {other} = {two}. Correct one of them.", "against",
               field=name, value=one, other=other, second=two)  # fmt: skip


# Fields that say nothing about what is counted here.
_IGNORED = {
    "architectures", "auto_map", "model_type", "torch_dtype", "dtype", "transformers_version", "use_cache",
    "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "pretraining_tp", "attention_dropout", "hidden_act",
    "hidden_dropout", "initializer_range", "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters",
    "max_position_embeddings", "output_router_logits", "router_aux_loss_coef", "router_jitter_noise", "norm_topk_prob",
    "_name_or_path", "quantization_config", "output_hidden_states", "output_attentions", "return_dict",
    "chunk_size_feed_forward", "is_encoder_decoder", "id2label", "label2id", "problem_type", "_attn_implementation",
    "attn_implementation", "_commit_hash", "tokenizer_class", "is_decoder", "add_cross_attention", "name_or_path",
}  # fmt: skip
_IGNORED_BY_FAMILY = {
    "deepseek": {"aux_loss_alpha", "seq_aux", "scoring_func", "routed_scaling_factor"},
    "deepseek_v2": {
        "aux_loss_alpha", "seq_aux", "ep_size", "scoring_func", "topk_method", "n_group", "topk_group",
        "routed_scaling_factor", "rope_interleave", "head_dim", "qk_head_dim",
    },
    "deepseek_v3": {
        "aux_loss_alpha", "seq_aux", "ep_size", "scoring_func", "n_group", "topk_group", "routed_scaling_factor",
        "rope_interleave", "head_dim", "qk_head_dim",
    },
    "gpt_oss": {
        "initial_context_length", "swiglu_limit", "swiglu_alpha", "hidden_act", "experts_per_token",
    },
    "grok-1": {
        "attn_output_multiplier", "max_attn_value", "max_attn_val", "embedding_multiplier_scale",
        "output_multiplier_scale", "attn_logit_softcapping", "router_logit_softcapping", "final_logit_softcapping",
        "attn_temperature_len", "sliding_window_size", "global_attn_every_n", "rope_type", "scaling_factor",
        "original_max_position_embeddings", "extrapolation_factor", "attn_factor", "beta_fast", "beta_slow",
    },
}  # fmt: skip
_IGNORED_BY_FAMILY["kimi_k2"] = _IGNORED_BY_FAMILY["deepseek_v3"]


def describe(data: Mapping[str, Any]) -> Described:
    """As `parse`, from the dictionary."""
    family = data.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        known = ", ".join(FAMILIES)
        if family is None:
            refuse("The field model_type is missing, and nothing is guessed. Add it.", "missing", field="model_type")
        refuse(f"The family {short(family)} is not known here. Known are: {known}.", "family",
               family=short(family), known=known)  # fmt: skip
    fields = _Fields(data)
    made = FAMILIES[family](fields)
    ignored = _IGNORED | _IGNORED_BY_FAMILY.get(family, set())
    for name in data:
        if name not in fields.known and name not in ignored and data[name] is not None:
            refuse(
                f"The field {short(name)} is not understood for the family {family}. Nothing is guessed.",
                "field", field=short(name), family=family,
            )  # fmt: skip
    return Described(family, made, fields.read, fields.assumed)


def _body(f: _Fields, tied: bool = False) -> dict[str, Any]:
    """What all families have."""
    return {
        "num_hidden_layers": f.count("num_hidden_layers", COUNT),
        "hidden_size": f.count("hidden_size", SIZE),
        "vocab_size": f.count("vocab_size", VOCABULARY),
        "num_attention_heads": f.count("num_attention_heads", SIZE),
        "tie_word_embeddings": f.flag("tie_word_embeddings", tied),
        "max_position_embeddings": f.maybe("max_position_embeddings", 10 * VOCABULARY),
    }


def _grouped(
    f: _Fields, body: dict[str, Any], head_dim: int | None = None, plain: bool = False
) -> dict[str, Any]:
    """Multi-head, grouped-query and multi-query attention. `head_dim`: the family's own where the file has none;
    without it, hidden size over heads. `plain`: a file without num_key_value_heads means multi-head attention."""
    heads, hidden = body["num_attention_heads"], body["hidden_size"]
    keys = f.count("num_key_value_heads", SIZE, default=heads if plain else MISSING)
    if heads % keys:
        f.against("num_key_value_heads", "num_attention_heads")
    if head_dim is None and f.data.get("head_dim") is None and hidden % heads:
        f.against("num_attention_heads", "hidden_size")
    return {
        "num_key_value_heads": keys,
        "head_dim": f.count("head_dim", SIZE, default=head_dim or max(1, hidden // heads)),
    }


def _windows(f: _Fields, layers: int, usual: Callable[[int], bool], on: bool = True) -> dict[str, Any]:
    """Sliding windows: `layer_types` where the file has it, otherwise the layers for which `usual` is true."""
    window = f.maybe("sliding_window", 10 * VOCABULARY) if f.data.get("sliding_window") != 0 else None
    f.known |= {"sliding_window", "layer_types"}
    types = f.data.get("layer_types")
    if types is None:
        several = sum(usual(i) for i in range(layers)) if window is not None and on else 0
    else:
        if not isinstance(types, list) or not set(map(str, types)) <= {"sliding_attention", "full_attention"}:
            f.unsupported("layer_types")
        if len(types) != layers:
            f.against("layer_types", "num_hidden_layers")
        several = types.count("sliding_attention")
        if several and window is None:
            f.against("layer_types", "sliding_window")
        f.read["layer_types"] = types
    return {"sliding_window": window if several else None, "windowed_layers": several}


def _chosen(f: _Fields, k_name: str, experts_name: str, *, least: int = 1) -> dict[str, Any]:
    """How many experts there are, and how many of them are chosen."""
    experts = f.count(experts_name, SIZE, least=least)
    k = f.count(k_name, SIZE, least=least)
    if k > experts:
        f.against(k_name, experts_name)
    return {"n_routed_experts": experts, "num_experts_per_tok": k}


def _latent(f: _Fields, body: dict[str, Any]) -> dict[str, Any]:
    """Multi-head latent attention."""
    f.only("num_key_value_heads", body["num_attention_heads"])
    f.only("attention_bias", False)
    return {
        "num_key_value_heads": body["num_attention_heads"],
        "head_dim": f.count("qk_nope_head_dim", SIZE) + f.count("qk_rope_head_dim", SIZE),
        "q_lora_rank": f.maybe("q_lora_rank", SIZE),
        "kv_lora_rank": f.count("kv_lora_rank", SIZE),
        "qk_nope_head_dim": f.count("qk_nope_head_dim", SIZE),
        "qk_rope_head_dim": f.count("qk_rope_head_dim", SIZE),
        "v_head_dim": f.count("v_head_dim", SIZE),
    }


def _fine_grained(f: _Fields, body: dict[str, Any]) -> dict[str, Any]:
    """DeepSeekMoE: dense layers first, then shared and routed experts."""
    layers = body["num_hidden_layers"]
    dense = f.count("first_k_dense_replace", COUNT, least=0)
    if dense > layers:
        f.against("first_k_dense_replace", "num_hidden_layers")
    f.only("moe_layer_freq", 1)
    shared = f.count("n_shared_experts", COUNT, least=0, default=0)
    width = f.count("moe_intermediate_size", WIDTH)
    return {
        "intermediate_size": f.count("intermediate_size", WIDTH),
        "mlp_only_layers": tuple(range(dense)),
        **_chosen(f, "num_experts_per_tok", "n_routed_experts"),
        "moe_intermediate_size": width,
        "n_shared_experts": shared,
        "shared_intermediate_size": shared * width,
    }


def _deepseek(f: _Fields) -> Architecture:
    body = _body(f)
    f.only("attention_bias", False)
    return Architecture(**body, **_grouped(f, body), **_fine_grained(f, body))


def _deepseek_v2(f: _Fields) -> Architecture:
    body = _body(f)
    f.only("mlp_bias", False)
    return Architecture(**body, **_latent(f, body), **_fine_grained(f, body))


def _deepseek_v3(f: _Fields) -> Architecture:
    body = _body(f)
    f.only("topk_method", "noaux_tc")
    name = "num_mtp_layers" if "num_mtp_layers" in f.data else "num_nextn_predict_layers"
    return Architecture(
        **body, **_latent(f, body), **_fine_grained(f, body), selection_bias=True,
        num_nextn_predict_layers=f.count(name, COUNT, least=0, default=0),
    )  # fmt: skip


def _mixtral(f: _Fields) -> Architecture:
    body = _body(f)
    width = f.count("intermediate_size", WIDTH)
    return Architecture(
        **body, **_grouped(f, body), **_windows(f, body["num_hidden_layers"], lambda i: True),
        **_chosen(f, "num_experts_per_tok", "num_local_experts"),
        intermediate_size=width, moe_intermediate_size=width,
    )  # fmt: skip


def _dense(f: _Fields, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "intermediate_size": f.count("intermediate_size", WIDTH),
        "mlp_only_layers": tuple(range(body["num_hidden_layers"])),
    }


def _llama(f: _Fields) -> Architecture:
    body = _body(f)
    bias = f.flag("attention_bias", False)
    return Architecture(
        **body, **_grouped(f, body, plain=True), **_dense(f, body), qkv_bias=bias, o_bias=bias,
        mlp_bias=f.flag("mlp_bias", False),
    )  # fmt: skip


def _late_windows(f: _Fields, layers: int) -> dict[str, Any]:
    """Qwen: off unless use_sliding_window; then from max_window_layers on."""
    on = f.flag("use_sliding_window", False)
    f.known.add("max_window_layers")
    first = f.count("max_window_layers", COUNT, least=0) if on and f.data.get("layer_types") is None else 0
    return _windows(f, layers, lambda i: i >= first, on)


def _qwen2(f: _Fields) -> Architecture:
    body = _body(f)
    windows = _late_windows(f, body["num_hidden_layers"])
    return Architecture(**body, **_grouped(f, body), **_dense(f, body), **windows, qkv_bias=True)


def _qwen3(f: _Fields) -> Architecture:
    body = _body(f)
    bias = f.flag("attention_bias", False)
    return Architecture(
        **body, **_grouped(f, body, head_dim=128), **_dense(f, body), **_late_windows(f, body["num_hidden_layers"]),
        qkv_bias=bias, o_bias=bias, qk_norm=True,
    )  # fmt: skip


def _sparse(f: _Fields, body: dict[str, Any]) -> dict[str, Any]:
    """Qwen's MoE: every `decoder_sparse_step`-th layer, except those that are named."""
    layers, experts_name = body["num_hidden_layers"], "num_experts" if "num_experts" in f.data else "num_local_experts"
    step, named = f.count("decoder_sparse_step", COUNT, default=1), set(f.numbers("mlp_only_layers", layers))
    return {
        "intermediate_size": f.count("intermediate_size", WIDTH),
        "mlp_only_layers": tuple(i for i in range(layers) if i in named or (i + 1) % step),
        **_chosen(f, "num_experts_per_tok", experts_name),
        "moe_intermediate_size": f.count("moe_intermediate_size", WIDTH),
    }


def _qwen2_moe(f: _Fields) -> Architecture:
    body = _body(f)
    f.only("use_sliding_window", False)  # which layers it would mean differs between versions of the family's code
    f.known |= {"sliding_window", "max_window_layers", "layer_types"}
    types = f.data.get("layer_types")
    if types is not None and (not isinstance(types, list) or any(one != "full_attention" for one in types)):
        f.unsupported("layer_types")
    return Architecture(
        **body, **_grouped(f, body), **_sparse(f, body), qkv_bias=f.flag("qkv_bias", True), n_shared_experts=1,
        shared_intermediate_size=f.count("shared_expert_intermediate_size", WIDTH), shared_expert_gate=True,
    )  # fmt: skip


def _qwen3_moe(f: _Fields) -> Architecture:
    body = _body(f)
    f.only("use_sliding_window", False)
    f.known |= {"sliding_window", "max_window_layers"}
    bias = f.flag("attention_bias", False)
    return Architecture(
        **body, **_grouped(f, body), **_sparse(f, body), qkv_bias=bias, o_bias=bias, qk_norm=True
    )


def _gpt_oss(f: _Fields) -> Architecture:
    body = _body(f)
    width, bias = f.count("intermediate_size", WIDTH), f.flag("attention_bias", True)
    return Architecture(
        **body, **_grouped(f, body, head_dim=64), **_windows(f, body["num_hidden_layers"], lambda i: i % 2 == 0),
        **_chosen(f, "num_experts_per_tok", "num_experts" if "num_experts" in f.data else "num_local_experts"),
        intermediate_size=width, moe_intermediate_size=width, qkv_bias=bias, o_bias=bias, sinks=True, router_bias=True,
        expert_bias=True,
    )  # fmt: skip


def _grok(f: _Fields) -> Architecture:
    """Four norms a layer. Grok-2 adds an FFN that works for every token (`residual_moe`)."""
    beside = f.flag("residual_moe", False)
    body = _body(f, tied=not beside)
    width = f.count("intermediate_size", WIDTH)
    return Architecture(
        **body, **_grouped(f, body), intermediate_size=width, norms_per_layer=4,
        **_chosen(f, "num_experts_per_tok", "num_local_experts" if beside else "num_experts"),
        moe_intermediate_size=f.count("moe_intermediate_size", WIDTH, default=width),
        n_shared_experts=int(beside), shared_intermediate_size=width if beside else 0,
    )  # fmt: skip


FAMILIES: dict[str, Callable[[_Fields], Architecture]] = {
    "deepseek": _deepseek,
    "deepseek_v2": _deepseek_v2,
    "deepseek_v3": _deepseek_v3,
    "kimi_k2": _deepseek_v3,
    "mixtral": _mixtral,
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen2_moe": _qwen2_moe,
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
    "gpt_oss": _gpt_oss,
    "grok-1": _grok,
}
"""model_type -> what its fields mean."""
