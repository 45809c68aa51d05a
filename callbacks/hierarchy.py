"""Which latents of a Matryoshka are parents and children of each other."""

import pandas as pd

from callbacks.base import Pass, PassCallback
from lightning_sae.concepts.concept_labels import ConceptLabels
from lightning_sae.concepts.hierarchy import link, prefix_levels, with_labels
from lightning_sae.tracking.publish import publish_table


class Hierarchy(PassCallback):
    """Links the latents of each prefix of a Matryoshka with their parents in the shorter prefixes.

    An autoencoder without prefixes has no such levels: then nothing is done. Several runs of different widths
    are linked by `lightning-sae compare`.

    Logged, as shares of the latents behind the first prefix that fire on at least ten images:
        hierarchy/linked: latents that have a parent.
        hierarchy/by_firing: latents that fire almost only where their parent does.
        hierarchy/by_direction: latents whose decoder row points in the direction of their parent's.

    Writes `hierarchy.csv`, a row per link.

    Args:
        fdr: false discovery rate of the links of a kind.
        every: link after every so many validation passes, and at the last step of a fit.
        seed: of the random directions of the null.
    """

    uses = (ConceptLabels,)
    logs = ("hierarchy/linked", "hierarchy/by_firing", "hierarchy/by_direction")
    needs_latents = True

    def __init__(self, fdr: float = 0.05, every: int = 4, seed: int = 0) -> None:
        if not 0 < fdr < 1:
            raise ValueError(f"fdr, a share of the links, must be in (0, 1), got {fdr}")
        if every < 0:
            raise ValueError(f"every must be at least 0, got {every}")
        self.fdr, self.every, self.seed = fdr, every, seed
        self.table: pd.DataFrame | None = None

    def finish(self, pass_: Pass) -> None:
        """Link the latents and log."""
        self.table = None
        if len(pass_.sae.ends) < 2:
            return
        levels = prefix_levels(pass_.latents[0], pass_.decoder.double().cpu().numpy(), pass_.sae.ends)
        table = link(levels, self.fdr, self.seed)
        if children := sum(len(level.latents) for level in levels[1:]):
            kinds = {"linked": ["firing", "direction", "both"], "by_firing": ["firing", "both"]}
            for name, words in {**kinds, "by_direction": ["direction", "both"]}.items():
                pass_.module.log(f"hierarchy/{name}", float(table["by"].isin(words).sum() / children))
        if concepts := pass_.get(ConceptLabels):
            table = with_labels(table, [concepts.names] * len(levels))
        self.table = table

    def report(self, pass_: Pass) -> None:
        """Write the table."""
        if self.table is not None:
            publish_table(pass_.trainer, "hierarchy", self.table)
