"""Exercises for paper, made from what one sentence's trace holds.

Every answer is worked out from the digits that are printed, in decimal arithmetic and by the rule that the exercise
states, so that working by hand gives what the answer sheet says. `given` and `found` are those printed digits.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from model.config import ModelConfig
from model.costs import V3_CONTEXT, parameters
from pages.kit import building, terms, words
from pages.kit.paper import Html, escaped, put
from pages.kit.sheet import Blank, Cell, Exercise, Paper, fewest, hundred, power, rounded, shares, table

BYTES, V3_BYTES, GIGA = 4, 2, 10**9  # fp32 here; BF16 in V3's cache
MATCHED = (
    "token", "num_hidden_layers", "gate", "n_shared_experts", "n_routed_experts", "n_group", "attention",
    "kv_lora_rank",
)  # fmt: skip
ROWS = 8  # most rows of a list that somebody fills in by hand
CANDIDATES = 5
TOP_P = 80  # percent


# -- the house ---------------------------------------------------------------------------------------------------------


def match(p: Paper) -> Exercise:
    """Words of the hospital and of the field."""
    known = [terms.terms()[key] for key in MATCHED]
    right = p.mixed([one.key for one in known])
    named = {one.key: re.split(r", |、", one.name(p.lang))[0] for one in known}
    pairs = [f"{chr(ord('A') + i)}{right.index(one.key) + 1}" for i, one in enumerate(known)]

    def draw(filled: bool) -> Html:
        left = "".join(f"<li>{escaped(one.hospital(p.lang) or '')}</li>" for one in known)
        other = "".join(f"<li>{escaped(named[key])}</li>" for key in right)
        return Html("" if filled else f"<div class='pair'><ol type='A'>{left}</ol><ol>{other}</ol></div>")

    return p.exercise(
        "match", "a", draw, pairs=p.listed(pairs),
        given={"left": [one.hospital(p.lang) for one in known], "right": [named[key] for key in right]},
        found={"pairs": pairs},
    )  # fmt: skip


def count(p: Paper) -> Exercise:
    """Experts of one patient, and of another one."""
    c, woken = p.c, p.trace.woken()
    both = c.num_experts_per_tok + c.n_shared_experts
    interns, shared = c.num_moe_layers * c.num_experts_per_tok, woken[:, p.visit.token] & woken[:, p.other]
    found = {"departments": c.num_moe_layers, "both": both, "all": both * c.num_moe_layers}
    return p.exercise(
        "count", "abcd", floors=c.num_hidden_layers, desk=c.first_k_dense_replace, called=c.num_experts_per_tok,
        nurses=c.n_shared_experts, interns=interns, other=p.name(p.other), shared=int(shared.sum()), **found,
        given={"floors": c.num_hidden_layers, "desk": c.first_k_dense_replace, "called": c.num_experts_per_tok,
               "nurses": c.n_shared_experts},
        found=found,
    )  # fmt: skip


def rooms_map(p: Paper) -> Exercise:
    """A floor plan to colour."""
    c, called = p.c, sorted(p.trace.chosen[p.at].tolist())
    size = c.n_routed_experts // c.n_group
    dark = [building.letter(g) for g in range(c.n_group) if not any(room // size == g for room in called)]

    def draw(filled: bool) -> Html:
        wide, left, high = 10, 34, 13
        cells = "".join(
            f"<rect x='{left + room % size * wide}' y='{room // size * (high + 2)}' width='{wide - 1.4:.1f}' "
            f"height='{high}' class='{'lit' if filled and room in called else 'room'}'/>"
            for room in range(c.n_routed_experts)
        )
        names = "".join(
            f"<text x='0' y='{g * (high + 2) + high - 3}'>{building.letter(g)} {g * size}</text>"
            for g in range(c.n_group)
        )
        told = html.escape(str(p.say("map.alt", rooms=p.listed(called) if filled else "")))
        return Html(
            f"<svg viewBox='0 0 {left + size * wide} {c.n_group * (high + 2)}' role='img' aria-label=\"{told}\">"
            f"{names}{cells}</svg>"
        )

    return p.exercise(
        "map", "ab", draw, rooms=p.listed(called), corridors=c.n_group, size=size, dark=p.listed(dark),
        kept=c.topk_group, called=len(called),
        given={"called": called, "size": size, "corridors": c.n_group}, found={"dark": dark},
    )  # fmt: skip


def corridors(p: Paper) -> Exercise | None:
    """Which corridors stay open, from their scores."""
    c, scores, real = p.c, p.trace.group_scores[p.at].tolist(), set(p.trace.kept_groups[p.at].tolist())
    if c.topk_group >= c.n_group:
        return None

    def best(printed: Sequence[Decimal]) -> list[int]:
        return sorted(range(c.n_group), key=lambda g: (-printed[g], g))

    def enough(printed: list[Decimal]) -> bool:
        order = best(printed)
        last, shut = order[c.topk_group - 1], order[c.topk_group]
        return printed[last] > printed[shut] and set(order[: c.topk_group]) == real

    printed = fewest(scores, 2, 5, enough)
    order = best(printed)
    open_ = sorted(order[: c.topk_group])
    gap = printed[order[c.topk_group - 1]] - printed[order[c.topk_group]]
    yes = words.say(p.lang, "worksheet.tick")
    rows = [[building.letter(g), put(printed[g]), Blank(yes if g in open_ else "")] for g in range(c.n_group)]
    heads = [str(p.say(f"corridors.{head}")) for head in ("corridor", "score", "open")]
    return p.exercise(
        "corridors", "ab", table(heads, rows, "narrow"), corridors=c.n_group, kept=c.topk_group,
        open=p.listed(building.letter(g) for g in open_), last=building.letter(order[c.topk_group - 1]),
        shut=building.letter(order[c.topk_group]), gap=put(gap),
        given={"scores": list(map(put, printed)), "kept": c.topk_group},
        found={"open": [building.letter(g) for g in open_], "gap": put(gap)},
    )  # fmt: skip


def shared(p: Paper) -> Exercise:
    """Rooms that two patients have in common on a floor."""
    c = p.c
    mine, theirs = (sorted(p.trace.chosen[p.visit.department, token].tolist()) for token in (p.visit.token, p.other))
    both = [room for room in mine if room in theirs]
    chance = rounded(Decimal(c.num_experts_per_tok**2) / c.n_routed_experts, 2)
    rows: list[list[Cell]] = [[p.name(), p.listed(mine)], [p.name(p.other), p.listed(theirs)]]
    heads = [str(p.say("shared.patient")), str(p.say("shared.rooms"))]
    return p.exercise(
        "shared", "a" if p.depth == "story" else "ab", table(heads, rows), other=p.name(p.other), both=p.listed(both),
        number=len(both), called=c.num_experts_per_tok, all=c.n_routed_experts, chance=put(chance),
        given={"mine": mine, "theirs": theirs, "called": c.num_experts_per_tok, "all": c.n_routed_experts},
        found={"both": both} | ({} if p.depth == "story" else {"chance": put(chance)}),
    )  # fmt: skip


def woken(p: Paper) -> Exercise:
    """How much of the house the sentence wakes."""
    c, tokens, touched = p.c, len(p.trace.ids), p.trace.experts_touched
    all_, interns = c.num_moe_layers * c.n_routed_experts, c.num_moe_layers * c.num_experts_per_tok
    most = min(tokens * c.num_experts_per_tok, c.n_routed_experts) * c.num_moe_layers
    share = rounded(Decimal(100 * touched) / all_, 1)
    chance = rounded(100 * (1 - (1 - Decimal(c.num_experts_per_tok) / c.n_routed_experts) ** tokens), 1)
    how = "most_full" if tokens * c.num_experts_per_tok > c.n_routed_experts else "most_apart"
    return p.exercise(
        "woken", "abc" if p.depth == "story" else "abcd", tokens=tokens, interns=interns, all=all_, touched=touched,
        dark=all_ - touched, most=most, how=p.say(f"woken.{how}", tokens=tokens, interns=interns, most=most, all=all_),
        share=put(share), chance=put(chance), called=c.num_experts_per_tok, rooms=c.n_routed_experts,
        given={"tokens": tokens, "interns": interns, "all": all_, "dark": all_ - touched,
               "called": c.num_experts_per_tok, "rooms": c.n_routed_experts},
        found={"least": interns, "most": most, "touched": f"{touched:,}", "share": put(share)}
        | ({} if p.depth == "story" else {"chance": put(chance)}),
    )  # fmt: skip


def floors(p: Paper) -> Exercise:
    """What the doctor would say on the way up."""
    last, rows_, desk = p.c.num_hidden_layers, ROWS - 1, p.c.first_k_dense_replace
    shown = sorted({1, *(desk + round((last - desk) * i / (rows_ - 1)) for i in range(rows_)), last} - {0})
    said = p.visit.house.live.engine.lens(p.trace, p.visit.token).argmax(-1).tolist()
    several = list(dict.fromkeys(said[floor] for floor in shown))
    called = dict(zip(several, p.apart(several), strict=True))  # a full-width question mark and ? are two answers
    told = [called[said[floor]] for floor in shown]
    same = [one == told[-1] for one in told]
    steady = next(i for i in range(len(told)) if all(same[i:]))
    yes, no = (words.say(p.lang, f"worksheet.{which}") for which in ("yes", "no"))
    rows = [
        [str(floor), word, Blank(yes if as_top else no)] for floor, word, as_top in zip(shown, told, same, strict=True)
    ]
    heads = [str(p.say(f"floors.{head}")) for head in ("after", "word", "same")]
    return p.exercise(
        "floors", "abc", table(heads, rows, "narrow"), top=told[-1], floors=last, steady=shown[steady],
        given={"floors": shown, "words": told}, found={"same": [yes if one else no for one in same],
                                                      "steady": shown[steady]},
    )  # fmt: skip


# -- the gate ----------------------------------------------------------------------------------------------------------


def sigmoid(p: Paper) -> Exercise:
    """Scores from logits."""
    logits, called = p.trace.router_logits[p.at], p.trace.chosen[p.at].tolist()
    rooms = list(dict.fromkeys([called[0], called[-1], int(logits.argmin())]))
    printed = [rounded(float(logits[room]), 2) for room in rooms]
    scores = [rounded(1 / (1 + math.exp(-logit)), 3) for logit in printed]
    rows = [[str(r), put(z), Blank(put(s))] for r, z, s in zip(rooms, printed, scores, strict=True)]
    heads = [str(p.say(f"sigmoid.{head}")) for head in ("room", "logit", "score")]
    total = sum(scores, Decimal(0))
    return p.exercise(
        "sigmoid", "ab", table(heads, rows, "narrow"), total=put(total), all=p.c.n_routed_experts,
        given={"logits": list(map(put, printed))}, found={"scores": list(map(put, scores)), "total": put(total)},
    )  # fmt: skip


@dataclass(frozen=True)
class Chosen:
    """What the gate's rule makes of a list of rooms: corridor scores, open corridors, rooms called, best first."""

    sums: dict[int, Decimal]
    open: list[int]
    called: list[int]


