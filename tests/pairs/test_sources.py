"""Where pairs come from: the world drawn again, and tables."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from lightning_sae.data.sources.world import WorldSplit
from lightning_sae.pairs.counterfactuals import Counterfactuals, RedrawableImages
from lightning_sae.pairs.pair import Contrast
from lightning_sae.pairs.pair_table import PairTable
from lightning_sae.world import World, draw

FIELDS = {"class": "thing", "colour": "colour", "background": "background", "word": "word"}


@pytest.fixture(scope="module")
def world():
    return WorldSplit(World("biased", "val", 400))


@pytest.fixture(scope="module")
def redrawn(world):
    return Counterfactuals(per_value=5).pairs(world)


def test_one_factor_changes_and_nothing_else(world, redrawn):
    """The second picture is that of a scene with one field replaced, by the generator of the first."""
    assert isinstance(world, RedrawableImages)
    scenes = [world.world.scene(i) for i in range(len(world))]
    pictures = [np.asarray(world[i]) for i in range(len(world))]
    for i in range(0, len(redrawn.before), 11):
        before = np.asarray(redrawn.images[int(redrawn.before[i])])
        (place,) = [j for j, picture in enumerate(pictures) if np.array_equal(picture, before)]
        factor, was, new = redrawn.contrasts[i]
        field = FIELDS[factor]
        assert (getattr(scenes[place], field) or None) == was != new
        expected = draw(scenes[place]._replace(**{field: new}), world.world._rng(place, 1))
        assert np.array_equal(np.asarray(redrawn.images[int(redrawn.after[i])]), np.asarray(expected))


def test_each_value_comes_as_often_and_no_picture_serves_twice_for_a_factor(redrawn):
    comes = Counter((contrast.factor, contrast.after) for contrast in redrawn.contrasts)
    assert len(comes) == 24 + 8 + 5 + 6
    assert {*comes.values()} <= {4, 5, 6}
    for factor in FIELDS:
        mine = [int(b) for b, c in zip(redrawn.before, redrawn.contrasts, strict=True) if c.factor == factor]
        assert len({*mine}) == len(mine)


def test_the_classes_of_both_images_are_known(world, redrawn):
    for before, after, contrast in zip(redrawn.before, redrawn.after, redrawn.contrasts, strict=True):
        now, then = (world.class_names[int(redrawn.images.targets[i])] for i in (before, after))
        assert (now, then) == (contrast.before, contrast.after) if contrast.factor == "class" else now == then


def test_the_same_seed_gives_the_same_pairs(world, redrawn):
    again, other = Counterfactuals(5).pairs(world), Counterfactuals(5, seed=1).pairs(world)
    assert again.contrasts == redrawn.contrasts
    assert again.images.identity() == redrawn.images.identity() != other.images.identity()


def test_images_that_cannot_be_drawn_again_have_no_pairs():
    class Photographs:
        pass

    assert Counterfactuals().pairs(Photographs()) is None


@pytest.fixture
def folder(tmp_path):
    for name in ("1", "2", "3"):
        Image.new("RGB", (8, 8), (80 * int(name), 0, 0)).save(tmp_path / f"{name}.png")
    return tmp_path


def table(folder, text, **columns):
    (folder / "pairs.csv").write_text(text)
    return PairTable(str(folder / "pairs.csv"), **columns)


TEXT = "before,after,factor,to,kind\n1.png,2.png,hat,red,cat\n./1.png,3.png,sky,,\n"


def test_a_row_is_a_pair_and_a_file_is_seen_once(folder, world):
    found = table(folder, TEXT, value="to").pairs(world)
    assert found.contrasts == [Contrast("hat", None, "red"), Contrast("sky", None, "")]
    assert (found.before.tolist(), found.after.tolist()) == ([0, 0], [1, 2])
    assert [found.images[i].getpixel((0, 0))[0] for i in range(3)] == [80, 160, 240]
    assert found.images.targets.tolist() == [-1, -1, -1]
    assert found.images.identity()["name"] == "pairs-pairs"


@pytest.mark.parametrize(
    ("text", "columns", "error", "message"),
    [
        (TEXT.replace("3.png", "4.png"), {}, FileNotFoundError, r"1 of 3 images .* are not in .*\n  4.png"),
        (TEXT, {"factor": "what"}, ValueError, "has no column what; it has before, after, factor, to, kind"),
        (TEXT, {"label": "kind"}, ValueError, r"classes that the data lack:\n  cat"),
        (TEXT.replace("hat", ""), {}, ValueError, r"1 rows of .* lack before or after or factor:\n  row 1"),
        ("before,after,factor\n", {}, ValueError, "has no rows"),
        ("", {}, ValueError, "is empty"),
    ],
)
def test_bad_tables(folder, world, text, columns, error, message):
    with pytest.raises(error, match=message):
        table(folder, text, **columns).pairs(world)


def test_two_columns_are_enough(folder, world):
    found = table(folder, "before,after\n1.png,2.png\n2.png,1.png\n", factor=None, name="retouched")
    pairs = found.pairs(world)
    assert pairs.contrasts == [Contrast("retouched", None, "")] * 2
    assert (pairs.before.tolist(), pairs.after.tolist()) == ([0, 1], [1, 0])


def test_no_table(tmp_path, world):
    with pytest.raises(FileNotFoundError, match="no table of pairs"):
        PairTable(str(tmp_path / "none.csv")).pairs(world)
