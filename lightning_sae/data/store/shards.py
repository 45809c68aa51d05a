"""A folder of safetensors shards with a manifest: whole, or resumable at what is missing."""

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from lightning_sae.data.store.manifest import (
    MANIFEST,
    REPAIR,
    WITHDRAWN,
    bad_images_of,
    checksum,
    fingerprint_differences,
    lost_shards,
    raise_if_lost,
    read_manifest,
    read_withdrawn,
    shard_rows,
)
from lightning_sae.data.store.space import IN_A_STORE
from lightning_sae.files import remove_temporaries, write_atomic
from lightning_sae.metrics.moments import ActivationStatistics, Moments

LARGEST_HEAD = 100_000_000  # bytes, as in safetensors
NUMPY_DTYPES = {"F16": np.float16, "F32": np.float32}


class Header(NamedTuple):
    """The head of a shard: metadata, tensors, where their bytes start, where the file ends."""

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

    def look_again(self) -> None:
        """Open the folder: a network file system shows then what other machines have written by now."""
        with suppress(FileNotFoundError):
            os.close(os.open(self.folder, os.O_RDONLY))

    def missing(self) -> list[int]:
        """Return the shards still to be written; change nothing.

        Raises:
            ValueError: the folder was made from something else; names the keys that differ.
        """
        lost: list[str] = []
        if manifest := self._manifest():
            self._check(manifest["fingerprint"])
            if not (lost := lost_shards(self.folder, manifest["shards"])):
                return []
        return [n for n in range(self.n_shards) if self.path(n).name in lost or not self.present(n)]

    def withdraw(self) -> None:
        """Take back a manifest whose shards are not all there, and keep its entries of those that are."""
        manifest = self._manifest()
        entries = manifest["shards"] if manifest else read_withdrawn(self.folder)
        lost = lost_shards(self.folder, entries)
        kept = [e for e in entries if e["file"] not in lost and self.present(int(Path(e["file"]).stem))]
        if len(kept) < len(entries):
            write_atomic(self.folder / WITHDRAWN, json.dumps({"shards": kept}).encode(), IN_A_STORE)
            (self.folder / MANIFEST).unlink(missing_ok=True)

    def _manifest(self) -> dict[str, Any] | None:
        """Return the manifest; `None` where there is none, or another process takes it back."""
        try:
            return read_manifest(self.folder)
        except FileNotFoundError:
            return None

    @property
    def complete(self) -> bool:
        """True if the manifest is written."""
        return (self.folder / MANIFEST).is_file()

    @property
    def n_shards(self) -> int:
        """Number of shards of the whole folder."""
        return math.ceil(self.n_images / self.shard_images)

    def images(self, shard: int) -> range:
        """Return the ids of the images in a shard."""
        return range(shard * self.shard_images, min((shard + 1) * self.shard_images, self.n_images))

    def path(self, shard: int) -> Path:
        """Return the file of a shard."""
        return self.folder / f"{shard:06d}.safetensors"

    def write(
        self,
        shard: int,
        tensors: Mapping[str, Tensor],
        bad: Mapping[int, str] | None = None,
        notes: Mapping[str, int] | None = None,
    ) -> None:
        """Write one shard whole or not at all, and delete what a killed writer left of it.

        Args:
            shard: its number.
            tensors: a row per image that is not bad.
            bad: id -> message of the bad images.
            notes: way of decoding -> number of images.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_temporaries(self.folder, self.path(shard).name)
        # one key only: safetensors does not keep the order of several, and equal shards are to be equal bytes
        label = self._label(shard) | ({"bad_images": dict(bad)} if bad else {})
        label |= {"decoded": dict(notes)} if notes else {}
        metadata = {"shard": json.dumps(label, sort_keys=True)}
        write_atomic(self.path(shard), save(dict(tensors), metadata), IN_A_STORE)

    def finish(self, statistics: ActivationStatistics | None = None) -> None:
        """Write the manifest: from now on the folder counts as whole."""
        entries = self._entries()
        manifest = {
            "fingerprint": dict(self.fingerprint),
            "n_images": self.n_images,
            "bad_images": self.bad_images(),
            "decoded": self.notes(),
            "tensors": {
                name: [entry["dtype"], entry["shape"][1:]]
                for name, entry in read_header(self.path(0)).tensors.items()
                if name not in ("mean", "spread")
            },
            "statistics": statistics and {**statistics._asdict(), "mean": statistics.mean.tolist()},
            "shards": entries,
        }
        self._tidy({entry["file"] for entry in entries})
        write_atomic(self.folder / MANIFEST, json.dumps(manifest, indent=1).encode(), IN_A_STORE)

    def bad_images(self) -> dict[int, str]:
        """Return the images without rows in the shards that are there, id -> message."""
        if manifest := self._manifest():
            return bad_images_of(manifest)
        found: dict[int, str] = {}
        for label in self._labels():
            found |= {int(image): message for image, message in label.get("bad_images", {}).items()}
        return found

    def notes(self) -> Counter[str]:
        """Count the images of the shards that are there by how they were decoded."""
        if manifest := self._manifest():
            return Counter(manifest.get("decoded", {}))
        return sum((Counter(label.get("decoded", {})) for label in self._labels()), Counter())

    def _labels(self) -> Iterator[dict[str, Any]]:
        """Read what the shards that are there say of themselves."""
        for shard in filter(self.present, range(self.n_shards)):
            try:
                label = read_header(self.path(shard)).metadata["shard"]
            except FileNotFoundError:  # another process tidies up
                continue
            yield json.loads(label)

    def _tidy(self, files: set[str]) -> None:
        """Delete all but the shards: rests of killed writers, damaged shards, and shards of another size."""
        for name in ("[0-9]*", MANIFEST, WITHDRAWN):
            remove_temporaries(self.folder, name)
        (self.folder / WITHDRAWN).unlink(missing_ok=True)
        for path in self.folder.glob("[0-9]*.safetensors*"):
            if path.name not in files:
                path.unlink()

    def moments(self) -> Moments:
        """Return the moments of all rows, merged from those in the shards (`mean`, `spread` beside `x`)."""
        return Moments.union(_shard_moments(self.path(shard)) for shard in range(self.n_shards))

    def _label(self, shard: int) -> dict[str, Any]:
        images = self.images(shard)
        return {"fingerprint": dict(self.fingerprint), "images": [images.start, images.stop]}

    def _entries(self) -> list[dict[str, Any]]:
        """Return the manifest's entry of each shard; one that was not made anew keeps its former entry."""
        kept = {(entry["file"], *entry["images"]): entry for entry in read_withdrawn(self.folder)}
        entries = []
        for shard in range(self.n_shards):
            images = self.images(shard)
            known = kept.get((self.path(shard).name, images.start, images.stop))
            entries.append(known or self._entry(shard))
        return entries

    def _entry(self, shard: int) -> dict[str, Any]:
        path, images = self.path(shard), self.images(shard)
        return {
            "file": path.name,
            "images": [images.start, images.stop],
            "bytes": path.stat().st_size,
            "sha256": checksum(path),
        }

    def present(self, shard: int) -> bool:
        """Return whether a shard is there, as far as its head and size tell; `verify` reads all of it.

        Raises:
            ValueError: it was made from something else; names the keys that differ.
        """
        path = self.path(shard)
        try:
            header, size = read_header(path), path.stat().st_size
            label = json.loads(header.metadata["shard"])
            for found in ("bad_images", "decoded"):
                label.pop(found, None)
            fingerprint = label["fingerprint"]
        except FileNotFoundError:  # not there, or no longer: another process tidies up
            return False
        except (ValueError, KeyError):  # damaged: is made anew
            return False
        self._check(fingerprint)
        return bool(label == self._label(shard)) and header.end == size

    def _check(self, found: Mapping[str, Any]) -> None:
        if lines := fingerprint_differences(self.fingerprint, found):
            raise ValueError(
                "\n  ".join([f"the store {self.folder} was made with other settings:", *lines])
                + "\nSet them as they were, delete that folder, or choose another with data.store_dir=DIR"
            )


