"""Where activations lie in the store, and what they are activations of."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs

from lightning_sae import __version__
from lightning_sae.clip import Clip, HookPoint
from lightning_sae.data.images.image_set import ImageSet, digest
from lightning_sae.mappings import differences, flatten


def store_folder(store_dir: str | Path | None, clip: Clip, images: ImageSet) -> Path:
    """Return the folder of one CLIP on one split: readable names and a hash of both identities.

    `store_dir=None` is the user's cache folder.
    """
    root = Path(store_dir).expanduser() if store_dir else platformdirs.user_cache_path("lightning_sae")
    data = images.identity()
    names = [Path(clip.name).name, clip.pretrained or "random", data["name"]]
    readable = re.sub("[^A-Za-z0-9._-]+", "-", "-".join(names))[:100]
    return root / f"{readable}-{digest([clip_identity(clip), data])[:12]}"


def hook_folder(folder: Path, hook_point: HookPoint, tokens_per_image: int | None = None) -> Path:
    """Return where the activations of a hook point lie inside a `store_folder`."""
    name = f"{hook_point.module}-{hook_point.tokens}"
    return folder / (name if tokens_per_image is None else f"{name}-{tokens_per_image}")


def clip_identity(clip: Clip) -> dict[str, Any]:
    """Return the parts of a CLIP's identity that its activations depend on."""
    # not "pretrained": the weights' hash says what they are, wherever they were loaded from
    return {key: value for key, value in clip.identity().items() if key in ("model", "weights", "preprocess")}


DECISIVE = ("clip.weights", "clip.preprocess", "hook_point", "hook_points", "tokens")
"""Keys of the provenance that are equal for the same activations."""


def provenance(clip: Clip, hook_point: HookPoint) -> dict[str, Any]:
    """Return what a saved autoencoder is valid for."""
    return {
        "clip": clip.identity(),
        "hook_point": hook_point.module,
        "tokens": hook_point.tokens,
        "library_version": __version__,
    }


def check_provenance(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with other activations.

    Args:
        then: of a checkpoint.
        now: of a run that wants to go on from it.

    Raises:
        ValueError: weights or preprocessing of CLIP, hook point or token rule differ; names them.
    """
    before, here = ({key: flat.get(key) for key in DECISIVE} for flat in (flatten(then), flatten(now)))
    changed = differences(before, here)
    if changed:
        raise ValueError(
            f"the checkpoint was trained on other activations, these changed: {', '.join(changed)}; go "
            "on with the clip, hook points and tokens that it began with, or start anew without ckpt_path"
        )


def data_identity(splits: Mapping[str, ImageSet]) -> dict[str, str]:
    """Return what identifies the images of some splits, by dotted keys, without the names of the data sets.

    Example:
        >>> import torch
        >>> from lightning_sae.data.sources.texts import Texts
        >>> data_identity({"val": Texts("captions", ["a cat"], ["cat"], torch.tensor([0]))})["val.n"]
        '1'
    """
    known = flatten({split: images.identity() for split, images in splits.items()})
    return {key: str(value) for key, value in known.items() if not key.endswith(".name")}


def check_data(then: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuse to go on with other data.

    Args:
        then: `data_identity` of a checkpoint or a run.
        now: of a run that wants to go on from it.

    Raises:
        ValueError: images, their order, classes or prompts differ; names the splits and what differs in them.
    """
    changed = differences(then, now, lambda digest: (digest or "nothing")[:12])
    if changed:
        raise ValueError(
            f"the training was begun on other data, these changed: {', '.join(changed)} (hashes of names, "
            "contents, classes and prompts). Put them back as they were, or start anew in another folder or "
            "with resume=false"
        )
