"""Hospitals compared: four buildings at one scale, the register of all that are published, one's own."""

from pages.kit.shell import require_shell

require_shell()

import json  # noqa: E402

import streamlit as st  # noqa: E402

from model import UserError, catalogue, config_json  # noqa: E402
from model.architectures import PRECISIONS  # noqa: E402
from pages.kit import chapter, plates, scale, shell, state  # noqa: E402
from pages.kit.chapter import number, percent  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.controls import controls_of, joined  # noqa: E402
from pages.kit.figures import hospitals  # noqa: E402
from pages.kit.words import t  # noqa: E402

COSTS, READER, CATALOGUE = "model/architectures.py", "model/config_json.py", "model/catalogue.py"
KIBI = 1024  # the limit is a whole number of these; in kB that is a little less than what is taken

visit = chapter.enter("hospitals")
now = hospitals.settings()
talk = {key: catalogue.find(key) for key in hospitals.TALK}
dense, mixtral, grok, v3 = (row.architecture for row in talk.values())
made = {row.name: now.figures(row.architecture) for row in talk.values()}
most, biggest = list(made.items())[hospitals.most_active()], now.figures(v3)

# -- buildings to scale

chapter.explain(
    "hospitals.scale",
    code=[source(COSTS, "parts"), source(COSTS, "total"), source(COSTS, "active")],
    tex=hospitals.street_tex(chapter.guessed(visit, "hospitals.most")),
    llama=talk[hospitals.TALK[0]].name,
    doctors=dense.num_hidden_layers,
    eight=mixtral.n_routed_experts,
    called=mixtral.num_experts_per_tok,
    mixtral=mixtral.num_hidden_layers,
    grok=grok.num_hidden_layers,
    departments=v3.num_moe_layers,
    rooms=v3.n_routed_experts + v3.n_shared_experts,
    awake=v3.num_experts_per_tok + v3.n_shared_experts,
)
told = chapter.predict(
    visit,
    "hospitals.most",
    list(made),
    right=hospitals.most_active(),
    most=most[0],
    active=hospitals.billions(most[1].active),
    share=percent(most[1].active / most[1].total),
    total=hospitals.billions(biggest.total),
    working=hospitals.billions(biggest.active),
    part=percent(biggest.active / biggest.total),
)
scale.mount("street", hospitals.street(told), t("hospitals.street.note" if told else "hospitals.street.dark"), told)

# -- the register

row = hospitals.chosen()
names = {one.key: one.name for one in catalogue.rows()}
chapter.explain(
    "hospitals.register",
    code=[source(COSTS, "figures"), source(COSTS, "cache_numbers"), source(COSTS, "attention_products"),
          source(COSTS, "tokens_seen"), source(COSTS, "forward_flops"), source(COSTS, "weight_bytes")],  # fmt: skip
    tex=hospitals.register_tex(row, now, told),
    count=len(names),
    name=row.name,
)
control, once = controls_of("hospitals"), {"required": True}
control(st.pills, "compare", hospitals.keys(), names, selection_mode="multi", read=joined)
left, right = st.columns(2, gap="large")
with left:
    measures = {name: t(f"hospitals.column.{name}") for name in hospitals.MEASURES}
    control(st.selectbox, "measure", hospitals.measure(), measures)
    plates.mount("hospitals.context", *hospitals.sliders({"context": (hospitals.CONTEXTS, now.context)}, "full"))
