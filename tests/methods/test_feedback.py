"""The preference by feedback: exact end points, stable gains, rays out of reach, state."""

import copy
import math

import pytest
import torch
from method_cases import X, relative_error, sgd

from pyfront import PreferenceFeedback
from pyfront.control import stable_gains
from pyfront.problems import ConcaveProblem, QuadraticProblem


def train(problem, start, r, base, lr, steps, **options):
    theta = torch.nn.Parameter(start.clone())
    opt = PreferenceFeedback(base([theta], lr=lr), r, **options)
    losses = torch.stack([opt.step(problem.losses(theta)).losses for _ in range(steps)])
    return losses, opt, theta


@pytest.mark.parametrize("r", [[0.5, 0.5], [0.7, 0.3], [0.2, 0.8]])
def test_it_ends_exactly_on_the_concave_front(r):
    problem = ConcaveProblem(n=20)
    options = {"averaging": 0.0, "integral": 0.3}
    losses, opt, _ = train(problem, problem.start(seed=3, width=2.5), r, sgd, 0.1, 400, **options)
    assert relative_error(losses[-1], problem.point(r)) < 1e-4
    assert opt.report.status == "ok" and opt.report.non_uniformity < 1e-8


@pytest.mark.parametrize("num_tasks", [2, 3, 5])
def test_it_ends_exactly_for_many_tasks_with_averaging_and_adam(num_tasks):
    problem = QuadraticProblem(num_tasks)
    r = [1.0 + 0.01 * j for j in range(num_tasks)]
    start = torch.linspace(0.8, 0.1, num_tasks, dtype=torch.float64)
    options = {"proportional": 2.0, "integral": 0.1, "averaging": 0.5}
    losses, _, _ = train(problem, start, r, torch.optim.Adam, 0.003, 900, **options)
    assert relative_error(losses[-1], problem.point(r)) < 5e-3


def test_the_proportional_part_alone_is_a_norm_and_stops_beside_the_ray():
    """w ∝ r exp(k z) ∝ r (r l)^k is the gradient of the (k+1)-norm of r∘l."""
    problem, r = QuadraticProblem(3), torch.tensor([1.0, 1.1, 1.2], dtype=torch.float64)
    options = {"proportional": 2.0, "integral": 0.0, "averaging": 0.0, "floor": 0.0}
    losses, opt, theta = train(problem, torch.zeros(3).double(), r, sgd, 0.3, 200, **options)
    weights = r * (r * losses[-1]) ** 2
    torch.testing.assert_close(opt.report.weights, weights / weights.sum(), rtol=1e-9, atol=0)
    norm = (r * problem.losses(theta)).pow(3).sum()
    assert torch.autograd.grad(norm, theta)[0].abs().max() < 1e-6
    assert relative_error(losses[-1], problem.point(r.tolist())) > 1e-3


# ------------------------------------------------------------------------------------ stable gains


def measured_rate(problem, theta, base, lr):
    """The largest relative change that a step makes to a loss that has all the weight."""
    changes = []
    for task in range(problem.num_tasks):
        x = torch.nn.Parameter(theta.detach().clone())
        before = problem.losses(x)[task]
        opt = base([x], lr=lr)
        before.backward()
        opt.step()
        changes.append(abs(problem.losses(x)[task] / before - 1).item())
    return max(changes)


CONCAVE = (ConcaveProblem(n=20), ConcaveProblem(n=20).start(seed=3), [0.7, 0.3])
QUADRATIC = (QuadraticProblem(5), torch.linspace(0.8, 0.1, 5).double(), [1, 1.02, 1.04, 1.06, 1.08])


@pytest.mark.parametrize(
    ("case", "base", "lr", "momentum", "averaging"),
    [
        (CONCAVE, sgd, 0.03, 0.0, 0.0),
        (CONCAVE, torch.optim.Adam, 0.003, 0.9, 0.0),
        (QUADRATIC, sgd, 0.3, 0.0, 0.0),
        (QUADRATIC, sgd, 0.03, 0.0, 0.9),
    ],
    ids=["concave-sgd", "concave-adam", "quadratic-sgd", "quadratic-averaged"],
)
def test_gains_within_the_rule_settle_and_far_beyond_it_swing(case, base, lr, momentum, averaging):
    problem, start, r = case
    _, _, theta = train(problem, start, r, sgd, 0.03, 300, averaging=0.0)
    rate = measured_rate(problem, theta, base, lr)
    gains = stable_gains(rate, averaging=averaging, momentum=momentum)
    target = problem.point(r)

    def worst_of_the_end(factor):
        options = {
            "proportional": factor * gains.proportional,
            "integral": factor**2 * gains.integral,
            "averaging": averaging,
        }
        losses, _, _ = train(problem, start, r, base, lr, 600, **options)
        return max(relative_error(row, target) for row in losses[-30:])

    settled, swinging = worst_of_the_end(1.0), worst_of_the_end(16.0)
    assert settled < 2e-2 < swinging


