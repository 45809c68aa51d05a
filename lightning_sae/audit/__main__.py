"""Audits the classifier of a run: what it relies on that nobody intended.

`python -m lightning_sae.audit RUN` writes `audit.json` and `audit.html` and prints the findings.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lightning_sae.audit.audit import audit_to_folder
from lightning_sae.audit.evidence.cues import Limits
from lightning_sae.audit.examination import Options
from lightning_sae.audit.findings import SEVERITIES, Audit
from lightning_sae.audit.terminal import print_audit
from lightning_sae.classifiers.outputs import OUTPUTS
from lightning_sae.errors import one_line_errors
from lightning_sae.files import user_path
from lightning_sae.runs.command import command_on_a_run, open_named

FOUND = 3  # exit status where --fail-on is met; 1 is an error, 2 a wrong argument


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the findings and write the files; what the user can mend ends in one message."""
    options = _parser().parse_intermixed_args(arguments)
    with one_line_errors():
        audit, folder = _audit(options)
    print_audit(Console(), audit, folder)
    if options.fail_on and audit.at_least(options.fail_on):
        sys.exit(FOUND)


def _parser() -> argparse.ArgumentParser:
    parser = command_on_a_run("audit", __doc__)
    parser.add_argument(
        "--classifier",
        default="prompts",
        metavar="prompts|probe|DIR",
        help="under audit: zero-shot prompts (default), a linear probe fitted now, or a saved one",
    )
    parser.add_argument(
        "--prompts", metavar="FILE", help="JSON or YAML, {class: [prompt, ...]}, of any classes"
    )
    parser.add_argument("--output", choices=OUTPUTS, default="margin", help="the score (margin)")
    parser.add_argument("--min-images", type=int, default=20, help="fewer are not enough evidence (20)")
    parser.add_argument(
        "--fail-on", choices=SEVERITIES, help=f"exit status {FOUND} where a finding is at least this severe"
    )
    parser.add_argument("--out", type=user_path, help="folder to write to (RUN)")
    return parser


def _audit(options: argparse.Namespace) -> tuple[Audit, Path]:
    run = open_named(options)
    how = Options(options.output, Limits(min_images=options.min_images))
    folder = options.out or run.folder
    return audit_to_folder(run, folder, options.classifier, options.prompts, how), folder


if __name__ == "__main__":
    main()
