"""A dictionary that is validated beside the one in training."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightning_sae.metrics import TopImages
from lightning_sae.sae import SparseAutoencoder
from lightning_sae.training.validation import ValidationMetrics


class BaselineModule(nn.Module):
    """A dictionary that callbacks of a validation pass use like an `SAEModule`; it keeps what they log.

    Attributes:
        logged: key -> logged value.
        dead: `None`, as the dictionary is never trained.

    Args:
        sae: the dictionary, on its device.
        top_n: images kept per latent.
    """

    def __init__(self, sae: SparseAutoencoder, top_n: int) -> None:
        super().__init__()
        self.sae, self.device = sae, sae.W_dec.device
        self.validation = ValidationMetrics(sae, top_n).to(self.device)
        self.logged: dict[str, float] = {}
        self.dead: Tensor | None = None

    @property
    def density(self) -> Tensor:
        """`[d_sae]` share of the tokens on which each latent fires; all ranks must ask for it, or none."""
        return self.validation.density

    @property
    def top_images(self) -> TopImages:
        """The top images of the pass."""
        return self.validation.top_images

    def log(self, name: str, value: Tensor | float, **options: Any) -> None:
        """Keep a value; a metric over all processes has the same value on each of them."""
        self.logged[name] = float(torch.as_tensor(value))

    def log_dict(self, dictionary: Mapping[str, Tensor | float], **options: Any) -> None:
        """Keep values."""
        for name, value in dictionary.items():
            self.log(name, value)
