"""The methods that people migrate with against slow oracles and against TorchJD."""

import importlib

import migration_oracles as oracles
import numpy as np
import pytest
import torch
from samplers import SAMPLERS

import pyfront
from pyfront.methods.pcgrad import projection_orders

SIZES = (1, 2, 3, 8, 40)
# almost opposite gradients cancel below the rounding of J, from which these tests compute d
NOT_JUDGED = ("scaled_columns", "almost_opposite")
ORDINARY = ("generic", "correlated")
METHODS = {
    "UPGrad": pyfront.UPGrad,
    "PCGrad": pyfront.PCGrad,
    "CAGrad": pyfront.CAGrad,
    "NashMTL": pyfront.NashMTL,
    "IMTLG": pyfront.IMTLG,
    "AlignedMTL": pyfront.AlignedMTL,
    "FairGrad": pyfront.FairGrad,
    "ConFIG": pyfront.ConFIG,
    "DBMTL": pyfront.DBMTL,
    "FAMO": pyfront.FAMO,
}


def sample(family, m, seed=0):
    return SAMPLERS[family](np.random.default_rng([seed, m]), m)


def decide(name, jacobian, losses=None, **options):
    """Our direction and report for gradients J, without a model."""
    x = torch.nn.Parameter(torch.zeros(1))
    opt = METHODS[name](torch.optim.SGD([x], lr=0.1), **options)
    gramian = jacobian @ jacobian.T
    losses = np.ones(len(jacobian)) if losses is None else losses
    report = opt.decide(losses, (gramian + gramian.T) / 2, None)
    return jacobian.T @ report.weights.numpy(), report


def assert_close(actual, expected, tolerance=1e-9):
    assert np.linalg.norm(actual - expected) <= tolerance * np.linalg.norm(expected)


def rates(jacobian, direction):
    """g_jᵀ d / (‖g_j‖ ‖d‖): below 0 where d raises loss j."""
    units, _ = oracles.unit_rows(jacobian)
    return units @ direction / max(np.linalg.norm(direction), 1e-300)


# ------------------------------------------------------------------------------------ slow oracles


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.parametrize("family", [*ORDINARY, "duplicated", "zero_rows", "scaled_rows"])
def test_upgrad_is_the_mean_of_projected_gradients(family, m):
    jacobian = sample(family, m)
    direction, report = decide("UPGrad", jacobian)
    expected = oracles.upgrad(jacobian, np.full(m, 1 / m))
    assert np.linalg.norm(direction - expected) <= 1e-9 * np.linalg.norm(jacobian)
    assert report.status == ("ok" if expected.any() else "stationary")
    assert rates(jacobian, direction).min() >= -1e-9
    weights = np.arange(1.0, m + 1)
    direction, _ = decide("UPGrad", jacobian, task_weights=weights)
    expected = oracles.upgrad(jacobian, weights)
    assert np.linalg.norm(direction - expected) <= 1e-9 * m * np.linalg.norm(jacobian)


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.parametrize("family", [*ORDINARY, "duplicated", "zero_rows", "scaled_rows"])
def test_pcgrad_projects_pair_by_pair_in_its_orders(family, m):
    jacobian = sample(family, m)
    direction, _ = decide("PCGrad", jacobian, seed=7)
    expected = oracles.pcgrad(jacobian, projection_orders(7, 0, m))
    assert np.linalg.norm(direction - expected) <= 1e-9 * np.linalg.norm(jacobian) * m


def test_projection_orders_are_uniform_and_leave_the_task_out():
    orders = np.array([projection_orders(3, step, 3)[0] for step in range(600)])
    assert set(map(tuple, orders.tolist())) == {(1, 2), (2, 1)}
    assert 240 < (orders[:, 0] == 1).sum() < 360
    for i, order in enumerate(projection_orders(3, 0, 6)):
        assert sorted(order.tolist()) == [j for j in range(6) if j != i]


@pytest.mark.parametrize("c", [0.05, 0.4, 0.9])
@pytest.mark.parametrize("m", [1, 2, 3, 5])
def test_cagrad_is_the_best_of_every_support(m, c):
    for seed in range(10):
        jacobian = sample(ORDINARY[seed % 2], m, seed)
        assert_close(decide("CAGrad", jacobian, c=c)[0], oracles.cagrad(jacobian, c), 1e-8)


