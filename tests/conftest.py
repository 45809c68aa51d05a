"""What tests of several parts need: train.py, small runs, what W&B wrote into a run folder, a browser."""

import json
import os
import runpy
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from lightning_sae.report import fonts

ROOT = Path(__file__).parents[1]
SMALL = [
    *("data.n_train=128", "data.n_val=96", "data.n_test=1", "data.n_probe=8", "data.batch_size=64"),
    *("sae.d_sae=64", "sae.k=4", "module.decay_fraction=0", "+module.top_n=5", "trainer.accelerator=cpu"),
    *("trainer.max_steps=4", "trainer.val_check_interval=4", "trainer.num_sanity_val_steps=0", "logger=csv"),
    *("~callbacks.faithfulness", "~callbacks.reliance", "~callbacks.spliced_accuracy", "~callbacks.truth"),
    *("~callbacks.quality", "~callbacks.gallery", "~callbacks.attribution", "~callbacks.checkpoint"),
    *("~callbacks.report", "~callbacks.pairs"),
    *("callbacks.progress.refresh_rate=0", "callbacks.alignment.draws=20"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of the stores that the tests of a file share."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def train_py() -> Callable[..., Any]:
    """Runs train.py in this process: 0, or the status or message that it ends with."""

    def train_py(*arguments: str) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["train.py", *arguments])
            try:
                runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
            except SystemExit as stop:
                return stop.code
        return 0

    return train_py


@pytest.fixture(scope="session")
def train_small(
    train_py: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Name, overrides -> the folder of a run on the world, of seconds; all share a store."""
    store = tmp_path_factory.mktemp("store")

    def train_small(name: str, *overrides: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        said = train_py(*SMALL, f"data.store_dir={store}", f"hydra.run.dir={folder}", *overrides)
        assert said == 0, said
        return folder

    return train_small


@pytest.fixture
def during(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], Any]], None]:
    """Does something in the middle of an optimiser step of a training in this process, once."""
    from lightning_sae.training.module import SAEModule

    step_of = SAEModule.optimizer_step

    def during(step: int, act: Callable[[], Any]) -> None:
        def optimizer_step(self: SAEModule, *args: Any, **kwargs: Any) -> None:
            done = self.trainer.global_step
            step_of(self, *args, **kwargs)
            if done == step - 1:
                monkeypatch.undo()
                act()

        monkeypatch.setattr(SAEModule, "optimizer_step", optimizer_step)

    return during


@pytest.fixture(scope="session")
def small_run(train_small: Callable[..., Path]) -> Path:
    """On the class token behind the last block."""
    return train_small("cls")


@pytest.fixture(scope="session")
def small_patch_run(train_small: Callable[..., Path]) -> Path:
    """On the patch tokens of a block in the middle."""
    return train_small("patch", "hook_point=visual.transformer.resblocks.1", "tokens=patch")


@pytest.fixture(scope="session")
def small_layers_run(train_small: Callable[..., Path]) -> Path:
    """On the class tokens of a block in the middle and of the last one."""
    blocks = [f"visual.transformer.resblocks.{block}" for block in (1, 3)]
    return train_small("layers", f"hook_points=[{','.join(blocks)}]")


@pytest.fixture(scope="module")
def few_drawn_words() -> Iterator[None]:
    """Audits print a word 7 times instead of 174 times, and two meaningless ones instead of 20."""
    from lightning_sae.audit.evidence import reading

    with pytest.MonkeyPatch.context() as patch:
        for name, few in {"STYLES": reading.STYLES[:3], "IMAGES": 1, "FRESH": 4, "MEANINGLESS": 2}.items():
            patch.setattr(reading, name, few)
        yield


def _records(content: bytes) -> Iterator[Any]:
    """Of one segment: LevelDB's log format behind a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    place, whole = 7, b""
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left  # a block ends in padding
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or its last piece
            yield Record.FromString(whole)
            whole = b""


@pytest.fixture(scope="session")
def wandb_records() -> Callable[[Path], list[Any]]:
    """Run folder -> what its offline segments say, one behind the other."""

    def wandb_records(folder: Path) -> list[Any]:
        segments = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
        return [record for path in segments for record in _records(path.read_bytes())]

    return wandb_records


@pytest.fixture(scope="session")
def wandb_curve(wandb_records: Callable[[Path], list[Any]]) -> Callable[[Path, str], dict[int, float]]:
    """Run folder, key -> step -> value of the one W&B run; what is told twice has to be the same."""

    def wandb_curve(folder: Path, key: str) -> dict[int, float]:
        assert len({path.stem for path in folder.glob("wandb/offline-run-*/run-*.wandb")}) == 1
        curve: dict[int, float] = {}
        for record in wandb_records(folder):
            row = {"/".join(item.nested_key) or item.key: item for item in record.history.item}
            if key in row:
                value = float(json.loads(row[key].value_json))
                assert curve.setdefault(int(row["trainer/global_step"].value_json), value) == value
        return curve

    return wandb_curve


def _square(side):
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, side), (side, side), (side, 0)):
        pen.lineTo(corner)
    pen.closePath()
    return pen.glyph()


def _write_font(path, letter):
    """A font in which that letter is a black square, and nothing else is."""
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "letter"])
    builder.setupCharacterMap({ord(letter): "letter"})
    builder.setupGlyf({".notdef": _square(0), "letter": _square(1000)})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "letter": (1000, 0)})
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": f"Only {ord(letter):x}", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=1000)
    builder.setupPost()
    builder.save(path)
    return str(path)


@pytest.fixture
def system_fonts(tmp_path, monkeypatch):
    """Gives the system fonts that each have one letter."""

    def has(*letters):
        paths = [_write_font(tmp_path / f"{ord(letter):x}.ttf", letter) for letter in letters]
        (tmp_path / "broken.ttf").write_bytes(b"no font")
        monkeypatch.setattr(fonts, "findSystemFonts", lambda: [str(tmp_path / "broken.ttf"), *paths])

    return has


@pytest.fixture(scope="session")
def debian() -> Callable[..., None]:
    """Installs packages, one process after the other; a test is skipped where it may not."""

    def debian(*packages: str) -> None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            pytest.skip(f"wants {' and '.join(packages)}, or root on Debian to install them")
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["install", "-qq", "-y", "--no-install-recommends", *packages]
        with FileLock(Path(tempfile.gettempdir()) / "lightning_sae_apt.lock"):
            for words in (["update", "-qq"], install):
                subprocess.run(["apt-get", *words], env=env, check=True, timeout=280)

    return debian


@pytest.fixture(scope="session")
def browser(debian: Callable[..., None]) -> Iterator[Any]:
    """Debian's Chromium without a window; its log of errors can be read."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        debian("chromium", "chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for word in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1366,900"):
        options.add_argument(word)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to start otherwise
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()
