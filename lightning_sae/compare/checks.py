"""What a comparison reads in the tables and cards of runs, looked for before it is read."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from lightning_sae.baselines.comparison import COLUMNS

AREAS = tuple(f"{curve}{end}" for curve in ("deletion", "insertion") for end in ("", "_low", "_high"))
NEEDED = {
    "latents": ("latent",),
    "attribution": ("class", "images"),
    "reliance": ("class", "share", "class_share", "images"),
    "faithfulness": ("method", *AREAS),
    "baselines": tuple(COLUMNS),
}
"""Columns of each table."""

COUNTS = ("latent", "images")
NUMBERS = (*COUNTS, "share", "class_share", "alignment", "unexpected", *AREAS, "trained", "baseline_value")
IDENTITY = ("model", "pretrained", "weights")  # of a CLIP, what titles are made of
ONCE = {"latents": "latent", "faithfulness": "method"}
"""Column of a table whose rows all differ in it."""


def check_table(name: str, table: pd.DataFrame) -> None:
    """Refuse a table of a run that lacks what is read in it; one without rows lacks nothing.

    Args:
        name: of the table, without its ending.
        table: as it was read.

    Raises:
        ValueError: a column is missing, holds something else than numbers, or a row stands there twice.

    Example:
        >>> check_table("attribution", pd.DataFrame({"class": ["cat"], "images": ["many"]}))
        Traceback (most recent call last):
        ValueError: the column images holds other things than numbers
    """
    if not len(table) or name not in NEEDED:
        return
    if missing := [column for column in NEEDED[name] if column not in table]:
        raise ValueError(f"it has no column {', '.join(missing)}")
    for column in table.columns.intersection([*NUMBERS]):
        if not pd.api.types.is_numeric_dtype(table[column]):
            raise ValueError(f"the column {column} holds other things than numbers")
    for column in set(COUNTS) & set(NEEDED[name]):
        if not (np.isfinite(table[column]) & (table[column] >= 0) & (table[column] % 1 == 0)).all():
            raise ValueError(f"the column {column} holds other things than whole numbers")
    if name in ONCE and len(twice := table[table[ONCE[name]].duplicated()]):
        raise ValueError(f"{ONCE[name]} {twice[ONCE[name]].iloc[0]} stands there twice")


def check_card(card: Mapping[str, Any]) -> None:
    """Refuse a card of an autoencoder that does not name its CLIP as `save_sae` does.

    Raises:
        ValueError: it does not.

    Example:
        >>> check_card({"provenance": 6})
        Traceback (most recent call last):
        ValueError: its provenance must be an object, and the identity of the CLIP in it one of texts
    """
    provenance = card.get("provenance", {})
    clip = provenance.get("clip", {}) if isinstance(provenance, dict) else None
    if not isinstance(clip, dict) or (clip and not all(isinstance(clip.get(key), str) for key in IDENTITY)):
        raise ValueError("its provenance must be an object, and the identity of the CLIP in it one of texts")
