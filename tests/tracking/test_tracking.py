"""The run folder's files, written whole and continued without a seam."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from google.protobuf.struct_pb2 import Value
from lightning.pytorch.loggers import CSVLogger, Logger
from PIL import Image

from lightning_sae.tracking.csv_logger import RunCSVLogger
from lightning_sae.tracking.mlflow_logger import RunMLFlowLogger
from lightning_sae.tracking.publish import (
    publish_illustrated,
    publish_picture,
    publish_table,
    publish_tables,
    run_dir,
)
from lightning_sae.tracking.tensorboard_logger import RunTensorBoardLogger
from lightning_sae.tracking.tracker import Tracker, cannot_show, capped
from lightning_sae.tracking.wandb_logger import RunWandbLogger


class Recorder(Tracker, Logger):
    """Keeps what it is handed."""

    name, version = "recorder", None
    log_hyperparams = log_metrics = None

    def __init__(self, max_rows=100):
        super().__init__()
        self.max_rows = max_rows
        self.shown = {}

    def show_table(self, key, table, step):
        self.shown[key] = table

    def show_picture(self, key, path, step):
        self.shown[key] = path

    def show_illustrated(self, key, table, pictures, step):
        self.shown[key] = table.assign(images=pictures)

    def show_page(self, key, path, step):
        self.shown[key] = path.read_text()

    def keep_files(self, name, files, aliases):
        self.shown[name] = (sorted(files), aliases)


def trainer_of(folder, *loggers, **more):
    return SimpleNamespace(default_root_dir=str(folder), loggers=[*loggers], global_step=8, **more)


def checkpoint(folder, step):
    torch.save({"global_step": step}, folder / "last.ckpt")
    return str(folder / "last.ckpt")


def written(logger):
    return pd.read_csv(logger.path)


def test_new_keys_become_columns_and_earlier_rows_stay(tmp_path):
    logger = RunCSVLogger(str(tmp_path))
    logger.log_metrics({"a": 1.0}, 0)
    logger.log_metrics({"b": 2.0, "epoch": 0}, 1)
    logger.log_metrics({"a": 3.0}, 2)
    table = written(logger)
    assert list(table) == ["step", "a", "b", "epoch"]
    assert table["a"].tolist() == pytest.approx([1.0, float("nan"), 3.0], nan_ok=True)
    assert table["step"].tolist() == [0, 1, 2]


def test_a_resumed_curve_has_no_seam(tmp_path):
    whole, first = RunCSVLogger(str(tmp_path / "whole")), RunCSVLogger(str(tmp_path / "run"))
    for step in range(8):
        whole.log_metrics({"loss": 1 / (step + 1)}, step)
    for step in range(6):  # two steps beyond the checkpoint
        first.log_metrics({"loss": 1 / (step + 1)}, step)
    second = RunCSVLogger(str(tmp_path / "run"), checkpoint(tmp_path, 4))
    for step in range(4, 8):
        second.log_metrics({"loss": 1 / (step + 1)}, step)
    assert second.path.read_text() == whole.path.read_text()


def test_nothing_is_dropped_before_something_is_written(tmp_path):
    RunCSVLogger(str(tmp_path)).log_metrics({"a": 1.0}, 9)
    before = (tmp_path / "metrics.csv").read_text()
    RunCSVLogger(str(tmp_path), checkpoint(tmp_path, 4))
    RunCSVLogger(str(tmp_path))
    assert (tmp_path / "metrics.csv").read_text() == before


def test_without_a_checkpoint_a_new_curve_starts(tmp_path):
    for value in (1.0, 2.0):
        RunCSVLogger(str(tmp_path)).log_metrics({"a": value}, 0)
    assert pd.read_csv(tmp_path / "metrics.csv")["a"].tolist() == [2.0]


def test_a_table_lies_in_the_folder_and_its_head_in_the_tracker(tmp_path):
    recorder = Recorder()
    trainer = trainer_of(tmp_path, recorder)
    table = pd.DataFrame({"class": "a, b", "latent": range(1250)})
    publish_table(trainer, "attribution", table)
    assert not recorder.shown
    RunCSVLogger(str(tmp_path)).log_metrics({"val/fvu": 0.5}, 3)
    publish_tables(trainer)
    assert list(recorder.shown) == ["tables/attribution"]  # and no metrics.csv: a tracker has the curves
    shown = recorder.shown["tables/attribution"]
    assert shown["latent"][:-1].tolist() == list(range(100))
    assert shown["class"].iloc[-1] == f"1,150 more rows in {tmp_path / 'attribution.csv'}"
    assert shown.iloc[-1, 1:].tolist() == [None]
    pd.testing.assert_frame_equal(pd.read_csv(run_dir(trainer) / "attribution.csv"), table)


def test_a_table_of_all_its_rows_is_shown_as_it_is(tmp_path):
    table = pd.DataFrame({"latent": range(3), "density": 0.5})
    assert capped(table, 3, tmp_path) is table
    assert len(capped(table, 2, tmp_path)) == 3


def test_the_tracker_shows_names_first_and_no_label_as_a_name(tmp_path):
    recorder = Recorder()
    trainer = trainer_of(tmp_path, recorder)
    known = pd.DataFrame({"latent": [1, 2], "label": ["star", "ferret"], "named": [True, False]})
    publish_table(trainer, "latents", known)
    publish_table(trainer, "attribution", known.drop(columns="named"))
    publish_tables(trainer)
    publish_illustrated(trainer, "labels", known, lambda row: Image.new("RGB", (1, 1)))
    for key, star in (("latents", "star"), ("attribution", "? (star)"), ("labels", "star")):
        shown = recorder.shown[f"tables/{key}"]
        assert shown.columns[0] == "name"
        assert "label" not in shown
        assert shown["name"].tolist() == [star, "? (ferret)"]
    assert pd.read_csv(tmp_path / "latents.csv")["label"].tolist() == ["star", "ferret"]


def test_an_illustrated_table_is_drawn_only_for_who_can_show_it(tmp_path):
    recorder, drawn = Recorder(), []

    def picture(row):
        drawn.append(row["latent"])
        return Image.new("RGB", (4, 2), "red")

    table = pd.DataFrame({"latent": range(25), "label": "x"})
    trainer = trainer_of(tmp_path, RunCSVLogger(str(tmp_path)), RunTensorBoardLogger(str(tmp_path)))
    publish_illustrated(trainer, "labels", table, picture)
    assert drawn == []  # metrics.csv lies beside latents.csv and the gallery
    trainer.loggers.append(recorder)
    publish_illustrated(trainer, "labels", table, picture)
    shown = recorder.shown["tables/labels"]
    assert drawn == shown["latent"].tolist() == list(range(25))
    assert {image.size for image in shown["images"]} == {(4, 2)}
    assert not list(tmp_path.iterdir())


def test_who_cannot_show_something_is_known(tmp_path):
    assert cannot_show(RunCSVLogger(str(tmp_path))) == cannot_show(Recorder()) == []
    assert cannot_show(RunTensorBoardLogger(str(tmp_path))) == ["tables with pictures", "pages", "files"]
    everything = ["tables", "pictures", "tables with pictures", "pages", "files"]
    assert cannot_show(CSVLogger(str(tmp_path))) == everything
    for logger in (RunWandbLogger, RunMLFlowLogger):
        assert logger.lacks.fget(logger.__new__(logger)) == []


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return events


def test_tensorboard_lies_in_the_run_folder_with_curves_and_pictures(tmp_path, config):
    first = RunTensorBoardLogger(str(tmp_path))
    first.log_hyperparams(config)
    for step in range(6):  # two steps beyond the checkpoint
        first.log_metrics({"val/fvu": 1.0}, step)
    first.finalize("success")
    second = RunTensorBoardLogger(str(tmp_path), checkpoint(tmp_path, 4))
    for step in range(4, 8):
        second.log_metrics({"val/fvu": 2.0}, step)
    Image.new("RGB", (6, 4), "red").save(tmp_path / "gallery.png")
    trainer = trainer_of(tmp_path, second)
    publish_picture(trainer, "pictures/gallery", tmp_path / "gallery.png")
    publish_table(trainer, "latents", pd.DataFrame({"latent": [7, 3], "label": "<b>|", "density": 0.123456}))
    publish_tables(trainer)
    second.finalize("success")
    events = scalars(tmp_path)
    curve = [(event.step, event.value) for event in events.Scalars("val/fvu")]
    assert curve == [(step, 1.0 if step < 4 else 2.0) for step in range(8)]
    (picture,) = events.Images("pictures/gallery")
    assert (picture.step, picture.width, picture.height) == (8, 6, 4)
    (table,) = events.Tensors("tables/latents/text_summary")
    text = table.tensor_proto.string_val[0].decode()
    assert (text.count("<tr"), "? (&lt;b&gt;|)" in text, "0.1235" in text) == (3, True, True)
    assert "_target_" not in (tmp_path / "tensorboard" / "hparams.yaml").read_text()


def test_the_hparams_tab_has_flat_settings_and_the_last_values_of_curves(tmp_path):
    from tensorboard.plugins.hparams import metadata

    logger = RunTensorBoardLogger(str(tmp_path))
    sae = {"_target_": "f", "k": 16, "normalisation": "standard"}
    logger.log_hyperparams({"sae": sae, "callbacks": {"gallery": {"rows": 1}}, "run_dir": str(tmp_path)})
    logger.log_metrics({"val/fvu": 0.5, "epoch": 0}, 3)
    logger.finalize("success")
    events = scalars(tmp_path)
    assert {*events.Tags()["scalars"]} == {"val/fvu", "epoch"}  # nothing is logged for the tab alone
    content = events.summary_metadata
    start = metadata.parse_session_start_info_plugin_data(
        content[metadata.SESSION_START_INFO_TAG].plugin_data.content
    )
    assert dict(start.hparams) == {
        "sae.k": Value(number_value=16),
        "sae.normalisation": Value(string_value="standard"),
    }
    assert metadata.EXPERIMENT_TAG not in content  # else the columns of the first run are those of all


def test_without_tensorboard_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_sae.tracking.tensorboard_logger.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install -e "\.\[tensorboard\]"'):
        RunTensorBoardLogger(str(tmp_path))
