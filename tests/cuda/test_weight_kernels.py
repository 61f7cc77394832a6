"""The CUDA kernels that decide on weights, lane by lane on the CPU: the bits of the processor."""

import emulated
import numpy as np
import pytest
import torch
from samplers import SAMPLERS

import pyfront
from pyfront._utils.loss_space import as_reference_vectors
from pyfront.backend import _core
from pyfront.methods._feasibility import AVERAGE

pytestmark = pytest.mark.usefixtures("lanes")


@pytest.mark.parametrize("family", SAMPLERS)
def test_min_norm_gives_the_bits_of_the_processor(harness, family):
    for m in (1, 2, 3, 8, 13, 33, 64):
        jacobian = SAMPLERS[family](np.random.default_rng(m), m)
        c = jacobian @ jacobian.T
        weights, gap, status = _core.min_norm(c)
        own, own_gap, number = emulated.min_norm(harness, c)
        assert own.tolist() == weights.tolist()
        assert (own_gap, _core.STATUSES[number]) == (gap, status)


@pytest.mark.parametrize("place", ["gramian", "losses"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_min_norm_of_what_is_not_finite_is_nan(harness, place, bad):
    c, losses = np.eye(5), np.ones(5)
    if place == "gramian":
        c[3, 3] = bad
    else:
        losses[4] = bad
    weights, gap, number = emulated.min_norm(harness, c, losses)
    assert np.isnan(weights).all()
    assert np.isnan(gap)
    assert _core.STATUSES[number] == "nonfinite"


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("epsilon", [0.0, 0.2])
@pytest.mark.parametrize("tasks, vectors, index", [(2, 5, 0), (2, 5, 3), (3, 1, 0), (4, 7, 2)])
def test_pareto_mtl_takes_the_steps_of_the_class(harness, tasks, vectors, index, epsilon, rescale):
    """Weights, statuses and phases over 12 steps, of which at most 8 look for the region."""
    rng = np.random.default_rng(tasks + vectors)
    u = np.abs(rng.standard_normal((vectors, tasks)))
    x = torch.nn.Parameter(torch.ones(1))
    options = {"warmup_steps": 8, "epsilon": epsilon, "rescale": rescale}
    opt = pyfront.ParetoMTL(torch.optim.SGD([x]), u, index=index, **options)
    u = as_reference_vectors(u)
    state = np.array([_core.PHASES.index("feasibility"), 0.0, -1.0, *[0.0] * tasks])
    for _ in range(12):
        jacobian = rng.standard_normal((tasks, tasks + 2))
        c, losses = jacobian @ jacobian.T, rng.random(tasks)
        phase = opt.phase
        expected = opt.decide(losses, c, opt.goal(None, tasks))
        weights, status, gap, number = emulated.pareto_mtl(
            harness,
            losses,
            c,
            u,
            state,
            index=index,
            epsilon=epsilon,
            steps=8,
            average=AVERAGE,
            rescale=rescale,
        )
        np.testing.assert_allclose(weights, expected.weights.numpy(), rtol=1e-13, atol=1e-15)
        assert (_core.STATUSES[status], _core.PHASES[number]) == (expected.status, phase)
        assert _core.PHASES[int(state[0])] == opt.phase
        assert gap == pytest.approx(expected.gap or 0.0, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("phase", ["feasibility", "descent", "convergence"])
def test_pareto_mtl_gives_the_bits_of_the_processor(harness, phase):
    rng = np.random.default_rng(0)
    for m, count in ((2, 5), (3, 1), (4, 7), (8, 20), (3, 62)):
        jacobian = rng.standard_normal((m, m + 2))
        c, losses = jacobian @ jacobian.T, rng.random(m)
        vectors = np.abs(rng.standard_normal((count, m)))
        vectors /= np.linalg.norm(vectors, axis=1)[:, None]
        index = count // 2
        weights, status, gap = _core.pareto_mtl(losses, c, vectors, index, phase, 0.1)
        state = np.array([_core.PHASES.index(phase), 0.0, -1.0, *[0.0] * m])
        own, number, own_gap, _ = emulated.pareto_mtl(
            harness,
            losses,
            c,
            vectors,
            state,
            index=index,
            epsilon=0.1,
            steps=10,
            average=0.9,
            rescale=False,
        )
        assert own.tolist() == weights.tolist()
        assert (own_gap, _core.STATUSES[number]) == (gap, status)
