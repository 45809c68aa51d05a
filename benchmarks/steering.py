"""Steering on the biased world, against its truth: `python benchmarks/steering.py --seeds 0 1 2 --runs DIR`.

First every value of the world's factors is steered on pairs of test pictures that differ in it alone, by its
strongest latent and by the directions beside it, as the callback `steering` does on val. Then the planted
cases: a class is led astray by a background, a word or another thing. Latents are scaled, one after the
other the one that helps most, or a direction is taken out and another one that speaks for the class is
strengthened. Which and how strongly is chosen on val: the smallest balanced error of the class in the worse
of two groups, with the planted value and without, among what loses at most 1 % of the pictures that are
right, one standard error included. Measured on test. DIR holds world_biased-seedN, as
benchmarks/first_light.py makes them; what is missing is trained, with the callbacks that reading it takes.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from first_light import ROOT, latents_of, train
from rich.console import Console
from torch import Tensor

from lightning_sae.attribution.explained import Explained, explain_some
from lightning_sae.attribution.gradient import attribute, gradient
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.correct.costs import damage
from lightning_sae.correct.embeddings import renumbered
from lightning_sae.data.images.image_set import Split
from lightning_sae.data.probe_images import ProbeImages
from lightning_sae.data.prompts import embed_prompts, read_prompts
from lightning_sae.data.store.shards import read_tensor
from lightning_sae.metrics.group_errors import (
    Groups,
    factor_groups,
    group_errors,
    one_against_rest,
    others_than,
)
from lightning_sae.metrics.wilson import wilson
from lightning_sae.pairs.counterfactuals import Counterfactuals
from lightning_sae.pairs.pair import DrawnImages
from lightning_sae.pairs.responses import FactorValue, activation_scale
from lightning_sae.pairs.seen_pairs import SeenPairs
from lightning_sae.pairs.strongest import strongest
from lightning_sae.runs.folder import RunFolder, open_run
from lightning_sae.steering.directions import mean_difference, probe_direction, text_direction
from lightning_sae.steering.feature import Feature, Latents, scaled
from lightning_sae.steering.readouts import known_readouts
from lightning_sae.steering.study import Stage, study
from lightning_sae.steering.texts import text_of, values_by_factor
from lightning_sae.world import PLANTS, Plant, World

NEEDED = ["callbacks=[alignment,latent_table,save_sae]", "logger=csv"]
TEMPLATES = {"background": ["{} background"], "word": ["the word {}"]}
PROMPTS = ROOT / "docs" / "recipes" / "world_prompts.yaml"
AMOUNTS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)  # of a direction that is taken out
GAINS = (1.0, 1.25, 1.5, 2.0, 3.0)  # by which what speaks for the class is multiplied
FACTORS = (0.5, 0.0, -1.0, -2.0)  # of latents that lead astray
TRIED, STEPS, LEAST_STEP = 12, 8, 0.002  # latents tried, scaled at most; what each has to gain
GOAL_RISE, MOST_DAMAGE = 0.20, 0.01
PRINTED = 2000  # pictures of a split that come without a word, and once more with the planted one


class Pictures(NamedTuple):
    """The pictures of a split for a planted case.

    Attributes:
        images: with their latents.
        targets: `[n]`, of the classifier; those of no class are below 0.
        groups: with the planted value, and without.
    """

    images: Explained
    targets: Tensor
    groups: Groups


class Outcome(NamedTuple):
    """The errors of a classifier on some pictures.

    Attributes:
        error: balanced error of the class in the worse group.
        lost: share of the pictures of known class that were right and are wrong; 0 as it is.
        n: pictures of known class.
    """

    error: float
    lost: float
    n: int


class Setting(NamedTuple):
    """Features that are scaled, and by what; `said` is both in words."""

    features: tuple[Feature, ...]
    factors: tuple[float, ...]
    said: str

    def plus(self, feature: Feature, factor: float, said: str) -> "Setting":
        """Return the same with one more."""
        said = f"{self.said} {said}" if self.features else said
        return Setting((*self.features, feature), (*self.factors, factor), said)


def compare(run: RunFolder, per_value: int) -> pd.DataFrame:
    """Return the rows of `steering.csv`, from pairs of test pictures."""
    data = run.data
    found = Counterfactuals(per_value).pairs(data.images("test"))
    assert found is not None
    pairs = SeenPairs(data.look_at(found.images), found.before, found.after, found.contrasts)
    embeddings = read_tensor(data.capture("val") / "images", "embeddings").float()
    factors = data.images("val").factors
    stage = Stage(
        pairs,
        partial(explain_some, data, run.sae, pairs.images),
        run.sae,
        activation_scale(latents_of(data, run.sae, "val")),
        known_readouts(data.class_names, data.class_embeddings, embeddings, factors),
        partial(text_of, data, values_by_factor(pairs.contrasts), TEMPLATES),
    )
    chosen = strongest(stage.moved(), stage.scale)
    assert chosen is not None
    return study(stage, chosen, most_latents=1).table()


def pictures(run: RunFolder, split: Split, plant: Plant, names: Sequence[str]) -> Pictures:
    """Return the pictures of a split, of a typographic case with the word printed on each, and without."""
    images = run.data.images(split)
    if plant.kind == "typographic":
        n = min(PRINTED, len(images))
        world = World("biased", split, n)
        drawn = [partial(world.counterfactual, i % n, word=plant.factor * (i >= n)) for i in range(2 * n)]
        key = {"name": f"printed-{split}-{plant.factor}", "world": world.identity(), "n": n}
        targets = renumbered(world.targets, world.class_names, names).repeat(2)
        seen = run.data.look_at(DrawnImages(drawn, targets, world.class_names, key))
        of = torch.arange(2).repeat_interleave(n)
        return Pictures(explained(run, seen), targets, Groups("word", ["none", plant.factor], of))
    factor = "background" if plant.kind == "spurious" else "class"
    loader = run.data.val_dataloader() if split == "val" else run.data.test_dataloader()
    x = torch.cat([batch.x for batch in loader])[:, None]
    seen = ProbeImages(torch.arange(len(x)), images.targets, x, None)
    groups = one_against_rest(factor_groups(factor, *images.factors[factor]), plant.factor)
    return Pictures(explained(run, seen), renumbered(images.targets, images.class_names, names), groups)


def explained(run: RunFolder, seen: ProbeImages) -> Explained:
    return explain_some(run.data, run.sae, seen, torch.arange(len(seen.x)))


def directions(run: RunFolder, val: Pictures, plant: Plant, target: int) -> Iterator[tuple[str, Setting]]:
    """Yield the ways to steer by a direction, and how strongly, all found on val.

    The planted value is taken out along the direction that tells it from all other pictures or, where it is
    a thing, from the class; the class is strengthened along its own.
    """
    known = {name: values for name, (values, _) in run.data.images("val").factors.items()}
    factor = {"spurious": "background", "typographic": "word"}.get(plant.kind, "class")
    text_of_value = partial(text_of, run.data, known, TEMPLATES)
    has, own = val.groups.of == list(val.groups.values).index(plant.factor), val.targets == target
    sides = [(has, ~has), (has, own)] if factor == "class" else [(has, ~has)]
    x = val.images.x.mean(1)
    for method in ("probe", "text", "means"):

        def along(there: Tensor, lacking: Tensor, value: FactorValue, method: str = method) -> Feature:
            if method == "text":
                some = val.images.keep(lacking & (lacking.cumsum(0) <= 512))
                return text_direction(text_of_value(value), some, x[there], x[lacking])
            return (probe_direction if method == "probe" else mean_difference)(x[there], x[lacking])

        mine = along(own, ~own, FactorValue("class", plant.thing))
        for there, lacking in sides:
            culprit = along(there, lacking, FactorValue(factor, plant.factor))
            for amount, gain in product(AMOUNTS, GAINS):
                yield method, Setting((culprit, mine), (1 - amount, gain), f"{1 - amount:g}, {gain:g}")


def steered_latents(
    classifier: Classifier, val: Pictures, target: int, judge: Callable[[Setting], Outcome]
) -> Setting:
    """Return the latents to scale, one after the other the one that helps most on val.

    Tried are those that raise the margin of the class most, on the pictures that are wrongly taken for it
    (to be taken out) and on those of it that are missed (to be strengthened).
    """
    images = val.images
    score = classifier.scores("margin").of(torch.full((len(val.targets),), target))
    g = gradient(images.tail, images.x, score, images.context).flatten(0, 1)
    driving = images.latents.with_values(attribute(images.latents, images.W_dec, g))
    taken = classifier.predict(images.tail(images.x, images.context)) == target
    kinds = torch.full_like(val.targets, -1)
    own, others = val.targets == target, others_than(val.targets, target)
    kinds[others & taken], kinds[others & ~taken], kinds[own & taken], kinds[own & ~taken] = 0, 1, 2, 3
    wrong, _, right, missed = driving.class_means(kinds, 4).nan_to_num(0)
    culprits = (wrong - right).topk(TRIED).indices.tolist()
    helpers = (missed + right - wrong).topk(TRIED // 2).indices.tolist()
    moves = [*product(culprits, FACTORS), *product(helpers, GAINS[2:])]
    best = Setting((), (), "as it is")
    found = judge(best)
    for _ in range(STEPS):
        scaled_already = {int(feature.latents[0]) for feature in best.features}
        tried = [
            best.plus(feature_of(images, latent), factor, f"{latent}*{factor:g}")
            for latent, factor in moves
            if latent not in scaled_already
        ]
        outcomes = [judge(setting) for setting in tried]
        steps = [k for k, outcome in enumerate(outcomes) if allowed(outcome)]
        step = min(steps, key=lambda k: outcomes[k][:2], default=-1)
        if step < 0 or outcomes[step].error > found.error - LEAST_STEP:
            return best
        best, found = tried[step], outcomes[step]
    return best


def feature_of(images: Explained, latent: int) -> Latents:
    return Latents(torch.tensor([latent]), images.W_dec[[latent]], torch.ones(1))


def outcome(classifier: Classifier, seen: Pictures, target: int, was: Tensor, setting: Setting) -> Outcome:
    predicted = classifier.predict(scaled(seen.images, setting.features, setting.factors))
    error = group_errors(predicted, seen.targets, target, seen.groups).worst
    return Outcome(error, damage(was, predicted, seen.targets), int((seen.targets >= 0).sum()))


def allowed(found: Outcome) -> bool:
    """Return whether the loss on val is within the limit, one standard error included (Wilson)."""
    bound = wilson(torch.tensor(found.lost, dtype=torch.float64), torch.tensor(float(found.n)), 1)
    return bool(bound <= MOST_DAMAGE)


def planted(run: RunFolder, seed: int) -> Iterator[Mapping[str, object]]:
    """Yield a row per planted case and method."""
    names, prompts = read_prompts(PROMPTS)
    clip = run.data.clip
    classifier = Classifier.of_prompts(names, prompts, embed_prompts(clip, prompts).cpu(), clip.logit_scale)
    for plant in PLANTS:
        target = names.index(plant.thing)
        judges = {}
        for split in ("val", "test"):
            seen = pictures(run, split, plant, names)
            was = classifier.predict(seen.images.tail(seen.images.x, seen.images.context))
            judges[split] = partial(outcome, classifier, seen, target, was)
            if split == "val":
                val = seen
        chosen = {"latents": steered_latents(classifier, val, target, judges["val"])}
        by_method: dict[str, list[tuple[Outcome, Setting]]] = {}
        for method, setting in directions(run, val, plant, target):
            by_method.setdefault(method, []).append((judges["val"](setting), setting))
        nothing = Setting((), (), "as it is")
        for method, tried in by_method.items():
            within = [(judges["val"](nothing), nothing), *(one for one in tried if allowed(one[0]))]
            chosen[method] = min(within, key=lambda one: one[0][:2])[1]
        before = judges["test"](nothing)
        for method, setting in chosen.items():
            after = judges["test"](setting)
            yield {
                "seed": seed,
                "kind": plant.kind,
                "class": plant.thing,
                "factor": plant.factor,
                "method": method,
                "chosen": setting.said,
                "before": before.error,
                "after": after.error,
                "lost": after.lost,
            }


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return means by kind and method, and the cases that reach the goal."""
    rows = rows.assign(rise=rows["before"] - rows["after"])
    rows["met"] = (rows["rise"] >= GOAL_RISE) & (rows["lost"] <= MOST_DAMAGE)
    by = rows.groupby(["kind", "method"], sort=False)
    means = by[["before", "after", "rise", "lost"]].mean()
    return means.join(by["lost"].max().rename("most lost")).join(by["met"].agg(["sum", "count"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--runs", type=Path, default=ROOT / "outputs" / "first_light", help="folder of the runs"
    )
    parser.add_argument(
        "--per-value", type=int, default=25, help="pairs in which each value comes, 6 or more"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "outputs" / "steering.csv", help="table of the planted cases"
    )
    parser.add_argument("overrides", nargs="*", help="further arguments of train.py, for what is trained")
    options = parser.parse_args()
    console, curves, cases = Console(width=160), list[pd.DataFrame](), list[Mapping[str, object]]()
    for seed in options.seeds:
        folder = options.runs.resolve() / f"world_biased-seed{seed}"
        if not (folder / "sae").exists():
            train(folder, seed, "world_biased", [*NEEDED, *options.overrides])
        run = open_run(folder)
        run.data.prepare_data()
        run.data.setup("test")
        with torch.no_grad():
            curves.append(compare(run, options.per_value).assign(seed=seed))
            cases += planted(run, seed)
    table, rows = pd.concat(curves), pd.DataFrame(cases)
    strong = table[table["strength"] == 1]
    measures = ["auc", "success", "damage", "distance"]
    console.print(strong.groupby(["method", "seed"], sort=False)[measures].mean().round(3).to_string())
    console.print(strong.groupby(["factor", "method"], sort=False)[measures].mean().round(3).to_string())
    console.print(rows.round(3).to_string(index=False))
    console.print(summary(rows).round(3).to_string())
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows.to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
