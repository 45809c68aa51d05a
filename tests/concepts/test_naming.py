"""What a latent is called, in every form in which people see it."""

import itertools
from io import StringIO

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from callbacks.summary import culprit_table
from lightning_sae.concepts.naming import LatentName, name_columns, names_of
from lightning_sae.report.gallery_picture import draw_gallery
from lightning_sae.report.latent_name import write_name
from lightning_sae.report.palette import GREY

NAMED, GUESS, NOTHING = LatentName("star", True), LatentName("ferret", False), LatentName("", False)


def latents():
    """A named latent, one that is not, and one without a label."""
    names = name_columns([NAMED, GUESS, NOTHING])
    return pd.DataFrame({"latent": [7, 8, 9], "density": 0.1, "attribution": 1.0, **names})


def texts(axes):
    """What stands on a picture: text -> its colour and weight."""
    return {t.get_text(): (to_hex(t.get_color()), t.get_weight()) for t in axes.texts}


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"label": "star", "named": True}, NAMED),
        ({"label": "star", "named": np.True_}, NAMED),
        ({"label": "star", "named": "True"}, NAMED),
        ({"label": "ferret", "named": False}, GUESS),
        ({"label": "ferret", "named": float("nan")}, GUESS),
        ({"label": "ferret"}, GUESS),
        ({"label": "", "named": True}, NOTHING),
        ({"label": float("nan"), "named": True}, NOTHING),
        ({}, NOTHING),
    ],
)
def test_only_a_row_that_says_so_is_named(row, name):
    assert LatentName.of(row) == LatentName.of(pd.Series(row, dtype=object)) == name


def test_a_table_goes_to_a_file_and_back(tmp_path):
    latents().to_csv(tmp_path / "latents.csv", index=False)
    for options in ({}, {"keep_default_na": False}, {"keep_default_na": False, "dtype": {"label": str}}):
        assert names_of(pd.read_csv(tmp_path / "latents.csv", **options)) == [NAMED, GUESS, NOTHING]
    assert names_of(latents().drop(columns="named")) == [LatentName("star", False), GUESS, NOTHING]
    assert names_of(pd.DataFrame({"latent": [1]})) == [NOTHING]


def test_the_terminal_shows_a_guess_dim_and_markup_as_text():
    console = Console(file=StringIO(), force_terminal=True, color_system="standard")
    console.print(LatentName("[b]a[/b]", False).markup(), end="", highlight=False)
    assert console.file.getvalue() == "? \x1b[2m[b]a[/b]\x1b[0m"
    assert LatentName("[b]", True).markup() == r"\[b]"


def test_a_picture_shows_a_guess_in_grey_on_one_line():
    figure = Figure(figsize=(4, 1))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 400), ylim=(100, 0))
    write_name(axes, GUESS, 10, 40, "#ff0000", after="→  star")
    assert texts(axes) == {
        "?": ("#ff0000", "bold"),
        "ferret": (GREY, "normal"),
        "→  star": ("#ff0000", "bold"),
    }
    figure.canvas.draw()
    boxes = [t.get_window_extent() for t in axes.texts]
    assert all(left.x1 < right.x0 < left.x1 + 20 for left, right in itertools.pairwise(boxes))
    assert max(box.y0 for box in boxes) - min(box.y0 for box in boxes) < 1.5


def test_the_gallery_has_no_label_that_is_no_name():
    table = latents().assign(drives="heart")
    figure = draw_gallery({"": table}, torch.zeros(10, 2, dtype=torch.long), [Image.new("RGB", (8, 8))])
    shown = texts(figure.axes[0])
    assert shown["star"][1] == shown["?"][1] == "bold"
    assert shown["ferret"] == (GREY, "normal")
    assert not any("ferret" in text or "star" in text for text in shown.keys() - {"ferret", "star"})


def test_the_summary_has_no_label_that_is_no_name():
    table = latents().assign(**{"class": "heart", "class_share": 0.9, "share": [0.5, 0.3, 0.1]})
    console = Console(width=80, record=True, file=StringIO())
    console.print(culprit_table(table, 5))
    assert "star (50%), ? ferret (30%), ? (10%)" in console.export_text()
