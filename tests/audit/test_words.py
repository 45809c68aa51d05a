"""Drawn words, and whether latents read them."""

import numpy as np
import pytest
import torch
from PIL import ImageChops

from lightning_sae.audit.choice import prompt_classifier
from lightning_sae.audit.seen import ready
from lightning_sae.audit.words import (
    GROUNDS,
    SIDE,
    STYLES,
    Style,
    _more_often,
    draw_word,
    read_words,
    word_pictures,
)
from lightning_sae.clip import capture_context
from lightning_sae.run_folder import open_run
from lightning_sae.types import SparseLatents

MIDDLE = Style("DejaVuSans", 0.25, 0.5)


def pixels(word, style=MIDDLE, ground=GROUNDS[0]):
    return np.asarray(draw_word(word, style, ground)).astype(int)


def label(picture, ground=GROUNDS[0]):
    """Rows and columns where the picture is not the ground."""
    there = (picture != np.array(ground)).any(2)
    rows, columns = there.any(1).nonzero()[0], there.any(0).nonzero()[0]
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def test_the_word_is_black_on_a_white_label():
    word, empty = pixels("plane"), pixels("")
    assert word.shape == (SIDE, SIDE, 3)
    assert word.min() < 30
    assert (empty == 255).all(2).sum() > 1000
    assert set(np.unique(empty)) <= {128, *range(250, 256)}
    assert np.abs(word - pixels("plans")).sum() > 0


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("height", [0.15, 0.35])
def test_size_and_place(height, place):
    top, bottom, left, right = label(pixels("owl", Style("DejaVuSerif", height, place)))
    assert bottom - top == pytest.approx(height * SIDE, abs=1)
    assert (top + bottom) / 2 == pytest.approx(place * (SIDE - height * SIDE) + height * SIDE / 2, abs=1)
    assert (left + right) / 2 == pytest.approx(SIDE / 2, abs=1)


@pytest.mark.parametrize("word", ["w" * 300, "red panda, lesser panda, bear cat, cat bear, Ailurus fulgens"])
def test_a_long_word_is_squeezed_into_the_picture(word):
    _, _, left, right = label(pixels(word))
    assert (left, right) == (pytest.approx(0.025 * SIDE, abs=1), pytest.approx(0.975 * SIDE, abs=1))
    assert pixels(word).min() < 200


@pytest.mark.parametrize("word", ["größe", "\u732b", "\U0001f98a", 'a "b" <c> [d]', " "])
def test_whatever_a_class_is_called_can_be_drawn(word):
    assert pixels(word).shape == (SIDE, SIDE, 3)


def test_every_style_on_every_ground_once():
    pictures = list(word_pictures("owl"))
    assert len(pictures) == len(STYLES) * len(GROUNDS) == 135
    corners = [picture.getpixel((0, SIDE // 2)) for picture in pictures]
    assert corners[:5] == list(GROUNDS)
    assert len({picture.tobytes() for picture in pictures}) == 135
    assert ImageChops.difference(pictures[0], draw_word("owl", STYLES[0], GROUNDS[0])).getbbox() is None


def test_how_much_more_often_a_word_is_called_its_class():
    """Word 0 of class 3 wins on all pictures of its best style, and other words on a fifth of them."""
    n, g = len(STYLES) * len(GROUNDS), len(GROUNDS)
    named = torch.zeros(3, n, dtype=torch.int64)
    named[0, 2 * g : 3 * g] = 3
    named[1, 2 * g] = 3
    named[2, 2 * g] = 3
    named[1, :g] = 1
    assert _more_often(named, torch.tensor([3, 1])).tolist() == pytest.approx([0.8, 1.0])


def test_what_is_called_so_whatever_is_written_reads_nothing():
    named = torch.zeros(3, len(STYLES) * len(GROUNDS), dtype=torch.int64)
    assert _more_often(named, torch.tensor([0, 1])).tolist() == [0.0, 0.0]


class Reader:
    """An autoencoder of two latents: the first fires along a direction, the second everywhere."""

    def __init__(self, direction, start):
        self.direction, self.start, self.d_sae = direction, start, 4
        self.W_dec = torch.stack([direction, -direction, direction, direction])

    def __call__(self, x):
        active = (x @ self.direction - self.start).clamp(min=0)
        latents = torch.stack([active, torch.ones_like(active), 0 * active, 0 * active], 1)
        return x, SparseLatents.from_dense(latents)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_latent_that_reads_a_word_by_which_the_biased_clip_is_led(small_run):
    run = open_run(small_run)
    ready(run)
    names = run.data.class_names

    def activations(word):
        pixels = torch.stack([run.data.clip.preprocess(picture) for picture in word_pictures(word)])
        return capture_context(run.data.clip, run.data.hook, run.data.tail, pixels)[0][:, 0]

    flag, house = activations("flag"), activations("house")
    direction = torch.nn.functional.normalize(flag.mean(0) - house.mean(0), dim=0)
    run = run._replace(sae=Reader(direction, float((house @ direction).mean())))
    scores = prompt_classifier(run).scores("margin")
    words, asked = ["flag", "house", "heart"], torch.tensor([1, 0])
    found = read_words(run, words, [names.index(word) for word in words], scores, asked)
    assert found.auroc[0, 0] > 0.95
    assert found.auroc[1, 0] < found.auroc[0, 0]
    assert found.auroc[:, 1].tolist() == [0.5] * 3
    assert found.auroc[:, 2:].isnan().all()
    assert found.attribution[0, 0] > 0 > found.attribution[0, 1]
    assert found.predicted[0] > 0.5
    assert found.predicted[0] > found.predicted[1:].max()
