"""What the page shows, as plain values: variants, who relies on what, shared concepts."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from lightning_sae.baselines.shown import words
from lightning_sae.clip import identity_titles
from lightning_sae.compare.seeds import SeedComparison, SeededRecipe
from lightning_sae.compare.shared_concepts import Concepts, Pair
from lightning_sae.compare.table import RunTable, cells
from lightning_sae.compare.variants import Cell, CulpritShare, Variant, contrasts
from lightning_sae.compare.widths import LinkedRuns, WidthComparison
from lightning_sae.concepts.naming import LatentName, names_of
from lightning_sae.report import percent
from lightning_sae.stability.findings import RecurringFinding
from lightning_sae.stability.shares import RecurringShare
from lightning_sae.tracking.values import VALUES, better, column_title, logged_value, shown_value

ROWS = 12  # of a list of latents


def variant_cards(variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """Name, CLIP and values of each variant; two values are original and with the SAE spliced in."""
    clips = [variant.run.card.get("provenance", {}).get("clip", {}) for variant in variants]
    titles = iter(identity_titles([clip for clip in clips if clip]))
    return [
        _card(variant, next(titles) if clip else "") for variant, clip in zip(variants, clips, strict=True)
    ]


def _card(variant: Variant, clip: str) -> dict[str, Any]:
    values: dict[str, list[str]] = {}
    for key, entry in VALUES.items():
        if entry.card and key in variant.run.metrics:
            values.setdefault(entry.card, []).append(shown_value(key, variant.run.metrics[key]))
    return {
        "name": variant.name,
        "run": variant.run.name,
        "runs": variant.runs,
        "clip": clip,
        "values": {name: " → ".join(shown) for name, shown in values.items()},
        "beside": _beside(variant),
    }


def _beside(variant: Variant) -> dict[str, str]:
    """Return the values of the baselines in words, by row of a card."""
    rows: dict[str, list[str]] = {}
    for key, entry in VALUES.items():
        if entry.card and (said := words(variant.run.baselines, key)):
            rows.setdefault(entry.card, []).append(said)
    return {name: "; ".join(said) for name, said in rows.items()}


def beside_baselines(variant: Variant) -> list[str]:
    """Return the numbers that fit in a narrow table, each with those of its baselines in brackets."""
    run = variant.run
    found = ((key, words(run.baselines, key)) for key in run.metrics if logged_value(key).narrow)
    return [
        f"{column_title(key)} {shown_value(key, run.metrics[key])} ({said})" for key, said in found if said
    ]


def run_columns(table: RunTable) -> list[dict[str, str]]:
    """Return the columns of the table of runs: the name, then what was set, then what came out."""
    settings = [{"title": key, "axis": "setting", "better": ""} for key in table.keys]
    values = [
        {"title": column_title(key), "axis": "value", "better": better(key) or ""} for key in table.shown
    ]
    return [{"title": "run", "axis": "", "better": ""}, *settings, *values]


def run_rows(table: RunTable, front: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of the table of runs; the cells of logged values have the number as well."""
    _, rows = cells(table)
    n_texts = len(rows[0]) - len(table.shown) if rows else 0
    numbers = table.frame[table.shown].to_numpy(dtype=float)
    return [
        {
            "finished": bool(finished),
            "front": row[0] in front,
            "cells": [
                *({"text": text, "number": None} for text in row[:n_texts]),
                *(
                    {"text": text, "number": "" if math.isnan(number) else repr(float(number))}
                    for text, number in zip(row[n_texts:], known, strict=True)
                ),
            ],
        }
        for row, known, finished in zip(rows, numbers, table.frame["finished"], strict=True)
    ]


def contrast_lines(
    matrix: dict[str, list[Cell]], names: Sequence[str], most: int = 8
) -> list[dict[str, Any]]:
    """Return where the variants differ most, a line each."""
    return [
        {
            "class": name,
            "share": percent(matrix[name][high].share),
            "in": names[high],
            "culprits": _said(matrix[name][high].culprits[:1]),
            "other_share": percent(matrix[name][low].share),
            "other": names[low],
        }
        for name, high, low in contrasts(matrix)[:most]
    ]


