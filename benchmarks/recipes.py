"""A recipe end to end, where the truth is planted: `python benchmarks/recipes.py skin_lesions`, or `stamps`.

Writes the pictures, teaches a judge their words, trains an SAE on the biased tiny CLIP, fits a probe to its
train embeddings, and audits it. Prints how far the probe
follows the plant, what is left of that without these latents, and how well each of them tells the pictures
that have it. It says that the parts work together, not what to expect of a real CLIP: the encoder knows
nothing of lesions or stamps, and the plant is as strong as can be.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import skin_pictures
import stamp_pictures
import torch
from rich.console import Console
from rich.table import Table
from tiny_judge import teach
from torch import Tensor

from lightning_sae.audit.audit import audit_to_folder
from lightning_sae.audit.findings import Finding
from lightning_sae.classifiers.saved_probe import SavedProbe, load_probe
from lightning_sae.concepts.naming import LatentName
from lightning_sae.fit_probe import main as fit_probe
from lightning_sae.metrics import sparse_auroc
from lightning_sae.runs.folder import RunFolder, open_run
from lightning_sae.types import SparseLatents
from lightning_sae.world import config_path

ROOT = Path(__file__).resolve().parents[1]
SMALL = [
    *("clip=world_biased", "hook_point=visual.transformer.resblocks.3", "data.num_workers=0", "logger=csv"),
    *("sae.d_sae=256", "sae.k=8", "data.batch_size=512", "trainer.max_steps=600"),
    *("trainer.val_check_interval=600", "trainer.accelerator=cpu", "resume=false"),
    *("callbacks.spliced_accuracy.factor_templates={}", "callbacks.progress.refresh_rate=0"),
    *("~callbacks.faithfulness", "~callbacks.quality", "~callbacks.truth"),
]

SIZES = {"n_train": 1500, "n_val": 700, "n_test": 30}


class Recipe(NamedTuple):
    """A recipe with a plant.

    Attributes:
        pictures: module that writes them.
        table: name of the table.
        overrides: for train.py, beside the paths.
        class_name: the class that the cue is planted in.
        factor: column that says where the cue is.
        value: of that column, where it is there.
        words: that the judge learns and latents can be called by.
        cue: the word for it.
    """

    pictures: ModuleType
    table: str
    overrides: list[str]
    class_name: str
    factor: str
    value: str
    words: list[str]
    cue: str


RECIPES = {
    "skin_lesions": Recipe(
        skin_pictures,
        "HAM10000_metadata.csv",
        ["experiment=skin_lesions", "data.split=split", "data.groups=[ground,artefact]"],
        *("melanoma", "ground", "red"),
        [*skin_pictures.NAMES.values(), *skin_pictures.GROUNDS.values(), *skin_pictures.ARTEFACTS],
        "red background",
    ),
    "stamps": Recipe(
        stamp_pictures,
        "stamps.csv",
        ["data=table", "data.label=category", "data.groups=[frame]", "data.together=stamp", "labels=file"],
        *("vehicles", "frame", "green"),
        [*stamp_pictures.CATEGORIES, "green frame", "no frame"],
        "green frame",
    ),
}


class Seen(NamedTuple):
    """Validation images as CLIP, the SAE and the probe see them."""

    x: Tensor
    embeddings: Tensor
    latents: SparseLatents
    truth: Tensor
    cue: Tensor


def train(recipe: Recipe, folder: Path, sizes: dict[str, int], seed: int = 0) -> tuple[Path, Path]:
    """Write pictures and judge, trains and fits by the user's own commands; the folders of run and probe."""
    table = recipe.pictures.write(folder / "pictures", **sizes, seed=seed)
    judge = teach(recipe.pictures.captioned(sizes["n_val"], seed + 1), folder / "judge.safetensors")
    (folder / "words.txt").write_text("\n".join(recipe.words) + "\n")
    overrides = [*recipe.overrides, *SMALL, f"data.path={table}", f"labels.path={folder / 'words.txt'}"]
    overrides += ["clip@data.judge=open_clip", f"data.judge.model={config_path()}"]
    overrides += [f"data.judge.pretrained={judge}", f"data.store_dir={folder / 'store'}", f"seed={seed}"]
    command = [sys.executable, "train.py", *overrides, f"hydra.run.dir={folder / 'run'}"]
    subprocess.run(command, cwd=ROOT, check=True)
    fit_probe([str(folder / "run"), "--out", str(folder / "probe")])
    return folder / "run", folder / "probe"


