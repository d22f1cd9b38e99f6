"""The page of the hospitals compared: its numbers computed another way, its controls, its link, what is pasted."""

from __future__ import annotations

import json
import math
import re
import tomllib

import pytest
import screens
from screens import LANGUAGES, fine, prose, shown, skip
from streamlit.testing.v1 import AppTest

from model import catalogue, config_json
from model.architectures import PRECISIONS, active, storeys, total
from pages.kit import library, state, words
from pages.kit.figures import hospitals

PAGE = "pages/hospitals.py"


@pytest.fixture
def app(monkeypatch, hospital_folder):
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(hospital_folder))
    return lambda lang="en", **query: screens.open_page(PAGE, lang, **query)


def streets(at: AppTest) -> list[dict]:
    """What the component that draws buildings was given, in the page's order."""
    return [screens.sent(one) for one in at.get("bidi_component") if one.proto.component_name == "scale"]


def area(building: dict, which: str = "there") -> int:
    return sum(s["floors"] * r["size"] * r[which] for s in building["storeys"] for r in s["rooms"])


def paste(at: AppTest, text: str) -> AppTest:
    return at.text_area(key="hospitals.text").set_value(text).run()


# -- every face of the page --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
def test_every_depth(app, lang, depth):
    at = app(lang, depth=depth, hospital="gpt-oss-120b")
    assert fine(at) and at.title[0].value == words.say(lang, "hospitals.title")
    assert bool(at.latex) == (depth == "maths") and bool(at.code) == (depth == "code")
    assert not any("@" in one.value for one in at.latex)


@pytest.mark.parametrize("query", [
    {"compare": "nobody.grok-1", "by": "beauty", "context": "1", "experts": "0", "attention": "telepathy"},
    {"compare": "...", "hospital": "claude", "context": "999999", "experts": "999999", "chosen": "0", "dense": "999"},
    {"weights": "fp7", "card": "7", "context": "5000", "size": "5", "nurses": "77"}, {"dense": "61", "nurses": "4", "compare": "grok-2"},
], ids=str)  # fmt: skip
def test_any_link_gives_a_page(app, query):
    assert fine(app(**query))


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_street_is_to_scale_and_dark_until_guessed(app, lang):
    at = app(lang)
    street = streets(at)[0]
    assert not street["told"] and words.say(lang, "hospitals.street.dark") == street["note"]
    rows = [catalogue.find(key) for key in ("llama-3-1-405b", "mixtral-8x7b", "grok-1", "deepseek-v3")]
    assert [b["name"] for b in street["buildings"]] == [row.name for row in rows]
    working = [f"{active(row.architecture) / 1e9:,.1f}" for row in rows]
    for row, number, building in zip(rows, working, street["buildings"], strict=True):
        assert area(building) == total(row.architecture) and area(building, "working") == active(row.architecture)
        said = " ".join([*building["lines"], building["alt"]])
        assert f"{total(row.architecture) / 1e9:,.1f}" in said and (number not in said or active(row.architecture) == total(row.architecture))
    at = skip(at)
    lit = streets(at)[0]
    assert lit["told"] and all(n in " ".join(b["lines"]) for n, b in zip(working, lit["buildings"], strict=True))
    assert "405.9" in prose(at) and "37.6" in prose(at) and f"{37_552_297_472 / 671_026_419_200:.1%}" in prose(at)


def test_v3_is_61_floors_and_257_rooms():
    v3 = streets_of("deepseek-v3")
    assert sum(s["floors"] for s in v3 if any(r["place"] == "expert" for r in s["rooms"])) == 58
    moe = next(s for s in v3 if any(r["place"] == "expert" for r in s["rooms"]))
    assert sum(r["there"] for r in moe["rooms"] if r["place"] in ("expert", "shared")) == 257
    assert sum(r["working"] for r in moe["rooms"] if r["place"] in ("expert", "shared")) == 9


def streets_of(key: str) -> list[dict]:
    return [{"floors": s.floors, "rooms": [vars(r) for r in s.rooms]} for s in storeys(catalogue.find(key).architecture)]


def test_the_question_asks_for_what_is_so():
    most = max(hospitals.TALK, key=lambda key: active(catalogue.find(key).architecture))
    assert hospitals.TALK[hospitals.most_active()] == most == "llama-3-1-405b"


