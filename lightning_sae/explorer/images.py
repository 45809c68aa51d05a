"""The facts of each image that a page shows: its latents, and what removing them does to the scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_sae.attribution.closed_form import LastLayer
from lightning_sae.attribution.explained import Explained
from lightning_sae.explorer.removal import (
    Removable,
    exact_removals,
    quantised,
    single_removals,
    size_for,
)
from lightning_sae.explorer.seen import Classified, Seen
from lightning_sae.types import SparseLatents

LATENTS = 16  # of an image without scores
MEASURED = 200  # images for which CLIP runs again without each of their latents


def image_arrays(seen: Seen, ids: Sequence[int], rows: Tensor) -> dict[str, NDArray[Any]]:
    """Return arrays with a row per image.

    Args:
        seen: all images.
        ids: ids that the page shows; texts, and images of which nothing is known, have a predicted class of
            -1 and no latents.
        rows: `[d_sae]` int64, the row of each latent in the table of the page, -1 for none.

    Returns:
        `image_ids`, `image_targets`, `image_predicted`, `image_latents` (rows of the table),
        `image_activations`, and where there are classes the arrays of `_exact` or `_measured`.
    """
    wanted = torch.tensor(ids, dtype=torch.int64)
    known = torch.isin(wanted, seen.image_ids)
    place = torch.searchsorted(seen.image_ids, wanted).clamp(max=max(0, len(seen.image_ids) - 1))
    if not len(seen.image_ids):
        return {"image_ids": _i4(wanted)}
    found = {"image_ids": _i4(wanted), "image_targets": _i4(torch.where(known, seen.targets[place], -1))}
    if seen.classified is None:
        removable = strongest(seen.latents, seen.latents.values, place, LATENTS)
        removable.latents[~known], removable.activations[~known] = -1, 0.0
        return {**found, **_chosen(removable, rows)}
    predicted = seen.classified.view.predicted.cpu()[wanted]
    found["image_predicted"] = _i4(predicted)
    parts = seen.classified.view.explained
    form = LastLayer.of(parts[0].tail, parts[0].W_dec)
    if form is not None:
        return {**found, **_exact(form, seen, seen.classified, wanted, rows)}
    return {**found, **_measured(seen, seen.classified, wanted, rows)}


def _exact(
    form: LastLayer, seen: Seen, classified: Classified, ids: Tensor, rows: Tensor
) -> dict[str, NDArray[Any]]:
    """Return the numbers that give the scores of every image when any shares of its latents are removed."""
    view = classified.view
    active, n_classes = int(seen.latents.offsets.diff().max()), len(classified.classifier.weight)
    m, c = size_for(len(ids), active, n_classes)
    by = view.attributions.values.cpu().abs()  # of one token an image: in the order of the latents
    removable = strongest(seen.latents, by, ids, m)
    x = torch.cat([part.x[:, 0] for part in view.explained])[ids.to(form.z.device)]
    device = Removable(*(part.to(form.z.device) for part in removable))
    found = exact_removals(form, x, device, classified.classifier, c, seen.targets[ids])
    arrays = {
        **_chosen(removable, rows),
        "effect_classes": _i4(found.classes),
        "effect_bias": _f4(found.bias),
    }
    arrays["effect_inputs"] = _f4(found.inputs)  # their differences are small where most is removed
    for name in ("outputs", "logits"):
        arrays[f"effect_{name}"], arrays[f"effect_{name}_unit"] = quantised(getattr(found, name))
    return arrays


def _measured(seen: Seen, classified: Classified, ids: Tensor, rows: Tensor) -> dict[str, NDArray[Any]]:
    """Return the scores of the first attributed images without each of their latents."""
    view = classified.view
    row_of = torch.full((len(seen.targets),), -1)
    row_of[view.attributed.cpu()] = torch.arange(len(view.attributed))
    removable = strongest(seen.latents, seen.latents.values, ids, LATENTS)
    mine = (row_of[ids] >= 0).nonzero().flatten()[:MEASURED]
    if not len(mine):
        return _chosen(removable, rows)
    totals, place = view.attributions.to("cpu"), row_of[ids[mine]]
    driving = strongest(totals, totals.values.abs(), place, LATENTS)
    removable.latents[mine] = driving.latents
    removable.activations[mine] = values_at(seen.latents, ids[mine], driving.latents)
    explained = [_one(view.explained, int(row)) for row in place]
    c = min(32, len(classified.classifier.weight))
    found = single_removals(explained, driving, classified.classifier, c, seen.targets[ids[mine]])
    effect_row = torch.full((len(ids),), -1)
    effect_row[mine] = torch.arange(len(mine))
    return {
        **_chosen(removable, rows),
        "effect_row": _i4(effect_row),
        "effect_classes": _i4(found.classes),
        "effect_as_it_is": _f4(found.as_it_is),
        "effect_without": _f4(found.without),
    }


def _one(parts: Sequence[Explained], row: int) -> Explained:
    """Return the image at a row of all parts, as if they were one."""
    for part in parts:
        if row < len(part.x):
            return part.images(row, row + 1)
        row -= len(part.x)
    raise IndexError(row)


def strongest(latents: SparseLatents, by: Tensor, rows: Tensor, m: int) -> Removable:
    """Return the latents of some images that have the largest keys above 0.

    Args:
        latents: the latents of `n` images.
        by: `[nnz]` keys: activations, or sizes of attributions.
        rows: `[r]` int64, the images to look at.
        m: largest number of latents of each image.

    Example:
        >>> z = SparseLatents.from_dense(torch.tensor([[3.0, 0.0, 2.0], [0.0, 1.0, 0.0]]))
        >>> strongest(z, z.values, torch.tensor([1, 0]), 2).latents.tolist()
        [[1, -1], [0, 2]]
    """
    chosen, values = torch.full((len(rows), m), -1), torch.zeros(len(rows), m)
    for i, row in enumerate(rows.tolist()):
        start, stop = int(latents.offsets[row]), int(latents.offsets[row + 1])
        active = (by[start:stop] > 0).nonzero().flatten() + start
        order = active[by[active].argsort(descending=True, stable=True)[:m]]
        chosen[i, : len(order)] = latents.indices[order]
        values[i, : len(order)] = latents.values[order].float()
    return Removable(chosen, values)


def values_at(latents: SparseLatents, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the activations of the latents `columns [r, m]` on the images `rows [r]`; 0 for a silent latent.

    Example:
        >>> z = SparseLatents.from_dense(torch.tensor([[3.0, 0.0, 2.0], [0.0, 1.0, 0.0]]))
        >>> values_at(z, torch.tensor([1, 0]), torch.tensor([[1, -1], [0, 1]])).tolist()
        [[1.0, 0.0], [3.0, 0.0]]
    """
    if not len(latents.values):
        return torch.zeros(columns.shape)
    keys, order = (latents.rows() * latents.d_sae + latents.indices).sort()
    asked = rows[:, None] * latents.d_sae + columns
    place = torch.searchsorted(keys, asked).clamp(max=len(keys) - 1)
    found = (keys[place] == asked) & (columns >= 0)
    return torch.where(found, latents.values[order[place]].float(), 0.0)


def _chosen(removable: Removable, rows: Tensor) -> dict[str, NDArray[Any]]:
    shown = torch.where(removable.latents >= 0, rows[removable.latents], -1)
    whole, unit = quantised(removable.activations)
    return {"image_latents": _i4(shown), "image_activations": whole, "image_activations_unit": unit}


def _i4(numbers: Tensor) -> NDArray[np.int32]:
    return numbers.cpu().numpy().astype(np.int32)


def _f4(numbers: Tensor) -> NDArray[np.float32]:
    return numbers.detach().cpu().float().numpy()
