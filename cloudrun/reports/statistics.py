"""How sure a comparison can be: medians, their standard errors, ratios of them. No chance in it.

All of it is done on logarithms, since speeds differ by factors. The method and its
sources are in docs/compare.md; benchmarks and tests hold it to its promises.
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

# So often an interval holds the truth, and an equal pair is called equal.
LEVEL = 0.95
# A run's samples depend on their neighbours. Its blocks of neighbours hardly do.
MOST_BLOCKS, _SAMPLES_A_BLOCK = 10, 4
# So few runs do not know how much they differ, if others know it better.
_FEW_RUNS = 2
# Beyond these a logarithm, or a ratio of two numbers, is none.
SMALLEST, LARGEST = 1e-18, 1e18


class Estimate(NamedTuple):
    """A median on the scale of logarithms, and how sure it is.

    `error` is its standard error, which has `freedom` degrees of freedom; 0 of them: nothing
    is known of it. `spread` is the standard deviation from run to run; None for one run.
    """

    log: float
    error: float = 0.0
    freedom: float = 0.0
    spread: float | None = None


class Range(NamedTuple):
    """A number and the ends of its interval; both None where nothing is known of them."""

    value: float
    low: float | None
    high: float | None


def of_runs(medians: Sequence[float]) -> Estimate:
    """Estimate what several runs have in common; each counts as one, however long it was.

    Args:
        medians: Of two runs or more, each from `SMALLEST` to `LARGEST`, in any unit.
    """
    logs = [math.log(median) for median in medians]
    middle, mean, freedom = statistics.median(logs), statistics.fmean(logs), len(logs) - 1
    spread = math.sqrt(sum((log - mean) ** 2 for log in logs) / freedom)
    return Estimate(middle, median_error(logs), freedom, spread)


def of_one_run(median: float, samples: Sequence[float]) -> Estimate:
    """Estimate what one run says of itself. Of other runs it says nothing.

    Args:
        median: Of the run, from `SMALLEST` to `LARGEST`.
        samples: In the order of time. Too few of them, or one that is zero: no error is known.
    """
    count = min(MOST_BLOCKS, max(2, len(samples) // _SAMPLES_A_BLOCK))
    if len(samples) < count or min(samples) < SMALLEST:
        return Estimate(math.log(median))
    size = len(samples) / count
    cuts = [round(size * number) for number in range(count + 1)]
    blocks = [samples[start:end] for start, end in itertools.pairwise(cuts)]
    logs = [math.log(statistics.median(block)) for block in blocks]
    return Estimate(math.log(median), median_error(logs), count - 1)


def interval(estimate: Estimate) -> Range:
    """The median with its confidence interval, no longer as a logarithm."""
    return _range(estimate.log, estimate.error, estimate.freedom)


def ratio(one: Estimate, other: Estimate) -> Range:
    """How many times `other` `one` is, with its confidence interval."""
    return _range(one.log - other.log, *_error_of_difference(one, other))


def _error_of_difference(one: Estimate, other: Estimate) -> tuple[float, float]:
    """The standard error of a difference, and its degrees of freedom (Welch's)."""
    few, many = sorted((one, other), key=_runs)
    if _runs(few) < _runs(many) and _runs(few) <= _FEW_RUNS:
        # They may lie as far from their kind's middle as the others do from theirs.
        error = (many.spread or 0.0) / math.sqrt(_runs(few))
        return math.hypot(many.error, error), many.freedom
    if not (one.freedom and other.freedom):
        return 0.0, 0.0
    total = math.hypot(one.error, other.error)
    if total == 0:
        return 0.0, one.freedom + other.freedom
    # Shares first: the fourth power of a small error is no number.
    shares = (one.error / total) ** 2, (other.error / total) ** 2
    return total, 1 / (shares[0] ** 2 / one.freedom + shares[1] ** 2 / other.freedom)


def _runs(estimate: Estimate) -> int:
    return 1 if estimate.spread is None else round(estimate.freedom) + 1


def _range(log: float, error: float, freedom: float) -> Range:
    if not freedom:
        return Range(_exp(log), None, None)
    # Three digits are enough, and are looked up again and again.
    reach = student_quantile(float(f"{freedom:.3g}")) * error
    return Range(_exp(log), _exp(log - reach), _exp(log + reach))


def _exp(log: float) -> float:
    # Beyond, the floating point itself ends.
    return math.exp(max(-600.0, min(600.0, log)))


def median_error(values: Sequence[float]) -> float:
    """The standard error of a median: that of its bootstrap, without resampling.

    Draw as many values from these, with repetition, and take their median, for ever:
    how often it is which of them is known (Maritz and Jarrett, Journal of the American
    Statistical Association 73, 1978). Two or more values, in any order.
    """
    ordered = sorted(values)
    first, weights = _weights(len(ordered))
    # Numbers near zero, so that nothing is lost in their squares.
    offsets = [value - ordered[first] for value in ordered[first : first + len(weights)]]
    mean = sum(weight * offset for weight, offset in zip(weights, offsets, strict=True))
    variance = sum(
        weight * (offset - mean) ** 2 for weight, offset in zip(weights, offsets, strict=True)
    )
    return math.sqrt(variance)


@functools.lru_cache(maxsize=256)
def _weights(count: int) -> tuple[int, tuple[float, ...]]:
    """How often a resampled median is each of `count` ordered values, from the first that counts.

    Eight standard deviations from the middle there is nothing any more.
    """
    reach = math.ceil(4 * math.sqrt(count)) + 1
    first, last = max(0, count // 2 - reach), min(count, count // 2 + reach)
    half = (count + 1) / 2
    cuts = [beta(half, half, place / count) for place in range(first, last + 1)]
    return first, tuple(above - below for below, above in itertools.pairwise(cuts))


@functools.lru_cache(maxsize=4096)
def student_quantile(freedom: float) -> float:
    """How many standard errors to each side hold `LEVEL` of Student's t distribution.

    Args:
        freedom: Degrees of freedom, from 1 on, not necessarily whole.
    """
    low, high = 0.0, 100.0
    for _ in range(45):
        middle = (low + high) / 2
        outside = beta(freedom / 2, 0.5, freedom / (freedom + middle**2))
        low, high = (middle, high) if outside > 1 - LEVEL else (low, middle)
    return high


def beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta(b, a, 1 - x)
    log = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    factor = math.exp(log + a * math.log(x) + b * math.log1p(-x)) / a
    return factor * _fraction(a, b, x)


def _fraction(a: float, b: float, x: float) -> float:
    """1/(1 + d1/(1 + d2/(1 + ...))), from its front (Lentz's method)."""
    value, below, above = 1.0, 0.0, 1.0
    for number in range(10_000):
        m, odd = divmod(number, 2)
        if odd:
            part = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            part = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)) if m else 1.0
        below = 1 / _nonzero(1 + part * below)
        above = _nonzero(1 + part / above)
        value *= below * above
        if abs(below * above - 1) < 1e-13:
            break
    return value - 1


def _nonzero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300
