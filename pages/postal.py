"""The postal code: what is kept of every token, how it is made, read, and cut shorter."""

from pages.kit.shell import require_shell

require_shell()

from pages.kit import chapter, plates, service, state  # noqa: E402
from pages.kit.chapter import number, percent  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.figures import common, postal  # noqa: E402
from pages.kit.words import t  # noqa: E402

MODEL, LOOKUP = "model/deepseek_v3.py", "model/lookup.py"
ATTENTION = "MultiHeadLatentAttention"

visit = chapter.begin("postal", floors="all")
trace, c = visit.trace, visit.trace.config
head = min(state.get("head") or 0, c.num_attention_heads - 1)
picked = {"token": visit.token, "floor": visit.floor, "head": head}
here = {"token": visit.name(), "floor": visit.floor}

# -- an address, and its code

sizes = postal.sizes(c)
chapter.explain(
    "postal.code",
    code=[source(MODEL, f"{ATTENTION}.latent"), source("model/costs.py", "full_cache_numbers_per_token")],
    tex={
        "heads": c.num_attention_heads,
        "keys": c.qk_nope_head_dim,
        "values": c.v_head_dim,
        "full": sizes.full,
        "latent": sizes.latent,
        "rope": sizes.rope,
        "code": sizes.code,
    },
    **here,
    full=f"{sizes.full:,}",
    heads=c.num_attention_heads,
    latent=sizes.latent,
    rope=sizes.rope,
    ratio=number(sizes.full / sizes.code, 1),
)
plates.mount("postal.code", [postal.to_scale(c), postal.code(visit)], picked)

# -- made, and opened again

made = postal.made(visit)
seen = float(made.seen[visit.layer, visit.token])
chapter.explain(
    "postal.made",
    code=[
        source(MODEL, f"{ATTENTION}.up_projections"),
        source(LOOKUP, "seen_share"),
        source(LOOKUP, "_windows"),
        source(LOOKUP, "close_address"),
    ],
    tex={
        "latent": c.kv_lora_rank,
        "hidden": c.hidden_size,
        "seen": seen,
        "chance": made.chance,
        "gap": postal.tex_tiny(made.reopened),
    },
    **here,
    hidden=c.hidden_size,
    latent=c.kv_lora_rank,
    full=f"{sizes.full:,}",
    seen=percent(seen),
    chance=percent(made.chance),
    gap=postal.tiny(made.reopened),
)
plates.mount("postal.made", [postal.seen(visit, made), *postal.address(visit)], picked)

# -- a lookup, both ways

found = postal.find(visit, head)
chapter.explain(
    "postal.lookup",
    code=[source(MODEL, f"{ATTENTION}.absorbed"), source(LOOKUP, "absorbed"), source(LOOKUP, "plain")],
    tex={
        "best": chapter.tex_text(visit.name(found.best)),
        "score": found.score,
        "weight": found.most,
        "gap": postal.tex_tiny(float(found.gap.answers)),
    },
    **here,
    head=head,
    count=visit.token + 1,
    blend=postal.blend(visit, found),
    best=visit.name(found.best),
    score=number(found.score),
    gap=postal.tiny(float(found.gap.answers)),
)
plates.mount(
    "postal.lookup",
    [plates.stepper(plates.heads(c), title=t("postal.lookup.head")), *postal.paths(visit, found)],
    picked,
)

# -- the nearest, or the largest product?

near = postal.nearest(visit, head)
chapter.explain(
    "postal.near",
    code=[source(LOOKUP, "as_points"), source(LOOKUP, "picks")],
    tex={
        "best": chapter.tex_text(visit.name(near.largest)),
        "query": float(near.query.norm()),
        "key": float(near.keys[near.largest].norm()),
        "product": float(near.query @ near.keys[near.largest]),
        "distance": float(near.picks.distances[head, near.largest]),
    },
    head=head,
    best=visit.name(near.largest),
    product=number(float(near.query @ near.keys[near.largest])),
    distance=number(float(near.picks.distances[head, near.largest])),
)
guessed = chapter.predict(
    visit,
    "postal.agree",
    [t("postal.agree.range", low=low, high=high) for low, high in near.thirds],
    right=near.right,
    **here,
    heads=near.heads,
    agree=near.agree,
)
if guessed:
    plates.mount("postal.near", [*postal.distances(visit, found, near), postal.all_heads(visit, found, near)], picked)

# -- touch it: a shorter code

now = postal.cut(visit, state.get("rank"))
study = service.study()
chapter.explain(
    "postal.shorten",
    code=[
        source("model/engine.py", "_Layer.latent_directions"),
        source("model/engine.py", "Engine._attend", start="do.latent_rank is not None", end="c_kv @ kept.t()"),
    ],
    tex={"rank": now.rank, "whole": now.whole},
    whole=now.whole,
    floors=c.num_hidden_layers,
    happened=postal.happened(visit, now),
)
plates.mount(
    "postal.shorten",
    [
        plates.stepper(postal.rank_axis(c), title=t("postal.shorten.slider")),
        common.next_tokens(
            visit,
            now.changed,
            trace if now.touched else None,
            width="half" if study else "full",
            title=t("postal.shorten.next", rank=now.rank),
        ),
        *([postal.held_out(visit, now, study.latent_rank)] if study else []),
        postal.answers(visit, now),
    ],
    {**picked, "rank": now.rank},
)

# -- the meter

meter = postal.meter(visit)
held, plain = meter.measured[visit.token], meter.others("multi_head")[visit.token]
chapter.explain(
    "postal.meter",
    code=[source("model/costs.py", "cache_plans"), source("model/costs.py", "grouped_cache_numbers_per_token")],
    tex={
        "heads": c.num_attention_heads,
        "keys": c.qk_nope_head_dim,
        "values": c.v_head_dim,
        "floors": c.num_hidden_layers,
        "groups": meter.plans.groups,
        "latent": sizes.latent,
        "rope": sizes.rope,
        "mha": meter.plans.multi_head,
        "gqa": meter.plans.grouped,
        "mqa": meter.plans.multi_query,
        "mla": meter.plans.latent,
    },
    **here,
    count=visit.token + 1,
    each=f"{meter.plans.latent * meter.size:,}",
    floors=c.num_hidden_layers,
    kept=sizes.code,
    size=meter.size,
    held=f"{held:,}",
    plain=f"{plain:,}",
)
plates.mount("postal.meter", [postal.drawer(visit, meter, now), postal.v3(meter.plans)], picked)

# -- why position travels apart

error = postal.turned(visit, head)
back = float(error[min(1, len(error) - 1)])  # one token back, where there is one
chapter.explain(
    "postal.turn",
    code=[source(MODEL, "rotate"), source(LOOKUP, "absorption_error")],
    tex={"back": back},
    rope=c.qk_rope_head_dim,
    heads=c.num_attention_heads,
    back=percent(back),
)
plates.mount("postal.turn", [postal.turning(visit, head, error)], picked)

chapter.end(visit, "singapore", "found", "number", "distance", "speed", "credit")
