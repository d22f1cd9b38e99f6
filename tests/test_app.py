"""The lobby without a browser: state and link, the building's data, every bad input in both languages."""

from __future__ import annotations

import ast
import base64
import gc
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import screens
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from streamlit import config as streamlit_config
from streamlit.testing.v1 import AppTest

import model
from model.tokenizer import Piece, Tokenizer
from pages.kit import building, chapter, service, shell, state, words
from pages.kit.figures import lobby as figures

ROOT = Path(__file__).resolve().parents[1]
APP = str(ROOT / "app.py")
EXAMPLES = json.loads((ROOT / "assets" / "examples.json").read_text("utf-8"))
LANGUAGES = ["en", "zh"]
say = words.say


# -- state and link ----------------------------------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
some_values = st.fixed_dictionaries({}, optional={
    "lang": st.sampled_from(LANGUAGES), "sentence": text,
    "token": st.integers(0, 999_999), "floor": st.integers(1, 999_999), "room": st.integers(0, 999_999),
    "depth": st.sampled_from(["maths", "code"]), "follow": st.just("all"), "k": st.integers(1, 16),
})  # fmt: skip


@settings(deadline=None)
@given(some_values)
def test_link_round_trip(values):
    assert state.from_link(state.to_link(values)) == values


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([s.link for s in state.SETTINGS if s.link] + ["other"]), st.text(max_size=30)))
def test_any_link_gives_valid_settings_only(query):
    for name, value in state.from_link(query).items():
        assert state.TABLE[name].valid(value)


@pytest.mark.parametrize("query", [
    {"lang": "<script>"}, {"token": "-1"}, {"token": "1e9"}, {"token": "٣"}, {"token": "99999999999999999"},
    {"follow": "nobody"}, {"depth": "deep"}, {"k": "0"}, {"k": "17"}, {"room": "-1"},
    {"floor": "0"}, {"floor": ""}, {"floor": "5.5"}, {"s": "x" * (state.MAX_CHARS + 1)}, {"s": "\ud800"},
])  # fmt: skip
def test_bad_link_values_are_left_out(query):
    assert state.from_link(query) == {}


def test_what_has_its_default_is_left_out_of_the_link():
    assert state.to_link({"depth": "story", "follow": "one", "token": None, "lang": "en"}) == {"lang": "en"}


def test_a_text_that_no_address_can_hold_is_left_out_of_the_link():
    known = Tokenizer.load()
    longest = max(len(known.decode([one]).encode()) for one in range(known.vocab_size))
    assert longest * model.MAX_TOKENS <= state.MAX_LINKED, "what is admitted is linked"
    for much in ("x" * state.MAX_LINKED, "长" * (state.MAX_LINKED // 3)):
        assert state.to_link({"sentence": much}) == {"s": much}
        assert state.to_link({"sentence": much + "长", "floor": 7}) == {"floor": "7"}


def test_the_table_is_sound():
    assert len({s.name for s in state.SETTINGS}) == len(state.SETTINGS)
    links = [s.link for s in state.SETTINGS if s.link]
    assert len(set(links)) == len(links) and not {"embed", "embed_options"} & set(links)


def test_settings_that_decide_the_speed():
    assert streamlit_config.get_option("runner.postScriptGC") is False
    assert streamlit_config.get_option("server.fileWatcherType") == "none"


# -- what a token looks like -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw,shown", [
    (" noodles", "␣noodles"), ("\x00", "␀"), ("\x7f", "␡"), ("\u202e", "U+202E"), ("\u0301", "◌\u0301"), ("面", "面"),
    ("\n", "⏎"), ("<b>", "<b>"), ("👩", "👩"),
])  # fmt: skip
def test_visible(raw, shown):
    assert building.visible(raw) == shown


def test_part_of_a_character_keeps_its_label():
    assert building.shown(Piece(1, "面 1/3", is_partial=True)) == "面 1/3"
    assert building.shown(Piece(1, "\u200d 1–2/3", is_partial=True)) == "U+200D 1–2/3"
    assert building.shown(Piece(1, " of")) == "␣of"


