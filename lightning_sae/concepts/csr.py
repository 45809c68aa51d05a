"""Latents as a sparse matrix of SciPy."""

from scipy.sparse import csr_array

from lightning_sae.types import SparseLatents


def csr_of(latents: SparseLatents) -> csr_array:
    """Return the latents as a sparse matrix of SciPy, `[n, d_sae]` float64 on the CPU."""
    parts = (latents.values.detach().double(), latents.indices, latents.offsets)
    return csr_array(tuple(part.cpu().numpy() for part in parts), shape=(len(latents), latents.d_sae))
