"""What a run folder remembers, and checkpoints that are whole."""

import json

import pytest
import torch

from callbacks.last_checkpoint import LastCheckpoint
from callbacks.run_record import RunRecord
from lightning_sae.checkpoint_io import AtomicCheckpointIO

CONFIG = {"task": "fit", "resume": True, "ckpt_path": None, "run_dir": "here", "sae": {"k": 4}}


def begun(folder, **changes):
    record = RunRecord(str(folder))
    return record, record.begin({**CONFIG, **changes})


def last(folder):
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    return str(folder / "checkpoints" / "last.ckpt")


def finish(folder, metrics):
    record, _ = begun(folder)
    record.metrics = metrics
    record.on_fit_end(None, None)


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


def test_other_settings_are_refused_by_name(tmp_path):
    begun(tmp_path)
    with pytest.raises(
        ValueError, match=r"other settings: sae.k 4 -> 8, sae.seed None -> 1\. .*resume=false"
    ):
        begun(tmp_path, sae={"k": 8, "seed": 1})


@pytest.mark.parametrize(
    ("content", "said"),
    [('{"metrics": nul', "line 1: no JSON: "), ("{}", "lacks config, metrics"), ("", "ends too")],
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


def test_a_given_checkpoint_is_taken_and_kept(tmp_path):
    finish(tmp_path, {"val/fvu": 0.5})
    path = last(tmp_path)
    record, start = begun(tmp_path, ckpt_path=path, sae={"k": 8})
    assert (start, record.finished) == (path, False)
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_a_validation_changes_nothing(tmp_path):
    finish(tmp_path, {"val/fvu": 0.5})
    before = (tmp_path / "run.json").read_bytes()
    record, start = begun(tmp_path, task="validate", ckpt_path="a.ckpt")
    assert (start, record.finished) == ("a.ckpt", False)
    assert (tmp_path / "run.json").read_bytes() == before


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