def read_header(path: Path) -> Header:
    """Read the head of a safetensors file.

    Raises:
        ValueError: it is not one.
    """
    try:
        with path.open("rb") as file:
            start = 8 + int.from_bytes(file.read(8), "little")
            tensors = json.loads(file.read(min(start - 8, LARGEST_HEAD)))
        metadata = tensors.pop("__metadata__", {})
        end = start + max(entry["data_offsets"][1] for entry in tensors.values())
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"the shard {path} is damaged, {REPAIR}") from error
    return Header(metadata, tensors, start, end)


def read_tensor(folder: Path, name: str) -> Tensor:
    """Return one tensor of all shards `[n_rows, ...]`, in memory, its bytes checked against the manifest.

    Raises:
        ValueError: a shard's bytes are not those that were written; names the file.
    """
    manifest = read_manifest(folder)
    kind, shape = manifest["tensors"][name]
    check_bytes(folder, manifest)
    ranges, dtype = shard_rows(manifest), _torch_dtype(kind)
    size = math.prod([ranges[-1].stop, *shape]) * dtype.itemsize
    held = sum(entry["bytes"] for entry in manifest["shards"])
    if size > held:
        raise ValueError(
            f"{folder / MANIFEST} says that {name} has {size:,} bytes, and all shards have {held:,}: delete "
            "the folder and capture it again"
        )
    whole = torch.empty(ranges[-1].stop, *shape, dtype=dtype)
    for entry, rows in zip(manifest["shards"], ranges, strict=True):
        whole[rows.start : rows.stop] = load_file(folder / entry["file"])[name]
    return whole


def check_bytes(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Read every shard once.

    Raises:
        ValueError: a shard's bytes are not those that were written; names the file.
    """
    raise_if_lost(folder, manifest)
    for entry in manifest["shards"]:
        path = folder / entry["file"]
        if checksum(path) != entry["sha256"]:
            raise ValueError(f"the shard {path} is damaged (checksum): {REPAIR}")


def map_tensor(folder: Path, name: str) -> list[Tensor]:
    """Return one tensor of every shard, memory-mapped: read from the disk where it is touched."""
    manifest = read_manifest(folder)
    raise_if_lost(folder, manifest)
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
