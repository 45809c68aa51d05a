import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from lightning_sae.reliance import calibrated_threshold, unexpected_reliance


def unit(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


@pytest.fixture
def judge():
    return unit(12, 5), unit(3, 5, seed=1), unit(5, seed=2)


def test_the_threshold_is_the_quantile_over_all_sets(judge):
    """Sets of 11 out of 12 images: there are only twelve of them, so that the truth can be written down."""
    embeddings, texts, empty = (z.numpy() for z in judge)
    vectors = np.stack([np.delete(embeddings, left_out, axis=0).mean(0) for left_out in range(12)])
    cosines = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) @ np.c_[texts.T, empty]
    scores = cosines[:, :3] - cosines[:, 3:]
    threshold = calibrated_threshold(*judge, n=11, quantile=0.5, draws=20_000)
    inside = [np.quantile(scores, q, axis=0, method="nearest") for q in (0.35, 0.65)]
    assert ((inside[0] <= threshold.numpy()) & (threshold.numpy() <= inside[1])).all()
    np.testing.assert_allclose(calibrated_threshold(*judge, n=11, quantile=1.0), scores.max(0))
    np.testing.assert_allclose(calibrated_threshold(*judge, n=11, quantile=0.0), scores.min(0))


def test_all_images_make_one_set(judge):
    embeddings, texts, empty = judge
    mean = normalize(embeddings.mean(0), dim=0)
    torch.testing.assert_close(calibrated_threshold(*judge, n=12), texts @ mean - empty @ mean)


def test_the_seed_decides(judge):
    first, again, other = (calibrated_threshold(*judge, n=3, draws=50, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("n", [0, 13])
def test_sets_that_cannot_be_drawn(judge, n):
    with pytest.raises(ValueError, match=r"1\.\.12"):
        calibrated_threshold(*judge, n=n)


def test_unexpected_reliance_equals_the_definition():
    generator = torch.Generator().manual_seed(0)
    r = torch.randn(6, 15, generator=generator)
    scores = torch.randn(15, 6, generator=generator)
    thresholds = 0.3 * torch.randn(6, generator=generator)
    counts = torch.tensor([20, 500, 19, 0, 30, 20])
    r[3] = torch.nan  # no images, no mean
    r[4] = -r[4].abs()  # nothing drives it
    result = unexpected_reliance(r, counts, scores, thresholds)
    shares = []
    for c in range(6):
        u = [float(r[c, j]) if r[c, j] > 0 and scores[j, c] < thresholds[c] else 0.0 for j in range(15)]
        if counts[c] < 20:
            assert not result.u[c].any()
            assert result.share[c].isnan()
            continue
        assert result.u[c].tolist() == u
        if c == 4:
            assert result.share[c].isnan()
            continue
        shares.append(sum(u) / r[c].clamp(min=0).sum().item())
        assert result.share[c].item() == pytest.approx(shares[-1])
    assert result.overall.item() == pytest.approx(np.mean(shares))


def test_a_latent_at_the_threshold_or_without_images_is_expected():
    r, scores = torch.ones(1, 3), torch.tensor([[0.1], [torch.nan], [0.09]])
    assert unexpected_reliance(r, torch.tensor([20]), scores, torch.tensor([0.1])).u.tolist() == [[0, 0, 1]]


def test_without_evidence_there_is_no_share():
    result = unexpected_reliance(torch.ones(2, 3), torch.tensor([4, 5]), torch.zeros(3, 2), torch.ones(2))
    assert result.overall.isnan()
    assert not result.u.any()
    assert unexpected_reliance(
        torch.ones(2, 3), torch.tensor([4, 5]), torch.zeros(3, 2), torch.ones(2), min_images=5
    ).share.isnan().tolist() == [True, False]
