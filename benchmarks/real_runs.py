"""Runs on real pictures, by the user's own command."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def train_run(run: Path, table: Path, clip: Path, judge: Path | None, words: Path, store: Path, seed: int, more: Sequence[str] = ()) -> Path:
    """Trains an autoencoder with every callback, unless the run is there; `judge` `None` is the CLIP itself."""
    if (run / "sae").exists():
        return run
    overrides = ["clip=open_clip", f"clip.model={clip.with_suffix('.json')}", f"clip.pretrained={clip}"]
    if judge:
        overrides += ["clip@data.judge=open_clip", f"data.judge.model={judge.with_suffix('.json')}", f"data.judge.pretrained={judge}"]
    overrides += ["data=table", f"data.path={table}", f"data.store_dir={store}"]
    overrides += ["labels=file", f"labels.path={words}", f"seed={seed}", "logger=csv", "callbacks.progress.refresh_rate=0"]
    command = [sys.executable, "train.py", *overrides, *more, f"hydra.run.dir={run}"]
    run.mkdir(parents=True, exist_ok=True)
    with open(run / "output.txt", "w") as output:
        subprocess.run(command, cwd=ROOT, check=True, stdout=output, stderr=subprocess.STDOUT)
    return run
