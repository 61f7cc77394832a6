"""EPO weights: the paper's program and its guarantees, as far as they hold."""

from __future__ import annotations

import numpy as np
import pytest
from epo_cases import EPSILON, GRAMIANS, SIZES, cost_scale, instance, solve
from oracles import epo_program

from pyfront.backend import _core
from pyfront.backend.highs import Highs


@pytest.fixture(scope="module")
def solver():
    return _core.EpoSolver(Highs())


@pytest.mark.parametrize("kind", GRAMIANS)
@pytest.mark.parametrize("m", SIZES)
@pytest.mark.parametrize("mode", ["balance", "restricted", "relaxed"])
def test_objective_equals_scipys(solver, mode, m, kind):
    rng = np.random.default_rng(100 * m + GRAMIANS.index(kind))
    descent = "relaxed" if mode == "relaxed" else "restricted"
    for _ in range(4):
        losses, gramian, preference = instance(rng, m, kind, balanced=mode != "balance")
        expected = epo_program(losses, gramian, preference, EPSILON, descent)
        _, phase, status, mu, objective = solve(solver, losses, gramian, preference, descent)
        assert phase == expected.phase == ("balance" if mode == "balance" else "descent")
        assert mu == pytest.approx(expected.non_uniformity, rel=1e-9, abs=1e-15)
        if expected.weights is None:
            assert mode == "restricted"
            assert status == "fallback_relaxed"
            expected = epo_program(losses, gramian, preference, EPSILON, "relaxed")
        else:
            assert status == "ok"
        scale = cost_scale(gramian, expected)
        assert objective == pytest.approx(expected.objective, rel=1e-8, abs=1e-8 * scale)


@pytest.mark.parametrize("kind", GRAMIANS)
@pytest.mark.parametrize("m", SIZES)
def test_guarantees_of_balance(solver, m, kind):
    rng = np.random.default_rng(m)
    for _ in range(6):
        losses, gramian, preference = instance(rng, m, kind)
        weights, phase, _, mu, objective = solve(solver, losses, gramian, preference)
        expected = epo_program(losses, gramian, preference, EPSILON, "restricted")
        assert phase == "balance"
        along = gramian @ weights  # task j falls at this rate
        tolerance = 1e-8 * gramian.diagonal().max()
        assert (along[expected.dominant] >= -tolerance).all()
        if not expected.decreasing:
            assert (along >= -tolerance).all()
        # γ* = −dμ/dη · Σ r_j l_j: where it is clearly positive, μ falls (Theorem 1, Lemma 2)
        if objective > 1e-6 * cost_scale(gramian, expected):
            step = 1e-6 * losses.min() / np.abs(along).max()
            assert _core.non_uniformity(losses - step * along, preference) < mu
        # Theorem 2: a dominant task whose row is not tight falls, and with it the admissible set
        for j in expected.dominant:
            if along[j] > 1e-6 * gramian.diagonal().max():
                assert (losses - 1e-6 * losses.min() / np.abs(along).max() * along)[j] < losses[j]


@pytest.mark.parametrize("kind", GRAMIANS)
@pytest.mark.parametrize("descent", ["restricted", "relaxed"])
def test_descent_raises_no_loss(solver, descent, kind):
    """Lemma 1."""
    rng = np.random.default_rng(7)
    for m in SIZES:
        losses, gramian, preference = instance(rng, m, kind, balanced=True)
        weights, phase, status, _, _ = solve(solver, losses, gramian, preference, descent)
        assert phase == "descent"
        assert status in {"ok", "fallback_relaxed"}
        assert (gramian @ weights >= -1e-8 * gramian.diagonal().max()).all()


def test_the_restriction_holds_and_costs_something(solver):
    rng = np.random.default_rng(8)
    lower = 0
    for _ in range(100):
        losses, gramian, preference = instance(rng, 5, "shared", balanced=True)
        weights, _, status, _, restricted = solve(solver, losses, gramian, preference)
        relaxed = solve(solver, losses, gramian, preference, "relaxed")[4]
        assert status == "ok"
        expected = epo_program(losses, gramian, preference, EPSILON, "restricted")
        progress = gramian @ expected.adjustments
        assert weights @ progress >= min(progress.max(), 0.0) - 1e-8 * np.abs(progress).max()
        assert restricted <= relaxed * (1 + 1e-9)
        lower += restricted < relaxed * (1 - 1e-6)
    assert lower > 10


