"""Groups that the data know: where a class is taken for wrongly, or missed, more often than elsewhere."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.stats import hypergeom
from torch import Tensor

from lightning_sae.audit.evidence.removal import UNKNOWN, BootstrapEstimate, gap
from lightning_sae.concepts.significance import significant

HALF = 0.5  # of the largest shift of any class's logit, from which a group speaks for a class
FDR = 0.05  # of the gaps of all classes and groups together

Measure = Literal["false_positives", "misses"]
Factors = Mapping[str, tuple[Sequence[str], Tensor]]


class Gap(NamedTuple):
    """A share of wrong predictions that is larger in one group of images than in all others.

    Attributes:
        c: the class.
        factor: of the data, as `background`.
        value: of the factor, by its place.
        name: as `background=brown`.
        measure: `false_positives`, of images of other classes; `misses`, of images of the class.
        images: number of such images in the group.
        share: share of wrong predictions in the group, in [0, 1].
        elsewhere: the same share in the other images that have a value of the factor.
        gap: difference of the two shares, with its interval.
        p: p-value of Fisher's exact test, one-sided.
    """

    c: int
    factor: str
    value: int
    name: str
    measure: Measure
    images: int
    share: float
    elsewhere: float
    gap: BootstrapEstimate
    p: float


def find_gaps(
    predicted: Tensor, targets: Tensor, n_classes: int, factors: Factors, min_group: int = 10
) -> list[Gap]:
    """Return the gaps that chance does not explain.

    Every class is tested in every group of every factor but the class itself, both ways, by Fisher's exact
    test; Benjamini-Hochberg over all of them keeps the false discovery rate at 0.05.

    Args:
        predicted: `[n]` int64, class of each image by the classifier.
        targets: `[n]` int64, class of each image, -1 if not known; `C` or above for an image that shows no
            class of the classifier.
        n_classes: `C`.
        factors: factor -> (its values, `[n]` int64, -1 for none).
        min_group: smallest number of images in the group, and in the rest.

    Returns:
        The largest gap first.

    Example:
        >>> predicted, targets = torch.tensor([0] * 20 + [1] * 60), torch.ones(80, dtype=torch.int64)
        >>> mark = {"mark": (["no", "yes"], (torch.arange(80) < 30).long())}
        >>> [(gap.name, gap.measure, round(gap.share, 2)) for gap in find_gaps(predicted, targets, 2, mark)]
        [('mark=yes', 'false_positives', 0.67), ('mark=yes', 'misses', 0.67)]
    """
    tested = []
    for factor, (values, truth) in factors.items():
        if factor != "class":
            for measure in ("false_positives", "misses"):
                tested += _of_factor(factor, values, truth, predicted, targets, n_classes, measure, min_group)
    if not tested:
        return []
    keep = significant(torch.tensor([one.p for one in tested], dtype=torch.float64), FDR)
    found = [
        _with_interval(one, predicted, targets, factors)
        for one, kept in zip(tested, keep, strict=True)
        if kept
    ]
    return sorted(found, key=lambda one: -one.gap.value)


def _of_factor(
    factor: str,
    values: Sequence[str],
    truth: Tensor,
    predicted: Tensor,
    targets: Tensor,
    n_classes: int,
    measure: Measure,
    min_group: int,
) -> list[Gap]:
    """Return every class in every group of a factor, without intervals."""
    known = (truth >= 0) & (targets >= 0)
    truth, predicted, targets, v = truth[known], predicted[known], targets[known], len(values)
    all_images = torch.bincount(truth, minlength=v)[None].expand(n_classes, v)
    own = _counts(targets, truth, n_classes, v)
    hits = _counts(torch.where(predicted == targets, targets, n_classes), truth, n_classes, v)
    taken = _counts(predicted, truth, n_classes, v) - hits
    wrong, images = (taken, all_images - own) if measure == "false_positives" else (own - hits, own)
    totals, errors = images.sum(1, keepdim=True), wrong.sum(1, keepdim=True)
    enough = (images >= min_group) & (totals - images >= min_group)
    p = hypergeom.sf((wrong - 1).numpy(), totals.numpy(), errors.numpy(), images.numpy())
    share, elsewhere = wrong / images, (errors - wrong) / (totals - images)
    return [
        Gap(c, factor, k, f"{factor}={values[k]}", measure, int(images[c, k]), float(share[c, k]),
            float(elsewhere[c, k]), UNKNOWN, float(p[c, k]))
        for c, k in np.argwhere(enough.numpy()).tolist()
    ]  # fmt: skip


def _counts(classes: Tensor, truth: Tensor, n_classes: int, n_values: int) -> Tensor:
    """Return `[C, V]` images of each class and value; classes from `C` on are left out."""
    inside = classes < n_classes
    flat = torch.bincount(classes[inside] * n_values + truth[inside], minlength=n_classes * n_values)
    return flat.view(n_classes, n_values)


def _with_interval(one: Gap, predicted: Tensor, targets: Tensor, factors: Factors) -> Gap:
    truth = factors[one.factor][1]
    own = targets == one.c
    wrong, chosen = (
        (predicted == one.c, ~own) if one.measure == "false_positives" else (predicted != one.c, own)
    )
    chosen = chosen & (truth >= 0) & (targets >= 0)
    here = truth == one.value
    return one._replace(gap=gap(wrong[chosen & here], wrong[chosen & ~here]))


def raises(group: Tensor, c: int, logits: Tensor, targets: Tensor) -> bool:
    """Return whether a group speaks for a class, rather than its absence against another class.

    A mark that speaks for one class takes wrong predictions away from all others. These classes are then
    predicted wrongly more often where the mark is missing, though they do not rely on anything. So the group
    must hold at most half of the images, and must raise the class's logit, relative to the mean over all
    classes, by at least half of the largest rise or fall of any class. Each class is measured on images of
    other classes.

    Args:
        group: `[n]` bool.
        c: the class.
        logits: `[n, C]`.
        targets: `[n]` int64, class of each image, -1 if not known.

    Example:
        >>> group, targets = torch.tensor([True, False, False]), torch.tensor([2, 2, 2])
        >>> logits = torch.tensor([[9.0, 1.0, 5.0], [1.0, 1.0, 5.0], [1.0, 1.0, 5.0]])
        >>> raises(group, 0, logits, targets), raises(~group, 1, logits, targets)
        (True, False)
    """
    if 2 * int(group.sum()) > len(group):
        return False
    relative = logits - logits.mean(1, keepdim=True)
    others = (targets[:, None] != torch.arange(logits.shape[1])) & (targets >= 0)[:, None]
    inside, outside = others & group[:, None], others & ~group[:, None]
    shift = (relative * inside).sum(0) / inside.sum(0) - (relative * outside).sum(0) / outside.sum(0)
    return bool(shift[c] >= HALF * shift.nan_to_num().abs().max())
