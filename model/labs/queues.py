"""Queues: who is overrun and who starves, with the crowding board, with an auxiliary loss, and with neither.

Several small models, the arms, start from the same numbers and learn from the same rows, and differ only in how the
load of their routed experts is kept even:

- "bias": V3's own way. After each step the selection bias of every expert moves by `strength` towards fewer choices
  where it was chosen more often than the mean, and towards more where less (arXiv 2408.15664; 2412.19437 Eq. 16).
- "loss": the sequence-wise balance loss with the weight `strength` (2412.19437 Eq. 17-20), and no bias.
- "none": neither.
- "wrong": the board hangs the wrong way round: who was chosen more often is offered more. It shows what a collapse is,
  and that it is the sign of the nudge that holds it off.

What is measured on held-out texts is measured in the middle department's router and on the next-token loss.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from model.config import ModelConfig
from model.corpus import SUBJECTS, Document, heldout, mixture
from model.data import token_rows
from model.deepseek_v3 import DeepseekV3
from model.errors import UserError
from model.kernels import linear_cross_entropy
from model.labs import Experiment, Step
from model.tokenizer import Tokenizer
from model.train import TrainSettings, nudge_biases, optimiser, take_step

KINDS = ("bias", "loss", "none", "wrong")
CONFIG = ModelConfig.preset("clinic").with_(num_nextn_predict_layers=0)
"""Four floors, of which three are departments with 32 interns each, four called; no MTP module."""
RARE = "animals"
"""The subject that is made rare; the corpus gives it about 3 % of the tokens."""
SPEEDS = (0.001, 0.003, 0.01, 0.03, 0.1)
"""Of the bias, to choose from. V3's own is the first (arXiv 2412.19437, section 4.2)."""
WEIGHTS = (0.0001, 0.001, 0.01, 0.1)
"""Of the balance loss, to choose from. V3's own is the first (the same section)."""
STEPS = (20, 50, 100, 200, 400)
"""Of a live run, to choose from; whether it fits into the time for it shows after the first ones."""
CHUNK_ROWS = 512  # that are made of texts at a time


class Arm(NamedTuple):
    """One of the models that are trained side by side."""

    kind: Literal["bias", "loss", "none", "wrong"]
    strength: float = 0.0  # speed of the bias per step, or weight of the loss


@dataclass(frozen=True)
class Settings:
    """What decides a run."""

    arms: tuple[Arm, ...] = (Arm("bias", 0.01), Arm("loss", 0.01), Arm("none"))
    rare: float | None = 0.01  # share of the tokens that are about RARE; None: as the corpus has it
    steps: int = 100
    rows: int = 8
    length: int = 64
    learning_rate: float = 5e-3
    every: int = 4  # steps between two points
    heldout_every: int = 50  # steps between two measurements on held-out texts
    heldout_documents: int = 12  # per subject and language
    heldout_rows: int = 64  # most that are measured of the other subjects

    def __post_init__(self) -> None:
        if not self.arms or any(arm.kind not in KINDS for arm in self.arms):
            raise UserError(f"Name at least one arm, each of the kinds {', '.join(KINDS)}.")
        if self.rare is not None and not 0 < self.rare < 1:
            raise UserError(f"The rare subject's share must be between 0 and 1, not {self.rare}.")


class Published(NamedTuple):
    """Validation losses that the V3 report prints (arXiv 2412.19437, section 4.5.3)."""

    size: str
    loss: float  # sequence-wise auxiliary loss
    bias: float  # auxiliary-loss-free
    batch: float  # batch-wise auxiliary loss


PUBLISHED = (Published("1B", 2.258, 2.253, 2.253), Published("3B", 2.085, 2.080, 2.080))


# -- texts -------------------------------------------------------------------------------------------------------------


def documents(seed: int, rare: float | None) -> Iterator[Document]:
    """The training mixture; with `rare`, RARE's texts are that share of the text (of its bytes)."""
    source = mixture(seed)
    if rare is None:
        yield from source
        return
    dice, kept, missing = random.Random(seed), [], 0.0
    for doc in source:
        if doc.subject == RARE:
            kept.append(doc)
            continue
        missing += len(doc.text.encode()) * rare / (1 - rare)
        yield doc
        if kept and missing > 0:
            again = kept[int(dice.random() * len(kept))]
            missing -= len(again.text.encode())
            yield again


@lru_cache(maxsize=8)
def _chunk(seed: int, index: int, rare: float | None, length: int, rows: int) -> Tensor:
    chunk_seed = random.Random(f"{seed}/{index}").randrange(2**31)
    return torch.from_numpy(token_rows(Tokenizer.load(), documents(chunk_seed, rare), rows, length).astype("int64"))


