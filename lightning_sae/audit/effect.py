"""What ablating the culprits of a finding does, and how severe that is."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from lightning_sae.audit.examined import Examined
from lightning_sae.audit.findings import Change, Effect, Severity
from lightning_sae.audit.seen import explained_images
from lightning_sae.effects import AblationEffects, Removal, effects_table
from lightning_sae.run_folder import RunFolder
from lightning_sae.scores import ClassScores

HIGH, MEDIUM = 0.1, 0.02  # change of a share of images
HIGH_SHARE, MEDIUM_SHARE = 0.5, 0.2  # of the class's positive attribution


def finding_effects(
    run: RunFolder, scores: ClassScores, found: Examined, removals: Sequence[Removal], min_group: int
) -> list[Effect]:
    """Removes each set of culprits, on all images that the tail can be run on.

    Args:
        run: with its data set up.
        scores: of the classes.
        found: the images and what they show.
        removals: class and latents of each finding.
        min_group: images; smaller groups cannot be the worst.
    """
    if not removals:
        return []
    metric = AblationEffects(removals, scores, len(found.seen.predicted)).to(found.seen.predicted.device)
    with torch.no_grad():
        for explained in explained_images(run):
            metric.update(explained, found.seen.predicted[explained.image_ids])
    factors = dict(run.data.images("val").factors)
    table = effects_table(metric.effects(), removals, found.subjects.targets, factors, min_group)
    return [_effect(table[table["removal"] == number]) for number in range(len(removals))]


def _effect(rows: pd.DataFrame) -> Effect:
    whole = rows[rows["factor"] == ""]
    measures = {name: whole[whole["measure"] == name] for name in ("score", "accuracy", "false_positives")}
    changes = {name: _change(part.iloc[0]) for name, part in measures.items() if len(part)}
    groups = rows[(rows["factor"] != "") & (rows["measure"] == "accuracy")]
    if len(groups):
        changes["worst_group"] = _change(groups.sort_values("as_it_is", kind="stable").iloc[0])
    return Effect(**{name: change for name, change in changes.items() if change is not None})


def _change(row: "pd.Series[Any]") -> Change | None:
    before, after = float(row["as_it_is"]), float(row["without"])
    if math.isnan(before) or math.isnan(after):
        return None
    group = f"{row['factor']}={row['value']}" if row["factor"] else ""
    return Change(images=int(row["images"]), group=group, as_it_is=before, without=after)


def severity(effect: Effect, share: float) -> Severity:
    """How bad a finding is: by the largest change of a share of images, or by the share of the attribution.

    High where ablation changes false positives, accuracy or the worst group's accuracy by at least 10 points,
    or where the culprits have half of what drives the class; medium from 2 points or a fifth on.

    Example:
        >>> fewer = Change(images=100, as_it_is=0.05, without=0.02)
        >>> severity(Effect(false_positives=fewer), share=0.1)
        'medium'
    """
    changes = [c for c in (effect.accuracy, effect.false_positives, effect.worst_group) if c is not None]
    largest = round(max((abs(c.without - c.as_it_is) for c in changes), default=0.0), 6)  # 0.5 - 0.4 < 0.1
    if largest >= HIGH or share >= HIGH_SHARE:
        return "high"
    return "medium" if largest >= MEDIUM or share >= MEDIUM_SHARE else "low"
