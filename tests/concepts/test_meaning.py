"""What a latent means for a class, against sets that can be counted by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, hypergeom
from torch.nn.functional import normalize

from lightning_sae.concepts.meaning import Meaning, MeaningTests, alike_sets, class_meaning, shown_classes
from lightning_sae.metrics import auroc, top_images
from lightning_sae.types import SparseLatents

A, B = torch.tensor([0.8, 0.6]), torch.tensor([-0.6, 0.8])


def unit(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def two_kinds(n=100):
    """As many images of two kinds, at right angles, and texts that lie between them."""
    images = torch.cat([torch.eye(2)[:1].expand(n, 2), torch.eye(2)[1:].expand(n, 2)])
    return images, torch.stack([A, B]), torch.arange(2).repeat_interleave(n)


def test_a_pure_set_means_its_class_and_a_mixed_one_does_not():
    """The mean of unlike images is short; giving it unit length would turn it towards both texts."""
    images, texts, shown = two_kinds()
    tops = torch.stack([torch.arange(20), torch.arange(20) + 100, torch.arange(0, 200, 10)])
    found = class_meaning(tops, images, texts, shown)
    torch.testing.assert_close(found.agreement[:, 0], torch.tensor([0.8, 0.6, 0.7]))
    assert found.means.tolist() == [[True, False], [False, True], [False, False]]
    assert found.foreign.tolist() == [[False, True], [True, False], [True, True]]
    assert found.p_random[0, 0] == pytest.approx(1 / 1001)
    assert found.told.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("size", [20, 5])
def test_the_chance_of_random_sets_is_the_hypergeometric_one(size):
    """With two kinds of images a set agrees as well as another if it has as many of the first kind."""
    images, texts, shown = two_kinds(50)
    kinds = torch.arange(size + 1)
    tops = torch.full((size + 1, 20), -1)
    for k in kinds.tolist():
        tops[k, :size] = torch.cat([torch.arange(k), 50 + torch.arange(size - k)])
    found = class_meaning(tops, images, texts, shown, tests=MeaningTests(draws=20_000))
    exact = hypergeom.sf(kinds.numpy() - 1, 100, 50, size)
    spread = np.sqrt(exact * (1 - exact) / 20_000)
    assert (np.abs(found.p_random[:, 0].numpy() - exact) <= 5 * spread + 1e-4).all()


@pytest.mark.parametrize("share", [0.5, 0.02])
def test_random_latents_mean_frequent_and_rare_classes_as_often_as_the_level_says(share):
    n, d_sae, level = 1000, 1500, 0.05
    texts = unit(2, 8, seed=1)
    shown = (torch.arange(n) >= share * n).long()
    images = normalize(0.6 * texts[shown] + unit(n, 8, seed=2), dim=-1)
    noise = torch.rand(n, d_sae, generator=torch.Generator().manual_seed(7))
    _, tops = top_images(SparseLatents.from_dense(noise), torch.arange(n), 20)
    found = class_meaning(tops, images, texts, shown, tests=MeaningTests(level, 4000))
    effective = d_sae * 4000 // (d_sae + 4000)  # the null is an estimate, too
    low, high = binom.interval(0.999, effective, level)
    for c in range(2):
        assert low / effective <= float((found.p_random[:, c] <= level).double().mean()) <= high / effective


def test_a_part_of_a_class_means_the_class():
    """White bags are less like the word than bags are, and more than anything else is."""
    bag, shoe = torch.eye(4)[0], torch.eye(4)[3]
    plain = normalize(bag + 0.3 * torch.eye(4)[1], dim=0).expand(80, 4)
    white = normalize(bag + 1.2 * torch.eye(4)[2], dim=0).expand(40, 4)
    images = torch.cat([plain, white, shoe.expand(480, 4)])
    shown = (torch.arange(600) >= 120).long()
    tops = (torch.arange(20) + 80)[None]
    found = class_meaning(tops, images, torch.stack([bag, shoe]), shown)
    assert float(found.agreement[0, 0]) < float((plain @ bag).mean()) - 0.2
    assert found.means.tolist() == [[True, False]]


def test_a_judge_that_cannot_tell_the_class_is_not_asked():
    images, _, shown = two_kinds()
    blind = torch.stack([A, torch.tensor([0.6, 0.6]) / 0.72**0.5])
    found = class_meaning(torch.arange(20)[None], images, blind, shown)
    assert found.asked.tolist() == [True, False]
    assert not found.means[:, 1].any()
    assert not found.foreign[:, 1].any()
    assert found.told[0] == auroc(images @ A, shown == 0)


def test_few_images_of_a_class_give_what_they_can():
    """Below each of its 30 sets, a latent is foreign; fewer than 20 images give no verdict."""
    images, texts, _ = two_kinds()
    tops = torch.arange(20)[None]
    for n, foreign in ((30, True), (19, False)):
        shown = torch.full((100 + n,), -1)
        shown[100:] = 0
        found = class_meaning(tops, images.flip(0)[: 100 + n], texts[:1], shown)
        assert found.p_class.item() == pytest.approx(1 / (n + 1))
        assert found.foreign.item() == foreign


def test_latents_without_images_and_classes_that_nothing_shows():
    images, texts, shown = two_kinds()
    tops = torch.full((2, 20), -1)
    tops[1, :3] = torch.arange(3)
    found = class_meaning(tops, images, texts, torch.where(shown == 1, -1, shown))
    assert found.agreement.isnan().tolist() == [[True, True], [False, False]]
    assert found.p_random.isnan().tolist() == [[True, True], [False, False]]
    assert found.p_class[1].isnan().tolist() == [False, True]
    assert found.told.isnan().tolist() == [False, True]
    assert found.p_random[1, 0] == pytest.approx(1 / 8, abs=0.05)  # three of one kind are no wonder
    nothing = class_meaning(tops[:1], images, texts, shown)
    assert not (nothing.means | nothing.foreign).any()


def test_alike_sets_are_the_nearest_images():
    embeddings = unit(40, 5)
    sets = alike_sets(embeddings, n=7, draws=100)
    brute = (embeddings @ embeddings.T).argsort(dim=1, descending=True)[:, :7]
    assert torch.equal(sets, brute)
    assert alike_sets(embeddings, n=50, draws=10).shape == (10, 40)


def test_the_data_have_the_first_word_on_what_an_image_shows():
    images, texts, _ = two_kinds(2)
    assert shown_classes(torch.tensor([1, -1, -1, 0]), images, texts).tolist() == [1, 0, 1, 0]


def test_a_level_that_no_p_value_can_reach():
    images, texts, shown = two_kinds()
    with pytest.raises(ValueError, match="draw more"):
        class_meaning(torch.arange(20)[None], images, texts, shown, tests=MeaningTests(0.001, 100))


def test_what_fires_on_the_class_is_not_foreign_to_it():
    """As a latent for shoes, whose top images are sandals, is not to ankle boots."""
    images, texts, shown = two_kinds()
    tops, detects = (100 + torch.arange(20))[None], torch.tensor([[0.8, 0.2]])
    assert class_meaning(tops, images, texts, shown).foreign.tolist() == [[True, False]]
    assert class_meaning(tops, images, texts, shown, detects).foreign.tolist() == [[False, False]]


@pytest.mark.parametrize(
    ("detects", "foreign"), [(0.4, True), (0.577, True), (0.578, False), (math.nan, False)]
)
def test_what_passes_the_class_by_is_foreign_though_better_than_random_images(detects, foreign):
    """With 100 images of the class and 300 others, chance reaches 0.5776 in one of a hundred cases."""
    p, n = torch.tensor([[0.001]], dtype=torch.float64), torch.tensor([100, 300])
    both = [torch.cat([part, torch.ones_like(part)], 1) for part in (p, p)]
    known = torch.tensor([[detects, 0.5]])
    found = Meaning(torch.zeros(1, 2), *both, n, known, torch.ones(2), MeaningTests())
    assert found.foreign.tolist() == [[foreign, False]]
