"""What this build can compute on."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Availability", "cuda_available"]


@dataclass(frozen=True)
class Availability:
    """True or False, with the reason.

    Args:
        available: what ``bool()`` of it gives.
        reason: one sentence; empty where available.
    """

    available: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.available


def cuda_available() -> Availability:
    """Whether task gradients on a CUDA device are accepted.

    Returns:
        An object that is true or false and says why: ``cuda_available().reason``.

    Example:
        >>> bool(cuda_available())
        False
    """
    return Availability(False, "this version of pyfront computes on the CPU alone")
