"""Expert parallelism for real: processes that each hold a share of every layer's experts and send each other tokens.

Every process has attention, gates, shared experts, embedding and head, and its own sentences from the first layer to
the logits (data parallel, as V3 trains: attention needs all notes of a sequence in one place). In every MoE layer it
sends each token once to each process that holds experts which the token calls (dispatch), lets the experts that it
holds work on what arrives, sends the summed opinions back and adds what comes back (combine): two all-to-alls over
torch.distributed's gloo on the loopback address, and before them a small one that says how many tokens to expect.

A process ends by itself when whoever started it is gone. `python -m model parallel TEXT --processes 2` runs it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import multiprocessing
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from model.checkpoint import load_share
from model.config import ModelConfig
from model.costs import parameters
from model.crossings import FP32_BYTES, bounds, building_of
from model.deepseek_v3 import DecoderLayer, DeepseekV3, MoE
from model.errors import UserError
from model.kernels import grouped_experts
from model.live import SHIPPED

ROOT = Path(__file__).resolve().parents[1]
MOST = 4  # processes
SECONDS = 60.0  # that a run may take, pauses aside
PAUSE = 60.0  # that the processes of a group wait for each other beyond that, while the run is paused
REST = 0.05  # seconds between two looks whether it still is
LOOK = 0.2  # seconds between two looks at the passes that are done
ROUNDS = 5  # passes that are timed
LEAST = 3  # of them, however long they take
WARM = 1  # passes before them, which are not
TOLERANCE = 1e-5  # of the largest logit, between one process and several: float32 rounds otherwise from CPU to CPU
COUNT_BYTES = 8  # of each number of tokens to expect, an int64
_IMPORTED_BYTES, _PASS_BYTES = 146 * 2**20, 96 * 2**20  # measured: up to 110 MB with 240 tokens, and less with fewer
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


# -- inside a process ------------------------------------------------------------------------------------------------


@dataclass
class Clock:
    """Where one pass's time went, in seconds, and what was sent to other processes, in bytes."""

    computing: float = 0.0  # attention, gates, experts
    packing: float = 0.0  # who goes where, rows in order; and adding up what came back
    sending: float = 0.0  # inside all-to-alls: sending, receiving, waiting for the others
    dispatched: int = 0
    combined: int = 0
    announced: int = 0  # how many tokens to expect
    crossed: int = 0  # tokens sent to another process, over all layers
    _last: float = 0.0

    def start(self) -> None:
        self._last = time.perf_counter()

    def note(self, what: str) -> None:
        """All time since the last note was `what`."""
        now = time.perf_counter()
        setattr(self, what, getattr(self, what) + now - self._last)
        self._last = now

    def report(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if not name.startswith("_")}


