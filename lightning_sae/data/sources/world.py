"""The embedded world as a source of images, and of its captions with what each of them says."""

import re
from collections.abc import Sequence
from typing import Any, Literal

from PIL import Image
from torch import Tensor

from lightning_sae.clip import Tokens
from lightning_sae.data.datamodule import ActivationDataModule
from lightning_sae.data.images.image_set import Split
from lightning_sae.data.joint import JointDataModule
from lightning_sae.data.sources.texts import Texts, mentioned
from lightning_sae.data.text_datamodule import TextDataModule
from lightning_sae.world import World, label_of

Edition = Literal["biased", "balanced"]


class WorldSplit:
    """One split of the world as an `ImageSet`; `world` gives its scenes, captions and counterfactuals."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.class_names: list[str] = world.class_names

    @property
    def targets(self) -> Tensor:
        """`[n]` int64, class of each picture."""
        return self.world.targets

    @property
    def vocabulary(self) -> list[str]:
        """Every factor value as captions phrase it, and distractors."""
        return self.world.vocabulary

    @property
    def factors(self) -> dict[str, tuple[list[str], Tensor]]:
        """Class, colour, background and printed word of each picture."""
        return self.world.factors

    @property
    def captions(self) -> list[str]:
        """The caption of each picture, as the edition writes them."""
        return [self.world.caption(i) for i in range(len(self.world))]

    def __len__(self) -> int:
        return len(self.world)

    def __getitem__(self, index: int) -> Image.Image:
        return self.world.image(index)

    def counterfactual(self, index: int, factor: str, value: str) -> Image.Image:
        """Return a picture with another value of a factor, as `World.counterfactual` draws it."""
        return self.world.counterfactual(index, **{"thing" if factor == "class" else factor: value})

    def identity(self) -> dict[str, Any]:
        """Return what the pictures are a function of."""
        world = self.world
        return {"name": f"world-{world.edition}-{world.split}", **world.identity()}


class WorldSource:
    """The worlds of three splits.

    Args:
        edition: `biased` or `balanced`; the pictures of val and test are unbiased in both.
        n_train: pictures to train on.
        n_val: pictures of `val`.
        n_test: pictures of `test`.
        seed: another seed draws other pictures.
    """

    def __init__(
        self,
        edition: Edition = "balanced",
        n_train: int = 24000,
        n_val: int = 4000,
        n_test: int = 4000,
        seed: int = 0,
    ) -> None:
        sizes: dict[Split, int] = {"train": n_train, "val": n_val, "test": n_test}
        self.worlds = {split: World(edition, split, n, seed) for split, n in sizes.items()}


class WorldImages(WorldSource):
    """The embedded world: pictures drawn on demand, with known factors; `WorldSource` has the arguments."""

    def split(self, name: Split) -> WorldSplit:
        """Return the pictures of one split."""
        return WorldSplit(self.worlds[name])


class WorldTexts(WorldSource):
    """One caption a picture, as an edition of the world writes them; `WorldSource` has the arguments.

    The captions of all splits are written as the edition writes them. The known factors of a caption are what
    it names, not what its picture shows: a caption that mentions no background has none (-1).
    """

    def split(self, name: Split) -> Texts:
        """Return the captions of one split."""
        world = self.worlds[name]
        captions = [world.caption(i) for i in range(len(world))]
        factors = said(captions)
        return Texts(
            f"world-captions-{world.edition}-{name}",
            captions,
            world.class_names,
            factors["class"][1],
            world.vocabulary,
            factors,
        )


def said(captions: Sequence[str]) -> dict[str, tuple[list[str], Tensor]]:
    """Return what captions of the world name: factor -> (its values, `[n]` int64, -1 for none or several).

    Example:
        >>> values, index = said(["a star on a brown background", "the word flag"])["background"]
        >>> [values[i] if i >= 0 else "" for i in index.tolist()]
        ['brown', '']
    """
    left = list(captions)
    found = {}
    for factor in ("background", "word", "class", "colour"):  # the longer phrases hold names of the others
        phrases = label_of(factor)
        found[factor] = (_values(factor), mentioned(left, phrases))
        left = [_without(text, phrases) for text in left] if factor in ("background", "word") else left
    return found


def _values(factor: Literal["background", "word", "class", "colour"]) -> list[str]:
    return [phrase.removesuffix(" background").removeprefix("the word ") for phrase in label_of(factor)]


def _without(text: str, phrases: Sequence[str]) -> str:
    return re.sub(rf"\b({'|'.join(map(re.escape, phrases))})\b", "", text)


def world(
    edition: Edition = "balanced",
    n_train: int = 24000,
    n_val: int = 4000,
    n_test: int = 4000,
    split_seed: int = 0,
    **activations: Any,
) -> ActivationDataModule:
    """Return the datamodule of `WorldImages`; `activations` are the arguments of `ActivationDataModule`."""
    return ActivationDataModule(WorldImages(edition, n_train, n_val, n_test, split_seed), **activations)


def world_captions(
    edition: Edition = "balanced",
    n_train: int = 24000,
    n_val: int = 4000,
    n_test: int = 4000,
    split_seed: int = 0,
    **activations: Any,
) -> TextDataModule:
    """Return the captions of the embedded world, scored against its pictures."""
    sizes = (n_train, n_val, n_test, split_seed)
    return TextDataModule(WorldTexts(edition, *sizes), WorldImages(edition, *sizes), **activations)


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
    """Return the pictures of the embedded world and their captions, at the final embedding of both.

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
