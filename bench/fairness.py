"""Constraints on Adult: `ConstraintFeedback` against the library Cooper, at equal steps.

    python bench/fairness.py --data DIR [--kinds parity odds] [--bounds 0.05 0.02]

Minimise the cross entropy of income; bound the mean score's difference between women and men from
both sides: over all rows ("parity"), or within each class of income ("odds"). Every method is tuned
on the same seeds by the same score, the training loss plus PRICE times what the largest training
gap is above its bound, PRICE above every multiplier here: Adam's rate from one grid for all,
Cooper's own settings from theirs. `ConstraintFeedback` has its default gains, and tuned ones in a
row of its own. The figures are of other seeds. The runs of a seed alternate between the methods, so
that their times can be compared.
"""

import argparse
import itertools
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sets import lines_of, standardised
from torch import nn

import pyfront

RATES = (0.003, 0.01, 0.03)
DUAL_RATES = (0.03, 0.1, 0.3)
GAINS = ((0.1, 0.001), (0.3, 0.003), (1.0, 0.01))  # k and i of ConstraintFeedback
TUNING, SEEDS = (11, 12), (1, 2, 3)
PRICE = 3.0
GROUPS = {"parity": 1, "odds": 2}  # gaps; each is bounded from both sides


def adult_table(directory):
    """The cells of Adult as strings; the training rows come first, and their number."""
    rows = []
    for name in ("adult.data.gz", "adult.test.gz"):
        lines = lines_of(Path(directory) / "census" / name)
        rows += [[c.strip() for c in x.split(",")] for x in lines if x and not x.startswith("|")]
    return np.array(rows, dtype=object), 32_561


def adult_features(table, count, places):
    """Logarithms of numbers, and one column per kind of the others."""
    columns = []
    for place in places:
        if place in (0, 4, 10, 11, 12):
            columns.append(np.log1p(table[:, place].astype(float))[:, None])
        else:
            kinds, index = np.unique(table[:, place], return_inverse=True)
            columns.append(np.eye(len(kinds))[index][:, :20])
    return standardised(np.concatenate(columns, axis=1), count).clamp(-5, 5)


def adult(directory):
    """Features without sex, income, and who is a woman; the training rows come first."""
    table, count = adult_table(directory)
    x = adult_features(table, count, set(range(14)) - {2, 3, 9})
    rich = np.char.startswith(table[:, 14].astype(str), ">50K")
    return x, torch.from_numpy(rich), torch.from_numpy(table[:, 9] == "Female"), count


def gaps(logits, rich, women):
    """Cross entropy, and the signed differences of the mean score that are to be small.

    An absolute value of a difference in a batch is biased by its noise; two bounds, on d and −d,
    are not.
    """
    score = torch.sigmoid(logits)
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, rich.float())
    groups = {"parity": [torch.ones_like(rich)], "odds": [rich, ~rich]}
    return entropy, {
        kind: [score[part & women].mean() - score[part & ~women].mean() for part in parts]
        for kind, parts in groups.items()
    }


# --------------------------------------------------------------------------------------- methods


def unbounded(parameters, bound, count, *, lr):
    """The cross entropy alone."""
    base = torch.optim.Adam(parameters, lr=lr)

    def step(losses):
        base.zero_grad()
        losses[0].backward()
        base.step()

    return step, base


def feedback(parameters, bound, count, *, lr, **gains):
    base = torch.optim.Adam(parameters, lr=lr)
    opt = pyfront.ConstraintFeedback(
        base, objective=0, bounds=dict.fromkeys(range(1, count + 1), bound), **gains
    )
    return (lambda losses: opt.step(losses)), opt  # the scheduler counts calls of opt.step


def with_cooper(parameters, bound, count, *, lr, dual, penalty=None):
    """Cooper's alternating optimizer; an augmented Lagrangian where a penalty is given.

    Args:
        parameters: of the network.
        bound: of every constraint.
        count: of constraints.
        lr: Adam's rate.
        dual: makes the optimizer of the multipliers.
        penalty: the coefficients at the start, which Cooper's updater raises where a bound is
            missed.
    """
    import cooper

    class Bounded(cooper.ConstrainedMinimizationProblem):
        def __init__(self):
            super().__init__()
            of_penalty, formulation = None, cooper.formulations.Lagrangian
            if penalty is not None:
                formulation = cooper.formulations.AugmentedLagrangian
                of_penalty = cooper.penalty_coefficients.DensePenaltyCoefficient(
                    init=torch.full((count,), penalty)
                )
            self.bounds = cooper.Constraint(
                constraint_type=cooper.ConstraintType.INEQUALITY,
                formulation_type=formulation,
                multiplier=cooper.multipliers.DenseMultiplier(num_constraints=count),
                penalty_coefficient=of_penalty,
            )

        def compute_cmp_state(self, losses):
            violation = torch.stack(losses[1:]) - bound
            state = cooper.ConstraintState(violation=violation)
            return cooper.CMPState(loss=losses[0], observed_constraints={self.bounds: state})

    problem, base = Bounded(), torch.optim.Adam(parameters, lr=lr)
    opt = cooper.optim.AlternatingDualPrimalOptimizer(
        cmp=problem, primal_optimizers=base, dual_optimizers=dual(problem.dual_parameters())
    )
    updater = cooper.penalty_coefficients.MultiplicativePenaltyCoefficientUpdater()

    def step(losses):
        ended = opt.roll(compute_cmp_state_kwargs={"losses": losses})
        if penalty is not None:
            updater.step(ended.cmp_state.observed_constraints)

    return step, base


