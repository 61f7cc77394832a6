"""Preferences r, and directions in loss space.

A preference r [m] > 0 says how much each task matters: bigger means that the task's loss must end
lower, and EPO ends at l ∝ 1/r. A reference vector u [m] ≥ 0 is a direction in *loss space*: Pareto
MTL ends near l ∝ u. :func:`to_reference_vectors` and :func:`from_reference_vectors` convert:
u = (1/r) / ‖1/r‖₂, r = (1/u) / Σ 1/u.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from pyfront._utils.arguments import (
    VectorLike,
    VectorsLike,
    integer,
    number,
    require,
)
from pyfront._utils.loss_space import as_preference, check_index

__all__ = [
    "circle",
    "das_dennis",
    "decompose",
    "from_reference_vectors",
    "sample",
    "sample_biased",
    "sample_sphere",
    "to_reference_vectors",
]


def circle(k: int) -> Tensor:
    """Return evenly spread directions in loss space for two tasks.

    u_i = (cos φ_i, sin φ_i) with φ_i = i π / (2 (k − 1)), i = 0..k−1: from one axis to the other,
    both ends included.

    Args:
        k: number of directions, ≥ 2.

    Returns:
        [k, 2] float64, unit 2-norm, entries ≥ 0.

    Raises:
        ValueError: ``k`` < 2.

    Example:
        >>> circle(3)[1].tolist()
        [0.7071067811865476, 0.7071067811865475]

    Source: Lin et al., Pareto Multi-Task Learning, 2019, section 4.2.
    """
    places = torch.arange(integer("k", k, 2), dtype=torch.float64, device="cpu")
    angles = places * (math.pi / (2 * (k - 1)))
    directions = torch.stack([angles.cos(), angles.sin()], dim=1)
    directions[-1, 0] = 0.0  # cos(π/2) rounds to 6e-17
    return directions


def das_dennis(m: int, divisions: int) -> Tensor:
    """Return a regular lattice of directions in loss space.

    All points of the simplex with entries i / divisions, divided by their 2-norm. There are
    C(divisions + m − 1, m − 1) of them.

    Args:
        m: tasks, ≥ 1.
        divisions: parts that an edge of the simplex is cut into, ≥ 1.

    Returns:
        [K, m] float64, unit 2-norm, entries ≥ 0, in lexicographic order.

    Raises:
        ValueError: ``m`` or ``divisions`` < 1.

    Example:
        >>> das_dennis(3, 2).shape
        torch.Size([6, 3])

    Source: Das and Dennis, Normal-Boundary Intersection, SIAM J. Optim. 1998.
    """
    integer("m", m, 1)
    integer("divisions", divisions, 1)
    slots = divisions + m - 1
    count = math.comb(slots, m - 1)
    if count > 10**7:
        raise ValueError(f"divisions = {divisions}: {count} directions for m = {m} are too many")
    rows = []
    for bars in itertools.combinations(range(slots), m - 1):
        edges = (-1, *bars, slots)
        rows.append([right - left - 1 for left, right in itertools.pairwise(edges)])
    lattice = torch.tensor(rows, dtype=torch.float64, device="cpu")
    return lattice.div_(lattice.norm(dim=1, keepdim=True))


def sample(m: int, k: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw preferences, uniform on the simplex.

    Args:
        m: tasks, ≥ 1.
        k: number of preferences, ≥ 1.
        generator: source of randomness; torch's default where None.

    Returns:
        [k, m] float64, entries > 0, rows sum to 1.

    Raises:
        ValueError: ``m`` or ``k`` < 1.

    Example:
        >>> sample(3, 2, torch.Generator().manual_seed(0)).sum(dim=1).round(decimals=12).tolist()
        [1.0, 1.0]
    """
    # independent exponentials over their sum: the flat Dirichlet distribution
    exponential = -_log_uniform(integer("k", k, 1), integer("m", m, 1), generator)
    return exponential / exponential.sum(dim=1, keepdim=True)


def sample_biased(
    m: int, k: int, task: int, bias: float, generator: torch.Generator | None = None
) -> Tensor:
    """Draw preferences on the simplex that favour one task.

    The Dirichlet distribution with parameter 1 + bias for the task and 1 for the others: its
    density is that of :func:`sample` times r_task to the power of ``bias``, and the mean of r_task
    is (1 + bias) / (m + bias).

    Args:
        m: tasks, ≥ 2.
        k: number of preferences, ≥ 1.
        task: the favoured task, 0 ≤ task < m.
        bias: ≥ 0; 0 is :func:`sample`, and the larger, the closer r_task is to 1.
        generator: source of randomness; torch's default where None.

    Returns:
        [k, m] float64, entries > 0, rows sum to 1.

    Raises:
        ValueError: ``m``, ``k`` or ``bias`` out of its range.
        IndexError: ``task`` out of range.

    Example:
        >>> r = sample_biased(3, 1000, 1, 5.0, torch.Generator().manual_seed(0))
        >>> [round(8 * mean) for mean in r.mean(dim=0).tolist()]
        [1, 6, 1]
    """
    integer("m", m, 2)
    integer("k", k, 1)
    check_index(task, m, "task")
    bias = number("bias", bias, lowest=0.0)
    # r_task has a Beta distribution: a product of powers of uniform numbers
    powers = 1.0 + bias + torch.arange(m - 1, dtype=torch.float64, device="cpu")
    log_share = (_log_uniform(k, m - 1, generator) / powers).sum(dim=1, keepdim=True)
    others = sample(m - 1, k, generator) * -torch.expm1(log_share)
    return torch.cat([others[:, :task], log_share.exp(), others[:, task:]], dim=1)


