"""Mean attribution per class and latent, and its signs."""

from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from lightning_sae.attribution.gradient import Remainder
from lightning_sae.classifiers.outputs import Output
from lightning_sae.metrics.shaped import ShapedMetric
from lightning_sae.types import SparseLatents

Over = Literal["predicted", "true", "all"]
"""The images behind a class's mean: those predicted as it, truly of it, or all."""


class AttributionMeans(NamedTuple):
    """Attribution to the score of each class, summed over an image's tokens, mean over the class's images.

    A class without images has NaN everywhere and a count of zero.

    Attributes:
        mean: `[C, d_sae]`, `r_j`.
        counts: `[C]` int64, images.
        positive: `[C]` >= 0, sum of `max(0, R_j)` over tokens and latents.
        negative: `[C]` <= 0, sum of `min(0, R_j)`.
        bias: `[C]`, attribution of the decoder bias.
        error: `[C]`, attribution of the reconstruction error.
        bias_mass: `[C]` >= 0, sum of `|R_bias|` over tokens.
        error_mass: `[C]` >= 0, sum of `|R_error|` over tokens.
    """

    mean: Tensor
    counts: Tensor
    positive: Tensor
    negative: Tensor
    bias: Tensor
    error: Tensor
    bias_mass: Tensor
    error_mass: Tensor

    @property
    def total(self) -> Tensor:
        """`[C]` >= 0, mass of latents, bias and error together, signs dropped."""
        return self.positive - self.negative + self.bias_mass + self.error_mass

    @property
    def bias_share(self) -> Tensor:
        """`[C]` in [0, 1], share of the bias in the total mass; it is not a share of the score."""
        return self.bias_mass / self.total

    @property
    def error_share(self) -> Tensor:
        """`[C]` in [0, 1], share of the error in the total mass; it is not a share of the score."""
        return self.error_mass / self.total

    def pooled(self) -> Self:
        """Return the same over the images of all classes, as one class."""
        weights = self.counts / self.counts.sum()
        means = (torch.einsum("c,c...->...", weights, part.to(weights).nan_to_num())[None] for part in self)
        return type(self)(*means)._replace(counts=self.counts.sum()[None])


class ClassAttribution(NamedTuple):
    """Mean attribution of every latent to the scores of the classes, with what it was made of.

    Attributes:
        means: of each class.
        output: the score that was attributed.
        over: the images behind the mean of a class.
    """

    means: AttributionMeans
    output: Output
    over: Over


class MeanAttribution(ShapedMetric):
    """Mean attribution per class and latent, streaming: an update costs as much as there are active latents.

    Sums are in float64, so that their order, and the number of ranks, does not show in the means.

    Args:
        n_classes: `C`.
        d_sae: number of latents.

    Example:
        >>> metric = MeanAttribution(n_classes=2, d_sae=3)
        >>> latents = SparseLatents.from_dense(torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]))
        >>> metric.update(latents, torch.tensor([4.0, -2.0, 6.0]), classes=torch.tensor([1, 1]))
        >>> metric.compute().mean[1]
        tensor([ 2.,  3., -1.])
    """

    full_state_update = False
    sums: Tensor
    counts: Tensor
    positive: Tensor
    negative: Tensor
    bias: Tensor
    error: Tensor
    bias_mass: Tensor
    error_mass: Tensor

    def __init__(self, n_classes: int, d_sae: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.d_sae = d_sae
        self.add_state("sums", torch.zeros(n_classes, d_sae, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(n_classes, dtype=torch.int64), dist_reduce_fx="sum")
        for mass in AttributionMeans._fields[2:]:
            self.add_state(mass, torch.zeros(n_classes, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self,
        latents: SparseLatents,
        values: Tensor,
        classes: Tensor,
        image_rows: Tensor | None = None,
        rest: Remainder | None = None,
    ) -> None:
        """Add whole images.

        Args:
            latents: active latents of `n_tokens` tokens, all tokens of each image.
            values: `[nnz]`, `attribute(latents, ...)`.
            classes: `[n_images]` int64, the class whose score was attributed; -1 leaves the image out.
            image_rows: `[n_tokens]` int64 in `0..n_images-1`, the image of each token; `None`: one token
                an image.
            rest: `remainder(...)` of the tokens; `None` counts as zero.
        """
        of_token = classes if image_rows is None else classes[image_rows]
        of_value = of_token[latents.rows()]
        # class -1 makes the flat index negative, which `_add` leaves out
        _add(self.sums.view(-1), of_value * self.d_sae + latents.indices, values)
        _add(self.counts, classes, torch.ones_like(classes))
        _add(self.positive, of_value, values.clamp(min=0))
        _add(self.negative, of_value, values.clamp(max=0))
        if rest is not None:
            _add(self.bias, of_token, rest.bias)
            _add(self.error, of_token, rest.error)
            _add(self.bias_mass, of_token, rest.bias.abs())
            _add(self.error_mass, of_token, rest.error.abs())

    def compute(self) -> AttributionMeans:
        """Return the means so far."""
        masses = (getattr(self, mass) / self.counts for mass in AttributionMeans._fields[2:])
        mean = (self.sums / self.counts[:, None]).float()
        return AttributionMeans(mean, self.counts, *(mass.float() for mass in masses))

    def reset(self) -> None:
        """Empty the sums; outside inference mode, whose tensors could not be added to in a later `fit`."""
        with torch.inference_mode(False):
            super().reset()


def agreement(first: Tensor, second: Tensor) -> Tensor:
    """Return Pearson correlation over the latents of two attributions of the same classes.

    Args:
        first: `[C, d_sae]`, such as means by text prompts.
        second: `[C, d_sae]`, such as means by a linear probe.

    Returns:
        `[C]` in [-1, 1]; NaN where one of them is undefined, 0 where one is constant.

    Example:
        >>> agreement(torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[3.0, 1.0, 5.0]]))
        tensor([1.0000])
    """
    first, second = (part - part.mean(1, keepdim=True) for part in (first, second))
    return cosine_similarity(first, second, dim=1)


def _add(total: Tensor, index: Tensor, values: Tensor) -> None:
    known = index >= 0
    total.index_add_(0, index[known], values[known].to(total.dtype))
