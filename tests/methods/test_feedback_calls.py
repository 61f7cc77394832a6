"""Preferences of a call by feedback: no memory, one or several, zeros, a generator that follows."""

import copy

import pytest
import torch
from method_cases import X, relative_error, sgd

from pyfront import PreferenceFeedback
from pyfront.problems import ConcaveProblem


def test_a_preference_of_a_call_keeps_no_memory_and_is_proportional():
    x = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    opt = PreferenceFeedback(sgd([x], 0.0), [0.5, 0.5], proportional=2.0, floor=0.0)
    opt.step([x[0] ** 2, x[1] ** 2])
    memory = copy.deepcopy(opt.memory)
    r = torch.tensor([0.9, 0.1], dtype=torch.float64)
    report = opt.step([x[0] ** 2, x[1] ** 2], preference=r)
    weights = r * (r * torch.tensor([1.0, 4.0])) ** 2
    torch.testing.assert_close(report.weights, weights / weights.sum())
    assert opt.memory == memory
    opt.preference = [0.9, 0.1]
    opt.step([x[0] ** 2, x[1] ** 2])
    assert opt.memory["towards"] == [0.9, 0.1] and opt.memory["counts"] == [2, 2]


def test_several_preferences_of_a_call_have_their_own_weights():
    x = torch.nn.Parameter(torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64))
    units = {"offset": [-1.0, 0.0], "unit": [1.0, 4.0]}
    opt = PreferenceFeedback(sgd([x], 0.1), [0.5, 0.5], proportional=2.0, **units)
    memory = copy.deepcopy(opt.memory)
    table = torch.tensor([[0.9, 0.1], [2.0, 6.0], [0.5, 0.5]], dtype=torch.float64)

    def losses(k):
        return [(x[k] - 1) ** 2, x[k] ** 2 + x[0]]

    alone, direction = [], torch.zeros_like(x)
    for k, r in enumerate(table):
        alone.append(opt.backward(losses(k), preference=r))
        direction += x.grad / len(table)
    together = opt.backward([loss for k in range(3) for loss in losses(k)], preference=table)
    weights = torch.cat([report.weights for report in alone]) / len(table)
    torch.testing.assert_close(together.weights, weights)
    torch.testing.assert_close(x.grad, direction)
    mean = sum(report.non_uniformity for report in alone) / len(table)
    assert together.non_uniformity == pytest.approx(mean)
    assert opt.memory == memory


def test_a_zero_entry_of_a_call_is_the_limit_and_leaves_the_task_out():
    x = torch.nn.Parameter(torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64))
    opt = PreferenceFeedback(sgd([x], 0.1), [1.0, 1.0, 1.0], proportional=5.0)
    limit = opt.backward(x**2, preference=[0.6, 0.4, 1e-9])
    end = opt.backward(x**2, preference=[0.6, 0.4, 0.0])
    torch.testing.assert_close(end.weights, limit.weights, rtol=1e-6, atol=1e-6)
    assert end.weights[2] == 0.0 and end.weights.sum().item() == pytest.approx(1.0)
    assert end.non_uniformity > 0.1
    corner = opt.backward(x**2, preference=[0.0, 1.0, 0.0])
    assert corner.weights.tolist() == [0.0, 1.0, 0.0] and corner.non_uniformity == 0.0


def test_preferences_of_a_call_that_do_not_fit_are_named(two_heads):
    opt = PreferenceFeedback(sgd(two_heads.parameters(), 0.1), [0.5, 0.5])
    memory = copy.deepcopy(opt.memory)
    for preference, message in [
        ([[0.5, 0.5], [0.5, 0.5]], "preference: has 4 entries for 2 losses, expected one for each"),
        ([0.2, 0.3, 0.5], "preference: expected 2 values"),
        ([[0.5, 0.25, 0.25]], r"preference\[0\]: expected 2 values"),
        ([[0.5, -0.5]], r"preference\[0\]\[1\] = -0.5"),
        ([[0.0, 0.0]], r"preference\[0\]: at least one entry"),
        ([0.0, 0.0], "preference: at least one entry"),
        (torch.ones(1, 1, 2), "preference: expected a list"),
    ]:
        with pytest.raises(ValueError, match=message):
            opt.step(two_heads.losses(X), preference=preference)
    assert opt.memory == memory and two_heads.trunk.weight.grad is None
    with pytest.raises(ValueError, match=r"losses\[2\] = -1"):
        losses = torch.stack(two_heads.losses(X)).repeat(2)
        shift = torch.tensor([0.0, 0.0, 1.0, 0.0]) * (losses.detach() + 1)
        opt.step(losses - shift, preference=[[0.5, 0.5], [0.5, 0.5]])


def test_a_generator_that_is_trained_with_it_follows_the_preference():
    problem = ConcaveProblem(n=5)
    net = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 5))
    base = torch.optim.Adam(net.parameters(), lr=0.01)
    opt = PreferenceFeedback(base, [0.5, 0.5], proportional=10.0)
    for _ in range(400):
        r = 0.15 + 0.7 * torch.rand(())
        r = torch.stack([r, 1 - r])
        opt.step(problem.losses(net(r)), preference=r)
    for r in ([0.3, 0.7], [0.7, 0.3]):
        losses = problem.losses(net(torch.tensor(r))).detach()
        assert relative_error(losses, problem.point(r)) < 0.3


def test_zeros_of_a_call_do_not_count_as_tasks():
    """Left out, as in the limit, however many they are: the clip at ±3 sees the others alone."""
    x = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    weights = []
    for zeros in (0, 18, 62, 500):
        losses = [4 * x.sum(), x.sum(), *[x.sum()] * zeros]
        opt = PreferenceFeedback(sgd([x], 0.1), [1.0] * len(losses), proportional=3.0, floor=1e-6)
        weights.append(opt.backward(losses, preference=[0.5, 0.5, *[0.0] * zeros]).weights)
        assert weights[-1][2:].tolist() == [0.0] * zeros
    for other in weights[1:]:
        torch.testing.assert_close(other[:2], weights[0])
    assert weights[0][0].item() == pytest.approx(64 / 65, rel=1e-5)  # (4 : 1)³
