"""Pareto MTL: weights against the explicit constraint gradients, and the regions of the front."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from pyfront import ParetoMTL, preferences
from pyfront.functional import pareto_mtl_weights
from pyfront.problems import ConcaveProblem


def rows_of_the_paper(losses, jacobian, vectors, index, phase, epsilon):
    """The gradients whose hull's nearest point is the direction, from the full Jacobian."""
    share = losses / np.linalg.norm(losses)
    rows = [] if phase == "feasibility" else list(jacobian)
    for j, u in enumerate(vectors):
        g = (u - vectors[index]) @ share
        bound = 0.0 if phase == "feasibility" else -epsilon
        if j != index and phase != "convergence" and g >= bound:
            rows.append((u - vectors[index]) @ jacobian)
    return np.array(rows)


def check_nearest(direction, rows):
    """`direction` is the nearest point to 0 of the hull of `rows`."""
    scale = np.abs(rows).max()
    system = np.vstack([rows.T / scale, np.ones(len(rows))])
    _, residual = nnls(system, np.append(direction / scale, 1.0))
    assert residual < 1e-9  # in the hull
    assert (rows @ direction).min() >= direction @ direction - 1e-9 * scale**2


@pytest.mark.parametrize("phase", ["feasibility", "descent", "convergence"])
@pytest.mark.parametrize("m", [2, 3, 5])
def test_weights_are_those_of_the_explicit_constraint_gradients(m, phase):
    rng = np.random.default_rng(m)
    statuses = set()
    for trial in range(60):
        jacobian = rng.normal(size=(m, int(rng.integers(1, 9)))) * rng.choice([1e-4, 1.0, 1e4])
        losses = rng.uniform(0.01, 2.0, m)
        vectors = rng.uniform(0.0, 1.0, (int(rng.integers(1, 8)), m)) + np.eye(m)[trial % m]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        index, epsilon = int(rng.integers(len(vectors))), float(rng.choice([0.0, 0.3]))
        report = pareto_mtl_weights(
            losses, jacobian @ jacobian.T, vectors, index, phase=phase, epsilon=epsilon
        )
        rows = rows_of_the_paper(losses, jacobian, vectors, index, phase, epsilon)
        direction = jacobian.T @ report.weights.numpy()
        statuses.add(report.status)
        if report.status == "feasible":
            assert len(rows) == 0 and phase == "feasibility" and not report.weights.any()
        else:
            check_nearest(direction, rows)
            assert report.status == "ok" or not report.weights.any()
    assert "ok" in statuses
    assert phase != "feasibility" or "feasible" in statuses


def test_weights_do_not_depend_on_the_scale_of_losses_or_gradients():
    rng = np.random.default_rng(0)
    jacobian, losses = rng.normal(size=(3, 7)), rng.uniform(0.1, 1.0, 3)
    vectors, c = preferences.das_dennis(3, 3), jacobian @ jacobian.T
    expected = pareto_mtl_weights(losses, c, vectors, 4, epsilon=0.1).weights
    for scale in (1e-200, 1e-30, 1e30, 1e150):
        weights = pareto_mtl_weights(losses * scale, c, vectors, 4, epsilon=0.1).weights
        torch.testing.assert_close(weights, expected)
    for scale in (2.0**-90, 2.0**90):
        weights = pareto_mtl_weights(losses, c * scale, vectors, 4, epsilon=0.1).weights
        assert torch.equal(weights, expected)


def test_constraints_that_pull_against_each_other_are_stationary():
    """One parameter: constraint gradients are numbers, and 0 is in their hull if signs differ."""
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(200):
        vectors = rng.uniform(0.0, 1.0, (4, 3))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        jacobian, losses = rng.normal(size=(3, 1)), rng.uniform(0.0, 1.0, 3)
        rows = rows_of_the_paper(losses, jacobian, vectors, 0, "feasibility", 0.0)
        if len(rows) < 2 or not rows.min() < 0.0 < rows.max():
            continue
        found += 1
        c = jacobian @ jacobian.T
        report = pareto_mtl_weights(losses, c, vectors, 0, phase="feasibility")
        assert report.status == "stationary" and not report.weights.any()
    assert found > 10


