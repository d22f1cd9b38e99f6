"""What is printed: words and numbers as HTML, and a page of paper around them that a browser need fetch nothing for."""

from __future__ import annotations

import html
import re
import unicodedata
from decimal import Decimal

from pages.kit import building, shell, words

STYLE = shell.ROOT / "assets" / "guide" / "sheet.css"
MOST_SAID = 600  # characters of a sentence that are printed
JOINER = "\u200d"  # holds emoji together
UNSEEN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")  # categories of characters that are made visible


class Html(str):
    """Text that is HTML already."""


def put(number: Decimal | int) -> str:
    """A number as it is printed."""
    return f"{number:,}".replace("-", "−")


def escaped(value: object) -> Html:
    """A value as it stands in a sentence. Text keeps its direction to itself."""
    if isinstance(value, Html):
        return value
    if isinstance(value, str):
        return Html(f"<bdi>{html.escape(value)}</bdi>")
    return Html(html.escape(put(value) if isinstance(value, int | Decimal) else str(value)))


def marked(text: str, **values: object) -> Html:
    """Words as HTML: `**bold**` and code in backticks as such, everything else escaped, and so are the values."""
    text = html.escape(text, quote=False)
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text)
    text = re.sub(r"`(.+?)`", r"<code>\1</code>", text)
    return Html(text.format(**{name: escaped(value) for name, value in values.items()}))


def clean(text: str) -> str:
    """Text as it may be printed: what cannot be seen, or turns the direction of its neighbours, is made visible."""
    shown = "".join(
        building.visible(char) if char not in (JOINER, "\n") and unicodedata.category(char) in UNSEEN else char
        for char in text
    )
    return shown if len(shown) <= MOST_SAID else shown[:MOST_SAID] + "…"


def page(lang: str, title: str, body: str) -> str:
    """A page around HTML that is safe already. A4 or Letter is left to the printer: nothing is wider than its text."""
    return (
        f"<!doctype html>\n<html lang='{words.say(lang, 'language.html')}'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{STYLE.read_text('utf-8')}</style></head>"
        f"<body>{body}</body></html>\n"
    )
