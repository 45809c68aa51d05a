"""The activation store without a training: fill it, and measure what it is filled with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf, open_dict

from lightning_sae.data.capture.pixels import load_pixels
from lightning_sae.data.capture.precision import compare_decoding, compare_precision
from lightning_sae.data.images.decoded import DecodedImages, EncodedImages
from lightning_sae.data.store.space import check_space
from lightning_sae.devices.device import AUTO, use_device
from lightning_sae.home import home
from lightning_sae.trust.control_characters import visible
from lightning_sae.trust.targets import instantiate

IN_PROCESS = "in_process"


def capture(config: DictConfig, device: torch.device | None = None) -> None:
    """Fill the store of `train` and `val`.

    Args:
        config: as `composed`, with an engine.
        device: where CLIP runs in this process; `None` is the GPU where there is one, else the CPU.

    Raises:
        RuntimeError: the engine came back and something is missing.
    """
    data = instantiate(config.data, trusted=None)
    if device is not None:
        data.to(device)
    data.check()
    check_space(data.captures().values(), data.dtype)
    plain: Any = OmegaConf.to_container(config.data, resolve=True)
    instantiate(config.engine, trusted=None)(data, plain)
    for name, part in data.captures().items():
        if not part.complete:
            raise RuntimeError(
                f"{len(part.missing())} shards of {part.folder} are missing: capture them again"
            )
        print(visible(f"{name}: {part.folder}"))


def precision(config: DictConfig, device: torch.device) -> None:
    """Compare on the first images of `val`: bf16 with fp32 on a device, files decoded fast and exactly."""
    clips = {}
    for name in ("fp32", "bf16"):
        torch.manual_seed(0)  # equal weights also where they are random
        clips[name] = instantiate(config.clip, trusted=None, precision=name)
        clips[name].to(device)
    with open_dict(config):
        config.data.judge, config.data.decode = None, "exact"
    data = instantiate(config.data, trusted=None)
    images, clip, hook = data.images("val"), clips["fp32"], data.hook
    ids = range(min(data.capture_batch_size, len(images)))
    ((pixels, faults, _),) = load_pixels(images, clip, [ids], len(ids))
    inputs = clip.finish(pixels[[not fault for fault in faults]].to(clip.device))
    print(f"bf16 at {hook} {compare_precision(clips['bf16'], clip, hook, inputs)} in fp32")
    if isinstance(images, EncodedImages):
        reduced = DecodedImages(images, clip.image_size)
        found = compare_decoding(clip, reduced, images, hook, ids)
        print(f"decode=fast at {hook} {found} decoded in full")


def composed(overrides: Sequence[str], config_dir: Path | None = None) -> DictConfig:
    """Return the configuration, as `train.py` composes it.

    Args:
        overrides: words of the command line.
        config_dir: a folder of YAML that is searched as well.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    words = list(overrides)
    if config_dir is not None:
        if not config_dir.is_dir():
            raise FileNotFoundError(f"--config-dir must be a folder of YAML, got {config_dir}")
        place = QuotedString(f"file://{config_dir.absolute()}", Quote.single).with_quotes()
        words.append(f"hydra.searchpath=[{place}]")
    with initialize_config_dir(str(home() / "conf"), version_base="1.3"):
        return compose("train", words)


def capturing_device(engine: str, choice: str) -> torch.device | None:
    """Return where this process captures, which it says; `None` where an engine's own processes do it.

    Raises:
        ValueError: a device for an engine that chooses them itself.
    """
    if engine == IN_PROCESS:
        return use_device(choice)
    if choice != AUTO:
        raise ValueError(
            f"--device {choice} is for --engine {IN_PROCESS}; the others have settings of their own: "
            "engine.accelerator and engine.devices, engine.gpus_per_node of slurm, engine.num_gpus of ray"
        )
    return None
