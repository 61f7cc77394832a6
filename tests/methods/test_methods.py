"""What each method promises, on problems whose fronts are known."""

import copy

import numpy as np
import pytest
import torch

from pyfront import EPO, MGDA, LinearScalarization, PreferenceFeedback
from pyfront.functional import min_norm_weights
from pyfront.problems import ConcaveProblem, QuadraticProblem


def train(make, problem, theta, steps, lr):
    theta = torch.nn.Parameter(theta.clone())
    opt = make(torch.optim.SGD([theta], lr=lr))
    reports = [opt.step(problem.losses(theta)) for _ in range(steps)]
    return problem.losses(theta.detach()).double(), reports


# --------------------------------------------------------------------------------------------- EPO


@pytest.mark.parametrize("width", [1.0, 2.5], ids=["inside", "outside"])
@pytest.mark.parametrize("r", [[0.5, 0.5], [0.7, 0.3], [0.1, 0.9]])
def test_epo_reaches_the_point_of_the_concave_front_that_the_preference_names(r, width):
    problem = ConcaveProblem(n=20)
    start = problem.start(seed=3, width=width)
    losses, reports = train(lambda base: EPO(base, r), problem, start, steps=80, lr=0.3)
    # ε = 1e-4 is a relative distance from the ray of about 1e-2
    assert (losses - problem.point(r)).abs().max() < 1e-2
    assert reports[-1].non_uniformity <= 1e-4
    assert {report.status for report in reports} == {"ok"}
    assert {report.phase for report in reports} == {"balance", "descent"}


@pytest.mark.parametrize("width", [1.0, 2.5], ids=["inside", "outside"])
def test_epo_on_a_million_parameters(width):
    problem = ConcaveProblem(n=10**6)
    start = problem.start(seed=1, width=width).float()
    losses, _ = train(lambda base: EPO(base, [0.7, 0.3]), problem, start, steps=60, lr=0.3)
    assert (losses - problem.point([0.7, 0.3])).abs().max() < 1e-2


@pytest.mark.parametrize("num_tasks", [2, 3, 5])
def test_adaptive_epsilon_is_exact_where_a_fixed_one_is_not(num_tasks):
    problem = QuadraticProblem(num_tasks)
    r = [1.0 + 0.02 * j for j in range(num_tasks)]
    start = torch.linspace(0.8, 0.1, num_tasks, dtype=torch.float64)

    def error(epsilon):
        make = lambda base: EPO(base, r, epsilon=epsilon)  # noqa: E731
        losses, _ = train(make, problem, start, steps=800, lr=0.1)
        return (losses - problem.point(r)).abs().max().item()

    fixed, adaptive = error(1e-4), error("adaptive")
    assert adaptive < 1e-5 and adaptive < 0.1 * fixed


def test_without_a_way_to_the_ray_the_program_lowers_all_losses():
    """Ca < 0: no β ≥ 0 moves towards the ray; what is promised is Cβ ≥ 0, not a smaller μ."""
    problem = QuadraticProblem(2)
    theta = torch.nn.Parameter(torch.tensor([-1.0, 1.5], dtype=torch.float64))
    opt = EPO(torch.optim.SGD([theta], lr=0.01), [0.5, 0.5])
    report = opt.step(problem.losses(theta))
    assert report.phase == "balance" and (report.gramian @ report.weights >= 0).all()
    after = problem.losses(theta.detach())
    assert (after < report.losses).all()


def test_an_unreachable_preference_ends_at_the_point_of_least_non_uniformity():
    # l = (1 + x², 1 + (x − 1)²): the front is 1 ≤ l ≤ 2, so that no l is on the ray (1 : 4)
    x = torch.nn.Parameter(torch.tensor(0.6, dtype=torch.float64))
    opt = EPO(torch.optim.SGD([x], lr=0.05), [0.8, 0.2])
    for _ in range(400):
        report = opt.step([1 + x**2, 1 + (x - 1) ** 2])
    assert abs(x.item()) < 1e-3  # the end of the front where l₁ is least
    assert report.non_uniformity > 1e-2


