"""Construction's pictures: who sits on which card, who has how much to do there, and what room is left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from model import ModelConfig, placement
from model.architectures import Architecture, active, total, weight_bytes
from model.catalogue import find
from model.labs._spread import Spread, spread
from model.labs.queues import CONFIG, Arm
from model.placement import Placement, Plan
from pages.kit import library, plates, service, state
from pages.kit.chapter import Visit, number, sentences
from pages.kit.figures import queues
from pages.kit.words import t

V3, DENSE = "deepseek-v3", "llama-3-1-405b"
GB = 1e9
CARD = 80 * GB  # H800: arXiv 2412.19437, section 3.1, names the card; its data sheet the 80 GB
MOST_CARDS = 320  # of any published plan
DRAWS = 20  # of seats by lot
TIMES = 3  # as high as the busiest card now is what is drawn of the cards before
KEPT = 64  # placements that are remembered
SPARES = (0, 8, 16, 32, 64, 128)  # copies for the curve; the last is the most that can be chosen
SIDE = 40  # of a card's square
FEW_NODES = 8  # for which a narrow picture does
MANY_NODES = 24  # that need the whole width
WAYS = ("numbered", "lot", "packed", "spare")
HALLS = 8  # cards of a small hospital that is trained on the page
COPIES = 8  # spare interns of it


# -- plans -------------------------------------------------------------------------------------------------------------


def plan() -> Plan:
    """The published plan that was chosen, with as many cards and copies as the visitor wants."""
    base = placement.PLANS[state.get("plan")]
    cards, spare = state.get("spread"), state.get("spare")
    return replace(
        base,
        cards=base.cards if cards is None else min(cards, MOST_CARDS),
        spare=base.spare if spare is None else min(spare, SPARES[-1]),
    )


def planned(name: str, value: str) -> None:
    """`tell` of the plans' control. A plan comes with its own cards and copies."""
    state.put(name, value)
    state.reset("spread", "spare")


def is_published(one: Plan) -> bool:
    """Whether it is as it was chosen."""
    return one == placement.PLANS[one.name]


def owned(a: Architecture, one: Plan) -> int:
    """Experts of a floor that are placed, copies aside: with the shared one where it is one of them."""
    return a.n_routed_experts + (0 if one.shared_everywhere else a.n_shared_experts)


def seats(a: Architecture, one: Plan) -> int:
    """Experts and copies on the fullest card, on every floor."""
    return placement.places(owned(a, one), one.spare, one.cards)


def width(nodes: int, beside: bool = False) -> str:
    """Of a floor plan, so that its cards come out about square; or of what stands beside it."""
    if nodes > MANY_NODES:
        return "full"
    return "two-thirds" if (nodes > FEW_NODES) != beside else "third"


def standing(per_card: np.ndarray, one: Plan) -> np.ndarray:
    """(cards,) -> rows of places in a machine by columns of machines."""
    return per_card.reshape(-1, one.per_node).T


def floor_plan(one: Plan) -> plates.Plate:
    """Cards in their nodes, with the number of experts on each; V3's."""
    a = find(V3).architecture
    nodes = math.ceil(one.cards / one.per_node)
    placed = owned(a, one) + one.spare
    on_each = np.full(nodes * one.per_node, np.nan)
    on_each[: one.cards] = placed // one.cards
    on_each[: placed % one.cards] += 1
    shared = a.n_shared_experts if one.shared_everywhere else 0
    texts = [""] * len(on_each)
    for card, count in enumerate(on_each[: one.cards]):
        texts[card] = t("construction.floor_plan.each", seats=int(count), shared=shared) if shared else f"{count:.0f}"
    mask = np.zeros(len(on_each))
    if not one.shared_everywhere:  # who is first is not published: drawn in order
        mask[a.n_routed_experts : one.cards] = plates.LIT
    words = {"cards": one.cards, "nodes": nodes, "per_node": one.per_node, "seats": seats(a, one), "spare": one.spare,
             "rooms": a.n_routed_experts, "rest": max(one.cards - a.n_routed_experts, 0)}  # fmt: skip
    kind = "everywhere" if one.shared_everywhere else "placed"
    return plates.grid(
        "plan",
        plates.axis("card", one.per_node, offset=1),
        plates.axis("node", nodes, offset=1),
        standing(on_each, one),
        mask=standing(mask, one),
        lit=t("construction.floor_plan.lit"),
        width=width(nodes),
        cell=SIDE,
        left=26,
        digits=0,
        role="intern",
        domain=[0, float(np.nanmax(on_each)) + 1],
        texts=standing(np.array(texts), one).ravel().tolist(),
        written="texts",
        title=t("construction.floor_plan.title"),
        alt=t("construction.floor_plan.alt", **words),
        note=t(f"construction.floor_plan.{kind}", **words),
    )


