"""The order of nodes in columns, against all orders there are."""

from itertools import permutations

import numpy as np
import pytest

from lightning_sae.graphs.layout import barycentre_order, crossings


def crossed(columns, source, target, weight):
    """The same, pair of edges by pair."""
    place = {node: row for column in columns for row, node in enumerate(column)}
    column_of = {node: c for c, column in enumerate(columns) for node in column}
    edges = list(zip(source, target, weight, strict=True))
    return sum(
        w * v
        for i, (a, b, w) in enumerate(edges)
        for c, d, v in edges[i + 1 :]
        if column_of[a] == column_of[c] and (place[a] - place[c]) * (place[b] - place[d]) < 0
    )


def places(columns):
    """As `crossings` takes them."""
    found = np.zeros(sum(map(len, columns)))
    for c, column in enumerate(columns):
        found[column] = 2 * c + np.arange(len(column)) / len(column)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_crossings_are_those_of_pairs(seed):
    draw = np.random.default_rng(seed)
    columns = [draw.permutation(4), 4 + draw.permutation(5), 9 + draw.permutation(3)]
    source = np.concatenate([draw.integers(0, 4, 8), draw.integers(4, 9, 8)])
    target = np.concatenate([draw.integers(4, 9, 8), draw.integers(9, 12, 8)])
    weight = draw.random(16)
    expected = crossed(columns, source, target, weight)
    assert crossings(places(columns), source, target, weight) == pytest.approx(expected)


def test_a_ladder_in_disorder_is_put_right():
    draw = np.random.default_rng(0)
    columns = [c * 20 + draw.permutation(20) for c in range(4)]
    source, target = np.arange(60), np.arange(60) + 20
    found = barycentre_order(columns, source, target, np.ones(60))
    assert crossed(found, source, target, np.ones(60)) == 0
    assert [sorted(column) for column in found] == [sorted(column) for column in columns]


@pytest.mark.parametrize("seed", range(5))
def test_no_order_is_much_better(seed):
    draw = np.random.default_rng(seed)
    columns = [np.arange(4), 4 + np.arange(4)]
    pairs = draw.choice(16, 8, replace=False)
    source, target, weight = pairs // 4, 4 + pairs % 4, draw.random(8) + 0.1
    orders = [
        crossed([list(a), list(b)], source, target, weight)
        for a in permutations(range(4))
        for b in permutations(range(4, 8))
    ]
    found = crossed(barycentre_order(columns, source, target, weight), source, target, weight)
    assert found <= crossed(columns, source, target, weight)
    assert found <= min(orders) + 0.15 * np.mean(orders)


def test_a_score_alone():
    (only,) = barycentre_order([np.array([0])], *np.zeros((2, 0), dtype=int), np.zeros(0))
    assert only.tolist() == [0]
