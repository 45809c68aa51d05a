"""One function per data set with texts: the keys a user sets under `data.` in the configuration."""

from typing import Any, Literal

from lightning_sae.clip import Tokens
from lightning_sae.data.images.image_set import ImageSource
from lightning_sae.data.joint import JointDataModule
from lightning_sae.data.sources.texts import Prompted, SplitTexts, read_texts, vocabulary_prompts
from lightning_sae.data.sources.world import WorldImages
from lightning_sae.data.sources.world_texts import WorldTexts
from lightning_sae.data.text_datamodule import TextDataModule

Edition = Literal["biased", "balanced"]


def world_captions(
    edition: Edition = "balanced",
    n_train: int = 24000,
    n_val: int = 4000,
    n_test: int = 4000,
    split_seed: int = 0,
    **activations: Any,
) -> TextDataModule:
    """Captions of the embedded world, scored against its pictures."""
    sizes = (n_train, n_val, n_test, split_seed)
    return TextDataModule(WorldTexts(edition, *sizes), WorldImages(edition, *sizes), **activations)


def text_file(
    path: str,
    images: ImageSource,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    **activations: Any,
) -> TextDataModule:
    """The lines of a file, scored against some images."""
    names = images.split("val").class_names
    held_out = (val_fraction, test_fraction, split_seed)
    return TextDataModule(SplitTexts("text-file", read_texts(path), names, *held_out), images, **activations)


def vocabulary(
    vocabulary: Prompted,
    images: ImageSource,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    **activations: Any,
) -> TextDataModule:
    """The labels of a vocabulary in all its templates, scored against some images."""
    val = images.split("val")
    prompts = vocabulary_prompts(vocabulary, val.vocabulary)
    texts = SplitTexts("vocabulary", prompts, val.class_names, val_fraction, test_fraction, split_seed)
    return TextDataModule(texts, images, **activations)


def world_joint(
    edition: Edition = "balanced",
    n_train: int = 24000,
    n_val: int = 4000,
    n_test: int = 4000,
    split_seed: int = 0,
    hook_point: str = "visual",
    tokens: Tokens = "pooled",
    **activations: Any,
) -> JointDataModule:
    """Pictures of the embedded world and their captions, at the final embedding of both.

    Raises:
        ValueError: another hook point: the towers share no other space.
    """
    if (hook_point, tokens) != ("visual", "pooled"):
        raise ValueError(
            "images and texts share the final embedding alone: hook_point=visual tokens=pooled, got "
            f"hook_point={hook_point} tokens={tokens}"
        )
    sizes = (n_train, n_val, n_test, split_seed)
    return JointDataModule(WorldImages(edition, *sizes), WorldTexts(edition, *sizes), **activations)
