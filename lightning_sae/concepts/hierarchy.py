"""Parents and children among latents: by the images on which they fire, by direction, and by label."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_array, hstack
from scipy.stats import hypergeom

from lightning_sae.concepts.csr import csr_of
from lightning_sae.concepts.naming import LatentName
from lightning_sae.concepts.significance import p_values, significant
from lightning_sae.metrics.wilson import wilson
from lightning_sae.types import SparseLatents

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST = 0.8  # share of a child's images that its parent fires on as well, by the interval's lower end
MIN_IMAGES = 10  # a latent that fires on fewer has neither parent nor child: two rare latents meet by chance
Z = 1.96  # of the intervals, 95 %
DRAWS = 1000  # random directions
CHUNK = 1024  # children at a time; memory grows with it and with the number of parents


class Level(NamedTuple):
    """Latents that can be parents of those of the levels behind it.

    Attributes:
        latents: `[m]` int64, their numbers.
        directions: `[m, d_in]` decoder rows, of any length above 0.
        fires: `[n, m]` of 0 and 1, on the same `n` images in all levels.
    """

    latents: Ints
    directions: Floats
    fires: csc_array

    @classmethod
    def of(cls, latents: SparseLatents, directions: Floats, start: int = 0, stop: int | None = None) -> Self:
        """Return the latents `start:stop` that fire on ten of the images at least.

        Args:
            latents: of `n` images.
            directions: `[d_sae, d_in]` decoder rows.
            start: first latent.
            stop: behind the last one; `None`: all of them.
        """
        fires = csc_array((csr_of(latents) > 0).astype(np.float64))[:, start:stop]
        enough = np.flatnonzero(fires.sum(0) >= MIN_IMAGES)
        return cls(start + enough, directions[start + enough], fires[:, enough])

    @property
    def images(self) -> Floats:
        """`[m]`, the number of images on which each fires."""
        images: Floats = self.fires.sum(0)
        return images


class _Parents(NamedTuple):
    """The best parent of each child by one kind of evidence: its place, and the chance of one as good."""

    place: Ints
    p: Floats


def prefix_levels(latents: SparseLatents, directions: Floats, ends: Sequence[int]) -> list[Level]:
    """Return the levels of a Matryoshka autoencoder: the latents that each prefix adds to the one before.

    Args:
        latents: of `n` images.
        directions: `[d_sae, d_in]` decoder rows.
        ends: of the prefixes (`SparseAutoencoder.ends`).

    Raises:
        ValueError: there are no two prefixes.
    """
    if len(ends) < 2:
        raise ValueError(
            f"parents are latents of a shorter prefix, and the autoencoder has {len(ends)} prefixes: train a "
            "Matryoshka, sae=matryoshka, or compare runs of several widths"
        )
    return [
        Level.of(latents, directions, start, stop) for start, stop in zip((0, *ends[:-1]), ends, strict=True)
    ]


def link(levels: Sequence[Level], fdr: float = 0.05, seed: int = 0) -> pd.DataFrame:
    """Return a row for each latent that has a parent in a level before its own.

    A latent has a parent by *firing* if it fires almost only where the parent does: the lower end of the
    95 % interval of `P(parent | child)` (Wilson 1927) is 0.8 at least, the parent fires on more images, and
    they share more images than chance allows (hypergeometric, Bonferroni over the parents). Among several
    such latents, the one that fires most rarely is taken as the nearest. Two latents that each fire almost
    only where the other does are copies, and neither is the parent.

    It has a parent by *direction* if the cosine of the two decoder rows is larger than that of any parent
    with a random direction (1,000 normal draws with the second moments of the level's own rows). A parent
    that is absorbed is silent where the child fires, and only its direction is left as evidence. A parent by
    firing takes precedence.

    Both kinds are judged at a false discovery rate over all latents (Benjamini and Hochberg 1995).

    Args:
        levels: from the most general one on, at least two.
        fdr: false discovery rate, in (0, 1).
        seed: of the random directions.

    Returns:
        `level`, `latent`, `parent_level`, `parent`; `by` (`firing`, `direction` or `both`); `given_child`,
        `low`, `high`: `P(parent | child)` and its interval; `given_parent`: `P(child | parent)`; `chance`:
        share of the images on which the parent fires; `cosine`; `images`, on which the child fires.

    Raises:
        ValueError: fewer than two levels, or levels of other images or widths.

    Example:
        >>> bird, penguin = np.arange(200) < 80, np.arange(200) < 20
        >>> levels = [
        ...     Level(np.array([i]), np.eye(9)[[i]], csc_array(fires[:, None] * 1.0))
        ...     for i, fires in enumerate((bird, penguin))
        ... ]
        >>> link(levels)[["latent", "parent", "by", "given_child", "chance"]].to_dict("records")
        [{'latent': 1, 'parent': 0, 'by': 'firing', 'given_child': 1.0, 'chance': 0.4}]
    """
    _check(levels)
    before = [_before(levels[:place]) for place in range(1, len(levels))]
    firing, direction = (
        _kept([find(parents, level) for parents, level in zip(before, levels[1:], strict=True)], fdr)
        for find in (_by_firing, lambda parents, level: _by_direction(parents, level, seed))
    )
    tables = []
    for place, parents in enumerate(before, 1):
        fired, pointed = firing[place - 1], direction[place - 1]
        chosen = np.where(fired >= 0, fired, pointed)
        child = np.flatnonzero(chosen >= 0)
        words = np.where(fired == pointed, "both", np.where(fired >= 0, "firing", "direction"))
        numbers = _numbers(parents, levels[place], chosen[child], child)
        tables.append(
            pd.DataFrame({**_names(levels, place, chosen[child], child), "by": words[child], **numbers})
        )
    return pd.concat(tables, ignore_index=True)


def is_kind_of(label: str, parent: str) -> bool:
    """Return whether a label names a kind of what another label names, that is, ends in its words.

    English puts what is meant last: a "brown background" is a background, a "sun flower" no sun.

    Example:
        >>> is_kind_of("brown background", "background"), is_kind_of("sun flower", "sun")
        (True, False)
    """
    return label.lower().endswith(f" {parent.lower()}") and bool(parent)


def with_labels(table: pd.DataFrame, names: Sequence[Sequence[LatentName]]) -> pd.DataFrame:
    """Return the links with what both latents are called, and whether by label one is a kind of the other.

    Args:
        table: of `link`.
        names: of all latents, for each level.
    """
    child, parent = (
        [names[level][j] for level, j in zip(table[of_level], table[latent], strict=True)]
        for of_level, latent in (("level", "latent"), ("parent_level", "parent"))
    )
    return table.assign(
        label=[name.label for name in child],
        named=[name.named for name in child],
        parent_label=[name.label for name in parent],
        parent_named=[name.named for name in parent],
        by_label=[is_kind_of(a.label, b.label) for a, b in zip(child, parent, strict=True)],
    )


def _check(levels: Sequence[Level]) -> None:
    if len(levels) < 2:
        raise ValueError(f"parents and children are of two levels at least, got {len(levels)}")
    if len({level.fires.shape[0] for level in levels}) > 1:
        raise ValueError("the latents of the levels were not seen on the same images")
    if len(widths := {level.directions.shape[1] for level in levels}) > 1:
        raise ValueError(f"the levels are of activations of different widths, {sorted(widths)}")


def _before(levels: Sequence[Level]) -> Level:
    """Return the latents of some levels as one."""
    latents, directions, fires = zip(*levels, strict=True)
    return Level(np.concatenate(latents), np.concatenate(directions), csc_array(hstack(fires, format="csc")))


def _kept(found: Sequence[_Parents], fdr: float) -> list[Ints]:
    """Return the places of the parents that chance does not explain, -1 for none, level by level."""
    keep = significant(torch.from_numpy(np.concatenate([parents.p for parents in found])), fdr).numpy()
    ends = np.cumsum([len(parents.p) for parents in found])[:-1]
    return [np.where(k, parents.place, -1) for k, parents in zip(np.split(keep, ends), found, strict=True)]


def _by_firing(parents: Level, level: Level) -> _Parents:
    n, n_parent = level.fires.shape[0], parents.images[:, None]
    place, p = np.full(len(level.latents), -1), np.ones(len(level.latents))
    for start in range(0, len(level.latents) if len(parents.latents) else 0, CHUNK):
        some = slice(start, start + CHUNK)
        n_child = level.images[some]
        common = (parents.fires.T @ level.fires[:, some]).toarray()
        inside = wilson(common / n_child, n_child, -Z) >= LEAST
        again = wilson(common / n_parent, n_parent, -Z) >= LEAST
        rarity = np.where(inside & ~again & (n_parent > n_child), n_parent, np.inf)
        nearest = rarity.argmin(0)
        at = nearest, np.arange(len(nearest))
        chance = hypergeom.sf(common[at] - 1, n, n_parent[nearest, 0], n_child) * len(n_parent)
        place[some] = nearest
        p[some] = np.where(np.isfinite(rarity[at]), chance.clip(max=1), 1.0)
    return _Parents(place, p)


def _by_direction(parents: Level, level: Level, seed: int) -> _Parents:
    units, own = _units(parents.directions), _units(level.directions)
    place, p = np.full(len(own), -1), np.ones(len(own))
    if not len(units) or not len(own):
        return _Parents(place, p)
    random = np.random.default_rng(seed).standard_normal((DRAWS, len(own))) @ own
    null = torch.from_numpy((_units(random) @ units.T).max(1))
    for start in range(0, len(own), CHUNK):
        some = slice(start, start + CHUNK)
        cosine = own[some] @ units.T
        common = (level.fires[:, some].T @ parents.fires).toarray()
        n_child, n_parent = level.images[some][:, None], parents.images
        again = np.minimum(*(wilson(common / n, n, -Z) for n in (n_child, n_parent)))
        cosine[again >= LEAST] = -1
        place[some], p[some] = cosine.argmax(1), p_values(torch.from_numpy(cosine.max(1)), null).numpy()
    return _Parents(place, p)


def _names(levels: Sequence[Level], place: int, parent: Ints, child: Ints) -> dict[str, Ints]:
    owner = np.repeat(np.arange(place), [len(level.latents) for level in levels[:place]])
    numbers = np.concatenate([level.latents for level in levels[:place]])
    return {
        "level": np.full(len(child), place),
        "latent": levels[place].latents[child],
        "parent_level": owner[parent],
        "parent": numbers[parent],
    }


def _numbers(parents: Level, level: Level, parent: Ints, child: Ints) -> dict[str, Floats]:
    common = parents.fires[:, parent].multiply(level.fires[:, child]).sum(0)
    n_parent, n_child = parents.images[parent], level.images[child]
    low, high = (wilson(common / n_child, n_child, z) for z in (-Z, Z))
    cosine = (_units(parents.directions[parent]) * _units(level.directions[child])).sum(1)
    return {
        "given_child": common / n_child,
        "low": low,
        "high": high,
        "given_parent": common / n_parent,
        "chance": n_parent / level.fires.shape[0],
        "cosine": cosine,
        "images": n_child.astype(np.int64),
    }


def _units(rows: Floats) -> Floats:
    units: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units
