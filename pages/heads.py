"""Heads: all of a floor's attention heads, each reading the whole sentence; one taken apart, and switched off."""

from pages.kit.shell import require_shell

require_shell()

import streamlit as st  # noqa: E402

from model import Interventions  # noqa: E402
from model.deepseek_v3 import attention_scale  # noqa: E402
from pages.kit import chapter, plates, state  # noqa: E402
from pages.kit.chapter import percent  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.controls import control  # noqa: E402
from pages.kit.figures import common, heads  # noqa: E402
from pages.kit.words import t  # noqa: E402

MODEL, ENGINE, TRACE = "model/deepseek_v3.py", "model/engine.py", "model/trace.py"

visit = chapter.begin("heads", floors="all")
trace, c = visit.trace, visit.trace.config
head = min(state.get("head") or 0, c.num_attention_heads - 1)
picked = {"token": visit.token, "floor": visit.floor, "head": head}
size = c.qk_head_dim

# -- all heads

chapter.explain(
    "heads.all",
    code=[source(MODEL, "MultiHeadLatentAttention.query_matrix"), source(TRACE, "attention_weights")],
    tex={
        "heads": c.num_attention_heads,
        "size": size,
        "rows": c.num_attention_heads * size,
        "columns": c.q_lora_rank or c.hidden_size,
        "t": visit.token,
    },
    token=visit.name(),
    floor=visit.floor,
    heads=c.num_attention_heads,
    size=size,
)
found = heads.most(visit)
guessed = len(found.options) == 1 or chapter.predict(
    visit,
    "heads.most",
    [
        t(f"heads.most.{place}", name=visit.name(position))
        for place, position in zip(found.places, found.options, strict=True)
    ],
    found.right,
    token=visit.name(),
    floor=visit.floor,
    heads=c.num_attention_heads,
    read=visit.name(found.options[found.right]),
    share=percent(found.share),
)
plates.mount(
    "heads.all",
    [
        heads.patterns(visit, head, hidden=not guessed),
        *([heads.reads(visit, found), heads.habit(visit, head)] if guessed else []),
    ],
    picked,
)

# -- one head

row = heads.scores(visit, head)
best, powers = row.read, row.total.double().exp()
chapter.explain(
    "heads.one",
    code=[
        source(MODEL, "MultiHeadLatentAttention.forward_plain", start="scores = torch.einsum", end="weights = (scores"),
        source(TRACE, "Trace.attention_scores"),
    ],
    tex={
        "scale": attention_scale(c),
        "t": visit.token,
        "s": best,
        "content": float(row.content[best]),
        "position": float(row.position[best]),
        "total": float(row.total[best]),
        "sum": chapter.equals_tex((float(row.content[best]), float(row.position[best])), float(row.total[best])),
        "power": float(powers[best]),
        "powers": float(powers.sum()),
        "weight": float(row.weights[best]),
    },
    token=visit.name(),
    floor=visit.floor,
    head=head,
    read=visit.name(best),
    weight=percent(float(row.weights[best])),
)
choose_head = plates.stepper(plates.heads(c), title=t("heads.choose"))
plates.mount("heads.one", [choose_head, *heads.split(visit, head, row)], picked)

# -- a head switched off

chapter.explain(
    "heads.off",
    code=[
        source(ENGINE, "Engine._attend", start="weights = attention_weights", end="return torch.addmm(x, blended"),
    ],
    tex={"head": head, "floor": visit.floor},
    token=visit.name(),
    floor=visit.floor,
    head=head,
)
off = state.get("change") == "silence_heads"
control(
    st.toggle, "change", off, t("heads.off.switch", head=head, floor=visit.floor),
    key="heads.switch", read={True: "silence_heads"}.get,
)  # fmt: skip
if off:
    both = [one for one in (head, heads.lot(visit, head)) if one is not None]
    changes = [Interventions(silence_heads=frozenset({(visit.layer, one)})) for one in both]
    several = list(zip(both, visit.changed_each(changes), strict=True))
    titles = ("heads.off.this", "heads.off.lot")
    shown = [
        *(
            heads.without(visit, one, changed, title.replace(".", "_"), t(title, head=one))
            for (one, changed), title in zip(several, titles, strict=False)
        ),
        heads.drift(visit, several),
    ]
else:
    shown = [common.next_tokens(visit, trace, title=t("heads.off.none"))]
plates.mount("heads.off", [choose_head, *shown], picked)

# -- pieces are not heads

chapter.explain(
    "heads.cut",
    code=[source("model/tokenizer.py", "Tokenizer.encode"), source(MODEL, "MultiHeadLatentAttention.query_matrix")],
    tex={"tokens": len(visit.pieces), "heads": c.num_attention_heads},
    tokens=len(visit.pieces),
    heads=c.num_attention_heads,
)
plates.mount(
    "heads.cut", [heads.counts(visit), plates.tokens(visit.chips, title=t("heads.cut.pieces"))], {"token": visit.token}
)

chapter.end(visit, "cut", "nearest", "match")
