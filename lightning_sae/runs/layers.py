"""The hook points of a run, and where its folder holds what it knows of each."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from lightning_sae.attribution.edges.layer import Layer


@dataclass(frozen=True, eq=False)
class RunLayer(Layer):
    """A hook point of a run with its autoencoder: saved, on raw activations, in evaluation mode.

    Attributes:
        latents: its table by latent, `density`, `top_images` and whatever else is known; without rows where
            callbacks.latent_table wrote none.
    """

    latents: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)


def layer_folder(run: Path, name: str = "") -> Path:
    """Return where a run has `sae/` and `latents.csv` of a hook point.

    Args:
        run: folder of the run.
        name: short name of an earlier hook point; "" for the run's own.

    Example:
        >>> layer_folder(Path("RUN"), "resblocks.1").as_posix()
        'RUN/layers/resblocks.1'
    """
    return run / "layers" / name if name else run
