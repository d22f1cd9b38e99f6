"""A checkpoint opened for use: text in, traces and text out. The one door for screens and the command line."""

from __future__ import annotations

from pathlib import Path

from model import checkpoint
from model.config import ModelConfig
from model.engine import Engine
from model.errors import UserError
from model.interventions import NONE, Interventions
from model.tokenizer import Tokenizer
from model.trace import Trace

MAX_TOKENS = 256  # tokens of one text, the begin-of-sentence token not counted
SHIPPED = Path(__file__).resolve().parents[1] / "assets" / "hospital"


class InputError(UserError):
    """A text that cannot be walked through the model."""


class LiveModel:
    """A loaded model with its tokenizer. Read-only once made; any number of threads may call it."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer) -> None:
        if tokenizer.vocab_size > engine.c.vocab_size:
            raise checkpoint.CheckpointError(
                f"tokenizer.json has {tokenizer.vocab_size} tokens, but the model knows {engine.c.vocab_size}. "
                "Use the tokenizer that belongs to the checkpoint.", "checkpoint_damaged",
            )  # fmt: skip
        self.engine, self.tokenizer = engine, tokenizer

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self.engine.c

    def encode(self, text: str, limit: int = MAX_TOKENS) -> list[int]:
        """Ids of `text`, begin-of-sentence first. InputError: empty, not valid text, or more than `limit` tokens."""
        if not text.strip():
            raise InputError("The text is empty. Type a sentence.", "empty_text")
        ids = self.tokenizer.encode(text)
        bos = self.tokenizer.bos_id
        count = len(ids) - (bos is not None and bool(ids) and ids[0] == bos)
        if not ids:
            raise InputError("The text gives no tokens. Type a sentence.", "empty_text")
        if count > limit:
            raise InputError(f"The text has {count} tokens; at most {limit} can be shown at once. Shorten it.",
                             "too_long", count=count, limit=limit)  # fmt: skip
        return ids

    def trace(self, text: str, interventions: Interventions | None = None, base: Trace | None = None) -> Trace:
        """One forward pass over `text`, with everything it saw. `base`: an untouched trace of the same text, whose
        layers below the change need not be computed again."""
        return self.engine.trace(self.encode(text), interventions or NONE, base)


def load(path: str | Path | None = None) -> LiveModel:
    """The shipped hospital, or any folder with `config.json`, `*.safetensors` and `tokenizer.json` of the DeepSeek-V3
    architecture. Raises UserError with one sentence on what is wrong."""
    folder = Path(path) if path is not None else SHIPPED
    engine = Engine(checkpoint.load(folder))
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise checkpoint.CheckpointError(f"{folder} has no tokenizer.json. Add the one that belongs to the model.",
                                         "checkpoint_missing", folder=folder.name)  # fmt: skip
    try:
        tokenizer = Tokenizer.load(file)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise checkpoint.CheckpointError(f"{file} cannot be read: {error}.", "checkpoint_damaged") from error
    return LiveModel(engine, tokenizer)
