"""The pairs that an audit looks at: those of its run, and edits of its images where these are asked for."""

from collections.abc import Sequence

from lightning_sae.audit.estimate import Estimate
from lightning_sae.audit.findings import PairEvidence
from lightning_sae.audit.verdict.pair_effects import PairEffect, PairView
from lightning_sae.metrics import Interval
from lightning_sae.pairs.edited_pairs import EditedPairs
from lightning_sae.pairs.edits import Edit, Patch, PrintedWord, Tint
from lightning_sae.pairs.of_run import sources_of
from lightning_sae.pairs.seen_pairs import see_pairs
from lightning_sae.runs.folder import RunFolder

COLOURS = ("red", "yellow", "green", "blue", "black", "white")  # of tints and patches


def pair_views(run: RunFolder, words: Sequence[str], edits: bool = False) -> list[PairView]:
    """Return the pairs of a run, one view per source; CLIP runs over pairs that the store lacks.

    Args:
        run: `ready`.
        words: words to print on images, for `edits`.
        edits: whether validation images are edited as well: tints, patches, the words.
    """
    sources = sources_of(run)
    if edits:
        sources = {**sources, "edits": EditedPairs(edits_of(words))}
    seen = [see_pairs(run.data, source) for source in sources.values()]
    return [
        PairView([*some.explained(run.data, run.sae)], some.images.targets.cpu(), *some[1:])
        for some in seen
        if some is not None
    ]


def edits_of(words: Sequence[str]) -> dict[str, Edit]:
    """Return tints and patches of six colours, and printed words.

    Example:
        >>> list(edits_of(["star"]))[-2:]
        ['patch white', 'word star']
    """
    tints = {f"tint {colour}": Tint(colour) for colour in COLOURS}
    patches = {f"patch {colour}": Patch(colour) for colour in COLOURS}
    return {**tints, **patches, **{f"word {word}": PrintedWord(word) for word in words}}


def pair_evidence(effect: PairEffect | None) -> PairEvidence | None:
    """Return the record of an effect."""
    if effect is None:
        return None
    return PairEvidence(
        value=str(effect.value),
        pairs=effect.pairs,
        right_way=effect.right_way,
        activation=_estimate(effect.activation),
        score=_estimate(effect.score),
        carried=_estimate(effect.carried),
        shown=effect.shown,
    )


def _estimate(band: Interval) -> Estimate:
    return Estimate(value=float(band.mean), low=float(band.low), high=float(band.high))
