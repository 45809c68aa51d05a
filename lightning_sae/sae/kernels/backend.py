"""Which kernels run on a GPU: PyTorch's own, or those in Triton."""

import os
import warnings
from functools import cache
from importlib.util import find_spec
from typing import Literal, get_args

import torch
from torch import Tensor

Kernels = Literal["auto", "torch", "triton"]

OLDEST = (8, 0)  # compute capability with units that multiply bf16 matrices
OLDEST_TRITON = (3, 4)  # of PyTorch 2.8, for which the tests compile the programs
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # then Triton runs on any device
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def check_kernels(kernels: str) -> None:
    """Refuse a choice that there is not.

    Raises:
        ValueError: another name than `auto`, `torch` and `triton`.
    """
    if kernels not in get_args(Kernels):
        raise ValueError(f"kernels must be one of {', '.join(get_args(Kernels))}, got {kernels}")


def uses_triton(tensor: Tensor, kernels: Kernels = "auto") -> bool:
    """Return whether the kernels in Triton compute with this tensor.

    They take float32, bfloat16 and float16 on CUDA, and sum in float32; all else stays with PyTorch.

    Args:
        tensor: one that the kernels compute with.
        kernels: `auto` takes Triton's where they compile and says once where they do not; `torch` never;
            `triton` lets an error of the compiler through.

    Raises:
        ModuleNotFoundError: `triton` on CUDA without Triton.

    Example:
        >>> uses_triton(torch.zeros(1), "auto")
        False
    """
    if kernels == "torch" or tensor.dtype not in _DTYPES:
        return False
    if _INTERPRETED:
        return kernels == "triton"
    if not tensor.is_cuda:
        return False
    if kernels == "triton" and find_spec("triton") is None:
        raise ModuleNotFoundError(
            "kernels=triton needs Triton, which PyTorch installs on Linux only; use kernels=auto or torch"
        )
    return kernels == "triton" or _compiles(tensor.get_device())


@cache
def _compiles(index: int) -> bool:
    """Return whether Triton compiles a program for this GPU that computes what it should; warn if not."""
    try:
        if torch.cuda.get_device_capability(index) < OLDEST:
            raise RuntimeError(f"the GPU is older than compute capability {OLDEST[0]}.{OLDEST[1]}")
        import triton

        from lightning_sae.sae.kernels.triton_products import bag

        if tuple(map(int, triton.__version__.split(".")[:2])) < OLDEST_TRITON:
            raise RuntimeError(f"Triton {triton.__version__} is older than 3.4, which PyTorch 2.8 installs")
        device = torch.device("cuda", index)
        rows, entries = torch.ones(1, 16, device=device), torch.zeros(2, dtype=torch.int64, device=device)
        found = bag(torch.ones(2, device=device), rows, entries, torch.tensor([0, 2], device=device))
        if not bool((found == 2).all()):
            raise RuntimeError("a program computed a wrong sum")
    except Exception as error:  # whatever a compiler may raise: the warning says it
        cause = str(error).strip().splitlines() or [type(error).__name__]
        warnings.warn(f"Triton cannot be used, PyTorch's slower kernels are: {cause[0]}", stacklevel=2)
        return False
    return True
