"""First-order changes of losses under the base's own update, against an explicit computation."""

import copy
import pickle

import pytest
import torch

import pyfront
from pyfront import EPO, MGDA, LinearScalarization

X = torch.linspace(-1, 1, 30, dtype=torch.float64).reshape(6, 5)
BASES = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.05),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.2),
}
METHODS = {
    "MGDA": lambda base, **o: MGDA(base, **o),
    "EPO": lambda base, **o: EPO(base, [0.7, 0.3], **o),
    "linear": lambda base, **o: LinearScalarization(base, [0.9, 0.1], **o),
    "product": lambda base, **o: pyfront.SingleLoopMGDA(base, **o),
    "own": lambda base, **o: MGDA(base, task_gradients="own", **o),
    "every": lambda base, **o: MGDA(base, every=3, **o),
    "smoothed": lambda base, **o: EPO(base, [0.7, 0.3], weight_smoothing=0.9, **o),
}


class Trade(torch.nn.Module):
    """Two heads behind one number, so that the tasks conflict."""

    def __init__(self):
        super().__init__()
        self.trunk = torch.nn.Linear(5, 1)
        self.heads = torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(2))
        self.double()

    def losses(self, x):
        z = self.trunk(x)
        targets = (x[:, :1] + 0.3 * x[:, 2:3] ** 2, x[:, 1:2] ** 2)
        return [((head(z) - y) ** 2).mean() for head, y in zip(self.heads, targets, strict=True)]


def batch(k):
    generator = torch.Generator().manual_seed(k)
    return torch.randn(8, 5, generator=generator, dtype=torch.float64)


def explicit(losses, params, step):
    """⟨g_j, θ_after − θ_before⟩ around ``step``."""
    rows = [
        torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True) for loss in losses
    ]
    before = [p.detach().clone() for p in params]
    step()
    return [
        sum(
            torch.sum(g * (p.detach() - old)).item()
            for g, p, old in zip(row, params, before, strict=True)
            if g is not None
        )
        for row in rows
    ]


def changes(opt):
    found = opt.metrics()
    return [found[name] for name in sorted(found) if name.startswith("change/")]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("method", METHODS)
def test_changes_are_those_of_the_parameters(method, base):
    model = Trade()
    params = list(model.parameters())
    opt = METHODS[method](BASES[base](params), track_rises=True)
    risen = 0
    for k in range(6):
        losses = model.losses(batch(k))
        want = explicit(losses, params, lambda losses=losses: opt.step(losses))
        assert changes(opt) == pytest.approx(want, rel=1e-9, abs=1e-15)
        risen += max(want) > 0
        assert opt.metrics()["rising"] == pytest.approx(risen / (k + 1))


def test_no_loss_rises_along_the_direction_of_mgda_and_some_do_under_adam():
    rising = {}
    for name, make in BASES.items():
        model = Trade()
        opt = MGDA(make(model.parameters()), track_rises=True)
        for k in range(60):
            opt.step(model.losses(batch(k)))
        rising[name] = opt.metrics()["rising"]
    assert rising["SGD"] == 0.0
    assert rising["Adam"] > 0.1 and rising["AdamW"] > 0.1


@pytest.mark.parametrize("method", ["MGDA", "EPO", "own", "smoothed"])
def test_training_is_the_same_to_the_bit(method):
    models = [Trade()]
    models.append(copy.deepcopy(models[0]))
    for model, track in zip(models, (True, False), strict=True):
        opt = METHODS[method](BASES["AdamW"](model.parameters()), track_rises=track)
        for k in range(5):
            opt.step(model.losses(batch(k)))
    a, b = (model.parameters() for model in models)
    assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def test_nothing_is_measured_or_kept_by_default():
    model = Trade()
    opt = MGDA(BASES["Adam"](model.parameters()))
    opt.backward(model.losses(X))
    assert opt._shared.kept is None
    opt.step()
    assert not [name for name in opt.metrics() if name.startswith(("change", "rising"))]
    assert "rises" not in opt.memory


# ------------------------------------------------------------------------------ ways to make a step


def clipped(opt, model):
    opt.backward(model.losses(X))
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    opt.step()


def by_scalar(opt, model):
    scalar = opt.scalarize(model.losses(X))
    opt.zero_grad()  # as Lightning does
    scalar.backward()
    opt.step()


def by_closure(opt, model):
    opt.step(lambda: model.losses(X))


def in_micro_batches(opt, model):
    whole = model.losses(X)
    opt.accumulate([loss / 4 for loss in whole])
    opt.step([3 * loss / 4 for loss in model.losses(X)])


def scaled(opt, model):
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    opt.backward(model.losses(X), scaler=scaler)
    scaler.step(opt)
    scaler.update()


def with_features(opt, model):
    z = model.trunk(X)
    targets = (X[:, :1] + 0.3 * X[:, 2:3] ** 2, X[:, 1:2] ** 2)
    losses = [((h(z) - y) ** 2).mean() for h, y in zip(model.heads, targets, strict=True)]
    opt.step(losses, features=z)


def with_fixed(opt, model):
    opt.step(model.losses(X), fixed=model.trunk.weight.square().sum())


