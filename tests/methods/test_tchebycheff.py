"""The maximum of r∘l: smoothed, and as a game whose average is what is promised."""

import copy

import pytest
import torch
from method_cases import X, relative_error, sgd

from pyfront import MirrorTchebycheff, SmoothTchebycheff
from pyfront.problems import QuadraticProblem


def test_smooth_tchebycheff_descends_on_the_smooth_maximum(two_heads):
    params = list(two_heads.parameters())
    opt = SmoothTchebycheff(sgd(params), [0.6, 0.2], smoothing=0.3)
    opt.backward(two_heads.losses(X))
    value = 0.3 * torch.logsumexp(
        torch.tensor([1.5, 0.5]) * torch.stack(two_heads.losses(X)) / 0.3, dim=0
    )
    for p, g in zip(params, torch.autograd.grad(value, params), strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-5, atol=1e-6)


def test_smooth_tchebycheff_nears_the_ray_as_it_sharpens():
    problem, r, errors = QuadraticProblem(3), [1.0, 1.1, 1.2], []
    for smoothing in (0.1, 0.01):
        theta = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
        opt = SmoothTchebycheff(sgd([theta], 0.02), r, smoothing=smoothing)
        for _ in range(400):
            opt.step(problem.losses(theta))
        errors.append(relative_error(problem.losses(theta), problem.point(r)))
    assert errors[1] < 5e-3 and 5 * errors[1] < errors[0]


@pytest.mark.parametrize("r", [[0.5, 0.5], [1.0, 1.3]])
def test_the_average_of_mirror_descent_nears_the_point_that_the_iterates_circle(r):
    """Two losses without curvature: r₁ (1 − x) = r₂ (1 + x) at the least of their maximum."""
    x = torch.nn.Parameter(torch.tensor([0.7], dtype=torch.float64))
    model, swing = torch.nn.ParameterList([x]), 0.0
    average = torch.optim.swa_utils.AveragedModel(model)
    opt = MirrorTchebycheff(sgd([x], 0.5 / 20), r, rate=1 / 20)
    point = (r[0] - r[1]) / (r[0] + r[1])
    for step in range(400):  # 1/√400 = 1/20
        opt.step([abs(x - 1).sum(), abs(x + 1).sum()])
        average.update_parameters(model)
        swing = max(swing, abs(x.item() - point)) if step >= 300 else 0.0
    assert abs(average.module[0].item() - point) < 0.1 * swing and swing > 0.5


def test_the_average_of_mirror_descent_is_at_the_point_of_the_preference():
    problem, r = QuadraticProblem(3), [1.0, 1.1, 1.2]
    theta = torch.nn.Parameter(torch.tensor([0.9, 0.2, 0.1], dtype=torch.float64))
    model = torch.nn.ParameterList([theta])
    average = torch.optim.swa_utils.AveragedModel(model)
    opt = MirrorTchebycheff(sgd([theta], 0.1), r, rate=0.3)
    for step in range(700):
        opt.step(problem.losses(theta))
        if step >= 200:
            average.update_parameters(model)
    (mean,) = average.module
    assert relative_error(problem.losses(mean), problem.point(r)) < 5e-3


def test_a_preference_of_one_call_leaves_the_multipliers_and_is_answered_without_them():
    def own_weights(between):
        x = torch.nn.Parameter(torch.tensor([1.0, 1.5], dtype=torch.float64))
        opt = MirrorTchebycheff(sgd([x], 0.0), [0.6, 0.4], rate=0.3)
        losses = lambda: [(x - 1.2).square().sum(), (x + 1).square().sum()]  # noqa: E731
        for _ in range(5):
            opt.step(losses())
        memory = copy.deepcopy(opt.memory)
        for r in between:
            weights = opt.step(losses(), preference=r).weights
            assert opt.memory == memory
            fresh = MirrorTchebycheff(sgd([x], 0.0), r, rate=0.3)
            assert torch.equal(weights, fresh.step(losses()).weights)
        return [opt.step(losses()).weights.tolist() for _ in range(2)]

    assert own_weights([[0.9, 0.1], [0.1, 0.9]]) == own_weights([])
