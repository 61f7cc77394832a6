"""The methods that people migrate with, as optimizers: degenerate input, state and training."""

import copy
import json
import math

import numpy as np
import pytest
import torch

import pyfront
from pyfront.problems import QuadraticProblem

FROM_GRADIENTS = {
    "UPGrad": pyfront.UPGrad,
    "PCGrad": pyfront.PCGrad,
    "CAGrad": pyfront.CAGrad,
    "NashMTL": pyfront.NashMTL,
    "IMTLG": pyfront.IMTLG,
    "AlignedMTL": pyfront.AlignedMTL,
    "FairGrad": pyfront.FairGrad,
    "ConFIG": pyfront.ConFIG,
    "DBMTL": pyfront.DBMTL,
}
METHODS = FROM_GRADIENTS | {"FAMO": pyfront.FAMO}


def step_on(name, rows, **options):
    """A step on losses 1 + g_jᵀ x at x = 0; the report and d."""
    rows = torch.as_tensor(rows, dtype=torch.float64)
    x = torch.nn.Parameter(torch.zeros(rows.shape[1], dtype=torch.float64))
    opt = METHODS[name](torch.optim.SGD([x], lr=1.0), **options)
    report = opt.step(list(1.0 + rows @ x))
    assert torch.equal(-x.detach(), x.grad)
    return report, x.grad


ROWS = np.random.default_rng(4).standard_normal((3, 6))

# --------------------------------------------------------------------------------- degenerate input


@pytest.mark.parametrize("name", FROM_GRADIENTS)
def test_zero_gradients_are_stationary(name):
    report, direction = step_on(name, np.zeros((3, 4)))
    assert report.status == "stationary" and not direction.any()
    assert report.weights.isfinite().all()


@pytest.mark.parametrize("name", FROM_GRADIENTS)
@pytest.mark.parametrize("factor", [1.0, 1e-3])
def test_opposite_gradients(name, factor):
    """No direction lowers both. What balances cancels; what projects is zero."""
    report, direction = step_on(name, [[1.0, 2.0], [-factor, -2.0 * factor]])
    zero = name not in ("CAGrad", "IMTLG", "AlignedMTL") or (factor == 1.0)
    assert report.weights.isfinite().all() and direction.isfinite().all()
    if zero:
        assert report.status == "stationary" and direction.norm() < 1e-12


@pytest.mark.parametrize("name", METHODS)
def test_one_task_follows_its_gradient(name):
    row = torch.tensor([[3.0, -4.0]], dtype=torch.float64)
    report, direction = step_on(name, row)
    assert report.status == "ok"
    torch.testing.assert_close(direction / direction.norm(), row[0] / row.norm())
    if name in ("UPGrad", "PCGrad", "IMTLG", "AlignedMTL", "ConFIG", "FAMO"):
        torch.testing.assert_close(direction, row[0])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("m", "copies"), [(3, 2), (8, 5)])
def test_equal_gradients_give_their_direction(name, m, copies):
    row = np.linspace(1.0, 2.0, 5)
    report, direction = step_on(name, np.tile(row, (copies, 1)))
    expected = torch.from_numpy(row / np.linalg.norm(row))
    torch.testing.assert_close(direction / direction.norm(), expected)
    assert report.status == "ok"


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e30])
def test_a_common_scale_leaves_the_direction(name, scale):
    plain, scaled = step_on(name, ROWS)[1], step_on(name, scale * ROWS)[1]
    torch.testing.assert_close(scaled / scaled.norm(), plain / plain.norm(), rtol=1e-8, atol=1e-10)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FROM_GRADIENTS)
@pytest.mark.parametrize("scales", [[1e-30, 1.0, 1e30], [1e30, 0.0, 1e-30], [1e-100] * 3])
def test_sixty_decades_between_gradients_are_no_failure(name, scales):
    report, direction = step_on(name, np.array(scales)[:, None] * ROWS)
    assert report.status == "ok" and report.weights.isfinite().all()
    assert direction.isfinite().all() and direction.any()


