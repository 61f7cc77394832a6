"""`LinearProgram`: optimal, or a status that says why not, on ordinary and degenerate input."""

from __future__ import annotations

import itertools
import multiprocessing
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from oracles import simplex_program

from pyfront.backend import _core
from pyfront.backend.highs import Highs


@pytest.fixture(scope="module", params=[False, True], ids=["both", "highs"])
def highs_only(request):
    return request.param


@pytest.fixture(scope="module")
def program(highs_only):
    return _core.LinearProgram(Highs(), highs_only=highs_only)


def random_program(rng, m, k, spread=0.5):
    return rng.normal(size=m), rng.normal(size=(k, m)) + 0.3, spread * rng.normal(size=k)


def check_against_scipy(program, cost, rows, lower):
    beta, objective, status = program.maximize(cost, rows, lower)
    expected, value = simplex_program(cost, rows, lower)
    if expected is None:
        assert status == "infeasible"
        return status
    assert status == "optimal"
    assert (beta >= 0.0).all()
    assert abs(beta.sum() - 1.0) < 1e-12
    assert (rows @ beta >= lower - 1e-8 * np.abs(rows).max(axis=1, initial=0.0)).all()
    assert objective == pytest.approx(value, rel=1e-8, abs=1e-9 * np.abs(cost).max())
    rounding = len(cost) * 2.0**-52 * np.abs(cost).max()
    assert objective == pytest.approx(cost @ beta, rel=0.0, abs=rounding)
    return status


@pytest.mark.parametrize("m", [1, 2, 3, 5, 8, 20, 40])
def test_optimal_or_infeasible_as_scipy_says(program, m):
    rng = np.random.default_rng(m)
    counts = np.linspace(0, 3 * m + 6, 40).astype(int)
    seen = {check_against_scipy(program, *random_program(rng, m, k)) for k in counts}
    assert seen == {"optimal", "infeasible"}


