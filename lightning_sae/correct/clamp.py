"""Latents held at given values, in activations and in every forward of a CLIP."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor

from lightning_sae.clip import Clip, HookPoint
from lightning_sae.sae import SparseAutoencoder
from lightning_sae.steering.intervention import Edit, edited, intervene


class Clamp(NamedTuple):
    """Latents that are held at values on every token; at 0 they are ablated.

    Attributes:
        latents: their numbers, `m` different ones.
        values: `m`, >= 0, in the units of the raw activations.
    """

    latents: Sequence[int]
    values: Sequence[float]

    def edits(self) -> dict[int, Edit]:
        """Return each latent with the value that it is set to."""
        return dict(zip(self.latents, self.values, strict=True))


class Held(NamedTuple):
    """Latents that are held while CLIP embeds.

    Attributes:
        clamp: the latents and their values.
        sae: autoencoder that the latents belong to.
        hook_point: hook point that the autoencoder reads.
    """

    clamp: Clamp
    sae: SparseAutoencoder
    hook_point: HookPoint


def clamped(sae: SparseAutoencoder, x: Tensor, clamp: Clamp) -> Tensor:
    """Return the activations with latents held at values: `x + sum_j (v_j - a_j) w_j`.

    What the autoencoder does not reconstruct stays, as do the other latents.

    Args:
        sae: whose latents they are.
        x: `[n, d_in]`, raw.
        clamp: which and at what.
    """
    return edited(sae, x, clamp.edits())


@contextmanager
def holding(clip: Clip, held: Held) -> Iterator[None]:
    """Hold latents at values in every forward of a CLIP inside the `with`."""
    with intervene(clip, held.hook_point, held.sae, held.clamp.edits()):
        yield
