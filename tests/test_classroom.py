"""A class: one contract for both stores, its limits, and what happens when many do something at the same time."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pages.kit import classes, stores
from pages.kit.classes import Board, Classes
from pages.kit.stores import ClassError, Memory, Redis, Store

PLACE = "predict.triage.larger.0123456789ab"
Make = Callable[..., Store]


@pytest.fixture(params=["memory", "redis"])
def make(request) -> Iterator[Make]:
    """Makes a store. Of Redis several can be made: processes that share it."""
    if request.param == "memory":
        yield lambda **how: Memory(**how)
        return
    import redis

    url = request.getfixturevalue("redis_url")
    redis.Redis.from_url(url).flushall()
    yield lambda **how: Redis(url, **how)
    redis.Redis.from_url(url).flushall()


@pytest.fixture
def store(make) -> Store:
    return make()


@pytest.fixture
def rooms(store) -> Classes:
    return Classes(store)


def come_in(rooms: Classes, code: str) -> str:
    who = classes.new_id()
    rooms.look(code, who)
    return who


def refused(what: Callable, *args: object, **more: object) -> str:
    """Why it was refused."""
    with pytest.raises(ClassError) as caught:
        what(*args, **more)
    return caught.value.key


def at_once(several: list[Callable[[], object]]) -> list[object]:
    """What each gives, all started at the same moment."""
    start, given = threading.Barrier(len(several)), [None] * len(several)

    def run(i: int) -> None:
        start.wait()
        try:
            given[i] = several[i]()
        except ClassError as error:
            given[i] = error.key

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(several))]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    return given


# -- a class from its beginning to its end -----------------------------------------------------------------------------


def test_codes_can_be_told_apart_and_are_never_the_same(rooms):
    codes = [rooms.open()[0] for _ in range(10)]
    assert len(set(codes)) == 10
    assert all(re.fullmatch(rf"[{classes.ALPHABET}]{{{classes.LENGTH}}}", code) for code in codes)
    assert not set(classes.ALPHABET) & set("01OIL2Z5S8B9")


@pytest.mark.parametrize("typed", ["{}", " {} ", "{0[0]}{0[1]}-{0[2]}{0[3]}{0[4]}", "{0[0]} {0[1]} {0[2]} {0[3]} {0[4]}"])
def test_a_code_is_understood_as_people_type_it(typed):
    assert classes.code_of(typed.format("K7M4A")) == "K7M4A"
    assert classes.code_of(typed.format("K7M4A").lower()) == "K7M4A"
    assert classes.code_of("Ｋ７Ｍ４Ａ") == "K7M4A", "wide letters of a Chinese keyboard"


@pytest.mark.parametrize("typed", ["", "K7M4", "K7M4AA", "K7M40", "<scri", "'; --", "K7M4\x00", "面面面面面", "../..", "K" * 100_000, "🏥🏥🏥🏥🏥"])
def test_what_cannot_be_a_code_is_refused(typed):
    assert refused(classes.code_of, typed) == "class_code"


def test_what_the_teacher_shows_is_seen_and_counted(rooms):
    code, secret = rooms.open()
    who = come_in(rooms, code)
    assert rooms.look(code, who).board.page is None
    assert rooms.show(code, secret, "triage", {"s": "Doctor, 我发烧", "floor": "2"}) == 1
    board = rooms.look(code, who).board
    assert (board.page, board.link, board.turn) == ("triage", {"s": "Doctor, 我发烧", "floor": "2"}, 1)
    assert rooms.show(code, secret, "triage", {"s": "Doctor, 我发烧", "floor": "2"}) == 1, "the same again is nothing new"
    assert rooms.show(code, secret, "triage", {"floor": "3"}) == 2


def test_here_are_those_who_were_heard_of(make, monkeypatch):
    monkeypatch.setattr(stores, "HERE", 0.4)
    rooms = Classes(make())
    code, secret = rooms.open()
    first, second = come_in(rooms, code), come_in(rooms, code)
    assert rooms.look(code).here == 2 and rooms.look(code, secret=secret).here == 2, "a teacher is no student"
    rooms.leave(code, second)
    assert rooms.look(code).here == 1
    time.sleep(0.5)
    assert rooms.look(code).here == 0 and rooms.knows(code, first) and not rooms.knows(code, second)
    assert rooms.look(code, first).here == 1


def test_a_student_counts_once_and_cannot_change_the_answer(rooms):
    code, secret = rooms.open()
    one, two = come_in(rooms, code), come_in(rooms, code)
    assert not rooms.answer(code, one, PLACE, 0), "nobody has asked"
    rooms.poll(code, secret, PLACE, 2)
    assert rooms.answer(code, one, PLACE, 0) and not rooms.answer(code, one, PLACE, 1)
    assert rooms.answer(code, two, PLACE, 1)
    rooms.poll(code, secret, PLACE, 2)
    assert rooms.look(code).board.polls[PLACE].counts == [1, 1], "asked again, nothing is lost"
    assert not rooms.answer(code, one, PLACE + "x", 0), "another sentence is another question"
    rooms.reveal(code, secret, PLACE)
    late = come_in(rooms, code)
    assert not rooms.answer(code, late, PLACE, 0)
    assert rooms.look(code).board.polls[PLACE].counts == [1, 1] and rooms.look(code).board.polls[PLACE].shown


@pytest.mark.parametrize("guess", [-1, 2, 999])
def test_a_guess_that_is_no_option_does_not_count(rooms, guess):
    code, secret = rooms.open()
    rooms.poll(code, secret, PLACE, 2)
    assert not rooms.answer(code, come_in(rooms, code), PLACE, guess)
    assert rooms.look(code).board.polls[PLACE].counts == [0, 0]


def test_a_question_is_asked_lit_up_put_away_and_deleted(rooms):
    code, secret = rooms.open()
    who = come_in(rooms, code)
    rooms.ask(code, who, "  Why\n 58,\tnot 61?  ")
    rooms.ask(code, who, "<b>**面**</b> $x$ ![a](http://x)")
    first, second = rooms.look(code).board.questions
    assert (first.text, second.text) == ("Why 58, not 61?", "<b>**面**</b> $x$ ![a](http://x)")
    rooms.light(code, secret, second.id)
    assert rooms.look(code).board.question == second.text and not rooms.look(code).board.gone_on
    rooms.show(code, secret, "triage", {})
    assert rooms.look(code).board.question == second.text and rooms.look(code).board.gone_on
    rooms.light(code, secret, first.id)
    rooms.show(code, secret, "triage", {"token": "3"})
    assert not rooms.look(code).board.gone_on  # pointing at something is not going on
    rooms.show(code, secret, "triage", {"token": "3", "stop": "desk"})
    assert rooms.look(code).board.gone_on
    rooms.light(code, secret, second.id)
    rooms.light(code, secret, None)
    assert rooms.look(code).board.question is None
    rooms.light(code, secret, first.id)
    rooms.remove(code, secret, first.id)
    board = rooms.look(code).board
    assert board.question is None and [one.id for one in board.questions] == [second.id]
    rooms.light(code, secret, 999)
    assert rooms.look(code).board.question is None


def test_closing_deletes_everything(rooms, store):
    code, secret = rooms.open()
    who = come_in(rooms, code)
    rooms.show(code, secret, "triage", {})
    rooms.poll(code, secret, PLACE, 2)
    rooms.answer(code, who, PLACE, 1)
    rooms.ask(code, who, "Why?")
    rooms.close(code, secret)
    assert refused(rooms.look, code) == refused(rooms.look, code, who) == refused(rooms.close, code, secret) == "class_gone"
    assert refused(rooms.ask, code, who, "Why?") == "class_not_in"
    assert not rooms.answer(code, who, PLACE, 0) and not rooms.knows(code, who)
    assert store.read(code) is None and not rooms._copies
    rooms.leave(code, who)
    store.extend(code)
    assert store.read(code) is None, "who comes late leaves nothing behind"
    if isinstance(store, Memory):
        assert not store._classes
    else:
        assert store._connect().keys("*") == []


# -- who may do what ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("do", [
    lambda rooms, code, secret: rooms.show(code, secret, "triage", {}), lambda rooms, code, secret: rooms.poll(code, secret, PLACE, 2),
    lambda rooms, code, secret: rooms.reveal(code, secret, PLACE), lambda rooms, code, secret: rooms.allow(code, secret, False),
    lambda rooms, code, secret: rooms.light(code, secret, 1), lambda rooms, code, secret: rooms.remove(code, secret, 1),
    lambda rooms, code, secret: rooms.close(code, secret), lambda rooms, code, secret: rooms.look(code, secret=secret),
], ids=["show", "poll", "reveal", "allow", "light", "remove", "close", "look"])  # fmt: skip
def test_nobody_but_the_holder_of_the_secret(rooms, do):
    code, secret = rooms.open()
    other_code, other = rooms.open()
    who = come_in(rooms, code)
    rooms.ask(code, who, "Why?")
    rooms.poll(code, secret, PLACE + "0", 2)
    before = rooms.look(code).board.text()
    for wrong in ["", "x", secret[:-1], secret + "x", secret.upper(), other, who, code, "\ud800", "面" * 9999, before, json.loads(before)["secret"]]:
        assert refused(do, rooms, code, wrong) == "class_secret"
    assert rooms.look(code).board.text() == before
    do(rooms, code, secret)


def test_the_store_does_not_hold_the_secret(rooms, store):
    code, secret = rooms.open()
    rooms.show(code, secret, "triage", {})
    assert secret not in store.read(code).record


@pytest.mark.parametrize("forged", ["", "x", "0" * 16, "g" * 16, "0" * 17, None, 7, "*", "{hospital}:classes", "面" * 16])
def test_an_id_that_was_given_to_nobody_does_nothing(rooms, forged):
    code, secret = rooms.open()
    rooms.poll(code, secret, PLACE, 2)
    assert not rooms.knows(code, forged)
    assert not rooms.answer(code, forged, PLACE, 0)
    assert refused(rooms.ask, code, forged, "Why?") == "class_not_in"
    assert rooms.look(code).board.polls[PLACE].counts == [0, 0] and rooms.look(code).here == 0


def test_a_student_of_another_class_is_no_student_of_this_one(rooms):
    code, secret = rooms.open()
    rooms.poll(code, secret, PLACE, 2)
    who = come_in(rooms, rooms.open()[0])
    assert not rooms.answer(code, who, PLACE, 0) and refused(rooms.ask, code, who, "Why?") == "class_not_in"


def test_a_code_of_no_class(rooms):
    assert refused(rooms.look, "K7M4A") == "class_gone"
    assert refused(rooms.show, "K7M4A", "x", "triage", {}) == "class_gone"


# -- limits ------------------------------------------------------------------------------------------------------------


def test_so_many_classes_and_no_more(rooms):
    opened = [rooms.open() for _ in range(stores.MOST_CLASSES)]
    assert refused(rooms.open) == "class_many"
    rooms.close(*opened[7])
    assert rooms.open()[0]


def test_so_many_students_and_no_more(make, monkeypatch):
    monkeypatch.setattr(stores, "MOST_STUDENTS", 5)
    monkeypatch.setattr(stores, "ABSENT", 0.4)
    rooms = Classes(make())
    code, _ = rooms.open()
    students = [come_in(rooms, code) for _ in range(5)]
    assert refused(come_in, rooms, code) == "class_full"
    assert rooms.look(code, students[0]).here == 5, "who is in stays in"
    time.sleep(0.5)
    come_in(rooms, code)
    assert rooms.look(code).here >= 1


def test_questions_have_limits(rooms):
    code, secret = rooms.open()
    who = come_in(rooms, code)
    assert refused(rooms.ask, code, who, "x" * (classes.MOST_CHARS + 1)) == "class_ask_long"
    assert refused(rooms.ask, code, who, "x" * 10_000_000) == "class_ask_long"
    for empty in ["", " \n\t\u3000", "\x00\x07", "\u202e\u200b", "\ud800"]:
        assert refused(rooms.ask, code, who, empty) == "class_ask_empty"
    for _ in range(classes.MOST_EACH):
        rooms.ask(code, who, "面" * classes.MOST_CHARS)
    assert refused(rooms.ask, code, who, "one more") == "class_ask_each"
    while (count := len(rooms.look(code).board.questions)) < classes.MOST_QUESTIONS:
        rooms.ask(code, come_in(rooms, code), f"{count}")
    assert refused(rooms.ask, code, come_in(rooms, code), "one more") == "class_ask_many"
    rooms.remove(code, secret, rooms.look(code).board.questions[0].id)
    rooms.ask(code, who, "now there is room")
    rooms.allow(code, secret, False)
    assert refused(rooms.ask, code, come_in(rooms, code), "Why?") == "class_ask_stopped"
    rooms.allow(code, secret, True)


@pytest.mark.parametrize("text,kept", [
    ("a\x00b\x07\x1b[31mc", "ab[31mc"), ("שלום \u202eevil\u2066", "שלום evil"), ("👩‍👩‍👧 🏥", "👩‍👩‍👧 🏥"),
    ("z" + "\u0301\u0316" * 40, "\u017a\u0316\u0316"), ("e\u0301", "é"), ("<script>alert(1)</script>", "<script>alert(1)</script>"),
    ("a\r\n\u2028b", "a b"),
])  # fmt: skip
def test_a_question_is_one_line_of_visible_text(text, kept):
    assert classes.plain(text) == kept


def test_what_is_shown_has_a_limit_and_what_was_shown_stays(rooms):
    code, secret = rooms.open()
    rooms.show(code, secret, "triage", {"s": "short"})
    assert refused(rooms.show, code, secret, "triage", {"s": "面" * classes.MOST_SHOWN}) == "class_shown_long"
    assert rooms.look(code).board.link == {"s": "short"}


def test_the_oldest_tallies_go_and_the_record_stays_small(rooms, store):
    code, secret = rooms.open()
    students = [come_in(rooms, code) for _ in range(stores.MOST_STUDENTS)]
    for number in range(classes.MOST_POLLS + 3):
        rooms.poll(code, secret, f"{PLACE}{number}", 2)
    board = rooms.look(code).board
    assert len(board.polls) == classes.MOST_POLLS and f"{PLACE}2" not in board.polls
    assert not rooms.answer(code, students[0], f"{PLACE}0", 0)
    rooms.poll(code, secret, "many", classes.MOST_OPTIONS + 1)
    assert "many" not in rooms.look(code).board.polls
    # Everything full: what a record can hold at most.
    full = Board("0" * 64, page="department", link={"s": "面" * (classes.MOST_SHOWN // 3)})
    full.polls = {f"predict.department.crowding.{n:012x}": classes.Poll(12, dict.fromkeys(students, 11)) for n in range(classes.MOST_POLLS)}
    full.questions = [classes.Question(n, students[n], "🏥" * classes.MOST_CHARS) for n in range(classes.MOST_QUESTIONS)]
    assert len(full.text().encode()) < classes.MOST_BYTES
    assert Board.read(full.text()) == full
    assert refused(rooms._change, code, lambda board: board.link.update(s="x" * classes.MOST_BYTES) or True) == "class_bytes"


def test_a_class_without_its_teacher_ends(make):
    store = make(idle=0.6)
    rooms = Classes(store)
    code, secret = rooms.open()
    who = come_in(rooms, code)
    for _ in range(4):
        time.sleep(0.3)
        rooms.look(code, secret=secret)
    assert rooms.look(code, who).here == 1, "twice as long as that, but a teacher was there"
    with pytest.raises(ClassError, match="class_gone"):  # students alone do not keep it
        for _ in range(20):
            rooms.look(code, who)
            time.sleep(0.1)
    assert store.read(code) is None
    assert rooms.open()[0], "and its place is free"
    if isinstance(store, Redis):
        assert all("here" not in key for key in store._connect().keys("*"))


def test_a_forgotten_screen_does_not_keep_a_class_for_ever(make, monkeypatch):
    monkeypatch.setattr(stores, "LONGEST", 0.7)
    rooms = Classes(make())
    code, secret = rooms.open()
    with pytest.raises(ClassError, match="class_gone"):
        for _ in range(20):
            rooms.look(code, secret=secret)
            time.sleep(0.1)


# -- many at the same time ---------------------------------------------------------------------------------------------


def test_two_hundred_answers_in_the_same_moment(make):
    """Two processes where there is Redis; threads of one otherwise."""
    first = Classes(make())
    second = Classes(make()) if isinstance(first._store, Redis) else first
    code, secret = first.open()
    first.poll(code, secret, PLACE, 3)
    students = [come_in(first, code) for _ in range(100)]
    assert all(at_once([
        lambda who=who, i=i: (second if i % 2 else first).answer(code, who, PLACE, i % 3) for i, who in enumerate(students)
    ]))  # fmt: skip
    again = at_once([lambda who=who: second.answer(code, who, PLACE, 0) for who in students])
    assert not any(again)
    assert first.look(code).board.polls[PLACE].counts == second.look(code).board.polls[PLACE].counts == [34, 33, 33]


def test_one_student_who_answers_many_times_at_once_counts_once(rooms):
    code, secret = rooms.open()
    rooms.poll(code, secret, PLACE, 2)
    who = come_in(rooms, code)
    assert sum(at_once([lambda i=i: rooms.answer(code, who, PLACE, i % 2) for i in range(40)])) == 1
    assert sum(rooms.look(code).board.polls[PLACE].counts) == 1


def test_a_flood_of_questions_stops_at_the_limit(rooms):
    code, secret = rooms.open()
    students = [come_in(rooms, code) for _ in range(60)]
    given = at_once([lambda who=who, n=n: rooms.ask(code, who, f"{n}") for who in students for n in range(2)])
    kept = rooms.look(code).board.questions
    assert given.count(None) == len(kept) == classes.MOST_QUESTIONS
    assert given.count("class_ask_many") == len(given) - len(kept)
    assert len({one.id for one in kept}) == len(kept)


def test_many_come_in_at_once_and_no_more_than_there_are_places(make, monkeypatch):
    monkeypatch.setattr(stores, "MOST_STUDENTS", 20)
    rooms = Classes(make())
    code, _ = rooms.open()
    given = at_once([lambda: come_in(rooms, code) for _ in range(50)])
    assert given.count("class_full") == 30 and rooms.look(code).here == 20


def test_many_open_at_once_and_no_more_than_there_are_places(rooms):
    given = at_once([rooms.open for _ in range(stores.MOST_CLASSES + 10)])
    assert given.count("class_many") == 10


def test_closing_while_everybody_answers_leaves_nothing(rooms, store):
    code, secret = rooms.open()
    rooms.poll(code, secret, PLACE, 2)
    students = [come_in(rooms, code) for _ in range(30)]

    def answer(who: str) -> None:
        for _ in range(10):
            rooms.answer(code, who, PLACE, 1)
            rooms.look(code, who)

    at_once([lambda who=who: answer(who) for who in students] + [lambda: rooms.close(code, secret)])
    assert store.read(code) is None and not rooms.knows(code, students[0]) and refused(rooms.look, code) == "class_gone"


def test_two_teachers_at_once_agree_in_the_end(rooms):
    code, secret = rooms.open()
    at_once([lambda n=n: rooms.show(code, secret, "triage", {"floor": str(n)}) for n in range(30)])
    assert rooms.look(code).board.turn == 30, "everything that was shown was counted"


# -- without Redis -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "redis://no.such.host.invalid:6379", "nonsense", "http://127.0.0.1", "redis://127.0.0.1:notaport"])
def test_no_redis_is_said_and_not_waited_for(url):
    rooms = Classes(Redis(url))
    for what in [rooms.open, lambda: rooms.look("K7M4A", classes.new_id()), lambda: rooms.show("K7M4A", "x", "triage", {}),
                 lambda: rooms.leave("K7M4A", classes.new_id()), lambda: rooms.ask("K7M4A", classes.new_id(), "Why?"),
                 lambda: rooms.knows("K7M4A", classes.new_id()), lambda: rooms.close("K7M4A", "x")]:  # fmt: skip
        assert refused(what) == "class_unreachable"
    start = time.monotonic()
    for _ in range(100):
        assert refused(rooms.open) == "class_unreachable"
    assert time.monotonic() - start < stores.WAIT, "after it failed once it is left alone for a while"


def test_redis_is_asked_again_after_a_while(redis_url, monkeypatch):
    monkeypatch.setattr(stores, "REST", 0.2)
    store = Redis("redis://127.0.0.1:1/0")
    rooms = Classes(store)
    assert refused(rooms.open) == "class_unreachable"
    store._url, store._client = redis_url, None
    time.sleep(0.3)
    code, secret = rooms.open()
    rooms.close(code, secret)


def test_redis_is_not_brought_in_where_it_is_not_asked_for():
    """Nor is anything else that costs: a page without a class imports none of this."""
    import subprocess
    import sys

    script = "import sys, pages.kit.classroom; print('redis' in sys.modules, 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split() == ["False", "False"]
    script = "import sys, pages.kit.shell, pages.kit.chapter; print('pages.kit.classroom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "False"
