"""Which to build: the pictures and sentences of the decision aid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from model import UserError, architectures, catalogue, choice, crossings, labs
from model.architectures import PRECISIONS
from model.choice import Found, Judged, Need
from model.config import ModelConfig
from model.labs._spread import Spread
from pages.kit import chapter, library, plates, state
from pages.kit.chapter import number, percent, sentences
from pages.kit.figures import facts
from pages.kit.words import t

GIGA = 1e9
PRINTED = 3  # digits of a number in an equation
TERA = 1e12
MILLI = 1e-3
DIGITS = ((10.0, 0), (1.0, 1), (0.1, 2), (0.0, 3))  # from which size on a number has so many digits after the point
CONTEXTS = (1024, 4096, 8192, 16384, 32768, 65536, 131072)  # tokens of a conversation, to choose from
RAISED = str.maketrans("0123456789", "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")
TENTHS = 10  # the training FLOPs are set in tenths of the power of ten
BUDGETS = range(200, 275, 5)  # to choose from: 10 ** 20 to 10 ** 27
SHOWN = (
    "deepseek-v3", "qwen3-235b-a22b", "gpt-oss-120b", "mixtral-8x7b", "moonlight-16b-a3b",
    "llama-3-1-405b", "llama-3-1-70b", "llama-3-1-8b",
)  # fmt: skip
"""Rows of the catalogue that are judged beside the two that are weighed, MoE first."""
LABS = {  # claim -> the lab whose measurement stands beside it, where that is not the claim's own first page
    "subjects": ("timetable",), "suits": ("miniatures", "cramming"), "easy": ("skill",), "faster": ("hospitals",),
}  # fmt: skip
SINCE = 2025  # the year after the talk
BLUEPRINTS = {  # claim -> rows of the catalogue that its numbers are reckoned from
    "rooms": ("deepseek-v3",), "traffic": ("deepseek-v3",), "deployment": ("deepseek-v3", "llama-3-1-70b"),
    "easy": ("deepseek-v3", "llama-3-1-70b"), "faster": ("deepseek-v3", "llama-3-1-405b"),
    "poor": ("deepseek-v3", "llama-3-1-70b"),
    "shunned": tuple(row.key for row in catalogue.rows() if row.year >= SINCE),
}  # fmt: skip
RECORDED = {  # claim -> labs whose recorded runs its numbers are read from
    "tuning": ("skill",), "balance": ("queues",), "traffic": ("ambulances",), "overfitting": ("cramming",),
    "banks": ("timetable",), "sets": ("timetable",), "subjects": ("timetable",),
    "suits": ("miniatures", "cramming", "tasks"),
}  # fmt: skip
CARD = catalogue.cards()[[one.bytes for one in catalogue.cards()].index(80e9)].name  # on which claims are reckoned
HOLDS = ("both", "moe", "dense", "none")


# -- what is asked for -------------------------------------------------------------------------------------------------


def card() -> catalogue.Card:
    """The chosen size of a card; where a link asks for one that is not there, 80 GB."""
    sizes = {int(one.bytes // GIGA): one for one in catalogue.cards()}
    return sizes.get(state.get("card")) or sizes[state.TABLE["card"].default]


def precision() -> str:
    """Of the weights."""
    return state.get("precision") if state.get("precision") in PRECISIONS else "bf16"


def need() -> Need:
    """What the visitor has, and wants."""
    return Need(
        cards=state.get("cards"),
        card_bytes=card().bytes,
        precision=precision(),
        context=state.get("context"),
        served=state.get("served"),
        flops=TENTHS ** (state.get("budget") / TENTHS),
    )


def sliders(need: Need) -> tuple[list[plates.Plate], dict[str, int], Callable[[dict[str, int]], None]]:
    """Length of a conversation and training FLOPs: their steppers, where these stand, and what a pick sets. A value of
    a link that lies between two steps is a step of its own."""
    values = {
        "context": sorted({*CONTEXTS, need.context}),
        "budget": sorted({*BUDGETS, state.get("budget")}),
    }
    said = {"context": lambda tokens: f"{tokens:,}", "budget": power}
    made = [
        plates.stepper(
            plates.axis(name, len(steps), [said[name](step) for step in steps]), title=t(f"choice.control.{name}")
        )
        for name, steps in values.items()
    ]

    def pick(picked: dict[str, int]) -> None:
        for name, at in picked.items():
            state.put(name, values[name][min(at, len(values[name]) - 1)])

    return (
        made,
        {"context": values["context"].index(need.context), "budget": values["budget"].index(state.get("budget"))},
        pick,
    )


def rows(moe: bool) -> list[catalogue.Row]:
    """Of the catalogue, those with experts or those without."""
    return [row for row in catalogue.rows() if (row.architecture.num_moe_layers > 0) == moe]


def pair() -> tuple[catalogue.Row, catalogue.Row]:
    """(MoE, dense): the two that are weighed against each other."""
    found = []
    for moe, name in ((True, "pair_moe"), (False, "pair_dense")):
        by_key = {row.key: row for row in rows(moe)}
        found.append(by_key.get(state.get(name)) or by_key[state.TABLE[name].default])
    return found[0], found[1]


def judged(need: Need) -> tuple[Judged, Judged, list[Judged]]:
    """(MoE, dense, all that are shown, the two among them)."""
    moe, dense = pair()
    keys = dict.fromkeys([*SHOWN, moe.key, dense.key])
    every = [choice.judge(row, need) for row in catalogue.rows() if row.key in keys]
    every.sort(key=lambda one: (not one.moe, -one.total))
    by_key = {one.row.key: one for one in every}
    return by_key[moe.key], by_key[dense.key], every


# -- numbers as people read them ---------------------------------------------------------------------------------------


def gigabytes(count: float) -> str:
    """Bytes."""
    return t("choice.unit.bytes", n=_short(count / GIGA))


def gigaflops(count: float) -> str:
    """FLOPs of one token."""
    return t("choice.unit.flops", n=_short(count / GIGA))


def tokens(count: float) -> str:
    """Tokens, in millions of millions."""
    return t("choice.unit.tokens", n=_short(count / TERA))


def _short(value: float) -> str:
    """Two or more digits that say something."""
    return number(value, next(digits for size, digits in DIGITS if value >= size))


def between(one: Spread, digits: int = choice.SHOWN) -> str:
    """A measurement with its spread."""
    return _spread(one, lambda value: number(value, digits))


def share(one: Spread) -> str:
    """The same for a share."""
    return _spread(one, percent)


def _spread(one: Spread, said: Callable[[float], str]) -> str:
    """One number where all seeds show the same."""
    low, middle, high = map(said, one)
    return middle if low == high else chapter.between(middle, low, high)


def power(tenths: int) -> str:
    """FLOPs, as they are written: a number of one digit before the point, and a power of ten."""
    exponent, rest = divmod(tenths, TENTHS)
    return t("choice.unit.power", n=number(TENTHS ** (rest / TENTHS), 1), power=str(exponent).translate(RAISED))


# -- the table ---------------------------------------------------------------------------------------------------------


def table(need: Need, every: Sequence[Judged]) -> plates.Plate:
    """What every model would need of what there is."""

    def verdict(one: Judged) -> str:
        if one.reaches is False:
            return t("choice.fits.short")
        return t(f"choice.fits.{'yes' if one.fits else 'no'}")

    columns = ("fits", "needed", "cards", "flops", "cache", "trained", "total", "kind", "source")
    cells = [
        [
            verdict(one), gigabytes(one.needed), f"{one.cards:,}", gigaflops(one.flops), gigabytes(one.cache),
            tokens(one.trained), t("choice.unit.billions", n=_short(one.total / GIGA)),
            t(f"choice.kind.{'moe' if one.moe else 'dense'}"), library.cited(one.row.source),
        ]
        for one in every
    ]  # fmt: skip
    fitting = [one.row.name for one in every if one.fits and one.reaches is not False]
    names = t("choice.list").join(fitting) if fitting else t("choice.nobody")
    return plates.table(
        "models",
        [one.row.name for one in every],
        [{"label": t(f"choice.column.{name}")} for name in columns],
        cells,
        title=t("choice.fits.title", memory=gigabytes(need.memory)),
        note=sentences(
            t("choice.fits.note", names=names, memory=gigabytes(need.memory)),
            t("choice.fits.card", card=card().name, source=library.cited(card().source)),
        ),
    )


def argument(kind: str, moe: str, dense: str, side: str) -> tuple[str, list[str]]:
    """A row of the pair's table."""
    return t(f"choice.argument.{kind}"), [moe, dense, t(f"choice.side.{side}")]


