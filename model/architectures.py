"""What any model of the families compared here costs, as formulas: parameters, cache, arithmetic, bytes, cards.

`parts` lists every weight of a model once; every count follows from that list. Sources: the shapes are those of the
published code (transformers 5.23 builds the same number of parameters, a test compares them; grok-1's model.py), the
cache is arXiv 2405.04434 Table 1, the arithmetic is the one behind arXiv 2505.09343 Table 2, the block-wise FP8 format
is arXiv 2412.19437 section 3.3, the 4-bit one is OCP Microscaling Formats 1.0 (MXFP4).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

AttentionKind = Literal["mha", "gqa", "mqa", "mla"]


@dataclass(frozen=True)
class Architecture:
    """Every number that fixes how many weights a model has and what it does for one token. Field names are those of
    the published `config.json` files; where families use different names, DeepSeek's."""

    num_hidden_layers: int
    hidden_size: int
    vocab_size: int
    num_attention_heads: int
    num_key_value_heads: int  # as many as heads: MHA; 1: MQA; in MLA as many as heads, and not cached
    head_dim: int  # MLA has three others, below
    intermediate_size: int  # of a dense FFN
    mlp_only_layers: tuple[int, ...] = ()  # layers with a dense FFN, from 0; all of them in a dense model
    n_routed_experts: int = 0  # 0: a dense model
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0  # of one routed expert
    n_shared_experts: int = 0
    shared_intermediate_size: int = 0  # of all shared experts of a layer together
    shared_expert_gate: bool = False  # Qwen2-MoE weighs its shared expert
    selection_bias: bool = False  # V3's bias for choosing, one number an expert
    router_bias: bool = False
    expert_bias: bool = False
    mlp_bias: bool = False
    q_lora_rank: int | None = None
    kv_lora_rank: int | None = None  # not None: MLA
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0
    qkv_bias: bool = False
    o_bias: bool = False
    qk_norm: bool = False  # RMSNorm over each head's query and key
    sinks: bool = False  # one learned number a head that attention may look at instead
    sliding_window: int | None = None
    windowed_layers: int = 0  # layers that see only the last `sliding_window` tokens
    norms_per_layer: int = 2
    tie_word_embeddings: bool = False
    num_nextn_predict_layers: int = 0  # MTP modules; published totals leave them out, and so does this file
    max_position_embeddings: int | None = None

    @property
    def attention(self) -> AttentionKind:
        """How it remembers."""
        if self.kv_lora_rank is not None:
            return "mla"
        if self.num_key_value_heads == 1 < self.num_attention_heads:
            return "mqa"
        return "mha" if self.num_key_value_heads == self.num_attention_heads else "gqa"

    @property
    def num_dense_layers(self) -> int:
        """Layers whose FFN works for every token."""
        return len(self.mlp_only_layers)

    @property
    def num_moe_layers(self) -> int:
        """Layers with a router and experts."""
        return self.num_hidden_layers - self.num_dense_layers

    @property
    def qk_head_dim(self) -> int:
        """Numbers in one head's query."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim if self.kv_lora_rank is not None else self.head_dim

    @property
    def value_head_dim(self) -> int:
        """Numbers in one head's value."""
        return self.v_head_dim if self.kv_lora_rank is not None else self.head_dim

    def with_(self, **changes: Any) -> Architecture:
        """A copy with some fields changed."""
        return replace(self, **changes)


# -- every weight, once ------------------------------------------------------------------------------------------------

Place = Literal["embedding", "head", "norm", "attention", "dense", "router", "shared", "expert"]
QUANTISED: tuple[Place, ...] = ("attention", "dense", "shared", "expert")
"""What V3 keeps in FP8 (section 3.3.1: embedding, head, gate, norms stay in higher precision)."""


@dataclass(frozen=True)
class Part:
    """One kind of weight: a matrix (rows x columns: out x in), or a vector (1 row)."""

    place: Place
    rows: int
    columns: int
    there: int  # how many of them the model has
    working: int  # how many of them one token meets
    multiplies: bool = True  # a matrix that a token's vector is multiplied with; not a norm, a bias, a look-up
    fp32: bool = False  # V3's selection bias is stored in FP32

    @property
    def size(self) -> int:
        return self.rows * self.columns


