"""One HTML page that holds everything: no script, no link, nothing that is fetched."""

import base64
import io
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from omegaconf import OmegaConf
from PIL import Image, UnidentifiedImageError

from lightning_sae.compare import view
from lightning_sae.compare.comparison import Comparison
from lightning_sae.compare.reading import Run
from lightning_sae.compare.table import cells
from lightning_sae.run_folder import CONFIG

WIDTH = 1500  # pixels; a larger picture of a run is made smaller


class Picture(NamedTuple):
    """A PNG, what it shows, and whether it takes the whole width."""

    content: bytes
    caption: str
    broad: bool = False


def render(context: dict[str, Any]) -> str:
    """The page. Every text is escaped, and the page's own policy forbids scripts and requests.

    Args:
        context: what the template `page.html.jinja` names.
    """
    environment = Environment(
        loader=PackageLoader("lightning_sae.compare"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(context)


def png_uri(content: bytes) -> str:
    """A PNG as the source of an image.

    Example:
        >>> png_uri(b"abc")
        'data:image/png;base64,YWJj'
    """
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"


def picture_uri(path: Path) -> str:
    """A picture of a run folder, drawn anew as JPEG; "" where there is none that can be read."""
    try:
        with Image.open(path) as image:
            image.thumbnail((WIDTH, 10 * WIDTH))
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, "JPEG", quality=85, optimize=True)
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError):
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


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
        "cards": [view.variant_card(variant) for variant in found.variants],
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
        "version": version("lightning_sae"),
        "files": ", ".join(files),
    }


def _best(run: Run, why: str) -> dict[str, str]:
    config = OmegaConf.to_yaml(OmegaConf.load(run.folder / CONFIG))
    return {"name": run.name, "why": why, "overrides": " ".join(run.overrides), "config": config}


def _lead(found: Comparison) -> str:
    """What a reader must know first, in one sentence or two."""
    best = found.bests()
    words = f"Best by {found.goal.key}: run {best[0][0].name}." if best else "No run has finished."
    if len(found.variants) > 1:
        words += f" Side by side: {', '.join(variant.name for variant in found.variants)}."
    return words
