"""The CUDA kernels for C and d, and what calls refuse, lane by lane on the CPU.

What an emulation cannot show, such as speed, real concurrency and the compiler's code for a GPU, is
left to test_device.py, which needs one.
"""

import itertools
import re

import emulated
import numpy as np
import oracles
import pytest
import torch
from emulated import DTYPES, NUMBERS, SHARED_BYTES, arguments, pointer

from pyfront.backend import _core

CAPACITY = 480  # words of a table
USUAL_SHARED_BYTES = 48 << 10  # of a kernel that has not asked for more

pytestmark = pytest.mark.usefixtures("lanes")


def sample(seed, tasks, lengths, dtypes, absent=0.0, shift=0):
    """Random rows; every tensor starts `shift` elements into its memory."""
    generator = torch.Generator().manual_seed(seed)
    return [
        [
            None
            if torch.rand((), generator=generator) < absent
            else torch.randn(length + shift, generator=generator).to(dtype)[shift:]
            for length, dtype in zip(lengths, dtypes, strict=True)
        ]
        for _ in range(tasks)
    ]


def assert_gramian(c, rows):
    exact = oracles.gramian(rows)
    norms = np.sqrt(np.diag(exact))
    assert np.array_equal(c, c.T)
    assert np.all(np.abs(c - exact) <= 1e-14 * np.outer(norms, norms))


@pytest.mark.parametrize("way", ["matrix unit", "shuffles"])
def test_product(harness, way):
    rng = np.random.default_rng(0)
    left, right, sums = (rng.standard_normal(shape) for shape in ((8, 4), (8, 4), (8, 8)))
    expected = sums + left @ right.T
    harness.emulate_product(way == "shuffles", *map(pointer, (left, right, sums)))
    np.testing.assert_allclose(sums, expected, rtol=1e-13, atol=1e-14)


