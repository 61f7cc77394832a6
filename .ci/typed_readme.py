"""Write README's Python block as a module for type checkers, with what a user has around it."""

import re
import sys
from pathlib import Path

AROUND = """from collections.abc import Callable, Iterable

import torch
from torch import Tensor

model: torch.nn.Module = torch.nn.Linear(4, 2)
loader: Iterable[tuple[Tensor, list[Tensor]]] = []
loss_fn: Callable[[Tensor, Tensor], Tensor] = torch.nn.functional.mse_loss

"""


def typed(readme: str) -> str:
    """Return the module.

    Example:
        >>> typed("text\\n```python\\nprint(1)\\n```\\n").splitlines()[-1]
        'print(1)'
    """
    return AROUND + "\n".join(re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL))


if __name__ == "__main__":
    root, target = Path(__file__).parents[1], Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(typed((root / "README.md").read_text("utf-8")), "utf-8")
