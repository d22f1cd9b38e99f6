"""Rounding: how coarse the beds of the interns may be, watched while a small hospital learns.

One small model is trained, its weights unrounded from the first step to the last. Now and then it is copied, the
numbers of the copy's routed experts are stored in fewer bits, as the lab `beds` does with the shipped model, and all
copies read the same held-out texts as the model itself. What a format costs is how much more loss its copy has.
Nothing of that flows back: this is rounding what was learned, not learning with rounded numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

from model.config import ModelConfig
from model.corpus import heldout
from model.costs import parameters
from model.data import TrainingRows, token_rows
from model.deepseek_v3 import DeepseekV3
from model.errors import UserError
from model.kernels import linear_cross_entropy
from model.labs import Experiment, Step
from model.storage import FORMATS, NO_ERROR, fp8_round, round_layer
from model.tokenizer import Tokenizer
from model.train import TrainSettings, optimiser, take_step

CONFIG = ModelConfig.preset("clinic").with_(num_nextn_predict_layers=0)
"""Four floors, of which three are departments with 32 interns each, four called; no MTP module."""
ROUNDERS: dict[str, Callable[[Tensor], Tensor]] = {
    "fp8": fp8_round, **{name: FORMATS[name].round for name in ("int4", "int3", "int2")}
}  # fmt: skip
"""Finest first: block-wise FP8 as V3 has it, then whole numbers with a scale for every few of them."""
STEPS = (20, 50, 100, 200, 400)
"""Of a live run, to choose from; whether it fits into the time for it shows after the first ones."""

BATCH = 32  # held-out rows that are read at a time
FIRST = 5  # step after which is measured for the first time, the untrained model aside


@dataclass(frozen=True)
class Settings:
    """What decides a run, but for the seed."""

    steps: int = 100
    rows: int = 16
    length: int = 64
    documents: int = 12  # held-out texts of every subject, language and source
    heldout_rows: int = 48  # most rows that are made of them
    marks: int = 10  # times at which they are read, the untrained model aside
    learning_rate: float = 5e-3

    def __post_init__(self) -> None:
        if min(self.steps, self.rows, self.documents, self.heldout_rows, self.marks) < 1 or self.length < 2:
            raise UserError("Every size of the run must be at least 1, and a row at least 2 tokens long.")

    @property
    def training(self) -> TrainSettings:
        """The optimiser's part: the crowding board is on, as in V3."""
        return TrainSettings(
            steps=self.steps, rows=self.rows, length=self.length, learning_rate=self.learning_rate,
            warmup=min(20, self.steps), bias_speed=0.01, mtp_loss=0.0,
        )  # fmt: skip

    @property
    def due(self) -> list[int]:
        """After which steps the held-out texts are read: often at first, when most changes, but not among the few steps
        from which it is told how long a run will take."""
        marks = (round(self.steps * (i / self.marks) ** 1.5) for i in range(1, self.marks + 1))
        return sorted({min(self.steps, max(FIRST, mark)) for mark in marks})


@cache
def unseen(length: int, documents: int, most: int) -> Tensor:
    """Rows (N, length) of held-out texts, at most `most` of them and of all subjects. No text of them is ever trained
    on."""
    texts = heldout(documents)
    rows = sum(len(ids) for ids in Tokenizer.load().encode_all([d.text for d in texts])) // length
    ids = torch.from_numpy(token_rows(Tokenizer.load(), cycle(texts), max(rows, 1), length).astype("int64"))
    return ids[:: -(-len(ids) // most)]


@torch.no_grad()
def loss(model: DeepseekV3, ids: Tensor) -> float:
    """Nats per token of rows of ids, whose first token is only read."""
    total, head = 0.0, model.lm_head.weight
    for rows in ids.split(BATCH):
        states = model(rows)[0][:, :-1]
        total += float(linear_cross_entropy(states.flatten(0, 1), head, rows[:, 1:].flatten())) * len(rows)
    return total / len(ids)


def rounded(model: DeepseekV3, name: str) -> tuple[DeepseekV3, float]:
    """A copy whose routed experts are stored in that format, and the length of what was lost over that of what was
    there. `model` is not touched."""
    other, error = copy.deepcopy(model), NO_ERROR
    for layer in other.layers:
        error = error.plus(round_layer(layer, ROUNDERS[name], "interns"))
    return other, error.relative


def measure(model: DeepseekV3, ids: Tensor) -> dict[str, Any]:
    """Loss as it is and in every format, and what rounding lost of the weights."""
    found: dict[str, Any] = {"plain": loss(model, ids), "rounded": {}, "error": {}}
    for name in ROUNDERS:
        other, found["error"][name] = rounded(model, name)
        found["rounded"][name] = loss(other, ids)
    return found


def run(settings: Settings, seed: int) -> Iterator[Step]:
    """Train and measure. The first point is of the untrained model."""
    training, texts = settings.training, unseen(settings.length, settings.documents, settings.heldout_rows)
    model = DeepseekV3(CONFIG).initialise(seed)
    adam = optimiser(model, training)
    stream = TrainingRows(Tokenizer.load(), settings.length, seed, training.own_share)
    tokens = settings.rows * settings.length
    before = {"step": 0, **measure(model, texts)}
    for step in range(1, settings.steps + 1):
        row = take_step(model, adam, stream.batch(step - 1, settings.rows), training, step - 1)
        point = before if step == 1 else None
        if step in settings.due and step > 1:
            point = {"step": step, **measure(model, texts)}
        yield Step(step, settings.steps, tokens, row["loss"], point)


EXPERIMENT = Experiment(
    "rounding", run, live=Settings(steps=200), recorded=Settings(steps=400, documents=24, heldout_rows=128),
    weights=lambda settings: parameters(CONFIG).main, seeds=(0, 1, 2, 3),
    step_bytes=224 * 2**20,  # measured: 205 MB with its 1,024 tokens and 3,072 held-out ones
)  # fmt: skip
