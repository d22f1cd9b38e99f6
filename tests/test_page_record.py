"""The patient's file: what is taken home says what the trace says, whoever reads it, and whatever was typed."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import math
import re
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import screens
from pyarrow import parquet
from screens import LANGUAGES, fine, prose, shown

import model
from model import Interventions, checkpoint
from pages.kit import notebook, record, service, shell, tables, walkfile, words
from pages.kit.record import Walk

ROOT = Path(__file__).resolve().parents[1]
PAGE = "pages/record.py"
SENTENCE = "Doctor, I have a fever."
LONG = "面" * model.MAX_TOKENS
ODD = {
    "script": "</script><img src=x onerror=alert(1)><!-- & \u2028",
    "right to left": "שלום עולם \u202eevil",
    "emoji": "👩‍👩‍👧 🏥 e\u0301",
    "nul": "a\x00b\x07",
    "one character": "面",
    "256 tokens": LONG,
    "formula": '=HYPERLINK("http://example.org"),"x"\n\t{0} %s @walk@ \\n',
}


@pytest.fixture(scope="module", params=["clinic", "hospital"])
def folder(request) -> Path:
    return request.getfixturevalue(f"{request.param}_folder")


@pytest.fixture
def take(monkeypatch, folder):
    """`take(sentence, ...)`: a walk through the checkpoint, with nobody at a screen."""
    return walker(monkeypatch, folder)


def walker(monkeypatch, folder: Path):
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(folder))

    def at(sentence: str = SENTENCE, token: int | None = None, floor: int | None = None, **how: object) -> Walk:
        house = service.hospital()
        last = len(house.trace(sentence).ids) - 1
        usual = {"room": None, "head": 1, "changes": Interventions(), "lang": "en", "zone": "Asia/Shanghai",
                 "link": "http://localhost/?lang=en&s=x", "settings": (("lang", "en"),), "stamp": "0123abcd"}  # fmt: skip
        return Walk(sentence, last if token is None else token,
                    house.config.first_k_dense_replace + 1 if floor is None else floor, **{**usual, **how})  # fmt: skip

    return at


def asked(one: Walk, make) -> bytes:
    """As a button asks: in a thread of its own, where no visitor is known."""
    found: list[bytes | BaseException] = []

    def run() -> None:
        try:
            found.append(one.when_asked(make)())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def unpacked(packed: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def rows(text: bytes) -> list[dict[str, str]]:
    assert text.startswith(b"\xef\xbb\xbf"), "a spreadsheet must know that it is UTF-8"
    return list(csv.DictReader(io.StringIO(text.decode("utf-8-sig"), newline="")))


# -- tables ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"num_experts_per_tok": 3}], ids=["untouched", "changed"])
def test_every_row_of_the_csv_is_the_traces(take, changes):
    one = take(changes=Interventions(**changes))
    files = unpacked(asked(one, tables.as_csv))
    visit, trace = one.visit(), one.trace()
    c, dense = trace.config, trace.config.first_k_dense_replace
    size, same = c.n_routed_experts // c.n_group, lambda text, value: np.float32(text) == np.float32(float(value))
    assert set(files) == {"about.json", "columns.csv", *(f"{name}.csv" for name in tables.TABLES)}

    calls = rows(files["calls.csv"])
    assert len(calls) == trace.chosen.numel() and list(calls[0]) == list(tables.TABLES["calls"])
    seen = set()
    for row in calls:
        m, token, at = int(row["layer"]) - dense, int(row["position"]), int(row["order"]) - 1
        expert = int(row["expert"])
        seen.add((m, token, at))
        assert int(row["floor"]) == int(row["layer"]) + 1 and row["text"] == visit.names[token]
        assert trace.chosen[m, token, at] == expert and int(row["corridor"]) == expert // size
        assert same(row["weight"], trace.weights[m, token, at]) and same(row["raw_weight"], trace.raw_weights[m, token, at])
        assert same(row["logit"], trace.router_logits[m, token, expert]) and same(row["score"], trace.scores[m, token, expert])
        assert same(row["choice_score"], trace.choice_scores[m, token, expert])
        assert same(row["bias"], trace.choice_scores[m, token, expert] - trace.scores[m, token, expert])
        assert same(row["corridor_score"], trace.group_scores[m, token, expert // size])
    assert len(seen) == len(calls)

    patients = rows(files["tokens.csv"])
    assert [int(row["id"]) for row in patients] == list(trace.ids) and [row["text"] for row in patients] == visit.names
    assert patients[0]["kind"] == "door" and {row["kind"] for row in patients[1:]} == {"text"}
    for token, row in enumerate(patients):
        shares = trace.logits[token].softmax(-1)
        assert int(row["next_id"]) == int(shares.argmax()) and same(row["next_probability"], shares.max())
        assert int(row["experts"]) == trace.experts_per_token
    assert sum(int(row["rooms_new"]) for row in patients) == trace.experts_touched

    floors = rows(files["floors.csv"])
    assert len(floors) == len(trace.ids) * c.num_hidden_layers
    for row in floors:
        layer, token = int(row["layer"]), int(row["position"])
        for name, state in (("state_norm", trace.hidden[layer + 1, token]), ("attention_norm", trace.attention_output[layer, token]),
                            ("ffn_norm", trace.ffn_output[layer, token])):  # fmt: skip
            assert float(row[name]) == pytest.approx(math.sqrt(math.fsum(x * x for x in state.double().tolist())), rel=1e-5)
        opened = sorted(trace.kept_groups[layer - dense, token].tolist()) if layer >= dense else []
        assert row["open_corridors"] == " ".join(map(str, opened)) and row["kind"] == ("moe" if layer >= dense else "dense")

    for row in rows(files["next.csv"]):
        token, id = int(row["position"]), int(row["id"])
        assert same(row["logit"], trace.logits[token, id])
        assert float(row["probability"]) == pytest.approx(float(trace.logits[token].double().softmax(-1)[id]), abs=1e-5)

    scores = rows(files["scores.csv"])
    assert len(scores) == trace.scores.shape[0] * c.n_routed_experts
    for row in scores:
        m, expert = int(row["layer"]) - dense, int(row["expert"])
        assert same(row["logit"], trace.router_logits[m, one.token, expert]) and same(row["score"], trace.scores[m, one.token, expert])
        assert row["called"] == str(expert in trace.chosen[m, one.token].tolist()).lower()
        assert row["open"] == str(int(row["corridor"]) in trace.kept_groups[m, one.token].tolist()).lower()

    weights = trace.attention(visit.layer)
    read = rows(files["attention.csv"])
    assert len(read) == c.num_attention_heads * (one.token + 1)
    for row in read:
        head, place = int(row["head"]), int(row["read_position"])
        assert same(row["weight"], weights[head, one.token, place]) and row["read_text"] == visit.names[place]
    for head in range(c.num_attention_heads):
        mine = [row for row in read if int(row["head"]) == head]
        powers = np.exp([float(row["content_score"]) + float(row["position_score"]) for row in mine])
        assert np.allclose(powers / powers.sum(), [float(row["weight"]) for row in mine], atol=1e-5)

    assert tables.counts(visit, trace)._asdict() == {name: len(rows(files[f"{name}.csv"])) for name in tables.TABLES}


def test_parquet_and_json_say_what_the_csv_says(take):
    one = take(changes=Interventions(dismiss=frozenset({(service.hospital().config.num_hidden_layers - 1, 0)})))
    made = tables.tables(one.visit(), one.trace())
    told = json.loads(asked(one, tables.as_json))
    packed = unpacked(asked(one, tables.as_parquet))
    assert set(told["tables"]) == set(made) and set(packed) == {f"{name}.parquet" for name in made}
    infinite = 0
    for name, table in made.items():
        read = parquet.read_table(io.BytesIO(packed[f"{name}.parquet"]))
        assert read.to_pydict() == table.to_pydict() and read.column_names == list(tables.TABLES[name])
        about = json.loads(read.schema.metadata[b"about"])
        assert about["sentence"] == SENTENCE and about["changes"] == told["about"]["changes"]
        for field in read.schema:
            kind = {"float": "float32"}.get(str(field.type), str(field.type))
            assert kind == tables.type_of(field.name) and field.metadata[b"meaning"].decode() == told["columns"][field.name]
            values, expected = told["tables"][name][field.name], table[field.name].to_pylist()
            if kind == "float32":
                infinite += sum(value is None for value in values)
                pairs = [(np.float32(a), np.float32(b)) for a, b in zip(values, expected, strict=True) if a is not None]
                assert all(a == b for a, b in pairs)
                assert all(math.isinf(b) for a, b in zip(values, expected, strict=True) if a is None)
            else:
                assert values == expected
    assert infinite > 0, "an intern who was sent home has no choice score that JSON could hold"
    assert told["about"]["checkpoint"]["sha256"] == checkpoint.digest(service.folder())
    assert told["about"]["config"] == service.hospital().config.to_dict()


def test_every_column_is_explained():
    used = {column for columns in tables.TABLES.values() for column in columns}
    assert set(tables.TYPES) <= used
    for lang in LANGUAGES:
        known = {key.removeprefix("record.column.") for key in words.tables()[lang] if key.startswith("record.column.")}
        assert known == used
    assert set(tables.Counts._fields) == set(tables.TABLES)


def test_the_digest_is_sha256sums(clinic_folder, tmp_path):
    plain = hashlib.sha256((clinic_folder / "model.safetensors").read_bytes()).hexdigest()
    assert checkpoint.digest(clinic_folder) == plain
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(name.encode())
    lines = "".join(f"{hashlib.sha256(name.encode()).hexdigest()}  {name}.safetensors\n" for name in "ab")
    assert checkpoint.digest(tmp_path) == hashlib.sha256(lines.encode()).hexdigest()
    with pytest.raises(checkpoint.CheckpointError):
        checkpoint.digest(tmp_path / "nowhere")


# -- the file ----------------------------------------------------------------------------------------------------------


class Parsed(HTMLParser):
    """Tags and scripts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.words: list[str] = []
        self._script: dict[str, str | None] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._script = dict(attrs) if tag == "script" else None

    def handle_endtag(self, tag):
        self._script = None

    def handle_data(self, data):
        if self._script is not None:
            self.scripts.append((self._script, data))
        else:
            self.words.append(data)


