"""The kernels on the hardware against float64, and that they are what a training uses."""

import copy

import pytest
import torch
from torch import Tensor

from lightning_sae.sae import BatchTopK, JumpReLU, MatryoshkaBatchTopK, SparseAutoencoder, TopK
from lightning_sae.sae.kernels import triton_products, triton_selection
from lightning_sae.sae.kernels.backend import uses_triton
from lightning_sae.sae.kernels.pattern import Pattern
from lightning_sae.sae.kernels.products import bag, dot
from lightning_sae.sae.kernels.topk_selection import Spare, select_with_spare
from lightning_sae.sae.kernels.value_selection import select_largest

N, D_IN, D_SAE, K = 512, 200, 3000, 32


def random(*shape: int, device: torch.device, seed: int = 0) -> Tensor:
    generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=device)


def error(got: Tensor, want: Tensor) -> float:
    return float((got.double() - want).norm() / want.norm())


def test_triton_is_the_default_on_a_gpu(device: torch.device) -> None:
    assert uses_triton(torch.zeros(1, device=device))
    assert not uses_triton(torch.zeros(1, device=device), "torch")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("d_sae", "k"), [(32_768, 64), (24_576, 20), (1000, 33), (4097, 1)])
def test_candidates_hold_the_largest(device: torch.device, d_sae: int, k: int, dtype: torch.dtype) -> None:
    x = random(64, d_sae, device=device).to(dtype)
    found = triton_selection.candidates(x, k)
    cap = len(found.found) // len(x)
    is_one = torch.arange(cap, device=device) < found.counts[:, None]
    columns = torch.where(is_one, found.found.view(len(x), cap), d_sae).long()
    held = torch.zeros(len(x), d_sae + 1, dtype=torch.bool, device=device).scatter_(1, columns, True)[:, :-1]
    assert torch.equal(held.sum(1), found.counts.long())
    assert (held | (x <= x.topk(k).values[:, -1:])).all()
    assert (found.counts >= k).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kth_largest_number(device: torch.device, dtype: torch.dtype) -> None:
    x = random(1_000_000, device=device).to(dtype)
    for count in (1, 1000, 999_999):
        assert triton_selection.kth_largest(x, count) == x.sort(descending=True).values[count - 1]


@pytest.mark.parametrize("way", ["exact", "screened", "checked"])
def test_a_selection_is_that_of_float64(device: torch.device, way: str) -> None:
    x, rows = random(N, D_IN, device=device), random(D_SAE, D_IN, device=device, seed=1)
    bias, kept = random(D_SAE, device=device, seed=2), torch.arange(D_SAE, device=device) % 20 == 0
    first, second = select_with_spare(x, rows, bias, K, Spare(kept, 3), way)  # type: ignore[arg-type]
    pre_acts = x.double() @ rows.double().T + bias.double()
    assert second is not None
    for chosen, among, k in ((first, pre_acts, K), (second, pre_acts.where(kept, -torch.inf), 3)):
        # where float32 cannot tell two pre-activations apart, either may be chosen
        torch.testing.assert_close(
            pre_acts.gather(1, chosen.indices).sort().values, among.topk(k).values.sort().values
        )
        torch.testing.assert_close(chosen.values.double(), pre_acts.gather(1, chosen.indices))


@pytest.mark.parametrize("way", ["exact", "screened"])
def test_the_largest_of_a_batch(device: torch.device, way: str) -> None:
    x, rows = random(N, D_IN, device=device), random(D_SAE, D_IN, device=device, seed=1)
    x[:5] *= 3  # they have the most
    got = select_largest(x, rows, torch.zeros(D_SAE, device=device), N * K, way)  # type: ignore[arg-type]
    pre_acts = (x.double() @ rows.double().T).flatten()
    places = got.pattern.rows * D_SAE + got.pattern.indices
    assert len(places.unique()) == N * K
    torch.testing.assert_close(pre_acts[places].sort().values, pre_acts.topk(N * K).values.sort().values)


