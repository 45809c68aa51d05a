"""What a logged number is the mean of, by which its difference from a baseline has an interval."""

from typing import NamedTuple

from torch import Tensor

from lightning_sae.metrics.welch import Difference, mean_difference


class Terms(NamedTuple):
    """The terms of a logged number, which is their mean or their sum.

    Attributes:
        values: `[n]`; what is not finite does not count.
        paired: whether the terms of two dictionaries at one place belong together: of one image, value or
            class. Those of latents do not.
        total: whether the number is the sum.

    Example:
        >>> import torch
        >>> named = Terms(torch.tensor([1.0, 1.0, 0.0]), total=True)
        >>> named.number, named.minus(named).mean
        (2.0, 0.0)
    """

    values: Tensor
    paired: bool = False
    total: bool = False

    @property
    def number(self) -> float:
        """The mean, or the sum; NaN of nothing."""
        known = self.values[self.values.isfinite()].double()
        return float(known.sum() if self.total else known.mean())

    def minus(self, other: "Terms", confidence: float = 0.95) -> Difference:
        """Return how much larger this number is than that of another dictionary, with its interval."""
        one, two = (
            terms.values * (int(terms.values.isfinite().sum()) if terms.total else 1)
            for terms in (self, other)
        )
        return mean_difference(one, two, self.paired, confidence)


def image_terms(error: Tensor, cosine: Tensor, fvu: float) -> dict[str, Terms]:
    """Return the terms of FVU and mean cosine: an image each.

    The FVU is the mean of the images' errors in units of the variance, which is that of the data and the same
    for every dictionary.

    Args:
        error: `[n_images]` squared errors; NaN for an image that was not seen.
        cosine: `[n_images]`.
        fvu: of all images.

    Example:
        >>> import torch
        >>> terms = image_terms(torch.tensor([1.0, 3.0]), torch.ones(2), fvu=0.5)
        >>> terms["val/fvu"].values.tolist()
        [0.25, 0.75]
    """
    mean = error.nanmean()
    shares = error * (fvu / mean) if mean > 0 else error
    return {"val/fvu": Terms(shares.float(), paired=True), "val/cosine": Terms(cosine.float(), paired=True)}
