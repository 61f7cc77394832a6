"""`Diagnosis`: what `diagnose` has found, as numbers, a table and a verdict."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pyfront.diagnosis import tables
from pyfront.diagnosis.costs import StepCost
from pyfront.diagnosis.verdict import Outcome

__all__ = ["Diagnosis"]


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """What the gradients of some batches say of m tasks; printed, it is a table.

    C and what follows from it are over the shared parameters; over all where none is shared. NaN
    stands for what no batch tells.

    Args:
        outcome: the verdict in one word: ``"one_task"``; ``"nothing_shared"``; ``"stationary"`` (no
            gradient at the shared parameters); ``"unclear"`` (noise, or too few common samples);
            ``"weights"`` (fixed weights suffice); ``"rescale"`` (so do those that undo the lengths
            of the gradients); ``"tolerable"`` (tasks conflict, and no loss rises along the sum);
            ``"conflict"`` (some loss does); ``"opposed"`` (no direction lowers all).
        verdict: the same in sentences, with the method to take.
        tasks: the names of the m tasks, or None.
        batches: B, how many were looked at.
        losses: means of l_j, [m] float64.
        present: the share of batches with data for task j, [m], in [0, 1].
        norms: root mean square of ‖g_j‖, [m] ≥ 0.
        norm_ratio: the largest over the least that is not zero, ≥ 1.
        gramian: mean of C, [m, m].
        condition: condition number of C, ≥ 1; infinite where C is singular.
        cosines: mean over the batches of C_ij / √(C_ii C_jj), [m, m], in [−1, 1].
        cosine_errors: their standard errors, [m, m] ≥ 0; NaN for one batch.
        expected_cosines: cosines of the expected gradients E g_j, from products of gradients of
            different batches, whose noise is independent, [m, m]; NaN where the batches do not show
            them (they need four, and more where the noise is large).
        expected_cosine_errors: their standard errors, [m, m] ≥ 0.
        signal: share of ‖g_j‖², over all parameters, that the batches have in common, [m]: unbiased
            and below 0 at times; 1 without noise, NaN for one batch.
        rises: share of batches in which l_j rises to first order along the sum, (C 1)_j < 0, [m].
        balanced_weights: w_j ∝ 1/‖g_j‖ of sum m, [m].
        shared: the names, or places, of the parameters that two tasks reach.
        task_specific: those that one task alone reaches, m tuples.
        unreached: those that no task reaches.
        at_floor: places of tasks whose gradient is zero, or whose expected one is not seen beyond
            its standard error: their loss may be at its floor, and a preference should compare
            l − offset.
        negative: places of tasks with a negative loss, which EPO and feedback take with offsets.
        costs: what a step of each method costs, cheapest first.

    Example:
        >>> import pyfront
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> found = pyfront.diagnose([(x[0] - x[1] + 1) ** 2, (x[1] + 1) ** 2], [x])
        >>> found.batches, found.shared
        (1, ('0',))
    """

    outcome: Outcome
    verdict: str
    tasks: tuple[str, ...] | None
    batches: int
    losses: Tensor
    present: Tensor
    norms: Tensor
    norm_ratio: float
    gramian: Tensor
    condition: float
    cosines: Tensor
    cosine_errors: Tensor
    expected_cosines: Tensor
    expected_cosine_errors: Tensor
    signal: Tensor
    rises: Tensor
    balanced_weights: Tensor
    shared: tuple[str, ...]
    task_specific: tuple[tuple[str, ...], ...]
    unreached: tuple[str, ...]
    at_floor: tuple[int, ...]
    negative: tuple[int, ...]
    costs: tuple[StepCost, ...]

    def __repr__(self) -> str:
        """Show tables of tasks, pairs and costs, notes, and the verdict."""
        return tables.as_text(self)

    def _repr_html_(self) -> str:
        return tables.as_html(self)
