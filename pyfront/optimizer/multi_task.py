"""The ``backward`` and ``step`` that every method shares."""

from __future__ import annotations

from typing import Any, overload

import torch
from torch import Tensor

from pyfront._utils.torch_private import outside_compile
from pyfront._utils.weakly import Weakly
from pyfront.gradients.features import Features
from pyfront.optimizer.agreement import Share
from pyfront.optimizer.backward import BackwardPass, Closure
from pyfront.optimizer.bases import refuse_two_phases
from pyfront.optimizer.batch import Collected
from pyfront.optimizer.closures import evaluated
from pyfront.optimizer.loop import check_gradients, refuse_what_needs_losses
from pyfront.optimizer.names import (
    NamedLosses,
    NamedVectors,
    call_by_position,
    errors_by_name,
)
from pyfront.optimizer.rises import measured, rise_metrics
from pyfront.optimizer.row_passes import row_passes
from pyfront.optimizer.scalarize import scalar_of, value_without_graph
from pyfront.optimizer.shared import ForStep
from pyfront.optimizer.step import Step
from pyfront.report import Report

__all__ = ["Closure", "MultiTaskOptimizer"]


class MultiTaskOptimizer(BackwardPass):
    """Wraps a base optimizer and gives it the direction that a method decides on.

    ``backward(losses)`` fills ``.grad`` with d = Σ_j w_j g_j and updates nothing; ``step(losses)``
    does that and then calls the base optimizer's step. Learning-rate schedulers, gradient scalers
    and checkpoints work on this object as on the base. Options are attributes, and are checked
    whenever they are assigned.

    A method is a subclass that implements :meth:`decide`;
    :class:`~pyfront.optimizer.method.Method` says what else it may say.

    Args:
        base: any optimizer but LBFGS, or a list of them; their parameters are the ones that count.
        preference: r, [m] or a dict by the names of the tasks, or None for methods without one.
        engine: ``"auto"`` looks at the graph of each step and takes ``"grad"`` (one
            ``torch.autograd.grad`` per loss) or, for reentrant checkpoints, ``"steal"`` (one
            ``backward``; other leaves collect ``.grad`` too). ``"columns"`` keeps no m gradients.
        gramian_over: the parameters that C is over: ``"all"``, the ``"shared"`` ones that two
            losses reach, or these, such as ``model.trunk.parameters()``.
        task_gradients: what a parameter that one loss alone reaches gets: ``"weighted"``, w_j g_j,
            or its ``"own"`` gradient g_j.
        scale: ``"mean"`` leaves w as the method gives it (it sums to 1 for most); ``"sum"``
            multiplies w by m, the step of ``sum(losses).backward()``.
        weight_smoothing: s in [0, 1): the applied weights are the running average
            w̄ ← s w̄ + (1 − s) w. 0 is the papers' own; 0.98 is recommended for EPO on mini-batches.
            The guarantees of single steps hold for 0 alone.
        every: decide on new weights every so many steps, ≥ 1, and keep them between, where a step
            costs one backward pass.
        upper_bound: decide on the Gramian of ∂l_j/∂z at the ``features`` z that each step is given,
            in place of C. A step then costs about one backward pass in all, and the weights are
            those of an upper bound: ‖Jᵀw‖ ≤ ‖∂z/∂θ‖ ‖Σ_j w_j ∂l_j/∂z‖ (Sener and Koltun 2018,
            MGDA-UB). Approximate: no guarantee that needs C holds.
        process_group: the processes that hold replicas of the model, with DistributedDataParallel
            around it or not: losses and gradients are averaged over them. False: this process
            trains a model of its own. DTensor parameters (``fully_shard``, ``parallelize_module``)
            need None. A copy or a pickle of the optimizer has None.
        track_rises: measure after each step which losses rise to first order under the base's own
            update Δθ, ⟨g_j, Δθ⟩ > 0, for ``metrics()``. Every method then takes m backward passes,
            and m gradients and a copy of the parameters stay until the step.

    Raises:
        TypeError, ValueError: an argument out of its range; it is named.

    Shared and task-specific parameters are told apart by the group key ``role="task"`` where any
    group has a role, else by the losses: a parameter that two tasks reach, in one step or in
    different ones, is shared from then on; :meth:`detect_roles` starts anew.

    Example:
        >>> import pyfront
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> base = torch.optim.SGD([x], lr=0.1)
        >>> opt = pyfront.LinearScalarization(base, [0.75, 0.25], every=2)
        >>> isinstance(opt, MultiTaskOptimizer), isinstance(opt, torch.optim.Optimizer)
        (True, True)
        >>> opt.step([x[0] ** 2, x[1] ** 2]).weights.tolist()
        [0.75, 0.25]
        >>> opt.every = 4  # options are attributes
    """

    def scalarize(
        self,
        losses: NamedLosses,
        *,
        preference: NamedVectors | None = None,
        fixed: Tensor | None = None,
        features: Features | None = None,
        scaler: torch.amp.GradScaler | None = None,
        share: Share | None = None,
    ) -> Tensor:
        """Decide now and return one scalar, Σ_j w_j l_j + fixed, whose gradient is the direction d.

        For loops that call ``backward`` themselves, as frameworks do: whatever they multiply the
        scalar by multiplies d, and several scalars before one :meth:`step` add their d, each with
        weights of its own (:meth:`accumulate` adds task gradients before one decision). As for any
        scalar, ``zero_grad()`` comes first. Each call is one decision and counts as
        :meth:`backward` does; what a method trains waits for the step.

        The passes are made here and the graph of the losses is freed; the scalar's own ``backward``
        makes none. It reaches the parameters of this optimizer alone. There are two exceptions,
        where the scalar is the weighted sum of the losses with their graph: decisions that need no
        task gradient, and parameters with tensor hooks, at one pass more.

        Where gradients are disabled, as in validation, nothing is decided: the value is at the
        weights that each task had when it had data last, or the mean before the first report.

        Args:
            losses, preference, fixed, features, share: as for :meth:`backward`; no callable.
            scaler: a gradient scaler whose scale keeps 16-bit gradients from underflow in the
                passes. d does not contain it: scale the scalar, ``scaler.scale(scalar)``.

        Returns:
            A scalar on the losses' device, in their dtype but float32 at least. Its ``backward``
            can be called once, or more often with ``retain_graph=True``, not differentiated again.

        Raises:
            ValueError, TypeError: as for :meth:`backward`; also after ``backward(losses)`` that no
                step has followed, and for own gradients of parameters with tensor hooks.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.LinearScalarization(torch.optim.SGD([x], lr=0.1), [0.75, 0.25])
            >>> loss = opt.scalarize([x[0] ** 2, x[1] ** 2])
            >>> loss.backward()
            >>> loss.item(), x.grad.tolist()
            (1.75, [1.5, 1.0])
            >>> opt.step()
        """
        return self._scalarized(
            losses,
            preference=preference,
            fixed=fixed,
            features=features,
            scaler=scaler,
            share=share,
        )

    @outside_compile
    def _scalarized(self, losses: Any, **given: Any) -> Tensor:
        if callable(losses) and not isinstance(losses, Tensor):
            raise TypeError("losses: scalarize() takes the losses, step() takes a closure")
        tasks = self._known_tasks()
        if not torch.is_grad_enabled():
            call = call_by_position(losses, tasks, self.num_tasks, **given)
            return value_without_graph(call.losses, self._shared, call.fixed)
        scalars = self._shared.scalars
        processes = self.processes()
        with processes.entering():
            call = call_by_position(losses, tasks, self.num_tasks, **given)
        with self._shared.one_decision("scalarize"), errors_by_name(call.tasks):
            with processes.entering():
                scalars.refuse_after_backward()
                step = Step(self, call, processes, overwrites=False)
            step = step.meet()
            scalar, report = scalar_of(step, self._arrived)
            step.commit_decision(report)
            scalars.hand_out(self.memory.get("learned"))
        return scalar

    def _arrived(self) -> None:
        """Take note of a scalar's backward pass, and of what is to be learnt with the step."""
        scalars = self._shared.scalars
        scalars.arrive()
        if scalars.learned is not None:  # zero_grad() may have come between
            self.learn(**scalars.learned)

    @outside_compile
    def accumulate(
        self, losses: NamedLosses, *, scaler: torch.amp.GradScaler | None = None
    ) -> None:
        """Add the task gradients of a micro-batch to those of the next :meth:`backward`.

        The m gradients are summed and the decision is made on the sum, as if the micro-batches had
        been one batch: scale each micro-batch's losses by its share of it.

        Args:
            losses: as for :meth:`backward`, no callable; their graph is freed.
            scaler: as for :meth:`backward`.

        Raises:
            ValueError, TypeError: as for :meth:`backward`.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.LinearScalarization(torch.optim.SGD([x], lr=0.1), [0.5, 0.5])
            >>> opt.accumulate([x[0] ** 2 / 2, x[1] ** 2 / 2])
            >>> opt.step([x[0] ** 2 / 2, x[1] ** 2 / 2]).losses.tolist()
            [1.0, 4.0]
            >>> x.grad.tolist()
            [1.0, 2.0]
        """
        processes = self.processes()
        with processes.entering():
            call = call_by_position(losses, self._known_tasks(), self.num_tasks, scaler=scaler)
        with self._shared.one_decision("accumulate"), errors_by_name(call.tasks):
            with processes.entering():
                self._shared.scalars.refuse_before("accumulate")
                step = Step(self, call, processes, whole=False)
            step = step.meet()
            rows = row_passes(step, lambda row: row)  # averaged with the last ones
            self._shared.collected = Collected(
                rows,
                step.values,
                step.batch.unit,
                step.presence,
                Weakly(step.params),
                call.tasks,
            )

    @overload  # type: ignore[override]
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(
        self,
        closure: NamedLosses | Closure,
        *,
        preference: NamedVectors | None = None,
        fixed: Tensor | None = None,
        features: Features | None = None,
        **more: Any,
    ) -> Report: ...

    def step(self, closure: NamedLosses | Closure | None = None, **options: Any) -> Report | None:
        """Make one step of the base optimizer, after :meth:`backward` if there are losses.

        Args:
            closure: the losses; a callable that returns them, called with gradients enabled; or
                None: a step on the ``.grad`` that is there, as for a callable that returns None,
                or has called ``backward`` on a scalar of :meth:`scalarize`.
            preference, fixed, features: as for :meth:`backward`.
            **more: further keywords of the method's own ``backward``.

        Returns:
            The :class:`Report`, or None where no losses were given.

        Raises:
            TypeError: a ``scaler``, which goes to :meth:`backward`, or a base with two phases.
            ValueError: options without losses, or gradients that :meth:`accumulate` has collected
                and no losses.
            RuntimeError: ``.grad`` is still scaled, or another thread is in a call.

        Warns:
            UserWarning: once, where ``.grad`` was filled by something else than :meth:`backward`.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.MGDA(torch.optim.SGD([x], lr=0.1))
            >>> report = opt.step([x[0] ** 2, x[1] ** 2])
            >>> report.status, [round(w, 3) for w in report.weights.tolist()]
            ('ok', [0.8, 0.2])
            >>> report = opt.step(lambda: [x[0] ** 2, x[1] ** 2])  # a closure
        """
        if "scaler" in options:
            raise TypeError(
                "step: takes no scaler; call backward(losses, scaler=scaler), then "
                "scaler.step(opt) and scaler.update()"
            )
        refuse_two_phases(self.base)
        with self._shared.alone("step"):
            return self._step(closure, options)

    def _step(self, closure: Any, options: dict[str, Any]) -> Report | None:
        losses = evaluated(self, closure)
        report = None
        if losses is not None:
            with ForStep(self._shared):
                report = self.backward(losses, **options)
        else:
            refuse_what_needs_losses(options, self._shared.collected)
        check_gradients(self, decided=report is not None)
        self._shared.scalars.refuse_forgotten()
        with measured(self):
            self.base.step()
        self._shared.scalars.forget()
        self._shared.scaler = None
        self.take_learned()
        return report

    # ------------------------------------------------------------------------------ between steps

    def detect_roles(self) -> None:
        """Forget which parameters are task-specific; the next :meth:`backward` looks again.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.MGDA(torch.optim.SGD([x], lr=0.1))
            >>> opt.detect_roles()  # after layers have been shared or separated
        """
        self._shared.values.pop("owners", None)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear ``.grad``, what is to be learnt with it, and what :meth:`accumulate` collected."""
        with self._shared.alone("zero_grad"):
            super().zero_grad(set_to_none)
            self.memory = self.settled()
            self._shared.drop_gradients()

    def metrics(self) -> dict[str, float]:
        """Return the last report's numbers as a flat dict, and rises where they are tracked.

        Empty before the first step. With ``track_rises``, ``"change/0"``, … are ⟨g_j, Δθ⟩ of the
        last step's losses and its update Δθ, and ``"rising"`` is the share of steps so far at which
        one of them was > 0.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.MGDA(torch.optim.SGD([x], lr=0.1), track_rises=True)
            >>> opt.metrics()
            {}
            >>> report = opt.step([x[0] ** 2, x[1] ** 2])
            >>> sorted(opt.metrics())
            ['change/0', 'change/1', 'gap', 'loss/0', 'loss/1', 'rising', 'weight/0', 'weight/1']
            >>> opt.metrics()["rising"]
            0.0
        """
        return {} if self.report is None else {**self.report.metrics(), **rise_metrics(self)}
