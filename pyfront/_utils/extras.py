"""Optional dependencies, imported where they are used."""

import importlib
from types import ModuleType

__all__ = ["DISTRIBUTION", "import_extra"]

DISTRIBUTION = "pyfront"  # what pip installs: `name` of pyproject.toml, which a test compares


def import_extra(module: str, extra: str) -> ModuleType:
    """Import an optional package, or say which extra of pyfront installs it.

    Args:
        module: dotted name, e.g. `"matplotlib.figure"`.
        extra: the extra of pyfront that installs it, e.g. `"plots"`.

    Returns:
        The imported module.

    Raises:
        ImportError: the package is not installed; the message is the command that installs it.
            A package that is there but broken raises its own error.

    Example:
        >>> import_extra("json", "demo").dumps([1])
        '[1]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name != package:
            raise
        message = f'{package} is not installed: pip install "{DISTRIBUTION}[{extra}]"'
        raise ImportError(message, name=package) from error
