"""EPO weights at the edges: scales, zeros, what is not finite, and the fallbacks."""

from __future__ import annotations

import numpy as np
import pytest
from epo_cases import EPSILON, SIZES, cost_scale, instance, solve
from oracles import epo_program

from pyfront.backend import _core
from pyfront.backend.highs import Highs


@pytest.fixture(scope="module")
def solver():
    return _core.EpoSolver(Highs())


@pytest.mark.parametrize("m", SIZES)
def test_zero_losses_are_ordinary(solver, m):
    rng = np.random.default_rng(m)
    for zeros in range(1, m):
        losses, gramian, preference = instance(rng, m)
        losses[rng.permutation(m)[:zeros]] = 0.0
        expected = epo_program(losses, gramian, preference, EPSILON, "restricted")
        _, phase, status, mu, objective = solve(solver, losses, gramian, preference)
        assert (phase, status) == ("balance", "ok")
        assert mu == pytest.approx(expected.non_uniformity, rel=1e-12)
        assert objective == pytest.approx(
            expected.objective, rel=1e-8, abs=1e-8 * cost_scale(gramian, expected)
        )


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e-8, 1e8, 1e30, 1e300])
@pytest.mark.parametrize("mode", ["balance", "restricted", "relaxed"])
def test_the_scale_of_the_gramian_changes_nothing(solver, mode, scale):
    rng = np.random.default_rng(10)
    for m in SIZES:
        losses, gramian, preference = instance(rng, m, "shared", balanced=mode != "balance")
        plain = solve(solver, losses, gramian, preference, mode)
        scaled = solve(solver, losses, scale * gramian, preference, mode)
        assert scaled[1:4] == plain[1:4]
        np.testing.assert_allclose(scaled[0], plain[0], atol=1e-9)
        assert scaled[4] == pytest.approx(scale * plain[4], rel=1e-8)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e-8, 1e8, 1e30, 1e300])
def test_the_scale_of_losses_and_preference_changes_nothing(solver, scale):
    rng = np.random.default_rng(11)
    for m in SIZES:
        losses, gramian, preference = instance(rng, m)
        losses, preference = losses / losses.max(), preference / preference.max()
        plain = solve(solver, losses, gramian, preference)
        for other in [(scale * losses, preference), (losses, scale * preference)]:
            scaled = solve(solver, other[0], gramian, other[1])
            assert scaled[1:3] == plain[1:3]
            assert scaled[3] == pytest.approx(plain[3], rel=1e-12)
            assert scaled[4] == pytest.approx(plain[4], rel=1e-8)
            np.testing.assert_allclose(scaled[0], plain[0], atol=1e-9)


def test_one_task(solver):
    weights, phase, status, mu, objective = solve(solver, [2.0], [[3.0]], [0.1])
    assert (weights.tolist(), phase, status, mu) == ([1.0], "descent", "ok", 0.0)
    assert objective == pytest.approx(3.0)


def test_nothing_to_lower_is_stationary(solver):
    rng = np.random.default_rng(14)
    losses, gramian, preference = instance(rng, 4)
    none = np.zeros((4, 4))
    for arguments in [(np.zeros(4), gramian), (losses, none), (np.zeros(4), none)]:
        weights, phase, status, mu, objective = solve(solver, *arguments, preference)
        assert status == "stationary"
        assert weights.tolist() == [0.25] * 4
        assert objective == 0.0
        assert phase == ("balance" if mu > EPSILON else "descent")


def test_zero_weights_are_exact(solver):
    """The ends of the simplex are legal and come out exact."""
    weights = solve(solver, [1.0, 0.1], np.eye(2), [0.5, 0.5])[0]
    assert weights.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["losses", "gramian", "preference"])
def test_what_is_not_finite_is_not_solved(solver, where, value):
    arguments = dict(
        zip(
            ["losses", "gramian", "preference"], instance(np.random.default_rng(15), 3), strict=True
        )
    )
    arguments[where].flat[1] = value
    weights, _, status, mu, objective = solver.solve(**arguments, epsilon=EPSILON, restricted=True)
    assert status == "nonfinite"
    assert np.isnan([*weights, mu, objective]).all()


def test_an_infeasible_restriction_falls_back_to_relaxed(solver):
    rng = np.random.default_rng(16)
    reached = 0
    for _ in range(3000):
        losses, gramian, preference = instance(rng, 3, "plain")
        expected = epo_program(losses, gramian, preference, 10.0, "restricted")
        progress = gramian @ expected.adjustments
        if progress.max() >= 0.0 or expected.weights is not None:
            continue
        reached += 1
        _, phase, status, _, objective = solve(solver, losses, gramian, preference, epsilon=10.0)
        assert (phase, status) == ("descent", "fallback_relaxed")
        relaxed = epo_program(losses, gramian, preference, 10.0, "relaxed")
        assert objective == pytest.approx(relaxed.objective, rel=1e-8)
        if reached == 5:
            return
    pytest.fail("no instance of an infeasible restriction was found")


@pytest.mark.parametrize(
    ("losses", "gramian", "phase"),
    [
        ([1.0, 1.0], [[1.0, -2.0], [-2.0, 1.0]], "descent"),
        ([1.0, 0.1], [[-1.0, -1.0], [-1.0, 1.0]], "balance"),
    ],
)
def test_without_any_program_the_weights_are_min_norm(solver, losses, gramian, phase):
    """Only a matrix that is no Gramian leaves no feasible point; it must still be said."""
    preference = np.array([0.5, 0.5])
    answer = solve(solver, losses, gramian, preference)
    assert answer[1:3] == (phase, "fallback_min_norm")
    expected = epo_program(np.array(losses), np.array(gramian), preference, EPSILON, "relaxed")
    assert expected.weights is None
    cost = np.array(gramian) @ (expected.adjustments if phase == "balance" else np.ones(2))
    np.testing.assert_array_equal(answer[0], _core.min_norm(gramian)[0])
    assert answer[4] == pytest.approx(answer[0] @ cost)


def test_the_answer_depends_on_the_input_alone(solver):
    rng = np.random.default_rng(17)
    instances = [instance(rng, int(m), "shared", bool(m % 2)) for m in rng.integers(2, 25, 50)]
    first = [solve(solver, *arguments) for arguments in instances]
    again = [solve(solver, *arguments) for arguments in instances[::-1]][::-1]
    for arguments, one, two in zip(instances, first, again, strict=True):
        three = solve(_core.EpoSolver(Highs()), *arguments)
        assert one[1:] == two[1:] == three[1:]
        assert one[0].tobytes() == two[0].tobytes() == three[0].tobytes()