def by_rule(rooms: Mapping[int, tuple[Decimal, Decimal]], size: int, kept: int, k: int) -> Chosen:
    """`rooms`: number -> (score, board). Of equals the lower number, or the earlier letter, comes first."""
    choice = {room: score + board for room, (score, board) in rooms.items()}
    by_corridor: dict[int, list[Decimal]] = {}
    for room, value in choice.items():
        by_corridor.setdefault(room // size, []).append(value)
    sums = {g: sum(sorted(values)[-2:], Decimal(0)) for g, values in sorted(by_corridor.items())}
    open_ = sorted(sums, key=lambda g: (-sums[g], g))[:kept]
    within = [room for room in choice if room // size in open_]
    return Chosen(sums, sorted(open_), sorted(within, key=lambda room: (-choice[room], room))[:k])


def choose(p: Paper) -> Exercise:
    """The whole choice by hand, over the best rooms of every corridor."""
    c, scores, choice = p.c, p.trace.scores[p.at], p.trace.choice_scores[p.at]
    size, k = c.n_routed_experts // c.n_group, p.trace.chosen.shape[-1]
    per = min(max(4 if p.depth == "code" else 3, -(-k // c.topk_group) + 1), size)
    rooms = sorted(
        g * size + int(i) for g, row in enumerate(choice.view(c.n_group, size)) for i in row.topk(per).indices
    )

    def printed(digits: int) -> dict[int, tuple[Decimal, Decimal]]:
        return {r: (rounded(float(scores[r]), digits), rounded(float(choice[r] - scores[r]), digits)) for r in rooms}

    def solve(shown: Mapping[int, tuple[Decimal, Decimal]]) -> Chosen:
        return by_rule(shown, size, c.topk_group, k)

    exact = solve(
        {r: (Decimal(float(scores[r])), Decimal(float(choice[r])) - Decimal(float(scores[r]))) for r in rooms}
    )
    shown = next(
        (one for one in map(printed, (2, 3, 4)) if solve(one).open == exact.open
         and set(solve(one).called) == set(exact.called)),
        printed(5),
    )  # fmt: skip
    found = solve(shown)
    heads = [str(p.say(f"choose.{head}")) for head in ("room", "score", "board", "both", "called")]
    yes = words.say(p.lang, "worksheet.tick")

    def draw(filled: bool) -> Html:
        blocks = []
        for g in range(c.n_group):
            mine = [room for room in rooms if room // size == g]
            rows: list[list[Cell]] = [
                [str(r), put(shown[r][0]), put(shown[r][1]), Blank(put(sum(shown[r], Decimal(0)))),
                 Blank(yes if r in found.called else "")]
                for r in mine
            ]  # fmt: skip
            top = p.say("choose.sum", corridor=building.letter(g))
            state = p.say("choose.open" if g in found.open else "choose.shut")
            result = f"<b class='blank'>{put(found.sums[g])}, {state}</b>" if filled else "<span class='gap'></span>"
            blocks.append(f"<div class='block'>{table(heads, rows)(filled)}<p>{top} {result}</p></div>")
        return Html(f"<div class='blocks'>{''.join(blocks)}</div>")

    real = sorted(p.trace.chosen[p.at].tolist())
    same = set(real) == set(found.called)
    return p.exercise(
        "choose", "abc", draw, corridors=c.n_group, kept=c.topk_group, k=k, per=per,
        open=p.listed(building.letter(g) for g in found.open), called=p.listed(found.called),
        real=p.say("choose.as_real" if same else "choose.not_real", real=p.listed(real), all=c.n_routed_experts),
        given={"rooms": {r: list(map(put, both)) for r, both in shown.items()}, "size": size, "kept": c.topk_group,
               "k": k},
        found={"both": [put(sum(shown[r], Decimal(0))) for r in rooms], "sums": list(map(put, found.sums.values())),
               "open": [building.letter(g) for g in found.open], "called": found.called},
    )  # fmt: skip


def _called(p: Paper) -> tuple[list[int], list[Decimal]]:
    """Rooms that were called, in their order in the house, and their scores as printed: none of them 0."""
    raw = dict(zip(p.trace.chosen[p.at].tolist(), p.trace.raw_weights[p.at].tolist(), strict=True))
    rooms = sorted(raw)
    return rooms, fewest([raw[room] for room in rooms], 2, 8, lambda made: all(made))


def weigh(p: Paper) -> Exercise | None:
    """Weights from the scores of those who were called."""
    if not p.c.norm_topk_prob:
        return None
    rooms, scores = _called(p)
    scale, total = Decimal(repr(p.c.routed_scaling_factor)), sum(scores, Decimal(0))
    if not total:
        return None
    weights = [rounded(scale * score / total, 2) for score in scores]
    rows = [[str(r), put(s), Blank(put(w))] for r, s, w in zip(rooms, scores, weights, strict=True)]
    heads = [str(p.say(f"weigh.{head}", scale=put(scale))) for head in ("room", "score", "weight")]
    first = max(range(len(rooms)), key=lambda i: (scores[i], -i))
    return p.exercise(
        "weigh", "abc", table(heads, rows, "narrow"), k=len(rooms), scale=put(scale), total=put(total),
        room=rooms[first], score=put(scores[first]), weight=put(weights[first]), sum=put(sum(weights, Decimal(0))),
        given={"scores": list(map(put, scores)), "scale": put(scale)},
        found={"total": put(total), "weights": list(map(put, weights)), "sum": put(sum(weights, Decimal(0)))},
    )  # fmt: skip


def mistake(p: Paper) -> Exercise | None:
    """The classic one: the board in the weights."""
    if not p.c.norm_topk_prob:
        return None
    rooms, scores = _called(p)
    digits = -int(scores[0].as_tuple().exponent)
    boards = [rounded(float(p.trace.choice_scores[p.at][room] - p.trace.scores[p.at][room]), digits) for room in rooms]
    both = [score + board for score, board in zip(scores, boards, strict=True)]
    scale, right, wrong = Decimal(repr(p.c.routed_scaling_factor)), sum(scores, Decimal(0)), sum(both, Decimal(0))
    if not right or not wrong:
        return None
    good = [rounded(scale * s / right, 2) for s in scores]
    bad = [rounded(scale * s / wrong, 2) for s in both]
    rows = [
        [str(r), put(s), put(b), Blank(put(g)), Blank(put(w))]
        for r, s, b, g, w in zip(rooms, scores, boards, good, bad, strict=True)
    ]
    heads = [str(p.say(f"mistake.{head}")) for head in ("room", "score", "board", "good", "bad")]
    return p.exercise(
        "mistake", "abc", table(heads, rows), scale=put(scale), right=put(right), wrong=put(wrong),
        code=Html("<code>raw = ________.gather(1, chosen)</code>"), line=Html("<code>scores</code>"),
        given={"scores": list(map(put, scores)), "boards": list(map(put, boards)), "scale": put(scale)},
        found={"right": put(right), "wrong": put(wrong), "good": list(map(put, good)), "bad": list(map(put, bad))},
    )  # fmt: skip


def mix(p: Paper) -> Exercise:
    """The consultation: opinions on one number, added up."""
    each = p.visit.house.live.engine.opinions(p.trace, p.visit.layer, p.visit.token)
    number = int(each.abs().sum(0).argmax())
    values = each[:, number].tolist()
    nurses = p.c.n_shared_experts
    who = [words.say(p.lang, "worksheet.mix.intern", room=room) for room in p.trace.chosen[p.at].tolist()]
    who += [words.say(p.lang, "worksheet.mix.nurse", n=i + 1 if nurses > 1 else "").strip() for i in range(nurses)]
    printed = fewest(values, 2, 5, lambda made: max(map(abs, made)) >= Decimal(10) * Decimal(1).scaleb(
        int(made[0].as_tuple().exponent)) and bool(sum(made, Decimal(0))))  # fmt: skip
    total = sum(printed, Decimal(0))
    against = [one for one, value in zip(who, printed, strict=True) if value * total < 0]
    rows: list[list[Cell]] = [[one, put(value)] for one, value in zip(who, printed, strict=True)]
    heads = [str(p.say("mix.who")), str(p.say("mix.opinion"))]
    return p.exercise(
        "mix", "abc", table(heads, [*rows, [str(p.say("mix.sum")), Blank(put(total))]], "narrow"), number=number + 1,
        dims=p.c.hidden_size, total=put(total), against=p.listed(against),
        given={"values": list(map(put, printed))}, found={"total": put(total), "against": against},
    )  # fmt: skip


# -- attention ---------------------------------------------------------------------------------------------------------


def reading(p: Paper) -> Exercise:
    """A row of attention, all heads together."""
    here = p.visit.token
    row = p.trace.attention(p.visit.layer)[:, here].mean(0)[: here + 1].tolist()
    kept = list(range(here + 1))
    if len(kept) > ROWS:
        kept = sorted(sorted(kept, key=lambda i: (-row[i], i))[: ROWS - 1])
    parts = [row[i] for i in kept]
    rest = here + 1 - len(kept)
    if rest:
        parts.append(max(sum(row) - sum(parts), 0.0))

    def most(made: Sequence[Decimal]) -> int:
        return max(range(len(kept)), key=lambda i: (made[i], -i))

    made = next(
        (one for one in (hundred(parts, digits) for digits in (0, 1, 2))
         if list(one[: len(kept)]).count(one[most(one)]) == 1),
        hundred(parts, 3),
    )  # fmt: skip
    best = most(made)
    names = [f"{i} · {p.name(i)}" for i in kept] + (
        [words.say(p.lang, "worksheet.reading.rest", n=rest)] if rest else []
    )

    tenths = "".join(f"<u style='left:{percent}%'></u>" for percent in range(10, 100, 10))

    def draw(filled: bool) -> Html:
        def bar(share: Decimal) -> str:
            inner = f"<i style='width:{share}%'></i>" if filled else ""
            return f"<td class='bar'><span>{inner}{tenths}</span></td>"

        rows = "".join(
            f"<tr><th scope='row'>{escaped(name)}</th><td class='n'>{put(share)} %</td>{bar(share)}</tr>"
            for name, share in zip(names, made, strict=True)
        )
        heads = "".join(f"<th scope='col'>{p.say(f'reading.{head}')}</th>" for head in ("patient", "share", "bar"))
        return Html(f"<table class='bars'><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>")

    return p.exercise(
        "reading", "abcd", draw, heads=p.c.num_attention_heads, best=names[best], share=put(made[best]),
        others=put(100 - made[best]),
        given={"shares": list(map(put, made)), "rest": rest},
        found={"best": names[best], "others": put(100 - made[best])},
    )  # fmt: skip


def softmax(p: Paper) -> Exercise:
    """Scores of one head to shares."""
    here = p.visit.token
    weights = p.trace.attention(p.visit.layer)[:, here, : here + 1]
    head = int(weights.max(-1).values.sub(0.5).abs().argmin())  # one that is neither sure of one nor of nothing
    content, position = (part[head, here] for part in p.trace.attention_scores(p.visit.layer))
    kept = sorted(weights[head].topk(min(4, here + 1)).indices.tolist())
    says, where = ([rounded(float(part[i]), 1) for i in kept] for part in (content, position))
    totals = [a + b for a, b in zip(says, where, strict=True)]
    below = [total - max(totals) for total in totals]
    powers = [power(one) for one in below]
    share = shares(powers)
    rows = [
        [f"{i} · {p.name(i)}", put(a), put(b), *(Blank(put(one)) for one in (total, less, e)), Blank(f"{put(s)} %")]
        for i, a, b, total, less, e, s in zip(kept, says, where, totals, below, powers, share, strict=True)
    ]
    heads = [
        str(p.say(f"softmax.{one}")) for one in ("patient", "content", "position", "both", "less", "power", "share")
    ]
    real = [f"{rounded(100 * float(weights[head, i]), 1)} %" for i in kept]
    return p.exercise(
        "softmax", "ab", table(heads, rows, "wide"), head=head, sum=put(sum(powers, Decimal(0))), real=p.listed(real),
        given={"content": list(map(put, says)), "position": list(map(put, where))},
        found={"totals": list(map(put, totals)), "less": list(map(put, below)), "powers": list(map(put, powers)),
               "sum": put(sum(powers, Decimal(0))), "shares": list(map(put, share))},
    )  # fmt: skip


def cache(p: Paper) -> Exercise:
    """Numbers that are kept: full addresses and codes."""
    c, v3, tokens = p.c, ModelConfig.preset("deepseek-v3"), p.visit.token + 1
    full, code = c.num_attention_heads * (c.qk_nope_head_dim + c.v_head_dim), c.kv_lora_rank + c.qk_rope_head_dim
    ratio = rounded(Decimal(full) / code, 1)
    each, everyone = c.num_hidden_layers * code, c.num_hidden_layers * code * tokens
    v3_each = v3.num_hidden_layers * (v3.kv_lora_rank + v3.qk_rope_head_dim)
    giga = rounded(Decimal(v3_each * V3_CONTEXT * V3_BYTES) / GIGA, 1)
    parts = {"story": "abc", "maths": "abcde", "code": "abcdefg"}[p.depth]
    found = {"full": full, "code": code, "ratio": put(ratio), "each": each, "everyone": everyone,
             "bytes": everyone * BYTES, "giga": put(giga)}  # fmt: skip
    asked = list(found)[: len(parts)]
    return p.exercise(
        "cache", parts, heads=c.num_attention_heads, keys=c.qk_nope_head_dim, values=c.v_head_dim,
        head=c.qk_nope_head_dim + c.v_head_dim, latent=c.kv_lora_rank, rope=c.qk_rope_head_dim,
        floors=c.num_hidden_layers, tokens=tokens, size=BYTES, v3_floors=v3.num_hidden_layers,
        v3_latent=v3.kv_lora_rank, v3_rope=v3.qk_rope_head_dim, v3_tokens=V3_CONTEXT, v3_size=V3_BYTES,
        v3_each=v3_each, **found,
        given={"heads": c.num_attention_heads, "keys": c.qk_nope_head_dim, "values": c.v_head_dim,
               "latent": c.kv_lora_rank, "rope": c.qk_rope_head_dim, "floors": c.num_hidden_layers, "tokens": tokens},
        found={name: found[name] for name in asked},
    )  # fmt: skip


def absorb(p: Paper) -> Exercise:
    """Multiplications of a lookup, codes opened and closed, here and in V3."""
    c, v3 = p.c, ModelConfig.preset("deepseek-v3")

    def both(one: ModelConfig) -> tuple[int, int]:
        closed = one.kv_lora_rank + one.qk_rope_head_dim + one.kv_lora_rank
        return closed, one.qk_nope_head_dim + one.qk_rope_head_dim + one.v_head_dim

    rows: list[list[Cell]] = []
    for name, one in (("here", c), ("v3", v3)):
        closed, opened = both(one)
        sizes = (one.kv_lora_rank, one.qk_rope_head_dim, one.qk_nope_head_dim, one.v_head_dim)
        rows.append([str(p.say(f"absorb.{name}")), *map(put, sizes), Blank(put(opened)), Blank(put(closed))])
    heads = [str(p.say(f"absorb.{head}")) for head in ("model", "latent", "rope", "keys", "values", "opened", "closed")]
    (closed, opened), (v3_closed, v3_opened) = both(c), both(v3)
    found = {"closed": closed, "opened": opened, "v3_closed": v3_closed, "v3_opened": v3_opened}
    full = v3.num_attention_heads * (v3.qk_nope_head_dim + v3.v_head_dim)
    kept = v3.kv_lora_rank + v3.qk_rope_head_dim
    return p.exercise(
        "absorb", "ab", table(heads, rows, "wide"), full=full, kept=kept, **found,
        given={"latent": c.kv_lora_rank, "rope": c.qk_rope_head_dim, "keys": c.qk_nope_head_dim,
               "values": c.v_head_dim}, found=found,
    )  # fmt: skip


# -- the next token ----------------------------------------------------------------------------------------------------


def order(p: Paper) -> Exercise:
    """Candidates for the next token, to be put in order."""
    best = p.trace.top(p.open, CANDIDATES)
    many = p.mixed([one.id for one in best])
    probability = {one.id: one.probability for one in best}
    printed = fewest([100 * probability[id] for id in many], 1, 5, lambda made: len(set(made)) == len(made))
    names = p.apart(many)
    ranked = sorted(range(len(many)), key=lambda i: (-printed[i], i))
    rows = [[names[i], f"{put(printed[i])} %", Blank(str(ranked.index(i) + 1))] for i in range(len(many))]
    heads = [str(p.say(f"order.{head}")) for head in ("word", "share", "place")]
    three = sum((printed[i] for i in ranked[:3]), Decimal(0))
    hundred_ = rounded(printed[ranked[0]], 0)
    return p.exercise(
        "order", "abcd", table(heads, rows, "narrow"), token=p.name(p.open), first=names[ranked[0]], three=put(three),
        times=put(hundred_),
        given={"shares": list(map(put, printed)), "names": names},
        found={"places": [ranked.index(i) + 1 for i in range(len(many))], "three": put(three), "times": put(hundred_),
               "first": names[ranked[0]]},
    )  # fmt: skip


def temper(p: Paper) -> Exercise:
    """Temperature 1 and 2 by hand; for engineers also top-p."""
    logits = p.trace.logits[p.open]
    ids = logits.topk(4 if p.depth == "code" else 3).indices.tolist()
    scores = [rounded(float(logits[id]), 1) for id in ids]
    names = p.apart(ids)
    below = [score - max(scores) for score in scores]
    half = [one / 2 for one in below]
    one, two = ([power(x) for x in part] for part in (below, half))
    cold, warm = shares(one), shares(two)
    rows: list[list[Cell]] = [
        [name, put(score), *(Blank(put(x)) for x in (less, e)), Blank(f"{put(a)} %"), Blank(put(h)), Blank(put(f)),
         Blank(f"{put(b)} %")]
        for name, score, less, e, a, h, f, b in zip(names, scores, below, one, cold, half, two, warm, strict=True)
    ]  # fmt: skip
    heads = [
        str(p.say(f"temper.{head}"))
        for head in ("word", "score", "less", "power", "share", "half", "power_2", "share_2")
    ]
    reached, kept = Decimal(0), 0
    while kept < len(warm) and reached < TOP_P:
        reached += warm[kept]
        kept += 1
    return p.exercise(
        "temper", "abc" if p.depth == "code" else "ab", table(heads, rows, "wide"), token=p.name(p.open),
        first=names[0], cold=put(cold[0]), warm=put(warm[0]), n=len(ids), top_p=TOP_P, kept=p.quoted(names[:kept]),
        mass=put(reached),
        given={"scores": list(map(put, scores)), "top_p": TOP_P},
        found={"cold": list(map(put, cold)), "warm": list(map(put, warm)), "powers": list(map(put, one)),
               "powers_2": list(map(put, two))} | ({"kept": kept, "mass": put(reached)} if p.depth == "code" else {}),
    )  # fmt: skip


def loss(p: Paper) -> Exercise:
    """How much each token was expected, in nats, and the perplexity."""
    from pages.kit.figures import discharge

    known = discharge.expected(p.visit)[1:]
    places = {int(known.argmin()) + 1, int(known.argmax()) + 1, max(p.visit.token, 1)}
    shown = sorted(places)
    printed = [fewest([100 * float(known[i - 1])], 1, 9, lambda made: bool(made[0]))[0] for i in shown]
    printed = [one or Decimal(1).scaleb(-9) for one in printed]
    nats = [rounded(-math.log(one / 100), 2) for one in printed]
    most = shown[max(range(len(nats)), key=lambda i: (nats[i], -i))]
    mean = rounded(sum(nats, Decimal(0)) / len(nats), 2)
    perplexity = rounded(math.exp(mean), 1)
    rows = [
        [f"{i} · {p.name(i)}", f"{put(share)} %", Blank(put(nat))]
        for i, share, nat in zip(shown, printed, nats, strict=True)
    ]
    heads = [str(p.say(f"loss.{head}")) for head in ("patient", "share", "nats")]
    return p.exercise(
        "loss", "abc", table(heads, rows, "narrow"), mean=put(mean), perplexity=put(perplexity), n=len(nats),
        most=f"{most} · {p.name(most)}",
        vocabulary=p.c.vocab_size,
        given={"shares": list(map(put, printed))},
        found={"nats": list(map(put, nats)), "mean": put(mean), "perplexity": put(perplexity)},
    )  # fmt: skip


# -- for engineers -----------------------------------------------------------------------------------------------------


def shapes(p: Paper) -> Exercise:
    """Sizes of what the trace holds."""
    c, tokens = p.c, len(p.trace.ids)
    letters = {"L": c.num_hidden_layers, "M": c.num_moe_layers, "T": tokens, "d": c.hidden_size,
               "H": c.num_attention_heads, "E": c.n_routed_experts, "k": c.num_experts_per_tok,
               "r": c.kv_lora_rank, "p": c.qk_rope_head_dim}  # fmt: skip
    asked = {"hidden": "(L + 1, T, d)", "memory": "(L, T, r + p)", "queries": "(L, T, H, r + p)",
             "scores": "(M, T, E)", "chosen": "(M, T, k)"}  # fmt: skip
    rows: list[list[Cell]] = []
    sizes, numbers = {}, {}
    for name, shape in asked.items():
        size = tuple(getattr(p.trace, name).shape)
        sizes[name], numbers[name] = " × ".join(map(put, size)), math.prod(size)
        rows.append([f"trace.{name}", shape, Blank(sizes[name]), Blank(put(numbers[name]))])
    heads = [str(p.say(f"shapes.{head}")) for head in ("tensor", "letters", "size", "numbers")]
    times = rounded(Decimal(c.n_routed_experts) / c.num_experts_per_tok, 1)
    told = ", ".join(f"{name} = {size}" for name, size in letters.items())
    return p.exercise(
        "shapes", "a", table(heads, rows, "wide"), letters=told, experts=c.n_routed_experts, k=c.num_experts_per_tok,
        times=put(times),
        given={"letters": letters, "shapes": list(asked.values())}, found={"numbers": list(map(put, numbers.values()))},
    )  # fmt: skip


def weights(p: Paper) -> Exercise:
    """Parameters of one intern, of all, and of those who work."""
    c, count_ = p.c, parameters(p.c)
    expert = 3 * c.hidden_size * c.moe_intermediate_size
    all_ = c.num_moe_layers * c.n_routed_experts * expert
    awake = c.num_moe_layers * c.num_experts_per_tok * expert
    share = rounded(Decimal(100 * count_.active) / count_.main, 1)
    found = {"expert": expert, "all": all_, "awake": awake, "share": put(share)}
    return p.exercise(
        "weights", "abcd", hidden=c.hidden_size, width=c.moe_intermediate_size, floors=c.num_moe_layers,
        rooms=c.n_routed_experts, called=c.num_experts_per_tok, main=count_.main, active=count_.active, **found,
        given={"hidden": c.hidden_size, "width": c.moe_intermediate_size, "floors": c.num_moe_layers,
               "rooms": c.n_routed_experts, "called": c.num_experts_per_tok, "main": count_.main,
               "active": count_.active}, found=found,
    )  # fmt: skip


SHEETS: dict[str, tuple[Callable[[Paper], Exercise | None], ...]] = {
    "story": (match, count, rooms_map, corridors, shared, woken, reading, cache, order, floors),
    "maths": (sigmoid, choose, weigh, mix, shared, woken, softmax, cache, temper, loss),
    "code": (shapes, weights, choose, mistake, softmax, cache, absorb, temper, loss),
}


def made(p: Paper) -> list[Exercise]:
    """The exercises of a worksheet, from the first floor to the exit. One that this model or sentence has nothing for
    is left out."""
    return [one for one in (make(p) for make in SHEETS[p.depth]) if one is not None]
