"""`image_latents.safetensors` of a run folder: which latents fire on which images, and how much."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lightning_sae.data.images.image_set import digest
from lightning_sae.files import write_atomic
from lightning_sae.types import SparseLatents

FILE = "image_latents.safetensors"


class ImageLatentsFile(NamedTuple):
    """The content of the file of a run's image latents.

    Attributes:
        latents: a row per image, the largest activation over its tokens.
        image_ids: `[n]` int64, ascending.
        images: digest of the identity of the split that the ids belong to.
    """

    latents: SparseLatents
    image_ids: Tensor
    images: str


def choose_images(n: int, most: int, seed: int = 0) -> Tensor:
    """Return the ids of at most `most` of `n` images, ascending; the same in every run on the same images.

    Example:
        >>> choose_images(4, most=9).tolist(), len(choose_images(1000, most=10))
        ([0, 1, 2, 3], 10)
    """
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order[:most].sort().values


def save_image_latents(
    folder: Path, latents: SparseLatents, image_ids: Tensor, identity: dict[str, Any]
) -> None:
    """Write the file into a run folder, whole or not at all.

    Args:
        folder: the run folder.
        latents: of `n` images, a row each.
        image_ids: `[n]`, ascending.
        identity: of the split (`ImageSet.identity`).
    """
    tensors = {
        "values": latents.values.float(),
        "indices": latents.indices.int(),
        "offsets": latents.offsets,
        "image_ids": image_ids,
    }
    header = {"images": digest(identity), "d_sae": latents.d_sae}
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(folder / FILE, save(content, {"header": json.dumps(header)}))


def load_image_latents(folder: Path) -> ImageLatentsFile:
    """Read the file of a run folder.

    Raises:
        FileNotFoundError: the run did not write it.
        ValueError: it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {FILE}: the callback image_latents writes it")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["header"])
            parts = {name: file.get_tensor(name) for name in ("values", "indices", "offsets", "image_ids")}
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): run the validation again, task=validate") from error
    latents = SparseLatents(parts["values"], parts["indices"].long(), parts["offsets"], int(header["d_sae"]))
    return ImageLatentsFile(latents, parts["image_ids"], str(header["images"]))
