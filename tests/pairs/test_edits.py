"""Edits change what they say and nothing else."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

from lightning_sae.data.images.image_files import ImageFile, ImageFiles
from lightning_sae.pairs.edited_pairs import EditedPairs
from lightning_sae.pairs.edits import OtherBackground, Patch, PrintedWord, Tint
from lightning_sae.world import World


@pytest.fixture
def images(tmp_path):
    """Eight files of noise, 30 x 20, of two classes."""
    draws = np.random.default_rng(0)
    for i in range(8):
        pixels = draws.integers(256, size=(20, 30, 3), dtype=np.uint8)
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "a" / f"{i}.png")
    files = [ImageFile(f"a/{i}.png", 1, i % 2) for i in range(8)]
    return ImageFiles(tmp_path, files, ["cat", "dog"], "noise")


def pixels(picture):
    return np.asarray(picture).astype(int)


def rng():
    return np.random.default_rng(1)


def test_a_tint_mixes_its_colour_into_every_pixel(images):
    before, after = pixels(images[0]), pixels(Tint("lime", 0.25).apply(images, 0, rng()))
    expected = 0.75 * before + 0.25 * np.array(ImageColor.getrgb("lime"))
    assert np.abs(after - expected).max() <= 1


def test_a_patch_changes_a_square_and_no_pixel_outside(images):
    before, after = pixels(images[0]), pixels(Patch("#ff0000", 0.5).apply(images, 0, rng()))
    changed = (before != after).any(2)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (10, 10)
    inside = after[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert (inside == [255, 0, 0]).all()


def test_patches_of_two_colours_lie_in_one_place(images):
    found = EditedPairs({"red": Patch("red"), "blue": Patch("blue")}, n_images=4).pairs(images)
    places = []
    for i in range(len(found.before)):
        before, after = (pixels(found.images[int(side[i])]) for side in (found.before, found.after))
        places.append((before != after).any(2))
    assert np.array_equal(places[:4], places[4:])
    assert len({place.tobytes() for place in places[:4]}) > 1


def test_a_word_is_the_one_thing_in_which_both_images_differ(images):
    edit = PrintedWord("sale", height=0.5)
    empty, written = (pixels(one.apply(images, 0, rng())) for one in (edit.start, edit))
    changed = np.flatnonzero((empty != written).any((1, 2)))
    assert len(changed)
    assert changed.min() >= 10  # on the label, which is below
    assert np.array_equal(written[:10], pixels(images[0])[:10])
    assert (empty[changed][(empty != written)[changed]] == 255).all()  # white before
    assert edit.start.start is None


def test_a_background_is_swapped_where_the_mask_is_black(images, tmp_path):
    masks = tmp_path / "masks" / "a"
    masks.mkdir(parents=True)
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 5:15] = 255
    Image.fromarray(mask).save(masks / "0.png")
    after = pixels(OtherBackground("navy", str(masks.parent)).apply(images, 0, rng()))
    thing = mask > 0
    assert np.array_equal(after[thing], pixels(images[0])[thing])
    assert (after[~thing] == ImageColor.getrgb("navy")).all()
    with pytest.raises(FileNotFoundError, match=r"7 of 8 images have no mask in .*\n  a/1.png"):
        OtherBackground("gray", str(masks.parent)).identity(images, range(8))


def test_masks_belong_to_files():
    class Drawn:
        identity = staticmethod(lambda: {"name": "drawn"})

    with pytest.raises(ValueError, match="drawn has none"):
        OtherBackground("gray", "masks").identity(Drawn(), [0])


def test_pairs_share_the_images_that_they_begin_with(images):
    edits = {"red": Patch("red"), "tint": Tint("red"), "sale": PrintedWord("sale")}
    found = EditedPairs(edits, n_images=4).pairs(images)
    assert len(found.images) == 4 * 5  # as they are, with an empty label, and three edits
    assert len(found.before) == len(found.after) == len(found.contrasts) == 12
    assert {*found.contrasts} == {("patch", None, "red"), ("tint", None, "red"), ("word", None, "sale")}
    assert torch.equal(found.images.targets[found.before], found.images.targets[found.after])
    assert found.images.identity() == EditedPairs(edits, n_images=4).pairs(images).images.identity()
    assert found.images.identity() != EditedPairs(edits, n_images=4, seed=1).pairs(images).images.identity()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tint("redd"), "a colour is a name such as red"),
        (lambda: Tint("red", 0), r"strength must be in \(0, 1\], got 0"),
        (lambda: Patch("red", 1.5), r"size must be in \(0, 1\]"),
        (lambda: EditedPairs({}), "names no edit"),
        (lambda: EditedPairs({"a": Tint("red")}, n_images=0), "n_images must be a whole number"),
    ],
)
def test_arguments_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_world_is_no_file_and_can_be_edited_too():
    from lightning_sae.data.sources.world import WorldSplit

    found = EditedPairs({"red": Patch("red")}, n_images=3).pairs(WorldSplit(World("biased", "val", 50)))
    assert found.images[0].size == (40, 40)
