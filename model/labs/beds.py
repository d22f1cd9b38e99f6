"""Beds: how many rooms a growing text wakes, what a small store of experts saves, and what fewer bits cost.

Nothing is trained. The shipped model reads held-out texts, another draw of them for every seed; a "step" is one reading
of all of them. Texts come in a random order, as patients would, and each is read by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model import checkpoint
from model.corpus import heldout
from model.deepseek_v3 import DeepseekV3
from model.evaluate import Scores, encode, read
from model.labs import Experiment, Step
from model.live import SHIPPED
from model.storage import FORMATS, NO_ERROR, Error, Shelf, What, ages, fp8_round, hit_rates, round_layer
from model.study import over_documents, read_choices, weights_sum
from model.tokenizer import Tokenizer

LENGTH = 1024  # most ids of one text
FIRST_SEED = 58  # of `corpus.heldout`: the project's fixed test is the draw of seed 0 here


@dataclass(frozen=True)
class Settings:
    """One recording."""

    documents: int = 50  # n of `heldout` for rooms and stores
    rounding_documents: int = 10  # n for fewer bits: every format reads them all
    longest: int = 64  # tokens of one text up to which woken rooms are counted
    fewest: int = 30  # texts that are at least so long, for a length to be counted
    resamples: int = 1000


def texts(seed: int, n: int) -> list[list[int]]:
    """The ids of n held-out texts of each subject, language and source, in random order."""
    documents = heldout(n, FIRST_SEED + seed)
    ids = encode(Tokenizer.load(SHIPPED / "tokenizer.json"), documents, LENGTH)
    return [ids[i] for i in np.random.default_rng(seed).permutation(len(ids))]


def choices(model: DeepseekV3, several: list[list[int]]) -> list[np.ndarray]:
    """Who was called for every token of each text but its last, which is only predicted: (M, T, k) each."""
    found = read_choices(model, several)
    order = np.argsort(found.document, kind="stable")
    chosen, document = found.chosen[order], found.document[order]
    starts = np.searchsorted(document, np.arange(len(several) + 1))
    return [chosen[a:b].transpose(1, 0, 2) for a, b in zip(starts, starts[1:], strict=False)]


def first_called(chosen: np.ndarray, experts: int) -> np.ndarray:
    """(T,): experts of all floors that each token is the first to call, from chosen (M, T, k)."""
    floors, tokens, _ = chosen.shape
    called = np.full((floors, experts), tokens)
    here = np.arange(floors)[:, None]
    for token in range(tokens - 1, -1, -1):
        called[here, chosen[:, token]] = token
    return np.bincount(called.ravel(), minlength=tokens + 1)[:tokens]


def woken(each: list[np.ndarray], experts: int) -> dict[str, Any]:
    """Share of all rooms that were called at least once after 1, 2, 4, ... and all tokens of all texts."""
    whole = np.concatenate(each, 1)
    share = first_called(whole, experts).cumsum() / (whole.shape[0] * experts)
    marks = [2**i for i in range(len(share).bit_length()) if 2**i < len(share)] + [len(share)]
    return {"tokens": marks, "share": share[np.array(marks) - 1].tolist()}


def within(each: list[np.ndarray], experts: int, longest: int, fewest: int) -> dict[str, Any]:
    """The same inside a single text: the mean over all texts that are at least so long."""
    grown = [first_called(one[:, :longest], experts).cumsum() / (one.shape[0] * experts) for one in each]
    share, count = [], []
    for length in range(1, longest + 1):
        so_long = [one[length - 1] for one in grown if len(one) >= length]
        if len(so_long) < fewest:
            break
        share.append(float(np.mean(so_long)))
        count.append(len(so_long))
    return {"tokens": list(range(1, len(share) + 1)), "share": share, "texts": count}


def store(each: list[np.ndarray], experts: int) -> dict[str, Any]:
    """Hit rate of a store of 0, 1, 2, ... all experts a floor: kept from text to text, and emptied before each."""
    shelf = Shelf(each[0].shape[0], experts)
    kept = np.concatenate([shelf.read(one) for one in each], 1)
    fresh = np.concatenate([ages(one, experts) for one in each], 1)
    return {"kept": hit_rates(kept, experts).tolist(), "fresh": hit_rates(fresh, experts).tolist()}


def rounded(name: str, what: str) -> tuple[DeepseekV3, dict[str, Any]]:
    """The shipped model in fewer bits, and what rounding lost. `what`: "all" that V3 keeps in FP8, only the "interns",
    or what V3 does not, the "gates", or embedding and head ("ends")."""
    model, error = checkpoint.load(SHIPPED), NO_ERROR
    how: Callable[[Tensor], Tensor] = FORMATS[name].round if name in FORMATS else fp8_round
    if what in ("all", "interns"):
        part: What = "all" if what == "all" else "interns"
        for layer in model.layers:
            error = error.plus(round_layer(layer, how, part))
    else:
        kept = [gate.weight for gate in model.routers()] if what == "gates" else [
            model.embed_tokens.weight, model.lm_head.weight]  # fmt: skip
        with torch.no_grad():
            for weight in kept:
                before = weight.double()
                weight.copy_(how(weight))
                lost = weight.double() - before
                squares, size = float(lost.square().sum()), float(before.square().sum())
                error = error.plus(Error(squares, size, weight.numel(), float(lost.abs().max())))
    return model, {"error": error.relative, "numbers": error.numbers}


VARIANTS = (
    *((name, what) for what in ("all", "interns") for name in FORMATS),
    ("fp8", "gates"), ("fp8", "ends"),
)  # fmt: skip


def compare(before: Scores, after: Scores, resamples: int, seed: int) -> dict[str, Any]:
    """Loss, top-1, and the change of loss with its 95 % interval over documents; both read the same places."""
    count = int(before.document.max()) + 1
    order = [np.lexsort((np.arange(len(s.document)), s.document)) for s in (before, after)]
    gap = after.loss[order[1]].astype(np.float64) - before.loss[order[0]]
    document = before.document[order[0]]
    sums, tokens = np.bincount(document, gap, count), np.bincount(document, minlength=count).astype(np.float64)
    change, low, high = over_documents(sums[:, None], tokens, resamples, seed)
    return {"loss": float(after.loss.mean(dtype=np.float64)), "top1": float((after.place == 0).mean()),
            "change": float(change[0]), "low": float(low[0]), "high": float(high[0])}  # fmt: skip


def run(settings: Settings, seed: int) -> Iterator[Step]:
    """Two readings as it is, then one for every format."""
    model = checkpoint.load(SHIPPED)
    experts, total = model.c.n_routed_experts, 2 + len(VARIANTS)
    few = texts(seed, settings.rounding_documents)
    before = read(model, few).scores
    base = before.figures()
    yield Step(1, total, base["tokens"], base["loss"], {
        "kind": "as_shipped", "checkpoint": weights_sum(SHIPPED), "texts": len(few), "tokens": base["tokens"],
        "loss": base["loss"], "top1": base["top1"],
    })  # fmt: skip
    many = texts(seed, settings.documents)
    each = choices(model, many)
    tokens = sum(one.shape[1] for one in each)
    yield Step(2, total, tokens, base["loss"], {
        "kind": "routing", "texts": len(many), "tokens": tokens, "experts": experts, "floors": each[0].shape[0],
        "woken": woken(each, experts), "within": within(each, experts, settings.longest, settings.fewest),
        "store": store(each, experts),
    })  # fmt: skip
    for done, (name, what) in enumerate(VARIANTS, 3):
        other, lost = rounded(name, what)
        point = {"kind": "format", "format": name, "what": what, **lost,
                 **compare(before, read(other, few).scores, settings.resamples, seed)}  # fmt: skip
        yield Step(done, total, base["tokens"], point["loss"], point)


EXPERIMENT = Experiment(
    "beds", run, live=Settings(documents=1, rounding_documents=1, fewest=2), recorded=Settings(),
    weights=lambda settings: 0,
)  # fmt: skip
