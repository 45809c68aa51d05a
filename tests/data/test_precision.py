import copy

import pytest
import torch

from lightning_sae.clip import HookPoint, capture
from lightning_sae.data import __main__ as command
from lightning_sae.data.capture.precision import compare_precision

POINT = HookPoint("visual.transformer.resblocks.1", "cls")


def test_the_change_is_that_of_the_formula(clip):
    pixels = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    rounded = copy.deepcopy(clip).bfloat16()
    found = compare_precision(rounded, clip, POINT, pixels, repeats=1)
    outputs = []
    for model in (rounded, clip):
        with torch.no_grad(), capture(model, [POINT]) as seen:
            outputs.append((seen, model.encode_image(pixels)))
    (low, low_embeddings), (full, full_embeddings) = outputs
    apart = (low[POINT] - full[POINT]).square().sum().sqrt() / full[POINT].square().sum().sqrt()
    assert found.activations == pytest.approx(float(apart), rel=1e-5)
    assert 1e-4 < found.activations < 0.05
    apart = (low_embeddings - full_embeddings).norm() / len(pixels) ** 0.5
    assert found.embeddings == pytest.approx(float(apart), rel=1e-5)


def test_the_same_model_does_not_change(clip):
    found = compare_precision(copy.deepcopy(clip), clip, POINT, torch.randn(2, 3, 16, 16), repeats=1)
    assert (found.activations, found.embeddings) == (0, 0)


def test_the_command(monkeypatch, capsys):
    settings = ["data.n_val=8", "data.n_train=8", "data.n_test=8"]
    monkeypatch.setattr("sys.argv", ["data", "precision", *settings])
    command.main()
    assert "resblocks.3:cls changes the activations by 0." in capsys.readouterr().out
