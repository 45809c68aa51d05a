"""One W&B run per run folder, also where its service dies."""

import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch
import wandb
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf
from PIL import Image

from lightning_sae.tracking.csv_logger import RunCSVLogger
from lightning_sae.tracking.wandb_logger import RunWandbLogger


@pytest.fixture(autouse=True)
def silent(monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield
    wandb.teardown()


def test_a_run_folder_is_one_wandb_run(tmp_path):
    assert RunWandbLogger(str(tmp_path))._wandb_init["id"] is None
    segment = tmp_path / "wandb" / "offline-run-20250101_120000-abcd1234-1"
    segment.mkdir(parents=True)
    (segment / "run-abcd1234.wandb").touch()
    assert RunWandbLogger(str(tmp_path))._wandb_init["id"] == "abcd1234"


def test_a_live_run_without_a_login_is_refused_with_the_two_ways_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(
        ValueError, match=r"`wandb login`, or WANDB_API_KEY\. Or .*logger\.wandb\.offline=true"
    ):
        RunWandbLogger(str(tmp_path), offline=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb.teardown()
    RunWandbLogger(str(tmp_path), offline=False)


def test_a_run_that_wandb_cannot_start_is_one_message(tmp_path, monkeypatch, config):
    def refused(*args, **kwargs):
        raise wandb.errors.CommError("no network")

    logger = RunWandbLogger(str(tmp_path))
    monkeypatch.setattr(wandb, "init", refused)
    with pytest.raises(OSError, match=r"cannot start a run: no network\. Or .*offline=true"):
        logger.log_hyperparams(config)


def test_a_key_with_a_dot_has_its_best_and_last_value(tmp_path, wandb_records):
    """As `val/fvu/resblocks.1`, of an earlier hook point."""
    logger, key = RunWandbLogger(str(tmp_path)), "val/fvu/resblocks.1"
    for step, value in enumerate([0.3, 0.1, 0.2]):
        logger.log_metrics({key: value, "val/fvu": value}, step)
    logger.finish()
    wandb.teardown()  # offline, its process may still be writing after the run has finished
    summaries = {}
    for record in wandb_records(tmp_path):
        for item in record.summary.update:
            summaries["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
    assert summaries[key] == summaries["val/fvu"] == {"min": 0.1, "last": 0.2}


def test_wandb_is_told_group_type_tags_config_and_summaries(tmp_path, wandb_records, config):
    logger = RunWandbLogger(
        str(tmp_path), project="p", group="sweep", job_type="fit", name="job", tags=["mine"]
    )
    logger.log_hyperparams(config)
    logger.log_metrics({"val/fvu": 0.3, "zero_shot/original": 0.4, "epoch": 0}, 0)
    logger.log_metrics({"val/fvu": 0.1, "zero_shot/original": 0.9, "epoch": 1}, 1)
    logger.log_metrics({"val/fvu": 0.2, "zero_shot/original": 0.8, "epoch": 2}, 2)
    logger.finish()
    wandb.teardown()  # offline, its process may still be writing after the run has finished
    found = wandb_records(tmp_path)
    runs = [record.run for record in found if record.WhichOneof("record_type") == "run"]
    assert (runs[0].run_group, runs[0].job_type, runs[0].display_name) == ("sweep", "fit", "job")
    assert list(runs[0].tags) == ["mine"]
    metrics = {r.metric.name: r.metric for r in found if r.WhichOneof("record_type") == "metric"}
    assert (metrics["val/fvu"].summary.min, metrics["val/fvu"].summary.last) == (True, True)
    assert (metrics["zero_shot/original"].summary.max, metrics["zero_shot/original"].summary.min) == (
        True,
        False,
    )
    assert metrics["epoch"].summary.last
    config = {}
    for record in found:
        for item in [*record.config.update, *record.run.config.update]:
            config[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    assert "_target_" not in json.dumps({key: value for key, value in config.items() if key != "_wandb"})
    assert config["clip"] == {"model": "B", "pretrained": {"edition": "biased"}}
    assert (config["data"], config["seed"]) == ({"n": 3}, 0)
    assert not {"logger", "callbacks"} & set(config)


def test_of_a_multirun_wandb_shows_the_group_and_what_a_job_overrides(tmp_path, monkeypatch):
    choices = {"clip": "world_biased", "data": "world", "sae": "topk", "hydra/launcher": "basic"}
    hydra = {
        "mode": RunMode.MULTIRUN,
        "runtime": {"choices": choices},
        "sweep": {"dir": "multirun/2025-01-01/10-00-00"},
        "job": {"num": 3, "override_dirname": "sae.k=8"},
    }
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: OmegaConf.create(hydra))
    init = RunWandbLogger(str(tmp_path))._wandb_init
    assert (init["group"], init["name"]) == ("2025-01-01/10-00-00", "3 sae.k=8")
    assert init["tags"] == ["clip:world_biased", "data:world", "sae:topk"]
    named = RunWandbLogger(str(tmp_path), group="mine", name="this")._wandb_init
    assert (named["group"], named["name"]) == ("mine", "this")
    hydra["mode"] = RunMode.RUN
    single = RunWandbLogger(str(tmp_path))._wandb_init
    assert (single["group"], single["name"], len(single["tags"])) == (None, None, 3)


def services():
    """W&B's processes below this one, but for those that have ended."""
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            name, rest = Path(f"/proc/{child}/stat").read_text().split("(", 1)[1].rsplit(")", 1)
            if name == "wandb-core" and rest.split()[0] != "Z":
                yield int(child)


class Run:
    """A curve in the file and in W&B, as `logger=both` has it."""

    def __init__(self, folder, ckpt_path=None):
        self.file, self.wandb = RunCSVLogger(str(folder), ckpt_path), RunWandbLogger(str(folder))
        self.wandb.log_hyperparams({"seed": 0})

    def log(self, *steps):
        for step in steps:
            self.file.log_metrics({"train/loss": 1 / (step + 1)}, step)
            self.wandb.log_metrics({"train/loss": 1 / (step + 1)}, step)


TRUTH = {step: 1 / (step + 1) for step in range(8)}


@pytest.mark.parametrize("when", ["between rows", "at the end"])
def test_a_service_that_dies_of_sigterm_leaves_no_gap(tmp_path, wandb_curve, when):
    run = Run(tmp_path)
    run.log(0, 1, 2, 3)
    (service,) = services()
    if when == "at the end":
        run.log(4, 5, 6, 7)
    os.kill(service, signal.SIGTERM)
    if when == "between rows":
        picture = Image.new("RGB", (4, 2), "red")
        run.wandb.log_image("gallery", [picture])
        run.log(4, 5, 6, 7)
    run.wandb.finish()
    wandb.teardown()
    assert wandb_curve(tmp_path, "train/loss") == TRUTH
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 2
    pictures = list(tmp_path.glob("wandb/offline-run-*/files/media/images/*.png"))
    assert bool(pictures) == (when == "between rows")  # one that was on its way may be there twice


def test_the_next_process_repeats_what_a_killed_one_took_along(tmp_path, wandb_curve):
    run = Run(tmp_path)
    run.log(0, 1, 2, 3, 4, 5)
    (service,) = services()
    os.kill(service, signal.SIGKILL)
    run.wandb._leave_dead_service()
    torch.save({"global_step": 4}, tmp_path / "last.ckpt")
    resumed = Run(tmp_path, str(tmp_path / "last.ckpt"))
    resumed.log(4, 5, 6, 7)
    resumed.wandb.finish()
    wandb.teardown()
    assert wandb_curve(tmp_path, "train/loss") == TRUTH


def test_wandb_is_shown_tables_pages_and_files_and_counts_none_as_a_curve(tmp_path, wandb_records):
    logger, page = RunWandbLogger(str(tmp_path), entity="team"), tmp_path / "audit.html"
    assert logger._wandb_init["entity"] == "team"
    page.write_text("<p>audit")
    table = pd.DataFrame({"name": ["star", "5 more rows"], "density": [0.5, None]}, dtype=object)
    logger.log_metrics({"train/loss": 0.5, "epoch": 0}, 3)
    logger.log_metrics({"val/fvu": 0.25, "epoch": 0}, 3)
    logger.show_table("tables/latents", table, 4)
    logger.show_illustrated("tables/labels", table, [Image.new("RGB", (4, 2))] * 2, 4)
    logger.show_page("pages/audit", page, 4)
    logger.keep_files("pages", {"audit.html": page}, ["last", "best"])
    logger.finish()
    wandb.teardown()
    found = wandb_records(tmp_path)
    curves = {r.metric.name for r in found if r.WhichOneof("record_type") == "metric"}
    assert curves - {""} == {"trainer/global_step", "train/loss", "val/fvu", "epoch"}
    rows = [{"/".join(i.nested_key) or i.key for i in r.history.item} for r in found if r.HasField("history")]
    assert [row & curves - {"trainer/global_step"} for row in rows[:2]] == [
        {"train/loss", "epoch"},
        {"val/fvu"},
    ]
    shown = {key.rpartition("/")[0] for row in rows for key in row if key.endswith("/_type")}
    assert shown == {"tables/latents", "tables/labels", "pages/audit"}
    (kept,) = (r.artifact for r in found if r.HasField("artifact") and r.artifact.type == "pages")
    assert {"last", "best"} <= {*kept.aliases}
    assert [entry.path for entry in kept.manifest.contents] == ["audit.html"]
