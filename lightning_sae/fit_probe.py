"""Fits a linear probe to the train embeddings of a run, and saves it: a classifier that can be audited.

`python -m lightning_sae.fit_probe RUN --out DIR`
"""

import argparse
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from lightning_sae.classifiers.saved_probe import SavedProbe, save_probe
from lightning_sae.data import ActivationDataModule
from lightning_sae.errors import one_line_errors
from lightning_sae.files import user_path
from lightning_sae.runs.command import command_on_a_run, open_named
from lightning_sae.runs.probe import examples, probe_of
from lightning_sae.trust.control_characters import escape


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, save and print; what the user can mend ends in one message."""
    parser = command_on_a_run("fit_probe", __doc__)
    parser.add_argument("--out", type=user_path, required=True, help="folder of the probe")
    parser.add_argument("--inverse-l2", type=float, default=100.0, help="weight of the data (100)")
    parser.add_argument("--balanced", action="store_true", help="all classes weigh the same")
    options = parser.parse_intermixed_args(arguments)
    with one_line_errors():
        _run(options)


def _run(options: argparse.Namespace) -> None:
    data = open_named(options).data
    if data.clip.reads_texts:
        raise ValueError(f"{options.run} is a run on texts: a probe classifies images")
    saved = probe_of(data, options.inverse_l2, options.balanced)
    save_probe(*saved, options.out)
    console = Console()
    console.print(recall_table(data, saved))
    console.print(
        f"val: {saved.provenance['val_accuracy']:.1%} right, mean over classes "
        f"{saved.provenance['val_balanced_accuracy']:.1%}"
    )
    console.print(f"probe: {escape(str(options.out))}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
