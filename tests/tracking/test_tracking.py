"""The run folder's files, written whole and continued without a seam."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from lightning.pytorch.loggers import WandbLogger
from PIL import Image

from lightning_sae.tracking.csv_logger import RunCSVLogger
from lightning_sae.tracking.publish import (
    MAX_TRACKER_ROWS,
    publish_illustrated,
    publish_picture,
    publish_table,
    run_dir,
)
from lightning_sae.tracking.tensorboard_logger import RunTensorBoardLogger


class Recorder(WandbLogger):
    """Keeps what it is handed."""

    def __init__(self):
        self.tables, self.images = {}, {}

    def log_table(self, key, dataframe, **kwargs):
        self.tables[key] = dataframe

    def log_image(self, key, images, **kwargs):
        self.images[key] = images


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
    trainer = SimpleNamespace(default_root_dir=str(tmp_path), loggers=[recorder])
    table = pd.DataFrame({"latent": range(250), "label": "a, b"})
    publish_table(trainer, "latents", table)
    pd.testing.assert_frame_equal(pd.read_csv(run_dir(trainer) / "latents.csv"), table)
    assert recorder.tables["tables/latents"]["latent"].tolist() == list(range(MAX_TRACKER_ROWS))
    publish_picture(trainer, "gallery", tmp_path / "gallery.png")
    assert recorder.images == {"gallery": [str(tmp_path / "gallery.png")]}
    assert [path.name for path in tmp_path.iterdir()] == ["latents.csv"]


def test_the_tracker_shows_names_first_and_no_label_as_a_name(tmp_path):
    recorder = Recorder()
    trainer = SimpleNamespace(default_root_dir=str(tmp_path), loggers=[recorder])
    known = pd.DataFrame({"latent": [1, 2], "label": ["star", "ferret"], "named": [True, False]})
    publish_table(trainer, "latents", known)
    publish_table(trainer, "attribution", known.drop(columns="named"))
    publish_illustrated(trainer, "labels", known, lambda row: Image.new("RGB", (1, 1)))
    for key, star in (("latents", "star"), ("attribution", "? (star)"), ("labels", "star")):
        shown = recorder.tables[f"tables/{key}"]
        assert shown.columns[0] == "name"
        assert "label" not in shown
        assert shown["name"].tolist() == [star, "? (ferret)"]
    assert pd.read_csv(tmp_path / "latents.csv")["label"].tolist() == ["star", "ferret"]


def test_an_illustrated_table_is_drawn_only_for_who_can_show_it(tmp_path):
    recorder, drawn = Recorder(), []

    def picture(row):
        drawn.append(row["latent"])
        return Image.new("RGB", (4, 2), "red")

    table = pd.DataFrame({"latent": range(250), "label": "x"})
    trainer = SimpleNamespace(default_root_dir=str(tmp_path), loggers=[RunCSVLogger(str(tmp_path))])
    publish_illustrated(trainer, "labels", table, picture)
    assert not drawn
    trainer.loggers.append(recorder)
    publish_illustrated(trainer, "labels", table, picture)
    shown = recorder.tables["tables/labels"]
    assert drawn == shown["latent"].tolist() == list(range(MAX_TRACKER_ROWS))
    assert {(image.image.size, image.format) for image in shown["images"]} == {((4, 2), "png")}
    assert not list(tmp_path.iterdir())


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
    trainer = SimpleNamespace(default_root_dir=str(tmp_path), loggers=[second], global_step=8)
    publish_picture(trainer, "pictures/gallery", tmp_path / "gallery.png")
    second.finalize("success")
    events = scalars(tmp_path)
    curve = [(event.step, event.value) for event in events.Scalars("val/fvu")]
    assert curve == [(step, 1.0 if step < 4 else 2.0) for step in range(8)]
    (picture,) = events.Images("pictures/gallery")
    assert (picture.step, picture.width, picture.height) == (8, 6, 4)
    assert "_target_" not in (tmp_path / "tensorboard" / "hparams.yaml").read_text()


def test_without_tensorboard_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_sae.tracking.tensorboard_logger.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install -e "\.\[tensorboard\]"'):
        RunTensorBoardLogger(str(tmp_path))
