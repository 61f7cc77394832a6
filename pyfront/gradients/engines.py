"""Engines: the ways from losses to task gradients. One is chosen from the graph of each step.

``"grad"`` calls :func:`torch.autograd.grad` once per loss and touches no parameter. ``"steal"``
calls ``backward`` once per loss and takes what arrives in ``.grad``: slower, but right for
reentrant activation checkpoints. ``"auto"`` uses ``"grad"`` unless the graph holds such a one.
``"columns"`` forms C without m gradients in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from torch import Tensor

from pyfront.backend.graph import has_reentrant_checkpoint, reaches
from pyfront.gradients.columns_engine import ColumnsEngine
from pyfront.gradients.engine import Engine, check_reached
from pyfront.gradients.grad_engine import GradEngine
from pyfront.gradients.steal_engine import StealEngine

__all__ = [
    "ENGINES",
    "EngineName",
    "choose_engine",
    "keeps_rows",
    "refuse_reentrant_checkpoint",
]

EngineName: TypeAlias = Literal["auto", "grad", "steal", "columns"]

ENGINES: dict[str, type[Engine]] = {
    engine.name: engine for engine in (GradEngine, StealEngine, ColumnsEngine)
}


def keeps_rows(name: str) -> bool:
    """Return whether this engine has m gradients in memory, which "auto" chooses always."""
    return name == "auto" or ENGINES[name].keeps_rows


def choose_engine(
    name: EngineName,
    losses: Sequence[Tensor],
    params: Sequence[Tensor] | None = None,
    others: Sequence[Tensor] = (),
    names: Sequence[str] = (),
    *,
    replicas: bool = False,
    sharded: bool = False,
) -> Engine:
    """Return the engine for the graph of these losses.

    Args:
        name: ``"auto"``, or the engine that the user asks for.
        losses: m scalar tensors.
        params: where given, each loss must reach one of these as far as the graph shows it; a graph
            does not show the parameters inside a reentrant checkpoint.
        others: further losses that the engine is to serve.
        replicas: no hook of a parameter may run, and only ``"grad"`` runs none.
        sharded: gradients are made by hooks, and only ``"steal"`` runs them.
        names: what errors call the losses.

    Raises:
        ValueError: a loss that reaches none of ``params``, or an engine that is wrong for a
            reentrant checkpoint in the graph, or for these processes.
    """
    reentrant = has_reentrant_checkpoint([*losses, *others])
    if sharded:
        if name in ("grad", "columns"):
            raise ValueError(f"engine={name!r}: sharded parameters need 'steal', or 'auto'")
        return StealEngine()
    if replicas and not keeps_rows(name):
        raise ValueError(
            f"engine={name!r}: with process_group C is that of averaged rows; set engine='auto'"
        )
    if replicas and (reentrant or name == "steal"):
        raise ValueError(
            f"engine={name!r}: with process_group the engine 'steal', which reentrant checkpoints "
            "of activations need, would run DistributedDataParallel's reducer once per loss; "
            "checkpoint with use_reentrant=False, or shard the model with fully_shard"
        )
    if name == "auto":
        engine: Engine = StealEngine() if reentrant else GradEngine(hooks=not replicas)
    else:
        engine = GradEngine(hooks=False) if replicas else ENGINES[name]()
    if reentrant and not engine.checkpoints:
        raise _reentrant(f"engine={name!r}", "set engine='auto', or ")
    if params is not None and not reentrant:
        for loss, called in zip(losses, names, strict=True):
            if not reaches(loss, params):
                check_reached(called, ())
    return engine


def refuse_reentrant_checkpoint(losses: Sequence[Tensor], what: str) -> None:
    """Raise a ``ValueError`` that names ``what`` where the graph holds a reentrant checkpoint.

    For whatever no engine is right for on such a graph: the parameters inside are reached by a
    whole ``backward`` alone, which stops nowhere and lets every hook of theirs run.
    """
    if has_reentrant_checkpoint(losses):
        raise _reentrant(what)


def _reentrant(what: str, instead: str = "") -> ValueError:
    return ValueError(
        f"{what}: the losses hold a reentrant checkpoint of activations, whose parameters would be "
        f"left without a gradient; {instead}checkpoint with use_reentrant=False"
    )
