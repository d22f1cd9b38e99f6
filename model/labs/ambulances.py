"""What crosses between buildings: counted over held-out texts, and timed with processes that really send it.

Nothing is learned here; a step is a batch of texts that is counted, a total, or a group of processes that is timed, and
the loss of every step is 0. The hospital as shipped is what runs. A seed is another sample of held-out texts.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from model import checkpoint, crossings, parallel
from model.config import ModelConfig
from model.corpus import Document, heldout
from model.deepseek_v3 import DeepseekV3
from model.evaluate import batches, encode
from model.labs import Experiment, Step
from model.live import SHIPPED
from model.study import floors
from model.tokenizer import Tokenizer

FIRST_SEED = 58  # of `heldout`: seed 0 here is its usual sample


@dataclass(frozen=True)
class Settings:
    """`documents` held-out texts per subject and language are counted, `batch` tokens at a time; then `sentences` texts
    of every length are walked by groups of processes, `rounds` times each."""

    documents: int = 10
    batch: int = 1024
    buildings: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    lengths: tuple[int, ...] = (16, 64, 240)
    sentences: int = 4
    groups: tuple[int, ...] = (1, 2, 4)
    rounds: int = 5


@torch.inference_mode()
def choices(model: DeepseekV3, texts: Sequence[Sequence[int]], numbers: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Whom the tokens of some texts called (M, N, k), whom they would have called without the limit on groups, and the
    number of each token's text (N,)."""
    lengths = torch.tensor([len(texts[i]) for i in numbers])
    rows = torch.nn.utils.rnn.pad_sequence([torch.tensor(texts[i]) for i in numbers], True)
    real = (torch.arange(rows.shape[1])[None] < lengths[:, None]).flatten()
    called, free = [], []
    for _, routing in floors(model, rows):
        if routing is not None:
            called.append(routing.chosen[real])
            free.append(crossings.without_limit(routing.choice_scores[real], model.c.num_experts_per_tok))
    return torch.stack(called), torch.stack(free), torch.tensor(numbers).repeat_interleave(lengths)


def company(encode: Callable[[str], list[int]], seed: int, count: int, longest: int) -> list[list[int]]:
    """The ids of so many held-out texts, none longer than `longest`: what a run of the page sends along with the
    visitor's own sentence. A seed always names the same ones."""
    texts = [document.text for document in _heldout()]
    random.Random(seed).shuffle(texts)
    return list(islice((ids for ids in map(encode, texts) if len(ids) <= longest), count))


@cache
def _heldout() -> list[Document]:
    return heldout(1)


class Tally:
    """Counts over all batches, for one number of buildings, with or without the rule."""

    def __init__(self, c: ModelConfig, buildings: int, rule: bool) -> None:
        self.c, self.buildings, self.rule, self.tokens = c, buildings, rule, 0
        self.most = min(buildings, c.num_experts_per_tok)  # buildings that a token can visit on a floor
        self.visited = torch.zeros(self.most + 1, dtype=torch.int64)
        self.parties = torch.zeros(c.num_experts_per_tok + 1, dtype=torch.int64)
        self.crossed = torch.zeros(c.num_moe_layers, dtype=torch.int64)

    def add(self, chosen: Tensor, text: Tensor) -> dict[str, Any]:
        """chosen (M, N, k) of tokens of texts (N,); a text is at home in the building of its number. What was added."""
        called = crossings.calls(chosen, self.c.n_routed_experts, self.buildings)
        visited = crossings.spread(called)[: self.most + 1]
        crossed = crossings.crossings(called, text % self.buildings).sum(-1)
        self.tokens += len(text)
        self.visited += visited
        self.crossed += crossed
        self.parties += crossings.parties(called, self.c.num_experts_per_tok)
        return {"visited": visited.tolist(), "crossed": int(crossed.sum())}

    def point(self) -> dict[str, Any]:
        """`visited`: how often a token visited 0, 1, ... buildings of a floor. `parties`: how often it called 0, 1, ...
        interns in one. `crossed`: tokens times other buildings, floor by floor."""
        return {
            "what": "crossings", "buildings": self.buildings, "rule": self.rule, "tokens": self.tokens,
            "visited": self.visited.tolist(), "parties": self.parties.tolist(), "crossed": self.crossed.tolist(),
        }  # fmt: skip


def timed(texts: Sequence[Sequence[int]], settings: Settings, length: int) -> list[dict[str, Any]]:
    """A point for every group of processes, all with the same `sentences` texts of `length` tokens."""
    flat = [id for text in texts for id in text]
    sentences = [flat[i * length : (i + 1) * length] for i in range(settings.sentences)]
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # what else ran on this machine before
    runs = parallel.run(sentences, settings.groups, rounds=settings.rounds, seconds=10 * parallel.SECONDS)
    points = []
    for run in runs:
        size = len(run.parts)

        def mean(what: str, run: parallel.Run = run, size: int = size) -> float:
            return sum(getattr(part, what) for part in run.parts) / size

        points.append({
            "what": "time", "length": length, "processes": size, "seconds": run.seconds, "low": run.low,
            "high": run.high, "computing": mean("computing"), "packing": mean("packing"), "sending": mean("sending"),
            "crossed": run.crossed, "sent": run.sent, "weights": mean("weights"), "peak": mean("peak"),
            "fair": mean("fair"), "gap": parallel.largest_gap(run, runs[0]),
            "called_others": parallel.other_calls(run, runs[0]), "load": busy,
        })  # fmt: skip
    return points


def run(settings: Settings, seed: int) -> Iterator[Step]:
    """Count, then time."""
    model = checkpoint.load(SHIPPED)
    documents = heldout(settings.documents, FIRST_SEED + seed)
    texts = encode(Tokenizer.load(), documents, model.c.max_position_embeddings)
    tallies = [Tally(model.c, b, rule) for b in settings.buildings for rule in (True, False)]
    parts = list(batches(texts, settings.batch))
    total = len(parts) + len(tallies) + len(settings.lengths) * len(settings.groups)
    done = 0
    for numbers in parts:
        called, free, text = choices(model, texts, numbers)
        point: dict[str, Any] = {"what": "batch", "texts": len(numbers), "tokens": len(text)}
        for tally in tallies:
            added = tally.add(called if tally.rule else free, text)
            if tally.buildings == model.c.n_group:
                point["rule" if tally.rule else "free"] = added
        done += 1
        yield Step(done, total, len(text), 0.0, point)
    for tally in tallies:
        done += 1
        yield Step(done, total, 0, 0.0, tally.point())
    del model  # processes will need the memory
    for length in settings.lengths:
        for point in timed(texts, settings, length):
            done += 1
            yield Step(done, total, settings.sentences * length, 0.0, point)


EXPERIMENT = Experiment(
    "ambulances", run, live=Settings(documents=1, lengths=(16,), groups=(1, 2), rounds=2), recorded=Settings(),
    weights=lambda settings: 0,
)  # fmt: skip
