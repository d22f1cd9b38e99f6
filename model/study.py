"""What was measured once about a checkpoint over held-out texts, and is shipped beside it: `python -m model study`.

Three measurements, each on `corpus.heldout(n)` (n texts of each own subject in each language and of each real source),
read as `evaluate` reads them: `bos text`, every token but the last, which is only predicted.

**What an intern likes.** Subjects are those of the project's own texts; the real sources (glosses, dictionary, poems,
Python's manual) count as one subject each. The door token (bos) finds the same interns before every text and knows
nothing of it: its calls are counted (`door_calls`) but belong to no subject.

Tokens of one document are not independent, documents are. So the interval of a share is Wilson's with Kish's effective
number of documents, (sum calls)^2 / sum(calls^2), in the place of the number of calls. Favourite tokens are ranked by
the lower end of Wilson's interval of calls / occurrences, so that a token seen once is no favourite; there occurrences
are taken as independent, which flatters tokens that come often in few documents.

What chance alone gives is found by shuffling: the documents of each language are dealt out again in random order until
every subject has as many tokens as it really has (a document at the border is shared out). Within a language, because
an intern that likes Chinese would otherwise be said to like poems; token by token, because an intern that is called
for every tenth token whatever it is would otherwise be said to like the subjects with long documents. `shuffled_high`
is corrected for the number of subjects (Westfall and Young's max-T): in one shuffle of a hundred an intern's share of
any subject is above it. An intern whose share is above it has that subject as its speciality; of several, the one that
is above by the largest factor. So of 14,848 interns without any taste about 148 would be called specialists by chance
(a hundredth of those that are called; `specialists.by_chance` was counted on other shuffles than the bound was taken
from).

A speciality says that a taste is no chance, not that it is strong: over many texts a third more than expected is no
chance either. So `specialists.strong` counts those for whom even the low end of the interval is at least twice the
share that the subject has of all tokens. Neither says why: texts on a subject have words of their own, and a taste for
these words is a taste for the subject.

**Leaving early.** After every floor the state goes through the final norm and the head: would the answer be the final
one? And if a patient went home on the first floor whose answer has a probability of at least some threshold?

**Shorter codes.** Held-out loss with `Interventions(latent_rank=r)`, through the engine, text by text.

Intervals of these two are percentiles over documents drawn with replacement. Nothing here depends on the time of day
or on a screen; the number of threads may change the last bit of a sum and with it one choice in some ten thousand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from torch import Tensor

from model import checkpoint
from model.config import ModelConfig
from model.corpus import Document, heldout
from model.deepseek_v3 import DeepseekV3, Routing
from model.engine import Engine
from model.errors import UserError
from model.evaluate import batches, encode
from model.interventions import Interventions
from model.live import SHIPPED
from model.tokenizer import Tokenizer

FACTS = "study.json"
ARRAYS = checkpoint.STUDY
FAVOURITES = 8  # tokens that are kept of every intern
_Z = 1.959964  # 95 %
_BATCH = 4096  # tokens of one forward pass
_ROWS = 64  # rows of logits at once: they stay in the cache of a core


class StudyError(UserError):
    """A study that is missing, cannot be read, or was made for another checkpoint."""


@dataclass(frozen=True)
class StudySettings:
    """How a study is made. All of it is written into `study.json`."""

    intern_documents: int = 50  # n of `heldout` for what interns like
    exit_documents: int = 20  # n for leaving early
    rank_documents: int = 2  # n for shorter codes
    shuffles: int = 1000  # from which the bounds of chance are taken
    fresh_shuffles: int = 200  # on which the specialists by chance are counted
    level: float = 0.01  # the part of the shuffles in which an intern passes the bound of any subject
    times_expected: float = 2.0  # from which on a speciality is a strong one
    resamples: int = 1000  # of documents, for the intervals of leaving early and of shorter codes
    thresholds: tuple[float, ...] = (0.5, 0.7, 0.9, 0.99)
    seed: int = 0


# -- what a study says -----------------------------------------------------------------------------------------------


class TokenTaste(NamedTuple):
    """A token that an intern was called for."""

    id: int
    calls: int  # how often for this token
    occurrences: int  # how often the token stands in the texts


class SubjectTaste(NamedTuple):
    """One subject's part in what an intern was called for, door tokens left out."""

    name: str
    calls: int
    share: float  # of the intern's calls
    low: float  # 95 % interval of the share, documents being the units (see above)
    high: float
    expected: float  # this subject's share of all tokens
    shuffled_high: float  # the share that chance reaches in at most one of a hundred shuffles (see above)


