"""Hospitals compared: plates and buildings of the catalogue, of a visitor's own config, of one that is built here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from model import catalogue
from model.architectures import (
    PRECISIONS,
    Architecture,
    Figures,
    attention_products,
    cache_numbers_per_layer,
    expert,
    figures,
    multiplied,
    remembering,
)
from model.catalogue import Row
from model.config_json import Described
from pages.kit import library, plates, scale, state
from pages.kit.chapter import number, percent, sentences
from pages.kit.words import t

V3 = "deepseek-v3"
TALK = ("llama-3-1-405b", "mixtral-8x7b", "grok-1", V3)
"""The hospitals that the talk compares; for Llama the largest of its time."""
USUAL = (*TALK, "kimi-k2", "qwen3-235b-a22b", "gpt-oss-120b", "qwen2-5-72b")
"""Compared before anybody chose."""
BILLION = 10**9
KILO = 10**3  # bytes of a kB
GIGA = 10**9  # bytes of a GB; FLOPs of a GFLOP
BF16 = 2  # bytes of a number
EXACT = 9  # digits behind the point, in thousand millions, of a count
CONTEXTS = tuple(2**power for power in range(10, 20))  # tokens: what can be chosen


class Settings(NamedTuple):
    """What costs are reckoned for."""

    context: int  # tokens of one text
    precision: str
    card: catalogue.Card

    def figures(self, a: Architecture) -> Figures:
        return figures(a, context=self.context, precision=self.precision, card_bytes=self.card.bytes)


def settings() -> Settings:
    """The visitor's; what a link asks for and nobody offers becomes the usual, or the nearest."""
    cards, precision = catalogue.cards(), state.get("precision")
    wanted, usual = state.get("card") * GIGA, state.TABLE["card"].default * GIGA
    by_size = {card.bytes: card for card in cards}
    return Settings(
        nearest(CONTEXTS, state.get("context")),
        precision if precision in PRECISIONS else state.TABLE["precision"].default,
        by_size.get(wanted, by_size[usual]),
    )


def nearest(options: Sequence[int], value: int) -> int:
    """The option that is closest to a value."""
    return min(options, key=lambda option: abs(option - value))


def billions(value: float) -> str:
    """Parameters in a sentence."""
    return t("hospitals.billions", value=number(value / BILLION, 1))


# -- the register ------------------------------------------------------------------------------------------------------


class Measure(NamedTuple):
    """A column: what it shows, in which unit, with how many digits."""

    of: Callable[[Figures], float]
    unit: float = 1
    digits: int = 0


TELLING = ("active", "forward", "training")  # what the page's question asks for, and the work that follows from it
MEASURES = {
    "total": Measure(lambda f: f.total, BILLION, 1),
    "active": Measure(lambda f: f.active, BILLION, 1),
    "awake": Measure(lambda f: f.experts_per_token),
    "per_token": Measure(lambda f: f.cache_numbers_per_token * BF16, KILO, 1),
    "cache": Measure(lambda f: f.cache_bytes, GIGA, 2),
    "forward": Measure(lambda f: f.forward_flops, GIGA, 1),
    "training": Measure(lambda f: f.training_flops, GIGA, 1),
    "weights": Measure(lambda f: f.weight_bytes, GIGA, 1),
    "cards": Measure(lambda f: f.cards),
}


def value(measure: str, f: Figures) -> float:
    """A figure in the unit of its column."""
    how = MEASURES[measure]
    return how.of(f) / how.unit


def said(measure: str, f: Figures) -> str:
    """The same as it stands in a sentence."""
    return number(value(measure, f), MEASURES[measure].digits)


def measure() -> str:
    """By what is sorted."""
    return state.get("measure") if state.get("measure") in MEASURES else state.TABLE["measure"].default


def keys() -> list[str]:
    """Those that are compared, in the catalogue's order."""
    asked = (state.get("compare") or "").split(".")
    every = [row.key for row in catalogue.rows()]
    return [key for key in every if key in asked] or [key for key in every if key in USUAL]


def chosen() -> Row:
    """The one that is looked at closely."""
    every = {row.key: row for row in catalogue.rows()}
    return every.get(state.get("hospital"), every[V3])


@cache
def index_of(key: str) -> int:
    """Its place in the catalogue."""
    return [row.key for row in catalogue.rows()].index(key)


def pick(picked: Mapping[str, int]) -> None:
    """A click on one of the register's columns looks at that one closely."""
    several = catalogue.rows()
    state.put("hospital", several[picked["hospital"] % len(several)].key)


