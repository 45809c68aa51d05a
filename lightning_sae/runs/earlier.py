"""Autoencoders at earlier hook points than a run's own: trained in the same run, or in runs of their own."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_sae.clip import HookPoint, short_names
from lightning_sae.files import user_path
from lightning_sae.runs.folder import RunFolder
from lightning_sae.runs.layers import RunLayer, layer_folder
from lightning_sae.sae import load_sae
from lightning_sae.trust.targets import import_trusted


class EarlierLayer(NamedTuple):
    """An earlier hook point with its autoencoder, and where these lie.

    Attributes:
        layer: the hook point, the autoencoder, and the table of its latents.
        folder: the folder with `sae/` and `latents.csv`; relative to the run's folder if it lies inside.
        sae_sha256: of the autoencoder's weights.
    """

    layer: RunLayer
    folder: str
    sae_sha256: str


def earlier_layers(run: RunFolder, folders: Sequence[Path] = ()) -> dict[str, EarlierLayer]:
    """Return the earlier hook points of a run, and those of other runs, by short names.

    Args:
        run: an opened run.
        folders: of finished runs of the same CLIP.

    Raises:
        FileNotFoundError: a folder has no autoencoder, or no `latents.csv`.
        ValueError: an autoencoder of another CLIP, or two of one hook point.
    """
    own = [run.folder / layer_folder(Path(), name) for name in run.data.earlier]
    found = [read_earlier(run, str(folder)) for folder in (*own, *map(user_path, folders))]
    modules = [each.layer.hook_point.module for each in found]
    twice = [name for name, n in Counter([*modules, run.data.hook.module]).items() if n > 1]
    if twice:
        raise ValueError(
            f"{twice[0]} has two autoencoders: an earlier hook point is another module than that of the run, "
            "and each is named once"
        )
    return dict(zip(short_names([*modules, run.data.hook.module]), found, strict=False))


def read_earlier(run: RunFolder, folder: str) -> EarlierLayer:
    """Return the earlier hook point that lies in a folder.

    Args:
        run: an opened run.
        folder: relative to the run's folder; one of its own `layers/NAME`, or the folder of another run.

    Raises:
        FileNotFoundError: it has no autoencoder, or no `latents.csv`.
        ValueError: the autoencoder is of another CLIP.
    """
    place = run.folder / folder
    there, own = RunFolder(place, trusted=run.trusted), layer_folder(run.folder, place.name)
    if place.name in run.data.earlier and place.resolve() == own.resolve():
        layer = run.layers[place.name]
    else:
        import_trusted(there.config, "sae", there.trusted)  # a variant is known once it is imported
        sae = load_sae(place / "sae", run.data.clip.identity()).to(run.data.clip.device)
        if not (place / "latents.csv").is_file():
            raise FileNotFoundError(f"{place} has no latents.csv: callbacks.latent_table writes it")
        hook = HookPoint(sae.provenance["hook_point"], sae.provenance["tokens"])
        layer = RunLayer(hook, sae, there.latents)
    inside = place.resolve().is_relative_to(run.folder.resolve())
    shown = place.resolve().relative_to(run.folder.resolve()) if inside else place.resolve()
    return EarlierLayer(layer, shown.as_posix(), there.sae_sha256)
