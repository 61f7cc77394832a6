"""On a CUDA device alone: memory of any alignment, bits, waits, graphs, and several devices."""

import copy

import gpu_steps
import numpy as np
import oracles
import pytest
import torch
from gpu_timings import graph_of
from samplers import SAMPLERS

from pyfront import EPO, MGDA, LinearScalarization, ParetoMTL, functional
from pyfront.backend import _core
from pyfront.backend import cuda as devices

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
FAR = [[0.0, 1.0], [0.6, 0.8], [0.8, 0.6], [1.0, 0.0]]  # the last one's region is not reached


def gramian_of(jacobian):
    product = jacobian @ jacobian.T
    return (product + product.T) / 2


def assert_gramian(c, rows):
    exact = oracles.gramian([[None if g is None else g.cpu() for g in row] for row in rows])
    norms = np.sqrt(np.diag(exact))
    found = c.cpu().numpy()
    assert np.array_equal(found, found.T)
    assert np.all(np.abs(found - exact) <= 1e-14 * np.outer(norms, norms))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tasks", [1, 2, 3, 8, 9, 20, 33])
def test_memory_that_starts_at_any_element(cuda, tasks, dtype):
    storage = torch.randn(tasks, 3000, device=cuda).to(dtype)
    rows = [[storage[i, i % 7 : i % 7 + 2500], storage[i, 2600 - i :][:17]] for i in range(tasks)]
    assert_gramian(functional.gramian(rows), rows)
    target = torch.full((2600,), torch.nan, device=cuda, dtype=dtype)
    weights = np.linspace(-1.0, 2.0, tasks)
    out = [target[3:2503], target[2503:2520]]
    functional.combine(rows, weights.tolist(), out)
    found = torch.cat(out).double().cpu().numpy()
    exact = oracles.combine([[g.cpu() for g in row] for row in rows], weights)
    lost = (tasks + 1) * 2.0**-53 * np.abs(exact).max() * tasks
    assert np.all(np.abs(found - exact) <= 0.5 * oracles.spacing(found, dtype) + lost)
    assert torch.isnan(target[:3]).all() and torch.isnan(target[2520:]).all()


