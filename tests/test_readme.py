"""What the README tells people to type."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, get_method

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python train\.py (.+)$", README, re.MULTILINE)
TABLE = README.split("| to | say |")[1].split("\n\n")[0]
OVERRIDES = [cell.replace("`", "") for cell in re.findall(r"\| (`.+`) \|$", TABLE, re.MULTILINE)]


def composed(line: str):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=[*shlex.split(line), "run_dir=RUN"])


def test_the_two_commands_are_there():
    assert "pip install -e . && python train.py" in README
    assert 'pip install -e ".[dev]" && pytest' in README
    assert 'pip install --quiet -e ".[dev]"' in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_compose(line):
    cfg = composed(line)
    assert cfg.data.root == "DIR"
    assert cfg.clip.model in line
    assert callable(get_method(cfg.data._target_))
    assert get_class(cfg.module._target_)


@pytest.mark.parametrize("line", [line for line in OVERRIDES if "ckpt_path" not in line])
def test_overrides_compose(line):
    composed(line)


def test_nothing_was_missed():
    assert len(COMMANDS) == 2
    assert len(OVERRIDES) >= 7


def test_linked_files_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


OUTPUTS = re.findall(r"```text\n(.+?)```", README, re.DOTALL)
POINTS = 5
"""Other processors round otherwise, and a training goes another way: percentages move by some points."""


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """The folder of a fresh default run, and what the README's two commands print about it."""
    folder, store = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("store")
    train = ["train.py", f"hydra.run.dir={folder}", f"data.store_dir={store}", "logger=csv"]
    audit = ["-m", "lightning_sae.audit", str(folder), "--fail-on", "high"]
    env = os.environ | {"COLUMNS": "110"}
    trained, audited = (
        subprocess.run(
            [sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        for words in (train, audit)
    )
    assert (trained.returncode, audited.returncode) == (0, 3), trained.stderr + audited.stderr
    return trained.stdout, audited.stdout


def near(shown, printed):
    """The same text, and numbers that are as good as equal."""
    numbers = r"\d+(?:\.\d+)?"
    assert re.sub(numbers, "N", shown) == re.sub(numbers, "N", printed)
    for a, b in zip(re.findall(numbers, shown), re.findall(numbers, printed), strict=True):
        allowed = max(POINTS, float(a) / 10) if float(a) > 1 else 0.02
        assert abs(float(a) - float(b)) <= allowed, (shown, printed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_training_prints_what_the_readme_shows(typed):
    figures, table = OUTPUTS[0].split("\n\n")
    for line in figures.splitlines():
        (printed,) = (text for text in typed[0].splitlines() if text.startswith(line.split()[0]))
        near(line, printed.rstrip())
    shown = re.findall(r"^(\w+) +(\d+) % +(.+?) \((\d+) %\)", table, re.MULTILINE)
    printed = re.findall(r"^│ (\w+) +│ (\d+)% +│ (.+?) \((\d+)%\)", typed[0], re.MULTILINE)
    assert len(shown) >= 4
    assert [row[0] for row in shown] == [row[0] for row in printed[: len(shown)]]
    for row, other in zip(shown, printed, strict=False):
        near(" ".join(row), " ".join(other))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_audit_prints_what_the_readme_shows(typed):
    printed, shown = (
        re.findall(r"^ *\d+ (\w+ \w+: \w+) *$.+?harm (\d+)", text, re.MULTILINE | re.DOTALL)
        for text in (typed[1], OUTPUTS[1])
    )
    harm = dict(printed)
    assert len(shown) >= 2
    for finding, percent in shown:
        assert abs(int(percent) - int(harm[finding])) <= POINTS
    found, classes = re.search(r"^(\d+) findings .* in (\d+) classes", OUTPUTS[1], re.MULTILINE).groups()
    assert abs(int(found) - len(printed)) <= 1
    assert f"in {classes} classes" in typed[1]
