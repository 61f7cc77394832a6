"""`Solution`: the record of one trained model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal, TypeAlias

from pyfront._utils.arguments import finite_number, finite_numbers
from pyfront._utils.tables import html_table
from pyfront._utils.task_names import check_tasks

__all__ = ["SPLIT_WORDS", "DataSplit", "Solution"]

#: The part of the data on which losses were measured.
DataSplit: TypeAlias = Literal["train", "test"]
#: What stands before "losses" in tables and pictures.
SPLIT_WORDS: dict[DataSplit, str] = {"train": "training", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class Solution:
    """Record one trained model: what was asked for, what came out, and where the model is stored.

    Args:
        method: the name of the method.
        train_losses: l on the training set, m finite numbers; or a dict of them by the names of the
            tasks, as may be what follows.
        test_losses: l on the test set, m finite numbers, or None.
        preference: r, m numbers ≥ 0, one of them > 0, or None for a method that takes none.
        metrics: any further finite numbers by name (accuracies, seconds, …).
        checkpoint: the path of the file that holds the trained model, or None. Whether the file
            exists is not checked.
        tasks: the names of the m tasks, in the order of the losses, or None. They are shown in
            tables and pictures.

    Raises:
        ValueError: a number that is not finite, a preference that is < 0 or all zero, or differing
            lengths; names the field, the index and the value. Names of tasks that are empty,
            equal or numbers.

    Example:
        >>> Solution(method="EPO", train_losses=[0.2, 0.4], tasks=["segmentation", "depth"])
        Solution(method='EPO', train_losses=(0.2, 0.4), tasks=('segmentation', 'depth'))
    """

    method: str
    train_losses: Sequence[float]
    test_losses: Sequence[float] | None = None
    preference: Sequence[float] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    checkpoint: str | None = None
    tasks: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Check and freeze what was given."""
        for name, optional in (("method", False), ("checkpoint", True)):
            value = getattr(self, name)
            if not (isinstance(value, str) or (optional and value is None)):
                raise ValueError(f"{name} = {value!r}: expected a string")
        self._order_by_tasks()
        object.__setattr__(self, "train_losses", finite_numbers("train_losses", self.train_losses))
        for name in ("test_losses", "preference"):
            values = getattr(self, name)
            if values is None:
                continue
            checked = finite_numbers(name, values)
            if len(checked) != self.num_tasks:
                raise ValueError(f"{name}: {len(checked)} values for {self.num_tasks} tasks")
            object.__setattr__(self, name, checked)
        for index, value in enumerate(self.preference or ()):
            if value < 0.0:
                raise ValueError(f"preference[{index}] = {value}: expected a number ≥ 0")
        if self.preference is not None and not any(self.preference):
            raise ValueError(f"preference = {self.preference}: expected at least one number > 0")
        if not isinstance(self.metrics, Mapping):
            raise ValueError(f"metrics = {self.metrics!r}: expected numbers by name")
        metrics = {str(k): finite_number(f"metrics[{k!r}]", v) for k, v in self.metrics.items()}
        object.__setattr__(self, "metrics", metrics)
        if self.tasks is not None:
            object.__setattr__(self, "tasks", check_tasks(self.tasks, self.num_tasks))

    def _order_by_tasks(self) -> None:
        """Turn dicts of numbers by task into sequences in the order of the tasks."""
        if isinstance(self.train_losses, Mapping) and self.tasks is None:
            object.__setattr__(self, "tasks", check_tasks(tuple(self.train_losses)))
        for name in ("train_losses", "test_losses", "preference"):
            values = getattr(self, name)
            if isinstance(values, Mapping):
                if self.tasks is None or set(values) != set(self.tasks):
                    raise ValueError(
                        f"{name} = {values!r}: expected one value for each of {self.tasks}"
                    )
                object.__setattr__(self, name, [values[task] for task in self.tasks])

    def __repr__(self) -> str:
        """Show the fields that were given."""
        shown = ((item.name, getattr(self, item.name)) for item in fields(self))
        parts = [f"{name}={value!r}" for name, value in shown if value is not None and value != {}]
        return f"Solution({', '.join(parts)})"

    def _repr_html_(self) -> str:
        """Show a table with one row per task, for notebooks."""
        names = self.tasks or [f"task {task}" for task in range(1, self.num_tasks + 1)]
        columns = [("task", names)] + [
            (title, [f"{value:.4g}" for value in values])
            for title, values in (
                ("preference", self.preference),
                ("training loss", self.train_losses),
                ("test loss", self.test_losses),
            )
            if values is not None
        ]
        notes = [self.method, *(f"{name} {value:.4g}" for name, value in self.metrics.items())]
        caption = ", ".join([*notes, *filter(None, [self.checkpoint])])
        return html_table(caption, zip(*([title, *cells] for title, cells in columns), strict=True))

    @property
    def num_tasks(self) -> int:
        """The number of tasks, m.

        Example:
            >>> solution = Solution(method="a", train_losses=[1.0, 3.0], test_losses=[1.5, 3.5])
            >>> solution.num_tasks
            2
        """
        return len(self.train_losses)

    def losses(self, split: DataSplit) -> Sequence[float] | None:
        """Return l on one split; None where the test losses were not measured.

        Raises:
            ValueError: a split that is neither "train" nor "test".

        Example:
            >>> solution = Solution(method="a", train_losses=[1.0, 3.0], test_losses=[1.5, 3.5])
            >>> solution.losses("test")
            (1.5, 3.5)
        """
        if split not in ("train", "test"):
            raise ValueError(f"split = {split!r}: expected 'train' or 'test'")
        return self.train_losses if split == "train" else self.test_losses
