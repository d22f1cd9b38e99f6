"""Training: `python -m model train --help`.

What V3 does, at a hundred-thousandth of the size (arXiv 2412.19437, section 4.2): AdamW (0.9, 0.95, decay 0.1, clip
1.0), warm-up and cosine, load balancing by nudging the selection bias once per optimiser step from the loads of the
whole global batch (frozen at the end), a very small sequence-wise balance loss, and a multi-token-prediction loss.
Depth can be grown: few layers see most of the tokens, then every MoE layer is copied along the depth.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from model.config import ModelConfig
from model.data import TrainingRows
from model.deepseek_v3 import DeepseekV3, MoE, Routing
from model.errors import UserError
from model.kernels import linear_cross_entropy
from model.tokenizer import Tokenizer


class TrainingError(UserError):
    """Training cannot start or go on; the message says why and what to do."""


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides what is learned. Two runs with equal settings give equal losses."""

    steps: int = 1000
    rows: int = 64  # sequences of the global batch, over all processes
    length: int = 64  # tokens of a sequence
    learning_rate: float = 3e-3
    final_learning_rate: float = 1e-4
    warmup: int = 100
    weight_decay: float = 0.1
    bias_speed: float = 0.003  # gamma: how far the selection bias moves per step
    bias_freeze: float = 0.05  # last part of the steps in which the bias stands still (V3: 0.034)
    balance_loss: float = 1e-4  # alpha of the sequence-wise loss
    mtp_loss: float = 0.3  # lambda
    own_share: float = 0.6  # part of the tokens that the project's own corpus gives
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "steps": (1, 10**7), "rows": (1, 2**16), "length": (4, 2**16), "learning_rate": (0, 1),
            "final_learning_rate": (0, 1), "warmup": (0, 10**7), "weight_decay": (0, 10), "bias_speed": (0, 1),
            "bias_freeze": (0, 1), "balance_loss": (0, 10), "mtp_loss": (0, 10), "own_share": (0, 1),
            "seed": (0, 2**31),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:  # also refuses NaN
                raise TrainingError(f"--{name.replace('_', '-')} must be between {low} and {high:,}, not {value}.")
        if self.rows * self.length > 2**22:
            raise TrainingError(f"{self.rows} rows of {self.length} tokens do not fit in memory; use fewer.")

    def rate(self, step: int) -> float:
        """Learning rate at `step`: linear warm-up, then cosine to the final one."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(self.steps - self.warmup, 1)
        down = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * down


# -- what is minimised ----------------------------------------------------------------------------------------------


def sequence_balance_loss(routing: Routing, sequences: int, k: int) -> Tensor:
    """sum_i f_i P_i per sequence (Eq. 17-20), averaged over the sequences; 1 when perfectly even.

    f counts the experts that were chosen. The report's f counts the top-k of the scores without the bias; at a weight
    of 1e-4 the difference does not show, and a second top-k would cost 8 % of the training time.
    """
    scores = routing.scores.view(sequences, -1, routing.scores.shape[-1])
    share = (scores / scores.sum(-1, keepdim=True)).mean(1)  # P: (sequences, E)
    chosen = routing.chosen.view(sequences, -1)
    frequency = torch.zeros_like(share).scatter_add_(1, chosen, torch.ones_like(chosen, dtype=share.dtype))
    frequency *= scores.shape[-1] / chosen.shape[1]
    return (frequency * share).sum(-1).mean()


@dataclass
class Losses:
    total: Tensor
    next_token: Tensor
    mtp: Tensor
    loads: list[Tensor]  # per router, (E,) how many assignments each expert got


def losses(model: DeepseekV3, ids: Tensor, settings: TrainSettings) -> Losses:
    """Forward pass and every loss on ids (B, T)."""
    states, guess, routings = model(ids)
    d = states.shape[-1]
    head = model.lm_head.weight
    next_token = linear_cross_entropy(states[:, :-1].reshape(-1, d), head, ids[:, 1:].reshape(-1))
    total, mtp = next_token, next_token.new_zeros(())
    if guess is not None and settings.mtp_loss:
        mtp = linear_cross_entropy(guess[:, :-1].reshape(-1, d), head, ids[:, 2:].reshape(-1))
        total = total + settings.mtp_loss * mtp
    if settings.balance_loss and routings:
        even = [sequence_balance_loss(r, ids.shape[0], model.c.num_experts_per_tok) for r in routings]
        total = total + settings.balance_loss * torch.stack(even).mean()
    experts = model.c.n_routed_experts
    loads = [torch.bincount(r.chosen.reshape(-1), minlength=experts) for r in routings]
    return Losses(total, next_token.detach(), mtp.detach(), loads)


_MOST_PARTS = 4  # each part holds a gradient of the whole model
THREADS: ContextVar[int | None] = ContextVar("threads", default=None)
"""Threads that a step may use, where that is not what torch was told (a run beside others in one process)."""


_POOLS = threading.local()


def _pool(parts: int, threads: int) -> ThreadPoolExecutor:
    """`parts` workers with `threads` each, kept for the next step of the thread that asks: a new worker would begin
    with no memory of its own, and a step of the clinic take half as long again."""
    kept, pool = getattr(_POOLS, "now", (None, None))
    if pool is None or kept != (parts, threads):
        pool = ThreadPoolExecutor(parts, "step", initializer=torch.set_num_threads, initargs=(threads,))
        _POOLS.now = (parts, threads), pool
    return pool


def backward(model: DeepseekV3, ids: Tensor, settings: TrainSettings) -> Losses:
    """Every loss on ids (B, T), and its gradient in every parameter's `.grad`.

    On a CPU the rows are dealt to as many parts as there are threads, each of which runs on one: operations of this
    size hardly use two cores, two parts do. Parts are added in a fixed order, so that a run can be repeated exactly.
    """
    threads = THREADS.get() or torch.get_num_threads()
    parts = min(threads, _MOST_PARTS, len(ids)) if ids.device.type == "cpu" else 1
    model.zero_grad()
    if parts == 1:
        result = losses(model, ids, settings)
        result.total.backward()
        return result
    parameters = [p for p in model.parameters() if p.requires_grad]

    def one(rows: Tensor) -> tuple[Losses, tuple[Tensor | None, ...]]:
        part = losses(model, rows, settings)
        return part, torch.autograd.grad(part.total * (len(rows) / len(ids)), parameters, allow_unused=True)

    done = list(_pool(parts, threads // parts).map(one, ids.tensor_split(parts)))
    for parameter, *gradients in zip(parameters, *(gradients for _, gradients in done), strict=True):
        for gradient in (g for g in gradients if g is not None):
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
    several = [part for part, _ in done]
    shares = torch.tensor([len(rows) / len(ids) for rows in ids.tensor_split(parts)])
    total, next_token, mtp = (
        (torch.stack([getattr(part, name).detach() for part in several]) * shares).sum()
        for name in ("total", "next_token", "mtp")
    )
    loads = [torch.stack(parts_of_it).sum(0) for parts_of_it in zip(*(part.loads for part in several), strict=True)]
    return Losses(total, next_token, mtp, loads)


@torch.no_grad()
def nudge_biases(model: DeepseekV3, loads: Tensor, speed: float) -> None:
    """b += speed x (sign(mean load - load) - mean of the signs), per router; loads (routers, E) of the global batch.

    Without the last term all biases drift together; it changes no choice (arXiv 2502.16982).
    """
    for router, load in zip(model.routers(), loads.float(), strict=True):
        sign = (load.mean() - load).sign()
        router.e_score_correction_bias += speed * (sign - sign.mean())


# -- growing --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def grow(model: DeepseekV3, layers: int, noise: float = 0.1, seed: int = 0) -> DeepseekV3:
    """A deeper model that computes nearly the same: every later layer copied along the depth, outputs divided.

    The first dense layers stay as they are (a dense baseline's first three: it grows like the model it is compared
    with). n copies of a layer that each add 1/n of its output add about the same together, since one copy changes the
    state that the next one reads only a little. `noise` (relative) on gates and experts lets the copies part ways.
    """
    c = model.c
    if layers < c.num_hidden_layers:
        raise TrainingError(f"The model has {c.num_hidden_layers} layers already; it cannot grow to {layers}.")
    generator = torch.Generator().manual_seed(seed)
    dense = not c.num_moe_layers
    changes = {"num_hidden_layers": layers, **({"first_k_dense_replace": layers} if dense else {})}
    grown = DeepseekV3(c.with_(**changes))
    first = min(3, c.num_hidden_layers - 1) if dense else c.first_k_dense_replace
    old, new = c.num_hidden_layers - first, layers - first
    source = [first + i * old // new for i in range(new)]
    state = model.state_dict()
    target = {k: v for k, v in state.items() if not k.startswith("layers.") or int(k.split(".")[1]) < first}
    for i, origin in enumerate(source):
        copies = source.count(origin)
        for key, value in state.items():
            if not key.startswith(f"layers.{origin}."):
                continue
            name = key.split(".", 2)[2]
            if name.endswith(("o_proj.weight", "experts.down", "down_proj.weight")):
                value = value / copies
            if name.endswith(("gate.weight", "experts.gate_up", "experts.down", "mlp.gate_proj.weight")):
                value = value + noise * value.std() * torch.randn(value.shape, generator=generator)
            target[f"layers.{first + i}.{name}"] = value
    grown.load_state_dict(target)
    return grown


@torch.no_grad()
def renumber(model: DeepseekV3, seed: int = 0) -> DeepseekV3:
    """The same function with the routed experts of every MoE layer under new numbers, in place; groups stay together.

    A number says nothing from one layer to the next when every layer was trained by itself. Copies of a grown layer
    would keep their origin's numbers, and look alike for a reason that has nothing to do with what they compute.
    """
    c, generator = model.c, torch.Generator().manual_seed(seed)
    size = c.n_routed_experts // c.n_group
    for layer in [*model.layers, *([model.mtp.block] if model.mtp is not None else [])]:
        if not isinstance(layer.mlp, MoE):
            continue
        groups = torch.randperm(c.n_group, generator=generator).tolist()
        order = torch.cat([g * size + torch.randperm(size, generator=generator) for g in groups])
        router, experts, routed = layer.mlp.gate, layer.mlp.experts, c.n_routed_experts
        for tensor in (router.weight, router.e_score_correction_bias, experts.gate_up, experts.down):
            tensor[:routed] = tensor[order].clone()
    return model


# -- the run --------------------------------------------------------------------------------------------------------


def keep_memory() -> None:
    """Ask glibc to keep freed memory: giving large blocks back and faulting them in again doubles a step's time."""
    if sys.platform == "linux":
        import ctypes

        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 64 << 20)):  # MMAP_MAX, TRIM_THRESHOLD, TOP_PAD
                libc.mallopt(option, value)


