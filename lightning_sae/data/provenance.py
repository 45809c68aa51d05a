"""What activations are activations of, as checkpoints and saved autoencoders keep it."""

from collections.abc import Mapping
from typing import Any

from lightning_sae import __version__
from lightning_sae.clip import Clip, HookPoint
from lightning_sae.data.manifest import flatten

DECISIVE = ("clip.weights", "clip.preprocess", "hook_point", "tokens")
"""What makes activations these activations."""


def provenance(clip: Clip, hook_point: HookPoint) -> dict[str, Any]:
    """What a saved autoencoder is valid for."""
    return {
        "clip": clip.identity(),
        "hook_point": hook_point.module,
        "tokens": hook_point.tokens,
        "library_version": __version__,
    }


def check_provenance(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses to go on with other activations.

    Args:
        then: of a checkpoint.
        now: of a run that wants to go on from it.

    Raises:
        ValueError: weights or preprocessing of CLIP, hook point or token rule differ; names them.
    """
    before, here = flatten(then), flatten(now)
    changed = [
        f"{key} {before.get(key)!r} -> {here[key]!r}" for key in DECISIVE if before.get(key) != here[key]
    ]
    if changed:
        raise ValueError(
            f"the checkpoint was trained on other activations, these changed: {', '.join(changed)}; go "
            "on with the clip, hook_point and tokens that it began with, or start anew without ckpt_path"
        )
