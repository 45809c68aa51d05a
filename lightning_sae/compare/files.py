"""The files of a comparison: tables, pictures, configs, and one HTML page that holds everything."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import OmegaConf

from lightning_sae import __version__
from lightning_sae.compare import view
from lightning_sae.compare.comparison import Comparison
from lightning_sae.compare.pictures import draw_alignment, draw_parallel, draw_pareto
from lightning_sae.compare.runs import Run
from lightning_sae.compare.table import cells, markdown, markdown_text
from lightning_sae.compare.variants import Cell
from lightning_sae.files import write_atomic
from lightning_sae.report import picture_uri, png_uri, render
from lightning_sae.report.figures import png
from lightning_sae.trust.control_characters import visible
from lightning_sae.trust.tables import csv_bytes

DPI = 140  # of pictures


class Picture(NamedTuple):
    """A PNG, what it shows, and whether it takes the whole width."""

    content: bytes
    caption: str
    broad: bool = False


def title(found: Comparison) -> str:
    """Return the heading of a comparison."""
    runs = f"{len(found.runs)} run{'s' * (len(found.runs) > 1)}"
    return (
        f"{runs} compared" if len(found.variants) < 2 else f"{runs}, {len(found.variants)} variants compared"
    )


def page_context(found: Comparison, pictures: Sequence[Picture], files: Sequence[str]) -> dict[str, Any]:
    """Return what the template names.

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
            {"name": r.name, "folder": visible(str(r.folder)), "why": r.why} for r in found.unfinished
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
    config = OmegaConf.to_yaml(run.config)
    return {"name": run.name, "why": why, "overrides": " ".join(run.overrides), "config": config}


def _lead(found: Comparison) -> str:
    """Return what a reader must know first, in one sentence or two."""
    best = found.bests()
    words = f"Best by {found.goal.key}: run {best[0][0].name}." if best else "No run has finished."
    if len(found.variants) > 1:
        words += f" Side by side: {', '.join(variant.name for variant in found.variants)}."
    return words


def write(found: Comparison, out: Path) -> list[str]:
    """Write what a comparison found, each file whole or not at all, and return their names."""
    out.mkdir(parents=True, exist_ok=True)
    pictures = _pictures(found)
    files: dict[str, bytes] = {
        "compare.csv": csv_bytes(found.table.frame, index=True),
        "compare.md": _markdown(found, list(pictures)).encode(),
        "best.yaml": _best_yaml(found).encode(),
        **{name: picture.content for name, picture in pictures.items()},
    }
    if len(found.concepts.table):
        files["concepts.csv"] = csv_bytes(found.concepts.table)
    names = [*files, "compare.html"]
    files["compare.html"] = render(
        "lightning_sae.compare", page_context(found, list(pictures.values()), names)
    ).encode()
    for name, content in files.items():
        write_atomic(out / name, content)
    return names


def _pictures(found: Comparison) -> dict[str, Picture]:
    """Return the pictures, by file."""
    frame = found.table.frame[found.table.frame["finished"]]
    pictures = {}
    if len(frame) > 1:
        figure = draw_pareto(frame, np.isin(frame.index, found.front).tolist(), found.trade_off)
        pictures["pareto.png"] = Picture(
            png(figure, DPI), f"The trade-off between {found.trade_off_words}; a point is a run."
        )
    if (alignment := draw_alignment(found.variants)) is not None:
        pictures["alignment.png"] = Picture(
            png(alignment, DPI), "How well the labels agree with the images of their latents."
        )
    if len(frame) > 1:
        parallel = draw_parallel(found.table._replace(frame=frame), found.goal)
        caption = (
            f"What was set (left) and what came out (right); the darker a run, the better {found.goal.key}."
        )
        pictures["parallel.png"] = Picture(png(parallel, DPI), caption, broad=True)
    return pictures


def _markdown(found: Comparison, pictures: Sequence[str]) -> str:
    names = [variant.name for variant in found.variants]
    parts = [f"# {title(found)}", markdown(*cells(found.table, found.front))]
    parts.append(f"\\* no run is better in both {found.trade_off_words}. Best first by {found.goal.key}.")
    if found.unfinished:
        lines = [f"- {markdown_text(run.name)}: {markdown_text(run.why)}" for run in found.unfinished]
        parts += ["## Unfinished", "\n".join(lines)]
    if found.matrix:
        parts += ["## Which class relies on what", markdown(["class", *names], _matrix_texts(found.matrix))]
    if found.concepts.pairs:
        rows = [_concept_texts(block) for block in view.concept_blocks(found.concepts, found.variants)]
        parts += [
            "## Concepts",
            markdown(["variants", "in both", "only in the first", "only in the second"], rows),
        ]
    parts += [f"![{name}]({name})" for name in pictures]
    return "\n\n".join(parts) + "\n"


def _matrix_texts(matrix: dict[str, list[Cell]]) -> list[list[str]]:
    return [
        [
            row["class"],
            *(" ".join([c["text"], *(f"{n} ({s})" for n, s in c["culprits"])]) for c in row["cells"]),
        ]
        for row in view.matrix_rows(matrix)
    ]


def _concept_texts(block: dict[str, Any]) -> list[str]:
    return [" and ".join(block["names"]), str(block["shared"]), *map(str, block["alone"])]


def _best_yaml(found: Comparison) -> str:
    """Run -> why it is here, what its command line said, and its config as it was saved."""
    return OmegaConf.to_yaml(
        {
            run.name: {"why": why, "overrides": run.overrides, "config": run.config}
            for run, why in found.bests()
        }
    )
