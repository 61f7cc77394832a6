"""Preferences and directions in loss space."""

import math

import pytest
import torch

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


@pytest.mark.parametrize("r", [[0.7, 0.3], [1e-300, 1.0], [1e300, 1e-300, 1.0], [5.0]])
def test_to_reference_vectors_is_the_unit_vector_along_the_inverse(r):
    u = preferences.to_reference_vectors(r)
    assert u.isfinite().all() and math.isclose(u.norm().item(), 1.0, rel_tol=1e-12)
    product = u * torch.tensor(r, dtype=torch.float64)
    positive = u > 0
    torch.testing.assert_close(
        product[positive], product.max().expand_as(product[positive]), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("bad", [[0.5, 0.0], [0.5, -1.0], [float("nan"), 1.0], [1.0, math.inf]])
def test_to_reference_vectors_names_the_bad_entry(bad):
    with pytest.raises(ValueError, match=r"r\[\d\] = "):
        preferences.to_reference_vectors(bad)


def test_counts_out_of_range_are_named():
    with pytest.raises(ValueError, match="k = 1"):
        preferences.circle(1)
    with pytest.raises(ValueError, match="divisions = 0"):
        preferences.das_dennis(3, 0)
    with pytest.raises(TypeError, match="m: expected an integer"):
        preferences.sample(2.5, 3)
