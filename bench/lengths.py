"""How long is measured: in short, as `make bench` does, or with BENCH_FULL=1 in the environment."""

import os

__all__ = ["length"]

FULL = os.environ.get("BENCH_FULL", "0") != "0"


def length(short, full):
    """Return the first, or the second with which the tables of README.md were made."""
    return full if FULL else short
