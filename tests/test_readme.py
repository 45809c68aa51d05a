"""What the README tells people to type."""

import re
import shlex
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
