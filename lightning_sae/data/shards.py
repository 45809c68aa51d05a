"""A folder of safetensors shards with a manifest: whole, or resumable at what is missing."""

import hashlib
import json
import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from lightning_sae.data.atomic import remove_temporaries, write_atomic
from lightning_sae.data.statistics import ActivationStatistics, Moments, merge_moments

MANIFEST = "manifest.json"
NUMPY_DTYPES = {"F16": np.float16, "F32": np.float32}


class Header(NamedTuple):
    """What the head of a shard says: metadata, tensors, where their bytes start, where the file ends."""

    metadata: dict[str, Any]
    tensors: dict[str, dict[str, Any]]
    start: int
    end: int


@dataclass(frozen=True)
class ShardFolder:
    """Shards of `shard_images` images each; tensors in them have one row per image that is not bad.

    Attributes:
        folder: where they lie.
        fingerprint: what they were made from, flat keys; every shard carries it.
        n_images: images of the split.
        shard_images: images per shard; the last may have fewer.
    """

    folder: Path
    fingerprint: Mapping[str, Any]
    n_images: int
    shard_images: int

    def missing(self) -> list[int]:
        """The shards still to be written; clears what a killed writer left.

        Raises:
            ValueError: the folder was made from something else; names the keys that differ.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_temporaries(self.folder)
        if (self.folder / MANIFEST).exists():
            manifest = read_manifest(self.folder)
            self._check(manifest["fingerprint"])
            if not _damaged(self.folder, manifest):
                return []
            (self.folder / MANIFEST).unlink()
        return [shard for shard in range(self.n_shards) if not self._present(shard)]

    @property
    def complete(self) -> bool:
        """Whether the manifest is written."""
        return (self.folder / MANIFEST).exists()

    @property
    def n_shards(self) -> int:
        """Number of shards of the whole folder."""
        return math.ceil(self.n_images / self.shard_images)

    def images(self, shard: int) -> range:
        """Ids of the images in a shard."""
        return range(shard * self.shard_images, min((shard + 1) * self.shard_images, self.n_images))

    def path(self, shard: int) -> Path:
        """File of a shard."""
        return self.folder / f"{shard:06d}.safetensors"

    def write(self, shard: int, tensors: Mapping[str, Tensor], bad: Mapping[int, str] | None = None) -> None:
        """Writes one shard whole or not at all; `bad` images, id -> message, have no rows in it."""
        # one key only: safetensors does not keep the order of several, and equal shards are to be equal bytes
        label = self._label(shard) | ({"bad_images": dict(bad)} if bad else {})
        metadata = {"shard": json.dumps(label, sort_keys=True)}
        write_atomic(self.path(shard), save(dict(tensors), metadata))

    def finish(self, statistics: ActivationStatistics | None = None) -> None:
        """Writes the manifest: from now on the folder counts as whole."""
        entries = [self._entry(shard) for shard in range(self.n_shards)]
        manifest = {
            "fingerprint": dict(self.fingerprint),
            "n_images": self.n_images,
            "bad_images": self.bad_images(),
            "tensors": {
                name: [entry["dtype"], entry["shape"][1:]]
                for name, entry in read_header(self.path(0)).tensors.items()
                if name not in ("mean", "spread")
            },
            "statistics": statistics and {**statistics._asdict(), "mean": statistics.mean.tolist()},
            "shards": entries,
        }
        for path in self.folder.glob("[0-9]*.safetensors"):
            if path.name not in {entry["file"] for entry in entries}:
                path.unlink()  # of a half-written store with another shard size
        write_atomic(self.folder / MANIFEST, json.dumps(manifest, indent=1).encode())

    def bad_images(self) -> dict[int, str]:
        """Images without rows in the shards that are there, id -> message."""
        if self.complete:
            return bad_images_of(read_manifest(self.folder))
        found: dict[int, str] = {}
        for path in filter(Path.exists, map(self.path, range(self.n_shards))):
            label = json.loads(read_header(path).metadata["shard"])
            found |= {int(image): message for image, message in label.get("bad_images", {}).items()}
        return found

    def moments(self) -> Moments:
        """Moments of all rows, merged from those in the shards (`mean`, `spread` beside `x`)."""
        return reduce(merge_moments, (_shard_moments(self.path(shard)) for shard in range(self.n_shards)))

    def _label(self, shard: int) -> dict[str, Any]:
        images = self.images(shard)
        return {"fingerprint": dict(self.fingerprint), "images": [images.start, images.stop]}

    def _entry(self, shard: int) -> dict[str, Any]:
        path, images = self.path(shard), self.images(shard)
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        return {
            "file": path.name,
            "images": [images.start, images.stop],
            "bytes": path.stat().st_size,
            "sha256": checksum,
        }

    def _present(self, shard: int) -> bool:
        path = self.path(shard)
        if not path.exists():
            return False
        header = read_header(path)
        label = json.loads(header.metadata["shard"])
        label.pop("bad_images", None)
        self._check(label["fingerprint"])
        return label == self._label(shard) and header.end == path.stat().st_size

    def _check(self, found: Mapping[str, Any]) -> None:
        if lines := differences(self.fingerprint, found):
            raise ValueError(
                "\n  ".join([f"the store {self.folder} was made with other settings:", *lines])
                + "\nSet them as they were, delete that folder, or choose another with data.store_dir=DIR"
            )


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots.

    Example:
        >>> flatten({"clip": {"model": "ViT-B-32"}, "dtype": "float16"})
        {'clip.model': 'ViT-B-32', 'dtype': 'float16'}
    """
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= flatten(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {prefix + key: item}
    return flat


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """A line for each key whose values differ.

    Example:
        >>> differences({"dtype": "float32", "seed": 0}, {"dtype": "float16", "seed": 0})
        ["dtype: the store has 'float16', this run asks for 'float32'"]
    """
    return [
        f"{key}: the store has {found.get(key)!r}, this run asks for {wanted.get(key)!r}"
        for key in sorted({*wanted, *found})
        if wanted.get(key) != found.get(key)
    ]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a whole shard folder.

    Raises:
        FileNotFoundError: the folder is not there or not whole.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise FileNotFoundError(
            f"no complete store at {folder}: capture it with `python -m lightning_sae.data capture`"
        )
    manifest: dict[str, Any] = json.loads(path.read_bytes())
    return manifest


def bad_images_of(manifest: Mapping[str, Any]) -> dict[int, str]:
    """Images that the store has no rows of, id -> message, ascending."""
    return {int(image): message for image, message in manifest.get("bad_images", {}).items()}


def shard_rows(manifest: Mapping[str, Any]) -> list[range]:
    """Rows of each shard, one per image that is not bad, counted through the whole store.

    Example:
        >>> shard_rows({"bad_images": {"0": "", "1": ""}, "shards": [{"images": [0, 4]}, {"images": [4, 8]}]})
        [range(0, 2), range(2, 6)]
    """
    bad = sorted(bad_images_of(manifest))
    bounds = (entry["images"] for entry in manifest["shards"])
    return [range(start - bisect_left(bad, start), stop - bisect_left(bad, stop)) for start, stop in bounds]


def read_header(path: Path) -> Header:
    """Reads the head of a safetensors file.

    Raises:
        ValueError: it is not one.
    """
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        try:
            tensors = json.loads(file.read(start - 8))
        except ValueError as error:
            raise ValueError(f"the shard {path} is damaged: delete it and capture again") from error
    metadata = tensors.pop("__metadata__", {})
    return Header(
        metadata, tensors, start, start + max(entry["data_offsets"][1] for entry in tensors.values())
    )


def read_tensor(folder: Path, name: str) -> Tensor:
    """One tensor of all shards `[n_rows, ...]`, in memory, its bytes checked against the manifest.

    Raises:
        ValueError: a shard's bytes are not those that were written; names the file.
    """
    manifest = read_manifest(folder)
    kind, shape = manifest["tensors"][name]
    check_bytes(folder, manifest)
    ranges = shard_rows(manifest)
    whole = torch.empty(ranges[-1].stop, *shape, dtype=_torch_dtype(kind))
    for entry, rows in zip(manifest["shards"], ranges, strict=True):
        whole[rows.start : rows.stop] = load_file(folder / entry["file"])[name]
    return whole


def check_bytes(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Reads every shard once.

    Raises:
        ValueError: a shard's bytes are not those that were written; names the file.
    """
    _raise_if_damaged(folder, manifest)
    for entry in manifest["shards"]:
        path = folder / entry["file"]
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
                raise ValueError(f"the shard {path} is damaged (checksum): delete it and capture again")


def map_tensor(folder: Path, name: str) -> list[Tensor]:
    """One tensor of every shard, memory-mapped: read from the disk where it is touched."""
    manifest = read_manifest(folder)
    _raise_if_damaged(folder, manifest)
    return [_map(folder / entry["file"], name) for entry in manifest["shards"]]


def _map(path: Path, name: str) -> Tensor:
    header = read_header(path)
    entry = header.tensors[name]
    if 0 in entry["shape"]:  # all images of the shard are bad, and an empty file part cannot be mapped
        return torch.empty(entry["shape"], dtype=_torch_dtype(entry["dtype"]))
    offset = header.start + entry["data_offsets"][0]
    # copy-on-write: torch wants writable memory, and the file stays as it is
    array = np.memmap(path, NUMPY_DTYPES[entry["dtype"]], "c", offset, tuple(entry["shape"]))
    return torch.from_numpy(array)


def _torch_dtype(kind: str) -> torch.dtype:
    return {"F16": torch.float16, "F32": torch.float32, "I64": torch.int64}[kind]


def _shard_moments(path: Path) -> Moments:
    with safe_open(path, framework="pt") as shard:
        count = math.prod(shard.get_slice("x").get_shape()[:-1])
        return Moments(count, shard.get_tensor("mean"), float(shard.get_tensor("spread")))


def _raise_if_damaged(folder: Path, manifest: Mapping[str, Any]) -> None:
    if names := _damaged(folder, manifest):
        raise ValueError(
            f"{len(names)} shards of {folder} are gone or have another size: {', '.join(names[:10])}; "
            "run `python -m lightning_sae.data capture` again, it repairs them"
        )


def _damaged(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    return [
        entry["file"]
        for entry in manifest["shards"]
        if not (folder / entry["file"]).exists() or (folder / entry["file"]).stat().st_size != entry["bytes"]
    ]
