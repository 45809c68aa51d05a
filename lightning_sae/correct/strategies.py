"""The ways to correct a class: shift its threshold, edit its vector, clamp the culprits, ablate them."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from lightning_sae.classifiers.scores import Probe
from lightning_sae.correct.choice import Candidate
from lightning_sae.correct.clamp import Clamp
from lightning_sae.correct.corrected_classifier import WAYS, Way
from lightning_sae.correct.embeddings import Seen
from lightning_sae.correct.erasure import erasable, erasure
from lightning_sae.metrics.group_errors import others_than

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)  # of an edit; 1 ends the covariance
FRACTIONS = (0.25, 0.5, 0.75, 1.0)  # of the culprits' mean over the class's own images


class Corrected(NamedTuple):
    """A way with its amount, before the shift.

    Attributes:
        classes: class vectors.
        clamp: of latents; `None` for none.
    """

    classes: Probe
    clamp: Clamp | None


Make = Callable[[float], Corrected]
"""`amount -> Corrected`."""


class WayOut(NamedTuple):
    """One way.

    Attributes:
        amounts: that are tried.
        make: it with an amount.
    """

    amounts: tuple[float, ...]
    make: Make


def ways_open(seen: Seen, target: int) -> tuple[Way, ...]:
    """Return the ways that can be tried: no edit, where no culprit is active on images of other classes.

    Args:
        seen: validation images.
        target: the class that is led astray.
    """
    if erasable(seen.activations[others_than(seen.targets, target)]):
        return WAYS
    return tuple(way for way in WAYS if way != "edit")


def way_out(
    way: Way, classes: Probe, target: int, seen: Seen, latents: tuple[int, ...], spared: Sequence[int] = ()
) -> WayOut:
    """How a way corrects a class.

    Args:
        way: which.
        classes: of the classifier as it is.
        target: the class that is led astray.
        seen: validation images.
        latents: the culprits.
        spared: classes of which the images keep their mean score in an edit, beside the class itself.

    Raises:
        ValueError: an edit, and the culprits are not active on images of other classes.
    """
    if way == "shift":
        return WayOut((0.0,), lambda _: Corrected(classes, None))
    if way == "edit":
        return WayOut(STRENGTHS, _edit(classes, target, seen, spared))
    own = seen.activations[seen.targets == target].double().mean(0)
    if way == "clamp":
        return WayOut(FRACTIONS, lambda part: Corrected(classes, Clamp(latents, (part * own).tolist())))
    return WayOut((1.0,), lambda _: Corrected(classes, Clamp(latents, [0.0] * len(latents))))


def _edit(classes: Probe, target: int, seen: Seen, spared: Sequence[int]) -> Make:
    others = others_than(seen.targets, target)
    own, *kept = (seen.embeddings[seen.targets == c] for c in (target, *spared))
    embeddings, activations = seen.embeddings[others], seen.activations[others]
    found = erasure(embeddings, activations, own, classes.weight[target], spared=kept)

    def make(strength: float) -> Corrected:
        weight, bias = classes.weight.clone(), classes.bias.clone()
        weight[target] -= strength * found.direction
        bias[target] += strength * found.centre
        return Corrected(Probe(weight, bias), None)

    return make


def candidates(out: WayOut, seen: Seen, embed: Callable[[Clamp], Tensor]) -> Iterator[Candidate]:
    """The logits of the validation images, for every amount of a way.

    Args:
        out: the way.
        seen: the images.
        embed: their embeddings with latents held.
    """
    for amount in out.amounts:
        classes, clamp = out.make(amount)
        embeddings = seen.embeddings if clamp is None else embed(clamp)
        yield Candidate(amount, embeddings @ classes.weight.T + classes.bias)


def shifted(classes: Probe, target: int, shift: float) -> Probe:
    """The same with a shift of one class's logit."""
    bias = classes.bias.clone()
    bias[target] += shift
    return Probe(classes.weight, bias)
