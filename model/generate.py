"""Generation: prefill, cached decode, sampling with every stage kept, and speculative decoding with the MTP module."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from model.engine import Engine
from model.errors import UserError
from model.interventions import NONE, Interventions
from model.trace import Candidate, Trace


@dataclass(frozen=True)
class SamplingSettings:
    """temperature 0 is greedy. top_k None and top_p 1 keep every candidate. UserError for anything out of range."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        def need(ok: bool, message: str) -> None:
            if not ok:
                raise UserError(message, "bad_setting", message=message)

        need(self.temperature == 0 or 1e-6 <= self.temperature <= 100,
             f"The temperature must be 0 (greedy) or between 0.000001 and 100, not {self.temperature}.")  # fmt: skip
        need(self.top_k is None or self.top_k >= 1, f"top_k must be 1 or more, not {self.top_k}.")
        need(0 < self.top_p <= 1, f"top_p must be above 0 and at most 1, not {self.top_p}.")


@dataclass(frozen=True)
class Draw:
    """One draw with its stages; each (vocab,). Changing the settings needs only `logits`, never a new forward pass."""

    logits: Tensor
    tempered: Tensor  # softmax(logits / temperature), or softmax(logits) when greedy
    kept: Tensor  # bool: survives top-k, then top-p (the smallest set of likeliest tokens that reaches p)
    probabilities: Tensor  # tempered over the kept, normalised again; 1 for the likeliest when greedy
    id: int

    def top(self, n: int) -> list[Candidate]:
        """The n likeliest tokens before anything was cut off."""
        values, ids = self.tempered.topk(n)
        return [Candidate(i, v) for i, v in zip(ids.tolist(), values.tolist(), strict=True)]


def draw(logits: Tensor, settings: SamplingSettings, generator: torch.Generator | None = None) -> Draw:
    """Choose the next token from logits (vocab,)."""
    if settings.temperature == 0:
        likeliest = int(logits.argmax())
        certain = torch.zeros_like(logits)
        certain[likeliest] = 1.0
        return Draw(logits, logits.softmax(-1), certain.bool(), certain, likeliest)
    tempered = (logits / settings.temperature).softmax(-1)
    probabilities = tempered
    if settings.top_k is not None or settings.top_p < 1:
        order = tempered.argsort(descending=True, stable=True)[: settings.top_k]
        ranked = tempered[order]
        ranked = ranked / ranked.sum()
        if settings.top_p < 1:
            ahead = ranked.cumsum(0) - ranked  # probability of all likelier ones
            ranked = torch.where(ahead < settings.top_p, ranked, 0.0)
        probabilities = torch.zeros_like(tempered).scatter_(0, order, ranked / ranked.sum())
    chosen = int(torch.multinomial(probabilities, 1, generator=generator))
    return Draw(logits, tempered, probabilities > 0, probabilities, chosen)


class Draft(NamedTuple):
    """A guess of the MTP module that was put to the main model."""

    at: int  # which of the new ids it was meant to be, from 0
    guess: int
    accepted: bool  # otherwise the main model's own id stands there


@dataclass
class Generation:
    """What was generated and how fast."""

    ids: list[int] = field(default_factory=list)
    draws: list[Draw] = field(default_factory=list)
    drafted: list[Draft] = field(default_factory=list)
    passes: int = 0  # of the main model, prefill included
    seconds: float = 0.0

    @property
    def drafts(self) -> int:
        """Guesses of the MTP module that were put to the main model."""
        return len(self.drafted)

    @property
    def accepted(self) -> int:
        """Guesses that it agreed with."""
        return sum(draft.accepted for draft in self.drafted)

    @property
    def tokens_per_second(self) -> float:
        """New tokens per second, prefill included."""
        return len(self.ids) / self.seconds if self.seconds else 0.0


def stream(engine: Engine, ids: list[int], settings: SamplingSettings | None = None,
           interventions: Interventions = NONE) -> Iterator[Draw]:  # fmt: skip
    """Draw after draw, one cached decode step each, without end: the caller stops (at `eos_token_id`, say)."""
    settings = settings or SamplingSettings()
    generator = torch.Generator().manual_seed(settings.seed)
    cache = engine.new_cache()
    new = list(ids)
    while True:
        logits, _ = engine.forward(new, cache, last_only=True, interventions=interventions)
        result = draw(logits[0], settings, generator)
        yield result
        new = [result.id]


def generate(engine: Engine, ids: list[int], tokens: int, settings: SamplingSettings | None = None,
             interventions: Interventions = NONE, stop_at_eos: bool = True) -> Generation:  # fmt: skip
    """Up to `tokens` new ids after `ids` (at least one id). Ends after `eos_token_id` unless told not to."""
    check_length(engine, ids, tokens)
    out, start = Generation(), time.perf_counter()
    if tokens:
        for result in stream(engine, ids, settings, interventions):
            out.ids.append(result.id)
            out.draws.append(result)
            out.passes += 1
            if len(out.ids) == tokens or (stop_at_eos and result.id == engine.c.eos_token_id):
                break
    out.seconds = time.perf_counter() - start
    return out


