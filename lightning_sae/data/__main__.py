"""`python -m lightning_sae.data COMMAND ...`: the activation store without a training.

capture    fills the store; --engine says who does it: in_process, devices, slurm or ray (conf/engine)
verify     checks every shard against its checksum, and sets damaged ones aside for the next capture
precision  how much bf16 weights of CLIP and data.decode=fast change the activations of a batch, and how much
           faster they are here
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict

from lightning_sae.data.capture.pixels import load_pixels
from lightning_sae.data.capture.precision import compare_decoding, compare_precision
from lightning_sae.data.images.decoded import DecodedImages, EncodedImages
from lightning_sae.data.store.space import check_space
from lightning_sae.data.store.verify import verify_store
from lightning_sae.devices.device import AUTO, add_device_option, use_device
from lightning_sae.errors import one_line_errors, sigterm_raises
from lightning_sae.trust.control_characters import visible
from lightning_sae.trust.targets import instantiate

CONF = Path(__file__).parents[2] / "conf"


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


def verify(folder: str) -> None:
    """Name what is damaged or incomplete; the exit status says whether anything is."""
    if faults := verify_store(folder):
        lines = [visible(str(fault)) for fault in faults]
        sys.exit("\n".join([*lines, "The next capture makes these anew, and no others."]))
    print(visible(f"{folder}: every shard is as it was written"))


def composed(overrides: Sequence[str]) -> DictConfig:
    """Return the configuration, as `train.py` composes it."""
    if not CONF.is_dir():
        sys.exit(f"no {CONF}: run from a clone of the repository, installed with `pip install -e .`")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(overrides))


def parser() -> argparse.ArgumentParser:
    """Return what the command line takes."""
    parser = argparse.ArgumentParser(
        prog="python -m lightning_sae.data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_text in (("capture", "fills the store"), ("precision", "compares bf16 with fp32")):
        command = commands.add_parser(name, help=help_text)
        if name == "capture":
            command.add_argument("--engine", default=IN_PROCESS, help="in_process, devices, slurm or ray")
        add_device_option(command)
        command.add_argument(
            "overrides", nargs="*", help="as for train.py: data=image_folder data.root=DIR hook_point=..."
        )
    command = commands.add_parser("verify", help="checks every shard against its checksum")
    command.add_argument("store", help="the root of all stores, one store, or one of its sub-folders")
    return parser


def main() -> None:
    """Run a command; what the user can mend ends in one message instead of a traceback."""
    arguments = parser().parse_args()
    with one_line_errors(RuntimeError, ModuleNotFoundError), sigterm_raises():
        if arguments.command == "verify":
            verify(arguments.store)
        elif arguments.command == "precision":
            precision(composed(arguments.overrides), use_device(arguments.device))
        else:
            device = capturing_device(arguments.engine, arguments.device)
            capture(composed([f"+engine={arguments.engine}", *arguments.overrides]), device)


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


if __name__ == "__main__":
    main()
