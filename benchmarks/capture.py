"""What bounds a capture on this machine: `python benchmarks/capture.py --device cuda`.

A CLIP of random weights (`--model NAME`) and generated JPEG files, in turn:

- the bare model, on pixels that lie in the memory of its device;
- decoding and resizing alone, on one core and in a process for each core;
- the loader alone, with a worker for each core, and with those that a capture takes, which leaves one core;
- the capture, from the files to the written store;
- the capture of a middle layer into a store that has its embeddings: the forward ends at the hook point.

The loader is to deliver 0.85 of what the cores decode and resize, the capture 0.95 of the slower of loader
and model. Processes are started anew each time, and their start counts.
"""

import argparse
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from interleaved import interleave, machine, save_bars, speed_table
from PIL import Image
from rich.console import Console
from rich.table import Table

from lightning_sae.clip import Clip, HookPoint, load_clip
from lightning_sae.data import ImageFolders, ImageSet, capture_store, hook_folder, store_folder
from lightning_sae.data.capture.pixels import available_cores, default_workers, load_pixels
from lightning_sae.data.images.decoded import DecodedImages

FORK = get_context("fork")
OF_THE_CORES, OF_THE_SLOWER = 0.85, 0.95
"""Goals: what the loader delivers of what the cores decode and resize; the capture of loader or model."""

MODEL, CORES, LOADER, CAPTURE = (
    *("bare model", "decoding and resizing, all cores", "loader, a worker for each core", "capture"),
)
LOADER_BESIDE = "loader, workers beside the model"

CLASSES = 2
TINY = """{"embed_dim": 16,
"vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
"text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}}"""


class Repeated:
    """An `ImageSet` of a few files, as often as it takes: each is decoded every time."""

    def __init__(self, files: ImageSet, n: int) -> None:
        self.files, self.n = files, n
        self.class_names, self.vocabulary, self.factors = files.class_names, files.vocabulary, files.factors
        self.targets = files.targets[torch.arange(n) % len(files)]

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Image.Image:
        return self.files[index % len(self.files)]

    def identity(self) -> dict[str, Any]:
        """Return the identity of the files, and how many they stand for."""
        return {**self.files.identity(), "repeated": self.n}


class Size(NamedTuple):
    """The model and the images that are timed, and for how long."""

    model: str
    precision: str
    files: int
    side: int  # pixels
    batch_size: int
    seconds: float  # of each way, less for those that start no process
    repeats: int


ON_A_CPU = Size("ViT-B-32", "fp32", 256, 300, 32, 10, 3)
ON_A_GPU = Size("ViT-B-32", "bf16", 256, 300, 256, 3, 2)
SHORT = Size("", "fp32", 12, 64, 4, 0.01, 1)


class Way(NamedTuple):
    """A way that is timed, and over how many images."""

    run: Callable[[], None]
    images: int


def random_clip(model: str, precision: Any, folder: Path) -> Clip:
    """Return a CLIP with random weights, by open_clip's name, or a tiny one."""
    config = folder / "tiny.json"
    config.write_text(TINY)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*random weights")
        return load_clip(model or config, precision=precision)


def write_images(root: Path, n: int, side: int) -> ImageSet:
    """Return JPEG files of smooth noise, which cost about as much to decode as photographs."""
    rng = np.random.default_rng(0)
    for i in range(n):
        path = root / f"class {i % CLASSES}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)
    return ImageFolders(root, val_fraction=0, test_fraction=0).split("train")


