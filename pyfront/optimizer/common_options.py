"""The options that every method takes, as attributes that are checked when they are assigned."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias

from pyfront._utils.arguments import boolean, choice
from pyfront.distributed.choose import ProcessGroupLike, as_process_group
from pyfront.gradients.engines import ENGINES, EngineName
from pyfront.optimizer.options import CommonOptions, Option, integer_from, number_in, one_of
from pyfront.optimizer.presence import RemembersTasks
from pyfront.optimizer.roles import GramianOver, ParameterValues, as_gramian_over

__all__ = ["Needs", "TakesCommonOptions"]

Needs: TypeAlias = Literal["losses", "gramian", "products"]


def _known_engine(name: str, value: Any) -> EngineName:
    choice(name, value, ("auto", *ENGINES))
    engine: EngineName = value
    return engine


class TakesCommonOptions(RemembersTasks):
    """Has the options that every method takes; :class:`~pyfront.MultiTaskOptimizer` explains them.

    Attributes:
        needs: the costliest thing that the method decides on.
    """

    needs: ClassVar[Needs] = "gramian"

    engine = Option[EngineName](_known_engine)
    task_gradients = Option[Literal["weighted", "own"]](one_of("weighted", "own"))
    scale = Option[Literal["mean", "sum"]](one_of("mean", "sum"))
    weight_smoothing = Option[float](number_in(lowest=0.0, below=1.0))
    every = Option[int](integer_from(1))
    process_group = Option[ProcessGroupLike](as_process_group)
    track_rises = Option[bool](boolean)

    def set_options(self, given: CommonOptions) -> None:
        """Set all options, those that are not given to their defaults.

        Raises:
            TypeError: a name that is none of them.
        """
        chosen: CommonOptions = {
            "engine": "auto",
            "gramian_over": "all",
            "task_gradients": "weighted",
            "scale": "mean",
            "weight_smoothing": 0.0,
            "every": 1,
            "upper_bound": False,
            "process_group": None,
            "track_rises": False,
        }
        unknown = [name for name in given if name not in chosen]
        if unknown:
            raise TypeError(
                f"{type(self).__name__}: unexpected keyword {unknown[0]!r}; the common ones are "
                f"{', '.join(chosen)}"
            )
        for name, value in {**chosen, **given}.items():
            setattr(self, name, value)

    @property
    def keeps_weights(self) -> bool:
        """Whether weights of one step are used at later ones: averaged, or as they are.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> pyfront.MGDA(torch.optim.SGD([x], lr=0.1), every=2).keeps_weights
            True
        """
        return self.weight_smoothing > 0.0 or self.every > 1

    @property
    def gramian_over(self) -> str | ParameterValues[bool]:
        """The parameters that C is over: ``"all"``, ``"shared"``, or which are named.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.MGDA(torch.optim.SGD([x], lr=0.1))
            >>> opt.gramian_over
            'all'
            >>> opt.gramian_over = "shared"
        """
        over: str | ParameterValues[bool] = self._shared.options["gramian_over"]
        return over

    @gramian_over.setter
    def gramian_over(self, value: GramianOver) -> None:
        over = as_gramian_over(value, self.param_groups)
        self._check_bound(over, self._shared.options.get("upper_bound", False))
        self._shared.options["gramian_over"] = over

    @property
    def upper_bound(self) -> bool:
        """Whether the decision is made on the Gramian at the features.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.MGDA(torch.optim.SGD([x], lr=0.1))
            >>> opt.upper_bound = True  # each step now needs features=
            >>> z = 2 * x
            >>> report = opt.step([z[0] ** 2, z[1] ** 2], features=z)
        """
        bound: bool = self._shared.options["upper_bound"]
        return bound

    @upper_bound.setter
    def upper_bound(self, value: bool) -> None:
        bound = boolean("upper_bound", value)
        if bound and self.needs != "gramian":
            raise ValueError(f"upper_bound: {type(self).__name__} does not decide on a Gramian")
        self._check_bound(self._shared.options.get("gramian_over", "all"), bound)
        self._shared.options["upper_bound"] = bound

    @staticmethod
    def _check_bound(over: object, bound: bool) -> None:
        if bound and over != "all":
            raise ValueError("gramian_over: with upper_bound the Gramian is over the features")
