"""The EPO linear program, from losses and Gramian to weights: ours, published ways, and the floor.

`instances` of one kind and size are solved in turn; a round is one pass over all of them, and
`per_solve_us` in `extra_info` is its median divided by their number. Descent is the restricted
program. The floor is HiGHS's C API alone, one handle kept, reached through ctypes.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import itertools
import subprocess

import numpy as np
import pytest
from oracles import epo_program
from scipy.optimize import linprog

from pyfront.backend import _core
from pyfront.backend.highs import highs_library_path

COUNT = 16
EPSILON = 1e-4
CASES = list(itertools.product([2, 8, 20, 40], ["balance", "descent"]))


def instances(m, phase):
    """Gradients with a common part; losses far from the ray (balance) or next to it (descent)."""
    rng = np.random.default_rng(m)
    spread = 1.0 if phase == "balance" else 3e-3
    found = []
    while len(found) < COUNT:
        gradients = rng.normal(size=(m, 2 * m)) + 0.15 * rng.normal(size=2 * m)
        preference = rng.uniform(0.05, 1.0, size=m)
        losses = np.exp(spread * rng.normal(size=m)) / preference
        instance = losses, gradients @ gradients.T, preference / preference.sum()
        answer = epo_program(*instance, EPSILON, "restricted")
        # a vertex is read off, not solved for: left out
        inner = answer.weights is not None and answer.weights.max() < 1.0 - 1e-9
        if inner and answer.phase == phase:
            found.append((instance, answer))
    return found


def programs(cases):
    """The same instances as (cost, rows, lower), for competitors that only solve the program."""
    for (losses, gramian, _), answer in cases:
        c = gramian / gramian.diagonal().max()
        ca = c @ answer.adjustments
        if answer.phase == "balance":
            bound = {j: min(ca[j], 0.0) for j in range(len(losses)) if ca[j] <= 0.0}
            if not answer.decreasing:
                bound = dict.fromkeys(bound, 0.0)
            bound |= dict.fromkeys(answer.dominant, 0.0)
            yield ca, c[list(bound)], np.array(list(bound.values()))
        else:
            yield c.sum(axis=1), np.vstack([c, ca]), np.append(0.0 * ca, min(ca.max(), 0.0))


def measure(benchmark, m, phase, cases, solve_all, library):
    """`solve_all()` returns one vector of weights an instance."""
    benchmark.group = f"EPO {phase}, m = {m}"
    worst = 0.0
    for weights, ((_, gramian, _), answer) in zip(solve_all(), cases, strict=True):
        along = answer.adjustments if phase == "balance" else np.ones(m)
        worst = max(worst, abs(weights @ gramian @ along / answer.objective - 1.0))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    benchmark.extra_info.update(
        objective_error=worst,
        version=f"{library} {importlib.metadata.version(library)}",
        threads=1,
        commit=commit,
    )
    benchmark.pedantic(solve_all, rounds=30, iterations=1, warmup_rounds=3)
    if benchmark.stats is not None:
        benchmark.extra_info["per_solve_us"] = 1e6 * benchmark.stats.stats.median / len(cases)


@pytest.mark.parametrize(("m", "phase"), CASES)
def test_pyfront(benchmark, m, phase):
    cases = instances(m, phase)
    solver = _core.EpoSolver(highs_library_path())

    def solve_all():
        return [solver.solve(*instance, EPSILON, True)[0] for instance, _ in cases]

    measure(benchmark, m, phase, cases, solve_all, "pyfront")


class HighsC:
    """One kept handle of the C API: pass the model, run, read the solution."""

    def __init__(self, options):
        self.lib = lib = ctypes.CDLL(highs_library_path())
        handle = lib.Highs_create
        handle.restype = ctypes.c_void_p
        self.handle = ctypes.c_void_p(handle())
        lib.Highs_setBoolOptionValue(self.handle, b"output_flag", 0)
        for name, value in options.items():
            if isinstance(value, str):
                lib.Highs_setStringOptionValue(self.handle, name.encode(), value.encode())
            else:
                lib.Highs_setIntOptionValue(self.handle, name.encode(), value)

    def close(self):
        self.lib.Highs_destroy(self.handle)

    def prepare(self, cost, rows, lower):
        """Everything that is not the solver's time: arrays and their addresses."""
        m, k = len(cost), len(lower) + 1
        x = np.zeros(m)
        arrays = [
            cost,
            np.zeros(m),
            np.full(m, np.inf),
            np.append(1.0, lower),
            np.append(1.0, np.full(k - 1, np.inf)),
            np.arange(0, (k + 1) * m, m, dtype=np.int32),
            np.tile(np.arange(m, dtype=np.int32), k),
            np.vstack([np.ones(m), rows]).ravel(),
        ]
        addresses = [ctypes.c_void_p(array.ctypes.data) for array in [*arrays, x]]
        head = [ctypes.c_int(v) for v in (m, k, k * m, 2, -1)]
        return (arrays, x), head, addresses

    def solve(self, prepared):
        (_, x), head, addresses = prepared
        zero = ctypes.c_double(0.0)
        self.lib.Highs_passLp(self.handle, *head, zero, *addresses[:-1])
        self.lib.Highs_run(self.handle)
        self.lib.Highs_getSolution(self.handle, addresses[-1], None, None, None)
        return x


