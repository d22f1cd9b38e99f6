"""The tokenizer: byte-level BPE with 4,096 pieces, in the file format everybody reads (``tokenizer.json``).

``python -m model.tokenizer train`` makes ``assets/hospital/tokenizer.json`` from ``model.corpus``.
"""

from __future__ import annotations

import json
import re
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, processors, trainers

from model.errors import UserError

PATH = Path(__file__).resolve().parents[1] / "assets" / "hospital" / "tokenizer.json"
VOCAB_SIZE = 4096
BOS = "<｜begin▁of▁sentence｜>"  # the names DeepSeek-V3 uses
EOS = "<｜end▁of▁sentence｜>"
_EOS_NAMES = (EOS, "</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "[SEP]")
_BOS_NAMES = (BOS, "<s>", "<bos>", "<|endoftext|>", "<|begin_of_text|>", "[CLS]")

# Digits one by one (so sums line up), Chinese runs, then words with their leading space, marks one by one.
_SPLIT = r"\p{N}| ?[[\p{L}\p{M}]&&[^\p{Han}]]+|\p{Han}+| ?[^\s\p{L}\p{N}\p{M}]|\s+(?!\S)|\s+"
_HAN = re.compile(r"[\u4e00-\u9fff]+")
_LONGEST_WORD = 4


class TextError(UserError):
    """The input is not text that can be encoded; the message says where and why."""


@dataclass(frozen=True)
class Piece:
    """How one token is shown. A token that holds only some bytes of a character is ``is_partial``."""

    id: int
    text: str  # what to show: the text itself, or a label such as "炸 1/3" or "E7 82"
    is_partial: bool = False
    is_special: bool = False


def _byte_alphabet() -> dict[str, int]:
    """Byte-level BPE writes each byte as one printable character; this maps it back."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_alphabet()


def _character_length(first: int) -> int:
    """How many bytes the UTF-8 character beginning with this byte has; 0 inside a character."""
    # where each length begins; 0x80 to 0xC1 and 0xF5 on never begin a character
    return (1, 0, 2, 3, 4, 0)[bisect_right((0x80, 0xC2, 0xE0, 0xF0, 0xF5), first)]


class Tokenizer:
    """Text to ids and back, for our own ``tokenizer.json`` or any other."""

    def __init__(self, inner: tokenizers.Tokenizer):
        self._inner = inner
        # What a person types is text, even where it spells a special token.
        self._inner.encode_special_tokens = True
        decoder = json.loads(inner.to_str()).get("decoder") or {}
        kinds = [decoder.get("type"), *(part.get("type") for part in decoder.get("decoders", []))]
        self.is_byte_level = "ByteLevel" in kinds
        self._special = {id for id, token in inner.get_added_tokens_decoder().items() if token.special}
        self._bytes: dict[int, bytes] = {}  # of ids that were asked for
        self.bos_id = self._first(_BOS_NAMES)
        self.eos_id = self._first(_EOS_NAMES)

    @classmethod
    def load(cls, path: str | Path = PATH) -> Tokenizer:
        """Read a ``tokenizer.json``, or the one in a folder."""
        path = Path(path)
        return cls(tokenizers.Tokenizer.from_file(str(path / "tokenizer.json" if path.is_dir() else path)))

    def _first(self, names: Sequence[str]) -> int | None:
        return next((id for name in names if (id := self._inner.token_to_id(name)) is not None), None)

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return self._inner.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """The ids of a text, with the begin-of-sentence id in front if the file says so."""
        return self._inner.encode(_checked(text)).ids

    def encode_all(self, texts: list[str]) -> list[list[int]]:
        """``encode`` of many texts, several times as fast."""
        return [encoding.ids for encoding in self._inner.encode_batch([_checked(text) for text in texts])]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, without special tokens."""
        return self._inner.decode(list(ids), skip_special_tokens=True)

    def pieces(self, ids: Iterable[int]) -> list[Piece]:
        """What to show for each id: never a replacement character."""
        ids = list(ids)
        if not self.is_byte_level:
            return [self._plain_piece(id) for id in ids]
        data = [self._bytes.get(id) or self._bytes.setdefault(id, self._token_bytes(id)) for id in ids]
        return _label(
            ids,
            data,
            [id in self._special for id in ids],
            [self._inner.id_to_token(id) or f"#{id}" for id in ids],
        )

    def _token_bytes(self, id: int) -> bytes:
        token = self._inner.id_to_token(id)
        if token is None or id in self._special:
            return b""
        if all(char in _BYTES for char in token):
            return bytes(_BYTES[char] for char in token)
        return token.encode()  # a token added by hand is stored as it reads

    def _plain_piece(self, id: int) -> Piece:
        token = self._inner.id_to_token(id) or f"#{id}"
        if id in self._special:
            return Piece(id, token, is_special=True)
        if match := re.fullmatch(r"<0x([0-9A-F]{2})>", token):  # byte fallback of sentencepiece models
            return Piece(id, match.group(1), is_partial=int(match.group(1), 16) >= 0x80)
        text = token.replace("▁", " ") if "▁" in token else token.removeprefix("##")
        return Piece(id, text.replace("\ufffd", "?"))


def _checked(text: str) -> str:
    for position, char in enumerate(text):
        if "\ud800" <= char <= "\udfff":
            raise TextError(
                f"The character at position {position + 1} is half of a surrogate pair (U+{ord(char):04X}) "
                "and not text that can be written down. Delete it.",
                "not_text",
                position=position + 1,
            )
    return text


def _label(ids: list[int], data: list[bytes], special: list[bool], names: list[str]) -> list[Piece]:
    """Pieces of byte-level tokens; a partial one is labelled with the character its neighbours complete."""
    try:
        return [
            Piece(id, name, is_special=is_special) if is_special or not blob else Piece(id, blob.decode())
            for id, blob, is_special, name in zip(ids, data, special, names, strict=True)
        ]
    except UnicodeDecodeError:
        pass  # one of them is partial
    stream = b"".join(data)
    owner: dict[int, tuple[str, int, int]] = {}  # byte position -> character, first byte, bytes
    position = 0
    while position < len(stream):
        length = _character_length(stream[position])
        try:
            char = stream[position : position + length].decode() if length else ""
        except UnicodeDecodeError:
            char = ""
        if len(char) != 1:
            position += 1
            continue
        owner.update(dict.fromkeys(range(position, position + length), (char, position, length)))
        position += length
    # a special token between two bytes ends the character, so such bytes are not joined
    breaks, at = set(), 0
    for blob, is_special in zip(data, special, strict=True):
        if is_special:
            breaks.add(at)
        at += len(blob)
    pieces, start = [], 0
    for id, blob, is_special, name in zip(ids, data, special, names, strict=True):
        end = start + len(blob)
        if is_special or not blob:
            pieces.append(Piece(id, name, is_special=is_special))
            continue
        try:
            pieces.append(Piece(id, blob.decode()))
        except UnicodeDecodeError:
            pieces.append(Piece(id, _partial_label(blob, start, owner, breaks), is_partial=True))
        start = end
    return pieces


def _partial_label(blob: bytes, start: int, owner: dict[int, tuple[str, int, int]], breaks: set[int]) -> str:
    """Such as "炸 1/3" (the first of three bytes), "炸 2–3/3", or "E7 82" where no character results."""
    labels: list[str] = []
    at = start
    while at < start + len(blob):
        if at not in owner or any(owner[at][1] < cut < owner[at][1] + owner[at][2] for cut in breaks):
            labels.append(f"{blob[at - start]:02X}")
            at += 1
            continue
        char, first, length = owner[at]
        last = min(first + length, start + len(blob))
        low, high = at - first + 1, last - first
        part = f"{low}/{length}" if low == high else f"{low}–{high}/{length}"
        labels.append(char if high - low + 1 == length else f"{char} {part}")
        at = last
    return " ".join(labels)


# --- training ---


def _words(found: Iterable[str]) -> set[str]:
    return {word for word in found if 2 <= len(word) <= _LONGEST_WORD and _HAN.fullmatch(word)}


def _dictionary() -> set[str]:
    from .corpus import real_documents

    splits = ("train", "heldout")
    return _words(doc.text.split("：")[0] for split in splits for doc in real_documents(split, ["cedict"]))


def segment(run: str, own: set[str], dictionary: set[str]) -> Iterator[str]:
    """Cut a run of Chinese characters into words: the longest first, but none that cuts our own in two."""
    at = 0
    while at < len(run):
        for length in range(min(_LONGEST_WORD, len(run) - at), 0, -1):
            word, end = run[at : at + length], at + length
            if length == 1 or word in own or (word in dictionary and not _cuts(run, at, end, own)):
                yield word
                at = end
                break


def _cuts(run: str, start: int, end: int, own: set[str]) -> bool:
    """Whether one of our own words begins inside [start, end) and goes on behind it: 去火|锅店."""
    return any(
        run[first:last] in own
        for first in range(start + 1, end)
        for last in range(end + 1, first + _LONGEST_WORD + 1)
    )


def _training_pieces(texts: Iterable[str], own: set[str], dictionary: set[str]) -> Iterator[str]:
    """Texts cut at word boundaries, so that no merge can glue two Chinese words of a template together."""
    for text in texts:
        end = 0
        for match in _HAN.finditer(text):
            if match.start() > end:
                yield text[end : match.start()]
            yield from segment(match.group(), own, dictionary)
            end = match.end()
        if end < len(text):
            yield text[end:]


def train(documents: int = 120_000, seed: int = 61) -> tokenizers.Tokenizer:
    """Learn the merges from the same mixture the model is trained on."""
    from .corpus import mixture
    from .corpus.lexicon import own_words

    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[BOS, EOS],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    texts = (doc.text for doc in islice(mixture(seed), documents))
    inner.train_from_iterator(_training_pieces(texts, _words(own_words()), _dictionary()), trainer)
    inner.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, inner.token_to_id(BOS))]
    )
    return inner


def main(arguments: list[str]) -> None:
    """``train`` writes the tokenizer file."""
    if arguments != ["train"]:
        print(__doc__)
        return
    PATH.parent.mkdir(parents=True, exist_ok=True)
    train().save(str(PATH), pretty=False)
    print(f"{PATH.name}: {PATH.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