@pytest.mark.parametrize(
    ("vectors", "index", "error", "message"),
    [
        ([[1.0, -0.1], [0.0, 1.0]], 0, ValueError, r"reference_vectors\[0\]\[1\] = -0.1"),
        ([[1.0, 0.0], [0.0, math.nan]], 0, ValueError, r"reference_vectors\[1\]\[1\] = nan"),
        ([[1.0, 0.0], [0.0, 0.0]], 0, ValueError, r"reference_vectors\[1\]: is zero"),
        ([[1.0, 2.0], [0.0, 1.0], [2.0, 4.0]], 0, ValueError, r"\[2\]: has the direction of \[0\]"),
        ([1.0, 2.0], 0, ValueError, r"\[K, m\]"),
        ([[1.0, 0.0], [0.0, 1.0]], 2, IndexError, "index = 2: must be from 0 to 1"),
        ([[1.0, 0.0], [0.0, 1.0]], -1, IndexError, "index = -1"),
        ([[1.0, 0.0], [0.0, 1.0]], 0.5, TypeError, "index: expected an integer"),
    ],
)
def test_bad_reference_vectors(vectors, index, error, message):
    x = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(error, match=message):
        ParetoMTL(torch.optim.SGD([x], lr=0.1), vectors, index)
    with pytest.raises(error, match=message):
        pareto_mtl_weights([1.0, 1.0], np.eye(2), vectors, index)


def test_bad_options_and_numbers_of_losses():
    x = torch.nn.Parameter(torch.ones(2))
    base, vectors = torch.optim.SGD([x], lr=0.1), preferences.circle(3)
    with pytest.raises(ValueError, match="warmup_steps = -1"):
        ParetoMTL(base, vectors, 0, warmup_steps=-1)
    with pytest.raises(ValueError, match="epsilon = nan"):
        ParetoMTL(base, vectors, 0, epsilon=math.nan)
    opt = ParetoMTL(base, vectors, 0)
    with pytest.raises(ValueError, match="phase = 'end'"):
        opt.phase = "end"
    with pytest.raises(ValueError, match="losses: expected 2"):
        opt.step([x.sum(), (x**2).sum(), x[0] * 1])
    with pytest.raises(ValueError, match="reference_vectors: expected 2 columns"):
        pareto_mtl_weights([1.0, 1.0], np.eye(2), np.eye(3), 0)
    with pytest.raises(ValueError, match="phase = 'end'"):
        pareto_mtl_weights([1.0, 1.0], np.eye(2), vectors, 0, phase="end")
    assert x.grad is None and opt.memory == {"method": "ParetoMTL"}


def solve(index, vectors, start, *, scales=(1.0, 1.0), warmup_steps=300, steps=300):
    problem = ConcaveProblem(n=20, scales=scales)
    theta = torch.nn.Parameter(problem.start(seed=index, width=start))
    base = torch.optim.SGD([theta], lr=0.05 / max(scales))
    opt = ParetoMTL(base, vectors, index, warmup_steps=warmup_steps)
    for _ in range(warmup_steps + steps):
        opt.step(problem.losses(theta))
    return problem.losses(theta.detach()), opt, problem


@pytest.mark.parametrize("start", [1.0, 2.0], ids=["inside", "outside"])
def test_ten_vectors_give_ten_solutions_each_in_its_own_region(start):
    vectors = preferences.circle(10)
    points = []
    for index in range(10):
        losses, opt, problem = solve(index, vectors, start, warmup_steps=1500)
        share = losses / losses.norm()
        regions = (vectors @ share - share @ vectors[index]).tolist()
        assert max(regions) < 0.02, index  # no other vector is nearer
        assert opt.phase == "descent" and opt.feasible
        distance = (problem.front(4001) - losses).norm(dim=1).min()
        assert distance < 0.02, index
        points.append(losses)
    points = torch.stack(points)
    dominates = (points[:, None] <= points).all(dim=-1) & (points[:, None] < points).any(dim=-1)
    assert not dominates.any()


def test_without_the_feasibility_phase_the_ends_of_the_front_are_missed():
    vectors = preferences.circle(10)

    def spread(warmup_steps):
        ends = [solve(k, vectors, 1.0, warmup_steps=warmup_steps)[0] for k in (0, 9)]
        return (ends[0] - ends[1]).abs().max().item()

    assert spread(300) > 0.8 > 0.1 > spread(0)


