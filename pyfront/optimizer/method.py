"""What a method has to say: the contract, its options, its preference and its memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Unpack, cast, get_args

import numpy as np

from pyfront._utils.arguments import FloatArray, VectorLike, VectorsLike, require
from pyfront.distributed.choose import processes_of
from pyfront.distributed.processes import Processes
from pyfront.optimizer.bases import Base, name_of
from pyfront.optimizer.common_options import Needs
from pyfront.optimizer.delegating import Memory
from pyfront.optimizer.explain import explanation
from pyfront.optimizer.names import NamedVector, errors_by_name
from pyfront.optimizer.options import CommonOptions
from pyfront.optimizer.preference import HasPreference
from pyfront.optimizer.presence import Presence
from pyfront.optimizer.product_pass import LearnsFromProducts
from pyfront.optimizer.roles import (
    ParameterValues,
    distinct_parameters,
    parameters_of,
)
from pyfront.report import Report

__all__ = ["Method", "Needs", "require_one_each"]


class Method(HasPreference, ABC):
    """The contract of a method, on top of the optimizer that it wraps.

    A method implements :meth:`decide`. It may also refuse losses in :meth:`check_losses`, keep
    state in ``memory``, and set these class attributes:

    - ``needs``: the costliest thing that it decides on, ``"losses"``, ``"gramian"`` or
      ``"products"``;
    - ``preference_domain``: ``"none"``, ``"nonnegative"``, ``"positive"``, or ``"optional"``, which
      is positive where there is one;
    - ``counts_one_off_calls``: whether the memory goes on through calls with a goal of their own;
    - ``per_task``: the entries of the memory that hold one value per task, as a list or a dict of
      lists, and what stands for the value of a task that starts later than others.

    A decision is made on the tasks that have data: ``losses``, C, the goal and ``per_task`` entries
    are of these alone, and what the memory holds of the others stays as it is. Options with one
    value per task are restricted by :meth:`among`.

    Args:
        base: any optimizer but LBFGS, or a list of them; their parameters are the ones that count.
        preference: r, [m] or by the names of the tasks, or None for methods without one.
        **options: see :class:`~pyfront.MultiTaskOptimizer`.
    """

    needs: ClassVar[Needs] = "gramian"
    counts_one_off_calls: ClassVar[bool] = False  # whether calls with a goal of their own are kept

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.needs not in get_args(Needs):
            raise TypeError(
                f"{cls.__name__}.needs = {cls.needs!r}: must be one of "
                f"{', '.join(map(repr, get_args(Needs)))}"
            )
        if cls.needs == "products" and not issubclass(cls, LearnsFromProducts):
            raise TypeError(f"{cls.__name__}: a method that needs products has to observe() them")

    def __init__(
        self,
        base: Base,
        preference: NamedVector | None = None,
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(base)
        if preference is not None or self.preference_domain not in ("none", "optional"):
            values, tasks = self._by_position(preference)
            with errors_by_name(tasks):
                r = self.checked_preference(cast(VectorLike, values))
            self.memory["preference"] = r.tolist()
            if tasks is not None:
                self.memory["tasks"] = list(tasks)
        self.set_options(options)

    # --------------------------------------------------------------------- what a method has to say

    @abstractmethod
    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return a :class:`Report` with the weights for this step.

        Args:
            losses: l, [m] float64, finite, as :meth:`check_losses` lets them pass.
            gramian: C, [m, m] float64, finite; None where ``needs`` does not ask for it.
            preference: what :meth:`goal` returned.

        The weights must be [m] float64 on the CPU and finite. State is read from and written to
        ``memory``: values that JSON knows, replaced and never changed in place.

        Example:
            >>> import pyfront
            >>> class Inverse(pyfront.MultiTaskOptimizer):
            ...     needs = "losses"
            ...
            ...     def decide(self, losses, gramian, preference):
            ...         return Report(weights=torch.from_numpy(1 / losses))
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> Inverse(torch.optim.SGD([x], lr=0.1)).step([x[0] ** 2, x[1] ** 2]).weights.tolist()
            [1.0, 0.25]
        """

    def check_tasks(self, tasks: int) -> None:
        """Raise a ``ValueError`` unless the method can decide on so many ``tasks``, None included.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.UncertaintyWeighting(
            ...     torch.optim.SGD([x], lr=0.1), 2, likelihood="regression"
            ... )
            >>> opt.check_tasks(3)
            Traceback (most recent call last):
                ...
            ValueError: losses: expected 2 as in num_tasks, got 3
        """
        return None  # most methods take any number

    def check_losses(self, losses: FloatArray) -> None:
        """Raise a ``ValueError`` that names the first loss on which the method is not defined.

        Losses are those of the tasks present; :meth:`require_losses` names them by their places.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.EPO(torch.optim.SGD([x], lr=0.1), [0.5, 0.5])
            >>> opt.check_losses(np.array([1.0, -0.5]))  # doctest: +ELLIPSIS
            Traceback (most recent call last):
                ...
            ValueError: losses[1] = -0.5: must be finite and ≥ 0; ...
        """
        self.require_losses(losses)

    def require_losses(self, losses: FloatArray, **bounds: Any) -> None:
        """Raise as :func:`pyfront._utils.arguments.require` does, with the places of the tasks.

        Args:
            losses: l, [m] float64.
            **bounds: ``above``, ``lowest`` or ``below``, and a ``hint`` that ends the message.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.MGDA(torch.optim.SGD([x], lr=0.1))
            >>> opt.require_losses(np.array([1.0, 0.0]), above=0.0)
            Traceback (most recent call last):
                ...
            ValueError: losses[1] = 0: must be finite and > 0
        """
        places = None if self.present is None else self.present.places
        require("losses", losses, places=places, **bounds)

    def goal(self, given: VectorsLike | None, tasks: int) -> FloatArray | None:
        """Return what a step decides towards: the preference of this call, or the optimizer's own.

        Args:
            given: what the call was given, or None.
            tasks: the number of losses.

        Raises:
            TypeError, ValueError: a preference that does not fit the method or the losses.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.LinearScalarization(torch.optim.SGD([x], lr=0.1), [0.75, 0.25])
            >>> opt.goal(None, 2).tolist(), opt.goal([0.5, 0.5], 2).tolist()
            ([0.75, 0.25], [0.5, 0.5])
        """
        own = self.memory.get("preference")
        if given is not None:
            r = self.checked_preference(given)
            require_one_each(r.size, tasks)
        elif own is not None:
            r = np.array(own)
        else:
            return None
        if r.size != tasks:
            raise ValueError(f"losses: expected {r.size}, one per entry of preference, got {tasks}")
        return r

    def goal_among(self, goal: FloatArray, presence: Presence) -> FloatArray:
        """Return the goal for the tasks of ``presence``, from that for all tasks.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.LinearScalarization(torch.optim.SGD([x], lr=0.1), [0.75, 0.25])
            >>> opt.goal_among(np.array([0.5, 0.25, 0.25]), Presence([0, 2], 3)).tolist()
            [0.5, 0.25]
        """
        return goal[presence.places]

    def first_weights(self, preference: FloatArray | None) -> FloatArray | None:
        """Return where the running average of ``weight_smoothing`` begins; None: at its first w.

        Args:
            preference: what :meth:`goal` returned, for the tasks present.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.EPO(torch.optim.SGD([x], lr=0.1), [3.0, 1.0])
            >>> opt.first_weights(np.array([3.0, 1.0])).tolist()
            [0.75, 0.25]
        """
        return None

    def status_between_decisions(self) -> str:
        """Return the status of a step that keeps the weights of an earlier one.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.LinearScalarization(torch.optim.SGD([x], lr=0.1), [0.75, 0.25])
            >>> opt.status_between_decisions()
            'ok'
        """
        return "ok"

    def __repr__(self) -> str:
        preference = "" if self.preference is None else f", preference={self.preference.tolist()}"
        return f"{type(self).__name__}({name_of(self.base)}{preference})"

    def explain(self) -> str:
        """Return what the optimizer knows of itself, in words, a line per subject.

        Tasks, parameters and their roles, the engine, what C is over, how many backward passes the
        next step takes and why, the task gradients that it holds, and what is kept between steps.
        Before the first step it says what is not known yet. Nothing is computed.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.EPO(torch.optim.SGD([x], lr=0.1), {"segmentation": 0.7, "depth": 0.3})
            >>> report = opt.step({"segmentation": x[0] ** 2, "depth": x[1] ** 2})
            >>> print(opt.explain())
            EPO(SGD, preference=[0.7, 0.3])
              tasks: 2 (segmentation, depth)
              parameters: 2 numbers in 1 tensor, 8 B
              roles: not looked at, no option asks for them; pyfront.diagnose shows them
              engine: grad, chosen from the graph of the last step
              Gramian: over all parameters
              next step: 2 backward passes, for the Gramian that EPO decides on
              memory: 2 task gradients, at most 16 B, while the step is decided
              kept between steps: nothing
        """
        return explanation(self)

    def processes(self) -> Processes:
        """Return the processes that train this optimizer's model."""
        return processes_of(self.param_groups, self.process_group, self.base)

    # ------------------------------------------------------------------------------------- memory

    def fresh(self) -> Memory:
        """Return the memory of an optimizer that has made no step, with our preference."""
        kept = ("method", "preference", "tasks")
        return {name: self.memory[name] for name in kept if name in self.memory}

    def memory_to_save(self) -> Memory:
        """Return the memory with what is known of the parameters' roles, by position."""
        owners: ParameterValues[int] | None = self._shared.values.get("owners")
        if owners is None:
            return self.memory
        return {**self.memory, "owners": owners.of(distinct_parameters(self.param_groups))}

    def memory_loaded(self, memory: Memory) -> None:
        """Take over memory and roles of a checkpoint."""
        self._shared.values.pop("owners", None)
        self._shared.values.pop("compared", None)  # the model has been loaded too
        if (owners := memory.pop("owners", None)) is not None:
            self._shared.values["owners"] = ParameterValues(
                owners, distinct_parameters(self.param_groups)
            )
        if (tasks := self._known_tasks()) is not None:
            memory.setdefault("tasks", list(tasks))
        super().memory_loaded(memory)

    def check_memory(self, memory: Memory) -> None:
        """Raise unless a checkpoint has our tasks and a preference as long as ours."""
        super().check_memory(memory)
        saved_tasks, tasks = memory.get("tasks"), self._known_tasks()
        if tasks is not None and saved_tasks is not None and (*saved_tasks,) != tasks:
            raise ValueError(f"state_dict: its tasks are {saved_tasks}, expected {[*tasks]}")
        ours, saved = self.memory.get("preference"), memory.get("preference")
        if ours is not None and saved is not None and len(saved) != len(ours):
            raise ValueError(
                f"state_dict: its preference has {len(saved)} entries, expected {len(ours)}"
            )

    def __getstate__(self) -> dict[str, Any]:
        for kept in (self.gramian_over, self._shared.values.get("owners")):
            if isinstance(kept, ParameterValues):
                kept.rebase(parameters_of(self.param_groups))
        return super().__getstate__()


def require_one_each(entries: int, losses: int) -> None:
    """Raise unless the preference of one call has as many entries as there are losses."""
    if entries != losses:
        raise ValueError(
            f"preference: has {entries} entries for {losses} losses, expected one for each"
        )
