"""Opening the folder of a finished run: its configuration, data, autoencoder and latents."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from lightning_sae.concepts.vocabulary import Vocabulary
from lightning_sae.data import ActivationDataModule
from lightning_sae.data.store.shards import read_tensor
from lightning_sae.devices.device import find_device
from lightning_sae.files import user_path
from lightning_sae.sae import SparseAutoencoder, load_sae
from lightning_sae.sae.saving.folder import CONFIG as SAE_CONFIG
from lightning_sae.training.settings import CONFIG
from lightning_sae.trust.documents import NO_CONFIG, read_config
from lightning_sae.trust.tables import read_table
from lightning_sae.trust.targets import instantiate_as

TEXTS = ("label", "second_label", "attribution_class", "unexpected_class", "top_images")  # of latents.csv


class RunFolder(NamedTuple):
    """What a run left.

    Attributes:
        folder: where it lies.
        config: as the run was composed, with the overrides.
        data: images, CLIP and judge on one device; nothing is captured, `setup` is not called.
        sae: the saved autoencoder, checked against the CLIP, on the same device; in evaluation mode.
        latents: `latents.csv`, by latent.
        trusted: packages that its configuration may name beside what is ours.
    """

    folder: Path
    config: DictConfig
    data: ActivationDataModule
    sae: SparseAutoencoder
    latents: pd.DataFrame
    trusted: Sequence[str] | None = ()

    def vocabulary(self) -> Vocabulary:
        """The words that latents are labelled with."""
        return instantiate_as(Vocabulary, self.config, "labels", self.trusted)

    def top_images(self, latent: int) -> list[int]:
        """Ids of the latent's top validation images, the largest activation first; none if it never fired."""
        if latent not in self.latents.index:
            return []
        return [int(i) for i in str(self.latents.loc[latent, "top_images"]).split()]

    def judge_embeddings(self) -> Tensor:
        """`[n_val_images, d_judge]` unit, from the store.

        Raises:
            FileNotFoundError: the store is not where the run had it.
        """
        folder = self.data.judge_folder / "images"
        if not folder.is_dir():
            raise FileNotFoundError(
                f"the store of the run is not at {folder}: if it was moved, say where to by "
                "data.store_dir=DIR; if it was deleted, `python -m lightning_sae.data capture` fills it again"
            )
        return read_tensor(folder, "embeddings")


def open_run(
    folder: str | Path,
    overrides: Sequence[str] = (),
    device: torch.device | None = None,
    trusted: Sequence[str] | None = (),
) -> RunFolder:
    """Reads the folder of a finished run. Nothing is run that its configuration names and that is not ours.

    Args:
        folder: as `train.py` wrote it.
        overrides: what has moved since, as `data.store_dir=DIR`.
        device: where CLIP, judge, autoencoder and all that is read by them lie; `None` is the GPU where there
            is one, else the CPU.
        trusted: packages that the configuration may name all the same; `None` for a run of this process.

    Raises:
        FileNotFoundError: the folder is none of a run, or lacks the autoencoder or the table.
        ValueError: the configuration names what is not trusted, the autoencoder was made for another CLIP
            than it gives, or an override names nothing in it.
    """
    folder = user_path(folder)
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(
            f"{folder} is no run folder, {CONFIG} is missing: name the folder that train.py wrote"
        )
    writers = {"sae": "callbacks.save_sae, when training ends,", "latents.csv": "callbacks.latent_table"}
    for name, writer in writers.items():
        if not ((folder / name).is_file() or (folder / name / SAE_CONFIG).is_file()):
            raise FileNotFoundError(
                f"{folder} has no {name}: {writer} writes it; let the run come to its end"
            )
    config = _overridden(read_config(folder / CONFIG), overrides)
    data = instantiate_as(ActivationDataModule, config, "data", trusted)
    sae = load_sae(folder / "sae", data.clip.identity())
    device = device or find_device()
    kinds = dict.fromkeys(TEXTS, str) | {"latent": int}  # a class may be called "7"
    needed = ["latent", "density", "top_images"]
    latents = read_table(folder / "latents.csv", needed, keep_default_na=False, dtype=kinds)
    return RunFolder(folder, config, data.to(device), sae.to(device), latents.set_index("latent"), trusted)


def _overridden(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or key.split(".")[0] not in config:
            raise ValueError(f"an override is KEY=VALUE, as data.store_dir=DIR; got {override!r}")
    try:
        merged = OmegaConf.merge(config, OmegaConf.from_dotlist(list(overrides)))
    except NO_CONFIG as error:
        raise ValueError(f"the overrides {' '.join(overrides)} have a value that is none: {error}") from error
    assert isinstance(merged, DictConfig)
    return merged
