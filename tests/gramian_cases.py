"""C and d by every instruction set and a CUDA device, on random rows, against exact sums."""

import itertools

import numpy as np
import oracles
import pytest
import torch

from pyfront import cuda_available, functional
from pyfront.backend import _core

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
NARROW = (torch.float32, torch.bfloat16, torch.float16)
LEVELS = range(len(_core.simd_levels()))
LENGTHS = (1, 0, 7, 300, 1, 512, 33, 1200)  # panels of 512 inside blocks and across them
UNIT_ROUNDOFF = 2.0**-53

CUDA = -1  # the level that stands for the GPU
on_cuda = pytest.param(
    CUDA,
    id="cuda",
    marks=pytest.mark.skipif(not cuda_available(), reason=f"CUDA: {cuda_available().reason}"),
)
every_level = pytest.mark.parametrize(
    "simd", [*map(pytest.param, LEVELS), on_cuda], ids=[*_core.simd_levels(), "cuda"]
)


def table(rows):
    return _core.TensorTable(rows, torch.Tensor)


def moved(rows):
    return [[None if block is None else block.cuda() for block in row] for row in rows]


def gramian(rows, threads=1, simd=0):
    if simd == CUDA:
        return functional.gramian(moved(rows)).cpu().numpy()
    return _core.gramian(table(rows), threads, simd)


def combine(rows, weights, out, threads=1, simd=0):
    if simd == CUDA:
        (target,) = moved([out])
        for block, found in zip(
            out, functional.combine(moved(rows), list(weights), target), strict=True
        ):
            if block is not None:
                block.copy_(found)
        return out
    _core.combine(table(rows), np.asarray(weights, dtype=float), table([out]), threads, simd)
    return out


def sample(generator, tasks, lengths, dtypes, absent=0.0):
    """Random rows; block b has dtype dtypes[b mod len], each entry is None with chance `absent`."""
    return [
        [
            None
            if torch.rand((), generator=generator) < absent
            else torch.randn(length, generator=generator).to(dtype)
            for length, dtype in zip(lengths, itertools.cycle(dtypes), strict=False)
        ]
        for _ in range(tasks)
    ]


def outputs(rows):
    """One uninitialised block (NaN) for each block that some task has, else None."""
    firsts = [next((b for b in c if b is not None), None) for c in zip(*rows, strict=True)]
    return [None if block is None else torch.full_like(block, torch.nan) for block in firsts]


def assert_gramian(c, rows, bound=1e-14):
    exact = oracles.gramian(rows)
    norms = np.sqrt(np.diag(exact))
    assert np.array_equal(c, c.T)
    assert np.all(np.abs(c - exact) <= bound * np.outer(norms, norms))


def assert_combined(out, rows, weights):
    """Half a last place, and what float64 sums of these terms may lose."""
    parts = [block.flatten().double().numpy() for block in out if block is not None]
    d = np.concatenate(parts)
    exact = oracles.combine(rows, weights)
    dtypes = [block.dtype for block in out if block is not None]
    last_place = np.concatenate(
        [oracles.spacing(part, dtype) for part, dtype in zip(parts, dtypes, strict=True)]
    )
    terms = np.abs(weights) @ np.abs(oracles.jacobian(rows))
    lost = (len(rows) + 1) * UNIT_ROUNDOFF * terms
    assert np.all(np.abs(d - exact) <= 0.5 * last_place + lost)