def parts(a: Architecture) -> list[Part]:
    """Every weight of the model."""
    d, layers, moe = a.hidden_size, a.num_hidden_layers, a.num_moe_layers
    made = [
        Part("embedding", a.vocab_size, d, 1, 1, multiplies=a.tie_word_embeddings),
        Part("norm", 1, d, a.norms_per_layer * layers + 1, a.norms_per_layer * layers + 1, multiplies=False),
        *(Part(p.place, p.rows, p.columns, layers, layers, p.multiplies) for p in _attention(a)),
        *_ffn("dense", d, a.intermediate_size, a.num_dense_layers, a.num_dense_layers, a.mlp_bias),
    ]
    if not a.tie_word_embeddings:
        made.append(Part("head", a.vocab_size, d, 1, 1))
    if moe:
        made += _ffn(
            "expert", d, a.moe_intermediate_size, moe * a.n_routed_experts, moe * a.num_experts_per_tok, a.expert_bias
        )
        made.append(Part("router", a.n_routed_experts, d, moe, moe))
        if a.selection_bias:
            made.append(Part("router", 1, a.n_routed_experts, moe, moe, multiplies=False, fp32=True))
        if a.router_bias:
            made.append(Part("router", 1, a.n_routed_experts, moe, moe, multiplies=False))
        if a.shared_intermediate_size:
            made += _ffn("shared", d, a.shared_intermediate_size, moe, moe, False)
        if a.shared_expert_gate:
            made.append(Part("router", 1, d, moe, moe))
    return made


def _ffn(place: Place, d: int, width: int, there: int, working: int, bias: bool) -> Iterator[Part]:
    """SwiGLU: gate, up and down."""
    if not there:
        return
    yield Part(place, width, d, 2 * there, 2 * working)
    yield Part(place, d, width, there, working)
    if bias:
        yield Part(place, 1, width, 2 * there, 2 * working, multiplies=False)
        yield Part(place, 1, d, there, working, multiplies=False)


def _attention(a: Architecture) -> Iterator[Part]:
    """The weights of one layer's attention."""
    d, heads = a.hidden_size, a.num_attention_heads

    def matrix(rows: int, columns: int) -> Part:
        return Part("attention", rows, columns, 1, 1)

    def vector(size: int) -> Part:
        return Part("attention", 1, size, 1, 1, multiplies=False)

    if a.kv_lora_rank is not None:
        if a.q_lora_rank is None:
            yield matrix(heads * a.qk_head_dim, d)
        else:
            yield matrix(a.q_lora_rank, d)
            yield vector(a.q_lora_rank)
            yield matrix(heads * a.qk_head_dim, a.q_lora_rank)
        yield matrix(a.kv_lora_rank + a.qk_rope_head_dim, d)
        yield vector(a.kv_lora_rank)
        yield matrix(heads * (a.qk_nope_head_dim + a.v_head_dim), a.kv_lora_rank)
        yield matrix(d, heads * a.v_head_dim)
        return
    queries, keys = heads * a.head_dim, a.num_key_value_heads * a.head_dim
    yield matrix(queries, d)
    yield matrix(keys, d)
    yield matrix(keys, d)
    yield matrix(d, queries)
    if a.qkv_bias:
        yield vector(queries + 2 * keys)
    if a.o_bias:
        yield vector(d)
    if a.qk_norm:
        yield vector(2 * a.head_dim)
    if a.sinks:
        yield vector(heads)


# -- as a building -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rooms:
    """Equal rooms of one floor."""

    place: Place
    size: int  # parameters of one room
    there: int
    working: int  # how many of them work for one token


@dataclass(frozen=True)
class Storey:
    """Equal floors above each other."""

    first: int  # layer, from 0; -1: the entrance, below all layers; `num_hidden_layers`: the discharge, above them
    floors: int
    rooms: tuple[Rooms, ...]


