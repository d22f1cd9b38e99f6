"""Questions for the quiz: each a pure function of what a visit looks at, with one right answer read off its trace.

Nothing here is drawn by lot: which kinds are asked, about whom, and in which order the options stand is dealt by
pages/kit/quiz.py. A generator gives None where its question would not be a fair one (too few that can be told apart).
Questions hold no words, so that a quiz stays the same when the language is switched; words are `quiz.<kind>.*`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model import Interventions, costs
from model.deepseek_v3 import choose
from pages.kit import building, plates, shell, words
from pages.kit import code as files
from pages.kit.chapter import Visit, bare, number, percent
from pages.kit.code import Source, source
from pages.kit.figures.round import by_chance, grown_by_chance
from pages.kit.state import HUNDRED
from pages.kit.words import t

LEAST = 3  # options of a question
MOST = 4
APART = 1.15  # times: measured numbers closer to the right one than this are no fair wrong answers
CLEAR = 0.02  # of probability: the same for shares
TELLING = 0.01  # of a weight: the same for what a board would do to it
UNSURE = 0.05  # of probability: a draw is worth a question above this
SURE = 0.95  # and below this
CANDIDATES = 5  # likeliest next tokens
TWICE = 2.0  # a temperature

TOPICS = ("house", "gate", "consult", "attention", "cache", "answer", "touch")
MODEL, TRACE, ENGINE, COSTS, GENERATE = (
    "model/deepseek_v3.py", "model/trace.py", "model/engine.py", "model/costs.py", "model/generate.py",
)  # fmt: skip


class Name(NamedTuple):
    """What a token is called: itself, or door and end, which have words."""

    text: str
    special: str = ""  # of the words building.*

    def said(self, lang: str) -> str:
        """In a language; plain text, not Markdown."""
        return words.say(lang, f"building.{self.special}") if self.special else self.text


class Rooms(NamedTuple):
    """Rooms in a sentence; they may be none."""

    numbers: Sequence[int]

    def said(self, lang: str) -> str:
        """In a language, in order."""
        return words.say(lang, "department.comma").join(map(str, sorted(self.numbers))) or "–"


def called(visit: Visit, token: int) -> Name:
    """A token of the sentence."""
    piece = visit.pieces[token]
    return Name("", "end" if token else "door") if piece["special"] else Name(bare(piece["text"]))


def spelt(visit: Visit, ids: Sequence[int]) -> list[Name]:
    """Tokens of the vocabulary, side by side: what looks alike is told apart."""
    pieces = visit.house.tokenizer.pieces(ids)
    looks = building.apart([building.shown(piece) for piece in pieces])
    return [Name("", "end") if p.is_special else Name(look) for p, look in zip(pieces, looks, strict=True)]


def tell(lang: str, key: str, values: Mapping[str, Any], markup: bool = False) -> str:
    """The words for `key` with the values put in. `markup`: as Markdown, in which no value is markup; otherwise as
    plain text, without the signs of the words' own markup."""
    template = words.table(lang)[key]
    said = {name: value.said(lang) if isinstance(value, Name | Rooms) else value for name, value in values.items()}
    if markup:
        return template.format(**{name: shell.plain(v) if isinstance(v, str) else v for name, v in said.items()})
    return template.replace("**", "").replace("`", "").format(**said)


class Option(NamedTuple):
    """One answer that can be given. Words: `quiz.option.<key>`."""

    key: str
    values: Mapping[str, Any]

    def said(self, lang: str) -> str:
        """In a language; plain text."""
        return tell(lang, f"quiz.option.{self.key}", self.values)


class Door(NamedTuple):
    """The page on which one sees it, and what must be set there."""

    page: str
    settings: Mapping[str, int | str]


