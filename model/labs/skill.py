"""A new skill: miniatures that have never seen a sum are taught sums, with all of their weights or with some.

A dense and an MoE miniature of equal active size read the project's own corpus without one subject ("school"). Then
that subject is all they read, and two things are measured on held-out texts: what the new subject's tokens cost, and
what those of all the others cost. The MoE miniature is taught in four ways: all weights; its routed experts only; all
but the receptionist (gate and selection bias); only the experts that the new subject wakes. The last is the idea of
ESFT (Wang et al. 2024, arXiv 2407.01906): of each layer the fewest experts that get a given part of the subject's
assignments, everything else frozen. What is frozen stays so to the last bit.

`python -m model lab skill` sends every seed to school itself and keeps seed 0's miniatures in assets/labs/skill, from
which a live run starts. They are kept in bf16, and every recorded run goes on from weights rounded in the same way.
"""

from __future__ import annotations

import copy
import itertools
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model import checkpoint
from model.baselines import dense_config
from model.config import ModelConfig
from model.corpus import FAMILIES, Document, heldout, training
from model.costs import parameters
from model.data import batches
from model.deepseek_v3 import DeepseekV3
from model.errors import UserError
from model.evaluate import encode, read
from model.labs import RECORDED, Experiment, Step
from model.tokenizer import Tokenizer
from model.train import TrainSettings, optimiser, take_step

SUBJECT = "sums"
KINDS = ("moe", "dense")  # of miniatures
ARMS = ("dense", "moe", "interns", "receptionist", "awake")  # of teaching, see `taught`
KEPT = RECORDED / "skill"
KEPT_SEED = 0


