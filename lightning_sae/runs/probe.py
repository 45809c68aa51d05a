"""The linear probe of a run: fitted to its train embeddings, judged on its validation images."""

from typing import NamedTuple

from torch import Tensor

from lightning_sae.classifiers.linear import fit_probe
from lightning_sae.classifiers.saved_probe import SavedProbe
from lightning_sae.data import ActivationDataModule
from lightning_sae.data.images.image_set import Split
from lightning_sae.data.store.shards import read_tensor
from lightning_sae.metrics.accuracy import accuracy, balanced_accuracy


class LabelledEmbeddings(NamedTuple):
    """Embeddings `[n, d_embed]` unit, and targets `[n]` int64, -1 where unknown."""

    embeddings: Tensor
    targets: Tensor


def examples(data: ActivationDataModule, split: Split) -> LabelledEmbeddings:
    """Return the images of a split as the audited CLIP sees them; captured where the store lacks them."""
    embeddings = read_tensor(data.capture(split) / "images", "embeddings")
    return LabelledEmbeddings(embeddings, data.images(split).targets)


def probe_of(data: ActivationDataModule, inverse_l2: float = 100.0, balanced: bool = False) -> SavedProbe:
    """Return a probe on the train embeddings, with its accuracy on `val`.

    Args:
        data: of a run.
        inverse_l2: see `fit_probe`.
        balanced: see `fit_probe`.

    Raises:
        ValueError: a class without train images.
    """
    train, val = examples(data, "train"), examples(data, "val")
    probe = fit_probe(train.embeddings, train.targets, len(data.class_names), inverse_l2, balanced)
    predicted = probe.predict(val.embeddings)
    provenance = {
        "clip": data.clip.identity(),
        "fitted_on": data.images("train").identity(),
        "inverse_l2": inverse_l2,
        "balanced": balanced,
        "val_accuracy": accuracy(predicted, val.targets),
        "val_balanced_accuracy": balanced_accuracy(predicted, val.targets),
    }
    return SavedProbe(probe, data.class_names, provenance)
