"""The activations of an earlier hook point, trained on beside those of the run's own."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from torch import Tensor

from lightning_sae.clip import Clip, HookPoint, inspect_hook_point
from lightning_sae.data.store.activations import ActivationStore
from lightning_sae.data.store.layout import provenance
from lightning_sae.metrics.moments import ActivationStatistics


class EarlierActivations:
    """An earlier hook point on the same tokens: it gives what a datamodule gives of its own hook point.

    Args:
        clip: the audited CLIP.
        hook: the hook point.
        seed: of the choice of samples.
        batch_size: activations per batch of a plain pass.

    Attributes:
        hook: as given.
        store: activations of `train`, once the datamodule is set up.
    """

    store: ActivationStore

    def __init__(self, clip: Clip, hook: HookPoint, seed: int, batch_size: int) -> None:
        self.hook, self._clip, self._seed, self._batch_size = hook, clip, seed, batch_size

    @cached_property
    def d_in(self) -> int:
        """Width of the activations."""
        return inspect_hook_point(self._clip, self.hook).d_in

    @property
    def statistics(self) -> ActivationStatistics:
        """Mean and scale of the activations of `train`."""
        return self.store.statistics

    def sample(self, n: int) -> Tensor:
        """Return random activations of `train`, `[min(n, rows), d_in]` float32, the same rows of each."""
        return self.store.sample(n, self._seed)

    def train_batches(self) -> Iterator[Tensor]:
        """Return one plain pass over the activations of `train`, `[n, d_in]` float32."""
        return self.store.batches(self._batch_size)

    def provenance(self) -> dict[str, Any]:
        """Return what a saved autoencoder is valid for."""
        return provenance(self._clip, self.hook)
