"""A run as its peers see it: what `lightning-sae sae convert RUN/sae DIR --to saelens` writes, and data."""

import argparse
import importlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch import Tensor

from lightning_sae.runs.folder import RunFolder, open_run
from lightning_sae.sae.exchange import export_sae
from lightning_sae.types import SparseLatents

Line = tuple[str, float | Tensor, float | Tensor, str]  # score, theirs, ours, what ours is


class Exported(NamedTuple):
    """A run with its validation images.

    Attributes:
        run: the folder.
        x: `[n, t, d_in]` raw activations of all tokens of `n` images, in order.
        targets: `[n]` classes.
        latents: of the `n * t` tokens, by this library.
        x_hat: `[n * t, d_in]`, the same.
    """

    run: RunFolder
    x: Tensor
    targets: Tensor
    latents: SparseLatents
    x_hat: Tensor

    @property
    def tokens(self) -> Tensor:
        """`[n * t, d_in]` activations, token by token."""
        return self.x.flatten(0, 1)


@torch.no_grad()
def load_exported(folder: Path) -> Exported:
    """Return a run with its validation images; what its store lacks is captured."""
    run = open_run(folder, device=torch.device("cpu"))
    run.data.prepare_data()
    run.data.setup("validate")
    batches = list(run.data.val_dataloader())
    x = torch.cat([batch.x for batch in batches])
    x_hat, latents = run.sae(x)
    t = run.data.shape.tokens
    targets = torch.cat([batch.targets for batch in batches])[::t]
    return Exported(run, x.view(-1, t, x.shape[1]), targets, latents, x_hat)


def saelens_folder(exported: Exported, within: str) -> Path:
    """Return the folder of the autoencoder as SAELens has it."""
    folder = Path(within, "saelens")
    export_sae(exported.run.sae, folder, "saelens")
    return folder


def saelens_parts(exported: Exported) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return configuration and tensors of the same."""
    with tempfile.TemporaryDirectory() as within:
        folder = saelens_folder(exported, within)
        config: dict[str, Any] = json.loads((folder / "cfg.json").read_text())
        return config, load_file(folder / "sae_weights.safetensors")


def print_lines(title: str, theirs: str, lines: list[Line], cannot: dict[str, str]) -> None:
    """Print scores side by side, and what cannot be computed."""
    table = Table("score", theirs, "ours", "what ours is", title=title)
    for name, their, our, words in lines:
        table.add_row(name, f"{float(their):.6g}", f"{float(our):.6g}", words)
    console = Console()
    console.print(table)
    for name, reason in cannot.items():
        console.print(f"not run: {name}: {reason}", highlight=False)


def compare_with(
    package: str, title: str, about: str, scores: Callable[[Exported], list[Line]], cannot: dict[str, str]
) -> None:
    """Print the scores of a peer beside ours on the run that the command line names; skipped without it.

    Args:
        package: of the peer.
        title: what it is called.
        about: the help of the command.
        scores: what is compared.
        cannot: name of a score -> why it is not computed.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run on images")
    options = parser.parse_args()
    try:
        theirs = importlib.import_module(package)
    except ModuleNotFoundError as error:
        sys.exit(f"skipped: {error}. Install it into an environment of its own, as the first lines here say")
    print_lines(str(options.run), f"{title} {theirs.__version__}", scores(load_exported(options.run)), cannot)
