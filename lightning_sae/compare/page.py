"""One HTML page that holds everything: no script, no link, nothing that is fetched."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from lightning_sae import __version__
from lightning_sae.compare import view
from lightning_sae.compare.comparison import Comparison
from lightning_sae.compare.runs import Run
from lightning_sae.compare.table import cells
from lightning_sae.report import picture_uri, png_uri
from lightning_sae.runs.folder import CONFIG
from lightning_sae.trust.documents import read_config


class Picture(NamedTuple):
    """A PNG, what it shows, and whether it takes the whole width."""

    content: bytes
    caption: str
    broad: bool = False


def title(found: Comparison) -> str:
    """Its heading."""
    runs = f"{len(found.runs)} run{'s' * (len(found.runs) > 1)}"
    return (
        f"{runs} compared" if len(found.variants) < 2 else f"{runs}, {len(found.variants)} variants compared"
    )


def page_context(found: Comparison, pictures: Sequence[Picture], files: Sequence[str]) -> dict[str, Any]:
    """What the template names.

    Args:
        found: the comparison.
        pictures: of all runs, in their order on the page.
        files: names of the files that are written beside the page.
    """
    header, rows = cells(found.table)
    names = [variant.name for variant in found.variants]
    galleries = [(v.name, picture_uri(v.run.folder / "pictures" / "gallery.png")) for v in found.variants]
    finished = found.table.frame["finished"]
    return {
        "title": title(found),
        "lead": _lead(found),
        "total": len(found.runs),
        "unfinished": [
            {"name": r.name, "folder": str(r.folder), "missing": "; ".join(r.missing)}
            for r in found.unfinished
        ],
        "cards": view.variant_cards(found.variants),
        "left_out": ", ".join(found.left_out),
        "contrasts": view.contrast_lines(found.matrix, names),
        "matrix": view.matrix_rows(found.matrix),
        "sort": found.goal.key,
        "pareto": found.trade_off_words,
        "header": header,
        "n_text": len(found.table.keys),
        "rows": [
            {"cells": row, "finished": bool(done), "front": row[0] in found.front}
            for row, done in zip(rows, finished, strict=True)
        ],
        "figures": [{"uri": png_uri(p.content), "caption": p.caption, "broad": p.broad} for p in pictures],
        "faithfulness": view.faithfulness_rows(found.variants),
        "concepts": view.concept_blocks(found.concepts, found.variants),
        "problems": found.concepts.problems if len(found.variants) > 1 else [],
        "galleries": [{"name": name, "uri": uri} for name, uri in galleries if uri],
        "bests": [_best(run, why) for run, why in found.bests()],
        "version": __version__,
        "files": ", ".join(files),
    }


def _best(run: Run, why: str) -> dict[str, str]:
    config = OmegaConf.to_yaml(read_config(run.folder / CONFIG))
    return {"name": run.name, "why": why, "overrides": " ".join(run.overrides), "config": config}


def _lead(found: Comparison) -> str:
    """What a reader must know first, in one sentence or two."""
    best = found.bests()
    words = f"Best by {found.goal.key}: run {best[0][0].name}." if best else "No run has finished."
    if len(found.variants) > 1:
        words += f" Side by side: {', '.join(variant.name for variant in found.variants)}."
    return words
