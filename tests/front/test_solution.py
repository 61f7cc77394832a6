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
        ({"train_losses": {"1": 2.0}}, r"tasks\[0\] = '1': expected a name, got a number"),
        ({"train_losses": {"a": 2.0, "b": "x"}}, r"train_losses\[1\] = 'x'"),
        ({"train_losses": {}}, "expected a sequence of names"),
        ({"test_losses": {"a": 1.0, "b": 2.0}}, "test_losses = .*: expected one value for each of"),
        ({"tasks": ["a"]}, "tasks: 1 names for 2 tasks"),
        ({"tasks": ["a", " "]}, r"tasks\[1\] = ' ': expected a name"),
        ({"tasks": "ab"}, "tasks = 'ab': expected a sequence of names"),
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


def test_numbers_by_task_are_put_in_the_order_of_the_losses():
    s = Solution(
        method="a",
        train_losses={"segmentation": 0.2, "depth": 0.4},
        test_losses={"depth": 0.5, "segmentation": 0.3},
        preference={"depth": 1.0, "segmentation": 2.0},
    )
    assert s.tasks == ("segmentation", "depth")
    assert (s.train_losses, s.test_losses, s.preference) == ((0.2, 0.4), (0.3, 0.5), (2.0, 1.0))
    again = Solution(method="a", tasks=["depth", "x"], train_losses={"x": 1.0, "depth": 2.0})
    assert again.train_losses == (2.0, 1.0)


def test_it_prints_what_makes_it_again():
    s = Solution(method="a", train_losses=[1 / 3, 2.0], metrics={"n": 3}, tasks=["b", "c"])
    text = "Solution(method='a', train_losses=(0.3333333333333333, 2.0), metrics={'n': 3.0}, "
    assert repr(s) == text + "tasks=('b', 'c'))"
    assert eval(repr(s)) == s
