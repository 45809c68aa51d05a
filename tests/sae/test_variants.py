"""Every variant of `conf/sae/`, against dense references by plain autograd in float64."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor

from lightning_sae.sae import (
    BatchTopK,
    Gated,
    JumpReLU,
    MatryoshkaBatchTopK,
    ReLU,
    SparseAutoencoder,
    TopK,
    load_sae,
    save_sae,
)
from lightning_sae.sae.kernels import dense
from lightning_sae.sae.kernels import topk_selection as selection
from lightning_sae.sae.kernels.value_selection import select_above, select_largest
from lightning_sae.training.clipping import clip_by_scale
from lightning_sae.types import SparseLatents

CONF = Path(__file__).parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "sae").glob("*.yaml"))
D_IN, D_SAE, N = 12, 64, 90


def build(name: str, *overrides: str) -> SparseAutoencoder:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(overrides=[f"+sae={name}", f"sae.d_sae={D_SAE}", "+sae.k_aux=3", *overrides])
    torch.manual_seed(0)
    sae: SparseAutoencoder = instantiate(config.sae)(d_in=D_IN).double()
    with torch.no_grad():
        sae.encoder += 0.3 * torch.randn_like(sae.encoder)
        sae.b_enc.normal_(0, 0.1)
        sae.b_dec.normal_(0, 0.1)
        if isinstance(sae, Gated):
            sae.r_mag.normal_(0, 0.2)
            sae.b_mag.normal_(0, 0.1)
        if isinstance(sae, JumpReLU):
            sae.log_threshold.normal_(0, 0.3)
    sae.normalise_decoder()
    sae.set_normalisation(torch.randn(D_IN).double(), 0.7)
    return sae


@pytest.fixture(params=NAMES)
def sae(request: pytest.FixtureRequest) -> SparseAutoencoder:
    sae = build(request.param)
    if isinstance(sae, BatchTopK):
        sae.threshold.fill_(0.8)
    return sae


@pytest.fixture
def x() -> Tensor:
    return torch.randn(N, D_IN, generator=torch.Generator().manual_seed(1)).double() * 2 + 1


@pytest.fixture(params=["sparse", "dense"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of the kernels, in chunks that do not divide the batch."""
    monkeypatch.setattr(dense, "DENSE", float("inf") if request.param == "sparse" else 0.0)
    monkeypatch.setattr(dense, "CHUNK", 40)
    monkeypatch.setattr(selection, "CHUNK", 40)


def top(z: Tensor, k: int) -> Tensor:
    """`z` where it is one of the `k` largest of its row, else 0."""
    return torch.zeros_like(z).scatter(1, z.topk(k).indices, 1.0) * z


def top_of_batch(z: Tensor, count: int) -> Tensor:
    flat = z.flatten()
    return (torch.zeros_like(flat).scatter(0, flat.topk(count).indices, 1.0) * flat).view_as(z)


def pre_acts(sae: SparseAutoencoder, x: Tensor) -> Tensor:
    return (x - sae.b_dec) @ sae.W_enc + sae.b_enc


def dense_latents(sae: SparseAutoencoder, x: Tensor) -> Tensor:
    """The formula of each variant in use; `x` normalised."""
    z = pre_acts(sae, x)
    if isinstance(sae, Gated):
        return (z > 0) * (sae.r_mag.exp() * ((x - sae.b_dec) @ sae.W_enc) + sae.b_mag).relu()
    if isinstance(sae, JumpReLU):
        return z * (z > sae.log_threshold.exp())
    if isinstance(sae, BatchTopK):
        return z * (z > sae.threshold)
    return top(z, sae.k).relu() if isinstance(sae, TopK) else z.relu()


def step_at(z: Tensor, theta: Tensor, width: float) -> Tensor:
    """`1[z > theta]` with the estimated derivative to theta: a rectangle, differentiable as a line."""
    near = ((z - theta).abs() < width / 2).double()
    slope = -near / width * theta
    return (z > theta).double() + slope - slope.detach()


