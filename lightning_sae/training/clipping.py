"""Clipping gradients without a pass over them."""

import torch
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer


@torch.no_grad()
def clip_by_scale(optimizer: Optimizer, largest: float) -> None:
    """Let the next step of a fused optimiser clip the norm of all gradients, as it reads them.

    It divides by `max(1, norm / largest)`, in the place where a gradient scaler has its factor. Equal to
    `torch.nn.utils.clip_grad_norm_`.

    Args:
        optimizer: fused, of parameters in float32, without a gradient scaler.
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
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = get_total_norm([p.grad.norm(dim=-1) for p in parameters if p.grad is not None])
    optimizer.grad_scale = (norm / largest).clamp(min=1)  # type: ignore[attr-defined]
    optimizer.found_inf = torch.zeros_like(norm)  # type: ignore[attr-defined]
