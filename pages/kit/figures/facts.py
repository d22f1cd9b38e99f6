"""The fact check: claims, who looks for what among them, and how they fare."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from pages.kit import library, plates, words
from pages.kit.chapter import sentences
from pages.kit.words import t

VERDICTS = ("right", "simplified", "wrong", "unknown")
LOOKS = {"right": "", "simplified": "dashed", "wrong": "solid", "unknown": "dotted"}
PARTS = ("house", "attention", "price", "history", "use")


class Claim(NamedTuple):
    """One claim of the talk. Its words are `facts.claim.<key>`."""

    key: str
    part: str  # one of PARTS
    verdict: str  # one of VERDICTS
    pages: tuple[str, ...]  # where it can be seen, the best first
    sources: tuple[library.Source, ...]

    @property
    def said(self) -> str:
        """What the talk says."""
        return self._words("said")

    @property
    def true(self) -> str:
        """What is true."""
        return self._words("true")

    @property
    def later(self) -> str | None:
        """What changed after the talk, where something did."""
        return self._words("later") if library.have(f"facts.claim.{self.key}.later") else None

    def _words(self, what: str) -> str:
        return t(f"facts.claim.{self.key}.{what}", **library.values(library.read("facts")["claim"][self.key]))


@cache
def claims() -> tuple[Claim, ...]:
    """All of them, in their order."""
    return tuple(
        Claim(key, one["part"], one["verdict"], tuple(one["pages"]), tuple(map(library.source, one["sources"])))
        for key, one in library.read("facts")["claim"].items()
    )


def claim(key: str | None) -> Claim:
    """The claim of that key; the one to begin with where there is none."""
    by_key = {one.key: one for one in claims()}
    return by_key.get(key or "") or by_key[library.read("facts")["opening"]]


def after(asked: Claim, judged: Sequence[str]) -> Claim:
    """The next claim that has not been judged; the next one where all have been."""
    every = claims()
    at = every.index(asked)
    round_from_here = [*every[at + 1 :], *every[:at]]
    return next((one for one in round_from_here if one.key not in judged), round_from_here[0])


@cache
def _text(lang: str, key: str) -> str:
    one = claim(key)
    told = [one.said, one.true, one.later or "", t(f"facts.verdict.{one.verdict}"), t(f"facts.part.{one.part}")]
    return library.plain("\n".join([*told, *(source.said() for source in one.sources)]))


def shown(typed: str | None, verdict: str | None, hidden: str | None = None) -> list[Claim]:
    """Claims that hold every word that was typed, and have the verdict. `hidden`: the claim that is being asked, which
    no verdict gives away."""
    lang = words.current()
    return [
        one
        for one in claims()
        if library.found(typed or "", one.said if one.key == hidden else _text(lang, one.key))
        and (verdict not in VERDICTS or (one.verdict == verdict and one.key != hidden))
    ]


def tally(several: Sequence[Claim]) -> dict[str, int]:
    """How many of each verdict."""
    return {verdict: sum(one.verdict == verdict for one in several) for verdict in VERDICTS}


# -- pictures ----------------------------------------------------------------------------------------------------------


def badge(verdict: str) -> dict[str, Any]:
    """A verdict as sign and word."""
    return {"sign": t(f"facts.sign.{verdict}"), "text": t(f"facts.verdict.{verdict}"), "look": LOOKS[verdict]}


def card(one: Claim, hidden: bool) -> dict[str, Any]:
    """A claim as an entry to read; with nothing that gives away the verdict of the one that is being asked."""
    if hidden:
        return {"head": one.said, "parts": [{"text": t("facts.asked"), "soft": True}]}
    parts = [{"text": one.true}]
    if one.later:
        parts.append({"text": t("facts.later", text=one.later), "soft": True})
    door = library.door(one.pages)
    return {
        "head": one.said,
        "badge": badge(one.verdict),
        "parts": parts,
        "links": [{"text": source.said(), "href": source.url} for source in one.sources],
        **({"door": {"page": door.page, "text": t("facts.page", page=door.label)}} if door else {}),
    }


def list_of(several: Sequence[Claim], typed: str | None, hidden: str | None) -> plates.Plate:
    """The claims, one a row, each part of the talk under its heading."""
    entries, part = [], None
    for one in several:
        heading = {"group": t(f"facts.part.{one.part}")} if one.part != part else {}
        entries.append({**card(one, one.key == hidden), **heading})
        part = one.part
    return plates.cards(
        "list", entries, title=t("facts.list.title"), note=t("facts.list.left_out"), find=library.wanted(typed or "")
    )


def counted(hidden: str | None) -> list[Claim]:
    """All but the claim that is being asked: a count with it and a list without it would give it away."""
    return [one for one in claims() if one.key != hidden]


def counts(several: Sequence[Claim], hidden: str | None) -> plates.Plate:
    """How many of each verdict among those that are shown, beside all of them."""
    rest = counted(hidden)
    every, now = tally(rest), tally([one for one in several if one.key != hidden])
    note = t("facts.counts.note", count=len(rest), **every)
    return plates.rank(
        "counts",
        [f"{t(f'facts.sign.{v}')} {t(f'facts.verdict.{v}')}" for v in VERDICTS],
        [now[v] for v in VERDICTS],
        before=[every[v] for v in VERDICTS] if now != every else None,
        before_words="of_all",
        digits=0,
        width="half",
        wrap=True,
        title=t("facts.counts.title"),
        note=sentences(note, t("facts.counts.open")) if hidden else note,
    )


def by_part(hidden: str | None) -> plates.Plate:
    """The share of each part of the talk that is right."""
    several = {part: [one for one in counted(hidden) if one.part == part] for part in PARTS}
    right = {part: tally(ones)["right"] for part, ones in several.items()}
    wrong = {part: tally(ones)["wrong"] for part, ones in several.items()}
    most = max(PARTS, key=lambda part: wrong[part] / len(several[part]))
    best = max(PARTS, key=lambda part: right[part] / len(several[part]))
    return plates.rank(
        "parts",
        [t(f"facts.part.{part}") for part in PARTS],
        [right[part] / len(several[part]) for part in PARTS],
        percent=True,
        hints=[f"{right[part]} / {len(several[part])}" for part in PARTS],
        width="half",
        wrap=True,
        title=t("facts.parts.title"),
        note=t(
            "facts.parts.note",
            most=t(f"facts.part.{most}"),
            wrong=wrong[most],
            count=len(several[most]),
            best=t(f"facts.part.{best}"),
            right=right[best],
            total=len(several[best]),
        ),
    )


def equations() -> dict[str, int | float]:
    """The numbers that the talk circles around, from the published configuration."""
    c = library.published("deepseek-v3")
    moe = c["num_hidden_layers"] - c["first_k_dense_replace"]
    full = c["num_attention_heads"] * (c["qk_nope_head_dim"] + c["v_head_dim"])
    code = c["kv_lora_rank"] + c["qk_rope_head_dim"]
    each = c["num_experts_per_tok"] + c["n_shared_experts"]
    return {
        "chosen": c["num_experts_per_tok"],
        "nurses": c["n_shared_experts"],
        "departments": moe,
        "experts": each * moe,
        "interns": c["n_routed_experts"],
        "rooms": moe * c["n_routed_experts"],
        "heads": c["num_attention_heads"],
        "keys": c["qk_nope_head_dim"],
        "values": c["v_head_dim"],
        "latent": c["kv_lora_rank"],
        "rope": c["qk_rope_head_dim"],
        "full": full,
        "code": code,
        "ratio": full / code,
    }