def arguments(moe: Judged, dense: Judged) -> list[tuple[str, list[str]]]:
    """What speaks for which of the two, by formula."""
    made = [
        argument("memory", gigabytes(moe.needed), gigabytes(dense.needed), choice.less(moe.needed, dense.needed)),
        argument("flops", gigaflops(moe.flops), gigaflops(dense.flops), choice.less(moe.flops, dense.flops)),
        argument("cache", gigabytes(moe.cache), gigabytes(dense.cache), choice.less(moe.cache, dense.cache)),
        argument("trained", tokens(moe.trained), tokens(dense.trained), choice.less(dense.trained, moe.trained)),
    ]
    if state.get("tune"):
        side = choice.less(moe.tuning, dense.tuning)
        made.append(argument("tuning", gigabytes(moe.tuning), gigabytes(dense.tuning), side))
    return made


def weighed(moe: Judged, dense: Judged) -> plates.Plate:
    """The two side by side."""
    made = arguments(moe, dense)
    said = [cells[-1] for _, cells in made]
    counts = {side: said.count(t(f"choice.side.{side}")) for side in ("moe", "dense")}
    return plates.table(
        "weighed",
        [label for label, _ in made],
        [{"label": name} for name in (moe.row.name, dense.row.name, t("choice.column.side"))],
        [cells for _, cells in made],
        title=t("choice.argument.title", moe=moe.row.name, dense=dense.row.name),
        note=t("choice.argument.note", rows=len(made), **counts),
    )


