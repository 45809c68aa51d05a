"""The ways to correct a class: shift its threshold, change its vector, clamp the culprits, ablate them.

An edit of the vector takes the culprits' direction out of it, or erases that of the groups; a refit fits it
to groups of equal weight.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lightning_sae.classifiers.linear import LinearClassifier
from lightning_sae.correct.choice import Candidate
from lightning_sae.correct.clamp import Held
from lightning_sae.correct.corrected_classifier import WAYS, Way
from lightning_sae.correct.covariance import RIDGE, covariance_within
from lightning_sae.correct.embeddings import CulpritView
from lightning_sae.correct.refit import FitImages, can_refit, cells_of, held_out, refit
from lightning_sae.correct.sites import Site
from lightning_sae.metrics.group_errors import Groups, others_than

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)  # of an edit; 1 ends the covariance
EDIT_WAYS: tuple[Way, ...] = ("edit", "erase")  # that take something out of the vector of the class
INVERSE_PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)  # of a refit
FRACTIONS = (0.25, 0.5, 0.75, 1.0)  # of the culprits' mean over the class's own images


class Corrected(NamedTuple):
    """A way with its amount, before the shift.

    Attributes:
        classes: class vectors.
        held: latents; `None` for none.
    """

    classes: LinearClassifier
    held: Held | None


Make = Callable[[float], Corrected]
"""`amount -> Corrected`."""


class WayOut(NamedTuple):
    """One way to correct a class.

    Attributes:
        amounts: amounts that are tried.
        make: function that gives the corrected classes for an amount.
        held_out: amount -> `[n]`, the change of the class's logit on each validation image by a fit to
            others of them; `None` for a way that is not fitted.
    """

    amounts: tuple[float, ...]
    make: Make
    held_out: Callable[[float], Tensor] | None = None


def ways_open(
    classes: LinearClassifier, seen: CulpritView, target: int, groups: Groups, look_alike: bool = False
) -> tuple[Way, ...]:
    """Return the ways that can be tried.

    An edit needs culprits whose activity differs between images of other classes, an erasure needs more than
    one group among these images, and a refit needs groups that occur with and without the class. Groups that
    are made by printing a word differ in the look of the label as much as in the word, so they are erased
    only on request.

    Args:
        classes: of the classifier as it is.
        seen: validation images.
        target: the class that is led astray.
        groups: of these images.
        look_alike: whether what leads astray is another thing, which images of the class do not show.
    """
    others = others_than(seen.targets, target)
    closed = {way for way in EDIT_WAYS if not erasable(_followed(way, seen, groups)[others])}
    if groups.added:
        closed.add("erase")
    if not can_refit(_fit_images(classes, target, seen, groups, look_alike)):
        closed.add("refit")
    return tuple(way for way in WAYS if way not in closed)


def way_out(
    way: Way,
    classes: LinearClassifier,
    target: int,
    seen: CulpritView,
    site: Site,
    groups: Groups,
    spared: Sequence[int] = (),
    look_alike: bool = False,
) -> WayOut:
    """Return how a way corrects a class.

    Args:
        way: which.
        classes: of the classifier as it is.
        target: the class that is led astray.
        seen: validation images.
        site: where latents are held, and which.
        groups: of the images.
        spared: classes of which the images keep their mean score in an edit, beside the class itself.
        look_alike: whether what leads astray is another thing, which images of the class do not show.

    Raises:
        ValueError: an edit, and the culprits are not active on images of other classes; nothing to erase, as
            these are all of one group; or a refit, and class and groups do not come apart.
    """
    if way == "shift":
        return WayOut((0.0,), lambda _: Corrected(classes, None))
    if way == "refit":
        return _refit(classes, target, _fit_images(classes, target, seen, groups, look_alike))
    if way in EDIT_WAYS:
        return WayOut(STRENGTHS, _edit(classes, target, seen, _followed(way, seen, groups), spared))
    own = seen.activations[seen.targets == target].double().mean(0)
    if way == "clamp":
        return WayOut(FRACTIONS, lambda part: Corrected(classes, site.hold((part * own).tolist())))
    return WayOut((1.0,), lambda _: Corrected(classes, site.hold([0.0] * len(site.latents))))


def _followed(way: Way, seen: CulpritView, groups: Groups) -> Tensor:
    """Return what the score of a class should no longer follow, the culprits or the groups, `[n, m]`."""
    return seen.activations if way == "edit" else one_hot(groups.of, len(groups.values)).float()


def _edit(
    classes: LinearClassifier, target: int, seen: CulpritView, followed: Tensor, spared: Sequence[int]
) -> Make:
    others = others_than(seen.targets, target)
    own, *kept = (seen.embeddings[seen.targets == c] for c in (target, *spared))
    found = erasure(seen.embeddings[others], followed[others], own, classes.weight[target], spared=kept)

    def make(strength: float) -> Corrected:
        changed = _changed(classes, target, -strength * found.direction, strength * found.centre)
        return Corrected(changed, None)

    return make


def _fit_images(
    classes: LinearClassifier, target: int, seen: CulpritView, groups: Groups, look_alike: bool
) -> FitImages:
    logits = classes.logits(seen.embeddings)
    own = logits[:, target].clone()
    logits[:, target] = -torch.inf
    cells = cells_of(seen.targets, target, groups, look_alike)
    return FitImages(seen.embeddings, own - logits.logsumexp(1), cells, seen.ids)


def _refit(classes: LinearClassifier, target: int, images: FitImages) -> WayOut:
    def make(inverse_penalty: float) -> Corrected:
        found = refit(images, inverse_penalty)
        return Corrected(_changed(classes, target, found.direction, found.bias), None)

    judged = cache(lambda: held_out(images, INVERSE_PENALTIES))
    return WayOut(INVERSE_PENALTIES, make, lambda amount: judged()[INVERSE_PENALTIES.index(amount)])


def _changed(classes: LinearClassifier, target: int, direction: Tensor, bias: float) -> LinearClassifier:
    """Return the same with something added to the vector and the bias of one class."""
    weight, biases = classes.weight.clone(), classes.bias.clone()
    weight[target] += direction
    biases[target] += bias
    return LinearClassifier(weight, biases)


class Validation(NamedTuple):
    """The validation images, on which a way is chosen.

    Attributes:
        seen: the images.
        as_it_is: `[n, C]`, their logits.
        target: the class that is corrected.
        embed: their embeddings with latents held.
    """

    seen: CulpritView
    as_it_is: Tensor
    target: int
    embed: Callable[[Held], Tensor]

    def candidates(self, out: WayOut) -> Iterator[Candidate]:
        """Yield a way with each of its amounts."""
        return (Candidate(amount, self.logits(out, amount)) for amount in out.amounts)

    def logits(self, out: WayOut, amount: float) -> Tensor:
        """Return `[n, C]` logits by a way with an amount; a fit is judged on images that it did not see."""
        if out.held_out is not None:
            logits = self.as_it_is.clone()
            logits[:, self.target] += out.held_out(amount)
            return logits
        classes, held = out.make(amount)
        return classes.logits(self.seen.embeddings if held is None else self.embed(held))


def shifted(classes: LinearClassifier, target: int, shift: float) -> LinearClassifier:
    """Return the same with a shift of one class's logit."""
    bias = classes.bias.clone()
    bias[target] += shift
    return LinearClassifier(classes.weight, bias)


