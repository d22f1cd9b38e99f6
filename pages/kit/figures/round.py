"""The whole round's pictures: tokens by floors."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from model import ModelConfig, Trace
from pages.kit import plates, service
from pages.kit.chapter import Visit, equals, number, percent, sentences
from pages.kit.figures import common, discharge
from pages.kit.figures.common import once
from pages.kit.words import t

if TYPE_CHECKING:
    from model.study import EarlyExit

# -- which rooms are shared --------------------------------------------------------------------------------------------


@once
def meetings(visit: Visit) -> Tensor:
    """(T, T): rooms that two tokens both called, over all departments."""
    rooms = visit.trace.woken().float().transpose(0, 1).flatten(1)
    return rooms @ rooms.t()


def with_followed(visit: Visit) -> Tensor:
    """(M, T): how many of the followed token's rooms each token shares, on each department."""
    rooms = visit.trace.woken().float()
    return (rooms @ rooms[:, visit.token].unsqueeze(-1)).squeeze(-1)


def by_chance(c: ModelConfig) -> float:
    """Rooms that two tokens would share on a floor if each called k of E at random: k * k / E."""
    return c.num_experts_per_tok**2 / c.n_routed_experts


class Company(NamedTuple):
    """Whom the followed token is compared with, and how much they and everybody share."""

    other: int  # position
    shared: int  # rooms in all departments
    mean: float  # rooms per department
    everybody: float  # rooms per department, mean over all pairs
    chance: float


def company(visit: Visit, wanted: int | None) -> Company | None:
    """Compared with `wanted`, or with whom most rooms are shared; None where the followed token is alone."""
    pairs, tokens, c = meetings(visit), len(visit.trace.ids), visit.trace.config
    if tokens == 1:
        return None
    others = pairs[visit.token].clone()
    others[visit.token] = -1
    other = wanted if wanted is not None and wanted < tokens and wanted != visit.token else int(others.argmax())
    off_diagonal = (pairs.sum() - pairs.diagonal().sum()) / (tokens * (tokens - 1))
    floors = c.num_moe_layers
    shared = int(pairs[visit.token, other])
    return Company(other, shared, shared / floors, float(off_diagonal) / floors, by_chance(c))


def rooms_shared(visit: Visit, found: Company) -> plates.Plate:
    """The followed token's rooms, shared with each other token, floor by floor."""
    c, shared = visit.trace.config, with_followed(visit)
    words = {"token": visit.name(), "other": visit.name(found.other), "k": c.num_experts_per_tok, "floor": visit.floor}
    here = []
    if visit.department >= 0:
        here = [t("round.rooms.here", **words, shared=int(shared[visit.department, found.other]))]
    shared[:, visit.token] = torch.nan
    return plates.grid(
        "shared",
        plates.floors(c, departments=True),
        common.token_axis(visit),
        shared,
        from_below=True,
        domain=[0, c.num_experts_per_tok],
        role="intern",
        digits=0,
        left=40,
        cell=6,
        width="half",
        title=t("round.rooms.title", **words),
        alt=t("round.rooms.alt", **words),
        note=sentences(t("round.rooms.note", **words), *here),
    )


def pairs(visit: Visit, found: Company) -> plates.Plate:
    """Rooms per floor that each two tokens share."""
    c = visit.trace.config
    mean = meetings(visit) / c.num_moe_layers
    mean.fill_diagonal_(torch.nan)
    words = {"token": visit.name(), "other": visit.name(found.other), "mean": number(found.mean, digits=2),
             "everybody": number(found.everybody, digits=2), "chance": number(found.chance, digits=2)}  # fmt: skip
    return plates.grid(
        "pairs",
        common.token_axis(visit, "other"),
        common.token_axis(visit),
        mean,
        role="intern",
        digits=2,
        left=76,
        width="half",
        title=t("round.pairs.title"),
        alt=t("round.pairs.alt", **words),
        note=t("round.pairs.note", **words),
    )


# -- who was woken -----------------------------------------------------------------------------------------------------


