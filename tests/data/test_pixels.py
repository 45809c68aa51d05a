import signal
import subprocess
import sys

import pytest
import torch
from PIL import Image

from lightning_sae.clip import Clip
from lightning_sae.data import BadImageError
from lightning_sae.data.capture import pixels
from lightning_sae.data.capture.pixels import PIECE, default_workers, load_pixels

MB = 10**6

KILLED = """
import os
import signal
import time

from torch.utils.data._utils import worker

from lightning_sae.clip import load_clip
from lightning_sae.data import WorldImages
from lightning_sae.data.capture.pixels import load_pixels
from lightning_sae.world import config_path, weights_path


class Late(worker.ManagerWatchdog):
    def __init__(self):
        parent = os.getppid()
        os.kill(parent, signal.SIGKILL)
        while os.getppid() == parent:
            time.sleep(0.01)
        super().__init__()


worker.ManagerWatchdog = Late
images = WorldImages("biased", 8).split("train")
next(load_pixels(images, load_clip(config_path(), weights_path("biased")), [range(8)], 8, num_workers=2))
"""
"""Whoever decodes is killed when his workers have started, and before they look who he is."""


def deal(sizes, n=22):
    """Batches of some sizes; the ids of the images go round."""
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [[(start + i) % n for i in range(size)] for start, size in zip(starts, sizes, strict=True)]


BATCHES = {
    "small": [[3, 1], [0], [21, 20, 19]],
    "of several pieces": deal([40, 40, 40, 40]),
    "of changing size": deal([50, 1, 16, 33, 50, 50, 7, 17, 50, 2, 2, 2, 49, 50]),
}


@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize("batches", BATCHES.values(), ids=BATCHES)
def test_the_pixels_are_those_of_a_plain_loop(clip, noise, batches, num_workers):
    found = load_pixels(noise, clip, iter(batches), max(map(len, batches)), num_workers)
    for ids, (batch, faults, notes) in zip(batches, found, strict=True):
        assert batch.dtype == torch.uint8
        assert clip.finish(batch).equal(torch.stack([clip.preprocess(noise[i]) for i in ids]))
        assert faults == [""] * len(ids)
        assert not notes


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_preprocessing_that_cannot_be_split_is_done_by_the_workers(clip, noise, num_workers):
    def invert(image: Image.Image) -> torch.Tensor:
        return 1 - clip.preprocess(image)

    other = Clip(clip.model, invert, clip.tokenizer, clip.name, None)
    batches = deal([40, 5])
    for ids, (batch, *_) in zip(batches, load_pixels(noise, other, batches, 40, num_workers), strict=True):
        assert other.finish(batch).equal(torch.stack([invert(noise[i]) for i in ids]))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bad_image_is_black_and_says_why(clip, make_noise, num_workers):
    class Broken(make_noise):
        def __getitem__(self, index):
            if index == 20:
                raise BadImageError("20.png: gone")
            return super().__getitem__(index)

    ((batch, faults, _),) = load_pixels(Broken(), clip, [range(22)], 22, num_workers)
    assert faults == ["20.png: gone" if i == 20 else "" for i in range(22)]
    assert [bool(row.any()) for row in batch] == [i != 20 for i in range(22)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 8 worker")
@pytest.mark.parametrize(("num_workers", "most"), [(1, 4 * PIECE), (2, 4 * PIECE), (8, 2 * 8 * PIECE)])
def test_images_are_taken_only_some_way_ahead(clip, noise, num_workers, most):
    """Claims are taken as their images are: those of far later ones are left to others."""
    taken = []

    def batches():
        for ids in deal([48] * 40):
            taken.extend(ids)
            yield ids

    loaded = load_pixels(noise, clip, batches(), 48, num_workers)
    for handed_over in range(1, 20):
        next(loaded)
        assert 48 * handed_over < len(taken) <= 48 * (handed_over + 1) + most


@pytest.mark.parametrize(
    ("cores", "n_batches", "free", "processes", "expected"),
    [
        (1, 100, 10**4 * MB, 1, 0),  # the model has the only core
        (4, 100, 10**4 * MB, 1, 3),
        (64, 100, 10**4 * MB, 1, 63),
        (192, 100, 10**4 * MB, 1, 191),
        (64, 100, 10**4 * MB, 8, 7),
        (64, 100, 10**4 * MB, 65, 0),
        (16, 1, 10**4 * MB, 1, 15),  # all of them at one batch, of 32 pieces of 32
        (192, 1, 10**4 * MB, 1, 31),  # nothing left to do beside the model
        (64, 100, 5 * MB, 1, 63),  # 190 pieces of 32 * 3 * 16 * 16 bytes are 4.7 MB
        (192, 100, 5 * MB, 1, 69),  # 202 of 203 pieces
        (64, 100, 5 * MB, 4, 0),
        (64, 100, 2 * MB, 1, 0),  # less than four batches
    ],
)
def test_default_workers(clip, monkeypatch, tmp_path, cores, n_batches, free, processes, expected):
    monkeypatch.setattr(pixels, "available_cores", lambda: cores)
    monkeypatch.setattr(pixels, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(pixels.shutil, "disk_usage", lambda _: pixels.shutil._ntuple_diskusage(0, 0, free))
    assert default_workers(clip, [[0] * 1000] * n_batches, processes) == expected


def test_no_worker_outlives_whom_it_decodes_for():
    """A worker that lives keeps the pipe open, so that the end of the output is never read."""
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
