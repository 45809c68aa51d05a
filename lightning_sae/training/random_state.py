"""The state of the global random generators, as a checkpoint can hold it."""

import random
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """Return the random states of Python, NumPy and torch, in plain numbers and tensors.

    Example:
        >>> state = random_state()
        >>> drawn = torch.rand(3), np.random.rand(), random.random()
        >>> set_random_state(state)
        >>> torch.equal(torch.rand(3), drawn[0]), (np.random.rand(), random.random()) == drawn[1:]
        (True, True)
    """
    name, keys, *rest = np.random.get_state()  # noqa: NPY002  # whoever draws from the global one
    return {
        "python": random.getstate(),
        "numpy": (str(name), np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Have random numbers go on where `state` was taken; a GPU that was not there then keeps its own."""
    random.setstate(state["python"])
    np.random.set_state(tuple(state["numpy"]))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    for device, each in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
        torch.cuda.set_rng_state(each.cpu(), device)
