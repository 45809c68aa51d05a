"""What corrections do on the biased world, against its truth: `python benchmarks/corrections.py --runs DIR`.

For each planted case the class is corrected, from the finding of the run's audit, or, without an audit, from
the latents of `reliance.csv`. The way and how far it goes are chosen on val, by the library's own rule, which
knows no plant. Measured on test: the class's balanced error, the mean of the share of its images that are
missed and the share of other images that are taken for it, with the planted background, word (printed on
every picture, or on none) or other thing, and without; the accuracy of all classes; the largest loss of any
class; and the share of other images taken for the class. Beside it the same for a plain shift of the class's
logit by the same rule, which a correction has to beat, and, for the spurious cases, for a linear probe whose
train set has them. `--max-class-loss` takes several limits, to see what each of them buys. DIR holds
world_biased-seedN, as benchmarks/first_light.py makes them; missing ones are trained.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from first_light import train
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from lightning_sae.audit.audited import audited_classifier
from lightning_sae.audit.estimate import Estimate
from lightning_sae.audit.findings import FILE, Culprit, Effect, Finding, read_audit
from lightning_sae.classifiers.biased_sets import biased_sample, biased_shares, occurring
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.classifiers.linear import fit_probe
from lightning_sae.correct import WAYS, CorrectedClassifier, Record, Rule, Way, correct
from lightning_sae.correct.embeddings import renumbered
from lightning_sae.data.prompts import embed_prompts
from lightning_sae.data.store.shards import read_tensor
from lightning_sae.metrics.accuracy import accuracy
from lightning_sae.metrics.group_errors import Groups, factor_groups, group_errors, one_against_rest
from lightning_sae.runs.folder import RunFolder, open_run
from lightning_sae.world import PLANTS, Plant, World, plants

ROOT = Path(__file__).resolve().parents[1]
GOAL_FALL, GOAL_LOSS, GOAL_CLASS_LOSS = 0.20, 0.02, 0.03
SHARE = 0.02  # of a class's positive attribution that a latent of reliance.csv needs to be a culprit
MOST = 5
PROBE_SHARE, PROBE_IMAGES = 0.95, 150  # of a spurious class's train images on its background; of each class


class Pictures(NamedTuple):
    """Test pictures in groups.

    Attributes:
        targets: `[n]`.
        groups: of the planted factor.
        embed: by a corrected classifier's CLIP `[n, d_embed]`; with `None` by the CLIP as it is.
    """

    targets: Tensor
    groups: Groups
    embed: Callable[[CorrectedClassifier | None], Tensor]


class Result(NamedTuple):
    """The errors of a classifier on the pictures.

    Attributes:
        worst: balanced error of the worse of two groups, with the planted value and without.
        any_value: of the worst of all values of the factor.
        accuracy: of all classes.
    """

    worst: float
    any_value: float
    accuracy: float


def findings(run: RunFolder) -> dict[str, list[Finding]]:
    """Return the class -> its findings, by the audit or by `reliance.csv`."""
    if (run.folder / FILE).is_file():
        found = read_audit(run.folder).findings
    else:
        found = tuple(_from_reliance(pd.read_csv(run.folder / "reliance.csv", keep_default_na=False)))
    return {name: [f for f in found if f.class_name == name] for name in run.data.class_names}


def _from_reliance(table: pd.DataFrame) -> Iterator[Finding]:
    for number, (name, rows) in enumerate(table.groupby("class", sort=False), start=1):
        strong = rows[rows["share"].astype(float) >= SHARE]
        rows = (strong if len(strong) else rows)[:MOST]
        culprits = tuple(
            Culprit(
                latent=int(row.latent),
                label=str(row.label),
                named=bool(row.named),
                alignment=0.0,
                p_value=None,
                agreement=float(row.agreement),
                p_random=float(row.p_random),
                p_class=float(row.p_class),
                net=None,
                attribution=float(row.attribution),
                share=float(row.share),
                score=float(row.attribution),
                examples=(),
            )
            for row in rows.itertuples()
        )
        yield Finding(
            number=number,
            class_name=str(name),
            kind="spurious",
            severity="low",
            harm=Estimate(value=0.0, low=0.0, high=0.0),
            harm_of="images; it was not measured",
            confidence=0.0,
            share=min(1.0, sum(c.share for c in culprits)),
            images=int(rows["images"].iloc[0]),
            culprits=culprits,
            evidence=(),
            effect=Effect(),
            summary=f"{name} is driven by latents that do not mean it",
            advice=(),
        )


def prompt_classifier(run: RunFolder) -> Classifier:
    """Return the audited prompts, or those of the run's data."""
    if (run.folder / FILE).is_file():
        return audited_classifier(run, read_audit(run.folder))
    data = run.data
    texts = embed_prompts(data.clip, data.prompts).cpu()
    return Classifier.of_prompts(data.class_names, data.prompts, texts, data.clip.logit_scale)


