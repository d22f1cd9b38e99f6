"""What a model of the DeepSeek-V3 architecture is made of: the published `config.json` as a frozen dataclass.

Field names, defaults and meanings are those of deepseek-ai/DeepSeek-V3 `config.json`; nothing here allocates weights.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from model.errors import UserError


class ConfigError(UserError):
    """A configuration that this model cannot run; the message names the field and what to do."""

    def __init__(self, message: str, key: str = "unsupported_field") -> None:
        super().__init__(message, key, message=message)


# Fields of published configs that say nothing about the arithmetic, or that only repeat another field.
_IGNORED_FIELDS = {
    "architectures", "auto_map", "model_type", "torch_dtype", "dtype", "transformers_version", "use_cache",
    "pad_token_id", "pretraining_tp", "ep_size", "attention_dropout", "aux_loss_alpha", "seq_aux",
    "num_key_value_heads", "moe_layer_freq", "quantization_config", "head_dim", "qk_head_dim", "initializer_range",
    "output_router_logits", "rope_interleave", "num_mtp_layers", "num_local_experts", "_name_or_path",
    "output_hidden_states", "output_attentions", "return_dict", "chunk_size_feed_forward", "is_encoder_decoder",
    "id2label", "label2id", "problem_type", "topk_method", "scoring_func", "hidden_act", "attention_bias",
}  # fmt: skip

# Fields that change the arithmetic, and the only value of each that DeepSeek-V3 (and so this model) has.
_ONLY_VALUE = {
    "hidden_act": "silu", "attention_bias": False, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
    "moe_layer_freq": 1, "rope_interleave": True,
}  # fmt: skip

_ROPE_KEYS = {
    "type", "rope_type", "factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim",
    "original_max_position_embeddings", "rope_theta",
}  # fmt: skip


def _is_number(value: Any) -> bool:
    """A number above 0 of a size that arithmetic survives."""
    return type(value) in (int, float) and 1e-30 < value < 1e30


@dataclass(frozen=True)
class ModelConfig:
    """Every number that fixes the shape and the arithmetic of the model (names: `config.json` of DeepSeek-V3)."""

    vocab_size: int = 129280
    hidden_size: int = 7168
    intermediate_size: int = 18432  # width of the dense layers' SwiGLU
    moe_intermediate_size: int = 2048  # width of one expert's SwiGLU
    num_hidden_layers: int = 61
    first_k_dense_replace: int = 3  # this many first layers have a dense FFN
    num_attention_heads: int = 128
    q_lora_rank: int | None = 1536  # None: queries straight from the hidden state (V2-Lite)
    kv_lora_rank: int = 512  # numbers in the cached latent
    qk_nope_head_dim: int = 128
    qk_rope_head_dim: int = 64
    v_head_dim: int = 128
    n_routed_experts: int = 256
    n_shared_experts: int = 1
    num_experts_per_tok: int = 8
    n_group: int = 8
    topk_group: int = 4
    norm_topk_prob: bool = True
    routed_scaling_factor: float = 2.5
    num_nextn_predict_layers: int = 1  # MTP modules
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None  # None, or YaRN's factor, beta_fast, beta_slow, mscale, ...
    max_position_embeddings: int = 163840
    tie_word_embeddings: bool = False
    bos_token_id: int = 0
    eos_token_id: int = 1

    def __post_init__(self) -> None:
        def need(ok: bool, message: str) -> None:
            if not ok:
                raise ConfigError(message)

        for name in (
            "vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size", "num_hidden_layers",
            "num_attention_heads", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim",
            "n_routed_experts", "num_experts_per_tok", "n_group", "topk_group", "max_position_embeddings",
        ):  # fmt: skip
            value = getattr(self, name)
            need(type(value) is int and value > 0, f"{name} must be a whole number above 0, not {value!r}.")
        for name in ("first_k_dense_replace", "n_shared_experts", "num_nextn_predict_layers"):
            value = getattr(self, name)
            need(type(value) is int and value >= 0, f"{name} must be a whole number, 0 or more, not {value!r}.")
        need(self.q_lora_rank is None or (type(self.q_lora_rank) is int and self.q_lora_rank > 0),
             f"q_lora_rank must be null or a whole number above 0, not {self.q_lora_rank!r}.")  # fmt: skip
        need(self.first_k_dense_replace <= self.num_hidden_layers,
             "first_k_dense_replace is larger than num_hidden_layers.")  # fmt: skip
        need(self.qk_rope_head_dim % 2 == 0, "qk_rope_head_dim must be even: RoPE turns pairs of numbers.")
        need(self.n_routed_experts % self.n_group == 0,
             f"n_routed_experts ({self.n_routed_experts}) must be a multiple of n_group ({self.n_group}).")  # fmt: skip
        need(self.topk_group <= self.n_group, "topk_group is larger than n_group.")
        need(self.num_experts_per_tok <= self.topk_group * (self.n_routed_experts // self.n_group),
             "num_experts_per_tok is larger than the number of experts in the groups that are kept.")  # fmt: skip
        need(self.n_group == 1 or self.n_routed_experts // self.n_group >= 2,
             "each expert group needs at least 2 experts: a group's score is the sum of its best two.")  # fmt: skip
        need(self.num_nextn_predict_layers <= 1, "num_nextn_predict_layers above 1 is not supported; use 0 or 1.")
        need(not self.tie_word_embeddings, "tie_word_embeddings must be false: DeepSeek-V3's head is its own matrix.")
        for name in ("rms_norm_eps", "routed_scaling_factor"):
            need(_is_number(getattr(self, name)), f"{name} must be a number above 0, not {getattr(self, name)!r}.")
        need(_is_number(self.rope_theta) and self.rope_theta > 1,
             f"rope_theta must be a number above 1, not {self.rope_theta!r}.")  # fmt: skip
        need(isinstance(self.norm_topk_prob, bool), "norm_topk_prob must be true or false.")
        for name in ("bos_token_id", "eos_token_id"):
            value = getattr(self, name)
            need(type(value) is int and 0 <= value < self.vocab_size,
                 f"{name} must be the number of a token, 0 to {self.vocab_size - 1}, not {value!r}.")  # fmt: skip
        if self.rope_scaling is not None:
            need(isinstance(self.rope_scaling, dict), "rope_scaling must be null or an object.")
            kind = self.rope_scaling.get("rope_type", self.rope_scaling.get("type"))
            need(kind == "yarn", f"rope_scaling of type {kind!r} is not supported; use null or yarn.")
            unknown = sorted(set(self.rope_scaling) - _ROPE_KEYS)
            need(not unknown, f"rope_scaling field {', '.join(unknown)} is not supported.")
            for key in ("factor", "original_max_position_embeddings"):
                need(_is_number(self.rope_scaling.get(key)), f"rope_scaling.{key} is missing or not a number.")
            for key in ("beta_fast", "beta_slow", "mscale", "mscale_all_dim"):
                value = self.rope_scaling.get(key)
                need(not value or _is_number(value), f"rope_scaling.{key} must be a number above 0, not {value!r}.")

    # -- derived numbers ------------------------------------------------------------------------------------------

    @property
    def qk_head_dim(self) -> int:
        """Numbers in one head's query or key: content part + position part."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def num_moe_layers(self) -> int:
        """Layers with a router and experts (V3: 58)."""
        return self.num_hidden_layers - self.first_k_dense_replace

    @property
    def experts_per_token(self) -> int:
        """Expert FFNs that one token passes through in all layers, routed + shared (V3: 9 x 58 = 522)."""
        return self.num_moe_layers * (self.num_experts_per_tok + self.n_shared_experts)

    @property
    def cache_numbers_per_token(self) -> int:
        """Numbers kept per token in the latent cache: layers x (kv_lora_rank + qk_rope_head_dim)."""
        return self.num_hidden_layers * (self.kv_lora_rank + self.qk_rope_head_dim)

    # -- reading and writing --------------------------------------------------------------------------------------

    @classmethod
    def preset(cls, name: str) -> ModelConfig:
        """`deepseek-v3` (for counting only), `hospital` (runs live) or `clinic` (trains in under a minute)."""
        if name not in PRESETS:
            raise ConfigError(f"There is no preset {name!r}; choose one of {', '.join(PRESETS)}.")
        return PRESETS[name]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelConfig:
        """From the content of a `config.json`, of this project or of transformers (`rope_parameters` included).

        Raises ConfigError for another architecture and for any field that would change the arithmetic and is not
        understood: nothing is guessed.
        """
        kind = data.get("model_type")
        if kind != "deepseek_v3":
            raise ConfigError(f"This is a {kind!r} model; only model_type 'deepseek_v3' can be loaded here.",
                              "other_architecture")
        data = dict(data)
        rope = data.pop("rope_parameters", None)
        if rope is not None:
            if not isinstance(rope, dict):
                raise ConfigError("rope_parameters must be an object.")
            data["rope_theta"] = rope.get("rope_theta", data.get("rope_theta", cls.rope_theta))
            if rope.get("rope_type", rope.get("type", "default")) != "default":
                data["rope_scaling"] = {k: v for k, v in rope.items() if k != "rope_theta"}
        for name, only in _ONLY_VALUE.items():
            if name in data and data[name] != only:
                raise ConfigError(f"{name} = {data[name]!r} is not supported; DeepSeek-V3 has {only!r}.")
        quantised = data.get("quantization_config")
        if quantised is not None and (
            not isinstance(quantised, dict) or quantised.get("quant_method", "fp8") != "fp8"
        ):
            raise ConfigError("quantization_config is not supported, except for V3's own block-wise fp8.")
        if "num_mtp_layers" in data:
            data.setdefault("num_nextn_predict_layers", data["num_mtp_layers"])
        heads = data.get("num_key_value_heads")
        if heads is not None and heads != data.get("num_attention_heads", cls.num_attention_heads):
            raise ConfigError("num_key_value_heads must equal num_attention_heads: MLA shares one latent instead.")
        known = {f.name for f in fields(cls)}
        unknown = sorted(k for k in data if k not in known | _IGNORED_FIELDS and data[k] is not None)
        if unknown:
            raise ConfigError(f"config.json has a field that is not supported: {', '.join(unknown)}.")
        values = {k: v for k, v in data.items() if k in known}
        for name, default in (("n_group", 1), ("topk_group", 1)):
            if values.get(name, 0) is None:
                values[name] = default
        if isinstance(values.get("eos_token_id"), list):
            values["eos_token_id"] = (values["eos_token_id"] or [[]])[0]  # no id at all is refused below
        for name in ("bos_token_id", "eos_token_id"):
            if values.get(name, 0) is None:
                del values[name]
        return cls(**values)

    @classmethod
    def from_json(cls, path: str | Path) -> ModelConfig:
        """Read `config.json` at `path`; ConfigError says what is wrong with it."""
        try:
            data = json.loads(Path(path).read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{Path(path).name} cannot be read as JSON: {error}.") from error
        if not isinstance(data, dict):
            raise ConfigError(f"{Path(path).name} does not hold a JSON object.")
        return cls.from_dict(data)

    def to_dict(self) -> dict[str, Any]:
        """The content of a `config.json` that this project, transformers and DeepSeek's own code agree on."""
        return {
            "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", **asdict(self),
            "num_key_value_heads": self.num_attention_heads, "hidden_act": "silu", "attention_bias": False,
            "scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1,
        }  # fmt: skip

    def with_(self, **changes: Any) -> ModelConfig:
        """A copy with some fields changed."""
        return replace(self, **changes)


_HOSPITAL = ModelConfig(
    vocab_size=4096, hidden_size=64, intermediate_size=144, moe_intermediate_size=16, num_attention_heads=16,
    q_lora_rank=32, kv_lora_rank=16, qk_nope_head_dim=32, qk_rope_head_dim=8, v_head_dim=32,
    max_position_embeddings=1024,
)  # fmt: skip

PRESETS: dict[str, ModelConfig] = {
    "deepseek-v3": ModelConfig(
        rope_scaling={
            "type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 4096,
        },  # fmt: skip
    ),
    "hospital": _HOSPITAL,
    "clinic": _HOSPITAL.with_(
        num_hidden_layers=4, first_k_dense_replace=1, n_routed_experts=32, num_experts_per_tok=4, n_group=4,
        topk_group=2,
    ),  # fmt: skip
}
