"""What a class predicted, as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from pages.kit import classes, plates
from pages.kit.words import t


def tally(options: Sequence[str], counts: Sequence[int], here: int) -> plates.Plate:
    """A bar for each option: how many students guessed it. `here`: how many are in the class at this moment."""
    answered = sum(counts)
    return plates.rank(
        "tally",
        options,
        counts,
        title=t("together.tally.title"),
        note=t("together.tally.note", answered=answered, here=max(here, answered)),
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