def optimiser(model: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW; norms and embedding are not decayed."""
    decay: list[Tensor] = []
    keep: list[Tensor] = []
    for name, p in model.named_parameters():
        (keep if p.dim() == 1 or name == "embed_tokens.weight" else decay).append(p)
    groups = [{"params": decay, "weight_decay": settings.weight_decay}, {"params": keep, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.95), eps=1e-10, fused=True)


def take_step(
    model: DeepseekV3, optimiser: torch.optim.Optimizer, ids: Tensor, settings: TrainSettings, step: int,
    share: Callable[[Tensor, Tensor], None] | None = None,
) -> dict[str, float]:  # fmt: skip
    """One optimiser step on ids (B, T), the `step`-th (from 0) of a run; what is worth keeping of it.

    `share(loads, numbers)` makes gradients, loads and losses those of a global batch, in place. TrainingError where the
    gradient is not finite; the weights are then as they were.
    """
    start = time.perf_counter()
    for group in optimiser.param_groups:
        group["lr"] = settings.rate(step)
    result = backward(model, ids, settings)
    loads = torch.stack(result.loads) if result.loads else torch.zeros(0, 1)
    numbers = torch.stack([result.next_token, result.mtp])
    if share:
        share(loads, numbers)
    norm = nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    if not bool(torch.isfinite(norm)):
        raise TrainingError(f"The gradient is not finite at step {step}; lower --learning-rate and resume.",
                            "lab_diverged", step=step)  # fmt: skip
    optimiser.step()
    if step < settings.steps * (1 - settings.bias_freeze):
        nudge_biases(model, loads, settings.bias_speed)
    load = loads.float()
    return {
        "step": step + 1, "loss": float(numbers[0]), "mtp_loss": float(numbers[1]), "grad_norm": float(norm),
        "learning_rate": optimiser.param_groups[0]["lr"],
        "max_vio": float((load.amax(1) / load.mean(1) - 1).mean()) if len(load) else 0.0,
        "dead_experts": int((load == 0).sum()), "seconds": time.perf_counter() - start,
    }  # fmt: skip


def _step_of(line: str) -> float:
    """The step of a line of the metrics file; a line that a kill cut short belongs to no saved step."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return math.inf


class Run:
    """One training run in a folder: `state.safetensors` (weights, moments), `run.json`, `metrics.jsonl`.

    `advance` takes one optimiser step; `save` and `resume` lose nothing: the next step after a resume is the step
    that would have come. In several processes (torchrun) each takes its part of every global batch.
    """

    def __init__(self, folder: Path, config: ModelConfig, settings: TrainSettings, tokenizer: Tokenizer,
                 model: DeepseekV3 | None = None, device: str = "cpu") -> None:  # fmt: skip
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        if settings.rows % self.world:
            raise TrainingError(f"{settings.rows} rows cannot be shared by {self.world} processes; use a multiple.")
        self.folder, self.settings, self.device = folder, settings, device
        self.model = (model or DeepseekV3(config).initialise(settings.seed)).to(device)
        self.optimiser = optimiser(self.model, settings)
        self.rows = TrainingRows(tokenizer, settings.length, settings.seed, settings.own_share)
        self.step, self.seconds = 0, 0.0
        self.last: dict[str, float] = {}  # the newest row of the metrics

    # -- one step

    def _share(self, loads: Tensor, numbers: Tensor) -> None:
        """Average the gradients and the losses over the processes, and add up the loads."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        dist.all_reduce(flat)
        flat /= self.world
        for g, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            g.copy_(part.view_as(g))
        dist.all_reduce(loads)
        dist.all_reduce(numbers)
        numbers /= self.world

    def advance(self) -> dict[str, float]:
        """One optimiser step on the next global batch; returns what the metrics file keeps of it."""
        s = self.settings
        ids = self.rows.batch(self.step, s.rows)[self.rank :: self.world].to(self.device)
        row = take_step(self.model, self.optimiser, ids, s, self.step, self._share if self.world > 1 else None)
        self.step += 1
        self.seconds += row["seconds"]
        tokens = s.rows * s.length
        return {**row, "tokens": self.step * tokens, "tokens_per_second": tokens / row["seconds"],
                "seconds": self.seconds}  # fmt: skip

    # -- stop and resume

    def save(self) -> None:
        """Write everything that the next step depends on; a kill while writing leaves the older state whole."""
        if self.rank:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for name, p in self.model.named_parameters():
            for moment in ("exp_avg", "exp_avg_sq"):
                if moment in self.optimiser.state.get(p, {}):
                    tensors[f"{moment}.{name}"] = self.optimiser.state[p][moment]
        # One file holds all: weights and step can never belong to different moments.
        run = {"config": self.model.c.to_dict(), "settings": asdict(self.settings), "step": self.step,
               "seconds": self.seconds}  # fmt: skip
        scratch = self.folder / "state.partial"
        save_file({k: v.contiguous() for k, v in tensors.items()}, scratch, metadata={"run": json.dumps(run)})
        os.replace(scratch, self.folder / "state.safetensors")

    @staticmethod
    def read(folder: Path) -> tuple[ModelConfig, TrainSettings, int, float]:
        """What a run folder was started with and how far it got."""
        try:
            with safe_open(folder / "state.safetensors", "pt") as file:
                run = json.loads(file.metadata()["run"])
        except Exception as error:
            raise TrainingError(f"{folder} holds no training state that can be resumed: {error}") from error
        return ModelConfig.from_dict(run["config"]), TrainSettings(**run["settings"]), run["step"], run["seconds"]

    def load(self) -> None:
        """Take up the state in the folder; the metrics file is cut back to the step it belongs to."""
        _, _, step, seconds = self.read(self.folder)
        with safe_open(self.folder / "state.safetensors", "pt", device=self.device) as file:
            keys = set(file.keys())
            self.model.load_state_dict({k[6:]: file.get_tensor(k) for k in keys if k.startswith("model.")})
            for name, p in self.model.named_parameters():
                if f"exp_avg.{name}" in keys:
                    self.optimiser.state[p] = {
                        "step": torch.tensor(float(step), device=p.device if p.is_cuda else "cpu"),
                        "exp_avg": file.get_tensor(f"exp_avg.{name}"),
                        "exp_avg_sq": file.get_tensor(f"exp_avg_sq.{name}"),
                    }
        self.step, self.seconds = step, seconds
        metrics = self.folder / "metrics.jsonl"
        if self.rank == 0 and metrics.exists():
            lines = [line for line in metrics.read_text().splitlines() if _step_of(line) <= step]
            metrics.write_text("".join(line + "\n" for line in lines))

    def go(self, save_every: float = 180.0, until: int | None = None,
           report: Callable[[dict[str, float]], None] | None = None) -> None:  # fmt: skip
        """Train to the end (or to step `until`), saving every `save_every` seconds and at the end."""
        last = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        stopped: list[int] = []  # Ctrl-C waits for the end of the step, and what was learned is saved
        listening = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, lambda number, _: stopped.append(number)) if listening else None
        with open(self.folder / "metrics.jsonl" if self.rank == 0 else os.devnull, "a") as file:
            while self.step < min(until or self.settings.steps, self.settings.steps) and not stopped:
                row = self.last = self.advance()
                file.write(json.dumps(row) + "\n")
                file.flush()
                if report and self.rank == 0:
                    report(row)
                if time.monotonic() - last > save_every:
                    self.save()
                    last = time.monotonic()
        self.save()
        if listening:
            signal.signal(signal.SIGINT, before)
        if stopped:
            raise KeyboardInterrupt


def read_model(folder: Path) -> DeepseekV3:
    """The model of a training run, as it was last saved."""
    config, *_ = Run.read(folder)
    model = DeepseekV3(config)
    with safe_open(folder / "state.safetensors", "pt") as file:
        model.load_state_dict({k[6:]: file.get_tensor(k) for k in file.keys() if k.startswith("model.")})  # noqa: SIM118
    return model


def progress_bar(total: int) -> Callable[[dict[str, float]], None]:
    """A line on standard error that is written over: loss, speed, balance, time left."""
    recent: list[tuple[float, float]] = []
    terminal = sys.stderr.isatty()

    def show(row: dict[str, float]) -> None:
        recent.append((row["loss"], row["tokens_per_second"]))
        del recent[:-50]
        loss, speed = (sum(r[i] for r in recent) / len(recent) for i in (0, 1))
        step = int(row["step"])
        left = (total - step) * row["tokens"] / step / speed
        bar = "#" * (24 * step // total)
        line = (f"[{bar:<24}] {step}/{total}  loss {loss:.3f}  mtp {row['mtp_loss']:.3f}  {speed:,.0f} tok/s  "
                f"MaxVio {row['max_vio']:.2f}  dead {row['dead_experts']:.0f}  "
                f"left {int(left // 3600)}:{int(left // 60 % 60):02d}:{int(left % 60):02d}")  # fmt: skip
        if terminal:
            print(f"\r{line}", end="\n" if step == total else "", file=sys.stderr, flush=True)
        elif step % 10 == 0 or step == total:
            print(line, file=sys.stderr, flush=True)

    return show


def train(
    folder: Path, config: ModelConfig, settings: TrainSettings, tokenizer: Tokenizer, *, resume: bool = False,
    start_from: Path | None = None, save_every: float = 180.0, device: str = "cpu", until: int | None = None,
    new_steps: int | None = None,
) -> Run:  # fmt: skip
    """Start, resume, or (with `start_from`, another run's folder) grow that run's model to `config` and train it.

    On resuming the run's own settings hold; `new_steps` makes it shorter or longer.
    """
    keep_memory()
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("There is no CUDA device here (or this PyTorch cannot use one); leave --device out.")
    if folder.is_dir() and not resume and any(folder.iterdir()) and not (folder / "metrics.jsonl").exists():
        raise TrainingError(f"{folder} holds other files; name a new folder for the run.")
    if "RANK" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    if device == "cuda":  # by number: "cuda" alone means the first card to whoever reads a file
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
        torch.cuda.set_device(device)
    state = folder / "state.safetensors"
    if state.exists() and not resume:
        raise TrainingError(f"{folder} holds a run already; add --resume to go on with it, or name another folder.")
    if resume and not state.exists():
        raise TrainingError(f"{folder} holds no run to resume.")
    model = None
    if resume:
        config, settings, *_ = Run.read(folder)
        settings = replace(settings, steps=new_steps or settings.steps)
    elif start_from is not None:
        _, old_settings, *_ = Run.read(start_from)
        model = grow(read_model(start_from), config.num_hidden_layers, seed=settings.seed)
        if settings.seed == old_settings.seed:  # or it would see the same texts again
            settings = replace(settings, seed=settings.seed + 1)
    run = Run(folder, config, settings, tokenizer, model, device)
    if resume:
        run.load()
    run.go(save_every, until, progress_bar(settings.steps))
    return run


__all__ = ["Run", "TrainSettings", "TrainingError", "backward", "grow", "losses", "read_model", "renumber", "train"]
