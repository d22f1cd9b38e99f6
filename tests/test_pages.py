"""Every page of the house, in both languages, with everything that a visitor may bring; and what stays as it was."""

from __future__ import annotations

import ast
import gc
import hashlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import screens
import torch
from screens import LANGUAGES, PAGES, READING, WALK, fine
from streamlit.testing.v1 import AppTest

import model
from pages.kit import ask, code, service, state, words

ROOT = Path(__file__).resolve().parents[1]
APP = str(ROOT / "app.py")
NAMES = [Path(path).stem for path in PAGES]
SENTENCE = "Doctor, I have a fever."
LONG = "面" * model.MAX_TOKENS
say = words.say

EXAMPLES = [ask.EXAMPLES["zh"][0], ask.EXAMPLES["en"][3]]  # each page sees both in both languages
ODD = [
    "a\x00b\x07\x1b[31mc", "שלום עולם \u202eevil", "👩‍👩‍👧 🏥 e\u0301\u0301", "<b>bold</b><script>alert(1)</script>",
    "![x](http://example.org/x.png) **bold** $x^2$ :red[red] {0} %s", "`a` | b\n# c @d@",
]  # fmt: skip


@pytest.fixture
def visit(monkeypatch, clinic_folder):
    """A visitor who opens a page by its link. The clinic is enough, and shows that no shape is built in."""
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))

    def open_page(page: str, lang: str = "en", checkpoint: Path | None = None, **query: str) -> AppTest:
        if checkpoint is not None:
            monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(checkpoint))
        return screens.open_page(page, lang, **query)

    return open_page


def sentences(at: AppTest) -> list[str]:
    return [one.value.replace("\\", "") for one in at.error]


def type_in(at: AppTest, text: str) -> AppTest:
    return at.text_input(key="sentence_box").set_value(text).run()


def pictures(at: AppTest) -> list[dict]:
    return [screens.sent(one) for one in at.get("bidi_component") if one.proto.component_name in ("plates", "building")]


def open_all(at: AppTest, lang: str) -> AppTest:
    """Every question skipped, so that the whole page is there."""
    while skips := [b for b in at.button if b.label == say(lang, "chapter.show_me")]:
        at = skips[0].click().run()
    return at


# -- every page --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("page", READING, ids=lambda page: Path(page).stem)
def test_every_page_at_every_depth_for_everything_that_can_be_read(visit, page, lang):
    """Examples, one token, 256 tokens, and every odd text: one visitor, who goes through the depths on the way."""
    at, name = visit(page, lang), Path(page).stem
    assert fine(at) and at.title[0].value == say(lang, f"{name}.title")
    texts = [*EXAMPLES, "面", LONG, *ODD]
    for number, text in enumerate(texts):
        depth = state.DEPTHS[number % len(state.DEPTHS)]
        at.session_state["setting.depth"] = depth
        at = open_all(type_in(at, text), lang)
        assert fine(at), (text, sentences(at))
        assert at.text_input(key="sentence_box").value == text and pictures(at)
        assert bool(at.latex) == (depth == "maths") and bool(at.code) == (depth == "code"), (text, depth)
        assert not any(text in one.value for one in [*at.markdown, *at.caption] if len(text) > 9), "never as Markdown"


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("page", READING, ids=lambda page: Path(page).stem)
def test_what_cannot_be_read_is_one_sentence(visit, page, lang):
    """What was there before stays, and so does what was typed."""
    at = visit(page, lang, s=SENTENCE)
    before = len(pictures(at))
    for bad, expected in [
        ("", say(lang, "error.empty_text")), (" \t\u3000 ", say(lang, "error.empty_text")),
        ("面 " * 400, say(lang, "error.too_long", count=800, limit=model.MAX_TOKENS)),
    ]:  # fmt: skip
        at = type_in(at, bad)
        assert not at.exception and sentences(at) == [expected]
        assert at.text_input(key="sentence_box").value == bad and len(pictures(at)) == before
        assert say(lang, "chapter.last_good") in [one.value for one in at.caption]
    assert fine(type_in(at, "面"))


@pytest.mark.parametrize("page", READING, ids=lambda page: Path(page).stem)
def test_a_link_with_a_bad_sentence(visit, page):
    """Nothing was there before: the sentence alone."""
    at = visit(page, "zh", s="面 " * 400)
    assert not at.exception and len(at.error) == 1 and str(model.MAX_TOKENS) in at.error[0].value
    assert fine(type_in(at, "面"))