def opened(page: bytes) -> tuple[Parsed, dict, str]:
    """The page's parts, its data and its policy."""
    parsed = Parsed(page.decode())
    data = next(text for how, text in parsed.scripts if how.get("id") == "walk")
    policy = next(attrs["content"] for tag, attrs in parsed.tags if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy")
    return parsed, json.loads(data), policy or ""


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_whatever_was_typed_stays_text(monkeypatch, clinic_folder, text, lang):
    one = walker(monkeypatch, clinic_folder)(text, lang=lang)
    page = asked(one, walkfile.page)
    parsed, data, policy = opened(page)
    assert data["origin"]["sentence"] == text and data["lang"] == words.say(lang, "language.html")
    assert [tag for tag, _ in parsed.tags].count("script") == 2 == len(parsed.scripts)
    assert not {tag for tag, _ in parsed.tags} & {"img", "iframe", "object", "link", "base", "form", "svg"}
    assert not any(name.startswith("on") for _, attrs in parsed.tags for name in attrs)
    assert b"\x00" not in page and b"\r" not in page
    code = next(script for how, script in parsed.scripts if how.get("type") == "module")
    assert "'sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() + "'" in policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe-eval" not in policy
    assert re.findall(r"(?:src|href)=\"(?!#)([^\"]*)\"", page.decode().split("<script")[0]) == ["http://localhost/?lang=en&amp;s=x"]
    for make in (tables.as_csv, tables.as_json, tables.as_parquet, notebook.notebook):
        assert asked(one, make)
    names = [row["text"] for row in rows(unpacked(asked(one, tables.as_csv))["tokens.csv"])]
    assert names == walk_names(one)


def walk_names(one: Walk) -> list[str]:
    with words.speaking(one.lang):
        return one.visit().names


def test_the_file_says_who_what_and_when(take):
    one = take(changes=Interventions(silence_heads=frozenset({(0, 1)})), lang="zh")
    parsed, data, _ = opened(asked(one, walkfile.page))
    said = "".join(parsed.words)
    for needed in (SENTENCE, service.folder().name, checkpoint.digest(service.folder()), words.say("zh", "record.changed.head", floor=1, head=1)):
        assert needed in said
    assert str(one.today().year) in said
    assert [part["page"] for part in data["sections"]] == ["lobby", "triage", "department", "round", "heads", "postal", "discharge", "changed"]


def alike(one, other, name=None) -> bool:
    """Equal, up to the rounding of float32: a product's last digit depends on where in memory its numbers lie. What is
    left between two ways of computing the same number is all rounding, and is printed as a power of ten."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(value, other[key], key) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float):
        return one == pytest.approx(other, rel=1e-5, abs=1e-6)
    if name == "values" and isinstance(one, str):
        one, other = (np.frombuffer(base64.b64decode(each), "<f4") for each in (one, other))
        return one.shape == other.shape and np.allclose(one, other, rtol=1e-5, atol=1e-6, equal_nan=True)
    if isinstance(one, str):
        one, other = (re.sub(r"[\d.]+\s×\s10⁻\w+", "tiny", text) for text in (one, other))
    return one == other


def test_every_token_has_its_own_pictures(take):
    """What the file holds for another token is what is drawn for that token from the start."""
    one = take(token=3)
    _, data, _ = opened(asked(one, walkfile.page))
    tokens = len(one.visit().pieces)
    assert sorted(map(int, data["details"])) == list(range(tokens)), "all of a short sentence"
    for token in (0, 5):
        with words.speaking("en"):
            fresh = walkfile.sections(one, replace(one.visit(), token=token), None)
        assert [part["page"] for part in data["sections"]] == [section.page for section in fresh]
        for held, section in zip(data["sections"], fresh, strict=True):
            own = held["own"][str(token)]
            made = [{**same, **mine} for same, mine in zip(held["same"], own, strict=True)]
            assert alike(made, json.loads(json.dumps(list(section.plates))))
            assert held["picked"][str(token)] == section.picked
    trace = one.visit().trace
    scores = np.frombuffer(base64.b64decode(data["details"]["5"]["scores"]), "<u2").reshape(trace.scores.shape[0], -1)
    assert np.abs(scores / 65535 - trace.scores[:, 5].numpy()).max() < 1e-5
    assert any("values" in plate for part in data["sections"] for plate in part["same"]), "what belongs to nobody is there once"


@pytest.mark.parametrize("tokens,token,expected", [(7, 3, (0, 7)), (40, 39, (0, 40)), (257, 0, (0, 40)), (257, 256, (217, 257)), (257, 100, (80, 120))])
def test_who_can_be_followed(tokens, token, expected):
    found = walkfile.followable(tokens, token)
    assert (found[0], found[-1] + 1) == expected and token in found


@pytest.mark.parametrize("words_of_it", [1, 36, 256])
def test_the_size_that_is_said_is_about_the_files(monkeypatch, hospital_folder, words_of_it):
    one = walker(monkeypatch, hospital_folder)("面" * words_of_it, floor=30)
    tokens = len(one.visit().pieces)
    size, said = len(asked(one, walkfile.page)), walkfile.about_bytes(tokens, one.token)
    assert size == pytest.approx(said, rel=0.15), (size, said)
    if tokens <= 37:
        assert size < 5_000_000


def test_the_files_code_is_the_pages_code():
    code = walkfile.script()
    for path in walkfile.MODULES:
        lines = [line for line in (ROOT / "assets" / f"{path}.js").read_text("utf-8").splitlines() if line.strip()]
        kept = sum(line.removeprefix("export ") in code for line in lines)
        assert kept >= len(lines) - 3, path
    assert "import(" not in code.replace("import.meta", "") and "\nexport " not in code


# -- the notebook ------------------------------------------------------------------------------------------------------

READ_BACK = """
import json
print("READ BACK " + json.dumps({
    "ids": list(trace.ids), "chosen": hashlib.sha256(trace.chosen.numpy().astype("<i8").tobytes()).hexdigest(),
    "logits": trace.logits[-1, :50].tolist(), "sentence": SENTENCE, "gaps": gaps,
}))
"""


# Walks that are walked again: what was typed, and what was done on the way.
AGAIN: dict[str, tuple[str, dict]] = {
    "untouched": (SENTENCE, {}), "sent home, short code": (SENTENCE, {"dismiss": True, "latent_rank": 4}),
    "script, softmax": (ODD["script"], {"gate": "softmax"}), "nul": (ODD["nul"], {}),
    "emoji, records closed": (ODD["emoji"], {"silence": True}), "on the desk": (SENTENCE, {"floor": 1}),
}  # fmt: skip


def test_the_notebook_walks_the_same_walk(take, folder, tmp_path):
    """Every notebook from its first cell to its last, with nothing in hand; in a process that is not this one, and that
    all share: to bring in torch takes longer than to walk."""
    c, walks, books = service.hospital().config, {}, {}
    for name, (text, how) in AGAIN.items():
        changes = Interventions(
            dismiss=frozenset({(c.first_k_dense_replace, 3), (c.num_hidden_layers - 1, 0)}) if "dismiss" in how else frozenset(),
            latent_rank=how.get("latent_rank"), gate=how.get("gate", "noaux_tc"),
            silence_heads=frozenset((0, head) for head in range(c.num_attention_heads)) if "silence" in how else frozenset(),
        )  # fmt: skip
        walks[name] = one = take(text, floor=how.get("floor"), changes=changes)
        book = json.loads(asked(one, notebook.notebook))
        assert book["nbformat"] == 4 and len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
        assert {cell["cell_type"] for cell in book["cells"]} == {"markdown", "code"}
        books[name] = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    runner = tmp_path / "run.py"
    runner.write_text(f"""for name, cells in {books!r}.items():
    space = {{}}
    for cell in [*cells, {READ_BACK!r}]:
        exec(compile(cell, f"cell of {{name}}", "exec"), space)
""", "utf-8")
    done = subprocess.run([sys.executable, str(runner)], cwd=ROOT, capture_output=True, text=True, timeout=240,
                          env={**__import__("os").environ, "TOKEN_HOSPITAL_CHECKPOINT": str(folder), "PYTHONIOENCODING": "utf-8"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    *told, end = done.stdout.split("READ BACK ")
    back = [json.JSONDecoder().raw_decode(one)[0] for one in [*told[1:], end]]
    assert len(back) == len(walks) and all("everybody who was called is the same: True" in one for one in told)
    for found, (name, one) in zip(back, walks.items(), strict=True):
        trace = one.trace()
        assert found["ids"] == list(trace.ids) and found["sentence"] == AGAIN[name][0], name
        assert found["chosen"] == hashlib.sha256(trace.chosen.numpy().astype("<i8").tobytes()).hexdigest(), name
        assert np.allclose(found["logits"], trace.logits[-1, :50].numpy(), atol=1e-4) and max(found["gaps"].values()) < 1e-4, name


def test_the_notebook_refuses_another_checkpoint(monkeypatch, clinic_folder, tmp_path):
    one = walker(monkeypatch, clinic_folder)()
    cells = ["".join(cell["source"]) for cell in json.loads(asked(one, notebook.notebook))["cells"] if cell["cell_type"] == "code"]
    other = tmp_path / "other"
    other.mkdir()
    for file in clinic_folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    with (other / "model.safetensors").open("ab") as weights:
        weights.write(b"\0")
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(other))
    monkeypatch.setattr(model, "load", lambda path: model.LiveModel)  # what matters is what is said of it
    monkeypatch.chdir(ROOT)
    space: dict = {}
    with pytest.raises(AssertionError, match="another checkpoint"):
        for cell in cells[:3]:
            exec(compile(cell, "cell", "exec"), space)


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def app(monkeypatch, clinic_folder):
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))
    return lambda lang="en", **query: screens.open_page(PAGE, lang, **{"s": SENTENCE, **query})


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_page_has_everything_to_take_and_makes_nothing(app, monkeypatch, lang):
    def never(*_):
        raise AssertionError("nobody has pressed a button")

    for where, name in ((walkfile, "data"), (tables, "tables"), (notebook, "about"), (record, "about")):
        monkeypatch.setattr(where, name, never)
    at = app(lang)
    assert fine(at) and at.title[0].value == words.say(lang, "record.title")
    names = [button.label for button in at.get("download_button")]
    assert names == [words.say(lang, f"record.take.{what}") for what in ("file", "csv", "parquet", "json", "notebook")]
    made = shown(at)
    counted = {row: cells[1] for row, cells in zip(made["contents"]["labels"], made["contents"]["cells"], strict=True)}
    trace = service.hospital().trace(SENTENCE)
    assert counted["calls"] == trace.chosen.numel() and counted["tokens"] == len(trace.ids)
    heads = [card["head"] for card in made["columns"]["cards"]]
    assert heads == [column for columns in tables.TABLES.values() for column in columns]


@pytest.mark.parametrize("query,expected", [
    ({}, {}),
    ({"change": "dismiss", "room": 5, "floor": 3}, {"dismiss": [(2, 5)]}),
    ({"change": "dismiss", "room": 5, "floor": 1}, {"dismiss": [(1, 5)]}),
    ({"change": "force", "room": 9, "floor": 4}, {"force": [(3, 9)]}),
    ({"change": "silence_shared", "floor": 2}, {"silence_shared": [1]}),
    ({"change": "num_experts_per_tok", "k": 2}, {"num_experts_per_tok": 2}),
    ({"change": "softmax", "rank": 3}, {"gate": "softmax", "latent_rank": 3}),
    ({"change": "silence_heads", "head": 2, "floor": 4}, {"silence_heads": [(3, 2)]}),
    ({"change": "close_records", "floor": 4}, {"silence_heads": [(0, head) for head in range(16)]}),
    ({"rank": 999}, {}),
], ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "")  # fmt: skip
def test_what_was_changed_on_the_way_comes_along(app, monkeypatch, query, expected):
    taken: list[Walk] = []
    walk = record.walk
    monkeypatch.setattr(record, "walk", lambda visit: taken.append(walk(visit)) or taken[-1])
    at = app(**query)
    assert fine(at) and record.described(taken[-1].changes) == expected
    if not expected:
        assert not [button for button in at.button if button.key == "record_undo"]
        return
    with words.speaking("en"):
        changed = record.said(taken[-1].changes, service.hospital().config)
    assert changed in prose(at).replace("\\", "")
    page = asked(taken[-1], walkfile.page)
    assert opened(page)[1]["sections"][-1]["page"] == "changed"
    at.button(key="record_undo").click().run()
    assert fine(at) and record.described(taken[-1].changes) == {} and "change" not in at.query_params


def test_the_link_of_a_walk_shows_it_again(app, monkeypatch):
    taken: list[Walk] = []
    walk = record.walk
    monkeypatch.setattr(record, "walk", lambda visit: taken.append(walk(visit)) or taken[-1])
    app(token=4, floor=2, head=3, change="silence_heads")
    settings = dict(taken[-1].settings)
    assert settings == {"lang": "en", "s": SENTENCE, "token": "4", "floor": "2", "head": "3", "change": "silence_heads"}
    assert re.fullmatch(r"token-hospital-[0-9a-f]{8}\.html", taken[-1].file(".html"))
    app(token=4, floor=3, head=3, change="silence_heads")
    assert taken[-1].stamp != taken[0].stamp


@pytest.mark.parametrize("zone", [None, "", "Nowhere/Land", "../../etc/passwd", "Asia/Shanghai"])
def test_a_browser_may_name_any_zone(take, zone):
    assert take(zone=zone).today().year > 2000


def test_the_page_stands_in_its_wing():
    assert PAGE in [path for path, _, _ in shell.WINGS["nav.class"]]
