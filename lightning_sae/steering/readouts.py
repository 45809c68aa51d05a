"""What is read off an embedding: the class by prompts, every other factor by a linear probe."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.classifiers.linear import LinearClassifier, fit_probe
from lightning_sae.metrics.group_errors import factor_groups

CLASS = "class"


class Readout(NamedTuple):
    """A classifier of one factor.

    Attributes:
        factor: `class`, `background`.
        values: `C` of them.
        classifier: of the embeddings.
    """

    factor: str
    values: Sequence[str]
    classifier: LinearClassifier

    def read(self, embeddings: Tensor) -> Tensor:
        """Return the place in `values` of each image, `[..., d_embed]` -> `[...]` int64."""
        return self.classifier.to(embeddings).predict(embeddings)


def known_readouts(
    class_names: Sequence[str],
    texts: Tensor,
    embeddings: Tensor,
    factors: Mapping[str, tuple[Sequence[str], Tensor]],
) -> dict[str, Readout]:
    """Return the readouts of the factors that are known for some images.

    The class is read by its prompts, because the model's own score is what should stay or move. Every other
    factor is read by a probe that is fitted on these images. A factor with fewer than two values is left out.

    Args:
        class_names: `C` names; fewer than two are not read.
        texts: `[C, d_embed]` unit, of the prompts.
        embeddings: `[n, d_embed]` unit.
        factors: factor -> (its values, `[n]` int64, -1 for none).
    """
    found = {}
    if len(class_names) > 1:
        found[CLASS] = Readout(CLASS, list(class_names), LinearClassifier(texts, texts.new_zeros(len(texts))))
    for factor, (values, truth) in factors.items():
        groups = factor_groups(factor, values, truth.cpu())
        readout = fitted_readout(factor, groups.values, embeddings, groups.of)
        if factor != CLASS and readout is not None:
            found[factor] = readout
    return found


def fitted_readout(factor: str, values: Sequence[str], embeddings: Tensor, truth: Tensor) -> Readout | None:
    """Return a probe of one factor; `None` where the images have fewer than two of its values.

    Args:
        factor: name.
        values: of it; those that no image has are left out.
        embeddings: `[n, d_embed]` unit.
        truth: `[n]` int64, place in `values`.
    """
    there, of = torch.unique(truth, return_inverse=True)
    if len(there) < 2:
        return None
    probe = fit_probe(embeddings, of, len(there), balanced=True)
    return Readout(factor, [values[v] for v in there.tolist()], probe)
