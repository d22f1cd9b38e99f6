"""One task or many: how far an MoE is ahead of a dense model where all texts are of one kind, and where they are not.

The talk's last advice is an MoE for many mixed tasks and a dense model for a single, uniform one. Two miniatures of
equal active size (`miniatures.arm`: the dense one and the V3-style one) are trained on as many tokens of the project's
own texts: once on all subjects mixed, once on a single subject. Each pair then reads held-out texts of what it was
taught. In both languages; which subject is the single one goes with the seed, so that nothing hangs on one of them.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from model.corpus import FAMILIES, Family, heldout, training
from model.data import batches
from model.evaluate import encode, read
from model.families import Family as Network
from model.labs import Experiment, Step
from model.labs.miniatures import Lessons, arm, parameters
from model.tokenizer import Tokenizer
from model.train import optimiser, take_step

KINDS = ("mixed", "single")  # of tasks
ARMS = ("dense", "v3")  # of miniatures
SUBJECTS = ("clinic", "sums", "stories", "travel")  # the single task of seed 0, 1, 2, 3, and so on around


@dataclass(frozen=True, kw_only=True)
class Settings(Lessons):
    """Everything that decides what is learned, but for the seed."""

    kinds: tuple[str, ...] = KINDS
    single_texts: int = 48  # held-out ones of the single subject in each language
    mixed_texts: int = 3  # of each subject in each language


def subject(seed: int) -> str:
    """The single task of a seed."""
    return SUBJECTS[seed % len(SUBJECTS)]


def families(kind: str, seed: int) -> list[Family]:
    """Who writes the texts of that kind of task."""
    return FAMILIES if kind == "mixed" else [family for family in FAMILIES if family.subject == subject(seed)]


@cache
def _texts(only: str | None, each: int, length: int) -> list[list[int]]:
    """Held-out texts as ids, `each` of one subject, or of all, in each language."""
    found = [d for d in heldout(each) if d.source == "own" and only in (None, d.subject)]
    return encode(Tokenizer.load(), found, length)


def run(settings: Settings, seed: int) -> Iterator[Step]:
    """All miniatures side by side, a step of each in turn. A point is one reading of the held-out texts by one."""
    tokens = settings.rows * settings.length
    pupils = []
    for kind in settings.kinds:
        only = subject(seed) if kind == "single" else None
        texts = _texts(only, settings.single_texts if only else settings.mixed_texts, settings.length)
        lessons = training(families(kind, seed), random.Random(f"{seed}/{kind}"))
        stream = itertools.tee(batches(Tokenizer.load(), lessons, settings.rows, settings.length), len(ARMS))
        for name, source in zip(ARMS, stream, strict=True):  # the same texts in the same order
            model, how = Network(arm(name).config).initialise(seed), settings.training(name)
            pupils.append((kind, name, model, optimiser(model, how), how, source, texts))
    done = 0
    for step in range(1, settings.steps + 1):
        for kind, name, model, adam, how, source, texts in pupils:
            row = take_step(model, adam, next(source), how, step - 1)
            done, point = done + 1, None
            if step in settings.due:
                point = {
                    "kind": kind, "subject": subject(seed) if kind == "single" else None, "arm": name, "step": step,
                    "tokens": step * tokens, "loss": row["loss"],
                    "heldout": float(read(model, texts).scores.loss.mean(dtype=float)),
                }  # fmt: skip
            yield Step(done, settings.steps * len(pupils), tokens, row["loss"], point)


# -- what is concluded -------------------------------------------------------------------------------------------------


def curve(points: Sequence[dict[str, Any]], kind: str, name: str) -> list[dict[str, Any]]:
    """One miniature's readings, in order."""
    return [point for point in points if (point["kind"], point["arm"]) == (kind, name)]


def ends(runs: Sequence[dict[str, Any]], kind: str, name: str) -> list[float]:
    """Held-out loss (nats per token) of a miniature at the end of every run."""
    return [curve(run["points"], kind, name)[-1]["heldout"] for run in runs]


def leads(runs: Sequence[dict[str, Any]], kind: str) -> list[float]:
    """How much lower the MoE's loss is than the dense one's at the end of every run (nats per token)."""
    return [dense - moe for dense, moe in zip(*(ends(runs, kind, name) for name in ARMS), strict=True)]


def gains(runs: Sequence[dict[str, Any]]) -> list[float]:
    """How much larger the MoE's lead is on the single task than on many, run by run."""
    return [single - mixed for single, mixed in zip(leads(runs, "single"), leads(runs, "mixed"), strict=True)]


EXPERIMENT = Experiment(
    "tasks", run,
    live=Settings(kinds=("mixed",), steps=80, rows=16, length=64, marks=8, single_texts=24, mixed_texts=2),
    recorded=Settings(steps=240, rows=64, length=64, marks=8),  # three times as many tokens as `miniatures` has
    weights=lambda settings: len(settings.kinds) * sum(parameters(name)[0] for name in ARMS),
    seeds=(0, 1, 2, 3),
    step_bytes=224 * 2**20,  # as for `miniatures`; measured: 192 MB
)  # fmt: skip
