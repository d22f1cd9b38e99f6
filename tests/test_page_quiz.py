"""The page of the quiz: answered from end to end, in both languages; its link; what is typed and what is taken along."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs

import pytest
import screens
from screens import LANGUAGES, fine, prose, shown
from streamlit.testing.v1 import AppTest

import model
from pages.kit import quiz, service, state, words
from pages.kit.figures.quiz import KINDS

PAGE = "pages/quiz.py"
SENTENCE = "Doctor, I have a fever. Doctor, it hurts."


@pytest.fixture
def app(monkeypatch, clinic_folder):
    """A visitor who opens the page by its link; the small model unless another is named."""

    def open_page(lang: str = "en", checkpoint: Path = clinic_folder, **query: object) -> AppTest:
        monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(checkpoint))
        return screens.open_page(PAGE, lang, **{"s": SENTENCE, **query})

    return open_page


@pytest.fixture(scope="module")
def house(clinic_folder) -> service.Hospital:
    return service.Hospital(model.load(clinic_folder))


def paper(house: service.Hospital, seed: int, depth: str = "story"):
    return quiz.deal(screens.visit(house, "quiz", SENTENCE, 1, 1), seed, depth)


def options(at: AppTest, seed: int, number: int) -> list:
    return [b for b in at.button if str(b.key).startswith(f"quiz.{seed}.{number}.") and str(b.key)[-1].isdigit()]


def answer(at: AppTest, seed: int, number: int, which: int) -> AppTest:
    return options(at, seed, number)[which].click().run()


def param(at: AppTest, name: str) -> str | None:
    value = at.query_params.get(name)
    return value[0] if isinstance(value, list) else value


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_quiz_from_its_first_question_to_its_score(app, house, lang):
    """Every other answer is a wrong one."""
    asked, at = paper(house, 7), app(lang, quiz=7)
    right = 0
    for i, one in enumerate(asked):
        assert fine(at) and words.say(lang, "quiz.of", number=i + 1, count=len(asked), topic=words.say(lang, f"quiz.topic.{one.topic}")) in [c.value for c in at.caption]
        assert one.ask(lang, "story", markup=True).replace("\\", "") in prose(at)
        assert [b.label.replace("\\", "") for b in options(at, 7, i)] == [o.said(lang) for o in one.options]
        assert [b.proto.shortcut for b in options(at, 7, i)] == [str(n + 1) for n in range(len(one.options))]
        assert one.why(lang, markup=True).replace("\\", "") not in prose(at), "not before it was answered"
        good = i % 2 == 0
        right += good
        at = answer(at, 7, i, one.right if good else (one.right + 1) % len(one.options))
        assert fine(at) and words.say(lang, "quiz.verdict.right" if good else "quiz.verdict.wrong") in prose(at)
        assert one.why(lang, markup=True).replace("\\", "") in prose(at)
        assert not options(at, 7, i), "an answer is given once"
        assert words.say(lang, "quiz.yours") in prose(at)
        [link] = [p.proto for p in at.get("page_link") if p.proto.page == one.door.page]
        there = {name: values[0] for name, values in parse_qs(link.query_string).items()}
        for name, value in one.door.settings.items():
            if value != state.TABLE[name].default:
                assert there[state.TABLE[name].link] == str(value), (one.kind, there)
        assert there["s"] == SENTENCE and there["quiz"] == "7", "and back to the same question"
        if i + 1 < len(asked):
            at = at.button(key="quiz.next").click().run()
    assert "quiz.next" not in [b.key for b in at.button]
    guessing = f"{quiz.by_guessing(asked):.1f}"
    assert words.say(lang, "quiz.result.score", right=right, asked=len(asked), guessing=guessing) in prose(at)
    topics = shown(at)["topics"]
    assert sum(row[0] for row in topics["cells"]) == right and sum(row[1] for row in topics["cells"]) == len(asked)
    assert len(at.get("download_button")) == 2
    at = at.button(key="quiz.again").click().run()
    assert fine(at) and param(at, "quiz") != "7" and len(options(at, int(param(at, "quiz")), 0)) >= 3


def test_nobody_is_marked_where_the_question_is_about_all(app, house):
    """The chips under a question light up whom it names; under one that names nobody they say so."""
    asked = paper(house, 7)
    assert {one.about_one("story") for one in asked} == {True, False}, "this paper has both"
    for i, one in enumerate(asked):
        at = app("zh", quiz=7, q=i + 1)
        assert one.about_one("story") is (f"「{one.values['token'].said('zh')}」" in one.ask("zh", "story")), one.kind
        sent = [screens.sent(drawn) for drawn in at.get("bidi_component") if drawn.proto.component_name == "plates"]
        [who] = [data for data in sent if data["page"] == "quiz.who"]
        assert who["picked"].get("token") == (one.token if one.about_one("story") else None)
        assert who["plates"][0]["title"] == words.say("zh", "quiz.patients" if one.about_one("story") else "quiz.everybody")


def test_without_a_number_it_is_never_the_same(app):
    first, second = app(), app()
    assert fine(first) and param(first, "quiz") is not None
    assert param(first, "quiz") != param(second, "quiz")


def test_the_link_gives_everybody_the_same_quiz(app):
    def seen(at: AppTest) -> list[str]:
        return [prose(at), *[b.label for b in at.button if str(b.key).startswith("quiz.")]]

    assert seen(app(quiz=123, q=4)) == seen(app(quiz=123, q=4)) != seen(app(quiz=124, q=4))


@pytest.mark.parametrize("bad", ["-1", "1000000", "x", "1e3", "٣", "9" * 400, "%00"])
def test_a_bad_number_is_none(bad):
    assert state.from_link({"quiz": bad, "q": bad}) == {}


def test_a_link_with_a_bad_number_opens_a_quiz_of_its_own(app):
    bad = "1000000"
    at = app(quiz=bad, q=bad)
    assert fine(at) and param(at, "quiz").isdigit() and param(at, "q") is None


def test_another_language_keeps_the_quiz_and_the_answers(app, house):
    one, at = paper(house, 7)[0], app(quiz=7)
    at = answer(at, 7, 0, one.right)
    at.session_state["setting.lang"] = "zh"
    at = at.run()
    assert fine(at) and words.say("zh", "quiz.verdict.right") in prose(at) and one.why("zh", markup=True).replace("\\", "") in prose(at)


def test_another_sentence_is_another_quiz_and_back_again(app, house):
    one, at = paper(house, 7)[0], app(quiz=7)
    at = answer(at, 7, 0, one.right)
    at = at.text_input(key="sentence_box").set_value("面").run()
    assert fine(at) and options(at, 7, 0)
    at = at.text_input(key="sentence_box").set_value(SENTENCE).run()
    assert not options(at, 7, 0), "what was answered stays answered"


def test_an_answer_can_be_given_once(app, house):
    """Two clicks that arrive together: the first one counts."""
    one, at = paper(house, 7)[0], app(quiz=7)
    first, second = one.right, (one.right + 1) % len(one.options)
    buttons = options(at, 7, 0)
    buttons[first].click()
    buttons[second].click()
    at = at.run()
    [answers] = at.session_state["quiz.answers"].values()
    assert list(answers) == [0] and len(answers) == 1


def test_what_is_shown_without_a_guess_is_not_right(app, house):
    asked, at = paper(house, 7), app(quiz=7)
    at = at.button(key="quiz.7.0.skip").click().run()
    assert fine(at) and words.say("en", "quiz.verdict.right") not in prose(at) and asked[0].why("en", markup=True).replace("\\", "") in prose(at)
    signs = at.pills(key="quiz.at").options
    assert signs[0] == "1 –" and signs[1] == "2", "nor is it wrong"
    assert "quiz.7.0.skip" not in [b.key for b in app(quiz=7, hide="answers").button], "unless a teacher keeps that away"


def test_at_the_depth_of_code_the_answer_shows_its_lines(app, house):
    asked, at = paper(house, 7, "code"), app(quiz=7, depth="code")
    before = len(at.code)
    at = answer(at, 7, 0, 0)
    assert len(at.code) == before + 1 and any(one.value == KINDS[asked[0].kind].source().text for one in at.code)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_code_of_every_kind_is_found(kind):
    assert KINDS[kind].source().text


def test_in_the_hospital(app, hospital_folder):
    for depth in state.DEPTHS:
        at = app("zh", hospital_folder, quiz=3, depth=depth, s="明天我们一起去吃炸酱面吧?")
        for number in range(quiz.COUNT):
            at = answer(at, 3, number, 0)
            assert fine(at)
            if number + 1 < quiz.COUNT:
                at = at.button(key="quiz.next").click().run()
        assert "topics" in shown(at)
