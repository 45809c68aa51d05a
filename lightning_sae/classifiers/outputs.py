"""Outputs to attribute: the score of every class, made of the logits of all classes."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor


class Slopes(NamedTuple):
    """Gradients of all classes' scores to the embedding, `dy_c/de`, without a `[n, C, d_embed]` tensor.

    `dy_c/de = factor_c (weight_c - centre)`. The likeliest class has `best_slope` instead, as its difference
    would cancel.

    Attributes:
        factor: `[n, C]`, 0 for the likeliest class.
        centre: `[n, d_embed]`, `sum_c softmax(logits)_c weight_c`.
        best: `[n]` int64, the likeliest class.
        best_slope: `[n, d_embed]`, gradient of the likeliest class's score.
    """

    factor: Tensor
    centre: Tensor
    best: Tensor
    best_slope: Tensor


class Output(ABC):
    """A score of every class. An output of your own needs a name and `scores`; autograd does the rest.

    Attributes:
        name: name in an audit and in pictures; it must differ from the names in `OUTPUTS`.
        linear: True if `scores` returns its input unchanged.
        of_cosines: True if `scores` takes cosines, which a linear classifier does not have.

    Example:
        >>> class Lead(Output):
        ...     name = "lead"
        ...
        ...     def scores(self, logits):
        ...         return logits - logits.mean(-1, keepdim=True)
        >>> Lead().pick(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([1]))
        tensor([-1.])
    """

    name: str = ""
    linear: ClassVar[bool] = False
    of_cosines: ClassVar[bool] = False

    def __str__(self) -> str:
        return self.name

    @abstractmethod
    def scores(self, logits: Tensor) -> Tensor:
        """Return the score of every class, `[..., C]` -> `[..., C]`, differentiable in both modes."""

    def pick(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the score of one class a row, `targets [n]` int64, from all `logits [n, C]`: `[n]`."""
        return self.scores(logits).gather(1, targets[:, None]).squeeze(1)

    def for_probe(self) -> "Output":
        """Return the output that takes the place of this one for a linear classifier."""
        return self


class LogitOutput(Output):
    """`logit_c`."""

    name = "logit"
    linear = True

    def scores(self, logits: Tensor) -> Tensor:
        """Return the logits."""
        return logits


class CosineOutput(LogitOutput):
    """`cos_c`; the logit for a probe."""

    name = "cosine"
    of_cosines = True

    def for_probe(self) -> Output:
        """Return the logit."""
        return LogitOutput()


class OddsOutput(Output):
    """A score that depends on nothing but the odds of its class; its gradients have a closed form."""

    @abstractmethod
    def factor(self, probabilities: Tensor) -> Tensor:
        """Return `factor` of `Slopes` from the softmax, `[n, C]` -> `[n, C]`."""

    @abstractmethod
    def rate(self, odds: Tensor) -> Tensor:
        """Return the derivative of a score with respect to the logarithm of its odds, `[n]` -> `[n]`."""

    def slopes(self, logits: Tensor, weight: Tensor) -> Slopes:
        """Return the gradients with respect to embeddings of `logits [n, C]` under `weight [C, d_embed]`."""
        best = logits.argmax(1, keepdim=True)
        others = logits.scatter(1, best, -torch.inf)
        odds = (logits.gather(1, best) - others.logsumexp(1, keepdim=True)).squeeze(1)
        probabilities = logits.softmax(1)
        contrast = weight[best[:, 0]] - others.softmax(1) @ weight
        factor = self.factor(probabilities).scatter(1, best, 0.0)
        return Slopes(factor, probabilities @ weight, best[:, 0], self.rate(odds)[:, None] * contrast)


class MarginOutput(OddsOutput):
    """`logit_c - logsumexp_{c' != c} logit_c'`, the log odds of class `c` against all others."""

    name = "margin"

    def scores(self, logits: Tensor) -> Tensor:
        """Return the log odds; the likeliest class's come from the other logits, as `1 - p` would cancel."""
        top = logits.argmax(-1, keepdim=True)
        rest = logits.scatter(-1, top, -torch.inf).logsumexp(-1, keepdim=True)
        probabilities = logits.softmax(-1).scatter(-1, top, 0.0)
        others = logits.logsumexp(-1, keepdim=True) + torch.log1p(-probabilities)
        return logits - others.scatter(-1, top, rest)

    def pick(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the log odds of one class a row."""
        column = targets[:, None]
        others = logits.scatter(1, column, -torch.inf).logsumexp(1)
        return logits.gather(1, column).squeeze(1) - others

    def factor(self, probabilities: Tensor) -> Tensor:
        """Return `1 / (1 - p_c)`."""
        return 1 / (1 - probabilities)

    def rate(self, odds: Tensor) -> Tensor:
        """Return 1."""
        return torch.ones_like(odds)


class ProbabilityOutput(OddsOutput):
    """`softmax(logits)_c`."""

    name = "probability"

    def scores(self, logits: Tensor) -> Tensor:
        """Return the softmax."""
        return logits.softmax(-1)

    def factor(self, probabilities: Tensor) -> Tensor:
        """Return `p_c`."""
        return probabilities

    def rate(self, odds: Tensor) -> Tensor:
        """Return `p_c (1 - p_c)`."""
        return odds.sigmoid() * (-odds).sigmoid()


OUTPUTS = {
    output.name: output for output in (CosineOutput(), LogitOutput(), MarginOutput(), ProbabilityOutput())
}
"""The outputs that a user can choose by name."""


def as_output(given: Output | str) -> Output:
    """Return the output that a user has named, or the user's own output as it is.

    Raises:
        ValueError: there is no such output, or the user's own output has no name of its own.

    Example:
        >>> as_output("margin").name
        'margin'
    """
    output = OUTPUTS.get(given) if isinstance(given, str) else given
    if not isinstance(output, Output):
        raise ValueError(
            f"output must be one of {', '.join(OUTPUTS)}; got {given!r}. One of your own, an Output of "
            "lightning_sae.classifiers.outputs, is {_target_: my_package.MyOutput}"
        )
    if not output.name or type(OUTPUTS.get(output.name, output)) is not type(output):
        raise ValueError(f"an output of your own needs a name of its own, got {output.name!r}")
    return output
