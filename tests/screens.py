"""What tests of pages need: a visit without a screen, a page opened by its link, and what stands on it."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from streamlit.testing.v1 import AppTest

from pages.kit import building, chapter, service, shell

ROOT = Path(__file__).resolve().parents[1]
PAGES = [path for path, _, _ in shell.PAGES]
WALK = [path for path, _, _ in shell.WALK]
READING = [*WALK, *(p for p in PAGES if p not in WALK and re.search(r"^visit = chapter\.(begin|look)\(", (ROOT / p).read_text("utf-8"), re.M))]
"""Pages that look at the visitor's sentence."""
APP = str(Path(__file__).resolve().parents[1] / "app.py")
LANGUAGES = ["en", "zh"]
HEARD = """window.heard = [];
document.addEventListener("securitypolicyviolation", (e) => window.heard.push(`${e.effectiveDirective} ${e.blockedURI} ${e.sourceFile}`));"""
"""In a browser's page: what its policy forbade."""


def visit(house: service.Hospital, page: str, text: str, token: int, floor: int) -> chapter.Visit:
    """What a page looks at, with nothing drawn."""
    trace = house.trace(text)
    return chapter.Visit(page, house, text, trace, token, floor, building.pieces(house.tokenizer, trace.ids))


def open_page(path: str, lang: str = "en", **query: object) -> AppTest:
    """A visitor who opens a page by its link; TOKEN_HOSPITAL_CHECKPOINT says which model is there."""
    at = AppTest.from_file(APP, default_timeout=120)
    for name, value in {"lang": lang, **query}.items():
        at.query_params[name] = str(value)
    return at.switch_page(path).run()


def sent(component: Any) -> Any:
    """What a component of the page was given to draw (see `plates.packed`)."""
    return json.loads(component.proto.bytes or component.proto.json)


def fine(at: AppTest) -> bool:
    return not at.exception and not at.error


def shown(at: AppTest) -> dict[str, dict]:
    """Every plate on the page, by its id and by "mount.id"; of equal ids the last."""
    found = {}
    for one in at.get("bidi_component"):
        if one.proto.component_name == "plates":
            data = sent(one)
            for plate in data["plates"]:
                found[plate["id"]] = found[f"{data['page']}.{plate['id']}"] = plate
    return found


def floats(encoded: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(encoded), "<f4")


def values(plate: dict) -> np.ndarray:
    return floats(plate["values"])


def prose(at: AppTest) -> str:
    """All that is said, without the signs that keep Markdown off, and without the links of known words."""
    said = "\n".join(one.value for one in at.markdown)
    return re.sub(r'\[([^\]]*)\]\(glossary\?\S* "[^"]*"\)', r"\1", said).replace("\\", "")


def until(page: Any, expression: str, arg: object = None) -> None:
    """Wait in a browser until that is so. Playwright's own way evaluates a text in the page, which its policy forbids."""
    for _ in range(600):
        if page.evaluate(expression, arg):
            return
        page.wait_for_timeout(100)
    raise AssertionError(expression)


def skip(at: AppTest) -> AppTest:
    """Have the answer of the first open question shown."""
    return next(b for b in at.button if str(b.key).endswith(".skip")).click().run()
