"""The lesson: its data, what every stop opens and lights up, the ways between them, and what is taken back."""

from __future__ import annotations

import ast
import json
import re
import string
from pathlib import Path

import pytest
import screens
from screens import LANGUAGES, fine, skip
from streamlit.testing.v1 import AppTest

from pages.kit import ask, lesson, library, shell, state, words

ROOT = Path(__file__).resolve().parents[1]
STOPS, LESSONS = lesson.stops(), lesson.lessons()
PAGES = {Path(path).stem: path for path in screens.PAGES}
OWN = "My cat <b>is</b> ill. 🐈"


@pytest.fixture
def clinic(monkeypatch, clinic_folder):
    """Enough where numbers do not matter."""
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))


def component(at: AppTest, kind: str) -> dict | None:
    """What the bar, or the list of stops, was told."""
    found = [screens.sent(one) for one in at.get("bidi_component") if one.proto.component_name == "lesson"]
    return next((data for data in found if data["kind"] == kind), None)


def address(at: AppTest) -> dict[str, str]:
    return {name: value[0] if isinstance(value, list) else value for name, value in at.query_params.items()}


def follow(at: AppTest, way: dict, page: str | None = None) -> AppTest:
    """What the browser does with a link of the bar."""
    query = {name: value for name, value in address(at).items() if name not in way["drop"]} | way["set"]
    at.query_params.clear()
    for name, value in query.items():
        at.query_params[name] = value
    address_of = way["page"] if way["page"] is not None else page
    return at.switch_page(PAGES[address_of or "lobby"]).run()


def begin(minutes: int, lang: str = "en", **query: object) -> AppTest:
    """From the list of stops into a version."""
    at = screens.open_page("pages/lesson.py", lang, **query)
    way = component(at, "contents")["versions"][list(LESSONS).index(minutes)]["go"]
    return follow(at, way)


def said(at: AppTest, name: str) -> object:
    return at.session_state.get(f"setting.{name}")


# -- data --------------------------------------------------------------------------------------------------------------


def test_versions_take_the_minutes_that_they_say():
    assert tuple(LESSONS) == state.LESSONS == tuple(library.read("lessons")["versions"])
    for minutes, version in LESSONS.items():
        assert sum(stop.minutes[minutes] for stop in version.stops) == minutes
        assert version.gone(len(version.stops)) == minutes and version.gone(0) == 0
    assert list(LESSONS[45].stops) == list(STOPS.values()) and len(STOPS) >= 20, "the longest one has them all"
    short, middle, long = ({stop.key for stop in version.stops} for version in LESSONS.values())
    assert short < middle < long
    for stop in STOPS.values():
        assert all(type(minutes) is int and minutes >= 1 for minutes in stop.minutes.values())
        assert sorted(stop.minutes) == sorted(set(stop.minutes) & set(LESSONS))


def test_the_story_is_told_in_the_order_of_the_house():
    order = [list(PAGES).index(stop.page) for stop in STOPS.values()]
    assert order == sorted(order), "walk, others, price, library"
    walk = {Path(path).stem for path, _, _ in shell.WALK}
    assert walk <= {stop.page for stop in STOPS.values()}, "every page of the walk is a stop"
    price = {Path(path).stem for path, _, _ in shell.WINGS["nav.price"]}
    assert price <= {stop.page for stop in STOPS.values()}


