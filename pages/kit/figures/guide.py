"""The teacher's guide as HTML: entries page by page, lesson plans, the checklist; on screen and on paper.

Structure is in assets/guide.toml, words in words/<language>/guide.toml. A text may put in sizes of the checkpoint that
is open (`numbers`), what the page's link sets, and the app's own words for a control ("words" of an entry), so that
what is said to be there is called what it is called.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pages.kit import ask, library, paper, shell, state, words
from pages.kit.chapter import percent
from pages.kit.paper import Html, escaped, marked
from pages.kit.words import t

FOR = ("pupil", "student", "engineer")
CONFIG = shell.ROOT / "assets" / "hospital" / "config.json"


class Entry(NamedTuple):
    """One page of the house, as a teacher needs it."""

    page: str  # its address
    label: str  # words of its name
    minutes: int
    audience: tuple[str, ...]  # of FOR
    before: tuple[str, ...]  # pages that come first
    link: dict[str, Any]  # what its link sets, `example` among it
    quoted: dict[str, str]  # names in its texts -> the app's own words

    @property
    def name(self) -> str:
        return t(self.label)


class Step(NamedTuple):
    """A line of a lesson plan."""

    page: str
    minutes: int


class Plan(NamedTuple):
    """A lesson: its name in the words, and its lines."""

    name: str
    audience: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def minutes(self) -> int:
        return sum(step.minutes for step in self.steps)


@cache
def entries() -> dict[str, Entry]:
    """Every page that has an entry, in the order of the house."""
    told = library.read("guide")["page"]
    return {
        page: Entry(
            page, label, one["minutes"], tuple(one["for"]), tuple(one["before"]), one["link"], one["words"],
        )
        for page, label, one in ((Path(path).stem, label, told.get(Path(path).stem)) for path, label, _ in shell.PAGES)
        if one
    }  # fmt: skip


@cache
def plans() -> dict[str, Plan]:
    """The lesson plans."""
    return {
        name: Plan(name, tuple(one["for"]), tuple(Step(step["page"], step["minutes"]) for step in one["steps"]))
        for name, one in library.read("guide")["plan"].items()
    }


# -- what is put into the texts ----------------------------------------------------------------------------------------


def config() -> Mapping[str, Any]:
    """config.json of the checkpoint that is open, read without bringing the model in; the shipped one's, where it
    cannot be read or is of something else, as in the lesson."""
    folder = os.environ.get("TOKEN_HOSPITAL_CHECKPOINT")
    try:
        found = json.loads(Path(folder or CONFIG.parent, "config.json").read_text("utf-8"))
        if {"n_routed_experts", "kv_lora_rank"} <= set(found):
            return found
    except (OSError, ValueError, TypeError):
        pass
    return json.loads(CONFIG.read_text("utf-8"))


def numbers() -> dict[str, Any]:
    """Sizes of the house, under the names that the texts use."""
    c = config()
    desk, called, nurses = c["first_k_dense_replace"], c["num_experts_per_tok"], c["n_shared_experts"]
    departments = c["num_hidden_layers"] - desk
    latent, rope = c["kv_lora_rank"], c["qk_rope_head_dim"]
    return {
        "floors": c["num_hidden_layers"], "desk": desk, "departments": departments, "rooms": c["n_routed_experts"],
        "called": called, "nurses": nurses, "both": called + nurses, "per_token": departments * (called + nurses),
        "interns": departments * called, "all": departments * c["n_routed_experts"], "corridors": c["n_group"],
        "kept": c["topk_group"], "heads": c["num_attention_heads"], "latent": latent, "rope": rope,
        "code": latent + rope, "scale": str(c["routed_scaling_factor"]),
        "full": c["num_attention_heads"] * (c["qk_nope_head_dim"] + c["v_head_dim"]),
    }  # fmt: skip


def settings(page: str) -> dict[str, Any]:
    """What the link to a page sets, as far as this house is as high as that; its example in the visitor's language."""
    if page not in entries():
        return {}
    link = dict(entries()[page].link)
    if "example" in link:
        link["sentence"] = ask.EXAMPLES.get(words.current(), ask.EXAMPLES[words.FALLBACK])[link.pop("example")]
    house = numbers()
    if "floor" in link:
        link["floor"] = min(link["floor"], house["floors"] if link["floor"] > house["desk"] else house["desk"])
    if "head" in link:
        link["head"] = min(link["head"], house["heads"] - 1)
    return link


