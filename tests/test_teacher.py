"""The teacher's link without a browser: that it holds what was set, that nothing which it locks can be changed, that
nothing which it leaves out is drawn, and that its QR code says the same."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
import screens
import streamlit
import zxingcpp
from hypothesis import given, settings
from hypothesis import strategies as st
from screens import LANGUAGES, PAGES, WALK, fine
from streamlit.testing.v1 import AppTest, element_tree

from pages.kit import building, fleet, live, plates, qr, shell, state, teacher, words

NAMES = [Path(path).stem for path in PAGES]
SENTENCE = "Doctor, I have a fever."
say = words.say
LOCKS = [group for group in state.GROUPS if group not in state.ONLY_HIDDEN]
ALL = {"lock": ".".join(LOCKS), "hide": ".".join(state.GROUPS)}
GROUPED = [name for names in state.GROUPS.values() for name in names if name in state.TABLE] + list(state.AIMS)
# What stands in the links of these tests: of every group something, and nothing that is not there in a small model.
PRESET = {"s": SENTENCE, "token": "2", "other": "1", "floor": "2", "depth": "maths", "temperature": "80", "top_k": "20",
          "seed": "3", "written": "3", "branch": "1.5", "rank": "3", "arms": "dense", "bits": "int3"}  # fmt: skip
CHANGE = {"triage": "close_records", "department": "dismiss", "heads": "silence_heads"}


@pytest.fixture
def visit(monkeypatch, clinic_folder):
    """A visitor who opens a page by its link; the clinic is enough."""
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))
    return screens.open_page


@pytest.fixture
def tampered(monkeypatch):
    """A browser in which what is disabled can be used all the same; options are named by their words, in a tuple."""
    monkeypatch.setattr(element_tree.Widget, "_assert_can_interact", lambda self: None)
    usual = element_tree.ButtonGroup.formatted_values.fget
    named = property(lambda self: list(self._value) if isinstance(self._value, tuple) else usual(self))
    monkeypatch.setattr(element_tree.ButtonGroup, "formatted_values", named)


# -- the table and the link --------------------------------------------------------------------------------------------


def test_every_grouped_setting_is_one_and_is_in_one_group():
    names = [name for names in state.GROUPS.values() for name in names]
    assert len(set(names)) == len(names)
    axes = {"candidate"}  # stands for the setting branch
    assert set(names) - axes <= set(state.TABLE) and set(state.AIMS) <= set(state.TABLE)
    for lang in LANGUAGES:
        assert all(f"teacher.group.{group}" in words.tables()[lang] for group in state.GROUPS)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
some_settings = st.fixed_dictionaries(
    {},
    optional={
        "lang": st.sampled_from(LANGUAGES),
        "sentence": text,
        "token": st.integers(0, 999_999),
        "floor": st.integers(1, 999_999),
        "change": st.sampled_from(state.CHANGES),
        "k": st.integers(1, 16),
        "depth": st.sampled_from(["maths", "code"]),
        "branch": st.just("3.17-5.2"),
        "lock": st.sets(st.sampled_from(LOCKS), min_size=1).map(state.groups),
        "hide": st.sets(st.sampled_from(list(state.GROUPS)), min_size=1).map(state.groups),
    },
)


@given(some_settings, st.sampled_from(["", *NAMES[1:]]), st.sampled_from(["http://10.0.0.7:8501/", "https://a.example/b/"]))
def test_a_link_says_what_was_set(values, page, address):
    made = teacher.link(address, page, values)
    parts = urlsplit(made)
    assert made.startswith(address) and made.isascii() and teacher.root(made) == address
    assert Path(parts.path).name == page or not page
    assert state.from_link(dict(parse_qsl(parts.query, keep_blank_values=True))) == values


@given(st.lists(st.one_of(st.sampled_from([*state.GROUPS, "", "Sentence", "sentence ", "lang", "token"]), st.text(max_size=12))),
       st.sampled_from(["lock", "hide"]))  # fmt: skip
def test_groups_in_a_link_are_read_strictly(several, which):
    found = state.from_link({which: ".".join(several)}).get(which)
    known = state.GROUPS if which == "hide" else LOCKS
    wanted = [one for one in known if one in ".".join(several).split(".")]
    assert (found or "") == ".".join(wanted)
    assert found is None or state.TABLE[which].valid(found)


@pytest.mark.parametrize("bad", ["", ".", "pages", "answers", "pages.answers", "<script>", "sentence,floor", "x" * 5000, "\x00"])
def test_bad_locks_are_ignored(bad):
    assert state.from_link({"lock": bad}) == {}


@pytest.mark.parametrize("bad", ["", "2", "-1", "yes", "01x"])
def test_a_bad_projector_is_ignored(bad):
    assert state.from_link({"projector": bad}) == {}


@pytest.mark.parametrize("bad", [None, "floor.sentence", "sentence.sentence", "pages", "", 5, ["sentence"]])
def test_only_the_one_way_of_writing_a_lock_is_valid(bad):
    assert not state.TABLE["lock"].valid(bad)


@pytest.mark.parametrize("url,root", [
    ("http://h:8501", "http://h:8501/"), ("http://h:8501/", "http://h:8501/"), ("http://h/triage", "http://h/"),
    ("https://h/app/heads/?s=1", "https://h/app/"), ("https://x.streamlit.app/", "https://x.streamlit.app/"), (None, "/"),
])  # fmt: skip
def test_the_hospitals_own_address(url, root):
    assert teacher.root(url) == root


@pytest.mark.parametrize("typed,given", [
    ("192.168.0.3:8501", "http://192.168.0.3:8501/"), (" https://h.example/app/triage ", "https://h.example/app/"),
    ("http://[fe80::1]:80/", "http://[fe80::1]:80/"), ("javascript:alert(1)", None), ("http://a b", None), ("http://", None),
    ("http://x?y=1", "http://x/"), ("http://x/lesson?y=1#z", "http://x/"), ("http://h:99999", None), ("ftp://h", None), ("http://<b>", None), ("http://h/\"x", None),
])  # fmt: skip
def test_an_address_that_is_typed(typed, given):
    assert teacher.reachable(typed) == given


def test_which_addresses_lead_nowhere_else():
    assert all(map(teacher.alone, ["http://localhost:8501/", "http://127.0.0.1/", "http://[::1]:8501/"]))
    assert not any(map(teacher.alone, ["http://192.168.0.3:8501/", "https://localhost.example/"]))


# -- what is locked ----------------------------------------------------------------------------------------------------


def set_now(at: AppTest) -> dict[str, object]:
    """All that is locked; a room and a head only while something is changed about them."""
    now = {name: at.session_state[f"setting.{name}"] for name in GROUPED if f"setting.{name}" in at.session_state}
    return {name: value for name, value in now.items() if name not in state.AIMS or now.get("change")}


def busy_hands(monkeypatch) -> list[str]:
    """A browser that picks another value on every axis of every picture as soon as it is drawn, and goes through doors
    that are not there; what it tried."""
    tried: list[str] = []

    def hands(key, data, default, on_pick_change, on_go_change):
        picked = {name: 1 if value != 1 else 2 for name, value in data["picked"].items()}
        if picked:
            streamlit.session_state[key] = {"pick": {"page": data["page"], "number": data["heard"] + 1, **picked}}
            on_pick_change()
            tried.extend(picked)
        if state.hidden("pages"):  # where it is not, it would go there
            streamlit.session_state[key] = {"go": {"from": data["page"], "page": "glossary"}}
            on_go_change()

    def feet(key, data, default, on_pick_change):
        streamlit.session_state[key] = {"pick": {"id": data["id"], "number": data["heard"] + 1, "token": 1, "floor": 3,
                                                 "follow": "all", "room": 4}}  # fmt: skip
        on_pick_change()
        tried.append("building")

    monkeypatch.setattr(plates, "_component", hands)
    monkeypatch.setattr(building, "_component", feet)
    return tried


def widgets(at: AppTest) -> list:
    """Everything that can be used on the page, the answers to questions and what makes a link apart."""
    every = [*at.button, *at.toggle, *at.text_input, *at.button_group, *at.select_slider, *at.number_input, *at.selectbox]
    return [one for one in every if not str(one.key).startswith(("predict.", "teacher", "projector"))]


def use(at: AppTest, key: str, kind: str) -> AppTest:
    """Set a control to something else."""
    one = next(w for w in widgets(at) if w.key == key)
    if kind == "button":
        one.click()
    elif kind == "toggle":
        one.set_value(not one.value)
    elif kind == "text_input":
        one.set_value("Another sentence.")
    elif kind == "button_group":
        one.set_value((next(o for o in one.options if o not in one.formatted_values),))
    elif kind == "select_slider":
        one.set_value(next(v for v in map(float, one.options) if v != one.value))
    elif kind == "number_input":
        one.set_value(one.value + 1)
    else:
        one.select_index((one.index + 1) % len(one.options))
    return at.run()


def link_for(name: str) -> dict[str, str]:
    return {**PRESET, **({"change": CHANGE[name]} if name in CHANGE else {})}


# Every page whose controls belong to a group; of the others one a wing.
TOUCHED = [page for page in PAGES if page in WALK or Path(page).stem in (
    "hospitals", "miniatures", "beds", "queues", "ambulances", "cramming", "skill", "facts", "guide", "quiz")]  # fmt: skip


@pytest.mark.parametrize("page", TOUCHED, ids=lambda page: Path(page).stem)
def test_no_control_changes_what_is_locked(visit, tampered, page, monkeypatch):
    """Whatever is used, and whatever a browser says of the pictures, one control after the other."""
    begun: list[object] = []
    for runs in (live.Gym, fleet.Fleet):
        monkeypatch.setattr(runs, "start", lambda *given: begun.append(given))
    name = Path(page).stem
    at = visit(page, "en", lock=ALL["lock"], **link_for(name))
    assert fine(at)
    before = set_now(at)
    assert before["sentence"] == SENTENCE and before["token"] == 2 and before["lang"] == "en" and before["depth"] == "maths"
    for one in widgets(at):
        if one.key in ("discharge_write", "discharge_one"):
            continue  # how many tokens are written is not locked
        if one.key not in [w.key for w in widgets(at)]:
            continue  # what was used before took it away
        at = use(at, one.key, one.type)
        assert not at.exception and set_now(at) == before, one.key
        at = visit(page, "en", lock=ALL["lock"], **link_for(name)) if name in ("discharge",) else at
    tried = busy_hands(monkeypatch)
    at.run()
    assert not at.exception and set_now(at) == before, tried
    if page in WALK:
        assert tried
    assert begun == []


@pytest.mark.parametrize("page", WALK, ids=lambda page: Path(page).stem)
def test_the_same_hands_change_it_where_nothing_is_locked(visit, page, monkeypatch):
    """Or the test above would say nothing."""
    name = Path(page).stem
    at = visit(page, "en", **link_for(name))
    before = set_now(at)
    assert busy_hands(monkeypatch) == []
    at.run()
    assert set_now(at) != before


@pytest.mark.parametrize("group", LOCKS)
def test_one_lock_fixes_one_group(visit, group):
    """At the department: what is not locked goes on, what is locked is at rest, and the page says which."""
    at = visit("pages/department.py", "en", lock=group, s=SENTENCE, change="dismiss", room="1")
    assert fine(at)
    rests = {"sentence": at.text_input(key="sentence_box").proto.disabled,
             "depth": at.button_group(key="depth_switch").proto.disabled,
             "language": at.button_group(key="language_switch").proto.disabled,
             "change": at.button_group(key="change_switch").proto.disabled}  # fmt: skip
    assert rests == {name: name == group for name in rests}
    who = next(screens.sent(c) for c in at.get("bidi_component") if c.proto.component_name == "plates")
    assert ("token" in who["picks"]) == (group != "who") and ("floor" in who["picks"]) == (group != "floor")
    knobs = next(d for c in at.get("bidi_component") if c.proto.component_name == "plates"
                 and (d := screens.sent(c))["page"] == "department.knobs")  # fmt: skip
    assert ("room" in knobs["picks"]) == (group != "change")
    said = [one.value for one in at.caption if say("en", "teacher.fixed", what="") in one.value]
    assert len(said) == 1 and say("en", f"teacher.group.{group}") in said[0]
    assert sum(say("en", f"teacher.group.{other}") in said[0] for other in state.GROUPS) == 1


def test_a_room_may_be_looked_at_while_nothing_is_changed(visit):
    at = visit("pages/department.py", "en", lock="change", s=SENTENCE)
    data = [screens.sent(c) for c in at.get("bidi_component") if c.proto.component_name == "plates"]
    assert any("room" in one["picks"] for one in data)


def test_what_was_typed_into_a_locked_box_is_not_there_any_more(visit, tampered):
    at = visit("pages/triage.py", "zh", lock="sentence", s="我发烧。")
    at = at.text_input(key="sentence_box").set_value("面").run()
    assert fine(at) and at.text_input(key="sentence_box").value == "我发烧。" and at.query_params["s"] in ("我发烧。", ["我发烧。"])


def test_a_lesson_or_a_class_may_set_what_a_visitor_may_not(monkeypatch):
    kept: dict[str, object] = {"setting.lock": "floor.who"}
    monkeypatch.setattr(state.st, "session_state", kept)
    state.put("floor", 7)
    assert state.get("floor") is None
    state.place("floor", 7)
    assert state.get("floor") == 7
    state.put("floor", None)
    state.put("head", 3)
    assert state.get("floor") == 7 and state.get("head") == 3
    state.place("floor", 0)
    assert state.get("floor") == 7, "what is not valid is not taken by anybody"


def test_a_lock_stays_from_page_to_page(visit):
    at = visit("pages/triage.py", "en", lock="sentence", hide="answers", s=SENTENCE)
    at = at.switch_page("pages/heads.py").run()
    assert fine(at) and at.text_input(key="sentence_box").proto.disabled
    assert {name: at.query_params[name] for name in ("lock", "hide")} in ({"lock": "sentence", "hide": "answers"}, {"lock": ["sentence"], "hide": ["answers"]})
    links = re.findall(r"\(glossary\?(\S*)", "".join(one.value for one in at.markdown))
    assert links and all("lock=sentence" in one and "hide=answers" in one for one in links), "these open a visit of their own"


# -- what is left out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_what_is_left_out_is_not_there(visit, page):
    name = Path(page).stem
    at = visit(page, "zh", hide=ALL["hide"], **link_for(name))
    assert fine(at) and at.title[0].value == say("zh", f"{name}.title")
    keys = [str(one.key) for one in widgets(at)]
    gone = ("sentence_box", "example ", "outside ", "depth_switch", "language_switch", "change_switch", "triage.closed", "heads.switch",
            "beds.bits", "beds.coarse", "discharge_roll", "discharge_follow", "bank_switch", "arms_switch", "queues.arms", "queues.nudge",
            "miniatures.live", "live.", "fleet.")  # fmt: skip
    assert [key for key in keys if key.startswith(gone)] == []
    assert not [b for b in at.button if b.label == say("zh", "chapter.show_me")]
    if name != "guide":  # a teacher's own list of places
        assert not at.get("page_link"), "no way to another page"
    assert not re.search(r"\(glossary\?", "".join(one.value for one in at.markdown))
    hidden = {one for names in state.GROUPS.values() for one in names} | (set(state.AIMS) if name in CHANGE else set())
    for one in at.get("bidi_component"):
        if one.proto.component_name == "plates":
            data = screens.sent(one)
            assert not set(data["picks"]) & hidden
            assert not [p["id"] for p in data["plates"] if p["kind"] in plates.CHOOSERS and p["axes"][0]["name"] in hidden]
            assert not [card for p in data["plates"] for card in p.get("cards", []) if "door" in card]
        if one.proto.component_name == "building":
            data = screens.sent(one)
            assert set(data["gone"]) == {"token", "floor", "follow"} and "room" in data["fixed"]


@pytest.mark.parametrize("page", WALK, ids=lambda page: Path(page).stem)
def test_what_is_left_out_cannot_be_reached(visit, page, monkeypatch):
    """By a browser that sends it all the same: nothing is changed, and the page stays."""
    name = Path(page).stem
    at = visit(page, "en", hide=ALL["hide"], **link_for(name))
    before, tried = set_now(at), busy_hands(monkeypatch)
    at.run()
    assert fine(at) and tried and set_now(at) == before
    assert at.title[0].value == say("en", f"{name}.title") and "plates.go" not in at.session_state


def test_an_answer_cannot_be_had_for_nothing(visit):
    at = visit("pages/triage.py", "en", hide="answers", s=SENTENCE)
    guesses = [b for b in at.button if str(b.key).startswith("predict.")]
    assert len(guesses) == 2 and not any(str(b.key).endswith(".skip") for b in guesses)
    at = guesses[0].click().run()
    assert fine(at) and "triage.desk" in {key.rpartition(".")[0] for key in screens.shown(at)}
    assert not [b for b in at.button if str(b.key).startswith("predict.") and not b.proto.disabled]


# -- the projector -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", TOUCHED, ids=lambda page: Path(page).stem)
def test_a_projector_shows_pictures_and_their_sentences(visit, page):
    """No prose, no code, no bends, no doors; the heading, the sentence, the choosers and the same pictures."""
    usual, at = (visit(page, "en", s=SENTENCE, **more) for more in ({}, {"projector": 1}))
    assert fine(at) and at.title[0].value == usual.title[0].value
    assert [one for one in at.markdown if len(one.value) > 600] == []
    assert say("en", "chapter.bends") not in [one.value for one in at.subheader]
    assert any(b.key == "projector_leave" for b in at.button) and not any(b.key == "teacher_open" for b in at.button)
    if page in screens.READING:
        assert at.text_input(key="sentence_box").value == SENTENCE
    plain, large = (set(screens.shown(one)) for one in (usual, at))
    assert large == plain
    at = at.button(key="projector_leave").click().run()
    assert fine(at) and any(b.key == "teacher_open" for b in at.button) and "projector" not in at.query_params


@pytest.mark.parametrize("page,key", [("lobby", "lobby.count"), ("quiz", "quiz.made"), ("lesson", "lesson.give"), ("together", "together.how")])
@pytest.mark.parametrize("depth", state.DEPTHS)
def test_a_projector_shows_no_heading_over_nothing(visit, page, key, depth):
    """What is but words goes with its heading; equations are pictures."""
    for more in ({}, {"projector": 1}):
        at = visit(f"pages/{page}.py", "en", s=SENTENCE, depth=depth, **more)
        headed = any(one.value.startswith(f"### {say('en', f'{key}.title')}") for one in at.markdown)
        assert fine(at) and headed == (not more or depth == "maths")


# -- the code ----------------------------------------------------------------------------------------------------------


def pixels(drawn: qr.Code, each: int = 4) -> np.ndarray:
    """The code as a browser draws it: the path's rectangles, black on white."""
    image = np.full((drawn.size, drawn.size), 255, np.uint8)
    for x, y, n, back in re.findall(r"M(\d+) (\d+)h(\d+)v1h-(\d+)z", drawn.path):
        assert n == back
        image[int(y), int(x) : int(x) + int(n)] = 0
    return image.repeat(each, 0).repeat(each, 1)


@settings(max_examples=30, deadline=None)
@given(some_settings)
def test_a_code_says_its_link(values):
    made = teacher.link("http://192.168.0.10:8501/", "department", values)
    drawn = qr.code(made)
    assert drawn is not None
    image = pixels(drawn)
    assert [one.text for one in zxingcpp.read_barcodes(image, formats=zxingcpp.BarcodeFormat.QRCode)] == [made]
    edge = qr.QUIET * 4
    assert (image[:edge] == 255).all() and (image[-edge:] == 255).all() and (image[:, :edge] == 255).all() and (image[:, -edge:] == 255).all()


def test_what_is_too_long_has_no_code():
    assert qr.code("http://h/?s=" + "x" * 2900) is not None
    assert qr.code("http://h/?s=" + "x" * 3000) is None
    fine_one = qr.code("http://h/?s=" + "x" * 900)
    assert fine_one is not None and fine_one.version > teacher.DENSE


def test_the_script_knows_its_words():
    script = (shell.ROOT / "assets" / "qr" / "qr.js").read_text("utf-8")
    said = set(re.findall(r"words\.([a-z_]+)", script))
    assert said and all(f"qr.{key}" in words.tables()[lang] for key in said for lang in LANGUAGES)
