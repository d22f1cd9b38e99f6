"""A trace as tables: one row for each thing that happened, one column for each thing that is known of it.

Numbers are the trace's own float32 numbers, written with as few digits as give exactly the same float32 back. What each
column means is said in the visitor's language (words `record.column.*`) and travels with every file.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pyarrow import csv, parquet

from model import Trace
from pages.kit.chapter import Visit
from pages.kit.figures import common
from pages.kit.record import Walk, about
from pages.kit.turns import turns
from pages.kit.words import t

LIKELIEST = 5  # next tokens that are told apart after every token

TABLES: dict[str, tuple[str, ...]] = {
    "tokens": ("position", "id", "text", "kind", "next_id", "next_text", "next_probability", "experts", "rooms_new"),
    "floors": ("position", "floor", "layer", "kind", "state_norm", "attention_norm", "ffn_norm", "open_corridors"),
    "calls": (
        "position", "text", "floor", "layer", "order", "expert", "corridor", "logit", "score", "bias", "choice_score",
        "corridor_score", "raw_weight", "weight",
    ),
    "next": ("position", "order", "id", "text", "logit", "probability"),
    "scores": ("floor", "layer", "expert", "corridor", "open", "called", "logit", "score", "bias", "choice_score"),
    "attention": ("head", "read_position", "read_text", "content_score", "position_score", "weight"),
}  # fmt: skip
TYPES = {
    **dict.fromkeys(("text", "kind", "next_text", "open_corridors", "read_text"), "string"),
    **dict.fromkeys(("open", "called"), "bool"),
    **dict.fromkeys((
        "next_probability", "state_norm", "attention_norm", "ffn_norm", "logit", "score", "bias", "choice_score",
        "corridor_score", "raw_weight", "weight", "probability", "content_score", "position_score",
    ), "float32"),
}  # fmt: skip

Table = pa.Table


class Counts(NamedTuple):
    """Rows of each table."""

    tokens: int
    floors: int
    calls: int
    next: int
    scores: int
    attention: int


def counts(visit: Visit, trace: Trace) -> Counts:
    """Known before anything is made."""
    layers, tokens, k = trace.chosen.shape
    heads, experts = trace.config.num_attention_heads, trace.config.n_routed_experts
    return Counts(
        tokens,
        tokens * len(trace.mid),
        layers * tokens * k,
        tokens * min(LIKELIEST, trace.config.vocab_size),
        layers * experts,
        heads * (visit.token + 1),
    )


# -- the tables --------------------------------------------------------------------------------------------------------


def tables(visit: Visit, trace: Trace) -> dict[str, Table]:
    """Every table of TABLES, in its order. `visit`: who is followed where, and what tokens are called; `trace`: its
    own, or one of the same sentence with something changed."""
    made = {
        "tokens": _tokens(visit, trace),
        "floors": _floors(trace),
        "calls": _calls(visit, trace),
        "next": _next(visit, trace),
        "scores": _scores(visit, trace),
        "attention": _attention(visit, trace),
    }
    return {name: pa.table({column: made[name][column] for column in columns}) for name, columns in TABLES.items()}


def _kinds(visit: Visit) -> list[str]:
    """door, end, part (of a character) or text."""
    special = [("door" if i == 0 else "end") if piece["special"] else None for i, piece in enumerate(visit.pieces)]
    return [kind or ("part" if p["partial"] else "text") for kind, p in zip(special, visit.pieces, strict=True)]


def _tokens(visit: Visit, trace: Trace) -> dict[str, Any]:
    tokens = len(trace.ids)
    best = [trace.top(token, 1)[0] for token in range(tokens)]
    called = trace.woken()
    known = called.cumsum(1) > 0  # (M, T, E): by anybody up to here
    before = torch.cat([torch.zeros_like(known[:, :1]), known[:, :-1]], 1)
    return {
        "position": _whole(range(tokens)),
        "id": _whole(trace.ids),
        "text": visit.names,
        "kind": _kinds(visit),
        "next_id": _whole([one.id for one in best]),
        "next_text": [common.said(visit, one.id) for one in best],
        "next_probability": _real([one.probability for one in best]),
        "experts": _whole([trace.experts_per_token] * tokens),
        "rooms_new": _whole((called & ~before).sum((0, 2))),
    }


def _floors(trace: Trace) -> dict[str, Any]:
    layers, tokens = trace.mid.shape[:2]
    position, layer = _grid(tokens, layers)
    dense = trace.config.first_k_dense_replace
    kept = trace.kept_groups.sort(-1).values.tolist()  # (M, T, kept)
    opened = [
        " ".join(map(str, kept[at - dense][token])) if at >= dense else None
        for token, at in zip(position.tolist(), layer.tolist(), strict=True)
    ]

    def norm(states: torch.Tensor) -> pa.Array:  # (L, T, d) -> one for each token and layer
        return _real(states.norm(dim=-1).t().flatten())

    return {
        "position": _whole(position),
        "floor": _whole(layer + 1),
        "layer": _whole(layer),
        "kind": ["moe" if at >= dense else "dense" for at in layer.tolist()],
        "state_norm": norm(trace.hidden[1:]),
        "attention_norm": norm(trace.attention_output),
        "ffn_norm": norm(trace.ffn_output),
        "open_corridors": pa.array(opened, pa.string()),
    }


def _calls(visit: Visit, trace: Trace) -> dict[str, Any]:
    layers, tokens, k = trace.chosen.shape
    c = trace.config
    position, layer, order = _grid(tokens, layers, k)
    chosen = trace.chosen.transpose(0, 1)  # (T, M, k), as are all below
    group = chosen // (c.n_routed_experts // c.n_group)

    def of(values: torch.Tensor, index: torch.Tensor = chosen) -> torch.Tensor:
        return values.transpose(0, 1).gather(2, index).flatten()

    return {
        "position": _whole(position),
        "text": _named(visit, position),
        "floor": _whole(layer + c.first_k_dense_replace + 1),
        "layer": _whole(layer + c.first_k_dense_replace),
        "order": _whole(order + 1),
        "expert": _whole(chosen.flatten()),
        "corridor": _whole(group.flatten()),
        "logit": _real(of(trace.router_logits)),
        "score": _real(of(trace.scores)),
        "bias": _real(of(trace.choice_scores - trace.scores)),
        "choice_score": _real(of(trace.choice_scores)),
        "corridor_score": _real(of(trace.group_scores, group)),
        "raw_weight": _real(trace.raw_weights.transpose(0, 1).flatten()),
        "weight": _real(trace.weights.transpose(0, 1).flatten()),
    }


def _next(visit: Visit, trace: Trace) -> dict[str, Any]:
    n = min(LIKELIEST, trace.config.vocab_size)
    position, order = _grid(len(trace.ids), n)
    best = [one for token in range(len(trace.ids)) for one in trace.top(token, n)]
    ids = torch.tensor([one.id for one in best])
    return {
        "position": _whole(position),
        "order": _whole(order + 1),
        "id": _whole(ids),
        "text": [common.said(visit, one.id) for one in best],
        "logit": _real(trace.logits[position, ids]),
        "probability": _real([one.probability for one in best]),
    }


def _scores(visit: Visit, trace: Trace) -> dict[str, Any]:
    c, at = trace.config, (slice(None), visit.token)
    layers, experts = trace.scores.shape[0], c.n_routed_experts
    layer, expert = _grid(layers, experts)
    corridor = expert // (experts // c.n_group)
    opened = torch.zeros(layers, c.n_group, dtype=torch.bool).scatter_(1, trace.kept_groups[at], True)
    return {
        "floor": _whole(layer + c.first_k_dense_replace + 1),
        "layer": _whole(layer + c.first_k_dense_replace),
        "expert": _whole(expert),
        "corridor": _whole(corridor),
        "open": opened[layer, corridor].numpy(),
        "called": trace.woken()[at].flatten().numpy(),
        "logit": _real(trace.router_logits[at].flatten()),
        "score": _real(trace.scores[at].flatten()),
        "bias": _real((trace.choice_scores - trace.scores)[at].flatten()),
        "choice_score": _real(trace.choice_scores[at].flatten()),
    }


def _attention(visit: Visit, trace: Trace) -> dict[str, Any]:
    past = slice(visit.token + 1)
    head, read = _grid(trace.config.num_attention_heads, visit.token + 1)
    content, position = trace.attention_scores(visit.layer)
    parts = (content, position, trace.attention(visit.layer))
    made = [_real(part[:, visit.token, past].flatten()) for part in parts]
    return {
        "head": _whole(head),
        "read_position": _whole(read),
        "read_text": _named(visit, read),
        **dict(zip(("content_score", "position_score", "weight"), made, strict=True)),
    }


def _grid(*sizes: int) -> list[torch.Tensor]:
    """The indices of a tensor of this shape, one flat tensor for each dimension."""
    return [axis.flatten() for axis in torch.meshgrid(*(torch.arange(size) for size in sizes), indexing="ij")]


def _named(visit: Visit, positions: torch.Tensor) -> list[str]:
    names = visit.names
    return [names[position] for position in positions.tolist()]


def _whole(values: Any) -> pa.Array:
    return pa.array(np.asarray(values, dtype=np.int32))


def _real(values: Any) -> pa.Array:
    return pa.array(np.asarray(values, dtype=np.float32))


# -- files -------------------------------------------------------------------------------------------------------------


def meaning(column: str) -> str:
    """What a column says, with its unit."""
    return t(f"record.column.{column}")


def type_of(column: str) -> str:
    """What its values are: string, bool, float32 or int32."""
    return TYPES.get(column, "int32")


def of_walk(one: Walk) -> dict[str, Table]:
    """The tables of a walk, with what was changed."""
    with turns.taken():  # as any page
        return tables(one.visit(), one.trace())


def as_csv(one: Walk) -> bytes:
    """A zip with one CSV a table (UTF-8 with a mark, so that spreadsheets read Chinese), what the columns mean, and
    about.json."""
    made = of_walk(one)
    return _zip({"about.json": _json(about(one)), "columns.csv": _csv(_documentation(made))}
                | {f"{name}.csv": _csv(table) for name, table in made.items()})  # fmt: skip


def as_parquet(one: Walk) -> bytes:
    """A zip with one Parquet file a table; what a column means is in its field's metadata, `about` in the file's."""
    beside = {"about": json.dumps(about(one), ensure_ascii=False)}

    def file(table: Table) -> bytes:
        documented = [f.with_metadata({"meaning": meaning(f.name)}) for f in table.schema]
        sink = io.BytesIO()
        parquet.write_table(table.cast(pa.schema(documented, metadata=beside)), sink)
        return sink.getvalue()

    return _zip({f"{name}.parquet": file(table) for name, table in of_walk(one).items()})


def as_json(one: Walk) -> bytes:
    """One object: about; columns, what each means; tables, column by column. What JSON has no number for is null."""
    made = of_walk(one)
    columns = {name: meaning(name) for table in made.values() for name in table.column_names}
    parts = [
        f"{json.dumps(name)}: {{\n"
        + ",\n".join(f"{json.dumps(column)}: [{_values(table[column])}]" for column in table.column_names)
        + "\n}"
        for name, table in made.items()
    ]
    text = '{"about": %s,\n"columns": %s,\n"tables": {\n%s\n}}\n'
    dump = partial(json.dumps, ensure_ascii=False, indent=1)
    return (text % (dump(about(one)), dump(columns), ",\n".join(parts))).encode()


def _values(column: pa.ChunkedArray) -> str:
    if pa.types.is_string(column.type):
        return ", ".join(json.dumps(value, ensure_ascii=False) for value in column.to_pylist())
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_finite(column), column, None)
    return ", ".join("null" if value is None else value for value in column.cast(pa.string()).to_pylist())


def _documentation(made: Mapping[str, Table]) -> Table:
    rows = [(name, column, type_of(column), meaning(column)) for name, table in made.items()
            for column in table.column_names]  # fmt: skip
    return pa.table(dict(zip(("table", "column", "type", "meaning"), map(list, zip(*rows, strict=True)), strict=True)))


def _csv(table: Table) -> bytes:
    sink = io.BytesIO()
    sink.write(b"\xef\xbb\xbf")
    csv.write_csv(table, sink, csv.WriteOptions(quoting_style="needed"))
    return sink.getvalue()


def _json(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


def _zip(files: Mapping[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return sink.getvalue()
