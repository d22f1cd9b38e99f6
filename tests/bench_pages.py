"""How long the server takes to answer each control of each page: `python tests/bench_pages.py [--json]`.

It drives the real pages in one process, as a single visitor. A new sentence asks its page's questions again; "answer" is
the turn in which all of them are answered at once ("just show me"), and for the other controls they stay so: everything
is shown. Times are wall time of a whole rerun, reading the result back included, so they are a little more than what the
server takes. Sentences have 32 tokens. Every value of a control is new, so nothing is found in a cache that a visitor
would not find there; scripts are compiled once, as by a server. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import streamlit as st  # noqa: E402
from streamlit.runtime.pages_manager import PagesManager  # noqa: E402
from streamlit.runtime.scriptrunner.script_cache import ScriptCache  # noqa: E402
from streamlit.testing.v1 import AppTest, app_test, local_script_runner  # noqa: E402

from pages.kit import chapter, service, shell  # noqa: E402

SENTENCES = (
    "Doctor {}, I have had a fever and a headache since yesterday evening. Should I stay in bed and rest today?",
    "Doctor {}, I have had a fever and a headache since yesterday evening. Should I stay in bed and rest?",
)
TOKENS = 32
ROUNDS = 12
MEDIAN, NINETY_FIVE = 150, 400  # what is asked, in milliseconds
questions = SimpleNamespace(answered=False, asked=False)  # whether the visitor answers all of them; whether there are any


def controls(page: str, tokens: int, c: Any) -> dict[str, list[dict[str, Any]]]:
    """What is turned on a page: name -> the settings of each turn."""
    dense, floors = c.first_k_dense_replace, c.num_hidden_layers
    spread = [dense + 1 + i * (floors - dense - 1) // (ROUNDS - 1) for i in range(ROUNDS)]
    on_page = spread if page != "triage" else [1 + i % dense for i in range(ROUNDS)]
    turns = {
        "token": [{"token": 1 + i % (tokens - 1)} for i in range(ROUNDS)],
        "depth": [{"depth": ("maths", "code", "story")[i % 3]} for i in range(ROUNDS)],
        "language": [{"lang": ("zh", "en")[i % 2]} for i in range(ROUNDS)],
    }
    if page not in ("discharge",):
        turns["floor"] = [{"floor": floor} for floor in on_page]
    if page == "department":
        rooms = [i * c.n_routed_experts // ROUNDS for i in range(ROUNDS)]
        turns["room"] = [{"room": room} for room in rooms]
        for change in ("dismiss", "force", "silence_shared", "bias_in_weights", "mask_with_zero", "softmax"):
            turns[change] = [{"change": change, "floor": f, "room": r} for f, r in zip(spread, rooms, strict=True)]
        turns["k"] = [{"change": "num_experts_per_tok", "k": 1 + i, "floor": f} for i, f in enumerate(spread)]
    if page == "round":
        turns["other"] = [{"other": i % tokens} for i in range(ROUNDS)]
    if page == "heads":
        turns["head"] = [{"change": None, "head": i % c.num_attention_heads} for i in range(ROUNDS)]
        turns["head off"] = [{"change": "silence_heads", "floor": f, "head": i} for i, f in enumerate(spread)]
    if page == "postal":
        turns["head"] = [{"head": i % c.num_attention_heads} for i in range(ROUNDS)]
        turns["rank"] = [{"rank": 1 + i % (c.kv_lora_rank - 1)} for i in range(ROUNDS)]
    if page == "discharge":
        turns["temperature"] = [{"temperature": 50 + 10 * i} for i in range(ROUNDS)]
        turns["top_k"] = [{"top_k": 2 + i} for i in range(ROUNDS)]
        turns["top_p"] = [{"top_p": 50 + 4 * i} for i in range(ROUNDS)]
        turns["seed"] = [{"seed": 1 + i} for i in range(ROUNDS)]
    return turns


def set_all(app: AppTest, values: dict[str, Any]) -> None:
    for name, value in values.items():
        app.session_state[f"setting.{name}"] = value
    app.session_state["link.behind"] = True


def timed(app: AppTest) -> float:
    start = time.perf_counter()
    app.run()
    spent = 1000 * (time.perf_counter() - start)
    if app.exception or app.error:
        raise SystemExit([e.value for e in [*app.exception, *app.error]])
    return spent


def sentences(tokenizer: Any) -> Iterator[str]:
    """New ones, each of `TOKENS` tokens (and the one that begins every text)."""
    for sentence, number in itertools.product(SENTENCES, range(1, 1000)):
        if len(tokenizer.encode(text := sentence.format(number))) == TOKENS + 1:
            yield text


def rows() -> Iterator[tuple[str, str, list[float]]]:
    """(page, control, milliseconds of every turn), one after the other."""
    house = service.hospital()
    new = sentences(house.tokenizer)
    for path, _, _ in shell.WALK:
        page = Path(path).stem
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
        if page != "lobby":
            app.switch_page(path)
        typed, answered = [], []
        for text in itertools.islice(new, ROUNDS + 1):
            questions.answered = False
            set_all(app, {"sentence": text, "token": None, "lang": "en"})
            questions.asked = False
            typed.append(timed(app))
            questions.answered = True
            answered.append(timed(app))
        assert len(typed) == ROUNDS + 1, "sentences have run out"
        yield page, "new sentence", typed[1:]
        if questions.asked:
            yield page, "answer", answered[1:]
        for name, turns in controls(page, TOKENS + 1, house.config).items():
            yield page, name, [(set_all(app, turn), timed(app))[1] for turn in turns]
            set_all(app, {"change": None, "depth": "story", "lang": "en"})
            app.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    args = parser.parse_args()
    original = PagesManager.__init__

    def init(self: Any, *given: Any, **named: Any) -> None:  # a server leaves this mode after its first visitor
        original(self, *given, **named)
        PagesManager.uses_pages_directory = False

    compiled = ScriptCache()
    app_test.ScriptCache = local_script_runner.ScriptCache = lambda: compiled
    PagesManager.__init__ = init
    place = chapter._place

    def answered(*given: Any) -> str:
        """Where a question keeps its answer; it is given there and then where the visitor answers."""
        questions.asked, found = True, place(*given)
        if questions.answered:
            st.session_state.setdefault(found, -1)  # "just show me"
        return found

    chapter._place = answered
    found, every = [], []
    for page, control, times in rows():
        ordered = sorted(times)
        middle, high = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
        found.append({"page": page, "control": control, "median_ms": round(middle, 1), "p95_ms": round(high, 1)})
        every += times
        if not args.json:
            mark = "" if middle <= MEDIAN and high <= NINETY_FIVE else "  <- above what is asked"
            print(f"{page:>11} {control:<18} median {middle:6.0f} ms   95 % {high:6.0f} ms{mark}", flush=True)
    every.sort()
    whole = {"median_ms": round(every[len(every) // 2], 1), "p95_ms": round(every[int(0.95 * len(every))], 1)}
    print(json.dumps({"controls": found, "all": whole}) if args.json else f"all turns: {whole}")


if __name__ == "__main__":
    main()
