"""One MLflow run per run folder, in a database on this machine."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from lightning_sae.tracking.mlflow_logger import LOCAL, RunMLFlowLogger

pytest.importorskip("mlflow")


@pytest.fixture
def logger(tmp_path, monkeypatch):
    """Makes the logger of a run folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # MLflow sets it, and it is put back

    def logger(ckpt_path=None, **more):
        return RunMLFlowLogger(str(tmp_path / "run"), ckpt_path, **more)

    return logger


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A database with its tables and nothing else, which takes seconds to make."""
    folder = tmp_path_factory.mktemp("made")
    RunMLFlowLogger(str(folder), tracking_uri=f"sqlite:///{folder / LOCAL}")
    return folder / LOCAL


@pytest.fixture
def database(made, tmp_path):
    """A copy of it, where the logger looks."""
    shutil.copy(made, tmp_path)


def curve(logger, key):
    return [(value.step, value.value) for value in logger.experiment.get_metric_history(logger.run_id, key)]


@pytest.mark.usefixtures("database")
def test_mlflow_has_one_run_per_folder_and_each_value_once(logger, config):
    first = logger(group="sweep", name="job", tags={"mine": "1"})
    first.log_hyperparams(config | {"choices": {}})
    for step in range(6):  # two steps beyond the checkpoint
        first.log_metrics({"train/loss": 1 / (step + 1), "epoch": 0}, step)
        first.log_metrics({"val/fvu": 1 / (step + 2), "epoch": 0}, step)
    first.finalize("failed")
    second = logger("last.ckpt")
    second.log_hyperparams(config | {"resume": False, "choices": {}})
    for step in range(4, 8):
        second.log_metrics({"train/loss": 1 / (step + 1), "epoch": 0}, step)
    second.finalize("success")
    assert second.run_id == first.run_id
    assert curve(second, "train/loss") == [(step, 1 / (step + 1)) for step in range(8)]
    assert [step for step, _ in curve(second, "epoch")] == list(range(8))
    run = second.experiment.get_run(second.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "job")
    assert (run.data.tags["group"], run.data.tags["mine"]) == ("sweep", "1")
    assert (run.data.params["clip.pretrained.edition"], run.data.params["resume"]) == ("biased", "False")
    assert not any("_target_" in key for key in run.data.params)
    anew = logger()
    anew.log_hyperparams(config)
    assert anew.run_id != first.run_id


@pytest.mark.usefixtures("database")
def test_tables_pictures_pages_and_files_are_artifacts_of_the_last_pass(logger, tmp_path):
    one = logger()
    one.log_hyperparams({"choices@data.judge": "b"})
    picture, page = tmp_path / "gallery.png", tmp_path / "audit.html"
    Image.new("RGB", (4, 2), "red").save(picture)
    page.write_text("<p>audit")
    table = pd.DataFrame({"name": ["star", "<script>"], "density": [0.5, None]})
    for step in (1, 2):
        one.show_table("tables/latents", table.head(step), step)
    one.show_picture("pictures/gallery", picture, 2)
    one.show_illustrated("tables/labels", table, [Image.new("RGB", (4, 2))] * 2, 2)
    one.show_page("pages/audit", page, 2)
    one.keep_files("pages", {"audit.html": page, "pictures/gallery.png": picture}, ["last"])
    where = one.experiment.download_artifacts(one.run_id, "", str(tmp_path))
    found = {path.relative_to(where).as_posix(): path for path in Path(where).rglob("*.*")}
    kept = "audit.html pictures/gallery.png tables/latents.csv tables/labels.html"
    assert {*kept.split()} <= {*found}
    assert pd.read_csv(found["tables/latents.csv"])["name"].tolist() == ["star", "<script>"]
    labels = found["tables/labels.html"].read_text()
    assert (labels.count("<img"), "<script>" in labels) == (2, False)


def test_a_server_that_is_not_there_is_one_message(logger, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(OSError, match=r"cannot start a run at http://127\.0\.0\.1:9: .*tracking_uri=sqlite:"):
        logger().log_hyperparams({})


def test_without_mlflow_the_message_says_what_to_install(logger, monkeypatch):
    monkeypatch.setattr("lightning_sae.tracking.mlflow_logger.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install -e "\.\[mlflow\]"'):
        logger()


@pytest.mark.slow
def test_jobs_that_begin_together_make_one_database(logger, tmp_path):
    code = f"""
from lightning_sae.tracking.mlflow_logger import LOCAL, RunMLFlowLogger
logger = RunMLFlowLogger({str(tmp_path / "run")!r})
logger.log_hyperparams({{"seed": 0}})
"""
    jobs = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(2)]
    said = [job.communicate(timeout=120)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said
    one = logger()
    one.log_hyperparams({})
    assert len(one.experiment.search_runs([one.experiment_id])) == 3
