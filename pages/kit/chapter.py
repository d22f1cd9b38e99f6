"""What every page of the walk is made of: the visit, Story / Maths / Code, a question to answer first, the bends.

A page says `visit = chapter.begin("triage")`, then `explain`, `plates.mount`, `predict` as often as it needs, and
`chapter.end(visit, ...)`. Its words are in assets/words/<language>/<page>.toml, its equations in
assets/maths/<page>.toml.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, reduce
from typing import TYPE_CHECKING, Any, Literal
from zlib import crc32

import streamlit as st

from pages.kit import ask, building, plates, shell, state, terms, words
from pages.kit.code import Source
from pages.kit.words import t

if TYPE_CHECKING:  # not at run time: they bring torch in, and a page that looks at no sentence stands without it
    from model import Interventions, Trace
    from pages.kit import service

Floors = Literal["all", "desk", "departments"] | None


@dataclass(frozen=True)
class Visit:
    """What the visitor looks at: a sentence's trace, and who is followed where. Read-only."""

    page: str
    house: service.Hospital
    sentence: str
    trace: Trace
    token: int  # position; 0 is the begin-of-sentence token
    floor: int  # as people count: layer + 1
    pieces: list[dict[str, Any]] = field(repr=False)  # text, partial, special of every token, as shown on screen

    @property
    def layer(self) -> int:
        """The followed floor's layer, from 0."""
        return self.floor - 1

    @property
    def department(self) -> int:
        """The followed floor among the MoE layers, from 0; below 0 at the triage desk."""
        return self.layer - self.trace.config.first_k_dense_replace

    @property
    def names(self) -> list[str]:
        """What every token is called on screen, door and end included."""
        return [self.name(i) for i in range(len(self.pieces))]

    @property
    def chips(self) -> list[dict[str, Any]]:
        """The pieces, with the names of door and end."""
        return [
            {**piece, "text": name if piece["special"] else piece["text"]}
            for piece, name in zip(self.pieces, self.names, strict=True)
        ]

    def name(self, token: int | None = None) -> str:
        """What a token (the followed one) is called in a sentence. Plain text, not Markdown."""
        token = self.token if token is None else token
        piece = self.pieces[token]
        if piece["special"]:
            return t("building.door") if token == 0 else t("building.end")
        return bare(piece["text"])

    def changed(self, interventions: Interventions) -> Trace:
        """The same sentence with something changed; computed once for everybody, and only from the changed floor up."""
        return self.house.trace(self.sentence, interventions)

    def changed_each(self, several: Sequence[Interventions]) -> list[Trace]:
        """`changed` for each of several, at the same time."""
        return self.house.traces(self.sentence, several)

    def stamp(self, every_token: bool = True, every_floor: bool = True) -> str:
        """Changes with the sentence, and with the token and the floor where asked to."""
        what = (self.trace.ids, self.token if every_token else None, self.floor if every_floor else None)
        return hashlib.sha256(repr(what).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Room:
    """A page that looks at no sentence. Its questions are asked once a visit."""

    page: str

    def stamp(self, every_token: bool = True, every_floor: bool = True) -> str:
        """As in `Visit`: nothing here changes with a sentence."""
        return self.page


def bare(text: str) -> str:
    """A token as it is called in a sentence: without the sign for the space in front of it."""
    return text[1:] if text.startswith("␣") and len(text) > 1 else text


def enter(page: str) -> Room:
    """Heading and lead of a page that looks at no sentence."""
    st.title(t(f"{page}.title"), anchor=False)
    st.html(f'<p class="lead">{t(f"{page}.lead")}</p>')
    return Room(page)


def begin(page: str, floors: Floors = None) -> Visit:
    """Heading, sentence, and choosers for token and (where the page has one) floor. Stops the page when no sentence can
    be looked at; where one could be before, that is shown again under the words that say what is wrong."""
    st.title(t(f"{page}.title"), anchor=False)
    st.html(f'<p class="lead">{t(f"{page}.lead")}</p>')
    visit = look(page, ask.sentence(), floors)
    first, last = _range(visit.trace, floors)
    choosers = [plates.tokens(visit.chips, title=t("chapter.patients"), level=2)]
    if floors:
        axis = plates.axis("floor", last, offset=1)
        choosers.append(plates.stepper(axis, title=t("chapter.floor"), low=first - 1))
    picked = {"token": visit.token, "floor": visit.floor} if floors else {"token": visit.token}
    plates.mount(f"{page}.who", choosers, picked)
    return visit


def look(page: str, sentence: str, floors: Floors = None, usual: Literal["half", "top"] = "half") -> Visit:
    """The visit, with nothing drawn but what is wrong with the sentence. `usual`: the floor before one is chosen."""
    from pages.kit import service

    house = service.hospital()
    try:
        trace = house.trace(sentence)
        st.session_state["chapter.good"] = sentence
        # Held here it is found again, however many others come by. In a list of its own: Streamlit keeps the value
        # before the last one too.
        st.session_state.setdefault("chapter.held", [])[:] = [trace]
    except Exception as error:
        shell.complain(error)
        good = st.session_state.get("chapter.good")
        if good is None:
            st.stop()
        st.caption(t("chapter.last_good"))
        sentence, trace = good, house.trace(good)
    first, last = _range(trace, floors)
    token, floor = state.get("token"), state.get("floor")
    end, pieces = len(trace.ids) - 1, building.pieces(house.tokenizer, trace.ids)
    # The same on all pages that have it, so that one floor of one patient is seen from all sides.
    half = sum(_range(trace, "departments")) // 2
    usual_floor = first if floors == "desk" else last if usual == "top" else half
    return Visit(
        page,
        house,
        sentence,
        trace,
        token=token if token is not None and token <= end else usual_token(pieces),
        floor=min(max(floor if floor is not None else usual_floor, first), last),
        pieces=pieces,
    )


def looked_at() -> Trace:
    """The trace that this visitor looked at last."""
    trace: Trace = st.session_state["chapter.held"][0]
    return trace


def usual_token(pieces: Sequence[Mapping[str, Any]]) -> int:
    """Whom to follow before anybody is chosen: the last patient who is a word, not the full stop after it."""
    word = [i for i, p in enumerate(pieces) if not p["special"] and any(char.isalnum() for char in p["text"])]
    return word[-1] if word else len(pieces) - 1


def _range(trace: Trace, floors: Floors) -> tuple[int, int]:
    c = trace.config
    dense = c.first_k_dense_replace
    return {"desk": (1, max(dense, 1)), "departments": (dense + 1, c.num_hidden_layers)}.get(
        floors or "all", (1, c.num_hidden_layers)
    )


# -- Story / Maths / Code ----------------------------------------------------------------------------------------------


def explain(
    key: str,
    *,
    code: Sequence[Source],
    tex: Mapping[str, str | float] | None = None,
    drawn: bool = True,
    **values: object,
) -> None:
    """A section's heading and its words at the depth that the visitor chose.

    `key` is "page.section". Words: `.title`, and `.story`, `.maths`, `.code` with `values` put in. Maths shows the
    equations of assets/maths/<page>.toml [section] with `tex` put in (none without `tex`), Code the `code`. Known words
    of the text itself, not of `values`, lead to the glossary. A projector shows neither prose nor code, and no heading
    over nothing where a section is but words (not `drawn`).
    """
    depth, projected = state.get("depth"), state.get("projector")
    if projected and not drawn and (depth != "maths" or tex is None):
        return
    said = f"### {t(f'{key}.title')}"
    if not projected:
        told = words.table(words.current())[f"{key}.{depth}"]
        escaped = {name: _plain(told, name, v) if isinstance(v, str) else v for name, v in values.items()}
        said += f"\n\n{terms.fill(f'{key}.{depth}', **escaped)}"
    st.markdown(said)  # one message and not two: with a class, messages are what a turn costs
    if depth == "maths" and tex is not None:
        page, section = key.split(".")
        for equation in equations(page, section, tex):
            st.latex(equation)
    elif depth == "code" and not projected:
        for source in code:
            st.caption(lines(source))
            st.code(source.text, language="python")


def lines(source: Source) -> str:
    """Where a piece of code stands."""
    first, last = source.first, source.first + source.text.count("\n")
    return t("chapter.lines" if last > first else "chapter.line", file=source.file, first=first, last=last)


def _plain(told: str, name: str, value: str) -> str:
    """A value in Markdown, whose signs stay signs. Between backticks they do so anyhow, but for the backtick itself."""
    return value.replace("`", "'") if f"`{{{name}}}`" in told else shell.plain(value)


def say(key: str, **values: object) -> None:
    """A paragraph of words, the same at every depth."""
    st.markdown(t(key, **{name: shell.plain(v) if isinstance(v, str) else v for name, v in values.items()}))


def sentences(*said: str) -> str:
    """Sentences of a note, one after the other: Chinese ones stand without a space between them."""
    return reduce(lambda first, second: t("chapter.sentences", first=first, second=second), said)


def equations(page: str, section: str, values: Mapping[str, str | float]) -> list[str]:
    """The section's equations with every @name@ put in. KeyError for one that has no value."""

    def put(match: re.Match[str]) -> str:
        value = values[match.group(1)]
        if value == "?":
            return "{?}"  # bare it would be set as at the end of a sentence: close to the =
        if isinstance(value, str):
            return re.sub(r"(?<=\d),(?=\d{3})", "{,}", value)  # a bare comma has a space behind it
        text, last = tex_number(value), match.string[: match.start()].rstrip()[-1:]
        return text.strip("()") if last == "=" else text  # what follows = needs no brackets

    made = [re.sub(r"@(\w+)@", put, _worded(page, equation)) for equation in _maths(page)[section]["tex"]]
    return [re.sub(r"(\\q?quad)\s", r"\1\\allowbreak ", one) for one in made]  # on a phone a line may end in a gap


def _worded(page: str, equation: str) -> str:
    """Words of an equation in the visitor's language, where that has some for them."""
    said = words.table(words.current())

    def put(match: re.Match[str]) -> str:
        before, word, after = match.groups()
        return rf"\text{{{before}{said.get(equation_word(page, word), word)}{after}}}"

    return re.sub(r"\\text\{(\s*)([^{}@]*[^{}@\s])(\s*)\}", put, equation)


def equation_word(page: str, word: str) -> str:
    """The key of the words for a word of a page's equations."""
    return f"equation.{page}.{re.sub(r'[^a-z0-9]+', '_', word.lower()).strip('_')}"


@cache
def _maths(page: str) -> dict[str, Any]:
    return tomllib.loads((shell.ROOT / "assets" / "maths" / f"{page}.toml").read_text("utf-8"))


def number(value: float, digits: int = 3) -> str:
    """A number in a sentence: fixed digits, a real minus sign."""
    return f"{value:,.{digits}f}".replace("-", "−")


def between(middle: str, low: str, high: str) -> str:
    """A value with the lowest and the highest, as of several runs."""
    return t("chapter.between", middle=middle, low=low, high=high)


NOISE, ROUNDING = 1e-12, 1e-6  # of a share: nothing, and all, up to the rounding of what it was computed from


def percent(value: float, digits: int = 1) -> str:
    """A share in a sentence. Little is not shown as nothing, nor nearly all as all: <0.1%, >99.9%."""
    least, size = 10.0 ** -(digits + 2), abs(value)
    few = size > NOISE and round(size, digits + 2) == 0
    most = size < 1 - ROUNDING and round(size, digits + 2) == 1
    if not few and not most:
        return f"{0.0 if size <= NOISE else value:.{digits}%}".replace("-", "−")
    sign = ("<" if few == (value > 0) else ">") + ("" if value > 0 else "−")
    return f"{sign}{least if few else 1 - least:.{digits}%}"


def tex_number(value: float, digits: int = 3) -> str:
    """A number in an equation; integers stay integers. Commas from five digits on: R^{4,096} would be two sizes."""
    text = f"{value:,d}" if isinstance(value, int) else f"{value:,.{digits}f}"
    text = text.replace(",", "{,}" if len(text.split(".")[0].lstrip("-")) > len("9,999") else "")
    return f"({text})" if text.startswith("-") else text


def equals(parts: Iterable[float], whole: float, digits: int = 3) -> str:
    """The sign between a sum and what it makes: the digits that are printed need not add up, each number being rounded
    by itself."""
    off = sum(round(part, digits) for part in parts) - round(whole, digits)
    return "≈" if round(off, digits) else "="


def equals_tex(parts: Iterable[float], whole: float, digits: int = 3) -> str:
    """The same in an equation, with what it makes."""
    sign = {"=": "=", "≈": r"\approx"}[equals(parts, whole, digits)]
    return f"{sign} {tex_number(whole, digits).strip('()')}"


def tex_text(text: str) -> str:
    """Words of a visitor's sentence in an equation; between marks where they are only signs, which would get lost."""
    if text.strip() and not any(sign.isalnum() for sign in text):
        text = t("chapter.sign", sign=text)
    return r"\text{" + re.sub(r"([\\{}$&#^_%~])", "", text) + "}"


# -- predict first -----------------------------------------------------------------------------------------------------


ROWS = 16  # names that a question's buttons have, by turns


def predict(
    visit: Visit | Room,
    key: str,
    options: Sequence[str],
    right: int,
    *,
    every_token: bool = True,
    every_floor: bool = True,
    **values: object,
) -> bool:
    """A question that is answered before its answer is shown; whether it has been (or the visitor would not guess).

    Words: `<key>.ask` and `<key>.answer`, both with `values`. The answer comes from the trace: the page computes
    `right`, an index of `options`. Asked again for every sentence, token and floor (not `every_token` or
    `every_floor` where the answer is the same for all of them); the score is kept for the visit.
    """
    place = _place(visit, key, every_token, every_floor)
    said = st.session_state.get(place)
    # Streamlit never forgets a button that it has shown: few names for them, and yet a click that comes late hardly
    # ever meets the question that stands there by then.
    row = f"predict.{key}.{crc32(place.encode()) % ROWS}"
    values = {name: shell.plain(v) if isinstance(v, str) else v for name, v in values.items()}
    with st.container(border=True, key=f"predict {key}"):
        st.markdown(t("chapter.predict", ask=t(f"{key}.ask", **values)))
        with st.container(horizontal=True, gap="small"):
            for i, option in enumerate(options):
                chosen, answer = said == i, said is not None and i == right
                st.button(
                    shell.plain(option),
                    key=f"{row}.{i}",
                    disabled=said is not None,
                    icon=":material/check:" if answer else ":material/close:" if chosen else None,
                    type="primary" if answer else "secondary",
                    on_click=_guess,
                    args=(place, i, right),
                )
            if said is None and not state.hidden("answers"):
                st.button(
                    t("chapter.show_me"), key=f"{row}.skip", type="tertiary", on_click=_guess, args=(place, -1, right)
                )
        if said is not None:
            verdict, answer = "right" if said == right else "wrong", t(f"{key}.answer", **values)
            st.markdown(answer if said < 0 else sentences(t(f"chapter.{verdict}"), answer))
            asked, hits = score()
            if asked:
                st.caption(t("chapter.score", right=hits, asked=asked))
        if "class" in st.session_state:
            from pages.kit import classroom

            classroom.tally(place, options, said, right)
    return said is not None


def guessed(visit: Visit | Room, key: str, *, every_token: bool = True, every_floor: bool = True) -> bool:
    """What `predict` will return: for what stands above it and would give the answer away."""
    return _place(visit, key, every_token, every_floor) in st.session_state


def _place(visit: Visit | Room, key: str, every_token: bool, every_floor: bool) -> str:
    return f"predict.{key}.{visit.stamp(every_token, every_floor)}"


def _guess(place: str, guess: int, right: int) -> None:
    if guess < 0 and state.hidden("answers"):
        return
    st.session_state[place] = guess
    if guess >= 0:
        st.session_state.setdefault("score", {})[place] = guess == right


def score() -> tuple[int, int]:
    """(questions answered, answered right) in this visit."""
    marks = st.session_state.get("score", {})
    return len(marks), sum(marks.values())


# -- where the story bends, and where to go next -----------------------------------------------------------------------


def end(visit: Visit | Room, *bends: str) -> None:
    """Where the story bends (words `<page>.bend.<row>.said`, `.true`, `.source`), and the door to the next page. Not on
    a projector."""
    if state.get("projector"):
        return state.publish()
    st.subheader(t("chapter.bends"), anchor=False)
    with st.container(key="bends"):  # one element: each takes the server's time, every turn
        st.markdown("\n\n".join(_bend(f"{visit.page}.bend.{row}") for row in bends))
    shell.door(visit.page)
    state.publish()


def _bend(key: str) -> str:
    """Three paragraphs, which assets/kit/page.css sets in two columns."""
    said, true = (t(f"chapter.{side}", told=t(f"{key}.{side}")) for side in ("said", "true"))
    return f"{said}\n\n{true}\n\n{t(f'{key}.source')}"
