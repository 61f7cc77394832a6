"""Files that are written all or nothing."""

import contextlib
import os
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

__all__ = ["replaced"]


@contextlib.contextmanager
def replaced(path: str | PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path beside `path`; what is written there replaces `path` in one step.

    If the block raises, the file of that name stays as it was and the temporary one is removed.

    Raises:
        OSError: the place cannot be written.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