def dense_loss(sae: SparseAutoencoder, x: Tensor, dead: Tensor) -> Tensor:
    """The whole training loss of each variant, written dense."""
    x = (x - sae.mean) * sae.scale
    z, penalty, prefixes = pre_acts(sae, x), torch.zeros(()).double(), [sae.d_sae]
    latents = dense_latents(sae, x)
    if isinstance(sae, BatchTopK):
        latents = top_of_batch(z, sae.k * len(x)).relu()
    if isinstance(sae, MatryoshkaBatchTopK):
        prefixes = [4, 8, 16, 32, 64]
    if isinstance(sae, ReLU):
        penalty = sae.l1_weight / sae.l1_warmup_steps * latents.sum(1).mean()
    if isinstance(sae, Gated):
        by_gate = z.relu() @ sae.W_dec.detach() + sae.b_dec.detach()
        penalty = sae.l1_weight / sae.l1_warmup_steps * z.relu().sum(1).mean() + (x - by_gate).square().mean()
    if isinstance(sae, JumpReLU):
        theta = sae.log_threshold.exp()
        step = step_at(z.detach(), theta, sae.bandwidth)
        latents = z * (z > theta).double() + theta.detach() * (step - step.detach())
        penalty = sae.l0_weight / sae.l0_warmup_steps * (step.sum(1).mean() / sae.target_l0 - 1).square()
    x_hats = [latents[:, :m] @ sae.W_dec[:m] + sae.b_dec for m in prefixes]
    mse = torch.stack([(x - x_hat).square().mean() for x_hat in x_hats]).mean()
    smallest = torch.where(latents > 0, latents, torch.inf).min(1)
    last = smallest.values.nan_to_num(posinf=0)[:, None] * sae.W_dec[smallest.indices]
    e = (x - x_hats[-1] + last).detach()
    z = (x - sae.b_dec.detach()) @ sae.W_enc + sae.b_enc
    e_hat = top(torch.where(dead, z, -1e9), sae.k_aux).relu() @ sae.W_dec
    aux = (e - e_hat).square().sum() / (e - e.mean(0)).square().sum()
    return mse + penalty + sae.aux_weight * aux * bool(dead.any())


def gradients(sae: SparseAutoencoder, loss: Tensor) -> dict[str, Tensor]:
    sae.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in sae.named_parameters() if p.grad is not None}


@pytest.mark.usefixtures("way")
def test_latents_are_the_formula(sae: SparseAutoencoder, x: Tensor) -> None:
    x_hat, latents = sae(x)
    normalised = (x - sae.mean) * sae.scale
    want = dense_latents(sae, normalised) / sae.scale
    assert (latents.values >= 0).all()
    torch.testing.assert_close(latents.to_dense(), want)
    torch.testing.assert_close(x_hat, want @ sae.W_dec + sae.bias())
    torch.testing.assert_close(x_hat, sae.decode(latents))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("n_dead", [0, 20])
def test_loss_and_gradients_equal_the_dense_reference(sae: SparseAutoencoder, x: Tensor, n_dead: int) -> None:
    sae.tokens_since_fired[:n_dead] = sae.dead_after + 1
    loss = sae.training_loss(x).loss
    got = gradients(sae, loss)
    reference = dense_loss(sae, x, sae.dead)
    want = gradients(sae, reference)
    want["W_dec"] -= (want["W_dec"] * sae.W_dec).sum(1, keepdim=True) * sae.W_dec.detach()
    torch.testing.assert_close(loss, reference)
    assert got.keys() == want.keys()
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=1e-8, atol=1e-12)


def test_aux_gradient_reaches_the_selected_dead_latents_and_nothing_else(
    sae: SparseAutoencoder, x: Tensor
) -> None:
    sae.tokens_since_fired[5:15] = sae.dead_after + 1
    with_aux = gradients(sae, sae.training_loss(x).loss)
    sae.aux_weight = 0.0
    without = gradients(sae, sae.training_loss(x).loss)
    for name, all_grad in with_aux.items():
        grad = torch.where((all_grad - without[name]).abs() > 1e-15, all_grad - without[name], 0)
        if name not in ("encoder", "b_enc", "W_dec"):
            assert not grad.any()
            continue
        touched = grad.flatten(1).abs().sum(1) > 0 if grad.ndim > 1 else grad != 0
        assert touched[5:15].all()
        assert not touched[:5].any()
        assert not touched[15:].any()


