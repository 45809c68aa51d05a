"""The learning rate over a training."""

import math
from typing import Literal

Decay = Literal["linear", "cosine"]


def lr_factor(
    step: int, total: float, warmup_steps: int, decay_fraction: float, decay: Decay = "linear"
) -> float:
    """Return the factor of the learning rate at a step.

    It rises linearly over the first steps, stays constant, and decays to 0 over the last fraction of all
    steps.

    Args:
        step: steps taken so far.
        total: steps of the whole training; infinite for no decay.
        warmup_steps: steps until the full learning rate.
        decay_fraction: share of `total`, in 0..1.
        decay: `linear`, or `cosine`, half a period from 1 to 0.

    Returns:
        Factor in 0..1.

    Example:
        >>> [lr_factor(step, total=10, warmup_steps=2, decay_fraction=0.4) for step in (0, 1, 5, 8, 9)]
        [0.5, 1.0, 1.0, 0.5, 0.25]
    """
    warm = min(1.0, (step + 1) / max(1, warmup_steps))
    if decay_fraction == 0 or math.isinf(total):
        return warm
    left = min(1.0, max(0.0, (total - step) / (decay_fraction * total)))
    return min(warm, left if decay == "linear" else (1 - math.cos(math.pi * left)) / 2)
