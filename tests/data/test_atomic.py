"""What is said where a file cannot be written depends on what it is for."""

import os

import pytest

from lightning_sae.data.atomic import IN_A_STORE, write_atomic


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