class Exchange:
    """The road between the processes of a group. Alone there is none, and what is sent has arrived."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    def counts(self, outgoing: Tensor) -> Tensor:
        """outgoing (B,) rows for each process -> (B,) rows from each."""
        if self.size == 1:
            return outgoing
        incoming = torch.empty_like(outgoing)
        dist.all_to_all_single(incoming, outgoing)
        return incoming

    def rows(self, rows: Tensor, outgoing: list[int], incoming: list[int]) -> Tensor:
        """rows (sum of outgoing, w), in the order of the processes they are for -> (sum of incoming, w), in the
        order of those they come from."""
        if self.size == 1:
            return rows
        arrived = rows.new_empty(sum(incoming), rows.shape[1])
        dist.all_to_all_single(arrived, rows.contiguous(), incoming, outgoing)
        return arrived

    def bytes_out(self, rows: Tensor, outgoing: list[int]) -> int:
        """Of the rows, those that leave this process."""
        return (sum(outgoing) - outgoing[self.rank]) * rows.shape[1] * rows.element_size()


def add_up(parts: Tensor) -> Tensor:
    """parts (N, B, d) -> (N, d): neighbours first, then pairs of them. In this order one process adds the same numbers
    as two or four do, each its own and then the sums, so that rounding is the same: otherwise it would now and then
    turn the choice between two experts whose scores are as good as equal, and the token would be another from there on.
    """
    while parts.shape[1] > 1:
        parts = F.pad(parts, (0, 0, 0, parts.shape[1] % 2))
        parts = parts[:, 0::2] + parts[:, 1::2]
    return parts[:, 0]


class ParallelMoE:
    """`deepseek_v3.MoE`, whose experts lie in several processes."""

    def __init__(self, mlp: MoE, c: ModelConfig, road: Exchange) -> None:
        self.mlp, self.road, self.k, self.d = mlp, road, c.num_experts_per_tok, c.hidden_size
        self.home = building_of(c.n_routed_experts, road.size)  # (E,) the process of each expert
        limits = bounds(c.n_routed_experts, road.size)
        self.first, self.held = limits[road.rank], limits[road.rank + 1] - limits[road.rank]
        blocks = building_of(c.n_routed_experts, min(MOST, c.n_routed_experts))[self.first : self.first + self.held]
        self.block = blocks - blocks[0]  # (held,) opinions are added up block by block

    def __call__(self, u: Tensor, clock: Clock) -> tuple[Tensor, Tensor]:
        """u (N, d), this process's tokens -> (N, d), and whom they called (N, k)."""
        chosen, weights = self.route(u)
        clock.note("computing")

        process = self.home[chosen]  # (N, k)
        goes = torch.zeros(len(u), self.road.size, dtype=torch.bool).scatter_(1, process, True)
        to, token = goes.t().nonzero(as_tuple=True)  # one row for each process that a token drives to
        there = process[token] == to[:, None]
        whom = torch.where(there, chosen[token], -1).to(u.dtype)
        rows = torch.cat([u[token], whom, weights[token] * there], 1)
        leaving = goes.sum(0)
        clock.note("packing")

        coming = self.road.counts(leaving)
        outgoing, incoming = leaving.tolist(), coming.tolist()
        arrived = self.road.rows(rows, outgoing, incoming)
        clock.note("sending")
        clock.announced += (self.road.size - 1) * COUNT_BYTES
        clock.dispatched += self.road.bytes_out(rows, outgoing)

        opinions = self.consult(arrived)
        clock.note("computing")

        back = self.road.rows(opinions, incoming, outgoing)
        clock.note("sending")
        clock.combined += self.road.bytes_out(opinions, incoming)
        clock.crossed += sum(outgoing) - outgoing[self.road.rank]

        each = u.new_zeros(len(u), self.road.size, self.d)
        each[token, to] = back
        y = add_up(each)
        clock.note("packing")
        return y + self.shared(u), chosen

    def route(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Whom each token calls (N, k), and with which weights."""
        if not len(u):  # a process without a sentence
            return torch.empty(0, self.k, dtype=torch.int64), u.new_empty(0, self.k)
        routing = self.mlp.gate(u)
        return routing.chosen, routing.weights

    def consult(self, arrived: Tensor) -> Tensor:
        """Rows (R, d + 2k) of states, whom they call (-1: somebody elsewhere) and weights -> summed opinions (R, d)."""
        seen, whom, weights = arrived.split([self.d, self.k, self.k], 1)
        row, place = (whom >= 0).nonzero(as_tuple=True)
        blocks = int(self.block[-1]) + 1
        opinions = seen.new_zeros(len(seen), blocks, self.d)
        if len(row):
            expert = whom[row, place].long() - self.first
            held, experts = self.held, self.mlp.experts
            said = grouped_experts(
                seen[row], experts.gate_up, experts.down, expert[:, None], weights[row, place][:, None], held
            )
            opinions.view(-1, self.d).index_add_(0, row * blocks + self.block[expert], said)
        return add_up(opinions)

    def shared(self, u: Tensor) -> Tensor:
        """The shared experts, which every process has (N, d)."""
        gate_up, down = self.mlp.experts.gate_up[self.held :], self.mlp.experts.down[self.held :]
        if not len(down) or not len(u):
            return torch.zeros_like(u)
        gate, up = F.linear(u, gate_up.flatten(0, 1)).unflatten(-1, (len(down), 2, -1)).unbind(-2)
        return (F.silu(gate) * up).flatten(1) @ down.flatten(0, 1)


class Building:
    """One process's part of the model, and its sentences."""

    def __init__(self, model: DeepseekV3, c: ModelConfig, road: Exchange) -> None:
        self.model = model
        self.moes: list[ParallelMoE | None] = [
            ParallelMoE(layer.mlp, c, road) if isinstance(layer.mlp, MoE) else None for layer in model.layers
        ]

    @torch.inference_mode()
    def forward(
        self, sentences: Sequence[Sequence[int]], clock: Clock, longest: int = 0
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Logits (T, vocab) of every sentence, and whom its tokens called (M, T, k). All processes call this at once,
        also one without a sentence: its experts are wanted. All pad to `longest`, for the sake of equal rounding."""
        lengths = torch.tensor([len(ids) for ids in sentences], dtype=torch.int64)
        ids = nn.utils.rnn.pad_sequence([torch.tensor(list(ids)) for ids in sentences], True) if sentences else None
        longest = max(longest, int(lengths.max())) if sentences else 0
        real = torch.arange(longest)[None] < lengths[:, None]  # (B, T): places that are no padding
        if ids is not None:
            ids = F.pad(ids, (0, longest - ids.shape[1]))
        rope = self.model.rope(longest) if sentences else None
        clock.start()
        x = self.model.embed_tokens(ids) if ids is not None else torch.zeros(0, 0, self.model.c.hidden_size)
        called = []
        for layer, moe in zip(self.model.layers, self.moes, strict=True):
            assert isinstance(layer, DecoderLayer)
            if rope is not None:
                x = x + layer.self_attn(layer.input_layernorm(x), rope)
            u = layer.post_attention_layernorm(x)
            if moe is None:
                x = x + layer.mlp(u)
                continue
            y, chosen = moe(u[real], clock)
            x = x.masked_scatter(real[..., None], x[real] + y)
            called.append(chosen)
        logits = self.model.lm_head(self.model.norm(x[real]))
        clock.note("computing")
        sizes = lengths.tolist()
        each = zip(*(one.split(sizes) for one in called), strict=True)
        return list(logits.split(sizes)), [torch.stack(layers) for layers in each]


def _memory() -> dict[str, int]:
    """Bytes of this process: the most it ever had, and its fair part of what it shares now (Linux; else empty)."""
    try:
        status, rollup = (Path(f"/proc/self/{name}").read_text() for name in ("status", "smaps_rollup"))
    except OSError:
        return {}
    found = dict(line.split(":", 1) for line in (status + rollup).splitlines() if ":" in line)
    return {name: int(found[key].split()[0]) * 1024 for name, key in (("peak", "VmHWM"), ("fair", "Pss"))}


def _end_with_the_parent() -> None:
    """However it ends: on Linux the kernel sees to it, elsewhere a thread that waits for it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent.pid:  # it was quicker
            os._exit(1)
        return

    def wait_for_it() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_for_it, daemon=True).start()


def _work(job: dict[str, Any], rank: int, size: int, folder: str) -> None:
    """What a process does: load its share, join, run, write what it found into `folder`."""
    _end_with_the_parent()
    torch.set_num_threads(1)
    checkpoint = Path(job["checkpoint"])
    c = ModelConfig.from_json(checkpoint / "config.json")
    limits = bounds(c.n_routed_experts, size)
    model = load_share(checkpoint, range(limits[rank], limits[rank + 1]))
    if size > 1:
        _join(rank, size, Path(folder) / "meeting")
    building, sentences = Building(model, c, Exchange(rank, size)), job["sentences"][rank::size]
    clocks: list[dict[str, Any]] = []
    logits: list[Tensor] = []
    chosen: list[Tensor] = []
    with open(f"{folder}/{rank}.passes", "w", encoding="utf-8") as told:
        while _again(job, rank, size, Path(folder).parent / "paused", clocks):
            clock = Clock()
            logits, chosen = building.forward(sentences, clock, max(map(len, job["sentences"])))
            clocks.append(clock.report())
            if len(clocks) > WARM:
                print(json.dumps(clocks[-1]), file=told, flush=True)
    tensors = {}
    for i, (one, called) in enumerate(zip(logits, chosen, strict=True)):
        tensors[f"logits.{rank + i * size}"] = one.contiguous()
        tensors[f"chosen.{rank + i * size}"] = called.contiguous()
    save_file(tensors, f"{folder}/{rank}.safetensors")
    weights = sum(p.numel() for p in model.parameters()) * FP32_BYTES
    said = {"clocks": clocks[WARM:], "weights": weights, "memory": _memory()}
    Path(f"{folder}/{rank}.json").write_text(json.dumps(said), "utf-8")
    if size > 1:
        dist.barrier()  # nobody leaves while another still waits for it
        dist.destroy_process_group()


def _again(job: dict[str, Any], rank: int, size: int, paused: Path, clocks: list[dict[str, Any]]) -> bool:
    """Whether there is another pass, and then when: the first process decides for all, after the pause if there is one.
    All begin together."""
    go = torch.ones(1, dtype=torch.int64)
    if rank == 0:
        while paused.exists():
            time.sleep(REST)
        done, spent = len(clocks) - WARM, sum(map(_length, clocks[WARM:]))
        enough = job["enough"] is not None and done >= LEAST and spent >= job["enough"]
        go[0] = int(done < job["rounds"] and not enough)
    if size > 1:
        dist.broadcast(go, 0)
        dist.barrier()
    return bool(go)


def _length(clock: dict[str, Any]) -> float:
    """Seconds of a pass in one process."""
    return clock["computing"] + clock["packing"] + clock["sending"]


def _join(rank: int, size: int, meeting: Path) -> None:
    """Become one of a group that meets at a file and talks on the loopback address only."""
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback is not None:
        os.environ["GLOO_SOCKET_IFNAME"] = loopback
    store, patience = dist.FileStore(str(meeting), size), timedelta(seconds=SECONDS + PAUSE)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=patience)


