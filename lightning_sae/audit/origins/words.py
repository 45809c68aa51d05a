"""Where culprits come from, in words."""

from collections.abc import Sequence

from lightning_sae.audit.findings import Culprit
from lightning_sae.audit.origins.origin import CulpritOrigin, CulpritSource, SharedSources
from lightning_sae.concepts.naming import LatentName
from lightning_sae.report import percent

NAMED = 2  # sources in a sentence
HALF = 0.5  # of what arrives, from which a leak is said to be too large
LEVEL = 0.05  # of the test whether sources are shared


def summarise_origin(
    layer: str,
    own: str,
    culprits: Sequence[Culprit],
    traced: Sequence[CulpritOrigin],
    shared: SharedSources | None,
) -> str:
    """Return where the worst culprit comes from, how much of it is not explained, and what is shared.

    Args:
        layer: short name of the earlier hook point.
        own: short name of the culprits' own hook point.
        culprits: the worst first.
        traced: the culprits that are active on the images, with their sources.
        shared: sources that the worst culprit shares with the class's own latents.
    """
    worst = culprits[0]
    found = next((one for one in traced if one.latent == worst.latent), None)
    name = LatentName(worst.label, worst.named).in_sentence(worst.latent)
    if found is None or not found.sources:
        return f"no latent at {layer} makes {name} active on these images."
    strongest = found.sources[:NAMED]
    share = sum(source.share for source in strongest)
    leak = f"{percent(found.leak)} comes from what no latent there explains"
    if found.leak > HALF:
        leak += ", more than half: what makes it can as well be something else"
    said = (
        f"{name} at {own} comes from {' and '.join(map(_called, strongest))} at {layer}: {percent(share)} of "
        f"what arrives at it; {leak}."
    )
    return f"{said} {_said(shared)}" if shared else said


def _called(source: CulpritSource) -> str:
    return LatentName(source.label, source.named).in_sentence(source.latent)


def _said(shared: SharedSources) -> str:
    """Return whether sources are shared with the class's own latents."""
    much = shared.p_value <= LEVEL
    return (
        f"It {'shares' if much else 'does not share'} sources with the latents of the class itself"
        f"{'' if much else ' more than random latents do'} (overlap {shared.overlap:.2f}; random latents "
        f"{shared.random:.2f}, 95 % below {shared.high:.2f})."
    )
