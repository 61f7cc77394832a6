"""The weight of a large linear layer in factors, whose product with a batch needs no weight.

Rows o = r K + k of the weight are W_o = μ + Σ_j a_kj M_rj for r < R and k < K, with a projection M
of R × d × I entries and coefficients a of K × d. A batch of B inputs x ∈ R^I then costs
B R d (I + K) multiplications, as Σ_j (M_rj · x) a_kj, in place of R K d I to make W and B I O.

For the length of a call the layer is of a class of its own, which multiplies in factors. Whoever
reads the weight makes it an ordinary layer again, with an ordinary tensor in the place of its
weight: nothing else could be a weight to all that torch can do with one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyfront._utils.torch_private import outside_compile, parameters_held_by, version_of

__all__ = ["Factors", "can_be_in_factors", "in_factors"]

_HELD = "_pyfront_held"  # where a layer in factors has its `_Held`


class Factors(NamedTuple):
    """W_{r K + k} = mean + Σ_j coefficients_kj projection_rj, for the first ``outputs`` rows."""

    projection: Tensor  # M, [R, d, I]
    coefficients: Tensor  # a, [K, d]
    mean: Tensor  # μ, []
    outputs: int  # O ≤ R K

    def weight(self) -> Tensor:
        """Return W, [O, I], as a tensor of its own."""
        coefficients = self.coefficients.expand(len(self.projection), -1, -1)
        rows = torch.bmm(coefficients, self.projection).flatten(0, 1)
        return rows[: self.outputs] + self.mean

    def product(self, x: Tensor) -> Tensor:
        """Return x Wᵀ, [..., O], for ``x``, [..., I], without W."""
        blocks, width, inputs = self.projection.shape
        batch = x.reshape(-1, inputs)
        projected = batch @ self.projection.flatten(0, 1).T  # [B, R d]
        rows = projected.view(-1, width) @ self.coefficients.T  # [B R, K]
        product = rows.view(len(batch), blocks * len(self.coefficients))[:, : self.outputs]
        return (product + self.mean * batch.sum(1, keepdim=True)).view(*x.shape[:-1], self.outputs)

    def is_cheaper_for(self, rows: int) -> bool:
        """Return whether a product with ``rows`` inputs takes fewer multiplications than with W."""
        (blocks, width, inputs), count = self.projection.shape, len(self.coefficients)
        with_weight = blocks * count * width * inputs + rows * inputs * self.outputs
        return rows * blocks * width * (inputs + count) < with_weight

    def fit(self, x: Tensor, bias: Tensor | None) -> bool:
        """Return whether the product in factors is what F.linear gives, and cheaper."""
        operands = [x] if bias is None else [x, bias]
        inputs = self.projection.shape[-1]
        return (
            all(type(operand) in (Tensor, nn.Parameter) for operand in operands)
            and all(operand.dtype is self.projection.dtype for operand in operands)
            and (bias is None or bias.shape == (self.outputs,))
            and x.layout is torch.strided
            and not x.is_nested
            and x.shape[-1:] == (inputs,)
            and not torch.is_autocast_enabled(x.device.type)
            and self.is_cheaper_for(x.numel() // inputs)
        )


@dataclass
class _Held:
    """What a layer in factors was, and the weight once it was made whole."""

    factors: Factors
    kind: type[nn.Linear]
    records: bool = field(default_factory=torch.is_grad_enabled)
    inference: bool = field(default_factory=torch.is_inference_mode_enabled)
    whole: Tensor | None = None
    version: int = 0  # of the whole weight when it was made


def can_be_in_factors(layer: nn.Module, place: Tensor) -> bool:
    """Return whether ``layer`` multiplies by the weight in ``place`` as linear layers do."""
    held = parameters_held_by(layer)
    return (
        held is not None
        and held.get("weight") is place
        and isinstance(layer, nn.Linear)
        and type(layer).forward is nn.Linear.forward
        and place.dtype in (torch.float32, torch.float64)  # others overflow in between
    )


class _InFactors(nn.Linear):
    """A linear layer that multiplies in factors until its weight is read."""

    def forward(self, input: Tensor) -> Tensor:
        held = None if torch.compiler.is_compiling() else vars(self).get(_HELD)
        if held is None or held.whole is not None or not held.factors.fit(input, self.bias):
            return F.linear(input, self.weight, self.bias)
        product: Tensor = held.factors.product(input)
        return product if self.bias is None else product + self.bias

    def __reduce_ex__(self, protocol: Any) -> Any:
        _make_whole(self)
        return self.__reduce_ex__(protocol)  # of the ordinary layer that it is now


@outside_compile
def _make_whole(layer: nn.Module) -> None:
    """Make ``layer`` what it was, with the whole weight, which has its graph, in the place."""
    held: _Held = vars(layer)[_HELD]
    device = held.factors.mean.device.type
    with (
        torch.autocast(device, enabled=False),
        torch.inference_mode(held.inference),
        torch.set_grad_enabled(held.records),
    ):
        held.whole = held.factors.weight()
    held.version = version_of(held.whole)
    object.__setattr__(layer, "__class__", held.kind)
    parameters = parameters_held_by(layer)
    assert parameters is not None
    parameters["weight"] = held.whole


def _weight(layer: nn.Module) -> Tensor:
    _make_whole(layer)
    weight: Tensor = layer.weight  # type: ignore[assignment]
    return weight


def _parameters(layer: nn.Module) -> dict[str, Any] | None:
    _make_whole(layer)
    return parameters_held_by(layer)


@functools.cache
def _in_factors(kind: type[nn.Linear]) -> type[nn.Linear]:
    """Return the class that a layer of class ``kind`` has while its weight is in factors."""
    body = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    readers = {"weight": property(_weight), "_parameters": property(_parameters)}
    bases = (_InFactors, kind)
    made: type[nn.Linear] = type(kind)(kind.__name__, bases, body | readers)  # type: ignore[misc]
    return made


@contextmanager
def in_factors(layers: Mapping[str, tuple[Any, Factors]]) -> Iterator[list[str]]:
    """Keep weights of ``layers`` in factors, as a context.

    Args:
        layers: layers that can be, and their factors, by the names of the weights.

    Yields:
        A list that has, when the context ends, the names of the weights that were made whole and
        then written into or replaced.
    """
    changed: list[str] = []
    places = {}
    for name, (layer, factors) in layers.items():
        parameters = parameters_held_by(layer)
        assert parameters is not None
        places[name] = parameters["weight"]
        vars(layer)[_HELD] = _Held(factors, type(layer))
        object.__setattr__(layer, "__class__", _in_factors(type(layer)))  # type: ignore[arg-type]
    try:
        yield changed
    finally:
        for name, (layer, _) in layers.items():
            held: _Held = vars(layer).pop(_HELD)
            if held.whole is None:
                object.__setattr__(layer, "__class__", held.kind)
                continue
            parameters = parameters_held_by(layer)
            assert parameters is not None
            same = parameters.get("weight") is held.whole
            if not same or version_of(held.whole) != held.version:
                changed.append(name)
            parameters["weight"] = places[name]