@pytest.mark.parametrize("key", STOPS)
def test_every_stop_opens_what_can_be_set(key):
    stop, clear = STOPS[key], library.read("lessons")["clear"]
    assert stop.page in PAGES and stop.light
    assert set(library.read("lessons")["stop"][key]) <= {"page", "minutes", "example", "token", "set", "light", "asks"}
    for name, value in stop.own.items():
        assert state.TABLE[name].link and state.TABLE[name].valid(value), name
        assert name not in ("lang", "sentence", "lesson", "stop", "lock", "hide")
    assert all(state.TABLE[name].link for name in clear)
    assert stop.example is None or all(0 <= stop.example < len(several) for several in ask.EXAMPLES.values())


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_stop_has_all_its_words_and_no_others(lang):
    table = words.tables()[lang]
    spoken = {key.removeprefix("lesson.stop.") for key in table if key.startswith("lesson.stop.")}
    assert spoken == {f"{key}.{part}" for key in STOPS for part in lesson.SAID}
    for key in STOPS:
        say = table[f"lesson.stop.{key}.say"]
        assert 2 <= len(re.findall(r"[。？]|[.?](?=\s|$)", say)) <= 6, (key, say)
        assert table[f"lesson.stop.{key}.ask"].rstrip("”」").endswith(("?", "？")), key
        for part in lesson.SAID:
            assert not re.search(r"[!！]", table[f"lesson.stop.{key}.{part}"]), (key, part)
    for minutes in LESSONS:
        assert table[f"lesson.version.{minutes}"]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_numbers_in_words_are_put_in(lang):
    """None is typed: they come from config.json, from the catalogue, or from what the stop sets."""
    table = words.tables()[lang]
    known = set(lesson._numbers(str(ROOT / "assets" / "hospital"))) | set(lesson._published())
    for key, text in table.items():
        if key.startswith("lesson.stop."):
            stop = STOPS[key.split(".")[2]]
            asked = {name for _, name, _, _ in string.Formatter().parse(text) if name}
            assert asked <= known | set(stop.own), key
            plain = re.sub(r"\{[^}]*\}|V3", "", text)
            assert set(re.findall(r"\d+", plain)) <= {"0", "1"}, key


def test_the_numbers_are_the_models(tmp_path):
    from model import ModelConfig, costs

    c, v3 = ModelConfig.preset("hospital"), ModelConfig.preset("deepseek-v3")
    found = lesson._numbers(str(ROOT / "assets" / "hospital"))
    assert found["experts"] == f"{c.num_moe_layers * (c.num_experts_per_tok + c.n_shared_experts)}" == "522"
    assert found["all"] == f"{c.num_moe_layers * c.n_routed_experts:,}" == "14,848"
    for name, config in (("", c), ("v3_", v3)):  # on one floor
        assert int(found[f"{name}full"].replace(",", "")) * config.num_hidden_layers == costs.full_cache_numbers_per_token(config)
        assert int(found[f"{name}code"]) * config.num_hidden_layers == config.cache_numbers_per_token
    assert found["v3_latent"] == str(v3.kv_lora_rank) and found["v3_rope"] == str(v3.qk_rope_head_dim)
    for number, broken in enumerate(("", "[]", "{}", '{"num_hidden_layers": "many"}')):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "config.json").write_text(broken)
        assert lesson._numbers(str(folder)) == found, "what cannot be read is the shipped one's"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_who_is_followed_has_much_before_him(lang):
    """After the patient of a stop no next token is certain: what is changed there can be seen to matter."""
    import model

    live = model.load()
    for stop in STOPS.values():
        if stop.token is not None:
            trace = live.trace(ask.EXAMPLES[lang][stop.example])
            assert trace.top(stop.token, 1)[0].probability < 0.6, stop.key


def test_another_house_has_other_numbers(clinic, clinic_folder):
    at = begin(20)
    c = json.loads((clinic_folder / "config.json").read_text())
    departments = c["num_hidden_layers"] - c["first_k_dense_replace"]
    assert str(departments * (c["num_experts_per_tok"] + c["n_shared_experts"])) in component(at, "bar")["title"]


# -- every stop --------------------------------------------------------------------------------------------------------


def keys_on(at: AppTest) -> set[str]:
    """Keys of everything on the page that a stop can light up: containers by the id of their block, pictures as
    "key" and "key/plate"."""
    found: set[str] = set()

    def walk(block) -> None:
        if named := re.match(r"\$\$ID-[0-9a-f]+-(.+)$", str(getattr(block.proto, "id", "") or "")):
            found.add(named[1])
        for child in getattr(block, "children", {}).values():
            walk(child)

    for child in at._tree.children.values():
        walk(child)
    for one in at.get("bidi_component"):
        key = re.match(r"\$\$ID-[0-9a-f]+-(.+)$", one.proto.id)[1]
        found.add(key)
        data = screens.sent(one)
        for plate in data.get("plates", ()) if one.proto.component_name == "plates" else ():
            found.add(f"{key}/{plate['id']}")
    return found


