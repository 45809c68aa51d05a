"""What a run folder remembers, and checkpoints that are whole."""

import json
import os
from contextlib import suppress
from types import SimpleNamespace

import pytest
import torch

from callbacks import run_record
from callbacks.last_checkpoint import LastCheckpoint
from callbacks.run_record import RunRecord
from lightning_sae.training.checkpoint_io import AtomicCheckpointIO

CONFIG = {"task": "fit", "resume": True, "ckpt_path": None, "run_dir": "here", "sae": {"k": 4}}
IMAGES = {"train.files": "a1", "val.files": "b2"}


class Data:
    """Images that are known by name alone."""

    def __init__(self, **images):
        self.images = {**IMAGES, **{f"{split}.files": known for split, known in images.items()}}

    def data_identity(self):
        return self.images


@pytest.fixture(autouse=True)
def settings_that_fit(monkeypatch):
    monkeypatch.setattr(run_record, "check_settings", lambda *all_of_it: None)


def held(record, data=None, first=True):
    return record.held(SimpleNamespace(is_global_zero=first, callbacks=[]), None, data or Data())


def begun(folder, data=None, **changes):
    """A run that was killed, and what it started from."""
    record = RunRecord(str(folder))
    start = record.begin({**CONFIG, **changes})
    with suppress(KeyboardInterrupt), held(record, data):
        raise KeyboardInterrupt
    return record, start


def last(folder):
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    return str(folder / "checkpoints" / "last.ckpt")


def finish(folder, metrics):
    record = RunRecord(str(folder))
    record.begin(CONFIG)
    with held(record):
        record.metrics = metrics


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_command_goes_on(tmp_path):
    assert begun(tmp_path)[1] is None
    assert begun(tmp_path)[1] is None  # killed before the first checkpoint
    path = last(tmp_path)
    record, start = begun(tmp_path, run_dir="moved", optimized_metric="val/fvu")
    assert start == path
    assert not record.finished


def test_a_checkpoint_of_an_unknown_run_is_left_alone(tmp_path):
    last(tmp_path)
    assert begun(tmp_path)[1] is None


def test_other_settings_are_refused_by_name_and_nothing_is_written(tmp_path):
    begun(tmp_path)
    last(tmp_path)
    before = files(tmp_path)
    with pytest.raises(
        ValueError,
        match=r"a run with other settings: sae.k 4 -> 8, sae.seed None -> 1\. .*resume=false",
    ):
        begun(tmp_path, sae={"k": 8, "seed": 1})
    assert files(tmp_path) == before


def test_other_settings_than_those_of_a_finished_run_are_refused(tmp_path):
    finish(tmp_path, {"val/fvu": 0.5})
    with pytest.raises(ValueError, match=r"holds a finished run with other settings: sae\.k 4 -> 8"):
        begun(tmp_path, sae={"k": 8})


def test_other_images_are_refused_by_name(tmp_path):
    begun(tmp_path)
    last(tmp_path)
    before = files(tmp_path)
    with pytest.raises(ValueError, match=r"on other data, these changed: val\.files b2 -> c3"):
        begun(tmp_path, Data(val="c3"))
    assert files(tmp_path) == before
    assert begun(tmp_path)[1] is not None


def test_a_finished_run_on_other_data_is_not_this_run(tmp_path):
    finish(tmp_path, {"val/fvu": 0.5})
    record = RunRecord(str(tmp_path))
    record.begin(CONFIG)
    record.check_data(IMAGES)
    with pytest.raises(ValueError, match=r"on other data, these changed: val\.files b2 -> c3"):
        record.check_data(Data(val="c3").data_identity())


def test_a_folder_without_a_checkpoint_is_started_anew(tmp_path):
    begun(tmp_path)
    record, start = begun(tmp_path, Data(train="c3"), sae={"k": 8})
    assert start is None
    found = json.loads(record.path.read_text())
    assert found["config"]["sae"] == {"k": 8}
    assert found["data"]["train.files"] == "c3"


