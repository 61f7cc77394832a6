"""Walks along a front: fewer steps to the same points, and what happens where a run fails."""

import numpy as np
import pytest
import torch

import pyfront
from pyfront import Solution, SweepError
from pyfront.problems import ConcaveProblem, QuadraticProblem

PREFERENCES = [[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]


def walk(problem, counts):
    """EPO until it is within 0.01 of the closed form; counts its steps."""

    def train(preference, start):
        theta = torch.nn.Parameter(start.clone())
        base = torch.optim.SGD([theta], lr=0.1)
        opt = pyfront.EPO(base, preference, epsilon="adaptive")
        target = problem.point(preference)
        counts.append(0)
        while counts[-1] < 1000:
            losses = opt.step(problem.losses(theta)).losses
            if (losses - target).abs().max() < 0.01:
                break
            counts[-1] += 1
        losses = losses.tolist()
        return Solution(method="EPO", preference=preference, train_losses=losses), theta.detach()

    return train


@pytest.mark.parametrize(
    ("problem", "width", "spread"),
    [
        (ConcaveProblem(n=20), 2.0, 0.25),
        (ConcaveProblem(n=20), 3.0, 0.25),
        (QuadraticProblem(3, n=10), 1.0, 0.05),
    ],
)
def test_a_walk_needs_fewer_steps_than_cold_starts_and_ends_at_the_same_points(
    problem, width, spread
):
    shifts = spread * np.linspace(-1.0, 1.0, 9)[:, None]
    middle = np.full(problem.num_tasks, 1.0 / problem.num_tasks)
    preferences = middle + shifts * np.eye(len(middle))[0] - shifts * np.eye(len(middle))[1]
    start = problem.start(seed=1, width=width)
    traced, cold = [], []
    front = pyfront.trace(walk(problem, traced), preferences, start=start, progress=False)
    for preference in preferences:
        pyfront.trace(walk(problem, cold), [preference], start=start, progress=False)
    for solution, preference in zip(front, preferences, strict=True):
        assert solution.preference == tuple(preference)
        np.testing.assert_allclose(solution.train_losses, problem.point(preference), atol=0.01)
    assert max(traced + cold) < 1000  # all have arrived
    assert traced[0] == cold[0]  # nothing to start from but the start
    assert sum(traced) < 0.75 * sum(cold)


def test_a_walk_hands_on_the_state_and_stops_where_a_run_fails():
    seen = []

    def train(preference, start):
        seen.append((start, torch.initial_seed()))
        if preference == (0.9, 0.1):
            raise ValueError("lost")
        solution = Solution(method="a", preference=preference, train_losses=[1.0, 2.0])
        return solution, preference

    with pytest.raises(SweepError) as caught:
        pyfront.trace(train, [*PREFERENCES, [0.3, 0.7]], start="here", progress=False)
    assert [start for start, _ in seen] == ["here", (0.2, 0.8), (0.5, 0.5)]
    assert len({seed for _, seed in seen}) == 3
    assert [s.preference for s in caught.value.front] == [(0.2, 0.8), (0.5, 0.5)]
    (failure,) = caught.value.failures
    assert failure.preference == (0.9, 0.1) and "ValueError: lost" in failure.reason
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(SweepError, match=r"expected \(solution, state\)"):
        pyfront.trace(lambda preference, start: None, PREFERENCES, progress=False)
