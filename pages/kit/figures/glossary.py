"""The glossary: who looks for what among the words, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pages.kit import library, plates, state, terms, words
from pages.kit.terms import Term
from pages.kit.words import t

TOPICS = ("house", "experts", "attention", "writing", "training", "price")


def term(key: str | None) -> Term | None:
    """The word of that key, if there is one."""
    return terms.terms().get(key or "")


def languages() -> list[str]:
    """The visitor's own first."""
    own = words.current()
    return sorted(words.languages(), key=lambda lang: lang != own)


@cache
def _text(key: str) -> str:
    one = terms.terms()[key]
    told = [part for lang in words.languages() for part in (one.name(lang), one.hospital(lang), one.means(lang))]
    return library.plain("\n".join(filter(None, [key, one.field, one.symbol, *told])))


def shown(typed: str | None, topic: str | None, hidden: str | None = None) -> list[Term]:
    """Words of the topic that hold everything that was typed, in any language. `hidden`: the word that is being asked,
    which is found by what the hospital calls it only."""
    return [
        one
        for one in terms.terms().values()
        if (topic not in TOPICS or one.topic == topic)
        and library.found(typed or "", (one.hospital(words.current()) or "") if one.key == hidden else _text(one.key))
    ]


# -- the question ------------------------------------------------------------------------------------------------------


def told() -> list[Term]:
    """Words that have a counterpart in the hospital: these can be asked."""
    return [one for one in terms.terms().values() if one.hospital(words.FALLBACK)]


def asked(key: str | None) -> Term:
    """The word to be guessed; the one to begin with where none is named, or where the named one has no counterpart:
    not the intern, whose other names the page tells in its first sentence."""
    one = term(key)
    return one if one in told() else terms.terms()["n_shared_experts"]


def after(one: Term, guessed: Sequence[str]) -> Term:
    """The next word that has not been guessed; the next one where all have been."""
    every = told()
    at = every.index(one)
    round_from_here = [*every[at + 1 :], *every[:at]]
    return next((other for other in round_from_here if other.key not in guessed), round_from_here[0])


def options(one: Term) -> list[Term]:
    """The word and two others of its topic, in an order that does not give it away and is always the same."""
    others = [other for other in told() if other.topic == one.topic and other != one]
    at = told().index(one)
    near = [others[(at + step) % len(others)] for step in (0, 1)]
    place = sum(map(ord, one.key)) % (len(near) + 1)
    return [*near[:place], one, *near[place:]]


# -- pictures ----------------------------------------------------------------------------------------------------------


def card(one: Term, hidden: bool = False) -> dict[str, Any]:
    """A word as an entry to read, in all languages side by side."""
    own, *others = languages()
    if hidden:
        waits = [{"text": t("glossary.asked"), "soft": True}]
        return {"head": one.hospital(own) or one.key, "pair": True, "parts": waits}  # in the columns of the others
    written = [
        *([t("glossary.field", field=one.field)] if one.field else []),
        *([t("glossary.symbol", symbol=one.symbol)] if one.symbol else []),
    ]
    door = library.door(one.pages)
    return {
        "head": one.name(own),
        "under": [{"text": one.name(lang), "lang": words.say(lang, "language.html")} for lang in others],
        "pair": True,
        "parts": [
            {
                "label": words.say(lang, "glossary.hospital", word=hospital)
                if (hospital := one.hospital(lang))
                else "",
                "text": one.means(lang),
                "lang": words.say(lang, "language.html"),
            }
            for lang in (own, *others)
        ],
        "links": [{"text": text} for text in written],
        **({"door": {"page": door.page, "text": t("glossary.page", page=door.label)}} if door else {}),
    }


def axis(several: Sequence[Term]) -> plates.Axis:
    """What a click chooses: a word's number among all."""
    every = list(terms.terms())
    return plates.axis("term", len(every), every, indices=[every.index(one.key) for one in several])


def number(key: str | None) -> int | None:
    """A word's number among all."""
    return list(terms.terms()).index(key) if key in terms.terms() else None


def pick(picked: Mapping[str, int]) -> None:
    """A click on a word puts it into the link."""
    every = list(terms.terms())
    at = picked.get("term", len(every))
    state.put("term", every[at] if at < len(every) else None)


def list_of(several: Sequence[Term], typed: str | None, hidden: str | None) -> plates.Plate:
    """The words, each topic under its heading."""
    entries, topic = [], None
    for one in several:
        heading = {"group": t(f"glossary.topic.{one.topic}")} if one.topic != topic else {}
        entries.append({**card(one, one.key == hidden), **heading})
        topic = one.topic
    return plates.cards(
        "list",
        entries,
        axis=axis(several),
        title=t("glossary.list.title"),
        note=t("glossary.list.note"),
        find=library.wanted(typed or ""),
    )


def chosen(one: Term) -> plates.Plate:
    """The word that was come for, alone and first."""
    return plates.cards("chosen", [card(one)], axis=axis([one]), title=t("glossary.chosen"))


def counts(several: Sequence[Term]) -> plates.Plate:
    """Words by topic: shown, beside all."""
    every = {topic: sum(one.topic == topic for one in terms.terms().values()) for topic in TOPICS}
    now = {topic: sum(one.topic == topic for one in several) for topic in TOPICS}
    most = max(TOPICS, key=now.__getitem__)
    return plates.rank(
        "counts",
        [t(f"glossary.topic.{topic}") for topic in TOPICS],
        [now[topic] for topic in TOPICS],
        before=[every[topic] for topic in TOPICS] if len(several) < len(terms.terms()) else None,
        before_words="of_all",
        digits=0,
        wrap=True,
        title=t("glossary.counts.title"),
        note=t(
            "glossary.counts.note",
            shown=len(several),
            count=len(terms.terms()),
            most=t(f"glossary.topic.{most}"),
            number=now[most],
        ),
    )


def equations() -> dict[str, int]:
    """Numbers of DeepSeek-V3 for the symbols, from the published configuration."""
    c = library.published("deepseek-v3")
    return {
        "hidden": c["hidden_size"],
        "latent": c["kv_lora_rank"],
        "rope": c["qk_rope_head_dim"],
        "rooms": c["n_routed_experts"],
        "chosen": c["num_experts_per_tok"],
    }
