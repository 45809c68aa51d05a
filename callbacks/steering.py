"""How well each latent steers what it responds to, and what that damages."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from callbacks.base import Pass, PassCallback
from lightning_sae.attribution.explained import explain_some
from lightning_sae.data import ActivationDataModule
from lightning_sae.data.store.shards import read_tensor
from lightning_sae.pairs.pair import PairSource
from lightning_sae.pairs.responses import activation_scale
from lightning_sae.pairs.seen_pairs import SeenPairs, see_pairs
from lightning_sae.pairs.strongest import strongest
from lightning_sae.report.figures import save_figure
from lightning_sae.steering.picture import draw_study
from lightning_sae.steering.readouts import Readout, known_readouts
from lightning_sae.steering.study import METHODS, STRENGTHS, Stage, Study, study
from lightning_sae.steering.texts import text_of, values_by_factor
from lightning_sae.tracking.publish import publish_picture, publish_table, run_dir
from lightning_sae.trust.numbers import check_counts


class Steering(PassCallback):
    """Steers each value of each factor on pairs of images that differ in it and in nothing else.

    A value is brought to the images without it and taken from those with it, by the latent that responds to
    it most, and, the same way, by the direction of a linear probe, of its text, of the difference of means,
    and by one drawn at random. One half of the pairs chooses the latents and directions, the other measures.

    Logged, means over the values; `NAME` is `probe`, `text`, `means` or `random`:
        steering/auc, steering/auc_NAME: area under success against damage, in [0, 1] (`area_under`).
        steering/success, steering/success_NAME: share of the images that are as asked at strength 1.
        steering/damage, steering/damage_NAME: share of all else that is read off them which is lost there.

    Writes `steering.csv`, a row per value, method and strength, and `pictures/steering.png`. `latents.csv`
    gets `steering_auc` of each latent for the value that it responds to most, with its 95 % interval
    `steering_low`, `steering_high`.

    Args:
        sources: name -> where pairs come from, a `PairSource`; `None` in the place of one leaves it out.
        templates: factor -> templates of its texts, `{}` is the value; other factors have the value alone.
        strengths: ascending from 0; 1 is as much as the value itself does.
        most_damage: damage up to which the area goes, in (0, 1].
        min_pairs: a value with fewer pairs is left out.
        most_latents: largest number of latents that are steered: those that respond most.
        every: measure after every so many validation passes; 0: only after the last step of a fit.
    """

    logs = tuple(f"steering/{name}*" for name in ("auc", "success", "damage"))
    needs_latents = True

    def __init__(
        self,
        sources: Mapping[str, PairSource | None],
        templates: Mapping[str, Sequence[str]] | None = None,
        strengths: Sequence[float] = STRENGTHS,
        most_damage: float = 0.1,
        min_pairs: int = 10,
        most_latents: int = 200,
        every: int = 0,
    ) -> None:
        check_counts(1, min_pairs=min_pairs, most_latents=most_latents)
        check_counts(0, every=every)
        rising = len(strengths) > 1 and all(np.diff(strengths) > 0) and strengths[0] == 0
        if not rising or not 0 < most_damage <= 1:
            raise ValueError(
                "strengths must rise from 0 and most_damage lie in (0, 1], got "
                f"{list(strengths)} and {most_damage}"
            )
        self.sources = {name: source for name, source in sources.items() if source is not None}
        self.templates, self.strengths, self.most_damage = dict(templates or {}), strengths, most_damage
        self.min_pairs, self.most_latents, self.every = min_pairs, most_latents, every
        self.found: Study | None = None
        self._seen: SeenPairs | None = None
        self._readouts: dict[str, Readout] = {}
        self._d_sae = 0

    def check(self, data: ActivationDataModule) -> None:
        """Refuse pairs that are not there before hours of training."""
        for source in self.sources.values():
            source.pairs(data.images("val"))

    def finish(self, pass_: Pass) -> None:
        """Steer and log; nothing where no source has pairs for the data."""
        self._see(pass_.data)
        if self._seen is None:
            return
        self._d_sae = pass_.sae.d_sae
        stage = Stage(
            self._seen,
            partial(explain_some, pass_.data, pass_.sae, self._seen.images),
            pass_.sae,
            activation_scale(pass_.latents[0]),
            self._readouts,
            partial(text_of, pass_.data, values_by_factor(self._seen.contrasts), self.templates),
            self.strengths,
            self.most_damage,
        )
        chosen = strongest(stage.moved(), stage.scale, min_pairs=self.min_pairs)
        self.found = None if chosen is None else study(stage, chosen, self.most_latents)
        for method in METHODS if self.found is not None else ():
            ending = "" if method == "latent" else f"_{method}"
            for name, mean in self.found.means(method).items():  # type: ignore[union-attr]
                pass_.module.log(f"steering/{name}{ending}", mean)

    def _see(self, data: ActivationDataModule) -> None:
        """Run CLIP over the pairs and fit what reads them, once."""
        if self._seen is not None:
            return
        seen = [some for source in self.sources.values() if (some := see_pairs(data, source)) is not None]
        if seen:
            self._seen = SeenPairs.stack(seen)
            embeddings = read_tensor(data.capture("val") / "images", "embeddings").float()
            texts, factors = data.class_embeddings, data.images("val").factors
            self._readouts = known_readouts(data.class_names, texts, embeddings, factors)

    def latent_columns(self) -> dict[str, list[float]]:
        """Return columns for `latents.csv`: how well each latent steers the value it responds to."""
        return {} if self.found is None else self.found.latent_columns(self._d_sae)

    def report(self, pass_: Pass) -> None:
        """Write the table and the picture."""
        if self.found is None or not self.found.methods or not pass_.trainer.is_global_zero:
            return
        publish_table(pass_.trainer, "steering", self.found.table())
        path = run_dir(pass_.trainer) / "pictures" / "steering.png"
        save_figure(draw_study(self.found, self.most_damage), path, dpi=130)
        publish_picture(pass_.trainer, "pictures/steering", path)
