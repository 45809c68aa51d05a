"""Large memory that is used again and again."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor


class Workspace:
    """A store of tensors that are no longer in use, for the next tensor of the same shape.

    On a CPU a large tensor is made of fresh pages of the system each time, which takes longer than to fill
    it. What is given must not be read afterwards. A copy of a workspace is empty.

    Example:
        >>> workspace = Workspace()
        >>> first = workspace.take([2, 3], torch.float32, "cpu")
        >>> workspace.give(first)
        >>> workspace.take([2, 3], torch.float32, "cpu") is first
        True
    """

    def __init__(self) -> None:
        self._spare: list[Tensor] = []

    def take(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device | str) -> Tensor:
        """Return a contiguous tensor with any content."""
        wanted = tuple(shape), dtype, torch.device(device)
        for place, tensor in enumerate(self._spare):
            if (tuple(tensor.shape), tensor.dtype, tensor.device) == wanted:
                return self._spare.pop(place)
        with torch.inference_mode(False):  # or it could not be written to in training
            return torch.empty(*shape, dtype=dtype, device=device)

    def give(self, tensor: Tensor) -> None:
        """Keep a tensor of a CPU for the next `take`; a GPU's own allocator does so."""
        if tensor.device.type == "cpu" and tensor.is_contiguous() and not tensor._is_view():
            self._spare.append(tensor)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)()

    def __getstate__(self) -> dict[str, Any]:
        return {"_spare": []}
