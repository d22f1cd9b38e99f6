"""Where the weights lie: bytes that are held and bytes that are used, what a small store of experts saves, and what is
lost when numbers are kept in fewer bits.

Bytes of the live model are those of its real tensors; bytes of DeepSeek-V3 are formulas over `architectures.parts`
that give the published checkpoint to the last number.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from model import checkpoint
from model.architectures import BF16, FP32, QUANTISED, Architecture, Part, parts, stored
from model.deepseek_v3 import DecoderLayer, DeepseekV3, MoE
from model.engine import Engine
from model.trace import Trace

# -- held and used -----------------------------------------------------------------------------------------------------

PLACES = ("interns", "nurse", "gates", "attention", "desk", "embedding", "head", "norms", "mtp")


def _place(name: str) -> str:
    """Where a tensor of `DeepseekV3.state_dict` belongs; experts aside."""
    if name.startswith("mtp."):
        return "mtp"
    for part, place in (("self_attn.", "attention"), ("mlp.gate.", "gates"), ("mlp.", "desk"),
                        ("embed_tokens", "embedding"), ("lm_head", "head")):  # fmt: skip
        if part in name:
            return place
    return "norms"


def expert_bytes(model: DeepseekV3) -> int:
    """Bytes of one expert of the live model, routed or shared; 0 in a dense model."""
    for layer in model.layers:
        if isinstance(layer.mlp, MoE):
            return int(layer.mlp.experts.gate_up[0].nbytes + layer.mlp.experts.down[0].nbytes)
    return 0


def held(model: DeepseekV3) -> dict[str, int]:
    """Bytes of every part's real tensors, as they lie in memory."""
    found = dict.fromkeys(PLACES, 0)
    for name, tensor in model.state_dict().items():
        if ".mlp.experts." in name and not name.startswith("mtp."):
            routed = model.c.n_routed_experts
            found["interns"] += tensor[:routed].nbytes
            found["nurse"] += tensor[routed:].nbytes
        else:
            found[_place(name)] += tensor.nbytes
    return found


def used(model: DeepseekV3, trace: Trace, token: int | None = None) -> dict[str, int]:
    """Of these, the bytes that a forward pass reads: for one token of the trace, or for all of them together. All but
    the interns that slept, the rows of the embedding that nobody looked up, and the MTP module."""
    found = {**held(model), "mtp": 0}
    ids = set(trace.ids) if token is None else {trace.ids[token]}
    called = trace.experts_touched if token is None else trace.chosen.shape[0] * trace.chosen.shape[2]
    found["interns"] = called * expert_bytes(model)
    found["embedding"] = len(ids) * model.embed_tokens.weight[0].nbytes
    return found


class Checkpoint(NamedTuple):
    """Numbers in a checkpoint in block-wise FP8, by the kind in which they are stored."""

    fp8: int
    bf16: int
    fp32: int  # selection biases, and a scale for every block

    @property
    def bytes(self) -> int:
        return self.fp8 + BF16 * self.bf16 + FP32 * self.fp32


def published_checkpoint(a: Architecture) -> Checkpoint:
    """What V3's own file holds: the model, and the MTP module with its copies of embedding and head."""
    d = a.hidden_size
    main, block = stored(a, "fp8"), stored(a.with_(num_hidden_layers=1, mlp_only_layers=()), "fp8")
    times = a.num_nextn_predict_layers  # a block has a final norm, embedding and head too; enorm, hnorm, eh_proj beside
    return Checkpoint(
        main.quantised + times * block.quantised,
        main.plain + times * (block.plain + 2 * d + 2 * d * d),
        main.fp32 + main.scales + times * (block.fp32 + block.scales),
    )


def fp8_bytes(part: Part) -> int:
    """Bytes of one weight of this kind as V3 ships it: FP8 with an FP32 scale for every block of 128 x 128, or BF16, or
    FP32 (see `architectures.weight_bytes`)."""
    if part.fp32:
        return FP32 * part.size
    if part.multiplies and part.place in QUANTISED:
        block = checkpoint.BLOCK
        return part.size + FP32 * math.ceil(part.rows / block) * math.ceil(part.columns / block)
    return BF16 * part.size


