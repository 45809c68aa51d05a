from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

from lightning_sae.attribution.edges.edges import edges_to_latents, edges_to_scores
from lightning_sae.attribution.edges.graph import Graph, paths
from lightning_sae.attribution.edges.influence import influence, largest
from lightning_sae.attribution.edges.trace import trace_graph
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.clip import HookPoint

from .conftest import seen_at

BLOCK = "visual.transformer.resblocks."


@pytest.fixture(scope="module")
def seen(deep):
    return seen_at(deep, [HookPoint(BLOCK + str(i), "all") for i in (0, 1, 2)])


@pytest.fixture(scope="module")
def scores():
    generator = torch.Generator().manual_seed(5)
    return ClassScores(torch.randn(3, 32, generator=generator).double(), "logit", 10.0)


CLASSES = torch.tensor([0, 2, 2])


@pytest.fixture(scope="module")
def graph(seen, scores):
    return trace_graph(seen, scores, CLASSES)


def known():
    """Two latents and an error make one latent, which with another error makes the score."""
    kinds = ["latent", "latent", "error", "latent", "error", "score"]
    nodes = pd.DataFrame(
        {"layer": [0, 0, 0, 1, 1, 2], "kind": kinds, "value": [1.0, 1, np.nan, 4, np.nan, 9]}
    )
    nodes = nodes.assign(hook_point="", token=-1, latent=[0, 1, -1, 0, -1, -1])
    ends = {"source": [0, 1, 2, 3, 4], "target": [3, 3, 3, 5, 5]}
    return Graph.of(nodes, pd.DataFrame({**ends, "weight": [6.0, -1, 1, -8, 2]}), images=1)


def test_influence_and_scores_by_hand():
    graph = known()
    assert graph.nodes["influence"].tolist() == pytest.approx([0.6, 0.1, 0.1, 0.8, 0.2, 1])
    assert graph.edges["influence"].tolist() == pytest.approx([0.6, 0.1, 0.1, 0.8, 0.2])
    assert graph.replacement == pytest.approx(0.7)
    assert graph.completeness == pytest.approx((0.6 + 0.1 + 0.8) / 1.8)


def test_leaks_by_hand():
    assert known().leaks.to_dict() == pytest.approx({3: 1 / 8, 5: 2 / 10})


def test_completeness_is_what_does_not_leak_where_there_is_influence(graph):
    influence = graph.nodes["influence"][graph.leaks.index]
    assert graph.completeness == pytest.approx((influence * (1 - graph.leaks)).sum() / influence.sum())


def test_pruning_by_hand():
    pruned = known().prune(share=0.7)
    assert pruned.nodes.index.tolist() == [0, 3, 5]
    assert pruned.edges["weight"].tolist() == [6, -8]
    assert pruned.replacement == known().replacement
    assert len(known().prune(1.0, 1.0).nodes) == 6
    assert len(known().prune(0.4).nodes) == 1  # the later latent has lost all that makes it
    with pytest.raises(ValueError, match="a share of the influence must be in"):
        known().prune(0)


def test_a_large_bias_takes_no_edge_from_the_latents():
    whole = known()
    bias = pd.DataFrame(
        {"layer": [1], "kind": ["bias"], "value": [np.nan], "hook_point": "", "token": -1, "latent": -1}
    )
    nodes = pd.concat([whole.nodes.drop(columns="influence"), bias], ignore_index=True)
    edge = pd.DataFrame({"source": [6], "target": [5], "weight": [1000.0]})
    edges = pd.concat([whole.edges.drop(columns="influence"), edge], ignore_index=True)
    pruned = Graph.of(nodes, edges, images=1).prune(1.0, 0.85)
    latents = whole.prune(1.0, 0.85).edges["weight"].tolist()
    assert latents == [6, -8, 2]
    assert pruned.edges["weight"].tolist() == [*latents, 1000]


def test_paths_and_tables_by_hand():
    found = paths(known())
    assert found["nodes"].tolist()[0] == (0, 3, 5)
    weights = dict(zip(found["nodes"], found["weight"], strict=True))
    assert weights == {(0, 3, 5): 6 * -8 / 4, (1, 3, 5): -1 * -8 / 4}
    assert paths(known(), start=2)["weight"].tolist() == [1 * -8 / 4]
    assert paths(known(), start=1, end=3)["weight"].tolist() == [-1]
    assert known().reads(3)["source"].tolist() == [0, 1, 2]
    assert known().writes(3)["kind"].tolist() == ["score"]
    assert known().node(1, 0) == 3
    with pytest.raises(ValueError, match="latent 7 of layer 1 is not in the graph"):
        known().node(1, 7)
    with pytest.raises(ValueError, match="no node 99"):
        known().reads(99)


def test_the_strongest_paths_are_the_strongest_of_all(graph):
    """Of all that there are: a latent of each layer, an edge between any two, and one to the score."""
    pruned = graph.prune(0.6)
    edges, end = pruned.edges.set_index(["source", "target"])["weight"], pruned.nodes.index[-1]
    arriving, values = edges.abs().groupby("target").sum(), pruned.nodes["value"]
    early, middle, late = (
        pruned.nodes.index[(pruned.nodes["layer"] == i) & (pruned.nodes["kind"] == "latent")]
        for i in (0, 1, 2)
    )
    found = {}
    for a, b, c in product(early, middle, late):
        steps = [(a, b), (b, c), (c, end)]
        if all(step in edges.index for step in steps):
            share = np.prod([abs(edges[step]) / arriving[step[1]] for step in steps])
            weight = np.prod([edges[step] for step in steps]) / values[b] / values[c]
            found[a, b, c, end] = (share, weight)
    best = sorted(found, key=lambda nodes: -found[nodes][0])[:7]
    table = paths(pruned, top=7)
    assert table["nodes"].tolist() == best
    assert table["influence"].tolist() == pytest.approx([found[nodes][0] for nodes in best])
    assert table["weight"].tolist() == pytest.approx([found[nodes][1] for nodes in best])
    assert len(paths(pruned, top=10**6)) == len(found)


