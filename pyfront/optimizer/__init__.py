"""One call of backward, the state that it keeps, and the base optimizer it wraps."""

from pyfront.optimizer.multi_task import MultiTaskOptimizer

__all__ = ["MultiTaskOptimizer"]
