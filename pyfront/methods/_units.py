"""Losses in units in which they can be compared: l' = (l − o) / u."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray, VectorLike, require, vector
from pyfront.optimizer.presence import Presence

__all__ = ["Units"]


class Units:
    """An offset o and a unit u > 0 per task, for losses that can be negative or differ in size.

    Args:
        offset: o, [m], or None for zeros.
        unit: u, [m], entries > 0, or None for ones.

    Raises:
        ValueError: an entry that is not finite, or a unit that is not > 0; it is named.

    Example:
        >>> import numpy as np
        >>> Units(offset=[-1.0, 0.0], unit=[2.0, 1.0]).compared(np.array([1.0, 3.0])).tolist()
        [1.0, 3.0]
    """

    def __init__(self, offset: VectorLike | None = None, unit: VectorLike | None = None) -> None:
        self.offset = None if offset is None else vector("offset", offset).copy()
        self.unit = None if unit is None else vector("unit", unit).copy()
        if self.offset is not None:
            require("offset", self.offset)
        if self.unit is not None:
            require("unit", self.unit, above=0.0)

    def compared(self, losses: FloatArray) -> FloatArray:
        """Return l' = (l − o) / u of losses [m], or of each row of [K, m]."""
        count = losses.shape[-1]
        for name, values in (("offset", self.offset), ("unit", self.unit)):
            if values is not None and values.size != count:
                raise ValueError(f"{name}: expected {count} values, got {values.size}")
        shifted = losses if self.offset is None else losses - self.offset
        return shifted if self.unit is None else shifted / self.unit

    def of_losses(self, weights: FloatArray) -> Tensor:
        """Return the weights w' of l' as weights of l: w' / u."""
        return torch.from_numpy(weights if self.unit is None else weights / self.unit)

    def among(self, present: Presence | None) -> Units:
        """Return those of the tasks present."""
        if present is None or present.complete or (self.offset is None and self.unit is None):
            return self
        for name, values in (("offset", self.offset), ("unit", self.unit)):
            if values is not None and values.size != present.tasks:
                raise ValueError(f"{name}: expected {present.tasks} values, got {values.size}")
        of_present = (None if v is None else v[present.places] for v in (self.offset, self.unit))
        return Units(*of_present)

    def check(self, losses: FloatArray, who: str, present: Presence | None = None) -> None:
        """Raise a ``ValueError`` that names the first loss that is not finite or has l' < 0."""
        hint = f"; {who} compares ratios of losses: give offset= for losses that can be negative"
        places = None if present is None else present.places
        units = self.among(present)
        compared = units.compared(losses)
        values = compared.ravel().tolist()
        if all(map(math.isfinite, values)) and min(values, default=0.0) >= 0.0:
            return
        require("losses", losses.ravel(), places=places)
        if units.offset is not None and (below := np.flatnonzero(compared < 0.0)).size:
            index = int(below[0])
            task = index % units.offset.size
            place, offset = index if places is None else places[index], units.offset[task]
            raise ValueError(
                f"losses[{place}] = {losses.ravel()[index]:g}: must be ≥ its offset {offset:g}; "
                f"{who} compares ratios of what is above the offset, so give one that the loss "
                "cannot go below"
            )
        require("losses", compared.ravel(), lowest=0.0, hint=hint, places=places)

    def gramian(self, gramian: FloatArray) -> FloatArray:
        """Return C' = C_ij / (u_i u_j)."""
        return gramian if self.unit is None else gramian / np.outer(self.unit, self.unit)
