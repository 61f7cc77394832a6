"""C = J Jᵀ and d = Jᵀ w against exact sums, for every instruction set and on a CUDA device."""

import numpy as np
import oracles
import pytest
import torch
from gramian_cases import (
    DTYPES,
    LENGTHS,
    LEVELS,
    NARROW,
    assert_combined,
    assert_gramian,
    combine,
    every_level,
    gramian,
    outputs,
    sample,
)
from hypothesis import given, settings
from hypothesis import strategies as st

TASKS = (1, 2, 3, 5, 8, 17, 33, 64)


@every_level
@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize("dtypes", [*((d,) for d in DTYPES), DTYPES], ids=str)
def test_against_exact_sums(simd, tasks, dtypes):
    generator = torch.Generator().manual_seed(tasks)
    rows = sample(generator, tasks, LENGTHS, dtypes, absent=0.2)
    weights = torch.randn(tasks, generator=generator, dtype=torch.float64).numpy()
    assert_gramian(gramian(rows, simd=simd), rows)
    assert_combined(combine(rows, weights, outputs(rows), simd=simd), rows, weights)


@settings(max_examples=60, deadline=None)
@given(
    tasks=st.integers(1, 10),
    lengths=st.lists(st.integers(0, 700), min_size=1, max_size=6),
    dtypes=st.lists(st.sampled_from(DTYPES), min_size=1, max_size=6),
    simd=st.sampled_from(LEVELS),
    threads=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_any_cut_into_blocks(tasks, lengths, dtypes, simd, threads, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = sample(generator, tasks, lengths, dtypes, absent=0.3)
    weights = torch.randn(tasks, generator=generator, dtype=torch.float64).numpy()
    assert_gramian(gramian(rows, threads, simd), rows)
    out = combine(rows, weights, outputs(rows), threads, simd)
    if any(block is not None for block in out):
        assert_combined(out, rows, weights)


@every_level
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shift", [0, 1], ids=["elements", "bytes"])
def test_any_alignment(simd, dtype, shift):
    """Slices that start anywhere, and memory that is not even aligned to the element."""

    def memory(count):
        raw = bytearray(count * dtype.itemsize + shift)
        return torch.frombuffer(raw, dtype=dtype, offset=shift)

    generator = torch.Generator().manual_seed(0)
    storage = memory(27_000).view(9, 3000)
    storage.copy_(torch.randn(9, 3000, generator=generator))
    rows = [[storage[i, i + 1 : 2500 + i], storage[i, 2600 - i : 2611 - i]] for i in range(9)]
    assert_gramian(gramian(rows, simd=simd), rows)
    target = memory(2600).fill_(torch.nan)
    weights = np.linspace(-1.0, 2.0, 9)
    out = [target[3:2502], target[2503:2514]]
    assert_combined(combine(rows, weights, out, simd=simd), rows, weights)
    untouched = [*range(3), 2502, *range(2514, 2600)]
    assert torch.isnan(target[untouched]).all()


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("tasks", [2, 8, 9, 20])
def test_instruction_sets_agree_to_the_bit(dtype, tasks):
    rows = sample(torch.Generator().manual_seed(1), tasks, (5000, 3, 0, 777), (dtype,))
    first, *others = [gramian(rows, simd=simd) for simd in LEVELS]
    for other in others:
        assert np.array_equal(first, other)


@every_level
@pytest.mark.parametrize("tasks", [2, 20])
def test_threads_do_not_change_a_bit(simd, tasks):
    generator = torch.Generator().manual_seed(2)
    rows = sample(generator, tasks, (1_000_003, 17, 1, 300_001), DTYPES[:2])
    weights = torch.rand(tasks, generator=generator, dtype=torch.float64).numpy()
    c = gramian(rows, 1, simd)
    d = combine(rows, weights, outputs(rows), 1, simd)
    for threads in (1, 2, 3, 7, 1000):
        assert np.array_equal(c, gramian(rows, threads, simd))
        again = combine(rows, weights, outputs(rows), threads, simd)
        assert all(torch.equal(a, b) for a, b in zip(d, again, strict=True))


def test_error_bound_at_ten_million_elements():
    """|C_ij error| ≤ 1e-10 √(C_ii C_jj), near-parallel and badly scaled gradients included."""
    generator = torch.Generator().manual_seed(3)
    n = 10_000_000
    base = torch.randn(n, generator=generator)
    far = base * torch.logspace(-12, 6, n)  # its norm comes from few elements
    rows = [
        [base],
        [base + 1e-4 * torch.randn(n, generator=generator)],
        [1e-15 * far],
        [torch.ones(n)],  # sums of one sign: the largest partial sums
    ]
    assert_gramian(gramian(rows, 2), rows, bound=1e-10)


@every_level
@pytest.mark.parametrize("tasks", [3, 8, 20])
def test_near_parallel_gradients_stay_positive_semidefinite(simd, tasks):
    generator = torch.Generator().manual_seed(4)
    base = torch.randn(100_000, generator=generator)
    rows = [[base + 1e-4 * torch.randn(100_000, generator=generator)] for _ in range(tasks)]
    smallest = np.linalg.eigvalsh(gramian(rows, simd=simd))[0]
    expected = np.linalg.eigvalsh(oracles.gramian(rows))[0]
    assert smallest > 0.0
    assert smallest == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("simd", LEVELS)
@pytest.mark.parametrize("length", [257, 1500])
@pytest.mark.parametrize("tasks", [2, 5, 20])
def test_heads_of_one_task_each(simd, length, tasks):
    generator = torch.Generator().manual_seed(7)
    (trunk,) = zip(*sample(generator, tasks, (900,), NARROW[:1]), strict=True)
    heads = torch.randn(tasks, length, generator=generator)
    rows = [
        [trunk[task], *(heads[task] if task == head else None for head in range(tasks))]
        for task in range(tasks)
    ]
    c = gramian(rows, simd=simd)
    assert_gramian(c, rows)
    heads[0, length // 2] = float("inf")
    infinite = gramian(rows, simd=simd)
    assert infinite[0, 0] == np.inf
    assert np.array_equal(infinite[1:, 1:], c[1:, 1:])


def test_absent_tasks_and_blocks():
    rows = [[None, torch.ones(3), None], [None, None, torch.full((2,), 2.0)]]
    assert np.array_equal(gramian(rows), [[3.0, 0.0], [0.0, 8.0]])
    assert np.array_equal(gramian([[None], [None]]), np.zeros((2, 2)))
    assert np.array_equal(gramian([[], []]), np.zeros((2, 2)))
    out = [None, torch.full((3,), torch.nan), torch.full((2,), torch.nan)]
    combine(rows, [0.5, -1.0], out)
    assert torch.equal(out[1], torch.full((3,), 0.5))
    assert torch.equal(out[2], torch.full((2,), -2.0))


def test_a_block_that_no_task_has_becomes_zero():
    (d,) = combine([[None], [None]], [1.0, 2.0], [torch.full((700,), torch.nan)])
    assert torch.equal(d, torch.zeros(700))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("offset", [0, 1])
def test_large_directions_written_past_the_caches(dtype, offset):
    """Beyond 8 MiB, elements before an aligned address and behind the last whole one included."""
    generator = torch.Generator().manual_seed(7)
    lengths = (2**22 // dtype.itemsize + 1, 3, 2**22 // dtype.itemsize + 5)
    rows = sample(generator, 3, lengths, (dtype,))
    storage = [torch.full((length + 2,), torch.nan, dtype=dtype) for length in lengths]
    out = [s[offset : offset + length] for s, length in zip(storage, lengths, strict=True)]
    weights = np.array([0.3, -1.0, 0.7])
    for simd in LEVELS:
        assert_combined(combine(rows, weights, out, 2, simd), rows, weights)
        for s, length in zip(storage, lengths, strict=True):
            assert torch.isnan(s[:offset]).all()
            assert torch.isnan(s[offset + length :]).all()


@every_level
def test_gradients_are_only_read(simd):
    rows = sample(torch.Generator().manual_seed(8), 9, LENGTHS, DTYPES)
    before = [[block.clone() for block in row] for row in rows]
    gramian(rows, 2, simd)
    combine(rows, np.ones(9), outputs(rows), 2, simd)
    for row, old in zip(rows, before, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(row, old, strict=True))


def test_unknown_instruction_set_is_refused():
    with pytest.raises(IndexError):
        gramian([[torch.ones(1)]], simd=len(LEVELS))
