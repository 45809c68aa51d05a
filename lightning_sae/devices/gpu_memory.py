"""A GPU whose memory is too small: a message with the numbers and the settings that help."""

import re

import torch

from lightning_sae.devices.device import describe, gibibytes
from lightning_sae.devices.memory_places import FEWER_LATENTS, IN_FILES, listed, place_of


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a GPU had too little memory, for PyTorch or for a library that it calls.

    Example:
        >>> is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"))
        True
        >>> is_out_of_memory(RuntimeError("shapes do not fit"))
        False
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    words = r"CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
    return isinstance(error, RuntimeError) and re.search(words, str(error)) is not None


def too_small(error: BaseException, on_cpu: str) -> str:
    """Return the message for a GPU whose memory is too small.

    Args:
        error: `is_out_of_memory`. That of PyTorch has the numbers of its moment: what was asked for, what the
            card has, what of it is free, and what this process has reserved.
        on_cpu: what the user says to have no GPU used.
    """
    place, numbers = place_of(error), re.split(r" See documentation|\n", str(error))[0]
    card = _card(numbers)
    helps = listed({**place.settings, on_cpu: "no GPU: slower, in the memory of the machine"})
    return f"{card} ran out of memory while {place.doing}.\n{numbers}\n{helps}"


def _card(numbers: str) -> str:
    """Return the GPU that a message is about; which it is cannot be asked where CUDA did not come up."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return "the GPU"
    found = re.search(r"GPU (\d+)", numbers)
    return describe(torch.device("cuda", int(found[1]) if found else torch.cuda.current_device()))


def check_room(weights: int, device: torch.device) -> None:
    """Refuse weights that no room is left beside to train them.

    Args:
        weights: their bytes; they lie on the device.
        device: a GPU.

    Raises:
        ValueError: three times as much, for the gradient and Adam's two moments, is not free there; says what
            is needed, what is free, and what helps.
    """
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free, total = torch.cuda.mem_get_info(device)
    if 3 * weights > free + unused:
        raise ValueError(
            f"{describe(device)} has no room to train this autoencoder: beside its weights of "
            f"{gibibytes(weights)} their gradient and Adam's two moments need {gibibytes(3 * weights)}, and "
            f"{gibibytes(free + unused)} of {gibibytes(total)} are free.\n"
            f"{listed({**FEWER_LATENTS, **IN_FILES})}"
        )
