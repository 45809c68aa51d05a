"""The wheel, installed elsewhere: everything works in a folder without the clone."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from lightning_sae.world import World

ROOT = Path(__file__).parents[2]
TINY = [
    *("data.n_train=128", "data.n_val=96", "data.n_test=1", "data.n_probe=8", "data.batch_size=64"),
    *("sae.d_sae=64", "module.decay_fraction=0", "+module.top_n=5", "trainer.accelerator=cpu"),
    *("trainer.max_steps=4", "trainer.val_check_interval=4", "trainer.num_sanity_val_steps=0", "logger=csv"),
    *("~callbacks.faithfulness", "~callbacks.reliance", "~callbacks.quality", "~callbacks.gallery"),
    *("callbacks.progress.refresh_rate=0", "callbacks.alignment.draws=20"),
]
STORE = ["data.store_dir=store", "data.num_workers=0", "data.shard_images=32", "data.capture_batch_size=16"]
ENGINES = {
    "slurm": ["engine.cluster=local", "engine.jobs=2", "engine.num_threads=1", "engine.gpus_per_node=0"],
    "ray": ["engine.workers=2", "engine.num_threads=1"],
}
OWN = {
    "mine.py": """
import os
from pathlib import Path
from lightning.pytorch import Callback
from lightning_sae.data import WorldImages, ActivationDataModule
from lightning_sae.sae import TopK

class Half(TopK):
    def __init__(self, d_in, d_sae, **options):
        super().__init__(d_in, d_sae, k=d_sae // 16, **options)

class Rank(Callback):
    def on_fit_end(self, trainer, module):
        Path(f"rank{trainer.global_rank}.txt").write_text(str(os.getpid()))

def same(**activations):
    return ActivationDataModule(WorldImages("biased", 128, 96, 1), **activations)
""",
    "conf/sae/half.yaml": "_target_: mine.Half\n_partial_: true\nd_sae: 64\n",
    "conf/callbacks/rank.yaml": "rank: {_target_: mine.Rank}\n",
    "conf/data/same.yaml": "_target_: mine.same\n"
    "defaults: [base/activations@_here_, /clip@judge: world_balanced]\n",
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(ROOT)], check=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory):
    """The folder of programs of an environment that has the wheel, and of others what this one has."""
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    others = {sysconfig.get_paths()[kind] for kind in ("purelib", "platlib")}
    (packages / "others.pth").write_text("\n".join(others))  # .pth files of theirs are not followed
    return folder / "bin"


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A working directory with files of one's own and nothing else."""
    folder = tmp_path_factory.mktemp("empty")
    for name, content in OWN.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.fixture(scope="module")
def say(programs, empty):
    """Runs an installed program there; gives what it prints."""

    def say(*words, program="lightning-sae"):
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {
            "OMP_NUM_THREADS": "1",
            "WANDB_MODE": "offline",
            "XDG_CACHE_HOME": str(empty / "cache"),
        }
        command = [str(programs / program), *words]
        done = subprocess.run(
            command, cwd=empty, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return say


@pytest.fixture(scope="module")
def run(say, empty):
    """A training on the embedded world; its folder."""
    say("train", *TINY, *STORE, "hydra.run.dir=run")
    return empty / "run"


def test_the_wheel_has_one_package_on_its_top_level(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"lightning_sae"}
    shipped = {name.partition("/_shipped/")[2] for name in names if "/_shipped/" in name}
    files = [ROOT / "train.py", *(ROOT / "conf").rglob("*.yaml"), *(ROOT / "callbacks").rglob("*.py")]
    assert shipped == {path.relative_to(ROOT).as_posix() for path in files}


def test_nothing_is_of_the_clone(say, programs):
    code = (
        "import lightning_sae, importlib.util as u; print(lightning_sae.__file__, u.find_spec('callbacks'))"
    )
    path, callbacks = say("-c", code, program="python").split()
    assert Path(path).is_relative_to(programs.parent)
    assert callbacks == "None"


def test_what_comes_behind_a_training(say, run, empty):
    World("biased", "test", 1).image(0).save(empty / "star.png")
    said = say("explain", "run", "--image", "star.png", "--prompt", "a star")
    assert "picture: run/pictures/explain_star.png" in said
    assert "run/audit.html" in say("audit", "run", "--min-images", "2")
    assert "1 of 1 runs finished" in say("compare", "run")
    assert "every shard is as it was written" in say("verify", "store")
    assert (run / "audit.json").exists()


def test_a_sweep_in_other_processes_with_parts_of_ones_own(say, run, empty):
    own = ["--config-dir", "conf", "sae=half", "data=same", "callbacks=[default,rank]"]
    settings = [word for word in TINY if not word.startswith(("data.n_train", "data.n_val", "data.n_test"))]
    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=sweep"]
    say("train", "-m", *own, *settings, *STORE, *joblib, "seed=0,1")
    for job in "01":
        saved = json.loads((empty / "sweep" / job / "sae" / "cfg.json").read_text())
        assert saved["variant"] == "Half"


def test_two_processes_of_one_training(say, run, empty):
    own = ["--config-dir", "conf", "callbacks=[default,rank]", "trainer=ddp", "trainer.devices=2"]
    say("train", *own, *TINY, *STORE, "hydra.run.dir=ddp")
    assert len({(empty / f"rank{rank}.txt").read_text() for rank in (0, 1)}) == 2


@pytest.mark.parametrize(("engine", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_workers_of_an_engine_find_a_data_set_of_ones_own(say, empty, engine, package):
    pytest.importorskip(package)
    words = ["--engine", engine, *ENGINES[engine], "--config-dir", "conf", "data=same", "data.n_probe=8"]
    assert "val: " in say("capture", *words, f"data.store_dir={engine}", *STORE[1:])
    assert "every shard is as it was written" in say("verify", engine)
