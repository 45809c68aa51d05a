"""Which images are held out."""

import hashlib
import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lightning_sae.data.hashing import hash_numbers
from lightning_sae.data.images.image_set import Split

SPLITS: tuple[Split, ...] = ("train", "val", "test")
ALIASES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "val": ("val", "validation", "valid", "dev"),
    "test": ("test", "testing", "tst"),
}
"""What each split is called elsewhere, in lower case."""

_TAIL = re.compile(r"[\W_]*(set|split|data|images|\d{4})$")
"""What may stand behind it, as in *training_set* and *train2017*."""


def split_of(name: str) -> Split | None:
    """Return the split that a name stands for, in any case.

    Example:
        >>> split_of("Validation"), split_of("training_set"), split_of("cat")
        ('val', 'train', None)
    """
    usual = _TAIL.sub("", name.strip().casefold())
    return next((split for split, names in ALIASES.items() if usual in names), None)


def check_fractions(val_fraction: float, test_fraction: float) -> dict[Split, float]:
    """Return the shares by split.

    Raises:
        ValueError: out of range.
    """
    if min(val_fraction, test_fraction) < 0 or val_fraction + test_fraction >= 1:
        raise ValueError(
            f"val_fraction and test_fraction must be >= 0 and sum to less than 1, got {val_fraction} and "
            f"{test_fraction}"
        )
    return {"val": val_fraction, "test": test_fraction}


def stratified_split(
    keys: Sequence[str] | NDArray[np.int64],
    labels: Sequence[int] | NDArray[np.int64],
    fractions: Mapping[Split, float],
    seed: int,
) -> dict[Split, NDArray[np.int64]]:
    """Deal the images of each class, ordered by a hash of seed and key, to `fractions`, the rest to `train`.

    A class of three or more images gives at least one to every split of positive share. Images without a
    class (-1) count as one more class.

    Args:
        keys: what each image is known by: its path, or its row.
        labels: class of each.
        fractions: share of each class, by split.
        seed: another seed deals otherwise.

    Returns:
        For `train` and each of `fractions` the indices of its images, ascending.

    Example:
        >>> keys = [f"cat/{i}.png" for i in range(10)]
        >>> {name: len(part) for name, part in stratified_split(keys, [0] * 10, {"val": 0.2}, seed=0).items()}
        {'train': 8, 'val': 2}
    """
    label = np.asarray(labels)
    order = np.lexsort((_hashes(keys, seed), label))
    parts: dict[Split, list[NDArray[np.int64]]] = {"train": [], **{name: [] for name in fractions}}
    bounds = np.flatnonzero(np.diff(label[order])) + 1
    for members in np.split(order, bounds):
        start = 0
        for name, share in fractions.items():
            stop = start + max(round(share * len(members)), int(share > 0 and len(members) >= 3))
            parts[name].append(members[start:stop])
            start = stop
        parts["train"].append(members[start:])
    return {name: np.sort(np.concatenate(part)).astype(np.int64) for name, part in parts.items()}


def _hashes(keys: Sequence[str] | NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    if isinstance(keys, np.ndarray):
        return hash_numbers(keys, seed)
    digests = (hashlib.sha256(f"{seed}:{key}".encode(errors="surrogateescape")).digest()[:8] for key in keys)
    return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)
