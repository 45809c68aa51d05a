"""Train sets of a linear probe in which a class goes with a value of a factor as often as one likes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def most_associated(targets: Tensor, values: Tensor, n_classes: int, n_values: int, most: int = 3) -> Tensor:
    """Return the value that a class is most associated with, for the most strongly associated classes.

    The association is the lift `P(value | class) - P(value)`; ties go to the lower class and value.

    Args:
        targets: `[n]` int64, -1 leaves the image out.
        values: `[n]` int64, -1 leaves the image out.
        n_classes: `C`.
        n_values: `V`.
        most: largest number of classes that get a value.

    Returns:
        `[C]` int64 value of each class, -1 for none.

    Example:
        >>> most_associated(torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 0, 1]), 2, 2, most=1).tolist()
        [1, -1]
    """
    counts = torch.from_numpy(_counts(targets, values, n_classes, n_values))
    share = counts / counts.sum(1, keepdim=True)
    lift = (share - counts.sum(0) / counts.sum()).nan_to_num(nan=-1.0)
    best = lift.max(1)
    pairs = torch.full((n_classes,), -1)
    chosen = best.values.argsort(descending=True, stable=True)[:most]
    pairs[chosen] = best.indices[chosen]
    return pairs


def occurring(targets: Tensor, values: Tensor, n_classes: int, n_values: int) -> Tensor:
    """Return whether there are images of each class with each value, `[C, V]` bool."""
    return torch.from_numpy(_counts(targets, values, n_classes, n_values) > 0)


def biased_shares(pairs: Tensor, there: Tensor, share: float) -> Tensor:
    """Return how the images of each class are spread over the values of the factor.

    A class with a value in `pairs` has this value on `share` of its images, and the other values evenly on
    the rest. The association holds from both sides: a class without a value in `pairs` has each taken value,
    one that `pairs` gives to a class, on `(1 - share) / (V - 1)` of its images, and the free values evenly on
    the rest. At `share = 1 / V` all values are even; at 1 a taken value gives its class away. Values of which
    a class has no images are left out; a class that has no free value is spread evenly over its values.

    Args:
        pairs: `[C]` int64, value of each class, -1 for none.
        there: `[C, V]` bool, whether there are images, as `occurring` returns it.
        share: share of the images of a class that have its value, in `[1 / V, 1]`.

    Returns:
        `[C, V]`, rows sum to 1.

    Raises:
        ValueError: the share is below `1 / V` or above 1, there are fewer than two values, or a class has no
            images or lacks images that its share needs.

    Example:
        >>> biased_shares(torch.tensor([0, -1]), torch.ones(2, 3, dtype=torch.bool), share=0.8)
        tensor([[0.8000, 0.1000, 0.1000],
                [0.1000, 0.4500, 0.4500]])
    """
    n_values = there.shape[1]
    if n_values < 2 or not 1 / n_values <= share <= 1:
        raise ValueError(
            f"a share must be in 1/V..1 of V >= 2 values of the factor, got {share} of {n_values} values; "
            f"1/V = {1 / max(n_values, 1):.3g} is no bias at all"
        )
    taken = torch.zeros(n_values, dtype=torch.bool)
    taken[pairs[pairs >= 0]] = True
    rows = [_spread(int(v), has, taken, share) for v, has in zip(pairs, there, strict=True)]
    shares = torch.stack(rows)
    short = (~((shares.sum(1) - 1).abs() < 1e-6)).nonzero().flatten().tolist()
    if short:
        raise ValueError(
            f"classes {short} have no images, or none on the values that a share of {share} needs: pair "
            "other classes or values, or take other shares"
        )
    return shares.float()


def _spread(value: int, has: Tensor, taken: Tensor, share: float) -> Tensor:
    """Return the row of one class; it sums to less than 1 where images are missing."""
    rare = (1 - share) / (len(has) - 1)
    row = torch.zeros(len(has), dtype=torch.float64)
    if value >= 0:
        row[value] = share if has[value] else 0.0
        others = has.clone()
        others[value] = False
        return row + _even(1 - share, others)
    if not bool((has & ~taken).any()):
        return _even(1.0, has)
    row[has & taken] = rare
    return row + _even(1 - float(row.sum()), has & ~taken)


def _even(total: float, over: Tensor) -> Tensor:
    return total * over.double() / max(int(over.sum()), 1)


def largest_sample(targets: Tensor, values: Tensor, shares: Tensor) -> int:
    """Return how many images per class exist in these shares `[C, V]`, with each image taken once."""
    counts, wanted = _counts(targets, values, *shares.shape), shares.double().numpy()
    return int(np.floor((counts[wanted > 0] / wanted[wanted > 0]).min() + 1e-6))


def biased_sample(targets: Tensor, values: Tensor, shares: Tensor, per_class: int, seed: int = 0) -> Tensor:
    """Return the ids of train images, `per_class` of each class, spread over the values in given shares.

    Args:
        targets: `[n]` int64, -1 leaves the image out.
        values: `[n]` int64, -1 leaves the image out.
        shares: `[C, V]`, as of `biased_shares`.
        per_class: number of images of each class, at most `largest_sample`.
        seed: seed of the draw.

    Returns:
        Ascending ids; shares are exact up to the rounding to whole images.

    Raises:
        ValueError: there are not as many images.

    Example:
        >>> targets, values = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 0, 1, 0, 1, 1])
        >>> shares = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> biased_sample(targets, values, shares, per_class=2).tolist()
        [0, 1, 4, 5]
    """
    most = largest_sample(targets, values, shares)
    if not 1 <= per_class <= most:
        raise ValueError(
            f"there are images for 1..{most} of each class with these shares of the factor, got {per_class}: "
            "ask for fewer, or for shares that are less extreme"
        )
    generator, ids = np.random.default_rng(seed), []
    for c, row in enumerate(shares.double().numpy()):
        for v, wanted in enumerate(_whole(row * per_class)):
            cell = np.flatnonzero(((targets == c) & (values == v)).numpy())
            ids.append(generator.permutation(cell)[:wanted])
    return torch.from_numpy(np.sort(np.concatenate(ids)))


def culprit_shares(mean_attribution: Tensor, pairs: Tensor, tells: Tensor) -> Tensor:
    """Return the share of a class's positive attribution that is of latents that tell the class's value.

    `sum_{j tells the value} max(0, r_j) / sum_j max(0, r_j)`.

    Args:
        mean_attribution: `[C, d_sae]`; NaN for a class without images.
        pairs: `[C]` int64, value of each class, -1 for none.
        tells: `[V, d_sae]` bool, whether a latent tells a value.

    Returns:
        `[C]` in [0, 1]; NaN without a value, images or positive attribution.

    Example:
        >>> r, tells = torch.tensor([[3.0, 1.0, -1.0]]), torch.tensor([[True, False, True]])
        >>> culprit_shares(r, torch.tensor([0]), tells)
        tensor([0.7500])
    """
    positive = mean_attribution.clamp(min=0)
    shares = (positive * tells[pairs.clamp(min=0)]).sum(1) / positive.sum(1)
    return shares.where(pairs >= 0, torch.nan)


def _counts(targets: Tensor, values: Tensor, n_classes: int, n_values: int) -> NDArray[np.int64]:
    known = (targets >= 0) & (values >= 0)
    cells = targets[known] * n_values + values[known]
    counts = torch.bincount(cells, minlength=n_classes * n_values).view(n_classes, n_values)
    found: NDArray[np.int64] = counts.numpy()
    return found


def _whole(wanted: NDArray[np.float64]) -> list[int]:
    """Return whole numbers with the same sum; the numbers with the largest remainders are rounded up."""
    whole = np.floor(wanted + 1e-6)
    missing = round(float(wanted.sum() - whole.sum()))
    whole[np.argsort(whole - wanted, kind="stable")[:missing]] += 1
    found: list[int] = whole.astype(int).tolist()
    return found
