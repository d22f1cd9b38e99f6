"""What a class predicted, as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from pages.kit import classes, plates
from pages.kit.chapter import sentences
from pages.kit.words import t


def tally(options: Sequence[str], counts: Sequence[int], here: int, right: int | None = None) -> plates.Plate:
    """A bar for each option: how many students guessed it. `here`: how many are in the class at this moment; `right`:
    which one is marked as the right one."""
    answered = sum(counts)
    note = t("together.tally.note", answered=answered, here=max(here, answered))
    if right is not None:
        note = sentences(note, t("together.tally.hits", hits=counts[right]))
    return plates.rank(
        "tally",
        [t("together.tally.right", option=one) if i == right else one for i, one in enumerate(options)],
        counts,
        title=t("together.tally.title"),
        note=note,
        domain=(0, max(answered, 1)),
        digits=0,
        wrap=True,
    )


def equations() -> dict[str, float | str]:
    """Values for the maths of the page: how unlikely it is to come into a class by guessing."""
    codes, chance = classes.chance()
    mantissa, _, exponent = f"{chance:.1e}".partition("e")
    return {
        "signs": len(classes.ALPHABET),
        "length": classes.LENGTH,
        "codes": codes,
        "classes": round(chance * codes),
        "share": rf"{mantissa} \times 10^{{{int(exponent)}}}",
    }
