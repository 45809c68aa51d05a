"""Edits of latents as people write them: `108=0`, `brown background*2`."""

import difflib
import math
import re
from collections.abc import Sequence

import pandas as pd

from lightning_sae.concepts.naming import names_of
from lightning_sae.steering.intervention import Edit, Scale

_WORD = re.compile(r"\s*(?P<latent>.*?)\s*(?P<sign>[=*])\s*(?P<number>[^=*]*?)\s*", re.DOTALL)
_SHOWN = 10  # latents that have one label


def read_edits(words: Sequence[str], latents: pd.DataFrame, d_sae: int) -> dict[int, Edit]:
    """Read `LATENT=VALUE` (set to a value) and `LATENT*FACTOR` (scaled).

    A latent is named by its number or by its label, in whatever case. A label means the *named* latents that
    have it or, where there are none, the latents that have it as a guess. A concept is often split over
    several latents: all of them are scaled together, but only a single latent can be set to a value.

    Args:
        words: as they are written, one an edit.
        latents: `latents.csv` of the run by latent, those that fired on its validation images.
        d_sae: latents of the autoencoder.

    Raises:
        ValueError: an edit of another form, a value that is no finite number, a latent that does not exist,
            is dead or comes twice, a label that no latent has, or a label of several latents to be set.

    Example:
        >>> table = pd.DataFrame({"label": ["brown", "star"], "named": [True, False]}, index=[12, 40])
        >>> read_edits(["12=0.5", "Star * -1"], table, d_sae=64)
        {12: 0.5, 40: Scale(factor=-1.0)}
    """
    edits: dict[int, Edit] = {}
    for word in words:
        found = _WORD.fullmatch(word)
        if found is None or not found["latent"]:
            raise ValueError(
                "an edit is LATENT=VALUE or LATENT*FACTOR, with the number of a latent or its label, as "
                f"108=0 or 'brown background*2'; got {word!r}"
            )
        number = _number(found["number"], word)
        edit = number if found["sign"] == "=" else Scale(number)
        for latent in _latents(found["latent"], latents, d_sae, one=found["sign"] == "="):
            if latent in edits:
                raise ValueError(
                    f"latent {latent} is edited more than once, again by {word!r}: keep one of them"
                )
            edits[latent] = edit
    return edits


def _number(text: str, word: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"the value of an edit is a finite number, got {text!r} in {word!r}")
    return number


def _latents(text: str, latents: pd.DataFrame, d_sae: int, one: bool) -> list[int]:
    if not text.isdecimal():
        return _by_label(text, latents, one)
    latent = int(text)
    if latent >= d_sae:
        raise ValueError(f"a latent is one of 0..{d_sae - 1}, got {latent}")
    if latent not in latents.index:
        raise ValueError(
            f"latent {latent} is dead: it fires on no validation image of the run, so that nothing is known "
            "of it; name one of latents.csv"
        )
    return [latent]


def _by_label(text: str, latents: pd.DataFrame, one: bool) -> list[int]:
    names, wanted = names_of(latents), text.casefold()
    have = [j for j, name in zip(latents.index, names, strict=True) if name.label.casefold() == wanted]
    named = [j for j, name in zip(latents.index, names, strict=True) if name.named and j in have]
    found = named or have
    if one and len(found) > 1:
        if "alignment" in latents:
            fit = pd.to_numeric(latents.loc[found, "alignment"])
            found = fit.sort_values(ascending=False, kind="stable").index.tolist()
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        numbers = ", ".join(map(str, found[:_SHOWN]))
        raise ValueError(
            f"{text!r} is the label of latents {numbers}{more}: scale all of them by '{text}*FACTOR', or "
            "name one by its number, the first is the one that the label fits best"
        )
    if not found:
        labels = {name.label.casefold(): name.label for name in names if name.label}
        close = [labels[word] for word in difflib.get_close_matches(wanted, labels, n=3)]
        nearest = f"the nearest labels are {', '.join(map(repr, close))}" if close else "no label is near it"
        raise ValueError(f"no latent has the label {text!r}; {nearest}: latents.csv has them all")
    return [int(j) for j in found]
