"""A batch that is spread over processes as a whole: means, minima and the largest entries over the ranks.

Without a process group every function is that of one rank. All ranks have to call it, with tensors alike.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean(value: Tensor) -> Tensor:
    """Return the mean of the ranks' values, with the gradient of this rank's own value.

    DDP's mean over the ranks' gradients makes this the gradient of the mean, also behind a function that is
    not linear, such as a penalty on the L0 of the whole batch.

    Args:
        value: floating point, of any shape.

    Example:
        >>> mean(torch.tensor([1.0, 2.0])).tolist()
        [1.0, 2.0]
    """
    if world_size() == 1:
        return value
    here = value.detach()
    return _total(here) / world_size() + (value - here)


def minimum(value: Tensor) -> Tensor:
    """Return the smallest of the ranks' values, entry by entry, without a gradient."""
    if world_size() == 1:
        return value
    value = value.detach().clone()
    dist.all_reduce(value, dist.ReduceOp.MIN)
    return value


@torch.no_grad()
def largest(values: Tensor, count: int) -> Tensor:
    """Return which of this rank's values are among the `count` largest of all ranks.

    Among equal values the first ones are chosen, rank by rank and in their order. The bits of the smallest
    chosen value are found eight at a time, by counting how many values have larger bits.

    Args:
        values: `[m]`, another number on each rank.
        count: at most as many as all ranks have.

    Returns:
        `[m]` bool.

    Example:
        >>> largest(torch.tensor([3.0, -1.0, 2.0, 3.0, 2.0]), 3).tolist()
        [True, False, True, True, False]
    """
    bits, width = _ascending_bits(values)
    chosen, open_ = torch.zeros_like(bits, dtype=torch.bool), torch.ones_like(bits, dtype=torch.bool)
    for shift in range(width - 8, -8, -8):
        digit = (bits >> shift) & 255
        counts = _total(torch.bincount(digit[open_], minlength=256))
        larger = counts.flip(0).cumsum(0).flip(0) - counts
        lowest = int((larger < count).nonzero()[0])  # the digit at which enough are as large
        chosen |= open_ & (digit > lowest)
        open_ &= digit == lowest
        count -= int(larger[lowest])
    return chosen | (open_ & (open_.cumsum(0) <= count - _on_lower_ranks(open_.sum())))


def _ascending_bits(values: Tensor) -> tuple[Tensor, int]:
    """Return the bits of floating-point numbers in an ascending form, and how many bits each has.

    The bits, read as natural numbers, ascend with the floating-point numbers.
    """
    values = (values if values.dtype == torch.float64 else values.float()) + 0.0  # no -0.0
    kind = torch.int64 if values.dtype == torch.float64 else torch.int32
    bits = values.view(kind)
    negative = bits < 0
    return torch.where(negative, ~bits, bits ^ torch.iinfo(kind).min), 8 * values.itemsize


def _on_lower_ranks(n: Tensor) -> int:
    """Return the sum of a count over the ranks before this one."""
    if world_size() == 1:
        return 0
    counts = n.new_zeros(world_size())
    counts[dist.get_rank()] = n
    return int(_total(counts)[: dist.get_rank()].sum())


def _total(value: Tensor) -> Tensor:
    """Return the sum of the ranks' values."""
    if world_size() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value
