"""TopK and AuxK against a dense reference written with plain autograd, in float64."""

from functools import partial

import pytest
import torch
from torch import Tensor

from lightning_sae.sae import TopK
from lightning_sae.sae.kernels import dense
from lightning_sae.sae.kernels.pattern import Joint, Pattern
from lightning_sae.sae.kernels.products import bag, dot, pre_activations
from lightning_sae.sae.kernels.reconstruction import smallest_active
from lightning_sae.sae.kernels.topk_selection import CHUNK, top_k
from lightning_sae.types import SparseLatents

D_IN, D_SAE, K = 12, 64, 4


@pytest.fixture
def sae() -> TopK:
    torch.manual_seed(0)
    sae = TopK(D_IN, D_SAE, K, k_aux=3, aux_weight=0.25, dead_after=10).double()
    with torch.no_grad():
        sae.encoder += 0.3 * torch.randn_like(sae.encoder)
        sae.b_enc.normal_(0, 0.1)
        sae.b_dec.normal_(0, 0.1)
    sae.normalise_decoder()
    sae.set_normalisation(torch.randn(D_IN).double(), 0.7)
    return sae


@pytest.fixture
def x() -> Tensor:
    return torch.randn(CHUNK + 88, D_IN, generator=torch.Generator().manual_seed(1)).double() * 2 + 1


def dense_top_k(pre_acts: Tensor, k: int) -> Tensor:
    values, indices = pre_acts.topk(k, dim=1)
    return torch.zeros_like(pre_acts).scatter(1, indices, values).relu()


def gradients(sae: TopK, loss: Tensor) -> dict[str, Tensor]:
    sae.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in sae.named_parameters() if p.grad is not None}


def test_aux_of_a_constant_residual_is_zero_with_finite_gradients(sae: TopK, x: Tensor) -> None:
    sae.tokens_since_fired[:] = 11
    sae.b_enc.data.fill_(-1e6)  # no latent is active, so the residual of equal tokens is constant
    out = sae.training_loss(x[:1].expand(len(x), -1))
    assert out.parts["aux"] == 0
    assert all(grad.isfinite().all() for grad in gradients(sae, out.loss).values())


def test_more_dead_latents_wanted_than_there_are(sae: TopK, x: Tensor) -> None:
    sae.tokens_since_fired[7] = 11
    assert gradients(sae, sae.training_loss(x).loss)["encoder"].isfinite().all()


@pytest.mark.parametrize(("k_aux", "aux_weight"), [(0, 0.25), (3, 0.0)])
def test_spare_latents_are_only_looked_for_where_some_are_dead_and_auxk_is_on(
    sae: TopK, k_aux: int, aux_weight: float
) -> None:
    assert sae._spare() is None
    sae.tokens_since_fired[:] = 11
    assert sae._spare() is not None
    sae.k_aux, sae.aux_weight = k_aux, aux_weight
    assert sae._spare() is None


def test_encode_gives_raw_units(sae: TopK, x: Tensor) -> None:
    x_hat, latents = sae(x)
    normalised = (x - sae.mean) * sae.scale
    dense = dense_top_k((normalised - sae.b_dec) @ sae.W_enc + sae.b_enc, K) / sae.scale
    torch.testing.assert_close(latents.to_dense(), dense)
    torch.testing.assert_close(x_hat, dense @ sae.W_dec + sae.bias())


def test_fold_keeps_latents_and_reconstruction(sae: TopK, x: Tensor) -> None:
    folded = sae.fold()
    assert folded.scale == 1
    assert not folded.mean.any()
    x_hat, latents = sae(x)
    folded_x_hat, folded_latents = folded(x)
    torch.testing.assert_close(folded_latents.to_dense(), latents.to_dense())
    torch.testing.assert_close(folded_x_hat, x_hat)
    torch.testing.assert_close(folded.W_dec, sae.W_dec)
    assert sae.scale == 0.7  # the original is untouched


def test_initialisation() -> None:
    sae = TopK(D_IN, D_SAE, K)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(D_SAE))
    torch.testing.assert_close(sae.W_enc, sae.W_dec.T)
    assert sae.encoder.is_contiguous()
    assert not sae.b_dec.any()


def test_decoder_rows_keep_unit_norm(sae: TopK, x: Tensor) -> None:
    sae.training_loss(x).loss.backward()
    torch.testing.assert_close((sae.W_dec.grad * sae.W_dec).sum(1), torch.zeros(D_SAE).double())
    with torch.no_grad():
        sae.W_dec *= 3
    sae.normalise_decoder()
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(D_SAE).double())


