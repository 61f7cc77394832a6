"""`trace`: train one preference after the other, each from the solution of the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from copy import deepcopy
from functools import partial
from typing import Any

from pyfront._utils.arguments import integer
from pyfront.front.front import Front, Solution
from pyfront.sweeps.baseline import as_linear, check_takes_method, linear_weights, with_linear
from pyfront.sweeps.errors import SweepError
from pyfront.sweeps.progress import ProgressBar
from pyfront.sweeps.runs import RunKey, as_runs, run_seed
from pyfront.sweeps.training import Failure, attempt, traceback_text

__all__ = ["trace"]


def trace(
    train: Callable[[RunKey, Any], tuple[Solution, Any]],
    preferences: Iterable[Any],
    *,
    start: Any = None,
    linear: bool = False,
    seed: int = 0,
    progress: bool | None = None,
) -> Front:
    """Walk along the front: each preference starts from the solution of the one before.

    That saves the steps to the front, which are many from a poor start; the last digits on the ray
    cost no fewer steps than from elsewhere. One run follows the other in this process, seeded as in
    :func:`sweep`.

    Args:
        train: `train(preference, start)`, which returns a :class:`Solution` and the state that the
            next preference starts from: whatever `train` can begin with (parameters, a state
            dict, …). It is passed on without a copy.
        preferences: K preferences [m] in the order of the walk, neighbours near each other.
        start: what the first preference starts from.
        linear: walk once more from a copy of `start` with linear weights, as the baseline; `train`
            takes `method` as in :func:`sweep`.
        seed: of the whole walk.
        progress: as in :func:`sweep`.

    Returns:
        The solutions in the order of `preferences`, then those of linear weights.

    Raises:
        SweepError: a run failed; with the solutions before it, and that run as the one failure,
            whose exception is the cause.
        TypeError: an entry of `preferences` is no preference, or `train` takes no `method` with
            `linear`.
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
    front, begin = Front(), start
    if linear:
        check_takes_method(train)
        begin = deepcopy(start)
    with closing(ProgressBar(len(runs) * (1 + linear), None, progress)) as bar:
        walk = partial(_walk, seed=seed, front=front, bar=bar)
        walk(train, runs, start, names=runs)
        if linear:
            names = with_linear(runs)[len(runs) :]
            walk(partial(_train_linear, train), runs, begin, names=names)
    return front


def _walk(
    train: Callable[[RunKey, Any], tuple[Solution, Any]],
    runs: Sequence[RunKey],
    state: Any,
    *,
    names: Sequence[RunKey],
    seed: int,
    front: Front,
    bar: ProgressBar,
) -> None:
    """Add the solutions of one walk to `front`; a run that fails has its entry of `names`."""
    for run, name in zip(runs, names, strict=True):
        try:
            result = attempt(train, run_seed(run, seed), run, state)
            if not (isinstance(result, tuple) and len(result) == 2):
                raise TypeError(f"train returned {result!r}: expected (solution, state)")
            solution, state = result
            front.add(solution)
        except Exception as error:
            raise SweepError(front, [Failure(name, traceback_text(error), error)]) from error
        bar.move(len(front) - 1, None)


def _train_linear(train: Callable[..., Any], run: RunKey, state: Any) -> Any:
    """Train with linear weights; anything but a solution and a state is returned as it is."""
    result = train(run, state, method=linear_weights)
    if isinstance(result, tuple) and len(result) == 2:
        return as_linear(result[0]), result[1]
    return result