# -- what the labs add -------------------------------------------------------------------------------------------------


def _found(key: str, found: Found | None, said: Any, **values: str) -> str:
    """A sentence about MoE against dense, or that nothing is recorded."""
    if found is None:
        return t("choice.missing", lab=t(f"choice.lab.{key}"))
    return t(f"choice.{key}.{found.better}", moe=said(found.moe), dense=said(found.dense), seeds=found.seeds, **values)


def on_mixed() -> str:
    """Many tasks: loss on a mixed corpus, of V3's kind of MoE and of another kind."""
    if (other := choice.mixed_loss("mixtral")) is None:
        return _found("mixed", None, between)
    return sentences(_found("mixed", choice.mixed_loss(), between), _found("other", other, between))


def on_single() -> str:
    """One task: an exam of one kind, new questions."""
    return _found("single", choice.exam(), share, size=f"{choice.BANK:,}")


def on_tasks() -> str:
    """One task against many: how far the MoE is ahead."""
    found = choice.leads()
    return _or_missing(
        "tasks", found and t(
            "choice.measured.suits", single=between(found.single, choice.SHOWN),
            mixed=between(found.mixed, choice.SHOWN), seeds=found.seeds,
        ),
    )  # fmt: skip


def on_tuning() -> str:
    """A new skill: what it costs of the old ones."""
    return _found("forgotten", choice.forgotten(), lambda one: between(one, choice.SHOWN_LOST))


