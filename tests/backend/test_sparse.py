"""Sparse gradients against the same numbers in dense float64 memory."""

import pytest
import torch

from pyfront import functional
from pyfront.backend.sparse import on_one_support, summed
from pyfront.backend.task_gradients import TaskGradients, add_rows, as_complex, as_real


def coo(places, values, size, sparse_dim=1, dtype=torch.float32):
    """As autograd makes it: places in any order, and more than once."""
    indices = torch.tensor(places).reshape(sparse_dim, -1)
    return torch.sparse_coo_tensor(indices, values.to(dtype), size, check_invariants=False)


def table(places, seed, width=3, rows=40, dtype=torch.float32):
    values = torch.randn(len(places), width, generator=torch.Generator().manual_seed(seed))
    return coo(places, values, (rows, width), dtype=dtype)


def dense(row):
    return [None if g is None else g.to_dense() if g.is_sparse else g for g in row]


ROWS = {
    "the same places": [[table([3, 1, 3, 7], 0)], [table([3, 1, 3, 7], 1)]],
    "apart": [[table([1, 2], 0)], [table([30, 4], 1)], [table([9], 2)]],
    "overlapping, unsorted": [[table([30, 2, 5, 2], 0)], [table([5, 39, 0, 5], 1)]],
    "one inside another": [[table(range(40), 0)], [table([5, 5, 4], 1)]],
    "one task without it": [[None], [table([4, 4], 0)], [table([4, 5], 1)]],
    "one task alone": [[table([8, 8], 0)], [None]],
    "nothing read": [[table([], 0)], [table([], 1)]],
    "nothing read by one": [[table([], 0)], [table([6], 1)]],
    "every place": [[table(range(40), 0)], [table(range(39, -1, -1), 1)]],
    "in two dimensions": [
        [coo([[0, 3, 3], [1, 2, 2]], torch.randn(3), (4, 5), 2)],
        [coo([[3, 1], [2, 0]], torch.randn(2), (4, 5), 2)],
    ],
    "in two of three dimensions": [
        [coo([[0, 3], [1, 2]], torch.randn(2, 6), (4, 5, 6), 2)],
        [coo([[3, 1], [2, 0]], torch.randn(2, 6), (4, 5, 6), 2)],
    ],
    "in two ways": [
        [coo([[0, 3], [1, 2]], torch.randn(2), (4, 5), 2)],
        [coo([3, 1], torch.randn(2, 5), (4, 5))],
    ],
    "half precision": [
        [table([1, 2, 1], 0, dtype=torch.bfloat16)],
        [table([2, 3], 1, dtype=torch.bfloat16)],
    ],
    "beside dense blocks": [
        [torch.randn(3), table([1, 5], 0), None],
        [None, table([5, 5, 2], 1), torch.randn(2, 2)],
    ],
    "dense in one task": [[table([1, 5], 0)], [torch.randn(40, 3)]],
}


@pytest.mark.parametrize("name", ROWS)
def test_gramian_and_direction_are_those_of_dense_memory(name):
    rows, weights = ROWS[name], [0.3, -1.5, 0.25][: len(ROWS[name])]
    full = [dense([None if g is None else g.double() for g in row]) for row in rows]
    wide = [[g if g is None or not g.is_sparse else g.coalesce() for g in row] for row in rows]
    expected = functional.gramian([dense(row) for row in wide])
    torch.testing.assert_close(functional.gramian(rows), expected, rtol=1e-14, atol=1e-14)
    found = functional.combine(rows, weights)
    for block, d in enumerate(found):
        parts = [row[block] for row in rows if row[block] is not None]
        whole = functional.combine([[row[block]] for row in map(dense, rows)], weights)[0]
        exact = functional.combine([[row[block]] for row in full], weights)[0]
        assert torch.equal(d.to_dense() if d.is_sparse else d, whole), block
        if d.dtype is not torch.bfloat16:
            torch.testing.assert_close(whole.double(), exact)
        several_ways = name in ("in two ways", "dense in one task")
        assert d.is_sparse == (all(p.is_sparse for p in parts) and not several_ways)
        if d.is_sparse:  # the union of the places, each once
            touched = torch.cat([p.coalesce().indices() for p in parts], 1)
            assert d.is_coalesced() and torch.equal(d.indices(), touched.unique(dim=1))
            assert d.dtype is parts[0].dtype and d.shape == parts[0].shape


