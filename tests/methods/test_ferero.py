"""FERERO: onto a ray, into constraints, and from any start."""

import copy
import math

import pytest
import torch
from method_cases import X, relative_error, sgd

from pyfront import FERERO
from pyfront.problems import ConcaveProblem, QuadraticProblem


@pytest.mark.parametrize("r", [[0.5, 0.5], [0.7, 0.3]])
def test_ferero_ends_on_the_ray_of_the_concave_front(r):
    problem = ConcaveProblem(n=20)
    theta = torch.nn.Parameter(problem.start(seed=3))
    opt = FERERO(sgd([theta], 0.05), r, gain=2.0)
    for _ in range(700):
        opt.step(problem.losses(theta))
    assert relative_error(problem.losses(theta), problem.point(r)) < 1e-2


def test_ferero_ends_on_the_ray_for_many_tasks():
    problem, r = QuadraticProblem(5), [1.0, 1.02, 1.04, 1.06, 1.08]
    theta = torch.nn.Parameter(torch.linspace(0.8, 0.1, 5, dtype=torch.float64))
    opt = FERERO(sgd([theta], 0.1), r)
    for _ in range(600):
        opt.step(problem.losses(theta))
    assert relative_error(problem.losses(theta), problem.point(r)) < 1e-2


def test_ferero_meets_linear_constraints():
    """l₁ = 0.1 on the segment between the corners: ‖θ − e₁‖² = 0.2, so θ = (1 − √0.1, √0.1)."""
    problem = QuadraticProblem(2)
    expected = torch.tensor([0.1, (1 - math.sqrt(0.1)) ** 2], dtype=torch.float64)
    for options in (
        {"equalities": ([[1.0, 0.0]], [0.1])},
        {"inequalities": ([[1.0, 0.0]], [0.1]), "cone": [[0.05, 0.95]]},
    ):
        theta = torch.nn.Parameter(torch.tensor([0.2, 0.9], dtype=torch.float64))
        opt = FERERO(sgd([theta], 0.1), **options)
        for _ in range(600):
            opt.step(problem.losses(theta))
        assert relative_error(problem.losses(theta), expected) < 1e-2


def test_a_cone_of_one_row_is_its_weighted_sum():
    problem = QuadraticProblem(3)
    theta = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    opt = FERERO(sgd([theta], 0.3), cone=[[1.0, 2.0, 1.0]])
    for _ in range(100):
        opt.step(problem.losses(theta))
    torch.testing.assert_close(theta.detach(), torch.tensor([0.25, 0.5, 0.25]).double())