def test_products_with_rows_of_any_length(device: torch.device) -> None:
    counts = torch.randint(0, 200, (N,), device=device, generator=torch.Generator(device).manual_seed(0))
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    nnz = int(offsets[-1])
    indices = torch.randint(0, D_SAE, (nnz,), device=device)
    indices[::2] = 7  # a latent that is active on most tokens
    pattern = Pattern(indices, offsets, D_SAE)
    values, x = random(nnz, device=device), random(N, D_IN, device=device, seed=1)
    rows = random(D_SAE, D_IN, device=device, seed=2)
    arguments = [t.requires_grad_() for t in (values, rows, x)]
    loss = (bag(values, rows, pattern) * x.detach()).sum() + (dot(x, rows, pattern) * values.detach()).sum()
    got = torch.autograd.grad(loss, arguments)
    values, rows, x = (t.detach().double().requires_grad_() for t in arguments)
    latents = torch.zeros(N, D_SAE, dtype=torch.double, device=device)
    latents = latents.index_put((pattern.rows, indices), values, accumulate=True)
    loss = ((latents @ rows) * x.detach()).sum() + (latents.detach() * (x @ rows.T)).sum()
    want = torch.autograd.grad(loss, (values, rows, x))
    assert all(error(ours, reference) < 1e-6 for ours, reference in zip(got, want, strict=True))


@pytest.mark.parametrize("ends", [(D_SAE,), (100, 900, D_SAE)])
def test_residuals_of_prefixes(device: torch.device, ends: tuple[int, ...]) -> None:
    target, rows = random(N, D_IN, device=device), random(D_SAE, D_IN, device=device, seed=1)
    indices = random(N, D_SAE, device=device, seed=2).topk(K).indices
    values, out = random(N * K, device=device, seed=3), torch.empty(N * len(ends), D_IN, device=device)
    pattern, stops = Pattern.from_topk(indices, D_SAE), torch.tensor(ends, device=device)
    for each in (K, None):
        got = triton_products.residuals(
            target, values, rows, pattern.indices, pattern.offsets, stops, out, each
        )
        latents = torch.zeros(N, D_SAE, dtype=torch.double, device=device)
        latents.scatter_(1, indices, values.view(N, K).double())
        left = torch.stack([target - latents[:, :end] @ rows[:end].double() for end in ends], 1)
        suffixes = left.flip(1).cumsum(1).flip(1)
        part = torch.searchsorted(stops, pattern.indices, right=True)
        products = (suffixes[pattern.rows, part] * rows[pattern.indices]).sum(1)
        assert error(out, suffixes.flatten(0, 1)) < 1e-6
        assert error(got.products, products) < 1e-6
        assert error(got.squares, left.square().sum()) < 1e-6


@pytest.mark.parametrize("variant", [TopK, BatchTopK, MatryoshkaBatchTopK, JumpReLU])
@pytest.mark.parametrize("n_dead", [0, 100])
def test_a_training_step_is_that_of_float64_and_repeats_to_the_bit(
    device: torch.device, variant: type[SparseAutoencoder], n_dead: int
) -> None:
    torch.manual_seed(0)
    own = {"l0_weight": 0.1, "threshold": 2.0} if variant is JumpReLU else {"k": K}
    with device:
        sae = variant(D_IN, D_SAE, dead_after=10, k_aux=4, **own)  # type: ignore[arg-type]
    sae.tokens_since_fired[:n_dead] = 11
    reference, x = copy.deepcopy(sae).double(), random(N, D_IN, device=device)

    def step(sae: SparseAutoencoder, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        sae.zero_grad()
        loss = sae.training_loss(x).loss
        loss.backward()
        return loss.detach(), {
            name: p.grad.clone() for name, p in sae.named_parameters() if p.grad is not None
        }

    loss, grads = step(sae, x)
    if isinstance(sae, BatchTopK):
        sae.threshold.zero_()
    again = step(sae, x)[1]
    want_loss, want = step(reference, x.double())
    assert error(loss, want_loss) < 1e-5
    assert grads.keys() == want.keys()
    for name, grad in grads.items():
        assert error(grad, want[name]) < 1e-4, name  # a latent in doubt may be another one
        assert torch.equal(grad, again[name]), name


def test_no_wait_for_the_gpu_in_a_step(device: torch.device) -> None:
    with device:
        sae = TopK(D_IN, D_SAE, K, dead_after=10)
    sae.tokens_since_fired[:100] = 11
    optimiser = torch.optim.Adam(sae.parameters(), fused=True)
    x = random(N, D_IN, device=device)
    for step in range(3):
        if step == 2:
            torch.cuda.set_sync_debug_mode("error")
        try:
            out = sae.training_loss(x)
            sae.zero_grad()
            out.loss.backward()
            optimiser.step()
            sae.after_step()
            sae.count_firings(out.latents.fired(), N)
        finally:
            torch.cuda.set_sync_debug_mode("default")
