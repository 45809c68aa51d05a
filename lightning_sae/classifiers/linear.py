"""Linear classifiers of image embeddings."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """A linear classifier of image embeddings: `logit_c = <weight_c, e> + bias_c`.

    Attributes:
        weight: `[C, d_embed]`.
        bias: `[C]`.
    """

    weight: Tensor
    bias: Tensor

    def to(self, like: Tensor) -> Self:
        """Return the same classifier on the device and in the precision of a tensor."""
        return replace(self, weight=self.weight.to(like), bias=self.bias.to(like))

    def tensors(self) -> dict[str, Tensor]:
        """Return weight and bias by name, as they are saved: on the CPU, whole."""
        parts = {"weight": self.weight, "bias": self.bias}
        return {name: part.detach().cpu().contiguous() for name, part in parts.items()}

    def logits(self, embeddings: Tensor) -> Tensor:
        """Return the logits of all classes, `[..., d_embed]` unit -> `[..., C]`."""
        return embeddings @ self.weight.T + self.bias

    def predict(self, embeddings: Tensor) -> Tensor:
        """Return the class of each image, `[..., d_embed]` unit -> `[...]` int64, ties to the lower index."""
        return self.logits(embeddings).argmax(-1)


def fit_probe(
    embeddings: Tensor,
    targets: Tensor,
    n_classes: int,
    inverse_l2: float = 100.0,
    balanced: bool = False,
) -> LinearClassifier:
    """Fit a multinomial logistic regression on image embeddings (`sklearn.linear_model.LogisticRegression`).

    Args:
        embeddings: `[n, d_embed]` unit.
        targets: `[n]` int64, -1 leaves the image out.
        n_classes: `C >= 2`.
        inverse_l2: weight of the data relative to the L2 penalty; unit embeddings need a large weight.
        balanced: whether every class has the same weight, however many images it has.

    Returns:
        A probe in float32.

    Raises:
        ValueError: a class without images.

    Example:
        >>> probe = fit_probe(torch.eye(2), torch.tensor([0, 1]), n_classes=2)
        >>> probe.predict(torch.eye(2)).tolist()
        [0, 1]
    """
    from sklearn.linear_model import LogisticRegression

    known = targets >= 0
    counts = torch.bincount(targets[known], minlength=n_classes)
    if n_classes < 2 or (counts == 0).any():
        empty = (counts == 0).nonzero().flatten().tolist()
        raise ValueError(f"a probe needs images of each of two or more classes, classes {empty} have none")
    weights = "balanced" if balanced else None
    found = LogisticRegression(C=inverse_l2, max_iter=1000, class_weight=weights).fit(
        embeddings[known].double().cpu().numpy(), targets[known].cpu().numpy()
    )
    weight, bias = torch.from_numpy(found.coef_).float(), torch.from_numpy(found.intercept_).float()
    if n_classes == 2:  # one row there: the log odds of class 1
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    return LinearClassifier(weight, bias)