def plan_facts(one: Plan) -> plates.Plate:
    """The big numbers."""
    a = find(V3).architecture
    held = placement.on_card(a, one)
    left = CARD - held.total
    return plates.facts(
        "plan_facts",
        width=width(math.ceil(one.cards / one.per_node), beside=True),
        rows=[
            (f"{one.cards:,}", t("construction.facts.cards"),
             t("construction.facts.nodes", nodes=math.ceil(one.cards / one.per_node))),
            (f"{seats(a, one)}", t("construction.facts.seats"), t("construction.facts.spare", spare=one.spare)),
            (number(held.total / GB, digits=1), t("construction.facts.weights")),
            (number(left / GB, digits=1), t("construction.facts.left" if left > 0 else "construction.facts.none"),
             t("construction.facts.tokens", tokens=f"{placement.cache_tokens(a, left):,}")),
        ],
    )  # fmt: skip


PARTS = ("routed", "shared", "attention", "rest")


def on_cards(own: Plan) -> plates.Plate:
    """What lies on one card of each plan."""
    a, several = find(V3).architecture, [*placement.PLANS.values()]
    if not is_published(own):
        several.append(own)
    names = [t(f"construction.short.{one.name}") for one in placement.PLANS.values()]
    names += [t("construction.short.own")] if len(several) > len(names) else []
    cells = []
    for one in several:
        held = placement.on_card(a, one)
        left = CARD - held.total
        cells.append([one.cards, seats(a, one), *(part / GB for part in held), held.total / GB, max(left, 0) / GB,
                      placement.cache_tokens(a, left)])  # fmt: skip
    columns = [
        {"label": t(f"construction.column.{name}"), "digits": 0 if name in ("cards", "seats", "tokens") else 1}
        for name in ("cards", "seats", *PARTS, "total", "left", "tokens")
    ]
    sources = t("construction.on_cards.between").join(
        t("construction.on_cards.source", name=name, source=library.cited(one.source))
        for name, one in zip(names, placement.PLANS.values(), strict=False)
    )
    return plates.table(
        "on_cards", names, columns, cells, title=t("construction.on_cards.title"),
        note=t("construction.on_cards.note", sources=sources, card=number(CARD / GB, digits=0)),
    )  # fmt: skip


# -- loads -------------------------------------------------------------------------------------------------------------


def sentence_load(visit: Visit) -> np.ndarray:
    """(M, E): calls of this sentence."""
    return visit.trace.woken().sum(1).numpy().astype(np.float64)


class Measured(NamedTuple):
    """What seats are planned from."""

    load: np.ndarray  # (M, E)
    tokens: int
    heldout: bool  # False: this sentence, where no study lies beside the checkpoint


def measured(visit: Visit) -> Measured:
    """Over the held-out texts of the study; without one, this sentence."""
    study = service.study()
    if study is not None:
        return Measured(study.calls.astype(np.float64), study.tokens, True)
    return Measured(sentence_load(visit), len(visit.trace.ids), False)


