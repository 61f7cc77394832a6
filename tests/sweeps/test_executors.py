"""Sweeps on engines that users already run: the bits of local workers, errors, refusals.

loky, dask and submitit are tried where they are installed; none is a dependency.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import re
import subprocess
import sys
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
import sweep_cases

import pyfront
from pyfront import SweepError

PREFERENCES = [[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]


def spawned(size=2):
    return ProcessPoolExecutor(size, mp_context=multiprocessing.get_context("spawn"))


def installed(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        pytest.skip(f"{name} is not installed")


@contextlib.contextmanager
def dask_executor(_):
    distributed = installed("distributed")
    cluster = distributed.LocalCluster(1, threads_per_worker=2, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        yield client.get_executor()


@contextlib.contextmanager
def submitit_executor(folder):
    executor = installed("submitit").AutoExecutor(folder=folder, cluster="local")
    executor.update_parameters(timeout_min=5)
    yield executor


ENGINES = {
    "processes": lambda _: spawned(),
    "one thread": lambda _: ThreadPoolExecutor(1),
    "loky": lambda _: installed("loky").ProcessPoolExecutor(2),
    "dask": dask_executor,
    "submitit": submitit_executor,
}


@pytest.fixture(scope="module")
def alone():
    """The sweep in this process."""
    return pyfront.sweep(sweep_cases.train, PREFERENCES, workers=0, seed=5, progress=False)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_bits_as_local_workers(tmp_path, monkeypatch, alone, engine):
    monkeypatch.setenv("PYTHONPATH", str(Path(sweep_cases.__file__).parent))  # for new processes
    kept = tmp_path / "kept"
    with ENGINES[engine](tmp_path / "jobs") as executor:
        front = pyfront.sweep(
            *(sweep_cases.train, PREFERENCES),
            executor=executor,
            seed=5,
            folder=kept,
            progress=False,
        )
    assert front == alone
    assert sorted(p.suffix for p in kept.iterdir()) == [".json"] * 4
    again = pyfront.sweep(sweep_cases.train, PREFERENCES, workers=0, seed=5, folder=kept)
    assert again == alone


def test_steps_are_passed_to_an_executor(alone):
    with spawned(1) as executor:
        front = pyfront.sweep(
            *(sweep_cases.stepping, PREFERENCES),
            executor=executor,
            steps=30,
            seed=5,
            progress=False,
        )
    assert front == alone


def test_errors_of_runs_stop_no_others():
    with spawned() as executor, pytest.raises(SweepError) as caught:
        pyfront.sweep(sweep_cases.faulty, [[2, 1], [5, 1], [1, 1]], executor=executor)
    two, five = caught.value.failures
    assert 'raise ValueError("two is not to be had")' in two.reason
    assert "training.py" not in two.reason and five.reason.endswith("SystemExit: five left\n")
    assert [s.preference for s in caught.value.front] == [(1.0, 1.0)]


def test_a_pool_that_breaks_names_itself_and_finished_runs_are_kept(tmp_path):
    with spawned(1) as executor, pytest.raises(SweepError) as caught:
        pyfront.sweep(
            *(sweep_cases.faulty, [[1, 1], [3, 1], [8, 1]]),
            executor=executor,
            folder=tmp_path,
            progress=False,
        )
    assert [s.preference for s in caught.value.front] == [(1.0, 1.0)]
    for failure in caught.value.failures:
        assert failure.reason.startswith("the executor returned no result of this run\nBrokenPro")
    front = pyfront.sweep(
        *(sweep_cases.faulty, [[1, 1], [8, 1]]), folder=tmp_path, workers=0, progress=False
    )
    assert [s.preference for s in front] == [(1.0, 1.0), (8.0, 1.0)]


def test_a_process_of_a_thread_that_crashes_is_one_failed_run():
    with ThreadPoolExecutor(1) as executor, pytest.raises(SweepError) as caught:
        pyfront.sweep(sweep_cases.faulty, [[3, 1], [1, 1]], executor=executor, progress=False)
    (failure,) = caught.value.failures
    assert failure.reason == "the process of this run ended with signal 9 (Killed)"
    assert [s.preference for s in caught.value.front] == [(1.0, 1.0)]


class JobLike:
    """As a job of submitit: no Future, and all that can be asked is whether it is done."""

    def __init__(self, call):
        self.call, self.asked, self.cancelled = call, 0, False

    def done(self):
        self.asked += 1
        return self.asked > 1

    def result(self):
        return self.call()

    def cancel(self):
        self.cancelled = True


class Batched:
    """As an executor of submitit, whose jobs begin when the batch is complete."""

    def __init__(self):
        self.jobs, self.batches = [], 0

    @contextlib.contextmanager
    def batch(self):
        yield
        self.batches += 1

    def submit(self, function, *arguments):
        assert self.batches == 0
        self.jobs.append(JobLike(lambda: function(*arguments)))
        return self.jobs[-1]


def test_what_only_looks_like_an_executor_is_asked_until_it_is_done(monkeypatch, alone):
    monkeypatch.setattr("pyfront.sweeps.executors._POLL", 0.01)
    executor = Batched()
    front = pyfront.sweep(
        *(sweep_cases.train, PREFERENCES), executor=executor, seed=5, progress=False
    )
    assert front == alone
    assert executor.batches == 1 and not any(job.cancelled for job in executor.jobs)


class Interrupted(Batched):
    """Ctrl-C while the first job is waited for."""

    def submit(self, function, *arguments):
        job = super().submit(function, *arguments)

        def interrupt():
            raise KeyboardInterrupt

        job.call = interrupt
        return job


def test_an_interrupt_cancels_what_has_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr("pyfront.sweeps.executors._POLL", 0.01)
    executor = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        pyfront.sweep(sweep_cases.train, PREFERENCES, executor=executor, folder=tmp_path)
    assert [job.cancelled for job in executor.jobs] == [False, True, True]
    assert os.listdir(tmp_path) == ["sweep.json"]  # and no locks


def test_cancelled_futures_are_failures():
    class Cancels:
        def submit(self, function, *arguments):
            future = Future()
            future.cancel()
            return future

    with pytest.raises(SweepError, match="CancelledError"):
        pyfront.sweep(sweep_cases.train, PREFERENCES, executor=Cancels(), progress=False)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"executor": 3}, TypeError, "executor: expected a concurrent.futures.Executor, got 3"),
        ({"executor": spawned, "workers": 2}, ValueError, "workers and executor: give one"),
        ({"executor": spawned, "time_limit": 2.0}, ValueError, "time_limit: only local worker"),
        ({"executor": lambda: ThreadPoolExecutor(2)}, ValueError, "executor: a pool of several th"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    made = arguments["executor"]() if callable(arguments["executor"]) else arguments["executor"]
    with pytest.raises(error, match=message):
        pyfront.sweep(sweep_cases.train, PREFERENCES, **arguments | {"executor": made})


def test_a_function_that_processes_cannot_load_is_refused_before_anything_runs():
    with spawned() as executor, pytest.raises(TypeError, match="train: cannot be sent"):
        pyfront.sweep(lambda preference: None, PREFERENCES, executor=executor)


PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
#: The script of the page for job arrays, and the module that it imports.
SLICE = next(
    block
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    if "SLURM_ARRAY_TASK_ID" in block
).replace("/shared/runs", "kept")
TRAINING = """
import functools, sweep_cases
train = functools.partial(sweep_cases.counted, folder=".")
preferences = [[float(k), 1.0] for k in range(1, 8)]
"""


def run_script(folder, text, **environment):
    script = folder / "script.py"
    for path, content in ((script, text), (folder / "training.py", TRAINING)):
        if not path.exists() or path.read_text() != content:  # a process may be reading it
            path.write_text(content)
    paths = [str(Path(sweep_cases.__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"} | environment
    return subprocess.Popen([sys.executable, script], cwd=folder, env=os.environ | environment)


def test_slices_of_a_job_array_fill_one_folder(tmp_path):
    environments = [
        {"SLURM_ARRAY_TASK_ID": str(k), "SLURM_ARRAY_TASK_COUNT": "3"} for k in range(3)
    ]
    slices = [run_script(tmp_path, SLICE, **environment) for environment in environments]
    assert [process.wait(timeout=300) for process in slices] == [0, 0, 0]
    names = sorted(p.name for p in (tmp_path / "kept").iterdir())
    assert len(names) == 8 and names[-1] == "sweep.json"
    assert all(name.endswith(".json") for name in names)
    calls = sorted((tmp_path / "calls").read_text().split())
    assert calls == [f"{k}.0" for k in range(1, 8)]


ALL = SLICE.replace("preferences[index::count]", "preferences")


def test_two_sweeps_of_one_folder_do_not_train_twice(tmp_path):
    """The second one is refused, or finds what the first one has finished."""
    environment = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "1"}
    both = [run_script(tmp_path, ALL, **environment) for _ in range(2)]
    codes = sorted(process.wait(timeout=300) for process in both)
    assert codes in ([0, 0], [0, 1])
    assert sorted((tmp_path / "calls").read_text().split()) == [f"{k}.0" for k in range(1, 8)]
    assert not [p for p in (tmp_path / "kept").iterdir() if p.suffix != ".json"]
    for path in (tmp_path / "kept").iterdir():
        json.loads(path.read_bytes())
