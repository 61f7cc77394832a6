"""The interface of an engine, and what all engines say of a graph that cannot be used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from pyfront._utils.torch_private import GRAPH_ERRORS
from pyfront.backend.task_gradients import Row
from pyfront.gradients.losses import widened

__all__ = [
    "Engine",
    "NoParameterError",
    "accumulated",
    "check_reached",
    "explained",
    "weighted_gradient",
]


class Engine(ABC):
    """One way to gradients; a new one is a subclass in a file of its own, named in ``ENGINES``.

    Attributes:
        name: the value of ``engine=`` that asks for it.
        checkpoints: whether parameters inside reentrant checkpoints get their gradients.
        stops_inside: whether a pass can stop at tensors inside the graph, as ``features`` and
            products ask for.
        keeps_rows: whether C is that of :meth:`rows`, m gradients in memory.
    """

    name: ClassVar[str]
    checkpoints: ClassVar[bool]
    stops_inside: ClassVar[bool]
    keeps_rows: ClassVar[bool] = True

    def rows(
        self,
        losses: Sequence[Tensor],
        params: Sequence[Tensor],
        *,
        retain_graph: bool,
        names: Sequence[str] | None = None,
        arrived: Callable[[Row], Row] | None = None,
    ) -> list[Row]:
        """Return the m task gradients, one backward pass each; ``.grad`` stays as it is.

        Args:
            losses: m scalar tensors.
            params: T tensors that require a gradient.
            retain_graph: keep the graph of the last loss too.
            names: what errors call the losses; ``losses[0]``, … where None.
            arrived: is given each row when its pass ends; what it returns takes the row's place.

        Returns:
            m rows of T tensors or None; they may alias each other and must not be written to.

        Raises:
            ValueError: a graph that has been freed, or that reaches none of ``params``.
        """
        rows: list[Row] = []
        names = [f"losses[{task}]" for task in range(len(losses))] if names is None else names
        keep = [True] * (len(losses) - 1) + [bool(retain_graph)]
        gradients = self.gradients(losses, params, keep)
        for task in range(len(losses)):
            try:
                row = next(gradients)
            except StopIteration as error:
                raise self._miscounted(f"ended after {task} of {len(losses)} losses") from error
            except RuntimeError as error:
                explain(names[task], error)
                raise
            check_reached(names[task], row)
            rows.append(row if arrived is None else arrived(row))
            del row  # what has been averaged elsewhere is not needed here
        for _ in gradients:  # lets a generator end
            raise self._miscounted(f"went on after {len(losses)} losses")
        return rows

    def _miscounted(self, what: str) -> RuntimeError:
        return RuntimeError(f"{type(self).__name__}.gradients: {what}")

    def weighted(
        self,
        losses: Sequence[Tensor],
        roots: Sequence[Tensor],
        params: Sequence[Tensor],
        retain_graph: bool,
    ) -> Row:
        """Return Σ_j u_j g_j by one pass, for roots u_j shaped like the losses."""
        return accumulated(losses, roots, params, retain_graph, self)

    @abstractmethod
    def gradients(
        self, losses: Sequence[Tensor], params: Sequence[Tensor], keep: Sequence[bool]
    ) -> Iterator[Row]:
        """Return an iterator over m gradients that makes one backward pass whenever it is asked.

        Args:
            losses: m scalar tensors.
            params: T tensors that require a gradient.
            keep: whether each pass keeps the graph, m values.
        """

    @abstractmethod
    def inputs(self, params: Sequence[Tensor]) -> list[Tensor] | None:
        """Return what ``torch.autograd.backward`` is told to accumulate into, None for all."""


def accumulated(
    losses: Sequence[Tensor],
    roots: Sequence[Tensor] | None,
    params: Sequence[Tensor],
    retain_graph: bool,
    engine: Engine,
) -> Row:
    """Run ``backward`` with every ``.grad`` empty, take what arrives, and put the old ones back."""
    saved = [p.grad for p in params]
    try:
        for p in params:
            p.grad = None
        torch.autograd.backward(
            list(losses), roots, retain_graph=retain_graph, inputs=engine.inputs(params)
        )
        return [p.grad for p in params]
    finally:
        for p, gradient in zip(params, saved, strict=True):
            p.grad = gradient


def weighted_gradient(
    losses: Sequence[Tensor],
    weights: Sequence[float] | Tensor,
    params: Sequence[Tensor],
    engine: Engine,
    retain_graph: bool,
    poison: Tensor | None = None,
) -> Row:
    """Return Σ_j w_j g_j by one backward pass: T tensors fit to be ``.grad``, or None.

    Args:
        losses: m scalar tensors.
        weights: w, m numbers.
        params: T tensors that require a gradient.
        engine: how the pass is made.
        retain_graph: keep the graph.
        poison: 0, or NaN to make every weight NaN.
    """
    wide = widened(losses)
    roots = [torch.full_like(loss, w) for loss, w in zip(wide, weights, strict=True)]
    if poison is not None:
        roots = [root + poison.to(root.dtype) for root in roots]
    with explained("losses"):
        row = engine.weighted(wide, roots, params, retain_graph)
    check_reached("losses", row)
    return row


class NoParameterError(ValueError):
    """A loss reaches none of the parameters."""


def check_reached(name: str, row: Row) -> None:
    """Raise a ``ValueError`` where a row has no gradient at all."""
    for gradient in row:
        if gradient is not None:
            return
    raise NoParameterError(
        f"{name}: the graph reaches no parameter that is trained; if its part of the model is "
        "frozen, leave the loss out or unfreeze it"
    )


def explain(name: str, error: RuntimeError) -> None:
    """Raise what an error of autograd says about the graph of the loss ``name``, if it is known."""
    text = str(error)
    found = next((what for phrase, what in GRAPH_ERRORS.items() if phrase in text), None)
    if found == "donated":
        raise RuntimeError(
            f"{name}: the compiled model was made for a single backward pass, which reuses its "
            "buffers (its first one was, or its batches change in size), and several losses need "
            "several passes; set torch._functorch.config.donated_buffer = False before the first"
        ) from error
    if found == "freed":
        raise ValueError(
            f"{name}: its graph has been freed by an earlier backward pass; compute the "
            "losses anew for every step"
        ) from error
    if found == "changed":
        raise ValueError(
            f"{name}: a tensor of its graph has changed since it was computed, as the "
            "parameters do in a step; compute the losses anew for every step"
        ) from error


class explained:
    """Turn autograd's errors about the user's graph into errors that name the loss."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RuntimeError):
            explain(self.name, error)