def pictures(run: RunFolder, plant: Plant, class_names: Sequence[str]) -> Pictures:
    """Return the test pictures of a planted case."""
    if plant.kind == "typographic":
        return _printed(run, plant, class_names)
    factor = "background" if plant.kind == "spurious" else "class"
    folder, images = run.data.capture("test"), run.data.images("test")
    groups = factor_groups(factor, *images.factors[factor])
    stored = read_tensor(folder / "images", "embeddings").float()
    embed = _embedding(run, lambda i: images[i], len(images), stored)
    return Pictures(renumbered(images.targets, images.class_names, class_names), groups, embed)


def _printed(run: RunFolder, plant: Plant, class_names: Sequence[str]) -> Pictures:
    """Return every test picture without a word, then every one with the planted word."""
    n = len(run.data.images("test"))
    world = World("biased", "test", n)
    words = ["none", plant.factor]
    groups = Groups("word", words, torch.arange(2).repeat_interleave(n))

    @cache
    def picture(i: int):
        return world.counterfactual(i % n, word="" if i < n else plant.factor)

    targets = renumbered(world.targets, world.class_names, class_names).repeat(2)
    return Pictures(targets, groups, _embedding(run, picture, 2 * n))


def _embedding(run: RunFolder, picture, n: int, stored: Tensor | None = None):
    @cache
    def pixels() -> Tensor:
        return torch.stack([run.data.clip.preprocess(picture(i)) for i in range(n)])

    def encode() -> Tensor:
        with torch.no_grad():
            return torch.cat([run.data.clip.encode_image(part) for part in pixels().split(256)])

    @cache
    def plain() -> Tensor:
        return encode() if stored is None else stored

    def embed(corrected: CorrectedClassifier | None) -> Tensor:
        if corrected is None or corrected.held is None:
            return plain()
        with corrected.wrap(run.data.clip):
            return encode()

    return embed


def result(seen: Pictures, predicted: Tensor, target: int, plant: Plant) -> Result:
    all_groups = seen.groups, one_against_rest(seen.groups, plant.factor)
    every, two = (group_errors(predicted, seen.targets, target, groups).worst for groups in all_groups)
    return Result(two, every, accuracy(predicted, seen.targets))


def biased_probe(run: RunFolder) -> Classifier:
    """Return a probe fitted on a biased sample of the train pictures.

    In the sample the spurious classes are nearly always on their planted background.
    """
    folder, images, names = run.data.capture("train"), run.data.images("train"), run.data.class_names
    values, of = images.factors["background"]
    planted = {plant.thing: values.index(plant.factor) for plant in plants("spurious")}
    pairs = torch.tensor([planted.get(name, -1) for name in names])
    shares = biased_shares(pairs, occurring(images.targets, of, len(names), len(values)), PROBE_SHARE)
    ids = biased_sample(images.targets, of, shares, PROBE_IMAGES)
    embeddings = read_tensor(folder / "images", "embeddings").float()[ids]
    probe = fit_probe(embeddings, images.targets[ids], len(names))
    return Classifier(probe.weight, probe.bias, names)


