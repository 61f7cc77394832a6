"""C = J Jᵀ and d = Jᵀ w of special numbers: ends of a range, ties, zeros, what is not finite."""

import itertools

import numpy as np
import oracles
import pytest
import torch
from gramian_cases import DTYPES, combine, every_level, gramian, outputs, sample


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
