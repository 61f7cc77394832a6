"""Embedding tables whose gradients are sparse: the numbers of dense ones, without dense memory."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import pyfront
from pyfront.optimizer.bases import DENSE_ALONE

ROWS, WIDTH = 60, 4


class Recommender(nn.Module):
    """Two tables and two heads; the second task reads other rows than the first."""

    def __init__(self, sparse, dtype=torch.float64, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.users = nn.Embedding(ROWS, WIDTH, sparse=sparse, dtype=dtype)
        self.items = nn.EmbeddingBag(ROWS, WIDTH, sparse=sparse, dtype=dtype, mode="sum")
        self.heads = nn.ModuleList(nn.Linear(2 * WIDTH, 1, dtype=dtype) for _ in range(2))

    def tables(self):
        return [self.users.weight, self.items.weight]

    def trunk(self, seed):
        generator = torch.Generator().manual_seed(seed)
        users = torch.randint(0, ROWS, (8,), generator=generator)
        items = torch.randint(0, ROWS, (8, 3), generator=generator)
        return torch.cat([self.users(users), self.items(items)], 1)

    def losses(self, seed, z=None):
        z = self.trunk(seed) if z is None else z
        bought = self.heads[0](z[:6]).squeeze(1)
        rated = self.heads[1](z[3:]).squeeze(1)
        return [(bought - 1).square().mean(), (rated + 2).square().mean()]


METHODS = {
    "MGDA": pyfront.MGDA,
    "EPO": lambda base: pyfront.EPO(base, [1.0, 2.0]),
    "Pareto MTL": lambda base: pyfront.ParetoMTL(base, [[1.0, 0.5], [0.5, 1.0]], 0),
    "linear": lambda base: pyfront.LinearScalarization(base, [1.0, 2.0]),
    "feedback": lambda base: pyfront.PreferenceFeedback(base, [1.0, 2.0]),
    "shared, own": lambda base: pyfront.EPO(
        base, [1.0, 2.0], gramian_over="shared", task_gradients="own"
    ),
    "every": lambda base: pyfront.MGDA(base, every=2),
    "smoothed": lambda base: pyfront.MGDA(base, weight_smoothing=0.9),
    "steal": lambda base: pyfront.MGDA(base, engine="steal"),
    "normalised": lambda base: pyfront.MGDA(base, normalization="l2"),
    "GradNorm": pyfront.GradNorm,
    "UPGrad": pyfront.UPGrad,
}


def stepped(opt, net, call="step", steps=4):
    reports = []
    for seed in range(steps):
        if call == "accumulate":
            opt.accumulate([0.5 * x for x in net.losses(10 + seed)])
            opt.accumulate([0.25 * x for x in net.losses(20 + seed)])
        if call == "features":
            z = net.trunk(seed)
            reports.append(opt.step(net.losses(seed, z), features=z))
        elif call == "fixed":
            reports.append(opt.step(net.losses(seed), fixed=net.users(torch.tensor([1])).sum()))
        elif call == "scalarize":
            opt.zero_grad()
            (2 * opt.scalarize(net.losses(seed))).backward()
            opt.step()
            reports.append(opt.report)
        elif call == "scaler":
            scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
            opt.backward(net.losses(seed), scaler=scaler)
            scaler.step(opt)
            reports.append(opt.report)
        else:
            reports.append(opt.step(net.losses(seed)))
    return reports


def same(sparse, dense, found, expected):
    for p, q in zip(sparse.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.weights, b.weights, rtol=1e-10, atol=1e-12)
        if b.gramian is not None:
            torch.testing.assert_close(a.gramian, b.gramian, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_as_on_dense_gradients(name):
    sparse, dense = Recommender(True), Recommender(False)
    make = METHODS[name]
    opts = [make(torch.optim.SGD(net.parameters(), lr=0.1)) for net in (sparse, dense)]
    found, expected = stepped(opts[0], sparse), stepped(opts[1], dense)
    same(sparse, dense, found, expected)
    assert all(p.grad.is_sparse for p in sparse.tables())


@pytest.mark.parametrize("call", ["accumulate", "features", "fixed", "scalarize", "scaler"])
def test_every_call_trains_as_on_dense_gradients(call):
    sparse, dense = Recommender(True), Recommender(False)
    opts = [pyfront.MGDA(torch.optim.SGD(net.parameters(), lr=0.1)) for net in (sparse, dense)]
    found, expected = stepped(opts[0], sparse, call), stepped(opts[1], dense, call)
    same(sparse, dense, found, expected)
    assert all(p.grad.is_sparse for p in sparse.tables())


def test_the_upper_bound_goes_on_from_the_features_to_the_tables():
    nets = Recommender(True), Recommender(False)
    reports = []
    for net in nets:
        opt = pyfront.MGDA(torch.optim.SGD(net.parameters(), lr=0.1), upper_bound=True)
        reports.append(stepped(opt, net, "features"))
    same(*nets, *reports)
    assert all(p.grad.is_sparse for p in nets[0].tables())


@pytest.mark.parametrize("products", ["double_backward", "forward", "difference"])
def test_products_leave_tables_sparse(products):
    """Of ``nn.Embedding`` alone: torch has no second derivative of a bag."""
    nets = Recommender(True), Recommender(False)
    reports = []
    for net in nets:
        opt = pyfront.SingleLoopMGDA(torch.optim.SGD([net.users.weight], lr=0.1), products=products)
        net.items.requires_grad_(False)
        reports.append([opt.step(lambda k=k, net=net: net.losses(k)) for k in range(3)])
    same(*nets, *reports)
    assert nets[0].users.weight.grad.is_sparse


@pytest.mark.parametrize("name", ["MGDA", "EPO", "every", "linear", "shared, own"])
def test_sparse_adam_steps_as_in_a_plain_loop(name):
    nets = [Recommender(True, torch.float32) for _ in range(2)]
    opt = METHODS[name](torch.optim.SparseAdam(nets[0].tables(), lr=0.05))
    plain = torch.optim.SparseAdam(nets[1].tables(), lr=0.05)
    for seed in range(4):
        report = opt.step(nets[0].losses(seed))
        plain.zero_grad()
        weights = report.weights.tolist()
        sum(w * x for w, x in zip(weights, nets[1].losses(seed), strict=True)).backward()
        plain.step()
    for p, q in zip(nets[0].tables(), nets[1].tables(), strict=True):
        assert p.grad.is_sparse
        torch.testing.assert_close(p, q)


def test_sparse_adam_resumes_bit_equal():
    nets = [Recommender(True, torch.float32) for _ in range(2)]
    opts = [METHODS["smoothed"](torch.optim.SparseAdam(net.tables(), lr=0.05)) for net in nets]
    stepped(opts[0], nets[0], steps=2)
    nets[1].load_state_dict(nets[0].state_dict())
    opts[1].load_state_dict(copy.deepcopy(opts[0].state_dict()))
    for opt, net in zip(opts, nets, strict=True):
        stepped(opt, net, steps=3)
    for p, q in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(p, q)


def test_a_parameter_that_one_task_reads_densely_becomes_dense():
    """A table that is also the output layer of a language model, say."""
    nets = Recommender(True), Recommender(False)
    reports = []
    for net in nets:
        opt = pyfront.MGDA(torch.optim.SGD(net.parameters(), lr=0.1))
        first, second = net.losses(0)
        reports.append([opt.step([first, second + net.users.weight.square().mean()])])
    same(*nets, *reports)
    users, items = nets[0].tables()
    assert not users.grad.is_sparse and items.grad.is_sparse


def test_gradients_change_between_sparse_and_dense():
    net = Recommender(True)
    opt = pyfront.MGDA(torch.optim.SGD(net.parameters(), lr=0.1))
    for dense in (True, False, True):
        first, second = net.losses(0)
        opt.step([first, second + net.users.weight.square().mean() if dense else second])
        assert net.users.weight.grad.is_sparse != dense


def test_complex_tables():
    tables = []
    for sparse in (True, False):
        torch.manual_seed(0)
        table = nn.Parameter(torch.randn(9, 2, dtype=torch.complex128))
        opt = pyfront.MGDA(torch.optim.SGD([table], lr=0.1))
        for places in ([1, 4, 4], [0, 4, 2]):
            rows = torch.tensor(places).unsqueeze(1).expand(3, 2)
            y = table.gather(0, rows, sparse_grad=sparse)
            opt.step([(y - 1j).abs().square().sum(), (y[1:] + 2).abs().square().sum()])
        tables.append(table)
    torch.testing.assert_close(*tables)
    assert tables[0].grad.is_sparse


def test_gradients_that_are_not_finite_are_named_and_under_a_scaler_skipped():
    net = Recommender(True)
    opt = pyfront.MGDA(torch.optim.SparseAdam(net.tables(), lr=0.1))
    before = copy.deepcopy(net.state_dict())

    def broken():
        first, second = net.losses(0)
        y = net.users(torch.tensor([1])).sum()
        return [first, second + (y - y.detach()).abs().sqrt()]  # its slope at 0 is not finite

    with pytest.raises(ValueError, match=r"losses\[1\] = .*: its gradient is not finite"):
        opt.step(broken())
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    assert opt.backward(broken(), scaler=scaler).status == "nonfinite"
    scaler.step(opt)
    scaler.update()
    assert scaler.get_scale() == 8.0
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


class Largest(TorchDispatchMode):
    """Notes the most bytes that one new tensor takes; ``known`` memory is not new."""

    def __init__(self, known):
        super().__init__()
        self.known = {p.data_ptr() for p in known}
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for out in found if isinstance(found, (tuple, list)) else [found]:
            strided = isinstance(out, torch.Tensor) and out.layout is torch.strided
            if strided and out.data_ptr() not in self.known:
                self.bytes = max(self.bytes, out.untyped_storage().nbytes())
        return found


CALLS = {
    "MGDA": (pyfront.MGDA, "step"),
    "own": (lambda base: pyfront.MGDA(base, task_gradients="own"), "step"),
    "micro-batches": (pyfront.MGDA, "accumulate"),
    "linear": (METHODS["linear"], "step"),
    "scalarize": (pyfront.MGDA, "scalarize"),
    "products": (pyfront.SingleLoopMGDA, "step"),
}


@pytest.mark.parametrize("name", CALLS)
def test_nothing_as_large_as_the_table_is_made(name):
    make, call = CALLS[name]
    net = Recommender(True)
    net.users = nn.Embedding(50_000, WIDTH, sparse=True, dtype=torch.float64)
    if name == "products":
        net.items.requires_grad_(False)
    parameters = [p for p in net.parameters() if p.requires_grad]
    opt = make(torch.optim.SGD(parameters, lr=0.1))
    table = net.users.weight.untyped_storage().nbytes()
    with Largest(parameters) as largest:
        for seed in range(2):
            if call == "accumulate":
                opt.accumulate(net.losses(seed + 7))
            if call == "scalarize":
                opt.zero_grad()
                opt.scalarize(net.losses(seed)).backward()
            else:
                opt.backward(net.losses(seed))
    assert 0 < largest.bytes < table / 50
    opt.step()


@pytest.mark.parametrize("kind", DENSE_ALONE)
def test_a_base_that_takes_no_sparse_gradient_says_what_to_do(kind):
    if not hasattr(torch.optim, kind):
        pytest.skip(f"this torch has no torch.optim.{kind}")
    net = Recommender(True, torch.float32)
    before = copy.deepcopy(net.state_dict())
    matrices = [p for p in net.parameters() if p.ndim == 2]  # of which alone Muon takes any
    first = torch.optim.SGD([p for p in net.parameters() if p.ndim != 2], lr=0.1)
    opt = pyfront.MGDA([first, getattr(torch.optim, kind)(matrices)])
    message = rf"{kind} takes no sparse gradient, and that of its parameter 0 \(shape \[60, 4\]\)"
    with pytest.raises(TypeError, match=message + ".*SparseAdam.*sparse=False"):
        opt.step(net.losses(0))
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    dense = Recommender(False, torch.float32)
    params = [p for p in dense.parameters() if p.ndim == 2]
    pyfront.MGDA(getattr(torch.optim, kind)(params)).step(dense.losses(0))


def test_torch_itself_refuses_them():
    p = nn.Parameter(torch.ones(3, 2))
    for kind in ("SGD", "Adagrad", *DENSE_ALONE):
        if hasattr(torch.optim, kind):
            base = getattr(torch.optim, kind)([p], lr=0.1)
            p.grad = torch.eye(3, 2).to_sparse(1)
            if kind not in DENSE_ALONE:
                base.step()
                continue
            with pytest.raises(RuntimeError, match="does not support sparse"):
                base.step()


def test_sparse_adam_takes_no_dense_gradient():
    net = Recommender(True, torch.float32)
    opt = pyfront.MGDA(torch.optim.SparseAdam(net.tables()))
    before = net.users.weight.detach().clone()
    first, second = net.losses(0)
    message = r"SparseAdam takes no dense gradient, and that of its parameter 0 \(shape \[60, 4\]"
    with pytest.raises(TypeError, match=message):
        opt.step([first, second + net.users.weight.square().mean()])
    assert torch.equal(net.users.weight, before)
    opt.step(net.losses(0))
