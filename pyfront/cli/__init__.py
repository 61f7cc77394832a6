"""The command line."""

from pyfront.cli.main import main

__all__ = ["main"]
