"""The class's page and its bar, without a browser: who sees what, who may do what, and what stands in no link."""

from __future__ import annotations

import pytest
import screens
from screens import LANGUAGES, fine, prose, shown
from streamlit.testing.v1 import AppTest

from pages.kit import classes, classroom, state, stores, words
from pages.kit.stores import ClassError, Redis

SENTENCE = "Doctor, I have a fever."
TRIAGE = "pages/triage.py"
say = words.say


@pytest.fixture(autouse=True)
def house(monkeypatch, clinic_folder):
    """Classes of this test's own; the clinic is enough."""
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))
    monkeypatch.delenv("REDIS_URL", raising=False)
    classroom.rooms.clear()
    yield
    classroom.rooms.clear()


def together(lang: str = "en", **query: str) -> AppTest:
    return screens.open_page("pages/together.py", lang, **query)


def seat(at: AppTest) -> classroom.Seat | None:
    return at.session_state["class"] if "class" in at.session_state else None  # noqa: SIM401  # it has no get


def there(at: AppTest) -> AppTest:
    """What a browser does and AppTest does not: the next run is of the page to which this one has sent its visitor, and
    what the link into a class held is no longer in the address bar."""
    for one in ("class", "teach"):
        if one in at.query_params:
            del at.query_params[one]
    return at.switch_page(f"pages/{place.page}.py") if (place := seat(at)) else at


def again(at: AppTest) -> AppTest:
    """One more look at the class."""
    return there(at.run())


def press(at: AppTest, key: str) -> AppTest:
    """A button, by its key or by the words on it."""
    return there(next(b for b in at.button if key in (b.key, b.label)).click().run())


def teacher(lang: str = "en") -> AppTest:
    at = together(lang).button(key="class_open").click().run()
    assert fine(at) and seat(at).secret
    return at


def student(of: AppTest, lang: str = "en") -> AppTest:
    at = together(lang, **{"class": seat(of).code})
    assert not at.exception and seat(at).who
    return there(at)


def go(at: AppTest, page: str, **settings: object) -> AppTest:
    """As by the navigation, and by controls of that page."""
    at = at.switch_page(page).run()
    for name, value in settings.items():
        at.session_state[f"setting.{name}"] = value
        at.session_state["link.behind"] = True
    return at.run()


def title(at: AppTest) -> str:
    return at.title[0].value


def bar(at: AppTest) -> str:
    """What the bar says."""
    return "\n".join(one.proto.body for one in at.get("html") if "class-" in one.proto.body and "<style>" not in one.proto.body)


def messages(at: AppTest) -> list[str]:
    return [one.value.replace("\\", "") for one in [*at.error, *at.info]]


def keys(at: AppTest) -> set[str]:
    return {str(one.key) for one in at.button}


def tallies(at: AppTest) -> list[list[float]]:
    return [plate["values_list"] for name, plate in shown(at).items() if name.endswith(".tally")]


def marked(at: AppTest) -> list[bool]:
    """Which options of the tally are said to be right; none where there is no tally."""
    plate = next((plate for name, plate in shown(at).items() if name.endswith(".tally")), None)
    return [label.startswith("✓") for label in plate["labels"]] if plate and any("✓" in one for one in plate["labels"]) else []


def options(at: AppTest) -> list:
    return [b for b in at.button if str(b.key).startswith("predict.") and str(b.key)[-2:] in (".0", ".1")]


# -- in and out --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
def test_opening_gives_a_code_a_link_and_the_teachers_own(lang):
    at = teacher(lang)
    here = seat(at)
    links = [one.value for one in at.code if "class=" in one.value]
    assert any(link.endswith(f"together?class={here.code}") for link in links)
    assert any(link.endswith(f"together?class={here.code}&teach={here.secret}") for link in links)
    assert here.code in bar(at) and say(lang, "together.bar.before") in bar(at)
    qr = next(screens.sent(one) for one in at.get("bidi_component") if one.proto.component_name == "qr")
    assert qr["link"].endswith(f"together?class={here.code}") and qr["sign"] == here.code
    assert "class_close" in keys(at) and "class_leave" not in keys(at)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_coming_in_by_code_and_by_link(lang):
    first = teacher()
    code = seat(first).code
    at = together(lang)
    doors = [say(lang, "together.join.title"), say(lang, "together.open.title")]
    assert [one.value for one in at.subheader][:2] == doors, "on a phone one stands above the other"
    at.text_input(key="class_typed").set_value(f" {code.lower()} ")
    at = press(at, say(lang, "together.join.button"))
    assert fine(at) and seat(at).who and seat(at).secret is None
    assert say(lang, "together.in.title", code=code) in [one.value for one in at.subheader]
    other = student(first, lang)
    assert seat(other).who != seat(at).who
    assert say("en", "together.bar.here", count=2) in bar(again(first))
    at = press(at, "class_leave")
    assert seat(at) is None and bar(at) == "" and fine(at)
    assert say("en", "together.bar.here", count=1) in bar(again(first))


