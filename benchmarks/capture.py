"""What capturing adds to the bare model: `python benchmarks/capture.py`.

A ViT-B-32 of random weights (or `--model NAME`) runs over generated JPEG files on one thread: bare, on
pixels that lie in memory, and as `capture_store` does it, from the files to the written store, with as many
worker processes to decode as there are cores left and without any. Then the same for a middle layer of a
store that has its embeddings, where the forward ends at the hook point.
"""

import argparse
import shutil
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from interleaved import interleave, machine, save_bars, speed_table
from PIL import Image
from rich.console import Console
from torch import Tensor

from lightning_sae.clip import Clip, HookPoint, load_clip
from lightning_sae.data import ImageFolders, ImageSet, capture_store, hook_folder, store_folder

CLASSES = 2


class Size(NamedTuple):
    """What runs over what."""

    model: str
    n: int
    side: int  # pixels
    batch_size: int
    repeats: int


FULL = Size("ViT-B-32", 384, 500, 32, 3)
SHORT = Size("", 12, 64, 4, 1)
TINY = """{"embed_dim": 16,
"vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
"text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}}"""


def random_clip(model: str, folder: Path) -> Clip:
    """By open_clip's name, or a tiny one."""
    config = folder / "tiny.json"
    config.write_text(TINY)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*random weights")
        return load_clip(model or config)


def write_images(root: Path, n: int, side: int) -> ImageSet:
    """JPEG files of smooth noise, which cost about as much to decode as photographs."""
    rng = np.random.default_rng(0)
    for i in range(n):
        path = root / f"class {i % CLASSES}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)
    return ImageFolders(root, val_fraction=0, test_fraction=0).split("train")


@torch.inference_mode()
def bare(clip: Clip, pixels: Tensor, batch_size: int) -> None:
    for batch in pixels.split(batch_size):
        clip.encode_image(batch)


class Capture:
    """Captures one hook point into a store that lacks it, or lacks everything."""

    def __init__(
        self, images: ImageSet, clip: Clip, hook_point: HookPoint, store_dir: Path, size: Size
    ) -> None:
        self.images, self.clip, self.hook_point, self.store_dir = images, clip, hook_point, store_dir
        self.batch_size = size.batch_size

    def __call__(self, whole: bool, num_workers: int | None) -> None:
        """With the embeddings, or beside them."""
        folder = store_folder(self.store_dir, self.clip, self.images)
        shutil.rmtree(folder if whole else hook_folder(folder, self.hook_point), ignore_errors=True)
        sizes = {"batch_size": self.batch_size, "shard_images": 4 * self.batch_size}
        where = {"store_dir": self.store_dir, "num_workers": num_workers}
        capture_store(self.images, self.clip, [self.hook_point], **sizes, **where)  # type: ignore[arg-type]


def measure(clip: Clip, images: ImageSet, store_dir: Path, size: Size) -> dict[str, float]:
    """Images per second of each way."""
    blocks = len(clip.visual.transformer.resblocks)
    last, middle = (
        Capture(images, clip, HookPoint(f"visual.transformer.resblocks.{i}", "cls"), store_dir / str(i), size)
        for i in (blocks - 1, blocks // 2 - 1)
    )
    pixels = torch.stack([clip.preprocess(images[i]) for i in range(len(images))])
    ways: dict[str, Callable[[], None]] = {
        "bare model, pixels in memory": partial(bare, clip, pixels, size.batch_size),
        "capture, workers": partial(last, True, None),
        "capture, no workers": partial(last, True, 0),
        f"capture of block {blocks // 2} of {blocks}, embeddings there": partial(middle, False, None),
    }
    clip.identity()  # hashes the weights once
    middle(True, 0)
    return {name: len(images) / took for name, took in interleave(ways, size.repeats).items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="a tiny model, for a check that it runs")
    parser.add_argument("--model", default=FULL.model, help="of open_clip, with random weights")
    parser.add_argument("--picture", type=Path, help="where a picture of the images per second goes")
    options = parser.parse_args()
    size, console = SHORT if options.short else FULL._replace(model=options.model), Console(width=110)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        clip = random_clip(size.model, Path(folder))
        images = write_images(Path(folder, "images"), size.n, size.side)
        speeds = measure(clip, images, Path(folder, "store"), size)
    console.print(f"{machine()}; {clip.name}, {size.n} images of {size.side} x {size.side} pixels")
    console.print(speed_table("images per second", "images/s", speeds))
    if options.picture:
        save_bars(options.picture, "images/s", speeds)


if __name__ == "__main__":
    main()
