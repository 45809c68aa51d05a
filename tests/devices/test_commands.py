"""What is below the commands: on the pretend device it answers as on the CPU."""

import json
from typing import Any

import pytest
import torch
from both import CPU, PROMPTS, assert_near, on_both

from lightning_sae.audit.audit import audit_to_folder
from lightning_sae.audit.audited import audited_classifier
from lightning_sae.audit.evidence.cues import Limits
from lightning_sae.audit.examination import Options
from lightning_sae.classifiers.linear import LinearClassifier
from lightning_sae.classifiers.saved_probe import load_probe, save_probe
from lightning_sae.correct import Rule, correct, load_classifier, save_classifier
from lightning_sae.explain.explanation import explain
from lightning_sae.runs.folder import RunFolder, open_run
from lightning_sae.runs.probe import probe_of
from lightning_sae.runs.recall import recall_table
from lightning_sae.world import World

LIMITS = Limits(min_images=1, min_errors=2, detects=0.6, fades=0.4, unexpected_share=0.01)
LOOSE = Options("logit", LIMITS, min_group=2)
LONGER = ["trainer.max_steps=300", "trainer.val_check_interval=300", "data.n_probe=96"]
ANY = Rule(*[1.0] * 4, min_group=1)

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.usefixtures("few_drawn_words")]


@pytest.fixture(scope="module")
def learned_run(train_small):
    """Long enough to have latents that an audit finds something with."""
    return train_small("learned", *LONGER)


@pytest.fixture(scope="module")
def learned_patch_run(train_small):
    """The same behind a block in the middle, where the tail is run."""
    return train_small("patches", "hook_point=visual.transformer.resblocks.1", "tokens=patch", *LONGER)


@pytest.mark.parametrize("run", ["small_run", "small_patch_run"])
def test_explain(request, run):
    image = World("biased", "test", 1).image(0)
    prompts = [prompt for group in PROMPTS.values() for prompt in group]
    folder = request.getfixturevalue(run)
    both = on_both(folder, lambda run: explain(run, image, prompts, "margin"))
    for found, expected in zip(*both, strict=True):
        torch.testing.assert_close(found.tokens, expected.tokens, rtol=1e-4, atol=1e-5)
        of_both = [one._replace(drivers=one.drivers.to_dict("list"), tokens=()) for one in (found, expected)]
        assert_near(*of_both)


@pytest.fixture(scope="module")
def audit_of_prompts(learned_patch_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompts")
    (folder / "prompts.json").write_text(json.dumps(PROMPTS))
    chosen = folder, "prompts", str(folder / "prompts.json"), LOOSE
    return on_both(learned_patch_run, lambda run: audit_to_folder(run, *chosen))


@pytest.fixture(scope="module")
def audit_of_a_saved_probe(learned_run, tmp_path_factory):
    """Behind the last block, of the prompts as a probe."""
    folder, clip = tmp_path_factory.mktemp("probe"), open_run(learned_run, device=CPU).data.clip
    weights = clip.logit_scale * clip.encode_text([prompt for (prompt,) in PROMPTS.values()])
    probe = LinearClassifier(weights, torch.zeros(len(weights)))
    save_probe(probe, list(PROMPTS), {"clip": clip.identity()}, folder / "probe")
    chosen = folder, str(folder / "probe"), None, LOOSE
    return on_both(learned_run, lambda run: audit_to_folder(run, *chosen))


@pytest.mark.parametrize("audit", ["audit_of_prompts", "audit_of_a_saved_probe"])
def test_audit(request, audit):
    found, expected = (each.model_dump() for each in request.getfixturevalue(audit))
    assert found["findings"]
    assert_near(found, expected)


def test_fit_probe(learned_run, tmp_path):
    def fit(run: RunFolder) -> Any:
        saved = probe_of(run.data)
        save_probe(*saved, tmp_path / "probe")
        return load_probe(tmp_path / "probe"), recall_table(run.data, saved).columns

    (found, recall), (expected, table) = on_both(learned_run, fit, "data.n_train=192")
    torch.testing.assert_close(found.probe.weight, expected.probe.weight)
    assert_near(found.provenance, expected.provenance)
    assert [list(column.cells) for column in recall] == [list(column.cells) for column in table]


@pytest.mark.parametrize(
    ("run", "audit", "way", "factor"),
    [
        ("learned_run", "audit_of_a_saved_probe", "clamp", "culprits"),
        pytest.param("learned_patch_run", "audit_of_prompts", "clamp", "printed", marks=pytest.mark.slow),
    ],
)
def test_correct(request, tmp_path, run, audit, way, factor):
    images = [World("biased", "test", 4).image(i) for i in range(4)]
    _, audited = request.getfixturevalue(audit)

    def corrected(run: RunFolder) -> Any:
        chosen = audited_classifier(run, audited), audited.findings[0], way, factor, ANY
        correction = correct(run, *chosen)
        folder = tmp_path / run.data.clip.device.type
        save_classifier(correction, folder)
        logits = load_classifier(folder).classify(run.data.clip, images)
        return {"logits": logits.tolist(), **correction.record.model_dump()}

    splits = "data.n_train=192", "data.n_test=96"
    assert_near(*on_both(request.getfixturevalue(run), corrected, *splits))
