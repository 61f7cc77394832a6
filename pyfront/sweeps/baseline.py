"""Linear weights beside: each preference once more, by a plain weighted sum."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

from pyfront._utils.arguments import vector
from pyfront.front.front import Solution
from pyfront.methods.scalarization import LinearScalarization
from pyfront.optimizer.bases import Base
from pyfront.optimizer.names import NamedVector
from pyfront.optimizer.options import CommonOptions
from pyfront.sweeps.runs import RunKey

__all__ = [
    "LINEAR",
    "as_linear",
    "check_takes_method",
    "linear_weights",
    "train_any",
    "with_linear",
]

#: The method of these solutions, and the first entry of their runs.
LINEAR = "linear"


def linear_weights(
    base: Base, preference: NamedVector, **common: Unpack[CommonOptions]
) -> LinearScalarization:
    """Make linear scalarization with r / Σ r as weights: the step has the size of EPO's.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> linear_weights(torch.optim.SGD([x], lr=0.1), [3.0, 1.0]).preference.tolist()
        [0.75, 0.25]
    """
    if isinstance(preference, Mapping):
        total = sum(preference.values()) or 1.0
        return LinearScalarization(
            base, {task: value / total for task, value in preference.items()}, **common
        )
    r = vector("preference", preference)
    return LinearScalarization(base, r / (r.sum() or 1.0), **common)


def check_takes_method(train: Callable[..., Any]) -> None:
    """Require that `train` can be given `method`.

    Raises:
        TypeError: it has no such argument.
    """
    parameters = inspect.signature(train).parameters
    named = parameters.get("method")
    if named is not None and named.kind is not inspect.Parameter.POSITIONAL_ONLY:
        return
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    raise TypeError(
        "train: linear=True calls it with method=, which makes the optimizer, but it takes "
        f"({', '.join(parameters)}): write `def train(preference, method=pyfront.EPO)` and in it "
        "`opt = method(base, preference)`"
    )


def with_linear(runs: Sequence[RunKey]) -> list[RunKey]:
    """Return the runs and, after them, ("linear", r) for each.

    Raises:
        ValueError: a run that is no preference.

    Example:
        >>> with_linear([(0.5, 0.5)])
        [(0.5, 0.5), ('linear', (0.5, 0.5))]
    """
    for run in runs:
        if not all(isinstance(entry, float) for entry in run):
            raise ValueError(
                f"linear=True: {run} is no preference; give such runs their own of linear weights"
            )
    return [*runs, *((LINEAR, run) for run in runs)]


def train_any(train: Callable[..., Any], run: RunKey, *arguments: Any) -> Any:
    """Train a run of `with_linear`: ("linear", r) with `method`, and a preference without it."""
    if run[0] != LINEAR:
        return train(run, *arguments)
    return as_linear(train(run[1], *arguments, method=linear_weights))


def as_linear(solution: Any) -> Any:
    """Return a solution with "linear" as its method; anything else as it is."""
    return replace(solution, method=LINEAR) if isinstance(solution, Solution) else solution
