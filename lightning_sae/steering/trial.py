"""One value steered on pairs of images that differ in it and in nothing else."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from lightning_sae.attribution.explained import Explained
from lightning_sae.pairs.responses import FactorValue
from lightning_sae.steering.curve import Curve
from lightning_sae.steering.feature import Feature, steer
from lightning_sae.steering.readouts import Readout


class Trial(NamedTuple):
    """Images without a value, on which it is to come, and the same with it, from which it is to go.

    Attributes:
        images: `2 p` of them, those without first, each pair in the same order.
        embeddings: `[2 p, d_embed]` unit, as they are.
        value: that is steered.
        asked: reads its factor.
        others: read the other factors.
    """

    images: Explained
    embeddings: Tensor
    value: FactorValue
    asked: Readout
    others: Sequence[Readout]

    @classmethod
    @torch.no_grad()
    def of(cls, images: Explained, value: FactorValue, readouts: Mapping[str, Readout]) -> Self | None:
        """Return the trial of a value on pairs; `None` where nothing reads it.

        Args:
            images: `2 p`, those without the value first.
            value: that is steered.
            readouts: of all factors, by their names.
        """
        asked = readouts.get(value.factor)
        if asked is None or value.value not in asked.values:
            return None
        others = [readout for factor, readout in readouts.items() if factor != value.factor]
        return cls(images, images.tail(images.x, images.context), value, asked, others)

    @property
    def brings(self) -> Tensor:
        """`[2 p]` bool, whether the value is to come."""
        n = len(self.embeddings)
        return torch.arange(n, device=self.embeddings.device) < n // 2

    def curve(self, feature: Feature, strengths: Sequence[float]) -> Curve:
        """Return what steering a feature does.

        An image is a success if its factor is read as the value where this was to come, and as another value
        where it was to go. Among the answers about other factors, those count that both images of the pair
        give before steering, so the value has no part in them. Such an answer is lost if the steered image
        gives another one.

        Args:
            feature: of the activations.
            strengths: ascending from 0.
        """
        parts = [self._at(steer(self.images, feature, strength, self.brings)) for strength in strengths]
        success, damage, distance = (
            torch.stack(rows).double().cpu().numpy() for rows in zip(*parts, strict=True)
        )
        return Curve(np.array(strengths, dtype=np.float64), success, damage, distance)

    def _at(self, steered: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return success, damage and distance of each pair, `[p]` each."""
        place = list(self.asked.values).index(self.value.value)
        success = (self.asked.read(steered) == place) == self.brings
        goal = self.embeddings.roll(len(self.embeddings) // 2, 0)
        distance = 1 - (steered * goal).sum(1)
        lost, counted = torch.zeros_like(distance), torch.zeros_like(distance)
        for readout in self.others:
            answer = readout.read(self.embeddings)
            counts = answer == readout.read(goal)
            counted += counts
            lost += counts & (readout.read(steered) != answer)
        success, distance, lost, counted = (
            part.double().view(2, -1).sum(0) for part in (success, distance, lost, counted)
        )
        return success / 2, lost / counted, distance / 2  # 0 / 0 is NaN: nothing that could be lost
