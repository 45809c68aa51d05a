"""Runs that have not all of what is drawn."""

import math

import pytest

from lightning_sae.compare.__main__ import main
from lightning_sae.compare.pictures import draw_parallel
from lightning_sae.compare.runs import read_runs
from lightning_sae.compare.table import run_table
from lightning_sae.tracking.values import goal

from .conftest import write_run


def heights(folder, key):
    """Where the line of each run crosses the axis of a key, by run; NaN: not at all."""
    table = run_table(read_runs([folder]), goal("val/fvu"))
    axes = draw_parallel(table, goal("val/fvu")).axes[0]
    titles = [label.get_text().replace(".\n", ".") for label in axes.get_xticklabels()]
    lines = [line for line in axes.lines if len(line.get_xdata()) == len(titles)]
    found = [float(line.get_ydata()[titles.index(key)]) for line in lines]
    return dict(zip(map(str, table.frame.index), found, strict=True))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((1, 3, 2), (0, 1, 0.5)),
        (("b", "a", "c"), (0.5, 0, 1)),
        ((16, "auto", "auto"), (0, 1, 1)),
        ((True, False, True), (1, 0, 1)),
        (([1], [], [1]), (0, 1, 0)),
    ],
    ids=str,
)
def test_settings_of_any_kind_have_a_place(tmp_path, settings, expected):
    for i, value in enumerate(settings):
        write_run(tmp_path / str(i), config={"sae": {"kind": value}})
    found = heights(tmp_path, "sae.kind")
    assert tuple(found[str(i)] for i in range(3)) == pytest.approx(expected)


@pytest.mark.parametrize("values", [("a", "b"), (1, 2)], ids=str)
def test_a_run_without_the_setting_has_a_gap_there(tmp_path, values):
    for i, value in enumerate(values):
        write_run(tmp_path / str(i), config={"sae": {"kind": value}})
    write_run(tmp_path / "2")
    found = heights(tmp_path, "sae.kind")
    assert (found["0"], found["1"]) == (0, 1)
    assert math.isnan(found["2"])


def test_runs_with_different_metrics_are_compared(tmp_path):
    write_run(tmp_path / "runs" / "0", metrics={"zero_shot/spliced": 0.5})
    write_run(tmp_path / "runs" / "1", config={"sae": {"kind": "猫"}})
    found = heights(tmp_path / "runs", "spliced")
    assert found["0"] == 0.5
    assert math.isnan(found["1"])
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"compare.csv", "compare.md", "compare.html", "parallel.png", "pareto.png"}
