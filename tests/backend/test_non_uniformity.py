"""Non-uniformity against exact shares, over the whole range of float64."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfront import functional


def exact_non_uniformity(losses, preference):
    """μ = Σ_j l̂_j log(m l̂_j), the shares l̂ as fractions."""
    products = [Fraction(loss) * Fraction(r) for loss, r in zip(losses, preference, strict=True)]
    total = sum(products)
    if total == 0:
        return 0.0
    terms = []
    for product in products:
        share = product / total
        if float(share) > 0.0:
            terms.append(float(share) * log(len(products) * share))
    return math.fsum(terms)


def log(ratio):
    """The logarithm of a fraction; that of numerator less denominator would cancel."""
    return math.log1p(float(ratio - 1)) if 0.5 < ratio < 2 else math.log(float(ratio))


@pytest.mark.parametrize(
    "losses, preference, expected",
    [
        ([1e300, 1e-300], [1e-300, 1e300], 0.0),
        ([1e200, 1e-200], [1e-200, 1e200], 0.0),
        ([1.7e308, 5e-324], [5e-324, 1.7e308], 0.0),
        ([5e-324, 5e-324], [5e-324, 5e-324], 0.0),
        ([1.0, 1e-160], [1e-170, 1.0], math.log(2)),
        ([1.7e308, 1.7e308, 0.0], [1.7e308, 1.7e308, 1.0], math.log(1.5)),
        ([0.0, 0.0], [1e-300, 1e300], 0.0),
    ],
)
def test_extremes(losses, preference, expected):
    found = functional.non_uniformity(losses, preference)
    assert found == pytest.approx(expected, rel=1e-8, abs=1e-15)
    assert found == pytest.approx(exact_non_uniformity(losses, preference), rel=1e-13, abs=1e-15)


positive = st.floats(min_value=0.0, exclude_min=True, allow_infinity=False)
pairs = st.lists(
    st.tuples(st.floats(min_value=0.0, allow_infinity=False), positive), min_size=1, max_size=6
)


@given(pairs=pairs)
def test_any_losses_and_preferences(pairs):
    losses, preference = (list(values) for values in zip(*pairs, strict=True))
    found = functional.non_uniformity(losses, preference)
    assert found == pytest.approx(exact_non_uniformity(losses, preference), rel=1e-12, abs=1e-14)
    assert 0.0 <= found <= math.log(len(losses)) * (1 + 1e-15)


@pytest.mark.parametrize("descent", ["restricted", "relaxed"])
def test_decisions_see_a_ray_that_spans_the_range(descent):
    report = functional.epo_weights(
        [1e300, 1e-300], [[1.0, 0.2], [0.2, 1.0]], [1e-300, 1e300], descent=descent
    )
    assert (report.phase, report.non_uniformity) == ("descent", 0.0)