@pytest.mark.parametrize("by", ["total", "awake", "per_token", "cards"])
def test_the_register_is_sorted_and_says_who_is_first(app, by):
    at = app(by=by, compare=".".join(row.key for row in catalogue.rows()))
    made = shown(at)
    bars, table = made["hospitals.register.bars"], made["hospitals.register.register"]
    assert bars["values_list"] == sorted(bars["values_list"], reverse=True) and len(bars["labels"]) == len(catalogue.rows())
    assert bars["labels"] == table["labels"]
    column = [c["label"] for c in table["columns"]].index(words.say("en", f"hospitals.column.{by}"))
    assert [row[column] for row in table["cells"]] == bars["values_list"]
    assert bars["labels"][0] in bars["note"] and bars["labels"][-1] in bars["note"]
    assert [catalogue.rows()[i].name for i in bars["axes"][0]["indices"]] == bars["labels"]


def test_context_precision_and_cards_change_what_they_should(app):
    def cells(**query) -> dict[str, float]:
        table = shown(skip(app(compare="llama-3-1-405b", **query)))["hospitals.register.register"]
        return dict(zip([c["label"] for c in table["columns"]], table["cells"][0], strict=True))

    def name(measure: str) -> str:
        return words.say("en", f"hospitals.column.{measure}")

    usual, long = cells(), cells(context=131072)
    assert long[name("cache")] == pytest.approx(516_096 * 131_072 / 1e9) and usual[name("cache")] == pytest.approx(516_096 * 4096 / 1e9)
    assert long[name("training")] > usual[name("training")] and long[name("total")] == usual[name("total")]
    assert usual[name("weights")] == pytest.approx(2 * 405.853e9 / 1e9, rel=1e-4)
    assert cells(weights="fp32")[name("weights")] == pytest.approx(2 * usual[name("weights")])
    for size in (24, 192):
        assert cells(card=size)[name("cards")] == math.ceil((usual[name("weights")] + usual[name("cache")]) / size)


@pytest.mark.parametrize("key", [row.key for row in catalogue.rows()])
def test_every_value_of_every_row_stands_there_with_its_source(key):
    row = catalogue.find(key)
    raw = next(r for r in tomllib.loads(catalogue.FILE.read_text("utf-8"))["row"] if r["key"] == key)
    values = hospitals.values(row)
    cells = dict(zip(values["labels"], values["cells"], strict=True))
    for name, value in raw["config"].items():
        if name != "model_type" and value != []:
            assert cells[name][0].replace(",", "") == str(value).lower() and cells[name][1] == raw.get("sources", {}).get(name, raw["source"])
    checked = hospitals.published(row, True)
    for figure, cell in zip(raw["published"], checked["cells"], strict=True):
        assert (cell[2] == words.say("en", "hospitals.where.agrees")) == figure.get("derivable", True)
        if figure["within"] == 0:
            assert cell[0] == cell[1]


def test_what_cannot_be_derived_is_said(app):
    made = shown(app(hospital="qwen2-5-72b"))["hospitals.where.published"]
    row = next(cell for cell in made["cells"] if cell[0] == "394")
    assert row[1] == "445" and row[2] == words.say("en", "hospitals.where.differs")
    assert made["note"] == words.say("en", "hospitals.note.qwen_72b")
    hidden = shown(app())["hospitals.where.hidden"]
    assert "Claude" in hidden["labels"] and words.say("en", "hospitals.hidden.claude") in hidden["cells"][0]


def test_every_note_and_every_undisclosed_has_words():
    for lang in LANGUAGES:
        known = words.tables()[lang]
        assert all(f"hospitals.note.{row.note}" in known for row in catalogue.rows() if row.note)
        assert all(f"hospitals.hidden.{entry['key']}" in known for entry in catalogue.undisclosed())
        assert all(f"hospitals.precision.{name}" in known for name in PRECISIONS)


def test_equations_hold_the_looked_at_hospitals_numbers(app):
    at = app(depth="maths", hospital="gpt-oss-120b")
    asked = " ".join(one.value for one in app(depth="maths").latex)
    assert "83.5" not in asked and "250.5" not in asked, "V3's work, before the question is answered"
    assert "37{,}552{,}297{,}472" not in " ".join(one.value for one in at.latex), "not before the question is answered"
    text = " ".join(one.value for one in skip(at).latex).replace("{,}", "")
    assert f"= {1024 * (18 * 4096 + 18 * 128)}" in text and "36 - 18" in text
    seen = 18 * 4097 / 2 + 18 * (128 * 129 / 2 + (4096 - 128) * 128) / 4096
    assert f"{seen:.1f}" in text
    assert "37552297472" in text and "671026419200" in text and f"{58 * 257 * 44_040_192}" in text


# -- controls ----------------------------------------------------------------------------------------------------------


def test_choosing_writes_the_link(app):
    at = app()
    at.selectbox(key="hospitals.measure").set_value("active").run()
    assert fine(at) and "active" in at.query_params["by"]
    assert shown(skip(at))["hospitals.register.bars"]["labels"][0] == "Llama-3.1-405B"


