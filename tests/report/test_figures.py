"""Pictures are written whole, and with letters that are in no usual font."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lightning_sae.report import fonts
from lightning_sae.report.figures import png, save_figure

CAT, DOG = "猫", "🐕"


def black(text, place):
    """Share of black pixels in the picture of a text, as a label or at a tick."""
    figure = Figure(figsize=(2, 2))
    axes = figure.add_axes((0.1, 0.3, 0.8, 0.6))
    axes.set(yticks=[], xlim=(0, 2))
    axes.spines[:].set_visible(False)
    axes.set_xticks([1], [text if place == "tick" else ""], fontsize=40)
    axes.tick_params(length=0)
    axes.text(0.5, 0.2, text if place == "label" else "", fontsize=40)
    pixels = np.asarray(Image.open(io.BytesIO(png(figure, 100))).convert("L"))
    return float((pixels < 64).mean())


@pytest.mark.parametrize("place", ["label", "tick"])
@pytest.mark.filterwarnings("error")
def test_letters_come_from_fonts_of_the_system(system_fonts, place):
    system_fonts(CAT, DOG)
    one, two = black(CAT, place), black(CAT + DOG, place)
    assert one == pytest.approx((40 / 72 * 100) ** 2 / 200**2, rel=0.05)  # a filled square of the font's size
    assert two == pytest.approx(2 * one, rel=0.05)


def test_letters_that_no_font_has_are_said(system_fonts):
    system_fonts(DOG)
    with pytest.warns(UserWarning, match="CJK UNIFIED IDEOGRAPH-732B.* missing"):
        assert black(CAT, "label") < 0.05


def test_usual_letters_ask_for_no_font(monkeypatch):
    def asked():
        raise AssertionError

    monkeypatch.setattr(fonts, "findSystemFonts", asked)
    assert black("ñ é", "label") > 0


def test_a_picture_is_written_whole_or_not_at_all(tmp_path):
    save_figure(Figure(figsize=(1, 1)), tmp_path / "new" / "a.png", dpi=50)
    assert Image.open(tmp_path / "new" / "a.png").size == (50, 50)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]
