"""Where `conf`, `callbacks` and `train.py` lie: beside the package in a clone, inside it in a wheel."""

import os
import shlex
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent
STARTED_BY = "LIGHTNING_SAE_STARTED_BY"
"""Environment variable with the words before those of Hydra, for commands that are told to a user."""


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
    """Have Python find modules in folders, here and in the processes that this one starts.

    Args:
        first: is searched before all others; `None` for none.
        last: is searched after all others, so that nothing in it takes the place of an installed package.
    """
    firsts = [] if first is None else [str(first)]
    sys.path[:0] = firsts
    sys.path.append(str(last))
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*firsts, *given, str(last)]))


def started_by() -> str:
    """Return the words by which this training was started, those of Hydra left out."""
    return os.environ.get(STARTED_BY, f"python {shlex.quote(sys.argv[0])}")