with right:
    sizes = {int(card.bytes // hospitals.GIGA): card.name for card in catalogue.cards()}
    formats = {name: t(f"hospitals.precision.{name}") for name in PRECISIONS}
    control(st.pills, "precision", now.precision, formats, **once)
    control(st.pills, "card", int(now.card.bytes // hospitals.GIGA), sizes, wrap=True, **once)
plates.mount(
    "hospitals.register",
    hospitals.register(now, told),
    {"hospital": hospitals.index_of(row.key)},
    on_pick=hospitals.pick,
)
chapter.explain("hospitals.where", code=[source(CATALOGUE, "Row"), source(CATALOGUE, "computed")], name=row.name)
plates.mount("hospitals.where", [hospitals.published(row, told), hospitals.values(row), hospitals.hidden()], {})

# -- one's own config.json

chapter.explain(
    "hospitals.own",
    code=[source(READER, "_Fields.count"), source(READER, "describe"), source(READER, "_deepseek_v3")],
    families=t("hospitals.comma").join(config_json.FAMILIES),
    limit=config_json.MOST_BYTES // KIBI,
)
st.button(
    t("hospitals.own.example", name=row.name), icon=":material/content_paste:",
    on_click=state.show, args=("hospitals.text", json.dumps(dict(row.config), indent=1)),
)  # fmt: skip
typed = st.text_area(
    t("hospitals.own.paste"),
    key="hospitals.text",
    height=180,
    max_chars=4 * config_json.MOST_BYTES,  # more than can be read, so that what is too long is told so
    placeholder='{"model_type": …}',
)
drop = '[data-testid="stFileUploaderDropzone'  # what the uploader itself says is English, and of another limit
too_large = t("hospitals.own.too_large", limit=config_json.MOST_BYTES // KIBI)  # it shows that to a pointer alone
st.html(
    f'<style>{drop}Instructions"] {{ display: none; }} {drop}"] button p {{ font-size: 0; }}'
    f'{drop}"] button p::after {{ content: "{t("hospitals.own.choose")}"; font-size: 1rem; }}'
    f'[data-testid="stFileUploader"]:has([aria-invalid="true"])::after {{ content: "{too_large}"; }}</style>'
)
file = st.file_uploader(t("hospitals.own.upload"), type=["json"], key="hospitals.file")
content = file.getvalue() if file else typed.strip()
if file or content:  # an empty file is an error too
    try:
        seen = config_json.parse(content)
        pair = [(t("hospitals.own.yours"), seen.architecture), (talk[hospitals.V3].name, v3)]
        scale.mount("own", [hospitals.building(*one) for one in pair], hospitals.taken(seen))
        plates.mount("hospitals.own", [hospitals.beside(pair, now, t("hospitals.own.title_beside"))], {})
    except UserError as error:
        shell.complain(error)

# -- one's own house

house = hospitals.built()
mine = now.figures(house)
chapter.explain(
    "hospitals.build",
    code=[source(COSTS, "remembering"), source(COSTS, "_ffn")],
    tex=hospitals.built_tex(house),
    total=hospitals.billions(mine.total),
    times=number(mine.total / biggest.total, 2),
    active=hospitals.billions(mine.active),
    share=percent(mine.active / mine.total),
    awake=f"{mine.experts_per_token:,}",
    before=f"{biggest.experts_per_token:,}",
    kilobytes=hospitals.said("per_token", mine),
    kept=hospitals.said("per_token", biggest),
)
shapes = {f"own_{name}": (slider.options, hospitals.own(name)) for name, slider in hospitals.SLIDERS.items()}
plates.mount("hospitals.shape", *hospitals.sliders(shapes, "half"))
with st.container(horizontal=True, vertical_alignment="bottom"):
    kinds = {kind: t(f"hospitals.kind.{kind}") for kind in hospitals.ATTENTIONS}
    control(st.segmented_control, "own_attention", hospitals.own_attention(), kinds, **once)
    st.button(t("hospitals.build.back"), key="hospitals_back", on_click=state.reset, args=(*shapes, "own_attention"))
pair = [(t("hospitals.build.yours"), house), (talk[hospitals.V3].name, v3)]
scale.mount("build", [hospitals.building(*one) for one in pair], t("hospitals.build.note"))
plates.mount("hospitals.build", [hospitals.beside(pair, now, t("hospitals.build.beside"))], {})

chapter.end(visit, "front", "doctor", "llama", "claude", "mini", "french", "grok", "yi", "kimi")
