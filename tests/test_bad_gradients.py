"""Gradients, Gramians and targets that a function cannot use raise an error that names them."""

import math

import pytest
import torch

import pyfront


def test_complex_gradients_are_refused_where_the_core_reads_them():
    """Parameters are read by their real view (tests/optimizer/test_complex.py)."""
    g = torch.ones(2, dtype=torch.complex64)
    with pytest.raises(TypeError, match=r"gradients\[0\]\[0\].*complex64"):
        pyfront.functional.gramian([[g], [g]])


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([], ValueError, "at least one task"),
        ([[torch.ones(2)], [torch.ones(2), torch.ones(1)]], ValueError, r"gradients\[1\]"),
        ([[torch.ones(2)], [torch.ones(3)]], ValueError, r"gradients\[1\]\[0\].*shape"),
        ([[torch.ones(2)], [torch.ones(2).double()]], TypeError, r"gradients\[1\]\[0\].*dtype"),
        ([[torch.ones(2)], [3.0]], TypeError, r"gradients\[1\]\[0\].*float"),
        ([[torch.ones(2, dtype=torch.complex64)]], TypeError, r"gradients\[0\]\[0\].*complex64"),
        ([[torch.ones(2, dtype=torch.int64)]], TypeError, r"gradients\[0\]\[0\].*int64"),
        ([torch.ones(2)], TypeError, r"gradients\[0\]"),
        (torch.ones(2), ValueError, r"\[m, n\]"),
        (3.0, TypeError, "float"),
    ],
)
def test_bad_gradients(value, error, message):
    with pytest.raises(error, match=message):
        pyfront.functional.gramian(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1.0, math.nan], [math.nan, 1.0]], r"gramian\[0\]\[1\] = nan"),
        ([[math.inf]], r"gramian\[0\]\[0\] = inf"),
        ([[1.0, 0.0]], "square"),
        ([], "square|shape"),
        ([1.0], "square"),
        ([[1.0, 0.0], [1.0]], "gramian"),
    ],
)
def test_bad_gramians(value, message):
    with pytest.raises(ValueError, match=message):
        pyfront.functional.min_norm_weights(value)
    with pytest.raises(ValueError, match="gramian"):
        pyfront.functional.epo_weights([1.0] * len(value), value, [0.5] * len(value))


def test_bad_targets_of_combine():
    g, combine = torch.ones(3), pyfront.functional.combine
    with pytest.raises(TypeError, match=r"out\[0\].*float"):
        combine([[g]], [1.0], out=[3.0])
    with pytest.raises(ValueError, match=r"out\[0\].*meta"):
        combine([[g]], [1.0], out=[torch.empty(3, device="meta")])
    with pytest.raises(ValueError, match=r"out\[0\]: shares memory"):
        combine([[g]], [1.0], out=[g])
    target = torch.zeros(3)
    with pytest.raises(ValueError, match=r"out\[1\]: shares memory"):
        combine([[g, g + 1]], [1.0], out=[target, target])
    with pytest.raises(ValueError, match=r"out\[0\]: expected \[3\]"):
        combine([[g]], [1.0], out=[torch.zeros(4)])
    assert combine([[g]], [2.0], out=[target])[0] is target and target.tolist() == [2.0] * 3


def test_meta_and_other_devices_are_refused_in_one_sentence():
    rows = [[torch.ones(2, device="meta")]]
    with pytest.raises(ValueError, match="gradients.*device meta is not supported"):
        pyfront.functional.gramian(rows)
