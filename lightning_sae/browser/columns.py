"""All latents of a run as columns that a browser reads fast: 30,000 latents take a megabyte."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from lightning_sae.browser.examples import LatentExamples
from lightning_sae.browser.sheets import ROW
from lightning_sae.concepts.naming import names_of
from lightning_sae.report import plain
from lightning_sae.runs.folder import RunFolder

NUMBERS = (
    "alignment",
    "margin",
    "p",
    "validity",
    "clarity",
    "monosemanticity",
    "polysemanticity",
    "polysemanticity_semantic_lens",
    "redundancy",
    "density",
    "attribution",
    "unexpected",
)
"""Columns of `latents.csv` with numbers that the page shows."""


def latent_columns(
    run: RunFolder, drivers: pd.DataFrame, culprits: dict[int, list[int]], examples: LatentExamples
) -> dict[str, Any]:
    """Return what the scripts of a page read.

    Args:
        run: an opened run with its latents.
        drivers: rows of `attribution.csv`.
        culprits: latent -> numbers of the audit's findings in which it is a culprit.
        examples: examples that the page has.

    Returns:
        Columns: a value per latent in the order of `latents.csv`; texts as places in a list of their own
        (`labels`, `classes`), numbers rounded to three digits, `None` where unknown. By latent: `findings`,
        `drives` (class, attribution, share), `examples` (places in the sheets, or in `texts`).
    """
    table = run.latents
    names, labels, classes = names_of(table), _Words(), _Words()
    columns = {
        "latent": [int(j) for j in table.index],
        "label": labels.places([name.label for name in names]),
        "second": labels.places(_texts(table, "second_label")),
        "driven": classes.places(_texts(table, "attribution_class")),
        "misled": classes.places(_texts(table, "unexpected_class")),
        "named": [int(name.named) for name in names],
        "numbers": {name: rounded(table[name]) for name in NUMBERS if name in table},
        "findings": culprits,
        "drives": _drives(drivers, classes),
        "examples": examples.places,
        "texts": examples.sheets.texts,
        "side": examples.sheets.side,
        "row": ROW,
    }
    return {**columns, "labels": labels.words, "classes": classes.words}


def rounded(column: Iterable[Any]) -> list[float | None]:
    """Return the numbers to three digits; `None` where there is none.

    Example:
        >>> rounded([0.123456, "", float("inf"), 12345])
        [0.123, None, None, 12300.0]
    """
    numbers = pd.to_numeric(pd.Series(column, dtype=object), errors="coerce").astype(float)
    return [float(f"{x:.3g}") if abs(x) < float("inf") else None for x in numbers]


class _Words:
    """A list of different texts; a column refers to them by place, -1 for none."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._place: dict[str, int] = {}

    def place(self, word: str) -> int:
        if word and word not in self._place:
            self._place[word] = len(self.words)
            self.words.append(plain(word))
        return self._place.get(word, -1)

    def places(self, words: Sequence[str]) -> list[int]:
        return [self.place(word) for word in words]


def _texts(table: pd.DataFrame, name: str) -> list[str]:
    return [str(word) for word in table[name]] if name in table else [""] * len(table)


def _drives(
    drivers: pd.DataFrame, classes: _Words
) -> dict[int, list[tuple[int, float | None, float | None]]]:
    found: dict[int, list[tuple[int, float | None, float | None]]] = {}
    for row in drivers.to_dict("records"):
        attribution, share = rounded([row["attribution"], row["share"]])
        found.setdefault(int(row["latent"]), []).append(
            (classes.place(str(row["class"])), attribution, share)
        )
    return found