def with_everybody(load: np.ndarray, one: Plan, c: ModelConfig) -> np.ndarray:
    """The load of all who are placed: with the shared expert where it is one of them."""
    return load if one.shared_everywhere else placement.with_shared(load, c.num_experts_per_tok)


@lru_cache(maxsize=KEPT)
def _placed(load: bytes, shape: tuple[int, int], cards: int, spare: int) -> Placement:
    plain = _placed(load, shape, cards, 0) if spare else None
    return placement.place(np.frombuffer(load).reshape(shape), spare, cards, plain)


@lru_cache(maxsize=KEPT)
def _by_lot(floors: int, experts: int, cards: int) -> tuple[Placement, ...]:
    return tuple(placement.by_lot(floors, experts, cards, DRAWS))


def placed(load: np.ndarray, one: Plan, c: ModelConfig, spare: int) -> Placement:
    """Copied and packed for a load (M, E); equal questions are answered once."""
    whole = with_everybody(load, one, c)
    return _placed(whole.tobytes(), whole.shape, one.cards, spare)


class Balance(NamedTuple):
    """Busiest card over the mean of all cards, for four ways of seating: (M,) each."""

    numbered: np.ndarray
    lot: np.ndarray  # mean of the draws
    packed: np.ndarray
    spare: np.ndarray


def balance(load: np.ndarray, found: Measured, one: Plan, c: ModelConfig) -> Balance:
    """Under `load` (M, E), seats having been planned from what was measured."""
    whole = with_everybody(load, one, c)
    floors, experts = whole.shape
    lots = [placement.imbalance(draw.busy(whole)) for draw in _by_lot(floors, experts, one.cards)]
    return Balance(
        placement.imbalance(placement.numbered(floors, experts, one.cards).busy(whole)),
        np.mean(lots, 0),
        placement.imbalance(placed(found.load, one, c, 0).busy(whole)),
        placement.imbalance(placed(found.load, one, c, one.spare).busy(whole)),
    )


def ways(visit: Visit, found: Measured, here: Balance, now: Balance, own: np.ndarray, one: Plan) -> plates.Plate:
    """All four, over the held-out texts and for this sentence; and had this sentence been known."""
    rows = [[float(a.mean()), float(a.max()), float(b.mean())] for a, b in zip(here, now, strict=True)]
    labels = [t(f"construction.way.{way}", spare=one.spare) for way in WAYS]
    rows.append(["–", "–", float(own.mean())])
    labels.append(t("construction.way.known", spare=one.spare))
    return plates.table(
        "ways",
        labels,
        [{"label": t(f"construction.ways.{column}"), "digits": 2} for column in ("mean", "worst", "sentence")],
        rows,
        title=t("construction.ways.title"),
        note=t("construction.ways.note" if found.heldout else "construction.ways.alone", tokens=f"{found.tokens:,}",
               copies=one.spare, now=len(visit.trace.ids), spare=number(float(here.spare.mean()), digits=2),
               fresh=number(float(now.spare.mean()), digits=2)),
    )  # fmt: skip


def cards(visit: Visit, found: Measured, one: Plan) -> plates.Plate:
    """What each card has to do on the followed floor, the busiest first; before: seats by number."""
    c, at = visit.trace.config, visit.department
    whole = with_everybody(found.load, one, c)
    plain = placement.numbered(*whole.shape, one.cards).busy(whole)[at]
    seated = placed(found.load, one, c, one.spare)
    busy, mean = seated.busy(whole)[at], whole[at].sum() / one.cards
    many = seated.copies[at]
    most = int(many[: c.n_routed_experts].argmax())
    before, after = (number(float(load.max() / mean), digits=2) for load in (plain, busy))
    words = {
        "floor": visit.floor, "before": before, "after": after, "cards": one.cards,
        "copied": int((many[: c.n_routed_experts] > 1).sum()),
        "room": most, "copies": int(many[most]), "spare": one.spare,
    }  # fmt: skip
    nurse = [] if one.shared_everywhere else [t("construction.cards.nurse", seats=int(many[-1]))]
    return plates.bars(
        "cards",
        plates.axis("busy", one.cards, offset=1),
        np.sort(busy)[::-1] / mean,
        before=np.sort(plain)[::-1] / mean,
        role="crowding",
        digits=2,
        height=170,
        domain=[0, float(min(plain.max(), TIMES * busy.max()) / mean)] if mean else [0, 1],
        title=t("construction.cards.title", floor=visit.floor),
        alt=t("construction.cards.alt", **words),
        note=sentences(t("construction.cards.note", **words), *nurse),
    )  # fmt: skip


