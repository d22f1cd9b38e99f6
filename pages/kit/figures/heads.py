"""The heads' pictures."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from model import Trace
from pages.kit import plates
from pages.kit.chapter import Visit, equals, number, percent, sentences
from pages.kit.figures import common
from pages.kit.words import t

PLACES = ("itself", "before", "door", "elsewhere")
"""Where a token can look. The door is the door, also for the token right behind it."""


# -- the patterns of all heads -----------------------------------------------------------------------------------------


def places(tokens: int) -> Tensor:
    """(T, T): for each token (row) and each that it may read (column) an index of PLACES; -1 for the future."""
    row, column = torch.arange(tokens)[:, None], torch.arange(tokens)
    kind = torch.full((tokens, tokens), PLACES.index("elsewhere"))
    kind[row - 1 == column] = PLACES.index("before")
    kind[:, 0] = PLACES.index("door")
    kind[row == column] = PLACES.index("itself")
    return kind.masked_fill(column > row, -1)


def habits(weights: Tensor) -> Tensor:
    """(H, PLACES): what share of its attention each head gives to each place, over all tokens but the door, which can
    look nowhere else. `weights`: (H, T, T)."""
    kind = places(weights.shape[-1])
    shares = torch.stack([(weights * (kind == place)).sum(-1) for place in range(len(PLACES))], -1)  # (H, T, PLACES)
    return (shares[:, 1:] if shares.shape[1] > 1 else shares).mean(1)


def evenly(tokens: int) -> Tensor:
    """(PLACES,): the habits of a head that reads everybody whom it may read equally."""
    equal = torch.ones(1, tokens, tokens).tril()
    return habits(equal / equal.sum(-1, keepdim=True))[0]


def patterns(visit: Visit, head: int, hidden: bool) -> plates.Plate:
    """Who reads whom, for every head of the floor. `hidden`: without the followed token's row."""
    c, tokens = visit.trace.config, len(visit.pieces)
    weights = visit.trace.attention(visit.layer).clone()
    choosing = weights[:, min(1, tokens - 1) :]  # the door has only itself to read
    strongest, favourite = float(choosing.max()), float(choosing[head].amax(-1).mean())
    if hidden:
        weights[:, visit.token] = torch.nan
    plate = plates.grids(
        "patterns",
        plates.heads(c),
        common.token_axis(visit),
        common.token_axis(visit, "key"),
        weights,
        lower=True,
        role="attention",
        percent=True,
        domain=[0.0, strongest],
        title=t("heads.patterns.title", floor=visit.floor, heads=c.num_attention_heads),
        alt=t("heads.patterns.alt", floor=visit.floor, heads=c.num_attention_heads, head=head),
    )
    note = [t("heads.patterns.note", head=head, favourite=percent(favourite))]
    if plate["per"] > 1:
        note.append(t("heads.patterns.blocks", per=plate["per"]))
    if hidden:
        note.append(t("heads.patterns.hidden", token=visit.name()))
    return {**plate, "note": sentences(*note)}


# -- the followed token ------------------------------------------------------------------------------------------------


class Most(NamedTuple):
    """Whom the followed token reads most, all heads of the floor together."""

    options: list[int]  # positions that could be it, one for each place, in PLACES' order
    places: list[str]  # what each of them is to the followed token
    right: int  # index of options
    share: float  # of all that the heads read
    agree: int  # heads whose own favourite it is
    different: int  # different favourites that the heads have


def most(visit: Visit) -> Most:
    """All heads of the followed floor together. Of the tokens further back only the most read one can be it."""
    token = visit.token
    weights = visit.trace.attention(visit.layer)[:, token, : token + 1]  # (H, t + 1)
    together, kind = weights.mean(0), places(token + 1)[token]
    options, named = [], []
    for index, place in enumerate(PLACES):
        there = torch.where(kind == index, together, -1.0)
        if bool((kind == index).any()):
            options.append(int(there.argmax()))
            named.append(place)
    right = max(range(len(options)), key=lambda i: float(together[options[i]]))
    favourites = weights.argmax(-1)
    return Most(
        options,
        named,
        right,
        float(together[options[right]]),
        int((favourites == options[right]).sum()),
        len(set(favourites.tolist())),
    )


def reads(visit: Visit, found: Most) -> plates.Plate:
    """The followed token's row of every head."""
    c, token = visit.trace.config, visit.token
    rows = visit.trace.attention(visit.layer)[:, token].clone()  # (H, T)
    rows[:, token + 1 :] = torch.nan
    values = {"heads": c.num_attention_heads, "token": visit.name(), "floor": visit.floor}
    read = visit.name(found.options[found.right])
    return plates.grid(
        "reads",
        plates.heads(c),
        common.token_axis(visit, "key"),
        rows,
        role="attention",
        percent=True,
        cell=22,
        left=30,
        width="two-thirds",
        title=t("heads.reads.title", **values),
        alt=t("heads.reads.alt", **values),
        note=t("heads.reads.note", **values, read=read, agree=found.agree, different=found.different),
    )


def habit(visit: Visit, head: int) -> plates.Plate:
    """What each head looks at."""
    c = visit.trace.config
    shares, even = habits(visit.trace.attention(visit.layer)), evenly(len(visit.pieces))
    names = [t(f"heads.place.{place}") for place in PLACES]
    return plates.grid(
        "habits",
        plates.heads(c),
        plates.axis("part", len(names), names),
        shares,
        role="attention",
        percent=True,
        written=True,
        domain=[0.0, 1.0],
        cell=22,
        left=30,
        width="third",
        title=t("heads.habits.title"),
        alt=t("heads.habits.alt", head=head, **_shares(shares[head])),
        note=t("heads.habits.note", **_shares(even)),
    )