@dataclass(frozen=True)
class Question:
    """One question. Words: `quiz.<kind>.ask.<depth>` and `.why`, both with `values`."""

    kind: str
    topic: str
    token: int  # whom it is about
    floor: int  # and where
    options: tuple[Option, ...]
    door: Door
    values: Mapping[str, Any] = field(default_factory=dict)
    right: int = 0  # which of the options

    def ask(self, lang: str, depth: str, markup: bool = False) -> str:
        """The question at a depth."""
        return tell(lang, self._words(depth), self.values, markup)

    def about_one(self, depth: str) -> bool:
        """Whether it names the token; otherwise it is about the whole sentence, or about the house."""
        return "{token}" in words.table(words.FALLBACK)[self._words(depth)]

    def _words(self, depth: str) -> str:
        """The deepest that its kind has up to there."""
        own = ("story", "maths", "code")
        keys = [f"quiz.{self.kind}.ask.{one}" for one in reversed(own[: own.index(depth) + 1])]
        return next(key for key in keys if key in words.tables()[words.FALLBACK])

    def why(self, lang: str, markup: bool = False) -> str:
        """Why the right answer is right, with the numbers."""
        return tell(lang, f"quiz.{self.kind}.why", self.values, markup)


def fair(right: Option, wrong: Iterable[Option | None]) -> tuple[Option, ...] | None:
    """The right answer and the first wrong ones that look different from it and from each other in every language;
    None if these are too few."""
    found, seen = [right], {lang: {right.said(lang)} for lang in words.languages()}
    for one in wrong:
        if one is None or len(found) == MOST or any(one.said(lang) in looks for lang, looks in seen.items()):
            continue
        found.append(one)
        for lang, looks in seen.items():
            looks.add(one.said(lang))
    return tuple(found) if len(found) >= LEAST else None


# -- answers of one sort -----------------------------------------------------------------------------------------------


def plain(text: str | Name) -> Option:
    """Something that speaks for itself."""
    return Option("plain", {"text": text})


def quoted(name: Name) -> Option:
    """A token, by itself."""
    return Option("word", {"word": name})


def count(value: float) -> Option:
    """A whole number."""
    return plain(f"{round(value):,}")


def room(number: int) -> Option:
    """An intern."""
    return Option("room", {"room": number})


def floor_of(number: int) -> Option:
    """A floor, as people count."""
    return Option("floor", {"floor": number})


def corridors(groups: Iterable[int]) -> Option:
    """A set of corridors by their letters."""
    return plain(" · ".join(letters(groups)))


def letters(groups: Iterable[int]) -> list[str]:
    """What corridors are called on every picture, from the first one on."""
    return [building.letter(group) for group in sorted(groups)]


def shape(*sizes: int) -> Option:
    """The shape of a tensor."""
    return plain(f"({', '.join(map(str, sizes))})")


def measured(right: float, wrong: Iterable[float], digits: int) -> tuple[Option, ...] | None:
    """A length or a ratio among others that are clearly longer or shorter."""
    low, high = right / APART, right * APART
    return fair(plain(number(right, digits)), (plain(number(w, digits)) for w in wrong if not low < w < high))


def shares(right: float, wrong: Iterable[float]) -> tuple[Option, ...] | None:
    """A share among others that are clearly larger or smaller."""
    others = (plain(percent(w)) for w in wrong if abs(w - right) >= CLEAR and 0 <= w <= 1)
    return fair(plain(percent(right)), others)


# -- what a visit sees -------------------------------------------------------------------------------------------------


class Gate(NamedTuple):
    """What the gate of the followed floor did for the followed token."""

    scores: Tensor  # (E,)
    choice: Tensor  # (E,) scores + bias
    groups: Tensor  # (G,)
    open: list[int]
    called: list[int]  # best first
    raw: list[float]
    weights: list[float]
    size: int  # rooms of a corridor


def gate(v: Visit) -> Gate:
    """Read off the trace."""
    trace, at, c = v.trace, (v.department, v.token), v.trace.config
    return Gate(
        trace.scores[at], trace.choice_scores[at], trace.group_scores[at], sorted(trace.kept_groups[at].tolist()),
        trace.chosen[at].tolist(), trace.raw_weights[at].tolist(), trace.weights[at].tolist(),
        c.n_routed_experts // c.n_group,
    )  # fmt: skip


def here(v: Visit, **more: int | str) -> dict[str, int | str]:
    """Where to look at it."""
    return {"token": v.token, "floor": v.floor, **more}


def make(
    kind: str, v: Visit, options: tuple[Option, ...] | None, page: str, settings: Mapping[str, int | str] | None = None,
    **values: Any,
) -> Question | None:  # fmt: skip
    """The question, if there are options; the token and the floor are values of every one."""
    if options is None:
        return None
    values = {"token": called(v, v.token), "floor": v.floor, **values}
    there = Door(page, here(v) if settings is None else settings)
    return Question(kind, KINDS[kind].topic, v.token, v.floor, options, there, values)