def test_names_that_look_alike_are_told_apart():
    assert building.apart(["\uff1f", "?", "a", "␣a"]) == ["\uff1f (U+FF1F)", "? (U+003F)", "a", "␣a"]


@given(st.text(max_size=20))
def test_visible_leaves_nothing_that_disturbs(raw):
    assert not any(c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\n\r\x00" for c in building.visible(raw))


# -- the building's data -----------------------------------------------------------------------------------------------


def unpack(data, m_count):
    kind = np.uint16 if data["wide"] else np.uint8
    t = len(data["tokens"])
    chosen = np.frombuffer(base64.b64decode(data["chosen"]), kind).reshape(t, m_count, -1)
    weights = np.frombuffer(base64.b64decode(data["weights"]), np.uint8).reshape(t, m_count, -1)
    kept = np.frombuffer(base64.b64decode(data["kept"]), np.uint8).reshape(t, m_count, -1)
    return chosen, weights, np.unpackbits(kept, axis=2, bitorder="little")


@pytest.mark.parametrize("shape", ["hospital", "clinic"])
def test_data_says_what_the_trace_says(shape, request):
    live = model.load(request.getfixturevalue(f"{shape}_folder"))
    trace = live.trace("Doctor, 我发烧。 It hurts.")
    c, token = live.config, 3
    data = building.data(trace, live.tokenizer, token, 2)
    json.dumps(data)
    chosen, weights, kept = unpack(data, c.num_moe_layers)
    assert (chosen == trace.chosen.transpose(0, 1).numpy()).all()
    assert np.abs(weights / 255 * data["brightest"] - trace.weights.transpose(0, 1).numpy()).max() < 0.01
    groups = kept[:, :, : c.n_group]
    assert (groups.sum(2) == c.topk_group).all() and not kept[:, :, c.n_group :].any()
    for m in range(c.num_moe_layers):
        assert set(np.flatnonzero(groups[token, m])) == set(trace.kept_groups[m, token].tolist())
    size = c.n_routed_experts // c.n_group
    assert np.take_along_axis(groups, (chosen // size).astype(np.int64), 2).all(), "lit rooms lie in open corridors"
    detail = data["detail"]
    scores = np.frombuffer(base64.b64decode(detail["scores"]), np.uint16).reshape(c.num_moe_layers, -1) / 65535
    assert np.abs(scores - trace.scores[:, token].numpy()).max() < 1e-4
    low, high = detail["bias_range"]
    bias = np.frombuffer(base64.b64decode(detail["bias"]), np.uint16).reshape(scores.shape) / 65535 * (high - low) + low
    assert np.abs(bias - (trace.choice_scores - trace.scores)[:, token].numpy()).max() < 1e-3
    assert np.allclose(np.sum(detail["weights"], 1), c.routed_scaling_factor, atol=1e-3)
    assert [n["probability"] for n in detail["next"]] == pytest.approx([p for _, p in trace.top(token, 5)])
    assert data["counts"]["per_token"] == c.experts_per_token == trace.experts_per_token
    woken = [len(set(trace.chosen[m].flatten().tolist())) for m in range(c.num_moe_layers)]
    assert data["counts"]["touched"] == sum(woken)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_data_for_64_tokens_stays_small(hospital_folder, lang):
    """All that is sent, words included."""
    live = model.load(hospital_folder)
    sentence = ""
    while len(live.encode(sentence + EXAMPLES[lang][1])) <= 64:
        sentence += EXAMPLES[lang][1]
    while len(live.encode(sentence)) < 64:
        sentence += "."
    trace = live.trace(sentence)
    assert len(trace.ids) == 64
    sent = {**building.data(trace, live.tokenizer, 1, 30, follow="all"), "words": {
        key: text for key, text in words.tables()[lang].items() if key.startswith("building.")}}  # fmt: skip
    assert len(json.dumps(sent)) < 200_000


def test_data_says_nothing_that_is_to_be_guessed(hospital_folder):
    live = model.load(hospital_folder)
    trace = live.trace(EXAMPLES["en"][0])
    untold = building.data(trace, live.tokenizer, 1, 1, told=False)["counts"]
    assert untold["touched"] is None and untold["weights_touched"] is None
    assert building.data(trace, live.tokenizer, 1, 1)["counts"]["touched"] == trace.experts_touched


@pytest.mark.parametrize("lang,sentence,token", [
    ("en", "Shall we go?", "go"), ("en", "Doctor", "Doctor"), ("en", "Room 12!", None), ("zh", "我发烧。", None), ("en", "?!", None),
])  # fmt: skip
def test_whom_a_visit_follows_first(hospital_folder, lang, sentence, token):
    live = model.load(hospital_folder)
    pieces = building.pieces(live.tokenizer, live.trace(sentence).ids)
    followed = pieces[chapter.usual_token(pieces)]["text"]
    assert followed.lstrip("␣") == (token or followed.lstrip("␣"))
    has_word = any(c.isalnum() for c in sentence)
    assert any(c.isalnum() for c in followed) == has_word
    after = pieces[chapter.usual_token(pieces) + 1:]
    assert not any(c.isalnum() for piece in after for c in piece["text"])


# -- the service -------------------------------------------------------------------------------------------------------


class Seen:
    """Something in place of a trace."""

    def __init__(self):
        self.scores = torch.zeros(1000)


class Slow:
    config = tokenizer = None

    def __init__(self):
        self.calls = 0

    def trace(self, text, interventions=None):
        self.calls += 1
        time.sleep(0.2)
        if text == "bad":
            raise model.UserError("No.", "empty_text")
        return Seen()


def test_equal_sentences_are_computed_once_for_everybody():
    house, answers = service.Hospital(slow := Slow()), []
    people = [threading.Thread(target=lambda: answers.append(house.trace("same"))) for _ in range(8)]
    [p.start() for p in people]
    [p.join() for p in people]
    assert slow.calls == 1 and len({id(a) for a in answers}) == 1 and len(answers) == 8
    assert house.trace("same") is answers[0]


def test_mistakes_are_not_kept():
    house = service.Hospital(slow := Slow())
    for _ in range(2):
        with pytest.raises(model.UserError):
            house.trace("bad")
    assert slow.calls == 2


def test_who_waits_too_long_is_told(monkeypatch):
    monkeypatch.setattr(service, "PATIENCE", 0.02)
    house = service.Hospital(Slow())
    for n in range(service.PASSES_AT_ONCE):
        threading.Thread(target=house.trace, args=(str(n),)).start()
    time.sleep(0.05)
    with pytest.raises(model.UserError) as caught:
        house.trace("late")
    assert caught.value.key == "busy"


def test_kept_traces_are_bounded(monkeypatch):
    monkeypatch.setattr(service, "KEPT_TRACES", 3)
    house = service.Hospital(Slow())
    monkeypatch.setattr(time, "sleep", lambda _: None)
    for n in range(9):
        house.trace(str(n))
    assert len(house._kept) == 3
    monkeypatch.setattr(service, "KEPT_BYTES", 5000)
    house.trace("x")
    assert len(house._kept) == 1


def test_what_somebody_looks_at_is_found_again_and_then_forgotten(monkeypatch):
    monkeypatch.setattr(service, "KEPT_TRACES", 1)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    house = service.Hospital(slow := Slow())
    mine = house.trace("mine")
    for n in range(4):
        house.trace(str(n))
    assert house.trace("mine") is mine and slow.calls == 5 and len(house._kept) == 1
    del mine
    gc.collect()
    house.trace("mine")
    assert slow.calls == 6


def test_a_visitor_s_own_trace_outlives_the_others(app, monkeypatch):
    at = app("en", s="Doctor, I have a fever.")
    house = service.hospital()
    monkeypatch.setattr(service, "KEPT_TRACES", 1)
    for n in range(3):
        house.trace(f"Somebody else {n}.")
    (held,) = at.session_state["chapter.held"]
    assert house.trace("Doctor, I have a fever.") is held


def test_bytes_of_a_real_trace_are_counted(clinic_folder):
    trace = model.load(clinic_folder).trace("Doctor")
    assert service.tensor_bytes(vars(trace).values()) >= trace.scores.nbytes + trace.logits.nbytes + trace.hidden.nbytes


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def app(monkeypatch, clinic_folder):
    """A visitor; `app(lang)` opens the lobby. The clinic is enough, and shows that no shape is built in."""
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))

    def open_lobby(lang="en", checkpoint=None, locale=None, **query):
        if checkpoint is not None:
            monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(checkpoint))
        at = AppTest.from_file(APP, default_timeout=60)
        if locale:
            at.context = {"locale": locale}
        else:
            at.query_params["lang"] = lang
        for name, value in query.items():
            at.query_params[name] = value
        return at.run()

    return open_lobby


