import pytest
import torch

from lightning_sae.attribution.edges.ablation import ablate_to_latents, ablate_to_scores, agreement
from lightning_sae.attribution.edges.baselines import by_coactivation, by_integration, by_weights
from lightning_sae.attribution.edges.circuit import (
    circuit_of,
    circuit_scores,
    faithfulness,
    latent_means,
    random_circuit,
)
from lightning_sae.attribution.edges.edges import edges_to_latents, onward_map
from lightning_sae.attribution.edges.pair_sums import Pairs
from lightning_sae.attribution.edges.targets import LatentTargets
from lightning_sae.attribution.edges.trace import trace_graph
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.clip import HookPoint, splice

from .conftest import seen_at

BLOCK = "visual.transformer.resblocks."


@pytest.fixture(scope="module")
def seen(deep):
    return seen_at(deep, [HookPoint(BLOCK + "0", "patch"), HookPoint(BLOCK + "1", "all")])


@pytest.fixture(scope="module")
def scores():
    generator = torch.Generator().manual_seed(5)
    return ClassScores(torch.randn(3, 32, generator=generator).double(), "logit", 10.0)


CLASSES = torch.tensor([0, 2, 2])


def test_ablation_runs_the_real_model_without_a_latent(seen):
    targets = LatentTargets(seen[1])
    found = ablate_to_latents(seen[0], targets, batch_size=5)
    edges, _ = edges_to_latents(*seen)
    assert torch.equal(found.target, edges.pairs.target)
    assert torch.equal(found.source, edges.pairs.source)
    onward, later = seen[0].onward, seen[1]
    whole = onward.tail(onward.x, onward.context)
    for place in (0, 100, len(found.value) - 1):
        row, i = int(found.target[place]), int(found.source[place])
        image, j = int(targets.image[row]), int(targets.node[row])
        gone = onward.latents.to_dense()[:, i].view(3, -1)[image, :, None] * onward.W_dec[i]
        edited = onward.tail((onward.x[image] - gone)[None], onward.context[image][None])[0]
        active = later.explained.latents.to_dense()[:, j].view(3, -1)[image] > 0
        effect = (whole[image] - edited)[active] @ later.layer.sae.encoder[j]
        torch.testing.assert_close(found.value[place], effect.sum().detach())


def test_frozen_edges_are_exact_in_the_held_model(seen):
    """Where the model is replaced by the held one, removing a latent does just what its edge says."""
    held = onward_map(seen[0], None, "frozen")
    edges, targets = edges_to_latents(*seen, rule="frozen")
    linear = seen[0]._replace(onward=seen[0].onward._replace(tail=lambda x, context: held(x)))
    removed = [int(edges.pairs.source[0])]
    onward = linear.onward
    gone = onward.latents.to_dense()[:, removed] @ onward.W_dec[removed]
    change = targets.read(held(onward.x) - held(onward.x - gone.view_as(onward.x)))
    mine = edges.pairs.source == removed[0]
    expected = (
        torch.zeros(len(targets)).double().index_add(0, edges.pairs.target[mine], edges.pairs.value[mine])
    )
    torch.testing.assert_close(change, expected)


def test_ablation_of_a_score_lets_later_layers_follow(seen, scores):
    found = ablate_to_scores(seen[0], scores, CLASSES)
    explained = seen[0].explained
    image, i = int(found.target[3]), int(found.source[3])
    gone = explained.latents.to_dense()[:, i].view(3, -1)[image, :, None] * explained.W_dec[i]
    pair = torch.stack([explained.x[image], explained.x[image] - gone])
    both = scores(explained.tail(pair, explained.context[image].expand(2, -1, -1)))[:, CLASSES[image]]
    torch.testing.assert_close(found.value[3], both[0] - both[1])


def test_agreement_is_a_rank_correlation_for_each_target():
    target = torch.tensor([0, 0, 0, 1, 1, 2])
    found = Pairs(target, torch.arange(6), torch.tensor([1.0, 2, 9, 5, 4, 1]))
    truth = found._replace(value=torch.tensor([3.0, 4, 5, 1, 2, 7]))
    assert agreement(found, truth)[:2].tolist() == pytest.approx([1, -1])
    assert agreement(found, truth)[2].isnan()
    with pytest.raises(ValueError, match="values of the same pairs"):
        agreement(found, truth._replace(source=target))