def ranked(now: Settings, by: str) -> list[tuple[Row, Figures]]:
    """Those that are compared, most first."""
    several = [(row, now.figures(row.architecture)) for row in map(catalogue.find, keys())]
    return sorted(several, key=lambda pair: -value(by, pair[1]))


def _asked(row: Row) -> bool:
    """Whether it is one of those that the page's question is about."""
    return row.key in TALK


def rooms(a: Architecture) -> str:
    """What a floor looks like, in a few signs."""
    if not a.num_moe_layers:
        return t("hospitals.rooms.dense")
    routed = f"{a.n_routed_experts}" + (f" + {a.n_shared_experts}" if a.n_shared_experts else "")
    return t("hospitals.rooms.moe", rooms=routed, called=a.num_experts_per_tok)


def floors(a: Architecture) -> str:
    """Floors, and how many of them are a desk."""
    if a.num_moe_layers and a.num_dense_layers:
        return t("hospitals.floors.some", floors=a.num_hidden_layers, dense=a.num_dense_layers)
    return str(a.num_hidden_layers)


def _columns() -> list[dict[str, object]]:
    return [
        {"label": t("hospitals.column.floors")},
        {"label": t("hospitals.column.rooms")},
        {"label": t("hospitals.column.attention")},
        *({"label": t(f"hospitals.column.{name}"), "digits": MEASURES[name].digits} for name in MEASURES),
    ]


def _cells(a: Architecture, f: Figures, told: bool = True) -> list[float | str]:
    """`told`: whether what answers the page's question may stand there."""
    asked = t("hospitals.most.unknown")
    figures = (value(name, f) if told or name not in TELLING else asked for name in MEASURES)
    return [floors(a), rooms(a), t(f"hospitals.kind.{a.attention}"), *figures]


def register(now: Settings, told: bool) -> list[plates.Plate]:
    """All that are compared: one measure as bars, and every measure in a table. A click looks at one closely. What
    answers the page's question stands in neither before it is `told`."""
    wanted = measure()
    waits = wanted in TELLING and not told
    by = state.TABLE["measure"].default if waits else wanted
    several = ranked(now, by)
    axis = plates.axis("hospital", len(catalogue.rows()), indices=[index_of(row.key) for row, _ in several])
    first, last = several[0], several[-1]
    note = t(
        "hospitals.register.note",
        first=first[0].name,
        most=said(by, first[1]),
        last=last[0].name,
        least=said(by, last[1]),
        unit=t(f"hospitals.column.{by}"),
    )
    first_guess = t("hospitals.register.first", unit=t(f"hospitals.column.{wanted}"))
    return [
        plates.rank(
            "bars",
            [row.name for row, _ in several],
            [value(by, f) for _, f in several],
            axis=axis,
            digits=MEASURES[by].digits,
            role="soft",
            title=t(f"hospitals.column.{by}"),
            note=sentences(first_guess, note) if waits else note,
        ),
        plates.table(
            "register",
            [row.name for row, _ in several],
            _columns(),
            [_cells(row.architecture, f, told) for row, f in several],
            axis=axis,
            title=t("hospitals.register.title"),
            note=sentences(
                t(
                    "hospitals.register.units",
                    context=f"{now.context:,}",
                    card=now.card.name,
                    source=library.cited(now.card.source),
                ),
                t("hospitals.register.active"),
                *([] if told else [t("hospitals.register.waits")]),
            ),
        ),
    ]


def hidden() -> plates.Plate:
    """Those of which nothing is published."""
    return plates.table(
        "hidden",
        [entry["name"] for entry in catalogue.undisclosed()],
        [{"label": t("hospitals.hidden.known")}, {"label": t("hospitals.where.source")}],
        [[t(f"hospitals.hidden.{entry['key']}"), library.cited(entry["source"])] for entry in catalogue.undisclosed()],
        title=t("hospitals.hidden.title"),
        note=t("hospitals.hidden.note"),
    )


# -- where a row's values come from ------------------------------------------------------------------------------------


def values(row: Row) -> plates.Plate:
    """Every value of a row with its source."""
    given = [(name, content, row.source_of(name)) for name, content in row.config.items() if name != "model_type"]
    taken = [(name, content, t("hospitals.where.default", family=row.family)) for name, content in row.assumed.items()]
    every = [(name, content, source) for name, content, source in [*given, *taken] if content != []]
    return plates.table(
        "values",
        [name for name, _, _ in every],
        [{"label": t("hospitals.where.value")}, {"label": t("hospitals.where.source")}],
        [[_written(content), library.cited(source)] for _, content, source in every],
        title=t("hospitals.where.values", name=row.name),
    )


