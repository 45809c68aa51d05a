"""One function per data set: the keys a user sets under `data.` in the configuration."""

from typing import Any, Literal

from lightning_sae.data.datamodule import ActivationDataModule
from lightning_sae.data.fashion import FashionMNIST
from lightning_sae.data.folders import ImageFolders
from lightning_sae.data.world_images import WorldImages


def image_folder(
    root: str,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    **activations: Any,
) -> ActivationDataModule:
    """The datamodule of `ImageFolders`; `activations` are the arguments of `ActivationDataModule`."""
    return ActivationDataModule(ImageFolders(root, val_fraction, test_fraction, split_seed), **activations)


def fashion_mnist(
    root: str, n_val: int = 5000, split_seed: int = 0, **activations: Any
) -> ActivationDataModule:
    """The datamodule of `FashionMNIST`; `activations` are the arguments of `ActivationDataModule`."""
    return ActivationDataModule(FashionMNIST(root, n_val, split_seed), **activations)


def world(
    edition: Literal["biased", "balanced"] = "balanced",
    n_train: int = 24000,
    n_val: int = 4000,
    n_test: int = 4000,
    split_seed: int = 0,
    **activations: Any,
) -> ActivationDataModule:
    """The datamodule of `WorldImages`; `activations` are the arguments of `ActivationDataModule`."""
    return ActivationDataModule(WorldImages(edition, n_train, n_val, n_test, split_seed), **activations)