def batch(s: Settings, seed: int, step: int) -> Tensor:
    """Rows of a step, (rows, length): the same for every arm."""
    per = max(CHUNK_ROWS // s.rows, 1)
    return _chunk(seed, step // per, s.rare, s.length, per * s.rows)[step % per * s.rows :][: s.rows]


@lru_cache(maxsize=4)
def unseen(length: int, count: int, most: int) -> tuple[Tensor, Tensor]:
    """Held-out rows (rows, length) about RARE, and about the other subjects (at most `most`, of every one some). No
    text of them is ever trained on."""
    found = heldout(count)
    rest = _packed([d for d in found if d.subject != RARE and d.subject in SUBJECTS], length)
    return _packed([d for d in found if d.subject == RARE], length), rest[:: -(-len(rest) // most)]


def _packed(several: Sequence[Document], length: int) -> Tensor:
    """As many whole rows as the texts fill."""
    tokens = sum(len(ids) for ids in Tokenizer.load().encode_all([d.text for d in several]))
    rows = max(tokens // length, 1)
    return torch.from_numpy(token_rows(Tokenizer.load(), _over(several), rows, length).astype("int64"))


def _over(several: Sequence[Document]) -> Iterator[Document]:
    while True:
        yield from several


# -- what is measured --------------------------------------------------------------------------------------------------


class Heldout(NamedTuple):
    """One pass over held-out rows."""

    loss: float  # nats per token
    load: list[float]  # share of the choices that each intern of the middle department got


@torch.no_grad()
def measure(model: DeepseekV3, ids: Tensor) -> Heldout:
    """Loss on ids (rows, length), and whom the middle department's router chose."""
    states, _, routings = model(ids)
    d = states.shape[-1]
    loss = linear_cross_entropy(states[:, :-1].reshape(-1, d), model.lm_head.weight, ids[:, 1:].reshape(-1))
    chosen = routings[middle(model.c)].chosen
    counts = torch.bincount(chosen.reshape(-1), minlength=model.c.n_routed_experts)
    return Heldout(float(loss), (counts / counts.sum()).tolist())


def middle(c: ModelConfig) -> int:
    """The department whose load is drawn, from 0."""
    return c.num_moe_layers // 2


# -- the run -----------------------------------------------------------------------------------------------------------


class _Trainee:
    """One arm: its model, its optimiser, and the loads of its last step."""

    def __init__(self, arm: Arm, s: Settings, seed: int) -> None:
        self.arm, self.model = arm, DeepseekV3(CONFIG).initialise(seed)
        self.train = TrainSettings(
            steps=s.steps, rows=s.rows, length=s.length, learning_rate=s.learning_rate, warmup=s.steps // 10,
            bias_speed=arm.strength if arm.kind == "bias" else 0.0, bias_freeze=0.0, mtp_loss=0.0,
            balance_loss=arm.strength if arm.kind == "loss" else 0.0,
        )  # fmt: skip
        self.optimiser = optimiser(self.model, self.train)
        self.loads = torch.zeros(0)

    def step(self, ids: Tensor, number: int) -> dict[str, float]:
        def keep(loads: Tensor, numbers: Tensor) -> None:
            self.loads = loads

        row = take_step(self.model, self.optimiser, ids, self.train, number, share=keep)
        if self.arm.kind == "wrong":
            nudge_biases(self.model, self.loads, -self.arm.strength)
        return row

    def row(self, row: dict[str, float]) -> dict[str, Any]:
        return {
            "loss": row["loss"], "max_vio": row["max_vio"], "dead": row["dead_experts"],
            "load": self.loads[middle(self.model.c)].tolist(),
        }  # fmt: skip

    def heldout(self, s: Settings) -> dict[str, Any]:
        rare, rest = (measure(self.model, ids) for ids in unseen(s.length, s.heldout_documents, s.heldout_rows))
        return {"rare": rare._asdict(), "rest": rest._asdict()}


def run(s: Settings, seed: int) -> Iterator[Step]:
    """Train every arm on the same rows, side by side.

    A point every few steps: of each arm, in the settings' order, the loss on the rows, MaxVio (mean of the
    departments), interns without a patient (in all departments), and the load of the middle department; now and then
    what it makes of held-out texts.
    """
    trainees = [_Trainee(arm, s, seed) for arm in s.arms]
    for number in range(s.steps):
        ids = batch(s, seed, number)
        rows = [one.step(ids, number) for one in trainees]
        done, point = number + 1, None
        last = done == s.steps
        if number == 0 or done % s.every == 0 or last:
            arms = [one.row(row) for one, row in zip(trainees, rows, strict=True)]
            if done % s.heldout_every == 0 or last:
                arms = [kept | one.heldout(s) for one, kept in zip(trainees, arms, strict=True)]
            point = {"step": done, "arms": arms}
        yield Step(done, s.steps, ids.numel() * len(trainees), sum(row["loss"] for row in rows) / len(rows), point)


def weights(s: Settings) -> int:
    """Parameters of all arms."""
    with torch.device("meta"):
        return len(s.arms) * sum(p.numel() for p in DeepseekV3(CONFIG).parameters())


RECORDED = Settings(
    arms=(Arm("bias", 0.01), Arm("loss", 0.01), Arm("loss", 0.1), Arm("none"), Arm("wrong", 0.01)),
    steps=300, rows=12, every=10, heldout_every=150, heldout_documents=24, heldout_rows=192,
)  # fmt: skip
EXPERIMENT = Experiment("queues", run, live=Settings(), recorded=RECORDED, weights=weights)
