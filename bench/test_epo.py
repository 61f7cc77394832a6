"""The EPO linear program, from losses and Gramian to weights: ours, published ways, and the floor.

`instances` of one kind and size are solved in turn; a round is one pass over all of them, and
`per_solve_us` in `extra_info` is its median divided by their number. Descent is the restricted
program. The reference is HiGHS through highspy, one `Highs` kept, its arrays made beforehand. The
group "fallback" holds programs that our own method cannot certify, so that HiGHS is asked.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import subprocess

import numpy as np
import pytest
from epo_cases import half_rank
from oracles import epo_program
from scipy.optimize import linprog

from pyfront.backend import _core
from pyfront.backend.highs import Highs

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
    solver = _core.EpoSolver(Highs())

    def solve_all():
        return [solver.solve(*instance, EPSILON, True)[0] for instance, _ in cases]

    measure(benchmark, m, phase, cases, solve_all, "pyfront")


class KeptHighs:
    """One `highspy.Highs`: pass the model, run, read the solution."""

    def __init__(self, **options):
        highspy = pytest.importorskip("highspy")
        self.solver = highspy.Highs()
        options = {"output_flag": False, "presolve": "off", "solver": "simplex", **options}
        for name, value in {**options, "parallel": "off", "threads": 1}.items():
            assert self.solver.setOptionValue(name, value) == highspy.HighsStatus.kOk, name

    @staticmethod
    def prepare(cost, rows, lower):
        """The arguments of `passModel`: row-wise (2), maximise (-1)."""
        m, k = len(cost), len(lower) + 1
        return (
            *(m, k, k * m, 2, -1, 0.0),
            *(cost, np.zeros(m), np.full(m, np.inf)),
            np.append(1.0, lower),
            np.append(1.0, np.full(k - 1, np.inf)),
            np.arange(0, (k + 1) * m, m, dtype=np.int32),
            np.tile(np.arange(m, dtype=np.int32), k),
            np.vstack([np.ones(m), rows]).ravel(),
            np.zeros(m, dtype=np.int32),
        )

    def solve(self, prepared):
        self.solver.passModel(*prepared)
        self.solver.run()
        solution = self.solver.getSolution()
        return np.array(solution.col_value), np.array(solution.row_dual)


@pytest.mark.parametrize("strategy", ["dual", "primal"])
@pytest.mark.parametrize(("m", "phase"), CASES)
def test_highspy_kept(benchmark, m, phase, strategy):
    cases = instances(m, phase)
    highs = KeptHighs(simplex_strategy=1 if strategy == "dual" else 4)
    prepared = [highs.prepare(*program) for program in programs(cases)]

    def solve_all():
        return [highs.solve(program)[0] for program in prepared]

    measure(benchmark, m, phase, cases, solve_all, "highspy")


def fallback_programs(m):
    """Scaled programs (cost, rows with Σβ, lower, basis) that HiGHS is asked and answers right."""
    asked = []
    highs = Highs()

    def ask(*program):
        asked.append(program)
        return highs(*program)

    solver, program, found = _core.EpoSolver(ask), _core.LinearProgram(highs), []
    for seed in itertools.count():
        losses, gradients = half_rank(m, 12, seed)
        solver.solve(losses, gradients @ gradients.T, np.ones(m), EPSILON, True)
        while asked:
            cost, rows, lower, basis = asked.pop()
            beta, _, status = program.maximize(cost, rows[1:], lower[1:])
            if status == "optimal":
                found.append(((cost, rows, lower, basis), beta))
        if len(found) >= COUNT:
            return found[:COUNT]


@pytest.mark.parametrize("way", ["pyfront", "highspy dual", "highspy primal"])
@pytest.mark.parametrize("m", [8, 20, 40])
def test_fallback(benchmark, m, way):
    cases = fallback_programs(m)
    benchmark.group = f"EPO fallback, m = {m}"
    if way == "pyfront":
        program = _core.LinearProgram(Highs())

        def solve_all():
            return [program.maximize(c, rows[1:], low[1:])[0] for (c, rows, low, _), _ in cases]
    else:
        tight = {"primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9}
        highs = KeptHighs(simplex_strategy=1 if way == "highspy dual" else 4, **tight)
        prepared = [highs.prepare(c, rows[1:], low[1:]) for (c, rows, low, _), _ in cases]

        def solve_all():
            return [highs.solve(program)[0] for program in prepared]

    worst = 0.0
    for beta, ((cost, *_), expected) in zip(solve_all(), cases, strict=True):
        worst = max(worst, abs(cost @ beta - cost @ expected))
    benchmark.extra_info.update(objective_error=worst, threads=1)
    benchmark.pedantic(solve_all, rounds=30, iterations=1, warmup_rounds=3)
    if benchmark.stats is not None:
        benchmark.extra_info["per_solve_us"] = 1e6 * benchmark.stats.stats.median / len(cases)


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
