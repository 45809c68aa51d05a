"""Run by `test_triton_kernels.py` in a process in which Triton interprets its programs on the CPU."""

import pytest
import torch
from torch import Tensor

from lightning_sae.sae import TopK, triton_kernels, use_backend
from lightning_sae.sae import dense as dense_products
from lightning_sae.sae.kernels import bag, dot
from lightning_sae.sae.pattern import Pattern

LENGTHS = [3, 0, 40, 1, 0]  # entries of each token: none, more than a tile
D_SAE = 37
SHAPES = [(1, 1), (7, 1), (7, 7), (100, 33), (600, 512), (4096, 64), (4097, 5), (9001, 70)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def sparse_however_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_products, "DENSE", float("inf"))


@pytest.fixture
def pattern() -> Pattern:
    offsets = torch.tensor([0, *LENGTHS]).cumsum(0)
    indices = torch.randint(0, D_SAE - 1, (sum(LENGTHS),), generator=torch.Generator().manual_seed(0))
    return Pattern(indices, offsets, D_SAE)  # the last latent is active nowhere


def dense(values: Tensor, pattern: Pattern) -> Tensor:
    latents = values.new_zeros(len(LENGTHS), D_SAE)
    return latents.index_put((pattern.rows, pattern.indices), values, accumulate=True)


def first_of_equals(x: Tensor, k: int) -> Tensor:
    """A stable sort keeps equal entries in their order."""
    return x.sort(dim=1, descending=True, stable=True).indices[:, :k].sort().values


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("d_sae", "k"), SHAPES)
def test_top_k(d_sae: int, k: int, dtype: torch.dtype) -> None:
    x = random(3, d_sae).to(dtype)
    torch.testing.assert_close(triton_kernels.top_k(x, k), first_of_equals(x, k))


@pytest.mark.parametrize(("d_sae", "k"), SHAPES)
def test_top_k_among_ties_and_infinities(d_sae: int, k: int) -> None:
    x = random(5, d_sae).round() + 0.0  # no -0
    x[1] = -torch.inf
    x[2, d_sae // 2 :] = -torch.inf
    x[3] = 0.0
    x[4, ::3] = torch.inf
    torch.testing.assert_close(triton_kernels.top_k(x, k), first_of_equals(x, k))


def test_top_k_takes_not_a_number_for_the_largest() -> None:
    x = torch.tensor([[1.0, torch.nan, torch.inf, -torch.nan], [torch.nan] * 4])
    assert triton_kernels.top_k(x, 3).tolist() == [[1, 2, 3], [0, 1, 2]]


def test_top_k_of_no_rows_and_of_a_view() -> None:
    assert triton_kernels.top_k(torch.zeros(0, 9), 2).shape == (0, 2)
    x = random(50, 4).T
    torch.testing.assert_close(triton_kernels.top_k(x, 6), first_of_equals(x, 6))


@pytest.mark.parametrize(("d_sae", "k", "most"), [(8, 9, 8), (8, 0, 8), (5000, 1025, 1024)])
def test_top_k_out_of_range(d_sae: int, k: int, most: int) -> None:
    with pytest.raises(ValueError, match=f"k must be in 1..{most} for d_sae={d_sae}, got {k}"):
        triton_kernels.top_k(torch.zeros(1, d_sae), k)


@pytest.mark.parametrize("width", [1, 5, 128, 200])
def test_products_and_their_gradients_equal_the_dense_ones_in_float64(pattern: Pattern, width: int) -> None:
    values = random(len(pattern.indices)).requires_grad_()
    x, rows = (random(n, width, seed=n).requires_grad_() for n in (len(LENGTHS), D_SAE))
    with use_backend("triton"):
        got_bag, got_dot = bag(values, rows, pattern), dot(x, rows, pattern)
        loss = (got_bag * x.detach()).sum() + (got_dot * values.detach()).sum()
        got = torch.autograd.grad(loss, (values, rows, x))
    values, rows, x = (tensor.detach().double().requires_grad_() for tensor in (values, rows, x))
    want_bag = dense(values, pattern) @ rows
    want_dot = (x @ rows.T)[pattern.rows, pattern.indices]
    loss = (want_bag * x.detach()).sum() + (want_dot * values.detach()).sum()
    want = torch.autograd.grad(loss, (values, rows, x))
    for ours, reference in zip((got_bag, got_dot, *got), (want_bag, want_dot, *want), strict=True):
        error = (ours.double() - reference).norm() / reference.norm()
        assert error < 1e-6
    assert not got_bag[1].any()
    assert not got[1][-1].any()


def test_bfloat16_is_summed_in_float32(pattern: Pattern) -> None:
    values, rows = random(len(pattern.indices)).bfloat16(), random(D_SAE, 9).bfloat16()
    x = random(len(LENGTHS), 9, seed=1).bfloat16()
    with use_backend("triton"):
        sums, products = bag(values, rows, pattern), dot(x, rows, pattern)
    # within one step of bfloat16: the interpreter cuts bits off where a GPU rounds
    want = (dense(values.double(), pattern) @ rows.double()).bfloat16()
    torch.testing.assert_close(sums, want, rtol=2**-7, atol=1e-5)
    want = (x.double() @ rows.double().T)[pattern.rows, pattern.indices].bfloat16()
    torch.testing.assert_close(products, want, rtol=2**-7, atol=1e-5)


def test_no_tokens_and_no_entries() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    rows = random(D_SAE, 3)
    assert triton_kernels.bag(random(0), rows, nothing, torch.zeros(1, dtype=torch.int64)).shape == (0, 3)
    assert not triton_kernels.bag(random(0), rows, nothing, torch.zeros(4, dtype=torch.int64)).any()
    assert triton_kernels.dot(random(2, 3), rows, nothing, nothing).shape == (0,)


def test_a_training_step_with_dead_latents_equals_pytorch() -> None:
    torch.manual_seed(0)
    sae, x = TopK(d_in=12, d_sae=50, k=4, k_aux=3, dead_after=10), random(9, 12)
    sae.tokens_since_fired[:20] = 11

    def step() -> tuple[Tensor, list[Tensor]]:
        sae.zero_grad()
        out = sae.training_loss(x)
        out.loss.backward()
        return out.latents.indices.view(9, 4), [
            p.grad.clone() for p in sae.parameters() if p.grad is not None
        ]

    want_indices, want = step()
    with use_backend("triton"):
        indices, got = step()
        _, again = step()
    # which of a token's latents comes first depends on the processor
    torch.testing.assert_close(indices.sort().values, want_indices.sort().values)
    torch.testing.assert_close(got, want)
    assert len(got) == 4
    assert all(map(torch.equal, got, again))
