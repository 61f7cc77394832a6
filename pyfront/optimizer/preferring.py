"""An optimizer that may have a preference, saved and restored with its state."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray, VectorLike, VectorsLike
from pyfront.optimizer.delegating import DelegatingOptimizer, Memory
from pyfront.preferences import as_preference

__all__ = ["PreferringOptimizer", "require_one_each"]


def require_one_each(entries: int, losses: int) -> None:
    """Raises unless the preference of one call has as many entries as there are losses."""
    if entries != losses:
        raise ValueError(
            f"preference: has {entries} entries for {losses} losses, expected one for each"
        )


class PreferringOptimizer(DelegatingOptimizer):
    """Holds r, [m], if its class takes one: ``preference_domain`` says which entries are legal.

    Args:
        base: any optimizer but LBFGS.
        preference: r, or None for classes without one.

    Raises:
        TypeError, ValueError: a preference that the class does not take.
    """

    preference_domain: ClassVar[Literal["none", "nonnegative", "positive"]] = "none"

    def __init__(self, base: torch.optim.Optimizer, preference: VectorLike | None = None) -> None:
        wanted = self.preference_domain != "none" or preference is not None
        r = self._checked_preference(preference) if wanted else None  # type: ignore[arg-type]
        super().__init__(base)
        if r is not None:
            self.memory["preference"] = r.tolist()

    def check_memory(self, memory: Memory) -> None:
        """A preference of a checkpoint must be as long as ours."""
        super().check_memory(memory)
        ours, saved = self.memory.get("preference"), memory.get("preference")
        if ours is not None and saved is not None and len(saved) != len(ours):
            raise ValueError(
                f"state_dict: its preference has {len(saved)} entries, expected {len(ours)}"
            )

    def fresh(self) -> Memory:
        """Our memory as it is before the first step: what a call with its own preference sees."""
        kept = ("method", "preference")
        return {name: self.memory[name] for name in kept if name in self.memory}

    @property
    def preference(self) -> Tensor | None:
        """r, [m] float64 as it was given, or None; a copy. Settable between steps."""
        r = self.memory.get("preference")
        return None if r is None else torch.tensor(r, dtype=torch.float64, device="cpu")

    @preference.setter
    def preference(self, value: VectorLike) -> None:
        current = self.preference
        r = self._checked_preference(value, None if current is None else current.numel())
        self.memory.update(preference=r.tolist(), age=0)  # decide anew at the next step

    def _checked_preference(self, value: VectorsLike, length: int | None = None) -> FloatArray:
        if self.preference_domain == "none":
            raise TypeError(f"preference: {type(self).__name__} takes none")
        return as_preference(
            value, positive=self.preference_domain == "positive", length=length
        ).copy()

    def _preference_for(self, preference: VectorsLike | None, tasks: int) -> FloatArray | None:
        own = self.memory.get("preference")
        if preference is not None:
            r = self._checked_preference(preference)
            require_one_each(r.size, tasks)
        elif own is not None:
            r = np.array(own)
        else:
            return None
        if r.size != tasks:
            raise ValueError(f"losses: expected {r.size}, one per entry of preference, got {tasks}")
        return r
