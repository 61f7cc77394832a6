"""Many preferences: `sweep` trains them side by side, `trace` each from the one before."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from os import PathLike
from typing import Any

from pyfront._utils.arguments import integer
from pyfront._utils.extras import import_extra
from pyfront.front.front import Front, Solution
from pyfront.sweeps.runs import Run, RunFolder, as_runs, run_seed
from pyfront.sweeps.workers import (
    Failure,
    Job,
    Outcome,
    attempt,
    run_here,
    run_in_workers,
    traceback_text,
)

__all__ = ["Failure", "SweepError", "sweep", "trace"]

_log = logging.getLogger(__name__)


class SweepError(RuntimeError):
    """Some runs failed; the others are in `front`.

    Args:
        front: the solutions of the runs that finished, in order.
        failures: what failed, and why, in order.
    """

    def __init__(self, front: Front, failures: Sequence[Failure]) -> None:
        """See the class."""
        super().__init__(front, failures)
        self.front = front
        self.failures = tuple(failures)

    def __str__(self) -> str:
        """Every reason with the preferences that it stopped."""
        count = len(self.front) + len(self.failures)
        by_reason: dict[str, list[Run]] = {}
        for failure in self.failures:
            by_reason.setdefault(failure.reason.rstrip(), []).append(failure.preference)
        parts = [f"{', '.join(map(str, runs))}:\n{why}" for why, runs in by_reason.items()]
        return "\n\n".join([f"{len(self.failures)} of {count} runs failed", *parts])


def sweep(
    train: Callable[..., Solution],
    preferences: Iterable[Any],
    *,
    workers: int | None = None,
    seed: int = 0,
    folder: str | PathLike[str] | None = None,
    steps: int | None = None,
    progress: bool | None = None,
) -> Front:
    """Train once for every preference, in worker processes of one thread each.

    Before each run Python's, NumPy's and torch's generators are seeded from that run's preference
    and `seed` (`torch.initial_seed()` tells the number), so the front is the same for any number of
    workers, in any order. A run that fails stops no other. Ctrl-C, an error or the death of this
    process ends the workers and all they have started.

    Workers are fresh interpreters. They import `train`, so it stands at the top level of a module
    or script, and a script calls this under `if __name__ == "__main__":`. What `train` needs is
    given with `functools.partial`; each worker gets one copy. `train` keeps nothing from one call
    to the next, and sets what it needs beyond torch's defaults (such as the dtype) itself.

    Args:
        train: `train(preference)`, which returns a :class:`Solution`; `preference` is a tuple.
        preferences: K preferences [m], entries ≥ 0. Runs of another kind (several methods, several
            repetitions) are tuples of strings, numbers, None and tuples, as `("EPO", (0.7, 0.3))`.
        workers: processes; by default as many as there are cores and runs. 0 runs everything in
            this process, for debugging: with the same results, and `train` may be any callable.
        seed: of the whole sweep.
        folder: keep every finished run there, and do not repeat those that are there already. The
            seed and the name and arguments of `train` must then be those of the first time (the
            code of `train` is not compared); preferences may be added.
        steps: the steps of each run. Given, `train(preference, advance)` gets a second argument
            and calls `advance()`, or `advance(n)`, as it makes them: the bar counts steps.
        progress: a bar over all workers: True, False, or None for one where tqdm is installed.

    Returns:
        The solutions in the order of `preferences`.

    Raises:
        SweepError: at the end, if runs failed: with the solutions of all others, and for each
            failure its preference and traceback, or the signal that killed its process.
        TypeError: `train` cannot be sent to a process, or an entry of `preferences` is no run.
        ValueError: an argument out of range, or a folder that holds another sweep.
        ImportError: `progress=True` without tqdm.

    Example:
        >>> def train(preference):
        ...     problem = pyfront.problems.ConcaveProblem(n=2)
        ...     theta = torch.nn.Parameter(problem.start())
        ...     opt = pyfront.EPO(torch.optim.SGD([theta], lr=0.1), preference)
        ...     for _ in range(100):
        ...         report = opt.step(problem.losses(theta))
        ...     losses = report.losses.tolist()
        ...     return pyfront.Solution(method="EPO", preference=preference, train_losses=losses)
        >>> import pyfront
        >>> front = pyfront.sweep(train, [[0.4, 0.6], [0.5, 0.5]], workers=0)
        >>> [[round(loss, 1) for loss in solution.train_losses] for solution in front]
        [[0.7, 0.5], [0.6, 0.6]]
    """
    runs = as_runs(preferences)
    seed = integer("seed", seed, 0)
    count = _cores() if workers is None else integer("workers", workers, 0)
    steps = None if steps is None else integer("steps", steps, 1)
    kept = None if folder is None else RunFolder(folder, train, seed)
    outcomes: dict[int, Solution | Failure] = {}
    for index, run in enumerate(runs):
        if kept is not None and (solution := kept.load(run)) is not None:
            outcomes[index] = solution
    jobs = [Job(i, run, run_seed(run, seed)) for i, run in enumerate(runs) if i not in outcomes]

    with closing(_Bar(len(jobs), steps, progress)) as bar:

        def tell(index: int, outcome: Outcome) -> None:
            bar.move(index, outcome if isinstance(outcome, int) else None)
            if isinstance(outcome, int):
                return
            outcomes[index] = outcome
            if isinstance(outcome, Failure):
                last_line = outcome.reason.rstrip().rpartition("\n")[2]
                _log.error("the run of %s failed: %s", runs[index], last_line)
            elif kept is not None:
                kept.save(runs[index], outcome)

        if count == 0:
            run_here(train, jobs, tell, steps=steps is not None)
        elif jobs:
            run_in_workers(train, jobs, tell, steps=steps is not None, workers=count)
    return _collect(runs, [outcomes[index] for index in range(len(runs))])


def trace(
    train: Callable[[Run, Any], tuple[Solution, Any]],
    preferences: Iterable[Any],
    *,
    start: Any = None,
    seed: int = 0,
    progress: bool | None = None,
) -> Front:
    """Walk along the front: each preference starts from the solution of the one before.

    That saves the way to the front, which is long from a poor start; the last digits on the ray
    cost no less than they do from elsewhere. One run follows the other in this process, seeded as
    in :func:`sweep`.

    Args:
        train: `train(preference, start)`, which returns a :class:`Solution` and the state that the
            next preference starts from: whatever `train` can begin with (parameters, a state
            dict, …). It is handed on as it is, without a copy.
        preferences: K preferences [m] in the order of the walk, neighbours near each other.
        start: what the first preference starts from.
        seed: of the whole walk.
        progress: as in :func:`sweep`.

    Returns:
        The solutions in the order of `preferences`.

    Raises:
        SweepError: a run failed; with the solutions before it, and that run as the one failure,
            whose exception is the cause.
        TypeError: an entry of `preferences` is no preference.
        ValueError: an argument out of range.
        ImportError: `progress=True` without tqdm.

    Example:
        >>> import pyfront
        >>> problem = pyfront.problems.ConcaveProblem(n=2)
        >>> def train(preference, start):
        ...     theta = torch.nn.Parameter(start)
        ...     base = torch.optim.SGD([theta], lr=0.1)
        ...     opt = pyfront.EPO(base, preference, epsilon="adaptive")
        ...     for _ in range(100):
        ...         losses = opt.step(problem.losses(theta)).losses.tolist()
        ...     solution = pyfront.Solution(
        ...         method="EPO", preference=preference, train_losses=losses
        ...     )
        ...     return solution, theta.detach()
        >>> front = pyfront.trace(train, [[0.5, 0.5], [0.4, 0.6]], start=problem.start())
        >>> [round(loss, 2) for loss in front[1].train_losses]
        [0.75, 0.5]

    Source: Mahapatra and Rajan 2020, appendix C (tracing the Pareto front).
    """
    runs = as_runs(preferences)
    seed = integer("seed", seed, 0)
    front = Front()
    with closing(_Bar(len(runs), None, progress)) as bar:
        for index, run in enumerate(runs):
            try:
                result = attempt(train, run_seed(run, seed), run, start)
                if not (isinstance(result, tuple) and len(result) == 2):
                    raise TypeError(f"train returned {result!r}: expected (solution, state)")
                solution, start = result
                front.add(solution)
            except Exception as error:
                raise SweepError(front, [Failure(run, traceback_text(error), error)]) from error
            bar.move(index, None)
    return front


class _Bar:
    """The progress of all runs, in steps where their number is known."""

    def __init__(self, runs: int, steps: int | None, wanted: bool | None) -> None:
        self._steps = steps or 1
        self._done: dict[int, int] = {}
        self._bar: Any = None
        if wanted is False:
            return
        try:
            tqdm = import_extra("tqdm", "sweep").tqdm
        except ImportError:
            if wanted:
                raise
            return
        unit = "step" if steps else "run"
        self._bar = tqdm(total=runs * self._steps, unit=unit, leave=False, dynamic_ncols=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def move(self, index: int, steps: int | None) -> None:
        """By the steps that a run reports; None: it has ended, and moves by what is left of it."""
        done = self._done.get(index, 0)
        left = self._steps - done
        count = left if steps is None else min(steps, left)
        self._done[index] = done + count
        if self._bar is not None and count:
            self._bar.update(count)


def _cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _collect(runs: Sequence[Run], outcomes: Sequence[Solution | Failure]) -> Front:
    """The front, or an error with the part of it that there is."""
    front, failures = Front(), []
    for run, outcome in zip(runs, outcomes, strict=True):
        if isinstance(outcome, Failure):
            failures.append(outcome)
            continue
        try:
            front.add(outcome)
        except ValueError as error:  # another number of tasks than the others
            failures.append(Failure(run, str(error)))
    if failures:
        raise SweepError(front, failures) from next((f.error for f in failures if f.error), None)
    return front