@dataclass(frozen=True)
class InternRecord:
    """What one routed expert was called for, over all texts."""

    calls: int  # door tokens included
    door_calls: int  # of these for the door token
    tokens: tuple[TokenTaste, ...]  # best first, at most 8
    subjects: tuple[SubjectTaste, ...]  # always all of them, in one order; empty where only the door called, or nobody
    speciality: str | None  # the name of a subject, only where its share is no chance (see above)


class Specialists(NamedTuple):
    """How many interns have a speciality, in truth and in shuffled documents."""

    interns: int  # all routed experts of all floors
    found: int  # that have a speciality
    by_chance: float  # that have one when documents are shuffled, on average
    by_chance_high: int  # in 95 of a hundred shuffles at most so many
    strong: int  # of `found`: even the low end of the share is at least twice the expected share
    strong_by_chance: float  # the same when documents are shuffled, on average
    never_called: int


class ExitRule(NamedTuple):
    """What would happen if a token went home on the first floor whose answer has at least this probability."""

    threshold: float
    mean_floor: float  # on which the walk ends; 61 for those that never are so sure
    share_exited: float  # that leave below the last floor
    agreement: float  # the answer on leaving is the final one
    accuracy: float  # the answer on leaving is the true next token
    accuracy_without: float  # the final answer is


@dataclass(frozen=True, eq=False)
class EarlyExit:
    """What the doctor would say after each floor. Arrays (61,), floor 1 first."""

    floors: np.ndarray
    agreement: np.ndarray  # share of places whose likeliest token is the final one
    low: np.ndarray  # its 95 % interval over documents
    high: np.ndarray
    correct: np.ndarray  # share of places whose likeliest token is the true next one
    tokens: int
    documents: int
    exits: tuple[ExitRule, ...]


@dataclass(frozen=True, eq=False)
class LatentRank:
    """Held-out loss with every latent cut to r numbers. Arrays (16,), r = 1 first; the last is the plain model."""

    ranks: np.ndarray
    loss: np.ndarray  # nats per token
    low: np.ndarray  # 95 % interval over documents; one r against another is more certain: the documents are the same
    high: np.ndarray
    top1: np.ndarray  # share of places whose likeliest token is the true next one
    tokens: int
    documents: int