@pytest.mark.parametrize("typed,key", [("K7M4", "class_code"), ("K7M4A", "class_gone"), ("", "class_code"), ("<b>x</b>", "class_code"),
                                       ("\x00\u202e", "class_code"), ("面" * 24, "class_code")])  # fmt: skip
def test_a_wrong_code_is_said_in_words(typed, key):
    at = together()
    at.text_input(key="class_typed").set_value(typed)
    at = press(at, say("en", "together.join.button"))
    assert not at.exception and messages(at) == [say("en", f"error.{key}", length=classes.LENGTH)] and seat(at) is None


@pytest.mark.parametrize("code", ["K7M4A", "<b>x</b>"])
def test_a_link_with_a_wrong_code_is_said_in_words(code):
    at = together(**{"class": code})
    key = "class_gone" if code.isalnum() else "class_code"
    assert not at.exception and messages(at) == [say("en", f"error.{key}", length=classes.LENGTH)] and seat(at) is None


@pytest.mark.parametrize("secret", ["x", "0" * 40, "面", "\x00", "<script>"])
def test_a_wrong_secret_opens_nothing(secret):
    first = teacher()
    at = together(**{"class": seat(first).code, "teach": secret})
    assert not at.exception and messages(at) == [say("en", "error.class_secret")] and seat(at) is None
    assert seat(again(first)).secret


def test_many_wrong_codes_have_to_wait():
    first = teacher()
    at = together()
    for _ in range(classroom.MOST_WRONG):
        at.text_input(key="class_typed").set_value("K7M4A")
        at = press(at, say("en", "together.join.button"))
        assert messages(at) == [say("en", "error.class_gone")]
    at.text_input(key="class_typed").set_value(seat(first).code)
    at = press(at, say("en", "together.join.button"))
    assert seat(at) is None and messages(at)[0].split("in")[0] == say("en", "error.class_tries", seconds=0).split("in")[0]


def test_the_teachers_link_teaches_in_another_browser_too():
    first = teacher()
    go(first, TRIAGE, sentence=SENTENCE, floor=2)
    at = together(**{"class": seat(first).code, "teach": seat(first).secret})
    assert fine(at) and seat(at).secret == seat(first).secret
    assert say("en", "together.go", page=say("en", "nav.triage")) in [b.label for b in at.button]
    at = press(at, say("en", "together.go", page=say("en", "nav.triage")))
    assert title(at) == say("en", "triage.title") and at.session_state["setting.floor"] == 2
    go(at, "pages/heads.py", floor=4)
    first = again(first)
    assert title(first) == say("en", "heads.title") and first.session_state["setting.floor"] == 4, "two screens of one teacher"


def test_on_another_screen_of_the_teachers_the_lesson_goes_on():
    first = teacher()
    pupil = student(first)
    go(first, "pages/department.py", lesson=20, stop="eight")
    at = together(**{"class": seat(first).code, "teach": seat(first).secret})
    at = press(at, say("en", "together.go", page=say("en", "nav.department")))
    kinds = [screens.sent(one)["kind"] for one in at.get("bidi_component") if one.proto.component_name == "lesson"]
    assert fine(at) and title(at) == say("en", "department.title") and kinds == ["bar"]
    assert {name: at.session_state[f"setting.{name}"] for name in ("lesson", "stop")} == {"lesson": 20, "stop": "eight"}
    pupil = again(pupil)
    assert light(pupil)["stop"] == "eight" and "setting.lesson" not in pupil.session_state


