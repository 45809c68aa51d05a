"""`lightning-sae train`."""

import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from lightning_sae.home import STARTED_BY, home, make_importable


def train(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORD", help="all words of Hydra, as of `python train.py`"),
    ] = None,
) -> None:
    """Train an autoencoder on a CLIP layer; all words of Hydra, --help lists them."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until Lightning's own, which leaves a checkpoint
    folder = home()
    make_importable(folder, Path.cwd())
    os.environ[STARTED_BY] = "lightning-sae train"
    sys.argv = [str(folder / "train.py"), *(words or ())]  # processes of one training are started by it
    runpy.run_path(sys.argv[0], run_name="__main__")
