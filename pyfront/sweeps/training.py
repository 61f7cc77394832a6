"""One run of a sweep, wherever it is trained: its job, its seeds, its outcome."""

from __future__ import annotations

import functools
import random
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from pyfront.front.front import Solution
from pyfront.sweeps.runs import RunKey

__all__ = [
    "Failure",
    "Job",
    "OnOutcome",
    "Outcome",
    "Train",
    "attempt",
    "outcome_of",
    "step_reporter",
    "traceback_text",
    "train_here",
]

_REPORT = 0.05  # seconds between two reports of steps


@dataclass(frozen=True)
class Job:
    """One run, its place in the order of the sweep, and its own seed."""

    index: int
    run: RunKey
    seed: int


@dataclass(frozen=True)
class Failure:
    """A run that gave no solution.

    Args:
        preference: the argument of `train`.
        reason: the traceback, or how the worker process ended.
        error: the exception itself, where the run was in this process.
    """

    preference: RunKey
    reason: str
    error: BaseException | None = None


#: News of a job: steps made since the last report, or how it ended.
Outcome: TypeAlias = int | Solution | Failure
#: Called with the index of a job and its news.
OnOutcome: TypeAlias = Callable[[int, Outcome], None]
Train: TypeAlias = Callable[..., Solution]


def attempt(train: Callable[..., Any], seed: int, *arguments: Any) -> Any:
    """Call `train` on one thread with all global generators at `seed`; restore both."""
    threads, state, numpy_state = torch.get_num_threads(), random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.set_num_threads(1)
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            return train(*arguments)
    finally:
        torch.set_num_threads(threads)
        random.setstate(state)
        np.random.set_state(numpy_state)


def outcome_of(
    train: Train, job: Job, report: Callable[[int], None] | None, *, keep_error: bool = False
) -> Solution | Failure:
    """Train one job; an exception becomes a `Failure`.

    Args:
        train: as for `sweep`.
        job: the run.
        report: called with numbers of steps; None where `train` takes no `advance`.
        keep_error: put the exception itself into the failure.
    """
    arguments = [] if report is None else [step_reporter(report)]
    try:
        solution = attempt(train, job.seed, job.run, *arguments)
        if not isinstance(solution, Solution):
            found = type(solution).__name__
            raise TypeError(f"train returned {found}: expected a pyfront.Solution")
        return solution
    except (Exception, SystemExit) as error:
        return Failure(job.run, traceback_text(error), error if keep_error else None)


def traceback_text(error: BaseException) -> str:
    """Return the traceback from the first frame that is not ours."""
    frames = error.__traceback__
    while frames is not None:
        if not str(frames.tb_frame.f_globals.get("__name__")).startswith("pyfront.sweeps."):
            break
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))


def step_reporter(report: Callable[[int], None]) -> Callable[[int], None]:
    """Return `advance(steps=1)`, which reports their sum at most 20 times per second."""
    pending, last = 0, time.monotonic()

    def advance(steps: int = 1) -> None:
        nonlocal pending, last
        pending += steps
        if (now := time.monotonic()) - last >= _REPORT:
            report(pending)
            pending, last = 0, now

    return advance


def train_here(train: Train, jobs: Sequence[Job], on_outcome: OnOutcome, *, steps: bool) -> None:
    """Train all jobs in this process, one after the other."""
    for job in jobs:
        report = functools.partial(on_outcome, job.index) if steps else None
        on_outcome(job.index, outcome_of(train, job, report, keep_error=True))
