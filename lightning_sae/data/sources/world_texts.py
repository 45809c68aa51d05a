"""The captions of the embedded world as examples, with what each of them says."""

import re
from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from lightning_sae.data.images.image_set import Split
from lightning_sae.data.sources.texts import Texts, mentioned
from lightning_sae.data.sources.world import WorldSource
from lightning_sae.world import label_of


class WorldTexts(WorldSource):
    """One caption a picture, as an edition of the world writes them; `WorldSource` has the arguments.

    The captions of all splits are written as the edition writes them. The known factors of a caption are what
    it names, not what its picture shows: a caption that mentions no background has none (-1).
    """

    def split(self, name: Split) -> Texts:
        """The captions of one split."""
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
