"""A capture on the pretend device fills a store with the rows of one on the CPU."""

from pathlib import Path

import pytest
import torch
from pretend import DEVICE, pretend
from torch import Tensor

from lightning_sae.clip import Clip, HookPoint, TextClip, load_clip
from lightning_sae.data import capture_store, hook_folder
from lightning_sae.data.sources.world import WorldImages, WorldTexts
from lightning_sae.data.store.shards import read_tensor
from lightning_sae.world import config_path, weights_path

N = 21
SIZES = {"batch_size": 8, "shard_images": 16}  # a batch and a shard that are not full
MIDDLE, LAST = "visual.transformer.resblocks.1", "visual.transformer.resblocks.3"
OF_IMAGES = [(MIDDLE, "all"), (MIDDLE, "patch"), (LAST, "cls"), ("visual", "pooled")]
OF_TEXTS = [("transformer.resblocks.0", "all"), ("transformer.resblocks.1", "eot")]


def world_clip() -> Clip:
    return load_clip(config_path(), weights_path("biased"))


def text_clip() -> Clip:
    return TextClip(world_clip())


@pytest.mark.parametrize(
    ("clip", "source", "points", "settings"),
    [
        (world_clip, WorldImages, OF_IMAGES, {}),
        (world_clip, WorldImages, [(MIDDLE, "patch")], {"tokens_per_image": 3, "dtype": "float16"}),
        (world_clip, WorldImages, [(LAST, "cls")], {"num_workers": 2}),
        (text_clip, WorldTexts, OF_TEXTS, {}),
    ],
)
def test_the_same_rows(tmp_path, clip, source, points, settings):
    """In two passes: one with the embeddings, and one that ends at the last of the hook points."""
    examples, given = source("biased", N, 1, 1).split("train"), {"num_workers": 0} | SIZES | settings
    hooks = [HookPoint(module, tokens) for module, tokens in points]

    def filled(clip: Clip, store: Path) -> list[Tensor]:
        for some in (hooks[:-1], hooks):
            folder = capture_store(examples, clip, some, store_dir=store, **given)
        kept = given.get("tokens_per_image")
        parts = {folder / "images": "embeddings"} | {hook_folder(folder, hook, kept): "x" for hook in hooks}
        return [read_tensor(*part) for part in parts.items()]

    expected = filled(clip(), tmp_path / "cpu")
    with pretend():
        found = filled(clip().to(DEVICE), tmp_path / "pretend")
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