def test_after_a_reload_the_tab_comes_back():
    first = teacher()
    kept = first.session_state["class.kept"]
    pupil = student(first)
    told = pupil.session_state["class.kept"]
    assert "secret" not in told or told["secret"] is None

    def reload(what):
        """What the browser's own call does (tests/test_classroom_browser.py makes it)."""

        def script(what):
            from pages.kit import classroom

            classroom.come_back(what)

        return AppTest.from_function(script, args=(what,)).run()

    at = reload(told)
    assert seat(at).who == seat(pupil).who, "the same student, who counts once"
    assert seat(reload(kept)).secret == seat(first).secret
    forged = reload({"code": kept["code"], "who": "0" * 16})
    assert seat(forged).who not in ("0" * 16, None), "an id that was given to nobody is not taken"
    assert seat(reload({"code": kept["code"], "secret": "x"})) is None
    for nonsense in [None, 7, "x", [], {}, {"code": None}, {"code": {"a": 1}, "secret": ["x"]}, {"code": "x" * 10**6}]:
        at = reload(nonsense)
        assert not at.exception and seat(at) is None
    press(first, "class_close")
    at = reload(told)
    assert seat(at) is None and at.session_state["class.over"].key == "class_over" and at.session_state["class.kept"] == ""


# -- following ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
def test_students_follow_page_and_settings_but_not_language_and_depth(lang):
    first = teacher()
    pupil = student(first, lang)
    assert say(lang, "together.bar.waits") in bar(pupil)
    first = go(first, TRIAGE, sentence=SENTENCE, token=3, floor=2, depth="code", change="close_records")
    pupil = again(pupil)
    assert fine(pupil) and title(pupil) == say(lang, "triage.title")
    got = {name: pupil.session_state[f"setting.{name}"] for name in ("sentence", "token", "floor", "change", "lang")}
    assert got == {"sentence": SENTENCE, "token": 3, "floor": 2, "change": "close_records", "lang": lang}
    assert "setting.depth" not in pupil.session_state or pupil.session_state["setting.depth"] == "story"
    assert say(lang, "together.bar.follows") in bar(pupil) and say("en", "together.bar.leads") in bar(first)
    go(first, TRIAGE, change=None, projector=1)
    pupil = again(pupil)
    assert "setting.change" not in pupil.session_state and "setting.projector" not in pupil.session_state


def light(at: AppTest) -> dict | None:
    """What the light of a lesson is told on a student's screen."""
    data = [screens.sent(one) for one in at.get("bidi_component") if one.proto.component_name == "lesson"]
    return next((one for one in data if one["kind"] == "light"), None)


def test_students_see_what_a_stop_of_the_lesson_lights_up():
    first = teacher()
    pupil = student(first)
    first = go(first, "pages/department.py", lesson=20, stop="eight")
    pupil = again(pupil)
    assert fine(pupil) and title(pupil) == say("en", "department.title")
    assert light(pupil)["stop"] == "eight" and light(pupil)["light"] == ["plates.department.corridors"]
    assert "setting.lesson" not in pupil.session_state, "the bar is the teacher's"
    assert say("en", "together.bar.follows") in bar(pupil)
    first = go(first, "pages/department.py", stop="consult")  # nothing else changes
    pupil = again(pupil)
    assert light(pupil)["stop"] == "consult" and say("en", "together.bar.follows") in bar(pupil)
    pupil = press(pupil, "class_wander")
    assert light(pupil) is None
    pupil = press(pupil, "class_rejoin")
    assert light(pupil)["stop"] == "consult"
    go(first, "pages/heads.py")  # beside the stop's page
    pupil = again(pupil)
    assert title(pupil) == say("en", "heads.title") and light(pupil) is None


def test_the_address_for_the_class_is_asked_for_once(monkeypatch):
    """On the page, and in the dialog of the QR sign above it."""
    from pages.kit import teacher as link

    monkeypatch.setattr(link, "alone", lambda address: "192.0.2" not in address)

    def signs(at: AppTest) -> int:
        return sum(one.proto.component_name == "qr" for one in at.get("bidi_component"))

    at = teacher()
    assert signs(at) == 0, "a code that leads nowhere"
    at = at.text_input(key="teacher.address.class").set_value("192.0.2.7:8501").run()
    assert signs(at) == 1
    at = at.button(key="teacher_open").click().run()
    assert fine(at)
    assert [at.text_input(key=f"teacher.address.{where}").value for where in ("class", "link")] == ["192.0.2.7:8501"] * 2
    at = at.text_input(key="teacher.address.link").set_value("192.0.2.8:8501").run()
    assert fine(at) and at.text_input(key="teacher.address.class").value == "192.0.2.8:8501"
    assert any("http://192.0.2.8:8501/together?class=" in code.value for code in at.code)


