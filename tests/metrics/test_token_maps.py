"""Moran's I against its double sum, and its moments against all permutations."""

from itertools import permutations

import pytest
import torch

from lightning_sae.metrics import MoransI, morans_i
from lightning_sae.types import SparseLatents

GRIDS = [(3, 5), (4, 2), (1, 6), (7, 7)]


def neighbours(grid):
    places = torch.cartesian_prod(*(torch.arange(side) for side in grid))
    distance = (places[:, None] - places).abs().max(-1).values
    return (distance == 1).double()


def brute_force(z, weights):
    centred = z.double() - z.double().mean()
    crossed = sum(weights[p, q] * centred[p] * centred[q] for p in range(len(z)) for q in range(len(z)))
    return float(len(z) / weights.sum() * crossed / centred.square().sum())


def sparse_patches(n_images, n_patches, d_sae):
    generator = torch.Generator().manual_seed(n_patches)
    values = torch.rand(n_images * n_patches, d_sae, generator=generator)
    return torch.where(values > 0.6, values, 0)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_every_map_has_the_double_sum_over_its_patches(grid):
    n = grid[0] * grid[1]
    dense, weights = sparse_patches(3, n, 4), neighbours(grid)
    found = morans_i(SparseLatents.from_dense(dense), grid)
    maps = dense.view(3, n, 4).transpose(1, 2).flatten(0, 1)
    fired = (maps > 0).any(1)
    assert found.latents.tolist() == [i % 4 for i in fired.nonzero()[:, 0].tolist()]
    assert found.n_active.tolist() == (maps > 0).sum(1)[fired].tolist()
    wanted = [brute_force(z, weights) for z in maps[fired]]
    torch.testing.assert_close(found.morans_i, torch.tensor(wanted).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("grid", [(2, 3), (1, 6)], ids=str)
def test_mean_and_variance_are_those_of_all_permutations(grid):
    z, n = torch.tensor([0.0, 0.0, 3.0, 0.5, 0.0, 2.0]), 6
    orders = torch.tensor(list(permutations(range(n))))
    everyone = SparseLatents.from_dense(z[orders].reshape(-1, 1))
    found = morans_i(everyone, grid)
    assert len(found.morans_i) == 720
    assert float(found.morans_i.mean()) == pytest.approx(-1 / (n - 1), abs=1e-12)
    variance = float(found.morans_i.var(correction=0))
    assert found.variance.tolist() == pytest.approx([variance] * 720, rel=1e-9)


def test_it_knows_neither_unit_nor_which_way_is_up():
    dense = sparse_patches(2, 15, 3)
    found = morans_i(SparseLatents.from_dense(dense), (3, 5))
    longer = morans_i(SparseLatents.from_dense(dense * 2**20), (3, 5))
    torch.testing.assert_close(found.morans_i, longer.morans_i, rtol=1e-9, atol=1e-12)
    turned = dense.view(2, 3, 5, 3).transpose(1, 2).reshape(-1, 3)
    torch.testing.assert_close(morans_i(SparseLatents.from_dense(turned), (5, 3)).morans_i, found.morans_i)


def test_the_mean_and_z_over_images_in_any_batches():
    dense = sparse_patches(6, 12, 5)
    dense[:, 3] = 0  # never fires
    dense[:, 4] = 0
    dense[5, 4] = 1  # on a single patch
    dense[12:24, 4] = 2  # on all patches alike
    latents, maps = SparseLatents.from_dense(dense), morans_i(SparseLatents.from_dense(dense), (4, 3))
    whole, parts = (MoransI(5, (4, 3)) for _ in range(2))
    whole.update(latents)
    for start, stop in ((0, 12), (12, 48), (48, 72)):
        parts.update(latents.slice(start, stop))
    mean, z = whole.compute()
    for got, other in zip(parts.compute(), (mean, z), strict=True):
        torch.testing.assert_close(got, other, equal_nan=True)
    for j in range(3):
        mine = (maps.latents == j) & (maps.n_active > 1)
        n = int(mine.sum())
        assert float(mean[j]) == pytest.approx(float(maps.morans_i[mine].mean()))
        deviation = (maps.variance[mine].sum() / n**2).sqrt()
        assert float(z[j]) == pytest.approx(float((mean[j] + 1 / 11) / deviation))
    assert mean[3:].isnan().all()
    assert z[3:].isnan().all()


def test_permuted_patches_have_z_of_mean_0_and_variance_1():
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(40 * 49, 400, generator=generator)  # of independent patches
    metric = MoransI(400, (7, 7))
    metric.update(SparseLatents.from_dense(torch.where(noise > 0.9, noise, 0)))
    z = metric.compute()[1]
    assert abs(float(z.mean())) < 4 / 20
    assert float(z.var()) == pytest.approx(1, abs=0.3)


def test_nothing_that_fires():
    latents = SparseLatents.from_dense(torch.zeros(12, 3))
    assert len(morans_i(latents, (3, 4)).latents) == 0


@pytest.mark.parametrize("grid", [(1, 3), (0, 4), (3, 3)], ids=str)
def test_grids_that_fit_no_image(grid):
    with pytest.raises(ValueError, match="at least 4 patches and divide the 12 tokens"):
        morans_i(SparseLatents.from_dense(torch.ones(12, 2)), grid)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_visaebench_says_the_same(grid):
    theirs = pytest.importorskip(
        "visaebench.metrics.spatial_coherence.localization", reason="pip install visaebench, in its own place"
    )
    n = grid[0] * grid[1]
    dense, weights = sparse_patches(5, n, 6), theirs._build_weight_matrix(*grid).double()
    assert torch.equal(weights, neighbours(grid))
    codes = dense.view(5, n, 6).double()
    wanted, valid = theirs._compute_morans_i_batch(codes, weights, n, float(weights.sum()), 1, n)
    found = morans_i(SparseLatents.from_dense(dense), grid)
    torch.testing.assert_close(found.morans_i, wanted[valid], rtol=0, atol=1e-6)
