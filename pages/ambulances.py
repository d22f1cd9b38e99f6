"""Ambulances: what crosses between buildings when a floor's interns do not live under one roof, and what that costs."""

from pages.kit.shell import require_shell

require_shell()

import streamlit as st  # noqa: E402

from model import UserError, crossings  # noqa: E402
from model.labs import ambulances as lab  # noqa: E402
from pages.kit import chapter, fleet, plates, service, shell, state  # noqa: E402
from pages.kit.chapter import number  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.controls import control  # noqa: E402
from pages.kit.figures import ambulances  # noqa: E402
from pages.kit.words import t  # noqa: E402

COUNT, RUN = "model/crossings.py", "model/parallel.py"
V3, GIGA, MILLI, MICRO = ambulances.V3, ambulances.GIGA, ambulances.MILLI, ambulances.MICRO

visit = chapter.begin("ambulances", floors="departments")
trace, c, picked = visit.trace, visit.trace.config, {"token": visit.token, "floor": visit.floor}
k, rooms, home = c.num_experts_per_tok, c.n_routed_experts, ambulances.HOME + 1
offered = ambulances.offered(c)
buildings = state.get("buildings") if state.get("buildings") in offered else min(c.n_group, offered[-1])
guessed = chapter.guessed(visit, "ambulances.far", every_token=False, every_floor=False)

# -- who drives where

rule = bool(state.get("rule")) or not guessed
drives = ambulances.Drives(visit, buildings, rule)
mine = int(drives.crossed[visit.department, visit.token])
seen = int((drives.called[visit.department, visit.token] > 0).sum())
chapter.explain(
    "ambulances.drive",
    code=[source(COUNT, "building_of"), source(COUNT, "calls"), source(COUNT, "crossings")],
    tex={"buildings": buildings, "experts": rooms, "mine": mine, "floor": visit.floor, "here": drives.here,
         "all": f"{drives.all:,}"},
    rooms=rooms, buildings=buildings, home=home, floor=visit.floor, token=visit.name(), visited=seen, mine=mine,
    here=drives.here, all=f"{drives.all:,}",
)  # fmt: skip
with st.container(horizontal=True, gap="medium", key="ambulances.controls"):
    control(
        st.segmented_control, "buildings", buildings, t("ambulances.buildings.label"), offered,
        key="ambulances.buildings", required=True,
    )  # fmt: skip
    if guessed:
        kept = t("ambulances.rule_switch.on", kept=c.topk_group, groups=c.n_group)
        control(
            st.segmented_control, "rule", int(rule), t("ambulances.rule_switch.label"),
            {1: kept, 0: t("ambulances.rule_switch.off")}, key="ambulances.rule", required=True,
        )  # fmt: skip
plates.mount("ambulances.drive", [ambulances.visits(drives), ambulances.facts(drives, len(trace.ids))], picked)

# -- the rule