def task() -> str:
    """What the labs say to the visitor's kind of task, and to a new skill where one is wanted."""
    said = [on_mixed() if state.get("tasks") == "mixed" else on_single()]
    if state.get("tune"):
        said.append(on_tuning())
    return sentences(*said)


def asked() -> list[str]:
    """The labs that `task` speaks of."""
    return ["miniatures" if state.get("tasks") == "mixed" else "cramming", *(["skill"] if state.get("tune") else [])]


def doors() -> list[library.Door]:
    """The same, as far as their pages are there."""
    return [door for door in (library.door([page]) for page in asked()) if door]


def recordings(names: Sequence[str]) -> str:
    """How recorded runs came about: command, commit and seeds of each lab, as far as they are there."""
    said = []
    for name in names:
        try:
            file = labs.recorded(name)
        except UserError:
            continue
        said.append(t("choice.source.lab", command=file["command"], commit=file["commit"], seeds=len(file["runs"])))
    return t("choice.source.recorded", runs=t("choice.source.between").join(said)) if said else ""


def origin(key: str) -> str:
    """Where a claim's numbers come from: blueprints of the catalogue, recorded runs, or both."""
    rows = [catalogue.find(name) for name in BLUEPRINTS.get(key, ())]
    said = [t("choice.source.row", name=row.name, source=library.cited(row.source)) for row in rows]
    reckoned = t("choice.source.reckoned", rows=t("choice.source.between").join(said)) if said else ""
    told = [one for one in (reckoned, recordings(RECORDED.get(key, ()))) if one]
    return sentences(*told) if told else ""


def conclusion(need: Need, moe: Judged, dense: Judged, every: Sequence[Judged]) -> str:
    """What follows from the numbers, and what does not."""
    holds = choice.holds(moe, dense)
    fitting = [one.row.name for one in every if one.fits and one.reaches is not False]
    said = [
        t(
            f"choice.holds.{holds}",
            moe=moe.row.name,
            dense=dense.row.name,
            moe_cards=f"{moe.cards:,}",
            dense_cards=f"{dense.cards:,}",
            cards=f"{need.cards:,}",
            precision=t(f"choice.precision.{need.precision}"),
            names=t("choice.list").join(fitting) if fitting else t("choice.nobody"),
        )
    ]
    if holds == "both":
        fewer, more = (moe, dense) if moe.flops <= dense.flops else (dense, moe)
        said.append(
            t(
                "choice.holds.arithmetic", fewer=fewer.row.name, more=more.row.name,
                times=number(more.flops / fewer.flops, 1),
            )
        )  # fmt: skip
    short = [one.row.name for one in (moe, dense) if one.reaches is False]
    if short:
        said.append(t("choice.holds.short", names=t("choice.list").join(short), context=f"{need.context:,}"))
    return sentences(*said)


# -- claim by claim ----------------------------------------------------------------------------------------------------


