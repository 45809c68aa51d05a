"""An autoencoder in training, with its metrics, under the keys of its hook point."""

from collections.abc import Mapping
from typing import NamedTuple

from lightning_sae.sae import SparseAutoencoder
from lightning_sae.training.validation import ValidationMetrics


class TrainedLayer(NamedTuple):
    """An autoencoder in training.

    Attributes:
        name: short name of its hook point; "" for the run's own.
        sae: the autoencoder.
        metrics: of it, over the running or last validation pass.
    """

    name: str
    sae: SparseAutoencoder
    metrics: ValidationMetrics

    @property
    def suffix(self) -> str:
        """The end of the keys under which its values are logged."""
        return f"/{self.name}" if self.name else ""

    def values_in(self, logged: Mapping[str, float]) -> dict[str, float]:
        """Return the layer's own values of a validation pass, by the keys that a run of it alone has."""
        own = [key for key in logged if key.startswith("val/") and key.count("/") == 1 + bool(self.name)]
        return {key.removesuffix(self.suffix): logged[key] for key in own if key.endswith(self.suffix)}
