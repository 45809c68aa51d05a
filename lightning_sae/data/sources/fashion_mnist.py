"""Fashion-MNIST from its gzipped idx files."""

import gzip
import hashlib
import math
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from lightning_sae.data.datamodule import ActivationDataModule
from lightning_sae.data.images.image_set import LabelledImages, Split

CLASS_NAMES = [
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
]  # fmt: skip
PLACES = ("", "FashionMNIST/raw", "raw")  # Debian's package; torchvision; inside torchvision's folder


class ArrayImages(LabelledImages):
    """Grey pictures `[n, height, width]` uint8 held in memory."""

    def __init__(self, pictures: NDArray[np.uint8], labels: NDArray[np.uint8], name: str) -> None:
        super().__init__(CLASS_NAMES, torch.from_numpy(labels.astype(np.int64)))
        self.pictures, self.name = pictures, name

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(self.pictures[index]).convert("RGB")

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(self.pictures.tobytes() + self.targets.numpy().tobytes()).hexdigest()

    def identity(self) -> dict[str, Any]:
        """Hash of all pixels and labels."""
        return {"name": self.name, "images": len(self), "content": self._digest}


class FashionMNIST:
    """Ten kinds of clothing, 28 x 28 grey pictures (Xiao et al. 2017, arXiv 1708.07747).

    Reads `{train,t10k}-{images-idx3,labels-idx1}-ubyte`, gzipped or not, directly under `root` (Debian's
    `dataset-fashion-mnist`) or in `root/FashionMNIST/raw` (torchvision). `test` is the set's own; `val` are
    `n_val` pictures drawn from its training set.

    Args:
        root: the folder.
        n_val: pictures of the training set held out as `val`.
        seed: another seed holds out others.

    Raises:
        FileNotFoundError: a file is missing; says where it was looked for.
        ValueError: a file is damaged, or `n_val` is out of range.
    """

    def __init__(self, root: str | Path, n_val: int = 5000, seed: int = 0) -> None:
        self.root, self.n_val, self.seed = Path(root).expanduser(), n_val, seed
        for part in ("train", "t10k"):
            for kind in ("images-idx3", "labels-idx1"):
                self._find(f"{part}-{kind}-ubyte")

    def split(self, name: Split) -> ArrayImages:
        """Return the images of one split."""
        label = f"fashion-mnist-{name}"
        if name == "test":
            return ArrayImages(*self._read("t10k"), label)
        pictures, labels = self._train
        if not 0 < self.n_val < len(labels):
            raise ValueError(f"n_val must be in 1..{len(labels) - 1}, got {self.n_val}")
        order = np.random.default_rng(self.seed).permutation(len(labels))
        chosen = np.sort(order[: self.n_val] if name == "val" else order[self.n_val :])
        return ArrayImages(pictures[chosen], labels[chosen], label)

    @cached_property
    def _train(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return self._read("train")

    def _read(self, part: Literal["train", "t10k"]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        pictures = read_idx(self._find(f"{part}-images-idx3-ubyte"))
        labels = read_idx(self._find(f"{part}-labels-idx1-ubyte"))
        if len(pictures) != len(labels):
            raise ValueError(f"{self.root}: {len(pictures)} {part} images but {len(labels)} labels")
        return pictures, labels

    def _find(self, name: str) -> Path:
        candidates = [self.root / place / (name + suffix) for place in PLACES for suffix in (".gz", "")]
        for path in candidates:
            if path.is_file():
                return path
        raise FileNotFoundError(
            f"no Fashion-MNIST in {self.root}: looked for {', '.join(map(str, candidates))}. Debian: install "
            "dataset-fashion-mnist and set data.root=/usr/share/datasets/fashion-mnist"
        )


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an idx file of unsigned bytes, gzipped if its name ends in `.gz`.

    Raises:
        ValueError: not such a file, or truncated.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged ({error}): fetch it again") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an idx file of unsigned bytes: it starts with {content[:4].hex()}")
    n_dims = content[3]
    shape = np.frombuffer(content, ">u4", n_dims, offset=4).tolist()
    data = np.frombuffer(content, np.uint8, offset=4 + 4 * n_dims)
    if data.size != math.prod(shape):
        raise ValueError(f"{path} is truncated: {data.size} bytes for shape {shape}; fetch it again")
    return data.reshape(shape)


def fashion_mnist(
    root: str, n_val: int = 5000, split_seed: int = 0, **activations: Any
) -> ActivationDataModule:
    """Return the datamodule of `FashionMNIST`; `activations` are the arguments of `ActivationDataModule`."""
    return ActivationDataModule(FashionMNIST(root, n_val, split_seed), **activations)
