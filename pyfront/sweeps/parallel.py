"""`sweep`: train many preferences side by side."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, nullcontext
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

from pyfront._utils.arguments import integer, number
from pyfront.front.front import Front, Solution
from pyfront.sweeps.baseline import check_takes_method, train_any, with_linear
from pyfront.sweeps.errors import SweepError
from pyfront.sweeps.executors import Executor, check_executor, train_in_executor
from pyfront.sweeps.folder import RunFolder
from pyfront.sweeps.progress import ProgressBar
from pyfront.sweeps.ranks import Ranks
from pyfront.sweeps.runs import RunKey, as_runs, run_seed
from pyfront.sweeps.training import Failure, Job, OnOutcome, Outcome, train_here
from pyfront.sweeps.workers import train_in_workers

if TYPE_CHECKING:
    import torch.distributed as dist

__all__ = ["sweep"]

_log = logging.getLogger(__name__)


def sweep(
    train: Callable[..., Solution],
    preferences: Iterable[Any],
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    process_group: dist.ProcessGroup | None = None,
    linear: bool = False,
    seed: int = 0,
    folder: str | PathLike[str] | None = None,
    steps: int | None = None,
    time_limit: float | None = None,
    progress: bool | None = None,
) -> Front:
    """Train once for every preference, in worker processes of one thread each.

    Before each run Python's, NumPy's and torch's generators are seeded from that run's preference
    and `seed` (`torch.initial_seed()` tells the number), so the front is the same for any number of
    workers, in any order. A run that fails stops no other. Ctrl-C, an error or the death of this
    process ends the workers and all they have started.

    Workers are fresh interpreters. They import `train`, so it must be at the top level of a module
    or script, and a script must call this under `if __name__ == "__main__":`. Give further
    arguments to `train` with `functools.partial`; each worker gets one copy. `train` must keep
    nothing from one call to the next, and set anything other than torch's defaults (such as the
    dtype) itself.

    Args:
        train: `train(preference)`, which returns a :class:`Solution`; `preference` is a tuple.
        preferences: K preferences [m], entries ≥ 0. Runs of another kind (several methods, several
            repetitions) are tuples of strings, numbers, None and tuples, as `("EPO", (0.7, 0.3))`.
        workers: processes; by default as many as there are cores and runs. 0 runs everything in
            this process, for debugging: with the same results, and `train` may be any callable.
        executor: train in the worker processes of this `concurrent.futures.Executor`, or of an
            executor of submitit, in place of `workers`, with the same results. It keeps running
            when this returns or fails; runs that it has not begun are then cancelled.
        process_group: the ranks of this group train every run together, in these processes; all
            call this with the same arguments, and rank 0 of the group keeps the results.
        linear: train every preference once more with linear weights, as the baseline: from the same
            seed, so the same start and batches. `train` then takes `method`, which makes the
            optimizer, `method(base, preference)`, and has its own method as default. The solutions
            come after the others, with "linear" as their method; :meth:`Front.compare` sets them
            side by side.
        seed: the seed of the whole sweep.
        folder: keep every finished run there, and do not repeat those that are there already. The
            seed and the name and arguments of `train` must be those of the first time (the code of
            `train` is not compared); preferences may be added. Processes and machines that train
            different preferences may share a folder; each run is locked while it is trained.
        steps: the steps of each run. Given, `train(preference, advance)` gets a second argument
            and calls `advance()`, or `advance(n)`, as it makes them: the bar counts steps. With an
            executor it moves at the end of each run.
        time_limit: seconds after which a run is ended and counts as failed. Needs `workers` ≥ 1.
        progress: a bar over all workers: True, False, or None for one where tqdm is installed.

    Returns:
        The solutions in the order of `preferences`, then those of linear weights.

    Raises:
        SweepError: at the end, if runs failed: with the solutions of all others, and for each
            failure its preference and traceback, or the signal that killed its process.
        TypeError: `train` cannot be sent to a process, or takes no `method` with `linear`; an entry
            of `preferences` is no run.
        ValueError: an argument out of range, a folder that holds another sweep, a pool of several
            threads, or `linear` for a run that is no preference.
        RuntimeError: another process is training one of the runs in this folder; nothing was
            trained.
        OSError: the folder cannot be written; names the file.
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
    seed = integer("seed", seed, 0)
    steps = None if steps is None else integer("steps", steps, 1)
    kept = None if folder is None else partial(RunFolder, folder, train, seed)
    if linear:
        check_takes_method(train)
        train = partial(train_any, train)
    if process_group is None:
        run_all = _trainer(train, workers, executor, time_limit, steps is not None)
        return _sweep(_jobs(preferences, seed, linear), run_all, kept, steps, progress)
    if workers or executor is not None or time_limit is not None:
        raise ValueError("process_group: needs no workers, no executor and no time_limit")
    ranks, given = Ranks(process_group), list(preferences)
    run_all = partial(ranks.train_together, train, steps=steps is not None)
    return ranks.sweep(
        train,
        steps is not None,
        lambda: _jobs(given, seed, linear),
        lambda: _sweep(_jobs(given, seed, linear), run_all, kept, steps, progress),
    )


