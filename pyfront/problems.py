"""Small differentiable problems with exactly known Pareto fronts."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pyfront._utils.arguments import integer, require, vector

__all__ = ["ConcaveProblem", "QuadraticProblem", "SineProblem"]


def _positive_tensor(name: str, values: Sequence[float], count: int) -> Tensor:
    array = vector(name, values, count)
    require(name, array, above=0.0)
    return torch.tensor(array)


class ConcaveProblem:
    r"""Two losses with a concave front, which no fixed weighting of the losses can reach.

    With c = (1/√n, …, 1/√n) ∈ Rⁿ and scales a:

        l₁(θ) = a₁ (1 − exp(−‖θ − c‖²))
        l₂(θ) = a₂ (1 − exp(−‖θ + c‖²))

    Both losses grow with the distance from their own minimiser, so the Pareto set is the segment
    θ = s c, −1 ≤ s ≤ 1, and the front is l(s) = (a₁ (1 − e^{−(1−s)²}), a₂ (1 − e^{−(1+s)²})).

    Args:
        n: number of parameters, ≥ 1.
        scales: a, two numbers > 0. (1, 1) is the problem of both papers; (2, 1), (10, 1) and
            (50, 1) are the unbalanced ones of the Pareto MTL supplement.

    Raises:
        ValueError: n < 1, or a scale that is not a finite number > 0.

    Example:
        >>> problem = ConcaveProblem(n=20)
        >>> l = problem.point([0.7, 0.3])
        >>> bool(abs(0.7 * l[0] - 0.3 * l[1]) < 1e-12)
        True

    Source: Mahapatra and Rajan 2020, eq. (36); Lin et al. 2019, eq. (19) and supplement eq. (22).
    """

    num_tasks = 2

    def __init__(self, *, n: int = 20, scales: Sequence[float] = (1.0, 1.0)) -> None:
        """See the class."""
        self.n = integer("n", n, 1)
        self.scales = _positive_tensor("scales", scales, 2)

    def losses(self, theta: Tensor) -> Tensor:
        """Return the two losses at θ [n], differentiable; [2], dtype and device of θ.

        Args:
            theta: θ, [n], on any device.

        Example:
            >>> problem = ConcaveProblem(n=20)
            >>> problem.losses(problem.start()).shape
            torch.Size([2])
        """
        centre = 1.0 / math.sqrt(self.n)
        distances = torch.stack([(theta - centre).square().sum(), (theta + centre).square().sum()])
        return -self.scales.to(distances) * torch.expm1(-distances)

    def front(self, k: int) -> Tensor:
        """Return k ≥ 2 points of the front, s from −1 to 1, ends included; [k, 2] float64.

        Example:
            >>> ConcaveProblem(n=20).front(5).shape
            torch.Size([5, 2])
        """
        return self._at(torch.linspace(-1.0, 1.0, integer("k", k, 2), dtype=torch.float64))

    def point(self, preference: Sequence[float]) -> Tensor:
        """Return the point of the front on the ray l ∝ 1/r; every ray meets the front exactly once.

        Bisection on s: r₁ l₁(s) − r₂ l₂(s) falls strictly from above 0 at −1 to below 0 at 1.

        Args:
            preference: r, two numbers > 0; only their ratio matters.

        Returns:
            The losses there, [2] float64.

        Raises:
            ValueError: a preference that is not a finite number > 0.

        Example:
            >>> first, second = ConcaveProblem().point([0.5, 0.5]).tolist()
            >>> round(first, 6), round(second, 6)  # 1 − 1/e
            (0.632121, 0.632121)
        """
        r = _positive_tensor("preference", preference, 2)
        low, high = -1.0, 1.0
        while low < (middle := 0.5 * (low + high)) < high:  # down to neighbouring floats
            relative = r * self._at(torch.tensor(middle, dtype=torch.float64))
            if relative[0] > relative[1]:
                low = middle
            else:
                high = middle
        return self._at(torch.tensor(high, dtype=torch.float64))

    def start(self, *, seed: int = 0, width: float = 1.0) -> Tensor:
        """Draw θ [n] float64, |θ_i| ≤ width/√n: for width 1 this box holds the Pareto set.

        Example:
            >>> problem = ConcaveProblem(n=20)
            >>> torch.equal(problem.start(seed=1), problem.start(seed=1))
            True
        """
        generator = torch.Generator().manual_seed(seed)
        unit = torch.rand(self.n, generator=generator, dtype=torch.float64)
        return (2.0 * unit - 1.0) * (width / math.sqrt(self.n))

    def _at(self, s: Tensor) -> Tensor:
        distances = torch.stack([(1.0 - s).square(), (1.0 + s).square()], dim=-1)
        return -self.scales * torch.expm1(-distances)


class QuadraticProblem:
    r"""m convex losses, each the squared distance to its own corner of a simplex.

    With unit vectors e_j ∈ Rⁿ, n ≥ m, and scales a:

        l_j(θ) = a_j/2 ‖θ − e_j‖²

    The Pareto set is the simplex θ = Σ w_j e_j, w ≥ 0, Σ w_j = 1 (the gradients Σ λ_j a_j (θ − e_j)
    cancel there with w_j ∝ λ_j a_j and nowhere else).

    Args:
        num_tasks: m ≥ 2.
        n: number of parameters, ≥ m; default m.
        scales: a, m numbers > 0; default ones.

    Raises:
        ValueError: m < 2, n < m, or a scale that is not a finite number > 0.

    Example:
        >>> QuadraticProblem(3).point([1.0, 1.0, 1.0]).mul(3).tolist()
        [1.0, 1.0, 1.0]
    """

    def __init__(
        self, num_tasks: int, *, n: int | None = None, scales: Sequence[float] | None = None
    ) -> None:
        """See the class."""
        self.num_tasks = integer("num_tasks", num_tasks, 2)
        self.n = num_tasks if n is None else integer("n", n, num_tasks)
        self.scales = _positive_tensor(
            "scales", [1.0] * num_tasks if scales is None else scales, num_tasks
        )

    def losses(self, theta: Tensor) -> Tensor:
        """Return the m losses at θ [n], differentiable; [m], dtype and device of θ.

        Args:
            theta: θ, [n], on any device.

        Example:
            >>> problem = QuadraticProblem(3)
            >>> problem.losses(problem.start()).shape
            torch.Size([3])
        """
        centres = torch.eye(self.num_tasks, self.n, dtype=theta.dtype, device=theta.device)
        return 0.5 * self.scales.to(theta) * (theta - centres).square().sum(dim=-1)

    def front(self, k: int) -> Tensor:
        """Return k ≥ 2 points of the front, [k, m] float64, the same at every call.

        m = 2: evenly spaced on the Pareto set, ends included. m > 2: gaps between sorted
        coordinates of a Sobol sequence, which are uniform on the simplex.

        Example:
            >>> QuadraticProblem(3).front(5).shape
            torch.Size([5, 3])
        """
        integer("k", k, 2)
        cuts = self.num_tasks - 1
        if cuts == 1:
            inner = torch.linspace(0.0, 1.0, k, dtype=torch.float64)[:, None]
        else:
            sobol = torch.quasirandom.SobolEngine(cuts)  # type: ignore[no-untyped-call]
            inner = sobol.draw(k, dtype=torch.float64)
        low, high = torch.zeros(k, 1, dtype=torch.float64), torch.ones(k, 1, dtype=torch.float64)
        edges = torch.cat([low, inner.sort(dim=1).values, high], dim=1)
        return self._at(edges.diff(dim=1))

    def point(self, preference: Sequence[float]) -> Tensor:
        """Return the point of the front on the ray l ∝ 1/r, in closed form.

        With p_j = 1/(r_j a_j) and l_j = t/r_j, ‖w − e_j‖² = ‖w‖² − 2 w_j + 1 = 2 t p_j and
        Σ w_j = 1 give w_j = 1/m + t (p̄ − p_j), where t is the smaller root of
        V t² − 2 p̄ t + (1 − 1/m) = 0, p̄ = mean p, V = Σ (p_j − p̄)².

        Args:
            preference: r, m numbers > 0; only their ratios matter.

        Returns:
            The losses there, [m] float64.

        Raises:
            ValueError: a preference that is not a finite number > 0, or a ray that misses the
                front (for m > 2 the front does not meet every ray).

        Example:
            >>> first, second = QuadraticProblem(2).point([0.8, 0.2]).tolist()
            >>> round(second / first, 6)
            4.0
        """
        r = _positive_tensor("preference", preference, self.num_tasks)
        p = 1.0 / (r * self.scales)
        p = p / p.sum()
        mean, constant = p.mean(), 1.0 - 1.0 / self.num_tasks
        discriminant = mean.square() - (p - mean).square().sum() * constant
        root = constant / (mean + discriminant.clamp_min(0.0).sqrt())
        weights = 1.0 / self.num_tasks + root * (mean - p)
        if min(discriminant.item(), weights.min().item()) < -1e-12:  # beyond rounding
            raise ValueError(f"preference = {r.tolist()}: its ray misses the front")
        return root * p * self.scales

    def start(self, *, seed: int = 0, width: float = 1.0) -> Tensor:
        """Draw θ [n] float64, normal with standard deviation `width`.

        Example:
            >>> problem = QuadraticProblem(3)
            >>> torch.equal(problem.start(seed=1), problem.start(seed=1))
            True
        """
        generator = torch.Generator().manual_seed(seed)
        return width * torch.randn(self.n, generator=generator, dtype=torch.float64)

    def _at(self, weights: Tensor) -> Tensor:
        centres = torch.eye(self.num_tasks, dtype=torch.float64)
        return 0.5 * self.scales * (weights[:, None, :] - centres).square().sum(dim=-1)


class SineProblem:
    r"""Two losses with a concave front and a Pareto set that winds through Rⁿ.

        l₁(θ) = 1 − exp(−(θ₁ − 1)² − 1/(n−1) Σ_{i≥2} (θ_i − sin 5θ₁)²)
        l₂(θ) = 1 − exp(−(θ₁ + 1)²)

    The Pareto set is θ_i = sin 5θ₁ for i ≥ 2 and −1 ≤ θ₁ = s ≤ 1, and the front
    l(s) = (1 − e^{−(1−s)²}, 1 − e^{−(1+s)²}) is that of :class:`ConcaveProblem`.

    Args:
        n: number of parameters, ≥ 2.

    Raises:
        ValueError: n < 2.

    Example:
        >>> SineProblem(n=10).losses(torch.ones(10).mul(0.0)).shape
        torch.Size([2])

    Source: Lin et al., Controllable Pareto Multi-Task Learning, 2020, eq. (22).
    """

    num_tasks = 2

    def __init__(self, *, n: int = 10) -> None:
        """See the class."""
        self.n = integer("n", n, 2)

    def losses(self, theta: Tensor) -> Tensor:
        """Return the two losses at θ [..., n], differentiable; [..., 2], dtype of θ.

        Args:
            theta: θ, [..., n], on any device.

        Example:
            >>> problem = SineProblem(n=10)
            >>> problem.losses(problem.start()).shape
            torch.Size([2])
        """
        first, rest = theta[..., 0], theta[..., 1:]
        away = (rest - torch.sin(5.0 * first)[..., None]).square().mean(dim=-1)
        distances = [(first - 1.0).square() + away, (first + 1.0).square()]
        return -torch.expm1(-torch.stack(distances, dim=-1))

    def front(self, k: int) -> Tensor:
        """Return k ≥ 2 points of the front, s from −1 to 1, ends included; [k, 2] float64.

        Example:
            >>> SineProblem(n=10).front(5).shape
            torch.Size([5, 2])
        """
        return ConcaveProblem(n=1).front(k)

    def start(self, *, seed: int = 0, width: float = 1.0) -> Tensor:
        """Draw θ [n] float64, uniform in the box |θ_i| ≤ width.

        Example:
            >>> problem = SineProblem(n=10)
            >>> torch.equal(problem.start(seed=1), problem.start(seed=1))
            True
        """
        generator = torch.Generator().manual_seed(seed)
        return (2.0 * torch.rand(self.n, generator=generator, dtype=torch.float64) - 1.0) * width
