"""How well the latents tell what the data know: best detectors, sparse probes, splitting and absorption."""

from collections.abc import Mapping, Sequence
from copy import copy
from types import MappingProxyType
from typing import Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from callbacks.base import Pass, PassCallback
from lightning_sae.baselines.terms import Terms
from lightning_sae.concepts.absorption import absorption
from lightning_sae.concepts.concept_labels import ConceptLabels
from lightning_sae.concepts.detectors import best_detectors, purity
from lightning_sae.concepts.families import family_factors
from lightning_sae.concepts.naming import name_columns
from lightning_sae.concepts.sparse_probes import sparse_probes
from lightning_sae.data import ActivationDataModule
from lightning_sae.data.images.image_set import known_factors
from lightning_sae.metrics import ActiveRanks, ImageActivations
from lightning_sae.tracking.publish import publish_table
from lightning_sae.types import SparseLatents, ValidationOutput

COLUMNS = {"share": "absorption", "full": "fully_absorbed"}  # of `truth.csv`, for those of `Absorption`


class Truth(PassCallback):
    """Compares the latents with every known factor of the images, the class included.

    Logged, in [0, 1], means over the values of FACTOR that enough images have:
        truth/auroc_FACTOR: of the latent that detects the value best.
        truth/purity_FACTOR: share of that latent's top images that have the value.
        truth/detected_FACTOR: share of the values with an AUROC of at least `detected`.
        truth/probe_K_FACTOR: balanced accuracy of the best K latents on the half of the images that they were
            not chosen and fitted on.
        truth/splitting_FACTOR: number of latents, of `ks`, that it takes to detect a value.
        truth/absorption_FACTOR: share of a value's projection that others carry in place of its main latent.

    Writes `truth.csv`, a row per value.

    Args:
        detected: AUROC from which a latent counts as a detector.
        min_images: a value that fewer images have, or that fewer images lack, is left out.
        ks: numbers of latents of a probe; none for no probes.
        probe_every: probe after every so many validation passes, and at the last step of a fit.
        seed: of the halves.
        families: factor -> family -> values of the factor; the families are the values of a further factor,
            FACTOR_family.
    """

    uses = (ConceptLabels,)
    logs = (
        *("truth/auroc_*", "truth/purity_*", "truth/detected_*"),
        *("truth/probe_*", "truth/splitting_*", "truth/absorption_*"),
    )
    needs_latents = True

    def __init__(
        self,
        detected: float = 0.95,
        min_images: int = 10,
        ks: Sequence[int] = (1, 2, 3, 5, 8, 16),
        probe_every: int = 4,
        seed: int = 0,
        families: Mapping[str, Mapping[str, Sequence[str]]] = MappingProxyType({}),
    ) -> None:
        if not 0 <= detected <= 1:
            raise ValueError(f"detected, an AUROC, must be in 0..1, got {detected}")
        if min((min_images, probe_every, *ks)) < 1:
            raise ValueError(
                "min_images, probe_every and each of ks must be at least 1, "
                f"got {min_images}, {probe_every} and {list(ks)}"
            )
        self.detected, self.min_images, self.ks = detected, min_images, list(ks)
        self.probe_every, self.seed = probe_every, seed
        self.families = families
        self.table: pd.DataFrame | None = None
        self._activations: ImageActivations | None = None

    def check(self, data: ActivationDataModule) -> None:
        """Refuse families that the data do not have before hours of training."""
        family_factors(known_factors(data.images("val")), self.families)

    def baseline(self) -> Self:
        """Return a copy without probes, which cost more than all else."""
        fresh = copy(self)
        fresh.ks = []
        return fresh

    def terms(self) -> Mapping[str, Terms]:
        """Return the terms of the means of each factor, one per value."""
        if self.table is None:
            return {}
        return {
            f"truth/{name}_{factor!s}": Terms(torch.tensor(column.to_numpy(float)), paired=True)
            for factor, rows in self.table.groupby("factor", sort=False)
            for name, column in {
                "auroc": rows["auroc"],
                "purity": rows["purity"],
                "detected": rows["auroc"] >= self.detected,
            }.items()
        }

    def begin(self, pass_: Pass) -> None:
        """Keep the activations of a pass that is probed."""
        probing = bool(self.ks) and self.is_turn(pass_, self.probe_every)
        self._activations = ImageActivations().to(pass_.module.device) if probing else None

    def add_batch(self, pass_: Pass, outputs: ValidationOutput) -> None:
        """Add the activations of a batch."""
        if self._activations is not None:
            self._activations.update(outputs.x, outputs.image_ids)

    def finish(self, pass_: Pass) -> None:
        """Find the detectors of every factor, probe when it is time, and log."""
        latents, ids = pass_.latents
        top_ids, ranks, concepts = pass_.top_ids, ActiveRanks.of(latents), pass_.get(ConceptLabels)
        names = concepts.names if concepts else []
        x = self._activations.compute()[0] if self._activations is not None else None
        self._activations = None
        factors = known_factors(pass_.data.images("val"))
        tables = []
        for factor, (values, truth) in {**factors, **family_factors(factors, self.families)}.items():
            truth = truth.to(ids.device)
            found = self._detect(ranks, truth, truth[ids], top_ids, values)
            if names:
                found = found.assign(**name_columns([names[j] for j in found["latent"]]))
            if x is not None:
                found = found.join(self._probe(pass_, factor, latents, x, truth[ids], len(values)))
            found.insert(0, "factor", factor)
            tables.append(found)
        self.table = pd.concat(tables) if tables else None  # nothing may be known of the images
        self.log_terms(pass_)

    def _detect(
        self, ranks: ActiveRanks, truth: Tensor, seen: Tensor, top_ids: Tensor, values: Sequence[str]
    ) -> pd.DataFrame:
        """Return a row per value that enough of the seen images have and lack."""
        found = best_detectors(ranks, seen, len(values))
        pure = purity(top_ids[found.latent], truth, torch.arange(len(values), device=truth.device))
        images = torch.bincount(seen[seen >= 0], minlength=len(values))
        enough = (images >= self.min_images) & (len(seen) - images >= self.min_images)
        columns = {"images": images, "latent": found.latent, "auroc": found.auroc, "purity": pure}
        table = pd.DataFrame({"value": values} | {key: column.cpu() for key, column in columns.items()})
        return table[enough.cpu().numpy()]

    def _probe(
        self, pass_: Pass, factor: str, latents: SparseLatents, x: Tensor, seen: Tensor, n_values: int
    ) -> pd.DataFrame:
        """Log the probes of a factor, and return splitting and absorption of each value."""
        least = -(-self.min_images // 2)
        probes = sparse_probes(latents, seen, n_values, self.ks, self.seed, least)
        absorbed = absorption(latents, pass_.decoder, x, seen, n_values, seed=self.seed, min_images=least)
        numbers = {f"probe_{k}": column for k, column in zip(probes.ks, probes.accuracy.T, strict=True)}
        numbers |= {"splitting": probes.splitting, "absorption": absorbed.share}
        for name, column in numbers.items():
            if len(known := column[~np.isnan(column)]):
                pass_.module.log(f"truth/{name}_{factor}", float(known.mean()))
        columns = {"splitting": probes.splitting, **absorbed._asdict()}
        return pd.DataFrame(columns).drop(columns="images").rename(columns=COLUMNS)

    def report(self, pass_: Pass) -> None:
        """Write the table."""
        if self.table is not None:
            publish_table(pass_.trainer, "truth", self.table)