@pytest.mark.parametrize("key", STOPS)
def test_a_link_that_names_only_the_stop_opens_it(key):
    """On its page, with all that it opens; what it lights up is there, at the latest when the question is answered."""
    stop = STOPS[key]
    at = screens.open_page("pages/lobby.py", "en", lesson=45, stop=key)
    assert fine(at) and at.title[0].value == words.say("en", f"{stop.page}.title")
    bar = component(at, "bar")
    assert bar["there"] and not bar["elsewhere"] and bar["again"] is None and bar["light"] == list(stop.light)
    for name, value in {**stop.own, "sentence": ask.EXAMPLES["en"][stop.example] if stop.example else None}.items():
        assert said(at, name) == value, name
    assert address(at) == {"lang": "en", "lesson": "45", "stop": key, **bar_link(stop)}
    assert set(stop.light) & keys_on(at), "something to look at, at once"
    assert bar["asks"] == stop.asks and {stop.asks} - {None} <= keys_on(at)
    at = at.switch_page(PAGES[stop.page]).run()  # for AppTest it is still the page that was asked for
    while any(str(button.key).endswith(".skip") for button in at.button):
        at = skip(at)
    assert fine(at) and stop.light[0] in keys_on(at)


def bar_link(stop: lesson.Stop) -> dict[str, str]:
    example = {"sentence": ask.EXAMPLES["en"][stop.example]} if stop.example else {}
    token = {"token": stop.token} if stop.token is not None else {}
    return state.to_link({**stop.own, **example, **token})


@pytest.mark.parametrize(("minutes", "lang"), [(5, "zh"), (20, "en"), (45, "zh")])
def test_all_stops_of_a_version_one_after_the_other(clinic, minutes, lang):
    at, version = begin(minutes, lang), LESSONS[minutes]
    for place, stop in enumerate(version.stops):
        assert fine(at) and at.title[0].value == words.say(lang, f"{stop.page}.title"), stop.key
        bar = component(at, "bar")
        assert bar["there"] and bar["stop"] == f"{minutes}.{stop.key}" and bar["lang"] == words.say(lang, "language.html")
        assert {name: bar[name] for name in lesson.SAID} == {
            part: words.say(lang, f"lesson.stop.{stop.key}.{part}", **values(lang, stop)) for part in lesson.SAID
        }
        assert bool(bar["back"]) == (place > 0) and bool(bar["next"]) == (place + 1 < len(version.stops))
        example = ask.EXAMPLES[lang][stop.example] if stop.example else None
        assert said(at, "sentence") == example
        if bar["next"]:
            at = follow(at, bar["next"])
    for stop in reversed(version.stops[:-1] if minutes == min(LESSONS) else ()):
        at = follow(at, component(at, "bar")["back"])
        assert fine(at) and component(at, "bar")["stop"] == f"{minutes}.{stop.key}"


def values(lang: str, stop: lesson.Stop) -> dict[str, str]:
    import os

    published = {name: words.say(lang, "hospitals.billions", value=f"{value / 1e9:.0f}").replace(" ", "\u00a0") for name, value in lesson._published().items()}
    return {**lesson._numbers(os.environ["TOKEN_HOSPITAL_CHECKPOINT"]), **published, **{name: str(value) for name, value in stop.own.items()}}


# -- what is kept and what is taken back -------------------------------------------------------------------------------


def to(at: AppTest, key: str, minutes: int = 45) -> AppTest:
    """To a stop, from the list of all of them."""
    at = at.switch_page("pages/lesson.py").run()
    at_row = list(STOPS).index(key)
    return follow(at, component(at, "contents")["stops"][at_row]["in"][list(LESSONS).index(minutes)]["go"])


def test_what_a_stop_changes_is_taken_back(clinic):
    at = to(screens.open_page("pages/department.py", "en", floor=4, change="force", room=5, k=3), "intervene")
    assert said(at, "change") == "dismiss" and said(at, "room") is None and said(at, "floor") is None
    at = follow(at, component(at, "bar")["next"])
    assert said(at, "change") is None and "change" not in address(at), "nothing is changed at the next stop"
    at = follow(at, component(at, "bar")["leave"], "department")
    assert said(at, "lesson") is None and said(at, "stop") is None and component(at, "bar") is None
    assert (said(at, "change"), said(at, "room"), said(at, "k"), said(at, "floor")) == ("force", 5, 3, 4)


def test_the_depth_comes_back_too(clinic):
    at = to(screens.open_page("pages/postal.py", "en", depth="code"), "made")
    assert said(at, "depth") == "maths" and at.latex
    assert said(follow(at, component(at, "bar")["next"]), "depth") == "code"


