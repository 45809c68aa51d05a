"""What was usual: means over the reference images, and the bounds that their finite number leaves them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import safe_open
from torch import Tensor

from lightning_sae.classifiers.linear import LinearClassifier
from lightning_sae.files import write_atomic
from lightning_sae.monitoring.bets import ODDS, Array, fine_odds, gain, mean_bounds, price, rate_bounds
from lightning_sae.monitoring.evidence import Watch
from lightning_sae.monitoring.families import ImageEntries, Numbering
from lightning_sae.monitoring.image_numbers import ImageNumbers
from lightning_sae.monitoring.scales import Scales
from lightning_sae.trust.damaged import UNREADABLE
from lightning_sae.types import SparseLatents

FILE = "reference.safetensors"
SCALING = 0.1
"""Share of the images that the scales come from, and nothing else."""

REFERENCE_SHARE = 0.5
"""Share of alpha that pays for the finite reference."""


class ReferenceFacts(BaseModel):
    """Facts of a reference: what it was made of.

    Attributes:
        schema_version: of this layout; another one is refused.
        run: folder of the run, absolute.
        sae_sha256: of the autoencoder's weights.
        images: what the reference images are.
        class_names: of the classifier.
        labels: what each latent is called.
        alpha: chance of any alarm where nothing has changed.
        attribute_every: one in so many images is attributed.
        culprits: class -> latents that the audit convicts of it.
        audited: whether there is an audit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = 1
    run: str
    sae_sha256: str
    images: str
    class_names: tuple[str, ...]
    labels: tuple[str, ...]
    alpha: float
    attribute_every: int
    culprits: Mapping[int, tuple[int, ...]]
    audited: bool


@dataclass(frozen=True)
class Reference:
    """The reference images of a monitor.

    Attributes:
        facts: what the reference was made of.
        whole: the numbers of all reference images.
        classifier: whose predictions are watched.
    """

    facts: ReferenceFacts
    whole: ImageNumbers
    classifier: LinearClassifier

    @cached_property
    def scales(self) -> Scales:
        """The scales that bring the numbers into [0, 1], from the first images."""
        return Scales.of(self.whole.images(0, self._scaling))

    @cached_property
    def numbers(self) -> ImageNumbers:
        """The numbers of the other images, from which the means come."""
        return self.whole.images(self._scaling, self.whole.n)

    @property
    def _scaling(self) -> int:
        return math.ceil(SCALING * self.whole.n)

    def entries(self, numbers: ImageNumbers) -> ImageEntries:
        """Return the numbers of images by test."""
        return self.tests.entries(numbers, self.scales)

    @property
    def tests(self) -> Numbering:
        """The tests."""
        return Numbering(self.whole.latents.d_sae)

    @cached_property
    def means(self) -> Array:
        """`[tests]`, the mean of each over the reference images that count for it."""
        entries = self.entries(self.numbers)
        counted = entries.counted.sum(0)[self.tests.family]
        totals = np.bincount(entries.tests, entries.values, len(counted))
        means: Array = totals / np.maximum(counted, 1)
        return means

    @cached_property
    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper bounds of the mean of each test, `[tests]` each.

        The chance that any of them is wrong is at most `REFERENCE_SHARE` of alpha. Rates are bounded exactly,
        the other means by bets.
        """
        return mean_and_rate_bounds(
            self.tests, self.entries(self.numbers), self.facts.alpha * REFERENCE_SHARE
        )

    @cached_property
    def watch(self) -> Watch:
        """The hypothesis that new images are held against."""
        low, high = self.bounds
        rises, family = (ODDS > 1)[:, None], self.tests.family
        prices = np.where(rises, price(high, ODDS), price(low, ODDS))
        return Watch(prices, family, self.tests.weight, self.facts.alpha * (1 - REFERENCE_SHARE))


def mean_and_rate_bounds(tests: Numbering, entries: ImageEntries, alpha: float) -> tuple[Array, Array]:
    """Return bounds of all means, `[tests]` each; the chance that any of them is wrong is at most `alpha`."""
    weight = tests.weight
    level = alpha * weight / (2 * len(weight))
    counts = entries.counted.sum(0)
    n_tests, n, m = len(weight), int(counts[0]), int(counts[1])
    fires = np.bincount(entries.tests, entries.values, n_tests)
    low, high = rate_bounds(np.where(tests.family == 0, fires, 0), n, level)
    sums: list[Array] = [
        np.stack([np.bincount(entries.tests, bet, n_tests) for bet in gain(entries.values, odds)])
        for odds in fine_odds()
    ]
    for family, images in ((1, m), (2, m), (3, n)):
        mine = tests.family == family
        if images:
            rising, falling = (part[:, mine] for part in sums)
            low[mine], high[mine] = mean_bounds(rising, falling, images, level[mine])
        else:
            low[mine], high[mine] = 0.0, 1.0
    return low, high


def save_reference(reference: Reference, folder: Path) -> None:
    """Write a reference, whole or not at all."""
    tensors = {**reference.classifier.tensors(), **tensors_of(reference.whole)}
    header = {"facts": reference.facts.model_dump_json(), "d_sae": str(reference.tests.d_sae)}
    write_atomic(folder / FILE, safetensors.torch.save(tensors, header))


def load_reference(folder: Path) -> Reference:
    """Read a reference.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or of another version.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no {FILE}: `lightning-sae monitor fit RUN --out {folder}` writes it"
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
            parts: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        facts = ReferenceFacts.model_validate_json(header["facts"])
        numbers = numbers_of(parts, int(header["d_sae"]))
        classifier = LinearClassifier(parts["weight"].float(), parts["bias"].float())
        _check(facts, numbers, classifier)
    except (*UNREADABLE, ValidationError) as error:
        raise ValueError(f"{path} is damaged, or of another version ({error}): fit it again") from error
    return Reference(facts, numbers, classifier)


