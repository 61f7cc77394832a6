"""Every private name and every error text of torch that the package relies on, with a fallback.

A release of torch may rename any of these. Each is looked up once, by a function that can be tested
without the name: what remains is slower or checks less, and says so where a check is lost.
"""

from __future__ import annotations

import functools
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import FunctionType
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

__all__ = [
    "CHECKPOINT_NODE",
    "COMPILED_NODE",
    "CONVERSION_NODE",
    "GRAPH_ERRORS",
    "LEAF_NODE",
    "MULTIPLICATION_NODE",
    "NO_GRAPH",
    "UNSUPPORTED_PRODUCTS",
    "autograd_log_is_on",
    "backward_pass",
    "copy_all",
    "engine_entry",
    "functions_are_changed",
    "has_hooks",
    "hold_parameters",
    "holds_compiled_code",
    "in_backward_pass",
    "leaf_of",
    "multiplier_of",
    "outside_compile",
    "parameters_held_by",
    "preserved_versions",
    "version_of",
    "was_unscaled",
    "without_subclass_functions",
]

F = TypeVar("F", bound=Callable[..., Any])
RunBackward: TypeAlias = "Callable[..., tuple[Tensor | None, ...]]"

# Nodes of autograd: a reentrant checkpoint, a leaf, a compiled graph, another dtype, a product.
CHECKPOINT_NODE = "CheckpointFunctionBackward"
LEAF_NODE = "AccumulateGrad"
COMPILED_NODE = "CompiledFunctionBackward"
CONVERSION_NODE = "ToCopyBackward0"
MULTIPLICATION_NODE = "MulBackward0"

# What torch says of a graph that cannot be used, and what we call it.
GRAPH_ERRORS = {
    "donated buffer": "donated",
    "donated_buffer": "donated",
    "backward through the graph a second time": "freed",
    "modified by an inplace operation": "changed",
}

# What torch says of a derivative that is asked for where gradients are disabled.
NO_GRAPH = "does not require grad"

# What torch says where the formula of a product is missing.
UNSUPPORTED_PRODUCTS = (
    "not implemented",
    "once_differentiable",
    "double backward",
    "does not require grad",
    "forward AD",
    "forward-mode AD",
    "forward mode AD",
    "jvp",
    "use_reentrant",
)


def _found(owner: object, *path: str) -> Any:
    """Return the attribute at the end of ``path``, or None where a part of it is missing."""
    for name in path:
        owner = getattr(owner, name, None)
    return owner


def outside_compile(function: F) -> F:
    """Keep ``torch.compile`` from tracing ``function``; dynamo is imported at the first call.

    Without torch's own decorator for that, dynamo is imported here.
    """
    decorator = _found(torch, "_compile", "_disable_dynamo") or torch.compiler.disable
    wrapped: F = decorator(function)
    return wrapped


def preserved_versions(tensors: Sequence[Tensor]) -> AbstractContextManager[object]:
    """Hide writes from autograd's version counters, for values that come back.

    Raises:
        RuntimeError: without the name the counters would move, and autograd refuse the graph.
    """
    stack = ExitStack()
    preserve = _found(torch, "autograd", "grad_mode", "_unsafe_preserve_version_counter")
    if preserve is None:
        raise RuntimeError(
            f"torch {torch.__version__} cannot write parameters for a moment without their graphs "
            "being refused; set products='double_backward'"
        )
    for tensor in tensors:  # torch 2.6 takes one tensor at a time
        stack.enter_context(preserve(tensor))
    return stack


def version_of(tensor: Tensor) -> int:
    """Return how often ``tensor`` was written to; 0 for one of inference mode, which has no count.

    0 for every tensor without the name: writes are then not noticed.
    """
    if tensor.is_inference():
        return 0
    version = _found(tensor, "_version")
    return 0 if version is None else int(version)


def parameters_held_by(module: nn.Module) -> dict[str, Any] | None:
    """Return the table of the parameters that ``module`` holds itself.

    None without the name: weights are then made whole for every call.
    """
    held: dict[str, Any] | None = vars(module).get("_parameters")
    return held


def hold_parameters(module: nn.Module, table: dict[str, Any]) -> None:
    """Let ``module`` hold the parameters of another table, as :func:`parameters_held_by` has it."""
    vars(module)["_parameters"] = table


