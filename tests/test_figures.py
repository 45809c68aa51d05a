"""Pictures are written whole, and with letters that are in no usual font."""

import io

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.figure import Figure
from PIL import Image

from lightning_sae import figures
from lightning_sae.figures import png, save_figure

CAT, DOG = "猫", "🐕"


def square(side):
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, side), (side, side), (side, 0)):
        pen.lineTo(corner)
    pen.closePath()
    return pen.glyph()


def write_font(path, letter):
    """A font in which that letter is a black square, and nothing else is."""
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "letter"])
    builder.setupCharacterMap({ord(letter): "letter"})
    builder.setupGlyf({".notdef": square(0), "letter": square(1000)})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "letter": (1000, 0)})
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": f"Only {ord(letter):x}", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=1000)
    builder.setupPost()
    builder.save(path)
    return str(path)


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Gives the system fonts that each have one letter."""

    def has(*letters):
        paths = [write_font(tmp_path / f"{ord(letter):x}.ttf", letter) for letter in letters]
        (tmp_path / "broken.ttf").write_bytes(b"no font")
        monkeypatch.setattr(figures, "findSystemFonts", lambda: [str(tmp_path / "broken.ttf"), *paths])

    return has


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
def test_letters_come_from_fonts_of_the_system(system, place):
    system(CAT, DOG)
    one, two = black(CAT, place), black(CAT + DOG, place)
    assert one == pytest.approx((40 / 72 * 100) ** 2 / 200**2, rel=0.05)  # a filled square of the font's size
    assert two == pytest.approx(2 * one, rel=0.05)


def test_letters_that_no_font_has_are_said(system):
    system(DOG)
    with pytest.warns(UserWarning, match="CJK UNIFIED IDEOGRAPH-732B.* missing"):
        assert black(CAT, "label") < 0.05


def test_usual_letters_ask_for_no_font(monkeypatch):
    def asked():
        raise AssertionError

    monkeypatch.setattr(figures, "findSystemFonts", asked)
    assert black("ñ é", "label") > 0


def test_a_picture_is_written_whole_or_not_at_all(tmp_path):
    save_figure(Figure(figsize=(1, 1)), tmp_path / "new" / "a.png", dpi=50)
    assert Image.open(tmp_path / "new" / "a.png").size == (50, 50)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]
