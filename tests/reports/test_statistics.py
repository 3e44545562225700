"""The statistics against scipy, and against data whose truth is known because we made them."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Callable

import pytest
import scipy.special
import scipy.stats

from cloudrun.reports import statistics as ours
from cloudrun.reports.statistics import Estimate, of_one_run, of_runs, ratio


@pytest.mark.parametrize("freedom", [1, 1.37, 2, 3.3, 9, 48.6, 5000])
def test_students_quantile_is_scipys(freedom: float) -> None:
    assert ours.student_quantile(freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom))


@pytest.mark.parametrize("a", [0.5, 1, 1.5, 24.5, 250, 5000.5])
@pytest.mark.parametrize("x", [0, 1e-9, 0.2, 0.4999, 0.5, 0.53, 0.999999, 1])
def test_the_beta_function_is_scipys(a: float, x: float) -> None:
    for b in (0.5, a):
        expected = scipy.special.betainc(a, b, x)
        assert ours.beta(a, b, x) == pytest.approx(expected, rel=1e-9, abs=1e-13)


@pytest.mark.parametrize("values", [[0.1, 0.5, 0.2], [3.0, 1.0, 1.5, 9.0, 1.2]])
def test_the_error_of_a_median_is_that_of_all_resamples(values: list[float]) -> None:
    medians = [statistics.median(each) for each in itertools.product(values, repeat=len(values))]
    assert ours.median_error(values) == pytest.approx(statistics.pstdev(medians))


@pytest.mark.parametrize("count", [9, 41, 500])
def test_the_error_of_a_median_is_that_of_scipys_bootstrap(count: int) -> None:
    rng = random.Random(count)
    values = [rng.expovariate(1) for _ in range(count)]
    theirs = scipy.stats.bootstrap(
        (values,), statistics_median, n_resamples=4000, method="basic", rng=1
    )
    assert ours.median_error(values) == pytest.approx(theirs.standard_error, rel=0.1)


def statistics_median(values: list[float], axis: int) -> object:
    import numpy

    return numpy.median(values, axis=axis)


def test_two_means_of_different_certainty_are_compared_as_welch_does() -> None:
    rng = random.Random(5)
    for _ in range(50):
        counts = rng.randint(3, 9), rng.randint(3, 9)
        one, other = (
            Estimate(rng.gauss(0, 0.02), rng.uniform(0.001, 0.02), count - 1, 1.0)
            for count in counts
        )
        theirs = scipy.stats.ttest_ind_from_stats(
            one.log, one.error * math.sqrt(counts[0]), counts[0],
            other.log, other.error * math.sqrt(counts[1]), counts[1],
            equal_var=False,
        )  # fmt: skip
        assert excludes_one(one, other) == (theirs.pvalue < 0.05)


def excludes_one(one: Estimate, other: Estimate) -> bool:
    found = ratio(one, other)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high
    return not found.low <= 1 <= found.high


def spread(rng: random.Random) -> float:
    """A run's median, where equal machines differ by 2%."""
    return 50 * math.exp(rng.gauss(0, 0.02))


def skewed(rng: random.Random) -> float:
    """The same, where some are held back and none is helped."""
    return 50 * math.exp(-rng.expovariate(50))


def runs(count: int, draw: Callable[[random.Random], float], rng: random.Random) -> Estimate:
    medians = [draw(rng) for _ in range(count)]
    return of_runs(medians) if count > 1 else of_one_run(medians[0], medians * 20)


@pytest.mark.parametrize("draw", [spread, skewed])
@pytest.mark.parametrize("counts", [(1, 4), (2, 2), (2, 10), (3, 3), (3, 10), (10, 10)])
def test_of_equal_machines_about_one_in_twenty_is_called_different(
    counts: tuple[int, int], draw: Callable[[random.Random], float]
) -> None:
    rng = random.Random(11)
    trials = 500
    wrong = sum(
        excludes_one(runs(counts[0], draw, rng), runs(counts[1], draw, rng)) for _ in range(trials)
    )
    assert wrong / trials <= (0.07 if draw is spread else 0.1)


def samples(count: int, dependence: float, rng: random.Random) -> list[float]:
    """Samples of which each is like the one before, as a clock that wanders makes them."""
    found, log = [], rng.gauss(0, 1)
    for _ in range(count):
        found.append(50 * math.exp(0.01 * log))
        log = dependence * log + math.sqrt(1 - dependence**2) * rng.gauss(0, 1)
    return found


def one_run(count: int, dependence: float, rng: random.Random) -> Estimate:
    found = samples(count, dependence, rng)
    return of_one_run(statistics.median(found), found)


@pytest.mark.parametrize(
    ("count", "dependence"), [(5, 0.0), (20, 0.0), (20, 0.5), (100, 0.5), (300, 0.8), (500, 0.9)]
)
def test_samples_that_depend_on_their_neighbours_are_not_taken_for_more_than_they_are(
    count: int, dependence: float
) -> None:
    rng = random.Random(7)
    trials = 400
    wrong = sum(
        excludes_one(one_run(count, dependence, rng), one_run(count, dependence, rng))
        for _ in range(trials)
    )
    assert wrong / trials <= 0.075


def test_a_real_difference_is_found() -> None:
    rng = random.Random(2)

    def slower(rng: random.Random) -> float:
        return 0.9 * spread(rng)

    for counts in ((1, 10), (4, 4), (10, 10)):
        found = [ratio(runs(counts[0], slower, rng), runs(counts[1], spread, rng)).high or 2
                 for _ in range(200)]  # fmt: skip
        assert sum(high < 1 for high in found) > 160
    alone = [ratio(one_run(100, 0.5, rng), one_run(100, 0.5, rng)._replace(log=math.log(51)))
             for _ in range(100)]  # fmt: skip
    assert sum((each.high or 2) < 1 for each in alone) > 95


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = random.Random(3)
    for count in (3, 10):
        found = [ours.interval(runs(count, spread, rng)) for _ in range(500)]
        held = sum((each.low or 51) <= 50 <= (each.high or 49) for each in found)
        assert 460 <= held <= 498


def test_numbers_at_their_ends_stay_numbers() -> None:
    far = of_runs([ours.SMALLEST, ours.LARGEST])
    for other in (far, of_runs([ours.LARGEST] * 3), of_one_run(ours.SMALLEST, [1.0, 2.0])):
        found = ratio(far, other)
        assert all(math.isfinite(end or 0.0) for end in found)
    assert ours.interval(of_runs([2.0, 2.0])) == pytest.approx((2, 2, 2))
    assert ratio(of_runs([2.0, 2.0]), of_runs([1.0, 1.0])) == pytest.approx((2, 2, 2))


@pytest.mark.parametrize("samples", [[], [5.0], [5.0, 0.0, 5.0]])
def test_with_too_few_samples_nothing_is_known_of_the_error(samples: list[float]) -> None:
    assert ours.interval(of_one_run(5.0, samples))[1:] == (None, None)
    assert ratio(of_one_run(5.0, samples), of_one_run(5.0, [5.0] * 20))[1:] == (None, None)


def test_no_chance_is_in_it() -> None:
    rng = random.Random(1)
    found = samples(100, 0.5, rng)
    assert of_one_run(50.0, found) == of_one_run(50.0, found)
