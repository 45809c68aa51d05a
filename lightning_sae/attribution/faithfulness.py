"""Whether attribution tells what drives the score: deletion, insertion, and agreement with exact ablation."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn.functional import embedding_bag

from lightning_sae.attribution.explained import Explained
from lightning_sae.classifiers.scores import ImageScore
from lightning_sae.metrics import interval
from lightning_sae.types import SparseLatents

Method = Callable[[Explained, ImageScore], Tensor]


def ranking(latents: SparseLatents, values: Tensor, tokens: int) -> Tensor:
    """Return the active latents (`a_j > 0`), image by image, the largest value first.

    Args:
        latents: of whole images, image by image.
        values: `[nnz]`, what a method gives each of them; ties go by token, then by latent.
        tokens: per image.

    Returns:
        Positions in `latents.values`, int64.

    Example:
        >>> latents = SparseLatents.from_dense(torch.tensor([[1.0, 0.0, 2.0, 3.0], [0.0, 5.0, 0.0, 0.0]]))
        >>> ranking(latents, torch.tensor([0.5, 0.5, 0.9, 7.0]), tokens=1).tolist()
        [2, 0, 1, 3]
    """
    rows = latents.rows()
    order = (rows * latents.d_sae + latents.indices).argsort()
    order = order[latents.values[order] > 0]
    order = order[values[order].argsort(descending=True, stable=True)]
    return order[(rows[order] // tokens).argsort(stable=True)]


class Curves(NamedTuple):
    """The score of each image as it changes in `S` steps.

    Attributes:
        fractions: `[n, S + 1]` in [0, 1], share of the image's active latents that a step has dealt with.
        deletion: `[n, S + 1]` scores, from the image as it is to the image without its active latents.
        insertion: `[n, S + 1]` scores, from the image without its active latents to the image as it is.
    """

    fractions: Tensor
    deletion: Tensor
    insertion: Tensor


@torch.no_grad()
def curves(
    explained: Explained, values: Tensor, score: ImageScore, steps: int = 16, batch_size: int = 256
) -> Curves:
    """Return the deletion and insertion of the active latents, in the order of their values.

    Of an image's `m` active latents, over all its tokens, step `s` has dealt with the first
    `floor(s m / S)` of `ranking`. Deletion removes them, insertion begins without any and puts them back:
    `x_edited = x - sum_{j removed} a_j w_j`, so that the error term `x - x_hat` and the bias always stay.
    After Petsiuk et al. 2018, arXiv 1806.07421, with latents instead of pixels.

    Args:
        explained: the images.
        values: `[nnz]`, what a method gives each latent.
        score: of the images' embeddings.
        steps: `S`; with `m` or more of them the latents go one by one.
        batch_size: edited images in one call of the tail, at least those of one image, `2 (S + 1)`.

    Raises:
        ValueError: fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    n, t, _ = explained.x.shape
    order = ranking(explained.latents, values, t)
    image = explained.latents.rows()[order] // t
    active = torch.bincount(image, minlength=n)
    rank = torch.arange(len(order), device=order.device) - (active.cumsum(0) - active)[image]
    step = torch.zeros_like(explained.latents.indices)  # 0: not active, never removed
    step[order] = ((rank + 1) * steps + active[image] - 1) // active[image]
    dealt_with = torch.arange(steps + 1, device=order.device) * active[:, None] // steps
    scores = torch.cat(
        [_scores(explained, rows, step, score, steps) for rows in _chunks(n, batch_size // (2 * steps + 2))]
    )
    return Curves(dealt_with / active.clamp(min=1)[:, None], *scores.unbind(1))


def _chunks(n: int, size: int) -> list[range]:
    return [range(start, min(start + max(size, 1), n)) for start in range(0, n, max(size, 1))]


def _scores(explained: Explained, rows: range, step: Tensor, score: ImageScore, steps: int) -> Tensor:
    """Return the scores `[b, 2, S + 1]` of both edits of some images, in one call of the tail."""
    removed = _removed(explained, rows, step, steps)
    removed = torch.stack([removed, removed[:, -1:] - removed], dim=1)
    x = explained.x[rows.start : rows.stop, None, None] - removed
    images = torch.arange(rows.start, rows.stop, device=x.device).repeat_interleave(2 * (steps + 1))
    context = None if explained.context is None else explained.context[images]
    embeddings = explained.tail(x.flatten(0, 2), context)
    return score(embeddings, images).view(x.shape[:3])


def _removed(explained: Explained, rows: range, step: Tensor, steps: int) -> Tensor:
    """Return `[b, S + 1, t, d_in]`: the sum of `a_j w_j` that is gone after each step."""
    t, d_in = explained.x.shape[1:]
    latents = explained.latents
    here = slice(int(latents.offsets[rows.start * t]), int(latents.offsets[rows.stop * t]))
    part = latents.slice(rows.start * t, rows.stop * t)
    gone = step[here].nonzero().flatten()
    row = part.rows()[gone]
    bag = (row // t * (steps + 1) + step[here][gone]) * t + row % t
    order = gone[bag.argsort(stable=True)]
    sizes = torch.bincount(bag, minlength=len(rows) * (steps + 1) * t)
    offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    sums: Tensor = embedding_bag(
        part.indices[order],
        explained.W_dec,
        offsets,
        mode="sum",
        per_sample_weights=part.values[order],
        include_last_offset=True,
    )
    return sums.view(len(rows), steps + 1, t, d_in).cumsum(1)


def rank_correlation(latents: SparseLatents, values: Tensor, truth: Tensor, tokens: int) -> Tensor:
    """Return Spearman's rank correlation of two methods over each image's active latents.

    Args:
        latents: of whole images, image by image.
        values: `[nnz]`, of one method.
        truth: `[nnz]`, of the other.
        tokens: per image.

    Returns:
        `[n]` float64 in [-1, 1]; NaN for an image with fewer than two active latents or all values equal.

    Example:
        >>> latents = SparseLatents.from_dense(torch.tensor([[1.0, 2.0, 3.0]]))
        >>> rank_correlation(latents, torch.tensor([1.0, 2.0, 9.0]), torch.tensor([3.0, 4.0, 5.0]), tokens=1)
        tensor([1.], dtype=torch.float64)
    """
    edges = latents.offsets[::tokens].tolist()
    active, first, second = (z.detach().cpu().numpy() for z in (latents.values > 0, values, truth))
    found = []
    for start, stop in pairwise(edges):
        pair = [z[start:stop][active[start:stop]] for z in (first, second)]
        varied = all(len(z) > 1 and np.ptp(z) > 0 for z in pair)
        found.append(float(spearmanr(*pair).statistic) if varied else np.nan)
    return torch.tensor(found, dtype=torch.float64)


class Evidence(NamedTuple):
    """The measurements of `M` methods on `n` images; float64, on the CPU.

    Attributes:
        fractions: `[n, S + 1]`, as in `Curves`.
        deletion: `[n, M, S + 1]` scores.
        insertion: `[n, M, S + 1]` scores.
        correlation: `[n, M]`, rank correlation with exact ablation, NaN where undefined.
    """

    fractions: Tensor
    deletion: Tensor
    insertion: Tensor
    correlation: Tensor

    @property
    def span(self) -> Tensor:
        """`y(full) - y(empty)`, `[n]`: what the active latents of an image do to its score together."""
        return self.deletion[:, 0, 0] - self.deletion[:, 0, -1]

    def effects(self) -> tuple[Tensor, Tensor]:
        """Return both curves above the empty image, `y - y(empty)`, `[n, M, S + 1]`."""
        empty = self.deletion[:, :, -1:]
        return self.deletion - empty, self.insertion - empty

    def areas(self) -> tuple[Tensor, Tensor]:
        """Return the areas under both curves of `effects()`, each `[n, M]` in units of the score.

        They are integrals over the fractions, by trapezoids.
        """
        deletion, insertion = self.effects()
        x = self.fractions[:, None]
        return torch.trapezoid(deletion, x), torch.trapezoid(insertion, x)


def measure(
    explained: Explained,
    score: ImageScore,
    methods: Mapping[str, Method],
    truth: str,
    steps: int = 16,
    batch_size: int = 256,
) -> Evidence:
    """Return the curves and rank correlations of several methods.

    Args:
        explained: the images.
        score: of the images' embeddings.
        methods: name -> method.
        truth: name of the method that the others are correlated with.
        steps: of the curves.
        batch_size: edited images in one call of the tail.

    Raises:
        ValueError: the truth is not among the methods.
    """
    if truth not in methods:
        raise ValueError(f"truth must be one of the methods {', '.join(methods)}; got {truth!r}")
    values = {name: method(explained, score) for name, method in methods.items()}
    found = [curves(explained, v, score, steps, batch_size) for v in values.values()]
    fractions, deletion, insertion = (
        torch.stack(part, 1).double().cpu() for part in zip(*found, strict=True)
    )
    latents, tokens = explained.latents, explained.x.shape[1]
    correlations = [rank_correlation(latents, v, values[truth], tokens) for v in values.values()]
    return Evidence(fractions[:, 0], deletion, insertion, torch.stack(correlations, 1))


def faithfulness_table(
    evidence: Evidence, names: list[str], reference: str, confidence: float = 0.95, resamples: int = 1000
) -> pd.DataFrame:
    """Return a row per method: areas, rank correlation and paired differences, each with `_low` and `_high`.

    Args:
        evidence: of `measure`.
        names: of its methods.
        reference: the method that each other one is compared with, image by image: `deletion_difference` and
            `insertion_difference` are other minus reference.
        confidence: coverage of the intervals.
        resamples: bootstrap samples.

    Raises:
        ValueError: the reference is not among the methods.
    """
    if reference not in names:
        raise ValueError(f"reference must be one of the methods {', '.join(names)}; got {reference!r}")
    deletion, insertion = evidence.areas()
    k, span = names.index(reference), evidence.span
    columns = {
        "deletion": (deletion, span),
        "insertion": (insertion, span),
        "rank_correlation": (evidence.correlation, None),
        "deletion_difference": (deletion - deletion[:, k, None], span),
        "insertion_difference": (insertion - insertion[:, k, None], span),
    }
    table: dict[str, list[object]] = {"method": [*names], "images": [len(span)] * len(names)}
    for column, (samples, unit) in columns.items():
        found = [interval(row, unit, confidence, resamples) for row in samples.T]
        for suffix, part in zip(("", "_low", "_high"), zip(*found, strict=True), strict=True):
            table[column + suffix] = [float(value) for value in part]
    return pd.DataFrame(table)
