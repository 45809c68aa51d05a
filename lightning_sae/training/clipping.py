"""Clipping gradients without a pass over them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Adam, Optimizer


@torch.no_grad()
def clip_by_scale(optimizer: Optimizer, largest: float) -> None:
    """Let the next step of a fused optimiser clip the norm of all gradients, as it reads them.

    The step divides gradients by `max(1, norm / largest)`, in the place where a gradient scaler has its
    factor. The result equals that of `torch.nn.utils.clip_grad_norm_`.

    Args:
        optimizer: fused, of parameters in float32, without a gradient scaler. Each group of an `AdamOfGroups`
            is clipped by itself.
        largest: norm > 0 that is left as it is.

    Example:
        >>> parameter = torch.nn.Parameter(torch.zeros(2))
        >>> parameter.grad = torch.tensor([3.0, 4.0])
        >>> optimizer = torch.optim.SGD([parameter], lr=1.0, fused=True)
        >>> clip_by_scale(optimizer, 1.0)
        >>> optimizer.step()
        >>> parameter.data
        tensor([-0.6000, -0.8000])
    """
    groups = [group["params"] for group in optimizer.param_groups]
    if isinstance(optimizer, AdamOfGroups):
        optimizer.scales = [_scale(parameters, largest) for parameters in groups]
    else:
        optimizer.grad_scale = _scale([p for group in groups for p in group], largest)  # type: ignore[attr-defined]
    optimizer.found_inf = torch.zeros((), device=groups[0][0].device)  # type: ignore[attr-defined]


def _scale(parameters: Sequence[Tensor], largest: float) -> Tensor:
    norm = get_total_norm([p.grad.norm(dim=-1) for p in parameters if p.grad is not None])
    return (norm / largest).clamp(min=1)


class AdamOfGroups(Adam):
    """Adam of parameters that have nothing to do with each other, a group each.

    Attributes:
        scales: divisors of the groups' gradients, as a fused step reads them; empty for no division.

    Example:
        >>> parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
        >>> optimizer = AdamOfGroups([{"params": [p]} for p in parameters], lr=1.0, eps=1.0, fused=True)
        >>> for parameter, gradient in zip(parameters, (3.0, 0.5)):
        ...     parameter.grad = torch.tensor([gradient])
        >>> clip_by_scale(optimizer, 1.0)
        >>> optimizer.step()
        >>> [round(p.item(), 2) for p in parameters]  # -g / (g + eps)
        [-0.5, -0.33]
    """

    scales: Sequence[Tensor] = ()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step group by group."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not self.scales:
            super().step()
            return loss
        groups = self.param_groups
        try:
            for group, scale in zip(groups, self.scales, strict=True):
                self.param_groups, self.grad_scale = [group], scale
                super().step()
        finally:
            self.param_groups = groups
        return loss
