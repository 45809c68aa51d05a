"""What a run found, in a few lines on the terminal."""

import math

import pandas as pd
from lightning.pytorch import LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from callbacks.base import Pass, PassCallback
from lightning_sae.attribution.reliance import ClassReliance
from lightning_sae.baselines import shown
from lightning_sae.baselines.comparison import BaselineTable
from lightning_sae.classifiers.comparison import ProbeComparison
from lightning_sae.clip import clip_titles
from lightning_sae.concepts.naming import names_of
from lightning_sae.tracking.publish import run_dir
from lightning_sae.tracking.values import VALUES
from lightning_sae.training.trained_layer import TrainedLayer
from lightning_sae.trust.control_characters import escape


class Summary(PassCallback):
    """Prints the last values, those of baselines, the most unexpected reliance, and where all of it lies.

    Args:
        classes: how many classes with unexpected reliance are named.
    """

    logs = ()

    def __init__(self, classes: int = 5) -> None:
        self.classes = classes

    def report(self, pass_: Pass) -> None:
        """Print at the end of a validation that is no part of a training."""
        if not pass_.fitting:
            self._print(pass_)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print at the end of the training."""
        self._print(self.current or Pass(trainer, pl_module))

    def _print(self, pass_: Pass) -> None:
        if not pass_.trainer.is_global_zero:
            return
        console = Console()
        console.print()
        metrics = {key: float(value) for key, value in pass_.trainer.callback_metrics.items()}
        *earlier, own = pass_.module.layers
        said = lines(metrics | _end_values(own, metrics))
        for layer in earlier:
            said += lines(_end_values(layer, metrics), layer.name)
        for line in said:
            console.print(line, highlight=False)
        baselines = pass_.get(BaselineTable)
        if baselines is not None and (table := shown.terminal(baselines)) is not None:
            console.print(table)
        reliance, comparison = pass_.get(ClassReliance), pass_.get(ProbeComparison)
        if reliance is not None and len(reliance.culprits):
            console.print(culprit_table(reliance.culprits, self.classes))
        if comparison is not None:
            console.print(escape(comparison.sentence()), highlight=False, soft_wrap=True)
        if pass_.data.clip.random_seed is not None:
            title = escape(clip_titles(pass_.data.clip)[0])
            console.print(f"{title}: CLIP has learned nothing, and this is a baseline", highlight=False)
        folder = escape(str(run_dir(pass_.trainer)))
        console.print(f"Everything lies in [bold]{folder}[/bold]", soft_wrap=True)


def _end_values(layer: TrainedLayer, metrics: dict[str, float]) -> dict[str, float]:
    """Return the last values of one autoencoder; `val/fvu` is NaN where a layer norm makes it misleading."""
    values = layer.values_in(metrics)
    if layer.metrics.dead is not None:
        values["train/dead_fraction"] = float(layer.metrics.dead.float().mean())
    if "val/fvu_layer_norm" in values:
        values["val/fvu"] = math.nan
    return values


def lines(metrics: dict[str, float], title: str = "") -> list[str]:
    """Return the last values as sentences; what was not logged is left out.

    Args:
        metrics: the values.
        title: title of all lines, in place of the titles that the values have.

    Example:
        >>> lines({"val/fvu": 0.0312, "zero_shot/original": 0.9, "zero_shot/spliced": 0.875})
        ['reconstruction  FVU 0.031', 'zero-shot       90.0 % right, 87.5 % with the SAE spliced in']
    """
    found: dict[str, list[str]] = {}
    for key, value in VALUES.items():
        if value.summary and not math.isnan(metrics.get(key, math.nan)):
            own, words = value.summary
            found.setdefault(title or own, []).append(words.format(metrics[key]).replace("%", " %"))
    return [f"{name:<15} {', '.join(parts)}" for name, parts in found.items()]


def culprit_table(culprits: pd.DataFrame, classes: int) -> Table:
    """Return a table of the classes with the largest unexpected share.

    Each class has one row, with what its culprits are called.
    """
    table = Table("class", "unexpected", "driven by, without meaning the class", title="Unexpected reliance")
    for name, rows in list(culprits.groupby("class", sort=False))[:classes]:
        called = zip(names_of(rows), rows["share"], strict=True)
        words = [f"{latent.markup()} ({share:.0%})" for latent, share in called]
        table.add_row(escape(str(name)), f"{rows['class_share'].iloc[0]:.0%}", ", ".join(words))
    return table
