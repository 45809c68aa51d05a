"""The effect of removing latents on the scores of an image, in numbers that a page computes with."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_sae.attribution.ablation import ablate
from lightning_sae.attribution.closed_form import LastLayer
from lightning_sae.attribution.explained import Explained
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.progress import track

CHUNK = 256  # images at a time
SIZES = ((24, 32), (16, 32), (16, 16), (12, 12), (8, 8))  # latents and classes of an image, the most first
BYTES = 4_000_000  # of the numbers of all images


class Removable(NamedTuple):
    """The latents of some images that can be removed.

    Attributes:
        latents: `[n, m]` int64, the largest attribution first, -1 where there are fewer.
        activations: `[n, m]` float32, 0 where there are fewer.
    """

    latents: Tensor
    activations: Tensor


class ExactRemovals(NamedTuple):
    """The numbers that give an image's logits when shares of its latents are removed behind the last layer.

    With `c = (1, -s_1 .. -s_m)`, `r = sqrt(c' inputs c)`, `v = (c / r, 1)`:
    `logit = v . classes / sqrt(v' outputs v) + bias`; see `closed_form.Parts`.

    Attributes:
        classes: `[n, C']` int64, the classes whose logits can be computed.
        inputs: `[n, (m + 1)(m + 2) / 2]` inner products, the upper triangle row by row.
        outputs: `[n, (m + 2)(m + 3) / 2]`.
        logits: `[n, C', m + 2]`.
        bias: `[n, C']`.
    """

    classes: Tensor
    inputs: Tensor
    outputs: Tensor
    logits: Tensor
    bias: Tensor


class SingleRemovals(NamedTuple):
    """The logits of an image as it is, and without each of its latents, measured by running CLIP again.

    Attributes:
        classes: `[n, C']` int64.
        as_it_is: `[n, C']`.
        without: `[n, m, C']`.
    """

    classes: Tensor
    as_it_is: Tensor
    without: Tensor


def size_for(images: int, active: int, n_classes: int) -> tuple[int, int]:
    """Return how many latents and classes of each image a page has room for.

    Example:
        >>> size_for(images=100, active=16, n_classes=10), size_for(14_000, 32, 1000)
        ((16, 10), (8, 8))
    """
    for most_latents, most_classes in SIZES:
        m, c = min(most_latents, active), min(most_classes, n_classes)
        size = 2 * (m + 1) * (m + 2) + (m + 2) * (m + 3) + 2 * c * (m + 3)
        if size * images <= BYTES:
            break
    return m, c


def exact_removals(
    form: LastLayer, x: Tensor, removable: Removable, classifier: Classifier, n_classes: int, keep: Tensor
) -> ExactRemovals:
    """Return the exact form of some images.

    Args:
        form: closed form of the model behind the activations.
        x: `[n, d_in]` activations.
        removable: the latents of the same images.
        classifier: classifier whose logits are computed.
        n_classes: `C'`, number of classes per image: first the classes that win with all latents or without
            one of them, then the classes that come close.
        keep: `[n]` int64, a class that is always among them, -1 for none.
    """
    found = [
        _exact(
            form, x[rows], Removable(*(part[rows] for part in removable)), classifier, n_classes, keep[rows]
        )
        for rows in torch.split(torch.arange(len(x)), CHUNK)
    ]
    return ExactRemovals(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _exact(
    form: LastLayer, x: Tensor, removable: Removable, classifier: Classifier, n_classes: int, keep: Tensor
) -> ExactRemovals:
    parts = form.parts(x, removable.latents.clamp(min=0), removable.activations)
    weight = classifier.weight.to(parts.outputs)
    inputs, outputs = (part @ part.transpose(1, 2) for part in parts)
    logits = parts.outputs @ weight.T
    single = _without_each(inputs, outputs, logits) + classifier.bias.to(logits)
    classes = likely_classes(single, n_classes, keep)
    m = removable.latents.shape[1]
    rows, columns = torch.triu_indices(m + 1, m + 1).unbind()
    all_rows, all_columns = torch.triu_indices(m + 2, m + 2).unbind()
    chosen = logits.transpose(1, 2).gather(1, classes[..., None].expand(-1, -1, m + 2))
    bias = classifier.bias.to(logits)[classes]
    return ExactRemovals(classes, inputs[:, rows, columns], outputs[:, all_rows, all_columns], chosen, bias)


def _without_each(inputs: Tensor, outputs: Tensor, logits: Tensor) -> Tensor:
    """Return `[n, m + 1, C]` logits before the bias: of the image as it is, then without each latent."""
    m = inputs.shape[1] - 1
    c = torch.cat([torch.ones(m + 1, 1), torch.cat([torch.zeros(1, m), -torch.eye(m)])], 1).to(inputs)
    r = torch.einsum("ki,nij,kj->nk", c, inputs, c).sqrt()
    v = torch.cat([c / r[..., None], torch.ones_like(r)[..., None]], 2)
    length = torch.einsum("nki,nij,nkj->nk", v, outputs, v).sqrt()
    return v @ logits / length[..., None]


def likely_classes(logits: Tensor, n_classes: int, keep: Tensor) -> Tensor:
    """Return the classes that win, or come closest to winning, in any of some cases: `[n, n_classes]` int64.

    Args:
        logits: `[n, cases, C]`.
        n_classes: number of classes to return.
        keep: `[n]` int64, a class that is always among them, -1 for none.

    Example:
        >>> likely_classes(torch.tensor([[[3.0, 0.0, 1.0], [0.0, 2.0, 1.0]]]), 2, torch.tensor([-1]))
        tensor([[0, 1]])
    """
    lead = (logits - logits.amax(2, keepdim=True)).amax(1)
    wanted = keep >= 0
    lead[wanted, keep[wanted]] = 1.0
    return lead.topk(n_classes, dim=1).indices.sort(1).values


@torch.no_grad()
def single_removals(
    images: Sequence[Explained], removable: Removable, classifier: Classifier, n_classes: int, keep: Tensor
) -> SingleRemovals:
    """Return the logits without each latent of some images, by running the model behind the hook point.

    Args:
        images: the images, each by itself.
        removable: the latents of the same images.
        classifier: classifier whose logits are computed.
        n_classes: as in `exact_removals`.
        keep: as in `exact_removals`.
    """
    pairs = track([*zip(images, removable.latents.tolist(), strict=True)], "removing latents", unit="images")
    logits = torch.stack([logits_without(one, latents, classifier) for one, latents in pairs])
    classes = likely_classes(logits, n_classes, keep)
    chosen = logits.gather(2, classes[:, None].expand(-1, logits.shape[1], -1))
    return SingleRemovals(classes, chosen[:, 0], chosen[:, 1:])


def logits_without(one: Explained, latents: Sequence[int], classifier: Classifier) -> Tensor:
    """Return the logits of an image as it is, then without each latent: `[1 + m, C]`.

    Args:
        one: the image.
        latents: numbers of `m` latents; after the last latent -1 may stand for none.
        classifier: classifier whose logits are computed.
    """
    logits = classifier.logits(one.tail(one.x, one.context)).repeat(1 + len(latents), 1)
    for edited in ablate(one, [[j] for j in latents if j >= 0]):
        logits[1 + edited.removal] = classifier.logits(edited.embeddings)
    return logits


def quantised(numbers: Tensor) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Return each row's numbers as whole multiples of a unit of the row.

    Args:
        numbers: `[n, ...]`.

    Returns:
        `[n, ...]` int16 and `[n]` float32: the error is at most half a unit, 1 / 65,534 of the row's largest.

    Example:
        >>> whole, unit = quantised(torch.tensor([[1.0, -0.5]]))
        >>> (whole * unit).round(3).tolist()
        [[1.0, -0.5]]
    """
    flat = numbers.flatten(1).double().cpu().numpy()
    unit = np.maximum(np.abs(flat).max(1, initial=0), 1e-30) / 32767
    whole = np.rint(flat / unit[:, None]).astype(np.int16)
    return whole.reshape(tuple(numbers.shape)), unit.astype(np.float32)