def _check(facts: ReferenceFacts, numbers: ImageNumbers, classifier: LinearClassifier) -> None:
    """Refuse parts that were not saved together."""
    latents, classes = numbers.latents, len(facts.class_names)
    whole = [
        len(facts.labels) == latents.d_sae,
        classifier.weight.ndim == 2 and len(classifier.weight) == len(classifier.bias) == classes,
        bool(((latents.indices >= 0) & (latents.indices < latents.d_sae)).all()),
        int(latents.offsets[-1]) == len(latents.indices) == len(latents.values) == len(numbers.shares.values),
        len(latents) == numbers.n == len(numbers.error) == len(numbers.culprits),
        bool(((numbers.predicted >= 0) & (numbers.predicted < classes)).all()),
    ]
    if not all(whole):
        raise ValueError("its parts do not fit each other")


def numbers_of(parts: Mapping[str, Tensor], d_sae: int) -> ImageNumbers:
    """Return the numbers of images from the tensors of a file."""
    latents = SparseLatents(parts["activations"].float(), parts["indices"].long(), parts["offsets"], d_sae)
    shares = latents.with_values(parts["shares"].float())
    rest = (parts["predicted"].long(), parts["attributed"].bool(), parts["culprits"], parts["error"])
    return ImageNumbers(latents, shares, *rest)


def tensors_of(numbers: ImageNumbers) -> dict[str, Tensor]:
    """Return the tensors of a file, of which `numbers_of` makes them again."""
    latents = numbers.latents
    tensors = {
        "activations": latents.values,
        "shares": numbers.shares.values.half(),
        "indices": latents.indices.int(),
        "offsets": latents.offsets - latents.offsets[:1],
        "predicted": numbers.predicted.int(),
        "attributed": numbers.attributed,
        "culprits": numbers.culprits,
        "error": numbers.error,
    }
    return {name: tensor.contiguous() for name, tensor in tensors.items()}
