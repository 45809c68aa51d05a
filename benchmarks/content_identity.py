"""How long it takes to know image files by what they hold: the first time, and when nothing has changed.

python benchmarks/content_identity.py [--files 20000] [--bytes 110000]

The files are made in a temporary folder and lie in the page cache, as far as it has room.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from unittest import mock

from lightning_sae.data.images import contents


def measure(files: int, size: int, folder: Path) -> dict[str, float]:
    """Return the microseconds a file, by the time."""
    names = [f"{i // 1000}/{i}" for i in range(files)]
    for name in names:
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    found = {}
    with (
        mock.patch.object(contents, "SETTLED", 0),
        mock.patch.object(contents.platformdirs, "user_cache_path", lambda name: folder / name),
    ):
        for which in ("first", "again"):
            start = time.perf_counter()
            contents.content_hashes(folder / "images", names)
            found[which] = (time.perf_counter() - start) / files * 1e6
    return found


def main() -> None:
    """Print a line for each time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=5_000)
    parser.add_argument("--bytes", type=int, default=110_000, help="of each file; ImageNet's mean is 110,000")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for which, micros in measure(arguments.files, arguments.bytes, Path(folder)).items():
            print(f"{which}: {micros:.0f} us a file, {micros:.0f} s for a million files")


if __name__ == "__main__":
    main()
