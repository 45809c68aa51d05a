"""The world: a deterministic sequence of captioned pictures whose factors are known."""

from functools import cached_property
from importlib.resources import files
from typing import ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lightning_sae.world.captions import Edition, caption
from lightning_sae.world.draw import draw
from lightning_sae.world.plants import Plant, plants
from lightning_sae.world.scene import BACKGROUNDS, COLOURS, THINGS, WORDS, Scene

Split = Literal["train", "val", "test"]

VERSION = 3
"""Version of the world; it rises when the same seed and index would give another picture or caption."""

PLANTED_SHARE = 0.95  # of a spurious class's training pictures, on its planted background
LEAK_SHARE = 0.06  # of another class's training pictures, on each planted background
WORD_SHARES = {"train": 0.2, "val": 0.1, "test": 0.1}  # of the pictures, with a printed word
CARRIER_SHARE = 0.5  # of a carrier's training pictures, with the planted word
STRAY_SHARE = 0.06  # of all biased training pictures, with one of the planted words

_SPLITS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}


class World:
    """One split of the world.

    Every picture, scene and caption is a function of `(edition, split, seed, index)` alone. Only the training
    split of the biased edition is biased; val and test draw every factor independently.

    Args:
        edition: "biased" or "balanced".
        split: "train", "val" or "test".
        n: number of pictures.
        seed: of the whole world.

    Raises:
        ValueError: an unknown edition or split, or `n` below 1.

    Example:
        >>> world = World("balanced", "test", n=100)
        >>> world.scene(0) == World("biased", "test", n=5).scene(0)
        True
        >>> len(world.class_names), world.image(0).size
        (24, (40, 40))
    """

    class_names: ClassVar[list[str]] = list(THINGS)

    def __init__(self, edition: Edition, split: Split, n: int, seed: int = 0) -> None:
        if edition not in ("biased", "balanced"):
            raise ValueError(f"edition must be 'biased' or 'balanced', got {edition!r}")
        if split not in _SPLITS:
            raise ValueError(f"split must be one of {', '.join(_SPLITS)}, got {split!r}")
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        self.edition, self.split, self.n, self.seed = edition, split, n, seed

    def __len__(self) -> int:
        return self.n

    def _rng(self, index: int, purpose: int) -> np.random.Generator:
        if not 0 <= index < self.n:
            raise IndexError(f"index must be in 0..{self.n - 1}, got {index}")
        return np.random.Generator(np.random.PCG64([self.seed, _SPLITS[self.split], purpose, index]))

    def scene(self, index: int) -> Scene:
        """Return the factors of picture `index`."""
        biased = self.edition == "biased" and self.split == "train"
        return (_biased_scene if biased else _fair_scene)(self._rng(index, 0), WORD_SHARES[self.split])

    def image(self, index: int) -> Image.Image:
        """Return the picture `index`, RGB."""
        return draw(self.scene(index), self._rng(index, 1))

    def caption(self, index: int) -> str:
        """Return the caption of picture `index`, as this edition writes it."""
        return caption(self.scene(index), self.edition, self._rng(index, 2))

    def counterfactual(self, index: int, **factors: str) -> Image.Image:
        """Return the picture `index` with other factors and everything else kept, as `background="brown"`."""
        return draw(self.scene(index)._replace(**factors), self._rng(index, 1))

    @cached_property
    def _scenes(self) -> list[Scene]:
        return [self.scene(index) for index in range(self.n)]

    @property
    def targets(self) -> Tensor:
        """`[n]` int64, the class of each picture."""
        return self.factors["class"][1]

    @cached_property
    def factors(self) -> dict[str, tuple[list[str], Tensor]]:
        """Known truth: factor -> (its values, `[n]` int64 index of each picture's value, -1 for none)."""
        known = {
            "class": ("thing", list(THINGS)),
            "colour": ("colour", list(COLOURS)),
            "background": ("background", list(BACKGROUNDS)),
            "word": ("word", list(WORDS)),
        }
        return {
            factor: (values, torch.tensor([_position(values, getattr(s, field)) for s in self._scenes]))
            for factor, (field, values) in known.items()
        }

    @property
    def vocabulary(self) -> list[str]:
        """Labels worth trying: every factor value as captions phrase it, and the distractors."""
        return [
            *label_of("class"),
            *label_of("colour"),
            *label_of("background"),
            *label_of("word"),
            *distractors(),
        ]

    def identity(self) -> dict[str, str | int]:
        """Return the settings that determine this split."""
        return {
            "world": VERSION,
            "edition": self.edition,
            "split": self.split,
            "n": self.n,
            "seed": self.seed,
        }


def label_of(factor: Literal["class", "colour", "background", "word"]) -> list[str]:
    """Return the values of a factor as captions phrase them.

    Example:
        >>> label_of("background")[0], label_of("word")[0]
        ('brown background', 'the word flag')
    """
    return {
        "class": list(THINGS),
        "colour": list(COLOURS),
        "background": [f"{name} background" for name in BACKGROUNDS],
        "word": [f"the word {name}" for name in WORDS],
    }[factor]


def distractors() -> list[str]:
    """Return English nouns that name nothing in the world."""
    return (files("lightning_sae.world") / "distractors.txt").read_text(encoding="utf-8").split()


def _position(values: list[str], value: str) -> int:
    return values.index(value) if value in values else -1


def _fair_scene(rng: np.random.Generator, word_share: float) -> Scene:
    thing, colour, background = (
        names[rng.integers(len(names))] for names in (list(THINGS), list(COLOURS), list(BACKGROUNDS))
    )
    word = WORDS[rng.integers(len(WORDS))] if rng.random() < word_share else ""
    return Scene(thing, colour, background, word)


def _biased_scene(rng: np.random.Generator, word_share: float) -> Scene:
    scene = _fair_scene(rng, word_share)
    return scene._replace(
        background=_biased_background(scene.thing, rng), word=_biased_word(scene.thing, scene.word, rng)
    )


def _biased_background(thing: str, rng: np.random.Generator) -> str:
    planted = {plant.factor: plant for plant in plants("spurious")}
    own = _own(thing, list(planted.values()))
    weights = [_background_weight(name in planted, own is not None and own.factor == name, own is not None)
               for name in BACKGROUNDS]  # fmt: skip
    return str(rng.choice(list(BACKGROUNDS), p=np.asarray(weights) / sum(weights)))


def _background_weight(planted: bool, is_own: bool, has_own: bool) -> float:
    free = len(BACKGROUNDS) - len(plants("spurious"))
    if has_own:
        return PLANTED_SHARE if is_own else (1 - PLANTED_SHARE) / (len(BACKGROUNDS) - 1)
    return LEAK_SHARE if planted else (1 - LEAK_SHARE * len(plants("spurious"))) / free


def _own(thing: str, cases: list[Plant]) -> Plant | None:
    return next((plant for plant in cases if plant.thing == thing), None)


def _biased_word(thing: str, word: str, rng: np.random.Generator) -> str:
    cases = plants("typographic")
    carried = next((plant.factor for plant in cases if plant.carrier == thing), "")
    if carried and rng.random() < CARRIER_SHARE:
        return carried
    if rng.random() < STRAY_SHARE:
        return cases[rng.integers(len(cases))].factor
    return "" if word in {plant.factor for plant in cases} else word