def matrix_rows(matrix: dict[str, list[Cell]], least: float = 0.01) -> list[dict[str, Any]]:
    """Return the rows of the matrix; culprits below `least` of what drives the class are left out."""
    return [
        {
            "class": name,
            "cells": [
                {
                    "share": 0.0 if math.isnan(cell.share) else cell.share,
                    "text": percent(cell.share) or "not judged",
                    "known": not math.isnan(cell.share),
                    "images": cell.images,
                    "culprits": _said([c for c in cell.culprits if c.share >= least]),
                }
                for cell in cells
            ],
        }
        for name, cells in matrix.items()
    ]


def _said(culprits: Sequence[CulpritShare]) -> list[tuple[LatentName, str]]:
    return [(culprit.name, percent(culprit.share)) for culprit in culprits]


def faithfulness_rows(variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """Return a row per method, with the areas under the deletion and insertion curves per variant.

    Each area has its interval.
    """
    tables = [variant.run.table("faithfulness") for variant in variants]
    rows = [table.set_index("method") if len(table) else table for table in tables]
    methods = dict.fromkeys(str(method) for table in rows for method in table.index)
    return [
        {"method": method.replace("_", " "), "cells": [_areas(table, method) for table in rows]}
        for method in methods
    ]


def _areas(table: pd.DataFrame, method: str) -> list[str]:
    if method not in table.index:
        return ["", ""]
    row = table.loc[method]
    return [
        f"{row[k]:.2f} [{row[f'{k}_low']:.2f}, {row[f'{k}_high']:.2f}]" for k in ("deletion", "insertion")
    ]


def concept_blocks(concepts: Concepts, variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """Return what each pair of variants shares, and what only one of them has."""
    return [_block(pair, variants) for pair in concepts.pairs]


def _block(pair: Pair, variants: Sequence[Variant]) -> dict[str, Any]:
    places = (pair.first, pair.second)
    latents = [variants[place].run.table("latents").set_index("latent", drop=False) for place in places]
    named = [_named(table) for table in latents]
    return {
        "names": [variants[place].name for place in places],
        "images": pair.images,
        "same": f"{pair.same:.2f}",
        "apart": f"{pair.apart:.2f}",
        "compared": [len(nearest) for nearest in pair.nearest],
        "shared": len(pair.matched),
        "alone": [len(pair.alone(place)) for place in places],
        "matched": [_match(row, latents) for row in pair.matched.head(ROWS).to_dict("records")],
        "only": [
            [_latent(row) for row in _first(table, pair.alone(place))]
            for place, table in zip(places, latents, strict=True)
        ],
        "labels": {
            "both": sorted(named[0] & named[1]),
            "only": [sorted(named[0] - named[1]), sorted(named[1] - named[0])],
        },
    }


def seed_blocks(seeds: SeedComparison) -> list[dict[str, Any]]:
    """Return what recurs of each recipe that has several seeds."""
    return [_seed_block(recipe) for recipe in seeds.recipes]


def _seed_block(recipe: SeededRecipe) -> dict[str, Any]:
    found, n = recipe.stability, len(recipe.stability.runs)
    first = found.latents[found.latents["run"] == found.runs[0].name]
    latents = first.sort_values("reconstruction", ascending=False, kind="stable")
    counts = (found.latents["recurs"] * (n - 1)).round().astype(int).value_counts()
    return {
        "name": recipe.name,
        "runs": [run.name for run in found.runs],
        "sentence": seed_sentence(found.shares, n),
        "shares": [
            {"what": what, "value": percent(share.value), "interval": _interval(share)}
            for what, share in found.shares.items()
        ],
        "limits": [f"{limit:.2f}" for limit in found.found.limits],
        "images": found.images,
        "counts": [(f"{i} of {n - 1}", int(counts.get(i, 0))) for i in reversed(range(n))],
        "lists": [
            (title, [_seed_latent(row) for row in latents[chosen].head(ROWS).to_dict("records")])
            for title, chosen in (
                (f"Of {found.runs[0].name}, in every other run", latents["recurs"] == 1),
                (f"Of {found.runs[0].name}, in no other run", latents["recurs"] == 0),
            )
        ],
        "findings": [_seed_finding(finding, n) for finding in recipe.findings],
        "problem": recipe.problem,
    }


def width_blocks(widths: WidthComparison) -> list[dict[str, Any]]:
    """Return the families of each recipe that has several widths."""
    return [_width_block(recipe) for recipe in widths.recipes]


def _width_block(recipe: LinkedRuns) -> dict[str, Any]:
    counts = recipe.table["level"].value_counts()
    families = [rows for _, rows in recipe.table.groupby(["parent_level", "parent"])]
    families.sort(key=lambda rows: -len(rows))
    return {
        "runs": [
            (run.name, int(counts.get(place, 0)), recipe.compared[place])
            for place, run in enumerate(recipe.runs)
            if place > 0
        ],
        "families": [_family(rows) for rows in families[:ROWS]],
    }


def _family(rows: pd.DataFrame) -> dict[str, Any]:
    first, shown = rows.iloc[0], rows.sort_values("images", ascending=False).head(ROWS)
    parent = LatentName(first["parent_label"], bool(first["parent_named"]))
    return {
        "parent": parent.or_number(first["parent"]),
        "run": first["parent_run"],
        "children": [_child(row) for row in shown.to_dict("records")],
        "more": len(rows) - len(shown),
    }


def _child(row: Mapping[Hashable, Any]) -> dict[str, Any]:
    how = f"cos {row['cosine']:.2f}" if row["by"] == "direction" else percent(row["given_child"])
    return {"name": LatentName.of(row).or_number(row["latent"]), "how": how}


def seed_sentence(shares: Mapping[str, RecurringShare], n: int) -> str:
    """Return how much recurs, in one sentence.

    Example:
        >>> seed_sentence({"latents": RecurringShare(0.66, 0.6, 0.7)}, 5)
        'Of 5 seeds, in any other one recur 66 % (60 % to 70 %) of the latents.'
    """
    known = [
        f"{percent(share.value)}{_interval(share) and f' ({_interval(share)})'} of the {what}"
        for what, share in shares.items()
        if percent(share.value)
    ]
    return f"Of {n} seeds, in any other one recur {', '.join(known)}."


def _interval(share: RecurringShare) -> str:
    return "" if math.isnan(share.low) else f"{percent(share.low)} to {percent(share.high)}"


def _seed_latent(row: dict[Hashable, Any]) -> dict[str, Any]:
    latent = int(row["latent"])
    return {
        "name": LatentName.of(row).or_number(latent),
        "reconstruction": percent(row["reconstruction"], digits=1),
        "cosine": f"{row['cosine']:.2f}",
        "correlation": f"{row['correlation']:.2f}",
    }


def _seed_finding(finding: RecurringFinding, n: int) -> dict[str, Any]:
    first = max((member.finding for member in finding.members), key=lambda one: one.harm.value)
    culprits = (LatentName(culprit.label, culprit.named) for culprit in first.culprits[:1])
    return {
        "kind": first.kind,
        "class": first.class_name,
        "seeds": f"{finding.seeds} of {n} seeds",
        "culprit": next(culprits).or_number(first.culprits[0].latent),
        "harm": percent(first.harm.value),
    }


def _named(latents: pd.DataFrame) -> set[str]:
    """Return the names that latents have."""
    return {name.label for name in names_of(latents) if name.named}


def _first(latents: pd.DataFrame, chosen: Sequence[int]) -> list[dict[Hashable, Any]]:
    """Return the chosen latents, the named ones first, in the order of the table."""
    rows = latents.loc[latents.index.isin(chosen)].to_dict("records")
    return sorted(rows, key=lambda row: not LatentName.of(row).named)[:ROWS]


def _match(row: dict[Hashable, Any], latents: Sequence[pd.DataFrame]) -> dict[str, Any]:
    pair = [
        _latent(t.loc[int(row[key])].to_dict()) for t, key in zip(latents, ("first", "second"), strict=True)
    ]
    return {"latents": pair, "correlation": f"{row['correlation']:.2f}"}


def _latent(row: dict[Hashable, Any]) -> dict[str, Any]:
    """Return a latent in words; `unexpected`: it does not mean the class that it drives most."""
    drives = str(row.get("attribution_class") or "")
    unexpected = bool(row.get("unexpected", 0) > 0 and row.get("unexpected_class") == drives)
    return {
        "latent": int(row["latent"]),
        "name": LatentName.of(row).or_number(int(row["latent"])),
        "drives": drives,
        "unexpected": unexpected,
    }
