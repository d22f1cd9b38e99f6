"""A handful of learners at once, and what `load.py` itself must not do. The whole class is `python tests/load.py`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import threading
import time
from pathlib import Path

import learners
import load
import pytest
from helpers import apart
from learners import Learner, Tally
from load import Scenario
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def found() -> dict:
    """Six learners who do something every second, then six sentences in one instant."""
    with load.server() as (url, process):
        apart(load.warm(url))
        walk = apart(load.run([url], [process], Scenario("few", 6, 8.0), every=1.0))
        burst = apart(load.run([url], [process], Scenario("few at once", 6, 0.0, burst=True)))
        same = apart(equal_sentences(url))
        late = apart(late_from_the_page_before(url))
        together = apart(load.run([url], [process], Scenario("one class", 3, 6.0, together=True), every=1.0))
        followed = apart(what_one_student_sees(url))
        beside = apart(beside_a_flood(url, process))
        return {"walk": walk, "burst": burst, "same": same, "late": late, "beside": beside, "together": together, "followed": followed}


async def beside_a_flood(url: str, process) -> dict:
    """Three learners, while a fourth window sends far more turns than anybody can click and reads no answer."""
    ended = asyncio.Event()

    async def flood() -> None:
        address = "ws" + url.removeprefix("http") + "/_stcore/stream"
        async with load.connect(address, subprotocols=["streamlit"], max_size=None, proxy=None, ping_interval=None, close_timeout=1) as socket:
            turn = BackMsg()
            turn.rerun_script.query_string = "lang=en"
            sending = asyncio.create_task(send_all(socket, turn.SerializeToString()))
            await ended.wait()
            sending.cancel()

    async def send_all(socket, turn: bytes) -> None:
        for _ in range(2000):
            await socket.send(turn)

    window = asyncio.create_task(flood())
    found = await load.run([url], [process], Scenario("beside a flood", 3, 5.0), every=1.0)
    ended.set()
    await asyncio.gather(window, return_exceptions=True)
    return found


async def equal_sentences(url: str) -> list[str]:
    """What two visitors see who type the same two sentences."""
    tally, seen = Tally(), []

    async def type_both(learner: Learner) -> None:
        for text in ("We all read this sentence together, word by word.", learners.SENTENCES[0].format("L000N9999")):
            learner.widgets[learner.box] = WidgetState(id=learner.box, string_value=text)
            await learner.turn("sentence")
            seen.append(learner.patients())

    for _ in range(2):
        await load._learn(url, 0, tally, load.Meeting(1), type_both)
    assert not tally.errors and not tally.lost
    return seen


async def what_one_student_sees(url: str) -> list[tuple]:
    """What a teacher's screen shows after each thing that is done there, and what a student's does after one look."""
    tally, seen = Tally(), []

    async def look(student: Learner, teacher: Learner) -> None:
        student.follows = 0
        for what in ("sentence", "click", "slider", "sentence", "page", "slider", "sentence"):
            await teacher.act(what)
            await student.tick()
            seen.append((what, teacher.shows(), student.shows(), teacher.patients(), student.patients()))

    async def teach(teacher: Learner) -> None:
        await teacher.open_class()
        await teacher.turn("page", page="")
        await load._learn(url, 1, tally, load.Meeting(1), lambda student: look(student, teacher), code=teacher.code)

    await load._learn(url, 0, tally, load.Meeting(1), teach, code="")
    assert not tally.errors and not tally.lost and not tally.wrong, (tally.errors, tally.wrong)
    return seen


async def late_from_the_page_before(url: str) -> list[bool]:
    """Whether a page stands to which a window has gone on, when a part of the page before asks once more while it is
    being drawn: for each page that has such a part."""
    tally, stands = Tally(), []

    async def leave(learner: Learner) -> None:
        late = BackMsg()
        ask = late.rerun_script
        ask.query_string, ask.page_script_hash, ask.fragment_id = learner.query, learner.hash, learner.typing
        assert learner.typing
        ask.is_auto_rerun = True
        ask.widget_states.widgets.extend(learner.widgets.values())
        learner.widgets.clear()
        going = asyncio.create_task(learner.turn("page", page="discharge"))
        await asyncio.sleep(0.02)  # mostly it is being drawn now; sooner and later the page stands as well
        await learner.socket.send(late.SerializeToString())
        await going
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while True:
                    learner._hear(await learner.socket.recv(decode=False))
        stands.append(learner.hash == learner.pages["discharge"])

    for page in ("triage", "department", "round", "heads", "postal"):
        await load._learn(url, load.PAGES.index(page), tally, load.Meeting(1), leave)
    assert not tally.errors and not tally.lost
    return stands


@pytest.mark.parametrize("run", ["walk", "burst", "beside", "together"])
def test_every_answer_comes_and_is_ones_own(found, run):
    one = found[run]
    assert one["lost"] == one["errors"] == one["wrong"] == 0, one["told"]
    assert one["all"]["count"] >= one["learners"]
    assert one["asked"]["none lost"] and one["asked"]["no error"] and one["asked"]["nobody else's"]


def test_all_kinds_of_turns_were_there(found):
    assert {"sentence", "token", "slider"} <= set(found["walk"]["kinds"])
    assert sum(kind["count"] for kind in found["walk"]["kinds"].values()) == found["walk"]["all"]["count"] >= 20


def test_memory_is_looked_at(found):
    walk = found["walk"]
    assert 100 < walk["rss_mb"][0] < 1200 and walk["rss_most_mb"] >= max(walk["rss_mb"]) - 1
    assert walk["cpu_ms_a_turn"] > 0
    json.dumps([found[run] for run in ("walk", "burst", "beside", "together")])


def test_the_answer_to_an_equal_sentence_is_equal(found):
    first, second = found["same"][:2], found["same"][2:]
    assert first == second and "We all read this" in first[0] and "L000N9999" in first[1]


def test_a_part_of_the_page_before_that_asks_late_is_not_answered(found):
    assert found["late"] == [True] * 5


def test_a_class_sees_at_its_next_look_what_its_teacher_does(found):
    for what, teacher, student, mine, theirs in found["followed"]:
        assert teacher == student, what
        assert mine == theirs and mine, what
    assert len({shown for _, shown, *_ in found["followed"]}) >= 6, "a click may be one on an answer"
    one = found["together"]
    assert one["shown"] >= 2 and one["seen"]["count"] + one["missed"] == 3 * one["shown"]
    assert one["seen"]["count"] >= 3 and one["kinds"]["taken along"]["count"] >= 3, "the last is seen by all"


# -- what it sees ------------------------------------------------------------------------------------------------------


class Silent:
    """A socket on which nothing comes."""

    async def send(self, _):
        pass

    async def recv(self, **_):
        await asyncio.sleep(9)


def test_an_answer_that_does_not_come_is_lost(monkeypatch):
    monkeypatch.setattr(learners, "PATIENCE", 0.05)
    tally = Tally()
    with pytest.raises(learners.Lost):
        apart(Learner(1, Silent(), tally).turn("sentence"))
    assert tally.lost == 1 and not tally.turns


def page_of(number: int, said: str) -> bytes:
    """A message with a component that speaks of `said`."""
    message = ForwardMsg()
    one = message.delta.new_element.bidi_component
    one.id, one.component_name = "x-plates.a.who", "plates"
    tokens = [{"text": said, "special": False, "partial": False}]
    one.bytes = json.dumps({"page": "a.who", "plates": [{"id": "tokens_token", "kind": "tokens", "tokens": tokens}]}).encode()
    return message.SerializeToString()


def test_a_stranger_s_sentence_is_seen():
    tally = Tally()
    learner = Learner(7, Silent(), tally)
    learner.typed = 1
    learner._hear(page_of(7, "I am L007N0001."))
    learner._check_sentence()
    assert not tally.wrong
    learner._hear(page_of(7, "I am L008N0001."))
    learner._check_sentence()
    assert len(tally.wrong) == 2 and "L008" in tally.wrong[0], "in the bytes, and on the page"


def test_an_old_answer_is_seen():
    tally = Tally()
    learner = Learner(7, Silent(), tally)
    learner.typed = 2
    learner._hear(page_of(7, "I am L007N0001."))
    learner._check_sentence()
    assert len(tally.wrong) == 1


# -- what it does not do -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://example.org", "https://127.0.0.1:1", "http://10.0.0.1:8501", "http://127.0.0.1.example.org", "ws://localhost", "", "http://localhost@example.org"])
def test_other_machines_are_left_alone(url):
    with pytest.raises(SystemExit):
        load.local(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8501/", "http://localhost:1", "http://[::1]:8501"])
def test_this_machine_is_spoken_to(url):
    assert load.local(url) == url.rstrip("/")


@pytest.mark.parametrize("change", [{"learners": 0}, {"learners": load.MOST_LEARNERS + 1}, {"seconds": load.MOST_SECONDS + 1}, {"seconds": -1.0}])
def test_it_is_bounded(change):
    with pytest.raises(SystemExit):
        apart(load.run(["http://127.0.0.1:1"], [], dataclasses.replace(load.SCENARIOS["class"], **change)))


def test_nobody_there():
    """No server: everybody is lost, and it ends."""
    one = apart(load.run(["http://127.0.0.1:9"], [], Scenario("empty", 2, 1.0)))
    assert one["lost"] == 2 and not one["asked"]["none lost"] and "connection: " in " ".join(one["told"])


def test_several_servers_share_the_learners():
    """Of two servers one is not there: half of the learners are lost with it."""
    with load.server() as (url, process):
        one = apart(load.run([url, "http://127.0.0.1:9"], [process], Scenario("half", 4, 0.0, burst=True)))
    assert one["lost"] == 2 and one["all"]["count"] == 2 and not one["wrong"]


def test_what_is_asked_is_what_was_agreed():
    asked = load.SCENARIOS
    assert (asked["class"].learners, asked["class"].median, asked["class"].high) == (50, 100.0, 400.0)
    assert (asked["double"].learners, asked["double"].high) == (100, 1000.0)
    assert (asked["burst"].learners, asked["burst"].last) == (50, 3000.0)
    assert (asked["memory"].seconds, asked["memory"].memory) == (1800.0, 1200.0)


# -- whose turn it is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 2])
def test_turns_are_taken_in_order_and_few_at_a_time(at_once):
    from pages.kit.turns import Turns

    turns, inside, most, order = Turns(at_once), [0], [0], []
    begun, queued = threading.Barrier(at_once + 1), threading.Event()

    def first() -> None:
        with turns.taken(), turns.taken():
            begun.wait()
            queued.wait(60)

    def later(number: int) -> None:
        with turns.taken():
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            order.append(number)
            time.sleep(0.01)
            inside[0] -= 1

    holders = [threading.Thread(target=first) for _ in range(at_once)]
    [one.start() for one in holders]
    begun.wait()
    waiting = []
    for number in range(8):
        waiting.append(threading.Thread(target=later, args=(number,)))
        waiting[-1].start()
        end = time.monotonic() + 60
        while len(turns._waiting) < number + 1:
            assert time.monotonic() < end
            time.sleep(0.001)
    queued.set()
    [one.join() for one in [*holders, *waiting]]
    assert sorted(order) == list(range(8)) and most[0] <= at_once
    assert at_once > 1 or order == list(range(8))
    assert turns._free == at_once and not turns._waiting


def test_a_turn_is_passed_on_however_it_ends():
    from pages.kit.turns import Turns

    turns = Turns(1)
    for _ in range(3):
        with pytest.raises(RuntimeError), turns.taken():
            raise RuntimeError
    came = threading.Event()

    def other() -> None:
        with turns.taken():
            came.set()

    with turns.taken():
        waits = threading.Thread(target=other)
        waits.start()
        assert not came.wait(0.2)
        with turns.given_up():
            assert came.wait(30)
        waits.join()
        turns.step_aside()
        assert turns._free == 0, "and it is this one's again"
    assert turns._free == 1


def test_nobody_waits_for_ever(monkeypatch):
    """Where the runs before hang, one more goes on; and when they end after all, there are as many as before."""
    from pages.kit import turns as file

    monkeypatch.setattr(file, "LONGEST", 0.1)
    turns, hangs, gone = file.Turns(1), threading.Event(), []

    def stuck() -> None:
        with turns.taken():
            hangs.wait(60)

    def next_one() -> None:
        with turns.taken():
            gone.append(turns._free)

    first = threading.Thread(target=stuck)
    first.start()
    while turns._free:
        time.sleep(0.001)
    second = threading.Thread(target=next_one)
    second.start()
    second.join(60)
    assert gone == [-1] and not turns._waiting
    hangs.set()
    first.join()
    assert turns._free == 1


def test_the_model_is_loaded_once(monkeypatch, clinic_folder):
    """Whoever opens the hospital at the same moment as others gets the same one."""
    import model
    from pages.kit import service

    loaded, load_it = [], model.load

    def slowly(path):
        loaded.append(path)
        time.sleep(0.3)
        return load_it(path)

    monkeypatch.setattr(model, "load", slowly)
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))
    service._open.clear()
    houses: list[object] = []
    people = [threading.Thread(target=lambda: houses.append(service.hospital())) for _ in range(6)]
    [one.start() for one in people]
    [one.join() for one in people]
    assert len(houses) == 6 and len({id(house) for house in houses}) == 1 and loaded == [str(clinic_folder)]
