"""Arguments that are preferences r, or directions u in loss space, checked and normalised."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pyfront._utils.arguments import (
    FloatArray,
    MatrixLike,
    VectorsLike,
    numbers,
    require,
    table,
    vector,
)

__all__ = [
    "as_directions",
    "as_preference",
    "as_preferences",
    "as_reference_vectors",
    "check_index",
]


def as_preference(
    value: VectorsLike, *, positive: bool, length: int | None = None, name: str = "preference"
) -> FloatArray:
    """Check a preference: finite, ≥ 0 with one entry > 0, and every entry > 0 if ``positive``."""
    array = vector(name, value, length)
    if positive:
        require(name, array, above=0.0)
    else:
        require(name, array, lowest=0.0)
        if not array.any():
            raise ValueError(f"{name}: at least one entry must be > 0")
    return array


def as_preferences(value: VectorsLike, length: int) -> FloatArray:
    """Convert one preference [m], or several, to a table [K, m]; entries ≥ 0, no row all 0."""
    array = numbers("preference", value)
    if array.ndim != 2:
        return as_preference(array, positive=False, length=length)[None]
    rows = [
        as_preference(row, positive=False, length=length, name=f"preference[{k}]")
        for k, row in enumerate(table("preference", array))
    ]
    return np.stack(rows)


def as_reference_vectors(value: MatrixLike) -> FloatArray:
    """Convert directions in loss space, [K, m] ≥ 0 without duplicates, to unit vectors."""
    vectors = table("reference_vectors", value).copy()
    for k, u in enumerate(vectors):
        require(f"reference_vectors[{k}]", u, lowest=0.0)
        if not u.any():
            raise ValueError(f"reference_vectors[{k}]: is zero and so has no direction")
    vectors /= vectors.max(axis=1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for k, u in enumerate(vectors):
        same = np.flatnonzero(np.abs(vectors[:k] - u).max(axis=1, initial=0.0) < 1e-12)
        if same.size:
            raise ValueError(f"reference_vectors[{k}]: has the direction of [{same[0]}]")
    return vectors


def as_directions(value: VectorsLike, length: int) -> Tensor:
    """Return p / ‖p‖₂ of a preference [m], or of each of several [K, m], differentiable in p.

    Entries are ≥ 0 and not all 0. Values are not checked while a graph is compiled.
    """
    if not torch.compiler.is_compiling():
        as_preferences(value, length)
    tensor = (
        value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value), device="cpu")
    )
    tensor = tensor / tensor.amax(dim=-1, keepdim=True)  # so that ‖p‖² stays in the range
    norm: Tensor = torch.linalg.vector_norm(tensor, dim=-1, keepdim=True)
    return tensor / norm


def check_index(index: int, count: int, name: str = "index") -> None:
    """Raise unless 0 ≤ index < count."""
    if isinstance(index, bool) or not isinstance(index, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer, got {index!r}")
    if not 0 <= index < count:
        raise IndexError(f"{name} = {index}: must be from 0 to {count - 1}")
