"""The postal code's pictures: the latent, how it is made, opened, looked up, cut shorter, and what it saves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch

from model import Interventions, Trace, costs, lookup
from model.config import ModelConfig
from model.costs import CachePlans
from model.deepseek_v3 import DecoderLayer, DeepseekV3
from model.lookup import Lookup, Picks
from pages.kit import plates
from pages.kit.chapter import Visit, number, percent, sentences
from pages.kit.figures import common
from pages.kit.figures.common import once
from pages.kit.words import t

if TYPE_CHECKING:
    from model.study import LatentRank

CONTENT, PLACE, WHOLE = "attention", "ink", "soft"  # colours: the code, the rotary key, what is kept nowhere


def network(visit: Visit) -> DeepseekV3:
    """The modules behind the live model, to be read only."""
    return visit.house.live.engine.model


def layer(visit: Visit) -> DecoderLayer:
    """The followed floor's modules."""
    return network(visit).layers[visit.layer]


def tiny(value: float) -> str:
    """A rounding error in a sentence: 3.0 × 10⁻⁷."""
    return _scientific(value, "{}\u00a0×\u00a010{}", lambda power: power.translate(_RAISED))


def tex_tiny(value: float) -> str:
    """The same in an equation."""
    return _scientific(value, r"{} \times 10^{{{}}}", str)


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _scientific(value: float, form: str, raise_: Callable[[str], str]) -> str:
    if not value:
        return "0"
    size, power = f"{value:.1e}".split("e")
    return form.format(size, raise_(str(int(power))))


# -- the address and the code ------------------------------------------------------------------------------------------


class Sizes(NamedTuple):
    """Numbers that one floor keeps, or would keep, of one token."""

    full: int  # keys and values of all heads
    latent: int
    rope: int

    @property
    def code(self) -> int:
        """All that is kept."""
        return self.latent + self.rope


def sizes(c: ModelConfig) -> Sizes:
    """By the formulas of `costs`, for one of the layers."""
    full = costs.full_cache_numbers_per_token(c) // c.num_hidden_layers
    return Sizes(full, c.kv_lora_rank, c.qk_rope_head_dim)


def to_scale(c: ModelConfig) -> plates.Plate:
    """Every number one square: the full address, the code, the rotary key."""
    s, big = sizes(c), sizes(ModelConfig.preset("deepseek-v3"))
    names = [t(f"postal.scale.{part}") for part in Sizes._fields]
    return plates.squares(
        "scale",
        names,
        s,
        roles=[WHOLE, CONTENT, PLACE],
        title=t("postal.scale.title"),
        alt=t("postal.scale.alt", full=s.full, latent=s.latent, rope=s.rope),
        note=t(
            "postal.scale.note",
            ratio=number(s.full / s.code, 1),
            latent=number(s.full / s.latent, 0),
            v3=number(big.full / big.latent, 0),
        ),
    )


def code(visit: Visit) -> plates.Plate:
    """What this floor keeps of the followed token, every number of it."""
    s, kept = sizes(visit.trace.config), visit.trace.memory[visit.layer, visit.token]
    labels = [*(f"c{i + 1}" for i in range(s.latent)), *(f"k{i + 1}" for i in range(s.rope))]
    return plates.bars(
        "code",
        plates.axis("dim", len(labels), labels, offset=1),
        kept,
        roles=[CONTENT] * s.latent + [PLACE] * s.rope,
        height=138,
        key=[{"role": CONTENT, "text": t("postal.code.content")}, {"role": PLACE, "text": t("postal.code.place")}],
        title=t("postal.code.bars", token=visit.name(), floor=visit.floor),
        alt=t("postal.code.alt", token=visit.name(), floor=visit.floor, code=s.code),
        note=t("postal.code.note", latent=s.latent, rope=s.rope),
    )


# -- made and opened ---------------------------------------------------------------------------------------------------


class Made(NamedTuple):
    """What is lost on the way to the code, and what is not lost on the way back."""

    seen: torch.Tensor  # (L, T) share of the normed state's squared length that the code can see
    chance: float  # what a window of this width sees on average, if it knows nothing of the states
    reopened: float  # largest difference between the codes and what their opened addresses close to


@once
def seen_share(visit: Visit) -> torch.Tensor:
    """(L, T): see `lookup.seen_share`."""
    return lookup.seen_share(network(visit), visit.trace)