def link(page: str) -> dict[str, str]:
    """Parameters of the link that opens the page as its entry describes it, at the visitor's language and depth."""
    return state.to_link({"lang": words.current(), "depth": state.get("depth"), **settings(page)})


def values(page: str) -> dict[str, Any]:
    """Everything that texts about a page may put in."""
    put = {**numbers(), **{name: one for name, one in settings(page).items() if name != "sentence"}}
    quoted = entries()[page].quoted if page in entries() else {}
    return put | {name: t(key, **put) for name, key in quoted.items()}


# -- what was found in this house --------------------------------------------------------------------------------------


def _round() -> str | None:
    from pages.kit import service

    study = service.study()
    if study is None:
        return None
    half = len(study.early_exit.agreement) // 2
    return t(
        "guide.found.round", documents=f"{study.early_exit.documents:,}", half=half,
        share=percent(float(study.early_exit.agreement[half - 1])),
    )  # fmt: skip


def _discharge() -> str | None:
    from pages.kit.figures import discharge

    known = discharge.evaluation()
    return t("discharge.bank.note", **discharge.bank_numbers(known)) if known else None


def _facts() -> str:
    from pages.kit.figures import facts

    return t("guide.found.facts", count=len(facts.claims()), **facts.tally(facts.claims()))


def _history() -> str:
    from pages.kit.figures import history

    said = history.question()
    return t("guide.found.history", share=said["share"], active=said["active"], total=said["total"])


def _choice(what: str) -> Callable[[], str | None]:
    def said() -> str | None:
        from pages.kit.figures import choice

        return choice.on_mixed() if what == "mixed" else choice.measured(what)

    return said


FOUND: dict[str, Callable[[], str | None]] = {
    "round": _round, "discharge": _discharge, "facts": _facts, "history": _history, "miniatures": _choice("mixed"),
    "beds": _choice("rooms"), "queues": _choice("balance"), "ambulances": _choice("traffic"),
    "construction": _choice("deployment"), "cramming": _choice("overfitting"), "skill": _choice("tuning"),
    "timetable": _choice("subjects"),
}  # fmt: skip


def found(page: str) -> str | None:
    """A sentence with what was measured, recorded or reckoned; the same that the page itself shows."""
    return FOUND[page]() if page in FOUND else None


# -- search ------------------------------------------------------------------------------------------------------------


def series(key: str) -> list[str]:
    """The keys `<key>.1`, `<key>.2`, … as far as there are words."""
    made: list[str] = []
    while library.have(f"{key}.{len(made) + 1}"):
        made.append(f"{key}.{len(made) + 1}")
    return made


@cache
def _text(lang: str, page: str) -> str:
    told = [t(entries()[page].label), t(f"{page}.title")]
    start, put = f"guide.{page}.", values(page)
    told += [text.format(**put) for key, text in words.table(lang).items() if key.startswith(start)]
    return library.plain("\n".join(told))


def shown(typed: str | None, page: str | None, who: str | None) -> list[Entry]:
    """Entries that hold every word that was typed, are of this page and for these people, where that is chosen."""
    return [
        one
        for one in entries().values()
        if library.found(typed or "", _text(words.current(), one.page))
        and (page not in entries() or one.page == page)
        and (who not in FOR or who in one.audience)
    ]


# -- as HTML -----------------------------------------------------------------------------------------------------------


def listed(several: Sequence[str]) -> str:
    return t("guide.comma").join(several)


def said(key: str, put: Mapping[str, Any]) -> Html:
    """Words as HTML. What they quote is the app's own, so it carries no direction of its own."""
    return marked(t_raw(key), **{name: Html(escaped(one)) for name, one in put.items()})


def t_raw(key: str) -> str:
    """The words for `key`, with nothing put in yet."""
    return words.table(words.current())[key]


def meta(one: Entry) -> str:
    """How long, for whom, after what. Plain text."""
    who = listed([t(f"guide.for.{each}") for each in one.audience])
    before = [entries()[page].name for page in one.before if page in entries()]
    if before:
        return t("guide.meta_before", minutes=one.minutes, who=who, before=listed(before))
    return t("guide.meta", minutes=one.minutes, who=who)


def entry(one: Entry, *, answers: bool = True, folded: bool = True) -> str:
    """What to show, what goes wrong, what to ask. `folded`: answers open when they are clicked; without `answers`
    there are none."""
    return _entry(words.current(), one.page, answers, folded, os.environ.get("TOKEN_HOSPITAL_CHECKPOINT"))


