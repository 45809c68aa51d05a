"""The terms whose mean a logged number is; they give its difference from a baseline an interval."""

from typing import NamedTuple

from torch import Tensor

from lightning_sae.metrics.welch import Difference, mean_difference


class Terms(NamedTuple):
    """The terms of a logged number, which is their mean or their sum.

    Attributes:
        values: `[n]` terms; terms that are not finite do not count.
        paired: whether the terms of two dictionaries at one place belong together, because both are of one
            image, value or class. Terms of latents do not belong together.
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
        """The mean of the finite terms, which is NaN if there are none, or their sum."""
        known = self.values[self.values.isfinite()].double()
        return float(known.sum() if self.total else known.mean())

    def minus(self, other: "Terms", confidence: float = 0.95) -> Difference:
        """Return the difference of this number minus that of another dictionary, with its interval."""
        one, two = (
            terms.values * (int(terms.values.isfinite().sum()) if terms.total else 1)
            for terms in (self, other)
        )
        return mean_difference(one, two, self.paired, confidence)


def image_terms(error: Tensor, cosine: Tensor, fvu: float) -> dict[str, Terms]:
    """Return the terms of FVU and mean cosine, one per image.

    The FVU is the mean of the images' errors in units of the variance of the data, which is the same for
    every dictionary.

    Args:
        error: `[n_images]` squared errors; NaN for an image that was not seen.
        cosine: `[n_images]` cosines.
        fvu: FVU of all images.

    Example:
        >>> import torch
        >>> terms = image_terms(torch.tensor([1.0, 3.0]), torch.ones(2), fvu=0.5)
        >>> terms["val/fvu"].values.tolist()
        [0.25, 0.75]
    """
    mean = error.nanmean()
    shares = error * (fvu / mean) if mean > 0 else error
    return {"val/fvu": Terms(shares.float(), paired=True), "val/cosine": Terms(cosine.float(), paired=True)}
