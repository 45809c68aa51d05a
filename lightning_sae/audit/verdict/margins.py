"""Margins of a class on the attributed images, as they are and without latents."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.attribution.ablation import Removal, ablate
from lightning_sae.attribution.explained import Explained
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.progress import track

AT_ONCE = 64  # removals in one pass over the images; memory grows with it times the images


class Margins(NamedTuple):
    """Margins of the removal's class: its logit minus the largest other one; above 0 it is predicted.

    Attributes:
        before: `[m]`, of the attributed images.
        after: `[m]`, without the latents.
    """

    before: Tensor
    after: Tensor


@torch.no_grad()
def margins_without(
    images: Sequence[Explained], scores: ClassScores, removals: Sequence[Removal]
) -> list[Margins]:
    """Remove each set of latents from all images, on its own.

    Args:
        images: in parts.
        scores: of the classes.
        removals: classes and latents.

    Returns:
        For each removal, on the CPU, in the order of the images.
    """
    found: list[Margins] = []
    for start in track(range(0, len(removals), AT_ONCE), "removing latents"):
        found += _one_pass(images, scores, removals[start : start + AT_ONCE])
    return found


def _one_pass(images: Sequence[Explained], scores: ClassScores, removals: Sequence[Removal]) -> list[Margins]:
    parts = []
    for explained in images:
        target = torch.tensor([removal.target for removal in removals], device=explained.x.device)
        logits = scores.logits(explained.tail(explained.x, explained.context))
        before = torch.stack([margin_of(logits, c) for c in target.tolist()])
        after = before.clone()
        for edited in ablate(explained, [removal.latents for removal in removals]):
            changed = scores.logits(edited.embeddings)
            after[edited.removal, edited.image] = margin_of(changed, target[edited.removal])
        parts.append(torch.stack([before, after]).cpu())
    return [Margins(*both) for both in torch.cat(parts, dim=2).unbind(1)]


def margin_of(logits: Tensor, classes: Tensor | int) -> Tensor:
    """Return the logit of a class minus the largest other one.

    Args:
        logits: `[n, C]`, at least two classes.
        classes: `[n]` int64, or one class for all.

    Example:
        >>> margin_of(torch.tensor([[3.0, 1.0, 2.0]]), 0), margin_of(torch.tensor([[3.0, 1.0, 2.0]]), 2)
        (tensor([1.]), tensor([-1.]))
    """
    column = torch.as_tensor(classes, device=logits.device).expand(len(logits))[:, None]
    others = logits.scatter(1, column, -torch.inf).amax(1)
    return logits.gather(1, column).squeeze(1) - others
