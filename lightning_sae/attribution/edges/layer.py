"""A hook point with its autoencoder."""

from dataclasses import dataclass
from typing import Self

from lightning_sae.clip import HookPoint
from lightning_sae.sae import SparseAutoencoder


@dataclass(frozen=True, eq=False)
class Layer:
    """A hook point and the autoencoder of its activations."""

    hook_point: HookPoint
    sae: SparseAutoencoder

    @classmethod
    def of(cls, sae: SparseAutoencoder) -> Self:
        """Return the layer that a saved autoencoder was trained for.

        Raises:
            ValueError: it does not say which.
        """
        known = sae.provenance
        if not {"hook_point", "tokens"} <= known.keys():
            raise ValueError(
                "the autoencoder does not say which hook point it was trained for: load a saved one, or give "
                "Layer(HookPoint(MODULE, TOKENS), sae)"
            )
        return cls(HookPoint(known["hook_point"], known["tokens"]), sae)
