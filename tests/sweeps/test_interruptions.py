"""Sweeps that are killed, or have runs that take too long: no process is left, no run is lost."""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sweep_cases

import pyfront
from pyfront import SweepError

# what a user would write: a script with a guard
SCRIPT = """
import functools, sys
import pyfront, sweep_cases
if __name__ == "__main__":
    train = functools.partial(sweep_cases.endless, folder=sys.argv[1])
    pyfront.sweep(
        train,
        [[1, 1], *([float(k), 1] for k in sys.argv[3:])],
        workers=len(sys.argv) - 3,
        folder=sys.argv[2],
        progress=False,
    )
"""


def alive(pid):
    """Whether a process runs; one that has ended but not been waited for does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(state.stdout.strip()) and not state.stdout.strip().startswith("Z")


def wait_for(condition, what):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail(f"{what}: did not happen in two minutes")


def interruptible():
    """In the child: where the tests run in the background, SIGINT is ignored and inherited so."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def running(folder, *runs):
    """A sweep in a process of its own with a worker for each of `runs`, and all their numbers."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    paths = [str(Path(sweep_cases.__file__).parent), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder), str(folder / "kept"), *runs],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=interruptible,
    )
    files = [folder / f"pids-{run}" for run in runs]
    try:
        wait_for(lambda: all(f.exists() for f in files) or process.poll() is not None, "the runs")
        assert process.poll() is None, process.communicate()[0]
        pids = [int(pid) for file in files for pid in file.read_text().split()]
        assert len(set(pids)) == 2 * len(runs) and all(map(alive, pids))
        yield process, pids
    finally:
        process.kill()
        process.communicate()


def gone(pids):
    return not any(map(alive, pids))


@pytest.mark.parametrize(
    ("signal_", "runs"), [(signal.SIGINT, ("2.0", "3.0")), (signal.SIGTERM, ("2.0",))]
)
def test_neither_workers_nor_what_they_have_started_outlive_a_sweep(tmp_path, signal_, runs):
    with running(tmp_path, *runs) as (process, pids):
        process.send_signal(signal_)
        output = process.communicate(timeout=120)[0]
    assert process.returncode == -signal_
    assert output.count("Traceback") == (signal_ == signal.SIGINT)
    wait_for(lambda: gone(pids), "the end of all processes")


def test_a_killed_sweep_leaves_nothing_running_and_goes_on_where_it_was(tmp_path):
    with running(tmp_path, "2.0", "3.0") as (process, pids):
        names = os.listdir(tmp_path / "kept")
        before = sorted(name for name in names if name.endswith(".json"))
        assert len(before) == 2  # what defines the sweep, and the run that has finished
        assert len(names) == 5  # locks on the others, and a sign of life
        process.kill()
        wait_for(lambda: gone(pids), "the end of all processes")
    assert (tmp_path / "calls").read_text() == "1.0\n"
    train = functools.partial(sweep_cases.endless, folder=str(tmp_path))
    front = pyfront.sweep(train, [[1, 1]], workers=2, folder=tmp_path / "kept", progress=False)
    assert (tmp_path / "calls").read_text() == "1.0\n"  # not repeated
    assert front == pyfront.sweep(train, [[1, 1]], workers=0, progress=False)
    with pytest.raises(SweepError) as caught:  # locked by a process that has ended
        pyfront.sweep(
            *(train, [[2, 1], [3, 1]]),
            workers=2,
            time_limit=1.0,
            folder=tmp_path / "kept",
            progress=False,
        )
    assert len(caught.value.failures) == 2
    assert sorted(os.listdir(tmp_path / "kept")) == before


def test_a_run_that_takes_too_long_is_ended_and_the_others_are_kept(tmp_path, monkeypatch):
    def seconds(worker):  # that pass for the run without an end alone
        return 100.0 * (worker.job.run[0] == 2.0 and (tmp_path / "pids-2.0").exists())

    monkeypatch.setattr("pyfront.sweeps.workers._Worker.seconds", property(seconds))
    train = functools.partial(sweep_cases.endless, folder=str(tmp_path))
    with pytest.raises(SweepError) as caught:
        pyfront.sweep(train, [[2, 1], [1, 1]], workers=1, time_limit=3.0, progress=False)
    assert [s.preference for s in caught.value.front] == [(1.0, 1.0)]
    (failure,) = caught.value.failures
    assert failure.preference == (2.0, 1.0)
    assert failure.reason == "the run took longer than time_limit = 3 s and was ended"
    pids = [int(pid) for pid in (tmp_path / "pids-2.0").read_text().split()]
    wait_for(lambda: gone(pids), "the end of the run and of what it has started")
