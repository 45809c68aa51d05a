"""Whether edges between layers are true: `python benchmarks/edges.py --runs 'RUN1 RUN2' --runs ...`.

Prints how well the wires of a model that was wired by hand are found. For finished runs of one CLIP on the
embedded world, a chain for each seed, the earliest hook points first:

- the rank correlation of edges with exact ablation, one block apart and further, for both rules, weights
  alone, co-activation, and integrated gradients;
- the faithfulness of circuits of some of the active latents, of their complements and of random ones;
- for each planted case whether the culprit's strongest source detects the same factor;
- what a graph of a class costs, and how that grows.
"""

import argparse
import shlex
import time
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from sklearn.metrics import average_precision_score
from torch import Tensor
from wired import recovered, wired

from lightning_sae.attribution.edges.ablation import ablate_to_latents, agreement
from lightning_sae.attribution.edges.baselines import by_coactivation, by_integration, by_weights
from lightning_sae.attribution.edges.circuit import (
    faithfulness,
    latent_means,
    random_circuit,
    strongest_circuit,
)
from lightning_sae.attribution.edges.edges import edges_to_latents
from lightning_sae.attribution.edges.layers import Layer, SeenLayer, look
from lightning_sae.attribution.edges.pair_sums import Pairs
from lightning_sae.attribution.edges.targets import LatentTargets, choose
from lightning_sae.attribution.edges.trace import trace_graph
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.clip import Clip, HookPoint, activations_at
from lightning_sae.data import ImageSet
from lightning_sae.data.prompts import embed_prompts
from lightning_sae.metrics import ActiveRanks, interval
from lightning_sae.runs.folder import RunFolder
from lightning_sae.sae import TopK
from lightning_sae.world.plants import PLANTS, plants

RULES = ("frozen", "gradient")
SHARES = (0.1, 0.2, 0.5)  # of the active latents that are in a circuit


COST = ["hook points", "trace", "images", "targets", "edges", "seconds of CPU"]
DETECTS = 0.9  # AUROC from which a latent detects a factor


class Chain(NamedTuple):
    """The runs of one seed, with validation images.

    Attributes:
        clip: the model.
        layers: the hook points with their autoencoders, from the earliest.
        pixels: `[n, 3, H, W]`.
        scores: of the classes.
        images: what is known of them.
    """

    clip: Clip
    layers: list[Layer]
    pixels: Tensor
    scores: ClassScores
    images: ImageSet

    @property
    def targets(self) -> Tensor:
        """`[n]` int64, the class of each image."""
        return self.images.targets[: len(self.pixels)]


def open_chain(folders: Sequence[str], n_images: int) -> Chain:
    """Return the runs, with the first validation images."""
    runs = [RunFolder(folder) for folder in folders]
    clip, images = runs[0].data.clip, runs[0].data.images("val")
    pixels = torch.stack([clip.preprocess(images[i]) for i in range(min(n_images, len(images)))])
    texts = embed_prompts(clip, runs[0].data.prompts)
    layers = [Layer.of(layer.sae) for run in runs for layer in run.layers.values()]
    return Chain(clip, layers, pixels, ClassScores(texts, "logit", clip.logit_scale), images)


def wires() -> pd.DataFrame:
    """Return how well edges recover the wires of a model that was wired by hand."""
    model = wired()
    seen = look(model.clip, model.layers, model.inputs)
    rows = []
    for rule in RULES:
        table = recovered(*edges_to_latents(*seen, rule=rule))
        precision = average_precision_score(table["wired"], table["strength"])
        weakest = table.loc[table["wired"], "strength"].min()
        rows.append((rule, precision, weakest, table.loc[~table["wired"], "strength"].max()))
    return pd.DataFrame(rows, columns=["rule", "average precision", "weakest wire", "strongest other"])