@dataclass(frozen=True)
class SkillSettings:
    """Everything that decides what is learned, but for the seed."""

    arms: tuple[str, ...] = ARMS
    school: int = 0  # steps of pre-training; 0: begin with the kept miniatures
    keep: bool = False  # seed 0's miniatures after school, in `KEPT`
    steps: int = 40  # of teaching, each arm
    rows: int = 16  # sequences of a step of teaching
    school_rows: int = 32
    length: int = 64  # tokens of a sequence
    learning_rate: float = 2e-3  # of teaching; the same for all arms
    school_learning_rate: float = 3e-3
    share: float = 0.5  # of the new subject's assignments that the awake interns have
    texts: int = 24  # held-out ones of the new subject in each language
    other_texts: int = 3  # of each other subject in each language
    marks: tuple[int, ...] = (5, 10, 20, 30, 40)  # steps of teaching after which is measured
    layers: int = 3
    heads: int = 8

    def config(self, kind: str) -> ModelConfig:
        """The miniature's shape."""
        moe = ModelConfig.preset("clinic").with_(
            num_hidden_layers=self.layers, num_attention_heads=self.heads, num_nextn_predict_layers=0
        )
        dense = dense_config(moe)
        return dense if kind == "dense" else moe.with_(intermediate_size=dense.intermediate_size)

    def training(self, arm: str) -> TrainSettings:
        """Teaching, the optimiser's part. A frozen receptionist's bias is not nudged."""
        return TrainSettings(
            steps=self.steps, rows=self.rows, length=self.length, learning_rate=self.learning_rate,
            warmup=min(5, self.steps), mtp_loss=0.0, bias_speed=TrainSettings.bias_speed if arm == "moe" else 0.0,
        )  # fmt: skip

    @property
    def schooling(self) -> TrainSettings:
        """Pre-training, the optimiser's part."""
        return TrainSettings(steps=self.school, rows=self.school_rows, length=self.length, mtp_loss=0.0,
                             learning_rate=self.school_learning_rate, warmup=min(50, self.school // 5))  # fmt: skip


def documents(new: bool, seed: int) -> Iterator[Document]:
    """Training texts without end: of the new subject only, or of all others, languages mixed."""
    families = [family for family in FAMILIES if (family.subject == SUBJECT) == new]
    return training(families, random.Random(f"{seed}/{new}"))


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer.load()


def reading(new: bool, steps: int, rows: int, length: int, seed: int) -> Iterator[Tensor]:
    """Batches (rows, length) of ids."""
    return batches(_tokenizer(), documents(new, seed), rows, length, ahead=min(steps, 32))


# -- what is measured -------------------------------------------------------------------------------------------------


@cache
def _texts(new: bool, each: int, length: int) -> list[list[int]]:
    """Held-out texts as ids: `each` of the new subject, or of all others, in each language."""
    found = [d for d in heldout(each) if d.source == "own" and (d.subject == SUBJECT) == new]
    return encode(_tokenizer(), found, length)


class Losses(NamedTuple):
    """Nats per token of held-out texts."""

    new: float  # of the subject that is taught
    old: float  # of all others


def measure(model: DeepseekV3, settings: SkillSettings) -> Losses:
    """What `model` can, of the new and of the old."""
    return Losses(
        *(
            float(read(model, _texts(new, each, settings.length)).scores.loss.mean(dtype="float64"))
            for new, each in ((True, settings.texts), (False, settings.other_texts))
        )
    )


def calls(model: DeepseekV3, seed: int, settings: SkillSettings) -> Tensor:
    """How often each routed expert is chosen on texts of the new subject, (MoE layers, E): the texts that the first
    steps of teaching will show."""
    source = documents(True, seed)
    texts = [next(source) for _ in range(8 * settings.rows)]
    return read(model, encode(_tokenizer(), texts, settings.length)).chosen.sum(0)


def awake(calls: Tensor, share: float) -> list[list[int]]:
    """Of every layer the fewest experts that got at least `share` of its assignments, the busiest first."""
    layers = []
    for layer in calls.double():
        most = layer.sort(descending=True, stable=True)
        before = most.values.cumsum(0) - most.values
        layers.append(most.indices[before < share * layer.sum()].tolist())
    return layers


# -- who is taught ----------------------------------------------------------------------------------------------------


def taught(model: DeepseekV3, arm: str, woken: Sequence[Sequence[int]]) -> dict[str, Tensor | bool]:
    """Of every parameter whether it learns: True, False, or (E + S) bool with one entry an expert."""
    if arm not in ARMS:
        raise UserError(f"There is no way of teaching {arm!r}; choose one of {', '.join(ARMS)}.")
    learns: dict[str, Tensor | bool] = {}
    for name, _ in model.named_parameters():
        gate, experts = ".mlp.gate." in name, ".mlp.experts." in name
        learns[name] = arm in ("dense", "moe") or (arm == "receptionist" and not gate)
        if experts and arm in ("interns", "awake"):
            layer = int(name.split(".")[1]) - model.c.first_k_dense_replace
            rows = torch.zeros(model.c.n_routed_experts + model.c.n_shared_experts, dtype=torch.bool)
            rows[list(range(model.c.n_routed_experts)) if arm == "interns" else list(woken[layer])] = True
            learns[name] = rows
    return learns


def teach_only(model: DeepseekV3, optimiser: torch.optim.Optimizer, learns: Mapping[str, Tensor | bool]) -> int:
    """Freeze what does not learn, and return how many numbers do.

    A whole parameter gets no gradient and the optimiser leaves it out. Of a parameter that learns in part the other
    experts get a gradient of zero, so that clipping does not see them; and since weight decay would move them all the
    same, they are put back after every step. They stay what they were to the last bit.
    """
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    count = 0
    for name, parameter in model.named_parameters():
        rows = learns[name]
        if isinstance(rows, bool):
            parameter.requires_grad_(rows)
            count += rows * parameter.numel()
            continue
        mask = rows.view(-1, *[1] * (parameter.dim() - 1))
        parameter.register_hook(lambda gradient, mask=mask: gradient * mask)
        parts.append((parameter, ~rows, parameter.detach()[~rows].clone()))
        count += int(rows.sum()) * parameter[0].numel()

    def put_back(*_: Any) -> None:
        with torch.no_grad():
            for parameter, frozen, kept in parts:
                parameter[frozen] = kept

    optimiser.register_step_post_hook(put_back)
    return count


# -- the runs ---------------------------------------------------------------------------------------------------------


def kept(kind: str) -> DeepseekV3:
    """A miniature that has been to school and has never seen the new subject."""
    return checkpoint.load(KEPT / kind)


def _rounded(model: DeepseekV3, kind: str, folder: Path) -> DeepseekV3:
    """The same miniature as it is read back from `folder`: in bf16, but for gates and norms."""
    checkpoint.save(model, folder / kind, fp8=False)
    return checkpoint.load(folder / kind)


def _school(settings: SkillSettings, seed: int, total: int) -> Iterator[Step | dict[str, DeepseekV3]]:
    """Pre-train both kinds on the same texts; the last thing that comes are the miniatures."""
    training = settings.schooling
    models = {kind: DeepseekV3(settings.config(kind)).initialise(seed) for kind in KINDS}
    optimisers = {kind: optimiser(model, training) for kind, model in models.items()}
    batches = reading(False, settings.school, settings.school_rows, settings.length, seed)
    done = 0
    for step in range(settings.school):
        batch = next(batches)
        for kind, model in models.items():
            row = take_step(model, optimisers[kind], batch, training, step)
            done += 1
            point = None
            if (step + 1) % max(1, settings.school // 8) == 0:
                point = {"part": "school", "arm": kind, "step": step + 1, **measure(model, settings)._asdict()}
            yield Step(done, total, batch.numel(), row["loss"], point)
    yield models


def run(settings: SkillSettings, seed: int) -> Iterator[Step]:
    """School where it is asked for, then all arms side by side on the same texts.

    Points: {"part": "school", arm, step, new, old}; then one {"part": "start"} with what every kind can, which experts
    are awake and how many numbers each arm changes; then {"part": "skill", arm, step, new, old}.
    """
    if not set(settings.arms) <= set(ARMS) or not settings.arms:
        raise UserError(f"Choose from {', '.join(ARMS)}.")
    done, total = 0, settings.school * len(KINDS) + settings.steps * len(settings.arms)
    if settings.school:
        models: dict[str, DeepseekV3] = {}
        for came in _school(settings, seed, total):
            if isinstance(came, Step):
                done = came.done
                yield came
            else:
                models = came
        with tempfile.TemporaryDirectory() as scratch:
            folder = KEPT if settings.keep and seed == KEPT_SEED else Path(scratch)
            models = {kind: _rounded(model, kind, folder) for kind, model in models.items()}
    else:
        models = {kind: kept(kind) for kind in KINDS}
    start = {kind: measure(model, settings)._asdict() for kind, model in models.items()}
    called = calls(models["moe"], seed, settings)
    woken = awake(called, settings.share)
    pupils = {arm: copy.deepcopy(models["dense" if arm == "dense" else "moe"]).train() for arm in settings.arms}
    for pupil in pupils.values():
        pupil.requires_grad_(True)
    optimisers = {arm: optimiser(pupil, settings.training(arm)) for arm, pupil in pupils.items()}
    learn = {arm: teach_only(pupil, optimisers[arm], taught(pupil, arm, woken)) for arm, pupil in pupils.items()}
    point: dict[str, Any] | None = {
        "part": "start", **start, "calls": called.tolist(), "awake": woken, "taught": learn,
    }  # fmt: skip
    batches = reading(True, settings.steps, settings.rows, settings.length, seed)
    for step in range(settings.steps):
        batch = next(batches)
        for arm, pupil in pupils.items():
            row = take_step(pupil, optimisers[arm], batch, settings.training(arm), step)
            done += 1
            if point is None and step + 1 in settings.marks:
                point = {"part": "skill", "arm": arm, "step": step + 1, **measure(pupil, settings)._asdict()}
            yield Step(done, total, batch.numel(), row["loss"], point)
            point = None


# -- what was found ---------------------------------------------------------------------------------------------------


class Lesson(NamedTuple):
    """One arm at one moment of its teaching."""

    step: int
    new: float  # nats per token
    old: float
    gained: float  # nats that the new subject's tokens cost less than at the start
    lost: float  # nats that the others' cost more


def start_of(points: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The point in which teaching begins; LookupError where it has not."""
    return next(point for point in points if point["part"] == "start")


def lessons(points: Sequence[Mapping[str, Any]], arm: str) -> list[Lesson]:
    """An arm's teaching so far, its start included."""
    begin = start_of(points)["dense" if arm == "dense" else "moe"]
    taken = [(0, begin["new"], begin["old"])]
    taken += [(p["step"], p["new"], p["old"]) for p in points if p["part"] == "skill" and p["arm"] == arm]
    return [Lesson(step, new, old, begin["new"] - new, old - begin["old"]) for step, new, old in taken]


def lost_at(path: Sequence[Lesson], gain: float) -> float | None:
    """What is lost of the old when `gain` nats are gained for the first time, on straight lines between what was
    measured; None where that much never is."""
    for before, after in itertools.pairwise(path):
        if before.gained <= gain <= after.gained:
            way = (gain - before.gained) / ((after.gained - before.gained) or 1.0)
            return before.lost + way * (after.lost - before.lost)
    return None


def common_gain(runs: Sequence[Mapping[str, Any]], arms: Sequence[str] = ARMS) -> float:
    """What every arm of every run has gained at some moment: the smallest of their largest gains."""
    return min(max(lesson.gained for lesson in lessons(run["points"], arm)) for run in runs for arm in arms)


def weights(settings: SkillSettings) -> int:
    """Parameters in training at the same time; frozen ones are counted too."""
    arms = sum(parameters(settings.config("dense" if arm == "dense" else "moe")).main for arm in settings.arms)
    return max(arms, sum(parameters(settings.config(kind)).main for kind in KINDS) if settings.school else 0)


EXPERIMENT = Experiment(
    "skill", run, live=SkillSettings(),
    recorded=SkillSettings(school=240, keep=True, steps=100, marks=(2, 5, 10, 20, 40, 60, 80, 100)), weights=weights,
)  # fmt: skip
