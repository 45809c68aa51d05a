"""Attribution to the scores of many classes or prompts at once, and its means over images."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import jvp, vmap

from lightning_sae.attribution.closed_form import LastLayer
from lightning_sae.attribution.explained import Explained
from lightning_sae.attribution.gradient import TailFunction, attribute
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.metrics.shaped import ShapedMetric
from lightning_sae.sae.kernels.pattern import Pattern
from lightning_sae.sae.kernels.products import bag
from lightning_sae.types import SparseLatents

Mode = Literal["auto", "forward", "reverse"]
CHUNK = 1 << 22  # entries of [nnz, C] that exist at one time


def attribute_classes(explained: Explained, scores: ClassScores, mode: Mode = "auto") -> Tensor:
    """Return the activation x gradient of every active latent to the score of every class, through any tail.

    Forward mode pushes each decoder row `a_j w_j` through the tail and reads all classes off it, reverse mode
    pulls each class back to the activations: they agree, and cost as many passes as an image has active
    latents, or as there are classes. Works under `no_grad` and `inference_mode`.

    Args:
        explained: the images; few, as the result grows with all of them.
        scores: of the classes.
        mode: `auto` takes the cheaper one.

    Returns:
        `[nnz, C]`.

    Raises:
        ValueError: another mode.
    """
    if mode not in ("auto", "forward", "reverse"):
        raise ValueError(f"mode must be auto, forward or reverse, got {mode!r}")
    most = int(explained.latents.offsets[:: explained.x.shape[1]].diff().max()) if len(explained.x) else 0
    if mode == "auto":
        mode = "forward" if most < len(scores.weight) else "reverse"
    # tensors made in inference mode cannot enter a graph; their clones made outside of it can
    with torch.inference_mode(False):
        x, context = explained.x.detach().clone(), explained.context
        explained = explained._replace(x=x, context=None if context is None else context.detach().clone())
        return _forward(explained, scores, most) if mode == "forward" else _reverse(explained, scores)


@torch.no_grad()
def _forward(explained: Explained, scores: ClassScores, most: int) -> Tensor:
    latents, (n, t, d_in) = explained.latents, explained.x.shape
    row, image = latents.rows(), explained.image_rows()
    place = torch.arange(len(row), device=row.device) - latents.offsets[::t][image]
    tangents = explained.x.new_zeros(most, n, t, d_in)
    tangents[place, image, row % t] = latents.values[:, None] * explained.W_dec[latents.indices]

    def push(tangent: Tensor) -> Tensor:
        pushed: Tensor = jvp(
            lambda z: scores(explained.tail(z, explained.context)), (explained.x,), (tangent,)
        )[1]
        return pushed

    pushed: Tensor = vmap(push, chunk_size=16)(tangents)
    return pushed[place, image]


@torch.enable_grad()
def _reverse(explained: Explained, scores: ClassScores) -> Tensor:
    z = explained.x.requires_grad_()
    of_class = scores(explained.tail(z, explained.context)).unbind(1)
    pulled = (torch.autograd.grad(y.sum(), z, retain_graph=True)[0].flatten(0, 1) for y in of_class)
    return torch.stack([attribute(explained.latents, explained.W_dec, g) for g in pulled], 1)


class MeanOverImages(ShapedMetric):
    """Mean attribution of every latent to the score of every class; every image counts for every class.

    Made by `mean_over_images`; this one runs `attribute_classes` on a few images at a time.

    Args:
        scores: of the classes.
        d_sae: number of latents.
        width: of the sums; `None`: one for each class.
    """

    full_state_update = False
    rest: Tensor
    count: Tensor

    def __init__(self, scores: ClassScores, d_sae: int, width: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scores = scores
        zeros = scores.weight.new_zeros(d_sae, width or len(scores.weight), dtype=torch.float64)
        self.add_state("rest", zeros, dist_reduce_fx="sum")
        self.add_state("count", zeros.new_zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, explained: Explained) -> None:
        """Add images."""
        n, entries = len(explained.x), len(explained.latents.values)
        size = self._chunk(-(-entries // max(n, 1)))
        for start in range(0, n, size):
            self._add(explained.images(start, min(start + size, n)))
        self.count += n

    def _chunk(self, entries: int) -> int:
        """Return how many images to take at a time if each has `entries` active latents."""
        return max(1, CHUNK // (len(self.scores.weight) * max(entries, 1)))

    def _add(self, explained: Explained) -> None:
        values = attribute_classes(explained, self.scores)
        self.rest.index_add_(0, explained.latents.indices, values.to(self.rest.dtype))

    def compute(self) -> Tensor:
        """Return `[C, d_sae]`; NaN without images."""
        return (self.rest.T / self.count).to(self.scores.weight)


class _LastLayerMeans(MeanOverImages):
    """The same means, computed from sums over images without the attribution of each image.

    With `u` and `centre` of `Slopes` and `tau_c` a class's weights, `R_ijc = u_ic <v_ij, tau_c - centre_i>`,
    `v_ij = size_ij (z_j - along_ij q_i - length_ij e_i)`. So

    `sum_i R_ijc = <z_j, tau_c> sum_i size_ij u_ic - sum_i (size_ij along_ij u_ic <q_i, tau_c> + size_ij
    length_ij u_ic <e_i, tau_c> + <v_ij, centre_i> u_ic)`:

    products of the sparse pattern with `[n, C]`. Where scores are linear, `u = 1` and `centre = 0`: the sum
    of `v_ij`, `[d_sae, d_embed]`, is enough.
    """

    scaled: Tensor

    def __init__(self, scores: ClassScores, last: LastLayer, **kwargs: Any) -> None:
        d_sae, width = last.z.shape
        super().__init__(scores, d_sae, width if scores.linear else None, **kwargs)
        self.last = last
        zeros = self.rest.new_zeros(d_sae, 1 if scores.linear else len(scores.weight))
        self.add_state("scaled", zeros, dist_reduce_fx="sum")

    def _chunk(self, entries: int) -> int:
        return max(1, CHUNK // self.rest.shape[1])

    def _add(self, explained: Explained) -> None:
        pushed, latents = self.last.push(explained), explained.latents
        weights, rows = [-pushed.size * pushed.along, -pushed.size * pushed.length], [pushed.q, pushed.e]
        factor = torch.ones_like(pushed.q[:, :1])
        if not self.scores.linear:
            slopes = self.scores.slopes(pushed.e)
            factor = slopes.factor
            weights.append(-self.last.along(pushed, latents, slopes.centre))
            rows = [*(factor * (part @ self.scores.weight.T) for part in rows), factor]
            best = latents.indices * len(self.scores.weight) + slopes.best[latents.rows()]
            along_best = self.last.along(pushed, latents, slopes.best_slope)
            self.rest.view(-1).index_add_(0, best, along_best.double())
        self.scaled += _by_latent(latents, [pushed.size], [factor])
        self.rest += _by_latent(latents, weights, rows)

    def compute(self) -> Tensor:
        """Return `[C, d_sae]`; NaN without images."""
        tau, z = self.scores.weight.T.double(), self.last.z.double()
        total = (
            (z * self.scaled + self.rest) @ tau if self.scores.linear else z @ tau * self.scaled + self.rest
        )
        return (total.T / self.count).to(self.scores.weight)


def mean_over_images(tail: TailFunction, W_dec: Tensor, scores: ClassScores) -> MeanOverImages:
    """Return an empty mean, in the way that is cheapest for the tail.

    It is valid for as long as the decoder does not change.

    Args:
        tail: of the hook point.
        W_dec: `[d_sae, d_in]`, decoder in the units of the raw activations.
        scores: of the classes.
    """
    if scores.closed_form and (last := LastLayer.of(tail, W_dec)) is not None:
        return _LastLayerMeans(scores, last)
    return MeanOverImages(scores, len(W_dec))


def _by_latent(latents: SparseLatents, weights: list[Tensor], rows: list[Tensor]) -> Tensor:
    """Return `[d_sae, m]`: for each latent the sum of `weight * row` over its entries and over all pairs.

    A pair has a weight for each entry, `[nnz]`, and a row for each row of `latents`, `[n, m]`.
    """
    m, nnz = len(rows), len(latents.indices)
    starts = torch.cat([latents.offsets[:-1] + i * nnz for i in range(m)])
    offsets = torch.cat([starts, latents.offsets[-1:] + (m - 1) * nnz])
    pattern = Pattern(latents.indices.repeat(m), offsets, latents.d_sae)
    entries = pattern.transposed
    images = Pattern(pattern.rows[entries.order], entries.offsets, m * len(latents))
    return bag(torch.cat(weights)[entries.order], torch.cat(rows), images)
