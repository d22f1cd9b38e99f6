"""The build step against invented numbers: no random and no literal numbers in what the pages show.

What it cannot see is listed in the README.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from model.config import ModelConfig
from pages.kit import words

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*(ROOT / "pages").glob("*.py"), *(ROOT / "pages" / "kit" / "figures").glob("*.py")])
SCRIPTS = sorted((ROOT / "assets").glob("*/*.js"))

# Numbers of the picture's layout and of its wording: they say nothing about the model.
LAYOUT = {
    "cell", "left", "height", "digits", "n", "likely", "columns", "label_width", "every", "most", "timeout", "max_chars",
    "min_value", "max_value", "step", "value", "run_every", "ndigits", "gap", "decimals", "domain", "limit",
}  # fmt: skip
FREE = {0, 1, 2, -1, 0.5}
CHANCE = {"random", "secrets", "uuid"}


def invented(source: str) -> list[str]:
    """What is random, and which numbers are literal, in a page's source. A constant named in capitals is declared, with
    a comment that says what it is, and is seen by whoever reads the file."""
    tree = ast.parse(source)
    allowed: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in LAYOUT:
            allowed |= set(ast.walk(node.value))
        if isinstance(node, ast.Assign) and all(isinstance(t, ast.Name) and t.id.isupper() for t in node.targets):
            allowed |= set(ast.walk(node.value))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):  # defaults of layout arguments
            names = [a.arg for a in [*node.args.args, *node.args.kwonlyargs]]
            defaults = [*node.args.defaults, *[d for d in node.args.kw_defaults if d is not None]]
            if set(names) & LAYOUT:
                allowed |= {n for d in defaults for n in ast.walk(d)}
        if isinstance(node, ast.Subscript):  # which element is taken, not what it says
            allowed |= set(ast.walk(node.slice))
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            allowed |= set(ast.walk(node.format_spec))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] + [getattr(node, "module", "") or ""]
            found += [f"line {node.lineno}: import of {n}" for n in names if n.split(".")[0] in CHANCE]
        if isinstance(node, ast.Attribute) and re.fullmatch(r"rand\w*|normal_?|uniform_?|shuffle", node.attr):
            found.append(f"line {node.lineno}: .{node.attr}")
        if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node not in allowed and node.value not in FREE:
            found.append(f"line {node.lineno}: {node.value}")
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in {"number", "percent"} or (
            isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"number", "percent"}
        ):
            found += [f"line {n.lineno}: {ast.unparse(node)}" for n in node.args[:1]
                      if isinstance(n, ast.Constant) and n.value not in FREE]  # fmt: skip
    return found


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.stem)
def test_no_page_invents_a_number(file: Path):
    assert invented(file.read_text("utf-8")) == []


# Where chance is let in beside the pages and their figures, and what for: never for a value that is shown.
DEALT = {
    "quiz.py": "the number of a quiz that nobody named; what is asked and what is right is made in figures/quiz.py",
    "classes.py": "codes of classes and keys of those who sit in them",
}
SEEDLESS = ("seed", "lot", "mixed", "fresh", "hashlib", "hash(")  # what the dealing of a quiz is made of


def chance(source: str) -> set[str]:
    """Modules of chance that a file brings in."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found & CHANCE


def test_chance_is_let_in_only_where_it_is_said_what_for():
    kit = sorted((ROOT / "pages" / "kit").glob("*.py"))
    assert {file.name for file in kit if chance(file.read_text("utf-8"))} <= set(DEALT)
    assert chance((ROOT / "pages" / "kit" / "quiz.py").read_text("utf-8")) == {"secrets"}


def test_questions_know_of_no_seed():
    """What makes a question and its right answer cannot be dealt: it sees the trace and nothing else."""
    source = (ROOT / "pages" / "kit" / "figures" / "quiz.py").read_text("utf-8")
    code = ast.unparse(ast.Module([n for n in ast.parse(source).body if not isinstance(n, ast.Expr)], []))
    assert [word for word in SEEDLESS if re.search(rf"\b{re.escape(word)}", code)] == []


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.stem)
def test_no_browser_code_is_random(file: Path):
    assert "Math.random" not in file.read_text("utf-8")


@pytest.mark.parametrize("source", [
    "import random", "from random import choice", "x = torch.rand(3)", "y = rng.normal(2)", "plates.facts('a', [(522, 'x')])",
    "share = 0.874", "number(0.93)", "a = [3.14]",
])  # fmt: skip
def test_the_step_sees_what_it_should(source: str):
    assert invented(source)


@pytest.mark.parametrize("source", ["x = y[3]", "f(cell=26)", "WIDTH = 300", "a = b - 1", "f'{x:.3f}'"])
def test_the_step_leaves_the_rest(source: str):
    assert invented(source) == []


# -- numbers in words --------------------------------------------------------------------------------------------------


def facts() -> set[int]:
    """Integers that words may say: those of the two configurations, and what follows from them."""
    numbers = set()
    for c in (ModelConfig.preset("hospital"), ModelConfig.preset("deepseek-v3")):
        moe = c.num_moe_layers
        numbers |= {
            c.num_hidden_layers, c.first_k_dense_replace, c.first_k_dense_replace + 1, moe, c.n_routed_experts,
            c.n_shared_experts, c.num_experts_per_tok, moe * c.num_experts_per_tok, c.n_group, c.topk_group, c.n_routed_experts // c.n_group,
            c.num_experts_per_tok + c.n_shared_experts, moe * (c.num_experts_per_tok + c.n_shared_experts),
            moe * c.n_routed_experts, c.n_routed_experts + c.n_shared_experts, c.num_attention_heads, c.kv_lora_rank,
            c.qk_rope_head_dim, c.kv_lora_rank + c.qk_rope_head_dim, c.qk_nope_head_dim, c.v_head_dim, c.hidden_size,
            c.num_attention_heads * (c.qk_nope_head_dim + c.v_head_dim), c.qk_nope_head_dim + c.v_head_dim,
            c.num_attention_heads * (c.qk_nope_head_dim + c.v_head_dim) // c.kv_lora_rank,
            c.qk_head_dim + c.v_head_dim, 2 * c.kv_lora_rank + c.qk_rope_head_dim,  # a head's products, plain and absorbed
        }  # fmt: skip
    return numbers


def said(text: str) -> set[int]:
    """Integers in words, placeholders and names of papers aside."""
    text = re.sub(r"\{[^}]*\}|arXiv[\s:]*[\d.]+|https?://\S+|Eq\.?\s*[\d–,\- ]+|FP8|BF16|V[123](\.5)?|L2|\d+[_\w]*_\w+", " ", text)
    return {int(n.replace(",", "")) for n in re.findall(r"(?<![\w.])\d{1,3}(?:,\d{3})+|(?<![\w.])\d+(?![\w.])", text)}


@pytest.mark.parametrize("lang", sorted(words.tables()))
def test_words_say_no_number_that_no_configuration_has(lang: str):
    """Sources and what the talk said may name other numbers; the model's part may not."""
    known = facts() | {0, 1, 2, 3, 4, 5, 10, 100, 95}  # small counts, percent, and the level of an interval
    wrong = {
        key: sorted(said(text) - known)
        for key, text in words.tables()[lang].items()
        if not key.endswith((".source", ".said")) and said(text) - known
    }
    assert wrong == {}
