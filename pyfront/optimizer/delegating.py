"""A torch optimizer that forwards its groups, state and hooks to the optimizer it wraps."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch

from pyfront.optimizer.bases import Base, has_two_phases, name_of, needs_closure
from pyfront.optimizer.memory import HasMemory
from pyfront.optimizer.optimizer_list import HOOKS, OptimizerList, clear_gradients
from pyfront.optimizer.shared import Memory, Shared

__all__ = ["MEMORY", "DelegatingOptimizer", "Memory"]

MEMORY = "pyfront"  # key of a checkpoint's first group under which our state travels


class DelegatingOptimizer(HasMemory):
    """Forwards groups, state, hooks and checkpoints to a base optimizer, and owns none itself.

    Attributes that are not found here are looked up on the base, so that ``train()`` and ``eval()``
    of a schedule-free optimizer, for example, can be called on the wrapper.

    Args:
        base: any optimizer whose ``step`` works without a closure, or that has two phases
            (``first_step`` and ``second_step``) which the caller runs, after ``backward`` each; or
            a list of optimizers that make the step together, in this order, and become one
            :class:`~pyfront.optimizer.optimizer_list.OptimizerList`.

    Raises:
        TypeError: ``base`` is no optimizer, needs a closure, or is a pyfront optimizer itself.
        ValueError: a list without optimizers, or with a parameter in two of them.
    """

    def __init__(self, base: Base) -> None:
        # torch's own __init__ is not called: it would make a second set of groups, state and hooks
        self.check_base(base)
        self.base = base if isinstance(base, torch.optim.Optimizer) else OptimizerList(base)
        self._shared = Shared(type(self).__name__)
        self._mark()

    @staticmethod
    def check_base(base: Any) -> None:
        """Raise a ``TypeError`` unless ``base``, or each of a list, can be wrapped."""
        if not isinstance(base, (list, tuple)):
            _check_base("base", base)
            return
        for place, one in enumerate(base):
            _check_base(f"base[{place}]", one)
            if has_two_phases(one):
                raise TypeError(
                    f"base[{place}]: {type(one).__name__} has two phases, and the other optimizers "
                    "of the list have one; use another base"
                )

    def __getattr__(self, name: str) -> Any:
        """Return what the base has under a public name that is not found here.

        A private one is between the base and torch: that the fused step unscales gradients, say.
        """
        if name.startswith("_") or "base" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        try:
            return getattr(self.base, name)
        except AttributeError:
            raise AttributeError(
                f"neither {type(self).__name__} nor its base {name_of(self.base)} has an "
                f"attribute {name!r}"
            ) from None

    # ---------------------------------------------------------------------------- the base's parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The base optimizer's parameter groups.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.MGDA(torch.optim.SGD([x], lr=0.1))
            >>> opt.param_groups[0]["lr"] = 0.01  # the same list as the base's
            >>> opt.base.param_groups[0]["lr"]
            0.01
        """
        return self.base.param_groups

    @param_groups.setter
    def param_groups(self, value: list[dict[str, Any]]) -> None:
        self.base.param_groups = value
        self._mark()

    @property
    def state(self) -> Any:
        """The base optimizer's state per parameter.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.MGDA(torch.optim.Adam([x]))
            >>> report = opt.step([x[0] ** 2, x[1] ** 2])
            >>> sorted(opt.state[x])
            ['exp_avg', 'exp_avg_sq', 'step']
        """
        return self.base.state

    @state.setter
    def state(self, value: Any) -> None:
        self.base.state = value

    @property
    def defaults(self) -> dict[str, Any]:
        """The base optimizer's default options.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.MGDA(torch.optim.SGD([x], lr=0.1))
            >>> opt.defaults["lr"]
            0.1
        """
        return self.base.defaults

    @defaults.setter
    def defaults(self, value: dict[str, Any]) -> None:
        self.base.defaults = value

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer.

        Args:
            param_group: a dict with ``params`` and options, as torch's optimizers take it.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.MGDA(torch.optim.SGD([x], lr=0.1))
            >>> opt.add_param_group({"params": [torch.nn.Parameter(torch.ones(3))], "lr": 0.01})
            >>> [group["lr"] for group in opt.param_groups]
            [0.1, 0.01]
        """
        self.base.add_param_group(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear ``.grad``; not needed between steps, since ``backward`` overwrites it.

        Args:
            set_to_none: make ``.grad`` None, else zeros, as torch's optimizers do.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.MGDA(torch.optim.SGD([x], lr=0.1))
            >>> report = opt.backward([x[0] ** 2, x[1] ** 2])
            >>> opt.zero_grad()
            >>> x.grad is None
            True
        """
        clear_gradients(self.base, set_to_none)

    # --------------------------------------------------------------------------------- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return the base optimizer's state, with ours as a JSON string in its first group.

        One string there, because distributed checkpoints drop extra keys at the top and load only
        the leaves that a fresh optimizer already has; at the top where a base saves no groups.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.LinearScalarization(torch.optim.SGD([x], lr=0.1), [0.75, 0.25])
            >>> json.loads(opt.state_dict()["param_groups"][0]["pyfront"])["preference"]
            [0.75, 0.25]
        """
        self._mark()
        state: dict[str, Any] = self.base.state_dict()
        text = json.dumps(self.memory_to_save())
        groups = state.get("param_groups")
        if groups is None:
            return {**state, MEMORY: text}
        for number, group in enumerate(groups):
            if number == 0 or MEMORY in group:
                group[MEMORY] = text
        return state

    def _mark(self) -> None:
        """Put an empty string where a checkpoint keeps our memory.

        Distributed checkpoints that are flat take the keys of a group from the groups in use.
        """
        if groups := self.base.param_groups:
            groups[0].setdefault(MEMORY, "")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the base and us; a checkpoint of the bare base leaves our state as it is.

        Raises:
            ValueError: a checkpoint of another method, or one that the method cannot take; nothing
                has been loaded.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.LinearScalarization(torch.optim.SGD([x], lr=0.1), [0.75, 0.25])
            >>> saved = opt.state_dict()
            >>> opt.preference = [0.5, 0.5]
            >>> opt.load_state_dict(saved)
            >>> opt.preference.tolist()
            [0.75, 0.25]
        """
        texts = (part.get(MEMORY) for part in (state_dict, *state_dict.get("param_groups", ())))
        saved = next((text for text in texts if isinstance(text, str) and text), None)
        memory = None if saved is None else json.loads(saved)
        if memory is not None:
            if memory["method"] != self.memory["method"]:
                raise ValueError(
                    f"state_dict: it was saved by {memory['method']}, not by "
                    f"{self.memory['method']}"
                )
            self.check_memory(memory)
        if MEMORY in state_dict:
            state_dict = {name: value for name, value in state_dict.items() if name != MEMORY}
        self.base.load_state_dict(state_dict)
        for group in self.base.param_groups:
            group.pop(MEMORY, None)
        self._mark()
        if memory is not None:
            self.memory_loaded(memory)

    def __getstate__(self) -> dict[str, Any]:
        # a scheduler sets `step` on the instance, bound to the original: a copy must not keep it
        return {name: value for name, value in self.__dict__.items() if name != "step"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def _check_base(name: str, base: Any) -> None:
    kind = type(base).__name__
    if not isinstance(base, torch.optim.Optimizer):
        raise TypeError(f"{name}: expected a torch.optim.Optimizer, got {kind}")
    if isinstance(base, DelegatingOptimizer):
        raise TypeError(f"{name}: expected a plain optimizer, got {kind}")
    if not isinstance(getattr(base, "param_groups", None), list):
        raise TypeError(f"{name}: {kind} has no list of param_groups to work on")
    if needs_closure(base) and not has_two_phases(base):
        raise TypeError(
            f"{name}: {kind} wants a closure in every step, to compute losses and gradients "
            "itself, which pyfront's step cannot give it; use another base"
        )


def _delegated(name: str) -> Callable[..., Any]:
    def register(self: DelegatingOptimizer, hook: Callable[..., Any], **options: Any) -> Any:
        def with_wrapper(_: torch.optim.Optimizer, *args: Any) -> Any:
            return hook(self, *args)

        return getattr(self.base, name)(with_wrapper, **options)

    register.__name__ = name
    register.__doc__ = f"``{name}`` of the base optimizer; the hook is given this optimizer."
    return register


for _hook in HOOKS:
    setattr(DelegatingOptimizer, _hook, _delegated(_hook))