# -- the house ---------------------------------------------------------------------------------------------------------


def experts(v: Visit) -> Question | None:
    """How many experts work for one token."""
    c, right = v.trace.config, v.trace.experts_per_token
    each, floors = c.num_experts_per_tok + c.n_shared_experts, c.num_moe_layers
    wrong = [floors * c.num_experts_per_tok, c.num_hidden_layers * each, each, floors * c.n_routed_experts]
    return make(
        "experts", v, fair(count(right), map(count, wrong)), "round", floors=floors, k=c.num_experts_per_tok,
        nurses=c.n_shared_experts, right=f"{right:,}",
    )  # fmt: skip


def share(v: Visit) -> Question | None:
    """Which share of a department's weights works for one token."""
    c, used = v.trace.config, costs.floor_shares(v.trace.config)
    right = used.moe_used / used.moe_all
    wrong = [1.0, c.topk_group / c.n_group, c.num_experts_per_tok / c.n_routed_experts, 0.5]
    return make(
        "share", v, shares(right, wrong), "triage", {}, k=c.num_experts_per_tok, rooms=c.n_routed_experts,
        used=f"{used.moe_used:,}", all=f"{used.moe_all:,}", right=percent(right),
    )  # fmt: skip


def used(v: Visit) -> Question | None:
    """Which share of all weights the whole sentence used at least once."""
    trace, c = v.trace, v.trace.config
    right, size = trace.weights_touched / trace.weights_total, costs.parameters(c)
    interns = trace.experts_touched / (c.num_moe_layers * c.n_routed_experts)
    wrong = [size.active / size.main, 1.0, interns, right / 2, c.num_experts_per_tok / c.n_routed_experts]
    return make(
        "used", v, shares(right, wrong), "round", tokens=len(trace.ids), touched=f"{trace.weights_touched:,}",
        all=f"{trace.weights_total:,}", one=percent(size.active / size.main), right=percent(right),
    )  # fmt: skip


def woken(v: Visit) -> Question | None:
    """How many different rooms of a floor the sentence woke."""
    trace, c = v.trace, v.trace.config
    each, tokens, k = trace.experts_touched_per_layer(), len(trace.ids), c.num_experts_per_tok
    right = int(each[v.department])
    chance = float(grown_by_chance(c, tokens)[-1]) / c.num_moe_layers
    wrong = [min(tokens * k, c.n_routed_experts), k, chance, c.n_routed_experts, int(each.max()), (right + k) / 2]
    return make(
        "woken", v, fair(count(right), map(count, wrong)), "round", tokens=tokens, k=k, rooms=c.n_routed_experts,
        calls=f"{tokens * k:,}", right=right, chance=number(chance, digits=1),
    )  # fmt: skip


def pair(v: Visit) -> Question | None:
    """How many rooms two neighbours share, over all floors."""
    if not v.token:
        return None
    trace, c, other = v.trace, v.trace.config, v.token - 1
    rooms = trace.woken()
    right = int((rooms[:, v.token] & rooms[:, other]).sum())
    calls, chance = c.num_moe_layers * c.num_experts_per_tok, by_chance(c) * c.num_moe_layers
    return make(
        "pair", v, fair(count(right), map(count, [chance, calls, calls / 2, 0])), "round", here(v, other=other),
        other=called(v, other), calls=f"{calls:,}", floors=c.num_moe_layers, right=right,
        chance=number(chance, digits=1),
    )  # fmt: skip


# -- the gate ----------------------------------------------------------------------------------------------------------


def closed(v: Visit) -> Question | None:
    """Which corridors were closed."""
    g, c = gate(v), v.trace.config
    shut = [group for group in range(c.n_group) if group not in g.open]
    if not shut:
        return None
    score = g.groups.tolist()
    weakest, strongest = sorted(g.open, key=lambda i: score[i]), sorted(shut, key=lambda i: -score[i])
    swapped = [{*shut} - {out} | {into} for out in strongest for into in weakest]  # the closest call first
    wrong = [swapped[0], set(g.open), *swapped[1:]]
    return make(
        "closed", v, fair(corridors(shut), (corridors(one) for one in wrong if one != set(shut))), "department",
        groups=c.n_group, kept=c.topk_group, shut=" · ".join(letters(shut)), open=" · ".join(letters(g.open)),
        last=letters(weakest[:1])[0], lowest=number(score[weakest[0]]), first=letters(strongest[:1])[0],
        highest=number(score[strongest[0]]),
    )  # fmt: skip