def _jobs(preferences: Iterable[Any], seed: int, linear: bool) -> list[Job]:
    """Return the runs with their seeds; linear weights have that of the preference."""
    runs = as_runs(preferences)
    seeds = [run_seed(run, seed) for run in runs]
    if linear:
        runs, seeds = with_linear(runs), 2 * seeds
    return [Job(index, *pair) for index, pair in enumerate(zip(runs, seeds, strict=True))]


def _sweep(
    jobs: Sequence[Job],
    run_all: Callable[[Sequence[Job], OnOutcome], None],
    folder: Callable[[], RunFolder] | None,
    steps: int | None,
    progress: bool | None,
) -> Front:
    """Train the runs that the folder does not hold with `run_all`; keep and collect the results."""
    kept = None if folder is None else folder()
    outcomes: dict[int, Solution | Failure] = {}

    def load() -> list[Job]:
        """Take over finished runs; return the others."""
        for job in jobs:
            if job.index not in outcomes and kept and (solution := kept.load(job.run)) is not None:
                outcomes[job.index] = solution
        return [job for job in jobs if job.index not in outcomes]

    left = load()
    with kept.locked([job.run for job in left]) if kept and left else nullcontext():
        left = load()  # others may have finished some before they were locked
        with closing(ProgressBar(len(left), steps, progress)) as bar:

            def on_outcome(index: int, outcome: Outcome) -> None:
                bar.move(index, outcome if isinstance(outcome, int) else None)
                if isinstance(outcome, int):
                    return
                outcomes[index] = outcome
                run = jobs[index].run
                if isinstance(outcome, Failure):
                    last_line = outcome.reason.rstrip().rpartition("\n")[2]
                    _log.error("the run of %s failed: %s", run, last_line)
                elif kept is not None:
                    kept.save(run, outcome)

            if left:
                run_all(left, on_outcome)
    return _collect([(job.run, outcomes[job.index]) for job in jobs])


def _trainer(
    train: Callable[..., Solution],
    workers: int | None,
    executor: Executor | None,
    time_limit: float | None,
    steps: bool,
) -> Callable[[Sequence[Job], OnOutcome], None]:
    """Check the arguments that say where to train; return what trains jobs there."""
    count = _cores() if workers is None else integer("workers", workers, 0)
    if time_limit is not None:
        time_limit = number("time_limit", time_limit, above=0.0)
        if executor is not None or count == 0:
            raise ValueError(
                "time_limit: only local worker processes can be ended, so it needs workers >= 1 "
                "and no executor; an engine has a limit of its own"
            )
    if executor is not None:
        if workers is not None:
            raise ValueError("workers and executor: give one of them")
        check_executor(executor)
        return partial(train_in_executor, train, steps=steps, executor=executor)
    if count == 0:
        return partial(train_here, train, steps=steps)
    return partial(train_in_workers, train, steps=steps, workers=count, time_limit=time_limit)


def _cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _collect(ended: Iterable[tuple[RunKey, Solution | Failure]]) -> Front:
    """Return the front, or raise an error that holds the runs that finished."""
    front, failures = Front(), []
    for run, outcome in ended:
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
