"""Locks on the runs of a folder that several processes and machines share."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

from pyfront._utils.files import atomic_write, naming

__all__ = ["FolderLocks", "LockedError"]

_REFRESH = 5.0  # seconds between two signs of life of an owner
_DEAD_AFTER = 60.0  # seconds without one after which its locks are taken over


class LockedError(RuntimeError):
    """Another process that is alive holds a lock."""


class FolderLocks:
    """The locks that this process holds on files of one folder.

    A lock is a file beside the one that it protects. It names its owner: a random token, host,
    process and time. While the owner lives it touches a file of its own every few seconds. A lock
    is taken over when its owner was a process of this machine that has ended, or when it has not
    touched its file for a minute of our own clock. An owner that lost a lock in this way (it may
    have been suspended) finds out by `holds`.

    Args:
        folder: must exist.
    """

    def __init__(self, folder: Path) -> None:
        """See the class."""
        self._token = secrets.token_hex(8)
        self._folder = folder
        self._held: set[Path] = set()
        self._dead: set[str] = set()  # tokens of owners that were found dead
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True)

    def __enter__(self) -> FolderLocks:
        """Begin to show signs of life."""
        self._pulse(self._token).touch()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release all locks."""
        self._closed.set()
        self._thread.join()
        for path in list(self._held):
            self.release(path)
        for token in (self._token, *self._dead):
            self._pulse(token).unlink(missing_ok=True)

    def acquire(self, path: Path) -> None:
        """Lock `path`; waits up to a minute to find out whether another owner is alive.

        Raises:
            LockedError: another process holds the lock; the message says which, and since when.
            OSError: the folder cannot be written.
        """
        lock = _lock_of(path)
        while True:
            if self._create(lock):
                break
            owner = _read(lock)
            if owner is None:
                continue  # released in the meantime
            if self._is_dead(lock, owner):
                with atomic_write(lock) as part:
                    part.write_text(json.dumps(self._owner()), encoding="utf-8")
                break
        self._held.add(path)

    def holds(self, path: Path) -> bool:
        """Tell whether the lock on `path` is still ours."""
        owner = _read(_lock_of(path)) if path in self._held else None
        return owner is not None and owner.get("token") == self._token

    def release(self, path: Path) -> None:
        """Release a lock; no other process's lock is touched."""
        if self.holds(path):
            _lock_of(path).unlink(missing_ok=True)
        self._held.discard(path)

    def _create(self, lock: Path) -> bool:
        """Write a new lock; False if there is one."""
        try:
            file = lock.open("x", encoding="utf-8")
        except FileExistsError:
            return False
        try:
            with naming(lock), file:
                json.dump(self._owner(), file)
        except OSError:
            lock.unlink(missing_ok=True)
            raise
        return True

    def _owner(self) -> dict[str, Any]:
        return {
            "token": self._token,
            "machine": _machine(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": time.time(),
        }

    def _pulse(self, token: str) -> Path:
        """Return the file that the owner of this token touches."""
        return self._folder / f".owner-{token}"

    def _refresh(self) -> None:
        # signals are for the main thread, which holds some of them back at times
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not self._closed.wait(_REFRESH):
            with contextlib.suppress(OSError):
                self._pulse(self._token).touch()

    def _is_dead(self, lock: Path, owner: dict[str, Any]) -> bool:
        """Tell whether the owner has died; False: the lock has changed, look again.

        Raises:
            LockedError: it is alive.
        """
        token = re.sub(r"\W", "", str(owner.get("token")))  # a part of a file name
        if owner.get("machine") == _machine() and _ended(owner.get("pid")):
            self._dead.add(token)
        if token in self._dead:
            return True
        first, end = self._sign(lock, token), time.monotonic() + _DEAD_AFTER
        while time.monotonic() < end:
            time.sleep(_REFRESH / 50)
            now = _read(lock)
            if now != owner:
                return False
            if self._sign(lock, token) != first:
                raise LockedError(_owner_text(lock, owner))
        self._dead.add(token)
        return True

    def _sign(self, lock: Path, token: str) -> int | None:
        for path in (self._pulse(token), lock):
            # opened, since network file systems keep times of files that are not
            with contextlib.suppress(OSError), path.open("rb") as file:
                return os.fstat(file.fileno()).st_mtime_ns
        return None


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")


def _read(lock: Path) -> dict[str, Any] | None:
    """Return the owner of a lock, {} for a file that is not written yet, None for no file."""
    try:
        owner = json.loads(lock.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _machine() -> str:
    """Name the scope of a process number: a host since its start, and a container on it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode():x}"


def _ended(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it runs under another user
        return False
    return False


def _owner_text(lock: Path, owner: dict[str, Any]) -> str:
    since = owner.get("since")
    begin, age = "an unknown time", ""
    if isinstance(since, int | float):
        begin = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
        age = f", {max(0.0, time.time() - since) / 60.0:.0f} minutes ago"
    return (
        f"is being trained by process {owner.get('pid')} on {owner.get('host')} since {begin}{age} "
        f"({lock})"
    )
