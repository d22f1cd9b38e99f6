"""Experiments about the price of MoE: trained small in front of a class, and recorded larger with several seeds.

Each file here is one experiment: a frozen dataclass of settings, a generator `run(settings, seed)` that takes one
optimiser step at a time with the training code of `model/train.py`, and an `EXPERIMENT` that names both. What was
recorded lies in assets/labs/<name>.json, written by `python -m model lab <name>` and never by hand.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from model.errors import UserError
from model.train import THREADS

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "assets" / "labs"
_READ = ("assets/corpus", "assets/hospital/tokenizer.json")
_DIGITS = 6  # significant ones that are kept of a recorded number


class Step(NamedTuple):
    """One optimiser step, as an experiment reports it."""

    done: int  # steps taken so far, this one included
    total: int  # steps of the whole run
    tokens: int  # that this step learned from
    loss: float  # nats per token; a number that is not finite ends the run
    point: dict[str, Any] | None = None  # a row for the curves, where something was measured; JSON can hold it


class Diverged(UserError):
    """The loss is no number any more."""

    def __init__(self, step: int) -> None:
        super().__init__(
            f"The run diverged at step {step}: its loss is no number any more. Use another seed or milder settings.",
            "lab_diverged", step=step,
        )  # fmt: skip


@dataclass(frozen=True)
class Experiment:
    """What can be run, live or recorded."""

    name: str
    run: Callable[[Any, int], Iterator[Step]]  # (settings, seed)
    live: Any  # settings that end within 60 s on two cores
    recorded: Any  # settings of assets/labs/<name>.json
    weights: Callable[[Any], int]  # parameters that are trained at the same time under these settings
    seeds: tuple[int, ...] = (0, 1, 2)

    step_bytes: int = 128 * 2**20  # that a step holds beside its weights; measured: at most 127 MB with 512 tokens

    def bytes(self, settings: Any) -> int:
        """Memory that a run takes: weights, gradients (once more for each of two parts of a step) and two moments of
        AdamW in fp32, and what a step holds beside them."""
        return 4 * (4 + 2) * self.weights(settings) + self.step_bytes

    def steps(self, settings: Any, seed: int) -> Iterator[Step]:
        """`run`, ended by Diverged where a loss is no number."""
        for step in self.run(settings, seed):
            if not math.isfinite(step.loss):
                raise Diverged(step.done)
            yield step


def names() -> list[str]:
    """Every experiment there is."""
    return sorted(file.stem for file in Path(__file__).parent.glob("*.py") if not file.stem.startswith("_"))


def find(name: str) -> Experiment:
    """The experiment of that name. UserError for one that is not there."""
    if name not in names():
        raise UserError(f"There is no lab {name!r}; choose one of {', '.join(names())}.")
    return importlib.import_module(f"model.labs.{name}").EXPERIMENT


@cache
def recorded(name: str) -> dict[str, Any]:
    """What `record` wrote: command, commit, settings, and of every seed its points. UserError where nothing was."""
    try:
        return json.loads((RECORDED / f"{name}.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"The recorded runs of {name} cannot be read: {error}.", "lab_missing", name=name) from error


def record(
    name: str, seeds: Sequence[int] | None = None, report: Callable[[int, Step], None] = lambda seed, step: None
) -> dict[str, Any]:
    """Run the recorded settings once for every seed; what the file keeps of it."""
    experiment, runs = find(name), []
    commit = _commit()  # of the code that runs, whatever is committed meanwhile
    for seed in seeds or experiment.seeds:
        start, points = time.perf_counter(), []
        for step in experiment.steps(experiment.recorded, seed):
            report(seed, step)
            if step.point is not None:
                points.append(_short(step.point))
        runs.append({"seed": seed, "seconds": round(time.perf_counter() - start, 1), "points": points})
    given = "" if seeds is None else " --seeds " + " ".join(map(str, seeds))
    return {
        "lab": name, "command": f"python -m model lab {name}{given}", "commit": commit,
        "machine": {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "system": platform.machine(),
                    "torch": torch.__version__.split("+")[0]},
        "settings": asdict(experiment.recorded), "runs": runs,
    }  # fmt: skip


def replay(name: str, steps: int, seed: int | None = None) -> list[tuple[Any, Any]]:
    """Run the first `steps` steps of a recorded seed (the first one) again, with as many threads as then: pairs of the
    point that the file has and the one that comes out now. Sums may round differently on another machine."""
    experiment, file = find(name), recorded(name)
    run = next(run for run in file["runs"] if seed is None or run["seed"] == seed)
    token = THREADS.set(file["machine"]["threads"])
    try:
        taken = islice(experiment.steps(experiment.recorded, run["seed"]), steps)
        points = [_short(step.point) for step in taken if step.point is not None]
    finally:
        THREADS.reset(token)
    return list(zip(run["points"], points, strict=False))


def join(result: dict[str, Any], folder: Path = RECORDED) -> dict[str, Any]:
    """`result` with the other seeds that are in the file already, if they are of the same settings; a run of another
    commit says so. A long experiment can so be recorded a seed at a time."""
    try:
        before = json.loads((folder / f"{result['lab']}.json").read_text("utf-8"))
    except (OSError, ValueError):
        return result
    if before["settings"] != json.loads(json.dumps(result["settings"])):
        return result
    new = {run["seed"] for run in result["runs"]}
    old = [
        run if before["commit"] == result["commit"] else {"commit": before["commit"], **run}
        for run in before["runs"] if run["seed"] not in new
    ]  # fmt: skip
    runs = sorted([*old, *result["runs"]], key=lambda run: run["seed"])
    seeds = tuple(run["seed"] for run in runs)
    given = "" if seeds == find(result["lab"]).seeds else " --seeds " + " ".join(map(str, seeds))
    return {**result, "command": f"python -m model lab {result['lab']}{given}", "runs": runs}


def write(result: dict[str, Any], folder: Path = RECORDED) -> Path:
    """Keep a recorded result as a file of one line a point, which diffs well."""
    folder.mkdir(parents=True, exist_ok=True)
    runs = [
        json.dumps({k: v for k, v in run.items() if k != "points"}, ensure_ascii=False)[:-1]
        + ', "points": [\n' + ",\n".join(json.dumps(p, ensure_ascii=False) for p in run["points"]) + "\n]}"
        for run in result["runs"]
    ]  # fmt: skip
    head = json.dumps({k: v for k, v in result.items() if k != "runs"}, ensure_ascii=False)[:-1]
    path = folder / f"{result['lab']}.json"
    path.write_text(head + ', "runs": [\n' + ",\n".join(runs) + "\n]}\n", "utf-8")
    return path


def _short(value: Any) -> Any:
    """Floats to six significant digits, in whatever holds them."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _short(one) for key, one in value.items()}
    return [_short(one) for one in value] if isinstance(value, list | tuple) else value


def _commit() -> str:
    """The commit that the code is of; with a + where what was loaded of it, or what it reads, is in no commit."""
    loaded = {str(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())}
    files = sorted(file for file in loaded if file.startswith(f"{ROOT}{os.sep}model{os.sep}"))

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        open_changes = git("status", "--porcelain", "--", *files, *_READ)
        return git("rev-parse", "--short=12", "HEAD") + ("+" if open_changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


__all__ = ["Diverged", "Experiment", "Step", "find", "join", "names", "record", "recorded", "replay", "write"]
