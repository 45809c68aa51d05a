"""Mean and covariance of the train activations, in chunks, once for all runs on a store."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from lightning_sae.data import cached_tensor
from lightning_sae.data.store.activations import ActivationStore
from lightning_sae.sae import SparseAutoencoder

ROWS = 2**18  # of the store at most: the axes of more hardly differ, and the cost grows with d_in squared
CHUNK = 4096  # rows at a time


def covariance(chunks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of the rows of some chunks, in float64.

    Sums are about the mean of the first chunk, so that nothing cancels where the mean is large.

    Args:
        chunks: `[n_i, d]` each, at least one.

    Returns:
        `[d]` and `[d, d]`; the covariance is divided by the number of rows.

    Example:
        >>> mean, spread = covariance([torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 0.0]])])
        >>> mean.tolist(), spread.tolist()
        ([2.0, 0.0], [[1.0, 0.0], [0.0, 0.0]])
    """
    n, centre, total, products = 0, None, torch.zeros(()), torch.zeros(())
    for chunk in chunks:
        centre = chunk.mean(0) if centre is None else centre
        centred = chunk - centre
        n, total = n + len(chunk), total + centred.sum(0, dtype=torch.float64)
        products = products + (centred.T @ centred).double()
    assert centre is not None, "there has to be a chunk"
    mean = total / n
    return centre.double() + mean, products / n - mean[:, None] * mean


def principal_axes(covariance: Tensor) -> Tensor:
    """Return the unit axes of a covariance `[d, d]` as rows `[d, d]`, the largest variance first."""
    axes: Tensor = torch.linalg.eigh(covariance).eigenvectors
    return axes.flip(1).T.contiguous()


def normalised_covariance(sae: SparseAutoencoder, data: Any) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of the train activations as an autoencoder sees them, normalised.

    The moments are kept beside the store, if it has a folder; a layer norm has moments of its own.

    Args:
        sae: autoencoder whose normalisation is set.
        data: datamodule whose `store` holds the activations.
    """
    store: ActivationStore = data.store
    each = sae.normalisation == "layer_norm"

    def moments() -> Tensor:
        chunks = (sae.normalise(x) if each else x for x in _chunks(store, sae.mean.device))
        mean, spread = covariance(chunks)
        return torch.cat([mean[None], spread])

    known = store.statistics._asdict() | {"mean": store.statistics.mean.tolist()}
    key = {"statistics": known, "layer_norm": each, "rows": ROWS}  # two stores of one name differ there
    found = cached_tensor(store.folder / "moments", "covariance", key, moments)
    mean, spread, shift, scale = found[0], found[1:], sae.mean.double().cpu(), sae.scale.double().cpu()
    return (mean - shift) * scale, spread * scale**2


def _chunks(store: ActivationStore, device: torch.device) -> Iterator[Tensor]:
    """Yield chunks of the store in float32, evenly spaced where it has more than `ROWS` rows."""
    stride = max(CHUNK, -(-len(store) * CHUNK // ROWS))
    for start in range(0, len(store), stride):
        yield store.rows(start, min(start + CHUNK, len(store))).to(device).float()