def picture(at):
    found = [c for c in at.get("bidi_component") if c.proto.component_name == "building"]
    return screens.sent(found[0]) if found else None


def tokens(at):
    return "".join(piece["text"] for piece in picture(at)["tokens"] if not piece["special"]).replace("␣", " ")


def link(at):
    return {k: v[0] if isinstance(v, list) else v for k, v in at.query_params.items()}


def fine(at):
    return not at.exception and not at.error


@pytest.mark.parametrize("lang", LANGUAGES)
def test_first_visit(app, lang):
    at = app(lang)
    assert fine(at) and at.title[0].value == say(lang, "lobby.title")
    assert tokens(at) == EXAMPLES[lang][0]
    shown = picture(at)
    followed = shown["tokens"][shown["token"]]["text"]
    assert followed.lstrip("␣") == {"en": "tomorrow", "zh": "吧"}[lang], "a word, not the mark after it"
    assert shown["floor"] == shown["shape"]["floors"] == 4 and shown["follow"] == "one"
    assert shown["counts"]["per_token"] == 3 * (4 + 1) and len(shown["detail"]["next"]) == 5
    assert shown["words"]["play"] == say(lang, "building.play")


@pytest.mark.parametrize("locale,lang", [("zh-CN", "zh"), ("zh-TW", "zh"), ("en-GB", "en"), ("ms-MY", "en")])
def test_language_of_the_browser(app, locale, lang):
    at = app(locale=locale)
    assert at.title[0].value == say(lang, "lobby.title") and link(at)["lang"] == lang


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("sentence", EXAMPLES["zh"] + EXAMPLES["en"])
def test_every_example_in_both_languages(app, lang, sentence):
    at = app(lang)
    at.pills(key="examples").set_value(sentence).run()
    assert fine(at) and tokens(at) == sentence and at.text_input[0].value == sentence
    assert link(at) == {"lang": lang, "s": sentence}