@once
def first_calls(visit: Visit) -> Tensor:
    """(T, M): routed experts of each floor that each token was the first to call."""
    trace = visit.trace
    layers, tokens, k = trace.chosen.shape
    first = torch.full((layers, trace.config.n_routed_experts), tokens)
    at = torch.arange(tokens).repeat_interleave(k).expand(layers, -1)
    first.scatter_reduce_(1, trace.chosen.flatten(1), at, "amin")
    return torch.stack([(first == token).sum(1) for token in range(tokens)])


def grown_by_chance(c: ModelConfig, tokens: int) -> Tensor:
    """(T,): experts woken in all if every token called k of E at random: M E (1 - (1 - k / E)^t)."""
    asleep = 1 - c.num_experts_per_tok / c.n_routed_experts
    return c.num_moe_layers * c.n_routed_experts * (1 - asleep ** torch.arange(1, tokens + 1))


class Woken(NamedTuple):
    """Routed experts that the sentence woke."""

    per_token: int  # expert FFNs that one token passes through, shared ones included
    woken: int
    all: int
    chance: float  # woken, had everybody called at random
    new: int  # that the followed token was the first to call
    calls: int  # of routed experts by one token


def woken(visit: Visit) -> Woken:
    """Counts from the trace."""
    trace, c = visit.trace, visit.trace.config
    return Woken(
        trace.experts_per_token,
        trace.experts_touched,
        c.num_moe_layers * c.n_routed_experts,
        float(grown_by_chance(c, len(trace.ids))[-1]),
        int(first_calls(visit)[visit.token].sum()),
        c.num_moe_layers * c.num_experts_per_tok,
    )


def counts(found: Woken, tokens: int) -> plates.Plate:
    """The big numbers."""
    return plates.facts(
        "counts",
        [
            (f"{found.per_token:,}", t("round.counts.each")),
            (f"{found.woken:,}", t("round.counts.woken", tokens=tokens), t("round.counts.of", all=f"{found.all:,}")),
            (percent(1 - found.woken / found.all), t("round.counts.asleep")),
            (number(found.chance, digits=0), t("round.counts.chance")),
        ],
    )


def growth(visit: Visit, found: Woken) -> plates.Plate:
    """How many were awake after each token."""
    grown = first_calls(visit).sum(1).cumsum(0)
    words = {"token": visit.name(), "new": f"{found.new:,}", "calls": f"{found.calls:,}", "woken": f"{found.woken:,}",
             "chance": number(found.chance, digits=0)}  # fmt: skip
    return plates.lines(
        "growth",
        common.token_axis(visit),
        [
            plates.series(t("round.growth.woken"), grown.float(), "intern"),
            plates.series(t("round.growth.chance"), grown_by_chance(visit.trace.config, len(visit.trace.ids)), "soft"),
        ],
        from_zero=True,
        digits=0,
        width="half",
        title=t("round.growth.title"),
        alt=t("round.growth.alt", **words),
        note=t("round.growth.note", **words),
    )


def by_floor(visit: Visit) -> plates.Plate:
    """How many were woken on each floor."""
    c, each = visit.trace.config, visit.trace.experts_touched_per_layer()
    fewest, most = int(each.argmin()), int(each.argmax())
    ground = c.first_k_dense_replace + 1
    chance = grown_by_chance(c, len(visit.trace.ids))[-1] / c.num_moe_layers
    words = {"rooms": c.n_routed_experts, "least": int(each[fewest]), "lowest": fewest + ground,
             "most": int(each[most]), "highest": most + ground, "chance": number(float(chance), digits=1)}  # fmt: skip
    return plates.lines(
        "by_floor",
        plates.floors(c, departments=True),
        [
            plates.series(t("round.by_floor.woken"), each.float(), "intern"),
            plates.series(t("round.growth.chance"), chance.expand(len(each)), "soft"),
        ],
        from_zero=True,
        digits=1,
        width="half",
        title=t("round.by_floor.title"),
        alt=t("round.by_floor.alt", **words),
        note=t("round.by_floor.note", **words),
    )


# -- what attention, nurse and interns add -----------------------------------------------------------------------------