WAYS = [clipped, by_scalar, by_closure, in_micro_batches, scaled, with_features, with_fixed]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("engine", ["auto", "steal"])
def test_every_way_to_make_a_step_is_measured(way, engine):
    if engine == "steal" and way is with_features:
        engine = "grad"
    model = Trade()
    params = list(model.parameters())
    opt = EPO(BASES["Adam"](params), [0.7, 0.3], track_rises=True, engine=engine)
    for _ in range(3):
        want = explicit(model.losses(X), params, lambda: way(opt, model))
        assert changes(opt) == pytest.approx(want, rel=1e-9)
    assert opt.memory["rises"][0] == 3


def test_a_task_without_data_has_no_change():
    model = Trade()
    opt = MGDA(BASES["Adam"](model.parameters()), track_rises=True)
    opt.step(dict(zip("ab", model.losses(X), strict=True)))
    assert {"change/a", "change/b"} <= opt.metrics().keys()
    opt.step({"a": None, "b": model.losses(X)[1]})
    assert "change/b" in opt.metrics() and "change/a" not in opt.metrics()
    assert opt.memory["rises"][0] == 2


def test_complex_parameters():
    x = torch.nn.Parameter(torch.tensor([1.0 + 2.0j, 0.5 - 1.0j], dtype=torch.complex128))
    opt = MGDA(torch.optim.Adam([x], lr=0.1), track_rises=True)
    losses = [x[0].abs() ** 2 + x[1].real, (x - 1j).abs().square().sum()]
    rows = [torch.autograd.grad(loss, [x], retain_graph=True)[0] for loss in losses]
    before = x.detach().clone()
    opt.step(losses)
    want = [torch.sum((g.conj() * (x.detach() - before)).real).item() for g in rows]
    assert changes(opt) == pytest.approx(want)


def test_sparse_gradients():
    table = torch.nn.Embedding(10, 2, sparse=True, dtype=torch.float64)
    other = torch.nn.Linear(2, 1, dtype=torch.float64)
    base = torch.optim.SGD([*table.parameters(), *other.parameters()], lr=0.1)
    opt = MGDA(base, track_rises=True)
    losses = [other(table(torch.tensor(k))).square().sum() for k in ([1, 2], [2, 3])]
    rows = [torch.autograd.grad(loss, table.weight, retain_graph=True)[0] for loss in losses]
    more = [torch.autograd.grad(loss, other.weight, retain_graph=True)[0] for loss in losses]
    bias = [torch.autograd.grad(loss, other.bias, retain_graph=True)[0] for loss in losses]
    before = [p.detach().clone() for p in (table.weight, other.weight, other.bias)]
    opt.step(losses)
    moved = [p - q for p, q in zip((table.weight, other.weight, other.bias), before, strict=True)]
    want = [
        sum((g.to_dense() * u).sum().item() for g, u in zip(found, moved, strict=True))
        for found in zip(rows, more, bias, strict=True)
    ]
    assert changes(opt) == pytest.approx(want)


def test_a_step_without_a_decision_is_not_measured():
    model = Trade()
    opt = MGDA(BASES["SGD"](model.parameters()), track_rises=True)
    opt.backward(model.losses(X))
    opt.zero_grad()
    opt.step()
    assert opt._shared.kept is None and "rising" not in opt.metrics()
    opt.step(model.losses(X))
    opt.step()  # on the same .grad once more, of which the gradients are gone
    assert opt.memory["rises"][0] == 1 and "rising" not in opt.metrics()


def test_the_share_goes_on_after_a_checkpoint():
    model = Trade()
    opt = MGDA(BASES["Adam"](model.parameters()), track_rises=True)
    for k in range(4):
        opt.step(model.losses(batch(k)))
    resumed = MGDA(BASES["Adam"](model.parameters()), track_rises=True)
    resumed.load_state_dict(opt.state_dict())
    opt.step(model.losses(batch(4)))
    resumed.step(model.losses(batch(4)))
    assert resumed.memory["rises"][0] == opt.memory["rises"][0] == 5


def test_a_copy_keeps_no_gradients():
    model = Trade()
    opt = MGDA(BASES["Adam"](model.parameters()), track_rises=True)
    opt.backward(model.losses(X))
    assert pickle.loads(pickle.dumps(opt))._shared.kept is None
    assert copy.deepcopy(opt)._shared.kept is None and opt._shared.kept is not None


def test_what_cannot_be_measured_is_refused():
    model = Trade()
    base = BASES["SGD"](model.parameters())
    with pytest.raises(TypeError, match="track_rises: expected True or False, got 1"):
        MGDA(base, track_rises=1)
    z = model.trunk(X)
    losses = [(head(z) ** 2).mean() for head in model.heads]
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match="track_rises: with upper_bound"):
        MGDA(base, upper_bound=True, track_rises=True).step(losses, features=z)
    single = pyfront.SingleLoopMGDA(base, track_rises=True)
    with pytest.raises(ValueError, match="second: not with track_rises"):
        single.step(model.losses(X), second=model.losses(X))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert all(p.grad is None for p in model.parameters())
