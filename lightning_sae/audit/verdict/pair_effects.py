"""Culprits on pairs of images that differ in the cue alone: they rise with it, and the score with them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_sae.attribution.ablation import Removal
from lightning_sae.attribution.explained import Explained
from lightning_sae.audit.verdict.margins import Margins, margins_without
from lightning_sae.audit.verdict.verdicts import FDR
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.concepts.significance import significant
from lightning_sae.metrics import Interval, interval, max_over_tokens
from lightning_sae.pairs.pair import Contrast
from lightning_sae.pairs.responses import FactorValue, Floats, p_above_zero, signs_of, values_of


class PairView(NamedTuple):
    """Pairs as the audit sees them.

    Attributes:
        explained: their images, each once, in parts.
        subject: `[m]` int64, the subject that each image shows, -1 where nobody knows.
        before: `[p]` int64, the first image of each pair.
        after: `[p]` int64, the second one.
        contrasts: in what they differ.
    """

    explained: Sequence[Explained]
    subject: Tensor
    before: Tensor
    after: Tensor
    contrasts: Sequence[Contrast]


class Cause(NamedTuple):
    """The culprits of a finding.

    Attributes:
        c: class that they lead astray.
        subject: that this class is among the subjects, -1 for none.
        latents: the culprits.
        cue: that they stand for, as `background=brown` or `"gear"`; "" where the data do not know it.
    """

    c: int
    subject: int
    latents: tuple[int, ...]
    cue: str

    def stands_for(self, value: FactorValue) -> bool:
        """Return whether a value is the cue of the cause; any value may be where the cue is not known."""
        return self.cue in ("", str(value), f'"{value.value}"' if value.factor == "class" else "")


class PairEffect(NamedTuple):
    """The effect of a cause on the pairs in which a value comes or goes.

    All changes are differences: with the value minus without it.

    Attributes:
        value: the value.
        pairs: number of pairs; no image of them shows the class.
        right_way: share of them in which the culprits are more active with the value, ties counted half.
        activation: change of the culprits' mean activation, each in units of its own scale.
        score: change of the margin of the class.
        carried: part of the change of the margin that is gone when the culprits are removed from both images.
        p: largest p-value of the three changes, against means of 0 or less (Student's t).
        shown: whether the three are above 0, by their intervals and by a test over all that an audit tries.
    """

    value: FactorValue
    pairs: int
    right_way: float
    activation: Interval
    score: Interval
    carried: Interval
    p: float
    shown: bool = False


def effects_on_pairs(
    scores: ClassScores,
    views: Sequence[PairView],
    scale: Floats,
    causes: Sequence[Cause],
    min_pairs: int = 10,
) -> list[PairEffect | None]:
    """Measure the culprits of each finding on pairs that differ in the cue alone.

    Where the data know the cue, only the pairs of this cue count. Elsewhere all values are tried, and the
    value counts for which the culprits carry the largest part of the score.

    Args:
        scores: of the classes.
        views: pairs, of some sources.
        scale: `[d_sae]`, the unit of each latent.
        causes: the findings.
        min_pairs: values that fewer pairs speak for are not tried.

    Returns:
        The effect of each cause; `None` where its cue has no pairs, or is unknown and no value is shown.
    """
    tried = [_of_view(scores, view, scale, causes, min_pairs) for view in views]
    found = [[effect for of_view in tried for effect in of_view[i]] for i in range(len(causes))]
    sure = iter(significant(torch.tensor([e.p for effects in found for e in effects]).double(), FDR).tolist())
    found = [[_decided(effect, next(sure)) for effect in effects] for effects in found]
    return [_strongest(effects, cause) for effects, cause in zip(found, causes, strict=True)]


def _decided(effect: PairEffect, sure: bool) -> PairEffect:
    lows = [float(part.low) for part in (effect.activation, effect.score, effect.carried)]
    return effect._replace(shown=sure and min(lows) > 0)


def _strongest(effects: Sequence[PairEffect], cause: Cause) -> PairEffect | None:
    some = [effect for effect in effects if effect.shown or cause.cue]
    return max(some, key=lambda effect: (effect.shown, float(effect.carried.mean)), default=None)


def _of_view(
    scores: ClassScores, view: PairView, scale: Floats, causes: Sequence[Cause], min_pairs: int
) -> list[list[PairEffect]]:
    """Return, for each cause, its effects on the values that enough pairs speak for."""
    values = values_of(view.contrasts, min_pairs)
    signs = signs_of(view.contrasts, values).toarray()
    margins = margins_without(view.explained, scores, [Removal(one.c, one.latents) for one in causes])
    found = []
    for cause, margin in zip(causes, margins, strict=True):
        others = ~_shows(view, cause)
        differences = _differences(view, margin, _activation(view, cause, scale))
        mine: list[PairEffect] = []
        for value, sign in zip(values, signs, strict=True):
            speaks = (sign != 0) & others
            if cause.stands_for(value) and speaks.sum() >= min_pairs:
                mine.append(_effect(value, sign[speaks, None] * differences[speaks]))
        found.append(mine)
    return found


def _shows(view: PairView, cause: Cause) -> np.ndarray:
    """Return `[p]` bool: pairs of which an image shows the class."""
    shows = (view.subject == cause.subject) & (view.subject >= 0)
    return np.asarray((shows[view.before] | shows[view.after]).cpu())


def _differences(view: PairView, margins: Margins, activation: Tensor) -> Floats:
    """Return `[p, 3]`, second image less first: activation, margin, and its part that removal takes away."""
    parts = torch.stack([activation, margins.before, margins.before - margins.after], 1).double()
    return (parts[view.after] - parts[view.before]).numpy()


def _activation(view: PairView, cause: Cause, scale: Floats) -> Tensor:
    """Return `[m]`, mean over the culprits of their activation in units of their scale."""
    some, found = torch.tensor(cause.latents), []
    for explained in view.explained:
        tokens = torch.arange(len(explained.latents), device=explained.x.device) // explained.x.shape[1]
        latents = max_over_tokens(explained.latents, tokens)[0]
        found.append(latents.columns(some).to_dense().cpu())
    return (torch.cat(found).double() / torch.from_numpy(scale)[some]).mean(1)


def _effect(value: FactorValue, samples: Floats) -> PairEffect:
    """Return the effect of `[n, 3]` differences."""
    n, mean = len(samples), samples.mean(0)
    p = p_above_zero(mean, samples.std(0, ddof=1) / n**0.5, np.full(3, n))
    activation, score, carried = (interval(torch.from_numpy(samples[:, i])) for i in range(3))
    right = float((1 + np.sign(samples[:, 0])).mean() / 2)
    return PairEffect(value, n, right, activation, score, carried, float(p.max()))