@pytest.mark.parametrize("c", [0.05, 0.4, 0.9, 1.5])
@pytest.mark.parametrize("m", SIZES)
@pytest.mark.parametrize("family", [name for name in SAMPLERS if name not in NOT_JUDGED])
def test_cagrad_is_in_its_ball_and_certified_by_the_dual_value(family, m, c):
    jacobian = sample(family, m)
    direction, report = decide("CAGrad", jacobian, c=c)
    mean = jacobian.mean(axis=0)
    radius = np.linalg.norm(mean)
    largest = np.linalg.norm(jacobian, axis=1).max()
    assert np.linalg.norm(direction - mean) <= c * radius * (1 + 1e-6) + 1e-15 * largest
    slack = 1e-14 * m * largest**2 * report.weights.abs().sum().item()  # rounding of Cw
    assert 0.0 <= report.gap <= slack
    slowest = (jacobian @ direction).min()
    assert slowest >= (jacobian @ mean).min() - slack
    assert slowest >= (jacobian @ (mean * (1 - min(c, 1)))).min() - slack


@pytest.mark.parametrize("off", [-1e-9, -1e-13, 0.0, 1e-13, 1e-9])
def test_cagrad_where_the_ball_only_just_touches_the_dual_cone(off):
    """Two opposite gradients, and a third that the mean conflicts with."""
    jacobian = np.array([[2.0, 0.0, 1.0], [-2.0, 0.0, -1.0], [0.0, 3.0, 0.0], [0.5, -1.0, 0.3]])
    mean = jacobian.mean(axis=0)
    allowed = oracles.onto_dual_cone(jacobian, mean)
    c = np.linalg.norm(allowed - mean) / np.linalg.norm(mean) * (1.0 + off)
    direction, report = decide("CAGrad", jacobian, c=c)
    np.testing.assert_allclose(direction, allowed, atol=1e-4)
    assert np.linalg.norm(direction - mean) <= c * np.linalg.norm(mean) * (1 + 1e-9)
    assert (jacobian @ direction).min() >= -1e-8 and report.weights.abs().max() < 1e6


@pytest.mark.parametrize("c", [0.0, 1e-200])
def test_cagrad_with_a_radius_of_zero_is_the_mean(c):
    jacobian = sample("generic", 4)
    assert decide("CAGrad", jacobian, c=c)[1].weights.tolist() == [0.25] * 4


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.parametrize("family", [*ORDINARY, "rank_deficient_one_sided", "rank_one"])
@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.0, 20.0])
def test_fairgrad_solves_its_equation(family, m, alpha):
    jacobian = sample(family, m)
    direction, report = decide("FairGrad", jacobian, alpha=alpha)
    weights = report.weights.numpy()
    np.testing.assert_allclose(jacobian @ direction, weights ** (-1 / alpha), rtol=1e-9)
    assert report.status == "ok" and (weights > 0).all() and report.gap < 1e-9
    if m <= 8:
        assert_close(direction, oracles.fair(jacobian, alpha), 1e-6)


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.parametrize("family", [*ORDINARY, "rank_one", "scaled_rows"])
def test_nash_mtl_solves_its_equation_whatever_the_scales(family, m):
    jacobian = sample(family, m)
    direction, report = decide("NashMTL", jacobian, max_norm=None)
    weights = report.weights.numpy()
    products = weights * (jacobian @ direction)  # α_j (Cα)_j = 1, times ‖C‖
    np.testing.assert_allclose(products, np.linalg.norm(jacobian @ jacobian.T), rtol=1e-8)
    clipped, _ = decide("NashMTL", jacobian, max_norm=0.5)
    length = np.linalg.norm(direction)
    assert_close(clipped, direction * min(1.0, 0.5 / length), 1e-9)


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.parametrize("family", ORDINARY)
def test_imtl_g_is_the_papers_and_has_equal_projections(family, m):
    jacobian = sample(family, m)
    direction, report = decide("IMTLG", jacobian)
    assert_close(direction, oracles.imtl_g(jacobian), 1e-7)
    assert abs(report.weights.sum().item() - 1.0) < 1e-9
    assert np.ptp(rates(jacobian, direction)) < 1e-9


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.parametrize("family", [*ORDINARY, "duplicated", "zero_rows", "rank_one"])
def test_config_is_the_pseudo_inverse_of_the_unit_gradients(family, m):
    jacobian, weights = sample(family, m), np.linspace(1.0, 2.0, m)
    if not jacobian.any():
        assert decide("ConFIG", jacobian)[1].status == "stationary"
        return
    assert_close(decide("ConFIG", jacobian)[0], oracles.config(jacobian, np.ones(m)), 1e-8)
    direction, _ = decide("ConFIG", jacobian, task_weights=weights)
    assert_close(direction, oracles.config(jacobian, weights), 1e-8)


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.parametrize("family", [*ORDINARY, "duplicated", "rank_one"])
def test_aligned_mtl_is_the_orthogonal_factor_at_the_smallest_length(family, m):
    jacobian, weights = sample(family, m), np.linspace(1.0, 2.0, m)
    mean = np.full(m, 1 / m)
    assert_close(decide("AlignedMTL", jacobian)[0], oracles.aligned_mtl(jacobian, mean), 1e-7)
    direction, _ = decide("AlignedMTL", jacobian, task_weights=weights)
    assert_close(direction, oracles.aligned_mtl(jacobian, weights), 1e-7)