def test_no_more_latents_are_traced_than_allowed(seen, scores, graph):
    few = trace_graph(seen, scores, CLASSES, max_traced=2)
    traced = few.nodes.loc[few.edges["target"].unique()]
    assert traced.groupby("layer").size().to_dict() == {1: 2, 2: 2, 3: 1}
    last = graph.nodes[(graph.nodes["layer"] == 2) & (graph.nodes["kind"] == "latent")]
    assert {*traced.loc[traced["layer"] == 2, "latent"]} == {*last.nlargest(2, "influence")["latent"]}
    assert few.replacement < graph.replacement


def test_influence_is_a_sum_of_matrix_powers():
    random = np.random.default_rng(0)
    a = np.tril(random.normal(size=(8, 8)), -1)  # a row per target
    target, source = a.nonzero()
    found = influence(source, target, a[target, source], np.eye(8)[7])
    shares = np.abs(a) / np.abs(a).sum(1, keepdims=True).clip(1e-300)
    series = sum(np.linalg.matrix_power(shares, p) for p in range(1, 8))
    np.testing.assert_allclose(found.nodes, series[7], rtol=1e-12)


def test_the_largest_make_up_the_share():
    values = np.random.default_rng(0).random(50)
    kept = largest(values, 0.8)
    assert values[kept].sum() >= 0.8 * values.sum() > values[kept].sum() - values[kept].min()
    assert largest(values, 1.0).all()
    assert not largest(np.zeros(3), 0.5).any()


def test_a_graph_is_the_mean_of_its_images(seen, scores, graph):
    edges, targets = edges_to_latents(seen[1], seen[2], "frozen")
    key = targets.node[edges.pairs.target] * 24 + edges.pairs.source
    sums = torch.zeros(24 * 24, dtype=torch.float64).index_add(0, key, edges.pairs.value) / 3
    nodes = graph.nodes
    for row in graph.edges.sample(50, random_state=0).itertuples():
        source, target = nodes.loc[row.source], nodes.loc[row.target]
        if source.layer == 1 and source.kind == "latent":
            assert row.weight == pytest.approx(float(sums[target.latent * 24 + source.latent]), abs=1e-12)
    edges, targets = edges_to_scores(seen[2], scores, CLASSES, "frozen")
    error = graph.edges[graph.edges["target"] == nodes.index[-1]].merge(
        nodes, left_on="source", right_index=True
    )
    assert error.loc[error["kind"] == "error", "weight"].item() == pytest.approx(
        float(edges.beside[:, 0].mean())
    )
    assert nodes["value"].iloc[-1] == pytest.approx(float(targets.value.mean()))


def test_batches_do_not_change_a_graph(seen, scores, graph):
    other = trace_graph(seen, scores, CLASSES, batch_size=2)
    pd.testing.assert_frame_equal(other.edges, graph.edges)


def test_paths_on_one_image_are_the_chain_rule(seen, scores):
    """All paths of an early latent through later ones add up to its path through the decoded latents."""
    one = [layer.images(0, 1) for layer in seen[1:]]
    graph = trace_graph(one, scores, CLASSES[:1], by_token=True)
    found = paths(graph, top=10**6)
    start = found["nodes"].map(lambda nodes: nodes[0])
    node = int(graph.nodes.index[(graph.nodes["layer"] == 0) & (graph.nodes["kind"] == "latent")][0])
    token, latent = graph.nodes.loc[node, ["token", "latent"]]
    edges, _ = edges_to_scores(one[1], scores, CLASSES[:1], "frozen", by_token=True)
    into, targets = edges_to_latents(*one, "frozen", by_token=True)
    score_of = dict(zip(edges.pairs.source.tolist(), edges.pairs.value.tolist(), strict=True))
    mine = into.pairs.source == token * 24 + latent
    parts = [
        float(value) * score_of[int(targets.node[row])] / float(targets.value[row])
        for row, value in zip(into.pairs.target[mine], into.pairs.value[mine], strict=True)
    ]
    assert found.loc[start == node, "weight"].sum() == pytest.approx(sum(parts))


def test_tracing_a_share_saves_edges_and_says_what_it_leaves(seen, scores, graph):
    part = trace_graph(seen, scores, CLASSES, trace=0.5)
    assert len(part.edges) < len(graph.edges)
    assert part.replacement < graph.replacement + 1e-12
    top = graph.edges["target"] == graph.nodes.index[-1]
    np.testing.assert_allclose(
        part.edges[part.edges["target"] == part.nodes.index[-1]]["weight"], graph.edges[top]["weight"]
    )


def test_too_many_edges_are_refused_with_their_number(seen, scores):
    with pytest.raises(ValueError, match=r"more than 100 edges, \d+ so far: .*by_token=False.*max_edges"):
        trace_graph(seen, scores, CLASSES, max_edges=100)
    with pytest.raises(ValueError, match=r"classes must be in 0\.\.2, got \[0, 3\]"):
        trace_graph(seen, scores, torch.tensor([0, 3, 3]))
    with pytest.raises(ValueError, match=r"classes must be \[n\] of the 3 images"):
        trace_graph(seen, scores, CLASSES[:2])