class Erasure(NamedTuple):
    """The part that is taken out of the vector of a class.

    Attributes:
        direction: `[d_embed]`; the edited vector is `w - strength * direction`.
        centre: mean of `<direction, e>` over the images of other classes: what the bias gets back, so that
            their mean score stays.
    """

    direction: Tensor
    centre: float


def erasure(
    embeddings: Tensor,
    activations: Tensor,
    own: Tensor,
    weight: Tensor,
    ridge: float = RIDGE,
    spared: Sequence[Tensor] = (),
) -> Erasure:
    """Return what makes the score of a class follow the culprits.

    Its removal is the smallest change that ends this and spares the class. Over images of *other* classes let
    the columns `s_j` of `S` be the covariances of the embeddings `e` with the activation of culprit `j`: the
    score `<w, e>` and the culprits have the covariance `S^T w`. Let `m` be the mean embedding of the class's
    own images less that of the others, and `C` the covariance within the two. The edited vector `w'` has to
    meet `S^T w' = 0`, and `<w' - w, m> = 0`, which keeps the mean score of the class's own images. Among such
    vectors the one with the least `Var(<w' - w, e>)` changes the scores least. It is, with `M = [S, m]`,

        `w' = w - C^-1 M (M^T C^-1 M)^-1 [S^T w; 0]`.

    Without `m` it is LEACE for a single score (Belrose et al. 2023, arXiv 2306.03819). But where a class is
    taken for another one that looks alike to CLIP, what tells the culprits is part of the class. Where an
    edit would lead images of a third class to this one, `M` gets a further column, the mean embedding of that
    class less that of all others, and another 0 below `S^T w`; so the mean score of that class stays as well.
    `C` gets `ridge` times its mean variance on the diagonal; all conditions hold for any ridge.

    Args:
        embeddings: `[n, d_embed]` unit, images of other classes.
        activations: `[n, m]` of the culprits on them, the largest over an image's tokens; or, for groups,
            1 for the images of each and 0 for others.
        own: `[k, d_embed]` unit, images of the class; with none there is nothing to spare.
        weight: `[d_embed]`, of the class: its logit is the product with an embedding, plus a bias.
        ridge: >= 0.
        spared: `[k_i, d_embed]` unit, images of further classes that keep their mean score.

    Raises:
        ValueError: no culprit is active on the others, or all of them always alike.

    Example:
        >>> e = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        >>> a = torch.tensor([[2.0], [0.0], [0.0], [0.0]])
        >>> erasure(e, a, e[:0], torch.tensor([3.0, 4.0]), ridge=0.0).direction
        tensor([3., 0.])
        >>> erasure(e, a, torch.tensor([[1.0, 1.0]]), torch.tensor([3.0, 4.0]), ridge=0.0).direction
        tensor([ 3., -3.])
    """
    e, a, mine, w = (t.double() for t in (embeddings, activations, own, weight))
    mean = e.mean(0) if len(e) else e.new_zeros(e.shape[1])
    S = (e - mean).T @ (a - a.mean(0)) / max(len(e), 1)
    if not erasable(a):
        raise ValueError(
            "the culprits, or the groups, are alike on all images of other classes: there is no direction to "
            "take out. Take --way ablate, or another finding"
        )
    kept = [images.double().mean(0) - mean for images in (own, *spared) if len(images)]
    M, taken = torch.column_stack([S, *kept]), torch.cat([S.T @ w, w.new_zeros(len(kept))])
    lengths = M.norm(dim=0).clamp(min=torch.finfo(M.dtype).tiny)
    M, taken = M / lengths, taken / lengths  # else the pseudo-inverse could drop weak culprits
    detectors = torch.linalg.lstsq(covariance_within(e, mine, ridge), M, driver="gelsd").solution
    direction = detectors @ torch.linalg.pinv(M.T @ detectors, hermitian=True) @ taken
    return Erasure(direction.to(weight), float(mean @ direction))


def erasable(followed: Tensor) -> bool:
    """Return whether anything differs between images, such as the activity of a culprit or the group.

    Only then can a score follow it.

    Args:
        followed: `[n, m]`, activations of culprits, or membership in groups.

    Example:
        >>> erasable(torch.tensor([[0.0], [2.0]])), erasable(torch.tensor([[2.0], [2.0]]))
        (True, False)
    """
    return bool((followed != followed[:1]).any())
