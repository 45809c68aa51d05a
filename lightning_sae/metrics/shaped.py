"""Metrics whose results keep their shape."""

from collections.abc import Callable
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torchmetrics import Metric


class ShapedMetric(Metric):
    """Base of metrics with results such as `[d_sae]`: torchmetrics makes scalars of those with one element.

    Example:
        >>> from lightning_sae.metrics import Density
        >>> from lightning_sae.types import SparseLatents
        >>> metric = Density(d_sae=1)
        >>> metric.update(SparseLatents.from_dense(torch.tensor([[2.0], [0.0]])))
        >>> metric.compute().tolist()
        [0.5]
    """

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        boxed = super()._wrap_compute(lambda: _Box(apply_to_collection(compute(), Tensor, torch.clone)))
        return lambda: boxed().content


class _Box:
    """A box that torchmetrics does not look into."""

    def __init__(self, content: Any) -> None:
        self.content = content