def generate_speculative(engine: Engine, ids: list[int], tokens: int, stop_at_eos: bool = True) -> Generation:
    """Greedy generation in which the MTP module guesses one token ahead and the main model checks it (V3 section
    5.4.3). Two tokens go through the main model at once; when the guess was right, both count. The ids are those of
    greedy decoding, whatever the module guesses: only the number of passes changes."""
    runs = list(speculate(engine, ids, tokens, stop_at_eos))
    return runs[-1] if runs else Generation()


def speculate(engine: Engine, ids: list[int], tokens: int, stop_at_eos: bool = True) -> Iterator[Generation]:
    """`generate_speculative` step by step: what there is so far, always the same object, after the first token and
    after each further pass of the main model. `seconds` leaves out what the caller does in between."""
    if engine.mtp_layer is None:
        raise UserError("This checkpoint has no multi-token-prediction module, so it cannot decode speculatively.",
                        "no_mtp")  # fmt: skip
    check_length(engine, ids, tokens)
    if not tokens:
        return
    out, start = Generation(), time.perf_counter()
    cache, mtp_cache = engine.new_cache(), engine.new_cache(mtp=True)
    logits, states = engine.forward(ids, cache)
    out.passes = 1
    # The module reads position i together with token i + 1, so it always lags one token behind.
    waiting, following = states, list(ids[1:])
    known = int(logits[-1].argmax())

    def full() -> bool:
        return len(out.ids) == tokens or (stop_at_eos and out.ids[-1] == engine.c.eos_token_id)

    while True:
        out.ids.append(known)
        out.seconds += time.perf_counter() - start
        yield out
        start = time.perf_counter()
        if full():
            return
        following.append(known)
        guess = int(engine.predict_further(following, waiting, mtp_cache)[-1].argmax())
        out.passes += 1
        if len(out.ids) + 1 == tokens:  # one token to go: nothing left to guess for
            logits, _ = engine.forward([known], cache, last_only=True)
            known = int(logits[-1].argmax())
            continue
        logits, states = engine.forward([known, guess], cache)
        checked = int(logits[0].argmax())
        out.drafted.append(Draft(len(out.ids), guess, checked == guess))
        if checked == guess:
            out.ids.append(guess)
            if full():
                out.seconds += time.perf_counter() - start
                yield out
                return
            waiting, following = states, [guess]
            known = int(logits[1].argmax())
        else:
            cache.cut(cache.length - 1)  # forget the wrong guess
            waiting, following = states[:1], []
            known = checked


# -- going on after a trace, with every step kept ----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Start:
    """Where a text goes on: after `ids`, which went through the model already."""

    ids: tuple[int, ...]
    memory: Tensor  # (L, T, r + p), what the cache holds of them
    logits: Tensor  # (vocab,), for what comes next


@dataclass(frozen=True, eq=False)
class Step:
    """One more token that went through the model, and what that gave."""

    id: int
    memory: Tensor  # (L, r + p), what the cache holds of it
    logits: Tensor  # (vocab,), for what comes next
    seconds: float  # that the pass took


def start_after(trace: Trace) -> Start:
    """The end of a text that was walked through the model as it is."""
    if trace.interventions:
        raise ValueError("A changed pass cannot be gone on from: the next pass would be an unchanged one.")
    return Start(trace.ids, trace.memory.contiguous(), trace.logits[-1].clone())


def advance(engine: Engine, start: Start, path: Sequence[Step], id: int) -> Step:
    """One cached decode step: `id` after `start` and `path`. Nothing but its arguments is read and nothing is kept, so
    that whoever holds a path can go on from any place in it."""
    check_length(engine, [*start.ids, *(step.id for step in path), id], 0)
    began = time.perf_counter()
    cache = engine.new_cache()
    cache.add(start.memory, room=len(path) + 1)
    if path:
        cache.add(torch.stack([step.memory for step in path], 1), room=1)
    logits, _ = engine.forward([id], cache)
    return Step(id, cache.memory[:, -1].clone(), logits[0], time.perf_counter() - began)


def retrace(start: Start, path: Sequence[Step], settings: SamplingSettings, forced: Mapping[int, int] | None = None,
            further: Callable[[Sequence[Step], int], Step] | None = None, eos: int | None = None
            ) -> Iterator[tuple[Draw, tuple[Step, ...]]]:  # fmt: skip
    """Draw again along a path that was walked before: each draw with the steps that lie before it. No pass of the model
    is made: where the draws leave the path, or where the path or the text ends, so do they.

    `forced`: which id to take, whatever was drawn, as the how-manieth new one from 0. `further`: makes the steps that
    the path lacks (`advance`); the draws are then those of `stream` with the same settings.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    logits = start.logits
    walked: tuple[Step, ...] = ()
    while True:
        result = draw(logits, settings, generator)
        at = len(walked)
        if forced and 0 <= forced.get(at, -1) < len(logits):
            result = replace(result, id=forced[at])
        yield result, walked
        if result.id == eos:
            return
        if at < len(path) and path[at].id == result.id:
            step = path[at]
        elif further is not None:
            step, path = further(walked, result.id), ()
        else:
            return
        walked, logits = (*walked, step), step.logits


def check_length(engine: Engine, ids: list[int], tokens: int) -> None:
    """UserError if text and new tokens together do not fit the model's positions."""
    limit = engine.positions
    if tokens < 0 or len(ids) + tokens > limit:
        message = f"{len(ids)} tokens of text and {tokens} new ones do not fit the {limit} positions there are."
        raise UserError(message, "bad_setting", message=message)
