"""Commands on the folder of a run: the arguments that all of them have, and the run that these name."""

import argparse

from lightning_sae.devices.device import add_device_option, use_device
from lightning_sae.files import user_path
from lightning_sae.runs.folder import RunFolder, open_run
from lightning_sae.trust.targets import add_trust_option


def command_on_a_run(
    name: str, description: str | None, run: str = "folder of a finished run"
) -> argparse.ArgumentParser:
    """Return the parser of `python -m lightning_sae.NAME RUN [OVERRIDES]`, for `parse_intermixed_args`.

    Args:
        name: of the command.
        description: for its help.
        run: meaning of its first argument.
    """
    parser = argparse.ArgumentParser(prog=f"python -m lightning_sae.{name}", description=description)
    parser.add_argument("run", type=user_path, help=run)
    add_device_option(parser)
    add_trust_option(parser)
    parser.add_argument("overrides", nargs="*", help="what has moved since: data.store_dir=DIR data.root=DIR")
    return parser


def open_named(options: argparse.Namespace) -> RunFolder:
    """Open the run that a user has named, on the device of `--device`; says which that is.

    Raises:
        FileNotFoundError: as `open_run`.
        ValueError: as `open_run`, or there is no such device.
    """
    return open_run(options.run, options.overrides, use_device(options.device), options.trust)