def _written(content: object) -> str:
    if isinstance(content, bool):
        return str(content).lower()
    return f"{content:,}" if isinstance(content, int) else str(content)


def rounded(within: float) -> int:
    """Digits behind the point of a figure that is right within so much (half of its last digit)."""
    return EXACT if not within else max(0, round(-math.log10(2 * within)))


def published(row: Row, told: bool) -> plates.Plate:
    """What others say of it, and what the formulas say. `told`: whether what answers the page's question may stand
    there, if it is one of those that are asked about."""
    lines, asked = [], t("hospitals.most.unknown")
    for figure in row.published:
        unit = 1 if figure.what in ("kv_kilobytes", "training_gflops") else BILLION
        digits = rounded(figure.within / unit)
        made = catalogue.computed(figure.what, row.architecture)
        verdict = t("hospitals.where.agrees" if figure.derivable else "hospitals.where.differs")
        cited = library.cited(figure.source)
        waits = _asked(row) and not told and figure.what.startswith(TELLING)
        both = (asked, asked) if waits else (number(figure.value / unit, digits), number(made / unit, digits))
        lines.append([*both, verdict, cited])
    return plates.table(
        "published",
        [t(f"hospitals.said.{figure.what}") for figure in row.published],
        [{"label": t(f"hospitals.where.{name}")} for name in ("published", "formula", "verdict", "source")],
        lines,
        title=t("hospitals.where.checked", name=row.name),
        **({"note": t(f"hospitals.note.{row.note}")} if row.note else {}),
    )


# -- equations ---------------------------------------------------------------------------------------------------------


def tex(count: float, digits: int = 0) -> str:
    """A large number in an equation."""
    return f"{count:,.{digits}f}".replace(",", "{,}")


def street_tex(told: bool) -> dict[str, str]:
    """Parameters of the talk's four; those at work only where that may be `told`."""
    put = {}
    for short, key in zip(("llama", "mixtral", "grok", "v3"), TALK, strict=True):
        f = figures(catalogue.find(key).architecture)
        active = tex(f.active) if told else t("hospitals.most.unknown")
        put |= {f"{short}_total": tex(f.total), f"{short}_active": active}
    return put


def register_tex(row: Row, now: Settings, told: bool) -> dict[str, str | int]:
    """Cache, arithmetic and cards of one. `told`: as for what is published of it."""
    a, f = row.architecture, now.figures(row.architecture)
    waits = _asked(row) and not told
    window = a.sliding_window if a.sliding_window is not None else now.context
    each = a.num_attention_heads * (a.qk_head_dim + a.value_head_dim)  # products for a token that is seen
    work = {
        "multiplied": tex(multiplied(a)),
        "forward": tex(f.forward_flops / GIGA, 1),
        "training": tex(f.training_flops / GIGA, 1),
    }
    return {
        "per_layer": cache_numbers_per_layer(a),
        "layers": a.num_hidden_layers,
        "windowed": a.windowed_layers,
        "context": tex(now.context),
        "near": tex(min(now.context, window)),
        "cache": tex(f.cache_numbers),
        **(dict.fromkeys(work, t("hospitals.most.unknown")) if waits else work),
        "seen": tex(attention_products(a, now.context) / each, 1),
        "heads": a.num_attention_heads,
        "query": a.qk_head_dim,
        "key": a.value_head_dim,
        "weights": tex(f.weight_bytes / GIGA, 1),
        "kept": tex(f.cache_bytes / GIGA, 2),
        "card": tex(now.card.bytes / GIGA),
        "cards": f.cards,
    }


def built_tex(a: Architecture) -> dict[str, str | int]:
    """Weights of all experts of a building, and of those at work."""
    f = figures(a)
    return {
        "moe": a.num_moe_layers,
        "experts": a.n_routed_experts,
        "nurses": a.n_shared_experts,
        "called": a.num_experts_per_tok,
        "hidden": a.hidden_size,
        "size": a.moe_intermediate_size,
        "there": tex(f.experts * expert(a)),
        "awake": tex(f.experts_per_token * expert(a)),
        "cache": tex(f.cache_numbers_per_token),
    }


# -- buildings ---------------------------------------------------------------------------------------------------------


