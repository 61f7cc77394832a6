"""How the work of the CUDA kernels is cut up: tables, tiles and launches, on the CPU."""

from itertools import accumulate

import numpy as np
import pytest
from emulated import pointer


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
    names = ("tiles", "grid", "blocks", "filled", "end_tile", "length", "aligned")
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


def test_a_launch_adds_to_the_slots_of_those_before(harness):
    launches = describe(harness, [10**6] * 200, 8, 1 << 44)
    assert sum(launch["blocks"] for launch in launches) == 200
    grids = [launch["grid"] for launch in launches]
    assert [launch["filled"] for launch in launches] == [0, *accumulate(grids[:-1], max)]
