"""The page of a comparison."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup
from omegaconf import OmegaConf

from lightning_sae import __version__
from lightning_sae.compare import view
from lightning_sae.compare.comparison import Comparison
from lightning_sae.compare.runs import Run
from lightning_sae.report import picture_uri, png_uri, render
from lightning_sae.report.policy import policy
from lightning_sae.report.style import script_of, style_of
from lightning_sae.trust.control_characters import visible

SCRIPTS = ("axes", "parallel", "main")  # in this order, one module
PARTS = {
    "variants": ("Summary", "cards"),
    "matrix": ("Reliance", "matrix"),
    "concepts": ("Concepts", "matched"),
    "seeds": ("Seeds", "seeds"),
    "widths": ("Widths", "widths"),
    "runs": ("Runs", "rows"),
    "pictures": ("Pictures", "figures"),
    "faithfulness": ("Faithfulness", "faithfulness"),
    "galleries": ("Galleries", "galleries"),
    "configs": ("Configs", "bests"),
}
"""Templates, with what the way to each is called and what it shows: one with nothing to show is left out."""
RUNS = ("runs", "pictures")  # come first where there are no variants to compare


class Picture(NamedTuple):
    """A PNG, what it shows, and whether the page has it drawn by its script instead."""

    content: bytes
    caption: str
    interactive: bool = False


def page(found: Comparison, pictures: Sequence[Picture], names: Sequence[str]) -> str:
    """Return the page of a comparison: what varies comes first, variants side by side, else the runs.

    It needs nothing beside it; its own policy allows its one script, and no request.

    Args:
        found: the comparison.
        pictures: of all runs, in their order on the page.
        names: of the files that are written beside the page.
    """
    style, script = style_of(__package__), script_of(__package__, SCRIPTS)
    variants = [variant.name for variant in found.variants]
    galleries = [(v.name, picture_uri(v.run.folder / "pictures" / "gallery.png")) for v in found.variants]
    context = {
        "policy": policy(style, script),
        "style": Markup(style),
        "script": Markup(script),
        "title": title(found),
        "lead": _lead(found),
        "total": len(found.runs),
        "unfinished": [
            {"name": r.name, "folder": visible(str(r.folder)), "why": r.why} for r in found.unfinished
        ],
        "cards": view.variant_cards(found.variants),
        "left_out": ", ".join(found.left_out),
        "contrasts": view.contrast_lines(found.matrix, variants),
        "matrix": view.matrix_rows(found.matrix),
        "sort": found.goal.key,
        "pareto": found.trade_off_words,
        "columns": view.run_columns(found.table),
        "legend": found.table.legend,
        "rows": view.run_rows(found.table, found.front),
        "figures": [{"uri": png_uri(p.content), "caption": p.caption} for p in pictures if not p.interactive],
        "faithfulness": view.faithfulness_rows(found.variants),
        "concepts": view.concept_blocks(found.concepts, found.variants),
        "recipes": view.seed_blocks(found.seeds),
        "families": view.width_blocks(found.widths),
        "width_problems": found.widths.problems,
        "widths": found.widths.recipes or found.widths.problems,
        "seed_problems": found.seeds.problems,
        "seeds": found.seeds.recipes or found.seeds.problems,
        "problems": found.concepts.problems if found.side_by_side else [],
        "matched": found.concepts.pairs or (found.concepts.problems and found.side_by_side),
        "galleries": [{"name": name, "uri": uri} for name, uri in galleries if uri],
        "bests": [_best(run, why) for run, why in found.bests()],
        "version": __version__,
        "files": ", ".join(names),
    }
    order = PARTS if found.side_by_side else sorted(PARTS, key=lambda name: name not in RUNS)
    parts = [(name, words) for name in order for words, shows in [PARTS[name]] if context[shows]]
    return render(__package__, {**context, "parts": parts})


def title(found: Comparison) -> str:
    """Return the heading of a comparison."""
    runs = f"{len(found.runs)} run{'s' * (len(found.runs) > 1)}"
    return f"{runs}, {len(found.variants)} variants compared" if found.side_by_side else f"{runs} compared"


def _best(run: Run, why: str) -> dict[str, str]:
    config = OmegaConf.to_yaml(run.config)
    return {"name": run.name, "why": why, "overrides": " ".join(run.overrides), "config": config}


def _lead(found: Comparison) -> str:
    """Return what a reader must know first, in one sentence or two."""
    best = found.bests()
    words = f"Best by {found.goal.key}: run {best[0][0].name}." if best else "No run has finished."
    if found.side_by_side:
        words += f" Side by side: {', '.join(variant.name for variant in found.variants)}."
    return words