def test_a_batch_is_encoded_as_its_rows_are(sae: SparseAutoencoder, x: Tensor) -> None:
    rows = torch.cat([sae.encode(row[None]).to_dense() for row in x])
    torch.testing.assert_close(sae.encode(x).to_dense(), rows)


def test_active_latents_that_the_variant_promises(x: Tensor) -> None:
    for name in ("batch_topk", "matryoshka"):
        latents = build(name).encode_training(torch.randn(N, D_IN).double()).latents
        assert latents.values.count_nonzero() == N * 16
    assert (build("topk").encode(x).offsets.diff() == 16).all()


def test_the_threshold_of_a_batch_is_its_smallest_latent(x: Tensor) -> None:
    sae = build("batch_topk", "sae.k=2")
    assert isinstance(sae, BatchTopK)
    before = sae.encode_training(sae.centre(x)).latents
    assert sae.threshold == before.values.min()
    second = sae.encode_training(sae.centre(x[:7])).latents
    smallest = before.values.min() + 0.01 * (second.values.min() - before.values.min())
    torch.testing.assert_close(sae.threshold, smallest.detach())
    assert (sae.encode_normalised(sae.normalise(x)).values > sae.threshold).all()


def test_a_batch_of_no_tokens(sae: SparseAutoencoder) -> None:
    x_hat, latents = sae(torch.zeros(0, D_IN).double())
    assert x_hat.shape == (0, D_IN)
    assert len(latents) == 0


def test_a_penalty_rises_with_the_steps(x: Tensor) -> None:
    for name in ("relu", "gated", "jump_relu"):
        sae = build(name)
        weights = []
        for _ in range(3):
            weights.append(float(next(iter(sae.encode_training(x).penalties.values()))[0]))
            sae.after_step()
        assert weights == pytest.approx([weights[0], 2 * weights[0], 3 * weights[0]])
        sae.steps.fill_(10_000)
        whole = sae.config()["l0_weight" if name == "jump_relu" else "l1_weight"]
        assert float(next(iter(sae.encode_training(x).penalties.values()))[0]) == pytest.approx(whole)


def test_decoder_norm_after_a_step(sae: SparseAutoencoder, x: Tensor) -> None:
    optimiser = torch.optim.Adam(sae.parameters(), lr=0.1)
    sae.training_loss(x).loss.backward()
    torch.testing.assert_close((sae.W_dec.grad * sae.W_dec).sum(1), torch.zeros(D_SAE).double())
    optimiser.step()
    sae.after_step()
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(D_SAE).double())
    assert sae.steps == 1


def test_fold_keeps_latents_and_reconstruction(sae: SparseAutoencoder, x: Tensor) -> None:
    folded = sae.fold()
    assert folded.scale == 1
    assert not folded.mean.any()
    torch.testing.assert_close(folded.encode(x).to_dense(), sae.encode(x).to_dense())
    torch.testing.assert_close(folded(x)[0], sae(x)[0])


def test_row_norms_go_into_the_latents(x: Tensor) -> None:
    for name in ("relu", "gated", "jump_relu"):
        sae = build(name)
        sae.W_dec.data.mul_(torch.rand(D_SAE, 1).double() + 0.5)
        x_hat = sae(x)[0]
        sae.absorb_row_norms()
        torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(D_SAE).double())
        torch.testing.assert_close(sae(x)[0], x_hat)


def test_saved_and_loaded(sae: SparseAutoencoder, x: Tensor, tmp_path: Path) -> None:
    sae.float()
    save_sae(sae, tmp_path / "sae", {"clip": {}})
    loaded = load_sae(tmp_path / "sae")
    assert type(loaded) is type(sae)
    assert loaded.config() == sae.config()
    x_hat, latents = sae.fold()(x)
    again, same = loaded(x)
    assert torch.equal(again, x_hat)
    assert torch.equal(same.to_dense(), latents.to_dense())


def train(sae: SparseAutoencoder, optimiser: torch.optim.Optimizer, batches: Tensor) -> None:
    for batch in batches:
        out = sae.training_loss(batch)
        sae.zero_grad()
        out.loss.backward()
        clip_by_scale(optimiser, 1.0)
        optimiser.step()
        sae.after_step()
        sae.count_firings(out.latents.fired(), len(batch))


