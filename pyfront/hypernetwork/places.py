"""Generated tensors in the places of a main network's parameters, for the length of a call."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pyfront._utils.torch_private import (
    in_backward_pass,
    version_of,
    without_subclass_functions,
)
from pyfront.hypernetwork.factored_linear import Factors, in_factors
from pyfront.hypernetwork.parameters import other_names

__all__ = [
    "Place",
    "call_switched",
    "call_with",
    "drop_places",
    "keep_places",
    "place_for",
]


def call_with(
    model: nn.Module,
    state: Mapping[str, Tensor | Factors],
    places: Mapping[str, nn.Parameter],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    tied: bool,
) -> Any:
    """Return the output of ``model`` with the tensors of ``state`` in the places of its own.

    Args:
        model: the main network.
        state: generated parameters, weights of linear layers in factors, and buffers for this call
            alone; one name per tensor.
        places: the parameters that are replaced, by every name they have.
        args, kwargs: of the model.
        tied: whether any tensor of the model has several names.

    Raises:
        ValueError: the model's forward has changed a generated parameter, or replaced its place or
            a module on the way to it; its name is given.
    """
    factors = {name: value for name, value in state.items() if isinstance(value, Factors)}
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if tied:  # by a name for each module that holds it: torch leaves what it puts in place twice
        others = other_names(model)
        tensors.update({o: tensors[name] for name in tensors for o in others.get(name, ())})
    if torch.compiler.is_compiling():
        tensors.update({name: value.weight() for name, value in factors.items()})
        return functional_call(model, tensors, args, kwargs, tie_weights=False)
    given = {name: value for name, value in tensors.items() if name in places}
    versions = _versions(given)
    with in_factors(model, factors) as changed:
        output = functional_call(model, tensors, args, kwargs, tie_weights=False)
    if changed:
        raise _refusal(changed[0], "changes this parameter")
    _require_same({name: tensors[name] for name in given}, given, versions)
    _require_places(model, places)
    return output


def call_switched(
    model: nn.Module,
    places: Mapping[str, nn.Parameter],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Return the output of ``model`` with what its ``places`` hold; refuses as `call_with`."""
    if torch.compiler.is_compiling():
        return model(*args, **kwargs)
    versions = _versions(places)
    output = model(*args, **kwargs)
    _require_same(places, places, versions)
    _require_places(model, places)
    return output


def _versions(values: Mapping[str, Tensor]) -> list[int]:
    """Count what is written into tensors; those of inference mode have no such count."""
    with without_subclass_functions():
        return [version_of(value) for value in values.values()]


def _refusal(name: str, what: str) -> ValueError:
    return ValueError(
        f"{name}: the model's forward {what}, which is generated from a preference; leave it out "
        "with `parameters`"
    )


def _require_same(
    values: Mapping[str, Tensor], given: Mapping[str, Tensor], versions: list[int]
) -> None:
    for (name, value), before, after in zip(given.items(), versions, _versions(given), strict=True):
        if values[name] is not value or before != after:
            raise _refusal(name, "changes this parameter")


def _require_places(model: nn.Module, places: Mapping[str, nn.Parameter]) -> None:
    for name, place in places.items():
        if not _is_at(model, name, place):
            raise _refusal(name, "replaces this parameter or its module")


def _is_at(model: nn.Module, name: str, place: nn.Parameter) -> bool:
    try:
        return attrgetter(name)(model) is place
    except AttributeError:
        return False


class Place(nn.Parameter):
    """Where a generated parameter goes: NaN until it is written, not readable in a backward pass.

    A checkpoint inside the model runs its part again in the backward pass, when the call is over
    and the places hold other values, whose gradients would be those of another network. So no
    operation in a backward pass gets a tensor from a place, whichever way it was reached.
    """

    path: str  # its name in the main network

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        late = not torch.compiler.is_compiling() and in_backward_pass()
        with without_subclass_functions():
            if not late:
                return func(*args, **(kwargs or {}))
            with torch.no_grad():  # nothing is saved, so that no checkpoint stops in the middle
                result = func(*args, **(kwargs or {}))
        several = result if isinstance(result, (tuple, list)) else (result,)
        if any(isinstance(value, Tensor) for value in several):  # a shape or a device is none
            place = next(_places_in((args, kwargs)))
            raise RuntimeError(
                f"{place.path}: is read in the backward pass, when the call is over and generated "
                "parameters are gone; take checkpoints of activations out of the model, and "
                "checkpoint the call of the HyperNetwork instead"
            )
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> Place:
        return _place(self.data.clone(), self.requires_grad, self.path)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _place, (self.data, self.requires_grad, self.path)


def _places_in(value: Any) -> Iterator[Place]:
    if isinstance(value, Place):
        yield value
    elif isinstance(value, dict):
        yield from _places_in(list(value.values()))
    elif isinstance(value, (tuple, list)):
        for entry in value:
            yield from _places_in(entry)


def place_for(path: str, parameter: nn.Parameter) -> Place:
    """Return a place for generated tensors that are like ``parameter``, whose name is ``path``."""
    return _place(torch.full_like(parameter.detach(), math.nan), False, path)


def _place(values: Tensor, requires_grad: bool, path: str) -> Place:
    place = Place(values, requires_grad)
    place.path = path
    return place


def drop_places(net: Any, state: dict[str, Any], prefix: str, local_metadata: Any) -> None:
    """Leave the places of a hypernetwork out of a checkpoint; they follow from what it holds."""
    for name in net.replaced():
        state.pop(f"{prefix}model.{name}", None)


def keep_places(net: Any, state: dict[str, Any], prefix: str, *unused: Any) -> None:
    """Leave the places of a hypernetwork as they are when a checkpoint is loaded."""
    for name, p in net.replaced().items():
        state[f"{prefix}model.{name}"] = p  # itself: ``assign=True`` then keeps ties
