"""Files that are written all or nothing, by any number of writers, on disks that may be full."""

import multiprocessing
import os
import subprocess
import sys

import pytest

from pyfront._utils.files import atomic_write, new_folder


def _write(path, text, rounds):
    os.getpid = lambda: 1  # as in two containers
    for _ in range(rounds):
        with atomic_write(path) as part:
            part.write_text(text)


def test_two_writers_with_one_process_number_do_not_meet(tmp_path):
    path, texts = tmp_path / "file", ["a" * 100_000, "b" * 10]
    context = multiprocessing.get_context("spawn")
    path.write_text(texts[0])
    writers = [context.Process(target=_write, args=[path, text, 300]) for text in texts]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_text() in texts
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert os.listdir(tmp_path) == ["file"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), atomic_write(path) as part:
            part.write_text("new")
            raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


LIMITED = """
import resource, sys
from pyfront._utils.files import atomic_write
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with atomic_write(sys.argv[1]) as part:
    part.write_bytes(bytes(10_000))
"""


def test_a_write_that_does_not_fit_names_the_file(tmp_path):
    """As on a full disk: the error of the write itself names none."""
    pytest.importorskip("resource")
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "big")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].endswith(f"File too large: '{tmp_path / 'big'}'")
    assert os.listdir(tmp_path) == []


def test_a_place_that_is_missing_is_named_by_the_name_that_was_given(tmp_path):
    path = tmp_path / "no" / "file"
    with pytest.raises(FileNotFoundError) as caught, atomic_write(path) as part:
        part.write_text("x")
    assert caught.value.filename == str(path)


def test_new_folders_that_stay_empty_are_removed_after_an_error(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "a" / "b" / "c"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["a"] and os.listdir(tmp_path / "a") == []
    with pytest.raises(ValueError), new_folder(tmp_path / "a" / "b" / "c") as folder:
        (folder / "file").touch()
        raise ValueError
    assert (tmp_path / "a" / "b" / "c" / "file").exists()
    with new_folder(tmp_path / "a"):
        pass
    assert (tmp_path / "a").exists()
