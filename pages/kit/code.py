"""Source shown on the pages: cut from the files when it is shown, so that it is always what runs."""

from __future__ import annotations

import ast
import textwrap
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Source:
    """Lines of a file of `model/`."""

    file: str  # relative to the repository
    first: int  # number of the first line
    text: str


@cache
def _parsed(path: Path) -> tuple[ast.stmt, ...]:
    """What stands in a file. One thread at a time: some Pythons, 3.11.7 among them, count the depth of all trees
    together, and where two are made at once, as when a class comes to a new page, both may fail (SystemError)."""
    with _one_at_a_time:
        return tuple(ast.parse(path.read_text("utf-8")).body)


@cache
def source(file: str, name: str, start: str | None = None, end: str | None = None) -> Source:
    """The definition called `name` ("Router.forward") in `file`; with `start` and `end`, only from the line that
    contains the one to the line that contains the other. LookupError if any of them is not there exactly once."""
    path = ROOT / file
    text = path.read_text("utf-8")
    scope = list(_parsed(path))
    for part in name.split("."):
        found = [node for node in scope if getattr(node, "name", None) == part]
        if len(found) != 1:
            raise LookupError(f"{file} has {len(found)} definitions called {name}")
        node = found[0]
        scope = getattr(node, "body", [])
    lines = text.splitlines()
    first, last = node.lineno, node.end_lineno or node.lineno

    def line_with(mark: str) -> int:
        hits = [i for i in range(first, last + 1) if mark in lines[i - 1]]
        if len(hits) != 1:
            raise LookupError(f"{name} in {file} has {len(hits)} lines with {mark!r}")
        return hits[0]

    first, last = line_with(start) if start else first, line_with(end) if end else last
    return Source(file, first, textwrap.dedent("\n".join(lines[first - 1 : last])))
