"""Twenty classification tasks on the same rows: columns of the Census-Income data."""

import csv
import gzip
from collections import Counter

import numpy as np
import torch

TASKS, CLASSES = 20, 5
NUMBERS = (0, 5, 16, 17, 18, 30, 39)  # age, wage, gains, losses, dividends, persons, weeks
WEIGHT = 24  # the instance weight, which is no feature


def load(path, rows=30_000, test=10_000, seed=0):
    """Features and labels, training and test: [N, f] float32 and [N, 20] int64.

    The tasks are the 20 categorical columns of largest entropy once all but their four commonest
    values are one class; the features are the other columns.
    """
    with gzip.open(path, "rt") as file:
        table = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    chosen = np.random.default_rng(seed).permutation(len(table))[:rows]
    columns = list(zip(*(table[i] for i in chosen), strict=True))
    codes = {
        c: _codes(columns[c], CLASSES)
        for c in range(len(columns))
        if c not in NUMBERS and c != WEIGHT
    }
    targets = sorted(sorted(codes, key=lambda c: -_entropy(codes[c]))[:TASKS])
    numbers = np.array([columns[c] for c in NUMBERS], dtype=np.float64).T
    numbers = np.log1p(numbers)
    numbers = (numbers - numbers.mean(axis=0)) / numbers.std(axis=0)
    rest = [np.eye(12)[_codes(columns[c], 12)] for c in codes if c not in targets]
    x = torch.tensor(np.concatenate([numbers, *rest], axis=1), dtype=torch.float32)
    y = torch.tensor(np.stack([codes[c] for c in targets], axis=1))
    return x[test:], y[test:], x[:test], y[:test]


def _codes(column, classes):
    common = [value for value, _ in Counter(column).most_common(classes - 1)]
    place = {value: index for index, value in enumerate(common)}
    return np.array([place.get(value, len(common)) for value in column])


def _entropy(codes):
    shares = np.bincount(codes) / len(codes)
    shares = shares[shares > 0]
    return -(shares * np.log(shares)).sum()
