"""Absorption: other latents carry a concept on images on which its main latents should carry it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from lightning_sae.concepts.csr import csr_of
from lightning_sae.concepts.detectors import best_detectors
from lightning_sae.concepts.linear_probes import linear_probes
from lightning_sae.concepts.sparse_probes import halves
from lightning_sae.metrics import ActiveRanks
from lightning_sae.types import SparseLatents

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ABSORBERS = 3  # latents of an image that can stand in for the main ones
ALIGNED = 0.1  # cosine of an absorber's decoder row with the probe, at least
ALIGNED_ALONE = 0.025  # the same of one that absorbs all alone
COMPENSATES = 0.4  # share of the projection that absorbers have, at least
"""Limits of SAEBench."""


class Absorption(NamedTuple):
    """The absorption of each value of a factor, over the images that have it and that its probe recognises.

    Attributes:
        share: `[n_values]` in 0..1, mean share of the projection that other latents carry for the main ones;
            NaN where the value is not probed or recognised on too few images.
        full: `[n_values]` in 0..1, share of the images on which all main latents are silent and one other
            carries the projection.
        absorber: `[n_values]` int64, the latent that carries most of it; -1 for none.
        images: `[n_values]` int64, how many images that is.
    """

    share: Floats
    full: Floats
    absorber: Ints
    images: Ints


class ImageAbsorption(NamedTuple):
    """The absorption of one concept, image by image.

    Attributes:
        share: `[n]` in 0..1, of the projection that other latents carry for the main ones.
        full: `[n]` bool, whether all main latents are silent and one other carries the projection.
        carried: `[d_sae]` >= 0, what each latent carries for the main ones, summed over the images.
    """

    share: Floats
    full: NDArray[np.bool_]
    carried: Floats


def absorption(
    latents: SparseLatents,
    W_dec: Tensor,
    x: Tensor,
    labels: Tensor,
    n_values: int,
    main: Sequence[Ints] | None = None,
    seed: int = 0,
    min_images: int = 5,
) -> Absorption:
    """Return how much of each value its main latents leave to others.

    The images are halved as `sparse_probes` halves them. On one half a linear probe of each value is fitted
    to the activations (`linear_probes`), and the latent with the largest AUROC for it chosen as its main one;
    on the images of the other half that have the value and that the probe recognises, `image_absorption` is
    measured. Chanin et al. 2024, arXiv 2409.14507, and SAEBench (Karvonen et al. 2025, arXiv 2503.09532).
    They take as many main latents as it takes to detect the value (`SparseProbes.main`). A child that absorbs
    a large part of its parent would then be a main latent itself, and the parent would seem whole.

    Args:
        latents: latents of `n` images, each with its largest activation over an image's tokens.
        W_dec: `[d_sae, d_in]` decoder rows.
        x: `[n, d_in]` activations of the images, means over their tokens.
        labels: `[n]` int64 value of each image, -1 for none.
        n_values: number of values.
        main: main latents of each value, in place of the one that detects it best; none where it is not
            measured.
        seed: of the halves.
        min_images: smallest number of images that have to be recognised, and that a probe is fitted to.

    Raises:
        ValueError: latents, decoder and activations do not belong together, or `main` is not of these values.
    """
    if latents.d_sae != len(W_dec):
        raise ValueError(f"the decoder has {len(W_dec)} rows, the images have latents of {latents.d_sae}")
    if x.shape != (len(latents), W_dec.shape[1]):
        wanted = f"{len(latents)} images and width {W_dec.shape[1]}"
        raise ValueError(f"activations of {wanted} are needed, got {tuple(x.shape)}")
    if main is not None and len(main) != n_values:
        raise ValueError(f"main latents of {n_values} values are needed, got those of {len(main)}")
    activations, rows = csr_of(latents), W_dec.detach().double().cpu().numpy()
    fitted, measured = halves(len(latents), seed)
    truth, seen = labels.cpu().numpy(), x.double().cpu().numpy()
    probes = linear_probes(seen[fitted], truth[fitted], n_values, min_images)
    main = _best(latents, labels, n_values, fitted) if main is None else main
    share, full = np.full((2, n_values), np.nan)
    found = Absorption(share, full, np.full(n_values, -1), np.zeros(n_values, np.int64))
    for value in range(n_values):
        if not len(main[value]) or np.isnan(probes.biases[value]):
            continue
        having = measured[truth[measured] == value]
        recognised = having[seen[having] @ probes.directions[value] + probes.biases[value] > 0]
        found.images[value] = len(recognised)
        if len(recognised) >= min_images:
            one = image_absorption(activations[recognised], rows, probes.directions[value], main[value])
            found.share[value], found.full[value] = one.share.mean(), one.full.mean()
            if one.carried.any():
                found.absorber[value] = one.carried.argmax()
    return found


def _best(latents: SparseLatents, labels: Tensor, n_values: int, rows: Ints) -> list[Ints]:
    """Return the latent of each value that detects it best on some images; none where nothing tells."""
    seen = torch.zeros(len(latents), dtype=torch.bool, device=labels.device)
    seen[torch.from_numpy(rows).to(labels.device)] = True
    best = best_detectors(ActiveRanks.of(latents.keep(seen)), labels[seen], n_values).latent
    return [np.array([latent] if latent >= 0 else [], np.int64) for latent in best.tolist()]


def image_absorption(activations: csr_array, W_dec: Floats, probe: Floats, main: Ints) -> ImageAbsorption:
    """Return the absorption of one concept on images that have it, as SAEBench defines it.

    Latent `j` carries `c_j = a_j <w_j, p>` of the projection `t = sum_j c_j` on the probe `p`, the main
    latents together `m`. Absorbers are the three others with the largest `c_j > 0` whose rows have a cosine
    of 0.1 with `p` at least; they carry `b`, of which no more than `t - m` is for the main latents. Where
    `b >= 0.4 t` and `m < t`, the share is `min(b, t - m) / (min(b, t - m) + max(m, 0))`, elsewhere 0.

    Absorption is full where all main latents are silent and the latent with the largest `c_j`, of a cosine of
    0.025 at least, carries `0.4 t` or more by itself. SAEBench takes the activation's own projection for `t`,
    here it is the reconstruction's less the bias: a CLIP's activations have a large mean that is no concept.

    Args:
        activations: `[n, d_sae]` >= 0, sparse, of images that have the concept.
        W_dec: `[d_sae, d_in]` decoder rows.
        probe: `[d_in]`, of any length above 0.
        main: `[m]`, the concept's main latents.

    Example:
        >>> rows = np.array([[1.0, 0.0], [0.6, 0.8]])  # "bird", and a "penguin" that says "bird" as well
        >>> images = csr_array(np.array([[1.0, 0.0], [0.0, 1.0], [0.7, 0.5]]))
        >>> found = image_absorption(images, rows, np.array([1.0, 0.0]), main=np.array([0]))
        >>> found.share.tolist(), found.full.tolist()
        ([0.0, 1.0, 0.0], [False, True, False])
    """
    unit, main_of = probe / np.linalg.norm(probe), np.isin(np.arange(len(W_dec)), main)
    along = W_dec @ unit
    cosine = along / np.linalg.norm(W_dec, axis=1)
    carried = csr_array(activations * along)
    total, by_main = carried.sum(1), carried[:, main].sum(1)
    absorbers = largest_entries(csr_array(carried * (~main_of & (cosine >= ALIGNED))), ABSORBERS)
    by_absorbers = absorbers.sum(1)
    counts = (by_absorbers >= COMPENSATES * total) & (by_main < total) & (total > 0)
    for_main = np.where(counts, np.minimum(by_absorbers, total - by_main), 0.0)
    share = for_main / np.where(counts, for_main + by_main.clip(min=0), 1.0)
    top = largest_entries(carried, 1)
    aligned = (top * (cosine >= ALIGNED_ALONE)).sum(1)
    silent = activations[:, main].sum(1) == 0
    full = silent & (total > 0) & (aligned >= COMPENSATES * total)
    split = np.divide(for_main, by_absorbers, out=np.zeros_like(for_main), where=by_absorbers > 0)
    return ImageAbsorption(share, full, split @ absorbers)


def largest_entries(x: csr_array, k: int) -> csr_array:
    """Return the `k` largest entries above 0 of each row; the rest is 0.

    Example:
        >>> largest_entries(csr_array(np.array([[3.0, -1, 2, 5], [0, -2, 1, 0]])), k=2).toarray().tolist()
        [[3.0, 0.0, 0.0, 5.0], [0.0, 0.0, 1.0, 0.0]]
    """
    entries = x.tocoo()
    order = np.lexsort((-entries.data, entries.row))
    row, column, data = entries.row[order], entries.col[order], entries.data[order]
    first = np.searchsorted(row, np.arange(x.shape[0]))
    kept = (np.arange(len(row)) - first[row] < k) & (data > 0)
    return csr_array((data[kept], (row[kept], column[kept])), shape=x.shape)