def test_offset_and_unit_turn_negative_losses_into_comparable_ones():
    problem = QuadraticProblem(2, scales=[1.0, 1.0])
    theta = torch.tensor([0.3, 0.9], dtype=torch.float64)
    plain, shifted = torch.nn.Parameter(theta.clone()), torch.nn.Parameter(theta.clone())
    opt = EPO(torch.optim.SGD([plain], lr=0.1), [0.5, 0.5])
    opt_shifted = EPO(torch.optim.SGD([shifted], lr=0.1), [0.5, 0.5], offset=[-7, 3], unit=[10, 1])
    for _ in range(20):
        opt.step(problem.losses(plain))
        a, b = problem.losses(shifted)
        opt_shifted.step([10 * a - 7, b + 3])
    torch.testing.assert_close(plain, shifted, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="offset: expected 2 values, got 1"):
        EPO(torch.optim.SGD([plain], lr=0.1), [0.5, 0.5], offset=[1.0]).step(problem.losses(plain))


def test_all_losses_zero_is_stationary():
    x = torch.nn.Parameter(torch.zeros(3))
    report = EPO(torch.optim.SGD([x], lr=0.1), [0.2, 0.8]).step([(x**2).sum(), (x**4).sum()])
    assert report.status == "stationary" and report.weights.tolist() == [0.5, 0.5]


def test_smoothing_calms_the_vertices_of_the_program():
    """On noisy gradients the program's vertex jumps; the average moves by a tenth of that."""
    changes = {}
    for s in (0.0, 0.9):
        generator = torch.Generator().manual_seed(0)
        problem, x = ConcaveProblem(n=5), torch.nn.Parameter(ConcaveProblem(n=5).start(seed=2))
        opt = EPO(torch.optim.SGD([x], lr=0.05), [0.6, 0.4], weight_smoothing=s)
        weights = []
        for _ in range(100):
            noise = torch.randn(2, 5, generator=generator, dtype=torch.float64)
            weights.append(opt.step(problem.losses(x) + 0.5 * (noise @ (x - x.detach()))).weights)
        changes[s] = torch.stack(weights).diff(dim=0).abs().sum(dim=1).mean().item()
    assert changes[0.9] < 0.25 * changes[0.0]


@pytest.mark.parametrize("unit", [None, [1.0, 4.0]])
def test_smoothed_weights_begin_at_the_preference(unit):
    """The first decision may leave out a task; an average begun there would do so for long."""
    start = torch.tensor([0.3, 1.0], dtype=torch.float64)

    def first(**options):
        x = torch.nn.Parameter(start.clone())
        opt = EPO(torch.optim.SGD([x], lr=0.1), [3.0, 1.0], unit=unit, **options)
        return [opt.step([(x - 1).square().sum(), (x + 1).square().sum()]).weights for _ in "ab"]

    u = torch.tensor(unit or [1.0, 1.0], dtype=torch.float64)
    plain, smoothed = first()[0], first(weight_smoothing=0.9)
    begin = torch.tensor([0.75, 0.25], dtype=torch.float64) / u
    assert (plain - begin).abs().max() > 0.1
    torch.testing.assert_close(smoothed[0], 0.9 * begin + 0.1 * plain)
    assert (smoothed[1] * u).sum() == pytest.approx(1.0)
    x = torch.nn.Parameter(start.clone())
    opt = EPO(torch.optim.SGD([x], lr=0.1), [1.0, 1.0], unit=unit, weight_smoothing=0.9)
    losses = [(x - 1).square().sum(), (x + 1).square().sum()]
    alone = opt.step(losses, preference=[3.0, 1.0]).weights  # of one call: not smoothed
    assert torch.equal(alone, plain)


# -------------------------------------------------------------------------------------------- MGDA


def test_mgda_lowers_every_loss_and_ends_on_the_front():
    problem = QuadraticProblem(4, scales=[1.0, 3.0, 0.2, 1.0])
    start = torch.tensor([2.0, -1.0, 0.5, 3.0], dtype=torch.float64)
    losses, reports = train(MGDA, problem, start, steps=1500, lr=0.02)
    values = torch.stack([report.losses for report in reports])
    assert (values.diff(dim=0) <= 1e-9).all()
    direction = reports[-1].weights @ reports[-1].gramian @ reports[-1].weights
    assert direction < 1e-6 and (losses < values[0]).all()


