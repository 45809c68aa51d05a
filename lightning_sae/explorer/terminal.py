"""The page of a run on the terminal: where it lies."""

from pathlib import Path

from rich.console import Console

from lightning_sae.runs.folder import RunFolder
from lightning_sae.trust.control_characters import escape


def print_page(console: Console, run: RunFolder, path: Path) -> None:
    """Print what the page shows and where it lies."""
    size = path.stat().st_size / 1e6
    said = f"{len(run.latents)} latents, {len(run.data.class_names)} classes ({size:.1f} MB)"
    console.print(f"{said}: {escape(str(path))}", soft_wrap=True, highlight=False)
