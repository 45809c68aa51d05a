"""Classes of which the data cannot tell whether the class itself or a cue drives the score."""

import torch
from torch import Tensor

from lightning_sae.audit.evidence.cues import Limits, positive_shares
from lightning_sae.audit.examination import Examined, Options, Studied
from lightning_sae.audit.findings import LIMITS
from lightning_sae.audit.verdict.sides import as_on_the_class
from lightning_sae.concepts.meaning import TELLS

HALF = 0.5  # of the positive attribution, from which latents are what drives a class


def untold(found: Examined, studied: Studied, attribution: Tensor, options: Options) -> str:
    """Return why nothing can be said of a class without findings; "" where something can.

    Args:
        found: all that was found.
        studied: the class.
        attribution: `[d_sae]`, mean attribution over the images predicted as it.
        options: how the audit is done.
    """
    suspects = suspects_left(found, studied, attribution, options.limits)
    if suspects and not any(one.class_known for one in studied.tried):
        best = max(one.class_auroc for one in studied.tried)
        return (
            f"it is hardly told from the others here, whatever is removed (AUROC {best:.2f}, "
            f"{TELLS:g} is needed), so that its errors show no wrong reason: collect images that the "
            "classifier knows it on"
        )
    if suspects:
        numbers = ", ".join(map(str, suspects[:5]))
        who = f"latent{'s' * (len(suspects) > 1)} {numbers}"
        return (
            f"{who} may drive it for a wrong reason, but whether that does harm these images do not show: "
            "collect images of it without what they stand for, and of others with it"
        )
    seen = found.seen
    drivers = main_drivers(attribution)
    if not len(drivers):
        return ""
    activity = seen.latents.columns(drivers.to(seen.latents.indices.device)).to_dense().sum(1).cpu()
    own = found.subjects.show(studied.c).cpu()
    if as_on_the_class(activity, own, ~own) >= options.min_group:
        return ""
    return (
        "what drives it is on its own images alone, so that a cue on all of them would look the same: "
        "collect images of it in other surroundings, and other things in its"
    )


def suspects_left(found: Examined, studied: Studied, attribution: Tensor, limits: Limits) -> tuple[int, ...]:
    """Return the latents that may lead a class astray, though removing them does not tell.

    Only suspects whose removal tells nothing count. Their latents are returned in three cases: the latents
    that drive the class much and do not mean it; the helpful latents, if these make many false positives; and
    the latents that are named after no subject, if the suspect as a whole makes many. There are many if the
    lower end of their interval reaches the harm of a finding of medium severity.

    Args:
        found: all that was found.
        studied: the class.
        attribution: `[d_sae]`, mean attribution over the images predicted as it.
        limits: a latent drives the class much from its `unexpected_share` on.
    """
    judged, least = found.judged, LIMITS["medium"]
    much = judged.meaning.foreign[:, studied.c] & (positive_shares(attribution) >= limits.unexpected_share)
    left: list[int] = []
    for one in (one for one in studied.tried if one.verdict == "cannot be told"):
        left += [j for j in one.suspect.latents if much[j]]
        if one.taken_by_helpful.low >= least:
            left += one.helpful.latents
        if one.taken.low >= least:
            names = {j: judged.labels[j] for j in one.suspect.latents if judged.named[j]}
            left += [j for j, name in names.items() if name not in found.subjects.names]
    return tuple(dict.fromkeys(left))


def main_drivers(attribution: Tensor) -> Tensor:
    """Return the fewest latents that have half of the positive attribution, the largest first.

    Example:
        >>> main_drivers(torch.tensor([1.0, 4.0, -9.0, 3.5]))
        tensor([1, 3])
    """
    positive = torch.relu(attribution)
    order = positive.argsort(descending=True, stable=True)
    before = positive[order].cumsum(0) - positive[order]
    return order[(before <= HALF * positive.sum()) & (positive[order] > 0)]
