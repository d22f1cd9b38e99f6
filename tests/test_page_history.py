"""History: stations in order and with sources, shares recomputed, and nothing that gives the answer away."""

from __future__ import annotations

import datetime
import re

import pytest
import screens
from screens import LANGUAGES, fine, prose, shown, skip

from model import ModelConfig, costs
from pages.kit import library, state, words
from pages.kit.figures import history

DATA = library.read("history")
SAME = {  # stations that are rows of the catalogue
    "deepseekmoe": "DeepSeekMoE-16B", "v2": "DeepSeek-V2", "v3": "DeepSeek-V3", "mixtral": "Mixtral 8x7B",
    "grok1": "Grok-1", "grok2": "Grok-2", "llama3": "Llama-3.1-405B", "qwenmoe": "Qwen1.5-MoE-A2.7B",
    "qwen3": "Qwen3-235B-A22B", "k2": "Kimi K2", "moonlight": "Moonlight-16B-A3B", "gptoss": "gpt-oss-120b",
}  # fmt: skip


def open_page(lang="en", **query):
    return screens.open_page("pages/history.py", lang, **query)


def stations(at) -> list[dict]:
    return shown(at)["line"]["cards"]


# -- the data ----------------------------------------------------------------------------------------------------------


def test_every_station_is_complete_and_in_order():
    for one in history.events():
        assert one.kind in history.KINDS and one.era in ("research", "talk", "later") and one.name, one.key
        assert one.sources and all(source.url.startswith("https://") for source in one.sources), one.key
        assert isinstance(one.date, datetime.date) or re.fullmatch(r"\d{4}(-\d{2})?", one.date), one.key
        assert one.active is None or (one.total and one.active <= one.total), one.key
        assert (one.kind != "dense") or one.active == one.total, one.key
        assert (one.kind != "undisclosed") or one.total is None, one.key
    months = [history.order(one)[:7] for one in history.events()]
    assert months == sorted(months)
    days = [history.order(one) for one in history.events() if isinstance(one.date, datetime.date)]
    assert days == sorted(days)
    eras = [one.era for one in history.events()]
    assert eras == sorted(eras, key=["research", "talk", "later"].index)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_words_and_stations_are_the_same(lang):
    spoken = {key.split(".")[2] for key in words.tables()[lang] if key.startswith("history.event.")}
    assert spoken == set(DATA["event"])


@pytest.mark.parametrize("key", sorted(SAME))
def test_sizes_are_those_of_the_catalogue(key):
    row = next(row for row in library.read("catalogue")["row"] if row["name"] == SAME[key])
    one = history.event(key)
    for what, size in (("total", one.total), ("active", one.active)):
        told = [p["value"] / 1e9 for p in row["published"] if p["what"] in (what, f"{what}_without_embedding")]
        if told and size:
            assert any(abs(value - size) <= 0.015 * value for value in told), (what, told, size)
    assert row["year"] == int(history.year(one)) or key == "grok2"  # announced in one year, opened in the next


def test_shares_against_the_formula():
    c = ModelConfig.preset("deepseek-v3")
    p = costs.parameters(c)
    assert history.event("v3").share == pytest.approx(p.active / p.main, abs=0.002)
    assert history.question() == {
        "first": "Mixtral 8x7B",
        "one": "27.6%",
        "share": "5.5%",
        "active": "37B",
        "total": "671B",
    }
    assert history.choices() == sorted(history.choices(), key=lambda text: float(text[:-1]))
    assert history.choices()[history.right()] == "5.5%" and len(set(history.choices())) == 3
    assert [history.billions(n) for n in (46.7, 600.0, 1600.0, 1000.0)] == ["46.7B", "600B", "1.6T", "1T"]


def test_what_the_bends_say_of_dates():
    first, moe = DATA["event"]["llm"]["date"], DATA["event"]["deepseekmoe"]["date"]
    assert round((moe - first).days / 7) == 6
    assert (DATA["event"]["v3"]["date"] - DATA["event"]["v251210"]["date"]).days == 16
    assert DATA["event"]["v25"]["date"].month == 9
    said = {"en": ("six weeks", "a good two weeks"), "zh": ("六个星期", "两个多星期")}
    for lang, (weeks, two) in said.items():
        assert weeks in words.say(lang, "history.bend.always.true") and two in words.say(
            lang, "history.bend.december.true"
        )


