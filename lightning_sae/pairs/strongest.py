"""The latents that respond most: chosen on one half of the pairs, measured on the other."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from lightning_sae.concepts.significance import significant
from lightning_sae.metrics import interval
from lightning_sae.pairs.responses import FactorValue, Floats, Moved, Responses, respond, values_of

FDR = 0.05  # of the latents that are said to respond to anything


class Strongest(NamedTuple):
    """The latents that respond most to each value.

    Attributes:
        latents: `[V, m]` int64, the strongest first on the half of the pairs that chose them; -1 after the
            last one that rises there.
        own: `[d_sae]` int64, place of the value that each latent responds to most there; -1 for a latent
            whose response on the other half is no more than chance.
        measured: the responses on the other half.
        moved: that half.
        scale: `[d_sae]`, the unit of each latent.
    """

    latents: NDArray[np.int64]
    own: NDArray[np.int64]
    measured: Responses
    moved: Moved
    scale: Floats

    @property
    def values(self) -> Sequence[FactorValue]:
        """`V` values."""
        return self.measured.values

    def of_values(self) -> dict[str, Floats]:
        """Return response, right way, selectivity and specificity of the first latent of each value.

        Each is `[V]`, NaN where it is not defined. Where no latent rises, the numbers are those of a latent
        that does not move: 0, and 1/2 for the right way.
        """
        first, values = self.latents[:, 0], np.arange(len(self.latents))
        measured = self.measured
        found = {
            "response": measured.response[values, first],
            "right_way": measured.right_way[values, first],
            "selectivity": measured.selectivity[values, first],
            "specificity": measured.specificity[first],
        }
        still = {"right_way": 0.5}
        return {name: np.where(first >= 0, column, still.get(name, 0.0)) for name, column in found.items()}

    def latent_columns(self) -> dict[str, list[str] | list[float]]:
        """Return what is known of every latent: `factor`, `response` and `side_effect`."""
        latents, own = np.arange(len(self.own)), self.own
        some = own >= 0
        return {
            "factor": [str(self.values[v]) if v >= 0 else "" for v in own],
            "response": np.where(some, self.measured.response[own, latents], np.nan).tolist(),
            "side_effect": np.where(some, self.measured.side_effect[own, latents], np.nan).tolist(),
        }

    def table(self) -> pd.DataFrame:
        """Return a row for each value and each of its latents, with the 95 % interval of the response."""
        measured, side, selective = self.measured, self.measured.side_effect, self.measured.selectivity
        specific = measured.specificity
        rows = []
        for v, value in enumerate(self.values):
            latents = [j for j in self.latents[v].tolist() if j >= 0]
            band = interval(torch.from_numpy(self.moved.samples(value, latents, self.scale)))
            for place, j in enumerate(latents):
                rows.append(
                    {
                        "factor": value.factor,
                        "value": value.value,
                        "latent": j,
                        "pairs": int(measured.counts[v]),
                        "response": measured.response[v, j],
                        "low": float(band.low[place]),
                        "high": float(band.high[place]),
                        "right_way": measured.right_way[v, j],
                        "side_effect": side[v, j],
                        "selectivity": selective[v, j],
                        "specificity": specific[j],
                    }
                )
        return pd.DataFrame(rows)


def strongest(moved: Moved, scale: Floats, most: int = 5, min_pairs: int = 10) -> Strongest | None:
    """Return the latents that respond most to each value.

    One half of the pairs chooses them and the other half measures them, because the best of many latents
    looks good by chance on the pairs that chose it.

    Args:
        moved: how the latents move.
        scale: `[d_sae]`, the unit of each, NaN for one that is never active: it is not chosen.
        most: latents of a value.
        min_pairs: values that fewer pairs speak for are left out.

    Returns:
        `None` where no value has enough pairs.
    """
    first, second = moved.halves()
    both = [set(values_of(half.contrasts, least=2)) for half in (first, second)]
    values = [v for v in values_of(moved.contrasts, min_pairs) if v in both[0] and v in both[1]]
    if not values or not np.isfinite(scale).any():
        return None
    chosen = np.nan_to_num(respond(first, values, scale).response, nan=-np.inf)
    measured = respond(second, values, scale)
    most = min(most, int(np.isfinite(scale).sum()))
    own = chosen.argmax(0)
    p = measured.p_values(own, np.arange(len(own)))
    sure = significant(torch.from_numpy(p), FDR).numpy() & (chosen.max(0) > 0)
    latents = np.argsort(-chosen, axis=1, kind="stable")[:, :most]
    latents = np.where(np.take_along_axis(chosen, latents, 1) > 0, latents, -1)
    return Strongest(latents, np.where(sure, own, -1), measured, second, scale)
