"""Min-norm answers against a certificate in exact arithmetic.

``python bench/soak/exact.py --inputs 1000000``: every answer must satisfy the stop rule in rational
numbers (tests/oracles.py). Gradients of all kinds of tests/samplers.py, of 2 to 5 tasks, and of
small integers; an input whose lengths span decades may end at the cap, and is counted.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter

import numpy as np
import oracles
from samplers import SAMPLERS

from pyfront.backend import _core


def integers(rng: np.random.Generator, m: int) -> np.ndarray:
    return rng.integers(-3, 4, (m, rng.integers(1, m + 3))).astype(float)


KINDS = {**SAMPLERS, "integers": integers}


def check(kind: str, rng: np.random.Generator) -> str:
    """The status of one answer; raises where it breaks the stop rule."""
    jacobian = KINDS[kind](rng, int(rng.integers(2, 6)))
    product = jacobian @ jacobian.T
    gramian = (product + product.T) / 2
    weights, gap, status = _core.min_norm(gramian)
    certificate = oracles.min_norm_certificate(gramian, weights)
    optimal = float(certificate.gap) <= certificate.allowed * (1 + 1e-9)
    on_simplex = weights.min() >= 0.0 and abs(float(sum(oracles.exact(weights))) - 1.0) < 1e-12
    if not on_simplex or gap < 0.0 or not (optimal or status == "iteration_limit"):
        raise AssertionError(f"{kind}: {status}, gap {gap}, C = {gramian.tolist()}")
    return str(status)


def main(arguments: list[str] | None = None) -> dict[str, int]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    kinds = list(KINDS)
    counts: Counter[str] = Counter()
    for number in range(options.inputs):
        kind = kinds[number % len(kinds)]
        status = check(kind, rng)
        counts[status if status != "iteration_limit" else f"{status}: {kind}"] += 1
    print(json.dumps({"inputs": sum(counts.values()), **counts}, indent=1))
    return counts


if __name__ == "__main__":
    main()
