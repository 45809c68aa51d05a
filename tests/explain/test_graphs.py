"""The graph of an image and a prompt: what page and data say of it, and what is refused."""

import base64
import gzip
import json
import re

import pandas as pd
import pytest
import torch

from lightning_sae.attribution.edges.layers import Layer, look
from lightning_sae.attribution.edges.trace import trace_graph
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.explain.__main__ import main
from lightning_sae.explain.explanation import explain
from lightning_sae.explain.graph_page import write_graphs
from lightning_sae.explain.image_file import read_image
from lightning_sae.explain.image_graph import image_graphs
from lightning_sae.graphs.traced import GraphSettings
from lightning_sae.runs.folder import open_run
from lightning_sae.world import World

PROMPTS = ["a photo of a star", "a photo of a heart"]
MIDDLE = "hook_point=visual.transformer.resblocks.1"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "heart.png"
    World("biased", "test", 10).image(3).save(path)
    return path


@pytest.fixture(scope="module")
def run(small_layers_run):
    return open_run(small_layers_run)


@pytest.fixture(scope="module")
def early(train_small):
    """All tokens of a block in the middle."""
    return train_small("early", MIDDLE, "tokens=all")


def traced(runs, image, c, rule="frozen"):
    """The graph by the library alone."""
    clip = runs[0].data.clip
    layers = [Layer(layer.hook_point, layer.sae) for run in runs for layer in run.layers.values()]
    seen = look(clip, layers, clip.preprocess(read_image(image))[None])
    scores = ClassScores(clip.encode_text(PROMPTS), "logit", clip.logit_scale)
    return trace_graph(seen, scores, torch.tensor([c]), rule)


def content_of(page):
    (packed,) = re.findall(r'id="latent-data">([^<]*)</script>', page.read_text("utf-8"))
    return json.loads(gzip.decompress(base64.b64decode(packed)))


@pytest.mark.parametrize(("share", "rule"), [(0.8, "frozen"), (0.5, "gradient")])
def test_page_and_data_have_the_nodes_and_edges_of_the_pruned_graph(run, image, tmp_path, share, rule):
    path = tmp_path / "page.html"
    words = ["--graph", "--out", str(path), "--share", str(share), "--rule", rule]
    words += [word for prompt in PROMPTS for word in ("--prompt", prompt)]
    main([str(run.folder), "--image", str(image), *words])
    drawn, record = content_of(path)["graphs"], json.loads(path.with_suffix(".json").read_text())
    assert record["schema_version"] == 1
    assert [layer["hook_point"] for layer in record["layers"]] == [
        f"visual.transformer.resblocks.{block}:cls" for block in (1, 3)
    ]
    for c, prompt in enumerate(PROMPTS):
        expected = traced([run], image, c, rule).prune(share)
        assert record["graphs"][c]["prompt"] == prompt
        assert record["graphs"][c]["replacement"] == pytest.approx(expected.replacement, abs=1e-9)
        nodes = pd.DataFrame(record["graphs"][c]["nodes"]).set_index("node")
        columns = ["layer", "kind", "latent"]
        assert nodes[columns].to_numpy().tolist() == expected.nodes[columns].to_numpy().tolist()
        edges = pd.DataFrame(record["graphs"][c]["edges"])
        assert (
            edges[["source", "target"]].to_numpy().tolist()
            == expected.edges[["source", "target"]].to_numpy().tolist()
        )
        assert edges["weight"].tolist() == pytest.approx(expected.edges["weight"].tolist(), rel=1e-6)
        shown = drawn[c]["nodes"]
        known = {(node["column"], node["kind"], node.get("latent", -1)) for node in shown}
        assert known == {*map(tuple, expected.nodes[columns].to_numpy().tolist())}
        assert [node["column"] for node in shown] == sorted(node["column"] for node in shown)
        described = {(s, t): w for s, t, w, _ in drawn[c]["edges"]}
        assert len(described) == len(drawn[c]["edges"]) == len(expected.edges)
        numbers = {(n["column"], n["kind"], n.get("latent", -1)): i for i, n in enumerate(shown)}
        for source, target, weight in expected.edges[["source", "target", "weight"]].itertuples(index=False):
            ends = [numbers[tuple(expected.nodes.loc[node, columns])] for node in (source, target)]
            assert described[tuple(ends)] == pytest.approx(weight, rel=6e-3)


