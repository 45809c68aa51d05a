"""Where the store of one CLIP on one split lies."""

import re
from pathlib import Path
from typing import Any

import platformdirs

from lightning_sae.clip import Clip, HookPoint
from lightning_sae.data.images.image_set import ImageSet, digest


def store_folder(store_dir: str | Path | None, clip: Clip, images: ImageSet) -> Path:
    """Folder of one CLIP on one split: readable names and a hash of both identities.

    `store_dir=None` is the user's cache folder.
    """
    root = Path(store_dir).expanduser() if store_dir else platformdirs.user_cache_path("lightning_sae")
    data = images.identity()
    names = [Path(clip.name).name, clip.pretrained or "random", data["name"]]
    readable = re.sub("[^A-Za-z0-9._-]+", "-", "-".join(names))[:100]
    return root / f"{readable}-{digest([clip_identity(clip), data])[:12]}"


def hook_folder(folder: Path, hook_point: HookPoint, tokens_per_image: int | None = None) -> Path:
    """Where the activations of a hook point lie inside a `store_folder`."""
    name = f"{hook_point.module}-{hook_point.tokens}"
    return folder / (name if tokens_per_image is None else f"{name}-{tokens_per_image}")


def clip_identity(clip: Clip) -> dict[str, Any]:
    """What of a CLIP its activations are a function of."""
    # not "pretrained": the weights' hash says what they are, wherever they were loaded from
    return {key: value for key, value in clip.identity().items() if key in ("model", "weights", "preprocess")}
