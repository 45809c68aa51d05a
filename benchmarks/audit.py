"""The audit against the world's truth: `python benchmarks/audit.py --runs DIR`.

For each planted case the culprits are the latents that predict the planted factor on the test images (AUROC
at least 0.9) and whose ablation lowers the class's score on test images that have the factor and are not of
the class; a case without any counts as zero. Average precision says how well the audit's ranking of the
latents, made on val for that class and kind, finds them. A finding of a planted class is true if its worst
culprit is one of them; the kind is right if it is that of the plant. The biased CLIP is asked for each class
by its one intended meaning, in the words of its captions (docs/recipes/world_prompts.yaml): the other senses
and parts are images without a class. The balanced one, whose captions have a word for each thing, is asked
for all. DIR holds world_biased-seedN and world_balanced-seedN, as benchmarks/first_light.py makes them; what
is missing is trained.
"""

import argparse
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from first_light import latents_of, train
from reliance import PREDICTS, ROOT, has_factor, precision
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lightning_sae.attribution.ablation import AblationEffects, Removal
from lightning_sae.attribution.explained import Explained
from lightning_sae.audit.audit import audit_examined, audit_run
from lightning_sae.audit.evidence.evidence_pass import ready
from lightning_sae.audit.examination import Options, examine
from lightning_sae.audit.findings import Audit
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.metrics import sparse_auroc
from lightning_sae.runs.classifier import prompt_classifier
from lightning_sae.runs.folder import RunFolder, open_run
from lightning_sae.world import PLANTS

PROMPTS = ROOT / "docs" / "recipes" / "world_prompts.yaml"
GOAL_PRECISION, GOAL_KIND = 0.8, 0.8


class Truth:
    """The test images of a run, and which latents are culprits of a planted case on them."""

    def __init__(self, run: RunFolder, classifier: Classifier, options: Options) -> None:
        self.run, self.names = run, list(classifier.class_names)
        self.scores = classifier.scores(options.output)
        self.images = run.data.images("test")
        with torch.no_grad():
            self.latents = latents_of(run.data, run.sae, "test")
            self.x = torch.cat([batch.x for batch in run.data.test_dataloader()])
        self.alive = torch.tensor([j in run.latents.index for j in range(run.sae.d_sae)])

    def culprits(self, class_name: str, planted: Tensor) -> Tensor:
        """Return `[d_sae]` bool, by the images `[n]` that have what is planted."""
        c = self.names.index(class_name)
        wrong = planted & (self.images.targets != self.images.class_names.index(class_name))
        able = (sparse_auroc(self.latents, planted) >= PREDICTS) & self.alive
        latents = able.nonzero().flatten().tolist()
        culprit = torch.zeros_like(self.alive)
        if latents:
            metric = AblationEffects([Removal(c, (j,)) for j in latents], self.scores, len(wrong))
            x = self.x[:, None]
            seen = Explained(self.run.data.tail, self.run.sae.W_dec.detach(), x, x, self.latents)
            metric.update(seen, torch.where(wrong, c, -1))
            effects = metric.effects()
            culprit[torch.tensor(latents)[effects.score_without < effects.score]] = True
        return culprit


def judge(truth: Truth, run: RunFolder, classifier: Classifier, options: Options) -> list[dict[str, Any]]:
    """Return a row per planted case."""
    examined, rows = examine(run, classifier, options), []
    audit = audit_examined(run, classifier, options, examined)
    for plant in PLANTS:
        c, planted = truth.names.index(plant.thing), has_factor(plant, dict(truth.images.factors))
        culprit = truth.culprits(plant.thing, planted)
        ranking = examined.ranking(c, plant.kind)
        everything = torch.stack([examined.ranking(c, kind) for kind in KINDS]).sum(0)
        found = [f for f in audit.findings if f.class_name == plant.thing]
        true = [f for f in found if culprit[f.culprits[0].latent]]
        rows.append(
            {
                "kind": plant.kind,
                "class": plant.thing,
                "factor": plant.factor,
                "culprits": int(culprit.sum()),
                "precision": precision(culprit[truth.alive], ranking[truth.alive]),
                "precision_any_kind": precision(culprit[truth.alive], everything[truth.alive]),
                "true": len(true),
                "right_kind": sum(f.kind == plant.kind for f in true),
                "found": ", ".join(f"{f.kind} {f.severity} {f.culprits[0].latent}" for f in found),
            }
        )
    return rows


KINDS = tuple(dict.fromkeys(plant.kind for plant in PLANTS))


def measure(folder: Path) -> pd.DataFrame:
    """Return the planted cases of a run on the biased CLIP."""
    run, options = open_run(folder), Options()
    ready(run)
    classifier = prompt_classifier(run, str(PROMPTS))
    return pd.DataFrame(judge(Truth(run, classifier, options), run, classifier, options))


def report(console: Console, cases: pd.DataFrame, balanced: list[Audit]) -> None:
    """Print the cases over the seeds, and the goals."""
    table = Table(
        "kind", "class", "factor", "culprits", "average precision", "of any kind", "findings of the class"
    )
    for key, rows in cases.groupby(["kind", "class", "factor"], sort=False):
        numbers = [" ".join(f"{v:.2f}" for v in rows[name]) for name in ("precision", "precision_any_kind")]
        table.add_row(*key, " ".join(map(str, rows["culprits"])), *numbers, "\n".join(rows["found"]))
    console.print(table)
    for kind, rows in cases.groupby("kind", sort=False):
        console.print(
            f"{kind}: mean average precision {rows['precision'].mean():.3f} (goal {GOAL_PRECISION}), "
            f"{rows['precision_any_kind'].mean():.3f} among culprits of any kind; "
            f"{rows['right_kind'].sum()} of {rows['true'].sum()} true findings have the kind"
        )
    right, true = cases["right_kind"].sum(), cases["true"].sum()
    console.print(
        f"the kind is right in {right} of {true} true findings: {right / max(true, 1):.2f} (goal {GOAL_KIND})"
    )
    counts = [(len(audit.findings), len(audit.classes)) for audit in balanced]
    console.print(
        "balanced CLIP: " + ", ".join(f"{n} findings in {c} classes" for n, c in counts) + " (goal 1 per 20)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", type=Path, default=ROOT / "outputs" / "first_light", help="folder of the runs"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("overrides", nargs="*", help="further arguments of train.py, for what is trained")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    cases, balanced = [], []
    for seed in options.seeds:
        names = (f"world_{edition}-seed{seed}" for edition in ("biased", "balanced"))
        folders = [options.runs.resolve() / name for name in names]
        for folder in folders:
            if not (folder / "sae").exists():
                train(folder, seed, folder.name.split("-")[0], options.overrides)
        cases.append(measure(folders[0]).assign(seed=seed))
        run = open_run(folders[1])
        ready(run)
        balanced.append(audit_run(run))
    table = pd.concat(cases)
    report(Console(width=180), table, balanced)
    table.to_csv(options.runs / "audit_cases.csv", index=False)


if __name__ == "__main__":
    main()