@pytest.mark.parametrize("name", ["NashMTL", "IMTLG", "ConFIG", "DBMTL"])
def test_the_direction_of_these_does_not_depend_on_each_tasks_scale(name):
    plain = step_on(name, ROWS)[1]
    scaled = step_on(name, np.array([[1e-6], [1.0], [1e9]]) * ROWS)[1]
    cosine = plain @ scaled / plain.norm() / scaled.norm()
    assert abs(cosine.item()) == pytest.approx(1.0, abs=1e-9)
    assert cosine > 0 or name == "IMTLG"  # whose weights sum to 1 and can turn it round


@pytest.mark.parametrize("name", FROM_GRADIENTS)
def test_one_zero_gradient_among_others_takes_no_part(name):
    rows = np.vstack([ROWS[:2], np.zeros(6)])
    report, direction = step_on(name, rows)
    without = step_on(name, ROWS[:2])[1]
    assert report.weights.isfinite().all()
    if name in ("PCGrad", "NashMTL", "IMTLG", "FairGrad", "ConFIG", "DBMTL"):
        torch.testing.assert_close(direction, without)
    assert direction.norm() > 0


@pytest.mark.parametrize("name", FROM_GRADIENTS)
def test_forty_tasks_of_rank_one_and_of_full_rank(name):
    rng = np.random.default_rng(0)
    for rows in (np.outer(rng.uniform(0.5, 2, 40), rng.standard_normal(3)), np.eye(40)):
        report, direction = step_on(name, rows)
        assert report.status == "ok" and direction.isfinite().all()
        assert (torch.from_numpy(rows) @ direction).min() > 0  # nothing conflicts here


@pytest.mark.parametrize("name", ["UPGrad", "FairGrad", "NashMTL", "ConFIG"])
def test_no_loss_rises_to_first_order(name):
    for seed in range(20):
        rows = np.random.default_rng(seed).standard_normal((4, 9))
        _, direction = step_on(name, rows)
        assert (torch.from_numpy(rows) @ direction >= -1e-9 * direction.norm()).all()


