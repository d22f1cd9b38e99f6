"""The first picture of a fresh process, recorded, so that it stands before torch and the checkpoint are there.

`python -m pages.kit.opening` records what `building.data` gives for the shipped checkpoint and the first example in
each language. A test computes it again; a record of another checkpoint is not shown.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from pages.kit import ask, shell, state, words

RECORD = shell.ROOT / "assets" / "opening.json"
DIGEST = shell.ROOT / "assets" / "hospital" / "model.safetensors.sha256"


def picture(sentence: str) -> dict[str, Any] | None:
    """The recorded picture of `sentence`, while nobody has opened the model yet and nothing else was chosen."""
    if done() or os.environ.get("TOKEN_HOSPITAL_CHECKPOINT"):
        return None
    if any(state.get(name) != state.TABLE[name].default for name in ("token", "floor", "follow")):
        return None
    try:
        record = json.loads(RECORD.read_text("utf-8"))
        return record["pictures"].get(sentence) if record["checkpoint"] == DIGEST.read_text("utf-8") else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def done() -> bool:
    """Whether somebody has opened the model already."""
    service = sys.modules.get("pages.kit.service")
    return (is_open := getattr(service, "is_open", None)) is not None and is_open()  # another may be importing it


def load() -> None:
    """Open the model; what is wrong with it is said by whoever needs it."""
    from pages.kit import service

    service.hospital()


def record() -> dict[str, Any]:
    """What `picture` shows, computed."""
    from pages.kit import building, chapter, service
    from pages.kit.figures import lobby

    house, pictures = service.hospital(), {}
    for lang in words.languages():
        sentence = ask.EXAMPLES[lang][0]
        trace = house.trace(sentence)
        pieces = building.pieces(house.tokenizer, trace.ids)
        token, floor = chapter.usual_token(pieces), house.config.num_hidden_layers
        visit = chapter.Visit("lobby", house, sentence, trace, token, floor, pieces)
        told = not lobby.ranges(lobby.crowd(visit))  # nobody has answered anything yet
        pictures[sentence] = building.data(trace, house.tokenizer, token, floor, told=told)
    return {"checkpoint": DIGEST.read_text("utf-8"), "pictures": pictures}


if __name__ == "__main__":
    RECORD.write_text(json.dumps(record(), ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")
