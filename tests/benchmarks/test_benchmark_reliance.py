"""The scoring of the reliance benchmark, on cases made by hand."""

import importlib
from pathlib import Path

import pandas as pd
import pytest
import torch

from lightning_sae.world import World, plants

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def reliance():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("reliance")


@pytest.mark.parametrize(
    ("culprits", "expected"),
    [
        ([3], 1.0),  # the first
        ([1], 1 / 3),  # the third
        ([3, 1], (1 / 1 + 2 / 3) / 2),
        ([0], 1 / 5),  # u = 0: among two others, all of which come last together
        ([], 0.0),
    ],
)
def test_average_precision(reliance, culprits, expected):
    u = torch.tensor([0.0, 0.2, 0.3, 0.9, 0.0])
    culprit = torch.zeros(5, dtype=torch.bool)
    culprit[culprits] = True
    assert reliance.precision(culprit, u) == pytest.approx(expected)


def test_the_planted_factor_is_read_from_the_scenes(reliance):
    world = World("biased", "test", 200)
    scenes = [world.scene(i) for i in range(200)]
    fields = {"spurious": "background", "typographic": "word", "polysemous": "thing", "compound": "thing"}
    for kind, field in fields.items():
        for plant in plants(kind):
            expected = [getattr(scene, field) == plant.factor for scene in scenes]
            assert reliance.has_factor(plant, world.factors).tolist() == expected


def test_the_summary_is_over_the_judged_kinds(reliance):
    def cases(precisions, shares):
        kinds = ["spurious", "typographic", "polysemous"]
        return pd.DataFrame({"kind": kinds, "seed": 0, "precision": precisions, "share": shares})

    summary = reliance.summarise(cases([1.0, 0.5, 0.0], [0.3, 0.5, 0.1]), cases([0, 0, 0], [0.1, 0.1, 0.1]))
    row = summary.iloc[0]
    assert row["precision"] == 0.75
    assert [row["share"], row["balanced"], row["ratio"]] == pytest.approx([0.4, 0.1, 4.0])
    assert row["ratio (all kinds)"] == pytest.approx(3.0)