_OURS = {"expert": "interns", "shared": "nurse", "router": "gates", "dense": "desk", "norm": "norms"}


def published_held(a: Architecture) -> dict[str, int]:
    """`held` of V3 as it is shipped, by formula."""
    found = dict.fromkeys(PLACES, 0)
    for part in parts(a):
        found[_OURS.get(part.place, part.place)] += fp8_bytes(part) * part.there
    found["mtp"] = published_checkpoint(a).bytes - sum(found.values())
    return found


def published_used(a: Architecture) -> dict[str, int]:
    """`used` of V3 for one token, by formula: of the embedding one row."""
    found = dict.fromkeys(PLACES, 0)
    for part in parts(a):
        found[_OURS.get(part.place, part.place)] += fp8_bytes(part) * part.working
    found["embedding"] = BF16 * a.hidden_size
    return found


class Link(NamedTuple):
    """What weights may have to come over."""

    name: str
    bytes_per_second: float
    source: str


LINKS = (
    Link("infiniband", 50e9, "arXiv 2412.19437, section 3.2.2"),
    Link("pcie", 32e9 * 16 / 8 * 128 / 130, "PCI Express 5.0: 32 GT/s, 16 lanes, 128b/130b"),
    Link("nvlink", 160e9, "arXiv 2412.19437, section 3.2.2"),
)


def expert_fp8_bytes(a: Architecture) -> int:
    """Bytes of one routed expert as V3 ships it: FP8, and an FP32 scale for every block of 128 x 128."""
    rooms = a.num_moe_layers * a.n_routed_experts
    return sum(fp8_bytes(p) * p.there for p in parts(a) if p.place == "expert") // rooms


# -- a small store of experts ------------------------------------------------------------------------------------------


class Shelf:
    """How recently each expert of each floor was called. `read` goes on where the last one ended."""

    def __init__(self, floors: int, experts: int) -> None:
        self.last = np.full((floors, experts), -1, np.int64)
        self.time = 0

    def read(self, chosen: np.ndarray) -> np.ndarray:
        """(M, T, k): how many other experts of its floor were called more recently than each chosen one, when its
        token came; `experts` for one that was never called.

        A store that keeps the n experts called last (LRU) has it exactly if this is below n, whatever n is: so one
        sweep answers for stores of every size. A token's k calls come together: all are looked up, then all are put on
        top, the one with the largest weight last.
        """
        floors, tokens, k = chosen.shape
        experts = self.last.shape[1]
        age = np.empty(chosen.shape, np.int64)
        here = np.arange(floors)[:, None]
        for token in range(tokens):
            called = chosen[:, token].astype(np.int64)  # best first
            before = self.last[here, called]
            newer = (self.last[:, None, :] > before[..., None]).sum(-1)
            age[:, token] = np.where(before < 0, experts, newer)
            self.last[here, called] = self.time + np.arange(k)[::-1]
            self.time += k
        return age


def ages(chosen: np.ndarray, experts: int) -> np.ndarray:
    """`Shelf.read` of a text that finds the store empty."""
    return Shelf(chosen.shape[0], experts).read(chosen)


def hit_rates(age: np.ndarray, experts: int) -> np.ndarray:
    """(experts + 1,): share of calls that a store of 0, 1, 2, ... experts a floor answers. Sizes below k are not
    stores: a token needs its k experts at the same time."""
    counts = np.bincount(age.ravel(), minlength=experts + 1)[: experts + 1]
    return np.concatenate([[0], counts.cumsum()[:-1]]) / max(age.size, 1)


def loads(age: np.ndarray, kept: int) -> np.ndarray:
    """(T,): experts that each token has fetched, on all floors, if every floor keeps `kept`."""
    return (age >= kept).sum((0, 2))


# -- fewer bits --------------------------------------------------------------------------------------------------------

FormatName = Literal["int8", "int4", "int3", "int2"]
GROUP = 32
"""Numbers in a row that share a scale, as in ggml's Q8_0 and Q4_0."""


