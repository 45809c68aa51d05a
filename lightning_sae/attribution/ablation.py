"""What removing latents does: to the score of a class, to its accuracy, and to that of groups of images."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from lightning_sae.attribution.explained import Explained
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.metrics.shaped import ShapedMetric
from lightning_sae.sae.kernels.pattern import Pattern
from lightning_sae.sae.kernels.products import bag


class Removal(NamedTuple):
    """Latents that are removed together, and the class whose score and predictions are compared."""

    target: int
    latents: tuple[int, ...]


class Edited(NamedTuple):
    """Some images without some latents, a row per pair of a set and an image that it changes.

    Attributes:
        removal: `[b]` int64, which of the sets is removed.
        image: `[b]` int64, which of the images.
        embeddings: `[b, d_embed]` unit, of the edited images.
    """

    removal: Tensor
    image: Tensor
    embeddings: Tensor


@torch.no_grad()
def ablate(explained: Explained, sets: Sequence[Sequence[int]], batch_size: int = 512) -> Iterator[Edited]:
    """Remove sets of latents from all tokens of the images on which any of the set is active.

    `x_edited = x - sum_{j in set} a_j w_j`: the error term `x - x_hat` and the bias stay. An image on which
    none of a set is active does not change and is left out: the cost is that of the tail for the others.

    Args:
        explained: the images.
        sets: latents of each set, each once.
        batch_size: edited images in one call of the tail.

    Yields:
        Pairs in the order of the sets, then of the images.

    Example:
        >>> from lightning_sae.types import SparseLatents
        >>> x, latents = torch.tensor([[[3.0, 4.0]], [[3.0, 0.0]]]), torch.tensor([[0.0, 4.0], [3.0, 0.0]])
        >>> unit = lambda x, context: torch.nn.functional.normalize(x[:, 0], dim=-1)
        >>> explained = Explained(unit, torch.eye(2), x, x, SparseLatents.from_dense(latents))
        >>> [(edited.image.tolist(), edited.embeddings.tolist()) for edited in ablate(explained, [[1]])]
        [([0], [[1.0, 0.0]])]
    """
    latents, (n, t, d_in) = explained.latents, explained.x.shape
    entry, removal = _members(explained, sets)
    token = latents.rows()[entry]
    pairs, pair = torch.unique(removal * n + token // t, return_inverse=True)
    order = pair.argsort(stable=True)
    edges = torch.searchsorted(pair[order], torch.arange(0, len(pairs) + batch_size, batch_size).to(pair))
    for start, (first, last) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        mine = order[first:last]
        chosen = pairs[start * batch_size : (start + 1) * batch_size]
        image = chosen % n
        x = explained.x[image].flatten(0, 1)
        removed = latents.values[entry[mine], None] * explained.W_dec[latents.indices[entry[mine]]]
        x.index_add_(0, (pair[mine] - start * batch_size) * t + token[mine] % t, -removed.to(x.dtype))
        context = None if explained.context is None else explained.context[image]
        embeddings = explained.tail(x.view(-1, t, d_in), context)
        yield Edited(torch.div(chosen, n, rounding_mode="floor"), image, embeddings)


@torch.no_grad()
def remove_shares(explained: Explained, latents: Sequence[int], shares: Sequence[float]) -> Tensor:
    """Return the embeddings of images after shares of some latents are removed from all their tokens.

    `x_edited = x - sum_j s_j a_j w_j`: the error term and the bias stay.

    Args:
        explained: `n` images.
        latents: each once.
        shares: in 0..1, one a latent.

    Returns:
        `[n, d_embed]` unit.

    Example:
        >>> from lightning_sae.types import SparseLatents
        >>> x, latents = torch.tensor([[[3.0, 8.0]]]), torch.tensor([[3.0, 8.0]])
        >>> unit = lambda x, context: torch.nn.functional.normalize(x[:, 0], dim=-1)
        >>> explained = Explained(unit, torch.eye(2), x, x, SparseLatents.from_dense(latents))
        >>> remove_shares(explained, [1], [0.5])
        tensor([[0.6000, 0.8000]])
    """
    found, share = explained.latents, explained.x.new_zeros(explained.latents.d_sae)
    share[list(latents)] = torch.tensor(shares, dtype=share.dtype, device=share.device)
    removed = bag(found.values * share[found.indices], explained.W_dec, Pattern.of(found))
    return explained.tail(explained.x - removed.view_as(explained.x), explained.context)


def _members(explained: Explained, sets: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return the active entries of the latents that are in a set, each with the number of the set.

    An entry comes once for each set that has its latent.
    """
    device = explained.latents.indices.device
    listed = sorted((j, removal) for removal, latents in enumerate(sets) for j in latents)
    latent, removal = torch.tensor(listed, dtype=torch.int64, device=device).view(-1, 2).T.contiguous()
    active = (explained.latents.values > 0).nonzero().flatten()
    index = explained.latents.indices[active].contiguous()
    first = torch.searchsorted(latent, index)
    times = torch.searchsorted(latent, index, right=True) - first
    copies = torch.arange(int(times.sum()), device=device) - (times.cumsum(0) - times).repeat_interleave(
        times
    )
    return active.repeat_interleave(times), removal[first.repeat_interleave(times) + copies]


