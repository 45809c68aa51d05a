"""Pairs of images that can be drawn again with one factor changed."""

from collections.abc import Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image

from lightning_sae.data.images.image_set import ImageSet
from lightning_sae.data.probe_images import choose_probe
from lightning_sae.pairs.pair import Contrast, DrawnImages, ImagePairs
from lightning_sae.trust.numbers import check_counts


@runtime_checkable
class RedrawableImages(ImageSet, Protocol):
    """An `ImageSet` whose images can be drawn again with another value of one of their factors."""

    def counterfactual(self, index: int, factor: str, value: str) -> Image.Image:
        """Return image `index` with another value of a factor, and everything else kept."""
        ...


class Counterfactuals:
    """Images of the data, each beside itself with one factor changed.

    All pairs of one factor have different first images, and an equal number of images changes to each value,
    if there are enough. Data that cannot be drawn again, such as photographs, have no such pairs.

    Args:
        per_value: number of pairs that change to a value; about as many change from it.
        seed: of the choice of images, and of what they change to.
    """

    def __init__(self, per_value: int = 12, seed: int = 0) -> None:
        check_counts(1, per_value=per_value)
        self.per_value, self.seed = per_value, seed

    def pairs(self, images: ImageSet) -> ImagePairs | None:
        """Return the pairs, factor by factor, or `None` where the images cannot be drawn again."""
        if not isinstance(images, RedrawableImages):
            return None
        most = self.per_value * max(len(values) for values, _ in images.factors.values())
        ids = choose_probe(images.targets, most, self.seed)
        draws = np.random.default_rng(self.seed)
        drawn = [partial(images.__getitem__, i) for i in ids.tolist()]
        targets, before, contrasts = images.targets[ids].tolist(), list[int](), list[Contrast]()
        for factor, (values, truth) in images.factors.items():
            places = draws.permutation(len(ids))[: self.per_value * len(values)].tolist()
            now = truth[ids[places]].tolist()
            for place, was, new in zip(places, now, others(now, len(values)), strict=True):
                drawn.append(partial(images.counterfactual, int(ids[place]), factor, values[new]))
                targets.append(new if factor == "class" else targets[place])
                before.append(place)
                contrasts.append(Contrast(factor, values[was] if was >= 0 else None, values[new]))
        key = {"images": images.identity(), "per_value": self.per_value, "seed": self.seed}
        key |= {"name": "counterfactuals"}
        whole = DrawnImages(drawn, torch.tensor(targets), images.class_names, key)
        after = torch.arange(len(ids), len(whole))
        return ImagePairs(whole, torch.tensor(before, dtype=torch.int64), after, contrasts)


def others(now: Sequence[int], n_values: int) -> list[int]:
    """Return another value for each of the given ones, such that all values come about equally often.

    Args:
        now: values in `0..n_values-1`, -1 for none.
        n_values: two or more.

    Example:
        >>> others([0, 1, 2, -1, 1], n_values=3)
        [1, 2, 0, 2, 0]
    """
    counts, found = [0] * n_values, list[int]()
    for value in now:
        free = [v for v in range(n_values) if v != value]
        new = min(free, key=lambda v: (counts[v], (v - value) % n_values))
        counts[new] += 1
        found.append(new)
    return found