def test_bad_constraints_of_ferero(two_heads):
    base = sgd(two_heads.parameters())
    for options, message in [
        ({"cone": [[1.0, -1.0]]}, r"cone\[0\]: its sum is 0"),
        ({"equalities": ([[1.0, 0.0]], [0.1, 0.2])}, r"equalities\[1\]: expected 1 values"),
        ({"inequalities": ([[math.nan, 0.0]], [0.1])}, r"inequalities\[0\]\[0\] = nan"),
        ({"gain": 0.0}, "gain = 0.0"),
        ({"rate": math.inf}, "rate = inf"),
        ({"preference": [1.0, 0.0]}, r"preference\[1\] = 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            FERERO(base, **options)
    with pytest.raises(ValueError, match="cone: expected 2 columns, one per task, got 3"):
        FERERO(base, cone=[[1, 1, 1]]).step(two_heads.losses(X))
    with pytest.raises(ValueError, match="expected 3, one per entry of preference, got 2"):
        FERERO(base, [1, 1, 1]).step(two_heads.losses(X))


# ------------------------------------------------------------------------- what earlier steps leave


def bowls(x):
    """Of unequal curvature, with the ray l₁ = l₂ across the segment between their centres."""
    one, other = (torch.tensor(c, dtype=x.dtype) for c in ([1.0, 0.0], [-1.0, -0.5]))
    return [(x - one).square().sum(), 5 * (x - other).square().sum()]


def at_the_ray(losses):
    """Both distances, a and b, add up to that of the centres, √4.25, with a² = 5 b²."""
    b = math.sqrt(4.25) / (1 + math.sqrt(5))
    return relative_error(losses, torch.full((2,), 5 * b * b, dtype=torch.float64))


@pytest.mark.parametrize("far", [10.0, 30.0])
def test_a_far_start_is_forgotten(far):
    x = torch.nn.Parameter(far * torch.tensor([2.0, 3.0], dtype=torch.float64))
    opt = FERERO(sgd([x], 0.01), [0.5, 0.5])
    for _ in range(3000):
        report = opt.step(bowls(x))
    assert at_the_ray(report.losses) < 1e-2


def test_a_spike_is_forgotten():
    """One outlier of the losses: a batch that is a hundred times as large as the others."""
    x = torch.nn.Parameter(torch.tensor([2.0, 3.0], dtype=torch.float64))
    opt = FERERO(sgd([x], 0.01), [0.5, 0.5])
    for step in range(2500):
        if step == 10:
            opt.backward([100 * loss for loss in bowls(x)])
        report = opt.step(bowls(x))
    assert at_the_ray(report.losses) < 1e-2


def test_it_stays_at_the_ray():
    problem, r = QuadraticProblem(8), [1.0 + 0.01 * j for j in range(8)]
    theta = torch.nn.Parameter(torch.linspace(0.8, 0.1, 8, dtype=torch.float64))
    opt = FERERO(sgd([theta], 0.1), r, gain=2.0)
    largest = 0.0
    for step in range(1500):
        opt.step(problem.losses(theta))
        if step > 400:
            largest = max(largest, relative_error(problem.losses(theta), problem.point(r)))
    assert largest < 1e-9


OWN = {
    "ray": {"preference": [0.6, 0.4]},
    "constraints": {"inequalities": ([[1.0, 0.0]], [0.1])},
    "cone": {"preference": [0.6, 0.4], "cone": [[0.9, 0.1]], "equalities": ([[1.0, 1.0]], [1.0])},
}


@pytest.mark.parametrize("options", OWN.values(), ids=list(OWN))
def test_a_preference_of_one_call_leaves_the_multipliers(options):
    def own_weights(between):
        x = torch.nn.Parameter(torch.tensor([1.0, 1.5], dtype=torch.float64))
        opt = FERERO(sgd([x], 0.0), **options)
        for _ in range(5):
            opt.step(bowls(x))
        memory = copy.deepcopy(opt.memory)
        for r in between:
            opt.step(bowls(x), preference=r)
            assert opt.memory == memory
        return [opt.step(bowls(x)).weights.tolist() for _ in range(2)]

    assert own_weights([[0.9, 0.1], [0.1, 0.9]]) == own_weights([])


def test_a_preference_of_one_call_turns_the_weights_towards_its_ray():
    x = torch.nn.Parameter(torch.tensor([0.0, 0.0], dtype=torch.float64))
    opt = FERERO(sgd([x], 0.0), [0.5, 0.5])
    shares = [opt.step(bowls(x), preference=r).weights for r in ([9.0, 1.0], [1.0, 9.0])]
    assert shares[0][0] > shares[0][1] and shares[1][0] < shares[1][1]


@pytest.mark.parametrize(
    ("saved", "ours", "message"),
    [
        ({"preference": [0.6, 0.4]}, {"equalities": ([[1, 0], [0, 1]], [0.1, 0.1])}, "preference"),
        (
            {"equalities": ([[1, 0]], [0.1])},
            {"inequalities": ([[1, 0]], [0.1])},
            "1 rows of equalities, expected 0",
        ),
        ({"cone": [[1, 1]] * 3}, {"inequalities": ([[1, 0]], [0.1])}, "3 rows of cone, expected 2"),
    ],
)
def test_multipliers_of_other_constraints_are_refused(saved, ours, message):
    def trained(options):
        x = torch.nn.Parameter(torch.tensor([1.0, 1.5]))
        opt = FERERO(sgd([x], 0.01), **options)
        opt.step(bowls(x))
        return opt

    state, opt = trained(saved).state_dict(), trained(ours)
    before = opt.state_dict()
    with pytest.raises(ValueError, match=f"state_dict: its multipliers are of .*{message}"):
        opt.load_state_dict(state)
    assert opt.state_dict() == before
    opt.load_state_dict(trained(ours).state_dict())
