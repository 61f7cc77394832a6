"""How the passes of a step are made: by which engine, and whether they stop at features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from pyfront._utils.weakly import Weakly
from pyfront.gradients.engine import Engine
from pyfront.gradients.engines import choose_engine, refuse_reentrant_checkpoint
from pyfront.gradients.features import Split, as_features

if TYPE_CHECKING:
    from pyfront.optimizer.method import Method
    from pyfront.optimizer.step import Step

__all__ = ["engine_of", "on_cuda", "split_of", "takes_one_pass"]


def takes_one_pass(method: Method, *, collected: bool, due: bool, sharded: bool) -> bool:
    """Return whether a step takes one backward pass, and no task gradient is needed.

    Args:
        method: decides.
        collected: gradients of micro-batches wait for the step.
        due: the method decides anew; otherwise the weights of an earlier step are kept.
        sharded: parameters are.
    """
    if method.needs == "gramian" and due:
        return False
    if collected or method.task_gradients == "own" or method.track_rises:
        return False
    if method.needs == "products":  # a product is over all parameters
        return method.gramian_over == "all" and not sharded
    return method.needs == "losses" or not due


def on_cuda(loss: Tensor, params: Sequence[Tensor]) -> bool:
    """Return whether losses and parameters are on a CUDA device, as far as the first ones tell."""
    return loss.is_cuda and params[0].is_cuda


def engine_of(step: Step) -> Engine:
    """Return the engine for the graph of this step, which may hold a checkpoint that no other had.

    Raises:
        ValueError: an engine that is wrong for the graph, or a loss that reaches no parameter.
    """
    shared, processes = step.method._shared, step.processes
    places, count = step.presence
    seen, before, params = shared.values.get("reaching", (frozenset(), count, Weakly()))
    same = before == count and params.are(step.params)
    looked = step.one_pass and not (same and seen.issuperset(places))
    engine = choose_engine(
        step.method.engine,
        step.batch.losses,
        step.params if looked and not processes.sharded else None,
        step.second or (),
        step.batch.names,
        replicas=processes.several and not processes.sharded,
        sharded=processes.sharded,
    )
    if looked:
        seen = seen.union(places) if same else frozenset(places)
        shared.values["reaching"] = seen, count, Weakly(step.params)
    return engine


def split_of(step: Step) -> Split | None:
    """Return the graph cut at the features that the call was given, or None.

    None for sharded parameters too: hooks of whole backward passes make their gradients, which are
    those of a cut graph.

    Raises:
        ValueError: features that are missing, or a graph that cannot be cut at them.
    """
    features, bound = step.call.features, step.method.upper_bound
    if step.processes.sharded:
        if bound:
            raise ValueError(
                "upper_bound: the gradients of sharded parameters are made by hooks of whole "
                "backward passes, which do not stop at features; set it to False, or train "
                "replicas (process_group=)"
            )
        if features is not None:
            as_features(features)
        return None
    if features is None:
        if bound and step.whole:
            raise ValueError("features: upper_bound needs the tensors that the trunk returned")
        return None
    if not step.engine.stops_inside:
        what = "upper_bound and features" if bound else "features"
        refuse_reentrant_checkpoint(step.batch.losses, what)
        raise ValueError(
            f"features: engine={step.method.engine!r} cannot stop at them; set engine='auto'"
        )
    if bound and step.collected is not None:
        raise ValueError("features: upper_bound cannot decide on what accumulate() collected")
    return Split(step.batch.losses[: step.batch.tasks], features, step.params, bound=bound)
