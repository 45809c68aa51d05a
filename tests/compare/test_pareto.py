"""The front against its definition, pair by pair."""

import numpy as np
import pytest

from lightning_sae.compare.comparison import pareto_front
from lightning_sae.tracking.values import Goal, better, goal


def dominated(row, other, signs):
    row, other = row * signs, other * signs
    return all(other <= row) and any(other < row)


@pytest.mark.parametrize(
    "directions", [("min", "min"), ("min", "max"), ("max", "max"), ("min", "max", "min")]
)
def test_the_front_is_what_nothing_dominates(directions):
    values = np.random.default_rng(0).integers(0, 9, (60, len(directions))).astype(float)  # many ties
    signs = np.array([1 if way == "min" else -1 for way in directions])
    want = [not any(dominated(row, other, signs) for other in values) for row in values]
    goals = [Goal(str(i), way) for i, way in enumerate(directions)]
    assert pareto_front(values, goals).tolist() == want
    assert 0 < sum(want) < 60


def test_a_run_without_a_value_is_not_on_the_front_and_beats_none():
    goals = [Goal("a", "min"), Goal("b", "min")]
    assert pareto_front([[0, np.nan], [1, 1], [np.nan, 0]], goals).tolist() == [False, True, False]
    assert pareto_front(np.zeros((0, 2)), goals).tolist() == []


def test_goals_are_read_and_refused():
    assert goal("val/fvu:max") == Goal("val/fvu", "max")
    with pytest.raises(ValueError, match="Write attribution/bias:min or attribution/bias:max"):
        goal("attribution/bias")
    with pytest.raises(ValueError, match="min or max, got 'val/fvu:up'"):
        goal("val/fvu:up")


@pytest.mark.parametrize(
    ("key", "way"),
    {
        "train/loss": "min",
        "val/fvu_layer_norm": "min",
        "train/dead_fraction": "min",
        "alignment/named": "max",
        "alignment/churn": "min",
        "zero_shot/original_worst": "max",
        "faithfulness/random_deletion": "min",
        "faithfulness/random_insertion": "max",
        "epoch": None,
        "val/density_p50": None,
    }.items(),
)
def test_which_way_is_better(key, way):
    assert better(key) == way