def edges(tile):
    """Lengths around everything that is special about a tile."""
    return (1, 0, 2, 3, 15, 16, 17, tile - 1, tile, tile + 1, 2 * tile + 5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tasks", [1, 2, 3, 5, 8, 9])
def test_gramian(harness, tasks, dtype):
    tile = harness.tile_columns(tasks, NUMBERS[dtype])
    lengths = edges(tile)
    dtypes = [dtype] * len(lengths)
    rows = sample(tasks, tasks, lengths, dtypes, absent=0.2)
    c, _ = emulated.gramian(harness, rows, lengths, dtypes)
    assert_gramian(c, rows)
    # against the processor's own core, whose order differs
    reference = _core.gramian(_core.TensorTable(rows, torch.Tensor), 1)
    norms = np.sqrt(np.diag(reference))
    assert np.all(np.abs(c - reference) <= 1e-14 * np.outer(norms, norms))


@pytest.mark.parametrize("tasks", [17, 33, 64])
def test_gramian_of_many_tasks(harness, tasks):
    lengths = (1, 40, 0, 131)
    dtypes = [torch.float32, torch.bfloat16, torch.float32, torch.float32]
    rows = sample(0, tasks, lengths, dtypes, absent=0.1)
    c, launches = emulated.gramian(harness, rows, lengths, dtypes, multiprocessors=1)
    assert launches == 2  # a dtype each
    assert_gramian(c, rows)


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_any_alignment_and_mixed_dtypes(harness, shift):
    lengths = tuple(itertools.chain.from_iterable((n,) * 4 for n in (1, 33, 700)))
    dtypes = [*DTYPES] * 3
    rows = sample(1, 3, lengths, dtypes, shift=shift)
    c, launches = emulated.gramian(harness, rows, lengths, dtypes)
    assert launches == 4
    assert_gramian(c, rows)


@pytest.mark.parametrize("shifted", range(4))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_row_or_the_direction_off_a_vector(harness, dtype, shifted):
    tasks = 3
    rows = [sample(task, 1, (700,), [dtype], shift=task == shifted)[0] for task in range(tasks + 1)]
    (out,) = rows.pop()
    c, _ = emulated.gramian(harness, rows, (700,), [dtype])
    assert_gramian(c, rows)
    expected = out.clone()
    emulated.combine(harness, rows, np.ones(tasks), [out])
    jacobian = _core.TensorTable(rows, torch.Tensor)
    _core.combine(jacobian, np.ones(tasks), _core.TensorTable([[expected]], torch.Tensor), 1)
    assert torch.equal(out, expected)


@pytest.mark.parametrize("multiprocessors", [1, 3, 200])
def test_any_number_of_multiprocessors(harness, multiprocessors):
    lengths = (5000, 1, 333)
    dtypes = [torch.float32] * 3
    rows = sample(2, 4, lengths, dtypes)
    c, _ = emulated.gramian(harness, rows, lengths, dtypes, multiprocessors)
    again, _ = emulated.gramian(harness, rows, lengths, dtypes, multiprocessors)
    assert np.array_equal(c, again)
    assert_gramian(c, rows)


def test_more_blocks_than_a_table_takes(harness):
    tasks = 6
    blocks = 3 * (CAPACITY // (tasks + 2)) + 1
    lengths = (7,) * blocks
    dtypes = [torch.float32] * blocks
    rows = sample(3, tasks, lengths, dtypes)
    c, launches = emulated.gramian(harness, rows, lengths, dtypes)
    assert launches == 4
    assert_gramian(c, rows)


def test_empty_and_absent_blocks_make_no_launch(harness):
    rows = [[None, torch.zeros(0)], [None, torch.zeros(0)]]
    c, launches = emulated.gramian(harness, rows, (9, 0), [torch.float32] * 2)
    assert launches == 0
    assert np.array_equal(c, np.zeros((2, 2)))


def test_nonfinite_elements_reach_their_row_only(harness):
    for tasks, task in ((2, 0), (3, 2), (9, 8)):
        rows = sample(4, tasks, (900,), [torch.float32])
        rows[task][0][77] = torch.inf
        c, _ = emulated.gramian(harness, rows, (900,), [torch.float32])
        hit = np.zeros((tasks, tasks), dtype=bool)
        hit[task] = hit[:, task] = True
        assert np.array_equal(~np.isfinite(c), hit)


def test_too_many_tasks_and_split_elements_are_refused(harness):
    _, launches = emulated.gramian(
        harness, sample(5, 65, (3,), [torch.float32]), (3,), [torch.float32]
    )
    assert launches == -1
    g = torch.zeros(8)
    m, blocks, addresses, sizes, types = arguments([[g]], (4,), [torch.float32])
    addresses += 1
    c = np.zeros((1, 1))
    found = harness.emulate_gramian(
        m, blocks, pointer(addresses), pointer(sizes), pointer(types), 1, pointer(c)
    )
    assert found == -1


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("tasks", [1, 2, 7, 64])
def test_combine_gives_the_bits_of_the_processor(harness, tasks, shift):
    lengths = (1, 2047, 3, 1024, 0, 40, 513)
    dtypes = [torch.float32, torch.bfloat16, torch.float16, *[torch.float32] * 3, torch.float64]
    rows = sample(6, tasks, lengths, dtypes, absent=0.2, shift=shift)
    weights = np.random.default_rng(0).standard_normal(tasks)
    out = [torch.full_like(g, torch.nan) for g in sample(8, 1, lengths, dtypes, shift=shift)[0]]
    expected = [g.clone() for g in out]
    emulated.combine(harness, rows, weights, out)
    _core.combine(
        _core.TensorTable(rows, torch.Tensor),
        weights,
        _core.TensorTable([expected], torch.Tensor),
        1,
    )
    for found, reference in zip(out, expected, strict=True):
        assert torch.equal(found, reference)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_combine_rounds_what_is_special_as_the_processor(harness, dtype):
    largest, smallest = torch.finfo(dtype).max, torch.finfo(dtype).smallest_normal
    values = [0.0, -0.0, 1.0, largest, -largest, smallest, smallest / 4, torch.inf, torch.nan]
    first = torch.tensor(values, dtype=torch.float64).to(dtype)
    rows = [[first.repeat(len(values))], [first.repeat_interleave(len(values))]]
    for weights in ([1.0, 1.0], [0.5, -1.0], [1.0, 2.0**-9], [1e-5, 1e-5]):
        out, expected = torch.zeros_like(rows[0][0]), torch.zeros_like(rows[0][0])
        emulated.combine(harness, rows, weights, [out])
        _core.combine(
            _core.TensorTable(rows, torch.Tensor),
            np.array(weights),
            _core.TensorTable([[expected]], torch.Tensor),
            1,
        )
        assert torch.equal(out.isnan(), expected.isnan())
        out, expected = out[~out.isnan()], expected[~out.isnan()]
        assert torch.equal(out, expected)
        assert torch.equal(out.signbit(), expected.signbit())


def test_combine_keeps_what_lies_around_a_block(harness):
    memory = torch.full((64,), 7.0)
    out = memory[5:42]
    rows = sample(9, 3, (37,), [torch.float32])
    emulated.combine(harness, rows, np.ones(3), [out])
    assert torch.equal(memory[:5], torch.full((5,), 7.0))
    assert torch.equal(memory[42:], torch.full((22,), 7.0))


def test_combine_of_empty_blocks_alone_launches_nothing(harness):
    memory = torch.full((8,), 7.0)
    emulated.combine(harness, [[memory[:0]], [None]], np.ones(2), [memory[4:4]])
    assert torch.equal(memory, torch.full((8,), 7.0))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_zero_weights_hide_nothing(harness, bad):
    rows = sample(10, 3, (300,), [torch.float32])
    rows[1][0][17] = bad
    out = [torch.zeros(300)]
    emulated.combine(harness, rows, np.zeros(3), out)
    assert torch.isnan(out[0]).nonzero().tolist() == [[17]]


def any_min_norm(harness, m):
    emulated.min_norm(harness, np.eye(m))


def any_pareto_mtl(harness, m):
    """Of two tasks and as many vectors as make a problem of m weights."""
    options = {"index": 0, "epsilon": 0.0, "steps": 1, "average": 0.0, "rescale": False}
    losses, vectors, state = np.ones(2), np.ones((m - 1, 2)), np.zeros(5)
    emulated.pareto_mtl(harness, losses, np.eye(2), vectors, state, **options)


def any_gramian(harness, m):
    emulated.gramian(harness, sample(0, m, (9,), [torch.float32]), (9,), [torch.float32])


def any_combine(harness, m):
    rows = sample(0, m, (9,), [torch.float32])
    emulated.combine(harness, rows, np.ones(m), [torch.zeros(9)])


@pytest.mark.parametrize("call", [any_min_norm, any_pareto_mtl])
def test_shared_memory_sets_the_limit_on_the_weights(harness, call):
    def refusal(limit):
        harness.set_device(1, 1, limit)
        words = f"64 weights: it needs [0-9]+ bytes of shared memory, CUDA device 1 has {limit}"
        with pytest.raises(emulated.FaultError, match=words) as raised:
            call(harness, 64)
        return int(re.search("needs ([0-9]+)", str(raised.value))[1])

    bytes_needed = refusal(USUAL_SHARED_BYTES)
    assert bytes_needed == refusal(bytes_needed - 1)
    harness.set_device(1, 1, bytes_needed)
    call(harness, 64)


CALLS = {
    any_min_norm: "launch of the min-norm kernel",
    any_pareto_mtl: "launch of the Pareto MTL kernel",
    any_gramian: "launch of the Gramian kernel",
    any_combine: "launch of the combination kernel",
}


@pytest.mark.parametrize("call", CALLS)
def test_an_error_names_the_call_and_the_device(harness, call):
    harness.set_device(1, 0, SHARED_BYTES)
    words = f"{CALLS[call]} on CUDA device 1: invalid resource handle"
    with pytest.raises(emulated.FaultError, match=f"1 faults, the first: {words}"):
        call(harness, 3)
    harness.set_device(2, 1, SHARED_BYTES)
    words = "(cudaSetDevice|cudaDeviceGetAttribute) on CUDA device 2: invalid device ordinal"
    with pytest.raises(emulated.FaultError, match=f"1 faults, the first: {words}"):
        call(harness, 3)


@pytest.mark.parametrize("call", CALLS)
def test_an_error_of_earlier_work_is_told_from_our_own(harness, call):
    harness.fail_late()
    words = "on CUDA device 1: an illegal memory access was encountered; earlier work may be the"
    with pytest.raises(emulated.FaultError, match=words):
        call(harness, 3)
