"""What a model costs, as formulas: parameters, active parameters, cache.

Source: the shapes of arXiv 2412.19437, Eq. 1-15 and section 4.2; the results for `deepseek-v3` are the published
totals (671B, 37B), to the last parameter.
"""

from __future__ import annotations

from dataclasses import dataclass

from model.config import ModelConfig


@dataclass(frozen=True)
class Parameters:
    """Counts of numbers. `main` and `active` leave the MTP module out, as the published totals do."""

    attention: int  # one attention block
    expert: int  # one routed expert, or a shared one
    router: int  # gate matrix + selection bias
    dense_layer: int
    moe_layer: int
    main: int
    active: int
    mtp: int  # without the copies of embedding and head that some checkpoints store


def parameters(c: ModelConfig) -> Parameters:
    """Parameter counts by formula; nothing is allocated."""
    d, heads = c.hidden_size, c.num_attention_heads
    queries = (
        d * c.q_lora_rank + c.q_lora_rank + c.q_lora_rank * heads * c.qk_head_dim
        if c.q_lora_rank is not None
        else d * heads * c.qk_head_dim
    )
    keys_values = (
        d * (c.kv_lora_rank + c.qk_rope_head_dim)
        + c.kv_lora_rank
        + c.kv_lora_rank * heads * (c.qk_nope_head_dim + c.v_head_dim)
    )
    attention = queries + keys_values + heads * c.v_head_dim * d
    expert = 3 * d * c.moe_intermediate_size
    router = c.n_routed_experts * d + c.n_routed_experts
    dense = attention + 2 * d + 3 * d * c.intermediate_size
    moe = attention + 2 * d + router + (c.n_routed_experts + c.n_shared_experts) * expert
    idle = (c.n_routed_experts - c.num_experts_per_tok) * expert
    main = 2 * c.vocab_size * d + d + c.first_k_dense_replace * dense + c.num_moe_layers * moe
    mtp = c.num_nextn_predict_layers * (2 * d + 2 * d * d + moe + d)
    return Parameters(attention, expert, router, dense, moe, main, main - c.num_moe_layers * idle, mtp)


def cache_bytes(c: ModelConfig, tokens: int, bytes_per_number: int = 4) -> int:
    """Bytes of the latent cache after `tokens` tokens (V2 Table 1: (d_c + d_R) x layers)."""
    return c.cache_numbers_per_token * tokens * bytes_per_number


def full_cache_numbers_per_token(c: ModelConfig) -> int:
    """Numbers per token that plain multi-head attention would cache: keys and values of every head and layer."""
    return c.num_hidden_layers * c.num_attention_heads * (c.qk_nope_head_dim + c.v_head_dim)


def grouped_cache_numbers_per_token(c: ModelConfig, groups: int) -> int:
    """Numbers per token that grouped-query attention would cache: keys and values of `groups` heads (V2 Table 1:
    2 x groups x d_h x layers). 1 group is multi-query attention, as many groups as heads plain multi-head attention.
    """
    return c.num_hidden_layers * min(groups, c.num_attention_heads) * (c.qk_nope_head_dim + c.v_head_dim)


@dataclass(frozen=True)
class CachePlans:
    """Numbers per token and model, for the ways of remembering that V2 Table 1 compares."""

    multi_head: int
    grouped: int
    multi_query: int
    latent: int

    groups: int = 8  # as in LLaMA-3 and Qwen2.5-72B


def cache_plans(c: ModelConfig) -> CachePlans:
    """What each way would cache for one token of a model with these heads and layers."""
    return CachePlans(
        full_cache_numbers_per_token(c),
        grouped_cache_numbers_per_token(c, CachePlans.groups),
        grouped_cache_numbers_per_token(c, 1),
        c.cache_numbers_per_token,
    )


V3_CONTEXT = 128 * 1024  # tokens (section 4.3)
BF16_BYTES = 2
GIGABYTE = 10**9


@dataclass(frozen=True)
class FloorShares:
    """Weights of one floor's FFN part that work for one token, and all that are there; attention left out."""

    dense_used: int  # of a dense layer: all of it
    moe_used: int  # the router, the shared experts, the chosen ones
    moe_all: int


def floor_shares(c: ModelConfig) -> FloorShares:
    """Counts for a dense layer and an MoE layer (Eq. 12: all shared experts, and k of the routed ones)."""
    count = parameters(c)
    used = count.router + (c.n_shared_experts + c.num_experts_per_tok) * count.expert
    everyone = count.router + (c.n_shared_experts + c.n_routed_experts) * count.expert
    return FloorShares(3 * c.hidden_size * c.intermediate_size, used, everyone)
