"""The captions of the embedded world as examples, with what each of them says."""

import re
from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from lightning_sae.data.images import Split
from lightning_sae.data.texts import Texts, mentioned
from lightning_sae.world import World, label_of


class WorldTexts:
    """One caption a picture, as an edition of the world writes them.

    The known factors of a caption are what it names, not what its picture shows: a caption that mentions no
    background has none (-1).

    Args:
        edition: `biased` or `balanced`; the captions of all splits are written as it writes them.
        n_train: captions to train on.
        n_val: captions of `val`.
        n_test: captions of `test`.
        seed: another seed draws other pictures.
    """

    def __init__(
        self,
        edition: Literal["biased", "balanced"] = "balanced",
        n_train: int = 24000,
        n_val: int = 4000,
        n_test: int = 4000,
        seed: int = 0,
    ) -> None:
        sizes: dict[Split, int] = {"train": n_train, "val": n_val, "test": n_test}
        self._worlds = {split: World(edition, split, n, seed) for split, n in sizes.items()}

    def split(self, name: Split) -> Texts:
        """The captions of one split."""
        world = self._worlds[name]
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
    """What captions of the world name: factor -> (its values, `[n]` int64, -1 for none or several).

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
