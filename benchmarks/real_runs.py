"""CLIPs, tables and runs on real pictures: made by the user's own commands, and kept."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import small_clip
from pictured import JUDGE, Source, write_table

from lightning_sae.world.pretrain import PretrainRecipe

ROOT = Path(__file__).resolve().parents[1]


class Case(NamedTuple):
    """A run that is measured.

    Attributes:
        edition: of the CLIP and its pictures.
        variant: of the table.
        seed: of the CLIP and of the autoencoder.
        own_judge: whether the audited CLIP judges itself, as it does where no judge is named.
    """

    edition: str
    variant: str
    seed: int
    own_judge: bool = False

    @property
    def name(self) -> str:
        """The name of the case in file names."""
        return f"{self.edition}-{self.variant}{'-itself' if self.own_judge else ''}-seed{self.seed}"


def clip(source: Source, edition: str, seed: int, out: Path) -> Path:
    """Return the weights of a CLIP, its model config beside them, trained if they are not there.

    Raises:
        ValueError: the weights are there, and were trained in another way.
    """
    path = out / "clips" / f"{source.name}-{edition}-seed{seed}.safetensors"
    judge, noted = edition == JUDGE, path.with_suffix(".training.json")
    steps, bfloat16 = (source.judge_steps, False) if judge else (source.steps, source.bfloat16)
    way = {"steps": steps, "bfloat16": bfloat16}
    if not path.exists():
        taught = source.draw("train", edition, "biased", None)
        recipe = PretrainRecipe(
            steps, 128, len(taught.pixels), lr=3e-3, weight_decay=0.05, strangers=0, seed=seed, start=""
        )
        shape = small_clip.config(taught.pixels.shape[1], source.patch_size)
        small_clip.save(small_clip.train(taught, shape, recipe, bfloat16), shape, path)
        noted.write_text(json.dumps(way) + "\n", encoding="utf-8")
    found = json.loads(noted.read_text(encoding="utf-8")) if noted.exists() else "in a way that is not noted"
    if found != way:
        raise ValueError(f"{path} was trained {found}, and not {way}: choose another --out, or delete it")
    return path


def table(source: Source, edition: str, variant: str, out: Path) -> Path:
    """Return the table of the pictures of an edition, written if it is not there."""
    folder = out / "tables" / f"{source.name}-{edition}-{variant}"
    if not (folder / "pictures.csv").exists():
        splits = {split: source.draw(split, edition, variant, n) for split, n in source.sizes.items()}
        write_table(folder, splits)
    return folder / "pictures.csv"


def run(source: Source, case: Case, out: Path) -> Path:
    """Return the folder of a run, by the user's own command if it is not there."""
    folder = out / "runs" / f"{source.name}-{case.name}"
    if not (folder / "sae").exists():
        train(folder, arguments(source, case, out))
    return folder


def arguments(source: Source, case: Case, out: Path) -> list[str]:
    """Return the arguments of a run; its CLIPs and its table are made if they are not there."""
    words = out / f"{source.name}.txt"
    words.write_text("\n".join(source.words) + "\n", encoding="utf-8")
    overrides = clip_arguments("clip", "clip", clip(source, case.edition, case.seed, out))
    if not case.own_judge:
        overrides += clip_arguments("clip@data.judge", "data.judge", clip(source, JUDGE, 0, out))
    overrides += ["data=table", f"data.path={table(source, case.edition, case.variant, out)}"]
    overrides += ["labels=file", f"labels.path={words}", f"seed={case.seed}"]
    return [*overrides, f"data.store_dir={out / 'store'}"]


def clip_arguments(group: str, key: str, weights: Path) -> list[str]:
    """Return the arguments of train.py that name a CLIP."""
    return [
        f"{group}=open_clip",
        f"{key}.model={weights.with_suffix('.json')}",
        f"{key}.pretrained={weights}",
    ]


def train(folder: Path, overrides: Sequence[str]) -> None:
    """Run the user's command; what it says goes to `output.txt`.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    quiet = ["logger=csv", "callbacks.progress.refresh_rate=0"]
    command = [sys.executable, "train.py", *overrides, *quiet, f"hydra.run.dir={folder}"]
    with (folder / "output.txt").open("w", encoding="utf-8") as output:
        subprocess.run(command, cwd=ROOT, check=True, stdout=output, stderr=subprocess.STDOUT)