def test_who_touches_something_stops_following_and_can_rejoin():
    first = teacher()
    go(first, TRIAGE, sentence=SENTENCE, token=3, floor=2)
    pupil = student(first)
    assert title(pupil) == say("en", "triage.title") and "class_wander" in keys(pupil)
    pupil.session_state["setting.token"] = 1
    pupil = again(pupil)
    assert say("en", "together.bar.wanders") in bar(pupil) and "class_rejoin" in keys(pupil)
    go(first, "pages/department.py", token=5, floor=4)
    pupil = again(pupil)
    assert title(pupil) == say("en", "triage.title") and pupil.session_state["setting.token"] == 1
    pupil = press(pupil, "class_rejoin")
    assert title(pupil) == say("en", "department.title") and pupil.session_state["setting.token"] == 5
    assert say("en", "together.bar.follows") in bar(pupil)
    pupil = pupil.switch_page("pages/heads.py").run()
    assert say("en", "together.bar.wanders") in bar(pupil), "another page is a touch too"
    pupil = press(pupil, "class_rejoin")
    pupil = press(pupil, "class_wander")
    assert say("en", "together.bar.wanders") in bar(pupil)
    assert say("en", "together.bar.leads") in bar(again(first)), "nothing of it reaches the teacher"
    assert first.session_state["setting.token"] == 5


def test_a_browser_that_asks_late_for_what_it_showed_before_has_touched_nothing():
    """What it sends before it has heard where it was taken comes with the old page and the old link."""
    first = teacher()
    go(first, TRIAGE, sentence=SENTENCE, token=3, floor=2)
    pupil = student(first)
    old = dict(pupil.query_params)
    go(first, "pages/heads.py", token=5, floor=4)
    pupil = again(pupil)
    assert title(pupil) == say("en", "heads.title")
    for name, value in old.items():
        pupil.query_params[name] = value
    pupil = there(pupil.switch_page(TRIAGE).run())
    assert title(pupil) == say("en", "heads.title") and say("en", "together.bar.follows") in bar(pupil)
    assert pupil.session_state["setting.token"] == 5
    seat(pupil).left = []  # a while later it is a wish
    pupil = there(pupil.switch_page(TRIAGE).run())
    assert title(pupil) == say("en", "triage.title") and say("en", "together.bar.wanders") in bar(pupil)


def test_what_a_page_does_to_its_settings_by_itself_is_no_touch():
    """The sheet of the discharge says how many tokens it has written."""
    first = teacher()
    first = go(first, "pages/discharge.py", sentence=SENTENCE, written=3)
    pupil = student(first)
    for _ in range(3):
        first, pupil = again(first), again(pupil)
        assert fine(pupil) and title(pupil) == say("en", "discharge.title") and say("en", "together.bar.follows") in bar(pupil)


def test_a_text_that_ends_before_what_was_asked_for_is_no_touch(monkeypatch, hospital_folder):
    """The page sets how much it really wrote, and asks for another run of itself."""
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(hospital_folder))
    first = teacher()
    pupil, place = student(first), seat(first)
    link = state.to_link({"sentence": SENTENCE, "written": state.MAX_WRITTEN})
    classroom.rooms().show(place.code, place.secret, "discharge", link)
    for _ in range(3):
        pupil = again(pupil)
        assert fine(pupil) and title(pupil) == say("en", "discharge.title")
        assert pupil.session_state["setting.written"] < state.MAX_WRITTEN, "what is tried here happened"
        assert say("en", "together.bar.follows") in bar(pupil)


@pytest.mark.parametrize("page", ["together", "glossary", "hospitals"])
def test_a_student_may_change_language_and_depth_and_still_follows(page):
    first = teacher()
    go(first, f"pages/{page if page != 'together' else 'triage'}.py")
    pupil = student(first)
    pupil.session_state["setting.depth"] = "code"
    pupil.session_state["setting.lang"] = "zh"
    pupil = again(pupil)
    assert fine(pupil) and say("zh", "together.bar.follows") in bar(pupil)


