"""Projections onto the dual cone against nonnegative least squares and their optimality system."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from migration_oracles import onto_dual_cone
from samplers import SAMPLERS

from pyfront.backend import _core
from pyfront.backend.solvers import dual_cone

PRECISE = [name for name in SAMPLERS if name not in ("nearly_duplicated", "scaled_columns")]


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


SIZES = (1, 2, 3, 4, 8, 20, 40)
CASES = [  # with 40 tasks its gradients lie nearer together than float64 tells: see the next test
    (family, m)
    for family in SAMPLERS
    for m in SIZES
    if (family, m) not in (("scaled_columns", 40), ("almost_opposite", 20))  # J cancels
]


@pytest.mark.parametrize(("family", "m"), CASES)
def test_every_projection_meets_its_optimality_system(family, m):
    jacobian = SAMPLERS[family](np.random.default_rng([1, m]), m)
    loose = family in ("nearly_duplicated", "scaled_columns")
    weights = assert_optimal(jacobian, np.eye(m), 1e-6 if loose else 1e-11)
    if loose or m > 20:
        return
    for v, gradient in zip(weights, jacobian, strict=True):
        expected = onto_dual_cone(jacobian, gradient)
        assert np.linalg.norm(jacobian.T @ v - expected) <= 1e-7 * np.linalg.norm(gradient)


def test_what_rounding_does_not_let_it_solve_is_not_called_ok():
    statuses = set()
    for seed in range(12):
        jacobian = SAMPLERS["scaled_columns"](np.random.default_rng([seed, 40]), 40)
        weights, _, status = _core.dual_cone(gramian_of(jacobian), np.eye(40))
        norms = np.linalg.norm(jacobian, axis=1)
        slopes = (gramian_of(jacobian) @ weights.T) / norms[:, None]
        violated = (slopes < -1e-5 * (weights @ norms)).any()
        assert status == "iteration_limit" or not violated
        statuses.add(status)
    assert "ok" in statuses


@settings(max_examples=200, deadline=None)
@given(family=st.sampled_from(PRECISE), m=st.integers(1, 24), seed=st.integers(0, 2**32 - 1))
def test_optimality_property(family, m, seed):
    rng = np.random.default_rng([seed, m])
    jacobian = SAMPLERS[family](rng, m)
    assert_optimal(jacobian, rng.random((2, m)) * (rng.random((2, m)) < 0.7), 1e-9)


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