def test_baselines_by_brute_force(seen):
    edges, targets = edges_to_latents(*seen, rule="frozen")
    nodes = edges.pairs._replace(target=targets.node[edges.pairs.target])
    weights = seen[0].explained.W_dec @ seen[1].layer.sae.encoder.T
    torch.testing.assert_close(by_weights(*seen, nodes).value, weights[nodes.source, nodes.target].detach())
    a, b = (layer.explained.latents.to_dense().view(3, -1, 24).sum(1) for layer in seen)
    found, correlation = by_coactivation(*seen, nodes).value, torch.corrcoef(torch.cat([a, b], 1).T)
    torch.testing.assert_close(found, correlation[nodes.source, 24 + nodes.target], equal_nan=True)


def test_integration_adds_up_to_what_all_latents_do(seen):
    one, later = (layer.images(0, 1) for layer in seen)
    targets, onward = LatentTargets(later), one.onward
    found = by_integration(one, targets, steps=16)
    active = (onward.latents.to_dense() @ onward.W_dec).view_as(onward.x)
    change = onward.tail(onward.x, onward.context) - onward.tail(onward.x - active, onward.context)
    sums = torch.zeros(len(targets)).double().index_add(0, found.target, found.value)
    torch.testing.assert_close(sums, targets.read(change), rtol=1e-2, atol=1e-3)
    with pytest.raises(ValueError, match="at least 1"):
        by_integration(one, targets, steps=0)


def all_or_none(seen, value):
    return [torch.full((24,), value) for _ in seen]


def test_the_whole_circuit_is_the_model(seen, scores):
    explained = seen[0].explained
    whole = scores.of(CLASSES)(explained.tail(explained.x, explained.context), slice(0, 3))
    means = latent_means(seen)
    found = circuit_scores(seen, all_or_none(seen, True), means, scores, CLASSES, batch_size=2)
    torch.testing.assert_close(found, whole)


def test_a_circuit_is_two_splices(deep, seen, scores):
    """Each edits what arrives at its layer, the later one after the earlier one."""
    circuit = random_circuit([torch.arange(24) < 4, torch.arange(24) < 6], seen, seed=1)
    assert [int(kept.sum()) for kept in circuit] == [4, 6]
    means = latent_means(seen)

    def edit(place):
        def edited(x):
            sae, dense = seen[place].layer.sae, seen[place].layer.sae.encode(x.flatten(0, 1)).to_dense()
            new = torch.where(circuit[place], dense, means[place])
            return x + ((new - dense) @ sae.W_dec).view_as(x)

        return edited

    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    hooks = [layer.layer.hook_point for layer in seen]
    with splice(deep, hooks[0], edit(0), error_term=False), splice(deep, hooks[1], edit(1), error_term=False):
        expected = scores.of(CLASSES)(deep.encode_image(pixels), slice(0, 3))
    torch.testing.assert_close(circuit_scores(seen, circuit, means, scores, CLASSES), expected.detach())


def test_faithfulness_of_everything_is_one_and_of_nothing_zero(seen, scores):
    means = [mean * 0 for mean in latent_means(seen)]
    classes = torch.stack(
        [scores(seen[0].explained.tail(seen[0].explained.x, seen[0].explained.context))] * 2
    )
    best = (classes[0] - classes[0].mean(0)).argmax(1)
    inside, outside = faithfulness(seen, all_or_none(seen, True), means, scores, best)
    full, none = (
        circuit_scores(seen, all_or_none(seen, v), means, scores, best).mean() for v in (True, False)
    )
    if full > none:
        assert float(inside.mean) == pytest.approx(1)
        assert float(outside.mean) == pytest.approx(0)
    else:
        assert inside.mean.isnan()


def test_a_graph_says_its_circuit(seen, scores):
    graph = trace_graph(seen, scores, CLASSES).prune(0.9)
    circuit = circuit_of(graph, seen)
    latents = graph.nodes[graph.nodes["kind"] == "latent"]
    assert sum(int(kept.sum()) for kept in circuit) == len(latents)
    assert all(circuit[row.layer][row.latent] for row in latents.itertuples())