def test_no_vertex_of_the_feasible_set_is_better(program):
    """An answer that owes nothing to HiGHS: every basic solution, for m = 3."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        cost, rows, lower = random_program(rng, 3, 4)
        walls = np.vstack([np.eye(3), rows])
        heights = np.append(np.zeros(3), lower)
        best = -np.inf
        for pair in itertools.combinations(range(7), 2):
            system = np.vstack([np.ones(3), walls[list(pair)]])
            if abs(np.linalg.det(system)) > 1e-9:
                point = np.linalg.solve(system, np.append(1.0, heights[list(pair)]))
                if (walls @ point >= heights - 1e-10).all():
                    best = max(best, cost @ point)
        _, objective, status = program.maximize(cost, rows, lower)
        assert status == ("infeasible" if best == -np.inf else "optimal")
        if status == "optimal":
            assert objective == pytest.approx(best, abs=1e-9)


def test_degenerate_programs(program):
    rng = np.random.default_rng(1)
    for _ in range(20):
        cost, rows, lower = random_program(rng, 6, 4, spread=0.1)
        twice = np.vstack([rows, rows]), np.append(lower, lower)
        check_against_scipy(program, cost, *twice)
        zero_row = np.vstack([rows, np.zeros(6)]), np.append(lower, 0.0)
        check_against_scipy(program, cost, *zero_row)
        check_against_scipy(program, np.zeros(6), rows, lower)
        columns = [0, 0, 1, 1, 2, 2]
        check_against_scipy(program, cost[columns], rows[:, columns], lower)
        inside = rng.dirichlet(np.ones(6))  # every row tight at one inner point
        check_against_scipy(program, cost, rows, rows @ inside)
        opposite = np.vstack([rows[:1], -rows[:1]])  # one equation, written as two rows
        value = float(rows[0] @ inside)
        check_against_scipy(program, cost, opposite, np.array([value, -value]))


def test_nearly_parallel_rows(program):
    """Gramians of gradients ±g(1 + 1e-8 noise): rows that differ in their last digits."""
    rng = np.random.default_rng(3)
    for m in [3, 5, 8, 20] * 25:
        sign = rng.choice([-1.0, 1.0], size=(m, 1))
        gradients = sign * rng.normal(size=m + 3) + 1e-8 * rng.normal(size=(m, m + 3))
        gramian = gradients @ gradients.T
        gramian /= gramian.diagonal().max()
        check_against_scipy(program, gramian.sum(axis=1), gramian, np.zeros(m))


def test_a_row_no_point_can_meet_is_infeasible(program):
    for row, bound in [([0.0, 0.0], 1e-3), ([1.0, 2.0], 2.1), ([-1.0, -1e-20], 0.0)]:
        _, _, status = program.maximize(np.ones(2), np.array([row]), np.array([bound]))
        assert status == "infeasible"
    rows = np.array([[1.0, -2.0, 0.0], [-2.0, 1.0, 0.0], [0.0, 0.0, -1.0]])
    assert program.maximize(np.ones(3), rows, np.full(3, 0.01))[2] == "infeasible"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_what_is_not_finite_is_refused(program, where, value):
    arguments = [np.array([1.0, 2.0, 3.0]), np.eye(3) - 0.1, np.zeros(3)]
    assert program.maximize(*arguments)[2] == "optimal"
    arguments[where].flat[1] = value
    assert program.maximize(*arguments)[2] == "failed"


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e-9, 1e9, 1e30, 1e300])
def test_the_scale_of_cost_and_rows_is_free(program, scale):
    rng = np.random.default_rng(2)
    solved = 0
    for _ in range(20):
        cost, rows, lower = random_program(rng, 6, 5, spread=0.1)
        beta, objective, status = program.maximize(cost, rows, lower)
        scaled = program.maximize(scale * cost, scale * rows, scale * lower)
        assert scaled[2] == status
        if status == "optimal":
            solved += 1
            np.testing.assert_allclose(scaled[0], beta, atol=1e-9)
            assert scaled[1] == pytest.approx(scale * objective, rel=1e-9)
    assert solved > 5


def test_the_answer_depends_on_the_input_alone(program, highs_only):
    rng = np.random.default_rng(3)
    problems = [random_program(rng, int(m), 8, 0.1) for m in rng.integers(2, 30, size=60)]
    forward = [program.maximize(*problem) for problem in problems]
    backward = [program.maximize(*problem) for problem in problems[::-1]][::-1]
    fresh = [
        _core.LinearProgram(Highs(), highs_only=highs_only).maximize(*problem)
        for problem in problems
    ]
    for (beta, value, status), *others in zip(forward, backward, fresh, strict=True):
        for other in others:
            assert other[2] == status
            if status == "optimal":
                assert other[1] == value
                assert np.array_equal(other[0], beta)


def solve_all(seed, highs_only):
    program = _core.LinearProgram(Highs(), highs_only=highs_only)
    rng = np.random.default_rng(seed)
    return [program.maximize(*random_program(rng, 12, 8, 0.1))[1:] for _ in range(200)]


def test_four_threads_with_a_program_each(highs_only):
    expected = [solve_all(seed, highs_only) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(solve_all, range(4), [highs_only] * 4)) == expected


def solve_into(pipe, program, highs_only):
    problem = random_program(np.random.default_rng(5), 12, 8, 0.1)
    pipe.send((program.maximize(*problem)[1:], solve_all(6, highs_only)))


def test_a_forked_child_solves_with_an_old_and_a_new_program(program, highs_only):
    context = multiprocessing.get_context("fork")
    expected = program.maximize(*random_program(np.random.default_rng(5), 12, 8, 0.1))[1:]
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=solve_into, args=(sender, program, highs_only))
    child.start()
    assert receiver.poll(60), "the child did not answer"
    assert receiver.recv() == (expected, solve_all(6, highs_only))
    child.join(60)
    assert child.exitcode == 0


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_beside_another_user_of_highs(threads):
    """HiGHS keeps one scheduler a thread and refuses a second thread count."""
    script = f"""
import highspy, numpy
from pyfront.backend import _core
from pyfront.backend.highs import Highs
other = highspy.Highs()
other.setOptionValue("output_flag", False)
other.setOptionValue("threads", {threads})
other.minimize(other.addVariable(lb=0, ub=1))
program = _core.LinearProgram(Highs(), highs_only=True)
for _ in range(3):
    beta, value, status = program.maximize(
        numpy.array([1.0, 2.0]), numpy.array([[1.0, -1.0]]), numpy.zeros(1))
    assert (status, value) == ("optimal", 1.5), (status, value)
assert other.minimize() == highspy.HighsStatus.kOk
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd="/", timeout=120)


# --- what the other solver answers is checked ---

COST = np.array([1.0, 0.5])
ROWS = np.array([[-1.0, 1.0], [1.0, -1.0]])  # β_0 = β_1, written as two rows
LOWER = np.zeros(2)


