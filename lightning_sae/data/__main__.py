"""`python -m lightning_sae.data capture OVERRIDES`: fill the store without training."""

import argparse
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

CONF = Path(__file__).parents[2] / "conf"


def main() -> None:
    """Composes the configuration as `train.py` does and captures its data."""
    parser = argparse.ArgumentParser(prog="python -m lightning_sae.data", description=__doc__)
    parser.add_argument("command", choices=["capture"])
    parser.add_argument(
        "overrides", nargs="*", help="as for train.py: data=image_folder data.root=DIR hook_point=..."
    )
    arguments = parser.parse_args()
    if not CONF.is_dir():
        parser.error(f"no {CONF}: run from a clone of the repository, installed with `pip install -e .`")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", arguments.overrides)
    data = instantiate(config.data, _convert_="all")
    data.prepare_data()
    for split in ("train", "val"):
        print(f"{split}: {data.capture(split)}")


if __name__ == "__main__":
    main()
