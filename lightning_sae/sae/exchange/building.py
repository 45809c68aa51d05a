"""An autoencoder of ours from the tensors of another library."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_sae.sae.base import SparseAutoencoder
from lightning_sae.sae.variants.batch_topk import BatchTopK
from lightning_sae.sae.variants.gated import Gated
from lightning_sae.sae.variants.topk import TopK

UNIT = 1e-4  # decoder rows whose norm is off by less count as of unit norm
TINY = 1e-30  # a threshold that is none


@torch.no_grad()
def build(
    where: Path,
    variant: type[SparseAutoencoder],
    arguments: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    subtracts_bias: bool = True,
) -> SparseAutoencoder:
    """Return an autoencoder on raw activations with these parameters, in evaluation mode.

    Decoder rows of other lengths become of unit norm, and the latents longer by as much, where each latent
    is selected by itself. Where latents compete (`TopK`, `BatchTopK`) that would change the selection: there
    the rows stay as they are.

    Args:
        where: the file, for messages.
        variant: its class.
        arguments: of the class, but the widths.
        tensors: `encoder [d_sae, d_in]`, `b_enc`, `W_dec [d_sae, d_in]`, `b_dec`, and what the variant adds.
        subtracts_bias: whether theirs subtracts `b_dec` before it encodes; if not, `b_enc` makes up for it.

    Raises:
        ValueError: a tensor has another shape than the others say.
    """
    d_sae, d_in = tensors["encoder"].shape
    sae = variant(d_in, d_sae, **arguments)
    state: dict[str, Tensor] = {**sae.state_dict(), **tensors}
    for name, expected in sae.state_dict().items():
        if state[name].shape != expected.shape:
            raise ValueError(
                f"{where}: {name} has shape {list(state[name].shape)}, the encoder asks for "
                f"{list(expected.shape)}"
            )
    sae.load_state_dict({name: tensor.contiguous() for name, tensor in state.items()})
    if not subtracts_bias:
        shift = sae.encoder @ sae.b_dec
        sae.b_enc.add_(shift)
        if isinstance(sae, Gated):
            sae.b_mag.add_(sae.r_mag.exp() * shift)
    lengths = (sae.W_dec.norm(dim=1) - 1).abs()
    if not isinstance(sae, TopK | BatchTopK) and (lengths > UNIT).any():
        sae.absorb_row_norms()
    return sae.eval()


def log_threshold(threshold: Tensor) -> Tensor:
    """Return the logarithms of thresholds, which `JumpReLU` keeps.

    A threshold that is not positive lets every positive pre-activation through.
    """
    return threshold.clamp_min(TINY).log()
