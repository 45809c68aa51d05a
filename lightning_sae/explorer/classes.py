"""The facts of each class: what drives it, expected and not, and its images."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from lightning_sae.audit.findings import Audit, ClassResult
from lightning_sae.browser import rounded
from lightning_sae.explorer.seen import Seen
from lightning_sae.report import plain
from lightning_sae.runs.folder import RunFolder

IMAGES = 8  # of a class and kind; fewer where there are many classes
ALL_IMAGES = 4000  # of all classes


ClassImages = dict[str, list[int]]
"""Ids of images of a class: `right`, `taken` (images of other classes that are taken for it), `missed`."""


def class_images(seen: Seen, n_classes: int) -> list[ClassImages]:
    """Return the most telling images of each class: those with the largest and smallest margins.

    Where removals cannot be computed for every image, only the attributed images are considered.
    """
    if seen.classified is None:
        return [{} for _ in range(n_classes)]
    most = max(2, min(IMAGES, ALL_IMAGES // (3 * n_classes)))
    view = seen.classified.view
    ids = view.attributed.cpu()
    predicted, targets = view.predicted.cpu()[ids], seen.targets[ids]
    margins = seen.classified.scores(view.embeddings[view.attributed]).cpu()
    found: list[ClassImages] = []
    for c in range(n_classes):
        own, called, margin = targets == c, predicted == c, margins[:, c]
        others = called & ~own & (targets >= 0)
        kinds = {
            "right": (own & called, margin),
            "taken": (others, margin),
            "missed": (own & ~called, -margin),
        }
        found.append({kind: _largest(ids, *of, most) for kind, of in kinds.items()})
    return found


def _largest(ids: Tensor, mask: Tensor, keys: Tensor, most: int) -> list[int]:
    rows = mask.nonzero().flatten()
    found: list[int] = ids[rows[torch.argsort(keys[rows], descending=True, stable=True)[:most]]].tolist()
    return found


def class_records(
    run: RunFolder, seen: Seen, audit: Audit | None, drivers: pd.DataFrame, images: Sequence[ClassImages]
) -> list[dict[str, Any]]:
    """Return what the page says of each class of the data.

    Args:
        run: the run; its `reliance.csv` says which latents are unexpected.
        seen: all images.
        audit: an audit of the same prompts; `None` for none.
        drivers: rows of `attribution.csv`.
        images: of `class_images`.
    """
    names = run.data.class_names
    driven = _by_class(drivers)
    foreign = {name: {*rows["latent"].astype(int)} for name, rows in _by_class(run.table("reliance")).items()}
    results = {} if audit is None else {result.name: result for result in audit.classes}
    counts = _counts(seen, len(names))
    records = []
    for c, name in enumerate(names):
        rows, result = driven.get(name, drivers[:0]), results.get(name)
        records.append(
            {
                "name": plain(name),
                "prompts": [plain(prompt) for prompt in run.data.prompts[c][:5]],
                **{key: numbers[c] for key, numbers in counts.items()},
                "latents": [int(j) for j in rows["latent"]],
                "attributions": rounded(rows["attribution"]),
                "shares": rounded(rows["share"]),
                "unexpected": [int(int(j) in foreign.get(name, ())) for j in rows["latent"]],
                "images": images[c],
                "verdict": "" if result is None else result.verdict,
                "findings": _findings(audit, result),
            }
        )
    return records


def _findings(audit: Audit | None, result: ClassResult | None) -> list[dict[str, Any]]:
    numbers = () if result is None else result.findings
    found = [] if audit is None else [audit.finding(number) for number in numbers]
    return [{"number": f.number, "severity": f.severity, "summary": plain(f.summary)} for f in found]


def _by_class(table: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    return {str(name): rows for name, rows in table.groupby("class", sort=False)} if len(table) else {}


def _counts(seen: Seen, n_classes: int) -> dict[str, list[int]]:
    """Return the number of images of each class, of those predicted as it, and of those predicted rightly."""
    if seen.classified is None:
        return {}
    predicted = seen.classified.view.predicted.cpu()
    targets = seen.targets
    right = torch.bincount(predicted[predicted == targets], minlength=n_classes)
    own = torch.bincount(targets[targets >= 0], minlength=n_classes)
    called = torch.bincount(predicted[targets >= 0], minlength=n_classes)
    return {"own": own.tolist(), "called": called.tolist(), "right": right.tolist()}
