"""Where a direction may be written, against every element of the memory."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pyfront import functional
from pyfront.backend import _core
from pyfront.backend.task_gradients import TaskGradients

MEMORY = 24
DTYPES = (torch.float32, torch.bfloat16, torch.float64, torch.float16)


@given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    tasks=st.integers(1, 2),
    places=st.lists(st.integers(0, MEMORY - 4), min_size=9, max_size=9),
)
def test_memory_in_common(lengths, tasks, places):
    memory = torch.arange(float(MEMORY))
    place = iter(places)

    def row():
        spans = [(start, start + length) for length, start in zip(lengths, place, strict=False)]
        return [memory[a:b] for a, b in spans], [set(range(a, b)) for a, b in spans]

    rows, read = zip(*(row() for _ in range(tasks)), strict=True)
    out, written = row()
    elements = set().union(*written)
    apart = len(elements) == sum(lengths) and not any(elements & r for line in read for r in line)
    assert (TaskGradients(rows).destination(out) is not None) == apart


def test_slices_beside_the_gradients_are_written():
    memory = torch.arange(12.0)
    (a, b), out = (memory[:3], memory[6:9]), memory[3:6]
    result = functional.combine([[a], [b]], [1.0, 2.0], out=[out])
    assert result[0] is out
    assert memory.tolist() == [0, 1, 2, 12, 15, 18, 6, 7, 8, 9, 10, 11]
    with pytest.raises(ValueError, match=r"out\[0\]: shares memory"):
        functional.combine([[a], [b]], [1.0, 2.0], out=[memory[2:5]])


@pytest.mark.parametrize(
    "out",
    [
        torch.zeros(2, 3).T,
        torch.zeros(3, 2, dtype=torch.float64),
        torch.zeros(2, 3),
        torch.zeros(3, 4)[:, ::2],
        torch.zeros(3, 2, device="meta"),
        3.0,
    ],
    ids=["layout", "dtype", "shape", "strides", "device", "no tensor"],
)
def test_what_does_not_fit(out):
    gradients = TaskGradients([[torch.ones(3, 2)], [None]])
    assert gradients.destination([torch.zeros(3, 2)]) and gradients.destination([None])
    assert gradients.destination([out]) is None
    assert gradients.destination([torch.zeros(3, 2), None]) is None


def test_a_block_without_gradients_takes_no_direction():
    assert TaskGradients([[None]]).destination([torch.zeros(3)]) is None


def test_every_reader_sees_the_same_tensors():
    rows = [[torch.randn(2, 3).to(dtype) for dtype in (*DTYPES, *DTYPES[::-1])] for _ in range(2)]
    rows[1][3] = None
    tables = [_core.TensorTable(rows, Tensor, exchange) for exchange in (True, False)]
    first, second = (_core.gramian(table, 1) for table in tables)
    assert (first == second).all() and first[0, 0] > 0
    for exchange in (True, False):
        with pytest.raises(TypeError, match=r"\[0\]\[1\]: dtype torch.int64"):
            _core.TensorTable([[torch.ones(2), torch.ones(2).long()]], Tensor, exchange)
