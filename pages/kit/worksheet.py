"""The worksheet: one sentence's exercises as a page to print, with nothing in it that a browser must fetch or run.

`document` is a pure function from a visit to HTML; the exercises are made in exercises.py, with what sheet.py has; the
HTML around them is in paper.py.
"""

from __future__ import annotations

import html
from typing import Literal

from pages.kit import exercises, words
from pages.kit.chapter import Visit
from pages.kit.paper import clean, page
from pages.kit.sheet import Exercise, Paper

Part = Literal["tasks", "answers", "both"]
PARTS: tuple[Part, ...] = ("tasks", "answers", "both")
MOST_CHIPS = 48  # tokens that are printed, those around the followed one


def document(visit: Visit, lang: str, depth: str, part: Part = "both") -> str:
    """A complete HTML page: the exercises, their answers, or both with the answers on a page of their own.

    Works from the visit alone: `lang` and `depth` are those of the sheet, whatever the screen shows. KeyError for a
    depth or a language that there is not.
    """
    paper = Paper(visit, lang, depth)
    made = exercises.made(paper)
    body = ""
    if part != "answers":
        body += f"<main>{_head(paper, 'title')}{''.join(_exercise(paper, *one) for one in enumerate(made, 1))}</main>"
    if part != "tasks":
        answers = "".join(_answers(paper, *one) for one in enumerate(made, 1))
        css = " class='answers'" if part == "both" else ""
        body += f"<aside{css}>{_head(paper, 'answers', named=False)}{answers}</aside>"
    title = words.say(lang, "worksheet.doc.answers" if part == "answers" else "worksheet.doc.title")
    return page(lang, title, body + f"<p class='soft foot'>{paper.say('doc.foot')}</p>")


def _head(paper: Paper, title: str, named: bool = True) -> str:
    visit = paper.visit
    fields = "".join(f"<span>{paper.say(f'doc.{one}')}<i></i></span>" for one in ("name", "date"))
    first = max(0, min(visit.token - MOST_CHIPS // 2, len(visit.pieces) - MOST_CHIPS))
    shown = range(first, min(first + MOST_CHIPS, len(visit.pieces)))
    chips = "".join(
        f"<li{' class=here' if i == visit.token else ''}><small>{i}</small>{html.escape(paper.name(i))}</li>"
        for i in shown
    )
    rest = len(visit.pieces) - len(shown)
    more = f"<li>{paper.say('doc.more', n=rest)}</li>" if rest else ""
    follow = paper.say("doc.follow", at=visit.token, token=paper.name(), floor=visit.floor)
    level = paper.say("doc.level", level=paper.say(f"doc.{paper.depth}"))
    return (
        f"<h1>{paper.say(f'doc.{title}')}</h1><p class='soft'>{level}</p>"
        + (f"<div class='fields'>{fields}</div>" if named else "")
        + f"<div class='sentence'><p class='soft'>{paper.say('doc.sentence')}</p>"
        f"<p class='text'>{html.escape(clean(visit.sentence))}</p>"
        + (f"<p class='soft'>{paper.say('doc.patients')}</p><ul class='chips'>{chips}{more}</ul>" if named else "")
        + f"<p>{follow}</p>" + (f"<p class='soft'>{paper.say('doc.real')}</p>" if named else "") + "</div>"
    )  # fmt: skip


def _exercise(paper: Paper, n: int, one: Exercise) -> str:
    return f"<section class='exercise' data-exercise='{one.key}'>{_title(paper, n, one)}{one.tasks}</section>"


def _answers(paper: Paper, n: int, one: Exercise) -> str:
    return f"<section data-answer='{one.key}'>{_title(paper, n, one)}{one.answers}</section>"


def _title(paper: Paper, n: int, one: Exercise) -> str:
    return f"<h2>{paper.say('doc.number', n=n)} · {one.title}</h2>"
