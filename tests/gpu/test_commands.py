"""The commands take the GPU by themselves, say so, and answer as on the CPU."""

import pytest
import torch

from lightning_sae.audit.__main__ import main as audit
from lightning_sae.audit.findings import read_audit
from lightning_sae.classifiers.saved_probe import load_probe
from lightning_sae.explain.__main__ import main as explain
from lightning_sae.explain.explanation import explain as explained
from lightning_sae.fit_probe import main as fit_probe
from lightning_sae.runs.folder import open_run
from lightning_sae.world import World

CPU = torch.device("cpu")
PROMPTS = ["a photo of a star", "a photo of a heart"]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def on(device, capsys, tmp_path):
    """What a command writes as it comes, which takes the GPU, and on the CPU; each says where it is."""

    def on(main, *arguments):
        gpu, cpu = tmp_path / "gpu.png", tmp_path / "cpu.png"  # probes and audits may be called so too
        for out, choice, said in ((gpu, "auto", f"device: {device} ("), (cpu, "cpu", "device: cpu (")):
            main([*arguments, "--device", choice, "--out", str(out)])
            lines = capsys.readouterr().out.splitlines()
            assert next(line for line in lines if line.startswith("device: ")).startswith(said)
        return gpu, cpu

    return on


def test_explain(default_run, on, tmp_path):
    World("biased", "test", 1).image(0).save(tmp_path / "image.png")
    words = [word for prompt in PROMPTS for word in ("--prompt", prompt)]
    pictures = on(explain, str(default_run.folder), "--image", str(tmp_path / "image.png"), *words)
    assert all(picture.exists() for picture in pictures)


@pytest.mark.parametrize("output", ["logit", "margin"])
def test_an_image_has_the_same_drivers(default_run, device, output):
    image = World("biased", "test", 1).image(0)
    runs = [open_run(default_run.folder, device=where) for where in (device, CPU)]
    assert [run.sae.W_dec.device.type for run in runs] == [device.type, "cpu"]
    for gpu, cpu in zip(*(explained(run, image, PROMPTS, output) for run in runs), strict=True):
        assert gpu.score == pytest.approx(cpu.score, rel=1e-3, abs=1e-3)
        assert gpu.drivers["latent"].tolist() == cpu.drivers["latent"].tolist()
        for column in ("attribution", "effect", "activation", "prompt_alignment"):
            expected = pytest.approx(cpu.drivers[column].tolist(), rel=1e-2, abs=1e-3, nan_ok=True)
            assert gpu.drivers[column].tolist() == expected


def test_audit(default_run, on):
    found, expected = map(read_audit, on(audit, str(default_run.folder)))
    by_class = [{(f.class_name, f.kind): f for f in each.findings} for each in (found, expected)]
    assert by_class[0].keys() == by_class[1].keys()
    assert by_class[0]
    for key, finding in by_class[0].items():
        other = by_class[1][key]
        assert finding.severity == other.severity
        assert [c.latent for c in finding.culprits] == [c.latent for c in other.culprits]
        assert finding.share == pytest.approx(other.share, abs=0.01)
    assert found.subject.fvu == pytest.approx(expected.subject.fvu, rel=1e-3)


def test_fit_probe(default_run, on):
    found, expected = map(load_probe, on(fit_probe, str(default_run.folder)))
    torch.testing.assert_close(found.probe.weight, expected.probe.weight, rtol=1e-3, atol=1e-3)
    assert found.provenance["val_accuracy"] == pytest.approx(expected.provenance["val_accuracy"], abs=0.002)