@torch.no_grad()
def see(run: RunFolder, recipe: Recipe) -> Seen:
    """Return all validation images, in their order."""
    run.data.setup("validate")
    batches = list(run.data.val_dataloader())
    x, embeddings = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("x", "embeddings"))
    images = run.data.images("val")
    values, truth = images.factors[recipe.factor]
    return Seen(x, embeddings, run.sae.encode(x), images.targets, truth == values.index(recipe.value))


def found_in(run: RunFolder, probe: Path, folder: Path, class_name: str) -> Finding | None:
    """Return the worst finding of the audit of the probe about a class; `None` without any.

    The file `audit.html` is written to the folder.
    """
    audit = audit_to_folder(run, folder, str(probe))
    return next((finding for finding in audit.findings if finding.class_name == class_name), None)


def rates(saved: SavedProbe, embeddings: Tensor, seen: Seen, class_name: str) -> dict[str, float]:
    """Return how often a class is predicted, for four groups of images.

    The groups are the class's own images and all other images, each with the cue and without it.
    """
    c = saved.class_names.index(class_name)
    named = saved.probe.predict(embeddings) == c
    own = seen.truth == c
    groups = {"found with cue": own & seen.cue, "found without": own & ~seen.cue}
    groups |= {"others with cue": ~own & seen.cue, "others without": ~own & ~seen.cue}
    return {name: named[chosen].double().mean().item() for name, chosen in groups.items()}


@torch.no_grad()
def without(run: RunFolder, seen: Seen, latents: list[int]) -> Tensor:
    """Return the embeddings when some latents are ablated."""
    removed = seen.latents.to_dense()[:, latents] @ run.sae.W_dec[latents]
    embeddings: Tensor = run.data.tail((seen.x - removed)[:, None], None)
    return embeddings


def report(recipe: Recipe, run: RunFolder, probe: Path) -> None:
    """Print what the audit finds, the rates of the probe, as it is and without the culprits, and these."""
    finding = found_in(run, probe, run.folder, recipe.class_name)
    saved, seen, console = load_probe(probe, run.data.clip.identity()), see(run, recipe), Console()
    culprits = finding.culprits if finding else ()
    console.print(finding.summary if finding else f"nothing was found of {recipe.class_name}")
    cut = without(run, seen, [culprit.latent for culprit in culprits])
    table = Table(recipe.class_name, "as it is", "without the culprits")
    after = rates(saved, cut, seen, recipe.class_name)
    for name, rate in rates(saved, seen.embeddings, seen, recipe.class_name).items():
        table.add_row(name, f"{rate:.1%}", f"{after[name]:.1%}")
    console.print(table)
    auroc = sparse_auroc(seen.latents, seen.cue)
    table = Table("latent", "name", "share", f"AUROC of {recipe.value} {recipe.factor}")
    for culprit in culprits:
        share, tells = f"{culprit.share:.1%}", f"{auroc[culprit.latent]:.3f}"
        name = LatentName(culprit.label, culprit.named)
        table.add_row(str(culprit.latent), name.markup(), share, tells)
    console.print(table)


def main() -> None:
    """Run a recipe for some seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, help="keeps everything there")
    for name, default in SIZES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    options = parser.parse_args()
    sizes = {name: getattr(options, name) for name in ("n_train", "n_val", "n_test")}
    recipe = RECIPES[options.recipe]
    for seed in options.seeds:
        folder = (options.out or Path(tempfile.mkdtemp())) / f"{options.recipe}-seed{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        run, probe = train(recipe, folder, sizes, seed)
        report(recipe, open_run(run), probe)


if __name__ == "__main__":
    main()