def main() -> int:
    """Start the groups of a job, one after the other; the job comes on the first line of standard input, and when
    that closes all is ended.

    Where the system can fork, this process forks: it has only imported, has no threads, and what it imported (146 MB of
    torch) is then there once and not in every process.
    """
    job = json.loads(sys.stdin.buffer.readline())
    start = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    gc.freeze()
    for size in job["groups"]:
        folder = Path(job["meeting"]) / str(size)
        folder.mkdir()
        group = [start.Process(target=_work, args=(job, rank, size, str(folder))) for rank in range(size)]  # type: ignore[attr-defined]
        try:
            for process in group:
                process.start()
            alive = {process.sentinel: process for process in group}
            while alive:
                watched = [*alive, *([sys.stdin.fileno()] if sys.platform != "win32" else [])]
                for ready in wait(watched):
                    if ready not in alive or alive.pop(ready).join() or any(process.exitcode for process in group):
                        return 1
        finally:
            for process in group:
                if process.is_alive():
                    process.kill()
                process.join()
        (folder / "done").touch()
    return 0


# -- outside -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One process in the pass that took the median time."""

    computing: float  # seconds
    packing: float
    sending: float  # and waiting
    dispatched: int  # bytes to other processes
    combined: int
    announced: int
    crossed: int  # tokens
    weights: int  # bytes of the parameters that it holds
    peak: int  # most bytes of memory that it had; 0 where the system does not say
    fair: int  # its fair part of what the processes share, plus what is its own, when all was loaded; 0 as above

    @property
    def seconds(self) -> float:
        return self.computing + self.packing + self.sending