@cache
def _entry(lang: str, page: str, answers: bool, folded: bool, folder: str | None) -> str:
    one, put, key = entries()[page], values(page), f"guide.{page}"
    steps = "".join(f"<li>{said(step, put)}</li>" for step in series(f"{key}.show"))
    wrong = "".join(
        f"<dt>{said(each, put)}</dt><dd>{said(each.replace('.wrong.', '.right.'), put)}</dd>"
        for each in series(f"{key}.wrong")
    )
    asked = ""
    for each in series(f"{key}.ask"):
        question, answer = said(each, put), said(each.replace(".ask.", ".answer."), put)
        if not answers:
            asked += f"<li><p class='asked'>{question}</p></li>"
        elif folded:
            asked += f"<li><details><summary>{question}</summary><p>{answer}</p></details></li>"
        else:
            asked += f"<li><p class='asked'>{question}</p><p>{answer}</p></li>"
    told = found(one.page)
    known = f"<h4>{t('guide.measured')}</h4><p>{marked(_closed(told))}</p>" if told and answers else ""
    return (
        f"<div class='guide'><p class='why'>{said(f'{key}.why', put)}</p>"
        f"<h4>{t('guide.show')}</h4><ol>{steps}</ol><h4>{t('guide.wrong')}</h4><dl>{wrong}</dl>"
        f"<h4>{t('guide.ask')}</h4><ol class='asks'>{asked}</ol>{known}</div>"
    )


def _closed(text: str) -> str:
    """Text in which nothing is to be put in any more."""
    return text.replace("{", "{{").replace("}", "}}")


def step(plan: Plan, one: Step) -> Html:
    """What to do in a line of a lesson plan."""
    return said(f"guide.plan.{plan.name}.{one.page}", values(one.page) | {"minutes": plan.minutes})


def plan_name(plan: Plan) -> str:
    """What a lesson is called. Plain text."""
    return t(f"guide.plan.{plan.name}.name", minutes=plan.minutes)


def about(plan: Plan) -> str:
    """For whom it is. Plain text."""
    return t(f"guide.plan.{plan.name}.about", minutes=plan.minutes)


def checklist() -> str:
    """Before class, with boxes to tick on paper."""
    listed_ = library.read("guide")["checklist"]
    put = numbers() | {name: t(key) for name, key in listed_["words"].items()}
    items = "".join(f"<li>{said(f'guide.before.{one}', put)}</li>" for one in listed_["items"])
    return f"<ul class='guide checks'>{items}</ul>"


def printed(lang: str) -> str:
    """The whole guide as a page to print, answers and all."""
    with words.speaking(lang):
        return _printed()


def _printed() -> str:
    body = f"<h1>{t('guide.title')}</h1><p>{t('guide.lead')}</p><h2>{t('guide.before.title')}</h2>{checklist()}"
    body += f"<h2>{t('guide.plan.title')}</h2>"
    for plan in plans().values():
        rows = "".join(
            f"<tr><th scope='row'>{t('guide.plan.row', minutes=one.minutes, page=_page_name(one.page))}</th>"
            f"<td>{step(plan, one)}</td></tr>"
            for one in plan.steps
        )
        table = f"<table class='plan'><tbody>{rows}</tbody></table>"
        body += f"<section><h3>{plan_name(plan)}</h3><p>{about(plan)}</p>{table}</section>"
    for wing, rows_ in shell.WINGS.items():
        several = [entries()[Path(path).stem] for path, _, _ in rows_ if Path(path).stem in entries()]
        if several:
            body += f"<h2 class='wing'>{t(wing)}</h2>"
        for one in several:
            head = f"<h3>{one.name}</h3><p class='soft'>{meta(one)}</p>"
            body += f"<section class='long'>{head}{entry(one, folded=False)}</section>"
    return paper.page(words.current(), t("guide.title"), body)


def _page_name(page: str) -> str:
    return next(t(label) for path, label, _ in shell.PAGES if Path(path).stem == page)


def steps_of(plan: Plan) -> list[tuple[Step, str, str]]:
    """The lines of a plan whose page is there: with the page's file and its name."""
    files = {Path(path).stem: path for path, _, _ in shell.PAGES}
    return [(one, files[one.page], _page_name(one.page)) for one in plan.steps if one.page in files]