def correlations(chain: Chain, n_images: int) -> Iterator[tuple[str, str, Tensor]]:
    """Yield hook points, a method, and its agreement with exact ablation, `[n]`, means over targets."""
    for early, late in combinations(chain.layers, 2):
        seen = look(chain.clip, [early, late], chain.pixels[:n_images])
        targets = LatentTargets(seen[1])
        truth = ablate_to_latents(seen[0], targets)
        found = {rule: edges_to_latents(*seen, rule=rule)[0].pairs for rule in RULES}
        nodes = truth._replace(target=targets.node[truth.target])
        baselines = {
            "weights": by_weights(*seen, nodes).value,
            "co-activation": by_coactivation(*seen, nodes).value.nan_to_num(),
        }
        found |= {name: truth._replace(value=value) for name, value in baselines.items()}
        found["integrated, 4 steps"] = by_integration(seen[0], targets, steps=4)
        for name, pairs in found.items():
            values = by_image(agreement(pairs, truth), truth, targets)
            yield f"{short(early)} -> {short(late)}", name, values


def short(layer: Layer) -> str:
    """Return the end of a hook point's name."""
    return str(layer.hook_point).rpartition("resblocks.")[2]


def by_image(values: Tensor, truth: Pairs, targets: LatentTargets) -> Tensor:
    """Return the mean over the targets of each image that have a value."""
    image = targets.image[truth.target.unique()]
    table = pd.Series(values.numpy()).groupby(image.numpy()).mean()
    return torch.tensor(table.to_numpy())


def circuits(chain: Chain, seen: list[SeenLayer]) -> Iterator[tuple[str, float, str, Tensor]]:
    """Yield rule, share, kind of circuit and faithfulness with its interval, `[3]`, of planted classes."""
    means = latent_means(seen)
    for name in sorted({plant.thing for plant in PLANTS}):
        c = chain.images.class_names.index(name)
        mine = [layer.keep(chain.targets == c) for layer in seen]
        classes = torch.full((len(mine[0].explained.x),), c)
        graphs = {rule: trace_graph(mine, chain.scores, classes, rule) for rule in RULES}
        for share in SHARES:
            for rule, graph in graphs.items():
                circuit = strongest_circuit(graph, mine, share)
                inside, outside = faithfulness(mine, circuit, means, chain.scores, classes)
                yield rule, share, "circuit", torch.stack(inside)
                yield rule, share, "complement", torch.stack(outside)
            for seed in range(2):
                random = random_circuit(circuit, mine, seed)
                found, _ = faithfulness(mine, random, means, chain.scores, classes)
                yield "random", share, "circuit", torch.stack(found)


def planted(chain: Chain, seen: list[SeenLayer]) -> Iterator[tuple[str, str, float, float]]:
    """Yield of each planted case the AUROC of the culprit, and of its strongest source one layer before."""
    early, late = seen[-2:]
    for plant in (*plants("spurious"), *plants("typographic")):
        values, truth = chain.images.factors["background" if plant.kind == "spurious" else "word"]
        factor = torch.where(truth[: len(chain.pixels)] == values.index(plant.factor), 0, -1)
        aurocs = [auroc_of(layer, factor) for layer in (early, late)]
        culprit = int(aurocs[1].nan_to_num().argmax())
        with_factor = [layer.keep(factor == 0) for layer in (early, late)]
        found, _ = edges_to_latents(*with_factor, chosen=choose(with_factor[1], [culprit]))
        sums = torch.zeros(len(aurocs[0]), dtype=torch.float64)
        sums.index_add_(0, found.pairs.source, found.pairs.value)
        yield plant.kind, plant.factor, float(aurocs[1][culprit]), float(aurocs[0][sums.argmax()])


def auroc_of(layer: SeenLayer, labels: Tensor) -> Tensor:
    """Return how well each latent, summed over the tokens, tells the images with label 0, `[d_sae]`."""
    latents = layer.explained.latents.sum_tokens(layer.explained.x.shape[1])
    return ActiveRanks.of(latents).aurocs(labels, 1)[0]


