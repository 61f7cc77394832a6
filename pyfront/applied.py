"""Generated tensors in the places of a main network's parameters, for the length of a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["call_with", "guard", "unguard"]


def call_with(
    model: nn.Module,
    state: dict[str, Tensor],
    places: Mapping[str, nn.Parameter],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    tied: bool,
) -> Any:
    """The output of ``model`` with the tensors of ``state`` in the places of its own.

    Args:
        model: the main network.
        state: generated parameters, and buffers for this call alone, one name a tensor.
        places: the parameters that are replaced, by every name they have.
        args, kwargs: of the model.
        tied: whether any tensor of the model has several names.

    Raises:
        ValueError: the model's forward has changed a generated parameter, or replaced its place or
            a module on the way to it; its name is given.
    """
    if torch.compiler.is_compiling():
        return functional_call(model, state, args, kwargs, tie_weights=tied)
    given = [(name, value, _version(value)) for name, value in state.items() if name in places]
    output = functional_call(model, state, args, kwargs, tie_weights=tied)
    for name, value, version in given:
        if state[name] is not value or _version(value) != version:
            raise _refusal(name, "changes this parameter")
    for name, place in places.items():
        if not _is_at(model, name, place):
            raise _refusal(name, "replaces the module of this parameter")
    return output


def _version(value: Tensor) -> int:
    """Counts what is written into a tensor; tensors of inference mode have no such count."""
    return 0 if value.is_inference() else value._version


def _refusal(name: str, what: str) -> ValueError:
    return ValueError(
        f"{name}: the model's forward {what}, which is generated anew at every call; leave it out "
        "with `parameters`"
    )


def _is_at(model: nn.Module, name: str, place: nn.Parameter) -> bool:
    try:
        return model.get_parameter(name) is place
    except AttributeError:
        return False


class _Guard:
    """A forward pre-hook: in a backward pass the module needs generated parameters to run.

    A checkpoint inside the model runs its part again in the backward pass, when the call is over
    and the places hold other values, whose gradients would be those of another network.
    """

    def __init__(self, path: str, name: str) -> None:
        self.path = path  # of the module in the main network
        self.name = name  # of a generated parameter in the module; all are in place, or none

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if torch.compiler.is_compiling() or torch._C._current_graph_task_id() == -1:
            return
        if isinstance(attrgetter(self.name)(module), nn.Parameter):  # generated tensors are none
            raise RuntimeError(
                f"{self.path or 'model'}: runs again in the backward pass, when its generated "
                "parameters are gone: the model's forward has a checkpoint of activations; take it "
                "out, and checkpoint the call of the HyperNetwork instead"
            )


def guard(model: nn.Module, names: Sequence[str]) -> None:
    """Lets modules that hold generated parameters refuse to run again in a backward pass."""
    generated = {id(model.get_parameter(name)) for name in names}
    for path, module in model.named_modules():
        found = (name for name, p in module.named_parameters() if id(p) in generated)
        name = next(found, None)
        if name is not None:
            module.register_forward_pre_hook(_Guard(path, name))


def unguard(model: nn.Module) -> None:
    """Takes away what :func:`guard` has added to a copy."""
    for module in model.modules():
        hooks = module._forward_pre_hooks
        for key in [key for key, hook in hooks.items() if isinstance(hook, _Guard)]:
            del hooks[key]
