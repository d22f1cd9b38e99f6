"""What the model reads: texts the project writes itself, and real texts whose licences allow it.

Every document carries its subject, so that what an expert likes can be measured against something known.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import everyday, hospital, numbers, world
from .real import ASSETS, SOURCES, real_documents
from .split import is_heldout
from .templates import Document, Family

__all__ = [
    "EXAMPLES",
    "FAMILIES",
    "SUBJECTS",
    "Document",
    "Family",
    "heldout",
    "is_heldout",
    "mixture",
    "own_documents",
    "real_documents",
    "training",
]

FAMILIES: list[Family] = [*everyday.FAMILIES, *hospital.FAMILIES, *numbers.FAMILIES, *world.FAMILIES]
SUBJECTS: list[str] = list(dict.fromkeys(family.subject for family in FAMILIES))
EXAMPLES: dict[str, list[str]] = json.loads((Path(ASSETS).parent / "examples.json").read_text("utf-8"))

# UTF-8 bytes to a token, measured with the shipped tokenizer; only used to keep the shares of the mixture.
_BYTES_PER_TOKEN = {"own": 3.7, "wordnet": 2.9, "cedict": 2.5, "poems": 2.0, "python": 2.9}


def _own(family: Family, rng: random.Random, split: str) -> Document:
    while True:
        text = family.text(rng)
        if is_heldout(text) == (split == "heldout"):
            return Document(text, family.subject, family.language, "own")


def own_documents(count: int, seed: int, split: str = "train") -> Iterator[Document]:
    """``count`` texts of the project's own, subjects and languages mixed; the same ones for the same seed."""
    rng = random.Random(seed)
    for _ in range(count):
        yield _own(FAMILIES[int(rng.random() * len(FAMILIES))], rng, split)


def training(families: Sequence[Family], rng: random.Random) -> Iterator[Document]:
    """Training texts of these families without end, mixed. Unlike in `_own`, a held-out text gives its turn to another
    family: recorded runs rest on this order."""
    while True:
        family = families[int(rng.random() * len(families))]
        text = family.text(rng)
        if not is_heldout(text):
            yield Document(text, family.subject, family.language, "own")


def _epochs(rng: random.Random) -> Iterator[Document]:
    documents = list(real_documents("train"))
    while True:
        rng.shuffle(documents)
        yield from documents


def mixture(seed: int, own_share: float = 0.6) -> Iterator[Document]:
    """Training documents without end: ``own_share`` of the tokens our own, made fresh, the rest real."""
    rng = random.Random(seed)
    real = _epochs(random.Random(seed + 1)) if own_share < 1 else iter(())
    balance = 0.0  # how many tokens real texts are behind their share
    while True:
        if balance <= 0 or own_share >= 1:
            doc = _own(FAMILIES[int(rng.random() * len(FAMILIES))], rng, "train")
            balance += len(doc.text.encode()) / _BYTES_PER_TOKEN["own"] * (1 - own_share)
        else:
            doc = next(real)
            balance -= len(doc.text.encode()) / _BYTES_PER_TOKEN[doc.source] * own_share
        yield doc


def heldout(n_per_subject: int, seed: int = 58) -> list[Document]:
    """The fixed test: n unseen texts of each own subject in each language, and of each real source."""
    documents: list[Document] = []
    for number, family in enumerate(FAMILIES):
        rng, texts = random.Random(seed * 1000 + number), {}
        for _ in range(50 * n_per_subject):  # a small family may hold out fewer than asked for
            doc = _own(family, rng, "heldout")
            texts[doc.text] = doc
            if len(texts) == n_per_subject:
                break
        documents += texts.values()
    for source in SOURCES:
        found = list(real_documents("heldout", [source]))
        documents += random.Random(seed).sample(found, min(n_per_subject, len(found)))
    return documents