def functions_are_changed() -> bool:
    """Return whether a mode may change what torch's functions do; a default device does not.

    True without the name where any mode is active.
    """
    modes = _found(torch, "overrides", "_get_current_function_mode_stack")
    if modes is None:
        return bool(torch.overrides.has_torch_function((torch.empty(0, device="cpu"),)))
    return any(type(mode).__name__ != "DeviceContext" for mode in modes())


def holds_compiled_code(module: nn.Module) -> bool:
    """Return whether a part of ``module``, or one of its methods, is compiled.

    False without the names: compiled parts that read a weight in factors then break their graph.
    """
    kind = _found(sys.modules.get("torch._dynamo"), "OptimizedModule")
    return any(
        (kind is not None and isinstance(part, kind))
        or getattr(part, "_compiled_call_impl", None) is not None
        or any(map(_is_compiled, vars(part).values()))
        or _has_compiled_methods(type(part))  # type: ignore[arg-type]
        for part in module.modules()
    )


@functools.cache
def _has_compiled_methods(kind: type) -> bool:
    return any(_is_compiled(value) for base in kind.__mro__ for value in vars(base).values())


def _is_compiled(value: object) -> bool:
    marked = type(value) is FunctionType and hasattr(value, "_torchdynamo_orig_callable")
    return marked and not _found(value, "_torchdynamo_disable")  # which is marked, too


def backward_pass() -> int | None:
    """Return the number of the backward pass that autograd runs in this thread, None outside one.

    None in every pass without the name: rows then travel between passes and not within them.
    """
    task = _found(torch, "_C", "_current_graph_task_id")
    number = -1 if task is None else int(task())
    return None if number == -1 else number


def in_backward_pass() -> bool:
    """Return whether autograd is running a backward pass in this thread."""
    task = _found(torch, "_C", "_current_graph_task_id")
    if task is None:
        _warn_once("checkpoints of activations inside a generated model are not noticed")
        return False
    return bool(task() != -1)


def without_subclass_functions() -> AbstractContextManager[object]:
    """Treat tensor subclasses as plain tensors."""
    for name in ("DisableTorchFunctionSubclass", "DisableTorchFunction"):
        if (guard := _found(torch, "_C", name)) is not None:
            entered: AbstractContextManager[object] = guard()
            return entered
    raise RuntimeError(f"torch {torch.__version__} cannot set __torch_function__ aside")


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy each source into its target, in one call where torch has it."""
    together = _found(torch, "_foreach_copy_")
    if together is not None:
        together(list(targets), list(sources))
        return
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)


def engine_entry() -> RunBackward | None:
    """Return autograd's entry, which ``torch.autograd.grad`` calls, or None."""
    entry: RunBackward | None = _found(
        torch, "autograd", "Variable", "_execution_engine", "run_backward"
    )
    return entry


def leaf_of(node: Node) -> Tensor | None:
    """Return the tensor that an accumulating node of the graph belongs to, None for others."""
    leaf: Tensor | None = getattr(node, "variable", None)
    return leaf


def has_hooks(tensors: Sequence[Tensor]) -> bool:
    """Return whether one of these has a tensor hook, which runs on every gradient of it.

    False without the name: the hook then runs once more than it should.
    """
    return any(getattr(tensor, "_backward_hooks", None) for tensor in tensors)


def multiplier_of(tensor: Tensor) -> Tensor | None:
    """Return the scalar tensor that ``tensor`` is a multiple of, None where the graph shows none.

    None for every tensor without the names.
    """
    node = tensor.grad_fn
    if node is None or node.name() != MULTIPLICATION_NODE:
        return None
    factor = getattr(node, "_saved_other", None)
    return factor if isinstance(factor, Tensor) and factor.numel() == 1 else None


def was_unscaled(scaler: object) -> bool:
    """Return whether a gradient scaler has unscaled an optimizer's gradients since its update.

    True for every scaler without the names: what is forgotten is then not noticed.
    """
    states = _found(scaler, "_per_optimizer_states")
    if states is None:
        return True
    return any(_found(state.get("stage"), "name") == "UNSCALED" for state in states.values())


def autograd_log_is_on() -> bool:
    """Return whether autograd logs its graphs, which only ``torch.autograd.grad`` does."""
    return _LOG.getEffectiveLevel() <= logging.DEBUG


@functools.cache
def _warn_once(lost: str) -> None:
    warnings.warn(f"torch {torch.__version__} is unknown to pyfront: {lost}", stacklevel=4)


_LOG = logging.getLogger("torch.autograd.graph")
