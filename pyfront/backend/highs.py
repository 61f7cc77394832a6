"""Where the HiGHS solver that comes with `highspy` lies on disk."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path

__all__ = ["highs_library_path"]

_INSTALL = 'install it with: pip install "highspy>=1.15,<2"'


@cache
def highs_library_path() -> str:
    """Return the path of the HiGHS shared library inside the installed `highspy` package.

    `highspy` is looked up but not imported, and the library is not opened: its version is checked
    where it is (`_core.LinearProgram`, `_core.EpoSolver`). Older versions of `highspy` (< 1.15)
    link HiGHS statically and hold no such file.

    Returns:
        The absolute path of `libhighs.so.1` (`libhighs.1.dylib` on macOS).

    Raises:
        ImportError: `highspy` is not installed, or holds no shared library.

    Example:
        >>> from pyfront.backend.highs import highs_library_path
        >>> "libhighs" in highs_library_path()
        True

    Source: the HiGHS C API, https://highs.dev.
    """
    spec = importlib.util.find_spec("highspy")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"highspy is not installed; {_INSTALL}")
    name = "libhighs.1.dylib" if sys.platform == "darwin" else "libhighs.so.1"
    for folder in spec.submodule_search_locations:
        library = Path(folder) / name
        if library.is_file():
            return str(library.absolute())
    raise ImportError(
        f"highspy in {list(spec.submodule_search_locations)} has no {name}: older than 1.15, or "
        f"built without the shared library; {_INSTALL}"
    )