def test_looking_at_a_folder_writes_nothing(tmp_path):
    RunRecord(str(tmp_path / "run")).begin(CONFIG)
    assert not (tmp_path / "run").exists()


def test_a_second_training_in_one_folder_is_refused(tmp_path):
    record, second = (RunRecord(str(tmp_path)) for _ in range(2))
    record.begin(CONFIG)
    with held(record):
        second.begin(CONFIG)
        with (
            pytest.raises(ValueError, match=rf"is in use by process {os.getpid()} on .*hydra\.run\.dir"),
            held(second),
        ):
            pass
        other = RunRecord(str(tmp_path))
        other.begin(CONFIG)
        with held(other, first=False):  # another rank of the same training
            pass
        assert json.loads(record.path.read_text())["metrics"] is None
    second.begin(CONFIG)
    assert second.finished
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_only_what_came_to_its_end_is_finished(tmp_path):
    record, _ = begun(tmp_path)
    assert json.loads(record.path.read_text())["metrics"] is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"metrics": nul', "line 1: no JSON: "),
        ("{}", "lacks config, metrics"),
        ("", "ends too"),
        ('{"metrics": null, "config": {}}', "is of an older version.*: data must be an object"),
        ('{"metrics": {}, "config": 5, "data": null}', "config, data must be an object"),
        ('{"metrics": 5, "config": {}, "data": {}}', "metrics must be an object"),
    ],
)
def test_a_damaged_record_is_named(tmp_path, content, said):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=rf"run\.json,? .*{said}|run\.json {said}"):
        begun(tmp_path)


def test_starting_anew_forgets_the_run_before(tmp_path):
    finish(tmp_path, {"val/fvu": 0.5})
    last(tmp_path)
    record, start = begun(tmp_path, resume=False, sae={"k": 8})
    assert start is None
    assert not record.finished
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()
    assert json.loads((tmp_path / "run.json").read_text())["config"]["sae"] == {"k": 8}


def test_a_given_checkpoint_is_looked_at_and_kept(tmp_path, monkeypatch):
    looked_at = []
    monkeypatch.setattr(run_record, "check_checkpoint", lambda path, *others: looked_at.append(path))
    finish(tmp_path, {"val/fvu": 0.5})
    path = last(tmp_path)
    record, start = begun(tmp_path, ckpt_path=path, sae={"k": 8})
    assert (start, record.finished, looked_at) == (path, False, [path])
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_a_validation_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(run_record, "check_checkpoint", lambda *all_of_it: None)
    finish(tmp_path, {"val/fvu": 0.5})
    before = files(tmp_path)
    record, start = begun(tmp_path, task="validate", ckpt_path="a.ckpt")
    assert (start, record.finished) == ("a.ckpt", False)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("names", "values"),
    [("val/fvu", 0.5), (["val/fvu", "val/l0"], (0.5, 16.0)), (["val/l0"], (16.0,)), (None, None)],
)
def test_a_finished_run_answers_without_training(tmp_path, names, values):
    finish(tmp_path, {"val/fvu": 0.5, "val/l0": 16.0})
    record = RunRecord(str(tmp_path), names)
    record.begin(CONFIG)
    assert record.finished
    assert record.objective == values


def test_a_misspelt_metric_names_what_is_close(tmp_path):
    finish(tmp_path, {"val/fvu": 0.5, "alignment/named": 16.0})
    record = RunRecord(str(tmp_path), "alignment/name")
    record.begin(CONFIG)
    with pytest.raises(ValueError, match="did you mean alignment/named"):
        _ = record.objective


def test_a_broken_off_write_leaves_the_former_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"global_step": 1}, path)

    def killed(checkpoint, file):
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            AtomicCheckpointIO().save_checkpoint({"global_step": 2}, path)
    assert torch.load(path, weights_only=True) == {"global_step": 1}
    AtomicCheckpointIO().save_checkpoint({"global_step": 3}, path)
    assert torch.load(path, weights_only=True) == {"global_step": 3}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_minutes_are_not_negative(tmp_path):
    with pytest.raises(ValueError, match="at least 0, or null"):
        LastCheckpoint(str(tmp_path), minutes=-1)
