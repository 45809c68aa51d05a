"""The folder of `conf`, `callbacks` and `train.py`: beside the package in a clone, inside it in a wheel."""

import os
import shlex
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent
STARTED_BY = "LIGHTNING_SAE_STARTED_BY"
"""Environment variable with the words of the command line before Hydra's, to show commands to a user."""


def home() -> Path:
    """Return the folder that holds `conf`, `callbacks` and `train.py`.

    Raises:
        FileNotFoundError: the package was copied without them.
    """
    for folder in (PACKAGE.parent, PACKAGE / "_shipped"):
        if (folder / "train.py").is_file() and (folder / "conf" / "train.yaml").is_file():
            return folder
    raise FileNotFoundError(
        f"train.py and conf/train.yaml are neither beside {PACKAGE} nor in it: install the package again"
    )


def make_importable(first: Path | None, last: Path) -> None:
    """Let Python find modules in folders, in this process and in those that it starts.

    Args:
        first: folder that is searched before all others; `None` for none.
        last: folder that is searched last, so that nothing in it takes the place of an installed package.
    """
    firsts = [] if first is None else [str(first)]
    sys.path[:0] = firsts
    sys.path.append(str(last))
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*firsts, *given, str(last)]))


def started_by() -> str:
    """Return the words by which this training was started, without those of Hydra."""
    return os.environ.get(STARTED_BY, f"python {shlex.quote(sys.argv[0])}")
