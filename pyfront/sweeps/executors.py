"""Runs in the worker processes of an engine that the user already has: dask, loky, SLURM, …"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from typing import Any, Protocol

from pyfront.front.front import Solution
from pyfront.sweeps.child import train_in_child
from pyfront.sweeps.training import Failure, Job, OnOutcome, Train, outcome_of
from pyfront.sweeps.workers import pickled

__all__ = ["Executor", "check_executor", "train_in_executor"]

_POLL = 0.5  # seconds between two checks of jobs that cannot be waited for


class _Job(Protocol):
    """A submitted call, such as `concurrent.futures.Future` and submitit's `Job`."""

    def done(self) -> bool: ...
    def result(self) -> Any: ...
    def cancel(self) -> Any: ...


class Executor(Protocol):
    """The part of `concurrent.futures.Executor` that a sweep uses; submitit's executors have it."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Any:
        """Call `function(*arguments)` in a worker."""


def check_executor(executor: object) -> None:
    """Check that an executor can run a sweep.

    Raises:
        TypeError: no executor.
        ValueError: a pool of several threads.
    """
    if not callable(getattr(executor, "submit", None)):
        raise TypeError(f"executor: expected a concurrent.futures.Executor, got {executor!r}")
    # a private attribute: without it, threads only cost more than worker processes
    if isinstance(executor, ThreadPoolExecutor) and getattr(executor, "_max_workers", 1) > 1:
        raise ValueError(
            "executor: a pool of several threads, but the generators of Python, NumPy and torch "
            "are global to a process: use a pool of processes, or workers="
        )


def train_in_executor(
    train: Train, jobs: Sequence[Job], on_outcome: OnOutcome, *, steps: bool, executor: Executor
) -> None:
    """Train all jobs in an executor; if this raises, jobs that have not begun are cancelled.

    Raises:
        TypeError: `train` cannot be pickled.
    """
    if isinstance(executor, ProcessPoolExecutor):
        pickled(train, steps)  # others send more than pickle can
    pending: dict[Job, _Job] = {}
    try:
        with _batch(executor):
            for job in jobs:
                try:
                    pending[job] = executor.submit(_train_remotely, train, job, steps)
                except BrokenExecutor as error:
                    on_outcome(job.index, _lost(job, error))
        while pending:
            for job in _ended(pending):
                on_outcome(job.index, _outcome(job, pending.pop(job)))
    finally:
        for submitted in pending.values():
            submitted.cancel()


def _batch(executor: Executor) -> contextlib.AbstractContextManager[Any]:
    """Submit everything as one job array where the executor can, as submitit's can."""
    batch = getattr(executor, "batch", None)
    found: contextlib.AbstractContextManager[Any] = batch() if batch else contextlib.nullcontext()
    return found


def _ended(pending: dict[Job, _Job]) -> list[Job]:
    """Wait until a job has ended; return all that have."""
    futures = [submitted for submitted in pending.values() if isinstance(submitted, Future)]
    while not (ended := [job for job, submitted in pending.items() if submitted.done()]):
        if len(futures) == len(pending):
            wait(futures, timeout=_POLL, return_when=FIRST_COMPLETED)  # not of cancelled ones
        else:
            time.sleep(_POLL)
    return ended


def _outcome(job: Job, submitted: _Job) -> Solution | Failure:
    try:
        outcome = submitted.result()
    except Exception as error:
        return _lost(job, error)
    assert isinstance(outcome, Solution | Failure)
    return outcome


def _lost(job: Job, error: BaseException) -> Failure:
    """Report a run whose worker has died or that the executor could not run."""
    text = f"{type(error).__name__}: {error}"
    return Failure(job.run, f"the executor returned no result of this run\n{text}", error)


def _train_remotely(train: Train, job: Job, steps: bool) -> Solution | Failure:
    """Train one job in a worker of the executor.

    Generators are global to a process. A worker that calls this in its main thread does nothing
    else meanwhile. In another thread, as in dask's workers, the run gets a process of its own:
    further threads may train too, and dask's own main thread draws from Python's generator.
    """
    if threading.current_thread() is not threading.main_thread():
        return train_in_child(train, job, steps)
    return outcome_of(train, job, (lambda _: None) if steps else None)
