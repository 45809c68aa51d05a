"""Latents set to values or scaled, in activations and in every forward of a CLIP."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.clip import Clip, HookPoint, splice
from lightning_sae.sae import SparseAutoencoder


class Scale(NamedTuple):
    """An edit that multiplies a latent's activation: 0 ablates it, 1 leaves it, -1 turns it round.

    Attributes:
        factor: any finite number.
    """

    factor: float


Edit = float | Scale
"""What is done to a latent: a number is the activation that it is set to on every token, in the units of the
raw activations; `Scale` multiplies the one that it has."""


@contextmanager
def intervene(
    model: Clip, hook_point: HookPoint, sae: SparseAutoencoder, edits: Mapping[int, Edit]
) -> Iterator[None]:
    """Edit latents in every forward of a CLIP inside the `with`.

    At the selected tokens the model goes on with

        `x + sum_j (b_j - a_j) w_j`,   `b_j = v_j` (set) or `s_j a_j` (scaled),

    `a_j` the activation of latent `j` on the token, `w_j` its row of the decoder. So all that the autoencoder
    does not reconstruct stays, as do the other latents. A token on which no `b_j` differs from `a_j` is
    handed on as it is, to the last bit. The edited activation is not encoded again: the encoder's rows
    overlap, so it might find other values than `b_j`.

    Args:
        model: the CLIP, a `TextClip` for hook points of the text tower.
        hook_point: where the autoencoder reads.
        sae: whose latents they are, on the model's device.
        edits: latent -> value or `Scale`.

    Raises:
        ValueError: no latent, one that the autoencoder does not have, an edit that is no finite number, or a
            module that does not exist.
    """
    check_edits(edits, sae.d_sae)

    def edit(x: Tensor) -> Tensor:
        return edited(sae, x.flatten(0, 1), edits).view_as(x)

    with splice(model, hook_point, edit, error_term=False):
        yield


def check_edits(edits: Mapping[int, Edit], d_sae: int) -> None:
    """Refuse edits of latents that do not exist, and edits by anything but a finite number.

    Raises:
        ValueError: names the first that is wrong.

    Example:
        >>> check_edits({64: 0.0}, d_sae=64)
        Traceback (most recent call last):
        ValueError: a latent is one of 0..63, got 64
    """
    if not edits:
        raise ValueError("no latent is edited: name at least one, as {108: 0.0}")
    for latent, edit in edits.items():
        if not 0 <= latent < d_sae:
            raise ValueError(f"a latent is one of 0..{d_sae - 1}, got {latent}")
        number = edit.factor if isinstance(edit, Scale) else edit
        if not math.isfinite(number):
            raise ValueError(f"latent {latent} can be set to a finite number or scaled by one, got {edit}")


def edited(sae: SparseAutoencoder, x: Tensor, edits: Mapping[int, Edit]) -> Tensor:
    """Return activations with latents set or scaled: `x + sum_j (b_j - a_j) w_j`; see `intervene`.

    Args:
        sae: whose latents they are.
        x: `[n, d_in]`, raw.
        edits: latent -> value or `Scale`.
    """
    latents = list(edits)
    active = sae.encode(x).columns(torch.tensor(latents)).to_dense().to(x.dtype)
    change = wanted(active, list(edits.values())) - active
    rows = change.any(1).nonzero().flatten()  # a token that nothing changes keeps every bit
    return x.index_add(0, rows, change[rows] @ sae.W_dec[latents].to(x.dtype))


def wanted(active: Tensor, edits: list[Edit]) -> Tensor:
    """Return the activations that edits ask for.

    Args:
        active: `[n, m]`, as they are.
        edits: `m`.

    Example:
        >>> wanted(torch.tensor([[3.0, 4.0]]), [1.0, Scale(0.5)])
        tensor([[1., 2.]])
    """
    factor = active.new_tensor([edit.factor if isinstance(edit, Scale) else 0.0 for edit in edits])
    value = active.new_tensor([0.0 if isinstance(edit, Scale) else edit for edit in edits])
    return factor * active + value
