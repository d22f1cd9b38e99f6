"""The discharge page's pictures: what is written after a sentence, how each token was drawn, what was guessed ahead."""

from __future__ import annotations

import hashlib
import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from model.errors import UserError
from model.generate import Draw, Generation, SamplingSettings, Start, Step, draw, retrace, start_after
from model.live import MAX_TOKENS
from pages.kit import building, chapter, plates, service, state
from pages.kit.chapter import Visit, number, percent
from pages.kit.figures import common
from pages.kit.words import t


@dataclass(frozen=True)
class Desk:
    """Where the sentence's last patient is discharged."""

    house: service.Hospital
    start: Start

    @property
    def vocabulary(self) -> int:
        """How many tokens there are to choose from."""
        return len(self.start.logits)

    @property
    def room(self) -> int:
        """Most tokens that can be written here."""
        return self.house.room(self.start)

    def name(self, id: int) -> str:
        """What a token of the vocabulary is called on screen."""
        return common.said(self, id)

    def word(self, id: int) -> str:
        """The same in a sentence: without the space in front."""
        return chapter.bare(self.name(id))

    def chips(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """New tokens as `plates.tokens` wants them."""
        return [
            {**piece, "text": t("building.end") if piece["special"] else piece["text"]}
            for piece in building.pieces(self.house.tokenizer, tuple(ids))
        ]

    def text(self, ids: Sequence[int]) -> str:
        """What new tokens say, without half a character at the end."""
        decode = self.house.tokenizer.decode
        before, whole = decode(self.start.ids), decode([*self.start.ids, *ids])
        said = whole.removeprefix(before) if whole.startswith(before) else decode(ids)
        return said.rstrip("\ufffd")


def desk(visit: Visit) -> Desk:
    """The end of the visitor's sentence."""
    return Desk(visit.house, start_after(visit.trace))


def at_hand() -> Desk:
    """The same for what hears of a click, which Streamlit keeps for the whole visit: it must not hold a desk."""
    return Desk(service.hospital(), start_after(chapter.looked_at()))


# -- what is set -------------------------------------------------------------------------------------------------------


def how() -> SamplingSettings:
    """How the next token is drawn, as set."""
    return SamplingSettings(
        state.share("temperature"), state.get("top_k"), state.share("top_p"), seed=state.get("seed")
    )


def taken() -> dict[int, int]:
    """Which token was taken in place of the drawn one, for each new token where one was."""
    pairs = (pair.split(".") for pair in (state.get("branch") or "").split("-") if pair)
    return {int(step): int(id) for step, id in pairs}


def as_branch(forced: Mapping[int, int]) -> str | None:
    """The setting that `taken` reads."""
    return "-".join(f"{step}.{id}" for step, id in sorted(forced.items())) or None


# -- the text so far ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """What stands there: every draw, and the steps of the model that were needed for them."""

    draws: tuple[Draw, ...]  # of the tokens that are shown
    following: Draw | None  # the next one, where it is known without another step; None after the end
    walked: tuple[Step, ...]
    ended: bool

    @property
    def ids(self) -> tuple[int, ...]:
        """The new tokens."""
        return tuple(result.id for result in self.draws)

    def drawn(self, step: int) -> tuple[int, Draw]:
        """The draw that is looked at, and which new token it is for; the last that is known where `step` is not."""
        known = (*self.draws, *([self.following] if self.following else []))
        at = min(step, len(known) - 1)
        return at, known[at]

    @property
    def pace(self) -> float | None:
        """Tokens a second, measured: passes of the model alone. None before any was made."""
        spent = sum(step.seconds for step in self.walked)
        return len(self.walked) / spent if spent else None


def so_far(desk: Desk, path: Sequence[Step], settings: SamplingSettings, forced: Mapping[int, int], n: int) -> Written:
    """The first `n` new tokens as far as they are known: nothing is asked of the model."""
    eos, shown, following, walked = desk.house.config.eos_token_id, [], None, ()
    for result, before in retrace(desk.start, path, settings, forced, eos=eos):
        if len(shown) == n:
            following = result
            break
        shown.append(result)
        walked = before
    return Written(tuple(shown), following, walked, bool(shown) and shown[-1].id == eos)


def paper(desk: Desk, ids: Sequence[int], status: str, *, older: Sequence[int] = (), running: bool = False) -> str:
    """The sentence and what was written after it, as HTML."""
    asked = html.escape(desk.house.tokenizer.decode(desk.start.ids))
    made = html.escape(desk.text(ids))
    pen = '<i class="pen" aria-hidden="true"></i>' if running else ""
    stood = t("discharge.paper.older", text=html.escape(desk.text(older).strip()))
    before = f'<p class="older">{stood}</p>' if older else ""
    return (
        f'<div class="paper"><p dir="auto"><span class="asked">{asked}</span><span class="made">{made}</span>{pen}</p>'
        f"{before}<small>{html.escape(status)}</small></div>"
    )


def new_tokens(desk: Desk, written: Written) -> plates.Plate:
    """What was written, one chip a token, numbered as in the whole text."""
    chips = desk.chips(written.ids)
    return plates.tokens(
        chips,
        axis_name="step",
        axes=[_steps(desk, chips)],
        title=t("discharge.tokens.title"),
        note=t("discharge.tokens.note", first=len(desk.start.ids)),
    )


def sure(desk: Desk, written: Written) -> plates.Plate:
    """The model's own share for every token that was written."""
    own = [float(result.logits.softmax(-1)[result.id]) for result in written.draws]
    least = min(range(len(own)), key=own.__getitem__)
    return plates.bars(
        "sure",
        _steps(desk, desk.chips(written.ids)),
        own,
        role="patient",
        percent=True,
        domain=[0, 1],
        title=t("discharge.sure.title"),
        alt=t("discharge.sure.alt", count=len(own)),
        note=t("discharge.sure.note", token=_bold(desk.word(written.ids[least])), share=fine(own[least])),
    )


def _steps(desk: Desk, chips: Sequence[Mapping[str, Any]]) -> plates.Axis:
    return plates.axis("step", len(chips), [chip["text"] for chip in chips], offset=len(desk.start.ids))


def fine(share: float) -> str:
    """A share in a sentence, with two digits that are not 0 however small it is."""
    if not share:
        return percent(share)
    zeros = -math.floor(math.log10(share)) - 1  # behind the point: 0.003 has two
    return percent(share, digits=max(1, zeros))


def _bold(text: str) -> str:
    return text.replace("**", "∗∗")  # a note's only mark-up


class Reread(NamedTuple):
    """The whole text as a sentence for the house."""

    text: str
    same: bool  # whether it is cut into the tokens that were written
    tokens: int  # without the begin-of-sentence token
    token: int  # where the looked-at token, or what it says, is then

    @property
    def fits(self) -> bool:
        """Whether the house admits it."""
        return self.tokens <= MAX_TOKENS


def reread(desk: Desk, ids: Sequence[int], step: int) -> Reread:
    """Text has to be cut into tokens again, and need not be cut as it was written."""
    tokenizer = desk.house.tokenizer
    body = [id for id in ids if id != desk.house.config.eos_token_id]
    whole, at = [*desk.start.ids, *body], len(desk.start.ids) + step
    text = tokenizer.decode(whole)
    again = tokenizer.encode(text)
    if again != whole:
        reached = len(tokenizer.decode(whole[: at + 1]))
        at = next((i for i in range(len(again)) if len(tokenizer.decode(again[: i + 1])) >= reached), len(again) - 1)
    doors = sum(id == tokenizer.bos_id for id in again[:1])
    return Reread(text, again == whole, len(again) - doors, at)


# -- the draw ----------------------------------------------------------------------------------------------------------


def doubt(logits: torch.Tensor) -> float:
    """Between how many equally likely tokens one would be as unsure: e to the entropy."""
    return float(torch.distributions.Categorical(logits=logits).entropy().exp())


class Stages(NamedTuple):
    """Shares after each stage, each (vocab,), and what was drawn."""

    own: torch.Tensor  # softmax of the scores
    tempered: torch.Tensor
    after_top_k: torch.Tensor
    after_top_p: torch.Tensor
    id: int

    @property
    def mass(self) -> float:
        """What the tokens that are left held together after the temperature."""
        return float(self.tempered[self.after_top_p > 0].sum())


def stages(result: Draw, settings: SamplingSettings) -> Stages:
    """Every stage of a draw, from its kept scores."""
    own = result.logits.softmax(-1)
    if settings.temperature == 0:  # the limit of a smaller and smaller temperature
        certain = result.probabilities
        return Stages(own, certain, certain, certain, result.id)
    only_top_k = draw(result.logits, replace(settings, top_p=1.0), torch.Generator())  # its own dice: nobody else's
    return Stages(own, result.tempered, only_top_k.probabilities, result.probabilities, result.id)


def candidates(result: Draw, *, n: int = 8) -> list[int]:
    """The likeliest tokens, best first, and the drawn one where it is none of them."""
    best = result.logits.topk(min(n, len(result.logits))).indices.tolist()
    return best if result.id in best else [*best[:-1], result.id]


def chain(
    desk: Desk, result: Draw, settings: SamplingSettings, forced: bool, coming: bool = False
) -> list[plates.Plate]:
    """The stages side by side, for the same candidates. `forced`: the token was taken by hand; `coming`: it is not
    written yet."""
    made, ids = stages(result, settings), candidates(result)
    first = int(result.logits.argmax())
    names = [desk.name(id) for id in ids]
    rows = plates.axis("candidate", len(ids), names, indices=ids)
    top_k = t("discharge.all") if settings.top_k is None else str(settings.top_k)
    greedy = settings.temperature == 0
    values = {
        "first": _bold(desk.word(first)),
        "vocabulary": f"{desk.vocabulary:,}",
        "own": percent(float(made.own[first])),
        "logit": number(float(result.logits[first]), digits=2),
        "temperature": number(settings.temperature, digits=2),
        "tempered": percent(float(made.tempered[first])),
        "top_k": top_k,
        "after_k": f"{int((made.after_top_k > 0).sum()):,}",
        "top_p": number(settings.top_p, digits=2),
        "after_p": f"{int((made.after_top_p > 0).sum()):,}",
        "mass": percent(made.mass),
        "token": _bold(desk.word(made.id)),
        "share": fine(float(made.after_top_p[made.id])),
    }
    verdict = "coming" if coming else "taken" if forced else "greedy" if greedy else "drawn"
    notes = {
        "own": t("discharge.stage.own.note", **values),
        "tempered": t(f"discharge.stage.tempered.{'greedy' if greedy else 'note'}", **values),
        "top_k": t("discharge.stage.top_k.note", **values),
        "top_p": chapter.sentences(
            t("discharge.stage.top_p.note", **values), t(f"discharge.stage.{verdict}", **values)
        ),
    }
    befores = {"tempered": made.own, "top_k": made.tempered, "top_p": made.after_top_k}
    shares = {"own": made.own, "tempered": made.tempered, "top_k": made.after_top_k, "top_p": made.after_top_p}
    return [
        plates.rank(
            f"stage_{stage}",
            names,
            share[ids].tolist(),
            axis=rows,
            percent=True,
            role="patient",
            width="half",
            before=_moved(share, befores.get(stage), ids),
            hints=[t("discharge.stage.hint", logit=number(float(result.logits[id]))) for id in ids],
            title=t(f"discharge.stage.{stage}.title", **values),
            note=notes[stage],
        )
        for stage, share in shares.items()
    ]


def _moved(share: torch.Tensor, before: torch.Tensor | None, ids: list[int]) -> list[float] | None:
    """What it was one stage earlier, where this stage changes anything."""
    if before is None or torch.allclose(share[ids], before[ids]):
        return None
    return before[ids].tolist()


def controls() -> tuple[list[plates.Plate], dict[str, int]]:
    """Sliders for temperature, top-k and top-p, and where they stand."""
    hundredths = [number(i / state.HUNDRED, digits=2) for i in range(state.MOST_TEMPERATURE + 1)]
    counts = [str(i + 1) for i in range(state.MOST_TOP_K)]
    axes = (
        plates.axis("temperature", len(hundredths), hundredths),
        plates.axis("top_k", len(counts) + 1, [*counts, t("discharge.all")], offset=1),
        plates.axis("top_p", state.HUNDRED, hundredths[1 : state.HUNDRED + 1], offset=1),
    )
    sliders = [
        plates.stepper(axis, title=t(f"discharge.control.{axis['name']}"), width="third", role="patient")
        for axis in axes
    ]
    top_k = state.get("top_k")
    return sliders, {
        "temperature": state.get("temperature"),
        "top_k": len(counts) + 1 if top_k is None else top_k,
        "top_p": state.get("top_p"),
    }


def options(visit: Visit, *, n: int = 4) -> tuple[list[int], int]:
    """Likeliest next tokens in an order that says nothing, and where the likeliest of all is among them."""
    best = [candidate.id for candidate in visit.trace.top(-1, n)]

    def shuffled(id: int) -> bytes:
        return hashlib.sha256(repr((visit.trace.ids, id)).encode()).digest()

    order = sorted(best, key=shuffled)
    return order, order.index(best[0])


# -- every patient's own guess -----------------------------------------------------------------------------------------


def expected(visit: Visit) -> torch.Tensor:
    """(T,): the share that each token had in the guess of the one before it; nothing for the door."""
    ids = torch.tensor(visit.trace.ids[1:])
    shares = visit.trace.logits[:-1].softmax(-1).gather(1, ids[:, None])[:, 0]
    return torch.cat([torch.full((1,), torch.nan), shares])


def everyone(visit: Visit) -> plates.Plate:
    """How much each patient was expected by the one before."""
    shares = expected(visit)
    known = shares.nan_to_num(nan=2.0)
    least = int(known.argmin())
    return plates.bars(
        "expected",
        common.token_axis(visit),
        shares,
        role="patient",
        percent=True,
        domain=[0, 1],
        title=t("discharge.expected.title"),
        alt=t("discharge.expected.alt"),
        note=t(
            "discharge.expected.note",
            token=_bold(visit.name(least)),
            share=fine(float(shares[least])),
            before=_bold(visit.name(least - 1)),
            guess=_bold(chapter.bare(common.said(visit, visit.trace.top(least - 1, 1)[0].id))),
        ),
    )


# -- guessing ahead ----------------------------------------------------------------------------------------------------


class Ahead(NamedTuple):
    """A run of speculative decoding that is over."""

    ids: tuple[int, ...]
    drafted: tuple[Any, ...]
    passes: int
    seconds: float

    @property
    def accepted(self) -> int:
        """Guesses that were right."""
        return sum(draft.accepted for draft in self.drafted)

    @property
    def saved(self) -> int:
        """Passes of the main model that plain decoding would have needed more: it needs one a token."""
        return len(self.ids) - self.passes


def settled(run: Generation) -> Ahead:
    """The run as it stands, as a value."""
    return Ahead(tuple(run.ids), tuple(run.drafted), run.passes, run.seconds)


def guesses(desk: Desk, run: Ahead) -> plates.Plate:
    """Where each token came from: a pass of its own, or a guess that was right; and the guesses that were wrong."""
    said = t(
        "discharge.guesses.note",
        right=run.accepted,
        asked=len(run.drafted),
        tokens=len(run.ids),
        passes=run.passes,
        saved=run.saved,
    )
    chips = desk.chips(run.ids)
    names = [chip["text"] for chip in chips]
    parts = [t(f"discharge.guesses.{part}") for part in ("own", "right", "wrong")]
    values = torch.zeros(len(parts), len(names))
    texts = [["" for _ in names] for _ in values]
    values[0] = 1
    for draft in run.drafted:
        row = 1 if draft.accepted else 2
        values[row, draft.at] = 1
        texts[row][draft.at] = t("discharge.guesses.guess", guess=desk.name(draft.guess))
        if draft.accepted:
            values[0, draft.at] = 0
    return plates.grid(
        "guesses",
        plates.axis("part", len(parts), parts),
        plates.axis("ahead", len(names), names, offset=len(desk.start.ids)),
        values,
        cell=28,
        left=112,
        digits=0,
        roles=["ink", "patient", "soft"],
        texts=[text for row in texts for text in row],
        title=t("discharge.guesses.title"),
        alt=t("discharge.guesses.alt", right=run.accepted, asked=len(run.drafted)),
        note=chapter.sentences(said, t("discharge.guesses.last")) if run.saved < run.accepted else said,
    )


def savings(run: Ahead) -> plates.Plate:
    """The run in numbers."""
    pace = len(run.ids) / run.seconds
    return plates.facts(
        "savings",
        [
            (f"{len(run.ids)}", t("discharge.savings.tokens")),
            (f"{run.passes}", t("discharge.savings.passes"), t("discharge.savings.instead", count=len(run.ids))),
            (f"{run.accepted} / {len(run.drafted)}", t("discharge.savings.right")),
            (number(pace, digits=1), t("discharge.savings.pace"), t("discharge.measured")),
        ],
    )


# -- outside the bank --------------------------------------------------------------------------------------------------


TRIED = 2
"""Recorded answers that the open model is asked for again."""
SAME = 1e-4
"""Most that a share may differ from the recorded one: rounding on another machine makes far less of it."""


def evaluation() -> dict[str, Any] | None:
    """What was measured of the checkpoint that is open; None where that was not."""
    try:
        return _evaluation(service.folder(), service.hospital())
    except UserError:  # it does not open, which the page says, or is busy now: nothing is shown as its own
        return None


@cache
def _evaluation(folder: Path, house: service.Hospital) -> dict[str, Any] | None:
    """`evaluation.json` names no digest of the weights that it was measured on, but it holds what they answered.
    Figures that came with other weights, or were left behind when these were trained on, are not theirs."""
    file = folder / "evaluation.json"
    found = json.loads(file.read_text("utf-8")) if file.is_file() else None
    return found if found and all(_answers_so(house, one) for one in found["examples"][:TRIED]) else None


def _answers_so(house: service.Hospital, example: Mapping[str, Any]) -> bool:
    """Whether the open model gives the likeliest next tokens the shares that were recorded."""
    recorded = [one["probability"] for one in example["likeliest_next"]]
    now = [one.probability for one in house.trace(example["prompt"]).top(-1, len(recorded))]
    return bool(recorded) and all(math.isclose(a, b, abs_tol=SAME) for a, b in zip(recorded, now, strict=True))


def bank(measured: Mapping[str, Any]) -> plates.Plate:
    """Perplexity on held-out texts of every source."""
    sources = measured["heldout"]["model"]["by_source"]
    return plates.rank(
        "bank",
        [t(f"discharge.source.{source}") for source in sources],
        [scores["perplexity"] for scores in sources.values()],
        digits=1,
        role="ink",
        title=t("discharge.bank.title"),
        note=t("discharge.bank.note", **bank_numbers(measured)),
    )


def bank_numbers(measured: Mapping[str, Any]) -> dict[str, str]:
    """Perplexity at home, and where it is highest."""
    every = {name: scores["perplexity"] for name, scores in measured["heldout"]["model"]["by_source"].items()}
    worst = max(every, key=every.__getitem__)
    return {
        "own": number(every["own"], digits=1),
        "worst": number(every[worst], digits=0),
        "where": t(f"discharge.source.{worst}"),
    }