def cost(chain: Chain, n_images: int, d_sae: int) -> Iterator[tuple[str, float, int, int, int, float]]:
    """Yield what a graph with wide autoencoders costs, as the columns of `COST`."""
    every = [layer.hook_point for layer in chain.layers]
    chains = {"one block, as trained": every[-2:], "first and last": [every[0], every[-1]]}
    chains["one block, class token"] = [point._replace(tokens="cls") for point in every[-2:]]
    for name, points in chains.items():
        layers = [Layer(point, wide(chain.clip, point, chain.pixels, d_sae)) for point in points]
        for trace, n in ((1.0, n_images // 4), (0.5, n_images), (1.0, n_images)):
            pixels = chain.pixels[torch.arange(n) % len(chain.pixels)]
            start = time.process_time()
            seen = look(chain.clip, layers, pixels)
            graph = trace_graph(seen, chain.scores, torch.zeros(n, dtype=torch.int64), trace=trace)
            seconds = time.process_time() - start
            yield name, trace, n, graph.edges["target"].nunique(), len(graph.edges), seconds


def wide(clip: Clip, hook_point: HookPoint, pixels: Tensor, d_sae: int) -> TopK:
    """Return an autoencoder with random directions."""
    x = activations_at(clip, [hook_point], pixels[:64])[hook_point].flatten(0, 1)
    torch.manual_seed(0)
    sae = TopK(x.shape[1], d_sae, k=32).eval()
    sae.b_dec.data.copy_(x.mean(0))
    return sae


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", action="append", default=[], help="folders of a chain, once a seed")
    parser.add_argument("--images", type=int, default=1000, help="validation images")
    parser.add_argument("--ablated", type=int, default=32, help="of these with exact ablation")
    parser.add_argument("--cost-images", type=int, default=512)
    parser.add_argument(
        "--d-sae", type=int, default=4096, help="width of the autoencoders whose cost is told"
    )
    given = parser.parse_args()
    console = Console()
    show(console, "hand-wired model", wires())
    chains = [open_chain(shlex.split(folders), given.images) for folders in given.runs]
    if not chains:
        return
    agreements = pd.DataFrame(
        [row for chain in chains for row in correlations(chain, given.ablated)],
        columns=["hook points", "method", "values"],
    )
    show(console, "rank correlation with exact ablation, mean over images", pooled(agreements))
    seen = [look(chain.clip, chain.layers, chain.pixels) for chain in chains]
    show(console, "faithfulness of circuits, mean over classes and seeds", of_circuits(chains, seen))
    cases = [row for chain, layers in zip(chains, seen, strict=True) for row in planted(chain, layers)]
    table = pd.DataFrame(cases, columns=["kind", "factor", "culprit", "strongest source"])
    show(console, "AUROC of planted factors", table)
    told = table[table["culprit"] >= DETECTS]
    share = (told["strongest source"] >= DETECTS).mean()
    console.print(f"{len(told)} culprits of {len(table)} cases, {share:.0%} with a source of the same factor")
    rows = list(cost(chains[0], given.cost_images, given.d_sae))
    show(
        console,
        "cost of a graph",
        pd.DataFrame(rows, columns=COST),
    )


def pooled(agreements: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over the images of all seeds, with its interval."""
    rows = []
    for (points, method), part in agreements.groupby(["hook points", "method"], sort=False):
        mean, low, high = interval(torch.cat(list(part["values"])))
        rows.append((points, method, float(mean), float(low), float(high)))
    return pd.DataFrame(rows, columns=["hook points", "method", "mean", "low", "high"])


def of_circuits(chains: Sequence[Chain], seen: Sequence[list[SeenLayer]]) -> pd.DataFrame:
    """Return means over classes and seeds: faithfulness with its interval, the lowest and the highest."""
    rows = [row for chain, layers in zip(chains, seen, strict=True) for row in circuits(chain, layers)]
    table = pd.DataFrame([(*names, *map(float, part)) for *names, part in rows])
    table.columns = ["rule", "share", "of", "faithfulness", "low", "high"]
    groups = table.groupby(["rule", "share", "of"])
    lowest = groups["faithfulness"].agg(["median", "min", "max", "count"])
    return groups.mean().join(lowest).reset_index()


def show(console: Console, title: str, rows: pd.DataFrame) -> None:
    table = Table(title=title)
    for name in rows.columns:
        table.add_column(str(name))
    for row in rows.itertuples(index=False):
        table.add_row(*[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row])
    console.print(table)


if __name__ == "__main__":
    main()
