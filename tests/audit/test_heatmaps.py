"""Where a latent drives the score: against the explanation of single images, on a tiny run of patches."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import ImageColor

from lightning_sae.audit.report import write_report
from lightning_sae.audit.report.heatmaps import Heatmaps
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.classifiers.outputs import MarginOutput
from lightning_sae.explain.explanation import explain
from lightning_sae.explain.picture import LOWERS, RAISES
from lightning_sae.runs.folder import open_run

from .fabricated import audit, culprit, finding, result

ROOT = Path(__file__).parents[2]
SMALL = [
    *("data.n_train=128", "data.n_val=32", "data.n_test=1", "data.n_probe=8", "data.batch_size=64"),
    *("sae.d_sae=64", "sae.k=4", "module.decay_fraction=0", "+module.top_n=5", "trainer.accelerator=cpu"),
    *("trainer.max_steps=4", "trainer.val_check_interval=4", "trainer.num_sanity_val_steps=0", "logger=csv"),
    "callbacks=[progress,latent_table,save_sae]",
]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder, store = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("store")
    hook = ["hook_point=visual.transformer.resblocks.1", "tokens=patch"]
    given = [*SMALL, *hook, f"data.store_dir={store}", f"hydra.run.dir={folder}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *given])
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    return open_run(folder)


@pytest.fixture(scope="module")
def classifier(run):
    clip = run.data.clip
    prompts = [[f"a photo of a {name}"] for name in run.data.class_names]
    texts = clip.encode_text([p for [p] in prompts])
    return Classifier.of_prompts(run.data.class_names, prompts, texts, clip.logit_scale)


def test_a_heatmap_is_the_attribution_of_each_place(run, classifier):
    heatmaps = Heatmaps.of(run, classifier, "logit")
    image = run.data.images("val")[3]
    (explanation,) = explain(run, image, classifier.prompts[2], top=3)
    for row, latent in enumerate(explanation.drivers["latent"]):
        values = heatmaps.values([image, run.data.images("val")[4]], latent, c=2)
        torch.testing.assert_close(values[0].flatten(), explanation.tokens[1 + row], atol=1e-6, rtol=1e-4)
        raised = explanation.tokens[1 + row].argmax()
        if explanation.tokens[1 + row].max() > 0:
            (picture,) = heatmaps.draw([3], latent, run.data.class_names[2], side=16 * values.shape[1])
            red, _, blue = np.asarray(picture)[_middle(raised, values.shape[2])].tolist()
            assert red > blue  # orange


def test_all_pictures_have_one_scale(run, classifier, monkeypatch):
    """The mask of a colour grows with the root of the value."""
    heatmaps = Heatmaps.of(run, classifier, "logit")
    values = torch.zeros(3, *heatmaps.grid)
    values[0].view(-1)[0] = -2.0
    values[1].view(-1)[:2] = torch.tensor([-0.5, 0.5])
    monkeypatch.setattr(heatmaps, "values", lambda images, latent, c: values)
    side, columns = 16 * heatmaps.grid[0], heatmaps.grid[1]
    pictures = heatmaps.draw([3, 4, 4], 0, run.data.class_names[2], side)
    full, half, grey = (np.asarray(picture).astype(float) for picture in pictures)
    colours = [ImageColor.getrgb(colour) for colour in (LOWERS, RAISES)]
    assert full[_middle(0, columns)].tolist() == list(colours[0])
    for place, colour in enumerate(colours):
        middle = _middle(place, columns)
        assert np.abs(half[middle] - (grey[middle] + colour) / 2).max() < 2
    assert np.ptp(grey, axis=2).max() == 0
    assert np.array_equal(half[_middle(2, columns)], grey[_middle(2, columns)])


def test_a_single_token_has_no_place(run, classifier, monkeypatch):
    data = SimpleNamespace(clip=run.data.clip, shape=SimpleNamespace(tokens=1))
    monkeypatch.setattr(run, "data", data)
    assert Heatmaps.of(run, classifier, "logit") is None


def _middle(place, columns):
    row, column = divmod(int(place), columns)
    return 16 * row + 8, 16 * column + 8


class Mine(MarginOutput):
    name = "mine"


@pytest.mark.parametrize(("name_of_output", "output"), [("margin", None), ("mine", Mine())])
def test_they_stand_below_the_examples_where_there_are_any(run, classifier, tmp_path, name_of_output, output):
    latent = int(run.latents.index[0])
    name = run.data.class_names[0]
    found = finding(1, name, (culprit(latent, "brown", tuple(run.top_images(latent)[:2])),))
    whole = audit((result(name, (1,)),), (found,), output=name_of_output)
    page = write_report(whole, run, tmp_path, classifier, output).read_text()
    assert page.count("where it drives the score there") == 2
    assert page.count(f"image on which latent {latent} fires") == 2
