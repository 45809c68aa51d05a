"""The content of a page about a run, put together."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray

from lightning_sae.audit.findings import FILE as AUDIT
from lightning_sae.audit.findings import Audit, read_audit
from lightning_sae.audit.report.page import FILE as AUDIT_PAGE
from lightning_sae.audit.report.page import culprits_of, drivers_of
from lightning_sae.browser import LatentExamples, latent_columns
from lightning_sae.explorer.class_graphs import class_graphs
from lightning_sae.explorer.classes import class_images, class_records
from lightning_sae.explorer.images import image_arrays
from lightning_sae.explorer.latents import activity, nearest
from lightning_sae.explorer.naming import naming_columns
from lightning_sae.explorer.pictures import chosen_examples
from lightning_sae.explorer.seen import Seen
from lightning_sae.explorer.token_maps import grid_of, token_maps
from lightning_sae.runs.folder import RunFolder

DRIVERS = ["class", "latent", "attribution", "share"]  # columns of `attribution.csv`


class Document(NamedTuple):
    """The content of a page.

    Attributes:
        columns: of the latents (`latent_columns`, `naming_columns`), the classes, and what holds for all.
        arrays: numbers by latent and by image.
        sheets: pictures.
    """

    columns: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    sheets: list[str]


def document(run: RunFolder, seen: Seen, folder: Path) -> Document:
    """Put together what a page shows.

    Args:
        run: an opened run.
        seen: its validation images.
        folder: where the page lies; the page of an audit is linked to if it lies beside it.
    """
    audit = _audit(run)
    culprits = {} if audit is None else culprits_of(audit)
    drivers = run.table("attribution").reindex(columns=DRIVERS)
    classes = class_images(seen, len(run.data.class_names))
    first = dict.fromkeys(i for images in classes for kind in images.values() for i in kind)
    graphs, naming = class_graphs(run, seen), naming_columns(run)
    first |= dict.fromkeys(graphs.image_ids())
    unnamed = (j for j, novel in zip(run.latents.index, naming["novel"], strict=True) if novel)
    examples = chosen_examples(run, [*first], [*culprits, *unnamed])
    n, known = len(run.data.images("val")), len(seen.image_ids)
    columns = {
        **latent_columns(run, drivers, culprits, examples),
        **naming,
        "records": class_records(run, seen, audit, drivers, classes),
        "graphs": graphs.drawn(examples.sheets.places),
        "audit": audit is not None and (folder / AUDIT_PAGE).is_file(),
        "sampled": known if known < n else 0,
    }
    return Document(columns, _arrays(run, seen, examples), examples.sheets.sheets)


def _audit(run: RunFolder) -> Audit | None:
    """Return the audit of this autoencoder and of the run's own prompts, where there is one."""
    if not (run.folder / AUDIT).is_file():
        return None
    audit = read_audit(run.folder)
    current = audit.subject.sae_sha256 in ("", run.sae_sha256)
    own = audit.subject.classifier == "prompts" and drivers_of(audit, run)[1]
    return audit if own and current else None


def _arrays(run: RunFolder, seen: Seen, examples: LatentExamples) -> dict[str, NDArray[Any]]:
    latents = torch.tensor([int(j) for j in run.latents.index], dtype=torch.int64)
    rows = torch.full((run.sae.d_sae,), -1)
    rows[latents] = torch.arange(len(latents))
    found = activity(seen.latents, seen.targets, latents, len(run.data.class_names))
    near, cosines = nearest(run.sae.W_dec, latents)
    arrays: dict[str, NDArray[Any]] = {
        **{f"latent_{name}": array for name, array in found._asdict().items()},
        "latent_nearest": near,
        "latent_cosines": (100 * cosines).round().astype("int8"),
        **image_arrays(seen, list(examples.sheets.places), rows),
    }
    grid = grid_of(run)
    if grid is not None and seen.classified is not None:
        ids = list(examples.sheets.places)
        tops = [(j, [ids[place] for place in places]) for j, places in examples.places.items()]
        arrays["maps"] = token_maps(run, run.data.val_dataloader().store, tops, grid)
        arrays["map_rows"] = (
            rows[torch.tensor([j for j, _ in tops[: len(arrays["maps"])]])].numpy().astype("int32")
        )
    return arrays
