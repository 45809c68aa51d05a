import pytest
import torch

from lightning_sae.data import pixels
from lightning_sae.data.pixels import default_workers, load_pixels

MB = 10**6


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_the_pixels_are_those_of_a_plain_loop(clip, noise, num_workers):
    batches = [[3, 1], [0], [21, 20, 19]]
    found = load_pixels(noise, clip, batches, num_workers)
    for ids, (batch, faults) in zip(batches, found, strict=True):
        assert batch.equal(torch.stack([clip.preprocess(noise[i]) for i in ids]))
        assert faults == [""] * len(ids)


@pytest.mark.parametrize(
    ("cores", "n_batches", "free", "expected"),
    [
        (1, 100, 10**4 * MB, 0),  # the model has the only core
        (4, 100, 10**4 * MB, 3),
        (64, 100, 10**4 * MB, 8),
        (64, 3, 10**4 * MB, 2),  # nothing left to do beside the model
        (64, 1, 10**4 * MB, 0),
        (64, 100, 20 * MB, 2),  # of 3 batches of 1000 * 3 * 16 * 16 floats each
        (64, 100, 9 * MB, 0),
    ],
)
def test_default_workers(clip, monkeypatch, tmp_path, cores, n_batches, free, expected):
    monkeypatch.setattr(pixels, "_cores", lambda: cores)
    monkeypatch.setattr(pixels, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(pixels.shutil, "disk_usage", lambda _: pixels.shutil._ntuple_diskusage(0, 0, free))
    assert default_workers(clip, [[0] * 1000] * n_batches) == expected
