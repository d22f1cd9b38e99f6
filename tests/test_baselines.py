"""The 5-gram model is a proper one and counts what training read; the dense one has the same active size."""

from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

from model import ModelConfig, UserError, data
from model.baselines import KneserNey, dense_config, rows_seen
from model.costs import parameters
from model.data import TrainingRows
from model.deepseek_v3 import DeepseekV3
from model.tokenizer import Tokenizer
from model.train import Run, TrainSettings

V = 12  # ids of the small vocabulary; 0 = begin, 1 = end of a text


def texts_in_rows(seed: int, rows: int = 60, length: int = 16) -> np.ndarray:
    """Rows packed as for training: begin, some ids, end, begin, ... with some structure to learn."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(rows):
        row: list[int] = []
        while len(row) < length:
            text = [int(rng.integers(2, V))]
            while rng.random() < 0.8:
                text.append(2 + (text[-1] * 3 + int(rng.random() < 0.3) * int(rng.integers(10))) % (V - 3))
            row += [0, *text, 1]
        out.append(row[:length])
    return np.array(out, dtype=np.uint16)


ROWS = texts_in_rows(0)
MODEL = KneserNey.fit(ROWS, V)
CONTEXTS = [
    [],
    [0],
    [0, 5],
    [0, 5, 4],
    [5, 4, 3, 2],
    [0, 7, 9, 5, 3, 2],
    [3, 1, 0],
    [11, 11, 11, 11],
    [0, 11, 3],
]


@pytest.mark.parametrize("context", CONTEXTS, ids=str)
def test_probabilities_sum_to_one(context):
    p = MODEL.distribution(context)
    assert p.shape == (V,) and (p > 0).all()
    assert abs(p.sum() - 1) < 1e-9


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_every_order_sums_to_one(order):
    model = KneserNey.fit(ROWS, V, order=order)
    assert model.order == order
    assert all(abs(model.distribution(context).sum() - 1) < 1e-9 for context in CONTEXTS)


def test_tiny_example_by_hand():
    """Two texts: 0 2 3 1 and 0 2 2 1.

    Pairs: (0 2) twice, (2 3), (3 1), (2 2), (2 1) once each. So n1 = 4, n2 = 1 and D1 = 4 / (4 + 2) = 2/3;
    D2 cannot be estimated without a count of 3 and is 2/3 too.
    Single ids, by how many different ids stand to their left: 2 has {0, 2}, 3 has {2}, 1 has {3, 2}: 2, 1, 2
    of 5 in all. n1 = 1, n2 = 2: D = 1 / (1 + 4) = 1/5 for all.
    P1(2) = (2 - 1/5) / 5 + (3/5) / 5 / 4 = 0.36 + 0.03 = 0.39.
    P(2 | 0) = (2 - 2/3) / 2 + (2/3) / 2 x 0.39 = 0.666... + 0.13.
    P(2 | 2) = (1 - 2/3) / 3 + (3 x 2/3) / 3 x 0.39 = 0.111... + 0.26.
    """
    model = KneserNey.fit(np.array([[0, 2, 3, 1], [0, 2, 2, 1]]), vocab_size=4, order=2)
    assert model.distribution([])[2] == pytest.approx(0.39)
    assert model.distribution([0])[2] == pytest.approx(2 / 3 + 0.13)
    assert model.distribution([2])[2] == pytest.approx(1 / 9 + 0.26)
    assert model.log_probabilities([0, 2, 2]) == pytest.approx(np.log([2 / 3 + 0.13, 1 / 9 + 0.26]))
    assert model.tokens == 8


def plain_kneser_ney(
    rows: np.ndarray, discounts: list[np.ndarray], context: tuple[int, ...], word: int
) -> float:
    """The definition, with dictionaries: slow, and written without the fast one in mind."""
    texts = []
    for row in rows.tolist():
        for id in row:
            if id == 0:
                texts.append([])
            texts[-1].append(id)
    grams = [Counter() for _ in range(6)]  # by order, plain counts
    for text in texts:
        for n in range(1, 6):
            grams[n].update(tuple(text[i : i + n]) for i in range(len(text) - n + 1))
    adjusted = [defaultdict(int) for _ in range(6)]
    adjusted[5].update(grams[5])
    for n in range(4, 0, -1):
        for gram in grams[n + 1]:
            adjusted[n][gram[1:]] += 1
        if n > 1:
            adjusted[n].update({gram: count for gram, count in grams[n].items() if gram[0] == 0})

    def probability(context: tuple[int, ...]) -> float:
        n = len(context) + 1
        lower = probability(context[1:]) if context else 1 / V
        counts = {gram[-1]: c for gram, c in adjusted[n].items() if gram[:-1] == context}
        if not counts:
            return lower
        take = {w: discounts[n - 1][min(c, 3)] for w, c in counts.items()}
        own = counts[word] - take[word] if word in counts else 0.0
        return (own + sum(take.values()) * lower) / sum(counts.values())

    return probability(context)


def test_the_fast_one_is_the_definition():
    discounts = [order.discounts for order in MODEL.orders]
    for context in ((), (0,), (0, 5), (5, 4), (0, 7, 3), (4, 5, 8), (5, 8, 8, 8), (8, 5, 8, 8)):
        p = MODEL.distribution(context)
        slow = [plain_kneser_ney(ROWS, discounts, context, w) for w in range(V)]
        assert p == pytest.approx(slow, abs=1e-12)


def test_discounts_grow_with_the_count():
    for order in MODEL.orders:
        none, one, two, many = order.discounts
        assert none == 0 < one <= two <= 2 and one <= many <= 3
        assert one < 1


def test_places_are_scored_by_what_stands_before_them():
    ids = [0, 5, 4, 2, 8, 8, 3, 1]
    expected = [np.log(MODEL.distribution(ids[:t])[ids[t]]) for t in range(1, len(ids))]
    assert MODEL.log_probabilities(ids) == pytest.approx(expected, abs=1e-12)
    # a second text in the same sequence knows nothing of the first
    both = MODEL.log_probabilities(ids + ids)
    assert both[: len(ids) - 1] == pytest.approx(expected) and both[len(ids) :] == pytest.approx(expected)


def test_top_is_exact():
    ids = [0, 5, 4, 2, 8, 8, 3, 1]
    top = MODEL.top(ids, 5)
    assert top.shape == (len(ids) - 1, 5)
    for t, row in enumerate(top, 1):
        p = MODEL.distribution(ids[:t])
        assert all(p[a] >= p[b] for a, b in pairwise(row))
        assert p[row] == pytest.approx(np.sort(p)[::-1][:5])


def test_counting_does_not_cross_rows_or_texts():
    apart = KneserNey.fit(np.array([[0, 2, 3], [0, 4, 5]]), V)
    joined = KneserNey.fit(np.array([[0, 2, 3, 0, 4, 5]]), V)
    for order, other in zip(apart.orders, joined.orders, strict=True):
        assert order.keys.tolist() == other.keys.tolist() and order.counts.tolist() == other.counts.tolist()
    assert [len(order.keys) for order in apart.orders] == [4, 4, 2, 0, 0]
    several = KneserNey.fit([np.array([[0, 2, 3]]), np.array([[0, 4, 5]])], V)
    assert several.distribution([0]).tolist() == apart.distribution([0]).tolist()


def test_more_of_the_same_helps():
    unseen = texts_in_rows(1)
    few, many = KneserNey.fit(ROWS[:5], V), MODEL
    assert np.concatenate([many.log_probabilities(row) for row in unseen]).mean() > (
        np.concatenate([few.log_probabilities(row) for row in unseen]).mean()
    )
    assert -np.concatenate([many.log_probabilities(row) for row in unseen]).mean() < np.log(V)


def test_nothing_counted_is_the_even_distribution():
    assert KneserNey.fit(np.empty((0, 8), np.uint16), V).distribution([0, 5]) == pytest.approx(
        np.full(V, 1 / V)
    )


def test_too_many_ids_are_refused():
    with pytest.raises(UserError, match="4096"):
        KneserNey.fit(ROWS, vocab_size=5000)


def test_rows_are_those_that_training_read(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CHUNK_ROWS", 8)  # making 2048 rows to read twelve takes seconds
    tokenizer, settings = Tokenizer.load(), TrainSettings(steps=9, rows=3, length=16, seed=5, own_share=1.0)
    run = Run(tmp_path, ModelConfig.preset("clinic"), settings, tokenizer)
    run.step = 4  # as after four steps
    run.save()
    (rows,) = rows_seen([tmp_path], tokenizer)
    source = TrainingRows(tokenizer, 16, 5, settings.own_share)
    assert rows.shape == (12, 16) and rows.dtype == np.uint16
    assert (rows == np.concatenate([source.batch(step, 3).numpy() for step in range(4)])).all()
    (fewer,) = rows_seen([tmp_path], tokenizer, tokens=90)
    assert (fewer == rows[:6]).all()
    assert len(rows_seen([tmp_path, tmp_path], tokenizer)) == 2
    assert KneserNey.fit(rows).tokens == rows.size


def test_dense_baseline_differs_only_by_the_gates():
    c = ModelConfig.preset("hospital")
    dense = dense_config(c)
    assert dense.intermediate_size == 9 * 16 == c.intermediate_size
    gates = c.num_moe_layers * parameters(c).router
    assert parameters(dense).active == parameters(dense).main == parameters(c).active - gates
    assert dense.num_moe_layers == 0 and dense.num_hidden_layers == c.num_hidden_layers


def test_dense_baseline_has_the_size_that_the_formula_says():
    dense = dense_config(ModelConfig.preset("clinic"))
    model = DeepseekV3(dense)
    count = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("mtp."))
    assert count == parameters(dense).main
    assert len(model.routers()) == 1  # the MTP module's: it is no part of a forward pass
