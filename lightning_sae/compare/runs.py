"""Run folders, read from their files alone: no tracker, no CLIP, no data."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from lightning_sae.compare.checks import check_card, check_table
from lightning_sae.files import user_path
from lightning_sae.mappings import flatten
from lightning_sae.training.settings import CONFIG
from lightning_sae.trust.control_characters import visible
from lightning_sae.trust.documents import read_config, read_json, read_yaml_list
from lightning_sae.trust.tables import read_table

TABLES = ("latents", "attribution", "reliance", "reliance_groups", "faithfulness", "truth")
_TEXTS = ("label", "second_label", "class", "attribution_class", "unexpected_class", "value", "top_images")
CHOICES = "hydra.runtime.choices."
_FINISHED = {
    "metrics.csv": "logger.csv",
    "latents.csv": "callbacks.latent_table",
    "sae/cfg.json": "callbacks.save_sae",
}
"""What a finished run has -> the part of its config that writes it."""


@dataclass(frozen=True)
class Run:
    """What the files of a run say.

    Attributes:
        folder: where it lies.
        name: its folder, as short as it can be told from the others, for people (`visible`).
        config: key -> value, flat, interpolations as they stand; a group's key (`clip`) has the chosen file.
        overrides: what its command line said.
        metrics: key -> last value in `metrics.csv`.
        tables: name -> the CSV files that are there, of `TABLES`.
        card: `sae/cfg.json`.
        missing: what a finished run would have, or what cannot be read.
    """

    folder: Path
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether all is there."""
        return not self.missing

    def table(self, name: str) -> pd.DataFrame:
        """One of `TABLES`; empty where the run has none."""
        return self.tables.get(name, pd.DataFrame())


def read_runs(folders: Sequence[str | Path]) -> list[Run]:
    """Reads the runs below some folders, in the order of their paths.

    Args:
        folders: run folders, or folders of them such as that of a multirun.

    Raises:
        FileNotFoundError: a folder is not there, or there is no run in or below it.
    """
    found = list(dict.fromkeys(path for folder in folders for path in _find(user_path(folder))))
    root = common_folder(found)
    return [_read(path, visible(str(path.relative_to(root)))) for path in found]


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
    """Numbers in a path by their size: job 10 comes after job 9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in path.parts]


def common_folder(folders: Sequence[Path]) -> Path:
    """The nearest folder that holds all of some folders.

    Example:
        >>> str(common_folder([Path("/a/b/0"), Path("/a/c/1")])), str(common_folder([Path("/a/b")]))
        ('/a', '/a')
    """
    return Path(os.path.commonpath([path.parent for path in folders]))


def _read(folder: Path, name: str) -> Run:
    run = Run(folder, name)
    if not (folder / CONFIG).is_file():
        run.missing.append(f"{CONFIG}: the job never started")
        return run
    _read_config(run)
    _read_metrics(run)
    for table in TABLES:
        if (frame := _read_csv(run, f"{table}.csv")) is not None:
            run.tables[table] = frame
    run.card.update(_read_json(run, "sae/cfg.json"))
    run.missing.extend(_lacking(run))
    return run


def _read_config(run: Run) -> None:
    try:
        config: Any = OmegaConf.to_container(read_config(run.folder / CONFIG))
        run.config.update(flatten(config))
        run.config.update(_choices(run.folder / ".hydra" / "hydra.yaml"))
        overrides = run.folder / ".hydra" / "overrides.yaml"
        if overrides.is_file():
            run.overrides.extend(str(word) for word in read_yaml_list(overrides))
    except (OSError, ValueError) as error:
        run.missing.append(f".hydra cannot be read ({_first_line(error)})")


def _choices(path: Path) -> dict[str, str]:
    """Which file of each group was chosen; the groups of Hydra itself left out."""
    if not path.is_file():
        return {}
    config: Any = OmegaConf.to_container(read_config(path))
    chosen = {
        key.removeprefix(CHOICES): name for key, name in flatten(config).items() if key.startswith(CHOICES)
    }
    return {
        group: str(name)
        for group, name in chosen.items()
        if name is not None and not group.startswith("hydra/")
    }


def _read_metrics(run: Run) -> None:
    """The last value of each key."""
    table = _read_csv(run, "metrics.csv")
    if table is None:
        return
    for key in table.columns:
        values = pd.to_numeric(table[key], errors="coerce").dropna()
        if len(values):
            run.metrics[str(key)] = float(values.iloc[-1])


def _read_csv(run: Run, name: str) -> pd.DataFrame | None:
    path = run.folder / name
    if not path.is_file():
        return None
    try:
        table = read_table(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(_TEXTS, str))
        check_table(path.stem, table)
        return table.fillna({column: "" for column in _TEXTS if column in table})
    except (ValueError, OSError) as error:
        run.missing.append(f"{name} cannot be read ({_first_line(error)})")
        return None


def _read_json(run: Run, name: str) -> dict[str, Any]:
    path = run.folder / name
    if not path.is_file():
        return {}
    try:
        card = read_json(path)
        check_card(card)
        return card
    except (ValueError, OSError) as error:
        run.missing.append(f"{name} cannot be read ({_first_line(error)})")
        return {}


def _lacking(run: Run) -> Iterator[str]:
    """What the run's config promises and is not there."""
    for name, writer in _FINISHED.items():
        promised = any(key.startswith(f"{writer}.") for key in run.config)
        if name == "sae/cfg.json":
            promised &= run.config.get("task", "fit") == "fit"
        if promised and not (run.folder / name).is_file():
            yield f"{name}{_progress(run) if name == 'sae/cfg.json' else ''}"
    if (run.folder / "metrics.csv").is_file() and "val/fvu" not in run.metrics:
        yield "a validation pass in metrics.csv"


def _progress(run: Run) -> str:
    steps, most = run.metrics.get("step"), run.config.get("trainer.max_steps", -1)
    if steps is None:
        return ": no step yet"
    of = f" of {most}" if isinstance(most, int) and most > 0 else ""
    return f": training did not end, last seen at step {steps + 1:.0f}{of}"


def _first_line(error: Exception) -> str:
    return visible(str(error).strip().splitlines()[0]) if str(error).strip() else type(error).__name__
