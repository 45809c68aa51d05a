"""Saved probes: what is written is read, and what does not fit is refused."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from lightning_sae.classifiers.linear import LinearClassifier, fit_probe
from lightning_sae.classifiers.saved_probe import CONFIG, WEIGHTS, load_probe, save_probe

CLIP = {"model": "ViT-B-16", "pretrained": "openai", "weights": "ab12", "preprocess": "{}"}
NAMES = ["melanoma", "nevus", "benign keratosis"]


@pytest.fixture
def probe():
    generator = torch.Generator().manual_seed(0)
    return LinearClassifier(torch.randn(3, 8, generator=generator), torch.randn(3, generator=generator))


@pytest.fixture
def folder(probe, tmp_path):
    save_probe(probe, NAMES, {"clip": CLIP, "inverse_l2": 10.0}, tmp_path / "probe")
    return tmp_path / "probe"


def test_what_is_saved_is_loaded(probe, folder):
    saved = load_probe(folder, CLIP)
    assert saved.probe.weight.equal(probe.weight)
    assert saved.probe.bias.equal(probe.bias)
    assert saved.class_names == NAMES
    assert saved.provenance == {"clip": CLIP, "inverse_l2": 10.0}
    assert sorted(path.name for path in folder.iterdir()) == [WEIGHTS, CONFIG]
    assert [path.name for path in folder.parent.iterdir()] == ["probe"]  # nothing else is left
    config = json.loads((folder / CONFIG).read_text())
    assert (config["kind"], config["class_names"], config["clip"]) == ("probe", NAMES, CLIP)


def test_another_clip_is_refused_by_its_weights(folder):
    assert load_probe(folder, CLIP | {"pretrained": "a_copy.pt"}).class_names == NAMES
    with pytest.raises(
        ValueError, match=r"another CLIP \(weights: 'ab12' here, 'cd34' given\): load that CLIP"
    ):
        load_probe(folder, CLIP | {"weights": "cd34"})
    with pytest.raises(ValueError, match="preprocess"):
        load_probe(folder, CLIP | {"preprocess": "{size}"})


def test_a_probe_is_replaced_and_nothing_else(probe, folder, tmp_path):
    save_probe(replace(probe, bias=probe.bias + 1), NAMES, {"clip": CLIP}, folder)
    assert load_probe(folder).probe.bias.equal(probe.bias + 1)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="name a new folder"):
        save_probe(probe, NAMES, {"clip": CLIP}, tmp_path / "notes")
    assert (tmp_path / "notes" / "a.txt").read_text() == "mine"


def test_what_does_not_fit_is_not_saved(probe, tmp_path):
    with pytest.raises(ValueError, match=r"\[3, 8\], \[3\] and 2 names"):
        save_probe(probe, NAMES[:2], {"clip": CLIP}, tmp_path / "probe")
    with pytest.raises(ValueError, match="identity of the CLIP as 'clip', got \\['data'\\]"):
        save_probe(probe, NAMES, {"data": "x"}, tmp_path / "probe")
    assert not (tmp_path / "probe").exists()


def test_damaged_folders_are_named(probe, folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing: .*fit-probe RUN"):
        load_probe(tmp_path)
    config = json.loads((folder / CONFIG).read_text())
    for changed, message in [
        (config | {"class_names": ["one", "two"]}, "and 2 names"),
        (config | {"kind": "prompts"}, "kind 'prompts', and a probe is wanted"),
        ({"kind": "probe"}, "lacks class_names, clip"),
        (config | {"class_names": 5}, r"config\.json: class_names must be a list, got 5"),
        (config | {"class_names": [1, 2, 3]}, r"config\.json: class_names holds 1, which is no text"),
        (config | {"clip": 5}, r"config\.json: clip must be an object, got 5"),
    ]:
        (folder / CONFIG).write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=message):
            load_probe(folder)
    (folder / CONFIG).write_text("{")
    with pytest.raises(ValueError, match=r"config\.json, line 1: no JSON: the file ends too early"):
        load_probe(folder)
    (folder / CONFIG).write_text(json.dumps(config))
    save_probe(replace(probe, bias=probe.bias / 0), NAMES, {"clip": CLIP}, folder)
    with pytest.raises(ValueError, match=r"safetensors has NaN or infinite values"):
        load_probe(folder)
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-4])
    with pytest.raises(ValueError, match="is damaged"):
        load_probe(folder)


def test_a_balanced_probe_does_not_prefer_the_frequent_class():
    generator = torch.Generator().manual_seed(0)
    e = normalize(torch.randn(1100, 4, generator=generator) + torch.tensor([3.0, 0, 0, 0]), dim=1)
    targets = (torch.arange(1100) >= 1000).long()  # nothing tells them apart
    shares = [
        float((probe.predict(e) == 1).float().mean())
        for probe in (fit_probe(e, targets, 2), fit_probe(e, targets, 2, balanced=True))
    ]
    assert shares[0] == 0
    assert 0.3 < shares[1] < 0.7