def test_the_rule_scales_with_learning_rate_and_delay():
    k, i = stable_gains(0.1, averaging=0.0)
    assert (k, i) == (5.0, pytest.approx(0.625))
    assert stable_gains(0.01, averaging=0.0).proportional == pytest.approx(10 * k)
    assert stable_gains(0.1, averaging=0.9).proportional == pytest.approx(k / 10)
    assert stable_gains(0.1, averaging=0.9, momentum=0.9).proportional == pytest.approx(k / 19)
    for bad in ({"rate": 0.0}, {"rate": math.nan}, {"rate": 1.0, "averaging": 1.0}):
        with pytest.raises(ValueError, match="rate|averaging"):
            stable_gains(**bad)


@pytest.mark.parametrize("last", [0.0, 0.1, 0.01])
@pytest.mark.parametrize("case", [CONCAVE, QUADRATIC], ids=["concave", "quadratic"])
@pytest.mark.parametrize("gains", ["scheduled", "fixed"])
def test_a_learning_rate_that_decays_needs_no_other_gains(case, last, gains):
    """Falls from the middle on, in a line to 0 or in one step."""
    problem, start, r = case
    theta = torch.nn.Parameter(start.clone())
    options = {"proportional": 2.0, "integral": 0.03, "averaging": 0.8, "gains": gains}
    opt = PreferenceFeedback(sgd([theta], 0.1), r, **options)
    errors, target = [], problem.point(r)
    for step in range(800):
        fall = 1.0 if step < 400 else last or (800 - step) / 400
        opt.param_groups[0]["lr"] = 0.1 * fall
        losses = opt.step(problem.losses(theta)).losses
        errors.append(relative_error(losses, target))
    assert max(errors[400:]) < 5e-3


# ------------------------------------------------------------------------------ rays out of reach


def floored(x, floor=0.5):
    """Two losses of two parameters; the first cannot fall below `floor`."""
    return [(x[0] - 1) ** 2 + floor, x[0] ** 2 + x[1] ** 2]


def test_a_ray_out_of_reach_is_reported_and_the_end_is_on_the_front():
    x = torch.nn.Parameter(torch.tensor([0.2, 1.0], dtype=torch.float64))
    # l₁ ≥ 0.5 and l₂ ≤ 1 on the front, but the ray asks for l₂ = 10 l₁
    opt = PreferenceFeedback(sgd([x], 0.1), [10.0, 1.0], averaging=0.0, floor=0.3)
    statuses = [opt.step(floored(x)).status for _ in range(1200)]
    assert statuses[0] == "ok" and set(statuses) == {"ok", "unreachable"}
    assert statuses[-1] == "unreachable"
    nearest = 1.0 / torch.stack(floored(x.detach()))
    torch.testing.assert_close(
        opt.report.reachable_preference, nearest / nearest.sum(), rtol=1e-3, atol=0.0
    )
    assert (x - torch.tensor([1.0, 0.0])).abs().max() < 5e-2  # the end of the front: min of l₁


def test_the_integral_does_not_wind_up():
    x = torch.nn.Parameter(torch.tensor([0.2, 1.0], dtype=torch.float64))
    opt = PreferenceFeedback(sgd([x], 0.1), [10, 1], averaging=0.0, integral=0.1, floor=1e-6)
    for _ in range(1200):
        opt.step(floored(x))
    assert opt.report.status == "unreachable"
    assert min(opt.memory["integral"]) > 0.9 * opt.floor / 11
    for _ in range(400):  # the floor is gone: the ray meets the front
        report = opt.step(floored(x, 1e-3))
    assert report.status == "ok" and report.non_uniformity < 1e-4