@pytest.mark.parametrize("how,key", [("nowhere", "checkpoint_missing"), ("cut", "checkpoint_damaged")])
@pytest.mark.parametrize("page", READING, ids=lambda page: Path(page).stem)
def test_without_a_checkpoint_every_page_says_so(visit, clinic_folder, tmp_path, page, how, key):
    folder = tmp_path / how
    if how == "cut":
        folder.mkdir()
        for file in clinic_folder.iterdir():
            data = file.read_bytes()
            (folder / file.name).write_bytes(data[: len(data) // 2] if file.suffix == ".safetensors" else data)
    at = visit(page, "zh", folder)
    assert not at.exception and sentences(at) == [say("zh", f"error.{key}", folder=how)]
    assert at.title[0].value == say("zh", f"{Path(page).stem}.title") and at.text_input(key="sentence_box").value


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_link_with_everything_set_to_what_is_not_there(visit, page):
    """Other floors, rooms, heads, ranks and tokens than this house has."""
    far = {"token": "999999", "floor": "999999", "other": "999999", "room": "999999", "head": "999999", "rank": "999",
           "step": "48", "branch": "47.999999"}  # fmt: skip
    changes = {"department": ["force", "softmax"], "heads": ["silence_heads"], "triage": ["close_records"]}.get(Path(page).stem, [""])
    for change in changes:
        at = open_all(visit(page, "en", s=SENTENCE, change=change, **far), "en")
        assert not at.exception and len(at.error) <= 1


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("page", [page for page in PAGES if page not in READING], ids=lambda page: Path(page).stem)
def test_every_other_page_at_every_depth(visit, page, lang):
    at, name = visit(page, lang), Path(page).stem
    assert fine(at) and at.title[0].value == say(lang, f"{name}.title")
    for depth in state.DEPTHS:
        at.session_state["setting.depth"] = depth
        assert fine(open_all(at.run(), lang)), depth


# -- code that is shown ------------------------------------------------------------------------------------------------


def asked_for() -> list[tuple[str, tuple]]:
    """Every `source(...)` of the pages, with its arguments as they are written; constants of the file put in."""
    found = []
    for page in [*PAGES, *(str(file.relative_to(ROOT)) for file in (ROOT / "pages" / "kit" / "figures").glob("*.py"))]:
        tree = ast.parse((ROOT / page).read_text("utf-8"))
        names: dict[str, object] = {}
        for node in tree.body:
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    pairs = zip(target.elts, node.value.elts, strict=True) if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple) else [(target, node.value)]
                    names |= {to.id: value.value for to, value in pairs if isinstance(to, ast.Name) and isinstance(value, ast.Constant)}

        def value(node: ast.expr, names=names) -> str:
            return eval(compile(ast.Expression(node), "page", "eval"), {}, dict(names))  # constants and f-strings only

        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "source" and not any(isinstance(arg, ast.Starred) for arg in node.args):
                found.append((page, tuple(map(value, node.args)), {k.arg: value(k.value) for k in node.keywords}))
    return found


def test_every_page_shows_code():
    assert {page for page, _, _ in asked_for()} >= set(WALK)


@pytest.mark.parametrize("page,args,more", asked_for(), ids=lambda given: None if isinstance(given, dict) else str(given)[:60])
def test_code_that_is_shown_is_found(page, args, more):
    shown = code.source(*args, **more)
    lines = (ROOT / shown.file).read_text("utf-8").splitlines()[shown.first - 1 :]
    assert shown.file.startswith(("model/", "pages/kit/")) and shown.text.strip()
    assert [a.strip() for a in shown.text.splitlines()] == [b.strip() for b in lines[: shown.text.count("\n") + 1]]


def test_a_file_is_read_by_one_at_a_time(monkeypatch):
    """Twelve come to pages nobody has seen. Some Pythons fail where two trees are made at once."""
    busy, most, parse, meet = [], [], ast.parse, threading.Barrier(12)

    def counted(text):
        busy.append(text)
        most.append(len(busy))
        try:
            return parse(text)
        finally:
            busy.pop()

    def come(i: int):
        meet.wait()
        return code._parsed(ROOT / ("model/engine.py", "model/train.py")[i % 2])

    monkeypatch.setattr(code.ast, "parse", counted)
    code._parsed.cache_clear()
    with ThreadPoolExecutor(12) as several:
        trees = list(several.map(come, range(12)))
    assert max(most) == 1 and all(trees)


# -- what stays as it was ----------------------------------------------------------------------------------------------

TURNS = {
    "lobby": [{"follow": "all"}, {"floor": 2}, {"floor": 4}, {"token": 3}],
    "triage": [{"token": 1}, {"change": "close_records"}, {"token": 5}],
    "department": [{"change": c} for c in ("dismiss", "force", "silence_shared", "silence_routed", "bias_in_weights",
                                           "mask_with_zero", "softmax", "num_experts_per_tok")]
                  + [{"change": "num_experts_per_tok", "k": k} for k in (1, 2, 5, 7, 16)]
                  + [{"change": "dismiss", "room": room} for room in range(6)],
    "round": [{"floor": floor} for floor in (1, 2, 3, 4)] + [{"other": 3}, {"token": 2}],
    "heads": [{"change": "silence_heads", "head": head, "floor": floor} for head in (0, 1) for floor in (1, 2, 3)],
    "postal": [{"rank": rank, "head": 1} for rank in (1, 2, 3, 4, 5, 6)],
    "discharge": [{"written": 2}, {"written": 4, "temperature": 50}, {"top_k": 3}, {"seed": 5, "written": 3}, {"ahead": 1}],
}  # fmt: skip


def tensors_of(thing: object) -> dict[int, torch.Tensor]:
    """Every tensor that hangs on an object of this project, however deep."""
    found, seen, stack = {}, set(), [thing]
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            found[id(item)] = item
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            stack.extend(item)
        elif isinstance(item, type):
            continue
        elif type(item).__module__.startswith(("model", "torch.nn")):
            stack.extend(vars(item).values() if hasattr(item, "__dict__") else ())
            stack.extend(getattr(item, name) for name in getattr(type(item), "__slots__", ()) if hasattr(item, name))
    return found


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()).hexdigest()