def test_pages_that_everybody_opens_alone_are_not_shown():
    first = teacher()
    go(first, TRIAGE, sentence=SENTENCE)
    pupil = student(first)
    first = first.switch_page("pages/together.py").run()
    assert say("en", "together.bar.apart", page=say("en", "nav.triage")) in bar(first)
    assert title(again(pupil)) == say("en", "triage.title")


# -- predictions -------------------------------------------------------------------------------------------------------


def test_a_prediction_is_tallied_as_it_comes_in():
    first = go(teacher(), TRIAGE, sentence=SENTENCE, token=3, floor=2)
    assert tallies(first) == [[0, 0]]
    one, two, three = student(first), student(first), student(first)
    assert tallies(one) == [] and say("en", "together.tally.waits") in [c.value for c in one.caption]
    one = there(options(one)[1].click().run())
    two = there(options(two)[1].click().run())
    assert tallies(again(one)) == [[0, 2]], "who has answered sees it"
    assert tallies(again(first)) == [[0, 2]] and tallies(again(three)) == []
    assert not any(marked(at) for at in (again(first), again(one), again(three))), "which is right is not said yet"
    assert say("en", "together.tally.note", answered=2, here=3) == shown(first)["tally"]["note"]
    show = next(b for b in first.button if str(b.key).endswith(".show"))
    first = there(show.click().run())
    assert not [b for b in first.button if str(b.key).endswith(".skip")], "what the question keeps closed opens with it"
    three = again(three)
    assert tallies(three) == [[0, 2]] and say("en", "together.tally.shown") in [c.value for c in three.caption]
    answered = again(one)
    right = next(i for i, b in enumerate(options(answered)) if b.proto.type == "primary")
    for at in (first, answered, three):
        assert marked(at) == [i == right for i in range(2)]
        assert say("en", "together.tally.hits", hits=round(tallies(at)[0][right])) in shown(at)["tally"]["note"]
    options(three)[0].click().run()
    assert tallies(again(first)) == [[0, 2]], "who has seen the result does not count"


def test_another_sentence_does_not_spoil_the_tally_and_the_teacher_is_not_counted():
    first = go(teacher(), TRIAGE, sentence=SENTENCE, token=3, floor=2)
    pupil = student(first)
    pupil.session_state["setting.token"] = 1
    pupil = options(again(pupil))[0].click().run()
    assert tallies(pupil) == [] and tallies(again(first)) == [[0, 0]]
    first = there(options(first)[0].click().run())
    assert tallies(first) == [[0, 0]]
    go(first, TRIAGE, token=1)
    again(pupil)
    assert tallies(again(first)) == [[1, 0]], "what a student guessed earlier counts once the class is asked it"


def test_just_show_me_is_no_answer():
    first = go(teacher(), TRIAGE, sentence=SENTENCE, token=3, floor=2)
    pupil = screens.skip(student(first))
    assert tallies(pupil) == [[0, 0]] and tallies(again(first)) == [[0, 0]]


def test_on_a_page_without_a_class_nothing_is_different():
    at = screens.open_page(TRIAGE, s=SENTENCE)
    assert fine(at) and bar(at) == "" and tallies(at) == [] and "class" not in at.session_state


# -- questions ---------------------------------------------------------------------------------------------------------

ODD = ["Why <b>58</b>, not **61**?", "![x](http://example.org/x.png) $x$ :red[red]", "<script>alert(1)</script>", "שלום 🏥"]


@pytest.mark.parametrize("text", ODD)
def test_a_question_is_lit_up_as_plain_text(text):
    import html

    first = go(teacher(), TRIAGE, sentence=SENTENCE)
    pupil, other = student(first), student(first)
    pupil.text_area(key="class_question").set_value(text)
    pupil = press(pupil, say("en", "together.ask.send"))
    assert fine(pupil) and say("en", "together.ask.sent") in [one.value for one in pupil.toast]
    first = again(first)
    assert html.escape(text) in bar(first) and say("en", "together.bar.asked", count=1) in bar(first)
    assert html.escape(text) not in bar(again(other))
    first = press(first, "class_light_bar_1")
    assert f'<blockquote dir="auto">{html.escape(text)}</blockquote>' in bar(again(other))
    assert text not in prose(other), "never as Markdown"
    other.session_state["setting.token"] = 1
    assert "class-lit" not in bar(again(other)), "who looks around is left alone"
    first = press(first, "class_light_bar_1")
    assert "class-lit" not in bar(again(pupil))
    first = press(first, "class_delete_bar_1")
    assert html.escape(text) not in bar(first)


