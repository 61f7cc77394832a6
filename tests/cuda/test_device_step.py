"""backward() with the numbers left on a device: the same steps as on the CPU, and no waiting.

Where there is no GPU the device is the CPU: the functions of :mod:`pyfront.devices` are replaced
by the core's own, which shows that everything around them is right.
"""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from device_cases import METHODS, VECTORS, X

import pyfront
from pyfront import MGDA
from pyfront.backend import _core
from pyfront.backend import cuda as devices
from pyfront.optimizer.arithmetic import DeviceArithmetic
from pyfront.optimizer.device_report import DeviceReport

LOOKS = {"MGDA-smooth", "Linear-smooth", "MGDA-every", "EPO", "EPO-smooth", "GradNorm"}


def run(model, method, place, steps=6, fixed=False):
    model = copy.deepcopy(model).to(place)
    opt = METHODS[method](torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.5))
    reports = []
    for _ in range(steps):
        extra = {"fixed": 0.01 * (model.trunk.weight**2).sum()} if fixed else {}
        reports.append(opt.step(model.losses(X.to(place)), **extra))
    return model, opt, reports


@pytest.mark.parametrize("fixed", [False, True], ids=["", "fixed"])
@pytest.mark.parametrize("method", METHODS)
def test_steps_are_those_of_the_cpu(two_heads, method, fixed, place, monkeypatch):
    model, _, reports = run(two_heads, method, place, fixed=fixed)
    monkeypatch.undo()
    reference, _, expected = run(two_heads, method, torch.device("cpu"), fixed=fixed)
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(p.cpu(), q, rtol=1e-4, atol=1e-6)
    for a, b in zip(reports, expected, strict=True):
        assert isinstance(a, DeviceReport) == (method not in LOOKS)
        assert (a.status, a.phase) == (b.status, b.phase)
        assert (a.gap is None) == (b.gap is None)
        torch.testing.assert_close(a.weights.cpu(), b.weights, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(a.losses.cpu(), b.losses, rtol=1e-4, atol=1e-6)
        if b.gramian is not None:
            torch.testing.assert_close(a.gramian.cpu(), b.gramian, rtol=1e-3, atol=1e-6)
        assert set(a.metrics()) == set(b.metrics())


def test_a_report_is_read_when_it_is_looked_at_and_can_be_kept(two_heads, place):
    _, opt, reports = run(two_heads, "MGDA", place, steps=1)
    (report,) = reports
    assert report is opt.report
    assert isinstance(report._outcome, torch.Tensor)
    assert report.status == "ok" and report.gap >= 0.0 and report.phase is None
    assert not isinstance(report._outcome, torch.Tensor)
    kept = pickle.loads(pickle.dumps(report))
    assert type(kept) is pyfront.Report
    assert (kept.status, kept.gap) == (report.status, report.gap)
    assert replace(kept, status="stationary").status == "stationary"
    assert report.as_dict()["status"] == "ok"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "method", ["MGDA", "MGDA-l2", "MGDA-shared", "ParetoMTL", "LinearScalarization"]
)
def test_what_is_not_finite_is_a_status_where_nobody_looks(two_heads, place, method, bad):
    model = two_heads.to(place)
    opt = METHODS[method](torch.optim.SGD(model.parameters(), lr=0.1))
    losses = model.losses(X.to(place))
    losses[1] = losses[1] * bad
    report = opt.backward(losses)
    assert report.status == "nonfinite"
    assert torch.isnan(report.weights).all() or method == "LinearScalarization"
    assert all(p.grad is None or torch.isnan(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("method", ["MGDA", "ParetoMTL", "LinearScalarization"])
def test_a_fixed_loss_that_is_not_finite_is_a_status_too(two_heads, place, method):
    model = two_heads.to(place)
    opt = METHODS[method](torch.optim.SGD(model.parameters(), lr=0.1))
    fixed = (model.trunk.weight**2).sum() * torch.inf
    report = opt.backward(model.losses(X.to(place)), fixed=fixed)
    assert report.status == "nonfinite"
    assert all(torch.isnan(p.grad).all() for p in model.parameters())


def test_a_fixed_gradient_that_is_not_finite_is_a_status_too(two_heads, place):
    model = two_heads.to(place)
    opt = MGDA(torch.optim.SGD(model.parameters(), lr=0.1))
    fixed = (model.trunk.weight * 0.0).abs().sqrt().sum()  # 0, and its derivative is not a number
    assert opt.backward(model.losses(X.to(place)), fixed=fixed).status == "nonfinite"


def test_more_vectors_than_a_device_has_memory_for_are_decided_on_the_host(
    two_heads, place, monkeypatch
):
    monkeypatch.setattr(devices, "most_weights", lambda device: 4)  # two tasks, four vectors: 5
    model = two_heads.to(place)
    opt = METHODS["ParetoMTL"](torch.optim.SGD(model.parameters(), lr=0.1))
    report = opt.step(model.losses(X.to(place)))
    assert not isinstance(report, DeviceReport) and report.phase == "feasibility"
    opt.step(model.losses(X.to(place)), reference_vectors=VECTORS[:3])
    assert isinstance(opt.report, DeviceReport)


@pytest.mark.parametrize("method", ["MGDA", "ParetoMTL", "LinearScalarization"])
def test_a_first_step_cannot_be_captured(two_heads, place, monkeypatch, method):
    model = two_heads.to(place)
    opt = METHODS[method](torch.optim.SGD(model.parameters(), lr=0.1))
    monkeypatch.setattr(devices, "capturing", lambda device: True)
    with pytest.raises(RuntimeError, match="a few steps before the capture"):
        opt.step(model.losses(X.to(place)))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("method", ["MGDA", "ParetoMTL", "LinearScalarization", "EPO"])
def test_another_default_device_changes_nothing(two_heads, place, method):
    model = two_heads.to(place)
    opt = METHODS[method](torch.optim.SGD(model.parameters(), lr=0.1))
    losses = model.losses(X.to(place))
    torch.set_default_device("meta")
    try:
        report = opt.step(losses)
    finally:
        torch.set_default_device(None)
    assert not report.weights.is_meta and bool(report.weights.isfinite().all())


def test_a_fixed_loss_on_another_device_is_named():
    losses = [torch.ones(()), torch.ones(()), torch.ones((), device="meta")]
    with pytest.raises(ValueError, match="^fixed: is on meta, losses"):
        DeviceArithmetic().values(losses, ["losses[0]", "losses[1]", "fixed"])


def test_what_a_cuda_graph_cannot_hold_is_refused(place, monkeypatch):
    monkeypatch.undo()  # the real copies between host and device
    monkeypatch.setattr(devices, "capturing", lambda device: True)
    with pytest.raises(RuntimeError, match="copy these numbers anew at every replay"):
        devices.to_device(np.ones(2), place)
    with pytest.raises(RuntimeError, match="needed on the host"):
        devices.to_host(torch.ones(2, device=place))


def test_a_captured_step_writes_into_memory_of_its_own(two_heads, place, monkeypatch):
    model = two_heads.to(place)
    opt = MGDA(torch.optim.SGD(model.parameters(), lr=0.1))
    opt.backward(model.losses(X.to(place)))
    before = [p.grad for p in model.parameters()]
    kept = [g.clone() for g in before]
    opt.backward(model.losses(X.to(place)))
    assert all(p.grad is g for p, g in zip(model.parameters(), before, strict=True))
    monkeypatch.setattr(devices, "capturing", lambda device: True)
    opt.backward(model.losses(2 * X.to(place)))
    assert all(p.grad is not g for p, g in zip(model.parameters(), before, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, kept, strict=True))


@pytest.mark.parametrize("method", ["EPO", "GradNorm"])
def test_a_method_that_looks_raises_before_anything_changes(two_heads, place, method):
    model = two_heads.to(place)
    opt = METHODS[method](torch.optim.SGD(model.parameters(), lr=0.1))
    losses = model.losses(X.to(place))
    losses[1] = losses[1] * float("nan")
    with pytest.raises(ValueError, match=r"losses\[1\] = nan"):
        opt.backward(losses)
    assert all(p.grad is None for p in model.parameters())
    assert opt.report is None


def test_pareto_mtl_keeps_its_phase_on_the_device_and_in_checkpoints(two_heads, place):
    _, opt, reports = run(two_heads, "ParetoMTL-far", place, steps=2)
    assert [r.phase for r in reports] == ["feasibility", "feasibility"]
    saved = opt.state_dict()
    fresh = METHODS["ParetoMTL-far"](torch.optim.SGD(two_heads.to(place).parameters(), lr=0.1))
    fresh.load_state_dict(saved)
    assert fresh.memory["warmup"] == 2
    fresh.step(two_heads.losses(X.to(place)))
    assert fresh.phase == "descent" and fresh.feasible is not None
    state = fresh._device_state
    fresh.phase = "convergence"
    assert fresh.step(two_heads.losses(X.to(place))).phase == "convergence"
    assert fresh._device_state is state  # a graph may have captured where it is
    assert copy.deepcopy(fresh).phase == "convergence"


def test_a_wrong_number_of_losses_is_named(two_heads, place):
    model = two_heads.to(place)
    losses = model.losses(X.to(place))
    opt = METHODS["ParetoMTL"](torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match="expected 2, one per entry of a reference vector, got 3"):
        opt.backward([*losses, losses[0] + losses[1]])
    opt = METHODS["EPO"](torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match="expected 2, one per entry of preference, got 1"):
        opt.backward(model.losses(X.to(place))[:1])


def test_a_decision_of_many_tasks(place):
    """m = 20 on flat parameters, against the solver itself."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(20, 40, generator=generator).to(place)
    theta = torch.nn.Parameter(torch.zeros(40, device=place))
    report = MGDA(torch.optim.SGD([theta], lr=0.1)).step(((theta - targets) ** 2).sum(dim=1))
    weights, gap, _ = _core.min_norm(report.gramian.cpu().numpy())
    assert np.array_equal(report.weights.cpu().numpy(), weights)
    assert report.gap == gap