def test_imtl_g_can_raise_every_loss():
    """As its docstring says: weights that sum to 1 with gradients of very different length."""
    rows = torch.tensor([[7e-3, 7e-3, 1e-3], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    assert (rows @ step_on("IMTLG", rows)[1] < 0).all()
    assert (rows @ step_on("ConFIG", rows)[1] > 0).all()


def test_imtl_g_whose_weights_sum_to_zero_stands_still():
    units = np.array([[0.7, 0.7, 0.1], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    units[0] /= np.linalg.norm(units[0])
    shares = np.linalg.solve(units @ units.T, np.ones(3))
    units[0] *= -shares[0] / (shares[1] + shares[2])
    report, direction = step_on("IMTLG", units)
    assert report.weights.isfinite().all() and direction.isfinite().all()
    assert report.status == "stationary" or report.weights.abs().max() > 1e12


def test_fairgrad_says_where_it_is_not_solved():
    rows = np.random.default_rng(8).standard_normal((8, 10))
    report, direction = step_on("FairGrad", rows, alpha=1000.0)
    assert report.status == "iteration_limit" and report.gap > 1e-9
    assert (report.weights > 0).all() and direction.isfinite().all()


# ----------------------------------------------------------------------------------------- options


@pytest.mark.parametrize("name", METHODS)
def test_micro_batches_features_and_every_are_those_of_other_methods(name, two_heads):
    data = torch.randn(8, 5)

    def make(**options):
        return METHODS[name](torch.optim.SGD(two_heads.parameters(), lr=0.0), **options)

    def gradient():
        return torch.cat([p.grad.flatten() for p in two_heads.parameters()])

    expected = make().step(two_heads.losses(data)).weights
    whole = gradient()
    parts = make()
    parts.accumulate([loss / 2 for loss in two_heads.losses(data[:4])])
    report = parts.step([loss / 2 for loss in two_heads.losses(data[4:])])
    torch.testing.assert_close(report.weights, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradient(), whole, rtol=1e-4, atol=1e-6)

    z = torch.tanh(two_heads.trunk(data))
    losses = [(head(z) ** 2).mean() + 0.1 * (j + 1) for j, head in enumerate(two_heads.heads)]
    report = make().step(losses, features=z)
    torch.testing.assert_close(report.weights, expected, rtol=1e-4, atol=1e-6)

    sparing = make(every=2)
    first, second = (sparing.step(two_heads.losses(data)).weights for _ in range(2))
    assert torch.equal(first, second)


# ---------------------------------------------------------------------------------------- training


# IMTL-G may climb (above); Aligned-MTL's steps shrink with the smallest eigenvalue (below)
@pytest.mark.parametrize("name", [n for n in METHODS if n not in ("IMTLG", "AlignedMTL")])
def test_training_ends_on_the_front(name):
    problem = QuadraticProblem(3)
    x = torch.nn.Parameter(torch.tensor([1.5, -0.7, 0.9], dtype=torch.float64))
    base = torch.optim.SGD([x], lr=0.1)
    opt = METHODS[name](base)
    schedule = torch.optim.lr_scheduler.ExponentialLR(base, 0.99)
    first = problem.losses(x.detach()).sum()
    for _ in range(600):
        report = opt.step(problem.losses(x))
        schedule.step()
    losses = problem.losses(x)
    assert losses.sum() < first
    gradients = torch.stack([torch.autograd.grad(v, x, retain_graph=True)[0] for v in losses])
    nearest = pyfront.functional.min_norm_weights(gradients @ gradients.T).weights
    assert (nearest @ gradients).norm() < 0.02 * gradients.norm()
    assert report.weights.isfinite().all()


def test_aligned_mtl_moves_all_losses_down_ever_more_slowly():
    problem = QuadraticProblem(3)
    x = torch.nn.Parameter(torch.tensor([1.5, -0.7, 0.9], dtype=torch.float64))
    opt = pyfront.AlignedMTL(torch.optim.SGD([x], lr=0.1))
    steps, totals = [], []
    for _ in range(400):
        report = opt.step(problem.losses(x))
        steps.append(x.grad.norm().item())
        totals.append(report.losses.sum().item())
    assert (np.diff(totals) < 0).all() and totals[-1] < 0.5 * totals[0]
    assert steps[-1] < 0.2 * steps[0]


# ------------------------------------------------------------------------------------------- state


def run(opt, x, generator, steps):
    for _ in range(steps):
        rows = torch.randn(4, 5, generator=generator, dtype=torch.float64)
        report = opt.step(list((rows @ x) ** 2 + 0.1))
    return report.weights


@pytest.mark.parametrize("name", ["PCGrad", "FAMO"])
def test_a_resumed_run_is_the_same_bit_for_bit(name):
    generator = torch.Generator().manual_seed(1)
    x = torch.nn.Parameter(torch.ones(5, dtype=torch.float64))
    opt = METHODS[name](torch.optim.Adam([x], lr=0.01))
    run(opt, x, generator, 5)
    y = torch.nn.Parameter(x.detach().clone())
    resumed = METHODS[name](torch.optim.Adam([y], lr=0.01))
    resumed.load_state_dict(copy.deepcopy(opt.state_dict()))
    state = generator.get_state()
    first = run(opt, x, generator, 5)
    generator.set_state(state)
    torch.manual_seed(99)  # the orders come from no global generator
    assert torch.equal(run(resumed, y, generator, 5), first) and torch.equal(x, y)


def test_pcgrads_order_changes_with_steps_and_with_seeds_only():
    rows = torch.from_numpy(np.random.default_rng(2).standard_normal((6, 3)))

    def weights(seed, steps, backwards=1):
        x = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
        opt = pyfront.PCGrad(torch.optim.SGD([x], lr=0.0), seed=seed)
        for _ in range(steps):
            for _ in range(backwards):
                report = opt.backward(list(rows @ x))
            opt.step()
        return report.weights

    assert torch.equal(weights(0, 1), weights(0, 1)) and torch.equal(
        weights(0, 2), weights(0, 2, 3)
    )
    assert not torch.equal(weights(0, 1), weights(0, 2))
    assert not torch.equal(weights(0, 1), weights(1, 1))


# --------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("UPGrad", {"task_weights": [1.0, -1.0]}, ValueError, r"task_weights\[1\] = -1"),
        ("ConFIG", {"task_weights": [0.0, 0.0]}, ValueError, "task_weights: all entries are 0"),
        ("AlignedMTL", {"task_weights": [1.0, math.nan]}, ValueError, r"task_weights\[1\] = nan"),
        ("UPGrad", {"preference": [1, 1]}, TypeError, "UPGrad takes none"),
        ("PCGrad", {"seed": -1}, ValueError, "seed = -1"),
        ("PCGrad", {"seed": 0.5}, TypeError, "seed: expected an integer"),
        ("CAGrad", {"c": -0.1}, ValueError, "c = -0.1"),
        ("CAGrad", {"c": math.inf}, ValueError, "c = inf"),
        ("NashMTL", {"max_norm": 0.0}, ValueError, "max_norm = 0.0"),
        ("FairGrad", {"alpha": 0.0}, ValueError, "alpha = 0.0"),
        ("DBMTL", {"epsilon": 0.0}, ValueError, "epsilon = 0.0"),
        ("FAMO", {"lr": -1.0}, ValueError, "lr = -1.0"),
        ("FAMO", {"weight_decay": -1.0}, ValueError, "weight_decay = -1.0"),
        ("FAMO", {"min_losses": [math.nan]}, ValueError, r"min_losses\[0\] = nan"),
    ],
)
def test_bad_arguments(name, options, error, message):
    x = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(error, match=message):
        METHODS[name](torch.optim.SGD([x], lr=0.1), **options)
    if "preference" in options:
        return
    opt = METHODS[name](torch.optim.SGD([x], lr=0.1))
    ((option, value),) = options.items()
    before = getattr(opt, option)
    with pytest.raises(error, match=message):
        setattr(opt, option, value)  # a live optimizer checks as the constructor does
    assert getattr(opt, option) is before


@pytest.mark.parametrize(
    ("name", "options", "values", "message"),
    [
        ("UPGrad", {"task_weights": [1.0, 1.0]}, [1, 1, 1], "expected 2, one per entry of task_w"),
        ("ConFIG", {"task_weights": [1.0, 1.0]}, [1], "expected 2, one per entry of task_weights"),
        ("AlignedMTL", {"task_weights": [1.0]}, [1, 1], "expected 1, one per entry of task_weig"),
        ("DBMTL", {}, [1, -0.5], r"losses\[1\] = -0.5: must be finite and ≥ 0; DB-MTL takes log"),
        ("FAMO", {}, [1, -0.5], r"losses - min_losses\[1\] = -0.5"),
        ("FAMO", {"min_losses": [0.0, 0.0, 0.0]}, [1, 1], "losses: expected 3 as before, got 2"),
        ("CAGrad", {}, [1, math.nan], r"losses\[1\] = nan"),
    ],
)
def test_bad_losses_change_nothing(name, options, values, message):
    x = torch.nn.Parameter(torch.zeros(2))
    opt = METHODS[name](torch.optim.SGD([x], lr=0.1), **options)
    memory = json.dumps(opt.memory)
    with pytest.raises(ValueError, match=message):
        opt.step([x.sum() + value for value in values])
    assert json.dumps(opt.memory) == memory and x.grad is None and not x.any()