def test_the_visitor_may_play_and_set_it_back(clinic):
    at = to(screens.open_page("pages/lobby.py"), "intervene")
    at = at.button_group(key="change_switch").set_value("softmax").run()
    assert said(at, "change") == "softmax" and component(at, "bar")["stop"] == "45.intervene", "arriving happens once"
    at = follow(at, component(at, "bar")["again"])
    assert said(at, "change") == "dismiss" and component(at, "bar")["again"] is None


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_sentence_of_ones_own_is_kept(clinic, lang):
    at = begin(20, lang, s=OWN, token=2)
    for _ in LESSONS[20].stops[1:]:
        assert fine(at) and said(at, "sentence") == OWN and address(at)["s"] == OWN and said(at, "token") == 2
        at = follow(at, component(at, "bar")["next"])


def test_another_sentence_is_said(clinic):
    """At the stops that bring one; nowhere where the visitor's own is kept."""
    own, at, told = begin(20, "en", s=OWN), begin(20, "en"), {}
    for stop in LESSONS[20].stops:
        told[stop.key] = component(at, "bar")["sentence"]
        assert component(own, "bar")["sentence"] is None
        at, own = (follow(one, component(one, "bar")["next"]) if component(one, "bar")["next"] else one for one in (at, own))
    said_at = {key: text for key, text in told.items() if text}
    assert list(said_at) == ["code", "next", "beds"]
    for key, text in said_at.items():
        assert text == words.say("en", "lesson.bar.sentence", sentence=ask.EXAMPLES["en"][STOPS[key].example])


def test_a_sentence_that_is_typed_on_the_way_is_kept(clinic):
    at = to(screens.open_page("pages/lobby.py"), "code")
    at = at.text_input(key="sentence_box").set_value(OWN).run()
    at = follow(at, component(at, "bar")["next"])
    assert said(at, "sentence") == OWN and component(at, "bar")["stop"] == "45.made"


def test_who_is_followed_is_followed_on_until_the_sentence_changes(clinic):
    at = follow(begin(20, token=3), component(begin(20, token=3), "bar")["next"])
    assert said(at, "token") == 3
    at = to(at, "heads")
    assert said(at, "token") == 3
    at = follow(at, component(at, "bar")["next"])  # another sentence
    at = to(at, "code", 20)
    assert said(at, "token") == STOPS["code"].token and said(at, "sentence") == ask.EXAMPLES["en"][3]
    at = to(at, "beds")
    assert said(at, "sentence") is None


def test_leaving_and_coming_back(clinic):
    at = to(screens.open_page("pages/lobby.py"), "eight", 20)
    at = follow(at, component(at, "bar")["leave"], "department")
    assert component(at, "bar") is None and "lesson" not in address(at) and fine(at)
    at = at.switch_page("pages/triage.py").run()
    at = at.switch_page("pages/lesson.py").run()
    on = component(at, "contents")["on"]
    place = [stop.key for stop in LESSONS[20].stops].index("eight")
    assert str(place + 1) in on["title"] and words.say("en", "lesson.stop.eight.title", kept=2, k=4)[-6:] in on["title"]
    at = follow(at, on["go"])
    assert component(at, "bar")["stop"] == "20.eight" and component(at, "bar")["there"]


def test_elsewhere_the_bar_leads_back(clinic):
    """Who walks off by the navigation finds the bar there, and the way back in it."""
    at = to(screens.open_page("pages/lobby.py"), "heads")
    at = at.switch_page("pages/glossary.py").run()
    bar = component(at, "bar")
    assert not bar["there"] and words.say("en", "nav.heads") in bar["elsewhere"] and bar["light"] == []
    at = follow(at, bar["again"])
    assert at.title[0].value == words.say("en", "heads.title") and component(at, "bar")["there"]
    at = at.switch_page("pages/lesson.py").run()
    assert [stop["here"] for stop in component(at, "contents")["stops"]].count(True) == 1


def test_a_link_keeps_what_else_it_says():
    """A teacher's link with an own sentence and another floor: the stop opens the rest."""
    at = screens.open_page("pages/department.py", "zh", lesson=20, stop="intervene", s=OWN, floor=7, change="softmax")
    assert (said(at, "sentence"), said(at, "floor"), said(at, "change")) == (OWN, 7, "softmax") and fine(at)


@pytest.mark.parametrize("page", ["guide", "quiz"])
def test_a_page_beside_the_story_stays_when_it_is_loaded_again(clinic, page):
    at = screens.open_page(f"pages/{page}.py", "en", lesson=20, stop="judge")
    assert fine(at) and at.title[0].value == words.say("en", f"{page}.title") and not component(at, "bar")["there"]