def sample_sphere(m: int, k: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw directions in loss space, uniform on the part of the unit sphere with entries ≥ 0.

    Args:
        m: tasks, ≥ 1.
        k: number of directions, ≥ 1.
        generator: source of randomness; torch's default where None.

    Returns:
        [k, m] float64, unit 2-norm, entries ≥ 0.

    Raises:
        ValueError: ``m`` or ``k`` < 1.

    Example:
        >>> u = sample_sphere(3, 2, torch.Generator().manual_seed(0))
        >>> u.norm(dim=1).round(decimals=12).tolist()
        [1.0, 1.0]
    """
    shape = (integer("k", k, 1), integer("m", m, 1))
    # independent normal numbers have no preferred direction
    normal = torch.randn(shape, dtype=torch.float64, generator=generator, device="cpu").abs_()
    return normal.div_(normal.norm(dim=1, keepdim=True))


def _log_uniform(k: int, m: int, generator: torch.Generator | None) -> Tensor:
    """Draw logarithms of numbers that are uniform on (0, 1), [k, m] float64 < 0."""
    uniform = torch.rand((k, m), dtype=torch.float64, generator=generator, device="cpu")
    return torch.log1p(-uniform).clamp_(max=-1e-12)


def to_reference_vectors(r: VectorsLike) -> Tensor:
    """Return the direction in loss space where EPO with preference r ends: u = (1/r) / ‖1/r‖₂.

    Args:
        r: a preference [m], or several [K, m]; entries > 0, any scale.

    Returns:
        float64 of the same shape, rows of unit 2-norm.

    Raises:
        ValueError: an entry that is not finite and > 0; it is named.

    Example:
        >>> to_reference_vectors([0.8, 0.6]).round(decimals=12).tolist()
        [0.6, 0.8]
    """
    inverse = _inverse("r", r)
    return inverse.div_(inverse.norm(dim=-1, keepdim=True))


def from_reference_vectors(u: VectorsLike) -> Tensor:
    """Return the preference with which EPO ends in direction u: r = (1/u) / Σ 1/u.

    Args:
        u: a direction [m], or several [K, m]; entries > 0, any scale. A zero entry, an end of the
            front, has no finite preference.

    Returns:
        float64 of the same shape, rows that sum to 1.

    Raises:
        ValueError: an entry that is not finite and > 0; it is named.

    Example:
        >>> from_reference_vectors([0.6, 0.8]).mul(7).round(decimals=12).tolist()
        [4.0, 3.0]
    """
    inverse = _inverse("u", u)
    return inverse.div_(inverse.sum(dim=-1, keepdim=True))


def _inverse(name: str, value: VectorsLike) -> Tensor:
    """Return 1/x of one or several rows, each scaled so that its largest entry is 1."""
    if isinstance(value, torch.Tensor):
        value = value.detach().to("cpu", torch.float64)
    values = torch.as_tensor(value, dtype=torch.float64, device="cpu")
    if values.dim() not in (1, 2) or values.numel() == 0:
        raise ValueError(f"{name}: expected shape [m] or [K, m], got {list(values.shape)}")
    for index, row in enumerate(values.reshape(-1, values.shape[-1])):
        require(f"{name}[{index}]" if values.dim() == 2 else name, row.numpy(), above=0.0)
    # scale first, so that neither 1/x nor its norm can overflow
    return values.amin(dim=-1, keepdim=True) / values


def decompose(r: VectorLike, k: int, generator: torch.Generator | None = None) -> Tensor:
    """Return the direction in loss space of a preference, and k random ones that bound its region.

    Row 0 is u = (1/r) / ‖1/r‖₂, in the limit where entries of r are 0 (an end of the front); the
    others are uniform on the part of the sphere with entries ≥ 0. For Pareto MTL with index 0 and
    ``schedule="alternating"``, drawn anew at every step.

    Args:
        r: a preference [m], entries ≥ 0 and not all 0.
        k: number of random directions, ≥ 1; the more, the narrower the region.
        generator: source of randomness; torch's default where None.

    Returns:
        [1 + k, m] float64, unit 2-norm, entries ≥ 0.

    Raises:
        ValueError: an entry of ``r`` that is negative or not finite; ``k`` < 1.

    Example:
        >>> decompose([1.0, 0.0], 3).shape
        torch.Size([4, 2])

    Source: Lin et al., Controllable Pareto Multi-Task Learning, 2020, appendix B.2, with k = 3.
    """
    values = torch.from_numpy(as_preference(r, positive=False))
    ends = values.clamp_min(1e-100 * values.max())
    return torch.cat(
        [to_reference_vectors(ends)[None], sample_sphere(values.numel(), k, generator)]
    )
