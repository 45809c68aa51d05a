"""Printed words, and whether CLIP and latents read them."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ttest_ind

from lightning_sae.audit.evidence.reading import READ, exceeds, read_words, turned
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.clip import HookPoint, capture_context, load_clip, make_tail
from lightning_sae.pairs.printing import Style, _label, check_letters, meaningless_words, put_label
from lightning_sae.types import SparseLatents
from lightning_sae.world import THINGS, World, config_path, weights_path

SIDE, GREY = 224, (128, 128, 128)
MIDDLE = Style("DejaVuSans", 0.25, 0.5)


def pixels(word, style=MIDDLE):
    return np.asarray(put_label(Image.new("RGB", (SIDE, SIDE), GREY), word, style)).astype(int)


def label(picture):
    """Rows and columns where the picture is not the ground."""
    there = (picture != np.array(GREY)).any(2)
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


def test_letters_that_the_usual_font_lacks_come_from_another(system_fonts):
    system_fonts("猫")
    _label.cache_clear()
    cat = pixels("猫")
    top, bottom, left, right = label(cat)
    black = (cat[top:bottom, left:right] < 64).all(2).mean()
    _label.cache_clear()
    assert black > 0.4  # a filled square and its margins, no box


def test_words_that_no_font_has_are_named(system_fonts):
    system_fonts("猫")
    with pytest.warns(UserWarning, match=r"(?s)^1 words .* boxes.*'犬'.*fonts-noto-cjk"):
        check_letters(["owl", "猫", "犬"])


@pytest.mark.filterwarnings("error")
def test_words_that_can_be_printed_need_no_word(system_fonts):
    system_fonts("猫")
    check_letters(["owl", "größe", "猫", ""])


def test_meaningless_words():
    words = ["sea lion", "Ox", "7", "\u732b"]
    drawn = {word: meaningless_words(word, words, 20) for word in words}
    assert drawn == {word: meaningless_words(word, words, 20) for word in words}
    for word, found in drawn.items():
        assert len(set(found)) == 20
        assert not set(found) & set(words)
        assert {len(w) for w in found} == {max(3, len(word))}
        assert not any(a == b != " " for w in found for a, b in zip(w.lower(), word.lower(), strict=False))
    assert {w[3] for w in drawn["sea lion"]} == {" "}
    assert {c for w in drawn["Ox"] for c in w} <= {*"sealionOx7\u732babcdefghijklmnopqrstuvwxyz"}
    letters = [*"abcdefghijklmnopqrstuvwxyz"]  # no string of one letter is left
    assert not set(meaningless_words("a", letters, 20)) & set(letters)


def test_the_p_value_of_one_more_draw_is_that_of_a_t_test():
    null = torch.randn(19, generator=torch.Generator().manual_seed(0)).double()
    for value in (-1.0, 0.3, 2.0, 6.0):
        expected = ttest_ind([value], null.numpy(), alternative="greater").pvalue
        assert exceeds(value, null) == pytest.approx(expected)
    assert exceeds(0.0, torch.zeros(19)) == 1


@pytest.mark.parametrize(("to", "back"), [(0, 0), (1, 0), (7, 2), (2, 7), (30, 0)])
def test_images_that_turn_are_a_fair_coin_by_chance(to, back):
    before = torch.tensor([False] * to + [True] * back + [True, False] * 15)
    after = torch.tensor([True] * to + [False] * back + [True, False] * 15)
    share, p = turned(before, after)
    n = to + back
    assert share == pytest.approx((to - back) / (n + 30))
    assert p == pytest.approx(sum(math.comb(n, k) for k in range(to, n + 1)) / 2**n)


class Reader:
    """An autoencoder whose first latent fires along a direction, whose second fires everywhere."""

    def __init__(self, direction, start):
        self.direction, self.start, self.d_sae = direction, start, 4
        self.W_dec = torch.stack([direction, -direction, direction, direction])

    def __call__(self, x):
        active = (x @ self.direction - self.start).clamp(min=0)
        latents = torch.stack([active, torch.ones_like(active), 0 * active, 0 * active], 1)
        return x, SparseLatents.from_dense(latents)


class Pictures:
    """Validation images of the world."""

    def __init__(self, n):
        self.world = World("balanced", "val", n)
        self.targets = self.world.targets

    def __getitem__(self, i):
        return self.world.image(i)


def opened(clip, sae=None):
    """A run that nobody trained, and the scores of the world's classes."""
    hook = HookPoint("visual.transformer.resblocks.3", "cls")
    data = SimpleNamespace(
        clip=clip, hook=hook, tail=make_tail(clip, hook), images=lambda split: Pictures(200)
    )
    texts = clip.encode_text([f"a photo of a {name}" for name in THINGS])
    sae = sae or Reader(torch.nn.functional.normalize(torch.ones(128), dim=0), 0.0)
    return SimpleNamespace(data=data, sae=sae), ClassScores(texts, "margin", clip.logit_scale)


def read(clip, words, sae=None):
    run, scores = opened(clip, sae)
    return read_words(run, words, [[*THINGS].index(word) for word in words], scores, torch.tensor([1, 0]))


def passed(found):
    return [word for word, p in zip(found.words, found.predicted_p.tolist(), strict=True) if p <= READ]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.filterwarnings("ignore:.*random weights")
def test_a_clip_that_never_saw_a_word_reads_none(seed):
    torch.manual_seed(seed)
    found = read(load_clip(config_path()), [*THINGS])
    assert passed(found) == []


@pytest.mark.filterwarnings("ignore:.*random weights")
def test_what_a_random_clip_is_moved_by_is_not_the_word():
    """Many images turn to "note" with its label on them, as they do with other labels."""
    torch.manual_seed(0)
    found = read(load_clip(config_path()), ["note"])
    assert found.predicted[0] > 0.2
    assert found.predicted_p[0] > 0.2
    assert found.auroc_p[0, 0] > READ


@pytest.fixture(scope="module")
def planted():
    """What the biased CLIP reads, and a latent whose direction is what "arrow" changes in other images."""
    clip = load_clip(config_path(), weights_path("biased"))
    (run, _), style = opened(clip), Style("DejaVuSans", 0.25, 1.0)
    world = World("balanced", "val", 400)

    def activations(word):
        images = [put_label(world.image(i), word, style) for i in range(200, 260)]
        pixels = torch.stack([clip.preprocess(image) for image in images])
        return capture_context(clip, run.data.hook, run.data.tail, pixels)[0][:, 0]

    others = torch.cat([activations(word) for word in ("crto", "mehs", "naul")])
    direction = torch.nn.functional.normalize(activations("arrow").mean(0) - others.mean(0), dim=0)
    reader = Reader(direction, float((others @ direction).quantile(0.9)))
    return read(clip, ["flag", "heart", "plane", "sun", "arrow"], reader)


def test_the_biased_clip_reads_the_planted_words(planted):
    assert passed(planted) == ["flag", "plane", "arrow"]
    assert (planted.predicted[[0, 2, 4]] > 0.1).all()
    assert planted.auroc[:, 1].tolist() == [0.5] * 5
    assert planted.auroc[:, 2:].isnan().all()


def test_a_latent_that_reads_a_word(planted):
    """Against meaningless ones; "heart" it does not read."""
    arrow, heart = planted.words.index("arrow"), planted.words.index("heart")
    assert planted.auroc[arrow, 0] > 0.95
    assert planted.auroc_p[arrow, 0] < READ
    assert planted.attribution[arrow, 0] > 0
    assert planted.auroc_p[heart, 0] > READ