def measured(key: str) -> str | None:
    """What was measured or reckoned about a claim of the talk; None where there is nothing to measure."""
    v3, big, small = (catalogue.find(name) for name in ("deepseek-v3", "llama-3-1-405b", "llama-3-1-70b"))
    a = v3.architecture
    costs = {row.key: catalogue.figures(row.architecture, precision="fp8") for row in (v3, big, small)}
    if key == "rooms":
        part = architectures.active(a) / architectures.total(a)  # as on the page of beds
        return t("choice.measured.rooms", bytes=gigabytes(costs[v3.key].weight_bytes), share=percent(part))
    if key == "tuning":
        return on_tuning()
    if key == "balance":
        even = choice.evenness()
        return _or_missing(
            "queues", even and t(
                "choice.measured.balance", board=between(even.board, 2), nothing=between(even.nothing, 2),
                dead_board=number(even.dead_board.middle, 1), dead_nothing=number(even.dead_nothing.middle, 1),
            ),
        )  # fmt: skip
    if key == "traffic":
        return sentences(_sending(), _trips())
    if key == "deployment":
        return t(
            "choice.measured.deployment",
            cards=costs[v3.key].cards,
            small=costs[small.key].cards,
            name=small.name,
            card=CARD,
        )
    if key == "overfitting":
        new, bank = choice.exam(), choice.exam("bank")
        return _or_missing(
            "single", new and bank and t(
                "choice.measured.overfitting", moe_bank=share(bank.moe), moe=share(new.moe),
                dense_bank=share(bank.dense), dense=share(new.dense), seeds=new.seeds,
            ),
        )  # fmt: skip
    if key == "shunned":
        several = catalogue.rows()
        late = [row for row in several if row.year >= SINCE]
        experts = [sum(row.architecture.num_moe_layers > 0 for row in each) for each in (several, late)]
        return t(
            "choice.measured.shunned", all=len(several), late=len(late), moe=experts[0], late_moe=experts[1], year=SINCE
        )
    if key in ("banks", "sets", "subjects"):
        stream = choice.stream()
        return _or_missing(
            "timetable", stream and t(
                f"choice.measured.{key}", commonest=share(stream.commonest), least=stream.least, interns=stream.interns,
                subject=share(stream.subject), word=share(stream.word),
            ),
        )  # fmt: skip
    if key == "easy":
        moe, dense = (choice.TUNING_BYTES * costs[row.key].total for row in (v3, small))
        return t("choice.measured.easy", moe=gigabytes(moe), dense=gigabytes(dense), name=small.name)
    if key == "suits":
        return sentences(on_mixed(), on_single(), on_tasks())
    if key == "faster":
        moe, dense = (costs[row.key].training_flops for row in (v3, big))
        return t("choice.measured.faster", moe=gigaflops(moe), dense=gigaflops(dense), name=big.name)
    if key == "poor":
        return t(
            "choice.measured.poor", name=small.name,
            flops=gigaflops(costs[v3.key].forward_flops), dense=gigaflops(costs[small.key].forward_flops),
            bytes=gigabytes(costs[v3.key].weight_bytes), small=gigabytes(costs[small.key].weight_bytes),
        )  # fmt: skip
    return None


def _sending() -> str:
    """What V3 sends, by formula."""
    c = ModelConfig.preset("deepseek-v3")
    return t(
        "choice.measured.traffic",
        bytes=f"{crossings.v3_freight(c).both:,}",
        buildings=c.topk_group,
        floors=c.num_moe_layers,
        ms=number(crossings.token_seconds() / MILLI, 2),
    )


def _trips() -> str:
    """How often a token of this hospital would leave its building."""
    made = choice.trips()
    return _or_missing(
        "ambulances",
        made
        and t(
            "choice.measured.trips", rule=between(made.rule, 2), free=between(made.free, 2), buildings=made.buildings
        ),
    )


def _or_missing(lab: str, said: str | None) -> str:
    """What was found, or that nothing is recorded."""
    return said or t("choice.missing", lab=t(f"choice.lab.{lab}"))


def claims() -> list[facts.Claim]:
    """The talk's claims about the price."""
    return [one for one in facts.claims() if one.part == "price"]


def verdicts() -> plates.Plate:
    """Every claim with its verdict, what is true, and what was measured."""
    entries, several = [], claims()
    for one in several:
        entry = facts.card(one, hidden=False)
        entry.pop("door", None)
        door = library.door([*LABS.get(one.key, ()), *(page for page in one.pages if page != "choice")])
        if door:
            entry["door"] = {"page": door.page, "text": t("facts.page", page=door.label)}
        said = measured(one.key)
        if said:
            entry["parts"] = [
                *entry["parts"],
                {"label": t("choice.measured.label"), "text": said},
                *([{"text": source, "soft": True}] if (source := origin(one.key)) else []),
            ]
        entries.append(entry)
    return plates.cards(
        "verdicts", entries, title=t("choice.verdicts.title"), note=t("choice.verdicts.note", **facts.tally(several))
    )