@dataclass(frozen=True)
class Run:
    """What a group of processes did with the sentences."""

    processes: int
    tokens: tuple[int, ...]  # of every sentence
    seconds: float  # the median pass, until the last process was done
    low: float  # the fastest pass, and the slowest
    high: float
    parts: tuple[Part, ...]
    logits: tuple[Tensor, ...]  # (T, vocab) of every sentence
    chosen: tuple[Tensor, ...]  # (M, T, k)

    @property
    def crossed(self) -> int:
        return sum(part.crossed for part in self.parts)

    @property
    def sent(self) -> int:
        """Bytes, dispatch and combine."""
        return sum(part.dispatched + part.combined for part in self.parts)

    def report(self) -> dict[str, Any]:
        """All but the tensors, for JSON."""
        return {
            "processes": self.processes, "tokens": list(self.tokens), "seconds": self.seconds, "low": self.low,
            "high": self.high, "crossed": self.crossed, "sent": self.sent,
            "parts": [asdict(part) for part in self.parts],
        }  # fmt: skip


def largest_gap(a: Run, b: Run) -> float:
    """Largest difference of any logit of two runs over the same sentences."""
    return max(float((x - y).abs().max()) for x, y in zip(a.logits, b.logits, strict=True))


def near(a: Run, b: Run) -> bool:
    """Whether no logit of two runs over the same sentences is further off than rounding explains (`TOLERANCE`)."""
    return largest_gap(a, b) <= TOLERANCE * max(float(logits.abs().max()) for logits in a.logits)


