"""Every value of every factor steered: by its latents, and by directions that are found without them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lightning_sae.attribution.explained import Explained
from lightning_sae.pairs.responses import FactorValue, Floats, Moved, halves_of, signs_of
from lightning_sae.pairs.seen_pairs import SeenPairs
from lightning_sae.pairs.strongest import Strongest
from lightning_sae.sae import SparseAutoencoder
from lightning_sae.steering.curve import Area, Curve
from lightning_sae.steering.directions import (
    mean_difference,
    probe_direction,
    random_direction,
    text_direction,
)
from lightning_sae.steering.feature import Feature, Latents
from lightning_sae.steering.readouts import Readout, fitted_readout
from lightning_sae.steering.trial import Trial

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
METHODS = ("latent", "probe", "text", "means", "random")
NO_VALUE = "none"


class Steered(NamedTuple):
    """A value steered in one way.

    Attributes:
        value: of a factor.
        method: one of `METHODS`.
        latent: that was steered; `None` for a direction.
        curve: what it does.
        area: under the curve.
    """

    value: FactorValue
    method: str
    latent: int | None
    curve: Curve
    area: Area


class Study(NamedTuple):
    """The steering of all values.

    Attributes:
        methods: each value by its strongest latent and by each direction.
        latents: latent -> the area for the value that it responds to most.
    """

    methods: Sequence[Steered]
    latents: Mapping[int, Area]

    def means(self, method: str) -> dict[str, float]:
        """Return `auc`, and `success` and `damage` at strength 1, of a method: means over the values."""
        mine = [steered for steered in self.methods if steered.method == method]
        at = [int(np.abs(steered.curve.strengths - 1).argmin()) for steered in mine]
        success, damage = (
            [float(steered.curve.means()[part][i]) for steered, i in zip(mine, at, strict=True)]
            for part in (0, 1)
        )
        areas = [steered.area.mean for steered in mine]
        named = {"auc": areas, "success": success, "damage": damage}
        return {name: float(np.mean(numbers)) for name, numbers in named.items() if numbers}

    def table(self) -> pd.DataFrame:
        """Return a row for each value, method and strength."""
        return pd.DataFrame([row for steered in self.methods for row in _rows(steered)])

    def latent_columns(self, d_sae: int) -> dict[str, list[float]]:
        """Return `steering_auc` of every latent with its interval, NaN for one that was not steered."""
        columns = {}
        for name, place in {"steering_auc": 0, "steering_low": 1, "steering_high": 2}.items():
            columns[name] = [self.latents[j][place] if j in self.latents else np.nan for j in range(d_sae)]
        return columns


def _rows(steered: Steered) -> Iterator[dict[str, object]]:
    fixed: dict[str, object] = {
        "factor": steered.value.factor,
        "value": steered.value.value,
        "method": steered.method,
    }
    fixed = {**fixed, "latent": steered.latent, "pairs": steered.curve.success.shape[1]}
    area = {"auc": steered.area.mean, "low": steered.area.low, "high": steered.area.high}
    for strength, *numbers in zip(steered.curve.strengths, *steered.curve.means(), strict=True):
        measured = dict(zip(("success", "damage", "distance"), numbers, strict=True))
        yield fixed | {"strength": strength} | measured | area


class Stage(NamedTuple):
    """The pairs, how they look to the autoencoder, and what is read off them.

    Attributes:
        pairs: of all factors.
        explain: rows of their images -> the images with their latents.
        sae: whose latents are steered.
        scale: `[d_sae]`, the unit of each latent (`activation_scale`).
        readouts: of the factors that the data know.
        texts: value -> `[d_embed]`, what is said of it (`text_direction`).
        strengths: ascending from 0.
        most_damage: up to which the area goes.
    """

    pairs: SeenPairs
    explain: Callable[[Tensor], Explained]
    sae: SparseAutoencoder
    scale: Floats
    readouts: Mapping[str, Readout]
    texts: Callable[[FactorValue], Tensor]
    strengths: Sequence[float] = STRENGTHS
    most_damage: float = 0.1

    def moved(self) -> Moved:
        """Return how the latents move in the pairs."""
        return Moved(self.pairs.changes(self.sae), self.pairs.contrasts)


def study(stage: Stage, found: Strongest, most_latents: int = 200) -> Study:
    """Steer each value on the half of the pairs that did not choose its latents and directions.

    Args:
        stage: the pairs.
        found: the strongest latents of each value, by the other half.
        most_latents: latents that are steered, those that respond most.
    """
    chooses, measures = halves_of(stage.pairs.contrasts)
    readouts = {**stage.readouts, **_own_readouts(stage, chooses)}
    response = found.measured.response
    own = [j for j in np.flatnonzero(found.own >= 0) if np.isfinite(stage.scale[j])]
    own = sorted(own, key=lambda j: -response[found.own[j], j])[:most_latents]
    methods, latents = list[Steered](), dict[int, Area]()
    for v, value in enumerate(found.values):
        trial = Trial.of(stage.explain(torch.cat(_sides(stage.pairs, value, measures))), value, readouts)
        if trial is None:
            continue
        for method, feature, latent in _contenders(stage, value, int(found.latents[v, 0]), chooses):
            methods.append(_steered(stage, trial, method, feature, latent))
        for j in (int(j) for j in own if found.own[j] == v):
            same = [each.area for each in methods if each.latent == j and each.value == value]
            latents[j] = (same or [_steered(stage, trial, "latent", latent_feature(stage, [j]), j).area])[0]
    return Study(methods, latents)


def _steered(stage: Stage, trial: Trial, method: str, feature: Feature, latent: int | None) -> Steered:
    curve = trial.curve(feature, stage.strengths)
    return Steered(trial.value, method, latent, curve, curve.area(stage.most_damage))


def latent_feature(stage: Stage, latents: Sequence[int]) -> Latents:
    """Return latents that are steered together, each in units of its own scale."""
    W_dec = stage.sae.W_dec.detach().float()
    chosen = torch.tensor(latents, device=W_dec.device)
    return Latents(chosen, W_dec[chosen], torch.tensor(stage.scale[list(latents)]).to(W_dec))


def _contenders(
    stage: Stage, value: FactorValue, latent: int, chooses: np.ndarray
) -> Iterator[tuple[str, Feature, int | None]]:
    """Yield the ways to steer a value, all found on the pairs that choose."""
    if latent >= 0:
        yield "latent", latent_feature(stage, [latent]), latent
    rows = _sides(stage.pairs, value, chooses)
    x = stage.pairs.images.x.float().mean(1)
    lacking, there = (x[side.to(x.device)] for side in rows)
    yield "probe", probe_direction(there, lacking), None
    yield "text", text_direction(stage.texts(value), stage.explain(rows[0]), there, lacking), None
    yield "means", mean_difference(there, lacking), None
    yield "random", random_direction(there, lacking, seed=0), None


def _sides(pairs: SeenPairs, value: FactorValue, some: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return the images without a value, and the same with it, of the pairs that speak for it."""
    sign = signs_of([pairs.contrasts[i] for i in some], [value]).toarray()[0]
    mine, comes = torch.from_numpy(some[sign != 0]), torch.from_numpy(sign[sign != 0] > 0)
    before, after = pairs.before[mine], pairs.after[mine]
    return torch.where(comes, before, after), torch.where(comes, after, before)


def _own_readouts(stage: Stage, chooses: np.ndarray) -> dict[str, Readout]:
    """Return probes, fitted on the choosing pairs, of factors that the data lack, such as those of edits."""
    unknown = {stage.pairs.contrasts[i].factor for i in chooses} - stage.readouts.keys()
    found = {}
    for factor in sorted(unknown):
        mine = [int(i) for i in chooses if stage.pairs.contrasts[i].factor == factor]
        rows = torch.cat([stage.pairs.before[mine], stage.pairs.after[mine]])
        contrasts = [stage.pairs.contrasts[i] for i in mine]
        said = [NO_VALUE if c.before is None else c.before for c in contrasts]
        said += [c.after for c in contrasts]
        values = sorted({*said})
        images = stage.explain(rows)
        with torch.no_grad():
            embeddings = images.tail(images.x, images.context)
        truth = torch.tensor([values.index(value) for value in said])
        readout = fitted_readout(factor, values, embeddings, truth)
        if readout is not None:
            found[factor] = readout
    return found
