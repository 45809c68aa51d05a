"""How the latents respond when one thing in an image changes, and nothing else."""

from collections.abc import Mapping
from copy import copy
from typing import Self

import pandas as pd
import torch
from lightning.pytorch import LightningModule, Trainer
from scipy.sparse import vstack

from callbacks.base import Pass, PassCallback
from lightning_sae.baselines.terms import Terms
from lightning_sae.concepts.concept_labels import ConceptLabels
from lightning_sae.concepts.naming import LatentName, name_columns
from lightning_sae.data import ActivationDataModule
from lightning_sae.pairs.pair import PairSource
from lightning_sae.pairs.picture import draw_responses
from lightning_sae.pairs.responses import Moved, activation_scale
from lightning_sae.pairs.seen_pairs import SeenPairs, see_pairs
from lightning_sae.pairs.strongest import Strongest, strongest
from lightning_sae.report.figures import save_figure
from lightning_sae.tracking.publish import publish_picture, publish_table, run_dir


class Pairs(PassCallback):
    """Shows the autoencoder pairs of images that differ in one thing: one factor has another value.

    CLIP runs once over the images, and the store keeps them. Where no source has pairs for the data, nothing
    is done. Every second pair chooses the latents, the others measure them.

    Logged, of the latent that responds most to each value, means over the values:
        pairs/response: mean change of its activation when the value comes, in units of its own scale.
        pairs/right_way: share of the pairs in which it rises, in [0, 1]; chance is 1/2.
        pairs/selectivity: `r / (r + s)` of its response `r` and its largest mean movement `s` with any other
            factor, in [0, 1].
        pairs/specificity: 1 where it moves with a single factor, 0 where it moves with all alike.

    Writes `pairs.csv`, a row per value and latent, and `pictures/pairs.png`, values against latents.
    `latents.csv` gets the columns `factor`, `response` and `side_effect`.

    Args:
        sources: name -> where pairs come from, a `PairSource`; `None` in the place of one leaves it out.
        min_pairs: a value with fewer pairs is left out.
        rows: latents of a value in `pairs.csv`.
        draw_every: draw after every so many validation passes; the last pass of a fit is always drawn.
    """

    uses = (ConceptLabels,)
    logs = ("pairs/response", "pairs/right_way", "pairs/selectivity", "pairs/specificity")
    needs_latents = True

    def __init__(
        self,
        sources: Mapping[str, PairSource | None],
        min_pairs: int = 10,
        rows: int = 5,
        draw_every: int = 4,
    ) -> None:
        if min(min_pairs, rows, draw_every) < 1:
            raise ValueError(
                f"min_pairs, rows and draw_every must be at least 1, got {min_pairs}, {rows}, {draw_every}"
            )
        self.sources = {name: source for name, source in sources.items() if source is not None}
        self.min_pairs, self.rows, self.draw_every = min_pairs, rows, draw_every
        self.found: Strongest | None = None
        self._seen: dict[str, SeenPairs | None] = {}  # by source; one for all its copies

    def check(self, data: ActivationDataModule) -> None:
        """Refuse pairs that are not there before hours of training."""
        for source in self.sources.values():
            source.pairs(data.images("val"))

    def baseline(self) -> Self:
        """Return a copy; CLIP does not run again over its pairs."""
        return copy(self)

    def terms(self) -> Mapping[str, Terms]:
        """Return the terms of the means, one per value; a mean without any finite term is left out."""
        if self.found is None:
            return {}
        columns = {name: torch.from_numpy(column) for name, column in self.found.of_values().items()}
        return {
            f"pairs/{name}": Terms(column, paired=True)
            for name, column in columns.items()
            if column.isfinite().any()
        }

    def finish(self, pass_: Pass) -> None:
        """Encode the images of all pairs, measure the responses and log."""
        seen = self._see(pass_.data)
        if not seen:
            return
        changes = vstack([some.changes(pass_.sae) for some in seen], format="csr")
        moved = Moved(changes, [contrast for some in seen for contrast in some.contrasts])
        self.found = strongest(moved, activation_scale(pass_.latents[0]), self.rows, self.min_pairs)
        self.log_terms(pass_)

    def _see(self, data: ActivationDataModule) -> list[SeenPairs]:
        """Return the pairs of all sources that have some, as CLIP sees them."""
        for name, source in self.sources.items():
            if name not in self._seen:
                self._seen[name] = see_pairs(data, source)
        return [some for some in self._seen.values() if some is not None]

    def latent_columns(self) -> dict[str, list[str] | list[float]]:
        """Return columns for `latents.csv`: the value that a latent responds to, and how selectively."""
        return {} if self.found is None else self.found.latent_columns()

    def report(self, pass_: Pass) -> None:
        """Write the table and, where it is its turn, the picture."""
        if self.found is not None and pass_.trainer.is_global_zero:
            publish_table(pass_.trainer, "pairs", _named(self.found.table(), _names(pass_)))
        if self.is_turn(pass_, self.draw_every):
            self._draw(pass_)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the last pass if it was not known to be the last at its time."""
        if self.current is not None and not self.is_turn(self.current, self.draw_every):
            self._draw(self.current)

    def _draw(self, pass_: Pass) -> None:
        if self.found is not None and pass_.trainer.is_global_zero:
            path = run_dir(pass_.trainer) / "pictures" / "pairs.png"
            save_figure(draw_responses(self.found, _names(pass_)), path, dpi=130)
            publish_picture(pass_.trainer, "pictures/pairs", path)


def _names(pass_: Pass) -> list[LatentName]:
    """Return the names of all latents; none where nobody gives them."""
    concepts = pass_.get(ConceptLabels)
    return concepts.names if concepts else []


def _named(table: pd.DataFrame, names: list[LatentName]) -> pd.DataFrame:
    return table.assign(**name_columns([names[j] for j in table["latent"]])) if names else table