class Effects(NamedTuple):
    """The effects of `m` removals on `n` images.

    Attributes:
        images: `[m]` int64, images behind the mean scores.
        score: `[m]` mean score of the removal's class, as it is; NaN without images.
        score_without: `[m]`, without the latents.
        predicted: `[n]` int64, class of each image as it is; -1 for an image that was not seen.
        held: `[m, n]` bool, whether the image is predicted as the removal's class without the latents.
    """

    images: Tensor
    score: Tensor
    score_without: Tensor
    predicted: Tensor
    held: Tensor


class AblationEffects(ShapedMetric):
    """Removes sets of latents from images, each on its own, and keeps what that does to a class.

    Only images on which a set is active are run again. Memory grows with removals x images, in bytes.

    Args:
        removals: `m` sets of latents with their classes.
        scores: of all classes.
        n_images: ids of the images are in `0..n_images-1`.
        batch_size: edited images in one call of the tail.
    """

    full_state_update = False
    counts: Tensor
    sums: Tensor
    changes: Tensor
    predicted: Tensor
    held: Tensor

    def __init__(
        self,
        removals: Sequence[Removal],
        scores: ClassScores,
        n_images: int,
        batch_size: int = 512,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.removals, self.scores, self.batch_size = list(removals), scores, batch_size
        m = len(self.removals)
        self.add_state("counts", torch.zeros(m, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("sums", torch.zeros(m, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("changes", torch.zeros(m, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("predicted", torch.full((n_images,), -1), dist_reduce_fx="max")
        self.add_state("held", torch.zeros(m, n_images, dtype=torch.uint8), dist_reduce_fx="max")

    def update(self, explained: Explained, classes: Tensor | None) -> None:
        """Add images.

        Args:
            explained: the images, with their ids, each once over all updates.
            classes: `[n]` int64, the class whose mean score an image is part of, -1 for none; `None`: every
                image is part of the mean score of every class.
        """
        device = explained.x.device
        target = torch.tensor([removal.target for removal in self.removals], device=device)
        ids = torch.arange(len(explained.x)) if explained.image_ids is None else explained.image_ids
        embeddings = explained.tail(explained.x, explained.context)
        before = self.scores(embeddings)[:, target]
        predicted = self.scores.logits(embeddings).argmax(1)
        part = torch.ones_like(before) if classes is None else (classes[:, None] == target).to(before)
        self.predicted[ids] = predicted
        self.held[:, ids] = (predicted == target[:, None]).to(torch.uint8)
        self.counts += part.sum(0).long()
        self.sums += (part * before).double().sum(0)
        for removal, image, edited in ablate(explained, [r.latents for r in self.removals], self.batch_size):
            column, logits = target[removal], self.scores.logits(edited)
            self.held[removal, ids[image]] = (logits.argmax(1) == column).to(torch.uint8)
            change = part[image, removal] * (self.scores.output.pick(logits, column) - before[image, removal])
            self.changes.index_add_(0, removal, change.double())

    def compute(self) -> Effects:
        """Return the effects so far, of all ranks."""
        score, without = self.sums / self.counts, (self.sums + self.changes) / self.counts
        return Effects(self.counts, score, without, self.predicted, self.held.bool())

    def effects(self) -> Effects:
        """Return the effects so far, of all ranks, on the CPU."""
        return Effects(*(part.cpu() for part in self.compute()))


def effects_table(
    effects: Effects,
    removals: Sequence[Removal],
    targets: Tensor,
    factors: Mapping[str, tuple[Sequence[str], Tensor]],
    min_images: int = 10,
) -> pd.DataFrame:
    """Return a row per removal and measure, as it is and without the latents, for all images and for groups.

    The measures are `score`, the mean score of the class; `accuracy`, the share of the class's images that
    are predicted as it; `false_positives`, the share of the other images that are predicted as it. The
    groups of the last two are the values of each factor; groups without any false positive are left out.

    Args:
        effects: of the removals.
        removals: the same as for `effects`.
        targets: `[n]` int64 class of each image, -1 for none.
        factors: factor -> (its values, `[n]` int64, -1 for none); of the factor `class` only the false
            positives make sense.
        min_images: smaller groups are left out.

    Returns:
        Columns `removal` (its number), `measure`, `factor` and `value` ("" for all images), `images`,
        `as_it_is`, `without`.
    """
    rows: list[dict[str, Any]] = []
    seen = (effects.predicted >= 0) & (targets >= 0)
    for number, (removal, held) in enumerate(zip(removals, effects.held, strict=True)):
        score = (
            int(effects.images[number]),
            float(effects.score[number]),
            float(effects.score_without[number]),
        )
        mine = [("score", "", "", *score)]
        hits = torch.stack([effects.predicted == removal.target, held]).double()
        kinds = {"accuracy": targets == removal.target, "false_positives": targets != removal.target}
        for measure, chosen in kinds.items():
            inside = seen & chosen
            mine += _shares(measure, "", [""], torch.zeros_like(targets)[inside], hits[:, inside], 1)
            for factor, (values, truth) in factors.items():
                if (measure, factor) != ("accuracy", "class"):
                    mine += _shares(measure, factor, values, truth[inside], hits[:, inside], min_images)
        rows += [dict(zip(COLUMNS, (number, *row), strict=True)) for row in mine]
    return pd.DataFrame(rows, columns=COLUMNS)


COLUMNS = ["removal", "measure", "factor", "value", "images", "as_it_is", "without"]
Row = tuple[str, str, str, int, float, float]


def _shares(
    measure: str, factor: str, values: Sequence[str], truth: Tensor, hits: Tensor, min_images: int
) -> list[Row]:
    """Return the share of hits, as it is and without, for each value that enough images have."""
    known = truth >= 0
    counts = torch.bincount(truth[known], minlength=len(values))
    before, after = (torch.bincount(truth[known], h[known], len(values)) / counts for h in hits)
    keep = counts >= min_images
    if factor and measure == "false_positives":
        keep &= (before > 0) | (after > 0)
    return [
        (measure, factor, values[v], int(counts[v]), float(before[v]), float(after[v]))
        for v in keep.nonzero().flatten().tolist()
    ]


def mean_effects(table: pd.DataFrame) -> dict[str, float]:
    """Return how ablation changes score, accuracy and false positives on average.

    Each change is the mean of `without - as_it_is` over the removals.

    Args:
        table: of `effects_table`, with the removals that shall count.

    Returns:
        `score`, `accuracy`, `worst_group` (the lowest accuracy of any group of each class), and
        `false_positives`; NaN without any.

    Example:
        >>> row = {"removal": 0, "measure": "score", "factor": "", "as_it_is": 2.0, "without": 0.5}
        >>> mean_effects(pd.DataFrame([row]))["score"]
        -1.5
    """
    whole = table[table["factor"] == ""]
    groups = table[(table["factor"] != "") & (table["measure"] == "accuracy")]
    worst = groups.groupby("removal")[["as_it_is", "without"]].min()
    found = {name: whole[whole["measure"] == name] for name in ("score", "accuracy", "false_positives")}
    found["worst_group"] = worst
    return {name: float((rows["without"] - rows["as_it_is"]).mean()) for name, rows in found.items()}
