"""The largest entries, of one rank; `tests/distributed` has several."""

import pytest
import torch

from lightning_sae.sae.kernels import distributed as ranks
from lightning_sae.sae.kernels.value_selection import select_largest


def stable(values: torch.Tensor, count: int) -> torch.Tensor:
    """The places of the largest by a plain sort, of equal ones the first."""
    return values.sort(descending=True, stable=True).indices[:count].sort().values


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 7, 150, 300])
def test_the_largest_are_those_of_a_sort(dtype: torch.dtype, count: int) -> None:
    torch.manual_seed(count)
    values = torch.randn(300, dtype=dtype)
    values[::3] = values[::3].round()  # ties, and zeros of both signs
    assert torch.equal(ranks.largest(values, count).nonzero().squeeze(1), stable(values, count))


@pytest.mark.parametrize("count", [1, 10, 60, 96])
def test_of_equal_entries_of_a_batch_the_first_are_selected(count: int) -> None:
    x = torch.randn(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = torch.cat([x.round(), x.round(), x.round()])  # exact products: the same entries three times
    rows = torch.eye(8, dtype=torch.float64)
    values, pattern, _ = select_largest(x, rows, torch.zeros(8, dtype=torch.float64), count)
    places = stable((x @ rows.T).flatten(), count)
    assert torch.equal(pattern.rows * 8 + pattern.indices, places)
    assert torch.equal(values, (x @ rows.T).flatten()[places])


def test_one_rank_is_its_own_mean_and_minimum() -> None:
    value = torch.tensor([1.0, -2.0], requires_grad=True)
    ranks.mean(value).square().sum().backward()
    assert value.grad is not None
    assert value.grad.tolist() == [2.0, -4.0]
    assert ranks.minimum(value.detach()).tolist() == [1.0, -2.0]
