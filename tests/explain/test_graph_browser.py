"""The page of a graph in Debian's Chromium: what a reader does, and what must not happen."""

import base64
import re
from itertools import pairwise

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from lightning_sae.attribution.edges.graph import paths
from lightning_sae.explain.graph_page import write_graphs
from lightning_sae.explain.image_graph import image_graphs
from lightning_sae.graphs.traced import GraphSettings
from lightning_sae.runs.folder import open_run
from lightning_sae.world import World

HOSTILE = "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">\u202e"
PROMPT = "a photo of a star"

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture(scope="module")
def run(small_layers_run):
    return open_run(small_layers_run)


@pytest.fixture(scope="module")
def found(run):
    return image_graphs(
        [run], World("biased", "test", 10).image(3), [PROMPT], settings=GraphSettings(share=1.0)
    )


@pytest.fixture(scope="module")
def page(found, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "graph.html"
    return write_graphs(found, World("biased", "test", 10).image(3), "heart.png", "logit", path)


def go(browser, path):
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(path.as_uri())
    WebDriverWait(browser, 60).until(lambda b: b.execute_script("return document.body.dataset.ready"))
    return browser


@pytest.fixture
def opened(browser, page):
    return go(browser, page)


def nodes(browser):
    return browser.find_elements(By.CSS_SELECTOR, ".stage .node")


def panel(browser):
    return browser.find_element(By.CSS_SELECTOR, ".graph-panel").text


def point(browser, node):
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", node)
    ActionChains(browser).move_to_element(node).perform()


def test_it_draws_the_graph_without_an_error_or_a_request(opened, found):
    graph = found.graphs[0].traced.graph
    assert len(nodes(opened)) == len(graph.nodes)
    assert len(opened.find_elements(By.CSS_SELECTOR, ".edges .edge")) == len(graph.edges)
    lowering = opened.find_elements(By.CSS_SELECTOR, ".edges .edge.lowers")
    assert len(lowering) == (graph.edges["weight"] < 0).sum()
    foreign = opened.find_elements(By.CSS_SELECTOR, ".stage .node.foreign")
    assert len(foreign) == found.graphs[0].nodes["unexpected"].sum()
    for kind in ("error", "bias", "outside"):
        drawn = opened.find_elements(By.CSS_SELECTOR, f".stage .node.{kind}")
        assert len(drawn) == (graph.nodes["kind"] == kind).sum() > 0
    assert f"Replacement {graph.replacement:.2f}" in opened.find_element(By.CSS_SELECTOR, ".trust").text
    entries = opened.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert [name for name in entries if not name.startswith("data:")] == []
    assert opened.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert not opened.get_log("browser")


def test_nodes_stand_in_columns_and_do_not_cover_each_other(opened, found):
    boxes = [node.rect for node in nodes(opened)]
    lefts = sorted({round(box["x"]) for box in boxes})
    assert len(lefts) == len(found.layers) + 1
    for left in lefts:
        column = sorted((box["y"], box["height"]) for box in boxes if round(box["x"]) == left)
        assert all(y + height <= below for (y, height), (below, _) in pairwise(column))


@pytest.mark.parametrize("way", ["mouse", "keys"])
def test_a_node_shows_what_it_is_reads_and_writes(opened, found, way):
    graph = found.graphs[0].traced.graph
    rows = found.graphs[0].nodes
    strongest = rows[(rows["layer"] == 1) & (rows["kind"] == "latent")]["influence"].idxmax()
    latent = int(rows.loc[strongest, "latent"])
    for node in nodes(opened):
        if way == "mouse":
            point(opened, node)
        else:
            opened.execute_script("arguments[0].focus()", node)
        if f"latent {latent} of resblocks.3:cls" in panel(opened):
            break
    assert f"latent {latent} of resblocks.3:cls" in panel(opened)
    lit = opened.find_elements(By.CSS_SELECTOR, ".lit-edges .edge")
    assert len(lit) == len(graph.reads(strongest)) + len(graph.writes(strongest))
    tables = opened.find_elements(By.CSS_SELECTOR, ".graph-panel .edge-table")
    for table, edges in zip(tables, (graph.reads(strongest), graph.writes(strongest)), strict=True):
        shown = [cell.text.replace("−", "-") for cell in table.find_elements(By.CSS_SELECTOR, ".number")]
        assert [float(text) for text in shown] == pytest.approx(edges["weight"].tolist()[:8], rel=1e-2)
    tops = opened.find_elements(By.CSS_SELECTOR, ".graph-panel .node-tops canvas")
    assert len(tops) == len(found.layers[1].top_images(latent)[:4])
    assert not opened.get_log("browser")


def test_paths_between_two_nodes_and_escape(opened, found):
    graph = found.graphs[0].traced.graph
    first = opened.find_elements(By.CSS_SELECTOR, ".stage .node.latent")[0]
    point(opened, first)
    (latent,) = re.findall(r"latent (\d+) of resblocks.1", panel(opened))
    start = graph.node(0, int(latent))
    first.click()
    assert first.get_attribute("aria-pressed") == "true"
    point(opened, opened.find_element(By.CSS_SELECTOR, ".stage .node.score"))
    expected = paths(graph, start=start, top=10**6)
    said = opened.find_element(By.CSS_SELECTOR, ".between").text.replace("−", "-")
    assert said.endswith(f" by {len(expected)} {'path' if len(expected) == 1 else 'paths'}.")
    weight = float(said.split("score: ")[1].split(" by ")[0])
    assert weight == pytest.approx(expected["weight"].sum(), rel=2e-2, abs=1e-4)
    first.send_keys(Keys.ESCAPE)
    assert first.get_attribute("aria-pressed") == "false"


def test_paper_and_a_dark_screen(opened):
    made = opened.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    assert base64.b64decode(made["data"]).startswith(b"%PDF")
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    paper = "return getComputedStyle(document.querySelector('.stage .node.score')).backgroundColor"
    assert opened.execute_script(paper) == "rgb(13, 17, 23)"
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert not opened.get_log("browser")


def test_what_a_user_wrote_never_runs(browser, small_layers_run, tmp_path):
    run = open_run(small_layers_run)
    run.latents = run.latents.assign(label=HOSTILE, named=True)
    picture = World("biased", "test", 10).image(3)
    found = image_graphs([run], picture, [HOSTILE], settings=GraphSettings(share=1.0))
    opened = go(browser, write_graphs(found, picture, HOSTILE, "logit", tmp_path / "graph.html"))
    for node in nodes(opened)[:12]:
        point(opened, node)
        assert not opened.find_elements(By.CSS_SELECTOR, "main img[src='x'], main script, .graph script")
    names = [
        name.get_attribute("textContent") for name in opened.find_elements(By.CSS_SELECTOR, ".node-name")
    ]
    assert HOSTILE.replace("\u202e", "\ufffd") in names
    assert opened.title != "run"
    assert not opened.get_log("browser")
