"""From documents to rows of token ids: the training stream and the held-out sets.

A row starts at the start of a document and is filled up with the documents that follow, `bos text eos bos text eos
...`, without a mask between them (DeepSeek-V3 section 4.1). Row r of chunk n depends on (seed, n) alone, so any step
of any run can be made again: that is what resuming and training in several processes rest on.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from model.corpus import Document, mixture
from model.tokenizer import Tokenizer

CHUNK_ROWS = 2048


def token_rows(tokenizer: Tokenizer, documents: Iterator[Document], rows: int, length: int) -> np.ndarray:
    """Pack documents into (rows, length) uint16 ids. A document that does not fit is cut at the row's end."""
    out = np.empty((rows, length), dtype=np.uint16)
    filled, row = 0, 0
    end = [tokenizer.eos_id] if tokenizer.eos_id is not None else []
    while row < rows:
        batch = [next(documents).text for _ in range(256)]
        for ids in tokenizer.encode_all(batch):
            ids = [*ids, *end][: length - filled]
            out[row, filled : filled + len(ids)] = ids
            filled += len(ids)
            if filled == length:
                row, filled = row + 1, 0
                if row == rows:
                    break
    return out


def batches(
    tokenizer: Tokenizer, documents: Iterator[Document], rows: int, length: int, ahead: int = 32
) -> Iterator[Tensor]:
    """(rows, length) int64, one after the other without end; `ahead` of them are packed at a time."""
    while True:
        packed = torch.from_numpy(token_rows(tokenizer, documents, ahead * rows, length).astype(np.int64))
        yield from packed.split(rows)


class TrainingRows:
    """The endless training set: `batch(step, rows)` is the same whoever asks, however often."""

    def __init__(self, tokenizer: Tokenizer, length: int, seed: int, own_share: float) -> None:
        self.tokenizer, self.length, self.seed, self.own_share = tokenizer, length, seed, own_share
        self._chunk = lru_cache(maxsize=2)(self._make_chunk)

    def _make_chunk(self, index: int) -> np.ndarray:
        seed = random.Random(f"{self.seed}/{index}").randrange(2**31)
        documents = mixture(seed, own_share=self.own_share)
        return token_rows(self.tokenizer, documents, CHUNK_ROWS, self.length)

    def batch(self, step: int, rows: int) -> Tensor:
        """Rows step x rows, step x rows + 1, ... as (rows, length) int64."""
        numbers = range(step * rows, (step + 1) * rows)
        picked = [self._chunk(n // CHUNK_ROWS)[n % CHUNK_ROWS] for n in numbers]
        return torch.from_numpy(np.stack(picked).astype(np.int64))
