"""One function per data set: the keys a user sets under `data.` in the configuration."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lightning_sae.data.datamodule import ActivationDataModule
from lightning_sae.data.sources.columns import Names
from lightning_sae.data.sources.fashion_mnist import FashionMNIST
from lightning_sae.data.sources.folders.folders import ImageFolders
from lightning_sae.data.sources.given_classes import Classes, given_classes
from lightning_sae.data.sources.huggingface.images import HuggingFaceImages
from lightning_sae.data.sources.table import ImageTable
from lightning_sae.data.sources.world import WorldImages


def image_folder(
    root: str,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    classes: Classes | str = None,
    split_names: Mapping[str, Any] | None = None,
    **activations: Any,
) -> ActivationDataModule:
    """The datamodule of `ImageFolders`; `activations` are the arguments of `ActivationDataModule`."""
    images = ImageFolders(root, val_fraction, test_fraction, split_seed, classes, split_names)
    return ActivationDataModule(images, **activations)


def table(
    path: str,
    root: str | None = None,
    image: str = "image",
    label: str | None = "label",
    split: str | None = "split",
    groups: Sequence[str] = (),
    classes: Classes | str = None,
    split_names: Mapping[str, Any] | None = None,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    files: str | None = None,
    together: str | None = None,
    **activations: Any,
) -> ActivationDataModule:
    """The datamodule of `ImageTable`; `activations` are the arguments of `ActivationDataModule`."""
    names = Names(image, label, groups, given_classes(classes))
    held_out = (val_fraction, test_fraction, split_seed)
    images = ImageTable(path, root, names, split, split_names, *held_out, files, together)
    return ActivationDataModule(images, **activations)


def huggingface(
    path: str | Mapping[str, Any],
    config: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
    image: str = "image",
    label: str | None = "label",
    groups: Sequence[str] = (),
    caption: str | None = None,
    classes: Classes | str = None,
    split_names: Mapping[str, Any] | None = None,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    store_dir: str | None = None,
    **activations: Any,
) -> ActivationDataModule:
    """The datamodule of `HuggingFaceImages`; `activations` are the arguments of `ActivationDataModule`."""
    images = HuggingFaceImages(
        path,
        Names(image, label, groups, given_classes(classes)),
        caption,
        config,
        revision,
        streaming,
        split_names,
        val_fraction,
        test_fraction,
        split_seed,
        cache_dir=store_dir,
    )
    return ActivationDataModule(images, store_dir=store_dir, **activations)


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
