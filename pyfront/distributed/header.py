"""What each process says of itself in the first collective of a step."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from pyfront._utils.arguments import FloatArray

__all__ = ["CAPACITY", "FACTS", "Header", "disagreement", "fingerprint", "hashed"]

# What must be equal on all processes, and what errors call it. Those with a number show it.
FACTS = {
    "tasks": "number of losses",
    "names": "names of the tasks",
    "parameters": "number of parameters",
    "size": "number of parameters' entries",
    "call": "kind of call (backward or accumulate; fixed, features, second, scaler)",
    "method": "method or option",
    "preference": "preference",
    "steps": "number of steps",
    "scale": "gradient scaler's factor",
}
_SHOWN = ("tasks", "parameters", "size", "scale")
CAPACITY = 32  # losses in a header; more travel in a second one
_FIXED = 6 + len(FACTS)  # numbers before the losses


@dataclass
class Header:
    """A process's part of the first collective: 6 + 9 + 2·32 numbers, whatever the losses.

    Attributes:
        rank: the global rank.
        failed: an error was raised before the step could begin.
        facts: by the names of ``FACTS``; equal on all processes.
        marks: Σ θ and Σ |θ| of the parameters, or NaN where they are not compared.
        values: the unscaled losses, then the fixed one, [k].
        shares: the share of the batch behind each of them, [k].
    """

    rank: int
    failed: bool = False
    facts: dict[str, float] = field(default_factory=dict)
    marks: tuple[float, float] = (math.nan, math.nan)
    values: FloatArray = field(default_factory=lambda: np.zeros(0))
    shares: FloatArray = field(default_factory=lambda: np.zeros(0))

    def packed(self) -> FloatArray:
        """Return the header as numbers, of a length that does not depend on the step."""
        message = np.zeros(_FIXED + 2 * CAPACITY)
        message[:5] = self.rank, self.failed, *self.marks, self.values.size
        message[6:_FIXED] = [self.facts.get(name, 0.0) for name in FACTS]
        k = min(self.values.size, CAPACITY)
        message[_FIXED : _FIXED + k] = self.values[:k]
        message[_FIXED + CAPACITY : _FIXED + CAPACITY + k] = self.shares[:k]
        return message

    def rest(self) -> FloatArray:
        """Return what did not fit: values, then shares."""
        return np.concatenate([self.values[CAPACITY:], self.shares[CAPACITY:]])

    @staticmethod
    def unpacked(message: FloatArray) -> Header:
        """Return the header that was packed; losses beyond the capacity are missing."""
        k = min(int(message[4]), CAPACITY)
        return Header(
            rank=int(message[0]),
            failed=bool(message[1]),
            facts=dict(zip(FACTS, message[6:_FIXED].tolist(), strict=True)),
            marks=(float(message[2]), float(message[3])),
            values=message[_FIXED : _FIXED + k],
            shares=message[_FIXED + CAPACITY : _FIXED + CAPACITY + k],
        )


def disagreement(headers: Sequence[Header]) -> str | None:
    """Return what two processes do not agree on, in words that name them; None if nothing."""
    first = headers[0]
    for name, words in FACTS.items():
        for other in headers[1:]:
            a, b = first.facts[name], other.facts[name]
            if a == b:
                continue
            shown = f" ({b:g}, not {a:g})" if name in _SHOWN else ""
            hint = (
                "; the stages of a pipeline, and other models that are cut by layers, are not "
                "supported"
                if name in ("parameters", "size")
                else ""
            )
            return (
                f"rank {other.rank} has another {words} than rank {first.rank}{shown}; processes "
                f"that train one model must give the same{hint}"
            )
    for other in headers[1:]:
        for a, b in zip(first.marks, other.marks, strict=True):
            if abs(a - b) > 1e-9 * max(abs(first.marks[1]), abs(other.marks[1])):
                return (
                    f"rank {other.rank} holds other values of its parameters than rank "
                    f"{first.rank}: wrap the model in DistributedDataParallel, which copies rank "
                    "0's, or initialise all from one seed"
                )
    return None


def fingerprint(params: Sequence[Tensor]) -> tuple[float, float]:
    """Return Σ θ and Σ |θ| in float64, over entries that are numbers.

    The places of a HyperNetwork's generated parameters hold NaN.
    """
    total = magnitude = 0.0
    for p in params:
        wide = p.detach().double()
        total += wide.nansum().item()
        magnitude += wide.abs().nansum().item()
    return total, magnitude


def hashed(*parts: object) -> float:
    """Return a hash of texts, numbers and arrays that a float64 holds exactly."""
    digest = hashlib.blake2b(digest_size=6)
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(repr(part.shape).encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(repr(part).encode())
    return float(int.from_bytes(digest.digest(), "big"))
