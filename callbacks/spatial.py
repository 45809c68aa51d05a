"""Whether the patches on which a latent fires lie together."""

from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor

from callbacks.base import Pass, PassCallback
from lightning_sae.baselines.terms import Terms
from lightning_sae.clip.sight import token_grid
from lightning_sae.metrics import MoransI
from lightning_sae.types import SparseLatents, ValidationOutput


class Spatial(PassCallback):
    """Scores the maps of every latent over the patches of all validation images, at every validation pass.

    Where the tokens of the hook point are no places, as the class token or texts, it does nothing.

    Logged (means over the latents that fire on more than one patch of some image):
        spatial/morans_i: Moran's I, 1 for patches that lie together, -1 / (N - 1) for any N patches.
        spatial/morans_z: by how many standard deviations it exceeds permuted patches.

    Columns of `latents.csv`: `morans_i`, `morans_z`. See `lightning_sae.metrics.MoransI`.
    """

    logs = ("spatial/morans_i", "spatial/morans_z")

    def __init__(self) -> None:
        self._metric: MoransI | None = None
        self._scores: dict[str, Tensor] = {}

    def baseline(self) -> Self:
        """Return a fresh one."""
        return type(self)()

    def terms(self) -> Mapping[str, Terms]:
        """Return the terms of the means, one per latent."""
        return {f"spatial/{key}": Terms(score.float().cpu()) for key, score in self._scores.items()}

    def begin(self, pass_: Pass) -> None:
        """Empty the sums, if there are places."""
        grid = None if pass_.data.clip.reads_texts else token_grid(pass_.data.clip, pass_.data.shape.tokens)
        self._metric = MoransI(pass_.sae.d_sae, grid).to(pass_.module.device) if grid else None

    def add_batch(self, pass_: Pass, outputs: ValidationOutput) -> None:
        """Add the patches of the images of a batch."""
        if self._metric is not None:
            self._metric.update(
                _without_class_tokens(outputs.latents, pass_.data.shape.tokens, self._metric.grid)
            )

    def finish(self, pass_: Pass) -> None:
        """Score the latents and log."""
        if self._metric is not None:
            self._scores = dict(zip(("morans_i", "morans_z"), self._metric.compute(), strict=True))
            self._metric = None
            self.log_terms(pass_)

    def latent_columns(self) -> dict[str, Sequence[object]]:
        """Return both scores of each latent; none before the first validation pass."""
        return {key: score.tolist() for key, score in self._scores.items()}


def _without_class_tokens(latents: SparseLatents, tokens: int, grid: tuple[int, int]) -> SparseLatents:
    """Return the latents of the last tokens of each image, which are its patches."""
    n_patches = grid[0] * grid[1]
    if tokens == n_patches:
        return latents
    place = torch.arange(len(latents), device=latents.offsets.device) % tokens
    return latents.keep(place >= tokens - n_patches)
