"""The one backward() and step() that every method shares."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from pyfront._utils.arguments import (
    FloatArray,
    VectorLike,
    VectorsLike,
    choice,
    integer,
    number,
    require,
)
from pyfront.backend.task_gradients import Row, TaskGradients, assign
from pyfront.gradients import engines as grad
from pyfront.gradients.engines import Engine
from pyfront.gradients.features import Features, Split
from pyfront.optimizer import device_step
from pyfront.optimizer.batch import (
    Accumulated,
    Batch,
    Losses,
    all_finite,
    combined,
    finite_gramian,
    gather,
    task_rows,
)
from pyfront.optimizer.delegating import Memory
from pyfront.optimizer.preferring import PreferringOptimizer
from pyfront.optimizer.roles import (
    GramianOver,
    as_gramian_over,
    left_out,
    own_blocks,
    task_specific,
)
from pyfront.report import Report

__all__ = ["MultiTaskOptimizer"]


class MultiTaskOptimizer(PreferringOptimizer):
    """Wraps a base optimizer and gives it the direction that a method decides on.

    ``backward(losses)`` fills ``.grad`` with d = Σ_j w_j g_j and updates nothing; ``step(losses)``
    does that and then calls the base optimizer's step. Learning-rate schedulers, gradient scalers
    and checkpoints work on this object as on the base.

    Args:
        base: any optimizer but LBFGS; its parameters are the ones that count.
        preference: r, [m], or None for methods without one.
        engine: ``"grad"`` (one ``torch.autograd.grad`` per loss), ``"steal"`` (one ``backward`` per
            loss, for reentrant checkpoints; leaves outside the optimizer then collect ``.grad``
            too) or ``"auto"``, which looks at the graph of the first step.
        gramian_over: the parameters that C is over: ``"all"``, the ``"shared"`` ones that two
            losses reach, or these, such as ``model.trunk.parameters()``.
        task_gradients: what a parameter that one loss alone reaches gets: ``"weighted"``, w_j g_j,
            or its ``"own"`` gradient g_j.
        scale: ``"mean"`` leaves w as the method gives it (it sums to 1 for most); ``"sum"``
            multiplies w by m, the step of ``sum(losses).backward()``.
        weight_smoothing: s in [0, 1): the applied weights are the running average
            w̄ ← s w̄ + (1 − s) w. 0 is the papers' own; 0.9 is recommended for mini-batches. The
            guarantees of single steps hold for 0 alone.
        every: decide on new weights every so many steps and keep them between, where a step costs
            one backward pass.
        upper_bound: decide on the Gramian of ∂l_j/∂z at the ``features`` z that each step is given,
            in place of C. A step then costs about one backward pass in all, and the weights are
            those of an upper bound: ‖Jᵀw‖ ≤ ‖∂z/∂θ‖ ‖Σ_j w_j ∂l_j/∂z‖ (Sener and Koltun 2018,
            MGDA-UB). Approximate: no guarantee that needs C holds.

    Raises:
        TypeError, ValueError: an argument out of its range; it is named.

    Shared and task-specific parameters are told apart by the group key ``role="task"`` where any
    group has a role, else by the losses of the first step, until :meth:`detect_roles`.
    """

    needs: ClassVar[Literal["losses", "gramian", "products"]] = "gramian"

    def __init__(
        self,
        base: torch.optim.Optimizer,
        preference: VectorLike | None = None,
        *,
        engine: Engine = "auto",
        gramian_over: GramianOver = "all",
        task_gradients: Literal["weighted", "own"] = "weighted",
        scale: Literal["mean", "sum"] = "mean",
        weight_smoothing: float = 0.0,
        every: int = 1,
        upper_bound: bool = False,
    ) -> None:
        self.check_base(base)  # first, so that nothing has changed when an argument is refused
        choice("engine", engine, ("auto", "grad", "steal"))
        choice("task_gradients", task_gradients, ("weighted", "own"))
        choice("scale", scale, ("mean", "sum"))
        smoothing = number("weight_smoothing", weight_smoothing, lowest=0.0, below=1.0)
        every = integer("every", every, 1)
        over = as_gramian_over(gramian_over, base.param_groups)
        if upper_bound and self.needs != "gramian":
            raise ValueError(f"upper_bound: {type(self).__name__} does not decide on a Gramian")
        if upper_bound and over != "all":
            raise ValueError("gramian_over: with upper_bound the Gramian is over the features")
        super().__init__(base, preference)
        self.engine: Engine = engine
        self.gramian_over = over
        self.task_gradients = task_gradients
        self.scale = scale
        self.weight_smoothing = smoothing
        self.every = every
        self.upper_bound = bool(upper_bound)
        self.report: Report | None = None
        self._accumulated: Accumulated | None = None

    # --------------------------------------------------------------------- what a method has to say

    @abstractmethod
    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """The method: from losses [m], Gramian [m, m] and preference [m] to weights [m]."""

    def check_losses(self, losses: FloatArray) -> None:
        """Raises a ``ValueError`` that names the first loss on which the method is not defined."""
        require("losses", losses)

    # ------------------------------------------------------------------------------- the two phases

    @_disable_dynamo  # imports dynamo when it is called, torch._dynamo.disable when we are
    def backward(
        self,
        losses: Losses,
        *,
        preference: VectorsLike | None = None,
        scaler: torch.amp.GradScaler | None = None,
        fixed: Tensor | None = None,
        features: Features | None = None,
        retain_graph: bool = False,
    ) -> Report:
        """Fills ``.grad`` with the direction Σ_j w_j g_j and updates no parameter.

        Running averages, phases and weights that follow the exact ones count every call; what a
        method trains (log-variances, GradNorm's weights) waits for the step. ``.grad`` is
        overwritten, not added to; a parameter that no loss reaches gets None. Tensor hooks run;
        post-accumulate hooks and module full-backward hooks run where a step costs one backward
        pass, and under ``engine="steal"``.

        Args:
            losses: m scalar tensors, or a 1-D tensor [m], with a graph.
            preference: r for this call, [m], or [K, m] where the method takes several; decided on
                as at a first step, and forgotten. The optimizer's own where None.
            scaler: a gradient scaler: the losses are scaled by it, the method decides on unscaled
                numbers, and ``.grad`` is left scaled for ``scaler.unscale_`` and ``scaler.step``.
                Losses or gradients that are not finite then do not raise: ``.grad`` is made NaN, so
                that the scaler skips the step, and the status is ``"nonfinite"``.
            fixed: a further scalar loss that is added with weight 1 and not traded off.
            features: z, the tensor or tensors that the trunk returned and through which alone the
                losses depend on it: gradients are taken back to z and on from there, exactly the
                same; with ``upper_bound`` it is required. Not with ``engine="steal"``.
            retain_graph: keep the graph of the losses.

        Returns:
            The :class:`Report` of what was decided; it is also ``self.report``.

        Raises:
            ValueError, TypeError: losses, preference or gradients that cannot be used; the task and
                the value are named, and parameters, ``.grad`` and state are as they were.
        """
        if self.upper_bound and features is None:
            raise ValueError("features: upper_bound needs the tensors that the trunk returned")
        if features is None and device_step.is_for(self, losses, scaler is not None):
            return device_step.backward(self, losses, preference, fixed, retain_graph)
        batch = self._batch(losses, preference, scaler, fixed)
        params = self._params()
        split = self._split(batch, features, params)
        one_backward = self._accumulated is None and self.task_gradients == "weighted"
        if self.needs == "products" and self.gramian_over != "all":
            one_backward = False  # a product is over all parameters
        roles: list[bool | None] | None = None
        if one_backward and batch.sound and not (self.needs == "gramian" and batch.due):
            report, kept = self._weigh(batch, None)
            direction = self._weighted_gradient(batch, report, params, retain_graph)
        else:
            gradients = TaskGradients(self._rows(batch, params, split, retain_graph))
            roles = self._roles(gradients.rows[: batch.values.size], len(params))
            own = None if roles is None else own_blocks(roles, self.param_groups)
            outside = left_out(self.gramian_over, own, self.param_groups)
            if self.upper_bound:
                outside = list(range(len(params)))
            report, kept = self._weigh(batch, finite_gramian(gradients, outside, batch))
            weights = self._with_fixed(report, batch)
            plain = own if self.task_gradients == "own" else None
            direction = combined(gradients, weights, params, plain, split, retain_graph)
        if batch.scaled and not all_finite(direction):
            report, kept = self._nonfinite(batch), None
        self._commit(params, direction, kept, roles)
        self.report = report
        return report

    @_disable_dynamo  # imports dynamo when it is called, torch._dynamo.disable when we are
    def accumulate(self, losses: Losses, *, scaler: torch.amp.GradScaler | None = None) -> None:
        """Adds the task gradients of a micro-batch to those of the next :meth:`backward`.

        The m gradients are summed and the decision is made on the sum, as if the micro-batches had
        been one batch: scale each micro-batch's losses by its share of it.

        Args:
            losses: m scalar tensors, or a 1-D tensor [m], with a graph; it is freed.
            scaler: as for :meth:`backward`.

        Raises:
            ValueError, TypeError: as for :meth:`backward`.
        """
        batch = gather(losses, scaler, None, self._accumulated)  # any part is in the domain
        rows = self._rows(batch, self._params(), None, retain_graph=False)
        self._accumulated = Accumulated(rows, batch.values, batch.unit)

    def step(  # type: ignore[override]
        self,
        closure: Losses | Callable[[], Losses] | None = None,
        *,
        preference: VectorsLike | None = None,
        fixed: Tensor | None = None,
        features: Features | None = None,
    ) -> Report | None:
        """One step of the base optimizer, after :meth:`backward` if there are losses.

        Args:
            closure: the losses; a callable that returns them, called once with gradients enabled;
                or None, which steps on the ``.grad`` that is there.
            preference, fixed, features: as for :meth:`backward`.

        Returns:
            The :class:`Report`, or None where no losses were given.

        Raises:
            ValueError: without losses, ``preference``, ``fixed`` or gradients that
                :meth:`accumulate` has collected.
        """
        report = None
        if closure is not None:
            losses = closure
            if callable(losses) and not isinstance(losses, Tensor):
                with torch.enable_grad():
                    losses = losses()
            report = self.backward(losses, preference=preference, fixed=fixed, features=features)
        elif preference is not None or fixed is not None or features is not None:
            raise ValueError("step: preference, fixed and features need losses")
        elif self._accumulated is not None:
            raise ValueError(
                "step: accumulate() has collected gradients; give the last micro-batch's losses to "
                "step() or backward(), or drop them with zero_grad()"
            )
        self.base.step()
        self.take_learned()
        return report

    step.hooked = True  # type: ignore[attr-defined]  # the base's step runs the hooks, once

    # ------------------------------------------------------------------------------------ the parts

    def _batch(
        self,
        losses: Losses,
        preference: VectorsLike | None,
        scaler: torch.amp.GradScaler | None,
        fixed: Tensor | None,
    ) -> Batch:
        batch = gather(losses, scaler, fixed, self._accumulated)
        r = self._preference_for(preference, batch.values.size)
        if batch.sound:
            self.check_losses(batch.values)
        kept = self.memory.get("weights")
        one_off = self._is_one_off(preference)
        waiting = kept is not None and len(kept) == batch.values.size and not one_off
        due = not waiting or self.memory["age"] % self.every == 0
        return batch._replace(preference=r, due=due, one_off=one_off)

    def _is_one_off(self, preference: VectorsLike | None) -> bool:
        """Whether this call decides on something else than the others, so that no weights carry."""
        return preference is not None

    def _split(self, batch: Batch, features: Features | None, params: list[Tensor]) -> Split | None:
        if features is None:
            return None
        if self._engine_for(batch.losses) != "grad":
            raise ValueError(f"features: engine={self.engine!r} cannot stop at them, 'grad' can")
        if self.upper_bound and self._accumulated is not None:
            raise ValueError("features: upper_bound cannot decide on what accumulate() collected")
        return Split(batch.losses[: batch.values.size], features, params, bound=self.upper_bound)

    def _rows(
        self, batch: Batch, params: list[Tensor], split: Split | None, retain_graph: bool
    ) -> list[Row]:
        engine = self._engine_for(batch.losses)
        rows = task_rows(batch, params, engine, split, retain_graph)
        return rows if self._accumulated is None else self._accumulated.plus(rows)

    def _weighted_gradient(
        self, batch: Batch, report: Report, params: list[Tensor], retain_graph: bool
    ) -> Row:
        engine = self._engine_for(batch.losses, params)
        weights = self._with_fixed(report, batch).tolist()
        return grad.weighted_gradient(batch.losses, weights, params, engine, retain_graph)

    def _weigh(self, batch: Batch, c: FloatArray | None) -> tuple[Report, Memory | None]:
        """The report with the weights to apply, and our memory from this step on, or None."""
        if c is not None and np.isnan(c[0, 0]):
            return self._nonfinite(batch), None
        before, alone = self.memory, batch.one_off and batch.preference is not None
        self.memory = self.fresh() if alone else self.settled()  # counts from _commit on
        try:
            return self._decided(batch, c), None if alone else self.memory
        finally:
            self.memory = before

    def _decided(self, batch: Batch, c: FloatArray | None) -> Report:
        s = self.weight_smoothing
        if batch.due:
            report = self.decide(batch.values, c, batch.preference)
            weights = report.weights
            previous = self.memory.get("weights", [])  # read now: a method may have dropped them
            if s > 0.0 and len(previous) == weights.numel() and not batch.one_off:
                weights = s * torch.from_numpy(np.array(previous)) + (1.0 - s) * weights
        else:
            weights = torch.from_numpy(np.array(self.memory["weights"]))
            report = Report(weights=weights)
        if (s > 0.0 or self.every > 1) and not batch.one_off:
            self.memory.update(weights=weights.tolist(), age=self.memory.get("age", 0) + 1)
        return replace(
            report,
            weights=weights * weights.numel() if self.scale == "sum" else weights,
            losses=torch.from_numpy(batch.values),
            gramian=None if c is None else torch.from_numpy(c),
        )

    def _nonfinite(self, batch: Batch) -> Report:
        losses = torch.from_numpy(batch.values)
        return Report(torch.full_like(losses, torch.nan), losses, status="nonfinite")

    def _commit(
        self,
        params: list[Tensor],
        direction: Sequence[Tensor | None],
        kept: Memory | None,
        roles: list[bool | None] | None,
    ) -> None:
        """The one place where a call of backward() changes anything."""
        for group in self.param_groups:
            for p in group["params"]:
                if not p.requires_grad:
                    p.grad = None  # a frozen parameter must not move on an old direction
        assign(params, direction)
        self.memory = self.settled() if kept is None else kept
        if roles is not None:
            self.memory["task_specific"] = roles
        self._accumulated = None

    # -------------------------------------------------------------------------------------- lookups

    def _with_fixed(self, report: Report, batch: Batch) -> FloatArray:
        weights: FloatArray = report.weights.numpy()
        fixed = len(batch.losses) - batch.values.size
        return np.append(weights, [1.0] * fixed) if fixed else weights

    def _params(self) -> list[Tensor]:
        params = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        if not params:
            raise ValueError("base: no parameter of this optimizer requires a gradient")
        return params

    def _engine_for(self, losses: list[Tensor], params: Sequence[Tensor] = ()) -> Engine:
        self.engine = grad.choose_engine(self.engine, losses, params)
        return self.engine

    def _roles(self, rows: Sequence[Row], count: int) -> list[bool | None] | None:
        """For each of ``count`` parameters whether it is of one task; None if no option asks."""
        if self.gramian_over != "shared" and self.task_gradients == "weighted":
            return None
        rows = [row[:count] for row in rows]  # features may follow
        return task_specific(self.param_groups, rows, self.memory.get("task_specific", []))

    def detect_roles(self) -> None:
        """Forgets which parameters are task-specific; the next :meth:`backward` looks again."""
        self.memory.pop("task_specific", None)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears ``.grad``, what is to be learnt with it, and what :meth:`accumulate` collected."""
        super().zero_grad(set_to_none)
        self.memory = self.settled()
        self._accumulated = None

    def metrics(self) -> dict[str, float]:
        """The numbers of the last report as a flat dict for any logger; empty before the first."""
        return {} if self.report is None else self.report.metrics()

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "_accumulated": None}

    def __repr__(self) -> str:
        preference = "" if self.preference is None else f", preference={self.preference.tolist()}"
        return f"{type(self).__name__}({type(self.base).__name__}{preference})"
