"""`python -m lightning_sae.data COMMAND OVERRIDES`: the activation store without a training.

capture    fills the store
precision  how much bf16 weights of CLIP change the activations of a batch, and how much faster they are here
"""

import argparse
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict

from lightning_sae.data.pixels import load_pixels
from lightning_sae.data.precision import compare_precision

CONF = Path(__file__).parents[2] / "conf"


def capture(config: DictConfig) -> None:
    """Fills the store of `train` and `val`."""
    data = instantiate(config.data, _convert_="all")
    data.prepare_data()
    for split in ("train", "val"):
        print(f"{split}: {data.capture(split)}")


def precision(config: DictConfig) -> None:
    """Compares bf16 with fp32 on the first images of `val`."""
    clips = {}
    for name in ("fp32", "bf16"):
        torch.manual_seed(0)  # equal weights also where they are random
        clips[name] = instantiate(config.clip, precision=name)
        clips[name].to("cuda" if torch.cuda.is_available() else "cpu")
    with open_dict(config):
        config.data.judge = None
    data = instantiate(config.data, _convert_="all")
    images = data.images("val")
    ids = [*range(min(data.capture_batch_size, len(images)))]
    ((pixels, faults),) = load_pixels(images, data.clip, [ids])
    pixels = pixels[[not fault for fault in faults]]
    print(f"bf16 at {data.hook} {compare_precision(clips['bf16'], clips['fp32'], data.hook, pixels)}")


COMMANDS = {"capture": capture, "precision": precision}


def main() -> None:
    """Composes the configuration as `train.py` does and runs a command on it."""
    parser = argparse.ArgumentParser(
        prog="python -m lightning_sae.data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument(
        "overrides", nargs="*", help="as for train.py: data=image_folder data.root=DIR hook_point=..."
    )
    arguments = parser.parse_args()
    if not CONF.is_dir():
        parser.error(f"no {CONF}: run from a clone of the repository, installed with `pip install -e .`")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", arguments.overrides)
    COMMANDS[arguments.command](config)


if __name__ == "__main__":
    main()
