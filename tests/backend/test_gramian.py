"""C = J Jᵀ and d = Jᵀ w against exact sums, for every instruction set and on a CUDA device."""

import itertools

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfront import cuda_available, functional
from pyfront.backend import _core

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
NARROW = (torch.float32, torch.bfloat16, torch.float16)
LEVELS = range(len(_core.simd_levels()))
TASKS = (1, 2, 3, 5, 8, 17, 33, 64)
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


@every_level
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (torch.float32, 3e38),
        (torch.float32, 1e-45),
        (torch.bfloat16, 3e38),
        (torch.bfloat16, 1e-40),
        (torch.float16, 65504.0),
        (torch.float16, 6e-8),
        (torch.float64, 1e150),
        (torch.float64, 1e-150),
    ],
    ids=str,
)
def test_ends_of_the_range(simd, dtype, value):
    rows = [[torch.full((1001,), value, dtype=dtype)], [torch.full((1001,), -value, dtype=dtype)]]
    x = rows[0][0][0].double().item()
    assert x != 0.0
    c = gramian(rows, simd=simd)
    assert c == pytest.approx(np.array([[1.0, -1.0], [-1.0, 1.0]]) * (1001 * x * x), rel=1e-14)
    (d,) = combine(rows, [1.0, 0.5], outputs(rows), simd=simd)
    assert torch.equal(d, oracles.round_once(np.full(1001, 0.5 * x), dtype))


def test_float16_sums_do_not_overflow():
    n = 4_000_000
    rows = [[torch.full((n,), 3.0, dtype=torch.float16)] for _ in range(2)]
    assert np.array_equal(gramian(rows, 2), np.full((2, 2), 9.0 * n))


@every_level
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "weight",
    [1.0, -1.0, 1 + 2**-11 + 2**-40, 1 + 2**-8 + 2**-40, 1.5, 2**-9 + 2**-30, 33.0, 2.0**-120],
)
def test_every_16_bit_number_is_rounded_once(simd, dtype, weight):
    """Products with these weights are exact; ties broken at 2^-40 betray rounding by float32."""
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    numbers = bits.view(dtype)
    (d,) = combine([[numbers]], [weight], [torch.empty_like(numbers)], simd=simd)
    finite = torch.isfinite(numbers)
    products = weight * numbers[finite].double().numpy()
    expected = oracles.round_once(products, dtype)
    nonzero = products != 0.0  # 0 + (−0) = 0
    assert torch.equal(d[finite], expected)
    assert np.array_equal(
        np.signbit(d[finite].double().numpy())[nonzero], np.signbit(products)[nonzero]
    )
    assert torch.isnan(d[torch.isnan(numbers)]).all()
    infinite = torch.isinf(numbers)
    assert torch.equal(d[infinite].double(), weight * numbers[infinite].double())


@every_level
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tasks", [1, 2, 5, 8, 9, 18])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nonfinite_elements_reach_their_row_only(simd, dtype, tasks, bad):
    for task, position in itertools.product(range(tasks), (0, 511, 512, 1289, 1290)):
        rows = sample(torch.Generator().manual_seed(5), tasks, (600, 691), (dtype,))
        block, index = divmod(position, 600) if position < 600 else (1, position - 600)
        rows[task][block][index] = bad
        c = gramian(rows, simd=simd)
        hit = np.zeros((tasks, tasks), dtype=bool)
        hit[task] = hit[:, task] = True
        assert np.array_equal(~np.isfinite(c), hit)
        assert np.isnan(c[task, task]) if np.isnan(bad) else c[task, task] == np.inf


@every_level
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tasks", [2, 4, 5, 9])
def test_zero_weights_hide_nothing(simd, dtype, tasks):
    rows = sample(torch.Generator().manual_seed(6), tasks, (1291,), (dtype,))
    for task in range(tasks):
        rows[task][0][7 + 100 * task] = float("inf")
    rows[-1][0][1290] = float("nan")
    (d,) = combine(rows, np.zeros(tasks), outputs(rows), simd=simd)
    bad = torch.zeros(1291, dtype=torch.bool)
    bad[[*(7 + 100 * task for task in range(tasks)), 1290]] = True
    assert torch.equal(torch.isnan(d), bad)
    assert torch.equal(d[~bad], torch.zeros(1291 - int(bad.sum()), dtype=dtype))


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
