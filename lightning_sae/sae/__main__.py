"""Autoencoders from the command line: `python -m lightning_sae.sae convert SRC DST --to saelens`."""

import argparse
from collections.abc import Sequence

from lightning_sae.errors import one_line_errors
from lightning_sae.sae.exchange import FOREIGN, OURS, convert
from lightning_sae.trust.control_characters import visible
from lightning_sae.trust.targets import import_parts


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; what the user can mend ends in one line."""
    parser = argparse.ArgumentParser(prog="python -m lightning_sae.sae", description=__doc__)
    command = parser.add_subparsers(required=True).add_parser(
        "convert", help="between this library's folder and those of others"
    )
    command.add_argument("src", help="folder, or checkpoint of the paper's code")
    command.add_argument("dst", help="new folder")
    command.add_argument("--to", choices=[OURS, "saelens"], required=True, help="format to write")
    command.add_argument(
        "--from", dest="source", choices=[OURS, *FOREIGN], help="format of src, if its files do not tell"
    )
    command.add_argument("--k", type=int, help="active latents per token, if a checkpoint does not say it")
    command.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="MODULE",
        help="your own module, which defines the variant; again for others",
    )
    options = parser.parse_args(arguments)
    with one_line_errors():
        import_parts(options.trust)
        print(visible(convert(options.src, options.dst, options.to, options.source, options.k)))


if __name__ == "__main__":
    main()
