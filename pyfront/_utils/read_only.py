"""A tensor that refuses to be written to, because what it shows is kept elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyfront._utils.torch_private import without_subclass_functions

__all__ = ["ReadOnlyTensor", "read_only"]


class ReadOnlyTensor(Tensor):
    """A tensor whose writes raise a ``TypeError``; what is computed from it is a plain tensor.

    Views of it and its numpy array are read-only too. Copies and pickles are plain tensors.
    """

    advice: str

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call ``function`` unless it writes to a tensor of this class."""
        given = kwargs or {}
        for target in (args[0] if args else None, given.get("out")):
            if isinstance(target, cls) and (target is given.get("out") or _writes(function)):
                raise TypeError(target.advice)
        with without_subclass_functions():
            result = function(*args, **given)
        source = args[0] if args else None
        if not isinstance(source, cls):
            return result
        if isinstance(result, np.ndarray):
            result.setflags(write=False)
        elif isinstance(result, Tensor) and _same_memory(result, source):
            return read_only(result, source.advice)
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return self.clone()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.clone().__reduce_ex__(protocol)  # type: ignore[no-untyped-call]

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return repr(self.clone())

    def __format__(self, spec: str) -> str:
        return format(self.clone(), spec)


def read_only(tensor: Tensor, advice: str) -> ReadOnlyTensor:
    """Return a read-only view of ``tensor``; a write raises a ``TypeError`` with ``advice``."""
    view = tensor.as_subclass(ReadOnlyTensor)
    view.advice = advice
    return view


def _writes(function: Any) -> bool:
    """Whether the name says so: ``add_``, ``__setitem__``, or the setter of an attribute."""
    name = getattr(function, "__name__", "")
    return name in ("__set__", "__setitem__") or (name.endswith("_") and name[-2] != "_")


def _same_memory(a: Tensor, b: Tensor) -> bool:
    with without_subclass_functions():
        if type(a) is not Tensor or a.layout is not torch.strided or a.device != b.device:
            return False
        return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
