"""The timetable: does somebody have to hand every intern a question bank of its own?

One model learns from one stream of texts. Every held-out text says what its subject is, which training never sees; so
it can be counted which intern gets whose visits, from the untrained gate on. Two questions are asked of the counts:
how much the intern tells about the subject (normalised mutual information against shuffled labels), and whether it is
the subject that decides or rather the word: how many of a token's interns one guesses right who is told only the
subject, only the word, or both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.config import ModelConfig
from model.corpus import SUBJECTS, Document, heldout
from model.costs import parameters
from model.data import TrainingRows
from model.deepseek_v3 import DeepseekV3, MoE
from model.evaluate import batches, encode, entropy, normalised_mutual_information, taste
from model.labs import Experiment, Step
from model.tokenizer import Tokenizer
from model.train import TrainSettings, optimiser, take_step

TOLD = ("nothing", "language", "subject", "word", "both")  # what the guesser knows of a token
SHUFFLES = 5  # of the labels, for what chance alone gives


@dataclass(frozen=True)
class Settings:
    """One run. Its shape is the clinic's, without the MTP module."""

    steps: int
    rows: int  # sequences of one step
    length: int  # tokens of a sequence
    documents: int  # held-out texts per subject and language, on which routing is counted
    points: int  # times at which it is counted, the untrained model included
    learning_rate: float = 3e-3
    bias_speed: float = 0.01

    @property
    def batch(self) -> int:
        """Tokens of one step."""
        return self.rows * self.length

    @property
    def tokens(self) -> int:
        """Of the whole run."""
        return self.steps * self.batch

    @property
    def config(self) -> ModelConfig:
        return ModelConfig.preset("clinic").with_(num_nextn_predict_layers=0)

    @property
    def training(self) -> TrainSettings:
        """Only the project's own texts: theirs are the subjects that are asked for."""
        return TrainSettings(
            steps=self.steps, rows=self.rows, length=self.length, learning_rate=self.learning_rate,
            warmup=min(20, self.steps), bias_speed=self.bias_speed, mtp_loss=0.0, own_share=1.0,
        )  # fmt: skip


class Visits(NamedTuple):
    """Who went where: N tokens of held-out texts in M MoE layers, k interns each."""

    word: np.ndarray  # (N,) id of the token
    document: np.ndarray  # (N,) number of its text
    chosen: np.ndarray  # (N, M, k) interns


def texts_and_labels(settings: Settings, tokenizer: Tokenizer) -> tuple[list[list[int]], list[Document]]:
    """The held-out texts as ids, and their labels."""
    documents = [d for d in heldout(settings.documents) if d.source == "own"]
    return encode(tokenizer, documents, settings.length), documents


@torch.no_grad()
def observe(model: DeepseekV3, texts: Sequence[Sequence[int]]) -> Visits:
    """Every token that is read, as in `evaluate.read`, but token by token. Padding is counted nowhere."""
    words, documents, chosen = [], [], []
    for numbers in batches(texts):
        rows = torch.nn.utils.rnn.pad_sequence([torch.tensor(texts[i][:-1]) for i in numbers], True)
        lengths = torch.tensor([len(texts[i]) - 1 for i in numbers])
        inside = torch.arange(rows.shape[1])[None] < lengths[:, None]  # (B, T)
        routings = model(rows)[2]
        words.append(rows[inside])
        documents.append(torch.tensor(numbers)[:, None].expand(rows.shape)[inside])
        chosen.append(torch.stack([r.chosen[inside.flatten()] for r in routings], 1))
    return Visits(*(torch.cat(parts).numpy() for parts in (words, documents, chosen)))


def counts(label: np.ndarray, chosen: np.ndarray, labels: int, experts: int) -> np.ndarray:
    """(M, labels, E): how often tokens of each label (N,) called each intern, from chosen (N, M, k)."""
    layers = chosen.shape[1]
    place = (np.arange(layers)[:, None] * labels + label[:, None, None]) * experts + chosen
    return np.bincount(place.ravel(), minlength=layers * labels * experts).reshape(layers, labels, experts)