@pytest.mark.parametrize("by", ["total", "active", "forward", "training"])
def test_what_answers_the_question_stands_nowhere_in_the_register_before(app, by):
    """Neither the weights at work nor the arithmetic that follows from them."""
    def column(made, measure="active") -> list:
        table = made["hospitals.register.register"]
        at = [c["label"] for c in table["columns"]].index(words.say("en", f"hospitals.column.{measure}"))
        return [row[at] for row in table["cells"]]

    at = app(by=by)
    made, unknown = shown(at), words.say("en", "hospitals.most.unknown")
    bars = made["hospitals.register.bars"]
    assert all(set(column(made, name)) == {unknown} for name in ("active", "forward", "training"))
    assert bars["labels"][0] == "Kimi K2", "in the order of all weights"
    waits = words.say("en", "hospitals.register.first", unit=words.say("en", f"hospitals.column.{by}"))
    assert bars["note"].startswith(waits) == (by != "total")
    published = [row[:2] for row in made["hospitals.where.published"]["cells"]]
    assert published == [["671", "671"], [unknown] * 2, ["70.272"] * 2, [unknown] * 2]
    told = shown(skip(at))
    assert [row[0] for row in told["hospitals.where.published"]["cells"]] == ["671", "37", "70.272", "250"]
    assert max(column(told)) == pytest.approx(405.9, abs=0.05)
    assert max(column(told, "forward")) == pytest.approx(824.4, abs=0.05)
    assert waits not in told["hospitals.register.bars"]["note"]
    assert told["hospitals.register.bars"]["labels"][0] == ("Kimi K2" if by == "total" else "Llama-3.1-405B")


def test_a_house_of_ones_own(app):
    usual, coarse = app(), app(experts=8, size=32768, chosen=2, nurses=0, dense=0, attention="gqa")
    assert area(streets(usual)[1]["buildings"][0]) == 671_026_419_200
    mine = streets(coarse)[1]["buildings"][0]
    d, v, heads = 7168, 129280, 128
    attention = d * heads * 128 + 2 * d * 8 * 128 + heads * 128 * d
    layer = attention + 2 * d + 8 * 3 * d * 32768 + 8 * d + 8
    assert area(mine) == 2 * v * d + d + 61 * layer
    assert area(mine, "working") == area(mine) - 61 * 6 * 3 * d * 32768
    said = prose(coarse)
    for number in (f"{area(mine) / 1e9:.1f}", f"{area(mine) / 671_026_419_200:.2f}", f"{area(mine, 'working') / area(mine):.1%}", "122", "522",
                   f"{2 * 8 * 128 * 61 * 2 / 1000:.1f}", "70.3"):  # fmt: skip
        assert number in said
    assert streets(coarse)[1]["buildings"][1]["name"] == "DeepSeek-V3"


def test_more_cannot_be_called_than_there_are(app):
    at = app(experts=4, chosen=16)
    assert fine(at)
    rooms = next(r for s in streets(at)[1]["buildings"][0]["storeys"] for r in s["rooms"] if r["place"] == "expert")
    assert (rooms["there"], rooms["working"]) == (4, 4)


def test_back_to_v3(app):
    at = app(experts=8, dense=61, attention="mha")
    assert area(streets(at)[1]["buildings"][0]) != 671_026_419_200
    next(b for b in at.button if b.label == words.say("en", "hospitals.build.back")).click().run()
    assert area(streets(at)[1]["buildings"][0]) == 671_026_419_200 and "experts" not in at.query_params


# -- one's own config --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_pasted_config_stands_beside_v3(app, lang):
    row = catalogue.find("qwen3-235b-a22b")
    at = paste(app(lang), json.dumps(dict(row.config)))
    assert fine(at)
    table = shown(at)["hospitals.own.beside"]
    column = [c["label"] for c in table["columns"]].index(words.say(lang, "hospitals.column.total"))
    assert table["cells"][0][column] == pytest.approx(total(row.architecture) / 1e9)
    own = streets(at)[1]
    assert area(own["buildings"][0]) == total(row.architecture) and own["note"] == words.say(lang, "hospitals.own.complete")


def test_what_the_file_leaves_out_is_said(app):
    config = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 8, "vocab_size": 11, "num_attention_heads": 2, "intermediate_size": 5}
    note = streets(paste(app(), json.dumps(config)))[1]["note"]
    assert "head_dim = 4" in note and "num_key_value_heads = 2" in note