by_corridor = [ambulances.Drives(visit, c.n_group, kept) for kept in (True, False)]
values = {"kept": c.topk_group, "corridors": c.n_group, "middle": (c.topk_group + c.n_group) // 2}
chapter.predict(
    visit,
    "ambulances.far",
    [t(f"ambulances.far.{name}", **values) for name in ("same", "some", "many")],
    right=ambulances.answer(by_corridor[1]),
    every_token=False,
    every_floor=False,
    free=number(by_corridor[1].visited, digits=2),
    ruled=number(by_corridor[0].visited, digits=2),
    even=number(ambulances.even(c, c.n_group), digits=2),
    **values,
)
if guessed:
    ruled, free = (ambulances.Drives(visit, buildings, kept) for kept in (True, False))
    means = {"ruled": number(ruled.visited, digits=2), "free": number(free.visited, digits=2)}
    chapter.explain(
        "ambulances.rule",
        code=[source(COUNT, "without_limit"), source("model/deepseek_v3.py", "choose")],
        tex={"k": k, "kept": c.topk_group, "groups": c.n_group, "experts": rooms, "buildings": buildings,
             "ruled": ruled.visited, "free": free.visited, "even": ambulances.even(c, buildings)},
        rooms=rooms, crossings=f"{ruled.all:,}", crossings_free=f"{free.all:,}", **means,
    )  # fmt: skip
    plates.mount("ambulances.rule", [ambulances.spread(ruled, free), ambulances.by_floor(ruled, free)], picked)
else:
    st.caption(t("ambulances.rule.hidden"))

# -- what they carry, and how that is hidden

freight = crossings.v3_freight(V3)
load = ambulances.load(drives, freight)
formats = {"fp8": crossings.FP8_BYTES, "bf16": crossings.BF16_BYTES, "fp32": crossings.FP32_BYTES}
chapter.explain(
    "ambulances.freight",
    code=[source(COUNT, "v3_freight"), source(COUNT, "live_freight")],
    tex={**formats, "hidden": V3.hidden_size, "tile": crossings.TILE, "there": freight.dispatch,
         "back": freight.combine, "crossings": f"{drives.all:,}", "bytes": f"{load.all:,}",
         "speed": f"{crossings.INFINIBAND / GIGA:.0f}", "ms": load.seconds / MILLI},
    there=ambulances.size(freight.dispatch), back=ambulances.size(freight.combine), bytes=ambulances.size(load.all),
    time=ambulances.span(load.seconds), tile=crossings.TILE, hidden=f"{V3.hidden_size:,}",
)  # fmt: skip
plates.mount("ambulances.freight", [ambulances.freight(drives)], {})
free_of_cost = crossings.experts_for_free()
chapter.explain(
    "ambulances.overlap",
    code=[source(COUNT, "experts_for_free"), source(COUNT, "exchange_seconds"), source(COUNT, "token_seconds")],
    tex={**formats, "nvlink": f"{crossings.NVLINK / GIGA:.0f}", "infiniband": f"{crossings.INFINIBAND / GIGA:.0f}",
         "free": f"{free_of_cost:.1f}", "kept": V3.topk_group, "most": round(V3.topk_group * free_of_cost),
         "tokens": crossings.ISCA_TOKENS, "nine": crossings.ISCA_EXPERTS, "isca": f"{crossings.ISCA_HIDDEN:,}",
         "pair": f"{crossings.exchange_seconds() / MICRO:.2f}", "layers": crossings.ISCA_LAYERS,
         "token": f"{crossings.token_seconds() / MILLI:.2f}"},
    sms=crossings.SMS, set_aside=crossings.SMS_FOR_SENDING, free=number(free_of_cost, digits=1),
    party=number(drives.party, digits=2),
)  # fmt: skip
plates.mount("ambulances.overlap", [ambulances.overlap(), ambulances.limits()], {})

# -- for real

processes = state.get("processes")
company = lab.company(visit.house.tokenizer.encode, state.get("seed"), ambulances.MORE, ambulances.LONGEST)
sentences = [list(trace.ids), *company]
live = crossings.live_freight(c)
chapter.explain(
    "ambulances.real",
    code=[source(RUN, "ParallelMoE.__call__"), source(RUN, "ParallelMoE.consult"), source(RUN, "add_up")],
    tex={"width": c.hidden_size, "k": k, "fp32": crossings.FP32_BYTES, "there": live.dispatch, "back": live.combine},
    processes=processes, more=len(company),
)  # fmt: skip


def draw(trip: fleet.Trip) -> None:
    """The passes of a run so far; what it found, when it is done."""
    found = ambulances.live(trip.outcome, trip) if trip.outcome is not None else []
    if trip.passes or found:
        name = "live" if found else "trip"
        plates.mount(f"ambulances.{name}", [*([ambulances.passes(trip)] if trip.passes else []), *found], {})


fleet.panel(sentences, processes, service.checkpoint(), c, draw)
st.caption(t("ambulances.live.shared"))

# -- recorded

try:
    found = ambulances.recorded()
except UserError as error:
    shell.complain(error)
else:
    run = {"cores": found.file["machine"]["cores"], "seeds": len(found.file["runs"])}
    chapter.explain("ambulances.recorded", code=[source("model/labs/ambulances.py", "Tally.add"),
                                                 source("model/labs/ambulances.py", "timed")], **run)  # fmt: skip
    pictures = [ambulances.held_out(found, buildings)] if guessed else []
    plates.mount("ambulances.recorded", [*pictures, ambulances.times(found)], {})

chapter.end(visit, "slow", "home", "house")