def test_db_mtl_balances_the_gradients_of_logarithms():
    x = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    opt = pyfront.DBMTL(torch.optim.SGD([x], lr=0.0))

    def losses():
        return [(x**2).sum(), 1e4 * (x[0] - 3) ** 2 + 1, (1e-3 * x[1] * x[2]) ** 2]

    opt.step(losses())
    logs = [torch.log(loss + 1e-8) for loss in losses()]
    rows = torch.stack([torch.autograd.grad(log, x)[0] for log in logs])
    norms = rows.norm(dim=1)
    torch.testing.assert_close(x.grad, (norms.max() / norms) @ rows, rtol=1e-12, atol=0)


# ----------------------------------------------------------------------------------------- TorchJD


def torchjd(name, m, options):
    """TorchJD's aggregator of that name; skips the test, by the reason, where it cannot be made."""
    aggregation = pytest.importorskip("torchjd.aggregation", reason="torchjd is not installed")
    if name == "UPGrad":  # without the 1e-4 that it adds to the diagonal
        linear = pytest.importorskip("torchjd.linalg", reason="torchjd is not installed")
        projector = getattr(linear, "QuadprogProjector", None)
        projector = projector or importlib.import_module("torchjd._linalg").QuadprogProjector
        options = options | {"projector": projector(norm_eps=0.0, reg_eps=1e-14)}
    if name == "NashMTL":
        options = options | {"n_tasks": m, "optim_niter": 200}
    try:
        return getattr(aggregation, name)(**options)
    except ImportError as error:
        pytest.skip(f"torchjd: {error}")


CASES = [
    ("UPGrad", {}),
    ("IMTLG", {}),
    ("AlignedMTL", {}),
    ("ConFIG", {}),
    ("FairGrad", {"alpha": 0.5}),
    ("FairGrad", {"alpha": 1.0}),
    ("FairGrad", {"alpha": 2.0}),
]


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
@pytest.mark.parametrize("m", [1, 2, 3, 8, 20])
@pytest.mark.parametrize("family", ORDINARY)
def test_directions_are_those_of_torchjd(name, options, family, m):
    jacobian = sample(family, m)
    theirs = torchjd(name, m, options)(torch.from_numpy(jacobian)).numpy()
    assert_close(decide(name, jacobian, **options)[0], theirs, 1e-6)


@pytest.mark.parametrize("m", [2, 3, 8])
@pytest.mark.parametrize("family", ORDINARY)
def test_nash_mtl_is_torchjds_and_solves_its_equation_better(family, m):
    jacobian = sample(family, m)
    theirs = torchjd("NashMTL", m, {})(torch.from_numpy(jacobian)).numpy()
    ours = decide("NashMTL", jacobian)[0]
    assert_close(ours, theirs, 1e-6)
    products = [
        np.linalg.lstsq(jacobian.T, d, rcond=None)[0] * (jacobian @ d) for d in (ours, theirs)
    ]
    spreads = [np.ptp(p) / p.mean() for p in products]  # all α_j (Cα)_j are equal at the solution
    assert spreads[0] <= min(1e-9, max(spreads[1], 1e-12))


@pytest.mark.parametrize("c", [0.1, 0.5])
@pytest.mark.parametrize("m", [2, 3, 8, 20])
@pytest.mark.parametrize("family", ORDINARY)
def test_cagrad_is_torchjds_and_at_least_as_good(family, m, c):
    jacobian = sample(family, m)
    theirs = torchjd("CAGrad", m, {"c": c, "norm_eps": 0.0})(torch.from_numpy(jacobian)).numpy()
    ours, mean = decide("CAGrad", jacobian, c=c)[0], jacobian.mean(axis=0)
    assert_close(ours, theirs, 1e-3)  # the square root of its solver's tolerance
    inside = mean + (theirs - mean) * min(
        1.0, c * np.linalg.norm(mean) / np.linalg.norm(theirs - mean)
    )
    scale = np.linalg.norm(jacobian, axis=1).max() ** 2
    assert (jacobian @ ours).min() >= (jacobian @ inside).min() - 1e-13 * scale


@pytest.mark.parametrize("m", [2, 3, 8])
def test_pcgrad_is_torchjds_in_the_same_orders(monkeypatch, m):
    aggregator = torchjd("PCGrad", m, {})
    jacobian = sample("generic", m)
    orders = iter(projection_orders(5, 0, m))
    monkeypatch.setattr(torch, "randperm", lambda _: torch.from_numpy(next(orders).copy()))
    theirs = aggregator(torch.from_numpy(jacobian)).numpy()
    assert_close(decide("PCGrad", jacobian, seed=5)[0], theirs, 1e-9)
