"""Are the bytes of a store those that were written?"""

from pathlib import Path
from typing import Any, NamedTuple

from lightning_sae.data.store.manifest import MANIFEST, checksum, read_manifest
from lightning_sae.files import writable
from lightning_sae.progress import progress


class Fault(NamedTuple):
    """Something in a store that is not as it should be."""

    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def verify_store(folder: str | Path) -> list[Fault]:
    """Read every shard below a folder and compare it with the manifest beside it.

    A damaged shard is set aside: renamed to `NAME.damaged`, where the folder can be written. The next capture
    makes it anew, and no other, and deletes what was set aside.

    Args:
        folder: the root of all stores, one store, or one of its sub-folders.

    Returns:
        The damaged and lost shards, and the folders that are not complete; none for a whole store.

    Raises:
        FileNotFoundError: there is no store.
    """
    folder = Path(folder).expanduser()
    folders = sorted({path.parent for path in folder.rglob("[0-9]*.safetensors")} | _finished(folder))
    if not folders:
        raise FileNotFoundError(f"no store in {folder}: name a folder that `capture` filled")
    faults, shards = [], []
    for path in folders:
        if not _is_finished(path):
            faults.append(Fault(path, "incomplete, capture it again"))
            continue
        try:
            shards += [(path, entry) for entry in read_manifest(path)["shards"]]
        except ValueError as error:
            faults.append(Fault(path, str(error)))
    megabytes = sum(entry["bytes"] for _, entry in shards) // 10**6
    with progress(f"verifying {folder.name}", megabytes, "MB") as advance:
        for path, entry in shards:
            if fault := _check(path / entry["file"], entry):
                faults.append(fault)
            advance(entry["bytes"] / 1e6)
    return faults


def _finished(folder: Path) -> set[Path]:
    return {path.parent for path in folder.rglob(MANIFEST)}


def _is_finished(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def _check(path: Path, entry: dict[str, Any]) -> Fault | None:
    if not path.is_file():
        return Fault(path, "gone")
    if path.stat().st_size != entry["bytes"]:
        what = f"damaged, {path.stat().st_size} bytes instead of {entry['bytes']}"
    elif checksum(path) != entry["sha256"]:
        what = "damaged, other bytes than were written"
    else:
        return None
    if not writable(path.parent):
        return Fault(path, f"{what}; the folder cannot be written, so its owner has to delete the shard")
    path.rename(path.with_name(path.name + ".damaged"))
    return Fault(path, f"{what}; set aside")
