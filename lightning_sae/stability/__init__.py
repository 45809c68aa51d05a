"""Runs of one recipe with several seeds: which latents and findings recur, and how much they carry."""

from typing import TYPE_CHECKING

from lightning_sae.lazy import lazily

if TYPE_CHECKING:
    from lightning_sae.stability.recurrence import Dictionary as Dictionary
    from lightning_sae.stability.recurrence import Recurrence as Recurrence
    from lightning_sae.stability.recurrence import find_recurring as find_recurring
    from lightning_sae.stability.stability import Stability as Stability
    from lightning_sae.stability.stability import compare_seed_folders as compare_seed_folders

__getattr__, __dir__ = lazily(
    __name__,
    {
        ".recurrence": ["Dictionary", "Recurrence", "find_recurring"],
        ".stability": ["Stability", "compare_seed_folders"],
    },
)
