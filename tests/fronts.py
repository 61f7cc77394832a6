"""Small fronts for the tests."""

from pyfront.front.front import Front, Solution


def solution(*train, test=None, **keywords):
    keywords = {"method": "EPO", "test_losses": test} | keywords
    return Solution(train_losses=train, **keywords)


def front_of(points):
    return Front(solution(*point, test=point) for point in points)
