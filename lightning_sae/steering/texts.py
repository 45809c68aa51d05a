"""The texts of the values of a factor, as CLIP reads them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_sae.concepts.vocabulary import embed_labels
from lightning_sae.data import ActivationDataModule
from lightning_sae.pairs.pair import Contrast
from lightning_sae.pairs.responses import FactorValue
from lightning_sae.steering.readouts import CLASS


def text_of(
    data: ActivationDataModule,
    values: Mapping[str, Sequence[str]],
    templates: Mapping[str, Sequence[str]],
    value: FactorValue,
) -> Tensor:
    """Return the text embedding of a value minus the mean embedding of the other values of its factor.

    Args:
        data: with the prompts of the classes, which stand for the values of `class`.
        values: values of each factor; the value "" goes by the name of its factor.
        templates: factor -> texts in which `{}` is the value; for other factors the text is the value alone.
        value: of one of the factors.

    Returns:
        `[d_embed]`.
    """
    if value.factor == CLASS:
        known, texts = list(data.class_names), data.class_embeddings
    else:
        known = list(values[value.factor])
        words = [word or value.factor for word in known]
        texts = embed_labels(data.clip, words, templates.get(value.factor, ["{}"])).to(data.class_embeddings)
    others = torch.tensor([word != value.value for word in known], device=texts.device)
    mine = texts[known.index(value.value)]
    return mine - texts[others].mean(0) if bool(others.any()) else mine


def values_by_factor(contrasts: Sequence[Contrast]) -> dict[str, list[str]]:
    """Return the values that come in any pair, factor by factor.

    Example:
        >>> values_by_factor([Contrast("sky", None, "red"), Contrast("sky", "red", "blue")])
        {'sky': ['red', 'blue']}
    """
    found: dict[str, list[str]] = {}
    for contrast in contrasts:
        for value in (contrast.before, contrast.after):
            if value is not None and value not in found.setdefault(contrast.factor, []):
                found[contrast.factor].append(value)
    return found
