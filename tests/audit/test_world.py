"""The audit of a short training on the biased world, against the world's truth."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_sae.audit import read_audit
from lightning_sae.audit.evidence.evidence_pass import ready
from lightning_sae.metrics import auroc
from lightning_sae.runs.folder import open_run
from lightning_sae.world import plants

ROOT = Path(__file__).parents[2]
SHORT = [
    *("data.n_train=6000", "data.n_val=2000", "data.n_test=1", "trainer.max_steps=600", "logger=csv"),
    *("trainer.val_check_interval=600", "trainer.num_sanity_val_steps=0", "callbacks=[default,audit]"),
    *("~callbacks.faithfulness", "~callbacks.reliance", "~callbacks.spliced_accuracy", "~callbacks.truth"),
    *("~callbacks.quality", "~callbacks.gallery", "~callbacks.attribution", "trainer.accelerator=cpu"),
]
"""The run lacks what the audit can do without."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder, store = tmp_path_factory.mktemp("audited"), tmp_path_factory.mktemp("store")
    command = [sys.executable, "train.py", f"hydra.run.dir={folder}", f"data.store_dir={store}", *SHORT]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def audit(run):
    """Written by the callback."""
    return read_audit(run)


@pytest.fixture(scope="module")
def opened(run):
    opened = open_run(run)
    ready(opened)
    return opened


@torch.no_grad()
def detection(opened, latent, positives):
    """AUROC of one latent for some validation images."""
    x = torch.cat([batch.x for batch in opened.data.val_dataloader()])
    activation = opened.sae.encode(x).columns(torch.tensor([latent])).to_dense()[:, 0]
    return float(auroc(activation.cpu(), positives))


@pytest.mark.parametrize("plant", plants("spurious"), ids=lambda plant: plant.thing)
def test_the_planted_background_is_found(opened, audit, plant):
    (found,) = [f for f in audit.findings if (f.class_name, f.kind) == (plant.thing, "spurious")]
    assert found.severity == "high"
    values, truth = opened.data.images("val").factors["background"]
    planted, culprit = truth == list(values).index(plant.factor), found.culprits[0]
    assert detection(opened, culprit.latent, planted) > 0.9
    assert planted[list(culprit.examples)].all()
    assert found.effect.false_positives.without < found.effect.false_positives.as_it_is / 2


def test_the_command_finds_what_the_callback_found(run, audit, tmp_path):
    command = [sys.executable, "-m", "lightning_sae.audit", str(run), "--out", str(tmp_path)]
    command += ["--fail-on", "high"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert read_audit(tmp_path) == audit