def test_running_counter(sae: TopK) -> None:
    fired = torch.zeros(D_SAE, dtype=torch.bool)
    fired[3] = True
    sae.count_firings(fired, 6)
    sae.count_firings(fired, 5)
    assert sae.tokens_since_fired[3] == 0
    assert sae.tokens_since_fired[4] == 11
    assert sae.dead.sum() == D_SAE - 1


def test_autocast_selects_like_full_precision() -> None:
    torch.manual_seed(0)
    sae, x = TopK(32, 512, 8), torch.randn(200, 32)
    with torch.autocast("cpu", torch.bfloat16):
        x_hat, latents = sae(x)
    assert latents.values.dtype == x_hat.dtype == torch.float32
    torch.testing.assert_close(latents.to_dense(), sae.encode(x).to_dense())


@pytest.mark.parametrize(("d_sae", "k"), [(64, 4), (64, 5), (63, 4), (16, 16), (16, 1)])
def test_two_stage_top_k_is_exact(d_sae: int, k: int) -> None:
    pre_acts = torch.randn(300, d_sae, generator=torch.Generator().manual_seed(d_sae))
    want = pre_acts.topk(k).indices.sort().values
    torch.testing.assert_close(top_k(pre_acts, k).sort().values, want)


@pytest.fixture(params=["sparse", "dense"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "DENSE", float("inf") if request.param == "sparse" else 0.0)
    monkeypatch.setattr(dense, "CHUNK", 2)


@pytest.mark.usefixtures("way")
def test_kernels_pass_gradcheck_on_rows_of_any_length() -> None:
    pattern = Pattern(torch.tensor([0, 2, 1, 2, 3]), torch.tensor([0, 2, 2, 5]), d_sae=5)
    values = torch.randn(5, dtype=torch.float64, requires_grad=True)
    rows = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    x = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, r: bag(v, r, pattern), (values, rows))
    assert torch.autograd.gradcheck(lambda x, r: dot(x, r, pattern), (x, rows))


@pytest.mark.usefixtures("way")
def test_pre_activations_have_the_gradients_of_their_formula() -> None:
    pattern = Pattern(torch.tensor([0, 2, 1, 2, 3]), torch.tensor([0, 2, 2, 5]), d_sae=5)
    random = partial(torch.randn, dtype=torch.float64, requires_grad=True)
    x, shift, rows, bias = random(3, 4), random(4), random(5, 4), random(5)
    weights = torch.randn(5, dtype=torch.float64)
    formula = ((x - shift) @ rows.T + bias)[pattern.rows, pattern.indices]
    want = torch.autograd.grad(formula @ weights, (x, shift, rows, bias))
    known = pre_activations(formula.detach(), x - shift.detach(), shift, rows, bias, Joint(pattern))
    assert torch.equal(known, formula)
    for got, expected in zip(torch.autograd.grad(known @ weights, (x, shift, rows, bias)), want, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("each", [None, K])
def test_the_smallest_active_latent_is_that_of_a_plain_loop(each: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(9, K, generator=generator) * (torch.rand(9, K, generator=generator) < 0.6)
    values[4] = 0
    indices = torch.stack([torch.randperm(D_SAE, generator=generator)[:K] for _ in values])
    smallest, latents = smallest_active(SparseLatents.from_topk(values, indices, D_SAE), each)
    for i, row in enumerate(values.tolist()):
        value, place = min(((v, p) for p, v in enumerate(row) if v > 0), default=(0, None))
        assert smallest[i] == pytest.approx(value)
        assert place is None or latents[i] == indices[i, place]


def test_latents_are_differentiable_in_the_activations(sae: TopK, x: Tensor) -> None:
    x = x[:7].clone().requires_grad_()
    sae.encode(x).values.square().sum().backward()
    got, x.grad = x.grad, None
    normalised = (x - sae.mean) * sae.scale
    dense = dense_top_k((normalised - sae.b_dec) @ sae.W_enc + sae.b_enc, K) / sae.scale
    dense.square().sum().backward()
    torch.testing.assert_close(got, x.grad)


def test_no_tokens() -> None:
    x_hat, latents = TopK(D_IN, D_SAE, K)(torch.zeros(0, D_IN))
    assert x_hat.shape == (0, D_IN)
    assert len(latents) == 0


@pytest.mark.parametrize("k", [0, -1, D_SAE + 1])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(ValueError, match=f"k must be in 1..d_sae={D_SAE}, got {k}"):
        TopK(D_IN, D_SAE, k)


def test_constant_activations_cannot_be_normalised() -> None:
    with pytest.raises(ValueError, match="constant or hold NaN"):
        TopK(D_IN, D_SAE, K).set_normalisation(torch.ones(D_IN), float("inf"))
