from dataclasses import replace

import pandas as pd
import pytest
import torch

from lightning_sae.attribution.edges.ablation import ablate_to_latents, agreement, sampled_agreement
from lightning_sae.attribution.edges.by_class import (
    ClassEdges,
    EdgeOptions,
    measure_class,
    measures_of,
    measures_table,
    path_table,
)
from lightning_sae.attribution.edges.circuit import (
    faithfulness,
    latent_means,
    random_circuit,
    strongest_circuit,
)
from lightning_sae.attribution.edges.edges import edges_to_latents
from lightning_sae.attribution.edges.graph import paths
from lightning_sae.attribution.edges.targets import LatentTargets
from lightning_sae.attribution.edges.trace import trace_graph
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.clip import HookPoint

from .conftest import seen_at

BLOCK = "visual.transformer.resblocks."
EVERYTHING = 10**6
CLASSES = torch.tensor([1, 1, 1])


@pytest.fixture(scope="module")
def seen(deep):
    return seen_at(deep, [HookPoint(BLOCK + str(i), "all") for i in (0, 1, 2)])


@pytest.fixture(scope="module")
def scores():
    generator = torch.Generator().manual_seed(5)
    return ClassScores(torch.randn(3, 32, generator=generator).double(), "logit", 10.0)


@pytest.fixture(scope="module")
def graph(seen, scores):
    return trace_graph(seen, scores, CLASSES)


def test_sampled_agreement_of_everything_is_the_agreement(seen):
    found = sampled_agreement(*seen[:2], EVERYTHING, EVERYTHING)
    for i in range(3):
        early, late = (layer.images(i, i + 1) for layer in seen[:2])
        truth = ablate_to_latents(early, LatentTargets(late))
        torch.testing.assert_close(
            found[i], agreement(edges_to_latents(early, late)[0].pairs, truth).nanmean()
        )


def test_few_targets_and_sources_are_drawn_by_the_seed(seen):
    one, same, other = (sampled_agreement(*seen[:2], 3, 4, seed) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    two_sources = sampled_agreement(*seen[:2], 1, 2)
    assert ((two_sources.abs() - 1).abs() < 1e-12).logical_or(two_sources.isnan()).all()
    assert sampled_agreement(*seen[:2], 5, 1).isnan().all()


def test_ablated_sources_are_a_part_of_all(seen):
    targets = LatentTargets(seen[1])
    whole, sources = ablate_to_latents(seen[0], targets), torch.arange(24) % 2 == 0
    some, mine = ablate_to_latents(seen[0], targets, sources=sources), sources[whole.source]
    for one, other in zip(some, whole, strict=True):
        torch.testing.assert_close(one, other[mine])


def test_the_numbers_of_a_class(seen, scores, graph):
    means = latent_means(seen)
    found = measure_class(seen, 1, means, scores, EdgeOptions(circuit=0.3, ablated=2, targets=99, sources=99))
    assert (found.replacement, found.completeness) == (graph.replacement, graph.completeness)
    circuit = strongest_circuit(graph, seen, 0.3)
    random = random_circuit(circuit, seen, seed=0)
    pairs = [(seen[0], seen[1]), (seen[1], seen[2])]
    expected = [sampled_agreement(*(x.images(0, 2) for x in pair), 99, 99) for pair in pairs]
    torch.testing.assert_close(found.agreement, torch.cat(expected))
    measures = measures_of([found])
    for name, kept in {"faithfulness": circuit, "faithfulness_random": random}.items():
        inside, _ = faithfulness(seen, kept, means, scores, CLASSES)
        mean = float(measures[name].interval().mean)
        assert mean == pytest.approx(float(inside.mean), nan_ok=True)
        assert float(measures[name].terms.mean()) == pytest.approx(mean, nan_ok=True)


def test_the_strongest_circuit_is_by_influence(seen, graph):
    for place, kept in enumerate(strongest_circuit(graph, seen, 0.25)):
        latents = graph.nodes[(graph.nodes["kind"] == "latent") & (graph.nodes["layer"] == place)]
        best = latents.nlargest(round(0.25 * len(latents)), "influence")["latent"]
        assert {*kept.nonzero().flatten().tolist()} == {*best}
    assert [int(kept.sum()) for kept in strongest_circuit(graph, seen, 1e-9)] == [1, 1, 1]


def test_the_table_of_paths(graph):
    table, found = path_table(graph, top=4), paths(graph, top=4)
    assert table["layer"].tolist() == ["resblocks.0", "resblocks.1", "resblocks.2"] * 4
    for number, row in enumerate(found.itertuples(), start=1):
        mine, nodes = table[table["path"] == number], graph.nodes.loc[list(row.nodes[:-1])]
        assert mine["latent"].tolist() == nodes["latent"].tolist()
        assert mine["activation"].tolist() == nodes["value"].tolist()
        assert {*mine["weight"]} == {row.weight}
        assert {*mine["influence"]} == {row.influence}
        assert mine["leak"].iloc[1:].tolist() == graph.leaks[list(row.nodes[1:-1])].tolist()
    nothing = path_table(replace(graph, edges=graph.edges[:0]))
    assert nothing.empty
    assert [*nothing] == [*table]


def test_numbers_together_by_hand():
    nothing = pd.DataFrame()
    gains = [torch.tensor([[2.0, 4], [1, 0], [4, 2]]), torch.tensor([[3.0], [2], [6]])]
    agreements = [torch.tensor([1.0, torch.nan]), torch.tensor([0.5, 0.3])]
    classes = [
        ClassEdges(0, 0.2, 0.5, gains[0], agreements[0], nothing),
        ClassEdges(4, 0.4, 0.7, gains[1], agreements[1], nothing),
    ]
    table = measures_table(measures_of(classes)).set_index("measure")
    expected = {
        "replacement": 0.3,
        "completeness": 0.6,
        "faithfulness": 9 / 12,
        "faithfulness_random": 3 / 12,
        "agreement": 0.6,
    }
    assert table["mean"].to_dict() == pytest.approx(expected)
    assert table["n"].tolist() == [2, 2, 3, 3, 3]
    falling = classes[0]._replace(gains=-gains[0])
    assert len(measures_of([falling])["faithfulness"].terms) == 0
    assert float(measures_of([falling, classes[1]])["faithfulness"].terms.mean()) == pytest.approx(3 / 6)
    assert measures_table(measures_of([falling]))["mean"].isna().tolist() == [False, False, True, True, False]
    row = classes[0]._replace(paths=pd.DataFrame({"latent": [3]})).table("star").iloc[0]
    assert row.to_dict() == {
        "class": "star",
        "images": 2,
        "replacement": 0.2,
        "completeness": 0.5,
        "faithfulness": 1.0,
        "latent": 3,
    }
