"""What a method keeps from step to step, and how a checkpoint takes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pyfront._utils.arguments import FloatArray
from pyfront.optimizer.shared import Memory, Shared

__all__ = ["HasMemory"]


class Drafting:
    """A time in which a method works on a draft of its memory, for the tasks present."""

    __slots__ = ("before", "draft", "presence", "shared")

    def __init__(self, shared: Shared, draft: Memory, presence: Any) -> None:
        self.shared, self.draft, self.presence = shared, draft, presence

    def __enter__(self) -> None:
        self.before, self.shared.memory = self.shared.memory, self.draft
        self.shared.presence = self.presence

    def __exit__(self, *error: object) -> None:
        self.shared.memory, self.shared.presence = self.before, None


class HasMemory(torch.optim.Optimizer):
    """An optimizer with a memory that is saved with its state, in ``_shared`` with its copies.

    Example:
        >>> import pyfront
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> isinstance(pyfront.MGDA(torch.optim.SGD([x], lr=0.1)), HasMemory)
        True
    """

    _shared: Shared

    @property
    def memory(self) -> Memory:
        """The method's own state, saved and restored with the base's.

        Values are what JSON knows. They are replaced and never changed in place, so that a shallow
        copy is a snapshot.
        """
        return self._shared.memory

    @memory.setter
    def memory(self, value: Memory) -> None:
        self._shared.memory = value

    def drafting(self, draft: Memory, presence: Any) -> Drafting:
        """Let the method work on ``draft``, for the tasks present; all is as before afterwards."""
        return Drafting(self._shared, draft, presence)

    def recalled(self, name: str, default: FloatArray) -> FloatArray:
        """Return what the memory holds under ``name`` if it is as long as ``default``.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.MGDA(torch.optim.SGD([x], lr=0.1))
            >>> opt.recalled("mean", np.zeros(2)).tolist()  # nothing yet: the default
            [0.0, 0.0]
            >>> opt.memory["mean"] = [1.0, 2.0]
            >>> opt.recalled("mean", np.zeros(2)).tolist()
            [1.0, 2.0]
        """
        kept = self.memory.get(name)
        return default if kept is None or len(kept) != default.size else np.array(kept)

    def learn(self, **entries: Any) -> None:
        """Set entries of the memory when the step is taken, and not before.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.MGDA(torch.optim.SGD([x], lr=0.1))
            >>> report = opt.backward([x[0] ** 2, x[1] ** 2])
            >>> opt.learn(level=3.0)  # within decide()
            >>> opt.memory.get("level")
            >>> opt.step()
            >>> opt.memory["level"]
            3.0
        """
        self.memory["learned"] = entries

    def settled(self) -> Memory:
        """Return a copy of the memory without what waits for the step."""
        return {name: value for name, value in self.memory.items() if name != "learned"}

    def take_learned(self) -> None:
        """Set what :meth:`learn` was given last: the step has been taken."""
        self.memory.update(self.memory.pop("learned", {}))

    def memory_to_save(self) -> Memory:
        """Return what a checkpoint keeps of the memory.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.MGDA(torch.optim.SGD([x], lr=0.1))
            >>> opt.memory_to_save()
            {'method': 'MGDA'}
        """
        return self.memory

    def memory_loaded(self, memory: Memory) -> None:
        """Take over the memory of a checkpoint, which :meth:`check_memory` has passed.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.MGDA(torch.optim.SGD([x], lr=0.1))
            >>> opt.memory_loaded({"method": "MGDA", "mean": [1.0]})
            >>> opt.memory["mean"]
            [1.0]
        """
        self.memory = memory

    def check_memory(self, memory: Memory) -> None:
        """Raise a ``ValueError`` where the state of a checkpoint does not fit; any does here.

        Args:
            memory: of a checkpoint.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.LinearScalarization(torch.optim.SGD([x], lr=0.1), [0.75, 0.25])
            >>> opt.check_memory({"method": "LinearScalarization", "preference": [1.0]})
            Traceback (most recent call last):
                ...
            ValueError: state_dict: its preference has 1 entries, expected 2
        """
