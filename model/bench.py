"""How fast the model is beside transformers' own: one process, the same weights, the same threads, turn by turn.

Both sides are timed in the same rounds, so that whatever else the machine does hits both; medians are compared.
`python -m model bench` prints the result.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from model import checkpoint
from model.config import ModelConfig
from model.deepseek_v3 import DeepseekV3
from model.engine import Engine
from model.live import SHIPPED
from model.train import TrainSettings, backward, keep_memory
from model.verify import KERNELS, need_transformers, transformers_twin

TOKENS = 32  # of a traced text, and in the cache before a decode step
# `batched_mm` copies the weights of every assignment: a training step of 2,048 tokens takes more than 20 GB, and three
# times as long as with `grouped_mm`. It is not run, so that the bench cannot take a machine down.
TRAINING_KERNELS = ("eager", "grouped_mm")
BATCH = (32, 64)  # sequences and tokens of a training step: 2,048 tokens

_MEMORY = """
import sys, torch
import model, model.checkpoint as checkpoint
from model.engine import Engine
engine = Engine(checkpoint.load(sys.argv[1]))
engine.trace(list(range(2, 34)))
kilobytes = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")]
print(int(kilobytes[0]) / 1024)
"""


def _rounds(sides: dict[str, Callable[[], Any]], rounds: int, undo: Callable[[], Any] = int) -> dict[str, float]:
    """Median milliseconds of each side; every round runs all of them once, after one unmeasured round. `undo` follows
    every run, outside the clock."""
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            took = 1000 * (time.perf_counter() - start)
            undo()
            if turn:
                spent[name].append(took)
    return {name: statistics.median(times) for name, times in spent.items()}


def _with_kernel(theirs: Any, kernel: str, act: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        theirs.set_experts_implementation(kernel)  # a field of its config: costs nothing measurable
        return act()

    return run


def _trace(engine: Engine, theirs: Any, rounds: int) -> dict[str, float]:
    ids = torch.randint(2, engine.c.vocab_size, (TOKENS,), generator=torch.Generator().manual_seed(0)).tolist()
    row = torch.tensor([ids])

    def forward() -> None:
        with torch.inference_mode():
            theirs(row, use_cache=False)

    their_sides = {kernel: _with_kernel(theirs, kernel, forward) for kernel in KERNELS}
    return _rounds({"ours": lambda: engine.trace(ids), **their_sides}, rounds)


def _decode(engine: Engine, theirs: Any, rounds: int) -> dict[str, float]:
    ids = torch.randint(2, engine.c.vocab_size, (TOKENS + 1,), generator=torch.Generator().manual_seed(1)).tolist()
    cache = engine.new_cache()
    engine.forward(ids[:-1], cache)
    with torch.inference_mode():
        their_cache = theirs(torch.tensor([ids[:-1]]), use_cache=True).past_key_values
    last = torch.tensor([ids[-1:]])

    def forward() -> None:
        with torch.inference_mode():
            theirs(last, past_key_values=their_cache, use_cache=True)

    def forget() -> None:
        cache.cut(TOKENS)
        if their_cache.get_seq_length() > TOKENS:
            their_cache.crop(TOKENS - their_cache.get_seq_length())

    return _rounds({"ours": lambda: engine.forward(ids[-1:], cache, last_only=True),
                    **{k: _with_kernel(theirs, k, forward) for k in KERNELS}}, rounds, forget)  # fmt: skip


def _train(model: DeepseekV3, theirs: Any, rounds: int, kernels: Sequence[str]) -> dict[str, float]:
    """Forward and backward of next-token prediction, no optimiser. The MTP module and the balance loss are off:
    transformers has neither in training."""
    theirs.train()
    for p in [*model.train().parameters(), *theirs.parameters()]:
        p.requires_grad_(True)
    ids = torch.randint(2, model.c.vocab_size, BATCH, generator=torch.Generator().manual_seed(2))
    settings = TrainSettings(rows=BATCH[0], length=BATCH[1], mtp_loss=0.0, balance_loss=0.0)

    def ours() -> None:
        backward(model, ids, settings)

    def forward() -> None:
        theirs.zero_grad()
        logits = theirs(ids, use_cache=False).logits
        F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()

    return _rounds({"ours": ours, **{k: _with_kernel(theirs, k, forward) for k in kernels}}, rounds)


def _speeds(name: str, times: dict[str, float]) -> dict[str, float]:
    """Tokens a second of every side, and the ratio, under `name`."""
    tokens, ours = BATCH[0] * BATCH[1], times["ours"]
    theirs = {kernel: t for kernel, t in times.items() if kernel != "ours"}
    return {
        f"{name}_tokens_per_second": 1000 * tokens / ours,
        **{f"{name}_tokens_per_second_transformers_{k}": 1000 * tokens / t for k, t in theirs.items()},
        f"ratio_{name}": min(theirs.values()) / ours,
    }


def _train_clinic(rounds: int) -> dict[str, float]:
    """The same for the clinic, on which the labs train. It is small enough for every kernel."""
    model = DeepseekV3(ModelConfig.preset("clinic").with_(num_nextn_predict_layers=0)).initialise(0)
    return _train(model, transformers_twin(model), rounds, KERNELS)


def bench(threads: int | None = None, quick: bool = False) -> dict[str, Any]:
    """Times and ratios (transformers' best / ours: above 1 is faster here), the hospital's shape, float32.

    `quick`: fewer rounds, and in training only the kernels of transformers that are fastest there (`grouped_mm`).
    UserError without transformers.
    """
    transformers = need_transformers()
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        return _bench(transformers, quick)
    finally:
        torch.set_num_threads(before)


def _bench(transformers: Any, quick: bool) -> dict[str, Any]:
    keep_memory()  # for both
    with tempfile.TemporaryDirectory() as made:
        folder = SHIPPED
        if not (folder / "config.json").is_file():  # untrained numbers take the same time
            folder = Path(made)
            checkpoint.save(DeepseekV3(ModelConfig.preset("hospital")).initialise(0), folder)
        checkpoint.load(folder)  # once unmeasured: the file comes into memory
        start = time.perf_counter()
        model = checkpoint.load(folder)
        load_seconds = time.perf_counter() - start
        megabytes = float(subprocess.run([sys.executable, "-c", _MEMORY, str(folder)], capture_output=True, text=True,
                                         check=True, cwd=Path(__file__).resolve().parents[1]).stdout)  # fmt: skip
    model.mtp = None  # transformers' model has none
    theirs, engine = transformers_twin(model), Engine(model)
    result: dict[str, Any] = {
        "threads": torch.get_num_threads(), "torch": torch.__version__, "transformers": transformers.__version__,
        "load_seconds": load_seconds, "resident_megabytes": megabytes,
    }  # fmt: skip
    for name, times in (("trace_32", _trace(engine, theirs, 5 if quick else 15)),
                        ("decode", _decode(engine, theirs, 10 if quick else 40))):  # fmt: skip
        ours = result[f"{name}_ms"] = times.pop("ours")
        result |= {f"{name}_ms_transformers_{kernel}": t for kernel, t in times.items()}
        result[f"ratio_{name}"] = min(times.values()) / ours
    kernels = ("grouped_mm",) if quick else TRAINING_KERNELS
    result |= _speeds("train", _train(model, theirs, 1 if quick else 3, kernels))
    result["train_not_run"] = "transformers with batched_mm: needs more than 20 GB"
    result |= _speeds("train_clinic", _train_clinic(1 if quick else 9))
    return result
