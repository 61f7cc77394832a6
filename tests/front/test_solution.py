"""What a solution accepts."""

import math

import numpy as np
import pytest

from pyfront.front.solution import Solution


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"train_losses": [1.0, math.nan]}, r"train_losses\[1\] = nan"),
        ({"train_losses": []}, "train_losses: expected at least one"),
        ({"train_losses": "12"}, "train_losses = '12'"),
        ({"train_losses": [1.0, True]}, r"train_losses\[1\] = True"),
        ({"test_losses": [1.0]}, "test_losses: 1 values for 2 tasks"),
        ({"test_losses": [1.0, math.inf]}, r"test_losses\[1\] = inf"),
        ({"preference": [0.5, -0.1]}, r"preference\[1\] = -0.1"),
        (
            {"preference": [0.0, 0.0]},
            r"preference = \(0.0, 0.0\): expected at least one",
        ),
        ({"train_losses": ["1", 2.0]}, r"train_losses\[0\] = '1': expected a number"),
        ({"train_losses": {"1": 2.0}}, r"train_losses = {'1': 2.0}: expected a sequence"),
        ({"preference": [0.5]}, "preference: 1 values for 2 tasks"),
        ({"metrics": {"accuracy": math.nan}}, r"metrics\['accuracy'\] = nan"),
        ({"metrics": [1]}, r"metrics = \[1\]"),
        ({"method": None}, "method = None"),
        ({"checkpoint": 3}, "checkpoint = 3"),
    ],
)
def test_a_solution_checks_what_it_is_given(keywords, message):
    with pytest.raises(ValueError, match=message):
        Solution(**({"method": "EPO", "train_losses": [1.0, 2.0]} | keywords))


def test_numbers_become_floats_and_nothing_can_change_them():
    given = np.array([1, 2], dtype=np.float32)
    s = Solution(method="a", train_losses=given, preference=[1, 0], metrics={"n": np.int64(3)})
    given[0] = 9.0
    assert s.train_losses == (1.0, 2.0)
    assert s.preference == (1.0, 0.0)
    assert type(s.metrics["n"]) is float
    with pytest.raises(AttributeError):
        s.method = "b"


def test_losses_of_a_split():
    s = Solution(method="a", train_losses=[1.0], test_losses=[2.0])
    assert (s.losses("train"), s.losses("test")) == ((1.0,), (2.0,))
    with pytest.raises(ValueError, match="split = 'valid': expected 'train' or 'test'"):
        s.losses("valid")
