"""Memory is used again, and never while somebody else holds what is in it."""

import copy

import pytest
import torch

from lightning_sae.sae import TopK
from lightning_sae.sae.kernels.workspace import Workspace


def test_only_what_fits_is_taken() -> None:
    workspace, tensor = Workspace(), torch.zeros(2, 3)
    workspace.give(tensor)
    assert workspace.take([3, 2], torch.float32, "cpu") is not tensor
    assert workspace.take([2, 3], torch.float64, "cpu") is not tensor
    assert workspace.take([2, 3], torch.float32, "cpu") is tensor
    assert workspace.take([2, 3], torch.float32, "cpu") is not tensor


def test_views_are_not_kept() -> None:
    workspace, bucket = Workspace(), torch.zeros(10)
    workspace.give(bucket[:6].view(2, 3))
    assert workspace.take([2, 3], torch.float32, "cpu").data_ptr() != bucket.data_ptr()


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="gradients are made in fresh memory")
def test_gradients_take_the_memory_of_the_last_ones() -> None:
    sae, x = TopK(8, 32, 4), torch.randn(20, 8)
    sae.training_loss(x).loss.backward()
    places = {p.grad.data_ptr() for p in (sae.W_dec, sae.encoder)}
    want = {name: p.grad.clone() for name, p in sae.named_parameters()}
    sae.zero_grad()
    for place in range(2):
        sae.workspace._spare[place].fill_(torch.nan)  # whatever was in it is gone
    sae.training_loss(x).loss.backward()
    assert {p.grad.data_ptr() for p in (sae.W_dec, sae.encoder)} == places
    for name, p in sae.named_parameters():
        torch.testing.assert_close(p.grad, want[name])


def test_accumulated_gradients_are_sums() -> None:
    sae, x = TopK(8, 32, 4), torch.randn(20, 8)
    for _ in range(2):  # the second time in used memory
        sae.zero_grad()
        sae.training_loss(x).loss.backward()
        once = sae.W_dec.grad.clone()
        sae.training_loss(x).loss.backward()
        torch.testing.assert_close(sae.W_dec.grad, 2 * once)


def test_a_copy_of_an_autoencoder_shares_no_memory() -> None:
    sae = TopK(8, 32, 4)
    sae.training_loss(torch.randn(20, 8)).loss.backward()
    sae.zero_grad()
    assert copy.deepcopy(sae).workspace._spare == []
    assert sae.workspace._spare


def test_training_goes_on_after_inference() -> None:
    sae, x = TopK(8, 32, 4), torch.randn(20, 8)
    with torch.inference_mode():
        sae(x)
    sae.training_loss(x).loss.backward()
    assert sae.W_dec.grad.isfinite().all()
