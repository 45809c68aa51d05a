"""The pretend device itself: it refuses what CUDA refuses, and notes where a GPU would be waited for."""

from collections.abc import Callable, Iterator

import pytest
import torch
from pretend import DEVICE, pretend, waits
from torch import Tensor


@pytest.fixture(autouse=True)
def device() -> Iterator[None]:
    with pretend():
        yield


def x() -> Tensor:
    return torch.arange(6.0, device=DEVICE).view(2, 3)


def test_tensors_of_two_devices_do_not_mix() -> None:
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        x() + torch.ones(2, 3)
    with pytest.raises(RuntimeError, match="indices should be either on cpu"):
        torch.ones(6)[x().long()]
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        x()[torch.tensor([0])] = torch.ones(1, 3)
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        torch.stack([x().sum(), torch.tensor(1.0)])
    with pytest.raises(RuntimeError, match="device type for generator"):
        torch.randperm(3, generator=torch.Generator(), device=DEVICE)
    with pytest.raises(TypeError, match="can't convert pretend:0"):
        x().numpy()
    assert x()[torch.tensor([1])].cpu().tolist() == [[3, 4, 5]]
    assert (x() + torch.ones(2, 3).to(DEVICE)).cpu().tolist() == [[1, 2, 3], [4, 5, 6]]


def test_gradients_are_those_of_the_cpu() -> None:
    weights = torch.ones(3, device=DEVICE, requires_grad=True)
    (x() @ weights).square().sum().backward()
    assert weights.grad is not None
    assert weights.grad.device == DEVICE
    assert weights.grad.cpu().tolist() == [72.0, 102.0, 132.0]


@pytest.mark.parametrize(
    "act",
    [
        lambda: x().sum().item(),
        lambda: bool(x().sum()),
        lambda: float(x()[0, 0]),
        lambda: x().tolist(),
        lambda: x().nonzero(),
        lambda: x()[x() > 2],
        lambda: x().cpu(),
        lambda: x()[0].long().repeat_interleave(x()[0].long()),
    ],
)
def test_each_wait_is_noted_once_with_its_place(act: Callable[[], object]) -> None:
    with waits() as places:
        act()
    assert len(places) == 1
    assert "tests/devices/test_pretend.py" in places[0] or "elsewhere" in places[0]


def test_what_a_gpu_does_by_itself_is_not_noted() -> None:
    with waits() as places:
        y = torch.where(x() > 2, x(), 0).cumsum(1)
        y.index_fill_(0, torch.zeros(1, dtype=torch.int64, device=DEVICE), 1.0)
        y.topk(2, dim=1)
        x()[0].long().repeat_interleave(x()[0].long(), output_size=3)
        torch.ones(3).to(DEVICE)
    assert places == []