@dataclass(frozen=True)
class Format:
    """Whole numbers from -(2^(bits - 1) - 1) to 2^(bits - 1) - 1 times a BF16 scale for every 32 of them."""

    name: FormatName
    bits: int

    @property
    def bytes_per_weight(self) -> float:
        return self.bits / 8 + BF16 / GROUP

    def round(self, weight: Tensor) -> Tensor:
        """`weight` (..., n) as this format gives it back, in the same shape."""
        n, most = weight.shape[-1], 2 ** (self.bits - 1) - 1
        groups = nn.functional.pad(weight, (0, -n % GROUP)).unflatten(-1, (-1, GROUP))
        scale = (groups.abs().amax(-1, keepdim=True) / most).bfloat16().float().clamp(min=1e-30)
        return (groups / scale).round_().clamp_(-most, most).mul_(scale).flatten(-2)[..., :n]


FORMATS: dict[str, Format] = {
    "int8": Format("int8", 8), "int4": Format("int4", 4), "int3": Format("int3", 3), "int2": Format("int2", 2),
}  # fmt: skip


def fp8_round(weight: Tensor) -> Tensor:
    """`weight` as block-wise FP8 gives it back. What the checkpoint holds in FP8 already comes back as it is."""
    return checkpoint.dequantise(*checkpoint.quantise(weight.contiguous()))


def matrices(block: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """What V3 keeps in FP8 (section 3.3.1): the matrices of attention, dense FFN and experts; not gates and norms."""
    for name, weight in block.named_parameters():
        if weight.dim() > 1 and not name.endswith("gate.weight"):
            yield name, weight


class Error(NamedTuple):
    """Sums over the numbers that were rounded."""

    squares: float  # of what was lost
    size: float  # of what was there
    numbers: int
    worst: float  # largest difference

    @property
    def relative(self) -> float:
        """Length of what was lost over length of what was there."""
        return math.sqrt(self.squares / self.size) if self.size else 0.0

    def plus(self, other: Error) -> Error:
        """Both together."""
        return Error(self.squares + other.squares, self.size + other.size, self.numbers + other.numbers,
                     max(self.worst, other.worst))  # fmt: skip


NO_ERROR = Error(0.0, 0.0, 0, 0.0)


What = Literal["all", "interns"]


@torch.no_grad()
def round_layer(layer: nn.Module, round: Callable[[Tensor], Tensor], what: What = "all") -> Error:
    """Round a layer's matrices, or only its routed experts, in place; what that lost."""
    error = NO_ERROR
    for name, whole in matrices(layer):
        weight: Tensor = whole
        if what == "interns":
            if ".experts." not in name or not isinstance(layer, DecoderLayer):
                continue
            weight = whole[: layer.self_attn.c.n_routed_experts]
        rounded = round(weight)
        lost = weight - rounded
        error = error.plus(Error(float(lost.square().sum()), float(weight.square().sum()), weight.numel(),
                                 float(lost.abs().max())))  # fmt: skip
        weight.copy_(rounded)
    return error


class _Rounded:
    """An engine's layers, some of them rounded when their turn comes and forgotten afterwards: a whole model in fewer
    bits takes the room of one floor."""

    def __init__(self, layers: list[Any], which: Collection[int], how: Format, what: What) -> None:
        self.layers, self.which, self.how, self.what, self.error = layers, which, how, what, NO_ERROR

    def __getitem__(self, at: slice) -> Iterator[Any]:
        for index, layer in enumerate(self.layers[at]):
            if index not in self.which:
                yield layer
                continue
            own = cast(DecoderLayer, copy.deepcopy(layer.module))
            self.error = self.error.plus(round_layer(own, self.how.round, self.what))
            yield Engine._prepare(own.requires_grad_(False))


def rounded_trace(
    engine: Engine, ids: list[int], layers: Collection[int], how: Format, what: What = "all"
) -> tuple[Trace, Error]:
    """One pass with the matrices of these layers (or only their interns) in fewer bits, and what rounding lost. The
    engine is not touched."""
    other = copy.copy(engine)
    rounded = _Rounded(engine.layers, layers, how, what)
    other.layers = cast(Any, rounded)
    trace = other.trace(ids)
    return trace, rounded.error
