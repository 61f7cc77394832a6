"""Sweeps in real worker processes: the same bits for any number, and nothing lost."""

import functools
import os
import pickle
import random
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sweep_cases
import torch

import pyfront
from pyfront import SweepError

PREFERENCES = [[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]


@pytest.fixture(scope="module")
def alone():
    """The sweep in this process."""
    return pyfront.sweep(sweep_cases.train, PREFERENCES, workers=0, seed=5, progress=False)


def test_in_this_process_nothing_else_changes(alone):
    threads = torch.get_num_threads()
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        again = pyfront.sweep(sweep_cases.train, PREFERENCES[1:], workers=0, seed=5, progress=False)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert again == alone[1:]  # whatever ran before, and on however many threads
    assert [s.preference for s in alone] == [tuple(r) for r in PREFERENCES]
    assert all(s.metrics["threads"] == 1 for s in alone)
    for name in ("python", "numpy", "seed"):
        assert len({s.metrics[name] for s in alone}) == 3
    other = pyfront.sweep(sweep_cases.train, PREFERENCES, workers=0, seed=6, progress=False)
    assert all(a.train_losses != b.train_losses for a, b in zip(alone, other, strict=True))


def test_the_same_bits_in_two_workers(alone):
    preferences = torch.tensor(PREFERENCES, dtype=torch.float64)
    front = pyfront.sweep(sweep_cases.train, preferences, workers=2, seed=5, progress=False)
    assert front == alone


def test_crashes_in_three_workers_are_reported_and_the_others_kept(caplog):
    """An error, a kill and a segmentation fault; the last run needs a new worker."""
    preferences = [[3, 1], [4, 1], [2, 1], [1, 1], [8, 1], [9, 1]]
    with pytest.raises(SweepError) as caught:
        pyfront.sweep(sweep_cases.faulty, preferences, workers=3, progress=False)
    error = caught.value
    others = preferences[3:]
    assert error.front == pyfront.sweep(sweep_cases.train, others, workers=0, progress=False)
    reasons = {failure.preference: failure.reason for failure in error.failures}
    assert list(reasons) == [(3.0, 1.0), (4.0, 1.0), (2.0, 1.0)]
    assert reasons[3.0, 1.0] == "the worker process ended with signal 9 (Killed)"
    assert "sweep_cases.py" in reasons[4.0, 1.0] and "in faulty" in reasons[4.0, 1.0]
    assert "the worker process ended with signal 11" in reasons[4.0, 1.0]
    assert 'raise ValueError("two is not to be had")' in reasons[2.0, 1.0]
    assert "workers.py" not in reasons[2.0, 1.0]  # the user's frames alone
    assert str(error).startswith("3 of 6 runs failed")
    for preference, reason in reasons.items():
        assert f"{preference}:\n{reason.rstrip()}" in str(error)
    assert "the run of (2.0, 1.0) failed: ValueError: two is not to be had" in caplog.messages
    copy = pickle.loads(pickle.dumps(error))
    assert copy.front == error.front and str(copy) == str(error)


def test_failures_in_this_process_stop_nothing_and_keep_their_exception():
    preferences = [[1, 1], [2, 1], [5, 1], [6, 1], [7, 1], [8, 1]]
    with pytest.raises(SweepError) as caught:
        pyfront.sweep(sweep_cases.faulty, preferences, workers=0, progress=False)
    error = caught.value
    assert [s.preference for s in error.front] == [(1.0, 1.0), (8.0, 1.0)]
    two, five, six, seven = error.failures
    assert error.__cause__ is two.error and isinstance(two.error, ValueError)
    assert five.reason.endswith("SystemExit: five left\n") and five.preference == (5.0, 1.0)
    assert "train returned list: expected a pyfront.Solution" in six.reason
    assert "3 tasks" in seven.reason


def test_a_failed_run_is_tried_again_and_the_others_are_not(tmp_path):
    def sweep(fail=0.0, preferences=((1, 1), (2, 1), (3, 1))):
        def train(preference):
            return sweep_cases.counted(preference, folder=tmp_path, fail=fail)

        return pyfront.sweep(
            train, preferences, workers=0, folder=tmp_path / "kept", progress=False
        )

    with pytest.raises(SweepError, match="not yet"):
        sweep(fail=2.0)
    calls = (tmp_path / "calls").read_text().split()
    front = sweep()
    assert (tmp_path / "calls").read_text().split() == [*calls, "2.0"]
    assert sweep() == front
    wider = sweep(preferences=((4, 1), (3, 1), (1, 1)))  # preferences may come and go
    assert (tmp_path / "calls").read_text().split() == [*calls, "2.0", "4.0"]
    assert list(wider[1:]) == [front[2], front[0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.2}, "train.lr was 0.1, is 0.2"),
        ({"seed": 1}, "seed was 0, is 1"),
        ({"train": sweep_cases.train}, 'train.function was "counted", is absent'),
    ],
)
def test_a_changed_sweep_is_not_mixed_up(tmp_path, change, message):
    def sweep(seed=0, train=None, lr=0.1):
        train = train or functools.partial(sweep_cases.counted, folder=tmp_path, lr=lr)
        kept = tmp_path / "kept"
        return pyfront.sweep(train, [[1, 1]], workers=0, seed=seed, folder=kept, progress=False)

    sweep()
    with pytest.raises(ValueError, match="holds another sweep") as caught:
        sweep(**change)
    assert message in str(caught.value)
    assert (tmp_path / "calls").read_text() == "1.0\n"


