"""The files of a comparison: tables, pictures, configs, and one HTML page that holds everything."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from lightning_sae.compare import view
from lightning_sae.compare.comparison import Comparison
from lightning_sae.compare.page import Picture, page, title
from lightning_sae.compare.pictures import draw_alignment, draw_parallel, draw_pareto
from lightning_sae.compare.table import cells, markdown, markdown_text
from lightning_sae.compare.variants import Cell
from lightning_sae.files import write_atomic
from lightning_sae.report.figures import png
from lightning_sae.trust.tables import csv_bytes

DPI = 140  # of pictures


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
    if len(found.seeds.table):
        files["recurrence.csv"] = csv_bytes(found.seeds.table)
    if len(found.widths.table):
        files["hierarchy.csv"] = csv_bytes(found.widths.table)
    names = [*files, "compare.html"]
    files["compare.html"] = page(found, list(pictures.values()), names).encode()
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
        pictures["parallel.png"] = Picture(png(parallel, DPI), caption, interactive=True)
    return pictures


def _markdown(found: Comparison, pictures: Sequence[str]) -> str:
    runs = [
        markdown(*cells(found.table, found.front)),
        f"\\* no run is better in both {found.trade_off_words}. Best first by {found.goal.key}.",
        *([legend] if (legend := found.table.legend) else []),
        *_baseline_texts(found),
        *_unfinished_texts(found),
        *_seed_texts(found),
    ]
    variants = _variant_texts(found)
    parts = [*variants, "## Runs", *runs] if found.side_by_side else [*runs, *variants]
    return "\n\n".join([f"# {title(found)}", *parts, *(f"![{name}]({name})" for name in pictures)]) + "\n"


def _baseline_texts(found: Comparison) -> list[str]:
    beside = {variant.run.name: view.beside_baselines(variant) for variant in found.variants}
    lines = [
        f"- {markdown_text(name)}: {markdown_text('; '.join(said))}" for name, said in beside.items() if said
    ]
    return ["## Beside what learned nothing", "\n".join(lines)] if lines else []


def _unfinished_texts(found: Comparison) -> list[str]:
    lines = [f"- {markdown_text(run.name)}: {markdown_text(run.why)}" for run in found.unfinished]
    return ["## Unfinished", "\n".join(lines)] if lines else []


def _seed_texts(found: Comparison) -> list[str]:
    parts = []
    for block in view.seed_blocks(found.seeds):
        parts += [f"## Seeds{': ' * bool(block['name'])}{markdown_text(block['name'])}", block["sentence"]]
        rows = [[f["kind"], f["class"], f["seeds"]] for f in block["findings"]]
        parts += [markdown(["kind", "class", "found in"], rows)] if rows else []
    return parts


def _variant_texts(found: Comparison) -> list[str]:
    names, parts = [variant.name for variant in found.variants], []
    if found.matrix:
        parts += ["## Which class relies on what", markdown(["class", *names], _matrix_texts(found.matrix))]
    if found.concepts.pairs:
        rows = [_concept_texts(block) for block in view.concept_blocks(found.concepts, found.variants)]
        header = ["variants", "in both", "only in the first", "only in the second"]
        parts += ["## Concepts", markdown(header, rows)]
    return parts


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