@once
def reopened(visit: Visit, index: int) -> float:
    """Of layer number `index`: see `Made`."""
    attention = network(visit).layers[index].self_attn
    latents = visit.trace.memory[index, :, : visit.trace.config.kv_lora_rank]
    closed = lookup.close_address(attention, lookup.open_latents(attention, latents))
    return float((closed - latents).abs().max())


def made(visit: Visit) -> Made:
    """Measured on the live weights and this trace."""
    c = visit.trace.config
    return Made(seen_share(visit), c.kv_lora_rank / c.hidden_size, reopened(visit, visit.layer))


def address(visit: Visit) -> list[plates.Plate]:
    """The followed token's code opened: keys, then values, of every head."""
    c, attention = visit.trace.config, layer(visit).self_attn
    opened = lookup.open_latents(attention, visit.trace.memory[visit.layer, [visit.token], : c.kv_lora_rank])
    return [
        plates.grid(
            part,
            plates.heads(c),
            plates.axis("dim", numbers.shape[-1], offset=1),
            numbers[0],
            role=CONTENT,
            cell=13,
            left=30,
            width="half",
            title=t(f"postal.address.{part}"),
            alt=t(
                f"postal.address.{part}_alt",
                token=visit.name(),
                floor=visit.floor,
                heads=numbers.shape[1],
                each=numbers.shape[2],
            ),
            note=t(f"postal.address.{part}_note", heads=numbers.shape[1], each=numbers.shape[2]),
            **({"from": t(f"postal.address.{part}_from")}),
        )
        for part, numbers in (("keys", opened.keys), ("values", opened.values))
    ]


def seen(visit: Visit, found: Made) -> plates.Plate:
    """How much of the followed token the code can see, on every floor."""
    share = found.seen[:, visit.token]
    here = float(share[visit.layer])
    return plates.lines(
        "seen",
        plates.floors(visit.trace.config),
        [
            plates.series(t("postal.seen.series", token=visit.name()), share, "patient"),
            plates.series(t("postal.seen.mean"), found.seen.mean(1), CONTENT),
            plates.series(t("postal.seen.chance"), torch.full_like(share, found.chance), WHOLE),
        ],
        percent=True,
        domain=[0.0, 1.0],
        title=t("postal.seen.title"),
        alt=t("postal.seen.alt", token=visit.name(), floor=visit.floor, seen=percent(here)),
        note=t(
            "postal.seen.note",
            token=visit.name(),
            floor=visit.floor,
            seen=percent(here),
            rest=percent(1 - here),
            chance=percent(found.chance),
        ),
    )


# -- a lookup ----------------------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """One lookup on both paths, and who was read most by the chosen head."""

    head: int
    absorbed: Lookup
    plain: Lookup
    gap: Lookup  # largest differences, over all heads of the floor
    best: int  # position

    @property
    def most(self) -> float:
        """The largest weight."""
        return float(self.absorbed.weights[self.head, self.best])

    @property
    def score(self) -> float:
        """Its score."""
        return float(self.absorbed.scores[self.head, self.best])


@once
def both_ways(visit: Visit, index: int, token: int) -> tuple[Lookup, Lookup, Lookup]:
    """A token's lookup on layer number `index`: absorbed, plain, and the largest differences between them."""
    floor = network(visit).layers[index]
    one = lookup.absorbed(floor.self_attn, visit.trace, index, token)
    other = lookup.plain(floor, visit.trace, index, token)
    return one, other, lookup.largest_gap(one, other)


def find(visit: Visit, head: int) -> Found:
    """The followed token's lookup on the followed floor."""
    found = both_ways(visit, visit.layer, visit.token)
    return Found(head, *found, int(found[0].weights[head].argmax()))


def earlier(visit: Visit) -> plates.Axis:
    """The tokens that the followed one may read: all up to itself."""
    return plates.axis("token", visit.token + 1, visit.names[: visit.token + 1])


def blend(visit: Visit, found: Found) -> str:
    """How the answer is shared out, as a sentence."""
    if not visit.token:
        return t("postal.lookup.alone")
    return t(
        "postal.lookup.blend",
        best=visit.name(found.best),
        most=percent(found.most),
        others=visit.token,
        rest=percent(1 - found.most),
    )


TWO_ROWS = {"role": CONTENT, "cell": 28, "left": 92}  # layout of a grid that has a row for each way


