"""What a shard folder says of itself: what it was made from, and the checksum of each file."""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, StrictFloat, TypeAdapter, ValidationError

from lightning_sae.trust.documents import read_json

MANIFEST = "manifest.json"
WITHDRAWN = "manifest.withdrawn.json"  # of a store that is repaired: what is known of the whole shards
REPAIR = "`lightning-sae verify FOLDER` sets damaged shards aside, the next capture makes them anew"


Count = Annotated[int, Field(strict=True, ge=0)]
Image = Annotated[str, Field(pattern=r"^[0-9]+$")]  # its id, as a key of JSON


def _forwards(images: tuple[int, int]) -> tuple[int, int]:
    if images[0] >= images[1]:
        raise ValueError("the first image must come before the end")
    return images


class _Shard(BaseModel):
    """A file in the folder of the manifest, and nowhere else."""

    file: str = Field(pattern=r"^[0-9]{6,}\.safetensors$")
    images: Annotated[tuple[Count, Count], AfterValidator(_forwards)]
    bytes: Count
    sha256: str


def _without_gaps(shards: list[_Shard]) -> list[_Shard]:
    if [shard.images[0] for shard in shards] != [0, *(shard.images[1] for shard in shards[:-1])]:
        raise ValueError("the images of a shard must follow those of the one before")
    return shards


class _Statistics(BaseModel):
    """Mean and scale of the activations."""

    mean: list[StrictFloat]
    scale: StrictFloat
    n_tokens: Count


class _Manifest(BaseModel):
    """The part of a manifest that is relied on."""

    fingerprint: dict[str, Any]
    bad_images: dict[Image, str] = {}
    decoded: dict[str, Count] = {}
    tensors: dict[str, tuple[Literal["F16", "F32", "I64"], list[Count]]]
    statistics: _Statistics | None = None
    shards: Annotated[list[_Shard], Field(min_length=1), AfterValidator(_without_gaps)]


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a whole shard folder.

    Raises:
        FileNotFoundError: the folder is not there or not whole.
        ValueError: it is damaged, or names other files than shards of the folder.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"no complete store at {folder}: capture it with `lightning-sae capture`")
    manifest = read_json(path)
    _check(path, _Manifest, manifest)
    return manifest


def read_withdrawn(folder: Path) -> list[dict[str, Any]]:
    """Read the entries that a withdrawn manifest had of whole shards; empty if there is none.

    Raises:
        ValueError: it is damaged, or names other files than shards of the folder.
    """
    path = folder / WITHDRAWN
    if not path.exists():
        return []
    entries: list[dict[str, Any]] = read_json(path, needed=["shards"])["shards"]
    _check(path, list[_Shard], entries)
    return entries


def _check(path: Path, form: Any, content: Any) -> None:
    try:
        TypeAdapter(form).validate_python(content)
    except ValidationError as error:
        raise ValueError(f"{path} is no manifest of a store ({faults(error)}): delete its folder") from error


def faults(error: ValidationError) -> str:
    """Return the first five fields that are wrong, each with what it holds."""
    return "; ".join(
        f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r:.100}" for e in error.errors()[:5]
    )


def bad_images_of(manifest: Mapping[str, Any]) -> dict[int, str]:
    """Return the images that the store has no rows of, id -> message, ascending."""
    return {int(image): message for image, message in manifest.get("bad_images", {}).items()}


def shard_rows(manifest: Mapping[str, Any]) -> list[range]:
    """Return the rows of each shard, one per image that is not bad, counted through the whole store.

    Example:
        >>> shard_rows({"bad_images": {"0": "", "1": ""}, "shards": [{"images": [0, 4]}, {"images": [4, 8]}]})
        [range(0, 2), range(2, 6)]
    """
    bad = sorted(bad_images_of(manifest))
    bounds = (entry["images"] for entry in manifest["shards"])
    return [range(start - bisect_left(bad, start), stop - bisect_left(bad, stop)) for start, stop in bounds]


def checksum(path: Path) -> str:
    """Return SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lost_shards(folder: Path, entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the files of a manifest that are gone or have another size."""
    paths = ((folder / entry["file"], entry["bytes"]) for entry in entries)
    return [path.name for path, size in paths if not path.exists() or path.stat().st_size != size]


def raise_if_lost(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raise `ValueError` naming the files of a manifest that are gone or have another size."""
    if names := lost_shards(folder, manifest["shards"]):
        raise ValueError(
            f"{len(names)} shards of {folder} are gone or have another size: {', '.join(names[:10])}; "
            "run `lightning-sae capture` again, it repairs them"
        )


def fingerprint_differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return a line for each key whose values differ.

    Example:
        >>> fingerprint_differences({"dtype": "float32", "seed": 0}, {"dtype": "float16", "seed": 0})
        ["dtype: the store has 'float16', this run asks for 'float32'"]
    """
    return [
        f"{key}: the store has {found.get(key)!r}, this run asks for {wanted.get(key)!r}"
        for key in sorted({*wanted, *found})
        if wanted.get(key) != found.get(key)
    ]
