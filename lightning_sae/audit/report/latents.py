"""All latents of a run as columns that a browser reads fast: 30,000 are a megabyte."""

import base64
import gzip
import json
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import pandas as pd

from lightning_sae.audit.findings import Audit
from lightning_sae.audit.report.sheets import MOST, ROW, SIDE, ExampleSheets, collect_examples
from lightning_sae.concepts.naming import names_of
from lightning_sae.report import plain
from lightning_sae.runs.folder import RunFolder

SHOWN = 8  # examples of a latent
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


def latent_columns(run: RunFolder, audit: Audit, drivers: pd.DataFrame) -> tuple[dict[str, Any], list[str]]:
    """Return what the script of the page reads, and the sheets with the pictures that it refers to.

    Args:
        run: with its latents.
        audit: whose culprits come first where examples are few.
        drivers: rows of `attribution.csv`.

    Returns:
        Columns: a value per latent in the order of `latents.csv`; texts as places in a list of their own
        (`labels`, `classes`), numbers rounded to three digits, `None` where unknown. By latent: `findings`,
        `drives` (class, attribution, share), `examples` (places in the sheets, or in `texts`).
    """
    table = run.latents
    culprits = culprits_of(audit)
    examples, places = _examples(run, _by_relevance(table, culprits))
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
        "examples": places,
        "texts": examples.texts,
        "side": SIDE,
        "row": ROW,
    }
    return {**columns, "labels": labels.words, "classes": classes.words}, examples.sheets


def packed(columns: dict[str, Any]) -> str:
    """Return JSON, gzip, base64: no letter of it means anything to HTML.

    Example:
        >>> packed({"label": "</script>"})[:4]
        'H4sI'
    """
    text = json.dumps(columns, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode("ascii")


def rounded(column: Iterable[Any]) -> list[float | None]:
    """Return the numbers to three digits; `None` where there is none.

    Example:
        >>> rounded([0.123456, "", float("inf"), 12345])
        [0.123, None, None, 12300.0]
    """
    numbers = pd.to_numeric(pd.Series(column, dtype=object), errors="coerce").astype(float)
    return [float(f"{x:.3g}") if abs(x) < float("inf") else None for x in numbers]


def culprits_of(audit: Audit) -> dict[int, list[int]]:
    """Return, by latent, the findings that it is a culprit of, the most severe first."""
    found: dict[int, list[int]] = {}
    for finding in audit.findings:
        for culprit in finding.culprits:
            found.setdefault(culprit.latent, []).append(finding.number)
    return found


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


def _by_relevance(table: pd.DataFrame, culprits: dict[int, list[int]]) -> list[int]:
    """Return the latents by their relevance for the reader of the report.

    First come the culprits, then what drives a class unexpectedly, then what drives a class at all, then what
    fires often.
    """
    keys = [name for name in ("unexpected", "attribution", "density") if name in table]
    rows = table[keys].apply(pd.to_numeric, errors="coerce") if keys else table[[]]
    rows = rows.sort_values(keys, ascending=False) if keys else rows
    known = set(culprits)
    return [*(j for j in culprits if j in rows.index), *(int(j) for j in rows.index if j not in known)]


def _examples(run: RunFolder, order: Sequence[int]) -> tuple[ExampleSheets, dict[int, list[int]]]:
    """Return the examples of the first latents, as many as a page takes; latent -> their places."""
    if "top_images" not in run.latents:
        return ExampleSheets({}, [], []), {}
    wanted: dict[int, list[int]] = {}
    ids: dict[int, None] = {}
    for latent in order:
        top = run.top_images(latent)[:SHOWN]
        if len(ids.keys() | top) > MOST:
            break
        wanted[latent] = top
        ids.update(dict.fromkeys(top))
    examples = collect_examples(run.data.images("val"), list(islice(ids, MOST)))
    return examples, {j: [examples.places[i] for i in top] for j, top in wanted.items() if top}


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
