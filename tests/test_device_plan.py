"""What surrounds the CUDA kernels, walked through on the CPU: tables, tiles, lanes, teams."""

import ctypes
import itertools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from samplers import SAMPLERS

from pyfront import _core

ROOT = Path(__file__).parent.parent
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)  # in the core's order
NUMBERS = {dtype: number for number, dtype in enumerate(DTYPES)}
CAPACITY = 480  # words of a table


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler on the PATH")
    if not (ROOT / "csrc").is_dir():
        pytest.skip("the sources of the core are not beside the tests")
    library = tmp_path_factory.mktemp("harness") / "harness.so"
    flags = ["-std=c++20", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-pthread"]
    source = ROOT / "tests" / "device_harness.cpp"
    command = [compiler, *flags, f"-I{ROOT / 'csrc'}", str(source), "-o", str(library)]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.tile_columns.restype = ctypes.c_int64
    return loaded


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def arguments(rows, lengths, dtypes):
    """Tasks, blocks, and the arrays of a table; the arrays must outlive the call."""
    addresses = [0 if g is None else g.data_ptr() for row in rows for g in row]
    return (
        len(rows),
        len(lengths),
        np.array(addresses, dtype=np.uint64),
        np.array(lengths, dtype=np.int64),
        np.array([NUMBERS[dtype] for dtype in dtypes], dtype=np.uint8),
    )


def emulate(harness, rows, lengths, dtypes, multiprocessors=2):
    m, blocks, addresses, sizes, types = arguments(rows, lengths, dtypes)
    c = np.full((m, m), np.nan)
    launches = harness.emulate_gramian(
        m, blocks, pointer(addresses), pointer(sizes), pointer(types), multiprocessors, pointer(c)
    )
    return c, launches


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


def edges(tile):
    """Lengths around everything that is special about a tile."""
    return (1, 0, 2, 3, 15, 16, 17, tile - 1, tile, tile + 1, 2 * tile + 5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tasks", [1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64])
def test_lanes_read_every_element_of_a_tile_once(harness, tasks, dtype):
    assert harness.lanes_cover_tile(tasks, NUMBERS[dtype]) == 1


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tasks", [1, 2, 3, 5, 8, 9])
def test_gramian_in_the_order_of_the_kernels(harness, tasks, dtype):
    tile = harness.tile_columns(tasks, NUMBERS[dtype])
    lengths = edges(tile)
    dtypes = [dtype] * len(lengths)
    rows = sample(tasks, tasks, lengths, dtypes, absent=0.2)
    c, _ = emulate(harness, rows, lengths, dtypes)
    assert_gramian(c, rows)
    # against the processor's own core, whose order differs
    reference = _core.gramian(_core.GradientTable(rows, torch.Tensor), 1)
    norms = np.sqrt(np.diag(reference))
    assert np.all(np.abs(c - reference) <= 1e-14 * np.outer(norms, norms))


@pytest.mark.parametrize("tasks", [17, 33, 64])
def test_gramian_of_many_tasks(harness, tasks):
    lengths = (1, 40, 0, 131)
    dtypes = [torch.float32, torch.bfloat16, torch.float32, torch.float32]
    rows = sample(0, tasks, lengths, dtypes, absent=0.1)
    c, launches = emulate(harness, rows, lengths, dtypes, multiprocessors=1)
    assert launches == 2  # a dtype each
    assert_gramian(c, rows)


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_any_alignment_and_mixed_dtypes(harness, shift):
    lengths = tuple(itertools.chain.from_iterable((n,) * 4 for n in (1, 33, 700)))
    dtypes = [*DTYPES] * 3
    rows = sample(1, 3, lengths, dtypes, shift=shift)
    c, launches = emulate(harness, rows, lengths, dtypes)
    assert launches == 4
    assert_gramian(c, rows)


@pytest.mark.parametrize("multiprocessors", [1, 3, 200])
def test_any_number_of_multiprocessors(harness, multiprocessors):
    lengths = (5000, 1, 333)
    dtypes = [torch.float32] * 3
    rows = sample(2, 4, lengths, dtypes)
    c, _ = emulate(harness, rows, lengths, dtypes, multiprocessors)
    again, _ = emulate(harness, rows, lengths, dtypes, multiprocessors)
    assert np.array_equal(c, again)
    assert_gramian(c, rows)


def test_more_blocks_than_a_table_takes(harness):
    tasks = 6
    blocks = 3 * (CAPACITY // (tasks + 2)) + 1
    lengths = (7,) * blocks
    dtypes = [torch.float32] * blocks
    rows = sample(3, tasks, lengths, dtypes)
    c, launches = emulate(harness, rows, lengths, dtypes)
    assert launches == 4
    assert_gramian(c, rows)


def test_empty_and_absent_blocks_make_no_launch(harness):
    rows = [[None, torch.zeros(0)], [None, torch.zeros(0)]]
    c, launches = emulate(harness, rows, (9, 0), [torch.float32] * 2)
    assert launches == 0
    assert np.array_equal(c, np.zeros((2, 2)))


def test_nonfinite_elements_reach_their_row_only(harness):
    for tasks, task in ((2, 0), (3, 2), (9, 8)):
        rows = sample(4, tasks, (900,), [torch.float32])
        rows[task][0][77] = torch.inf
        c, _ = emulate(harness, rows, (900,), [torch.float32])
        hit = np.zeros((tasks, tasks), dtype=bool)
        hit[task] = hit[:, task] = True
        assert np.array_equal(~np.isfinite(c), hit)


def test_too_many_tasks_and_split_elements_are_refused(harness):
    _, launches = emulate(harness, sample(5, 65, (3,), [torch.float32]), (3,), [torch.float32])
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
@pytest.mark.parametrize("tasks", [1, 2, 7])
def test_combine_writes_every_element_once(harness, tasks, shift):
    lengths = (1, 2047, 3, 1024, 0, 40)
    dtypes = [torch.float32, torch.bfloat16, torch.float16, *[torch.float32] * 3]
    rows = sample(6, tasks, lengths, dtypes, absent=0.2, shift=shift)
    rows[0] = sample(7, 1, lengths, dtypes, shift=shift)[0]
    out = sample(8, 1, lengths, dtypes, shift=shift)[0]
    weights = np.random.default_rng(0).standard_normal(tasks)
    m, blocks, addresses, sizes, types = arguments(rows, lengths, dtypes)
    targets = np.array([0 if g.numel() == 0 else g.data_ptr() for g in out], dtype=np.uint64)
    d = np.zeros(sum(lengths))
    harness.emulate_combine(
        m,
        blocks,
        pointer(addresses),
        pointer(targets),
        pointer(sizes),
        pointer(types),
        pointer(weights),
        2,
        pointer(d),
    )
    terms = np.abs(weights) @ np.abs(oracles.jacobian(rows))
    assert np.all(np.abs(d - oracles.combine(rows, weights)) <= 1e-15 * (tasks + 1) * terms)


def describe(harness, lengths, tasks, address, multiprocessors=132):
    count = len(lengths)
    addresses = np.full(tasks * count, address, dtype=np.uint64)
    sizes = np.array(lengths, dtype=np.int64)
    types = np.zeros(count, dtype=np.uint8)
    rows = np.zeros((count, 7), dtype=np.int64)
    found = harness.describe_plan(
        tasks,
        count,
        pointer(addresses),
        pointer(sizes),
        pointer(types),
        multiprocessors,
        count,
        pointer(rows),
    )
    names = ("tiles", "grid", "blocks", "first_slot", "end_tile", "length", "aligned")
    return [dict(zip(names, row, strict=True)) for row in rows[:found].tolist()]


@pytest.mark.parametrize("tasks", [2, 8, 16])
def test_lengths_beyond_32_bits(harness, tasks):
    """Nothing is read: the addresses are invented, the lengths add up to 2^40 and more."""
    lengths = [2**40, 2**33 + 1, 1, 2**31 - 1, 2**31]
    tile = harness.tile_columns(tasks, 0)
    (launch,) = describe(harness, lengths, tasks, 1 << 44)
    assert launch["tiles"] == sum(-(-length // tile) for length in lengths) == launch["end_tile"]
    assert launch["length"] == 2**31
    assert launch["aligned"] == 1
    assert launch["grid"] <= 132 * 4
    (launch,) = describe(harness, lengths, tasks, (1 << 44) + 4)
    assert launch["aligned"] == 0
    assert launch["length"] == 2**31


def test_slots_of_several_launches_follow_each_other(harness):
    launches = describe(harness, [10**6] * 200, 8, 1 << 44)
    assert sum(launch["blocks"] for launch in launches) == 200
    slot = 0
    for launch in launches:
        assert launch["first_slot"] == slot
        slot += launch["grid"]


@pytest.mark.parametrize("members", [1, 3, 8])
@pytest.mark.parametrize("family", SAMPLERS)
def test_a_team_gives_the_bits_of_one_thread(harness, family, members):
    """Members that overtake each other would show: every array is shared."""
    for m in (2, 3, 8, 13):
        jacobian = SAMPLERS[family](np.random.default_rng(m), m)
        gramian = jacobian @ jacobian.T
        weights, gap, status = _core.min_norm(gramian)
        own = np.full(m, np.nan)
        own_gap = ctypes.c_double()
        code = harness.team_min_norm(
            pointer(gramian), m, members, pointer(own), ctypes.byref(own_gap)
        )
        assert own.tolist() == weights.tolist()
        assert (own_gap.value, _core.STATUSES[code]) == (gap, status)


@pytest.mark.parametrize("phase", ["feasibility", "descent", "convergence"])
def test_a_team_gives_the_bits_of_one_thread_in_pareto_mtl(harness, phase):
    rng = np.random.default_rng(0)
    for m, count in ((2, 5), (3, 1), (4, 7)):
        jacobian = rng.standard_normal((m, m + 2))
        gramian = jacobian @ jacobian.T
        vectors = np.abs(rng.standard_normal((count, m)))
        vectors /= np.linalg.norm(vectors, axis=1)[:, None]
        losses = rng.random(m)
        index = count // 2
        weights, status, gap = _core.pareto_mtl(losses, gramian, vectors, index, phase, 0.1)
        own = np.full(m, np.nan)
        own_gap = ctypes.c_double()
        code = harness.team_pareto_mtl(
            pointer(losses),
            pointer(gramian),
            pointer(vectors),
            m,
            count,
            index,
            _core.PHASES.index(phase),
            ctypes.c_double(0.1),
            4,
            pointer(own),
            ctypes.byref(own_gap),
        )
        assert own.tolist() == weights.tolist()
        assert (own_gap.value, _core.STATUSES[code]) == (gap, status)