def guessed(label: np.ndarray, chosen: np.ndarray, fit: np.ndarray, usual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of a token's k interns one guesses right who knows its label.

    The guess is the k interns that tokens of that label called most often in the texts of `fit` (N,) bool, and it is
    judged on the other texts, so that a label with many values wins nothing by chance. Where the label was not seen,
    and between equals, `usual` (N, M, E) decides: what would be expected without it.
    Returns the share that is right per layer (M,), and what is expected with it (N, M, E).
    """
    k, experts = chosen.shape[2], usual.shape[2]
    names, label = np.unique(label, return_inverse=True)
    seen = counts(label[fit], chosen[fit], len(names), experts).transpose(1, 0, 2)[label]  # (N, M, E)
    expected = (seen + usual) / (seen + usual).sum(-1, keepdims=True)
    best = np.argpartition(-expected, k - 1, -1)[..., :k]
    right = (best[..., :, None] == chosen[..., None, :]).any(-1).mean(-1)  # (N, M)
    return right[~fit].mean(0), expected


def measure(visits: Visits, documents: Sequence[Document], experts: int) -> dict[str, Any]:
    """What a point of the curves holds, per MoE layer: the visits of every subject, how much of them is no chance, and
    what the guessers know."""
    subject = np.array([SUBJECTS.index(d.subject) for d in documents])
    language = np.array([d.language == "zh" for d in documents]).astype(int)
    by_document = torch.from_numpy(
        counts(visits.document, visits.chosen, len(documents), experts).transpose(1, 0, 2).copy()
    )
    by_subject = taste(by_document, [d.subject for d in documents], SHUFFLES)
    words, word = np.unique(visits.word, return_inverse=True)
    rng = np.random.default_rng(0)
    by_word, *by_lot = (
        normalised_mutual_information(counts(order, visits.chosen, len(words), experts).astype(float))
        for order in (word, *(rng.permutation(word) for _ in range(SHUFFLES)))
    )
    fit = visits.document % 2 == 0  # every other text of each subject and language
    none = np.zeros_like(visits.word)
    even = np.full((len(none), visits.chosen.shape[1], experts), 1 / experts)
    right, expected = {}, {"": even}
    labels = {
        "nothing": (none, ""), "language": (language[visits.document], "nothing"),
        "subject": (subject[visits.document], "nothing"), "word": (word, "nothing"),
        "both": (word * len(SUBJECTS) + subject[visits.document], "word"),
    }  # fmt: skip
    for name, (label, before) in labels.items():
        right[name], expected[name] = guessed(label, visits.chosen, fit, expected[before])
    return {
        "visits": counts(subject[visits.document], visits.chosen, len(SUBJECTS), experts).tolist(),
        "nmi_subject": by_subject["nmi_per_layer"],
        "nmi_subject_chance": by_subject["shuffled_mean_per_layer"],
        "nmi_word": by_word.tolist(),
        "nmi_word_chance": np.mean(by_lot, 0).tolist(),
        "right": {name: right[name].tolist() for name in TOLD},
    }


def spread(visits: np.ndarray) -> np.ndarray:
    """How many interns a subject's visits (..., E) are spread over: the exponential of their entropy. E if all get the
    same; never below k, since a token calls k different ones."""
    return np.exp(entropy(visits, -1))


def largest(visits: np.ndarray) -> np.ndarray:
    """(..., E): the part of an intern's visits (..., S, E) that its commonest subject makes up. NaN: nobody came."""
    whole = visits.sum(-2)
    return np.where(whole > 0, visits.max(-2) / np.maximum(whole, 1), np.nan)


def received(model: DeepseekV3) -> Tensor:
    """(M, E) bool: which interns the step just taken has given a gradient that is not zero."""
    rows = []
    for layer in model.layers:
        if isinstance(layer.mlp, MoE):
            gradient = layer.mlp.experts.down.grad
            assert gradient is not None
            rows.append((gradient[: model.c.n_routed_experts] != 0).flatten(1).any(1))
    return torch.stack(rows)


def due(settings: Settings) -> list[int]:
    """After which steps routing is counted: often at first, when most changes."""
    last = settings.points - 1
    return sorted({round(settings.steps * (i / last) ** 1.5) for i in range(settings.points)})


def run(settings: Settings, seed: int) -> Iterator[Step]:
    """Train on one stream and count, now and then, who goes where. The first point is of the untrained model."""
    tokenizer, training, c = Tokenizer.load(), settings.training, settings.config
    texts, documents = texts_and_labels(settings, tokenizer)
    model = DeepseekV3(c).initialise(seed)
    adam = optimiser(model, training)
    stream = TrainingRows(tokenizer, settings.length, seed, training.own_share)
    times = due(settings)

    def point(step: int, loss: float | None, got: list[Tensor]) -> dict[str, Any]:
        number = [int(one.sum()) for one in got]
        return {
            "step": step, "tokens": step * settings.batch, "loss": loss,
            "trained_least": min(number, default=None), "trained_mean": sum(number) / len(number) if number else None,
            "trained_all": int(torch.stack(got).any(0).sum()) if number else None,
            **measure(observe(model, texts), documents, c.n_routed_experts),
        }  # fmt: skip

    before, got = point(0, None, []), []
    for step in range(1, settings.steps + 1):
        row = take_step(model, adam, stream.batch(step - 1, settings.rows), training, step - 1)
        got.append(received(model))
        now = before if step == 1 else None
        if step in times and step > 1:
            now, got = point(step, row["loss"], got), []
        yield Step(step, settings.steps, settings.batch, row["loss"], now)


EXPERIMENT = Experiment(
    "timetable", run,
    live=Settings(steps=100, rows=24, length=64, documents=4, points=8),
    recorded=Settings(steps=400, rows=32, length=64, documents=15, points=10),
    weights=lambda settings: parameters(settings.config).main,
    step_bytes=192 * 2**20,  # measured: 179 MB with its 1,536 tokens
)  # fmt: skip