def test_sparse_tables_are_read_where_they_lie(cuda):
    tables = [torch.nn.Embedding(500, 6, sparse=True) for _ in range(2)]
    tables[1].load_state_dict(tables[0].state_dict())
    tables[0].to(cuda)
    reports = []
    for table in tables:
        opt = MGDA(torch.optim.SparseAdam(table.parameters(), lr=0.1))
        for step in range(3):
            places = torch.arange(step, 40, 3, device=table.weight.device)
            y = table(torch.cat([places, places[:4]]))
            reports.append(opt.step([(y - 1).square().sum(), (y[5:] + 2).square().sum()]))
        assert table.weight.grad.is_sparse
    for found, expected in zip(reports[:3], reports[3:], strict=True):
        torch.testing.assert_close(found.weights.cpu(), expected.weights, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tables[0].weight.cpu(), tables[1].weight, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tasks", [2, 8, 20])
def test_two_runs_give_the_same_bits(cuda, tasks):
    rows = [
        [torch.randn(n, device=cuda) for n in (1_000_003, 17, 1, 300_001)] for _ in range(tasks)
    ]
    c = functional.gramian(rows)
    assert all(torch.equal(c, functional.gramian(rows)) for _ in range(5))
    exact = _core.gramian(
        _core.TensorTable([[g.cpu() for g in row] for row in rows], torch.Tensor), 1
    )
    norms = np.sqrt(np.diag(exact))
    assert np.all(np.abs(c.cpu().numpy() - exact) <= 1e-13 * np.outer(norms, norms))


@pytest.mark.parametrize("m", [1, 2, 3, 8, 20, 40, 64])
@pytest.mark.parametrize("family", SAMPLERS)
def test_min_norm_gives_the_bits_of_the_processor(cuda, family, m):
    gramian = gramian_of(SAMPLERS[family](np.random.default_rng(m), m))
    weights, gap, status = _core.min_norm(gramian)
    found, outcome = devices.min_norm(torch.from_numpy(gramian).to(cuda))
    code, found_gap = outcome.tolist()
    assert found.tolist() == weights.tolist()
    assert (_core.STATUSES[int(code)], found_gap) == (status, gap)


@pytest.mark.parametrize("phase", ["feasibility", "descent", "convergence"])
@pytest.mark.parametrize(("m", "count"), [(1, 1), (2, 5), (3, 1), (4, 7), (20, 11)])
def test_pareto_mtl_gives_the_bits_of_the_processor(cuda, phase, m, count):
    rng = np.random.default_rng(m)
    gramian = gramian_of(rng.standard_normal((m, m + 2)))
    vectors = np.abs(rng.standard_normal((count, m)))
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    losses = rng.random(m)
    weights, status, gap = _core.pareto_mtl(losses, gramian, vectors, count // 2, phase, 0.1)
    state = torch.tensor([_core.PHASES.index(phase), 0.0, -1.0, *[0.0] * m], dtype=torch.float64)
    found, outcome = devices.pareto_mtl(
        *(torch.from_numpy(a).to(cuda) for a in (losses, gramian, vectors)),
        state.to(cuda),
        index=count // 2,
        epsilon=0.1,
        warmup_steps=9,
        average=0.9,
        rescale=False,
    )
    code, found_gap, found_phase = outcome.tolist()
    assert found.tolist() == weights.tolist()
    assert _core.STATUSES[int(code)] == status
    assert (found_gap, _core.PHASES[int(found_phase)]) == (gap, phase)


def test_a_problem_that_does_not_fit_is_refused_by_its_size(cuda):
    with pytest.raises(ValueError, match="200 weights.*shared memory"):
        devices.min_norm(torch.eye(200, dtype=torch.float64, device=cuda))
    with pytest.raises(ValueError, match="at most 64 rows on a CUDA device, .* got 65"):
        functional.gramian(torch.ones(65, 3, device=cuda))


def test_tensors_on_different_devices_are_named(cuda):
    with pytest.raises(ValueError, match=r"gradients\[1\]\[0\]: device cpu, but .* on cuda:"):
        functional.gramian([[torch.ones(2, device=cuda)], [torch.ones(2)]])
    with pytest.raises(ValueError, match=r"out\[0\]: is on cpu"):
        functional.combine([[torch.ones(2, device=cuda)]], [1.0], [torch.ones(2)])
    with pytest.raises(ValueError, match="weights: are on cuda:0, the gradients are on cpu"):
        functional.combine([[torch.ones(2)]], torch.ones(1, device="cuda:0"))
    p = torch.nn.Parameter(torch.ones(2, device=cuda))
    opt = MGDA(torch.optim.SGD([p], lr=0.1))
    with pytest.raises(ValueError, match=r"losses\[1\]: is on cpu"):
        opt.step([p.sum(), (p.cpu() ** 2).sum()])
    assert p.grad is None


def test_the_second_device_is_used_and_not_mixed_with_the_first(cuda):
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device alone")
    rows = [[torch.randn(1000, device="cuda:1")] for _ in range(3)]
    assert_gramian(functional.gramian(rows), rows)
    assert torch.cuda.current_device() == 0
    with pytest.raises(ValueError, match=r"gradients\[0\]\[1\]: device cuda:0"):
        functional.gramian([[rows[0][0], torch.ones(1, device="cuda:0")]])


def make(method, model):
    base = torch.optim.Adam(model.parameters(), lr=1e-2, capturable=True)
    return {
        "MGDA": lambda: MGDA(base),
        "ParetoMTL": lambda: ParetoMTL(base, FAR, 3, warmup_steps=6),
        "LinearScalarization": lambda: LinearScalarization(base, [1.0, 2.0]),
        "EPO": lambda: EPO(base, [0.7, 0.3]),
    }[method]()


@pytest.mark.parametrize("method", ["MGDA", "ParetoMTL", "LinearScalarization"])
def test_no_step_waits_for_the_device(cuda, two_heads, method):
    model = two_heads.to(cuda)
    x = torch.linspace(-1, 1, 30, device=cuda).reshape(6, 5)
    opt = make(method, model)
    opt.step(model.losses(x))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            report = opt.step(model.losses(x))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert report.status in ("ok", "feasible")


def test_epo_waits_once_a_step(cuda, two_heads, monkeypatch):
    model = two_heads.to(cuda)
    x = torch.linspace(-1, 1, 30, device=cuda).reshape(6, 5)
    opt = make("EPO", model)
    opt.step(model.losses(x))
    waits = []
    wait = torch.cuda.Event.synchronize

    def counted(event):
        waits.append(event)
        torch.cuda.set_sync_debug_mode("default")
        wait(event)
        torch.cuda.set_sync_debug_mode("error")

    monkeypatch.setattr(torch.cuda.Event, "synchronize", counted)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            opt.step(model.losses(x))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(waits) == 3


@pytest.mark.parametrize("method", ["MGDA", "ParetoMTL", "LinearScalarization"])
def test_a_captured_step_is_the_eager_step(cuda, two_heads, method):
    x = torch.linspace(-1, 1, 30, device=cuda).reshape(6, 5)
    model, eager = two_heads.to(cuda), copy.deepcopy(two_heads).to(cuda)
    opt, other = make(method, model), make(method, eager)
    graph = graph_of(lambda: opt.step(model.losses(x)))
    for _ in range(3):
        other.step(eager.losses(x))  # as the warm-up has; to capture runs nothing
    phases = []
    for _ in range(6):
        opt.zero_grad()  # what the graph writes into is its own
        torch.cuda.empty_cache()
        graph.replay()
        other.step(eager.losses(x))
        phases += [opt.phase == other.phase and opt.phase] if method == "ParetoMTL" else []
    for p, q in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)
    if method == "ParetoMTL":
        assert phases == ["feasibility"] * 2 + ["descent"] * 4  # after six steps of each


def test_a_capture_of_a_first_step_or_of_one_that_waits_is_refused(cuda, two_heads):
    model = two_heads.to(cuda)
    x = torch.linspace(-1, 1, 30, device=cuda).reshape(6, 5)
    sum(model.losses(x)).backward()  # torch's own first time is not what is looked at
    first, on_host = "a few steps before the capture", "needed on the host"
    for method, steps, words in (("MGDA", 0, first), ("ParetoMTL", 0, first), ("EPO", 1, on_host)):
        opt = make(method, model)
        for _ in range(steps):
            opt.step(model.losses(x))
        with pytest.raises(RuntimeError, match=words), torch.cuda.graph(torch.cuda.CUDAGraph()):
            opt.step(model.losses(x))
        torch.cuda.synchronize()


def test_epo_as_two_graphs_around_the_program(cuda, two_heads):
    """The example of docs/gpu.md, as bench/gpu_steps.py times it."""
    x = torch.linspace(-1, 1, 30, device=cuda).reshape(6, 5)
    model = two_heads.to(cuda)
    params = list(model.parameters())
    step = gpu_steps.epo_in_two_graphs(model, x, [0.7, 0.3], torch.optim.SGD(params, lr=0.1))
    start = [p.detach().clone() for p in params]
    for _ in range(3):
        step()
    found = [p.detach().clone() for p in params]
    with torch.no_grad():
        for p, value in zip(params, start, strict=True):
            p.copy_(value)
    opt = EPO(torch.optim.SGD(params, lr=0.1), [0.7, 0.3])
    for _ in range(3):
        opt.step(model.losses(x))
    for p, q in zip(params, found, strict=True):
        torch.testing.assert_close(p.detach(), q, rtol=1e-5, atol=1e-7)
