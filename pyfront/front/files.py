"""Fronts as JSON files and as pandas tables."""

import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyfront._utils.extras import import_extra
from pyfront._utils.files import atomic_write
from pyfront.front.solution import Solution

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["read_json", "read_table", "to_table", "write_json"]

_FORMAT = "pyfront.front"
_VERSION = 2
#: Prefixes of the columns with one number per task, and the fields they come from.
_PER_TASK = {"preference": "preference", "train_loss": "train_losses", "test_loss": "test_losses"}


def write_json(path: str | PathLike[str], solutions: Iterable[Solution]) -> None:
    """Write a file for `read_json`, all or nothing."""
    document = {
        "format": _FORMAT,
        "version": _VERSION,
        "solutions": [asdict(solution) for solution in solutions],
    }
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def read_json(path: str | PathLike[str]) -> list[Solution]:
    """Read the solutions in a file; a ``ValueError`` names the file and the wrong field."""
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
    """Make one row per solution, with the columns that `Front.to_pandas` describes."""
    pandas = import_extra("pandas", "pandas")
    rows = []
    for s in solutions:
        row: dict[str, Any] = {"method": s.method, "checkpoint": s.checkpoint}
        for prefix, name in _PER_TASK.items():
            tasks = s.tasks or range(s.num_tasks)
            values = getattr(s, name)
            if values is not None:
                row |= {f"{prefix}/{task}": v for task, v in zip(tasks, values, strict=True)}
        rows.append(row | {f"metric/{name}": value for name, value in s.metrics.items()})
    names = dict.fromkeys(name for row in rows for name in row)
    order = ("method", "checkpoint", *(f"{prefix}/" for prefix in _PER_TASK), "metric/")
    columns = [name for start in order for name in names if name.startswith(start)]
    table: DataFrame = pandas.DataFrame(rows, columns=columns or ["method", "checkpoint"])
    return table


def read_table(table: "DataFrame") -> list[Solution]:
    """Read the solutions in such a table; errors name the row and the column."""
    pandas = import_extra("pandas", "pandas")
    if not isinstance(table, pandas.DataFrame):
        raise TypeError(f"table: expected a pandas DataFrame, got {type(table).__name__}")
    for name in table.columns:
        prefix, slash, rest = str(name).partition("/")
        if name not in ("method", "checkpoint") and not (
            (rest and prefix in _PER_TASK) or (slash and prefix == "metric")
        ):
            raise ValueError(f"table: column {name!r} is not one that to_pandas writes")
    if not table.columns.is_unique:
        name = table.columns[table.columns.duplicated()][0]
        raise ValueError(f"table: column {name!r} is there twice")
    tasks = _tasks_of_columns(table.columns)
    solutions = []
    for index, row in enumerate(table.to_dict("records")):
        # pandas marks what is missing by None, NaN or NA
        present = {
            name: value
            for name, value in row.items()
            if not (pandas.api.types.is_scalar(value) and pandas.isna(value))
        }
        try:
            solutions.append(_solution_of_row(present, tasks))
        except ValueError as error:
            raise ValueError(f"table: row {index}: {error}") from error
    return solutions


def _tasks_of_columns(columns: Iterable[Any]) -> dict[str, list[str]]:
    """Return the tasks that each prefix has columns for: "0", "1", …, or names in one order."""
    found = {
        prefix: [name.partition("/")[2] for name in columns if str(name).startswith(f"{prefix}/")]
        for prefix in _PER_TASK
    }
    numbers = [task for tasks in found.values() for task in tasks if task.isdecimal()]
    names = dict.fromkeys(
        task
        for prefix in ("train_loss", *_PER_TASK)
        for task in found[prefix]
        if not task.isdecimal()
    )
    if not numbers:
        return {prefix: [*names] if tasks else [] for prefix, tasks in found.items()}
    for task in names:
        raise ValueError(f"table: has columns of task {task!r} and of task {numbers[0]!r}")
    for task in numbers:
        if task != str(int(task)):
            raise ValueError(f"table: task {task!r} of a column is not one that to_pandas writes")
    counts = {prefix: max(map(int, tasks), default=-1) + 1 for prefix, tasks in found.items()}
    return {prefix: list(map(str, range(count))) for prefix, count in counts.items()}


def _solution_of_row(row: dict[str, Any], tasks: dict[str, list[str]]) -> Solution:
    """Make a solution of a row, which has numbers for all tasks of a prefix or for none."""
    per_task: dict[str, Any] = {}
    for prefix, name in _PER_TASK.items():
        if prefix != "train_loss" and not any(column.startswith(f"{prefix}/") for column in row):
            continue
        for task in tasks[prefix]:
            if f"{prefix}/{task}" not in row:
                raise ValueError(f"{prefix}/{task} is missing")
        per_task[name] = [row[f"{prefix}/{task}"] for task in tasks[prefix]]
    if "method" not in row:
        raise ValueError("method is missing")
    if tasks["train_loss"] and not tasks["train_loss"][0].isdecimal():
        per_task["tasks"] = tasks["train_loss"]
    prefix = "metric/"
    metrics = {k.removeprefix(prefix): v for k, v in row.items() if k.startswith(prefix)}
    return Solution(
        method=row["method"], checkpoint=row.get("checkpoint"), metrics=metrics, **per_task
    )
