"""The facts of each latent against loops over dense activations."""

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_sae.browser.sheets import are_texts, collect_examples
from lightning_sae.explorer.images import image_arrays, strongest, values_at
from lightning_sae.explorer.latents import BINS, CLASSES, NEAREST, activity, nearest
from lightning_sae.explorer.seen import Seen
from lightning_sae.explorer.token_maps import token_maps
from lightning_sae.types import SparseLatents


@pytest.fixture
def dense():
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(60, 9, generator=generator)
    return torch.where(dense > 0.6, dense, torch.zeros(()))


def test_histograms_and_classes_are_counted(dense):
    targets = torch.randint(-1, 8, (60,), generator=torch.Generator().manual_seed(1))
    wanted = torch.tensor([7, 2, 5])
    found = activity(SparseLatents.from_dense(dense), targets, wanted, n_classes=8)
    for row, j in enumerate(wanted.tolist()):
        column = dense[:, j].numpy()
        active = column[column > 0]
        assert found.fired[row] == len(active)
        assert found.largest[row] == active.max()
        counts, _ = np.histogram(active, BINS, (0, active.max()))
        assert found.histogram[row].tolist() == np.rint(255 * np.sqrt(counts / counts.max())).tolist()
        own = {c: int(((targets == c).numpy() & (column > 0)).sum()) for c in range(8)}
        best = sorted((n for n in own.values() if n), reverse=True)[:CLASSES]
        assert found.class_images[row].tolist() == best + [0] * (CLASSES - len(best))
        for c, n in zip(found.classes[row], found.class_images[row], strict=True):
            assert n == (0 if c < 0 else own[c])


def test_a_silent_latent_and_images_without_classes():
    found = activity(SparseLatents.from_dense(torch.zeros(3, 2)), torch.full((3,), -1), torch.arange(2), 0)
    assert found.fired.tolist() == [0, 0]
    assert (found.classes == -1).all()


@pytest.mark.parametrize("m", [1, 3, 30])
def test_the_nearest_are_those_of_all_pairs(m):
    W = torch.randn(40, 5, generator=torch.Generator().manual_seed(2))
    wanted = torch.randperm(40, generator=torch.Generator().manual_seed(3))[:m]
    places, cosines = nearest(W, wanted)
    assert places.shape == cosines.shape == (m, min(NEAREST, m - 1))
    unit = torch.nn.functional.normalize(W[wanted], dim=1)
    for i in range(m):
        others = sorted(((float(unit[i] @ unit[j]), j) for j in range(m) if j != i), reverse=True)
        assert places[i].tolist() == [j for _, j in others[:NEAREST]]


def test_the_strongest_of_some_images(dense):
    latents = SparseLatents.from_dense(dense)
    rows = torch.tensor([40, 3])
    found = strongest(latents, latents.values, rows, 4)
    for i, row in enumerate(rows.tolist()):
        order = [j for j in dense[row].argsort(descending=True).tolist() if dense[row, j] > 0][:4]
        assert found.latents[i].tolist() == order + [-1] * (4 - len(order))
    assert values_at(latents, rows, found.latents).tolist() == found.activations.tolist()


class Identity:
    """An autoencoder whose latents are its inputs."""

    W_dec = torch.eye(3)

    def __call__(self, x):
        return x, SparseLatents.from_dense(x)


class Store:
    """Two images of a class token and 2 x 2 places."""

    x = torch.zeros(2, 5, 3)
    x[0, 1:, 0] = torch.tensor([0.0, 1.0, 2.0, 4.0])
    x[0, 0, 0] = 9.0  # the class token is no place
    x[1, 2, 1] = 3.0

    def images(self, ids):
        return self.x[ids]


def test_maps_show_where_a_latent_fires():
    class Run:
        sae = Identity()

    maps = token_maps(Run(), Store(), [(0, [0, 1]), (1, [1])], (2, 2))
    assert maps[0, 0].tolist() == [[0, 64], [128, 255]]
    assert maps[0, 1].max() == 0
    assert maps[1, 0].tolist() == [[0, 255], [0, 0]]


def test_an_image_of_which_nothing_is_known_has_no_latents():
    z = SparseLatents.from_dense(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    seen = Seen(z, torch.tensor([2, 7]), torch.tensor([0, 1]), None)
    found = image_arrays(seen, [2, 4, 7, 9], torch.arange(2))
    assert found["image_targets"].tolist() == [0, -1, 1, -1]
    assert found["image_latents"][:, 0].tolist() == [0, -1, 1, -1]


def test_where_nothing_fires_everything_is_silent():
    z = SparseLatents.from_dense(torch.zeros(3, 2))
    assert values_at(z, torch.tensor([1]), torch.tensor([[0, -1]])).tolist() == [[0.0, 0.0]]


def test_a_picture_among_texts_is_drawn():
    images = ["a text"] * 300 + [Image.new("RGB", (9, 9))]
    assert not are_texts(images, range(301))
    assert are_texts(images, range(300))
    found = collect_examples(images, range(301), side=16)
    assert (len(found.sheets), found.texts) == (2, [])