def building(name: str, a: Architecture, told: bool = True) -> scale.Building:
    """One building with what stands below it."""
    f, mixed = figures(a), bool(a.num_moe_layers and a.num_dense_layers)
    shape = {"floors": a.num_hidden_layers, "rooms": rooms(a)}
    desks = {"dense": a.num_dense_layers} if mixed else {}
    lines = [
        t("hospitals.below.mixed" if mixed else "hospitals.below.floors", **shape, **desks),
        t("hospitals.below.total", total=billions(f.total)),
    ]
    working = t("hospitals.below.active", active=billions(f.active), share=percent(f.active / f.total))
    alt = t("hospitals.below.alt", name=name, total=billions(f.total), **shape)
    return scale.building(a, name, [*lines, *([working] if told else [])], sentences(alt, *([working] if told else [])))


def street(told: bool) -> list[scale.Building]:
    """The talk's four."""
    return [building(row.name, row.architecture, told) for row in map(catalogue.find, TALK)]


def most_active() -> int:
    """Which of the talk's four has most weights at work for one token."""
    active = [figures(catalogue.find(key).architecture).active for key in TALK]
    return active.index(max(active))


# -- one's own ---------------------------------------------------------------------------------------------------------


def beside(pairs: Sequence[tuple[str, Architecture]], now: Settings, title: str, note: str = "") -> plates.Plate:
    """A few side by side, a row each, in the register's columns."""
    return plates.table(
        "beside",
        [name for name, _ in pairs],
        _columns(),
        [_cells(a, now.figures(a)) for _, a in pairs],
        title=title,
        **({"note": note} if note else {}),
    )


def taken(seen: Described) -> str:
    """What a pasted file leaves out and the family's own code puts in."""
    if not seen.assumed:
        return t("hospitals.own.complete")
    listed = t("hospitals.comma").join(f"{name} = {_written(content)}" for name, content in seen.assumed.items())
    return t("hospitals.own.assumed", fields=listed)


class Slider(NamedTuple):
    """A size of the visitor's own building."""

    options: tuple[int, ...]
    of: Callable[[Architecture], int]  # V3's own


SLIDERS = {  # options: what a slider offers
    "experts": Slider(tuple(2**power for power in range(2, 10)), lambda a: a.n_routed_experts),
    "size": Slider(tuple(2**power for power in range(7, 17)), lambda a: a.moe_intermediate_size),
    "chosen": Slider(tuple(range(1, 17)), lambda a: a.num_experts_per_tok),
    "nurses": Slider(tuple(range(5)), lambda a: a.n_shared_experts),
    "dense": Slider(tuple(range(62)), lambda a: a.num_dense_layers),
}
ATTENTIONS = ("mla", "mqa", "gqa", "mha")


def own(name: str) -> int:
    """What a slider stands at."""
    slider, asked = SLIDERS[name], state.get(f"own_{name}")
    v3 = catalogue.find(V3).architecture
    return nearest(slider.options, slider.of(v3) if asked is None else asked)


def own_attention() -> str:
    """How the visitor's own building remembers."""
    asked = state.get("own_attention")
    return next((kind for kind in ATTENTIONS if kind == asked), ATTENTIONS[0])


def sliders(
    several: Mapping[str, tuple[Sequence[int], int]], width: str
) -> tuple[list[plates.Plate], dict[str, int], Callable[[dict[str, int]], None]]:
    """For settings that are numbers out of a list, (its options, where it stands) each: their steppers, where these
    stand, and what a pick sets."""
    made = [
        plates.stepper(
            plates.axis(name, len(options), [f"{option:,}" for option in options]),
            title=t(f"hospitals.control.{name}"),
            width=width,
        )
        for name, (options, _) in several.items()
    ]
    here = {name: options.index(now) for name, (options, now) in several.items()}

    def pick(picked: dict[str, int]) -> None:
        for name, at in picked.items():
            options, _ = several[name]
            if at != here[name] and at < len(options):
                state.put(name, options[at])

    return made, here, pick


def built() -> Architecture:
    """V3 with the visitor's sizes. More cannot be called than there are."""
    experts, size, nurses = own("experts"), own("size"), own("nurses")
    return remembering(
        catalogue.find(V3).architecture.with_(
            n_routed_experts=experts,
            moe_intermediate_size=size,
            num_experts_per_tok=min(own("chosen"), experts),
            n_shared_experts=nurses,
            shared_intermediate_size=nurses * size,
            mlp_only_layers=tuple(range(own("dense"))),
        ),
        own_attention(),
    )
