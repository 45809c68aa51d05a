"""The linear probe of a run on the terminal."""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from lightning_sae.classifiers.saved_probe import SavedProbe
from lightning_sae.data import ActivationDataModule
from lightning_sae.runs.probe import examples
from lightning_sae.trust.control_characters import escape


def print_probe(console: Console, data: ActivationDataModule, saved: SavedProbe, folder: Path) -> None:
    """Print how well it recognises each class and all of them, and where it lies."""
    console.print(recall_table(data, saved))
    console.print(
        f"val: {saved.provenance['val_accuracy']:.1%} right, mean over classes "
        f"{saved.provenance['val_balanced_accuracy']:.1%}"
    )
    console.print(f"probe: {escape(str(folder))}", soft_wrap=True, highlight=False)


def recall_table(data: ActivationDataModule, saved: SavedProbe) -> Table:
    """Return a table with a row per class, about how well the probe recognises it.

    The columns are the images of the class in `train` and in `val`, the share of its `val` images that is
    recognised, and how many other images are taken for it.
    """
    val, train = examples(data, "val"), data.images("train").targets
    predicted = saved.probe.predict(val.embeddings)
    table = Table("class", box=box.SIMPLE_HEAD, show_edge=False)
    for name in ("train", "val", "right", "called so\nin error"):
        table.add_column(name, justify="right")
    for c, name in enumerate(saved.class_names):
        own, named = val.targets == c, predicted == c
        wrong = named & ~own & (val.targets >= 0)
        counts = f"{int((train == c).sum())}", f"{int(own.sum())}"
        table.add_row(escape(name), *counts, f"{(named & own).sum() / own.sum():.0%}", f"{int(wrong.sum())}")
    return table