@pytest.mark.parametrize("scales", [(2.0, 1.0), (10.0, 1.0), (50.0, 1.0)])
def test_unbalanced_problems_end_in_the_region_of_their_vector(scales):
    vectors = preferences.circle(5)
    for index in (1, 2, 3):
        losses, _, problem = solve(index, vectors, 1.0, scales=scales, warmup_steps=2000)
        share = losses / losses.norm()
        assert (vectors @ share - share @ vectors[index]).max() < 0.02
        relative = (problem.front(4001) - losses) / torch.tensor(scales, dtype=torch.float64)
        assert relative.norm(dim=1).min() < 0.05


def test_a_lucky_batch_does_not_end_the_feasibility_phase():
    x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    vectors = [[0.1, 1.0], [1.0, 0.1]]
    opt = ParetoMTL(torch.optim.SGD([x], lr=1e-4), vectors, 0)
    far, lucky = [1.0, 0.2], [0.2, 1.0]
    for scales in (far, far, far):
        assert opt.step([s * (v**2) for s, v in zip(scales, x, strict=True)]).status == "ok"
    report = opt.step([s * (v**2) for s, v in zip(lucky, x, strict=True)])
    assert report.status == "feasible" and opt.phase == "feasibility"  # on average still outside
    for _ in range(20):
        opt.step([s * (v**2) for s, v in zip(lucky, x, strict=True)])
    assert opt.phase == "descent" and opt.feasible


def test_a_budget_that_runs_out_is_told_apart_and_phases_survive_a_checkpoint(tmp_path):
    x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    vectors = preferences.circle(3)
    opt = ParetoMTL(torch.optim.SGD([x], lr=1e-6), vectors, 0, warmup_steps=4)
    phases = [opt.step([2 * x[0] ** 2, 3 * x[1] ** 2]).phase for _ in range(3)]
    torch.save(opt.state_dict(), tmp_path / "state.pt")
    resumed = ParetoMTL(torch.optim.SGD([x], lr=1e-6), vectors, 0, warmup_steps=4)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    phases += [resumed.step([2 * x[0] ** 2, 3 * x[1] ** 2]).phase for _ in range(2)]
    assert phases == ["feasibility"] * 4 + ["descent"] and resumed.feasible is False
    resumed.phase = "convergence"
    report = resumed.step([2 * x[0] ** 2, 3 * x[1] ** 2])
    assert report.phase == "convergence" and report.weights.sum().item() == pytest.approx(1.0)


def test_vectors_of_one_call_and_rescaled_weights():
    x = torch.nn.Parameter(torch.tensor([1.0, 0.3]))
    losses = lambda: [x[0] ** 2 + 0.1, x[1] ** 2 + 0.1]  # noqa: E731
    base = torch.optim.SGD([x], lr=0.0)
    opt = ParetoMTL(base, [[1.0, 0.0], [0.0, 1.0]], 0, warmup_steps=0)
    own = opt.backward(losses()).weights
    other = opt.step(losses(), reference_vectors=[[0.0, 1.0], [1.0, 0.0]]).weights
    assert not torch.equal(own, other) and torch.equal(opt.backward(losses()).weights, own)
    scaled = ParetoMTL(base, [[1.0, 0.0], [0.0, 1.0]], 1, warmup_steps=0, rescale=True)
    assert scaled.backward(losses()).weights.abs().sum().item() == pytest.approx(2.0)


@pytest.mark.parametrize("options", [{"weight_smoothing": 0.9}, {"every": 10}])
def test_weights_of_one_phase_do_not_reach_into_the_next(options):
    x = torch.nn.Parameter(torch.tensor([1.0, 0.3]))
    losses = lambda: [x[0] ** 2 + 0.1, x[1] ** 2 + 0.1]  # noqa: E731
    base, vectors = torch.optim.SGD([x], lr=0.0), [[1.0, 0.0], [0.0, 1.0]]
    expected = ParetoMTL(base, vectors, 1, warmup_steps=0).backward(losses()).weights
    opt = ParetoMTL(base, vectors, 1, warmup_steps=1, **options)
    assert opt.backward(losses()).phase == "feasibility"
    torch.testing.assert_close(opt.backward(losses()).weights, expected)
