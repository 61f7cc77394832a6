"""What one training run of a sweep is: its name, its seed, and its place on the disk."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from pyfront._utils.arguments import require, vector
from pyfront.front.front import Front, Solution

__all__ = ["Run", "RunFolder", "as_runs", "digest", "run_seed"]

#: A preference, or nested tuples of numbers, strings and None that name a run.
Run: TypeAlias = tuple[Any, ...]

_FORMAT, _VERSION = "pyfront.sweep", 1
_NUMBERS = (int, float, np.integer, np.floating)


def as_runs(preferences: Iterable[Any]) -> list[Run]:
    """Checks what a sweep is asked for, and makes tuples of it.

    Args:
        preferences: preferences [m], all with the same m and entries ≥ 0, or tuples of numbers,
            strings, None and further tuples.

    Returns:
        One tuple a run; a preference is a tuple of floats.

    Raises:
        TypeError: an entry that is none of these.
        ValueError: no preference, a negative or infinite entry, another length, or the same twice.

    Example:
        >>> as_runs([torch.tensor([0.5, 0.5]), ("EPO", [0.7, 0.3])])
        [(0.5, 0.5), ('EPO', (0.7, 0.3))]
    """
    runs: list[Run] = []
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
    """Nested tuples of Python's own numbers, strings and None."""
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


def digest(run: Run, *context: Any) -> bytes:
    """32 bytes that depend on `run` and `context` alone: not on the process, nor on other runs."""
    return hashlib.sha256(json.dumps([run, *context]).encode()).digest()


def run_seed(run: Run, seed: int) -> int:
    """The seed of one run, 0 ≤ … < 2⁶³, from what it is and from the seed of the sweep.

    Example:
        >>> run_seed((0.5, 0.5), 0) == run_seed((0.5, 0.5), 0) != run_seed((0.5, 0.5), 1)
        True
    """
    return int.from_bytes(digest(run, seed)[:8], "big") >> 1


class RunFolder:
    """The finished runs of one sweep on the disk: one file a run, each written in one step.

    `sweep.json` holds what defines the sweep: its seed, and the name and arguments of `train`.

    Args:
        path: the folder; made if it is not there.
        train: the training function, or a `functools.partial` of it.
        seed: the seed of the sweep.

    Raises:
        ValueError: the folder holds another sweep; the message says what differs.
        OSError: the folder cannot be written.
    """

    def __init__(self, path: str | PathLike[str], train: Any, seed: int) -> None:
        """See the class."""
        self._path = Path(path)
        self._path.mkdir(parents=True, exist_ok=True)
        now = {"format": _FORMAT, "version": _VERSION, "seed": seed, "train": describe(train)}
        file = self._path / "sweep.json"
        if file.exists():
            self._compare(file, now)
        else:
            part = file.with_name(f".sweep.json.{os.getpid()}.part")
            try:
                part.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
                part.replace(file)
            finally:
                part.unlink(missing_ok=True)

    def load(self, run: Run) -> Solution | None:
        """The solution of a run that has finished, or None.

        Raises:
            ValueError: the file of the run is damaged; it is named.
        """
        try:
            front = Front.load(self._file(run))
        except FileNotFoundError:
            return None
        if len(front) != 1:
            raise ValueError(f"{self._file(run)}: holds {len(front)} solutions, expected one")
        solution: Solution = front[0]
        return solution

    def save(self, run: Run, solution: Solution) -> None:
        """Keep the solution of a run."""
        Front([solution]).save(self._file(run))

    def _file(self, run: Run) -> Path:
        return self._path / f"{digest(run).hex()[:20]}.json"

    def _compare(self, file: Path, now: dict[str, Any]) -> None:
        try:
            then = json.loads(file.read_bytes())
        except ValueError as error:
            raise ValueError(f"{file}: not a JSON file ({error})") from error
        if not isinstance(then, dict) or then.get("format") != _FORMAT:
            raise ValueError(f"{file}: not written by a sweep of pyfront")
        before, after = dict(_leaves(then)), dict(_leaves(now))
        if before == after:
            return
        changes = [
            f"{name} was {before.get(name, 'absent')}, is {after.get(name, 'absent')}"
            for name in before | after
            if before.get(name) != after.get(name)
        ]
        raise ValueError(
            f"folder {self._path}: holds another sweep: {'; '.join(changes)}. "
            "Choose another folder, or delete this one"
        )


def describe(value: Any) -> Any:
    """What of `value` two runs of a program can compare, as JSON.

    Functions by name, a partial by its function and arguments, tensors and arrays by a hash of
    their content; other objects by their text, or by their type where that text is an address.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, functools.partial):
        keywords = {"function": value.func, "arguments": value.args, **value.keywords}
        return {key: describe(entry) for key, entry in keywords.items()}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: describe(getattr(value, field.name)) for field in fields(value)}
        return {"type": type(value).__qualname__, **parts}
    if isinstance(value, Mapping):
        return {str(key): describe(entry) for key, entry in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((describe(entry) for entry in value), key=json.dumps)
    if isinstance(value, list | tuple):
        return [describe(entry) for entry in value]
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


def _leaves(document: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The paths of a JSON document and the text at the end of each."""
    if isinstance(document, dict | list) and document:
        pairs = document.items() if isinstance(document, dict) else enumerate(document)
        for key, value in pairs:
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, json.dumps(document)