def test_the_example_can_be_put_in(app):
    at = app(hospital="grok-1")
    label = words.say("en", "hospitals.own.example", name="Grok-1")
    at = next(b for b in at.button if b.label == label).click().run()
    assert config_json.parse(at.text_area(key="hospitals.text").value).family == "grok-1" and fine(at)
    assert area(streets(at)[1]["buildings"][0]) == total(catalogue.find("grok-1").architecture)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("text,key", [
    ("hello", "json"), ("[" * 3000, "deep"), ("x" * 70_000, "large"), ('{"model_type": "gpt2"}', "family"), ('{"hidden_size": NaN}', "nan"),
    ('{"model_type": "**llama** <b>x</b>"}', "family"),
])  # fmt: skip
def test_a_bad_config_is_refused_in_one_sentence_and_the_page_goes_on(app, lang, text, key):
    at = paste(app(lang), text)
    assert not at.exception and len(at.error) == 1 and "hospitals.own.beside" not in shown(at)
    start = words.tables()[lang][f"error.config_{key}"].split("{")[0].split("“")[0].split("「")[0]
    assert at.error[0].value.replace("\\", "").startswith(start)
    assert "hospitals.build.beside" in shown(at), "what stands below is still there"


def test_the_field_is_named_on_screen(app):
    bad = {**catalogue.find("deepseek-v3").config, "wings": 2}
    assert "wings" in paste(app(), json.dumps(bad)).error[0].value
    bad = {**catalogue.find("deepseek-v3").config, "kv_lora_rank": -512}
    assert "kv\\_lora\\_rank" in paste(app(), json.dumps(bad)).error[0].value


# -- in Chromium -------------------------------------------------------------------------------------------------------


def test_drawn_touched_and_fits_a_phone(server, browser):
    """The buildings are really drawn, a room says what it is, a step of a slider changes house and link, nothing overflows."""
    context = browser.new_context(viewport={"width": 390, "height": 900}, locale="en-US")
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{server}/hospitals?lang=en&depth=story")
    page.get_by_role("button", name="Just show me").click()
    page.locator(".street figure").nth(3).get_by_text("5.6%").wait_for(timeout=30_000)
    widths = page.eval_on_selector_all(".street", "all => [...all[0].querySelectorAll('canvas')].map((c) => [c.clientWidth, c.clientHeight])")
    areas = [w * h for w, h in widths]
    assert len(areas) == 4 and max(areas) == areas[3] and min(areas) == areas[1], "V3's building is the largest, Mixtral's the smallest"
    colours = page.eval_on_selector_all(".street canvas", """all => all.slice(0, 4).map((c) => {
        const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, seen = new Set();
        for (let i = 0; i < p.length; i += 4) if (p[i + 3] === 255) seen.add(p[i] << 16 | p[i + 1] << 8 | p[i + 2]);
        return seen.size;
    })""")  # fmt: skip
    assert all(count >= 3 for count in colours), "entrance, records room and doctors or experts each in its own colour"
    canvas = page.locator(".street canvas").nth(3)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2)
    page.locator(".street .tip:visible").get_by_text("44,040,192 weights").wait_for(timeout=5_000)
    before = page.locator(".street figure").filter(has_text="yours").inner_text()
    page.get_by_role("button", name="Interns on a floor: one less").click()
    screens.until(page, "before => [...document.querySelectorAll('*')].some((e) => e.shadowRoot && [...e.shadowRoot.querySelectorAll('figure')].some((f) => f.innerText.includes('yours') && f.innerText !== before))", before)
    page.wait_for_url("**experts=128**", timeout=10_000)
    page.locator("input[type=file]").set_input_files(
        {"name": "config.json", "mimeType": "application/json", "buffer": b" " * 5_000_000})  # fmt: skip
    screens.until(page, "said => getComputedStyle(document.querySelector('[data-testid=stFileUploader]'), '::after').content === said",
                  f'"{words.say("en", "hospitals.own.too_large", limit=64)}"')  # fmt: skip
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth + 1") and wrong == []
    context.close()


def test_sources_are_told_in_the_visitors_language():
    line = "mistral.ai, Mixtral of experts, 11 December 2023; NVIDIA H100 and H800, data sheet; A, arXiv 1, section 3.4.1 (May 2024)"
    with words.speaking("en"):
        assert library.cited(line) == line
    with words.speaking("zh"):
        assert library.cited(line) == (
            "mistral.ai, Mixtral of experts，2023 年 12 月 11 日；NVIDIA H100 和 H800，数据手册；A，arXiv 1，3.4.1 节（2024 年 5 月）"
        )
        rows = library.read("catalogue")
        told = {library.cited(source) for source in re.findall(r"'source': '([^']+)'", str(rows))}
    assert len(told) > 30
    assert not re.search(r"\b(sections?|table|appendix|abstract|data sheet|model card|day) \b", " ".join(told))
