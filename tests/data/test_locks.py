"""Real processes, forked from this one: they hold, die, and wait."""

import multiprocessing
import os
import signal
import time

import pytest

from lightning_sae.data import claims as locks
from lightning_sae.data.claims import Claims, acquired, alone, claimed, lease

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def elsewhere():
    """Runs functions in other processes until they report that they are there, and kills them at the end."""
    processes = []

    def start(function, *arguments):
        there = FORK.Event()
        process = FORK.Process(target=function, args=(there, *arguments))
        process.start()
        processes.append(process)
        assert there.wait(60)
        return process

    yield start
    for process in processes:
        process.kill()
        process.join()


def hold(there, path):
    lock = lease(path)
    assert acquired(lock)
    there.set()
    time.sleep(600)


def claim(there, folder, shard, shard_images):
    claims = Claims(folder, shard_images)
    assert claims.take(shard)
    there.set()
    time.sleep(600)


def look(lock, seconds):
    """Tries again and again; whether it was ever acquired."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if acquired(lock):
            return True
        time.sleep(0.02)
    return False


def test_a_lock_whose_owner_was_killed_before_it_could_sign_is_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "LEASE_SECONDS", 0.2)
    path = tmp_path / "a.lock"
    path.touch()
    lock = lease(path)
    assert not acquired(lock)
    assert path.read_bytes() == b""  # looked at once: somebody may just be writing
    assert look(lock, 60)
    assert locks.owner(lock).startswith(f"process {os.getpid()} on ")
    lock.release()
    assert not [*tmp_path.iterdir()]


def test_an_empty_lock_that_is_older_than_a_lease_is_taken_over_at_once(tmp_path):
    path = tmp_path / "a.lock"
    path.touch()
    old = time.time() - locks.LEASE_SECONDS - 1
    os.utime(path, (old, old))
    lock = lease(path)
    assert not acquired(lock)
    assert look(lock, 10)
    lock.release()


def test_a_name_that_its_owner_writes_meanwhile_stays(tmp_path, monkeypatch):
    path, look = tmp_path / "a.lock", os.fstat
    path.touch()
    os.utime(path, (0, 0))

    def late(file):
        found = look(file)
        path.write_text("owner\n")
        return found

    monkeypatch.setattr(os, "fstat", late)
    lease(path).mark_unsigned()
    assert path.read_text() == "owner\nunsigned"


def test_a_claim_on_a_full_disk_is_named(tmp_path, monkeypatch):
    def acquire(lock, **how):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(locks.Lease, "acquire", acquire)
    with pytest.raises(OSError, match=r"^cannot write to .*3\.lock: No space left on device.*; free are "):
        Claims(tmp_path, 8).take(3)


def test_a_second_claim_is_refused_by_name(tmp_path, elsewhere):
    owner = elsewhere(hold, tmp_path / "a.lock")
    with pytest.raises(ValueError, match=rf"^RUN is in use by process {owner.pid} on .*: wait$"):
        claimed(tmp_path / "a.lock", "RUN", "wait").__enter__()
    owner.kill()
    owner.join()
    with claimed(tmp_path / "a.lock", "RUN", "wait"):
        pass


def test_an_owner_that_died_on_another_machine_does_not_stand_in_the_way(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(time, "sleep", lambda seconds: now.append(now[-1] + 10.0))
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[-1])
    lines = ["filelock/2", "pid=1", "host=elsewhere", "mode=lease", "token=0"]
    text = "".join(f"{line}\n" for line in [*lines, f"duration={locks.LEASE_SECONDS!r}"])
    (tmp_path / "a.lock").write_text(text)
    with claimed(tmp_path / "a.lock", "RUN", "wait"):
        pass
    assert "RUN: waiting for process 1 on elsewhere" in capsys.readouterr().out


def test_an_owner_who_signs_late_keeps_it(tmp_path, monkeypatch, elsewhere):
    elsewhere(hold, tmp_path / "b.lock")
    path = tmp_path / "a.lock"
    path.touch()
    lock = lease(path)
    monkeypatch.setattr(locks, "LEASE_SECONDS", 0.0)
    assert not acquired(lock)
    assert not acquired(lock)
    assert path.read_bytes() == b"unsigned"
    with path.open("r+b") as file:  # as filelock writes it, into the file that it has open
        file.write((tmp_path / "b.lock").read_bytes())
    monkeypatch.undo()
    assert not look(lock, 3)
    assert "unsigned" not in path.read_text()


def test_a_claim_that_was_never_signed_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "LEASE_SECONDS", 0.2)
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.05)
    claims = Claims(tmp_path, 8)
    (tmp_path / "8").mkdir()
    (tmp_path / "8" / "000003.lock").touch()
    assert not claims.take(3)
    claims.wait("capture")
    assert claims.take(3)


def test_a_lock_of_a_killed_process_is_taken_over(tmp_path, elsewhere):
    owner = elsewhere(hold, tmp_path / "a.lock")
    lock = lease(tmp_path / "a.lock")
    assert not acquired(lock)
    assert locks.owner(lock).startswith(f"process {owner.pid} on ")
    os.kill(owner.pid, signal.SIGKILL)
    owner.join()
    assert acquired(lock)
    lock.release()
    assert not [*tmp_path.iterdir()]


def test_waiting_says_for_whom(tmp_path, elsewhere, capsys, monkeypatch):
    owner = elsewhere(hold, tmp_path / "a.lock")

    def sleep(seconds):
        owner.kill()
        owner.join()

    monkeypatch.setattr(time, "sleep", sleep)
    with alone(tmp_path / "a.lock", "manifest of STORE"):
        pass
    assert capsys.readouterr().out.startswith(f"manifest of STORE: waiting for process {owner.pid} on ")


def test_a_silent_owner_on_another_machine_loses_its_lock(tmp_path, monkeypatch):
    path, now = tmp_path / "a.lock", [0.0]
    lines = [
        "filelock/2",
        "pid=1",
        "host=elsewhere",
        "mode=lease",
        "token=0",
        f"duration={locks.LEASE_SECONDS!r}",
    ]
    path.write_text("".join(f"{line}\n" for line in lines))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    lock = lease(path)
    assert not acquired(lock)
    assert locks.owner(lock) == "process 1 on elsewhere"
    now[0] += 0.9 * locks.LEASE_SECONDS
    assert not acquired(lock)
    now[0] += 0.2 * locks.LEASE_SECONDS
    assert acquired(lock)


def test_a_claim_is_exclusive_and_free_after_its_owner(tmp_path, elsewhere):
    owner = elsewhere(claim, tmp_path, 3, 8)
    claims = Claims(tmp_path, 8)
    assert not claims.take(3)
    assert claims.take(4)
    owner.kill()
    owner.join()
    assert claims.take(3)
    claims.release_all()
    assert not [*tmp_path.rglob("*.lock")]


def test_larger_shards_go_first(tmp_path, elsewhere, monkeypatch):
    owner = elsewhere(claim, tmp_path, 0, 8)
    assert not Claims(tmp_path, 4).take(5)
    large = Claims(tmp_path, 16)
    monkeypatch.setattr(locks.time, "sleep", lambda seconds: (owner.kill(), owner.join()))
    assert large.take(0)  # once the smaller one is given back
    assert not owner.is_alive()
    large.release_all()


def test_the_dead_leave_nothing_behind(tmp_path, elsewhere):
    owner = elsewhere(claim, tmp_path, 7, 8)
    owner.kill()
    owner.join()
    assert [*tmp_path.rglob("*.lock")]
    Claims(tmp_path, 8).tidy()
    assert not [*tmp_path.rglob("*.lock")]
