"""Edges during a short training, against the library on what the run has saved."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn.functional import gelu

from callbacks.alignment import Alignment
from callbacks.edges import LayerEdges
from callbacks.latent_table import LatentTable
from callbacks.save_sae import SaveSAE
from lightning_sae.attribution.edges import held
from lightning_sae.attribution.edges.ablation import ablate_to_latents, agreement
from lightning_sae.attribution.edges.circuit import faithfulness, latent_means, strongest_circuit
from lightning_sae.attribution.edges.edges import edges_to_latents
from lightning_sae.attribution.edges.graph import paths
from lightning_sae.attribution.edges.layers import Layer, look
from lightning_sae.attribution.edges.targets import LatentTargets
from lightning_sae.attribution.edges.trace import trace_graph
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.concepts.alignment import best_labels, concept_vectors
from lightning_sae.concepts.vocabulary import Vocabulary
from lightning_sae.metrics import mean_in_units
from lightning_sae.runs.folder import RunFolder
from lightning_sae.sae import load_sae

BLOCK = "visual.transformer.resblocks."
BOTH = [f"{BLOCK}1", f"{BLOCK}3"]
KEYS = ("replacement", "completeness", "faithfulness", "faithfulness_random", "agreement")


def callback(**options):
    """Measures six classes, with all targets and sources of an image."""
    bounds = {"max_classes": 6, "n_images": 3, "targets": 1000, "sources": 1000, "circuit": 0.3, "paths": 3}
    return LayerEdges(**bounds | options)


def callbacks(**options):
    return {
        "alignment": Alignment(Vocabulary(), draws=50),
        "edges": callback(**options),
        "latent_table": LatentTable(),
        "save_sae": SaveSAE(),
    }


@pytest.fixture(scope="module")
def both_run(fit, tmp_path_factory):
    return fit(tmp_path_factory.mktemp("edges"), callbacks(), hook_point="", hook_points=BOTH)


@pytest.fixture(scope="module")
def seen(both_run):
    """The images of each class, by name, seen by the saved autoencoders; and of all classes together."""
    data = both_run.data
    layers = [Layer.of(load_sae(both_run.folder / place)) for place in ("layers/resblocks.1/sae", "sae")]
    ids, images = data.probe.image_ids, data.images("val")
    pixels = torch.stack([data.clip.preprocess(images[i]) for i in ids.tolist()])
    predicted = (data.clip.encode_image(pixels) @ data.class_embeddings.T).argmax(1)
    counts = torch.bincount(predicted, minlength=len(data.class_names)).tolist()
    most = sorted(range(len(counts)), key=lambda c: (-counts[c], c))[:6]
    rows = {c: (predicted == c).nonzero().flatten()[:3] for c in sorted(most)}
    by_class = {c: look(data.clip, layers, pixels[mine]) for c, mine in rows.items()}
    return by_class, look(data.clip, layers, pixels[torch.cat([*rows.values()])])


@pytest.fixture(scope="module")
def scores(both_run):
    return ClassScores(both_run.data.class_embeddings, "logit", both_run.data.clip.logit_scale)


@pytest.fixture(scope="module")
def graphs(seen, scores):
    return {c: trace_graph(mine, scores, classes_of(c, mine)) for c, mine in seen[0].items()}


@pytest.fixture(scope="module")
def table(both_run):
    return RunFolder(both_run.folder).table("edges")


def classes_of(c, mine):
    return torch.full((len(mine[0].explained.x),), c)


def test_replacement_and_completeness_are_those_of_the_graphs(both_run, graphs, table):
    logged, names = both_run.trainer.callback_metrics, both_run.data.class_names
    assert [*table["class"].unique()] == [names[c] for c in graphs]
    for name in ("replacement", "completeness"):
        values = [getattr(graph, name) for graph in graphs.values()]
        assert float(logged[f"edges/{name}"]) == pytest.approx(sum(values) / 6, rel=1e-4)
        assert table.groupby("class", sort=False)[name].first().tolist() == pytest.approx(values, rel=1e-4)


def test_faithfulness_is_that_of_the_strongest_latents(both_run, seen, graphs, scores, table):
    means = latent_means(seen[1])
    of_class = table.groupby("class")["faithfulness"].first()
    for c, mine in seen[0].items():
        circuit = strongest_circuit(graphs[c], mine, 0.3)
        inside, _ = faithfulness(mine, circuit, means, scores, classes_of(c, mine))
        name = both_run.data.class_names[c]
        assert of_class[name] == pytest.approx(float(inside.mean), rel=1e-3, nan_ok=True)
    found = both_run.find(LayerEdges).classes
    assert any(each.gains[2].mean() < 0 for each in found)
    gains, _, units = torch.cat([each.gains for each in found if each.gains[2].mean() > 0], 1)
    logged = both_run.trainer.callback_metrics["edges/faithfulness"]
    assert float(logged) == pytest.approx(float(mean_in_units(gains, units)), rel=1e-5)


def test_agreement_is_with_exact_ablation(both_run, seen):
    values = []
    for mine in seen[0].values():
        early, late = (layer.images(0, 1) for layer in mine)
        truth = ablate_to_latents(early, LatentTargets(late))
        values.append(agreement(edges_to_latents(early, late)[0].pairs, truth).nanmean())
    logged = both_run.trainer.callback_metrics["edges/agreement"]
    assert float(logged) == pytest.approx(float(torch.stack(values).mean()), abs=2e-3)


def test_the_table_has_the_strongest_paths(both_run, graphs, table):
    for c, graph in graphs.items():
        found = paths(graph, top=3)
        rows = table[table["class"] == both_run.data.class_names[c]]
        expected = [graph.nodes.loc[list(nodes[:-1]), "latent"].tolist() for nodes in found["nodes"]]
        assert rows.groupby("path")["latent"].apply(list).tolist() == expected
        for column in ("weight", "influence"):
            got = rows.groupby("path")[column].first().tolist()
            assert got == pytest.approx(found[column].tolist(), rel=1e-3)
        last = rows[rows["layer"] == "resblocks.3"]
        leaks = [graph.leaks[graph.node(1, latent)] for latent in last["latent"]]
        assert last["leak"].tolist() == pytest.approx(leaks, rel=1e-3)
        assert rows.loc[rows["layer"] == "resblocks.1", "leak"].isna().all()


def test_labels_of_both_layers(both_run, table):
    own = pd.read_csv(both_run.folder / "latents.csv").set_index("latent")
    last = table[table["layer"] == "resblocks.3"]
    assert last["label"].tolist() == own.loc[last["latent"], "label"].tolist()
    assert last["named"].tolist() == own.loc[last["latent"], "named"].tolist()
    words = both_run.find(Alignment).embedded
    earlier = pd.read_csv(both_run.folder / "layers/resblocks.1/latents.csv").set_index("latent")
    for row in table[table["layer"] == "resblocks.1"].itertuples():
        ids = torch.tensor([[int(i) for i in str(earlier.loc[row.latent, "top_images"]).split()]])
        vectors = concept_vectors(ids, both_run.data.judge_embeddings)
        assert row.label == words.labels[int(best_labels(vectors, words.texts, words.empty).index)]
        assert not row.named


def test_intervals_hold_the_logged_numbers(both_run):
    rows = pd.read_csv(both_run.folder / "edge_measures.csv").set_index("measure")
    assert tuple(rows.index) == KEYS
    for key, row in rows.iterrows():
        if key in ("replacement", "completeness", "agreement"):
            assert row["low"] <= row["mean"] <= row["high"]
            assert row["n"] == 6
        logged = both_run.trainer.callback_metrics.get(f"edges/{key}", torch.tensor(torch.nan))
        assert float(logged) == pytest.approx(row["mean"], rel=1e-4, nan_ok=True)


def test_each_turn_is_logged_and_a_validation_finds_the_same(both_run, tmp_path):
    curve = pd.read_csv(both_run.folder / "metrics.csv")["edges/agreement"].dropna()
    assert len(curve) == 1  # every fourth pass, and the last
    fresh = callback()
    trainer = Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        callbacks=[fresh],
        logger=False,
        enable_progress_bar=False,
    )
    trainer.validate(both_run.module, datamodule=both_run.data, verbose=False)
    for key in KEYS:
        then = both_run.trainer.callback_metrics.get(f"edges/{key}")
        assert then is None or torch.equal(trainer.callback_metrics[f"edges/{key}"], then)
    assert "label" not in pd.read_csv(tmp_path / "edges.csv")  # nobody gave labels


def test_processes_share_the_classes(both_run):
    alone, parts = both_run.find(LayerEdges).classes, []
    for rank in range(2):
        strategy = SimpleNamespace(broadcast=lambda mine, src, rank=rank: mine if src == rank else [])
        trainer = SimpleNamespace(global_rank=rank, world_size=2, strategy=strategy)
        module = SimpleNamespace(layers=both_run.module.layers, log_dict=lambda values: None)
        pass_ = SimpleNamespace(data=both_run.data, module=module, trainer=trainer, get=lambda kind: None)
        mine = callback()
        with torch.no_grad():
            mine.finish(pass_)
        parts += mine.classes
    assert [each.target for each in parts] == [alone[i].target for i in (0, 2, 4, 1, 3, 5)]
    for one, other in zip(sorted(parts, key=lambda each: each.target), alone, strict=True):
        assert torch.equal(one.gains, other.gains)
        assert torch.equal(one.agreement, other.agreement)
        pd.testing.assert_frame_equal(one.paths, other.paths)


def test_one_hook_point_is_refused(run):
    with pytest.raises(ValueError, match=r"this run has one hook point: name several, hook_points="):
        LayerEdges().check(run.data)


def test_a_model_without_a_frozen_rule_is_refused_before_the_training(both_run, monkeypatch):
    LayerEdges().check(both_run.data)
    monkeypatch.delitem(held._RULES, gelu)
    with pytest.raises(ValueError, match="Gelu is not linear and has no rule"):
        LayerEdges().check(both_run.data)


def test_too_many_edges_name_the_settings(both_run, fit, tmp_path):
    with pytest.raises(
        ValueError, match=r"more than 10 edges, \d+ so far: .* \(trace, max_traced\), .* raise max_edges"
    ):
        fit(tmp_path, {"edges": callback(max_edges=10)}, hook_point="", hook_points=BOTH)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": -1}, "every must be a whole number of at least 0, got -1"),
        ({"n_images": 0}, "n_images must be a whole number of at least 1"),
        ({"sources": 1}, "sources must be a whole number of at least 2"),
        ({"trace": 0}, r"trace must be in \(0, 1\], got 0"),
        ({"circuit": 1.5}, r"circuit must be in \(0, 1\], got 1.5"),
        ({"confidence": 1}, r"confidence must be in \(0, 1\), got 1"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        LayerEdges(**options)
