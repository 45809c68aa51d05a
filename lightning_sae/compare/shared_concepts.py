"""Which concepts variants share and which only one has: by the images that latents fire on, and by label."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from lightning_sae.compare.matching import MIN_IMAGES, Matching, match_latents, sparse_columns
from lightning_sae.compare.variants import Variant
from lightning_sae.concepts.naming import LatentName, names_of
from lightning_sae.runs.image_latents import FILE, ImageLatentsFile, load_image_latents
from lightning_sae.trust.control_characters import visible

MOST = 4000  # latents of a run, the first of latents.csv: the assignment takes their number cubed


class Pair(NamedTuple):
    """Two variants.

    Attributes:
        first, second: their places.
        matched: a row per shared concept, the strongest first: `first`, `second` (latents), `correlation`.
        nearest: for each of the two, correlation of each compared latent with the nearest of the other.
        same: correlation above which partners are one concept.
        apart: correlation up to which a latent has nothing like it in the other.
        images: images that the correlations are over.
    """

    first: int
    second: int
    matched: pd.DataFrame
    nearest: tuple["pd.Series[float]", "pd.Series[float]"]
    same: float
    apart: float
    images: int

    def alone(self, place: int) -> list[int]:
        """Return the latents of a variant that have nothing like them in the other."""
        nearest = self.nearest[place != self.first]
        return [int(latent) for latent in nearest.index[nearest <= self.apart]]


class Concepts(NamedTuple):
    """The concepts that variants share.

    Attributes:
        pairs: those that could be compared.
        problems: why others could not.
        table: a row per compared latent of every variant: `variant`, `latent`, `label`, `named`, ...; for
            each other variant its `partner`, the partner's `label` and whether it is `named`, and the
            correlation with the `nearest`.
    """

    pairs: list[Pair]
    problems: list[str]
    table: pd.DataFrame


def compare_concepts(variants: Sequence[Variant]) -> Concepts:
    """Match the latents of every two variants."""
    files, problems = _read(variants)
    pairs: list[Pair] = []
    for i, j in combinations(sorted(files), 2):
        names = f"{variants[i].name} and {variants[j].name}"
        if files[i].images != files[j].images:
            problems.append(f"{names} were validated on different images: their latents cannot be matched")
        elif (pair := _pair(variants, files, i, j)) is None:
            problems.append(f"{names}: one has fewer than two latents that fire on {MIN_IMAGES} images")
        else:
            pairs.append(pair)
    return Concepts(pairs, problems, _table(variants, pairs))


def _read(variants: Sequence[Variant]) -> tuple[dict[int, ImageLatentsFile], list[str]]:
    files, problems = {}, []
    for place, variant in enumerate(variants):
        try:
            files[place] = _read_latents(variant)
        except (FileNotFoundError, ValueError) as error:
            problems.append(visible(f"{variant.name}: {error}"))
    return files, problems


def _read_latents(variant: Variant) -> ImageLatentsFile:
    file, listed = load_image_latents(variant.run.folder), variant.run.table("latents")
    if len(listed) and listed["latent"].max() >= file.latents.d_sae:
        raise ValueError(f"latents.csv lists latents beyond the {file.latents.d_sae} of {FILE}")
    return file


def _pair(variants: Sequence[Variant], files: dict[int, ImageLatentsFile], i: int, j: int) -> Pair | None:
    ids = [files[place].image_ids for place in (i, j)]
    common = ids[0][torch.isin(ids[0], ids[1])]
    latents = [files[place].latents.keep(torch.isin(files[place].image_ids, common)) for place in (i, j)]
    firing = [torch.bincount(part.indices[part.values > 0], minlength=part.d_sae) for part in latents]
    chosen = [_chosen(variants[place], count.numpy()) for place, count in zip((i, j), firing, strict=True)]
    if min(map(len, chosen)) < 2:
        return None
    found = match_latents(*(sparse_columns(part, which) for part, which in zip(latents, chosen, strict=True)))
    nearest = (pd.Series(found.nearest_first, chosen[0]), pd.Series(found.nearest_second, chosen[1]))
    return Pair(i, j, _matched(found, chosen), nearest, found.same, found.apart, len(common))


def _chosen(variant: Variant, firing: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the latents of the table that fire often enough, in its order."""
    listed = variant.run.table("latents").get("latent", pd.Series(dtype=int)).to_numpy(dtype=np.int64)
    chosen: NDArray[np.int64] = listed[firing[listed] >= MIN_IMAGES][:MOST]
    return chosen


def _matched(matching: Matching, chosen: Sequence[NDArray[np.int64]]) -> pd.DataFrame:
    pairs = {"first": chosen[0][matching.first], "second": chosen[1][matching.second]}
    frame = pd.DataFrame({**pairs, "correlation": matching.correlation})
    frame = frame[frame["correlation"] > matching.same]
    return frame.sort_values("correlation", ascending=False, kind="stable").reset_index(drop=True)


def _table(variants: Sequence[Variant], pairs: Sequence[Pair]) -> pd.DataFrame:
    parts = []
    for place, variant in enumerate(variants):
        partners: list[pd.DataFrame | pd.Series[Any]] = [
            _partners(variants, pair, place) for pair in pairs if place in (pair.first, pair.second)
        ]
        if partners:
            latents = variant.run.table("latents").drop(columns="top_images", errors="ignore")
            rows = latents.set_index("latent", drop=False).assign(variant=variant.name)
            parts.append(rows.join(partners, how="inner"))
    if not parts:
        return pd.DataFrame(columns=["variant", "latent"])
    table = pd.concat(parts, ignore_index=True)
    return table[["variant", *(column for column in table if column != "variant")]]


def _partners(variants: Sequence[Variant], pair: Pair, place: int) -> pd.DataFrame:
    """Return for each latent its partner in the other variant, and what the partner is called.

    A further column has the correlation with the nearest latent of the other variant.
    """
    own, other = ("first", "second") if place == pair.first else ("second", "first")
    name = variants[getattr(pair, other)].name
    nearest = pair.nearest[place != pair.first]
    partner = pair.matched.set_index(own)[other].reindex(nearest.index).astype("Int64")
    names = _names(variants[getattr(pair, other)])
    labels, named = ({j: called[k] for j, called in names.items()} for k in (0, 1))
    return pd.DataFrame(
        {
            f"partner in {name}": partner,
            f"label in {name}": partner.map(labels, na_action="ignore"),
            f"named in {name}": partner.map(named, na_action="ignore"),
            f"nearest in {name}": nearest,
        }
    )


def _names(variant: Variant) -> dict[int, LatentName]:
    """Return what each latent of a variant's table is called."""
    latents = variant.run.table("latents")
    return dict(zip(latents["latent"], names_of(latents), strict=True)) if len(latents) else {}