def paths(visit: Visit, found: Found) -> list[plates.Plate]:
    """Scores, shares and answer of the chosen head, each by both ways of computing it."""
    head = found.head
    way = plates.axis("part", 2, [t("postal.path.absorbed"), t("postal.path.plain")])
    both = Lookup(*(torch.stack([a[head], b[head]]) for a, b in zip(found.absorbed, found.plain, strict=True)))
    scores = plates.grid(
        "scores",
        way,
        earlier(visit),
        both.scores,
        **TWO_ROWS,
        title=t("postal.path.scores", head=head),
        alt=t("postal.path.scores_alt", head=head, count=visit.token + 1),
        note=t("postal.path.scores_note", gap=tiny(float(found.gap.scores))),
    )
    weights = plates.bars(
        "weights",
        earlier(visit),
        found.absorbed.weights[head],
        role=CONTENT,
        percent=True,
        title=t("postal.path.weights", head=head),
        alt=t("postal.path.weights_alt", head=head, count=visit.token + 1),
        note=t("postal.path.weights_note", blend=blend(visit, found), gap=tiny(float(found.gap.weights))),
        **({"from": t("postal.path.weights_from")}),
    )
    answers = plates.grid(
        "answers",
        way,
        plates.axis("dim", both.answers.shape[1], offset=1),
        both.answers,
        **TWO_ROWS,
        title=t("postal.path.answers", head=head),
        alt=t("postal.path.answers_alt", head=head, each=both.answers.shape[1]),
        note=t("postal.path.answers_note", gap=tiny(float(found.gap.answers))),
        **({"from": t("postal.path.answers_from")}),
    )
    return [scores, weights, answers]


# -- nearest, or largest product? --------------------------------------------------------------------------------------


class Nearest(NamedTuple):
    """Does the smallest distance pick the token that the dot product picks?"""

    head: int
    picks: Picks
    query: torch.Tensor  # (n + p,) of the chosen head
    keys: torch.Tensor  # (S, n + p) of the chosen head

    @property
    def heads(self) -> int:
        """Heads of the floor."""
        return len(self.picks.product)

    @property
    def agree(self) -> int:
        """Heads in which they pick the same token."""
        return int((self.picks.product == self.picks.distance).sum())

    @property
    def talk(self) -> int:
        """Heads in which the story's own formula picks the token of the dot product."""
        return int((self.picks.product == self.picks.lengths).sum())

    @property
    def largest(self) -> int:
        """The token with the largest product in the chosen head."""
        return int(self.picks.product[self.head])

    @property
    def closest(self) -> int:
        """The token with the smallest distance in the chosen head."""
        return int(self.picks.distance[self.head])

    @property
    def thirds(self) -> list[tuple[int, int]]:
        """Three ranges of `agree` to guess from."""
        cuts = [(self.heads + 1) * part // len(_THIRDS) for part in (*_THIRDS, len(_THIRDS))]
        return [(low, high - 1) for low, high in zip(cuts, cuts[1:], strict=False)]

    @property
    def right(self) -> int:
        """The range that `agree` is in."""
        return next(i for i, (_, high) in enumerate(self.thirds) if self.agree <= high)


_THIRDS = range(len(("few", "some", "most")))


def nearest(visit: Visit, head: int) -> Nearest:
    """For the followed token's query on the followed floor."""
    points = lookup.as_points(layer(visit), visit.trace, visit.layer, visit.token)
    return Nearest(head, lookup.picks(points), points.queries[head], points.keys[:, head])


def distances(visit: Visit, found: Found, near: Nearest) -> list[plates.Plate]:
    """The chosen head: score and distance of every earlier token, with the pick of each lit."""

    def lit(at: int) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.tensor(at), visit.token + 1) * plates.LIT

    looks = {"role": CONTENT, "width": "half", "lit": t("postal.near.lit")}
    return [
        plates.bars(
            "products",
            earlier(visit),
            found.absorbed.scores[near.head],
            mask=lit(near.largest),
            **looks,
            title=t("postal.near.products", head=near.head),
            alt=t("postal.near.products_alt", best=visit.name(near.largest)),
            note=t("postal.near.products_note", best=visit.name(near.largest), score=number(found.score)),
        ),
        plates.bars(
            "distances",
            earlier(visit),
            near.picks.distances[near.head],
            mask=lit(near.closest),
            **looks,
            title=t("postal.near.distances", head=near.head),
            alt=t("postal.near.distances_alt", best=visit.name(near.closest)),
            note=t(
                "postal.near.distances_note",
                best=visit.name(near.closest),
                distance=number(float(near.picks.distances[near.head, near.closest])),
            ),
        ),
    ]


