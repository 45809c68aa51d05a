"""Where the scores of classes come from, on the page of a run with several layers."""

import pandas as pd
import pytest
import torch
from selenium.webdriver.common.action_chains import ActionChains

from lightning_sae.attribution.edges.layers import Layer, look
from lightning_sae.attribution.edges.trace import trace_graph
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.explorer import write_page
from lightning_sae.explorer.class_graphs import IMAGES, MOST_NODES, SHARES, class_graphs
from lightning_sae.explorer.seen import Seen
from lightning_sae.runs.folder import open_run

from .conftest import read_page
from .test_browser import all_of, go

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def run(small_layers_run):
    return open_run(small_layers_run)


@pytest.fixture(scope="module")
def seen(run):
    return Seen.of(run)


@pytest.fixture(scope="module")
def path(run, tmp_path_factory):
    return write_page(run, tmp_path_factory.mktemp("page"))


def expected(run, seen, c):
    """The whole graph of a class by the library alone, of its first images."""
    clip, data = run.data.clip, run.data
    view = seen.classified.view
    ids = [i for i in view.attributed.tolist() if int(view.predicted[i]) == c][:IMAGES]
    layers = [Layer(layer.hook_point, layer.sae) for layer in run.layers.values()]
    at_layers = look(clip, layers, torch.stack([clip.preprocess(data.images("val")[i]) for i in ids]))
    scores = ClassScores(data.class_embeddings, "logit", clip.logit_scale)
    return trace_graph(at_layers, scores, torch.full((len(ids),), c))


def test_each_class_has_the_pruned_mean_over_its_images(run, seen, path):
    graphs = read_page(path).columns["graphs"]
    predicted = {int(c) for c in seen.classified.view.predicted[seen.classified.view.attributed].tolist()}
    assert {int(c) for c in graphs} == predicted
    for c in sorted(predicted)[:3]:
        drawn, whole = graphs[str(c)], expected(run, seen, c)
        pruned = whole.prune(drawn["share"])
        assert drawn["share"] == next(s for s in SHARES if len(whole.prune(s).nodes) <= MOST_NODES)
        assert (len(drawn["nodes"]), len(drawn["edges"])) == (len(pruned.nodes), len(pruned.edges))
        assert drawn["images"] == whole.images <= IMAGES
        assert f"Replacement {whole.replacement:.2f}" in drawn["trust"][1]
        score = next(node for node in drawn["nodes"] if node["kind"] == "score")
        known = pruned.nodes.loc[pruned.nodes["kind"] == "score", "value"].iloc[0]
        assert score["value"] == pytest.approx(known, rel=6e-3)


def test_of_the_last_layer_is_unexpected_what_the_run_calls_so(run, seen, monkeypatch):
    names = run.data.class_names
    first = class_graphs(run, seen)
    c, (_, nodes) = next(iter(first.graphs.items()))
    last = nodes[(nodes["layer"] == 1) & (nodes["kind"] == "latent")]
    assert not last["unexpected"].any()  # the run has no reliance.csv
    raising = last[last["attribution"] > 0]["latent"].tolist()
    table = last[["latent"]].assign(**{"class": names[c]})
    monkeypatch.setattr(run, "table", lambda name: table if name == "reliance" else pd.DataFrame())
    _, again = class_graphs(run, seen).graphs[c]
    unexpected = again[(again["layer"] == 1) & again["unexpected"]]["latent"].tolist()
    assert unexpected == raising


def test_a_run_with_one_layer_has_none(small_run):
    run = open_run(small_run)
    assert class_graphs(run, Seen.of(run)).graphs == {}


@pytest.mark.slow
def test_a_class_shows_its_graph(browser, path):
    graphs = read_page(path).columns["graphs"]
    c = max(graphs, key=lambda c: len(graphs[c]["edges"]))
    opened = go(browser, path.as_uri())
    opened.execute_script(f"location.hash = '#class/{c}'; dispatchEvent(new Event('hashchange'))")
    assert len(all_of(opened, "#view .stage .node")) == len(graphs[c]["nodes"])
    assert len(opened.find_elements("css selector", "#view .edges .edge")) == len(graphs[c]["edges"])
    for node in all_of(opened, "#view .stage .node")[:3]:
        opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", node)
        ActionChains(opened).move_to_element(node).perform()
        assert all_of(opened, "#view .graph-panel h3")
    assert opened.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert not opened.get_log("browser")
