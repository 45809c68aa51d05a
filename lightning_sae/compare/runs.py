"""Runs beside each other, read from their files alone: no tracker, no CLIP, no data."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from lightning_sae.baselines.comparison import BaselineTable
from lightning_sae.baselines.shown import read_baselines
from lightning_sae.compare.checks import check_card, check_table
from lightning_sae.files import user_path
from lightning_sae.runs.folder import RunFolder, T, flat
from lightning_sae.training.settings import CONFIG, ERROR
from lightning_sae.trust.control_characters import visible

TABLES = (
    *("latents", "attribution", "reliance", "reliance_groups", "faithfulness", "truth"),
    "baselines",
)
_FINISHED = {
    "metrics.csv": "logger.csv",
    "latents.csv": "callbacks.latent_table",
    "sae/cfg.json": "callbacks.save_sae",
}
"""What a finished run has -> the part of its config that writes it."""


class Run(RunFolder):
    """A run among others: a damaged file counts as one that is not there, and `missing` names it.

    Attributes:
        name: its folder, as short as it can be told from the others, for people (`visible`).
    """

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder)
        self.name = name
        self._damaged: list[str] = []

    def _read(self, name: str, read: Callable[[Path], T], empty: T) -> T:
        try:
            found = super()._read(name, read, empty)
            if isinstance(found, pd.DataFrame):
                check_table(Path(name).stem, found)
            elif name == "sae/cfg.json":
                check_card(found)  # type: ignore[arg-type]
            return found
        except (OSError, ValueError) as error:
            self._damaged.append(f"{name} cannot be read ({_first_line(error)})")
            return empty

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """Key of the configuration -> value, flat; a group's key (`clip`) has the chosen file."""
        return {**flat(self.config), **self.choices}

    @cached_property
    def baselines(self) -> BaselineTable:
        """Its numbers beside those of dictionaries that learned nothing; no rows where it has none."""
        return read_baselines(self.table("baselines"))

    @cached_property
    def missing(self) -> list[str]:
        """Files that a finished run has and this one lacks or cannot read; for a failed job, the cause."""
        if self.failed:
            return [f"failed: {self.failed}"]
        if not (self.folder / CONFIG).is_file():
            return [f"{CONFIG}: the job never started"]
        _ = self.recipe, self.overrides, self.metrics, [self.table(name) for name in TABLES], self.card
        return [*self._damaged, *self._lacking()]

    @cached_property
    def failed(self) -> str:
        """The error that the sweep kept of a failed job, in one line; "" where there is none."""
        path = self.folder / ERROR
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        return visible(text.strip().splitlines()[-1]) if text.strip() else ""

    @property
    def why(self) -> str:
        """Why it is not finished, in one line."""
        words = "; ".join(self.missing)
        return words if self.failed else f"missing {words}"

    @property
    def finished(self) -> bool:
        """True if all is there."""
        return not self.missing

    def _lacking(self) -> Iterator[str]:
        """Yield the files that the configuration promises and that are not there."""
        for name, writer in _FINISHED.items():
            promised = any(key.startswith(f"{writer}.") for key in self.recipe)
            if name == "sae/cfg.json":
                promised &= self.recipe.get("task", "fit") == "fit"
            if promised and not (self.folder / name).is_file():
                yield f"{name}{self._progress() if name == 'sae/cfg.json' else ''}"
        if (self.folder / "metrics.csv").is_file() and "val/fvu" not in self.metrics:
            yield "a validation pass in metrics.csv"

    def _progress(self) -> str:
        steps, most = self.metrics.get("step"), self.recipe.get("trainer.max_steps", -1)
        if steps is None:
            return ": no step yet"
        of = f" of {most}" if isinstance(most, int) and most > 0 else ""
        return f": training did not end, last seen at step {steps + 1:.0f}{of}"


def read_runs(folders: Sequence[str | Path]) -> list[Run]:
    """Read the runs below some folders, in the order of their paths.

    Args:
        folders: run folders, or folders of them such as that of a multirun.

    Raises:
        FileNotFoundError: a folder is not there, or there is no run in or below it.
    """
    found = list(dict.fromkeys(path for folder in folders for path in _find(user_path(folder))))
    root = common_folder(found)
    return [Run(path, visible(str(path.relative_to(root)))) for path in found]


def _find(folder: Path) -> list[Path]:
    """Run folders, and folders of jobs of a multirun that never started."""
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    found = sorted(_walk(folder.resolve()), key=_natural)
    if not any((path / CONFIG).is_file() for path in found):
        raise FileNotFoundError(
            f"no run in or below {folder}, {CONFIG} is nowhere: name run folders or the folder of a multirun"
        )
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for path, names, files in os.walk(folder):
        here = Path(path)
        if (here / CONFIG).is_file():
            names.clear()  # a run holds no other
            yield here
        elif "multirun.yaml" in files:
            yield from (here / name for name in names if name.isdigit() and not _holds_run(here / name))


def _holds_run(folder: Path) -> bool:
    return next(folder.rglob(str(CONFIG)), None) is not None


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Return the numbers in a path by their size: job 10 comes after job 9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in path.parts]


def common_folder(folders: Sequence[Path]) -> Path:
    """Return the nearest folder that holds all of some folders.

    Example:
        >>> str(common_folder([Path("/a/b/0"), Path("/a/c/1")])), str(common_folder([Path("/a/b")]))
        ('/a', '/a')
    """
    return Path(os.path.commonpath([path.parent for path in folders]))


def _first_line(error: Exception) -> str:
    return visible(str(error).strip().splitlines()[0]) if str(error).strip() else type(error).__name__