def all_heads(visit: Visit, found: Found, near: Nearest) -> plates.Plate:
    """Every head of the floor: how much it reads of each token, and which token its query lies nearest to."""
    mask = torch.nn.functional.one_hot(near.picks.distance, visit.token + 1) * plates.LIT
    return plates.grid(
        "picks",
        plates.heads(visit.trace.config),
        earlier(visit),
        found.absorbed.weights,
        mask=mask,
        role=CONTENT,
        cell=17,
        left=30,
        percent=True,
        lit=t("postal.near.lit_distance"),
        title=t("postal.near.all"),
        alt=t("postal.near.all_alt", agree=near.agree, heads=near.heads),
        note=t("postal.near.all_note", agree=near.agree, heads=near.heads, talk=near.talk),
    )


# -- a shorter code ----------------------------------------------------------------------------------------------------


class Cut(NamedTuple):
    """The sentence with the code cut to `rank` numbers, beside the untouched one."""

    rank: int
    whole: int
    changed: Trace  # the visit's own trace, where nothing is cut
    same: int  # positions whose likeliest next token stayed the same
    answers: common.Answers  # of the followed one

    @property
    def touched(self) -> bool:
        """Whether anything is cut."""
        return self.rank < self.whole


def cut(visit: Visit, rank: int | None) -> Cut:
    """Runs the sentence again only if the code really becomes shorter."""
    whole = visit.trace.config.kv_lora_rank
    rank = min(rank or whole, whole)
    changed = visit.changed(Interventions(latent_rank=rank)) if rank < whole else visit.trace
    same = int((changed.logits.argmax(-1) == visit.trace.logits.argmax(-1)).sum())
    return Cut(rank, whole, changed, same, common.answers(visit, changed))


def happened(visit: Visit, now: Cut) -> str:
    """What the cut did, as a sentence."""
    if not now.touched:
        return t("postal.shorten.whole", whole=now.whole)
    return t(
        "postal.shorten.cut",
        rank=now.rank,
        whole=now.whole,
        token=visit.name(),
        before=now.answers.before,
        was=percent(now.answers.was),
        after=now.answers.after,
        now=percent(now.answers.now),
        same=now.same,
        all=len(visit.trace.ids),
    )


def rank_axis(c: ModelConfig) -> plates.Axis:
    """How many numbers of the code are left."""
    return plates.axis("rank", c.kv_lora_rank, offset=1)


def answers(visit: Visit, now: Cut) -> plates.Plate:
    """The likeliest next token after every token of the sentence, before and after."""
    best = [trace.logits.softmax(-1).max(-1) for trace in (visit.trace, now.changed)]
    moved = best[0].indices != best[1].indices
    texts = [common.said(visit, id) for row in best for id in row.indices.tolist()]
    said = "note" if moved.any() else "stay"  # no frame is spoken of where there is none
    return plates.grid(
        "answers_of_all",
        plates.axis("part", 2, [t("postal.answers.before"), t("postal.answers.after")]),
        common.token_axis(visit),
        torch.stack([row.values for row in best]),
        mask=torch.stack([torch.zeros_like(moved), moved]) * plates.LIT,
        texts=texts,
        written="texts",
        percent=True,
        domain=[0.0, 1.0],
        role="patient",
        lit=t("postal.answers.lit"),
        cell=30,
        left=64,
        title=t("postal.answers.title"),
        alt=t("postal.answers.alt", same=now.same, all=len(moved)),
        note=t(f"postal.answers.{said}", same=now.same, all=len(moved)),
    )


def held_out(visit: Visit, now: Cut, study: LatentRank) -> plates.Plate:
    """The recorded measurement: loss on held-out texts for every length of the code."""
    return plates.lines(
        "held_out",
        rank_axis(visit.trace.config),
        [plates.series(t("postal.held.series"), study.loss, CONTENT, study.low, study.high)],
        width="half",
        title=t("postal.held.title"),
        alt=t("postal.held.alt", one=number(study.loss[0]), whole=number(study.loss[-1]), ranks=len(study.ranks)),
        note=t(
            "postal.held.note",
            documents=f"{study.documents:,}",
            tokens=f"{study.tokens:,}",
            rank=now.rank,
            here=number(study.loss[now.rank - 1]),
            top1=percent(study.top1[now.rank - 1]),
            whole=number(study.loss[-1]),
        ),
    )


# -- the cache meter ---------------------------------------------------------------------------------------------------

WAYS = ("latent", "multi_head", "grouped", "multi_query")
ROLES = (CONTENT, PLACE, WHOLE, WHOLE)  # what nobody keeps here is in no role's colour


