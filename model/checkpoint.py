"""Checkpoint folders in the published layout: `config.json`, `*.safetensors`, `tokenizer.json`. Never pickles.

Reads three kinds of weights: the project's own compact file (all experts of a layer in one tensor, block-wise FP8 as
DeepSeek-V3 ships them, so that it opens in a second), the published per-expert names, and transformers' fused ones.
Writes the compact file (`save`) and the published per-expert one (`export`).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.config import ModelConfig
from model.costs import parameters
from model.deepseek_v3 import DeepseekV3, DenseFFN, MoE, Router
from model.errors import UserError

BLOCK = 128  # rows and columns that share one scale (V3 section 3.3.2)
FP8_MAX = 448.0  # largest float8_e4m3fn
WEIGHTS = "model.safetensors"
SUM = "model.safetensors.sha256"
STUDY = "study.safetensors"  # measurements beside the weights (`study.py`), no weights


class CheckpointError(UserError):
    """A checkpoint folder that cannot be used; the message says why and what to do."""


# -- block-wise FP8 -------------------------------------------------------------------------------------------------


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(..., rows, columns) fp32 -> float8_e4m3fn of the same shape, and `weight_scale_inv`, one fp32 number per block
    of 128 x 128: weight = fp8 x scale. As in V3's checkpoint; blocks at the edge are smaller."""
    *lead, rows, columns = weight.shape
    high, wide = -(-rows // BLOCK), -(-columns // BLOCK)
    blocks = weight[..., None, :, None, :]
    if high * wide > 1:
        padded = torch.zeros(*lead, high * BLOCK, wide * BLOCK)
        padded[..., :rows, :columns] = weight
        blocks = padded.view(*lead, high, BLOCK, wide, BLOCK)
    scale = (blocks.abs().amax((-3, -1)) / FP8_MAX).clamp(min=1e-12)
    spread = scale if high * wide == 1 else _spread(scale, rows, columns)
    return (weight / spread).to(torch.float8_e4m3fn), scale


def _spread(scale: Tensor, rows: int, columns: int) -> Tensor:
    """One scale per number again."""
    return scale.repeat_interleave(BLOCK, -2)[..., :rows, :].repeat_interleave(BLOCK, -1)[..., :columns]


# float8_e4m3fn has 256 values: looking them up is several times as fast as torch's own conversion on a CPU.
_FP8_VALUES = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()


def dequantise(weight: Tensor, scale: Tensor) -> Tensor:
    """fp32 weights of a block-wise FP8 tensor and its `weight_scale_inv`."""
    values = _FP8_VALUES.index_select(0, weight.contiguous().view(torch.uint8).flatten().int()).view(weight.shape)
    rows, columns = weight.shape[-2:]
    if scale.shape != (*weight.shape[:-2], -(-rows // BLOCK), -(-columns // BLOCK)):
        raise ValueError(f"scales {tuple(scale.shape)} of a tensor {tuple(weight.shape)}")
    return values.mul_(scale if scale.shape[-2:] == (1, 1) else _spread(scale, rows, columns))


# -- names ----------------------------------------------------------------------------------------------------------
# Inside: the module names of deepseek_v3.py. Outside: the published ones.


def published(model: DeepseekV3) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under its published name, experts one by one, the MTP module as layer `num_hidden_layers` with its
    copies of embedding and head."""
    c = model.c
    yield "model.embed_tokens.weight", model.embed_tokens.weight
    yield "model.norm.weight", model.norm.weight
    yield "lm_head.weight", model.lm_head.weight
    blocks = list(model.layers)
    if model.mtp is not None:
        blocks.append(model.mtp.block)
        prefix = f"model.layers.{c.num_hidden_layers}."
        for name in ("enorm", "hnorm", "eh_proj"):
            yield f"{prefix}{name}.weight", getattr(model.mtp, name).weight
        yield f"{prefix}shared_head.norm.weight", model.mtp.norm.weight
        yield f"{prefix}shared_head.head.weight", model.lm_head.weight
        yield f"{prefix}embed_tokens.weight", model.embed_tokens.weight
    for index, block in enumerate(blocks):
        prefix = f"model.layers.{index}."
        for name, tensor in block.state_dict().items():
            if not name.startswith("mlp.experts."):
                yield prefix + name, tensor
        if isinstance(block.mlp, MoE):
            experts = block.mlp.experts
            m, routed = c.moe_intermediate_size, c.n_routed_experts
            for e in range(routed):
                yield f"{prefix}mlp.experts.{e}.gate_proj.weight", experts.gate_up[e, :m]
                yield f"{prefix}mlp.experts.{e}.up_proj.weight", experts.gate_up[e, m:]
                yield f"{prefix}mlp.experts.{e}.down_proj.weight", experts.down[e].t()
            if c.n_shared_experts:
                shared = f"{prefix}mlp.shared_experts."
                yield f"{shared}gate_proj.weight", experts.gate_up[routed:, :m].flatten(0, 1)
                yield f"{shared}up_proj.weight", experts.gate_up[routed:, m:].flatten(0, 1)
                yield f"{shared}down_proj.weight", experts.down[routed:].flatten(0, 1).t()


_EXPERT = re.compile(r"(.*\.mlp\.)experts\.(\d+)\.(gate|up|down)_proj\.weight$")
_SHARED = re.compile(r"(.*\.mlp\.)shared_experts\.(gate|up|down)_proj\.weight$")
_FUSED = re.compile(r"(.*\.mlp\.)experts\.(gate_up|down)_proj$")
_ROTARY = re.compile(r".*rotary_emb\.inv_freq$")


class _Filler:
    """Copies published tensors into a model one by one and knows at the end what never came."""

    def __init__(self, model: DeepseekV3) -> None:
        self.model, self.c = model, model.c
        self.target = model.state_dict()  # shares memory with the parameters
        self.missing = {name: t.numel() for name, t in self.target.items()}
        self.mtp_prefix = f"model.layers.{self.c.num_hidden_layers}."

    def _inside(self, name: str) -> str | None:
        """The module's name of a published one; None for what is not needed (copies, a second MTP module)."""
        if name.startswith(self.mtp_prefix):
            rest = name[len(self.mtp_prefix) :]
            if self.model.mtp is None or rest in ("embed_tokens.weight", "shared_head.head.weight"):
                return None
            if rest == "shared_head.norm.weight":
                return "mtp.norm.weight"
            return f"mtp.{rest}" if rest.split(".")[0] in ("enorm", "hnorm", "eh_proj") else f"mtp.block.{rest}"
        return name.removeprefix("model.")

    def put(self, name: str, tensor: Tensor) -> None:
        """Take one tensor; CheckpointError if the model has no place of that name and shape."""
        inside = self._inside(name)
        if inside is None or _ROTARY.match(name):
            return
        if not tensor.is_floating_point():
            raise CheckpointError(f"{name} holds {tensor.dtype}, not fractions. Fetch the checkpoint again.",
                                  "checkpoint_damaged")  # fmt: skip
        m, routed = self.c.moe_intermediate_size, self.c.n_routed_experts
        if match := _EXPERT.match(inside):
            prefix, expert, part = match[1], int(match[2]), match[3]
            if expert >= routed:
                raise CheckpointError(f"{name}: config.json speaks of {routed} experts only.", "checkpoint_damaged")
            self._write(prefix + "experts." + ("down" if part == "down" else "gate_up"), name,
                        (expert, slice(m, None) if part == "up" else slice(0, m)) if part != "down" else (expert,),
                        tensor.t() if part == "down" else tensor)  # fmt: skip
        elif match := _SHARED.match(inside):
            prefix, part, shared = match[1], match[2], self.c.n_shared_experts
            if tensor.dim() != 2 or not shared or tensor.numel() != shared * m * self.c.hidden_size:
                raise self._shape(name, tensor)
            rows = (tensor.t() if part == "down" else tensor).reshape(shared, m, self.c.hidden_size)
            where = (slice(routed, None), slice(m, None) if part == "up" else slice(0, m))
            self._write(prefix + "experts." + ("down" if part == "down" else "gate_up"), name,
                        where if part != "down" else (slice(routed, None),), rows)  # fmt: skip
        elif match := _FUSED.match(inside):
            down = match[2] == "down"
            self._write(match[1] + "experts." + match[2], name, (slice(0, routed),),
                        tensor.transpose(-1, -2) if down else tensor)  # fmt: skip
        else:
            self._write(inside, name, (), tensor)

    def _write(self, inside: str, name: str, where: tuple[int | slice, ...], tensor: Tensor) -> None:
        if inside not in self.target:
            raise CheckpointError(f"The checkpoint has a tensor {name!r} that config.json leaves no place for.",
                                  "checkpoint_damaged")  # fmt: skip
        place = self.target[inside][where] if where else self.target[inside]
        if place.shape != tensor.shape:
            raise self._shape(name, tensor)
        place.copy_(tensor)
        self.missing[inside] -= tensor.numel()

    def _shape(self, name: str, tensor: Tensor) -> CheckpointError:
        return CheckpointError(f"{name} has the shape {tuple(tensor.shape)}, which does not fit config.json.",
                               "checkpoint_damaged")  # fmt: skip

    def finish(self) -> None:
        """CheckpointError if anything never came. The MTP module may be missing whole: it is then left out."""
        absent = [name for name, left in self.missing.items() if left > 0]
        if self.model.mtp is not None and {n for n in self.missing if n.startswith("mtp.")} <= set(absent):
            self.model.mtp = None
            absent = [name for name in absent if not name.startswith("mtp.")]
        if absent:
            raise CheckpointError(f"The checkpoint is incomplete: {absent[0]} and {len(absent) - 1} more are missing. "
                                  "Fetch it again.", "checkpoint_damaged")  # fmt: skip


# -- files ----------------------------------------------------------------------------------------------------------


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            shards = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise CheckpointError(f"{index.name} cannot be read. Fetch it again.", "checkpoint_damaged") from error
        files = [folder / str(name) for name in shards]
        if any(path.parent != folder for path in files):
            raise CheckpointError(f"{index.name} points outside its folder.", "checkpoint_damaged")
    else:
        files = sorted(path for path in folder.glob("*.safetensors") if path.name != STUDY)
    missing = [path.name for path in files if not path.is_file()]
    if missing or not files:
        what = missing[0] if missing else "a .safetensors file"
        raise CheckpointError(f"{folder} lacks {what}. Fetch the checkpoint again or name another folder.",
                              "checkpoint_missing", folder=folder.name)  # fmt: skip
    return files


def load(folder: str | Path) -> DeepseekV3:
    """The model in a checkpoint folder, fp32, ready for `Engine`.

    Raises ConfigError (another architecture, an unsupported field) or CheckpointError (missing, damaged).
    """
    return _read(folder, None)


def load_share(folder: str | Path, experts: range) -> DeepseekV3:
    """`load`, with only these routed experts of every layer, renumbered from 0, and no MTP module: what is left out is
    never read. The gates still know all experts."""
    return _read(folder, experts).eval().requires_grad_(False)


def _with_share(c: ModelConfig, experts: range) -> DeepseekV3:
    """The modules that `load_share` fills."""
    own = c.with_(n_routed_experts=len(experts), n_group=1, topk_group=1, num_nextn_predict_layers=0,
                  num_experts_per_tok=min(c.num_experts_per_tok, len(experts)))  # fmt: skip
    model = DeepseekV3(own)
    for layer in model.layers:
        if isinstance(layer.mlp, MoE):
            layer.mlp.gate = Router(c)
    return model


def _read(folder: str | Path, experts: range | None) -> DeepseekV3:
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"There is no checkpoint in {folder}: it has no config.json. Name a folder that has one.",
                              "checkpoint_missing", folder=folder.name)  # fmt: skip
    config = ModelConfig.from_json(folder / "config.json")
    files = _weight_files(folder)
    try:
        _check_sum(folder)
        _check_size(files, config)
        # Every number is written below; `finish` proves it.
        model = DeepseekV3(config) if experts is None else _with_share(config, experts)
        filler = _Filler(model)
        for path in files:
            with safe_open(path, "pt") as file:
                for name in sorted(file.keys()):
                    if name.endswith("_scale_inv"):
                        continue
                    place, cut = _shared_out(name, experts, filler.mtp_prefix)
                    if place is None:
                        continue
                    tensor = _part(file, name, cut)
                    if tensor.dtype == torch.float8_e4m3fn:
                        tensor = dequantise(tensor, _part(file, name + "_scale_inv", cut))
                    filler.put(place, tensor)
    except UserError:
        raise
    except Exception as error:  # a damaged file can make any part of the reader fail, each in its own way
        what = " ".join(str(error).split())[:200]
        raise CheckpointError(f"The weights in {folder} are damaged ({what}). Fetch the checkpoint again.",
                              "checkpoint_damaged", folder=folder.name) from error  # fmt: skip
    filler.finish()
    _check_finite(model)
    return model


def _shared_out(name: str, experts: range | None, mtp_prefix: str) -> tuple[str | None, slice | None]:
    """Where a published tensor goes in a model with these experts (None: nowhere), and which of its rows."""
    if experts is None:
        return name, None
    if name.startswith(mtp_prefix):
        return None, None
    if match := _EXPERT.match(name):
        number = int(match[2])
        renamed = f"{match[1]}experts.{number - experts.start}.{match[3]}_proj.weight"
        return (renamed if number in experts else None), None
    return name, slice(experts.start, experts.stop) if _FUSED.match(name) else None


def _part(file: Any, name: str, rows: slice | None) -> Tensor:
    """A tensor of a safetensors file, or only these of its rows."""
    return file.get_tensor(name) if rows is None else file.get_slice(name)[rows]


def digest(folder: str | Path) -> str:
    """SHA-256 of a checkpoint's weights, in hex: of the one file that holds them, as `sha256sum` prints it; of several,
    of the lines that it prints for them in the order of their names. CheckpointError where there are none."""
    sums = []
    for path in _weight_files(Path(folder)):
        with open(path, "rb") as file:
            sums.append((hashlib.file_digest(file, "sha256").hexdigest(), path.name))
    if len(sums) == 1:
        return sums[0][0]
    return hashlib.sha256("".join(f"{found}  {name}\n" for found, name in sums).encode()).hexdigest()


def _check_sum(folder: Path) -> None:
    """`save` notes the hash of what it wrote: a flipped bit of a weight is a weight too, and nothing else tells."""
    note = folder / SUM
    if not note.is_file():
        return
    with open(folder / WEIGHTS, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if note.read_text("utf-8", "replace").split()[:1] != [found]:
        raise CheckpointError(f"{WEIGHTS} in {folder} is not the file that {SUM} speaks of. "
                              "Fetch the checkpoint again.", "checkpoint_damaged", folder=folder.name)  # fmt: skip


def _check_size(files: list[Path], config: ModelConfig) -> None:
    """Before anything is allocated: a config.json that promises more than the files hold could ask for any size."""
    held = 0
    for path in files:
        with safe_open(path, "pt") as file:
            held += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    if held < parameters(config).main:
        raise CheckpointError(
            f"The checkpoint is incomplete: config.json speaks of {parameters(config).main:,} numbers, "
            f"but the files hold {held:,}. Fetch it again.", "checkpoint_damaged")  # fmt: skip


def _check_finite(model: DeepseekV3) -> None:
    for name, tensor in model.state_dict().items():
        # A sum is finite only if every number is; it reads memory once and makes nothing.
        if not bool(torch.isfinite(tensor.sum())):
            raise CheckpointError(f"The weights are damaged: {name} holds a number that is not finite. "
                                  "Fetch the checkpoint again.", "checkpoint_damaged")  # fmt: skip


def _write(tensors: dict[str, Tensor], config: ModelConfig, folder: Path, tokenizer: Path | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / "model.partial"
    save_file(tensors, scratch, metadata={"format": "pt"})
    with open(scratch, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    (folder / SUM).unlink(missing_ok=True)  # never a new file beside an old sum
    os.replace(scratch, folder / WEIGHTS)
    (folder / SUM).write_text(f"{found}  {WEIGHTS}\n", "utf-8")  # `sha256sum -c` reads it too
    (folder / "config.json").write_text(json.dumps(config.to_dict(), indent=2) + "\n", "utf-8")
    if tokenizer is not None and tokenizer.resolve() != (folder / "tokenizer.json").resolve():
        shutil.copyfile(tokenizer, folder / "tokenizer.json")


def save(model: DeepseekV3, folder: str | Path, tokenizer: Path | None = None, fp8: bool = True) -> None:
    """Write the compact checkpoint: matrices of attention, FFN and experts in block-wise FP8 (or bf16), everything
    that V3 keeps in higher precision too (embedding, head, gates, norms: section 3.3.1) in bf16 or fp32."""
    tensors: dict[str, Tensor] = {}

    def put(name: str, tensor: Tensor, matrix: bool) -> None:
        if matrix and fp8:
            tensors[name], tensors[name + "_scale_inv"] = quantise(tensor.contiguous())
        else:
            keep = tensor.dim() == 1 or "mlp.gate." in name
            tensors[name] = tensor.contiguous() if keep else tensor.to(torch.bfloat16).contiguous()

    copies = (".shared_head.head.weight", f"layers.{model.c.num_hidden_layers}.embed_tokens.weight")
    for name, tensor in published(model):
        if _EXPERT.match(name) or name.endswith(copies):
            continue
        matrix = tensor.dim() == 2 and not name.endswith(("embed_tokens.weight", "lm_head.weight", "gate.weight"))
        put(name, tensor, matrix)
    for index, block in enumerate([*model.layers, *([model.mtp.block] if model.mtp is not None else [])]):
        if isinstance(block.mlp, DenseFFN):
            continue
        prefix, routed = f"model.layers.{index}.mlp.experts.", model.c.n_routed_experts
        put(prefix + "gate_up_proj", block.mlp.experts.gate_up[:routed], True)
        put(prefix + "down_proj", block.mlp.experts.down[:routed].transpose(1, 2).contiguous(), True)
    _write(tensors, model.c, Path(folder), tokenizer)


def export(model: DeepseekV3, folder: str | Path, tokenizer: Path | None = None) -> None:
    """Write the published layout in fp32, per-expert names: transformers' DeepseekV3ForCausalLM loads it."""
    tensors = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in published(model)}
    _write(tensors, model.c, Path(folder), tokenizer)
    (Path(folder) / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<｜begin▁of▁sentence｜>",
                    "eos_token": "<｜end▁of▁sentence｜>"}, ensure_ascii=False) + "\n", "utf-8")  # fmt: skip
    generation = {"bos_token_id": model.c.bos_token_id, "eos_token_id": model.c.eos_token_id, "do_sample": False}
    (Path(folder) / "generation_config.json").write_text(json.dumps(generation) + "\n", "utf-8")
