"""The walk as one HTML file that needs no server and no internet: the pictures of the walk, drawn by the same code as
on the pages, with their data inside.

Another token can be followed in it: what changes with the token is computed for every token of the file. The browser
may run only this file's own script (named by its hash) and may ask nobody for anything.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from model import Trace
from pages.kit import building, plates, words
from pages.kit.chapter import Visit, percent
from pages.kit.figures import common, department, discharge, heads, lobby, postal, triage
from pages.kit.figures import round as rounds
from pages.kit.record import Walk, facts, on_department, on_desk, place, said
from pages.kit.turns import turns
from pages.kit.words import t

MOST = 40
"""Tokens of a long sentence that can be followed in one file: those around the followed one."""
CODE, A_PATIENT, A_NEIGHBOUR, A_PAIR = 182_000, 79_000, 6_900, 264
"""Bytes that a file of the shipped hospital takes, measured (tests/test_page_record.py holds them to it): the code with
what belongs to nobody; each token that can be followed; each token of the sentence; each two of them."""

ASSETS = plates.ASSETS
MODULES = ("kit/base", "kit/picture", "plates/plates", "building/building", "record/record")
STYLES = ("kit/look.css", "plates/plates.css", "building/building.css")


class Section(NamedTuple):
    """A page's main pictures, for one token."""

    page: str
    floor: int | None  # of which floor they are, where they are of one
    plates: Sequence[plates.Plate]
    picked: Mapping[str, int]


# -- what is in it -----------------------------------------------------------------------------------------------------


