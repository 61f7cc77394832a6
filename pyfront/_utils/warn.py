"""Warnings that point at the line of the user's that they are about."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn_caller"]

OURS = ("pyfront.", "torch.")  # whose frames a warning does not point at


def warn_caller(message: str) -> None:
    """Give a ``UserWarning`` at the first line outside of this package and of torch."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(OURS):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
