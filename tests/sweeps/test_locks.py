"""Locks: one owner at a time, and whoever has died loses it."""

import json
import multiprocessing
import os
import time

import pytest

from pyfront.sweeps import locks
from pyfront.sweeps.locks import FolderLocks, LockedError


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(locks, "_REFRESH", 0.05)
    monkeypatch.setattr(locks, "_DEAD_AFTER", 2.0)


def of_another_machine(path, token="other"):
    """A lock whose owner cannot be asked whether it is alive."""
    path.with_suffix(".lock").write_text(
        json.dumps({"token": token, "machine": "m", "host": "far", "pid": 7, "since": time.time()})
    )
    (path.parent / f".owner-{token}").touch()


def test_a_lock_has_one_owner_until_it_is_released(tmp_path):
    file = tmp_path / "run.json"
    with FolderLocks(tmp_path) as first, FolderLocks(tmp_path) as second:
        first.acquire(file)
        here = rf"by process {os.getpid()} on .* since 20.*, 0 minutes ago \(.*run.lock\)"
        with pytest.raises(LockedError, match=here):
            second.acquire(file)
        assert first.holds(file) and not second.holds(file)
        second.release(file)
        assert first.holds(file)
        first.release(file)
        second.acquire(file)
        assert second.holds(file) and not first.holds(file)
    assert os.listdir(tmp_path) == []


def _acquire_and_die(folder):
    held = FolderLocks(folder)
    held.__enter__()
    held.acquire(folder / "run.json")
    os._exit(9)


def test_the_lock_of_a_process_that_has_died_here_is_taken_over_at_once(tmp_path, monkeypatch):
    process = multiprocessing.get_context("spawn").Process(target=_acquire_and_die, args=[tmp_path])
    process.start()
    process.join()
    assert process.exitcode == 9 and (tmp_path / "run.lock").exists()
    monkeypatch.setattr(locks, "_DEAD_AFTER", 1e9)  # without waiting for signs of life
    with FolderLocks(tmp_path) as held:
        held.acquire(tmp_path / "run.json")
        assert held.holds(tmp_path / "run.json")
    assert os.listdir(tmp_path) == []


def test_another_machine_is_dead_when_it_shows_no_sign_of_life(tmp_path):
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file in files:
        of_another_machine(file)
    with FolderLocks(tmp_path) as held:
        begin = time.monotonic()
        for file in files:
            held.acquire(file)
        assert time.monotonic() - begin >= 2.0
        assert all(map(held.holds, files))


def test_another_machine_is_alive_while_it_touches_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_machine", iter(("there", "there", "here", "here")).__next__)
    with FolderLocks(tmp_path) as first, FolderLocks(tmp_path) as second:
        monkeypatch.setattr(locks, "_machine", lambda: "there")
        first.acquire(tmp_path / "run.json")
        monkeypatch.setattr(locks, "_machine", lambda: "here")
        with pytest.raises(LockedError, match="is being trained by process"):
            second.acquire(tmp_path / "run.json")


def test_whoever_lost_a_lock_sees_it_and_leaves_the_new_one_alone(tmp_path):
    file = tmp_path / "run.json"
    with FolderLocks(tmp_path) as held:
        held.acquire(file)
        of_another_machine(file)
        assert not held.holds(file)
    assert json.loads((tmp_path / "run.lock").read_text())["token"] == "other"


@pytest.mark.parametrize("content", ["", "[]", "{", '{"pid": "x"}'])
def test_a_damaged_lock_is_taken_over_after_a_while(tmp_path, content):
    (tmp_path / "run.lock").write_text(content)
    with FolderLocks(tmp_path) as held:
        held.acquire(tmp_path / "run.json")
        assert held.holds(tmp_path / "run.json")
