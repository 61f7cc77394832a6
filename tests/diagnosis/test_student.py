"""Quantiles of Student's t against SciPy's."""

import pytest
from scipy.stats import t

from pyfront.diagnosis.student import student_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 31, 100])
@pytest.mark.parametrize("tail", [0.5, 0.3, 0.025, 1e-3, 1e-5])
def test_quantiles_are_those_of_scipy(freedom, tail):
    assert student_quantile(tail, freedom) == pytest.approx(
        t.isf(tail, freedom), rel=1e-6, abs=1e-9
    )
