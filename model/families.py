"""Other hospitals in this project's bricks: Llama's, Mixtral's and Grok-1's ways beside DeepSeek-V3's.

`Family` is the model of `deepseek_v3.py` with parts exchanged: attention that keeps the keys and values of a few heads
(grouped-query attention) in place of the latent, and a gate that is a softmax without bias or groups in place of V3's
sigmoid. Everything else, training included, is shared. Tests hold the Llama and the Mixtral way against transformers'
own modules.

Shapes: B sequences, T tokens, d hidden_size, H heads, G key-value heads, h head_dim, E routed experts, k chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.architectures import Architecture
from model.config import ConfigError, ModelConfig
from model.deepseek_v3 import DecoderLayer, DeepseekV3, MoE, MultiHeadLatentAttention, Router, Routing, choose, rotate


@dataclass(frozen=True)
class FamilyConfig(ModelConfig):
    """DeepSeek-V3's fields, and which parts are exchanged.

    With "gqa" a head is `v_head_dim` wide and RoPE turns all of it, so that `qk_rope_head_dim` must be the same; the
    latent's fields (`q_lora_rank`, `kv_lora_rank`, `qk_nope_head_dim`) then say nothing. Raises ConfigError.
    """

    attention: Literal["mla", "gqa"] = "mla"
    num_key_value_heads: int | None = None  # of "gqa"
    gate: Literal["sigmoid", "softmax"] = "sigmoid"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attention not in ("mla", "gqa"):
            raise ConfigError(f"attention must be mla or gqa, not {self.attention!r}.")
        if self.gate not in ("sigmoid", "softmax"):
            raise ConfigError(f"gate must be sigmoid or softmax, not {self.gate!r}.")
        if self.attention == "gqa":
            groups = self.num_key_value_heads
            if type(groups) is not int or groups < 1 or self.num_attention_heads % groups:
                raise ConfigError(f"num_key_value_heads ({groups!r}) must divide num_attention_heads.")
            if self.qk_rope_head_dim != self.v_head_dim or self.rope_scaling is not None:
                raise ConfigError("With gqa, qk_rope_head_dim must equal v_head_dim, and rope_scaling must be null.")
        if self.gate == "softmax" and self.n_group != 1:
            raise ConfigError("A softmax gate has no groups: n_group must be 1.")

    @property
    def qk_head_dim(self) -> int:
        """Numbers in one head's query or key."""
        return self.v_head_dim if self.attention == "gqa" else super().qk_head_dim

    @property
    def cache_numbers_per_token(self) -> int:
        """Numbers kept per token: of every layer the latent, or keys and values of `num_key_value_heads` heads."""
        if self.attention == "mla":
            return super().cache_numbers_per_token
        return self.num_hidden_layers * 2 * (self.num_key_value_heads or 0) * self.v_head_dim

    @property
    def architecture(self) -> Architecture:
        """The same shape as the catalogue knows it: every count and cost by the one set of formulas."""
        latent, moe = self.attention == "mla", self.num_moe_layers > 0
        return Architecture(
            num_hidden_layers=self.num_hidden_layers, hidden_size=self.hidden_size, vocab_size=self.vocab_size,
            num_attention_heads=self.num_attention_heads, head_dim=self.v_head_dim,
            num_key_value_heads=self.num_attention_heads if latent else self.num_key_value_heads or 0,
            intermediate_size=self.intermediate_size, mlp_only_layers=tuple(range(self.first_k_dense_replace)),
            n_routed_experts=self.n_routed_experts if moe else 0,
            num_experts_per_tok=self.num_experts_per_tok if moe else 0,
            moe_intermediate_size=self.moe_intermediate_size if moe else 0,
            n_shared_experts=self.n_shared_experts if moe else 0,
            shared_intermediate_size=self.n_shared_experts * self.moe_intermediate_size if moe else 0,
            selection_bias=moe and self.gate == "sigmoid", q_lora_rank=self.q_lora_rank if latent else None,
            kv_lora_rank=self.kv_lora_rank if latent else None, qk_nope_head_dim=self.qk_nope_head_dim,
            qk_rope_head_dim=self.qk_rope_head_dim, v_head_dim=self.v_head_dim,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """All fields. Not a `config.json` of DeepSeek-V3, and does not say that it is one."""
        return {"model_type": "token_hospital_family", **asdict(self)}


class GroupedQueryAttention(nn.Module):
    """H query heads share the keys and values of G heads (arXiv 2305.13245); plain RoPE on interleaved pairs.

    transformers turns pairs (x_i, x_{i + h/2}) instead of (x_2i, x_2i+1): the same function with the rows of `q_proj`
    and `k_proj` in another order.
    """

    def __init__(self, c: FamilyConfig) -> None:
        super().__init__()
        self.c, self.groups = c, c.num_key_value_heads or 1
        d, width = c.hidden_size, c.v_head_dim
        self.q_proj = nn.Linear(d, c.num_attention_heads * width, bias=False)
        self.k_proj = nn.Linear(d, self.groups * width, bias=False)
        self.v_proj = nn.Linear(d, self.groups * width, bias=False)
        self.o_proj = nn.Linear(c.num_attention_heads * width, d, bias=False)

    def kept(self, x: Tensor, rope: Tensor) -> tuple[Tensor, Tensor]:
        """Keys, rotated, and values, (B, T, G, h) each: all that is cached."""
        keys, values = (p(x).unflatten(-1, (self.groups, -1)) for p in (self.k_proj, self.v_proj))
        return rotate(keys, rope[:, None]), values

    def forward(self, x: Tensor, rope: Tensor) -> Tensor:
        """x (B, T, d) -> (B, T, d); causal."""
        keys, values = self.kept(x, rope)
        q = rotate(self.q_proj(x).unflatten(-1, (self.c.num_attention_heads, -1)), rope[:, None])
        q, keys, values = (part.transpose(1, 2) for part in (q, keys, values))
        blended = F.scaled_dot_product_attention(q, keys, values, is_causal=True, enable_gqa=True)
        return self.o_proj(blended.transpose(1, 2).flatten(2))


class SoftmaxRouter(Router):
    """Mixtral's gate (arXiv 2401.04088 section 2.1): the k largest of a softmax, without bias and without groups.

    With `norm_topk_prob` the k weights are made to sum to 1, which is a softmax over the k; without it they stay parts
    of the whole softmax, as in Grok-1's published model.py. The bias is never read and never stored.
    """

    def __init__(self, c: ModelConfig) -> None:
        super().__init__(c)
        del self.e_score_correction_bias
        self.register_buffer("e_score_correction_bias", torch.zeros(c.n_routed_experts), persistent=False)

    def forward(self, u: Tensor) -> Routing:
        """u (N, d) -> every stage of the choice; `scores` and `choice_scores` are the softmax."""
        logits = F.linear(u, self.weight)
        scores = logits.softmax(-1)
        with torch.no_grad():
            group_scores, kept, chosen = choose(scores, 1, 1, self.c.num_experts_per_tok)
        raw = scores.gather(1, chosen)
        return Routing(logits, scores, scores, group_scores, kept, chosen, raw, self.weigh(raw))


class Family(DeepseekV3):
    """DeepSeek-V3 with the parts exchanged that its configuration names."""

    c: FamilyConfig

    def __init__(self, c: FamilyConfig) -> None:
        super().__init__(c)
        for layer in [*self.layers, *([self.mtp.block] if self.mtp is not None else [])]:
            if c.attention == "gqa":
                layer.add_module("self_attn", GroupedQueryAttention(c))
            if c.gate == "softmax" and isinstance(layer.mlp, MoE):
                layer.mlp.add_module("gate", SoftmaxRouter(c))

    def initialise(self, seed: int) -> Family:
        """Random weights, as in DeepseekV3."""
        super().initialise(seed)
        return self


# -- one text through one of them --------------------------------------------------------------------------------------


class Walk(NamedTuple):
    """What a forward pass over one text of T tokens did."""

    logits: Tensor  # (T, vocab)
    chosen: list[Tensor]  # per MoE layer (T, k): who was called
    cache_bytes: int  # of the tensors that would be kept for the next token
    touched: int  # different weights that worked for any of the tokens; norms and biases count, unread embeddings not


def _kept(attention: nn.Module, x: Tensor, rope: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(attention, MultiHeadLatentAttention):
        return attention.latent(x, rope)
    assert isinstance(attention, GroupedQueryAttention)
    return attention.kept(x, rope)


@torch.inference_mode()
def walk(model: Family, ids: Sequence[int]) -> Walk:
    """Layer by layer, so that what each would cache can be weighed. The logits are those of `model(ids)`."""
    rows = torch.tensor(ids)[None]
    rope = model.rope(len(ids))
    x, chosen, kept = model.embed_tokens(rows), [], 0
    for layer in model.layers:
        assert isinstance(layer, DecoderLayer)
        kept += sum(tensor.nbytes for tensor in _kept(layer.self_attn, layer.input_layernorm(x), rope))
        x, routing = layer(x, rope)
        if routing is not None:
            chosen.append(routing.chosen)
    a = model.c.architecture
    idle = sum(a.n_routed_experts - len(who.unique()) for who in chosen)
    expert = 3 * a.hidden_size * a.moe_intermediate_size
    unread = (a.vocab_size - len(set(ids))) * a.hidden_size
    weights = sum(tensor.numel() for tensor in model.state_dict().values())
    return Walk(model.lm_head(model.norm(x))[0], chosen, kept, weights - idle * expert - unread)


__all__ = ["Family", "FamilyConfig", "GroupedQueryAttention", "SoftmaxRouter", "Walk", "walk"]