def seating(visit: Visit, found: Measured, one: Plan) -> plates.Plate:
    """The floor plan again, with who sits where on the followed floor and how much each card has to do."""
    c, at = visit.trace.config, visit.department
    whole = with_everybody(found.load, one, c)
    seated = placed(found.load, one, c, one.spare)
    busy, mean = seated.busy(whole)[at], whole[at].sum() / one.cards
    nodes = math.ceil(one.cards / one.per_node)
    value, mask = np.full(nodes * one.per_node, np.nan), np.zeros(nodes * one.per_node)
    value[: one.cards] = busy / mean if mean else 0
    copied = seated.copies[at] > 1
    texts = []
    for card in seated.seats[at]:
        sits = [int(expert) for expert in card if expert >= 0]
        names = [
            t("construction.seating.nurse") if expert == c.n_routed_experts else
            t("construction.seating.intern", room=expert) for expert in sorted(sits)
        ]  # fmt: skip
        texts.append(t("construction.seating.join").join(names) or t("construction.seating.nobody"))
        mask[len(texts) - 1] = plates.LIT if any(copied[expert] for expert in sits) else 0
    low, high = float(np.nanmin(value)), float(np.nanmax(value))
    words = {"floor": visit.floor, "low": number(low, digits=2), "high": number(high, digits=2),
             "lit": int(mask.sum()), "cards": one.cards}  # fmt: skip
    return plates.grid(
        "seating",
        plates.axis("card", one.per_node, offset=1),
        plates.axis("node", nodes, offset=1),
        standing(value, one),
        mask=standing(mask, one),
        lit=t("construction.seating.lit"),
        width=width(nodes),
        cell=SIDE,
        left=26,
        digits=2,
        role="crowding",
        texts=standing(np.array(texts + [""] * (nodes * one.per_node - one.cards)), one).ravel().tolist(),
        written=True,
        title=t("construction.seating.title", floor=visit.floor),
        alt=t("construction.seating.alt", **words),
        note=t("construction.seating.note", **words),
    )


def curve(visit: Visit, found: Measured, one: Plan) -> plates.Plate:
    """The busiest card against the number of copies: mean over the floors, and the followed floor."""
    c = visit.trace.config
    whole = with_everybody(found.load, one, c)
    each = np.stack([placement.imbalance(placed(found.load, one, c, spare).busy(whole)) for spare in SPARES])
    lot = float(np.mean([placement.imbalance(d.busy(whole)).mean() for d in _by_lot(*whole.shape, one.cards)]))
    least = int(each.mean(1).argmin())
    none, best = (number(float(row.mean()), digits=2) for row in (each[0], each[least]))
    words = {"none": none, "best": best, "least": SPARES[least], "lot": number(lot, digits=2), "cards": one.cards,
             "floor": visit.floor}  # fmt: skip
    return plates.lines(
        "curve",
        plates.axis("copies", len(SPARES), [str(spare) for spare in SPARES]),
        [
            plates.series(t("construction.curve.mean"), each.mean(1), "intern", each.min(1), each.max(1)),
            plates.series(t("construction.curve.floor", floor=visit.floor), each[:, visit.department], "patient"),
            plates.series(t("construction.curve.lot"), np.full(len(SPARES), lot), "soft"),
        ],
        digits=2,
        log=True,
        title=t("construction.curve.title"),
        alt=t("construction.curve.alt", **words),
        note=t("construction.curve.note", **words),
    )