@pytest.mark.parametrize("strategy", ["dual", "primal"])
@pytest.mark.parametrize(("m", "phase"), CASES)
def test_highs_c_api(benchmark, m, phase, strategy):
    cases = instances(m, phase)
    highs = HighsC(
        {
            "presolve": "off",
            "solver": "simplex",
            "parallel": "off",
            "threads": 1,
            "simplex_strategy": 1 if strategy == "dual" else 4,
        }
    )
    prepared = [highs.prepare(*program) for program in programs(cases)]

    def solve_all():
        return [highs.solve(program) for program in prepared]

    measure(benchmark, m, phase, cases, solve_all, "highspy")
    highs.close()


@pytest.mark.parametrize(("m", "phase"), CASES)
def test_highspy_kept(benchmark, m, phase):
    highspy = pytest.importorskip("highspy")
    cases = instances(m, phase)
    models = []
    for cost, rows, lower in programs(cases):
        k = len(lower) + 1
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = m, k
        model.sense_ = highspy.ObjSense.kMaximize
        model.col_cost_, model.col_lower_ = cost, np.zeros(m)
        model.col_upper_ = np.full(m, np.inf)
        model.row_lower_ = np.append(1.0, lower)
        model.row_upper_ = np.append(1.0, np.full(k - 1, np.inf))
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_ = np.arange(0, (k + 1) * m, m)
        model.a_matrix_.index_ = np.tile(np.arange(m), k)
        model.a_matrix_.value_ = np.vstack([np.ones(m), rows]).ravel()
        models.append(model)
    highs = highspy.Highs()
    options = {"output_flag": False, "presolve": "off", "solver": "simplex", "threads": 1}
    for name, value in options.items():
        highs.setOptionValue(name, value)

    def solve_all():
        answers = []
        for model in models:
            highs.passModel(model)
            highs.run()
            answers.append(np.array(highs.getSolution().col_value))
        return answers

    measure(benchmark, m, phase, cases, solve_all, "highspy")


@pytest.mark.parametrize(("m", "phase"), CASES)
def test_scipy_linprog(benchmark, m, phase):
    cases = instances(m, phase)
    given = list(programs(cases))
    ones = np.ones((1, m))

    def solve_all():
        return [
            linprog(-cost, A_ub=-rows, b_ub=-lower, A_eq=ones, b_eq=[1.0]).x
            for cost, rows, lower in given
        ]

    measure(benchmark, m, phase, cases, solve_all, "scipy")


def cvxpy_solver(cvxpy, solver):
    if solver not in cvxpy.installed_solvers():
        pytest.skip(f"cvxpy has no solver {solver} here")
    return {"solver": solver}


@pytest.mark.parametrize("solver", ["GLPK", "CLARABEL"])
@pytest.mark.parametrize(("m", "phase"), CASES)
def test_cvxpy_rebuilt(benchmark, m, phase, solver):
    """A new problem each step."""
    cvxpy = pytest.importorskip("cvxpy")
    options = cvxpy_solver(cvxpy, solver)
    cases = instances(m, phase)
    given = list(programs(cases))

    def solve_all():
        answers = []
        for cost, rows, lower in given:
            beta = cvxpy.Variable(m)
            rules = [beta >= 0, cvxpy.sum(beta) == 1, rows @ beta >= lower]
            cvxpy.Problem(cvxpy.Maximize(cost @ beta), rules).solve(**options)
            answers.append(beta.value)
        return answers

    measure(benchmark, m, phase, cases, solve_all, "cvxpy")


@pytest.mark.parametrize("solver", ["GLPK", "CLARABEL"])
@pytest.mark.parametrize(("m", "phase"), CASES)
def test_cvxpy_parameters(benchmark, m, phase, solver):
    """One problem built once, its numbers set as parameters; free rows get the bound −1000."""
    cvxpy = pytest.importorskip("cvxpy")
    options = cvxpy_solver(cvxpy, solver)
    cases = instances(m, phase)
    given = list(programs(cases))
    beta, cost = cvxpy.Variable(m), cvxpy.Parameter(m)
    rows, lower = cvxpy.Parameter((m + 1, m)), cvxpy.Parameter(m + 1)
    rules = [beta >= 0, cvxpy.sum(beta) == 1, rows @ beta >= lower]
    problem = cvxpy.Problem(cvxpy.Maximize(cost @ beta), rules)

    def solve_all():
        answers = []
        for cost_value, rows_value, lower_value in given:
            free = m + 1 - len(lower_value)
            cost.value = cost_value
            rows.value = np.vstack([rows_value, np.ones((free, m))])
            lower.value = np.append(lower_value, np.full(free, -1000.0))
            problem.solve(**options)
            answers.append(beta.value)
        return answers

    measure(benchmark, m, phase, cases, solve_all, "cvxpy")
