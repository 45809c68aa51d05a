"""Opening a Hugging Face data set: the Hub by name, local files, or what `save_to_disk` left."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import glob, has_magic
from json import JSONDecodeError
from pathlib import Path
from tarfile import TarError
from typing import Any, NamedTuple

from lightning_sae.data.images.contents import content_hashes

BUILDERS = {".parquet": "parquet", ".arrow": "arrow", ".tar": "webdataset"}
SAFE = {*BUILDERS.values(), "imagefolder"}  # readers that run no code of a data set and unpickle nothing
SAVED = ("state.json", "dataset_dict.json")  # one of them lies where save_to_disk has written


class Opened(NamedTuple):
    """A data set with its splits.

    Attributes:
        name: in names of folders.
        splits: by their own names; `datasets.Dataset`, or `datasets.IterableDataset` when streaming.
        files: what each split is made of, the same on every machine, as JSON.
        narrow: opens the stream of a split again for some columns only, which spares reading the pictures of
            parquet files; `None` unless streaming.
    """

    name: str
    splits: Mapping[str, Any]
    files: Mapping[str, list[Any]]
    narrow: Callable[[str, Sequence[str]], Any] | None


def open_data_set(
    path: str | Mapping[str, Any],
    config: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
) -> Opened:
    """Open a data set.

    Args:
        path: a name on the Hub; a folder as `save_to_disk` leaves it, or of parquet, tar or image files; a
            file or a pattern of files; or `{split: file, pattern or a list of them}`.
        config: its configuration, on the Hub.
        revision: branch, tag or commit on the Hub.
        streaming: read while it is used, instead of once into the cache of `datasets`.

    Raises:
        FileNotFoundError: no files there.
        ValueError: files of other kinds, or damaged ones.
        ModuleNotFoundError: the package `datasets` is not installed.
    """
    datasets = import_datasets()
    place = path if isinstance(path, Mapping) else os.path.expanduser(path)
    with damage_named(f"data.path: {place}"):
        return _open(datasets, place, config, revision, streaming)


@contextmanager
def damage_named(files: str) -> Iterator[None]:
    """Name the files that a reader fails in, as its own error does not.

    Raises:
        ValueError: a file is damaged.
    """
    from datasets.exceptions import DatasetGenerationError
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, DatasetGenerationError, JSONDecodeError, OSError, TarError) as error:
        cause = error.__cause__ if isinstance(error, DatasetGenerationError) and error.__cause__ else error
        if isinstance(cause, OSError) and (type(cause) is not OSError or cause.errno):  # not one of Arrow
            raise cause from None
        raise ValueError(f"{files} cannot be read ({cause}): fetch what is damaged again") from error


def _open(
    datasets: Any, place: str | Mapping[str, Any], config: str | None, revision: str | None, streaming: bool
) -> Opened:
    if isinstance(place, str) and any(Path(place, mark).is_file() for mark in SAVED):
        return _from_disk(datasets.load_from_disk(place), Path(place))
    builder = _builder(datasets, place, config, revision)
    found = builder.config.data_files
    files = {split: known_by(part, part.origin_metadata) for split, part in found.items()}
    if not streaming:
        builder.download_and_prepare()
        return Opened(_name(place), builder.as_dataset(), files, None)

    def narrow(split: str, columns: Sequence[str]) -> Any:
        again = _builder(datasets, place, config, revision)
        if _kind(again) == "parquet":
            again.config.columns = list(columns)
        return again.as_streaming_dataset(split=split).select_columns(list(columns))

    return Opened(_name(place), builder.as_streaming_dataset(), files, narrow)


def import_datasets() -> Any:
    """Return the package.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "data=huggingface reads with the package datasets, which is not installed: "
            "pip install -e '.[datasets]'"
        ) from error
    return datasets


def _builder(datasets: Any, path: str | Mapping[str, Any], config: str | None, revision: str | None) -> Any:
    if isinstance(path, Mapping) or has_magic(path) or Path(path).is_file():
        return _builder_of_files(datasets, path if isinstance(path, Mapping) else {"train": path})
    if path[:1] in "/." and not Path(path).is_dir():
        raise FileNotFoundError(
            f"data.path: no folder {path}; it names files, a folder, or a data set on the Hub"
        )
    builder = datasets.load_dataset_builder(path, config, revision=revision)
    if _kind(builder) not in SAFE:
        readers = ", ".join(sorted(SAFE))
        raise ValueError(f"data.path: {path} is read as {_kind(builder)}; images are read as {readers}")
    return builder


def _builder_of_files(datasets: Any, path: Mapping[str, Any]) -> Any:
    files = {split: _expand(part) for split, part in path.items()}
    kinds = sorted({Path(file).suffix for part in files.values() for file in part})
    if len(kinds) != 1 or kinds[0] not in BUILDERS:
        raise ValueError(f"data.path must name files of one of {', '.join(BUILDERS)}, got {', '.join(kinds)}")
    return datasets.load_dataset_builder(BUILDERS[kinds[0]], data_files=files)


def _kind(builder: Any) -> str:
    """Return the reader, such as `parquet`."""
    return str(type(builder).__module__).rsplit(".", 1)[-1]


def _expand(part: str | Sequence[str]) -> list[str]:
    files: list[str] = []
    for pattern in [part] if isinstance(part, str) else part:
        found = sorted(glob(os.path.expanduser(pattern), recursive=True))
        if not found and "://" not in pattern:
            raise FileNotFoundError(f"data.path: no file matches {pattern}")
        if others := [file for file in found if not os.path.isfile(file)]:
            raise ValueError(f"data.path: {others[0]} is no regular file; {pattern} must match files alone")
        files += found or [pattern]
    return files


def _name(path: Any) -> str:
    if isinstance(path, Mapping):
        return _name(next(iter(path.values())))
    if not isinstance(path, str):
        return _name(path[0])
    parts = [part for part in Path(path).parts if not has_magic(part) and part != "/"]
    return "-".join(Path(part).stem for part in parts[-2:]) or "data"


def _from_disk(found: Any, folder: Path) -> Opened:
    """Return what `save_to_disk` left: it is mapped into memory where it lies."""
    splits = dict(found) if isinstance(found, dict) else {"train": found}
    folders = {split: folder / split if isinstance(found, dict) else folder for split in splits}
    files = {split: known_by(sorted(map(str, part.glob("*.arrow")))) for split, part in folders.items()}
    return Opened(_name(str(folder)), splits, files, None)


def known_by(files: Sequence[str], origin: Sequence[Sequence[str]] = ()) -> list[Any]:
    """Return what identifies files, wherever they lie.

    Args:
        files: paths or addresses.
        origin: for each address, what its server says of it, such as a repository and commit.

    Returns:
        For a path, its name below the common folder, its size and the hash of its content (`content_hashes`);
        for an address, the address and its origin.
    """
    local = [file for file in files if "://" not in file]
    root = os.path.commonpath([os.path.dirname(file) for file in local]) if local else ""
    contents = dict(zip(local, content_hashes(root, local), strict=True)) if local else {}
    return [
        [os.path.relpath(file, root), os.stat(file).st_size, contents[file]]
        if file in contents
        else [file, *known]
        for file, known in zip(files, origin or [()] * len(files), strict=True)
    ]