def other_calls(a: Run, b: Run) -> int:
    """Tokens, over all layers, that called different experts in the two runs."""
    pairs = zip(a.chosen, b.chosen, strict=True)
    return sum(int((x.sort(-1).values != y.sort(-1).values).any(-1).sum()) for x, y in pairs)


class Stopped(UserError):
    """Somebody asked for the run to end."""

    def __init__(self) -> None:
        super().__init__("The run was stopped.", "parallel_stopped")


def check(processes: int, sentences: Sequence[Sequence[int]], c: ModelConfig) -> None:
    """UserError where this cannot be run."""
    if not 1 <= processes <= min(MOST, c.n_routed_experts):
        raise UserError(f"{processes} processes cannot be started; choose 1 to {MOST}.",
                        "parallel_processes", most=MOST)  # fmt: skip
    if not sentences or not all(sentences):
        raise UserError("There is no sentence to walk through the processes.", "empty_text")
    if max(map(len, sentences)) > c.max_position_embeddings:
        raise UserError(f"A sentence has more than {c.max_position_embeddings} tokens. Shorten it.",
                        "too_long", count=max(map(len, sentences)), limit=c.max_position_embeddings)  # fmt: skip


def bytes_needed(processes: int, c: ModelConfig) -> int:
    """Memory that a group of processes takes, a little more than what was measured: what they imported, once; then for
    each its share of the experts, all the rest of the model, and what a pass over a long sentence holds."""
    count = parameters(c)
    experts = c.num_moe_layers * c.n_routed_experts * count.expert
    each = FP32_BYTES * (count.main - experts + experts // processes) + _PASS_BYTES
    return _IMPORTED_BYTES + processes * each


def run(
    sentences: Sequence[Sequence[int]],
    groups: Sequence[int],
    checkpoint: str | Path | None = None,
    *,
    rounds: int = ROUNDS,
    enough: float | None = None,
    seconds: float = SECONDS,
    stop: Callable[[], bool] = lambda: False,
    paused: Callable[[], bool] = lambda: False,
    told: Callable[[int], None] = lambda done: None,
    passed: Callable[[int, list[dict[str, Any]]], None] = lambda size, clocks: None,
    nice: int = 0,
) -> list[Run]:
    """Walk sentences (ids) through a group of processes for each of `groups` (sizes, all different), one after the
    other; in a group of n, sentence i is at home in process i mod n.

    Returns when all have ended; whatever happens, none is left. Raises Stopped soon after `stop()` is true, UserError
    when `seconds` are over or a process fails. A group makes `rounds` passes, or fewer once they have taken `enough`
    seconds. While `paused()` is true no pass begins, and the time does not count; let it be no longer than PAUSE.
    `told` hears how many groups are done, `passed` of every pass that was timed, in order: the size of its group and
    where the time went in each process. `nice`: how far the processes stand back for others.
    """
    folder = Path(checkpoint) if checkpoint is not None else SHIPPED
    c = ModelConfig.from_json(folder / "config.json")
    for size in groups:
        check(size, sentences, c)
    meeting = Path(tempfile.mkdtemp(prefix="ambulances-"))
    job = {"groups": list(groups), "meeting": str(meeting), "checkpoint": str(folder.resolve()),
           "sentences": [list(ids) for ids in sentences], "rounds": rounds, "enough": enough}  # fmt: skip
    try:
        with open(meeting / "errors", "wb") as errors:
            first = subprocess.Popen(
                [sys.executable, "-m", "model.parallel"], cwd=ROOT, stdin=subprocess.PIPE, stdout=errors, stderr=errors,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}, start_new_session=True,
            )  # fmt: skip
        try:
            _watch(first, job, meeting, seconds, stop, paused, told, passed, nice)
        finally:
            _end(first)
        if first.returncode:
            said = (meeting / "errors").read_text("utf-8", "replace")[-2000:]
            raise UserError("A process ended before its time. Try again; should it stay so, memory may be too short.",
                            "parallel_failed") from RuntimeError(said)  # fmt: skip
        return [_collect(meeting / str(size), sentences, size) for size in groups]
    finally:
        shutil.rmtree(meeting, ignore_errors=True)


