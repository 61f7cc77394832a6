"""The call that every step begins with: losses in, ``.grad`` and a report out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from pyfront._utils.torch_private import outside_compile
from pyfront.gradients.features import Features
from pyfront.gradients.replay import Replay
from pyfront.optimizer.agreement import Share
from pyfront.optimizer.closures import evaluated
from pyfront.optimizer.method import Method
from pyfront.optimizer.names import NamedLosses, NamedVectors, call_by_position, errors_by_name
from pyfront.optimizer.step import Step
from pyfront.report import Report

__all__ = ["BackwardPass", "Closure"]

Closure: TypeAlias = "Callable[[], NamedLosses | Tensor | float | None]"


class BackwardPass(Method):
    """A method whose decision fills ``.grad``.

    Example:
        >>> import pyfront
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> isinstance(pyfront.MGDA(torch.optim.SGD([x], lr=0.1)), BackwardPass)
        True
    """

    def backward(
        self,
        losses: NamedLosses | Closure | Replay,
        *,
        preference: NamedVectors | None = None,
        scaler: torch.amp.GradScaler | None = None,
        fixed: Tensor | None = None,
        features: Features | None = None,
        retain_graph: bool = False,
        share: Share | None = None,
    ) -> Report:
        """Fill ``.grad`` with the direction Σ_j w_j g_j and update no parameter.

        Running averages, phases and weights that follow the exact ones count every call; what a
        method trains (log-variances, GradNorm's weights) waits for the step. ``.grad`` is
        overwritten, not added to; a parameter that no loss reaches gets None. Hooks of tensors and
        modules run in every backward pass; post-accumulate hooks run where a step costs one pass,
        and under ``engine="steal"``.

        Args:
            losses: m scalar tensors with a graph (None: no data for that task), or a 1-D tensor
                [m]; or a dict by the tasks' names, in the order of the preference or of the first
                call; or a callable that returns them, called with gradients enabled (again by
                methods whose ``products`` need it). One scalar where there is one task.
            preference: r for this call, [m], a dict by name, or [K, m] where the method takes
                several; decided on as at a first step, and forgotten. The optimizer's own where
                None.
            scaler: a gradient scaler: the losses are scaled by it, the method decides on unscaled
                numbers, and ``.grad`` is left scaled for ``scaler.unscale_`` and ``scaler.step``.
                Losses or gradients that are not finite then do not raise: ``.grad`` is made NaN, so
                that the scaler skips the step, and the status is ``"nonfinite"``.
            fixed: a further scalar loss that is added with weight 1 and not traded off.
            features: z, the tensor or tensors that the trunk returned and through which alone the
                losses depend on it: gradients are taken back to z and on from there, exactly the
                same; with ``upper_bound`` it is required. Not with ``engine="steal"``. Sharded
                parameters get the same gradients by whole passes, which ``"steal"`` makes.
            retain_graph: keep the graph of the losses.
            share: in several processes, how many examples the losses of this one are means of: a
                number, or one per loss. Equal for all where None; only ratios count. 0 is a task
                without data in this process, whose loss is then not looked at by replicas.

        Returns:
            The :class:`Report` of what was decided; it is also ``self.report``.

        Raises:
            ValueError, TypeError: losses, preference or gradients that cannot be used; the task and
                the value are named, and parameters, ``.grad`` and state are as they were. Where the
                direction is not finite, ``.grad`` is None.
            RuntimeError: another thread is in a call of this optimizer.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.MGDA(torch.optim.SGD([x], lr=0.1))
            >>> report = opt.backward([x[0] ** 2, x[1] ** 2])
            >>> [round(entry, 3) for entry in x.grad.tolist()]  # of [2, 0] and [0, 4]
            [1.6, 0.8]
            >>> x.tolist()
            [1.0, 2.0]
            >>> opt.step()
        """
        return self._run(
            losses,
            preference=preference,
            scaler=scaler,
            fixed=fixed,
            features=features,
            retain_graph=retain_graph,
            share=share,
        )

    @outside_compile
    def _run(self, losses: NamedLosses | Closure | Replay, **given: Any) -> Report:
        """Make one :class:`Step` of what a call was given, as the fields of :class:`Call`."""
        found = evaluated(self, losses)
        replay = found if isinstance(found, Replay) else None
        found = found if replay is None else replay.losses
        processes = self.processes()
        with processes.entering():
            call = call_by_position(
                found, self._known_tasks(), self.num_tasks, replay=replay, **given
            )
        with self._shared.one_decision("backward"), errors_by_name(call.tasks):
            with processes.entering():
                self._shared.scalars.refuse_before("backward")
                step = Step(self, call, processes)
            step = step.meet()
            report, direction = step.run()
            report = step.commit(report, direction)
            self._shared.scalars.filled = True
        return report
