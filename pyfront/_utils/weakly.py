"""Tensors that are remembered without being kept alive."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Sequence
from typing import Any

from torch import Tensor

__all__ = ["Weakly"]


class Weakly:
    """Knows again the tensors that it was given; a copy or a pickle of it knows none.

    Args:
        tensors: in their order.

    Example:
        >>> import torch
        >>> a, b = torch.ones(2), torch.ones(2)
        >>> known = Weakly([a, b])
        >>> known.are([a, b]), known.are([b, a]), known.are([a])
        (True, False, False)
    """

    def __init__(self, tensors: Sequence[Tensor] = ()) -> None:
        self._references = [weakref.ref(t) for t in tensors]

    def are(self, tensors: Sequence[Tensor]) -> bool:
        """Return whether these are the same objects in the same order."""
        known = [reference() for reference in self._references]
        return len(known) == len(tensors) and all(map(operator.is_, known, tensors))

    def __reduce__(self) -> tuple[Any, ...]:
        return Weakly, ()
