"""A tiny random CLIP and tiny pictures."""

import io
import json
import tarfile
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_sae.clip import Clip, load_clip
from lightning_sae.data import LabelledImages

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


class Noise(LabelledImages):
    """Random pictures of three classes, one split or all."""

    def __init__(self, n: int = 22, seed: int = 0) -> None:
        super().__init__(["cat", "dog", "owl"], torch.arange(n) % 3)
        self.seed = seed

    def __getitem__(self, index: int) -> Image.Image:
        rng = np.random.default_rng([self.seed, index])
        return Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))

    def identity(self) -> dict[str, Any]:
        return {"name": "noise", "images": len(self), "seed": self.seed}

    def split(self, name: str) -> "Noise":
        return Noise(len(self), seed=["train", "val", "test"].index(name))


def random_clip(folder, seed: int) -> Clip:
    path = folder / "tiny.json"
    path.write_text(json.dumps(CONFIG))
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_clip(path)


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Clip:
    return random_clip(tmp_path_factory.mktemp("clip"), seed=0)


@pytest.fixture(scope="session")
def judge(tmp_path_factory) -> Clip:
    return random_clip(tmp_path_factory.mktemp("clip"), seed=1)


@pytest.fixture
def noise() -> Noise:
    return Noise()


@pytest.fixture(scope="session")
def make_noise() -> type[Noise]:
    return Noise


class Animals:
    """24 pictures of two classes in three splits: path, bytes, class, split and a group of each, by path."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        for split, n in {"train": 12, "val": 7, "test": 5}.items():
            for i in range(n):
                name = "dog" if i < n // 2 else "house_cat"
                number = len(self.rows)
                row = {"image": f"{split}/{name}/{i:02d}.png", "label": name, "split": split}
                place = ("land", "water", "")[number % 3]
                self.rows.append({**row, "place": place, "bytes": self.picture(number)})

    def picture(self, number: int) -> bytes:
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    def of(self, split: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["split"] == split]

    def write_folder(self, root) -> None:
        for row in self.rows:
            path = root / row["image"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(row["bytes"])

    def write_tar(self, path, rows) -> None:
        """As webdataset lays it out: parts of one key, told apart by their extensions."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for row in rows:
                label = str(int(row["label"] == "house_cat")).encode()
                for extension, content in {"png": row["bytes"], "cls": label, "txt": b"a pet"}.items():
                    member = tarfile.TarInfo(row["image"].replace("/", "-").replace("png", extension))
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="session")
def animals() -> Animals:
    return Animals()
