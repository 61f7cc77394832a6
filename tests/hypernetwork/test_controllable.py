"""Training one network for every preference: what the methods make of it."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import pyfront
from pyfront import preferences
from pyfront.functional import gramian as gramian_of
from pyfront.functional import min_norm_weights
from pyfront.methods._regions import alternating
from pyfront.problems import SineProblem


class Point(nn.Module):
    """A main network that is nothing but the parameters of problem (22)."""

    def __init__(self):
        super().__init__()
        self.problem = SineProblem(n=10)
        self.theta = nn.Parameter(0.3 * torch.randn(10))

    def forward(self):
        return self.problem.losses(self.theta)


def curve_after(wrap, options, steps=400):
    """The losses at 21 preferences, from one end of the front to the other, after training."""
    torch.manual_seed(0)
    net = pyfront.HyperNetwork(Point(), 2, plain=True)
    base = torch.optim.Adam(net.parameters(), lr=8e-3)
    opt = wrap(base)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(base, steps)
    for _ in range(steps):
        p = preferences.sample(2, 1)[0]
        opt.step(net(preference=p), **options(p))
        schedule.step()
    with torch.no_grad():
        return torch.stack(net(preference=preferences.circle(21).flip(1)))


def test_the_literal_problem_of_the_paper_maps_every_preference_to_one_point():
    vectors = preferences.circle(2)
    one_problem = curve_after(  # eq. (8) to (12): losses and active constraints together
        lambda base: pyfront.ParetoMTL(base, vectors, 0, warmup_steps=0),
        lambda p: {"reference_vectors": preferences.decompose(p, 3)},
    )
    front = SineProblem(n=10).front(501).float()
    assert torch.cdist(one_problem, front).min(dim=1).values.max() < 0.05  # Pareto optimal, and
    assert torch.cdist(one_problem, one_problem).max() < 0.3  # nearly one point of the front
    separated = curve_after(
        lambda base: pyfront.ParetoMTL(base, vectors, 0, schedule="alternating"),
        lambda p: {"reference_vectors": preferences.decompose(p, 10)},
    )
    assert torch.cdist(separated, separated).max() > 0.8
    assert torch.cdist(separated, front).min(dim=1).values.max() < 0.2


def test_epo_trains_a_curve_that_follows_the_preference():
    curve = curve_after(lambda base: pyfront.EPO(base, [1, 1]), lambda p: {"preference": p})
    angles = torch.rad2deg(torch.atan2(curve[:, 1], curve[:, 0]))
    assert (angles - torch.linspace(0, 90, 21)).abs().mean() < 10.0
    assert torch.cdist(curve, SineProblem(n=10).front(501).float()).min(dim=1).values.max() < 0.2


def instance(generator, tasks, blocks):
    """Gradients of `blocks` times `tasks` losses, the losses, and distinct directions."""
    gradients = torch.randn(blocks * tasks, 30, dtype=torch.float64, generator=generator)
    losses = torch.rand(blocks * tasks, dtype=torch.float64, generator=generator)
    vectors = torch.rand(blocks + 2, tasks, dtype=torch.float64, generator=generator)
    vectors = (vectors / vectors.norm(dim=1, keepdim=True)).numpy()
    return gradients, losses.numpy(), vectors


@pytest.mark.parametrize("tasks", [2, 3, 6])
@pytest.mark.parametrize("seed", range(8))
def test_every_active_constraint_and_every_loss_inside_its_region_falls(tasks, seed):
    generator = torch.Generator().manual_seed(seed)
    count = 3
    gradients, losses, vectors = instance(generator, tasks, count)
    vectors = vectors[:count]
    report = alternating(losses, gramian_of(gradients).numpy(), vectors, None)
    direction = gradients.T @ report.weights
    square = direction.dot(direction).item()
    rows = gradients.reshape(count, tasks, -1)
    outside = 0
    for k in range(count):
        away = np.delete(vectors, k, axis=0) - vectors[k]
        active = away[away @ losses[k * tasks : (k + 1) * tasks] >= 0.0]
        outside += len(active) > 0
        wanted = torch.from_numpy(active) @ rows[k] if len(active) else rows[k]
        assert (wanted @ direction).min().item() >= square * (1.0 - 1e-9) - 1e-12
    assert report.phase == ("feasibility" if outside else "convergence")


def test_one_subproblem_is_a_feasibility_step_or_mgda():
    gradients = torch.randn(2, 20, dtype=torch.float64)
    c = gramian_of(gradients).numpy()
    vectors = preferences.circle(3).numpy()
    inside = alternating(np.array([1.0, 1.1]), c, vectors, 1)
    torch.testing.assert_close(inside.weights, min_norm_weights(c)[0])
    outside = alternating(np.array([0.1, 1.0]), c, vectors, 1)
    expected = pyfront.functional.pareto_mtl_weights([0.1, 1.0], c, vectors, 1, phase="feasibility")
    torch.testing.assert_close(outside.weights, expected.weights)
    assert (inside.phase, outside.phase) == ("convergence", "feasibility")
    opposite = alternating(np.ones(2), np.zeros((2, 2)), vectors, 1)
    assert opposite.status == "stationary"


def test_several_preferences_in_one_step():
    net = pyfront.HyperNetwork(Point(), 2, plain=True)
    base = torch.optim.SGD(net.parameters(), lr=0.1)
    p = preferences.sample(2, 3, torch.Generator().manual_seed(0))
    losses = torch.cat(net(preference=p))
    opt = pyfront.ParetoMTL(base, preferences.circle(3), None, schedule="alternating")
    report = opt.backward(losses, reference_vectors=preferences.to_reference_vectors(p))
    assert report.weights.shape == (6,) and report.gramian.shape == (6, 6)

    linear = pyfront.LinearScalarization(base, [1.0] * 6)
    linear.backward(torch.cat(net(preference=p)), preference=p.flatten())
    together = net.generator.projection.weight.grad.clone()
    apart = torch.zeros_like(together)
    for one in p:
        linear.backward(net(preference=one), preference=one)
        apart += net.generator.projection.weight.grad
    torch.testing.assert_close(together, apart)


def test_epo_takes_one_preference_a_step():
    net = pyfront.HyperNetwork(Point(), 2, plain=True)
    opt = pyfront.EPO(torch.optim.SGD(net.parameters(), lr=0.1), [1, 1])
    p = preferences.sample(2, 3)
    with pytest.raises(ValueError, match=r"preference: expected a list of numbers, .* \[3, 2\]"):
        opt.step(torch.cat(net(preference=p)), preference=p)
    assert all(q.grad is None for q in net.parameters())


def test_numbers_of_losses_and_schedules_that_do_not_fit():
    x = nn.Parameter(torch.ones(2))
    base, vectors = torch.optim.SGD([x], lr=0.1), preferences.circle(3)
    with pytest.raises(ValueError, match="index = None: needs schedule"):
        pyfront.ParetoMTL(base, vectors, None)
    with pytest.raises(ValueError, match="schedule = 'random'"):
        pyfront.ParetoMTL(base, vectors, 0, schedule="random")
    opt = pyfront.ParetoMTL(base, vectors, None, schedule="alternating")
    with pytest.raises(ValueError, match="expected 6, one per entry of all reference vectors"):
        opt.step([x[0] ** 2, x[1] ** 2])
    assert x.grad is None


def test_decompose_puts_the_preference_first():
    generator = torch.Generator().manual_seed(0)
    u = preferences.decompose([0.8, 0.6], 200, generator)
    assert u.shape == (201, 2) and u.dtype == torch.float64
    torch.testing.assert_close(u[0], torch.tensor([0.6, 0.8], dtype=torch.float64))
    torch.testing.assert_close(u.norm(dim=1), torch.ones(201, dtype=torch.float64))
    angles = torch.atan2(u[1:, 1], u[1:, 0]) / (math.pi / 2)
    assert angles.min() >= 0.0 and angles.max() <= 1.0 and abs(angles.mean() - 0.5) < 0.1
    for r, end in (([1, 0], [0, 1]), ([1, 0, 0], [0, 0.5**0.5, 0.5**0.5]), ([2, 1, 0], [0, 0, 1])):
        found = preferences.decompose(r, 1)[0]
        torch.testing.assert_close(found, torch.tensor(end, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"preference\[1\] = -1"):
        preferences.decompose([1, -1], 3)
    with pytest.raises(ValueError, match="k = 0"):
        preferences.decompose([1, 1], 0)
