"""The products of `kernels` where many latents are active: dense, a chunk of tokens at a time."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_sae.sae.kernels.pattern import Pattern

DENSE = 1 / 10  # share of active latents from which on a dense product is faster
CHUNK = 1024  # tokens whose dense latents exist at one time


def is_dense(pattern: Pattern) -> bool:
    """Return whether so many latents are active that the dense products are faster."""
    return len(pattern.indices) > DENSE * (len(pattern.offsets) - 1) * pattern.d_sae > 0


def dense_decode(values: Tensor, rows: Tensor, pattern: Pattern) -> Tensor:
    """Return `latents @ rows`, `[n, d]`."""
    return torch.cat([_product(latents, rows) for _, latents in _dense_chunks(values, pattern)])


def dense_dot(x: Tensor, rows: Tensor, pattern: Pattern) -> Tensor:
    """Return the entries of `x @ rows.T` that the pattern names, `[nnz]`."""
    places, d_sae = pattern.rows * len(rows) + pattern.indices, len(rows)
    found = [
        _product(x[first : first + CHUNK], rows.T).view(-1)[places[here] - first * d_sae]
        for first, here in _chunks(pattern)
    ]
    return torch.cat(found)


def dense_row_gradient(values: Tensor, x: Tensor, pattern: Pattern, out: Tensor) -> Tensor:
    """Return `latents.T @ x`, `[d_sae, d]`, in the given memory."""
    out.zero_()
    for tokens, latents in _dense_chunks(values, pattern):
        out += _product(latents.T, x[tokens])
    return out


def _product(a: Tensor, b: Tensor) -> Tensor:
    with torch.autocast(a.device.type, enabled=False):  # as precise as the sparse ways
        return a @ b.to(a.dtype)


def _chunks(pattern: Pattern) -> Iterator[tuple[int, slice]]:
    """Yield the first token of each chunk, and its entries."""
    n = len(pattern.offsets) - 1
    if n <= CHUNK:  # a GPU need not be asked where it ends
        yield 0, slice(None)
        return
    starts = pattern.offsets[:-1:CHUNK].tolist()
    for first, start, stop in zip(range(0, n, CHUNK), starts, [*starts[1:], None], strict=True):
        yield first, slice(start, stop)


def _dense_chunks(values: Tensor, pattern: Pattern) -> Iterator[tuple[slice, Tensor]]:
    """Yield the dense latents, a chunk of tokens at a time."""
    n = len(pattern.offsets) - 1
    for first, here in _chunks(pattern):
        tokens = slice(first, min(first + CHUNK, n))
        places = (pattern.rows[here] - first) * pattern.d_sae + pattern.indices[here]
        latents = values.new_zeros((tokens.stop - first) * pattern.d_sae).index_add_(0, places, values[here])
        yield tokens, latents.view(-1, pattern.d_sae)
