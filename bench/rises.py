"""Share of steps at which a loss rises to first order under the base's own update.

    python bench/rises.py --data DIR   DIR holds riverflow/rf1.arff.gz; prints a table

River Flow without its broken rows, 8 tasks, 128 rows per step, constant learning rate.
"""

import argparse

import torch
from feedback import Rivers, river_flow

import pyfront

METHODS = {
    "MGDA": pyfront.MGDA,
    "UPGrad": pyfront.UPGrad,
    "equal weights": lambda base, **o: pyfront.LinearScalarization(base, [0.125] * 8, **o),
}
BASES = {
    "SGD": lambda params: torch.optim.SGD(params, lr=0.05),
    "SGD, momentum 0.9": lambda params: torch.optim.SGD(params, lr=0.01, momentum=0.9),
    "SGD, weight decay 1e-4": lambda params: torch.optim.SGD(params, lr=0.05, weight_decay=1e-4),
    "Adam, beta_1 = 0": lambda params: torch.optim.Adam(params, lr=0.01, betas=(0.0, 0.999)),
    "Adam": lambda params: torch.optim.Adam(params, lr=0.01),
    "AdamW": lambda params: torch.optim.AdamW(params, lr=0.01),
}


def rising(parts, method, base, steps):
    """The share over a training run."""
    torch.manual_seed(0)
    model = Rivers()
    opt = METHODS[method](BASES[base](model.parameters()), track_rises=True)
    generator = torch.Generator().manual_seed(0)
    x, y = parts[0]
    for _ in range(steps):
        chosen = torch.randint(len(x), (128,), generator=generator)
        opt.step(model((x[chosen], y[chosen])))
    return opt.metrics()["rising"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=1000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    parts = river_flow(args.data, broken=False)
    print("| base | " + " | ".join(METHODS) + " |")
    print("|---" * (len(METHODS) + 1) + "|")
    for base in BASES:
        shares = [rising(parts, method, base, args.steps) for method in METHODS]
        print(f"| {base} | " + " | ".join(f"{share:.1%}" for share in shares) + " |", flush=True)


if __name__ == "__main__":
    main()
