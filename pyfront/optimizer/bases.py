"""What can be known of a base optimizer before its first step."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from pyfront.optimizer.optimizer_list import OptimizerList

__all__ = [
    "Base",
    "has_two_phases",
    "name_of",
    "needs_closure",
    "refuse_direction",
    "refuse_layouts",
    "refuse_two_phases",
]

# Layouts of a gradient, and what to do where an optimizer does not take it.
SPARSE = (
    "sparse",
    "give the table to SparseAdam, in a list of optimizers, or make it with sparse=False",
)
DENSE = (
    "dense",
    "it is where one task's gradient is; give the parameter to another optimizer, in a list",
)

Base: TypeAlias = torch.optim.Optimizer | Sequence[torch.optim.Optimizer]

# Of optimizers that take a closure as an option by their signature, and raise without one.
CLOSURE_NAMES = ("AliG", "LBFGS")

# Of torch's own optimizers, whose steps raise in the middle of a model.
DENSE_ALONE = (
    *("Adadelta", "Adafactor", "Adam", "AdamW", "Adamax", "ASGD", "Muon", "NAdam", "RAdam"),
    *("RMSprop", "Rprop"),
)


def name_of(base: torch.optim.Optimizer) -> str:
    """Return the class of an optimizer, or the classes of several."""
    return repr(base) if isinstance(base, OptimizerList) else type(base).__name__


def needs_closure(base: torch.optim.Optimizer) -> bool:
    """Return whether ``base.step()`` cannot do without a closure, as far as it can be known.

    Its signature says so, its class or one above is known for it, or it has two phases: a
    perturbation and a step at the gradients that a closure computes there.
    """
    names = [cls.__name__ for cls in type(base).__mro__]
    if has_two_phases(base) or any(known in name for known in CLOSURE_NAMES for name in names):
        return True
    try:
        parameters = inspect.signature(type(base).step).parameters
    except (TypeError, ValueError):  # of a function that has none, such as one in C
        return False
    closure = parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def has_two_phases(base: torch.optim.Optimizer) -> bool:
    """Return whether ``base`` is sharpness-aware: it has ``first_step`` and ``second_step``."""
    return callable(getattr(base, "first_step", None)) and callable(
        getattr(base, "second_step", None)
    )


def refuse_two_phases(base: torch.optim.Optimizer) -> None:
    """Raise a ``TypeError`` that says how to run a base with two phases."""
    if has_two_phases(base):
        raise TypeError(
            f"step: the base {type(base).__name__} wants a closure, which pyfront cannot give it; "
            "call backward(losses), base.first_step(), backward(losses computed anew) and "
            "base.second_step()"
        )


def _has_sparse_gradient(p: Tensor) -> bool | None:
    return None if p.grad is None else p.grad.is_sparse


def refuse_layouts(
    base: torch.optim.Optimizer,
    is_sparse: Callable[[Tensor], bool | None] = _has_sparse_gradient,
) -> None:
    """Raise where an optimizer of torch does not take a gradient as it is laid out.

    Args:
        base: makes the step.
        is_sparse: whether a parameter's gradient is; None where it has none.

    Raises:
        TypeError: a dense one for SparseAdam, a sparse one for Adam and its like, before any of
            several optimizers has made its step.
    """
    for one in _all(base):
        kind, ours = type(one).__name__, type(one).__module__.startswith("torch.optim")
        if not ours or not (kind == "SparseAdam" or kind in DENSE_ALONE):
            continue
        takes_sparse = kind == "SparseAdam"
        params = [p for group in one.param_groups for p in group["params"]]
        sparse = [is_sparse(p) for p in params]
        if (not takes_sparse) in sparse:
            index = sparse.index(not takes_sparse)
            found, advice = DENSE if takes_sparse else SPARSE
            raise TypeError(
                f"step: {kind} takes no {found} gradient, and that of its parameter {index} (shape "
                f"{list(params[index].shape)}) is {found}; {advice}"
            )


def refuse_direction(
    base: torch.optim.Optimizer, params: Sequence[Tensor], sparse: Sequence[bool | None]
) -> None:
    """Raise as :func:`refuse_layouts` does, for what is to be the parameters' ``.grad``.

    Args:
        base: makes the step.
        params: T parameters.
        sparse: whether the direction is sparse there, T values; None where there is none.
    """
    if True in sparse or any([type(one).__name__ == "SparseAdam" for one in _all(base)]):
        of = dict(zip(map(id, params), sparse, strict=False))
        refuse_layouts(base, lambda p: of.get(id(p)))


def _all(base: torch.optim.Optimizer) -> Sequence[torch.optim.Optimizer]:
    return base.bases if isinstance(base, OptimizerList) else [base]
