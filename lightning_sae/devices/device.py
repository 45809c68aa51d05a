"""The device that models run on: the user's choice, and a description in words."""

import os
import re

import torch

AUTO = "auto"


def use_device(choice: str = AUTO) -> torch.device:
    """Find the device that a user names, and print one line that describes it.

    Raises:
        ValueError: as `find_device`.

    Example:
        >>> use_device("cpu").type
        device: cpu (... thread...)
        'cpu'
    """
    device = find_device(choice)
    print(f"device: {describe(device)}", flush=True)
    return device


def find_device(choice: str = AUTO) -> torch.device:
    """Return the device that a user names.

    Args:
        choice: `auto`, the current GPU where there is one, else the CPU; `cpu`; `cuda`, the current GPU; or
            `cuda:N`.

    Raises:
        ValueError: the choice is none of these, or the GPU is not there.

    Example:
        >>> find_device("gpu")
        Traceback (most recent call last):
        ValueError: device must be auto, cpu, cuda or cuda:N (N = 0, 1, ...), got 'gpu'
    """
    if choice == "cpu" or (choice == AUTO and not torch.cuda.is_available()):
        return torch.device("cpu")
    matched = re.fullmatch(r"auto|cuda(?::(\d+))?", choice)
    if matched is None:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N (N = 0, 1, ...), got {choice!r}")
    _check_gpus(choice)
    number = matched[1]
    return torch.device("cuda", torch.cuda.current_device() if number is None else _checked(int(number)))


def _check_gpus(choice: str) -> None:
    """Refuse to look for a GPU where torch cannot use one."""
    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        raise ValueError(
            f"device {choice} needs CUDA, and this torch ({torch.__version__}) is built without it: install "
            "a build with CUDA, or take cpu"
        )
    if not torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = "" if visible is None else f"; CUDA_VISIBLE_DEVICES={visible} says which of them it may see"
        raise ValueError(
            f"device {choice} needs a GPU, and torch sees none: `nvidia-smi` tells whether there is one and "
            f"whether its driver works{hidden}. Or take cpu"
        )


def _checked(number: int) -> int:
    count = torch.cuda.device_count()
    if number >= count:
        there = "cuda:0 is the only GPU" if count == 1 else f"the GPUs are cuda:0 to cuda:{count - 1}"
        raise ValueError(f"there is no cuda:{number}, {there} that torch sees")
    return number


def describe(device: torch.device) -> str:
    """Return a description of a device: a GPU with its name and memory, a CPU with its number of threads."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{device} ({properties.name}, {gibibytes(properties.total_memory)})"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu ({threads} thread{'s' * (threads > 1)})"
    return str(device)


def gibibytes(n: float) -> str:
    """Return a size in units of 2^30 bytes, in which the memory of GPUs is counted.

    Example:
        >>> gibibytes(150_100_000_000), gibibytes(300_000_000)
        ('139.8 GiB', '0.28 GiB')
    """
    gib = n / 2**30
    return f"{gib:.1f} GiB" if gib >= 1 else f"{gib:.2g} GiB"