def test_switching_the_language_keeps_the_sentence(app):
    at = app("en")
    at.text_input[0].set_value("I have a fever.").run()
    at.segmented_control(key="language_switch").set_value("zh").run()
    assert fine(at) and at.title[0].value == say("zh", "lobby.title") and tokens(at) == "I have a fever."
    assert link(at) == {"lang": "zh", "s": "I have a fever."}


def test_link_opens_the_same_state(app):
    wanted = {"s": "Doctor, I have a fever.", "token": "2", "floor": "3", "follow": "all", "depth": "maths"}
    at = app("zh", **wanted)
    shown = picture(at)
    assert (shown["token"], shown["floor"], shown["follow"]) == (2, 3, "all") and tokens(at) == wanted["s"]
    assert link(at) == {"lang": "zh", **wanted} and at.latex


@pytest.mark.parametrize("query", [{"token": "999"}, {"floor": "62"}, {"token": "<b>"}, {"floor": "-3"}])
def test_link_with_impossible_places(app, query):
    at = app("en", s="Doctor", **query)
    shown = picture(at)
    assert fine(at) and shown["token"] == len(shown["tokens"]) - 1 and shown["floor"] == 4


def test_a_link_that_is_behind_does_not_undo_what_was_typed(app):
    """Typing faster than the browser's address follows: the run arrives with an older link."""
    at = app("en", s="Doctor")
    at.session_state["link"] = {"lang": "en", "s": "Doctor", "token": "1"}  # written, but not yet in the address bar
    at.text_input[0].set_value("Noodles").run()
    assert tokens(at) == "Noodles" and link(at) == {"lang": "en", "s": "Noodles"}