def followable(tokens: int, token: int, *, most: int = MOST) -> range:
    """Positions that can be followed in a file of so many tokens, from which `token` is one."""
    first = max(0, min(token - most // 2, tokens - most))
    return range(first, min(tokens, first + most))


def about_bytes(tokens: int, token: int) -> int:
    """How long the file will be, roughly, before it is made: for the shipped hospital."""
    followed = len(followable(tokens, token))
    return CODE + A_PATIENT * followed + A_NEIGHBOUR * tokens + A_PAIR * followed * min(tokens, MOST)


def sections(
    one: Walk, visit: Visit, changed: Trace | None, still: dict[str, plates.Plate] | None = None
) -> list[Section]:
    """Every page's pictures for the visit's token. `changed`: the same walk with what the visitor changed. `still`:
    pictures that are the same for every token, made already for another one; what is missing is put into it."""
    kept = {} if still is None else still

    def once(name: str, make: Callable[[], plates.Plate]) -> plates.Plate:
        if name not in kept:
            kept[name] = make()
        return kept[name]

    desk, floor, c = on_desk(visit), on_department(visit), visit.trace.config
    here = {"token": visit.token}
    receptionist = department.desk(floor, one.room)
    spoken = department.consultation(floor, floor.house.live.engine.opinions(floor.trace, floor.layer, floor.token))
    company, woken, parts = rounds.company(visit, None), rounds.woken(visit), rounds.added(visit, visit.token)
    worth, each = rounds.worth(visit, parts)
    row, most = heads.scores(visit, one.head), heads.most(visit)
    found = postal.find(visit, one.head)
    made = [
        Section("lobby", None, [lobby.growth(visit, lobby.crowd(visit))], here),
        Section("triage", desk.floor, [triage.lengths(desk), triage.states(desk), triage.turns(desk),
                                       once("used", lambda: triage.used(c))], {**here, "floor": desk.floor}),
        Section("department", floor.floor, [
            department.logits(floor, receptionist), department.scores(floor, receptionist),
            department.board(floor, receptionist), department.choice(floor, receptionist),
            department.corridors(floor, receptionist),
            department.rooms(floor, receptionist), department.weights(floor, receptionist),
            department.called(floor, receptionist), department.opinions(floor, receptionist, spoken),
            department.lengths(floor, receptionist, spoken), department.pulls(floor, receptionist, spoken),
        ], {**here, "floor": floor.floor, "room": receptionist.room}),
        Section("round", visit.floor, [
            # A grid of all floors by all tokens, for each token: too much for a long sentence.
            *([rounds.rooms_shared(visit, company)] if company and len(visit.pieces) <= MOST else []),
            *([rounds.pairs(visit, company)] if company else []),
            once("counts", lambda: rounds.counts(woken, len(visit.pieces))), rounds.growth(visit, woken),
            once("by_floor", lambda: rounds.by_floor(visit)), rounds.lengths(visit, parts),
            rounds.pushes(visit, worth, each), rounds.chances(visit), rounds.ranks(visit), rounds.diary(visit),
            once("everybody", lambda: rounds.everybody(visit)),
        ], {**here, "floor": visit.floor, **({"other": company.other} if company else {})}),
        Section("heads", visit.floor, [
            once("patterns", lambda: heads.patterns(visit, one.head, hidden=False)), heads.reads(visit, most),
            once("habit", lambda: heads.habit(visit, one.head)), *heads.split(visit, one.head, row),
        ], {**here, "floor": visit.floor, "head": one.head}),
        Section("postal", visit.floor, [
            once("to_scale", lambda: postal.to_scale(c)), postal.code(visit), *postal.paths(visit, found),
            postal.drawer(visit, postal.meter(visit)),
        ], {**here, "floor": visit.floor, "head": one.head}),
        Section("discharge", None, [
            common.next_tokens(visit, visit.trace),
            *([discharge.everyone(visit)] if len(visit.pieces) > 1 else []),
        ], here),
    ]  # fmt: skip
    if changed is not None:
        made.append(Section("changed", None, what_changed(one, visit, changed), {**here, "floor": visit.floor}))
    return made


def what_changed(one: Walk, visit: Visit, changed: Trace) -> list[plates.Plate]:
    """The next token before and after, and how far the change travels; in a department also who was called."""
    floor, gaps, moved = on_department(visit), common.gaps(visit, changed), common.answers(visit, changed)
    values = {"token": visit.name(), "before": moved.before, "was": percent(moved.was), "after": moved.after,
              "now": percent(moved.now), "top": percent(float(gaps[-1]))}  # fmt: skip
    line = [(t("record.change.series"), gaps)]
    note = t("record.change.same" if moved.same else "record.change.other", **values)
    return [
        common.next_tokens(visit, changed, visit.trace, width="half", title=t("record.change.next"), note=note),
        common.drift(visit, line, width="half", alt=t("record.change.alt", **values),
                     note=t("record.change.note", **values)),
        department.now(floor, department.desk(floor, one.room), changed),
    ]  # fmt: skip


# -- as data -----------------------------------------------------------------------------------------------------------


def data(one: Walk) -> dict[str, Any]:
    """Everything that the file's script reads. What is the same for every token is there once."""
    visit = one.visit()
    changed = one.trace() if one.changes else None
    positions, house = followable(len(visit.pieces), visit.token), visit.house
    each: dict[int, list[Section]] = {}
    details: dict[int, dict[str, Any]] = {}
    still: dict[str, plates.Plate] = {}
    for token in positions:
        with turns.taken():  # a token at a time, so that no page waits for a whole file
            each[token] = sections(one, replace(visit, token=token), changed, still)
            details[token] = building.detail(visit.trace, house.tokenizer, token)
    drawn = building.data(visit.trace, house.tokenizer, visit.token, visit.floor)
    del drawn["detail"]
    own = details[visit.token]  # the boards hang there for everybody
    shared = {name: own[name] for name in ("bias", "bias_range")}
    return {
        "token": visit.token,
        "floor": visit.floor,
        "lang": t("language.html"),
        "origin": {"where": place(one.link), "sentence": one.sentence},
        "who": plates.tokens(visit.chips, title=t("chapter.patients"), level=2),
        "limits": _limits(visit, positions),
        "building": drawn,
        "boards": shared,
        "details": {token: {k: v for k, v in detail.items() if k not in shared} for token, detail in details.items()},
        "sections": [_apart([several[number] for several in each.values()], positions)
                     for number in range(len(each[visit.token]))],
        "words": {
            "plates": words.group("plates"),
            "building": {**words.group("building"), **dict.fromkeys(("tip_go", "tip_again"), t("record.file.no_door"))},
        },
    }  # fmt: skip


def _limits(visit: Visit, positions: range) -> str:
    if len(positions) == len(visit.pieces):
        return t("record.file.all", tokens=len(positions))
    return t("record.file.some", first=positions[0], last=positions[-1], tokens=len(visit.pieces))


def _apart(several: Sequence[Section], positions: range) -> dict[str, Any]:
    """One page's pictures for every token: fields that never differ, and each token's own."""
    first = several[0]
    same = [
        {name for name in plate if all(other.plates[i].get(name) == plate[name] for other in several)}
        for i, plate in enumerate(first.plates)
    ]
    return {
        "page": first.page,
        "same": [{name: plate[name] for name in same[i]} for i, plate in enumerate(first.plates)],
        "own": {
            token: [{k: v for k, v in plate.items() if k not in same[i]} for i, plate in enumerate(one.plates)]
            for token, one in zip(positions, several, strict=True)
        },
        "picked": {token: one.picked for token, one in zip(positions, several, strict=True)},
    }


# -- as a file ---------------------------------------------------------------------------------------------------------


@cache
def script() -> str:
    """All browser code as one module. Each file becomes a function that gives what the file exports; what it imports it
    finds among those before it, and the styles that it would fetch are here."""
    styles = {path.rpartition("/")[2]: (ASSETS / path).read_text("utf-8") for path in STYLES}
    made = [
        "const modules = {}, styles = " + _json(styles) + ";",
        'const fetch = async (url) => ({ text: async () => styles[url.pathname.split("/").at(-1)] });',
    ]
    for path in MODULES:
        text = (ASSETS / f"{path}.js").read_text("utf-8")
        text = re.sub(r'import\(new URL\("\.\./kit/(\w+)\.js"[^;\n]*?\.href\)', r"Promise.resolve(modules.\1)", text)
        exported = re.findall(r"^export (?:async )?(?:function|const|class) (\w+)", text, re.M)
        text = re.sub(r"^export (?=async |function |const |class )", "", text, flags=re.M)
        if re.search(r"\bimport\s*\(|^\s*(import|export)\b", text, re.M):
            raise ValueError(f"{path}.js imports or exports in a way that cannot be put into one file")
        name = path.rpartition("/")[2]
        made.append(f"modules.{name} = await (async () => {{\n{text}\nreturn {{ {', '.join(exported)} }};\n}})();")
    made.append('modules.record.open(modules, JSON.parse(document.getElementById("walk").textContent));')
    return _as_script("\n".join(made))


def _as_script(code: str) -> str:
    """Code that may stand between <script> and </script>."""
    if re.search(r"</script|<!--", code, re.I) or "\r" in code:
        raise ValueError("this code would end its own script")
    return f"\n{code}\n"


def _json(value: Any) -> str:
    """JSON that may stand in a script: nothing in it can end it, or begin a comment in it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text)


def visible(text: str) -> str:
    """Text for HTML: signs that cannot be seen, or that no HTML may hold, by their picture or number."""
    shown = [
        char if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs", "Co", "Cn") else building.visible(char)
        for char in text
    ]
    return html.escape("".join(shown))


def page(one: Walk) -> bytes:
    """The file."""
    held, code = data(one), script()
    titles = {"lobby": t("lobby.title"), **{part["page"]: _title(part["page"]) for part in held["sections"]}}
    parts = []
    for part in held["sections"]:
        name = part["page"]
        lead = t(f"record.part.{name}", changed=said(one.changes, one.visit().trace.config))
        hosts = ['<div data-mount="building"></div>'] if name == "lobby" else []
        hosts.append(f'<div data-mount="{name}"></div>')
        parts.append(
            f'<section id="{name}"><p class="where">{html.escape(_where(one, name))}</p>'
            f"<h2>{html.escape(titles[name])}</h2>"
            f'<p class="lead">{visible(lead)}</p>{"".join(hosts)}</section>'
        )
        if name == "lobby":  # the building has the patients itself; from here on they stay in view
            parts.append('<div class="who" data-mount="who"></div>')
    doors = "".join(f'<li><a href="#{name}">{html.escape(_name(name))}</a></li>' for name in titles)
    rows = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd><bdi>{visible(value)}</bdi></dd></div>"
        for name, value in facts(one).items()
    )
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    put = {
        "policy": f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; base-uri 'none'; "
                  "form-action 'none'",
        "lang": t("language.html"),
        "title": f"{html.escape(t('product'))} · {visible(one.sentence)}",
        "style": (ASSETS / "record" / "record.css").read_text("utf-8"),
        "brand": t("brand"),
        "head": html.escape(t("record.file.head")),
        "sentence": visible(one.sentence),
        "facts": rows,
        "link": html.escape(one.link, quote=True),
        "again": html.escape(t("record.file.again")),
        "doors": doors,
        "limits": html.escape(held.pop("limits")),
        "pages": html.escape(t("record.file.pages")),
        "sections": "".join(parts),
        "without": html.escape(t("record.file.without")),
        "foot": html.escape(t("record.file.foot")),
        "walk": _json(held),
        "script": code,
    }  # fmt: skip
    template = (ASSETS / "record" / "record.html").read_text("utf-8")
    return re.sub(r"@(\w+)@", lambda found: put[found[1]], template).encode()


def _name(page: str) -> str:
    return t("record.file.changed" if page == "changed" else f"nav.{page}")


def _title(page: str) -> str:
    return t("record.change.title" if page == "changed" else f"{page}.title")


def _where(one: Walk, page: str) -> str:
    floors = {"triage": on_desk, "department": on_department, "round": None, "heads": None, "postal": None}
    if page not in floors:
        return _name(page)
    turn = floors[page]
    visit = one.visit()
    return t("record.file.where", page=_name(page), floor=(turn(visit) if turn else visit).floor)
