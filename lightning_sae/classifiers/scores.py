"""What is attributed: the score of an image, by a text prompt or by a linear probe on its embedding."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from lightning_sae.classifiers.linear import LinearClassifier

Output = Literal["cosine", "logit", "margin", "probability"]

ImageScore = Callable[[Tensor, slice | Tensor], Tensor]
"""`(embeddings [b, d_embed], rows) -> [b]`; `rows` says which of the images the embeddings belong to: a slice
or positions `[b]`, the same image as often as wanted."""


class Slopes(NamedTuple):
    """Gradients of all classes' scores to the embedding, `dy_c/de`, without a `[n, C, d_embed]` tensor.

    `dy_c/de = factor_c (weight_c - centre)`, but `best_slope` for the likeliest class: there the difference
    would cancel.

    Attributes:
        factor: `[n, C]`, 0 for the likeliest class.
        centre: `[n, d_embed]`, `sum_c softmax(logits)_c weight_c`.
        best: `[n]` int64, the likeliest class.
        best_slope: `[n, d_embed]`.
    """

    factor: Tensor
    centre: Tensor
    best: Tensor
    best_slope: Tensor


class ClassScores:
    """Scores of every class: embeddings `[..., d_embed]` -> `[..., C]`, differentiable in both modes.

    With `logit_c = logit_scale * cos_c` for texts, or the logit of a probe, the score of class `c` is

    - `cosine`: `cos_c`;
    - `logit`: `logit_c`;
    - `margin`: `logit_c - logsumexp_{c' != c} logit_c'`, the log odds of class `c` against all others;
    - `probability`: `softmax(logits)_c`.

    Attributes:
        output: which score.
        weight: `[C, d_embed]`, its product with an embedding plus the bias is the cosine or the logit.
        bias: `[C]`.

    Args:
        classes: unit text embeddings `[C, d_embed]`, or a probe.
        output: which score.
        logit_scale: factor from cosine to logit, positive (not its logarithm); a probe has its own.

    Raises:
        ValueError: the output is unknown, a cosine with a probe, or a single class to compare.

    Example:
        >>> ClassScores(torch.eye(2), "probability")(torch.tensor([1.0, 1.0]))
        tensor([0.5000, 0.5000])
    """

    def __init__(
        self, classes: Tensor | LinearClassifier, output: Output = "cosine", logit_scale: float = 1.0
    ) -> None:
        if output not in get_args(Output):
            raise ValueError(f"output must be one of {', '.join(get_args(Output))}; got {output!r}")
        if output == "cosine" and isinstance(classes, LinearClassifier):
            raise ValueError("a probe has logits, not cosines: output must be logit, margin or probability")
        self.output, self._compare = output, _COMPARE.get(output)
        # tensors made in inference mode cannot enter a graph; their clones made outside of it can
        with torch.inference_mode(False), torch.no_grad():
            if isinstance(classes, LinearClassifier):
                self.weight, self.bias = classes.weight.clone(), classes.bias.clone()
            else:
                self.weight = classes.clone() * (1.0 if output == "cosine" else logit_scale)
                self.bias = self.weight.new_zeros(len(classes))
        if not self.linear and len(self.weight) < 2:
            raise ValueError(f"output {output!r} compares classes: name two or more, or take cosine or logit")

    @property
    def linear(self) -> bool:
        """True if a score is a linear function of the embedding."""
        return self._compare is None

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Return `[..., d_embed]` -> `[..., C]`."""
        logits = self.logits(embeddings)
        return logits if self._compare is None else self._compare(logits)

    def logits(self, embeddings: Tensor) -> Tensor:
        """Return what is compared (the cosines, for that output): `[..., d_embed]` -> `[..., C]`."""
        return embeddings @ self.weight.T + self.bias

    def pick(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the score of one class a row, `targets [n]` int64, from all `logits [n, C]`: `[n]`."""
        column = targets[:, None]
        if self.output == "probability":
            return logits.softmax(1).gather(1, column).squeeze(1)
        picked = logits.gather(1, column).squeeze(1)
        return picked if self.linear else picked - logits.scatter(1, column, -torch.inf).logsumexp(1)

    def slopes(self, embeddings: Tensor) -> Slopes:
        """Return the gradients of the scores that compare classes, at `embeddings [n, d_embed]`."""
        logits = self.logits(embeddings)
        best = logits.argmax(1, keepdim=True)
        others = logits.scatter(1, best, -torch.inf)
        odds = (logits.gather(1, best) - others.logsumexp(1, keepdim=True)).squeeze(1)  # log odds of the best
        probabilities = logits.softmax(1)
        factor = 1 / (1 - probabilities) if self.output == "margin" else probabilities
        share = torch.ones_like(odds) if self.output == "margin" else odds.sigmoid() * (-odds).sigmoid()
        contrast = self.weight[best[:, 0]] - others.softmax(1) @ self.weight
        return Slopes(
            factor.scatter(1, best, 0.0), probabilities @ self.weight, best[:, 0], share[:, None] * contrast
        )

    def of(self, targets: Tensor) -> ImageScore:
        """Return the score of one class an image, `targets [n]` int64 in `0..C-1`."""
        with torch.inference_mode(False):
            targets = targets.clone()
        if self.linear:
            return lambda e, rows: (e * self.weight[targets[rows]]).sum(-1) + self.bias[targets[rows]]
        return lambda e, rows: self(e).gather(-1, targets[rows][:, None]).squeeze(-1)


def make_score(
    text: Tensor | LinearClassifier,
    output: Output = "cosine",
    targets: Tensor | None = None,
    logit_scale: float = 1.0,
) -> ImageScore:
    """Return the score of each of `n` images; `ClassScores` says which there are.

    Args:
        text: without `targets` the unit embedding of the prompt, `[d_embed]`, or one an image,
            `[n, d_embed]`; with `targets` those of all classes, `[C, d_embed]`, or a probe.
        output: which score.
        targets: `[n]` int64 in `0..C-1`, the class `c` of each image's score.
        logit_scale: factor from cosine to logit, positive.

    Raises:
        ValueError: the output is unknown, or compares classes and `targets` or a second class is missing.

    Example:
        >>> score = make_score(torch.eye(2), "logit", torch.tensor([1, 0]), logit_scale=10.0)
        >>> score(torch.tensor([[0.6, 0.8]]), slice(0, 1))
        tensor([8.])
    """
    if targets is None:
        if isinstance(text, LinearClassifier) or output in _COMPARE:
            raise ValueError(
                f"output {output!r} compares classes: pass all of them (two or more) and targets"
            )
        if text.ndim == 1:
            only = ClassScores(text[None], output, logit_scale)
            return lambda embeddings, rows: only(embeddings).squeeze(-1)
        targets = torch.arange(len(text), device=text.device)
    return ClassScores(text, output, logit_scale).of(targets)


def _margin(logits: Tensor) -> Tensor:
    """Log odds of each class; that of the likeliest from the others alone, as `1 - p` would cancel."""
    top = logits.argmax(-1, keepdim=True)
    rest = logits.scatter(-1, top, -torch.inf).logsumexp(-1, keepdim=True)
    probabilities = logits.softmax(-1).scatter(-1, top, 0.0)
    others = logits.logsumexp(-1, keepdim=True) + torch.log1p(-probabilities)
    return logits - others.scatter(-1, top, rest)


def _probability(logits: Tensor) -> Tensor:
    return logits.softmax(-1)


_COMPARE: dict[str, Callable[[Tensor], Tensor]] = {"margin": _margin, "probability": _probability}
