"""Steps of more than one call, or that cut the graph, with the numbers left on a device."""

import copy

import pytest
import torch
from device_cases import METHODS, X

from pyfront import MGDA


def split(model, x):
    """The trunk's output, which is given as ``features``, and the losses of the two heads."""
    z = torch.tanh(model.trunk(x))
    return z, [(head(z) ** 2).mean() + 0.1 for head in model.heads]


def with_scaler(opt, model, x):
    scaler = torch.amp.GradScaler(x.device.type, init_scale=64.0)
    report = opt.backward(split(model, x)[1], scaler=scaler)
    scaler.step(opt)
    scaler.update()
    return report


def with_micro_batches(opt, model, x):
    opt.accumulate([loss / 2 for loss in split(model, x[:3])[1]])
    return opt.step([loss / 2 for loss in split(model, x[3:])[1]])


def with_features(opt, model, x):
    z, losses = split(model, x)
    return opt.step(losses, features=z)


MANNERS = [with_scaler, with_micro_batches, with_features]


DECIDING = ["MGDA", "MGDA-own", "MGDA-shared", "MGDA-every", "EPO", "ParetoMTL", "MGDA-bound"]


METHODS_OR_BOUND = METHODS | {"MGDA-bound": lambda base: MGDA(base, upper_bound=True)}


@pytest.mark.parametrize("manner", MANNERS, ids=lambda manner: manner.__name__)
@pytest.mark.parametrize("method", DECIDING)
def test_every_manner_of_a_step_is_that_of_the_cpu(place, monkeypatch, two_heads, manner, method):
    if method == "MGDA-bound" and manner is not with_features:
        pytest.skip("an upper bound is decided on features alone")

    def trained(where):
        twin = copy.deepcopy(two_heads).to(where)
        opt = METHODS_OR_BOUND[method](torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.5))
        return twin, [manner(opt, twin, X.to(where)) for _ in range(4)]

    model_a, reports_a = trained(place)
    monkeypatch.undo()
    model_b, reports_b = trained(torch.device("cpu"))
    for p, q in zip(model_a.parameters(), model_b.parameters(), strict=True):
        torch.testing.assert_close(p.cpu(), q, rtol=1e-4, atol=1e-6)
    for a, b in zip(reports_a, reports_b, strict=True):
        assert (a.status, a.phase) == (b.status, b.phase)
        torch.testing.assert_close(a.weights.cpu(), b.weights, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", ["MGDA", "EPO", "LinearScalarization"])
def test_a_scaler_skips_a_step_that_is_not_finite(place, two_heads, method):
    model = two_heads.to(place)
    opt = METHODS[method](torch.optim.SGD(model.parameters(), lr=0.1))
    scaler = torch.amp.GradScaler(place.type, init_scale=64.0)
    losses = split(model, X.to(place))[1]
    losses[1] = losses[1] * float("inf")
    before = model.trunk.weight.detach().clone()
    report = opt.backward(losses, scaler=scaler)
    scaler.step(opt)
    scaler.update()
    assert report.status == "nonfinite" and scaler.get_scale() == 32.0
    assert torch.equal(model.trunk.weight, before)
