"""Pictures that several pages show."""

from __future__ import annotations

from model import Trace
from pages.kit import building, plates
from pages.kit.chapter import Visit
from pages.kit.words import t


def token_axis(visit: Visit, name: str = "token") -> plates.Axis:
    """The sentence's tokens, labelled."""
    return plates.axis(name, len(visit.pieces), visit.names)


def said(visit: Visit, id: int) -> str:
    """What a token of the vocabulary is called on screen."""
    piece = visit.house.tokenizer.pieces([id])[0]
    return t("building.end") if piece.is_special else building.shown(piece)


def next_tokens(visit: Visit, trace: Trace, base: Trace | None = None, n: int = 5, **more: object) -> plates.Plate:
    """The likeliest next tokens after the followed one; with `base`, what they were before."""
    best = trace.top(visit.token, n)
    before = base.probabilities(visit.token) if base is not None else None
    return plates.rank(
        "next",
        [said(visit, one.id) for one in best],
        [one.probability for one in best],
        before=[float(before[one.id]) for one in best] if before is not None else None,
        percent=True,
        **{
            "title": t("building.next"),
            "note": t("building.next_hint", floors=trace.config.num_hidden_layers, token=visit.name()),
            **more,
        },
    )
