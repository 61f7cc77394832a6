"""The runs of a sweep: what identifies one, its seed, and a fingerprint of what it trains."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from pyfront._utils.arguments import require, vector

__all__ = ["RunKey", "as_runs", "digest", "fingerprint", "run_seed"]

#: A preference, or nested tuples of numbers, strings and None: what identifies a run.
RunKey: TypeAlias = tuple[Any, ...]

_NUMBERS = (int, float, np.integer, np.floating)


def as_runs(preferences: Iterable[Any]) -> list[RunKey]:
    """Check the runs that a sweep is given and make tuples of them.

    Args:
        preferences: preferences [m], all with the same m and entries ≥ 0, or tuples of numbers,
            strings, None and further tuples.

    Returns:
        One tuple per run; a preference is a tuple of floats.

    Raises:
        TypeError: an entry that is none of these.
        ValueError: no preference, a negative or infinite entry, another length, or the same twice.

    Example:
        >>> as_runs([torch.tensor([0.5, 0.5]), ("EPO", [0.7, 0.3])])
        [(0.5, 0.5), ('EPO', (0.7, 0.3))]
    """
    runs: list[RunKey] = []
    length: int | None = None
    for index, value in enumerate(preferences):
        name = f"preferences[{index}]"
        value = value.tolist() if isinstance(value, torch.Tensor | np.ndarray) else value
        if not isinstance(value, list | tuple) or not value:
            raise TypeError(f"{name} = {value!r}: expected a preference, such as [0.7, 0.3]")
        if all(isinstance(entry, _NUMBERS) for entry in value):
            array = vector(name, value, length)
            require(name, array, lowest=0.0)
            if not array.any():
                raise ValueError(f"{name}: at least one entry must be > 0")
            length = array.size
            value = array.tolist()
        run = _plain(name, value)
        if run in runs:
            raise ValueError(f"{name} = {run}: the same as preferences[{runs.index(run)}]")
        runs.append(run)
    if not runs:
        raise ValueError("preferences: expected at least one")
    return runs


def _plain(name: str, value: Any) -> Any:
    """Convert to nested tuples of Python's own numbers, strings and None."""
    if isinstance(value, torch.Tensor | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(_plain(name, entry) for entry in value)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | int | float):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name}: {value} is not finite")
        return value
    raise TypeError(f"{name}: {value!r} is not a number, string, None or a tuple of them")


def digest(run: RunKey, *context: Any) -> bytes:
    """Return 32 bytes that depend on `run` and `context` alone: on no process, on no other run."""
    return hashlib.sha256(json.dumps([run, *context]).encode()).digest()


def run_seed(run: RunKey, seed: int) -> int:
    """Return the seed of one run, 0 ≤ … < 2⁶³, from the run itself and the seed of the sweep.

    Example:
        >>> run_seed((0.5, 0.5), 0) == run_seed((0.5, 0.5), 0) != run_seed((0.5, 0.5), 1)
        True
    """
    return int.from_bytes(digest(run, seed)[:8], "big") >> 1


def fingerprint(value: Any) -> Any:
    """Return JSON that is equal for equal values in two runs of a program.

    Functions become their name, a partial its function and arguments, tensors and arrays a hash of
    their content; other objects their `repr`, or their type where that holds an address.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, functools.partial):
        keywords = {"function": value.func, "arguments": value.args, **value.keywords}
        return {key: fingerprint(entry) for key, entry in keywords.items()}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: fingerprint(getattr(value, field.name)) for field in fields(value)}
        return {"type": type(value).__qualname__, **parts}
    if isinstance(value, Mapping):
        return {str(key): fingerprint(entry) for key, entry in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((fingerprint(entry) for entry in value), key=json.dumps)
    if isinstance(value, list | tuple):
        return [fingerprint(entry) for entry in value]
    if isinstance(value, torch.Tensor) and value.layout is torch.strided:
        value = value.detach().cpu().contiguous()
        content = hashlib.sha256(value.reshape(-1).view(torch.uint8).numpy()).hexdigest()
        return f"{value.dtype} {list(value.shape)} {content[:16]}"
    if isinstance(value, np.ndarray) and value.dtype != object:
        content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"{value.dtype} {list(value.shape)} {content[:16]}"
    if name := getattr(value, "__qualname__", None):
        return name
    return type(value).__qualname__ if " at 0x" in (text := repr(value)) else text