@pytest.mark.parametrize("name", NAMES)
def test_training_resumed_from_the_state_is_the_same(name: str) -> None:
    batches = torch.randn(6, 50, D_IN, generator=torch.Generator().manual_seed(2))
    adam = partial(torch.optim.Adam, lr=1e-2, fused=True)
    straight = build(name).float()
    optimiser = adam(straight.parameters())
    train(straight, optimiser, batches[:3])
    resumed = build(name).float()
    resumed.load_state_dict(straight.state_dict())
    again = adam(resumed.parameters())
    again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    train(straight, optimiser, batches[3:])
    train(resumed, again, batches[3:])
    for key, tensor in straight.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[key]), key


@pytest.mark.parametrize("name", NAMES)
def test_layer_norm_is_of_each_token(name: str, x: Tensor) -> None:
    sae = build(name, "sae.normalisation=layer_norm")
    assert sae.scale == 1
    normalised = (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-5)
    torch.testing.assert_close(sae.normalise(x), normalised)
    x_hat, latents = sae(x)
    shift, sigma = x.mean(1, keepdim=True), x.std(1, keepdim=True) + 1e-5
    inner = sae.encode_normalised(normalised).to_dense()
    torch.testing.assert_close(latents.to_dense(), sigma * inner)
    torch.testing.assert_close(x_hat, sigma * (inner @ sae.W_dec + sae.b_dec) + shift)
    torch.testing.assert_close(sae.fold()(x)[0], x_hat)
    with pytest.raises(ValueError, match="give the activations"):
        sae.decode(latents)


def test_no_normalisation(x: Tensor) -> None:
    sae = build("topk", "sae.normalisation=none")
    assert torch.equal(sae.normalise(x), x)


@pytest.mark.parametrize("chunk", [3, 1000])
def test_entries_of_a_product(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(selection, "CHUNK", chunk)
    x, rows, bias = torch.randn(20, 5), torch.randn(32, 5), torch.randn(32)
    z = x @ rows.T + bias
    for (values, pattern, _), mask in (
        (select_above(x, rows, bias, 0.0), z > 0),
        (select_above(x, rows, bias, rows[:, 0]), z > rows[:, 0]),
        (select_largest(x, rows, bias, 33), z >= z.flatten().topk(33).values.min()),
        (select_largest(x, rows, bias, 640), torch.ones_like(z, dtype=torch.bool)),
    ):
        got = SparseLatents(values, pattern.indices, pattern.offsets, 32)
        torch.testing.assert_close(got.to_dense(), z * mask)
        assert len(values) == mask.sum()


@pytest.mark.parametrize(
    ("variant", "arguments", "message"),
    [
        (BatchTopK, {"k": 65}, r"k must be in 1\.\.d_sae=64, got 65"),
        (ReLU, {"l1_weight": -1.0}, "at least 0, got -1.0 and 500"),
        (Gated, {"l1_weight": 1.0, "l1_warmup_steps": -1}, "at least 0, got 1.0 and -1"),
        (JumpReLU, {"l0_weight": 1.0, "bandwidth": 0.0}, "above 0, got 0.0"),
        (JumpReLU, {"l0_weight": -1.0}, "at least 0, got -1.0"),
        (MatryoshkaBatchTopK, {"k": 2, "prefixes": [0.5, 0.25, 1.0]}, "must ascend"),
        (MatryoshkaBatchTopK, {"k": 2, "prefixes": [0.5]}, "must ascend"),
        (MatryoshkaBatchTopK, {"k": 2, "prefixes": []}, "must ascend"),
        (MatryoshkaBatchTopK, {"k": 2, "prefixes": [0.001, 1.0]}, "must ascend"),
        (TopK, {"k": 2, "normalisation": "batch"}, "standard, none, layer_norm, got batch"),
        (TopK, {"k": 2, "aux_weight": -1.0}, "at least 0"),
    ],
)
def test_arguments_out_of_range(
    variant: type[SparseAutoencoder], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        variant(D_IN, D_SAE, **arguments)
