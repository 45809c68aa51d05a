"""Moran's I of token maps: whether the patches on which a latent fires lie together, or anywhere."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.metrics.shaped import ShapedMetric
from lightning_sae.types import SparseLatents

LEAST = 4  # patches of a grid: the variance under permutation has N - 3 in its denominator
STEPS = ((0, 1), (1, -1), (1, 0), (1, 1))  # to half of the eight neighbours; the others have the pair as well


class TokenMaps(NamedTuple):
    """The maps of latents over the patches of images, one for each image and latent that fires on it.

    Attributes:
        latents: `[m]` int64, the latent of each map.
        n_active: `[m]` int64, patches on which it fires.
        morans_i: `[m]` float64; NaN where all patches are equal.
        variance: `[m]` float64, of Moran's I over all permutations of the patches of the map.
    """

    latents: Tensor
    n_active: Tensor
    morans_i: Tensor
    variance: Tensor


def morans_i(latents: SparseLatents, grid: tuple[int, int]) -> TokenMaps:
    """Return Moran's I of every map of a latent over the patches of an image, and its variance by chance.

    `I = (N / S) sum_pq w_pq (z_p - m) (z_q - m) / sum_p (z_p - m)^2` with `z` the activations on the `N`
    patches of the image, `m` their mean, `w_pq` 1 for each of the up to eight patches around another, else 0,
    and `S` the sum of the weights (Moran 1950, Biometrika 37; on patches: ViSAEBench's localisation). Over
    all permutations of the patches its mean is `-1 / (N - 1)`, and its variance that of Cliff and Ord 1981,
    *Spatial Processes*: nothing is drawn.

    The cost grows with the active latents, in float64.

    Args:
        latents: of the patches of `n` images, row by row of each grid, image by image: `n * N` rows.
        grid: rows and columns of patches, at least 4 patches.

    Raises:
        ValueError: a grid that is too small, or does not divide the patches.

    Example:
        >>> together = torch.tensor([0.0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0])  # of 3 x 4 patches
        >>> apart = torch.tensor([1.0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 1])
        >>> maps = morans_i(SparseLatents.from_dense(torch.stack([together, apart], 1)), (3, 4))
        >>> maps.latents.tolist(), maps.n_active.tolist()
        ([0, 1], [4, 4])
        >>> maps.morans_i
        tensor([ 0.0862, -0.1207], dtype=torch.float64)
    """
    n = grid[0] * grid[1]
    if min(grid) < 1 or n < LEAST or len(latents) % n:
        raise ValueError(
            f"a grid must have at least {LEAST} patches and divide the {len(latents)} tokens, got {grid}"
        )
    active = latents.values > 0
    row, z = latents.rows()[active], latents.values[active].double()
    map_ = row.div(n, rounding_mode="floor") * latents.d_sae + latents.indices[active]
    keys, order = (map_ * n + row % n).sort()
    z = z[order]
    maps, group, n_active = torch.unique_consecutive(keys // n, return_inverse=True, return_counts=True)

    def total(values: Tensor) -> Tensor:
        return z.new_zeros(len(maps)).index_add_(0, group, values)

    degrees = _degrees(grid, z.device)
    mean, weight = total(z) / n, degrees.sum()
    deviation, silent = z - mean[group], n - n_active
    squares = total(deviation.square()) + silent * mean.square()
    fourths = total(deviation**4) + silent * mean**4
    around = total(z * _half_neighbours(keys, z, grid)) * 2
    crossed = around - 2 * mean * total(z * degrees[keys % n]) + mean.square() * weight
    is_flat = squares <= torch.finfo(squares.dtype).eps * total(z.square())
    squares = squares.masked_fill(is_flat, torch.nan)
    variance = _variance(n * fourths / squares.square(), degrees)
    return TokenMaps(maps % latents.d_sae, n_active, n / weight * crossed / squares, variance)


def _half_neighbours(keys: Tensor, z: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return for each active patch the sum of `z` over half of its neighbours in the same map.

    Args:
        keys: `[nnz]`, ascending: the map times the number of patches, plus the place in the grid.
        z: `[nnz]`.
        grid: rows and columns.
    """
    rows, columns = grid
    row, column = keys // columns % rows, keys % columns
    sums = torch.zeros_like(z)
    for down, right in STEPS:
        inside = (row + down < rows) & (column + right >= 0) & (column + right < columns)
        wanted = keys + down * columns + right
        place = torch.searchsorted(keys, wanted).clamp(max=max(len(keys) - 1, 0))
        sums += torch.where(inside & (keys[place] == wanted), z[place], 0)
    return sums


def _degrees(grid: tuple[int, int], device: torch.device) -> Tensor:
    """Return how many neighbours each patch has, `[N]` float64."""
    across, along = (torch.full((side,), 3.0, dtype=torch.float64, device=device) for side in grid)
    for counts in (across, along):  # patches in reach along a side, itself included
        counts[0] -= 1
        counts[-1] -= 1
    return (across[:, None] * along).flatten() - 1


def _variance(kurtosis: Tensor, degrees: Tensor) -> Tensor:
    """Return the variance of Moran's I over all permutations, of values with a kurtosis `[m]`."""
    n, s0 = len(degrees), degrees.sum()
    s1, s2 = 2 * s0, 4 * degrees.square().sum()
    even = n * ((n * n - 3 * n + 3) * s1 - n * s2 + 3 * s0**2)
    peaked = (n * n - n) * s1 - 2 * n * s2 + 6 * s0**2
    square = (even - kurtosis * peaked) / ((n - 1) * (n - 2) * (n - 3) * s0**2)
    return (square - 1 / (n - 1) ** 2).clamp(min=0)


class MoransI(ShapedMetric):
    """Mean Moran's I of every latent over the images on which it fires, streaming.

    Images on which it fires on a single patch do not count: nothing can lie together there. Nor do those on
    which all patches are equal.

    Args:
        d_sae: number of latents.
        grid: rows and columns of patches.

    Example:
        >>> square, point = torch.zeros(2, 3, 4)
        >>> square[1:, 1:3], point[1, 0] = 1, 1
        >>> metric = MoransI(d_sae=1, grid=(3, 4))
        >>> metric.update(SparseLatents.from_dense(torch.cat([square, point]).view(-1, 1)))
        >>> [round(float(value), 3) for value in metric.compute()]
        [0.086, 1.328]
    """

    is_differentiable = False
    full_state_update = False
    sums: Tensor
    variances: Tensor
    counts: Tensor

    def __init__(self, d_sae: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        zeros = torch.zeros(d_sae, dtype=torch.float64)
        for name in ("sums", "variances", "counts"):
            self.add_state(name, zeros.clone(), dist_reduce_fx="sum")

    def update(self, latents: SparseLatents) -> None:
        """Add the patches of some whole images, as in `morans_i`."""
        maps = morans_i(latents, self.grid)
        counted = (maps.n_active > 1) & ~maps.morans_i.isnan()
        mine = maps.latents[counted]
        self.sums.index_add_(0, mine, maps.morans_i[counted])
        self.variances.index_add_(0, mine, maps.variance[counted])
        self.counts.index_add_(0, mine, torch.ones_like(self.counts[mine]))

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the means `[d_sae]`, and by how many standard deviations they exceed permuted patches.

        Both are NaN for a latent without an image that counts. The second is of the mean over the same
        images, whose patches are permuted independently; it grows with the square root of their number.
        """
        n = self.grid[0] * self.grid[1]
        return self.sums / self.counts, (self.sums + self.counts / (n - 1)) / self.variances.sqrt()
