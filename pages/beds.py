"""Beds: everybody who does not work still has a room. What that costs, and what could be saved."""

from pages.kit.shell import require_shell

require_shell()

from collections.abc import Sequence  # noqa: E402
from functools import partial  # noqa: E402
from typing import Any  # noqa: E402

import streamlit as st  # noqa: E402

from model import storage  # noqa: E402
from model.architectures import active, total  # noqa: E402
from model.catalogue import find  # noqa: E402
from model.labs import rounding as lab  # noqa: E402
from pages.kit import chapter, live, plates, state  # noqa: E402
from pages.kit.chapter import number, percent  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.controls import control, named  # noqa: E402
from pages.kit.figures import beds, queues, rounding  # noqa: E402
from pages.kit.words import t  # noqa: E402

STORAGE, TRACE, LAB = "model/storage.py", "model/trace.py", "model/labs/rounding.py"

visit = chapter.begin("beds", floors="departments")
trace, c = visit.trace, visit.trace.config
tokens, picked = len(trace.ids), {"token": visit.token, "floor": visit.floor}
runs, v3 = beds.recorded(), find(beds.V3).architecture

rooms = beds.rooms(visit)
chapter.explain(
    "beds.empty",
    code=[source(TRACE, "Trace.experts_touched_per_layer"), source(TRACE, "Trace.woken")],
    tex={"floors": c.num_moe_layers, "rooms": c.n_routed_experts, "all": f"{rooms.all:,}", "k": c.num_experts_per_tok,
         "token": rooms.token, "woken": f"{rooms.sentence:,}", "empty": f"{rooms.empty:,}"},
    token=visit.name(), calls=f"{rooms.token:,}", all=f"{rooms.all:,}", tokens=tokens, empty=f"{rooms.empty:,}",
    share=percent(rooms.empty / rooms.all), k=c.num_experts_per_tok, floors=c.num_moe_layers,
)  # fmt: skip
plates.mount("beds.empty", [beds.counts(rooms, tokens), beds.house(visit, rooms)], picked)

held = beds.bytes_of(visit)
file = storage.published_checkpoint(v3)
chapter.explain(
    "beds.bytes",
    code=[source(STORAGE, "used"), source(STORAGE, "published_checkpoint")],
    tex={"total": f"{total(v3):,}", "active": f"{active(v3):,}", "part": active(v3) / total(v3), "fp8": f"{file.fp8:,}",
         "bf16": f"{file.bf16:,}", "fp32": f"{file.fp32:,}", "bytes": f"{file.bytes:,}"},
    token=visit.name(), held=number(beds.total(held.held) / beds.MB, digits=1),
    used=number(beds.total(held.token) / beds.MB, digits=1),
    sentence=number(beds.total(held.sentence) / beds.MB, digits=1),
    v3=number(file.bytes / beds.GB, digits=1), part=percent(active(v3) / total(v3)),
)  # fmt: skip
plates.mount("beds.bytes", [beds.parts(visit, held)], {"token": visit.token})

calls, fresh = rooms.token, int(beds.fetched(visit, c.n_routed_experts)[visit.token])
guessed = chapter.predict(
    visit,
    "beds.fetch",
    [t(f"beds.fetch.{name}") for name in beds.QUARTERS],
    right=beds.quarter(fresh / calls),
    every_floor=False,
    token=visit.name(),
    calls=calls,
    fresh=fresh,
    place=visit.token,
)
found = beds.store(visit, beds.kept(c))
if guessed:
    chapter.explain(
        "beds.growth",
        code=[source("model/labs/beds.py", "first_called"), source("model/labs/beds.py", "woken")],
        tex={"all": f"{rooms.all:,}", "k": c.num_experts_per_tok, "rooms": c.n_routed_experts, "tokens": tokens,
             "woken": f"{rooms.sentence:,}", "share": rooms.sentence / rooms.all},
        token=visit.name(), tokens=tokens, calls=calls, fresh=fresh, share=percent(rooms.sentence / rooms.all),
    )  # fmt: skip
    plates.mount("beds.growth", [beds.growth(visit, runs), *([beds.long_run(c, runs)] if runs else [])], picked)

    haul = beds.haul(found)
    slowest = min(storage.LINKS, key=lambda link: link.bytes_per_second)
    chapter.explain(
        "beds.store",
        code=[source(STORAGE, "Shelf.read"), source(STORAGE, "hit_rates")],
        tex={"kept": found.kept, "rate": found.rate, "calls": haul.calls, "loads": haul.loads,
             "bytes": f"{haul.expert:,}", "speed": f"{slowest.bytes_per_second / beds.GB:.0f}",
             "seconds": haul.loads * haul.expert / slowest.bytes_per_second,
             **{word: t(f"beds.store.{word}") for word in ("hand", "others", "hits")}},
        kept=found.kept, rooms=c.n_routed_experts, rate=percent(found.rate), calls=calls,
        mean=number(found.mean, digits=1),
    )  # fmt: skip
    plates.mount(
        "beds.store",
        [
            plates.stepper(beds.kept_axis(c), title=t("beds.store.kept")), beds.at_hand(visit, found),
            beds.loads(visit, found), beds.rates(visit, found, runs), beds.roads(found),
        ],
        {**picked, "kept": found.kept},
    )  # fmt: skip
