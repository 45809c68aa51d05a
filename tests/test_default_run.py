"""`python train.py` and an audit of its run, whole: what the README promises of them, and what it prints."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from lightning_sae.audit import read_audit
from lightning_sae.audit.evidence.evidence_pass import ready
from lightning_sae.metrics import auroc
from lightning_sae.program.audit import FOUND
from lightning_sae.runs.folder import open_run
from lightning_sae.world import plants

ROOT = Path(__file__).parents[1]
OUTPUTS = re.findall(r"```text\n(.+?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
POINTS = 5
"""Other processors round otherwise, and a training goes another way: percentages move by some points."""
SPURIOUS = pytest.mark.parametrize("plant", plants("spurious"), ids=lambda plant: plant.thing)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """The folder of a fresh default run, and what the README's two commands print about it."""
    folder, cache = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("cache")
    train = ["train.py", f"hydra.run.dir={folder}"]
    audit = ["-m", "lightning_sae.audit", str(folder), "--fail-on", "high"]
    env = os.environ | {"COLUMNS": "110", "XDG_CACHE_HOME": str(cache)}
    trained, audited = (
        subprocess.run(
            [sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        for words in (train, audit)
    )
    assert (trained.returncode, audited.returncode) == (0, FOUND), trained.stderr + audited.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))  # its store is opened again
        yield SimpleNamespace(folder=folder, trained=trained.stdout, audited=audited.stdout)


@pytest.fixture(scope="module")
def last(default):
    return pd.read_csv(default.folder / "metrics.csv").ffill().iloc[-1]


@pytest.fixture(scope="module")
def opened(default):
    opened = open_run(default.folder)
    ready(opened)
    return opened


def test_reconstruction(last):
    assert last["val/fvu"] <= 0.05
    assert last["val/l0"] <= 16
    assert last["train/dead_fraction"] <= 0.05


def test_the_spliced_clip_sees_what_the_original_sees(last):
    for key in ("", "_colour"):
        assert last[f"zero_shot/spliced{key}"] == pytest.approx(last[f"zero_shot/original{key}"], abs=0.05)


@SPURIOUS
def test_the_planted_background_is_named_and_flagged(default, plant):
    attribution, reliance = (
        pd.read_csv(default.folder / f"{name}.csv") for name in ("attribution", "reliance")
    )
    top = attribution[attribution["class"] == plant.thing].nlargest(5, "attribution")
    named = top[top["label"] == f"{plant.factor} background"]["latent"]
    assert named.isin(reliance[reliance["class"] == plant.thing]["latent"]).any()


@torch.no_grad()
def detection(opened, latent, positives):
    """AUROC of one latent for some validation images."""
    x = torch.cat([batch.x for batch in opened.data.val_dataloader()])
    activation = opened.sae.encode(x).columns(torch.tensor([latent])).to_dense()[:, 0]
    return float(auroc(activation.cpu(), positives))


@SPURIOUS
def test_the_audit_finds_the_planted_background(default, opened, plant):
    findings = read_audit(default.folder).findings
    (found,) = [f for f in findings if (f.class_name, f.kind) == (plant.thing, "spurious")]
    assert (found.severity, found.standing) == ("high", "shown")  # by pairs that differ in the ground alone
    values, truth = opened.data.images("val").factors["background"]
    planted, culprit = truth == list(values).index(plant.factor), found.culprits[0]
    assert detection(opened, culprit.latent, planted) > 0.9
    assert planted[list(culprit.examples)].all()
    assert found.effect.false_positives.without < found.effect.false_positives.as_it_is / 2


def near(shown, printed):
    """The same text, and numbers that are as good as equal."""
    numbers = r"\d+(?:\.\d+)?"
    assert re.sub(numbers, "N", shown) == re.sub(numbers, "N", printed)
    for a, b in zip(re.findall(numbers, shown), re.findall(numbers, printed), strict=True):
        allowed = max(POINTS, float(a) / 10) if float(a) > 1 else 0.02
        assert abs(float(a) - float(b)) <= allowed, (shown, printed)


def test_a_training_prints_what_the_readme_shows(default):
    figures, beside, table = OUTPUTS[0].split("\n\n")
    for line in figures.splitlines():
        (printed,) = (text for text in default.trained.splitlines() if text.startswith(line.split()[0]))
        near(line, printed.rstrip())
    for line in beside.splitlines()[1:]:
        start = f" {line.split('  ')[0]} "
        (printed,) = (text for text in default.trained.splitlines() if text.startswith(start))
        near(*(re.sub("[ ≈]+", " ", text).strip() for text in (line, printed)))
    shown = re.findall(r"^(\w+) +(\d+) % +(.+?) \((\d+) %\)", table, re.MULTILINE)
    printed = re.findall(r"^│ (\w+) +│ (\d+)% +│ (.+?) \((\d+)%\)", default.trained, re.MULTILINE)
    assert len(shown) >= 4
    assert [row[0] for row in shown] == [row[0] for row in printed[: len(shown)]]
    for row, other in zip(shown, printed, strict=False):
        near(" ".join(row), " ".join(other))


def test_an_audit_prints_what_the_readme_shows(default):
    printed, shown = (
        re.findall(r"^ *\d+ (\w+ \w+: \w+) *$.+?harm (\d+)", text, re.MULTILINE | re.DOTALL)
        for text in (default.audited, OUTPUTS[1])
    )
    harm = dict(printed)
    assert len(shown) >= 2
    for finding, percent in shown:
        assert abs(int(percent) - int(harm[finding])) <= POINTS
    found, classes = re.search(r"^(\d+) findings .* in (\d+) classes", OUTPUTS[1], re.MULTILINE).groups()
    assert abs(int(found) - len(printed)) <= 1
    assert f"in {classes} classes" in default.audited
