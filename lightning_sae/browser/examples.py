"""The examples of latents in a page: the images that the page has, and their places on it."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import pandas as pd

from lightning_sae.browser.sheets import MOST, ExampleSheets, collect_examples
from lightning_sae.runs.folder import RunFolder

SHOWN = 8  # examples of a latent


class LatentExamples(NamedTuple):
    """The examples that a page has of latents.

    Attributes:
        sheets: the pictures of the examples, or their texts.
        places: latent -> places of its examples, the largest activation first; a latent without any is left
            out.
    """

    sheets: ExampleSheets
    places: Mapping[int, list[int]]


def first_examples(run: RunFolder, first: Iterable[int] = ()) -> LatentExamples:
    """Return all examples of the most relevant latents, for as many latents as a page takes.

    Args:
        run: an opened run with its latents.
        first: latents that come before all others.
    """
    if "top_images" not in run.latents:
        return LatentExamples(ExampleSheets({}, [], []), {})
    wanted: dict[int, list[int]] = {}
    ids: dict[int, None] = {}
    for latent in by_relevance(run.latents, first):
        top = run.top_images(latent)[:SHOWN]
        if len(ids.keys() | top) > MOST:
            break
        wanted[latent] = top
        ids.update(dict.fromkeys(top))
    sheets = collect_examples(run.data.images("val"), list(islice(ids, MOST)))
    return LatentExamples(sheets, {j: [sheets.places[i] for i in top] for j, top in wanted.items() if top})


def by_relevance(table: pd.DataFrame, first: Iterable[int] = ()) -> Sequence[int]:
    """Return the latents of `latents.csv` by their relevance for a reader.

    First come latents that are asked for, then latents that drive a class unexpectedly, then latents that
    drive a class at all, then latents that fire often.

    Example:
        >>> by_relevance(pd.DataFrame({"attribution": [0.1, 0.3, 0.2]}), first=[2])
        [2, 1, 0]
    """
    keys = [name for name in ("unexpected", "attribution", "density") if name in table]
    rows = table[keys].apply(pd.to_numeric, errors="coerce") if keys else table[[]]
    rows = rows.sort_values(keys, ascending=False) if keys else rows
    known = dict.fromkeys(j for j in first if j in rows.index)
    return [*known, *(int(j) for j in rows.index if j not in known)]
