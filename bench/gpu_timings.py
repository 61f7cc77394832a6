"""Timings of the CUDA core; bench/gpu.py runs it.

Medians after warm-up. Host: until the call returns, without waiting for the device. Eager: CUDA
events around whole calls, so the larger of host and kernels. Graph: CUDA events around replays of
the same call in a CUDA graph, so the kernels and the gaps between them. The copy bandwidth is
measured in the same process, counting bytes read and bytes written. Inputs of the Gramian rotate so
that repeated calls do not find them in the L2 cache.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import statistics
import sys
import time
from contextlib import contextmanager

import numpy as np
import torch

from pyfront import functional
from pyfront.backend import cuda as devices

DEVICE = torch.device("cuda")
L2_SETS = 400_000_000  # bytes of inputs to rotate among
failed = []


@contextmanager
def attempt(name):
    """One row, whose failure leaves the others their time."""
    try:
        yield
    except Exception as error:
        failed.append(name)
        print(f"{name}: FAILED: {type(error).__name__}: {error}", flush=True)


def time_ms(calls, rounds=30, warmup=5):
    """Median and quartiles of the milliseconds of a call; `calls` are taken in turn."""
    for k in range(warmup):
        calls[k % len(calls)]()
    torch.cuda.synchronize()
    marks = []
    for k in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        calls[k % len(calls)]()
        end.record()
        marks.append((start, end))
    torch.cuda.synchronize()
    times = sorted(start.elapsed_time(end) for start, end in marks)
    return statistics.median(times), times[len(times) // 4], times[3 * len(times) // 4]


def host_ms(calls, rounds=30):
    """Median of the milliseconds until a call returns."""
    times = []
    for k in range(rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        calls[k % len(calls)]()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def copy_bandwidth():
    """Bytes a second, read and written, of a copy of 2 GB."""
    source = torch.randn(500_000_000, device=DEVICE)
    target = torch.empty_like(source)
    median, _, _ = time_ms([lambda: target.copy_(source)])
    return 2 * 4 * source.numel() / (median / 1e3)


def lengths_of(n, blocks=50):
    """As networks have them: half of the blocks small, the rest of any size."""
    rng = np.random.default_rng(0)
    small = rng.integers(1, 513, blocks // 2)
    cuts = np.sort(rng.integers(0, n - small.sum(), blocks - blocks // 2 - 1))
    large = np.diff([0, *cuts, n - small.sum()])
    return rng.permutation(np.concatenate([small, large])).tolist()


def make_rows(n, m, dtype):
    return [
        [torch.randn(length, device=DEVICE).to(dtype) for length in lengths_of(n)] for _ in range(m)
    ]


def ours(rows, out, weights):
    def call():
        c = functional.gramian(rows)
        functional.combine(rows, weights, out)
        return c

    return call


def torch_stacked(rows, out, weights):
    """One matrix, one product with itself, one product with the weights."""
    w = weights.to(rows[0][0].dtype)

    def call():
        j = torch.stack([torch.cat(row) for row in rows])
        torch.split(w @ j, [block.numel() for block in out])
        return j @ j.T

    return call


def torch_foreach(rows, out, weights):
    """A list of products a pair of tasks, block by block, with the fused list functions."""
    w = weights.tolist()

    def call():
        pairs = [
            torch.stack([p.sum() for p in torch._foreach_mul(rows[i], rows[j])]).sum()
            for i in range(len(rows))
            for j in range(i + 1)
        ]
        torch._foreach_zero_(out)
        for row, weight in zip(rows, w, strict=True):
            torch._foreach_add_(out, row, alpha=weight)
        return torch.stack(pairs)

    return call


def torchjd_way(rows, out, weights):
    autojac = importlib.import_module("torchjd.autojac")
    aggregation = importlib.import_module("torchjd.aggregation")
    parameters = [torch.nn.Parameter(torch.zeros_like(block)) for block in rows[0]]
    for parameter, blocks in zip(parameters, zip(*rows, strict=True), strict=True):
        parameter.jac = torch.stack(blocks)
    w = weights.to(rows[0][0].dtype)

    class Fixed(aggregation.Weighting):
        def forward(self, gramian):
            return w

    aggregator = aggregation.GramianWeightedAggregator(Fixed())

    def call():
        for parameter in parameters:
            parameter.grad = None
        autojac.jac_to_grad(
            parameters, aggregator, retain_jac=True, optimize_gramian_computation=True
        )

    return call


def gramian_table(bandwidth, quick):
    print("\nGramian + combination: ms, and the share of the copy bandwidth in a graph")
    heads = ("host", "eager", "graph", "share", "error of C")
    print(f"{'n':>8} {'m':>3} {'dtype':>9} {'way':>11}" + "".join(f"{head:>11}" for head in heads))
    cases = [(10_000_000, m) for m in (2, 4, 8, 16)]
    cases += [(100_000_000, m) for m in ((2, 8) if quick else (2, 3, 4, 8, 9, 16))]
    for n, m in cases:
        for dtype in (torch.float32, torch.bfloat16):
            with attempt(f"n = {n:.0e}, m = {m}, {dtype}"):
                gramian_rows(n, m, dtype, bandwidth)
            torch.cuda.empty_cache()


def gramian_rows(n, m, dtype, bandwidth):
    """One row of the table a way to do it."""
    sets = max(1, min(4, L2_SETS // (n * m * dtype.itemsize)))
    inputs = [make_rows(n, m, dtype) for _ in range(sets)]
    out = [torch.empty_like(block) for block in inputs[0][0]]
    weights = torch.full((m,), 1.0 / m, dtype=torch.float64, device=DEVICE)
    floor = n * (2 * m + 1) * dtype.itemsize / bandwidth * 1e3
    ways = {"pyfront": ours, "stack + mm": torch_stacked}
    if n == 10_000_000 and m <= 8:
        ways |= {"_foreach": torch_foreach}
        if importlib.util.find_spec("torchjd") is not None:
            ways |= {"TorchJD": torchjd_way}
    for name, way in ways.items():
        case = f"{n:8.0e} {m:3d} {str(dtype)[6:]:>9} {name:>11}"
        with attempt(case):
            calls = [way(rows, out, weights) for rows in inputs]
            eager, host = time_ms(calls)[0], host_ms(calls)
            line = f"{case} {host:10.4f} {eager:10.4f}"
            if name in ("pyfront", "stack + mm"):  # the others wait for the device or are too many
                graph = time_ms([graph_of(call).replay for call in calls])[0]
                line += f" {graph:10.4f} {floor / graph:10.2f}"
            line += f" {error_of_gramian(inputs[0]):10.1e}" if name == "pyfront" else ""
            print(line, flush=True)


def error_of_gramian(rows):
    """The largest |ΔC_ij| / (‖g_i‖ ‖g_j‖) on the first elements of the blocks."""
    small = [[g[:200_000] for g in row] for row in rows]
    j = torch.stack([torch.cat([g.double() for g in row]) for row in small])
    exact = torch.stack([(j * row).sum(dim=1) for row in j])  # a tree of sums, unlike j @ j.T
    norms = exact.diagonal().sqrt()
    return float(((functional.gramian(small) - exact).abs() / torch.outer(norms, norms)).max())


def graph_of(step, warmup=3):
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(warmup):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph


def min_norm_table():
    print("\nMin-norm weights on the device: µs of a kernel, from replays of 20 in a graph")
    rng = np.random.default_rng(0)
    for m in (2, 3, 8, 20, 40, min(64, devices.most_weights(DEVICE))):
        jacobian = rng.standard_normal((m, 4 * m + 8))
        hard = jacobian - rng.dirichlet(np.ones(m)) @ jacobian
        hard = hard + 1e-4 * rng.standard_normal(hard.shape) / np.sqrt(hard.shape[1])
        for name, rows in (("generic", jacobian), ("hard", hard)):
            with attempt(f"m = {m:2d} {name:>8}"):
                c = torch.from_numpy(rows @ rows.T).to(DEVICE)
                graph = graph_of(lambda c=c: [devices.min_norm(c) for _ in range(20)])
                times = (50 * time for time in time_ms([graph.replay]))
                print("m = {:2d} {:>8}: {:7.2f} ({:.2f} to {:.2f})".format(m, name, *times))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    torch.manual_seed(0)
    bandwidth = copy_bandwidth()
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")
    print(f"copy: {bandwidth / 1e12:.2f} TB/s, read and written")
    gramian_table(bandwidth, quick)
    min_norm_table()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
