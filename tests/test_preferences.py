"""Preferences and directions in loss space."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from pyfront import preferences


def test_circle_is_evenly_spread_with_exact_ends():
    u = preferences.circle(10)
    assert u.shape == (10, 2) and u.dtype == torch.float64
    assert u[0].tolist() == [1.0, 0.0] and u[-1].tolist() == [0.0, 1.0]
    angles = torch.atan2(u[:, 1], u[:, 0])
    torch.testing.assert_close(
        angles.diff(), torch.full((9,), math.pi / 18, dtype=torch.float64), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize(("m", "divisions"), [(1, 3), (2, 4), (3, 5), (5, 3)])
def test_das_dennis_is_the_whole_lattice_on_the_sphere(m, divisions):
    u = preferences.das_dennis(m, divisions)
    assert u.shape == (math.comb(divisions + m - 1, m - 1), m)
    torch.testing.assert_close(u.norm(dim=1), torch.ones(len(u), dtype=torch.float64))
    parts = u / u.sum(dim=1, keepdim=True) * divisions
    torch.testing.assert_close(parts, parts.round(), rtol=0, atol=1e-12)
    assert len({tuple(row) for row in parts.round().tolist()}) == len(u)


def test_sample_is_uniform_on_the_simplex():
    r = preferences.sample(3, 20000, torch.Generator().manual_seed(1))
    assert (r > 0).all()
    torch.testing.assert_close(r.sum(dim=1), torch.ones(20000, dtype=torch.float64))
    # flat Dirichlet: mean 1/3, variance (1/3)(2/3)/4 = 1/18
    assert (r.mean(dim=0) - 1 / 3).abs().max() < 0.01
    assert (r.var(dim=0) - 1 / 18).abs().max() < 0.002
    again = preferences.sample(3, 20000, torch.Generator().manual_seed(1))
    assert torch.equal(r, again)


@pytest.mark.parametrize("bias", [0.0, 0.5, 4.0])
@pytest.mark.parametrize(("m", "task"), [(2, 0), (3, 2), (5, 1)])
def test_sample_biased_has_the_moments_of_its_dirichlet_distribution(m, task, bias):
    r = preferences.sample_biased(m, 20000, task, bias, torch.Generator().manual_seed(2))
    assert r.shape == (20000, m) and r.dtype == torch.float64 and (r > 0).all()
    torch.testing.assert_close(r.sum(dim=1), torch.ones(20000, dtype=torch.float64))
    parameters = torch.ones(m, dtype=torch.float64)
    parameters[task] += bias
    dirichlet = torch.distributions.Dirichlet(parameters)
    assert (r.mean(dim=0) - dirichlet.mean).abs().max() < 0.01
    assert (r.var(dim=0) - dirichlet.variance).abs().max() < 0.003
    # Kolmogorov and Smirnov: the favoured entry has the Beta(1 + bias, m − 1) distribution
    assert kstest(r[:, task].numpy(), "beta", args=(1 + bias, m - 1)).pvalue > 1e-3
    others = torch.cat([r[:, :task], r[:, task + 1 :]], dim=1)
    share = (others / others.sum(dim=1, keepdim=True))[:, 0]
    assert m == 2 or kstest(share.numpy(), "beta", args=(1, m - 2)).pvalue > 1e-3


def test_an_enormous_bias_leaves_every_entry_positive():
    r = preferences.sample_biased(3, 1000, 0, 1e12, torch.Generator().manual_seed(0))
    assert (r > 0).all() and (r[:, 0] > 1 - 1e-9).all()


@pytest.mark.parametrize("m", [1, 2, 3, 5])
def test_sample_sphere_is_uniform_on_its_part_of_the_sphere(m):
    u = preferences.sample_sphere(m, 20000, torch.Generator().manual_seed(3))
    assert u.shape == (20000, m) and u.dtype == torch.float64 and (u >= 0).all()
    torch.testing.assert_close(u.norm(dim=1), torch.ones(20000, dtype=torch.float64))
    if m == 1:
        return
    # the square of an entry has the Beta(1/2, (m − 1)/2) distribution
    for j in range(m):
        assert kstest(u[:, j].square().numpy(), "beta", args=(0.5, (m - 1) / 2)).pvalue > 1e-3
    # seen from any axis of the first two: angles between them are uniform
    angle = torch.atan2(u[:, 1], u[:, 0]) / (math.pi / 2)
    assert kstest(angle.numpy(), "uniform").pvalue > 1e-3


SAMPLERS = [
    lambda generator: preferences.sample(3, 7, generator),
    lambda generator: preferences.sample_biased(3, 7, 1, 2.0, generator),
    lambda generator: preferences.sample_sphere(3, 7, generator),
]


@pytest.mark.parametrize("draw", SAMPLERS, ids=["simplex", "biased", "sphere"])
def test_a_generator_alone_decides(draw):
    first = draw(torch.Generator().manual_seed(5))
    before = torch.random.get_rng_state()
    generator = torch.Generator().manual_seed(5)
    assert torch.equal(draw(generator), first) and not torch.equal(draw(generator), first)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    default = draw(None)
    torch.manual_seed(6)
    assert torch.equal(draw(None), default)


@pytest.mark.parametrize("r", [[0.7, 0.3], [1e-300, 1.0], [1e300, 1e-300, 1.0], [5.0]])
def test_to_reference_vectors_is_the_unit_vector_along_the_inverse(r):
    u = preferences.to_reference_vectors(r)
    assert u.isfinite().all() and math.isclose(u.norm().item(), 1.0, rel_tol=1e-12)
    product = u * torch.tensor(r, dtype=torch.float64)
    positive = u > 0
    torch.testing.assert_close(
        product[positive], product.max().expand_as(product[positive]), rtol=1e-12, atol=0
    )


@given(st.lists(st.floats(1e-150, 1e150), min_size=1, max_size=6))
def test_the_conversions_undo_each_other(values):
    r = torch.tensor(values, dtype=torch.float64)
    back = preferences.from_reference_vectors(preferences.to_reference_vectors(r))
    torch.testing.assert_close(back, r / r.sum(), rtol=1e-12, atol=1e-300)
    u = preferences.to_reference_vectors(preferences.from_reference_vectors(r))
    torch.testing.assert_close(u, (r / r.max()) / (r / r.max()).norm(), rtol=1e-12, atol=1e-300)


def test_conversions_take_several_rows_and_forms():
    rows = [[0.7, 0.3], [1.0, 4.0]]
    for convert in (preferences.to_reference_vectors, preferences.from_reference_vectors):
        table = convert(rows)
        assert table.shape == (2, 2) and torch.equal(table[1], convert(rows[1]))
        for form in (np.array(rows), torch.tensor(rows, dtype=torch.float64)):
            assert torch.equal(convert(form), table)
        given_tensor = torch.tensor([3.0, 5.0], dtype=torch.float64, requires_grad=True)
        assert not convert(given_tensor).requires_grad and given_tensor.tolist() == [3.0, 5.0]
    r = preferences.from_reference_vectors(preferences.circle(5)[1:-1])
    torch.testing.assert_close(r.sum(dim=1), torch.ones(3, dtype=torch.float64))
    assert r[0, 0] < r[0, 1]  # the first loss may be large: the second task matters more


@pytest.mark.parametrize("bad", [[0.5, 0.0], [0.5, -1.0], [float("nan"), 1.0], [1.0, math.inf]])
def test_conversions_name_the_bad_entry(bad):
    with pytest.raises(ValueError, match=r"r\[\d\] = "):
        preferences.to_reference_vectors(bad)
    with pytest.raises(ValueError, match=r"u\[\d\] = "):
        preferences.from_reference_vectors(bad)
    with pytest.raises(ValueError, match=r"u\[1\]\[\d\] = "):
        preferences.from_reference_vectors([[1.0, 1.0], bad])
    for shape in ([], [[]], [[[1.0]]], 1.0):
        with pytest.raises(ValueError, match="u: expected shape"):
            preferences.from_reference_vectors(shape)


def test_counts_out_of_range_are_named():
    with pytest.raises(ValueError, match="k = 1"):
        preferences.circle(1)
    with pytest.raises(ValueError, match="divisions = 0"):
        preferences.das_dennis(3, 0)
    with pytest.raises(TypeError, match="m: expected an integer"):
        preferences.sample(2.5, 3)
    with pytest.raises(ValueError, match="k = 0"):
        preferences.sample_sphere(3, 0)
    with pytest.raises(ValueError, match="m = 1"):
        preferences.sample_biased(1, 3, 0, 1.0)
    with pytest.raises(IndexError, match="task = 3: must be from 0 to 2"):
        preferences.sample_biased(3, 2, 3, 1.0)
    with pytest.raises(TypeError, match="task: expected an integer"):
        preferences.sample_biased(3, 2, 0.5, 1.0)
    for bias in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"bias = {bias}"):
            preferences.sample_biased(3, 2, 0, bias)
