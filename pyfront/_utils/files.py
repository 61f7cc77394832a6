"""Files and folders that are written all or nothing."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

__all__ = ["atomic_write", "naming", "new_folder"]


@contextlib.contextmanager
def atomic_write(path: str | PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; the file written there replaces `path` in one step.

    If the block raises, a file of that name stays as it was and the temporary one is removed. The
    temporary name is random, so writers in several processes and machines do not meet: the last
    one wins, and a reader sees one of the files whole.

    Raises:
        OSError: the file cannot be written, for example because the disk is full; names `path`.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        with naming(target, part):
            yield part
            with part.open("rb+") as file:  # on the disk before it has its name
                os.fsync(file.fileno())
            part.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


@contextlib.contextmanager
def naming(path: Path, part: Path | None = None) -> Iterator[None]:
    """Name `path` in an `OSError` that names `part` or, as a write to a full disk, no file."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(part)):
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


@contextlib.contextmanager
def new_folder(path: str | PathLike[str]) -> Iterator[Path]:
    """Make a folder and its parents; if the block raises, remove those of them that are empty.

    Raises:
        OSError: the folder cannot be made.
    """
    target = Path(path)
    missing = [folder for folder in (target, *target.parents) if not folder.exists()]
    target.mkdir(parents=True, exist_ok=True)
    try:
        yield target
    except BaseException:
        with contextlib.suppress(OSError):  # the first that is not empty ends it
            for folder in missing:
                folder.rmdir()
        raise