else:
    st.caption(t("beds.fetch.first"))

bits, what = state.get("bits"), state.get("coarse")
form = storage.FORMATS[bits]
chapter.explain(
    "beds.fewer",
    code=[source(STORAGE, "Format.round"), source(STORAGE, "round_layer"), source("model/checkpoint.py", "quantise")],
    tex={"bits": form.bits, "most": 2 ** (form.bits - 1) - 1, "group": storage.GROUP, "bytes": form.bytes_per_weight},
    token=visit.name(), floor=visit.floor, group=storage.GROUP,
)  # fmt: skip
for name, value, options in (("bits", bits, state.BITS), ("coarse", what, state.COARSE)):
    control(
        st.segmented_control, name, value, t(f"beds.{name}.label"), options, format_func=named(f"beds.{name}"),
        key=f"beds.{name}", required=True,
    )  # fmt: skip
with st.spinner(t("beds.fewer.working"), show_time=True):
    rounded = beds.coarse(visit, bits, what)
out = beds.outcome(visit, rounded, bits)
chapter.say(
    f"beds.fewer.{'same' if out.before == out.after else 'other'}",
    token=visit.name(), before=out.before, after=out.after, was=percent(out.was), now=percent(out.now),
    error=percent(rounded.error.relative, digits=2), bits=t(f"beds.bits.{bits}"),
)  # fmt: skip
plates.mount(
    "beds.fewer",
    [beds.coarse_facts(rounded, out, calls), beds.next_tokens(visit, rounded), *([beds.ladder(runs)] if runs else [])],
    {"token": visit.token},
)
if not runs:
    st.caption(t("beds.fewer.none"))

# -- trained here and now: how coarse may the beds be while it learns?

experiment, small = lab.EXPERIMENT, lab.CONFIG
trial = rounding.wanted(experiment.live)


def draw(points: Sequence[dict[str, Any]]) -> None:
    """The run so far."""
    if points:
        plates.mount("beds.live", rounding.pictures([points], "live"), {})


if file := live.record(experiment):
    before = [run["points"] for run in file["runs"]]
    worst, after, rest = rounding.last(before)
    chapter.explain(
        "beds.trained",
        code=[source(LAB, "run"), source(LAB, "measure"), source(LAB, "rounded"), source(STORAGE, "round_layer"),
              source("model/train.py", "take_step")],
        tex={"kind": rounding.name(worst), "step": f"{before[0][-1]['step']:,}", "seeds": len(before),
             "rounded": chapter.tex_number(after, rounding.DIGITS), "plain": chapter.tex_number(rest, rounding.DIGITS),
             "cost": chapter.equals_tex((after, -rest), after - rest, rounding.DIGITS)},
        floors=small.num_moe_layers, rooms=small.n_routed_experts, k=small.num_experts_per_tok,
        steps=f"{experiment.recorded.steps:,}", seeds=len(before), now=f"{trial.steps:,}",
    )  # fmt: skip
    for sentence in rounding.verdict(before):
        st.markdown(sentence)
    plates.mount("beds.trained", [*rounding.pictures(before, "trained"), rounding.ladder(before)], {})
    st.caption(t("beds.trained.note"))
    st.caption(t("beds.trained.recorded", command=file["command"], commit=file["commit"], seeds=len(before)))
if not state.hidden("training"):
    control(
        st.select_slider, "lessons", trial.steps, t("beds.trained.steps"), lab.STEPS, key="beds.lessons",
        read=partial(queues.whole, 1),
    )  # fmt: skip
live.panel(experiment, trial, draw)

chapter.end(visit, "room", "cheap", "poor")
