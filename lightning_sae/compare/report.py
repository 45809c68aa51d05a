"""Everything that a comparison writes: tables, pictures, configs, the page."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from lightning_sae.compare import view
from lightning_sae.compare.page import picture_uri, png_uri, render
from lightning_sae.compare.pareto import pareto_front
from lightning_sae.compare.pictures import draw_alignment, draw_pareto, draw_parallel, png
from lightning_sae.compare.reading import Run, read_runs
from lightning_sae.compare.shared import Concepts, compare_concepts
from lightning_sae.compare.table import RunTable, cells, markdown, markdown_text, run_table
from lightning_sae.compare.variants import Cell, Variant, find_variants, reliance_matrix
from lightning_sae.data.atomic import write_atomic
from lightning_sae.goals import Goal
from lightning_sae.run_folder import CONFIG

MOST_VARIANTS = 8  # side by side on the page; every two of them are matched


class Comparison(NamedTuple):
    """What was found.

    Attributes:
        runs: all runs.
        table: of all runs.
        goal: which run is best.
        trade_off: the two goals of the Pareto front.
        front: names of the finished runs on it.
        variants: finished runs side by side.
        left_out: names of the variants beyond `MOST_VARIANTS`.
        matrix: class -> what it relies on, per variant.
        concepts: what the variants share.
    """

    runs: list[Run]
    table: RunTable
    goal: Goal
    trade_off: tuple[Goal, Goal]
    front: list[str]
    variants: list[Variant]
    left_out: list[str]
    matrix: dict[str, list[Cell]]
    concepts: Concepts

    @property
    def unfinished(self) -> list[Run]:
        """Runs that lack something."""
        return [run for run in self.runs if not run.finished]

    def bests(self) -> list[tuple[Run, str]]:
        """The best run and those on the front, each with the reason."""
        runs = {run.name: run for run in self.runs}
        finished = self.table.frame[self.table.frame["finished"]]
        best = [finished.index[0]] if len(finished) and finished[self.goal.key].notna().iloc[0] else []
        reasons = {name: f"on the front of {self.trade_off_words}" for name in [*best, *self.front]}
        for name in best:
            also = f", {reasons[name]}" if name in self.front else ""
            reasons[name] = f"best by {self.goal.key} ({runs[name].metrics[self.goal.key]:.4g}){also}"
        return [(runs[name], reason) for name, reason in reasons.items()]

    @property
    def trade_off_words(self) -> str:
        """`val/l0 and val/fvu`."""
        return " and ".join(goal.key for goal in self.trade_off)


def compare(
    folders: Sequence[str | Path], goal: Goal, trade_off: tuple[Goal, Goal], by: str = "clip"
) -> Comparison:
    """Reads runs and compares them; writes nothing.

    Args:
        folders: run folders, or folders of them.
        goal: which run is best.
        trade_off: two goals for the Pareto front.
        by: part of the config that makes a variant, or `run`.

    Raises:
        FileNotFoundError: a folder without runs.
        ValueError: a goal that no run has logged, or a part that no config has.
    """
    runs = read_runs(folders)
    table = run_table(runs, goal)
    finished = table.frame[table.frame["finished"]]
    if lacking := [g.key for g in trade_off if g.key not in table.frame]:
        raise ValueError(f"no run has logged {lacking[0]!r}: choose two others for the front")
    on_front = pareto_front(finished[[g.key for g in trade_off]], trade_off)
    found = find_variants(runs, by, goal)
    variants = found[:MOST_VARIANTS]
    left_out = [variant.name for variant in found[MOST_VARIANTS:]]
    matrix, concepts = reliance_matrix(variants), compare_concepts(variants)
    names = [str(name) for name in finished.index[on_front]]
    return Comparison(runs, table, goal, trade_off, names, variants, left_out, matrix, concepts)


def write(found: Comparison, out: Path) -> list[str]:
    """Writes what a comparison found, each file whole or not at all; their names."""
    out.mkdir(parents=True, exist_ok=True)
    pictures = _pictures(found)
    files: dict[str, bytes] = {
        "compare.csv": found.table.frame.to_csv(float_format="%.6g").encode(),
        "compare.md": _markdown(found, list(pictures)).encode(),
        "best.yaml": _best_yaml(found).encode(),
        **{name: content for name, (content, _) in pictures.items()},
    }
    if len(found.concepts.table):
        files["concepts.csv"] = found.concepts.table.to_csv(index=False, float_format="%.6g").encode()
    names = [*files, "compare.html"]
    files["compare.html"] = render(_context(found, pictures, names)).encode()
    for name, content in files.items():
        write_atomic(out / name, content)
    return names


def _pictures(found: Comparison) -> dict[str, tuple[bytes, str]]:
    """File -> PNG and caption."""
    frame = found.table.frame[found.table.frame["finished"]]
    drawn = {}
    if len(frame) > 1:
        front = np.isin(frame.index, found.front)
        drawn["pareto.png"] = (
            draw_pareto(frame, front.tolist(), found.trade_off),
            f"The trade-off between {found.trade_off_words}; a point is a run.",
        )
        drawn["parallel.png"] = (
            draw_parallel(found.table._replace(frame=frame), found.goal),
            f"Left what was set, right what came out; a line is a run, the darker the better by {found.goal.key}.",
        )
    if (alignment := draw_alignment(found.variants)) is not None:
        drawn["alignment.png"] = (alignment, "How well the labels agree with the images of their latents.")
    return {name: (png(figure), caption) for name, (figure, caption) in drawn.items()}


def _markdown(found: Comparison, pictures: Sequence[str]) -> str:
    names = [variant.name for variant in found.variants]
    parts = [f"# {_title(found)}", markdown(*cells(found.table, found.front))]
    parts.append(f"\\* no run is better in both {found.trade_off_words}. Best first by {found.goal.key}.")
    if found.unfinished:
        lines = [
            f"- {markdown_text(run.name)}: {markdown_text('; '.join(run.missing))}"
            for run in found.unfinished
        ]
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
            run.name: {"why": why, "overrides": run.overrides, "config": OmegaConf.load(run.folder / CONFIG)}
            for run, why in found.bests()
        }
    )


def _title(found: Comparison) -> str:
    runs = f"{len(found.runs)} run{'s' * (len(found.runs) > 1)}"
    return (
        f"{runs} compared" if len(found.variants) < 2 else f"{runs}, {len(found.variants)} variants compared"
    )


def _context(
    found: Comparison, pictures: dict[str, tuple[bytes, str]], files: Sequence[str]
) -> dict[str, Any]:
    header, rows = cells(found.table)
    names = [variant.name for variant in found.variants]
    galleries = [(v.name, picture_uri(v.run.folder / "pictures" / "gallery.png")) for v in found.variants]
    finished = pd.Series(found.table.frame["finished"])
    return {
        "title": _title(found),
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
        "figures": [{"uri": png_uri(content), "caption": caption} for content, caption in pictures.values()],
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
