"""Dealing a quiz: which kinds of question are asked, about whom and where, and in which order the options stand.

This is the one place of the pages where chance is let in, and only here: a seed is drawn when nobody named one. From
there on everything follows from the seed by hashing, so that one seed and one sentence make one quiz at a depth, today
and on another machine. What is asked and what is right is made in pages/kit/figures/quiz.py, which knows of no seed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pages.kit import state
from pages.kit.chapter import Visit
from pages.kit.figures.quiz import KINDS, TOPICS, Question, tallies

COUNT = 10  # questions
SEEDS = 1_000_000
TRIES = 12  # whom and where to ask, before another kind is taken
PASSES = 3  # the same for a kind that makes a pass of the model each time
SKIPPED = -1  # the answer of who had it shown

One = TypeVar("One")


def fresh(before: int | None = None) -> int:
    """A seed that nobody named, another one than before."""
    while (seed := secrets.randbelow(SEEDS)) == before:
        pass
    return seed


def again(before: int) -> None:
    """Other questions than before."""
    state.put("quiz", fresh(before))
    state.reset("question")


def lot(*what: object) -> int:
    """A large number that follows from what it is drawn for."""
    return int.from_bytes(hashlib.sha256(repr(what).encode()).digest()[:8], "big")


def mixed(items: Iterable[One], *what: object) -> list[One]:
    """The items in the order that is dealt for this."""
    return sorted(items, key=lambda one: lot(*what, one))


def deal(visit: Visit, seed: int, depth: str) -> tuple[Question, ...]:
    """The quiz: up to COUNT questions of different kinds in the order of the walk, one of every topic before a second
    of any; at a deeper depth its own kinds go first."""
    offered = [kind for kind, one in KINDS.items() if state.DEPTHS.index(one.depth) <= state.DEPTHS.index(depth)]
    order = sorted(mixed(offered, seed), key=lambda kind: KINDS[kind].depth != depth)
    first = [next(kind for kind in order if KINDS[kind].topic == topic) for topic in TOPICS]
    found: dict[str, Question] = {}
    for kind in [*first, *mixed(set(offered) - set(first), seed)]:
        question = _ask(visit, seed, kind)
        if question is not None:
            found[kind] = question
        if len(found) == COUNT:
            break
    return tuple(found[kind] for kind in KINDS if kind in found)


def _ask(visit: Visit, seed: int, kind: str) -> Question | None:
    """A question of this kind, its options mixed; None where nobody can be found to ask it about."""
    c, how = visit.trace.config, KINDS[kind]
    tokens = [i for i, piece in enumerate(visit.pieces) if i and not piece["special"]] or [len(visit.pieces) - 1]
    tokens = [i for i in tokens if any(char.isalnum() for char in visit.pieces[i]["text"])] or tokens  # words, if any
    floors = range(c.first_k_dense_replace + 1 if how.floors == "departments" else 1, c.num_hidden_layers + 1)
    if not floors:
        return None
    for n in range(PASSES if how.passes else TRIES):
        token = tokens[lot(seed, kind, n, "token") % len(tokens)]
        floor = floors[lot(seed, kind, n, "floor") % len(floors)]
        question = how.make(replace(visit, token=token, floor=floor))
        if question is not None:
            order = mixed(range(len(question.options)), seed, kind, "options")
            return replace(
                question, options=tuple(question.options[i] for i in order), right=order.index(question.right)
            )
    return None


def by_guessing(asked: Sequence[Question]) -> float:
    """Right answers that blind guesses get on average."""
    return sum(1 / len(one.options) for one in asked)


# -- to keep -----------------------------------------------------------------------------------------------------------


def record(
    asked: Sequence[Question], answers: Mapping[int, int], *, lang: str, depth: str, seed: int, sentence: str, date: str
) -> dict[str, Any]:
    """The quiz and what was answered, as it is saved: no name, nothing about the visitor."""
    rows = []
    for i, one in enumerate(asked):
        said, options = answers.get(i), [option.said(lang) for option in one.options]
        rows.append({
            "number": i + 1, "topic": one.topic, "kind": one.kind, "token": one.token, "floor": one.floor,
            "question": one.ask(lang, depth), "options": options,
            "answer": options[said] if said is not None and said != SKIPPED else None,
            "right": options[one.right], "correct": said == one.right,
        })  # fmt: skip
    return {
        "date": date, "seed": seed, "sentence": sentence, "language": lang, "depth": depth,
        "correct": sum(row["correct"] for row in rows), "asked": len(rows),
        "topics": [one._asdict() for one in tallies(asked, answers)], "questions": rows,
    }  # fmt: skip


def as_csv(kept: Mapping[str, Any]) -> bytes:
    """`record` as a table, a question a row, for a spreadsheet: it opens Chinese as Chinese, and takes nothing that was
    typed for a formula."""
    out = io.StringIO()
    table = csv.writer(out)
    whole = ("date", "seed", "sentence", "language", "depth")
    own = ("number", "topic", "kind", "token", "floor", "question", "options", "answer", "right", "correct")
    table.writerow([*own, *whole])
    for row in kept["questions"]:
        cells = [" | ".join(row[name]) if name == "options" else row[name] for name in own]
        table.writerow([_cell(cell) for cell in [*cells, *(kept[name] for name in whole)]])
    return out.getvalue().encode("utf-8-sig")


def _cell(value: Any) -> Any:
    """What a spreadsheet shows as it is."""
    formula = isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{value}" if formula else "" if value is None else value