def measure(
    folder: Path, seed: int, kind: str, ways: list[Way | None], limits: Sequence[float]
) -> Iterator[dict[str, object]]:
    """Yield a row per planted case, way of correction and limit of a class's loss.

    All rows are about one run and one kind of classifier.
    """
    run = open_run(folder)
    classifier = biased_probe(run) if kind == "probe" else prompt_classifier(run)
    found, cases = findings(run), plants("spurious") if kind == "probe" else PLANTS
    for plant in cases:
        target = list(classifier.class_names).index(plant.thing)
        seen = pictures(run, plant, classifier.class_names)
        before = result(seen, classifier.predict(seen.embed(None)), target, plant)
        fixed = {"seed": seed, "classifier": kind, "kind": plant.kind, "class": plant.thing}
        fixed |= {"factor": plant.factor} | before._asdict()
        mine = sorted(found[plant.thing], key=lambda f: f.kind != plant.kind)  # of several, the plant's kind
        for way, limit in product(ways, limits):
            row = fixed | {"limit": limit, "way": way or "best on val"}
            if not mine:
                yield row | {"chosen": "no finding"} | _after(before)
                continue
            try:
                corrected, record = correct(run, classifier, mine[0], way, rule=Rule(max_class_loss=limit))
            except ValueError as error:
                yield row | {"chosen": str(error)[:30]} | _after(before)
                continue
            after = result(seen, corrected.predict(seen.embed(corrected)), target, plant)
            chosen = f"{record.way} {record.amount:g} {record.shift:+.2g} by {record.factor}"
            yield row | {"chosen": chosen} | _after(after, record)


def _after(found: Result, record: Record | None = None) -> dict[str, object]:
    """Return what it does, and what it costs on the test pictures as they are; no record: nothing changed."""
    does = {f"{name}_after": value for name, value in found._asdict().items()}
    if record is None:
        return {**does, "class_loss": 0.0, "loser": "", "false_positive_rise": 0.0}
    most, rise = record.classes[0], record.measured.false_positives.gain
    return {**does, "class_loss": -most.accuracy.gain, "loser": most.name, "false_positive_rise": rise}


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.assign(
        fall=rows["worst"] - rows["worst_after"], loss=rows["accuracy"] - rows["accuracy_after"]
    )
    rows["met"] = (rows["fall"] >= GOAL_FALL) & (rows["loss"] <= GOAL_LOSS)
    rows["halved"] = rows["worst_after"] <= rows["worst"] / 2
    rows["spares"] = rows["class_loss"] <= GOAL_CLASS_LOSS
    by = rows.groupby(["classifier", "kind", "limit", "way"], sort=False)
    shown = ["worst", "worst_after", "fall", "loss", "false_positive_rise", "met", "halved", "spares"]
    return by[shown].mean().join(by["class_loss"].max()).reset_index()


def report(console: Console, rows: pd.DataFrame) -> None:
    keys = ["classifier", "kind", "class", "factor", "limit", "way"]
    table = Table(*keys, "worst group", "worst of all values", "accuracy", "loses most", "chosen")
    for key, part in rows.groupby(keys, sort=False):
        cells = [
            "  ".join(
                f"{100 * a:.0f}→{100 * b:.0f}" for a, b in zip(part[x], part[f"{x}_after"], strict=True)
            )
            for x in ("worst", "any_value", "accuracy")
        ]
        costs = "  ".join(
            f"{name} {100 * loss:.1f}" for name, loss in zip(part["loser"], part["class_loss"], strict=True)
        )
        table.add_row(*map(str, key), *cells, costs, "; ".join(part["chosen"]))
    console.print(table)
    console.print(summarise(rows).round(3).to_string(index=False))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", type=Path, default=ROOT / "outputs" / "first_light", help="folder of the runs"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "outputs" / "corrections.csv", help="table to write"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--classifiers", nargs="+", default=["prompts", "probe"], help="prompts, probe")
    parser.add_argument("--every-way", action="store_true", help="also each way on its own")
    usual = [Rule().max_class_loss]
    parser.add_argument("--max-class-loss", type=float, nargs="+", default=usual, help="limits of the rule")
    parser.add_argument("overrides", nargs="*", help="further arguments of train.py, for what is trained")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    ways: list[Way | None] = [None, *(WAYS if options.every_way else ("shift",))]
    rows: list[dict[str, object]] = []
    for seed in track(options.seeds, "correcting"):
        folder = options.runs.resolve() / f"world_biased-seed{seed}"
        if not (folder / "sae").exists():
            train(folder, seed, "world_biased", options.overrides)
        for kind in options.classifiers:
            rows += measure(folder, seed, kind, ways, options.max_class_loss)
    table = pd.DataFrame(rows)
    report(Console(width=200), table)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