def test_other_parameters_of_the_link_stay(app):
    at = app("en", s="Doctor", class_="3b")
    at.text_input[0].set_value("Noodles").run()
    assert link(at) == {"lang": "en", "s": "Noodles", "class_": "3b"}


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("bad,key,values", [
    ("", "empty_text", {}), ("   \t ", "empty_text", {}), ("\u3000", "empty_text", {}),
    ("面 " * 400, "too_long", {"limit": model.MAX_TOKENS}),
], ids=["empty", "blank", "wide blank", "long"])  # fmt: skip
def test_text_that_is_refused(app, lang, bad, key, values):
    at = app(lang)
    before = picture(at)["id"]
    at.text_input[0].set_value(bad).run()
    assert not at.exception and len(at.error) == 1
    if key == "too_long":
        values = {**values, "count": 800}
        assert f"{model.MAX_TOKENS}" in at.error[0].value
    else:
        assert at.error[0].value.replace("\\", "") == say(lang, f"error.{key}", **values)
    assert at.text_input[0].value == bad, "the text stays"
    assert picture(at)["id"] == before, "the last good picture stays"
    assert at.caption[0].value == say(lang, "chapter.last_good")
    at.text_input[0].set_value("Doctor").run()
    assert fine(at) and tokens(at) == "Doctor"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_text_that_the_box_does_not_take_is_refused_in_words(app, lang):
    at = app(lang, s="Doctor")
    at.text_input[0].set_value("x" * (state.MAX_CHARS + 1)).run()
    said = say(lang, "error.too_many_signs", count=state.MAX_CHARS + 1, limit=state.MAX_CHARS)
    assert not at.exception and [one.value for one in at.error] == [said]
    assert link(at)["s"] == "Doctor" and tokens(at) == "Doctor" and at.text_input[0].value == "Doctor"
    at.text_input[0].set_value("Noodles").run()
    assert fine(at) and tokens(at) == "Noodles"


@pytest.mark.parametrize("odd", [
    "a\x00b\x07c", "\x1b[31mred", "שלום עולם", "\u202eevil", "👩‍👩‍👧 🏥", "e\u0301\u0301\u0301",
    "<b>bold</b><script>alert(1)</script>",
    "![x](http://example.org/x.png) **bold** $x^2$ :red[red]", "{count} %s {0}",
    "<｜begin▁of▁sentence｜>", "\ufeff面", "\U0010ffff",
], ids=range(12))  # fmt: skip
def test_odd_text_is_admitted_as_it_is(app, odd):
    at = app("en")
    at.text_input[0].set_value(odd).run()
    assert fine(at) and at.text_input[0].value == odd
    assert all(piece["text"] for piece in picture(at)["tokens"])
    everything_else = [m.value for m in at.markdown] + [c.value for c in at.caption]
    assert not any(odd in words_on_page for words_on_page in everything_else)


def test_half_a_character_is_refused_in_words(clinic_folder):
    house = service.Hospital(model.load(clinic_folder))
    with pytest.raises(model.UserError) as caught:
        house.trace("a\ud800")
    assert caught.value.key == "not_text" and say("zh", "error.not_text")