@dataclass(frozen=True, eq=False)
class Study:
    """Everything that was measured. Read-only."""

    settings: StudySettings
    checkpoint: str  # sha256 of the weights that were measured
    first_layer: int  # the first layer with experts
    tokens: int  # that were read for the interns, one door token a document included
    documents: int
    subjects: tuple[str, ...]
    early_exit: EarlyExit
    latent_rank: LatentRank
    _by_chance: tuple[tuple[float, int], tuple[float, int]]  # all, strong ones: mean, high
    _arrays: dict[str, np.ndarray]

    @property
    def calls(self) -> np.ndarray:
        """(M, E): how often each intern was called, door tokens included."""
        return self._arrays["interns.calls"]

    @cached_property
    def shares(self) -> np.ndarray:
        """(M, E, S): each subject's share of each intern's calls; 0 where there were none."""
        calls = self._arrays["interns.subject_calls"].astype(np.float64)
        return _frozen(calls / np.maximum(calls.sum(-1, keepdims=True), 1))

    @cached_property
    def expected(self) -> np.ndarray:
        """(S,): each subject's share of the tokens, door tokens left out."""
        tokens = self._arrays["subjects.tokens"].astype(np.float64)
        return _frozen(tokens / tokens.sum())

    @cached_property
    def specialities(self) -> np.ndarray:
        """(M, E): number of each intern's subject in `subjects`, -1 for none."""
        return _frozen(specialities(self.shares, self._arrays["interns.shuffled_high"]))

    @cached_property
    def specialists(self) -> Specialists:
        """How many interns have a speciality, and how many would by chance."""
        units = self._arrays["interns.effective_documents"]
        strong = _strong(self.specialities, self.shares, units, self.expected, self.settings.times_expected)
        (found, high), (many, _) = self._by_chance
        return Specialists(
            self.specialities.size, int((self.specialities >= 0).sum()), found, high, int(strong.sum()), many,
            int((self._arrays["interns.calls"] == 0).sum()),
        )  # fmt: skip

    def intern(self, layer: int, expert: int) -> InternRecord:
        """The record of one routed expert; `layer` counts from 0 over all layers, as in `Interventions`."""
        a, m = self._arrays, layer - self.first_layer
        layers, experts = a["interns.calls"].shape
        if not (0 <= m < layers and 0 <= expert < experts):
            raise StudyError(f"The study has no intern {expert} on floor {layer + 1}.")
        ids, with_it = a["interns.token_ids"][m, expert].tolist(), a["interns.token_calls"][m, expert].tolist()
        seen = a["tokens.occurrences"]
        calls, door = int(a["interns.calls"][m, expert]), int(a["interns.door_calls"][m, expert])
        units = float(a["interns.effective_documents"][m, expert])
        shares, chosen = self.shares[m, expert], int(self.specialities[m, expert])
        return InternRecord(
            calls,
            door,
            tuple(TokenTaste(i, n, int(seen[i])) for i, n in zip(ids, with_it, strict=True) if n),
            tuple(
                SubjectTaste(name, int(n), *(float(x) for x in numbers))
                for name, n, *numbers in zip(
                    self.subjects, a["interns.subject_calls"][m, expert], shares, *wilson(shares * units, units),
                    self.expected, a["interns.shuffled_high"][m, expert], strict=True,
                )
            ) if calls > door else (),
            self.subjects[chosen] if chosen >= 0 else None,
        )  # fmt: skip


# -- statistics ------------------------------------------------------------------------------------------------------


