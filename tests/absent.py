"""Makes an installed package look as if it were not."""

import sys


class _Finder:
    def __init__(self, package):
        self._package = package

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self._package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=self._package)


def hide(monkeypatch, package):
    """Importing `package`, or a module of it, fails until the end of the test."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Finder(package), *sys.meta_path])
