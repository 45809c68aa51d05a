"""The selected latents are those of a plain dense top-k in float64, whatever the way."""

import pytest
import torch
from torch import Tensor

from lightning_sae.sae import TopK
from lightning_sae.sae.kernels import topk_selection as selection
from lightning_sae.sae.kernels.topk_selection import CHUNK, ROUNDING, select, top_k

WAYS = ["exact", "screened", "checked"]


def draw(d_sae: int, n: int = CHUNK + 37, d_in: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(d_sae)
    rows = torch.nn.functional.normalize(torch.randn(d_sae, d_in, generator=generator), dim=1)
    return torch.randn(n, d_in, generator=generator), rows, 0.1 * torch.randn(d_sae, generator=generator)


def largest(x: Tensor, rows: Tensor, bias: Tensor, k: int) -> Tensor:
    return (x.double() @ rows.double().T + bias.double()).topk(k).indices.sort().values


def indistinguishable(d_sae: int = 96, d_in: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """Rows that bf16 cannot tell apart, in an order of their own."""
    rows = 1 + 2.0**-12 * torch.randperm(d_sae, generator=torch.Generator().manual_seed(0))[:, None] / d_sae
    return torch.ones(5, d_in), rows.expand(d_sae, d_in).contiguous(), torch.zeros(d_sae)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("d_sae", "k"), [(256, 8), (257, 8), (64, 5), (16, 16), (33, 1), (48, 40)])
def test_selection_is_the_dense_top_k(way: str, d_sae: int, k: int) -> None:
    x, rows, bias = draw(d_sae)
    assert torch.equal(select(x, rows, bias, k, way)[0].sort().values, largest(x, rows, bias, k))


@pytest.mark.parametrize("way", WAYS)
def test_values_are_those_of_the_indices(way: str) -> None:
    x, rows, bias = draw(256)
    indices, values = select(x, rows, bias, 8, way)
    pre_acts = x.double() @ rows.double().T + bias
    torch.testing.assert_close(values, pre_acts.gather(1, indices).float())


@pytest.mark.parametrize("way", WAYS)
def test_chunks_do_not_matter(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, rows, bias = draw(128)
    want = select(x, rows, bias, 6, way)[0].sort().values
    monkeypatch.setattr(selection, "CHUNK", 10)
    assert torch.equal(select(x, rows, bias, 6, way)[0].sort().values, want)


def test_only_a_checked_screening_sees_what_rounding_hides() -> None:
    x, rows, bias = indistinguishable()
    want = largest(x, rows, bias, 4)
    assert not torch.equal(select(x, rows, bias, 4, "screened")[0].sort().values, want)
    assert torch.equal(select(x, rows, bias, 4, "checked")[0].sort().values, want)


def test_a_check_needs_no_second_product_where_the_gap_is_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, bias = torch.eye(64), torch.zeros(64)
    x = torch.linspace(1, 64, 64).flip(0).repeat(3, 1)  # the gap to candidate 7 is 3, the bound about 2
    products: list[torch.dtype] = []
    dense = torch.addmm

    def counted(bias: Tensor, x: Tensor, rows: Tensor, **out: Tensor) -> Tensor:
        products.extend([x.dtype] * bool(len(x)))
        return dense(bias, x, rows, **out)

    monkeypatch.setattr(torch, "addmm", counted)
    x = x / x.norm(dim=1, keepdim=True) * 4
    assert torch.equal(select(x, rows, bias, 4, "checked")[0].sort().values, torch.arange(4).repeat(3, 1))
    assert products == [torch.bfloat16]


def test_the_bound_holds() -> None:
    x, rows, bias = draw(2000, n=200, d_in=96)
    low = torch.addmm(bias.bfloat16(), x.bfloat16(), rows.bfloat16().T).double()
    exact = x.double() @ rows.double().T + bias.double()
    bound = selection._highest_outside(x, rows, bias, low.amax(1)) - low.amax(1)
    assert ((exact - low).abs().amax(1) <= bound).all()
    assert (bound < 4 * ROUNDING * (x.norm(dim=1) + low.abs().amax(1) + 1)).all()


@pytest.mark.parametrize("way", WAYS)
def test_ties_and_infinities(way: str) -> None:
    x, rows = torch.ones(2, 4), torch.zeros(40, 4)
    bias = torch.full((40,), -torch.inf)
    bias[[3, 5, 30]] = 1.0
    chosen = select(x, rows, bias, 4, way)[0].sort().values
    assert {3, 5, 30} <= set(chosen[0].tolist())
    assert len(set(chosen[0].tolist())) == 4
    equal = select(x, rows, torch.zeros(40), 7, way)[0]
    assert all(len(set(row.tolist())) == 7 for row in equal)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_two_stages_take_any_precision(dtype: torch.dtype) -> None:
    pre_acts = torch.randn(50, 320, generator=torch.Generator().manual_seed(0)).to(dtype)
    chosen = top_k(pre_acts, 9)
    assert all(len(set(row.tolist())) == 9 for row in chosen)
    got = pre_acts.gather(1, chosen).sort(descending=True).values
    assert torch.equal(got, pre_acts.topk(9).values)


def test_auto_is_exact_without_hardware_and_screened_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    x, rows, bias = indistinguishable()
    want = largest(x, rows, bias, 4)
    assert torch.equal(select(x, rows, bias, 4, "auto")[0].sort().values, want)
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(select(x, rows, bias, 4, "auto")[0].sort().values, want)
        assert torch.equal(select(x, rows, bias, 4, "exact")[0].sort().values, want)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert not torch.equal(select(x, rows, bias, 4, "auto")[0].sort().values, want)


@pytest.mark.parametrize("fast", [True, False])
def test_a_gpu_screens_where_it_multiplies_bf16(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: not fast)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: fast)
    assert selection._bf16_is_fast("cuda") is fast
    assert selection._bf16_is_fast("cpu") is not fast
    assert not selection._bf16_is_fast("mps")


def test_unknown_selection() -> None:
    with pytest.raises(ValueError, match="selection must be one of auto, exact, screened, checked, got fast"):
        TopK(4, 8, 2, selection="fast")
