"""Whatever can be added takes one file of Python and one of YAML, outside of the repository."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import lightning_sae as ls
from lightning_sae.attribution.explained import Explained
from lightning_sae.audit import read_audit
from lightning_sae.clip import TokenRule
from lightning_sae.data import ImageSet
from lightning_sae.mappings import flatten
from lightning_sae.sae import SparseAutoencoder
from lightning_sae.types import SparseLatents, ValidationOutput
from lightning_sae.world import World, config_path, weights_path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
FILES = {
    said[1]: block
    for kind, block in BLOCKS
    if (said := re.match(r"(?:# @package.*\n)?# ((?:mine|conf)/[\w/]+\.\w+)\n", block))
}
"""Path -> content, of what has the name of its file in its first lines."""
SCRIPTS = [block for kind, block in BLOCKS if kind == "python" and block not in FILES.values()]
COMMANDS = [line for kind, block in BLOCKS if kind == "bash" for line in block.splitlines()]
SETTINGS = {
    "data.n_probe": 8,
    "callbacks.alignment.draws": 20,
    "callbacks.progress.refresh_rate": 0,
    "module.decay_fraction": 0,
    "+module.top_n": 5,
    "trainer": {"max_steps": 4, "val_check_interval": 4, "num_sanity_val_steps": 0, "accelerator": "cpu"},
}
"""So small that a run takes seconds."""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The folder of the page, with a CLIP and a picture; in it we work."""
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    shutil.copy(config_path(), tmp_path / "my_config.json")
    shutil.copy(weights_path("biased"), tmp_path / "my_weights.safetensors")
    World("biased", "test", 10).image(3).save(tmp_path / "picture.png")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # of the store
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    forget()


def forget():
    """As in a command later on."""
    SparseAutoencoder.variants.pop("Half", None)
    TokenRule.known.pop("first_patch", None)
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]


def words_of(command):
    """The words of a run of the page, and what makes it small."""
    small = [f"{key}={value}" for key, value in flatten(SETTINGS).items()]
    return [*shlex.split(command.removeprefix("python train.py ")), *small]


def check(run):
    """Each part has left its mark in the folder."""
    saved = json.loads((run / "sae" / "cfg.json").read_text())
    assert (saved["variant"], saved["provenance"]["tokens"]) == ("Half", "first_patch")
    assert saved["provenance"]["clip"]["pretrained"] == "my_weights.safetensors"
    latents = pd.read_csv(run / "latents.csv")
    assert latents["mine"].equals(latents["latent"])
    assert set(latents["label"]) <= {"north sea", "black sea", "red sea"}
    metrics = pd.read_csv(run / "metrics.csv")
    assert metrics["mine/active"].dropna().iloc[-1] == 4  # of the one token of an image
    assert metrics["faithfulness/mine_deletion"].dropna().iloc[-1] >= 0
    lines = [json.loads(line) for line in (run / "lines.jsonl").read_text().splitlines()]
    assert [line["mine/active"] for line in lines if "mine/active" in line][-1] == 4
    assert read_audit(run).subject.output == "lead"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_of_ones_own(train_py, mine):
    assert train_py(*words_of(COMMANDS[1])) == 0
    check(mine / "RUN")
    forget()
    trusted = ["mine.source", "mine.rule"]
    with pytest.raises(ValueError, match=r"unknown SAE variant 'Half'.*--trust"):
        ls.open_run("RUN", trusted=trusted)
    assert ls.open_run("RUN", trusted=[*trusted, "mine.variant"]).sae.k == 4
    for script in SCRIPTS:
        exec(compile(script, "docs/extending.md", "exec"), {})


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_commands_of_the_page(mine):
    environment = {**os.environ, "PYTHONPATH": f"{mine}{os.pathsep}{ROOT}"}

    def execute(*words):
        return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)

    setting, train, *commands = COMMANDS
    assert setting == "export PYTHONPATH=$PWD"
    trained = execute(str(ROOT / "train.py"), *words_of(train))
    assert trained.returncode == 0, trained.stderr
    check(mine / "RUN")
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "lightning-sae"
        if "--trust" in words:
            place = words.index("--trust")
            refused = execute("-m", "lightning_sae", *words[:place], *words[place + 2 :])
            assert refused.returncode == 1
            assert "--trust" in refused.stderr
            assert "Traceback" not in refused.stderr
        done = execute("-m", "lightning_sae", *words)
        assert done.returncode == 0, done.stderr
    for name in ("explained.png", "audit/audit.html", "compare/compare.html", "for_saelens/cfg.json"):
        assert (mine / name).is_file(), name


def test_the_page_has_a_file_for_everything():
    kinds = {Path(name).parts[1] for name in FILES if name.startswith("conf/")}
    assert kinds == {"sae", "callbacks", "data", "clip", "logger", "labels", "experiment"}
    named = {match[0] for content in FILES.values() for match in re.finditer(r"\bmine\.\w+(?=\.\w)", content)}
    assert named == {name.removesuffix(".py").replace("/", ".") for name in FILES if name.endswith(".py")}


@pytest.mark.parametrize("contract", [ImageSet, SparseLatents, ValidationOutput, Explained])
def test_contracts_are_on_the_page(contract):
    section = PAGE.split(f"### {contract.__name__}\n")[1].split("\n#")[0]
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", section, re.MULTILINE))))
    own = {name for name in vars(contract) if not name.startswith("_")} | {"__len__", "__getitem__"}
    fields = {*contract.__annotations__} if contract is not ImageSet else own
    assert named == fields


def test_a_rule_needs_a_name_of_its_own():
    class All(TokenRule):
        name = "all"

        def select(self, clip, hook_point, whole):
            return None

    with pytest.raises(ValueError, match="a name of its own, got 'all'"):
        All()