def test_a_large_floor_keeps_training_what_would_be_given_up():
    ends = {}
    for floor in (1e-4, 0.3):
        x = torch.nn.Parameter(torch.tensor([0.2, 1.0], dtype=torch.float64))
        opt = PreferenceFeedback(sgd([x], 0.1), [2.0, 1.0], averaging=0.0, floor=floor)
        for _ in range(300):
            report = opt.step(floored(x))
        ends[floor] = report.losses.sum().item()
        assert (report.weights >= 0.999 * floor * torch.tensor([2 / 3, 1 / 3])).all()
    assert ends[0.3] < ends[1e-4]


# ----------------------------------------------------------------------- state, scalers, bad input


def test_a_checkpoint_resumes_bit_for_bit(two_heads):
    def make(model):
        base = torch.optim.Adam(model.parameters(), lr=0.01)
        return PreferenceFeedback(base, [0.7, 0.3], weight_smoothing=0.5)

    opt = make(two_heads)
    for _ in range(5):
        opt.step(two_heads.losses(X))
    twin = copy.deepcopy(two_heads)
    other = make(twin)
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    for _ in range(5):
        first, second = opt.step(two_heads.losses(X)), other.step(twin.losses(X))
        assert torch.equal(first.weights, second.weights)
    assert opt.memory == other.memory
    for p, q in zip(two_heads.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)


def test_bad_input_is_named_and_changes_nothing(two_heads):
    base = sgd(two_heads.parameters(), 0.1)
    for options, message in [
        ({"proportional": -1.0}, "proportional = -1"),
        ({"integral": math.nan}, "integral = nan"),
        ({"averaging": 1.0}, "averaging = 1.0"),
        ({"floor": -0.1}, "floor = -0.1"),
        ({"unit": [1.0, 0.0]}, r"unit\[1\] = 0"),
        ({"offset": [math.inf, 0.0]}, r"offset\[0\] = inf"),
    ]:
        with pytest.raises(ValueError, match=message):
            PreferenceFeedback(base, [0.5, 0.5], **options)
    with pytest.raises(ValueError, match=r"preference\[0\] = 0"):
        PreferenceFeedback(base, [0.0, 1.0])
    opt = PreferenceFeedback(base, [0.5, 0.5])
    opt.step(two_heads.losses(X))
    memory = copy.deepcopy(opt.memory)
    a, b = two_heads.losses(X)
    with pytest.raises(ValueError, match=r"losses\[1\] = .*feedback compares ratios.*offset="):
        opt.step([a, b - 100])
    torch.autograd.grad(b, list(two_heads.heads[1].parameters()))
    with pytest.raises(ValueError, match="freed"):
        opt.step([a, b])
    assert opt.memory == memory


def test_units_are_only_a_change_of_variables():
    x = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    plain = PreferenceFeedback(sgd([x], 0.1), [0.6, 0.4]).backward([x[0] ** 2, x[1] ** 2])
    direction = x.grad.clone()
    opt = PreferenceFeedback(sgd([x], 0.1), [0.6, 0.4], offset=[-3, 0], unit=[1, 10])
    report = opt.backward([x[0] ** 2 - 3, 10 * x[1] ** 2])
    torch.testing.assert_close(x.grad, direction)
    assert report.non_uniformity == pytest.approx(plain.non_uniformity)


def test_zero_losses_are_stationary():
    x = torch.nn.Parameter(torch.zeros(3))
    report = PreferenceFeedback(sgd([x], 0.1), [0.2, 0.8]).step([(x**2).sum(), (x**4).sum()])
    assert report.status == "stationary" and report.weights.tolist() == pytest.approx([0.2, 0.8])


def test_a_ray_out_of_reach_is_reported_between_decisions_too():
    def run(steps, opt, x):
        return [opt.step(floored(x)).status for _ in range(steps)]

    def make(x):
        options = {"averaging": 0.0, "floor": 0.3, "every": 3}
        return PreferenceFeedback(sgd([x], 0.1), [10.0, 1.0], **options)

    x = torch.nn.Parameter(torch.tensor([0.2, 1.0], dtype=torch.float64))
    opt = make(x)
    statuses = run(1201, opt, x)
    first = statuses.index("unreachable")
    assert first % 3 == 0 and first >= 3 * 99  # 100 decisions, and a decision says so first
    assert set(statuses[first:]) == {"unreachable"}
    twin = torch.nn.Parameter(x.detach().clone())
    other = make(twin)
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert run(2, other, twin) == ["unreachable"] * 2  # neither of them decides
    opt.preference = [1.0, 1.0]
    assert run(1, opt, x) == ["ok"]
