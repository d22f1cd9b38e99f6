"""Cramming: a dense and an MoE miniature learn a bank of questions by heart, and sit the exam in the bank and outside.

A question names a place, a vehicle, the weather and a driver; its answer is the fine for driving too fast there. There
is one rule behind all of them, which nobody tells the miniatures: each of the four has an amount of its own, and the
fine is their sum. Who has found the rule can answer what no bank held; who knows the bank by heart cannot. Rule and
amounts are made up.

The miniatures are equal but for their FFNs: 32 small experts of which 4 are chosen, beside a shared one, or one dense
FFN as wide as what a token passes through there (`baselines.dense_config`). They read the same questions in the same
order; banks of different sizes are crammed for the same number of tokens.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model.baselines import dense_config
from model.config import ModelConfig
from model.costs import parameters
from model.deepseek_v3 import DeepseekV3
from model.labs import Experiment, Step
from model.labs._spread import apart
from model.tokenizer import Tokenizer
from model.train import TrainSettings, optimiser, take_step

# Amounts. Every word of a column is as many tokens long as the others and every sum has two digits, so that all
# questions have one length.
PLACES = {
    "street": 4, "road": 2, "bridge": 9, "school": 24, "village": 7, "town": 5, "city": 6, "hill": 8, "market": 16,
    "station": 12, "park": 14, "forest": 3, "coast": 1, "hospital": 21, "farm": 10, "field": 11, "mountain": 13,
    "mine": 17, "port": 15,
}  # fmt: skip
VEHICLES = {"van": 8, "taxi": 7, "tractor": 19, "bicycle": 3, "tram": 22, "coach": 16, "cart": 5, "cab": 6}
WEATHER = {
    "dry": 1, "wet": 4, "gale": 9, "storm": 12, "hail": 14, "mist": 6, "fog": 18, "ice": 23, "thunder": 7, "mud": 5,
}  # fmt: skip
DRIVERS = {
    "expert": 20, "novice": 6, "student": 8, "visitor": 5, "farmer": 9, "baker": 10, "worker": 11, "singer": 13,
    "monk": 5, "beginner": 7,
}  # fmt: skip
COLUMNS = (PLACES, VEHICLES, WEATHER, DRIVERS)
ARMS = ("moe", "dense")
BANKS = (100, 800, 6400)  # different questions: few, as many as in the talk's driving test, and many
PAPER = 100  # questions of an exam, as in the talk
ANSWER = 2  # tokens: two digits


class Question(NamedTuple):
    """One question of the exam."""

    words: tuple[str, ...]  # place, vehicle, weather, driver
    answer: int

    @property
    def text(self) -> str:
        """As the miniatures read it, the answer included."""
        return " " + " ".join(self.words) + f":{self.answer}"


@cache
def questions() -> tuple[Question, ...]:
    """Every question that there is, in a fixed order."""
    return tuple(
        Question(words, sum(column[word] for column, word in zip(COLUMNS, words, strict=True)))
        for words in itertools.product(*COLUMNS)
    )


def commonest() -> float:
    """The score of whoever always writes the commonest answer."""
    answers = [question.answer for question in questions()]
    return max(map(answers.count, set(answers))) / len(answers)


@cache
def _vocabulary() -> tuple[dict[int, int], Tensor]:
    """The tokenizer's ids of the exam's tokens under small numbers of their own, and all questions in these:
    (questions, length). The rest of the vocabulary would only be dead weight."""
    rows = Tokenizer.load().encode_all([question.text for question in questions()])
    names = {id: at for at, id in enumerate(sorted({id for row in rows for id in row}))}
    return names, torch.tensor([[names[id] for id in row] for row in rows])


@dataclass(frozen=True)
class CrammingSettings:
    """Everything that decides what is learned, but for the seed."""

    questions: tuple[int, ...] = (800,)  # different ones in the bank; a pair of miniatures for each
    steps: int = 280  # of each miniature
    rows: int = 64  # questions of a step
    papers: int = 5  # of PAPER questions each, drawn from the bank, and as many new ones
    marks: int = 10  # measurements
    learning_rate: float = 3e-3
    layers: int = 3
    heads: int = 4

    def config(self, arm: str) -> ModelConfig:
        """The miniature's shape."""
        moe = ModelConfig.preset("clinic").with_(
            vocab_size=len(_vocabulary()[0]), num_hidden_layers=self.layers, num_attention_heads=self.heads,
            num_nextn_predict_layers=0, max_position_embeddings=64,
        )  # fmt: skip
        dense = dense_config(moe)
        return dense if arm == "dense" else moe.with_(intermediate_size=dense.intermediate_size)

    @property
    def training(self) -> TrainSettings:
        """The optimiser's part."""
        length = _vocabulary()[1].shape[1]
        return TrainSettings(steps=self.steps, rows=self.rows, length=length, learning_rate=self.learning_rate,
                             warmup=min(50, self.steps // 5), mtp_loss=0.0)  # fmt: skip

    def marked(self, step: int) -> bool:
        """Whether an exam is sat after `step` steps."""
        return step in {round(self.steps * i / self.marks) for i in range(1, self.marks + 1)}


class Exam(NamedTuple):
    """What is crammed and what is asked: numbers of `questions()`."""

    bank: Tensor
    drawn: Tensor  # from the bank
    new: Tensor  # in no bank


def exam(settings: CrammingSettings, size: int, seed: int) -> Exam:
    """The bank of `size` questions and the papers. The new questions of a seed are the same for every bank, and a
    smaller bank is part of a larger one."""
    order = list(range(len(questions())))
    random.Random(f"{seed}/bank").shuffle(order)
    asked = settings.papers * PAPER
    if asked + size > len(order):
        raise ValueError(f"{size} questions and {asked} new ones are more than there are")
    new, bank = order[:asked], order[asked : asked + size]
    drawn = random.Random(f"{seed}/paper").sample(bank, min(asked, size))
    return Exam(torch.tensor(bank), torch.tensor(drawn), torch.tensor(new))


class Mark(NamedTuple):
    """How an exam went."""

    score: float  # part of the questions whose answer is right to the last digit
    loss: float  # nats that the right answer costs


@torch.inference_mode()
def mark(model: DeepseekV3, asked: Tensor) -> Mark:
    """Let `model` answer the questions with the numbers `asked`: the likeliest token at every place of the answer.
    That is what greedy writing gives wherever it is right: up to its first mistake it has read the same."""
    rows = _vocabulary()[1][asked]
    states, _, _ = model(rows[:, :-1])
    logits = model.lm_head(states[:, -ANSWER:])
    right = rows[:, -ANSWER:]
    loss = logits.logsumexp(-1) - logits.gather(-1, right[..., None])[..., 0]
    score = (logits.argmax(-1) == right).all(1).double().mean()
    return Mark(float(score), float(loss.sum(1).mean()))


def reading(bank: Tensor, rows: int, seed: int) -> Iterator[Tensor]:
    """Batches of the bank's questions without end: all of it in a new order, again and again."""
    generator = torch.Generator().manual_seed(seed)
    left = bank[:0]
    while True:
        while len(left) < rows:
            left = torch.cat([left, bank[torch.randperm(len(bank), generator=generator)]])
        yield left[:rows]
        left = left[rows:]


def run(settings: CrammingSettings, seed: int) -> Iterator[Step]:
    """Both miniatures side by side, one bank after the other. A point is one exam of one of them."""
    training, ids = settings.training, _vocabulary()[1]
    done, total = 0, settings.steps * len(ARMS) * len(settings.questions)
    for size in settings.questions:
        papers = exam(settings, size, seed)
        models = {arm: DeepseekV3(settings.config(arm)).initialise(seed) for arm in ARMS}
        optimisers = {arm: optimiser(model, training) for arm, model in models.items()}
        batches = reading(papers.bank, settings.rows, seed)
        for step in range(settings.steps):
            batch = ids[next(batches)]
            for arm, model in models.items():
                row = take_step(model, optimisers[arm], batch, training, step)
                done += 1
                point: dict[str, Any] | None = None
                if settings.marked(step + 1):
                    bank, new = mark(model, papers.drawn), mark(model, papers.new)
                    point = {"questions": size, "arm": arm, "step": step + 1, "bank": bank.score, "new": new.score,
                             "bank_loss": bank.loss, "new_loss": new.loss}  # fmt: skip
                yield Step(done, total, batch.numel(), row["loss"], point)


# -- what was found ---------------------------------------------------------------------------------------------------


def curve(points: Sequence[Mapping[str, Any]], size: int, arm: str) -> list[Mapping[str, Any]]:
    """One miniature's exams on one bank, in the order of the steps."""
    return [point for point in points if point["questions"] == size and point["arm"] == arm]


def ends(runs: Sequence[Mapping[str, Any]], size: int, arm: str, what: str) -> list[float]:
    """How the last exam of every recorded run went: `what` is bank, new, bank_loss, new_loss, or gap (bank - new)."""
    last = [curve(run["points"], size, arm)[-1] for run in runs]
    return [one["bank"] - one["new"] if what == "gap" else one[what] for one in last]


def verdict(runs: Sequence[Mapping[str, Any]], size: int, what: str) -> str:
    """Who has more of `what` at the end in every run: "moe", "dense", or "none" where the runs overlap."""
    moe, dense = (ends(runs, size, arm, what) for arm in ARMS)
    return {1: "moe", -1: "dense", 0: "none"}[apart(moe, dense)]


def weights(settings: CrammingSettings) -> int:
    """Parameters in training at the same time."""
    return sum(parameters(settings.config(arm)).main for arm in ARMS)


EXPERIMENT = Experiment(
    "cramming", run, live=CrammingSettings(), recorded=CrammingSettings(BANKS, steps=500), weights=weights
)