def damage(folder: Path, target: Path, how: str) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    weights = target / "model.safetensors"
    if how == "no folder":
        return target / "nowhere"
    if how == "no weights":
        weights.unlink()
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    if how == "bit flipped in the header":
        data = bytearray(weights.read_bytes())
        data[20] ^= 0x80
        weights.write_bytes(bytes(data))
    if how == "another architecture":
        config = json.loads((target / "config.json").read_text())
        (target / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    if how == "config is no JSON":
        (target / "config.json").write_text("{")
    if how == "tokenizer is no JSON":
        (target / "tokenizer.json").write_text("{")
    return target


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("how,key", [
    ("no folder", "checkpoint_missing"), ("no weights", "checkpoint_missing"), ("truncated", "checkpoint_damaged"),
    ("bit flipped in the header", "checkpoint_damaged"), ("another architecture", "other_architecture"),
    ("config is no JSON", None), ("tokenizer is no JSON", "checkpoint_damaged"),
])  # fmt: skip
def test_checkpoint_that_cannot_be_used(app, clinic_folder, tmp_path, lang, how, key):
    at = app(lang, damage(clinic_folder, tmp_path / "copy", how))
    assert not at.exception and len(at.error) == 1 and picture(at) is None
    sentence = at.error[0].value.replace("\\", "")
    if key:
        assert sentence == say(lang, f"error.{key}", folder="nowhere" if how == "no folder" else "copy")
    assert "Traceback" not in sentence and str(tmp_path) not in sentence
    assert at.title[0].value == say(lang, "lobby.title") and at.text_input[0].value == EXAMPLES[lang][0]


def test_an_unexpected_failure_is_a_sentence_too(app, monkeypatch):
    at = app("zh")
    before = picture(at)["id"]

    real = service.Hospital.trace

    def fail(self, text, *more):
        if text == "new":
            raise RuntimeError("inside")
        return real(self, text, *more)

    monkeypatch.setattr(service.Hospital, "trace", fail)
    at.text_input[0].set_value("new").run()
    assert not at.exception and at.error[0].value.replace("\\", "") == say("zh", "error.unknown")
    assert picture(at)["id"] == before


@pytest.mark.cold
def test_first_visitor_of_a_fresh_process(app):
    at = app("zh")
    at.switch_page("pages/lobby.py").run()
    assert not at.exception and at.title[0].value == say("zh", "lobby.title")


# -- under the building ------------------------------------------------------------------------------------------------


def everything(at):
    shown = [*at.markdown, *at.subheader, *at.caption, *at.latex, *at.code]
    return " ".join(element.value.replace("\\", "") for element in shown)


def plate(at, page, id):
    for one in at.get("bidi_component"):
        data = screens.sent(one) if one.proto.component_name == "plates" else {}
        for drawn in data.get("plates", []) if data.get("page") == page else []:
            if drawn["id"] == id:
                return drawn
    return None


def answer(at, option):
    """Press the button of the question: 0 to 2, or "skip"."""
    at.button(key=next(b.key for b in at.button if b.key.startswith("predict.lobby.woken.") and b.key.endswith(f".{option}"))).click()
    return at.run()


def called(trace, token):
    """(floor, room) of every intern that a token called, read one by one."""
    return {(m, room) for m in range(trace.chosen.shape[0]) for room in trace.chosen[m, token].tolist()}


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
def test_every_depth_says_the_traces_numbers(app, hospital_folder, lang, depth):
    at = app(lang, hospital_folder, s="Doctor, I have a fever.", depth=depth)
    assert fine(at)
    trace = model.load(hospital_folder).trace("Doctor, I have a fever.")
    token, said = picture(at)["token"], everything(at)
    mine, others = called(trace, token), called(trace, token - 1)
    assert f"{58 * 9}" in said and f"{len(mine)}" in said and f"{len(mine & others)}" in said
    assert f"{len(trace.ids) * 464:,}" in said.replace("{,}", ",")
    if depth == "code":
        assert "def experts_per_token" in said and "def experts_touched" in said
    assert bool(at.latex) == (depth == "maths") and bool(at.code) == (depth == "code")


def test_the_answer_is_not_given_away_and_then_it_is(app, hospital_folder):
    sentence = "Doctor, I have a fever."
    at = app("en", hospital_folder, s=sentence)
    trace = model.load(hospital_folder).trace(sentence)
    woken = set.union(*(called(trace, t) for t in range(len(trace.ids))))
    number = f"{len(woken):,}"
    assert number not in everything(at) and picture(at)["counts"]["touched"] is None and plate(at, "lobby.whole", "growth") is None
    options = figures.ranges(figures.Crowd(len(trace.ids), 58, 8, 464, len(trace.ids) * 464, 14848))
    right = next(i for i, (low, high) in enumerate(options) if low <= len(woken) <= high)
    assert [high + 1 for _, high in options[:-1]] == [low for low, _ in options[1:]], "no gap, no overlap"
    answer(at, right)
    assert fine(at) and number in everything(at) and say("en", "chapter.right") in everything(at)
    assert picture(at)["counts"]["touched"] == len(woken)
    awake = np.frombuffer(base64.b64decode(plate(at, "lobby.whole", "growth")["series"][0]["values"]), np.float32)
    assert awake.tolist() == [len(set.union(*(called(trace, t) for t in range(n + 1)))) for n in range(len(trace.ids))]
    at.text_input[0].set_value("Doctor, I have a cold.").run()
    assert picture(at)["counts"]["touched"] is None, "another sentence is another question"
    answer(at, "skip")
    now = model.load(hospital_folder).trace("Doctor, I have a cold.")
    both = woken & set.union(*(called(now, t) for t in range(len(now.ids))))
    assert plate(at, "lobby.touch", "woken")["values_list"] == [len(woken), now.experts_touched, len(both)]


@pytest.mark.parametrize("sentence", ["医", "a " * 255])
@pytest.mark.parametrize("token", ["0", None])
def test_one_token_and_256(app, hospital_folder, sentence, token):
    at = app("zh", hospital_folder, s=sentence, follow="all", **({"token": token} if token else {}))
    assert fine(at)
    answer(at, "skip")
    assert fine(at) and picture(at)["counts"]["touched"]


@given(st.integers(1, 256), st.integers(1, 20), st.integers(1, 16))
def test_ranges_cover_what_can_be(patients, departments, chosen):
    own, experts = departments * chosen, departments * 16
    crowd = figures.Crowd(patients, departments, chosen, own, min(patients * own, experts), experts)
    found = figures.ranges(crowd)
    if crowd.most - crowd.own < 3:
        assert found == []
    else:
        assert [n for low, high in found for n in range(low, high + 1)] == list(range(crowd.own, crowd.most + 1))


def test_the_page_stands_before_torch_is_loaded():
    """Whoever comes first sees the sentence while the model opens: what the lobby imports at once brings no torch in."""
    page = ast.parse((ROOT / "pages" / "lobby.py").read_text("utf-8"))
    imports = "; ".join(ast.unparse(node) for node in page.body if isinstance(node, ast.Import | ast.ImportFrom))
    code = f"import sys; {imports}; sys.exit('torch' in sys.modules)"
    assert "pages.kit" in code and subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_every_page_has_its_name_and_the_products_in_the_tab(app, monkeypatch):
    titles = []
    monkeypatch.setattr(shell.st, "set_page_config", lambda **given: titles.append(given.get("page_title")))
    app("zh")
    assert titles[-1] == "大厅 · 词元医院"


# -- what the browser is told ------------------------------------------------------------------------------------------


class Browser:
    """Stands in for the component: remembers what it was sent, and picks."""

    def __init__(self, monkeypatch):
        self.sent, self.session = [], {}
        monkeypatch.setattr(building, "_component", self.draw)
        monkeypatch.setattr(building.st, "session_state", self.session)

    def draw(self, key, data, default, on_pick_change):
        self.sent.append(data)
        self.heard = on_pick_change
        self.session.setdefault(key, {"pick": None})

    def pick(self, **pick):
        self.session[building.KEY] = {"pick": {"id": "x", "room": None, **pick}}
        self.heard()


@pytest.fixture
def desk(monkeypatch):
    """The component's other end, and the places that the page heard of."""
    browser, picks = Browser(monkeypatch), []

    def show(token=1, floor=61, follow="one", id="x"):
        building.mount({"id": id, "token": token, "floor": floor, "follow": follow, "counts": {"touched": None},
                        "shape": {"floors": 61}},
                       lambda *pick: picks.append(pick))  # fmt: skip
        return browser.sent[-1]

    return browser, show, picks


def test_a_choice_in_the_browser_is_not_sent_back(desk):
    browser, show, picks = desk
    first = show()
    browser.pick(token=1, floor=30, follow="all", number=1)
    assert picks == [(1, 30, "all", None)] and show(floor=30, follow="all") == first


def test_at_the_top_nobody_has_chosen_a_floor(desk):
    """Where the walk ends: other pages open the floor that they would. A room's door is on its floor all the same."""
    browser, show, picks = desk
    show()
    browser.pick(token=2, floor=61, follow="one", number=1)
    browser.pick(token=2, floor=61, follow="one", room=9, number=2)
    assert picks == [(2, None, "one", None), (2, 61, "one", 9)]


def test_going_back_in_the_browser_moves_the_patient(desk):
    """The floor is then another than the browser knows: it is told, in whatever language."""
    browser, show, _ = desk
    first = show()
    browser.pick(token=1, floor=30, follow="one", number=1)
    show(floor=30)
    back = show(floor=61)
    assert back["floor"] == 61 and back["placed"] == first["placed"] + 1 and back["heard"] == 1
    browser.pick(token=1, floor=30, follow="one", number=2)
    assert show(floor=30)["placed"] == back["placed"]


def test_a_choice_that_a_class_undoes_is_undone_in_the_browser(desk):
    """The page shows another patient than the one chosen, who was there before: the browser hears of it."""
    browser, show, _ = desk
    first = show()
    browser.pick(token=5, floor=61, follow="one", number=1)
    back = show(token=1)
    assert back != first and (back["token"], back["heard"]) == (1, 1) and back["placed"] == first["placed"]
    browser.pick(token=5, floor=61, follow="one", number=2)
    there = show(token=5)
    assert (there["token"], there["heard"]) == (5, 2) and show(token=5) == there


def test_a_choice_that_is_told_again_is_old(desk):
    """As by a house that had gone and is back with what it last said."""
    browser, show, picks = desk
    show()
    browser.pick(token=1, floor=30, follow="one", number=1)
    show(floor=9)
    browser.pick(token=1, floor=30, follow="one", number=1)
    assert len(picks) == 1
    browser.pick(token=1, floor=30, follow="one", number=2)
    assert len(picks) == 2


@pytest.mark.parametrize("pick", [
    {"token": "1", "floor": 3, "follow": "one", "number": 1}, {"token": 1, "floor": 3.5, "follow": "one", "number": 1},
    {"token": 1, "floor": 3, "follow": None, "number": 1}, {"token": 1, "floor": 3, "follow": "one", "number": True},
    {"token": 1, "floor": 3, "follow": "one", "number": 1, "room": "9"}, {"id": "y", "token": 1, "floor": 3, "follow": "one", "number": 1},
])  # fmt: skip
def test_picks_that_are_none(desk, pick):
    browser, show, picks = desk
    show()
    browser.pick(**pick)
    assert picks == []


def test_a_door_leads_to_the_department(app, monkeypatch, clinic_folder):
    """What the browser reports for a click on a room."""
    gone = []
    monkeypatch.setattr(shell.st, "switch_page", gone.append)
    at = app("en", s="Doctor")
    at.session_state["lobby.go"] = True
    at.run()
    assert gone == ["pages/department.py"] and fine(at)
    at.run()
    assert gone == ["pages/department.py"], "once"


@settings(max_examples=15, deadline=None)
@given(raw=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_any_text_gives_a_picture_or_a_sentence(raw, clinic_folder):
    house = service.Hospital(model.load(clinic_folder))
    try:
        trace = house.trace(raw)
    except model.UserError as error:
        assert error.key in ("empty_text", "too_long")
    else:
        json.dumps(building.data(trace, house.tokenizer, 0, 1))