def wilson(hits: Any, trials: Any) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % interval of hits / trials (arrays or numbers; fractions are allowed); 0 to 1 without trials."""
    n = np.maximum(np.asarray(trials, np.float64), 1e-9)
    p = np.clip(np.asarray(hits, np.float64) / n, 0, 1)
    centre, half = p + _Z**2 / (2 * n), _Z * np.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    size = 1 + _Z**2 / n
    return np.clip((centre - half) / size, 0, p), np.clip((centre + half) / size, p, 1)


def deal(
    rng: np.random.Generator, lengths: np.ndarray, labels: np.ndarray, languages: np.ndarray, times: int
) -> np.ndarray:
    """(times, S, D): the part of each document that each subject is dealt in each shuffle (see the module's text).

    lengths, labels (0 .. S-1), languages: (D,). Every subject gets as many tokens of each language as it has.
    """
    count = int(labels.max()) + 1
    parts = np.zeros((times, count, len(lengths)), np.float32)
    for language in np.unique(languages):
        here = np.flatnonzero(languages == language)
        end = np.bincount(labels[here], lengths[here], count).cumsum()[:, None]
        start = np.concatenate([[[0.0]], end[:-1]])
        for part in parts:
            order = rng.permutation(here)
            last = lengths[order].cumsum()
            overlap = np.minimum(end, last) - np.maximum(start, last - lengths[order])
            part[:, order] = overlap.clip(0) / lengths[order]
    return parts


def bound_of_chance(shares: np.ndarray, level: float) -> np.ndarray:
    """(E, S) from shares in P shuffles (P, S, E): the bound that an intern's shares, all subjects together, pass in
    the part `level` of the shuffles. In units of each subject's own spread it is the same for all subjects."""
    mean, spread = shares.mean(0), shares.std(0)
    furthest = ((shares - mean) / np.maximum(spread, 1e-9)).max(1)  # (P, E)
    return (mean + np.quantile(furthest, 1 - level, 0, method="higher") * spread).T


def specialities(shares: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """(...): number of the subject that is a speciality, -1 for none; shares and bound (..., S)."""
    above = np.divide(shares, bound, out=np.zeros(shares.shape), where=bound > 0)  # 0 / 0: never called
    return np.where(above.max(-1) > 1, above.argmax(-1), -1)


def _strong(
    special: np.ndarray, shares: np.ndarray, units: np.ndarray, expected: np.ndarray, times: float
) -> np.ndarray:
    """(...) bool: which specialities are at least `times` what is expected of them, even at the low end."""
    share = np.take_along_axis(shares, special[..., None], -1)[..., 0].astype(np.float64)
    return (special >= 0) & (wilson(share * units, units)[0] >= times * expected[special])


def over_documents(
    sums: np.ndarray, tokens: np.ndarray, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean per token, and its 95 % interval over documents: sums (D, X), tokens (D,) -> three arrays (X,)."""
    count = len(tokens)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
    means = (drawn @ sums) / (drawn @ tokens)[:, None]
    low, high = np.quantile(means, (0.025, 0.975), 0)
    return sums.sum(0) / tokens.sum(), low, high


# -- what interns like -----------------------------------------------------------------------------------------------


def floors(model: DeepseekV3, ids: Tensor) -> Iterator[tuple[Tensor, Routing | None]]:
    """The state (B, T, d) after each floor, from ids (B, T), and what the floor's gate did."""
    rope, x = model.rope(ids.shape[1]), model.embed_tokens(ids)
    for layer in model.layers:
        x, routing = layer(x, rope)
        yield x, routing


class Choices(NamedTuple):
    """Who was called for N tokens."""

    document: np.ndarray  # (N,)
    token: np.ndarray  # (N,)
    door: np.ndarray  # (N,) bool: the first token of its document
    chosen: np.ndarray  # (N, M, k) int16


def _padded(texts: Sequence[Sequence[int]], numbers: list[int], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (B, T + 1), which of the T places of each are read, and the number of the document of each place."""
    rows = torch.nn.utils.rnn.pad_sequence([torch.tensor(texts[i]) for i in numbers], True, pad)
    lengths = torch.tensor([len(texts[i]) - 1 for i in numbers])
    real = torch.arange(rows.shape[1] - 1)[None] < lengths[:, None]
    return rows, real, torch.tensor(numbers)[:, None].expand(real.shape)


@torch.inference_mode()
def read_choices(model: DeepseekV3, texts: Sequence[Sequence[int]], last_layer: int | None = None) -> Choices:
    """Batched passes over the texts, of the layers up to `last_layer` (None: all)."""
    found = []
    for numbers in batches(texts, _BATCH):
        rows, real, document = _padded(texts, numbers, model.c.eos_token_id)
        chosen = []
        for layer, (_, routing) in enumerate(floors(model, rows[:, :-1])):
            if routing is not None:
                chosen.append(routing.chosen.view(*real.shape, -1)[real].to(torch.int16))
            if layer == last_layer:
                break
        door = torch.zeros_like(real)
        door[:, 0] = True
        parts = (document[real], rows[:, :-1][real], door[real], torch.stack(chosen, 1))
        found.append([part.numpy() for part in parts])
    return Choices(*(np.concatenate(column) for column in zip(*found, strict=True)))


def subjects_of(documents: Sequence[Document]) -> list[str]:
    """The subject of every own text; of a real one its source."""
    return [d.subject if d.source == "own" else d.source for d in documents]


def intern_arrays(
    choices: Choices, documents: Sequence[Document], c: ModelConfig, settings: StudySettings
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """All that is kept of the interns, and how many had a speciality (row 0), a strong one (row 1), in each of the
    fresh shuffles."""
    names = list(dict.fromkeys(subjects_of(documents)))
    labels = np.array([names.index(name) for name in subjects_of(documents)])
    languages = np.array([d.language for d in documents])
    count, inside = len(documents), ~choices.door
    lengths = np.bincount(choices.document[inside], minlength=count).astype(np.float64)
    occurrences = np.bincount(choices.token, minlength=c.vocab_size)
    rng = np.random.default_rng(settings.seed)
    dealt = torch.from_numpy(deal(rng, lengths, labels, languages, settings.shuffles + settings.fresh_shuffles))
    one_hot = np.eye(len(names))[labels]
    layers: dict[str, list[np.ndarray]] = {}
    by_chance = np.zeros((2, settings.fresh_shuffles), np.int64)
    expected = np.bincount(labels, lengths, len(names)) / lengths.sum()

    def keep(name: str, values: np.ndarray) -> None:
        layers.setdefault(name, []).append(values)

    def table(rows: np.ndarray, experts: np.ndarray, height: int) -> np.ndarray:
        """(height, E): how often each expert was called, row by row."""
        flat = (rows[:, None] * c.n_routed_experts + experts).ravel()
        return np.bincount(flat, minlength=height * c.n_routed_experts).reshape(height, -1)

    for m in range(choices.chosen.shape[1]):
        chosen = choices.chosen[:, m].astype(np.int64)
        by_token = table(choices.token, chosen, c.vocab_size)
        low = np.where(by_token > 0, wilson(by_token, occurrences[:, None])[0], -1)
        best = np.argsort(-low, 0, kind="stable")[:FAVOURITES]
        by_document = table(choices.document[inside], chosen[inside], count)
        calls = by_document.sum(0)
        keep("calls", by_token.sum(0))
        keep("door_calls", by_token.sum(0) - calls)
        keep("token_ids", best.T)
        keep("token_calls", np.take_along_axis(by_token, best, 0).T)
        keep("subject_calls", (one_hot.T @ by_document).round().astype(np.int64).T)
        units = calls.astype(np.float64) ** 2 / np.maximum((by_document**2).sum(0), 1)
        keep("effective_documents", units)
        shuffled = (dealt.flatten(0, 1) @ torch.from_numpy(by_document).float()).view(*dealt.shape[:2], -1).numpy()
        shuffled /= np.maximum(calls, 1)  # (P, S, E)
        bound = _rounded_up(bound_of_chance(shuffled[: settings.shuffles], settings.level))
        keep("shuffled_high", bound)
        fresh = shuffled[settings.shuffles :].swapaxes(1, 2)  # (P, E, S)
        special = specialities(fresh, np.broadcast_to(bound, fresh.shape))
        strong = _strong(special, fresh, units, expected, settings.times_expected)
        by_chance += np.stack([(special >= 0).sum(1), strong.sum(1)])
    arrays = {f"interns.{name}": _small(np.stack(values)) for name, values in layers.items()}
    arrays["tokens.occurrences"] = _small(occurrences)
    arrays["subjects.tokens"] = _small(np.bincount(labels, lengths, len(names)).astype(np.int64))
    return arrays, by_chance


def _rounded_up(values: np.ndarray) -> np.ndarray:
    """float16, never below: what is stored is also what decides."""
    half = values.astype(np.float16)
    return np.where(half < values, np.nextafter(half, np.float16(np.inf)), half)


def _small(values: np.ndarray) -> np.ndarray:
    """The same numbers in fewer bytes, row by row: safetensors writes the memory as it lies."""
    values = np.ascontiguousarray(values)
    if values.dtype.kind == "f":
        return values if values.dtype == np.float16 else values.astype(np.float32)
    return values.astype(np.int16 if values.max(initial=0) < 2**15 else np.int32)


# -- leaving early ---------------------------------------------------------------------------------------------------


def early_exit(sure: np.ndarray, threshold: float) -> np.ndarray:
    """On which floor N tokens would leave, counted from 0: the first whose answer is sure enough, else the last.

    sure (L, N): the probability of the likeliest next token after each floor.
    """
    enough = sure >= threshold
    enough[-1] = True
    return enough.argmax(0)


@torch.inference_mode()
def _answers(model: DeepseekV3, states: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Likeliest next token and its probability, through the final norm and the head: states (N, d) -> (N,), (N,)."""
    tokens, sure = [], []
    for h in model.norm(states).split(_ROWS):
        logits = h @ model.lm_head.weight.t()
        best, token = logits.max(-1)
        tokens.append(token)
        sure.append((best - logits.logsumexp(-1)).exp())
    return torch.cat(tokens).numpy(), torch.cat(sure).numpy()


@torch.inference_mode()
def exit_arrays(
    model: DeepseekV3, texts: Sequence[Sequence[int]], thresholds: Sequence[float]
) -> dict[str, np.ndarray]:
    """Sums over the places of each document: tokens (D,), agree and correct (D, L), and for every threshold (D, R, 4)
    the floors walked, those that left below the last, their answers that are the final one, and that are true."""
    count, layers = len(texts), model.c.num_hidden_layers
    tokens, agree, correct = np.zeros(count, int), np.zeros((count, layers), int), np.zeros((count, layers), int)
    rules = np.zeros((count, len(thresholds), 4), int)
    for numbers in batches(texts, _BATCH):
        rows, real, document = _padded(texts, numbers, model.c.eos_token_id)
        each = [_answers(model, x[real]) for x, _ in floors(model, rows[:, :-1])]
        answers, sure = np.stack([a for a, _ in each]), np.stack([s for _, s in each])
        target, at = rows[:, 1:][real].numpy(), document[real].numpy()
        same, true = answers == answers[-1], answers == target
        np.add.at(tokens, at, 1)
        np.add.at(agree, at, same.T)
        np.add.at(correct, at, true.T)
        for number, threshold in enumerate(thresholds):
            left = early_exit(sure, threshold)
            here = np.arange(len(left))
            sums = np.stack([left + 1, left < layers - 1, same[left, here], true[left, here]], 1)
            np.add.at(rules[:, number], at, sums)
    return {"exit.tokens": _small(tokens), "exit.agree": _small(agree), "exit.correct": _small(correct),
            "exit.rules": _small(rules)}  # fmt: skip


# -- shorter codes ---------------------------------------------------------------------------------------------------


def rank_arrays(engine: Engine, texts: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
    """Sums over the places of each document, for codes of 1, 2, ... r numbers: loss (D, r) and top1 (D, r); tokens
    (D,)."""
    ranks = range(1, engine.c.kv_lora_rank + 1)
    loss, top1 = np.zeros((len(texts), len(ranks))), np.zeros((len(texts), len(ranks)), int)
    for number, ids in enumerate(texts):
        target = torch.tensor(ids[1:])
        for rank in ranks:
            logits, _ = engine.forward(list(ids[:-1]), interventions=Interventions(latent_rank=rank))
            loss[number, rank - 1] = float(torch.nn.functional.cross_entropy(logits, target, reduction="sum"))
            top1[number, rank - 1] = int((logits.argmax(-1) == target).sum())
    tokens = np.array([len(ids) - 1 for ids in texts])
    return {"rank.tokens": _small(tokens), "rank.loss": _small(loss), "rank.top1": _small(top1)}


# -- making one ------------------------------------------------------------------------------------------------------


def sample(tokenizer: Tokenizer, c: ModelConfig, n: int) -> tuple[list[Document], list[list[int]]]:
    """The documents of `heldout(n)` and their ids."""
    documents = heldout(n)
    return documents, encode(tokenizer, documents, c.max_position_embeddings)


def digest(texts: Sequence[Sequence[int]]) -> str:
    """sha256 of ids: other texts or another tokenizer would make another study."""
    return hashlib.sha256(json.dumps([list(ids) for ids in texts]).encode()).hexdigest()


def weights_sum(folder: Path) -> str:
    """sha256 of a checkpoint's weights, from the note beside them if there is one (`checkpoint.load` checks it)."""
    note, weights = folder / checkpoint.SUM, folder / checkpoint.WEIGHTS
    if note.is_file():
        return (note.read_text("utf-8", "replace").split() or [""])[0]
    if not weights.is_file():
        raise StudyError(f"There is no {checkpoint.WEIGHTS} in {folder}. Name a checkpoint folder that has one.",
                         "study_missing")  # fmt: skip
    with open(weights, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record(folder: str | Path | None = None, settings: StudySettings | None = None) -> Study:
    """Measure a checkpoint and write `study.json` and `study.safetensors` into its folder."""
    folder = Path(folder) if folder is not None else SHIPPED
    settings = settings or StudySettings()
    checkpoint_sum = weights_sum(folder)
    network = checkpoint.load(folder)
    tokenizer, c = Tokenizer.load(folder / "tokenizer.json"), network.c
    engine = Engine(network)
    documents, texts = sample(tokenizer, c, settings.intern_documents)
    _, exit_texts = sample(tokenizer, c, settings.exit_documents)
    _, rank_texts = sample(tokenizer, c, settings.rank_documents)
    arrays, by_chance = intern_arrays(read_choices(network, texts), documents, c, settings)
    arrays |= exit_arrays(network, exit_texts, settings.thresholds)
    arrays |= rank_arrays(engine, rank_texts)
    content = save_arrays(arrays)
    facts = {
        "checkpoint_sha256": checkpoint_sum,
        "arrays_sha256": hashlib.sha256(content).hexdigest(),
        "texts_sha256": {"interns": digest(texts), "exit": digest(exit_texts), "rank": digest(rank_texts)},
        "settings": asdict(settings),
        "first_layer": c.first_k_dense_replace,
        "documents": len(texts),
        "tokens": sum(len(ids) - 1 for ids in texts),
        "subjects": list(dict.fromkeys(subjects_of(documents))),
        "by_chance": {
            name: {"mean": float(counts.mean()), "high": int(np.quantile(counts, 0.95, method="higher"))}
            for name, counts in zip(("all", "strong"), by_chance, strict=True)
        },
    }
    (folder / FACTS).unlink(missing_ok=True)  # never old facts beside new arrays
    (folder / ARRAYS).write_bytes(content)
    (folder / FACTS).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return load_study(folder)


# -- opening one -----------------------------------------------------------------------------------------------------


def load_study(folder: str | Path | None = None) -> Study:
    """The study that lies in a checkpoint folder (None: the shipped hospital's), read once for everybody.

    StudyError, one sentence, if there is none, if it cannot be read, or if it was made for another checkpoint.
    """
    folder = (Path(folder) if folder is not None else SHIPPED).resolve()
    facts, arrays = folder / FACTS, folder / ARRAYS
    if not (facts.is_file() and arrays.is_file()):
        raise StudyError(f"There is no study of the checkpoint in {folder}. Make one with `python -m model study`.",
                         "study_missing", folder=folder.name)  # fmt: skip
    # The files' sizes and times are part of what is remembered: what was made again is read again.
    files = (facts, arrays, folder / checkpoint.WEIGHTS, folder / checkpoint.SUM)
    return _load(folder, tuple((f.stat().st_mtime_ns, f.stat().st_size) if f.is_file() else None for f in files))


@cache
def _load(folder: Path, _state: tuple[tuple[int, int] | None, ...]) -> Study:
    try:
        facts, content = json.loads((folder / FACTS).read_text("utf-8")), (folder / ARRAYS).read_bytes()
        made_for = facts["checkpoint_sha256"]
        if facts["arrays_sha256"] != hashlib.sha256(content).hexdigest():
            raise ValueError(f"{ARRAYS} is not the file that {FACTS} speaks of")
        study = _study(facts, load_arrays(content))
    except Exception as error:  # a damaged file can make any part of the reader fail, each in its own way
        what = " ".join(str(error).split())[:200]
        raise StudyError(f"The study in {folder} is damaged ({what}). Make it again with `python -m model study`.",
                         "study_damaged", folder=folder.name) from error  # fmt: skip
    if made_for != weights_sum(folder):
        raise StudyError(f"The study in {folder} was made for another checkpoint. "
                         "Make it again with `python -m model study`.", "study_stale", folder=folder.name)  # fmt: skip
    return study


def _frozen(values: np.ndarray) -> np.ndarray:
    values.setflags(write=False)
    return values


def _study(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> Study:
    """Sums over documents -> what is said of them."""
    given = facts["settings"]
    settings = StudySettings(**{**given, "thresholds": tuple(given["thresholds"])})
    subjects, shape = tuple(facts["subjects"]), arrays["interns.calls"].shape
    if arrays["interns.subject_calls"].shape != (*shape, len(subjects)):
        raise ValueError("the arrays do not fit the subjects")
    for values in arrays.values():
        _frozen(values)

    def means(sums: str, tokens: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = over_documents(arrays[sums].astype(np.float64), arrays[tokens].astype(np.float64),
                               settings.resamples, settings.seed)  # fmt: skip
        return _frozen(found[0]), _frozen(found[1]), _frozen(found[2])

    agreement, low, high = means("exit.agree", "exit.tokens")
    correct, _, _ = means("exit.correct", "exit.tokens")
    read = int(arrays["exit.tokens"].sum(dtype=np.int64))
    rules = arrays["exit.rules"].sum(0, dtype=np.int64) / read
    exits = tuple(
        ExitRule(threshold, floor, exited, same, true, float(correct[-1]))
        for threshold, (floor, exited, same, true) in zip(settings.thresholds, rules.tolist(), strict=True)
    )
    floor_numbers = _frozen(np.arange(1, len(agreement) + 1))
    loss, loss_low, loss_high = means("rank.loss", "rank.tokens")
    top1, _, _ = means("rank.top1", "rank.tokens")
    every, strong = (
        (float(x["mean"]), int(x["high"])) for x in (facts["by_chance"]["all"], facts["by_chance"]["strong"])
    )
    return Study(
        settings, facts["checkpoint_sha256"], facts["first_layer"], facts["tokens"], facts["documents"], subjects,
        EarlyExit(floor_numbers, agreement, low, high, correct, read, len(arrays["exit.tokens"]), exits),
        LatentRank(_frozen(np.arange(1, len(loss) + 1)), loss, loss_low, loss_high, top1,
                   int(arrays["rank.tokens"].sum(dtype=np.int64)), len(arrays["rank.tokens"])),
        (every, strong), arrays,
    )  # fmt: skip


def summary(study: Study) -> dict[str, Any]:
    """The main figures, as JSON can hold them."""
    leaving, rank = study.early_exit, study.latent_rank
    chosen = np.bincount(study.specialities[study.specialities >= 0], minlength=len(study.subjects))
    return {
        "documents": study.documents,
        "tokens": study.tokens,
        "specialists": study.specialists._asdict(),
        "specialists_by_subject": dict(zip(study.subjects, chosen.tolist(), strict=True)),
        "early_exit": {
            "documents": leaving.documents,
            "tokens": leaving.tokens,
            "agreement": leaving.agreement.round(4).tolist(),
            "correct": leaving.correct.round(4).tolist(),
            "exits": [rule._asdict() for rule in leaving.exits],
        },
        "latent_rank": {
            "documents": rank.documents,
            "tokens": rank.tokens,
            "loss": rank.loss.round(4).tolist(),
            "top1": rank.top1.round(4).tolist(),
        },
    }
