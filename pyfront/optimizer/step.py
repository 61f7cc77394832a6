"""One call of ``backward``: from losses to a decision and a direction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray
from pyfront.backend import cuda
from pyfront.backend.task_gradients import Row, TaskGradients, as_complex, as_real
from pyfront.distributed.processes import ALONE, Processes
from pyfront.gradients.engine import weighted_gradient
from pyfront.gradients.engines import keeps_rows
from pyfront.optimizer.agreement import meet, shares_of
from pyfront.optimizer.arithmetic import (
    Arithmetic,
    DecidesOnDevice,
    DeviceArithmetic,
    HostArithmetic,
    Squares,
)
from pyfront.optimizer.bases import refuse_direction
from pyfront.optimizer.batch import Collected, check_finite, gather
from pyfront.optimizer.call import Call
from pyfront.optimizer.column_pass import column_pass
from pyfront.optimizer.decision import observed
from pyfront.optimizer.direction import assign, combined
from pyfront.optimizer.graph_passes import engine_of, on_cuda, split_of, takes_one_pass
from pyfront.optimizer.loop import warn_scaled_by_hand
from pyfront.optimizer.method import Method
from pyfront.optimizer.product_pass import product_pass
from pyfront.optimizer.rises import KeptGradients, gradients_to_keep
from pyfront.optimizer.roles import ParameterValues, left_out, parameters_of
from pyfront.optimizer.row_passes import averaged_rows
from pyfront.optimizer.step_parts import (
    goal_of_all,
    goal_present,
    own_blocks,
    presence_of,
    remember_weights,
    second_of,
)
from pyfront.report import Report

__all__ = ["Step"]


class Step:
    """One call of ``backward``; everything that belongs to the call is here.

    Nothing but ``.grad`` changes before :meth:`commit`.

    Args:
        method: decides, and has the options and the memory.
        call: what the call was given.
        processes: those that train the model.
        whole: the losses are those of the whole batch; a micro-batch may be out of the domain.
        overwrites: the direction may be written into the memory of ``.grad``.

    Attributes:
        complex: one of the parameters is.
        targets: the parameters, or tensors in their place whose ``.grad`` is empty.
        batch: the losses, checked and scaled.
        presence: the tasks that have data, here or in micro-batches before. Whatever is of size m
            in a step is of these alone; what it commits is of all tasks.
        tasks: how many these are.
        values: the unscaled losses to trade off, then the fixed one, where the arithmetic keeps
            them; with those of micro-batches before.
        sound: every value that has been looked at is finite.
        goal_of_all: what the method decides towards: its preference, or the call's own.
        goal: the part of it that is of the tasks present.
        one_off: the goal is the call's own, so that no weights carry over.
        due: the method decides anew; otherwise the weights of an earlier step are kept.
        product: C w where the method needs that, [m].
    """

    def __init__(
        self,
        method: Method,
        call: Call,
        processes: Processes = ALONE,
        *,
        whole: bool = True,
        overwrites: bool = True,
    ) -> None:
        self.method = method
        self.call = call
        self.processes = processes
        self.whole = whole
        self.parameters = parameters_of(method.param_groups)
        self.params = [p for p in self.parameters if p.requires_grad]
        self.overwrites = overwrites
        targets = self.params if overwrites else [p.detach() for p in self.params]
        self.targets = processes.local(targets)
        self.complex = any([p.is_complex() for p in self.params])
        if not self.params:
            raise ValueError("base: no parameter of this optimizer requires a gradient")
        self.collected: Collected | None = method._shared.collected
        self.batch, plain = gather(call.losses, call.scaler, call.fixed, self.collected)
        if method.report is None and call.scaler is None and plain:
            given = call.losses
            warn_scaled_by_hand([given] if isinstance(given, Tensor) else plain)
        self.presence = presence_of(self)
        self.tasks = len(self.presence.places)
        self.arithmetic = self._arithmetic()
        self.goal_of_all = goal_of_all(self) if whole else None
        self.goal = goal_present(self)
        self.one_off = call.preference is not None
        self.sound = True
        self.values = self.arithmetic.values(plain, self.batch.names)
        if self.collected is not None:
            self.values = self.arithmetic.joined(
                self.collected.values_plus(self.values, self.batch.presence.places)
            )
        if isinstance(self.values, np.ndarray) and not processes.several:
            self.look(self.values)
        self.second = second_of(self)
        self.due = self._is_due()
        self.engine = engine_of(self)
        self.split = split_of(self)
        self.product: FloatArray | None = None
        self.owners: ParameterValues[int] | None = None  # the task that each parameter belongs to
        self.memory = method.settled()  # as it will be after the call
        self.kept: KeptGradients | None = None  # for a look at the base's step
        self.shares = shares_of(call.share, self.batch, self.collected is not None, processes)
        self.factors = [1.0] * len(self.batch.losses)  # W n_i / N here, for each loss
        self.without_data: list[int] = []

    def meet(self) -> Step:
        """Return the step on the losses of all processes; what is wrong on one is raised on all."""
        return meet(self) if self.processes.several else self

    # --------------------------------------------------------------------------------- the sequence

    def run(self) -> tuple[Report, Row]:
        """Return the decision, and the direction that is fit to be ``.grad``.

        Raises:
            TypeError: the base of a step does not take the direction, sparse or dense as it is.
        """
        if self.one_pass:
            report = self.decided(None)
            if self.method.needs == "products":
                direction, self.product = product_pass(self, report)
            else:
                direction = self.weighted_pass(report)
            report = self.arithmetic.checked(self, report, direction)
            self._refuse_direction(direction)
        elif self.engine.keeps_rows:
            report, direction = self._by_rows()
        else:
            report, direction = column_pass(self)
            self._refuse_direction(direction)
        if self.method.needs == "products":
            report = observed(self, report)
        return report, direction

    def commit(self, report: Report, direction: Row) -> Report:
        """Take over memory and direction, where alone anything changes; return the report."""
        for p in self.parameters:
            if not p.requires_grad:
                p.grad = None  # a frozen parameter must not move on an old direction
        assign(self.params, self.processes.placed(self.params, direction))
        return self.commit_decision(report)

    def commit_decision(self, report: Report) -> Report:
        """Take over memory, roles and report; ``.grad`` stays as it is."""
        method = self.method
        if not (self.one_off or method.keeps_weights):
            for name in ("weights", "age"):  # too old to go on from when the option is set again
                self.memory.pop(name, None)
        method.memory = self.memory
        if self.owners is not None:
            method._shared.values["owners"] = self.owners
        shared = method._shared
        shared.collected, shared.kept, shared.engine = None, self.kept, self.engine.name
        shared.scaler = self.call.scaler if self.overwrites else None
        report = report.for_all(*self.presence)
        remember_weights(shared, report, self.presence)
        if self.call.tasks is not None:
            method.memory["tasks"] = list(self.call.tasks)
            report.name_tasks(self.call.tasks)
        method.report = report
        if isinstance(method, DecidesOnDevice) and isinstance(self.values, np.ndarray):
            method.publish()
        return report

    def rows(self) -> list[Row]:
        """Return the task gradients, one backward pass each, with those of micro-batches before."""
        rows = averaged_rows(self)
        real = self.split is None and not self.complex
        return rows if real else [as_real(row) for row in rows]

    def _by_rows(self) -> tuple[Report, Row]:
        rows = self.rows()
        self.kept = gradients_to_keep(self, rows)
        gradients = TaskGradients(rows)
        self._refuse_layout(gradients.sparse_blocks())  # before d is written
        own = own_blocks(self, gradients.rows[: self.tasks])
        outside = left_out(self.method.gramian_over, own, self.parameters)
        if self.method.upper_bound:
            outside = list(range(len(self.params)))
        squares = self.arithmetic.squares(gradients, outside)
        report = self.decided(squares)
        weights = self._with_fixed(self.arithmetic.weights(report, gradients))
        plain = own if self.method.task_gradients == "own" else None
        direction = combined(
            gradients,
            weights,
            self.targets,
            plain,
            self.split,
            self.call.retain_graph,
            self.processes,
        )
        direction = as_complex(direction, self.params) if self.complex else direction
        if self.split is not None and self.split.bound:  # of the trunk no row has told
            self._refuse_direction(direction)
        if self.split is None and self.arithmetic.cannot_overflow(weights, squares.norms):
            return report, direction
        return self.arithmetic.checked(self, report, direction), direction

    def _refuse_direction(self, direction: Row) -> None:
        self._refuse_layout([None if d is None else d.is_sparse for d in direction])

    def _refuse_layout(self, sparse: Sequence[bool | None]) -> None:
        if self.method._shared.for_step:  # else the caller may still change the direction
            refuse_direction(self.method.base, self.params, sparse)

    def weighted_pass(self, report: Report) -> Row:
        """Return Σ_j w_j g_j with the fixed loss by one backward pass."""
        weights = self.weights_with_fixed(report).tolist()
        terms = [
            (loss, w)
            for task, (loss, w) in enumerate(zip(self.batch.losses, weights, strict=True))
            if task not in self.without_data
        ]

        def one_pass() -> Row:
            if not terms:
                return [None] * len(self.params)
            return weighted_gradient(
                [loss for loss, _ in terms],
                [w for _, w in terms],
                self.params,
                self.engine,
                self.call.retain_graph,
                self.arithmetic.poison(self),
            )

        return self.averaged(one_pass, [loss for loss, _ in terms])

    def averaged(self, one_pass: Callable[[], Row], roots: Sequence[Tensor]) -> Row:
        """Return the mean over the processes of what one pass, from these losses, gives."""
        return self.processes.averaged(lambda send: [send(one_pass())], 1, [roots])[0]

    def decided(self, squares: Squares | None) -> Report:
        """Return the method's decision, with the same weights on all processes."""
        report = self.arithmetic.decide(self, squares)
        if not self.processes.several:
            return report
        same = self.processes.same_weights(report.weights.numpy())
        return replace(report, weights=torch.from_numpy(same))

    @property
    def one_pass(self) -> bool:
        """Whether the direction takes one backward pass, and no task gradient is needed."""
        return self.sound and takes_one_pass(
            self.method,
            collected=self.collected is not None,
            due=self.due,
            sharded=self.processes.sharded,
        )

    @property
    def learns(self) -> bool:
        """Whether the step moves the weights of a method that needs products."""
        return self.due and not self.one_off

    # --------------------------------------------------------------------------------- the decision

    def look(self, values: FloatArray) -> None:
        """Take the losses on the host and check them."""
        method, presence = self.method, self.presence
        self.values = values
        self.sound &= check_finite(values, presence.places, self.batch.scaled)
        if self.sound and self.whole:
            with method.drafting(method.memory_among(method.memory, presence), presence):
                method.check_losses(values[: self.tasks])

    def decides_on_device(self, c: Tensor | None) -> bool:
        """Return whether the decision can be made where C is."""
        method = self.method
        if not isinstance(method, DecidesOnDevice) or not method.decides_on_device:
            return False
        if method.keeps_weights:  # on the host
            return False
        if method.per_task and not self.presence.complete:  # so is what waits for absent tasks
            return False
        return c is None or method.weights_solved_for(len(c), self.goal) <= cuda.most_weights(
            c.device
        )

    def decider(self) -> DecidesOnDevice:
        """Return the method as one that decides on a device."""
        assert isinstance(self.method, DecidesOnDevice)
        return self.method

    # ------------------------------------------------------------------------------------ the parts

    def _arithmetic(self) -> Arithmetic:
        if not self.batch.losses:  # the last micro-batch may have no data at all
            before = self.collected is not None and isinstance(self.collected.values, Tensor)
            return DeviceArithmetic() if before else HostArithmetic(self.processes)
        on_device = on_cuda(self.batch.losses[0], self.params) and keeps_rows(self.method.engine)
        if self.processes.several or not on_device:
            return HostArithmetic(self.processes)
        if cuda.capturing(self.batch.losses[0].device) and self.method.report is None:
            raise RuntimeError(
                "a CUDA graph of the first step would set what the optimizers keep to its first "
                "value at every replay: make a few steps before the capture"
            )
        if self.method.needs == "gramian" or self.decides_on_device(None):
            return DeviceArithmetic()
        return HostArithmetic()

    def _is_due(self) -> bool:
        method, kept = self.method, []
        if "weights" in method.memory:
            kept = method.memory_among(method.memory, self.presence).get("weights", [])
        known = len(kept) == self.tasks > 0 and not any(map(math.isnan, kept))
        return not known or self.one_off or method.memory["age"] % method.every == 0

    def weights_with_fixed(self, report: Report) -> FloatArray | Tensor:
        """Return the weights of a report, and 1 for the fixed loss if there is one."""
        return self._with_fixed(self.arithmetic.weights(report, None))

    def _with_fixed(self, weights: FloatArray | Tensor) -> FloatArray | Tensor:
        fixed = len(self.batch.losses) - self.batch.tasks
        if not fixed:
            return weights
        if isinstance(weights, Tensor):
            return torch.cat([weights, weights.new_ones(fixed)])
        return np.append(weights, [1.0] * fixed)
