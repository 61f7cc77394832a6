"""Projections onto the dual cone against nonnegative least squares and their optimality system."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from migration_oracles import onto_dual_cone
from samplers import SAMPLERS

from pyfront.backend import _core
from pyfront.backend.solvers import dual_cone


def gramian_of(jacobian):
    product = jacobian @ jacobian.T
    return (product + product.T) / 2


def assert_optimal(jacobian, floors, tolerance):
    """v ≥ u, Jd ≥ 0 and (v − u) ∘ Jd = 0, up to a part of the gradients' own size."""
    norms = np.linalg.norm(jacobian, axis=1)
    units = jacobian / np.where(norms > 0, norms, 1.0)[:, None]
    answers = dual_cone(gramian_of(jacobian), floors)
    assert answers.status == "ok" and answers.gap >= 0.0
    for u, v in zip(floors, answers.weights, strict=True):
        size = float(v @ norms)
        slopes = units @ (jacobian.T @ v)
        assert (v >= u).all()
        assert (slopes >= -tolerance * size).all()
        assert (np.abs((v - u) * norms * slopes) <= tolerance * size**2).all()
    return answers.weights


@pytest.mark.parametrize("m", (1, 2, 3, 4, 8, 20, 40))
@pytest.mark.parametrize("family", SAMPLERS)
def test_every_projection_meets_its_optimality_system(family, m):
    jacobian = SAMPLERS[family](np.random.default_rng([1, m]), m)
    weights = assert_optimal(jacobian, np.eye(m), 1e-13)
    if m > 20 or family in ("almost_opposite", "scaled_columns"):
        return  # where a change of J at its last bit moves the projection itself
    for v, gradient in zip(weights, jacobian, strict=True):
        expected = onto_dual_cone(jacobian, gradient)
        assert np.linalg.norm(jacobian.T @ v - expected) <= 1e-7 * np.linalg.norm(gradient)


@settings(max_examples=300, deadline=None)
@given(family=st.sampled_from(list(SAMPLERS)), m=st.integers(1, 24), seed=st.integers(0, 2**32 - 1))
# gradients that depend on others within the rounding of C, and whose pivot is rounding alone
@example(family="almost_opposite", m=3, seed=901218)
@example(family="rank_deficient", m=4, seed=3451387452)
@example(family="rank_deficient", m=20, seed=2243211108)
@example(family="scaled_columns", m=23, seed=644984676)
def test_optimality_property(family, m, seed):
    rng = np.random.default_rng([seed, m])
    jacobian = SAMPLERS[family](rng, m)
    assert_optimal(jacobian, rng.random((2, m)) * (rng.random((2, m)) < 0.7), 1e-13)


@pytest.mark.parametrize("closeness", [1e-4, 1e-7, 1e-8, 1e-9, 1e-15, 0.0])
def test_weights_are_bounded_where_gradients_all_but_cancel(closeness):
    rng = np.random.default_rng(3)
    jacobian = rng.standard_normal((3, 5))
    jacobian[1] = -jacobian[0] * (1.0 + closeness * rng.standard_normal(5))
    norms = np.linalg.norm(jacobian, axis=1)
    weights = assert_optimal(jacobian, np.eye(3), 1e-13)
    ridge = 4 * 3 * 2.0**-53
    for v, norm in zip(weights, norms, strict=True):
        assert (v @ norms) <= norm * (1 + 2 * np.sqrt(3 / ridge))
        assert ((jacobian @ (jacobian.T @ v)) / norms >= -np.sqrt(ridge) * norm).all()


@pytest.mark.parametrize("error", [1e-15, 1e-12, 1e-8, 1e-6])
@pytest.mark.parametrize("family", SAMPLERS)
def test_a_gramian_with_errors_gets_finite_weights_and_an_honest_status(family, error):
    statuses = []
    for seed in range(60):  # as engine="columns" makes it in float32
        rng = np.random.default_rng([seed, 3])
        jacobian = SAMPLERS[family](rng, int(rng.integers(1, 13)))
        norms = np.linalg.norm(jacobian, axis=1)
        noise = rng.standard_normal((len(norms), len(norms)))
        c = gramian_of(jacobian) + error * np.outer(norms, norms) * (noise + noise.T) / 2
        weights, gap, status = _core.dual_cone(c, np.eye(len(norms)))
        statuses.append(status)
        assert np.isfinite(weights).all() and (weights >= np.eye(len(norms))).all()
        units = np.where(norms > 0, norms, 1.0)
        slopes = (c @ weights.T) / units[:, None]
        size = weights @ norms
        if status == "ok":
            assert np.isfinite(gap) and (slopes >= -(1e-6 + 4 * error) * size).all()
    assert statuses.count("ok") >= (58 if error < 1e-6 else 0)  # 1e-6 is what "ok" stands for


def test_a_gramian_that_is_indefinite_by_rounding_is_solved():
    off = -(1.0 + 2e-15)
    weights, _, status = _core.dual_cone(np.array([[1.0, off], [off, 1.0]]), np.eye(2))
    assert status == "ok"
    np.testing.assert_allclose(weights, 1.0)


def test_lengths_may_be_far_apart():
    c = np.diag([1e200, 1e-180, 1e-180])
    c[1, 2] = c[2, 1] = -0.9e-180
    weights, _, status = _core.dual_cone(c, np.eye(3))
    assert status == "ok"
    np.testing.assert_allclose(weights, [[1, 0, 0], [0, 1, 0.9], [0, 0.9, 1]], rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_does_not_matter(scale):
    jacobian = SAMPLERS["correlated"](np.random.default_rng(0), 5)
    plain = _core.dual_cone(gramian_of(jacobian), np.eye(5))[0]
    scaled = _core.dual_cone(gramian_of(scale * jacobian), np.eye(5))[0]
    np.testing.assert_allclose(scaled, plain, rtol=1e-12, atol=1e-15)


def test_wrong_shapes_are_refused():
    for shape in ((2, 3), (2,)):
        with pytest.raises(ValueError, match="floors"):
            _core.dual_cone(np.eye(2), np.zeros(shape))
