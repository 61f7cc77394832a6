"""The folder of a sweep: finished runs, and locks on those that are being trained."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from pyfront._utils.files import atomic_write
from pyfront.front.front import Front, Solution
from pyfront.sweeps.locks import FolderLocks, LockedError
from pyfront.sweeps.runs import RunKey, digest, fingerprint

__all__ = ["RunFolder"]

_FORMAT, _VERSION = "pyfront.sweep", 1
_log = logging.getLogger(__name__)


class RunFolder:
    """The finished runs of one sweep on the disk: one file per run, written all or nothing.

    `sweep.json` holds what defines the sweep: its seed, and the name and arguments of `train`.

    Args:
        path: the folder; made if it does not exist.
        train: the training function, or a `functools.partial` of it.
        seed: the seed of the sweep.

    Raises:
        ValueError: the folder holds another sweep; the message says what differs.
        OSError: the folder cannot be written.
    """

    def __init__(self, path: str | PathLike[str], train: Any, seed: int) -> None:
        """See the class."""
        self._path = Path(path).absolute()  # `train` may change the working directory
        self._locks: FolderLocks | None = None
        self._path.mkdir(parents=True, exist_ok=True)
        now = {"format": _FORMAT, "version": _VERSION, "seed": seed, "train": fingerprint(train)}
        file = self._path / "sweep.json"
        if file.exists():
            self._compare(file, now)
        else:
            with atomic_write(file) as part:
                part.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")

    def load(self, run: RunKey) -> Solution | None:
        """Return the solution of a run that has finished, or None.

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

    @contextmanager
    def locked(self, runs: Sequence[RunKey]) -> Iterator[None]:
        """Lock runs against every other process, here and on other machines.

        Raises:
            LockedError: another process is training one of them; nothing is locked then.
        """
        with FolderLocks(self._path) as self._locks:
            for run in runs:
                try:
                    self._locks.acquire(self._file(run))
                except LockedError as error:
                    raise LockedError(
                        f"folder {self._path}: the run of {run} {error}. Wait for it, give other "
                        "preferences, or another folder"
                    ) from None
            yield

    def save(self, run: RunKey, solution: Solution) -> None:
        """Keep the solution of a run that is locked, and release the lock.

        Raises:
            OSError: the file cannot be written; it is named.
        """
        file, locks = self._file(run), self._locks
        assert locks is not None
        if locks.holds(file):
            Front([solution]).save(file)
        else:  # this process was taken for dead
            _log.warning("the run of %s is not kept: another process has taken it over", run)
        locks.release(file)

    def _file(self, run: RunKey) -> Path:
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


def _leaves(document: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the paths of a JSON document and the value at each, as text."""
    if isinstance(document, dict | list) and document:
        pairs = document.items() if isinstance(document, dict) else enumerate(document)
        for key, value in pairs:
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, json.dumps(document)
