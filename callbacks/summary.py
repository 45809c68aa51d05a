"""What a run found, in a few lines on the terminal."""

import math

import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from callbacks.parts import find, sae_of
from callbacks.probe_vs_prompt import ProbeVsPrompt
from callbacks.reliance import UnexpectedReliance
from lightning_sae.concepts.naming import names_of
from lightning_sae.tracking.publish import run_dir
from lightning_sae.tracking.values import VALUES
from lightning_sae.trust.control_characters import escape


class Summary(Callback):
    """Prints the last values, the classes with the most unexpected reliance, and where everything lies.

    Args:
        classes: how many classes with unexpected reliance are named.
    """

    def __init__(self, classes: int = 5) -> None:
        self.classes = classes

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """At the end of the training."""
        self._print(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """At the end of a validation that is no part of a training."""
        if trainer.state.fn == "validate":
            self._print(trainer, pl_module)

    def _print(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        console = Console()
        console.print()
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        if (dead := sae_of(pl_module).dead) is not None:
            metrics["train/dead_fraction"] = float(dead.float().mean())
        if "val/fvu_layer_norm" in metrics:
            del metrics["val/fvu"]
        for line in lines(metrics):
            console.print(line, highlight=False)
        reliance = find(trainer, UnexpectedReliance)
        if reliance is not None and len(culprits := reliance.table):
            console.print(culprit_table(culprits, self.classes))
        comparison = find(trainer, ProbeVsPrompt)
        if comparison is not None and (sentence := comparison.sentence()):
            console.print(escape(sentence), highlight=False, soft_wrap=True)
        console.print(f"Everything lies in [bold]{escape(str(run_dir(trainer)))}[/bold]", soft_wrap=True)


def lines(metrics: dict[str, float]) -> list[str]:
    """The last values as sentences; what was not logged is left out.

    Example:
        >>> lines({"val/fvu": 0.0312, "zero_shot/original": 0.9, "zero_shot/spliced": 0.875})
        ['reconstruction  FVU 0.031', 'zero-shot       90.0 % right, 87.5 % with the SAE spliced in']
    """
    found: dict[str, list[str]] = {}
    for key, value in VALUES.items():
        if value.summary and not math.isnan(metrics.get(key, math.nan)):
            title, words = value.summary
            found.setdefault(title, []).append(words.format(metrics[key]).replace("%", " %"))
    return [f"{title:<16}{', '.join(parts)}" for title, parts in found.items()]


def culprit_table(culprits: pd.DataFrame, classes: int) -> Table:
    """The classes with the largest unexpected share, a row each, with what their culprits are called."""
    table = Table("class", "unexpected", "driven by, without meaning the class", title="Unexpected reliance")
    for name, rows in list(culprits.groupby("class", sort=False))[:classes]:
        called = zip(names_of(rows), rows["share"], strict=True)
        words = [f"{latent.markup()} ({share:.0%})" for latent, share in called]
        table.add_row(escape(str(name)), f"{rows['class_share'].iloc[0]:.0%}", ", ".join(words))
    return table
