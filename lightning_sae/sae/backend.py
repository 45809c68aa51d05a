"""Which kernels run on a GPU: PyTorch's own, or those in Triton."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Literal, get_args

import torch
from torch import Tensor

Backend = Literal["torch", "triton"]

_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # then Triton runs on any device
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)

# Not a context variable: the backward pass of CUDA tensors runs in another thread.
_backend: Backend = "torch"


@contextmanager
def use_backend(backend: Backend) -> Iterator[None]:
    """Chooses the kernels of the autoencoders, for all threads, until the block ends.

    `"torch"` is the default, also on CUDA. The Triton kernels compute the same: they are tested by Triton's
    interpreter and compile for an H100, but have never run on a GPU, so their speed is unmeasured. They take
    CUDA tensors in float32, bfloat16 and float16 and sum in float32; other tensors stay with PyTorch.
    Enclose the backward pass as well.

    Args:
        backend: `"torch"` or `"triton"`.

    Raises:
        ValueError: another name.
        ModuleNotFoundError: Triton is not installed.

    Example:
        >>> with use_backend("torch"):
        ...     uses_triton(torch.zeros(1))
        False
    """
    global _backend
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(get_args(Backend))}, got {backend!r}")
    if backend == "triton" and find_spec("triton") is None:
        raise ModuleNotFoundError(
            'backend "triton" needs Triton, which PyTorch installs on Linux only; use "torch"'
        )
    before, _backend = _backend, backend
    try:
        yield
    finally:
        _backend = before


def uses_triton(tensor: Tensor) -> bool:
    """Whether the kernels in Triton are chosen and take this tensor."""
    return _backend == "triton" and tensor.dtype in _DTYPES and (tensor.is_cuda or _INTERPRETED)
