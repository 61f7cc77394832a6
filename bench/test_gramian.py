"""Gramian and combination of float32 task gradients, block by block, beside other ways to do both.

The floor is 4 n (2m + 1) bytes (J read twice, d written once) at the bandwidth of torch.sum over
400 MB, measured in turns with the benchmark, with the same number of threads. `extra_info`: the
median over rounds of time over the floor of that round and its quartiles, the worst
|error of C_ij| / √(C_ii C_jj) and the worst error of d against float64.
"""

import importlib
import statistics
from importlib import metadata

import numpy as np
import pytest
import torch
from lengths import length
from stopwatch import seconds

from pyfront.backend import _core

CASES = {
    "1e6x2": (1_000_000, 2, length(30, 100)),
    "1e6x8": (1_000_000, 8, length(20, 50)),
    "1e7x2": (10_000_000, 2, length(7, 15)),
    "1e7x8": (10_000_000, 8, length(5, 15)),
} | length({}, {"1e7x20": (10_000_000, 20, 7), "1e7x40": (10_000_000, 40, 5)})
BLOCKS = 50


def block_lengths(n):
    """Lengths as networks have them: half of the blocks small (biases), the rest of any size."""
    rng = np.random.default_rng(0)
    small = rng.integers(1, 513, BLOCKS // 2)
    cuts = np.sort(rng.integers(0, n - small.sum(), BLOCKS - BLOCKS // 2 - 1))
    large = np.diff([0, *cuts, n - small.sum()])
    return rng.permutation(np.concatenate([small, large])).tolist()


@pytest.fixture(scope="module", params=CASES)
def case(request):
    n, m, rounds = CASES[request.param]
    generator = torch.Generator().manual_seed(0)
    jacobians = [torch.randn(m, length, generator=generator) for length in block_lengths(n)]
    weights = torch.full((m,), 1.0 / m, dtype=torch.float64)
    c = sum(block.double() @ block.double().T for block in jacobians)
    d = torch.cat([weights.float().double() @ block.double() for block in jacobians])
    return jacobians, weights, c.numpy(), d, rounds


def ours(jacobians, weights, threads):
    rows = [list(row) for row in zip(*jacobians, strict=True)]
    out = [torch.empty_like(block) for block in rows[0]]
    w = weights.float().double().numpy()

    def call():
        table = _core.TensorTable(rows, torch.Tensor)
        c = _core.gramian(table, threads)
        _core.combine(table, w, _core.TensorTable([out], torch.Tensor), threads)
        return c, out

    return call


def torch_concatenated(jacobians, weights, threads):
    """One matrix, one product with itself, one product with the weights."""
    rows = [list(row) for row in zip(*jacobians, strict=True)]
    w = weights.float()

    def call():
        j = torch.stack([torch.cat(row) for row in rows])
        return (j @ j.T).numpy(), (w @ j).split([block.shape[1] for block in jacobians])

    return call


def torch_concatenation_not_counted(jacobians, weights, threads):
    j = torch.cat(jacobians, dim=1)
    w = weights.float()
    return lambda: ((j @ j.T).numpy(), [w @ j])


def torch_by_block(jacobians, weights, threads):
    """A product a block: no concatenation, but the rows must be stacked already."""
    w = weights.float()

    def call():
        c = sum(block @ block.T for block in jacobians)
        return c.numpy(), [w @ block for block in jacobians]

    return call


def torchjd(jacobians, weights, threads, optimize=True):
    """TorchJD's way from .jac to .grad with weights that cost nothing."""
    autojac = importlib.import_module("torchjd.autojac")
    aggregation = importlib.import_module("torchjd.aggregation")
    parameters = [torch.nn.Parameter(torch.zeros(block.shape[1])) for block in jacobians]
    for parameter, block in zip(parameters, jacobians, strict=True):
        parameter.jac = block

    class Fixed(aggregation.Weighting):
        def forward(self, gramian):
            self.gramian = gramian
            return weights.float()

    weighting = Fixed()
    aggregator = aggregation.GramianWeightedAggregator(weighting)

    def call():
        for parameter in parameters:
            parameter.grad = None
        autojac.jac_to_grad(
            parameters, aggregator, retain_jac=True, optimize_gramian_computation=optimize
        )
        return weighting.gramian.numpy(), [parameter.grad for parameter in parameters]

    return call


def torchjd_default(jacobians, weights, threads):
    return torchjd(jacobians, weights, threads, optimize=False)


def paired(call, size, rounds):
    """The median seconds of `call`, and quartiles over the floor for `size` bytes, in turns."""
    data = torch.ones(100_000_000)
    call(), data.sum()
    times, ratios = [], []
    for _ in range(rounds):
        before = seconds(data.sum)
        times.append(seconds(call))
        bandwidth = 2 * 4 * data.numel() / (before + seconds(data.sum))
        ratios.append(times[-1] * bandwidth / size)
    return statistics.median(times), statistics.quantiles(ratios, n=4)


@pytest.mark.parametrize("threads", length([1], [1, 2]))
@pytest.mark.parametrize(
    "way",
    [
        ours,
        torch_concatenated,
        torch_concatenation_not_counted,
        torch_by_block,
        torchjd,
        torchjd_default,
    ],
)
def test_gramian_and_combine(benchmark, case, way, threads):
    if way in (torchjd, torchjd_default):
        pytest.importorskip("torchjd")
    jacobians, weights, exact, direction, rounds = case
    m, n = len(weights), len(direction)
    benchmark.group = f"n={n:.0e} m={m} threads={threads}"
    previous = torch.get_num_threads()
    torch.set_num_threads(threads)
    call = way(jacobians, weights, threads)
    try:
        median, quartiles = paired(call, 4 * n * (2 * m + 1), rounds)
        c, d = benchmark.pedantic(call, rounds=min(rounds, 5), warmup_rounds=1)
    finally:
        torch.set_num_threads(previous)
    norms = np.sqrt(np.diag(exact))
    benchmark.extra_info.update(
        threads=threads,
        simd=_core.simd_levels()[0],
        versions={name: version(name) for name in ("pyfront", "torch", "torchjd")},
        median_ms=1e3 * median,
        over_floor=quartiles[1],
        quartiles=(quartiles[0], quartiles[2]),
        gramian_error=float(np.max(np.abs(c - exact) / np.outer(norms, norms))),
        direction_error=float((torch.cat(list(d)).double() - direction).abs().max()),
    )
    low, ratio, high = quartiles
    print(
        f"n = {n:.0e}, m = {m:2}, {threads} threads, {way.__name__:32} {1e3 * median:8.2f} ms"
        f"   over floor {ratio:.2f} ({low:.2f} to {high:.2f})"
    )


def version(distribution):
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
