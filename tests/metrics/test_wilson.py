"""The interval of a share."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, norm

from lightning_sae.metrics.wilson import wilson

Z = float(norm.ppf(0.975))


@pytest.mark.parametrize(("count", "n"), [(0, 5), (7, 9), (30, 30), (11, 400)])
def test_it_is_scipys_of_arrays_and_tensors(count, n):
    want = binomtest(count, n).proportion_ci(method="wilson")
    for make in (np.array, torch.tensor):
        low, high = (float(wilson(make(count / n), make(float(n)), z)) for z in (-Z, Z))
        assert [low, high] == pytest.approx([want.low, want.high], abs=1e-6)