def _shares(shares: Tensor) -> dict[str, str]:
    return {place: percent(float(share)) for place, share in zip(PLACES, shares, strict=True)}


# -- one head ----------------------------------------------------------------------------------------------------------


class Scores(NamedTuple):
    """One head's row for the followed token: (t + 1,) each; weights = softmax(content + position)."""

    content: Tensor
    position: Tensor
    weights: Tensor

    @property
    def total(self) -> Tensor:
        """What the softmax is taken of."""
        return self.content + self.position

    @property
    def read(self) -> int:
        """The position that is read most."""
        return int(self.weights.argmax())


def scores(visit: Visit, head: int) -> Scores:
    """The followed token's scores and weights in one head, without the future."""
    past = slice(visit.token + 1)
    content, position = visit.trace.attention_scores(visit.layer)
    weights = visit.trace.attention(visit.layer)
    return Scores(*(part[head, visit.token, past] for part in (content, position, weights)))


def split(visit: Visit, head: int, row: Scores) -> list[plates.Plate]:
    """Content, position, their sum, and the weights that come of it."""
    tokens, best = len(visit.pieces), row.read
    axis = plates.axis("key", tokens, visit.names, label_width=58)

    def ahead(values: Tensor) -> Tensor:  # the future is no number
        return torch.cat([values, values.new_full((tokens - len(values),), torch.nan)])

    signed = torch.cat([row.content, row.position, row.total])
    domain = [min(0.0, float(signed.min())), max(0.0, float(signed.max()))]  # one scale, so that they can be compared
    values = {
        "token": visit.name(),
        "head": head,
        "read": visit.name(best),
        "content": number(float(row.content[best])),
        "position": number(float(row.position[best])),
        "equals": equals((float(row.content[best]), float(row.position[best])), float(row.total[best])),
        "total": number(float(row.total[best])),
        "weight": percent(float(row.weights[best])),
        "rest": percent(1 - float(row.weights[best])),
        "others": visit.token,
    }
    made = []
    for part in ("content", "position", "total"):
        scored: Tensor = getattr(row, part)
        highest = {"highest": visit.name(int(scored.argmax())), "value": number(float(scored.max()))}
        made.append(
            plates.bars(
                part,
                axis,
                ahead(scored),
                width="half",
                height=130,
                role="attention",
                domain=domain,
                title=t(f"heads.{part}.title"),
                alt=t(f"heads.{part}.alt", **values, **highest),
                note=t(f"heads.{part}.note", **values, **highest),
                **({"from": t("heads.total.from")} if part == "total" else {}),
            )
        )
    weights = plates.bars(
        "weights",
        axis,
        ahead(row.weights),
        width="half",
        height=130,
        role="attention",
        percent=True,
        title=t("heads.weights.title"),
        alt=t("heads.weights.alt", **values),
        note=t("heads.weights.note" if visit.token else "heads.weights.alone", **values),
        **{"from": t("heads.weights.from")},
    )
    return [*made, weights]


# -- a head switched off -----------------------------------------------------------------------------------------------


def lot(visit: Visit, head: int) -> int | None:
    """Another head of the floor, the same one for everybody who looks at this; None if there is no other."""
    others = [other for other in range(visit.trace.config.num_attention_heads) if other != head]
    return others[sum(visit.stamp().encode()) % len(others)] if others else None


def without(visit: Visit, head: int, changed: Trace, id: str, title: str) -> plates.Plate:
    """The likeliest next tokens with a head switched off, and before."""
    found = common.answers(visit, changed)
    note = t(
        "heads.off.same" if found.same else "heads.off.other",
        token=visit.name(),
        before=found.before,
        was=percent(found.was),
        after=found.after,
        now=percent(found.now),
    )
    return {**common.next_tokens(visit, changed, visit.trace, width="half", title=title, note=note), "id": id}


def drift(visit: Visit, several: list[tuple[int, Trace]]) -> plates.Plate:
    """How far the change travels, for each head that was switched off; the first is the one that was chosen."""
    gaps = [common.gaps(visit, trace) for _, trace in several]
    names = [t("heads.drift.series", head=head) for head, _ in several]
    told = t("heads.drift.join").join(
        t("heads.drift.one", head=head, first=percent(float(gap[visit.layer])), last=percent(float(gap[-1])))
        for (head, _), gap in zip(several, gaps, strict=True)
    )
    return common.drift(
        visit,
        list(zip(names, gaps, strict=True)),
        role="attention",
        alt=t("heads.drift.alt", token=visit.name(), told=told),
        note=t("heads.drift.note", token=visit.name(), told=told),
    )


# -- pieces and heads --------------------------------------------------------------------------------------------------


def counts(visit: Visit) -> plates.Plate:
    """Tokens of this sentence, heads of a floor, and how many of the tokens each head reads."""
    tokens, heads = len(visit.pieces), visit.trace.config.num_attention_heads
    read = int((visit.trace.attention(visit.layer)[:, -1] > 0).sum(-1).min())  # by the head that reads the fewest
    return plates.facts(
        "counts",
        [
            (f"{tokens:,}", t("heads.counts.tokens")),
            (f"{heads:,}", t("heads.counts.heads")),
            (f"{read:,}", t("heads.counts.read", token=visit.name(tokens - 1))),
        ],
    )
