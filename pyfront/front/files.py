"""Fronts as JSON files and as tables of pandas."""

import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyfront._utils.extras import require
from pyfront._utils.files import replaced
from pyfront.front.solution import Solution

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["read_json", "read_table", "to_table", "write_json"]

_FORMAT = "pyfront.front"
_VERSION = 1
#: First parts of the names of columns with one number a task, and the fields they come from.
_PER_TASK = {"preference": "preference", "train_loss": "train_losses", "test_loss": "test_losses"}


def write_json(path: str | PathLike[str], solutions: Iterable[Solution]) -> None:
    """Writes what `read_json` reads, all or nothing."""
    document = {
        "format": _FORMAT,
        "version": _VERSION,
        "solutions": [asdict(solution) for solution in solutions],
    }
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    with replaced(path) as part:
        part.write_text(text, encoding="utf-8")


def read_json(path: str | PathLike[str]) -> list[Solution]:
    """The solutions in a file; a ``ValueError`` names the file and the field that is wrong."""
    try:
        document = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(document, dict):
        found = type(document).__name__
        raise ValueError(f"{path}: not a front saved by pyfront (the file holds a {found})")
    if document.get("format") != _FORMAT:
        found = repr(document["format"]) if "format" in document else "missing"
        raise ValueError(f"{path}: not a front saved by pyfront ('format' is {found})")
    version = document.get("version")
    if isinstance(version, bool) or version != _VERSION:
        raise ValueError(f"{path}: version {version!r}, this pyfront reads {_VERSION}")
    entries = document.get("solutions")
    if not isinstance(entries, list):
        raise ValueError(f"{path}: 'solutions' is not a list")
    solutions = []
    for index, entry in enumerate(entries):
        try:
            solutions.append(_solution(entry))
        except ValueError as error:
            raise ValueError(f"{path}: solution {index}: {error}") from error
    return solutions


def _solution(entry: Any) -> Solution:
    if not isinstance(entry, dict):
        raise ValueError(f"expected an object, got {entry!r}")
    names = [item.name for item in fields(Solution)]
    for problem, keys in (
        ("missing", [name for name in names if name not in entry]),
        ("unknown", [name for name in entry if name not in names]),
    ):
        if keys:
            raise ValueError(f"{problem} keys: {', '.join(keys)}")
    return Solution(**entry)


def to_table(solutions: Iterable[Solution]) -> "DataFrame":
    """One row a solution; the columns are what `Front.to_pandas` says."""
    pandas = require("pandas", "pandas")
    rows = []
    for s in solutions:
        row: dict[str, Any] = {"method": s.method, "checkpoint": s.checkpoint}
        for prefix, name in _PER_TASK.items():
            row |= {f"{prefix}/{task}": v for task, v in enumerate(getattr(s, name) or ())}
        rows.append(row | {f"metric/{name}": value for name, value in s.metrics.items()})
    names = dict.fromkeys(name for row in rows for name in row)
    order = ("method", "checkpoint", *(f"{prefix}/" for prefix in _PER_TASK), "metric/")
    columns = [name for start in order for name in names if name.startswith(start)]
    table: DataFrame = pandas.DataFrame(rows, columns=columns or ["method", "checkpoint"])
    return table


def read_table(table: "DataFrame") -> list[Solution]:
    """The solutions in a table such as `to_table` makes; errors name the row and the column."""
    pandas = require("pandas", "pandas")
    if not isinstance(table, pandas.DataFrame):
        raise TypeError(f"table: expected a pandas DataFrame, got {type(table).__name__}")
    for name in table.columns:
        if not _is_column(name):
            raise ValueError(f"table: column {name!r} is not one that to_pandas writes")
    if not table.columns.is_unique:
        name = table.columns[table.columns.duplicated()][0]
        raise ValueError(f"table: column {name!r} is there twice")
    counts = {
        prefix: max((_task(name) + 1 for name in table if name.startswith(f"{prefix}/")), default=0)
        for prefix in _PER_TASK
    }
    solutions = []
    for index, row in enumerate(table.to_dict("records")):
        # pandas marks what is missing by None, NaN or NA
        present = {
            name: value
            for name, value in row.items()
            if not (pandas.api.types.is_scalar(value) and pandas.isna(value))
        }
        try:
            solutions.append(_solution_of_row(present, counts))
        except ValueError as error:
            raise ValueError(f"table: row {index}: {error}") from error
    return solutions


def _is_column(name: Any) -> bool:
    prefix, slash, rest = str(name).partition("/")
    per_task = prefix in _PER_TASK and rest.isascii() and rest.isdigit() and rest == str(int(rest))
    return name in ("method", "checkpoint") or (prefix == "metric" and bool(slash)) or per_task


def _task(column: str) -> int:
    return int(column.partition("/")[2])


def _solution_of_row(row: dict[str, Any], counts: dict[str, int]) -> Solution:
    """`counts`: how many tasks the table has in each group of columns; a row has all or none."""
    per_task: dict[str, Any] = {}
    for prefix, name in _PER_TASK.items():
        if prefix != "train_loss" and not any(column.startswith(f"{prefix}/") for column in row):
            continue
        per_task[name] = []
        for task in range(counts[prefix]):
            if f"{prefix}/{task}" not in row:
                raise ValueError(f"{prefix}/{task} is missing")
            per_task[name].append(row[f"{prefix}/{task}"])
    if "method" not in row:
        raise ValueError("method is missing")
    prefix = "metric/"
    metrics = {k.removeprefix(prefix): v for k, v in row.items() if k.startswith(prefix)}
    return Solution(
        method=row["method"], checkpoint=row.get("checkpoint"), metrics=metrics, **per_task
    )
