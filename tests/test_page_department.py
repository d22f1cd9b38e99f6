"""The page of the department: its numbers against the trace, computed another way, and what a person does on it."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import screens
import torch
from screens import LANGUAGES, fine, prose, shown, values
from streamlit.testing.v1 import AppTest

import model
from model import Interventions
from pages.kit import chapter, plates, service, state, words
from pages.kit.chapter import number, percent
from pages.kit.figures import common, department

ROOT = Path(__file__).resolve().parents[1]
PAGE = "pages/department.py"
SENTENCE = "Doctor, I have a fever. Doctor, it hurts."
LONG = "面" * model.MAX_TOKENS


@pytest.fixture(scope="module", params=["clinic", "hospital"])
def house(request) -> service.Hospital:
    return service.Hospital(model.load(request.getfixturevalue(f"{request.param}_folder")))


@pytest.fixture
def look(house):
    """A visit without a screen; `floor` counts from the first department."""

    def at(token: int = 6, department: int = 1, text: str = SENTENCE) -> chapter.Visit:
        floor = house.config.first_k_dense_replace + 1 + department
        return screens.visit(house, "department", text, token, floor)

    return at


@pytest.fixture
def app(monkeypatch, clinic_folder):
    """A visitor who opens the page by its link."""
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))

    def open_page(lang: str = "en", checkpoint: Path | None = None, **query: str) -> AppTest:
        if checkpoint is not None:
            monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(checkpoint))
        return screens.open_page(PAGE, lang, **{"s": SENTENCE, **query})

    return open_page


def lit(plate: dict) -> list[int]:
    return np.flatnonzero(np.frombuffer(base64.b64decode(plate["mask"]), np.uint8) & plates.LIT).tolist()


def closed(plate: dict) -> set[int]:
    return set(np.flatnonzero(np.frombuffer(base64.b64decode(plate["mask"]), np.uint8) & plates.CLOSED).tolist())


def choose_by_hand(numbers: list[float], groups: int, keep: int, k: int) -> tuple[list[int], list[int]]:
    """Open corridors and called rooms from what is chosen by, with sorted lists only."""
    size = len(numbers) // groups
    sums = [sum(sorted(numbers[g * size : (g + 1) * size])[-2:]) for g in range(groups)]
    opened = sorted(range(groups), key=lambda g: -sums[g])[:keep]
    rooms = [room for room in range(len(numbers)) if room // size in opened]
    return sorted(opened), sorted(rooms, key=lambda room: -numbers[room])[:k]


# -- the receptionist --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token,place", [(6, 1), (1, 0), (9, 2), (0, 1)])
def test_every_step_by_hand(look, token, place):
    """From logits and boards alone, in float64, one room at a time."""
    visit = look(token, place)
    c, d = visit.trace.config, department.desk(visit)
    bias = visit.house.live.engine.layers[visit.layer].bias.double().tolist()
    scores = [1 / (1 + np.exp(-x)) for x in visit.trace.router_logits[place, token].double().tolist()]
    assert d.scores.tolist() == pytest.approx(scores, abs=1e-6) and d.board.tolist() == pytest.approx(bias, abs=1e-6)
    opened, called = choose_by_hand(
        [s + b for s, b in zip(scores, bias, strict=True)], c.n_group, c.topk_group, c.num_experts_per_tok
    )
    assert (d.open, d.called) == (opened, called)
    share = [scores[room] / sum(scores[r] for r in called) for room in called]
    assert d.weights == pytest.approx([c.routed_scaling_factor * s for s in share], abs=1e-5)
    assert d.room == called[int(np.argmax(share))]

    rooms, weights = department.rooms(visit, d), department.weights(visit, d)
    size = c.n_routed_experts // c.n_group
    assert lit(rooms) == lit(weights) == sorted(called)
    assert closed(rooms) == {r for r in range(c.n_routed_experts) if r // size not in opened}
    assert values(weights).sum() == pytest.approx(c.routed_scaling_factor, abs=1e-5)
    assert f"**{words.say('en', 'department.comma').join(map(str, sorted(called)))}**" in rooms["note"]
    pairs = department.pairs(visit, d)
    best = [sorted(range(g * size, (g + 1) * size), key=lambda r: -(scores[r] + bias[r]))[:2] for g in range(c.n_group)]
    assert lit(pairs) == sorted(room for two in best for room in two)
    table = department.called(visit, d)
    assert table["axes"][0]["indices"] == called
    for row, room, part in zip(table["cells"], called, share, strict=True):
        assert row[0] == "ABCDEFGH"[room // size]
        assert row[2:] == pytest.approx(
            [scores[room], bias[room], scores[room] + bias[room], part, part * c.routed_scaling_factor], abs=1e-5
        )


def test_who_is_kept_out_by_a_closed_corridor(look):
    seen = set()
    for token in range(10):
        for place in range(3):
            visit = look(token, place)
            d, c = department.desk(visit), visit.trace.config
            size = c.n_routed_experts // c.n_group
            behind = [r for r in range(c.n_routed_experts) if r // size not in d.open]
            best = max(behind, key=lambda r: float(d.choice[r]))
            assert department.missed(visit, d) == best
            key = "better" if float(d.choice[best]) > float(d.choice[d.called[-1]]) else "worse"
            said = words.say("en", f"department.rooms.{key}", room=best, choice=number(float(d.choice[best])),
                             last=d.called[-1])  # fmt: skip
            assert said in department.rooms(visit, d)["note"]
            seen.add(key)
    assert "better" in seen


@pytest.mark.parametrize("token,place", [(6, 1), (9, 2), (0, 0)])
def test_the_boards_wiped(look, token, place):
    visit = look(token, place)
    c, d = visit.trace.config, department.desk(visit)
    u = department.unboarded(visit, d)
    stay = 0
    for m in range(c.num_moe_layers):
        opened, called = choose_by_hand(
            visit.trace.scores[m, token].tolist(), c.n_group, c.topk_group, c.num_experts_per_tok
        )
        stay += len(set(called) & set(visit.trace.chosen[m, token].tolist()))
        if m == place:
            assert u.open == opened and u.called == called
            assert set(u.stay) | set(u.gone) == set(d.called) and set(u.stay) | set(u.instead) == set(called)
    assert (u.everywhere, u.of) == (stay, c.num_moe_layers * c.num_experts_per_tok)
    plate = department.without(visit, d, u)
    assert lit(plate) == sorted(u.called)
    assert [room for room in u.called if plate["roles"][room] == "crowding"] == u.instead
    assert f"{u.everywhere} of {u.of}" in plate["note"]
    assert u.gone == [room for room in d.called if room in u.gone], "in the order of the choice"
    assert ", ".join(map(str, sorted(u.gone))) in plate["note"] and ", ".join(map(str, sorted(u.instead))) in plate["note"]


@pytest.mark.parametrize("parts,whole,sign", [
    ((0.7144, 0.0914), 0.8058, "≈"),  # 0.714 + 0.091, and 0.806
    ((0.741, -0.061), 0.680, "="), ((0.8761, 0.8452), 1.7213, "="), ((0.13149, 3.85049), 3.98198, "≈"), ((0.5,), 0.5, "="),
])  # fmt: skip
def test_what_does_not_add_up_as_printed_is_not_said_to_be_equal(parts, whole, sign):
    assert chapter.equals(parts, whole) == sign
    assert chapter.equals_tex(iter(parts), whole) == f"{'=' if sign == '=' else chr(92) + 'approx'} {whole:.3f}"


def test_the_boards_matter_in_the_shipped_hospital(hospital_folder):
    house = service.Hospital(model.load(hospital_folder))
    trace = house.trace(SENTENCE)
    pieces = [{"text": "x", "partial": False, "special": False} for _ in trace.ids]
    visit = chapter.Visit("department", house, SENTENCE, trace, 6, 32, pieces)
    u = department.unboarded(visit, department.desk(visit))
    assert 0 < u.everywhere < u.of == 58 * 8


# -- the consultation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token,place", [(6, 1), (0, 2)])
def test_opinions_make_what_leaves(look, token, place):
    visit = look(token, place)
    d = department.desk(visit)
    con = department.consultation(visit, visit.house.live.engine.opinions(visit.trace, visit.layer, token))
    leaves = (visit.trace.hidden[visit.layer + 1, token] - visit.trace.mid[visit.layer, token]).double()
    assert con.each.double().sum(0).tolist() == pytest.approx(leaves.tolist(), abs=2e-5)
    assert sum(con.pulls) == pytest.approx(1, abs=1e-3)
    for row, length, pull in zip(con.each.double(), con.lengths, con.pulls, strict=True):
        assert length == pytest.approx(float((row * row).sum() ** 0.5), rel=1e-4)
        assert pull == pytest.approx(float((row * leaves).sum() / (leaves * leaves).sum()), abs=1e-4)
    grid = department.opinions(visit, d, con)
    numbers = values(grid).reshape(len(con.each) + 1, -1)
    assert np.abs(numbers[:-1].sum(0) - numbers[-1]).max() < 2e-5
    assert grid["roles"] == ["intern"] * len(d.called) + ["nurse", "patient"]
    pulls = department.pulls(visit, d, con)
    assert percent(float(con.pulls[-1])) in pulls["note"] and percent(sum(con.pulls[:-1])) in pulls["note"]


# -- changes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", department.OFFERED)
def test_what_a_change_did(look, change):
    """Against a pass of its own over the whole sentence, with nothing reused."""
    visit = look(6, 1)
    d = department.desk(visit)
    done = department.cases(visit, d, change, 2)
    do = {
        "dismiss": Interventions(dismiss=frozenset({(visit.layer, d.room)})),
        "force": Interventions(force=frozenset({(visit.layer, d.room)})),
        "silence_shared": Interventions(silence_shared=frozenset({visit.layer})),
        "silence_routed": Interventions(silence_routed=frozenset({visit.layer})),
        "num_experts_per_tok": Interventions(num_experts_per_tok=2),
    }.get(change) or Interventions(gate=change)
    alone = visit.house.live.trace(SENTENCE, do)
    assert torch.equal(done[0].trace.logits, alone.logits) and done[0].trace.interventions == do
    one = department.outcome(visit, done[0].trace)
    before, after = visit.trace.hidden.double(), alone.hidden.double()
    mid, mid_after = visit.trace.mid.double(), alone.mid.double()
    old, new = (before[visit.layer + 1] - mid[visit.layer])[6], (after[visit.layer + 1] - mid_after[visit.layer])[6]
    assert one.moved == pytest.approx(float((new - old).norm() / old.norm()), rel=1e-3, abs=1e-4)
    assert one.top == pytest.approx(float((after[-1, 6] - before[-1, 6]).norm() / before[-1, 6].norm()), abs=1e-4)
    assert one.same == len(set(alone.chosen[1, 6].tolist()) & set(d.called)) and one.k == alone.chosen.shape[2]
    assert one.woken == len(set(alone.chosen[1].flatten().tolist()))
    likely = int(alone.logits[6].argmax())
    assert one.word == common.said(visit, likely)
    assert one.probability == pytest.approx(float(alone.logits[6].double().softmax(-1)[likely]), abs=1e-5)
    table = department.beside(visit, done)
    assert table["cells"][0][0] == d.weights.__len__() and table["cells"][0][3:5] == [0, 0]
    assert table["cells"][1] == [one.same, one.k, one.woken, one.moved, one.top, one.word, one.probability]
    assert len(done) == len(table["cells"]) - 1 == (2 if change in department.OF_A_ROOM else 1)
    said = dict(department.found(visit, d, change, done))
    assert said[f"what.{change}"]["callers"] == sum(d.room in row for row in visit.trace.chosen[1].tolist())
    assert said["done.yours"]["moved"] == percent(one.moved) and said["done.yours"]["same"] == one.same
    now = department.now(visit, d, done[0].trace)
    assert lit(now) == sorted(alone.chosen[1, 6].tolist())
    assert values(now).sum() == pytest.approx(float(alone.weights[1, 6].sum()), abs=1e-5)
    if change == "silence_shared":  # nothing moves in the picture of the rooms: it says where the nurse went
        before = department.now(visit, d, visit.trace)["note"]
        assert now["note"].startswith(before) and len(now["note"]) > len(before)
    for key, filled in department.found(visit, d, change, done):
        assert all(words.say(lang, f"department.{key}", **filled) for lang in LANGUAGES)


def test_dismissed_and_forced(look):
    visit = look(6, 1)
    d = department.desk(visit)
    gone = department.cases(visit, d, "dismiss", 1)
    assert not (gone[0].trace.chosen[1] == d.room).any(), "for every patient"
    assert d.room not in department.desk(visit, None, gone[0].trace).called
    outsider = department.desk(visit, next(r for r in range(len(d.scores)) if r not in d.called))
    came = department.cases(visit, outsider, "force", 1)
    assert (came[0].trace.chosen[1] == outsider.room).any(1).all(), "for every patient"
    assert (came[1].trace.chosen[1] == came[1].room).any(1).all()
    assert came[1].room not in d.called, "drawn from those who were not called either"


def test_who_is_called_in_was_not_there_already(house, look, app, request):
    visit = look(6, 1)
    d = department.desk(visit)
    best = department.runner_up(d)
    assert best not in d.called
    assert float(d.choice[best]) == max(float(d.choice[r]) for r in range(len(d.scores)) if r not in d.called)
    at = app(checkpoint=request.getfixturevalue(f"{request.node.callspec.params['house']}_folder"), token="6", floor=str(visit.floor))
    for change in ("force", "dismiss"):  # whom one has chosen stays
        at.pills(key="change_switch").set_value(change).run()
        assert fine(at) and at.query_params["room"] in (str(best), [str(best)])


def test_the_lot(look):
    """The same for the same question, somebody else, in the same position, and not always the same."""
    drawn = set()
    for token in range(10):
        visit = look(token, 1)
        d = department.desk(visit)
        for room in (d.room, next(r for r in range(len(d.scores)) if r not in d.called)):
            asked = department.desk(visit, room)
            other = department.twin(visit, asked)
            assert other == department.twin(look(token, 1), asked)
            assert other != room and (other in d.called) == (room in d.called)
            drawn.add(other)
    assert len(drawn) > 5


def test_nobody_to_draw(look, monkeypatch):
    visit = look(6, 1)
    d = department.desk(visit)._replace(called=[3], room=3, weights=[1.0])
    assert department.twin(visit, d) is None


def test_closed_doors_at_zero(look):
    visit = look(6, 1)
    d = department.desk(visit)
    done = department.cases(visit, d, "mask_with_zero", 1)
    z = department.zeros(visit, d, done[0].trace)
    c = visit.trace.config
    size = c.n_routed_experts // c.n_group
    behind_open = [float(d.choice[r]) for r in range(c.n_routed_experts) if r // size in d.open]
    assert (z.open, z.negative) == (len(behind_open), sum(x < 0 for x in behind_open))
    pairs = zip(visit.trace.chosen.flatten(0, 1).tolist(), done[0].trace.chosen.flatten(0, 1).tolist(), strict=True)
    assert z.changed == sum(set(a) != set(b) for a, b in pairs)
    assert z.choices == c.num_moe_layers * len(visit.trace.ids)
    key = "zeros.some" if z.changed else "zeros.none"
    assert key in dict(department.found(visit, d, "mask_with_zero", done))


def test_closed_doors_at_zero_where_it_matters(clinic_folder):
    """With boards low enough the mistake shows, and is said to."""
    house = service.Hospital(model.load(clinic_folder))
    for layer in house.live.engine.layers:
        if layer.bias is not None:
            layer.bias.sub_(2)
    trace = house.trace(SENTENCE)
    pieces = [{"text": "x", "partial": False, "special": False} for _ in trace.ids]
    visit = chapter.Visit("department", house, SENTENCE, trace, 6, 3, pieces)
    d = department.desk(visit)
    done = department.cases(visit, d, "mask_with_zero", 1)
    z = department.zeros(visit, d, done[0].trace)
    assert z.negative == z.open and z.changed > 0
    assert dict(department.found(visit, d, "mask_with_zero", done))["zeros.some"]["changed"] == f"{z.changed:,}"


# -- two tokens --------------------------------------------------------------------------------------------------------


def test_shared_rooms(look):
    visit = look(6, 1)
    for other in range(len(visit.pieces)):
        found = department.shared(visit, other)
        sets = [(set(a), set(b)) for a, b in zip(visit.trace.chosen[:, 6].tolist(), visit.trace.chosen[:, other].tolist(),
                                                 strict=True)]  # fmt: skip
        assert found.here == sorted(sets[1][0] & sets[1][1])
        assert found.everywhere == sum(len(a & b) for a, b in sets) and found.of == sum(len(a) for a, _ in sets)
        plate = department.side(visit, other, found.here, "x")
        assert [r for r in lit(plate) if plate["roles"][r] == "patient"] == found.here
    k, rooms = visit.trace.chosen.shape[2], visit.trace.config.n_routed_experts
    assert department.shared(visit, 0).chance == pytest.approx(k * k / rooms)


def test_a_second_patient_is_always_there(look):
    visit = look(6, 1)
    assert department.other_token(visit, None) == 5 and department.other_token(look(0, 1), None) == 1
    assert department.other_token(visit, 2) == 2 and department.other_token(visit, 999) == 5


# -- what an intern likes ----------------------------------------------------------------------------------------------


def taste(name, calls, share, bound, expected=0.1):
    return SimpleNamespace(name=name, calls=calls, share=share, low=share / 2, high=share * 1.5, expected=expected,
                           shuffled_high=bound)  # fmt: skip


def study(subjects, speciality, calls=100, tokens=()):
    record = SimpleNamespace(calls=calls, door_calls=7, tokens=tokens, subjects=subjects, speciality=speciality)
    special = SimpleNamespace(found=1234, strong=321, interns=14848, by_chance=148.4)
    return SimpleNamespace(intern=lambda layer, room: record, specialists=special, documents=900, tokens=54321)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
@pytest.mark.parametrize("subjects,speciality,key", [
    ((taste("food", 20, 0.2, 0.3), taste("token hospital", 40, 0.4, 0.5)), None, "none"),
    ((taste("food", 50, 0.5, 0.3), taste("sums", 10, 0.1, 0.2)), "food", "found"),
    ((), None, "nobody"),
])  # fmt: skip
def test_likings(app, monkeypatch, lang, depth, subjects, speciality, key):
    tokens = (SimpleNamespace(id=300, calls=9, occurrences=12),) if subjects else ()
    monkeypatch.setattr(service, "study", lambda: study(subjects, speciality, tokens=tokens))
    at = app(lang, depth=depth)
    assert fine(at)
    said, page = prose(at), shown(at)
    opening = words.say(lang, f"department.liking.{key}", **dict.fromkeys(
        ("subject", "share", "low", "high", "expected", "bound", "times", "door"), "|")).split("|")[0]  # fmt: skip
    assert opening in said and "54,321" in said and "1,234" in said
    asked = any(r"p > p_{\text" in one.value for one in at.latex)
    assert asked == (depth == "maths" and bool(subjects)), "who was never called has no share"
    assert ("subjects" in page) == ("favourites" in page) == bool(subjects)
    if subjects:
        best = max(subjects, key=lambda one: one.share / one.shuffled_high)
        assert (
            page["subjects"]["values_list"][0] == best.share
            and page["subjects"]["before_list"][0] == best.shuffled_high
        )
        assert percent(best.share) in said and percent(best.shuffled_high) in said
        assert page["favourites"]["values_list"] == [9 / 12]
    else:
        assert "7" in said.split(opening)[1]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_study_is_said(app, lang):
    at = app(lang)  # the clinic has none
    assert fine(at) and words.say(lang, "department.taste.missing") in [c.value for c in at.caption]


def test_a_subject_without_words_keeps_its_name():
    assert department.subject("astronomy") == "astronomy" and department.subject("token hospital") != "token hospital"


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", state.DEPTHS)
def test_every_change_at_every_depth(app, lang, depth):
    for change in (None, *department.OFFERED):
        at = app(lang, depth=depth, **({"change": change} if change else {}))
        assert fine(at), (change, [e.value for e in at.exception], [e.value for e in at.error])
        assert ("beside" in shown(at)) == (change is not None)
        assert bool(at.code) == (depth == "code")
        assert bool(at.get("markdown")) and at.title[0].value == words.say(lang, "department.title")


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("query", [
    {"s": "面"}, {"s": LONG}, {"token": "0"}, {"floor": "2"}, {"floor": "4"}, {"floor": "1"}, {"s": "?!"},
    {"token": "0", "other": "0"}, {"s": "**a** <b> $x$ :red[y]", "token": "2"},
], ids=str)  # fmt: skip
def test_edges(app, lang, query):
    at = app(lang, change="dismiss", **query)
    assert fine(at) and {"logits", "opinions", "beside", "side_other"} <= set(shown(at))


def test_the_shipped_hospital(app, hospital_folder):
    at = app("zh", checkpoint=hospital_folder, change="softmax", depth="maths")
    assert fine(at)
    assert len(values(shown(at)["scores"])) == 256


def test_a_question_first(app):
    at = app()
    assert "without" not in shown(at)
    button = next(b for b in at.button if b.label == words.say("en", "chapter.show_me"))
    button.click().run()
    assert fine(at) and "without" in shown(at)


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_the_answer_is_the_trace_s(app, clinic_folder, offset):
    live = model.load(clinic_folder)
    trace = live.trace(SENTENCE)
    c, token = live.config, 6
    at = app(token=str(token), floor="3")
    _, called = choose_by_hand(trace.scores[1, token].tolist(), c.n_group, c.topk_group, c.num_experts_per_tok)
    same = len(set(called) & set(trace.chosen[1, token].tolist()))
    right = 2 if same == c.num_experts_per_tok else int(same * 2 > c.num_experts_per_tok)
    labels = [words.say("en", f"department.wiped.{name}") for name in ("few", "most", "all")]
    next(b for b in at.button if b.label == labels[offset]).click().run()
    verdict = words.say("en", "chapter.right" if offset == right else "chapter.wrong")
    assert verdict.replace("*", "") in prose(at).replace("*", "")
    assert f"{same} of {c.num_experts_per_tok}" in prose(at)


def test_choosing_a_change(app):
    at = app(room="5", floor="3")
    assert "beside" not in shown(at)
    at.pills(key="change_switch").set_value("dismiss").run()
    assert fine(at) and at.query_params["change"] in ("dismiss", ["dismiss"])
    assert "step_room" in shown(at) and shown(at)["beside"]["labels"][1] == "room 5 sent home"
    at.pills(key="change_switch").set_value("num_experts_per_tok").run()
    assert fine(at) and "step_k" in shown(at)
    assert "instead of the usual number" not in prose(at) and "so nothing is changed yet" in prose(at)
    at.pills(key="change_switch").set_value(None).run()
    assert fine(at) and "beside" not in shown(at) and "change" not in at.query_params


@pytest.mark.parametrize("k", [1, 3, 16])
def test_k_from_the_link(app, k):
    at = app(change="num_experts_per_tok", k=str(k))
    assert fine(at) and shown(at)["beside"]["cells"][1][1] == k and len(lit(shown(at)["now"])) == k
    assert f"{k} instead of the usual number" in prose(at)


@pytest.mark.parametrize("query", [{"change": "silence_heads"}, {"change": "nonsense"}, {"room": "9999"}])
def test_what_the_link_cannot_mean_is_left(app, query):
    at = app(**query)
    assert fine(at) and "beside" not in shown(at)


def test_what_cannot_be_is_a_sentence(app, monkeypatch):
    impossible = Interventions(force=frozenset({(0, 0)}))  # the triage desk has no rooms
    monkeypatch.setattr(department, "intervention", lambda *_: impossible)
    at = app("zh", change="force")
    assert not at.exception and at.error[0].value.replace("\\", "") == words.say("zh", "error.no_such_intervention")
    assert "beside" not in shown(at) and "side_other" in shown(at), "the rest of the page stays"


def test_a_change_leaves_the_model_as_it_was(house, look):
    def fingerprint():
        return [float(p.double().abs().sum()) for p in house.live.engine.model.parameters()] + [
            float(layer.bias.double().sum()) for layer in house.live.engine.layers if layer.bias is not None
        ]

    visit, before = look(6, 1), fingerprint()
    scores = visit.trace.scores.clone()
    for change in department.OFFERED:
        department.cases(visit, department.desk(visit), change, 3)
    assert fingerprint() == before and torch.equal(visit.trace.scores, scores)
