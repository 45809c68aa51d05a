"""Latents of images and the MonoSemanticity score, for any batch split and number of ranks."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lightning_sae.metrics import ImageLatents, MonoSemanticity, max_over_tokens, monosemanticity
from lightning_sae.types import SparseLatents

N, T, D_SAE, D = 60, 3, 17, 5  # images, tokens of each


@pytest.fixture
def dense() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randint(1, 6, (N * T, D_SAE), generator=generator).float()
    latents *= torch.rand(N * T, D_SAE, generator=generator) < 0.2
    latents[:, 3] = 0  # never fires
    latents[1:, 4] = 0  # fires on one image at most
    latents[0, 4] = 2
    latents[9:12] = 0  # an image without any latent
    return latents


@pytest.fixture
def embeddings() -> Tensor:
    return normalize(torch.randn(N, D, generator=torch.Generator().manual_seed(1)), dim=-1)


def kept_zeros(dense: Tensor) -> SparseLatents:
    """As TopK gives them: the same number of entries in each row, zeros among them."""
    values, indices = dense.topk(12)
    return SparseLatents.from_topk(values, indices, D_SAE)


def of_images(dense: Tensor) -> Tensor:
    return dense.view(N, T, D_SAE).amax(1)


@pytest.mark.parametrize("compress", [SparseLatents.from_dense, kept_zeros])
def test_max_over_tokens(dense: Tensor, compress) -> None:
    order = torch.randperm(N * T, generator=torch.Generator().manual_seed(2))
    image_ids = 2 * (torch.arange(N * T) // T) + 1
    latents, ids = max_over_tokens(compress(dense[order]), image_ids[order])
    assert torch.equal(latents.to_dense(), of_images(dense))
    assert torch.equal(ids, 2 * torch.arange(N) + 1)
    same, ids = max_over_tokens(latents, ids)
    assert same is latents


@pytest.mark.parametrize("size", [1, 7, N * T])
@pytest.mark.parametrize("n_ranks", [1, 3])
def test_image_latents(dense: Tensor, size: int, n_ranks: int) -> None:
    # the tokens of an image are spread over batches and ranks
    image_ids = torch.randperm(N * T, generator=torch.Generator().manual_seed(3)) % N
    ranks = [ImageLatents(D_SAE) for _ in range(n_ranks)]
    for number, start in enumerate(range(0, N * T, size)):
        part = slice(start, start + size)
        ranks[number % n_ranks].update(kept_zeros(dense[part]), image_ids[part])
    for rank in ranks[1:]:
        if rank.update_count:
            ranks[0].merge_state(rank)
    latents, ids = ranks[0].latents()
    assert ids.tolist() == list(range(N))
    for image, row in enumerate(latents.to_dense()):
        assert torch.equal(row, dense[image_ids == image].amax(0))


def brute_force(activations: Tensor, embeddings: Tensor) -> list[float]:
    scores = []
    for a in activations.T.double():
        above = below = 0.0
        for i in range(N):
            for j in range(N):
                if i != j:
                    above += float(a[i] * a[j] * (embeddings[i].double() @ embeddings[j].double()))
                    below += float(a[i] * a[j])
        scores.append(above / below if below else math.nan)
    return scores


@pytest.mark.parametrize(("size", "n_ranks"), [(1, 1), (7, 1), (N, 1), (7, 3)])
def test_monosemanticity(dense: Tensor, embeddings: Tensor, size: int, n_ranks: int) -> None:
    image_ids = torch.arange(N).repeat_interleave(T)
    ranks = [MonoSemanticity(D_SAE, D) for _ in range(n_ranks)]
    for number, start in enumerate(range(0, N, size)):
        part = slice(start * T, (start + size) * T)
        ranks[number % n_ranks].update(kept_zeros(dense[part]), image_ids[part], embeddings)
    for rank in ranks[1:]:
        ranks[0].merge_state(rank)
    want = brute_force(of_images(dense), embeddings)
    assert ranks[0].compute().tolist() == pytest.approx(want, abs=1e-7, nan_ok=True)
    assert sum(map(math.isnan, want)) == 2
    activations = SparseLatents.from_dense(of_images(dense))
    assert monosemanticity(activations, embeddings).tolist() == pytest.approx(want, abs=1e-7, nan_ok=True)


def test_monosemanticity_has_no_scale(dense: Tensor, embeddings: Tensor) -> None:
    one, other = (
        monosemanticity(SparseLatents.from_dense(factor * of_images(dense)), length * embeddings)
        for factor, length in ((1.0, 1.0), (1e4, 3.0))
    )
    torch.testing.assert_close(one, other, equal_nan=True, rtol=1e-6, atol=1e-7)


def test_one_strong_image_does_not_drown_the_others() -> None:
    # the pair's cosine is a difference of squares near 1e12
    latents = SparseLatents.from_dense(torch.tensor([[1e6], [1.0]]))
    embeddings = normalize(torch.tensor([[0.3, 0.4, 0.1], [0.1, -0.7, 0.2]]), dim=-1)
    want = float(embeddings[0] @ embeddings[1])
    assert monosemanticity(latents, embeddings).item() == pytest.approx(want, abs=1e-6)


def test_no_latent_fires(embeddings: Tensor) -> None:
    assert monosemanticity(SparseLatents.from_dense(torch.zeros(N, D_SAE)), embeddings).isnan().all()
