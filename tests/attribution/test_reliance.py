import numpy as np
import pytest
import torch

from lightning_sae.attribution.reliance import unexpected_reliance


def test_unexpected_reliance_equals_the_definition():
    generator = torch.Generator().manual_seed(0)
    r = torch.randn(6, 15, generator=generator)
    foreign = torch.randn(15, 6, generator=generator) > 0
    counts = torch.tensor([20, 500, 19, 0, 30, 20])
    r[3] = torch.nan  # no images, no mean
    r[4] = -r[4].abs()  # nothing drives it
    result = unexpected_reliance(r, counts, foreign)
    shares = []
    for c in range(6):
        u = [float(r[c, j]) if r[c, j] > 0 and foreign[j, c] else 0.0 for j in range(15)]
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


def test_without_evidence_there_is_no_share():
    foreign = torch.ones(3, 2, dtype=torch.bool)
    result = unexpected_reliance(torch.ones(2, 3), torch.tensor([4, 5]), foreign)
    assert result.overall.isnan()
    assert not result.u.any()
    enough = unexpected_reliance(torch.ones(2, 3), torch.tensor([4, 5]), foreign, min_images=5)
    assert enough.share.isnan().tolist() == [True, False]