def test_adjustments_are_perpendicular_to_the_losses():
    """aᵀl = 0 (18) in the oracle that the solver agrees with, zero losses included."""
    rng = np.random.default_rng(9)
    for m in SIZES:
        losses, gramian, preference = instance(rng, m)
        losses[: m // 2] = 0.0
        a = epo_program(losses, gramian, preference, EPSILON, "relaxed").adjustments
        assert abs(a @ losses) <= 1e-14 * m * losses.max()


@pytest.mark.parametrize("mode", ["balance", "restricted", "relaxed"])
def test_the_order_of_the_tasks_does_not_matter(solver, mode):
    rng = np.random.default_rng(12)
    for m in SIZES:
        losses, gramian, preference = instance(rng, m, "shared", balanced=mode != "balance")
        order = rng.permutation(m)
        plain = solve(solver, losses, gramian, preference, mode)
        moved = solve(solver, losses[order], gramian[np.ix_(order, order)], preference[order], mode)
        assert moved[1:3] == plain[1:3]
        assert moved[4] == pytest.approx(plain[4], rel=1e-9)


def test_tied_dominant_tasks_all_descend(solver):
    """r_j l_j equal up to rounding: both rows of J* must hold."""
    rng = np.random.default_rng(13)
    both_matter = 0
    for _ in range(100):
        _, gramian, preference = instance(rng, 4)
        losses = np.array([1.0, 1.0 + 1e-14, 0.3, 0.2]) / preference
        expected = epo_program(losses, gramian, preference, EPSILON, "restricted")
        assert expected.dominant == [0, 1]
        weights, _, _, _, objective = solve(solver, losses, gramian, preference)
        assert (gramian[:2] @ weights >= -1e-8 * gramian.diagonal().max()).all()
        assert objective == pytest.approx(
            expected.objective, rel=1e-8, abs=1e-8 * cost_scale(gramian, expected)
        )
        apart = np.array([1.0, 1.0 - 1e-6, 0.3, 0.2]) / preference
        free = solve(solver, apart, gramian, preference)[4]
        both_matter += free > objective * (1 + 1e-4)
    assert both_matter > 0


@pytest.mark.parametrize("m", SIZES)
def test_equal_relative_losses_are_pure_descent(solver, m):
    """On the ray μ = 0 and a = 0: restricted is relaxed, no rounding noise becomes a row."""
    rng = np.random.default_rng(m)
    for _ in range(10):
        _, gramian, preference = instance(rng, m, "shared")
        losses = 0.7 / preference
        restricted = solve(solver, losses, gramian, preference, "restricted", epsilon=0.0)
        if restricted[1] == "balance":  # μ is one rounding above 0
            assert restricted[3] < 1e-15
        restricted = solve(solver, losses, gramian, preference, "restricted")
        relaxed = solve(solver, losses, gramian, preference, "relaxed")
        assert restricted[1:] == relaxed[1:]
        assert np.array_equal(restricted[0], relaxed[0])


@pytest.mark.parametrize("m", [1, *SIZES])
def test_non_uniformity(m):
    rng = np.random.default_rng(m)
    for _ in range(20):
        losses, _, preference = instance(rng, m)
        losses[rng.random(m) < 0.3] = 0.0
        losses[0] = 1.0
        share = preference * losses / (preference @ losses)
        expected = sum(s * np.log(m * s) for s in share if s > 0)
        assert _core.non_uniformity(losses, preference) == pytest.approx(expected, abs=1e-14)
    assert _core.non_uniformity(1.0 / preference, preference) < 1e-15
    assert _core.non_uniformity(np.zeros(m), preference) == 0.0
    alone = np.eye(m)[0]
    assert _core.non_uniformity(alone, preference) == pytest.approx(np.log(m))
    assert np.isnan(_core.non_uniformity(np.full(m, np.nan), preference))
