"""The hook points of a run, and where the autoencoder of each lies in its folder."""

from pathlib import Path
from typing import NamedTuple

from lightning_sae.clip import HookPoint
from lightning_sae.sae import SparseAutoencoder


class RunLayer(NamedTuple):
    """A hook point of a run with its autoencoder.

    Attributes:
        hook: the hook point.
        sae: saved, on raw activations, in evaluation mode.
    """

    hook: HookPoint
    sae: SparseAutoencoder


def sae_folder(run: Path, name: str = "") -> Path:
    """Return where the autoencoder of a hook point is saved.

    Args:
        run: folder of the run.
        name: short name of an earlier hook point; "" for the run's own.

    Example:
        >>> sae_folder(Path("RUN"), "resblocks.1").as_posix()
        'RUN/layers/resblocks.1/sae'
    """
    return run / "layers" / name / "sae" if name else run / "sae"
