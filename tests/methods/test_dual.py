"""Steps on multipliers."""

import numpy as np
import pytest

from pyfront.methods._dual import onto_simplex, step_length


def test_a_projection_is_the_nearest_point_of_the_simplex():
    rng = np.random.default_rng(0)
    for m in (1, 2, 5, 20):
        v = 3 * rng.normal(size=m)
        w = onto_simplex(v)
        assert abs(w.sum() - 1) < 1e-12 and (w >= 0).all()
        others = rng.dirichlet(np.ones(m), size=100)
        assert (((others - w) @ (v - w)) <= 1e-9).all()  # the variational inequality


def lengths(slopes, rate=0.2):
    pace, found = None, []
    for slope in slopes:
        length, pace = step_length(rate, np.asarray(slope, dtype=float), pace)
        found.append(length)
    return np.array(found)


@pytest.mark.parametrize("factor", [1e-12, 1.0, 1e12])
def test_the_length_does_not_depend_on_scale(factor):
    slopes = np.random.default_rng(0).normal(size=(50, 3))
    plain, scaled = lengths(slopes), lengths(factor * slopes)
    np.testing.assert_allclose(scaled * factor, plain, rtol=1e-12)


def test_no_step_is_longer_than_the_rate_and_none_back_than_a_third():
    slopes = np.random.default_rng(1).normal(size=(400, 1)) * np.logspace(3, -3, 400)[:, None]
    steps = lengths(slopes)[:, None] * slopes
    assert np.abs(steps).max() <= 0.2 * (1 + 1e-12)
    back = np.sign(slopes[1:, 0]) != np.sign(slopes[:-1, 0])
    assert np.abs(steps[1:, 0][back]).max() <= 0.2 * 0.31


def test_slopes_that_agree_lengthen_the_step_and_those_that_turn_do_not():
    first = [[1e3, 0.0]]
    same = lengths(first + 1500 * [[1.0, 0.0]])
    turning = lengths(first + 750 * [[1.0, 0.0], [-1.0, 0.0]])
    assert same[-1] > 30 * same[1] and turning[-1] < turning[1]
    noise = np.random.default_rng(2).normal(size=(3000, 2))
    found = lengths(noise)
    assert 0.1 < found[-1] / (0.2 / np.sqrt(4 * 3000)) < 10  # not frozen, not let loose: AdaGrad


def test_zero_slopes_are_ordinary():
    assert lengths([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]]).tolist() == [0.0, 0.0, 0.04]
    assert np.isfinite(lengths([[1e-200, 0.0], [1e-200, 0.0], [1e-300, 0.0]])).all()
