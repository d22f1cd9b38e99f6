"""Hospitals compared: a dense, a Mixtral-style, a Grok-style and a DeepSeek-V3-style miniature read the same tokens.

All have one width, one vocabulary, and as many *active* parameters as one another, to within half a percent (but for
`coarse`, below). What is left of each published model is its way of building:

* `dense`: Llama's way. Grouped-query attention with 4 heads to a cached one (Llama-3.1-8B: 32 to 8); every FFN works
  for every token. As many layers as the V3-style one.
* `mixtral`: Mixtral's way. The same attention, 8 experts of which 2 are chosen by a softmax over the 2, no shared
  expert, no dense layer; half as many layers (32 to V3's 61).
* `grok`: Grok-1's way. Twice as deep as Mixtral's (64 to 32), 6 heads to a cached one (48 to 8), and the 2 weights are
  parts of the softmax over all 8, not made to sum to 1. At equal active size twice the depth leaves each expert half as
  wide; the published ones are wider than Mixtral's because Grok-1 is larger altogether. Its GELU, its norms after each
  part and its capped scores are left out.
* `v3`: DeepSeek-V3's way. MLA, one dense layer, then fine experts, 8 of 71 chosen by a sigmoid with a bias, beside one
  that everybody sees. No groups: the corridor rule saves transport, which one machine has none of.

Four more are the V3-style one with a single thing changed: `no_nurse` has no shared expert and chooses one more of one
more, so that both sizes stay; `coarse` is `no_nurse` with experts 4.5 times as wide, 2 of 16 (as many expert weights in
all and for a token; the smaller gate makes it 2 % smaller in active parameters); `auxiliary` keeps its experts busy by
a loss instead of the bias; `nothing` by nothing at all.

There is no multi-token prediction. Held-out texts are the same for all; a seed decides the first weights and which
tokens are read in which order, equal for all arms.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from model import architectures
from model.checkpoint import dequantise, quantise
from model.corpus import heldout
from model.data import TrainingRows
from model.errors import UserError
from model.evaluate import encode, read
from model.families import Family, FamilyConfig, walk
from model.labs import RECORDED, Experiment, Step
from model.labs._spread import apart
from model.tokenizer import Tokenizer
from model.train import TrainSettings, optimiser, take_step

STYLES = ("dense", "mixtral", "grok", "v3")
ABLATIONS = ("no_nurse", "coarse", "auxiliary", "nothing")
ARMS = STYLES + ABLATIONS
AUXILIARY = 0.01  # weight of the balance loss, as in Switch Transformers (arXiv 2101.03961 section 2.2)
BIAS_SPEED = 0.01  # V3's 0.001 would not come far in a few hundred steps
SEQUENCE_LOSS = 1e-4  # V3's own, beside the bias (section 4.2)
KEPT_SEED = 0  # whose trained weights are kept
TIMED = 60  # passes, of which the fastest counts
TEXT = 32  # tokens of a timed pass

_COMMON: dict[str, Any] = {
    "vocab_size": 4096, "hidden_size": 64, "max_position_embeddings": 512, "num_nextn_predict_layers": 0, "n_group": 1,
    "topk_group": 1,
}  # fmt: skip
_GROUPED: dict[str, Any] = {
    **_COMMON, "attention": "gqa", "num_attention_heads": 4, "num_key_value_heads": 1, "qk_rope_head_dim": 16,
    "v_head_dim": 16,
}  # fmt: skip
_TOP_2: dict[str, Any] = {
    "first_k_dense_replace": 0, "n_routed_experts": 8, "n_shared_experts": 0, "num_experts_per_tok": 2,
    "gate": "softmax", "routed_scaling_factor": 1.0,
}  # fmt: skip
_V3: dict[str, Any] = {
    **_COMMON, "num_hidden_layers": 6, "first_k_dense_replace": 1, "num_attention_heads": 4, "q_lora_rank": 32,
    "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "n_routed_experts": 71,
    "n_shared_experts": 1, "num_experts_per_tok": 8, "intermediate_size": 144, "moe_intermediate_size": 16,
}  # fmt: skip


class Arm(NamedTuple):
    """One way of building, and how its experts are kept busy."""

    config: FamilyConfig
    bias_speed: float = 0.0
    balance_loss: float = 0.0


@cache
def arm(name: str) -> Arm:
    """One of ARMS; KeyError for another. Widths are those that bring the active parameters nearest to `v3`'s."""
    top_2 = {**_GROUPED, **_TOP_2}
    alone = {**_V3, "n_routed_experts": 72, "n_shared_experts": 0, "num_experts_per_tok": 9}
    coarse = {**alone, "n_routed_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 72}
    arms = {
        "dense": Arm(FamilyConfig(**_GROUPED, num_hidden_layers=6, first_k_dense_replace=6, intermediate_size=178)),
        "mixtral": Arm(FamilyConfig(**top_2, num_hidden_layers=3, moe_intermediate_size=203), 0.0, AUXILIARY),
        "grok": Arm(
            FamilyConfig(**{**top_2, "num_attention_heads": 6, "qk_rope_head_dim": 8, "v_head_dim": 8},
                         num_hidden_layers=6, moe_intermediate_size=95, norm_topk_prob=False), 0.0, AUXILIARY,
        ),
        "v3": Arm(FamilyConfig(**_V3), BIAS_SPEED, SEQUENCE_LOSS),
        "no_nurse": Arm(FamilyConfig(**alone), BIAS_SPEED, SEQUENCE_LOSS),
        "coarse": Arm(FamilyConfig(**coarse), BIAS_SPEED, SEQUENCE_LOSS),
        "auxiliary": Arm(FamilyConfig(**_V3), 0.0, AUXILIARY),
        "nothing": Arm(FamilyConfig(**_V3)),
    }  # fmt: skip
    return arms[name]


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """How miniatures are trained, and when they are examined."""

    steps: int  # of each
    rows: int  # sequences of a step
    length: int  # tokens of a sequence
    marks: int  # times at which the held-out texts are read
    learning_rate: float = 3e-3

    def training(self, name: str) -> TrainSettings:
        """The optimiser's part for an arm."""
        how = arm(name)
        return TrainSettings(
            steps=self.steps, rows=self.rows, length=self.length, learning_rate=self.learning_rate,
            warmup=min(20, self.steps), bias_speed=how.bias_speed, balance_loss=how.balance_loss, mtp_loss=0.0,
        )  # fmt: skip

    @property
    def due(self) -> list[int]:
        """After which steps the held-out texts are read: often at first, when most changes."""
        return sorted({max(1, round(self.steps * (i / self.marks) ** 1.5)) for i in range(1, self.marks + 1)})


@dataclass(frozen=True, kw_only=True)
class Settings(Lessons):
    """Everything that decides what is learned, but for the seed."""

    arms: tuple[str, ...]
    documents: int  # held-out texts of every subject, language and source
    keep: bool = False  # whether the trained weights of STYLES are kept for the pages (seed KEPT_SEED only)


class Balance(NamedTuple):
    """How evenly the experts are called."""

    max_vio: float  # largest load over mean load - 1 (arXiv 2408.15664), mean over the layers; 0: all the same
    dead: int  # experts of all layers that nobody called


def balance(loads: torch.Tensor) -> Balance:
    """loads (layers, E): calls. A model without experts is balanced."""
    if not loads.numel():
        return Balance(0.0, 0)
    load = loads.double()
    return Balance(float((load.amax(1) / load.mean(1) - 1).mean()), int((load == 0).sum()))


@cache
def _texts(documents: int, length: int) -> list[list[int]]:
    """The held-out texts as ids."""
    return encode(Tokenizer.load(), heldout(documents), length)


def examine(model: Family, texts: Sequence[Sequence[int]]) -> dict[str, Any]:
    """What the held-out texts say: nats per token, MaxVio, experts that none of their tokens called."""
    with torch.no_grad():
        reading = read(model, texts)
    even = balance(reading.chosen.sum(0))
    return {"heldout": float(reading.scores.loss.mean()), "max_vio": even.max_vio, "dead": even.dead}


def _milliseconds(model: Family, ids: torch.Tensor) -> float:
    """CPU time of the fastest of several forward passes over ids (1, T), logits included.

    Runs recorded before this line was written hold wall time instead, taken on a machine that was busy with other
    things: it says nothing, and no page shows it.
    """
    best = float("inf")
    with torch.inference_mode():
        for _ in range(TIMED):
            start = time.thread_time()
            model.lm_head(model(ids)[0])
            best = min(best, time.thread_time() - start)
    return 1000 * best


def run(settings: Settings, seed: int) -> Iterator[Step]:
    """All arms side by side, a step of each in turn. A point is one reading of the held-out texts by one of them; an
    arm's last one also holds what it costs."""
    texts = _texts(settings.documents, settings.length)
    models = {name: Family(arm(name).config).initialise(seed) for name in settings.arms}
    train = {name: settings.training(name) for name in settings.arms}
    adams = {name: optimiser(model, train[name]) for name, model in models.items()}
    stream = TrainingRows(Tokenizer.load(), settings.length, seed, TrainSettings().own_share)
    spent = dict.fromkeys(settings.arms, 0.0)
    since: dict[str, list[dict[str, float]]] = {name: [] for name in settings.arms}
    done, tokens = 0, settings.rows * settings.length
    for step in range(1, settings.steps + 1):
        ids = stream.batch(step - 1, settings.rows)
        for name, model in models.items():
            start = time.process_time()
            row = take_step(model, adams[name], ids, train[name], step - 1)
            spent[name] += time.process_time() - start
            since[name].append(row)
            done, point = done + 1, None
            if step in settings.due:
                rows, since[name] = since[name], []
                point = {
                    "arm": name, "step": step, "tokens": step * tokens,
                    "loss": sum(r["loss"] for r in rows) / len(rows),
                    "max_vio_training": sum(r["max_vio"] for r in rows) / len(rows),
                    **examine(model, texts), "cpu_seconds": spent[name],
                }  # fmt: skip
            if point is not None and step == settings.steps:
                seen = walk(model, texts[0][:TEXT])
                point |= {"cache_bytes": seen.cache_bytes / len(texts[0][:TEXT]),
                          "milliseconds": _milliseconds(model, ids[:1, :TEXT])}  # fmt: skip
                if settings.keep and seed == KEPT_SEED and name in STYLES:
                    save(model, kept(name))
                    point["heldout_kept"] = examine(open_kept(name), texts)["heldout"]
            yield Step(done, settings.steps * len(models), tokens, row["loss"], point)


# -- trained weights that the pages use --------------------------------------------------------------------------------


def kept(name: str) -> Path:
    """Where the trained weights of a style lie."""
    return RECORDED / f"miniatures-{name}.safetensors"


def save(model: Family, path: Path) -> None:
    """Matrices in block-wise FP8 with their scales, as V3 stores its own; vectors and biases in fp32."""
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        if tensor.dim() < 2:
            tensors[name] = tensor.contiguous()
        else:
            tensors[name], tensors[f"{name}_scale_inv"] = (part.contiguous() for part in quantise(tensor))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"config": json.dumps(model.c.to_dict())})