def test_after_the_last_stop_the_bar_leads_to_the_quiz(clinic):
    at = to(begin(5), "judge", 5)
    bar = component(at, "bar")
    assert bar["next"] is None and bar["quiz"]["page"] == "quiz" and {"lesson", "stop"} <= set(bar["quiz"]["drop"])
    before = component(follow(at, bar["back"]), "bar")
    assert before["next"] and before["quiz"] is None
    at = screens.open_page("pages/facts.py", "en", lesson=5, stop="judge", hide="pages")
    assert component(at, "bar")["quiz"] is None, "a teacher's link may leave out other pages"


def test_the_list_of_stops_can_be_opened_while_a_lesson_runs():
    at = screens.open_page("pages/lesson.py", "en", lesson=20, stop="code")
    assert at.title[0].value == words.say("en", "lesson.title") and not component(at, "bar")["there"]
    assert component(at, "contents")["on"]


# -- odd links ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["7", "0", "-5", "20.0", "９", "twenty", "", "<b>", "20\x00", "9" * 4000])
def test_there_is_no_such_version(bad):
    assert "lesson" not in state.from_link({"lesson": bad, "stop": "desk"})


def test_a_version_that_there_is_not_opens_the_page_alone(clinic):
    at = screens.open_page("pages/triage.py", "en", lesson="<b>", stop="desk")
    assert fine(at) and component(at, "bar") is None and said(at, "lesson") is None


@pytest.mark.parametrize("bad", ["", "nowhere", "<script>alert(1)</script>", "../lobby", "a" * 4000, "\x00", "🏥", "{0}", "1"])
def test_an_unknown_stop_is_the_first(bad):
    assert LESSONS[20].place(state.from_link({"stop": bad}).get("stop")) == 0


def test_a_lesson_at_an_unknown_stop_opens_at_its_first(clinic):
    at = screens.open_page("pages/triage.py", "en", lesson=20, stop="nowhere")
    assert fine(at) and component(at, "bar")["stop"] == "20.woken" and at.title[0].value == words.say("en", "lobby.title")


def test_a_stop_of_another_version_is_the_next_one_of_this():
    assert LESSONS[5].stops[LESSONS[5].place("eight")].key == "consult"
    assert LESSONS[20].stops[LESSONS[20].place("sentence")].key == "desk"
    assert LESSONS[5].stops[LESSONS[5].place("choice")].key == "judge"
    assert [LESSONS[45].place(key) for key in STOPS] == list(range(len(STOPS)))
    assert LESSONS[20].place(None) == 0


# -- while none runs ---------------------------------------------------------------------------------------------------


def test_without_a_lesson_nothing_of_it_is_there(clinic):
    at = screens.open_page("pages/lobby.py")
    assert component(at, "bar") is None and not {"lesson", "stop"} & set(address(at))


def test_the_shell_brings_it_in_only_while_one_runs():
    tree = ast.parse((ROOT / "pages" / "kit" / "shell.py").read_text("utf-8"))
    at_once = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert not any(alias.name == "lesson" for node in at_once for alias in node.names)
    source = (ROOT / "pages" / "kit" / "lesson.py").read_text("utf-8")
    assert not re.search(r"^(from|import) (model|torch)|kit import .*(chapter|service)", source, re.M), "the lobby stands before torch"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_list_says_every_stop_and_its_minutes(clinic, lang):
    at = screens.open_page("pages/lesson.py", lang)
    data = component(at, "contents")
    assert fine(at) and data["on"] is None and data["totals"] == list(LESSONS)
    for row, stop in zip(data["stops"], STOPS.values(), strict=True):
        assert row["page"] == words.say(lang, f"nav.{stop.page}")
        assert [one and one["minutes"] for one in row["in"]] == [stop.minutes.get(minutes) for minutes in LESSONS]
    for column, minutes in enumerate(LESSONS):
        assert sum(row["in"][column]["minutes"] for row in data["stops"] if row["in"][column]) == minutes


def test_the_lists_own_words_are_all_there():
    script = (ROOT / "assets" / "lesson" / "lesson.js").read_text("utf-8")
    asked = set(re.findall(r"\bsaid\.([a-z_]+)", script)) | {"fold", "unfold", "look", "ask", "failed"}
    known = {key.split(".")[2] for key in words.tables()["en"] if key.startswith(("lesson.bar.", "lesson.list."))}
    assert asked <= known
