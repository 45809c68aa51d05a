"""The score of an image that is attributed, by a text prompt or by a linear probe on its embedding."""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_sae.classifiers.linear import LinearClassifier
from lightning_sae.classifiers.outputs import OddsOutput, Output, Slopes, as_output

ImageScore = Callable[[Tensor, slice | Tensor], Tensor]
"""`(embeddings [b, d_embed], rows) -> [b]`; `rows` gives the images that the embeddings belong to: a slice
or positions `[b]`, which may repeat an image."""


class ClassScores:
    """Scores of every class: embeddings `[..., d_embed]` -> `[..., C]`, differentiable in both modes.

    An output (`lightning_sae.classifiers.outputs`) makes the scores from `logit_c = logit_scale * cos_c` for
    texts, or from the logit of a probe.

    Attributes:
        output: output that makes the scores.
        weight: `[C, d_embed]`; its product with an embedding plus the bias is the cosine or the logit.
        bias: `[C]`.

    Args:
        classes: unit text embeddings `[C, d_embed]`, or a probe.
        output: name of an output, or an output of your own.
        logit_scale: factor from cosine to logit, positive (not its logarithm); a probe has its own.

    Raises:
        ValueError: the output is unknown, is a cosine with a probe, or compares classes where there is one.

    Example:
        >>> ClassScores(torch.eye(2), "probability")(torch.tensor([1.0, 1.0]))
        tensor([0.5000, 0.5000])
    """

    def __init__(
        self, classes: Tensor | LinearClassifier, output: Output | str = "cosine", logit_scale: float = 1.0
    ) -> None:
        self.output = as_output(output)
        if self.output.of_cosines and isinstance(classes, LinearClassifier):
            raise ValueError("a probe has logits, not cosines: output must be logit, margin or probability")
        # tensors made in inference mode cannot enter a graph; their clones made outside of it can
        with torch.inference_mode(False), torch.no_grad():
            if isinstance(classes, LinearClassifier):
                self.weight, self.bias = classes.weight.clone(), classes.bias.clone()
            else:
                self.weight = classes.clone() * (1.0 if self.output.of_cosines else logit_scale)
                self.bias = self.weight.new_zeros(len(classes))
        if not self.linear and len(self.weight) < 2:
            raise ValueError(
                f"output {self.output.name!r} compares classes: name two or more, or take cosine or logit"
            )

    @property
    def linear(self) -> bool:
        """True if a score is a linear function of the embedding."""
        return self.output.linear

    @property
    def closed_form(self) -> bool:
        """True if the gradients to the embedding have a closed form: the weights themselves, or `slopes`."""
        return self.linear or isinstance(self.output, OddsOutput)

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Return the scores of all classes, `[..., d_embed]` -> `[..., C]`."""
        return self.output.scores(self.logits(embeddings))

    def logits(self, embeddings: Tensor) -> Tensor:
        """Return the logits (the cosines for the output cosine): `[..., d_embed]` -> `[..., C]`."""
        return embeddings @ self.weight.T + self.bias

    def slopes(self, embeddings: Tensor) -> Slopes:
        """Return the gradients of the scores of an `OddsOutput` at `embeddings [n, d_embed]`."""
        assert isinstance(self.output, OddsOutput)
        return self.output.slopes(self.logits(embeddings), self.weight)

    def of(self, targets: Tensor) -> ImageScore:
        """Return the score of one class per image, `targets [n]` int64 in `0..C-1`."""
        with torch.inference_mode(False):
            targets = targets.clone()
        if self.linear:
            return lambda e, rows: (e * self.weight[targets[rows]]).sum(-1) + self.bias[targets[rows]]
        return lambda e, rows: self(e).gather(-1, targets[rows][:, None]).squeeze(-1)


def make_score(
    text: Tensor | LinearClassifier,
    output: Output | str = "cosine",
    targets: Tensor | None = None,
    logit_scale: float = 1.0,
) -> ImageScore:
    """Return the score of each of `n` images.

    Args:
        text: without `targets` the unit embedding of the prompt, `[d_embed]`, or one per image,
            `[n, d_embed]`; with `targets` the embeddings of all classes, `[C, d_embed]`, or a probe.
        output: name of an output, or an output of your own.
        targets: `[n]` int64 in `0..C-1`, the class `c` of each image's score.
        logit_scale: factor from cosine to logit, positive.

    Raises:
        ValueError: the output is unknown, or it compares classes and `targets` or a second class is missing.

    Example:
        >>> score = make_score(torch.eye(2), "logit", torch.tensor([1, 0]), logit_scale=10.0)
        >>> score(torch.tensor([[0.6, 0.8]]), slice(0, 1))
        tensor([8.])
    """
    output = as_output(output)
    if targets is None:
        if isinstance(text, LinearClassifier) or not output.linear:
            raise ValueError(
                f"output {output.name!r} compares classes: pass all of them (two or more) and targets"
            )
        if text.ndim == 1:
            only = ClassScores(text[None], output, logit_scale)
            return lambda embeddings, rows: only(embeddings).squeeze(-1)
        targets = torch.arange(len(text), device=text.device)
    return ClassScores(text, output, logit_scale).of(targets)
