"""What a step of each method costs on a model."""

from __future__ import annotations

from typing import NamedTuple

from pyfront import methods
from pyfront.optimizer.method import Needs

__all__ = ["StepCost", "step_costs"]


class StepCost(NamedTuple):
    """The cost of a step of some methods.

    Attributes:
        methods: their names.
        needs: what they decide on: ``"losses"``, ``"gramian"`` or ``"products"``.
        passes: backward passes per step. For products it is one pass and one product C w, which
            takes as long as about one to two further ones.
        gradient_bytes: task gradients that are held at a time, beside the ``.grad`` that every
            optimizer has.
    """

    methods: tuple[str, ...]
    needs: Needs
    passes: int
    gradient_bytes: int


def step_costs(tasks: int, row_bytes: float) -> tuple[StepCost, ...]:
    """Return the costs of all methods, cheapest first.

    Args:
        tasks: m.
        row_bytes: the memory of the m task gradients together.
    """
    held = {"losses": 0, "products": round(row_bytes / tasks), "gramian": round(row_bytes)}
    passes = {"losses": 1, "products": 1, "gramian": tasks}
    kinds: dict[Needs, list[str]] = {"losses": [], "products": [], "gramian": []}
    for name in methods.__all__:
        kinds[getattr(methods, name).needs].append(name)
    return tuple(
        StepCost(tuple(names), needs, passes[needs], held[needs]) for needs, names in kinds.items()
    )