def test_blocks_that_are_selected_stay_sparse():
    rows = [[torch.ones(2), table([1], 0), table([4], 1)], [None, table([1, 2], 2), table([4], 3)]]
    whole, part = TaskGradients(rows), TaskGradients(rows).select([2, 1])
    assert sorted(whole.supports) == [1, 2] and sorted(part.supports) == [0, 1]
    assert part.supports[1].indices.tolist() == [[1, 2]] and part.supports[1].shape == (40, 3)
    c = sum(TaskGradients(rows).select([block]).gramian() for block in range(3))
    assert (abs(whole.gramian() - c) < 1e-12).all()


def test_dense_memory_that_is_given_is_written_densely():
    rows = [[table([1, 2], 0)], [table([2, 30], 1)]]
    out = [torch.full((40, 3), 7.0)]
    assert functional.combine(rows, [1.0, 2.0], out=out)[0] is out[0]
    assert torch.equal(out[0], functional.combine(rows, [1.0, 2.0])[0].to_dense())
    with pytest.raises(ValueError, match=r"out\[0\]: expected \[40, 3\] torch.float32, got \[3, 3"):
        functional.combine(rows, [1.0, 2.0], out=[torch.zeros(3, 3)])


def test_the_gradients_that_are_given_stay_as_they_are():
    first, second = table([2, 1, 2], 0), table([1, 0], 1).coalesce()
    before = [first.to_dense(), second.to_dense()]
    functional.combine([[first], [second]], [2.0, 3.0])[0].values().fill_(9.0)
    alone = functional.combine([[second]], [1.0])[0]
    alone.values().fill_(9.0)
    assert not first.is_coalesced()
    assert torch.equal(first.to_dense(), before[0]) and torch.equal(second.to_dense(), before[1])


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([[table([1], 0)], [table([1], 0, rows=41)]], ValueError, r"\[1\]\[0\]: its shape differs"),
        ([[table([1], 0)], [table([1], 0).double()]], TypeError, r"\[1\]\[0\]: its dtype differs"),
        ([[table([1], 0).long()]], TypeError, r"\[0\]\[0\]: dtype torch.int64"),
    ],
)
def test_bad_input_is_named(rows, error, message):
    with pytest.raises(error, match=message):
        functional.gramian(rows)


def test_sums_of_micro_batches():
    a, b, full = table([3, 1, 3], 0), table([3, 9], 1), torch.randn(40, 3)
    total = summed(a, b)
    assert total.is_coalesced() and total.indices().tolist() == [[1, 3, 9]]
    torch.testing.assert_close(total.to_dense(), a.to_dense() + b.to_dense())
    for pair in ((a, full), (full, a)):
        torch.testing.assert_close(summed(*pair), full + a.to_dense())
    assert [g if g is None else g.layout for g in add_rows([None, a, None], [None, None, b])] == [
        None,
        torch.sparse_coo,
        torch.sparse_coo,
    ]


def test_complex_values_are_seen_as_pairs():
    z = table([2, 1, 2], 0, dtype=torch.complex64) * (1 + 2j)
    (pairs,) = as_real([z])
    assert torch.equal(pairs.to_dense(), torch.view_as_real(z.to_dense()))
    (back,) = as_complex([pairs], [z])
    assert back.is_sparse and torch.equal(back.to_dense(), z.to_dense())


def test_no_support_without_a_sparse_gradient():
    assert on_one_support([None, None]) is None
    assert on_one_support([torch.ones(2), None]) is None
    assert on_one_support([torch.eye(3).to_sparse_csr()]) is None
