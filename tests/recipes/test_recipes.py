"""The recipes end to end: a planted cue, a probe that learns it, and the latents that give it away."""

import importlib
from pathlib import Path

import pytest

from lightning_sae.classifiers.saved_probe import load_probe
from lightning_sae.metrics import sparse_auroc
from lightning_sae.runs.folder import open_run

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STAMPS = Path("/usr/share/tuxpaint/stamps")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def recipes():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("recipes")


@pytest.fixture(scope="module")
def stamps(debian):
    """Tux Paint's, installed where that is possible."""
    if not STAMPS.is_dir():
        debian("tuxpaint-stamps-default")


def check_finding(recipes, recipe, folder, probe, out):
    """The audit names the planted class, by latents of the cue that are called by it; the page is there."""
    run = open_run(folder)
    finding = recipes.found_in(run, probe, out, recipe.class_name)
    assert finding.kind == "spurious"
    assert finding.severity == "high"
    assert finding.culprits[0].label == recipe.cue
    assert (out / "audit.html").is_file()
    saved, seen = load_probe(probe, run.data.clip.identity()), recipes.see(run, recipe)
    latents = [culprit.latent for culprit in finding.culprits]
    assert sparse_auroc(seen.latents, seen.cue)[latents[0]] >= 0.9
    assert finding.share > 0.5
    before = recipes.rates(saved, seen.embeddings, seen, recipe.class_name)
    after = recipes.rates(saved, recipes.without(run, seen, latents), seen, recipe.class_name)
    return before, after


def test_a_red_ground_behind_melanoma(recipes, tmp_path):
    recipe = recipes.RECIPES["skin_lesions"]
    run, probe = recipes.train(recipe, tmp_path, recipes.SIZES)
    before, after = check_finding(recipes, recipe, run, probe, tmp_path / "audit")
    assert before["found with cue"] > 0.9
    assert before["found without"] < 0.6
    assert before["others with cue"] > 0.3
    assert before["others without"] < 0.05
    assert after["others with cue"] < before["others with cue"] - 0.2


@pytest.mark.usefixtures("stamps")
def test_a_green_frame_around_vehicles(recipes, tmp_path):
    recipe = recipes.RECIPES["stamps"]
    run, probe = recipes.train(recipe, tmp_path, recipes.SIZES)
    before, after = check_finding(recipes, recipe, run, probe, tmp_path / "audit")
    assert before["found with cue"] > 0.9
    assert before["found without"] < 0.4
    assert before["others with cue"] > 0.6
    assert before["others without"] < 0.1
    assert after["others with cue"] < before["others with cue"] - 0.2
