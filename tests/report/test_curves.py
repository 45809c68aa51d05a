"""Curves over training: what is drawn lies where its value says, between round numbers."""

import math

import pandas as pd
import pytest

from lightning_sae.report.curves import DOTS, HEIGHT, POINTS, WIDTH, curves


def draw(values, key="train/loss", steps=None):
    table = pd.DataFrame({"step": range(len(values)) if steps is None else steps, key: values})
    [panel] = curves(table)
    return panel


def numbers(ticks):
    return [float(tick["text"].replace("−", "-").replace(" %", "").replace(" ", "")) for tick in ticks]


@pytest.mark.parametrize("n", [2, 12, POINTS, POINTS + 1, 2 * POINTS, 2 * POINTS + 1, 1000])
def test_a_long_line_is_thinned_evenly_up_to_its_end(n):
    [line] = draw([float(i) for i in range(n)])["lines"]
    every = math.ceil(n / POINTS)
    kept = range((n - 1) % every, n, every)
    assert len(kept) <= POINTS
    assert [float(x) for x, _ in line["points"]] == [round(WIDTH * i / max(n - 1, 1), 1) for i in kept]
    assert line["dots"] == (n <= DOTS)


def test_a_value_lies_where_the_ticks_say():
    panel = draw([0.0, 5.0, 15.0, 20.0], steps=[0, 10, 30, 40])
    assert [tick["text"] for tick in panel["y"]] == ["0", "5", "10", "15", "20"]
    assert [float(tick["at"]) for tick in panel["y"]] == [HEIGHT * part for part in (1, 0.75, 0.5, 0.25, 0)]
    assert numbers(panel["x"]) == [0, 10, 20, 30, 40]
    assert [float(tick["at"]) for tick in panel["x"]] == [WIDTH * part for part in (0, 0.25, 0.5, 0.75, 1)]
    [line] = panel["lines"]
    assert [(float(x), float(y)) for x, y in line["points"]] == [
        (0, HEIGHT),
        (0.25 * WIDTH, 0.75 * HEIGHT),
        (0.75 * WIDTH, 0.25 * HEIGHT),
        (WIDTH, 0),
    ]


@pytest.mark.parametrize(("value", "low", "high"), [(2.0, 1.8, 2.2), (-2.0, -2.2, -1.8), (0.0, 0.0, 0.01)])
def test_a_line_of_one_value_has_a_frame_a_tenth_around_it(value, low, high):
    panel = draw([value] * 3)
    ticks = numbers(panel["y"])
    spacing = ticks[1] - ticks[0]
    assert ticks[0] <= low < ticks[0] + spacing
    assert ticks[-1] - spacing < high <= ticks[-1]
    assert all(0 <= float(y) <= HEIGHT for _, y in panel["lines"][0]["points"])


@pytest.mark.parametrize("scale", [1e-4, 0.03, 1.0, 7.0, 1e3])
@pytest.mark.parametrize("key", ["train/loss", "val/dead_fraction"])
def test_the_ticks_are_told_apart_and_evenly_spaced(scale, key):
    panel = draw([0.0, scale / 3, scale], key)
    ticks = numbers(panel["y"])
    assert 2 <= len(ticks) <= 6
    assert len({tick["text"] for tick in panel["y"]}) == len(ticks)
    assert ticks == pytest.approx([place * ticks[1] for place in range(len(ticks))])
    assert ticks[-1] >= scale * (100 if key == "val/dead_fraction" else 1) * (1 - 1e-9)


def test_a_key_without_numbers_has_no_panel():
    assert curves(pd.DataFrame({"step": [0, 1], "train/loss": [None, "inf?"]})) == []
