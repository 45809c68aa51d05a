"""Full disks, by /dev/full, on which no write fits, and by what torch says on one."""

import errno
import os
from pathlib import Path

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from lightning_sae.classifiers.linear import Probe
from lightning_sae.classifiers.saved_probe import save_probe
from lightning_sae.data.store.space import IN_A_STORE
from lightning_sae.errors import one_line_errors
from lightning_sae.files import NoRoomError, replacing, room_for, write_atomic
from lightning_sae.report.figures import save_figure
from lightning_sae.sae import TopK, save_sae
from lightning_sae.sae.exchange import export_sae
from lightning_sae.tracking.csv_logger import RunCSVLogger
from lightning_sae.training.checkpoint_io import AtomicCheckpointIO


@pytest.fixture
def full(tmp_path, monkeypatch):
    """A folder on a disk that is full: the temporary files in it are the device."""
    from lightning_sae import files

    name = files.Path.with_name

    def with_name(path, other):
        found = name(path, other)
        if other.endswith((".part", ".tmp")) and not found.is_symlink():
            found.symlink_to("/dev/full")
        return found

    monkeypatch.setattr(files.Path, "with_name", with_name)
    return tmp_path


def refused(path, needed=""):
    said = rf"^cannot write {needed}to {path}: No space left on device\. Free some .*; free are .* GB in /"
    return pytest.raises(NoRoomError, match=said)


def test_a_picture(full):
    with refused(full / "a.png", r"\S+ GB "):
        save_figure(Figure(), full / "a.png", 100)
    assert not [*full.iterdir()]


def test_a_table(full):
    with refused(full / "a.csv"), replacing(full / "a.csv") as part:
        pd.DataFrame({"a": range(100_000)}).to_csv(part)
    assert not [*full.iterdir()]


def test_a_checkpoint(full):
    with refused(full / "a.ckpt", "0.004 GB "):
        AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(1_000_000)}, full / "a.ckpt")
    assert not [*full.iterdir()]


@pytest.mark.parametrize(
    "words", ["[enforce fail] . unexpected pos 64 vs 0", "PytorchStreamWriter failed writing"]
)
def test_what_torch_says_of_a_full_disk(tmp_path, monkeypatch, words):
    def save(checkpoint, file):
        raise RuntimeError(words)

    monkeypatch.setattr(torch, "save", save)
    with refused(tmp_path / "a.ckpt", "4e-09 GB "):
        AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(1)}, tmp_path / "a.ckpt")
    assert not [*tmp_path.iterdir()]


def test_an_interrupt_in_the_middle_of_a_checkpoint_is_one(tmp_path, monkeypatch):
    """Of which torch makes the same words as of a full disk."""
    path, opened = tmp_path / "last.ckpt", type(tmp_path).open
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)

    class Interrupted:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *reason):
            self.file.close()

        def write(self, content):
            raise KeyboardInterrupt

    monkeypatch.setattr(type(tmp_path), "open", lambda path, mode: Interrupted(opened(path, mode)))
    with pytest.raises(KeyboardInterrupt):
        AtomicCheckpointIO().save_checkpoint({"step": 2}, path)
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert torch.load(path, weights_only=True) == {"step": 1}


def test_another_error_of_torch_is_not_a_full_disk(tmp_path, monkeypatch):
    def save(checkpoint, file):
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(RuntimeError, match="CUDA error"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "a.ckpt")


def test_the_curve(tmp_path):
    logger = RunCSVLogger(str(tmp_path))
    logger.log_metrics({"val/fvu": 0.5}, step=3)
    logger.path.unlink()
    logger.path.symlink_to("/dev/full")
    with refused(logger.path):
        logger.log_metrics({"val/fvu": 0.25}, step=7)


def test_a_saved_autoencoder_and_a_probe(tmp_path, monkeypatch):
    def write_bytes(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    sae, probe = TopK(d_in=4, d_sae=8, k=2), Probe(torch.eye(2), torch.zeros(2))
    save_sae(sae, tmp_path / "sae", {})
    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with refused(tmp_path / "sae", r"\S+ GB "):
        save_sae(sae, tmp_path / "sae", {})
    with refused(tmp_path / "theirs"):
        export_sae(sae, tmp_path / "theirs", "saelens")
    with refused(tmp_path / "probe"):
        save_probe(probe, ["cat", "dog"], {"clip": {}}, tmp_path / "probe")
    assert {path.name for path in tmp_path.iterdir()} == {"sae"}


def test_what_is_written_elsewhere_ends_in_one_message(monkeypatch):
    with (
        pytest.raises(SystemExit, match=r"OSError: .*a disk is full; free are .* GB in"),
        one_line_errors(),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_what_a_killed_writer_left_does_not_pile_up(tmp_path):
    (tmp_path / ".last.ckpt.part").write_bytes(b"half")
    AtomicCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_other_errors_stay(tmp_path):
    with pytest.raises(PermissionError), room_for(tmp_path):
        raise PermissionError(errno.EACCES, "no")


def test_a_full_disk_gives_the_advice_that_fits(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"a\.json: No space left on device\. Free some space and run") as plain:
        write_atomic(tmp_path / "a.json", b"x")
    assert "; free are " in str(plain.value)
    assert "data." not in str(plain.value)
    with pytest.raises(OSError, match=r"data\.store_dir=DIR, or half the size with data\.dtype=float16"):
        write_atomic(tmp_path / "a.json", b"x", IN_A_STORE)
    assert not any(tmp_path.iterdir())
