"""The command line, `pyfront` or `python -m pyfront`: every command adds itself to one parser."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeAlias

__all__ = ["Commands", "main", "run", "whole_number"]

#: Modules with a command: `add_command(commands)` adds a parser whose defaults are `run`, called
#: with the arguments, and `error`, which ends with one line and status 2.
_MODULES = ("pyfront.cli.demo", "pyfront.cli.show")


class _Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Return a parser of arguments that are whole numbers from `least` to `most`."""

    def parse(text: str) -> int:
        with contextlib.suppress(ValueError):
            if least <= (value := int(text)) <= most:
                return value
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, {least} to {most}")

    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0, or a `SystemExit` with status 2 for bad input."""
    import pyfront

    description = (pyfront.__doc__ or "").splitlines()[0]
    parser = _Parser(prog="pyfront", description=description)
    parser.add_argument("--version", action="version", version=f"pyfront {pyfront.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for module in _MODULES:
        importlib.import_module(module).add_command(commands)
    args = parser.parse_args(argv)
    args.run(args)
    return 0


def run() -> NoReturn:
    """Be the program: `main` on the process's arguments, and status 130 for Ctrl-C."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        # not sys.exit: where the interrupt has passed through an exec(), as inside an import, the
        # interpreter overrides the status and ends by the signal
        os._exit(130)
