"""`report.html`: a run as one page that needs nothing beside it, no server and no network."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from lightning_sae import __version__
from lightning_sae.audit.report.view import counted
from lightning_sae.baselines.shown import LEGEND, SILENT, TITLE, read_baselines, shown_rows
from lightning_sae.browser import module
from lightning_sae.clip import HookPoint, identity_titles
from lightning_sae.explorer.document import document
from lightning_sae.explorer.hierarchy import tree
from lightning_sae.explorer.naming import novel_in_words
from lightning_sae.explorer.seen import Seen
from lightning_sae.files import write_atomic
from lightning_sae.report import render
from lightning_sae.report.curves import HEIGHT, WIDTH, curves
from lightning_sae.report.packing import packed, packed_arrays
from lightning_sae.report.policy import policy
from lightning_sae.report.style import script_of, style_of
from lightning_sae.runs.folder import RunFolder
from lightning_sae.tracking.values import VALUES

FILE = "report.html"
SCRIPTS = ("arrays", "removal", "parts", "gallery", "names", "latent", "classes", "image", "served", "routes")


def write_page(run: RunFolder, folder: Path) -> Path:
    """Write `report.html`, whole or not at all, and return its path.

    The file needs nothing beside it. Every text in it is escaped; its own policy allows its one script, and
    no request.

    Args:
        run: a run of `open_run`; activations that its store lacks are captured.
        folder: folder that the page is written to.
    """
    path = folder / FILE
    write_atomic(path, page(run, Seen.of(run), folder).encode())
    return path


def page(run: RunFolder, seen: Seen, folder: Path, served: bool = False) -> str:
    """Return the page of a run.

    Args:
        run: an opened run.
        seen: its validation images.
        folder: where the page lies; the page of an audit is linked to if it lies beside it.
        served: whether a server answers the page, which can then ask about prompts and images.
    """
    shown = document(run, seen, folder)
    style = style_of(__package__, "lightning_sae.graphs")
    drawing = script_of("lightning_sae.browser", ("drawing",)) + script_of("lightning_sae.graphs", ("graph",))
    script = drawing + module(__package__, *SCRIPTS)
    context = {
        "policy": policy(style, script, connect="'self'" if served else ""),
        "style": Markup(style),
        "script": Markup(script),
        "title": run.folder.resolve().name,
        "facts": _facts(run, seen),
        "values": _values(run),
        "baselines": _baselines(run),
        "tree": tree(run.table("hierarchy")),
        "n_links": len(run.table("hierarchy")),
        "latents": packed({**shown.columns, "served": served}),
        "arrays": packed_arrays(shown.arrays),
        "sheets": shown.sheets,
        "n_latents": len(run.latents),
        "n_examples": len(shown.columns["examples"]),
        "audit": _audit(shown.columns),
        "novel": novel_in_words(shown.columns),
        "curves": curves(run.table("metrics")),
        "frame": (WIDTH, HEIGHT),
        "served": served,
        "texts": run.data.clip.reads_texts,
        "version": __version__,
    }
    return render(__package__, context)


def _facts(run: RunFolder, seen: Seen) -> list[tuple[str, str]]:
    """Return the facts of the run, each as a word and a text."""
    made = run.card["provenance"]
    hook = HookPoint(made["hook_point"], made["tokens"])
    facts = [
        ("CLIP", ", ".join(identity_titles([made["clip"]]))),
        ("hook point", str(hook)),
        ("autoencoder", f"{run.card['variant']} with {run.card['d_sae']} latents"),
        (
            "validation",
            counted(len(run.data.images("val")), "text" if run.data.clip.reads_texts else "image"),
        ),
    ]
    names = run.data.class_names
    if seen.classified is not None:
        known = seen.targets >= 0
        right = (seen.classified.view.predicted.cpu() == seen.targets)[known].float().mean()
        facts.append(("classes", f"{len(names)}; {right:.1%} of the images are recognised by CLIP's prompts"))
    return facts


def _values(run: RunFolder) -> list[tuple[str, str]]:
    known = {key: value for key, value in VALUES.items() if key in run.metrics and value.title}
    return [(value.title, format(run.metrics[key], value.form)) for key, value in known.items()]


def _baselines(run: RunFolder) -> dict[str, Any]:
    """Return the run's numbers beside those of its baselines; empty where it has no baselines."""
    table = read_baselines(run.table("baselines"))
    rows = shown_rows(table)
    if not rows:
        return {}
    return {"title": TITLE, "names": table.names, "rows": rows, "mark": SILENT, "legend": LEGEND}


def _audit(columns: dict[str, Any]) -> str:
    """Return the audit's findings in a few words; "" without an audit."""
    if not columns["audit"]:
        return ""
    found = sum(len(record["findings"]) for record in columns["records"])
    return counted(found, "finding")