def _watch(first: subprocess.Popen[bytes], job: dict[str, Any], meeting: Path, seconds: float,
           stop: Callable[[], bool], paused: Callable[[], bool], told: Callable[[int], None],
           passed: Callable[[int, list[dict[str, Any]]], None], nice: int) -> None:  # fmt: skip
    """Until all is done, or over."""
    before, worked, looked, done = time.monotonic(), 0.0, 0.0, -1
    heard, sign = dict.fromkeys(job["groups"], 0), meeting / "paused"
    if nice and sys.platform != "win32":
        os.setpriority(os.PRIO_PROCESS, first.pid, nice)  # whom it starts takes after it
    assert first.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        first.stdin.write(json.dumps(job).encode() + b"\n")
        first.stdin.flush()

    def listen() -> None:
        for size in heard:
            clocks = _passes(meeting / str(size), size)
            for one in clocks[heard[size] :]:
                passed(size, one)
            heard[size] = len(clocks)

    while first.poll() is None:
        if stop():
            raise Stopped
        rests, now = paused(), time.monotonic()
        if rests:
            sign.touch()
        else:
            sign.unlink(missing_ok=True)
            worked += now - before
        before = now
        if worked > seconds:
            raise UserError(f"The run took longer than {seconds:.0f} s and was ended. Try a shorter text.",
                            "parallel_too_long", limit=seconds)  # fmt: skip
        if now - looked > LOOK:
            listen()
            looked = now
        ended = sum((meeting / str(size) / "done").exists() for size in job["groups"])
        if ended != done:
            done = ended
            told(done)
        time.sleep(0.02)
    listen()


def _passes(folder: Path, size: int) -> list[list[dict[str, Any]]]:
    """Of every timed pass that all processes of a group have told of, where the time went in each."""
    files = [folder / f"{rank}.passes" for rank in range(size)]
    if not all(file.exists() for file in files):
        return []
    whole = [file.read_text("utf-8").split("\n")[:-1] for file in files]  # behind the last end of a line is half of one
    return [[json.loads(line) for line in one] for one in zip(*whole, strict=False)]


def _end(first: subprocess.Popen[bytes]) -> None:
    """Close its standard input, upon which it ends all that it started; if it does not, end them from here."""
    assert first.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        first.stdin.close()
    try:
        first.wait(2.0)
    except subprocess.TimeoutExpired:
        if sys.platform != "win32":
            os.killpg(first.pid, signal.SIGKILL)
        first.kill()
        first.wait()


def _collect(folder: Path, sentences: Sequence[Sequence[int]], size: int) -> Run:
    said = [json.loads((folder / f"{rank}.json").read_text("utf-8")) for rank in range(size)]
    tensors: dict[str, Tensor] = {}
    for rank in range(size):
        tensors |= load_file(folder / f"{rank}.safetensors")

    passes = [max(map(_length, clocks)) for clocks in zip(*(one["clocks"] for one in said), strict=True)]
    middle = passes.index(statistics.median_low(passes))
    parts = tuple(
        Part(**one["clocks"][middle], weights=one["weights"], peak=one["memory"].get("peak", 0),
             fair=one["memory"].get("fair", 0))
        for one in said
    )  # fmt: skip
    return Run(
        size, tuple(map(len, sentences)), passes[middle], min(passes), max(passes), parts,
        tuple(tensors[f"logits.{i}"] for i in range(len(sentences))),
        tuple(tensors[f"chosen.{i}"] for i in range(len(sentences))),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
