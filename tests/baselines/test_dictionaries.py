"""Dictionaries that learned nothing, against plain numpy on small data."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lightning_sae.baselines import covariance as covariances
from lightning_sae.baselines.covariance import covariance, principal_axes
from lightning_sae.baselines.dictionaries import active_latents, components, dictionary, neurons, untrained
from lightning_sae.metrics import fvu
from lightning_sae.metrics.moments import Moments
from lightning_sae.sae import JumpReLU, ReLU, TopK, load_sae, save_sae
from lightning_sae.training.module import SAEModule

D_IN, N = 6, 300
NORMALISATIONS = ["standard", "none", "layer_norm"]


class Rows(SimpleNamespace):
    """A datamodule of rows in memory that is its own store, in a folder of its own."""

    def __init__(self, folder, n=N):
        mixed = torch.randn(n, D_IN, generator=torch.Generator().manual_seed(1)) @ torch.randn(
            D_IN, D_IN, generator=torch.Generator().manual_seed(2)
        )
        self.x, self.folder, self.store, self.d_in = mixed + 20, folder, self, D_IN
        self.statistics = Moments.of(self.x).statistics()

    def __len__(self):
        return len(self.x)

    def rows(self, start, stop):
        return self.x[start:stop]

    def sample(self, n):
        return self.x[:n]


@pytest.fixture
def data(tmp_path):
    return Rows(tmp_path)


def module_of(data, variant=TopK, normalisation="standard", **arguments):
    torch.manual_seed(3)
    partial_sae = partial(variant, d_sae=24, normalisation=normalisation, **arguments)
    module = SAEModule(partial_sae, 1e-3, warmup_steps=1, decay_fraction=0)
    module._trainer = SimpleNamespace(datamodule=data)
    module.configure_model()
    return module


def normalised(x, normalisation):
    x = x.double().numpy()
    if normalisation == "none":
        return x
    if normalisation == "layer_norm":
        return (x - x.mean(1, keepdims=True)) / (x.std(1, ddof=1, keepdims=True) + 1e-5)
    centred = x - x.mean(0)
    return centred * np.sqrt(D_IN / (centred**2).sum(1).mean())


def sparse_code(coordinates, k):
    """The `k` coordinates farthest from 0 of each row, the others 0."""
    order = np.argsort(-np.abs(coordinates), axis=1)[:, :k]
    kept = np.zeros_like(coordinates)
    np.put_along_axis(kept, order, np.take_along_axis(coordinates, order, 1), 1)
    return kept


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_neurons_are_the_coordinates_farthest_from_the_mean(data, normalisation):
    sae = neurons(module_of(data, normalisation=normalisation, k=2), data, k=2)
    x = normalised(data.x, normalisation)
    centred = x - x.mean(0)
    expected = sparse_code(centred, 2)
    found = sae.encode_normalised(sae.normalise(data.x)).to_dense().detach().numpy()
    np.testing.assert_allclose(found[:, :D_IN], expected.clip(min=0), atol=1e-4)
    np.testing.assert_allclose(found[:, D_IN:], (-expected).clip(min=0), atol=1e-4)
    if normalisation == "standard":
        error = ((centred - expected) ** 2).sum() / (centred**2).sum()
        assert float(fvu(data.x, sae(data.x)[0])) == pytest.approx(error, rel=1e-4)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_components_are_those_of_a_singular_value_decomposition(data, normalisation):
    sae = components(module_of(data, normalisation=normalisation, k=2), data, k=2)
    x = normalised(data.x, normalisation)
    centred = x - x.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    cosines = np.abs((sae.W_dec[:D_IN].detach().double().numpy() * axes).sum(1))
    np.testing.assert_allclose(cosines[: D_IN - (normalisation == "layer_norm")], 1, atol=1e-3)
    expected = sparse_code(centred @ axes.T, 2) @ axes + x.mean(0)
    rebuilt = sae.normalise(sae(data.x)[0]) if normalisation != "layer_norm" else None
    if rebuilt is not None:
        np.testing.assert_allclose(rebuilt.detach().numpy(), expected, atol=2e-3)


def test_more_latents_than_the_width_rebuild_everything(data):
    for make in (neurons, components):
        sae = make(module_of(data, k=9), data, k=9)
        assert float(fvu(data.x, sae(data.x)[0])) < 1e-8


def test_the_covariance_does_not_depend_on_chunks_and_does_not_cancel():
    x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) + 1e3
    for size in (1, 7, 500):
        mean, spread = covariance(x.split(size))
        np.testing.assert_allclose(
            spread.numpy(), np.cov(x.double().numpy().T, bias=True), rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(mean.numpy(), x.double().numpy().mean(0))
    axes = principal_axes(torch.diag(torch.tensor([1.0, 3.0, 2.0])))
    assert axes.abs().tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_a_large_store_is_read_in_part_and_a_covariance_is_kept(data, monkeypatch):
    monkeypatch.setattr(covariances, "ROWS", 40)
    monkeypatch.setattr(covariances, "CHUNK", 10)
    read = []
    monkeypatch.setattr(
        data, "rows", lambda start, stop: read.append(start) or data.x[start:stop], raising=False
    )
    first = components(module_of(data, k=2), data, k=2)
    assert read == [0, 75, 150, 225]
    again = components(module_of(data, normalisation="none", k=2), data, k=2)
    assert len(read) == 4
    torch.testing.assert_close(first.W_dec, again.W_dec)


def test_the_untrained_one_is_the_start_of_the_training(data):
    module = module_of(data, k=3)
    start = {name: value.clone() for name, value in module.sae.state_dict().items()}
    with torch.no_grad():
        module.sae.encoder.zero_()
        module.sae.W_dec.neg_()
    torch.manual_seed(99)
    for name, value in untrained(module, data, k=3).state_dict().items():
        assert torch.equal(value, start[name]), name


def test_of_another_variant_it_is_a_topk_of_as_many_active_latents(data):
    module = module_of(data, ReLU, l1_weight=0.1)
    k = active_latents(module.sae, data)
    active = (module.sae.encode(data.x).to_dense() > 0).sum(1).double().mean()
    assert k == round(float(active)) > 1
    sae = untrained(module, data, k)
    assert isinstance(sae, TopK)
    assert sae.k == k
    assert torch.equal(sae.encoder, module.sae.encoder)
    assert torch.equal(sae.W_dec, module.sae.W_dec)
    silent = module_of(data, JumpReLU, l0_weight=0.1, target_l0=2, bandwidth=1.0, threshold=1e6).sae
    assert active_latents(silent, data) == 1


def test_it_is_saved_and_loaded_like_any_other(data, tmp_path):
    sae = dictionary(module_of(data, k=2).sae, torch.eye(D_IN), torch.zeros(D_IN), k=2)
    clip = {"model": "m", "pretrained": "p", "weights": "w"}
    save_sae(sae, tmp_path / "sae", {"clip": clip, "hook_point": "visual", "tokens": "pooled"}, {})
    torch.testing.assert_close(
        load_sae(tmp_path / "sae", clip)(data.x)[0], sae(data.x)[0], rtol=1e-4, atol=1e-4
    )
