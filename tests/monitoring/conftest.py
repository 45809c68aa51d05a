"""Numbers of images whose means are known, and references of them."""

import pytest
import torch

from lightning_sae.classifiers.linear import LinearClassifier
from lightning_sae.monitoring.image_numbers import ImageNumbers
from lightning_sae.monitoring.reference import Reference, ReferenceFacts
from lightning_sae.types import SparseLatents

D_SAE = 12


@pytest.fixture(scope="session")
def draw():
    """Number, rates of the latents, seed -> images on which each fires by itself; error in a small range."""

    def draw(n, rates, seed, error=0.02):
        random = torch.Generator().manual_seed(seed)
        fires = torch.rand(n, len(rates), generator=random) < torch.tensor(rates)
        latents = SparseLatents.from_dense(fires * (0.5 + torch.rand(n, len(rates), generator=random)))
        rows = latents.rows()
        count = torch.bincount(rows, minlength=n).clamp(min=1)
        shares = latents.with_values(1 / count[rows])
        predicted = torch.randint(3, (n,), generator=random)
        errors = error * (0.5 + torch.rand(n, generator=random))
        return ImageNumbers(latents, shares, predicted, torch.ones(n).bool(), torch.zeros(n), errors)

    return draw


@pytest.fixture(scope="session")
def rates():
    return [0.05 + 0.02 * j for j in range(D_SAE)]


@pytest.fixture(scope="session")
def facts():
    return ReferenceFacts(
        run="RUN",
        sae_sha256="",
        images="val",
        class_names=("cat", "dog", "cow"),
        labels=tuple(f'"thing {j}" (latent {j})' for j in range(D_SAE)),
        alpha=0.05,
        attribute_every=1,
        culprits={},
        audited=False,
    )


@pytest.fixture(scope="session")
def classifier():
    return LinearClassifier(torch.eye(3), torch.zeros(3))


@pytest.fixture(scope="session")
def reference(draw, rates, facts, classifier):
    return Reference(facts, draw(2000, rates, seed=0), classifier)