def test_what_no_worker_can_load_is_an_error_that_says_what_to_do(monkeypatch):
    with pytest.raises(TypeError, match=r"train: cannot be sent .* or use workers=0"):
        pyfront.sweep(lambda preference: None, PREFERENCES, workers=1, progress=False)

    def train(preference):
        raise AssertionError("never called")

    # as a function of a notebook: it can be named here and not found there
    train.__qualname__ = train.__name__ = "only_here"
    train.__module__ = "sweep_cases"
    monkeypatch.setattr(sweep_cases, "only_here", train, raising=False)
    with pytest.raises(SweepError, match="only_here") as caught:
        pyfront.sweep(train, PREFERENCES, workers=1, progress=False)
    assert "not in a notebook" in str(caught.value)
    assert str(caught.value).count("only_here") == 1  # one reason for all three
    assert len(caught.value.failures) == 3


def test_a_script_without_a_guard_ends_with_an_error_that_says_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import pyfront\n"
        "def train(preference): pass\n"
        "pyfront.sweep(train, [[1, 1], [2, 1]], workers=1, progress=False)\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 1
    assert "if __name__ == '__main__'" in done.stderr.splitlines()[-2]
    assert done.stderr.splitlines()[-1] == "the worker process ended with exit code 1"


def test_runs_can_be_more_than_preferences():
    runs = [("EPO", (0.5, 0.5)), ("EPO", (0.4, 0.6)), ("MGDA", None)]
    front = pyfront.sweep(sweep_cases.named, runs, workers=0, progress=False)
    assert [(s.method, s.preference) for s in front] == runs


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"workers": -1}, ValueError, "workers = -1"),
        ({"workers": 1.5}, TypeError, "workers: expected an integer"),
        ({"seed": -1}, ValueError, "seed = -1"),
        ({"seed": "a"}, TypeError, "seed: expected an integer"),
        ({"steps": 0}, ValueError, "steps = 0"),
        ({"time_limit": 0.0}, ValueError, "time_limit = 0.0: must be finite and > 0"),
        ({"time_limit": 1.0, "workers": 0}, ValueError, "time_limit: only local worker processes"),
    ],
)
def test_bad_arguments_are_named_before_anything_runs(tmp_path, arguments, error, message):
    def train(preference):
        pytest.fail("it began to train")

    with pytest.raises(error, match=message):
        pyfront.sweep(train, PREFERENCES, folder=tmp_path / "new", **arguments)
    assert not list(tmp_path.iterdir())


class Bar:
    """Stands for tqdm."""

    def __init__(self, total, unit, **_):
        self.total, self.unit, self.n, self.closed = total, unit, 0, False
        Bar.last = self

    def update(self, count):
        assert count > 0
        self.n += count

    def close(self):
        self.closed = True


@pytest.mark.parametrize(("workers", "steps"), [(0, 40), (0, 30), (0, 7), (1, 40)])
def test_the_bar_counts_the_steps_of_all_runs(monkeypatch, alone, workers, steps):
    """Also where a run makes fewer steps than was said, or more. One worker gives the same bits."""
    pytest.importorskip("tqdm")
    monkeypatch.setattr("tqdm.tqdm", Bar)
    front = pyfront.sweep(
        sweep_cases.stepping, PREFERENCES, steps=steps, workers=workers, seed=5, progress=True
    )
    assert front == alone
    assert (Bar.last.total, Bar.last.n, Bar.last.unit) == (3 * steps, 3 * steps, "step")
    assert Bar.last.closed


def test_without_tqdm_there_is_no_bar_unless_one_is_wanted(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    sweep = functools.partial(pyfront.sweep, sweep_cases.named, [("a", (0.5, 0.5))], workers=0)
    assert len(sweep()) == 1
    with pytest.raises(ImportError, match=r'pip install "pyfront\[sweep\]"'):
        sweep(progress=True)


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit of file sizes here")
def test_a_disk_that_cannot_take_a_result_ends_the_sweep_with_its_name(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        # torch 2.6 writes a file of its own when it imports this
        "import resource, pyfront, sweep_cases, torch.distributed.nn\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))\n"
        "pyfront.sweep(sweep_cases.train, [[1, 1]], workers=0, folder='kept', progress=False)\n"
    )
    paths = [str(Path(sweep_cases.__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("OSError") and "too large: '" in last
    assert "/kept/" in last and last.endswith(".json'")
    assert os.listdir(tmp_path / "kept") == ["sweep.json"]
