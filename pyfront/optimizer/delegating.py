"""An optimizer that is another optimizer to everybody who looks at it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch

from pyfront._utils.arguments import FloatArray

__all__ = ["DelegatingOptimizer", "Memory"]

Memory: TypeAlias = dict[str, Any]

MEMORY = "pyfront"  # key of param_groups[0] under which our state travels with every checkpoint


class DelegatingOptimizer(torch.optim.Optimizer):
    """Delegates groups, state, hooks and checkpoints to a base optimizer, and owns none itself.

    Args:
        base: any optimizer but LBFGS.

    Raises:
        TypeError: ``base`` is no optimizer, is LBFGS, or delegates itself.
    """

    def __init__(self, base: torch.optim.Optimizer) -> None:
        # torch's own __init__ is not called: it would make a second set of groups, state and hooks
        self.check_base(base)
        self.base = base
        base.param_groups[0][MEMORY] = {"method": type(self).__name__}

    @staticmethod
    def check_base(base: torch.optim.Optimizer) -> None:
        """Raises a ``TypeError`` unless ``base`` can be wrapped."""
        if not isinstance(base, torch.optim.Optimizer):
            raise TypeError(f"base: expected a torch.optim.Optimizer, got {type(base).__name__}")
        if isinstance(base, DelegatingOptimizer):
            raise TypeError(f"base: expected a plain optimizer, got {type(base).__name__}")
        if isinstance(base, torch.optim.LBFGS):
            raise TypeError("base: LBFGS calls its closure several times a step; use another base")

    @property
    def memory(self) -> Memory:
        """Our own state, saved and restored with the base's: what JSON knows, with names as keys.

        Values are replaced and never changed in place, so that a shallow copy is a snapshot.
        """
        memory: Memory = self.base.param_groups[0][MEMORY]
        return memory

    @memory.setter
    def memory(self, value: Memory) -> None:
        self.base.param_groups[0][MEMORY] = value

    def recalled(self, name: str, default: FloatArray) -> FloatArray:
        """What our memory holds under ``name`` if it is as long as ``default``, else that."""
        kept = self.memory.get(name)
        return default if kept is None or len(kept) != default.size else np.array(kept)

    def learn(self, **entries: Any) -> None:
        """Entries of our memory that a method wants set when the step is taken, and not before."""
        self.memory["learned"] = entries

    def settled(self) -> Memory:
        """A copy of our memory without what waits for the step."""
        return {name: value for name, value in self.memory.items() if name != "learned"}

    def take_learned(self) -> None:
        """Sets what :meth:`learn` was given last: the step has been taken."""
        self.memory.update(self.memory.pop("learned", {}))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The base optimizer's parameter groups."""
        return self.base.param_groups

    @param_groups.setter
    def param_groups(self, value: list[dict[str, Any]]) -> None:
        self.base.param_groups = value

    @property
    def state(self) -> Any:
        """The base optimizer's state per parameter."""
        return self.base.state

    @state.setter
    def state(self, value: Any) -> None:
        self.base.state = value

    @property
    def defaults(self) -> dict[str, Any]:
        """The base optimizer's default options."""
        return self.base.defaults

    @defaults.setter
    def defaults(self, value: dict[str, Any]) -> None:
        self.base.defaults = value

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group to the base optimizer."""
        self.base.add_param_group(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears ``.grad``; not needed between steps, since ``backward`` overwrites it."""
        self.base.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state; our own is a JSON string inside its first group.

        One string, because distributed checkpoints drop extra keys at the top and load only the
        leaves that a fresh optimizer already has.
        """
        state = self.base.state_dict()
        state["param_groups"][0][MEMORY] = json.dumps(self.memory)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the base and us; a checkpoint of the bare base leaves our state as it is.

        Raises:
            ValueError: a checkpoint of another method, or one that the method cannot take; nothing
                has been loaded.
        """
        saved = state_dict["param_groups"][0].get(MEMORY)
        memory = json.loads(saved) if isinstance(saved, str) else saved or self.memory
        if memory["method"] != type(self).__name__:
            raise ValueError(
                f"state_dict: it was saved by {memory['method']}, not by {type(self).__name__}"
            )
        self.check_memory(memory)
        self.base.load_state_dict(state_dict)
        self.base.param_groups[0][MEMORY] = dict(memory)

    def check_memory(self, memory: Memory) -> None:
        """Raises a ``ValueError`` where the state of a checkpoint does not fit; any does here."""

    def __getstate__(self) -> dict[str, Any]:
        # a scheduler sets `step` on the instance, bound to the original: a copy must not keep it
        return {name: value for name, value in self.__dict__.items() if name != "step"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def _delegated(name: str) -> Callable[..., Any]:
    def register(self: DelegatingOptimizer, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.base, name)(*args, **kwargs)

    register.__name__ = name
    register.__doc__ = f"``{name}`` of the base optimizer."
    return register


for _hook in (
    "register_step_pre_hook",
    "register_step_post_hook",
    "register_state_dict_pre_hook",
    "register_state_dict_post_hook",
    "register_load_state_dict_pre_hook",
    "register_load_state_dict_post_hook",
):
    setattr(DelegatingOptimizer, _hook, _delegated(_hook))
