"""Held-out validity against scikit-learn, latent by latent on dense data."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from lightning_sae.concepts.validity import label_validity
from lightning_sae.metrics import max_over_tokens, top_images
from lightning_sae.types import SparseLatents

N_IMAGES, D_SAE = 90, 30


def integers(*shape, high=3, seed=0):
    """Few values, exact in every product: many ties, the same for any batch."""
    return torch.randint(-high, high + 1, shape, generator=torch.Generator().manual_seed(seed)).float()


@pytest.fixture
def sample():
    """Latents of 60 of 90 images with densities from 0 to 1, labels, texts and embeddings."""
    generator = torch.Generator().manual_seed(1)
    dense = torch.rand(60, D_SAE, generator=generator)
    dense *= torch.rand(60, D_SAE, generator=generator) < torch.linspace(0, 1, D_SAE)
    dense[:, -1] += 0.1  # fires on every image
    image_ids = torch.randperm(N_IMAGES, generator=generator)[:60].sort().values
    latents = SparseLatents.from_dense(dense)
    _, top = top_images(latents, image_ids, n=4)
    label = torch.randint(7, (D_SAE,), generator=generator)
    label[top[:, 0] < 0] = -1
    return latents, image_ids, top, label, integers(7, 3, seed=2), integers(N_IMAGES, 3, seed=3)


def brute_force(latents, image_ids, top, label, texts, embeddings, min_images):
    dense, result = latents.to_dense().numpy(), []
    for j in range(D_SAE):
        held_out = [i for i, image in enumerate(image_ids.tolist()) if image not in top[j].tolist()]
        fires = dense[held_out, j] > 0
        if fires.sum() < min_images or fires.all():
            result.append(np.nan)
            continue
        similarity = embeddings[image_ids[held_out]] @ texts[label[j]]
        result.append(roc_auc_score(fires, similarity))
    return result


@pytest.mark.parametrize("min_images", [1, 5, 30])
@pytest.mark.parametrize("chunk_size", [1, 3, 64])
def test_validity_is_the_auroc_on_held_out_images(sample, min_images, chunk_size):
    validity = label_validity(*sample, min_images, chunk_size)
    expected = brute_force(*sample, min_images)
    assert 0 < np.isnan(expected).sum() < D_SAE
    np.testing.assert_allclose(validity, expected)


def test_tokens_of_an_image_count_once(sample):
    latents, image_ids, top, *rest = sample
    twice = torch.cat([latents.to_dense(), 0.5 * latents.to_dense()])
    merged, ids = max_over_tokens(SparseLatents.from_dense(twice), image_ids.repeat(2))
    whole = label_validity(latents, image_ids, top, *rest)
    torch.testing.assert_close(label_validity(merged, ids, top, *rest), whole, equal_nan=True)


def test_a_right_label_is_valid_and_noise_is_not():
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.nn.functional.normalize(torch.randn(400, 8, generator=generator), dim=-1)
    right = (embeddings[:, 0] - 0.3).clamp(min=0)[:, None]
    noise = torch.rand(400, 200, generator=generator) * (torch.rand(400, 200, generator=generator) < 0.2)
    latents = SparseLatents.from_dense(torch.cat([right, noise], dim=1))
    _, top = top_images(latents, torch.arange(400), n=10)
    label = torch.zeros(201, dtype=torch.int64)
    validity = label_validity(latents, torch.arange(400), top, label, torch.eye(8)[:1], embeddings)
    assert validity[0] == 1
    assert validity[1:].mean().item() == pytest.approx(0.5, abs=0.01)


def test_without_any_firing_nothing_is_known():
    latents = SparseLatents.from_dense(torch.zeros(5, 3))
    none = torch.full((3, 2), -1)
    validity = label_validity(latents, torch.arange(5), none, none[:, 0], torch.eye(2), integers(5, 2))
    assert validity.isnan().all()


def test_works_under_inference_mode(sample):
    with torch.inference_mode():
        inside = label_validity(
            *(part if isinstance(part, SparseLatents) else part.clone() for part in sample)
        )
    torch.testing.assert_close(inside.clone(), label_validity(*sample), equal_nan=True)