def answering(answer):
    return _core.LinearProgram(lambda *_: answer, highs_only=True)


def test_the_other_solver_is_given_the_scaled_program_with_the_simplex_as_row_0():
    asked = []

    def other(*arguments):
        asked.append(arguments)
        return "optimal", [0.5, 0.5], [0.75, -0.25, 0.0]

    program = _core.LinearProgram(other, highs_only=True)
    beta, value, status = program.maximize(8.0 * COST, 0.25 * ROWS, LOWER)
    assert (beta.tolist(), value, status) == ([0.5, 0.5], 6.0, "optimal")
    ((cost, rows, lower, basis),) = asked
    assert cost.tolist() == [1.0, 0.5]
    assert rows.tolist() == [[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]]
    assert lower.tolist() == [1.0, 0.0, 0.0]
    assert basis.tolist() == [0, 3, 4]  # β_0 and the slacks


@pytest.mark.parametrize(
    ("beta", "duals"),
    [
        ([0.5, 0.5], [0.75, -0.2, 0.0]),  # the bound is not met
        ([0.5, 0.5], [0.75, 0.0, 0.25]),  # a dual of the wrong sign
        ([1.0, 0.0], [1.0, 0.0, 0.0]),  # a row is violated
        ([0.6, 0.6], [0.75, -0.25, 0.0]),  # not on the simplex
        ([0.5, np.nan], [0.75, -0.25, 0.0]),
        ([0.5, 0.5], [0.75, np.nan, 0.0]),
        ([0.5, 0.5], [0.75, -np.inf, -np.inf]),
        ([0.0, 0.0], [0.0, 0.0, 0.0]),
    ],
)
def test_an_answer_that_is_not_optimal_is_not_called_so(beta, duals):
    program = answering(("optimal", beta, duals))
    assert program.maximize(COST, ROWS, LOWER)[2] == "failed"


@pytest.mark.parametrize("size", [1e3, 1e9, 1e14])
def test_large_multipliers_do_not_excuse_a_gap(size):
    """Σy = 2e14 with 1e-9 (1 + Σy) allowed would admit any feasible point."""
    short = answering(("optimal", [0.5, 0.5], [0.0, -size - 0.2, -size]))
    assert short.maximize(COST, ROWS, LOWER)[2] == "failed"
    met = answering(("optimal", [0.5, 0.5], [0.0, -size - 0.25, -size]))
    # where rounding hides a gap, meeting the bound proves nothing
    assert met.maximize(COST, ROWS, LOWER)[2] == ("optimal" if size < 1e6 else "failed")


@pytest.mark.parametrize("status", ["infeasible", "failed"])
def test_its_other_statuses_are_passed_on(status):
    assert answering((status, None, None)).maximize(COST, ROWS, LOWER)[2] == status


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (("optimal", [0.5, 0.5], [0.75]), ValueError),
        (("optimal", [1.0], [0.75, -0.25, 0.0]), ValueError),
        (("optimal", [[0.5, 0.5]], [0.75, -0.25, 0.0]), ValueError),
        (("optimal", None, None), (ValueError, RuntimeError)),
        (("perfect", [0.5, 0.5], [0.75, -0.25, 0.0]), ValueError),
        ("optimal", RuntimeError),
        (None, RuntimeError),
    ],
)
def test_an_answer_of_another_form_is_refused(answer, error):
    with pytest.raises(error):
        answering(answer).maximize(COST, ROWS, LOWER)


def test_an_error_passes_through_and_the_program_can_go_on():
    class Trouble(Exception):
        pass

    answers = [Trouble("as it was"), ("optimal", [0.5, 0.5], [0.75, -0.25, 0.0])]
    raised = answers[0]

    def other(*_):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    program = _core.LinearProgram(other, highs_only=True)
    with pytest.raises(Trouble) as caught:
        program.maximize(COST, ROWS, LOWER)
    assert caught.value is raised
    assert program.maximize(COST, ROWS, LOWER)[2] == "optimal"


def test_shapes_are_checked(program):
    with pytest.raises(ValueError, match="rows"):
        program.maximize(np.ones(3), np.ones((2, 2)), np.zeros(2))
    with pytest.raises(ValueError, match="rows"):
        program.maximize(np.ones(2), np.ones((2, 2)), np.zeros(3))