@torch.inference_mode()
def bare(clip: Clip, batch_size: int, n: int) -> None:
    pixels = torch.zeros(batch_size, 3, *clip.image_size, dtype=clip.dtype, device=clip.device)
    for _ in range(n // batch_size):
        clip.encode_image(pixels)
    if clip.device.type == "cuda":
        torch.cuda.synchronize(clip.device)


def decode(clip: Clip, images: ImageSet, ids: range) -> None:
    for i in ids:
        clip.prepare(images[i % len(images)])


def decode_everywhere(clip: Clip, images: ImageSet, n: int, cores: int) -> None:
    processes = [FORK.Process(target=decode, args=(clip, images, range(i, n, cores))) for i in range(cores)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def batches(n: int, size: int) -> list[range]:
    return [range(n)[start : start + size] for start in range(0, n, size)]


def load(clip: Clip, images: ImageSet, batch_size: int, num_workers: int) -> None:
    for _ in load_pixels(images, clip, batches(len(images), batch_size), batch_size, num_workers):
        pass


class Capture:
    """Captures one hook point into a store that lacks it, or lacks everything."""

    def __init__(
        self, images: ImageSet, clip: Clip, hook_point: HookPoint, store_dir: Path, batch_size: int
    ) -> None:
        self.images, self.clip, self.hook_point, self.store_dir = images, clip, hook_point, store_dir
        self.batch_size = batch_size

    def __call__(self, whole: bool) -> None:
        """Capture the whole store with the embeddings, or only the activations beside them."""
        folder = store_folder(self.store_dir, self.clip, self.images)
        shutil.rmtree(folder if whole else hook_folder(folder, self.hook_point), ignore_errors=True)
        sizes = {"batch_size": self.batch_size, "shard_images": 4 * self.batch_size}
        capture_store(self.images, self.clip, [self.hook_point], store_dir=self.store_dir, **sizes)


def seconds(run: Callable[[], None]) -> float:
    run()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def count(duration: float, images_per_s: float, shard: int) -> int:
    """Return the whole shards of images that take about so long."""
    return shard * max(1, round(duration * images_per_s / shard))


def ways(clip: Clip, files: ImageSet, store_dir: Path, size: Size) -> dict[str, Way]:
    """Return all of them, over as many images as take `size.seconds`."""
    batch, shard, cores = size.batch_size, 4 * size.batch_size, available_cores()
    n = len(files)
    one_core = n / seconds(partial(decode, clip, files, range(n)))
    all_cores = n * cores / seconds(partial(decode_everywhere, clip, files, n * cores, cores))
    model = shard / seconds(partial(bare, clip, batch, shard))
    one, forwards = (count(size.seconds / 3, speed, shard) for speed in (one_core, model))
    decoded, slower = (count(size.seconds, speed, shard) for speed in (all_cores, min(model, all_cores)))
    blocks = len(clip.visual.transformer.resblocks)
    loaded, captured = Repeated(files, decoded), Repeated(files, slower)
    last, middle = (
        Capture(
            captured, clip, HookPoint(f"visual.transformer.resblocks.{i}", "cls"), store_dir / str(i), batch
        )
        for i in (blocks - 1, blocks // 2 - 1)
    )
    clip.identity()  # hashes the weights once
    middle(whole=True)
    workers = default_workers(clip, batches(slower, batch))
    return {
        MODEL: Way(partial(bare, clip, batch, forwards), forwards),
        "decoding and resizing, one core": Way(partial(decode, clip, files, range(one)), one),
        CORES: Way(partial(decode_everywhere, clip, files, decoded, cores), decoded),
        LOADER: Way(partial(load, clip, loaded, batch, cores), decoded),
        f"{LOADER_BESIDE}, {workers}": Way(partial(load, clip, loaded, batch, workers), decoded),
        CAPTURE: Way(partial(last, whole=True), slower),
        f"capture of block {blocks // 2} of {blocks}, embeddings there": Way(
            partial(middle, whole=False), slower
        ),
    }


def judgement(speeds: dict[str, float]) -> Table:
    """Say what the limit is, and what is reached of the goals."""
    loader = next(speed for name, speed in speeds.items() if name.startswith(LOADER_BESIDE))
    limit = "the loader" if loader < speeds[MODEL] else "the model"
    table = Table("", "reached", "goal", title=f"the limit is {limit}")
    table.add_row(
        "loader / what the cores decode", f"{speeds[LOADER] / speeds[CORES]:.2f}", f"{OF_THE_CORES}"
    )
    reached = speeds[CAPTURE] / min(loader, speeds[MODEL])
    table.add_row(f"capture / {limit}", f"{reached:.2f}", f"{OF_THE_SLOWER}")
    return table


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of the model"
    )
    parser.add_argument("--short", action="store_true", help="a tiny model, for a check that it runs")
    parser.add_argument("--model", help="of open_clip, with random weights; ViT-B-32")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="of the weights; bf16 on a GPU")
    parser.add_argument("--decode", choices=("exact", "fast"), default="exact", help="as data.decode")
    for name, text in (
        ("files", "JPEG files that are decoded again and again"),
        ("side", "of a file, in pixels"),
        ("batch_size", "images per pass of CLIP"),
        ("repeats", "medians are of so many"),
    ):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=text)
    parser.add_argument("--seconds", type=float, help="that each way takes, about")
    parser.add_argument("--picture", type=Path, help="where a picture of the images per second goes")
    return parser.parse_args()


def main() -> None:
    options, console = parsed(), Console(width=110)
    device = torch.device(options.device)
    size = SHORT if options.short else ON_A_GPU if device.type == "cuda" else ON_A_CPU
    given = {key: value for key, value in vars(options).items() if key in Size._fields and value is not None}
    size = size._replace(**given)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        clip = random_clip(size.model, size.precision, Path(folder)).to(device)
        images = write_images(Path(folder, "images"), size.files, size.side)
        if options.decode == "fast":
            images = DecodedImages(images, clip.image_size)
        timed = ways(clip, images, Path(folder, "store"), size)
        took = interleave({name: way.run for name, way in timed.items()}, size.repeats)
    speeds = {name: way.images / took[name] for name, way in timed.items()}
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "one core"
    console.print(f"{machine()}; {clip.name} in {size.precision} on {where}")
    console.print(f"JPEG files of {size.side} x {size.side} pixels, batches of {size.batch_size}")
    console.print(speed_table("images per second", "images/s", speeds))
    console.print(judgement(speeds))
    if options.picture:
        save_bars(options.picture, "images/s", speeds)


if __name__ == "__main__":
    main()