def test_families_are_what_their_stations_say():
    kinds = {one.key: one.kind for one in history.events()}
    assert {one.name: one.now for one in history.families() if one.now == "undisclosed"}.keys() == {
        "Claude",
        "GPT-4",
        "GPT-4o mini",
    }
    for key, family in DATA["family"].items():
        assert {family[what] for what in ("said", "then", "now")} <= {*history.KINDS, "both"}
        own = [kind for event, kind in kinds.items() if event.startswith(key)]
        assert not own or family["now"] == "both" or family["now"] in own, key
    agree = history.agreement()
    assert agree["same"] == len([1 for f in DATA["family"].values() if f["said"] == f["then"]]) < agree["count"] == 15
    assert agree["hidden"] > agree["hidden_now"] == 3


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
def test_every_depth_in_both_languages(lang, depth):
    at = open_page(lang, depth=depth)
    assert fine(at) and len(stations(at)) == len(DATA["event"])
    assert bool(at.latex) == (depth == "maths") and bool(at.code) == (depth == "code")
    assert "@" not in " ".join(one.value for one in at.latex) and f"**{len(DATA['event'])}**" in prose(at)
    for card in stations(at):
        assert card["badge"]["text"] and card["over"] and not re.search(r"[{}]", card["parts"][0]["text"])
    note = shown(at)["line"]["note"]
    for kind in history.KINDS:
        assert str(sum(one["kind"] == kind for one in DATA["event"].values())) in note
    if depth == "maths":
        assert "1991" in at.latex[0].value and "12.9" in at.latex[-1].value and "256" in at.latex[2].value
        later = [one for one in DATA["event"].values() if one["era"] == "later"]
        assert str(len(later)) in prose(at) and str(len(DATA["event"]) - len(later)) in prose(at)


def test_nothing_gives_the_answer_away():
    at = open_page("en")
    assert "shares" not in shown(at) and "37B" not in str(shown(at)["line"]["cards"]) and "5.5%: " not in prose(at)
    next(b for b in at.button if b.label.replace("\\", "") == "8.9%").click().run()
    assert fine(at) and words.say("en", "chapter.wrong") in prose(at) and "5.5%: 37B of 671B" in prose(at)
    assert "37B at work" in str(shown(at)["line"]["cards"])


@pytest.mark.parametrize("lang", LANGUAGES)
def test_shares_are_recomputed(lang):
    plate = shown(skip(open_page(lang)))["shares"]
    sizes: dict[tuple[float, float], str] = {}
    for one in DATA["event"].values():
        if "active" in one:
            sizes.setdefault((one["total"], one["active"]), one["name"])
    assert plate["values_list"] == pytest.approx([active / total for total, active in sizes])
    assert plate["labels"] == list(sizes.values())
    least = min(sizes, key=lambda size: size[1] / size[0])
    assert f"**{sizes[least]}**" in plate["note"] and f"{least[1] / least[0]:.1%}" in plate["note"]


@pytest.mark.parametrize("kind", [*history.KINDS, "both", "<b>", "nobody"])
def test_a_kind_is_kept(kind):
    at = skip(open_page("en", kind=kind))
    names = [card["head"] for card in stations(at)]
    wanted = [one["name"] for one in DATA["event"].values() if kind not in history.KINDS or one["kind"] == kind]
    assert fine(at) and names == wanted and f"**{len(wanted)}**" in prose(at)
    rows = [one["name"] for one in DATA["family"].values()
            if kind not in history.KINDS or kind in (one["said"], one["then"], one["now"])]  # fmt: skip
    assert shown(at)["families"]["labels"] == rows


def test_the_kind_is_in_the_link():
    at = open_page("en")
    at.button_group(key="history.choose").set_value("dense").run()
    assert fine(at) and at.query_params["kind"] in ("dense", ["dense"]) and len(stations(at)) == 4
    at.button_group(key="history.choose").set_value("").run()
    assert "kind" not in at.query_params and len(stations(at)) == len(DATA["event"])


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_families_note_counts(lang):
    note = shown(open_page(lang))["families"]["note"]
    now = [one["now"] for one in DATA["family"].values()]
    assert [int(n) for n in re.findall(r"\d+", note)] in (
        [now.count(kind) for kind in ("moe", "both", "undisclosed", "dense")],
    )
