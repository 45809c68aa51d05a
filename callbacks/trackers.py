"""What trackers are handed beside curves and pictures: tables, pages and files of the run folder."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from rich.console import Console

from callbacks.base import Pass, PassCallback
from lightning_sae.files import gigabytes
from lightning_sae.tracking.publish import publish_files, publish_pages, publish_tables, run_dir, trackers
from lightning_sae.tracking.tracker import cannot_show
from lightning_sae.trust.control_characters import escape

FILES = {
    "sae": ["sae/*"],
    "tables": ["*.csv"],
    "pictures": ["pictures/*"],
    "pages": ["*.html", "audit.json"],
}


class Trackers(PassCallback):
    """Hands the trackers what the run folder holds, when a training or a validation has ended.

    Tables, pages and files are of the last pass: else a tracker would keep a version of each for every pass.
    Where another pass was the best, by the callback best_checkpoint, its checkpoint is handed over as well.
    What a tracker cannot show is named in a line.

    Args:
        files: name of an artifact -> patterns of its files in the run folder.
        max_gb: size of an artifact; a larger one stays in the run folder, and a line says so.
        every: also show the tables after every so many validation passes; 0: at the end alone.
    """

    logs = ()

    def __init__(
        self, files: Mapping[str, Sequence[str]] = FILES, max_gb: float = 1.0, every: int = 0
    ) -> None:
        if max_gb < 0 or every < 0:
            raise ValueError(f"max_gb and every must be at least 0, got {max_gb} and {every}")
        self.files, self.max_gb, self.every = dict(files), max_gb, every

    def report(self, pass_: Pass) -> None:
        """Show the tables in between, if asked to."""
        if pass_.fitting and not pass_.is_last:
            publish_tables(pass_.trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hand everything over: all callbacks have written their files."""
        if not trainer.is_global_zero:
            return
        publish_tables(trainer)
        publish_pages(trainer)
        for name, files, aliases in self._artifacts(trainer):
            self._publish(trainer, name, files, aliases)
        for line in missing(trainer):
            Console().print(line, highlight=False, soft_wrap=True)

    def _artifacts(self, trainer: Trainer) -> Iterator[tuple[str, dict[str, Path], list[str]]]:
        folder, best = run_dir(trainer), other_best(trainer)
        for name, patterns in self.files.items():
            found = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
            files = {path.relative_to(folder).as_posix(): path for path in found}
            yield name, files, ["last"] if best else ["last", "best"]
        if best:
            yield "best", {f"checkpoints/{best.name}": best}, ["best"]

    def _publish(self, trainer: Trainer, name: str, files: dict[str, Path], aliases: list[str]) -> None:
        size = sum(path.stat().st_size for path in files.values())
        if size > self.max_gb * 1e9 and any("files" not in tracker.lacks for tracker in trackers(trainer)):
            stays = f"{name} ({gigabytes(size)}) stays in {run_dir(trainer)}"
            print(f"{stays}: trackers are handed more with callbacks.trackers.max_gb")
        elif files:
            publish_files(trainer, name, files, aliases)


def other_best(trainer: Trainer) -> Path | None:
    """Return the checkpoint of the best pass, where that is not the last one."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.best_model_path:
            last = trainer.callback_metrics.get(str(callback.monitor))
            return None if last == callback.best_model_score else Path(callback.best_model_path)
    return None


def missing(trainer: Trainer) -> list[str]:
    """Return a line for each logger that cannot show everything."""
    folder = escape(str(run_dir(trainer)))
    return [
        f"{type(logger).__name__.removeprefix('Run')} cannot show {', '.join(kinds)}; they lie in {folder}"
        for logger in trainer.loggers
        if (kinds := cannot_show(logger))
    ]