def test_latents_of_the_last_layer_are_as_without_a_graph(run, image):
    picture = read_image(image)
    found = image_graphs([run], picture, PROMPTS, settings=GraphSettings(share=1.0))
    unexpected = 0
    for each, known in zip(found.graphs, explain(run, picture, PROMPTS, top=64), strict=True):
        drivers = known.drivers.set_index("latent")
        last = each.nodes[(each.nodes["layer"] == 1) & (each.nodes["kind"] == "latent")].set_index("latent")
        assert len(last)
        for name in ("attribution", "unexpected", "named"):
            assert last[name].tolist() == pytest.approx(drivers.loc[last.index, name].tolist(), rel=1e-3)
        assert last["label"].tolist() == drivers.loc[last.index, "label"].tolist()
        unexpected += int(each.nodes["unexpected"].sum())
        assert each.score == pytest.approx(known.score, rel=1e-4)
    assert unexpected > 0


def test_two_runs_are_as_one_of_both(train_small, small_run, run, image):
    first, last = open_run(train_small("first", MIDDLE)), open_run(small_run)
    one, two = (image_graphs(runs, read_image(image), PROMPTS[:1]) for runs in ([run], [first, last]))
    columns = ["layer", "kind", "latent", "value", "influence", "attribution", "unexpected"]
    pd.testing.assert_frame_equal(one.graphs[0].nodes[columns], two.graphs[0].nodes[columns])
    assert [layer.title for layer in two.layers] == ["resblocks.1:cls", "resblocks.3:cls"]


def test_heatmaps_where_tokens_are_places(early, small_run, image, tmp_path):
    runs, picture = [open_run(early), open_run(small_run)], read_image(image)
    found = image_graphs(runs, picture, PROMPTS[:1], settings=GraphSettings(share=1.0))
    page = write_graphs(found, picture, "heart.png", "logit", tmp_path / "page.html")
    (drawn,) = content_of(page)["graphs"]
    latents = [node for node in drawn["nodes"] if node["kind"] == "latent"]
    assert {node["column"] for node in latents} == {0, 1}
    assert all(("map" in node) == (node["column"] == 0) for node in latents)
    assert all(len(node["tops"]) <= 4 for node in latents)
    places = [
        place for node in latents for place in [*node["tops"], *([node["map"]] if "map" in node else [])]
    ]
    assert page.read_text().count('<img alt="" src="data:image/webp') == max(places) // 256 + 1


def test_the_command_says_whether_to_trust_it(run, image, capsys):
    main([str(run.folder), "--image", str(image), "--prompt", PROMPTS[0], "--graph"])
    said = " ".join(capsys.readouterr().out.split())
    graph = traced([run], image, 0)
    assert f"Replacement {graph.replacement:.2f}" in said
    assert f"Completeness {graph.completeness:.2f}" in said
    assert ("Do not trust this graph" in said) == (graph.replacement < 0.5)
    assert "strongest paths to the score" in said
    assert (run.folder / "pictures" / "explain_heart.html").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--share", "0"], r"share must be in \(0, 1\], got 0"),
        (["--trace", "2"], r"trace must be in \(0, 1\], got 2"),
        (["--most-edges", "0"], "must be at least 1, got 0"),
        (
            ["--most-edges", "1"],
            r"80 % of the influence has \d+ edges, more than the 1 .* less of it \(share\)",
        ),
        (["--output", "margin", "--prompt", "star"], "use rule=gradient, or output cosine or logit"),
    ],
)
def test_what_the_user_can_mend_ends_in_one_message(run, image, tmp_path, words, message):
    path = tmp_path / "page.html"
    with pytest.raises(SystemExit, match=message):
        main(
            [
                str(run.folder),
                "--image",
                str(image),
                "--prompt",
                "moon",
                "--graph",
                "--out",
                str(path),
                *words,
            ]
        )
    assert not [*tmp_path.iterdir()]


def test_runs_that_no_graph_connects(train_small, small_run, early, image):
    other = train_small("other", MIDDLE, "clip=world_balanced")
    cases = {
        f"needs two layers or more, and {small_run} has one": [small_run],
        "must be in the order in which the tower reaches them": [small_run, early],
        "must be of different modules": [small_run, small_run],
        rf"a graph is of one CLIP, and {other} is of .*balanced.*, {small_run} of .*biased": [
            other,
            small_run,
        ],
    }
    for message, folders in cases.items():
        with pytest.raises(SystemExit, match=message):
            main([*map(str, folders), "--image", str(image), "--prompt", "star", "--graph"])
    with pytest.raises(SystemExit, match="one run is explained at a time"):
        main([str(early), str(small_run), "--image", str(image), "--prompt", "star"])