def open_kept(name: str, path: Path | None = None) -> Family:
    """The trained miniature of a style. UserError where it cannot be read."""
    model = Family(arm(name).config)
    try:
        with safe_open(path or kept(name), "pt") as file:
            keys = set(file.keys())
            model.load_state_dict({
                key: dequantise(file.get_tensor(key), file.get_tensor(f"{key}_scale_inv"))
                if f"{key}_scale_inv" in keys else file.get_tensor(key)
                for key in keys if not key.endswith("_scale_inv")
            })  # fmt: skip
    except Exception as error:
        raise UserError(f"The trained miniature {name!r} cannot be read: {error}.", "lab_missing", name=name) from error
    return model.eval()


# -- what is concluded -------------------------------------------------------------------------------------------------


def leaders(values: Mapping[str, Sequence[float]]) -> list[str]:
    """Who may be called the lowest, best mean first: the one with the lowest mean, and everybody who cannot be told
    apart from it (`_spread.apart`: some seed of the one lies among the other's). One name is a winner; several are
    none."""
    mean = {name: sum(each) / len(each) for name, each in values.items()}
    order = sorted(mean, key=mean.__getitem__)
    return [name for name in order if name == order[0] or not apart(values[name], values[order[0]])]


def parameters(name: str) -> tuple[int, int]:
    """(all, active) of an arm; active with embedding and head."""
    a = arm(name).config.architecture
    return architectures.total(a), architectures.active(a)


EXPERIMENT = Experiment(
    "miniatures", run,
    live=Settings(arms=("dense", "v3"), steps=100, rows=16, length=64, documents=2, marks=10),
    recorded=Settings(arms=ARMS, steps=320, rows=16, length=64, documents=8, marks=10, keep=True),
    weights=lambda settings: sum(parameters(name)[0] for name in settings.arms),
    seeds=(0, 1, 2, 3),
    step_bytes=224 * 2**20,  # measured: 209 MB with two of 1,024 tokens and what they are examined on
)  # fmt: skip
