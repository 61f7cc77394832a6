"""The known fronts are fronts: on the surface that `losses` spans, exact, and not dominated."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyfront.problems import ConcaveProblem, QuadraticProblem, SineProblem

positive = st.floats(1e-3, 1e3)


def gradients(problem, theta):
    theta = theta.clone().requires_grad_()
    losses = problem.losses(theta)
    return torch.stack([torch.autograd.grad(x, theta, retain_graph=True)[0] for x in losses])


@pytest.mark.parametrize("scales", [(1.0, 1.0), (2.0, 1.0), (50.0, 1.0)])
@pytest.mark.parametrize("n", [1, 2, 20])
def test_concave_losses_are_the_equation(n, scales):
    theta = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    losses = ConcaveProblem(n=n, scales=scales).losses(theta).tolist()
    for loss, scale, sign in zip(losses, scales, (-1.0, 1.0), strict=True):
        square = sum((t + sign / math.sqrt(n)) ** 2 for t in theta.tolist())
        assert loss == pytest.approx(scale * (1.0 - math.exp(-square)), rel=1e-14)


@pytest.mark.parametrize("n", [1, 20])
def test_concave_front_is_reached_by_losses_and_stationary(n):
    problem = ConcaveProblem(n=n, scales=(10.0, 1.0))
    for s, expected in zip(torch.linspace(-1.0, 1.0, 9).tolist(), problem.front(9), strict=True):
        theta = torch.full((n,), s / math.sqrt(n), dtype=torch.float64)
        torch.testing.assert_close(problem.losses(theta), expected, rtol=1e-7, atol=1e-7)
        one, two = gradients(problem, theta)
        if abs(s) < 1.0:  # opposite gradients: no direction lowers both losses
            assert torch.dot(one, two) == pytest.approx(-(one.norm() * two.norm()).item())


@given(st.integers(0, 10_000), st.floats(0.0, 3.0))
def test_nothing_dominates_the_concave_front(seed, width):
    problem = ConcaveProblem(n=3)
    losses = problem.losses(problem.start(seed=seed, width=width))
    dominated = (losses < problem.front(400) - 1e-12).all(dim=1)
    assert not dominated.any()


@given(positive, positive, positive)
def test_concave_point_is_on_its_ray_and_on_the_front(r1, r2, scale):
    problem = ConcaveProblem(scales=(scale, 1.0))
    point = problem.point([r1, r2])
    relative = point * torch.tensor([r1, r2], dtype=torch.float64)
    torch.testing.assert_close(relative[0], relative[1], rtol=1e-9, atol=0.0)
    distances = -torch.log1p(-point / problem.scales)  # (1 − s)², (1 + s)²
    assert distances.sqrt().sum().item() == pytest.approx(2.0, abs=1e-9)


def test_the_front_is_concave():
    left, middle, right = ConcaveProblem().front(3)
    assert (middle > 0.5 * (left + right)).all()


@pytest.mark.parametrize("tasks", [2, 3, 5, 10])
def test_quadratic_point_solves_its_own_conditions(tasks):
    generator = torch.Generator().manual_seed(tasks)
    for _ in range(50):
        weights = torch.rand(tasks, generator=generator, dtype=torch.float64)
        weights /= weights.sum()
        scales = (0.1 + torch.rand(tasks, generator=generator, dtype=torch.float64)).tolist()
        problem = QuadraticProblem(tasks, n=tasks + 3, scales=scales)
        theta = torch.cat([weights, torch.zeros(3, dtype=torch.float64)])
        expected = problem.losses(theta)
        found = problem.point((1.0 / expected).tolist())
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
        multipliers = weights / problem.scales  # Σ λ_j g_j = 0 at a Pareto point
        assert (multipliers @ gradients(problem, theta)).abs().max() < 1e-14


@given(positive, positive)
def test_two_quadratics_meet_every_ray(r1, r2):
    point = QuadraticProblem(2).point([r1, r2])
    assert (point[0] * r1).item() == pytest.approx((point[1] * r2).item(), rel=1e-12)
    assert point.sqrt().sum().item() == pytest.approx(1.0, abs=1e-9)  # √l₁ + √l₂ = ‖e₁ − e₂‖/√2


@pytest.mark.parametrize("tasks", [2, 3, 6])
def test_quadratic_front_is_not_dominated(tasks):
    front = QuadraticProblem(tasks).front(64)
    assert front.shape == (64, tasks)
    for point in front:
        assert not ((front <= point).all(dim=1) & (front < point).any(dim=1)).any()
    assert torch.equal(front, QuadraticProblem(tasks).front(64))


def test_a_ray_that_misses_the_front_is_refused():
    with pytest.raises(ValueError, match="misses the front"):
        QuadraticProblem(3).point([1.0, 1.0, 0.01])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ConcaveProblem(n=0), "n = 0"),
        (lambda: ConcaveProblem(scales=(1.0, 0.0)), r"scales\[1\] = 0:"),
        (lambda: ConcaveProblem().front(1), "k = 1"),
        (lambda: ConcaveProblem().point([0.5, math.nan]), r"preference\[1\] = nan"),
        (lambda: ConcaveProblem().point([0.5]), "expected 2 values"),
        (lambda: QuadraticProblem(1), "num_tasks = 1"),
        (lambda: QuadraticProblem(3, n=2), "n = 2"),
        (lambda: QuadraticProblem(2).point([-1.0, 1.0]), r"preference\[0\] = -1:"),
    ],
)
def test_errors_name_the_argument_and_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "problem", [ConcaveProblem(n=4), QuadraticProblem(3, n=4), SineProblem(n=4)]
)
def test_losses_follow_the_dtype_of_theta(problem):
    theta = problem.start(seed=3).float()
    assert problem.losses(theta).dtype == torch.float32
    assert torch.equal(problem.start(seed=3), problem.start(seed=3))
    assert not torch.equal(problem.start(seed=3), problem.start(seed=4))


@pytest.mark.parametrize("n", [2, 10])
def test_sine_losses_are_the_equation(n):
    theta = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    first, *rest = theta.tolist()
    away = sum((t - math.sin(5.0 * first)) ** 2 for t in rest) / (n - 1)
    expected = [
        1.0 - math.exp(-((first - 1.0) ** 2) - away),
        1.0 - math.exp(-((first + 1.0) ** 2)),
    ]
    assert SineProblem(n=n).losses(theta).tolist() == pytest.approx(expected, rel=1e-14)
    several = SineProblem(n=n).losses(torch.stack([theta, 0.0 * theta]))
    torch.testing.assert_close(several[0], SineProblem(n=n).losses(theta))


def test_sine_front_is_reached_by_losses_and_not_dominated():
    problem = SineProblem(n=10)
    front = problem.front(9)
    for s, expected in zip(torch.linspace(-1.0, 1.0, 9).tolist(), front, strict=True):
        theta = torch.full((10,), math.sin(5.0 * s), dtype=torch.float64)
        theta[0] = s
        torch.testing.assert_close(problem.losses(theta), expected, rtol=1e-7, atol=1e-7)
    generator = torch.Generator().manual_seed(0)
    anywhere = problem.losses(torch.randn(20000, 10, dtype=torch.float64, generator=generator))
    for point in front:
        assert not (anywhere < point - 1e-12).all(dim=1).any()
    with pytest.raises(ValueError, match="n = 1"):
        SineProblem(n=1)