class Meter(NamedTuple):
    """Bytes of the latent cache after each token, counted on the tensors, and what other ways would need."""

    measured: list[int]  # (T,)
    size: int  # bytes of one number
    plans: CachePlans

    def others(self, way: str) -> list[int]:
        """Bytes of another way after each token."""
        return [getattr(self.plans, way) * tokens * self.size for tokens in range(1, len(self.measured) + 1)]


def meter(visit: Visit) -> Meter:
    """The visit's own cache."""
    memory = visit.trace.memory
    measured = [memory[:, : n + 1].numel() * memory.element_size() for n in range(len(visit.trace.ids))]
    return Meter(measured, memory.element_size(), costs.cache_plans(visit.trace.config))


def way_names(plans: CachePlans) -> list[str]:
    """What the four ways are called."""
    return [t(f"postal.meter.{way}", groups=plans.groups) for way in WAYS]


def cut_bytes(visit: Visit, rank: int) -> int:
    """What codes of `rank` numbers would take up to the followed token, by the formula for the whole code."""
    plans = costs.cache_plans(visit.trace.config.with_(kv_lora_rank=rank))
    return plans.latent * (visit.token + 1) * visit.trace.memory.element_size()


def drawer(visit: Visit, now: Meter, shorter: Cut | None = None) -> plates.Plate:
    """The meter, token by token. It counts what the untouched model keeps; a shorter code is named beside it."""
    values = [now.measured, *(now.others(way) for way in WAYS[1:])]
    at = visit.token
    note = t(
        "postal.meter.note",
        token=visit.name(),
        count=at + 1,
        now=f"{now.measured[at]:,}",
        plain=f"{values[1][at]:,}",
        grouped=f"{values[2][at]:,}",
        query=f"{values[-1][at]:,}",
        groups=now.plans.groups,
    )
    if shorter and shorter.touched:
        rope, taken = visit.trace.config.qk_rope_head_dim, cut_bytes(visit, shorter.rank)
        note = sentences(note, t("postal.meter.cut", rank=shorter.rank, rope=rope, bytes=f"{taken:,}"))
    return plates.lines(
        "meter",
        common.token_axis(visit),
        [plates.series(*one) for one in zip(way_names(now.plans), values, ROLES, strict=True)],
        from_zero=True,
        digits=0,
        title=t("postal.meter.chart"),
        alt=t("postal.meter.alt", count=at + 1, now=f"{now.measured[at]:,}", plain=f"{values[1][at]:,}"),
        note=note,
    )


def gigabytes(numbers: int) -> float:
    """Of the real V3 at its full context, in billions of bytes."""
    return numbers * costs.V3_CONTEXT * costs.BF16_BYTES / costs.GIGABYTE


def v3(here: CachePlans) -> plates.Plate:
    """The same for DeepSeek-V3 at its full context; `here`: this house's plans."""
    plans = costs.cache_plans(ModelConfig.preset("deepseek-v3"))
    values = [gigabytes(getattr(plans, way)) for way in WAYS]
    return plates.rank(
        "v3",
        way_names(plans),
        values,
        roles=ROLES,
        digits=1,
        title=t("postal.v3.title", tokens=f"{costs.V3_CONTEXT:,}"),
        note=t(
            "postal.v3.note",
            latent=number(values[0], 2),
            plain=number(values[1], 0),
            ratio=number(plans.multi_head / plans.latent, 1),
            query=number(plans.latent / plans.multi_query, 2),
            here=number(here.latent / here.multi_query, 2),
        ),
    )


# -- position ----------------------------------------------------------------------------------------------------------


def turned(visit: Visit, head: int) -> torch.Tensor:
    """(T,): how wrong one absorbed matrix would be at each distance, if keys were turned after opening."""
    return lookup.absorption_error(layer(visit).self_attn, head, len(visit.trace.ids))


def turning(visit: Visit, head: int, error: torch.Tensor) -> plates.Plate:
    """The same as a line over distances."""
    last = len(error) - 1
    return plates.lines(
        "turning",
        plates.axis("distance", len(error)),
        [plates.series(t("postal.turn.series", head=head), error, PLACE)],
        percent=True,
        from_zero=True,
        title=t("postal.turn.chart"),
        alt=t("postal.turn.alt", far=percent(float(error[last])), last=last),
        note=t("postal.turn.note", head=head, floor=visit.floor, far=percent(float(error[last])), last=last),
    )