def storeys(a: Architecture) -> list[Storey]:
    """The model from the ground up, every parameter in a room: the sizes of all rooms add up to `total`. A layer's
    norms and its router count to its attention."""
    d, no_experts = a.hidden_size, set(a.mlp_only_layers)
    sizes = dict.fromkeys(("embedding", "head", "attention", "router", "dense", "shared"), 0)
    for part in parts(a):
        if part.place in sizes:
            sizes[part.place] += part.size * part.there
    beside = sizes["attention"] // a.num_hidden_layers + a.norms_per_layer * d
    dense = (
        Rooms("attention", beside, 1, 1),
        Rooms("dense", sizes["dense"] // max(1, a.num_dense_layers), 1, 1),
    )
    moe = max(1, a.num_moe_layers)
    shared = sizes["shared"] // moe
    sparse = (
        Rooms("attention", beside + sizes["router"] // moe, 1, 1),
        *([Rooms("shared", shared // a.n_shared_experts, *[a.n_shared_experts] * 2)] if shared else []),
        Rooms("expert", expert(a), a.n_routed_experts, a.num_experts_per_tok),
    )
    made = [Storey(-1, 1, (Rooms("embedding", sizes["embedding"] + d, 1, 1),))]  # and the norm before the head
    for layer in range(a.num_hidden_layers):
        rooms = dense if layer in no_experts else sparse
        if made[-1].rooms == rooms:
            made[-1] = replace(made[-1], floors=made[-1].floors + 1)
        else:
            made.append(Storey(layer, 1, rooms))
    if sizes["head"]:
        made.append(Storey(a.num_hidden_layers, 1, (Rooms("head", sizes["head"], 1, 1),)))
    return made


def remembering(a: Architecture, kind: AttentionKind, groups: int = 8) -> Architecture:
    """An MLA model with another way of remembering: as many heads, keys and values as wide as its values (V2 Table 1
    compares them so)."""
    if kind == "mla":
        return a
    keys = {"mha": a.num_attention_heads, "gqa": min(groups, a.num_attention_heads), "mqa": 1}[kind]
    return a.with_(kv_lora_rank=None, q_lora_rank=None, head_dim=a.v_head_dim, num_key_value_heads=keys)


# -- counts ------------------------------------------------------------------------------------------------------------


def total(a: Architecture) -> int:
    """All parameters, MTP modules left out."""
    return sum(part.size * part.there for part in parts(a))


def active(a: Architecture) -> int:
    """Parameters that one token meets, embedding and head included."""
    return sum(part.size * part.working for part in parts(a))


def active_without_embedding(a: Architecture) -> int:
    """As `active`, the input embedding left out (of which one token reads a single row)."""
    return active(a) - (0 if a.tie_word_embeddings else a.vocab_size * a.hidden_size)


def expert(a: Architecture) -> int:
    """Parameters of one routed expert."""
    return sum(part.size * part.there for part in _ffn("expert", a.hidden_size, a.moe_intermediate_size, 1, 1,
                                                       a.expert_bias))  # fmt: skip


def mtp(a: Architecture) -> int:
    """Parameters of the MTP modules: three norms, the projection of two states to one, and a whole MoE layer. What they
    share with the model, embedding and head, is not counted again."""
    d, one = a.hidden_size, a.with_(num_hidden_layers=1, mlp_only_layers=(), num_nextn_predict_layers=0)
    outside = sum(p.size * p.there for p in parts(one) if p.place in ("embedding", "head")) + d  # and the final norm
    return a.num_nextn_predict_layers * (total(one) - outside + 3 * d + 2 * d * d)


# -- cache -------------------------------------------------------------------------------------------------------------


def cache_numbers_per_layer(a: Architecture) -> int:
    """Numbers that one layer keeps of one token (V2 Table 1: GQA 2 n_g d_h, of which MHA and MQA are the ends; MLA
    d_c + d_R)."""
    if a.kv_lora_rank is not None:
        return a.kv_lora_rank + a.qk_rope_head_dim
    return 2 * a.num_key_value_heads * a.head_dim


def cache_numbers(a: Architecture, context: int) -> int:
    """Numbers kept after `context` tokens: layers with a sliding window forget what lies before it."""
    windowed = a.windowed_layers if a.sliding_window is not None else 0
    near = min(context, a.sliding_window) if a.sliding_window is not None else context
    return cache_numbers_per_layer(a) * ((a.num_hidden_layers - windowed) * context + windowed * near)


# -- arithmetic --------------------------------------------------------------------------------------------------------


def multiplied(a: Architecture) -> int:
    """Weights that one token's vectors are multiplied with: the active ones without look-up, norms and biases."""
    return sum(part.size * part.working for part in parts(a) if part.multiplies)


def tokens_seen(context: int, window: int | None = None) -> float:
    """How many tokens a token attends to, itself included, on the average over a text of `context` tokens."""
    if window is None or window >= context:
        return (context + 1) / 2
    return (window * (window + 1) / 2 + (context - window) * window) / context


def attention_products(a: Architecture, context: int) -> float:
    """Multiplications of attention itself for one token, on the average over a text of `context` tokens: a score and a
    weighted value for each token seen, causal, keys and values written out (as in training and prefill)."""
    windowed = a.windowed_layers if a.sliding_window is not None else 0
    seen = (a.num_hidden_layers - windowed) * tokens_seen(context) + windowed * tokens_seen(context, a.sliding_window)
    return a.num_attention_heads * (a.qk_head_dim + a.value_head_dim) * seen


def forward_flops(a: Architecture, context: int) -> float:
    """FLOPs of one token's forward pass: 2 for each multiply-add."""
    return 2 * (multiplied(a) + attention_products(a, context))


def training_flops(a: Architecture, context: int) -> float:
    """FLOPs of training on one token: the backward pass costs twice the forward one (2505.09343 Table 2: V3 250 GFLOP,
    V2 155 at 4,096 tokens)."""
    return 3 * forward_flops(a, context)


# -- bytes and cards ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Precision:
    """How the large matrices are stored. With a block each has a scale for every block; the rest is then BF16."""

    bytes_per_weight: float
    block: tuple[int, int] | None = None  # rows, columns
    bytes_per_scale: int = 0


PRECISIONS: dict[str, Precision] = {
    "fp32": Precision(4),
    "bf16": Precision(2),
    "fp8": Precision(1, (128, 128), 4),  # V3 section 3.3.2: weights in 128 x 128 blocks, FP32 scales
    "mxfp4": Precision(0.5, (1, 32), 1),  # OCP MX 1.0: 32 numbers in a row share an 8-bit exponent
}
BF16, FP32 = 2, 4  # bytes


@dataclass(frozen=True)
class Stored:
    """How many numbers of each kind a checkpoint holds."""

    quantised: int
    plain: int  # in BF16 (FP32 where everything is)
    fp32: int
    scales: int


def stored(a: Architecture, precision: str) -> Stored:
    """Numbers of each kind in a precision that has blocks."""
    rows, columns = PRECISIONS[precision].block or (1, 1)
    quantised = plain = fp32 = scales = 0
    for part in parts(a):
        count = part.size * part.there
        if part.fp32:
            fp32 += count
        elif part.multiplies and part.place in QUANTISED:
            quantised += count
            scales += math.ceil(part.rows / rows) * math.ceil(part.columns / columns) * part.there
        else:
            plain += count
    return Stored(quantised, plain, fp32, scales)


def weight_bytes(a: Architecture, precision: str = "bf16") -> int:
    """Bytes of all weights. KeyError for a precision that is not in PRECISIONS."""
    how = PRECISIONS[precision]
    if how.block is None:
        return int(total(a) * how.bytes_per_weight)
    s = stored(a, precision)
    beside = s.plain * BF16 + s.fp32 * FP32 + s.scales * how.bytes_per_scale
    return math.ceil(s.quantised * how.bytes_per_weight) + beside


@dataclass(frozen=True)
class Figures:
    """All that one architecture costs."""

    total: int
    active: int
    experts: int  # rooms in all layers: routed and shared
    experts_per_token: int  # of these, those that work for one token
    cache_numbers_per_token: int  # while the text is shorter than any window
    cache_numbers: int  # after `context` tokens
    cache_bytes: float
    forward_flops: float  # one token, the average over a text of `context` tokens
    training_flops: float
    weight_bytes: int
    cards: int  # that hold the weights and the cache of one text; what computing needs beside them is not counted


def figures(
    a: Architecture,
    *,
    context: int = 4096,
    precision: str = "bf16",
    bytes_per_number: float = BF16,
    card_bytes: float = 80e9,
) -> Figures:
    """What `a` costs for texts of `context` tokens, its weights in `precision`, its cache in `bytes_per_number`, on
    cards of `card_bytes`. Nothing is allocated."""
    kept, weights = cache_numbers(a, context), weight_bytes(a, precision)
    return Figures(
        total=total(a),
        active=active(a),
        experts=a.num_moe_layers * (a.n_routed_experts + a.n_shared_experts),
        experts_per_token=a.num_moe_layers * (a.num_experts_per_tok + a.n_shared_experts),
        cache_numbers_per_token=cache_numbers(a, 1),
        cache_numbers=kept,
        cache_bytes=kept * bytes_per_number,
        forward_flops=forward_flops(a, context),
        training_flops=training_flops(a, context),
        weight_bytes=weights,
        cards=math.ceil((weights + kept * bytes_per_number) / card_bytes),
    )