def test_the_teacher_can_stop_questions():
    first = go(teacher(), TRIAGE, sentence=SENTENCE)
    pupil = student(first)
    first = first.toggle(key="class_asking_bar_True").set_value(False).run()
    pupil.text_area(key="class_question").set_value("Why?")
    pupil = press(pupil, say("en", "together.ask.send"))
    assert say("en", "error.class_ask_stopped") in [*messages(pupil), *[c.value for c in pupil.caption]]
    assert not again(first).exception and classroom.rooms().look(seat(first).code).board.questions == []


# -- the end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
def test_closing_ends_it_on_every_screen(lang):
    first = go(teacher(lang), TRIAGE, sentence=SENTENCE)
    pupil = student(first, lang)
    first = press(first, "class_close")
    assert seat(first) is None and messages(first) == [say(lang, "error.class_closed")]
    pupil = again(pupil)
    assert seat(pupil) is None and messages(pupil) == [say(lang, "error.class_over")] and title(pupil) == say(lang, "triage.title")
    pupil = press(pupil, "class_understood")
    assert fine(pupil) and messages(pupil) == [] and bar(pupil) == ""
    with pytest.raises(ClassError, match="class_gone"):
        classroom.rooms().look("K7M4A")


def test_no_link_holds_the_class_or_the_secret():
    first = go(teacher(), TRIAGE, sentence=SENTENCE, floor=2)
    pupil = student(first)
    second = there(together(**{"class": seat(first).code, "teach": seat(first).secret}))
    second = go(second, "pages/heads.py", floor=4)
    for at in (again(first), again(pupil), second):
        link = dict(at.query_params)
        assert not {"class", "teach"} & set(link), link
        assert not any(seat(first).code in str(v) or seat(first).secret in str(v) for v in link.values())
        assert link["s"] in (SENTENCE, [SENTENCE])
    everything = "".join(str(one) for one in [pupil.main, *[b.proto for b in pupil.get("bidi_component")]])
    assert seat(first).secret not in everything


# -- without Redis -----------------------------------------------------------------------------------------------------


def test_without_redis_the_rest_of_the_house_goes_on(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    unreachable = say("en", "error.class_unreachable")
    at = together().button(key="class_open").click().run()
    assert not at.exception and messages(at) == [unreachable] and seat(at) is None
    assert messages(together(**{"class": "K7M4A"})) == [unreachable]
    assert fine(screens.open_page(TRIAGE, s=SENTENCE))


def test_when_redis_goes_away_in_the_middle_of_a_class_pages_go_on(monkeypatch, redis_url):
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setattr(stores, "REST", 0.0)
    first = go(teacher(), TRIAGE, sentence=SENTENCE)
    pupil = student(first)
    store = classroom.rooms()._store
    assert isinstance(store, Redis)
    url, store._url, store._client = store._url, "redis://127.0.0.1:1/0", None
    for at in (first, pupil):
        at = at.run()
        assert not at.exception and messages(at) == [say("en", "error.class_unreachable")]
        assert title(at) == say("en", "triage.title") and seat(at) is not None and shown(at)
    store._url, store._client = url, None
    go(first, TRIAGE, token=1)
    pupil = again(pupil)
    assert fine(pupil) and pupil.session_state["setting.token"] == 1
    press(first, "class_close")


@pytest.mark.parametrize("page", ["lobby", "glossary"])
def test_questions_elsewhere_are_tallied_too(page):
    """The lobby's stands in a part of the page that runs alone; the glossary's needs no sentence."""
    first = go(teacher(), f"pages/{page}.py", sentence=SENTENCE if page == "lobby" else None)
    pupil = student(first)
    mine = [b for b in pupil.button if str(b.key).startswith("predict.") and str(b.key).endswith(".0")]
    there(mine[0].click().run())
    assert [sum(counts) for counts in tallies(again(first))] == [1]
