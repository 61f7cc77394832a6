"""Constant weights in place of feedback: where they end, and where there are none."""

import pytest
import torch

from pyfront import LinearScalarization, PreferenceFeedback
from pyfront.control.suggestion import KEPT
from pyfront.problems import ConcaveProblem, QuadraticProblem


def train(problem, make, start, steps, lr=0.05):
    theta = torch.nn.Parameter(start.clone())
    opt = make(torch.optim.SGD([theta], lr=lr))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps)
    for _ in range(steps):
        opt.step(problem.losses(theta))
        schedule.step()
    return opt, problem.losses(theta.detach())


def off_the_ray(losses, r):
    relative = torch.tensor(r, dtype=torch.float64) * losses
    return (relative / relative.mean() - 1).abs().max().item()


@pytest.mark.parametrize("r", [[1.0, 1.1, 1.2], [1.0, 1.0, 0.8], [1.0, 1.02, 1.04, 1.06, 1.08]])
def test_training_with_them_ends_within_five_percent_of_the_ray(r):
    problem = QuadraticProblem(len(r), scales=[1.0 + 0.1 * j for j in range(len(r))])
    r = [value / scale for value, scale in zip(r, problem.scales.tolist(), strict=True)]
    start = torch.linspace(0.8, 0.1, len(r)).double()
    opt, losses = train(problem, lambda base: PreferenceFeedback(base, r), start, 2000)
    assert off_the_ray(losses, r) < 0.02
    weights, holds = opt.suggest_weights()
    assert holds and weights.sum() == pytest.approx(1.0)
    _, losses = train(problem, lambda base: LinearScalarization(base, weights), start, 2000)
    assert off_the_ray(losses, r) < 0.05


def test_a_concave_front_that_the_run_has_seen_is_told():
    problem, r = ConcaveProblem(n=2), [0.5, 0.5]
    start = problem.front(2)[0] * 0 + 0.69  # near the end of the front where l₁ = 0
    opt, losses = train(problem, lambda base: PreferenceFeedback(base, r), start, 1500)
    assert off_the_ray(losses, r) < 0.05
    weights, holds = opt.suggest_weights()
    assert not holds
    _, losses = train(problem, lambda base: LinearScalarization(base, weights), start, 1500)
    assert off_the_ray(losses, r) > 0.5  # it leaves for an end


def test_what_is_kept_of_a_run_does_not_grow():
    x = torch.nn.Parameter(torch.tensor([0.2]))
    opt = PreferenceFeedback(torch.optim.SGD([x], lr=0.0), [0.8, 0.2])
    for _ in range(5 * KEPT):
        opt.backward([(x - 1).square().sum(), (x + 1).square().sum()])
        assert len(opt.memory["visited"]) <= KEPT
    assert opt.memory["stride"] == 8 and opt.memory["decisions"] == 5 * KEPT
