"""Sweeps: what a job returns, what fails alone, what is not run twice."""

from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
GROUPS = sorted(f"hydra/{path.parent.name}={path.stem}" for path in CONF.glob("hydra/*/*.yaml"))
SWEEPS = sorted(path.stem for path in (CONF / "experiment").glob("sweep_*.yaml"))
SMALL = [
    *("data.n_train=256", "data.n_val=64", "data.n_test=1", "data.n_probe=24", "data.batch_size=64"),
    *("sae.d_sae=64", "module.decay_fraction=0", "trainer.accelerator=cpu", "logger=csv"),
    *("trainer.max_steps=4", "trainer.val_check_interval=4", "callbacks.progress.refresh_rate=0"),
    "callbacks=[progress,checkpoint,save_sae]",
]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def sweep(train_py, store, monkeypatch):
    """Runs a multirun of train.py; the exit status."""
    monkeypatch.setenv("WANDB_RUN_GROUP", "")  # is put back

    def sweep(folder, *overrides):
        return train_py("-m", *SMALL, f"data.store_dir={store}", f"hydra.sweep.dir={folder}", *overrides)

    return sweep


def composed(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=list(overrides), return_hydra_config=True)


@pytest.mark.parametrize("choice", GROUPS)
def test_launchers_and_sweepers_compose(choice):
    node = composed(choice).hydra[choice.split("=")[0].split("/")[1]]
    assert node._target_.startswith("hydra_plugins.")


@pytest.mark.parametrize("experiment", SWEEPS)
def test_every_sweep_names_its_values(experiment):
    cfg = composed(f"experiment={experiment}")
    assert cfg.hydra.sweeper.params
    for key, values in cfg.hydra.sweeper.params.items():
        first = str(values).split(",")[0]
        if "(" not in first:
            composed(f"experiment={experiment}", f"{key}={first}")


def test_slurm_needs_a_partition_alone():
    launcher = composed("hydra/launcher=slurm", "hydra.launcher.partition=gpu", "trainer.devices=4")
    launcher = launcher.hydra.launcher
    assert (launcher.partition, launcher.tasks_per_node, launcher.gpus_per_node) == ("gpu", 4, 4)
    assert launcher.max_num_timeout > 0  # else a preempted job fails


def test_a_failed_job_is_listed_and_only_it_runs_again(sweep, tmp_path, capfd):
    assert sweep(tmp_path, "sae.k=65,2") == 1
    ranking, said = capfd.readouterr()
    assert "Best by val/fvu: job 1" in ranking
    assert "  0: failed: ValueError: k must be in 1..d_sae=64, got 65" in ranking
    assert f"  lightning-sae compare {tmp_path}\n" in ranking
    assert "k must be in 1..d_sae=64, got 65" in said
    assert f"sae.k=65 hydra.run.dir={tmp_path}/0" in said  # the command, of its job alone
    assert "1 failed" in said
    assert "ValueError" in (tmp_path / "0" / "error.txt").read_text()
    assert (tmp_path / "1" / "sae").is_dir()
    settings = yaml.safe_load((tmp_path / "1" / ".hydra" / "hydra.yaml").read_text())
    assert settings["hydra"]["job"]["override_dirname"] == "sae.k=2"  # of a dozen words the one that varies
    before = (tmp_path / "1" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    assert sweep(tmp_path, "sae.k=65,2") == 1
    assert (tmp_path / "1" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before
    assert "finished" in capfd.readouterr().out


def test_a_sweep_of_other_values_does_not_mix_with_the_one_before(sweep, tmp_path, capfd):
    assert sweep(tmp_path, "sae.k=2") == 0
    assert sweep(tmp_path, "sae.k=3") == 1
    assert "sae.k 2 -> 3" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["hydra/sweeper=tpe"], "one metric per direction, such as optimized_metric=val/fvu"),
        (["hydra/sweeper=pareto", "optimized_metric=val/fvu"], "optimized_metric=[val/fvu,alignment/named]"),
        (["hydra/launcher=slurm", "hydra.launcher._target_=hydra_plugins.no.thing.Launcher"], '".[sweep]"'),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(sweep, tmp_path, given, said):
    assert said in sweep(tmp_path, *given)
    assert not any(tmp_path.iterdir())


def results(folder):
    return yaml.safe_load((folder / "optimization_results.yaml").read_text())


@pytest.mark.slow
def test_optuna_finds_the_better_k_and_repeats_itself(sweep, tmp_path):
    search = ["hydra/sweeper=tpe", "optimized_metric=val/l0", "sae.k=choice(2,4)", "hydra.sweeper.n_trials=4"]
    assert sweep(tmp_path, *search) == 0
    first = results(tmp_path)
    assert first["best_params"] == {"sae.k": 2}
    assert first["best_value"] == pytest.approx(2, abs=0.1)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/run.json")}
    assert sweep(tmp_path, *search) == 0  # asks for the same trials, and trains none
    assert results(tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/run.json")} == times


@pytest.mark.slow
def test_several_objectives_and_a_failed_trial(sweep, tmp_path):
    search = ["hydra/sweeper=pareto", "optimized_metric=[val/fvu,val/l0]", "hydra.sweeper.n_trials=4"]
    assert sweep(tmp_path, *search, "sae.k=choice(2,8,65)", "hydra.sweeper.sampler.seed=3") in (0, 1)
    solutions = results(tmp_path)["solutions"]
    assert solutions
    assert all(len(solution["values"]) == 2 for solution in solutions)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
@pytest.mark.timeout(600)
def test_jobs_in_other_processes(sweep, tmp_path, launcher, capfd):
    given = [f"hydra/launcher={launcher}", "callbacks.progress.refresh_rate=20"]
    if launcher == "joblib":
        given.append("hydra.launcher.n_jobs=2")
    assert sweep(tmp_path, *given, "sae.k=65,2") == 1
    said, errors = capfd.readouterr()
    assert "1 failed" in errors
    assert "Best by val/fvu: job 1" in said
    logs = [path.read_text() for path in tmp_path.glob(".submitit/*/*.out")]  # joblib has the terminal
    assert sum("job 1: training: 4 steps in " in text for text in [said, *logs]) == 1
    assert [(tmp_path / name / "sae").is_dir() for name in "01"] == [False, True]