PARTS = ("attention", "desk", "nurse", "interns")
ROLES = dict(zip(PARTS, ("attention", "desk", "nurse", "intern"), strict=True))


@once
def added(visit: Visit, token: int) -> dict[str, Tensor]:
    """What each part added to a token on each floor, (L, d) each; NaN on floors that have no such part."""
    trace, first = visit.trace, visit.trace.config.first_k_dense_replace
    ffn = trace.ffn_output[:, token]
    shared = visit.house.live.engine.shared_output(trace, token)
    nothing = torch.full_like(ffn, torch.nan)
    desk, nurse, interns = nothing.clone(), nothing.clone(), nothing.clone()
    desk[:first], nurse[first:], interns[first:] = ffn[:first], shared, ffn[first:] - shared
    return dict(zip(PARTS, (trace.attention_output[:, token], desk, nurse, interns), strict=True))


class Grown(NamedTuple):
    """How this house got its height, and which of its floors come from the same one."""

    before: int  # floors that it had
    first: int
    last: int


def grown(visit: Visit) -> Grown | None:
    """For the followed floor, or for the first department from the desk. None where nothing is known of its growth.

    `model.train.grow` copies every department along the depth, as evenly as it goes.
    """
    c, measured = visit.trace.config, discharge.evaluation()
    stages = (measured or {}).get("training") or {}
    layers = [stage["layers"] for stage in stages.get("stages", ())]
    if len(layers) < 2 or layers[-1] != c.num_hidden_layers or layers[0] == layers[-1]:
        return None
    desk, count = c.first_k_dense_replace, c.num_moe_layers
    origin = [i * (layers[0] - desk) // count for i in range(count)]
    same = [i for i, one in enumerate(origin) if one == origin[max(visit.department, 0)]]
    return Grown(layers[0], desk + same[0] + 1, desk + same[-1] + 1)


def lengths(visit: Visit, parts: dict[str, Tensor]) -> plates.Plate:
    """How long the vector is that each part adds on each floor."""
    here = {part: float(states[visit.layer].norm()) for part, states in parts.items()}
    words = {part: number(length) for part, length in here.items()}
    where = "desk" if visit.department < 0 else "department"
    note = t(f"round.lengths.note_{where}", token=visit.name(), floor=visit.floor, **words)
    if steps := grown(visit):
        note = sentences(note, t("round.lengths.steps", floors=visit.trace.config.num_hidden_layers, **steps._asdict()))
    return plates.lines(
        "lengths",
        plates.floors(visit.trace.config),
        [plates.series(t(f"round.part.{part}"), parts[part].norm(dim=-1), ROLES[part]) for part in PARTS],
        log=True,
        width="half",
        title=t("round.lengths.title"),
        alt=note.replace("**", ""),
        note=note,
    )


class Worth(NamedTuple):
    """What each part is worth to the final answer in all: logits above the mean of the vocabulary; they add up."""

    embedding: float
    parts: dict[str, float]
    logit: float


def worth(visit: Visit, parts: dict[str, Tensor]) -> tuple[Worth, dict[str, Tensor]]:
    """Totals, and per floor (L,), NaN where there is no such part."""
    trace, answer = visit.trace, int(visit.trace.logits[visit.token].argmax())
    readout = visit.house.live.engine.readout(trace, visit.token, answer)
    each = {part: states @ readout for part, states in parts.items()}
    total = {part: float(values.nansum()) for part, values in each.items()}
    logits = trace.logits[visit.token]
    return Worth(float(trace.hidden[0, visit.token] @ readout), total, float(logits[answer] - logits.mean())), each


def pushes(visit: Visit, found: Worth, each: dict[str, Tensor]) -> plates.Plate:
    """The running totals of what each part is worth to the final answer, floor by floor."""
    words = {part: number(value, digits=2) for part, value in found.parts.items()}
    words |= {"embedding": number(found.embedding, digits=2), "logit": number(found.logit, digits=2),
              "equals": equals((found.embedding, *found.parts.values()), found.logit, digits=2),
              "answer": answer(visit)}  # fmt: skip
    return plates.lines(
        "pushes",
        plates.floors(visit.trace.config),
        [
            plates.series(
                t(f"round.part.{part}"), torch.where(each[part].isnan(), torch.nan, each[part].nan_to_num().cumsum(0)),
                ROLES[part],
            )
            for part in PARTS
        ],
        from_zero=True,
        width="half",
        title=t("round.pushes.title", **words),
        alt=t("round.pushes.alt", **words),
        note=t("round.pushes.note", **words),
    )  # fmt: skip


# -- the logit lens ----------------------------------------------------------------------------------------------------


class Lens(NamedTuple):
    """Tokens, discharged after every floor; (L, T) each, or (L,) of one token."""

    word: Tensor  # the likeliest next token there
    best: Tensor  # its probability
    final: Tensor  # the probability of the answer that the whole walk gives


@once
def lens_of(visit: Visit, token: int) -> Lens:
    """The logit lens of one token: all that is needed before the question is answered."""
    return _lens(visit, token)


@once
def lens(visit: Visit) -> Lens:
    """The logit lens of every token, one at a time (all at once would be (L, T, vocab)), on all cores."""
    with ThreadPoolExecutor(service.PASSES_AT_ONCE) as pool:
        each = pool.map(lambda token: _lens(visit, token), range(len(visit.trace.ids)))
        return Lens(*(torch.stack(values, 1) for values in zip(*each, strict=True)))


def _lens(visit: Visit, token: int) -> Lens:
    logits = visit.house.live.engine.lens(visit.trace, token)[1:]
    word = torch.from_numpy(logits.numpy().argmax(-1))  # a tenth of the time that torch takes
    likely = logits.softmax(-1)
    return Lens(word, likely.gather(1, word[:, None]).squeeze(1), likely[:, visit.trace.logits[token].argmax()])


@once
def place(visit: Visit, token: int) -> Tensor:
    """(L,): the place of a token's final answer among all words, from 1, were it discharged after each floor."""
    logits = visit.house.live.engine.lens(visit.trace, token)[1:]
    return (logits > logits[:, visit.trace.logits[token].argmax(), None]).sum(-1) + 1


def answer(visit: Visit) -> str:
    """What the doctor says to the followed token at the end."""
    return common.said(visit, int(visit.trace.logits[visit.token].argmax()))


class Settled(NamedTuple):
    """Floors on which the final answer is said, as people count them."""

    first: int  # for the first time
    good: int  # and on every floor from here on


def settled(visit: Visit) -> Settled:
    """When the followed token first has its final answer, and when for good."""
    return _settled(lens_of(visit, visit.token).word)


def _settled(word: Tensor) -> Settled:
    agrees = (word == word[-1]).tolist()
    wrong = [floor for floor, agree in enumerate(agrees, 1) if not agree]
    return Settled(agrees.index(True) + 1, wrong[-1] + 1 if wrong else 1)


def stages(c: ModelConfig) -> list[tuple[int, int]]:
    """The house in up to four stretches of floors, (first, last) as people count: the desk, then the departments'
    lowest quarter, the next one, and the upper half."""
    desk, top = c.first_k_dense_replace, c.num_hidden_layers
    middle = (desk + top) // 2
    edges = sorted({0, desk, (desk + middle) // 2, middle, top})
    return [(below + 1, last) for below, last in zip(edges, edges[1:], strict=False)]


def stage_of(c: ModelConfig, floor: int) -> int:
    """Which of `stages` the floor is in."""
    return next(i for i, (_, last) in enumerate(stages(c)) if floor <= last)


def chances(visit: Visit) -> plates.Plate:
    """Probability of the final answer, and of the floor's own, if the followed token left there."""
    seen, at = lens(visit), visit.token
    names = _words(visit, seen.word[:, at])
    best, final = (percent(float(p[visit.layer, at])) for p in (seen.best, seen.final))
    here = {"floor": visit.floor, "word": names[visit.layer], "best": best, "final": final,
            "answer": answer(visit), "token": visit.name()}  # fmt: skip
    return plates.lines(
        "chances",
        plates.floors(visit.trace.config),
        [
            plates.series(t("round.chances.final", **here), seen.final[:, at], "patient"),
            plates.series(t("round.chances.best"), seen.best[:, at], "soft"),
        ],
        texts=names,
        percent=True,
        from_zero=True,
        domain=[0, 1],
        width="half",
        title=t("round.chances.title"),
        alt=t("round.chances.alt", **here),
        note=t("round.chances.note", **here),
    )


def ranks(visit: Visit) -> plates.Plate:
    """The final answer's place among all words, floor by floor."""
    seen, at, c = place(visit, visit.token), visit.token, visit.trace.config
    words = {"answer": answer(visit), "floor": visit.floor, "vocabulary": f"{c.vocab_size:,}",
             "rank": f"{int(seen[visit.layer]):,}", "first": f"{int(seen[0]):,}"}  # fmt: skip
    return plates.lines(
        "ranks",
        plates.floors(c),
        [plates.series(t("round.ranks.series", **words), seen.float(), "patient")],
        texts=_words(visit, lens(visit).word[:, at]),
        log=True,
        digits=0,
        width="half",
        title=t("round.ranks.title", **words),
        alt=t("round.ranks.alt", **words),
        note=t("round.ranks.note", **words),
    )


class Stretch(NamedTuple):
    """Floors in a row on which the same word is the likeliest, as people count them."""

    first: int
    last: int
    word: int
    probability: float  # on the last of them


def stretches(visit: Visit) -> list[Stretch]:
    """What the doctor would say to the followed token, from the first floor up."""
    seen = lens(visit)
    found: list[Stretch] = []
    pairs = zip(seen.word[:, visit.token].tolist(), seen.best[:, visit.token].tolist(), strict=True)
    for floor, (word, probability) in enumerate(pairs, 1):
        if found and found[-1].word == word:
            found[-1] = Stretch(found[-1].first, floor, word, probability)
        else:
            found.append(Stretch(floor, floor, word, probability))
    return found


def diary(visit: Visit) -> plates.Plate:
    """The doctor's answers on the way up."""
    found, when = stretches(visit), settled(visit)
    labels = [
        t("round.diary.row" if one.last > one.first else "round.diary.one", first=one.first, last=one.last,
          word=common.said(visit, one.word))
        for one in found
    ]  # fmt: skip
    key = "steady" if when.first == when.good else "wavers"
    return plates.rank(
        "diary",
        labels,
        [one.probability for one in found],
        axis=plates.axis("floor", len(found), indices=[one.last for one in found]),
        percent=True,
        role="patient",
        title=t("round.diary.title", token=visit.name()),
        note=t(f"round.diary.{key}", answer=answer(visit), first=when.first, good=when.good, changes=len(found) - 1),
    )


def everybody(visit: Visit) -> plates.Plate:
    """Tokens by floors: the probability of each token's own final answer if it left there."""
    seen, c, tokens = lens(visit), visit.trace.config, len(visit.trace.ids)
    good = [_settled(word).good for word in seen.word.unbind(1)]
    half = sorted(good)[(tokens - 1) // 2]
    words = {"tokens": tokens, "half": half, "late": sum(floor > c.num_hidden_layers // 2 for floor in good),
             "middle": c.num_hidden_layers // 2}  # fmt: skip
    return plates.grid(
        "everybody",
        plates.floors(c),
        common.token_axis(visit),
        seen.final,
        texts=_words(visit, seen.word.flatten()),
        from_below=True,
        domain=[0, 1],
        role="patient",
        percent=True,
        left=40,
        cell=6,
        title=t("round.everybody.title"),
        alt=t("round.everybody.alt", **words),
        note=t("round.everybody.note", **words),
    )


def _words(visit: Visit, ids: Tensor) -> list[str]:
    names = {id: common.said(visit, id) for id in set(ids.tolist())}
    return [names[id] for id in ids.tolist()]


# -- leaving early -----------------------------------------------------------------------------------------------------


def agreement(visit: Visit, found: EarlyExit) -> plates.Plate:
    """How often each floor's answer is the final one, with its 95% interval over texts; and how often it is right."""
    words = {"floor": visit.floor, **at_floor(visit, found)}
    return plates.lines(
        "agreement",
        plates.floors(visit.trace.config),
        [
            plates.series(t("round.agreement.same"), found.agreement, "patient", low=found.low, high=found.high),
            plates.series(t("round.agreement.correct"), found.correct, "soft"),
        ],
        percent=True,
        from_zero=True,
        domain=[0, 1],
        width="half",
        title=t("round.agreement.title"),
        alt=t("round.agreement.alt", **words),
        note=t("round.agreement.note", **words),
    )


def rules(visit: Visit, found: EarlyExit) -> plates.Plate:
    """What would happen if everybody went home as soon as the answer on a floor is sure enough."""
    strictest = max(found.exits)
    words = {"sure": percent(strictest.threshold, digits=0), "mean": number(strictest.mean_floor, digits=1),
             "floors": visit.trace.config.num_hidden_layers, "other": percent(1 - strictest.agreement),
             "left": percent(strictest.share_exited), "right": percent(strictest.accuracy),
             "walked": percent(strictest.accuracy_without)}  # fmt: skip
    return plates.table(
        "rules",
        [percent(rule.threshold, digits=0) for rule in found.exits],
        [
            {"label": t("round.rules.floor"), "digits": 1},
            *({"label": t(f"round.rules.{what}"), "percent": True} for what in ("left", "same", "right")),
        ],
        [[rule.mean_floor, rule.share_exited, rule.agreement, rule.accuracy] for rule in found.exits],
        width="half",
        title=t("round.rules.title"),
        alt=t("round.rules.alt", **words),
        note=t("round.rules.note", **words),
    )


def at_floor(visit: Visit, found: EarlyExit) -> dict[str, str]:
    """The words of the measurement for the followed floor."""
    return {
        "share": percent(float(found.agreement[visit.layer])),
        "low": percent(float(found.low[visit.layer])),
        "high": percent(float(found.high[visit.layer])),
        "correct": percent(float(found.correct[visit.layer])),
        "best": percent(float(found.correct[-1])),
        "tokens": f"{found.tokens:,}",
        "documents": f"{found.documents:,}",
    }


class Stopped(NamedTuple):
    """The walk, stopped after the followed floor."""

    before: str  # as in `common.Answers`
    was: float
    after: str
    now: float
    same: bool
    experts: int  # that worked for one token
    whole: int  # that work for one token in the whole walk
    gap: float  # largest difference from the same floor's row of the lens, in logits


def stopped(visit: Visit, changed: Trace) -> Stopped:
    """What leaving after the followed floor means for the followed token."""
    row = visit.house.live.engine.lens(visit.trace, visit.token)[visit.floor]
    return Stopped(
        *common.answers(visit, changed), changed.experts_per_token, visit.trace.experts_per_token,
        float((changed.logits[visit.token] - row).abs().max()),
    )  # fmt: skip


def outcome(visit: Visit, changed: Trace, found: Stopped) -> Sequence[plates.Plate]:
    """What the doctor says, before and after, and what was saved."""
    same = "same" if found.same else "other"
    words = {"floor": visit.floor, "token": visit.name(), "before": found.before, "was": percent(found.was),
             "after": found.after, "now": percent(found.now)}  # fmt: skip
    return [
        common.next_tokens(
            visit, changed, visit.trace, width="half", role="patient", title=t("round.stop.title", **words),
            note=t(f"round.stop.{same}", **words),
        ),
        plates.facts(
            "saved",
            [
                (f"{found.experts:,}", t("round.saved.experts", floor=visit.floor),
                 t("round.saved.of", whole=f"{found.whole:,}")),
                (f"{found.whole - found.experts:,}", t("round.saved.spared")),
                (percent(changed.weights_touched / changed.weights_total),
                 t("round.saved.weights"),
                 t("round.saved.before", share=percent(visit.trace.weights_touched / visit.trace.weights_total))),
                (f"{found.gap:.1e}" if found.gap else "0", t("round.saved.gap")),
            ],
            width="half",
        ),
    ]  # fmt: skip
