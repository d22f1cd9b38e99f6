"""The triage desk: the dense floors, where all weights work for everybody and nobody is sent anywhere."""

from pages.kit.shell import require_shell

require_shell()

import streamlit as st  # noqa: E402

from model import Interventions, costs  # noqa: E402
from pages.kit import chapter, plates, state  # noqa: E402
from pages.kit.chapter import number, percent  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.controls import control  # noqa: E402
from pages.kit.figures import common, triage  # noqa: E402
from pages.kit.words import t  # noqa: E402

MODEL, ENGINE = "model/deepseek_v3.py", "model/engine.py"

visit = chapter.begin("triage", floors="desk")
trace, picked = visit.trace, {"token": visit.token, "floor": visit.floor}
parts = triage.parts(visit)
told = chapter.guessed(visit, "triage.larger")  # until then nothing says how long what each side added is
attention, ffn = (number(part) if told else t("triage.larger.unknown") for part in (parts.attention, parts.ffn))

chapter.explain(
    "triage.desk",
    code=[source(MODEL, "DecoderLayer.forward"), source(MODEL, "DenseFFN.forward")],
    tex={
        "floor": visit.floor,
        "before": parts.before,
        "attention": attention,
        "ffn": ffn,
        "after": parts.after,
    },
    desk=triage.floors(trace.config),
    token=visit.name(),
    floor=visit.floor,
    attention=attention,
    ffn=ffn,
)
chapter.predict(
    visit,
    "triage.larger",
    [t("triage.larger.attention"), t("triage.larger.ffn")],
    right=int(parts.ffn > parts.attention),
    token=visit.name(),
    floor=visit.floor,
    attention=number(parts.attention),
    ffn=number(parts.ffn),
)
plates.mount(
    "triage.desk",
    [
        *([triage.lengths(visit)] if told else []),
        triage.states(visit, told),
        triage.turns(visit),
    ],
    picked,
)

c = trace.config
share = costs.floor_shares(c)
chapter.explain(
    "triage.everybody",
    code=[source(MODEL, "MoE.forward"), source("model/costs.py", "floor_shares")],
    tex={
        "dense": share.dense_used,
        "used": share.moe_used,
        "all": share.moe_all,
        "share": share.moe_used / share.moe_all,
    },
    dense=percent(1.0, 0),
    share=percent(share.moe_used / share.moe_all),
    floor=c.first_k_dense_replace + 1,
    called=c.num_experts_per_tok,
    rooms=c.n_routed_experts,
)
plates.mount("triage.everybody", [triage.used(c)], picked)

chapter.explain(
    "triage.touch",
    code=[source(ENGINE, "Engine._attend", start="weights = attention_weights", end="return torch.addmm(x, blended")],
    tex={"floor": visit.floor},
    floor=visit.floor,
    token=visit.name(),
)
closed = state.get("change") == "close_records"
control(
    st.toggle, "change", closed, t("triage.touch.switch", floor=visit.floor),
    key="triage.closed", read={True: "close_records"}.get,
)  # fmt: skip
if closed:
    deaf = frozenset((visit.layer, head) for head in range(c.num_attention_heads))
    changed = visit.changed(Interventions(silence_heads=deaf))
    moved = common.answers(visit, changed)
    chapter.say(
        "triage.touch.now",
        token=visit.name(),
        before=moved.before,
        after=moved.after,
        was=percent(moved.was),
        now=percent(moved.now),
    )
    plates.mount(
        "triage.touch",
        [
            common.next_tokens(visit, changed, trace, width="half", title=t("triage.touch.next")),
            triage.drift(visit, changed),
        ],
        picked,
    )

chapter.end(visit, "sends", "mlp")
