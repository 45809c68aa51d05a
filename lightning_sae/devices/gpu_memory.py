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
        error: an error for which `is_out_of_memory` holds. PyTorch's errors contain the numbers of that
            moment: requested, total, free and reserved memory.
        on_cpu: argument by which the user turns off the use of a GPU.
    """
    place, numbers = place_of(error), re.split(r" See documentation|\n", str(error))[0]
    card = _card(numbers)
    helps = listed({**place.settings, on_cpu: "no GPU: slower, in the memory of the machine"})
    return f"{card} ran out of memory while {place.doing}.\n{numbers}\n{helps}"


def _card(numbers: str) -> str:
    """Return the GPU that a message is about; it cannot be described where CUDA did not start."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return "the GPU"
    found = re.search(r"GPU (\d+)", numbers)
    return describe(torch.device("cuda", int(found[1]) if found else torch.cuda.current_device()))


def check_room(weights: int, device: torch.device) -> None:
    """Refuse weights that leave too little free memory to train them.

    Args:
        weights: bytes of the weights, which already lie on the device.
        device: a GPU.

    Raises:
        ValueError: the device has less free memory than three times the weights, for the gradient and
            Adam's two moments; the message says what is needed, what is free, and what helps.
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
