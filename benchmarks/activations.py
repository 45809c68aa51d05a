"""Activations that autoencoders are compared on: the embedded world's, planted ones, those of any store."""

from pathlib import Path
from typing import NamedTuple

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from planted import Planted, realistic
from torch import Tensor

from lightning_sae.data import ActivationStore, Moments

CONF = Path(__file__).resolve().parents[1] / "conf"
D_IN, M, L0 = 64, 160, 8.0  # of the planted ones
SHORT_WORLD = ["data.n_train=512", "data.n_val=160", "data.n_probe=24"]


class Activations(NamedTuple):
    """Activations centred and scaled to unit mean square, and what they are made of where that is known.

    Attributes:
        train: `[n, d_in]`.
        val: `[n_val, d_in]`, of other images.
        present: `[n_val, m]` bool, which directions are in each token; `None` if unknown.
        directions: `[m, d_in]`; `None` if unknown.
    """

    train: Tensor
    val: Tensor
    present: Tensor | None = None
    directions: Tensor | None = None


def load(name: str, short: bool) -> Activations:
    """Return the activations of `world`, of `planted`, or of a hook point's folder in a store.

    The last tenth of a store's rows is kept for judging.
    """
    if name == "world":
        return _standardised(*_world(short))
    if name == "planted":
        data = realistic(4000 if short else 120_000, D_IN, M, L0)
        return _planted(data, n_val=len(data.x) // 6)
    store = ActivationStore(name)
    kept = len(store) - len(store) // 10
    return _standardised(store.rows(0, kept).float(), store.rows(kept, len(store)).float())


def _world(short: bool) -> tuple[Tensor, Tensor]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=["run_dir=.", *(SHORT_WORLD if short else [])])
    data = instantiate(config.data)
    data.prepare_data()
    data.setup("fit")
    return torch.cat([*data.train_batches()]), torch.cat([batch.x for batch in data.val_dataloader()])


def _planted(data: Planted, n_val: int) -> Activations:
    known = (data.codes[-n_val:] > 0, data.directions)
    return Activations(*_standardised(data.x[:-n_val], data.x[-n_val:])[:2], *known)


def _standardised(train: Tensor, val: Tensor) -> Activations:
    mean, scale, _ = Moments.of(train).statistics()
    return Activations((train - mean) * scale, (val - mean) * scale)
