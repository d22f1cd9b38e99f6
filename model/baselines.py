"""Two yardsticks for the hospital: a 5-gram model of the same texts, and a dense transformer of the same
active size.

The 5-gram model is interpolated modified Kneser-Ney (Chen and Goodman 1998, TR-10-98, section 3 and Eq.
26-27), counted from the very rows that training read. The dense transformer is only a configuration:
`model/train.py` trains it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.config import ModelConfig
from model.data import TrainingRows
from model.errors import UserError
from model.tokenizer import Tokenizer
from model.train import Run

ORDER = 5
_BITS = 12  # of one id in a packed n-gram: 5 ids fit into 60 of 64 bits
_MASK = np.uint64((1 << _BITS) - 1)

# -- the dense transformer -----------------------------------------------------------------------------------


def dense_config(config: ModelConfig) -> ModelConfig:
    """The same model with every FFN dense and as wide as what a token passes through in `config`: (chosen +
    shared) experts side by side. Active parameters then differ only by the gates (and by the first layers,
    where those are not that wide already). The MTP module, an auxiliary aim of training and not part of a
    forward pass, stays as it is."""
    width = (config.num_experts_per_tok + config.n_shared_experts) * config.moe_intermediate_size
    return config.with_(intermediate_size=width, first_k_dense_replace=config.num_hidden_layers)


# -- the 5-gram model ----------------------------------------------------------------------------------------


def rows_seen(folders: Iterable[Path], tokenizer: Tokenizer, tokens: int | None = None) -> list[np.ndarray]:
    """The rows that the runs in `folders` have trained on so far, one array (rows, length) of uint16 ids a
    run; of each run only about the first `tokens` tokens if given. For a grown model name the shallow run's
    folder too."""
    parts = []
    for folder in folders:
        _, s, steps, _ = Run.read(folder)
        if tokens is not None:
            steps = min(steps, -(-tokens // (s.rows * s.length)))
        source = TrainingRows(tokenizer, s.length, s.seed, s.own_share)
        out = np.empty((steps, s.rows, s.length), dtype=np.uint16)
        for step in range(steps):
            out[step] = source.batch(step, s.rows).numpy()
        parts.append(out.reshape(-1, s.length))
    return parts


@dataclass(frozen=True)
class _Order:
    """All n-grams of one order. C different contexts (the n-gram without its last id), K different
    n-grams."""

    keys: np.ndarray  # (K,) uint64, packed n-grams, sorted: those of one context lie together
    counts: np.ndarray  # (K,) int64, adjusted counts
    discounts: np.ndarray  # (4,) what is taken off a count of 0, 1, 2, 3 or more
    contexts: np.ndarray  # (C,) uint64, sorted
    first: np.ndarray  # (C + 1,) where each context's n-grams begin
    total: np.ndarray  # (C,) sum of the counts of a context
    left: np.ndarray  # (C,) probability that is passed down to the shorter context

    @classmethod
    def build(cls, keys: np.ndarray, counts: np.ndarray) -> _Order:
        discounts = _discounts(counts)
        contexts, first, total, left = (
            np.empty(0, np.uint64),
            np.zeros(1, np.int64),
            np.empty(0),
            np.empty(0),
        )
        if len(keys):
            contexts, first = np.unique(keys >> np.uint64(_BITS), return_index=True)
            total = np.add.reduceat(counts, first).astype(np.float64)
            left = np.add.reduceat(discounts[np.minimum(counts, 3)], first) / total
            first = np.append(first, len(keys))
        return cls(keys, counts, discounts, contexts, first, total, left)

    def find(self, contexts: np.ndarray) -> np.ndarray:
        """Numbers of packed contexts, -1 for those never seen."""
        return _find(self.contexts, contexts)

    def discounted(self, at: np.ndarray | slice) -> np.ndarray:
        """Counts of n-grams with the discount taken off."""
        counts = self.counts[at]
        return counts - self.discounts[np.minimum(counts, 3)]


class KneserNey:
    """P_n(w | context) = (c - D(c)) / sum of c + left over x P_(n-1)(w | shorter context), down to 1 /
    vocabulary.

    c is the count for the longest n-grams and, below, the number of different ids seen to the left of the
    n-gram. A context never reaches back over a begin-of-sentence id, so n-grams that begin with one have
    nothing to their left: they keep their plain counts (as in KenLM, Heafield et al. 2013).
    """

    def __init__(self, orders: list[_Order], vocab_size: int, bos_id: int, tokens: int) -> None:
        self.orders, self.vocab_size, self.bos_id, self.tokens = orders, vocab_size, bos_id, tokens
        unigrams = orders[0]
        left = float(unigrams.left[0]) if len(unigrams.left) else 1.0
        self._unigram = np.full(vocab_size, left / vocab_size)
        if len(unigrams.keys):
            self._unigram[unigrams.keys.astype(np.int64)] += (
                unigrams.discounted(slice(None)) / unigrams.total[0]
            )

    @classmethod
    def fit(
        cls,
        rows: np.ndarray | Sequence[np.ndarray],
        vocab_size: int = 4096,
        bos_id: int = 0,
        order: int = ORDER,
    ) -> KneserNey:
        """Count rows of ids, an array (rows, length) or several; n-grams do not cross rows."""
        parts = [rows] if isinstance(rows, np.ndarray) else list(rows)
        if vocab_size > 1 << _BITS or order * _BITS > 64:
            raise UserError(
                f"An n-gram model of this kind holds at most {1 << _BITS} different ids and order 5."
            )
        windows = [_windows(part, order, bos_id) for part in parts]
        keys, counts = np.unique(np.concatenate(windows), return_counts=True)
        del windows
        orders = [_Order.build(keys, counts)]
        for n in range(order - 1, 0, -1):
            suffix = keys & np.uint64((1 << _BITS * n) - 1)
            keys, counts = np.unique(suffix, return_counts=True)
            if n > 1:
                starts = np.concatenate([_windows(part, n, bos_id, at_start=True) for part in parts])
                more, more_counts = np.unique(starts, return_counts=True)
                keys, counts = np.concatenate([keys, more]), np.concatenate([counts, more_counts])
                by_key = np.argsort(keys)  # no key is in both: only the second kind begins with bos
                keys, counts = keys[by_key], counts[by_key]
            orders.insert(0, _Order.build(keys, counts))
        return cls(orders, vocab_size, bos_id, sum(part.size for part in parts))

    @property
    def order(self) -> int:
        """The longest n-gram."""
        return len(self.orders)

    def distribution(self, context: Sequence[int]) -> np.ndarray:
        """(vocab,): probability of every id after `context`."""
        before = np.asarray(context, dtype=np.uint64)
        starts = np.flatnonzero(before == self.bos_id)
        before = before[starts[-1] if len(starts) else 0 :]
        found, key = [-1], np.zeros(1, np.uint64)
        for n in range(1, min(self.order - 1, len(before)) + 1):
            key = key + (before[-n] << np.uint64(_BITS * (n - 1)))
            found.append(int(self.orders[n].find(key)[0]))
        return self._blend(found)

    def _blend(self, found: Sequence[int]) -> np.ndarray:
        """(vocab,) probabilities; found[n] is the number of the context of n ids in orders[n], -1 if never
        seen."""
        p = self._unigram.copy()
        for order, c in zip(self.orders[1:], found[1:], strict=False):
            if c < 0:
                break  # a longer context cannot have been seen either
            span = slice(order.first[c], order.first[c + 1])
            p *= order.left[c]
            p[(order.keys[span] & _MASK).astype(np.int64)] += order.discounted(span) / order.total[c]
        return p

    def _contexts(self, ids: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """For n = 0, 1, ...: packed contexts of n ids before each of ids[1:], and their numbers in
        orders[n]."""
        before = ids[:-1].astype(np.uint64)
        position = np.arange(len(before))
        start = np.maximum.accumulate(np.where(before == self.bos_id, position, 0))
        out, key = [(np.zeros_like(before), np.zeros(len(before), np.int64))], np.zeros_like(before)
        for n in range(1, self.order):
            inside = position - start >= n - 1
            key = key + (np.where(inside, np.roll(before, n - 1), np.uint64(0)) << np.uint64(_BITS * (n - 1)))
            out.append((key, np.where(inside, self.orders[n].find(key), -1)))
        return out

    def log_probabilities(self, ids: Sequence[int]) -> np.ndarray:
        """(T - 1,) nats: log P of each of ids[1:], each from at most order - 1 ids before it."""
        text = np.asarray(ids)
        target = text[1:].astype(np.uint64)
        p = self._unigram[text[1:]]
        for order, (key, c) in zip(self.orders[1:], self._contexts(text)[1:], strict=True):
            seen = c >= 0
            at = _find(order.keys, (key << np.uint64(_BITS)) | target)
            gain = np.where(at >= 0, order.discounted(at), 0.0) if len(order.keys) else np.zeros(len(p))
            p = np.where(seen, p * order.left[c] + gain / order.total[c], p) if len(order.left) else p
        return np.log(p)

    def top(self, ids: Sequence[int], n: int) -> np.ndarray:
        """(T - 1, n) int64: the n likeliest ids at the place of each of ids[1:], best first.

        Exact: every id of the vocabulary is a candidate, since backing off gives each one its probability.
        """
        found = np.stack([c for _, c in self._contexts(np.asarray(ids))], 1).tolist()
        out = np.empty((len(found), n), dtype=np.int64)
        for row, numbers in enumerate(found):
            p = self._blend(numbers)
            best = np.sort(np.argpartition(p, -n)[-n:])
            out[row] = best[np.argsort(-p[best], kind="stable")]
        return out


def _find(sorted_keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where each of `wanted` lies in `sorted_keys`, -1 where it does not."""
    if not len(sorted_keys):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(sorted_keys, wanted), len(sorted_keys) - 1)
    return np.where(sorted_keys[at] == wanted, at, -1)


