"""What is wrong on one rank is the same error on all, and nothing has changed."""

import distributed_faults as cases
import pytest
from launch import launch


@pytest.fixture(scope="module")
def found():
    return launch(cases.faults, 2)


@pytest.mark.parametrize("fault", cases.FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_on_one_rank_is_one_error_on_all(fault, found):
    kind, words = cases.FAULTS[fault]
    first, second = (errors[fault] for errors in found)
    assert first == second
    assert first[0] is kind and words in first[1]
    assert first[2]


def test_under_a_gradient_scaler_no_rank_makes_the_step():
    for found in launch(cases.scaled, 2):
        assert found == [("nonfinite", True, 2.0)] * 3


@pytest.mark.parametrize("fault", [cases.dies, cases.never_calls], ids=lambda f: f.__name__)
def test_a_rank_that_does_not_arrive_is_named_as_the_cause(fault):
    text, nothing = launch(fault, 2, timeout=4)
    assert nothing is None
    assert "the other processes did not arrive at this step" in text and "timeout" in text