# -- while a small one is trained --------------------------------------------------------------------------------------


def crowded(points: queues.Points, arm: int) -> dict[str, np.ndarray]:
    """The busiest card over the mean of all, at every point of a run of the queues' lab: its department by number, and
    with spare interns that are placed by what was counted at the point before (NaN at the first: nothing was)."""
    load = np.array([point["arms"][arm]["load"] for point in points], dtype=float)
    numbered, spare = placement.numbered(*load.shape, HALLS), np.full(len(load), np.nan)
    if len(load) > 1:
        spare[1:] = placement.imbalance(placement.place(load[:-1], COPIES, HALLS).busy(load[1:]))
    return {"numbered": placement.imbalance(numbered.busy(load)), "spare": spare}


def last(runs: Sequence[queues.Points], arm: int, way: str) -> Spread:
    """The last point of every run."""
    return spread([float(crowded(points, arm)[way][-1]) for points in runs])


def trained(runs: Sequence[queues.Points], arms: dict[int, Arm]) -> list[plates.Plate]:
    """Over the steps, both ways: mean of the runs, and between which they lie. `arms`: those that are shown."""
    made = []
    found = {i: [crowded(points, i) for points in runs] for i in arms}
    every = np.stack([one[way] for several in found.values() for one in several for way in one])
    scale = (float(np.nanmin(every)), float(np.nanmax(every)))  # the two stand side by side, and are to be compared
    for way in ("numbered", "spare"):
        several = []
        for i, arm in arms.items():
            each = np.stack([one[way] for one in found[i]])
            band = (each.min(0), each.max(0)) if len(runs) > 1 else ()
            several.append(plates.series(queues.name(arm), each.mean(0), queues.ROLES[arm.kind], *band))
        ends = [last(runs, i, way).middle for i in arms]
        said = ["–" if np.isnan(end) else number(end, digits=2) for end in ends]
        words = {"step": runs[0][-1]["step"], "now": queues.listed(list(arms.values()), said), "cards": HALLS}
        made.append(
            plates.lines(
                f"trained_{way}", queues.steps(runs[0]), several, digits=2, width="half", domain=scale,
                title=t(f"construction.trained.{way}", copies=COPIES), alt=t("construction.trained.note", **words),
                note=t("construction.trained.note", **words),
            )
        )  # fmt: skip
    return made


def seats_trained() -> dict[str, int]:
    """How the small hospital is spread, for words and equations."""
    e = CONFIG.n_routed_experts
    return {"interns": e, "halls": HALLS, "copies": COPIES, "each": placement.places(e, COPIES, HALLS)}


# -- one big doctor ----------------------------------------------------------------------------------------------------


class Doctor(NamedTuple):
    """One model in one precision."""

    bytes: int
    cards: int  # of 80 GB, for the weights alone
    active: int
    total: int


def doctor(name: str, precision: str) -> Doctor:
    """By formula."""
    a = find(name).architecture
    held = weight_bytes(a, precision)
    return Doctor(held, math.ceil(held / CARD), active(a), total(a))


def doctors() -> plates.Plate:
    """V3 beside the largest dense Llama."""
    labels, cells = [], []
    for name in (V3, DENSE):
        for precision in ("bf16", "fp8"):
            one = doctor(name, precision)
            labels.append(t("construction.doctors.row", name=find(name).name, precision=precision.upper()))
            cells.append([one.total / GB, one.bytes / GB, one.cards, one.active / GB])
    return plates.table(
        "doctors",
        labels,
        [{"label": t(f"construction.doctors.{column}"), "digits": 0 if column == "cards" else 1} for column in
         ("weights", "bytes", "cards", "working")],
        cells,
        title=t("construction.doctors.title"),
        note=t("construction.doctors.note", card=number(CARD / GB, digits=0), ours=doctor(V3, "fp8").cards,
               theirs=doctor(DENSE, "bf16").cards, fewer=doctor(DENSE, "fp8").cards),
    )  # fmt: skip