def board(v: Visit) -> Question | None:
    """Who was called only because of the crowding boards."""
    g, c = gate(v), v.trace.config
    bare_choice = choose(g.scores[None], c.n_group, c.topk_group, len(g.called))[2][0].tolist()
    gone = [one for one in g.called if one not in bare_choice]
    instead = [one for one in bare_choice if one not in g.called]
    stay = [one for one in g.called if one in bare_choice]
    nobody = Option("nobody", {"k": len(g.called)})
    right = room(gone[0]) if gone else nobody
    wrong = [nobody, *map(room, [*instead[:1], *stay])] if gone else [room(one) for one in reversed(stay)]
    return make(
        "board", v, fair(right, wrong), "department", here(v, room=(gone or g.called)[0]), k=len(g.called),
        same=len(stay), gone=Rooms(gone), instead=Rooms(instead),
    )  # fmt: skip


def door(v: Visit) -> Question | None:
    """Why somebody with more than one who was called was not called himself."""
    g = gate(v)
    shut = [i for i in range(len(g.scores)) if i // g.size not in g.open]
    if not shut:
        return None
    best, last = max(shut, key=lambda i: float(g.choice[i])), g.called[-1]
    high, low = number(float(g.choice[best])), number(float(g.choice[last]))
    if float(g.choice[best]) <= float(g.choice[last]) or high == low:
        return None
    options = fair(Option("door_shut", {"corridor": letters([best // g.size])[0]}),
                   [Option("door_board", {}), Option("door_full", {}), Option("door_nurse", {})])  # fmt: skip
    return make(
        "door", v, options, "department", here(v, room=best), room=best, last=last, high=high, low=low,
        corridor=letters([best // g.size])[0], open=" · ".join(letters(g.open)),
    )  # fmt: skip


def zero(v: Visit) -> Question | None:
    """How many would get in from behind closed doors, were these 0 and not minus infinity."""
    g, c = gate(v), v.trace.config
    if len(g.open) == c.n_group:
        return None
    wrongly = choose(g.choice[None], c.n_group, c.topk_group, len(g.called), closed=0.0)[2][0].tolist()
    right = sum(one // g.size not in g.open for one in wrongly)
    k = len(g.called)
    negative = int((g.choice[[i for i in range(len(g.choice)) if i // g.size in g.open]] < 0).sum())
    return make(
        "zero", v, fair(count(right), map(count, [0, k, k / 2, 1])), "department", here(v, change="mask_with_zero"),
        right=right, negative=negative, behind=g.size * len(g.open), k=k,
    )  # fmt: skip


def chosen(v: Visit) -> Question | None:
    """The shape of the record of who was called."""
    c, right = v.trace.config, v.trace.chosen.shape
    floors, tokens, k = right
    wrong = [(c.num_hidden_layers, tokens, k), (floors, tokens, c.n_routed_experts),
             (floors, tokens, k + c.n_shared_experts)]  # fmt: skip
    options = fair(shape(*right), (shape(*w) for w in wrong))
    return make("chosen", v, options, "department", floors=floors, tokens=tokens, k=k)


# -- the consultation --------------------------------------------------------------------------------------------------


def heaviest(v: Visit) -> Question | None:
    """Whose opinion weighed most."""
    g = gate(v)
    order = sorted(range(len(g.called)), key=lambda i: -g.weights[i])
    first, most = order[0], number(g.weights[order[0]])
    lighter = [i for i in order[1:] if number(g.weights[i]) != most]  # who looks as heavy is no wrong answer
    uncalled = g.choice.clone()
    uncalled[g.called] = -torch.inf
    wrong = [g.called[i] for i in lighter if not i]  # chosen first, and yet not the heaviest
    wrong += [*(g.called[i] for i in lighter[:1]), int(uncalled.argmax()), *(g.called[i] for i in lighter)]
    return make(
        "heaviest", v, fair(room(g.called[first]), map(room, wrong)), "department", here(v, room=g.called[first]),
        room=g.called[first], most=most, second=g.called[order[1 % len(order)]],
        next=number(g.weights[order[1 % len(order)]]), k=len(g.called), first=g.called[0],
    )  # fmt: skip


def weighs(v: Visit) -> Question | None:
    """What an opinion counts, where the crowding board would change it if it were asked."""
    g, c = gate(v), v.trace.config
    boards = [float(g.choice[one]) - raw for one, raw in zip(g.called, g.raw, strict=True)]
    at = max(range(len(boards)), key=lambda i: abs(boards[i]))
    score, with_board, total, all_boards = g.raw[at], g.raw[at] + boards[at], sum(g.raw), sum(g.raw) + sum(boards)
    scale, right = c.routed_scaling_factor, g.weights[at]
    wrong = [with_board / all_boards * scale, score / total, score, with_board]
    if abs(wrong[0] - right) < TELLING:  # then it makes no point
        return None
    others = (plain(number(w)) for w in wrong if abs(w - right) >= TELLING)
    return make(
        "weighs", v, fair(plain(number(right)), others), "department",
        here(v, room=g.called[at]), room=g.called[at], score=number(score), board=number(boards[at]),
        total=number(total), scale=number(scale, digits=1), k=len(g.called), right=number(right),
        leaky=number(wrong[0]),
    )  # fmt: skip


def nurse(v: Visit) -> Question | None:
    """How much the nurse adds against the interns."""
    trace, c = v.trace, v.trace.config
    if not c.n_shared_experts:
        return None
    own = v.house.live.engine.shared_output(trace, v.token)[v.department]
    interns = trace.ffn_output[v.layer, v.token] - own
    hers, theirs = float(own.norm()), float(interns.norm())
    right = hers / theirs if theirs else 0.0
    if not right:
        return None
    wrong = [1 / right, 1 / c.num_experts_per_tok, 1.0, right * 2]
    return make(
        "nurse", v, measured(right, wrong, digits=2), "round", nurse=number(hers), interns=number(theirs),
        right=number(right, digits=2), k=c.num_experts_per_tok,
    )  # fmt: skip


def sums(v: Visit) -> Question | None:
    """What the weights add up to."""
    g, c = gate(v), v.trace.config
    right, wrong = sum(g.weights), [1.0, sum(g.raw), len(g.called), 1 / c.routed_scaling_factor]
    return make(
        "sums", v, measured(right, wrong, digits=2), "department", k=len(g.called), total=number(sum(g.raw)),
        scale=number(c.routed_scaling_factor, digits=1), right=number(right, digits=2),
    )  # fmt: skip


def cancel(v: Visit) -> Question | None:
    """How long the sum of the opinions is."""
    each = v.house.live.engine.opinions(v.trace, v.layer, v.token)
    lengths, right = each.norm(dim=-1), float(each.sum(0).norm())
    wrong = [float(lengths.sum()), float(lengths.square().sum().sqrt()), float(lengths.max()), float(lengths.mean())]
    return make(
        "cancel", v, measured(right, wrong, digits=3), "department", experts=len(lengths),
        all=number(float(lengths.sum())), longest=number(float(lengths.max())), right=number(right),
    )  # fmt: skip


def line(v: Visit) -> Question | None:
    """Which line keeps the board out of the weights. Read from the file that runs."""
    real = source(MODEL, "Router.forward", start="raw = scores", end="raw = scores").text.strip()
    wrong = [real.replace("scores", name) for name in ("choice_scores", "logits", "group_scores")]
    g = gate(v)
    boards = [float(g.choice[one]) - raw for one, raw in zip(g.called, g.raw, strict=True)]
    return make(
        "line", v, fair(plain(real), map(plain, wrong)), "department", low=number(min(boards)),
        high=number(max(boards)), k=len(g.called),
    )  # fmt: skip


# -- attention ---------------------------------------------------------------------------------------------------------


def head(v: Visit) -> Question | None:
    """Whom a head of the floor reads most: the one that is most sure of it."""
    if v.token + 1 < LEAST:
        return None
    weights = v.trace.attention(v.layer)[:, v.token, : v.token + 1]
    two = weights.topk(2).values
    which = int((two[:, 0] - two[:, 1]).argmax())
    row = weights[which].tolist()
    order = sorted(range(len(row)), key=lambda i: -row[i])
    best, most = order[0], percent(row[order[0]])
    right = Option("token", {"index": best, "name": called(v, best)})
    wrong = [Option("token", {"index": i, "name": called(v, i)}) for i in order[1:] if percent(row[i]) != most]
    return make(
        "head", v, fair(right, wrong), "heads", here(v, head=which), head=which, read=called(v, best), index=best,
        most=most, next=percent(row[order[1]]), after=called(v, order[1]),
    )  # fmt: skip


def entrance(v: Visit) -> Question | None:
    """How much of all heads' attention goes to the sign at the door."""
    if v.token + 1 < LEAST:
        return None
    together = v.trace.attention(v.layer)[:, v.token, : v.token + 1].mean(0).tolist()
    right, even = together[0], 1 / (v.token + 1)
    wrong = [even, 1 - right, together[-1], right / 2, 0.0]
    return make(
        "entrance", v, shares(right, wrong), "heads", heads=v.trace.config.num_attention_heads, tokens=v.token + 1,
        even=percent(even), own=percent(together[-1]), right=percent(right),
    )  # fmt: skip


# -- the postal code ---------------------------------------------------------------------------------------------------


def cache(v: Visit) -> Question | None:
    """How many numbers the cache holds of the sentence."""
    trace, c = v.trace, v.trace.config
    floors, tokens, code = trace.memory.shape
    right, full = trace.memory.numel(), costs.full_cache_numbers_per_token(c) * tokens
    wrong = [floors * tokens * c.kv_lora_rank, tokens * code, floors * code, 2 * right]
    return make(
        "cache", v, fair(count(right), map(count, wrong)), "postal", {"token": len(trace.ids) - 1, "floor": v.floor},
        tokens=tokens, floors=floors, code=code, latent=c.kv_lora_rank, rope=c.qk_rope_head_dim, right=f"{right:,}",
        full=f"{full:,}",
    )  # fmt: skip


def ratio(v: Visit) -> Question | None:
    """How many times shorter the code is than the full address."""
    c = v.trace.config
    full, code = c.num_attention_heads * (c.qk_nope_head_dim + c.v_head_dim), v.trace.memory.shape[-1]
    right = full / code
    wrong = [full / c.kv_lora_rank, c.num_attention_heads, c.num_attention_heads * c.qk_nope_head_dim / code,
             full / c.qk_rope_head_dim]  # fmt: skip
    return make(
        "ratio", v, measured(right, wrong, digits=1), "postal", full=f"{full:,}", code=code, latent=c.kv_lora_rank,
        rope=c.qk_rope_head_dim, heads=c.num_attention_heads, keys=c.qk_nope_head_dim, values=c.v_head_dim,
        right=number(right, digits=1),
    )  # fmt: skip


def memory(v: Visit) -> Question | None:
    """The shape of what is cached."""
    c, right = v.trace.config, v.trace.memory.shape
    floors, tokens, code = right
    full = c.num_attention_heads * (c.qk_nope_head_dim + c.v_head_dim)
    wrong = [(floors, tokens, full), (floors, tokens, c.kv_lora_rank), (c.num_moe_layers, tokens, code)]
    options = fair(shape(*right), (shape(*w) for w in wrong))
    more = {"latent": c.kv_lora_rank, "rope": c.qk_rope_head_dim}
    return make("memory", v, options, "postal", floors=floors, tokens=tokens, **more)


# -- the answer --------------------------------------------------------------------------------------------------------


def likeliest(v: Visit) -> Question | None:
    """The likeliest next token."""
    trace, best = v.trace, v.trace.top(v.token, CANDIDATES)
    ids, most = [one.id for one in best], percent(best[0].probability)
    follows = trace.ids[v.token + 1] if v.token + 1 < len(trace.ids) else None
    if follows is not None and follows not in ids:
        ids.insert(1, follows)
    chance = trace.probabilities(v.token)
    names = dict(zip(ids, spelt(v, ids), strict=True))
    wrong = [quoted(names[id]) for id in ids[1:] if percent(float(chance[id])) != most]
    return make(
        "likeliest", v, fair(quoted(names[ids[0]]), wrong), "discharge", {"token": v.token}, word=names[ids[0]],
        most=most, second=names[best[1].id], next=percent(best[1].probability),
    )  # fmt: skip


def cold(v: Visit) -> Question | None:
    """How often the likeliest token comes at temperature 0."""
    best = v.trace.top(v.token, 2)
    p = best[0].probability
    if not UNSURE < p < SURE:
        return None
    often = [HUNDRED * p, HUNDRED * (1 - p), 0, HUNDRED * best[1].probability]
    [word] = spelt(v, [best[0].id])
    always, *others = (Option("of", {"n": round(n), "all": HUNDRED}) for n in (HUNDRED, *often))
    there = {"token": v.token, "temperature": 0}
    return make("cold", v, fair(always, others), "discharge", there, word=word, most=percent(p), all=HUNDRED)


def temperature(v: Visit) -> Question | None:
    """What becomes of the likeliest token at twice the temperature."""
    logits = v.trace.logits[v.token]
    at = int(logits.argmax())
    p, hot, cooled = (float((logits / heat).softmax(-1)[at]) for heat in (1.0, TWICE, 1 / TWICE))
    if not UNSURE < p < SURE:
        return None
    [word] = spelt(v, [at])
    return make(
        "temperature", v, shares(hot, [p / TWICE, cooled, p, p * p]), "discharge",
        {"token": v.token, "temperature": round(TWICE * HUNDRED)}, word=word, most=percent(p), right=percent(hot),
        heat=number(TWICE, digits=0), half=percent(p / TWICE),
    )  # fmt: skip


def settles(v: Visit) -> Question | None:
    """The floor that first ranks the final answer first."""
    logits = v.house.live.engine.lens(v.trace, v.token)[1:]
    word = logits.argmax(-1).tolist()
    floors = [floor for floor, one in enumerate(word, 1) if one == word[-1]]
    first, top, desk = floors[0], len(word), v.trace.config.first_k_dense_replace
    if first == 1:  # nothing was decided on the way
        return None
    wrong_floors = [floor for floor, one in enumerate(word, 1) if one != word[-1]]
    good = wrong_floors[-1] + 1 if wrong_floors else 1
    wrong = [one for one in (good, (first + top) // 2, top, first // 2, desk + 1, desk, 1) if 1 <= one != first]
    answer, before = spelt(v, [word[-1], word[first - 2]])
    return make(
        "settles", v, fair(floor_of(first), map(floor_of, wrong)), "round", {"token": v.token, "floor": first},
        answer=answer, first=first, good=good, before=before, final=percent(v.trace.top(v.token, 1)[0].probability),
        floors=top,
    )  # fmt: skip


# -- touch it: passes that are really changed --------------------------------------------------------------------------


def silence(v: Visit) -> Question | None:
    """What is said when the nurse of a floor is silent."""
    if not v.trace.config.n_shared_experts:
        return None
    changed = v.changed(Interventions(silence_shared=frozenset({v.layer})))
    old, new = v.trace.top(v.token, 2), changed.top(v.token, 2)
    names = dict(zip(ids := [one.id for one in [*old, *new]], spelt_once(v, ids), strict=True))
    now = new[0]

    def said(id: int, p: float) -> Option | None:
        near = abs(p - now.probability) < CLEAR
        return None if near and id == now.id else Option("says", {"word": names[id], "chance": percent(p)})

    wrong = [said(old[0].id, old[0].probability), said(new[1].id, now.probability), said(now.id, new[1].probability),
             said(now.id, now.probability / 2), said(old[1].id, old[1].probability)]  # fmt: skip
    right = Option("says", {"word": names[now.id], "chance": percent(now.probability)})
    return make(
        "silence", v, fair(right, wrong), "department", here(v, change="silence_shared"), before=names[old[0].id],
        was=percent(old[0].probability), after=names[now.id], now=percent(now.probability),
    )  # fmt: skip


def spelt_once(v: Visit, ids: Sequence[int]) -> list[Name]:
    """`spelt` where a token may stand twice."""
    different = sorted(set(ids))
    names = dict(zip(different, spelt(v, different), strict=True))
    return [names[id] for id in ids]


def reach(v: Visit) -> Question | None:
    """On how many floors a patient leaves differently when one intern is sent home."""
    trace, g = v.trace, gate(v)
    gone = g.called[g.weights.index(max(g.weights))]
    changed = v.changed(Interventions(dismiss=frozenset({(v.layer, gone)})))
    right = int((changed.hidden[1:, v.token] != trace.hidden[1:, v.token]).any(-1).sum())
    top = trace.config.num_hidden_layers
    return make(
        "reach", v, fair(count(right), map(count, [1, top, v.floor, trace.config.num_moe_layers, 0])), "department",
        here(v, room=gone, change="dismiss"), room=gone, floors=top, right=right,
    )  # fmt: skip


# -- all kinds ---------------------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """A kind of question: from which depth on it is asked, where it may be asked, and the code that it is about."""

    topic: str
    make: Callable[[Visit], Question | None]
    code: tuple[str, ...]  # arguments of `code.source`
    depth: str = "story"
    floors: str = "departments"  # or all
    passes: bool = False  # makes another pass of the model

    def source(self) -> Source:
        """What is shown with the answer at the depth of code."""
        return files.source(*self.code)


KINDS: dict[str, Kind] = {
    "experts": Kind("house", experts, (TRACE, "Trace.experts_per_token")),
    "share": Kind("house", share, (COSTS, "floor_shares")),
    "used": Kind("house", used, (TRACE, "Trace.weights_touched")),
    "woken": Kind("house", woken, (TRACE, "Trace.experts_touched_per_layer")),
    "pair": Kind("house", pair, (TRACE, "Trace.woken")),
    "closed": Kind("gate", closed, (MODEL, "choose")),
    "board": Kind("gate", board, (MODEL, "Router.forward")),
    "door": Kind("gate", door, (MODEL, "choose")),
    "zero": Kind("gate", zero, (MODEL, "choose"), "code"),
    "chosen": Kind("gate", chosen, (ENGINE, "_Record.stages"), "code"),
    "heaviest": Kind("consult", heaviest, (MODEL, "Router.weigh")),
    "weighs": Kind("consult", weighs, (MODEL, "Router.weigh")),
    "nurse": Kind("consult", nurse, (ENGINE, "Engine.shared_output")),
    "sums": Kind("consult", sums, (MODEL, "Router.weigh"), "maths"),
    "cancel": Kind("consult", cancel, (ENGINE, "Engine.opinions"), "maths"),
    "line": Kind("consult", line, (MODEL, "Router.forward"), "code"),
    "head": Kind("attention", head, (TRACE, "attention_weights"), floors="all"),
    "entrance": Kind("attention", entrance, (TRACE, "Trace.attention"), floors="all"),
    "cache": Kind("cache", cache, (COSTS, "cache_bytes")),
    "ratio": Kind("cache", ratio, (COSTS, "full_cache_numbers_per_token"), "maths"),
    "memory": Kind("cache", memory, (ENGINE, "Engine.new_cache"), "code"),
    "likeliest": Kind("answer", likeliest, (TRACE, "Trace.top")),
    "cold": Kind("answer", cold, (GENERATE, "draw")),
    "temperature": Kind("answer", temperature, (GENERATE, "draw"), "maths"),
    "settles": Kind("answer", settles, (ENGINE, "Engine.lens")),
    "silence": Kind("touch", silence, (ENGINE, "Engine._route"), passes=True),
    "reach": Kind("touch", reach, (ENGINE, "Engine._apply"), passes=True),
}  # fmt: skip


# -- what came out -----------------------------------------------------------------------------------------------------


class Tally(NamedTuple):
    """Questions of a topic, and how many of them were answered right."""

    topic: str
    right: int
    asked: int


def tallies(asked: Sequence[Question], answers: Mapping[int, int]) -> list[Tally]:
    """By topic, in the order of TOPICS; topics that were not asked about are left out."""
    found = []
    for topic in TOPICS:
        own = [i for i, one in enumerate(asked) if one.topic == topic]
        if own:
            found.append(Tally(topic, sum(answers.get(i) == asked[i].right for i in own), len(own)))
    return found


def blind(asked: Sequence[Question]) -> str:
    """What blind guesses get, as a sum: so many questions times one over their options."""
    counts = Counter(len(one.options) for one in asked)
    return " + ".join(rf"{counts[m]} \cdot \frac{{1}}{{{m}}}" for m in sorted(counts))


def topics(asked: Sequence[Question], answers: Mapping[int, int]) -> plates.Plate:
    """The score by topic."""
    every = tallies(asked, answers)
    return plates.table(
        "topics",
        [t(f"quiz.topic.{one.topic}") for one in every],
        [{"label": t("quiz.result.right"), "digits": 0}, {"label": t("quiz.result.asked"), "digits": 0}],
        [[one.right, one.asked] for one in every],
        title=t("quiz.result.by_topic"),
        width="half",
    )