def ascent(parameters, *, rate):
    return torch.optim.SGD(parameters, lr=rate, maximize=True)


def nupi(parameters, *, rate, proportional, averaging):
    from cooper.optim import nuPI

    return nuPI(parameters, lr=rate, Kp=proportional, Ki=1.0, ema_nu=averaging, maximize=True)


def candidates(name):
    """Settings in words, and what makes each."""
    rates = {f"rate {lr:g}": {"lr": lr} for lr in RATES}
    if name in ("no bound", "ConstraintFeedback"):
        make = unbounded if name == "no bound" else feedback
        return {words: partial(make, **given) for words, given in rates.items()}
    if name == "ConstraintFeedback, tuned gains":
        return {
            f"{words}, k {k:g}, i {i:g}": partial(feedback, proportional=k, integral=i, **given)
            for words, given in rates.items()
            for k, i in GAINS
        }
    duals = {f"dual rate {rate:g}": partial(ascent, rate=rate) for rate in DUAL_RATES}
    penalties = {"": {}}
    if name == "Cooper, nuPI":
        duals = {
            f"dual rate {rate:g}, Kp {gain:g}, ν {nu:g}": partial(
                nupi, rate=rate, proportional=gain, averaging=nu
            )
            for rate in DUAL_RATES
            for gain, nu in ((1.0, 0.0), (10.0, 0.0), (10.0, 0.9))
        }
    elif name == "Cooper, augmented Lagrangian":
        penalties = {f", penalty {c:g}": {"penalty": c} for c in (1.0, 10.0)}
    return {
        f"{words}, {of_dual}{of_penalty}": partial(with_cooper, dual=dual, **given, **more)
        for (words, given), (of_dual, dual), (of_penalty, more) in itertools.product(
            rates.items(), duals.items(), penalties.items()
        )
    }


METHODS = (
    "no bound",
    "ConstraintFeedback",
    "ConstraintFeedback, tuned gains",
    "Cooper, Lagrangian",
    "Cooper, nuPI",
    "Cooper, augmented Lagrangian",
)


# ------------------------------------------------------------------------------------------ runs


def run(data, kind, bound, make, seed, steps):
    """Training loss and largest gap, those of the test, and seconds."""
    x, rich, women, count = data
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(x.shape[1], 24), nn.ReLU(), nn.Linear(24, 1))
    step, base = make(net.parameters(), bound, 2 * GROUPS[kind])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(base, steps)
    generator = torch.Generator().manual_seed(seed)
    began = time.process_time()
    for _ in range(steps):
        rows = torch.randint(count, (512,), generator=generator)
        entropy, found = gaps(net(x[rows])[:, 0], rich[rows], women[rows])
        step([entropy, *(sign * gap for gap in found[kind] for sign in (1, -1))])
        schedule.step()
    took = time.process_time() - began
    out = []
    with torch.no_grad():
        for part in (slice(0, count), slice(count, None)):
            entropy, found = gaps(net(x[part])[:, 0], rich[part], women[part])
            out += [entropy.item(), max(abs(gap.item()) for gap in found[kind])]
    return [*out, took]


def tuned(data, kind, bound, name, steps):
    """The setting of least score: its words and what makes it."""

    def score(make):
        rows = np.array([run(data, kind, bound, make, seed, steps) for seed in TUNING])
        over = 0.0 if name == "no bound" else PRICE * np.maximum(rows[:, 1] - bound, 0.0)
        return (rows[:, 0] + over).mean()

    return min(candidates(name).items(), key=lambda item: score(item[1]))


def main(args):
    data = adult(args.data)
    print("| | bound | method | chosen | training loss | gap | ± | test loss | gap | seconds |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for kind, bound in itertools.product(args.kinds, args.bounds):
        chosen = {name: tuned(data, kind, bound, name, args.steps) for name in args.methods}
        found = {name: [] for name in args.methods}
        for seed, name in itertools.product(SEEDS, args.methods):
            found[name].append(run(data, kind, bound, chosen[name][1], seed, args.steps))
        for name, rows in found.items():
            a, b, c, d, took = np.mean(rows, axis=0)
            spread = np.std([row[1] for row in rows])
            print(
                f"| {kind} | {bound:g} | {name} | {chosen[name][0]} | {a:.4f} | {b:.4f} | "
                f"{spread:.4f} | {c:.4f} | {d:.4f} | {took:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with census/adult.data.gz")
    parser.add_argument("--kinds", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--bounds", nargs="+", type=float, default=(0.05, 0.02))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--steps", type=int, default=400)
    main(parser.parse_args())