@pytest.mark.parametrize("normalization", ["l2", "loss", "loss+"])
def test_normalised_mgda_is_the_min_norm_point_of_the_normalised_gradients(normalization):
    problem = QuadraticProblem(3, scales=[1.0, 30.0, 0.01])
    theta = torch.nn.Parameter(torch.tensor([0.4, -0.2, 1.0], dtype=torch.float64))
    opt = MGDA(torch.optim.SGD([theta], lr=0.1), normalization=normalization)
    report = opt.backward(problem.losses(theta))
    rows = torch.stack(
        [torch.autograd.grad(loss, theta, retain_graph=True)[0] for loss in problem.losses(theta)]
    )
    norms, losses = rows.norm(dim=1), report.losses
    s = {"l2": norms, "loss": losses, "loss+": losses * norms}[normalization]
    normalised = rows / s[:, None]
    convex = report.weights * s
    assert (convex >= 0).all() and abs(convex.sum().item() - 1.0) < 1e-12
    torch.testing.assert_close(theta.grad, normalised.T @ convex)
    # the nearest point d of a hull to 0: no vertex lies nearer along d
    assert (normalised @ theta.grad).min() >= (theta.grad @ theta.grad) * (1 - 1e-9)


def test_a_zero_scale_counts_as_one():
    x = torch.nn.Parameter(torch.tensor([0.0, 1.0]))
    report = MGDA(torch.optim.SGD([x], lr=0.1), normalization="l2").step([x[0] ** 2, x[1] ** 2])
    assert report.weights.isfinite().all() and report.weights[0] == 1.0


def test_mgda_at_a_point_where_all_gradients_vanish_is_stationary():
    x = torch.nn.Parameter(torch.zeros(2))
    report = MGDA(torch.optim.SGD([x], lr=0.1)).step([(x**2).sum(), (x**4).sum()])
    assert report.status == "stationary" and report.weights.tolist() == [0.5, 0.5]


def test_min_norm_weights_takes_lists_arrays_and_tensors_of_any_dtype():
    c = [[2.0, 1.0, 0.0], [1.0, 3.0, -0.5], [0.0, -0.5, 1.0]]
    forms = [c, np.array(c), torch.tensor(c), np.array(c, dtype=np.float32, order="F")]
    answers = [min_norm_weights(form)[0] for form in forms]
    for weights in answers:
        assert weights.dtype == torch.float64 and torch.equal(weights, answers[0])


# ----------------------------------------------------------------------------------- linear weights


def test_linear_scalarization_leaves_sparse_gradients_sparse():
    table = torch.nn.Embedding(9, 3, sparse=True)
    opt = LinearScalarization(torch.optim.SparseAdam(list(table.parameters())), [0.5, 0.5])
    y = table(torch.tensor([1, 4, 4]))
    opt.step([(y**2).sum(), y.sum()])
    assert table.weight.grad.is_sparse


def test_linear_scalarization_is_the_weighted_sum_and_misses_the_concave_front():
    problem = ConcaveProblem(n=20)
    start = problem.start(seed=3)
    losses, _ = train(lambda b: LinearScalarization(b, [0.5, 0.5]), problem, start, 800, 0.3)
    assert losses.min() < 1e-2 and losses.max() > 0.9  # an end of the front, for equal weights
    twin, theta = copy.deepcopy(start).requires_grad_(), torch.nn.Parameter(start.clone())
    LinearScalarization(torch.optim.SGD([theta], lr=0.1), [2.0, 5.0]).step(problem.losses(theta))
    (2 * problem.losses(twin)[0] + 5 * problem.losses(twin)[1]).backward()
    torch.testing.assert_close(theta.grad, twin.grad)


def test_a_loss_below_its_offset_is_named_as_it_was_given():
    x = torch.nn.Parameter(torch.tensor([-1.5, 1.0]))
    base = torch.optim.SGD([x], lr=0.5)
    losses = [x[1] ** 2, x[0].clone()]
    message = r"losses\[1\] = -1\.5: must be ≥ its offset -1; .* cannot go below"
    with pytest.raises(ValueError, match=message):
        EPO(base, [0.5, 0.5], offset=[0.0, -1.0]).step(losses)
    with pytest.raises(ValueError, match=message):
        PreferenceFeedback(base, [0.5, 0.5], offset=[0.0, -1.0]).step(losses)
    absent = EPO(base, [0.5, 0.25, 0.25], offset=[0.0, 0.0, -1.0])
    with pytest.raises(ValueError, match=r"losses\[2\] = -1\.5: must be ≥ its offset -1"):
        absent.step([losses[0], None, losses[1]])