def live_tensor_bytes() -> int:
    """Of all tensors that there are, each storage once. tracemalloc does not see them."""
    gc.collect()
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in gc.get_objects() if type(one) is torch.Tensor}
    return sum(storages.values())


def turn(at: AppTest, setting: dict[str, object]) -> AppTest:
    for name, value in setting.items():
        at.session_state[f"setting.{name}"] = value
    at.session_state["link.behind"] = True
    return at.run()


def test_a_hundred_turns_leave_memory_and_the_shared_model_alone(visit, clinic_folder, monkeypatch):
    """One model for everybody: after a hundred different questions its every number is what it was, and what is kept of
    the answers stays within its bounds, which are made small here so that they are reached."""
    monkeypatch.setattr(service, "KEPT_TRACES", 12)
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))
    house = service.hospital()
    everything = tensors_of(house.live)
    assert sum(t.numel() for t in everything.values()) > 100_000, "the model is among what is looked at"
    before, own = {key: digest(t) for key, t in everything.items()}, house.trace(SENTENCE).logits.clone()
    process = psutil.Process()
    visitors = {page: visit(page, s=SENTENCE) for page in WALK}

    def round_of_turns(again: int) -> int:
        count = 0
        for page, at in visitors.items():
            for setting in TURNS[Path(page).stem]:
                at = open_all(turn(at, {**setting, "sentence": f"{SENTENCE} {again}"}), "en")
                assert fine(at), (page, setting, sentences(at))
                count += 1
        return count

    done = round_of_turns(0)  # what is made once and kept is made here
    kept, tensors, blocks, resident = len(tensors_of(house.live)), live_tensor_bytes(), sys.getallocatedblocks(), process.memory_info().rss
    for again in (1, 2):
        done += round_of_turns(again)
    tensors_grown, blocks_grown = live_tensor_bytes() - tensors, sys.getallocatedblocks() - blocks
    assert done >= 100
    assert len(house._kept) <= service.KEPT_TRACES
    sizes = [size for _, size in house._kept.values()]
    assert sum(sizes) <= service.KEPT_BYTES
    assert tensors_grown < 2 * max(sizes), "traces that nobody keeps are gone"
    assert blocks_grown < 200 * done, f"{blocks_grown} pieces of memory more"
    assert process.memory_info().rss - resident < 50 * 2**20
    assert len(tensors_of(house.live)) == kept
    assert {key: digest(t) for key, t in everything.items()} == before
    assert (house.live.trace(SENTENCE).logits == own).all(), "and it answers as before"
