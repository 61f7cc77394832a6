"""HiGHS, for the linear programs that the core's own method cannot certify.

It is reached through the public classes of `highspy` alone, which is imported when a program first
needs it and not before.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import math
from functools import lru_cache
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pyfront._utils.arguments import FloatArray

__all__ = ["Answer", "Highs"]

Answer: TypeAlias = tuple[str, FloatArray | None, FloatArray | None]
IntArray: TypeAlias = NDArray[np.int32]

_REQUIREMENT = "highspy>=1.7.2"
# One thread, so that answers repeat; HiGHS's tolerances are absolute, and cost and rows of order 1.
# The primal method certifies more programs than the dual one from the basis where ours ended.
_OPTIONS: dict[str, bool | float | str] = {
    "output_flag": False,
    "presolve": "off",
    "solver": "simplex",
    "simplex_strategy": 4,
    "parallel": "off",
    "threads": 1,
    "primal_feasibility_tolerance": 1e-9,
    "dual_feasibility_tolerance": 1e-9,
}
# In place of a limit on time, which would not repeat; times the number of rows and columns, of
# which the simplex method usually takes two or three.
_ITERATIONS = 10
_ROW_WISE, _MAXIMIZE = 2, -1  # as `HighsLp` numbers them


class Highs:
    """HiGHS, with a kept `highspy.Highs`: one caller at a time.

    Source: the Python interface of HiGHS, https://highs.dev.
    """

    def __init__(self) -> None:
        self._highspy: ModuleType | None = None
        self._solver: Any = None

    def __call__(
        self, cost: FloatArray, rows: FloatArray, lower: FloatArray, basis: IntArray
    ) -> Answer:
        """Maximise costᵀβ over β ≥ 0 with A_0 β = 1 and A_j β ≥ lower_j for the other rows.

        An answer depends on the arguments alone: none starts from the one before.

        Args:
            cost: [m] float64, finite and of order 1, as all that follows.
            rows: A, [k + 1, m].
            lower: [k + 1], the first 1.
            basis: [k + 1] int32, where the simplex method starts: β_i as i, the slack of row j as
                m + j. It need not be feasible.

        Returns:
            A status, β [m] and the duals of the rows [k + 1]: "optimal", or, without the numbers,
            "infeasible" or "failed" (HiGHS reached its limit of iterations or gave up). Nothing of
            it has been checked but that the numbers are finite.

        Raises:
            ImportError: `highspy` is not installed, cannot be imported, or lacks what is used here.
            RuntimeError: it does not work as it says.

        Example:
            >>> import numpy as np
            >>> cost, rows = np.array([1.0, 2.0]), np.array([[1.0, 1.0], [1.0, -1.0]])
            >>> lower, basis = np.array([1.0, 0.0]), np.array([1, 3], dtype=np.int32)
            >>> status, beta, _ = Highs()(cost, rows, lower, basis)
            >>> status, beta.tolist()
            ('optimal', [0.5, 0.5])
        """
        highspy = self._highspy = self._highspy or _import_highspy()
        try:
            # kept again only once it has answered
            solver, self._solver = self._solver or _new_solver(highspy), None
            answer = _solve(highspy, solver, cost, rows, lower, basis)
        except (AttributeError, TypeError) as error:
            raise _unusable(f"lacks what is used here ({error})", highspy) from error
        except Exception as error:
            raise RuntimeError(f"{_name(highspy)}: {error}") from error
        self._solver = solver
        return answer


def _import_highspy() -> ModuleType:
    try:
        return importlib.import_module("highspy")
    except ModuleNotFoundError as error:
        if error.name != "highspy":
            raise _unusable(f"cannot be imported ({error})") from error
        raise ImportError(
            f'this linear program needs HiGHS, and highspy is not installed: pip install "'
            f'{_REQUIREMENT}"'
        ) from error
    except Exception as error:
        raise _unusable(f"cannot be imported ({type(error).__name__}: {error})") from error


def _new_solver(highspy: ModuleType) -> Any:
    # Callbacks are not used, and enabling them prints a banner since 1.16.
    silent = type("Silent", (highspy.Highs,), {"enableCallbacks": lambda self: None})
    solver = silent()
    for name, value in _OPTIONS.items():
        _set_option(highspy, solver, name, value)
    return solver


def _set_option(highspy: ModuleType, solver: Any, name: str, value: bool | float | str) -> None:
    if solver.setOptionValue(name, value) != highspy.HighsStatus.kOk:
        raise RuntimeError(f"the option {name} = {value!r} was refused")


def _solve(
    highspy: ModuleType,
    solver: Any,
    cost: FloatArray,
    rows: FloatArray,
    lower: FloatArray,
    basis: IntArray,
) -> Answer:
    count, tasks = rows.shape
    _set_option(highspy, solver, "simplex_iteration_limit", _ITERATIONS * (count + tasks))
    size, column_bounds, row_upper, starts, columns, continuous = _frame(count, tasks)
    passed = solver.passModel(
        *size, cost, *column_bounds, lower, row_upper, starts, columns, rows.ravel(), continuous
    )
    # a warning is an entry below 1e-9 that HiGHS dropped: the answer is checked with it
    if passed == highspy.HighsStatus.kError:
        raise RuntimeError("passModel refused a program of finite numbers of order 1")
    _start(highspy, solver, basis, tasks)
    if not _run(highspy, solver):
        return "failed", None, None
    status = solver.getModelStatus()
    if not isinstance(status, highspy.HighsModelStatus):
        raise RuntimeError(f"getModelStatus returned {status!r}")
    if status == highspy.HighsModelStatus.kInfeasible:
        return "infeasible", None, None
    if status != highspy.HighsModelStatus.kOptimal:
        return "failed", None, None
    solution = solver.getSolution()
    beta = _numbers(solution.col_value, tasks, "col_value")
    return "optimal", beta, _numbers(solution.row_dual, count, "row_dual")


@lru_cache(maxsize=16)
def _frame(count: int, tasks: int) -> tuple[Any, ...]:
    """Return what `passModel` is told of every program of this size."""
    size = (tasks, count, count * tasks, _ROW_WISE, _MAXIMIZE, 0.0)
    column_bounds = np.zeros(tasks), np.full(tasks, np.inf)
    row_upper = np.full(count, np.inf)
    row_upper[0] = 1.0
    starts = np.arange(0, (count + 1) * tasks, tasks, dtype=np.int32)
    columns = np.tile(np.arange(tasks, dtype=np.int32), count)
    continuous = np.zeros(tasks, dtype=np.int32)  # no column is restricted to integers
    return size, column_bounds, row_upper, starts, columns, continuous


def _start(highspy: ModuleType, solver: Any, basis: IntArray, tasks: int) -> None:
    states = [highspy.HighsBasisStatus.kLower] * (tasks + len(basis))
    for variable in basis.tolist():
        states[variable] = highspy.HighsBasisStatus.kBasic
    start = highspy.HighsBasis()
    start.col_status, start.row_status = states[:tasks], states[tasks:]
    if solver.setBasis(start) == highspy.HighsStatus.kError:
        raise RuntimeError("setBasis refused a basis")


def _run(highspy: ModuleType, solver: Any) -> bool:
    """Whether HiGHS ran.

    Another user of HiGHS in this thread may have started its scheduler with a thread count of its
    own, and then `run` refuses ours. 0 takes what is there; with parallel = off nothing else
    changes.
    """
    if solver.run() != highspy.HighsStatus.kError:
        return True
    _set_option(highspy, solver, "threads", 0)
    ran = solver.run() != highspy.HighsStatus.kError
    _set_option(highspy, solver, "threads", 1)
    return bool(ran)


def _numbers(values: Any, length: int, name: str) -> FloatArray:
    array = np.array(values, dtype=np.float64)
    if array.shape != (length,) or not math.isfinite(array.sum()):
        raise RuntimeError(f"optimal, but {name} is not {length} finite numbers: {values!r}")
    return array


def _unusable(what: str, highspy: ModuleType | None = None) -> ImportError:
    return ImportError(f'{_name(highspy)} {what}: pip install --upgrade "{_REQUIREMENT}"')


def _name(highspy: ModuleType | None = None) -> str:
    """Return package, version and file; the one imported may not be the one installed."""
    try:
        version = importlib.metadata.version("highspy")
    except importlib.metadata.PackageNotFoundError:
        version = "of unknown version"
    file = getattr(highspy, "__file__", None)
    return f"highspy {version} ({file})" if file else f"highspy {version}"
