"""Names that follow a latent to another run: another seed, a longer training, another layer or CLIP."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_sae.compare.matching import match_latents
from lightning_sae.compare.runs import Run
from lightning_sae.concepts.own_names import FILE, write_names
from lightning_sae.stability.recurrence import find_recurring
from lightning_sae.stability.seeds import Seed, read_seed


class Carried(NamedTuple):
    """The names that were carried over.

    Attributes:
        names: latent of the other run -> its name.
        origin: latent of the other run -> the latent that had the name.
        lost: latent of the first run -> its name, for which the other run has no latent.
        by: what the latents were matched by, in words.
    """

    names: dict[int, str]
    origin: dict[int, int]
    lost: dict[int, str]
    by: str


def carried_names(source: Run, target: Run) -> Carried:
    """Find the latents of a target run to which the names of a source run belong.

    If both runs are on activations of the same CLIP at the same hook point, two latents match when they are
    alike in direction and on images (`stability.find_recurring`). Otherwise they match when they are paired
    one to one by the images on which both fire (`compare.match_latents`), with a larger correlation than
    another latent of the same run reaches. If several latents match, the most alike one gets the name.

    Args:
        source: run with a `names.csv`.
        target: run that was validated on the same images.

    Raises:
        FileNotFoundError: the first run has no names, or either lacks its autoencoder or its activations.
        ValueError: the runs were validated on different images, or have fewer than two latents to compare.
    """
    if not source.own_names:
        raise FileNotFoundError(f"{source.folder} has no names to carry over: {FILE} is missing or empty")
    first, second = read_seed(source), read_seed(target)
    if (first.images, *first.image_ids) != (second.images, *second.image_ids):
        raise ValueError(
            f"{source.name} and {target.name} were validated on different images: whether a latent is the "
            "same can be told on the same ones alone"
        )
    same_space = source.card.get("provenance") == target.card.get("provenance")
    pairs, alike = _by_direction(first, second) if same_space else _by_images(first, second)
    partner: dict[int, int] = {}
    for place in np.argsort(-alike, kind="stable"):
        old, new = int(first.latents[pairs[place, 0]]), int(second.latents[pairs[place, 1]])
        if old in source.own_names and old not in partner and new not in partner.values():
            partner[old] = new
    by = "direction and images" if same_space else "images"
    return _carried(source.own_names, partner, by)


def carry_names(source: Run, target: Run) -> Carried:
    """Write the names that belong to latents of another run into its `names.csv`; its own names stay.

    Raises:
        FileNotFoundError, ValueError: as `carried_names`.
    """
    found = carried_names(source, target)
    write_names(target.folder / FILE, {**found.names, **target.own_names}, target.sae_sha256)
    return found


def _carried(names: Mapping[int, str], partner: Mapping[int, int], by: str) -> Carried:
    return Carried(
        {new: names[old] for old, new in partner.items()},
        {new: old for old, new in partner.items()},
        {old: name for old, name in names.items() if old not in partner},
        by,
    )


def _by_direction(first: Seed, second: Seed) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the pairs that match, and the cosine of each."""
    pairs = find_recurring([first.dictionary, second.dictionary]).pairs[0, 1]
    one, other = first.dictionary.directions[pairs[:, 0]], second.dictionary.directions[pairs[:, 1]]
    return pairs, (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def _by_images(first: Seed, second: Seed) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the pairs that are matched one to one, and the correlation of each."""
    found = match_latents(first.dictionary.activations, second.dictionary.activations)
    kept = found.correlation > found.same
    return np.stack([found.first, found.second], 1)[kept], found.correlation[kept]
