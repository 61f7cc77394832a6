"""Arguments of size m: lists, arrays and tensors become float64 arrays; errors name the entry."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = [
    "BoolArray",
    "FloatArray",
    "MatrixLike",
    "VectorLike",
    "VectorsLike",
    "boolean",
    "choice",
    "finite_number",
    "finite_numbers",
    "integer",
    "matrix",
    "number",
    "numbers",
    "require",
    "table",
    "vector",
]

FloatArray: TypeAlias = NDArray[np.float64]
BoolArray: TypeAlias = NDArray[np.bool_]
VectorLike: TypeAlias = "Sequence[float] | NDArray[np.floating] | torch.Tensor"
MatrixLike: TypeAlias = "Sequence[Sequence[float]] | NDArray[np.floating] | torch.Tensor"
VectorsLike: TypeAlias = "VectorLike | MatrixLike"  # one, [m], or several, [K, m]


def numbers(name: str, value: object) -> FloatArray:
    """Return ``value`` as a float64 array of any shape."""
    if isinstance(value, torch.Tensor):
        if value.is_complex():
            raise TypeError(f"{name}: expected real numbers, got a tensor of {value.dtype}")
        if value.is_meta or value.layout is not torch.strided:
            kind = "meta tensor" if value.is_meta else f"tensor of layout {value.layout}"
            raise TypeError(f"{name}: expected dense numbers, got a {kind}")
        if value.dtype is not torch.float64 or value.device.type != "cpu":
            value = value.to("cpu", torch.float64)
        value = value.numpy(force=True)
    if isinstance(value, np.ndarray) and value.dtype == np.float64 and value.flags.c_contiguous:
        return value
    try:
        array = np.asarray(value)
    except (RuntimeError, TypeError, ValueError) as error:  # ragged, or tensors that torch keeps
        raise ValueError(f"{name}: expected real numbers in a regular shape: {error}") from None
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected real numbers, got {array.dtype} ({value!r})")
    return np.asarray(array, dtype=np.float64, order="C")


def vector(name: str, value: object, length: int | None = None) -> FloatArray:
    """Return ``value`` as a float64 array [length], of any length ≥ 1 where none is given."""
    array = numbers(name, value)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name}: expected a list of numbers, got shape {list(array.shape)}")
    if length is not None and array.size != length:
        raise ValueError(f"{name}: expected {length} values, one per task, got {array.size}")
    return array


def table(name: str, value: object) -> FloatArray:
    """Return ``value`` as a float64 array [K, m] of at least 1 x 1."""
    array = numbers(name, value)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name}: expected a table [K, m], got shape {list(array.shape)}")
    return array


def matrix(name: str, value: object) -> FloatArray:
    """Return ``value`` as a square float64 array of at least 1 x 1."""
    array = numbers(name, value)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or array.size == 0:
        raise ValueError(f"{name}: expected a square matrix, got shape {list(array.shape)}")
    return array


def require(
    name: str,
    values: FloatArray,
    *,
    lowest: float = -math.inf,
    above: float = -math.inf,
    hint: str = "",
    places: Sequence[int] | None = None,
) -> None:
    """Raise a ``ValueError`` at an entry that is not finite, ≥ ``lowest`` and > ``above``.

    Entries are named by their places, 0, 1, … where None.
    """
    listed = values.tolist()
    smallest = min(listed, default=math.inf)
    if smallest >= lowest and smallest > above and all(map(math.isfinite, listed)):
        return
    for index, value in zip(places or range(values.size), listed, strict=True):
        if math.isfinite(value) and value >= lowest and value > above:
            continue
        bound = f" and > {above:g}" if above > -math.inf else ""
        bound = f" and ≥ {lowest:g}" if lowest > -math.inf else bound
        raise ValueError(f"{name}[{index}] = {value:g}: must be finite{bound}{hint}")


def choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise a ``ValueError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} = {value!r}: must be one of {', '.join(map(repr, choices))}")


def boolean(name: str, value: object) -> bool:
    """Return ``value``, which must be a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return value


def integer(name: str, value: object, lowest: int) -> int:
    """Return ``value`` as an int ≥ ``lowest``; numpy's integers count, booleans do not."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    if value < lowest:
        raise ValueError(f"{name} = {value}: must be at least {lowest}")
    return int(value)


def number(
    name: str,
    value: object,
    *,
    lowest: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    highest: float = math.inf,
) -> float:
    """Return ``value`` as a finite float, within the bounds that are given; no boolean.

    A bound from above comes with one from below.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    if math.isfinite(value) and lowest <= value <= highest and above < value < below:
        return float(value)
    if below < math.inf or highest < math.inf:
        start = f"({above:g}" if above > -math.inf else f"[{lowest:g}"
        bound = f"in {start}, " + (f"{below:g})" if below < math.inf else f"{highest:g}]")
    else:
        bound = "finite and " + (f"> {above:g}" if above > -math.inf else f"≥ {lowest:g}")
    raise ValueError(f"{name} = {value!r}: must be {bound}")


def finite_number(name: str, value: Any) -> float:
    """Convert anything that is a finite number, not a boolean or text, to a float.

    Raises:
        ValueError: anything else. Files are checked with it, so there is one type of error.
    """
    if isinstance(value, bool | str | bytes):
        raise ValueError(f"{name} = {value!r}: expected a number")
    try:
        out = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} = {value!r}: expected a number") from error
    if not math.isfinite(out):
        raise ValueError(f"{name} = {out}: expected a finite number")
    return out


def finite_numbers(name: str, values: Any) -> tuple[float, ...]:
    """Convert at least one number to floats; errors as `finite_number`, with the index."""
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise ValueError(f"{name} = {values!r}: expected a sequence of numbers")
    out = tuple(finite_number(f"{name}[{index}]", value) for index, value in enumerate(values))
    if not out:
        raise ValueError(f"{name}: expected at least one number")
    return out