def _windows(rows: np.ndarray, n: int, bos_id: int, at_start: bool = False) -> np.ndarray:
    """Packed n-grams of rows (R, T) without `bos_id` inside; with `at_start` only those that begin with
    it."""
    count = rows.shape[1] - n + 1
    if count <= 0:
        return np.empty(0, np.uint64)
    keys, keep = np.zeros((len(rows), count), np.uint64), np.ones((len(rows), count), dtype=bool)
    for j in range(n):
        ids = rows[:, j : j + count]
        keys <<= np.uint64(_BITS)
        keys |= ids.astype(np.uint64)
        if j:
            keep &= ids != bos_id
        elif at_start or n == 1:
            keep &= (ids == bos_id) == at_start
    return keys[keep]


def _discounts(counts: np.ndarray) -> np.ndarray:
    """(4,): D for counts 0 (nothing), 1, 2, and 3 or more, estimated from how many counts are 1, 2, 3 and 4.

    Where few n-grams are counted the estimate may not exist, or be so small that an unseen id gets no
    probability at all: it is then the plain discount Y of Ney, Essen and Kneser (1994), or 1/2 if that does
    not exist either.
    """
    n = [int((counts == k).sum()) for k in range(5)]
    plain = n[1] / (n[1] + 2 * n[2]) if n[1] and n[2] else 0.5
    out = [0.0, plain]
    for k in (2, 3):
        exact = k - (k + 1) * plain * n[k + 1] / n[k] if n[k] and n[k + 1] else plain
        out.append(max(exact, plain))
    return np.array(out)


__all__ = ["KneserNey", "dense_config", "rows_seen"]
